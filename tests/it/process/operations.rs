//! The operations listener: health, readiness, version and metrics, and nothing of the OAuth surface.

use std::collections::BTreeSet;

use hyper::{Method, StatusCode, Version};

use super::client::{Asserter, billing, by_assertion, client};
use super::rig::{PKI, Process, Site};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operations_listener_answers_what_it_should_and_nothing_else() {
    let site = Site::new();
    let server = site.start();
    for (path, content_type, part) in [
        ("/livez", "text/plain; charset=utf-8", "ok\n"),
        ("/readyz", "text/plain; charset=utf-8", "ok\n"),
        ("/readyz?verbose", "text/plain; charset=utf-8", "[+] store\n"),
        ("/version", "text/plain; charset=utf-8", env!("CARGO_PKG_VERSION")),
        ("/metrics", "application/openmetrics-text; version=1.0.0; charset=utf-8", "certbind_build_info{"),
    ] {
        let answer = server.ask_operations(Method::GET, path).await;
        assert_eq!((answer.status, answer.headers["content-type"].to_str().unwrap()), (StatusCode::OK, content_type));
        assert!(answer.text.contains(part), "{path}: {}", answer.text);
        assert_eq!(answer.headers["cache-control"], "no-store");
    }
    let (_, metrics) = server.operations("/metrics").await;
    assert!(metrics.ends_with("# EOF\n"), "OpenMetrics has an end, so that half an answer shows");

    let refused = server.ask_operations(Method::POST, "/metrics").await;
    assert_eq!(
        (refused.status, refused.headers["allow"].to_str().unwrap()),
        (StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD")
    );
    for path in ["/", "/oauth2/token", "/.well-known/jwks.json", "/metrics/"] {
        assert_eq!(server.operations(path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
}

/// The settled names, and the labels of each.
const METRICS: &[(&str, &[&str])] = &[
    ("certbind_build_info", &["version"]),
    ("certbind_token_requests_total", &["auth_method", "result"]),
    ("certbind_token_request_duration_seconds", &["auth_method"]),
    ("certbind_client_auth_failures_total", &["auth_method", "reason"]),
    ("certbind_tls_handshakes_total", &["listener", "version", "result"]),
    ("certbind_tls_handshake_duration_seconds", &[]),
    ("certbind_connections", &["listener"]),
    ("certbind_http_request_duration_seconds", &["listener", "route", "code"]),
    ("certbind_signing_duration_seconds", &["algorithm"]),
    ("certbind_signing_key_expiry_timestamp_seconds", &["kid"]),
    ("certbind_server_certificate_expiry_timestamp_seconds", &["listener"]),
    ("certbind_crl_next_update_timestamp_seconds", &["trust"]),
    ("certbind_jwks_fetches_total", &["result"]),
    ("certbind_replay_entries", &[]),
    ("certbind_store_operation_duration_seconds", &["operation"]),
    ("certbind_rate_limited_total", &["reason"]),
    ("certbind_config_last_reload_successful", &[]),
    ("certbind_audit_lines_lost", &[]),
    ("certbind_audit_store_lines_lost", &[]),
    ("certbind_audit_writable", &["place"]),
];

/// A little of everything that is counted.
async fn be_busy(server: &Process) {
    let of_billing = Some(&PKI.billing.identity);
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let mut connection = server.connect(of_billing, version).await.unwrap();
        for _ in 0..2 {
            connection.token(&billing()).await.unwrap();
        }
        connection.token(&client("nobody")).await.unwrap();
        connection.get("/.well-known/jwks.json").await.unwrap();
    }
    let mut connection = server.connect(Some(&PKI.batch.identity), Version::HTTP_11).await.unwrap();
    assert_eq!(connection.token(&by_assertion(&Asserter::batch().fresh())).await.unwrap().status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_settled_metric_is_there_with_its_labels_and_no_client_is_in_any() {
    let site = Site::new();
    let mut serve = site.serve();
    serve.args(["--set", "limits.token_requests_per_client=3/h"]);
    let server = Process::ready(serve);
    be_busy(&server).await;
    let (_, text) = server.operations("/metrics").await;
    for (name, labels) in METRICS {
        let samples = text.lines().filter_map(|line| line.strip_prefix(name)).map(|rest| {
            let rest = rest.strip_prefix("_count").or(rest.strip_prefix("_sum")).unwrap_or(rest);
            labels_of(rest)
        });
        let found: BTreeSet<_> = samples.flatten().collect();
        let expected: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        assert_eq!(found, BTreeSet::from([expected]), "{name} in\n{text}");
    }
    for client_id in ["billing", "batch", "nobody"] {
        assert!(!text.contains(client_id), "{client_id} in\n{text}");
    }
}

/// The names of a sample's labels; `None` when it is a sample of another metric.
fn labels_of(sample: &str) -> Option<Vec<String>> {
    if sample.starts_with(' ') {
        return Some(Vec::new());
    }
    let (labels, _) = sample.strip_prefix('{')?.split_once("} ")?;
    Some(labels.split("\",").map(|label| label.split('=').next().unwrap_or_default().to_owned()).collect())
}
