//! What every engine must do, as functions that its tests call.
//!
//! Each takes a way to open a fresh, empty store. They panic with the promise that was broken.
#![doc(hidden)]
#![allow(clippy::expect_used, missing_docs, reason = "tests, shared by the engines")]

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use certbind_proto::time::Timestamp;
use zeroize::Zeroizing;

use super::{BoxFuture, FirstUse, KeyStore, ReplayKey, ReplayStore, StoreError, StoredKey};

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
    the_first_key_of_an_algorithm_stays(&*open());
    one_key_of_many_at_once(&[open()]);
}

/// Of 200 calls at the same moment, spread over `stores` (which are one store, opened several times), one is first.
pub fn one_of_many_at_once<S: ReplayStore + 'static>(stores: &[Arc<S>]) {
    let key = ReplayKey::of("batch", "raced");
    let firsts = at_once(200, stores, move |store, _| first_use(store, key, soon(), NOW));
    let firsts = firsts.iter().filter(|first| **first == FirstUse::Yes).count();
    assert_eq!(firsts, 1, "of 200 uses at once one is the first");
}

/// Of many servers that bring a key at the same moment, all go home with the same one.
pub fn one_key_of_many_at_once<S: KeyStore + 'static>(stores: &[Arc<S>]) {
    let kept = at_once(16, stores, |store, n| wait(store.insert_if_none(signing_key(&format!("k{n}"), "ES256"))));
    assert!(kept.windows(2).all(|pair| pair[0] == pair[1]), "all have the same key");
    assert_eq!(wait(stores[0].load()), kept[..1], "and it is the one in the store");
}

/// Asks `store` and waits for the answer.
pub fn first_use(store: &impl ReplayStore, key: ReplayKey, keep_until: Timestamp, now: Timestamp) -> FirstUse {
    wait(store.first_use(key, keep_until, now))
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
    let pkcs8 = Zeroizing::new(kid.as_bytes().to_vec());
    StoredKey { kid: kid.to_owned(), algorithm: algorithm.to_owned(), pkcs8, created: NOW }
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
    for n in 0..20_000 {
        let _ = try_wait(store.first_use(ReplayKey::of("batch", &format!("ahead {}", n % 8)), ahead, ahead));
    }
    let replayed = try_wait(store.first_use(old, soon(), NOW));
    assert!(!matches!(replayed, Ok(FirstUse::Yes)), "the clock is back and the assertion is refused: {replayed:?}");
}

fn every_key_is_counted(store: &impl ReplayStore) {
    for n in 0..10 {
        first_use(store, ReplayKey::of("batch", &(n / 2).to_string()), soon(), NOW);
    }
    assert_eq!(store.live_entries(), 5);
}

fn the_first_key_of_an_algorithm_stays(store: &impl KeyStore) {
    let first = signing_key("first", "ES256");
    assert_eq!(wait(store.insert_if_none(first.clone())), first);
    assert_eq!(wait(store.insert_if_none(signing_key("second", "ES256"))), first);
    let other = signing_key("other", "EdDSA");
    assert_eq!(wait(store.insert_if_none(other.clone())), other);
    assert_eq!(wait(store.load()), [first, other]);
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
