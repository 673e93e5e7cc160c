//! Signing keys: made here, put into the form in which a store holds them, and read back.

use std::time::Duration;

use super::seal::{SealFault, Sealing};
use crate::store::StoredKey;
use certbind_proto::access_token;
use certbind_proto::jwk::Jwk;
use certbind_proto::jws::{Algorithm, Signer, SigningKey, SigningKeyFault};
use certbind_proto::time::Timestamp;

/// Why a signing key cannot be made, or a stored one not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// The store holds a key of an algorithm that this version does not know.
    #[error("the stored key {kid} is for the algorithm {algorithm}, which this version does not know")]
    Algorithm {
        /// Its name.
        kid: String,
        /// The algorithm.
        algorithm: String,
    },
    /// No key could be made.
    #[error("a signing key cannot be made")]
    Make(#[source] SigningKeyFault),
    /// The stored key cannot be opened, or a new one not be sealed.
    #[error("the stored key {kid} cannot be opened")]
    Seal {
        /// Its name.
        kid: String,
        /// What is wrong.
        source: SealFault,
    },
    /// The stored bytes are no key.
    #[error("the stored key {kid} cannot be read")]
    Read {
        /// Its name.
        kid: String,
        /// What is wrong with it.
        source: SigningKeyFault,
    },
}

/// A stored key, ready for use: what signs, and what is published.
#[derive(Debug)]
pub(super) struct UsableKey {
    pub(super) signer: Signer,
    pub(super) public: Jwk,
}

/// A new key that is published from `now` on. Its `kid` is its thumbprint (RFC 7638), so no two keys share one.
pub(super) fn make(
    algorithm: Algorithm,
    activates: Timestamp,
    token_lifetime: Duration,
    sealing: &Sealing,
    now: Timestamp,
) -> Result<StoredKey, KeyFault> {
    let key = SigningKey::generate(algorithm).map_err(KeyFault::Make)?;
    let (kid, algorithm) = (key.public_jwk("").thumbprint(), algorithm.as_str());
    let secret = sealing.seal(&kid, algorithm, key.to_pkcs8_der());
    Ok(StoredKey {
        secret: secret.map_err(|source| KeyFault::Seal { kid: kid.clone(), source })?,
        kid,
        algorithm: algorithm.to_owned(),
        created: now,
        activates,
        retired: None,
        token_lifetime,
    })
}

/// Seals a key that lies in the store unsealed, or under a key of before.
pub(super) fn seal_anew(mut stored: StoredKey, sealing: &Sealing) -> Result<StoredKey, KeyFault> {
    if !sealing.is_up_to_date(&stored.secret) {
        let sealed = sealing.open(&stored).and_then(|pkcs8| sealing.seal(&stored.kid, &stored.algorithm, pkcs8));
        stored.secret = sealed.map_err(|source| KeyFault::Seal { kid: stored.kid.clone(), source })?;
    }
    Ok(stored)
}

/// Reads a key as it lies in the store.
pub(super) fn read(stored: &StoredKey, sealing: &Sealing) -> Result<UsableKey, KeyFault> {
    let kid = &stored.kid;
    let unknown = || KeyFault::Algorithm { kid: kid.clone(), algorithm: stored.algorithm.clone() };
    let algorithm = Algorithm::parse(&stored.algorithm).ok_or_else(unknown)?;
    let pkcs8 = sealing.open(stored).map_err(|source| KeyFault::Seal { kid: kid.clone(), source })?;
    let key =
        SigningKey::from_pkcs8_der(&pkcs8, algorithm).map_err(|source| KeyFault::Read { kid: kid.clone(), source })?;
    let public = key.public_jwk(kid);
    Ok(UsableKey { signer: Signer::new(key, access_token::TYP, Some(kid)), public })
}
