//! `certbind backup`: a copy under traffic, and what a server does that starts on it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use aws_lc_rs::digest;
use hyper::{StatusCode, Version};
use rusqlite::Connection as Database;
use serde_json::Value;

use super::client::{Answer, Asserter, billing, by_assertion};
use super::fleet;
use super::rig::{PKI, Process, Site, certbind, output};
use crate::admin::rig::{AdminSite, Api, Ask, CLIENTS, registration};
use crate::postgres::cluster;

fn backup(site: &Site, arguments: &[&str]) -> Command {
    let mut command = certbind();
    command.arg("backup").args(arguments).arg("--config").arg(site.path("certbind.toml")).current_dir(site.dir());
    command
}

async fn send(server: &Process, assertion: &str) -> Answer {
    let mut connection = server.connect(Some(&PKI.batch.identity), Version::HTTP_11).await.unwrap();
    connection.token(&by_assertion(assertion)).await.unwrap()
}

async fn jwks(server: &Process) -> Value {
    server.connect(None, Version::HTTP_11).await.unwrap().get("/.well-known/jwks.json").await.unwrap().json()
}

/// A server on this folder, with its admin API.
async fn start(site: &Site, data_dir: &str) -> (Process, Api) {
    let mut command = site.serve();
    command.args(["--set", &format!("data_dir={data_dir}"), "--set", "listen.admin.address=unix:admin.sock"]);
    let server = Process::ready(command);
    (server, Api::connect(&site.path("admin.sock")).await)
}

/// Puts a copy where no database is.
fn restore(site: &Site, copy: &str, data_dir: &str) {
    fs::create_dir(site.path(data_dir)).unwrap();
    fs::set_permissions(site.path(data_dir), fs::Permissions::from_mode(0o700)).unwrap();
    fs::copy(site.path(copy), site.path(data_dir).join("certbind.db")).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_3_a_copy_made_under_traffic_has_everything_and_makes_no_used_assertion_good_again() {
    let admin = AdminSite::new();
    let site = &admin.site;
    let (server, mut api) = start(site, "data").await;
    api.gets(201, Ask::create(&registration("stored", "payments:read"))).await;
    let asserter = Asserter::batch();
    let before = asserter.fresh();
    assert_eq!(send(&server, &before).await.status, StatusCode::OK);

    let mut command = backup(site, &["copy.db"]);
    let copying = tokio::task::spawn_blocking(move || output(&mut command));
    let mut used = Vec::new();
    while !copying.is_finished() || used.len() < 20 {
        let assertion = asserter.fresh();
        assert_eq!(send(&server, &assertion).await.status, StatusCode::OK, "nobody waits for the copy");
        used.push(assertion);
    }
    let (stdout, stderr, status) = copying.await.unwrap();
    assert!(status.success(), "{stderr}");
    let sum = digest::digest(&digest::SHA256, &fs::read(site.path("copy.db")).unwrap());
    let sum: String = sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(stdout, format!("{sum}  copy.db\n"));
    assert!(stderr.contains("private signing keys in the clear"), "{stderr}");
    assert_eq!(fs::metadata(site.path("copy.db")).unwrap().permissions().mode() & 0o777, 0o600);

    let after = asserter.fresh();
    assert_eq!(send(&server, &after).await.status, StatusCode::OK);
    let keys = jwks(&server).await;
    assert!(server.terminate().success());

    restore(site, "copy.db", "restored");
    let (server, mut api) = start(site, "restored").await;
    assert_eq!(jwks(&server).await, keys);
    api.gets(200, Ask::get(&format!("{CLIENTS}/stored"))).await;
    let mut by_certificate = server.connect(Some(&PKI.billing.identity), Version::HTTP_11).await.unwrap();
    assert_eq!(by_certificate.token(&billing()).await.unwrap().status, StatusCode::OK);
    assert_eq!(send(&server, &before).await.error(), "invalid_client");
    let refused = send(&server, &after).await;
    assert_eq!((refused.status, refused.error()), (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable".into()));
    assert_eq!(site.event(refused.request_id()).await["reason"], "store_unavailable");
    for assertion in &used {
        assert_ne!(send(&server, assertion).await.status, StatusCode::OK, "in the copy or not, it was used");
    }
    assert!(server.stderr_at_end().contains("assertions from before now are refused"));

    // A minute goes by.
    let database = Database::open(site.path("restored/certbind.db")).unwrap();
    assert_eq!(database.execute("UPDATE origin SET fence = fence - 120000", []).unwrap(), 1);
    drop(database);
    let (server, _api) = start(site, "restored").await;
    let fresh = asserter.fresh();
    assert_eq!(send(&server, &fresh).await.status, StatusCode::OK);
    assert_eq!(send(&server, &fresh).await.error(), "invalid_client");
    assert!(!server.stderr_at_end().contains("assertions from before now are refused"), "it is the original now");
}

#[test]
fn a_copy_overwrites_nothing_and_says_what_it_is() {
    let site = Site::new();
    let (_, stderr, status) = output(&mut backup(&site, &["copy.db"]));
    assert_eq!(status.code(), Some(1), "there is no database: {stderr}");
    assert!(!site.path("copy.db").exists());
    site.write_private("keys.key", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n");
    site.configure("[log]\naudit = \"log\"\n[keys]\nencryption_key = \"file:keys.key\"\n", "");
    assert!(site.start().terminate().success());
    let (stdout, stderr, status) = output(&mut backup(&site, &["copy.db", "-o", "json"]));
    assert!(status.success() && stderr.is_empty(), "sealed keys are no matter: {stderr}");
    let told: Value = serde_json::from_str(&stdout).unwrap();
    let copy = fs::read(site.path("copy.db")).unwrap();
    assert_eq!((&told["bytes"], &told["unsealed_keys"]), (&copy.len().into(), &0.into()));
    let (_, stderr, status) = output(&mut backup(&site, &["copy.db"]));
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("copy.db"), "{stderr}");
    assert_eq!(fs::read(site.path("copy.db")).unwrap(), copy);
}

#[test]
fn the_copies_of_postgres_are_made_by_postgres() {
    let site = fleet::site(&cluster::database());
    let (_, stderr, status) = output(&mut backup(&site, &["copy.db"]));
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("pg_dump") && !site.path("copy.db").exists(), "{stderr}");
}

/// What each format has that the one before it did not.
const LATER: [&str; 3] = ["DROP TABLE audit", "DROP TABLE usage", "DROP TABLE origin"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_27_a_newer_server_goes_on_with_the_database_of_an_older_one_and_loses_nothing() {
    let admin = AdminSite::new();
    let site = &admin.site;
    let (server, mut api) = start(site, "data").await;
    api.gets(201, Ask::create(&registration("stored", "payments:read"))).await;
    let used = Asserter::batch().fresh();
    assert_eq!(send(&server, &used).await.status, StatusCode::OK);
    let keys = jwks(&server).await;
    assert!(server.terminate().success());
    let database = Database::open(site.path("data/certbind.db")).unwrap();
    database.execute_batch(&LATER.join(";")).unwrap();
    database.pragma_update(None, "user_version", 3).unwrap();
    drop(database);
    for _ in 0..2 {
        let (server, mut api) = start(site, "data").await;
        assert_eq!(jwks(&server).await, keys);
        api.gets(200, Ask::get(&format!("{CLIENTS}/stored"))).await;
        assert_eq!(send(&server, &used).await.error(), "invalid_client");
        assert_eq!(send(&server, &Asserter::batch().fresh()).await.status, StatusCode::OK);
        assert!(server.terminate().success());
    }
}
