//! The same small API as in `hyper.rs`, with axum and the tower layer.
//!
//! `cargo run -p certbind-verify --features fetch,tower --example axum -- \
//!     127.0.0.1:8444 server.pem server.key https://localhost:8443 https://localhost:8444 ca.pem`
//!
//! What makes the binding hold is the same (RFC 8705 §3): the certificate is proved on the connection, [`connection`] puts its
//! thumbprint into each request of that connection, and the layer of each route verifies each request.

pub(crate) mod tls;

use std::error::Error;
use std::sync::Arc;

use axum::routing::get;
use axum::{Extension, Router};
use certbind_verify::fetch::{self, AddressPolicy, Authorities, OnlineVerifier};
use certbind_verify::tower::{MetadataLayer, ProvedCertificate, VerifyLayer};
use certbind_verify::{Demand, ResourceMetadata, Scope, Settings, Verified};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tower_service::Service as _;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // The layer says why a request was denied; whoever asked is not told.
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [address, chain, key, issuer, audience, ca] = arguments.as_slice() else {
        return Err("usage: axum ADDRESS CERTIFICATE KEY ISSUER AUDIENCE ISSUER_CA".into());
    };
    // The issuer stands next door here; for one in the internet it is AddressPolicy::PublicOnly.
    let fetch = fetch::Settings::new(Authorities::new(&tls::certificates(ca)?)?, AddressPolicy::AllowPrivate);
    let metadata = ResourceMetadata::new(audience, issuer)?;
    let settings = Settings { resource_metadata: Some(metadata.url()), ..Settings::new(issuer, audience) };
    let routes = routes(&OnlineVerifier::new(settings, fetch)?, metadata)?;
    serve(TcpListener::bind(address).await?, tls::from_files(chain, key)?, routes).await;
    Ok(())
}

/// Each route has a layer with what it demands: a bound token, which is the default, and a scope. The layer around all of them
/// serves the metadata (RFC 9728).
pub(crate) fn routes(verifier: &OnlineVerifier, metadata: ResourceMetadata) -> Result<Router, Box<dyn Error>> {
    let demands = |scope: Scope| VerifyLayer::new(verifier.clone(), Demand { scope, ..Demand::default() });
    let metadata = metadata.with_scopes(&"payments:read payments:refund".parse()?);
    let router = Router::new()
        .route("/payments", get(paid).layer(demands("payments:read".parse()?)))
        .route("/refunds", get(paid).layer(demands("payments:refund".parse()?)))
        .layer(MetadataLayer::new(&metadata));
    Ok(router)
}

/// Whoever asks for [`Verified`] gets the token that the layer found good; without the layer axum answers with 500.
async fn paid(Extension(verified): Extension<Verified>) -> String {
    format!("paid by {}\n", verified.client_id())
}

/// Serves until the process ends.
pub(crate) async fn serve(listener: TcpListener, tls: ServerConfig, routes: Router) {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    loop {
        let tcp = tls::next(&listener).await;
        tokio::spawn(connection(acceptor.clone(), tcp, routes.clone()));
    }
}

async fn connection(acceptor: TlsAcceptor, tcp: TcpStream, routes: Router) {
    let Some(stream) = tls::accept(&acceptor, tcp).await else { return };
    let certificate = tls::certificate_of(&stream).map(ProvedCertificate);
    let service = service_fn(|mut request: Request<Incoming>| {
        if let Some(certificate) = certificate {
            request.extensions_mut().insert(certificate);
        }
        routes.clone().call(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(tls::PATIENCE);
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}
