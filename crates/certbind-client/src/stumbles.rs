//! How many new credentials in a row may fail before the next one waits: files that change each second must not make a
//! request each.

use std::time::Duration;

use certbind_proto::time::Timestamp;

use crate::cache::Failure;

/// How many new credentials may fail at once, each with a first request that waits for nothing.
const FREE: u32 = 3;
/// One more may after this time.
const REGAINED: Duration = Duration::from_secs(300);

/// What became of the first requests of new credentials.
pub(crate) struct Stumbles {
    free: u32,
    last: Option<Failure>,
    /// Up to when it was counted what has been regained.
    counted: Timestamp,
}

impl Stumbles {
    pub(crate) const fn new(now: Timestamp) -> Self {
        Self { free: FREE, last: None, counted: now }
    }

    /// A new credential has failed for the first time.
    pub(crate) fn note(&mut self, failure: &Failure, now: Timestamp) {
        self.regain(now);
        self.free = self.free.saturating_sub(1);
        self.last = Some(failure.clone());
    }

    /// The failure whose pause the next new credential goes on with, if too many have failed.
    pub(crate) fn handed_down(&mut self, now: Timestamp) -> Option<Failure> {
        self.regain(now);
        self.last.clone().filter(|_| self.free == 0)
    }

    fn regain(&mut self, now: Timestamp) {
        // Nor does a clock that was put back make anybody wait.
        if self.free == FREE || now < self.counted {
            self.counted = now;
        }
        while self.free < FREE && REGAINED <= now.since(self.counted) {
            self.free += 1;
            self.counted = self.counted.plus(REGAINED);
        }
    }
}
