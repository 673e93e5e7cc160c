//! Issued tokens (RFC 9068 §2; RFC 8705 §3; RFC 7800).

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use certbind_devpki::{LeafSpec, Validity};
use certbind_proto::thumbprint::Thumbprint;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation};
use serde_json::{Value, json};

use crate::support::assertion::BATCH_KEY;
use crate::support::setup::{batch_jwk, signing_client};
use crate::support::{API, Ask, Assertion, Http, ISSUER, PKI, Rig, SCOPE, START, Token, thumbprint};

#[tokio::test]
async fn rfc9068_2_2_a_token_has_every_required_claim_and_the_type_at_jwt() {
    let rig = Rig::start().await;
    let token = rig.issues("billing", &Ask::billing()).await;
    let now = rig.now().unix();
    let jti = token.claims["jti"].clone();
    assert_eq!(
        token.claims,
        json!({
            "iss": ISSUER, "sub": "billing", "client_id": "billing", "aud": API, "scope": SCOPE,
            "iat": now, "exp": now + 300, "jti": jti,
            "cnf": { "x5t#S256": thumbprint(&PKI.billing.identity) },
        })
    );
    assert_eq!((&token.header["typ"], &token.header["alg"]), (&json!("at+jwt"), &json!("ES256")));
    let members: Vec<_> = token.header.as_object().unwrap().keys().collect();
    assert_eq!(members, ["alg", "kid", "typ"]);
    assert_eq!(token.expires_in(), 300);
    assert_eq!(URL_SAFE_NO_PAD.decode(jti.as_str().unwrap()).unwrap().len(), 20, "160 bits (RFC 6749 §10.10)");
    rig.end().await;
}

#[tokio::test]
async fn rfc6749_10_10_no_jti_comes_twice() {
    let rig = Rig::start().await;
    let mut caller = rig.connect(Some(&PKI.billing.identity), Http::Two).await;
    let mut seen = BTreeSet::new();
    for _ in 0..100 {
        let answer = caller.send(&Ask::billing()).await;
        let token = rig.is_issued("billing", answer).await;
        assert!(seen.insert(token.claims["jti"].as_str().unwrap().to_owned()));
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc9068_2_1_a_token_verifies_with_the_published_keys_in_somebody_elses_library() {
    for algorithm in ["ES256", "EdDSA", "PS256", "RS256"] {
        let rig = Rig::with(|setup| setup.set("tokens.algorithm", algorithm)).await;
        let token = rig.issues(algorithm, &Ask::billing()).await;
        let published = rig.send(&Ask::get("/.well-known/jwks.json")).await.json();
        let claims = verify(&token, published);
        assert_eq!(claims, token.claims, "{algorithm}");
        assert_eq!(token.header["alg"], algorithm);
        rig.end().await;
    }
}

/// What jsonwebtoken says about it.
fn verify(token: &Token, published: Value) -> Value {
    let keys: JwkSet = serde_json::from_value(published).unwrap();
    let header = jsonwebtoken::decode_header(&token.text).unwrap();
    let key = DecodingKey::from_jwk(keys.find(&header.kid.unwrap()).unwrap()).unwrap();
    let mut expected = Validation::new(header.alg);
    expected.set_issuer(&[ISSUER]);
    expected.set_audience(&[API]);
    // It has the real time, and the server's clock stands where the tests began.
    expected.leeway = 24 * 3600;
    jsonwebtoken::decode(&token.text, &key, &expected).unwrap().claims
}

#[tokio::test]
async fn rfc8705_3_1_the_confirmation_is_the_hash_of_the_leaf_alone() {
    let rig = Rig::start().await;
    let identity = &PKI.billing.identity;
    let token = rig.issues("billing", &Ask::billing()).await;
    let bound_to = token.bound_to().unwrap();
    assert_eq!(bound_to.len(), 43);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, identity.certificate());
    assert_eq!(bound_to, URL_SAFE_NO_PAD.encode(digest));
    for other in [PKI.intermediate.certificate(), PKI.root.certificate()] {
        assert_ne!(bound_to, Thumbprint::of_der(other).to_string());
    }
    assert_eq!(token.audit["cnf_x5t_s256"], bound_to);
    rig.end().await;
}

#[tokio::test]
async fn rfc8705_3_each_connection_binds_to_its_own_certificate() {
    let rig = Rig::start().await;
    for http in [Http::One, Http::Two] {
        let mut first = rig.connect(Some(&PKI.batch.identity), http).await;
        let mut second = rig.connect(Some(&PKI.sibling.identity), http).await;
        for _ in 0..3 {
            for (caller, identity) in [(&mut first, &PKI.batch.identity), (&mut second, &PKI.sibling.identity)] {
                let answer = caller.send(&rig.batch()).await;
                let token = rig.is_issued("batch", answer).await;
                assert_eq!(token.bound_to(), Some(thumbprint(identity).as_str()), "{http:?}");
            }
        }
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc8705_3_4_the_policy_says_which_tokens_are_bound_and_a_bound_client_never_gets_another() {
    for (policy, with_certificate, without) in
        [("always", true, None), ("when-certificate", true, Some(())), ("never", false, Some(()))]
    {
        let rig = Rig::with(|setup| {
            setup.set("tokens.bound", policy);
            let bound = "tls_client_certificate_bound_access_tokens = true\n";
            setup.client("batch-bound", signing_client("batch-bound", &[batch_jwk()], bound, ""));
        })
        .await;
        let token = rig.issues(policy, &rig.batch()).await;
        assert_eq!(token.bound_to().is_some(), with_certificate, "{policy}");
        match without {
            Some(()) => {
                let token = rig.issues(policy, &rig.batch().over_none()).await;
                assert_eq!(token.claims.get("cnf"), None, "{policy}");
                assert_eq!(token.audit.get("cnf_x5t_s256"), None, "{policy}");
            }
            None => {
                let ask = rig.batch().over_none();
                rig.refuses(policy, &ask, 400, "invalid_request", "certificate_missing").await;
            }
        }
        bound_client_is_bound(&rig, policy).await;
        rig.end().await;
    }
}

async fn bound_client_is_bound(rig: &Rig, policy: &str) {
    let assertion = || Assertion::of("batch-bound", "batch-1", Arc::clone(&BATCH_KEY), rig.now());
    let token = rig.issues(policy, &rig.batch_with(&assertion())).await;
    assert!(token.bound_to().is_some(), "{policy}");
    let ask = rig.batch_with(&assertion()).over_none();
    rig.refuses(policy, &ask, 400, "invalid_request", "certificate_missing").await;
}

#[tokio::test]
async fn fapi_6_1_a_bound_token_ends_with_its_certificate_and_an_unbound_one_does_not() {
    let dies_soon = |seconds: i64| {
        let validity = Validity { not_before: START.unix() - 60, not_after: START.unix() + seconds };
        let spec = LeafSpec::client("billing", validity).uri("spiffe://certbind.dev/billing");
        PKI.intermediate.leaf(&spec).unwrap()
    };
    let rig = Rig::start().await;
    let soon = dies_soon(60);
    for ask in [Ask::by_certificate("billing", &soon), rig.batch().over(&soon)] {
        let token = rig.issues("capped", &ask).await;
        assert_eq!((token.expires_in(), &token.claims["exp"]), (60, &json!(START.unix() + 60)));
    }
    rig.at(61);
    let ask = rig.batch().over(&soon);
    rig.refuses("over", &ask, 400, "invalid_request", "certificate_expired").await;
    rig.end().await;

    let rig = Rig::with(|setup| setup.set("tokens.cap_at_certificate_expiry", "false")).await;
    assert_eq!(rig.issues("not capped", &Ask::by_certificate("billing", &soon)).await.expires_in(), 300);
    rig.end().await;
    let rig = Rig::with(|setup| setup.set("tokens.bound", "never")).await;
    assert_eq!(rig.issues("unbound", &Ask::by_certificate("billing", &soon)).await.expires_in(), 300);
    rig.end().await;
}

#[tokio::test]
async fn rfc6749_5_1_the_shortest_life_that_is_set_holds() {
    let rig = Rig::with(|setup| {
        setup.set("tokens.lifetime", "2m");
        setup.client("short", signing_client("short", &[batch_jwk()], "", "token_lifetime = \"30s\""));
        setup.client("long", signing_client("long", &[batch_jwk()], "", "token_lifetime = \"1h\""));
    })
    .await;
    for (client_id, life) in [("batch", 120), ("short", 30), ("long", 120)] {
        let assertion = Assertion::of(client_id, "batch-1", Arc::clone(&BATCH_KEY), rig.now());
        let token = rig.issues(client_id, &rig.batch_with(&assertion)).await;
        assert_eq!(token.expires_in(), life, "{client_id}");
        assert_eq!(token.claims["exp"].as_i64().unwrap() - token.claims["iat"].as_i64().unwrap(), life as i64);
    }
    rig.end().await;
}
