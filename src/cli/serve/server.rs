//! A running server: listeners over one reloadable state, and the threads that follow files.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Incoming;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::field::display;

use super::live::OnListener;
use super::parts::{Parts, Platform};
use super::reload::Reloader;
use super::sockets::Sockets;
use crate::cli::audit_log;
use crate::cli::clients;
use crate::cli::poll::Poll;
use crate::cli::report::{Report, Reporter};
use crate::cli::signing_keys::KeyWatch;
use crate::config::{AdminListener, Config, Opened, ProxyListener, WebOrigin};
use crate::http::ops::Operations;
use crate::http::{Behind, Front, Hosts};
use crate::metrics::Metrics;
use crate::net::{self, Capacity, ConnInfo, HandshakeFault, Listener, Observer, Service, TlsVersion, Transport, tls};
use crate::usage::Writing;

/// How many connections the operations listener takes.
const MAX_OPS_CONNECTIONS: usize = 64;

/// How long it may take at the end to write down which credentials were in use.
const LAST_WRITE: Duration = Duration::from_secs(3);

/// A running server.
pub struct Server {
    address: Option<SocketAddr>,
    public_address: Option<SocketAddr>,
    ops_address: Option<SocketAddr>,
    admin_address: Option<SocketAddr>,
    proxy_address: Option<SocketAddr>,
    pub(super) stop: watch::Sender<bool>,
    pub(super) listeners: JoinSet<()>,
    pub(super) reloader: Arc<Reloader>,
    _watches: Watches,
}

/// What follows files until it is dropped.
struct Watches {
    _configuration: Poll,
    _keys: KeyWatch,
    _certificates: Poll,
    _trust: Poll,
    _clients: clients::Following,
    _usages: Writing,
}

impl Server {
    /// Starts everything that the configuration names, on sockets that are open already where there are such.
    ///
    /// # Errors
    /// When something that the server needs cannot be had; then nothing runs.
    pub async fn start(opened: Opened, sockets: Sockets, platform: Platform) -> anyhow::Result<Self> {
        for warning in &opened.checked.warnings {
            tracing::warn!("{warning}");
        }
        let config = opened.checked.config.clone();
        let Listening { mtls, public, ops, admin, proxy } = Listening::open(&config, sockets)?;
        let reloader = Arc::new(Reloader::start(opened, platform).await?);
        let mut server = Self {
            address: mtls.as_ref().map(Listener::local_address),
            public_address: public.as_ref().map(Listener::local_address),
            ops_address: ops.as_ref().map(Listener::local_address),
            admin_address: admin.as_ref().map(Listener::local_address),
            proxy_address: proxy.as_ref().map(Listener::local_address),
            stop: watch::Sender::new(false),
            listeners: JoinSet::new(),
            _watches: follow(&reloader)?,
            reloader,
        };
        server.serve_clients(&config, mtls, public);
        if let Some(own) = &config.proxy {
            server.serve_proxies(own, proxy)?;
        }
        ops.into_iter().for_each(|ops| server.serve_operations(ops));
        server.serve_admin(&config, admin)?;
        let (address, public) = (server.address.map(display), server.public_address.map(display));
        let (ops, admin) = (server.ops_address.map(display), server.admin_address.map(display));
        let proxy = server.proxy_address.map(display);
        tracing::info!(issuer = config.issuer.as_str(), address, public, ops, admin, proxy, "ready");
        Ok(server)
    }

    /// Where the listener that asks for certificates listens.
    #[must_use]
    pub const fn address(&self) -> Option<SocketAddr> {
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

    /// Where the admin API is, if it is reached over TLS.
    #[must_use]
    pub const fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
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
        let Parts { usages, platform, .. } = &*self.reloader.parts;
        // What is not written by then is lost: nobody waits for it.
        let _ = tokio::time::timeout(LAST_WRITE, usages.write(platform.clock.now())).await;
        audit_log::finish(Arc::clone(&self.reloader.parts.lines)).await;
    }

    /// How long requests in flight may take after [`Self::stop`].
    pub(super) fn drain_timeout(&self) -> Duration {
        self.reloader.limits.load().drain
    }

    fn serve_clients(&mut self, config: &Config, mtls: Option<Listener>, public: Option<Listener>) {
        let acceptors = self.reloader.certificates.acceptors();
        let mtls_url = config.mtls.as_ref().map(|mtls| &mtls.public_url);
        let proxy_url = config.proxy.as_ref().map(|proxy| &proxy.public_url);
        let public_url = config.public.as_ref().map(|public| &public.public_url);
        if let (Some(mtls), Some(acceptor), Some(own)) = (mtls, acceptors.mtls, mtls_url) {
            self.serve("mtls", mtls, acceptor, others(own, [public_url]));
        }
        if let (Some(public), Some(acceptor), Some(own)) = (public, acceptors.public, public_url) {
            self.serve("public", public, acceptor, others(own, [mtls_url, proxy_url]));
        }
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
        let service = OnListener { live: Arc::clone(live), front: Front { hosts, behind: Behind::Nobody } };
        self.listeners.spawn(listener.serve(settings, Arc::new(service), self.stop.subscribe()));
    }

    fn serve_operations(&mut self, listener: Listener) {
        let settings = net::Settings {
            name: "ops".into(),
            transport: Transport::Plain,
            connections: Capacity::new(MAX_OPS_CONNECTIONS),
            limits: Arc::clone(&self.reloader.limits),
            observer: Arc::new(()),
        };
        let Reloader { live, administrators, proxies, parts, .. } = &*self.reloader;
        let of_others = administrators.trust.all().into_iter().chain(proxies.trust.all()).collect();
        let operations = parts.operations(Arc::clone(live), of_others);
        self.listeners.spawn(listener.serve(settings, Arc::new(operations), self.stop.subscribe()));
    }
}

/// The sockets of a configuration, all of them open.
struct Listening {
    mtls: Option<Listener>,
    public: Option<Listener>,
    ops: Option<Listener>,
    admin: Option<Listener>,
    proxy: Option<Listener>,
}

impl Listening {
    fn open(config: &Config, mut sockets: Sockets) -> anyhow::Result<Self> {
        let mtls = config.mtls.as_ref().map(|mtls| sockets.listen("mtls", mtls.address)).transpose()?;
        let public = config.public.as_ref().map(|public| sockets.listen("public", public.address)).transpose()?;
        let ops = config.ops.as_ref().map(|ops| sockets.listen("ops", ops.address)).transpose()?;
        let admin = match &config.admin {
            Some(AdminListener::Tls(admin)) => Some(sockets.listen("admin", admin.address)?),
            Some(AdminListener::Unix(_)) | None => None,
        };
        let proxy = match config.proxy.as_ref().map(|proxy| &proxy.listen) {
            Some(ProxyListener::Tls(proxy)) => Some(sockets.listen("proxy", proxy.address)?),
            Some(ProxyListener::Unix { .. }) | None => None,
        };
        sockets.all_used()?;
        Ok(Self { mtls, public, ops, admin, proxy })
    }
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
        _keys: Parts::watch_keys(&reloader.parts, &reloader.live),
        _certificates: poll("certificates", |reloader, reporter| {
            // What is open is looked at again soon.
            let _ = reloader.certificates.follow(reporter);
            reloader.trusted.look(reporter);
        })?,
        _trust: poll("trust", Reloader::follow_trust)?,
        _clients: reloader.parts.follow_clients(&reporter),
        _usages: reloader.parts.write_usages(),
    })
}

/// The authorities of other listeners, except one that it shares with them.
fn others<const N: usize>(own: &WebOrigin, others: [Option<&WebOrigin>; N]) -> Hosts {
    let authority = |url: &WebOrigin| url.as_str().trim_start_matches("https://").to_owned();
    Hosts { of_others: others.into_iter().flatten().filter(|other| *other != own).map(authority).collect() }
}

impl Service for Operations {
    type Body = Full<Bytes>;

    async fn call(&self, request: Request<Incoming>, _: &Arc<ConnInfo>) -> net::Reply {
        Self::call(self, &request)
    }
}

/// Turns what a listener sees into metrics.
pub(super) struct Counted {
    pub(super) listener: &'static str,
    pub(super) metrics: Arc<Metrics>,
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
