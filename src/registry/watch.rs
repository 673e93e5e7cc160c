//! Follows the clients' folder: told by inotify, and by a poll where that is not told everything (links, NFS).

use std::collections::{HashMap, HashSet};
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
use super::identity::Identity;

/// An editor writes in several steps; they are taken together when nothing comes for this long.
const QUIET: Duration = Duration::from_millis(50);

/// But a folder that never rests is looked at this often.
const NO_LATER: Duration = Duration::from_millis(300);

/// How often the folders' identities are compared, and those of the files while they are few: a link to a file is told
/// nowhere when that file changes, and a link to a folder is swapped in a folder that is not followed.
const POLL: Duration = Duration::from_millis(250);

/// When the system tells changes, looking at all files takes at most this part of the time, ...
const SHARE: u32 = 400;

/// ... unless the last look is as long ago as this.
const POLL_MANY: Duration = Duration::from_secs(10);

/// At most this part of the time when it does not, and however many files there are.
const SHARE_ALONE: u32 = 100;

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
    followed: Followed,
    next_poll: Instant,
}

/// The folders that the system tells of, by the one path that it has for each: the configuration may name them from where
/// the server was started, or by a link.
type Followed = HashMap<PathBuf, Place>;

/// What is followed there.
struct Place {
    identity: Identity,
    /// What the configuration and the files call it.
    names: Vec<PathBuf>,
}

impl Follower {
    fn new(shared: Arc<Shared>, listener: Box<dyn Fn(&Report) + Send>, wake: Sender<Wake>) -> Self {
        let tell = move |event| drop(wake.send(Wake::Told(event)));
        let watcher = notify::recommended_watcher(tell)
            .inspect_err(|error| tracing::warn!(%error, "the system tells no file changes; they are polled"))
            .ok();
        let dir = shared.folder().dir().to_owned();
        Self { shared, listener, watcher, dir, followed: HashMap::new(), next_poll: Instant::now() }
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
        if left.is_zero() || self.is_elsewhere() {
            return Some(Look::Changed);
        }
        match woken.recv_timeout(left.min(POLL)) {
            Err(RecvTimeoutError::Timeout) => return Some(Look::At(HashSet::new())),
            Err(RecvTimeoutError::Disconnected) | Ok(Wake::End) => return None,
            Ok(Wake::Told(event)) => hints.add(event, &self.followed),
        }
        let start = Instant::now();
        while start.elapsed() < NO_LATER {
            match woken.recv_timeout(QUIET) {
                Err(_) => break,
                Ok(Wake::End) => return None,
                Ok(Wake::Told(event)) => hints.add(event, &self.followed),
            }
        }
        Some(hints.look())
    }

    /// Whether a name leads to another folder than the one that is followed: a link was swapped, or a folder moved.
    fn is_elsewhere(&self) -> bool {
        let leads_elsewhere = |place: &Place, name: &PathBuf| {
            Identity::at(name).is_some_and(|found| !found.is_same_place(&place.identity))
        };
        self.followed.values().any(|place| place.names.iter().any(|name| leads_elsewhere(place, name)))
    }

    fn look(&mut self, look: &Look) {
        if matches!(look, Look::At(paths) if paths.is_empty()) {
            return;
        }
        let start = Instant::now();
        let report = self.shared.refresh(look);
        let took = start.elapsed();
        if !report.is_empty() {
            (self.listener)(&report);
        }
        if !report.is_empty() || matches!(look, Look::Changed) {
            let is_told = self.follow();
            if matches!(look, Look::Changed) {
                self.next_poll = start + until_next(is_told, took);
            }
        }
    }

    /// Asks for changes of the folder and of those that files name. Says whether the folder itself is followed.
    fn follow(&mut self) -> bool {
        let mut others: Vec<_> = self.shared.folder().other_dirs().into_iter().collect();
        others.sort_unstable();
        let Some(watcher) = &mut self.watcher else { return false };
        let mut followed = Followed::new();
        for name in std::iter::once(self.dir.clone()).chain(others.into_iter().take(MAX_DIRS)) {
            let (Ok(path), Some(identity)) = (name.canonicalize(), Identity::at(&name)) else { continue };
            if let Some(place) = followed.get_mut(&path) {
                place.names.push(name);
                continue;
            }
            // The folder at a path may be another one by now, and to ask again for the same one costs nothing.
            let is_known = self.followed.get(&path).is_some_and(|place| place.identity == identity);
            if is_known || watcher.watch(&path, RecursiveMode::NonRecursive).is_ok() {
                followed.insert(path, Place { identity, names: vec![name] });
            }
        }
        for path in self.followed.keys().filter(|path| !followed.contains_key(*path)) {
            let _ = watcher.unwatch(path);
        }
        self.followed = followed;
        self.followed.values().any(|place| place.names.contains(&self.dir))
    }
}

/// How long after the beginning of a look that took so long the next one begins.
fn until_next(is_told: bool, took: Duration) -> Duration {
    let least = POLL.max(took * SHARE_ALONE);
    if is_told { least.max(POLL_MANY.min(took * SHARE)) } else { least }
}

/// What the system told.
#[derive(Default)]
struct Hints {
    all: bool,
    paths: HashSet<PathBuf>,
}

impl Hints {
    fn add(&mut self, event: notify::Result<Event>, followed: &Followed) {
        let Ok(event) = event else {
            self.all = true;
            return;
        };
        // Reading a file is told as well; our own reading would never end.
        let write = EventKind::Access(AccessKind::Close(AccessMode::Write));
        if matches!(event.kind, EventKind::Access(_)) && event.kind != write {
            return;
        }
        self.all |= event.need_rescan() || event.paths.iter().any(|path| followed.contains_key(path) || is_swap(path));
        self.paths.extend(event.paths.iter().flat_map(|path| names(path, followed)));
    }

    fn look(self) -> Look {
        if self.all { Look::Changed } else { Look::At(self.paths) }
    }
}

/// What the configuration and the files call what the system calls so.
fn names(path: &Path, followed: &Followed) -> Vec<PathBuf> {
    let place = path.parent().and_then(|folder| followed.get(folder));
    let (Some(place), Some(file)) = (place, path.file_name()) else { return Vec::new() };
    place.names.iter().map(|name| name.join(file)).collect()
}

/// Kubernetes swaps the link `..data`, behind which every file is another one then.
fn is_swap(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".."))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use certbind_proto::client::{LegacyAudience, RegistrationRules};
    use certbind_proto::jws::Algorithms;
    use notify::event::CreateKind;

    use super::*;
    use crate::registry::file::{FileRegistry, Settings};

    fn follower(dir: PathBuf) -> (Follower, Receiver<Wake>) {
        let rules = RegistrationRules {
            algorithms: Algorithms::DEFAULT,
            legacy_audience: LegacyAudience::Forbidden,
            trust_groups: Vec::new(),
        };
        let (registry, _) = FileRegistry::load(Settings { dir, rules });
        let (wake, woken) = mpsc::channel();
        (Follower::new(registry.shared(), Box::new(|_| ()), wake), woken)
    }

    fn told(follower: &Follower, path: PathBuf) -> HashSet<PathBuf> {
        let mut hints = Hints::default();
        hints.add(Ok(Event::new(EventKind::Create(CreateKind::File)).add_path(path)), &follower.followed);
        match hints.look() {
            Look::At(paths) => paths,
            look => panic!("{look:?}"),
        }
    }

    /// As from where a server was started.
    fn from_here(path: &Path) -> PathBuf {
        let here = std::env::current_dir().unwrap();
        let up: PathBuf = here.components().skip(1).map(|_| "..").collect();
        up.join(path.strip_prefix("/").unwrap())
    }

    #[test]
    fn what_the_system_tells_has_the_name_that_the_configuration_has_for_it() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let real = root.join("real");
        fs::create_dir(&real).unwrap();
        symlink("real", root.join("link")).unwrap();
        for dir in [real.clone(), root.join("link"), root.join("real/../real"), from_here(&real)] {
            let (mut follower, _woken) = follower(dir.clone());
            assert!(follower.follow(), "{}", dir.display());
            assert_eq!(told(&follower, real.join("billing.toml")), HashSet::from([dir.join("billing.toml")]));
            assert!(told(&follower, root.join("billing.toml")).is_empty());
        }
    }

    #[test]
    fn a_name_that_leads_to_another_folder_is_seen() {
        let root = tempfile::tempdir().unwrap();
        let link = root.path().join("link");
        for name in ["one", "two"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        symlink("one", &link).unwrap();
        let (mut follower, _woken) = follower(link.clone());
        assert!(follower.follow() && !follower.is_elsewhere());
        symlink("two", root.path().join("new")).unwrap();
        fs::rename(root.path().join("new"), &link).unwrap();
        assert!(follower.is_elsewhere());
        assert!(follower.follow() && !follower.is_elsewhere());
    }

    #[test]
    fn few_files_are_looked_at_four_times_a_second_and_many_take_no_more_than_their_share() {
        let (quick, slow) = (Duration::from_micros(300), Duration::from_millis(200));
        assert_eq!(until_next(true, quick), POLL);
        assert_eq!(until_next(false, quick), POLL);
        assert_eq!(until_next(true, Duration::from_millis(10)), Duration::from_secs(4));
        assert_eq!(until_next(false, Duration::from_millis(10)), Duration::from_secs(1));
        assert_eq!(until_next(true, slow), Duration::from_secs(20));
    }
}
