//! Revoking a token (RFC 7009 §2.1): the client's own, effective everywhere, or nothing at all.

use std::time::Instant;

use certbind_proto::access_token::{LATEST_ACCEPTANCE, TokenFault};
use certbind_proto::error::ErrorCode;
use certbind_proto::time::Timestamp;

use super::caller::{Known, base_event, describe_refusal};
use super::{Context, Flows, Refusal, RequestFault, TokenRequest};
use crate::audit::Kind;
use crate::revocation::NotRevoked;

/// Why an authenticated client's request revokes nothing.
#[derive(Debug, thiserror::Error)]
pub enum RevokeFault {
    /// It is not recorded.
    #[error(transparent)]
    NotRevoked(#[from] NotRevoked),
    /// The token was issued to another client (RFC 7009 §2.1).
    #[error("the token was issued to another client (RFC 7009 §2.1)")]
    OfAnotherClient,
    /// There is no `token` (RFC 7009 §2.1).
    #[error("no token (RFC 7009 §2.1)")]
    TokenMissing,
    /// The client revokes more than is taken of one.
    #[error("too many revocations of this client")]
    TooOften,
}

impl RevokeFault {
    /// What the peer is told.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::NotRevoked(_) | Self::TooOften => ErrorCode::TemporarilyUnavailable,
            Self::OfAnotherClient => ErrorCode::UnauthorizedClient,
            Self::TokenMissing => ErrorCode::InvalidRequest,
        }
    }

    /// The stable name for audit and metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotRevoked(NotRevoked::Full) => "revocations_full",
            Self::NotRevoked(NotRevoked::Store(_)) => "store_unavailable",
            Self::OfAnotherClient => "token_of_another_client",
            Self::TokenMissing => "token_parameter_missing",
            Self::TooOften => "revoked_too_often",
        }
    }
}

/// What a revocation request came to. The client is not told the difference (RFC 7009 §2.2).
enum Revoked {
    /// This token is no longer good.
    Token,
    /// What was sent was no good token before.
    Nothing(TokenFault),
}

impl Flows {
    /// Revokes a token, or says why not. Every call leaves exactly one audit event. A token that is unknown, expired or
    /// none at all is as good as revoked, and a hint about its type changes nothing (RFC 7009 §2.1, §2.2).
    ///
    /// # Errors
    /// The [`Refusal`]; then nothing was revoked, unless it was the store that failed.
    pub async fn revoke(&self, request: Result<TokenRequest, RequestFault>, context: &Context) -> Result<(), Refusal> {
        let started = Instant::now();
        let now = self.clock.now();
        let mut known = Known::default();
        let outcome = match request {
            Ok(request) => self.decide_revocation(&request, context, now, &mut known).await,
            Err(fault) => Err(fault.into()),
        };
        self.record_revocation(&outcome, context, &known, now, started);
        outcome.map(|_| ())
    }

    async fn decide_revocation(
        &self,
        request: &TokenRequest,
        context: &Context,
        now: Timestamp,
        known: &mut Known,
    ) -> Result<Revoked, Refusal> {
        let client = self.authenticate(&request.presented, context, now, known).await?;
        let client_id = &client.client().client_id;
        let text = request.form.get("token").ok_or(RevokeFault::TokenMissing)?;
        // Also one that has just expired: a resource server whose clock is behind still takes it.
        let token = match self.minter.read(text, LATEST_ACCEPTANCE, now) {
            Ok(token) => token,
            Err(fault) => return Ok(Revoked::Nothing(fault)),
        };
        let token = known.token.insert(token);
        if token.client_id != *client_id {
            return Err(RevokeFault::OfAnotherClient.into());
        }
        if !self.limits.may_revoke(client_id) {
            self.metrics.rate_limited(RevokeFault::TooOften.reason());
            return Err(RevokeFault::TooOften.into());
        }
        self.revocations.revoke_token(token, now).await.map_err(RevokeFault::from)?;
        Ok(Revoked::Token)
    }

    fn record_revocation(
        &self,
        outcome: &Result<Revoked, Refusal>,
        context: &Context,
        known: &Known,
        now: Timestamp,
        started: Instant,
    ) {
        let mut event = base_event(context, known, now, started);
        event.event = Some(Kind::TokenRevoked);
        event.outcome = Some("success");
        match outcome {
            Ok(Revoked::Token) => {}
            Ok(Revoked::Nothing(fault)) => event.reason = Some(fault.reason()),
            Err(refusal) => describe_refusal(&mut event, refusal),
        }
        self.audit.record(&event);
        if let Err(refusal) = outcome {
            self.count_refusal(refusal, known);
        }
    }
}
