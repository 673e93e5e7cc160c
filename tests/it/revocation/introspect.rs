//! `POST /oauth2/introspect` (RFC 7662).

use std::fs;
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};

use super::{INTROSPECT, api, asking, other, resource_servers, revoking};
use crate::support::setup::{batch_jwk, client, jwks_member, self_signed_client, tls_client};
use crate::support::{API, Answer, Ask, Caller, Http, ISSUER, PKI, Rig, SCOPE};

const INACTIVE: &str = r#"{"active":false}"#;

fn is_active(answer: &Answer) -> bool {
    answer.json()["active"] == true
}

/// The answer says nothing but that the token is not good; the audit log knows why.
async fn is_inactive(rig: &Rig, case: &str, answer: &Answer, reason: &str) {
    let audit = rig.audit_of(answer).await;
    assert_eq!((answer.status, &answer.body[..]), (200, INACTIVE.as_bytes()), "{case}: {audit}");
    assert_eq!((&audit["event"], &audit["outcome"]), (&json!("token.introspected"), &json!("success")), "{case}");
    assert_eq!(audit["reason"], reason, "{case}: {audit}");
}

/// Waits until the answer is that the token is not good.
async fn until_inactive(what: &str, caller: &mut Caller, ask: &Ask, bound: Duration) {
    let began = Instant::now();
    while is_active(&caller.send(ask).await) {
        assert!(began.elapsed() < bound, "{what}: still active");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn rfc7662_2_2_a_resource_server_learns_what_a_good_token_says_by_each_method() {
    let rig = Rig::with(|setup| {
        resource_servers(setup);
        let serves = format!("audiences = []\nresource_server = [\"{API}\"]\n");
        let own = format!("{serves}certificates = [\"file:../clients/ledger.pem\"]");
        setup.client("self-signed", self_signed_client("self-signed", "grant_types = []\n", &own));
        let members = "grant_types = []\ntoken_endpoint_auth_method = \"private_key_jwt\"\n".to_owned();
        setup.client("batch", client("batch", &(members + &jwks_member(&[batch_jwk()])), &serves));
    })
    .await;
    let token = rig.issues("billing", &Ask::billing()).await;
    let expected = json!({
        "active": true,
        "token_type": "Bearer",
        "iss": ISSUER,
        "sub": "billing",
        "client_id": "billing",
        "aud": API,
        "scope": SCOPE,
        "iat": token.claims["iat"],
        "exp": token.claims["exp"],
        "jti": token.claims["jti"],
        "cnf": { "x5t#S256": token.bound_to() },
    });
    for (case, ask) in [
        ("tls_client_auth", api()),
        ("self_signed_tls_client_auth", Ask::by_certificate("self-signed", &PKI.ledger.identity)),
        ("private_key_jwt", rig.batch()),
        ("without a certificate", rig.batch().over_none()),
    ] {
        let answer = rig.send(&asking(ask, &token.text)).await;
        let audit = rig.audit_of(&answer).await;
        assert_eq!((answer.status, answer.json()), (200, expected.clone()), "{case}: {audit}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{case}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{case}");
        assert_eq!((&audit["jti"], audit.get("reason")), (&token.claims["jti"], None), "{case}");
        assert!(!audit.to_string().contains(&token.text), "{case}: the token is in the audit log");
    }
    assert!(rig.metrics().contains("route=\"introspect\",code=\"200\""));
    rig.stop().await;
}

#[tokio::test]
async fn attack_29_rfc7662_2_3_whoever_fails_to_prove_himself_gets_401_with_a_challenge_and_learns_nothing() {
    let rig = Rig::with(resource_servers).await;
    let token = rig.issues("billing", &Ask::billing()).await;
    let used = rig.batch();
    rig.issues("an assertion that is used up", &used).await;
    let mut first = None;
    for (reason, ask) in [
        ("certificate_missing", api().over_none()),
        ("client_id_missing", api().without("client_id")),
        ("client_unknown", Ask::by_certificate("nobody", &PKI.sibling.identity)),
        ("chain_untrusted", api().over(&PKI.thief.identity)),
        ("san_mismatch", api().over(&PKI.billing.identity)),
        ("method_unsupported", api().with("client_secret", "s")),
        ("assertion_replayed", used),
        (
            "assertion_audience",
            rig.batch_with(&rig.assertion().claim("aud", json!("https://auth.test/oauth2/introspect"))),
        ),
        ("two_methods", rig.batch().with("client_secret", "s")),
    ] {
        let answer = rig.send(&asking(ask, &token.text)).await;
        let audit = rig.audit_of(&answer).await;
        assert_eq!((answer.status, &answer.json()["error"]), (401, &json!("invalid_client")), "{reason}: {audit}");
        assert_eq!((&audit["event"], &audit["reason"]), (&json!("token.introspected"), &json!(reason)), "{reason}");
        assert!(answer.header("www-authenticate").is_some(), "{reason}");
        assert_eq!(*first.get_or_insert_with(|| answer.comparable()), answer.comparable(), "{reason}");
    }
    let basic = rig.send(&asking(api().header("authorization", "Basic x"), &token.text)).await;
    assert_eq!((basic.status, basic.header("www-authenticate").unwrap().starts_with("Basic ")), (401, true));
    let bearer = rig.send(&asking(api().header("authorization", &format!("Bearer {}", token.text)), &token.text)).await;
    assert_eq!((bearer.status, &bearer.json()["error"]), (401, &json!("invalid_client")));
    rig.end().await;
}

#[tokio::test]
async fn attack_33_rfc7662_2_2_unknown_expired_revoked_foreign_and_malformed_look_alike() {
    let rig = Rig::with(|setup| {
        resource_servers(setup);
        setup.client("gone", tls_client("gone", "san_email", "by-email@certbind.dev"));
        setup.client("off", tls_client("off", "san_ip", "192.0.2.7"));
    })
    .await;
    let token = rig.issues("billing", &Ask::billing()).await;
    let (input, signature) = token.text.rsplit_once('.').unwrap();
    let forged = format!("{input}.{}{}", if signature.starts_with('A') { 'B' } else { 'A' }, &signature[1..]);
    let revoked = rig.issues("revoked", &Ask::billing()).await;
    assert_eq!(rig.send(&revoking(Ask::billing(), &revoked.text)).await.status, 200);
    let gone = rig.issues("gone", &Ask::by_certificate("gone", &PKI.by_email.identity)).await;
    let off = rig.issues("off", &Ask::by_certificate("off", &PKI.by_ip.identity)).await;
    fs::remove_file(rig.path("clients.d/gone.toml")).unwrap();
    rig.replace_client("off", &(tls_client("off", "san_ip", "192.0.2.7") + "state = \"disabled\"\n"));
    rig.audit_lines(2, |line| line["event"] == "client.changed").await;

    let unknown = rig.send(&asking(api(), "pPvLJ9F6bSkXqSGiz0uV")).await;
    is_inactive(&rig, "random", &unknown, "token_malformed").await;
    for (case, ask, text, reason) in [
        ("of another resource", other(), &token.text, "token_audience"),
        ("by its own client", Ask::billing(), &token.text, "token_audience"),
        ("forged", api(), &forged, "token_signature"),
        ("of another issuer", api(), &rig.assertion().sign(), "key_unknown"),
        ("revoked", api(), &revoked.text, "token_revoked"),
        ("revoked, of another resource", other(), &revoked.text, "token_audience"),
        ("of a client that is gone", api(), &gone.text, "client_unknown"),
        ("of a client that is disabled", api(), &off.text, "client_disabled"),
    ] {
        let answer = rig.send(&asking(ask, text)).await;
        is_inactive(&rig, case, &answer, reason).await;
        assert_eq!(answer.comparable(), unknown.comparable(), "{case}");
    }
    assert!(is_active(&rig.send(&asking(api(), &token.text)).await));
    rig.at(299);
    assert!(is_active(&rig.send(&asking(api(), &token.text)).await), "to its last second");
    rig.at(300);
    let expired = rig.send(&asking(api(), &token.text)).await;
    is_inactive(&rig, "expired", &expired, "token_expired").await;
    assert_eq!(expired.comparable(), unknown.comparable());
    rig.at(-30);
    let early = rig.send(&asking(api(), &token.text)).await;
    is_inactive(&rig, "from the future", &early, "token_not_yet_valid").await;
    rig.end().await;
}

#[tokio::test]
async fn rfc7662_2_1_a_token_is_asked_about_by_post_and_the_hint_changes_nothing() {
    let rig = Rig::with(resource_servers).await;
    let token = rig.issues("billing", &Ask::billing()).await;
    for hint in ["access_token", "refresh_token", "x"] {
        let answer = rig.send(&asking(api(), &token.text).with("token_type_hint", hint)).await;
        assert!(is_active(&answer), "{hint}");
    }
    let inactive = rig.send(&asking(api(), "x").with("token_type_hint", "access_token")).await;
    is_inactive(&rig, "a hint", &inactive, "token_malformed").await;
    for (reason, ask) in [
        ("token_parameter_missing", api().path(INTROSPECT)),
        ("token_parameter_missing", api().path(INTROSPECT).with("token", "")),
        ("parameter_repeated", asking(api(), &token.text).with("token", &token.text)),
        ("parameters_in_query", asking(api(), &token.text).path("/oauth2/introspect?x=1")),
        ("content_type", asking(api(), &token.text).content_type("application/json")),
    ] {
        let answer = rig.send(&ask).await;
        let audit = rig.audit_of(&answer).await;
        assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("invalid_request")), "{reason}");
        assert_eq!((&audit["event"], &audit["reason"]), (&json!("token.introspected"), &json!(reason)));
    }
    for method in [Method::GET, Method::HEAD, Method::PUT] {
        let answer = rig.send(&api().path(INTROSPECT).method(method.clone())).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{method}");
    }
    rig.end().await;
}

#[tokio::test]
async fn a_resource_server_gets_no_token() {
    let rig = Rig::with(resource_servers).await;
    rig.refuses("api", &api(), 400, "unauthorized_client", "grant_not_registered").await;
    rig.end().await;
}

#[tokio::test]
async fn rfc7009_2_1_p4_a_revocation_counts_on_open_connections_after_a_restart_and_on_other_servers() {
    let rig = Rig::with(resource_servers).await;
    let beside = rig.beside().await;
    let mut here = [
        rig.connect(api().certificate.as_ref(), Http::One).await,
        rig.connect(api().certificate.as_ref(), Http::Two).await,
    ];
    let mut there = Caller::connect(beside.address().unwrap(), api().certificate.as_ref(), Http::One).await;
    let token = rig.issues("billing", &Ask::billing()).await;
    let ask = asking(api(), &token.text);
    for caller in here.iter_mut().chain([&mut there]) {
        assert!(is_active(&caller.send(&ask).await));
    }
    assert_eq!(rig.send(&revoking(Ask::billing(), &token.text)).await.status, 200);
    for caller in &mut here {
        is_inactive(&rig, "at once", &caller.send(&ask).await, "token_revoked").await;
    }
    // A second is the promise; the rest is for a machine that is busy with other tests.
    until_inactive("on the other server", &mut there, &ask, Duration::from_secs(3)).await;
    drop((here, there));
    beside.stop().await;
    let rig = rig.restart().await;
    is_inactive(&rig, "after a restart", &rig.send(&ask).await, "token_revoked").await;
    rig.end().await;
}

#[tokio::test]
async fn p3_fault_4_a_resource_server_with_a_certificate_is_answered_while_the_store_is_away() {
    let rig = Rig::with(resource_servers).await;
    let token = rig.issues("billing", &Ask::billing()).await;
    let store = rusqlite::Connection::open(rig.path("data/certbind.db")).unwrap();
    store.execute_batch("BEGIN EXCLUSIVE").unwrap();
    assert!(is_active(&rig.send(&asking(api(), &token.text)).await));
    let by_assertion = rig.send(&asking(rig.batch(), &token.text)).await;
    assert_eq!((by_assertion.status, by_assertion.header("retry-after")), (503, Some("1")));
    store.execute_batch("ROLLBACK").unwrap();
    rig.end().await;
}

#[tokio::test]
async fn rfc9701_5_a_resource_server_sees_only_the_scope_that_has_a_meaning_there() {
    const LEDGER_API: &str = "https://ledger.test";
    let rig = Rig::with(|setup| {
        resource_servers(setup);
        setup.more += &format!(
            "[[resource]]\nidentifier = \"{API}\"\nscope = \"pay.read shared\"\n\
             [[resource]]\nidentifier = \"{LEDGER_API}\"\nscope = \"ledger.read shared\"\n"
        );
        let members = "token_endpoint_auth_method = \"tls_client_auth\"\n\
                       tls_client_auth_san_uri = \"spiffe://certbind.dev/billing\"\n\
                       scope = \"pay.read ledger.read shared anywhere\"\n";
        let own = format!("trust = \"dev\"\naudiences = [\"{API}\", \"{LEDGER_API}\"]");
        setup.client("billing", client("billing", members, &own));
    })
    .await;
    let both = Ask::billing().with("resource", API).with("resource", LEDGER_API);
    let token = rig.issues("for both", &both).await;
    assert_eq!(token.claims["scope"], "anywhere ledger.read pay.read shared");
    let answer = rig.send(&asking(api(), &token.text)).await;
    let told: Value = answer.json();
    assert_eq!((&told["active"], &told["scope"]), (&json!(true), &json!("anywhere pay.read shared")));
    rig.stop().await;
}
