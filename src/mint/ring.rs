//! The key ring: the stored set of signing keys in, the key that signs now and the JWKS (RFC 7517 §5) out.
//!
//! Which key signs when lies in the store ([`super::lifecycle`] reads it), so every server changes over at the same
//! moment. A request asks the ring with its `now` and takes no lock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use certbind_proto::jwk::JwkSet;
use certbind_proto::jws::{Algorithm, Signer};
use certbind_proto::time::Timestamp;
use serde_json::Value;

use super::keys::{self, KeyFault, UsableKey};
use super::lifecycle::{self, Life, Occasion, RotateFault, State};
use crate::store::{KeyStore, Replaced, StoreError, StoredKey, StoredKeys};

/// How often a set that somebody else changed in the meantime is looked at anew.
const TRIES: usize = 8;

/// How the ring is set up.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// What new keys are for.
    pub algorithm: Algorithm,
    /// When keys change.
    pub calendar: lifecycle::Settings,
}

/// Hears what becomes of the keys.
pub trait Observer: Send + Sync {
    /// This JWK set is to be published from now on. Told before any new key in it signs.
    fn publish(&self, jwks: &Value);

    /// Something happened to a key.
    fn happened(&self, event: &KeyEvent, now: Timestamp);
}

/// What happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyEvent {
    /// It is published, and signs from some time on.
    Published {
        /// Its name.
        kid: String,
        /// What it signs with.
        algorithm: String,
        /// From when on.
        signs_from: Timestamp,
    },
    /// It signs from now on.
    Signs {
        /// Its name.
        kid: String,
    },
    /// It was taken back by an operator.
    Retired {
        /// Its name.
        kid: String,
    },
    /// Its last token has expired, and it is no longer published.
    Removed {
        /// Its name.
        kid: String,
    },
}

/// Why the keys cannot be had or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key cannot be made or read.
    #[error(transparent)]
    Key(#[from] KeyFault),
    /// Others change the set all the time.
    #[error("the stored keys are changed by others all the time")]
    Contended,
}

/// Why there was no rotation.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// It is not possible now.
    #[error(transparent)]
    Refused(#[from] RotateFault),
    /// The keys cannot be had or changed.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

/// Why a key was not taken back.
#[derive(Debug, thiserror::Error)]
pub enum RetireError {
    /// It was taken back before.
    #[error("the key was retired at {0}")]
    AlreadyRetired(Timestamp),
    /// There is no such key.
    #[error("there is no such key")]
    Unknown,
    /// The keys cannot be had or changed.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

/// A key and its place in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its name.
    pub kid: String,
    /// What it signs with, by its JOSE name.
    pub algorithm: String,
    /// What it is now.
    pub state: State,
    /// How its secret is kept.
    pub kept: &'static str,
    /// When it was made, and since when it is published.
    pub created: Timestamp,
    /// From when on it signs.
    pub signs_from: Timestamp,
    /// When its successor takes over, or is due to; it is not known when keys are rotated by hand.
    pub signs_until: Option<Timestamp>,
    /// When its last token has expired, if `signs_until` is certain.
    pub published_until: Option<Timestamp>,
}

/// What a rotation does, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// The new key's name; none while it is only planned.
    pub incoming: Option<String>,
    /// What the new key signs with.
    pub algorithm: &'static str,
    /// The key that signs now.
    pub outgoing: String,
    /// From when on the new key is published.
    pub published_from: Timestamp,
    /// From when on the new key signs and the old one no longer does.
    pub signs_from: Timestamp,
    /// When the last token of the old key has expired, and it is no longer published.
    pub outgoing_published_until: Timestamp,
}

/// What came of taking a key back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retirement {
    /// The key.
    pub kid: String,
    /// What it was.
    pub was: State,
    /// When the last token that it signed expires. Until then whoever holds one is refused as soon as a cache lets go
    /// of the key.
    pub last_token: Timestamp,
    /// The key that signs now.
    pub signer: String,
    /// Whether caches know that key.
    pub caches: Caches,
}

/// Whether caches of the JWKS know a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caches {
    /// It was published for `keys.publish_before`.
    Know,
    /// It was not: a resource server that does not fetch the set for an unknown `kid` refuses its tokens for a while.
    MayNotKnow,
}

/// The keys of this server.
pub struct KeyRing {
    store: Arc<dyn KeyStore>,
    algorithm: Algorithm,
    calendar: Mutex<lifecycle::Settings>,
    observer: Arc<dyn Observer>,
    /// Who takes a set over holds it, so that an older set never comes after a newer one.
    turn: Mutex<()>,
    ring: ArcSwap<Ring>,
}

/// One set, ready for use.
#[derive(Clone, Default)]
pub(super) struct Ring {
    stored: StoredKeys,
    usable: HashMap<String, Arc<UsableKey>>,
    /// Those in force, in the order in which they sign.
    signing: Vec<Signing>,
    states: HashMap<String, State>,
    published: JwkSet,
    heard: Option<Timestamp>,
    is_outdated: bool,
}

/// A key in force.
#[derive(Clone)]
pub(super) struct Signing {
    key: Arc<UsableKey>,
    activates: Timestamp,
    /// The longest life of a token that it may sign: it stays published for so long after its last one.
    pub(super) token_lifetime: Duration,
}

impl Signing {
    /// What signs.
    pub(super) fn signer(&self) -> &Signer {
        &self.key.signer
    }
}

impl Ring {
    /// The keys that a token of this server may be signed with: those that sign, and those that did until lately.
    pub(super) const fn published(&self) -> &JwkSet {
        &self.published
    }

    /// The key that signs at `now`; none when the set may be too old to tell.
    pub(super) fn signing(&self, now: Timestamp) -> Option<&Signing> {
        if self.is_outdated {
            return None;
        }
        let active = self.signing.iter().rev().find(|signing| signing.activates <= now);
        active.or_else(|| self.signing.first())
    }
}

impl KeyRing {
    /// Loads the keys; makes one that signs at once when there is none yet, and one that signs later when the
    /// configured algorithm is a new one. Of servers that start at the same time one makes it, and all use it.
    ///
    /// # Errors
    /// [`KeysError`]: a server without a signing key must not start.
    pub async fn open(
        store: Arc<dyn KeyStore>,
        settings: Settings,
        observer: Arc<dyn Observer>,
        now: Timestamp,
    ) -> Result<Self, KeysError> {
        let stored = store.load().await?;
        let Settings { algorithm, calendar } = settings;
        let (calendar, turn) = (Mutex::new(calendar), Mutex::default());
        let ring = Self { store, algorithm, calendar, observer, turn, ring: ArcSwap::default() };
        ring.take(stored, Some(now), now)?;
        ring.advance(&ring.calendar(), Occasion::Start, now).await?;
        Ok(ring)
    }

    /// Looks at the store, and does what is due. Called about once a second.
    ///
    /// A server that does not hear from the store goes on with what it knows for as long as nothing can have changed
    /// without its knowledge: a key that another server makes does not sign before `publish_before` is over. After that
    /// its own key may be one that nobody publishes any longer, so it signs no more until it hears again.
    ///
    /// # Errors
    /// [`KeysError`]; the keys are those of before.
    pub async fn refresh(&self, now: Timestamp) -> Result<(), KeysError> {
        let Err(error) = self.advance(&self.calendar(), Occasion::Running, now).await else { return Ok(()) };
        let ring = self.ring.load_full();
        self.take(ring.stored.clone(), ring.heard, now)?;
        Err(error)
    }

    /// Goes by another calendar. When tokens are to live longer, the keys that sign them are first said to stay for
    /// longer, on all servers.
    ///
    /// # Errors
    /// [`KeysError`]; then the calendar is the one of before.
    pub async fn go_by(&self, calendar: lifecycle::Settings, now: Timestamp) -> Result<(), KeysError> {
        if calendar.token_lifetime > self.calendar().token_lifetime {
            self.advance(&calendar, Occasion::Running, now).await?;
        }
        *lock(&self.calendar) = calendar;
        Ok(())
    }

    fn calendar(&self) -> lifecycle::Settings {
        *lock(&self.calendar)
    }

    /// The set as it is used now.
    pub(super) fn current(&self) -> Guard<Arc<Ring>> {
        self.ring.load()
    }

    /// Whether there is a key to sign with.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.ring.load().is_outdated
    }

    /// Every key, in the order in which they sign.
    #[must_use]
    pub fn list(&self, now: Timestamp) -> Vec<KeyInfo> {
        let ring = self.ring.load();
        let keys = &ring.stored.keys;
        let lives = lifecycle::lives(keys, &self.calendar(), now);
        keys.iter().zip(lives).map(|(key, life)| self.describe(key, life)).collect()
    }

    /// What [`Self::rotate`] would do. Nothing is changed.
    ///
    /// # Errors
    /// [`RotateError`].
    pub async fn plan_rotation(&self, now: Timestamp) -> Result<Timeline, RotateError> {
        self.change::<_, RotateError>(now, |keys| Ok((keys.to_vec(), self.timeline(keys, now)?))).await
    }

    /// Makes the next key: it is published from now on and signs when caches know it.
    ///
    /// # Errors
    /// [`RotateError`]; then nothing was changed.
    pub async fn rotate(&self, now: Timestamp) -> Result<Timeline, RotateError> {
        self.change::<_, RotateError>(now, |keys| {
            let timeline = self.timeline(keys, now)?;
            let next = self.make(timeline.signs_from, now)?;
            let incoming = Some(next.kid.clone());
            Ok(([keys, &[next]].concat(), Timeline { incoming, ..timeline }))
        })
        .await
    }

    /// Takes a key back, as when somebody else got hold of it: from now on it neither signs nor is it published. When
    /// it is the one that signs, the next key does at once; if there is none, one is made.
    ///
    /// # Errors
    /// [`RetireError`]; then nothing was changed.
    pub async fn retire(&self, kid: &str, now: Timestamp) -> Result<Retirement, RetireError> {
        self.change(now, |keys| self.without(keys, kid, now)).await
    }

    async fn advance(
        &self,
        calendar: &lifecycle::Settings,
        occasion: Occasion,
        now: Timestamp,
    ) -> Result<(), KeysError> {
        self.change::<_, KeysError>(now, |keys| {
            let due = lifecycle::due(keys, self.algorithm.as_str(), calendar, occasion, now);
            let made = due.make.map(|activates| self.make(activates, now)).transpose()?;
            Ok((due.keep.into_iter().chain(made).collect(), ()))
        })
        .await
    }

    /// Loads the set, changes it, writes it if it is another one, and takes it over. Who was not quick enough looks again.
    async fn change<T, E: From<KeysError>>(
        &self,
        now: Timestamp,
        change: impl Fn(&[StoredKey]) -> Result<(Vec<StoredKey>, T), E>,
    ) -> Result<T, E> {
        for _ in 0..TRIES {
            let mut stored = self.store.load().await.map_err(KeysError::from)?;
            let (keys, outcome) = change(&stored.keys)?;
            if keys != stored.keys {
                match self.store.replace(stored.revision, keys.clone()).await.map_err(KeysError::from)? {
                    Replaced::Outdated => continue,
                    Replaced::Yes(revision) => stored = StoredKeys { revision, keys },
                }
            }
            self.take(stored, Some(now), now)?;
            return Ok(outcome);
        }
        Err(KeysError::Contended.into())
    }

    fn make(&self, activates: Timestamp, now: Timestamp) -> Result<StoredKey, KeysError> {
        Ok(keys::make(self.algorithm, activates, self.calendar().token_lifetime, now)?)
    }

    fn timeline(&self, keys: &[StoredKey], now: Timestamp) -> Result<Timeline, RotateError> {
        let calendar = self.calendar();
        let signs_from = lifecycle::rotation(keys, &calendar, now)?;
        let outgoing = lifecycle::signer(keys, now).ok_or(KeysError::Contended)?;
        Ok(Timeline {
            incoming: None,
            algorithm: self.algorithm.as_str(),
            outgoing: outgoing.kid.clone(),
            published_from: now,
            signs_from,
            outgoing_published_until: lifecycle::last_token(outgoing, signs_from, &calendar),
        })
    }

    /// The keys without this one, and with one that signs in its place.
    fn without(
        &self,
        keys: &[StoredKey],
        kid: &str,
        now: Timestamp,
    ) -> Result<(Vec<StoredKey>, Retirement), RetireError> {
        let calendar = &self.calendar();
        let at = keys.iter().position(|key| key.kid == kid).ok_or(RetireError::Unknown)?;
        let life = lifecycle::lives(keys, calendar, now)[at];
        let mut keys = keys.to_vec();
        if let Some(retired) = keys[at].retired.replace(now) {
            return Err(RetireError::AlreadyRetired(retired));
        }
        let last_token =
            lifecycle::last_token(&keys[at], life.signs_until.map_or(now, |until| until.min(now)), calendar);
        if life.state == State::Current {
            let announced = keys.iter_mut().filter(|key| key.retired.is_none() && key.activates > now);
            match announced.min_by_key(|key| key.activates) {
                Some(next) => next.activates = now,
                None => keys.push(self.make(now, now)?),
            }
        }
        let signer = lifecycle::signer(&keys, now).ok_or(KeysError::Contended)?;
        let caches = match signer.created.plus(calendar.publish_before) {
            known if known <= now => Caches::Know,
            _ => Caches::MayNotKnow,
        };
        let (kid, signer) = (kid.to_owned(), signer.kid.clone());
        Ok((keys, Retirement { kid, was: life.state, last_token, signer, caches }))
    }

    fn describe(&self, key: &StoredKey, life: Life) -> KeyInfo {
        let planned = match self.calendar().rotation {
            lifecycle::Rotation::Every(period) => Some(key.activates.plus(period)),
            lifecycle::Rotation::ByHand => None,
        };
        KeyInfo {
            kid: key.kid.clone(),
            algorithm: key.algorithm.clone(),
            state: life.state,
            kept: key.secret.form(),
            created: key.created,
            signs_from: key.activates,
            signs_until: life.signs_until.or(planned),
            published_until: life.needed_until,
        }
    }

    /// Takes a set over: publishes it, then signs with it, then tells. `heard` says when the store confirmed it.
    fn take(&self, stored: StoredKeys, heard: Option<Timestamp>, now: Timestamp) -> Result<(), KeysError> {
        let _turn = lock(&self.turn);
        let old = self.ring.load_full();
        if stored.revision < old.stored.revision {
            return Ok(());
        }
        let new = self.prepare(stored, &old, heard, now)?;
        let is_published = |ring: &Ring, kid: &str| ring.states.get(kid).is_some_and(|state| state.is_published());
        let kids = || new.usable.keys().chain(old.usable.keys());
        if kids().any(|kid| is_published(&new, kid) != is_published(&old, kid)) {
            self.observer.publish(&new.published.to_json());
        }
        let new = Arc::new(new);
        self.ring.store(Arc::clone(&new));
        // The keys that are there at the start are no news.
        if !old.states.is_empty() {
            events(&old, &new).iter().for_each(|event| self.observer.happened(event, now));
        }
        Ok(())
    }

    fn prepare(
        &self,
        mut stored: StoredKeys,
        old: &Ring,
        heard: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Ring, KeysError> {
        let calendar = self.calendar();
        lifecycle::sort(&mut stored.keys);
        let mut usable = HashMap::new();
        for key in &stored.keys {
            let read =
                old.usable.get(&key.kid).map_or_else(|| keys::read(key).map(Arc::new), |key| Ok(Arc::clone(key)))?;
            usable.insert(key.kid.clone(), read);
        }
        let lives = lifecycle::lives(&stored.keys, &calendar, now);
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
        Ok(Ring { stored, usable, signing, states, published: JwkSet::new(published), heard, is_outdated })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What happened between two sets.
fn events(old: &Ring, new: &Ring) -> Vec<KeyEvent> {
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

#[cfg(test)]
mod tests;
