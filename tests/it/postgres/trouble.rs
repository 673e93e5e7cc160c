//! The database is away, slow, a black hole or replaced by a copy: nothing is accepted that may be lost, and nobody has to
//! restart anything.

use std::sync::Arc;
use std::time::{Duration, Instant};

use certbind::registry::stored::StoredRegistry;
use certbind::revocation::{FOR_GOOD, Revocations};
use certbind::store::conformance::{NOW, first_use, soon, try_wait, wait};
use certbind::store::postgres::{Loss, PostgresStore, Settings};
use certbind::store::{Changes as _, ClientStore as _, Expected, FirstUse, ReplayStore as _, StoreError, Use};
use certbind_proto::client::{LegacyAudience, RegistrationRules};
use certbind_proto::jws::Algorithms;
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::FixedClock;

use super::cluster::{self, Cluster};
use super::engine::{RUNTIME, key, open, settings, try_open};
use super::proxy::{Proxy, Weather};
use crate::support::BUSY;

/// Within this a caller has its answer (P3).
const PROMISE: Duration = Duration::from_secs(2 + BUSY);

/// Within this the store works again.
const RECOVERY: Duration = Duration::from_secs(5 + BUSY);

/// Within this what is done to tables and settings is seen.
const SEEN: Duration = Duration::from_secs(10);

fn used(n: impl ToString) -> Use {
    Use { key: key(n), issued: Some(NOW), keep_until: soon() }
}

/// Every call fails in time, and the store says that it is not healthy.
fn fails_in_time(store: &PostgresStore, what: &str) {
    for n in 0..5 {
        let start = Instant::now();
        let outcome = try_wait(store.first_use(used(format!("{what} {n}")), NOW));
        assert!(start.elapsed() < PROMISE, "{what}: {:?}", start.elapsed());
        assert!(outcome.is_err(), "{what}: {outcome:?}");
    }
    assert!(!store.is_healthy(), "{what}");
    let start = Instant::now();
    assert!(try_wait(store.put_client("c".into(), "{}".into(), Expected::Absent, NOW)).is_err(), "{what}");
    assert!(start.elapsed() < PROMISE, "{what}");
}

fn recovers(store: &PostgresStore, what: &str) {
    let start = Instant::now();
    while !store.is_healthy() {
        assert!(start.elapsed() < RECOVERY, "{what}: it does not come back");
        std::thread::sleep(Duration::from_millis(20));
    }
    let fresh = format!("{what}, again");
    let mut outcome = try_wait(store.first_use(used(&fresh), NOW));
    while outcome.is_err() && start.elapsed() < RECOVERY {
        outcome = try_wait(store.first_use(used(&fresh), NOW));
    }
    assert!(matches!(outcome, Ok(FirstUse::Yes | FirstUse::No)), "{what}: {outcome:?}");
    assert_eq!(first_use(store, key(&fresh), soon(), NOW), FirstUse::No, "{what}");
}

#[test]
fn fault_4_a_network_that_is_slow_cut_or_a_black_hole_fails_closed_in_time_and_recovers() {
    let database = cluster::database();
    let proxy = RUNTIME.block_on(Proxy::before(database.port));
    let store = try_open(settings(&database.plain_url(proxy.port))).unwrap();
    let kept: Vec<_> = (0..20).map(key).collect();
    for key in &kept {
        assert_eq!(first_use(&store, *key, soon(), NOW), FirstUse::Yes);
    }
    for weather in [Weather::BlackHole, Weather::Cut, Weather::Slow(Duration::from_secs(5))] {
        let what = format!("{weather:?}");
        proxy.set(weather);
        fails_in_time(&store, &what);
        proxy.set(Weather::Fine);
        recovers(&store, &what);
        for key in &kept {
            assert_eq!(first_use(&store, *key, soon(), NOW), FirstUse::No, "{what}");
        }
    }
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' \
         AND application_name = 'certbind'";
    let limit = 4 + 1;
    let start = Instant::now();
    while database.number(open) > limit {
        assert!(start.elapsed() < 4 * RECOVERY, "{} connections are open", database.number(open));
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn fault_4_a_database_that_is_halted_stopped_or_killed_is_met_again_without_a_restart() {
    let mut cluster = Cluster::start(&[]);
    let database = cluster.database();
    let store = open(&database);
    assert_eq!(first_use(&*store, key("before"), soon(), NOW), FirstUse::Yes);

    cluster.signal_all("STOP");
    fails_in_time(&store, "halted");
    cluster.signal_all("CONT");
    recovers(&store, "halted");

    for mode in ["fast", "immediate"] {
        cluster.stop(mode);
        fails_in_time(&store, mode);
        cluster.resume(&[]);
        recovers(&store, mode);
        assert_eq!(first_use(&*store, key("before"), soon(), NOW), FirstUse::No, "{mode}");
    }
}

#[test]
fn fault_4_an_insert_that_the_database_refuses_fails_alone() {
    let database = cluster::database();
    let store = open(&database);
    database.execute(
        "CREATE FUNCTION public.no() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN IF NEW.keep_until % 10 = 7 THEN RAISE EXCEPTION 'no'; END IF; RETURN NEW; END $$; \
         CREATE TRIGGER no BEFORE INSERT ON certbind.replay FOR EACH ROW EXECUTE FUNCTION public.no()",
    );
    let refused = Use { keep_until: soon().plus(Duration::from_millis(7)), ..used("refused") };
    assert!(try_wait(store.first_use(refused, NOW)).is_err());
    recovers(&store, "one insert");
    database.execute("DROP TRIGGER no ON certbind.replay");
    assert_eq!(wait(store.first_use(refused, NOW)), FirstUse::Yes, "what failed was not used up");
}

/// A store that works, until it sees what was done to its database.
fn sees(store: &PostgresStore, what: &str) {
    let start = Instant::now();
    while store.is_healthy() {
        assert!(start.elapsed() < 3 * SEEN, "{what} is not seen");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn attack_21_a_table_that_a_crash_would_empty_is_no_store() {
    let database = cluster::database();
    let store = open(&database);
    assert_eq!(first_use(&*store, key("before"), soon(), NOW), FirstUse::Yes);
    database.execute("ALTER TABLE certbind.replay SET UNLOGGED");
    let refused = try_open(settings(&database.url()));
    assert!(matches!(&refused, Err(StoreError::Unlogged { table }) if table == "replay"), "{refused:?}");
    sees(&store, "an unlogged table");
    assert!(try_wait(store.first_use(used("meanwhile"), NOW)).is_err());

    database.execute("ALTER TABLE certbind.replay SET LOGGED");
    let start = Instant::now();
    while !store.is_healthy() {
        assert!(start.elapsed() < RECOVERY, "it does not come back");
        std::thread::sleep(Duration::from_millis(20));
    }
    let from_before = try_wait(store.first_use(used("meanwhile"), NOW));
    assert!(matches!(from_before, Err(StoreError::BeforeFailOver)), "a crash may have emptied it: {from_before:?}");
}

#[test]
fn attack_21_settings_that_forget_commits_are_seen_on_open_connections() {
    let cluster = Cluster::start(&[]);
    let store = open(&cluster.database());
    let everywhere = cluster.database();
    for setting in ["fsync", "full_page_writes"] {
        everywhere.execute(&format!("ALTER SYSTEM SET {setting} = off"));
        everywhere.execute("SELECT pg_reload_conf()");
        sees(&store, setting);
        everywhere.execute(&format!("ALTER SYSTEM RESET {setting}"));
        everywhere.execute("SELECT pg_reload_conf()");
        let start = Instant::now();
        while !store.is_healthy() {
            assert!(start.elapsed() < RECOVERY, "{setting}: it does not come back");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn attack_21_a_database_that_cannot_be_reached_is_no_start() {
    let database = cluster::database();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let start = Instant::now();
    assert!(matches!(try_open(settings(&database.plain_url(nobody))), Err(StoreError::Unavailable(_))));
    let proxy = RUNTIME.block_on(Proxy::before(database.port));
    proxy.set(Weather::BlackHole);
    assert!(matches!(try_open(settings(&database.plain_url(proxy.port))), Err(StoreError::Busy)));
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn fault_3_after_a_fail_over_to_a_replica_that_lacks_uses_what_is_from_before_it_is_refused() {
    let mut primary = Cluster::start(&[]);
    let database = primary.database();
    drop(open(&database));
    let mut replica = primary.replica();
    let refused = try_open(settings(&replica.same(&database).url()));
    assert!(matches!(refused, Err(StoreError::ReadOnly)), "a replica is no store: {refused:?}");

    let store = open(&database);
    replica.stop("fast");
    assert_eq!(first_use(&*store, key("lost"), soon(), NOW), FirstUse::Yes);
    primary.stop("immediate");
    replica.resume(&[]);
    replica.promote();

    let after = replica.same(&database);
    assert_eq!(after.number("SELECT count(*) FROM certbind.replay"), 0, "the use is lost");
    let servers = [open(&after), open(&after)];
    for server in &servers {
        let replayed = try_wait(server.first_use(used("lost"), NOW));
        assert!(matches!(replayed, Err(StoreError::BeforeFailOver)), "{replayed:?}");
        let undated = Use { issued: None, ..used("undated") };
        assert!(matches!(try_wait(server.first_use(undated, NOW)), Err(StoreError::BeforeFailOver)));
    }
    let later = NOW.plus(Duration::from_secs(61));
    let fresh = Use { key: key("fresh"), issued: Some(later), keep_until: later.plus(Duration::from_secs(90)) };
    assert_eq!(wait(servers[0].first_use(fresh, later)), FirstUse::Yes);
    assert_eq!(wait(servers[1].first_use(fresh, later)), FirstUse::No);

    let synchronous = Settings { loss: Loss::None, ..settings(&after.url()) };
    let trusting = Arc::new(try_open(synchronous).unwrap());
    assert_eq!(wait(trusting.first_use(used("trusted"), NOW)), FirstUse::Yes, "who waits for replicas loses nothing");
}

/// A server that goes on over the fail-over, and one that starts after it.
#[test]
fn fault_3_after_a_fail_over_no_revocation_is_given_up_and_every_change_is_heard_of() {
    let mut primary = Cluster::start(&[]);
    let database = primary.database();
    drop(open(&database));
    let mut replica = primary.replica();
    let running = Arc::new(try_open(settings(&database.plain_url(database.port))).unwrap());
    let clock = || Arc::new(FixedClock::at(NOW));
    let revocations = wait_for(Revocations::load(Arc::clone(&running) as _, NOW));
    let revocations = Arc::new(revocations.unwrap());
    let (clients, _) = wait_for(StoredRegistry::load(&*running, rules())).unwrap();
    let _followed = RUNTIME.block_on(async {
        let revoked = revocations.follow(running.changes(), clock(), |_, _| Box::pin(std::future::ready(())));
        (revoked, clients.follow(Arc::clone(&running), clock(), |_| {}))
    });
    replica.stop("fast");
    let [lost, later] = ["lost", "later"].map(|name| Thumbprint::of_der(name.as_bytes()));
    wait_for(revocations.revoke_certificate(&lost, FOR_GOOD, NOW)).unwrap();
    wait(running.put_client("lost".into(), "{}".into(), Expected::Absent, NOW));
    until("the client is known", || clients.held().get("lost").is_some());
    primary.stop("immediate");
    replica.port = primary.port;
    replica.resume(&[]);
    replica.promote();

    // Each is the next change of its kind, as the lost one was.
    let started = open(&replica.same(&database));
    let of_started = wait_for(Revocations::load(Arc::clone(&started) as _, NOW)).unwrap();
    assert!(!of_started.is_certificate_revoked(&lost, NOW), "the database has lost it");
    wait_for(of_started.revoke_certificate(&later, FOR_GOOD, NOW)).unwrap();
    wait(started.put_client("later".into(), "{}".into(), Expected::Absent, NOW));
    until("what was revoked after it is known", || revocations.is_certificate_revoked(&later, NOW));
    until("so is the client", || clients.held().get("later").is_some());
    assert!(revocations.is_certificate_revoked(&lost, NOW), "what was revoked before it stays revoked");
    until("and comes to the others", || {
        wait_for(of_started.refresh(NOW)).unwrap();
        of_started.is_certificate_revoked(&lost, NOW)
    });
    assert!(clients.held().get("lost").is_none(), "a client is what the database says");
}

fn wait_for<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.block_on(future)
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < 4 * RECOVERY, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn rules() -> RegistrationRules {
    RegistrationRules {
        algorithms: Algorithms::DEFAULT,
        legacy_audience: LegacyAudience::Forbidden,
        trust_groups: Vec::new(),
    }
}
