//! Public keys, sets of them, and their thumbprints (RFC 7517; RFC 7518 §6; RFC 7638; RFC 8037 §2).

#[cfg(test)]
mod tests;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::json::{self, JsonFault};
use crate::jws::{self, Algorithm, Algorithms, Header, JwsFault, KeyFault, Parsed, VerifyingKey};
use crate::thumbprint::Thumbprint;

/// The most keys that a set may have.
pub const MAX_KEYS: usize = 32;
/// The most keys that are tried for a token without `kid`.
pub const MAX_CANDIDATES: usize = 8;

/// Members that only private and symmetric keys have (RFC 7518 §6).
const SECRET_MEMBERS: [&str; 8] = ["d", "dp", "dq", "k", "oth", "p", "q", "qi"];

/// Why a key or a set is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwkFault {
    /// `alg` is not one of those done here, or not one for this kind of key.
    #[error("alg is unknown or does not fit the key (RFC 7517 §4.4)")]
    Algorithm,
    /// `x5c` is not an array of certificates in standard base64 of DER.
    #[error("x5c is not an array of certificates (RFC 7517 §4.7)")]
    CertificateMalformed,
    /// The key of `x5c[0]` is another one, or its `x5t#S256` is (RFC 8705 §2.2.2).
    #[error("the certificate of x5c is for another key (RFC 7517 §4.7)")]
    CertificateOther,
    /// `crv` is not P-256, P-384 or Ed25519, or does not belong to `kty`.
    #[error("crv is not P-256, P-384 or Ed25519")]
    CurveUnknown,
    /// The set has no key.
    #[error("the set has no key")]
    Empty,
    /// The document is not strict JSON, or not an object.
    #[error("{0}")]
    Json(JsonFault),
    /// The key itself is not usable.
    #[error("{0}")]
    Key(#[from] KeyFault),
    /// `kid` is not a short text.
    #[error("kid is not a short text (RFC 7517 §4.5)")]
    KidMalformed,
    /// `kty` is not EC, OKP or RSA.
    #[error("kty is not EC, OKP or RSA (RFC 7517 §4.1)")]
    KtyUnknown,
    /// A number of the key is missing, or is not canonical base64url.
    #[error("a member of the key is missing or not base64url (RFC 7518 §6)")]
    MemberMalformed,
    /// There is no array `keys` of objects.
    #[error("no array \"keys\" of objects (RFC 7517 §5.1)")]
    NotASet,
    /// `use` or `key_ops` says that the key is not for verifying signatures.
    #[error("the key is not for verifying signatures (RFC 7517 §4.2, §4.3)")]
    NotForSignatures,
    /// It has a member of a private or symmetric key.
    #[error("a private or symmetric key where a public one belongs (RFC 7517 §9.2)")]
    Secret,
    /// The set has more than [`MAX_KEYS`] keys.
    #[error("more than 32 keys")]
    TooMany,
}

/// One public key for verifying signatures.
#[derive(Clone, Debug)]
pub struct Jwk {
    kid: Option<String>,
    alg: Option<Algorithm>,
    key: VerifyingKey,
    certificate: Option<Vec<u8>>,
}

impl Jwk {
    /// From the members of a JWK, strictly. Members that mean nothing here are ignored (RFC 7517 §4).
    ///
    /// # Errors
    /// [`JwkFault`].
    pub fn parse(members: &Map<String, Value>) -> Result<Self, JwkFault> {
        if SECRET_MEMBERS.iter().any(|name| members.contains_key(*name)) {
            return Err(JwkFault::Secret);
        }
        is_for_signatures(members)?;
        let key = verifying_key(members)?;
        Ok(Self {
            kid: members.get("kid").map(kid).transpose()?,
            alg: members.get("alg").map(|alg| algorithm(alg, &key)).transpose()?,
            certificate: certificate(members, &key)?,
            key,
        })
    }

    /// A key that is to be published as one for `alg` under the name `kid`; nothing when it cannot be used for that.
    #[must_use]
    pub fn published(key: VerifyingKey, alg: Algorithm, kid: &str) -> Option<Self> {
        key.key_type().algorithms().contains(alg).then(|| Self::of(key, alg, kid))
    }

    /// A key of ours, to be published.
    pub(crate) fn of(key: VerifyingKey, alg: Algorithm, kid: &str) -> Self {
        Self { kid: Some(kid.to_owned()), alg: Some(alg), key, certificate: None }
    }

    /// The identifier it is registered under.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The one algorithm it is for, where it says so.
    #[must_use]
    pub const fn alg(&self) -> Option<Algorithm> {
        self.alg
    }

    /// The key itself.
    #[must_use]
    pub const fn key(&self) -> &VerifyingKey {
        &self.key
    }

    /// The certificate `x5c[0]` in DER, whose key equals this one.
    #[must_use]
    pub fn certificate(&self) -> Option<&[u8]> {
        self.certificate.as_deref()
    }

    /// The algorithms it may be used with: its `alg`, or all of its kind.
    #[must_use]
    pub fn algorithms(&self) -> Algorithms {
        self.alg.map_or(self.key.key_type().algorithms(), |alg| Algorithms::of(&[alg]))
    }

    /// The SHA-256 thumbprint of the key (RFC 7638 §3).
    #[must_use]
    pub fn thumbprint(&self) -> Thumbprint {
        let members = self.key.jwk_members().into_iter().map(|(name, value)| format!(r#""{name}":"{value}""#));
        let canonical = format!("{{{}}}", members.collect::<Vec<_>>().join(","));
        Thumbprint::of(canonical.as_bytes())
    }

    /// The key as a JWK with `use`, and `alg`, `kid` and `x5c` where it has them.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut members: Map<_, _> =
            self.key.jwk_members().into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        members.insert("use".to_owned(), "sig".into());
        if let Some(alg) = self.alg {
            members.insert("alg".to_owned(), alg.as_str().into());
        }
        if let Some(kid) = &self.kid {
            members.insert("kid".to_owned(), kid.as_str().into());
        }
        if let Some(der) = &self.certificate {
            members.insert("x5c".to_owned(), json!([STANDARD.encode(der)]));
        }
        Value::Object(members)
    }
}

/// RFC 7517 §4.2, §4.3: where the key says what it is for, it must be for verifying.
fn is_for_signatures(members: &Map<String, Value>) -> Result<(), JwkFault> {
    let for_use = members.get("use").is_none_or(|value| value == "sig");
    let for_operation = match members.get("key_ops") {
        None => true,
        Some(Value::Array(operations)) => operations.iter().any(|operation| operation == "verify"),
        Some(_) => false,
    };
    if for_use && for_operation { Ok(()) } else { Err(JwkFault::NotForSignatures) }
}

fn verifying_key(members: &Map<String, Value>) -> Result<VerifyingKey, JwkFault> {
    let text = |name| members.get(name).and_then(Value::as_str);
    let octets = |name| octets(members, name);
    let key = match (text("kty").ok_or(JwkFault::KtyUnknown)?, text("crv")) {
        ("EC", Some("P-256")) => VerifyingKey::p256(&octets("x")?, &octets("y")?),
        ("EC", Some("P-384")) => VerifyingKey::p384(&octets("x")?, &octets("y")?),
        ("OKP", Some("Ed25519")) => VerifyingKey::ed25519(&octets("x")?),
        ("RSA", _) => VerifyingKey::rsa(&octets("n")?, &octets("e")?),
        ("EC" | "OKP", _) => return Err(JwkFault::CurveUnknown),
        ("oct", _) => return Err(JwkFault::Secret),
        _ => return Err(JwkFault::KtyUnknown),
    };
    Ok(key?)
}

fn octets(members: &Map<String, Value>, name: &str) -> Result<Vec<u8>, JwkFault> {
    let text = members.get(name).and_then(Value::as_str).ok_or(JwkFault::MemberMalformed)?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| JwkFault::MemberMalformed)
}

fn kid(value: &Value) -> Result<String, JwkFault> {
    match value {
        Value::String(kid) if jws::is_kid(kid) => Ok(kid.clone()),
        _ => Err(JwkFault::KidMalformed),
    }
}

fn algorithm(value: &Value, key: &VerifyingKey) -> Result<Algorithm, JwkFault> {
    let named = value.as_str().and_then(Algorithm::parse);
    named.filter(|alg| key.key_type().algorithms().contains(*alg)).ok_or(JwkFault::Algorithm)
}

/// RFC 7517 §4.7, §4.9: the first certificate of `x5c` must be for this very key. `x5u` is never followed.
fn certificate(members: &Map<String, Value>, key: &VerifyingKey) -> Result<Option<Vec<u8>>, JwkFault> {
    let Some(x5c) = members.get("x5c") else { return Ok(None) };
    let first = x5c.as_array().and_then(|chain| chain.first()).and_then(Value::as_str);
    let der = first.and_then(|text| STANDARD.decode(text).ok()).ok_or(JwkFault::CertificateMalformed)?;
    let (rest, parsed) = X509Certificate::from_der(&der).map_err(|_| JwkFault::CertificateMalformed)?;
    if !rest.is_empty() {
        return Err(JwkFault::CertificateMalformed);
    }
    if key.spki_der().is_none_or(|spki| spki != parsed.public_key().raw) {
        return Err(JwkFault::CertificateOther);
    }
    if members.get("x5t#S256").is_some_and(|x5t| *x5t != Thumbprint::of_der(&der).to_string()) {
        return Err(JwkFault::CertificateOther);
    }
    Ok(Some(der))
}

/// A set of public keys: a client's registered ones, or the ones an issuer publishes (RFC 7517 §5).
#[derive(Clone, Debug, Default)]
pub struct JwkSet {
    keys: Vec<Jwk>,
}

impl JwkSet {
    /// These keys.
    #[must_use]
    pub const fn new(keys: Vec<Jwk>) -> Self {
        Self { keys }
    }

    /// From a document that is being registered: one bad key refuses all of it, so that nobody believes a key to be
    /// in force that is not.
    ///
    /// # Errors
    /// [`JwkFault`].
    pub fn parse_registered(document: &[u8]) -> Result<Self, JwkFault> {
        Self::from_registered(&json::parse_object(document).map_err(JwkFault::Json)?)
    }

    /// As [`Self::parse_registered`], from members that were read before.
    ///
    /// # Errors
    /// [`JwkFault`].
    pub fn from_registered(set: &Map<String, Value>) -> Result<Self, JwkFault> {
        let keys: Vec<_> = members_of(set)?.map(|key| Jwk::parse(key?)).collect::<Result<_, _>>()?;
        if keys.is_empty() {
            return Err(JwkFault::Empty);
        }
        Ok(Self { keys })
    }

    /// From a document that was fetched: a key that is broken, unknown, or not for signatures is left out, the rest is
    /// used (RFC 7517 §5).
    ///
    /// # Errors
    /// [`JwkFault`] where the document as a whole is no set, or has too many keys.
    pub fn parse_fetched(document: &[u8]) -> Result<Self, JwkFault> {
        let set = json::parse_object(document).map_err(JwkFault::Json)?;
        let keys = members_of(&set)?.filter_map(|key| Jwk::parse(key.ok()?).ok());
        Ok(Self { keys: keys.collect() })
    }

    /// The keys, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Jwk> {
        self.keys.iter()
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether a key has this identifier; if not, a newer set may.
    #[must_use]
    pub fn has_kid(&self, kid: &str) -> bool {
        self.keys.iter().any(|key| key.kid() == Some(kid))
    }

    /// The keys that may have made this signature: those with its `kid`, or, without one, the first
    /// [`MAX_CANDIDATES`] (RFC 7515 §6); and of these the ones that can do its algorithm (FAPI 2.0 §5.4.3).
    pub fn candidates(&self, header: &Header) -> impl Iterator<Item = &Jwk> {
        let (alg, kid) = (header.alg, header.kid.as_deref());
        let named = move |key: &&Jwk| kid.is_none_or(|kid| key.kid() == Some(kid));
        self.keys.iter().filter(move |key| key.algorithms().contains(alg)).filter(named).take(MAX_CANDIDATES)
    }

    /// Checks a signature against the keys of this set, if its algorithm is one of `allowed`. For a client that
    /// registered one algorithm, `allowed` is that one (RFC 8725 §3.1).
    ///
    /// # Errors
    /// [`JwsFault::AlgorithmNotAllowed`], [`JwsFault::KeyUnknown`], [`JwsFault::SignatureWrong`].
    pub fn verify(&self, parsed: &Parsed<'_>, allowed: Algorithms) -> Result<(), JwsFault> {
        self.signer(parsed, allowed).map(drop)
    }

    /// The key of this set that made a signature, as [`Self::verify`] finds it.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub fn signer(&self, parsed: &Parsed<'_>, allowed: Algorithms) -> Result<&Jwk, JwsFault> {
        if !allowed.contains(parsed.header.alg) {
            return Err(JwsFault::AlgorithmNotAllowed);
        }
        let mut outcome = Err(JwsFault::KeyUnknown);
        for candidate in self.candidates(&parsed.header) {
            outcome = parsed.verify(candidate.key()).map(|()| candidate);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    /// The document that publishes these keys.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({ "keys": self.keys.iter().map(Jwk::to_json).collect::<Vec<_>>() })
    }
}

/// The keys of a set as they stand there, each an object or a fault.
fn members_of(
    set: &Map<String, Value>,
) -> Result<impl Iterator<Item = Result<&Map<String, Value>, JwkFault>>, JwkFault> {
    let keys = set.get("keys").and_then(Value::as_array).ok_or(JwkFault::NotASet)?;
    if keys.len() > MAX_KEYS {
        return Err(JwkFault::TooMany);
    }
    Ok(keys.iter().map(|key| key.as_object().ok_or(JwkFault::NotASet)))
}
