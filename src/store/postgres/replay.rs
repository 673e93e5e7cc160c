//! Used assertions in PostgreSQL: calls that wait are committed as one group, and the primary key decides between servers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use certbind_proto::time::Timestamp;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_postgres::Client;

use super::super::{FirstUse, ReplayKey, StoreError, Use};
use super::Inner;
use super::connect::{Connection, timestamp};

/// The most calls in one commit.
const GROUP: usize = 512;

/// How many groups are on the way at once. While all are, calls gather, so that a fleet is not bound by one commit each.
const LANES: usize = 2;

/// How long a key stays after its time: a clock that is set back by less loses nothing, and one that is set back by more
/// opens nothing, as the horizon stays.
const GRACE: Duration = Duration::from_secs(3600 + 60);

/// How often what is over is deleted, and how long a horizon is known before anything below it goes: far longer than a
/// statement may run, so that no insert that has not seen it is still on the way.
pub(super) const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// The most rows that are deleted in one step. While there are more, each look at the database is a step.
const SWEEP_MOST: i64 = 20_000;

/// The most rows that are counted one by one.
const COUNT_MOST: i64 = 50_000;

/// In the order of the keys, so that two groups with the same keys wait for each other and never in a circle.
pub(super) const INSERT: &str = "INSERT INTO certbind.replay (key, keep_until) \
     SELECT k, u FROM unnest($1::bytea[], $2::bigint[]) AS used (k, u) \
     WHERE u > (SELECT horizon FROM certbind.replay_state WHERE id = 1) ORDER BY k \
     ON CONFLICT (key) DO NOTHING RETURNING key";

/// A call that waits.
pub(super) struct Asked {
    pub(super) used: Use,
    pub(super) now: Timestamp,
    pub(super) reply: oneshot::Sender<Result<FirstUse, StoreError>>,
}

/// Takes what waits as groups, until nobody can call any more.
pub(super) async fn serve(inner: Arc<Inner>, mut calls: mpsc::Receiver<Asked>) {
    let lanes = Arc::new(Semaphore::new(LANES));
    loop {
        let Ok(lane) = Arc::clone(&lanes).acquire_owned().await else { return };
        let mut group = Vec::with_capacity(16);
        if calls.recv_many(&mut group, GROUP).await == 0 {
            return;
        }
        group.retain(|asked| !asked.reply.is_closed());
        let inner = Arc::clone(&inner);
        tokio::spawn(async move {
            serve_group(&inner, group).await;
            drop(lane);
        });
    }
}

/// One failed commit fails everyone in it: nothing that may be lost is answered as first.
async fn serve_group(inner: &Inner, group: Vec<Asked>) {
    let uses: Vec<(Use, Timestamp)> = group.iter().map(|asked| (asked.used, asked.now)).collect();
    let decided = inner.with(move |connection| Box::pin(async move { decide(connection, &uses).await })).await;
    match decided {
        Ok(answers) => {
            // A connection that was opened for this very group may have found that the database is another one.
            let firsts = answers.iter().filter(|answer| matches!(answer, Ok(FirstUse::Yes))).count();
            inner.shared.add_entries(firsts);
            for (asked, answer) in group.into_iter().zip(answers) {
                let answer = if inner.may_be_lost(&asked.used) { Err(StoreError::BeforeFailOver) } else { answer };
                let _ = asked.reply.send(answer);
            }
        }
        Err(error) => {
            inner.shared.refused(&error);
            for asked in group {
                let _ = asked.reply.send(Err(error.clone()));
            }
        }
    }
}

/// Decides a group: the first of each key is asked for, and later ones in the same group were not first.
async fn decide(
    connection: &mut Connection,
    uses: &[(Use, Timestamp)],
) -> Result<Vec<Result<FirstUse, StoreError>>, StoreError> {
    let mut firsts: HashMap<ReplayKey, (Use, Timestamp)> = HashMap::with_capacity(uses.len());
    for (used, now) in uses {
        firsts.entry(used.key).or_insert((*used, *now));
    }
    let mut outcomes = insert(connection, firsts.values().map(|(used, _)| used)).await?;
    firsts.retain(|key, _| !outcomes.contains_key(key));
    again(&connection.client, firsts.values(), &mut outcomes).await?;
    let answer = |used: &Use| match outcomes.get_mut(&used.key) {
        Some(outcome @ Ok(FirstUse::Yes)) => std::mem::replace(outcome, Ok(FirstUse::No)),
        Some(outcome) => outcome.clone(),
        None => Err(StoreError::Corrupt(None)),
    };
    Ok(uses.iter().map(|(used, _)| used).map(answer).collect())
}

/// What came of each key.
type Outcomes = HashMap<ReplayKey, Result<FirstUse, StoreError>>;

/// Inserts them, and gives those that were inserted.
async fn insert<'a>(connection: &mut Connection, uses: impl Iterator<Item = &'a Use>) -> Result<Outcomes, StoreError> {
    let (keys, times): (Vec<&[u8]>, Vec<i64>) =
        uses.map(|used| (&used.key.as_bytes()[..], used.keep_until.millis())).unzip();
    let statement = connection.insert().await?;
    let rows = connection.client.query(&statement, &[&keys, &times]).await?;
    rows.iter().map(|row| Ok((key(row.try_get(0)?)?, Ok(FirstUse::Yes)))).collect()
}

/// What keys are that could not be inserted: used, over and to be used again, or below the horizon.
async fn again<'a>(
    client: &Client,
    uses: impl Iterator<Item = &'a (Use, Timestamp)> + Clone,
    outcomes: &mut Outcomes,
) -> Result<(), StoreError> {
    let keys: Vec<&[u8]> = uses.clone().map(|(used, _)| &used.key.as_bytes()[..]).collect();
    if keys.is_empty() {
        return Ok(());
    }
    let rows = client.query("SELECT key, keep_until FROM certbind.replay WHERE key = ANY ($1)", &[&keys]).await?;
    let held = rows.iter().map(|row| Ok((key(row.try_get(0)?)?, timestamp(row, 1)?)));
    let held: HashMap<ReplayKey, Timestamp> = held.collect::<Result<_, StoreError>>()?;
    for (used, now) in uses {
        let outcome = match held.get(&used.key) {
            None => Err(StoreError::ClockBehind),
            // The second condition refuses the same assertion for as long as it is held, whatever the clock says.
            Some(held) if now <= held || used.keep_until <= *held => Ok(FirstUse::No),
            Some(held) => take_over(client, used, *held).await,
        };
        outcomes.insert(used.key, outcome);
    }
    Ok(())
}

/// A key whose time is over is used anew by whoever is the first to say so.
async fn take_over(client: &Client, used: &Use, held: Timestamp) -> Result<FirstUse, StoreError> {
    let taken = client
        .execute(
            "UPDATE certbind.replay SET keep_until = $2 WHERE key = $1 AND keep_until = $3",
            &[&&used.key.as_bytes()[..], &used.keep_until.millis(), &held.millis()],
        )
        .await?;
    Ok(if taken == 1 { FirstUse::Yes } else { FirstUse::No })
}

/// What was swept last; it lies with the one who sweeps.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// The horizon as it was when it was last moved up.
    known: Option<Timestamp>,
    /// There was more to delete than one step does.
    pub(super) is_behind: bool,
}

impl Sweep {
    /// Deletes what was below the horizon when it was last moved up.
    pub(super) async fn delete(&mut self, client: &Client) -> Result<(), StoreError> {
        let Some(known) = self.known else { return Ok(()) };
        let deleted = client
            .execute(
                "DELETE FROM certbind.replay WHERE ctid = ANY (ARRAY( \
                 SELECT ctid FROM certbind.replay WHERE keep_until <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)) \
                 AND keep_until <= $1",
                &[&known.millis(), &SWEEP_MOST],
            )
            .await?;
        self.is_behind = deleted >= SWEEP_MOST.unsigned_abs();
        Ok(())
    }

    /// Moves the horizon up.
    pub(super) async fn advance(&mut self, client: &Client, now: Timestamp) -> Result<(), StoreError> {
        let row = client
            .query_one(
                "UPDATE certbind.replay_state SET horizon = greatest(horizon, $1) WHERE id = 1 RETURNING horizon",
                &[&now.minus(GRACE).millis()],
            )
            .await?;
        self.known = Some(timestamp(&row, 0)?);
        Ok(())
    }
}

/// How many uses are on record: the number up to some ten thousand, and beyond that what the database estimates, as nobody
/// waits for millions of rows to be counted.
pub(super) async fn count(client: &Client) -> Result<u64, StoreError> {
    let row = client
        .query_one(
            "SELECT CASE WHEN counted <= $1::bigint THEN counted ELSE greatest(counted, estimated) END \
             FROM (SELECT count(*) AS counted FROM (SELECT FROM certbind.replay LIMIT $1::bigint + 1) AS counted_rows) AS few, \
             (SELECT greatest(reltuples::bigint, pg_stat_get_live_tuples(oid)) AS estimated \
             FROM pg_class WHERE oid = 'certbind.replay'::regclass) AS many",
            &[&COUNT_MOST],
        )
        .await?;
    Ok(u64::try_from(row.try_get::<_, i64>(0)?).unwrap_or_default())
}

fn key(bytes: &[u8]) -> Result<ReplayKey, StoreError> {
    bytes.try_into().map(ReplayKey::from_bytes).map_err(|_| StoreError::Corrupt(None))
}
