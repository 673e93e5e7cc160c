//! What changed while the server runs, told to audit log, metrics and log alike.

use std::fmt::Display;
use std::sync::Arc;

use certbind_proto::time::{Clock, Timestamp};

use crate::audit::{Audit, Event, Kind, Level};
use crate::metrics::Metrics;
use crate::registry::file::{Change, Report};

/// Tells what changed, and what was not taken.
#[derive(Clone)]
pub(super) struct Reporter {
    pub(super) audit: Arc<dyn Audit>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Reporter {
    /// The time that changes are judged at.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Changed files are in force.
    pub(super) fn taken_over(&self, files: &str) {
        self.metrics.reload_succeeded(files);
        tracing::info!("taken over: {files}");
        self.record(Kind::ConfigReloaded, Level::Info, files.to_owned());
    }

    /// Changed files are bad; the old state stays.
    pub(super) fn refused(&self, files: &str, why: &dyn Display) {
        self.metrics.reload_failed(files);
        self.told_refused(&format!("{files}: {why}"));
    }

    /// What came of a look at the clients' folder.
    pub(super) fn clients(&self, report: &Report) {
        for change in &report.changes {
            self.client(change);
        }
        for fault in &report.faults {
            self.told_refused(&fault.to_string());
        }
        for warning in &report.warnings {
            tracing::warn!("{warning}");
        }
        match report.faulty {
            0 => self.metrics.reload_succeeded("clients"),
            _ => self.metrics.reload_failed("clients"),
        }
    }

    fn client(&self, change: &Change) {
        let (what, client_id) = match change {
            Change::Added(client_id) => ("added", client_id),
            Change::Changed(client_id) => ("changed", client_id),
            Change::Removed(client_id) => ("removed", client_id),
        };
        tracing::info!(client_id, "client {what}");
        let client_id = Some(client_id.clone());
        let event = Event { client_id, ..self.event(Kind::ClientChanged, Level::Info, what.to_owned()) };
        self.audit.record(&event);
    }

    fn told_refused(&self, detail: &str) {
        tracing::error!("not taken over: {detail}");
        self.record(Kind::ConfigRejected, Level::Error, detail.to_owned());
    }

    fn record(&self, kind: Kind, level: Level, detail: String) {
        self.audit.record(&self.event(kind, level, detail));
    }

    fn event(&self, kind: Kind, level: Level, detail: String) -> Event {
        Event { ts: self.now().to_string(), level, event: Some(kind), detail: Some(detail), ..Event::default() }
    }
}

/// Unix seconds, as Prometheus counts them.
#[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit into 52 bits for a hundred million years")]
pub(super) const fn seconds(time: Timestamp) -> f64 {
    time.unix() as f64
}
