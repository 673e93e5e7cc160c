//! What the issuer revoked: its signed list, held, and not relied on when it is too old.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use certbind_proto::access_token::AccessToken;
use certbind_proto::jwk::JwkSet;
use certbind_proto::jws::{JwsFault, Parsed};
use certbind_proto::revocation_list::{self, ListFault, Listed, MAX_BYTES, RevocationList};
use certbind_proto::time::Timestamp;

use crate::{Fault, Settings};

/// The issuer's list. Clones share it; reading takes no lock.
#[derive(Clone)]
pub struct Revocations {
    held: Arc<ArcSwapOption<RevocationList>>,
    policy: Policy,
}

/// How old a list may be, and what happens when it is older.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The longest time since the moment up to which the list is complete. An issuer renews a list once a minute when
    /// nothing happens, so less than two minutes denies requests for no reason.
    pub max_age: Duration,
    /// What happens then.
    pub when_stale: WhenStale,
}

/// What happens while nobody knows what was revoked lately: there is no list, or it is too old, or the issuer does not
/// answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenStale {
    /// Every token is denied. The answer is 503, so that clients keep their tokens and ask again.
    Deny,
    /// Tokens that are not known to be revoked are good. Whoever keeps a revoked one and can keep the list from arriving
    /// goes on using it until it ends.
    Accept,
}

impl Default for Policy {
    /// Ten minutes, and nothing after that. A client that cannot reach the issuer either has no token by then: the
    /// usual life of one is five minutes.
    fn default() -> Self {
        Self { max_age: Duration::from_secs(600), when_stale: WhenStale::Deny }
    }
}

/// What became of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is the one that is held now.
    Newer,
    /// It is a little older than the one that is held, as from another server of a fleet; what it has besides was added.
    Added,
}

/// Why a list is not taken; the one of before stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListRefused {
    /// It is not signed by the issuer.
    #[error(transparent)]
    Jws(#[from] JwsFault),
    /// It is not a list of this issuer that holds now.
    #[error(transparent)]
    List(#[from] ListFault),
    /// It is older than the one that is held, by more than clocks differ.
    #[error("the list is older than the one that is held")]
    RolledBack,
}

impl Revocations {
    /// None yet.
    #[must_use]
    pub fn none(policy: Policy) -> Self {
        Self { held: Arc::default(), policy }
    }

    /// Takes a list of the issuer, as it was fetched. `keys` are the issuer's.
    ///
    /// # Errors
    /// [`ListRefused`]; then nothing has changed.
    pub fn take(
        &self,
        document: &str,
        keys: &JwkSet,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<Taken, ListRefused> {
        let parsed = Parsed::parse_document(document, MAX_BYTES)?;
        keys.verify(&parsed, settings.algorithms)?;
        let list = revocation_list::check(&parsed, &settings.issuer, settings.clock_skew, now)?;
        let mut outcome = Ok(Taken::Newer);
        self.held.rcu(|held| match held {
            Some(held) if list.as_of.plus(settings.clock_skew) < held.as_of => {
                outcome = Err(ListRefused::RolledBack);
                Some(Arc::clone(held))
            }
            Some(held) if list.as_of < held.as_of => {
                outcome = Ok(Taken::Added);
                Some(Arc::new(RevocationList { entries: held.entries.union(&list.entries), ..**held }))
            }
            _ => {
                outcome = Ok(Taken::Newer);
                Some(Arc::new(list.clone()))
            }
        });
        outcome
    }

    /// Up to when the list is complete that is held; none when there is none.
    #[must_use]
    pub fn as_of(&self) -> Option<Timestamp> {
        self.held.load().as_ref().map(|list| list.as_of)
    }

    /// How many entries it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.load().as_ref().map_or(0, |list| list.entries.len())
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the list has against a token, however old it is.
    #[must_use]
    pub fn find(&self, token: &AccessToken) -> Option<Fault> {
        match self.held.load().as_ref()?.entries.against(token)? {
            Listed::Certificate => Some(Fault::CertificateRevoked),
            Listed::Client | Listed::Token => Some(Fault::Revoked),
        }
    }

    /// What is known to be revoked stays so.
    pub(crate) fn check(&self, token: &AccessToken, clock_skew: Duration, now: Timestamp) -> Result<(), Fault> {
        if let Some(fault) = self.find(token) {
            return Err(fault);
        }
        match self.policy.when_stale {
            WhenStale::Deny if !self.is_current(clock_skew, now) => Err(Fault::RevocationStale),
            WhenStale::Accept | WhenStale::Deny => Ok(()),
        }
    }

    /// Whether the list is new enough to say what is not revoked, for somebody whose clock may be off by this much.
    #[must_use]
    pub fn is_current(&self, clock_skew: Duration, now: Timestamp) -> bool {
        self.held.load().as_ref().is_some_and(|list| {
            now.since(list.as_of) <= self.policy.max_age.saturating_add(clock_skew)
                && now < list.expires.plus(clock_skew)
        })
    }
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocations")
            .field("as_of", &self.as_of())
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
