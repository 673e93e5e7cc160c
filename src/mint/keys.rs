//! Signing keys: made on first start, kept in the store, parsed once, published in the JWK set (RFC 7517 §5).

use std::sync::Arc;

use certbind_proto::access_token;
use certbind_proto::jwk::JwkSet;
use certbind_proto::jws::{Algorithm, Signer, SigningKey, SigningKeyFault};
use certbind_proto::time::Timestamp;
use serde_json::Value;

use crate::store::{KeyStore, StoreError, StoredKey};

/// The keys of this server: one that signs, and all that verify.
#[derive(Clone)]
pub struct SigningKeys {
    current: Arc<Signer>,
    published: Arc<JwkSet>,
}

/// Why there are no signing keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key could not be made, or the stored one cannot be read.
    #[error("the signing key cannot be made or read")]
    Key(#[from] SigningKeyFault),
    /// The store kept no key of the configured algorithm.
    #[error("the store did not keep the signing key")]
    NotKept,
}

impl SigningKeys {
    /// The stored keys; makes one of the configured algorithm when there is none yet. Of two servers that start at
    /// the same time one makes it, and both use it.
    ///
    /// # Errors
    /// [`KeysError`]: a server without a signing key must not start.
    pub async fn load_or_make(store: &dyn KeyStore, algorithm: Algorithm, now: Timestamp) -> Result<Self, KeysError> {
        let mut stored = store.load().await?;
        if !stored.iter().any(|key| key.algorithm == algorithm.as_str()) {
            store.insert_if_none(make(algorithm, now)?).await?;
            stored = store.load().await?;
        }
        let mut published = Vec::new();
        let mut current = None;
        for key in stored {
            let Some(of) = Algorithm::parse(&key.algorithm) else { continue };
            let parsed = SigningKey::from_pkcs8_der(&key.pkcs8, of)?;
            published.push(parsed.public_jwk(&key.kid));
            if of == algorithm {
                current = Some(Signer::new(parsed, access_token::TYP, Some(&key.kid)));
            }
        }
        let current = Arc::new(current.ok_or(KeysError::NotKept)?);
        Ok(Self { current, published: Arc::new(JwkSet::new(published)) })
    }

    /// The key that signs.
    #[must_use]
    pub fn current(&self) -> &Signer {
        &self.current
    }

    /// The JWK set to publish: public members only.
    #[must_use]
    pub fn jwks(&self) -> Value {
        self.published.to_json()
    }

    /// The keys that a token of this server may be signed with: those that sign, and those that did until lately.
    #[must_use]
    pub fn published(&self) -> &JwkSet {
        &self.published
    }
}

/// A new key. Its `kid` is its thumbprint (RFC 7638), so no two keys share one.
fn make(algorithm: Algorithm, now: Timestamp) -> Result<StoredKey, SigningKeyFault> {
    let key = SigningKey::generate(algorithm)?;
    let kid = key.public_jwk("").thumbprint();
    Ok(StoredKey { kid, algorithm: algorithm.as_str().to_owned(), pkcs8: key.to_pkcs8_der(), created: now })
}
