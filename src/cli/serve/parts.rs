//! The parts that the listeners share, made in the order in which they need each other.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use certbind_proto::entropy::{Entropy, OsEntropy};
use certbind_proto::metadata::well_known_paths;
use certbind_proto::time::{Clock, SystemClock, Timestamp};
use rustls_pki_types::CertificateDer;
use serde_json::json;

use super::settings;
use crate::audit::{AuditFile, LineWriter};
use crate::authn::Authenticator;
use crate::authn::trust::TrustGroups;
use crate::cli::report::{self, Reporter};
use crate::cli::{clients, trust_files};
use crate::config::{self, Config, Environment, TrustFiles};
use crate::flow::Flows;
use crate::http::document::Document;
use crate::http::ops::{Check, Operations};
use crate::http::{Endpoints, Hosts, metadata};
use crate::jwks_uri::PublishedKeys;
use crate::metrics::Metrics;
use crate::mint::Minter;
use crate::mint::keys::SigningKeys;
use crate::registry::file::FileRegistry;
use crate::store::sqlite::{self, SqliteStore};
use crate::store::{BoxFuture, FirstUse, ReplayStore, StoreError, Use};

/// What a server asks the machine for; tests give their own.
#[derive(Clone)]
pub struct Platform {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Where ids are drawn from.
    pub entropy: Arc<dyn Entropy>,
}

impl Default for Platform {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), entropy: Arc::new(OsEntropy) }
    }
}

/// What the listeners share.
pub(super) struct Parts {
    pub(super) metrics: Arc<Metrics>,
    platform: Platform,
    pub(super) registry: FileRegistry,
    store: Arc<SqliteStore>,
    pub(super) trust: Arc<TrustGroups>,
    keys: SigningKeys,
    flows: Arc<Flows>,
    lines: Arc<LineWriter>,
    published: Arc<PublishedKeys>,
}

impl Parts {
    pub(super) async fn build(
        config: &Config,
        trust: Vec<TrustFiles>,
        fetch_roots: Vec<CertificateDer<'static>>,
        environment: &Environment,
        platform: Platform,
    ) -> anyhow::Result<Self> {
        let now = platform.clock.now();
        let metrics = Arc::new(Metrics::new());
        let lines = Arc::new(open_audit(config)?);
        let trust = Arc::new(trust_files::load(config, trust, environment, now)?);
        let registry = clients::load(config)?;
        let store = SqliteStore::open(&sqlite::Settings::new(&config.data_dir)).context("cannot open the store")?;
        let store = Arc::new(store);
        let algorithm = settings::token_algorithm(config);
        let keys = SigningKeys::load_or_make(&*store, algorithm, now).await.context("no signing key")?;
        let published = Arc::new(PublishedKeys::new(settings::published_keys(config, fetch_roots))?);
        let authenticator = Authenticator::new(
            Arc::new(registry.clone()),
            Arc::new(Timed { store: Arc::clone(&store), metrics: Arc::clone(&metrics) }),
            published.clone(),
            Arc::clone(&trust),
            settings::assertions(config),
        );
        let flows = Arc::new(Flows {
            clock: Arc::clone(&platform.clock),
            entropy: Arc::clone(&platform.entropy),
            authenticator,
            grants: settings::grants(config),
            minter: Minter::new(keys.clone(), settings::tokens(config)),
            limits: settings::limits(config),
            audit: lines.clone(),
            metrics: Arc::clone(&metrics),
        });
        Ok(Self { metrics, platform, registry, store, trust, keys, flows, lines, published })
    }

    /// The OAuth surface of one listener.
    pub(super) fn endpoints(&self, config: &Config, of_others: Vec<String>) -> Endpoints {
        let document = metadata::document(&settings::metadata(config));
        Endpoints {
            flows: Arc::clone(&self.flows),
            metadata: Document::new("application/json", &json!(document)),
            metadata_paths: well_known_paths(config.issuer.as_str()),
            jwks: Document::new("application/jwk-set+json", &self.keys.jwks()),
            entropy: Arc::clone(&self.platform.entropy),
            metrics: Arc::clone(&self.metrics),
            hosts: Hosts { of_others },
            limits: settings::bodies(config),
        }
    }

    /// Health and metrics.
    pub(super) fn operations(&self) -> Operations {
        let store = Arc::clone(&self.store);
        let (counted, published) = (Arc::clone(&self.store), Arc::clone(&self.published));
        let (trust, lines) = (Arc::clone(&self.trust), Arc::clone(&self.lines));
        Operations {
            metrics: Arc::clone(&self.metrics),
            checks: vec![Check { name: "store", ready: Box::new(move || store.is_healthy()) }],
            refresh: Box::new(move |metrics| {
                metrics.replay_entries.set(i64::try_from(counted.live_entries()).unwrap_or(i64::MAX));
                metrics.audit_lines_lost.set(i64::try_from(lines.lost()).unwrap_or(i64::MAX));
                let fetches = published.fetches();
                metrics.jwks_fetches(fetches.succeeded, fetches.failed);
                for group in trust.all() {
                    if let Some(next_update) = group.crl_next_update() {
                        metrics.crl_next_update(group.name(), report::seconds(next_update));
                    }
                }
            }),
        }
    }

    /// Tells what changes while the server runs.
    pub(super) fn reporter(&self) -> Reporter {
        let (metrics, clock) = (Arc::clone(&self.metrics), Arc::clone(&self.platform.clock));
        Reporter { audit: self.lines.clone(), metrics, clock }
    }
}

/// The replay store, with the time that it takes.
struct Timed {
    store: Arc<SqliteStore>,
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

fn open_audit(config: &Config) -> anyhow::Result<LineWriter> {
    let out: Box<dyn Write + Send> = match &config.log.audit {
        config::Audit::Log => Box::new(io::stderr()),
        config::Audit::File(path) => {
            let file = AuditFile::open(path.clone());
            Box::new(file.with_context(|| format!("cannot write the audit log {}", path.display()))?)
        }
    };
    Ok(LineWriter::start(out)?)
}
