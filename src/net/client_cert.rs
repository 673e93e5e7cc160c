//! The client's certificate in the handshake: possession of its key is always proved, trust in it is left to `authn` (RFC 8705 §2).
//!
//! rustls' own verifier would end the handshake where RFC 8705 wants an OAuth error that the client can read, and could not serve
//! `self_signed_tls_client_auth` (§2.2) at all: it refuses a certificate with `CA:TRUE`, which is what `openssl req -x509` makes.
//!
//! What still ends the handshake, because the signature cannot be checked without it: a certificate that webpki cannot take apart.
//! Those are bad DER, X.509 versions before 3, and an extension that is critical and unknown to it.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

/// The most certificates that a client may present, its own among them.
pub(super) const MAX_CERTIFICATES: usize = 6;

/// The most bytes that they may have together.
pub(super) const MAX_BYTES: usize = 10 * 1024;

/// Asks for a certificate and lets every one pass whose private key the client has.
#[derive(Debug)]
pub(super) struct PossessionVerifier {
    algorithms: WebPkiSupportedAlgorithms,
    demand: Demand,
}

/// Whether there may be no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    Optional,
    Required,
}

impl PossessionVerifier {
    pub(super) const fn new(algorithms: WebPkiSupportedAlgorithms, demand: Demand) -> Self {
        Self { algorithms, demand }
    }
}

impl ClientCertVerifier for PossessionVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.demand == Demand::Required
    }

    /// None: a list of authorities makes client libraries withhold self-signed certificates.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    /// Bounds the work that a chain can cause later. Neither issuer nor validity matter here.
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let bytes = intermediates.iter().fold(end_entity.len(), |sum, certificate| sum + certificate.len());
        if intermediates.len() >= MAX_CERTIFICATES || bytes > MAX_BYTES {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
