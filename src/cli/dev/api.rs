//! The protected API of `dev` and `demo`: somebody else's service, as it would use `certbind-verify`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use certbind_proto::time::{Clock, SystemClock};
use certbind_verify::fetch::{self, AddressPolicy, OnlineVerifier, Polling, Revocation};
use certbind_verify::{Demand, Denied, Verified};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Request, Response, StatusCode};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::setup::{SCOPE, Setup};
use crate::net::{self, Capacity, ConnInfo, Listener, Reply, Service, Transport, tls};

/// How often this API asks what is revoked. In production ten seconds will do.
const POLL: Duration = Duration::from_millis(500);

/// The one resource of this API.
const PATH: &str = "/payments";

/// A running API.
pub struct Api {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Api {
    /// Starts the API on an open socket, with the set-up's server certificate, and with the set-up's server as the one
    /// issuer that it trusts.
    ///
    /// # Errors
    /// When the certificates cannot be used.
    pub async fn start(listener: Listener, setup: &Setup) -> anyhow::Result<Self> {
        let payments = Payments::new(setup)?;
        anyhow::ensure!(
            payments.verifier.warm_up(SystemClock.now()).await,
            "the API cannot get the server's keys and its list of what is revoked"
        );
        let settings = net::Settings {
            name: "api".into(),
            transport: Transport::Tls(Arc::new(tls::Acceptor::new(&tls_settings(setup)?)?)),
            connections: Capacity::new(net::affordable_connections(1000)),
            limits: Arc::default(),
            observer: Arc::new(()),
        };
        let address = listener.local_address();
        let stop = watch::Sender::new(false);
        let task = tokio::spawn(listener.serve(settings, Arc::new(payments), stop.subscribe()));
        Ok(Self { address, stop, task })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it, after what is in flight.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let _ = self.task.await;
    }
}

/// Any certificate is taken in the handshake, as long as its key is proved: whom it was issued to was the issuer's
/// business, here it only has to be the one in the token (RFC 8705 §6.2).
fn tls_settings(setup: &Setup) -> anyhow::Result<tls::Settings> {
    let chain = CertificateDer::pem_file_iter(setup.path("server.pem"))?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(setup.path("server.key"))?;
    Ok(tls::Settings {
        certificate: tls::certified_key(chain, key)?,
        client_certificate: tls::ClientCertificate::Optional,
        min_version: tls::TlsVersion::Tls12,
        resumption: tls::Resumption::Off,
        suites: tls::Suites::Default,
    })
}

/// Answers requests that carry a token with the right scope, from the client that the token is bound to.
struct Payments {
    verifier: OnlineVerifier,
    demand: Demand,
}

impl Payments {
    fn new(setup: &Setup) -> anyhow::Result<Self> {
        let roots = certbind_client::trusted_authorities(&setup.path("ca.pem"))?;
        let settings = certbind_verify::Settings::new(setup.issuer(), setup.resource());
        let revocation = Revocation::Polled(Polling { every: POLL, ..Polling::default() });
        let fetch = fetch::Settings { revocation, ..fetch::Settings::new(roots, AddressPolicy::AllowPrivate) };
        let demand = Demand { scope: SCOPE.parse()?, ..Demand::default() };
        Ok(Self { verifier: OnlineVerifier::new(settings, fetch).context("no verifier")?, demand })
    }
}

impl Service for Payments {
    type Body = Full<Bytes>;

    async fn call(&self, request: Request<Incoming>, connection: &Arc<ConnInfo>) -> Reply {
        if request.uri().path() != PATH {
            return json_reply(StatusCode::NOT_FOUND, &json!({ "error": "not_found" }));
        }
        let authorization: Vec<&[u8]> =
            request.headers().get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes).collect();
        let certificate = connection.certificate.as_ref().map(|certificate| certificate.thumbprint());
        match self.verifier.verify(authorization, certificate, &self.demand, SystemClock.now()).await {
            Ok(verified) => granted(&verified),
            Err(denied) => refused(&denied),
        }
    }
}

fn granted(verified: &Verified) -> Reply {
    let answer = json!({ "client_id": verified.client_id(), "scope": verified.scope(), "payments": [] });
    json_reply(StatusCode::OK, &answer)
}

/// The challenge says what a client needs (RFC 6750 §3). The reason in the body is for whoever tries this out; an API in
/// production writes it into its log alone.
fn refused(denied: &Denied) -> Reply {
    let status = StatusCode::from_u16(denied.status()).unwrap_or(StatusCode::UNAUTHORIZED);
    let mut reply = json_reply(status, &json!({ "reason": denied.reason() }));
    if let Some(challenge) = denied.challenge().and_then(|text| HeaderValue::from_str(text).ok()) {
        reply.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    reply
}

fn json_reply(status: StatusCode, body: &Value) -> Reply {
    let mut reply = Response::new(Full::from(body.to_string() + "\n"));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}
