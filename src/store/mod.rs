//! What must outlive a request or a restart: used `jti`s (RFC 7523 §3) and signing keys.
//!
//! A store answers or fails; it never guesses. Whoever asks and gets a [`StoreError`] refuses the request:
//! a token whose assertion is not on disk would be a token for whoever replays it.

pub mod conformance;
pub mod faulty;
pub mod memory;
mod replay_index;
pub mod sqlite;

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use aws_lc_rs::digest;
use certbind_proto::time::Timestamp;
use zeroize::Zeroizing;

/// The future of a store call.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Remembers which assertions were used (RFC 7523 §3, point 7; OpenID Connect Core §9).
pub trait ReplayStore: Send + Sync {
    /// Records `key` until `keep_until` inclusive, durably, and says whether this was its first use.
    ///
    /// While a key is live, one call in all gets [`FirstUse::Yes`], however many ask at once, in however many
    /// processes, and also over a crash. A key may be used again when `now` is after `keep_until`.
    ///
    /// # Errors
    /// The store cannot tell or cannot write: nothing may be issued.
    fn first_use(
        &self,
        key: ReplayKey,
        keep_until: Timestamp,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<FirstUse, StoreError>>;

    /// How many keys are held now. Costs nothing; for the metric.
    fn live_entries(&self) -> u64;

    /// Whether the last write succeeded. Costs nothing; for readiness.
    fn is_healthy(&self) -> bool;
}

/// Holds the keys that sign access tokens.
pub trait KeyStore: Send + Sync {
    /// Every key, oldest first.
    ///
    /// # Errors
    /// The store cannot be read.
    fn load(&self) -> BoxFuture<'_, Result<Vec<StoredKey>, StoreError>>;

    /// Stores `key` unless there is one of its algorithm, and gives the one that is stored: of two servers that
    /// start at once, both get the same.
    ///
    /// # Errors
    /// The store cannot be written.
    fn insert_if_none(&self, key: StoredKey) -> BoxFuture<'_, Result<StoredKey, StoreError>>;
}

/// Names one use of one assertion: a hash of the client and its `jti`.
///
/// The client is part of it, so two clients may use the same `jti` (RFC 7519 §4.1.7 asks for no more). 128 bits are
/// enough: two inputs with the same hash make the store refuse the second one, never accept anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReplayKey([u8; 16]);

impl ReplayKey {
    /// The key of this client's `jti`. Both are taken byte by byte; their lengths are hashed along, so that no two
    /// pairs run together.
    #[must_use]
    pub fn of(client_id: &str, jti: &str) -> Self {
        let mut hash = digest::Context::new(&digest::SHA256);
        for part in [client_id, jti] {
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        let mut key = [0; 16];
        key.copy_from_slice(&hash.finish().as_ref()[..16]);
        Self(key)
    }

    /// As an engine writes it.
    pub(crate) const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// As an engine wrote it.
    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

/// Whether a key was used for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstUse {
    /// It was, and it is on record now.
    Yes,
    /// It was used before.
    No,
}

/// A private signing key as it lies in the store.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// The key identifier in the JWKS (RFC 7517 §4.5).
    pub kid: String,
    /// The algorithm it signs with, by its JOSE name (RFC 7518 §3.1).
    pub algorithm: String,
    /// The private key, PKCS#8 in DER.
    pub pkcs8: Zeroizing<Vec<u8>>,
    /// When it was made.
    pub created: Timestamp,
}

impl fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredKey {{ kid: {:?}, algorithm: {:?}, pkcs8: [redacted] }}", self.kid, self.algorithm)
    }
}

/// Why a store could not be opened, or did not answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Too many calls wait, or the answer did not come in time, or another process holds the database.
    #[error("the store is overloaded or locked")]
    Busy,
    /// The clock stands before what was already forgotten: whether the key was used cannot be told.
    #[error("the clock went back to a time whose used assertions were already forgotten")]
    ClockBehind,
    /// What lies in the store is damaged.
    #[error("the store is damaged")]
    Corrupt(#[source] Option<Cause>),
    /// The file belongs to another program.
    #[error("{} is a database of another program", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// As many keys are held as the settings allow.
    #[error("the store holds as many used assertions as it may")]
    Full,
    /// A newer version of this program wrote the store.
    #[error("the store has format {found}; this version knows formats up to {known}")]
    Newer {
        /// Its format.
        found: u32,
        /// The newest format that is understood.
        known: u32,
    },
    /// Others than the owner may reach the private keys.
    #[error("{} has mode {mode:03o}; group and others must have no access (chmod go= {})", path.display(), path.display())]
    OpenToOthers {
        /// The file or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The store has been shut down.
    #[error("the store is shut down")]
    Stopped,
    /// Reading or writing failed.
    #[error("the store cannot be read or written")]
    Unavailable(#[source] Cause),
}

/// The error below a [`StoreError`]; shared, because everyone whose write was in one commit gets it.
pub type Cause = Arc<dyn Error + Send + Sync>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r7523_3_7c_the_key_is_client_and_jti_and_no_two_pairs_run_together() {
        let keys = [("ab", "c"), ("a", "bc"), ("", "abc"), ("abc", ""), ("c", "ab")].map(|(c, j)| ReplayKey::of(c, j));
        for (i, key) in keys.iter().enumerate() {
            assert!(!keys[..i].contains(key), "pair {i} has the key of another");
        }
        assert_eq!(ReplayKey::of("ab", "c"), keys[0]);
    }

    #[test]
    fn a_stored_key_does_not_print_its_secret() {
        let key = StoredKey {
            kid: "k1".into(),
            algorithm: "ES256".into(),
            pkcs8: Zeroizing::new(vec![17; 8]),
            created: Timestamp::from_unix(0),
        };
        assert_eq!(format!("{key:?}"), r#"StoredKey { kid: "k1", algorithm: "ES256", pkcs8: [redacted] }"#);
    }
}
