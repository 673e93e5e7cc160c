//! The clients of the configuration's folder and of the store: read at the start, followed while the server runs.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use certbind_proto::time::Clock;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::metrics::Metrics;
use crate::registry::fault::Warning;
use crate::registry::file::{FileRegistry, Settings, Watch};
use crate::registry::stored::{Follow, Report};
use crate::registry::{Change, Clients, Registry as _};
use crate::store::{Changes, ClientStore};

use super::Unusable;
use super::report::{Reporter, STORED_CLIENTS};
use super::revocation_list::Revoking;
use super::serve::settings;

/// How long clients may change before it is looked who shares a name.
const PAUSE: Duration = Duration::from_secs(2);

/// Reads the clients' folder. A server that starts with a part of its clients would refuse the rest without a word, so
/// one bad file refuses the start.
///
/// # Errors
/// Every fault of every file.
pub(super) fn load(config: &Config) -> anyhow::Result<FileRegistry> {
    let settings = Settings { dir: config.clients_dir.clone(), rules: settings::registration(config) };
    let (registry, report) = FileRegistry::load(settings);
    for warning in &report.warnings {
        tracing::warn!("{warning}");
    }
    if report.faults.is_empty() {
        return Ok(registry);
    }
    let faults: Vec<String> = report.faults.iter().map(ToString::to_string).collect();
    let faults = faults.join("\n");
    Err(Unusable(format!("some clients cannot be registered, so the server does not start:\n{faults}")).into())
}

/// Tells which registrations of the store are not in force. They stop no start: another server, with other rules, may
/// have taken them.
pub(super) fn tell_start(clients: &Clients, report: &Report, metrics: &Metrics) {
    for (client_id, complaints) in &report.refused {
        for complaint in complaints {
            tracing::error!(client_id, "a client of the store is not in force: {complaint}");
        }
    }
    clients.shadowed().iter().for_each(tell_shadowed);
    with_stored(clients).iter().for_each(|warning| tracing::warn!("{warning}"));
    if report.faulty > 0 {
        metrics.reload_failed(STORED_CLIENTS);
    }
}

/// Follows folder and store until both are dropped, and tells what is new. The tokens of a client that is gone or disabled
/// are revoked.
pub(super) fn follow<S: ClientStore + Changes + ?Sized + 'static>(
    clients: &Clients,
    store: Arc<S>,
    clock: Arc<dyn Clock>,
    revoking: &Arc<Revoking>,
    reporter: &Reporter,
) -> Following {
    let (all, told) = (clients.clone(), Arc::new(Mutex::new(clients.shadowed())));
    let (changed, shared) = SharedSubjects::watch(clients);
    let tell_new = move || {
        tell_new_shadowed(&all, &told);
        changed.notify_one();
    };
    let (after_files, after_stored) = (tell_new.clone(), tell_new);
    let (of_files, of_stored) = (reporter.clone(), reporter.clone());
    let (all, revoking) = (clients.clone(), Arc::clone(revoking));
    let revoke = move |changes: &[Change], now| {
        revoking.of_clients(&all, changes.iter().map(Change::client_id), now);
    };
    let (revoke_of_files, revoke_of_stored) = (revoke.clone(), revoke);
    let files = clients.files.watch(move |report| {
        of_files.clients(report);
        revoke_of_files(&report.changes, of_files.now());
        after_files();
    });
    let stored = clients.stored.follow(store, clock, move |report| {
        of_stored.stored_clients(report);
        revoke_of_stored(&report.changes, of_stored.now());
        after_stored();
    });
    Following { _files: files, _stored: stored, _shared: shared }
}

/// What follows clients until it is dropped.
pub(super) struct Following {
    _files: Watch,
    _stored: Follow,
    _shared: SharedSubjects,
}

/// Looks for clients that share a name, until it is dropped: not at each change, as that costs as much as there are clients.
struct SharedSubjects(JoinHandle<()>);

impl SharedSubjects {
    fn watch(clients: &Clients) -> (Arc<Notify>, Self) {
        let (clients, changed) = (clients.clone(), Arc::new(Notify::new()));
        let heard = Arc::clone(&changed);
        let mut told = with_stored(&clients);
        let watching = tokio::spawn(async move {
            loop {
                heard.notified().await;
                tokio::time::sleep(PAUSE).await;
                let all = clients.clone();
                // An error means that the process ends.
                let Ok(now) = tokio::task::spawn_blocking(move || with_stored(&all)).await else { return };
                now.difference(&told).for_each(|warning| tracing::warn!("{warning}"));
                told = now;
            }
        });
        (changed, Self(watching))
    }
}

impl Drop for SharedSubjects {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Shared names among whose clients is one of the store. Those of files alone are told by whoever reads files.
fn with_stored(clients: &Clients) -> BTreeSet<Warning> {
    let (files, mut shared) = (clients.files.all(), clients.shared_subjects());
    shared.retain(|Warning::SharedSubject { clients, .. }| {
        clients.iter().any(|client_id| files.get(client_id).is_none())
    });
    shared
}

fn tell_new_shadowed(clients: &Clients, told: &Mutex<BTreeSet<String>>) {
    let now = clients.shadowed();
    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
    now.difference(&told).for_each(tell_shadowed);
    *told = now;
}

fn tell_shadowed(client_id: &String) {
    tracing::warn!(client_id, "a client of the store does not count: a file in clients.dir has the same client_id");
}
