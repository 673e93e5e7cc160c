//! The store engine that forgets on exit: for tests, and for a throw-away set-up. Never a fallback.

use std::sync::{Mutex, MutexGuard, PoisonError};

use certbind_proto::time::Timestamp;

use super::replay_index::{Known, ReplayIndex};
use super::{BoxFuture, FirstUse, KeyStore, ReplayKey, ReplayStore, StoreError, StoredKey};

/// Holds everything in this process.
#[derive(Debug)]
pub struct MemoryStore {
    replay: Mutex<ReplayIndex>,
    keys: Mutex<Vec<StoredKey>>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self { replay: Mutex::new(ReplayIndex::new()), keys: Mutex::new(Vec::new()) }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl ReplayStore for MemoryStore {
    fn first_use(
        &self,
        key: ReplayKey,
        keep_until: Timestamp,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<FirstUse, StoreError>> {
        Box::pin(async move {
            let mut index = lock(&self.replay);
            index.sweep(1, now);
            match index.look(&key, keep_until, now) {
                Known::Used => Ok(FirstUse::No),
                Known::Forgotten => Err(StoreError::ClockBehind),
                Known::Fresh => {
                    index.insert(key, keep_until);
                    Ok(FirstUse::Yes)
                }
            }
        })
    }

    fn live_entries(&self) -> u64 {
        lock(&self.replay).held() as u64
    }

    fn is_healthy(&self) -> bool {
        true
    }
}

impl KeyStore for MemoryStore {
    fn load(&self) -> BoxFuture<'_, Result<Vec<StoredKey>, StoreError>> {
        Box::pin(async move { Ok(lock(&self.keys).clone()) })
    }

    fn insert_if_none(&self, key: StoredKey) -> BoxFuture<'_, Result<StoredKey, StoreError>> {
        Box::pin(async move {
            let mut keys = lock(&self.keys);
            if let Some(stored) = keys.iter().find(|stored| stored.algorithm == key.algorithm) {
                return Ok(stored.clone());
            }
            keys.push(key.clone());
            Ok(key)
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::conformance;

    #[test]
    fn the_memory_store_conforms() {
        conformance::replay(&|| Arc::new(MemoryStore::new()));
        conformance::keys(&|| Arc::new(MemoryStore::new()));
    }
}
