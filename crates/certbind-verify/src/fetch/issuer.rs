//! The issuer on the other end: its metadata and keys over HTTPS, asked for no more often than is right (RFC 8414 §3;
//! RFC 8725 §3.10).

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use certbind_https::{FetchError, Fetcher, Limits};
use certbind_proto::json::{self, JsonFault};
use certbind_proto::jwk::{JwkFault, JwkSet};
use certbind_proto::kept_keys::Next;
use certbind_proto::metadata::{OAUTH_SUFFIX, well_known_url};
use certbind_proto::time::Timestamp;
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::Keys;

const METADATA: &str = "application/json";
const KEYS: &str = "application/jwk-set+json, application/json";

/// Whether the keys that are held can answer the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suits {
    No,
    Yes,
}

/// Where keys come from, and the addresses of all else.
pub(super) struct Issuer {
    fetcher: Fetcher,
    /// The fetch that is under way. Its sender's end is its end.
    flight: Mutex<Option<watch::Receiver<()>>>,
    pub(super) identifier: String,
    pub(super) keys: Keys,
    pub(super) limits: Limits,
    /// Why the last fetch brought nothing, if it did not.
    pub(super) trouble: Trouble,
}

/// What went wrong last, in words, until it goes well.
#[derive(Default)]
pub(super) struct Trouble(Mutex<Option<String>>);

impl Trouble {
    pub(super) fn set(&self, fault: &dyn Error) {
        *self.words() = Some(with_causes(fault));
    }

    pub(super) fn clear(&self) {
        *self.words() = None;
    }

    pub(super) fn get(&self) -> Option<String> {
        self.words().clone()
    }

    fn words(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn with_causes(fault: &dyn Error) -> String {
    let (mut text, mut cause) = (fault.to_string(), fault.source());
    while let Some(fault) = cause {
        text += &format!(": {fault}");
        cause = fault.source();
    }
    text
}

/// Why a fetch brought nothing, for the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchFault {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("the issuer is not an https URL (RFC 8414 §2)")]
    IssuerNotHttps,
    #[error("the metadata is of another issuer (RFC 8414 §3.3)")]
    IssuerOther,
    #[error("the metadata has no {0}")]
    MemberMissing(&'static str),
    #[error("not metadata: {0}")]
    Metadata(#[from] JsonFault),
    #[error("not a JWK set: {0}")]
    Set(#[from] JwkFault),
    #[error("metadata and keys took too long")]
    TooSlow,
}

impl Issuer {
    pub(super) const fn new(fetcher: Fetcher, identifier: String, keys: Keys, limits: Limits) -> Self {
        Self { fetcher, flight: Mutex::new(None), identifier, keys, limits, trouble: Trouble(Mutex::new(None)) }
    }

    /// Sees to it that the keys are as new as they must be, and waits for that only where it matters.
    pub(super) async fn renew(self: &Arc<Self>, suits: Suits, now: Timestamp) {
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
        let jwks_uri = self.metadata().await?.member("jwks_uri")?;
        Ok(JwkSet::parse_fetched(&self.fetcher.get(&jwks_uri, KEYS).await?)?)
    }

    /// What the issuer says of itself.
    pub(super) async fn metadata(&self) -> Result<Metadata, FetchFault> {
        let url = well_known_url(&self.identifier, OAUTH_SUFFIX).ok_or(FetchFault::IssuerNotHttps)?;
        let metadata = json::parse_object(&self.fetcher.get(&url, METADATA).await?)?;
        // RFC 8414 §3.3: identical code points, else somebody speaks for somebody else.
        if metadata.get("issuer").and_then(Value::as_str) != Some(&self.identifier) {
            return Err(FetchFault::IssuerOther);
        }
        Ok(Metadata(metadata))
    }
}

/// Metadata of the right issuer.
pub(super) struct Metadata(Map<String, Value>);

impl Metadata {
    /// A member that is a text.
    pub(super) fn member(&self, name: &'static str) -> Result<String, FetchFault> {
        self.0.get(name).and_then(Value::as_str).map(str::to_owned).ok_or(FetchFault::MemberMissing(name))
    }

    /// An endpoint as one finds it who shows a certificate: the alias, where there is one (RFC 8705 §5).
    pub(super) fn mtls_endpoint(&self, name: &'static str) -> Result<String, FetchFault> {
        let alias = self.0.get("mtls_endpoint_aliases").and_then(|aliases| aliases.get(name)).and_then(Value::as_str);
        alias.map_or_else(|| self.member(name), |alias| Ok(alias.to_owned()))
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
            Ok(set) => {
                self.issuer.trouble.clear();
                self.set = Some(Arc::new(set));
            }
            Err(fault) => {
                self.issuer.trouble.set(&fault);
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
