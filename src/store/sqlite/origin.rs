//! Whether this is the file that the uses were committed to, or a copy of it that may lack the latest ones.
//!
//! A copy that `certbind backup` made says so itself; any other is another file. Whoever opens one first moves the fence to
//! now: what was issued before it may have been used on the original.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use certbind_proto::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use super::super::StoreError;
use super::wal::Doubt;

/// The number of no file.
const COPY: i64 = 0;

/// Compares the file with the one on record, and gives the fence, and whether it is a copy. Two processes that look at once
/// both see the move of one of them.
pub(super) fn look(
    connection: &mut Connection,
    path: &Path,
    now: Timestamp,
) -> Result<(Timestamp, Option<Doubt>), StoreError> {
    let metadata = fs::metadata(path).map_err(|error| StoreError::Unavailable(Arc::new(error)))?;
    let here = metadata.ino().cast_signed();
    if let Some((file, fence)) = read(connection)?
        && file == here
    {
        return Ok((fence, None));
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let fence = match read(&transaction)? {
        Some((file, fence)) if file == here => return Ok((fence, None)),
        Some((_, fence)) => fence.max(now),
        None => Timestamp::from_millis(i64::MIN),
    };
    transaction
        .execute("INSERT OR REPLACE INTO origin (id, file, fence) VALUES (1, ?1, ?2)", params![here, fence.millis()])?;
    transaction.commit()?;
    let doubt = (fence.millis() != i64::MIN).then_some(Doubt::Copy);
    Ok((fence, doubt))
}

/// Moves the fence to now, as commits may be missing.
pub(super) fn raise(connection: &Connection, now: Timestamp) -> Result<Timestamp, StoreError> {
    let raise = "UPDATE origin SET fence = max(fence, ?1) WHERE id = 1 RETURNING fence";
    Ok(Timestamp::from_millis(connection.query_row(raise, [now.millis()], |row| row.get(0))?))
}

/// Says of this file that it is a copy, whatever its number will be.
pub(super) fn mark(connection: &Connection) -> Result<(), StoreError> {
    connection.execute("UPDATE origin SET file = ?1 WHERE id = 1", [COPY])?;
    Ok(())
}

fn read(connection: &Connection) -> Result<Option<(i64, Timestamp)>, StoreError> {
    let row = connection.query_row("SELECT file, fence FROM origin WHERE id = 1", [], |row| {
        Ok((row.get(0)?, Timestamp::from_millis(row.get(1)?)))
    });
    Ok(row.optional()?)
}
