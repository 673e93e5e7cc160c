//! The store engine that forgets on exit: for tests, and for a throw-away set-up. Never a fallback.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use certbind_proto::time::Timestamp;
use tokio::sync::watch;

use super::replay_index::{Known, ReplayIndex};
use super::{
    BoxFuture, Changes, ClientChange, ClientStore, Expected, FirstUse, KeyStore, Replaced, ReplayStore, Revision,
    Revisions, Revocation, RevocationStore, Revoked, RevokedId, StoreError, StoredClient, StoredKey, StoredKeys, Use,
    Written,
};

/// Holds everything in this process.
#[derive(Debug)]
pub struct MemoryStore {
    replay: Mutex<ReplayIndex>,
    keys: Mutex<StoredKeys>,
    clients: Mutex<HashMap<String, ClientChange>>,
    revocations: Mutex<HashMap<(Revoked, RevokedId), (Revision, Revocation)>>,
    changes: watch::Sender<Revisions>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self {
            replay: Mutex::new(ReplayIndex::new()),
            keys: Mutex::default(),
            clients: Mutex::default(),
            revocations: Mutex::default(),
            changes: watch::Sender::default(),
        }
    }

    /// Counts a change up and tells it.
    fn next(&self, kind: impl Fn(&mut Revisions) -> &mut Revision) -> Revision {
        self.changes.send_modify(|revisions| *kind(revisions) += 1);
        let mut now = *self.changes.borrow();
        *kind(&mut now)
    }

    fn write_client(&self, client_id: String, metadata: Option<String>, expected: Expected, now: Timestamp) -> Written {
        let mut clients = lock(&self.clients);
        let there = match clients.get(&client_id) {
            Some(ClientChange::Written(client)) => Some((client.revision, client.created)),
            Some(ClientChange::Removed { .. }) | None => None,
        };
        let revision_there = there.map(|(revision, _)| revision);
        if !expected.holds(revision_there) {
            return Written::NotAsExpected { there: revision_there };
        }
        let revision = self.next(|revisions| &mut revisions.clients);
        let created = there.map_or(now, |(_, created)| created);
        let change = match metadata {
            Some(metadata) => {
                let client_id = client_id.clone();
                ClientChange::Written(StoredClient { client_id, metadata, revision, created, updated: now })
            }
            None => ClientChange::Removed { client_id: client_id.clone(), revision },
        };
        clients.insert(client_id, change);
        Written::Done(revision)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl ReplayStore for MemoryStore {
    fn first_use(&self, used: Use, now: Timestamp) -> BoxFuture<'_, Result<FirstUse, StoreError>> {
        Box::pin(async move {
            let Use { key, keep_until, .. } = used;
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
    fn load(&self) -> BoxFuture<'_, Result<StoredKeys, StoreError>> {
        Box::pin(async move { Ok(lock(&self.keys).clone()) })
    }

    fn replace(&self, seen: Revision, keys: Vec<StoredKey>) -> BoxFuture<'_, Result<Replaced, StoreError>> {
        Box::pin(async move {
            let mut stored = lock(&self.keys);
            if stored.revision != seen {
                return Ok(Replaced::Outdated);
            }
            let revision = self.next(|revisions| &mut revisions.keys);
            *stored = StoredKeys { revision, keys };
            Ok(Replaced::Yes(revision))
        })
    }
}

impl ClientStore for MemoryStore {
    fn clients_since(&self, since: Revision) -> BoxFuture<'_, Result<Vec<ClientChange>, StoreError>> {
        Box::pin(async move {
            let clients = lock(&self.clients);
            let mut changes: Vec<_> = clients.values().filter(|change| change.revision() > since).cloned().collect();
            changes.sort_by_key(ClientChange::revision);
            Ok(changes)
        })
    }

    fn put_client(
        &self,
        client_id: String,
        metadata: String,
        expected: Expected,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Written, StoreError>> {
        Box::pin(async move { Ok(self.write_client(client_id, Some(metadata), expected, now)) })
    }

    fn delete_client(
        &self,
        client_id: String,
        expected: Expected,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Written, StoreError>> {
        Box::pin(async move { Ok(self.write_client(client_id, None, expected, now)) })
    }
}

impl RevocationStore for MemoryStore {
    fn revoke(&self, revocation: Revocation, now: Timestamp) -> BoxFuture<'_, Result<Revision, StoreError>> {
        Box::pin(async move {
            let mut revocations = lock(&self.revocations);
            revocations.retain(|_, (_, held)| now <= held.keep_until);
            let key = (revocation.what, revocation.id);
            let merged = revocations.get(&key).map_or(revocation, |(_, held)| held.merged(&revocation));
            let revision = self.next(|revisions| &mut revisions.revocations);
            revocations.insert(key, (revision, merged));
            Ok(revision)
        })
    }

    fn revocations_since(
        &self,
        since: Revision,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<(Revision, Revocation)>, StoreError>> {
        Box::pin(async move {
            let revocations = lock(&self.revocations);
            let is_told = |(revision, held): &&(Revision, Revocation)| *revision > since && now <= held.keep_until;
            let mut found: Vec<_> = revocations.values().filter(is_told).copied().collect();
            found.sort_by_key(|(revision, _)| *revision);
            Ok(found)
        })
    }
}

impl Changes for MemoryStore {
    fn changes(&self) -> watch::Receiver<Revisions> {
        self.changes.subscribe()
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
        conformance::clients(&|| Arc::new(MemoryStore::new()));
        conformance::revocations(&|| Arc::new(MemoryStore::new()));
    }
}
