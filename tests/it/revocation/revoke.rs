//! `POST /oauth2/revoke` (RFC 7009).

use certbind_devpki::LeafSpec;
use hyper::Method;
use serde_json::json;

use super::{REVOKE, revoking};
use crate::support::{Answer, Ask, Caller, Http, PKI, Rig, validity};

/// The answer is that of a success, and the audit log tells what it was about.
async fn is_done(rig: &Rig, case: &str, answer: &Answer, jti: Option<&str>, reason: Option<&str>) {
    let audit = rig.audit_of(answer).await;
    assert_eq!((answer.status, answer.body.len()), (200, 0), "{case}: {audit}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{case}");
    assert_eq!((&audit["event"], &audit["outcome"]), (&json!("token.revoked"), &json!("success")), "{case}");
    assert_eq!((audit["jti"].as_str(), audit["reason"].as_str()), (jti, reason), "{case}");
}

async fn is_refused(rig: &Rig, case: &str, answer: &Answer, status: u16, error: &str, reason: &str) {
    let audit = rig.audit_of(answer).await;
    assert_eq!((answer.status, &answer.json()["error"]), (status, &json!(error)), "{case}: {audit}");
    assert_eq!((&audit["event"], &audit["outcome"]), (&json!("token.revoked"), &json!("failure")), "{case}");
    assert_eq!((&audit["reason"], &audit["error"]), (&json!(reason), &json!(error)), "{case}");
}

/// How many revocations are on disk.
fn on_disk(rig: &Rig) -> u32 {
    let database = rusqlite::Connection::open(rig.path("data/certbind.db")).unwrap();
    database.query_row("SELECT count(*) FROM revocations", [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn rfc7009_2_1_a_client_revokes_its_token_by_each_method_on_each_listener() {
    let rig = Rig::with(|setup| setup.two_listeners()).await;
    for (case, token, ask) in [
        ("tls_client_auth", rig.issues("billing", &Ask::billing()).await, Ask::billing()),
        ("self_signed_tls_client_auth", rig.issues("ledger", &Ask::ledger()).await, Ask::ledger()),
        ("private_key_jwt", rig.issues("batch", &rig.batch()).await, rig.batch()),
        ("without the certificate", rig.issues("batch", &rig.batch()).await, rig.batch().over_none()),
    ] {
        let answer = rig.send(&revoking(ask, &token.text)).await;
        is_done(&rig, case, &answer, token.claims["jti"].as_str(), None).await;
        let audit = rig.audit_of(&answer).await;
        assert_eq!(audit["cnf_x5t_s256"].as_str(), token.bound_to(), "{case}");
        assert!(!audit.to_string().contains(&token.text), "{case}: the token is in the audit log");
    }
    assert_eq!(on_disk(&rig), 4);

    let token = rig.issues("batch", &rig.batch()).await;
    let mut public = Caller::connect(rig.public_address(), None, Http::Two).await;
    let answer = public.send(&revoking(rig.batch(), &token.text).host("public.auth.test")).await;
    is_done(&rig, "the listener that never asks", &answer, token.claims["jti"].as_str(), None).await;
    let routes = "route=\"revoke\",code=\"200\"";
    assert!(rig.metrics().contains(routes), "{}", rig.metrics());
    rig.end().await;
}

#[tokio::test]
async fn rfc7009_2_1_whoever_fails_to_prove_himself_gets_the_same_bytes_as_at_the_token_endpoint() {
    let rig = Rig::start().await;
    let token = rig.issues("billing", &Ask::billing()).await;
    let used = rig.batch();
    rig.issues("an assertion that is used up", &used).await;
    for (reason, ask) in [
        ("client_id_missing", Ask::billing().without("client_id")),
        ("certificate_missing", Ask::billing().over_none()),
        ("client_unknown", Ask::by_certificate("nobody", &PKI.billing.identity)),
        ("chain_untrusted", Ask::billing().over(&PKI.thief.identity)),
        ("san_mismatch", Ask::billing().over(&PKI.sibling.identity)),
        ("method_not_registered", Ask::by_certificate("batch", &PKI.batch.identity)),
        ("method_unsupported", Ask::billing().with("client_secret", "s")),
        ("authorization_header", Ask::billing().header("authorization", "Basic x")),
        ("two_methods", Ask::billing().with("client_secret", "s").header("authorization", "Basic x")),
        ("assertion_audience", rig.batch_with(&rig.assertion().claim("aud", json!("https://auth.test/oauth2/revoke")))),
        ("assertion_audience", rig.batch_with(&rig.assertion().claim("aud", json!("https://auth.test/oauth2/token")))),
        ("assertion_replayed", used),
    ] {
        let at_token = rig.send(&ask.clone().path("/oauth2/token")).await;
        let here = rig.send(&revoking(ask, &token.text)).await;
        assert_eq!(here.comparable(), at_token.comparable(), "{reason}");
        let (status, error) = (at_token.status, at_token.json()["error"].as_str().unwrap().to_owned());
        is_refused(&rig, reason, &here, status, &error, reason).await;
    }
    assert_eq!(on_disk(&rig), 0);
    rig.end().await;
}

#[tokio::test]
async fn attack_19_an_assertion_is_used_up_whatever_endpoint_it_comes_to_first() {
    let rig = Rig::start().await;
    let token = rig.issues("batch", &rig.batch()).await;
    let ask = rig.batch();
    let answer = rig.send(&revoking(ask.clone(), &token.text)).await;
    is_done(&rig, "first", &answer, token.claims["jti"].as_str(), None).await;
    rig.refuses("then for a token", &ask, 400, "invalid_client", "assertion_replayed").await;
    let answer = rig.send(&revoking(ask, &token.text)).await;
    is_refused(&rig, "and here again", &answer, 400, "invalid_client", "assertion_replayed").await;
    rig.end().await;
}

#[tokio::test]
async fn rfc7009_2_1_only_own_tokens() {
    let rig = Rig::start().await;
    let token = rig.issues("ledger", &Ask::ledger()).await;
    let answer = rig.send(&revoking(Ask::billing(), &token.text)).await;
    is_refused(&rig, "ledger's", &answer, 400, "unauthorized_client", "token_of_another_client").await;
    let audit = rig.audit_of(&answer).await;
    assert_eq!((&audit["client_id"], &audit["jti"]), (&json!("billing"), &token.claims["jti"]), "whose, and which");
    assert_eq!(on_disk(&rig), 0, "ledger's token stays good");
    rig.end().await;
}

#[tokio::test]
async fn rfc7009_2_2_what_is_no_good_token_is_as_good_as_revoked() {
    let rig = Rig::start().await;
    let token = rig.issues("billing", &Ask::billing()).await;
    let (input, signature) = token.text.rsplit_once('.').unwrap();
    let flipped = format!("{}{}", if signature.starts_with('A') { 'B' } else { 'A' }, &signature[1..]);
    let done = rig.send(&revoking(Ask::billing(), &token.text)).await;
    is_done(&rig, "a good one", &done, token.claims["jti"].as_str(), None).await;
    for (case, text, reason) in [
        ("random", "pPvLJ9F6bSkXqSGiz0uV".to_owned(), "token_malformed"),
        ("of another issuer", rig.assertion().sign(), "key_unknown"),
        ("forged", format!("{input}.{flipped}"), "token_signature"),
        ("endless", "a.".repeat(20_000), "token_malformed"),
    ] {
        let answer = rig.send(&revoking(Ask::billing(), &text)).await;
        is_done(&rig, case, &answer, None, Some(reason)).await;
        assert_eq!(answer.comparable(), done.comparable(), "{case}");
    }
    let again = rig.send(&revoking(Ask::billing(), &token.text)).await;
    is_done(&rig, "once more", &again, token.claims["jti"].as_str(), None).await;
    rig.at(362);
    let expired = rig.send(&revoking(Ask::billing(), &token.text)).await;
    is_done(&rig, "expired", &expired, None, Some("token_expired")).await;
    let expired = rig.send(&revoking(Ask::ledger(), &token.text)).await;
    is_done(&rig, "expired and of another client", &expired, None, Some("token_expired")).await;
    rig.end().await;
}

#[tokio::test]
async fn rfc7009_2_1_the_hint_changes_nothing_and_the_token_is_needed() {
    let rig = Rig::start().await;
    for hint in ["access_token", "refresh_token", "x"] {
        let token = rig.issues(hint, &Ask::billing()).await;
        let answer = rig.send(&revoking(Ask::billing(), &token.text).with("token_type_hint", hint)).await;
        is_done(&rig, hint, &answer, token.claims["jti"].as_str(), None).await;
    }
    for (case, ask) in [("none", Ask::billing().path(REVOKE)), ("empty", Ask::billing().path(REVOKE).with("token", ""))]
    {
        let answer = rig.send(&ask).await;
        is_refused(&rig, case, &answer, 400, "invalid_request", "token_parameter_missing").await;
    }
    let token = rig.issues("in the URL", &Ask::billing()).await;
    let answer = rig.send(&Ask::billing().path(&format!("{REVOKE}?token={}", token.text))).await;
    is_refused(&rig, "in the URL", &answer, 400, "invalid_request", "parameters_in_query").await;
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::HEAD] {
        let answer = rig.send(&Ask::billing().path(REVOKE).method(method.clone())).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{method}");
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc7009_2_2_1_while_the_store_is_away_nothing_pretends_to_be_revoked() {
    let rig = Rig::start().await;
    let token = rig.issues("billing", &Ask::billing()).await;
    let other = rusqlite::Connection::open(rig.path("data/certbind.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let answer = rig.send(&revoking(Ask::billing(), &token.text)).await;
    is_refused(&rig, "locked", &answer, 503, "temporarily_unavailable", "store_unavailable").await;
    assert_eq!(answer.header("retry-after"), Some("1"));
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(on_disk(&rig), 0);
    let answer = rig.send(&revoking(Ask::billing(), &token.text)).await;
    is_done(&rig, "back", &answer, token.claims["jti"].as_str(), None).await;
    assert_eq!(on_disk(&rig), 1);
    rig.end().await;
}

#[tokio::test]
async fn rfc7009_2_1_a_client_whose_certificate_was_renewed_revokes_the_tokens_of_before() {
    let rig = Rig::start().await;
    let token = rig.issues("billing", &Ask::billing()).await;
    let renewed = LeafSpec::client("billing", validity()).uri("spiffe://certbind.dev/billing");
    let renewed = PKI.intermediate.leaf(&renewed).unwrap();
    let answer = rig.send(&revoking(Ask::billing().over(&renewed), &token.text)).await;
    is_done(&rig, "renewed", &answer, token.claims["jti"].as_str(), None).await;
    rig.end().await;
}

#[tokio::test]
async fn rfc7009_2_1_a_token_of_a_key_that_signs_no_more_is_known_as_long_as_the_key_is_published() {
    const DAY: i64 = 86_400;
    let rig = Rig::start().await.restart_with("tokens.algorithm=EdDSA").await;
    rig.at(DAY - 1);
    let token = rig.issues("by the old key, in its last second", &Ask::billing()).await;
    rig.at(DAY);
    assert_eq!(rig.issues("by the new key", &Ask::billing()).await.header["alg"], "EdDSA");
    let answer = rig.send(&revoking(Ask::billing(), &token.text)).await;
    is_done(&rig, "by the old key", &answer, token.claims["jti"].as_str(), None).await;
    rig.end().await;
}
