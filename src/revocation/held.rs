//! What was revoked and is not over, each by what it concerns.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use certbind_proto::access_token::AccessToken;
use certbind_proto::revocation_list::{Entries, Id};
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::Timestamp;

use crate::store::{Revision, Revocation, Revoked, RevokedId};

/// How often what is over is looked for, as that looks at everything.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// How long a revocation is kept after it is over, so that a clock that jumps ahead and comes back revives nothing.
const GRACE: Duration = Duration::from_secs(3600);

/// Of which change of the store nothing is known.
const NOT_TOLD: Revision = Revision::MIN;

/// A revocation, as of which change of the store.
#[derive(Clone, Copy, Debug)]
struct Entry {
    held: Revocation,
    revision: Revision,
}

/// Revocations by kind and id.
#[derive(Debug, Default)]
pub(super) struct Held {
    revocations: HashMap<(Revoked, RevokedId), Entry>,
    /// How far the store's changes are taken in.
    pub(super) since: Revision,
    /// How far the store was when it was looked at last; none before the first look.
    pub(super) seen: Option<Revision>,
    /// When the store was asked last.
    pub(super) as_of: Option<Timestamp>,
    /// How often something has changed.
    pub(super) edition: u64,
    swept: Option<Timestamp>,
}

impl Held {
    /// Takes a revocation in that was found out here, and gives it as it is held then: of two about one thing the stricter.
    pub(super) fn add(&mut self, revocation: Revocation) -> Revocation {
        let (merged, revision) = match self.revocations.get(&(revocation.what, revocation.id)) {
            Some(entry) => (entry.held.merged(&revocation), entry.revision),
            None => (revocation, NOT_TOLD),
        };
        self.put(merged, revision)
    }

    /// The same for one that the store has as of this change.
    pub(super) fn written(&mut self, revocation: Revocation, revision: Revision) -> Revocation {
        match self.revocations.get(&(revocation.what, revocation.id)) {
            // What has become of it since is known already.
            Some(entry) if entry.revision > revision => entry.held,
            Some(entry) => self.put(entry.held.merged(&revocation), revision),
            None => self.put(revocation, revision),
        }
    }

    /// The store has it so as of this change: that may be less than before, where somebody has lifted it. What was found
    /// out here and is not in the store yet (`unwritten`) counts all the same.
    pub(super) fn told(
        &mut self,
        stored: Revocation,
        revision: Revision,
        unwritten: Option<&Revocation>,
    ) -> Revocation {
        match self.revocations.get(&(stored.what, stored.id)) {
            Some(entry) if entry.revision > revision => entry.held,
            _ => self.put(unwritten.map_or(stored, |own| stored.merged(own)), revision),
        }
    }

    /// A copy that may lack the last changes has taken the place of the store, and this is all that it has. What is held is
    /// not given up: of each two the stricter counts. Gives what the copy has to be told.
    pub(super) fn reconcile(&mut self, all: Vec<(Revision, Revocation)>, now: Timestamp) -> Vec<Revocation> {
        let mut lacking: HashMap<_, _> = self
            .revocations
            .iter()
            .filter(|(_, entry)| now <= entry.held.keep_until)
            .map(|(key, entry)| (*key, entry.held))
            .collect();
        for (revision, stored) in all {
            let key = (stored.what, stored.id);
            let merged = lacking.remove(&key).map_or(stored, |held| stored.merged(&held));
            if self.put(merged, revision) != stored {
                lacking.insert(key, merged);
            }
        }
        lacking.into_values().collect()
    }

    fn put(&mut self, held: Revocation, revision: Revision) -> Revocation {
        let before = self.revocations.insert((held.what, held.id), Entry { held, revision });
        self.edition += u64::from(before.map(|entry| entry.held) != Some(held));
        held
    }

    /// Forgets what is long over.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        if self.swept.is_some_and(|swept| swept <= now && now.since(swept) < SWEEP_EVERY) {
            return;
        }
        self.swept = Some(now);
        let before = self.revocations.len();
        self.revocations.retain(|_, entry| now <= entry.held.keep_until.plus(GRACE));
        self.edition += u64::from(self.revocations.len() != before);
    }

    /// What there is against a token: itself, its certificate, or everything that its client had.
    pub(super) fn against(&self, token: &AccessToken, now: Timestamp) -> Option<Revoked> {
        if self.get(Revoked::Token, RevokedId::of_token(&token.jti), now).is_some() {
            return Some(Revoked::Token);
        }
        let is_before = |held: Option<&Revocation>| held.is_some_and(|held| token.iat <= held.revoked);
        if is_before(token.cnf.as_ref().and_then(|cnf| self.certificate(&cnf.x5t_s256, now))) {
            return Some(Revoked::Certificate);
        }
        let of_client = self.get(Revoked::Client, RevokedId::of_client(&token.client_id), now);
        is_before(of_client).then_some(Revoked::Client)
    }

    /// What was said of a certificate.
    pub(super) fn certificate(&self, thumbprint: &Thumbprint, now: Timestamp) -> Option<&Revocation> {
        self.get(Revoked::Certificate, RevokedId::of_certificate(thumbprint), now)
    }

    /// Everything that is not over.
    pub(super) fn entries(&self, now: Timestamp) -> Entries {
        let all = || self.revocations.values().map(|entry| &entry.held);
        let current = |what| all().filter(move |held| held.what == what && now <= held.keep_until);
        let id = |held: &Revocation| Id::of_hash(held.id.as_bytes());
        let until = |what| current(what).map(|held| (id(held), held.revoked)).collect();
        let tokens = current(Revoked::Token).map(id).collect();
        Entries::new(tokens, until(Revoked::Certificate), until(Revoked::Client))
    }

    /// The first so many that are not over, of this kind or of all, behind this one. However many there are, no more than
    /// that are kept.
    pub(super) fn page(
        &self,
        kind: Option<Revoked>,
        after: Option<&(Revoked, RevokedId)>,
        limit: usize,
        now: Timestamp,
    ) -> Vec<Revocation> {
        let mut page = BTreeMap::new();
        for (key, Entry { held, .. }) in &self.revocations {
            let is_wanted = kind.is_none_or(|kind| kind == held.what) && now <= held.keep_until;
            if is_wanted && after.is_none_or(|after| key > after) {
                page.insert(*key, *held);
                if page.len() > limit {
                    page.pop_last();
                }
            }
        }
        page.into_values().collect()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.revocations.len()
    }

    fn get(&self, what: Revoked, id: RevokedId, now: Timestamp) -> Option<&Revocation> {
        self.revocations.get(&(what, id)).map(|entry| &entry.held).filter(|held| now <= held.keep_until)
    }
}
