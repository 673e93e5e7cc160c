//! Reloading: whatever is another one than before and good is taken while the server runs; what is bad changes nothing.
//!
//! The configuration is one file and taken as one: a file that is bad, or that changes what only a restart can change,
//! is refused as a whole, so that a server never runs on something that stands in no file. The files that it names
//! (server certificates, trust groups, clients) are followed each by itself, as a renewal of one must not wait for the
//! repair of another.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::runtime::Handle;

use super::certificate::{Certificates, DECISION};
use super::live::{InForce, Live};
use super::parts::{Parts, Platform};
use super::proxy::Proxies;
use super::settings;
use crate::admin::Administrator;
use crate::authn::trust::{Refreshed, TrustGroup, TrustGroups};
use crate::cli::followed::{Followed, Looked, refuse_what_needs_a_restart};
use crate::cli::report::{Report, Reporter};
use crate::cli::trust_files;
use crate::cli::trusted::Trusted;
use crate::config::{self, Change, Checked, Config, Opened, Sources};
use crate::flow::Limits;
use crate::metrics::Metrics;
use crate::net::{self, Capacity};
use crate::registry;

/// The name of the configuration in logs and reports.
const CONFIGURATION: &str = "configuration";

/// Takes what changed.
pub struct Reloader {
    sources: Sources,
    /// Where the store is waited for.
    runtime: Handle,
    pub(super) parts: Arc<Parts>,
    pub(super) live: Live,
    pub(super) certificates: Certificates,
    pub(super) administrators: Administrators,
    pub(super) proxies: Proxies,
    /// For the servers that this one connects to.
    pub(super) trusted: Trusted,
    pub(super) connections: Arc<Capacity>,
    pub(super) limits: Arc<ArcSwap<net::Limits>>,
    /// Those of connections of proxies.
    pub(super) proxy_limits: Arc<ArcSwap<net::Limits>>,
    /// Locked for as long as a configuration is looked at, so that there is one reload at a time.
    followed: Mutex<Followed>,
}

/// Who may use the admin API over TLS, and who vouches for them; nobody where it is not reached so.
pub(super) struct Administrators {
    pub(super) trust: TrustGroups,
    pub(super) allow: Arc<ArcSwap<Vec<Administrator>>>,
}

impl Reloader {
    /// Starts what the configuration asks for, short of listening.
    ///
    /// # Errors
    /// When something that the server needs cannot be had.
    pub(super) async fn start(opened: Opened, platform: Platform) -> anyhow::Result<Self> {
        let Opened { checked, files, sources } = opened;
        let (config, environment) = (&checked.config, &sources.environment);
        let metrics = Arc::new(Metrics::new());
        let certificates = Certificates::new(config, &files, environment, &metrics)?;
        let trusted = Trusted::new(config, &files, environment)?;
        let now = platform.clock.now();
        let of_admin = files.admin.map(|admin| admin.trust);
        let administrators = Administrators {
            trust: trust_files::of_administrators(config, of_admin, environment, now)?,
            allow: Arc::new(ArcSwap::from_pointee(settings::administrators(config))),
        };
        let proxies = Proxies::new(config, files.proxy, environment, now)?;
        let trust = Arc::new(trust_files::load(config, files.trust, environment, now)?);
        let parts = Parts::build(config, &trusted, files.keys, files.database, platform, metrics).await?;
        let parts = Arc::new(parts);
        let connections = Capacity::new(net::affordable_connections(config.limits.connections));
        let limits = Arc::new(ArcSwap::from_pointee(settings::connections(config)));
        let proxy_limits = Arc::new(ArcSwap::from_pointee(settings::connections(config).of_proxies()));
        let rates = Arc::new(settings::limits(config));
        let live = Arc::new(ArcSwap::from_pointee(parts.in_force(Arc::new(checked), trust, rates)));
        let (runtime, followed) = (Handle::current(), Mutex::default());
        Ok(Self {
            sources,
            runtime,
            parts,
            live,
            certificates,
            administrators,
            proxies,
            trusted,
            connections,
            limits,
            proxy_limits,
            followed,
        })
    }

    /// Looks at everything now: configuration, server certificates, trust groups and clients. Waits on the disk, so not
    /// for an async task.
    pub fn reload(&self) -> Report {
        let reporter = self.parts.reporter().listening();
        self.look_at_everything(&reporter);
        reporter.report()
    }

    /// The same, and waits for a server certificate whose key may be on its way: what the report does not name as refused
    /// is in force.
    pub fn reload_and_decide(&self) -> Report {
        let reporter = self.parts.reporter().listening();
        self.look_at_everything(&reporter);
        self.certificates.decide(&reporter, DECISION);
        self.certificates.refusals().iter().for_each(|(files, why)| reporter.hear_refused(files, why));
        reporter.report()
    }

    fn look_at_everything(&self, reporter: &Reporter) {
        let mut followed = self.followed();
        followed.wait_until_quiet(&self.sources.file);
        self.look_into(&mut followed, reporter);
        drop(followed);
        self.certificates.follow(reporter);
        self.trusted.look(reporter);
        self.follow_trust(reporter);
        self.reload_clients(reporter);
    }

    /// Looks at the files of the trust groups. A list that is new may have certificates that tokens are bound to.
    pub(super) fn follow_trust(&self, reporter: &Reporter) {
        trust_files::look(&self.administrators.trust, reporter);
        trust_files::look(&self.proxies.trust, reporter);
        let in_force = self.live.load();
        if trust_files::look(&in_force.trust, reporter) == Refreshed::Changed {
            self.parts.revoking.of_certificates(&in_force.trust, reporter);
        }
    }

    /// What is in force and odd.
    pub(super) fn warnings(&self) -> Vec<String> {
        let now = self.parts.platform.clock.now();
        let of_clients = trust_files::concerns(&self.live.load().trust, now);
        let of_others = [&self.administrators.trust, &self.proxies.trust];
        of_clients.into_iter().chain(of_others.iter().flat_map(|groups| trust_files::concerns(groups, now))).collect()
    }

    /// Looks into the configuration file if it is another one.
    pub(super) fn follow(&self, reporter: &Reporter) {
        let mut followed = self.followed();
        if followed.is_due(&self.sources.file) {
            self.look_into(&mut followed, reporter);
        }
    }

    fn look_into(&self, followed: &mut Followed, reporter: &Reporter) {
        match followed.look(&self.sources.file, || self.take_configuration(reporter)) {
            None => {}
            Some(Looked::Taken(what)) => reporter.taken_over(CONFIGURATION, &what),
            Some(Looked::Refused(why)) => reporter.refused(CONFIGURATION, &why),
        }
    }

    /// What is in force now and was not before, or why nothing changed.
    fn take_configuration(&self, reporter: &Reporter) -> Result<Vec<Change>, String> {
        let in_force = self.live.load_full();
        let changes = |checked: &Checked| in_force.checked.effective.changes(&checked.effective);
        let inspected = config::inspect(&self.sources).map_err(|rejected| rejected.to_string())?;
        if changes(&inspected).is_empty() {
            return Ok(Vec::new());
        }
        let Opened { checked, files, .. } =
            config::open(&self.sources, reporter.now()).map_err(|rejected| rejected.to_string())?;
        let changes = changes(&checked);
        refuse_what_needs_a_restart(&changes)?;
        let before = (&in_force.checked.config, &*in_force.trust);
        let groups =
            trust_files::reload(before, (&checked.config, files.trust), &self.sources.environment, reporter.now())
                .map_err(|fault| format!("{fault:#}"))?;
        let calendar = settings::calendar(&checked.config);
        self.runtime
            .block_on(self.parts.keys.go_by(calendar, reporter.now()))
            .map_err(|fault| format!("the signing keys cannot be kept for as long as tokens are to live: {fault}"))?;
        checked.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        self.put_in_force(&in_force, checked, groups, reporter);
        Ok(changes)
    }

    /// Cannot fail, so that nothing is taken by half.
    ///
    /// A client may have moved from a group that is no longer there to a new one: for the moment in which clients are
    /// read by the new rules, there are both. A request that began before has both until its answer, as nobody can say
    /// which of the two registrations it meets.
    fn put_in_force(&self, before: &InForce, checked: Checked, groups: Vec<Arc<TrustGroup>>, reporter: &Reporter) {
        let limits = limits(before, &checked.config);
        let both: Vec<_> = before.trust.all().into_iter().chain(groups.iter().cloned()).collect();
        let gone = before.trust.all().into_iter().filter(|old| !groups.iter().any(|group| group.name() == old.name()));
        let gone: Vec<_> = gone.map(|group| group.name().to_owned()).collect();
        before.trust.replace(both.iter().cloned());
        let checked = Arc::new(checked);
        let config = &checked.config;
        let in_force =
            |groups| self.parts.in_force(Arc::clone(&checked), Arc::new(TrustGroups::new(groups)), Arc::clone(&limits));
        self.connections.set(net::affordable_connections(config.limits.connections));
        self.limits.store(Arc::new(settings::connections(config)));
        self.proxy_limits.store(Arc::new(settings::connections(config).of_proxies()));
        self.parts.platform.volume.set(config.log.level);
        self.administrators.allow.store(Arc::new(settings::administrators(config)));
        self.live.store(Arc::new(in_force(both)));
        if names(config) != names(&before.checked.config) {
            self.reload_clients(reporter);
        }
        gone.iter().for_each(|name| reporter.metrics.reload_succeeded(&trust_files::named(name)));
        let new = Arc::new(in_force(groups));
        self.live.store(Arc::clone(&new));
        self.parts.revoking.of_certificates(&new.trust, reporter);
    }

    fn reload_clients(&self, reporter: &Reporter) {
        let rules = settings::registration(&self.live.load().checked.config);
        let of_files = self.parts.registry.files.reload(rules.clone());
        reporter.clients(&of_files);
        let of_store = self.parts.registry.stored.reload(rules);
        reporter.stored_clients(&of_store);
        let changed = of_files.changes.iter().chain(&of_store.changes).map(registry::Change::client_id);
        self.parts.revoking.of_clients(&self.parts.registry, changed, reporter.now());
    }

    fn followed(&self) -> MutexGuard<'_, Followed> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The trust groups that a client may name.
fn names(config: &Config) -> Vec<String> {
    settings::registration(config).trust_groups
}

/// Who has failed often is not forgotten because something else changed.
fn limits(before: &InForce, config: &Config) -> Arc<Limits> {
    let rates = |config: &Config| (config.limits.failed_auth_per_address, config.limits.token_requests_per_client);
    match rates(config) == rates(&before.checked.config) {
        true => Arc::clone(&before.limits),
        false => Arc::new(settings::limits(config)),
    }
}
