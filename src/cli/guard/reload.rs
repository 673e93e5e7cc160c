//! A guard's configuration while it runs: routes, bounds on connections and the volume of the log are taken, for all else a restart is
//! needed.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::{limits, rules};
use crate::audit::{Event, Kind, Level};
use crate::cli::followed::{Followed, Looked, refuse_what_needs_a_restart};
use crate::cli::log::Volume;
use crate::config::{self, Change, Effective, Sources};
use crate::guard::Guard;
use crate::net::{self, Capacity};

/// Takes what changed in the guard's file.
pub(super) struct Reloader {
    pub(super) sources: Sources,
    pub(super) guard: Arc<Guard>,
    pub(super) connections: Arc<Capacity>,
    pub(super) limits: Arc<ArcSwap<net::Limits>>,
    pub(super) volume: Volume,
    /// Locked for as long as a configuration is looked at, so that there is one reload at a time.
    pub(super) state: Mutex<State>,
}

/// What is in force, and what was seen of the file.
pub(super) struct State {
    pub(super) effective: Effective,
    pub(super) followed: Followed,
}

impl Reloader {
    /// Looks into the file if it is another one.
    pub(super) fn follow(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.followed.is_due(&self.sources.file) {
            self.look_into(&mut state);
        }
    }

    /// Looks into it as soon as nobody writes it.
    pub(super) fn reload(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.followed.wait_until_quiet(&self.sources.file);
        self.look_into(&mut state);
    }

    fn look_into(&self, state: &mut State) {
        let State { effective, followed } = state;
        let looked = followed.look(&self.sources.file, || self.take(effective));
        self.guard.metrics.reloaded(followed.is_in_force());
        match looked {
            None => {}
            Some(Looked::Taken(what)) => {
                tracing::info!("taken over: {what}");
                self.record(Kind::ConfigReloaded, Level::Info, what);
            }
            Some(Looked::Refused(why)) => {
                tracing::error!("the configuration is not taken, what it was before stays in force: {why}");
                self.record(Kind::ConfigRejected, Level::Error, why);
            }
        }
    }

    /// What is in force now and was not before, or why nothing changed.
    fn take(&self, effective: &mut Effective) -> Result<Vec<Change>, String> {
        let opened =
            config::open_guard(&self.sources, self.guard.clock.now()).map_err(|rejected| rejected.to_string())?;
        let changes = effective.changes(&opened.effective);
        refuse_what_needs_a_restart(&changes)?;
        if changes.is_empty() {
            return Ok(changes);
        }
        opened.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let config = &opened.config;
        let verifier = &self.guard.rules.load().verifier;
        self.guard.rules.store(Arc::new(rules(config, verifier.clone())));
        self.connections.set(net::affordable_connections(config.limits.connections));
        self.limits.store(Arc::new(limits(config)));
        self.volume.set(config.log.level);
        *effective = opened.effective;
        Ok(changes)
    }

    fn record(&self, kind: Kind, level: Level, detail: String) {
        let ts = self.guard.clock.now().to_string();
        self.guard.audit.record(&Event { ts, level, event: Some(kind), detail: Some(detail), ..Event::default() });
    }
}
