//! What changed while the server runs, told to audit log, metrics and log alike.

use certbind_proto::time::Timestamp;

use crate::audit::{Audit, Event, Kind, Level};
use crate::metrics::Metrics;
use crate::registry::file::{Change, Report};

/// Tells what came of a look at the clients' folder.
pub(super) fn clients(report: &Report, audit: &dyn Audit, metrics: &Metrics, now: Timestamp) {
    for change in &report.changes {
        let (what, client_id) = match change {
            Change::Added(client_id) => ("added", client_id),
            Change::Changed(client_id) => ("changed", client_id),
            Change::Removed(client_id) => ("removed", client_id),
        };
        tracing::info!(client_id, "client {what}");
        audit.record(&Event {
            event: Some(Kind::ClientChanged),
            client_id: Some(client_id.clone()),
            detail: Some(what.to_owned()),
            ..at(now, Level::Info)
        });
    }
    for fault in &report.faults {
        rejected(&fault.to_string(), audit, now);
    }
    for warning in &report.warnings {
        tracing::warn!("{warning}");
    }
    match report.faulty {
        0 => metrics.reload_succeeded("clients"),
        _ => metrics.reload_failed("clients"),
    }
}

/// Tells of a changed file that is bad, so that the old state stays.
pub(super) fn rejected(detail: &str, audit: &dyn Audit, now: Timestamp) {
    tracing::error!("not taken over: {detail}");
    audit.record(&Event {
        event: Some(Kind::ConfigRejected),
        detail: Some(detail.to_owned()),
        ..at(now, Level::Error)
    });
}

/// Tells of a changed file that is in force.
pub(super) fn reloaded(detail: &str, audit: &dyn Audit, now: Timestamp) {
    tracing::info!("taken over: {detail}");
    audit.record(&Event { event: Some(Kind::ConfigReloaded), detail: Some(detail.to_owned()), ..at(now, Level::Info) });
}

fn at(now: Timestamp, level: Level) -> Event {
    Event { ts: now.to_string(), level, ..Event::default() }
}

/// Unix seconds, as Prometheus counts them.
#[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit into 52 bits for a hundred million years")]
pub(super) const fn seconds(time: Timestamp) -> f64 {
    time.unix() as f64
}
