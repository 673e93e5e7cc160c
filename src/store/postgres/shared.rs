//! What the parts of the engine tell each other without asking the database.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use certbind_proto::time::Timestamp;
use tokio::sync::{Notify, watch};

use super::super::{Revisions, StoreError};

/// The state that all connections share.
pub(super) struct Shared {
    pub(super) changes: watch::Sender<Revisions>,
    entries: AtomicU64,
    /// Whether the database answered last.
    answers: AtomicBool,
    /// Whether the last use that was tried could be recorded.
    records: AtomicBool,
    /// Whether the log says that the store fails.
    is_told: AtomicBool,
    fence: AtomicI64,
    follower: Notify,
    prober: Notify,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            changes: watch::Sender::default(),
            entries: AtomicU64::new(0),
            answers: AtomicBool::new(true),
            records: AtomicBool::new(true),
            is_told: AtomicBool::new(false),
            fence: AtomicI64::new(i64::MIN),
            follower: Notify::new(),
            prober: Notify::new(),
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

    /// Whether a request that needs the store can be served.
    pub(super) fn is_healthy(&self) -> bool {
        self.answers() && self.records()
    }

    pub(super) fn answers(&self) -> bool {
        self.answers.load(Ordering::Relaxed)
    }

    pub(super) fn records(&self) -> bool {
        self.records.load(Ordering::Relaxed)
    }

    /// The database answered.
    pub(super) fn answered(&self) {
        self.answers.store(true, Ordering::Relaxed);
        self.tell_recovery();
    }

    /// A use could be recorded.
    pub(super) fn recorded(&self) {
        self.records.store(true, Ordering::Relaxed);
        self.tell_recovery();
    }

    /// The database did not answer, so nobody else needs to wait for it until it does.
    pub(super) fn failed(&self, error: &StoreError) {
        self.answers.store(false, Ordering::Relaxed);
        self.tell_failure(error);
        self.wake_follower();
    }

    /// The database answers, but does not record uses. That it answers other questions is no sign that it does again.
    pub(super) fn refused(&self, error: &StoreError) {
        let was_recording = self.records.swap(false, Ordering::Relaxed);
        self.tell_failure(error);
        if was_recording {
            self.prober.notify_one();
        }
    }

    /// Waits until a use could not be recorded.
    pub(super) async fn doubted(&self) {
        self.prober.notified().await;
    }

    fn tell_failure(&self, error: &StoreError) {
        if !self.is_told.swap(true, Ordering::Relaxed) {
            tracing::error!(error = error as &dyn std::error::Error, "the store fails; no assertion is accepted");
        }
    }

    fn tell_recovery(&self) {
        if self.is_healthy() && self.is_told.swap(false, Ordering::Relaxed) {
            tracing::info!("the store works again");
        }
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
