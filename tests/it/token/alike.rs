//! What a prober learns: nothing (RFC 6749 §5.2, §10.10).

use std::sync::Arc;

use certbind_proto::jws::{Algorithm, SigningKey};
use serde_json::json;

use crate::support::setup::tls_client;
use crate::support::{Ask, Assertion, Http, PKI, Rig};

#[tokio::test]
async fn rfc6749_5_2_an_unknown_client_gets_the_same_bytes_as_a_wrong_certificate_or_a_bad_assertion() {
    let forger = Arc::new(SigningKey::generate(Algorithm::Es256).unwrap());
    let rig = Rig::with(|setup| {
        let text = tls_client("off", "san_uri", "spiffe://certbind.dev/billing") + "state = \"disabled\"\n";
        setup.client("off", text);
        setup.client("revoked", tls_client("revoked", "san_uri", "spiffe://certbind.dev/revoked"));
    })
    .await;
    let replayed = rig.batch();
    rig.issues("first use", &replayed).await;
    let of_nobody = Assertion::of("nobody", "batch-1", Arc::clone(&forger), rig.now());
    let cases = [
        ("client_unknown", Ask::by_certificate("nobody", &PKI.billing.identity)),
        ("client_unknown", rig.batch_with(&of_nobody)),
        ("client_disabled", Ask::by_certificate("off", &PKI.billing.identity)),
        ("client_id_missing", Ask::billing().without("client_id")),
        ("certificate_missing", Ask::billing().over_none()),
        ("certificate_revoked", Ask::by_certificate("revoked", &PKI.revoked.identity)),
        ("chain_untrusted", Ask::billing().over(&PKI.thief.identity)),
        ("san_mismatch", Ask::billing().over(&PKI.sibling.identity)),
        ("thumbprint_unknown", Ask::ledger().over(&PKI.sibling.identity)),
        ("method_not_registered", Ask::by_certificate("batch", &PKI.batch.identity)),
        ("assertion_signature", rig.batch_with(&rig.assertion().key(&forger))),
        ("key_unknown", rig.batch_with(&rig.assertion().header("kid", json!("other")))),
        ("assertion_audience", rig.batch_with(&rig.assertion().claim("aud", json!("x")))),
        ("assertion_expired", rig.batch_with(&rig.assertion().claim("exp", json!(1)))),
        ("assertion_malformed", Ask::by_assertion("a.b.c")),
        ("assertion_replayed", replayed),
        ("alg_not_allowed", rig.batch_with(&rig.assertion().header("alg", json!("none")))),
    ];
    for http in [Http::One, Http::Two] {
        let mut first = None;
        for (reason, ask) in &cases {
            let answer = rig.connect(ask.certificate.as_ref(), http).await.send(ask).await;
            rig.is_refused(reason, &answer, 400, "invalid_client", reason).await;
            let first = first.get_or_insert_with(|| answer.comparable());
            assert_eq!(*first, answer.comparable(), "{reason} {http:?}");
        }
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc6749_10_10_who_fails_too_often_is_slowed_down_and_nobody_else_is() {
    let rig = Rig::with(|setup| setup.set("limits.failed_auth_per_address", "3/h")).await;
    let guess = Ask::by_certificate("nobody", &PKI.billing.identity);
    for i in 0..3 {
        rig.refuses(&i.to_string(), &guess, 400, "invalid_client", "client_unknown").await;
    }
    let mut first = None;
    for ask in [guess, Ask::billing().over(&PKI.thief.identity), Ask::by_assertion("a.b.c")] {
        let answer = rig.refuses("too often", &ask, 429, "temporarily_unavailable", "failed_too_often").await;
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_eq!(*first.get_or_insert_with(|| answer.comparable()), answer.comparable());
    }
    for ask in [Ask::billing(), Ask::ledger(), rig.batch()] {
        rig.issues("a neighbour at the same address", &ask).await;
    }
    rig.refuses("no client's failure", &Ask::billing().with("scope", "x"), 400, "invalid_scope", "scope_not_allowed")
        .await;
    rig.end().await;
}

#[tokio::test]
async fn a_client_that_asks_too_often_waits_and_nobody_else_does() {
    let rig = Rig::with(|setup| setup.set("limits.token_requests_per_client", "2/h")).await;
    for i in 0..2 {
        rig.issues(&i.to_string(), &Ask::ledger()).await;
    }
    let answer = rig.refuses("too often", &Ask::ledger(), 429, "temporarily_unavailable", "asked_too_often").await;
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(rig.metrics().contains("certbind_rate_limited_total{reason=\"asked_too_often\"} 1"));
    rig.end().await;
}
