//! One set of keys, ready for use: which one signs, which ones are published, and what is new about them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use certbind_proto::jwk::{Jwk, JwkSet};
use certbind_proto::jws::Algorithms;
use certbind_proto::time::Timestamp;

use super::super::MintFault;
use super::super::keys::{self, KeyFault, Source, UsableKey};
use super::super::lifecycle::{self, State};
use super::super::seal::Sealing;
use super::super::signer::TokenSigner;
use super::told::KeyEvent;
use crate::store::StoredKeys;

/// One set, ready for use.
#[derive(Clone, Default)]
pub(in crate::mint) struct Ring {
    pub(super) stored: StoredKeys,
    usable: HashMap<String, Arc<UsableKey>>,
    /// Those in force, in the order in which they sign.
    signing: Vec<Signing>,
    pub(super) states: HashMap<String, State>,
    published: JwkSet,
    pub(super) heard: Option<Timestamp>,
    pub(super) is_outdated: bool,
}

/// A key in force.
#[derive(Clone)]
pub(in crate::mint) struct Signing {
    key: Arc<UsableKey>,
    activates: Timestamp,
    /// The longest life of a token that it may sign: it stays published for so long after its last one.
    pub(in crate::mint) token_lifetime: Duration,
}

impl Signing {
    /// What signs.
    ///
    /// # Errors
    /// [`MintFault::SignerUnavailable`] when the key is in a security module that this server does not have.
    pub(in crate::mint) fn signer(&self) -> Result<&TokenSigner, MintFault> {
        self.key.signer.as_ref().ok_or(MintFault::SignerUnavailable)
    }
}

impl Ring {
    /// A set, ready for use; what `old` has is not read again. `heard` says when the store confirmed it.
    pub(super) fn prepare(
        mut stored: StoredKeys,
        old: &Self,
        (sealing, source): (&Sealing, &Source),
        calendar: &lifecycle::Settings,
        heard: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Self, KeyFault> {
        lifecycle::sort(&mut stored.keys);
        let mut usable = HashMap::new();
        for key in &stored.keys {
            let read = old
                .usable
                .get(&key.kid)
                .map_or_else(|| keys::read(key, sealing, source).map(Arc::new), |key| Ok(Arc::clone(key)))?;
            usable.insert(key.kid.clone(), read);
        }
        let lives = lifecycle::lives(&stored.keys, calendar, now);
        let published = stored.keys.iter().zip(&lives).filter(|(_, life)| life.state.is_published());
        let published = published.filter_map(|(key, _)| Some(usable.get(&key.kid)?.public.clone())).collect();
        let states = stored.keys.iter().zip(lives).map(|(key, life)| (key.kid.clone(), life.state)).collect();
        let in_force = lifecycle::in_force(&stored.keys).into_iter();
        let signing = in_force.filter_map(|stored| {
            let key = Arc::clone(usable.get(&stored.kid)?);
            Some(Signing { key, activates: stored.activates, token_lifetime: stored.token_lifetime })
        });
        let signing = signing.collect();
        let is_outdated = heard.is_none_or(|heard| now.since(heard) > calendar.publish_before);
        Ok(Self { stored, usable, signing, states, published: JwkSet::new(published), heard, is_outdated })
    }

    /// Whether other keys are published than before.
    pub(super) fn publishes_others_than(&self, old: &Self) -> bool {
        let is_published = |ring: &Self, kid: &str| ring.states.get(kid).is_some_and(|state| state.is_published());
        let mut kids = self.usable.keys().chain(old.usable.keys());
        kids.any(|kid| is_published(self, kid) != is_published(old, kid))
    }

    /// The keys that a token of this server may be signed with: those that sign, and those that did until lately.
    pub(in crate::mint) const fn published(&self) -> &JwkSet {
        &self.published
    }

    /// What the keys sign with that sign now or are going to.
    pub(super) fn algorithms(&self) -> Algorithms {
        let signs = |kid: &str| self.states.get(kid).is_some_and(|state| state.signs_or_will());
        let keys = self.published.iter().filter(|key| key.kid().is_some_and(signs));
        Algorithms::of(&keys.filter_map(Jwk::alg).collect::<Vec<_>>())
    }

    /// The key that signs at `now`; none when the set may be too old to tell.
    pub(in crate::mint) fn signing(&self, now: Timestamp) -> Option<&Signing> {
        if self.is_outdated {
            return None;
        }
        let active = self.signing.iter().rev().find(|signing| signing.activates <= now);
        active.or_else(|| self.signing.first())
    }
}

/// What happened between two sets.
pub(super) fn events(old: &Ring, new: &Ring) -> Vec<KeyEvent> {
    let mut events = Vec::new();
    for key in &new.stored.keys {
        let (kid, before) = (key.kid.clone(), old.states.get(&key.kid).copied());
        let Some(after) = new.states.get(&key.kid).copied() else { continue };
        if before.is_none() && matches!(after, State::Next | State::Current) {
            let (kid, algorithm) = (kid.clone(), key.algorithm.clone());
            events.push(KeyEvent::Published { kid, algorithm, signs_from: key.activates });
        }
        events.extend(match after {
            _ if before == Some(after) => None,
            State::Current => Some(KeyEvent::Signs { kid }),
            State::Retired => Some(KeyEvent::Retired { kid }),
            State::Gone => Some(KeyEvent::Removed { kid }),
            State::Next | State::Retiring => None,
        });
    }
    let removed = old.states.iter().filter(|(kid, state)| **state != State::Gone && !new.states.contains_key(*kid));
    events.extend(removed.map(|(kid, _)| KeyEvent::Removed { kid: kid.clone() }));
    events
}
