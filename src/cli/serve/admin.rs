//! The listener of the admin API.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use certbind_proto::time::Timestamp;
use hyper::Request;
use hyper::body::Incoming;
use tokio::sync::watch;

use super::reload::Reloader;
use super::server::Server;
use crate::admin::{Access, Admin, Host, Reloaded, Standing};
use crate::authn::trust::TrustGroups;
use crate::cli::report::Report;
use crate::config::{AdminListener, Config, Storage};
use crate::http::{BodyLimits, TOKEN_PATH};
use crate::net::{self, Capacity, ConnInfo, Listener, Service, Transport, UnixFault};

/// How many connections the admin listener takes.
const MAX_CONNECTIONS: usize = 64;

/// The largest registration, in bytes; that of a client's file.
const MAX_BODY: usize = 256 * 1024;

/// How often it is looked whether the process before is gone.
const AGAIN: Duration = Duration::from_millis(250);

impl Server {
    /// Serves the admin API. A new process that starts beside the old one waits until the old one gives the socket up; it
    /// serves clients meanwhile.
    pub(super) fn serve_admin(&mut self, config: &Config) -> anyhow::Result<()> {
        let Some(AdminListener::Unix(path)) = &config.admin else { return Ok(()) };
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
        let platform = &self.reloader.parts.platform;
        let host = ServerAround { reloader: Arc::clone(&self.reloader), started: platform.clock.now() };
        let limits = BodyLimits { max_bytes: MAX_BODY, deadline: config.limits.body_timeout };
        let (path, stop) = (path.clone(), self.stop.subscribe());
        self.listeners.spawn(async move {
            let Some(listener) = until_free(listener, &path, stop.clone()).await else { return };
            tracing::info!(socket = %path.display(), "the admin API is ready");
            let access = Access::Owner { uid: listener.uid() };
            listener.serve(settings, Arc::new(host.admin(access, limits)), stop).await;
        });
        Ok(())
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
            keys: Arc::clone(&parts.keys),
            host: Arc::new(self),
            store: parts.store.clone(),
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
