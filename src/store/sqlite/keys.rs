//! The table of signing keys: read as one set, replaced as one set.

use std::time::Duration;

use certbind_proto::time::Timestamp;
use rusqlite::{Connection, Row, Transaction, TransactionBehavior, params};
use zeroize::Zeroizing;

use super::super::{Replaced, Revision, Secret, StoreError, StoredKey, StoredKeys};
use super::checksum;
use super::revisions::{self, Kind};

/// The longest life of a token in the versions that wrote format 2 ([`adopt`]).
const LONGEST_LIFETIME_2: Duration = Duration::from_secs(24 * 60 * 60);

/// Every key, in the order in which they sign; set and revision of one moment.
pub(super) fn load(connection: &Connection) -> Result<StoredKeys, StoreError> {
    let transaction = connection.unchecked_transaction()?;
    let mut query = transaction.prepare_cached(
        "SELECT kid, algorithm, form, secret, created, activates, retired, token_lifetime, checksum
         FROM signing_keys ORDER BY activates, created, kid",
    )?;
    let mut rows = query.query([])?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        keys.push(read(row)?);
    }
    Ok(StoredKeys { revision: revisions::load(&transaction)?.keys, keys })
}

/// Compares and writes under the write lock, so that nobody comes in between.
pub(super) fn replace(connection: &mut Connection, seen: Revision, keys: &[StoredKey]) -> Result<Replaced, StoreError> {
    // What is replaced may be a private key that is not to be found in the file any longer, nor in its log.
    let had_plain = has_plain(connection)?;
    connection.pragma_update(None, "secure_delete", true)?;
    let outcome = replace_in(connection.transaction_with_behavior(TransactionBehavior::Immediate)?, seen, keys);
    connection.pragma_update(None, "secure_delete", false)?;
    if had_plain && matches!(outcome, Ok(Replaced::Yes(_))) {
        empty_log(connection);
    }
    outcome
}

fn has_plain(connection: &Connection) -> Result<bool, StoreError> {
    let query = "SELECT EXISTS (SELECT 1 FROM signing_keys WHERE form = 'pkcs8')";
    Ok(connection.query_row(query, [], |row| row.get(0))?)
}

/// Moves the log into the file and cuts it to nothing. While another process reads this may fail: then the log is
/// written over from its beginning as usual, later.
fn empty_log(connection: &Connection) {
    let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
}

fn replace_in(transaction: Transaction<'_>, seen: Revision, keys: &[StoredKey]) -> Result<Replaced, StoreError> {
    if revisions::load(&transaction)?.keys != seen {
        return Ok(Replaced::Outdated);
    }
    transaction.execute("DELETE FROM signing_keys", [])?;
    for key in keys {
        insert(&transaction, key)?;
    }
    let revision = revisions::next(&transaction, Kind::Keys)?;
    transaction.commit()?;
    Ok(Replaced::Yes(revision))
}

/// Takes the keys of format 2 over: each signed from the moment it was made, for as long as any token may live.
pub(super) fn adopt(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    let mut query = transaction.prepare("SELECT kid, algorithm, pkcs8, created, checksum FROM signing_keys_2")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        insert(transaction, &read_2(row)?)?;
    }
    drop(rows);
    drop(query);
    Ok(transaction.execute_batch("DROP TABLE signing_keys_2")?)
}

fn insert(transaction: &Transaction<'_>, key: &StoredKey) -> Result<(), StoreError> {
    transaction.execute(
        "INSERT INTO signing_keys (kid, algorithm, form, secret, created, activates, retired, token_lifetime, checksum)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            key.kid,
            key.algorithm,
            key.secret.form(),
            key.secret.bytes(),
            key.created.millis(),
            key.activates.millis(),
            key.retired.map(Timestamp::millis),
            millis(key.token_lifetime),
            sum(key),
        ],
    )?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<StoredKey, StoreError> {
    let form: String = row.get(2)?;
    let lifetime: i64 = row.get(7)?;
    let key = StoredKey {
        kid: row.get(0)?,
        algorithm: row.get(1)?,
        secret: Secret::read(&form, row.get(3)?).ok_or(StoreError::Corrupt(None))?,
        created: Timestamp::from_millis(row.get(4)?),
        activates: Timestamp::from_millis(row.get(5)?),
        retired: row.get::<_, Option<i64>>(6)?.map(Timestamp::from_millis),
        token_lifetime: Duration::from_millis(lifetime.unsigned_abs()),
    };
    if row.get::<_, i64>(8)? == sum(&key) { Ok(key) } else { Err(StoreError::Corrupt(None)) }
}

/// A row of format 2, with the checksum of that format.
fn read_2(row: &Row<'_>) -> Result<StoredKey, StoreError> {
    let (kid, algorithm): (String, String) = (row.get(0)?, row.get(1)?);
    let pkcs8 = Zeroizing::new(row.get::<_, Vec<u8>>(2)?);
    let created = Timestamp::from_millis(row.get(3)?);
    let moment = created.millis().to_le_bytes();
    let sum = checksum::of(&[kid.as_bytes(), b"\0", algorithm.as_bytes(), b"\0", &pkcs8, &moment]);
    if row.get::<_, i64>(4)? != sum {
        return Err(StoreError::Corrupt(None));
    }
    let secret = Secret::Plain(pkcs8);
    let token_lifetime = LONGEST_LIFETIME_2;
    Ok(StoredKey { kid, algorithm, secret, created, activates: created, retired: None, token_lifetime })
}

fn sum(key: &StoredKey) -> i64 {
    let retired = key.retired.map_or_else(Vec::new, |retired| retired.millis().to_le_bytes().to_vec());
    checksum::of(&[
        key.kid.as_bytes(),
        b"\0",
        key.algorithm.as_bytes(),
        b"\0",
        key.secret.form().as_bytes(),
        b"\0",
        key.secret.bytes(),
        &key.created.millis().to_le_bytes(),
        &key.activates.millis().to_le_bytes(),
        &millis(key.token_lifetime).to_le_bytes(),
        &retired,
    ])
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
