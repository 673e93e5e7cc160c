//! Credentials of clients: seen in use, changed over without a pause, and known on every server of a fleet.

use certbind_devpki::{Identity, LeafSpec, Validity};
use certbind_proto::jws::{Algorithm, SigningKey};
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::{Clock as _, SystemClock};
use hyper::{StatusCode, Version};
use serde_json::{Value, json};

use super::cli::{fails, json, runs};
use super::rig::{AdminSite, Api, Ask, CLIENTS};
use crate::postgres::cluster::Cluster;
use crate::process::client::{Asserter, by_assertion, client};
use crate::process::fleet;
use crate::process::rig::{PKI, Process, output, within};

const API: &str = "https://localhost:8444";

fn self_signed(name: &str) -> Identity {
    let today = SystemClock.now().unix();
    Identity::self_signed(&LeafSpec::client(name, Validity::days_from(today - 86_400, 30))).unwrap()
}

async fn by_certificate(server: &Process, client_id: &str, identity: &Identity) -> StatusCode {
    let mut caller = server.connect(Some(identity), Version::HTTP_11).await.unwrap();
    caller.token(&client(client_id)).await.unwrap().status
}

async fn by_key(server: &Process, asserter: &Asserter) -> StatusCode {
    let mut caller = server.connect(Some(&PKI.batch.identity), Version::HTTP_11).await.unwrap();
    caller.token(&by_assertion(&asserter.fresh())).await.unwrap().status
}

async fn credentials(api: &mut Api, client_id: &str) -> Value {
    api.gets(200, Ask::get(&format!("{CLIENTS}/{client_id}/credentials"))).await.json()
}

/// Of each credential its name, whether it is registered and whether it was used.
fn brief(shown: &Value) -> Vec<(String, bool, bool)> {
    let name = |credential: &Value| {
        let named = ["kid", "subject"].iter().find_map(|name| credential[*name].as_str());
        named.unwrap_or_default().to_owned()
    };
    let credentials = shown["credentials"].as_array().unwrap().iter();
    credentials.map(|known| (name(known), known["registered"] == true, known["last_used"].is_string())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc8705_2_2_a_client_changes_over_to_another_certificate_without_a_pause() {
    let site = AdminSite::new();
    let (server, mut api) = site.start("admin.sock").await;
    let (old, new) = (self_signed("old"), self_signed("new"));
    site.site.write("old.pem", &old.chain_pem());
    site.site.write("new.pem", &new.chain_pem());
    let create = ["client", "create", "archive", "--from-cert", "old.pem", "--match", "self-signed", "--audience", API];
    runs(&site, &create);
    assert_eq!(by_certificate(&server, "archive", &new).await, StatusCode::BAD_REQUEST);
    let listed = runs(&site, &["client", "credential", "list", "archive"]);
    assert!(listed.contains("never seen") && listed.contains("CN=old"), "{listed}");

    let added = runs(&site, &["client", "credential", "add", "archive", "--from-cert", "new.pem"]);
    assert_eq!(added.lines().count(), 3, "{added}");
    for identity in [&old, &new] {
        assert_eq!(by_certificate(&server, "archive", identity).await, StatusCode::OK, "both are good meanwhile");
    }
    let shown = credentials(&mut api, "archive").await;
    let name = |name: &str| old_name(&shown, name);
    assert_eq!(brief(&shown), [(name("old"), true, true), (name("new"), true, true)]);
    assert_eq!((&shown["uses_of"], &shown["state"]), (&json!("every_server"), &json!("active")));
    let (code, said) = fails(&site, &["client", "credential", "add", "archive", "--from-cert", "new.pem"]);
    assert!(code == 1 && said.contains("archive has this certificate already"), "{said}");

    let remove = ["client", "credential", "remove", "archive", "--from-cert", "old.pem"];
    let (out, said, status) = output(&mut super::cli::command(&site, &remove));
    assert!(status.success() && out.contains("CN=old") && out.contains("seen"), "{out}{said}");
    assert!(said.starts_with("certbind: warning: ") && said.contains("ago; whoever uses it is refused"), "{said}");
    assert_eq!(by_certificate(&server, "archive", &old).await, StatusCode::BAD_REQUEST);
    assert_eq!(by_certificate(&server, "archive", &new).await, StatusCode::OK);
    let thumbprint = runs(&site, &["client", "credential", "list", "archive", "-o", "plain"]);
    let thumbprint = thumbprint.lines().next().unwrap().split('\t').nth(1).unwrap().to_owned();
    let (code, said) = fails(&site, &["client", "credential", "remove", "archive", &thumbprint]);
    assert!(code == 1 && said.contains("archive would be left without a credential"), "{said}");
    assert_eq!(by_certificate(&server, "archive", &new).await, StatusCode::OK, "nothing was changed");
    assert!(server.terminate().success());
    let [gone, come] = [&old, &new].map(|identity| Thumbprint::of_der(identity.certificate()));
    let told = site.site.audit();
    for what in [
        format!(": adds the certificate {gone}"),
        format!(": certbind.certificates, adds the certificate {come}"),
        format!(": certbind.certificates, removes the certificate {gone}"),
    ] {
        let is_told = |line: &Value| {
            line["event"] == "client.changed" && line["detail"].as_str().is_some_and(|detail| detail.ends_with(&what))
        };
        assert!(told.iter().any(is_told), "{what}");
    }
}

/// The subject that has this common name.
fn old_name(shown: &Value, name: &str) -> String {
    let subjects = shown["credentials"].as_array().unwrap().iter().filter_map(|known| known["subject"].as_str());
    subjects.into_iter().find(|subject| subject.contains(&format!("CN={name}"))).unwrap_or(name).to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc7523_3_a_client_changes_over_to_another_key_without_a_pause() {
    let site = AdminSite::new();
    let (server, mut api) = site.start("admin.sock").await;
    let keys = [(); 2].map(|()| SigningKey::generate(Algorithm::Es256).unwrap());
    let names = ["one", "two"];
    for (key, kid) in keys.iter().zip(names) {
        site.site.write(&format!("{kid}.json"), &key.public_jwk(kid).to_json().to_string());
    }
    site.site.write("set.json", &json!({ "keys": [keys[0].public_jwk("one").to_json()] }).to_string());
    site.site.write("private.json", r#"{"kty":"OKP","crv":"Ed25519","x":"AAAA","d":"AAAA"}"#);
    runs(&site, &["client", "create", "jobs", "--jwks", "set.json", "--audience", API]);
    let asserters = [0, 1].map(|n| Asserter::with_kid("jobs", &keys[n].to_pkcs8_der(), names[n]));
    assert_eq!(by_key(&server, &asserters[0]).await, StatusCode::OK);
    assert_eq!(by_key(&server, &asserters[1]).await, StatusCode::BAD_REQUEST);
    runs(&site, &["client", "credential", "add", "jobs", "--jwk", "two.json"]);
    assert_eq!(brief(&credentials(&mut api, "jobs").await), [("one".into(), true, true), ("two".into(), true, false)]);
    assert_eq!(by_key(&server, &asserters[1]).await, StatusCode::OK);

    for (arguments, words) in [
        (["add", "jobs", "--jwk", "private.json"], "private"),
        (["add", "jobs", "--jwk", "one.json"], "has this key already, as one"),
        (["add", "jobs", "--from-cert", "clients/ledger.pem"], "--jwk FILE"),
    ] {
        let (code, said) = fails(&site, &[&["client", "credential"], &arguments[..]].concat());
        assert!(code == 1 && said.contains(words), "{words}: {said}");
    }
    let removed = json(&runs(&site, &["client", "credential", "remove", "jobs", "one", "-o", "json"]));
    assert_eq!(brief(&removed), [("two".into(), true, true), ("one".into(), false, true)], "it was seen, still");
    let shown = &removed["credentials"][0];
    assert_eq!((&shown["kty"], &shown["crv"], &shown["algs"]), (&json!("EC"), &json!("P-256"), &json!(["ES256"])));
    assert_eq!(shown["thumbprint"], keys[1].public_jwk("").thumbprint().to_string());
    assert_eq!(by_key(&server, &asserters[0]).await, StatusCode::BAD_REQUEST);
    let (code, said) = fails(&site, &["client", "credential", "remove", "jobs", "two"]);
    assert!(code == 1 && said.contains("left without a credential"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc8705_2_1_the_certificates_of_a_client_that_a_ca_vouches_for_are_seen_and_a_restart_forgets_none() {
    let site = AdminSite::new();
    let (server, mut api) = site.start("admin.sock").await;
    assert_eq!(credentials(&mut api, "billing").await["credentials"], json!([]));
    assert_eq!(by_certificate(&server, "billing", &PKI.thief.identity).await, StatusCode::BAD_REQUEST);
    assert_eq!(credentials(&mut api, "billing").await["credentials"], json!([]), "who is refused used nothing");
    assert_eq!(by_certificate(&server, "billing", &PKI.billing.identity).await, StatusCode::OK);
    let shown = credentials(&mut api, "billing").await;
    let certificate = &shown["credentials"][0];
    let expected = certbind_proto::cert::Certificate::parse(PKI.billing.identity.certificate()).unwrap();
    assert_eq!(
        (&certificate["x5t#S256"], &certificate["serial"], &certificate["not_after"], &certificate["subject"]),
        (
            &json!(expected.thumbprint()),
            &json!(expected.serial_hex()),
            &json!(expected.not_after().to_string()),
            &json!(expected.subject().to_string()),
        )
    );
    assert_eq!(shown["last_used"], certificate["last_used"]);
    for words in [["add", "billing", "--from-cert", "clients/billing.pem"].as_slice(), &["remove", "billing", "x"]] {
        let (code, said) = fails(&site, &[&["client", "credential"], words].concat());
        assert!(code == 1 && said.contains("is known by its name, spiffe://certbind.dev/billing"), "{said}");
    }
    let (code, said) = fails(&site, &["client", "credential", "add", "ledger", "--from-cert", "clients/billing.pem"]);
    assert!(code == 3 && said.contains("A file in clients.dir registers this client"), "{said}");
    assert_eq!(api.gets(404, Ask::get(&format!("{CLIENTS}/nobody/credentials"))).await.problem(), "client-unknown");

    assert!(server.terminate().success());
    let (_server, mut api) = site.start("admin.sock").await;
    assert_eq!(credentials(&mut api, "billing").await, shown);
    let page = api.gets(200, Ask::get("/admin/v1/credentials?limit=2")).await;
    assert_eq!(page.json()["clients"].as_array().map(Vec::len), Some(2));
    assert!(page.header("link").starts_with("</admin/v1/credentials?limit=2&cursor="), "{page:?}");
    let only = api.gets(200, Ask::get("/admin/v1/credentials?method=tls_client_auth")).await.json();
    let of = |page: &Value, client_id: &str| {
        page["clients"].as_array().unwrap().iter().find(|known| known["client_id"] == client_id).cloned()
    };
    assert_eq!(of(&only, "billing").unwrap()["last_used"], shown["last_used"]);
    assert_eq!(of(&only, "ledger"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_4_a_use_on_one_server_is_known_on_all_and_a_database_that_is_away_holds_up_no_token() {
    let mut cluster = Cluster::start(&[]);
    let site = AdminSite::of(fleet::site(&cluster.database()));
    let (one, _) = site.start_with("admin.sock", &[]).await;
    let (two, mut of_two) = site.start_with("two.sock", &[]).await;
    assert_eq!(by_certificate(&one, "billing", &PKI.billing.identity).await, StatusCode::OK);
    assert_eq!(by_certificate(&two, "ledger", &PKI.ledger.identity).await, StatusCode::OK);
    // It writes once a minute, and at its end.
    assert!(one.terminate().success());
    let shown = credentials(&mut of_two, "billing").await;
    assert_eq!((shown["uses_of"].as_str(), brief(&shown).len()), (Some("every_server"), 1), "{shown}");

    cluster.stop("fast");
    within(async {
        while credentials(&mut of_two, "ledger").await["uses_of"] != "this_server" {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    for _ in 0..20 {
        assert_eq!(by_certificate(&two, "billing", &PKI.billing.identity).await, StatusCode::OK);
    }
    let shown = credentials(&mut of_two, "billing").await;
    assert_eq!((shown["uses_of"].as_str(), brief(&shown).len()), (Some("this_server"), 1), "{shown}");
    assert!(two.terminate().success(), "nobody waits for a database that is away");
}
