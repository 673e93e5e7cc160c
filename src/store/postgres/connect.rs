//! One connection to the database: opened within a deadline, and looked at before anything is trusted to it.

use std::future::poll_fn;
use std::sync::Arc;

use certbind_proto::time::{Clock, Timestamp};
use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client, Config, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::shared::Shared;
use super::{StoreError, fence, replay};

/// What holds for every session: nothing may hang, whatever the database is set to, and nobody else's tables are meant.
const SESSION: &str = "SET statement_timeout = '2s'; SET lock_timeout = '1s'; \
     SET idle_in_transaction_session_timeout = '5s'; SET search_path = pg_catalog";

/// Opens connections.
pub(super) struct Connector {
    pub(super) config: Config,
    pub(super) tls: MakeRustlsConnect,
    pub(super) shared: Arc<Shared>,
    pub(super) clock: Arc<dyn Clock>,
}

/// An open connection.
pub(super) struct Connection {
    pub(super) client: Client,
    insert: Option<Statement>,
    task: JoinHandle<()>,
    in_use: bool,
}

/// What stands in between is cut off: nobody waits for its answer any more.
impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// The statement that records uses, planned once for each connection.
    pub(super) async fn insert(&mut self) -> Result<Statement, StoreError> {
        if self.insert.is_none() {
            self.insert = Some(self.client.prepare(replay::INSERT).await?);
        }
        self.insert.clone().ok_or(StoreError::Stopped)
    }

    /// Marks what begins now; a connection whose last work was not seen to end is not used again.
    pub(super) const fn begin(&mut self) {
        self.in_use = true;
    }

    /// The work ended.
    pub(super) const fn end(&mut self) {
        self.in_use = false;
    }
}

impl Connector {
    /// Opens a connection whose database exists and keeps what it commits, but may still be empty.
    pub(super) async fn open(&self) -> Result<Connection, StoreError> {
        let (client, mut connection) = self.config.connect(self.tls.clone()).await?;
        let shared = Arc::clone(&self.shared);
        let task = tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                match message {
                    AsyncMessage::Notification(_) => shared.wake_follower(),
                    AsyncMessage::Notice(notice) => tracing::debug!(%notice, "the database says"),
                    _ => {}
                }
            }
        });
        let connection = Connection { client, insert: None, task, in_use: false };
        connection.client.batch_execute(SESSION).await?;
        is_durable(&connection.client).await?;
        Ok(connection)
    }
}

impl Manager for Connector {
    type Type = Connection;
    type Error = StoreError;

    /// A connection lives on one server process, and a process that is promoted, restored or newly reached is met by a new
    /// connection: so the fence is looked at here and nowhere else.
    async fn create(&self) -> Result<Connection, StoreError> {
        let connection = self.open().await?;
        keeps_commits(&connection.client, self.clock.now()).await?;
        let fence = fence::look(&connection.client, self.clock.now()).await?;
        self.shared.raise_fence(fence);
        Ok(connection)
    }

    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> RecycleResult<StoreError> {
        if connection.in_use || connection.client.is_closed() {
            return Err(RecycleError::message("cut off"));
        }
        Ok(())
    }
}

/// Refuses a database that forgets what it said was committed, and tables that a crash empties. What was recorded there
/// until now may be gone, even if they keep it from now on.
pub(super) async fn keeps_commits(client: &Client, now: Timestamp) -> Result<(), StoreError> {
    let mut kept = is_durable(client).await;
    if kept.is_ok() {
        kept = are_logged(client).await;
    }
    if matches!(kept, Err(StoreError::NotDurable { .. } | StoreError::Unlogged { .. })) {
        fence::raise(client, now).await?;
    }
    kept
}

/// Refuses settings by which a crash takes commits back.
async fn is_durable(client: &Client) -> Result<(), StoreError> {
    let row = client
        .query_one(
            "SELECT pg_is_in_recovery(), current_setting('synchronous_commit'), current_setting('fsync'), \
             current_setting('full_page_writes')",
            &[],
        )
        .await?;
    if row.try_get(0)? {
        return Err(StoreError::ReadOnly);
    }
    for (column, setting) in [(1, "synchronous_commit"), (2, "fsync"), (3, "full_page_writes")] {
        if row.try_get::<_, &str>(column)? == "off" {
            return Err(StoreError::NotDurable { setting });
        }
    }
    Ok(())
}

/// Refuses tables of ours that are in no write-ahead log.
async fn are_logged(client: &Client) -> Result<(), StoreError> {
    let unlogged = client
        .query_opt(
            "SELECT relname::text FROM pg_class WHERE relnamespace = to_regnamespace('certbind') AND relkind IN ('r', 'p') \
             AND relpersistence <> 'p' ORDER BY relname LIMIT 1",
            &[],
        )
        .await?;
    unlogged.map_or(Ok(()), |row| Err(StoreError::Unlogged { table: row.try_get(0)? }))
}

/// A column of milliseconds since 1970.
pub(super) fn timestamp(row: &tokio_postgres::Row, column: usize) -> Result<Timestamp, StoreError> {
    Ok(Timestamp::from_millis(row.try_get(column)?))
}
