//! The TLS side of a request: who is trusted, who we are (RFC 9325; RFC 9525 §6).

use std::fmt;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::Authorities;

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

/// [`Authorities::client_config`] for authorities that stay.
///
/// # Errors
/// A root, the certificate or the key cannot be used, or the last two do not belong together.
pub fn client_config(roots: &[CertificateDer<'_>], identity: Option<Identity>) -> Result<ClientConfig, ConfigFault> {
    Authorities::new(roots)?.client_config(identity)
}

impl Authorities {
    /// TLS settings for requests: TLS 1.2 or 1.3, trust in exactly these certificate authorities as they are when a connection
    /// begins, and perhaps an identity.
    ///
    /// The identity is shown whatever authorities the server names: a self-signed certificate has none of them. Sessions
    /// are never resumed, because a resumed one carries the identity of its first handshake, and the trust in its server.
    ///
    /// # Errors
    /// The certificate or the key cannot be used, or they do not belong together.
    pub fn client_config(&self, identity: Option<Identity>) -> Result<ClientConfig, ConfigFault> {
        let builder = ClientConfig::builder_with_provider(self.provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(ConfigFault::Setup)?
            // So that authorities can be exchanged; what it asks is rustls' own verifier.
            .dangerous()
            .with_custom_certificate_verifier(self.verifier());
        let mut config = match identity {
            Some(Identity { chain, key }) => {
                builder.with_client_auth_cert(chain, key).map_err(ConfigFault::Identity)?
            }
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
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
