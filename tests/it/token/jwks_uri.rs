//! Keys and certificates that a client publishes itself (RFC 7591 §2; RFC 8705 §2.2.2; RFC 8725 §3.10).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use certbind_devpki::{Identity, Issuer, LeafSpec};
use certbind_proto::jws::{Algorithm, SigningKey};
use serde_json::{Value, json};

use crate::support::setup::{client, self_signed_client};
use crate::support::{Ask, Assertion, JwksServer, PKI, Rig, Setup, validity};

fn key() -> Arc<SigningKey> {
    Arc::new(SigningKey::generate(Algorithm::Es256).unwrap())
}

fn publishing(setup: &mut Setup, server: &JwksServer) {
    setup.set("assertions.jwks_fetch.allow_private_networks", "true");
    setup.set("assertions.jwks_fetch.ca", "file:ca.pem");
    let members = format!("token_endpoint_auth_method = \"private_key_jwt\"\n{}", server.member());
    setup.client("rotating", client("rotating", &members, ""));
}

fn ask(rig: &Rig, kid: &str, key: &Arc<SigningKey>) -> Ask {
    rig.batch_with(&Assertion::of("rotating", kid, Arc::clone(key), rig.now()))
}

fn published(kid: &str, key: &SigningKey) -> Value {
    key.public_jwk(kid).to_json()
}

#[tokio::test]
async fn rfc7591_2_a_published_key_is_rotated_without_a_word_to_the_server() {
    let (old, new) = (key(), key());
    let server = JwksServer::start(&[published("old", &old)]).await;
    let rig = Rig::with(|setup| publishing(setup, &server)).await;
    rig.issues("old", &ask(&rig, "old", &old)).await;
    rig.issues("kept", &ask(&rig, "old", &old)).await;
    assert_eq!(server.asked(), 1, "a set is kept");

    server.publish(&[published("old", &old), published("new", &new)]);
    rig.refuses("within the cool-down", &ask(&rig, "new", &new), 400, "invalid_client", "key_unknown").await;
    assert_eq!(server.asked(), 1, "an unknown kid makes no storm");
    rig.at(30);
    rig.issues("new", &ask(&rig, "new", &new)).await;
    rig.issues("old beside it", &ask(&rig, "old", &old)).await;
    assert_eq!(server.asked(), 2);

    server.publish(&[published("new", &new)]);
    rig.at(30 + 11 * 60);
    rig.refuses("withdrawn", &ask(&rig, "old", &old), 400, "invalid_client", "key_unknown").await;
    rig.issues("new still", &ask(&rig, "new", &new)).await;
    rig.end().await;
}

#[tokio::test]
async fn rfc8725_3_10_whoever_vouches_for_a_jwks_uri_is_followed_in_the_file() {
    let own = key();
    let server = JwksServer::start(&[published("k", &own)]).await;
    let stranger = Issuer::root("stranger", validity()).unwrap();
    let rig = Rig::with(|setup| {
        publishing(setup, &server);
        setup.set("assertions.jwks_fetch.ca", "file:publishers.pem");
        setup.file("publishers.pem", stranger.certificate_pem());
    })
    .await;
    rig.refuses("a stranger vouches", &ask(&rig, "k", &own), 400, "invalid_client", "jwks_unavailable").await;
    let is_told = |line: &Value| line["detail"] == "assertions.jwks_fetch.ca";
    rig.replace("publishers.pem", &PKI.root.certificate_pem());
    rig.audit_until(is_told).await;
    rig.at(120);
    rig.issues("the right one does", &ask(&rig, "k", &own)).await;

    rig.replace("publishers.pem", "nobody");
    rig.audit_until(|line| line["event"] == "config.rejected").await;
    rig.at(20 * 60);
    rig.issues("a bad file changes nothing", &ask(&rig, "k", &own)).await;
    assert_eq!(server.asked(), 2);
    rig.replace("publishers.pem", &PKI.root.certificate_pem());
    rig.audit_lines(2, is_told).await;
    rig.end().await;
}

#[tokio::test]
async fn rfc8725_3_10_what_is_no_key_set_gives_no_keys_and_kept_ones_last_for_an_hour() {
    let own = key();
    let server = JwksServer::start(&[published("k", &own)]).await;
    let rig = Rig::with(|setup| publishing(setup, &server)).await;
    rig.issues("before", &ask(&rig, "k", &own)).await;
    server.answer("500 Internal Server Error", "Content-Length: 0\r\n", "");
    for minutes in [11, 30, 59] {
        rig.at(minutes * 60);
        rig.issues("kept", &ask(&rig, "k", &own)).await;
    }
    rig.at(61 * 60);
    rig.refuses("too old", &ask(&rig, "k", &own), 400, "invalid_client", "jwks_unavailable").await;
    server.publish(&[published("k", &own)]);
    rig.at(63 * 60);
    rig.issues("back", &ask(&rig, "k", &own)).await;
    rig.end().await;

    let large = "x".repeat(70_000);
    for (case, status, headers, body) in [
        ("a redirect", "302 Found", "Location: https://localhost:1/keys\r\nContent-Length: 0\r\n".to_owned(), ""),
        ("no JSON", "200 OK", "Content-Length: 5\r\n".to_owned(), "<html"),
        ("too large", "200 OK", format!("Content-Length: {}\r\n", large.len()), large.as_str()),
        ("not found", "404 Not Found", "Content-Length: 0\r\n".to_owned(), ""),
    ] {
        let rig = Rig::with(|setup| publishing(setup, &server)).await;
        server.answer(status, &headers, body);
        rig.refuses(case, &ask(&rig, "k", &own), 400, "invalid_client", "jwks_unavailable").await;
        rig.end().await;
    }
}

#[tokio::test]
async fn rfc8725_3_10_private_addresses_are_not_asked_unless_allowed() {
    let own = key();
    let server = JwksServer::start(&[published("k", &own)]).await;
    let rig = Rig::with(|setup| {
        publishing(setup, &server);
        setup.set("assertions.jwks_fetch.allow_private_networks", "false");
    })
    .await;
    rig.refuses("loopback", &ask(&rig, "k", &own), 400, "invalid_client", "jwks_unavailable").await;
    assert_eq!(server.asked(), 0);
    rig.end().await;
}

#[tokio::test]
async fn rfc7523_3_a_published_key_is_its_clients_alone() {
    let (own, other) = (key(), key());
    let server = JwksServer::start(&[published("k", &own)]).await;
    let rig = Rig::with(|setup| publishing(setup, &server)).await;
    rig.refuses("forged", &ask(&rig, "k", &other), 400, "invalid_client", "assertion_signature").await;
    let as_batch = rig.batch_with(&Assertion::of("batch", "k", Arc::clone(&own), rig.now()));
    rig.refuses("as another client", &as_batch, 400, "invalid_client", "key_unknown").await;
    rig.end().await;
}

#[tokio::test]
async fn rfc8705_2_2_2_a_published_certificate_is_rotated_and_the_old_one_stops() {
    let make = || Identity::self_signed(&LeafSpec::client("mesh", validity())).unwrap();
    let with_certificate = |identity: &Identity, kid: &str| {
        let mut jwk =
            SigningKey::from_pkcs8_der(identity.key_pkcs8(), Algorithm::Es256).unwrap().public_jwk(kid).to_json();
        jwk["x5c"] = json!([STANDARD.encode(identity.certificate())]);
        jwk
    };
    let (old, new) = (make(), make());
    let server = JwksServer::start(&[with_certificate(&old, "1")]).await;
    let rig = Rig::with(|setup| {
        publishing(setup, &server);
        setup.client("mesh", self_signed_client("mesh", &server.member(), ""));
    })
    .await;
    let ask = |identity: &Identity| Ask::by_certificate("mesh", identity);
    rig.issues("old", &ask(&old)).await;
    rig.refuses("not yet published", &ask(&new), 400, "invalid_client", "thumbprint_unknown").await;
    server.publish(&[with_certificate(&new, "2")]);
    rig.at(30);
    rig.issues("new", &ask(&new)).await;
    rig.refuses("withdrawn", &ask(&old), 400, "invalid_client", "thumbprint_unknown").await;
    rig.refuses("anybody's", &ask(&PKI.ledger.identity), 400, "invalid_client", "thumbprint_unknown").await;
    rig.end().await;
}
