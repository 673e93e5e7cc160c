//! The list of what is revoked: polled, kept, and not relied on for ever.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use certbind_proto::jws::Signer;
use certbind_proto::revocation_list::{Entries, Id, RevocationList, TYP};
use certbind_proto::time::FixedClock;
use certbind_verify::fetch::{AddressPolicy, Limits, OnlineVerifier, Polling, Revocation, Settings};
use certbind_verify::{Demand, Policy, Thumbprint, Timestamp, WhenStale};

use super::issuer::{AUDIENCE, Answer, JWKS, LIST, METADATA, StubIssuer, signer};

/// So often that no test waits for it.
const EVERY: Duration = Duration::from_millis(10);
/// Nothing in these tests takes this long.
const SOON: Duration = Duration::from_secs(10);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(1_795_000_000 + seconds)
}

fn mine() -> Thumbprint {
    Thumbprint::of_der(b"my certificate")
}

/// An issuer that publishes the key `k` and a list, and a verifier that polls it.
struct Rig {
    issuer: StubIssuer,
    signer: Signer,
    clock: Arc<FixedClock>,
    verifier: OnlineVerifier,
}

impl Rig {
    async fn new(policy: Policy, every: Duration) -> Self {
        let (issuer, signer) = (StubIssuer::start().await, signer("k"));
        issuer.publishes(&[&signer]);
        let clock = Arc::new(FixedClock::at(at(0)));
        let polling = Polling { clock: clock.clone(), every, policy, ..Polling::default() };
        let limits = Limits { total: Duration::from_millis(500), ..Limits::default() };
        let fetch = Settings::new(issuer.authorities(), AddressPolicy::AllowPrivate);
        let fetch = Settings { limits, revocation: Revocation::Polled(polling), ..fetch };
        let settings = certbind_verify::Settings::new(&issuer.url(), AUDIENCE);
        Self { verifier: OnlineVerifier::new(settings, fetch).unwrap(), issuer, signer, clock }
    }

    fn list(&self, signer: &Signer, jtis: &[&str], as_of: Timestamp) -> Vec<u8> {
        let tokens = jtis.iter().map(|jti| Id::of_token(jti)).collect();
        let entries = Entries::new(tokens, BTreeMap::new(), BTreeMap::new());
        let list = RevocationList { as_of, expires: as_of.plus(Duration::from_secs(3600)), entries };
        signer.sign_claims_as(TYP, &list.to_claims(&self.issuer.url())).unwrap().into_bytes()
    }

    /// The issuer says that these tokens are revoked, as of the time that the clock shows.
    fn revokes(&self, jtis: &[&str]) {
        let list = self.list(&self.signer, jtis, self.verifier_now());
        self.issuer.does(LIST, Answer::Body("200 OK\r\netag: \"one\"", list));
    }

    fn verifier_now(&self) -> Timestamp {
        use certbind_verify::Clock as _;
        self.clock.now()
    }

    /// `good`, or why the token of the stub (its `jti` is `id`) is denied.
    async fn reason(&self) -> &'static str {
        let now = self.verifier_now();
        let header = format!("Bearer {}", self.issuer.token(&self.signer, &mine(), now));
        let outcome = self.verifier.verify([header.as_bytes()], Some(&mine()), &Demand::default(), now).await;
        outcome.map_or_else(|denied| denied.reason(), |_| "good")
    }

    async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let began = Instant::now();
        while !holds() {
            assert!(began.elapsed() < SOON, "{what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits for so many more polls that ended.
    async fn polled(&self, times: usize) {
        // The one after them begins when they have ended.
        let before = self.issuer.hits(LIST);
        self.until("nobody polls", || self.issuer.hits(LIST) > before + times).await;
    }

    async fn until_reason(&self, expected: &str) {
        let began = Instant::now();
        while self.reason().await != expected {
            assert!(began.elapsed() < SOON, "not {expected} but {}", self.reason().await);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

#[tokio::test]
async fn fapi_5_3_4_3_a_revocation_is_in_force_within_one_poll_and_a_poll_costs_nothing_while_nothing_changes() {
    let rig = Rig::new(Policy::default(), EVERY).await;
    rig.revokes(&[]);
    assert_eq!(rig.reason().await, "good", "the first request waits for the first list");
    assert!(!rig.issuer.seen(LIST)[0].head.contains("if-none-match"));
    rig.issuer.does(LIST, Answer::Body("304 Same", Vec::new()));
    rig.polled(2).await;
    assert!(rig.issuer.seen(LIST).last().unwrap().head.contains("if-none-match: \"one\""));
    assert_eq!(rig.issuer.hits(METADATA), 2, "once for the keys, once for the list");
    assert_eq!(rig.reason().await, "good");
    rig.revokes(&["id"]);
    rig.until_reason("token_revoked").await;
    rig.revokes(&["other"]);
    rig.until_reason("good").await;
}

#[tokio::test]
async fn a_poll_that_brought_nothing_is_repeated_when_somebody_says_that_it_may_work_now() {
    let rig = Rig::new(Policy::default(), Duration::from_secs(3600)).await;
    rig.issuer.does(LIST, Answer::Body("500 Internal Server Error", Vec::new()));
    assert_eq!(rig.reason().await, "revocation_stale");
    rig.revokes(&[]);
    rig.verifier.retry_now();
    rig.until_reason("good").await;
    let before = rig.issuer.hits(LIST);
    rig.verifier.retry_now();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(rig.issuer.hits(LIST), before, "one that brought a list is not");
}

#[tokio::test]
async fn fault_23_a_list_that_cannot_be_renewed_serves_until_it_is_too_old_and_then_everything_is_denied() {
    for (when_stale, too_old) in [(WhenStale::Deny, "revocation_stale"), (WhenStale::Accept, "good")] {
        let policy = Policy { max_age: Duration::from_secs(600), when_stale };
        let rig = Rig::new(policy, EVERY).await;
        rig.revokes(&[]);
        assert_eq!(rig.reason().await, "good");
        rig.issuer.does(LIST, Answer::Body("500 Oh", Vec::new()));
        rig.clock.set(at(630));
        rig.polled(1).await;
        assert_eq!(rig.reason().await, "good", "{when_stale:?}: ten minutes, and clocks may differ");
        rig.clock.set(at(631));
        assert_eq!(rig.reason().await, too_old, "{when_stale:?}");
        // A server that does not know what others revoked goes on publishing a list that does not claim to.
        rig.issuer.does(LIST, Answer::Body("200 OK", rig.list(&rig.signer, &[], at(0))));
        rig.polled(2).await;
        assert_eq!(rig.reason().await, too_old, "{when_stale:?}: as old as before");
        rig.revokes(&[]);
        rig.until_reason("good").await;
    }
}

#[tokio::test]
async fn fault_23_what_is_no_list_of_the_issuer_changes_nothing() {
    let rig = Rig::new(Policy::default(), EVERY).await;
    rig.revokes(&["id"]);
    assert_eq!(rig.reason().await, "token_revoked");
    let (stranger, entries) = (signer("k"), [].as_slice());
    let list = |as_of| RevocationList {
        as_of,
        expires: at(3600),
        entries: Entries::new(Vec::new(), BTreeMap::new(), BTreeMap::new()),
    };
    let as_token = rig.signer.sign_claims(&list(at(1)).to_claims(&rig.issuer.url())).unwrap();
    let of_other = rig.signer.sign_claims_as(TYP, &list(at(1)).to_claims("https://other.test")).unwrap();
    for (case, status, body) in [
        ("signed by another key", "200 OK", rig.list(&stranger, entries, at(1))),
        ("of another type", "200 OK", as_token.into_bytes()),
        ("of another issuer", "200 OK", of_other.into_bytes()),
        ("rolled back", "200 OK", rig.list(&rig.signer, entries, at(-31))),
        ("no text", "200 OK", b"\xff\xfe".to_vec()),
        ("nothing", "200 OK", Vec::new()),
        ("a redirect", "302 F\r\nlocation: /elsewhere", Vec::new()),
        ("oversized", "200 OK", vec![b'x'; 8 * 1024 * 1024 + 1]),
        ("not found", "404 No", Vec::new()),
    ] {
        rig.issuer.does(LIST, Answer::Body(status, body));
        rig.polled(1).await;
        assert_eq!(rig.reason().await, "token_revoked", "{case}");
    }
    assert_eq!(rig.issuer.hits("/elsewhere"), 0);
    rig.clock.set(at(2));
    rig.revokes(&[]);
    rig.until_reason("good").await;
}

#[tokio::test]
async fn fault_23_without_any_list_the_first_request_waits_a_bounded_time_and_no_other_does() {
    let rig = Rig::new(Policy::default(), Duration::from_secs(3600)).await;
    rig.issuer.does(LIST, Answer::Silence);
    let began = Instant::now();
    assert_eq!(rig.reason().await, "revocation_stale");
    assert!(began.elapsed() < SOON);
    assert!(!rig.verifier.warm_up(at(0)).await);
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(rig.reason().await, "revocation_stale");
    }
    assert!(began.elapsed() < Duration::from_secs(4), "20 requests took {:?}", began.elapsed());
    assert_eq!(rig.issuer.hits(LIST), 1, "and nobody asks more often for it");
}

#[tokio::test]
async fn rfc9068_4_rotation_a_list_by_a_new_key_is_taken_once_the_key_is_known() {
    let rig = Rig::new(Policy::default(), EVERY).await;
    rig.revokes(&[]);
    assert_eq!(rig.reason().await, "good");
    let new = signer("new");
    rig.issuer.publishes(&[&rig.signer, &new]);
    rig.clock.set(at(30));
    rig.issuer.does(LIST, Answer::Body("200 OK", rig.list(&new, &["id"], at(30))));
    rig.until_reason("token_revoked").await;
    assert_eq!(rig.issuer.hits(JWKS), 2);
}

#[tokio::test]
async fn polling_ends_with_the_last_verifier() {
    let rig = Rig::new(Policy::default(), EVERY).await;
    rig.revokes(&[]);
    assert_eq!(rig.reason().await, "good");
    let (issuer, verifier) = (rig.issuer, rig.verifier);
    let copy = verifier.clone();
    drop(verifier);
    let before = issuer.hits(LIST);
    while issuer.hits(LIST) == before {
        tokio::time::sleep(EVERY).await;
    }
    drop(copy);
    tokio::time::sleep(EVERY * 3).await;
    let before = issuer.hits(LIST);
    tokio::time::sleep(EVERY * 10).await;
    assert_eq!(issuer.hits(LIST), before);
}
