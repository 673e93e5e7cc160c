//! Why a question at the socket has no token for an answer: one name for each fact.

use std::time::Duration;

use certbind_client::Error;
use hyper::StatusCode;

/// How long to wait after a failure that may pass by itself, …
const PASSING: Duration = Duration::from_secs(1);
/// … and after one that somebody has to mend.
const LASTING: Duration = Duration::from_secs(5);

/// Why there is no token in the answer.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A process of a user who may not ask.
    #[error("processes of this user may not ask; see --user")]
    Caller,
    /// There is nothing at this path.
    #[error("there are /token, /status and /livez, each for GET")]
    Path,
    /// A parameter that is not known, or not what it has to be.
    #[error("resource, scope and min_ttl=60s are the parameters, and one of these is another or malformed")]
    Parameters,
    /// Too many different questions.
    #[error("there are too many different questions")]
    Questions,
    /// There is none.
    #[error("{error}")]
    NoToken {
        /// Why.
        #[source]
        error: Error,
        /// In how long the server is asked again, where that is known.
        wait: Option<Duration>,
    },
}

impl Fault {
    /// The stable name.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Caller => "agent_caller",
            Self::Path => "agent_path",
            Self::Parameters => "agent_parameters",
            Self::Questions => "agent_questions",
            Self::NoToken { error, .. } => Failed(error).reason(),
        }
    }

    pub(super) const fn status(&self) -> StatusCode {
        match self {
            Self::Caller => StatusCode::FORBIDDEN,
            Self::Path => StatusCode::NOT_FOUND,
            Self::Parameters => StatusCode::BAD_REQUEST,
            Self::Questions | Self::NoToken { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The id under which the server has logged it.
    pub(super) fn request_id(&self) -> Option<&str> {
        match self {
            Self::NoToken { error, .. } => error.request_id(),
            _ => None,
        }
    }

    /// When it may be worth asking again, in whole seconds: not before the server is asked.
    pub(super) fn retry_after(&self) -> Option<u64> {
        let asked = match self {
            Self::NoToken { wait: Some(wait), .. } => *wait,
            Self::NoToken { error, wait: None } if error.should_retry() => PASSING,
            Self::NoToken { wait: None, .. } => LASTING,
            Self::Questions => LASTING,
            Self::Caller | Self::Path | Self::Parameters => return None,
        };
        Some(asked.as_millis().div_ceil(1000).max(1).try_into().unwrap_or(u64::MAX))
    }
}

/// The stable name of a failure.
pub(super) struct Failed<'a>(pub(super) &'a Error);

impl Failed<'_> {
    pub(super) fn reason(&self) -> &'static str {
        match self.0 {
            Error::Refused(_) | Error::StillRejected => "server_refused",
            Error::Busy(_) => "server_busy",
            Error::Unreachable(_) => "server_unreachable",
            Error::Metadata(_) | Error::NotOAuth(_) => "server_not_oauth",
            Error::CertificateRefused(_) => "certificate_refused_within_tls",
            Error::CertificateExpired => "certificate_expired",
            Error::Signing(_) => "assertion_not_signed",
            // `Interrupted`, and what a later version of the crate may add.
            _ => "request_interrupted",
        }
    }
}
