//! Compact signatures: strict parsing of ours, a closed list of algorithms, sign and verify side by side
//! (RFC 7515 §3.1, §5; RFC 7518 §3; RFC 8725 §3).
//!
//! Every signature of this project is made and checked here. What a token says about its own keys (`jwk`, `jku`,
//! `x5u`, `x5c`) is never read: keys come from the caller (RFC 8725 §3.10).

mod algorithm;
mod ed25519_point;
mod heading;
mod signing_key;
mod verifying_key;

#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

pub use self::algorithm::{Algorithm, Algorithms};
pub use self::heading::{Heading, Unsigned};
pub use self::signing_key::{SignFault, Signer, SigningKey, SigningKeyFault};
pub use self::verifying_key::{KeyFault, KeyType, MAX_RSA_BITS, MAX_RSA_EXPONENT_BITS, MIN_RSA_BITS, VerifyingKey};
use crate::json::{self, JsonFault};

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN: usize = 16 * 1024;
/// The longest encoded header that is decoded, in bytes.
pub const MAX_HEADER: usize = 4 * 1024;
/// The longest key identifier that is compared, in bytes.
pub const MAX_KID: usize = 256;

/// Why a token is not a signature that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwsFault {
    /// The algorithm does not fit the key (RFC 8725 §3.1).
    #[error("the algorithm does not fit the key (RFC 8725 §3.1)")]
    AlgorithmForeign,
    /// `alg` is absent or not a text.
    #[error("alg is missing (RFC 7515 §4.1.1)")]
    AlgorithmMissing,
    /// The algorithm is known, and not allowed here (RFC 8725 §3.1).
    #[error("the algorithm is not allowed here (RFC 8725 §3.1)")]
    AlgorithmNotAllowed,
    /// The algorithm is not one of the closed list: `none`, symmetric, or something else.
    #[error("the algorithm is not one of those done here (RFC 8725 §3.1, §3.2)")]
    AlgorithmUnknown,
    /// `zip` is there: no compressed content is taken.
    #[error("compressed content is not taken (RFC 8725 §3.6)")]
    Compressed,
    /// `crit` is there: no extension is understood.
    #[error("crit names an extension that is not understood (RFC 7515 §4.1.11)")]
    Critical,
    /// The header is not one strict JSON object.
    #[error("header: {0}")]
    Header(JsonFault),
    /// The header is longer than [`MAX_HEADER`].
    #[error("the header is longer than 4 KiB")]
    HeaderTooLong,
    /// `kid` is not a text, empty, longer than [`MAX_KID`], or has control characters.
    #[error("kid is not a short text (RFC 7515 §4.1.4)")]
    KidMalformed,
    /// No key of the set fits the header.
    #[error("no key fits the token's header (RFC 7515 §6)")]
    KeyUnknown,
    /// `cty` says that the payload is a JWT again.
    #[error("a nested JWT is not taken (RFC 7519 §5.2)")]
    Nested,
    /// A part is not base64url without padding, or has a second spelling.
    #[error("a part is not canonical base64url (RFC 7515 §2, RFC 4648 §3.5)")]
    NotBase64url,
    /// There are not exactly three parts: JSON serialization, an encrypted token, or no token at all.
    #[error("not three parts with two dots between them (RFC 7515 §7.1)")]
    NotThreeParts,
    /// The signature does not hold.
    #[error("the signature does not hold (RFC 7515 §5.2)")]
    SignatureWrong,
    /// The token is longer than [`MAX_TOKEN`].
    #[error("the token is longer than 16 KiB, or the document than it may be")]
    TooLong,
    /// `typ` is not a text.
    #[error("typ is not a text (RFC 7515 §4.1.9)")]
    TypMalformed,
    /// `b64` is there: the payload is always encoded.
    #[error("b64 is not taken (RFC 7797 §3)")]
    Unencoded,
}

/// What sort of fault it is, for those who name it to operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The algorithm is not done, not allowed, or not this key's.
    Algorithm,
    /// No key fits.
    Key,
    /// It is not a compact signature as it should be.
    Malformed,
    /// The signature does not hold.
    Signature,
}

impl JwsFault {
    /// What sort of fault it is.
    #[must_use]
    pub const fn kind(&self) -> FaultKind {
        match self {
            Self::AlgorithmForeign | Self::AlgorithmNotAllowed | Self::AlgorithmUnknown => FaultKind::Algorithm,
            Self::KeyUnknown => FaultKind::Key,
            Self::SignatureWrong => FaultKind::Signature,
            Self::AlgorithmMissing
            | Self::Compressed
            | Self::Critical
            | Self::Header(_)
            | Self::HeaderTooLong
            | Self::KidMalformed
            | Self::Nested
            | Self::NotBase64url
            | Self::NotThreeParts
            | Self::TooLong
            | Self::TypMalformed
            | Self::Unencoded => FaultKind::Malformed,
        }
    }
}

/// The part of a JOSE header that decides anything here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The algorithm that the signer says it used. It is compared with what is allowed and what the key can do.
    pub alg: Algorithm,
    /// Which key of the signer's set; a hint, never a path or query.
    pub kid: Option<String>,
    /// The media type of the token, as it was written.
    pub typ: Option<String>,
}

/// A compact signature taken apart and **not yet verified**.
pub struct Parsed<'a> {
    /// The protected header.
    pub header: Header,
    signing_input: &'a str,
    payload: Vec<u8>,
    signature: Vec<u8>,
    claims: OnceLock<Result<Map<String, Value>, JsonFault>>,
}

impl<'a> Parsed<'a> {
    /// Takes `token` apart, strictly. The work is bounded by [`MAX_TOKEN`], whatever `token` is.
    ///
    /// # Errors
    /// [`JwsFault`].
    pub fn parse(token: &'a str) -> Result<Self, JwsFault> {
        Self::parse_document(token, MAX_TOKEN)
    }

    /// The same for a signed document that may be longer than a token, of at most so many bytes. Not for what a peer
    /// presents: the work grows with the length.
    ///
    /// # Errors
    /// [`JwsFault`].
    pub fn parse_document(token: &'a str, max_bytes: usize) -> Result<Self, JwsFault> {
        if token.len() > max_bytes {
            return Err(JwsFault::TooLong);
        }
        let (signing_input, signature) = token.rsplit_once('.').ok_or(JwsFault::NotThreeParts)?;
        let (header, payload) = signing_input.split_once('.').ok_or(JwsFault::NotThreeParts)?;
        if payload.contains('.') {
            return Err(JwsFault::NotThreeParts);
        }
        Ok(Self {
            header: Header::parse(header)?,
            signing_input,
            payload: decode(payload)?,
            signature: decode(signature)?,
            claims: OnceLock::new(),
        })
    }

    /// Checks the signature with this key and the algorithm of the header.
    ///
    /// # Errors
    /// [`JwsFault::AlgorithmForeign`], [`JwsFault::SignatureWrong`].
    pub fn verify(&self, key: &VerifyingKey) -> Result<(), JwsFault> {
        key.verify(self.header.alg, self.signing_input.as_bytes(), &self.signature)
    }

    /// The payload, decoded.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The payload as a claims set (RFC 7519 §7.2), parsed when it is asked for the first time.
    ///
    /// # Errors
    /// [`JsonFault`].
    pub fn claims(&self) -> Result<&Map<String, Value>, JsonFault> {
        self.claims.get_or_init(|| json::parse_object(&self.payload)).as_ref().map_err(|fault| *fault)
    }
}

/// Claims and signature stay out of logs.
impl fmt::Debug for Parsed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parsed").field("header", &self.header).field("payload", &"[redacted]").finish_non_exhaustive()
    }
}

impl Header {
    fn parse(encoded: &str) -> Result<Self, JwsFault> {
        if encoded.len() > MAX_HEADER {
            return Err(JwsFault::HeaderTooLong);
        }
        let mut members = json::parse_object(&decode(encoded)?).map_err(JwsFault::Header)?;
        refuse_extensions(&members)?;
        Ok(Self {
            alg: algorithm(members.get("alg"))?,
            kid: members.remove("kid").map(kid).transpose()?,
            typ: members.remove("typ").map(typ).transpose()?,
        })
    }
}

/// What would change the meaning of the token. Anything else that is not known is ignored (RFC 7515 §4).
fn refuse_extensions(header: &Map<String, Value>) -> Result<(), JwsFault> {
    if header.contains_key("crit") {
        return Err(JwsFault::Critical);
    }
    if header.contains_key("b64") {
        return Err(JwsFault::Unencoded);
    }
    if header.contains_key("zip") {
        return Err(JwsFault::Compressed);
    }
    match header.get("cty") {
        Some(Value::String(cty)) if media_type_is(cty, "jwt") => Err(JwsFault::Nested),
        _ => Ok(()),
    }
}

fn algorithm(alg: Option<&Value>) -> Result<Algorithm, JwsFault> {
    let name = alg.and_then(Value::as_str).ok_or(JwsFault::AlgorithmMissing)?;
    Algorithm::parse(name).ok_or(JwsFault::AlgorithmUnknown)
}

fn kid(value: Value) -> Result<String, JwsFault> {
    match value {
        Value::String(kid) if is_kid(&kid) => Ok(kid),
        _ => Err(JwsFault::KidMalformed),
    }
}

/// Whether a text can name a key: short, and free of control characters that would upset a log.
pub(crate) fn is_kid(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_KID && !text.chars().any(char::is_control)
}

fn typ(value: Value) -> Result<String, JwsFault> {
    match value {
        Value::String(typ) => Ok(typ),
        _ => Err(JwsFault::TypMalformed),
    }
}

/// Compares a `typ` or `cty` with a media type: letter case means nothing, and `application/` may be left out
/// (RFC 7515 §4.1.9).
pub(crate) fn media_type_is(written: &str, media_type: &str) -> bool {
    const PREFIX: &str = "application/";
    let short = match written.get(..PREFIX.len()) {
        Some(prefix) if prefix.eq_ignore_ascii_case(PREFIX) => &written[PREFIX.len()..],
        _ => written,
    };
    short.eq_ignore_ascii_case(media_type)
}

fn decode(part: &str) -> Result<Vec<u8>, JwsFault> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| JwsFault::NotBase64url)
}
