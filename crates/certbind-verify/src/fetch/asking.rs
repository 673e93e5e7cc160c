//! Asks the issuer whether a token is still good (RFC 7662), and remembers the answer for a moment.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use certbind_https::{FetchError, Fetcher, Identity};
use certbind_proto::assertion::{self, Build, CLIENT_ASSERTION_TYPE, MAX_BUILT_LIFETIME};
use certbind_proto::entropy::{OsEntropy, unguessable_id};
use certbind_proto::introspection::{self, AnswerFault, PLAIN};
use certbind_proto::jws::{SignFault, Signer};
use certbind_proto::request::Form;
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::Timestamp;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use tokio::sync::watch;
use tokio::time::timeout;

use super::issuer::{FetchFault, Issuer};
use crate::{Fault, Verified, WhenStale};

/// The endpoint of the metadata.
const ENDPOINT: &str = "introspection_endpoint";
/// How long nobody is asked after a question without an answer: who waited for one waits for the next no more.
const PAUSE: Duration = Duration::from_secs(1);
/// The most answers that are remembered.
const MAX_ANSWERS: usize = 10_000;

/// How the issuer is asked.
#[derive(Clone, Debug)]
pub struct Asking {
    /// Who asks: a client that is registered as this resource's server.
    pub client_id: String,
    /// What proves it.
    pub credential: Credential,
    /// How long an answer is used; never beyond the token's end (RFC 7662 §4).
    pub remember: Duration,
    /// What happens while the issuer does not answer.
    pub when_away: WhenStale,
}

impl Asking {
    /// Asks as this client; an answer counts for five seconds, and without one every token is denied.
    #[must_use]
    pub fn new(client_id: &str, credential: Credential) -> Self {
        let (remember, when_away) = (Duration::from_secs(5), WhenStale::Deny);
        Self { client_id: client_id.to_owned(), credential, remember, when_away }
    }
}

/// What proves who asks.
#[derive(Clone)]
pub enum Credential {
    /// An assertion for each question (`private_key_jwt`).
    Assertion(Arc<Signer>),
    /// A certificate (`tls_client_auth`, `self_signed_tls_client_auth`).
    Certificate(Identity),
}

impl Credential {
    pub(super) fn identity(&self) -> Option<Identity> {
        match self {
            Self::Assertion(_) => None,
            Self::Certificate(identity) => Some(identity.clone()),
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Assertion(_) => "Assertion",
            Self::Certificate(_) => "Certificate",
        })
    }
}

/// Asks the issuer about tokens.
pub(super) struct Asker {
    asking: Asking,
    endpoint: Mutex<Option<Uri>>,
    /// When the last question began that got no answer.
    failed: Mutex<Option<Timestamp>>,
    fetcher: Fetcher,
    issuer: Arc<Issuer>,
    /// By the hash of the token.
    answers: Mutex<HashMap<Thumbprint, Answer>>,
}

/// An answer, or the wait for one.
enum Answer {
    Known { is_active: bool, until: Timestamp },
    Awaited(watch::Receiver<Option<bool>>),
}

/// How a question about a token begins.
enum Departed {
    /// With an answer.
    Known(bool),
    /// With a wait.
    Awaited(watch::Receiver<Option<bool>>),
    /// Not at all, for now.
    Paused,
}

/// Why there is no answer, for the log.
#[derive(Debug, thiserror::Error)]
enum AskFault {
    #[error(transparent)]
    Answer(#[from] AnswerFault),
    #[error(transparent)]
    Assertion(#[from] SignFault),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Metadata(#[from] FetchFault),
    #[error("the metadata's introspection_endpoint is no URL")]
    NotUri,
}

impl Asker {
    pub(super) fn new(asking: Asking, fetcher: Fetcher, issuer: Arc<Issuer>) -> Self {
        Self {
            asking,
            endpoint: Mutex::default(),
            failed: Mutex::default(),
            fetcher,
            issuer,
            answers: Mutex::default(),
        }
    }

    /// Whether the issuer still holds a token for good. Of many requests with one token one asks.
    pub(super) async fn ask(self: &Arc<Self>, token: &str, verified: &Verified, now: Timestamp) -> Result<(), Fault> {
        let answer = match self.depart(token, verified.expires(), now) {
            Departed::Known(answer) => Some(answer),
            Departed::Paused => None,
            Departed::Awaited(mut awaited) => {
                // Metadata and question, each with its own deadline.
                let arrived = timeout(self.issuer.limits.total * 2, awaited.wait_for(Option::is_some)).await;
                arrived.ok().and_then(Result::ok).and_then(|answer| *answer)
            }
        };
        match (answer, self.asking.when_away) {
            (Some(true), _) | (None, WhenStale::Accept) => Ok(()),
            (Some(false), _) => Err(Fault::Revoked),
            (None, WhenStale::Deny) => Err(Fault::RevocationStale),
        }
    }

    /// The answer that is known, or the wait for one; starts a question unless one is under way.
    fn depart(self: &Arc<Self>, token: &str, expires: Timestamp, now: Timestamp) -> Departed {
        let key = Thumbprint::of_der(token.as_bytes());
        let mut answers = self.answers();
        match answers.get(&key) {
            Some(Answer::Known { is_active, until }) if now < *until => return Departed::Known(*is_active),
            Some(Answer::Awaited(awaited)) if awaited.has_changed().is_ok() => {
                return Departed::Awaited(awaited.clone());
            }
            _ => {}
        }
        if lock(&self.failed).is_some_and(|failed| failed <= now && now.since(failed) < PAUSE) {
            return Departed::Paused;
        }
        make_room(&mut answers, now);
        let (sender, awaited) = watch::channel(None);
        answers.insert(key, Answer::Awaited(awaited.clone()));
        drop(answers);
        let until = expires.min(now.plus(self.asking.remember));
        let flight = Flight { asker: Arc::clone(self), key, sender, until, answer: None };
        // A task of its own: whoever hangs up takes nobody else's answer away.
        tokio::spawn(flight.fly(token.to_owned(), now));
        Departed::Awaited(awaited)
    }

    async fn question(&self, token: &str, now: Timestamp) -> Result<bool, AskFault> {
        let endpoint = self.endpoint().await?;
        let mut form = Form::default().with("token", token).with("client_id", &self.asking.client_id);
        if let Credential::Assertion(signer) = &self.asking.credential {
            let build = Build {
                client_id: &self.asking.client_id,
                issuer: &self.issuer.identifier,
                jti: &unguessable_id(&OsEntropy),
                now,
                lifetime: MAX_BUILT_LIFETIME,
            };
            let assertion = assertion::build(signer, &build)?;
            form = form.with("client_assertion_type", CLIENT_ASSERTION_TYPE).with("client_assertion", &assertion);
        }
        let mut request = Request::new(Bytes::from(form.encode()));
        (*request.method_mut(), *request.uri_mut()) = (Method::POST, endpoint);
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ACCEPT, HeaderValue::from_static(PLAIN));
        let response = self.fetcher.send(request).await?;
        match response.status() {
            StatusCode::OK => Ok(introspection::is_active(response.body())?),
            other => Err(FetchError::Status(other.as_u16()).into()),
        }
    }

    async fn endpoint(&self) -> Result<Uri, AskFault> {
        let known = lock(&self.endpoint).clone();
        if let Some(endpoint) = known {
            return Ok(endpoint);
        }
        let metadata = self.issuer.metadata().await?;
        let endpoint = match self.asking.credential {
            Credential::Assertion(_) => metadata.member(ENDPOINT)?,
            Credential::Certificate(_) => metadata.mtls_endpoint(ENDPOINT)?,
        };
        let endpoint: Uri = endpoint.parse().map_err(|_| AskFault::NotUri)?;
        *lock(&self.endpoint) = Some(endpoint.clone());
        Ok(endpoint)
    }

    fn answers(&self) -> MutexGuard<'_, HashMap<Thumbprint, Answer>> {
        lock(&self.answers)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is over goes; if nothing is, all that is known goes, as it can be asked again.
fn make_room(answers: &mut HashMap<Thumbprint, Answer>, now: Timestamp) {
    if answers.len() < MAX_ANSWERS {
        return;
    }
    answers.retain(|_, answer| match answer {
        Answer::Known { until, .. } => now < *until,
        Answer::Awaited(awaited) => awaited.has_changed().is_ok(),
    });
    if answers.len() >= MAX_ANSWERS {
        answers.retain(|_, answer| matches!(answer, Answer::Awaited(_)));
    }
}

/// A question under way. However it ends, those who wait are told.
struct Flight {
    asker: Arc<Asker>,
    key: Thumbprint,
    sender: watch::Sender<Option<bool>>,
    until: Timestamp,
    answer: Option<bool>,
}

impl Flight {
    async fn fly(mut self, token: String, now: Timestamp) {
        match self.asker.question(&token, now).await {
            Ok(is_active) => self.answer = Some(is_active),
            Err(fault) => {
                *lock(&self.asker.endpoint) = None;
                *lock(&self.asker.failed) = Some(now);
                tracing::warn!(issuer = self.asker.issuer.identifier, %fault, "the issuer does not say whether a token is good");
            }
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut answers = self.asker.answers();
        match self.answer {
            Some(is_active) => {
                answers.insert(self.key, Answer::Known { is_active, until: self.until });
                self.sender.send_replace(Some(is_active));
            }
            None => {
                answers.remove(&self.key);
            }
        }
    }
}
