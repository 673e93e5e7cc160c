//! The bounded queue before the writer: it wakes the writer once for a group of calls instead of once for each.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::super::StoreError;

/// Calls that wait, first come first served.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    enough: Condvar,
    capacity: usize,
}

struct State<T> {
    waiting: Vec<T>,
    wake_at: usize,
    closed: bool,
}

/// How the writer wants to be woken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    /// How many calls to wait for once there is one.
    pub(super) expected: usize,
    /// But not longer than this.
    pub(super) gather: Duration,
    /// At most so many.
    pub(super) most: usize,
    /// Back after this time with nothing, when nothing came.
    pub(super) idle: Duration,
}

impl<T> Queue<T> {
    pub(super) const fn new(capacity: usize) -> Self {
        let state = State { waiting: Vec::new(), wake_at: 1, closed: false };
        Self { state: Mutex::new(state), enough: Condvar::new(), capacity }
    }

    /// Adds a call at the end, or refuses it at once.
    pub(super) fn push(&self, call: T) -> Result<(), StoreError> {
        let mut state = self.lock();
        if state.closed {
            return Err(StoreError::Stopped);
        }
        if state.waiting.len() >= self.capacity {
            return Err(StoreError::Busy);
        }
        state.waiting.push(call);
        let enough = state.waiting.len() == state.wake_at;
        drop(state);
        if enough {
            self.enough.notify_one();
        }
        Ok(())
    }

    /// Takes the next group; an empty one when nothing came. `None` when the queue is closed and empty.
    pub(super) fn take(&self, wish: Wish) -> Option<Vec<T>> {
        let mut state = self.wait(self.lock(), 1, wish.idle);
        if !state.waiting.is_empty() && state.waiting.len() < wish.expected {
            state = self.wait(state, wish.expected, wish.gather);
        }
        if state.waiting.is_empty() {
            return (!state.closed).then(Vec::new);
        }
        let count = state.waiting.len().min(wish.most);
        let rest = state.waiting.split_off(count);
        Some(std::mem::replace(&mut state.waiting, rest))
    }

    /// How many calls wait.
    pub(super) fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    /// No call is added from here on.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.enough.notify_one();
    }

    /// Closed, and what waits is dropped: nobody is going to serve it.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.waiting.clear();
    }

    fn wait<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<T>>,
        count: usize,
        time: Duration,
    ) -> MutexGuard<'a, State<T>> {
        let start = Instant::now();
        state.wake_at = count;
        while state.waiting.len() < count && !state.closed {
            let Some(left) = time.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) else { break };
            state = self.enough.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn wish(expected: usize, gather: Duration) -> Wish {
        Wish { expected, gather, most: 3, idle: Duration::ZERO }
    }

    #[test]
    fn a_full_queue_refuses_at_once_and_a_closed_one_for_good() {
        let queue = Queue::new(1);
        assert!(queue.push(1).is_ok());
        assert!(matches!(queue.push(2), Err(StoreError::Busy)));
        queue.close();
        assert!(matches!(queue.push(2), Err(StoreError::Stopped)));
        assert_eq!(queue.take(wish(1, HOUR)), Some(vec![1]), "what waited is still served");
        assert_eq!(queue.take(wish(1, HOUR)), None);
    }

    #[test]
    fn a_group_is_what_waits_up_to_its_size() {
        let queue = Queue::new(10);
        for n in 0..5 {
            queue.push(n).unwrap();
        }
        assert_eq!(queue.take(wish(2, HOUR)), Some(vec![0, 1, 2]));
        assert_eq!(queue.take(wish(2, HOUR)), Some(vec![3, 4]));
        assert_eq!(queue.take(wish(2, HOUR)), Some(vec![]));
    }

    #[test]
    fn a_group_waits_for_those_that_are_expected_but_not_for_ever() {
        let queue = Queue::new(10);
        queue.push(0).unwrap();
        assert_eq!(queue.take(wish(3, Duration::from_millis(1))), Some(vec![0]));
        std::thread::scope(|scope| {
            queue.push(0).unwrap();
            let taken = scope.spawn(|| queue.take(wish(3, HOUR)));
            queue.push(1).unwrap();
            queue.push(2).unwrap();
            assert_eq!(taken.join().unwrap(), Some(vec![0, 1, 2]));
        });
    }
}
