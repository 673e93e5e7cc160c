//! Metadata and keys: found, kept, renewed, and not relied on for ever (RFC 8414 §3.3; RFC 9068 §4).

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use certbind_proto::jws::Signer;
use certbind_verify::fetch::{AddressPolicy, Limits, OnlineVerifier, Settings};
use certbind_verify::{Demand, Thumbprint, Timestamp};
use serde_json::{Value, json};

use super::issuer::{AUDIENCE, Answer, JWKS, METADATA, StubIssuer, signer};

const MINUTE: i64 = 60;
const DAY: i64 = 24 * 60 * MINUTE;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(1_795_000_000 + seconds)
}

fn mine() -> Thumbprint {
    Thumbprint::of_der(b"my certificate")
}

struct Rig {
    issuer: StubIssuer,
    verifier: OnlineVerifier,
}

impl Rig {
    /// An issuer that publishes the key `k`, and a verifier that has asked for nothing yet.
    async fn new() -> (Self, Signer) {
        let rig = Self::with(AddressPolicy::AllowPrivate, Limits::default()).await;
        let signer = signer("k");
        rig.issuer.publishes(&[&signer]);
        (rig, signer)
    }

    async fn with(addresses: AddressPolicy, limits: Limits) -> Self {
        let issuer = StubIssuer::start().await;
        let fetch = Settings { limits, ..Settings::new(issuer.authorities(), addresses) };
        let settings = certbind_verify::Settings::new(&issuer.url(), AUDIENCE);
        Self { verifier: OnlineVerifier::new(settings, fetch).unwrap(), issuer }
    }

    /// The status for a token that is good but for the key it is signed with: 200, 401 or 503.
    async fn status(&self, signer: &Signer, now: Timestamp) -> u16 {
        let header = format!("Bearer {}", self.issuer.token(signer, &mine(), now));
        let outcome = self.verifier.verify([header.as_bytes()], Some(&mine()), &Demand::default(), now).await;
        outcome.map_or_else(|denied| denied.status(), |_| 200)
    }

    /// Waits, for a short while, until the issuer was asked this often.
    async fn asked(&self, path: &str, times: usize) {
        let start = Instant::now();
        while self.issuer.hits(path) < times {
            assert!(start.elapsed() < Duration::from_secs(10), "nobody asks for {path}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

#[tokio::test]
async fn rfc9068_4_the_first_token_fetches_the_keys_and_the_next_ones_do_not() {
    let (rig, k) = Rig::new().await;
    assert_eq!(rig.issuer.hits(METADATA), 0);
    for now in 0..100 {
        assert_eq!(rig.status(&k, at(now)).await, 200);
    }
    assert_eq!((rig.issuer.hits(METADATA), rig.issuer.hits(JWKS)), (1, 1));
    assert!(rig.verifier.warm_up(at(100)).await);
    assert_eq!(rig.verifier.trouble(), None);
    assert_eq!(rig.issuer.hits(METADATA), 1);
}

#[tokio::test]
async fn rfc8414_3_3_metadata_of_another_issuer_is_not_used() {
    let (rig, k) = Rig::new().await;
    let (url, jwks) = (rig.issuer.url(), format!("{}{JWKS}", rig.issuer.url()));
    let plain = jwks.replace("https", "http");
    let bad: Vec<(&str, Vec<u8>)> = [
        ("trailing slash", json!({ "issuer": format!("{url}/"), "jwks_uri": jwks })),
        ("case", json!({ "issuer": url.to_uppercase(), "jwks_uri": jwks })),
        ("other", json!({ "issuer": "https://evil.example.com", "jwks_uri": jwks })),
        ("array", json!({ "issuer": [url], "jwks_uri": jwks })),
        ("none", json!({ "jwks_uri": jwks })),
        ("no keys", json!({ "issuer": url })),
        ("keys over http", json!({ "issuer": url, "jwks_uri": plain })),
        ("keys in a file", json!({ "issuer": url, "jwks_uri": "file:///etc/passwd" })),
        ("keys of no text", json!({ "issuer": url, "jwks_uri": { "keys": [] } })),
    ]
    .map(|(name, document): (_, Value)| (name, document.to_string().into_bytes()))
    .into_iter()
    .chain([
        ("two issuers", format!(r#"{{"issuer":"https://evil","issuer":"{url}","jwks_uri":"{jwks}"}}"#).into_bytes()),
        ("garbage", b"\xff\xfe garbage".to_vec()),
        ("nothing", Vec::new()),
    ])
    .collect();
    for (at_step, (name, body)) in (0..).zip(bad) {
        rig.issuer.does(METADATA, Answer::Body("200 OK", body));
        assert_eq!(rig.status(&k, at(at_step * 30)).await, 503, "{name}");
    }
    rig.issuer.does(METADATA, Answer::Body("302 F\r\nlocation: /elsewhere", Vec::new()));
    assert_eq!(rig.status(&k, at(3000)).await, 503, "redirect");
    assert_eq!((rig.issuer.hits(JWKS), rig.issuer.hits("/elsewhere")), (0, 0));
    rig.issuer.answers(METADATA, &json!({ "issuer": url, "jwks_uri": jwks }));
    assert_eq!(rig.status(&k, at(3030)).await, 200, "it comes back alone");
}

#[tokio::test]
async fn rfc9068_4_rotation_a_new_key_is_found_on_first_sight() {
    let (rig, old) = Rig::new().await;
    let new = signer("new");
    assert_eq!(rig.status(&old, at(0)).await, 200);
    rig.issuer.publishes(&[&old, &new]);
    assert_eq!(rig.status(&new, at(29)).await, 401, "within the cool-down");
    assert_eq!(rig.status(&new, at(30)).await, 200);
    assert_eq!(rig.status(&old, at(30)).await, 200);
    rig.issuer.publishes(&[&new]);
    assert_eq!(rig.status(&old, at(30 + 10 * MINUTE - 1)).await, 200, "kept");
    assert_eq!(rig.status(&old, at(30 + 20 * MINUTE)).await, 401, "withdrawn, and the first request sees it");
    assert_eq!(rig.issuer.hits(JWKS), 3);
}

#[tokio::test]
async fn rfc8725_3_10_a_flood_of_random_kids_makes_one_fetch_in_a_cool_down() {
    let empty = json!({ "keys": [] }).to_string().into_bytes();
    for (name, answer) in [
        ("good", None),
        ("empty", Some(Answer::Body("200 OK", empty))),
        ("500", Some(Answer::Body("500 Oh", Vec::new()))),
        ("garbage", Some(Answer::Body("200 OK", b"{\"keys\":[[]]}}".to_vec()))),
    ] {
        let (rig, k) = Rig::new().await;
        if let Some(answer) = answer.clone() {
            rig.issuer.does(JWKS, answer);
        }
        for n in 0..1_000 {
            let header = json!({ "typ": "at+jwt", "alg": "ES256", "kid": format!("random-{n}") });
            let forged = format!("Bearer {}", with_header(&rig.issuer.token(&k, &mine(), at(0)), &header));
            let denied = rig.verifier.verify([forged.as_bytes()], Some(&mine()), &Demand::default(), at(n % 30)).await;
            assert!(matches!(denied.unwrap_err().status(), 401 | 503), "{name}");
        }
        assert_eq!((rig.issuer.hits(METADATA), rig.issuer.hits(JWKS)), (1, 1), "{name}");
        let expected = if answer.is_none() { 200 } else { 503 };
        let status = rig.status(&k, at(29)).await;
        assert!(status == expected || name == "empty" && status == 401, "{name}: {status}");
        rig.issuer.publishes(&[&k]);
        assert_eq!(rig.status(&k, at(30)).await, 200, "{name}, after the cool-down");
    }
}

/// The same token with another header.
fn with_header(token: &str, header: &Value) -> String {
    let (_, rest) = token.split_once('.').unwrap();
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc8725_3_10_many_at_once_share_one_fetch() {
    let (rig, k) = Rig::new().await;
    let rig = Arc::new(rig);
    let k = Arc::new(k);
    let asking = (0..200).map(|_| {
        let (rig, k) = (rig.clone(), k.clone());
        tokio::spawn(async move { rig.status(&k, at(0)).await })
    });
    for asked in asking.collect::<Vec<_>>() {
        assert_eq!(asked.await.unwrap(), 200);
    }
    assert_eq!((rig.issuer.hits(METADATA), rig.issuer.hits(JWKS)), (1, 1));
}

#[tokio::test]
async fn rfc8725_3_10_a_request_that_hangs_up_does_not_stop_the_fetch() {
    let (rig, k) = Rig::new().await;
    assert!(tokio::time::timeout(Duration::ZERO, rig.status(&k, at(0))).await.is_err());
    rig.asked(JWKS, 1).await;
    assert_eq!(rig.status(&k, at(1)).await, 200);
    assert_eq!(rig.issuer.hits(JWKS), 1);
}

#[tokio::test]
async fn rfc9068_4_an_outage_is_bridged_for_a_day_and_then_every_token_is_denied() {
    let (rig, k) = Rig::new().await;
    assert_eq!(rig.status(&k, at(0)).await, 200);
    rig.issuer.fails();
    let mut asked = 1;
    for now in [10 * MINUTE, 11 * MINUTE, 60 * MINUTE, DAY - 1] {
        assert_eq!(rig.status(&k, at(now)).await, 200, "at {now}");
        asked += 1;
        rig.asked(METADATA, asked).await;
    }
    assert_eq!(rig.status(&k, at(DAY)).await, 503, "too old");
    assert_eq!(rig.status(&k, at(DAY + 29)).await, 503, "asked in vain");
    assert_eq!(rig.issuer.hits(METADATA), asked + 1, "once in a cool-down");
    let url = rig.issuer.url();
    rig.issuer.answers(METADATA, &json!({ "issuer": url, "jwks_uri": format!("{url}{JWKS}") }));
    assert_eq!(rig.status(&k, at(DAY + 60)).await, 200, "it comes back alone");
}

#[tokio::test]
async fn garbage_from_the_issuer_changes_nothing() {
    let (rig, k) = Rig::new().await;
    assert_eq!(rig.status(&k, at(0)).await, 200);
    let many = json!({ "keys": vec![json!({ "kty": "OKP" }); 33] }).to_string().into_bytes();
    let deep = format!("{{\"keys\":{}", "[".repeat(60_000)).into_bytes();
    for (step, body) in
        (1..).zip([b"\xff\x00garbage".to_vec(), b"[]".to_vec(), b"{}".to_vec(), many, deep, vec![b' '; 70_000]])
    {
        rig.issuer.does(JWKS, Answer::Body("200 OK", body));
        let now = at(step * 10 * MINUTE);
        assert_eq!(rig.status(&signer("other"), now).await, 401, "waits for the fetch");
        assert_eq!(rig.status(&k, now).await, 200);
        assert_eq!(rig.issuer.hits(JWKS), usize::try_from(step).unwrap() + 1);
    }
}

#[tokio::test]
async fn a_busy_service_never_waits_for_a_silent_issuer() {
    let (rig, k) = Rig::new().await;
    assert_eq!(rig.status(&k, at(0)).await, 200);
    rig.issuer.does(METADATA, Answer::Silence);
    let start = Instant::now();
    for now in 10 * MINUTE..11 * MINUTE {
        assert_eq!(rig.status(&k, at(now)).await, 200);
    }
    assert!(start.elapsed() < Duration::from_secs(1), "took {:?}", start.elapsed());
}

#[tokio::test]
async fn a_silent_issuer_costs_the_first_request_its_deadline_and_no_more() {
    let impatient = Limits { total: Duration::from_millis(500), ..Limits::default() };
    let (rig, k) = (Rig::with(AddressPolicy::AllowPrivate, impatient).await, signer("k"));
    rig.issuer.does(JWKS, Answer::Silence);
    let start = Instant::now();
    for now in 0..30 {
        assert_eq!(rig.status(&k, at(now)).await, 503);
    }
    assert!(start.elapsed() < Duration::from_secs(3), "took {:?}", start.elapsed());
}

#[tokio::test]
async fn rfc8725_3_10_a_token_sends_nobody_anywhere() {
    let (rig, k) = Rig::new().await;
    let canary = StubIssuer::start().await;
    let token = rig.issuer.token(&k, &mine(), at(0));
    for name in ["jku", "x5u", "iss", "kid"] {
        let header = json!({ "typ": "at+jwt", "alg": "ES256", name: format!("{}{JWKS}", canary.url()) });
        let forged = format!("Bearer {}", with_header(&token, &header));
        let outcome = rig.verifier.verify([forged.as_bytes()], Some(&mine()), &Demand::default(), at(0)).await;
        assert_eq!(outcome.unwrap_err().status(), 401, "{name}");
    }
    assert_eq!(canary.hits(JWKS), 0);
}

#[tokio::test]
async fn rfc8725_3_10_private_addresses_are_not_connected_to_unless_allowed() {
    let rig = Rig::with(AddressPolicy::PublicOnly, Limits::default()).await;
    let k = signer("k");
    rig.issuer.publishes(&[&k]);
    assert_eq!(rig.status(&k, at(0)).await, 503);
    assert_eq!(rig.issuer.hits(METADATA), 0);
}

#[tokio::test]
async fn an_issuer_that_is_no_https_url_is_never_asked() {
    let issuer = StubIssuer::start().await;
    for name in [issuer.url().replace("https", "http"), "auth.example.com".to_owned(), String::new()] {
        let fetch = Settings::new(issuer.authorities(), AddressPolicy::AllowPrivate);
        let verifier = OnlineVerifier::new(certbind_verify::Settings::new(&name, AUDIENCE), fetch).unwrap();
        assert!(!verifier.warm_up(at(0)).await, "{name}");
        assert_eq!(verifier.trouble().as_deref(), Some("the issuer is not an https URL (RFC 8414 §2)"), "{name}");
    }
    assert_eq!(issuer.hits(METADATA), 0);
}
