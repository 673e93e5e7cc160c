//! The store engine for several servers: one PostgreSQL database, in which all of them keep everything.
//!
//! All work is done on the runtime that opened the store, each step within a deadline. While the database is away calls
//! fail at once instead of waiting each for themselves; the follower sees it come back.

mod audit;
mod connect;
mod fence;
mod follower;
mod migrate;
mod probe;
mod replay;
mod shared;
mod tables;
mod url;
mod usage;

use std::error::Error as _;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use certbind_proto::time::{Clock, Timestamp};
use deadpool::Runtime;
use deadpool::managed::{Pool, PoolError};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres_rustls::MakeRustlsConnect;

use self::connect::{Connection, Connector};
use self::replay::Asked;
use self::shared::Shared;
use super::usage::Usage;
use super::{
    BoxFuture, Changes, ClientChange, ClientStore, Expected, FirstUse, KeyStore, Replaced, ReplayStore, Revision,
    Revisions, Revocation, RevocationStore, StoreError, StoredKey, StoredKeys, UsageStore, Use, Written,
};

pub use url::UrlFault;

/// The channel on which servers tell each other that something changed.
const CHANNEL: &str = "certbind";

/// How many uses may wait.
const MAX_WAITING: usize = 8192;

/// How the engine is set up.
pub struct Settings {
    /// Where the database is; see [`Target::parse`].
    pub target: Target,
    /// Whom to believe that it is the database.
    pub tls: MakeRustlsConnect,
    /// How many connections there may be, beside the one that follows changes.
    pub connections: usize,
    /// How long a caller waits for its answer.
    pub deadline: Duration,
    /// What a fail-over may lose.
    pub loss: Loss,
    /// About how many used assertions may be on record; then [`StoreError::Full`].
    pub max_entries: u64,
}

/// The bound unless somebody says: some 4 GB of table and index. An hour of 9,000 assertions a second fits.
pub const MAX_ENTRIES: u64 = 1 << 25;

/// What the replica that takes over may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing: each commit waits for it.
    None,
    /// The latest commits.
    Possible,
}

/// Where the database is. Does not print: a password may be in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Target(tokio_postgres::Config);

impl Target {
    /// Reads `postgres://user:password@host/database`, or the same as `host=… user=… dbname=…`. What leaves this machine
    /// is encrypted, and the server's certificate and name are checked.
    ///
    /// # Errors
    /// [`UrlFault`].
    pub fn parse(text: &str) -> Result<Self, UrlFault> {
        url::parse(text).map(Self)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(&self.0.get_hosts()).finish()
    }
}

/// A store in a PostgreSQL database.
pub struct PostgresStore {
    inner: Arc<Inner>,
    uses: mpsc::Sender<Asked>,
    tasks: [AbortHandle; 3],
}

/// What the tasks of a store share.
struct Inner {
    pool: Pool<Connector>,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    runtime: Handle,
    deadline: Duration,
    loss: Loss,
    max_entries: u64,
    aside: audit::Aside,
}

impl PostgresStore {
    /// Opens the store, makes its tables when there are none, and brings older ones up to date. Must be called from within
    /// a tokio runtime, on which the store lives.
    ///
    /// # Errors
    /// The database cannot be reached, forgets what it commits, or belongs to another program or a newer version. There is
    /// no other store to fall back on.
    pub async fn open(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared::default());
        let connector = Connector {
            config: settings.target.0,
            tls: settings.tls,
            shared: Arc::clone(&shared),
            clock: Arc::clone(&clock),
        };
        let mut first = timeout(settings.deadline * 2, connector.open()).await.map_err(|_| StoreError::Busy)??;
        timeout(2 * migrate::PATIENCE, migrate::migrate(&mut first.client)).await.map_err(|_| StoreError::Busy)??;
        warn_of_replicas(&first.client, settings.loss).await?;
        shared.tell(follower::revisions(&first.client).await?);
        shared.count_entries(replay::count(&first.client).await?);
        drop(first);
        let pool = Pool::builder(connector)
            .max_size(settings.connections)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(settings.deadline))
            .create_timeout(Some(settings.deadline))
            .recycle_timeout(Some(settings.deadline))
            .build()
            .map_err(|error| StoreError::Unavailable(Arc::new(error)))?;
        let Settings { deadline, loss, max_entries, .. } = settings;
        let (runtime, aside) = (Handle::current(), audit::Aside::default());
        let inner = Arc::new(Inner { pool, shared, clock, runtime, deadline, loss, max_entries, aside });
        // So that the fence is known before the first use is looked at, and a server that could record none does not start.
        inner.with(|connection| Box::pin(probe::one_use(connection))).await?;
        let (uses, calls) = mpsc::channel(MAX_WAITING);
        let replay = tokio::spawn(replay::serve(Arc::clone(&inner), calls)).abort_handle();
        let follower = tokio::spawn(follower::follow(Arc::clone(&inner))).abort_handle();
        let prober = tokio::spawn(probe::again_and_again(Arc::clone(&inner))).abort_handle();
        Ok(Self { inner, uses, tasks: [replay, follower, prober] })
    }

    /// Has `work` done on a connection, on the store's own runtime.
    fn ask<T: Send + 'static>(
        &self,
        work: impl for<'c> FnOnce(&'c mut Connection) -> BoxFuture<'c, Result<T, StoreError>> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        let inner = Arc::clone(&self.inner);
        let done = self.inner.runtime.spawn(async move { inner.with(work).await });
        Box::pin(async move { done.await.unwrap_or(Err(StoreError::Stopped)) })
    }

    /// As [`Self::ask`], for a change: others are told of it before its caller hears.
    fn change<T: Send + 'static>(
        &self,
        work: impl for<'c> FnOnce(&'c mut Connection) -> BoxFuture<'c, Result<T, StoreError>> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        let shared = Arc::clone(&self.inner.shared);
        self.ask(move |connection| {
            Box::pin(async move {
                let outcome = work(&mut *connection).await?;
                shared.tell(follower::revisions(&connection.client).await?);
                Ok(outcome)
            })
        })
    }
}

impl PostgresStore {
    /// Has audit lines or uses written or dropped, beside what requests wait for, on the store's own runtime.
    fn write_aside<T: Send + 'static>(
        &self,
        work: impl for<'c> FnOnce(&'c mut Connection) -> BoxFuture<'c, Result<T, StoreError>> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        let inner = Arc::clone(&self.inner);
        let done = self.inner.runtime.spawn(async move { inner.write_aside(work).await });
        Box::pin(async move { done.await.unwrap_or(Err(StoreError::Stopped)) })
    }

    /// Has audit lines looked at, on the store's own runtime.
    fn look_aside<T: Send + 'static>(
        &self,
        work: impl for<'c> FnOnce(&'c mut Connection) -> BoxFuture<'c, Result<T, StoreError>> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        let inner = Arc::clone(&self.inner);
        let done = self.inner.runtime.spawn(async move { inner.look_aside(work).await });
        Box::pin(async move { done.await.unwrap_or(Err(StoreError::Stopped)) })
    }
}

impl Inner {
    /// Whether the assertion may have been used on a database that is no more.
    fn may_be_lost(&self, used: &Use) -> bool {
        self.loss == Loss::Possible && super::fence::is_before(self.shared.fence(), used)
    }

    /// Does `work` on a connection of the pool within the deadline, unless nothing does just now.
    async fn with<T>(
        &self,
        work: impl for<'c> FnOnce(&'c mut Connection) -> BoxFuture<'c, Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        if !self.shared.answers() {
            return Err(StoreError::Away);
        }
        let outcome = self.attempt(work).await;
        if let Err(error) = outcome.as_ref()
            && concerns_everybody(error)
        {
            self.shared.failed(error);
        }
        outcome
    }

    /// Does `work` on a connection of the pool within the deadline.
    async fn attempt<T>(
        &self,
        work: impl for<'c> FnOnce(&'c mut Connection) -> BoxFuture<'c, Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let done = timeout(self.deadline, async {
            let mut connection = self.pool.get().await?;
            connection.begin();
            let outcome = work(&mut connection).await;
            connection.end();
            outcome
        });
        done.await.unwrap_or(Err(StoreError::Busy))
    }
}

/// Whether the next call will hardly fare better, whatever it asks for. A database that refuses one statement may take
/// others.
fn concerns_everybody(error: &StoreError) -> bool {
    /// Connection, resources, operator, system, internal: the first two characters of a code say which kind of error it is.
    const CLASSES: [&str; 5] = ["08", "53", "57", "58", "XX"];
    match error {
        StoreError::Busy | StoreError::ReadOnly | StoreError::NotDurable { .. } | StoreError::Unlogged { .. } => true,
        StoreError::Unavailable(cause) => {
            let code = cause.downcast_ref::<tokio_postgres::Error>().and_then(tokio_postgres::Error::code);
            code.is_none_or(|code| CLASSES.iter().any(|class| code.code().starts_with(class)))
        }
        _ => false,
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        self.inner.pool.close();
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("healthy", &self.inner.shared.is_healthy()).finish_non_exhaustive()
    }
}

impl ReplayStore for PostgresStore {
    fn first_use(&self, used: Use, now: Timestamp) -> BoxFuture<'_, Result<FirstUse, StoreError>> {
        Box::pin(async move {
            if self.inner.may_be_lost(&used) {
                return Err(StoreError::BeforeFailOver);
            }
            if !self.is_healthy() {
                return Err(StoreError::Away);
            }
            if self.live_entries() >= self.inner.max_entries {
                return Err(StoreError::Full);
            }
            let (reply, answer) = oneshot::channel();
            self.uses.try_send(Asked { used, now, reply }).map_err(|_| StoreError::Busy)?;
            match timeout(self.inner.deadline, answer).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => Err(StoreError::Stopped),
                Err(_) => Err(StoreError::Busy),
            }
        })
    }

    fn live_entries(&self) -> u64 {
        self.inner.shared.entries()
    }

    fn is_healthy(&self) -> bool {
        self.inner.shared.is_healthy()
    }
}

impl KeyStore for PostgresStore {
    fn load(&self) -> BoxFuture<'_, Result<StoredKeys, StoreError>> {
        self.ask(|connection| Box::pin(tables::load_keys(&connection.client)))
    }

    fn replace(&self, seen: Revision, keys: Vec<StoredKey>) -> BoxFuture<'_, Result<Replaced, StoreError>> {
        self.change(move |connection| {
            Box::pin(async move { tables::replace_keys(&mut connection.client, seen, &keys).await })
        })
    }
}

impl ClientStore for PostgresStore {
    fn clients_since(&self, since: Revision) -> BoxFuture<'_, Result<Vec<ClientChange>, StoreError>> {
        self.ask(move |connection| Box::pin(tables::clients_since(&connection.client, since)))
    }

    fn put_client(
        &self,
        client_id: String,
        metadata: String,
        expected: Expected,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Written, StoreError>> {
        self.change(move |connection| {
            Box::pin(async move {
                tables::write_client(&mut connection.client, &client_id, Some(&metadata), expected, now).await
            })
        })
    }

    fn delete_client(
        &self,
        client_id: String,
        expected: Expected,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Written, StoreError>> {
        self.change(move |connection| {
            Box::pin(async move { tables::write_client(&mut connection.client, &client_id, None, expected, now).await })
        })
    }
}

impl RevocationStore for PostgresStore {
    fn revoke(&self, revocation: Revocation, now: Timestamp) -> BoxFuture<'_, Result<Revision, StoreError>> {
        self.change(move |connection| {
            Box::pin(async move { tables::revoke(&mut connection.client, &revocation, now).await })
        })
    }

    fn lift(&self, lifted: Revocation, now: Timestamp) -> BoxFuture<'_, Result<Option<Revision>, StoreError>> {
        self.change(move |connection| Box::pin(async move { tables::lift(&mut connection.client, &lifted, now).await }))
    }

    fn revocations_since(
        &self,
        since: Revision,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<(Revision, Revocation)>, StoreError>> {
        self.ask(move |connection| Box::pin(tables::revocations_since(&connection.client, since, now)))
    }
}

impl UsageStore for PostgresStore {
    fn note_uses(&self, uses: Vec<Usage>, now: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        self.write_aside(move |connection| {
            Box::pin(async move { usage::note(&mut connection.client, &uses, now).await })
        })
    }

    fn uses_of(&self, client_ids: Vec<String>) -> BoxFuture<'_, Result<Vec<Usage>, StoreError>> {
        self.ask(move |connection| Box::pin(async move { usage::of(&connection.client, &client_ids).await }))
    }
}

impl Changes for PostgresStore {
    fn changes(&self) -> watch::Receiver<Revisions> {
        self.inner.shared.changes.subscribe()
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.code() {
            Some(
                &SqlState::LOCK_NOT_AVAILABLE
                | &SqlState::QUERY_CANCELED
                | &SqlState::T_R_DEADLOCK_DETECTED
                | &SqlState::T_R_SERIALIZATION_FAILURE,
            ) => Self::Busy,
            Some(&SqlState::READ_ONLY_SQL_TRANSACTION) => Self::ReadOnly,
            None if is_of_a_replica(&error) => Self::ReadOnly,
            Some(&SqlState::DATA_CORRUPTED | &SqlState::INDEX_CORRUPTED) => Self::Corrupt(Some(Arc::new(error))),
            _ => Self::Unavailable(Arc::new(error)),
        }
    }
}

/// What the library says when a server was reached and takes no writes (`target_session_attrs`).
fn is_of_a_replica(error: &tokio_postgres::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::PermissionDenied)
}

impl From<PoolError<StoreError>> for StoreError {
    fn from(error: PoolError<StoreError>) -> Self {
        match error {
            PoolError::Backend(error) => error,
            PoolError::Closed => Self::Stopped,
            PoolError::Timeout(_) | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => Self::Busy,
        }
    }
}

/// A replica that is not waited for lacks the latest commits when it takes over.
async fn warn_of_replicas(client: &tokio_postgres::Client, loss: Loss) -> Result<(), StoreError> {
    let row = client
        .query_one(
            "SELECT count(*) FROM pg_stat_replication WHERE current_setting('synchronous_standby_names') = ''",
            &[],
        )
        .await?;
    match (row.try_get::<_, i64>(0)?, loss) {
        (0, _) => {}
        (_, Loss::Possible) => tracing::warn!(
            "the database has replicas and waits for none of them (synchronous_standby_names is empty): after a fail-over \
             assertions from before it are refused"
        ),
        (_, Loss::None) => tracing::error!(
            "storage.replicas is \"synchronous\", but the database waits for no replica (synchronous_standby_names is \
             empty): a fail-over would make used assertions good again"
        ),
    }
    Ok(())
}
