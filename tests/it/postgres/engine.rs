//! The promises of the PostgreSQL engine while the database is well: conformance, several servers, formats, TLS.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use certbind::store::conformance::{self, NOW, first_use, signing_key, soon, try_wait, wait};
use certbind::store::postgres::{Loss, MAX_ENTRIES, PostgresStore, Settings, Target};
use certbind::store::{
    Changes as _, FirstUse, KeyStore as _, Replaced, ReplayKey, ReplayStore as _, StoreError, UsageStore as _, Use,
};
use certbind_proto::time::FixedClock;
use tokio::runtime::Runtime;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::cluster::{self, Cluster, Database};
use crate::support::PKI;

/// Stores live on it for as long as the tests run.
pub(super) static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());

pub(super) fn settings(url: &str) -> Settings {
    let root = PKI.root.certificate();
    Settings {
        target: Target::parse(url).unwrap(),
        tls: MakeRustlsConnect::new(certbind_https::client_config(std::slice::from_ref(root), None).unwrap()),
        connections: 4,
        deadline: Duration::from_millis(1500),
        loss: Loss::Possible,
        max_entries: MAX_ENTRIES,
    }
}

pub(super) fn try_open(settings: Settings) -> Result<PostgresStore, StoreError> {
    open_at(settings, Arc::new(FixedClock::at(NOW)))
}

fn open_at(settings: Settings, clock: Arc<FixedClock>) -> Result<PostgresStore, StoreError> {
    RUNTIME.block_on(PostgresStore::open(settings, clock))
}

pub(super) fn open(database: &Database) -> Arc<PostgresStore> {
    Arc::new(try_open(settings(&database.url())).unwrap())
}

pub(super) fn key(n: impl ToString) -> ReplayKey {
    ReplayKey::of("batch", &n.to_string())
}

#[test]
fn the_postgres_store_conforms() {
    let fresh = || open(&cluster::database());
    conformance::replay(&fresh);
    conformance::keys(&fresh);
    conformance::clients(&fresh);
    conformance::revocations(&fresh);
    conformance::audit(&fresh);
    conformance::usage(&fresh);
}

#[test]
fn r7523_3_7b_servers_that_share_a_database_accept_one_of_200_copies() {
    let database = cluster::database();
    let servers = [open(&database), open(&database), open(&database)];
    for _ in 0..5 {
        conformance::one_of_many_at_once(&servers);
        database.execute("DELETE FROM certbind.replay");
    }
    conformance::one_change_of_many_at_once(&servers);
    conformance::one_of_many_creates_a_client(&servers);
    conformance::uses_that_many_tell_at_once_are_all_there(&servers);
}

#[test]
fn servers_that_share_a_database_tell_each_other_what_changed() {
    let database = cluster::database();
    conformance::a_change_is_told_to_others(&*open(&database), &*open(&database));
}

#[test]
fn what_is_not_told_is_seen_within_a_second() {
    let database = cluster::database();
    let store = open(&database);
    let mut changes = store.changes();
    changes.mark_unchanged();
    database.execute("UPDATE certbind.revisions SET revision = revision + 1 WHERE kind = 'clients'");
    let seen = RUNTIME.block_on(async { tokio::time::timeout(Duration::from_secs(1), changes.changed()).await });
    assert!(seen.is_ok(), "a change without a notification is seen by the poll");
}

#[test]
fn servers_may_start_at_once_on_an_empty_database() {
    for _ in 0..3 {
        let database = cluster::database();
        std::thread::scope(|scope| {
            let start = |n: usize| {
                let database = &database;
                let first = move || wait(open(database).replace(0, vec![signing_key(&n.to_string(), "ES256")]));
                scope.spawn(first)
            };
            let servers: Vec<_> = (0..4).map(start).collect();
            let made: Vec<_> = servers.into_iter().map(|server| server.join().unwrap()).collect();
            let first = made.iter().filter(|made| **made == Replaced::Yes(1)).count();
            assert_eq!(first, 1, "of four that make the first key one does: {made:?}");
        });
    }
}

#[test]
fn r7523_3_7d_a_restart_forgets_nothing() {
    let database = cluster::database();
    {
        let store = open(&database);
        for n in 0..20 {
            assert_eq!(first_use(&*store, key(n), soon(), NOW), FirstUse::Yes);
        }
    }
    let store = open(&database);
    assert_eq!(store.live_entries(), 20);
    for n in 0..20 {
        assert_eq!(first_use(&*store, key(n), soon(), soon()), FirstUse::No);
    }
}

/// What docs/storage.md has an operator do after such a restore.
#[test]
fn fault_3_tables_that_were_read_into_the_same_cluster_again_raise_the_fence_by_hand() {
    let database = cluster::database();
    let used = |jti: &str| Use { key: key(jti), issued: Some(NOW), keep_until: soon() };
    assert!(matches!(try_wait(open(&database).first_use(used("a"), NOW)), Ok(FirstUse::Yes)));
    database.execute("UPDATE certbind.replay_state SET timeline = 'restored'");
    for _ in 0..2 {
        let lost = try_wait(open(&database).first_use(used("b"), NOW));
        assert!(matches!(lost, Err(StoreError::BeforeFailOver)), "{lost:?}");
    }
}

#[test]
fn fault_27_tables_of_a_newer_version_or_of_another_program_are_refused_and_left_alone() {
    let database = cluster::database();
    drop(open(&database));
    database.execute("UPDATE certbind.format SET version = 999");
    assert!(matches!(try_open(settings(&database.url())), Err(StoreError::Newer { found: 999, .. })));
    assert_eq!(database.number("SELECT version::bigint FROM certbind.format"), 999);

    let database = cluster::database();
    database.execute("CREATE SCHEMA certbind; CREATE TABLE certbind.theirs (x integer)");
    assert!(matches!(try_open(settings(&database.url())), Err(StoreError::ForeignSchema)));
    assert_eq!(database.number("SELECT count(*) FROM pg_tables WHERE schemaname = 'certbind'"), 1);
}

#[test]
fn fault_27_tables_of_an_older_format_get_what_came_later_and_keep_what_they_hold() {
    for (format, newer) in
        [(1, "DROP TABLE certbind.usage; DROP TABLE certbind.audit"), (2, "DROP TABLE certbind.usage")]
    {
        of_an_older_format(format, newer);
    }
}

fn of_an_older_format(format: u32, newer: &str) {
    let database = cluster::database();
    assert_eq!(first_use(&*open(&database), key(1), soon(), NOW), FirstUse::Yes);
    database.execute(&format!("{newer}; UPDATE certbind.format SET version = {format}"));
    let store = open(&database);
    assert_eq!(first_use(&*store, key(1), soon(), NOW), FirstUse::No);
    assert_eq!(wait(store.uses_of(vec!["billing".into()])), []);
    assert!(database.number("SELECT version::bigint FROM certbind.format") > format.into());
}

#[test]
fn a_thousand_uses_at_once_are_committed_as_a_few_groups() {
    let database = cluster::database();
    let store = open(&database);
    database.execute(
        "CREATE SEQUENCE public.statements; CREATE FUNCTION public.count_statement() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM nextval('public.statements'); RETURN NULL; END $$; \
         CREATE TRIGGER counted AFTER INSERT ON certbind.replay EXECUTE FUNCTION public.count_statement()",
    );
    let outcomes = RUNTIME.block_on(async {
        let mut uses = tokio::task::JoinSet::new();
        for n in 0..1000 {
            let store = Arc::clone(&store);
            let used = Use { key: key(n), issued: None, keep_until: soon() };
            uses.spawn(async move { store.first_use(used, NOW).await });
        }
        uses.join_all().await
    });
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(FirstUse::Yes))));
    assert_eq!(database.number("SELECT count(*) FROM certbind.replay"), 1000);
    let statements = database.number("SELECT last_value FROM public.statements");
    assert!(statements <= 250, "{statements} commits for 1,000 uses");
}

#[test]
fn a_database_that_forgets_what_it_commits_is_refused_by_the_name_of_its_setting() {
    for setting in ["synchronous_commit", "fsync", "full_page_writes"] {
        let spoilt = Cluster::start(&[&format!("{setting}=off")]);
        let refused = try_open(settings(&spoilt.database().url()));
        assert!(matches!(refused, Err(StoreError::NotDurable { setting: named }) if named == setting), "{refused:?}");
    }
}

#[test]
fn attack_62_the_database_is_reached_by_tls_and_must_be_the_one_that_is_meant() {
    let database = cluster::database();
    database.set_password();
    let store = try_open(settings(&database.network_url())).unwrap();
    assert_eq!(first_use(&store, key(1), soon(), NOW), FirstUse::Yes);
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
         WHERE datname = current_database() AND client_addr IS NOT NULL AND NOT ssl";
    assert_eq!(database.number(encrypted), 0, "no connection over the network is in the clear");

    let stranger = certbind_devpki::Issuer::root("another root", crate::support::validity()).unwrap();
    let tls = certbind_https::client_config(std::slice::from_ref(stranger.certificate()), None).unwrap();
    let impostor = Settings { tls: MakeRustlsConnect::new(tls), ..settings(&database.network_url()) };
    assert!(matches!(try_open(impostor), Err(StoreError::Unavailable(_))), "the certificate is checked");
    let elsewhere = database.network_url().replace("localhost", "127.0.0.2");
    assert!(try_open(settings(&elsewhere)).is_err(), "and the name in it");
    let wrong = database.network_url().replace(cluster::PASSWORD, "wrong");
    let refused = format!("{:?}", try_open(settings(&wrong)).unwrap_err());
    assert!(!refused.contains("wrong\""), "a password is never told: {refused}");
}

#[test]
fn fault_22_what_is_over_is_deleted_after_an_hour_and_stays_refused() {
    let database = cluster::database();
    let store = open(&database);
    assert_eq!(first_use(&*store, key("old"), soon(), NOW), FirstUse::Yes);
    // What an hour does to it, as the engine finds it.
    database.execute(&format!(
        "UPDATE certbind.replay_state SET horizon = {}; DELETE FROM certbind.replay",
        soon().millis()
    ));
    let again = try_wait(store.first_use(Use { key: key("old"), issued: None, keep_until: soon() }, NOW));
    assert!(matches!(again, Err(StoreError::ClockBehind)), "{again:?}");
    let later = soon().plus(Duration::from_millis(1));
    assert_eq!(first_use(&*store, key("new"), later, NOW), FirstUse::Yes);
}

#[test]
fn fault_22_a_database_that_holds_all_it_may_refuses_until_times_are_over() {
    let database = cluster::database();
    let clock = Arc::new(FixedClock::at(NOW));
    let full = Settings { max_entries: 5000, ..settings(&database.url()) };
    let (server, other) = (open_at(full, Arc::clone(&clock)).unwrap(), open(&database));
    database.execute(&format!(
        "INSERT INTO certbind.replay (key, keep_until) SELECT decode(md5(n::text), 'hex'), {} FROM generate_series(1, 4999) AS n",
        soon().millis()
    ));
    assert_eq!(first_use(&*other, key("last"), soon(), NOW), FirstUse::Yes);
    let used = |n: &str| try_wait(server.first_use(Use { key: key(n), issued: Some(NOW), keep_until: soon() }, NOW));
    until("what others put in counts", || server.live_entries() >= 5000);
    assert!(matches!(used("too many"), Err(StoreError::Full)));

    let later = NOW.plus(Duration::from_secs(2 * 3600));
    clock.set(later);
    until("what is over goes", || server.live_entries() == 0);
    assert_eq!(database.number("SELECT count(*) FROM certbind.replay"), 0);
    assert!(matches!(used("last"), Err(StoreError::ClockBehind)), "it stays refused");
    let fresh = Use { key: key("fresh"), issued: Some(later), keep_until: later.plus(Duration::from_secs(60)) };
    assert_eq!(wait(server.first_use(fresh, later)), FirstUse::Yes);
}

#[test]
fn fault_22_a_table_that_has_grown_is_swept_faster_than_it_grows_and_not_counted_row_by_row() {
    let database = cluster::database();
    let clock = Arc::new(FixedClock::at(NOW));
    let server = open_at(settings(&database.url()), Arc::clone(&clock)).unwrap();
    database.execute(&format!(
        "INSERT INTO certbind.replay (key, keep_until) SELECT decode(md5(n::text), 'hex'), {} FROM generate_series(1, 120000) AS n",
        soon().millis()
    ));
    database.execute("ANALYZE certbind.replay");
    until("the estimate counts", || server.live_entries() == 120_000);
    clock.set(NOW.plus(Duration::from_secs(2 * 3600)));
    until("six steps, not six times ten seconds", || database.number("SELECT count(*) FROM certbind.replay") == 0);
}

/// Waits for what the engine does by itself every ten seconds.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(45), "{what}: not within 45 s");
        std::thread::sleep(Duration::from_millis(50));
    }
}
