//! Keys that a client publishes at its `jwks_uri` (RFC 7591 §2): fetched, kept, and never asked for in a storm.

mod cache;
mod fetch;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use certbind_proto::jwk::JwkSet;
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::Timestamp;

pub use cache::FRESHNESS;
pub use fetch::{Fetches, MAX_FLIGHTS, MAX_URIS, PublishedKeys, Settings};

/// What the caller hopes to find in the set. A set that is kept and lacks it is fetched again, within the cool-down.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// Any usable key. Where no key is named, a new one is found when the set is renewed.
    AnyKey,
    /// A certificate in `x5c` (RFC 8705 §2.2.2).
    Certificate(Thumbprint),
    /// The key that an assertion's header names. A hint, never a path or a query (RFC 7515 §4.1.4).
    Kid(&'a str),
}

/// Why there are no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoteKeysFault {
    /// The endpoint cannot be reached, is too slow, too large, not a JWK set, or at an address that is not allowed.
    #[error("the client's jwks_uri gives no keys")]
    Unavailable,
}

/// Where a client's published keys come from.
pub trait RemoteKeys: Send + Sync {
    /// The set at `uri`, from memory when it holds what is wanted or may not be fetched again yet.
    fn keys<'a>(
        &'a self,
        uri: &'a str,
        wanted: Wanted<'a>,
        now: Timestamp,
    ) -> Pin<Box<dyn Future<Output = Result<Arc<JwkSet>, RemoteKeysFault>> + Send + 'a>>;
}
