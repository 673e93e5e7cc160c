//! The TLS side of a request: who is trusted, who we are (RFC 9325; RFC 9525 §6).

use std::fmt;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The certificate that a request shows when the server asks for one, and its key.
pub struct Identity {
    /// The certificate itself, then the intermediates towards its root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key of the first certificate.
    pub key: PrivateKeyDer<'static>,
}

/// Why no TLS settings could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigFault {
    /// The certificate does not parse, its key is of an unknown kind, or the two do not belong together.
    #[error("the client certificate and its key cannot be used")]
    Identity(#[source] rustls::Error),
    /// A certificate authority that does not parse.
    #[error("a trusted certificate cannot be used")]
    Root(#[source] rustls::Error),
    /// The library for TLS refuses its own defaults.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// TLS settings for requests: TLS 1.2 or 1.3, trust in exactly these certificate authorities, and perhaps an identity.
///
/// With no roots nothing is trusted. The identity is shown whatever authorities the server names: a self-signed
/// certificate has none of them. Sessions are never resumed, because a resumed one carries the identity of its first
/// handshake.
///
/// # Errors
/// A root, the certificate or the key cannot be used, or the last two do not belong together.
pub fn client_config(roots: &[CertificateDer<'_>], identity: Option<Identity>) -> Result<ClientConfig, ConfigFault> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(ConfigFault::Setup)?
        .with_root_certificates(store_of(roots)?);
    let mut config = match identity {
        Some(Identity { chain, key }) => builder.with_client_auth_cert(chain, key).map_err(ConfigFault::Identity)?,
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn store_of(roots: &[CertificateDer<'_>]) -> Result<RootCertStore, ConfigFault> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone().into_owned()).map_err(ConfigFault::Root)?;
    }
    Ok(store)
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity {{ chain: {} certificates, key: [redacted] }}", self.chain.len())
    }
}
