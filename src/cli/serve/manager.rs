//! What the service manager that started us is told (sd_notify(3), systemd.service(5) `Type=notify-reload`). Without one
//! nothing is.

use std::time::Duration;

use sd_notify::NotifyState::{self, ExtendTimeoutUsec, Ready, Reloading, Status, Stopping, Watchdog};
use tokio::task::JoinHandle;

use crate::cli::report::Report;

/// How long after the drain the process may take to end.
const SPARE: Duration = Duration::from_secs(10);

/// Requests are answered.
pub(super) fn ready() {
    ready_with("requests are answered");
}

/// The work is done that it was started for; this is shown.
pub(in crate::cli) fn ready_with(status: &str) {
    tell(&[Ready, Status(status)]);
}

/// A reload begins.
pub(super) fn reloading() {
    // Without the time the manager would take it for an answer to an earlier request.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[Reloading, now]),
        Err(error) => tracing::warn!(%error, "the service manager is not told of a reload"),
    }
}

/// A reload is over.
pub(super) fn reloaded(report: &Report) {
    let (taken, refused) = (report.taken.len(), report.refused.len());
    tell(&[Ready, Status(&format!("reloaded: {taken} taken over, {refused} refused"))]);
}

/// The process is to end, after requests in flight that may take so long.
pub(in crate::cli) fn stopping(drain: Duration) {
    let most = u32::try_from((drain + SPARE).as_micros()).unwrap_or(u32::MAX);
    tell(&[Stopping, ExtendTimeoutUsec(most), Status("waiting for requests in flight")]);
}

/// Says that we live, as often as the manager wants it (`WatchdogSec=`), until it is dropped. The word comes from the
/// runtime that answers requests: when that hangs, it stays away.
pub(super) struct Heartbeat(JoinHandle<()>);

impl Heartbeat {
    /// Nothing, when nobody listens.
    pub(super) fn start() -> Option<Self> {
        let most = sd_notify::watchdog_enabled().filter(|most| !most.is_zero())?;
        let mut beats = tokio::time::interval((most / 3).max(Duration::from_millis(1)));
        Some(Self(tokio::spawn(async move {
            loop {
                beats.tick().await;
                tell(&[Watchdog]);
            }
        })))
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
