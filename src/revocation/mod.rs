//! What was revoked, in memory: asked on every request, kept current by the store's changes (RFC 7009 §2, RFC 7662 §4).
//!
//! A revocation that somebody asks for is on disk before it is answered. One that the server finds out by itself (a
//! revocation list, a disabled client) is in force here at once, and is written until the store has it.

mod follow;
mod held;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use certbind_proto::access_token::{AccessToken, LATEST_ACCEPTANCE};
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::Timestamp;

use crate::store::{Revocation, RevocationStore, RevokedId, StoreError};

pub use crate::store::Revoked;
pub use follow::Following;
use held::Held;

/// How many revocations are held before clients' own are refused: 20 MB here, 6 MB for whoever fetches the list.
const MAX_HELD: usize = 200_000;

/// The revocations that are in force.
pub struct Revocations {
    store: Arc<dyn RevocationStore>,
    held: RwLock<Held>,
}

/// Why a token is not revoked.
#[derive(Debug, thiserror::Error)]
pub enum NotRevoked {
    /// As many revocations are held as fit into a list that is fetched every few seconds.
    #[error("as many revocations are in force as may be")]
    Full,
    /// The store does not say that it has it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Revocations {
    /// Those of the store. A server that does not know what was revoked must not start.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn load(store: Arc<dyn RevocationStore>, now: Timestamp) -> Result<Self, StoreError> {
        let revocations = Self { store, held: RwLock::default() };
        revocations.refresh(now).await?;
        Ok(revocations)
    }

    /// Takes in what the store was told since the last time; says whether that changed anything.
    ///
    /// # Errors
    /// The store cannot be read; what is held stays.
    pub async fn refresh(&self, now: Timestamp) -> Result<Refreshed, StoreError> {
        let since = self.read().since;
        let told = self.store.revocations_since(since, now).await?;
        let mut held = self.write();
        let mut changed = held.sweep(now);
        for (revision, revocation) in told {
            changed |= held.add(revocation);
            held.since = held.since.max(revision);
        }
        Ok(if changed { Refreshed::Changed } else { Refreshed::Unchanged })
    }

    /// Revokes one token, durably and from now on.
    ///
    /// # Errors
    /// [`NotRevoked`]; whether the token is revoked is not known when the store failed.
    pub async fn revoke_token(&self, token: &AccessToken, now: Timestamp) -> Result<(), NotRevoked> {
        if self.read().len() >= MAX_HELD {
            return Err(NotRevoked::Full);
        }
        let keep_until = token.exp.plus(LATEST_ACCEPTANCE);
        let id = RevokedId::of_token(&token.jti);
        self.revoke(Revocation { what: Revoked::Token, id, revoked: now, keep_until }, now).await?;
        Ok(())
    }

    /// What there is against a token: itself, its certificate, or all that its client had.
    #[must_use]
    pub fn against(&self, token: &AccessToken, now: Timestamp) -> Option<Revoked> {
        self.read().against(token, now)
    }

    /// Whether a certificate was revoked, and so every token that is bound to it.
    #[must_use]
    pub fn is_certificate_revoked(&self, thumbprint: &Thumbprint, now: Timestamp) -> bool {
        self.read().certificate(thumbprint, now)
    }

    /// How many revocations are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// Whether nothing is revoked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    async fn revoke(&self, revocation: Revocation, now: Timestamp) -> Result<(), StoreError> {
        self.store.revoke(revocation, now).await?;
        self.write().add(revocation);
        Ok(())
    }

    fn read(&self) -> RwLockReadGuard<'_, Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Held> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocations").field("held", &self.len()).finish_non_exhaustive()
    }
}

/// What came of a look at the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// Something is revoked that was not, or a revocation is over.
    Changed,
    /// All is as it was.
    Unchanged,
}
