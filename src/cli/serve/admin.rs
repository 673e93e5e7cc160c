//! The listener of the admin API.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hyper::Request;
use hyper::body::Incoming;
use tokio::sync::watch;

use super::parts::Parts;
use super::server::Server;
use crate::admin::{Access, Admin};
use crate::config::{AdminListener, Config};
use crate::http::BodyLimits;
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
        let (parts, limits) = (Arc::clone(&self.reloader.parts), bodies(config));
        let (path, stop) = (path.clone(), self.stop.subscribe());
        self.listeners.spawn(async move {
            let Some(listener) = until_free(listener, &path, stop.clone()).await else { return };
            tracing::info!(socket = %path.display(), "the admin API is ready");
            let access = Access::Owner { uid: listener.uid() };
            listener.serve(settings, Arc::new(parts.admin(access, limits)), stop).await;
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

const fn bodies(config: &Config) -> BodyLimits {
    BodyLimits { max_bytes: MAX_BODY, deadline: config.limits.body_timeout }
}

impl Parts {
    fn admin(&self, access: Access, limits: BodyLimits) -> Admin {
        Admin {
            access,
            clients: self.registry.clone(),
            store: self.store.clone(),
            clock: Arc::clone(&self.platform.clock),
            entropy: Arc::clone(&self.platform.entropy),
            audit: self.lines.clone(),
            metrics: Arc::clone(&self.metrics),
            limits,
        }
    }
}

impl Service for Admin {
    async fn call(&self, request: Request<Incoming>, connection: &Arc<ConnInfo>) -> net::Reply {
        Self::call(self, request, connection).await
    }
}
