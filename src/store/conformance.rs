//! What every engine must do, as functions that its tests call.
//!
//! Each takes a way to open a fresh, empty store. They panic with the promise that was broken.
#![doc(hidden)]
#![allow(clippy::expect_used, clippy::panic, missing_docs, reason = "tests, shared by the engines")]

mod audit;

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use certbind_proto::time::Timestamp;
use zeroize::Zeroizing;

use super::{
    BoxFuture, Changes, ClientChange, ClientStore, Expected, FirstUse, KeyStore, Replaced, ReplayKey, ReplayStore,
    Revision, Revisions, Revocation, RevocationStore, Revoked, RevokedId, Secret, StoreError, StoredKey, StoredKeys,
    Use, Written,
};

mod usage;

pub use usage::{usage, uses_that_many_tell_at_once_are_all_there};

pub use audit::{audit, audit_line, of_many_that_write_a_number_one_does};

/// The time at which everything here happens.
pub const NOW: Timestamp = Timestamp::from_unix(1_795_375_800);

/// Until when a key is kept that has no reason for another time.
#[must_use]
pub fn soon() -> Timestamp {
    NOW.plus(Duration::from_secs(90))
}

/// Everything that [`ReplayStore`] promises within one process.
pub fn replay<S: ReplayStore + 'static>(open: &dyn Fn() -> Arc<S>) {
    the_second_use_is_refused(&*open());
    two_clients_may_use_one_jti(&*open());
    a_key_is_live_until_its_time_inclusive(&*open());
    a_clock_that_goes_back_opens_nothing(&*open());
    every_key_is_counted(&*open());
    for _ in 0..20 {
        one_of_many_at_once(&[open()]);
    }
}

/// Everything that [`KeyStore`] promises within one process.
pub fn keys<S: KeyStore + 'static>(open: &dyn Fn() -> Arc<S>) {
    a_set_is_kept_as_it_was_given(&*open());
    who_saw_an_older_set_changes_nothing(&*open());
    for _ in 0..20 {
        one_change_of_many_at_once(&[open()]);
    }
}

/// Everything that [`ClientStore`] promises within one process.
pub fn clients<S: ClientStore + Changes + 'static>(open: &dyn Fn() -> Arc<S>) {
    a_client_is_written_when_what_is_there_is_as_expected(&*open());
    of_each_client_the_last_change_is_told(&*open());
    one_of_many_creates_a_client(&[open()]);
}

/// Everything that [`RevocationStore`] promises within one process.
pub fn revocations<S: RevocationStore + Changes + 'static>(open: &dyn Fn() -> Arc<S>) {
    a_revocation_is_told_until_it_is_over(&*open());
    a_second_revocation_takes_nothing_back(&*open());
    what_refuses_the_future_can_be_lifted(&*open());
}

/// Of many servers that create a client at the same moment, one does.
pub fn one_of_many_creates_a_client<S: ClientStore + 'static>(stores: &[Arc<S>]) {
    let written = at_once(16, stores, |store, n| wait(put(store, "billing", &n.to_string(), Expected::Absent)));
    let done = written.iter().filter(|written| matches!(written, Written::Done(_))).count();
    assert_eq!(done, 1, "of 16 that create a client one does: {written:?}");
}

/// A change of `one` is told by `other`, which is the same store opened a second time, within a second.
pub fn a_change_is_told_to_others<S: ClientStore + RevocationStore + KeyStore + Changes>(one: &S, other: &S) {
    let mut told = other.changes();
    let before = *told.borrow_and_update();
    wait(put(one, "billing", "{}", Expected::Absent));
    soon_told(&mut told, |now| now.clients > before.clients);
    wait(one.revoke(revocation("t1", soon()), NOW));
    soon_told(&mut told, |now| now.revocations > before.revocations);
    wait(one.replace(before.keys, vec![signing_key("told", "ES256")]));
    soon_told(&mut told, |now| now.keys > before.keys);
}

fn soon_told(told: &mut tokio::sync::watch::Receiver<Revisions>, expected: impl FnMut(&Revisions) -> bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let soon =
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(1), told.wait_for(expected)).await.is_ok() });
    assert!(soon, "a change of another server is told within a second");
}

/// Of 200 calls at the same moment, spread over `stores` (which are one store, opened several times), one is first.
pub fn one_of_many_at_once<S: ReplayStore + 'static>(stores: &[Arc<S>]) {
    let key = ReplayKey::of("batch", "raced");
    let firsts = at_once(200, stores, move |store, _| first_use(store, key, soon(), NOW));
    let firsts = firsts.iter().filter(|first| **first == FirstUse::Yes).count();
    assert_eq!(firsts, 1, "of 200 uses at once one is the first");
}

/// Of many servers that saw the same set and change it at the same moment, one does; the set is as that one left it.
pub fn one_change_of_many_at_once<S: KeyStore + 'static>(stores: &[Arc<S>]) {
    let seen = wait(stores[0].load()).revision;
    let change = |n: usize| vec![signing_key(&format!("k{n}"), "ES256")];
    let outcomes = at_once(16, stores, |store, n| wait(store.replace(seen, change(n))));
    let winners: Vec<usize> = (0..16).filter(|n| outcomes[*n] != Replaced::Outdated).collect();
    assert_eq!(winners.len(), 1, "of 16 changes at once one counts");
    for store in stores {
        let keys = change(winners[0]);
        assert_eq!(wait(store.load()), StoredKeys { revision: seen + 1, keys }, "every server has the same set");
    }
}

/// Asks `store` and waits for the answer.
pub fn first_use(store: &impl ReplayStore, key: ReplayKey, keep_until: Timestamp, now: Timestamp) -> FirstUse {
    wait(store.first_use(Use { key, issued: Some(now), keep_until }, now))
}

/// Waits for an answer that must come.
pub fn wait<T>(answer: BoxFuture<'_, Result<T, StoreError>>) -> T {
    try_wait(answer).expect("the store answers")
}

/// Waits for an answer.
pub fn try_wait<T>(answer: BoxFuture<'_, Result<T, StoreError>>) -> Result<T, StoreError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime on this thread").block_on(answer)
}

/// A key with this name.
#[must_use]
pub fn signing_key(kid: &str, algorithm: &str) -> StoredKey {
    StoredKey {
        kid: kid.to_owned(),
        algorithm: algorithm.to_owned(),
        secret: Secret::Plain(Zeroizing::new(kid.as_bytes().to_vec())),
        created: NOW,
        activates: NOW,
        retired: None,
        token_lifetime: Duration::from_secs(300),
    }
}

fn the_second_use_is_refused(store: &impl ReplayStore) {
    let key = ReplayKey::of("batch", "once");
    assert_eq!(first_use(store, key, soon(), NOW), FirstUse::Yes);
    assert_eq!(first_use(store, key, soon(), NOW), FirstUse::No);
}

fn two_clients_may_use_one_jti(store: &impl ReplayStore) {
    for client in ["batch", "ledger"] {
        assert_eq!(first_use(store, ReplayKey::of(client, "same"), soon(), NOW), FirstUse::Yes, "{client}");
    }
}

fn a_key_is_live_until_its_time_inclusive(store: &impl ReplayStore) {
    let key = ReplayKey::of("batch", "edge");
    let after = soon().plus(Duration::from_millis(1));
    let later = soon().plus(Duration::from_secs(90));
    for (now, keep_until, answer) in [
        (NOW, soon(), FirstUse::Yes),
        (soon(), later, FirstUse::No),
        (after, later, FirstUse::Yes),
        (later, later, FirstUse::No),
    ] {
        assert_eq!(first_use(store, key, keep_until, now), answer, "used at {now}");
    }
}

fn a_clock_that_goes_back_opens_nothing(store: &impl ReplayStore) {
    let old = ReplayKey::of("batch", "old");
    assert_eq!(first_use(store, old, soon(), NOW), FirstUse::Yes);
    // A clock ten years ahead, for long enough that everything is swept.
    let ahead = NOW.plus(Duration::from_secs(10 * 365 * 86_400));
    for n in 0..5_000 {
        let key = ReplayKey::of("batch", &format!("ahead {}", n % 8));
        let _ = try_wait(store.first_use(Use { key, issued: None, keep_until: ahead }, ahead));
    }
    let replayed = try_wait(store.first_use(Use { key: old, issued: None, keep_until: soon() }, NOW));
    assert!(!matches!(replayed, Ok(FirstUse::Yes)), "the clock is back and the assertion is refused: {replayed:?}");
}

fn every_key_is_counted(store: &impl ReplayStore) {
    for n in 0..10 {
        first_use(store, ReplayKey::of("batch", &(n / 2).to_string()), soon(), NOW);
    }
    assert_eq!(store.live_entries(), 5);
}

fn a_set_is_kept_as_it_was_given(store: &impl KeyStore) {
    assert_eq!(wait(store.load()), StoredKeys::default(), "a fresh store has no keys");
    let old = StoredKey { retired: Some(soon()), ..signing_key("b", "ES256") };
    let created = NOW.plus(Duration::from_millis(1));
    let next = StoredKey {
        created,
        activates: soon().plus(Duration::from_millis(1)),
        token_lifetime: Duration::from_millis(86_400_001),
        ..signing_key("a", "EdDSA")
    };
    for (revision, keys) in [(1, vec![old.clone()]), (2, vec![old, next.clone()]), (3, vec![next]), (4, Vec::new())] {
        assert_eq!(wait(store.replace(revision - 1, keys.clone())), Replaced::Yes(revision));
        assert_eq!(wait(store.load()), StoredKeys { revision, keys });
    }
}

fn who_saw_an_older_set_changes_nothing(store: &impl KeyStore) {
    let kept = vec![signing_key("kept", "ES256")];
    assert_eq!(wait(store.replace(0, kept.clone())), Replaced::Yes(1));
    for seen in [0, 2, Revision::MAX] {
        assert_eq!(wait(store.replace(seen, Vec::new())), Replaced::Outdated, "{seen}");
    }
    assert_eq!(wait(store.load()), StoredKeys { revision: 1, keys: kept });
}

fn a_client_is_written_when_what_is_there_is_as_expected(store: &(impl ClientStore + Changes)) {
    let mut told = store.changes();
    let absent = Written::NotAsExpected { there: None };
    assert_eq!(wait(put(store, "billing", "1", Expected::Present)), absent);
    assert_eq!(wait(store.delete_client("billing".into(), Expected::Present, NOW)), absent);
    assert!(!told.has_changed().expect("the store is there"), "nothing changed, nothing is told");

    let first = done(wait(put(store, "billing", "1", Expected::Absent)));
    assert_eq!(told.borrow_and_update().clients, first, "a change is told before its caller hears of it");
    let there = Written::NotAsExpected { there: Some(first) };
    assert_eq!(wait(put(store, "billing", "2", Expected::Absent)), there);
    assert_eq!(wait(put(store, "billing", "2", Expected::Revision(first - 1))), there);
    let second = done(wait(put(store, "billing", "2", Expected::Revision(first))));
    assert!(second > first, "revisions grow");
    let there = Written::NotAsExpected { there: Some(second) };
    assert_eq!(wait(store.delete_client("billing".into(), Expected::Revision(first), NOW)), there);
    done(wait(store.delete_client("billing".into(), Expected::Revision(second), NOW)));
    assert_eq!(wait(put(store, "billing", "3", Expected::Present)), absent);
    done(wait(put(store, "billing", "3", Expected::Absent)));
}

fn of_each_client_the_last_change_is_told(store: &impl ClientStore) {
    assert_eq!(wait(store.clients_since(0)), []);
    let later = NOW.plus(Duration::from_secs(1));
    done(wait(put(store, "billing", "1", Expected::Absent)));
    let ledger = done(wait(put(store, "ledger", "1", Expected::Absent)));
    let billing = done(wait(store.put_client("billing".into(), "2".into(), Expected::Present, later)));
    let gone = done(wait(store.delete_client("ledger".into(), Expected::Present, later)));
    let changes = wait(store.clients_since(0));
    assert_eq!(changes.iter().map(ClientChange::revision).collect::<Vec<_>>(), [billing, gone]);
    let ClientChange::Written(client) = &changes[0] else { panic!("billing is there: {changes:?}") };
    assert_eq!((client.client_id.as_str(), client.metadata.as_str()), ("billing", "2"));
    assert_eq!((client.created, client.updated), (NOW, later));
    assert_eq!(changes[1], ClientChange::Removed { client_id: "ledger".into(), revision: gone });
    assert_eq!(wait(store.clients_since(billing)), changes[1..]);
    assert_eq!(wait(store.clients_since(gone)), []);
    assert!(ledger < billing);
    done(wait(store.put_client("ledger".into(), "3".into(), Expected::Absent, later)));
    let ClientChange::Written(client) = &wait(store.clients_since(gone))[0] else { panic!("ledger is back") };
    assert_eq!(client.created, later, "a client that comes back is a new one");
}

fn a_revocation_is_told_until_it_is_over(store: &(impl RevocationStore + Changes)) {
    let later = soon().plus(Duration::from_secs(60));
    let (short, long) = (revocation("short", soon()), revocation("long", later));
    let first = wait(store.revoke(short, NOW));
    let second = wait(store.revoke(long, NOW));
    assert!(second > first, "revisions grow");
    assert_eq!(store.changes().borrow().revocations, second, "and are told");
    assert_eq!(wait(store.revocations_since(0, NOW)), [(first, short), (second, long)]);
    assert_eq!(wait(store.revocations_since(first, soon())), [(second, long)]);
    assert_eq!(wait(store.revocations_since(0, soon())).len(), 2, "the end is inclusive");
    assert_eq!(wait(store.revocations_since(0, later)), [(second, long)]);
}

fn a_second_revocation_takes_nothing_back(store: &impl RevocationStore) {
    let later = soon().plus(Duration::from_secs(60));
    wait(store.revoke(revocation("t", later), NOW));
    let again = wait(store.revoke(Revocation { revoked: later, ..revocation("t", soon()) }, NOW));
    let merged = Revocation { revoked: later, ..revocation("t", later) };
    assert_eq!(wait(store.revocations_since(0, NOW)), [(again, merged)]);
    let of_client = Revocation { what: Revoked::Client, ..merged };
    wait(store.revoke(of_client, NOW));
    assert_eq!(wait(store.revocations_since(0, NOW)).len(), 2, "what is revoked is told apart");
}

fn what_refuses_the_future_can_be_lifted(store: &impl RevocationStore) {
    let (later, end) = (NOW.plus(Duration::from_secs(10)), soon().plus(Duration::from_secs(600)));
    let forever = Revocation { what: Revoked::Certificate, revoked: end, ..revocation("c", end) };
    let lifted = Revocation { revoked: later, ..forever };
    let lifted = Revocation { keep_until: soon(), ..lifted };
    assert_eq!(wait(store.lift(lifted, later)), None, "there is none");
    let first = wait(store.revoke(forever, NOW));
    let other = Revocation { what: Revoked::Client, ..lifted };
    assert_eq!(wait(store.lift(other, later)), None, "that is of another kind");
    let second = wait(store.lift(lifted, later)).expect("there is one");
    assert!(second > first, "others are told");
    assert_eq!(wait(store.revocations_since(first, NOW)), [(second, lifted)], "what was made by then stays refused");
    assert_eq!(wait(store.lift(lifted, later)), None, "once");
    assert_eq!(wait(store.revocations_since(second, NOW)), [], "and nothing has changed");
    let again = wait(store.revoke(forever, later));
    assert_eq!(wait(store.revocations_since(second, NOW)), [(again, forever)], "it may be revoked again");
    let after = end.plus(Duration::from_secs(1));
    assert_eq!(wait(store.lift(Revocation { revoked: NOW, ..lifted }, after)), None, "what is over is not lifted");
}

fn put<'a>(
    store: &'a (impl ClientStore + ?Sized),
    client_id: &str,
    metadata: &str,
    expected: Expected,
) -> BoxFuture<'a, Result<Written, StoreError>> {
    store.put_client(client_id.to_owned(), metadata.to_owned(), expected, NOW)
}

fn done(written: Written) -> Revision {
    match written {
        Written::Done(revision) => revision,
        Written::NotAsExpected { there } => panic!("not written: {there:?} is there"),
    }
}

/// The revocation of a token.
#[must_use]
pub fn revocation(jti: &str, keep_until: Timestamp) -> Revocation {
    Revocation { what: Revoked::Token, id: RevokedId::of_token(jti), revoked: NOW, keep_until }
}

/// Makes `calls` calls from as many threads, behind a barrier, and gives their answers.
fn at_once<S, T>(calls: usize, stores: &[Arc<S>], call: impl Fn(&S, usize) -> T + Send + Sync) -> Vec<T>
where
    S: Send + Sync,
    T: Send,
{
    let barrier = Barrier::new(calls);
    let (barrier, call) = (&barrier, &call);
    thread::scope(|scope| {
        let spawn = |n: usize| {
            let store = &stores[n % stores.len()];
            scope.spawn(move || {
                barrier.wait();
                call(store, n)
            })
        };
        let threads: Vec<_> = (0..calls).map(spawn).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread ends")).collect()
    })
}
