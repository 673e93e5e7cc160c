//! Counters and histograms in Prometheus' base units. Labels come from closed sets: never a client, never a peer's text.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Every metric of the server.
pub struct Metrics {
    registry: Registry,
    token_requests: Family<TokenRequest, Counter>,
    token_request_duration: Family<AuthMethod, Histogram>,
    client_auth_failures: Family<AuthFailure, Counter>,
    tls_handshakes: Family<Handshake, Counter>,
    tls_handshake_duration: Histogram,
    connections: Family<Listener, Gauge>,
    http_request_duration: Family<HttpRequest, Histogram>,
    signing_duration: Family<Algorithm, Histogram>,
    store_operation_duration: Family<Operation, Histogram>,
    jwks_fetches: Family<Outcome, Counter>,
    rate_limited: Family<Reason, Counter>,
    config_last_reload_successful: Gauge,
    rejected: Mutex<BTreeSet<String>>,
    /// Audit lines that did not fit into the queue.
    pub audit_lines_lost: Gauge,
    /// Audit lines for the store that are lost and not yet told.
    pub audit_store_lines_lost: Gauge,
    audit_writable: Family<Place, Gauge>,
    /// `jti`s that are remembered.
    pub replay_entries: Gauge,
    server_certificate_expiry: Family<Listener, Gauge<f64, AtomicU64>>,
    crl_next_update: Family<Trust, Gauge<f64, AtomicU64>>,
    signing_key_expiry: Family<Key, Gauge<f64, AtomicU64>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenRequest {
    auth_method: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AuthMethod {
    auth_method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AuthFailure {
    auth_method: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Handshake {
    listener: String,
    version: &'static str,
    result: &'static str,
}

/// A listener's name that costs no allocation to count by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Name(Arc<str>);

impl EncodeLabelValue for Name {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&&*self.0, encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HttpRequest {
    listener: Name,
    route: &'static str,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Listener {
    listener: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Algorithm {
    algorithm: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Key {
    kid: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Place {
    place: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Trust {
    trust: String,
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_05, 2.0, 18))
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("certbind"),
            token_requests: Family::default(),
            token_request_duration: Family::new_with_constructor(seconds),
            client_auth_failures: Family::default(),
            tls_handshakes: Family::default(),
            tls_handshake_duration: seconds(),
            connections: Family::default(),
            http_request_duration: Family::new_with_constructor(seconds),
            signing_duration: Family::new_with_constructor(seconds),
            store_operation_duration: Family::new_with_constructor(seconds),
            jwks_fetches: Family::default(),
            rate_limited: Family::default(),
            config_last_reload_successful: Gauge::default(),
            rejected: Mutex::default(),
            audit_lines_lost: Gauge::default(),
            audit_store_lines_lost: Gauge::default(),
            audit_writable: Family::default(),
            replay_entries: Gauge::default(),
            server_certificate_expiry: Family::default(),
            crl_next_update: Family::default(),
            signing_key_expiry: Family::default(),
        };
        metrics.config_last_reload_successful.set(1);
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let build = Family::<BuildInfo, Gauge>::default();
        build.get_or_create(&BuildInfo { version: env!("CARGO_PKG_VERSION") }).set(1);
        let r = &mut self.registry;
        r.register("build_info", "The version that runs", build);
        r.register("token_requests", "Token requests", self.token_requests.clone());
        r.register("token_request_duration_seconds", "Time from form to answer", self.token_request_duration.clone());
        r.register("client_auth_failures", "Refused client authentications", self.client_auth_failures.clone());
        r.register("tls_handshakes", "TLS handshakes", self.tls_handshakes.clone());
        r.register("tls_handshake_duration_seconds", "Time of a TLS handshake", self.tls_handshake_duration.clone());
        r.register("connections", "Open connections", self.connections.clone());
        r.register("http_request_duration_seconds", "Time of an HTTP request", self.http_request_duration.clone());
        r.register("signing_duration_seconds", "Time to make and sign a token", self.signing_duration.clone());
        r.register(
            "store_operation_duration_seconds",
            "Time of a call to the store",
            self.store_operation_duration.clone(),
        );
        r.register("jwks_fetches", "Fetches of clients' jwks_uri", self.jwks_fetches.clone());
        r.register("rate_limited", "Requests answered with 429", self.rate_limited.clone());
        r.register(
            "config_last_reload_successful",
            "Whether the last change of every watched file was taken over",
            self.config_last_reload_successful.clone(),
        );
        r.register("audit_lines_lost", "Audit lines that are lost and not yet told", self.audit_lines_lost.clone());
        let of_store = self.audit_store_lines_lost.clone();
        r.register("audit_store_lines_lost", "Audit lines for the store that are lost and not yet told", of_store);
        let writable = "Whether a place of the audit log took the last line";
        r.register("audit_writable", writable, self.audit_writable.clone());
        r.register("replay_entries", "Assertion ids that are remembered", self.replay_entries.clone());
        r.register(
            "server_certificate_expiry_timestamp_seconds",
            "The last second of a listener's certificate",
            self.server_certificate_expiry.clone(),
        );
        r.register(
            "signing_key_expiry_timestamp_seconds",
            "When the successor of a signing key takes over, or the last token of an older one has expired",
            self.signing_key_expiry.clone(),
        );
        r.register(
            "crl_next_update_timestamp_seconds",
            "The first nextUpdate of a trust group's revocation lists",
            self.crl_next_update.clone(),
        );
    }

    /// A token request was answered.
    pub fn token_request(&self, auth_method: &'static str, result: &'static str, took: Duration) {
        self.token_requests.get_or_create(&TokenRequest { auth_method, result }).inc();
        self.token_request_duration.get_or_create(&AuthMethod { auth_method }).observe(took.as_secs_f64());
    }

    /// A client was not authenticated.
    pub fn client_auth_failure(&self, auth_method: &'static str, reason: &'static str) {
        self.client_auth_failures.get_or_create(&AuthFailure { auth_method, reason }).inc();
    }

    /// A TLS handshake ended.
    pub fn tls_handshake(&self, listener: &str, version: &'static str, result: &'static str, took: Duration) {
        self.tls_handshakes.get_or_create(&Handshake { listener: listener.to_owned(), version, result }).inc();
        self.tls_handshake_duration.observe(took.as_secs_f64());
    }

    /// A connection was opened (+1) or closed (-1).
    pub fn connections(&self, listener: &str, change: i64) {
        self.connections.get_or_create(&Listener { listener: listener.to_owned() }).inc_by(change);
    }

    /// An HTTP request was answered.
    pub fn http_request(&self, listener: &Arc<str>, route: &'static str, code: u16, took: Duration) {
        let labels = HttpRequest { listener: Name(Arc::clone(listener)), route, code };
        self.http_request_duration.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A token was made and signed.
    pub fn signing(&self, algorithm: &'static str, took: Duration) {
        self.signing_duration.get_or_create(&Algorithm { algorithm }).observe(took.as_secs_f64());
    }

    /// The store answered, well or badly.
    pub fn store_operation(&self, operation: &'static str, took: Duration) {
        self.store_operation_duration.get_or_create(&Operation { operation }).observe(took.as_secs_f64());
    }

    /// The last change of these files was taken over.
    pub fn reload_succeeded(&self, files: &str) {
        self.reload(|rejected| rejected.remove(files));
    }

    /// The last change of these files was not taken over. What becomes of other files does not make it forgotten.
    pub fn reload_failed(&self, files: &str) {
        self.reload(|rejected| rejected.insert(files.to_owned()));
    }

    /// The files whose last change was not taken over.
    #[must_use]
    pub fn rejected(&self) -> Vec<String> {
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn reload(&self, change: impl FnOnce(&mut BTreeSet<String>) -> bool) {
        let mut rejected = self.rejected.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut rejected);
        self.config_last_reload_successful.set(i64::from(rejected.is_empty()));
    }

    /// How many fetches of clients' keys there were so far.
    pub fn jwks_fetches(&self, succeeded: u64, failed: u64) {
        for (result, count) in [("ok", succeeded), ("failed", failed)] {
            self.jwks_fetches.get_or_create(&Outcome { result }).inner().store(count, Ordering::Relaxed);
        }
    }

    /// A request was answered with 429.
    pub fn rate_limited(&self, reason: &'static str) {
        self.rate_limited.get_or_create(&Reason { reason }).inc();
    }

    /// When a listener's certificate ends, in Unix seconds.
    pub fn server_certificate_expiry(&self, listener: &str, unix: f64) {
        self.server_certificate_expiry.get_or_create(&Listener { listener: listener.to_owned() }).set(unix);
    }

    /// Whether a place of the audit log took the last line that it was given.
    pub fn audit_writable(&self, place: &'static str, is_writable: bool) {
        self.audit_writable.get_or_create(&Place { place }).set(i64::from(is_writable));
    }

    /// There may be fewer trust groups than before.
    pub fn forget_crls(&self) {
        self.crl_next_update.clear();
    }

    /// When a trust group's revocation lists are due, in Unix seconds.
    pub fn crl_next_update(&self, trust: &str, unix: f64) {
        self.crl_next_update.get_or_create(&Trust { trust: trust.to_owned() }).set(unix);
    }

    /// Until when each published key is good, in Unix seconds. A key that is not named is no longer there.
    pub fn signing_key_expiry(&self, keys: impl Iterator<Item = (String, f64)>) {
        self.signing_key_expiry.clear();
        for (kid, unix) in keys {
            self.signing_key_expiry.get_or_create(&Key { kid }).set(unix);
        }
    }

    /// The text of `/metrics`.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            let _ = writeln!(text, "# the metrics could not be written");
        }
        text
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildInfo {
    version: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settled_names_are_there() {
        let metrics = Metrics::new();
        metrics.token_request("tls_client_auth", "issued", Duration::from_micros(80));
        metrics.client_auth_failure("private_key_jwt", "assertion_replayed");
        let text = metrics.render();
        for line in [
            "certbind_build_info{version=",
            r#"certbind_token_requests_total{auth_method="tls_client_auth",result="issued"} 1"#,
            r#"certbind_client_auth_failures_total{auth_method="private_key_jwt",reason="assertion_replayed"} 1"#,
            "certbind_config_last_reload_successful 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_rejected_revocation_list_is_not_forgotten_because_a_client_was_changed() {
        let metrics = Metrics::new();
        metrics.reload_failed("trust group `corp`");
        metrics.reload_succeeded("clients");
        assert!(metrics.render().contains("certbind_config_last_reload_successful 0"));
        metrics.reload_succeeded("trust group `corp`");
        assert!(metrics.render().contains("certbind_config_last_reload_successful 1"));
    }
}
