//! Whether this is still the database that the uses were committed on, or a copy that may lack the latest ones.
//!
//! A fail-over to an asynchronous replica and a restore from a backup both go on from an earlier state, and both begin a
//! new timeline. Whoever meets one first moves the fence to now: what was issued before it may have been used on what was
//! lost, and is refused for as long as it could live.

use certbind_proto::time::Timestamp;
use tokio_postgres::Client;

use super::super::changes::COPY;
use super::StoreError;
use super::connect::timestamp;

/// Where the database stands now: which cluster, and which of its timelines.
const HERE: &str = "SELECT (SELECT system_identifier::text FROM pg_control_system()), \
     substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)";

/// Compares where the database stands with where it stood, and gives the fence. Two servers that look at once both see
/// the move of one of them.
pub(super) async fn look(client: &Client, now: Timestamp) -> Result<Timestamp, StoreError> {
    let here = client.query_one(HERE, &[]).await?;
    let (cluster, timeline): (String, String) = (here.try_get(0)?, here.try_get(1)?);
    let moved = client
        .query_opt(
            // Servers that go on would otherwise take the next changes for those that were lost, which they have seen.
            "WITH moved AS ( \
                UPDATE certbind.replay_state SET system_identifier = $1, timeline = $2, fence = greatest(fence, $3) \
                WHERE id = 1 AND (system_identifier, timeline) <> ($1, $2) RETURNING fence \
             ), grown AS ( \
                UPDATE certbind.revisions SET revision = revision + $4 WHERE EXISTS (SELECT 1 FROM moved) \
             ) SELECT fence FROM moved",
            &[&cluster, &timeline, &now.millis(), &COPY],
        )
        .await?;
    if let Some(row) = moved {
        let fence = timestamp(&row, 0)?;
        tracing::warn!(
            %fence,
            "the database was replaced by a copy (fail-over or restore): assertions from before it are refused"
        );
        return Ok(fence);
    }
    timestamp(&client.query_one("SELECT fence FROM certbind.replay_state WHERE id = 1", &[]).await?, 0)
}

/// Moves the fence to now: a crash may have taken uses back, or may yet.
pub(super) async fn raise(client: &Client, now: Timestamp) -> Result<(), StoreError> {
    client
        .execute("UPDATE certbind.replay_state SET fence = greatest(fence, $1) WHERE id = 1", &[&now.millis()])
        .await?;
    Ok(())
}

/// Records where a new database stands: there is nothing that could have been lost.
pub(super) async fn begin(client: &Client) -> Result<(), StoreError> {
    let here = client.query_one(HERE, &[]).await?;
    let (cluster, timeline): (String, String) = (here.try_get(0)?, here.try_get(1)?);
    client
        .execute(
            "INSERT INTO certbind.replay_state (id, horizon, fence, system_identifier, timeline) \
             VALUES (1, $1, $1, $2, $3)",
            &[&i64::MIN, &cluster, &timeline],
        )
        .await?;
    Ok(())
}
