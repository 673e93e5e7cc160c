//! Certificates for TLS connections of one's own (rustls): the one of a token, or the one in use.

use std::fmt;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;

use crate::{ClientCertificate, TokenSource};

impl ClientCertificate {
    /// Shows this certificate on every connection, whatever is renewed meanwhile.
    ///
    /// This is the one for connections that carry a token: taken from
    /// [`AccessToken::certificate`](crate::AccessToken::certificate), it shows what that token is bound to, and a pool
    /// of such connections carries this token and those bound to the same certificate, no others (RFC 8705 §3).
    /// [`Clients`](crate::Clients) keeps one such pool for each certificate.
    #[must_use]
    pub fn resolver(&self) -> Arc<dyn ResolvesClientCert> {
        Arc::new(Pinned(self.clone()))
    }
}

impl TokenSource {
    /// Shows the certificate that is in use when a connection begins; where no token is in use, the newest that there is.
    ///
    /// This one is for mutual TLS **without** tokens. A connection keeps the certificate that it began with, so that one
    /// from a pool may show the old certificate when the token at hand is already bound to the new one: the resource
    /// server refuses that. For requests with tokens there is [`ClientCertificate::resolver`].
    #[must_use]
    pub fn resolver(&self) -> Arc<dyn ResolvesClientCert> {
        Arc::new(InUse(self.clone()))
    }
}

struct Pinned(ClientCertificate);

impl ResolvesClientCert for Pinned {
    /// Whatever authorities the server names: a self-signed certificate has none of them.
    fn resolve(&self, _root_hint_subjects: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.certified().clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

struct InUse(TokenSource);

impl ResolvesClientCert for InUse {
    fn resolve(&self, _root_hint_subjects: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.shown().map(|certificate| certificate.certified().clone())
    }

    fn has_certs(&self) -> bool {
        self.0.shown().is_some()
    }
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pinned({:?})", self.0)
    }
}

impl fmt::Debug for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InUse({:?})", self.0.shown())
    }
}
