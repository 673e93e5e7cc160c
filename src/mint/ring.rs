//! The key ring: the stored set of signing keys in, the key that signs now and the JWKS (RFC 7517 §5) out.
//!
//! Which key signs when lies in the store ([`super::lifecycle`] reads it), so every server changes over at the same
//! moment. A request asks the ring with its `now` and takes no lock.

mod asked;
mod set;
#[cfg(test)]
mod tests;
mod told;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use certbind_proto::jws::{Algorithm, Algorithms};
use certbind_proto::time::Timestamp;

use super::MintFault;
use super::keys::{self, Source};
use super::lifecycle::{self, Occasion};
use super::seal::Sealing;
use super::signer::{ModuleFault, ModuleKey, TokenSigner};
use crate::store::{KeyStore, Replaced, StoredKey, StoredKeys};
use set::{Ring, Signing};

pub use told::{Caches, KeyEvent, KeyInfo, KeysError, Observer, RetireError, Retirement, RotateError, Timeline};

/// How often a set that somebody else changed in the meantime is looked at anew.
const TRIES: usize = 8;

/// How often a security module is looked into for a key that is due and was not there.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// How the ring is set up.
#[derive(Debug)]
pub struct Settings {
    /// What new keys are for.
    pub algorithm: Algorithm,
    /// When keys change.
    pub calendar: lifecycle::Settings,
    /// How their private halves lie in the store.
    pub sealing: Sealing,
    /// Where new ones come from.
    pub source: Source,
}

/// The keys of this server.
pub struct KeyRing {
    store: Arc<dyn KeyStore>,
    algorithm: Algorithm,
    calendar: Mutex<lifecycle::Settings>,
    sealing: Sealing,
    source: Source,
    /// When a security module was last looked into for a key that is due.
    looked: Mutex<Option<Timestamp>>,
    observer: Arc<dyn Observer>,
    /// Who takes a set over holds it, so that an older set never comes after a newer one.
    turn: Mutex<()>,
    ring: ArcSwap<Ring>,
}

impl KeyRing {
    /// Loads the keys; makes one that signs at once when there is none yet, and one that signs later when the
    /// configured algorithm is a new one. What lies unsealed, or is sealed under the key of before, is sealed anew. Of servers that start at the same time one makes it, and all use it.
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
        let Settings { algorithm, calendar, sealing, source } = settings;
        let (calendar, looked, turn) = (Mutex::new(calendar), Mutex::default(), Mutex::default());
        let ring =
            Self { store, algorithm, calendar, sealing, source, looked, observer, turn, ring: ArcSwap::default() };
        ring.take(stored, Some(now), now)?;
        ring.advance(&ring.calendar(), Occasion::Start, now).await?;
        // A server that cannot sign must not start.
        if let Ok(signing) = ring.signing(now)
            && let Ok(signer) = signing.signer()
        {
            signer.probe().await?;
        }
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

    /// The key that signs at `now`.
    ///
    /// # Errors
    /// [`MintFault::KeysOutdated`].
    pub(super) fn signing(&self, now: Timestamp) -> Result<Signing, MintFault> {
        self.current().signing(now).cloned().ok_or(MintFault::KeysOutdated)
    }

    /// Whether there is a key to sign with at `now`.
    #[must_use]
    pub fn is_ready(&self, now: Timestamp) -> bool {
        self.signing(now).is_ok_and(|signing| signing.signer().is_ok_and(TokenSigner::is_healthy))
    }

    /// What is signed with now and from the next key on.
    #[must_use]
    pub fn algorithms(&self) -> Algorithms {
        self.ring.load().algorithms()
    }

    async fn advance(
        &self,
        calendar: &lifecycle::Settings,
        occasion: Occasion,
        now: Timestamp,
    ) -> Result<(), KeysError> {
        let in_module = self.in_module_if_due(calendar, occasion, now).await;
        if occasion == Occasion::Start {
            in_module.as_ref().map_err(KeysError::clone)?;
        }
        let candidates = in_module.as_deref().unwrap_or_default();
        self.change::<_, KeysError>(now, |keys| {
            let due = self.due(keys, calendar, occasion, now);
            // What is due and not there is said below; everything else is done all the same.
            let made = match due.make {
                Some(activates) => {
                    self.new_key(candidates, &due.keep, activates, now).map(Some).or_else(unless_there_is_none)?
                }
                None => None,
            };
            let mut keys: Vec<_> = due.keep.into_iter().chain(made).collect();
            if occasion == Occasion::Start {
                keys = keys.into_iter().map(|key| keys::seal_anew(key, &self.sealing)).collect::<Result<_, _>>()?;
            }
            Ok((keys, ()))
        })
        .await?;
        in_module.map(drop)
    }

    fn due(
        &self,
        keys: &[StoredKey],
        calendar: &lifecycle::Settings,
        occasion: Occasion,
        now: Timestamp,
    ) -> lifecycle::Due {
        let fits = |key: &StoredKey| key.algorithm == self.algorithm.as_str() && self.source.has(key);
        let signs = |key: &StoredKey| self.source.signs_with(key);
        lifecycle::due(keys, lifecycle::Wanted { fits: &fits, signs: &signs }, calendar, occasion, now)
    }

    /// The keys of the security module, if there is one.
    async fn in_module(&self) -> Result<Vec<ModuleKey>, ModuleFault> {
        match &self.source {
            Source::Made => Ok(Vec::new()),
            Source::Module(module) => module.keys().await,
        }
    }

    /// The same when a key is due, but not more often than it makes sense.
    async fn in_module_if_due(
        &self,
        calendar: &lifecycle::Settings,
        occasion: Occasion,
        now: Timestamp,
    ) -> Result<Vec<ModuleKey>, KeysError> {
        let stored = self.ring.load_full();
        let Source::Module(module) = &self.source else { return Ok(Vec::new()) };
        let Some(activates) = self.due(&stored.stored.keys, calendar, occasion, now).make else {
            return Ok(Vec::new());
        };
        let looked = lock(&self.looked).replace(now);
        if let Some(looked) = looked.filter(|looked| now.since(*looked) < LOOK_AGAIN && occasion == Occasion::Running) {
            *lock(&self.looked) = Some(looked);
            return Err(KeysError::NoNewerKey);
        }
        let keys = module.keys().await?;
        self.new_key(&keys, &stored.stored.keys, activates, now)?;
        Ok(keys)
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

    /// A key that signs from `activates` on: a new one, or the next one of the security module.
    fn new_key(
        &self,
        in_module: &[ModuleKey],
        keys: &[StoredKey],
        activates: Timestamp,
        now: Timestamp,
    ) -> Result<StoredKey, KeysError> {
        let lifetime = self.calendar().token_lifetime;
        match self.source {
            Source::Made => Ok(keys::make(self.algorithm, activates, lifetime, &self.sealing, now)?),
            Source::Module(_) => {
                keys::take(in_module, keys, self.algorithm, activates, lifetime, now).ok_or(KeysError::NoNewerKey)
            }
        }
    }

    /// Takes a set over: publishes it, then signs with it, then tells. `heard` says when the store confirmed it.
    fn take(&self, stored: StoredKeys, heard: Option<Timestamp>, now: Timestamp) -> Result<(), KeysError> {
        let _turn = lock(&self.turn);
        let old = self.ring.load_full();
        if stored.revision < old.stored.revision {
            return Ok(());
        }
        let new = Arc::new(Ring::prepare(stored, &old, (&self.sealing, &self.source), &self.calendar(), heard, now)?);
        if new.publishes_others_than(&old) {
            self.observer.publish(&new.published().to_json());
        }
        self.ring.store(Arc::clone(&new));
        // The keys that are there at the start are no news.
        if !old.states.is_empty() {
            set::events(&old, &new).iter().for_each(|event| self.observer.happened(event, now));
        }
        Ok(())
    }
}

fn unless_there_is_none(error: KeysError) -> Result<Option<StoredKey>, KeysError> {
    match error {
        KeysError::NoNewerKey => Ok(None),
        other => Err(other),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
