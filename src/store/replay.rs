//! Used assertions (RFC 7523 §3): what an engine is asked, and what it answers.

use aws_lc_rs::digest;
use certbind_proto::time::Timestamp;

use super::{BoxFuture, StoreError};

/// Remembers which assertions were used (RFC 7523 §3, point 7; OpenID Connect Core §9).
pub trait ReplayStore: Send + Sync {
    /// Records the use until `keep_until` inclusive, durably, and says whether it was the first one of its key.
    ///
    /// While a key is live, one call in all gets [`FirstUse::Yes`], however many ask at once, in however many
    /// processes, and also over a crash. A key may be used again when `now` is after `keep_until`.
    ///
    /// # Errors
    /// The store cannot tell or cannot write: nothing may be issued.
    fn first_use(&self, used: Use, now: Timestamp) -> BoxFuture<'_, Result<FirstUse, StoreError>>;

    /// How many keys are held now. Costs nothing; for the metric.
    fn live_entries(&self) -> u64;

    /// Whether the last write succeeded. Costs nothing; for readiness.
    fn is_healthy(&self) -> bool;
}

/// One use of an assertion whose every check has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// Which assertion of which client.
    pub key: ReplayKey,
    /// Its `iat`, when it has one. An engine that may have lost uses refuses what was issued before the loss.
    pub issued: Option<Timestamp>,
    /// Until when this very assertion would pass again.
    pub keep_until: Timestamp,
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
}
