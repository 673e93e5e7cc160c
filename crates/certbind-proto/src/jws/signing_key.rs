//! Private keys, and the signer that writes compact signatures with one of them (RFC 7515 §3.1, §5.1).

use std::fmt;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RSA_PSS_SHA384, RsaEncoding, RsaKeyPair,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Serialize;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::RSAPublicKey;
use zeroize::Zeroizing;

use super::{Algorithm, Heading, Unsigned, VerifyingKey};
use crate::jwk::Jwk;

/// Why bytes are not a private key for signing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyFault {
    /// The library could not make or write a key.
    #[error("the cryptographic library failed to make a key")]
    Library,
    /// It is not PKCS#8 in DER, or not a key of the algorithm that was asked for.
    #[error("not an unencrypted PKCS#8 private key of the algorithm")]
    NotThisKey,
    /// There is no PEM block `PRIVATE KEY`.
    #[error("no PEM block \"PRIVATE KEY\" (PKCS#8, unencrypted)")]
    NotPem,
    /// The public half would be refused by everybody who checks keys, as [`super::KeyFault`] says.
    #[error("the key is too weak to sign with")]
    Weak,
}

/// Why nothing was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignFault {
    /// The claims could not be written as JSON.
    #[error("the claims could not be written as JSON")]
    Claims,
    /// The library refused to sign.
    #[error("the cryptographic library failed to sign")]
    Library,
}

/// A private key, tied to one algorithm and parsed once (RFC 8725 §3.1). It does not print.
pub struct SigningKey {
    algorithm: Algorithm,
    secret: Secret,
    public: VerifyingKey,
    pkcs8: Zeroizing<Vec<u8>>,
}

enum Secret {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
}

impl SigningKey {
    /// A new key; one for an RSA algorithm has 2048 bits.
    ///
    /// # Errors
    /// [`SigningKeyFault::Library`].
    pub fn generate(algorithm: Algorithm) -> Result<Self, SigningKeyFault> {
        let library = |_| SigningKeyFault::Library;
        let pkcs8 = match Scheme::of(algorithm) {
            Scheme::Ecdsa(curve) => {
                let pair = EcdsaKeyPair::generate(curve).map_err(library)?;
                pair.to_pkcs8v1().map_err(library)?.as_ref().to_vec()
            }
            Scheme::Ed25519 => {
                let pair = Ed25519KeyPair::generate().map_err(library)?;
                pair.to_pkcs8v1().map_err(library)?.as_ref().to_vec()
            }
            Scheme::Rsa(_) => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(library)?;
                pair.as_der().map_err(library)?.as_ref().to_vec()
            }
        };
        Self::from_pkcs8_der(&Zeroizing::new(pkcs8), algorithm)
    }

    /// From unencrypted PKCS#8 in DER (RFC 5958).
    ///
    /// # Errors
    /// [`SigningKeyFault::NotThisKey`], [`SigningKeyFault::Weak`].
    pub fn from_pkcs8_der(der: &[u8], algorithm: Algorithm) -> Result<Self, SigningKeyFault> {
        let secret = Secret::parse(der, algorithm).ok_or(SigningKeyFault::NotThisKey)?;
        let public = secret.public(algorithm).ok_or(SigningKeyFault::Weak)?;
        Ok(Self { algorithm, secret, public, pkcs8: Zeroizing::new(der.to_vec()) })
    }

    /// From the first PEM block `PRIVATE KEY`. Without an algorithm the key decides: its curve's, or PS256 for RSA.
    ///
    /// # Errors
    /// [`SigningKeyFault`].
    pub fn from_pkcs8_pem(pem: &str, algorithm: Option<Algorithm>) -> Result<Self, SigningKeyFault> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| SigningKeyFault::NotPem)?;
        let der = der.secret_pkcs8_der();
        if let Some(algorithm) = algorithm {
            return Self::from_pkcs8_der(der, algorithm);
        }
        for algorithm in [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Es384, Algorithm::Ps256] {
            match Self::from_pkcs8_der(der, algorithm) {
                Err(SigningKeyFault::NotThisKey) => {}
                decided => return decided,
            }
        }
        Err(SigningKeyFault::NotThisKey)
    }

    /// The key as it is stored: unencrypted PKCS#8 in DER.
    #[must_use]
    pub fn to_pkcs8_der(&self) -> Zeroizing<Vec<u8>> {
        self.pkcs8.clone()
    }

    /// The one algorithm it signs with.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> VerifyingKey {
        self.public.clone()
    }

    /// The public half as it is published, with `alg` and `use`.
    #[must_use]
    pub fn public_jwk(&self, kid: &str) -> Jwk {
        Jwk::of(self.public(), self.algorithm, kid)
    }

    /// A signature over `message`, in the form of RFC 7518 §3.
    ///
    /// # Errors
    /// [`SignFault::Library`].
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignFault> {
        let library = |_| SignFault::Library;
        let random = SystemRandom::new();
        match &self.secret {
            Secret::Ecdsa(pair) => Ok(pair.sign(&random, message).map_err(library)?.as_ref().to_vec()),
            Secret::Ed25519(pair) => Ok(pair.try_sign(message).map_err(library)?.as_ref().to_vec()),
            Secret::Rsa(pair, padding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*padding, &random, message, &mut signature).map_err(library)?;
                Ok(signature)
            }
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("algorithm", &self.algorithm).field("secret", &"[redacted]").finish()
    }
}

/// How an algorithm signs.
enum Scheme {
    Ecdsa(&'static EcdsaSigningAlgorithm),
    Ed25519,
    Rsa(&'static dyn RsaEncoding),
}

impl Scheme {
    fn of(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::EdDsa => Self::Ed25519,
            Algorithm::Es256 => Self::Ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING),
            Algorithm::Es384 => Self::Ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING),
            Algorithm::Ps256 => Self::Rsa(&RSA_PSS_SHA256),
            Algorithm::Ps384 => Self::Rsa(&RSA_PSS_SHA384),
            Algorithm::Rs256 => Self::Rsa(&RSA_PKCS1_SHA256),
        }
    }
}

impl Secret {
    fn parse(pkcs8: &[u8], algorithm: Algorithm) -> Option<Self> {
        match Scheme::of(algorithm) {
            Scheme::Ecdsa(curve) => EcdsaKeyPair::from_pkcs8(curve, pkcs8).ok().map(Self::Ecdsa),
            Scheme::Ed25519 => Ed25519KeyPair::from_pkcs8(pkcs8).ok().map(Self::Ed25519),
            Scheme::Rsa(padding) => RsaKeyPair::from_pkcs8(pkcs8).ok().map(|pair| Self::Rsa(pair, padding)),
        }
    }

    fn public(&self, algorithm: Algorithm) -> Option<VerifyingKey> {
        match self {
            Self::Ed25519(pair) => VerifyingKey::ed25519(pair.public_key().as_ref()).ok(),
            Self::Rsa(pair, _) => {
                let (_, public) = RSAPublicKey::from_der(pair.public_key().as_ref()).ok()?;
                VerifyingKey::rsa(without_sign(public.modulus), without_sign(public.exponent)).ok()
            }
            Self::Ecdsa(pair) => {
                let point = pair.public_key().as_ref().get(1..)?;
                let (x, y) = point.split_at(point.len() / 2);
                match algorithm {
                    Algorithm::Es384 => VerifyingKey::p384(x, y).ok(),
                    _ => VerifyingKey::p256(x, y).ok(),
                }
            }
        }
    }
}

/// A DER INTEGER starts with a zero octet where its first bit would read as a sign.
fn without_sign(integer: &[u8]) -> &[u8] {
    integer.strip_prefix(&[0]).unwrap_or(integer)
}

/// Writes compact signatures with one key. The JOSE header is encoded once.
#[derive(Debug)]
pub struct Signer {
    key: SigningKey,
    heading: Heading,
}

impl Signer {
    /// A signer whose tokens say this `typ` and, where there is one, this `kid` (RFC 7515 §4.1.4, §4.1.9).
    #[must_use]
    pub fn new(key: SigningKey, typ: &str, kid: Option<&str>) -> Self {
        Self { heading: Heading::new(key.algorithm.as_str(), typ, kid), key }
    }

    /// As [`Self::new`], with the fully specified name of the algorithm: for readers that take `Ed25519` and no longer
    /// `EdDSA` (RFC 9864 §2.2).
    #[must_use]
    pub fn fully_specified(key: SigningKey, typ: &str, kid: Option<&str>) -> Self {
        Self { heading: Heading::new(key.algorithm.fully_specified(), typ, kid), key }
    }

    /// The key it signs with.
    #[must_use]
    pub const fn key(&self) -> &SigningKey {
        &self.key
    }

    /// The `kid` that its tokens say.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.heading.kid()
    }

    /// A compact signature over the claims.
    ///
    /// # Errors
    /// [`SignFault`].
    pub fn sign_claims(&self, claims: &impl Serialize) -> Result<String, SignFault> {
        self.sign(self.heading.unsigned(claims)?)
    }

    /// The same for something else than what this signer usually makes. What kind of thing a JWT is has to show in its
    /// `typ`, or one could be taken for the other (RFC 8725 §3.11).
    ///
    /// # Errors
    /// [`SignFault`].
    pub fn sign_claims_as(&self, typ: &str, claims: &impl Serialize) -> Result<String, SignFault> {
        self.sign(self.heading.unsigned_as(typ, claims)?)
    }

    fn sign(&self, unsigned: Unsigned) -> Result<String, SignFault> {
        let signature = self.key.sign(unsigned.bytes())?;
        Ok(unsigned.signed(&signature))
    }
}
