//! A store of clients, changed as administrators and other servers change it.

use std::sync::mpsc::{self, Receiver};

use certbind_proto::client::{LegacyAudience, State};
use certbind_proto::jws::Algorithms;
use certbind_proto::time::FixedClock;
use serde_json::json;

use super::super::file::{self, FileRegistry};
use super::super::{Clients, Registry as _};
use super::*;
use crate::store::faulty::{Fault, FaultyStore};
use crate::store::memory::MemoryStore;
use crate::store::{BoxFuture, Expected, Revisions, Written};

const NOW: Timestamp = Timestamp::from_unix(1_795_375_800);

/// The bound of the promise, with room for a machine that is busy.
const SOON: Duration = Duration::from_secs(5);

fn rules(trust: &str) -> RegistrationRules {
    RegistrationRules {
        algorithms: Algorithms::DEFAULT,
        legacy_audience: LegacyAudience::Permitted,
        trust_groups: vec![trust.to_owned()],
    }
}

fn metadata(client_id: &str, scope: &str) -> Value {
    json!({
        "client_id": client_id,
        "token_endpoint_auth_method": "tls_client_auth",
        "tls_client_auth_san_dns": format!("{client_id}.example.com"),
        "scope": scope,
        "certbind": { "trust": "corp", "audiences": ["https://api.example.com"] },
    })
}

async fn put(store: &impl ClientStore, client_id: &str, metadata: &Value, expected: Expected) -> Revision {
    let written = store.put_client(client_id.to_owned(), metadata.to_string(), expected, NOW).await.unwrap();
    let Written::Done(revision) = written else { panic!("{written:?}") };
    revision
}

async fn load(store: &impl ClientStore) -> (StoredRegistry, Report) {
    StoredRegistry::load(store, rules("corp")).await.unwrap()
}

/// Follows, and gives what is told.
fn follow<S: ClientStore + Changes + 'static>(registry: &StoredRegistry, store: &Arc<S>) -> (Follow, Receiver<Report>) {
    let (told, reports) = mpsc::channel();
    let listener = move |report: &Report| drop(told.send(report.clone()));
    (registry.follow(Arc::clone(store), Arc::new(FixedClock::at(NOW)), listener), reports)
}

fn scope_of(registry: &StoredRegistry, client_id: &str) -> Option<String> {
    registry.find(client_id).map(|client| client.scope.to_string())
}

#[tokio::test]
async fn a_store_gives_its_clients() {
    let store = MemoryStore::new();
    let revision = put(&store, "billing", &metadata("billing", "a"), Expected::Absent).await;
    let (registry, report) = load(&store).await;
    assert_eq!(report.changes, [Change::Added("billing".into())]);
    assert_eq!((report.clients, report.faulty), (1, 0));
    assert_eq!(scope_of(&registry, "billing").as_deref(), Some("a"));
    assert!(registry.find("Billing").is_none(), "compared byte by byte");
    let held = registry.held();
    assert_eq!((held.revision(), held.get("billing").unwrap().stored.revision), (revision, revision));
    assert_eq!(registry.all().len(), 1);
}

#[tokio::test]
async fn p4_what_changes_in_the_store_is_in_force_and_told_once() {
    let store = Arc::new(MemoryStore::new());
    let (registry, _) = load(&*store).await;
    let (_follow, reports) = follow(&registry, &store);
    let told = |reports: &Receiver<Report>| reports.try_iter().flat_map(|report| report.changes).collect::<Vec<_>>();

    let revision = put(&*store, "billing", &metadata("billing", "a"), Expected::Absent).await;
    assert!(registry.until(revision, SOON).await);
    assert_eq!(scope_of(&registry, "billing").as_deref(), Some("a"));

    let revision = put(&*store, "billing", &metadata("billing", "b"), Expected::Revision(revision)).await;
    assert!(registry.until(revision, SOON).await);
    assert_eq!(scope_of(&registry, "billing").as_deref(), Some("b"));

    let mut disabled = metadata("billing", "b");
    disabled["certbind"]["state"] = "disabled".into();
    let revision = put(&*store, "billing", &disabled, Expected::Present).await;
    assert!(registry.until(revision, SOON).await);
    assert_eq!(registry.find("billing").unwrap().state, State::Disabled);

    store.delete_client("billing".into(), Expected::Present, NOW).await.unwrap();
    assert!(registry.until(revision + 1, SOON).await);
    assert!(registry.find("billing").is_none());
    tokio::time::sleep(Duration::from_millis(20)).await;
    let name = || "billing".to_owned();
    assert_eq!(
        told(&reports),
        [Change::Added(name()), Change::Changed(name()), Change::Changed(name()), Change::Removed(name())]
    );
}

#[tokio::test]
async fn a_registration_that_the_rules_refuse_is_not_in_force_and_stops_no_other() {
    let store = Arc::new(MemoryStore::new());
    let mut bad = metadata("bad", "a");
    bad["certbind"]["trust"] = "gone".into();
    put(&*store, "bad", &bad, Expected::Absent).await;
    put(&*store, "good", &metadata("good", "a"), Expected::Absent).await;
    put(&*store, "newer", &json!({ "client_id": "newer", "of_a_later_version": 1 }), Expected::Absent).await;
    store.put_client("torn".into(), "{".into(), Expected::Absent, NOW).await.unwrap();
    put(&*store, "other", &metadata("good", "a"), Expected::Absent).await;
    let (registry, report) = load(&*store).await;
    let refused: Vec<&str> = report.refused.iter().map(|(client_id, _)| client_id.as_str()).collect();
    assert_eq!(refused, ["bad", "newer", "other", "torn"]);
    assert_eq!((report.clients, report.faulty), (5, 4));
    assert!(registry.find("good").is_some());
    for client_id in refused {
        assert!(registry.find(client_id).is_none(), "{client_id}");
        assert!(registry.held().get(client_id).is_some_and(|record| record.client.is_err()), "{client_id}");
    }
}

#[tokio::test]
async fn other_rules_are_in_force_for_what_is_there() {
    let store = MemoryStore::new();
    put(&store, "billing", &metadata("billing", "a"), Expected::Absent).await;
    let (registry, _) = load(&store).await;
    let report = registry.reload(rules("other"));
    assert_eq!((report.changes, report.faulty), (vec![Change::Removed("billing".into())], 1));
    assert!(registry.find("billing").is_none());
    assert!(registry.reload(rules("other")).is_empty(), "told once");
    assert_eq!(registry.reload(rules("corp")).changes, [Change::Added("billing".into())]);
    assert!(registry.reload(rules("corp")).is_empty(), "the same client under the same rules is no change");
}

#[tokio::test]
async fn p3_while_the_store_is_away_what_was_read_stays_and_then_it_catches_up() {
    let store = Arc::new(FaultyStore::new(MemoryStore::new(), Fault::None));
    put(&*store, "billing", &metadata("billing", "a"), Expected::Absent).await;
    let (registry, _) = load(&*store).await;
    let (_follow, _reports) = follow(&registry, &store);
    store.set(Fault::LostAnswer);
    let lost = store.put_client("billing".into(), metadata("billing", "b").to_string(), Expected::Present, NOW).await;
    assert!(lost.is_err());
    assert!(!registry.until(2, Duration::from_millis(50)).await);
    assert_eq!(scope_of(&registry, "billing").as_deref(), Some("a"));
    store.set(Fault::None);
    assert!(registry.until(2, SOON).await);
    assert_eq!(scope_of(&registry, "billing").as_deref(), Some("b"));
}

#[tokio::test]
async fn p3_a_store_that_cannot_be_read_at_the_start_is_no_empty_store() {
    let store = FaultyStore::new(MemoryStore::new(), Fault::Down);
    assert!(StoredRegistry::load(&store, rules("corp")).await.is_err());
}

/// A store that another took the place of: a copy that is behind, or one that forgot who was removed.
struct Replaced {
    store: MemoryStore,
    changes: watch::Sender<Revisions>,
}

impl ClientStore for Replaced {
    fn clients_since(&self, since: Revision) -> BoxFuture<'_, Result<Vec<ClientChange>, StoreError>> {
        self.store.clients_since(since)
    }

    fn put_client(
        &self,
        client_id: String,
        metadata: String,
        expected: Expected,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Written, StoreError>> {
        self.store.put_client(client_id, metadata, expected, now)
    }

    fn delete_client(
        &self,
        client_id: String,
        expected: Expected,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Written, StoreError>> {
        self.store.delete_client(client_id, expected, now)
    }
}

impl Changes for Replaced {
    fn changes(&self) -> watch::Receiver<Revisions> {
        self.changes.subscribe()
    }
}

#[tokio::test]
async fn fault_3_after_a_fail_over_to_a_copy_that_is_behind_what_the_copy_has_is_in_force() {
    let before = MemoryStore::new();
    put(&before, "kept", &metadata("kept", "a"), Expected::Absent).await;
    put(&before, "lost", &metadata("lost", "a"), Expected::Absent).await;
    let (registry, _) = load(&before).await;

    let copy = MemoryStore::new();
    put(&copy, "kept", &metadata("kept", "a"), Expected::Absent).await;
    let changes = watch::Sender::new(Revisions { clients: 1, ..Revisions::default() });
    let (_follow, reports) = follow(&registry, &Arc::new(Replaced { store: copy, changes }));
    let report = tokio::task::spawn_blocking(move || reports.recv_timeout(SOON)).await.unwrap().unwrap();
    assert_eq!(report.changes, [Change::Removed("lost".into())]);
    assert!(registry.find("kept").is_some() && registry.find("lost").is_none());
}

#[tokio::test]
async fn who_has_not_asked_for_long_reads_everything() {
    let before = MemoryStore::new();
    put(&before, "removed", &metadata("removed", "a"), Expected::Absent).await;
    let (registry, _) = load(&before).await;

    // The store went on to change 2 and no longer knows who was removed.
    let store = Replaced {
        store: MemoryStore::new(),
        changes: watch::Sender::new(Revisions { clients: 1, ..Revisions::default() }),
    };
    let store = Arc::new(store);
    let clock = Arc::new(FixedClock::at(NOW));
    let _follow = registry.follow(Arc::clone(&store), Arc::clone(&clock) as _, |_| {});
    clock.advance(TRUSTED * 2);
    store.changes.send_modify(|revisions| revisions.clients = 2);
    assert!(registry.until(2, SOON).await);
    assert!(registry.find("removed").is_none());
}

#[tokio::test]
async fn of_a_client_in_a_file_and_in_the_store_the_files_counts() {
    let dir = tempfile::tempdir().unwrap();
    let file = r#"client_id = "billing"
token_endpoint_auth_method = "tls_client_auth"
tls_client_auth_san_dns = "billing.example.com"
scope = "of:file"
[certbind]
trust = "corp"
audiences = ["https://api.example.com"]
"#;
    std::fs::write(dir.path().join("billing.toml"), file).unwrap();
    let (files, _) = FileRegistry::load(file::Settings { dir: dir.path().to_owned(), rules: rules("corp") });
    let store = MemoryStore::new();
    put(&store, "billing", &metadata("billing", "of:store"), Expected::Absent).await;
    put(&store, "ledger", &metadata("ledger", "of:store"), Expected::Absent).await;
    let (stored, _) = load(&store).await;
    let clients = Clients { files, stored };
    let scope = |client_id| clients.find(client_id).map(|client| client.scope.to_string());
    assert_eq!((scope("billing").as_deref(), scope("ledger").as_deref()), (Some("of:file"), Some("of:store")));
    assert_eq!(clients.all().len(), 2);
    assert_eq!(clients.all().get("billing").unwrap().scope.to_string(), "of:file");
    assert_eq!(clients.shadowed().into_iter().collect::<Vec<_>>(), ["billing"]);
}
