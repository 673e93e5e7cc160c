//! What the guard counts, in Prometheus' base units. Reasons are a closed set; there is no label with a text of a peer's.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The names under which requests are counted that may go on, and those that may not.
const ALLOWED: &str = "allowed";
const DENIED: &str = "denied";

/// Every metric of the guard.
pub struct Metrics {
    registry: Registry,
    allowed: Counter,
    requests: Family<Verdict, Counter>,
    duration: Histogram,
    reloaded: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Verdict {
    verdict: &'static str,
    reason: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let (mut registry, requests) = (Registry::with_prefix("certbind"), Family::<Verdict, Counter>::default());
        // From 10 µs, which a remembered token takes, to 3 s, when keys are waited for.
        let duration = Histogram::new(exponential_buckets(0.00001, 2.0, 19));
        registry.register("guard_requests", "Requests that a proxy asked about", requests.clone());
        registry.register("guard_decision_duration_seconds", "How long a verdict took", duration.clone());
        let allowed = Verdict { verdict: ALLOWED, reason: "" };
        let allowed = requests.get_or_create_owned(&allowed);
        let reloaded = Gauge::default();
        reloaded.set(1);
        let help = "Whether what the configuration file says is in force";
        registry.register("config_last_reload_successful", help, reloaded.clone());
        Self { registry, allowed, requests, duration, reloaded }
    }
}

impl Metrics {
    /// A request was decided: it may go on, or it may not for this reason.
    pub fn decided(&self, reason: Option<&'static str>, took: Duration) {
        match reason {
            None => self.allowed.inc(),
            Some(reason) => self.requests.get_or_create(&Verdict { verdict: DENIED, reason }).inc(),
        };
        self.duration.observe(took.as_secs_f64());
    }

    /// The configuration was looked into, and is in force or refused.
    pub fn reloaded(&self, is_in_force: bool) {
        self.reloaded.set(i64::from(is_in_force));
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
