//! `private_key_jwt`: what an assertion says (RFC 7521 §4.2; RFC 7523 §2.2, §3; RFC 10070; OpenID Connect Core §9).

use std::sync::Arc;

use certbind_proto::jws::{Algorithm, SigningKey};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::assertion::BATCH_KEY;
use crate::support::setup::{batch_jwk, signing_client};
use crate::support::{Ask, Assertion, Caller, Http, ISSUER, PKI, Rig};

async fn accepts(rig: &Rig, case: &str, assertion: &Assertion) {
    rig.issues(case, &rig.batch_with(assertion)).await;
}

async fn refuses(rig: &Rig, case: &str, assertion: &Assertion, reason: &str) {
    rig.refuses(case, &rig.batch_with(assertion), 400, "invalid_client", reason).await;
}

#[tokio::test]
async fn rfc7521_4_2_type_and_assertion_come_together_and_the_type_is_the_one_urn() {
    let rig = Rig::start().await;
    let good = rig.batch();
    for (case, ask) in [
        ("no type", good.clone().without("client_assertion_type")),
        ("no assertion", good.clone().without("client_assertion")),
        ("case", good.clone().set("client_assertion_type", "URN:ietf:params:oauth:client-assertion-type:jwt-bearer")),
        (
            "saml2",
            good.clone().set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"),
        ),
        ("spiffe", good.clone().set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe")),
        ("grant", good.clone().set("client_assertion_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")),
    ] {
        rig.refuses(case, &ask, 400, "invalid_client", "assertion_type").await;
    }
    let two = format!("{} {}", rig.assertion().sign(), rig.assertion().sign());
    rig.refuses("two in one", &good.set("client_assertion", &two), 400, "invalid_client", "assertion_malformed").await;
    rig.end().await;
}

#[tokio::test]
async fn rfc7521_4_2_a_client_id_beside_the_assertion_names_the_same_client() {
    let rig = Rig::start().await;
    rig.issues("the same", &rig.batch().with("client_id", "batch")).await;
    for other in ["billing", "nobody", "batch ", "BATCH"] {
        let ask = rig.batch().with("client_id", other);
        rig.refuses(other, &ask, 400, "invalid_client", "client_id_mismatch").await;
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc7523_3_issuer_and_subject_are_the_client() {
    let rig = Rig::start().await;
    for (case, assertion, reason) in [
        ("no iss", rig.assertion().without("iss"), "assertion_issuer"),
        ("other iss", rig.assertion().claim("iss", json!("billing")), "assertion_issuer"),
        ("iss and slash", rig.assertion().claim("iss", json!("batch/")), "assertion_issuer"),
        ("iss case", rig.assertion().claim("iss", json!("Batch")), "assertion_issuer"),
        ("iss list", rig.assertion().claim("iss", json!(["batch"])), "assertion_issuer"),
        ("no sub", rig.assertion().without("sub"), "client_id_missing"),
        ("empty sub", rig.assertion().claim("sub", json!("")), "client_id_missing"),
        ("sub list", rig.assertion().claim("sub", json!(["batch"])), "client_id_missing"),
        ("sub of nobody", rig.assertion().claim("sub", json!("nobody")), "client_unknown"),
        ("sub of another method", rig.assertion().claim("sub", json!("billing")), "method_not_registered"),
    ] {
        refuses(&rig, case, &assertion, reason).await;
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc10070_4_the_audience_is_this_issuer_to_the_letter_and_nothing_besides() {
    let rig = Rig::with(|setup| setup.two_listeners()).await;
    for aud in [json!(ISSUER), json!([ISSUER])] {
        accepts(&rig, &aud.to_string(), &rig.assertion().claim("aud", aud.clone())).await;
    }
    for aud in [
        json!(""),
        json!("https://other.test"),
        json!("https://auth.test/"),
        json!("https://AUTH.test"),
        json!("https://auth.test:443"),
        json!("http://auth.test"),
        json!("auth.test"),
        json!("https://auth.test/oauth2/token"),
        json!("https://public.auth.test"),
        json!("https://public.auth.test/oauth2/token"),
        json!("https://auth.test/oauth2/introspect"),
        json!(["https://auth.test/oauth2/token"]),
        json!([ISSUER, "https://auth.test/oauth2/token"]),
        json!([ISSUER, ISSUER]),
        json!([ISSUER, "https://other.test"]),
        json!([[ISSUER]]),
        json!([]),
        json!([1]),
        json!({ "aud": ISSUER }),
        json!(null),
        json!(1),
    ] {
        refuses(&rig, &aud.to_string(), &rig.assertion().claim("aud", aud.clone()), "assertion_audience").await;
    }
    refuses(&rig, "none", &rig.assertion().without("aud"), "assertion_audience").await;
    rig.end().await;
}

#[tokio::test]
async fn rfc10070_4_a_client_that_migrates_may_name_the_token_endpoint_if_it_is_marked() {
    let rig = Rig::with(|setup| {
        setup.client("old", signing_client("old", &[batch_jwk()], "", "legacy_audience = true"));
    })
    .await;
    let of_old = || Assertion::of("old", "batch-1", Arc::clone(&BATCH_KEY), rig.now());
    for aud in [ISSUER, "https://auth.test/oauth2/token"] {
        accepts(&rig, aud, &of_old().claim("aud", json!(aud))).await;
    }
    for aud in ["https://auth.test/oauth2/introspect", "https://other.test/oauth2/token"] {
        refuses(&rig, aud, &of_old().claim("aud", json!(aud)), "assertion_audience").await;
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc7523_3_expiry_is_there_in_the_future_and_not_far() {
    let rig = Rig::start().await;
    let exp = |value: Value| rig.assertion().claim("exp", value);
    let at = |seconds: i64| exp(json!(rig.now().unix() + seconds));
    for seconds in [-29, 1, 595, 600, 630] {
        accepts(&rig, &seconds.to_string(), &at(seconds)).await;
    }
    #[expect(clippy::cast_precision_loss, reason = "seconds fit")]
    accepts(&rig, "a fraction", &exp(json!(rig.now().unix() as f64 + 10.5))).await;
    for (seconds, reason) in [
        (-30, "assertion_expired"),
        (-300, "assertion_expired"),
        (631, "assertion_too_long"),
        (86_400, "assertion_too_long"),
    ] {
        refuses(&rig, &seconds.to_string(), &at(seconds), reason).await;
    }
    refuses(&rig, "none", &rig.assertion().without("exp"), "assertion_malformed").await;
    for value in [json!(rig.now().unix().to_string()), json!(-1), json!(null), json!(true), json!([1]), json!(u64::MAX)]
    {
        refuses(&rig, &value.to_string(), &exp(value.clone()), "assertion_malformed").await;
    }
    for text in ["1e400", "NaN", "Infinity", "0x7fffffff", "01900000000"] {
        let good = rig.assertion();
        let claims = good.claims_json().replace(&(rig.now().unix() + 60).to_string(), text);
        let ask = Ask::by_assertion(&good.sign_raw(good.header_json().as_bytes(), claims.as_bytes()));
        rig.refuses(text, &ask.over(&PKI.batch.identity), 400, "invalid_client", "client_id_missing").await;
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc7523_3_ten_seconds_ahead_pass_and_more_than_sixty_do_not() {
    for skew in ["0s", "30s", "60s"] {
        let rig = Rig::with(|setup| setup.set("assertions.clock_skew", skew)).await;
        for name in ["iat", "nbf"] {
            let ahead = |seconds: i64| rig.assertion().claim(name, json!(rig.now().unix() + seconds));
            for seconds in [-3600, 0, 8, 10] {
                accepts(&rig, &format!("{name} {seconds} {skew}"), &ahead(seconds)).await;
            }
            refuses(&rig, &format!("{name} 61 {skew}"), &ahead(61), "assertion_not_yet_valid").await;
            let text = rig.assertion().claim(name, json!("0"));
            refuses(&rig, name, &text, "assertion_malformed").await;
        }
        accepts(&rig, "no iat", &rig.assertion().without("iat")).await;
        rig.end().await;
    }
}

#[tokio::test]
async fn oidc_core_9_a_jti_is_there_and_short() {
    let rig = Rig::start().await;
    for jti in
        [json!(""), json!(1), json!({}), json!(null), json!(["a"]), json!("x".repeat(257)), json!("x".repeat(8_000))]
    {
        refuses(&rig, &jti.to_string(), &rig.assertion().claim("jti", jti.clone()), "assertion_jti").await;
    }
    refuses(&rig, "none", &rig.assertion().without("jti"), "assertion_jti").await;
    accepts(&rig, "the longest", &rig.assertion().claim("jti", json!("x".repeat(256)))).await;
    rig.end().await;
}

#[tokio::test]
async fn rfc10070_a_typ_is_that_of_a_client_assertion_or_says_nothing() {
    let rig = Rig::start().await;
    accepts(&rig, "none", &rig.assertion().without_header("typ")).await;
    for typ in [
        "JWT",
        "jwt",
        "client-authentication+jwt",
        "application/client-authentication+jwt",
        "Client-Authentication+JWT",
    ] {
        accepts(&rig, typ, &rig.assertion().header("typ", json!(typ))).await;
    }
    for typ in [
        "at+jwt",
        "application/at+jwt",
        "dpop+jwt",
        "oauth-client-attestation+jwt",
        "secevent+jwt",
        "token-introspection+jwt",
        "JOSE",
        "",
    ] {
        refuses(&rig, typ, &rig.assertion().header("typ", json!(typ)), "assertion_typ").await;
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc8725_3_12_an_access_token_is_no_client_assertion() {
    let rig = Rig::start().await;
    let token = rig.issues("a token", &rig.batch()).await;
    let ask = Ask::by_assertion(&token.text).over(&PKI.batch.identity);
    rig.refuses("as assertion", &ask, 400, "invalid_client", "assertion_typ").await;
    rig.end().await;
}

#[tokio::test]
async fn oidc_core_9_an_assertion_is_good_once_until_it_would_be_refused_anyway() {
    let rig = Rig::start().await;
    let exp = 60;
    let once = rig.batch();
    rig.issues("once", &once).await;
    rig.refuses("at once again", &once, 400, "invalid_client", "assertion_replayed").await;
    let other = once.clone().over(&PKI.billing.identity);
    rig.refuses("over another connection", &other, 400, "invalid_client", "assertion_replayed").await;
    let rig = rig.restart().await;
    rig.refuses("after a restart", &once, 400, "invalid_client", "assertion_replayed").await;
    rig.at(exp + 29);
    rig.refuses("in its last second", &once, 400, "invalid_client", "assertion_replayed").await;
    rig.at(exp + 30);
    rig.refuses("when it is over", &once, 400, "invalid_client", "assertion_expired").await;
    rig.end().await;
}

#[tokio::test]
async fn oidc_core_9_of_a_hundred_copies_at_once_one_is_answered_with_a_token() {
    let rig = Rig::start().await;
    let (ask, address) = (rig.batch(), rig.address());
    let mut copies = JoinSet::new();
    for _ in 0..100 {
        let ask = ask.clone();
        copies
            .spawn(async move { Caller::connect(address, ask.certificate.as_ref(), Http::Two).await.send(&ask).await });
    }
    let answers = copies.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        rig.is_refused("a copy", answer, 400, "invalid_client", "assertion_replayed").await;
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc7523_3_only_a_verified_assertion_uses_up_its_jti_and_only_its_clients() {
    let rig = Rig::with(|setup| setup.client("batch-2", signing_client("batch-2", &[batch_jwk()], "", ""))).await;
    let forger = Arc::new(SigningKey::generate(Algorithm::Es256).unwrap());
    let good = rig.assertion();
    refuses(&rig, "forged", &good.clone().key(&forger), "assertion_signature").await;
    refuses(&rig, "expired", &good.clone().claim("exp", json!(1)), "assertion_expired").await;
    let of_other = Assertion::of("batch-2", "batch-1", Arc::clone(&BATCH_KEY), rig.now()).claim("jti", json!("same"));
    accepts(&rig, "another client's", &of_other).await;
    accepts(&rig, "the same jti", &good.claim("jti", json!("same"))).await;
    let bad_scope = rig.batch().with("scope", "admin");
    rig.refuses("good, but for nothing", &bad_scope, 400, "invalid_scope", "scope_not_allowed").await;
    rig.refuses("used up all the same", &bad_scope, 400, "invalid_client", "assertion_replayed").await;
    rig.end().await;
}

#[tokio::test]
async fn rfc7523_3_while_the_store_does_not_answer_nothing_is_accepted_and_nothing_used_up() {
    let rig = Rig::start().await;
    let other = rusqlite::Connection::open(rig.path("data/certbind.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let ask = rig.batch();
    let answer = rig.refuses("locked", &ask, 503, "temporarily_unavailable", "store_unavailable").await;
    assert!(answer.headers.contains_key("retry-after"));
    rig.issues("a client that needs no store", &Ask::billing()).await;
    other.execute_batch("ROLLBACK").unwrap();
    rig.issues("the same assertion", &ask).await;
    rig.end().await;
}
