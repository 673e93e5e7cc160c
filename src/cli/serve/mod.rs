//! `certbind serve`: wires the server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use certbind_proto::time::{Clock as _, SystemClock};
use hyper::Request;
use hyper::body::Incoming;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::field::display;

use super::config::SourceArgs;
use super::poll::Poll;
use super::report::Reporter;
use super::signing_keys::KeyWatch;
use super::{Exit, log, trust_files};
use crate::config::{self, Config, Environment, Opened};
use crate::http::Hosts;
use crate::http::ops::Operations;
use crate::metrics::Metrics;
use crate::net::{self, Capacity, ConnInfo, HandshakeFault, Listener, Observer, Service, TlsVersion, Transport, tls};
use crate::registry::file::Watch;
use crate::registry::stored::Follow;

mod certificate;
mod live;
mod parts;
mod reload;
pub(super) mod settings;

pub use super::report::Report;
pub use parts::Platform;
pub use reload::Reloader;

use live::OnListener;

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
    let log = log::start(settings.format, settings.level)?;
    let platform = Platform { volume: log.volume(), ..Platform::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let [mut hangup, _full] = survive_signals()?;
        let server = Server::start(opened, platform).await?;
        let told_to_stop = until_told_to_stop();
        tokio::pin!(told_to_stop);
        loop {
            tokio::select! {
                stop = &mut told_to_stop => break stop?,
                _ = hangup.recv() => drop(server.reload().await),
            }
        }
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

/// Signals whose default is to end the process, and that must not end a server: SIGHUP, which asks for a reload, and
/// SIGXFSZ, as a write beyond the file size limit (`LimitFSIZE=`) is to fail as on a full disk, and the store knows what
/// to do then. Heard from here on.
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
    reloader: Arc<Reloader>,
    _watches: Watches,
}

/// What follows files until it is dropped.
struct Watches {
    _configuration: Poll,
    _keys: KeyWatch,
    _certificates: Poll,
    _trust: Poll,
    _clients: (Watch, Follow),
}

impl Server {
    /// Starts everything that the configuration names.
    ///
    /// # Errors
    /// When something that the server needs cannot be had; then nothing runs.
    pub async fn start(opened: Opened, platform: Platform) -> anyhow::Result<Self> {
        let listener = bind(opened.checked.config.mtls.address)?;
        Self::start_on(listener, opened, platform).await
    }

    /// The same, with a socket for `[listen.mtls]` that is already open.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_on(listener: Listener, opened: Opened, platform: Platform) -> anyhow::Result<Self> {
        for warning in &opened.checked.warnings {
            tracing::warn!("{warning}");
        }
        let config = opened.checked.config.clone();
        let reloader = Arc::new(Reloader::start(opened, platform).await?);
        let mut server = Self {
            address: listener.local_address(),
            public_address: None,
            ops_address: None,
            stop: watch::Sender::new(false),
            listeners: JoinSet::new(),
            _watches: follow(&reloader)?,
            reloader,
        };
        server.listen(&config, listener)?;
        server.listen_for_operations(&config)?;
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
        &self.reloader.parts.metrics
    }

    /// Takes whatever has changed, now.
    pub async fn reload(&self) -> Report {
        let reloader = Arc::clone(&self.reloader);
        // An error means that the process ends.
        tokio::task::spawn_blocking(move || reloader.reload()).await.unwrap_or_default()
    }

    /// Accepts nothing new, and waits for what is in flight, at most for the configured time.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.listeners.join_next().await.is_some() {}
    }

    fn listen(&mut self, config: &Config, listener: Listener) -> anyhow::Result<()> {
        let acceptors = self.reloader.certificates.acceptors();
        let url = config.mtls.public_url.as_str();
        let public_url = config.public.as_ref().map(|public| public.public_url.as_str());
        self.serve("mtls", listener, acceptors.mtls, others(url, public_url));

        let (Some(public), Some(acceptor)) = (&config.public, acceptors.public) else { return Ok(()) };
        let listener = bind(public.address)?;
        self.public_address = Some(listener.local_address());
        self.serve("public", listener, acceptor, others(public.public_url.as_str(), Some(url)));
        Ok(())
    }

    fn serve(&mut self, name: &'static str, listener: Listener, acceptor: Arc<tls::Acceptor>, hosts: Hosts) {
        let Reloader { live, connections, limits, parts, .. } = &*self.reloader;
        let settings = net::Settings {
            name: name.into(),
            transport: Transport::Tls(acceptor),
            connections: Arc::clone(connections),
            limits: Arc::clone(limits),
            observer: Arc::new(Counted { listener: name, metrics: Arc::clone(&parts.metrics) }),
        };
        let service = OnListener { live: Arc::clone(live), hosts };
        self.listeners.spawn(listener.serve(settings, Arc::new(service), self.stop.subscribe()));
    }

    fn listen_for_operations(&mut self, config: &Config) -> anyhow::Result<()> {
        let Some(ops) = &config.ops else { return Ok(()) };
        let listener = bind(ops.address)?;
        self.ops_address = Some(listener.local_address());
        let settings = net::Settings {
            name: "ops".into(),
            transport: Transport::Plain,
            connections: Capacity::new(MAX_OPS_CONNECTIONS),
            limits: Arc::clone(&self.reloader.limits),
            observer: Arc::new(()),
        };
        let operations = self.reloader.parts.operations(Arc::clone(&self.reloader.live));
        self.listeners.spawn(listener.serve(settings, Arc::new(operations), self.stop.subscribe()));
        Ok(())
    }
}

fn bind(address: SocketAddr) -> anyhow::Result<Listener> {
    Listener::bind(address).with_context(|| format!("cannot listen on {address}"))
}

/// Follows the configuration and the files that it names. Trust groups have a thread of their own: no other work may
/// stand before a revocation.
fn follow(reloader: &Arc<Reloader>) -> io::Result<Watches> {
    let poll = |name, look: fn(&Reloader, &Reporter)| {
        let (reloader, reporter) = (Arc::clone(reloader), reloader.parts.reporter());
        Poll::start(name, move || look(&reloader, &reporter))
    };
    let reporter = reloader.parts.reporter();
    Ok(Watches {
        _configuration: poll("configuration", Reloader::follow)?,
        _keys: reloader.parts.watch_keys(),
        _certificates: poll("certificates", |reloader, reporter| reloader.certificates.follow(reporter))?,
        _trust: poll("trust", |reloader, reporter| trust_files::look(&reloader.live.load().trust, reporter))?,
        _clients: reloader.parts.follow_clients(&reporter),
    })
}

/// The authority of the other listener, unless both share one.
fn others(own: &str, other: Option<&str>) -> Hosts {
    let authority = |url: &str| url.trim_start_matches("https://").to_owned();
    Hosts { of_others: other.filter(|other| *other != own).map(authority).into_iter().collect() }
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
