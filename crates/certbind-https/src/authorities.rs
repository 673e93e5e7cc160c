//! Who may vouch for the servers that requests go to; exchanged as a whole while requests are made.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::ConfigFault;

/// The certificate authorities that are trusted, these and no others; with none nothing is trusted.
///
/// Clones share them: what is exchanged in one counts in all, for every connection that begins afterwards. A connection that
/// is there stays.
#[derive(Clone)]
pub struct Authorities(Arc<Shared>);

struct Shared {
    provider: Arc<CryptoProvider>,
    trusted: RwLock<Trusted>,
}

#[derive(Clone)]
struct Trusted {
    certificates: Arc<[CertificateDer<'static>]>,
    /// Nobody, where there are no certificates.
    verifier: Option<Arc<WebPkiServerVerifier>>,
}

impl Authorities {
    /// Exactly these.
    ///
    /// # Errors
    /// [`ConfigFault::Root`] when one of them cannot be used.
    pub fn new(certificates: &[CertificateDer<'_>]) -> Result<Self, ConfigFault> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let trusted = RwLock::new(Trusted::new(certificates, &provider)?);
        Ok(Self(Arc::new(Shared { provider, trusted })))
    }

    /// From now on exactly these; says whether they are others than before.
    ///
    /// # Errors
    /// As [`new`](Self::new); then those of before stay.
    pub fn replace(&self, certificates: &[CertificateDer<'_>]) -> Result<bool, ConfigFault> {
        if *self.0.trusted().certificates == *certificates {
            return Ok(false);
        }
        let trusted = Trusted::new(certificates, &self.0.provider)?;
        *self.0.trusted.write().unwrap_or_else(PoisonError::into_inner) = trusted;
        Ok(true)
    }

    /// Those that are trusted now.
    #[must_use]
    pub fn certificates(&self) -> Arc<[CertificateDer<'static>]> {
        self.0.trusted().certificates
    }

    pub(crate) fn provider(&self) -> Arc<CryptoProvider> {
        Arc::clone(&self.0.provider)
    }

    /// What rustls asks about the certificate of a server.
    pub(crate) fn verifier(&self) -> Arc<dyn ServerCertVerifier> {
        Arc::clone(&self.0) as _
    }
}

impl Trusted {
    fn new(certificates: &[CertificateDer<'_>], provider: &Arc<CryptoProvider>) -> Result<Self, ConfigFault> {
        let mut store = RootCertStore::empty();
        for certificate in certificates {
            store.add(certificate.clone().into_owned()).map_err(ConfigFault::Root)?;
        }
        let verifier = if store.is_empty() {
            None
        } else {
            let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider));
            Some(builder.build().map_err(|error| ConfigFault::Setup(Error::General(error.to_string())))?)
        };
        let certificates = certificates.iter().map(|certificate| certificate.clone().into_owned()).collect();
        Ok(Self { certificates, verifier })
    }
}

impl Shared {
    fn trusted(&self) -> Trusted {
        self.trusted.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// As rustls does it for authorities that stay: path, dates, purpose, and the name in the subjectAltName (RFC 9525 §6).
impl ServerCertVerifier for Shared {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let nobody = || Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let verifier = self.trusted().verifier.ok_or_else(nobody)?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} certificate authorities", self.trusted().certificates.len())
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
