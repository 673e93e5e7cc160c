//! Revocations (RFC 7009): what an engine is asked, and what it answers.

use std::fmt;

use aws_lc_rs::digest;
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::Timestamp;

use super::{BoxFuture, Revision, StoreError};

/// Holds what was revoked, each until nothing that it concerns can be alive any more.
pub trait RevocationStore: Send + Sync {
    /// Records a revocation, durably. One that is there already is kept to the later of both ends.
    ///
    /// # Errors
    /// The store cannot be written; whether it was is not known.
    fn revoke(&self, revocation: Revocation, now: Timestamp) -> BoxFuture<'_, Result<Revision, StoreError>>;

    /// Puts this, durably, in the place of a revocation of the same thing that refuses also what is made after it: that is
    /// good again from then on. None if there is no such revocation.
    ///
    /// # Errors
    /// The store cannot be written; whether it was is not known.
    fn lift(&self, lifted: Revocation, now: Timestamp) -> BoxFuture<'_, Result<Option<Revision>, StoreError>>;

    /// What was revoked after `since` and is not over at `now`, in the order of the changes.
    ///
    /// # Errors
    /// The store cannot be read.
    fn revocations_since(
        &self,
        since: Revision,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<(Revision, Revocation)>, StoreError>>;
}

/// Something that is no longer good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// What kind of thing.
    pub what: Revoked,
    /// Which one.
    pub id: RevokedId,
    /// When it was revoked. Of a certificate or a client, tokens that were issued later are good.
    pub revoked: Timestamp,
    /// The last moment at which something that it concerns could still be alive, inclusive.
    pub keep_until: Timestamp,
}

impl Revocation {
    /// Both in one: the later moment and the later end. What one of them refuses, this refuses.
    #[must_use]
    pub(crate) fn merged(self, other: &Self) -> Self {
        let (revoked, keep_until) = (self.revoked.max(other.revoked), self.keep_until.max(other.keep_until));
        Self { revoked, keep_until, ..self }
    }

    /// Whether this is in force at `now` and refuses what is made after `lifted` was revoked.
    #[must_use]
    pub(crate) fn is_lifted_by(&self, lifted: &Self, now: Timestamp) -> bool {
        now <= self.keep_until && lifted.revoked < self.revoked
    }
}

/// What was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Revoked {
    /// One access token, by its `jti`.
    Token,
    /// A certificate: every token that is bound to it.
    Certificate,
    /// Every token that a client had by then.
    Client,
}

impl Revoked {
    /// Every kind there is.
    pub const ALL: [Self; 3] = [Self::Token, Self::Certificate, Self::Client];

    /// As an engine writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Certificate => "certificate",
            Self::Client => "client",
        }
    }

    /// As an engine wrote it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// The SHA-256 of what names a revoked thing. Two things with one hash would make the second one refused, never accepted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RevokedId([u8; 32]);

impl RevokedId {
    /// The id of a token, by its `jti`.
    #[must_use]
    pub fn of_token(jti: &str) -> Self {
        Self::hash(jti)
    }

    /// The id of a client.
    #[must_use]
    pub fn of_client(client_id: &str) -> Self {
        Self::hash(client_id)
    }

    /// The id of a certificate: its thumbprint (RFC 8705 §3.1).
    #[must_use]
    pub fn of_certificate(thumbprint: &Thumbprint) -> Self {
        Self(*thumbprint.as_bytes())
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// As an engine wrote it.
    pub(crate) const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    fn hash(name: &str) -> Self {
        let mut id = [0; 32];
        id.copy_from_slice(digest::digest(&digest::SHA256, name.as_bytes()).as_ref());
        Self(id)
    }
}

impl fmt::Debug for RevokedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
