//! The table of signing keys.

use certbind_proto::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};
use zeroize::Zeroizing;

use super::super::{StoreError, StoredKey};
use super::checksum;
use super::revisions::{self, Kind};

/// Every key, oldest first.
pub(super) fn load(connection: &Connection) -> Result<Vec<StoredKey>, StoreError> {
    let mut query = connection
        .prepare_cached("SELECT kid, algorithm, pkcs8, created, checksum FROM signing_keys ORDER BY created, kid")?;
    let mut rows = query.query([])?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        keys.push(read(row)?);
    }
    Ok(keys)
}

/// Looks and inserts under the write lock, so that nobody comes in between.
pub(super) fn insert_if_none(connection: &mut Connection, key: StoredKey) -> Result<StoredKey, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let stored = transaction
        .prepare_cached(
            "SELECT kid, algorithm, pkcs8, created, checksum FROM signing_keys WHERE algorithm = ?1
             ORDER BY created DESC, kid LIMIT 1",
        )?
        .query_row([&key.algorithm], |row| Ok(read(row)))
        .optional()?;
    if let Some(stored) = stored {
        return stored;
    }
    transaction.execute(
        "INSERT INTO signing_keys (kid, algorithm, pkcs8, created, checksum) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![key.kid, key.algorithm, *key.pkcs8, key.created.millis(), sum(&key)],
    )?;
    revisions::next(&transaction, Kind::Keys)?;
    transaction.commit()?;
    Ok(key)
}

fn read(row: &Row<'_>) -> Result<StoredKey, StoreError> {
    let key = StoredKey {
        kid: row.get(0)?,
        algorithm: row.get(1)?,
        pkcs8: Zeroizing::new(row.get(2)?),
        created: Timestamp::from_millis(row.get(3)?),
    };
    if row.get::<_, i64>(4)? == sum(&key) { Ok(key) } else { Err(StoreError::Corrupt(None)) }
}

fn sum(key: &StoredKey) -> i64 {
    let created = key.created.millis().to_le_bytes();
    checksum::of(&[key.kid.as_bytes(), b"\0", key.algorithm.as_bytes(), b"\0", &key.pkcs8, &created])
}
