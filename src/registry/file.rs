//! Clients from a folder: one TOML file a client, watched.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use certbind_proto::client::{Client, RegistrationRules};

use super::fault::{FileFault, Warning};
use super::folder::{Folder, Look};
pub use super::watch::Watch;
use super::{Change, Registry, Snapshot};

/// Where the clients are, and what they may ask for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The folder.
    pub dir: PathBuf,
    /// What this server supports.
    pub rules: RegistrationRules,
}

/// The clients of a folder.
#[derive(Clone, Debug)]
pub struct FileRegistry {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    snapshot: ArcSwap<Snapshot>,
    folder: Mutex<Folder>,
}

/// What came of a look at the folder. What stays as it was is not told again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What is in force from now on, sorted.
    pub changes: Vec<Change>,
    /// What is wrong and was not told before. The files concerned changed nothing.
    pub faults: Vec<FileFault>,
    /// What is still wrong, and was told before.
    pub known: Vec<FileFault>,
    /// What is odd and was not told before.
    pub warnings: Vec<Warning>,
    /// How many files are bad now, told or not: 0 when the last reload succeeded.
    pub faulty: usize,
    /// How many clients there are now.
    pub clients: usize,
}

impl Report {
    /// Whether there is anything to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.faults.is_empty() && self.warnings.is_empty()
    }
}

impl FileRegistry {
    /// Reads the folder. The report says what is wrong with it: a server that starts refuses to when there are faults,
    /// as a client that is not there would be refused without a word.
    #[must_use]
    pub fn load(settings: Settings) -> (Self, Report) {
        let folder = Folder::new(settings.dir, settings.rules);
        let shared = Arc::new(Shared { snapshot: ArcSwap::default(), folder: Mutex::new(folder) });
        let report = shared.refresh(&Look::Changed);
        (Self { shared }, report)
    }

    /// Reads every file again, by new rules. Bad files change nothing.
    #[must_use]
    pub fn reload(&self, rules: RegistrationRules) -> Report {
        self.shared.folder().set_rules(rules);
        self.shared.refresh(&Look::Everything)
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Follows the folder until the [`Watch`] is dropped, and tells `listener` what is new.
    #[must_use = "dropping it ends the watch"]
    pub fn watch(&self, listener: impl Fn(&Report) + Send + 'static) -> Watch {
        Watch::start(Arc::clone(&self.shared), Box::new(listener))
    }
}

impl Registry for FileRegistry {
    fn find(&self, client_id: &str) -> Option<Arc<Client>> {
        self.shared.snapshot.load().get(client_id).cloned()
    }

    fn all(&self) -> Arc<Snapshot> {
        self.shared.snapshot.load_full()
    }
}

impl Shared {
    /// Looks at the folder and puts what is good in force.
    pub(super) fn refresh(&self, look: &Look) -> Report {
        let mut folder = self.folder();
        let report = folder.refresh(look);
        self.snapshot.store(folder.in_force());
        drop(folder);
        report.faults.iter().for_each(|fault| tracing::warn!("{fault}"));
        report.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        report
    }

    pub(super) fn folder(&self) -> MutexGuard<'_, Folder> {
        self.folder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
