//! A configuration file that is followed: looked into once it is another one and nobody writes it any more, and taken whole or not at all.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::config::Change;
use crate::registry::Identity;

/// A configuration that was refused may have been early: the files that it names may come later.
const AGAIN: Duration = Duration::from_secs(10);

/// What was seen of the file.
#[derive(Default)]
pub(super) struct Followed {
    /// The file that was looked into last.
    file: Option<Identity>,
    /// Another file (or none at all), which somebody may still be writing.
    unsettled: Option<Option<Identity>>,
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
    /// Whether the file is another one than was looked into, and has been so for one look: a file that is written in place may be half
    /// of what it will be. One that was refused is due again after a while.
    pub(super) fn is_due(&mut self, path: &Path) -> bool {
        let file = Identity::at(path);
        if file == self.file {
            return self.refused.as_ref().is_some_and(|(_, at)| at.elapsed() >= AGAIN);
        }
        let is_settled = self.unsettled == Some(file);
        self.unsettled = Some(file);
        is_settled
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
