//! Uses on their way from a request to the store, with a store that works, fails and comes back.

use certbind_devpki::{Identity, LeafSpec, Validity, rdn};
use certbind_proto::time::FixedClock;

use super::*;
use crate::store::faulty::{Fault, FaultyStore};
use crate::store::memory::MemoryStore;

const NOW: Timestamp = Timestamp::from_unix(1_795_305_660);

fn later(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

fn certificate(name: &str) -> Certificate {
    let spec = LeafSpec::client(name, Validity::days_from(1_795_305_600, 30));
    Certificate::parse(Identity::self_signed(&spec).unwrap().certificate()).unwrap()
}

fn key(n: u8) -> Thumbprint {
    Thumbprint::of_der(&[n])
}

async fn times(usages: &Usages, client_id: &str) -> (Vec<Timestamp>, Extent) {
    let found = usages.of(&[client_id.to_owned()]).await;
    let uses = found.uses.get(client_id).map(Vec::as_slice).unwrap_or_default();
    (uses.iter().map(|usage| usage.last_used).collect(), found.extent)
}

#[tokio::test]
async fn what_is_noted_and_what_is_written_are_told_as_one() {
    let store = Arc::new(FaultyStore::new(MemoryStore::new(), Fault::None));
    let usages = Usages::new(store.clone());
    let billing = certificate("billing");
    usages.certificate("billing", &billing, NOW);
    assert_eq!(store.calls(), 0, "a use asks no store");
    assert_eq!(times(&usages, "billing").await, (vec![NOW], Extent::EveryServer), "before it is written");
    usages.write(later(1)).await;
    usages.certificate("billing", &billing, later(2));
    usages.key("billing", &key(1), Some("k1"), later(1));
    assert_eq!(times(&usages, "billing").await.0, [later(2), later(1)], "the newer time of each, the newest first");
    let found = usages.of(&["billing".to_owned(), "nobody".to_owned()]).await;
    let Credential::Certificate { subject, not_after, .. } = &found.uses["billing"][0].credential else { panic!() };
    assert_eq!((subject.as_str(), *not_after), (billing.subject().to_string().as_str(), billing.not_after()));
    assert!(!found.uses.contains_key("nobody"));
}

#[tokio::test]
async fn fault_4_a_store_that_is_away_costs_no_note_and_no_wait() {
    let store = Arc::new(FaultyStore::new(MemoryStore::new(), Fault::Down));
    let usages = Usages::new(store.clone());
    for n in 0..3 {
        usages.key("batch", &key(n), None, later(n.into()));
    }
    usages.write(later(3)).await;
    assert_eq!(store.calls(), 1, "one try at a time");
    let expected = vec![later(2), later(1), later(0)];
    assert_eq!(times(&usages, "batch").await, (expected.clone(), Extent::ThisServer));
    store.set(Fault::None);
    usages.write(later(4)).await;
    let after = Usages::new(store);
    assert_eq!(times(&after, "batch").await, (expected, Extent::EveryServer), "another server knows them by then");
}

#[tokio::test]
async fn fault_22_of_a_long_subject_the_beginning_is_noted() {
    let usages = Usages::new(Arc::new(MemoryStore::new()));
    let long = LeafSpec {
        subject: vec![rdn("O", &"é".repeat(MAX_TEXT))],
        ..LeafSpec::client("", Validity::days_from(1_795_305_600, 30))
    };
    let long = Certificate::parse(Identity::self_signed(&long).unwrap().certificate()).unwrap();
    usages.certificate("billing", &long, NOW);
    let Credential::Certificate { subject, .. } = &usages.notes.of("billing")[0].credential else { panic!() };
    assert!(
        long.subject().to_string().starts_with(subject.as_str()) && subject.chars().count() == MAX_TEXT,
        "{subject}"
    );
}

#[tokio::test]
async fn many_uses_are_written_in_groups() {
    let store = Arc::new(FaultyStore::new(MemoryStore::new(), Fault::None));
    let usages = Usages::new(store.clone());
    for n in 0..GROUP * 2 + 1 {
        usages.key(&n.to_string(), &key(0), None, NOW);
    }
    usages.write(NOW).await;
    assert_eq!(store.calls(), 3);
    usages.write(NOW).await;
    assert_eq!(store.calls(), 3, "nothing is written twice");
    let all: Vec<_> = (0..GROUP * 2 + 1).map(|n| n.to_string()).collect();
    assert_eq!(usages.of(&all).await.uses.len(), GROUP * 2 + 1);
}

#[tokio::test]
async fn what_is_noted_is_written_now_and_then_until_it_is_over() {
    let store = Arc::new(FaultyStore::new(MemoryStore::new(), Fault::None));
    let usages = Arc::new(Usages::new(store.clone()));
    let writing = usages.keep_written(Duration::from_millis(5), Arc::new(FixedClock::at(NOW)));
    for n in 1..=3 {
        usages.key("batch", &key(n), None, NOW);
        let written = async {
            while store.uses_of(vec!["batch".to_owned()]).await.unwrap().len() < n.into() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), written).await.expect("it is written");
    }
    drop(writing);
    tokio::task::yield_now().await;
    usages.key("batch", &key(9), None, NOW);
    assert_eq!(usages.notes.of("batch").len(), 1, "nobody writes it");
}

/// Requests note while groups are written and forgotten: of each credential the newest time is in one of both.
#[test]
fn of_what_many_note_at_once_nothing_is_lost() {
    const THREADS: u64 = 4;
    const USES: u64 = 2000;
    let usages = Usages::new(Arc::new(MemoryStore::new()));
    std::thread::scope(|scope| {
        let noting: Vec<_> = (0..THREADS)
            .map(|thread| {
                let usages = &usages;
                scope.spawn(move || {
                    for n in 0..USES {
                        let client_id = format!("c{}", n % 50);
                        usages.key(&client_id, &key(u8::try_from(thread).unwrap()), None, later(n));
                    }
                })
            })
            .collect();
        while noting.iter().any(|thread| !thread.is_finished()) {
            wait(usages.write(later(USES)));
        }
    });
    wait(usages.write(later(USES)));
    assert_eq!(usages.notes.all(), []);
    let clients: Vec<_> = (0..50).map(|n| format!("c{n}")).collect();
    let found = wait(usages.of(&clients));
    for (n, client_id) in (0..).zip(&clients) {
        let times: Vec<_> = found.uses[client_id].iter().map(|usage| usage.last_used).collect();
        assert_eq!(times, vec![later(USES - 50 + n); THREADS as usize], "{client_id}");
    }
}

/// Waits on a thread that has no runtime.
fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
}
