//! `self_signed_tls_client_auth`: the certificate itself is registered (RFC 8705 §2.2).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use certbind_devpki::{Basic, Identity, KeySource, LeafSpec, Validity, Version};
use certbind_proto::jws::{Algorithm, SigningKey};
use serde_json::{Value, json};

use crate::support::setup::{jwks_member, self_signed_client};
use crate::support::{Ask, PKI, Rig, START, thumbprint, validity};

fn self_signed(change: impl FnOnce(LeafSpec) -> LeafSpec) -> Identity {
    Identity::self_signed(&change(LeafSpec::client("ledger", validity()))).unwrap()
}

/// The same name and key as `ledger` has.
fn same_key() -> Identity {
    self_signed(|spec| LeafSpec { key: KeySource::Pkcs8(PKI.ledger.identity.key_pkcs8().to_vec()), ..spec })
}

fn jwk(identity: &Identity, kid: &str) -> Value {
    let key = SigningKey::from_pkcs8_der(identity.key_pkcs8(), Algorithm::Es256).unwrap();
    key.public_jwk(kid).to_json()
}

/// A key with its certificate (RFC 8705 §2.2.2).
fn jwk_with(identity: &Identity, kid: &str) -> Value {
    let mut jwk = jwk(identity, kid);
    jwk["x5c"] = json!([STANDARD.encode(identity.certificate())]);
    jwk
}

fn ask(identity: &Identity) -> Ask {
    Ask::by_certificate("ledger", identity)
}

#[tokio::test]
async fn rfc8705_2_2_the_certificate_is_a_registered_one_octet_by_octet() {
    let rig = Rig::start().await;
    rig.issues("the registered one", &Ask::ledger()).await;
    for (case, identity) in [
        ("a new one for the same key and name", &same_key()),
        ("the same name", &self_signed(|spec| spec)),
        ("one that a CA vouches for", &PKI.billing.identity),
    ] {
        rig.refuses(case, &ask(identity), 400, "invalid_client", "thumbprint_unknown").await;
    }
    rig.refuses("none", &Ask::ledger().over_none(), 400, "invalid_client", "certificate_missing").await;
    rig.end().await;
}

#[tokio::test]
async fn rfc8705_2_2_several_certificates_work_side_by_side_and_no_chain_is_built() {
    let (renewed, of_ca, end_entity) = (same_key(), &PKI.sibling.identity, self_signed(|spec| spec));
    let ca_true = self_signed(|spec| LeafSpec { basic: Basic::Ca, ..spec });
    let server_only = self_signed(|spec| LeafSpec { eku: vec![], key_usage: vec![], ..spec });
    let all = [&PKI.ledger.identity, &renewed, of_ca, &end_entity, &ca_true, &server_only, &PKI.thief.identity];
    let rig = Rig::with(|setup| {
        let keys: Vec<_> = all.iter().enumerate().map(|(i, identity)| jwk_with(identity, &i.to_string())).collect();
        setup.client("ledger", self_signed_client("ledger", &jwks_member(&keys), ""));
    })
    .await;
    for (i, identity) in all.iter().enumerate() {
        let token = rig.issues(&i.to_string(), &ask(identity)).await;
        assert_eq!(token.bound_to(), Some(thumbprint(identity).as_str()), "{i}");
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc8705_2_2_2_a_registered_key_carries_a_certificate_for_that_very_key() {
    let mut mismatch = jwk_with(&PKI.ledger.identity, "k");
    mismatch["x5c"] = json!([STANDARD.encode(PKI.sibling.identity.certificate())]);
    let mut broken = jwk_with(&PKI.ledger.identity, "k");
    broken["x5c"] = json!(["AAAA"]);
    let mut private = jwk_with(&PKI.ledger.identity, "k");
    private["d"] = private["x"].clone();
    let v1 = self_signed(|spec| LeafSpec { version: Version::V1, ..spec });
    for (case, key, said) in [
        ("another key's", mismatch, "jwks"),
        ("no certificate", jwk(&PKI.ledger.identity, "k"), "each key needs its certificate in x5c"),
        ("no DER", broken, "jwks"),
        ("a private key", private, "jwks"),
        ("version 1", jwk_with(&v1, "k"), "version 1"),
    ] {
        let text = self_signed_client("ledger", &jwks_member(&[key]), "");
        let error = Rig::refuses_to_start(|setup| setup.client("ledger", text)).await;
        assert!(error.contains("ledger.toml") && error.contains(said), "{case}: {error}");
    }
}

#[tokio::test]
async fn rfc8705_2_2_the_dates_of_a_registered_certificate_count_unless_told_otherwise() {
    let own = Validity { not_before: START.unix() + 10, not_after: START.unix() + 1000 };
    let dated = self_signed(|spec| LeafSpec { validity: own, ..spec });
    let members = jwks_member(&[jwk_with(&dated, "k")]);
    let rig = Rig::with(|setup| setup.client("ledger", self_signed_client("ledger", &members, ""))).await;
    rig.refuses("before", &ask(&dated), 400, "invalid_client", "certificate_not_yet_valid").await;
    rig.at(10);
    rig.issues("first second", &ask(&dated)).await;
    rig.at(1001);
    rig.refuses("after", &ask(&dated), 400, "invalid_client", "certificate_expired").await;
    rig.end().await;

    let relaxed = self_signed_client("ledger", &members, "ignore_certificate_validity = true");
    let rig = Rig::with(|setup| {
        setup.client("ledger", relaxed.clone());
        setup.set("tokens.cap_at_certificate_expiry", "false");
    })
    .await;
    rig.at(1001);
    assert_eq!(rig.issues("relaxed", &ask(&dated)).await.expires_in(), 300);
    rig.end().await;

    let rig = Rig::with(|setup| setup.client("ledger", relaxed)).await;
    rig.at(1001);
    rig.refuses("no life is left for a token", &ask(&dated), 400, "invalid_request", "certificate_expired").await;
    rig.end().await;
}
