//! Why not, and the answer that says so (RFC 6750 §3).

use certbind_proto::access_token::TokenFault;
use certbind_proto::bearer::{BearerFault, Challenge};
use certbind_proto::binding::BindingFault;
use certbind_proto::error::ErrorCode;
use certbind_proto::jws::JwsFault;
use certbind_proto::scope::Scope;

use crate::Settings;

/// Why a request is denied: one variant for each step that can say no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The header has no token that can be read.
    #[error("{0}")]
    Bearer(#[from] BearerFault),
    /// The token does not belong to the certificate.
    #[error("{0}")]
    Binding(#[from] BindingFault),
    /// The certificate that the token is bound to was revoked.
    #[error("the certificate that the token is bound to was revoked")]
    CertificateRevoked,
    /// There are no keys of the issuer, or they are too old to be relied on.
    #[error("the issuer's keys are not at hand")]
    KeysUnavailable,
    /// What the issuer revoked lately is not known.
    #[error("it is not known what the issuer revoked lately")]
    RevocationStale,
    /// The token was revoked, or all that its client had.
    #[error("the token was revoked (RFC 7009 §2)")]
    Revoked,
    /// The token does not allow what the route demands.
    #[error("the token has not all of the scope that the route demands (RFC 6750 §3.1)")]
    ScopeMissing,
    /// Signature or claims do not hold.
    #[error("{0}")]
    Token(#[from] TokenFault),
    /// The token was made longer ago than the route accepts.
    #[error("the token was made longer ago than the route accepts")]
    TooOld,
}

/// What a challenge says of a token that is not good, whatever is wrong with it.
pub const NOT_GOOD: &str = "The access token is not good here.";

/// What it says of one that has too little scope.
pub const NOT_ALLOWED: &str = "The access token does not allow this.";

/// Every name that [`Denied::reason`] can give, in alphabetical order.
pub const REASONS: [&str; 23] = [
    "alg_not_allowed",
    "binding_mismatch",
    "certificate_missing",
    "certificate_revoked",
    "confirmation_unknown",
    "key_unknown",
    "keys_unavailable",
    "revocation_stale",
    "scheme_not_bearer",
    "scope_missing",
    "token_audience",
    "token_claims",
    "token_expired",
    "token_issuer",
    "token_malformed",
    "token_missing",
    "token_not_yet_valid",
    "token_repeated",
    "token_revoked",
    "token_signature",
    "token_too_old",
    "token_type",
    "token_unbound",
];

impl Fault {
    /// The stable name for audit, metrics and `certbind explain`: one of [`REASONS`].
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Bearer(fault) => fault.reason(),
            Self::Binding(fault) => fault.reason(),
            Self::CertificateRevoked => "certificate_revoked",
            Self::KeysUnavailable => "keys_unavailable",
            Self::RevocationStale => "revocation_stale",
            Self::Revoked => "token_revoked",
            Self::ScopeMissing => "scope_missing",
            Self::Token(fault) => fault.reason(),
            Self::TooOld => "token_too_old",
        }
    }

    /// What the peer is told. `None`: nothing, as it sent no credentials (RFC 6750 §3.1).
    #[must_use]
    pub const fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Bearer(fault) => fault.code(),
            Self::Binding(_) | Self::CertificateRevoked | Self::Revoked | Self::Token(_) | Self::TooOld => {
                Some(ErrorCode::InvalidToken)
            }
            Self::KeysUnavailable | Self::RevocationStale => Some(ErrorCode::TemporarilyUnavailable),
            Self::ScopeMissing => Some(ErrorCode::InsufficientScope),
        }
    }
}

/// A request that is denied, and the answer to it. The peer learns a code and a constant sentence; which fault it was is
/// for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    fault: Fault,
    status: u16,
    challenge: Option<String>,
}

impl Denied {
    pub(crate) fn new(fault: Fault, settings: &Settings, demanded: &Scope) -> Self {
        let challenge = opening(settings);
        let (status, challenge) = match fault.code() {
            None => (401, Some(challenge)),
            // The fault is on this side: a challenge would make clients throw good tokens away.
            Some(ErrorCode::TemporarilyUnavailable) => (503, None),
            Some(code @ ErrorCode::InsufficientScope) => {
                let challenge = challenge.error(code, NOT_ALLOWED);
                (code.status(), Some(challenge.scope(demanded)))
            }
            Some(code @ ErrorCode::InvalidRequest) => {
                let challenge = challenge.error(code, "One access token belongs into one Authorization header.");
                (code.status(), Some(challenge))
            }
            Some(code) => (code.status(), Some(challenge.error(code, NOT_GOOD))),
        };
        Self { fault, status, challenge: challenge.map(|challenge| challenge.to_string()) }
    }

    /// The HTTP status: 400, 401, 403, or 503 when the issuer's keys, or what it revoked lately, are not at hand.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The exact value of the `WWW-Authenticate` header; none with a 503.
    #[must_use]
    pub fn challenge(&self) -> Option<&str> {
        self.challenge.as_deref()
    }

    /// What was wrong.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        self.fault
    }

    /// The stable name of what was wrong, for the log and not for the peer: one of [`REASONS`].
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        self.fault.reason()
    }

    /// Whether newer keys of the issuer could change the answer.
    #[must_use]
    pub const fn is_for_want_of_keys(&self) -> bool {
        matches!(self.fault, Fault::KeysUnavailable | Fault::Token(TokenFault::Jws(JwsFault::KeyUnknown)))
    }
}

/// What every challenge says of this resource, whatever was wrong.
fn opening(settings: &Settings) -> Challenge {
    let mut challenge = Challenge::bearer();
    if let Some(realm) = &settings.realm {
        challenge = challenge.realm(realm);
    }
    if let Some(url) = &settings.resource_metadata {
        challenge = challenge.resource_metadata(url);
    }
    challenge
}
