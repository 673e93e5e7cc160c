//! A store that fails or dawdles on demand, so that every flow can be tried with its store down.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use certbind_proto::time::Timestamp;
use tokio::sync::watch;

use super::audit::{Appended, AuditChain, AuditLine, AuditQuery, AuditStore, FoundLine};
use super::usage::Usage;
use super::{
    BoxFuture, Changes, ClientChange, ClientStore, Expected, FirstUse, KeyStore, Replaced, ReplayStore, Revision,
    Revisions, Revocation, RevocationStore, StoreError, StoredKey, StoredKeys, UsageStore, Use, Written,
};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Every call fails.
    Down,
    /// The answer to every call is a failure, but what was asked has been done.
    LostAnswer,
    /// The call with this number, counted from 1, fails.
    NthCall(u64),
    /// Nothing.
    None,
    /// Every call takes this much longer.
    Slow(Duration),
}

/// Wraps a store and breaks its calls.
#[derive(Debug)]
pub struct FaultyStore<S> {
    inner: S,
    fault: Mutex<Fault>,
    calls: AtomicU64,
}

impl<S> FaultyStore<S> {
    /// A store with this fault.
    pub const fn new(inner: S, fault: Fault) -> Self {
        Self { inner, fault: Mutex::new(fault), calls: AtomicU64::new(0) }
    }

    /// Changes the fault; the calls are counted on.
    pub fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    fn fault(&self) -> Fault {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn break_call<T>(&self, call: impl Future<Output = Result<T, StoreError>> + Send) -> Result<T, StoreError> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        match self.fault() {
            Fault::Down => Err(StoreError::Busy),
            Fault::LostAnswer => call.await.and(Err(StoreError::Busy)),
            Fault::NthCall(n) if n == number => Err(StoreError::Busy),
            Fault::NthCall(_) | Fault::None => call.await,
            Fault::Slow(delay) => {
                tokio::time::sleep(delay).await;
                call.await
            }
        }
    }
}

impl<S: ReplayStore> ReplayStore for FaultyStore<S> {
    fn first_use(&self, used: Use, now: Timestamp) -> BoxFuture<'_, Result<FirstUse, StoreError>> {
        Box::pin(self.break_call(async move { self.inner.first_use(used, now).await }))
    }

    fn live_entries(&self) -> u64 {
        self.inner.live_entries()
    }

    fn is_healthy(&self) -> bool {
        self.fault() != Fault::Down && self.inner.is_healthy()
    }
}

impl<S: KeyStore> KeyStore for FaultyStore<S> {
    fn load(&self) -> BoxFuture<'_, Result<StoredKeys, StoreError>> {
        Box::pin(self.break_call(async move { self.inner.load().await }))
    }

    fn replace(&self, seen: Revision, keys: Vec<StoredKey>) -> BoxFuture<'_, Result<Replaced, StoreError>> {
        Box::pin(self.break_call(async move { self.inner.replace(seen, keys).await }))
    }
}

impl<S: ClientStore> ClientStore for FaultyStore<S> {
    fn clients_since(&self, since: Revision) -> BoxFuture<'_, Result<Vec<ClientChange>, StoreError>> {
        Box::pin(self.break_call(async move { self.inner.clients_since(since).await }))
    }

    fn put_client(
        &self,
        client_id: String,
        metadata: String,
        expected: Expected,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Written, StoreError>> {
        Box::pin(self.break_call(async move { self.inner.put_client(client_id, metadata, expected, now).await }))
    }

    fn delete_client(
        &self,
        client_id: String,
        expected: Expected,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Written, StoreError>> {
        Box::pin(self.break_call(async move { self.inner.delete_client(client_id, expected, now).await }))
    }
}

impl<S: RevocationStore> RevocationStore for FaultyStore<S> {
    fn revoke(&self, revocation: Revocation, now: Timestamp) -> BoxFuture<'_, Result<Revision, StoreError>> {
        Box::pin(self.break_call(async move { self.inner.revoke(revocation, now).await }))
    }

    fn lift(&self, lifted: Revocation, now: Timestamp) -> BoxFuture<'_, Result<Option<Revision>, StoreError>> {
        Box::pin(self.break_call(async move { self.inner.lift(lifted, now).await }))
    }

    fn revocations_since(
        &self,
        since: Revision,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<(Revision, Revocation)>, StoreError>> {
        Box::pin(self.break_call(async move { self.inner.revocations_since(since, now).await }))
    }
}

impl<S: AuditStore> AuditStore for FaultyStore<S> {
    fn append_audit(&self, lines: Vec<AuditLine>) -> BoxFuture<'_, Result<Appended, StoreError>> {
        Box::pin(self.break_call(async move { self.inner.append_audit(lines).await }))
    }

    fn last_audit(&self, server: String) -> BoxFuture<'_, Result<Option<AuditLine>, StoreError>> {
        Box::pin(self.break_call(async move { self.inner.last_audit(server).await }))
    }

    fn find_audit(&self, query: AuditQuery) -> BoxFuture<'_, Result<Vec<FoundLine>, StoreError>> {
        Box::pin(self.break_call(async move { self.inner.find_audit(query).await }))
    }

    fn audit_chains(&self) -> BoxFuture<'_, Result<Vec<AuditChain>, StoreError>> {
        Box::pin(self.break_call(async move { self.inner.audit_chains().await }))
    }

    fn overdue_audit(&self, before: Timestamp) -> BoxFuture<'_, Result<Vec<AuditLine>, StoreError>> {
        Box::pin(self.break_call(async move { self.inner.overdue_audit(before).await }))
    }

    fn drop_audit(&self, chain: String, through: i64) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(self.break_call(async move { self.inner.drop_audit(chain, through).await }))
    }
}

impl<S: UsageStore> UsageStore for FaultyStore<S> {
    fn note_uses(&self, uses: Vec<Usage>, now: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.break_call(async move { self.inner.note_uses(uses, now).await }))
    }

    fn uses_of(&self, client_ids: Vec<String>) -> BoxFuture<'_, Result<Vec<Usage>, StoreError>> {
        Box::pin(self.break_call(async move { self.inner.uses_of(client_ids).await }))
    }
}

impl<S: Changes> Changes for FaultyStore<S> {
    fn changes(&self) -> watch::Receiver<Revisions> {
        self.inner.changes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ReplayKey;
    use crate::store::memory::MemoryStore;

    fn used(jti: &str, now: Timestamp) -> Use {
        Use { key: ReplayKey::of("batch", jti), issued: None, keep_until: now }
    }

    #[tokio::test]
    async fn the_nth_call_fails_and_the_others_do_not() {
        let store = FaultyStore::new(MemoryStore::new(), Fault::NthCall(2));
        let now = Timestamp::from_unix(0);
        for (jti, works) in [("a", true), ("b", false), ("b", true)] {
            assert_eq!(store.first_use(used(jti, now), now).await.is_ok(), works);
        }
        store.set(Fault::Down);
        assert!(store.load().await.is_err());
        assert_eq!(store.calls(), 4);
    }

    #[tokio::test]
    async fn a_lost_answer_leaves_the_key_used() {
        let store = FaultyStore::new(MemoryStore::new(), Fault::LostAnswer);
        let now = Timestamp::from_unix(0);
        assert!(store.first_use(used("a", now), now).await.is_err());
        store.set(Fault::None);
        assert_eq!(store.first_use(used("a", now), now).await.ok(), Some(FirstUse::No));
    }
}
