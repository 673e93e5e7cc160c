//! A key set that was fetched: how long it is used, and when it may be asked for again (RFC 8725 §3.10; RFC 8705 §2.2.2).
//!
//! The server keeps its clients' sets by these rules, the resource server its issuer's. Nothing here waits or fetches:
//! [`KeptKeys::next`] says what to do, and whoever does it reports back.

use std::sync::Arc;
use std::time::Duration;

use crate::jwk::JwkSet;
use crate::time::Timestamp;

/// How long a set is used, and how often it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// The least time from one fetch to the next, whatever arrives and however the first one ended.
    pub cool_down: Duration,
    /// From this age on a set is used once more while a new one is fetched. A busy peer never waits.
    pub refresh_after: Duration,
    /// From this age on a set is not used before a fetch was tried: what its owner withdrew stops to count.
    pub max_age: Duration,
    /// From this age on a set is not used at all, though its owner cannot be reached.
    pub stale_limit: Duration,
}

/// A key set, when it was fetched, and how the last fetch went.
#[derive(Clone, Debug, Default)]
pub struct KeptKeys {
    kept: Option<Kept>,
    last: Option<Attempt>,
}

#[derive(Clone, Debug)]
struct Kept {
    set: Arc<JwkSet>,
    fetched: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Attempt {
    began: Timestamp,
    /// Whether the one before it failed.
    follows_failure: bool,
    progress: Progress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Failed,
    Running,
    Succeeded,
}

/// What to do for one who wants a key.
#[derive(Clone, Debug)]
pub enum Next {
    /// Fetch, and use what comes; when nothing comes, the set of before is still good enough, if there is one.
    Fetch(Option<Arc<JwkSet>>),
    /// Wait for the fetch that is under way; otherwise as [`Self::Fetch`].
    Join(Option<Arc<JwkSet>>),
    /// Use this set at once, and fetch a new one meanwhile.
    Refresh(Arc<JwkSet>),
    /// There are no keys, and it is too early to ask again.
    Refuse,
    /// Use this set.
    Serve(Arc<JwkSet>),
}

impl KeptKeys {
    /// What to do at `now` for one who wants a set that `suits`. A set that does not suit is asked for again within the
    /// cool-down; so is an empty one, and one that could not be had.
    #[must_use]
    pub fn next(&self, suits: impl FnOnce(&JwkSet) -> bool, freshness: &Freshness, now: Timestamp) -> Next {
        let fetch = self.fetch(freshness, now);
        let Some((set, age)) = self.usable(freshness, now) else {
            return match fetch {
                Fetch::May => Next::Fetch(None),
                Fetch::Runs => Next::Join(None),
                Fetch::TooEarly => Next::Refuse,
            };
        };
        let is_good_at_once = suits(&set) && (age < freshness.max_age || self.has_failed());
        match fetch {
            Fetch::May if is_good_at_once && age < freshness.refresh_after => Next::Serve(set),
            Fetch::May if is_good_at_once => Next::Refresh(set),
            Fetch::May => Next::Fetch(Some(set)),
            Fetch::Runs if is_good_at_once => Next::Serve(set),
            Fetch::Runs => Next::Join(Some(set)),
            Fetch::TooEarly => Next::Serve(set),
        }
    }

    /// The set, unless it is over its stale limit.
    #[must_use]
    pub fn set(&self, freshness: &Freshness, now: Timestamp) -> Option<Arc<JwkSet>> {
        self.usable(freshness, now).map(|(set, _)| set)
    }

    /// A fetch begins.
    pub fn begin(&mut self, now: Timestamp) {
        let follows_failure = self.last.is_some_and(|last| last.progress != Progress::Succeeded);
        self.last = Some(Attempt { began: now, follows_failure, progress: Progress::Running });
    }

    /// The fetch that began last brought a set. It is as old as that fetch: what its owner withdrew since may be in it.
    /// An empty one counts as well, as its owner takes all keys back.
    pub fn succeed(&mut self, set: Arc<JwkSet>) {
        if let Some(last) = &mut self.last {
            last.progress = Progress::Succeeded;
            self.kept = Some(Kept { set, fetched: last.began });
        }
    }

    /// The fetch that began last brought nothing. The set of before stays.
    pub fn fail(&mut self) {
        if let Some(last) = &mut self.last {
            last.progress = Progress::Failed;
        }
    }

    /// Something has changed that may have stood in the way: after a fetch that brought nothing the next may begin at once.
    pub fn retry_now(&mut self) {
        self.last.take_if(|last| last.progress == Progress::Failed);
    }

    fn usable(&self, freshness: &Freshness, now: Timestamp) -> Option<(Arc<JwkSet>, Duration)> {
        let kept = self.kept.as_ref()?;
        let age = elapsed(kept.fetched, freshness, now);
        (age < freshness.stale_limit).then(|| (kept.set.clone(), age))
    }

    fn fetch(&self, freshness: &Freshness, now: Timestamp) -> Fetch {
        match self.last {
            Some(last) if elapsed(last.began, freshness, now) < freshness.cool_down => match last.progress {
                Progress::Running => Fetch::Runs,
                Progress::Failed | Progress::Succeeded => Fetch::TooEarly,
            },
            _ => Fetch::May,
        }
    }

    /// Whether the last fetch that could have ended by now brought nothing: nobody waits twice for an owner who is away.
    fn has_failed(&self) -> bool {
        self.last.is_some_and(|last| match last.progress {
            Progress::Failed => true,
            Progress::Running => last.follows_failure,
            Progress::Succeeded => false,
        })
    }
}

enum Fetch {
    May,
    Runs,
    TooEarly,
}

/// How long ago `then` was. Requests that run side by side may be a little apart; a moment further ahead than that means
/// that the clock was set back, and says nothing any more.
fn elapsed(then: Timestamp, freshness: &Freshness, now: Timestamp) -> Duration {
    if then > now.plus(freshness.cool_down) { Duration::MAX } else { now.since(then) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FRESHNESS: Freshness = Freshness {
        cool_down: Duration::from_secs(30),
        refresh_after: Duration::from_secs(300),
        max_age: Duration::from_secs(600),
        stale_limit: Duration::from_secs(3600),
    };
    /// When the set of [`fetched`] was fetched.
    const THEN: i64 = 1_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(THEN + seconds)
    }

    fn fetched() -> KeptKeys {
        let mut keys = KeptKeys::default();
        keys.begin(at(0));
        keys.succeed(Arc::new(JwkSet::default()));
        keys
    }

    fn failed_at(mut keys: KeptKeys, seconds: i64) -> KeptKeys {
        keys.begin(at(seconds));
        keys.fail();
        keys
    }

    fn running_since(mut keys: KeptKeys, seconds: i64) -> KeptKeys {
        keys.begin(at(seconds));
        keys
    }

    /// The decision, and whether a set of before goes with it.
    fn word(next: &Next) -> &'static str {
        match next {
            Next::Fetch(None) => "fetch",
            Next::Fetch(Some(_)) => "fetch or keep",
            Next::Join(None) => "join",
            Next::Join(Some(_)) => "join or keep",
            Next::Refresh(_) => "refresh",
            Next::Refuse => "refuse",
            Next::Serve(_) => "serve",
        }
    }

    #[test]
    fn rfc8725_3_10_what_is_done_at_which_age() {
        let none = KeptKeys::default;
        for (name, keys, suits, now, expected) in [
            ("nothing yet", none(), true, 0, "fetch"),
            ("just fetched", fetched(), true, 0, "serve"),
            ("just fetched, by a request that began before", fetched(), true, -1, "serve"),
            ("fresh", fetched(), true, 299, "serve"),
            ("ageing", fetched(), true, 300, "refresh"),
            ("old", fetched(), true, 600, "fetch or keep"),
            ("nearly over", fetched(), true, 3599, "fetch or keep"),
            ("over", fetched(), true, 3600, "fetch"),
            ("unsuitable, asked just now", fetched(), false, 29, "serve"),
            ("unsuitable", fetched(), false, 30, "fetch or keep"),
            ("unsuitable and ageing", fetched(), false, 300, "fetch or keep"),
            ("never had, failed just now", failed_at(none(), 0), true, 29, "refuse"),
            ("never had, failed before", failed_at(none(), 0), true, 30, "fetch"),
            ("ageing, failed just now", failed_at(fetched(), 300), true, 329, "serve"),
            ("old, failed just now", failed_at(fetched(), 600), true, 629, "serve"),
            ("old, failed before", failed_at(fetched(), 600), true, 630, "refresh"),
            ("unsuitable, failed just now", failed_at(fetched(), 600), false, 629, "serve"),
            ("unsuitable, failed before", failed_at(fetched(), 600), false, 630, "fetch or keep"),
            ("over, failed just now", failed_at(fetched(), 3590), true, 3600, "refuse"),
            ("over, failed before", failed_at(fetched(), 3570), true, 3600, "fetch"),
            ("never had, under way", running_since(none(), 0), true, 29, "join"),
            ("never had, under way for too long", running_since(none(), 0), true, 30, "fetch"),
            ("ageing, under way", running_since(fetched(), 300), true, 301, "serve"),
            ("unsuitable, under way", running_since(fetched(), 300), false, 301, "join or keep"),
            ("old, under way", running_since(fetched(), 600), true, 601, "join or keep"),
            ("old, under way again", running_since(failed_at(fetched(), 600), 630), true, 631, "serve"),
            ("unsuitable, under way again", running_since(failed_at(fetched(), 600), 630), false, 631, "join or keep"),
            ("over, under way", running_since(fetched(), 3600), true, 3601, "join"),
            ("the clock was set back", fetched(), true, -31, "fetch"),
            ("the clock was set back during a fetch", running_since(none(), 0), true, -31, "fetch"),
        ] {
            assert_eq!(word(&keys.next(|_| suits, &FRESHNESS, at(now))), expected, "{name}");
        }
    }

    #[test]
    fn rfc8705_2_2_2_a_new_set_replaces_the_old_one_and_a_failure_does_not() {
        let mut keys = failed_at(fetched(), 600);
        assert!(keys.set(&FRESHNESS, at(3599)).is_some());
        assert!(keys.set(&FRESHNESS, at(3600)).is_none());
        let newer = Arc::new(JwkSet::default());
        keys.begin(at(700));
        keys.succeed(newer.clone());
        assert!(keys.set(&FRESHNESS, at(700)).is_some_and(|set| Arc::ptr_eq(&set, &newer)));
        assert!(keys.set(&FRESHNESS, at(700 + 3599)).is_some(), "its age counts from its own fetch");
    }

    #[test]
    fn after_a_failure_somebody_may_say_that_the_next_fetch_need_not_wait() {
        let next = |mut keys: KeptKeys, now| {
            keys.retry_now();
            word(&keys.next(|_| false, &FRESHNESS, at(now)))
        };
        assert_eq!(next(failed_at(KeptKeys::default(), 0), 1), "fetch");
        assert_eq!(next(failed_at(fetched(), 600), 601), "fetch or keep");
        assert_eq!(next(fetched(), 1), "serve", "one that brought a set is not repeated");
        assert_eq!(next(running_since(fetched(), 600), 601), "join or keep", "nor is there a second one beside it");
    }

    #[test]
    fn an_outcome_without_a_fetch_is_none() {
        let mut keys = KeptKeys::default();
        keys.succeed(Arc::new(JwkSet::default()));
        keys.fail();
        assert_eq!(word(&keys.next(|_| true, &FRESHNESS, at(0))), "fetch");
    }

    proptest! {
        /// Whatever is wanted and however fetches end: never two within the cool-down, never a set over its limit.
        #[test]
        fn rfc8725_3_10_fetches_keep_their_distance(
            steps in proptest::collection::vec((0i64..40, any::<bool>(), 0u8..3), 0..200),
        ) {
            let (mut keys, mut now, mut last) = (KeptKeys::default(), 0, None::<i64>);
            let mut brought = None;
            for (pause, suits, outcome) in steps {
                now += pause;
                match keys.next(|_| suits, &FRESHNESS, at(now)) {
                    Next::Fetch(_) | Next::Refresh(_) => {
                        prop_assert!(last.is_none_or(|last| now - last >= 30));
                        last = Some(now);
                        keys.begin(at(now));
                        match outcome {
                            0 => keys.fail(),
                            1 => {
                                keys.succeed(Arc::new(JwkSet::default()));
                                brought = Some(now);
                            }
                            _ => {}
                        }
                    }
                    Next::Serve(_) => prop_assert!(brought.is_some_and(|then| now - then < 3600)),
                    Next::Join(_) | Next::Refuse => {}
                }
            }
        }
    }
}
