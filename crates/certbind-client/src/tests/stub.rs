//! A stub of an authorization server over real TLS: it remembers what it was asked and answers as it is told.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use certbind_devpki::{Identity, Issuer, LeafSpec, Validity};
use certbind_proto::request::Form;
use certbind_proto::thumbprint::Thumbprint;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::START;
use crate::Authorities;

/// From 1970 to 2100: what a test does not spoil holds at any time.
pub(crate) const ALWAYS: Validity = Validity { not_before: 0, not_after: 4_102_444_800 };

/// One authority for server and clients.
pub(crate) struct Pki {
    pub(crate) root: Issuer,
}

impl Pki {
    pub(crate) fn new() -> Self {
        Self { root: Issuer::root("stub", ALWAYS).expect("an authority") }
    }

    pub(crate) fn authorities(&self) -> Authorities {
        Authorities::new(std::slice::from_ref(self.root.certificate())).expect("an authority")
    }

    pub(crate) fn client(&self, validity: Validity) -> Identity {
        self.root.leaf(&LeafSpec::client("billing", validity)).expect("a certificate")
    }
}

/// A token request as it came.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) certificate: Option<Thumbprint>,
    pub(crate) form: Form,
    pub(crate) path: String,
}

/// An answer: status, header fields, body.
pub(crate) struct Reply(pub(crate) u16, pub(crate) Vec<(&'static str, String)>, pub(crate) String);

impl Reply {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self(status, Vec::new(), body.to_string())
    }

    /// A token with this name, for 300 seconds.
    pub(crate) fn token(name: &str) -> Self {
        Self::json(200, &json!({"access_token": name, "token_type": "Bearer", "expires_in": 300}))
    }

    pub(crate) fn error(status: u16, code: &str) -> Self {
        Self::json(status, &json!({ "error": code }))
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.1.push((name, value.to_owned()));
        self
    }
}

/// Answers the n-th token request, counted from 0.
type Script = Box<dyn Fn(usize, &Seen) -> Reply + Send + Sync>;

/// Answers a request for metadata, by path and issuer.
type Metadata = Box<dyn Fn(&str, &str) -> Reply + Send + Sync>;

/// Whether a client must show a certificate that the stub's own authority issued.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Certificates {
    Optional,
    Required,
}

pub(crate) struct Stub {
    address: SocketAddr,
    inner: Arc<Inner>,
}

struct Inner {
    /// What the API was asked, and how it answered.
    calls: Mutex<Vec<u16>>,
    connections: AtomicUsize,
    /// The first token request is answered when this is open.
    gate: Semaphore,
    issuer: String,
    metadata: Mutex<Metadata>,
    /// The certificates on connections that are open.
    open: Mutex<Vec<Thumbprint>>,
    /// How many more calls of the API are refused whatever they show, and how.
    refused: Mutex<(usize, u16, &'static str)>,
    script: Script,
    seen: Mutex<Vec<Seen>>,
}

impl Stub {
    pub(crate) async fn start(pki: &Pki, script: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with(pki, Certificates::Optional, script).await
    }

    pub(crate) async fn start_with(
        pki: &Pki,
        certificates: Certificates,
        script: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let inner = Arc::new(Inner {
            calls: Mutex::default(),
            connections: AtomicUsize::new(0),
            gate: Semaphore::new(1),
            issuer: format!("https://localhost:{}", address.port()),
            metadata: Mutex::new(Box::new(good_metadata)),
            open: Mutex::default(),
            refused: Mutex::default(),
            script: Box::new(script),
            seen: Mutex::new(Vec::new()),
        });
        let (acceptor, shared) = (TlsAcceptor::from(Arc::new(server_config(pki, certificates))), inner.clone());
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(acceptor.clone(), tcp, shared.clone()));
            }
        });
        Self { address, inner }
    }

    /// From here on metadata are what this function makes of path and issuer.
    pub(crate) fn set_metadata(&self, metadata: impl Fn(&str, &str) -> Reply + Send + Sync + 'static) {
        *self.inner.metadata.lock().expect("a lock") = Box::new(metadata);
    }

    /// The first token request waits for its answer until [`release`](Self::release).
    pub(crate) fn hold(&self) {
        self.inner.gate.forget_permits(1);
    }

    pub(crate) fn release(&self) {
        self.inner.gate.add_permits(1);
    }

    /// Comes back when so many token requests have arrived.
    pub(crate) async fn has_seen(&self, requests: usize) {
        while self.seen().len() < requests {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The next calls of the API are refused like this, whatever they show.
    pub(crate) fn refuse_calls(&self, calls: usize, status: u16, challenge: &'static str) {
        *self.inner.refused.lock().expect("a lock") = (calls, status, challenge);
    }

    /// How often the API was called.
    pub(crate) fn calls(&self) -> usize {
        self.inner.calls.lock().expect("a lock").len()
    }

    /// How often the API said no.
    pub(crate) fn refusals(&self) -> usize {
        self.inner.calls.lock().expect("a lock").iter().filter(|status| **status != 200).count()
    }

    /// How many connections are open that show this certificate.
    pub(crate) fn open_with(&self, identity: &Identity) -> usize {
        let wanted = Thumbprint::of_der(identity.certificate());
        self.inner.open.lock().expect("a lock").iter().filter(|shown| **shown == wanted).count()
    }

    /// Comes back when this is so.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        for _ in 0..1000 {
            if is_so() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{what}: not in time")
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.inner.issuer
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.inner.seen.lock().expect("a lock").clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.inner.connections.load(Ordering::SeqCst)
    }
}

/// Only at OAuth's own place, with nothing but a token endpoint.
fn good_metadata(path: &str, issuer: &str) -> Reply {
    if path.starts_with("/.well-known/oauth-authorization-server") {
        Reply::json(200, &json!({"issuer": issuer, "token_endpoint": format!("{issuer}/token")}))
    } else {
        Reply(404, Vec::new(), String::new())
    }
}

fn server_config(pki: &Pki, certificates: Certificates) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(pki.root.certificate().clone()).expect("a root");
    let mut verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    if certificates == Certificates::Optional {
        verifier = verifier.allow_unauthenticated();
    }
    let server = pki.root.leaf(&LeafSpec::server(ALWAYS)).expect("a certificate");
    ServerConfig::builder_with_details(provider, Arc::new(StandStill))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_single_cert(server.chain().to_vec(), server.key())
        .expect("a configuration")
}

/// The stub judges certificates at the time at which the tests begin.
#[derive(Debug)]
struct StandStill;

impl TimeProvider for StandStill {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(START.unix().try_into().ok()?)))
    }
}

async fn serve(acceptor: TlsAcceptor, tcp: TcpStream, inner: Arc<Inner>) {
    let Ok(stream) = acceptor.accept(tcp).await else { return };
    let certificate = stream.get_ref().1.peer_certificates().map(|chain| Thumbprint::of_der(&chain[0]));
    inner.open.lock().expect("a lock").extend(certificate);
    let shared = inner.clone();
    let service = service_fn(move |request| answer(request, certificate, shared.clone()));
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    let mut open = inner.open.lock().expect("a lock");
    if let Some(at) = open.iter().position(|shown| Some(*shown) == certificate) {
        open.swap_remove(at);
    }
}

async fn answer(
    request: Request<Incoming>,
    certificate: Option<Thumbprint>,
    inner: Arc<Inner>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let path = request.uri().path().to_owned();
    if path == "/api" {
        return Ok(respond(api(&request, certificate, &inner)));
    }
    if request.method() == hyper::Method::GET {
        return Ok(respond((inner.metadata.lock().expect("a lock"))(&path, &inner.issuer)));
    }
    let body = request.into_body().collect().await?.to_bytes();
    let seen = Seen { certificate, form: Form::parse(&body).expect("a form"), path };
    let count = {
        let mut all = inner.seen.lock().expect("a lock");
        all.push(seen.clone());
        all.len() - 1
    };
    if count == 0 {
        let _open = inner.gate.acquire().await;
    }
    Ok(respond((inner.script)(count, &seen)))
}

/// An API that enforces the binding: a token is good with the certificate that it names at its end.
fn api(request: &Request<Incoming>, certificate: Option<Thumbprint>, inner: &Inner) -> Reply {
    let reply = |status, challenge: &str| {
        inner.calls.lock().expect("a lock").push(status);
        Reply(status, vec![("www-authenticate", challenge.to_owned())], String::new())
    };
    let (left, status, challenge) = &mut *inner.refused.lock().expect("a lock");
    if let Some(less) = left.checked_sub(1) {
        *left = less;
        return reply(*status, challenge);
    }
    let authorization = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bound_to = authorization.and_then(|value| value.rsplit_once('.')).map(|(_, bound_to)| bound_to);
    match certificate {
        Some(shown) if bound_to == Some(shown.to_string().as_str()) => reply(200, "none"),
        _ => reply(401, r#"Bearer error="invalid_token""#),
    }
}

fn respond(Reply(status, headers, body): Reply) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    for (name, value) in headers {
        response.headers_mut().insert(name, value.parse().expect("a value"));
    }
    response
}
