//! What a key ring tells: to whoever publishes its keys, and to operators who ask or change something.

use certbind_proto::time::Timestamp;
use serde_json::Value;

use super::super::keys::KeyFault;
use super::super::lifecycle::{RotateFault, State};
use super::super::signer::ModuleFault;
use crate::store::StoreError;

/// Hears what becomes of the keys.
pub trait Observer: Send + Sync {
    /// This JWK set is to be published from now on. Told before any new key in it signs.
    fn publish(&self, jwks: &Value);

    /// Something happened to a key.
    fn happened(&self, event: &KeyEvent, now: Timestamp);
}

/// What happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyEvent {
    /// It is published, and signs from some time on.
    Published {
        /// Its name.
        kid: String,
        /// What it signs with.
        algorithm: String,
        /// From when on.
        signs_from: Timestamp,
    },
    /// It signs from now on.
    Signs {
        /// Its name.
        kid: String,
    },
    /// It was taken back by an operator.
    Retired {
        /// Its name.
        kid: String,
    },
    /// Its last token has expired, and it is no longer published.
    Removed {
        /// Its name.
        kid: String,
    },
}

/// Why the keys cannot be had or changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KeysError {
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key cannot be made or read.
    #[error(transparent)]
    Key(#[from] KeyFault),
    /// The security module does not answer.
    #[error(transparent)]
    Module(#[from] ModuleFault),
    /// A key is due, and the security module has none that is newer than those that are known.
    #[error(
        "the token holds no key with the configured label, of the configured algorithm and with a larger id than the known ones"
    )]
    NoNewerKey,
    /// Others change the set all the time.
    #[error("the stored keys are changed by others all the time")]
    Contended,
}

/// Why there was no rotation.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// It is not possible now.
    #[error(transparent)]
    Refused(#[from] RotateFault),
    /// The keys cannot be had or changed.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

/// Why a key was not taken back.
#[derive(Debug, thiserror::Error)]
pub enum RetireError {
    /// It was taken back before.
    #[error("the key was retired at {0}")]
    AlreadyRetired(Timestamp),
    /// There is no such key.
    #[error("there is no such key")]
    Unknown,
    /// The keys cannot be had or changed.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

/// A key and its place in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its name.
    pub kid: String,
    /// What it signs with, by its JOSE name.
    pub algorithm: String,
    /// What it is now.
    pub state: State,
    /// How its secret is kept.
    pub kept: &'static str,
    /// When it was made, and since when it is published.
    pub created: Timestamp,
    /// From when on it signs.
    pub signs_from: Timestamp,
    /// When its successor takes over, or is due to; it is not known when keys are rotated by hand.
    pub signs_until: Option<Timestamp>,
    /// When its last token has expired, if `signs_until` is certain; when it was taken back, if it was.
    pub published_until: Option<Timestamp>,
}

/// What a rotation does, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// The new key's name; none while it is only planned and not made yet.
    pub incoming: Option<String>,
    /// What the new key signs with.
    pub algorithm: &'static str,
    /// The key that signs now.
    pub outgoing: String,
    /// From when on the new key is published.
    pub published_from: Timestamp,
    /// From when on the new key signs and the old one no longer does.
    pub signs_from: Timestamp,
    /// When the last token of the old key has expired, and it is no longer published.
    pub outgoing_published_until: Timestamp,
}

/// What came of taking a key back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retirement {
    /// The key.
    pub kid: String,
    /// What it was.
    pub was: State,
    /// When the last token that it signed expires. Until then whoever holds one is refused as soon as a cache lets go
    /// of the key.
    pub last_token: Timestamp,
    /// When every cache has let go of it. Until then a resource server may still take what it signed.
    pub cached_until: Timestamp,
    /// The key that signs from now on; none while it is only planned and not made yet.
    pub signer: Option<String>,
    /// Whether caches know that key.
    pub caches: Caches,
}

/// Whether caches of the JWKS know a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caches {
    /// It was published for `keys.publish_before`.
    Know,
    /// It was not: a resource server that does not fetch the set for an unknown `kid` refuses its tokens for a while.
    MayNotKnow {
        /// When every cache knows it.
        until: Timestamp,
    },
}
