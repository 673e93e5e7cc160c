//! A token in hand, and the certificate it goes with.

use std::fmt;

use certbind_proto::scope::Scope;
use certbind_proto::time::Timestamp;
use hyper::header::HeaderValue;

use crate::ClientCertificate;

/// An access token. What it says is for the resource server alone to read (OAuth 2.1 §1.4); it does not print.
pub struct AccessToken {
    pub(crate) authorization: HeaderValue,
    pub(crate) certificate: Option<ClientCertificate>,
    pub(crate) expires: Timestamp,
    pub(crate) scope: Scope,
    pub(crate) started: Timestamp,
    pub(crate) value: String,
}

impl AccessToken {
    /// The token itself: a secret, unless it is bound and the private key is not lost.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.value
    }

    /// The value of the `Authorization` header that presents it (RFC 6750 §2.1), marked as sensitive.
    #[must_use]
    pub const fn authorization(&self) -> &HeaderValue {
        &self.authorization
    }

    /// The certificate to present it with: the one that was shown when it was issued, whatever has been put in place
    /// since (RFC 8705 §3, §6.3).
    #[must_use]
    pub const fn certificate(&self) -> Option<&ClientCertificate> {
        self.certificate.as_ref()
    }

    /// When it is over: by what the server said, or with the certificate, whichever comes first.
    #[must_use]
    pub const fn expires(&self) -> Timestamp {
        self.expires
    }

    /// What was granted; what was asked for, where the server does not say (RFC 6749 §5.1).
    #[must_use]
    pub const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Whether it is in its life at `now`. A clock that was put back makes nothing younger: before its start a token
    /// counts as over.
    #[must_use]
    pub fn is_alive(&self, now: Timestamp) -> bool {
        self.started <= now && now < self.expires
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken")
            .field("value", &"[redacted]")
            .field("scope", &self.scope)
            .field("expires", &self.expires)
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}
