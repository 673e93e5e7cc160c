//! Issuing a token: the whole way in one function.

use std::fmt;
use std::time::Instant;

use certbind_proto::request::{CLIENT_CREDENTIALS, Form};
use certbind_proto::scope::Scope;
use certbind_proto::time::Timestamp;

use super::caller::{Known, base_event, describe_refusal};
use super::{Context, Flows, Presented, Refusal, RequestFault};
use crate::audit::{Event, Kind};
use crate::grant::{self, Granted};
use crate::mint::{Minted, TokenId};

/// A request for a token, about one or against one, as it was read.
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
        known.grant_type =
            request.form.get("grant_type").filter(|&name| name == CLIENT_CREDENTIALS).map(|_| CLIENT_CREDENTIALS);
        let client = self.authenticate(&request.presented, context, now, known).await?;
        if !self.limits.may_ask(&client.client().client_id) {
            self.metrics.rate_limited(Refusal::AskedTooOften.reason());
            return Err(Refusal::AskedTooOften);
        }
        let granted = grant::authorize(&self.grants, &client, &request.form)?;
        let signing = Instant::now();
        let minted = self.minter.mint(&granted, &client, TokenId::draw(&*self.entropy), now).await?;
        if minted.bound_to.is_some() {
            self.authenticator.remember_bound(&client, minted.expires, now)?;
        }
        self.metrics.signing(minted.algorithm, signing.elapsed());
        Ok((minted, granted))
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
        let mut event = base_event(context, known, now, started);
        if let Ok((minted, granted)) = &outcome {
            describe_success(&mut event, minted, granted);
            if let Err(fault) = self.audit.record_durably(&event).await {
                outcome = Err(fault.into());
            }
        }
        if let Err(refusal) = &outcome {
            event.event = Some(Kind::TokenRefused);
            describe_refusal(&mut event, refusal);
            self.audit.record(&event);
        }
        let result = outcome.as_ref().map_or_else(|refusal| refusal.code().as_str(), |_| "issued");
        self.metrics.token_request(known.auth_method().unwrap_or("unknown"), result, started.elapsed());
        if let Err(refusal) = &outcome {
            self.count_refusal(refusal, known);
        }
        outcome
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
