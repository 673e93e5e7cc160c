//! Follows what other servers change: told by LISTEN/NOTIFY, and by a poll where that is not told. The same poll says
//! whether the database answers, and sees it come back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use tokio_postgres::Client;

use super::super::{Revision, Revisions, StoreError};
use super::connect::{self, Connection};
use super::replay::{self, Sweep};
use super::{CHANNEL, Inner};

/// How often the database is looked at when nothing is told: a change of another server is in force within this time.
const POLL: Duration = Duration::from_millis(500);

/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// How often a database that is away is tried.
const RETRY: Duration = Duration::from_millis(500);

/// Follows until the store is dropped.
pub(super) async fn follow(inner: Arc<Inner>) {
    loop {
        let opened = timeout(2 * ANSWER, begin(&inner)).await.unwrap_or(Err(StoreError::Busy));
        let failure = match opened {
            Ok(connection) => until_it_fails(&inner, &connection).await,
            Err(error) => error,
        };
        inner.shared.failed(&failure);
        sleep(RETRY).await;
    }
}

/// A connection of its own, so that a full pool hides nothing.
async fn begin(inner: &Inner) -> Result<Connection, StoreError> {
    let connection = deadpool::managed::Manager::create(inner.pool.manager()).await?;
    connection.client.batch_execute(&format!("LISTEN {CHANNEL}")).await?;
    Ok(connection)
}

async fn until_it_fails(inner: &Inner, connection: &Connection) -> StoreError {
    let (mut sweep, mut swept) = (Sweep::default(), Instant::now());
    loop {
        match timeout(ANSWER, revisions(&connection.client)).await {
            Ok(Ok(found)) => inner.shared.tell(found),
            Ok(Err(error)) => return error,
            Err(_) => return StoreError::Busy,
        }
        inner.shared.answered();
        let is_due = swept.elapsed() >= replay::SWEEP_EVERY;
        if is_due {
            swept = Instant::now();
            // Tables and settings change under connections that are open.
            match timeout(ANSWER, connect::keeps_commits(&connection.client, inner.clock.now())).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return error,
                Err(_) => return StoreError::Busy,
            }
        }
        // Why nothing is recorded, the log has said.
        let can_tend = inner.shared.is_healthy();
        if can_tend && (is_due || sweep.is_behind) {
            tend(inner, sweep.delete(&connection.client)).await;
        }
        if can_tend && is_due {
            tend(inner, sweep.advance(&connection.client, inner.clock.now())).await;
            if let Some(entries) = tend(inner, replay::count(&connection.client)).await {
                inner.shared.count_entries(entries);
            }
        }
        // Woken or not: there is something to look at.
        let _ = timeout(POLL, inner.shared.woken()).await;
    }
}

/// Work that may be late: the next step takes it up again.
async fn tend<T>(inner: &Inner, work: impl Future<Output = Result<T, StoreError>>) -> Option<T> {
    match timeout(inner.deadline, work).await {
        Ok(Ok(done)) => Some(done),
        Ok(Err(error)) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "the store could not be tidied");
            None
        }
        Err(_) => None,
    }
}

/// Where each kind stands.
pub(super) async fn revisions(client: &Client) -> Result<Revisions, StoreError> {
    let mut found = Revisions::default();
    for row in client.query("SELECT kind, revision FROM certbind.revisions", &[]).await? {
        let revision: Revision = row.try_get(1)?;
        match row.try_get(0)? {
            "clients" => found.clients = revision,
            "keys" => found.keys = revision,
            "revocations" => found.revocations = revision,
            _ => {}
        }
    }
    Ok(found)
}
