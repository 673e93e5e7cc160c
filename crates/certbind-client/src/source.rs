//! The source of tokens: asked before each request, it answers from memory or makes the one request in flight.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use certbind_proto::assertion;
use certbind_proto::entropy::{Entropy, unguessable_id};
use certbind_proto::metadata::{OAUTH_SUFFIX, ServerMetadata, well_known_url};
use certbind_proto::time::{Clock, Timestamp};
use hyper::Uri;
use hyper::header::HeaderValue;

use crate::answer::{self, Grant};
use crate::error::AnswerFault;
use crate::rotation::{Active, Answer, Flight, Launch, Outcome, Rotation, Settled, Succession};
use crate::transport::token_endpoint;
use crate::{
    AccessToken, ClientCertificate, Credential, Error, Failure, FilesStatus, Settings, SetupFault, Status, Waiting,
    request,
};

/// How long metadata are gone by.
const METADATA_LIFE: Duration = Duration::from_secs(3600);
/// The life of a token whose server does not state one.
const UNSTATED_LIFE: Duration = Duration::from_secs(60);
/// How far clocks may be apart before one of them is taken to be wrong.
const TOLERATED_SKEW_MILLIS: u64 = 5000;

/// Gets, keeps and renews the token for one question. Clones share everything.
#[derive(Clone)]
pub struct TokenSource {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    settings: Settings,
    /// How many milliseconds the server's clock is ahead, as far as it matters to assertions.
    skew_millis: AtomicI64,
    state: Mutex<State>,
}

struct State {
    /// How the files stand, kept by whoever follows them.
    files: Option<Arc<Mutex<FilesStatus>>>,
    last_failure: Option<Failure>,
    metadata: Option<(Timestamp, Arc<ServerMetadata>)>,
    rotation: Rotation,
}

impl TokenSource {
    /// A source that has fetched nothing yet.
    ///
    /// # Errors
    /// [`SetupFault`] when the issuer is not an `https` URL or a certificate cannot be used.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Result<Self, SetupFault> {
        if settings.issuer.contains(['?', '#']) || well_known_url(&settings.issuer, OAUTH_SUFFIX).is_none() {
            return Err(SetupFault::Issuer);
        }
        let active = settings.activate(settings.credential.clone())?;
        let rotation = Rotation::new(active, settings.key(&settings.credential), clock.now());
        let state = Mutex::new(State { files: None, last_failure: None, metadata: None, rotation });
        let skew_millis = AtomicI64::new(0);
        Ok(Self { shared: Arc::new(Shared { clock, entropy, settings, skew_millis, state }) })
    }

    /// A token that is good now. Call it before each request; almost always it answers from memory.
    ///
    /// Needs a Tokio runtime. Dropping the future does not stop a request that others may wait for.
    ///
    /// # Errors
    /// [`Error`], when there is no token and none to be had. For a while after a failure the server is left alone and the
    /// same error comes again.
    pub async fn token(&self) -> Result<Arc<AccessToken>, Error> {
        self.token_lasting(Duration::ZERO).await
    }

    /// A token with more than this much of its life before it, if the server gives such tokens at all.
    ///
    /// # Errors
    /// As [`token`](Self::token).
    pub async fn token_lasting(&self, min_left: Duration) -> Result<Arc<AccessToken>, Error> {
        match Shared::step(&self.shared, min_left, Rotation::step) {
            Answer::Now(outcome) => outcome,
            Answer::Later(flight) => landed(flight).await,
            Answer::Trial(flight) => match landed(flight).await {
                Ok(token) => Ok(token),
                Err(_) => match Shared::step(&self.shared, min_left, Rotation::step_after_trial) {
                    Answer::Now(outcome) => outcome,
                    Answer::Later(flight) | Answer::Trial(flight) => landed(flight).await,
                },
            },
        }
    }

    /// Another token in place of one that a resource server has refused with `invalid_token` before its end.
    ///
    /// Call it once, repeat the request once, then stop. Of many callers with the same refused token one makes a request.
    ///
    /// # Errors
    /// As [`token`](Self::token); [`Error::StillRejected`] when such a token was fetched less than 30 seconds ago.
    pub async fn refetch(&self, rejected: &AccessToken) -> Result<Arc<AccessToken>, Error> {
        self.reject(rejected)?;
        self.token().await
    }

    /// A token that a resource server has refused is not handed out again.
    pub(crate) fn reject(&self, rejected: &AccessToken) -> Result<(), Error> {
        let now = self.shared.clock.now();
        self.shared.state().rotation.reject(rejected, now)
    }

    /// Goes on with another credential as soon as there is a token for it, and with the old token and the old certificate
    /// until then: both are exchanged in one step (RFC 8705 §6.3). This is the one for a renewal;
    /// [`replace_credential`](Self::replace_credential) is for a key that must not be used any more.
    ///
    /// While the new credential brings no token the old token serves to its end, and the new credential is tried again after
    /// the usual pauses. When the old token is due for renewal or over and the new credential has failed, whatever for, the old
    /// one goes on, renewals included, to the end of its certificate, with pauses of its own: a proxy that lets nobody in with
    /// the new certificate may look like a server that is away. [`status`](Self::status) says what went wrong. A credential
    /// that was waiting already gives way; the one in use, named again, stays.
    ///
    /// Needs a Tokio runtime. Where no token is in use, the first request is made when somebody asks for one.
    ///
    /// # Errors
    /// [`SetupFault`]; then nothing has changed.
    pub fn rotate_credential(&self, credential: Credential) -> Result<(), SetupFault> {
        let key = self.shared.settings.key(&credential);
        let active = self.shared.settings.activate(credential)?;
        let (now, shown) = (self.shared.clock.now(), shown_by(&active));
        let succession = self.shared.state().rotation.succeed(active, key, now);
        let Settings { issuer, client_id, .. } = &self.shared.settings;
        match succession {
            Succession::Begun => {
                tracing::info!(%issuer, %client_id, certificate = shown, "a new credential waits for its first token");
            }
            Succession::TakenBack => {
                tracing::info!(%issuer, %client_id, certificate = shown, "the old credential is the new one again");
            }
            Succession::Unchanged => {}
        }
        self.pursue();
        Ok(())
    }

    /// Goes on with another credential at once. Who asks from now on gets no token bound to another certificate than the new
    /// one, not even one that is under way (RFC 8705 §6.3). Who waits for that one already gets it, with the certificate
    /// that it goes with.
    ///
    /// # Errors
    /// [`SetupFault`]; then the old credential stays.
    pub fn replace_credential(&self, credential: Credential) -> Result<(), SetupFault> {
        let key = self.shared.settings.key(&credential);
        let active = self.shared.settings.activate(credential)?;
        let now = self.shared.clock.now();
        self.shared.state().rotation.replace(active, key, now);
        Ok(())
    }

    /// Ends the pauses after failures, those that the server asked for too, for somebody who knows that the server is well
    /// again: whoever asks next makes a request, and a credential that waits is tried at once if a token is in use. If that
    /// fails too the pause is as long as it would have been.
    ///
    /// `false` when that was done less than a second ago: then nothing has changed. Needs a Tokio runtime.
    #[allow(clippy::must_use_candidate, reason = "most have nothing to do with the answer")]
    pub fn retry_now(&self) -> bool {
        let now = self.shared.clock.now();
        let is_ended = self.shared.state().rotation.retry_now(now);
        if is_ended {
            self.pursue();
        }
        is_ended
    }

    /// The credential in use.
    #[must_use]
    pub fn credential(&self) -> Credential {
        self.shared.state().rotation.current().active.credential.clone()
    }

    /// What a connection that carries no token shows.
    pub(crate) fn shown(&self) -> Option<ClientCertificate> {
        let now = self.shared.clock.now();
        self.shared.state().rotation.shown(now).certificate().cloned()
    }

    /// How the source stands: what is in use, what waits, what went wrong last.
    #[must_use]
    pub fn status(&self) -> Status {
        let state = self.shared.state();
        let current = state.rotation.current();
        let certificate = |active: &Active| active.credential.certificate().cloned();
        let waiting = state.rotation.next().map(|next| Waiting {
            certificate: certificate(&next.active),
            failure: next.failure().map(|failure| Failure { at: failure.since, error: failure.error.clone() }),
            retry_at: next.failure().map(|failure| failure.until),
            since: next.since,
        });
        Status {
            certificate: certificate(&current.active),
            files: state.files.as_ref().map(|files| files.lock().unwrap_or_else(PoisonError::into_inner).clone()),
            last_failure: state.last_failure.clone(),
            retry_at: current.failure().map(|failure| failure.until),
            since: current.since,
            token_expires: current.token().map(|token| token.expires),
            waiting,
        }
    }

    /// Asks for the first token of a credential that waits, if it is time for it.
    pub(crate) fn pursue(&self) {
        let now = self.shared.clock.now();
        let launches = self.shared.state().rotation.pursue(now);
        Shared::launch(&self.shared, launches);
    }

    /// The present moment of this source.
    pub(crate) fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// From now on this is how the files stand; who kept that before learns that he does so no more.
    pub(crate) fn followed_by(&self, files: Arc<Mutex<FilesStatus>>) {
        self.shared.state().files = Some(files);
    }

    /// Whether this is still how the files stand.
    pub(crate) fn is_followed_by(&self, files: &Arc<Mutex<FilesStatus>>) -> bool {
        self.shared.state().files.as_ref().is_some_and(|current| Arc::ptr_eq(current, files))
    }

    /// Nobody follows files any more, if it was he who did.
    pub(crate) fn not_followed_by(&self, files: &Arc<Mutex<FilesStatus>>) {
        self.shared.state().files.take_if(|current| Arc::ptr_eq(current, files));
    }
}

/// How a log names the certificate.
fn shown_by(active: &Active) -> Option<String> {
    active.credential.certificate().map(|certificate| certificate.thumbprint().to_string())
}

/// Waits for a request that somebody has made.
async fn landed(mut flight: Flight) -> Outcome {
    let landed = flight.wait_for(Option::is_some).await;
    landed.ok().and_then(|outcome| outcome.clone()).unwrap_or(Err(Error::Interrupted))
}

impl Shared {
    /// A panic elsewhere leaves nothing half done in here.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(
        shared: &Arc<Self>,
        min_left: Duration,
        step: impl FnOnce(&mut Rotation, Timestamp, Duration) -> (Answer, Vec<Launch>),
    ) -> Answer {
        let now = shared.clock.now();
        let (answer, launches) = step(&mut shared.state().rotation, now, min_left);
        Self::launch(shared, launches);
        answer
    }

    /// Makes requests. Each is a task of its own: no caller who goes away takes it along.
    fn launch(shared: &Arc<Self>, launches: Vec<Launch>) {
        for Launch { active, landing } in launches {
            let shared = shared.clone();
            tokio::spawn(async move {
                let outcome = shared.fetch(&active).await.map(Arc::new);
                shared.settle(&active, &outcome);
                landing.send_replace(Some(outcome));
            });
        }
    }

    /// Keeps the outcome, unless the credential has been replaced meanwhile.
    fn settle(&self, active: &Arc<Active>, outcome: &Outcome) {
        let now = self.clock.now();
        let settled = {
            let mut state = self.state();
            if let Err(error) = outcome {
                // What was learned from the metadata may be what is wrong.
                state.metadata = None;
                state.last_failure = Some(Failure { at: now, error: error.clone() });
            }
            state.rotation.settle(active, outcome, now, &*self.entropy)
        };
        self.tell(active, outcome, settled);
    }

    fn tell(&self, active: &Active, outcome: &Outcome, settled: Settled) {
        let (issuer, client_id) = (&self.settings.issuer, &self.settings.client_id);
        let certificate = shown_by(active);
        match (outcome, settled) {
            (Ok(token), Settled::Taken) => {
                tracing::info!(%issuer, %client_id, certificate, expires = %token.expires, "the new credential is in use");
            }
            (Ok(token), _) => {
                tracing::debug!(%issuer, %client_id, certificate, expires = %token.expires, "token obtained");
            }
            (Err(error), Settled::Next) => {
                let request_id = error.request_id();
                tracing::warn!(
                    %issuer, %client_id, certificate, request_id, %error,
                    "no token obtained with the new credential; the old one stays in use"
                );
            }
            (Err(error), _) => {
                tracing::warn!(%issuer, %client_id, certificate, request_id = error.request_id(), %error, "no token obtained");
            }
        }
    }

    /// Gets a token, whatever is kept.
    async fn fetch(&self, active: &Active) -> Result<AccessToken, Error> {
        if active.is_over(self.clock.now()) {
            return Err(Error::CertificateExpired);
        }
        let metadata = self.metadata(active).await?;
        let endpoint = token_endpoint(&metadata, active.credential.certificate(), self.settings.aliases);
        let endpoint = endpoint.map_err(Error::Metadata)?;
        match self.ask(active, endpoint.clone()).await {
            // Once, and only where the time is part of the proof (FAPI 2.0 Security Profile §5.3.3.1, note).
            Err(Unserved { error, server_time: Some(server_time) })
                if error.is_invalid_client()
                    && active.credential.assertion_key().is_some()
                    && self.adopt(server_time) =>
            {
                self.ask(active, endpoint).await
            }
            outcome => outcome,
        }
        .map_err(|unserved| unserved.error)
    }

    async fn metadata(&self, active: &Active) -> Result<Arc<ServerMetadata>, Error> {
        let now = self.clock.now();
        if let Some((since, metadata)) = &self.state().metadata
            && *since <= now
            && now < since.plus(METADATA_LIFE)
        {
            return Ok(metadata.clone());
        }
        let metadata = Arc::new(active.transport.metadata(&self.settings.issuer).await?);
        self.state().metadata = Some((now, metadata.clone()));
        Ok(metadata)
    }

    /// One try: one form, one assertion of its own (RFC 7523 §3), one answer.
    async fn ask(&self, active: &Active, endpoint: Uri) -> Result<AccessToken, Unserved> {
        let started = self.clock.now();
        let assertion = self.assertion(active, started)?;
        let Settings { client_id, scope, resources, .. } = &self.settings;
        let form = request::form(client_id, scope, resources, assertion.as_deref());
        let response = active.transport.token(endpoint, &form).await?;
        match answer::read(&response, self.clock.now()) {
            Ok(grant) => Ok(self.token_of(active, grant, started)?),
            Err(error) => Err(Unserved { error, server_time: answer::server_time(response.headers()) }),
        }
    }

    fn assertion(&self, active: &Active, now: Timestamp) -> Result<Option<String>, Error> {
        let Some(signer) = active.credential.assertion_key() else { return Ok(None) };
        let claims = assertion::Build {
            client_id: &self.settings.client_id,
            // Never out of the metadata: a hostile server would pass our assertion on to the one it names.
            issuer: &self.settings.issuer,
            jti: &unguessable_id(&*self.entropy),
            now: Timestamp::from_millis(now.millis().saturating_add(self.skew_millis.load(Ordering::Relaxed))),
            lifetime: assertion::MAX_BUILT_LIFETIME,
        };
        assertion::build(signer, &claims).map(Some).map_err(Error::Signing)
    }

    /// Takes over the server's clock for assertions, if it is another one than ours as corrected so far.
    fn adopt(&self, server_time: Timestamp) -> bool {
        let skew = server_time.millis().saturating_sub(self.clock.now().millis());
        let news = skew.abs_diff(self.skew_millis.load(Ordering::Relaxed)) > TOLERATED_SKEW_MILLIS;
        if news {
            tracing::warn!(
                skew_millis = skew,
                "this clock and the authorization server's differ; assertions follow the server's"
            );
            self.skew_millis.store(skew, Ordering::Relaxed);
        }
        news
    }

    /// The life of the token counts from before the request, and ends with its certificate. Servers count in whole seconds
    /// (RFC 7519 §2): one that began within a second is over at its beginning.
    fn token_of(&self, active: &Active, grant: Grant, started: Timestamp) -> Result<AccessToken, Error> {
        let authorization = HeaderValue::try_from(format!("Bearer {}", grant.access_token));
        let mut authorization = authorization.map_err(|_| Error::NotOAuth(AnswerFault::TokenCharacters))?;
        authorization.set_sensitive(true);
        let certificate = active.credential.certificate().cloned();
        let started = Timestamp::from_unix(started.unix());
        let end = started.plus(grant.expires_in.unwrap_or(UNSTATED_LIFE));
        let expires = certificate.as_ref().map_or(end, |certificate| end.min(certificate.not_after()));
        let scope = grant.scope.unwrap_or_else(|| self.settings.scope.clone());
        Ok(AccessToken { authorization, certificate, expires, scope, started, value: grant.access_token })
    }
}

/// A try that brought no token.
struct Unserved {
    error: Error,
    /// What the server's clock said, if there was a server.
    server_time: Option<Timestamp>,
}

impl From<Error> for Unserved {
    fn from(error: Error) -> Self {
        Self { error, server_time: None }
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSource").field("settings", &self.shared.settings).finish_non_exhaustive()
    }
}
