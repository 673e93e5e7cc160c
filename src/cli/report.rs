//! What changed while the server runs, told to audit log, metrics and log alike.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};

use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::{Clock, Timestamp};
use serde::Serialize;

use crate::audit::{Audit, Event, Kind, Level};
use crate::authn::ChainFault;
use crate::metrics::Metrics;
use crate::registry::{Change, file, stored};

/// The name of the clients' files, all together.
const CLIENTS: &str = "clients";
/// And of the clients of the store.
pub(super) const STORED_CLIENTS: &str = "stored clients";

/// Tells what changed, and what was not taken.
#[derive(Clone)]
pub(super) struct Reporter {
    audit: Arc<dyn Audit>,
    pub(super) metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    heard: Option<Arc<Mutex<Report>>>,
}

/// What a look at files came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What is in force and was not before.
    pub taken: Vec<String>,
    /// What stays as it was, each with the reason. What was refused before and still is has its reason in the log.
    pub refused: Vec<String>,
}

impl Report {
    /// Whether everything is in force that the files say.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.refused.is_empty()
    }
}

impl Reporter {
    pub(super) fn new(audit: Arc<dyn Audit>, metrics: Arc<Metrics>, clock: Arc<dyn Clock>) -> Self {
        Self { audit, metrics, clock, heard: None }
    }

    /// The same, and remembers what it tells.
    pub(super) fn listening(&self) -> Self {
        Self { heard: Some(Arc::default()), ..self.clone() }
    }

    /// What it has told and remembers, and what was refused earlier and is so still.
    pub(super) fn report(&self) -> Report {
        let mut report = Report::default();
        self.hear(|heard| report = heard.clone());
        let is_told = |files: &str| report.refused.iter().any(|refused| refused.starts_with(files));
        let earlier: Vec<_> = self.metrics.rejected().into_iter().filter(|files| !is_told(files)).collect();
        report.refused.extend(earlier.into_iter().map(|files| format!("{files}: still refused; the log says why")));
        report
    }

    /// The time that changes are judged at.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Changed files are in force.
    pub(super) fn taken_over(&self, files: &str, what: &str) {
        self.metrics.reload_succeeded(files);
        let told = if what.is_empty() { files.to_owned() } else { format!("{files}: {what}") };
        self.hear(|heard| heard.taken.push(told.clone()));
        tracing::info!("taken over: {told}");
        self.record(Kind::ConfigReloaded, Level::Info, told);
    }

    /// Changed files are bad; the old state stays.
    pub(super) fn refused(&self, files: &str, why: &dyn Display) {
        self.metrics.reload_failed(files);
        self.told_refused(files, why);
    }

    /// What is in force is odd.
    pub(super) fn warned(&self, files: &str, what: &dyn Display) {
        tracing::warn!("{files}: {what}");
    }

    /// What came of a look at the clients' folder.
    pub(super) fn clients(&self, report: &file::Report) {
        for change in &report.changes {
            self.client(change);
        }
        for fault in &report.faults {
            self.told_refused(CLIENTS, fault);
        }
        for fault in &report.known {
            self.hear_refused(CLIENTS, &fault.to_string());
        }
        for warning in &report.warnings {
            tracing::warn!("{warning}");
        }
        match report.faulty {
            0 => self.metrics.reload_succeeded(CLIENTS),
            _ => self.metrics.reload_failed(CLIENTS),
        }
    }

    /// What came of a look at the clients of the store.
    pub(super) fn stored_clients(&self, report: &stored::Report) {
        for change in &report.changes {
            self.client(change);
        }
        for (client_id, complaints) in &report.refused {
            for complaint in complaints {
                self.told_refused(STORED_CLIENTS, &format!("{client_id}: {complaint}"));
            }
        }
        match report.faulty {
            0 => self.metrics.reload_succeeded(STORED_CLIENTS),
            _ => self.metrics.reload_failed(STORED_CLIENTS),
        }
    }

    /// A certificate is on a revocation list now, and the tokens that are bound to it are revoked.
    pub(super) fn certificate_fell(&self, thumbprint: &Thumbprint) {
        tracing::info!(%thumbprint, "tokens are revoked: their certificate is on a revocation list");
        self.audit.record(&Event {
            ts: self.now().to_string(),
            event: Some(Kind::TokenRevoked),
            cnf_x5t_s256: Some(thumbprint.to_string()),
            outcome: Some("success"),
            reason: Some(ChainFault::Revoked.reason()),
            ..Event::default()
        });
    }

    fn client(&self, change: &Change) {
        let (what, client_id) = match change {
            Change::Added(client_id) => ("added", client_id),
            Change::Changed(client_id) => ("changed", client_id),
            Change::Removed(client_id) => ("removed", client_id),
        };
        tracing::info!(client_id, "client {what}");
        self.hear(|heard| heard.taken.push(format!("client {client_id}: {what}")));
        let client_id = Some(client_id.clone());
        let event = Event { client_id, ..self.event(Kind::ClientChanged, Level::Info, what.to_owned()) };
        self.audit.record(&event);
    }

    /// Something was refused before and is so still: this is why. It is told once, so nothing is written down.
    pub(super) fn hear_refused(&self, files: &str, why: &str) {
        let told = format!("{files}: {why}");
        self.hear(|heard| {
            if !heard.refused.contains(&told) {
                heard.refused.push(told);
            }
        });
    }

    fn told_refused(&self, files: &str, why: &dyn Display) {
        let told = format!("{files}: {why}");
        self.hear(|heard| heard.refused.push(told.clone()));
        tracing::error!("not taken over: {told}");
        self.record(Kind::ConfigRejected, Level::Error, told);
    }

    fn hear(&self, what: impl FnOnce(&mut Report)) {
        if let Some(heard) = &self.heard {
            what(&mut heard.lock().unwrap_or_else(PoisonError::into_inner));
        }
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
