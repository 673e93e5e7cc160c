//! The audit log: one flat JSON line for each decision, with stable keys, and never a secret in it.

mod chain;
mod event;
mod file;
pub mod lines;
mod log;
mod place;
mod queue;
mod receipt;
mod shelf;
mod tail;
pub mod verify;
mod writer;

pub use chain::LineHash;
pub use event::{Event, Kind, Level, peer_text};
pub use file::{AuditFile, with_rotated};
pub use log::AuditLog;
pub use receipt::{AuditUnavailable, Receipt};
pub use shelf::{Added, Shelf};
pub use writer::{Durability, LineWriter};

/// Takes events.
pub trait Audit: Send + Sync {
    /// Writes one event, without a wait: for what has happened, whether or not it can be written down.
    fn record(&self, event: &Event);

    /// Writes one event about what is to happen only if it is written down: await the receipt first. Whether that waits
    /// for the disk is decided here, by the settings and the kind of the event, and by no caller.
    fn record_durably(&self, event: &Event) -> Receipt {
        self.record(event);
        Receipt::written()
    }
}
