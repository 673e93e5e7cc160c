//! The calendar of the signing keys: stored keys, settings and `now` in; what each key is, and what is due, out. Pure.
//!
//! A key is published from the moment it is made and signs from a later moment that lies in the store, so that caches
//! know it by then and all servers change over at once. Its successor takes over; it stays published until the last
//! token that it signed has expired everywhere. Then it goes.

use std::time::Duration;

use certbind_proto::time::Timestamp;

use crate::store::StoredKey;

/// The most keys that may be published: a resource server reads no more than 32 (`certbind_proto::jwk::MAX_KEYS`).
pub const MOST_KEYS: usize = 24;

/// Further ahead than this no key is announced.
const HORIZON: Duration = Duration::from_secs(62 * 24 * 60 * 60);

/// What the calendar goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// When a key gets its successor.
    pub rotation: Rotation,
    /// How long a key is published before it signs. Longer than any cache of the JWKS.
    pub publish_before: Duration,
    /// The longest life of a token of this server.
    pub token_lifetime: Duration,
    /// How far clocks may be off: those of servers among each other, and those of resource servers.
    pub clock_skew: Duration,
}

impl Settings {
    /// How long after the last token of a key it may have to be known still: the clock of the server that signed may
    /// be behind, and so may the one that reads.
    fn leeway(&self) -> Duration {
        self.clock_skew * 2
    }
}

/// When a key gets its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// After it has signed for so long.
    Every(Duration),
    /// When an operator says so.
    ByHand,
}

/// What a key is at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Published, and is going to sign.
    Next,
    /// Signs.
    Current,
    /// Signs no more; published until its last token has expired.
    Retiring,
    /// Was taken back by an operator: neither signs nor is published.
    Retired,
    /// Nobody needs it any longer.
    Gone,
}

impl State {
    /// Every state, in the order of a key's life.
    pub const ALL: [Self; 5] = [Self::Next, Self::Current, Self::Retiring, Self::Retired, Self::Gone];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Current => "current",
            Self::Retiring => "retiring",
            Self::Retired => "retired",
            Self::Gone => "gone",
        }
    }

    /// Whether the key signs, or is going to.
    #[must_use]
    pub const fn signs_or_will(self) -> bool {
        matches!(self, Self::Next | Self::Current)
    }

    /// Whether the key stands in the JWKS.
    #[must_use]
    pub const fn is_published(self) -> bool {
        matches!(self, Self::Next | Self::Current | Self::Retiring)
    }
}

/// A key's place in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// What it is now.
    pub state: State,
    /// When its successor takes over, or it was taken back.
    pub signs_until: Option<Timestamp>,
    /// When its last token has expired, if its end is known.
    pub needed_until: Option<Timestamp>,
}

/// What is due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// A key is to be made that signs from this moment on.
    pub make: Option<Timestamp>,
    /// The stored keys as they should be, without the one to be made.
    pub keep: Vec<StoredKey>,
}

/// What new keys are like, and which ones this server can sign with.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// Whether a key is as new ones are.
    pub fits: &'a dyn Fn(&StoredKey) -> bool,
    /// Whether this server can sign with a key.
    pub signs: &'a dyn Fn(&StoredKey) -> bool,
}

/// When it is asked what is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// At the start. What changed in the configuration (the algorithm, or where keys come from) is noticed here and only
    /// here: two servers with two configurations must not make keys against each other all the time.
    Start,
    /// While the server runs.
    Running,
}

/// What each key is at `now`, in the order of `keys`.
#[must_use]
pub fn lives(keys: &[StoredKey], settings: &Settings, now: Timestamp) -> Vec<Life> {
    let signer = signer(keys, now).map(order);
    keys.iter().map(|key| life(key, keys, signer, settings, now)).collect()
}

/// The key that signs at `now`: the last one whose time has come. When no time has come yet, since a clock went back,
/// the first one: there is always a key to sign with.
#[must_use]
pub fn signer(keys: &[StoredKey], now: Timestamp) -> Option<&StoredKey> {
    let in_force = in_force(keys);
    let active = in_force.iter().rev().find(|key| key.activates <= now);
    active.or_else(|| in_force.first()).copied()
}

/// The keys that were not taken back, in the order in which they sign.
#[must_use]
pub fn in_force(keys: &[StoredKey]) -> Vec<&StoredKey> {
    let mut in_force: Vec<_> = keys.iter().filter(|key| key.retired.is_none()).collect();
    in_force.sort_by_key(|key| order(key));
    in_force
}

/// What has to be done to the stored keys at `now`.
#[must_use]
pub fn due(keys: &[StoredKey], wanted: Wanted<'_>, settings: &Settings, occasion: Occasion, now: Timestamp) -> Due {
    let lives = lives(keys, settings, now);
    let kept = keys.iter().zip(&lives).filter(|(_, life)| life.state != State::Gone);
    let keep: Vec<_> = kept.map(|(key, life)| with_lifetime(key, *life, settings)).collect();
    Due { make: next_activation(&keep, wanted, settings, occasion, now), keep }
}

/// When a key that an operator asks for at `now` would sign.
///
/// # Errors
/// There is a next key already, or there are too many.
pub fn rotation(keys: &[StoredKey], settings: &Settings, now: Timestamp) -> Result<Timestamp, RotateFault> {
    let signer = signer(keys, now).map(order);
    match announced(keys, now).find(|key| signer < Some(order(key)) && key.activates > now) {
        Some(key) => Err(RotateFault::NextIsAnnounced { kid: key.kid.clone(), signs_from: key.activates }),
        None if published(keys, settings, now) >= MOST_KEYS => Err(RotateFault::TooManyKeys),
        None => Ok(now.plus(settings.publish_before)),
    }
}

/// Why there is no rotation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RotateFault {
    /// A next key is published already.
    #[error("the next key {kid} is published already and signs from {signs_from}")]
    NextIsAnnounced {
        /// Its name.
        kid: String,
        /// From when on it signs.
        signs_from: Timestamp,
    },
    /// There are as many as may be published.
    #[error("there are {MOST_KEYS} keys, and no more may be published; wait until old ones are gone")]
    TooManyKeys,
}

/// Puts keys into the order in which they sign.
pub fn sort(keys: &mut [StoredKey]) {
    keys.sort_by(|one, other| order(one).cmp(&order(other)));
}

/// When the last token has expired that a key signed until `end`.
#[must_use]
pub fn last_token(key: &StoredKey, end: Timestamp, settings: &Settings) -> Timestamp {
    end.plus(key.token_lifetime).plus(settings.leeway())
}

type Order<'a> = (Timestamp, Timestamp, &'a str);

/// Which of two keys takes over from which.
fn order(key: &StoredKey) -> Order<'_> {
    (key.activates, key.created, &key.kid)
}

fn life(key: &StoredKey, keys: &[StoredKey], signer: Option<Order<'_>>, settings: &Settings, now: Timestamp) -> Life {
    let signs_until = key.retired.or_else(|| superseded(key, keys));
    let needed_until = signs_until.map(|end| last_token(key, end, settings));
    let is_over = needed_until.is_some_and(|end| end <= now);
    let state = match key.retired {
        _ if signer == Some(order(key)) => State::Current,
        _ if is_over => State::Gone,
        Some(_) => State::Retired,
        None if signer < Some(order(key)) => State::Next,
        None => State::Retiring,
    };
    Life { state, signs_until, needed_until }
}

/// When the key after this one takes over. One that was taken back before its time never did.
fn superseded(key: &StoredKey, keys: &[StoredKey]) -> Option<Timestamp> {
    let signs_at_some_time = |other: &&StoredKey| other.retired.is_none_or(|retired| retired > other.activates);
    let later = keys.iter().filter(|other| order(other) > order(key)).filter(signs_at_some_time);
    later.map(|other| other.activates).min()
}

/// A key that is going to sign has to be known for as long as the longest token of any server lives.
fn with_lifetime(key: &StoredKey, life: Life, settings: &Settings) -> StoredKey {
    let mut key = key.clone();
    if matches!(life.state, State::Current | State::Next) {
        key.token_lifetime = key.token_lifetime.max(settings.token_lifetime);
    }
    key
}

fn next_activation(
    keys: &[StoredKey],
    wanted: Wanted<'_>,
    settings: &Settings,
    occasion: Occasion,
    now: Timestamp,
) -> Option<Timestamp> {
    let Some(signer) = signer(keys, now) else { return Some(now) };
    if published(keys, settings, now) >= MOST_KEYS {
        return None;
    }
    if occasion == Occasion::Start && !(wanted.signs)(signer) {
        return Some(now);
    }
    let earliest = now.plus(settings.publish_before);
    let last = announced(keys, now).next_back().unwrap_or(signer);
    if occasion == Occasion::Start && !(wanted.fits)(last) {
        // What is announced already comes first: servers that do not hear of the change will sign with it.
        return Some(earliest.max(last.activates.plus(Duration::from_millis(1))));
    }
    let Rotation::Every(period) = settings.rotation else { return None };
    let planned = signer.activates.plus(period);
    (last.activates <= now && earliest >= planned).then(|| earliest.max(planned))
}

/// How many keys stand in the JWKS. Those that were taken back stay in the store for a while, and nobody reads them.
fn published(keys: &[StoredKey], settings: &Settings, now: Timestamp) -> usize {
    lives(keys, settings, now).iter().filter(|life| life.state.is_published()).count()
}

/// The keys in force, without those for a time so far away that a clock must have been wrong when they were made.
fn announced(keys: &[StoredKey], now: Timestamp) -> impl DoubleEndedIterator<Item = &StoredKey> {
    in_force(keys).into_iter().filter(move |key| key.activates <= now.plus(HORIZON))
}

#[cfg(test)]
mod tests;
