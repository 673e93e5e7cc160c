//! `log.audit_required`: no token leaves without its line on disk, whatever becomes of the disk or the process.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hyper::header::RETRY_AFTER;
use hyper::{StatusCode, Version};
use serde_json::Value;

use super::audit::verify;
use super::client::{Answer, Connection, billing};
use super::rig::{PKI, Process, Site, certbind, json_lines, output, within};
use super::store::limit_files;
use crate::support::BUSY;

/// The longest wait for a refusal (P3).
const PROMISE: Duration = Duration::from_secs(2 + BUSY);
/// The longest wait until it works again.
const RECOVERY: Duration = Duration::from_secs(5 + BUSY);

const LOG: &str = "audit.jsonl";

fn site() -> Site {
    let site = Site::new();
    site.configure("[log]\naudit = \"file:audit.jsonl\"\naudit_required = true\n", "");
    site
}

async fn connect(server: &Process) -> Connection {
    server.connect(Some(&PKI.billing.identity), Version::HTTP_11).await.unwrap()
}

/// What the log tells of a request by now: no wait, no mercy.
fn told(text: &str, answer: &Answer) -> Vec<(String, String)> {
    let whole = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
    let of_request = json_lines(whole).into_iter().filter(|line| line["request_id"] == answer.request_id());
    let word = |line: &Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
    of_request.map(|line| (word(&line, "event"), word(&line, "reason"))).collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// Gets a token whose line is there when the answer is.
async fn issued(connection: &mut Connection, log: &Path) -> Answer {
    let answer = connection.token(&billing()).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(told(&read(log), &answer), [("token.issued".to_owned(), String::new())]);
    answer
}

/// Gets no token, in time, and is told to ask again.
async fn refused(connection: &mut Connection) -> Answer {
    let start = Instant::now();
    let answer = connection.token(&billing()).await.unwrap();
    assert!(start.elapsed() < PROMISE, "{:?}", start.elapsed());
    assert_eq!((answer.status, answer.error().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable"));
    assert!(answer.headers.contains_key(RETRY_AFTER) && !answer.text.contains("access_token"));
    answer
}

async fn assert_all_else_goes_on(server: &Process, connection: &mut Connection) {
    for path in ["/.well-known/jwks.json", "/.well-known/oauth-authorization-server"] {
        assert_eq!(connection.get(path).await.unwrap().status, StatusCode::OK, "{path}");
    }
    assert_eq!(server.operations("/livez").await.0, StatusCode::OK);
    let (status, body) = server.operations("/readyz?verbose").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains("[+] store\n") && body.contains("[-] audit\n"), "{body}");
}

async fn recovers(server: &Process) {
    let start = Instant::now();
    server.wait_ready(StatusCode::OK).await;
    assert!(start.elapsed() < RECOVERY, "{:?}", start.elapsed());
    assert!(server.operations("/readyz?verbose").await.1.contains("[+] audit\n"));
}

/// The refusals are written down once there is room, and nothing says that these tokens were issued.
async fn assert_refusals_are_told(log: &Path, refused: &[Answer]) {
    within(async {
        while refused.iter().any(|answer| told(&read(log), answer).is_empty()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let text = read(log);
    for answer in refused {
        assert_eq!(told(&text, answer), [("token.refused".to_owned(), "audit_unavailable".to_owned())]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_5_a_log_that_takes_nothing_issues_nothing_and_recovers_by_itself() {
    let site = site();
    let log = site.path(LOG);
    let mut server = site.start();
    let mut connection = connect(&server).await;
    issued(&mut connection, &log).await;

    limit_files(&server, "1");
    let mut refusals = Vec::new();
    for _ in 0..20 {
        refusals.push(refused(&mut connection).await);
    }
    assert!(server.is_alive());
    assert_all_else_goes_on(&server, &mut connection).await;

    limit_files(&server, "unlimited");
    recovers(&server).await;
    issued(&mut connection, &log).await;
    assert_refusals_are_told(&log, &refusals).await;
    let (_, metrics) = server.operations("/metrics").await;
    assert!(metrics.contains("certbind_audit_lines_lost 0\n"), "{metrics}");
    let stderr = server.stderr_at_end();
    let lines = json_lines(&stderr);
    let count = |message: &str| lines.iter().filter(|line| line["message"] == message).count();
    assert_eq!((count("the audit log cannot be written"), count("the audit log is written again")), (1, 1), "{stderr}");
    assert_eq!(verify(&site, &[LOG])["good"], true);
}

/// A way to take the log from a server so that it cannot make another one, and the way back.
type Theft = (fn(&Path), fn(&Path));

const THEFTS: [Theft; 4] = [
    (|folder| fs::remove_dir_all(folder).unwrap(), |folder| fs::create_dir(folder).unwrap()),
    (
        |folder| {
            fs::rename(folder.join(LOG), folder.with_extension("jsonl.1")).unwrap();
            fs::remove_dir(folder).unwrap();
        },
        |folder| fs::create_dir(folder).unwrap(),
    ),
    (
        |folder| {
            fs::remove_file(folder.join(LOG)).unwrap();
            fs::create_dir(folder.join(LOG)).unwrap();
        },
        |folder| fs::remove_dir(folder.join(LOG)).unwrap(),
    ),
    (
        |folder| {
            symlink("/dev/full", folder.join("link")).unwrap();
            fs::rename(folder.join("link"), folder.join(LOG)).unwrap();
        },
        |folder| fs::remove_file(folder.join(LOG)).unwrap(),
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_5_a_log_that_was_removed_or_replaced_issues_nothing_until_there_is_another() {
    let site = site();
    site.configure("[log]\naudit = \"file:log/audit.jsonl\"\naudit_required = true\n", "");
    let (folder, log) = (site.path("log"), site.path("log").join(LOG));
    fs::create_dir(&folder).unwrap();
    let server = site.start();
    let mut connection = connect(&server).await;
    for (take, give_back) in THEFTS {
        issued(&mut connection, &log).await;
        take(&folder);
        let refusals = [refused(&mut connection).await, refused(&mut connection).await];
        assert_all_else_goes_on(&server, &mut connection).await;
        give_back(&folder);
        recovers(&server).await;
        issued(&mut connection, &log).await;
        assert_refusals_are_told(&log, &refusals).await;
    }
    let lines = json_lines(&server.stderr_at_end());
    let count = |message: &str| lines.iter().filter(|line| line["message"] == message).count();
    let expected = (THEFTS.len(), THEFTS.len());
    assert_eq!((count("the audit log cannot be written"), count("the audit log is written again")), expected);
}

/// Nobody waits for the disk, but nothing goes where nobody finds it either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_5_lines_that_are_not_required_wait_for_the_next_log() {
    let site = site();
    site.configure("[log]\naudit = \"file:log/audit.jsonl\"\n", "");
    let (folder, log) = (site.path("log"), site.path("log").join(LOG));
    fs::create_dir(&folder).unwrap();
    let server = site.start();
    let mut connection = connect(&server).await;
    fs::remove_dir_all(&folder).unwrap();
    let mut answers = Vec::new();
    for _ in 0..3 {
        let answer = connection.token(&billing()).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        answers.push(answer);
    }
    within(async {
        while !server.stderr().contains("the audit log cannot be written") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    fs::create_dir(&folder).unwrap();
    within(async {
        let is_there = |answer| !told(&fs::read_to_string(&log).unwrap_or_default(), answer).is_empty();
        while !answers.iter().all(is_there) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(server.terminate().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_5_who_asks_how_the_server_stands_is_told_that_the_log_takes_nothing() {
    let site = site();
    let mut serve = site.serve();
    serve.args(["--set", "listen.admin.address=unix:admin.sock"]);
    let server = Process::ready(serve);
    let status = || {
        let mut command = certbind();
        command.args(["status", "--server", "unix:admin.sock"]).current_dir(site.dir());
        let (out, err, status) = output(&mut command);
        (status.code().unwrap(), format!("{out}{err}"))
    };
    let (code, told) = status();
    assert_eq!(code, 0, "{told}");
    assert!(!told.contains("not ready"), "{told}");
    limit_files(&server, "1");
    refused(&mut connect(&server).await).await;
    let (code, told) = status();
    assert_eq!(code, 1, "{told}");
    assert!(told.lines().any(|line| line.split_whitespace().eq(["not", "ready", "audit"])), "{told}");
    limit_files(&server, "unlimited");
    recovers(&server).await;
    assert_eq!(status().0, 0);
}

/// Another process that hangs with the file is as bad as a disk that does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_4_a_log_that_hangs_is_given_up_in_time() {
    let site = site();
    let log = site.path(LOG);
    let server = site.start();
    let mut connection = connect(&server).await;
    issued(&mut connection, &log).await;

    let held = File::open(&log).unwrap();
    held.lock().unwrap();
    let mut refusals = Vec::new();
    for _ in 0..5 {
        refusals.push(refused(&mut connection).await);
    }
    assert_all_else_goes_on(&server, &mut connection).await;
    drop(held);
    recovers(&server).await;
    issued(&mut connection, &log).await;
    assert_refusals_are_told(&log, &refusals).await;
    assert!(server.terminate().success());
    assert_eq!(verify(&site, &[LOG])["good"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_5_a_disk_that_fills_up_leaves_a_whole_log_and_room_makes_it_go_on() {
    if !Command::new("unshare").args(["-rm", "true"]).stderr(Stdio::null()).status().is_ok_and(|made| made.success()) {
        eprintln!("no small disk can be mounted here");
        return;
    }
    let site = site();
    site.configure("[log]\naudit = \"file:disk/audit.jsonl\"\naudit_required = true\n", "");
    fs::create_dir(site.path("disk")).unwrap();
    let (serve, mut on_small_disk) = (site.serve(), Command::new("unshare"));
    on_small_disk.args(["-rm", "sh", "-c", "mount -t tmpfs -o size=128k,mode=0700 tmpfs \"$0\" && exec \"$@\""]);
    on_small_disk.arg(site.path("disk")).arg(serve.get_program()).args(serve.get_args());
    let server = Process::ready(on_small_disk);
    let disk = PathBuf::from(format!("/proc/{}/root{}", server.pid(), site.path("disk").display()));
    let (log, ballast) = (disk.join(LOG), disk.join("ballast"));
    fs::write(&ballast, vec![0; 64 * 1024]).unwrap();

    let mut connection = connect(&server).await;
    let mut full = Vec::new();
    while full.is_empty() {
        let answer = within(connection.token(&billing())).await.unwrap();
        match answer.status {
            StatusCode::OK => assert_eq!(told(&read(&log), &answer), [("token.issued".to_owned(), String::new())]),
            _ => full.push(answer),
        }
    }
    for _ in 0..10 {
        full.push(refused(&mut connection).await);
    }
    assert_all_else_goes_on(&server, &mut connection).await;
    fs::remove_file(ballast).unwrap();
    recovers(&server).await;
    assert_refusals_are_told(&log, &full).await;
    for _ in 0..20 {
        issued(&mut connection, &log).await;
    }
    let found = verify(&site, &[log.to_str().unwrap()]);
    assert_eq!(found["good"], true, "{found:#}");
    assert!(server.terminate().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_1_after_kill_9_each_token_that_left_has_its_line() {
    const CLIENTS: usize = 8;
    let site = site();
    let mut left = Vec::new();
    for _ in 0..4 {
        let server = site.start();
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let mut connection = connect(&server).await;
            clients.push(tokio::spawn(async move {
                let mut left = Vec::new();
                while let Ok(answer) = connection.token(&billing()).await {
                    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
                    left.push(answer);
                }
                left
            }));
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
        server.kill();
        for client in clients {
            left.extend(within(client).await.unwrap());
        }
    }
    assert!(left.len() > 4 * CLIENTS, "{}", left.len());
    let text = read(&site.path(LOG));
    let issued: Vec<String> = text.lines().filter(|line| line.contains("token.issued")).map(str::to_owned).collect();
    for answer in &left {
        let lines = issued.iter().filter(|line| line.contains(answer.request_id())).count();
        assert_eq!(lines, 1, "{}", answer.request_id());
    }
    assert!(site.start().terminate().success());
    assert_eq!(verify(&site, &[LOG])["good"], true);
}

#[test]
fn what_is_required_needs_a_file() {
    let site = site();
    site.configure("[log]\naudit = \"log\"\naudit_required = true\n", "");
    let (_, stderr, status) = output(&mut site.serve());
    assert_eq!(status.code(), Some(6));
    assert!(stderr.contains("log.audit_required: needs a file"), "{stderr}");
}
