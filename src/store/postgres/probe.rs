//! Tries what a request needs, so that health says what a request would meet: that a database answers and lets others' changes
//! be read does not say that it records a use.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::super::{ReplayKey, StoreError};
use super::Inner;
use super::connect::Connection;

/// How often it is tried while nothing fails: nobody may have asked for long.
const EVERY: Duration = Duration::from_secs(10);

/// And while it does.
const RETRY: Duration = Duration::from_millis(500);

/// Tries until the store is dropped.
pub(super) async fn again_and_again(inner: Arc<Inner>) {
    loop {
        let pause = if inner.shared.records() { EVERY } else { RETRY };
        let _ = timeout(pause, inner.shared.doubted()).await;
        // Whether a database that is away comes back, the follower sees.
        if !inner.shared.answers() {
            continue;
        }
        match inner.attempt(|connection| Box::pin(one_use(connection))).await {
            Ok(()) => inner.shared.recorded(),
            Err(error) => inner.shared.refused(&error),
        }
    }
}

/// Records a use and takes it back.
pub(super) async fn one_use(connection: &mut Connection) -> Result<(), StoreError> {
    let statement = connection.insert().await?;
    let transaction = connection.client.transaction().await?;
    // No other session has this number, so that no two wait for each other.
    let session: i32 = transaction.query_one("SELECT pg_backend_pid()", &[]).await?.try_get(0)?;
    let key = ReplayKey::of("", &session.to_string());
    let horizon: i64 =
        transaction.query_one("SELECT horizon FROM certbind.replay_state WHERE id = 1", &[]).await?.try_get(0)?;
    let keep_until = horizon.saturating_add(1);
    let (keys, times) = (vec![&key.as_bytes()[..]], vec![keep_until]);
    let recorded = transaction.query(&statement, &[&keys, &times]).await?;
    if recorded.len() != 1 {
        return Err(StoreError::Corrupt(None));
    }
    Ok(transaction.rollback().await?)
}
