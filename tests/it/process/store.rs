//! A disk that takes no more bytes: nothing is issued that would need the store, all else goes on, and nobody has to restart anything.

use std::process::Command;
use std::time::{Duration, Instant};

use hyper::header::RETRY_AFTER;
use hyper::{StatusCode, Version};

use super::client::{Asserter, Connection, billing, by_assertion};
use super::rig::{PKI, Process, Site, json_lines, within};
use crate::support::BUSY;

/// The longest wait for a refusal when the store is down (P3).
const PROMISE: Duration = Duration::from_secs(2 + BUSY);

/// Lets files grow to this size and no further (`RLIMIT_FSIZE`, the soft limit), as `setrlimit` in the process would.
pub(super) fn limit_files(server: &Process, bytes: &str) {
    let limit = format!("--fsize={bytes}:unlimited");
    let status = Command::new("prlimit").arg("--pid").arg(server.pid().to_string()).arg(limit).status().unwrap();
    assert!(status.success());
}

/// The audit log goes to a pipe, which the limit does not touch.
fn site() -> Site {
    let site = Site::new();
    site.configure("[log]\nlevel = \"info\"\naudit = \"log\"\n", "");
    site
}

async fn batch(server: &Process) -> Connection {
    server.connect(Some(&PKI.batch.identity), Version::HTTP_11).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_5_a_disk_that_takes_nothing_fails_closed_and_recovers_by_itself() {
    let (site, asserter) = (site(), Asserter::batch());
    let mut server = site.start();
    let mut connection = batch(&server).await;
    let before = asserter.fresh();
    assert_eq!(connection.token(&by_assertion(&before)).await.unwrap().status, StatusCode::OK);

    limit_files(&server, "1");
    let refused = refused_for_now(&mut connection, &asserter).await;
    assert!(server.is_alive(), "SIGXFSZ ended it");
    assert_all_else_goes_on(&server).await;
    let replay = connection.token(&by_assertion(&before)).await.unwrap();
    assert_eq!(replay.status, StatusCode::BAD_REQUEST, "a replay is known without the disk");

    limit_files(&server, "unlimited");
    let start = Instant::now();
    server.wait_ready(StatusCode::OK).await;
    assert!(start.elapsed() < Duration::from_secs(5), "ready after {:?}", start.elapsed());
    for assertion in &refused {
        assert_eq!(
            connection.token(&by_assertion(assertion)).await.unwrap().status,
            StatusCode::OK,
            "it was not used up"
        );
        assert_eq!(connection.token(&by_assertion(assertion)).await.unwrap().error(), "invalid_client");
    }
    server.assert_healthy().await;
    assert_told_once(server);
}

/// Assertions that get 503 in time, and no token.
async fn refused_for_now(connection: &mut Connection, asserter: &Asserter) -> Vec<String> {
    let refused: Vec<String> = (0..10).map(|_| asserter.fresh()).collect();
    for assertion in &refused {
        let start = Instant::now();
        let answer = connection.token(&by_assertion(assertion)).await.unwrap();
        assert!(start.elapsed() < PROMISE, "{:?}", start.elapsed());
        assert_eq!(
            (answer.status, answer.error().as_str()),
            (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable")
        );
        assert!(answer.headers.contains_key(RETRY_AFTER));
        assert!(!answer.text.contains("access_token"));
    }
    refused
}

/// P3: what does not need the store does not notice.
async fn assert_all_else_goes_on(server: &Process) {
    let mut billing_connection = server.connect(Some(&PKI.billing.identity), Version::HTTP_2).await.unwrap();
    for _ in 0..20 {
        assert_eq!(billing_connection.token(&billing()).await.unwrap().status, StatusCode::OK);
    }
    for path in ["/.well-known/jwks.json", "/.well-known/oauth-authorization-server"] {
        assert_eq!(billing_connection.get(path).await.unwrap().status, StatusCode::OK, "{path}");
    }
    assert_eq!(server.operations("/livez").await.0, StatusCode::OK);
    let (status, body) = server.operations("/readyz?verbose").await;
    assert_eq!((status, body.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "[-] store\n[+] keys\n"));
}

/// The log says once that the store fails and once that it works again; the audit log has the reason each time.
fn assert_told_once(server: Process) {
    let stderr = server.stderr_at_end();
    let lines = json_lines(&stderr);
    let count = |name: &str, value: &str| lines.iter().filter(|line| line[name] == value).count();
    assert_eq!(count("message", "the store fails; no assertion is accepted"), 1);
    assert_eq!(count("message", "the store works again"), 1);
    assert_eq!(count("reason", "store_unavailable"), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_5_a_disk_that_fills_under_load_issues_nothing_that_is_not_on_record() {
    let (site, asserter) = (site(), Asserter::batch());
    let server = site.start();
    let mut connection = batch(&server).await;
    limit_files(&server, "200000");
    let mut accepted = Vec::new();
    within(async {
        loop {
            let assertion = asserter.fresh();
            let answer = connection.token(&by_assertion(&assertion)).await.unwrap();
            match answer.status {
                StatusCode::OK => accepted.push(assertion),
                StatusCode::SERVICE_UNAVAILABLE => break,
                other => panic!("{other}: {}", answer.text),
            }
        }
    })
    .await;
    assert!(!accepted.is_empty());
    server.kill();

    let server = site.start();
    let mut connection = batch(&server).await;
    for assertion in &accepted {
        assert_eq!(connection.token(&by_assertion(assertion)).await.unwrap().error(), "invalid_client");
    }
    server.assert_healthy().await;
}

/// A way to spoil the files that a server left behind.
type Damage = fn(&Site);

fn cut_log(site: &Site) {
    let file = std::fs::OpenOptions::new().write(true).open(site.path("data/certbind.db-wal")).unwrap();
    file.set_len(file.metadata().unwrap().len() - 100).unwrap();
}

/// The log has grown, and was never begun anew, so its last bytes are of the last commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_1_where_a_crash_and_damage_took_uses_back_no_used_assertion_is_good_again() {
    let damages: [(&str, Damage); 4] = [
        ("nothing", |_| ()),
        ("cut", cut_log),
        ("emptied", |site| std::fs::write(site.path("data/certbind.db-wal"), "").unwrap()),
        ("deleted", |site| std::fs::remove_file(site.path("data/certbind.db-wal")).unwrap()),
    ];
    for (name, damage) in damages {
        let (site, asserter) = (Site::new(), Asserter::batch());
        let server = site.start();
        let mut connection = batch(&server).await;
        let used: Vec<String> = (0..60).map(|_| asserter.fresh()).collect();
        for assertion in &used {
            assert_eq!(connection.token(&by_assertion(assertion)).await.unwrap().status, StatusCode::OK);
        }
        server.kill();
        damage(&site);
        let server = site.start();
        let mut connection = batch(&server).await;
        for assertion in &used {
            let status = connection.token(&by_assertion(assertion)).await.unwrap().status;
            assert!(matches!(status, StatusCode::BAD_REQUEST | StatusCode::SERVICE_UNAVAILABLE), "{name}: {status}");
        }
        server.assert_healthy().await;
        let fresh = connection.token(&by_assertion(&asserter.fresh())).await.unwrap().status;
        let stderr = server.stderr_at_end();
        let told = site.audit().iter().filter(|event| event["event"] == "store.fenced").count();
        let expected = if name == "nothing" { (StatusCode::OK, 0) } else { (StatusCode::SERVICE_UNAVAILABLE, 1) };
        assert_eq!((fresh, told), expected, "{name}");
        assert_eq!(stderr.contains("assertions from before now are refused"), told == 1, "{name}: {stderr}");
    }
}

#[test]
fn attack_21_a_database_that_is_gone_is_no_new_store() {
    let spoils: [Spoil; 2] = [
        |site| std::fs::remove_file(site.path("data/certbind.db")).unwrap(),
        |site| std::fs::write(site.path("data/certbind.db"), "").unwrap(),
    ];
    for spoil in spoils {
        let site = site();
        assert!(site.start().terminate().success());
        spoil(&site);
        let (_, stderr, status) = super::rig::output(&mut site.serve());
        assert_eq!(status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("certbind.db is gone or empty") && stderr.contains("certbind.mark"), "{stderr}");
    }
}

#[tokio::test]
async fn attack_21_a_store_that_cannot_be_opened_is_not_replaced_by_memory() {
    let broken: [(&str, Spoil); 4] = [
        ("a file in place of the folder", |site| site.write("data", "")),
        ("garbage", |site| in_data(site, "x".repeat(8192).as_bytes())),
        ("a database of another program", |site| foreign_database(site)),
        ("open to others", |site| {
            in_data(site, b"");
            std::fs::set_permissions(
                site.path("data/certbind.db"),
                std::os::unix::fs::PermissionsExt::from_mode(0o644),
            )
            .unwrap();
        }),
    ];
    for (name, spoil) in broken {
        let site = site();
        spoil(&site);
        let (_, stderr, status) = super::rig::output(&mut site.serve());
        assert!(matches!(status.code(), Some(1 | 6)), "{name}: {status} {stderr}");
        assert!(stderr.contains("data"), "{name}: {stderr}");
    }
}

/// Breaks one thing of a good site.
type Spoil = fn(&Site);

fn in_data(site: &Site, content: &[u8]) {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    std::fs::DirBuilder::new().mode(0o700).create(site.path("data")).unwrap();
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(site.path("data/certbind.db"))
        .unwrap();
    std::io::Write::write_all(&mut file, content).unwrap();
}

fn foreign_database(site: &Site) {
    in_data(site, b"");
    let database = rusqlite::Connection::open(site.path("data/certbind.db")).unwrap();
    database.execute_batch("CREATE TABLE theirs (id INTEGER)").unwrap();
}
