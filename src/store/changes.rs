//! How a server learns that its store was changed, by itself or by another server.

use tokio::sync::watch;

/// How often a kind of state has changed. It only grows.
pub type Revision = i64;

/// By how much every revision grows when a copy takes the place of a database and may lack its last changes: more than
/// there ever are, so that no change is taken for one that was seen and lost.
pub(super) const COPY: Revision = 1 << 40;

/// Whether a store that stands at `known` is a copy of the one that was read up to `read`; then all of it has to be read.
#[must_use]
pub const fn is_copy(read: Revision, known: Revision) -> bool {
    known.saturating_sub(read) >= COPY
}

/// How far each kind of state is that servers hold in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Revisions {
    /// The clients.
    pub clients: Revision,
    /// The signing keys.
    pub keys: Revision,
    /// The revocations.
    pub revocations: Revision,
}

/// Tells of changes.
pub trait Changes: Send + Sync {
    /// The revisions that are known now, and a wake-up when one has grown: at once for a change of this process,
    /// within a second for one of another. While the store is away nothing is told, and everything once it is back.
    fn changes(&self) -> watch::Receiver<Revisions>;
}
