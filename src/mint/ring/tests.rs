//! Several servers on one store: one makes the next key, all publish it before it signs, and a store that is away stops nobody at once.

use std::time::Duration;

use super::super::KeyFault;
use super::super::lifecycle::{RotateFault, State};
use super::super::seal::{SealFault, SealingKey};
use super::super::signer::{KeyModule, ObjectId};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use certbind_proto::jws::SigningKey;
use serde_json::Value;

use super::*;
use crate::store::conformance::wait;
use crate::store::faulty::{Fault, FaultyStore};
use crate::store::memory::MemoryStore;
use crate::store::{BoxFuture, Revision, Secret, StoreError};

const DAY: u64 = 24 * 60 * 60;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix(1_795_375_800).plus(Duration::from_secs(seconds))
}

fn days(days: u64) -> Timestamp {
    at(days * DAY)
}

fn settings(algorithm: Algorithm) -> Settings {
    Settings {
        algorithm,
        sealing: Sealing::Off,
        source: Source::Made,
        calendar: lifecycle::Settings {
            rotation: lifecycle::Rotation::Every(Duration::from_secs(90 * DAY)),
            publish_before: Duration::from_secs(DAY),
            token_lifetime: Duration::from_secs(300),
            clock_skew: Duration::from_secs(30),
        },
    }
}

/// One store for several servers.
#[derive(Clone, Debug, Default)]
struct Shared(Arc<MemoryStore>);

impl KeyStore for Shared {
    fn load(&self) -> BoxFuture<'_, Result<StoredKeys, StoreError>> {
        self.0.load()
    }

    fn replace(&self, seen: Revision, keys: Vec<StoredKey>) -> BoxFuture<'_, Result<Replaced, StoreError>> {
        self.0.replace(seen, keys)
    }
}

async fn stored(shared: &Shared) -> StoredKeys {
    shared.load().await.unwrap()
}

/// Keeps what it is told.
#[derive(Default)]
struct Recorder {
    published: Mutex<Vec<String>>,
    events: Mutex<Vec<KeyEvent>>,
}

impl Observer for Recorder {
    fn publish(&self, jwks: &Value) {
        let kids = jwks["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned());
        *self.published.lock().unwrap() = kids.collect();
    }

    fn happened(&self, event: &KeyEvent, _: Timestamp) {
        self.events.lock().unwrap().push(event.clone());
    }
}

/// A server's view of the keys.
struct Server {
    ring: KeyRing,
    store: Arc<FaultyStore<Shared>>,
    recorder: Arc<Recorder>,
}

impl Server {
    async fn start(shared: &Shared, algorithm: Algorithm, now: Timestamp) -> Self {
        let store = Arc::new(FaultyStore::new(shared.clone(), Fault::None));
        let recorder = Arc::<Recorder>::default();
        let ring = KeyRing::open(store.clone(), settings(algorithm), recorder.clone(), now).await.unwrap();
        Self { ring, store, recorder }
    }

    /// The `kid` of the key that signs; nothing when there is none.
    fn signs(&self, now: Timestamp) -> String {
        self.ring.signing(now).map(|signing| signing.signer().unwrap().kid().unwrap().to_owned()).unwrap_or_default()
    }

    fn published(&self) -> Vec<String> {
        self.recorder.published.lock().unwrap().clone()
    }

    fn events(&self) -> Vec<KeyEvent> {
        std::mem::take(&mut self.recorder.events.lock().unwrap())
    }

    fn states(&self, now: Timestamp) -> Vec<&'static str> {
        self.ring.list(now).iter().map(|key| key.state.as_str()).collect()
    }
}

#[tokio::test]
async fn the_first_start_makes_a_key_that_signs_at_once_and_later_ones_use_it() {
    let shared = Shared::default();
    let first = Server::start(&shared, Algorithm::Es256, at(0)).await;
    let kid = first.signs(at(0));
    assert_eq!(first.published(), [kid.as_str()]);
    for algorithm in [Algorithm::Es256, Algorithm::Es256] {
        let later = Server::start(&shared, algorithm, at(100)).await;
        assert_eq!((later.signs(at(100)), later.published()), (kid.clone(), vec![kid.clone()]));
        assert_eq!(later.events(), [], "what is there is no news");
    }
    assert_eq!(first.states(at(0)), ["current"]);
}

#[test]
fn of_many_servers_that_start_at_once_one_makes_the_key() {
    let shared = Shared::default();
    let kids: Vec<String> = std::thread::scope(|scope| {
        let start = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async { Server::start(&shared, Algorithm::Es256, at(0)).await.signs(at(0)) })
        };
        let servers: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
        servers.into_iter().map(|server| server.join().unwrap()).collect()
    });
    assert!(kids.iter().all(|kid| *kid == kids[0]), "{kids:?}");
    assert_eq!(wait(shared.load()).keys.len(), 1);
}

#[tokio::test]
async fn one_of_three_servers_makes_the_next_key_and_all_publish_it_before_any_signs_with_it() {
    let shared = Shared::default();
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(Server::start(&shared, Algorithm::Es256, at(0)).await);
    }
    let old = servers[0].signs(at(0));
    for server in &servers {
        server.ring.refresh(days(89).minus(Duration::from_secs(1))).await.unwrap();
        assert_eq!(server.published(), [old.as_str()]);
    }
    for server in &servers {
        server.ring.refresh(days(89)).await.unwrap();
    }
    let keys = stored(&shared).await.keys;
    assert_eq!(keys.len(), 2, "one of them made it");
    let new = keys[1].kid.clone();
    for server in &servers {
        assert_eq!(server.published(), [old.clone(), new.clone()]);
        let published = KeyEvent::Published { kid: new.clone(), algorithm: "ES256".to_owned(), signs_from: days(90) };
        assert_eq!(server.events(), [published]);
        // The moment is the same everywhere, whoever looks at the store when.
        assert_eq!(server.signs(days(90).minus(Duration::from_millis(1))), old);
        assert_eq!(server.signs(days(90)), new);
    }
    for server in &servers {
        server.ring.refresh(days(90)).await.unwrap();
        assert_eq!(server.published(), [old.clone(), new.clone()], "the last tokens of the old one live");
        assert_eq!(server.events(), [KeyEvent::Signs { kid: new.clone() }]);
    }
    for server in &servers {
        server.ring.refresh(days(90).plus(Duration::from_secs(360))).await.unwrap();
        assert_eq!(server.published(), [new.as_str()]);
        assert_eq!(server.events(), [KeyEvent::Removed { kid: old.clone() }]);
    }
    assert_eq!(stored(&shared).await.keys.len(), 1, "it has left the store");
}

#[tokio::test]
async fn another_algorithm_takes_over_like_any_other_key() {
    let shared = Shared::default();
    let before = Server::start(&shared, Algorithm::Es256, at(0)).await;
    let old = before.signs(at(0));
    let after = Server::start(&shared, Algorithm::EdDsa, days(1)).await;
    let keys = after.ring.list(days(1));
    assert_eq!([keys[0].algorithm.as_str(), keys[1].algorithm.as_str()], ["ES256", "EdDSA"]);
    let new = keys[1].kid.clone();
    // The server with the old configuration goes along and makes no key against it.
    for _ in 0..3 {
        before.ring.refresh(days(1)).await.unwrap();
    }
    for server in [&before, &after] {
        assert_eq!(server.published(), [old.clone(), new.clone()]);
        assert_eq!(
            (server.signs(days(2).minus(Duration::from_secs(1))), server.signs(days(2))),
            (old.clone(), new.clone())
        );
    }
}

#[tokio::test]
async fn p3_a_server_that_hears_nothing_signs_until_a_key_could_have_taken_over_without_it() {
    let shared = Shared::default();
    let server = Server::start(&shared, Algorithm::Es256, at(0)).await;
    let kid = server.signs(at(0));
    server.store.set(Fault::Down);
    for now in [at(1), at(DAY)] {
        assert!(server.ring.refresh(now).await.is_err());
        assert_eq!((server.signs(now), server.ring.is_ready(now)), (kid.clone(), true), "{now}");
    }
    let over = at(DAY + 1);
    assert!(server.ring.refresh(over).await.is_err());
    assert_eq!((server.signs(over), server.ring.is_ready(over)), (String::new(), false));
    assert_eq!(server.published(), [kid.as_str()], "what is published stays");
    server.store.set(Fault::None);
    server.ring.refresh(over).await.unwrap();
    assert_eq!((server.signs(over), server.ring.is_ready(over)), (kid, true));
}

#[tokio::test]
async fn p3_whoever_was_cut_off_never_signs_with_a_key_that_the_others_no_longer_publish() {
    let shared = Shared::default();
    let [cut_off, other] =
        [Server::start(&shared, Algorithm::Es256, at(0)).await, Server::start(&shared, Algorithm::Es256, at(0)).await];
    let old = cut_off.signs(at(0));
    // It hears for the last time a moment before the other one makes the next key.
    cut_off.ring.refresh(days(1)).await.unwrap();
    cut_off.store.set(Fault::Down);
    other.ring.rotate(days(1).plus(Duration::from_secs(1))).await.unwrap();
    for second in (0..2 * DAY).step_by(61) {
        let now = days(1).plus(Duration::from_secs(second));
        let _ = cut_off.ring.refresh(now).await;
        other.ring.refresh(now).await.unwrap();
        let its_key = cut_off.signs(now);
        let last_read = now.plus(Duration::from_secs(300 + 30));
        let kept = other.ring.list(last_read).iter().any(|key| key.kid == old && key.state.is_published());
        assert!(its_key.is_empty() || kept, "signed {second} s after it was cut off, with a key that will be gone");
    }
    assert_eq!(cut_off.signs(days(3)), "");
    cut_off.store.set(Fault::None);
    cut_off.ring.refresh(days(3)).await.unwrap();
    assert_eq!(cut_off.signs(days(3)), other.signs(days(3)));
}

#[tokio::test]
async fn a_lost_answer_of_the_store_makes_no_second_key() {
    let shared = Shared::default();
    let server = Server::start(&shared, Algorithm::Es256, at(0)).await;
    server.store.set(Fault::LostAnswer);
    for _ in 0..3 {
        assert!(server.ring.refresh(days(89)).await.is_err());
    }
    server.store.set(Fault::None);
    server.ring.refresh(days(89)).await.unwrap();
    assert_eq!(server.states(days(89)), ["current", "next"]);
}

#[tokio::test]
async fn each_call_to_the_store_may_fail_and_the_rotation_is_done_by_the_next_look() {
    for failing in 1..=4 {
        let shared = Shared::default();
        let server = Server::start(&shared, Algorithm::Es256, at(0)).await;
        server.store.set(Fault::NthCall(server.store.calls() + failing));
        for second in 0..3 {
            let _ = server.ring.refresh(days(89).plus(Duration::from_secs(second))).await;
        }
        assert_eq!(server.states(days(89).plus(Duration::from_secs(3))), ["current", "next"], "call {failing}");
        assert_eq!(server.published().len(), 2);
    }
}

#[tokio::test]
async fn a_planned_rotation_changes_nothing_and_the_real_one_keeps_to_the_plan() {
    let shared = Shared::default();
    let server = Server::start(&shared, Algorithm::Es256, at(0)).await;
    let old = server.signs(at(0));
    let plan = server.ring.plan_rotation(days(5)).await.unwrap();
    let expected = Timeline {
        incoming: None,
        algorithm: "ES256",
        outgoing: old.clone(),
        published_from: days(5),
        signs_from: days(6),
        outgoing_published_until: days(6).plus(Duration::from_secs(360)),
    };
    assert_eq!(plan, expected);
    assert_eq!(stored(&shared).await.revision, 1, "nothing was written");

    let done = server.ring.rotate(days(5)).await.unwrap();
    let new = done.incoming.clone().unwrap();
    assert_eq!(done, Timeline { incoming: Some(new.clone()), ..expected });
    assert_eq!(server.published(), [old.clone(), new.clone()], "published before the answer");
    assert_eq!((server.signs(days(5)), server.signs(days(6))), (old, new));
    let again = server.ring.rotate(days(5)).await;
    assert!(matches!(again, Err(RotateError::Refused(RotateFault::NextIsAnnounced { .. }))), "{again:?}");
    server.store.set(Fault::Down);
    assert!(matches!(server.ring.rotate(days(7)).await, Err(RotateError::Keys(KeysError::Store(_)))));
}

#[tokio::test]
async fn a_key_that_is_taken_back_is_replaced_at_once_and_the_answer_says_who_knows_the_new_one() {
    let shared = Shared::default();
    let server = Server::start(&shared, Algorithm::Es256, at(0)).await;
    let compromised = server.signs(at(0));
    let plan = server.ring.plan_retirement(&compromised, days(5)).await.unwrap();
    assert_eq!(server.signs(days(5)), compromised, "a plan changes nothing");
    let retired = server.ring.retire(&compromised, days(5)).await.unwrap();
    let new = server.signs(days(5));
    assert_ne!(new, compromised);
    assert_eq!(server.published(), [new.as_str()], "verifiers refuse its tokens as soon as they look");
    let expected = Retirement {
        kid: compromised.clone(),
        was: State::Current,
        last_token: days(5).plus(Duration::from_secs(360)),
        cached_until: days(6),
        signer: Some(new.clone()),
        caches: Caches::MayNotKnow { until: days(6) },
    };
    assert_eq!(retired, expected);
    assert_eq!(plan, Retirement { signer: None, ..expected }, "which key is made is not known beforehand");
    assert_eq!(server.states(days(5)), ["retired", "current"]);
    assert!(matches!(
        server.ring.retire(&compromised, days(6)).await,
        Err(RetireError::AlreadyRetired(_) | RetireError::Unknown)
    ));
    assert!(matches!(server.ring.retire("nobody", days(5)).await, Err(RetireError::Unknown)));
    server.ring.refresh(days(6)).await.unwrap();
    assert_eq!(server.states(days(6)), ["current"]);
}

#[tokio::test]
async fn when_the_next_key_is_published_it_takes_over_from_one_that_is_taken_back() {
    let shared = Shared::default();
    let server = Server::start(&shared, Algorithm::Es256, at(0)).await;
    let next = server.ring.rotate(days(5)).await.unwrap().incoming.unwrap();
    let caches = Caches::MayNotKnow { until: days(6) };
    for now in [days(5), days(6).minus(Duration::from_secs(1))] {
        let copy = Shared::default();
        copy.replace(0, stored(&shared).await.keys).await.unwrap();
        let other = Server::start(&copy, Algorithm::Es256, days(5)).await;
        let plan = other.ring.plan_retirement(&other.signs(now), now).await.unwrap();
        let retired = other.ring.retire(&other.signs(now), now).await.unwrap();
        assert_eq!((retired.signer.as_ref(), retired.caches), (Some(&next), caches));
        assert_eq!(plan, retired, "also which key signs is known beforehand");
        assert_eq!(other.signs(now), next);
    }
    // The next one itself, before its time: nothing else changes.
    let retired = server.ring.retire(&next, days(5)).await.unwrap();
    assert_eq!((retired.was, retired.caches), (State::Next, Caches::Know));
    assert_eq!(server.states(days(5)), ["current", "retired"]);
    assert_eq!(server.ring.rotate(days(5)).await.unwrap().signs_from, days(6), "another one may be made");
}

#[tokio::test]
async fn tokens_live_longer_only_once_their_key_is_said_to_stay_for_longer() {
    let shared = Shared::default();
    let [server, other] =
        [Server::start(&shared, Algorithm::Es256, at(0)).await, Server::start(&shared, Algorithm::Es256, at(0)).await];
    let longest = |server: &Server| server.ring.current().signing(at(9)).unwrap().token_lifetime.as_secs();
    let calendar = settings(Algorithm::Es256).calendar;
    let longer = lifecycle::Settings { token_lifetime: Duration::from_secs(3600), ..calendar };
    server.store.set(Fault::Down);
    assert!(server.ring.go_by(longer, at(1)).await.is_err());
    server
        .ring
        .go_by(lifecycle::Settings { token_lifetime: Duration::from_secs(60), ..calendar }, at(1))
        .await
        .unwrap();
    server.store.set(Fault::None);
    server.ring.refresh(at(2)).await.unwrap();
    assert_eq!(longest(&server), 300, "neither what failed nor what is shorter changes the key");
    server.ring.go_by(longer, at(3)).await.unwrap();
    other.ring.refresh(at(4)).await.unwrap();
    for server in [&server, &other] {
        assert_eq!(longest(server), 3600);
    }
    let timeline = other.ring.rotate(at(5)).await.unwrap();
    assert_eq!(timeline.outgoing_published_until, timeline.signs_from.plus(Duration::from_secs(3660)));
}

#[tokio::test]
async fn an_older_set_never_comes_after_a_newer_one() {
    let shared = Shared::default();
    let server = Server::start(&shared, Algorithm::Es256, at(0)).await;
    let older = stored(&shared).await;
    server.ring.rotate(at(5)).await.unwrap();
    server.ring.take(older, Some(at(6)), at(6)).unwrap();
    assert_eq!(server.states(at(6)), ["current", "next"]);
}

#[tokio::test]
async fn a_stored_key_that_cannot_be_read_is_told_by_name_and_does_not_start() {
    let shared = Shared::default();
    drop(Server::start(&shared, Algorithm::Es256, at(0)).await);
    let StoredKeys { revision, keys } = stored(&shared).await;
    let garbage = StoredKey { secret: Secret::Plain(zeroize::Zeroizing::new(vec![0x30, 0])), ..keys[0].clone() };
    let unknown = StoredKey { algorithm: "ES999".to_owned(), ..keys[0].clone() };
    for (n, spoilt, words) in [(0, garbage, "cannot be read"), (1, unknown, "ES999")] {
        let kid = spoilt.kid.clone();
        assert_eq!(shared.replace(revision + n, vec![spoilt]).await.unwrap(), Replaced::Yes(revision + n + 1));
        let opened =
            KeyRing::open(Arc::new(shared.clone()), settings(Algorithm::Es256), Arc::<Recorder>::default(), at(0));
        let error = opened.await.err().expect("no server").to_string();
        assert!(error.contains(&kid) && error.contains(words), "{error}");
    }
}

fn sealing(byte: u8, previous: Option<u8>) -> Sealing {
    let key = |byte| SealingKey::new(&[byte; 32]).unwrap();
    Sealing::Under { key: key(byte), previous: previous.map(key) }
}

async fn open(shared: &Shared, sealing: Sealing, now: Timestamp) -> Result<KeyRing, KeysError> {
    let settings = Settings { sealing, ..settings(Algorithm::Es256) };
    KeyRing::open(Arc::new(shared.clone()), settings, Arc::<Recorder>::default(), now).await
}

async fn forms(shared: &Shared) -> Vec<&'static str> {
    stored(shared).await.keys.iter().map(|key| key.secret.form()).collect()
}

#[tokio::test]
async fn what_lies_unsealed_is_sealed_at_the_start_and_what_is_made_is_sealed_from_the_start() {
    let shared = Shared::default();
    let kid = Server::start(&shared, Algorithm::Es256, at(0)).await.signs(at(0));
    let StoredKeys { keys, .. } = stored(&shared).await;
    let pkcs8 = keys[0].secret.bytes();
    let ring = open(&shared, sealing(1, None), at(1)).await.unwrap();
    ring.rotate(at(2)).await.unwrap();
    assert_eq!(forms(&shared).await, ["sealed", "sealed"]);
    assert!(
        !stored(&shared).await.keys.iter().any(|key| key
            .secret
            .bytes()
            .windows(16)
            .any(|part| pkcs8.starts_with(part)))
    );
    let again = open(&shared, sealing(1, None), at(3)).await.unwrap();
    assert_eq!(again.signing(at(3)).unwrap().signer().unwrap().kid(), Some(kid.as_str()), "it is the same key");
    assert_eq!(again.list(at(3)).iter().map(|key| key.kept).collect::<Vec<_>>(), ["sealed", "sealed"]);
}

#[tokio::test]
async fn another_encryption_key_takes_over_beside_the_one_of_before() {
    let shared = Shared::default();
    let running = open(&shared, sealing(1, None), at(0)).await.unwrap();
    let alone = open(&shared, sealing(2, None), at(1)).await.err().expect("no server");
    assert!(matches!(alone, KeysError::Key(KeyFault::Seal { source: SealFault::OtherKey { .. }, .. })), "{alone:?}");
    open(&shared, sealing(2, Some(1)), at(2)).await.unwrap();
    let revision = stored(&shared).await.revision;
    // A server that runs still with the old key has its keys in memory, and a new server needs the old key no longer.
    running.refresh(at(3)).await.unwrap();
    open(&shared, sealing(2, None), at(4)).await.unwrap();
    assert_eq!(stored(&shared).await.revision, revision, "nothing is left to seal");
    let gone = open(&shared, Sealing::Off, at(5)).await.err().expect("no server");
    assert!(matches!(gone, KeysError::Key(KeyFault::Seal { source: SealFault::NoKey { .. }, .. })), "{gone:?}");
}

/// A security module in memory.
#[derive(Default)]
struct Module {
    keys: Mutex<Vec<(ObjectId, SigningKey)>>,
    is_down: AtomicBool,
    looks: AtomicUsize,
}

impl Module {
    fn with(ids: &[u8]) -> Arc<Self> {
        let module = Arc::<Self>::default();
        ids.iter().for_each(|id| module.add(*id, Algorithm::Es256));
        module
    }

    fn add(&self, id: u8, algorithm: Algorithm) {
        self.keys.lock().unwrap().push((ObjectId::new(vec![id]), SigningKey::generate(algorithm).unwrap()));
    }

    fn set_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::SeqCst);
    }

    fn answer<T>(&self, answer: T) -> Result<T, ModuleFault> {
        if self.is_down.load(Ordering::SeqCst) { Err(ModuleFault::TokenMissing) } else { Ok(answer) }
    }
}

impl KeyModule for Module {
    fn keys(&self) -> BoxFuture<'_, Result<Vec<ModuleKey>, ModuleFault>> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        let keys = self.keys.lock().unwrap();
        let keys = keys.iter().map(|(id, key)| ModuleKey { id: id.clone(), public: key.public() }).collect();
        Box::pin(async move { self.answer(keys) })
    }

    fn sign(&self, id: &ObjectId, _: Algorithm, message: &[u8]) -> BoxFuture<'_, Result<Vec<u8>, ModuleFault>> {
        let keys = self.keys.lock().unwrap();
        let key = keys.iter().find(|(other, _)| other == id).ok_or_else(|| ModuleFault::KeyMissing(id.clone()));
        let signature = key.map(|(_, key)| key.sign(message).unwrap());
        Box::pin(async move { self.answer(signature?) })
    }

    fn is_healthy(&self) -> bool {
        !self.is_down.load(Ordering::SeqCst)
    }
}

async fn open_on(shared: &Shared, module: &Arc<Module>, now: Timestamp) -> Result<KeyRing, KeysError> {
    let source = Source::Module(Arc::clone(module) as _);
    let settings = Settings { source, ..settings(Algorithm::Es256) };
    KeyRing::open(Arc::new(shared.clone()), settings, Arc::<Recorder>::default(), now).await
}

/// The ids of the stored keys, in the order in which they sign.
async fn ids(shared: &Shared) -> Vec<String> {
    let id = |key: &StoredKey| {
        serde_json::from_slice::<Value>(key.secret.bytes()).unwrap()["id"].as_str().unwrap().to_owned()
    };
    let mut keys = stored(shared).await.keys;
    lifecycle::sort(&mut keys);
    keys.iter().map(id).collect()
}

#[tokio::test]
async fn the_keys_of_a_module_are_taken_in_the_order_of_their_ids_and_none_twice() {
    let (shared, module) = (Shared::default(), Module::with(&[5, 9, 7]));
    module.add(20, Algorithm::EdDsa);
    let ring = open_on(&shared, &module, at(0)).await.unwrap();
    assert_eq!(ids(&shared).await, ["09"], "the newest of the configured algorithm");
    assert!(ring.is_ready(at(0)) && ring.list(at(0))[0].kept == "pkcs11");
    let none = ring.rotate(days(1)).await;
    assert!(matches!(none, Err(RotateError::Keys(KeysError::NoNewerKey))), "{none:?}");

    module.add(12, Algorithm::Es256);
    module.add(11, Algorithm::Es256);
    let plan = ring.plan_rotation(days(1)).await.unwrap();
    assert_eq!(ring.rotate(days(1)).await.unwrap(), plan, "also its name is known beforehand");
    assert_eq!(ids(&shared).await, ["09", "0b"]);
    // Taken back, the next one signs at once; and then the one after that.
    ring.retire(plan.incoming.as_ref().unwrap(), days(3)).await.unwrap();
    assert_eq!(ids(&shared).await.last().map(String::as_str), Some("0c"));
    let last = ring.signing(days(3)).unwrap().signer().unwrap().kid().unwrap().to_owned();
    let refused = ring.retire(&last, days(4)).await;
    assert!(
        matches!(refused, Err(RetireError::Keys(KeysError::NoNewerKey))),
        "there is nothing to sign with: {refused:?}"
    );
    ring.refresh(days(5)).await.unwrap();
    assert!(ring.signing(days(5)).is_ok());
}

#[tokio::test]
async fn a_module_that_is_away_or_has_no_newer_key_leaves_the_old_one_signing() {
    let (shared, module) = (Shared::default(), Module::with(&[1]));
    let ring = open_on(&shared, &module, at(0)).await.unwrap();
    let kid = ring.signing(at(0)).unwrap().signer().unwrap().kid().unwrap().to_owned();
    let looks = || module.looks.load(Ordering::SeqCst);
    let before = looks();
    for second in 0..300 {
        let due = ring.refresh(days(95).plus(Duration::from_secs(second))).await;
        assert!(matches!(due, Err(KeysError::NoNewerKey)), "it is told that one is due: {due:?}");
    }
    assert_eq!(looks() - before, 5, "the module is not asked all the time");
    assert_eq!(ring.signing(days(95)).unwrap().signer().unwrap().kid(), Some(kid.as_str()), "it is not outdated");

    module.set_down(true);
    let away = ring.refresh(days(96)).await;
    assert!(matches!(away, Err(KeysError::Module(ModuleFault::TokenMissing))), "{away:?}");
    assert!(!ring.is_ready(days(96)) && ring.signing(days(97)).is_ok());
    assert!(open_on(&shared, &module, days(96)).await.is_err(), "a server that cannot sign does not start");
    module.set_down(false);
    module.add(2, Algorithm::Es256);
    ring.refresh(days(97)).await.unwrap();
    assert_eq!(ids(&shared).await, ["01", "02"]);
}

#[tokio::test]
async fn a_server_without_the_module_publishes_its_key_and_signs_nothing_in_its_place() {
    let (shared, module) = (Shared::default(), Module::with(&[1]));
    let without = Server::start(&shared, Algorithm::Es256, at(0)).await;
    let ring = open_on(&shared, &module, at(5)).await.unwrap();
    without.ring.refresh(at(6)).await.unwrap();
    assert_eq!(without.published().len(), 2);
    let turn = at(DAY + 5);
    assert!(without.ring.signing(at(DAY)).unwrap().signer().is_ok());
    let signing = without.ring.signing(turn).unwrap();
    assert_eq!(signing.signer().map(drop), Err(MintFault::SignerUnavailable), "the old key's time is over");
    assert!(!without.ring.is_ready(turn) && ring.is_ready(turn));
}
