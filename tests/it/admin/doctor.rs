//! `certbind doctor` and `client explain` against a running server: what ends, what is odd, and clients that only it knows.

use std::time::Duration;

use certbind::store::sqlite::{Settings, SqliteStore};
use certbind::store::usage::{Credential, Usage, UsageStore as _};
use certbind::store::{ClientStore as _, Expected};
use certbind_devpki::{Identity, LeafSpec, Validity};
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::{Clock as _, SystemClock};
use hyper::{StatusCode, Version};
use serde_json::{Value, json};

use super::cli::{command, fails, json, runs};
use super::rig::{AdminSite, Ask, registration};
use crate::process::client::billing;
use crate::process::rig::{PKI, certbind, output, within};

const API: &str = "https://localhost:8444";

/// The exit code of a doctor, and what it says to programs.
fn doctor(site: &AdminSite, arguments: &[&str]) -> (i32, Value) {
    let (out, said, status) = output(&mut command(site, &[&["doctor", "-o", "json"], arguments].concat()));
    assert!(said.is_empty(), "{said}");
    (status.code().unwrap(), json(&out))
}

/// The rows about this kind of thing: whose it is, and how it stands.
fn rows(told: &Value, what: &str) -> Vec<(String, String)> {
    let rows = told["dates"].as_array().unwrap().iter().filter(|row| row["what"] == what);
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    rows.map(|row| (text(row, "whose"), text(row, "state"))).collect()
}

fn finding(told: &Value, kind: &str) -> Option<Value> {
    told["findings"].as_array().unwrap().iter().find(|finding| finding["kind"] == kind).cloned()
}

fn pair(whose: &str, state: &str) -> (String, String) {
    (whose.to_owned(), state.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_doctor_says_what_ends_the_soonest_first_and_fails_when_it_is_soon() {
    let site = AdminSite::new();
    let (server, _api) = site.start("admin.sock").await;
    let (code, told) = doctor(&site, &[]);
    assert_eq!((code, &told["fine"]), (0, &json!(true)), "{told:#}");
    assert_eq!(rows(&told, "server certificate"), [pair("mtls", "fine")]);
    assert_eq!(rows(&told, "trust anchor"), [pair("dev", "fine")]);
    assert!(rows(&told, "revocation list").contains(&pair("dev", "fine")), "{told:#}");
    assert_eq!(rows(&told, "signing key"), [pair("", "uncounted")], "it rotates itself");
    assert_eq!(rows(&told, "certificate last seen"), []);
    assert_eq!(rows(&told, "registered certificate"), [pair("ledger", "fine")]);
    let never = finding(&told, "never_seen").unwrap();
    assert!(never["names"].as_array().unwrap().contains(&json!("billing")), "{never}");

    let mut caller = server.connect(Some(&PKI.billing.identity), Version::HTTP_11).await.unwrap();
    assert_eq!(caller.token(&billing()).await.unwrap().status, StatusCode::OK);
    let (code, told) = doctor(&site, &["--within", "60d"]);
    assert_eq!((code, &told["fine"]), (1, &json!(false)));
    assert_eq!(rows(&told, "certificate last seen"), [pair("billing", "soon")]);
    let never = finding(&told, "never_seen").unwrap();
    assert!(!never["names"].as_array().unwrap().contains(&json!("billing")), "{never}");
    let ends = told["dates"].as_array().unwrap().iter().map(|row| row["until"].as_str().unwrap_or("never"));
    assert!(ends.is_sorted(), "{told:#}");
    assert_eq!(rows(&told, "registered key"), [pair("batch", "uncounted")]);

    // One that is over is the first.
    let over = Validity::days_from(SystemClock.now().unix() - 40 * 86_400, 30);
    site.site.write("over.pem", &Identity::self_signed(&LeafSpec::client("over", over)).unwrap().chain_pem());
    runs(&site, &["client", "create", "old", "--from-cert", "over.pem", "--match", "self-signed", "--audience", API]);
    let (out, _, status) = output(&mut command(&site, &["doctor"]));
    let first: Vec<&str> = out.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((status.code(), first[0], first[1]), (Some(1), "ENDED", "-10d"), "{out}");
    assert!(out.lines().any(|line| line.starts_with("never seen to prove themselves: ")), "{out}");
    let (out, _, _) = output(&mut command(&site, &["doctor", "-o", "plain"]));
    let first: Vec<&str> = out.lines().next().unwrap().split('\t').collect();
    assert_eq!((first[0], first[4], first[5]), ("ended", "registered certificate", "old"), "{out}");
    assert!(first[1].parse::<i64>().unwrap() < -9 * 86_400, "{out}");
    runs(&site, &["client", "disable", "old"]);
    let (code, told) = doctor(&site, &[]);
    assert_eq!((code, rows(&told, "registered certificate").contains(&pair("old", "uncounted"))), (0, true));
    let (code, said) = fails(&site, &["doctor", "--within", "soon"]);
    assert!(code == 2 && said.contains("a duration is"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc8705_2_1_a_name_that_clients_of_files_and_of_the_store_share_is_told_everywhere() {
    let site = AdminSite::new();
    let (server, mut api) = site.start_with("admin.sock", &["keys.rotate_every=off"]).await;
    let (_, told) = doctor(&site, &[]);
    assert_eq!(finding(&told, "shared_subject"), None);
    let by_hand = finding(&told, "rotated_by_hand").unwrap();
    assert_eq!(by_hand["names"].as_array().map(Vec::len), Some(1), "{by_hand}");
    runs(&site, &["key", "rotate"]);
    assert_eq!(finding(&doctor(&site, &[]).1, "rotated_by_hand"), None, "there is a successor");

    let explain = |client_id: &str, more: &[&str]| {
        let fixed = ["client", "explain", client_id, "--config", "certbind.toml", "--cert", "clients/billing.pem"];
        let (out, said, status) = output(&mut command(&site, &[&fixed, more].concat()));
        assert!(said.is_empty(), "{said}");
        (status.code().unwrap(), out)
    };
    let (code, said) = explain("new", &[]);
    assert!(code == 3 && said.contains("client     new: not registered"), "{said}");
    api.gets(201, Ask::create(&registration("new", "a"))).await;
    let shared = finding(&doctor(&site, &[]).1, "shared_subject").unwrap();
    assert_eq!(shared["names"], json!(["billing", "new"]));
    assert!(
        shared["what"].as_str().unwrap().contains("spiffe://certbind.dev/billing in the trust group dev"),
        "{shared}"
    );
    within(async {
        while !server.stderr().contains("the clients billing, new share the name") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;

    for (client_id, other) in [("new", "billing"), ("billing", "new")] {
        let (code, said) = explain(client_id, &[]);
        assert_eq!(code, 0, "{said}");
        for line in [
            format!("client     {client_id}: tls_client_auth, active"),
            format!("shared     the name is registered for {other} as well: a certificate of one is good for all"),
            "verdict    accepted".to_owned(),
        ] {
            assert!(said.lines().any(|told| told == line), "{line}\n{said}");
        }
    }
    // By another configuration the registration is no good.
    let (code, said) = explain("new", &["--set", "trust.0.name=other"]);
    assert_eq!(code, 3);
    assert!(said.contains("client     new: this configuration refuses its registration in the store:"), "{said}");
    assert!(said.contains("client     new: not in force"), "{said}");

    // Without a server it is said that nobody was asked.
    assert!(server.terminate().success());
    let mut command = certbind();
    command.args(["client", "explain", "new", "--config", "certbind.toml"]).current_dir(site.site.dir());
    let (said, _, _) = output(&mut command);
    assert!(said.contains("the clients of the store were not looked at: "), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_doctor_looks_at_every_client_also_beyond_the_first_page() {
    const CLIENTS: usize = 1_001;
    let site = AdminSite::new();
    {
        let store = SqliteStore::open(&Settings::new(site.site.path("data")), SystemClock.now()).unwrap();
        let mut document = registration("", "a");
        for n in 0..CLIENTS {
            let client_id = format!("n{n:04}");
            document["client_id"] = client_id.as_str().into();
            let (metadata, now) = (document.to_string(), SystemClock.now());
            store.put_client(client_id, metadata, Expected::Absent, now).await.unwrap();
        }
        let credential = Credential::Certificate {
            thumbprint: Thumbprint::of_der(b"x"),
            subject: "CN=last".to_owned(),
            serial: "01".to_owned(),
            not_before: SystemClock.now().minus(Duration::from_secs(86_400)),
            not_after: SystemClock.now().plus(Duration::from_secs(86_400)),
        };
        let last_used = SystemClock.now();
        let used = Usage { client_id: format!("n{:04}", CLIENTS - 1), credential, last_used };
        store.note_uses(vec![used], last_used).await.unwrap();
    }
    let (_server, _api) = site.start("admin.sock").await;
    let (code, told) = doctor(&site, &["--within", "2d"]);
    assert_eq!(code, 1);
    assert_eq!(rows(&told, "certificate last seen"), [pair("n1000", "soon")]);
    assert_eq!(
        finding(&told, "never_seen").unwrap()["names"].as_array().map(Vec::len),
        Some(CLIENTS - 1 + site.files())
    );
    assert_eq!(finding(&told, "shared_subject").unwrap()["names"].as_array().map(Vec::len), Some(CLIENTS + 1));
    let (out, _, _) = output(&mut command(&site, &["doctor"]));
    assert!(out.lines().any(|line| line.ends_with(&format!(" and {} more", CLIENTS + 1 - 20))), "{out}");
}
