//! The listener of the admin API: a Unix socket, or mutual TLS.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use certbind_proto::cert::Certificate;
use certbind_proto::time::Timestamp;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Incoming;
use tokio::sync::watch;

use super::reload::Reloader;
use super::server::{Counted, Server};
use crate::admin::{self, Access, Admin, Host, Reloaded, Standing};
use crate::authn::trust::{TrustGroup, TrustGroups};
use crate::cli::Unusable;
use crate::cli::report::Report;
use crate::config::{AdminListener, Config, Storage};
use crate::http::{BodyLimits, TOKEN_PATH};
use crate::net::{self, Capacity, ConnInfo, Listener, Service, SocketFile, Transport, UnixFault};

/// How many connections the admin socket takes.
const MAX_CONNECTIONS: usize = 64;

/// How many there may be over TLS, where strangers can open some until their handshakes are cut.
const MAX_TLS_CONNECTIONS: usize = 256;

/// How often it is looked whether the process before is gone, and whether the socket is still there.
const AGAIN: Duration = Duration::from_millis(250);

impl Server {
    /// Serves the admin API where the configuration has it. `listener` is that of mutual TLS.
    pub(super) fn serve_admin(&mut self, config: &Config, listener: Option<Listener>) -> anyhow::Result<()> {
        let limits = BodyLimits { max_bytes: admin::MOST_BYTES, deadline: config.limits.body_timeout };
        match (&config.admin, listener) {
            (Some(AdminListener::Unix(path)), _) => self.serve_admin_socket(path, limits),
            (Some(AdminListener::Tls(_)), Some(listener)) => self.serve_admin_over_tls(listener, limits),
            (Some(AdminListener::Tls(_)), None) | (None, _) => Ok(()),
        }
    }

    /// A new process that starts beside the old one waits until the old one gives the socket up; it serves clients
    /// meanwhile. A socket whose file somebody removed is made again: nobody finds it without.
    fn serve_admin_socket(&mut self, path: &Path, limits: BodyLimits) -> anyhow::Result<()> {
        let mut listener = match Listener::bind_unix(path) {
            Err(UnixFault::InUse { .. }) => None,
            bound => Some(bound.map_err(no_socket)?),
        };
        let settings = net::Settings {
            name: "admin".into(),
            transport: Transport::Plain,
            connections: Capacity::new(MAX_CONNECTIONS),
            limits: Arc::clone(&self.reloader.limits),
            observer: Arc::new(()),
        };
        let (reloader, started) = (Arc::clone(&self.reloader), self.started());
        let (path, stop) = (path.to_owned(), self.stop.subscribe());
        self.listeners.spawn(async move {
            while let Some(free) = until_free(listener.take(), &path, stop.clone()).await {
                tracing::info!(socket = %path.display(), "the admin API is ready");
                let access = Access::Owner { uid: free.uid() };
                let around = ServerAround { reloader: Arc::clone(&reloader), started };
                let admin = Arc::new(around.admin(access, limits));
                if serve_while_found(free, settings.clone(), admin, stop.clone()).await == Served::ToTheEnd {
                    return;
                }
                tracing::error!(socket = %path.display(), "the admin socket is gone or another one; making it again");
            }
        });
        Ok(())
    }

    fn serve_admin_over_tls(&mut self, listener: Listener, limits: BodyLimits) -> anyhow::Result<()> {
        let reloader = &self.reloader;
        let acceptor = reloader.certificates.acceptors().admin.context("the admin API has no certificate")?;
        let trust = reloader.administrators.trust.any().context("nobody vouches for administrators")?;
        let access = Access::Certificate { trust, allow: Arc::clone(&reloader.administrators.allow) };
        let metrics = Arc::clone(&reloader.parts.metrics);
        let settings = net::Settings {
            name: "admin".into(),
            transport: Transport::Tls(acceptor),
            connections: Capacity::new(MAX_TLS_CONNECTIONS),
            limits: Arc::clone(&reloader.limits),
            observer: Arc::new(Counted { listener: "admin", metrics }),
        };
        let admin = self.around().admin(access, limits);
        self.listeners.spawn(listener.serve(settings, Arc::new(admin), self.stop.subscribe()));
        Ok(())
    }

    fn around(&self) -> ServerAround {
        ServerAround { reloader: Arc::clone(&self.reloader), started: self.started() }
    }

    fn started(&self) -> Timestamp {
        self.reloader.parts.platform.clock.now()
    }
}

/// Why there is no socket. What `config check` refuses is an invalid configuration here as well.
fn no_socket(fault: UnixFault) -> anyhow::Error {
    match fault.is_of_the_path() {
        true => Unusable(format!("listen.admin.address: {fault}")).into(),
        false => anyhow::Error::new(fault).context("the admin API has no socket"),
    }
}

/// The socket, as soon as there is one; none when the server is to end before.
async fn until_free(listener: Option<Listener>, path: &Path, mut stop: watch::Receiver<bool>) -> Option<Listener> {
    if listener.is_some() {
        return listener;
    }
    let mut told = String::new();
    loop {
        match Listener::bind_unix(path) {
            Ok(listener) => return Some(listener),
            Err(fault) => {
                let why = fault.to_string();
                if told != why {
                    tell_waiting(path, &fault);
                    told = why;
                }
            }
        }
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return None,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

fn tell_waiting(path: &Path, fault: &UnixFault) {
    match fault {
        UnixFault::InUse { .. } => {
            tracing::warn!(socket = %path.display(), "another process has the admin socket; waiting until it ends");
        }
        fault => tracing::error!(%fault, "the admin API has no socket; trying again"),
    }
}

/// How it ended to serve a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Served {
    /// The server ends.
    ToTheEnd,
    /// Nobody finds the socket any more.
    UntilGone,
}

/// Serves a socket for as long as its file is there. Connections that are open by then are served until they are idle.
async fn serve_while_found(
    listener: Listener,
    settings: net::Settings,
    admin: Arc<Admin>,
    mut stop: watch::Receiver<bool>,
) -> Served {
    let file = listener.file().cloned();
    let (retire, retired) = watch::channel(false);
    let serving = tokio::spawn(listener.serve(settings, admin, retired));
    let served = tokio::select! {
        _ = stop.wait_for(|stop| *stop) => Served::ToTheEnd,
        () = gone(file) => Served::UntilGone,
    };
    retire.send_replace(true);
    if served == Served::ToTheEnd {
        // An error means that the process ends.
        let _ = serving.await;
    }
    served
}

/// Waits until a file is not there any more.
async fn gone(file: Option<SocketFile>) {
    let Some(file) = file else { return std::future::pending().await };
    loop {
        tokio::time::sleep(AGAIN).await;
        let there = file.clone();
        if !tokio::task::spawn_blocking(move || there.is_there()).await.unwrap_or(true) {
            return;
        }
    }
}

/// What the admin API knows of this server.
struct ServerAround {
    reloader: Arc<Reloader>,
    started: Timestamp,
}

impl ServerAround {
    fn admin(self, access: Access, limits: BodyLimits) -> Admin {
        let parts = Arc::clone(&self.reloader.parts);
        Admin {
            access,
            clients: parts.registry.clone(),
            revocations: Arc::clone(&parts.revoking.revocations),
            keys: Arc::clone(&parts.keys),
            usages: Arc::clone(&parts.usages),
            host: Arc::new(self),
            store: parts.store.clone(),
            lines: parts.store.clone(),
            clock: Arc::clone(&parts.platform.clock),
            entropy: Arc::clone(&parts.platform.entropy),
            audit: parts.lines.clone(),
            metrics: Arc::clone(&parts.metrics),
            limits,
        }
    }
}

impl Host for ServerAround {
    fn standing(&self) -> Standing {
        let live = self.reloader.live.load();
        let config = &live.checked.config;
        Standing {
            issuer: config.issuer.as_str().to_owned(),
            token_endpoint: format!("{}{TOKEN_PATH}", config.mtls.public_url.as_str()),
            engine: match config.storage {
                Storage::Sqlite => "sqlite",
                Storage::Postgres(_) => "postgres",
            },
            is_store_healthy: self.reloader.parts.store.is_healthy(),
            not_ready: self.reloader.parts.not_ready(),
            started: self.started,
            refused: self.reloader.parts.metrics.rejected(),
            warnings: self.reloader.warnings(),
        }
    }

    fn trust(&self) -> Arc<TrustGroups> {
        Arc::clone(&self.reloader.live.load().trust)
    }

    fn trust_of_administrators(&self) -> Option<Arc<TrustGroup>> {
        self.reloader.administrators.trust.any()
    }

    fn certificates(&self) -> Vec<(&'static str, Certificate)> {
        self.reloader.certificates.in_force()
    }

    fn reload(&self) -> Reloaded {
        let Report { taken, refused } = self.reloader.reload_and_decide();
        Reloaded { taken, refused, warnings: self.reloader.warnings() }
    }
}

impl Service for Admin {
    type Body = Full<Bytes>;

    async fn call(&self, request: Request<Incoming>, connection: &Arc<ConnInfo>) -> net::Reply {
        Self::call(self, request, connection).await
    }
}
