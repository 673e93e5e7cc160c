//! The store engine that forgets on exit: for tests, and for a throw-away set-up. Never a fallback.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use certbind_proto::time::Timestamp;
use tokio::sync::watch;

use super::audit::{self, Appended, AuditChain, AuditLine, AuditOrder, AuditQuery, AuditStore, FoundLine};
use super::replay_index::{Known, ReplayIndex};
use super::usage::{KEPT, KEPT_FOR, Usage};
use super::{
    BoxFuture, Changes, ClientChange, ClientStore, Expected, FirstUse, KeyStore, Replaced, ReplayStore, Revision,
    Revisions, Revocation, RevocationStore, Revoked, RevokedId, StoreError, StoredClient, StoredKey, StoredKeys,
    UsageStore, Use, Written,
};

/// Holds everything in this process.
#[derive(Debug)]
pub struct MemoryStore {
    replay: Mutex<ReplayIndex>,
    keys: Mutex<StoredKeys>,
    clients: Mutex<HashMap<String, ClientChange>>,
    revocations: Mutex<HashMap<(Revoked, RevokedId), (Revision, Revocation)>>,
    audit: Mutex<Vec<FoundLine>>,
    usage: Mutex<HashMap<String, Vec<Usage>>>,
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
            audit: Mutex::default(),
            usage: Mutex::default(),
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
            None => {
                lock(&self.usage).remove(&client_id);
                ClientChange::Removed { client_id: client_id.clone(), revision }
            }
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

    fn lift(&self, lifted: Revocation, now: Timestamp) -> BoxFuture<'_, Result<Option<Revision>, StoreError>> {
        Box::pin(async move {
            let mut revocations = lock(&self.revocations);
            let key = (lifted.what, lifted.id);
            let is_there = revocations.get(&key).is_some_and(|(_, held)| held.is_lifted_by(&lifted, now));
            if !is_there {
                return Ok(None);
            }
            let revision = self.next(|revisions| &mut revisions.revocations);
            revocations.insert(key, (revision, lifted));
            Ok(Some(revision))
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

impl AuditStore for MemoryStore {
    fn append_audit(&self, lines: Vec<AuditLine>) -> BoxFuture<'_, Result<Appended, StoreError>> {
        Box::pin(async move {
            let mut held = lock(&self.audit);
            let is_taken = |line: &AuditLine| held.iter().any(|there| is_same_place(&there.line, line));
            if lines.iter().any(is_taken) {
                return Ok(Appended::Taken);
            }
            let first = held.last().map_or(1, |last| last.id + 1);
            held.extend((first..).zip(lines).map(|(id, line)| FoundLine { id, line }));
            Ok(Appended::Done)
        })
    }

    fn last_audit(&self, server: String) -> BoxFuture<'_, Result<Option<AuditLine>, StoreError>> {
        Box::pin(async move {
            let held = lock(&self.audit);
            Ok(held.iter().rev().map(|found| &found.line).find(|line| line.server == server).cloned())
        })
    }

    fn find_audit(&self, query: AuditQuery) -> BoxFuture<'_, Result<Vec<FoundLine>, StoreError>> {
        Box::pin(async move {
            let held = lock(&self.audit);
            let fits = |found: &&FoundLine| fits(&query, found);
            Ok(match query.order {
                AuditOrder::OldestFirst => held.iter().filter(fits).take(query.limit).cloned().collect(),
                AuditOrder::NewestFirst => held.iter().rev().filter(fits).take(query.limit).cloned().collect(),
            })
        })
    }

    fn audit_chains(&self) -> BoxFuture<'_, Result<Vec<AuditChain>, StoreError>> {
        Box::pin(async move { Ok(chains(&lock(&self.audit))) })
    }

    fn overdue_audit(&self, before: Timestamp) -> BoxFuture<'_, Result<Vec<AuditLine>, StoreError>> {
        Box::pin(async move {
            let held = lock(&self.audit);
            let overdue = chains(&held).into_iter().filter_map(|AuditChain { chain, .. }| {
                let of_chain = || held.iter().map(|found| &found.line).filter(|line| line.chain == chain);
                let oldest = of_chain().take(audit::MAX_DROPPED as usize).map(|line| (line.seq, line.at));
                let through = audit::overdue_through(oldest, before)?;
                of_chain().find(|line| line.seq == through).cloned()
            });
            Ok(overdue.collect())
        })
    }

    fn drop_audit(&self, chain: String, through: i64) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move {
            let mut held = lock(&self.audit);
            let before = held.len();
            held.retain(|found| found.line.chain != chain || found.line.seq > through);
            Ok((before - held.len()) as u64)
        })
    }
}

impl UsageStore for MemoryStore {
    fn note_uses(&self, uses: Vec<Usage>, now: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut held = lock(&self.usage);
            for usage in uses {
                let of_client = held.entry(usage.client_id.clone()).or_default();
                match of_client.iter_mut().find(|known| known.credential.id() == usage.credential.id()) {
                    Some(known) => {
                        let last_used = known.last_used.max(usage.last_used);
                        *known = Usage { last_used, ..usage };
                    }
                    None => of_client.push(usage),
                }
                of_client.sort_by_key(|usage| Reverse(usage.last_used));
                of_client.truncate(KEPT);
            }
            held.values_mut().for_each(|uses| uses.retain(|usage| usage.last_used >= now.minus(KEPT_FOR)));
            held.retain(|_, uses| !uses.is_empty());
            Ok(())
        })
    }

    fn uses_of(&self, client_ids: Vec<String>) -> BoxFuture<'_, Result<Vec<Usage>, StoreError>> {
        Box::pin(async move {
            let held = lock(&self.usage);
            Ok(client_ids.iter().filter_map(|client_id| held.get(client_id)).flatten().cloned().collect())
        })
    }
}

fn is_same_place(one: &AuditLine, other: &AuditLine) -> bool {
    (&one.chain, one.seq) == (&other.chain, other.seq)
}

fn fits(query: &AuditQuery, FoundLine { id, line }: &FoundLine) -> bool {
    let is_behind = |after: i64| if query.order == AuditOrder::OldestFirst { *id > after } else { *id < after };
    query.server.as_ref().is_none_or(|server| *server == line.server)
        && query.chain.as_ref().is_none_or(|chain| *chain == line.chain)
        && query.members.iter().zip(&line.members).all(|(wanted, found)| wanted.is_none() || wanted == found)
        && query.since.is_none_or(|since| line.at >= since)
        && query.until.is_none_or(|until| line.at < until)
        && query.after.is_none_or(is_behind)
}

fn chains(held: &[FoundLine]) -> Vec<AuditChain> {
    let mut chains: Vec<AuditChain> = Vec::new();
    for FoundLine { line, .. } in held {
        if !chains.iter().any(|known| known.chain == line.chain) {
            chains.push(AuditChain { server: line.server.clone(), chain: line.chain.clone() });
        }
    }
    chains
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
        conformance::audit(&|| Arc::new(MemoryStore::new()));
        conformance::usage(&|| Arc::new(MemoryStore::new()));
    }
}
