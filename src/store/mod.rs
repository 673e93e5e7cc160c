//! What must outlive a request or a restart: used `jti`s (RFC 7523 §3), signing keys, clients, revocations, audit lines
//! where that is wanted, and, good to know, which credentials are in use.
//!
//! A store answers or fails; it never guesses. Whoever asks and gets a [`StoreError`] refuses the request:
//! a token whose assertion is not on disk would be a token for whoever replays it.

pub mod audit;
mod changes;
mod clients;
pub mod conformance;
pub mod faulty;
mod fence;
pub mod memory;
pub mod postgres;
mod replay;
mod replay_index;
mod revocations;
mod signing_keys;
pub mod sqlite;
pub mod usage;

use std::error::Error;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

pub use audit::AuditStore;
pub use changes::{Changes, Revision, Revisions, is_copy};
pub use clients::{ClientChange, ClientStore, Expected, StoredClient, Written};
pub use replay::{FirstUse, ReplayKey, ReplayStore, Use};
pub use revocations::{Revocation, RevocationStore, Revoked, RevokedId};
pub use signing_keys::{KeyStore, Replaced, Secret, StoredKey, StoredKeys};
pub use usage::UsageStore;

/// Everything that a server keeps, in one engine.
pub trait Store: ReplayStore + KeyStore + ClientStore + RevocationStore + AuditStore + UsageStore + Changes {}

impl<S: ReplayStore + KeyStore + ClientStore + RevocationStore + AuditStore + UsageStore + Changes> Store for S {}

/// The future of a store call.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why a store could not be opened, or did not answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The database did not answer a moment ago, and nobody waits for it again before it does.
    #[error("the store is away")]
    Away,
    /// Too many calls wait, or the answer did not come in time, or another process holds the database.
    #[error("the store is overloaded or locked")]
    Busy,
    /// The clock stands before what was already forgotten: whether the key was used cannot be told.
    #[error("the clock went back to a time whose used assertions were already forgotten")]
    ClockBehind,
    /// The assertion may have been used on a database whose last writes were lost: whether it was cannot be told.
    #[error("the database was replaced by a copy that may lack the latest uses; the assertion is from before that")]
    BeforeFailOver,
    /// What lies in the store is damaged.
    #[error("the store is damaged: put a copy in its place (docs/storage.md, Backup and restore)")]
    Corrupt(#[source] Option<Cause>),
    /// There is no room for what is to be written.
    #[error("the disk is full: the store cannot be written")]
    DiskFull,
    /// The file belongs to another program.
    #[error("{} is a database of another program", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The schema `certbind` of the database belongs to another program.
    #[error("the schema \"certbind\" of the database holds tables of another program")]
    ForeignSchema,
    /// The database is gone, or nothing is in it.
    #[error(
        "{} is gone or empty, and held a database before: put it back, or a copy of it into an empty folder; to begin with nothing instead \
         (used assertions become good again; signing keys, clients and revocations are lost) remove {}", path.display(), mark.display()
    )]
    Gone {
        /// The file.
        path: PathBuf,
        /// What says that there was one.
        mark: PathBuf,
    },
    /// As many keys are held as the settings allow.
    #[error("the store holds as many used assertions as it may")]
    Full,
    /// A newer version of this program wrote the store.
    #[error("the store has format {found}; this version knows formats up to {known}")]
    Newer {
        /// Its format.
        found: u32,
        /// The newest format that is understood.
        known: u32,
    },
    /// The database forgets what it says it has committed.
    #[error("the database has {setting} = off: a crash would forget used assertions; set it to on")]
    NotDurable {
        /// The setting of PostgreSQL.
        setting: &'static str,
    },
    /// An earlier version of this program wrote the store.
    #[error("the store has format {found}, and this version has {known}: start the server of this version first")]
    Older {
        /// Its format.
        found: u32,
        /// The format of this version.
        known: u32,
    },
    /// Others than the owner may reach the private keys.
    #[error("{} has mode {mode:03o}; group and others must have no access (chmod go= {})", path.display(), path.display())]
    OpenToOthers {
        /// The file or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The database is a replica, or was set to be read only.
    #[error("the database takes no writes: it is a replica, or read only")]
    ReadOnly,
    /// A write-ahead log lies beside a database that has none.
    #[error("{} belongs to another database: remove it, it was there before the copy beside it", path.display())]
    StrayLog {
        /// The log.
        path: PathBuf,
    },
    /// The store has been shut down.
    #[error("the store is shut down")]
    Stopped,
    /// A crash of the database empties this table.
    #[error("the table certbind.{table} is UNLOGGED: a crash would empty it; ALTER TABLE certbind.{table} SET LOGGED")]
    Unlogged {
        /// Its name.
        table: String,
    },
    /// Reading or writing failed.
    #[error("the store cannot be read or written")]
    Unavailable(#[source] Cause),
}

/// The error below a [`StoreError`]; shared, because everyone whose write was in one commit gets it.
pub type Cause = Arc<dyn Error + Send + Sync>;
