//! A small API that takes certificate-bound access tokens, with hyper and rustls.
//!
//! `cargo run -p certbind-verify --features fetch --example hyper -- \
//!     127.0.0.1:8444 server.pem server.key https://localhost:8443 https://localhost:8444 ca.pem`
//!
//! Three things make the binding hold (RFC 8705 §3):
//! 1. TLS asks for a client certificate and has its possession proved ([`AnyCertificate`]).
//! 2. Its thumbprint is taken from this very connection, never from a header ([`certificate_of`]).
//! 3. Each request is verified, also on a connection that has been open for an hour ([`answer`]).

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use certbind_verify::fetch::{self, AddressPolicy, OnlineVerifier};
use certbind_verify::{Clock as _, Demand, Denied, Settings, SystemClock, Thumbprint, Verified};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The most time for a handshake, and for the header of a request.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [address, chain, key, issuer, audience, ca] = arguments.as_slice() else {
        return Err("usage: hyper ADDRESS CERTIFICATE KEY ISSUER AUDIENCE ISSUER_CA".into());
    };
    let tls =
        tls(CertificateDer::pem_file_iter(chain)?.collect::<Result<_, _>>()?, PrivateKeyDer::from_pem_file(key)?)?;
    let roots = CertificateDer::pem_file_iter(ca)?.collect::<Result<_, _>>()?;
    // The issuer stands next door here; for one in the internet it is AddressPolicy::PublicOnly.
    let fetch = fetch::Settings::new(roots, AddressPolicy::AllowPrivate);
    let verifier = OnlineVerifier::new(Settings::new(issuer, audience), fetch)?;
    serve(TcpListener::bind(address).await?, tls, verifier).await;
    Ok(())
}

/// TLS that asks for a client certificate and goes on without one, so that such a client gets an answer it can read.
pub(crate) fn tls(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(AnyCertificate(provider)))
        .with_single_cert(chain, key)?;
    // A resumed session carries the certificate of its first handshake, unproved; so none is resumed.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Takes any certificate whose private key the client proves to have.
///
/// That is enough for the binding: the issuer looked at chain, validity and revocation when it bound the token, and the
/// token names exactly one certificate (RFC 8705 §6.2). A certificate that nobody vouches for opens no door by itself.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// Names no authority: a client with a self-signed certificate would keep it back.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Serves until the process ends. A real service also caps the number of connections.
pub(crate) async fn serve(listener: TcpListener, tls: ServerConfig, verifier: OnlineVerifier) {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    loop {
        match listener.accept().await {
            Ok((tcp, _)) => drop(tokio::spawn(connection(acceptor.clone(), tcp, verifier.clone()))),
            // Out of file descriptors, mostly: others will be given back soon.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn connection(acceptor: TlsAcceptor, tcp: TcpStream, verifier: OnlineVerifier) {
    let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, acceptor.accept(tcp)).await else { return };
    let certificate = certificate_of(&stream);
    let service = service_fn(|request| answer(&verifier, certificate, request));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

/// The thumbprint of the leaf that the client proved on this connection.
fn certificate_of(stream: &TlsStream<TcpStream>) -> Option<Thumbprint> {
    let leaf = stream.get_ref().1.peer_certificates()?.first()?;
    Some(Thumbprint::of_der(leaf))
}

async fn answer(
    verifier: &OnlineVerifier,
    certificate: Option<Thumbprint>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let Some(demand) = demand_of(request.uri().path()) else { return Ok(reply(StatusCode::NOT_FOUND, "")) };
    Ok(match verify(verifier, certificate.as_ref(), &demand, &request).await {
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
