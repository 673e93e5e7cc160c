//! The registered clients: looked up on every request, changed while requests run.

mod clients;
pub mod document;
pub mod fault;
pub mod file;
mod folder;
mod identity;
pub mod names;
mod parted;
mod shared_subject;
mod source;
pub mod stored;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::HashMap;
use std::sync::Arc;

use certbind_proto::client::Client;

pub use clients::Clients;
pub(crate) use identity::Identity;
pub use shared_subject::shared_subjects;

/// Knows the clients. A look-up never waits and costs the same for ten clients and for a hundred thousand.
pub trait Registry: Send + Sync {
    /// The client with this identifier, compared byte by byte.
    fn find(&self, client_id: &str) -> Option<Arc<Client>>;

    /// All clients at this moment.
    fn all(&self) -> Arc<Snapshot>;
}

/// A set of clients that does not change any more.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    clients: HashMap<Arc<str>, Arc<Client>>,
}

impl Snapshot {
    /// The client with this identifier.
    #[must_use]
    pub fn get(&self, client_id: &str) -> Option<&Arc<Client>> {
        self.clients.get(client_id)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Every client, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Client>> {
        self.clients.values()
    }
}

/// A change of the clients that are in force.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// A client is new.
    Added(String),
    /// A client's registration is another.
    Changed(String),
    /// A client is gone.
    Removed(String),
}

impl Change {
    /// Whose.
    #[must_use]
    pub fn client_id(&self) -> &str {
        match self {
            Self::Added(client_id) | Self::Changed(client_id) | Self::Removed(client_id) => client_id,
        }
    }
}

/// Of two clients with one identifier the last one counts.
impl FromIterator<Arc<Client>> for Snapshot {
    fn from_iter<I: IntoIterator<Item = Arc<Client>>>(clients: I) -> Self {
        let named = clients.into_iter().map(|client| (Arc::from(client.client_id.as_str()), client));
        Self { clients: named.collect() }
    }
}

/// A registry that never changes; tests use it.
impl Registry for Arc<Snapshot> {
    fn find(&self, client_id: &str) -> Option<Arc<Client>> {
        self.get(client_id).cloned()
    }

    fn all(&self) -> Arc<Snapshot> {
        Self::clone(self)
    }
}
