//! Access-token claims: build (server) and check (resource server) side by side (RFC 9068 §2, §4; RFC 8705 §3.1).

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::binding::{Confirmation, ConfirmationFault};
use crate::claims::{self, Date};
use crate::json::JsonFault;
use crate::jws::{FaultKind, JwsFault, Parsed, media_type_is};
use crate::scope::Scope;
use crate::time::Timestamp;

/// The `typ` of an access token (RFC 9068 §2.1).
pub const TYP: &str = "at+jwt";

/// How long after its `exp` somebody may still accept a token: the most that is ever granted for clocks that differ.
pub const LATEST_ACCEPTANCE: Duration = claims::MOST_TOLERATED;

/// What an access token says (RFC 9068 §2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessToken {
    /// The authorization server that made it.
    pub iss: String,
    /// Whom it is about; for `client_credentials` the client.
    pub sub: String,
    /// The client it was given to.
    pub client_id: String,
    /// The resources it is for; at least one.
    pub aud: Vec<String>,
    /// What it allows.
    pub scope: Scope,
    /// When it was made.
    pub iat: Timestamp,
    /// When it is over.
    pub exp: Timestamp,
    /// Its identifier.
    pub jti: String,
    /// The certificate it is bound to.
    pub cnf: Option<Confirmation>,
}

impl AccessToken {
    /// The claims as they are signed: `aud` is a string when it is one, an empty scope is left out, dates are whole
    /// seconds.
    #[must_use]
    pub fn to_claims(&self) -> impl Serialize + '_ {
        Claims {
            iss: &self.iss,
            sub: &self.sub,
            client_id: &self.client_id,
            aud: match self.aud.as_slice() {
                [one] => Audience::One(one),
                several => Audience::Several(several),
            },
            scope: (!self.scope.is_empty()).then_some(&self.scope),
            iat: self.iat.unix(),
            exp: self.exp.unix(),
            jti: &self.jti,
            cnf: self.cnf,
        }
    }

    /// Whether it is over at `now` for somebody whose clock may be off by this much (RFC 9068 §4).
    #[must_use]
    pub fn is_expired(&self, clock_skew: Duration, now: Timestamp) -> bool {
        !claims::is_before_expiry(now, self.exp, clock_skew)
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    client_id: &'a str,
    aud: Audience<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a Scope>,
    iat: i64,
    exp: i64,
    jti: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cnf: Option<Confirmation>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Audience<'a> {
    One(&'a str),
    Several(&'a [String]),
}

/// What a resource server expects of an access token.
#[derive(Clone, Copy, Debug)]
pub struct Expect<'a> {
    /// The issuer whose keys are trusted.
    pub issuer: &'a str,
    /// The name of this resource.
    pub audience: &'a str,
    /// How far clocks may differ.
    pub clock_skew: Duration,
}

/// Why an access token is not good here. All of them are `invalid_token` to the peer (RFC 6750 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// `aud` is missing, or neither a text nor an array of texts.
    #[error("aud is neither a text nor an array of texts (RFC 7519 §4.1.3)")]
    AudienceMalformed,
    /// `aud` does not name this resource, to the letter.
    #[error("aud does not name this resource (RFC 9068 §4)")]
    AudienceWrong,
    /// The claims are not one strict JSON object.
    #[error("claims: {0}")]
    Claims(JsonFault),
    /// `client_id` is missing or not a text.
    #[error("client_id is missing (RFC 9068 §2.2)")]
    ClientMissing,
    /// `cnf` cannot be honoured.
    #[error("{0}")]
    Confirmation(#[from] ConfirmationFault),
    /// `exp`, `nbf` or `iat` is not a number of seconds that makes sense.
    #[error("exp, nbf or iat is not a NumericDate (RFC 7519 §2)")]
    DateMalformed,
    /// `exp` has passed.
    #[error("the token has expired (RFC 9068 §4)")]
    Expired,
    /// There is no `exp`.
    #[error("exp is missing (RFC 9068 §2.2)")]
    ExpiryMissing,
    /// There is no `iat`.
    #[error("iat is missing (RFC 9068 §2.2)")]
    IssuedAtMissing,
    /// `iat` lies ahead by more than clocks differ.
    #[error("iat lies in the future")]
    IssuedInFuture,
    /// `iss` is not the issuer that is trusted here, to the letter.
    #[error("iss is not the trusted issuer (RFC 9068 §4)")]
    IssuerWrong,
    /// `jti` is missing or not a text.
    #[error("jti is missing (RFC 9068 §2.2)")]
    JtiMissing,
    /// It is not a signature that holds.
    #[error("{0}")]
    Jws(#[from] JwsFault),
    /// `nbf` lies ahead by more than clocks differ.
    #[error("nbf lies in the future (RFC 7519 §4.1.5)")]
    NotYetValid,
    /// `scope` is not a text by the grammar.
    #[error("scope is malformed (RFC 6749 §3.3)")]
    ScopeMalformed,
    /// `sub` is missing or not a text.
    #[error("sub is missing (RFC 9068 §2.2)")]
    SubjectMissing,
    /// `typ` is not `at+jwt`.
    #[error("typ is not at+jwt (RFC 9068 §4)")]
    TypWrong,
}

impl TokenFault {
    /// The stable name for audit, metrics and `certbind explain`.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::AudienceMalformed | Self::AudienceWrong => "token_audience",
            Self::Claims(_) | Self::DateMalformed => "token_malformed",
            Self::ClientMissing
            | Self::ExpiryMissing
            | Self::IssuedAtMissing
            | Self::JtiMissing
            | Self::ScopeMalformed
            | Self::SubjectMissing => "token_claims",
            Self::Confirmation(_) => "confirmation_unknown",
            Self::Expired => "token_expired",
            Self::IssuedInFuture | Self::NotYetValid => "token_not_yet_valid",
            Self::IssuerWrong => "token_issuer",
            Self::Jws(fault) => match fault.kind() {
                FaultKind::Algorithm => "alg_not_allowed",
                FaultKind::Key => "key_unknown",
                FaultKind::Malformed => "token_malformed",
                FaultKind::Signature => "token_signature",
            },
            Self::TypWrong => "token_type",
        }
    }
}

/// Checks every claim of an access token (RFC 9068 §4). The signature is checked before this, with the keys of
/// `expect.issuer`; the binding after it, by [`crate::binding::check`].
///
/// # Errors
/// [`TokenFault`]; never [`TokenFault::Jws`].
pub fn check(parsed: &Parsed<'_>, expect: &Expect<'_>, now: Timestamp) -> Result<AccessToken, TokenFault> {
    let names_this_resource = |aud: &[String]| aud.iter().any(|named| named == expect.audience);
    check_claims(parsed, expect.issuer, expect.clock_skew, now, names_this_resource)
}

/// The same for whoever issued the token and is asked about it: whatever resources it is for. Never for a resource
/// server, which would take the tokens of all others.
///
/// # Errors
/// As [`check`].
pub fn check_own(
    parsed: &Parsed<'_>,
    issuer: &str,
    clock_skew: Duration,
    now: Timestamp,
) -> Result<AccessToken, TokenFault> {
    check_claims(parsed, issuer, clock_skew, now, |_| true)
}

fn check_claims(
    parsed: &Parsed<'_>,
    issuer: &str,
    clock_skew: Duration,
    now: Timestamp,
    is_for: impl FnOnce(&[String]) -> bool,
) -> Result<AccessToken, TokenFault> {
    if !parsed.header.typ.as_deref().is_some_and(|typ| media_type_is(typ, TYP)) {
        return Err(TokenFault::TypWrong);
    }
    let claims = parsed.claims().map_err(TokenFault::Claims)?;
    if claims::text(claims, "iss") != Some(issuer) {
        return Err(TokenFault::IssuerWrong);
    }
    let aud = audiences(claims.get("aud"))?;
    if !is_for(&aud) {
        return Err(TokenFault::AudienceWrong);
    }
    let (iat, exp) = check_dates(claims, clock_skew, now)?;
    let required = |name, fault| claims::text(claims, name).map(str::to_owned).ok_or(fault);
    Ok(AccessToken {
        iss: issuer.to_owned(),
        sub: required("sub", TokenFault::SubjectMissing)?,
        client_id: required("client_id", TokenFault::ClientMissing)?,
        aud,
        scope: scope(claims.get("scope"))?,
        iat,
        exp,
        jti: required("jti", TokenFault::JtiMissing)?,
        cnf: claims.get("cnf").map(Confirmation::parse).transpose()?,
    })
}

fn audiences(aud: Option<&Value>) -> Result<Vec<String>, TokenFault> {
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or(TokenFault::AudienceMalformed);
    match aud {
        Some(Value::Array(list)) => list.iter().map(text).collect(),
        Some(one) => Ok(vec![text(one)?]),
        None => Err(TokenFault::AudienceMalformed),
    }
}

fn check_dates(
    claims: &Map<String, Value>,
    clock_skew: Duration,
    now: Timestamp,
) -> Result<(Timestamp, Timestamp), TokenFault> {
    let date = |name| match claims::date(claims, name) {
        Date::Absent => Ok(None),
        Date::Malformed => Err(TokenFault::DateMalformed),
        Date::At(date) => Ok(Some(date)),
    };
    let exp = date("exp")?.ok_or(TokenFault::ExpiryMissing)?;
    if !claims::is_before_expiry(now, exp, clock_skew) {
        return Err(TokenFault::Expired);
    }
    if date("nbf")?.is_some_and(|nbf| !claims::is_not_ahead(now, nbf, clock_skew)) {
        return Err(TokenFault::NotYetValid);
    }
    let iat = date("iat")?.ok_or(TokenFault::IssuedAtMissing)?;
    if !claims::is_not_ahead(now, iat, clock_skew) {
        return Err(TokenFault::IssuedInFuture);
    }
    Ok((iat, exp))
}

fn scope(value: Option<&Value>) -> Result<Scope, TokenFault> {
    match value {
        None => Ok(Scope::default()),
        Some(Value::String(text)) => text.parse().map_err(|_| TokenFault::ScopeMalformed),
        Some(_) => Err(TokenFault::ScopeMalformed),
    }
}
