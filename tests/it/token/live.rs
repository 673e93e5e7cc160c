//! What changes while the server runs, on connections that are open already.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use certbind_proto::jws::{Algorithm, SigningKey};
use hyper::Method;
use rustls::client::Resumption;
use serde_json::{Value, json};

use crate::support::BUSY;
use crate::support::caller::config;
use crate::support::setup::{signing_client, tls_client};
use crate::support::{Answer, Ask, Caller, Http, PKI, Rig, thumbprint, validity};

/// The longest time until a change counts.
const SOON: Duration = Duration::from_secs(1 + BUSY);

fn issued(answer: &Answer) -> bool {
    answer.status == 200
}

fn refused(answer: &Answer) -> bool {
    answer.json()["error"] == "invalid_client"
}

async fn connections(rig: &Rig) -> [Caller; 2] {
    let identity = Some(&PKI.billing.identity);
    [rig.connect(identity, Http::One).await, rig.connect(identity, Http::Two).await]
}

#[tokio::test]
async fn a_client_that_is_added_changed_disabled_and_removed_is_so_within_a_second() {
    let rig = Rig::start().await;
    for mut caller in connections(&rig).await {
        let ask = || Ask::by_certificate("new", &PKI.billing.identity);
        let text = tls_client("new", "san_uri", "spiffe://certbind.dev/billing");
        for (what, text, good, reason) in [
            ("added", text.clone(), issued as fn(&Answer) -> bool, None),
            ("another name", text.replace("dev/billing", "dev/other"), refused, Some("san_mismatch")),
            ("the old name", text.clone(), issued, None),
            ("disabled", text.clone() + "state = \"disabled\"\n", refused, Some("client_disabled")),
            ("enabled", text.clone(), issued, None),
            (
                "another scope",
                text.replace("payments:read ", ""),
                |answer| answer.json()["scope"] == "payments:write",
                None,
            ),
        ] {
            rig.replace_client("new", &text);
            let took = rig.soon(what, &mut caller, ask, good).await;
            assert!(took < SOON, "{what}: {took:?}");
            if let Some(reason) = reason {
                let answer = caller.send(&ask()).await;
                rig.is_refused(what, &answer, 400, "invalid_client", reason).await;
            }
        }
        fs::remove_file(rig.path("clients.d/new.toml")).unwrap();
        assert!(rig.soon("removed", &mut caller, ask, refused).await < SOON);
        let answer = caller.send(&ask()).await;
        rig.is_refused("removed", &answer, 400, "invalid_client", "client_unknown").await;
    }
    let changes = rig.audit_until(|line| line["event"] == "client.changed" && line["detail"] == "removed").await;
    assert!(changes.iter().all(|line| line["client_id"] == "new"));
    rig.end().await;
}

#[tokio::test]
async fn a_bad_client_file_changes_nothing_and_is_told() {
    let rig = Rig::start().await;
    let [mut caller, _] = connections(&rig).await;
    let good = tls_client("billing", "san_uri", "spiffe://certbind.dev/billing");
    for (what, bad) in [
        ("no TOML", "client_id = ".to_owned()),
        ("two names", good.replace("[certbind]", "tls_client_auth_san_dns = \"a.example\"\n[certbind]")),
        ("unknown key", good.clone() + "lables = {}\n"),
        ("unknown group", good.replace("\"dev\"", "\"prod\"")),
        ("empty", String::new()),
    ] {
        let told = |line: &Value| line["event"] == "config.rejected";
        let before = rig.audit().into_iter().filter(told).count();
        rig.replace_client("billing", &bad);
        let line = rig.audit_lines(before + 1, told).await.pop().unwrap();
        assert!(line["detail"].as_str().unwrap().contains("billing.toml"), "{what}: {line}");
        let answer = caller.send(&Ask::billing()).await;
        rig.is_issued(what, answer).await;
    }
    rig.replace_client("billing", &good.replace("payments:read ", ""));
    rig.soon("good again", &mut caller, Ask::billing, |answer| answer.json()["scope"] == "payments:write").await;
    rig.end().await;
}

#[tokio::test]
async fn rfc8705_2_1_a_revocation_counts_on_an_open_connection() {
    let rig = Rig::start().await;
    let [mut one, mut two] = connections(&rig).await;
    for caller in [&mut one, &mut two] {
        let answer = caller.send(&Ask::billing()).await;
        rig.is_issued("before", answer).await;
    }
    rig.replace("crl.pem", "garbage");
    rig.audit_until(|line| line["event"] == "config.rejected").await;
    let answer = one.send(&Ask::billing()).await;
    rig.is_issued("a broken list changes nothing", answer).await;

    rig.replace_crl(&PKI.revoke(2, &[&PKI.billing], validity()).unwrap());
    for caller in [&mut one, &mut two] {
        assert!(rig.soon("revoked", caller, Ask::billing, refused).await < SOON);
        let answer = caller.send(&Ask::billing()).await;
        rig.is_refused("revoked", &answer, 400, "invalid_client", "certificate_revoked").await;
    }
    rig.replace_crl(&PKI.revoke(3, &[], validity()).unwrap());
    rig.soon("taken back", &mut one, Ask::billing, issued).await;
    rig.end().await;
}

#[tokio::test]
async fn rfc8705_2_1_an_authority_that_is_taken_away_vouches_no_more_on_an_open_connection() {
    let rig = Rig::with(|setup| setup.set("trust.0.crl", "")).await;
    let [mut caller, _] = connections(&rig).await;
    let answer = caller.send(&Ask::billing()).await;
    rig.is_issued("before", answer).await;
    rig.replace("ca.pem", &PKI.rogue.certificate_pem());
    assert!(rig.soon("taken away", &mut caller, Ask::billing, refused).await < SOON);
    let answer = caller.send(&Ask::billing()).await;
    rig.is_refused("taken away", &answer, 400, "invalid_client", "chain_untrusted").await;
    rig.replace("ca.pem", &PKI.root.certificate_pem());
    rig.soon("back", &mut caller, Ask::billing, issued).await;
    rig.end().await;
}

#[tokio::test]
async fn rfc5280_4_1_2_5_a_certificate_expires_on_an_open_connection() {
    let rig = Rig::start().await;
    let [mut one, mut two] = connections(&rig).await;
    for caller in [&mut one, &mut two] {
        rig.at(0);
        let answer = caller.send(&Ask::billing()).await;
        rig.is_issued("before", answer).await;
        rig.at(30 * 86_400);
        let answer = caller.send(&Ask::billing()).await;
        rig.is_refused("after", &answer, 400, "invalid_client", "certificate_expired").await;
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc9846_a_resumed_session_is_held_against_everything_anew() {
    let rig = Rig::with(|setup| setup.set("listen.mtls.resumption", "true")).await;
    let mut resuming = (*config(Some(&PKI.billing.identity), Http::One)).clone();
    resuming.resumption = Resumption::in_memory_sessions(4);
    let resuming = Arc::new(resuming);
    let ask = async |expected: bool| {
        let answer = Caller::connect_with(rig.address(), &resuming).await.send(&Ask::billing()).await;
        assert_eq!(rig.audit_of(&answer).await["resumed"], expected);
        answer
    };
    rig.is_issued("full handshake", ask(false).await).await;
    let token = rig.is_issued("resumed", ask(true).await).await;
    assert_eq!(token.bound_to(), Some(thumbprint(&PKI.billing.identity).as_str()));

    rig.at(30 * 86_400);
    rig.is_refused("expired", &ask(true).await, 400, "invalid_client", "certificate_expired").await;
    rig.at(0);
    rig.replace_crl(&PKI.revoke(2, &[&PKI.billing], validity()).unwrap());
    let mut other = rig.connect(Some(&PKI.billing.identity), Http::One).await;
    rig.soon("revoked", &mut other, Ask::billing, refused).await;
    rig.is_refused("revoked", &ask(true).await, 400, "invalid_client", "certificate_revoked").await;
    rig.replace_crl(&PKI.revoke(3, &[], validity()).unwrap());
    rig.soon("taken back", &mut other, Ask::billing, issued).await;
    rig.end().await;
}

#[tokio::test]
async fn rfc7591_2_a_key_that_is_exchanged_counts_on_an_open_connection() {
    let key = Arc::new(SigningKey::generate(Algorithm::EdDsa).unwrap());
    let rig = Rig::start().await;
    let mut caller = rig.connect(Some(&PKI.batch.identity), Http::Two).await;
    let with_new =
        || rig.batch_with(&rig.assertion().header("alg", json!("EdDSA")).header("kid", json!("new")).key(&key));
    let answer = caller.send(&with_new()).await;
    rig.is_refused("before", &answer, 400, "invalid_client", "key_unknown").await;
    let old = fs::read_to_string(rig.path("clients.d/batch.toml")).unwrap();
    rig.replace_client("batch", &signing_client("batch", &[key.public_jwk("new").to_json()], "", ""));
    assert!(rig.soon("the new key", &mut caller, with_new, issued).await < SOON);
    let answer = caller.send(&rig.batch()).await;
    rig.is_refused("the old key", &answer, 400, "invalid_client", "key_unknown").await;
    rig.replace_client("batch", &old);
    rig.soon("back", &mut caller, || rig.batch(), issued).await;
    rig.end().await;
}

#[tokio::test]
async fn a_refused_request_leaves_the_connection_usable() {
    let rig = Rig::start().await;
    for mut caller in connections(&rig).await {
        for bad in [
            Ask::billing().set("grant_type", "password"),
            Ask::billing().method(Method::GET),
            Ask::billing().path("/nowhere"),
            Ask::billing().raw_body(b"%zz"),
            Ask::billing().content_type("text/plain"),
        ] {
            assert_ne!(caller.send(&bad).await.status, 200);
            let answer = caller.send(&Ask::billing()).await;
            rig.is_issued("after a refusal", answer).await;
        }
    }
    rig.end().await;
}
