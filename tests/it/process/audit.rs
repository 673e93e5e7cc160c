//! The audit log of a running server: whole after a crash, through rotations, and with two servers on one file.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use hyper::{StatusCode, Version};
use serde_json::Value;

use super::client::billing;
use super::rig::{PKI, Process, Site, certbind, json_lines, output, within};

const LOG: &str = "audit.jsonl";

/// What `audit verify` says of these files.
pub(super) fn verify(site: &Site, files: &[&str]) -> Value {
    let (stdout, stderr, status) = output(audit(site, "verify", files).args(["-o", "json"]));
    let found: Value = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}"));
    assert_eq!(found["good"] == true, status.success());
    found
}

fn audit(site: &Site, command: &str, files: &[&str]) -> Command {
    let mut certbind = certbind();
    certbind.args(["audit", command]).args(files).current_dir(site.dir());
    certbind
}

/// One chain and no break; gives its number of lines.
fn assert_whole(site: &Site, files: &[&str]) -> u64 {
    let found = verify(site, files);
    assert_eq!((&found["good"], found["chains"].as_array().unwrap().len()), (&true.into(), 1), "{found:#}");
    found["chains"][0]["lines"].as_u64().unwrap()
}

fn lines(site: &Site, file: &str) -> Vec<Value> {
    json_lines(&fs::read_to_string(site.path(file)).unwrap())
}

/// Sends token requests until it is told to stop; gives the ids of those that were answered with a token.
struct Traffic {
    stop: tokio::sync::watch::Sender<()>,
    done: tokio::task::JoinHandle<Vec<String>>,
}

impl Traffic {
    fn start(server: &Process) -> Self {
        let (stop, stopped) = tokio::sync::watch::channel(());
        let address = server.address;
        let done = tokio::spawn(async move {
            let mut connection =
                super::client::Connection::open(address, Some(&PKI.billing.identity), Version::HTTP_11).await.unwrap();
            let mut issued = Vec::new();
            while !stopped.has_changed().unwrap_or(true) {
                let Ok(answer) = connection.token(&billing()).await else { break };
                assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
                issued.push(answer.request_id().to_owned());
            }
            issued
        });
        Self { stop, done }
    }

    async fn stop(self) -> Vec<String> {
        let _ = self.stop.send(());
        self.ended().await
    }

    async fn ended(self) -> Vec<String> {
        within(self.done).await.unwrap()
    }
}

fn assert_told(lines: &[Value], requests: &[String]) {
    for id in requests {
        let told = lines.iter().filter(|line| line["request_id"] == id.as_str()).count();
        assert_eq!(told, 1, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_one_chain_from_the_first_start_to_the_last_stop() {
    let site = Site::new();
    for _ in 0..3 {
        let server = site.start();
        server.assert_healthy().await;
        assert!(server.terminate().success());
    }
    assert_eq!(assert_whole(&site, &[LOG]), 3 * 102);
    let found = verify(&site, &[LOG]);
    assert_eq!(found["notes"].as_array().map(Vec::len), Some(0), "{found:#}");

    let (by_configuration, _, status) =
        output(audit(&site, "verify", &["--config", "certbind.toml"]).args(["-o", "table"]));
    assert!(status.success() && by_configuration.ends_with("good: 306 lines in 1 files\n"), "{by_configuration}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_1_a_log_is_whole_after_kill_9_and_says_which_run_has_no_end() {
    let site = Site::new();
    for _ in 0..5 {
        let server = site.start();
        let traffic = Traffic::start(&server);
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.kill();
        traffic.ended().await;
    }
    assert!(site.start().terminate().success());
    assert_whole(&site, &[LOG]);
    let found = verify(&site, &[LOG]);
    let open =
        found["notes"].as_array().unwrap().iter().filter(|note| note["says"].to_string().contains("no last line"));
    assert_eq!(open.count(), 5, "{found:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotations_under_traffic_lose_no_line_and_the_chain_goes_on() {
    let site = Site::new();
    let server = site.start();
    let traffic = Traffic::start(&server);
    let mut files = vec![LOG.to_owned()];
    for n in 1..=10 {
        let to = format!("{LOG}.{n}");
        fs::rename(site.path(LOG), site.path(&to)).unwrap();
        files.push(to);
        within(async {
            while !fs::metadata(site.path(LOG)).is_ok_and(|found| found.len() > 0) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }
    let issued = traffic.stop().await;
    assert!(server.terminate().success());
    assert!(issued.len() >= 10, "{}", issued.len());
    let names: Vec<&str> = files.iter().map(String::as_str).collect();
    assert_eq!(assert_whole(&site, &names), issued.len() as u64 + 2);
    assert_told(&names.iter().flat_map(|name| lines(&site, name)).collect::<Vec<_>>(), &issued);
    let found = verify(&site, &["--config", "certbind.toml"]);
    assert_eq!((&found["good"], found["files"].as_array().map(Vec::len)), (&true.into(), Some(11)), "{found:#}");
    let found = verify(&site, &[&names[..4], &names[5..]].concat());
    assert_eq!(found["broken"], 1, "a file is missing: {found:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_16_two_servers_on_one_file_write_one_chain() {
    let site = Site::new();
    let mut issued = Vec::new();
    let mut old = site.start();
    for turn in 0..3 {
        let of_old = Traffic::start(&old);
        let new = site.start();
        let of_new = Traffic::start(&new);
        tokio::time::sleep(Duration::from_millis(300)).await;
        fs::rename(site.path(LOG), site.path(&format!("{LOG}.{turn}"))).unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        issued.extend(of_old.stop().await);
        issued.extend(of_new.stop().await);
        assert!(old.terminate().success());
        old = new;
    }
    assert!(old.terminate().success());
    let names = [LOG, "audit.jsonl.0", "audit.jsonl.1", "audit.jsonl.2"];
    assert_eq!(assert_whole(&site, &names), issued.len() as u64 + 8);
    assert_told(&names.iter().flat_map(|name| lines(&site, name)).collect::<Vec<_>>(), &issued);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_65_a_changed_log_is_told_by_file_and_line_and_a_noted_head_finds_a_cut() {
    let site = Site::new();
    let server = site.start();
    server.assert_healthy().await;
    let stderr = server.stderr_at_end();
    let heads: Vec<Value> = json_lines(&stderr).into_iter().filter(|line| line["head"].is_string()).collect();
    assert_eq!(heads.len(), 2, "at the start and at the end: {stderr}");
    let noted = heads[1]["head"].as_str().unwrap();
    assert_eq!(verify(&site, &[LOG])["chains"][0]["head"], noted);
    assert_eq!(verify(&site, &[LOG, "--expect-head", noted])["good"], true);

    let whole = fs::read_to_string(site.path(LOG)).unwrap();
    let cut: String = whole.split_inclusive('\n').take(50).collect();
    site.write(LOG, &cut);
    assert_eq!(verify(&site, &[LOG])["good"], true, "nothing follows what was cut off");
    let (stdout, _, status) = output(&mut audit(&site, "verify", &[LOG, "--expect-head", noted]));
    assert_eq!(status.code(), Some(1));
    assert!(stdout.contains(&format!("BREAK  no line has the expected head {noted}\n")), "{stdout}");

    site.write(LOG, &whole.replacen("\"client_id\":\"billing\"", "\"client_id\":\"nobody1\"", 1));
    let (stdout, _, status) = output(&mut audit(&site, "verify", &[LOG]));
    assert_eq!(status.code(), Some(1));
    assert!(stdout.contains("BREAK  audit.jsonl:3: line 2 of the chain was changed, or this one was\n"), "{stdout}");
    assert!(stdout.ends_with("BROKEN: 1 breaks in 102 lines in 1 files\n"), "{stdout}");
}

#[test]
fn a_log_that_was_there_for_others_to_read_is_told() {
    for (mode, is_told) in [(0o644, true), (0o660, true), (0o640, false), (0o600, false)] {
        let site = Site::new();
        fs::write(site.path(LOG), "").unwrap();
        fs::set_permissions(site.path(LOG), fs::Permissions::from_mode(mode)).unwrap();
        let stderr = site.start().stderr_at_end();
        let told = json_lines(&stderr);
        let told = told.iter().filter(|line| line["mode"] == format!("{mode:04o}")).count();
        assert_eq!(told, usize::from(is_told), "{mode:04o}: {stderr}");
        assert_eq!(fs::metadata(site.path(LOG)).unwrap().permissions().mode() & 0o777, mode, "it stays as it is");
    }
}

#[test]
fn a_log_that_cannot_be_read_is_a_failure_and_no_verdict() {
    let site = Site::new();
    for (files, code, word) in [
        (&["missing.jsonl"] as &[&str], 1, "missing.jsonl"),
        (&["."], 1, "cannot read"),
        (&["--config", "missing.toml"], 6, "missing.toml"),
        (&[LOG, "--expect-head", "abc"], 2, "43 characters"),
    ] {
        let (stdout, stderr, status) = output(&mut audit(&site, "verify", files));
        assert_eq!((status.code(), stdout.as_str()), (Some(code), ""), "{files:?}: {stderr}");
        assert!(stderr.contains(word), "{files:?}: {stderr}");
    }
    site.configure("[log]\naudit = \"log\"\n", "");
    let (_, stderr, status) = output(&mut audit(&site, "verify", &["--config", "certbind.toml"]));
    assert_eq!(status.code(), Some(6));
    assert!(stderr.contains("log.audit"), "{stderr}");
}
