//! Clients of the store, changed by one process: in force on every server of that store within a second.

use std::time::{Duration, Instant};

use certbind::store::sqlite::{Settings, SqliteStore};
use certbind::store::{ClientStore as _, Expected, Revision, Written};
use certbind_proto::time::{Clock as _, SystemClock};
use hyper::{StatusCode, Version};
use serde_json::{Value, json};

use super::client::{Connection, client};
use super::rig::{PKI, Site};
use crate::support::BUSY;

/// Until a change counts on every server.
const BOUND: Duration = Duration::from_secs(1 + BUSY);

fn registration(state: &str, scope: &str) -> Value {
    json!({
        "client_id": "stored",
        "token_endpoint_auth_method": "tls_client_auth",
        "tls_client_auth_san_uri": "spiffe://certbind.dev/billing",
        "scope": scope,
        "certbind": { "trust": "dev", "audiences": ["https://localhost:8444"], "state": state },
    })
}

async fn put(store: &SqliteStore, metadata: &Value, expected: Expected) -> Revision {
    let written = store.put_client("stored".into(), metadata.to_string(), expected, SystemClock.now()).await.unwrap();
    let Written::Done(revision) = written else { panic!("{written:?}") };
    revision
}

/// Asks over these connections until each gets this answer.
async fn soon(what: &str, connections: &mut [Connection], good: impl Fn(StatusCode, &Value) -> bool) {
    let began = Instant::now();
    for connection in connections {
        loop {
            let answer = connection.token(&client("stored")).await.unwrap();
            if good(answer.status, &answer.json()) {
                break;
            }
            assert!(began.elapsed() < BOUND, "{what}: {} {}", answer.status, answer.text);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_a_client_of_the_store_is_in_force_on_every_server_within_a_second_also_on_open_connections() {
    let site = Site::new();
    let servers = [site.start(), site.start()];
    let mut connections = Vec::new();
    for server in &servers {
        connections.push(server.connect(Some(&PKI.billing.identity), Version::HTTP_2).await.unwrap());
    }
    let connections = &mut connections;
    let store = SqliteStore::open(&Settings::new(site.path("data")), SystemClock.now()).unwrap();
    let refused = |status, _: &Value| status == StatusCode::BAD_REQUEST;
    soon("there is none", connections, refused).await;

    put(&store, &registration("active", "payments:read"), Expected::Absent).await;
    soon("created", connections, |status, _| status == StatusCode::OK).await;
    put(&store, &registration("active", "payments:write"), Expected::Present).await;
    soon("changed", connections, |_, answer| answer["scope"] == "payments:write").await;
    put(&store, &registration("disabled", "payments:write"), Expected::Present).await;
    soon("disabled", connections, refused).await;
    let revision = put(&store, &registration("active", "payments:write"), Expected::Present).await;
    soon("enabled", connections, |status, _| status == StatusCode::OK).await;
    let gone = store.delete_client("stored".into(), Expected::Revision(revision), SystemClock.now()).await.unwrap();
    assert!(matches!(gone, Written::Done(_)));
    soon("removed", connections, refused).await;

    for server in servers {
        assert!(server.terminate().success());
    }
    let told = site.audit().into_iter().filter(|event| event["event"] == "client.changed");
    let told: Vec<_> = told.map(|event| event["detail"].as_str().unwrap_or_default().to_owned()).collect();
    for what in ["added", "changed", "removed"] {
        assert!(told.iter().filter(|detail| *detail == what).count() >= 2, "each server says {what}: {told:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_the_store_that_the_rules_refuse_stops_no_start_and_a_file_wins() {
    let site = Site::new();
    {
        let store = SqliteStore::open(&Settings::new(site.path("data")), SystemClock.now()).unwrap();
        let mut unknown_group = registration("active", "a");
        unknown_group["certbind"]["trust"] = "gone".into();
        put(&store, &unknown_group, Expected::Absent).await;
        let mut twin = registration("disabled", "of:store");
        twin["client_id"] = "billing".into();
        let now = SystemClock.now();
        store.put_client("billing".into(), twin.to_string(), Expected::Absent, now).await.unwrap();
    }
    let server = site.start();
    server.assert_healthy().await;
    let (_, metrics) = server.operations("/metrics").await;
    assert!(metrics.contains("certbind_config_last_reload_successful 0"), "{metrics}");
    let said = server.stderr_at_end();
    for part in [
        "a client of the store is not in force: certbind.trust: name a trust group of the configuration",
        "a client of the store does not count: a file in clients.dir has the same client_id",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
}
