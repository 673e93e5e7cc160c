//! The socket: the owner's alone, replaced when nobody listens any more, and what goes on while the store is away.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::process::Command;
use std::time::{Duration, Instant};

use super::rig::{AdminSite, Api, Ask, CLIENTS, refused_configuration, registration};
use crate::process::rig::{Process, certbind, output, within};
use crate::support::BUSY;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_socket_is_the_owners_and_outlives_no_server_but_one_that_was_killed() {
    let site = AdminSite::new();
    let (server, mut api) = site.start("admin.sock").await;
    let socket = site.socket("admin.sock");
    let metadata = fs::symlink_metadata(&socket).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.mode() & 0o777, 0o600);
    api.gets(200, Ask::get(CLIENTS)).await;

    // A process that starts beside this one, as in a rolling restart, serves clients and waits for the socket.
    let mut command = site.site.serve();
    command.args(["--set", "listen.admin.address=unix:admin.sock"]);
    let beside = Process::ready(command);
    beside.assert_healthy().await;
    assert!(beside.stderr().contains("another process has the socket"), "{}", beside.stderr());
    api.gets(200, Ask::get(CLIENTS)).await;
    drop(api);
    assert!(server.terminate().success());
    within(async {
        while !beside.stderr().contains("the socket is ready") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    Api::connect(&socket).await.gets(200, Ask::get(CLIENTS)).await;
    let server = beside;

    server.kill();
    assert!(socket.exists(), "left behind");
    let (server, mut api) = site.start("admin.sock").await;
    api.gets(200, Ask::get(CLIENTS)).await;
    drop(api);
    assert!(server.terminate().success());
    assert!(!socket.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_user_does_not_get_in() {
    let site = AdminSite::new();
    let (_server, mut api) = site.start("admin.sock").await;
    api.gets(200, Ask::get(CLIENTS)).await;
    if !is_root() {
        return;
    }
    // As root the test can be somebody else. The folder lets them through, the socket does not; and were its mode wide
    // open, the server would ask the system who they are.
    let socket = site.socket("admin.sock");
    fs::set_permissions(site.site.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    let as_nobody = || {
        let mut curl = Command::new("setpriv");
        curl.args(["--reuid=65534", "--regid=65534", "--clear-groups", "curl", "-sS", "--unix-socket"]).arg(&socket);
        output(curl.arg("http://certbind/admin/v1/clients"))
    };
    let (out, _, status) = as_nobody();
    assert_eq!((status.code(), out.as_str()), (Some(7), ""), "curl cannot connect");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    let (out, said, _) = as_nobody();
    assert!(out.contains("#admin-unknown"), "{out} {said}");
    let request_id =
        serde_json::from_str::<serde_json::Value>(&out).unwrap()["request_id"].as_str().unwrap().to_owned();
    let refused = site.site.event(&request_id).await;
    assert_eq!((&refused["reason"], &refused["outcome"]), (&"admin_unknown".into(), &"failure".into()));
    assert_eq!(refused["actor"], "uid:65534");
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_is_never_where_others_can_reach_it() {
    let site = AdminSite::new();
    for address in ["unix:", "admin.sock", "localhost:9000", "9000", ""] {
        let said = refused_configuration(&site.site, &[&format!("listen.admin.address={address}")]);
        assert!(said.contains("listen.admin.address: "), "{address}: {said}");
    }
    // Over a network only by mutual TLS, which names who vouches for whom.
    for address in ["127.0.0.1:9000", "[::]:9000"] {
        let said = refused_configuration(&site.site, &[&format!("listen.admin.address={address}")]);
        for key in ["listen.admin.cert: is missing", "listen.admin.key: is missing", "listen.admin.ca: is missing"] {
            assert!(said.contains(key), "{address}: {said}");
        }
        assert!(said.contains("lets nobody in"), "{address}: {said}");
    }
    let open = site.site.path("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let (_, said, status) = output(site.site.serve().args(["--set", "listen.admin.address=unix:open/admin.sock"]));
    assert!(said.contains("others may write into"), "{said}");
    assert_eq!(status.code(), Some(6));
    assert_eq!(fs::read_dir(&open).unwrap().count(), 0);
}

#[test]
fn what_the_server_refuses_as_its_socket_the_check_of_the_configuration_refuses_too() {
    let site = AdminSite::new();
    let open = site.site.path("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(site.site.path("file"), "precious").unwrap();
    let long = "x".repeat(108);
    for (address, word) in
        [("open/admin.sock", "others may write into"), ("file", "is no socket"), (long.as_str(), "is too long")]
    {
        let set = format!("listen.admin.address=unix:{address}");
        let mut check = certbind();
        check.args(["config", "check", "--set", &set, "--config"]).arg(site.site.path("certbind.toml"));
        let (told, _, checked) = output(&mut check);
        assert!(told.contains("listen.admin.address: ") && told.contains(word), "{told}");
        let (_, said, served) = output(site.site.serve().args(["--set", &set]));
        assert!(said.contains("listen.admin.address: ") && said.contains(word), "{said}");
        assert_eq!((checked.code(), served.code()), (Some(6), Some(6)), "{address}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_whose_file_is_removed_is_made_again_and_told() {
    let site = AdminSite::new();
    let (server, api) = site.start("admin.sock").await;
    let socket = site.socket("admin.sock");
    fs::remove_file(&socket).unwrap();
    within(async {
        while !socket.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    Api::connect(&socket).await.gets(200, Ask::get(CLIENTS)).await;
    assert_eq!(fs::symlink_metadata(&socket).unwrap().mode() & 0o777, 0o600);
    assert!(server.stderr().contains("the socket is gone or another one"), "{}", server.stderr());
    drop(api);
    assert!(server.terminate().success());
    assert!(!socket.exists(), "it goes with the server");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_while_the_store_is_away_changes_fail_in_time_and_clients_are_shown() {
    let site = AdminSite::new();
    let (_server, mut api) = site.start("admin.sock").await;
    api.gets(201, Ask::create(&registration("new", "a"))).await;
    let database = rusqlite::Connection::open(site.site.path("data/certbind.db")).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    for ask in [
        Ask::create(&registration("more", "a")),
        Ask::patch("new", &registration("new", "b")).if_match("*"),
        Ask::delete("new").if_match("*"),
    ] {
        let began = Instant::now();
        let refused = api.gets(503, ask).await;
        assert!(began.elapsed() < Duration::from_secs(2 + BUSY), "{:?}", began.elapsed());
        assert_eq!((refused.problem().as_str(), refused.header("retry-after")), ("store-unavailable", "1"));
        api.gets(200, Ask::get(&format!("{CLIENTS}/new"))).await;
    }
    database.execute_batch("ROLLBACK").unwrap();
    drop(database);
    let mut api = Api::connect(&site.socket("admin.sock")).await;
    api.gets(201, Ask::create(&registration("more", "a"))).await;
    api.gets(200, Ask::get(&format!("{CLIENTS}/new"))).await;
}
