//! Follows credential files in place: a rotation on disk becomes one of the source, half of one is waited out.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use certbind_proto::time::Timestamp;
use tokio::task::JoinHandle;

use crate::error::in_one_line;
use crate::files::Seen;
use crate::{Credential, CredentialFault, CredentialFiles, FilesFault, FilesStatus, TokenSource};

/// How often followed files are looked at.
const EVERY: Duration = Duration::from_secs(1);

/// Follows files until it is dropped; the source goes on with what they gave last.
#[must_use = "the files are followed until this is dropped"]
pub struct Follower {
    status: Arc<Mutex<FilesStatus>>,
    source: TokenSource,
    task: JoinHandle<()>,
}

impl TokenSource {
    /// Follows these files: once a second it looks whether they are others than before, by what lies at their paths, for
    /// a folder that Kubernetes relinks and a network file system tell no watcher. The first look is at once.
    ///
    /// What they give goes to [`rotate_credential`](Self::rotate_credential): the new certificate is in use together with
    /// its first token, and the old pair serves until then. Files that are gone, cut off, open to others or do not belong
    /// together give nothing: the last good credential stays, never less than it. The log says when they are wrong for
    /// longer than a look, and when they are well again; [`status`](Self::status) says it at once.
    ///
    /// Needs a Tokio runtime; files are read on its threads for blocking work. A source follows one set of files: whoever
    /// is told of files last is the only one who follows.
    pub fn follow(&self, files: CredentialFiles) -> Follower {
        self.follow_every(files, EVERY)
    }

    /// The same with another time between two looks.
    pub fn follow_every(&self, files: CredentialFiles, pause: Duration) -> Follower {
        let status = Arc::new(Mutex::new(FilesStatus { fault: None, looked: None }));
        self.followed_by(status.clone());
        let task = tokio::spawn(follow(self.clone(), Watcher::new(files), status.clone(), pause));
        Follower { status, source: self.clone(), task }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
        self.source.not_followed_by(&self.status);
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("status", &*locked(&self.status)).finish_non_exhaustive()
    }
}

async fn follow(source: TokenSource, mut watcher: Watcher, status: Arc<Mutex<FilesStatus>>, pause: Duration) {
    loop {
        let now = source.now();
        let look = tokio::task::spawn_blocking(move || {
            let found = watcher.look(now);
            (watcher, found)
        });
        // The runtime is on its way down.
        let Ok((seen, found)) = look.await else { return };
        watcher = seen;
        if !source.is_followed_by(&status) {
            return;
        }
        *locked(&status) = FilesStatus { fault: watcher.fault(), looked: Some(now) };
        if let Some(credential) = found
            && let Err(error) = source.rotate_credential(credential)
        {
            tracing::error!(%error, "the credential of the followed files cannot be used; the last good one stays in use");
        }
        source.pursue();
        tokio::time::sleep(pause).await;
    }
}

/// Looks at files; remembers what they were and what was wrong with them.
struct Watcher {
    files: CredentialFiles,
    /// What the files were when they gave a credential.
    seen: Seen,
    wrong: Option<Wrong>,
}

/// What is wrong with the files, at this look.
struct Wrong {
    fault: Arc<CredentialFault>,
    since: Timestamp,
    /// What was written to the log. A rotation of one file after the other is no news: it is over at the next look.
    told: Option<String>,
}

impl Watcher {
    fn new(files: CredentialFiles) -> Self {
        Self { files, seen: Seen::default(), wrong: None }
    }

    /// The credential of the files, where they may give another one than before.
    fn look(&mut self, now: Timestamp) -> Option<Credential> {
        if self.seen.is_read(&self.files.marks()) {
            return None;
        }
        match self.files.snapshot() {
            Ok((credential, marks)) => {
                self.seen.read_as(marks);
                if self.wrong.take().is_some_and(|wrong| wrong.told.is_some()) {
                    tracing::info!("the followed files give a credential again");
                }
                Some(credential)
            }
            Err(fault) => {
                self.seen = Seen::default();
                self.note(fault, now);
                None
            }
        }
    }

    fn note(&mut self, fault: CredentialFault, now: Timestamp) {
        let text = in_one_line(&fault);
        let fault = Arc::new(fault);
        let Some(wrong) = &mut self.wrong else {
            self.wrong = Some(Wrong { fault, since: now, told: None });
            return;
        };
        wrong.fault = fault;
        if wrong.told.as_ref() != Some(&text) {
            tracing::warn!(fault = text, "the followed files give no credential; the last good one stays in use");
            wrong.told = Some(text);
        }
    }

    fn fault(&self) -> Option<FilesFault> {
        self.wrong.as_ref().map(|wrong| FilesFault { fault: wrong.fault.clone(), since: wrong.since })
    }
}

fn locked(status: &Mutex<FilesStatus>) -> MutexGuard<'_, FilesStatus> {
    status.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
