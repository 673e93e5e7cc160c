//! The embedded store engine: one SQLite file in the data folder, written by one thread that commits in groups.
//!
//! Why a log and an index in memory instead of a unique index on disk: `docs/decisions/0004-replay-log.md`.

mod audit;
pub mod backup;
mod checksum;
mod clients;
mod files;
#[cfg(test)]
mod formats;
mod keys;
mod mark;
mod origin;
mod queue;
mod replay;
mod revisions;
mod revocations;
mod schema;
#[cfg(test)]
mod tests;
mod usage;
mod wal;
mod wal_index;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use certbind_proto::time::Timestamp;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::{oneshot, watch};

use self::mark::Mark;
use self::queue::Queue;
pub use self::wal::Doubt;
use self::writer::{Call, Gauges, Reply, Writer};
use super::audit::{Appended, AuditChain, AuditLine, AuditQuery, AuditStore, FoundLine};
use super::usage::Usage;
use super::{
    BoxFuture, Changes, ClientChange, ClientStore, Expected, FirstUse, KeyStore, Replaced, ReplayStore, Revision,
    Revisions, Revocation, RevocationStore, StoreError, StoredKey, StoredKeys, UsageStore, Use, Written,
};

/// How the engine is set up. Only the folder comes from the operator.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Holds `certbind.db`. Made when it is not there; group and others have no access.
    pub data_dir: PathBuf,
    /// How long a caller waits for its answer.
    pub deadline: Duration,
    /// How long the writer waits for another process that holds the database. Shorter than `deadline`.
    pub lock_timeout: Duration,
    /// How many calls may wait.
    pub max_waiting: usize,
    /// How many used assertions may be held; then [`StoreError::Full`].
    pub max_entries: usize,
    /// How long a commit may wait for as many calls as the one before it had.
    pub gather: Duration,
}

impl Settings {
    /// The settings of a store in this folder.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            deadline: Duration::from_millis(1500),
            lock_timeout: Duration::from_millis(1000),
            max_waiting: 8192,
            max_entries: 1 << 23,
            gather: Duration::from_millis(2),
        }
    }
}

/// A store in a SQLite file.
pub struct SqliteStore {
    calls: Arc<Queue<Call>>,
    gauges: Arc<Gauges>,
    deadline: Duration,
    path: PathBuf,
    changes: watch::Receiver<Revisions>,
    writer: Option<JoinHandle<()>>,
    mark: Option<Mark>,
    doubt: Option<Doubt>,
}

impl SqliteStore {
    /// Opens the store, makes it when there is none, and brings an older one up to date. Where the latest commits may be
    /// missing, assertions from before `now` are refused from then on.
    ///
    /// # Errors
    /// The folder or the file cannot be used, is open to others, belongs to another program or to a newer version, is
    /// damaged, or is empty although it was not. There is no other store to fall back on.
    pub fn open(settings: &Settings, now: Timestamp) -> Result<Self, StoreError> {
        let path = files::folder(&settings.data_dir)?;
        let (mut mark, doubt) = Mark::take(&path)?;
        match Self::start(settings, path, now, &mut mark, doubt) {
            Ok(mut store) => {
                store.mark = Some(mark);
                Ok(store)
            }
            Err(error) => {
                mark.close();
                Err(error)
            }
        }
    }

    fn start(
        settings: &Settings,
        path: PathBuf,
        now: Timestamp,
        mark: &mut Mark,
        doubt: Option<Doubt>,
    ) -> Result<Self, StoreError> {
        let Opened { connection, fence, doubt } = open(&path, settings.lock_timeout, now, mark, doubt)?;
        let gauges = Arc::new(Gauges::default());
        let calls = Arc::new(Queue::new(settings.max_waiting));
        let (changed, mut changes) = watch::channel(Revisions::default());
        let mut writer = Writer::new(connection, settings, fence, Arc::clone(&calls), Arc::clone(&gauges), changed)?;
        changes.mark_unchanged();
        let thread = thread::Builder::new()
            .name("store".into())
            .spawn(move || writer.run())
            .map_err(|error| StoreError::Unavailable(Arc::new(error)))?;
        Ok(Self { calls, gauges, deadline: settings.deadline, path, changes, writer: Some(thread), mark: None, doubt })
    }

    /// Why assertions from before the start are refused, if they are.
    #[must_use]
    pub const fn doubt(&self) -> Option<Doubt> {
        self.doubt
    }

    /// Hands a call to the writer and waits for its answer, not longer than the deadline.
    fn ask<'a, T: Send + 'static>(
        &'a self,
        call: impl FnOnce(Reply<T>) -> Call + Send + 'a,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            self.calls.push(call(reply))?;
            match tokio::time::timeout(self.deadline, answer).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => Err(StoreError::Stopped),
                Err(_) => Err(StoreError::Busy),
            }
        })
    }

    /// Has `work` done by the writer. Work whose caller has gone by then is left undone.
    fn with_connection<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        self.ask(|reply: Reply<T>| {
            Call::Other(Box::new(move |connection| {
                if reply.is_closed() {
                    return Box::new(|| {});
                }
                let outcome = work(connection);
                Box::new(move || drop(reply.send(outcome)))
            }))
        })
    }
}

/// A database that is open.
struct Opened {
    connection: Connection,
    fence: Timestamp,
    doubt: Option<Doubt>,
}

fn open(
    path: &Path,
    lock_timeout: Duration,
    now: Timestamp,
    mark: &mut Mark,
    doubt: Option<Doubt>,
) -> Result<Opened, StoreError> {
    files::database(path)?;
    if wal::is_damaged(path).map_err(|error| StoreError::Unavailable(Arc::new(error)))? {
        return Err(StoreError::Corrupt(None));
    }
    let mut connection = schema::open(path, lock_timeout, mark)?;
    let (mut fence, copy) = origin::look(&mut connection, path, now)?;
    if doubt.is_some() {
        fence = origin::raise(&connection, now)?;
    }
    schema::begin_log(&connection)?;
    mark.open()?;
    let doubt = doubt.or(copy);
    match doubt {
        Some(Doubt::Copy) => tracing::warn!(
            %fence,
            "the database is a copy that was put in the place of another: assertions from before now are refused"
        ),
        Some(doubt) => tracing::error!(
            %fence, path = %path.display(),
            "{doubt}: used assertions, revocations and changes of the last moments may be lost; assertions from before now are refused"
        ),
        None => {}
    }
    Ok(Opened { connection, fence, doubt })
}

impl SqliteStore {
    /// Has `work` done over a connection of its own that only looks, so that the writer is not held up.
    fn look<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        let path = self.path.clone();
        Box::pin(async move {
            let done = tokio::task::spawn_blocking(move || work(&audit::look(&path)?));
            done.await.unwrap_or(Err(StoreError::Stopped))
        })
    }
}

impl ReplayStore for SqliteStore {
    fn first_use(&self, used: Use, now: Timestamp) -> BoxFuture<'_, Result<FirstUse, StoreError>> {
        self.ask(move |reply| Call::FirstUse { used, now, reply })
    }

    fn live_entries(&self) -> u64 {
        self.gauges.live_entries()
    }

    fn is_healthy(&self) -> bool {
        self.gauges.is_healthy()
    }
}

impl KeyStore for SqliteStore {
    fn load(&self) -> BoxFuture<'_, Result<StoredKeys, StoreError>> {
        self.with_connection(|connection| keys::load(connection))
    }

    fn replace(&self, seen: Revision, keys: Vec<StoredKey>) -> BoxFuture<'_, Result<Replaced, StoreError>> {
        self.with_connection(move |connection| keys::replace(connection, seen, &keys))
    }
}

impl ClientStore for SqliteStore {
    fn clients_since(&self, since: Revision) -> BoxFuture<'_, Result<Vec<ClientChange>, StoreError>> {
        self.with_connection(move |connection| clients::since(connection, since))
    }

    fn put_client(
        &self,
        client_id: String,
        metadata: String,
        expected: Expected,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Written, StoreError>> {
        self.with_connection(move |connection| clients::write(connection, &client_id, Some(&metadata), expected, now))
    }

    fn delete_client(
        &self,
        client_id: String,
        expected: Expected,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Written, StoreError>> {
        self.with_connection(move |connection| clients::write(connection, &client_id, None, expected, now))
    }
}

impl RevocationStore for SqliteStore {
    fn revoke(&self, revocation: Revocation, now: Timestamp) -> BoxFuture<'_, Result<Revision, StoreError>> {
        self.with_connection(move |connection| revocations::add(connection, &revocation, now))
    }

    fn lift(&self, lifted: Revocation, now: Timestamp) -> BoxFuture<'_, Result<Option<Revision>, StoreError>> {
        self.with_connection(move |connection| revocations::lift(connection, &lifted, now))
    }

    fn revocations_since(
        &self,
        since: Revision,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<(Revision, Revocation)>, StoreError>> {
        self.with_connection(move |connection| revocations::since(connection, since, now))
    }
}

impl AuditStore for SqliteStore {
    fn append_audit(&self, lines: Vec<AuditLine>) -> BoxFuture<'_, Result<Appended, StoreError>> {
        self.with_connection(move |connection| audit::append(connection, &lines))
    }

    fn last_audit(&self, server: String) -> BoxFuture<'_, Result<Option<AuditLine>, StoreError>> {
        self.with_connection(move |connection| audit::last(connection, &server))
    }

    fn find_audit(&self, query: AuditQuery) -> BoxFuture<'_, Result<Vec<FoundLine>, StoreError>> {
        self.look(move |connection| audit::find(connection, &query))
    }

    fn audit_chains(&self) -> BoxFuture<'_, Result<Vec<AuditChain>, StoreError>> {
        self.look(audit::chains)
    }

    fn overdue_audit(&self, before: Timestamp) -> BoxFuture<'_, Result<Vec<AuditLine>, StoreError>> {
        self.look(move |connection| audit::overdue(connection, before))
    }

    fn drop_audit(&self, chain: String, through: i64) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.with_connection(move |connection| audit::drop_through(connection, &chain, through))
    }
}

impl UsageStore for SqliteStore {
    fn note_uses(&self, uses: Vec<Usage>, now: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        self.with_connection(move |connection| usage::note(connection, &uses, now))
    }

    fn uses_of(&self, client_ids: Vec<String>) -> BoxFuture<'_, Result<Vec<Usage>, StoreError>> {
        self.look(move |connection| usage::of(connection, &client_ids))
    }
}

impl Changes for SqliteStore {
    fn changes(&self) -> watch::Receiver<Revisions> {
        self.changes.clone()
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("gauges", &self.gauges).finish_non_exhaustive()
    }
}

/// Ends the writer after what waits is answered, and closes the file.
impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.calls.close();
        let is_closed = self.writer.take().is_some_and(|writer| writer.join().is_ok());
        if let Some(mark) = self.mark.take().filter(|_| is_closed) {
            mark.close();
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error};
        match (&error, error.sqlite_error_code()) {
            (_, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)) => Self::Busy,
            (_, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
            | (FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..) | Utf8Error(..), _) => {
                Self::Corrupt(Some(Arc::new(error)))
            }
            (_, Some(ErrorCode::DiskFull)) => Self::DiskFull,
            _ => Self::Unavailable(Arc::new(error)),
        }
    }
}
