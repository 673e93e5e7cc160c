//! Trust groups as the configuration names them, and the thread that reads their files again when they change.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use certbind_proto::time::{Clock, Timestamp};

use super::{Unusable, report};
use crate::audit::Audit;
use crate::authn::trust::{ClientAuthEku, CrlStale, Policy, Refreshed, TrustGroup, TrustGroups};
use crate::config::{self, Config, Environment, TrustFiles};
use crate::metrics::Metrics;

/// How often the files' identity is looked at. A handful of `stat` calls; a revocation counts within this time.
const EVERY: Duration = Duration::from_millis(250);

/// The groups of the configuration. A group whose certificates and lists all lie in files follows them; one that came
/// through the environment is as it was at the start.
///
/// # Errors
/// When an anchor or a list must not be used.
pub(super) fn load(
    config: &Config,
    files: Vec<TrustFiles>,
    environment: &Environment,
    now: Timestamp,
) -> anyhow::Result<TrustGroups> {
    let groups = config.trust.iter().zip(files).map(|(group, files)| {
        let loaded = match paths(group, environment) {
            Some((ca, crls)) => {
                TrustGroup::load(&group.name, policy(group), ca, crls, now).map_err(anyhow::Error::from)
            }
            None => {
                let crls: Vec<_> = files.crls.into_iter().map(|list| list.der).collect();
                TrustGroup::new(&group.name, policy(group), files.anchors, &crls, now).map_err(anyhow::Error::from)
            }
        };
        loaded.map_err(|fault| Unusable(format!("trust group `{}`: {fault:#}", group.name)).into())
    });
    Ok(TrustGroups::new(groups.collect::<anyhow::Result<_>>()?))
}

fn paths(group: &config::TrustGroup, environment: &Environment) -> Option<(PathBuf, Vec<PathBuf>)> {
    let crls = group.crl.iter().map(|list| list.file(environment)).collect::<Option<_>>()?;
    Some((group.ca.file(environment)?, crls))
}

const fn policy(group: &config::TrustGroup) -> Policy {
    Policy {
        crl_stale: match group.crl_stale {
            config::CrlStale::Refuse => CrlStale::Refuse,
            config::CrlStale::Warn => CrlStale::Warn,
        },
        client_auth_eku: match group.client_auth_eku {
            config::ClientAuthEku::Required => ClientAuthEku::Required,
            config::ClientAuthEku::Ignored => ClientAuthEku::RequiredIfPresent,
        },
        max_chain_depth: group.max_chain_depth,
    }
}

/// Follows the files until it is dropped, on a thread of its own: reading a large list waits on the disk and computes,
/// and no other work may stand before a revocation.
pub(super) struct TrustWatch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TrustWatch {
    /// Starts following. What is taken over or refused is told once.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn start(
        groups: Arc<TrustGroups>,
        audit: Arc<dyn Audit>,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let follow = move || {
            while !stopped.load(Ordering::Relaxed) {
                look(&groups, &*audit, &metrics, clock.now());
                thread::park_timeout(EVERY);
            }
        };
        let thread = thread::Builder::new().name("trust".to_owned()).spawn(follow)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for TrustWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn look(groups: &TrustGroups, audit: &dyn Audit, metrics: &Metrics, now: Timestamp) {
    for group in groups.all() {
        let files = format!("trust group `{}`", group.name());
        match group.refresh(now) {
            Ok(Refreshed::Unchanged) => {}
            Ok(Refreshed::Changed) => {
                metrics.reload_succeeded(&files);
                report::reloaded(&files, audit, now);
            }
            Err(fault) => {
                metrics.reload_failed(&files);
                report::rejected(&format!("{files}: {fault}"), audit, now);
            }
        }
    }
}
