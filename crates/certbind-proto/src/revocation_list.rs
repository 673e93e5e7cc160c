//! The signed list of what an issuer revoked: written by the server, read by every resource server that polls it.
//!
//! It is a JWT of its own type. Of each revoked thing it has the first 16 octets of a SHA-256 hash: of a token's `jti`, of
//! a certificate (its thumbprint), of a `client_id`. Two things that share 128 bits would both be refused, never both be
//! accepted. `iat` says up to when the list is complete, `exp` how long anybody may rely on it at all.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::{Map, Number, Value};

use crate::access_token::AccessToken;
use crate::claims::{self, Date};
use crate::json::JsonFault;
use crate::jws::{Parsed, media_type_is};
use crate::thumbprint::Thumbprint;
use crate::time::Timestamp;

/// The `typ` of a list.
pub const TYP: &str = "certbind-revocations+jwt";
/// Its media type.
pub const MEDIA_TYPE: &str = "application/certbind-revocations+jwt";
/// The longest list that is read: room for 280,000 entries.
pub const MAX_BYTES: usize = 8 * 1024 * 1024;

/// What stands for a revoked thing in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id([u8; Self::LENGTH]);

impl Id {
    const LENGTH: usize = 16;

    /// From the SHA-256 hash that names a thing.
    #[must_use]
    pub fn of_hash(hash: &[u8; 32]) -> Self {
        let mut id = [0; Self::LENGTH];
        id.copy_from_slice(&hash[..Self::LENGTH]);
        Self(id)
    }

    /// Of a token.
    #[must_use]
    pub fn of_token(jti: &str) -> Self {
        Self::hash(jti)
    }

    /// Of a certificate.
    #[must_use]
    pub fn of_certificate(thumbprint: &Thumbprint) -> Self {
        Self::of_hash(thumbprint.as_bytes())
    }

    /// Of a client.
    #[must_use]
    pub fn of_client(client_id: &str) -> Self {
        Self::hash(client_id)
    }

    fn hash(name: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, name.as_bytes()).as_ref());
        Self::of_hash(&hash)
    }
}

/// What is revoked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    tokens: Vec<Id>,
    certificates: Until,
    clients: Until,
}

/// Up to when tokens of a certificate or of a client are revoked; what was issued later is good.
pub type Until = BTreeMap<Id, Timestamp>;

/// What there is against a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    /// Every token that was bound to its certificate was revoked.
    Certificate,
    /// Every token that its client had was revoked.
    Client,
    /// It was revoked itself.
    Token,
}

impl Entries {
    /// These tokens, and those that these certificates and clients had at a time.
    #[must_use]
    pub fn new(mut tokens: Vec<Id>, certificates: Until, clients: Until) -> Self {
        tokens.sort_unstable();
        tokens.dedup();
        Self { tokens, certificates, clients }
    }

    /// What there is against a token.
    #[must_use]
    pub fn against(&self, token: &AccessToken) -> Option<Listed> {
        if self.tokens.binary_search(&Id::of_token(&token.jti)).is_ok() {
            return Some(Listed::Token);
        }
        let is_before = |until: Option<&Timestamp>| until.is_some_and(|until| token.iat <= *until);
        let certificate = token.cnf.as_ref().map(|cnf| Id::of_certificate(&cnf.x5t_s256));
        if is_before(certificate.and_then(|id| self.certificates.get(&id))) {
            return Some(Listed::Certificate);
        }
        is_before(self.clients.get(&Id::of_client(&token.client_id))).then_some(Listed::Client)
    }

    /// Everything that is in one of two.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let later = |one: &Until, other: &Until| {
            let mut both = one.clone();
            for (id, until) in other {
                let known = both.entry(*id).or_insert(*until);
                *known = (*known).max(*until);
            }
            both
        };
        let tokens = [&*self.tokens, &*other.tokens].concat();
        Self::new(tokens, later(&self.certificates, &other.certificates), later(&self.clients, &other.clients))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.len() + self.certificates.len() + self.clients.len()
    }

    /// Whether nothing is revoked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationList {
    /// Up to when it is complete.
    pub as_of: Timestamp,
    /// From when on nobody may rely on it.
    pub expires: Timestamp,
    /// What is revoked.
    pub entries: Entries,
}

impl RevocationList {
    /// The claims as they are signed. `iat` has milliseconds, so that of two lists of one second the newer one is known
    /// (RFC 7519 §2 permits it).
    #[must_use]
    pub fn to_claims<'a>(&'a self, issuer: &'a str) -> impl Serialize + 'a {
        let named =
            |until: &Until| until.iter().map(|(id, until)| (URL_SAFE_NO_PAD.encode(id.0), until.unix())).collect();
        Claims {
            iss: issuer,
            iat: seconds(self.as_of),
            exp: self.expires.unix(),
            tokens: pack(&self.entries.tokens),
            certificates: named(&self.entries.certificates),
            clients: named(&self.entries.clients),
        }
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    iat: Number,
    exp: i64,
    tokens: String,
    certificates: BTreeMap<String, i64>,
    clients: BTreeMap<String, i64>,
}

/// Ids one after the other, without anything between them: half of what an array of texts would take.
fn pack(ids: &[Id]) -> String {
    let octets: Vec<u8> = ids.iter().flat_map(|id| id.0).collect();
    URL_SAFE_NO_PAD.encode(octets)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds since 1970 fit into 52 bits for longer than dates are taken"
)]
fn seconds(time: Timestamp) -> Number {
    Number::from_f64(time.millis() as f64 / 1000.0).unwrap_or_else(|| time.unix().into())
}

/// Why a list is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListFault {
    /// The claims are not one strict JSON object.
    #[error("claims: {0}")]
    Claims(JsonFault),
    /// `iat` or `exp` is missing or not a number of seconds.
    #[error("iat or exp is not a NumericDate (RFC 7519 §2)")]
    Date,
    /// Its time is over.
    #[error("the list has expired")]
    Expired,
    /// It says that it was made in the future.
    #[error("iat lies in the future")]
    FromFuture,
    /// It is of another issuer.
    #[error("iss is not the trusted issuer")]
    IssuerWrong,
    /// `tokens`, `certificates` or `clients` is missing or not as it should be.
    #[error("tokens, certificates or clients is malformed")]
    Malformed,
    /// It is something else.
    #[error("typ is not certbind-revocations+jwt (RFC 8725 §3.11)")]
    TypWrong,
}

/// Checks a list whose signature holds by a key of `issuer`.
///
/// # Errors
/// [`ListFault`].
pub fn check(
    parsed: &Parsed<'_>,
    issuer: &str,
    clock_skew: Duration,
    now: Timestamp,
) -> Result<RevocationList, ListFault> {
    if !parsed.header.typ.as_deref().is_some_and(|typ| media_type_is(typ, TYP)) {
        return Err(ListFault::TypWrong);
    }
    let claims = parsed.claims().map_err(ListFault::Claims)?;
    if claims::text(claims, "iss") != Some(issuer) {
        return Err(ListFault::IssuerWrong);
    }
    let date = |name| match claims::date(claims, name) {
        Date::At(date) => Ok(date),
        Date::Absent | Date::Malformed => Err(ListFault::Date),
    };
    let (as_of, expires) = (date("iat")?, date("exp")?);
    if !claims::is_not_ahead(now, as_of, clock_skew) {
        return Err(ListFault::FromFuture);
    }
    if !claims::is_before_expiry(now, expires, clock_skew) {
        return Err(ListFault::Expired);
    }
    let tokens = claims.get("tokens").and_then(unpack).ok_or(ListFault::Malformed)?;
    let named = |name| claims.get(name).and_then(Value::as_object).and_then(until).ok_or(ListFault::Malformed);
    Ok(RevocationList { as_of, expires, entries: Entries::new(tokens, named("certificates")?, named("clients")?) })
}

fn unpack(packed: &Value) -> Option<Vec<Id>> {
    let octets = URL_SAFE_NO_PAD.decode(packed.as_str()?).ok()?;
    let ids = octets.chunks_exact(Id::LENGTH);
    if !ids.remainder().is_empty() {
        return None;
    }
    ids.map(|id| id.try_into().ok().map(Id)).collect()
}

fn until(members: &Map<String, Value>) -> Option<Until> {
    let entry = |(id, until): (&String, &Value)| {
        let id = URL_SAFE_NO_PAD.decode(id).ok()?.try_into().ok().map(Id)?;
        // The whole second: a token's own `iat` has no more.
        Some((id, Timestamp::from_unix(until.as_i64()?)))
    };
    members.iter().map(entry).collect()
}
