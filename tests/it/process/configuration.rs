//! The configuration file changes while requests run: it is taken as a whole, or not at all.

use std::fs;
use std::time::Duration;

use certbind_devpki::{Identity, Issuer, LeafSpec, Validity};
use certbind_proto::time::{Clock as _, SystemClock};
use hyper::{StatusCode, Version};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::client::{Connection, billing, client};
use super::rig::{PKI, Process, Site, within};
use super::traffic::Traffic;

const FAILED: &str = "certbind_config_last_reload_successful 0";
const SUCCEEDED: &str = "certbind_config_last_reload_successful 1";

/// One connection of each version.
async fn open(server: &Process, who: &Identity) -> [Connection; 2] {
    let open = async |version| server.connect(Some(who), version).await.unwrap();
    [open(Version::HTTP_11).await, open(Version::HTTP_2).await]
}

async fn lifetime(connection: &mut Connection) -> u64 {
    connection.token(&billing()).await.unwrap().json()["expires_in"].as_u64().unwrap()
}

async fn metrics(server: &Process) -> String {
    server.operations("/metrics").await.1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_a_changed_configuration_counts_for_the_next_request_of_an_open_connection() {
    let site = Site::new();
    let server = site.start();
    let traffic = Traffic::start(&server).await;
    let mut connections = open(&server, &PKI.billing.identity).await;
    let asked_for = "scope=payments%3Aread&resource=https%3A%2F%2Flocalhost%3A8444";
    let body = format!("{}&{asked_for}", billing().encode());

    site.edit("[limits]\n", "[tokens]\nlifetime = \"10m\"\n\n[limits]\nmax_body_bytes = 4096\n");
    site.events("config.reloaded", "tokens.lifetime: \"5m\" -> \"10m\"", 1).await;
    for connection in &mut connections {
        assert_eq!(lifetime(connection).await, 600);
    }
    // A connection ends with a body that it does not take.
    let long = format!("{}&x={}", billing().encode(), "x".repeat(5000));
    for mut connection in open(&server, &PKI.billing.identity).await {
        assert_eq!(connection.post(long.clone(), &[]).await.unwrap().status, StatusCode::PAYLOAD_TOO_LARGE);
    }

    site.edit(
        "[limits]\n",
        "[[resource]]\nidentifier = \"https://elsewhere.test\"\nscope = \"payments:read\"\n\n[limits]\n",
    );
    site.events("config.reloaded", "resource.0.scope", 1).await;
    for connection in &mut connections {
        assert_eq!(connection.post(body.clone(), &[]).await.unwrap().error(), "invalid_scope");
    }
    assert!(metrics(&server).await.contains(SUCCEEDED));
    let issued = traffic.stop().await;
    assert!(issued > 50, "{issued}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_what_needs_a_restart_refuses_the_whole_file_by_name() {
    let site = Site::new();
    let server = site.start();
    let [mut connection, _] = open(&server, &PKI.billing.identity).await;
    site.edit("[limits]\n", "[tokens]\nlifetime = \"10m\"\n\n[limits]\n");
    site.edit("data_dir = \"data\"", "data_dir = \"other\"");
    site.events("config.rejected", "a restart is needed for a new value of data_dir;", 1).await;
    assert_eq!(lifetime(&mut connection).await, 300, "half of the file was taken");
    assert!(metrics(&server).await.contains(FAILED));

    site.edit("data_dir = \"other\"", "data_dir = \"data\"");
    site.events("config.reloaded", "tokens.lifetime", 1).await;
    assert_eq!(lifetime(&mut connection).await, 600);
    assert!(metrics(&server).await.contains(SUCCEEDED));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_41_a_bad_configuration_changes_nothing_and_is_told_once() {
    let site = Site::new();
    let mut server = site.start();
    let [mut connection, _] = open(&server, &PKI.billing.identity).await;
    let good = fs::read_to_string(site.path("certbind.toml")).unwrap();
    let spoils: [(&str, &str); 4] = [
        ("issuer   = ", "issuer"),
        ("[limits]\n", "[limits]\nidle_timout = \"5s\"\n"),
        ("[limits]\n", "[tokens]\nlifetime = \"for ever\"\n\n[limits]\n"),
        ("ca   = \"file:ca.pem\"", "ca   = \"file:gone.pem\""),
    ];
    for (round, (from, to)) in spoils.into_iter().enumerate() {
        site.edit(from, to);
        site.events("config.rejected", "configuration: ", round + 1).await;
        assert_eq!(lifetime(&mut connection).await, 300, "{to}");
        assert!(metrics(&server).await.contains(FAILED), "{to}");
        server.signal("HUP");
        site.write("certbind.toml", &good);
        site.events("config.reloaded", "configuration: as it was before", round + 1).await;
        assert!(metrics(&server).await.contains(SUCCEEDED), "{to}");
    }
    fs::remove_file(site.path("certbind.toml")).unwrap();
    site.events("config.rejected", "configuration: ", spoils.len() + 1).await;
    assert!(server.is_alive());
    server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_takes_everything_at_once_and_fails_nobody() {
    let site = Site::new();
    let server = site.start();
    let traffic = Traffic::start(&server).await;
    let [mut connection, _] = open(&server, &PKI.billing.identity).await;
    for (round, minutes) in (6..=10).enumerate() {
        site.edit("[limits]\n", &format!("[tokens]\nlifetime = \"{minutes}m\"\n\n[limits]\n"));
        server.signal("HUP");
        site.events("config.reloaded", "tokens.lifetime", 2 * round + 1).await;
        assert_eq!(lifetime(&mut connection).await, minutes * 60);
        site.edit(&format!("[tokens]\nlifetime = \"{minutes}m\"\n\n"), "");
        server.signal("HUP");
        site.events("config.reloaded", "tokens.lifetime", 2 * round + 2).await;
    }
    traffic.stop().await;
    server.assert_healthy().await;
}

/// Somebody else's authority, and a client of it.
fn other_authority() -> (Issuer, Identity) {
    let validity = Validity::days_from(SystemClock.now().unix() - 3600, 30);
    let other = Issuer::root("another root", validity).unwrap();
    let guest = other.leaf(&LeafSpec::client("guest", validity).uri("spiffe://other.test/guest")).unwrap();
    (other, guest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_a_trust_group_that_is_added_and_taken_away_is_so_on_open_connections() {
    let site = Site::new();
    let server = site.start();
    let (other, guest) = other_authority();
    site.write("other.pem", &other.certificate_pem());
    let mut connections = open(&server, &guest).await;
    let group = "[[trust]]\nname = \"partner\"\nca = \"file:other.pem\"\n\n[clients]";
    let registration = fs::read_to_string(site.path("clients.d/billing.toml")).unwrap();
    let registration = registration.replace("\"billing\"", "\"guest\"").replace("\"dev\"", "\"partner\"");
    let registration = registration.replace("spiffe://certbind.dev/billing", "spiffe://other.test/guest");
    site.write("clients.d/guest.toml", &registration);
    site.events("config.rejected", "guest.toml", 1).await;

    for round in 1..=3 {
        site.edit("[clients]", group);
        site.events("config.reloaded", "trust.1.name", 2 * round - 1).await;
        for connection in &mut connections {
            let answer = connection.token(&client("guest")).await.unwrap();
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        }
        site.edit(group, "[clients]");
        site.events("config.reloaded", "trust.1.name", 2 * round).await;
        for connection in &mut connections {
            let answer = connection.token(&client("guest")).await.unwrap();
            assert_eq!(answer.error(), "invalid_client");
            assert_eq!(site.event(answer.request_id()).await["reason"], "trust_unknown");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_a_trust_group_gets_another_name_and_no_client_of_it_is_refused() {
    let site = Site::new();
    let server = site.start();
    let traffic = Traffic::start(&server).await;
    for round in 1..=4 {
        let (from, to) = if round % 2 == 1 { ("dev", "corp") } else { ("corp", "dev") };
        let text = fs::read_to_string(site.path("clients.d/billing.toml")).unwrap();
        site.write(
            "clients.d/billing.toml",
            &text.replace(&format!("trust = \"{from}\""), &format!("trust = \"{to}\"")),
        );
        site.edit(&format!("name = \"{from}\""), &format!("name = \"{to}\""));
        site.events("config.reloaded", "trust.0.name", round).await;
        site.events("client.changed", "changed", round).await;
    }
    traffic.stop().await;
    assert!(metrics(&server).await.contains(SUCCEEDED));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_gets_louder_and_quieter_without_a_restart() {
    let site = Site::new();
    let server = site.start();
    let failed = || server.stderr().matches("handshake failed").count();
    let spoil = async || {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let _ = within(stream.read_to_end(&mut Vec::new())).await;
    };
    spoil().await;
    site.edit("level = \"info\"", "level = \"debug\"");
    site.events("config.reloaded", "log.level", 1).await;
    assert_eq!(failed(), 0);
    spoil().await;
    within(async {
        while failed() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    site.edit("level = \"debug\"", "level = \"error\"");
    site.events("config.reloaded", "log.level", 2).await;
    spoil().await;
    assert_eq!(server.stderr_at_end().matches("handshake failed").count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fewer_connections_may_be_open_and_then_more() {
    let site = Site::new();
    let server = site.start();
    let mut connections = open(&server, &PKI.billing.identity).await;
    for connection in &mut connections {
        assert_eq!(lifetime(connection).await, 300);
    }
    site.edit("[limits]\n", "[limits]\nconnections = 2\n");
    site.events("config.reloaded", "limits.connections", 1).await;
    assert!(server.connect(Some(&PKI.billing.identity), Version::HTTP_2).await.is_err());
    for connection in &mut connections {
        assert_eq!(lifetime(connection).await, 300, "an open connection was closed");
    }
    site.edit("connections = 2\n", "connections = 3\n");
    site.events("config.reloaded", "limits.connections", 2).await;
    assert!(server.connect(Some(&PKI.billing.identity), Version::HTTP_2).await.is_ok());
}
