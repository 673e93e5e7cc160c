//! A tower layer that lets a request with a good token through, and answers every other one (RFC 6750 §3; RFC 8705 §3).
//!
//! One layer a route, with what that route demands. Whoever accepts connections puts the client's certificate into each
//! request; the service behind the layer finds [`Verified`] in its extensions.
//!
//! ```
//! use certbind_verify::tower::{ProvedCertificate, VerifyLayer};
//! use certbind_verify::{Demand, Keys, Settings, Thumbprint, Verifier};
//! # let (issuer_keys, leaf) = (certbind_verify::JwkSet::default(), [0; 0]);
//!
//! let verifier = Verifier::new(Settings::new("https://auth.example.com", "https://api.example.com"), Keys::fixed(issuer_keys));
//! let layer = VerifyLayer::new(verifier, Demand { scope: "payments:read".parse()?, ..Demand::default() });
//!
//! // Where the connection is accepted, for each of its requests:
//! let mut request = http::Request::new(());
//! request.extensions_mut().insert(ProvedCertificate(Thumbprint::of_der(&leaf)));
//! # let _ = layer;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`MetadataLayer`] serves what the resource says of itself (RFC 9728). Extensions cannot be set from outside: what a client sends are headers. Where nothing puts a certificate in, there is none, and
//! bound tokens are denied. `examples/axum.rs` is a whole service.

mod metadata;
#[cfg(test)]
mod tests;

use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use certbind_proto::bearer;
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::{Clock, SystemClock};
use http::header::{AUTHORIZATION, CACHE_CONTROL, HeaderValue, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use tower_layer::Layer;
use tower_service::Service;

use crate::{Demand, Denied, Verified, Verifier};

pub use metadata::{MetadataLayer, ServeMetadata};

/// The client certificate of the connection that carries a request: an extension of the request, put there by whoever
/// terminated TLS **and had the possession of its key proved**. Never from a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProvedCertificate(pub Thumbprint);

/// A verifier of either kind.
#[derive(Clone, Debug)]
pub enum AnyVerifier {
    /// It never waits.
    Offline(Verifier),
    /// It gets what it needs from the issuer.
    #[cfg(feature = "fetch")]
    Online(crate::fetch::OnlineVerifier),
}

impl From<Verifier> for AnyVerifier {
    fn from(verifier: Verifier) -> Self {
        Self::Offline(verifier)
    }
}

#[cfg(feature = "fetch")]
impl From<crate::fetch::OnlineVerifier> for AnyVerifier {
    fn from(verifier: crate::fetch::OnlineVerifier) -> Self {
        Self::Online(verifier)
    }
}

/// Puts [`Verify`] before a service.
#[derive(Clone, Debug)]
pub struct VerifyLayer {
    door: Arc<Door>,
}

impl VerifyLayer {
    /// For a route that demands this. Clones of one verifier share its keys, its memory and its list.
    #[must_use]
    pub fn new(verifier: impl Into<AnyVerifier>, demand: Demand) -> Self {
        Self::with_clock(verifier, demand, Arc::new(SystemClock))
    }

    /// The same by another clock than the machine's.
    #[must_use]
    pub fn with_clock(verifier: impl Into<AnyVerifier>, demand: Demand, clock: Arc<dyn Clock>) -> Self {
        Self { door: Arc::new(Door { verifier: verifier.into(), demand, clock }) }
    }
}

impl<S> Layer<S> for VerifyLayer {
    type Service = Verify<S>;

    fn layer(&self, inner: S) -> Verify<S> {
        Verify { inner, door: Arc::clone(&self.door) }
    }
}

/// Calls the service behind it for requests with a good token alone, and answers the others with 400, 401, 403 or 503, the
/// challenge, and a body that is empty.
#[derive(Clone, Debug)]
pub struct Verify<S> {
    inner: S,
    door: Arc<Door>,
}

impl<S, B, R> Service<Request<B>> for Verify<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that was found ready is called; its clone may have to become so first.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        let door = Arc::clone(&self.door);
        let (mut parts, body) = request.into_parts();
        Box::pin(async move {
            match door.decide(&parts).await {
                Ok(verified) => {
                    parts.extensions.insert(verified);
                    inner.call(Request::from_parts(parts, body)).await
                }
                Err(denied) => Ok(answer(&denied)),
            }
        })
    }
}

/// What a layer and its services share.
struct Door {
    verifier: AnyVerifier,
    demand: Demand,
    clock: Arc<dyn Clock>,
}

impl Door {
    async fn decide(&self, parts: &Parts) -> Result<Verified, Denied> {
        let authorization: Vec<&[u8]> =
            parts.headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes).collect();
        // A token in the query alone counts as none (RFC 6750 §2.3); beside the header it is one too many (§2).
        if !authorization.is_empty() && bearer::is_in_query(parts.uri.query().unwrap_or_default()) {
            return Err(self.offline().deny_second_transport(&self.demand));
        }
        let certificate = parts.extensions.get::<ProvedCertificate>().map(|proved| &proved.0);
        let (authorization, now) = (authorization.iter().copied(), self.clock.now());
        match &self.verifier {
            AnyVerifier::Offline(verifier) => verifier.verify(authorization, certificate, &self.demand, now),
            #[cfg(feature = "fetch")]
            AnyVerifier::Online(verifier) => verifier.verify(authorization, certificate, &self.demand, now).await,
        }
    }

    const fn offline(&self) -> &Verifier {
        match &self.verifier {
            AnyVerifier::Offline(verifier) => verifier,
            #[cfg(feature = "fetch")]
            AnyVerifier::Online(verifier) => verifier.offline(),
        }
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("verifier", &self.verifier).field("demand", &self.demand).finish_non_exhaustive()
    }
}

/// The answer of a denial. The reason is for the log; the peer gets the challenge (RFC 6750 §3).
fn answer<R: Default>(denied: &Denied) -> Response<R> {
    tracing::info!(reason = denied.reason(), status = denied.status(), "request denied");
    let mut response = Response::new(R::default());
    *response.status_mut() = StatusCode::from_u16(denied.status()).unwrap_or(StatusCode::FORBIDDEN);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(challenge) = denied.challenge().and_then(|challenge| HeaderValue::from_str(challenge).ok()) {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}
