//! Signing keys: made here or found in a security module, put into the form in which a store holds them, and read back.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::seal::{SealFault, Sealing};
use super::signer::{KeyModule, ModuleKey, ModuleSigner, ObjectId, TokenSigner};
use crate::store::{Secret, StoredKey};
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
    /// The stored bytes do not say which key of a security module it is.
    #[error("the stored key {kid} does not say where it is in the security module")]
    Module {
        /// Its name.
        kid: String,
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

/// Where new keys come from.
pub enum Source {
    /// They are made here and kept in the store.
    Made,
    /// An operator makes them in a security module.
    Module(Arc<dyn KeyModule>),
}

impl Source {
    /// Whether a stored key is of this source.
    pub(super) const fn has(&self, stored: &StoredKey) -> bool {
        matches!(self, Self::Module(_)) == matches!(stored.secret, Secret::Module(_))
    }

    /// Whether this server can sign with a stored key.
    pub(super) const fn signs_with(&self, stored: &StoredKey) -> bool {
        matches!(self, Self::Module(_)) || !matches!(stored.secret, Secret::Module(_))
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Made => "Made",
            Self::Module(_) => "Module",
        })
    }
}

/// A stored key, ready for use: what signs, unless that is in a module of another server's, and what is published.
#[derive(Debug)]
pub(super) struct UsableKey {
    pub(super) signer: Option<TokenSigner>,
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
    let kid = key.public_jwk("").thumbprint().to_string();
    let secret = sealing.seal(&kid, algorithm.as_str(), key.to_pkcs8_der());
    let secret = secret.map_err(|source| KeyFault::Seal { kid: kid.clone(), source })?;
    let algorithm = algorithm.as_str().to_owned();
    Ok(StoredKey { kid, algorithm, secret, created: now, activates, retired: None, token_lifetime })
}

/// The next of the keys in a module: the one with the smallest id above all that were ever taken into the set. At
/// first it is the newest: others may have been used elsewhere.
pub(super) fn take(
    candidates: &[ModuleKey],
    stored: &[StoredKey],
    algorithm: Algorithm,
    activates: Timestamp,
    token_lifetime: Duration,
    now: Timestamp,
) -> Option<StoredKey> {
    let fits = |key: &&ModuleKey| key.public.key_type().algorithms().contains(algorithm);
    let newest = stored.iter().filter_map(|key| InModule::read(&key.secret)).map(|key| key.id).max();
    let next = match newest {
        Some(newest) => candidates.iter().filter(fits).filter(|key| key.id > newest).min_by(|a, b| a.id.cmp(&b.id)),
        None => candidates.iter().filter(fits).max_by(|a, b| a.id.cmp(&b.id)),
    }?;
    let kid = Jwk::published(next.public.clone(), algorithm, "")?.thumbprint().to_string();
    let public = Jwk::published(next.public.clone(), algorithm, &kid)?;
    let secret = InModule { id: next.id.clone(), public }.secret();
    let algorithm = algorithm.as_str().to_owned();
    Some(StoredKey { kid, algorithm, secret, created: now, activates, retired: None, token_lifetime })
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
pub(super) fn read(stored: &StoredKey, sealing: &Sealing, source: &Source) -> Result<UsableKey, KeyFault> {
    let kid = &stored.kid;
    let unknown = || KeyFault::Algorithm { kid: kid.clone(), algorithm: stored.algorithm.clone() };
    let algorithm = Algorithm::parse(&stored.algorithm).ok_or_else(unknown)?;
    if let Secret::Module(_) = &stored.secret {
        let InModule { id, public } =
            InModule::read(&stored.secret).ok_or_else(|| KeyFault::Module { kid: kid.clone() })?;
        let signer = match source {
            Source::Made => None,
            Source::Module(module) => {
                Some(TokenSigner::Module(ModuleSigner::new(Arc::clone(module), id, &public, algorithm)))
            }
        };
        return Ok(UsableKey { signer, public });
    }
    let pkcs8 = sealing.open(stored).map_err(|source| KeyFault::Seal { kid: kid.clone(), source })?;
    let key =
        SigningKey::from_pkcs8_der(&pkcs8, algorithm).map_err(|source| KeyFault::Read { kid: kid.clone(), source })?;
    let public = key.public_jwk(kid);
    let signer = Some(TokenSigner::Memory(Signer::new(key, access_token::TYP, Some(kid))));
    Ok(UsableKey { signer, public })
}

/// What the store says of a key in a module: `{"id":"0a","jwk":{…}}`.
struct InModule {
    id: ObjectId,
    public: Jwk,
}

impl InModule {
    fn read(secret: &Secret) -> Option<Self> {
        let Secret::Module(bytes) = secret else { return None };
        let text: Value = serde_json::from_slice(bytes).ok()?;
        let id = ObjectId::parse(text.get("id")?.as_str()?)?;
        Some(Self { id, public: Jwk::parse(text.get("jwk")?.as_object()?).ok()? })
    }

    fn secret(&self) -> Secret {
        Secret::Module(json!({ "id": self.id.to_string(), "jwk": self.public.to_json() }).to_string().into_bytes())
    }
}
