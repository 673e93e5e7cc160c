//! What a listener is to its clients: the names that it goes by, and where it learns a client's certificate from, which is
//! the handshake of the connection or a proxy that ended the client's (RFC 8705 §6.5).

use std::sync::Arc;

use certbind_proto::cert::PeerCert;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderMap};

use super::Endpoints;
use crate::authn::ChainFault;
use crate::flow::{RequestFault, Through};
use crate::net::ConnInfo;
use crate::proxy::{CallerFault, Proxied};

/// A listener, as its requests see it.
pub struct Front {
    /// The names under which it is reached, and others are.
    pub hosts: Hosts,
    /// Who stands between it and its clients.
    pub behind: Behind,
}

/// Who stands between a listener and its clients.
pub enum Behind {
    /// Nobody: the certificate of a client is that of the handshake, and headers say nothing of it.
    Nobody,
    /// A proxy: its certificate is what the proxy says, and that of the handshake is the proxy's own.
    Proxy(Proxied),
}

/// The names under which one listener is reached, and others are.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    /// Authorities of other listeners. A request for one of them came over the wrong connection (RFC 9110 §7.4).
    pub of_others: Vec<String>,
}

/// How a request came: over which connection, and through whom.
pub(super) struct Came<'c> {
    pub(super) connection: &'c ConnInfo,
    way: Way<'c>,
}

enum Way<'c> {
    Direct,
    Through(&'c Proxied, Through),
    /// To a listener for proxies, and not from one.
    Stranger(CallerFault),
}

impl Endpoints {
    /// Everything about a proxy is looked at for each of its requests, also that nobody revoked its certificate.
    pub(super) fn came<'c>(&self, connection: &'c ConnInfo, front: &'c Front) -> Came<'c> {
        let Behind::Proxy(proxied) = &front.behind else { return Came { connection, way: Way::Direct } };
        let now = self.flows.clock.now();
        let is_revoked = |own: &PeerCert| self.flows.revocations.is_certificate_revoked(own.thumbprint(), now);
        let way = match proxied.caller(connection, now) {
            Err(fault) => Way::Stranger(fault),
            Ok(_) if connection.certificate.as_deref().is_some_and(is_revoked) => {
                Way::Stranger(ChainFault::Revoked.into())
            }
            Ok(named) => {
                let format = proxied.forwarding.format().as_str();
                Way::Through(proxied, Through { proxy: named.to_string(), format })
            }
        };
        Came { connection, way }
    }
}

impl Came<'_> {
    /// Whether it came from somebody who should be a proxy and is none.
    pub(super) const fn is_from_a_stranger(&self) -> bool {
        matches!(self.way, Way::Stranger(_))
    }

    /// The proxy that it came through.
    pub(super) fn through(&self) -> Option<Through> {
        match &self.way {
            Way::Through(_, through) => Some(through.clone()),
            Way::Direct | Way::Stranger(_) => None,
        }
    }

    /// The certificate whose private key the client has: proved here, or to the proxy (RFC 8705 §2, §6.5). Looked up anew
    /// for each request, as a proxy sends those of many clients over one connection.
    pub(super) fn certificate(&self, headers: &HeaderMap) -> Result<Option<Arc<PeerCert>>, RequestFault> {
        match &self.way {
            Way::Direct => Ok(self.connection.certificate.clone()),
            Way::Stranger(fault) => Err(RequestFault::Caller(*fault)),
            Way::Through(proxied, _) => {
                let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
                proxied.said(headers).map_err(RequestFault::Forwarded)
            }
        }
    }
}

impl Hosts {
    /// Whether the request names another listener's host: a client that reuses a connection for a second name would
    /// meet a listener that never asked for its certificate.
    pub(super) fn misdirects(&self, request: &Request<Incoming>) -> bool {
        let named = request.uri().authority().map(hyper::http::uri::Authority::as_str);
        let named = named.or_else(|| request.headers().get(HOST).and_then(|host| host.to_str().ok()));
        // The port of the scheme may be named or left out (RFC 9110 §4.2.3).
        let plain = |authority| str::strip_suffix(authority, ":443").unwrap_or(authority);
        named.is_some_and(|named| self.of_others.iter().any(|other| plain(other).eq_ignore_ascii_case(plain(named))))
    }
}
