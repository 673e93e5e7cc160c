//! Signatures of client assertions as bytes (RFC 7515, RFC 7517, RFC 7518, RFC 8725).

use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use certbind_proto::jws::{Algorithm, SigningKey};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::assertion::BATCH_KEY;
use crate::support::setup::{batch_jwk, signing_client};
use crate::support::{Ask, Assertion, PKI, Rig};

async fn accepts(rig: &Rig, case: &str, assertion: &str) {
    rig.issues(case, &Ask::by_assertion(assertion).over(&PKI.batch.identity)).await;
}

async fn refuses(rig: &Rig, case: &str, assertion: &str, reason: &str) {
    let ask = Ask::by_assertion(assertion).over(&PKI.batch.identity);
    rig.refuses(case, &ask, 400, "invalid_client", reason).await;
}

#[tokio::test]
async fn rfc7515_7_1_an_assertion_is_three_parts_of_canonical_base64url() {
    let rig = Rig::start().await;
    let good = rig.assertion().sign();
    let [header, claims, signature]: [&str; 3] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let json = json!({ "payload": claims, "protected": header, "signature": signature }).to_string();
    let standard = STANDARD_NO_PAD.encode([0xfb, 0xff, 0xfe]);
    for (case, bad) in [
        ("JSON serialization", json),
        ("five parts", format!("{good}.{claims}.{signature}")),
        ("two parts", format!("{header}.{claims}")),
        ("four parts", format!("{good}.")),
        ("leading blank", format!(" {good}")),
        ("trailing line", format!("{good}\n")),
        ("quotes", format!("\"{good}\"")),
        ("padding", format!("{header}={}", &good[header.len()..])),
        ("padding at the end", format!("{good}==")),
        ("blank inside", format!("{} {}", &good[..20], &good[20..])),
        ("other alphabet", format!("{header}.{standard}.{signature}")),
        ("no header", format!(".{claims}.{signature}")),
        ("a dot", ".".to_owned()),
        ("two dots", "..".to_owned()),
        ("too long", format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode("x".repeat(13_000)))),
    ] {
        refuses(&rig, case, &bad, "assertion_malformed").await;
    }
    let (start, last) = good.split_at(good.len() - 1);
    let (_, twin) = TWINS.iter().find(|(canonical, _)| *canonical == last).expect("64 octets end in two bits");
    refuses(&rig, "pad bits", &format!("{start}{twin}"), "assertion_malformed").await;
    accepts(&rig, "none of these used it up", &good).await;
    rig.end().await;
}

/// Last characters of a 64-octet signature, each with one that decodes to the same octets (RFC 4648 §3.5).
const TWINS: [(&str, &str); 4] = [("A", "B"), ("Q", "R"), ("g", "h"), ("w", "x")];

#[tokio::test]
async fn rfc7515_4_the_header_is_one_strict_json_object() {
    let rig = Rig::start().await;
    let good = rig.assertion();
    let (header, claims) = (good.header_json(), good.claims_json());
    let open = &header[..header.len() - 1];
    for (case, bad) in [
        ("array", format!("[{header}]").into_bytes()),
        ("null", b"null".to_vec()),
        ("trailing bytes", format!("{header} x").into_bytes()),
        ("BOM", format!("\u{feff}{header}").into_bytes()),
        ("UTF-16", header.encode_utf16().flat_map(u16::to_be_bytes).collect()),
        ("invalid UTF-8", [header.as_bytes(), &[0xff]].concat()),
        ("two alg", format!("{open},\"alg\":\"ES256\"}}").into_bytes()),
        ("escaped twin", format!("{open},\"\\u0061lg\":\"ES256\"}}").into_bytes()),
        ("no alg", b"{}".to_vec()),
        ("alg 1", br#"{"alg":1}"#.to_vec()),
        ("typ 1", format!("{open},\"x\":1}}").replace("\"client-authentication+jwt\"", "1").into_bytes()),
        ("kid 1", header.replace("\"batch-1\"", "1").into_bytes()),
        ("kid empty", header.replace("\"batch-1\"", "\"\"").into_bytes()),
        ("kid of 5 KiB", header.replace("batch-1", &"k".repeat(5_000)).into_bytes()),
        ("kid of 300", header.replace("batch-1", &"k".repeat(300)).into_bytes()),
        ("crit b64", format!("{open},\"crit\":[\"b64\"],\"b64\":false}}").into_bytes()),
        ("crit x", format!("{open},\"crit\":[\"x\"],\"x\":1}}").into_bytes()),
        ("crit empty", format!("{open},\"crit\":[]}}").into_bytes()),
        ("crit text", format!("{open},\"crit\":\"exp\"}}").into_bytes()),
        ("crit absent name", format!("{open},\"crit\":[\"y\"]}}").into_bytes()),
        ("b64", format!("{open},\"b64\":false}}").into_bytes()),
        ("zip", format!("{open},\"zip\":\"DEF\"}}").into_bytes()),
        ("cty", format!("{open},\"cty\":\"JWT\"}}").into_bytes()),
        ("depth", format!("{open},\"x\":{}{}}}", "[".repeat(1000), "]".repeat(1000)).into_bytes()),
    ] {
        refuses(&rig, case, &good.sign_raw(&bad, claims.as_bytes()), "assertion_malformed").await;
    }
    accepts(&rig, "an unknown member", &good.header("x", json!(1)).sign()).await;
    rig.end().await;
}

#[tokio::test]
async fn rfc7519_7_2_the_claims_are_one_strict_json_object() {
    let rig = Rig::start().await;
    let good = rig.assertion();
    let claims = good.claims_json();
    let open = &claims[..claims.len() - 1];
    for (case, bad) in [
        ("array", format!("[{claims}]")),
        ("two aud", format!("{open},\"aud\":\"https://auth.test\"}}")),
        ("escaped twin", format!("{open},\"\\u0061ud\":\"https://auth.test\"}}")),
        ("deep twin", format!("{open},\"x\":{{\"a\":1,\"a\":2}}}}")),
        ("trailing bytes", format!("{claims}{claims}")),
        ("BOM", format!("\u{feff}{claims}")),
        ("empty", String::new()),
        ("depth", format!("{open},\"x\":{}{}}}", "[".repeat(4000), "]".repeat(4000))),
    ] {
        let bad = good.sign_raw(good.header_json().as_bytes(), bad.as_bytes());
        refuses(&rig, case, &bad, "client_id_missing").await;
    }
    accepts(&rig, "an unknown claim", &good.claim("x", json!({ "a": [1] })).sign()).await;
    rig.end().await;
}

#[tokio::test]
async fn rfc8725_3_1_none_symmetric_and_unknown_algorithms_are_never_taken() {
    let rig = Rig::start().await;
    for alg in ["none", "None", "nOnE", "HS256", "HS512", "ps256", "es256", "ES256K", "ES512", "RS1", "dir", ""] {
        let good = rig.assertion().header("alg", json!(alg));
        refuses(&rig, alg, &good.sign(), "alg_not_allowed").await;
        let unsigned = good.sign();
        let (input, _) = unsigned.rsplit_once('.').unwrap();
        refuses(&rig, alg, &format!("{input}."), "alg_not_allowed").await;
    }
    let confused = rig.assertion().header("alg", json!("HS256"));
    for secret in [batch_jwk().to_string().into_bytes(), PKI.batch_assertion.chain_pem().into_bytes()] {
        let token = confused.sign();
        let (input, _) = token.rsplit_once('.').unwrap();
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), input.as_bytes());
        let token = format!("{input}.{}", URL_SAFE_NO_PAD.encode(tag));
        refuses(&rig, "the public key as a secret", &token, "alg_not_allowed").await;
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc8725_3_10_nothing_in_a_header_says_where_a_key_is() {
    let rig = Rig::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/keys", listener.local_addr().unwrap());
    let own = Arc::new(SigningKey::generate(Algorithm::Es256).unwrap());
    let forged = || rig.assertion().key(&own);
    for (name, value) in [
        ("jwk", own.public_jwk("batch-1").to_json()),
        ("x5c", json!([STANDARD.encode(PKI.thief.identity.certificate())])),
        ("jku", json!(url)),
        ("x5u", json!(url)),
    ] {
        refuses(&rig, name, &forged().header(name, value.clone()).sign(), "assertion_signature").await;
        accepts(&rig, name, &rig.assertion().header(name, value).sign()).await;
    }
    let asked = tokio::time::timeout(std::time::Duration::from_millis(50), listener.accept()).await;
    assert!(asked.is_err(), "nobody is asked for keys");
    for kid in ["../../x", "' OR 1=1", "https://x.test/k", "BATCH-1", "batch-1 "] {
        refuses(&rig, kid, &rig.assertion().header("kid", json!(kid)).sign(), "key_unknown").await;
    }
    accepts(&rig, "no kid", &rig.assertion().without_header("kid").sign()).await;
    rig.end().await;
}

#[tokio::test]
async fn rfc7518_3_4_an_es256_signature_is_64_octets_that_hold() {
    let rig = Rig::start().await;
    let good = rig.assertion().sign();
    let (input, signature) = good.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut flipped = signature.clone();
    flipped[40] ^= 1;
    let der = [&[0x30, 0x44, 0x02, 0x20][..], &signature[..32], &[0x02, 0x20], &signature[32..]].concat();
    for (case, bad) in [
        ("flipped", flipped),
        ("DER", der),
        ("63 octets", signature[..63].to_vec()),
        ("65 octets", [&signature[..], &[0]].concat()),
        ("zeros", vec![0; 64]),
        ("empty", vec![]),
    ] {
        refuses(&rig, case, &format!("{input}.{}", URL_SAFE_NO_PAD.encode(bad)), "assertion_signature").await;
    }
    let (header, rest) = good.split_once('.').unwrap();
    let other = rig.assertion().claim("jti", json!("other")).claims_json();
    let tampered = format!("{header}.{}.{}", URL_SAFE_NO_PAD.encode(other), rest.split_once('.').unwrap().1);
    refuses(&rig, "other claims", &tampered, "assertion_signature").await;
    accepts(&rig, "none of these used it up", &good).await;
    rig.end().await;
}

#[tokio::test]
async fn rfc8414_2_each_advertised_algorithm_works_with_a_key_of_its_own_and_with_no_other() {
    let keys: Vec<_> =
        Algorithm::ALL.into_iter().map(|algorithm| Arc::new(SigningKey::generate(algorithm).unwrap())).collect();
    let id = |key: &SigningKey| format!("c-{}", key.algorithm().as_str());
    let rig = Rig::with(|setup| {
        for key in &keys {
            let alg = format!("token_endpoint_auth_signing_alg = \"{}\"\n", key.algorithm().as_str());
            setup.client(&id(key), signing_client(&id(key), &[key.public_jwk("k").to_json()], &alg, ""));
        }
    })
    .await;
    for key in &keys {
        let good = || Assertion::of(&id(key), "k", Arc::clone(key), rig.now());
        accepts(&rig, &id(key), &good().sign()).await;
        for other in keys.iter().filter(|other| other.algorithm() != key.algorithm()) {
            let case = format!("{} by {}", id(key), other.algorithm().as_str());
            let foreign = Assertion::of(&id(key), "k", Arc::clone(other), rig.now());
            let answer = rig.send(&Ask::by_assertion(&foreign.sign()).over(&PKI.batch.identity)).await;
            let reason = rig.audit_of(&answer).await["reason"].clone();
            assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("invalid_client")), "{case}");
            assert!(reason == "alg_not_allowed" || reason == "key_unknown", "{case}: {reason}");
        }
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc8725_3_1_one_key_has_one_algorithm() {
    let ps = SigningKey::generate(Algorithm::Ps256).unwrap();
    let as_rs = Arc::new(SigningKey::from_pkcs8_der(&ps.to_pkcs8_der(), Algorithm::Rs256).unwrap());
    let ps = Arc::new(ps);
    let mut of_key: Value = ps.public_jwk("k").to_json();
    of_key["alg"] = json!("PS256");
    let mut bare = ps.public_jwk("k").to_json();
    bare.as_object_mut().unwrap().remove("alg");
    let rig = Rig::with(|setup| {
        setup.client("by-key", signing_client("by-key", &[of_key], "", ""));
        let alg = "token_endpoint_auth_signing_alg = \"PS256\"\n";
        setup.client("by-client", signing_client("by-client", &[bare], alg, ""));
    })
    .await;
    for (client_id, reason) in [("by-key", "key_unknown"), ("by-client", "alg_not_allowed")] {
        accepts(&rig, client_id, &Assertion::of(client_id, "k", Arc::clone(&ps), rig.now()).sign()).await;
        let other = Assertion::of(client_id, "k", Arc::clone(&as_rs), rig.now()).sign();
        refuses(&rig, client_id, &other, reason).await;
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc7523_3_only_the_clients_own_keys_count() {
    let other = Arc::new(SigningKey::generate(Algorithm::EdDsa).unwrap());
    let rig = Rig::with(|setup| {
        setup.client("other", signing_client("other", &[other.public_jwk("other-1").to_json()], "", ""));
    })
    .await;
    let as_batch = |kid: &str, key: &Arc<SigningKey>| Assertion::of("batch", kid, Arc::clone(key), rig.now()).sign();
    refuses(&rig, "another client's key", &as_batch("other-1", &other), "key_unknown").await;
    let own_kid = Arc::new(SigningKey::generate(Algorithm::Es256).unwrap());
    refuses(&rig, "a key of nobody's", &as_batch("batch-1", &own_kid), "assertion_signature").await;
    accepts(&rig, "its own", &as_batch("batch-1", &BATCH_KEY)).await;
    rig.end().await;
}

#[tokio::test]
async fn rfc7517_9_2_no_private_symmetric_or_weak_key_is_registered() {
    let good = batch_jwk();
    let with = |name: &str, value: Value| {
        let mut jwk = good.clone();
        jwk[name] = value;
        jwk
    };
    for (case, jwk) in [
        ("private", with("d", good["x"].clone())),
        ("symmetric", json!({ "kty": "oct", "k": "AAAA", "kid": "k" })),
        ("off the curve", with("y", good["x"].clone())),
        ("encryption", with("use", json!("enc"))),
        ("no verifying", with("key_ops", json!(["sign"]))),
        ("another alg", with("alg", json!("PS256"))),
        ("unknown kty", json!({ "kty": "AKP", "kid": "k" })),
        (
            "RSA of 1024 bits",
            json!({ "kty": "RSA", "kid": "k", "n": URL_SAFE_NO_PAD.encode([0xff; 128]), "e": "AQAB" }),
        ),
        ("RSA with e = 1", json!({ "kty": "RSA", "kid": "k", "n": URL_SAFE_NO_PAD.encode([0xff; 256]), "e": "AQ" })),
    ] {
        let text = signing_client("x", &[jwk], "", "");
        let error = Rig::refuses_to_start(|setup| setup.client("x", text)).await;
        assert!(error.contains("x.toml") && error.contains("jwks"), "{case}: {error}");
    }
}
