//! Fetches what clients publish: over HTTPS, within bounds, never in a storm (RFC 8725 §3.10).

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use certbind_https::{AddressPolicy, Authorities, ConfigFault, FetchError, Fetcher, Limits};
use certbind_proto::jwk::{JwkFault, JwkSet};
use certbind_proto::kept_keys::Next;
use certbind_proto::time::Timestamp;
use tokio::sync::watch;
use tokio::time::timeout;

use super::cache::{Cache, Flight};
use super::{RemoteKeys, RemoteKeysFault, Wanted};

/// The most URIs whose sets are remembered.
pub const MAX_URIS: usize = 10_000;
/// The most fetches under way at once. Beyond it, sets that are kept are used as they are, and the rest waits its turn.
pub const MAX_FLIGHTS: usize = 128;

/// The most time for finding the host and shaking hands with it.
const CONNECT: Duration = Duration::from_secs(2);
const ACCEPT: &str = "application/jwk-set+json, application/json";

/// How a client's keys are fetched.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where a URI may lead. Held against the address that is connected to, not against the name.
    pub addresses: AddressPolicy,
    /// The most bytes of a set.
    pub max_bytes: usize,
    /// The certificate authorities that may vouch for a client's endpoint. They can be exchanged meanwhile.
    pub roots: Authorities,
    /// The most time for a whole fetch, and for a request that waits for one.
    pub timeout: Duration,
}

impl Settings {
    /// Public addresses, 64 KiB, 3 s.
    #[must_use]
    pub const fn new(roots: Authorities) -> Self {
        Self { addresses: AddressPolicy::PublicOnly, max_bytes: 64 * 1024, roots, timeout: Duration::from_secs(3) }
    }
}

/// How many fetches there were, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fetches {
    /// Those that brought nothing.
    pub failed: u64,
    /// Those that brought a set.
    pub succeeded: u64,
}

/// The sets that clients publish, fetched when they are needed and kept by [`FRESHNESS`](super::FRESHNESS).
#[derive(Clone)]
pub struct PublishedKeys {
    shared: Arc<Shared>,
}

struct Shared {
    cache: Mutex<Cache>,
    fetcher: Fetcher,
    timeout: Duration,
    failed: AtomicU64,
    succeeded: AtomicU64,
}

/// What a request does next.
enum Step {
    Use(Arc<JwkSet>),
    Wait(Flight, Option<Arc<JwkSet>>),
    Refuse,
}

impl PublishedKeys {
    /// Knows nothing yet.
    ///
    /// # Errors
    /// [`ConfigFault`] when TLS cannot be set up.
    pub fn new(settings: Settings) -> Result<Self, ConfigFault> {
        let tls = Arc::new(settings.roots.client_config(None)?);
        let limits =
            Limits { connect: CONNECT.min(settings.timeout), max_bytes: settings.max_bytes, total: settings.timeout };
        let shared = Shared {
            cache: Mutex::new(Cache::new(MAX_URIS, MAX_FLIGHTS)),
            fetcher: Fetcher::new(tls, settings.addresses, limits),
            timeout: settings.timeout,
            failed: AtomicU64::new(0),
            succeeded: AtomicU64::new(0),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// How many fetches there were.
    #[must_use]
    pub fn fetches(&self) -> Fetches {
        Fetches {
            failed: self.shared.failed.load(Ordering::Relaxed),
            succeeded: self.shared.succeeded.load(Ordering::Relaxed),
        }
    }

    fn step(&self, uri: &str, wanted: Wanted<'_>, now: Timestamp) -> Step {
        let (next, sender, flight) = {
            let mut cache = self.shared.cache();
            let next = cache.next(uri, wanted, now);
            let departs = matches!(next, Next::Fetch(_) | Next::Refresh(_));
            let sender = if departs { cache.begin(uri, now) } else { None };
            (next, sender, cache.flight(uri))
        };
        if let Some(sender) = sender {
            let landing = Landing { shared: self.shared.clone(), uri: uri.to_owned(), outcome: None, sender };
            // A task of its own: nobody can use up the cool-down by asking and hanging up.
            tokio::spawn(landing.fly());
        }
        match (next, flight) {
            (Next::Serve(set) | Next::Refresh(set), _) => Step::Use(set),
            (Next::Fetch(otherwise) | Next::Join(otherwise), Some(flight)) => Step::Wait(flight, otherwise),
            (Next::Fetch(otherwise) | Next::Join(otherwise), None) => otherwise.map_or(Step::Refuse, Step::Use),
            (Next::Refuse, _) => Step::Refuse,
        }
    }
}

impl RemoteKeys for PublishedKeys {
    fn keys<'a>(
        &'a self,
        uri: &'a str,
        wanted: Wanted<'a>,
        now: Timestamp,
    ) -> Pin<Box<dyn Future<Output = Result<Arc<JwkSet>, RemoteKeysFault>> + Send + 'a>> {
        Box::pin(async move {
            let (mut flight, otherwise) = match self.step(uri, wanted, now) {
                Step::Use(set) => return Ok(set),
                Step::Wait(flight, otherwise) => (flight, otherwise),
                Step::Refuse => return Err(RemoteKeysFault::Unavailable),
            };
            let fetched = match timeout(self.shared.timeout, flight.wait_for(Option::is_some)).await {
                Ok(Ok(set)) => set.clone(),
                Ok(Err(_)) | Err(_) => None,
            };
            fetched.or(otherwise).ok_or(RemoteKeysFault::Unavailable)
        })
    }
}

impl fmt::Debug for PublishedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishedKeys").field("fetches", &self.fetches()).finish_non_exhaustive()
    }
}

impl Shared {
    /// Locked for a look-up at a time; nothing is awaited meanwhile.
    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch(&self, uri: &str) -> Result<JwkSet, Fault> {
        let document = self.fetcher.get(uri, ACCEPT).await?;
        Ok(JwkSet::parse_fetched(&document)?)
    }
}

/// Why a fetch brought nothing, for the log.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("not a JWK set: {0}")]
    Set(#[from] JwkFault),
}

/// A fetch under way. However it ends, it is reported: when the set comes, and when it is dropped without one.
struct Landing {
    shared: Arc<Shared>,
    uri: String,
    outcome: Option<Arc<JwkSet>>,
    sender: watch::Sender<Option<Arc<JwkSet>>>,
}

impl Landing {
    async fn fly(mut self) {
        match self.shared.fetch(&self.uri).await {
            Ok(set) => self.outcome = Some(Arc::new(set)),
            Err(fault) => tracing::warn!(uri = self.uri, fault = %fault, "a client's jwks_uri gives no keys"),
        }
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        let count = if self.outcome.is_some() { &self.shared.succeeded } else { &self.shared.failed };
        count.fetch_add(1, Ordering::Relaxed);
        self.shared.cache().end(&self.uri, self.outcome.clone());
        self.sender.send_replace(self.outcome.take());
    }
}
