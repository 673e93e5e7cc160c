//! What the parts of the engine tell each other without asking the database.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use certbind_proto::time::Timestamp;
use tokio::sync::{Notify, watch};

use super::super::{Revisions, StoreError};

/// The state that all connections share.
pub(super) struct Shared {
    pub(super) changes: watch::Sender<Revisions>,
    entries: AtomicU64,
    healthy: AtomicBool,
    fence: AtomicI64,
    follower: Notify,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            changes: watch::Sender::default(),
            entries: AtomicU64::new(0),
            healthy: AtomicBool::new(true),
            fence: AtomicI64::new(i64::MIN),
            follower: Notify::new(),
        }
    }
}

impl Shared {
    /// Has the follower look at the database now.
    pub(super) fn wake_follower(&self) {
        self.follower.notify_one();
    }

    /// Waits until the follower is to look.
    pub(super) async fn woken(&self) {
        self.follower.notified().await;
    }

    /// Tells the revisions when one has grown. They come over several connections, so older ones may come later.
    pub(super) fn tell(&self, found: Revisions) {
        self.changes.send_if_modified(|known| {
            let newest = Revisions {
                clients: known.clients.max(found.clients),
                keys: known.keys.max(found.keys),
                revocations: known.revocations.max(found.revocations),
            };
            std::mem::replace(known, newest) != newest
        });
    }

    pub(super) fn fence(&self) -> Timestamp {
        Timestamp::from_millis(self.fence.load(Ordering::Acquire))
    }

    pub(super) fn raise_fence(&self, fence: Timestamp) {
        self.fence.fetch_max(fence.millis(), Ordering::AcqRel);
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// The database answered.
    pub(super) fn recovered(&self) {
        if !self.healthy.swap(true, Ordering::Relaxed) {
            tracing::info!("the store works again");
        }
    }

    /// The database did not answer, so nobody else needs to wait for it until it does.
    pub(super) fn failed(&self, error: &StoreError) {
        if self.healthy.swap(false, Ordering::Relaxed) {
            tracing::error!(error = error as &dyn std::error::Error, "the store fails; no assertion is accepted");
        }
        self.wake_follower();
    }

    pub(super) fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    pub(super) fn count_entries(&self, entries: u64) {
        self.entries.store(entries, Ordering::Relaxed);
    }

    pub(super) fn add_entries(&self, more: usize) {
        self.entries.fetch_add(more as u64, Ordering::Relaxed);
    }
}
