//! The source of tokens: what is asked for, the credential in use, one request in flight.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use certbind_https::{AddressPolicy, Limits};
use certbind_proto::assertion;
use certbind_proto::entropy::{Entropy, unguessable_id};
use certbind_proto::metadata::{OAUTH_SUFFIX, ServerMetadata, well_known_url};
use certbind_proto::resource::Resource;
use certbind_proto::scope::Scope;
use certbind_proto::time::{Clock, Timestamp};
use hyper::Uri;
use hyper::header::HeaderValue;
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;

use crate::answer::{self, Grant};
use crate::cache::{Advice, Key, Slot};
use crate::error::AnswerFault;
use crate::transport::{Transport, token_endpoint};
use crate::{AccessToken, Credential, Error, SetupFault, request};

/// How long metadata are gone by.
const METADATA_LIFE: Duration = Duration::from_secs(3600);
/// The life of a token whose server does not state one.
const UNSTATED_LIFE: Duration = Duration::from_secs(60);
/// How far clocks may be apart before one of them is taken to be wrong.
const TOLERATED_SKEW_MILLIS: u64 = 5000;

/// Who asks whom for what.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where requests may go.
    pub addresses: AddressPolicy,
    /// When the `mtls_endpoint_aliases` of the metadata are used.
    pub aliases: Aliases,
    /// The client.
    pub client_id: String,
    /// How it authenticates, to begin with.
    pub credential: Credential,
    /// The issuer identifier, from a source that is trusted. It alone is the audience of assertions.
    pub issuer: String,
    /// What one request may cost.
    pub limits: Limits,
    /// The resources that the token is for; best just one (RFC 8707 §3). Empty leaves it to the server.
    pub resources: BTreeSet<Resource>,
    /// The certificate authorities that may vouch for the authorization server.
    pub roots: Vec<CertificateDer<'static>>,
    /// The scope that is asked for. Empty leaves it to the server.
    pub scope: Scope,
}

/// When the `mtls_endpoint_aliases` of the metadata are used (RFC 8705 §5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aliases {
    /// Always: the client is registered with `use_mtls_endpoint_aliases` (FAPI 2.0 Security Profile §5.2.2.1).
    Always,
    /// When the client shows a certificate.
    #[default]
    WithCertificate,
}

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
    active: Arc<Active>,
    flight: Option<Flight>,
    metadata: Option<(Timestamp, Arc<ServerMetadata>)>,
    slot: Slot,
}

/// One snapshot of the credential and the connections that show it.
struct Active {
    credential: Credential,
    transport: Transport,
}

/// A request under way; its outcome is for all who wait.
type Flight = watch::Receiver<Option<Result<Arc<AccessToken>, Error>>>;

impl Settings {
    /// The usual: no scope, no resource, public addresses only, 2 s to connect and 5 s for an answer.
    #[must_use]
    pub fn new(issuer: &str, client_id: &str, credential: Credential, roots: Vec<CertificateDer<'static>>) -> Self {
        Self {
            addresses: AddressPolicy::default(),
            aliases: Aliases::default(),
            client_id: client_id.to_owned(),
            credential,
            issuer: issuer.to_owned(),
            limits: Limits::default(),
            resources: BTreeSet::new(),
            roots,
            scope: Scope::default(),
        }
    }

    fn key(&self, credential: &Credential) -> Key {
        Key {
            certificate: credential.certificate().map(|certificate| *certificate.thumbprint()),
            client_id: self.client_id.clone(),
            issuer: self.issuer.clone(),
            resources: self.resources.clone(),
            scope: self.scope.clone(),
        }
    }

    fn activate(&self, credential: Credential) -> Result<Arc<Active>, SetupFault> {
        let transport = Transport::new(&self.roots, credential.certificate(), self.addresses, self.limits)?;
        Ok(Arc::new(Active { credential, transport }))
    }
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
        let slot = Slot::new(settings.key(&settings.credential));
        let state = Mutex::new(State { active, flight: None, metadata: None, slot });
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
        let mut flight = {
            let now = self.shared.clock.now();
            let mut state = self.shared.state();
            match state.slot.advise(now, min_left) {
                Advice::Fail(error) => return Err(error),
                Advice::Fetch => Shared::take_off(&self.shared, &mut state),
                Advice::Use(token) => return Ok(token),
                Advice::UseAndRenew(token) => {
                    Shared::take_off(&self.shared, &mut state);
                    return Ok(token);
                }
            }
        };
        let landed = flight.wait_for(Option::is_some).await;
        landed.ok().and_then(|outcome| outcome.clone()).unwrap_or(Err(Error::Interrupted))
    }

    /// Another token in place of one that a resource server has refused with `invalid_token` before its end.
    ///
    /// Call it once, repeat the request once, then stop. Of many callers with the same refused token one makes a request.
    ///
    /// # Errors
    /// As [`token`](Self::token); [`Error::StillRejected`] when such a token was fetched less than 30 seconds ago.
    pub async fn refetch(&self, rejected: &AccessToken) -> Result<Arc<AccessToken>, Error> {
        let now = self.shared.clock.now();
        self.shared.state().slot.reject(rejected, now)?;
        self.token().await
    }

    /// Goes on with another credential. Who asks from now on gets no token bound to another certificate than the new one,
    /// not even one that is under way (RFC 8705 §6.3). Who waits for that one already gets it, with the certificate that
    /// it goes with.
    ///
    /// # Errors
    /// [`SetupFault`]; then the old credential stays.
    pub fn replace_credential(&self, credential: Credential) -> Result<(), SetupFault> {
        let key = self.shared.settings.key(&credential);
        let active = self.shared.settings.activate(credential)?;
        let mut state = self.shared.state();
        state.active = active;
        state.slot.rekey(key);
        state.flight = None;
        Ok(())
    }

    /// The credential in use.
    #[must_use]
    pub fn credential(&self) -> Credential {
        self.shared.state().active.credential.clone()
    }
}

impl Shared {
    /// A panic elsewhere leaves nothing half done in here.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The request under way, or a new one. It is a task of its own: no caller who goes away takes it along.
    fn take_off(shared: &Arc<Self>, state: &mut State) -> Flight {
        if let Some(flight) = state.flight.as_ref().filter(|flight| flight.has_changed().is_ok()) {
            return flight.clone();
        }
        let (landing, flight) = watch::channel(None);
        state.flight = Some(flight.clone());
        let (shared, active) = (shared.clone(), state.active.clone());
        tokio::spawn(async move {
            let outcome = shared.fetch(&active).await.map(Arc::new);
            shared.settle(&active, &outcome);
            landing.send_replace(Some(outcome));
        });
        flight
    }

    /// Keeps the outcome, unless the credential has been replaced meanwhile.
    fn settle(&self, active: &Arc<Active>, outcome: &Result<Arc<AccessToken>, Error>) {
        let (issuer, client_id) = (&self.settings.issuer, &self.settings.client_id);
        match outcome {
            Ok(token) => tracing::debug!(%issuer, %client_id, expires = %token.expires, "token obtained"),
            Err(error) => {
                tracing::warn!(%issuer, %client_id, request_id = error.request_id(), %error, "no token obtained")
            }
        }
        let now = self.clock.now();
        let mut state = self.state();
        if !Arc::ptr_eq(&state.active, active) {
            return;
        }
        state.flight = None;
        match outcome {
            Ok(token) => state.slot.succeeded(token.clone(), &*self.entropy),
            Err(error) => {
                // What was learned from the metadata may be what is wrong.
                state.metadata = None;
                state.slot.failed(error.clone(), now, &*self.entropy);
            }
        }
    }

    /// Gets a token, whatever is kept.
    async fn fetch(&self, active: &Active) -> Result<AccessToken, Error> {
        let not_after = active.credential.certificate().map(|certificate| certificate.not_after());
        if not_after.is_some_and(|end| end <= self.clock.now()) {
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

    /// The life of the token counts from before the request, and ends with its certificate.
    fn token_of(&self, active: &Active, grant: Grant, started: Timestamp) -> Result<AccessToken, Error> {
        let authorization = HeaderValue::try_from(format!("Bearer {}", grant.access_token));
        let mut authorization = authorization.map_err(|_| Error::NotOAuth(AnswerFault::TokenCharacters))?;
        authorization.set_sensitive(true);
        let certificate = active.credential.certificate().cloned();
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
