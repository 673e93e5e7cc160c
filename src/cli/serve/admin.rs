//! The listener of the admin API: a Unix socket, or mutual TLS.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use certbind_proto::cert::Certificate;
use certbind_proto::time::Timestamp;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Incoming;

use super::reload::Reloader;
use super::server::{Counted, Server};
use super::socket::Socket;
use crate::admin::{self, Access, Admin, Host, Reloaded, Standing};
use crate::authn::trust::{TrustGroup, TrustGroups};
use crate::cli::report::Report;
use crate::config::{AdminListener, Config, Storage};
use crate::http::{BodyLimits, TOKEN_PATH};
use crate::net::{self, Capacity, ConnInfo, Listener, Others, Service, Transport};

/// How many connections the admin socket takes.
const MAX_CONNECTIONS: usize = 64;

/// How many there may be over TLS, where strangers can open some until their handshakes are cut.
const MAX_TLS_CONNECTIONS: usize = 256;

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

    fn serve_admin_socket(&mut self, path: &Path, limits: BodyLimits) -> anyhow::Result<()> {
        let settings = net::Settings {
            name: "admin".into(),
            transport: Transport::Plain,
            connections: Capacity::new(MAX_CONNECTIONS),
            limits: Arc::clone(&self.reloader.limits),
            observer: Arc::new(()),
        };
        let (reloader, started) = (Arc::clone(&self.reloader), self.started());
        let (path, users) = (path.to_owned(), Vec::new());
        let socket = Socket { key: "listen.admin.address", path, others: Others::KeptOut, users };
        self.serve_socket(socket, settings, move |listener| {
            let around = ServerAround { reloader: Arc::clone(&reloader), started };
            around.admin(Access::Owner { uid: listener.uid() }, limits)
        })
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
            token_endpoint: format!("{}{TOKEN_PATH}", config.certificate_url.as_str()),
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
