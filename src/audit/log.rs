//! The audit log of a server: one place, or two that each get every line.

use super::receipt::Receipt;
use super::writer::{Durability, LineWriter};
use super::{Audit, Event};

/// Writes to each of its places. At most one of them is waited for.
pub struct AuditLog {
    local: LineWriter,
    store: Option<LineWriter>,
}

impl AuditLog {
    /// A log in a file or among other lines, and in the store where that is wanted.
    #[must_use]
    pub const fn new(local: LineWriter, store: Option<LineWriter>) -> Self {
        Self { local, store }
    }

    /// Whether a token waits for its line.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.required().map_or(Durability::BestEffort, LineWriter::durability)
    }

    /// Whether what is waited for can be written.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.required().is_none_or(LineWriter::is_healthy)
    }

    /// How many lines were lost here and not yet told.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.local.lost()
    }

    /// What writes to the store.
    #[must_use]
    pub const fn in_store(&self) -> Option<&LineWriter> {
        self.store.as_ref()
    }

    /// Each of its places, and whether it took the last line.
    pub fn places(&self) -> impl Iterator<Item = (&'static str, bool)> {
        self.writers().map(|writer| (writer.place(), writer.is_healthy()))
    }

    fn required(&self) -> Option<&LineWriter> {
        self.writers().find(|writer| writer.durability() == Durability::Required)
    }

    fn writers(&self) -> impl Iterator<Item = &LineWriter> {
        std::iter::once(&self.local).chain(&self.store)
    }
}

impl Audit for AuditLog {
    fn record(&self, event: &Event) {
        self.writers().for_each(|writer| writer.record(event));
    }

    fn record_durably(&self, event: &Event) -> Receipt {
        let mut receipt = Receipt::written();
        for writer in self.writers() {
            match writer.durability() {
                Durability::Required => receipt = writer.record_durably(event),
                Durability::BestEffort => writer.record(event),
            }
        }
        receipt
    }
}
