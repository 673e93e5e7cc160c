//! What the guard counts, in Prometheus' base units. Reasons are a closed set; there is no label with a text of a peer's.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The name under which requests are counted that may go on.
const ALLOWED: &str = "allowed";

/// Every metric of the guard.
pub struct Metrics {
    registry: Registry,
    requests: Family<Verdict, Counter>,
    duration: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Verdict {
    verdict: &'static str,
    reason: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let (mut registry, requests) = (Registry::with_prefix("certbind"), Family::default());
        // From 10 µs, which a remembered token takes, to 3 s, when keys are waited for.
        let duration = Histogram::new(exponential_buckets(0.00001, 2.0, 19));
        registry.register("guard_requests", "Requests that a proxy asked about", requests.clone());
        registry.register("guard_decision_duration_seconds", "How long a verdict took", duration.clone());
        Self { registry, requests, duration }
    }
}

impl Metrics {
    /// A request was decided: it may go on, or it may not for this reason.
    pub fn decided(&self, reason: Option<&'static str>, took: Duration) {
        let verdict = if reason.is_none() { ALLOWED } else { "denied" };
        self.requests.get_or_create(&Verdict { verdict, reason: reason.unwrap_or("") }).inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// In the text format of OpenMetrics.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a text does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
