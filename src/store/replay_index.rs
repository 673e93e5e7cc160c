//! The used keys in memory: a look-up that costs the same for ten keys and for a million.
//!
//! Nothing is ever evicted to make room. A key leaves when its time is over, and then the *horizon* moves up to it:
//! whatever was to be kept no longer than the horizon may be forgotten, and is refused without look-up. So a clock that
//! is set back does not make an old assertion good again (the attack: wait for the sweep, set the clock, replay).

use std::collections::HashMap;
use std::time::Duration;

use certbind_proto::time::Timestamp;

use super::ReplayKey;

/// Keys are spread over this many maps, so that neither growing one nor sweeping one takes long.
const SHARDS: usize = 256;

/// How long a key stays after its time while there is room: a clock that is set back by less loses nothing.
const GRACE: Duration = Duration::from_secs(3600 + 60);

/// Up to this many keys there is room (some 16 MiB).
const ROOM: usize = 1 << 18;

/// Keys that are held, and the horizon below which they are forgotten.
#[derive(Debug)]
pub(crate) struct ReplayIndex {
    shards: Vec<HashMap<ReplayKey, Timestamp>>,
    held: usize,
    horizon: Timestamp,
    next_shard: usize,
    unswept: usize,
}

/// What the index knows of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It was not used, or its time is over.
    Fresh,
    /// It was used.
    Used,
    /// It would lie below the horizon: no longer known.
    Forgotten,
}

impl ReplayIndex {
    /// Holds nothing.
    pub(crate) fn new() -> Self {
        let shards = (0..SHARDS).map(|_| HashMap::new()).collect();
        Self { shards, held: 0, horizon: Timestamp::from_millis(i64::MIN), next_shard: 0, unswept: 0 }
    }

    /// What is known of `key` when it is to be kept until `keep_until`.
    pub(crate) fn look(&self, key: &ReplayKey, keep_until: Timestamp, now: Timestamp) -> Known {
        match self.shards[shard_of(key)].get(key) {
            // The second condition refuses the same assertion for as long as it is held, whatever the clock says.
            Some(held) if now <= *held || keep_until <= *held => Known::Used,
            _ if keep_until <= self.horizon => Known::Forgotten,
            _ => Known::Fresh,
        }
    }

    /// Holds `key`; of two times the later one counts.
    pub(crate) fn insert(&mut self, key: ReplayKey, keep_until: Timestamp) {
        let shard = &mut self.shards[shard_of(&key)];
        let held = shard.entry(key).or_insert_with(|| {
            self.held += 1;
            keep_until
        });
        *held = keep_until.max(*held);
    }

    /// How many keys are held.
    pub(crate) const fn held(&self) -> usize {
        self.held
    }

    /// Everything kept until here or shorter may be forgotten.
    pub(crate) const fn horizon(&self) -> Timestamp {
        self.horizon
    }

    /// Takes over a horizon that was found on disk.
    pub(crate) fn raise_horizon(&mut self, horizon: Timestamp) {
        self.horizon = self.horizon.max(horizon);
    }

    /// Drops keys whose time is over, in a step of bounded size, after every few of `calls`.
    pub(crate) fn sweep(&mut self, calls: usize, now: Timestamp) {
        self.unswept += calls;
        // Each call pays for eight keys to be looked at, so at most an eighth of what is held is out of date.
        let step = (self.held / SHARDS / 8).max(16);
        while self.unswept >= step {
            self.unswept -= step;
            self.sweep_shard(now);
        }
    }

    fn sweep_shard(&mut self, now: Timestamp) {
        let grace = if self.held <= ROOM { GRACE } else { Duration::ZERO };
        let shard = &mut self.shards[self.next_shard];
        let before = shard.len();
        let mut highest = self.horizon;
        shard.retain(|_, keep_until| {
            let live = now <= keep_until.plus(grace);
            if !live {
                highest = highest.max(*keep_until);
            }
            live
        });
        self.held -= before - shard.len();
        if shard.capacity() > 4 * shard.len() + 64 {
            shard.shrink_to(2 * shard.len());
        }
        self.horizon = highest;
        self.next_shard = (self.next_shard + 1) % SHARDS;
    }
}

fn shard_of(key: &ReplayKey) -> usize {
    usize::from(key.as_bytes()[0]) % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix(1_795_375_800);
    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3600);

    fn key(n: usize) -> ReplayKey {
        ReplayKey::of("batch", &n.to_string())
    }

    fn sweep_all(index: &mut ReplayIndex, now: Timestamp) {
        for _ in 0..SHARDS {
            index.sweep_shard(now);
        }
    }

    #[test]
    fn r7523_3_7b_a_key_is_used_until_its_time_inclusive() {
        let mut index = ReplayIndex::new();
        let until = NOW.plus(MINUTE);
        assert_eq!(index.look(&key(1), until, NOW), Known::Fresh);
        index.insert(key(1), until);
        let later = until.plus(HOUR);
        for (now, keep_until, known) in [
            (NOW, until, Known::Used),
            (until, later, Known::Used),
            (until.plus(Duration::from_millis(1)), later, Known::Fresh),
            (until.plus(Duration::from_millis(1)), until, Known::Used),
        ] {
            assert_eq!(index.look(&key(1), keep_until, now), known, "at {now} until {keep_until}");
        }
    }

    #[test]
    fn fault_6_a_clock_an_hour_ahead_forgets_nothing_that_is_still_good() {
        let mut index = ReplayIndex::new();
        index.insert(key(1), NOW.plus(MINUTE));
        sweep_all(&mut index, NOW.plus(HOUR));
        assert_eq!(index.look(&key(1), NOW.plus(MINUTE), NOW), Known::Used);
    }

    #[test]
    fn fault_6_a_clock_ten_years_ahead_and_back_re_opens_nothing() {
        let mut index = ReplayIndex::new();
        index.insert(key(1), NOW.plus(MINUTE));
        sweep_all(&mut index, NOW.plus(HOUR * 24 * 3650));
        assert_eq!(index.held(), 0);
        assert_eq!(index.look(&key(1), NOW.plus(MINUTE), NOW), Known::Forgotten);
        assert_eq!(index.look(&key(2), NOW.plus(2 * MINUTE), NOW), Known::Fresh, "what ends later is told apart");
    }

    #[test]
    fn fault_6_a_clock_set_back_by_an_hour_re_opens_nothing_also_when_there_is_no_room() {
        let mut index = ReplayIndex::new();
        for n in 0..=ROOM {
            index.insert(key(n), NOW.plus(MINUTE));
        }
        sweep_all(&mut index, NOW.plus(2 * MINUTE));
        assert!(index.held() < ROOM + 1, "what is over went when there was no room");
        for n in 0..=ROOM {
            assert_ne!(index.look(&key(n), NOW.plus(MINUTE), NOW.minus(HOUR)), Known::Fresh);
        }
    }

    #[test]
    fn fault_22_the_index_shrinks_when_the_keys_are_over() {
        let mut index = ReplayIndex::new();
        for n in 0..20_000 {
            index.insert(key(n), NOW);
        }
        index.sweep(SHARDS * 20_000, NOW.plus(2 * HOUR));
        assert_eq!(index.held(), 0);
        assert!(index.shards.iter().map(HashMap::capacity).sum::<usize>() < 1000);
    }
}
