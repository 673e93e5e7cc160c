//! A thread of its own that looks at files again and again.
//!
//! Reading a file waits on the disk, and reading a large one computes: no request may wait for that, and no other work
//! may stand before a revocation.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How often files' identities are looked at. A handful of `stat` calls; a revocation counts within this time.
pub(super) const EVERY: Duration = Duration::from_millis(250);

/// Looks until it is dropped.
pub(super) struct Poll {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Poll {
    /// Looks for the first time at once.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn start(name: &str, mut look: impl FnMut() + Send + 'static) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let follow = move || {
            while !stopped.load(Ordering::Relaxed) {
                look();
                thread::park_timeout(EVERY);
            }
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(follow)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}
