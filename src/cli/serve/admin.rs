//! The listener of the admin API: a Unix socket, or mutual TLS.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use certbind_proto::cert::Certificate;
use certbind_proto::time::Timestamp;
use hyper::Request;
use hyper::body::Incoming;
use tokio::sync::watch;

use super::reload::Reloader;
use super::server::{Counted, Server};
use crate::admin::{Access, Admin, Host, Reloaded, Standing};
use crate::authn::trust::{TrustGroup, TrustGroups};
use crate::cli::report::Report;
use crate::config::{AdminListener, Config, Storage};
use crate::http::{BodyLimits, TOKEN_PATH};
use crate::net::{self, Capacity, ConnInfo, Listener, Service, Transport, UnixFault};

/// How many connections the admin socket takes.
const MAX_CONNECTIONS: usize = 64;

/// How many there may be over TLS, where strangers can open some until their handshakes are cut.
const MAX_TLS_CONNECTIONS: usize = 256;

/// The largest registration, in bytes; that of a client's file.
const MAX_BODY: usize = 256 * 1024;

/// How often it is looked whether the process before is gone.
const AGAIN: Duration = Duration::from_millis(250);

impl Server {
    /// Serves the admin API where the configuration has it. `listener` is that of mutual TLS.
    pub(super) fn serve_admin(&mut self, config: &Config, listener: Option<Listener>) -> anyhow::Result<()> {
        let limits = BodyLimits { max_bytes: MAX_BODY, deadline: config.limits.body_timeout };
        match (&config.admin, listener) {
            (Some(AdminListener::Unix(path)), _) => self.serve_admin_socket(path, limits),
            (Some(AdminListener::Tls(_)), Some(listener)) => self.serve_admin_over_tls(listener, limits),
            (Some(AdminListener::Tls(_)), None) | (None, _) => Ok(()),
        }
    }

    /// A new process that starts beside the old one waits until the old one gives the socket up; it serves clients
    /// meanwhile.
    fn serve_admin_socket(&mut self, path: &Path, limits: BodyLimits) -> anyhow::Result<()> {
        let listener = match Listener::bind_unix(path) {
            Err(UnixFault::InUse { path }) => {
                tracing::warn!(socket = %path.display(), "another process has the admin socket; waiting until it ends");
                None
            }
            bound => Some(bound.context("the admin API has no socket")?),
        };
        let settings = net::Settings {
            name: "admin".into(),
            transport: Transport::Plain,
            connections: Capacity::new(MAX_CONNECTIONS),
            limits: Arc::clone(&self.reloader.limits),
            observer: Arc::new(()),
        };
        let host = self.around();
        let (path, stop) = (path.to_owned(), self.stop.subscribe());
        self.listeners.spawn(async move {
            let Some(listener) = until_free(listener, &path, stop.clone()).await else { return };
            tracing::info!(socket = %path.display(), "the admin API is ready");
            let access = Access::Owner { uid: listener.uid() };
            listener.serve(settings, Arc::new(host.admin(access, limits)), stop).await;
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
        let started = self.reloader.parts.platform.clock.now();
        ServerAround { reloader: Arc::clone(&self.reloader), started }
    }
}

/// The socket, as soon as there is one; none when the server is to end before.
async fn until_free(listener: Option<Listener>, path: &Path, mut stop: watch::Receiver<bool>) -> Option<Listener> {
    if listener.is_some() {
        return listener;
    }
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return None,
            () = tokio::time::sleep(AGAIN) => {}
        }
        match Listener::bind_unix(path) {
            Ok(listener) => return Some(listener),
            Err(UnixFault::InUse { .. }) => {}
            Err(fault) => {
                tracing::error!(%fault, "the admin API has no socket");
                return None;
            }
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
            started: self.started,
            refused: self.reloader.parts.metrics.rejected(),
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
        let Report { taken, refused } = self.reloader.reload();
        Reloaded { taken, refused }
    }
}

impl Service for Admin {
    async fn call(&self, request: Request<Incoming>, connection: &Arc<ConnInfo>) -> net::Reply {
        Self::call(self, request, connection).await
    }
}
