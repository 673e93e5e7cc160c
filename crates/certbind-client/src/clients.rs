//! One HTTP client for each certificate: no request travels over a connection that shows another one than its token is
//! bound to (RFC 8705 §3, §6.3), although connections are kept.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use certbind_https::Authorities;
use certbind_proto::thumbprint::Thumbprint;
use rustls::ClientConfig;

use crate::{AccessToken, SetupFault};

/// HTTP clients of any make, each for one certificate.
///
/// The one for the certificate that was asked for last is kept. After a rotation the one before lives on as long as
/// somebody holds it, for a request with the old token that is still on its way; then it is dropped, and the connections
/// in its pool are closed. Use it for tokens of one identity: those of two, asked for by turns, would drop each other's
/// connections.
pub struct Clients<C> {
    build: Box<dyn Fn(ClientConfig) -> C + Send + Sync>,
    kept: Mutex<Kept<C>>,
    tls: ClientConfig,
}

struct Kept<C> {
    current: Option<(Shown, Arc<C>)>,
    previous: Option<(Shown, Weak<C>)>,
}

/// What the connections of a client show.
type Shown = Option<Thumbprint>;

impl<C> Clients<C> {
    /// With the certificate authorities that may vouch for the API, and what makes an HTTP client of TLS settings. When the
    /// authorities are exchanged the new ones count for every connection that begins afterwards.
    ///
    /// The settings are TLS 1.2 or 1.3 without resumption: a resumed session carries the certificate of its first
    /// handshake. They offer no ALPN protocol, which is for the HTTP client to add. What `build` makes must keep its
    /// connections to itself, and close them when it is dropped, as the clients of hyper-util and reqwest do.
    ///
    /// # Errors
    /// [`SetupFault::Tls`] when TLS cannot be set up.
    pub fn new(
        roots: &Authorities,
        build: impl Fn(ClientConfig) -> C + Send + Sync + 'static,
    ) -> Result<Self, SetupFault> {
        let mut tls = roots.client_config(None)?;
        tls.alpn_protocols.clear();
        let kept = Mutex::new(Kept { current: None, previous: None });
        Ok(Self { build: Box::new(build), kept, tls })
    }

    /// The client whose connections show the certificate of this token. To be asked for each request, and to be held no
    /// longer than it takes.
    #[must_use]
    pub fn for_token(&self, token: &AccessToken) -> Arc<C> {
        let shown = token.certificate().map(|certificate| *certificate.thumbprint());
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, client)) = &kept.current
            && *of == shown
        {
            return client.clone();
        }
        let revived = kept.previous.take_if(|(of, _)| *of == shown).and_then(|(_, client)| client.upgrade());
        let client = revived.unwrap_or_else(|| Arc::new((self.build)(self.settings(token))));
        let before = kept.current.replace((shown, client.clone()));
        kept.previous = before.as_ref().map(|(of, client)| (*of, Arc::downgrade(client)));
        drop(kept);
        // Whatever closes now does so without the lock.
        drop(before);
        client
    }

    fn settings(&self, token: &AccessToken) -> ClientConfig {
        let mut tls = self.tls.clone();
        if let Some(certificate) = token.certificate() {
            tls.client_auth_cert_resolver = certificate.resolver();
        }
        tls
    }
}

impl<C> fmt::Debug for Clients<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("Clients")
            .field("current", &kept.current.as_ref().map(|(shown, _)| shown))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
