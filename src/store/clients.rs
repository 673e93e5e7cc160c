//! Clients that were registered while the server runs (RFC 7591): what an engine is asked, and what it answers.

use certbind_proto::time::Timestamp;

use super::{BoxFuture, Revision, StoreError};

/// Holds registrations as they were typed; what they mean is checked by whoever reads them.
pub trait ClientStore: Send + Sync {
    /// What has changed after `since`, oldest change first; after 0, everything. Of each client the last change counts,
    /// and no other is told.
    ///
    /// # Errors
    /// The store cannot be read.
    fn clients_since(&self, since: Revision) -> BoxFuture<'_, Result<Vec<ClientChange>, StoreError>>;

    /// Writes a registration when `expected` holds for what is there, else changes nothing.
    ///
    /// # Errors
    /// The store cannot be written; whether it was is not known.
    fn put_client(
        &self,
        client_id: String,
        metadata: String,
        expected: Expected,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Written, StoreError>>;

    /// Removes a registration when `expected` holds for what is there, else changes nothing.
    ///
    /// # Errors
    /// As [`Self::put_client`].
    fn delete_client(
        &self,
        client_id: String,
        expected: Expected,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Written, StoreError>>;
}

/// A registration as it lies in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredClient {
    /// Its identifier.
    pub client_id: String,
    /// The metadata of RFC 7591 §2, as JSON.
    pub metadata: String,
    /// The change that made it so; also its entity tag.
    pub revision: Revision,
    /// When it was first written.
    pub created: Timestamp,
    /// When it was written last.
    pub updated: Timestamp,
}

/// The last that happened to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientChange {
    /// It was written.
    Written(StoredClient),
    /// It was removed.
    Removed {
        /// Its identifier.
        client_id: String,
        /// The change that removed it.
        revision: Revision,
    },
}

impl ClientChange {
    /// The change's number.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        match self {
            Self::Written(client) => client.revision,
            Self::Removed { revision, .. } => *revision,
        }
    }
}

/// What must be there for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// No such client.
    Absent,
    /// A client, in whatever state.
    Present,
    /// The client as this change left it (`If-Match`).
    Revision(Revision),
}

impl Expected {
    /// Whether it holds when `there` is the change that made the client as it is, `None` when there is no client.
    #[must_use]
    pub(crate) fn holds(self, there: Option<Revision>) -> bool {
        match self {
            Self::Absent => there.is_none(),
            Self::Present => there.is_some(),
            Self::Revision(revision) => there == Some(revision),
        }
    }
}

/// What came of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is in the store, as this change.
    Done(Revision),
    /// Something else was there than was expected; nothing changed.
    NotAsExpected {
        /// The change that made the client as it is; `None` when there is none.
        there: Option<Revision>,
    },
}
