//! `log.audit_store`: the lines of every server in the shared database, each server's in a chain of its own.

use std::time::{Duration, Instant};

use hyper::{StatusCode, Version};
use serde_json::Value;

use super::audit::verify;
use super::client::{Connection, billing};
use super::fleet;
use super::rig::{PKI, Process, Site, certbind, json_lines, output, within};
use crate::postgres::cluster::{self, Cluster, Database};
use crate::support::BUSY;

/// The longest wait for a refusal (P3), and until it works again.
const PROMISE: Duration = Duration::from_secs(2 + BUSY);
const RECOVERY: Duration = Duration::from_secs(5 + BUSY);

/// A fleet whose servers write to the database as well.
pub(super) fn site(database: &Database) -> Site {
    let site = fleet::site(database);
    site.edit("[log]\n", "[log]\naudit_store = true\n");
    site
}

/// A server of this name, which has this more to say about its configuration.
pub(super) fn start(site: &Site, name: &str, sets: &[&str]) -> Process {
    let mut command = site.serve();
    command.args(["--set", &format!("log.audit_server={name}")]);
    for set in sets {
        command.args(["--set", set]);
    }
    Process::ready(command)
}

pub(super) async fn connect(server: &Process) -> Connection {
    server.connect(Some(&PKI.billing.identity), Version::HTTP_11).await.unwrap()
}

/// Gets a token, and gives the id of the request.
pub(super) async fn issued(connection: &mut Connection) -> String {
    let answer = connection.token(&billing()).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    answer.request_id().to_owned()
}

/// The lines of a server that the database has by now.
fn lines(database: &Database, server: &str) -> Vec<String> {
    database.texts(&format!("SELECT line FROM certbind.audit WHERE server = '{server}' ORDER BY id"))
}

pub(super) fn count(database: &Database, condition: &str) -> i64 {
    database.number(&format!("SELECT count(*) FROM certbind.audit WHERE {condition}"))
}

pub(super) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}: not in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One chain without a gap, which says nothing odd about itself.
fn assert_one_chain(site: &Site, database: &Database, server: &str) -> Vec<Value> {
    let lines = lines(database, server);
    site.write("of-server.jsonl", &(lines.join("\n") + "\n"));
    let report = verify(site, &["of-server.jsonl"]);
    assert_eq!(report["good"], true, "{report:#}");
    assert_eq!(report["chains"].as_array().unwrap().len(), 1, "{report:#}");
    assert_eq!(report["notes"], serde_json::json!([]), "{report:#}");
    json_lines(&lines.join("\n"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_write_a_chain_each_and_an_end_loses_nothing() {
    let database = cluster::database();
    let site = site(&database);
    for _ in 0..2 {
        let servers = [start(&site, "a", &[]), start(&site, "b", &[])];
        let mut requests = Vec::new();
        for (server, name) in servers.iter().zip(["a", "b"]) {
            let mut connection = connect(server).await;
            for _ in 0..20 {
                requests.push((name, issued(&mut connection).await));
            }
        }
        for server in servers {
            assert!(server.terminate().success());
        }
        for (name, request) in requests {
            let said = format!("server = '{name}' AND request_id = '{request}' AND client_id = 'billing'");
            assert_eq!(count(&database, &said), 1, "{said}");
        }
    }
    for name in ["a", "b"] {
        let lines = assert_one_chain(&site, &database, name);
        let opened: Vec<_> = lines.iter().filter(|line| line["event"] == "audit.opened").collect();
        let issued = lines.iter().filter(|line| line["event"] == "token.issued").count();
        assert_eq!((opened.len(), issued), (2, 40), "over a restart it is one chain");
        assert_eq!(lines.last().unwrap()["event"], "audit.closed");
    }
    assert_eq!(verify(&site, &["audit.jsonl"])["good"], true, "the file has all of it as well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_16_two_processes_of_one_name_write_no_line_over_another() {
    let database = cluster::database();
    let site = site(&database);
    let first = start(&site, "a", &[]);
    until("opened", || count(&database, "event = 'audit.opened'") == 1).await;
    let servers = [first, start(&site, "a", &[])];
    let mut connections = [connect(&servers[0]).await, connect(&servers[1]).await];
    for _ in 0..100 {
        let [one, other] = &mut connections;
        tokio::join!(issued(one), issued(other));
    }
    for server in servers {
        assert!(server.terminate().success());
    }
    let lines = assert_one_chain(&site, &database, "a");
    assert_eq!(lines.iter().filter(|line| line["event"] == "token.issued").count(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_4_while_the_database_is_away_tokens_go_out_and_their_lines_come_later() {
    let mut cluster = Cluster::start(&[]);
    let database = cluster.database();
    let site = site(&database);
    let server = start(&site, "a", &[]);
    let mut connection = connect(&server).await;
    let mut requests = vec![issued(&mut connection).await];
    cluster.stop("fast");
    for _ in 0..50 {
        let began = Instant::now();
        requests.push(issued(&mut connection).await);
        assert!(began.elapsed() < PROMISE, "{:?}", began.elapsed());
    }
    for (place, is_writable) in [("file", 1), ("store", 0)] {
        let line = format!("certbind_audit_writable{{place=\"{place}\"}} {is_writable}\n");
        within(async {
            while !server.operations("/metrics").await.1.contains(&line) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }
    cluster.resume(&[]);
    until("the lines", || count(&database, "event = 'token.issued'") >= 51).await;
    requests.push(issued(&mut connection).await);
    assert!(server.terminate().success());
    let lines = assert_one_chain(&site, &database, "a");
    for request in requests {
        assert!(lines.iter().any(|line| line["request_id"] == request.as_str()), "{request}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_4_where_the_store_is_what_is_required_no_token_leaves_while_it_is_away() {
    let mut cluster = Cluster::start(&[]);
    let database = cluster.database();
    let site = site(&database);
    site.edit("audit = \"file:audit.jsonl\"\n", "audit = \"log\"\naudit_required = true\n");
    let server = start(&site, "a", &[]);
    let mut connection = connect(&server).await;
    for _ in 0..20 {
        let request = issued(&mut connection).await;
        let said = format!("request_id = '{request}' AND event = 'token.issued'");
        assert_eq!(count(&database, &said), 1, "it is there when the token is");
    }
    cluster.stop("fast");
    let mut refused = Vec::new();
    for _ in 0..5 {
        let began = Instant::now();
        let answer = connection.token(&billing()).await.unwrap();
        assert!(began.elapsed() < PROMISE, "{:?}", began.elapsed());
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.text);
        refused.push(answer.request_id().to_owned());
    }
    let (_, body) = server.operations("/readyz?verbose").await;
    assert!(body.contains("[-] audit\n"), "{body}");
    cluster.resume(&[]);
    let began = Instant::now();
    server.wait_ready(StatusCode::OK).await;
    assert!(began.elapsed() < RECOVERY, "{:?}", began.elapsed());
    issued(&mut connection).await;
    let expected = "reason = 'audit_unavailable' AND event = 'token.refused'";
    within(until("the refusals", || count(&database, expected) == 5)).await;
    for request in refused {
        let said = format!("request_id = '{request}' AND event = 'token.issued'");
        assert_eq!(count(&database, &said), 0, "what was not handed out is not told as handed out");
    }
    assert!(server.terminate().success());
    assert_one_chain(&site, &database, "a");
}

#[test]
fn what_is_required_needs_a_file_or_the_store() {
    let site = Site::new();
    for (log, fits) in [
        ("audit = \"log\"\naudit_required = true\n", false),
        ("audit = \"log\"\naudit_required = true\naudit_store = true\n", true),
        ("audit = \"log\"\naudit_keep = \"90d\"\n", false),
        ("audit = \"log\"\naudit_store = true\naudit_keep = \"90d\"\naudit_server = \"auth-1\"\n", true),
    ] {
        site.configure(&format!("[log]\n{log}"), "");
        let mut check = certbind();
        check.args(["config", "check", "--config"]).arg(site.path("certbind.toml"));
        let (_, stderr, status) = output(&mut check);
        assert_eq!(status.success(), fits, "{log}{stderr}");
    }
}
