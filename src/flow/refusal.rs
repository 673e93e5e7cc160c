//! Every way in which a request is refused: one enum for operators, one code for peers.

use certbind_proto::error::ErrorCode;
use certbind_proto::request::FormFault;

use crate::audit::AuditUnavailable;
use crate::authn::AuthnFault;
use crate::grant::GrantFault;
use crate::mint::MintFault;
use crate::proxy::{CallerFault, SaidFault};

use super::{IntrospectFault, RevokeFault};

/// Why a request cannot be read (RFC 6749 §3.2, §2.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestFault {
    /// The body did not arrive in time.
    #[error("the body did not arrive in time")]
    BodyTooSlow,
    /// The body is larger than the limit.
    #[error("the body is larger than the limit")]
    BodyTooLarge,
    /// The body ended early or could not be read.
    #[error("the body could not be read")]
    BodyUnreadable,
    /// It came to a listener for proxies, and not from one.
    #[error(transparent)]
    Caller(CallerFault),
    /// Not `application/x-www-form-urlencoded` (RFC 6749 Appendix B).
    #[error("the content type is not application/x-www-form-urlencoded (RFC 6749 Appendix B)")]
    ContentType,
    /// The body is not a form.
    #[error(transparent)]
    Form(FormFault),
    /// What a proxy forwarded of its client's certificate is not believed (RFC 9440 §4).
    #[error(transparent)]
    Forwarded(SaidFault),
    /// Parameters in the URL (RFC 6749 §2.3.1).
    #[error("parameters in the URL (RFC 6749 §2.3.1)")]
    Query,
}

impl RequestFault {
    /// The stable name for audit and metrics.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::BodyTooSlow => "body_too_slow",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyUnreadable => "body_unreadable",
            Self::Caller(fault) => fault.reason(),
            Self::ContentType => "content_type",
            Self::Form(FormFault::Repeated) => "parameter_repeated",
            Self::Form(FormFault::BrokenEscape | FormFault::NotUtf8 | FormFault::TooMany) => "form_malformed",
            Self::Forwarded(fault) => fault.reason(),
            Self::Query => "parameters_in_query",
        }
    }
}

/// Why a request got nothing.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It cannot be read.
    #[error(transparent)]
    Request(#[from] RequestFault),
    /// Its client is not authenticated.
    #[error(transparent)]
    Authn(#[from] AuthnFault),
    /// Its client may not have what it asks for.
    #[error(transparent)]
    Grant(#[from] GrantFault),
    /// What was granted could not be put into a token.
    #[error(transparent)]
    Mint(#[from] MintFault),
    /// Its token could not be written down, so it stays here.
    #[error(transparent)]
    Audit(#[from] AuditUnavailable),
    /// Nothing is said of the token that it asks about.
    #[error(transparent)]
    Introspect(#[from] IntrospectFault),
    /// The token that it names is not revoked.
    #[error(transparent)]
    Revoke(#[from] RevokeFault),
    /// Too many failures from this address.
    #[error("too many failed authentications from this address")]
    FailedTooOften,
    /// Too many requests of this client.
    #[error("too many requests of this client")]
    AskedTooOften,
}

/// Who has to do something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The peer.
    Peer,
    /// We: page someone.
    Us,
}

impl Refusal {
    /// What the peer is told.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Request(_) => ErrorCode::InvalidRequest,
            Self::Authn(fault) => fault.code(),
            Self::Grant(fault) => fault.code(),
            Self::Mint(fault) => fault.code(),
            Self::Introspect(fault) => fault.code(),
            Self::Revoke(fault) => fault.code(),
            Self::Audit(_) | Self::FailedTooOften | Self::AskedTooOften => ErrorCode::TemporarilyUnavailable,
        }
    }

    /// The stable name for audit and metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Request(fault) => fault.reason(),
            Self::Authn(fault) => fault.reason(),
            Self::Grant(fault) => fault.reason(),
            Self::Mint(fault) => fault.reason(),
            Self::Audit(fault) => fault.reason(),
            Self::Introspect(fault) => fault.reason(),
            Self::Revoke(fault) => fault.reason(),
            Self::FailedTooOften => "failed_too_often",
            Self::AskedTooOften => "asked_too_often",
        }
    }

    /// Who has to do something about it.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self.code() {
            ErrorCode::ServerError => Blame::Us,
            ErrorCode::TemporarilyUnavailable
                if matches!(
                    self,
                    Self::Authn(_) | Self::Mint(_) | Self::Audit(_) | Self::Revoke(RevokeFault::NotRevoked(_))
                ) =>
            {
                Blame::Us
            }
            _ => Blame::Peer,
        }
    }
}
