//! The connection of the examples: TLS that has a client certificate proved, and its thumbprint (RFC 8705 §3).

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use certbind_verify::Thumbprint;
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
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The certificates of a PEM file.
pub(crate) fn certificates(file: &str) -> Result<Vec<CertificateDer<'static>>, Box<dyn Error>> {
    Ok(CertificateDer::pem_file_iter(file)?.collect::<Result<_, _>>()?)
}

/// TLS from PEM files.
pub(crate) fn from_files(chain: &str, key: &str) -> Result<ServerConfig, Box<dyn Error>> {
    Ok(config(certificates(chain)?, PrivateKeyDer::from_pem_file(key)?)?)
}

/// TLS that asks for a client certificate and goes on without one, so that such a client gets an answer it can read.
pub(crate) fn config(
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

/// The next connection, its handshake not yet done. A real service also caps how many there are at a time.
pub(crate) async fn next(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((tcp, _)) => return tcp,
            // Out of file descriptors, mostly: others will be given back soon.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// The handshake of a connection; nothing when it fails, or takes too long.
pub(crate) async fn accept(acceptor: &TlsAcceptor, tcp: TcpStream) -> Option<TlsStream<TcpStream>> {
    tokio::time::timeout(PATIENCE, acceptor.accept(tcp)).await.ok()?.ok()
}

/// The thumbprint of the leaf that the client proved on this connection.
pub(crate) fn certificate_of(stream: &TlsStream<TcpStream>) -> Option<Thumbprint> {
    let leaf = stream.get_ref().1.peer_certificates()?.first()?;
    Some(Thumbprint::of_der(leaf))
}
