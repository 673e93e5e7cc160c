//! Signing keys that change under traffic: no token is refused for its key, at any moment, by anybody who keeps to the cache's rules.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use certbind_proto::jwk::JwkSet;
use certbind_proto::jws::{Algorithms, Parsed};
use certbind_proto::time::{Clock as _, SystemClock};
use hyper::{StatusCode, Version};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::client::{Connection, billing};
use super::rig::{PKI, Process, Site, output, within};

const JWKS: &str = "/.well-known/jwks.json";

/// How long the key set may be kept when keys are published for three seconds before they sign.
const MAX_AGE: Duration = Duration::from_secs(1);

/// The shortest life of a token that there is.
const LIFETIME: Duration = Duration::from_secs(10);

/// A server whose keys change nearly as often as a configuration may say. A busy disk delays publication by a moment.
fn hasty(site: &Site) -> Command {
    let mut serve = site.serve();
    for set in ["keys.rotate_every=3s", "keys.publish_before=3s", "tokens.lifetime=10s", "assertions.clock_skew=1s"] {
        serve.args(["--set", set]);
    }
    serve
}

/// A set of keys, and when its fetch was over.
struct Fetched {
    when: Instant,
    set: JwkSet,
}

impl Fetched {
    async fn over(connection: &mut Connection) -> Self {
        let answer = connection.get(JWKS).await.unwrap();
        assert_eq!(answer.headers["cache-control"], "public, max-age=1");
        Self { when: Instant::now(), set: JwkSet::parse_fetched(answer.text.as_bytes()).unwrap() }
    }

    fn verifies(&self, token: &Token) -> bool {
        self.set.verify(&Parsed::parse(&token.text).unwrap(), Algorithms::DEFAULT).is_ok()
    }
}

/// A token, and when it arrived.
struct Token {
    when: Instant,
    text: String,
}

impl Token {
    fn kid(&self) -> String {
        Parsed::parse(&self.text).unwrap().header.kid.unwrap().to_string()
    }
}

/// Clients that ask some five hundred times a second in all, and are always answered with a token.
async fn traffic(server: &Process) -> (JoinSet<()>, mpsc::UnboundedReceiver<Token>) {
    let (sender, tokens) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    for _ in 0..25 {
        let mut connection = server.connect(Some(&PKI.billing.identity), Version::HTTP_2).await.unwrap();
        let sender = sender.clone();
        tasks.spawn(async move {
            loop {
                let answer = connection.token(&billing()).await.unwrap();
                assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
                if sender.send(Token { when: Instant::now(), text: answer.access_token() }).is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(45)).await;
            }
        });
    }
    (tasks, tokens)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_14_twenty_new_keys_under_traffic_and_every_token_verifies_at_every_moment() {
    const ROTATIONS: usize = 20;
    let site = Site::new();
    let server = Process::ready(hasty(&site));
    let mut reader = server.connect(None, Version::HTTP_2).await.unwrap();
    // What resource servers may have in their caches: every set of the last second, and the newest.
    let mut cached = VecDeque::from([Fetched::over(&mut reader).await]);
    let mut not_published_at: BTreeMap<String, Instant> = BTreeMap::new();
    let mut signed: BTreeSet<String> = BTreeSet::new();
    let mut living: VecDeque<Token> = VecDeque::new();
    let mut checked = 0;
    let (tasks, mut tokens) = traffic(&server).await;
    while signed.len() <= ROTATIONS {
        let without_it = cached.back().unwrap().when;
        cached.push_back(Fetched::over(&mut reader).await);
        let newest = cached.back().unwrap();
        for kid in newest.set.iter().filter_map(|key| key.kid()) {
            not_published_at.entry(kid.to_owned()).or_insert(without_it);
        }
        while let Ok(token) = tokens.try_recv() {
            let fresh = |set: &&Fetched| token.when.saturating_duration_since(set.when) < MAX_AGE;
            // None is fresh when this test itself was held up.
            if let Some(oldest) = cached.iter().find(fresh) {
                assert!(oldest.verifies(&token), "a new token is refused: {}", token.kid());
                checked += 1;
            }
            if signed.insert(token.kid()) && signed.len() > 1 {
                let before = token.when - not_published_at[&token.kid()];
                assert!(before > MAX_AGE, "{} was published {before:?} before its first use", token.kid());
            }
            living.push_back(token);
        }
        // In the last second of its life, a token meets the newest set.
        while living.front().is_some_and(|token| token.when.elapsed() > LIFETIME - Duration::from_secs(1)) {
            let token = living.pop_front().unwrap();
            if token.when.elapsed() < LIFETIME {
                assert!(newest.verifies(&token), "an old token is refused: {}", token.kid());
            }
        }
        assert!(newest.set.len() <= 10, "{} keys are published", newest.set.len());
        while cached.len() > 1 && cached[1].when.elapsed() > MAX_AGE + Duration::from_secs(1) {
            cached.pop_front();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(tokens);
    tasks.join_all().await;
    println!("{checked} tokens of {} keys", signed.len());
    assert!(checked > 2000, "{checked}");
    server.assert_healthy().await;
}

/// `/metrics` says until when each key is good.
async fn expiries(server: &Process) -> BTreeMap<String, f64> {
    let (_, metrics) = server.operations("/metrics").await;
    let lines = metrics.lines().filter_map(|line| {
        let (kid, unix) =
            line.strip_prefix("certbind_signing_key_expiry_timestamp_seconds{kid=\"")?.split_once("\"} ")?;
        Some((kid.to_owned(), unix.parse().unwrap()))
    });
    lines.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metrics_say_until_when_each_published_key_is_good() {
    let site = Site::new();
    let server = site.start();
    let mut reader = server.connect(None, Version::HTTP_11).await.unwrap();
    let set: Value = reader.get(JWKS).await.unwrap().json();
    let kid = set["keys"][0]["kid"].as_str().unwrap();
    let [(only, until)] = &expiries(&server).await.into_iter().collect::<Vec<_>>()[..] else { panic!("one key") };
    let left = until - SystemClock.now().unix() as f64;
    let ninety_days = 90.0 * 86_400.0;
    assert!(only == kid && (ninety_days - 60.0..=ninety_days).contains(&left), "{only} until {until}");

    drop(server);
    let server = Process::ready(hasty(&site));
    within(async {
        while expiries(&server).await.len() < 3 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    // Killed in the middle of a change, it goes on with the keys that it published.
    let before: BTreeSet<String> = expiries(&server).await.into_keys().collect();
    server.kill();
    let server = Process::ready(hasty(&site));
    let after: BTreeSet<String> = expiries(&server).await.into_keys().collect();
    assert!(before.intersection(&after).count() >= 2, "{before:?} {after:?}");
    server.assert_healthy().await;
}

/// A server with this encryption key, and maybe the one of before.
fn sealing(site: &Site, key: &str, previous: Option<&str>) -> Command {
    let mut serve = site.serve();
    serve.arg("--set").arg(format!("keys.encryption_key=file:{key}"));
    if let Some(previous) = previous {
        serve.arg("--set").arg(format!("keys.previous_encryption_key=file:{previous}"));
    }
    serve
}

fn encryption_key(site: &Site, name: &str, byte: u8) {
    site.write(name, &format!("{byte:02x}").repeat(32));
    fs::set_permissions(site.path(name), fs::Permissions::from_mode(0o600)).unwrap();
}

/// The column `secret` of the one signing key, and the form that it has.
fn secret_on_disk(site: &Site) -> (String, Vec<u8>) {
    let database = rusqlite::Connection::open(site.path("data/certbind.db")).unwrap();
    database.query_row("SELECT form, secret FROM signing_keys", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
}

/// Whether any part of this secret stands anywhere in the files of the store.
fn is_on_disk(site: &Site, secret: &[u8]) -> bool {
    let files = fs::read_dir(site.path("data")).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap());
    let parts: Vec<_> = secret.windows(16).collect();
    files.into_iter().any(|bytes| bytes.windows(16).any(|found| parts.contains(&found)))
}

async fn kids(server: &Process) -> Value {
    let mut reader = server.connect(None, Version::HTTP_11).await.unwrap();
    reader.get(JWKS).await.unwrap().json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn private_keys_at_rest_are_sealed_from_the_first_start_with_an_encryption_key_on() {
    let site = Site::new();
    let server = site.start();
    let keys = kids(&server).await;
    server.kill();
    let (form, pkcs8) = secret_on_disk(&site);
    assert!(form == "pkcs8" && is_on_disk(&site, &pkcs8), "without the setting it lies there as it is");

    encryption_key(&site, "one.key", 1);
    let server = Process::ready(sealing(&site, "one.key", None));
    assert_eq!(kids(&server).await, keys, "it signs with the same key");
    assert!(!is_on_disk(&site, &pkcs8), "not even in the log, while the server runs");
    server.assert_healthy().await;
    assert!(server.terminate().success());
    assert!(secret_on_disk(&site).0 == "sealed" && !is_on_disk(&site, &pkcs8));

    encryption_key(&site, "two.key", 2);
    let server = Process::ready(sealing(&site, "two.key", Some("one.key")));
    assert_eq!(kids(&server).await, keys);
    server.kill();
    let server = Process::ready(sealing(&site, "two.key", None));
    assert_eq!(kids(&server).await, keys, "the key of before is needed no longer");
    server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_26_a_server_that_cannot_open_its_signing_keys_does_not_start_and_says_why() {
    let site = Site::new();
    encryption_key(&site, "one.key", 1);
    encryption_key(&site, "two.key", 2);
    assert!(Process::ready(sealing(&site, "one.key", None)).terminate().success());
    let (_, sealed) = secret_on_disk(&site);
    let refused = |serve: &mut Command, words: [&str; 2]| {
        let (_, stderr, status) = output(serve);
        assert_eq!(status.code(), Some(1), "{stderr}");
        assert!(words.iter().all(|word| stderr.contains(word)), "{words:?}: {stderr}");
    };
    refused(&mut site.serve(), ["it is sealed under the key ", "keys.encryption_key is not set"]);
    refused(&mut sealing(&site, "two.key", None), ["it is sealed under the key ", "keys.encryption_key is "]);
    assert_eq!(secret_on_disk(&site).1, sealed, "nothing was changed, and no other key made");

    // Whoever can write to the file can mend the checksum as well, but not the seal.
    let database = rusqlite::Connection::open(site.path("data/certbind.db")).unwrap();
    let mut spoilt = sealed.clone();
    *spoilt.last_mut().unwrap() ^= 1;
    database.execute("UPDATE signing_keys SET secret = ?1", [&spoilt]).unwrap();
    refused(&mut sealing(&site, "one.key", None), ["cannot open the store", "damaged"]);
    database.execute("UPDATE signing_keys SET checksum = ?1", [checksum(&database)]).unwrap();
    refused(&mut sealing(&site, "one.key", None), ["cannot be opened", "it was changed since it was sealed"]);

    database.execute("UPDATE signing_keys SET secret = ?1", [&sealed]).unwrap();
    database.execute("UPDATE signing_keys SET checksum = ?1", [checksum(&database)]).unwrap();
    drop(database);
    Process::ready(sealing(&site, "one.key", None)).assert_healthy().await;
}

/// The checksum that the one row of signing keys should have (FNV-1a).
fn checksum(database: &rusqlite::Connection) -> i64 {
    let query = "SELECT kid, algorithm, form, secret, created, activates, token_lifetime FROM signing_keys";
    let bytes: Vec<u8> = database
        .query_row(query, [], |row| {
            let text = |at| Ok::<_, rusqlite::Error>([row.get::<_, String>(at)?.as_bytes(), b"\0"].concat());
            let number = |at| Ok::<_, rusqlite::Error>(row.get::<_, i64>(at)?.to_le_bytes().to_vec());
            Ok([text(0)?, text(1)?, text(2)?, row.get(3)?, number(4)?, number(5)?, number(6)?].concat())
        })
        .unwrap();
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step).cast_signed()
}
