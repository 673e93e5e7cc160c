//! When clients used which of their credentials: what an engine is asked, and what it answers.
//!
//! It is for people who look after renewals, and decides nothing: losing the last minute of it costs nothing, and nobody
//! waits for it.

use std::time::Duration;

use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::Timestamp;

use super::{BoxFuture, StoreError};

/// How many credentials are remembered of one client, those that were used last; as many as it may have keys
/// (`certbind_proto::jwk::MAX_KEYS`), and the last day of certificates that are renewed each hour.
pub const KEPT: usize = 32;

/// How long an unused credential is remembered: a job that runs once a year is seen.
pub const KEPT_FOR: Duration = Duration::from_secs(400 * 86_400);

/// Remembers when credentials were last used.
pub trait UsageStore: Send + Sync {
    /// Notes uses, in one go. Of each credential the newest time counts, whichever server tells it; of each client the
    /// newest [`KEPT`] stay, each for [`KEPT_FOR`].
    ///
    /// # Errors
    /// The store cannot be written; what was noted is not known, and may be told again.
    fn note_uses(&self, uses: Vec<Usage>, now: Timestamp) -> BoxFuture<'_, Result<(), StoreError>>;

    /// What is known of these clients; of each the last used credential first.
    ///
    /// # Errors
    /// The store cannot be read.
    fn uses_of(&self, client_ids: Vec<String>) -> BoxFuture<'_, Result<Vec<Usage>, StoreError>>;
}

/// A client used a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The client.
    pub client_id: String,
    /// What it used.
    pub credential: Credential,
    /// When it did so last.
    pub last_used: Timestamp,
}

/// What a client proved itself with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A key that signed an assertion.
    Key {
        /// Its thumbprint (RFC 7638 §3).
        thumbprint: Thumbprint,
        /// Its `kid`, if it has one.
        kid: Option<String>,
    },
    /// A certificate.
    Certificate {
        /// Its thumbprint (RFC 8705 §3.1).
        thumbprint: Thumbprint,
        /// Its subject, as RFC 4514 writes it.
        subject: String,
        /// Its serial number, in hexadecimal.
        serial: String,
        /// Its first second.
        not_before: Timestamp,
        /// Its last second.
        not_after: Timestamp,
    },
}

impl Credential {
    /// What tells it apart, from others of its kind too.
    #[must_use]
    pub const fn id(&self) -> (Kind, &Thumbprint) {
        match self {
            Self::Key { thumbprint, .. } => (Kind::Key, thumbprint),
            Self::Certificate { thumbprint, .. } => (Kind::Certificate, thumbprint),
        }
    }

    /// As an engine writes it: kind, thumbprint, name, serial number, both ends in milliseconds.
    pub(super) fn columns(&self) -> Columns<'_> {
        match self {
            Self::Key { thumbprint, kid } => {
                let name = kid.as_deref();
                Columns { kind: Kind::Key, thumbprint, name, serial: None, not_before: None, not_after: None }
            }
            Self::Certificate { thumbprint, subject, serial, not_before, not_after } => Columns {
                kind: Kind::Certificate,
                thumbprint,
                name: Some(subject),
                serial: Some(serial),
                not_before: Some(not_before.millis()),
                not_after: Some(not_after.millis()),
            },
        }
    }

    /// As an engine wrote it; nothing for what is no credential.
    pub(super) fn read(
        kind: &str,
        thumbprint: &[u8],
        name: Option<String>,
        serial: Option<String>,
        (not_before, not_after): (Option<i64>, Option<i64>),
    ) -> Option<Self> {
        let thumbprint = Thumbprint::from_bytes(thumbprint.try_into().ok()?);
        match Kind::named(kind)? {
            Kind::Key => Some(Self::Key { thumbprint, kid: name }),
            Kind::Certificate => Some(Self::Certificate {
                thumbprint,
                subject: name?,
                serial: serial?,
                not_before: Timestamp::from_millis(not_before?),
                not_after: Timestamp::from_millis(not_after?),
            }),
        }
    }
}

/// A credential as a row has it.
pub(super) struct Columns<'a> {
    pub(super) kind: Kind,
    pub(super) thumbprint: &'a Thumbprint,
    pub(super) name: Option<&'a str>,
    pub(super) serial: Option<&'a str>,
    pub(super) not_before: Option<i64>,
    pub(super) not_after: Option<i64>,
}

/// What kind of credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A key that signs assertions.
    Key,
    /// A certificate.
    Certificate,
}

impl Kind {
    /// As an engine writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Certificate => "certificate",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::Key, Self::Certificate].into_iter().find(|kind| kind.as_str() == name)
    }
}
