//! Polls the issuer's list of what is revoked: one request every few seconds, beside the requests that are decided.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use certbind_https::{FetchError, Fetcher};
use certbind_proto::jws::JwsFault;
use certbind_proto::revocation_list::{MAX_BYTES, MEDIA_TYPE};
use certbind_proto::time::{Clock, SystemClock};
use hyper::header::{ACCEPT, ETAG, HeaderValue, IF_NONE_MATCH};
use hyper::{Request, StatusCode, Uri};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::issuer::{FetchFault, Issuer, Suits, Trouble};
use crate::revocations::{ListRefused, Policy, Revocations, Taken};

/// The member of the metadata that says where the list is.
const LIST: &str = "certbind_revocation_list_uri";

/// How the list is polled.
#[derive(Clone)]
pub struct Polling {
    /// Tells what time it is when a list arrives, which may be while no request is decided.
    pub clock: Arc<dyn Clock>,
    /// How long from one poll to the next. A revocation is in force here after this time.
    pub every: Duration,
    /// The longest list that is read, in bytes.
    pub max_bytes: usize,
    /// How old a list may be, and what happens when it is older.
    pub policy: Policy,
}

impl Default for Polling {
    /// Every ten seconds; 8 MiB; [`Policy::default`].
    fn default() -> Self {
        let (clock, policy) = (Arc::new(SystemClock), Policy::default());
        Self { clock, every: Duration::from_secs(10), max_bytes: MAX_BYTES, policy }
    }
}

impl fmt::Debug for Polling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Polling").field("every", &self.every).field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// Polls while somebody uses it.
pub(super) struct Poller {
    fetcher: Fetcher,
    issuer: Arc<Issuer>,
    list: Revocations,
    polling: Polling,
    settings: crate::Settings,
    known: Mutex<Known>,
    is_running: AtomicBool,
    /// How many polls there were.
    polls: watch::Sender<u64>,
    /// Somebody does not want to wait for the next one.
    now: Arc<Notify>,
    /// Why the last one brought nothing, if it did not.
    trouble: Trouble,
}

/// Where the list is, and which one is held.
#[derive(Clone, Default)]
struct Known {
    uri: Option<Uri>,
    tag: Option<HeaderValue>,
}

/// Why a poll brought nothing, for the log.
#[derive(Debug, thiserror::Error)]
enum PollFault {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("the keys of the issuer are not at hand")]
    KeysUnavailable,
    #[error(transparent)]
    List(#[from] ListRefused),
    #[error(transparent)]
    Metadata(#[from] FetchFault),
    #[error("the list is no text")]
    NotText,
    #[error("the metadata's certbind_revocation_list_uri is no URL")]
    NotUri,
}

impl Poller {
    pub(super) fn new(polling: Polling, fetcher: Fetcher, issuer: Arc<Issuer>, settings: crate::Settings) -> Self {
        Self {
            fetcher,
            issuer,
            list: Revocations::none(polling.policy),
            polling,
            settings,
            known: Mutex::default(),
            is_running: AtomicBool::new(false),
            polls: watch::Sender::default(),
            now: Arc::default(),
            trouble: Trouble::default(),
        }
    }

    /// After a poll that brought nothing the next one is due.
    pub(super) fn retry_now(&self) {
        if self.trouble.get().is_some() {
            self.now.notify_one();
        }
    }

    /// Why the last poll brought nothing.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.get()
    }

    /// The list as it is now.
    pub(super) const fn list(&self) -> &Revocations {
        &self.list
    }

    /// Starts polling unless that goes on already, and waits for the outcome of the very first poll.
    pub(super) async fn be_running(self: &Arc<Self>) {
        if !self.is_running.swap(true, Ordering::AcqRel) {
            tokio::spawn(run(Running(Arc::downgrade(self))));
        }
        if self.list.as_of().is_none() {
            // Metadata, keys and list: three requests at the most.
            let mut polls = self.polls.subscribe();
            let _ = timeout(self.issuer.limits.total * 3, polls.wait_for(|polls| *polls > 0)).await;
        }
    }

    async fn poll(&self) {
        let outcome = self.fetch().await;
        match &outcome {
            Ok(_) => self.trouble.clear(),
            Err(fault) => self.trouble.set(fault),
        }
        match &outcome {
            Ok(Some(Taken::Newer)) => tracing::debug!(entries = self.list.len(), "a newer list of what is revoked"),
            Ok(Some(Taken::Added) | None) => {}
            Err(fault) => {
                // It may have moved, and what is held may not be what this tag stands for.
                *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Known::default();
                tracing::warn!(issuer = self.settings.issuer, %fault, "the list of what is revoked cannot be renewed");
            }
        }
        self.polls.send_modify(|polls| *polls += 1);
    }

    /// Fetches the list if it is another one; `None` when it is not.
    async fn fetch(&self) -> Result<Option<Taken>, PollFault> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let uri = match known.uri {
            Some(uri) => uri,
            None => self.issuer.metadata().await?.member(LIST)?.parse().map_err(|_| PollFault::NotUri)?,
        };
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = uri.clone();
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static(MEDIA_TYPE));
        if let Some(tag) = known.tag.filter(|_| self.list.as_of().is_some()) {
            request.headers_mut().insert(IF_NONE_MATCH, tag);
        }
        let response = self.fetcher.send(request).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED => return Ok(None),
            other => return Err(FetchError::Status(other.as_u16()).into()),
        }
        let tag = response.headers().get(ETAG).cloned();
        let document = std::str::from_utf8(response.body()).map_err(|_| PollFault::NotText)?;
        let taken = self.take(document).await?;
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Known { uri: Some(uri), tag };
        Ok(Some(taken))
    }

    /// With newer keys, if the list is signed by one that is not held yet.
    async fn take(&self, document: &str) -> Result<Taken, PollFault> {
        let mut suits = Suits::Yes;
        loop {
            let now = self.polling.clock.now();
            self.issuer.renew(suits, now).await;
            let keys = self.issuer.keys.set(now).ok_or(PollFault::KeysUnavailable)?;
            match self.list.take(document, &keys, &self.settings, now) {
                Err(ListRefused::Jws(JwsFault::KeyUnknown)) if suits == Suits::Yes => suits = Suits::No,
                outcome => return Ok(outcome?),
            }
        }
    }
}

/// The polling of one poller. When it ends, however it ends, the next request starts it again.
struct Running(Weak<Poller>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(poller) = self.0.upgrade() {
            poller.is_running.store(false, Ordering::Release);
        }
    }
}

/// Polls until nobody has the poller any more.
async fn run(running: Running) {
    while let Some(poller) = running.0.upgrade() {
        poller.poll().await;
        let (every, now) = (poller.polling.every, Arc::clone(&poller.now));
        drop(poller);
        let _ = timeout(every, now.notified()).await;
    }
}
