//! How many connections may be open at once: a number that may change while they come and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the open connections of the listeners that share it.
#[derive(Debug)]
pub struct Capacity {
    open: AtomicUsize,
    most: AtomicUsize,
}

/// A connection's place among the open ones.
#[derive(Debug)]
pub(super) struct Place(Arc<Capacity>);

impl Capacity {
    /// Room for so many.
    #[must_use]
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { open: AtomicUsize::new(0), most: AtomicUsize::new(most) })
    }

    /// Room for so many from now on. If more are open, none is closed, and none admitted until there is room.
    pub fn set(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// A place, if there is one.
    pub(super) fn admit(self: &Arc<Self>) -> Option<Place> {
        let most = self.most.load(Ordering::Relaxed);
        let one_more = |open| (open < most).then_some(open + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Place(Arc::clone(self)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smaller_capacity_closes_nothing_and_admits_nobody_until_there_is_room() {
        let capacity = Capacity::new(2);
        let (first, second) = (capacity.admit().unwrap(), capacity.admit().unwrap());
        assert!(capacity.admit().is_none());
        capacity.set(1);
        drop(first);
        assert!(capacity.admit().is_none());
        drop(second);
        let only = capacity.admit();
        assert!(only.is_some() && capacity.admit().is_none());
        capacity.set(2);
        assert!(capacity.admit().is_some());
    }
}
