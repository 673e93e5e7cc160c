//! A small API that takes certificate-bound access tokens, with hyper and rustls.
//!
//! `cargo run -p certbind-verify --features fetch --example hyper -- \
//!     127.0.0.1:8444 server.pem server.key https://localhost:8443 https://localhost:8444 ca.pem`
//!
//! Three things make the binding hold (RFC 8705 §3):
//! 1. TLS asks for a client certificate and has its possession proved ([`tls::config`]).
//! 2. Its thumbprint is taken from this very connection, never from a header ([`tls::certificate_of`]).
//! 3. Each request is verified, also on a connection that has been open for an hour ([`answer`]).

pub(crate) mod tls;

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use certbind_verify::fetch::{self, AddressPolicy, Authorities, OnlineVerifier};
use certbind_verify::{Clock as _, Demand, Denied, ResourceMetadata, Settings, SystemClock, Thumbprint, Verified};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [address, chain, key, issuer, audience, ca] = arguments.as_slice() else {
        return Err("usage: hyper ADDRESS CERTIFICATE KEY ISSUER AUDIENCE ISSUER_CA".into());
    };
    // The issuer stands next door here; for one in the internet it is AddressPolicy::PublicOnly.
    let fetch = fetch::Settings::new(Authorities::new(&tls::certificates(ca)?)?, AddressPolicy::AllowPrivate);
    let metadata = ResourceMetadata::new(audience, issuer)?;
    let settings = Settings { resource_metadata: Some(metadata.url()), ..Settings::new(issuer, audience) };
    let metadata = metadata.with_scopes(&"payments:read payments:refund".parse()?);
    let api = Api { verifier: OnlineVerifier::new(settings, fetch)?, metadata };
    serve(TcpListener::bind(address).await?, tls::from_files(chain, key)?, api).await;
    Ok(())
}

/// What every connection needs.
pub(crate) struct Api {
    pub(crate) verifier: OnlineVerifier,
    /// What the API says of itself to whoever has no token yet (RFC 9728).
    pub(crate) metadata: ResourceMetadata,
}

/// Serves until the process ends.
pub(crate) async fn serve(listener: TcpListener, tls: ServerConfig, api: Api) {
    let (acceptor, api) = (TlsAcceptor::from(Arc::new(tls)), Arc::new(api));
    loop {
        let tcp = tls::next(&listener).await;
        tokio::spawn(connection(acceptor.clone(), tcp, Arc::clone(&api)));
    }
}

async fn connection(acceptor: TlsAcceptor, tcp: TcpStream, api: Arc<Api>) {
    let Some(stream) = tls::accept(&acceptor, tcp).await else { return };
    let certificate = tls::certificate_of(&stream);
    let service = service_fn(|request| answer(&api, certificate, request));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(tls::PATIENCE);
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(
    api: &Api,
    certificate: Option<Thumbprint>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() == Method::GET && request.uri().path() == api.metadata.path() {
        return Ok(document(&api.metadata));
    }
    let Some(demand) = demand_of(request.uri().path()) else { return Ok(reply(StatusCode::NOT_FOUND, "")) };
    Ok(match verify(&api.verifier, certificate.as_ref(), &demand, &request).await {
        Ok(verified) => reply(StatusCode::OK, &format!("paid by {}\n", verified.client_id())),
        Err(denied) => refuse(&denied),
    })
}

/// What each path demands: a bound token, which is the default, and a scope.
fn demand_of(path: &str) -> Option<Demand> {
    let scope = match path {
        "/payments" => "payments:read",
        "/refunds" => "payments:refund",
        _ => return None,
    };
    Some(Demand { scope: scope.parse().ok()?, ..Demand::default() })
}

async fn verify(
    verifier: &OnlineVerifier,
    certificate: Option<&Thumbprint>,
    demand: &Demand,
    request: &Request<Incoming>,
) -> Result<Verified, Denied> {
    let authorization: Vec<_> = request.headers().get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes).collect();
    // A token in the query alone counts as none (RFC 6750 §2.3); beside the header it is one too many (§2).
    if !authorization.is_empty() && has_token_in_query(request) {
        return Err(verifier.offline().deny_second_transport(demand));
    }
    verifier.verify(authorization, certificate, demand, SystemClock.now()).await
}

fn has_token_in_query(request: &Request<Incoming>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    query.split('&').any(|parameter| parameter.split('=').next() == Some("access_token"))
}

fn document(metadata: &ResourceMetadata) -> Response<Full<Bytes>> {
    let mut response = reply(StatusCode::OK, &metadata.to_json());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
    response
}

fn refuse(denied: &Denied) -> Response<Full<Bytes>> {
    eprintln!("denied: {}", denied.reason());
    let status = StatusCode::from_u16(denied.status()).unwrap_or(StatusCode::FORBIDDEN);
    let mut response = reply(status, "");
    if let Some(challenge) = denied.challenge().and_then(|challenge| HeaderValue::from_str(challenge).ok()) {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

fn reply(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
