//! What was revoked, in memory: asked on every request, kept current by the store's changes (RFC 7009 §2, RFC 7662 §4).
//!
//! A revocation that somebody asks for is on disk before it is answered. One that the server finds out by itself (a
//! revocation list, a disabled client) is in force here at once, and is written until the store has it.

mod follow;
mod held;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use certbind_proto::access_token::{AccessToken, LATEST_ACCEPTANCE};
use certbind_proto::revocation_list::Entries;
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::Timestamp;
use tokio::sync::Notify;

use crate::store::{Revision, RevocationStore, StoreError, is_copy};

pub use crate::store::{Revocation, Revoked, RevokedId};
pub use follow::Following;
use held::Held;

/// How many revocations are held before clients' own are refused: 20 MB here, 6 MB for whoever fetches the list.
const MAX_HELD: usize = 200_000;

/// How many more are held before those of administrators are refused as well: a list that verifiers no longer take would
/// stop every one of them.
const MORE_OF_ADMINISTRATORS: usize = 40_000;

/// The end of what has none (RFC 5280 §4.1.2.5): 9999-12-31T23:59:59Z.
pub const FOR_GOOD: Timestamp = Timestamp::from_unix(253_402_300_799);

/// No token lives longer (`tokens.lifetime` is at most a day), whatever was configured when it was made.
pub const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);

/// How many revocations are written before the store is looked at again.
const AT_ONCE: usize = 100;

/// The revocations that are in force.
pub struct Revocations {
    store: Arc<dyn RevocationStore>,
    held: RwLock<Held>,
    /// What is in force here and not known to be in the store. Of both locks `held` is taken first.
    unwritten: Mutex<HashMap<(Revoked, RevokedId), Revocation>>,
    /// Something was put into `unwritten`.
    woken: Notify,
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

/// Everything that is revoked, as it is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Up to when all is known that the store was told.
    pub as_of: Timestamp,
    /// How often something has changed; equal counts mean equal entries.
    pub edition: u64,
    /// What is revoked.
    pub entries: Entries,
}

impl Revocations {
    /// Those of the store. A server that does not know what was revoked must not start.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn load(store: Arc<dyn RevocationStore>, now: Timestamp) -> Result<Self, StoreError> {
        let revocations = Self::none_yet(store);
        revocations.refresh(now).await?;
        Ok(revocations)
    }

    /// Nothing, until the store is read. For whoever only tries something out.
    #[must_use]
    pub fn none_yet(store: Arc<dyn RevocationStore>) -> Self {
        Self { store, held: RwLock::default(), unwritten: Mutex::default(), woken: Notify::default() }
    }

    /// Takes in what the store was told since the last time.
    ///
    /// # Errors
    /// The store cannot be read; what is held stays.
    pub async fn refresh(&self, now: Timestamp) -> Result<(), StoreError> {
        let since = self.read().since;
        let told = self.store.revocations_since(since, now).await?;
        let mut held = self.write();
        for (revision, revocation) in told {
            held.told(revocation, revision, self.unwritten().get(&(revocation.what, revocation.id)));
            held.since = held.since.max(revision);
        }
        held.sweep(now);
        held.as_of = Some(now);
        Ok(())
    }

    /// The same when it is known how far the store is. A copy that took its place may lack what is held here: that is
    /// written again.
    async fn refresh_up_to(&self, known: Revision, now: Timestamp) -> Result<(), StoreError> {
        let seen = self.read().seen;
        if !seen.is_some_and(|seen| is_copy(seen, known)) {
            self.refresh(now).await?;
            self.write().seen = Some(known);
            return Ok(());
        }
        let all = self.store.revocations_since(0, now).await?;
        let mut held = self.write();
        held.seen = Some(known);
        held.since = all.iter().map(|(revision, _)| *revision).fold(known, Revision::max);
        let lacking = held.reconcile(all, now);
        tracing::warn!(
            lacking = lacking.len(),
            "the store was replaced by a copy: what it lacks of the revocations that this server knows is written again"
        );
        self.unwritten().extend(lacking.into_iter().map(|revocation| ((revocation.what, revocation.id), revocation)));
        held.as_of = Some(now);
        Ok(())
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

    /// Revokes a certificate, durably: every token that is bound to it, whenever that was made, and authentication with
    /// it. At `keep_until` it is forgotten: by then nobody may take the certificate any more, nor a token of it.
    ///
    /// # Errors
    /// [`NotRevoked`]; whether it is revoked is not known when the store failed.
    pub async fn revoke_certificate(
        &self,
        thumbprint: &Thumbprint,
        keep_until: Timestamp,
        now: Timestamp,
    ) -> Result<Revocation, NotRevoked> {
        self.has_room_for_administrators()?;
        // Tokens that another server makes before it hears of this are revoked as well.
        Ok(self.revoke(of_certificate(thumbprint, keep_until, keep_until), now).await?)
    }

    /// Lifts what [`Self::revoke_certificate`] did, durably: the certificate authenticates again, and tokens that are bound
    /// to it from now on are good. Those of before stay revoked. None if it is not revoked so.
    ///
    /// # Errors
    /// The store does not say that it has it.
    pub async fn lift_certificate(
        &self,
        thumbprint: &Thumbprint,
        now: Timestamp,
    ) -> Result<Option<Revocation>, StoreError> {
        let lifted = of_certificate(thumbprint, now.plus(LONGEST_LIFE).plus(LATEST_ACCEPTANCE), now);
        let Some(revision) = self.store.lift(lifted, now).await? else { return Ok(None) };
        let mut held = self.write();
        let held = held.told(lifted, revision, self.unwritten().get(&(lifted.what, lifted.id)));
        Ok(Some(held))
    }

    /// Revokes every token that a client has by now, durably. It may get new ones.
    ///
    /// # Errors
    /// [`NotRevoked`]; whether they are revoked is not known when the store failed.
    pub async fn revoke_tokens_of(&self, client_id: &str, now: Timestamp) -> Result<Revocation, NotRevoked> {
        self.has_room_for_administrators()?;
        Ok(self.revoke(of_client(client_id, now), now).await?)
    }

    /// A certificate was found to be revoked: the tokens that it has are no longer good, the last of which ends at
    /// `last_token`. Whether it gets new ones is decided where it was found.
    pub fn enforce_certificate(&self, thumbprint: &Thumbprint, last_token: Timestamp, now: Timestamp) {
        self.enforce(of_certificate(thumbprint, last_token.plus(LATEST_ACCEPTANCE), now));
    }

    /// A client was found to be gone or disabled: the tokens that it has are no longer good.
    pub fn enforce_client(&self, client_id: &str, now: Timestamp) {
        self.enforce(of_client(client_id, now));
    }

    /// What there is against a token: itself, its certificate, or all that its client had.
    #[must_use]
    pub fn against(&self, token: &AccessToken, now: Timestamp) -> Option<Revoked> {
        self.read().against(token, now)
    }

    /// Whether the tokens that a certificate is yet to get are revoked already.
    #[must_use]
    pub fn is_certificate_revoked(&self, thumbprint: &Thumbprint, now: Timestamp) -> bool {
        self.read().certificate(thumbprint, now).is_some_and(|held| now < held.revoked)
    }

    /// Those that are in force, by kind and id: the first so many, of this kind or of all, behind this one.
    #[must_use]
    pub fn page(
        &self,
        kind: Option<Revoked>,
        after: Option<&(Revoked, RevokedId)>,
        limit: usize,
        now: Timestamp,
    ) -> Vec<Revocation> {
        self.read().page(kind, after, limit, now)
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

    /// Up to when all is known that the store was told, and how often something has changed.
    #[must_use]
    pub fn edition(&self) -> (Option<Timestamp>, u64) {
        let held = self.read();
        (held.as_of, held.edition)
    }

    /// Everything that is revoked, as it is published; nothing before the store was read.
    #[must_use]
    pub fn published(&self, now: Timestamp) -> Option<Published> {
        let held = self.read();
        Some(Published { as_of: held.as_of?, edition: held.edition, entries: held.entries(now) })
    }

    fn has_room_for_administrators(&self) -> Result<(), NotRevoked> {
        if self.len() < MAX_HELD + MORE_OF_ADMINISTRATORS { Ok(()) } else { Err(NotRevoked::Full) }
    }

    /// Gives it as it is in force now, which may be more than what was asked for.
    async fn revoke(&self, revocation: Revocation, now: Timestamp) -> Result<Revocation, StoreError> {
        let revision = self.store.revoke(revocation, now).await?;
        Ok(self.write().written(revocation, revision))
    }

    fn enforce(&self, revocation: Revocation) {
        let mut held = self.write();
        held.add(revocation);
        // Only what was found out: the store may have lifted the rest of what is held.
        let mut unwritten = self.unwritten();
        let key = (revocation.what, revocation.id);
        let own = unwritten.get(&key).map_or(revocation, |own| own.merged(&revocation));
        unwritten.insert(key, own);
        drop((unwritten, held));
        self.woken.notify_one();
    }

    /// Gives the store some of what it does not have yet.
    async fn write_down(&self, now: Timestamp) -> Result<(), StoreError> {
        let next: Vec<_> = self.unwritten().values().take(AT_ONCE).copied().collect();
        for revocation in next {
            self.store.revoke(revocation, now).await?;
            let (mut unwritten, key) = (self.unwritten(), (revocation.what, revocation.id));
            // It may have been extended meanwhile.
            if unwritten.get(&key) == Some(&revocation) {
                unwritten.remove(&key);
            }
        }
        if !self.unwritten().is_empty() {
            self.woken.notify_one();
        }
        Ok(())
    }

    fn read(&self) -> RwLockReadGuard<'_, Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Held> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn unwritten(&self) -> MutexGuard<'_, HashMap<(Revoked, RevokedId), Revocation>> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocations").field("held", &self.len()).finish_non_exhaustive()
    }
}

fn of_certificate(thumbprint: &Thumbprint, keep_until: Timestamp, revoked: Timestamp) -> Revocation {
    Revocation { what: Revoked::Certificate, id: RevokedId::of_certificate(thumbprint), revoked, keep_until }
}

fn of_client(client_id: &str, now: Timestamp) -> Revocation {
    let keep_until = now.plus(LONGEST_LIFE).plus(LATEST_ACCEPTANCE);
    Revocation { what: Revoked::Client, id: RevokedId::of_client(client_id), revoked: now, keep_until }
}
