//! `audit search` and `audit tail` on the log of a running server.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use hyper::Version;
use serde_json::Value;

use super::client::{Answer, billing, client};
use super::rig::{PKI, Process, Site, certbind, json_lines, output};

use crate::support::finish::Finish as _;

const LOG: &str = "audit.jsonl";

fn audit(site: &Site, arguments: &[&str]) -> Command {
    let mut command = certbind();
    command.arg("audit").args(arguments).current_dir(site.dir());
    command
}

fn search(site: &Site, arguments: &[&str]) -> Vec<Value> {
    let (stdout, stderr, status) = output(audit(site, &["search", "-o", "json"]).args(arguments));
    assert!(status.success(), "{stderr}");
    json_lines(&stdout)
}

async fn ask(server: &Process, client_id: &str) -> Answer {
    let mut connection = server.connect(Some(&PKI.billing.identity), Version::HTTP_11).await.unwrap();
    connection.token(&client(client_id)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_finds_what_fits_in_all_files_in_order() {
    let site = Site::new();
    let server = site.start();
    let good = ask(&server, "billing").await;
    site.event(good.request_id()).await;
    fs::rename(site.path(LOG), site.path("audit.jsonl.1")).unwrap();
    let (unknown, wrong) = (ask(&server, "nobody").await, ask(&server, "ledger").await);
    site.event(wrong.request_id()).await;
    assert!(server.terminate().success());

    let both: &[&str] = &[LOG, "audit.jsonl.1"];
    let all = search(&site, both);
    let seqs: Vec<u64> = all.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5], "opened, three decisions, closed");
    let issued = &all[1];
    let text = |name: &str| issued[name].as_str().unwrap();
    let since = format!("--since={}", text("ts"));
    let until = format!("--until={}", text("ts"));
    for (arguments, expected) in [
        (&["--client", "billing"] as &[&str], vec![2]),
        (&["--client", "ledger", "--reason", "thumbprint_unknown"], vec![4]),
        (&["--client", "ledger", "--reason", "client_unknown"], vec![]),
        (&["--reason", "client_unknown"], vec![3]),
        (&["--event", "token.refused"], vec![3, 4]),
        (&["--outcome", "failure", "--limit", "1"], vec![3]),
        (&["--outcome", "success"], vec![2]),
        (&["--jti", text("jti")], vec![2]),
        (&["--request-id", unknown.request_id()], vec![3]),
        (&["--thumbprint", text("cnf_x5t_s256")], vec![2]),
        (&[&since], vec![2, 3, 4, 5]),
        (&[&until], vec![1]),
        (&["--since", "1h"], vec![1, 2, 3, 4, 5]),
        (&["--until", "1h"], vec![]),
    ] {
        let found = search(&site, &[both, arguments].concat());
        let found: Vec<u64> = found.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
        assert_eq!(found, expected, "{arguments:?}");
    }
    let by_configuration = search(&site, &["--config", "certbind.toml", "--event", "token.issued"]);
    assert_eq!(by_configuration, std::slice::from_ref(issued), "the rotated file as well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_prints_for_people_and_passes_over_what_is_no_line() {
    let site = Site::new();
    let server = site.start();
    let refused = ask(&server, "nobody").await;
    site.event(refused.request_id()).await;
    assert!(server.terminate().success());
    let id = refused.request_id();

    let (plain, _, _) = output(&mut audit(&site, &["search", LOG, "--request-id", id]));
    assert_eq!(plain.lines().count(), 1);
    assert!(plain.contains(" token.refused outcome=failure reason=client_unknown client_id=nobody "), "{plain}");
    assert!(plain.ends_with(&format!(" request_id={id}\n")), "{plain}");
    let (table, _, _) = output(&mut audit(&site, &["search", LOG, "--request-id", id, "-o", "table"]));
    let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["TIME", "EVENT", "OUTCOME", "REASON", "CLIENT", "REQUEST"]);
    assert_eq!(words[1][1..], ["token.refused", "failure", "client_unknown", "nobody", id]);

    let hostile = "{\"ts\":\"x\",\"event\":\"\\u001b[31mred\",\"request_id\":\"h\"}\n";
    let spoilt = format!("garbage\n{}\n{hostile}", fs::read_to_string(site.path(LOG)).unwrap());
    site.write(LOG, &spoilt);
    let (stdout, stderr, status) = output(&mut audit(&site, &["search", LOG]));
    assert!(status.success());
    assert_eq!(stdout.lines().count(), 4, "{stdout}");
    assert!(!stdout.contains('\u{1b}'), "{stdout:?}");
    assert_eq!(
        stderr,
        "audit.jsonl:1: no line of the log, passed over\naudit.jsonl:5: no line of the log, passed over\n"
    );
}

#[test]
fn a_search_reads_standard_input_and_any_amount_in_little_memory() {
    const LINES: usize = 300_000;
    let site = Site::new();
    let mut search = audit(&site, &["search", "-", "--client", "needle", "-o", "json"]);
    let mut search = search.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = search.stdin.take().unwrap();
    let line = |client: &str| {
        format!(
            "{{\"ts\":\"2026-11-22T09:30:00.000Z\",\"client_id\":\"{client}\",\"detail\":\"{}\"}}\n",
            "x".repeat(500)
        )
    };
    let (hay, needle) = (line("hay").repeat(1000), line("needle"));
    for _ in 0..LINES / 1000 {
        stdin.write_all(hay.as_bytes()).unwrap();
    }
    stdin.write_all(needle.as_bytes()).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", search.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB");
    drop(stdin);
    let found = search.finish();
    assert_eq!(String::from_utf8(found.stdout).unwrap(), needle);
    assert!(peak.parse::<u64>().unwrap() < 64 * 1024, "{peak} KiB for {} MiB", (LINES * needle.len()) >> 20);
}

/// `audit tail -f` until it is dropped.
pub(super) struct Tail {
    process: Child,
    lines: Receiver<String>,
}

impl Tail {
    fn start(site: &Site, arguments: &[&str]) -> Self {
        let mut command = audit(site, &["tail", "--follow"]);
        command.args(arguments);
        Self::of(command)
    }

    pub(super) fn of(mut command: Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { process, lines }
    }

    fn next(&self) -> String {
        self.lines.recv_timeout(Duration::from_secs(20)).expect("a line in time")
    }

    /// The next line about a request.
    pub(super) fn next_request(&self) -> String {
        loop {
            let line: Value = serde_json::from_str(&self.next()).unwrap();
            if let Some(id) = line["request_id"].as_str() {
                return id.to_owned();
            }
        }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tail_follows_the_log_over_rotations_and_shows_each_line_once() {
    let site = Site::new();
    let server = site.start();
    let mut connection = server.connect(Some(&PKI.billing.identity), Version::HTTP_11).await.unwrap();
    let first = connection.token(&billing()).await.unwrap();
    site.event(first.request_id()).await;
    let tail = Tail::start(&site, &["--config", "certbind.toml", "-o", "json", "-n", "1"]);
    assert_eq!(tail.next_request(), first.request_id());
    for turn in 0..3 {
        for _ in 0..5 {
            let answer = connection.token(&billing()).await.unwrap();
            if turn == 1 {
                site.event(answer.request_id()).await;
            }
            assert_eq!(tail.next_request(), answer.request_id());
        }
        fs::rename(site.path(LOG), site.path(&format!("{LOG}.{turn}"))).unwrap();
    }
    assert!(server.terminate().success());
    let last: Value = serde_json::from_str(&tail.next()).unwrap();
    assert_eq!(last["event"], "audit.closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tail_prints_so_many_lines_and_ends() {
    let site = Site::new();
    let server = site.start();
    server.assert_healthy().await;
    assert!(server.terminate().success());
    for (count, lines) in [("0", 0), ("1", 1), ("7", 7), ("102", 102), ("1000", 102)] {
        let (stdout, stderr, status) = output(&mut audit(&site, &["tail", LOG, "-n", count]));
        assert!(status.success(), "{stderr}");
        assert_eq!(stdout.lines().count(), lines, "{count}");
        assert!(lines == 0 || stdout.lines().last().unwrap().contains(" audit.closed run="), "{stdout}");
    }
    let (_, stderr, status) = output(&mut audit(&site, &["tail", "missing.jsonl"]));
    assert!(!status.success() && stderr.contains("missing.jsonl"), "{stderr}");
}

/// What base64url begins with a hyphen is a value and no flag.
#[test]
fn ids_and_hashes_that_begin_with_a_hyphen_are_looked_for() {
    let site = Site::new();
    let hash = "-eykl3pENkFv2xnRyTrHXsRvzOUFcs9lTcFQmr8eZ1U";
    site.write(LOG, &format!("{{\"ts\":\"2026-11-22T09:30:00.000Z\",\"jti\":\"-a\",\"cnf_x5t_s256\":\"{hash}\"}}\n"));
    for arguments in [["--jti", "-a"], ["--thumbprint", hash]] {
        let (stdout, stderr, status) = output(audit(&site, &["search", LOG]).args(arguments));
        assert!(status.success() && stdout.contains("jti=-a"), "{arguments:?}: {stderr}");
    }
    let (stdout, stderr, status) = output(&mut audit(&site, &["verify", LOG, "--expect-head", hash]));
    assert_eq!(status.code(), Some(1), "it was understood, and is not there: {stdout}{stderr}");
    let (_, stderr, status) = output(certbind().args(["key", "retire", "-a", "--server", "unix:/nowhere"]));
    assert_eq!(status.code(), Some(5), "it was understood, and nobody is there: {stderr}");
}
