//! Follows the clients' folder: told by inotify, and by a slow poll where that is not told everything (NFS).

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::file::{Report, Shared};
use super::folder::Look;

/// An editor writes in several steps; they are taken together when nothing comes for this long.
const QUIET: Duration = Duration::from_millis(50);

/// But a folder that never rests is looked at this often.
const NO_LATER: Duration = Duration::from_millis(300);

/// How often the files' identities are compared when the system tells changes.
const POLL: Duration = Duration::from_secs(10);

/// And when it does not.
const POLL_ALONE: Duration = Duration::from_millis(700);

/// The poll takes at most a hundredth of the time, however many files there are.
const POLL_SHARE: u32 = 100;

/// The most folders besides the clients' own that are followed; the poll sees the others.
const MAX_DIRS: usize = 64;

/// A running watch. It ends when this is dropped.
#[must_use = "dropping it ends the watch"]
pub struct Watch {
    wake: Sender<Wake>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Watch {
    pub(super) fn start(shared: Arc<Shared>, listener: Box<dyn Fn(&Report) + Send>) -> Self {
        let (wake, woken) = mpsc::channel();
        let mut follower = Follower::new(shared, listener, wake.clone());
        let thread = thread::Builder::new().name("clients".into()).spawn(move || follower.run(&woken));
        if let Err(error) = &thread {
            tracing::error!(%error, "the clients' folder is not followed");
        }
        Self { wake, thread: thread.ok() }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.wake.send(Wake::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

enum Wake {
    Told(notify::Result<Event>),
    End,
}

struct Follower {
    shared: Arc<Shared>,
    listener: Box<dyn Fn(&Report) + Send>,
    watcher: Option<RecommendedWatcher>,
    dir: PathBuf,
    followed: HashSet<PathBuf>,
    next_poll: Instant,
}

impl Follower {
    fn new(shared: Arc<Shared>, listener: Box<dyn Fn(&Report) + Send>, wake: Sender<Wake>) -> Self {
        let tell = move |event| drop(wake.send(Wake::Told(event)));
        let watcher = notify::recommended_watcher(tell)
            .inspect_err(|error| tracing::warn!(%error, "the system tells no file changes; they are polled"))
            .ok();
        let dir = shared.folder().dir().to_owned();
        Self { shared, listener, watcher, dir, followed: HashSet::new(), next_poll: Instant::now() }
    }

    fn run(&mut self, woken: &Receiver<Wake>) {
        self.follow();
        // The first poll is due at once: it sees what changed between the first reading and the first watch.
        while let Some(look) = self.wait(woken) {
            self.look(&look);
        }
    }

    /// Waits for the next reason to look; `None` at the end.
    fn wait(&self, woken: &Receiver<Wake>) -> Option<Look> {
        let mut hints = Hints::default();
        let left = self.next_poll.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Some(Look::Changed);
        }
        match woken.recv_timeout(left) {
            Err(RecvTimeoutError::Timeout) => return Some(Look::Changed),
            Err(RecvTimeoutError::Disconnected) | Ok(Wake::End) => return None,
            Ok(Wake::Told(event)) => hints.add(event, &self.dir),
        }
        let start = Instant::now();
        while start.elapsed() < NO_LATER {
            match woken.recv_timeout(QUIET) {
                Err(_) => break,
                Ok(Wake::End) => return None,
                Ok(Wake::Told(event)) => hints.add(event, &self.dir),
            }
        }
        Some(hints.look())
    }

    fn look(&mut self, look: &Look) {
        if matches!(look, Look::At(paths) if paths.is_empty()) {
            return;
        }
        let start = Instant::now();
        let report = self.shared.refresh(look);
        if !report.is_empty() {
            (self.listener)(&report);
            self.follow();
        }
        if matches!(look, Look::Changed) {
            // The folder may be another one by now.
            self.followed.clear();
            let alone = !self.follow();
            let shortest = if alone { POLL_ALONE } else { POLL };
            self.next_poll = start + shortest.max(start.elapsed() * POLL_SHARE);
        }
    }

    /// Asks for changes of the folder and of those that files name. Says whether the folder itself is followed.
    fn follow(&mut self) -> bool {
        let others = self.shared.folder().other_dirs();
        let Some(watcher) = &mut self.watcher else { return false };
        for dir in std::iter::once(self.dir.clone()).chain(others.into_iter().take(MAX_DIRS)) {
            if !self.followed.contains(&dir) && watcher.watch(&dir, RecursiveMode::NonRecursive).is_ok() {
                self.followed.insert(dir);
            }
        }
        self.followed.contains(&self.dir)
    }
}

/// What the system told.
#[derive(Default)]
struct Hints {
    all: bool,
    paths: HashSet<PathBuf>,
}

impl Hints {
    fn add(&mut self, event: notify::Result<Event>, dir: &Path) {
        let Ok(event) = event else {
            self.all = true;
            return;
        };
        // Reading a file is told as well; our own reading would never end.
        let write = EventKind::Access(AccessKind::Close(AccessMode::Write));
        if matches!(event.kind, EventKind::Access(_)) && event.kind != write {
            return;
        }
        self.all |= event.need_rescan() || event.paths.iter().any(|path| path == dir || is_swap(path));
        self.paths.extend(event.paths);
    }

    fn look(self) -> Look {
        if self.all { Look::Changed } else { Look::At(self.paths) }
    }
}

/// Kubernetes swaps the link `..data`, behind which every file is another one then.
fn is_swap(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".."))
}
