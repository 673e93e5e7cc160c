//! Issuing a token: the whole way in one function.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use certbind_proto::cert::PeerCert;
use certbind_proto::client::Client;
use certbind_proto::request::{CLIENT_CREDENTIALS, Form};
use certbind_proto::scope::Scope;
use certbind_proto::time::Timestamp;

use super::{Blame, Context, Flows, Presented, Refusal, RequestFault};
use crate::audit::{self, Event, Kind, Level};
use crate::authn::Denied;
use crate::grant::{self, Granted};
use crate::mint::{Minted, TokenId};

/// A token request as it was read.
#[derive(Debug)]
pub struct TokenRequest {
    /// What the client shows to prove itself.
    pub presented: Presented,
    /// What it asks for.
    pub form: Form,
}

/// An issued token, and what the client is told about it.
#[derive(Clone)]
pub struct Issued {
    /// The access token.
    pub token: String,
    /// Its remaining life in seconds.
    pub expires_in: u64,
    /// What was granted.
    pub scope: Scope,
}

/// Never shows the token.
impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("expires_in", &self.expires_in)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

/// What is known about a request by the time it is decided; for the audit log.
#[derive(Default)]
struct Known {
    client: Option<Arc<Client>>,
    claimed_client_id: Option<String>,
    certificate: Option<Arc<PeerCert>>,
    grant_type: Option<&'static str>,
}

impl Flows {
    /// Issues a token, or says why not. Every call leaves exactly one audit event.
    ///
    /// # Errors
    /// The [`Refusal`]; then nothing was issued.
    pub async fn issue(
        &self,
        request: Result<TokenRequest, RequestFault>,
        context: &Context,
    ) -> Result<Issued, Refusal> {
        let started = Instant::now();
        let now = self.clock.now();
        let mut known = Known::default();
        let outcome = match request {
            Ok(request) => self.decide(&request, context, now, &mut known).await,
            Err(fault) => Err(fault.into()),
        };
        let outcome = self.conclude(outcome, context, &known, now, started).await;
        outcome.map(|(minted, granted)| Issued {
            token: minted.token,
            expires_in: minted.expires_in,
            scope: granted.scope().clone(),
        })
    }

    async fn decide(
        &self,
        request: &TokenRequest,
        context: &Context,
        now: Timestamp,
        known: &mut Known,
    ) -> Result<(Minted, Granted), Refusal> {
        known.claimed_client_id.clone_from(&request.presented.client_id);
        known.certificate.clone_from(&request.presented.certificate);
        known.grant_type =
            request.form.get("grant_type").filter(|&name| name == CLIENT_CREDENTIALS).map(|_| CLIENT_CREDENTIALS);

        let client = match self.authenticator.authenticate(&request.presented, now).await {
            Ok(client) => client,
            Err(Denied { client, claimed, fault }) => {
                known.client = client;
                known.claimed_client_id = claimed.or(known.claimed_client_id.take());
                return Err(self.denied(fault.into(), context));
            }
        };
        known.client = Some(client.registration());
        if !self.limits.may_ask(&client.client().client_id) {
            self.metrics.rate_limited(Refusal::AskedTooOften.reason());
            return Err(Refusal::AskedTooOften);
        }
        let granted = grant::authorize(&self.grants, &client, &request.form)?;
        let signing = Instant::now();
        let minted = self.minter.mint(&granted, &client, TokenId::draw(&*self.entropy), now)?;
        self.metrics.signing(self.minter.algorithm(), signing.elapsed());
        Ok((minted, granted))
    }

    /// A failed authentication counts against its address; past the limit the answer is the same for every cause.
    fn denied(&self, refusal: Refusal, context: &Context) -> Refusal {
        if refusal.blame() == Blame::Us || self.limits.may_fail(context.peer.ip()) {
            return refusal;
        }
        self.metrics.rate_limited(refusal.reason());
        Refusal::FailedTooOften
    }

    /// Writes the decision down. A token whose line cannot be kept stays here, and its refusal is the decision then.
    async fn conclude(
        &self,
        mut outcome: Result<(Minted, Granted), Refusal>,
        context: &Context,
        known: &Known,
        now: Timestamp,
        started: Instant,
    ) -> Result<(Minted, Granted), Refusal> {
        let auth_method = known.client.as_ref().map(|client| client.method.name().as_str());
        let mut event = base_event(context, known, now);
        event.auth_method = auth_method;
        event.duration_us = Some(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
        if let Ok((minted, granted)) = &outcome {
            describe_success(&mut event, minted, granted);
            if let Err(fault) = self.audit.record_durably(&event).await {
                outcome = Err(fault.into());
            }
        }
        if let Err(refusal) = &outcome {
            describe_refusal(&mut event, refusal);
            self.audit.record(&event);
        }
        self.count(&outcome, auth_method.unwrap_or("unknown"), started.elapsed());
        outcome
    }

    fn count(&self, outcome: &Result<(Minted, Granted), Refusal>, auth_method: &'static str, took: Duration) {
        match outcome {
            Ok(_) => self.metrics.token_request(auth_method, "issued", took),
            Err(refusal) => {
                self.metrics.token_request(auth_method, refusal.code().as_str(), took);
                if let Refusal::Authn(fault) = refusal {
                    self.metrics.client_auth_failure(auth_method, fault.reason());
                }
            }
        }
    }
}

fn base_event(context: &Context, known: &Known, now: Timestamp) -> Event {
    let certificate = known.certificate.as_ref().and_then(|certificate| certificate.summary());
    let registered = known.client.as_ref().map(|client| client.client_id.clone());
    Event {
        ts: now.to_string(),
        request_id: Some(context.request_id.clone()),
        listener: Some(context.listener.to_string()),
        client_id: registered.or_else(|| known.claimed_client_id.as_deref().map(audit::peer_text)),
        grant_type: known.grant_type,
        cert_subject: certificate.map(|certificate| audit::peer_text(&certificate.subject)),
        cert_serial: certificate.map(|certificate| audit::peer_text(&certificate.serial)),
        cert_not_after: certificate.map(|certificate| certificate.not_after.clone()),
        peer: Some(context.peer.to_string()),
        tls: context.tls,
        kx: context.kx,
        resumed: Some(context.resumed),
        ..Event::default()
    }
}

fn describe_success(event: &mut Event, minted: &Minted, granted: &Granted) {
    event.event = Some(Kind::TokenIssued);
    event.outcome = Some("success");
    event.scope = Some(granted.scope().to_string());
    event.aud = granted.audience().iter().map(ToString::to_string).collect();
    event.jti = Some(minted.id.to_string());
    event.exp = Some(minted.expires.unix());
    event.cnf_x5t_s256 = minted.bound_to.map(|thumbprint| thumbprint.to_string());
}

fn describe_refusal(event: &mut Event, refusal: &Refusal) {
    event.event = Some(Kind::TokenRefused);
    event.outcome = Some("failure");
    event.error = Some(refusal.code().as_str());
    event.reason = Some(refusal.reason());
    if refusal.blame() == Blame::Us {
        event.level = Level::Error;
        event.detail = Some(refusal.to_string());
    }
}
