//! The clients of the configuration's folder and of the store: read at the start, followed while the server runs.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use certbind_proto::time::Clock;

use crate::config::Config;
use crate::metrics::Metrics;
use crate::registry::file::{FileRegistry, Settings, Watch};
use crate::registry::stored::{Follow, Report};
use crate::registry::{Change, Clients};
use crate::store::{Changes, ClientStore};

use super::Unusable;
use super::report::{Reporter, STORED_CLIENTS};
use super::revocation_list::Revoking;
use super::serve::settings;

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
) -> (Watch, Follow) {
    let (all, told) = (clients.clone(), Arc::new(Mutex::new(clients.shadowed())));
    let tell_new = move || tell_new_shadowed(&all, &told);
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
    (files, stored)
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
