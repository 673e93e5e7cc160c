//! Public keys, checked when they come in and parsed once (RFC 8725 §3.4).

use std::fmt;
use std::sync::OnceLock;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RsaParameters, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Algorithm, Algorithms, JwsFault, ed25519_point};

/// The shortest RSA modulus that is taken, in bits (RFC 7518 §3.3).
pub const MIN_RSA_BITS: usize = 2048;
/// The longest RSA modulus that is taken, in bits: the work of a verification grows with it.
pub const MAX_RSA_BITS: usize = 8192;
/// The longest RSA exponent that is taken, in bits: the work of a verification grows with it.
pub const MAX_RSA_EXPONENT_BITS: usize = 33;

/// What kind of key it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// `kty` OKP, `crv` Ed25519 (RFC 8037 §2).
    Ed25519,
    /// `kty` EC, `crv` P-256 (RFC 7518 §6.2).
    P256,
    /// `kty` EC, `crv` P-384 (RFC 7518 §6.2).
    P384,
    /// `kty` RSA (RFC 7518 §6.3).
    Rsa,
}

impl KeyType {
    /// The algorithms such a key can be used with. An elliptic curve fixes it; an RSA key leaves three, until its
    /// `alg` or the client's registration names one (RFC 8725 §3.1).
    #[must_use]
    pub const fn algorithms(self) -> Algorithms {
        match self {
            Self::Ed25519 => Algorithms::of(&[Algorithm::EdDsa]),
            Self::P256 => Algorithms::of(&[Algorithm::Es256]),
            Self::P384 => Algorithms::of(&[Algorithm::Es384]),
            Self::Rsa => Algorithms::of(&[Algorithm::Ps256, Algorithm::Ps384, Algorithm::Rs256]),
        }
    }
}

/// Why a public key is not taken (RFC 8725 §3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// A coordinate or point has the wrong length.
    #[error("a coordinate has the wrong length (RFC 7518 §6.2.1.2, RFC 8037 §2)")]
    Length,
    /// The point is not on the curve, is the point at infinity, or has a small order.
    #[error("the point is not a usable one of its curve (RFC 8725 §3.4)")]
    Point,
    /// The RSA exponent is even, below 3 or longer than [`MAX_RSA_EXPONENT_BITS`].
    #[error("the RSA exponent is even, below 3 or too long (RFC 7518 §3.3)")]
    RsaExponent,
    /// The RSA modulus is shorter than [`MIN_RSA_BITS`] or longer than [`MAX_RSA_BITS`].
    #[error("the RSA modulus has less than 2048 or more than 8192 bits (RFC 7518 §3.3)")]
    RsaLength,
    /// `n` or `e` has a leading zero octet, or is empty.
    #[error("an RSA number has a leading zero (RFC 7518 §6.3.1)")]
    RsaNotMinimal,
    /// The RSA modulus can be factored: it has a small factor, or the fingerprint of CVE-2017-15361 (ROCA).
    #[error("the RSA modulus is known to be weak (RFC 8725 §3.4)")]
    RsaWeak,
}

/// A public key that can verify, with what belongs to it parsed beforehand.
#[derive(Clone)]
pub struct VerifyingKey {
    material: Material,
}

#[derive(Clone)]
enum Material {
    Curve(KeyType, ParsedPublicKey),
    Rsa(RsaKey),
}

impl VerifyingKey {
    /// An Ed25519 key from its 32 octets (RFC 8037 §2).
    ///
    /// # Errors
    /// [`KeyFault`].
    pub fn ed25519(point: &[u8]) -> Result<Self, KeyFault> {
        let encoding: &[u8; 32] = point.try_into().map_err(|_| KeyFault::Length)?;
        if !ed25519_point::is_usable(encoding) {
            return Err(KeyFault::Point);
        }
        Self::on_curve(KeyType::Ed25519, &ED25519, point)
    }

    /// A P-256 key from its coordinates, 32 octets each (RFC 7518 §6.2.1).
    ///
    /// # Errors
    /// [`KeyFault`].
    pub fn p256(x: &[u8], y: &[u8]) -> Result<Self, KeyFault> {
        Self::on_curve(KeyType::P256, &ECDSA_P256_SHA256_FIXED, &uncompressed(x, y, 32)?)
    }

    /// A P-384 key from its coordinates, 48 octets each (RFC 7518 §6.2.1).
    ///
    /// # Errors
    /// [`KeyFault`].
    pub fn p384(x: &[u8], y: &[u8]) -> Result<Self, KeyFault> {
        Self::on_curve(KeyType::P384, &ECDSA_P384_SHA384_FIXED, &uncompressed(x, y, 48)?)
    }

    /// An RSA key from modulus and exponent, big-endian and without leading zeros (RFC 7518 §6.3.1).
    ///
    /// # Errors
    /// [`KeyFault`].
    pub fn rsa(n: &[u8], e: &[u8]) -> Result<Self, KeyFault> {
        RsaKey::new(n, e).map(|key| Self { material: Material::Rsa(key) })
    }

    fn on_curve(
        key_type: KeyType,
        algorithm: &'static dyn VerificationAlgorithm,
        point: &[u8],
    ) -> Result<Self, KeyFault> {
        let parsed = ParsedPublicKey::new(algorithm, point).map_err(|_| KeyFault::Point)?;
        Ok(Self { material: Material::Curve(key_type, parsed) })
    }

    /// What kind of key it is.
    #[must_use]
    pub const fn key_type(&self) -> KeyType {
        match &self.material {
            Material::Curve(key_type, _) => *key_type,
            Material::Rsa(_) => KeyType::Rsa,
        }
    }

    /// Checks one signature. An algorithm that is not this key's is refused before anything is computed.
    ///
    /// # Errors
    /// [`JwsFault::AlgorithmForeign`], [`JwsFault::SignatureWrong`].
    pub fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> Result<(), JwsFault> {
        if !self.key_type().algorithms().contains(algorithm) {
            return Err(JwsFault::AlgorithmForeign);
        }
        let parsed = match &self.material {
            Material::Curve(_, parsed) => Some(parsed),
            Material::Rsa(key) => key.parsed(algorithm),
        };
        let parsed = parsed.ok_or(JwsFault::AlgorithmForeign)?;
        parsed.verify_sig(message, signature).map_err(|_| JwsFault::SignatureWrong)
    }

    /// The members that make up the key in a JWK, names in lexicographic order as RFC 7638 §3.2 wants them.
    #[must_use]
    pub fn jwk_members(&self) -> Vec<(&'static str, String)> {
        let base64url = |octets: &[u8]| URL_SAFE_NO_PAD.encode(octets);
        match &self.material {
            Material::Rsa(key) => {
                vec![("e", base64url(&key.e)), ("kty", "RSA".to_owned()), ("n", base64url(&key.n))]
            }
            Material::Curve(KeyType::Ed25519, parsed) => {
                vec![("crv", "Ed25519".to_owned()), ("kty", "OKP".to_owned()), ("x", base64url(parsed.as_ref()))]
            }
            Material::Curve(key_type, parsed) => {
                let (x, y) = coordinates(parsed);
                let crv = if *key_type == KeyType::P384 { "P-384" } else { "P-256" };
                vec![("crv", crv.to_owned()), ("kty", "EC".to_owned()), ("x", base64url(x)), ("y", base64url(y))]
            }
        }
    }

    /// The `SubjectPublicKeyInfo` in DER (RFC 5280 §4.1.2.7), or nothing if the library cannot write it.
    #[must_use]
    pub fn spki_der(&self) -> Option<Vec<u8>> {
        match &self.material {
            Material::Curve(_, parsed) => parsed.as_der().map(|der| der.as_ref().to_vec()).ok(),
            Material::Rsa(key) => key.components().as_der().map(|der| der.as_ref().to_vec()).ok(),
        }
    }
}

impl PartialEq for VerifyingKey {
    fn eq(&self, other: &Self) -> bool {
        match (&self.material, &other.material) {
            (Material::Curve(mine, a), Material::Curve(theirs, b)) => mine == theirs && a.as_ref() == b.as_ref(),
            (Material::Rsa(a), Material::Rsa(b)) => a.n == b.n && a.e == b.e,
            _ => false,
        }
    }
}

impl Eq for VerifyingKey {}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingKey").field("key_type", &self.key_type()).finish_non_exhaustive()
    }
}

/// SEC 1 §2.3.3: 0x04, x, y.
fn uncompressed(x: &[u8], y: &[u8], length: usize) -> Result<Vec<u8>, KeyFault> {
    if x.len() != length || y.len() != length {
        return Err(KeyFault::Length);
    }
    Ok([&[4], x, y].concat())
}

fn coordinates(point: &ParsedPublicKey) -> (&[u8], &[u8]) {
    let coordinates = point.as_ref().get(1..).unwrap_or_default();
    coordinates.split_at(coordinates.len() / 2)
}

/// An RSA key, made ready for an algorithm when that is used the first time: most keys are used with one only.
#[derive(Clone)]
struct RsaKey {
    n: Box<[u8]>,
    e: Box<[u8]>,
    ps256: OnceLock<Option<ParsedPublicKey>>,
    ps384: OnceLock<Option<ParsedPublicKey>>,
    rs256: OnceLock<Option<ParsedPublicKey>>,
}

impl RsaKey {
    fn new(n: &[u8], e: &[u8]) -> Result<Self, KeyFault> {
        if n.first().is_none_or(|first| *first == 0) || e.first().is_none_or(|first| *first == 0) {
            return Err(KeyFault::RsaNotMinimal);
        }
        if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits(n)) {
            return Err(KeyFault::RsaLength);
        }
        if bits(e) > MAX_RSA_EXPONENT_BITS || e.last().is_some_and(|last| last & 1 == 0) || e == [1] {
            return Err(KeyFault::RsaExponent);
        }
        if is_weak(n) {
            return Err(KeyFault::RsaWeak);
        }
        let key =
            Self { n: n.into(), e: e.into(), ps256: OnceLock::new(), ps384: OnceLock::new(), rs256: OnceLock::new() };
        // The library's own checks, with its smallest set-up.
        key.components().to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).map_err(|_| KeyFault::RsaWeak)?;
        Ok(key)
    }

    fn components(&self) -> PublicKeyComponents<&[u8]> {
        PublicKeyComponents { n: &self.n, e: &self.e }
    }

    fn parsed(&self, algorithm: Algorithm) -> Option<&ParsedPublicKey> {
        let (place, parameters): (_, &'static RsaParameters) = match algorithm {
            Algorithm::Ps256 => (&self.ps256, &RSA_PSS_2048_8192_SHA256),
            Algorithm::Ps384 => (&self.ps384, &RSA_PSS_2048_8192_SHA384),
            Algorithm::Rs256 => (&self.rs256, &RSA_PKCS1_2048_8192_SHA256),
            Algorithm::EdDsa | Algorithm::Es256 | Algorithm::Es384 => return None,
        };
        place.get_or_init(|| self.components().to_parsed_public_key(parameters).ok()).as_ref()
    }
}

/// The length of a big-endian number without leading zero octets.
fn bits(number: &[u8]) -> usize {
    number.len() * 8 - number.first().map_or(0, |first| first.leading_zeros() as usize)
}

/// Odd primes below 168. Keys of the faulty Infineon library are powers of 65537 modulo each of them.
const SMALL_PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109,
    113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

/// Even, divisible by a small prime, or with the fingerprint of CVE-2017-15361 (ROCA). Of healthy keys about one in
/// a hundred million has that fingerprint by chance.
fn is_weak(n: &[u8]) -> bool {
    let even = n.last().is_none_or(|last| last & 1 == 0);
    let mut remainders = SMALL_PRIMES.iter().map(|p| (*p, remainder(n, *p)));
    even || remainders.clone().any(|(_, r)| r == 0) || remainders.all(|(p, r)| is_power_of_65537(r, p))
}

fn remainder(n: &[u8], p: u32) -> u32 {
    n.iter().fold(0, |rest, octet| (rest << 8 | u32::from(*octet)) % p)
}

fn is_power_of_65537(r: u32, p: u32) -> bool {
    let mut power = 1;
    for _ in 0..p {
        if power == r {
            return true;
        }
        power = power * (65_537 % p) % p;
    }
    false
}
