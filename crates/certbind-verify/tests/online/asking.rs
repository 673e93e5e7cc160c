//! Introspection: the issuer is asked about each token, and its answer remembered for a moment (RFC 7662 §4).

use std::sync::Arc;
use std::time::{Duration, Instant};

use certbind_proto::assertion;
use certbind_proto::jws::{Algorithm, Parsed, Signer, SigningKey};
use certbind_proto::request::Form;
use certbind_verify::fetch::{AddressPolicy, Asking, Credential, Limits, OnlineVerifier, Revocation, Settings};
use certbind_verify::{Demand, Thumbprint, Timestamp, WhenStale};
use serde_json::json;

use super::issuer::{AUDIENCE, Answer, INTROSPECT, StubIssuer, signer};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(1_795_000_000 + seconds)
}

fn mine() -> Thumbprint {
    Thumbprint::of_der(b"my certificate")
}

/// An issuer that is asked about each token, by an assertion of `api`.
struct Rig {
    issuer: StubIssuer,
    signer: Signer,
    verifier: OnlineVerifier,
}

impl Rig {
    async fn new(when_away: WhenStale) -> Self {
        let (issuer, signer) = (StubIssuer::start().await, signer("k"));
        issuer.publishes(&[&signer]);
        let own = Signer::new(SigningKey::generate(Algorithm::Es256).unwrap(), assertion::TYP, Some("api-1"));
        let asking = Asking { when_away, ..Asking::new("api", Credential::Assertion(Arc::new(own))) };
        let fetch = Settings::new(issuer.authorities(), AddressPolicy::AllowPrivate);
        let limits = Limits { total: Duration::from_millis(500), ..Limits::default() };
        let fetch = Settings { limits, revocation: Revocation::Asked(asking), ..fetch };
        let settings = certbind_verify::Settings::new(&issuer.url(), AUDIENCE);
        Self { verifier: OnlineVerifier::new(settings, fetch).unwrap(), issuer, signer }
    }

    fn says(&self, answer: &serde_json::Value) {
        self.issuer.answers(INTROSPECT, answer);
    }

    async fn reason(&self, token: &str, now: Timestamp) -> &'static str {
        let header = format!("Bearer {token}");
        let outcome = self.verifier.verify([header.as_bytes()], Some(&mine()), &Demand::default(), now).await;
        outcome.map_or_else(|denied| denied.reason(), |_| "good")
    }

    fn token(&self, issued: Timestamp) -> String {
        self.issuer.token(&self.signer, &mine(), issued)
    }
}

#[tokio::test]
async fn rfc7662_4_an_answer_counts_for_a_moment_and_never_beyond_the_tokens_end() {
    let rig = Rig::new(WhenStale::Deny).await;
    rig.says(&json!({ "active": true }));
    let token = rig.token(at(0));
    for (now, questions) in [(0, 1), (4, 1), (5, 2), (9, 2), (10, 3), (298, 4), (299, 4)] {
        assert_eq!(rig.reason(&token, at(now)).await, "good", "{now}");
        assert_eq!(rig.issuer.hits(INTROSPECT), questions, "{now}");
    }
    // The token has 30 s of grace for clocks that differ, the answer has none.
    rig.says(&json!({ "active": false }));
    assert_eq!(rig.reason(&token, at(300)).await, "token_revoked");
    let other = rig.token(at(301));
    assert_eq!(rig.reason(&other, at(301)).await, "token_revoked", "each token is asked about");
    rig.says(&json!({ "active": true }));
    assert_eq!(rig.reason(&other, at(305)).await, "token_revoked", "a bad answer is remembered as well");
    assert_eq!(rig.reason(&other, at(306)).await, "good");
}

#[tokio::test]
async fn rfc7662_2_1_the_question_is_a_form_with_the_token_and_a_fresh_assertion_for_the_issuer() {
    let rig = Rig::new(WhenStale::Deny).await;
    rig.says(&json!({ "active": true }));
    let tokens = [rig.token(at(0)), rig.token(at(1))];
    for token in &tokens {
        assert_eq!(rig.reason(token, at(1)).await, "good");
    }
    let mut jtis = Vec::new();
    for (seen, token) in rig.issuer.seen(INTROSPECT).iter().zip(&tokens) {
        assert!(seen.head.starts_with("post /introspect "), "{}", seen.head);
        assert!(seen.head.contains("accept: application/json"), "{}", seen.head);
        let form = Form::parse(seen.body.as_bytes()).unwrap();
        assert_eq!((form.get("token"), form.get("client_id")), (Some(token.as_str()), Some("api")));
        let parsed = Parsed::parse(form.get("client_assertion").unwrap()).unwrap();
        let claims = parsed.claims().unwrap();
        assert_eq!((&claims["aud"], &claims["iss"]), (&json!(rig.issuer.url()), &json!("api")));
        jtis.push(claims["jti"].as_str().unwrap().to_owned());
    }
    assert_ne!(jtis[0], jtis[1]);
}

#[tokio::test]
async fn a_token_that_is_not_good_anyway_is_not_asked_about() {
    let rig = Rig::new(WhenStale::Deny).await;
    rig.says(&json!({ "active": true }));
    let expired = rig.token(at(-400));
    assert_eq!(rig.reason(&expired, at(0)).await, "token_expired");
    let header = format!("Bearer {}", rig.token(at(0)));
    let thief = Thumbprint::of_der(b"thief");
    let denied = rig.verifier.verify([header.as_bytes()], Some(&thief), &Demand::default(), at(0)).await.unwrap_err();
    assert_eq!(denied.reason(), "binding_mismatch");
    assert_eq!(rig.issuer.hits(INTROSPECT), 0);
}

#[tokio::test]
async fn fault_23_without_a_clear_answer_every_token_is_denied_or_none_as_was_decided() {
    for (when_away, expected) in [(WhenStale::Deny, "revocation_stale"), (WhenStale::Accept, "good")] {
        let rig = Rig::new(when_away).await;
        let answers = [
            Answer::Body("500 Oh", Vec::new()),
            Answer::Body("401 No", br#"{"active":true}"#.to_vec()),
            Answer::Body("200 OK", br#"{"active":"true"}"#.to_vec()),
            Answer::Body("200 OK", br#"{"active":true,"active":false}"#.to_vec()),
            Answer::Body("200 OK", vec![b' '; 100_000]),
            Answer::Body("302 F\r\nlocation: /elsewhere", Vec::new()),
            Answer::Silence,
        ];
        let mut now = 0;
        for answer in answers {
            rig.issuer.does(INTROSPECT, answer);
            // Past the pause that a failure makes.
            now += 2;
            let token = rig.token(at(now));
            assert_eq!(rig.reason(&token, at(now)).await, expected, "{when_away:?} {now}");
            let asked = rig.issuer.hits(INTROSPECT);
            let began = Instant::now();
            assert_eq!(rig.reason(&token, at(now)).await, expected, "{when_away:?} {now}: nobody waits twice");
            assert!(began.elapsed() < Duration::from_millis(400));
            assert_eq!(rig.issuer.hits(INTROSPECT), asked);
        }
        rig.says(&json!({ "active": false }));
        assert_eq!(rig.reason(&rig.token(at(now + 2)), at(now + 2)).await, "token_revoked", "it comes back alone");
    }
}

#[tokio::test]
async fn of_many_requests_with_one_token_one_asks() {
    let rig = Arc::new(Rig::new(WhenStale::Deny).await);
    rig.says(&json!({ "active": true }));
    let token = Arc::new(rig.token(at(0)));
    let requests: Vec<_> = (0..50)
        .map(|_| {
            let (rig, token) = (Arc::clone(&rig), Arc::clone(&token));
            tokio::spawn(async move { rig.reason(&token, at(0)).await })
        })
        .collect();
    for request in requests {
        assert_eq!(request.await.unwrap(), "good");
    }
    assert_eq!(rig.issuer.hits(INTROSPECT), 1);
}
