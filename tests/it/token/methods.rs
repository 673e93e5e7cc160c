//! One good token by each method, over each HTTP.

use std::sync::Arc;

use crate::support::assertion::BATCH_KEY;
use crate::support::setup::{batch_jwk, client, signing_client};
use crate::support::{API, Ask, Assertion, Http, ISSUER, PKI, Rig, SCOPE, thumbprint};

#[tokio::test]
async fn rfc8705_3_1_a_token_by_each_method_is_bound_to_the_certificate_of_the_connection() {
    let rig = Rig::start().await;
    for http in [Http::One, Http::Two] {
        for (client_id, ask, identity) in [
            ("billing", Ask::billing(), &PKI.billing.identity),
            ("ledger", Ask::ledger(), &PKI.ledger.identity),
            ("batch", rig.batch(), &PKI.batch.identity),
        ] {
            let answer = rig.connect(Some(identity), http).await.send(&ask).await;
            let token = rig.is_issued(client_id, answer).await;
            assert_eq!(token.bound_to(), Some(thumbprint(identity).as_str()), "{client_id} {http:?}");
            assert_eq!(token.claims["client_id"], client_id);
            assert_eq!(token.claims["iss"], ISSUER);
            assert_eq!(token.claims["aud"], API);
            assert_eq!(token.claims["scope"], SCOPE);
        }
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc6749_2_3_one_method_a_request() {
    let rig = Rig::start().await;
    let basic = |ask: Ask| ask.header("authorization", "Basic YmF0Y2g6eA==");
    for (case, ask, error) in [
        ("Basic and assertion", basic(rig.batch()), "invalid_client"),
        ("secret and assertion", rig.batch().with("client_secret", "s"), "invalid_client"),
        (
            "secret and assertion type",
            Ask::billing().with("client_secret", "s").with("client_assertion_type", "x"),
            "invalid_client",
        ),
        ("Basic and secret", basic(Ask::billing().with("client_secret", "s")), "invalid_request"),
    ] {
        rig.refuses(case, &ask, 400, error, "two_methods").await;
    }
    let twice = rig.batch().with("client_assertion", "x");
    rig.refuses("two assertions", &twice, 400, "invalid_request", "parameter_repeated").await;
    rig.end().await;
}

#[tokio::test]
async fn rfc6749_5_2_an_authorization_header_is_answered_with_401_and_a_challenge() {
    let rig = Rig::start().await;
    for value in ["Basic YmlsbGluZzp4", "Basic", "Bearer x", "Digest x"] {
        let ask = Ask::billing().header("authorization", value);
        let answer = rig.refuses(value, &ask, 401, "invalid_client", "authorization_header").await;
        assert_eq!(answer.header("www-authenticate"), Some("Basic realm=\"token endpoint\""), "{value}");
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc7591_2_only_the_registered_method_works() {
    let rig = Rig::start().await;
    let of_billing = |now| Assertion::of("billing", "batch-1", Arc::clone(&BATCH_KEY), now).sign();
    for (case, ask) in [
        ("tls_client_auth by assertion", Ask::by_assertion(&of_billing(rig.now())).over(&PKI.billing.identity)),
        ("private_key_jwt by certificate", Ask::by_certificate("batch", &PKI.batch.identity)),
        ("private_key_jwt by the certificate of its key", Ask::by_certificate("batch", &PKI.batch_assertion)),
        ("private_key_jwt by nothing", Ask::by_certificate("batch", &PKI.batch.identity).over_none()),
    ] {
        rig.refuses(case, &ask, 400, "invalid_client", "method_not_registered").await;
    }
    for secret in ["s", "0"] {
        let ask = Ask::billing().with("client_secret", secret);
        rig.refuses("a shared secret", &ask, 400, "invalid_client", "method_unsupported").await;
    }
    rig.end().await;
}

#[tokio::test]
async fn the_audit_log_names_whom_a_refused_assertion_speaks_for() {
    let rig = Rig::start().await;
    let assertion = Assertion::of("nobody", "batch-1", Arc::clone(&BATCH_KEY), rig.now()).sign();
    let mut caller = rig.connect(Some(&PKI.batch.identity), Http::One).await;
    let answer = caller.send(&Ask::by_assertion(&assertion)).await;
    let line = rig.audit_of(&answer).await;
    assert_eq!((line["client_id"].as_str(), line["reason"].as_str()), (Some("nobody"), Some("client_unknown")));
    rig.end().await;
}

#[tokio::test]
async fn rfc8705_4_a_certificate_on_the_connection_is_not_itself_a_method() {
    let rig = Rig::start().await;
    for (case, identity) in [
        ("its own", &PKI.batch.identity),
        ("another client's", &PKI.billing.identity),
        ("one of an unknown authority", &PKI.thief.identity),
        ("a self-signed one", &PKI.ledger.identity),
    ] {
        let token = rig.issues(case, &rig.batch().over(identity)).await;
        assert_eq!(token.bound_to(), Some(thumbprint(identity).as_str()), "{case}");
        assert_eq!(token.claims["client_id"], "batch", "{case}");
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc8705_6_1_policy_may_demand_that_the_bound_certificate_has_a_chain() {
    let rig = Rig::with(|setup| {
        let own = "trust = \"dev\"\nbound_certificate_must_chain = true";
        setup.client("batch", signing_client("batch", &[batch_jwk()], "", own));
    })
    .await;
    rig.issues("its own", &rig.batch()).await;
    for (identity, reason) in [
        (&PKI.thief.identity, "chain_untrusted"),
        (&PKI.ledger.identity, "chain_untrusted"),
        (&PKI.revoked.identity, "certificate_revoked"),
    ] {
        rig.refuses(reason, &rig.batch().over(identity), 400, "invalid_client", reason).await;
    }
    rig.refuses("none", &rig.batch().over_none(), 400, "invalid_client", "certificate_missing").await;
    rig.end().await;
}

#[tokio::test]
async fn r7523_3_7c_an_assertion_that_is_refused_for_its_connection_is_not_used_up() {
    let rig = Rig::with(|setup| {
        let own = "trust = \"dev\"\nbound_certificate_must_chain = true";
        setup.client("batch", signing_client("batch", &[batch_jwk()], "", own));
    })
    .await;
    let ask = rig.batch();
    rig.refuses("a thief's", &ask.clone().over(&PKI.thief.identity), 400, "invalid_client", "chain_untrusted").await;
    rig.refuses("none", &ask.clone().over_none(), 400, "invalid_client", "certificate_missing").await;
    rig.issues("its own", &ask).await;
    rig.refuses("again", &ask, 400, "invalid_client", "assertion_replayed").await;
    rig.end().await;
}

#[tokio::test]
async fn rfc6749_5_2_nothing_that_a_peer_sends_comes_back() {
    let rig = Rig::start().await;
    for hostile in ["a\"b", "a\\b", "a\r\nSet-Cookie: x=1", "é", "\u{0}", "<script>", &"x".repeat(5000)] {
        for (name, error, reason) in [
            ("client_id", "invalid_client", "client_unknown"),
            ("grant_type", "unsupported_grant_type", "grant_type_unsupported"),
        ] {
            let answer = rig.refuses(hostile, &Ask::billing().set(name, hostile), 400, error, reason).await;
            assert!(!String::from_utf8_lossy(&answer.body).contains(hostile), "{hostile:?}");
            assert_eq!(answer.header("set-cookie"), None);
        }
        let scope = rig.send(&Ask::billing().with("scope", hostile)).await;
        assert_eq!(scope.json()["error"], "invalid_scope", "{hostile:?}");
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc6749_4_4_every_client_is_confidential_and_has_no_shared_secret() {
    for method in [
        "token_endpoint_auth_method = \"none\"\n",
        "token_endpoint_auth_method = \"client_secret_basic\"\n",
        "token_endpoint_auth_method = \"client_secret_post\"\n",
        "token_endpoint_auth_method = \"client_secret_jwt\"\n",
        "",
    ] {
        let error = Rig::refuses_to_start(|setup| setup.client("public", client("public", method, ""))).await;
        assert!(error.contains("public.toml") && error.contains("token_endpoint_auth_method"), "{method}: {error}");
    }
}
