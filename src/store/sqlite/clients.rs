//! The table of clients.

use std::time::Duration;

use certbind_proto::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};

use super::super::{ClientChange, Expected, Revision, StoreError, StoredClient, Written};
use super::checksum;
use super::revisions::{self, Kind};
use super::usage;

/// How long it is remembered that a client was removed: a process that was halted for longer reads everything anew.
const REMOVED_KEPT: Duration = Duration::from_secs(7 * 86_400);

/// What changed after `since`, oldest first.
pub(super) fn since(connection: &Connection, since: Revision) -> Result<Vec<ClientChange>, StoreError> {
    let mut query = connection.prepare_cached(
        "SELECT client_id, metadata, revision, created, updated, checksum FROM clients WHERE revision > ?1
         ORDER BY revision",
    )?;
    let mut rows = query.query([since])?;
    let mut changes = Vec::new();
    while let Some(row) = rows.next()? {
        changes.push(read(row)?);
    }
    Ok(changes)
}

/// Writes the client, or removes it when there is no `metadata`, if what is there is as expected.
pub(super) fn write(
    connection: &mut Connection,
    client_id: &str,
    metadata: Option<&str>,
    expected: Expected,
    now: Timestamp,
) -> Result<Written, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let there = transaction
        .prepare_cached(
            "SELECT client_id, metadata, revision, created, updated, checksum FROM clients WHERE client_id = ?1",
        )?
        .query_row([client_id], |row| Ok(read(row)))
        .optional()?
        .transpose()?;
    let there = there.and_then(|change| match change {
        ClientChange::Written(client) => Some(client),
        ClientChange::Removed { .. } => None,
    });
    let revision_there = there.as_ref().map(|client| client.revision);
    if !expected.holds(revision_there) {
        return Ok(Written::NotAsExpected { there: revision_there });
    }
    let revision = revisions::next(&transaction, Kind::Clients)?;
    let created = there.map_or(now, |client| client.created);
    let sum = sum(client_id, metadata, revision, created, now);
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO clients (client_id, metadata, revision, created, updated, checksum)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![client_id, metadata, revision, created.millis(), now.millis(), sum])?;
    if metadata.is_none() {
        usage::forget(&transaction, client_id)?;
    }
    transaction
        .prepare_cached("DELETE FROM clients WHERE metadata IS NULL AND updated < ?1")?
        .execute([now.minus(REMOVED_KEPT).millis()])?;
    transaction.commit()?;
    Ok(Written::Done(revision))
}

fn read(row: &Row<'_>) -> Result<ClientChange, StoreError> {
    let client_id: String = row.get(0)?;
    let metadata: Option<String> = row.get(1)?;
    let revision = row.get(2)?;
    let (created, updated) = (Timestamp::from_millis(row.get(3)?), Timestamp::from_millis(row.get(4)?));
    if row.get::<_, i64>(5)? != sum(&client_id, metadata.as_deref(), revision, created, updated) {
        return Err(StoreError::Corrupt(None));
    }
    Ok(match metadata {
        Some(metadata) => ClientChange::Written(StoredClient { client_id, metadata, revision, created, updated }),
        None => ClientChange::Removed { client_id, revision },
    })
}

fn sum(client_id: &str, metadata: Option<&str>, revision: Revision, created: Timestamp, updated: Timestamp) -> i64 {
    let is_there: &[u8] = if metadata.is_some() { b"\x01" } else { b"\0" };
    let [revision, created, updated] =
        [revision, created.millis(), updated.millis()].map(|number| number.to_le_bytes());
    let metadata = metadata.unwrap_or_default().as_bytes();
    checksum::of(&[client_id.as_bytes(), b"\0", is_there, metadata, b"\0", &revision, &created, &updated])
}
