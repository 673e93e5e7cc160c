//! The profile `fapi2` (FAPI 2.0 Security Profile Final §5.3.2.1, §5.4.1).

use std::sync::Arc;

use certbind_proto::jws::{Algorithm, SigningKey};
use serde_json::json;

use crate::support::setup::{batch_jwk, client, signing_client};
use crate::support::{API, Ask, Assertion, ISSUER, Rig, Setup};

fn fapi2(setup: &mut Setup) {
    setup.set("profile", "fapi2");
}

#[tokio::test]
async fn fapi_5_3_2_1_the_audience_of_an_assertion_is_the_issuer_as_a_string() {
    let rig = Rig::with(fapi2).await;
    rig.issues("a string", &rig.batch()).await;
    for aud in
        [json!([ISSUER]), json!([ISSUER, ISSUER]), json!("https://auth.test/oauth2/token"), json!("https://auth.test/")]
    {
        let ask = rig.batch_with(&rig.assertion().claim("aud", aud.clone()));
        rig.refuses(&aud.to_string(), &ask, 400, "invalid_client", "assertion_audience").await;
    }
    rig.end().await;
}

#[tokio::test]
async fn fapi_5_4_1_algorithms_are_ps256_es256_and_eddsa() {
    let keys: Vec<_> =
        Algorithm::ALL.into_iter().map(|algorithm| Arc::new(SigningKey::generate(algorithm).unwrap())).collect();
    let allowed = [Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa];
    let rig = Rig::with(|setup| {
        fapi2(setup);
        for key in keys.iter().filter(|key| allowed.contains(&key.algorithm())) {
            let id = key.algorithm().as_str();
            setup.client(id, signing_client(id, &[key.public_jwk("k").to_json()], "", ""));
        }
    })
    .await;
    for key in &keys {
        let alg = key.algorithm().as_str();
        if allowed.contains(&key.algorithm()) {
            let assertion = Assertion::of(alg, "k", Arc::clone(key), rig.now());
            rig.issues(alg, &rig.batch_with(&assertion)).await;
        } else {
            let assertion = Assertion::of("PS256", "k", Arc::clone(key), rig.now());
            let ask = rig.batch_with(&assertion);
            rig.refuses(alg, &ask, 400, "invalid_client", "alg_not_allowed").await;
        }
    }
    let document = rig.send(&Ask::get("/.well-known/oauth-authorization-server")).await.json();
    let advertised = document["token_endpoint_auth_signing_alg_values_supported"].as_array().unwrap();
    for algorithm in Algorithm::ALL {
        let is_advertised = advertised.contains(&json!(algorithm.as_str()));
        assert_eq!(is_advertised, allowed.contains(&algorithm), "{algorithm:?}");
    }
    rig.end().await;
}

#[tokio::test]
async fn fapi_5_3_2_1_no_token_is_unbound() {
    let rig = Rig::with(fapi2).await;
    let ask = rig.batch().over_none();
    rig.refuses("no certificate", &ask, 400, "invalid_request", "certificate_missing").await;
    for ask in [Ask::billing(), Ask::ledger(), rig.batch()] {
        assert!(rig.issues("bound", &ask).await.bound_to().is_some());
    }
    rig.end().await;
}

#[tokio::test]
async fn fapi_5_3_2_1_shared_secrets_and_passwords_are_refused() {
    let rig = Rig::with(fapi2).await;
    let ask = Ask::billing().set("grant_type", "password").with("username", "a").with("password", "b");
    rig.refuses("password", &ask, 400, "unsupported_grant_type", "grant_type_unsupported").await;
    let ask = Ask::billing().with("client_secret", "s");
    rig.refuses("client_secret_post", &ask, 400, "invalid_client", "method_unsupported").await;
    let ask = Ask::billing().header("authorization", "Basic YmlsbGluZzpz");
    rig.refuses("client_secret_basic", &ask, 401, "invalid_client", "authorization_header").await;
    rig.end().await;
}

#[tokio::test]
async fn fapi_5_3_2_1_ten_seconds_ahead_pass_and_more_than_sixty_do_not() {
    let rig = Rig::with(fapi2).await;
    for name in ["iat", "nbf"] {
        for seconds in [0, 5, 10] {
            let ahead = rig.assertion().claim(name, json!(rig.now().unix() + seconds));
            rig.issues(&format!("{name} {seconds}"), &rig.batch_with(&ahead)).await;
        }
        let ahead = rig.batch_with(&rig.assertion().claim(name, json!(rig.now().unix() + 61)));
        rig.refuses(name, &ahead, 400, "invalid_client", "assertion_not_yet_valid").await;
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc8707_2_2_a_token_of_this_profile_is_for_one_resource() {
    let rig = Rig::with(|setup| {
        fapi2(setup);
        let members = "token_endpoint_auth_method = \"tls_client_auth\"\n\
                       tls_client_auth_san_uri = \"spiffe://certbind.dev/billing\"\n";
        let own = format!("trust = \"dev\"\naudiences = [\"{API}\", \"https://ledger.test\"]");
        setup.client("billing", client("billing", members, &own));
    })
    .await;
    let ask = Ask::billing().with("resource", API).with("resource", "https://ledger.test");
    rig.refuses("two", &ask, 400, "invalid_target", "several_resources").await;
    let token = rig.issues("one", &Ask::billing().with("resource", "https://ledger.test")).await;
    assert_eq!(token.claims["aud"], "https://ledger.test");
    rig.end().await;
}

#[tokio::test]
async fn fapi_5_4_1_what_the_profile_forbids_keeps_the_server_from_starting() {
    for (key, value) in [
        ("tokens.algorithm", "RS256"),
        ("tokens.bound", "never"),
        ("tokens.bound", "when-certificate"),
        ("assertions.clock_skew", "5s"),
    ] {
        let error = Rig::refuses_to_start(|setup| {
            fapi2(setup);
            setup.set(key, value);
        })
        .await;
        assert!(error.contains(key), "{key}: {error}");
    }
    for (members, own) in [("token_endpoint_auth_signing_alg = \"RS256\"\n", ""), ("", "legacy_audience = true")] {
        let text = signing_client("x", &[batch_jwk()], members, own);
        let error = Rig::refuses_to_start(|setup| {
            fapi2(setup);
            setup.client("x", text);
        })
        .await;
        assert!(error.contains("x.toml"), "{error}");
    }
}
