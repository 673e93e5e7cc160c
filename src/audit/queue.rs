//! The bounded queue before the thread that writes: it wakes the thread once for many lines, and at once for one that is waited for.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::receipt::Wanted;

/// How many bytes of lines may wait for the disk: some 16,000 lines.
const MAX_WAITING: usize = 16 << 20;
/// How long a line may wait for others to be written with it: to wake the thread for each costs more than the line itself.
const GATHER: Duration = Duration::from_millis(5);
/// How long the thread waits before it tries a failing disk again.
const PROBE: Duration = Duration::from_millis(500);

/// An event that is not yet written.
pub(super) struct Line {
    pub(super) json: Vec<u8>,
    pub(super) wanted: Option<Wanted>,
    /// What it takes of the queue's room, until that is given back.
    pub(super) room: usize,
}

impl Line {
    pub(super) fn new(json: Vec<u8>, wanted: Option<Wanted>) -> Self {
        let room = json.capacity() + size_of::<Self>();
        Self { json, wanted, room }
    }
}

/// What those who record and the thread that writes share.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    lost: AtomicU64,
    failing: AtomicBool,
}

#[derive(Default)]
struct State {
    lines: Vec<Line>,
    /// The room of these lines, and of those that the thread has and could not write.
    taken: usize,
    is_wanted: bool,
    closed: bool,
}

/// What the thread takes at once.
pub(super) struct Taken {
    pub(super) lines: Vec<Line>,
    /// Nothing comes after this.
    pub(super) is_last: bool,
}

impl Queue {
    /// Adds a line at the end, or counts it as lost.
    pub(super) fn push(&self, line: Line) {
        let mut state = self.lock();
        if state.closed || state.taken + line.room > MAX_WAITING {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let is_first_wanted = line.wanted.is_some() && !state.is_wanted;
        state.taken += line.room;
        state.is_wanted |= line.wanted.is_some();
        state.lines.push(line);
        // Only the first line finds the thread asleep without a time to wake up.
        if state.lines.len() == 1 || is_first_wanted {
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Waits for a line, or until this moment, and a little longer for others; takes all that is there.
    pub(super) fn take(&self, until: Instant) -> Taken {
        let mut state = self.lock();
        if self.is_failing() {
            state = self.wait(state, PROBE, |state| !state.closed);
        } else {
            let left = until.saturating_duration_since(Instant::now());
            state = self.wait(state, left, |state| state.lines.is_empty() && !state.closed);
            if !state.lines.is_empty() {
                state = self.wait(state, GATHER, |state| !state.is_wanted && !state.closed);
            }
        }
        state.is_wanted = false;
        Taken { lines: std::mem::take(&mut state.lines), is_last: state.closed }
    }

    /// So much room is free again: lines are written, or dropped.
    pub(super) fn free(&self, room: usize) {
        let mut state = self.lock();
        state.taken = state.taken.saturating_sub(room);
    }

    /// No line is added from here on.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// How many lines were lost and not yet told.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// So many lost lines were told.
    pub(super) fn told(&self, lost: u64) {
        self.lost.fetch_sub(lost, Ordering::Relaxed);
    }

    pub(super) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Whether the disk fails from here on; gives what was before.
    pub(super) fn set_failing(&self, failing: bool) -> bool {
        self.failing.swap(failing, Ordering::Relaxed)
    }

    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        time: Duration,
        pending: impl FnMut(&mut State) -> bool,
    ) -> MutexGuard<'a, State> {
        let mut pending = pending;
        self.changed.wait_timeout_while(state, time, |state| pending(state)).unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
