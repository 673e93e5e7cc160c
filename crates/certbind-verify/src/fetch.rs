//! Gets the issuer's metadata and keys over HTTPS, and keeps them fresh (RFC 8414 §3; RFC 8725 §3.10).

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use certbind_https::{FetchError, Fetcher, client_config};
use certbind_proto::json::{self, JsonFault};
use certbind_proto::jwk::{JwkFault, JwkSet};
use certbind_proto::kept_keys::{Freshness, Next};
use certbind_proto::metadata::{OAUTH_SUFFIX, well_known_url};
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::Timestamp;
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::{Demand, Denied, Keys, Verified, Verifier};

pub use certbind_https::{AddressPolicy, ConfigFault, Limits};

const METADATA: &str = "application/json";
const KEYS: &str = "application/jwk-set+json, application/json";

/// How the issuer's keys are fetched.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the issuer's hosts may be. Both URLs are the operator's and the issuer's choice, nobody else's.
    pub addresses: AddressPolicy,
    /// How long keys are used, and how often they are asked for.
    pub freshness: Freshness,
    /// What each of the two requests may cost; the time is for both together.
    pub limits: Limits,
    /// The certificate authorities that may vouch for the issuer's hosts.
    pub roots: Vec<CertificateDer<'static>>,
}

impl Settings {
    /// [`Keys::FRESHNESS`]; 64 KiB and 5 s.
    #[must_use]
    pub fn new(roots: Vec<CertificateDer<'static>>, addresses: AddressPolicy) -> Self {
        Self { addresses, freshness: Keys::FRESHNESS, limits: Limits::default(), roots }
    }
}

/// A [`Verifier`] that gets its keys from the issuer itself. It needs a tokio runtime.
#[derive(Clone, Debug)]
pub struct OnlineVerifier {
    verifier: Verifier,
    issuer: Arc<Issuer>,
}

impl OnlineVerifier {
    /// Knows no keys yet; the first request fetches them, or [`Self::warm_up`].
    ///
    /// # Errors
    /// [`ConfigFault`] when a root cannot be used.
    pub fn new(settings: crate::Settings, fetch: Settings) -> Result<Self, ConfigFault> {
        let tls = Arc::new(client_config(&fetch.roots, None)?);
        // A fetch is over before the next one may begin.
        let cool_down = fetch.freshness.cool_down.max(fetch.limits.total);
        let keys = Keys::none(Freshness { cool_down, ..fetch.freshness });
        let issuer = Arc::new(Issuer {
            fetcher: Fetcher::new(tls, fetch.addresses, fetch.limits),
            flight: Mutex::new(None),
            identifier: settings.issuer.clone(),
            keys: keys.clone(),
            limits: fetch.limits,
        });
        Ok(Self { verifier: Verifier::new(settings, keys), issuer })
    }

    /// As [`Verifier::verify`]. Waits for newer keys when the token names one that is not held, or when those held are too
    /// old; at most as long as the settings allow, and asks the issuer no more often than that.
    ///
    /// # Errors
    /// [`Denied`].
    pub async fn verify<'a>(
        &self,
        authorization: impl IntoIterator<Item = &'a [u8]> + Clone,
        certificate: Option<&Thumbprint>,
        demand: &Demand,
        now: Timestamp,
    ) -> Result<Verified, Denied> {
        self.issuer.renew(Suits::Yes, now).await;
        let outcome = self.verifier.verify(authorization.clone(), certificate, demand, now);
        match outcome {
            Err(denied) if denied.is_for_want_of_keys() => {
                self.issuer.renew(Suits::No, now).await;
                self.verifier.verify(authorization, certificate, demand, now)
            }
            outcome => outcome,
        }
    }

    /// Fetches the keys if there are none, and says whether there are some now.
    pub async fn warm_up(&self, now: Timestamp) -> bool {
        self.issuer.renew(Suits::Yes, now).await;
        self.verifier.keys().set(now).is_some()
    }

    /// The verifier as it is now, which never waits.
    #[must_use]
    pub const fn offline(&self) -> &Verifier {
        &self.verifier
    }
}

/// Whether the keys that are held can answer the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Suits {
    No,
    Yes,
}

/// Where keys come from.
struct Issuer {
    fetcher: Fetcher,
    /// The fetch that is under way. Its sender's end is its end.
    flight: Mutex<Option<watch::Receiver<()>>>,
    identifier: String,
    keys: Keys,
    limits: Limits,
}

/// Why a fetch brought nothing, for the log.
#[derive(Debug, thiserror::Error)]
enum FetchFault {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("the issuer is not an https URL (RFC 8414 §2)")]
    IssuerNotHttps,
    #[error("the metadata is of another issuer (RFC 8414 §3.3)")]
    IssuerOther,
    #[error("the metadata has no jwks_uri")]
    JwksUriMissing,
    #[error("not metadata: {0}")]
    Metadata(#[from] JsonFault),
    #[error("not a JWK set: {0}")]
    Set(#[from] JwkFault),
    #[error("metadata and keys took too long")]
    TooSlow,
}

impl Issuer {
    /// Sees to it that the keys are as new as they must be, and waits for that only where it matters.
    async fn renew(self: &Arc<Self>, suits: Suits, now: Timestamp) {
        let suits = suits == Suits::Yes;
        if matches!(self.keys.next(suits, now), Next::Serve(_) | Next::Refuse) {
            return;
        }
        let Some(mut flight) = self.depart(suits, now) else { return };
        let _ = timeout(self.limits.total, flight.changed()).await;
    }

    /// Starts a fetch, unless one is under way. What must be waited for is returned.
    fn depart(self: &Arc<Self>, suits: bool, now: Timestamp) -> Option<watch::Receiver<()>> {
        let mut under_way = self.flight();
        let next = self.keys.next(suits, now);
        let sender = match next {
            Next::Serve(_) | Next::Refuse => return None,
            Next::Join(_) => return under_way.clone(),
            Next::Fetch(_) | Next::Refresh(_) => {
                let (sender, flight) = watch::channel(());
                self.keys.change(|kept| kept.begin(now));
                *under_way = Some(flight);
                sender
            }
        };
        let flight = under_way.clone();
        drop(under_way);
        // A task of its own: nobody can use up the cool-down by asking and hanging up.
        tokio::spawn(Landing { issuer: self.clone(), set: None, _sender: sender }.fly());
        if matches!(next, Next::Refresh(_)) { None } else { flight }
    }

    fn flight(&self) -> MutexGuard<'_, Option<watch::Receiver<()>>> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch(&self) -> Result<JwkSet, FetchFault> {
        timeout(self.limits.total, self.fetch_both()).await.map_err(|_| FetchFault::TooSlow)?
    }

    async fn fetch_both(&self) -> Result<JwkSet, FetchFault> {
        let url = well_known_url(&self.identifier, OAUTH_SUFFIX).ok_or(FetchFault::IssuerNotHttps)?;
        let metadata = json::parse_object(&self.fetcher.get(&url, METADATA).await?)?;
        // RFC 8414 §3.3: identical code points, else somebody speaks for somebody else.
        if metadata.get("issuer").and_then(|issuer| issuer.as_str()) != Some(&self.identifier) {
            return Err(FetchFault::IssuerOther);
        }
        let jwks_uri = metadata.get("jwks_uri").and_then(|uri| uri.as_str()).ok_or(FetchFault::JwksUriMissing)?;
        Ok(JwkSet::parse_fetched(&self.fetcher.get(jwks_uri, KEYS).await?)?)
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("identifier", &self.identifier).finish_non_exhaustive()
    }
}

/// A fetch under way. However it ends, it is reported: when the set comes, and when it is dropped without one.
struct Landing {
    issuer: Arc<Issuer>,
    set: Option<Arc<JwkSet>>,
    _sender: watch::Sender<()>,
}

impl Landing {
    async fn fly(mut self) {
        match self.issuer.fetch().await {
            Ok(set) => self.set = Some(Arc::new(set)),
            Err(fault) => {
                tracing::warn!(issuer = self.issuer.identifier, fault = %fault, "the issuer's keys cannot be fetched");
            }
        }
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.issuer.keys.change(|kept| match &self.set {
            Some(set) => kept.succeed(set.clone()),
            None => kept.fail(),
        });
    }
}
