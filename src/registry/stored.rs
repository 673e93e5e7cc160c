//! Clients from a store, all of them in memory: a change on one server is in force on every other within a second.
//!
//! While the store is away what was read last stays in force. A registration that the rules of this server refuse is
//! known but not in force: it gives no tokens, and stops nobody else's.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use certbind_proto::client::{Client, RegistrationRules};
use certbind_proto::json;
use certbind_proto::time::{Clock, Timestamp};
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::fault::Complaint;
use super::parted::PartedMap;
use super::{Change, Registry, Snapshot, document};
use crate::store::{Changes, ClientChange, ClientStore, Revision, StoreError, StoredClient, is_copy};

/// How long to wait before a store that failed is asked again.
const RETRY: Duration = Duration::from_millis(500);

/// A store remembers for a few days who was removed. Who has not asked for so long reads everything.
const TRUSTED: Duration = Duration::from_secs(86_400);

/// The clients of a store.
#[derive(Clone, Debug)]
pub struct StoredRegistry {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    held: ArcSwap<Held>,
    /// Taken while `held` is exchanged, so that no exchange is lost.
    rules: Mutex<RegistrationRules>,
    in_force: watch::Sender<Revision>,
}

/// The registrations of a store as they were after one change.
#[derive(Clone, Debug, Default)]
pub struct Held {
    revision: Revision,
    records: PartedMap<Arc<Record>>,
    /// How many are refused.
    faulty: usize,
}

/// One registration.
#[derive(Debug)]
pub struct Record {
    /// As it lies in the store.
    pub stored: StoredClient,
    /// The client, or what the rules of this server have against it.
    pub client: Result<Arc<Client>, Vec<Complaint>>,
}

/// What came of a look at the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What is in force from now on, sorted.
    pub changes: Vec<Change>,
    /// Which registrations are refused that were not before, or for something else, by their identifier.
    pub refused: Vec<(String, Vec<Complaint>)>,
    /// How many are refused now, told or not.
    pub faulty: usize,
    /// How many there are now.
    pub clients: usize,
}

/// Follows a store until it is dropped.
#[must_use = "dropping it ends the watch"]
#[derive(Debug)]
pub struct Follow(JoinHandle<()>);

impl Drop for Follow {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl StoredRegistry {
    /// Reads the store.
    ///
    /// # Errors
    /// The store cannot be read. A server that starts without its clients would refuse them without a word.
    pub async fn load(
        store: &(impl ClientStore + ?Sized),
        rules: RegistrationRules,
    ) -> Result<(Self, Report), StoreError> {
        let changes = store.clients_since(0).await?;
        let shared = Shared { held: ArcSwap::default(), rules: Mutex::new(rules), in_force: watch::Sender::default() };
        let report = shared.take(Reading { changes, since: 0, known: 0 });
        Ok((Self { shared: Arc::new(shared) }, report))
    }

    /// Checks every registration again, by new rules.
    #[must_use]
    pub fn reload(&self, rules: RegistrationRules) -> Report {
        self.shared.apply_rules(rules)
    }

    /// Follows the store, and tells `listener` what is new. Must be called from within a tokio runtime.
    pub fn follow<S: ClientStore + Changes + ?Sized + 'static>(
        &self,
        store: Arc<S>,
        clock: Arc<dyn Clock>,
        listener: impl Fn(&Report) + Send + Sync + 'static,
    ) -> Follow {
        let (shared, read) = (Arc::clone(&self.shared), clock.now());
        let follower = Follower { shared, store, clock, read, listener: Arc::new(listener) };
        Follow(tokio::spawn(follower.run()))
    }

    /// The rules in force.
    #[must_use]
    pub fn rules(&self) -> RegistrationRules {
        self.shared.rules().clone()
    }

    /// The registrations at this moment.
    #[must_use]
    pub fn held(&self) -> Arc<Held> {
        self.shared.held.load_full()
    }

    /// A registration of the store, checked by the rules in force.
    #[must_use]
    pub fn record(&self, stored: StoredClient) -> Record {
        Record::new(stored, &self.shared.rules())
    }

    /// Waits until this change is in force, at most so long; says whether it is.
    pub async fn until(&self, revision: Revision, patience: Duration) -> bool {
        let mut in_force = self.shared.in_force.subscribe();
        tokio::time::timeout(patience, in_force.wait_for(|reached| *reached >= revision)).await.is_ok()
    }
}

impl Registry for StoredRegistry {
    fn find(&self, client_id: &str) -> Option<Arc<Client>> {
        self.shared.held.load().records.get(client_id)?.client.as_ref().ok().cloned()
    }

    fn all(&self) -> Arc<Snapshot> {
        Arc::new(self.held().iter().filter_map(|record| record.client.as_ref().ok().cloned()).collect())
    }
}

impl Held {
    /// The registration with this identifier, whether or not it is in force.
    #[must_use]
    pub fn get(&self, client_id: &str) -> Option<&Arc<Record>> {
        self.records.get(client_id)
    }

    /// Every registration, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.records.values()
    }

    /// The change after which it was so.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    fn put(&mut self, record: Arc<Record>) {
        self.faulty += usize::from(record.client.is_err());
        let replaced = self.records.insert(record.stored.client_id.as_str().into(), record);
        self.forget(replaced.as_deref());
    }

    fn remove(&mut self, client_id: &str) {
        let removed = self.records.remove(client_id);
        self.forget(removed.as_deref());
    }

    fn forget(&mut self, record: Option<&Record>) {
        self.faulty -= usize::from(record.is_some_and(|record| record.client.is_err()));
    }
}

impl Record {
    fn new(stored: StoredClient, rules: &RegistrationRules) -> Self {
        let client = document_of(&stored).and_then(|document| {
            let registered = document::register(&document, rules)?;
            if registered.client.client_id == stored.client_id { Ok(registered.client) } else { Err(unreadable()) }
        });
        Self { stored, client }
    }

    /// The registration as JSON; empty when it cannot be read.
    #[must_use]
    pub fn document(&self) -> Map<String, Value> {
        document_of(&self.stored).unwrap_or_default()
    }

    fn complaints(&self) -> &[Complaint] {
        self.client.as_ref().err().map_or(&[], Vec::as_slice)
    }
}

fn document_of(stored: &StoredClient) -> Result<Map<String, Value>, Vec<Complaint>> {
    json::parse_object(stored.metadata.as_bytes()).map_err(|_| unreadable())
}

fn unreadable() -> Vec<Complaint> {
    vec![Complaint::NotADocument]
}

/// What a store said.
struct Reading {
    changes: Vec<ClientChange>,
    /// It says what happened after this change; after 0 it says everything.
    since: Revision,
    /// How far the store was at least.
    known: Revision,
}

impl Shared {
    fn rules(&self) -> MutexGuard<'_, RegistrationRules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts in force what was read.
    fn take(&self, reading: Reading) -> Report {
        let rules = self.rules();
        let before = self.held.load_full();
        let mut now = if reading.since == 0 { Held::default() } else { Held::clone(&before) };
        now.revision = now.revision.max(reading.known);
        for change in reading.changes {
            now.revision = now.revision.max(change.revision());
            match change {
                ClientChange::Written(stored) => {
                    let unchanged = before.get(&stored.client_id).filter(|record| record.stored == stored).cloned();
                    let record = unchanged.unwrap_or_else(|| Arc::new(Record::new(stored, &rules)));
                    now.put(record);
                }
                ClientChange::Removed { client_id, .. } => now.remove(&client_id),
            }
        }
        self.exchange(&before, now)
    }

    fn apply_rules(&self, rules: RegistrationRules) -> Report {
        let mut held = self.rules();
        *held = rules;
        let before = self.held.load_full();
        let mut now = Held { revision: before.revision, ..Held::default() };
        before.iter().for_each(|record| now.put(Arc::new(Record::new(record.stored.clone(), &held))));
        self.exchange(&before, now)
    }

    /// Only while `rules` is held.
    fn exchange(&self, before: &Held, now: Held) -> Report {
        let report = Report::of(before, &now);
        let revision = now.revision;
        self.held.store(Arc::new(now));
        self.in_force.send_replace(revision);
        report
    }
}

impl Report {
    /// Whether there is anything to tell.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.refused.is_empty()
    }

    fn of(before: &Held, now: &Held) -> Self {
        let mut report = Self { clients: now.records.len(), faulty: now.faulty, ..Self::default() };
        for (client_id, record) in now.records.unlike(&before.records) {
            let old = before.records.get(client_id);
            if old.is_some_and(|old| Arc::ptr_eq(old, record)) {
                continue;
            }
            let was_in_force = old.is_some_and(|old| old.client.is_ok());
            let client_id = client_id.to_string();
            match (&record.client, was_in_force) {
                (Ok(_), false) => report.changes.push(Change::Added(client_id)),
                (Ok(_), true) if old.is_some_and(|old| old.stored == record.stored) => {}
                (Ok(_), true) => report.changes.push(Change::Changed(client_id)),
                (Err(complaints), _) => {
                    if old.is_none_or(|old| old.complaints() != complaints.as_slice()) {
                        report.refused.push((client_id.clone(), complaints.clone()));
                    }
                    report.changes.extend(was_in_force.then_some(Change::Removed(client_id)));
                }
            }
        }
        let others = before.records.unlike(&now.records);
        let gone = others.filter(|(id, record)| record.client.is_ok() && now.records.get(id).is_none());
        report.changes.extend(gone.map(|(client_id, _)| Change::Removed(client_id.to_string())));
        report.changes.sort();
        report.refused.sort_by(|(a, _), (b, _)| a.cmp(b));
        report
    }
}

struct Follower<S: ?Sized> {
    shared: Arc<Shared>,
    store: Arc<S>,
    clock: Arc<dyn Clock>,
    /// When the store was last read.
    read: Timestamp,
    listener: Arc<dyn Fn(&Report) + Send + Sync>,
}

impl<S: ClientStore + Changes + ?Sized + 'static> Follower<S> {
    async fn run(mut self) {
        let mut changes = self.store.changes();
        loop {
            let known = changes.borrow_and_update().clients;
            if known != self.shared.held.load().revision {
                let now = self.clock.now();
                if !self.read(known, now).await {
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
                self.read = now;
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Reads what is new, or everything when that cannot be told; says whether it could be read.
    async fn read(&self, known: Revision, now: Timestamp) -> bool {
        let held = self.shared.held.load().revision;
        // A store that is behind lost changes: a copy took its place.
        let is_behind = known < held || is_copy(held, known);
        let since = if is_behind || now.since(self.read) > TRUSTED || now < self.read { 0 } else { held };
        let changes = match self.store.clients_since(since).await {
            Ok(changes) => changes,
            Err(error) => {
                tracing::warn!(%error, "clients cannot be read; those that were read last stay in force");
                return false;
            }
        };
        let (shared, listener) = (Arc::clone(&self.shared), Arc::clone(&self.listener));
        // To check many registrations takes a while, and requests must not wait for it.
        let told = tokio::task::spawn_blocking(move || {
            let report = shared.take(Reading { changes, since, known });
            if !report.is_empty() {
                listener(&report);
            }
        });
        told.await.is_ok()
    }
}
