//! `certbind guard`: from its configuration to a running guard.

mod front;
mod reload;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::{ArcSwap, ArcSwapOption};
use certbind_client::{Authorities, AuthoritiesFile};
use certbind_proto::entropy::{Entropy, OsEntropy};
use certbind_proto::time::{Clock, SystemClock};
use certbind_verify::fetch::{self, AddressPolicy, OnlineVerifier, Polling, Revocation};
use certbind_verify::{Demand, Freshness, Keys, Memory, Policy, Requirement, WhenStale};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::front::{Entrance, Front, front};
use self::reload::{Reloader, State};
use super::followed::Followed;
use super::log::Volume;
use super::poll::Poll;
use super::{Exit, log, serve, trusted};
use crate::audit::{AuditFile, Durability, LineWriter};
use crate::config::{self, CertificateFrom, Environment, GuardConfig, GuardMode, GuardOpened, ProxyListener, Sources};
use crate::guard::auth_request::{self, Naming};
use crate::guard::ext_authz::{self, Source};
use crate::guard::{Guard, Metrics, Route, Rules};
use crate::http::ops::{Check, Operations};
use crate::net::{self, Capacity, Listener, SocketFile, Transport};
use crate::proxy::Caller;

/// How many connections the operations listener takes.
const MAX_OPS_CONNECTIONS: usize = 64;

/// How long the issuer may take at the start. A guard that starts without it denies everything until it comes.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// Where the configuration is, and what is said over it.
#[derive(Debug, clap::Args)]
pub(super) struct GuardArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/certbind/guard.toml")]
    config: PathBuf,
    /// Set one key, over file and environment: --set listen.mode=ext-authz
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Where the proxy asks, over listen.address
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// How the proxy asks, over listen.mode
    #[arg(long, value_name = "MODE")]
    mode: Option<String>,
    /// How the proxy forwards its client's certificate, over listen.certificate_from
    #[arg(long, value_name = "FORMAT")]
    cert_from: Option<String>,
    /// The issuer, over issuer
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// Say what is wrong with the configuration, and do nothing else
    #[arg(long)]
    check: bool,
}

impl GuardArgs {
    fn sources(&self, environment: &Environment) -> Sources {
        let over = [
            ("listen.address", &self.listen),
            ("listen.mode", &self.mode),
            ("listen.certificate_from", &self.cert_from),
            ("issuer", &self.issuer),
        ];
        let over = over.iter().filter_map(|(key, value)| Some(format!("{key}={}", value.as_ref()?)));
        let set = self.set.iter().cloned().chain(over).collect();
        Sources { file: self.config.clone(), environment: environment.clone(), set }
    }
}

/// Runs the guard until it is told to stop.
///
/// # Errors
/// When something that it needs cannot be had. An invalid configuration is [`Exit::Invalid`].
pub(super) fn run(args: &GuardArgs, environment: &Environment) -> anyhow::Result<Exit> {
    let opened = match config::open_guard(&args.sources(environment), SystemClock.now()) {
        Ok(opened) => opened,
        Err(rejected) => return Ok(super::config::refuse(&rejected, &mut io::stderr())?),
    };
    if args.check {
        opened.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
        return Ok(Exit::Done);
    }
    let log = log::start(opened.config.log.format, opened.config.log.level)?;
    let sources = args.sources(environment);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = serve::Signals::heard()?;
        let running = Running::start(opened, sources, log.volume()).await?;
        while signals.next().await == serve::Told::Reload {
            running.reload().await;
        }
        tracing::info!("stopping: no new connections, waiting for questions in flight");
        running.stop().await;
        Ok(Exit::Done)
    })
}

/// A running guard.
struct Running {
    stop: watch::Sender<bool>,
    listeners: JoinSet<()>,
    lines: Arc<LineWriter>,
    reloader: Arc<Reloader>,
    _files: Poll,
}

impl Running {
    async fn start(opened: GuardOpened, sources: Sources, volume: Volume) -> anyhow::Result<Self> {
        let GuardOpened { config, files, warnings, effective } = opened;
        warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let (clock, entropy) = (Arc::new(SystemClock), Arc::new(OsEntropy));
        let lines = Arc::new(lines(&config, clock.clone(), entropy.clone())?);
        let metrics = Arc::new(Metrics::default());
        let roots = trusted::authorities(config.ca.is_some().then_some(&*files.roots))?;
        let verifier = verifier(&config, roots.clone())?;
        let guard = Arc::new(Guard {
            rules: ArcSwap::from_pointee(rules(&config, verifier.clone())),
            clock: clock.clone(),
            entropy,
            audit: lines.clone(),
            metrics: Arc::clone(&metrics),
        });
        let ca = config.ca.as_ref().and_then(|ca| ca.file(&sources.environment));
        let mut ca = ca.map(|path| AuthoritiesFile::new(path, roots));
        let Front { entrance, caller, transport, mut look } = front(&config, files.proxy, &sources.environment)?;
        let ops = config.ops.as_ref().map(|ops| Listener::bind(ops.address)).transpose();
        let ops = ops.context("cannot listen at listen.ops.address")?;
        let found = Arc::clone(&entrance.found);
        let (address, ops_address) = (entrance.listener.local_address(), ops.as_ref().map(Listener::local_address));

        let reloader = Arc::new(Reloader {
            sources,
            guard: Arc::clone(&guard),
            connections: Capacity::new(net::affordable_connections(config.limits.connections)),
            limits: Arc::new(ArcSwap::from_pointee(limits(&config))),
            volume,
            state: Mutex::new(State { effective, followed: Followed::default() }),
        });
        let follower = Arc::clone(&reloader);
        let again = verifier.clone();
        let files = Poll::start("guard-files", move || {
            follower.follow();
            ca.iter_mut().for_each(|file| look_at_authorities(file, &again));
            look();
        })?;
        let (stop, listeners) = (watch::Sender::new(false), JoinSet::new());
        let mut running = Self { stop, listeners, lines, reloader, _files: files };
        running.serve_proxies(&config, guard, (entrance, caller, transport));
        if let Some(ops) = ops {
            running.serve_operations(ops, &config, &metrics, &verifier, found);
        }
        if !tokio::time::timeout(FIRST_LOOK, verifier.warm_up(clock.now())).await.unwrap_or(false) {
            tracing::warn!(
                issuer = config.issuer.as_str(),
                "the issuer cannot be reached: every request is denied until it can"
            );
        }
        let ops = ops_address.map(tracing::field::display);
        match &config.listen {
            ProxyListener::Unix { path, .. } => tracing::info!(socket = %path.display(), ops, "ready"),
            ProxyListener::Tls(_) => tracing::info!(%address, ops, "ready"),
        }
        Ok(running)
    }

    fn serve_proxies(
        &mut self,
        config: &GuardConfig,
        guard: Arc<Guard>,
        (entrance, caller, transport): (Entrance, Caller, Transport),
    ) {
        let settings = net::Settings {
            name: "guard".into(),
            transport,
            connections: Arc::clone(&self.reloader.connections),
            limits: Arc::clone(&self.reloader.limits),
            observer: Arc::new(()),
        };
        let stop = self.stop.subscribe();
        match (config.mode, &config.certificate_from) {
            (GuardMode::ExtAuthz, from) => {
                let source = match from {
                    CertificateFrom::Envoy => Source::Connection,
                    CertificateFrom::Header(forwarding) => Source::Header(forwarding.clone()),
                };
                let door = ext_authz::Door { guard, caller, source };
                self.listeners.spawn(entrance.serve(settings, door, stop));
            }
            (mode, CertificateFrom::Header(forwarding)) => {
                let naming = match mode {
                    GuardMode::ForwardAuth => Naming::ForwardAuth,
                    GuardMode::AuthRequest | GuardMode::ExtAuthz => Naming::AuthRequest,
                };
                let door = auth_request::Door { guard, caller, naming, forwarding: forwarding.clone() };
                self.listeners.spawn(entrance.serve(settings, door, stop));
            }
            // The configuration does not let this through.
            (_, CertificateFrom::Envoy) => {}
        }
    }

    fn serve_operations(
        &mut self,
        listener: Listener,
        config: &GuardConfig,
        metrics: &Arc<Metrics>,
        verifier: &OnlineVerifier,
        found: Arc<ArcSwapOption<SocketFile>>,
    ) {
        let settings = net::Settings {
            name: "ops".into(),
            transport: Transport::Plain,
            connections: Capacity::new(MAX_OPS_CONNECTIONS),
            limits: Arc::new(ArcSwap::from_pointee(limits(config))),
            observer: Arc::new(()),
        };
        let (metrics, keys) = (Arc::clone(metrics), verifier.offline().keys().clone());
        let has_keys = move || keys.set(SystemClock.now()).is_some();
        let mut checks = vec![Check { name: "keys", ready: Box::new(has_keys) }];
        if let Some(list) = verifier.offline().revocations().cloned().filter(|_| config.revocation.is_denied_when_stale)
        {
            let skew = config.clock_skew;
            let is_current = move || list.is_current(skew, SystemClock.now());
            checks.push(Check { name: "revocations", ready: Box::new(is_current) });
        }
        if found.load().is_some() {
            let is_there = move || found.load().as_ref().is_some_and(|socket| socket.is_there());
            checks.push(Check { name: "socket", ready: Box::new(is_there) });
        }
        let operations = Operations { metrics: Box::new(move || metrics.text()), checks };
        self.listeners.spawn(listener.serve(settings, Arc::new(operations), self.stop.subscribe()));
    }

    /// Looks at the configuration now.
    async fn reload(&self) {
        let reloader = Arc::clone(&self.reloader);
        // An error means that the process ends.
        let _ = tokio::task::spawn_blocking(move || reloader.reload()).await;
    }

    async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.listeners.join_next().await.is_some() {}
        let lines = self.lines;
        // An error means that the process ends.
        let _ = tokio::task::spawn_blocking(move || lines.finish()).await;
    }
}

/// Who may vouch for the issuer. What could not be fetched for want of them is tried again at once.
fn look_at_authorities(file: &mut AuthoritiesFile, verifier: &OnlineVerifier) {
    match file.look() {
        Ok(false) => {}
        Ok(true) => {
            tracing::info!("ca: taken over");
            verifier.retry_now();
        }
        Err(fault) => tracing::error!("ca: {fault}; the old state stays in force"),
    }
}

fn lines(config: &GuardConfig, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> anyhow::Result<LineWriter> {
    Ok(match &config.log.audit {
        config::Audit::Log => LineWriter::to_stream(io::stderr(), clock, &*entropy)?,
        config::Audit::File(path) => {
            let file = AuditFile::open(path.clone(), Arc::clone(&entropy));
            let file = file.with_context(|| format!("cannot write the audit log {}", path.display()))?;
            LineWriter::to_file(file, Durability::BestEffort, clock, &*entropy)?
        }
    })
}

/// What requests are held against from now on.
fn rules(config: &GuardConfig, verifier: OnlineVerifier) -> Rules {
    Rules { routes: routes(config), verifier: verifier.for_audiences(audiences(config)) }
}

fn audiences(config: &GuardConfig) -> Vec<String> {
    let mut audiences: Vec<String> = config.routes.iter().map(|route| route.audience.clone()).collect();
    audiences.sort();
    audiences.dedup();
    audiences
}

fn routes(config: &GuardConfig) -> Vec<Route> {
    let route = |route: &config::GuardRoute| Route {
        methods: route.methods.clone(),
        path: route.path.clone(),
        demand: Demand {
            audience: Some(route.audience.clone()),
            binding: if route.is_binding_required { Requirement::Required } else { Requirement::WhenBound },
            max_age: route.max_age,
            scope: route.scope.clone(),
        },
    };
    config.routes.iter().map(route).collect()
}

fn verifier(config: &GuardConfig, roots: Authorities) -> anyhow::Result<OnlineVerifier> {
    let settings = certbind_verify::Settings {
        audiences: audiences(config),
        clock_skew: config.clock_skew,
        ..certbind_verify::Settings::new(config.issuer.as_str(), "")
    };
    let when_stale = if config.revocation.is_denied_when_stale { WhenStale::Deny } else { WhenStale::Accept };
    let polling = Polling {
        every: config.revocation.poll,
        policy: Policy { max_age: config.revocation.max_age, when_stale },
        ..Polling::default()
    };
    let fetch = fetch::Settings {
        freshness: Freshness { stale_limit: config.offline, ..Keys::FRESHNESS },
        revocation: Revocation::Polled(polling),
        // The issuer is the operator's choice, and mostly next door.
        ..fetch::Settings::new(roots, AddressPolicy::AllowPrivate)
    };
    let verifier = OnlineVerifier::new(settings, fetch).context("tokens cannot be verified")?;
    Ok(verifier.with_memory(Memory::of_bytes(config.memory_bytes)))
}

fn limits(config: &GuardConfig) -> net::Limits {
    net::Limits {
        handshake: config.limits.handshake_timeout,
        header: config.limits.header_timeout,
        idle: config.limits.idle_timeout,
        drain: config.limits.drain_timeout,
        ..net::Limits::default()
    }
    .of_proxies()
}
