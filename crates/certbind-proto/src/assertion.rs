//! Client assertions: build (for clients) and check (for servers) side by side (RFC 7521 §4.2; RFC 7523 §2.2, §3;
//! RFC 10070; OpenID Connect Core §9).
//!
//! [`check`] looks at claims only. The order at a server: these checks, then the signature, and last the `jti`, which
//! is used up by being looked at.

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::claims::{self, Date};
use crate::json::JsonFault;
use crate::jws::{FaultKind, JwsFault, Parsed, SignFault, Signer, media_type_is};
use crate::time::Timestamp;

/// The `client_assertion_type` of a JWT (RFC 7523 §2.2).
pub const CLIENT_ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The `typ` of a client assertion (RFC 10070).
pub const TYP: &str = "client-authentication+jwt";
/// The longest life that an assertion of ours is given.
pub const MAX_BUILT_LIFETIME: Duration = Duration::from_secs(60);
/// The longest `jti` that is remembered, in bytes.
pub const MAX_JTI: usize = 256;

/// What a client says about itself. Sign it with a [`Signer`] made for [`TYP`].
#[derive(Clone, Copy, Debug)]
pub struct Build<'a> {
    /// The client: `iss` and `sub`.
    pub client_id: &'a str,
    /// The authorization server: `aud`, as a JSON string. The issuer the client was configured with, never an
    /// address out of somebody's metadata.
    pub issuer: &'a str,
    /// Unguessable, and fresh for each try.
    pub jti: &'a str,
    /// `iat`.
    pub now: Timestamp,
    /// `exp` minus `iat`, cut to [`MAX_BUILT_LIFETIME`].
    pub lifetime: Duration,
}

/// Signs an assertion (RFC 7523 §3): no `nbf`, which a slow clock at the server would trip over.
///
/// # Errors
/// [`SignFault`].
pub fn build(signer: &Signer, build: &Build<'_>) -> Result<String, SignFault> {
    #[derive(Serialize)]
    struct Claims<'a> {
        iss: &'a str,
        sub: &'a str,
        aud: &'a str,
        iat: i64,
        exp: i64,
        jti: &'a str,
    }
    signer.sign_claims(&Claims {
        iss: build.client_id,
        sub: build.client_id,
        aud: build.issuer,
        iat: build.now.unix(),
        exp: build.now.plus(build.lifetime.min(MAX_BUILT_LIFETIME)).unix(),
        jti: build.jti,
    })
}

/// The client that an assertion claims to come from: its `sub`. It helps to find the registration and proves nothing.
#[must_use]
pub fn claimed_client(parsed: &Parsed<'_>) -> Option<String> {
    claims::text(parsed.claims().ok()?, "sub").map(str::to_owned)
}

/// In which form `aud` may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AudienceRule {
    /// A JSON string only (FAPI 2.0 Security Profile §5.3.2.1).
    StringOnly,
    /// A JSON string or an array of one (RFC 10070).
    StringOrSingleton,
}

/// What the server expects of an assertion.
#[derive(Clone, Copy, Debug)]
pub struct Expect<'a> {
    /// The client whose registration was found.
    pub client_id: &'a str,
    /// This server's issuer identifier.
    pub issuer: &'a str,
    /// In which form `aud` may stand.
    pub audience: AudienceRule,
    /// Further values that `aud` may have, for a client that is marked `legacy_audience`; else empty.
    pub legacy_audiences: &'a [String],
    /// How far `exp` may lie ahead, not counting the skew.
    pub max_lifetime: Duration,
    /// How far clocks may differ.
    pub clock_skew: Duration,
}

/// What is left to do with an assertion whose claims are good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Used once for each client (OpenID Connect Core §9).
    pub jti: String,
    /// Its `iat`, if it has one.
    pub issued: Option<Timestamp>,
    /// Its `exp`.
    pub expires: Timestamp,
    /// How long the `jti` must be remembered: as long as this very assertion would pass.
    pub keep_until: Timestamp,
}

/// Why an assertion does not authenticate its client. All of them are `invalid_client` to the peer (RFC 7523 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssertionFault {
    /// `aud` is not in the permitted form, or names more than one audience.
    #[error("aud is not one audience in the permitted form (RFC 10070)")]
    AudienceForm,
    /// There is no `aud`.
    #[error("aud is missing (RFC 7523 §3)")]
    AudienceMissing,
    /// `aud` is not this server's issuer identifier, to the letter.
    #[error("aud is not the issuer identifier of this server (RFC 10070)")]
    AudienceWrong,
    /// The claims are not one strict JSON object.
    #[error("claims: {0}")]
    Claims(JsonFault),
    /// `exp`, `nbf` or `iat` is not a number of seconds that makes sense.
    #[error("exp, nbf or iat is not a NumericDate (RFC 7519 §2)")]
    DateMalformed,
    /// `exp` has passed.
    #[error("the assertion has expired (RFC 7523 §3)")]
    Expired,
    /// There is no `exp`.
    #[error("exp is missing (RFC 7523 §3)")]
    ExpiryMissing,
    /// `exp` lies further ahead than an assertion may live.
    #[error("exp lies too far ahead (RFC 7523 §3)")]
    ExpiryTooFar,
    /// `iat` lies ahead by more than clocks differ.
    #[error("iat lies in the future (RFC 7523 §3)")]
    IssuedInFuture,
    /// `iss` is missing or not the client.
    #[error("iss is not the client (RFC 7523 §3)")]
    IssuerWrong,
    /// There is no `jti` that is a text.
    #[error("jti is missing or not a text (OpenID Connect Core §9)")]
    JtiMissing,
    /// `jti` is longer than [`MAX_JTI`].
    #[error("jti is longer than 256 bytes")]
    JtiTooLong,
    /// It is not a signature that holds.
    #[error("{0}")]
    Jws(#[from] JwsFault),
    /// `nbf` lies ahead by more than clocks differ.
    #[error("nbf lies in the future (RFC 7523 §3)")]
    NotYetValid,
    /// `sub` is missing or not the client.
    #[error("sub is not the client (RFC 7523 §3)")]
    SubjectWrong,
    /// `typ` says that this is another kind of token.
    #[error("typ is that of another kind of token (RFC 8725 §3.11, §3.12)")]
    TypForeign,
}

impl AssertionFault {
    /// The stable name for audit, metrics and `certbind explain`.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::AudienceForm | Self::AudienceMissing | Self::AudienceWrong => "assertion_audience",
            Self::Claims(_) | Self::DateMalformed | Self::ExpiryMissing => "assertion_malformed",
            Self::Expired => "assertion_expired",
            Self::ExpiryTooFar => "assertion_too_long",
            Self::IssuedInFuture | Self::NotYetValid => "assertion_not_yet_valid",
            Self::IssuerWrong => "assertion_issuer",
            Self::JtiMissing | Self::JtiTooLong => "assertion_jti",
            Self::Jws(fault) => match fault.kind() {
                FaultKind::Algorithm => "alg_not_allowed",
                FaultKind::Key => "key_unknown",
                FaultKind::Malformed => "assertion_malformed",
                FaultKind::Signature => "assertion_signature",
            },
            Self::SubjectWrong => "assertion_subject",
            Self::TypForeign => "assertion_typ",
        }
    }
}

/// Checks every claim of an assertion (RFC 7523 §3). The signature is checked elsewhere, after this.
///
/// # Errors
/// [`AssertionFault`]; never [`AssertionFault::Jws`].
pub fn check(parsed: &Parsed<'_>, expect: &Expect<'_>, now: Timestamp) -> Result<Accepted, AssertionFault> {
    check_typ(parsed.header.typ.as_deref())?;
    let claims = parsed.claims().map_err(AssertionFault::Claims)?;
    if claims::text(claims, "sub") != Some(expect.client_id) {
        return Err(AssertionFault::SubjectWrong);
    }
    if claims::text(claims, "iss") != Some(expect.client_id) {
        return Err(AssertionFault::IssuerWrong);
    }
    check_audience(claims.get("aud"), expect)?;
    let expires = check_dates(claims, expect, now)?;
    let keep_until = expires.plus(claims::tolerated(expect.clock_skew));
    let issued = match claims::date(claims, "iat") {
        Date::At(issued) => Some(issued),
        Date::Absent | Date::Malformed => None,
    };
    Ok(Accepted { jti: jti(claims)?.to_owned(), issued, expires, keep_until })
}

/// Kinds of JWT exclude each other (RFC 8725 §3.12). An absent or generic `typ` is let through: the claims of an
/// assertion name the client as their own issuer, which no other kind of token here does.
fn check_typ(typ: Option<&str>) -> Result<(), AssertionFault> {
    match typ {
        Some(typ) if !media_type_is(typ, TYP) && !media_type_is(typ, "jwt") => Err(AssertionFault::TypForeign),
        _ => Ok(()),
    }
}

/// One audience and no second one, compared to the letter: a server that accepts other values can be handed what was
/// made for another server (CVE-2025-27370, CVE-2025-27371).
fn check_audience(aud: Option<&Value>, expect: &Expect<'_>) -> Result<(), AssertionFault> {
    let named = match (aud.ok_or(AssertionFault::AudienceMissing)?, expect.audience) {
        (Value::String(named), _) => named,
        (Value::Array(list), AudienceRule::StringOrSingleton) => match list.as_slice() {
            [Value::String(named)] => named,
            _ => return Err(AssertionFault::AudienceForm),
        },
        _ => return Err(AssertionFault::AudienceForm),
    };
    if named != expect.issuer && !expect.legacy_audiences.contains(named) {
        return Err(AssertionFault::AudienceWrong);
    }
    Ok(())
}

fn check_dates(claims: &Map<String, Value>, expect: &Expect<'_>, now: Timestamp) -> Result<Timestamp, AssertionFault> {
    let expires = match claims::date(claims, "exp") {
        Date::Absent => return Err(AssertionFault::ExpiryMissing),
        Date::Malformed => return Err(AssertionFault::DateMalformed),
        Date::At(expires) => expires,
    };
    if !claims::is_before_expiry(now, expires, expect.clock_skew) {
        return Err(AssertionFault::Expired);
    }
    if expires > now.plus(expect.max_lifetime).plus(claims::tolerated(expect.clock_skew)) {
        return Err(AssertionFault::ExpiryTooFar);
    }
    for (name, fault) in [("nbf", AssertionFault::NotYetValid), ("iat", AssertionFault::IssuedInFuture)] {
        match claims::date(claims, name) {
            Date::Absent => {}
            Date::Malformed => return Err(AssertionFault::DateMalformed),
            Date::At(date) if claims::is_not_ahead(now, date, expect.clock_skew) => {}
            Date::At(_) => return Err(fault),
        }
    }
    Ok(expires)
}

fn jti(claims: &Map<String, Value>) -> Result<&str, AssertionFault> {
    let jti = claims::text(claims, "jti").ok_or(AssertionFault::JtiMissing)?;
    if jti.len() > MAX_JTI {
        return Err(AssertionFault::JtiTooLong);
    }
    Ok(jti)
}
