//! The parts that the listeners share, made in the order in which they need each other.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use certbind_proto::entropy::{Entropy, OsEntropy};
use certbind_proto::metadata::well_known_paths;
use certbind_proto::time::{Clock, SystemClock, Timestamp};
use serde_json::{Value, json};

use super::live::{InForce, Live};
use super::settings;
use crate::audit::{AuditLog, Durability, LineWriter};
use crate::authn::trust::{TrustGroup, TrustGroups};
use crate::authn::{self, Authenticator};
use crate::cli::audit_log::{self, Expiry};
use crate::cli::log::Volume;
use crate::cli::report::{self, Reporter};
use crate::cli::revocation_list::Revoking;
use crate::cli::signing_keys::{self, KeyWatch, Publisher};
use crate::cli::trusted::Trusted;
use crate::cli::{clients, storage};
use crate::config::{Checked, Config, DatabaseFiles, KeyFiles};
use crate::flow::{Flows, Limits};
use crate::http::document::Document;
use crate::http::ops::{Check, Operations};
use crate::http::{Endpoints, metadata};
use crate::jwks_uri::PublishedKeys;
use crate::metrics::Metrics;
use crate::mint::Minter;
use crate::mint::revocation_list::ListSigner;
use crate::mint::ring::KeyRing;
use crate::registry::stored::StoredRegistry;
use crate::registry::{Clients, Registry as _};
use crate::store::{BoxFuture, FirstUse, ReplayStore, Store, StoreError, Use};
use crate::usage::{self, Usages, Writing};

/// What a server asks the machine for; tests give their own.
#[derive(Clone)]
pub struct Platform {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Where ids are drawn from.
    pub entropy: Arc<dyn Entropy>,
    /// How much is logged.
    pub volume: Volume,
}

impl Default for Platform {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), entropy: Arc::new(OsEntropy), volume: Volume::default() }
    }
}

/// What lasts as long as the server, whatever becomes of the configuration.
pub(super) struct Parts {
    pub(super) metrics: Arc<Metrics>,
    pub(super) platform: Platform,
    pub(super) registry: Clients,
    pub(super) store: Arc<dyn Store>,
    pub(super) keys: Arc<KeyRing>,
    jwks: Arc<Document>,
    pub(super) lines: Arc<AuditLog>,
    published: Arc<PublishedKeys>,
    pub(super) revoking: Arc<Revoking>,
    pub(super) usages: Arc<Usages>,
    _expiry: Expiry,
}

impl Parts {
    pub(super) async fn build(
        config: &Config,
        trusted: &Trusted,
        of_keys: KeyFiles,
        database: Option<DatabaseFiles>,
        platform: Platform,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let now = platform.clock.now();
        let files = clients::load(config)?;
        let (store, doubt) = storage::open(config, database, &trusted.database, Arc::clone(&platform.clock)).await?;
        let lines = Arc::new(audit_log::open(config, &store, &platform.clock, &platform.entropy)?);
        if let Some(doubt) = doubt {
            storage::tell(doubt, &*lines, now);
        }
        let expiry = Expiry::start(config, &store, &lines, &platform.clock);
        let stored = StoredRegistry::load(&*store, settings::registration(config)).await;
        let (stored, of_stored) = stored.context("cannot read the clients of the store")?;
        let registry = Clients { files, stored };
        clients::tell_start(&registry, &of_stored, &metrics);
        let jwks =
            Document::kept_for(settings::jwks_max_age(config), "application/jwk-set+json", &json!({ "keys": [] }));
        let jwks = Arc::new(jwks);
        let publisher = Arc::new(Publisher { document: Arc::clone(&jwks), audit: lines.clone() });
        let source = signing_keys::source(&config.keys.source, of_keys.pin.as_ref())?;
        let of_keys = settings::signing_keys(config, of_keys.encryption.as_ref(), source)?;
        let keys = KeyRing::open(store.clone(), of_keys, publisher, now).await;
        let keys = Arc::new(keys.context("no signing key")?);
        let signer = ListSigner::new(Arc::clone(&keys), config.issuer.as_str().to_owned());
        let revoking = Revoking::start(&store, signer, Arc::clone(&platform.clock)).await;
        let revoking = Arc::new(revoking.context("cannot read what was revoked")?);
        // Whoever was disabled while no server ran may have tokens still.
        let all = registry.all();
        revoking.of_clients(&registry, all.iter().map(|client| client.client_id.as_str()), now);
        let published = Arc::new(PublishedKeys::new(settings::published_keys(config, trusted.jwks.clone()))?);
        let usages = Arc::new(Usages::new(Arc::clone(&store) as _));
        Ok(Self { metrics, platform, registry, store, keys, jwks, lines, published, revoking, usages, _expiry: expiry })
    }

    /// All that a request meets under this configuration.
    pub(super) fn in_force(&self, checked: Arc<Checked>, trust: Arc<TrustGroups>, limits: Arc<Limits>) -> InForce {
        let endpoints = self.endpoints(&checked.config, &trust, &limits);
        InForce { checked, trust, limits, endpoints }
    }

    fn endpoints(&self, config: &Config, trust: &Arc<TrustGroups>, limits: &Arc<Limits>) -> Endpoints {
        Endpoints {
            flows: Arc::new(self.flows(config, trust, limits)),
            metadata: Document::new("application/json", &self.metadata(config)),
            metadata_paths: well_known_paths(config.issuer.as_str()),
            jwks: Arc::clone(&self.jwks),
            revocations: Arc::clone(&self.revoking.document),
            entropy: Arc::clone(&self.platform.entropy),
            metrics: Arc::clone(&self.metrics),
            limits: settings::bodies(config),
        }
    }

    fn metadata(&self, config: &Config) -> Value {
        json!(metadata::document(&settings::metadata(config, self.keys.algorithms())))
    }

    fn flows(&self, config: &Config, trust: &Arc<TrustGroups>, limits: &Arc<Limits>) -> Flows {
        let parts = authn::Parts {
            registry: Arc::new(self.registry.clone()),
            replay: Arc::new(Timed { store: Arc::clone(&self.store), metrics: Arc::clone(&self.metrics) }),
            remote_keys: self.published.clone(),
            trust: Arc::clone(trust),
            revocations: Arc::clone(&self.revoking.revocations),
            bound: Arc::clone(&self.revoking.bound),
        };
        Flows {
            clock: Arc::clone(&self.platform.clock),
            entropy: Arc::clone(&self.platform.entropy),
            authenticator: Authenticator::new(parts, settings::assertions(config)),
            grants: settings::grants(config),
            minter: Minter::new(Arc::clone(&self.keys), settings::tokens(config)),
            revocations: Arc::clone(&self.revoking.revocations),
            usages: Arc::clone(&self.usages),
            limits: Arc::clone(limits),
            audit: self.lines.clone(),
            metrics: Arc::clone(&self.metrics),
        }
    }

    /// What must work and does not.
    pub(super) fn not_ready(&self) -> Vec<&'static str> {
        self.checks().iter().filter(|check| !(check.ready)()).map(|check| check.name).collect()
    }

    /// What must work before this server takes traffic.
    fn checks(&self) -> Vec<Check> {
        let clock = Arc::clone(&self.platform.clock);
        let (store, keys, audit) = (Arc::clone(&self.store), Arc::clone(&self.keys), Arc::clone(&self.lines));
        let mut checks = vec![
            Check { name: "store", ready: Box::new(move || store.is_healthy()) },
            Check { name: "keys", ready: Box::new(move || keys.is_ready(clock.now())) },
        ];
        if audit.durability() == Durability::Required {
            checks.push(Check { name: "audit", ready: Box::new(move || audit.is_healthy()) });
        }
        checks
    }

    /// Health and metrics. The groups that vouch for others than clients stay as long as the server.
    pub(super) fn operations(&self, live: Live, of_others: Vec<Arc<TrustGroup>>) -> Operations {
        let (counted, published) = (Arc::clone(&self.store), Arc::clone(&self.published));
        let lines = Arc::clone(&self.lines);
        let (keys, clock) = (Arc::clone(&self.keys), Arc::clone(&self.platform.clock));
        let metrics = Arc::clone(&self.metrics);
        Operations {
            checks: self.checks(),
            metrics: Box::new(move || {
                metrics.replay_entries.set(i64::try_from(counted.live_entries()).unwrap_or(i64::MAX));
                let count = |lost: u64| i64::try_from(lost).unwrap_or(i64::MAX);
                metrics.audit_lines_lost.set(count(lines.lost()));
                lines.places().for_each(|(place, is_writable)| metrics.audit_writable(place, is_writable));
                metrics.audit_store_lines_lost.set(count(lines.in_store().map_or(0, LineWriter::lost)));
                signing_keys::show(&keys, &metrics, clock.now());
                let fetches = published.fetches();
                metrics.jwks_fetches(fetches.succeeded, fetches.failed);
                metrics.forget_crls();
                for group in live.load().trust.all().iter().chain(&of_others) {
                    if let Some(next_update) = group.crl_next_update() {
                        metrics.crl_next_update(group.name(), report::seconds(next_update));
                    }
                }
                metrics.render()
            }),
        }
    }

    /// Looks after the signing keys; the metadata say what they sign with.
    pub(super) fn watch_keys(parts: &Arc<Self>, live: &Live) -> KeyWatch {
        let (parts, live) = (Arc::clone(parts), Arc::clone(live));
        let (keys, changes, clock) = (parts.keys.clone(), parts.store.changes(), parts.platform.clock.clone());
        KeyWatch::start(keys, changes, clock, move || {
            let in_force = live.load();
            in_force.endpoints.metadata.replace(&parts.metadata(&in_force.checked.config));
        })
    }

    /// Writes down now and then which credentials are in use.
    pub(super) fn write_usages(&self) -> Writing {
        self.usages.keep_written(usage::EVERY, Arc::clone(&self.platform.clock))
    }

    /// Tells what changes while the server runs.
    pub(super) fn reporter(&self) -> Reporter {
        Reporter::new(self.lines.clone(), Arc::clone(&self.metrics), Arc::clone(&self.platform.clock))
    }

    /// Follows the clients' folder and the clients of the store.
    pub(super) fn follow_clients(&self, reporter: &Reporter) -> clients::Following {
        clients::follow(
            &self.registry,
            Arc::clone(&self.store),
            Arc::clone(&self.platform.clock),
            &self.revoking,
            reporter,
        )
    }
}

/// The replay store, with the time that it takes.
struct Timed {
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
}

impl ReplayStore for Timed {
    fn first_use(&self, used: Use, now: Timestamp) -> BoxFuture<'_, Result<FirstUse, StoreError>> {
        Box::pin(async move {
            let started = Instant::now();
            let outcome = self.store.first_use(used, now).await;
            self.metrics.store_operation("first_use", started.elapsed());
            outcome
        })
    }

    fn live_entries(&self) -> u64 {
        self.store.live_entries()
    }

    fn is_healthy(&self) -> bool {
        self.store.is_healthy()
    }
}
