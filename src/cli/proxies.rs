//! What a listener needs that lets proxies in, of the server and of a guard alike.

use std::sync::Arc;

use rustls::sign::CertifiedKey;

use crate::authn::trust::TrustGroup;
use crate::config::ProxyTls;
use crate::net::{Listener, tls};
use crate::proxy::Caller;

/// Whoever is expected at this socket.
pub(super) fn users(listener: &Listener) -> Caller {
    Caller::Users(listener.expected().to_vec())
}

/// Whoever has a certificate with one of the names, for which this group vouches.
pub(super) fn named(own: &ProxyTls, trust: Arc<TrustGroup>) -> Caller {
    Caller::Certificate { trust, allow: own.allow.clone() }
}

/// TLS with those whom we know by certificate: whoever has none does not come in.
pub(super) const fn mutual(
    certificate: CertifiedKey,
    min_version: tls::TlsVersion,
    suites: tls::Suites,
) -> tls::Settings {
    tls::Settings {
        certificate,
        client_certificate: tls::ClientCertificate::Required,
        min_version,
        resumption: tls::Resumption::Off,
        suites,
    }
}
