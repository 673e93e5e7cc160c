//! What was revoked and is not over, each by what it concerns.

use std::collections::HashMap;
use std::time::Duration;

use certbind_proto::access_token::AccessToken;
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::Timestamp;

use crate::store::{Revision, Revocation, Revoked, RevokedId};

/// How often what is over is looked for, as that looks at everything.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// How long a revocation is kept after it is over, so that a clock that jumps ahead and comes back revives nothing.
const GRACE: Duration = Duration::from_secs(3600);

/// Revocations by kind and id.
#[derive(Debug, Default)]
pub(super) struct Held {
    entries: HashMap<(Revoked, RevokedId), Revocation>,
    /// How far the store's changes are taken in.
    pub(super) since: Revision,
    swept: Option<Timestamp>,
}

impl Held {
    /// Takes a revocation in; says whether that changed anything.
    pub(super) fn add(&mut self, revocation: Revocation) -> bool {
        let key = (revocation.what, revocation.id);
        let merged = self.entries.get(&key).map_or(revocation, |held| held.merged(&revocation));
        self.entries.insert(key, merged) != Some(merged)
    }

    /// Forgets what is over; says whether that changed anything.
    pub(super) fn sweep(&mut self, now: Timestamp) -> bool {
        if self.swept.is_some_and(|swept| swept <= now && now.since(swept) < SWEEP_EVERY) {
            return false;
        }
        self.swept = Some(now);
        let before = self.entries.len();
        self.entries.retain(|_, held| now <= held.keep_until.plus(GRACE));
        self.entries.len() != before
    }

    /// What there is against a token: itself, its certificate, or everything that its client had.
    pub(super) fn against(&self, token: &AccessToken, now: Timestamp) -> Option<Revoked> {
        let by_certificate = || token.cnf.as_ref().is_some_and(|cnf| self.certificate(&cnf.x5t_s256, now));
        if self.get(Revoked::Token, RevokedId::of_token(&token.jti), now).is_some() {
            return Some(Revoked::Token);
        }
        if by_certificate() {
            return Some(Revoked::Certificate);
        }
        let of_client = self.get(Revoked::Client, RevokedId::of_client(&token.client_id), now);
        of_client.filter(|held| token.iat <= held.revoked).map(|_| Revoked::Client)
    }

    /// Whether a certificate was revoked.
    pub(super) fn certificate(&self, thumbprint: &Thumbprint, now: Timestamp) -> bool {
        self.get(Revoked::Certificate, RevokedId::of_certificate(thumbprint), now).is_some()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn get(&self, what: Revoked, id: RevokedId, now: Timestamp) -> Option<&Revocation> {
        self.entries.get(&(what, id)).filter(|held| now <= held.keep_until)
    }
}
