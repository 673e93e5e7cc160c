//! `certbind audit … --store`: one place is searched, followed and checked for all servers.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::audit_search::Tail;
use super::audit_store::{connect, count, issued, site, start, until};
use super::rig::{Process, Site, certbind, json_lines, output};
use crate::postgres::cluster::{self, Cluster};

/// `certbind audit … --store`, asked at the server with this socket.
fn audit(site: &Site, socket: &str, arguments: &[&str]) -> Command {
    let mut command = certbind();
    let (verb, rest) = arguments.split_first().unwrap();
    command.args(["audit", verb, "--store", "--server", &format!("unix:{}", site.path(socket).display())]);
    command.args(rest).current_dir(site.dir());
    command
}

fn admin(name: &str) -> String {
    format!("listen.admin.address=unix:{name}.sock")
}

/// What `audit verify --store` says.
fn check(site: &Site, socket: &str) -> Value {
    let (stdout, stderr, status) = output(&mut audit(site, socket, &["verify", "-o", "json"]));
    let report: Value = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}"));
    assert_eq!(report["good"] == true, status.success());
    report
}

fn says(remarks: &Value) -> Vec<&str> {
    remarks.as_array().unwrap().iter().map(|remark| remark["says"].as_str().unwrap()).collect()
}

fn search(site: &Site, socket: &str, arguments: &[&str]) -> Vec<Value> {
    let all: Vec<&str> = ["search", "-o", "json"].iter().chain(arguments).copied().collect();
    let (stdout, stderr, status) = output(&mut audit(site, socket, &all));
    assert!(status.success(), "{stderr}");
    json_lines(&stdout)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_place_is_searched_for_all_servers() {
    let database = cluster::database();
    let site = site(&database);
    let servers = [start(&site, "a", &[&admin("a")]), start(&site, "b", &[&admin("b")])];
    let mut requests = Vec::new();
    for server in &servers {
        let mut connection = connect(server).await;
        for _ in 0..3 {
            requests.push(issued(&mut connection).await);
        }
    }
    until("all lines", || count(&database, "event = 'token.issued'") == 6).await;
    for socket in ["a.sock", "b.sock"] {
        let found = search(&site, socket, &["--client", "billing", "--event", "token.issued", "--since", "1h"]);
        let mut ids: Vec<&str> = found.iter().map(|line| line["request_id"].as_str().unwrap()).collect();
        ids.sort_unstable();
        let mut expected: Vec<&str> = requests.iter().map(String::as_str).collect();
        expected.sort_unstable();
        assert_eq!(ids, expected, "{socket}");
        assert_eq!(search(&site, socket, &["--client", "billing", "--on", "b"]).len(), 3);
        assert_eq!(search(&site, socket, &["--client", "billing", "--limit", "2"]).len(), 2);
        assert_eq!(search(&site, socket, &["--request-id", &requests[0]]).len(), 1);
        assert_eq!(search(&site, socket, &["--client", "nobody"]).len(), 0);
        assert_eq!(search(&site, socket, &["--until", "2020-01-01"]).len(), 0);
        let report = check(&site, socket);
        assert_eq!(
            (report["good"].clone(), report["chains"].as_array().unwrap().len()),
            (true.into(), 2),
            "{report:#}"
        );
    }
    let (stdout, _, _) = output(&mut audit(&site, "a.sock", &["search", "--request-id", &requests[5]]));
    assert!(stdout.contains("client_id=billing") && stdout.trim_end().ends_with("server=b"), "{stdout}");
    let (_, stderr, status) = output(&mut audit(&site, "a.sock", &["search", "audit.jsonl"]));
    assert_eq!(status.code(), Some(2), "{stderr}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tail_follows_the_lines_of_all_servers_and_shows_each_once() {
    let database = cluster::database();
    let site = site(&database);
    let servers = [start(&site, "a", &[&admin("a")]), start(&site, "b", &[])];
    let mut connections = [connect(&servers[0]).await, connect(&servers[1]).await];
    let first = issued(&mut connections[1]).await;
    until("the first line", || count(&database, "event = 'token.issued'") == 1).await;
    let tail = Tail::of(audit(&site, "a.sock", &["tail", "-f", "-n", "1", "-o", "json"]));
    assert_eq!(tail.next_request(), first);
    for turn in 0..10 {
        let request = issued(&mut connections[turn % 2]).await;
        assert_eq!(tail.next_request(), request, "{turn}");
    }
    let (stdout, _, status) = output(&mut audit(&site, "a.sock", &["tail", "-n", "4", "-o", "json"]));
    assert!(status.success());
    assert_eq!(json_lines(&stdout).len(), 4);
}

/// What somebody does to the table, and what is told of it.
const DEEDS: [(&str, &str); 7] = [
    (
        "UPDATE certbind.audit SET line = replace(line, 'billing', 'ledger'), client_id = 'ledger' WHERE seq = 4",
        "was changed",
    ),
    ("UPDATE certbind.audit SET client_id = 'ledger' WHERE seq = 4", "what this line is found by"),
    ("UPDATE certbind.audit SET server = 'b' WHERE seq = 4", "no line of this chain"),
    ("DELETE FROM certbind.audit WHERE seq = 4", "line 4 of the chain is missing"),
    ("DELETE FROM certbind.audit WHERE seq <= 2", "lines 1 to 2 of the chain are missing"),
    (
        "INSERT INTO certbind.audit (server, chain, seq, at, line) SELECT server, chain, 400, at, line FROM certbind.audit WHERE seq = 4",
        "line 4 of the chain comes after",
    ),
    ("UPDATE certbind.audit SET line = 'nothing' WHERE seq = 4", "this is no line of the log"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_65_what_is_changed_or_taken_out_by_hand_is_found() {
    let database = cluster::database();
    let site = site(&database);
    let server = start(&site, "a", &[&admin("a")]);
    let mut connection = connect(&server).await;
    for _ in 0..8 {
        issued(&mut connection).await;
    }
    until("all lines", || count(&database, "event = 'token.issued'") == 8).await;
    database.execute("CREATE TABLE kept AS SELECT * FROM certbind.audit");
    for (deed, told) in DEEDS {
        assert_eq!(says(&check(&site, "a.sock")["breaks"]), Vec::<&str>::new());
        database.execute(deed);
        let report = check(&site, "a.sock");
        assert!(says(&report["breaks"]).iter().any(|says| says.contains(told)), "{deed}: {report:#}");
        database.execute(
            "DELETE FROM certbind.audit; INSERT INTO certbind.audit OVERRIDING SYSTEM VALUE SELECT * FROM kept",
        );
    }
    // The end taken off: the server goes on from what it wrote itself, and a head that was noted is not there.
    let head = check(&site, "a.sock")["chains"][0]["head"].as_str().unwrap().to_owned();
    database.execute("DELETE FROM certbind.audit WHERE seq > 5");
    let (_, _, status) = output(&mut audit(&site, "a.sock", &["verify", "--expect-head", &head]));
    assert_eq!(status.code(), Some(1));
    issued(&mut connection).await;
    until("the next line", || count(&database, "seq > 5") == 1).await;
    let report = check(&site, "a.sock");
    assert!(says(&report["breaks"]).iter().any(|says| says.contains("are missing")), "{report:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_older_than_it_is_kept_goes_and_the_chain_says_so() {
    let database = cluster::database();
    let site = site(&database);
    for name in ["old", "a"] {
        let server = start(&site, name, &[]);
        let mut connection = connect(&server).await;
        for _ in 0..5 {
            issued(&mut connection).await;
        }
        assert!(server.terminate().success());
    }
    let day = 86_400_000;
    database.execute(&format!("UPDATE certbind.audit SET at = at - 2 * {day} WHERE server = 'old' OR seq <= 4"));
    let server = start(&site, "a", &["log.audit_keep=1d", &admin("a")]);
    until("the old lines are gone", || count(&database, "server = 'old' OR seq <= 4") == 0).await;
    let report = check(&site, "a.sock");
    assert_eq!(report["good"], true, "{report:#}");
    assert!(says(&report["notes"]).iter().any(|says| says.contains("dropped for their age")), "{report:#}");
    assert_eq!(count(&database, "event = 'audit.expired'"), 2, "one word for each chain");
    database.execute("DELETE FROM certbind.audit WHERE seq = 5");
    let report = check(&site, "a.sock");
    assert!(says(&report["breaks"]).iter().any(|says| says.contains("lines 1 to 5")), "{report:#}");
    assert!(server.terminate().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_4_while_the_database_is_away_a_search_says_so() {
    let mut cluster = Cluster::start(&[]);
    let site = site(&cluster.database());
    let _server = start(&site, "a", &[&admin("a")]);
    cluster.stop("fast");
    let began = Instant::now();
    let (_, stderr, status) = output(&mut audit(&site, "a.sock", &["search"]));
    assert_eq!(status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("store") && began.elapsed() < Duration::from_secs(5), "{stderr}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_without_lines_is_no_good_log() {
    let site = Site::new();
    let _server = start_without_store(&site);
    for arguments in [&["verify"][..], &["search"], &["search", "--client", "billing"], &["verify", "--on", "b"]] {
        let (stdout, stderr, status) = output(&mut audit(&site, "a.sock", arguments));
        assert_eq!(status.code(), Some(1), "{arguments:?}: {stdout}{stderr}");
        assert!(stderr.contains("the store holds no audit lines"), "{stderr}");
    }
}

/// A server whose audit log is a file alone.
fn start_without_store(site: &Site) -> Process {
    let mut command = site.serve();
    command.args(["--set", &admin("a")]);
    Process::ready(command)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_server_keeps_its_lines_in_its_own_store() {
    let site = Site::new();
    site.configure("[log]\nlevel = \"info\"\naudit = \"log\"\naudit_store = true\naudit_required = true\n", "");
    for turn in 1..=2 {
        let server = start(&site, "a", &[&admin("a")]);
        let mut connection = connect(&server).await;
        for _ in 0..3 {
            let request = issued(&mut connection).await;
            assert_eq!(search(&site, "a.sock", &["--request-id", &request]).len(), 1, "it is there when the token is");
        }
        let report = check(&site, "a.sock");
        assert_eq!((&report["good"], report["chains"].as_array().unwrap().len()), (&true.into(), 1), "{report:#}");
        assert_eq!(search(&site, "a.sock", &["--event", "token.issued"]).len(), 3 * turn);
        assert!(server.terminate().success());
    }
}
