//! Signing keys in a PKCS#11 token (SoftHSM2): found, signed with, rotated; and what happens when module, token, key or PIN are not as they were.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use certbind_proto::jwk::JwkSet;
use certbind_proto::jws::{Algorithm, Algorithms, Parsed, SigningKey};
use hyper::{StatusCode, Version};
use serde_json::Value;
use tempfile::TempDir;

use super::client::{Answer, Connection, billing};
use super::rig::{PKI, Process, Site, certbind, output, within};
use crate::support::BUSY;

const PIN: &str = "hush-1234";
const JWKS: &str = "/.well-known/jwks.json";

/// A token of its own, in a folder of its own.
struct Hsm {
    dir: TempDir,
}

impl Hsm {
    fn new() -> Self {
        let hsm = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(hsm.path("tokens")).unwrap();
        let conf = format!("directories.tokendir = {}\nlog.level = ERROR\n", hsm.path("tokens").display());
        fs::write(hsm.path("softhsm2.conf"), conf).unwrap();
        hsm.pin(PIN);
        hsm.util(&["--init-token", "--free", "--label", "certbind", "--pin", PIN, "--so-pin", "so-pin-1234"]);
        hsm
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the file that the configuration names for the PIN.
    fn pin(&self, pin: &str) {
        fs::write(self.path("pin"), format!("{pin}\n")).unwrap();
        fs::set_permissions(self.path("pin"), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn util(&self, arguments: &[&str]) {
        let mut util = Command::new("softhsm2-util");
        let (out, err, status) = output(util.args(arguments).env("SOFTHSM2_CONF", self.path("softhsm2.conf")));
        assert!(status.success(), "softhsm2-util (package softhsm2) {arguments:?}: {out}{err}");
    }

    /// What an operator does: a key under the one label, with an id.
    fn import(&self, id: &str, algorithm: Algorithm) {
        let key = SigningKey::generate(algorithm).unwrap();
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            STANDARD.encode(key.to_pkcs8_der().as_slice())
        );
        fs::write(self.path("key.pem"), pem).unwrap();
        let file = self.path("key.pem");
        self.util(&[
            "--import",
            file.to_str().unwrap(),
            "--token",
            "certbind",
            "--label",
            "signing",
            "--id",
            id,
            "--pin",
            PIN,
        ]);
    }

    /// Takes the token out, or puts it back.
    fn rename_tokens(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    /// The keys of one label, by this library.
    fn source(&self, library: &Path, object: &str) -> String {
        let (library, pin) = (library.display(), self.path("pin"));
        format!(
            "keys.source=pkcs11:token=certbind;object={object}?module-path={library}&pin-source=file:{}",
            pin.display()
        )
    }

    fn serve(&self, site: &Site, set: &[&str]) -> Command {
        self.serve_by(&softhsm(), site, set)
    }

    fn serve_by(&self, library: &Path, site: &Site, set: &[&str]) -> Command {
        let mut serve = site.serve();
        serve.env("SOFTHSM2_CONF", self.path("softhsm2.conf")).arg("--set").arg(self.source(library, "signing"));
        for set in set {
            serve.arg("--set").arg(set);
        }
        serve
    }
}

/// Where Debian and others put SoftHSM2.
fn softhsm() -> PathBuf {
    let folders =
        ["/usr/lib/softhsm", "/usr/lib/x86_64-linux-gnu/softhsm", "/usr/lib64/pkcs11", "/usr/local/lib/softhsm"];
    let found = folders.iter().map(|folder| Path::new(folder).join("libsofthsm2.so")).find(|path| path.exists());
    found.expect("libsofthsm2.so (package softhsm2)")
}

async fn connect(server: &Process) -> Connection {
    server.connect(Some(&PKI.billing.identity), Version::HTTP_2).await.unwrap()
}

async fn published(connection: &mut Connection) -> JwkSet {
    let answer = connection.get(JWKS).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
    JwkSet::parse_fetched(answer.text.as_bytes()).unwrap()
}

fn kids(set: &JwkSet) -> BTreeSet<String> {
    set.iter().map(|key| key.kid().unwrap().to_owned()).collect()
}

/// Fails unless the server hands out a token that verifies with the set; says which key signed it.
async fn signed_by(connection: &mut Connection, set: &JwkSet) -> String {
    let answer = connection.token(&billing()).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let token = answer.access_token();
    let token = Parsed::parse(&token).unwrap();
    set.verify(&token, Algorithms::DEFAULT).unwrap();
    token.header.kid.clone().unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_each_kind_in_a_token_sign_and_nothing_private_is_in_the_store() {
    for (algorithm, made) in [
        ("ES256", Algorithm::Es256),
        ("EdDSA", Algorithm::EdDsa),
        ("PS256", Algorithm::Ps256),
        ("RS256", Algorithm::Rs256),
    ] {
        let (hsm, site) = (Hsm::new(), Site::new());
        // A newer key of another kind is none of this algorithm's.
        hsm.import("01", made);
        hsm.import("02", if algorithm == "ES256" { Algorithm::EdDsa } else { Algorithm::Es256 });
        let set = format!("tokens.algorithm={algorithm}");
        let server = Process::ready(hsm.serve(&site, &[&set]));
        let mut connection = connect(&server).await;
        let keys = published(&mut connection).await;
        assert_eq!(keys.iter().map(|key| key.alg()).collect::<Vec<_>>(), [Some(made)]);
        for _ in 0..20 {
            signed_by(&mut connection, &keys).await;
        }
        server.kill();
        let database = rusqlite::Connection::open(site.path("data/certbind.db")).unwrap();
        let (form, secret): (String, String) = database
            .query_row("SELECT form, CAST(secret AS TEXT) FROM signing_keys", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        assert!(form == "pkcs11" && secret.starts_with(r#"{"id":"01","jwk":{"#), "{form} {secret}");

        let server = Process::ready(hsm.serve(&site, &[&set]));
        let mut connection = connect(&server).await;
        assert_eq!(kids(&published(&mut connection).await), kids(&keys), "killed and restarted, it is the same key");
        assert!(!server.stderr_at_end().contains(PIN));
    }
}

#[test]
fn fault_26_a_module_token_key_or_pin_that_is_not_there_refuses_the_start_and_the_pin_is_tried_once() {
    let (hsm, site) = (Hsm::new(), Site::new());
    let refused = |serve: &mut Command, words: &str| {
        let (_, stderr, status) = output(serve);
        assert!(matches!(status.code(), Some(1 | 6)) && stderr.contains(words), "{words}: {stderr}");
        assert!(!stderr.contains(PIN), "{stderr}");
    };
    refused(&mut hsm.serve(&site, &[]), "holds no key with the configured label");
    hsm.import("01", Algorithm::Es256);
    refused(&mut hsm.serve(&site, &["tokens.algorithm=EdDSA"]), "holds no key with the configured label");
    refused(&mut hsm.serve_by(Path::new("/nowhere.so"), &site, &[]), "cannot use the security module /nowhere.so");
    let other = hsm.source(&softhsm(), "signing").replace("token=certbind", "token=other");
    refused(&mut hsm.serve(&site, &[&other]), "the security module has no such token");
    let other = hsm.source(&softhsm(), "others");
    refused(&mut hsm.serve(&site, &[&other]), "holds no key with the configured label");

    let (module, logins) = (shim(&hsm), hsm.path("logins"));
    hsm.pin("wrong-1234");
    refused(hsm.serve_by(&module, &site, &[]).envs(shim_environment(&hsm)), "the token refuses the PIN");
    assert_eq!(fs::read_to_string(logins).unwrap(), "login\n", "a token locks itself after a few wrong ones");

    hsm.pin(PIN);
    drop(Process::ready(hsm.serve(&site, &[])));
    hsm.rename_tokens("tokens", "away");
    fs::create_dir(hsm.path("tokens")).unwrap();
    hsm.util(&["--init-token", "--free", "--label", "certbind", "--pin", PIN, "--so-pin", "so-pin-1234"]);
    refused(&mut hsm.serve(&site, &[]), "no private key with the id 01");
    hsm.import("01", Algorithm::Es256);
    refused(&mut hsm.serve(&site, &[]), "does not hold: it is another key than the one that is published");
}

/// A module that can be made to hang, and that counts logins.
fn shim(hsm: &Hsm) -> PathBuf {
    let (source, library) = (concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/process/module.c"), hsm.path("module.so"));
    let mut cc = Command::new("cc");
    let (_, err, status) = output(cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl"));
    assert!(status.success(), "{err}");
    library
}

fn shim_environment(hsm: &Hsm) -> [(&'static str, PathBuf); 3] {
    [("MODULE", softhsm()), ("LOGINS", hsm.path("logins")), ("HANG", hsm.path("hang"))]
}

async fn refused_for_now(connection: &mut Connection) -> Answer {
    let start = Instant::now();
    let answer = connection.token(&billing()).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(2 + BUSY), "{:?}", start.elapsed());
    assert_eq!((answer.status, answer.error().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable"));
    assert!(answer.headers.contains_key("retry-after") && !answer.text.contains("access_token"));
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_4_a_module_that_hangs_holds_nobody_up_for_longer_than_two_seconds() {
    let (hsm, site) = (Hsm::new(), Site::new());
    hsm.import("01", Algorithm::Es256);
    let mut serve = hsm.serve_by(&shim(&hsm), &site, &[]);
    let server = Process::ready({
        serve.envs(shim_environment(&hsm));
        serve
    });
    let mut connection = connect(&server).await;
    let keys = published(&mut connection).await;
    signed_by(&mut connection, &keys).await;

    fs::write(hsm.path("hang"), "").unwrap();
    let answer = refused_for_now(&mut connection).await;
    assert_eq!(site.event(answer.request_id()).await["reason"], "signer_unavailable");
    // More than there are threads and places in the queue: each is answered in time.
    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let connection = connect(&server).await;
        for _ in 0..50 {
            let mut another = connection.another();
            crowd.spawn(async move { refused_for_now(&mut another).await.status });
        }
    }
    assert_eq!(crowd.join_all().await.len(), 400);
    server.wait_ready(StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!(kids(&published(&mut connection).await), kids(&keys), "P3: the keys are published all the same");

    fs::remove_file(hsm.path("hang")).unwrap();
    let start = Instant::now();
    server.wait_ready(StatusCode::OK).await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    server.assert_healthy().await;
    let logins = fs::read_to_string(hsm.path("logins")).unwrap().lines().count();
    // Each of the four sessions may be opened anew after the call that hung; five hundred requests would be five hundred.
    assert!(logins <= 16, "{logins} logins: sessions are kept");
    assert!(server.terminate().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_taken_out_and_put_back_is_found_again_without_a_restart() {
    let (hsm, site) = (Hsm::new(), Site::new());
    hsm.import("01", Algorithm::Es256);
    let server = Process::ready(hsm.serve(&site, &[]));
    let mut connection = connect(&server).await;
    let keys = published(&mut connection).await;
    let kid = signed_by(&mut connection, &keys).await;
    hsm.rename_tokens("tokens", "away");
    within(async {
        while connection.token(&billing()).await.unwrap().status == StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let answer = refused_for_now(&mut connection).await;
    assert_eq!(site.event(answer.request_id()).await["reason"], "signer_unavailable");
    server.wait_ready(StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!(kids(&published(&mut connection).await), kids(&keys));
    hsm.rename_tokens("away", "tokens");
    server.wait_ready(StatusCode::OK).await;
    assert_eq!(signed_by(&mut connection, &keys).await, kid);
    server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_key_of_a_token_is_the_one_with_the_next_larger_id() {
    const HASTY: [&str; 4] =
        ["keys.rotate_every=4s", "keys.publish_before=2s", "tokens.lifetime=10s", "assertions.clock_skew=1s"];
    let (hsm, site) = (Hsm::new(), Site::new());
    hsm.import("07", Algorithm::Es256);
    hsm.import("03", Algorithm::Es256);
    let server = Process::ready(hsm.serve(&site, &HASTY));
    let mut connection = connect(&server).await;
    let first = published(&mut connection).await;
    let old = signed_by(&mut connection, &first).await;
    assert_eq!(first.len(), 1, "the newest one, and no older one ever");
    within(async {
        while !server.stderr().contains("holds no key with the configured label") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(signed_by(&mut connection, &first).await, old, "with nothing newer it goes on");
    drop(server);

    hsm.import("0102", Algorithm::Es256);
    hsm.import("08", Algorithm::Es256);
    let server = Process::ready(hsm.serve(&site, &HASTY));
    let mut connection = connect(&server).await;
    let both = within(async {
        loop {
            let set = published(&mut connection).await;
            if set.len() == 2 {
                return set;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let used = within(async {
        loop {
            let kid = signed_by(&mut connection, &both).await;
            if kid != old {
                return kid;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let database = rusqlite::Connection::open(site.path("data/certbind.db")).unwrap();
    let query = "SELECT CAST(secret AS TEXT) FROM signing_keys WHERE kid = ?1";
    let secret: String = database.query_row(query, [&used], |row| row.get(0)).unwrap();
    assert!(secret.starts_with(r#"{"id":"08""#), "{secret}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_move_into_a_token_by_an_ordinary_rotation_and_out_of_it_at_once() {
    const HASTY: [&str; 2] = ["keys.rotate_every=off", "keys.publish_before=2s"];
    let (hsm, site) = (Hsm::new(), Site::new());
    hsm.import("01", Algorithm::Es256);
    let server = site.start();
    let mut connection = connect(&server).await;
    let before = published(&mut connection).await;
    let of_store = signed_by(&mut connection, &before).await;
    drop(server);

    let server = Process::ready(hsm.serve(&site, &HASTY));
    let mut connection = connect(&server).await;
    let both = published(&mut connection).await;
    assert!(both.len() == 2 && kids(&both).contains(&of_store));
    assert_eq!(signed_by(&mut connection, &before).await, of_store, "the old one signs until caches know the new one");
    within(async {
        while signed_by(&mut connection, &both).await == of_store {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let of_module = signed_by(&mut connection, &both).await;
    drop(server);

    let server = site.start();
    let mut connection = connect(&server).await;
    let after = published(&mut connection).await;
    let last = signed_by(&mut connection, &after).await;
    assert!(last != of_module && last != of_store, "this server cannot sign with either");
    assert!(kids(&after).contains(&of_module), "its tokens are verified to their end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_rotates_to_the_next_key_of_the_token_and_takes_one_back_only_when_another_can_sign() {
    let (hsm, site) = (Hsm::new(), Site::new());
    hsm.import("01", Algorithm::Es256);
    let server = Process::ready(hsm.serve(&site, &["keys.rotate_every=off", "listen.admin.address=unix:admin.sock"]));
    let key = |arguments: &[&str]| {
        let mut command = certbind();
        command.arg("key").args(arguments).args(["-o", "json"]).current_dir(site.dir());
        let (out, said, status) = output(command.env("CERTBIND_ADMIN", "unix:admin.sock"));
        match status.code() {
            Some(0) => Ok(serde_json::from_str::<Value>(&out).unwrap()),
            code => Err((code, said.lines().next().unwrap_or_default().to_owned())),
        }
    };
    let none = Err((Some(3), "certbind: The security module holds no key that could be the next one.".to_owned()));
    let mut connection = connect(&server).await;
    let old = kids(&published(&mut connection).await).into_iter().next().unwrap();
    assert_eq!(key(&["rotate"]), none);
    assert_eq!(key(&["retire", &old]), none, "nothing would be left to sign with");
    let set = published(&mut connection).await;
    assert_eq!(signed_by(&mut connection, &set).await, old);

    hsm.import("02", Algorithm::Es256);
    let plan = key(&["rotate", "--dry-run"]).unwrap();
    let done = key(&["rotate"]).unwrap();
    assert_eq!(plan["incoming"], done["incoming"], "which key it is is known beforehand");
    let plan = key(&["retire", &old, "--dry-run"]).unwrap();
    assert_eq!(plan["signer"], done["incoming"]);
    assert_eq!(key(&["retire", &old]).unwrap()["signer"], done["incoming"]);
    let set = published(&mut connection).await;
    assert_eq!(signed_by(&mut connection, &set).await, done["incoming"]);
    assert!(!kids(&set).contains(&old));

    hsm.rename_tokens("tokens", "away");
    // Whether the module says that the token is gone or that it is empty is its own business.
    let refused = key(&["rotate"]).unwrap_err();
    assert!(refused.0 == Some(3) && refused.1.starts_with("certbind: The security module "), "{refused:?}");
}
