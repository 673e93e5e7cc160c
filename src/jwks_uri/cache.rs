//! The sets that are kept, one for each URI, and the fetches that are under way: never two for one URI.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use certbind_proto::jwk::{Jwk, JwkSet};
use certbind_proto::kept_keys::{Freshness, KeptKeys, Next};
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::Timestamp;
use tokio::sync::watch;

use super::Wanted;

/// How long a client's set is used. An unknown `kid` or certificate makes a new fetch after 30 s at the soonest, whether
/// the last one succeeded or not. A busy client's set is renewed every 5 minutes beside its requests. What a client
/// withdraws counts for 10 minutes more; for an hour, when its endpoint fails.
pub const FRESHNESS: Freshness = Freshness {
    cool_down: Duration::from_secs(30),
    refresh_after: Duration::from_secs(5 * 60),
    max_age: Duration::from_secs(10 * 60),
    stale_limit: Duration::from_secs(60 * 60),
};

/// Follows one fetch: a set in the end, or the sender's end without one.
pub(super) type Flight = watch::Receiver<Option<Arc<JwkSet>>>;

/// The sets, by URI. Only registered clients can name a URI; their number is bounded all the same.
pub(super) struct Cache {
    slots: HashMap<String, Slot>,
    max_slots: usize,
    flights: usize,
    max_flights: usize,
    /// Counts the uses, to tell which slot was used the longest ago.
    uses: u64,
}

#[derive(Default)]
struct Slot {
    keys: KeptKeys,
    flight: Option<Flight>,
    last_use: u64,
}

impl Cache {
    /// Remembers so many sets, and lets so many fetches be under way.
    pub(super) fn new(max_slots: usize, max_flights: usize) -> Self {
        Self { slots: HashMap::new(), max_slots, flights: 0, max_flights, uses: 0 }
    }

    /// What to do for one who wants a key from `uri`.
    pub(super) fn next(&mut self, uri: &str, wanted: Wanted<'_>, now: Timestamp) -> Next {
        self.uses += 1;
        match self.slots.get_mut(uri) {
            Some(slot) => {
                slot.last_use = self.uses;
                slot.keys.next(|set| suits(set, wanted), &FRESHNESS, now)
            }
            None => Next::Fetch(None),
        }
    }

    /// A fetch of `uri` begins; it is reported to the sender, and to [`Self::end`]. `None` when as many as may be are
    /// under way.
    pub(super) fn begin(&mut self, uri: &str, now: Timestamp) -> Option<watch::Sender<Option<Arc<JwkSet>>>> {
        if self.flights >= self.max_flights || !self.make_room(uri) {
            return None;
        }
        let (sender, flight) = watch::channel(None);
        let slot = self.slots.entry(uri.to_owned()).or_default();
        slot.keys.begin(now);
        slot.flight = Some(flight);
        slot.last_use = self.uses;
        self.flights += 1;
        Some(sender)
    }

    /// The fetch of `uri` that is under way.
    pub(super) fn flight(&self, uri: &str) -> Option<Flight> {
        self.slots.get(uri)?.flight.clone()
    }

    /// The fetch of `uri` is over.
    pub(super) fn end(&mut self, uri: &str, outcome: Option<Arc<JwkSet>>) {
        self.flights = self.flights.saturating_sub(1);
        let Some(slot) = self.slots.get_mut(uri) else { return };
        slot.flight = None;
        match outcome {
            Some(set) => slot.keys.succeed(set),
            None => slot.keys.fail(),
        }
    }

    /// Forgets the set that was not used for the longest time, if there is no room for `uri`. One that is being fetched
    /// stays.
    fn make_room(&mut self, uri: &str) -> bool {
        if self.slots.len() < self.max_slots || self.slots.contains_key(uri) {
            return true;
        }
        let idle = self.slots.iter().filter(|(_, slot)| slot.flight.is_none());
        let Some(oldest) = idle.min_by_key(|(_, slot)| slot.last_use).map(|(uri, _)| uri.clone()) else { return false };
        self.slots.remove(&oldest).is_some()
    }
}

fn suits(set: &JwkSet, wanted: Wanted<'_>) -> bool {
    match wanted {
        Wanted::AnyKey => !set.is_empty(),
        Wanted::Certificate(thumbprint) => {
            set.iter().filter_map(Jwk::certificate).any(|der| Thumbprint::of_der(der) == thumbprint)
        }
        Wanted::Kid(kid) => set.has_kid(kid),
    }
}

#[cfg(test)]
mod tests {
    use certbind_proto::jws::{Algorithm, SigningKey};

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(1_000_000 + seconds)
    }

    fn set_of(kid: &str) -> Arc<JwkSet> {
        let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
        Arc::new(JwkSet::new(vec![key.public_jwk(kid)]))
    }

    /// A cache with a set of the key `k` from `uri`, fetched at 0.
    fn holding(uri: &str, max_slots: usize) -> Cache {
        let mut cache = Cache::new(max_slots, 8);
        hold(&mut cache, uri, at(0));
        cache
    }

    fn hold(cache: &mut Cache, uri: &str, now: Timestamp) {
        let _sender = cache.begin(uri, now).unwrap();
        cache.end(uri, Some(set_of("k")));
    }

    #[test]
    fn rfc7515_4_1_4_an_unknown_kid_is_asked_for_within_the_cool_down_only() {
        let mut cache = holding("u", 8);
        for (wanted, now, expected) in [
            (Wanted::Kid("k"), 29, "Serve"),
            (Wanted::Kid("other"), 29, "Serve"),
            (Wanted::Kid("other"), 30, "Fetch"),
            (Wanted::Kid("../../k"), 29, "Serve"),
            (Wanted::AnyKey, 30, "Serve"),
            (Wanted::Certificate(Thumbprint::of_der(b"x")), 29, "Serve"),
            (Wanted::Certificate(Thumbprint::of_der(b"x")), 30, "Fetch"),
        ] {
            let next = format!("{:?}", cache.next("u", wanted, at(now)));
            assert!(next.starts_with(expected), "{wanted:?} at {now}: {next}");
        }
    }

    #[test]
    fn rfc8725_3_10_an_empty_set_keeps_the_cool_down() {
        let mut cache = holding("u", 8);
        let _sender = cache.begin("u", at(40)).unwrap();
        cache.end("u", Some(Arc::default()));
        assert!(matches!(cache.next("u", Wanted::AnyKey, at(69)), Next::Serve(set) if set.is_empty()));
        assert!(matches!(cache.next("u", Wanted::AnyKey, at(70)), Next::Fetch(Some(_))));
    }

    #[test]
    fn rfc8725_3_10_one_fetch_for_one_uri_and_so_many_in_all() {
        let mut cache = Cache::new(8, 2);
        assert!(cache.flight("a").is_none());
        let _a = cache.begin("a", at(0)).unwrap();
        assert!(cache.flight("a").is_some());
        assert!(matches!(cache.next("a", Wanted::AnyKey, at(1)), Next::Join(None)));
        let _b = cache.begin("b", at(0)).unwrap();
        assert!(cache.begin("c", at(0)).is_none(), "two are under way");
        cache.end("a", None);
        assert!(cache.flight("a").is_none());
        assert!(matches!(cache.next("a", Wanted::AnyKey, at(1)), Next::Refuse));
        assert!(matches!(cache.next("c", Wanted::AnyKey, at(1)), Next::Fetch(None)), "one that had to wait may try");
        assert!(cache.begin("c", at(1)).is_some());
    }

    #[test]
    fn the_set_that_was_not_used_for_the_longest_time_makes_room() {
        let mut cache = holding("a", 2);
        hold(&mut cache, "b", at(0));
        assert!(matches!(cache.next("a", Wanted::AnyKey, at(1)), Next::Serve(_)));
        hold(&mut cache, "c", at(2));
        assert_eq!(cache.slots.len(), 2);
        assert!(matches!(cache.next("a", Wanted::AnyKey, at(3)), Next::Serve(_)));
        assert!(matches!(cache.next("b", Wanted::AnyKey, at(3)), Next::Fetch(None)));
    }

    #[test]
    fn a_set_that_is_being_fetched_does_not_make_room() {
        let mut cache = Cache::new(1, 8);
        let _a = cache.begin("a", at(0)).unwrap();
        assert!(cache.begin("b", at(0)).is_none());
        cache.end("a", None);
        assert!(cache.begin("b", at(0)).is_some());
    }
}
