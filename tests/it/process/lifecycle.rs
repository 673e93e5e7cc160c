//! Start, stop, start again: what refuses to start and says why, what goes on, and what ends the process.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use hyper::{StatusCode, Version};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::client::{Asserter, Connection, billing, by_assertion, tls, tls_under};
use super::rig::{PKI, Process, Site, certbind, output, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p6_sigterm_lets_requests_in_flight_finish_and_ends_with_0() {
    let site = Site::new();
    let mut server = site.start();
    let mut slow = tls(server.address, Some(&PKI.billing.identity), &["http/1.1"]).await.unwrap();
    let body = billing().encode();
    let head = format!(
        "POST /oauth2/token HTTP/1.1\r\nHost: localhost:8443\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    slow.write_all(&body.as_bytes()[..5]).await.unwrap();
    slow.flush().await.unwrap();
    // The head must have been read before the signal comes.
    tokio::time::sleep(Duration::from_millis(200)).await;

    server.signal("TERM");
    within(async {
        while TcpStream::connect(server.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(server.is_alive(), "it did not wait for the request");
    slow.write_all(&body.as_bytes()[5..]).await.unwrap();
    let mut answer = Vec::new();
    match within(slow.read_to_end(&mut answer)).await {
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => panic!("{error}"),
        _ => {}
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("access_token"), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
    assert_eq!(server.ended().code(), Some(0));
    assert_eq!(site.audit().len(), 1, "the last line was written");
}

/// A reader of the log that has stopped must not keep a client in force that is disabled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_a_log_that_nobody_reads_holds_up_no_change() {
    let site = Site::new();
    site.configure("[log]\nlevel = \"info\"\naudit = \"log\"\n", "");
    let server = site.start();
    let mut connection = server.connect(Some(&PKI.billing.identity), Version::HTTP_11).await.unwrap();
    let unread = server.hold_stderr();
    for _ in 0..400 {
        assert_eq!(connection.token(&billing()).await.unwrap().status, StatusCode::OK);
    }
    let text = fs::read_to_string(site.path("clients.d/billing.toml")).unwrap();
    site.write("clients.d/billing.toml", &text.replace("[certbind]", "[certbind]\nowner = \"somebody\""));
    tokio::time::sleep(Duration::from_secs(1)).await;
    site.write("clients.d/billing.toml", &text.replace("[certbind]", "[certbind]\nstate = \"disabled\""));
    within(async {
        while connection.token(&billing()).await.unwrap().status == StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    drop(unread);
    assert!(server.terminate().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p6_an_idle_connection_does_not_hold_up_the_end() {
    let site = Site::new();
    let server = site.start();
    let mut idle = Vec::new();
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let mut connection = server.connect(Some(&PKI.billing.identity), version).await.unwrap();
        assert_eq!(connection.token(&billing()).await.unwrap().status, StatusCode::OK);
        idle.push(connection);
    }
    let start = Instant::now();
    assert_eq!(server.terminate().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    for mut connection in idle {
        assert!(connection.token(&billing()).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigint_ends_it_as_well_and_sighup_does_not() {
    let site = Site::new();
    let mut server = site.start();
    for _ in 0..3 {
        server.signal("HUP");
        server.assert_healthy().await;
    }
    server.signal("INT");
    assert_eq!(server.ended().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_dev_in_the_same_folder_goes_on_with_keys_clients_and_store() {
    let dir = tempfile::tempdir().unwrap();
    let (first, dev) = Process::dev(dir.path(), "127.0.0.1:0".parse().unwrap());
    let client = Batch::of(&dev);
    let (address, assertion) = (first.address, client.asserter.fresh());
    let keys = client.keys(&first).await;
    assert_eq!(client.token(&first, &assertion).await, StatusCode::OK);
    let files = kept(dir.path());
    assert_eq!(first.terminate().code(), Some(0));

    let (second, _) = Process::dev(dir.path(), address);
    assert_eq!(kept(dir.path()), files);
    assert_eq!(client.keys(&second).await, keys);
    assert_eq!(client.token(&second, &assertion).await, StatusCode::BAD_REQUEST, "the replay is still known");
    assert_eq!(client.token(&second, &client.asserter.fresh()).await, StatusCode::OK);
}

/// The client `batch` of `dev.json`, which does not know the tests' PKI.
struct Batch {
    root: CertificateDer<'static>,
    identity: certbind_https::Identity,
    asserter: Asserter,
}

impl Batch {
    fn of(dev: &Value) -> Self {
        let file = |value: &Value| PathBuf::from(value.as_str().unwrap());
        let client = &dev["clients"][2];
        let chain = CertificateDer::pem_file_iter(file(&client["cert"])).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(file(&client["key"])).unwrap();
        let assertion_key = PrivateKeyDer::from_pem_file(file(&client["assertion_key"])).unwrap();
        Self {
            root: CertificateDer::from_pem_file(file(&dev["ca"])).unwrap(),
            identity: certbind_https::Identity { chain, key },
            asserter: Asserter::for_issuer(dev["issuer"].as_str().unwrap(), assertion_key.secret_der()),
        }
    }

    async fn connect(&self, server: &Process) -> Connection {
        let stream = tls_under(&self.root, server.address, Some(self.identity.clone()), &["h2"]).await.unwrap();
        Connection::over(stream).await.unwrap()
    }

    async fn token(&self, server: &Process, assertion: &str) -> StatusCode {
        self.connect(server).await.token(&by_assertion(assertion)).await.unwrap().status
    }

    async fn keys(&self, server: &Process) -> Value {
        self.connect(server).await.get("/.well-known/jwks.json").await.unwrap().json()
    }
}

/// What a second start must not touch.
fn kept(dir: &Path) -> Vec<Vec<u8>> {
    let files = ["ca.pem", "server.key", "crl.pem", "clients/billing.pem", "clients/batch.assertion.key"];
    files.map(|name| fs::read(dir.join(name)).unwrap()).into()
}

#[test]
fn fault_26_a_wrong_configuration_does_not_start_and_check_says_the_same() {
    let wrong: [(&str, Spoil, &[&str]); 9] = [
        ("a typing error", |site| add(site, "datadir = \"x\"\n"), &["certbind.toml:1:1", "datadir", "data_dir"]),
        ("a wrong value", |site| add(site, "profile = \"fapi3\"\n"), &["certbind.toml:1:", "profile", "fapi2"]),
        ("no TOML", |site| add(site, "issuer = \n"), &["certbind.toml:1:"]),
        ("a world-readable key", |site| mode(site, "server.key", 0o644), &["listen.mtls.key", "server.key"]),
        ("another certificate's key", |site| copy(site, "clients/billing.key", "server.key"), &["listen.mtls.key"]),
        ("no CA file", |site| fs::remove_file(site.path("ca.pem")).unwrap(), &["trust.0.ca", "ca.pem"]),
        ("an empty CA file", |site| site.write("ca.pem", ""), &["trust.0.ca", "ca.pem"]),
        ("a garbage CRL", |site| site.write("crl.pem", "garbage"), &["trust.0.crl", "revocation list"]),
        ("a folder for a CRL", |site| folder(site, "crl.pem"), &["trust.0.crl", "crl.pem"]),
    ];
    for (name, spoil, words) in wrong {
        let site = Site::new();
        spoil(&site);
        let (_, refused, status) = output(&mut site.serve());
        assert_eq!(status.code(), Some(6), "{name}: {refused}");
        for word in words {
            assert!(refused.contains(word), "{name}: {word} is not in: {refused}");
        }
        let mut check = certbind();
        let (checked, _, status) = output(check.args(["config", "check", "--config"]).arg(site.path("certbind.toml")));
        assert_eq!(status.code(), Some(6), "{name}: {checked}");
        assert!(checked.starts_with(&refused), "{name}: {checked} is not {refused}");
        assert!(!site.path("data").exists(), "{name}: it began to start");
    }
}

/// Breaks one thing of a good site.
type Spoil = fn(&Site);

fn add(site: &Site, line: &str) {
    let text = fs::read_to_string(site.path("certbind.toml")).unwrap();
    site.write("certbind.toml", &(line.to_owned() + &text));
}

fn mode(site: &Site, name: &str, mode: u32) {
    fs::set_permissions(site.path(name), fs::Permissions::from_mode(mode)).unwrap();
}

fn copy(site: &Site, from: &str, to: &str) {
    fs::copy(site.path(from), site.path(to)).unwrap();
}

fn folder(site: &Site, name: &str) {
    fs::remove_file(site.path(name)).unwrap();
    fs::create_dir(site.path(name)).unwrap();
}

#[test]
fn fault_26_a_clients_file_that_is_wrong_refuses_the_start_by_name() {
    let wrong: [(&str, &str, &str); 3] = [
        ("scope = ", "scoep = ", "scoep"),
        ("private_key_jwt", "client_secret_basic", "token_endpoint_auth_method"),
        ("client_id = \"batch\"", "client_id = \"billing\"", "billing"),
    ];
    for (from, to, word) in wrong {
        let site = Site::new();
        let text = fs::read_to_string(site.path("clients.d/batch.toml")).unwrap();
        site.write("clients.d/batch.toml", &text.replace(from, to));
        let (_, stderr, status) = output(&mut site.serve());
        assert_eq!(status.code(), Some(6), "{to}");
        assert!(stderr.contains("batch.toml") && stderr.contains(word), "{to}: {stderr}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_9_without_file_descriptors_it_sheds_and_recovers() {
    const DESCRIPTORS: usize = 64;
    let site = Site::new();
    let mut limited = Command::new("prlimit");
    let serve = site.serve();
    limited.arg(format!("--nofile={DESCRIPTORS}:{DESCRIPTORS}")).arg(serve.get_program()).args(serve.get_args());
    let mut server = Process::ready(limited);

    let mut crowd = Vec::new();
    for _ in 0..200 {
        crowd.push(TcpStream::connect(server.address).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = server.cpu();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let spent = server.cpu() - before;
    assert!(spent < Duration::from_millis(200), "the accept loop spins: {spent:?} of a second");
    assert!(server.is_alive());

    drop(crowd);
    let start = Instant::now();
    server.assert_healthy().await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let (_, metrics) = server.operations("/metrics").await;
    assert!(metrics.contains(r#"reason="accept_failed""#), "{metrics}");
    let stderr = server.stderr();
    assert!(stderr.contains("the system gives no connection") && stderr.contains("accepted again"), "{stderr}");
    assert!(server.descriptors() < DESCRIPTORS / 2, "{} are still open", server.descriptors());
}
