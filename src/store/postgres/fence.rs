//! Whether this is still the database that the uses were committed on, or a copy that may lack the latest ones.
//!
//! A fail-over to an asynchronous replica and a restore from a backup both go on from an earlier state, and both begin a
//! new timeline. Whoever meets one first moves the fence to now: what was issued before it may have been used on what was
//! lost, and is refused for as long as it could live.

use std::time::Duration;

use certbind_proto::time::Timestamp;
use tokio_postgres::Client;

use super::super::Use;
use super::StoreError;
use super::connect::timestamp;

/// Where the database stands now: which cluster, and which of its timelines.
const HERE: &str = "SELECT (SELECT system_identifier::text FROM pg_control_system()), \
     substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)";

/// How far the clocks of clients may run ahead, at most: an `iat` of up to so much later may be from before the fence.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// The longest time from the acceptance of an assertion to its end, whatever `assertions.max_lifetime` was then.
const LONGEST_LIFE: Duration = Duration::from_secs(3600 + 2 * 60);

/// Whether the assertion may have been used on what was lost. One without `iat` may, for as long as any could live.
pub(super) fn is_before(fence: Timestamp, used: &Use) -> bool {
    let may_have_been_accepted = used.issued.is_none_or(|issued| issued <= fence.plus(CLOCK_SKEW));
    may_have_been_accepted && used.keep_until <= fence.plus(LONGEST_LIFE)
}

/// Compares where the database stands with where it stood, and gives the fence. Two servers that look at once both see
/// the move of one of them.
pub(super) async fn look(client: &Client, now: Timestamp) -> Result<Timestamp, StoreError> {
    let here = client.query_one(HERE, &[]).await?;
    let (cluster, timeline): (String, String) = (here.try_get(0)?, here.try_get(1)?);
    let moved = client
        .query_opt(
            "UPDATE certbind.replay_state SET system_identifier = $1, timeline = $2, fence = greatest(fence, $3) \
             WHERE id = 1 AND (system_identifier, timeline) <> ($1, $2) RETURNING fence",
            &[&cluster, &timeline, &now.millis()],
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

#[cfg(test)]
mod tests {
    use super::super::super::ReplayKey;
    use super::*;

    #[test]
    fn fault_3_what_may_have_been_used_on_what_was_lost_is_refused_and_nothing_else() {
        let fence = Timestamp::from_unix(1_795_375_800);
        let second = Duration::from_secs(1);
        let (before, soon) = (fence.minus(second), fence.plus(90 * second));
        for (issued, keep_until, refused) in [
            (Some(before), soon, true),
            (None, soon, true),
            (Some(fence.plus(60 * second)), soon, true),
            (Some(fence.plus(61 * second)), soon, false),
            (Some(before), fence.plus(3720 * second), true),
            (None, fence.plus(3720 * second), true),
            (Some(before), fence.plus(3721 * second), false),
            (None, fence.plus(3721 * second), false),
        ] {
            let used = Use { key: ReplayKey::of("batch", "a"), issued, keep_until };
            assert_eq!(is_before(fence, &used), refused, "issued {issued:?}, kept until {keep_until}");
        }
        let nothing_lost = Timestamp::from_millis(i64::MIN);
        let used = Use { key: ReplayKey::of("batch", "a"), issued: None, keep_until: soon };
        assert!(!is_before(nothing_lost, &used));
    }
}
