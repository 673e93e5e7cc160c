//! The documents, and the two listeners (RFC 8414; RFC 8705 §5; RFC 7517 §5; RFC 9110).

use std::collections::BTreeSet;

use certbind_proto::jws::Algorithms;
use hyper::Method;
use serde_json::{Value, json};

use crate::support::{Ask, Caller, Http, ISSUER, PKI, Rig};

const WELL_KNOWN: &str = "/.well-known/oauth-authorization-server";
const OPENID: &str = "/.well-known/openid-configuration";
const JWKS: &str = "/.well-known/jwks.json";

#[tokio::test]
async fn rfc8414_3_2_the_document_says_what_works() {
    let rig = Rig::start().await;
    let document = rig.send(&Ask::get(WELL_KNOWN)).await;
    assert_eq!((document.status, document.header("content-type")), (200, Some("application/json")));
    assert_eq!(
        document.json(),
        json!({
            "issuer": ISSUER,
            "token_endpoint": "https://auth.test/oauth2/token",
            "jwks_uri": "https://auth.test/.well-known/jwks.json",
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported":
                ["private_key_jwt", "self_signed_tls_client_auth", "tls_client_auth"],
            "token_endpoint_auth_signing_alg_values_supported": Algorithms::DEFAULT.names(),
            "introspection_endpoint": "https://auth.test/oauth2/introspect",
            "introspection_endpoint_auth_methods_supported":
                ["private_key_jwt", "self_signed_tls_client_auth", "tls_client_auth"],
            "introspection_endpoint_auth_signing_alg_values_supported": Algorithms::DEFAULT.names(),
            "introspection_signing_alg_values_supported": ["ES256"],
            "revocation_endpoint": "https://auth.test/oauth2/revoke",
            "revocation_endpoint_auth_methods_supported":
                ["private_key_jwt", "self_signed_tls_client_auth", "tls_client_auth"],
            "revocation_endpoint_auth_signing_alg_values_supported": Algorithms::DEFAULT.names(),
            "certbind_revocation_list_uri": "https://auth.test/.well-known/certbind-revocations",
            "tls_client_certificate_bound_access_tokens": true,
        })
    );
    assert_eq!(rig.send(&Ask::get(OPENID)).await.body, document.body, "the same document");
    rig.end().await;
}

#[tokio::test]
async fn rfc8414_3_1_the_suffix_goes_between_host_and_path_of_the_issuer() {
    let rig = Rig::with(|setup| {
        setup.set("issuer", "https://auth.test/t1");
        setup.set("listen.mtls.public_url", "https://auth.test");
    })
    .await;
    for path in [
        "/.well-known/oauth-authorization-server/t1",
        "/.well-known/openid-configuration/t1",
        "/t1/.well-known/openid-configuration",
    ] {
        let answer = rig.send(&Ask::get(path)).await;
        assert_eq!((answer.status, &answer.json()["issuer"]), (200, &json!("https://auth.test/t1")), "{path}");
    }
    for path in [WELL_KNOWN, OPENID, "/.well-known/oauth-authorization-server/t2"] {
        assert_eq!(rig.send(&Ask::get(path)).await.status, 404, "{path}");
    }
    let token = rig.issues("its tokens", &Ask::billing()).await;
    assert_eq!(token.claims["iss"], "https://auth.test/t1");
    rig.stop().await;
}

#[tokio::test]
async fn rfc8414_2_the_issuer_is_the_configured_one_whatever_host_is_named() {
    let rig = Rig::start().await;
    for host in ["evil.test", "auth.test:444", "localhost"] {
        let ask = Ask::get(WELL_KNOWN)
            .host(host)
            .header("x-forwarded-host", "evil.test")
            .header("forwarded", "host=evil.test");
        assert_eq!(rig.send(&ask).await.json()["issuer"], ISSUER, "{host}");
        let token = rig.issues(host, &Ask::billing().host(host)).await;
        assert_eq!(token.claims["iss"], ISSUER, "{host}");
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc9110_documents_answer_get_and_head_and_are_cached_by_their_tag() {
    let rig = Rig::start().await;
    for (path, content_type) in
        [(WELL_KNOWN, "application/json"), (OPENID, "application/json"), (JWKS, "application/jwk-set+json")]
    {
        let got = rig.send(&Ask::get(path)).await;
        assert_eq!((got.status, got.header("content-type")), (200, Some(content_type)), "{path}");
        assert_eq!(got.header("cache-control"), Some("public, max-age=300"), "{path}");
        let etag = got.header("etag").unwrap().to_owned();

        let head = rig.send(&Ask::get(path).method(Method::HEAD)).await;
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!((head.header("etag"), head.header("content-length")), (Some(&*etag), got.header("content-length")));

        for tag in [etag.clone(), format!("\"x\", W/{etag}"), "*".to_owned()] {
            let known = rig.send(&Ask::get(path).header("if-none-match", &tag)).await;
            assert_eq!((known.status, known.body.len(), known.header("etag")), (304, 0, Some(&*etag)), "{path} {tag}");
        }
        let other = rig.send(&Ask::get(path).header("if-none-match", "\"x\"")).await;
        assert_eq!((other.status, &other.body), (200, &got.body), "{path}");

        for method in [Method::POST, Method::PUT, Method::DELETE] {
            let refused = rig.send(&Ask::get(path).method(method.clone())).await;
            assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")), "{path} {method}");
        }
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc7517_5_the_published_keys_are_public_named_and_say_what_they_are_for() {
    for algorithm in ["ES256", "EdDSA", "PS256", "RS256"] {
        let rig = Rig::with(|setup| setup.set("tokens.algorithm", algorithm)).await;
        let set = rig.send(&Ask::get(JWKS)).await.json();
        let keys = set["keys"].as_array().unwrap();
        let kids: BTreeSet<_> = keys.iter().map(|key| key["kid"].as_str().unwrap()).collect();
        assert_eq!(kids.len(), keys.len(), "{algorithm}: each kid once");
        for key in keys {
            assert_eq!((&key["use"], &key["alg"]), (&json!("sig"), &json!(algorithm)));
            for private in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
                assert_eq!(key.get(private), None, "{algorithm}: {private}");
            }
        }
        let token = rig.issues(algorithm, &Ask::billing()).await;
        assert!(kids.contains(token.header["kid"].as_str().unwrap()), "{algorithm}");
        rig.end().await;
    }
}

#[tokio::test]
async fn rfc7517_5_the_keys_outlive_a_restart() {
    let rig = Rig::start().await;
    let before = rig.send(&Ask::get(JWKS)).await;
    let rig = rig.restart().await;
    assert_eq!(rig.send(&Ask::get(JWKS)).await.comparable(), before.comparable());
    rig.end().await;
}

#[tokio::test]
async fn rfc8705_5_with_two_listeners_the_aliases_name_the_one_that_asks_for_certificates() {
    let rig = Rig::with(|setup| setup.two_listeners()).await;
    let of_mtls = rig.send(&Ask::get(WELL_KNOWN)).await.json();
    assert_eq!(of_mtls["issuer"], ISSUER);
    assert_eq!(of_mtls["token_endpoint"], "https://public.auth.test/oauth2/token");
    assert_eq!(of_mtls["jwks_uri"], "https://public.auth.test/.well-known/jwks.json");
    assert_eq!(
        of_mtls["mtls_endpoint_aliases"],
        json!({
            "token_endpoint": "https://auth.test/oauth2/token",
            "introspection_endpoint": "https://auth.test/oauth2/introspect",
            "revocation_endpoint": "https://auth.test/oauth2/revoke",
        })
    );

    let mut public = Caller::connect(rig.public_address(), Some(&PKI.billing.identity), Http::One).await;
    let of_public = public.send(&Ask::get(WELL_KNOWN).host("public.auth.test")).await.json();
    assert_eq!(of_public, of_mtls, "one issuer, one document");
    let keys = |answer: Value| answer["keys"].clone();
    let of_public = keys(public.send(&Ask::get(JWKS).host("public.auth.test")).await.json());
    assert_eq!(of_public, keys(rig.send(&Ask::get(JWKS)).await.json()));

    let answer = public.send(&Ask::billing().host("public.auth.test")).await;
    rig.is_refused("never asked", &answer, 400, "invalid_client", "certificate_missing").await;
    assert_eq!(rig.audit_of(&answer).await["listener"], "public");
    let answer = public.send(&rig.batch().host("public.auth.test")).await;
    rig.is_refused("nothing to bind to", &answer, 400, "invalid_request", "certificate_missing").await;
    rig.end().await;
}

#[tokio::test]
async fn rfc8705_6_1_the_public_listener_serves_assertions_when_tokens_need_not_be_bound() {
    let rig = Rig::with(|setup| {
        setup.two_listeners();
        setup.set("tokens.bound", "when-certificate");
    })
    .await;
    for identity in [None, Some(&PKI.batch.identity)] {
        let mut public = Caller::connect(rig.public_address(), identity, Http::Two).await;
        let answer = public.send(&rig.batch().host("public.auth.test")).await;
        let token = rig.is_issued("unbound", answer).await;
        assert_eq!((token.bound_to(), &token.audit["listener"]), (None, &json!("public")));
    }
    assert!(rig.issues("bound", &rig.batch()).await.bound_to().is_some());
    rig.end().await;
}

#[tokio::test]
async fn rfc9110_7_4_a_request_for_the_other_listeners_host_is_misdirected() {
    let rig = Rig::with(|setup| setup.two_listeners()).await;
    for http in [Http::One, Http::Two] {
        let mut public = Caller::connect(rig.public_address(), Some(&PKI.billing.identity), http).await;
        for ask in [Ask::billing(), rig.batch(), Ask::get(WELL_KNOWN), Ask::billing().host("AUTH.test")] {
            assert_eq!(public.send(&ask).await.status, 421, "{http:?}");
        }
        let mut mtls = rig.connect(Some(&PKI.billing.identity), http).await;
        for host in ["public.auth.test", "Public.Auth.Test", "public.auth.test:443"] {
            assert_eq!(mtls.send(&Ask::billing().host(host)).await.status, 421, "{http:?}");
        }
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc8414_2_a_method_that_cannot_work_is_not_advertised() {
    let rig = Rig::with(|setup| {
        setup.clients.remove("billing");
        setup.set("tokens.bound", "never");
        setup.without_trust = true;
    })
    .await;
    let document = rig.send(&Ask::get(WELL_KNOWN)).await.json();
    let methods = json!(["private_key_jwt", "self_signed_tls_client_auth"]);
    for endpoint in ["token", "introspection", "revocation"] {
        assert_eq!(document[format!("{endpoint}_endpoint_auth_methods_supported")], methods);
    }
    assert_eq!(document.get("tls_client_certificate_bound_access_tokens"), None);
    rig.stop().await;
}
