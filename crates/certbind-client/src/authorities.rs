//! Follows certificate authorities in a PEM file: who vouches for servers is renewed on disk as well.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use certbind_https::Authorities;
use tokio::task::JoinHandle;

use crate::CredentialFault;
use crate::credential::certificates;
use crate::error::in_one_line;
use crate::files::{Marks, Seen, open_regular, read};

/// How often a followed file is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// A PEM file of certificate authorities, and what was seen of it.
pub struct AuthoritiesFile {
    path: PathBuf,
    authorities: Authorities,
    seen: Seen,
    told: Option<String>,
}

impl AuthoritiesFile {
    /// Nothing is seen yet of the file that these come from.
    #[must_use]
    pub fn new(path: PathBuf, authorities: Authorities) -> Self {
        Self { path, authorities, seen: Seen::default(), told: None }
    }

    /// Reads the file if it is another one than before, and exchanges the authorities as a whole; says whether they are
    /// others now, or those of before again after a fault. Waits on the disk, so not for an async task.
    ///
    /// # Errors
    /// [`CredentialFault`], once for as long as it stays the same: the file is gone, cut off, empty, no PEM or no file. The
    /// authorities stay as they were, never fewer than the file had.
    pub fn look(&mut self) -> Result<bool, CredentialFault> {
        let marks = Marks::of([&*self.path]);
        if self.seen.is_read(&marks) {
            return Ok(false);
        }
        match self.exchange() {
            Ok(is_other) => {
                self.seen.read_as(marks);
                Ok(self.told.take().is_some() || is_other)
            }
            Err(fault) => {
                self.seen = Seen::default();
                let text = Some(in_one_line(&fault));
                let is_news = self.told != text;
                self.told = text;
                if is_news { Err(fault) } else { Ok(false) }
            }
        }
    }

    fn exchange(&self) -> Result<bool, CredentialFault> {
        let found = certificates(&read(&self.path, open_regular)?)?;
        self.authorities.replace(&found).map_err(CredentialFault::Authority)
    }

    /// Looks once a second until what this gives is dropped, the first time at once, and calls `renewed` after each exchange.
    /// The log says what came of it.
    ///
    /// Needs a Tokio runtime; the file is read on its threads for blocking work.
    pub fn follow(self, renewed: impl Fn() + Send + 'static) -> AuthoritiesFollower {
        self.follow_every(EVERY, renewed)
    }

    /// The same with another time between two looks.
    pub fn follow_every(self, pause: Duration, renewed: impl Fn() + Send + 'static) -> AuthoritiesFollower {
        AuthoritiesFollower(tokio::spawn(follow(self, pause, renewed)))
    }
}

/// Follows a file of certificate authorities until it is dropped; those that it gave last stay in force.
#[must_use = "the file is followed until this is dropped"]
#[derive(Debug)]
pub struct AuthoritiesFollower(JoinHandle<()>);

impl Drop for AuthoritiesFollower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn follow(mut file: AuthoritiesFile, pause: Duration, renewed: impl Fn()) {
    loop {
        let look = tokio::task::spawn_blocking(move || {
            let found = file.look();
            (file, found)
        });
        // The runtime is on its way down.
        let Ok((seen, found)) = look.await else { return };
        file = seen;
        let path = file.path.display();
        match found {
            Ok(false) => {}
            Ok(true) => {
                let count = file.authorities.certificates().len();
                tracing::info!(%path, count, "the certificate authorities of the followed file are in force");
                renewed();
            }
            Err(fault) => {
                tracing::warn!(%path, fault = in_one_line(&fault), "the followed file gives no certificate authorities; those of before stay");
            }
        }
        tokio::time::sleep(pause).await;
    }
}

impl fmt::Debug for AuthoritiesFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthoritiesFile")
            .field("path", &self.path)
            .field("authorities", &self.authorities)
            .finish_non_exhaustive()
    }
}
