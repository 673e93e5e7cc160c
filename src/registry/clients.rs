//! The clients of the folder and those of the store as one registry. Of two with one identifier the file's counts:
//! whoever can write there could as well change the configuration.

use std::collections::BTreeSet;
use std::sync::Arc;

use certbind_proto::client::Client;

use super::fault::Warning;
use super::file::FileRegistry;
use super::stored::StoredRegistry;
use super::{Registry, Snapshot, shared_subjects};

/// All clients of a server.
#[derive(Clone, Debug)]
pub struct Clients {
    /// Those that have a file.
    pub files: FileRegistry,
    /// Those of the store.
    pub stored: StoredRegistry,
}

impl Clients {
    /// Registrations of the store that do not count, because a file has the same identifier.
    #[must_use]
    pub fn shadowed(&self) -> BTreeSet<String> {
        let (files, stored) = (self.files.all(), self.stored.held());
        let ids = files.iter().map(|client| &client.client_id);
        ids.filter(|client_id| stored.get(client_id).is_some()).cloned().collect()
    }

    /// Each name that several clients have in one trust group, wherever they are registered. Costs as much as there are
    /// clients.
    #[must_use]
    pub fn shared_subjects(&self) -> BTreeSet<Warning> {
        shared_subjects(self.all().iter())
    }
}

impl Registry for Clients {
    fn find(&self, client_id: &str) -> Option<Arc<Client>> {
        self.files.find(client_id).or_else(|| self.stored.find(client_id))
    }

    fn all(&self) -> Arc<Snapshot> {
        let (stored, files) = (self.stored.all(), self.files.all());
        Arc::new(stored.iter().chain(files.iter()).cloned().collect())
    }
}
