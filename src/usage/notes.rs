//! Uses in memory, until they are written down: a request touches one of several maps for a moment, and their size is bounded.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::Timestamp;

use crate::store::usage::{Credential, KEPT, Kind, Usage};

/// How many maps there are: requests of two clients seldom meet at one.
const SHARDS: usize = 16;

/// How many credentials a map may hold; about half a kilobyte each.
const MOST: usize = 8192;

/// Uses by client.
#[derive(Default)]
pub(super) struct Notes {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    is_told: AtomicBool,
}

#[derive(Default)]
struct Shard {
    clients: HashMap<String, Vec<Usage>>,
    held: usize,
}

impl Notes {
    /// Notes a use. What the credential is like is asked for only when it is a new one.
    pub(super) fn note(
        &self,
        client_id: &str,
        id: (Kind, &Thumbprint),
        now: Timestamp,
        credential: impl FnOnce() -> Credential,
    ) {
        if self.shard(client_id).note(client_id, id, now, credential) == Room::None
            && !self.is_told.swap(true, Ordering::Relaxed)
        {
            tracing::warn!("more credentials are in use than are noted; of some the last use is not known");
        }
    }

    /// What is noted of a client.
    pub(super) fn of(&self, client_id: &str) -> Vec<Usage> {
        self.shard(client_id).clients.get(client_id).cloned().unwrap_or_default()
    }

    /// Everything that is noted.
    pub(super) fn all(&self) -> Vec<Usage> {
        self.shards
            .iter()
            .flat_map(|shard| lock(shard).clients.values().flatten().cloned().collect::<Vec<_>>())
            .collect()
    }

    /// Forgets what has not been used since.
    pub(super) fn forget(&self, written: &[Usage]) {
        for usage in written {
            self.shard(&usage.client_id).forget(usage);
        }
        self.is_told.store(false, Ordering::Relaxed);
    }

    fn shard(&self, client_id: &str) -> MutexGuard<'_, Shard> {
        let at = usize::try_from(self.hasher.hash_one(client_id) % SHARDS as u64).unwrap_or_default();
        lock(&self.shards[at])
    }
}

/// Whether there was room for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Some,
    None,
}

impl Shard {
    fn note(
        &mut self,
        client_id: &str,
        id: (Kind, &Thumbprint),
        now: Timestamp,
        credential: impl FnOnce() -> Credential,
    ) -> Room {
        if let Some(known) = self.clients.get_mut(client_id) {
            if let Some(known) = known.iter_mut().find(|known| known.credential.id() == id) {
                known.last_used = known.last_used.max(now);
                return Room::Some;
            }
            // A client with a new certificate for each request must not fill the memory.
            if known.len() >= KEPT
                && let Some(oldest) = known.iter_mut().min_by_key(|known| known.last_used)
            {
                *oldest = Usage { client_id: client_id.to_owned(), credential: credential(), last_used: now };
                return Room::Some;
            }
        }
        if self.held >= MOST {
            return Room::None;
        }
        self.held += 1;
        let usage = Usage { client_id: client_id.to_owned(), credential: credential(), last_used: now };
        self.clients.entry(client_id.to_owned()).or_default().push(usage);
        Room::Some
    }

    fn forget(&mut self, written: &Usage) {
        let Some(known) = self.clients.get_mut(&written.client_id) else { return };
        let before = known.len();
        known.retain(|known| known.credential.id() != written.credential.id() || known.last_used > written.last_used);
        self.held -= before - known.len();
        if known.is_empty() {
            self.clients.remove(&written.client_id);
        }
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(notes: &Notes, client_id: &str, n: usize, seconds: i64) {
        let thumbprint = Thumbprint::of_der(&n.to_le_bytes());
        let credential = || Credential::Key { thumbprint, kid: None };
        notes.note(client_id, (Kind::Key, &thumbprint), Timestamp::from_unix(seconds), credential);
    }

    fn held(notes: &Notes) -> usize {
        let held: usize = notes.shards.iter().map(|shard| lock(shard).held).sum();
        assert_eq!(held, notes.all().len(), "what is counted is what is there");
        held
    }

    #[test]
    fn fault_22_the_memory_is_bounded_for_one_client_and_for_all() {
        let notes = Notes::default();
        for n in 0..KEPT * 3 {
            note(&notes, "billing", n, n as i64);
        }
        assert_eq!(held(&notes), KEPT);
        let oldest = notes.of("billing").iter().map(|usage| usage.last_used.unix()).min();
        assert_eq!(oldest, Some(KEPT as i64 * 2), "the newest stay");
        for n in 0..SHARDS * MOST * 3 / 2 {
            note(&notes, &n.to_string(), 0, 0);
        }
        assert_eq!(held(&notes), SHARDS * MOST);
        assert!(notes.is_told.load(Ordering::Relaxed));
        notes.forget(&notes.all());
        assert_eq!(held(&notes), 0);
        assert!(notes.shards.iter().all(|shard| lock(shard).clients.is_empty()));
    }

    #[test]
    fn what_was_used_again_while_it_was_written_is_not_forgotten() {
        let notes = Notes::default();
        note(&notes, "billing", 1, 10);
        note(&notes, "billing", 2, 10);
        let written = notes.all();
        note(&notes, "billing", 2, 20);
        note(&notes, "billing", 2, 15);
        notes.forget(&written);
        let left: Vec<_> = notes.of("billing").iter().map(|usage| usage.last_used.unix()).collect();
        assert_eq!((left, held(&notes)), (vec![20], 1));
    }
}
