//! The listener that believes proxies (RFC 9440; RFC 8705 §6.5): a Unix socket, or mutual TLS.

use std::sync::Arc;

use anyhow::Context as _;
use certbind_proto::time::Timestamp;

use super::live::{Live, OnListener};
use super::server::{Counted, Server};
use super::socket::Socket;
use crate::authn::trust::TrustGroups;
use crate::cli::{proxies, trust_files};
use crate::config::{BehindProxy, Config, Environment, ProxyFiles, ProxyListener};
use crate::http::{Behind, Front, Hosts};
use crate::net::{self, Listener, Others, Transport};
use crate::proxy::{Caller, Proxied};

/// How the proxies of `[listen.proxy]` are known; nobody vouches for them where they come over a Unix socket.
pub(super) struct Proxies {
    pub(super) trust: TrustGroups,
    pub(super) users: Vec<u32>,
}

impl Proxies {
    /// Of the configuration and what it names.
    ///
    /// # Errors
    /// When an anchor or a list must not be used.
    pub(super) fn new(
        config: &Config,
        files: Option<ProxyFiles>,
        environment: &Environment,
        now: Timestamp,
    ) -> anyhow::Result<Self> {
        let listen = config.proxy.as_ref().map(|proxy| &proxy.listen);
        Ok(match (listen, files) {
            (Some(ProxyListener::Tls(own)), Some(ProxyFiles::Tls(files))) => {
                let group = trust_files::of_proxies(trust_files::PROXIES, &own.trust, files.trust, environment, now)?;
                Self { trust: TrustGroups::new([group]), users: Vec::new() }
            }
            (_, Some(ProxyFiles::Users(users))) => Self { trust: TrustGroups::default(), users },
            _ => Self { trust: TrustGroups::default(), users: Vec::new() },
        })
    }
}

impl Server {
    /// Serves what proxies forward. `listener` is that of mutual TLS.
    pub(super) fn serve_proxies(&mut self, own: &BehindProxy, listener: Option<Listener>) -> anyhow::Result<()> {
        match (&own.listen, listener) {
            (ProxyListener::Unix { path, .. }, _) => {
                let (live, users) = (Arc::clone(&self.reloader.live), self.reloader.proxies.users.clone());
                let (key, path) = ("listen.proxy.address", path.clone());
                let socket = Socket { key, path, others: Others::LetIn, users };
                let settings = self.settings_for_proxies(Transport::Plain);
                let own = own.clone();
                self.serve_socket(socket, settings, move |listener| {
                    service(Arc::clone(&live), &own, proxies::users(listener))
                })
            }
            (ProxyListener::Tls(tls), listener) => {
                let acceptor = self.reloader.certificates.acceptors().proxy;
                let acceptor = acceptor.context("the listener for proxies has no certificate")?;
                let trust = self.reloader.proxies.trust.any().context("nobody vouches for proxies")?;
                let listener = listener.context("the listener for proxies has no address")?;
                let service = service(Arc::clone(&self.reloader.live), own, proxies::named(tls, trust));
                let settings = self.settings_for_proxies(Transport::Tls(acceptor));
                self.listeners.spawn(listener.serve(settings, Arc::new(service), self.stop.subscribe()));
                Ok(())
            }
        }
    }

    fn settings_for_proxies(&self, transport: Transport) -> net::Settings {
        net::Settings {
            name: "proxy".into(),
            transport,
            connections: Arc::clone(&self.reloader.connections),
            limits: Arc::clone(&self.reloader.proxy_limits),
            observer: Arc::new(Counted { listener: "proxy", metrics: Arc::clone(&self.reloader.parts.metrics) }),
        }
    }
}

/// Which host a request names is the proxy's business: it has asked for the certificate, or not.
fn service(live: Live, own: &BehindProxy, caller: Caller) -> OnListener {
    let proxied = Proxied { caller, forwarding: own.forwarding.clone() };
    OnListener { live, front: Front { hosts: Hosts::default(), behind: Behind::Proxy(proxied) } }
}
