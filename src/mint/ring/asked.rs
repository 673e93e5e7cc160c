//! What an operator asks of the key ring: which keys there are, another one, one less, and what either would come to.

use certbind_proto::time::Timestamp;

use super::super::keys::Source;
use super::super::lifecycle::{self, Life, State};
use super::super::signer::{ModuleFault, ModuleKey};
use super::KeyRing;
use super::told::{Caches, KeyInfo, KeysError, RetireError, Retirement, RotateError, Timeline};
use crate::store::StoredKey;

impl KeyRing {
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
        let in_module = self.in_module().await.map_err(KeysError::from)?;
        self.change::<_, RotateError>(now, |keys| {
            let mut timeline = self.timeline(keys, now)?;
            if let Source::Module(_) = self.source {
                timeline.incoming = Some(self.new_key(&in_module, keys, timeline.signs_from, now)?.kid);
            }
            Ok((keys.to_vec(), timeline))
        })
        .await
    }

    /// Makes the next key: it is published from now on and signs when caches know it.
    ///
    /// # Errors
    /// [`RotateError`]; then nothing was changed.
    pub async fn rotate(&self, now: Timestamp) -> Result<Timeline, RotateError> {
        let in_module = self.in_module().await.map_err(KeysError::from)?;
        self.change::<_, RotateError>(now, |keys| {
            let timeline = self.timeline(keys, now)?;
            let next = self.new_key(&in_module, keys, timeline.signs_from, now)?;
            let incoming = Some(next.kid.clone());
            Ok(([keys, &[next]].concat(), Timeline { incoming, ..timeline }))
        })
        .await
    }

    /// What [`Self::retire`] would do. Nothing is changed.
    ///
    /// # Errors
    /// [`RetireError`].
    pub async fn plan_retirement(&self, kid: &str, now: Timestamp) -> Result<Retirement, RetireError> {
        let in_module = self.in_module().await;
        self.change(now, |keys| {
            let (_, mut retirement) = self.without(keys, kid, &in_module, now)?;
            if let Source::Made = self.source {
                // One that was made for the plan alone is another than the one that is going to sign.
                retirement.signer = retirement.signer.filter(|signer| keys.iter().any(|key| key.kid == *signer));
            }
            Ok((keys.to_vec(), retirement))
        })
        .await
    }

    /// Takes a key back, as when somebody else got hold of it: from now on it neither signs nor is it published. When
    /// it is the one that signs, the next key does at once; if there is none, one is made.
    ///
    /// # Errors
    /// [`RetireError`]; then nothing was changed.
    pub async fn retire(&self, kid: &str, now: Timestamp) -> Result<Retirement, RetireError> {
        let in_module = self.in_module().await;
        self.change(now, |keys| self.without(keys, kid, &in_module, now)).await
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
        in_module: &Result<Vec<ModuleKey>, ModuleFault>,
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
                None => {
                    let in_module = in_module.as_deref().map_err(|fault| KeysError::from(fault.clone()))?;
                    keys.push(self.new_key(in_module, &keys, now, now)?);
                }
            }
        }
        let signer = lifecycle::signer(&keys, now).ok_or(KeysError::Contended)?;
        let caches = match signer.created.plus(calendar.publish_before) {
            known if known <= now => Caches::Know,
            known => Caches::MayNotKnow { until: known },
        };
        let (kid, signer) = (kid.to_owned(), Some(signer.kid.clone()));
        let cached_until = now.plus(calendar.publish_before);
        Ok((keys, Retirement { kid, was: life.state, last_token, cached_until, signer, caches }))
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
            published_until: key.retired.or(life.needed_until),
        }
    }
}
