//! `certbind serve`: wires the server. With `parts`, the only file that names every part.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use certbind_proto::time::{Clock as _, SystemClock};
use hyper::Request;
use hyper::body::Incoming;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::field::display;

use super::config::SourceArgs;
use super::poll::Poll;
use super::{Exit, log, trust_files};
use crate::config::{self, Config, Environment, Opened};
use crate::http::Endpoints;
use crate::http::ops::Operations;
use crate::metrics::Metrics;
use crate::net::{self, ConnInfo, HandshakeFault, Listener, Observer, Service, TlsVersion, Transport, tls};
use crate::registry::file::Watch;

mod certificate;
mod parts;
pub(super) mod settings;

pub use parts::Platform;

use certificate::{Acceptors, Certificates};
use parts::Parts;

/// The number of the signal (the same on Linux, macOS and the BSDs).
const SIGXFSZ: i32 = 25;

/// How many connections the operations listener takes.
const MAX_OPS_CONNECTIONS: usize = 64;

/// Where the configuration is, and how to talk.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    #[command(flatten)]
    sources: SourceArgs,
    /// How log lines look, over log.format
    #[arg(long, value_name = "FORMAT", value_parser = ["pretty", "json"])]
    log_format: Option<String>,
}

/// Runs the server until it is told to stop.
///
/// # Errors
/// When something that it needs cannot be had. An invalid configuration is [`Exit::Invalid`].
pub fn run(args: &ServeArgs, environment: &Environment) -> anyhow::Result<Exit> {
    let mut sources = args.sources.sources(environment.clone());
    sources.set.extend(args.log_format.iter().map(|format| format!("log.format={format}")));
    let opened = match config::open(&sources, SystemClock.now()) {
        Ok(opened) => opened,
        Err(rejected) => return Ok(super::config::refuse(&rejected, &mut io::stderr())?),
    };
    let settings = &opened.checked.config.log;
    let _log = log::start(settings.format, settings.level)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let _survived = survive_signals()?;
        let server = Server::start(opened, environment).await?;
        until_told_to_stop().await?;
        tracing::info!("stopping: no new connections, waiting for requests in flight");
        server.stop().await;
        Ok(Exit::Done)
    })
}

/// Waits for SIGTERM or SIGINT.
///
/// # Errors
/// When the signals cannot be heard.
pub async fn until_told_to_stop() -> io::Result<()> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}

/// Signals whose default is to end the process, and that must not end a server. Heard from here on; nothing is done
/// about them.
///
/// SIGHUP: files are watched anyway, the audit log's too, so whoever sends it, as log rotation does, has what it asks
/// for. SIGXFSZ: a write
/// beyond the file size limit (`LimitFSIZE=`) is to fail as on a full disk, and the store knows what to do then.
pub(super) fn survive_signals() -> io::Result<[Signal; 2]> {
    Ok([signal(SignalKind::hangup())?, signal(SignalKind::from_raw(SIGXFSZ))?])
}

/// A running server.
pub struct Server {
    address: SocketAddr,
    public_address: Option<SocketAddr>,
    ops_address: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    listeners: JoinSet<()>,
    metrics: Arc<Metrics>,
    _watches: Watches,
}

/// What follows files until it is dropped.
struct Watches {
    _trust: Poll,
    _certificates: Poll,
    _clients: Watch,
}

impl Server {
    /// Starts everything that the configuration names.
    ///
    /// # Errors
    /// When something that the server needs cannot be had; then nothing runs.
    pub async fn start(opened: Opened, environment: &Environment) -> anyhow::Result<Self> {
        let listener = bind(opened.checked.config.mtls.address)?;
        Self::start_on(listener, opened, environment, Platform::default()).await
    }

    /// The same, with a socket for `[listen.mtls]` that is already open, and on a platform of the caller's.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_on(
        listener: Listener,
        opened: Opened,
        environment: &Environment,
        platform: Platform,
    ) -> anyhow::Result<Self> {
        let Opened { checked, files } = opened;
        let config = checked.config;
        for warning in &checked.warnings {
            tracing::warn!("{warning}");
        }
        let parts = Parts::build(&config, files.trust, files.fetch_roots, environment, platform).await?;
        let certificates = Certificates::new(&config, &files.mtls, files.public.as_ref(), environment, &parts.metrics)?;
        let acceptors = certificates.acceptors();
        let mut server = Self {
            address: listener.local_address(),
            public_address: None,
            ops_address: None,
            stop: watch::Sender::new(false),
            listeners: JoinSet::new(),
            metrics: Arc::clone(&parts.metrics),
            _watches: follow(&parts, certificates)?,
        };
        server.listen(&config, &parts, listener, acceptors)?;
        server.listen_for_operations(&config, &parts)?;
        let (public, ops) = (server.public_address.map(display), server.ops_address.map(display));
        tracing::info!(issuer = config.issuer.as_str(), address = %server.address, public, ops, "ready");
        Ok(server)
    }

    /// Where the listener that asks for certificates listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the listener that never asks listens.
    #[must_use]
    pub const fn public_address(&self) -> Option<SocketAddr> {
        self.public_address
    }

    /// Where metrics and health are.
    #[must_use]
    pub const fn ops_address(&self) -> Option<SocketAddr> {
        self.ops_address
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Accepts nothing new, and waits for what is in flight, at most for the configured time.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.listeners.join_next().await.is_some() {}
    }

    fn listen(&mut self, config: &Config, parts: &Parts, listener: Listener, tls: Acceptors) -> anyhow::Result<()> {
        let connections = Arc::new(Semaphore::new(net::affordable_connections(config.limits.connections)));
        let mut spawn = |name: &'static str, listener: Listener, acceptor: Arc<tls::Acceptor>, endpoints: Endpoints| {
            let settings = net::Settings {
                name: name.into(),
                transport: Transport::Tls(acceptor),
                connections: Arc::clone(&connections),
                limits: settings::connections(config),
                observer: Arc::new(Counted { listener: name, metrics: Arc::clone(&parts.metrics) }),
            };
            self.listeners.spawn(listener.serve(settings, Arc::new(endpoints), self.stop.subscribe()));
        };
        let url = config.mtls.public_url.as_str();
        let public_url = config.public.as_ref().map(|public| public.public_url.as_str());
        spawn("mtls", listener, tls.mtls, parts.endpoints(config, others(url, public_url)));

        let (Some(public), Some(acceptor)) = (&config.public, tls.public) else { return Ok(()) };
        let listener = bind(public.address)?;
        self.public_address = Some(listener.local_address());
        spawn("public", listener, acceptor, parts.endpoints(config, others(public.public_url.as_str(), Some(url))));
        Ok(())
    }

    fn listen_for_operations(&mut self, config: &Config, parts: &Parts) -> anyhow::Result<()> {
        let Some(ops) = &config.ops else { return Ok(()) };
        let listener = bind(ops.address)?;
        self.ops_address = Some(listener.local_address());
        let settings = net::Settings {
            name: "ops".into(),
            transport: Transport::Plain,
            connections: Arc::new(Semaphore::new(MAX_OPS_CONNECTIONS)),
            limits: settings::connections(config),
            observer: Arc::new(()),
        };
        self.listeners.spawn(listener.serve(settings, Arc::new(parts.operations()), self.stop.subscribe()));
        Ok(())
    }
}

fn bind(address: SocketAddr) -> anyhow::Result<Listener> {
    Listener::bind(address).with_context(|| format!("cannot listen on {address}"))
}

/// Follows the files of the trust groups, of the server certificates and of the clients.
fn follow(parts: &Parts, certificates: Certificates) -> io::Result<Watches> {
    let trust = Arc::clone(&parts.trust);
    let [of_trust, of_certificates, of_clients] = [(); 3].map(|()| parts.reporter());
    Ok(Watches {
        _trust: Poll::start("trust", move || trust_files::look(&trust, &of_trust))?,
        _certificates: Poll::start("certificates", move || certificates.follow(&of_certificates))?,
        _clients: parts.registry.watch(move |report| of_clients.clients(report)),
    })
}

/// The authority of the other listener, unless both share one.
fn others(own: &str, other: Option<&str>) -> Vec<String> {
    let authority = |url: &str| url.trim_start_matches("https://").to_owned();
    other.filter(|other| *other != own).map(authority).into_iter().collect()
}

impl Service for Endpoints {
    async fn call(&self, request: Request<Incoming>, connection: &Arc<ConnInfo>) -> net::Reply {
        Self::call(self, request, connection).await
    }
}

impl Service for Operations {
    async fn call(&self, request: Request<Incoming>, _: &Arc<ConnInfo>) -> net::Reply {
        Self::call(self, &request)
    }
}

/// Turns what a listener sees into metrics.
struct Counted {
    listener: &'static str,
    metrics: Arc<Metrics>,
}

impl Observer for Counted {
    fn opened(&self) {
        self.metrics.connections(self.listener, 1);
    }

    fn closed(&self) {
        self.metrics.connections(self.listener, -1);
    }

    fn refused(&self) {
        self.metrics.rate_limited("too_many_connections");
    }

    fn accept_failed(&self) {
        self.metrics.rate_limited("accept_failed");
    }

    fn handshake(&self, outcome: Result<TlsVersion, HandshakeFault>, took: Duration) {
        let (version, result) = match outcome {
            Ok(version) => (version.as_str(), "ok"),
            Err(fault) => ("none", fault.as_str()),
        };
        self.metrics.tls_handshake(self.listener, version, result, took);
    }
}
