//! The table of revisions: how this process and others learn that something changed.

use rusqlite::{Connection, Transaction};

use super::super::{Revision, Revisions, StoreError};

/// A kind of state that servers hold in memory.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Clients,
    Keys,
    Revocations,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Keys => "keys",
            Self::Revocations => "revocations",
        }
    }
}

/// The number of the change that this transaction makes.
pub(super) fn next(transaction: &Transaction<'_>, kind: Kind) -> Result<Revision, StoreError> {
    let next = transaction
        .prepare_cached("UPDATE revisions SET revision = revision + 1 WHERE kind = ?1 RETURNING revision")?
        .query_row([kind.as_str()], |row| row.get(0))?;
    Ok(next)
}

/// Where each kind stands.
pub(super) fn load(connection: &Connection) -> Result<Revisions, StoreError> {
    let mut of = connection.prepare_cached("SELECT revision FROM revisions WHERE kind = ?1")?;
    let mut revision = |kind: Kind| of.query_row([kind.as_str()], |row| row.get::<_, Revision>(0));
    Ok(Revisions {
        clients: revision(Kind::Clients)?,
        keys: revision(Kind::Keys)?,
        revocations: revision(Kind::Revocations)?,
    })
}

/// A number that changes with each commit of another process, and costs no look into the file.
pub(super) fn data_version(connection: &Connection) -> Result<i64, StoreError> {
    Ok(connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?)
}
