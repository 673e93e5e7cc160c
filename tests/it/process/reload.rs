//! Files that change under traffic: nobody who is still good notices, who is taken back is refused, and what is broken changes nothing.

use std::fs;
use std::time::Duration;

use certbind_devpki::{Client, Identity, LeafSpec, Validity};
use certbind_proto::cert::Certificate;
use certbind_proto::time::{Clock as _, SystemClock};
use hyper::{StatusCode, Version};
use rustls_pki_types::CertificateDer;
use serde_json::Value;

use super::client::{Asserter, Connection, billing, by_assertion, client, tls};
use super::rig::{PKI, Process, Site};
use super::traffic::Traffic;

/// Replaces the list of revoked certificates by one that has these as well.
fn revoke(site: &Site, number: u64, clients: &[&Client]) {
    let validity = Validity::days_from(SystemClock.now().unix() - 3600, 30);
    let crl = PKI.revoke(number, clients, validity).unwrap();
    site.write("crl.pem", &(crl.pem() + &PKI.root_crl.pem()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_14_reloads_under_traffic_fail_nobody_and_count_at_once() {
    const RELOADS: u64 = 6;
    let site = Site::new();
    let sibling = fs::read_to_string(site.path("clients.d/billing.toml")).unwrap().replace("billing", "sibling");
    site.write("clients.d/sibling.toml", &sibling);
    let server = site.start();
    let traffic = Traffic::start(&server).await;
    let mut open = server.connect(Some(&PKI.sibling.identity), Version::HTTP_2).await.unwrap();
    let mut reloads = 0;
    for round in 1..=RELOADS {
        let taken_back = round % 2 == 1;
        let listed: &[&Client] = if taken_back { &[&PKI.sibling] } else { &[] };
        revoke(&site, round, listed);
        reloads += 1;
        site.events("config.reloaded", "", reloads).await;
        let answer = open.token(&client("sibling")).await.unwrap();
        assert_eq!(answer.status == StatusCode::OK, !taken_back, "round {round}: {}", answer.text);
        if taken_back {
            assert_eq!(site.event(answer.request_id()).await["reason"], "certificate_revoked");
        }
    }
    assert!(traffic.stop().await > 100);
    server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_41_a_broken_file_changes_nothing_and_is_told() {
    let site = Site::new();
    revoke(&site, 1, &[&PKI.billing]);
    let server = site.start();
    let mut connection = server.connect(Some(&PKI.billing.identity), Version::HTTP_2).await.unwrap();
    let good = fs::read_to_string(site.path("crl.pem")).unwrap();
    let cut = &good[..good.len() / 2];
    for (round, broken) in ["", "garbage", cut].into_iter().enumerate() {
        site.write("crl.pem", broken);
        site.events("config.rejected", "", round + 1).await;
        assert_eq!(connection.token(&billing()).await.unwrap().error(), "invalid_client", "{broken}");
        let (_, metrics) = server.operations("/metrics").await;
        assert!(metrics.contains("certbind_config_last_reload_successful 0"), "{metrics}");
    }
    fs::remove_file(site.path("crl.pem")).unwrap();
    site.events("config.rejected", "", 4).await;
    assert_eq!(connection.token(&billing()).await.unwrap().error(), "invalid_client");

    revoke(&site, 2, &[]);
    site.events("config.reloaded", "", 1).await;
    assert_eq!(connection.token(&billing()).await.unwrap().status, StatusCode::OK);
    let (_, metrics) = server.operations("/metrics").await;
    assert!(metrics.contains("certbind_config_last_reload_successful 1"), "{metrics}");
}

/// Replaces the server's certificate and its key, one after the other.
fn renew(site: &Site, days: i64) -> Identity {
    let validity = Validity::days_from(SystemClock.now().unix() - 3600, days);
    let renewed = PKI.intermediate.leaf(&LeafSpec::server(validity)).unwrap();
    site.write("server.pem", &renewed.chain_pem());
    site.write_private("server.key", &renewed.key_pem());
    renewed
}

/// The chain that a new connection is shown.
async fn shown(server: &Process) -> Vec<CertificateDer<'static>> {
    let stream = tls(server.address, None, &["h2"]).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap().to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_a_renewed_server_certificate_is_shown_and_a_bad_pair_is_not() {
    let site = Site::new();
    let server = site.start();
    let traffic = Traffic::start(&server).await;
    let renewed = renew(&site, 20);
    site.events("config.reloaded", "", 1).await;
    assert_eq!(shown(&server).await, renewed.chain());
    let ends = |days| format!("certbind_server_certificate_expiry_timestamp_seconds{{listener=\"mtls\"}} {days}");
    let not_after = Certificate::parse(renewed.certificate()).unwrap().not_after().unix();
    let (_, metrics) = server.operations("/metrics").await;
    assert!(metrics.contains(&ends(not_after)), "{metrics}");

    site.write("server.pem", &PKI.billing.identity.chain_pem());
    site.events("config.rejected", "", 1).await;
    assert!(site.audit().iter().any(|event| event["detail"].to_string().contains("listen.mtls.key")));
    assert_eq!(shown(&server).await, renewed.chain());
    let (_, metrics) = server.operations("/metrics").await;
    assert!(metrics.contains("certbind_config_last_reload_successful 0") && metrics.contains(&ends(not_after)));

    let again = renew(&site, 25);
    site.events("config.reloaded", "", 2).await;
    assert_eq!(shown(&server).await, again.chain());
    let (_, metrics) = server.operations("/metrics").await;
    assert!(metrics.contains("certbind_config_last_reload_successful 1") && !metrics.contains(&ends(not_after)));
    assert!(traffic.stop().await > 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_25_killed_in_the_middle_of_a_reload_it_comes_back_by_itself() {
    let site = Site::new();
    for round in 1..=5 {
        let server = site.start();
        let assertion = Asserter::batch().fresh();
        let mut connection = batch(&server).await;
        assert_eq!(connection.token(&by_assertion(&assertion)).await.unwrap().status, StatusCode::OK);
        revoke(&site, round, &[]);
        tokio::time::sleep(Duration::from_millis(60 * round)).await;
        server.kill();

        let server = site.start();
        let mut connection = batch(&server).await;
        assert_eq!(connection.token(&by_assertion(&assertion)).await.unwrap().error(), "invalid_client");
        server.assert_healthy().await;
    }
    let torn = |event: &Value| event["event"].is_null();
    assert!(!site.audit().iter().any(torn), "a line of the audit log is torn");
}

async fn batch(server: &Process) -> Connection {
    server.connect(Some(&PKI.batch.identity), Version::HTTP_11).await.unwrap()
}
