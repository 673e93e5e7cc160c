//! Signed answers (RFC 9701).

use certbind_proto::jwk::JwkSet;
use certbind_proto::jws::{Algorithms, Parsed};
use certbind_proto::thumbprint::Thumbprint;
use certbind_verify::{Demand, Keys, Settings, Verifier};
use serde_json::{Value, json};

use super::{api, asking, other, resource_servers, revoking};
use crate::support::{API, Answer, Ask, ISSUER, PKI, Rig};

const SIGNED: &str = "application/token-introspection+jwt";

fn signed(ask: Ask) -> Ask {
    ask.header("accept", SIGNED)
}

/// Header and claims of a signed answer whose signature holds.
async fn opened(rig: &Rig, case: &str, answer: &Answer) -> (String, Value) {
    assert_eq!((answer.status, answer.header("content-type")), (200, Some(SIGNED)), "{case}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{case}");
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let parsed = Parsed::parse(&text).unwrap();
    keys(rig).await.verify(&parsed, Algorithms::FAPI2).unwrap();
    (parsed.header.typ.clone().unwrap(), Value::Object(parsed.claims().unwrap().clone()))
}

async fn keys(rig: &Rig) -> JwkSet {
    JwkSet::parse_fetched(&rig.send(&Ask::get("/.well-known/jwks.json")).await.body).unwrap()
}

#[tokio::test]
async fn rfc9701_5_a_signed_answer_says_the_same_and_for_whom_it_is() {
    let rig = Rig::with(resource_servers).await;
    let token = rig.issues("billing", &Ask::billing()).await;
    let plain = rig.send(&asking(api(), &token.text)).await.json();
    assert_eq!(plain["active"], true);
    let (typ, claims) = opened(&rig, "good", &rig.send(&signed(asking(api(), &token.text))).await).await;
    assert_eq!(typ, "token-introspection+jwt");
    let expected = |said: Value, by: &str| json!({ "iss": ISSUER, "aud": by, "iat": rig.now().unix(), "token_introspection": said });
    assert_eq!(claims, expected(plain, "api"));

    let revoked = rig.issues("revoked", &Ask::billing()).await;
    assert_eq!(rig.send(&revoking(Ask::billing(), &revoked.text)).await.status, 200);
    for (case, ask, by, text) in [
        ("revoked", api(), "api", &revoked.text),
        ("attack 33: of another resource", other(), "other", &token.text),
        ("malformed", api(), "api", &"x".to_owned()),
    ] {
        let (_, claims) = opened(&rig, case, &rig.send(&signed(asking(ask, text))).await).await;
        assert_eq!(claims, expected(json!({ "active": false }), by), "{case}");
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc9701_5_a_signed_answer_is_for_somebody_who_says_who_he_is() {
    let rig = Rig::with(resource_servers).await;
    let token = rig.issues("billing", &Ask::billing()).await;
    for (reason, ask, status, error) in [
        ("client_id_missing", api().without("client_id"), 400, "invalid_request"),
        ("client_id_missing", api().without("client_id").over_none(), 400, "invalid_request"),
        ("certificate_missing", api().over_none(), 401, "invalid_client"),
        ("chain_untrusted", api().over(&PKI.thief.identity), 401, "invalid_client"),
    ] {
        let answer = rig.send(&signed(asking(ask, &token.text))).await;
        let audit = rig.audit_of(&answer).await;
        assert_eq!((answer.status, &answer.json()["error"]), (status, &json!(error)), "{reason}: {audit}");
        assert_eq!(audit["reason"], reason);
        assert_eq!(answer.header("content-type"), Some("application/json"), "a refusal is not signed");
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc9701_8_a_signed_answer_is_no_access_token_and_no_assertion() {
    let rig = Rig::with(resource_servers).await;
    let token = rig.issues("billing", &Ask::billing()).await;
    let answer = rig.send(&signed(asking(api(), &token.text))).await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    // As a resource whose identifier is the client_id would see it: even aud fits.
    let settings = Settings { audiences: vec!["api".to_owned(), API.to_owned()], ..Settings::new(ISSUER, API) };
    let verifier = Verifier::new(settings, Keys::fixed(keys(&rig).await));
    let certificate = Thumbprint::of_der(PKI.billing.identity.certificate());
    let verify = |text: &str| {
        let header = format!("Bearer {text}");
        verifier.verify([header.as_bytes()], Some(&certificate), &Demand::default(), rig.now()).map_err(|d| d.reason())
    };
    assert!(verify(&token.text).is_ok());
    assert_eq!(verify(&text), Err("token_type"));
    let again = rig.send(&asking(api(), &text)).await;
    assert_eq!(again.json(), json!({ "active": false }));
    rig.refuses("as an assertion", &Ask::by_assertion(&text), 400, "invalid_client", "client_id_missing").await;
    rig.end().await;
}
