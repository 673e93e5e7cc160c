//! A configuration file that is followed: looked into once it is another one and nobody writes it any more, and taken whole or not at all.
//!
//! What was put in the place of another one (a rename, a link of Kubernetes) is whole. A file that is written where it lies may be half of
//! what it will be, and half of it may be a good configuration that demands less: it counts once nobody has written it for a while.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::config::Change;
use crate::registry::Identity;

/// A configuration that was refused may have been early: the files that it names may come later.
const AGAIN: Duration = Duration::from_secs(10);

/// For how long nobody may have written to a file that is written where it lies.
const QUIET: Duration = Duration::from_secs(2);
/// Between two looks at a file that is waited for.
const LOOK: Duration = Duration::from_millis(250);
/// The longest wait for it, where an operator says that it is to be looked into.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was seen of the file.
#[derive(Default)]
pub(super) struct Followed {
    /// The file that was looked into last.
    file: Option<Identity>,
    /// Another file (or none at all), which somebody may still be writing, and since when it is as it is.
    unsettled: Option<(Option<Identity>, Instant)>,
    /// What was wrong with the last one, and when.
    refused: Option<(String, Instant)>,
}

/// What came of a look that there is something to tell about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Looked {
    /// This is in force now.
    Taken(String),
    /// This is wrong; nothing changed.
    Refused(String),
}

impl Followed {
    /// Whether the file is another one than was looked into, and nobody writes it any more. One that was refused is due again after a
    /// while.
    pub(super) fn is_due(&mut self, path: &Path) -> bool {
        let file = Identity::at(path);
        if file == self.file {
            return self.refused.as_ref().is_some_and(|(_, at)| at.elapsed() >= AGAIN);
        }
        match self.unsettled {
            Some((seen, since)) if seen == file => self.is_whole(file) || since.elapsed() >= QUIET,
            _ => {
                self.unsettled = Some((file, Instant::now()));
                false
            }
        }
    }

    /// Waits until nobody writes the file any more, but not for ever. Waits on the disk, so not for an async task.
    pub(super) fn wait_until_quiet(&self, path: &Path) {
        let (mut seen, mut since, began) = (Identity::at(path), Instant::now(), Instant::now());
        while seen != self.file && !self.is_whole(seen) && since.elapsed() < QUIET && began.elapsed() < PATIENCE {
            thread::sleep(LOOK);
            let file = Identity::at(path);
            if file != seen {
                (seen, since) = (file, Instant::now());
            }
        }
    }

    /// Whether it was put in the place of the one that was looked into last, if there was one.
    fn is_whole(&self, file: Option<Identity>) -> bool {
        self.file.is_none_or(|before| file.is_some_and(|file| !file.is_same_place(&before)))
    }

    /// Whether what it said when it was looked into last is in force.
    pub(super) const fn is_in_force(&self) -> bool {
        self.refused.is_none()
    }

    /// Looks into it now. `take` says what is in force and was not before, or why nothing changed.
    pub(super) fn look(&mut self, path: &Path, take: impl FnOnce() -> Result<Vec<Change>, String>) -> Option<Looked> {
        self.file = Identity::at(path);
        match take() {
            Ok(changes) if changes.is_empty() && self.refused.is_none() => None,
            Ok(changes) => {
                self.refused = None;
                let changes: Vec<_> = changes.iter().map(Change::to_string).collect();
                Some(Looked::Taken(if changes.is_empty() { "as it was before".to_owned() } else { changes.join("; ") }))
            }
            Err(why) => {
                let is_new = self.refused.as_ref().is_none_or(|(before, _)| *before != why);
                self.refused = Some((why.clone(), Instant::now()));
                is_new.then_some(Looked::Refused(why))
            }
        }
    }
}

/// Sees to it that a running process can take these changes.
///
/// # Errors
/// What needs a restart, in words.
pub(super) fn refuse_what_needs_a_restart(changes: &[Change]) -> Result<(), String> {
    let fixed: Vec<_> = changes.iter().filter(|change| !change.is_live).map(|change| change.path.as_str()).collect();
    match fixed.as_slice() {
        [] => Ok(()),
        fixed => Err(format!(
            "a restart is needed for a new value of {}; until then nothing of the file is taken, nor of what else it changes",
            fixed.join(", ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn looked_into(path: &Path) -> Followed {
        let mut followed = Followed::default();
        assert_eq!(followed.look(path, || Ok(Vec::new())), None);
        followed
    }

    #[test]
    fn what_is_put_in_place_counts_at_the_next_look_and_what_is_written_in_place_waits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("guard.toml");
        fs::write(&path, "whole").unwrap();
        let mut followed = looked_into(&path);
        assert!(!followed.is_due(&path), "as it was");

        fs::write(folder.path().join("beside"), "another").unwrap();
        fs::rename(folder.path().join("beside"), &path).unwrap();
        assert_eq!([followed.is_due(&path), followed.is_due(&path)], [false, true]);

        let mut followed = looked_into(&path);
        fs::write(&path, "half").unwrap();
        assert_eq!([followed.is_due(&path), followed.is_due(&path)], [false, false]);
        let (file, _) = followed.unsettled.unwrap();
        followed.unsettled = Some((file, Instant::now().checked_sub(QUIET).unwrap()));
        assert!(followed.is_due(&path), "nobody writes it any more");
        fs::write(&path, "half and more").unwrap();
        assert!(!followed.is_due(&path), "somebody does");
    }

    #[test]
    fn an_operator_who_says_so_waits_for_whoever_still_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("guard.toml");
        fs::write(&path, "whole").unwrap();
        let followed = looked_into(&path);
        let began = Instant::now();
        followed.wait_until_quiet(&path);
        assert!(began.elapsed() < LOOK, "nobody writes");

        fs::write(&path, "half").unwrap();
        let writer = thread::spawn({
            let path = path.clone();
            move || {
                thread::sleep(LOOK);
                fs::write(&path, "all of it").unwrap();
            }
        });
        followed.wait_until_quiet(&path);
        assert_eq!(fs::read_to_string(&path).unwrap(), "all of it");
        writer.join().unwrap();
    }
}
