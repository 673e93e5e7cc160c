//! Audit lines in PostgreSQL, on connections of their own: neither a line that is slow to write nor a long search takes
//! anything from assertions, and neither makes the store count as away.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use certbind_proto::time::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::super::audit::{
    self, Appended, AuditChain, AuditLine, AuditMember, AuditQuery, AuditStore, FoundLine, LOOK, MAX_DROPPED, Members,
};
use super::super::{BoxFuture, StoreError};
use super::connect::Connection;
use super::{Inner, PostgresStore};

const TABLE: &str = "certbind.audit";

/// The advisory lock that writers take turns by, so that lines can be seen in the order of their ids: "certaudt".
const TURN: i64 = 0x6365_7274_6175_6474;

/// How long it may take to write.
const WRITE: Duration = Duration::from_secs(2);

/// How many look at once.
const LOOKS: usize = 2;

/// The connections beside the pool.
pub(super) struct Aside {
    writing: Mutex<Option<Connection>>,
    looks: Arc<Semaphore>,
}

impl Default for Aside {
    fn default() -> Self {
        Self { writing: Mutex::default(), looks: Arc::new(Semaphore::new(LOOKS)) }
    }
}

impl AuditStore for PostgresStore {
    fn append_audit(&self, lines: Vec<AuditLine>) -> BoxFuture<'_, Result<Appended, StoreError>> {
        self.write_aside(move |connection| Box::pin(async move { append(&mut connection.client, &lines).await }))
    }

    fn last_audit(&self, server: String) -> BoxFuture<'_, Result<Option<AuditLine>, StoreError>> {
        self.write_aside(move |connection| Box::pin(async move { last(&connection.client, &server).await }))
    }

    fn find_audit(&self, query: AuditQuery) -> BoxFuture<'_, Result<Vec<FoundLine>, StoreError>> {
        self.look_aside(move |connection| Box::pin(async move { find(&connection.client, &query).await }))
    }

    fn audit_chains(&self) -> BoxFuture<'_, Result<Vec<AuditChain>, StoreError>> {
        self.look_aside(|connection| Box::pin(chains(&connection.client)))
    }

    fn overdue_audit(&self, before: Timestamp) -> BoxFuture<'_, Result<Vec<AuditLine>, StoreError>> {
        self.look_aside(move |connection| Box::pin(overdue(&connection.client, before)))
    }

    fn drop_audit(&self, chain: String, through: i64) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.write_aside(move |connection| {
            Box::pin(async move { drop_through(&connection.client, &chain, through).await })
        })
    }
}

impl Inner {
    /// Does `work` on the connection that writes lines. After a failure a new one is opened.
    pub(super) async fn write_aside<T>(
        &self,
        work: impl for<'c> FnOnce(&'c mut Connection) -> BoxFuture<'c, Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        if !self.shared.answers() {
            return Err(StoreError::Away);
        }
        let slot = || self.aside.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = slot().take().filter(|connection| !connection.client.is_closed());
        let done = timeout(WRITE, async {
            let mut connection = match kept {
                Some(connection) => connection,
                None => deadpool::managed::Manager::create(self.pool.manager()).await?,
            };
            let outcome = work(&mut connection).await?;
            Ok((outcome, connection))
        });
        let (outcome, connection) = done.await.unwrap_or(Err(StoreError::Busy))?;
        *slot() = Some(connection);
        Ok(outcome)
    }

    /// Does `work` on a connection that only looks, and may take its time.
    pub(super) async fn look_aside<T>(
        &self,
        work: impl for<'c> FnOnce(&'c mut Connection) -> BoxFuture<'c, Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        if !self.shared.answers() {
            return Err(StoreError::Away);
        }
        let _permit = self.aside.looks.try_acquire().map_err(|_| StoreError::Busy)?;
        let done = timeout(LOOK, async {
            let mut connection = deadpool::managed::Manager::create(self.pool.manager()).await?;
            let patience = LOOK.as_millis();
            let session = format!("SET statement_timeout = {patience}; SET default_transaction_read_only = on");
            connection.client.batch_execute(&session).await?;
            work(&mut connection).await
        });
        done.await.unwrap_or(Err(StoreError::Busy))
    }
}

/// Adds lines, unless one of their numbers is taken.
pub(super) async fn append(client: &mut Client, lines: &[AuditLine]) -> Result<Appended, StoreError> {
    let transaction = client.transaction().await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&TURN]).await?;
    let texts = |text: fn(&AuditLine) -> &String| lines.iter().map(|line| text(line).as_str()).collect::<Vec<_>>();
    let (servers, chains, all) = (texts(|line| &line.server), texts(|line| &line.chain), texts(|line| &line.line));
    let seqs: Vec<i64> = lines.iter().map(|line| line.seq).collect();
    let times: Vec<i64> = lines.iter().map(|line| line.at.millis()).collect();
    let members: Vec<Vec<Option<&str>>> =
        (0..AuditMember::ALL.len()).map(|n| lines.iter().map(|line| line.members[n].as_deref()).collect()).collect();
    let mut values: Vec<&(dyn ToSql + Sync)> = vec![&servers, &chains, &seqs, &times];
    values.extend(members.iter().map(|member| member as &(dyn ToSql + Sync)));
    values.push(&all);
    let columns = audit::COLUMNS;
    let inserted = transaction
        .execute(
            &format!(
                "INSERT INTO {TABLE} ({columns}) SELECT {columns} FROM unnest($1::text[], $2::text[], $3::bigint[], \
                 $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], \
                 $12::text[], $13::text[]) WITH ORDINALITY AS lines ({columns}, n) ORDER BY n \
                 ON CONFLICT (chain, seq) DO NOTHING"
            ),
            &values,
        )
        .await?;
    if inserted != lines.len() as u64 {
        return Ok(Appended::Taken);
    }
    transaction.commit().await?;
    Ok(Appended::Done)
}

/// The last line of a server.
pub(super) async fn last(client: &Client, server: &str) -> Result<Option<AuditLine>, StoreError> {
    let columns = audit::COLUMNS;
    let query = format!("SELECT {columns} FROM {TABLE} WHERE server = $1 ORDER BY id DESC LIMIT 1");
    client.query_opt(&query, &[&server]).await?.as_ref().map(read).transpose()
}

/// Drops the beginning of a chain.
pub(super) async fn drop_through(client: &Client, chain: &str, through: i64) -> Result<u64, StoreError> {
    Ok(client.execute(&format!("DELETE FROM {TABLE} WHERE chain = $1 AND seq <= $2"), &[&chain, &through]).await?)
}

/// The lines that fit.
pub(super) async fn find(client: &Client, query: &AuditQuery) -> Result<Vec<FoundLine>, StoreError> {
    let texts: Vec<&str> = query.texts().map(|(_, text)| text).collect();
    let numbers: Vec<i64> = query.numbers().map(|(_, number)| number).collect();
    let texts = texts.iter().map(|text| text as &(dyn ToSql + Sync));
    let values: Vec<_> = texts.chain(numbers.iter().map(|number| number as &(dyn ToSql + Sync))).collect();
    let rows = client.query(&audit::conditions(query, TABLE, '$'), &values).await?;
    rows.iter().map(|row| Ok(FoundLine { id: row.try_get(13)?, line: read(row)? })).collect()
}

/// The chains that there are.
pub(super) async fn chains(client: &Client) -> Result<Vec<AuditChain>, StoreError> {
    let rows = client.query(&audit::chains(TABLE), &[]).await?;
    rows.iter().map(|row| Ok(AuditChain { server: row.try_get(0)?, chain: row.try_get(1)? })).collect()
}

/// How far each chain may be dropped.
pub(super) async fn overdue(client: &Client, before: Timestamp) -> Result<Vec<AuditLine>, StoreError> {
    let mut overdue = Vec::new();
    for first in client.query(&audit::chains(TABLE), &[]).await? {
        if Timestamp::from_millis(first.try_get(3)?) < before {
            overdue.extend(overdue_of(client, first.try_get(1)?, before).await?);
        }
    }
    Ok(overdue)
}

async fn overdue_of(client: &Client, chain: &str, before: Timestamp) -> Result<Option<AuditLine>, StoreError> {
    let query = format!("SELECT seq, at FROM {TABLE} WHERE chain = $1 ORDER BY seq LIMIT {MAX_DROPPED}");
    let rows = client.query(&query, &[&chain]).await?;
    let rows = rows.iter().map(|row| Ok((row.try_get(0)?, Timestamp::from_millis(row.try_get(1)?))));
    let rows: Vec<(i64, Timestamp)> = rows.collect::<Result<_, StoreError>>()?;
    let Some(through) = audit::overdue_through(rows, before) else { return Ok(None) };
    let columns = audit::COLUMNS;
    let query = format!("SELECT {columns} FROM {TABLE} WHERE chain = $1 AND seq = $2");
    client.query_opt(&query, &[&chain, &through]).await?.as_ref().map(read).transpose()
}

fn read(row: &Row) -> Result<AuditLine, StoreError> {
    let mut members = Members::default();
    for (n, member) in members.iter_mut().enumerate() {
        *member = row.try_get(4 + n)?;
    }
    let at = Timestamp::from_millis(row.try_get(3)?);
    let (server, chain, seq, line) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(12)?);
    Ok(AuditLine { server, chain, seq, at, members, line })
}
