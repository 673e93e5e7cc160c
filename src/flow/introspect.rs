//! Telling a resource server whether a token is good for it (RFC 7662 §2.2, §4; RFC 9701).

use std::fmt;
use std::time::{Duration, Instant};

use certbind_proto::access_token::{AccessToken, TokenFault};
use certbind_proto::client::{Client, State};
use certbind_proto::error::ErrorCode;
use certbind_proto::introspection::Introspection;
use certbind_proto::resource::Resource;
use certbind_proto::time::Timestamp;

use super::caller::{Known, base_event, describe_refusal};
use super::{Context, Flows, Refusal, RequestFault, TokenRequest};
use crate::audit::Kind;
use crate::authn::AuthnFault;
use crate::grant;
use crate::mint::MintFault;
use crate::revocation::Revoked;

/// In which form an answer is wanted (RFC 7662 §2.2, RFC 9701 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerForm {
    /// JSON.
    Plain,
    /// A JWT that this server signs.
    Signed,
}

/// What a resource server is told. It never shows the token's claims.
pub enum Told {
    /// As JSON.
    Plain(Introspection),
    /// As a signed JWT.
    Signed(String),
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Signed(_) => "Signed",
        })
    }
}

/// Why a resource server is told nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntrospectFault {
    /// A signed answer is for somebody, and nobody says who he is (RFC 9701 §5).
    #[error("a signed answer was asked for without saying by whom (RFC 9701 §5)")]
    NobodyAsks,
    /// The answer could not be signed.
    #[error(transparent)]
    Signing(#[from] MintFault),
    /// There is no `token` (RFC 7662 §2.1).
    #[error("no token (RFC 7662 §2.1)")]
    TokenMissing,
}

impl IntrospectFault {
    /// What the peer is told.
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::NobodyAsks | Self::TokenMissing => ErrorCode::InvalidRequest,
            Self::Signing(fault) => fault.code(),
        }
    }

    /// The stable name for audit and metrics.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NobodyAsks => "client_id_missing",
            Self::Signing(fault) => fault.reason(),
            Self::TokenMissing => "token_parameter_missing",
        }
    }
}

/// Why a token is not good for whoever asks about it. For operators: he learns only that it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum InactiveFault {
    #[error("the token's client is disabled")]
    ClientDisabled,
    #[error("the token's client is no longer registered")]
    ClientUnknown,
    #[error("the token is for other resources")]
    OfOthers,
    #[error("the certificate that the token is bound to was revoked")]
    CertificateRevoked,
    #[error("every token that the client had was revoked")]
    ClientRevoked,
    #[error("the token was revoked")]
    Revoked,
    #[error(transparent)]
    Token(#[from] TokenFault),
}

impl InactiveFault {
    const fn reason(self) -> &'static str {
        match self {
            Self::CertificateRevoked => "certificate_revoked",
            Self::ClientDisabled => "client_disabled",
            Self::ClientUnknown => "client_unknown",
            Self::OfOthers => "token_audience",
            Self::ClientRevoked | Self::Revoked => "token_revoked",
            Self::Token(fault) => fault.reason(),
        }
    }
}

/// What a question came to, for the audit log.
struct Answered {
    told: Told,
    inactive: Option<InactiveFault>,
}

impl Flows {
    /// Tells a resource server about a token, or says why not. Every call leaves exactly one audit event. Nothing is
    /// asked of the store: keys, clients and revocations are in memory.
    ///
    /// # Errors
    /// The [`Refusal`]; then nothing was told.
    pub async fn introspect(
        &self,
        request: Result<TokenRequest, RequestFault>,
        form: AnswerForm,
        context: &Context,
    ) -> Result<Told, Refusal> {
        let started = Instant::now();
        let now = self.clock.now();
        let mut known = Known::default();
        let outcome = match request {
            Ok(request) => self.decide_introspection(&request, form, context, now, &mut known).await,
            Err(fault) => Err(fault.into()),
        };
        self.record_introspection(&outcome, context, &known, now, started);
        outcome.map(|answered| answered.told)
    }

    async fn decide_introspection(
        &self,
        request: &TokenRequest,
        form: AnswerForm,
        context: &Context,
        now: Timestamp,
        known: &mut Known,
    ) -> Result<Answered, Refusal> {
        let asking = match self.authenticate(&request.presented, context, now, known).await {
            Err(Refusal::Authn(AuthnFault::ClientIdMissing)) if form == AnswerForm::Signed => {
                return Err(IntrospectFault::NobodyAsks.into());
            }
            outcome => outcome?,
        };
        let text = request.form.get("token").ok_or(IntrospectFault::TokenMissing)?;
        let read = self.minter.read(text, Duration::ZERO, now);
        known.token = read.as_ref().ok().cloned();
        let judged = read.map_err(InactiveFault::from).and_then(|token| self.judge(token, asking.client(), now));
        let inactive = judged.as_ref().err().copied();
        let said = judged.map_or(Introspection::Inactive, |token| Introspection::Active(Box::new(token)));
        let told = match form {
            AnswerForm::Plain => Told::Plain(said),
            AnswerForm::Signed => {
                let signed = self.minter.sign_introspection(&said, &asking, now).await;
                Told::Signed(signed.map_err(IntrospectFault::from)?)
            }
        };
        Ok(Answered { told, inactive })
    }

    /// What a token of ours says to this resource server, if it is good for it.
    fn judge(&self, token: AccessToken, asking: &Client, now: Timestamp) -> Result<AccessToken, InactiveFault> {
        let is_served = |own: &&Resource| token.aud.iter().any(|aud| aud == own.as_str());
        let served: Vec<Resource> = asking.resource_server.iter().filter(is_served).cloned().collect();
        if served.is_empty() {
            return Err(InactiveFault::OfOthers);
        }
        match self.authenticator.client(&token.client_id).map(|client| client.state) {
            Some(State::Active) => {}
            Some(State::Disabled) => return Err(InactiveFault::ClientDisabled),
            None => return Err(InactiveFault::ClientUnknown),
        }
        match self.revocations.against(&token, now) {
            Some(Revoked::Certificate) => return Err(InactiveFault::CertificateRevoked),
            Some(Revoked::Client) => return Err(InactiveFault::ClientRevoked),
            Some(Revoked::Token) => return Err(InactiveFault::Revoked),
            None => {}
        }
        let scope = grant::scope_at(&self.grants, &served, &token.scope);
        Ok(AccessToken { scope, ..token })
    }

    fn record_introspection(
        &self,
        outcome: &Result<Answered, Refusal>,
        context: &Context,
        known: &Known,
        now: Timestamp,
        started: Instant,
    ) {
        let mut event = base_event(context, known, now, started);
        event.event = Some(Kind::TokenIntrospected);
        match outcome {
            Ok(answered) => {
                event.outcome = Some("success");
                event.reason = answered.inactive.map(InactiveFault::reason);
            }
            Err(refusal) => describe_refusal(&mut event, refusal),
        }
        self.audit.record(&event);
        if let Err(refusal) = outcome {
            self.count_refusal(refusal, known);
        }
    }
}
