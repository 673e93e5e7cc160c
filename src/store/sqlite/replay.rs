//! The log of used assertions: rows are appended, followed and, when their time is over, deleted.

use certbind_proto::time::Timestamp;
use rusqlite::{Connection, params};

use super::super::replay_index::ReplayIndex;
use super::super::{ReplayKey, StoreError};
use super::checksum;

/// After so many new rows some old ones are deleted along with them.
const SWEEP_EVERY: i64 = 256;

/// How many rows are looked at for each new one: garbage stays below a quarter of the table.
const SWEEP_RATE: i64 = 4;

/// The most rows that are looked at in one commit (some milliseconds).
const SWEEP_MOST: i64 = 8192;

/// Where this process stands in the log.
#[derive(Debug, Default)]
pub(super) struct ReplayLog {
    newest: i64,
    swept: i64,
    unswept: i64,
}

impl ReplayLog {
    /// Takes into the index what other processes, or this one before a restart, have written.
    ///
    /// Under the write lock this makes the index complete: nobody else can add a row before the lock is given back.
    pub(super) fn follow(&mut self, connection: &Connection, index: &mut ReplayIndex) -> Result<(), StoreError> {
        let horizon = connection
            .prepare_cached("SELECT horizon FROM replay_horizon WHERE id = 1")?
            .query_row([], |row| row.get(0))?;
        index.raise_horizon(Timestamp::from_millis(horizon));
        let mut query =
            connection.prepare_cached("SELECT id, key, keep_until, checksum FROM replay WHERE id > ?1 ORDER BY id")?;
        let mut rows = query.query([self.newest])?;
        while let Some(row) = rows.next()? {
            let (id, key, keep_until) = (row.get(0)?, row.get(1)?, Timestamp::from_millis(row.get(2)?));
            if row.get::<_, i64>(3)? != sum(id, &key, keep_until) {
                return Err(StoreError::Corrupt(None));
            }
            index.insert(ReplayKey::from_bytes(key), keep_until);
            self.newest = id;
        }
        Ok(())
    }

    /// Writes new rows at the end; they count once they are committed.
    pub(super) fn append<'a>(
        &self,
        connection: &Connection,
        uses: impl Iterator<Item = (&'a ReplayKey, &'a Timestamp)>,
    ) -> Result<(), StoreError> {
        let mut insert =
            connection.prepare_cached("INSERT INTO replay (id, key, keep_until, checksum) VALUES (?1, ?2, ?3, ?4)")?;
        for (id, (key, keep_until)) in (self.newest + 1..).zip(uses) {
            let key = key.as_bytes();
            insert.execute(params![id, key, keep_until.millis(), sum(id, key, *keep_until)])?;
        }
        Ok(())
    }

    /// The rows that were appended are on disk.
    pub(super) fn committed(&mut self, rows: i64) {
        self.newest += rows;
        self.unswept += rows;
    }

    /// Now and then deletes rows below the horizon, the horizon written first, in a step of bounded size.
    pub(super) fn sweep(&mut self, connection: &Connection, horizon: Timestamp) -> Result<(), StoreError> {
        if self.unswept < SWEEP_EVERY || horizon.millis() == i64::MIN {
            return Ok(());
        }
        let most = (SWEEP_RATE * self.unswept).min(SWEEP_MOST);
        let end: i64 = connection
            .prepare_cached(
                "SELECT ifnull(max(id), 0) FROM (SELECT id FROM replay WHERE id > ?1 ORDER BY id LIMIT ?2)",
            )?
            .query_row(params![self.swept, most], |row| row.get(0))?;
        let end = end.min(self.newest - 1);
        connection
            .prepare_cached("UPDATE replay_horizon SET horizon = max(horizon, ?1) WHERE id = 1")?
            .execute([horizon.millis()])?;
        connection.prepare_cached("DELETE FROM replay WHERE id > ?1 AND id <= ?2 AND keep_until <= ?3")?.execute([
            self.swept,
            end,
            horizon.millis(),
        ])?;
        // At the end of the table the next step begins at its start again.
        self.swept = if end == self.newest - 1 { 0 } else { end };
        self.unswept = 0;
        Ok(())
    }
}

fn sum(id: i64, key: &[u8; 16], keep_until: Timestamp) -> i64 {
    checksum::of(&[&id.to_le_bytes(), key, &keep_until.millis().to_le_bytes()])
}

/// Writes something that changes nothing, to see whether the disk takes it.
pub(super) fn probe(connection: &Connection) -> Result<(), StoreError> {
    connection.execute("UPDATE replay_horizon SET horizon = horizon WHERE id = 1", [])?;
    Ok(())
}
