//! Why there is no token: refused, unreachable, or not OAuth; and whether to try again.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use certbind_https::{ConfigFault, FetchError};
use certbind_proto::error::ErrorCode;
use certbind_proto::json::JsonFault;
use certbind_proto::jws::SignFault;

/// Why there is no token. Cloned for everyone who waited for the same request.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server is there but cannot serve now: 429, 5xx, or a code that says so.
    #[error("the authorization server cannot answer now ({0})")]
    Busy(Busy),
    /// The certificate has expired; a token bound to it would be refused anyway.
    #[error("the client certificate has expired")]
    CertificateExpired,
    /// The server refused the certificate within TLS, before any OAuth was spoken.
    #[error("the authorization server refused the client certificate within TLS")]
    CertificateRefused(#[source] Arc<FetchError>),
    /// The request was given up before its end, because the runtime that it ran on was shut down.
    #[error("the request was interrupted")]
    Interrupted,
    /// The metadata document will not do.
    #[error("the metadata of the authorization server cannot be used")]
    Metadata(#[source] MetadataFault),
    /// What answers at the token endpoint does not speak OAuth.
    #[error("the answer of the token endpoint is not OAuth")]
    NotOAuth(#[source] AnswerFault),
    /// The server said no, in OAuth (RFC 6749 §5.2).
    #[error("the authorization server refused: {0}")]
    Refused(Refusal),
    /// The assertion could not be signed.
    #[error("the client assertion could not be signed")]
    Signing(#[source] SignFault),
    /// A resource refused a token that had just been fetched anew because of such a refusal. More tokens will not help.
    #[error("a token that was just fetched anew was refused again")]
    StillRejected,
    /// No answer: no connection, no trust in the server, or no end of waiting.
    #[error("the authorization server could not be reached")]
    Unreachable(#[source] Arc<FetchError>),
}

/// What a server said that cannot serve now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Busy {
    /// `X-Request-Id` of the answer.
    pub request_id: Option<String>,
    /// How long it asks to be left alone (RFC 9110 §10.2.3).
    pub retry_after: Option<Duration>,
    /// The HTTP status.
    pub status: u16,
}

/// A refusal in the words of OAuth (RFC 6749 §5.2). Texts outside its character set were dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The error code, registered or not.
    pub code: String,
    /// A sentence for developers.
    pub description: Option<String>,
    /// `X-Request-Id` of the answer, to be found again in the server's log.
    pub request_id: Option<String>,
    /// The HTTP status.
    pub status: u16,
}

/// Why a metadata document will not do (RFC 8414).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataFault {
    /// It speaks of another issuer than the one configured.
    #[error("the issuer in the metadata is not the issuer that was asked for (RFC 8414 §3.3)")]
    IssuerMismatch,
    /// It is not one JSON object.
    #[error(transparent)]
    Json(#[from] JsonFault),
    /// A member has the wrong type.
    #[error("a member of the metadata has the wrong type (RFC 8414 §2)")]
    MemberType,
    /// No metadata there.
    #[error("the metadata document was answered with status {0} (RFC 8414 §3.2)")]
    Status(u16),
    /// It names no token endpoint.
    #[error("the metadata name no token endpoint (RFC 8414 §2)")]
    TokenEndpointMissing,
    /// It names a token endpoint that is not an `https` URL.
    #[error("the token endpoint in the metadata is not an https URL (RFC 8414 §2)")]
    TokenEndpointUrl,
}

/// Why an answer is not that of a token endpoint (RFC 6749 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerFault {
    /// Neither a token nor an error code in it.
    #[error("the answer has status {0} and no OAuth error (RFC 6749 §5.2)")]
    ErrorMissing(u16),
    /// It is not one JSON object.
    #[error(transparent)]
    Json(#[from] JsonFault),
    /// The token is over as soon as it begins.
    #[error("the access token expires at once (RFC 6749 §5.1)")]
    Life,
    /// A member is missing or has the wrong type.
    #[error("a member of the answer is missing or has the wrong type (RFC 6749 §5.1)")]
    Members,
    /// A redirect, which a token request does not follow.
    #[error("the token endpoint redirects with status {0}")]
    Redirect(u16),
    /// The granted scope is malformed.
    #[error("the granted scope is malformed (RFC 6749 §3.3)")]
    Scope,
    /// The token has characters that an `Authorization` header cannot carry.
    #[error("the access token is not a token68 (RFC 6750 §2.1)")]
    TokenCharacters,
    /// The token is to be used in a way that is not known here (RFC 6749 §7.1).
    #[error("the token type is not Bearer (RFC 6749 §7.1)")]
    TokenType,
}

/// Why no [`TokenSource`](crate::TokenSource) could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupFault {
    /// Not an `https` URL without query and fragment.
    #[error("the issuer is not an https URL without query and fragment (RFC 8414 §2)")]
    Issuer,
    /// The certificate, its key or a trusted authority is not usable.
    #[error(transparent)]
    Tls(#[from] ConfigFault),
}

impl Error {
    /// Whether the same request may succeed a little later, with nothing changed on this side.
    #[must_use]
    pub fn should_retry(&self) -> bool {
        match self {
            Self::Busy(_) | Self::Interrupted => true,
            Self::Unreachable(why) => passes_by_itself(why),
            Self::Metadata(fault) => matches!(fault, MetadataFault::Status(429 | 500..=599)),
            Self::CertificateExpired
            | Self::CertificateRefused(_)
            | Self::NotOAuth(_)
            | Self::Refused(_)
            | Self::Signing(_)
            | Self::StillRejected => false,
        }
    }

    /// How long the server asked to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy(busy) => busy.retry_after,
            _ => None,
        }
    }

    /// The `X-Request-Id` under which the server has logged this.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Self::Busy(busy) => busy.request_id.as_deref(),
            Self::Refused(refusal) => refusal.request_id.as_deref(),
            _ => None,
        }
    }

    pub(crate) fn is_invalid_client(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.code == ErrorCode::InvalidClient.as_str())
    }
}

impl From<FetchError> for Error {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::CertificateRefused(_) => Self::CertificateRefused(Arc::new(error)),
            _ => Self::Unreachable(Arc::new(error)),
        }
    }
}

/// A network recovers; a policy, a URL, a certificate and a server that speaks something else do not.
fn passes_by_itself(error: &FetchError) -> bool {
    matches!(
        error,
        FetchError::Closed(_) | FetchError::TooSlow(_) | FetchError::Unreachable(_) | FetchError::Unresolved(_)
    )
}

impl std::fmt::Display for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "status {}", self.status)
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.code)?;
        match &self.description {
            Some(description) => write!(f, ": {description}"),
            None => Ok(()),
        }
    }
}

/// With what the system or the parser said.
pub(crate) fn in_one_line(fault: &dyn StdError) -> String {
    let (mut text, mut cause) = (fault.to_string(), fault.source());
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
