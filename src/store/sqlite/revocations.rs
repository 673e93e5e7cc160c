//! The table of revocations.

use certbind_proto::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};

use super::super::{Revision, Revocation, Revoked, RevokedId, StoreError};
use super::checksum;
use super::revisions::{self, Kind};

/// Adds a revocation or extends the one that is there, and drops what is over.
pub(super) fn add(
    connection: &mut Connection,
    revocation: &Revocation,
    now: Timestamp,
) -> Result<Revision, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let there = there(&transaction, revocation)?;
    let merged = there.map_or(*revocation, |there| there.merged(revocation));
    let revision = put(&transaction, &merged)?;
    transaction.prepare_cached("DELETE FROM revocations WHERE keep_until < ?1")?.execute([now.millis()])?;
    transaction.commit()?;
    Ok(revision)
}

/// Puts this in the place of one that it lifts.
pub(super) fn lift(
    connection: &mut Connection,
    lifted: &Revocation,
    now: Timestamp,
) -> Result<Option<Revision>, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if !there(&transaction, lifted)?.is_some_and(|there| there.is_lifted_by(lifted, now)) {
        return Ok(None);
    }
    let revision = put(&transaction, lifted)?;
    transaction.commit()?;
    Ok(Some(revision))
}

/// What there is of the same thing.
fn there(transaction: &Transaction<'_>, revocation: &Revocation) -> Result<Option<Revocation>, StoreError> {
    let there = transaction
        .prepare_cached(
            "SELECT what, id, revoked, keep_until, revision, checksum FROM revocations WHERE what = ?1 AND id = ?2",
        )?
        .query_row(params![revocation.what.as_str(), revocation.id.as_bytes()], |row| Ok(read(row)))
        .optional()?
        .transpose()?;
    Ok(there.map(|(_, there)| there))
}

fn put(transaction: &Transaction<'_>, revocation: &Revocation) -> Result<Revision, StoreError> {
    let revision = revisions::next(transaction, Kind::Revocations)?;
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO revocations (what, id, revoked, keep_until, revision, checksum)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            revocation.what.as_str(),
            revocation.id.as_bytes(),
            revocation.revoked.millis(),
            revocation.keep_until.millis(),
            revision,
            sum(revision, revocation)
        ])?;
    Ok(revision)
}

/// What was revoked after `since` and is not over, in order.
pub(super) fn since(
    connection: &Connection,
    since: Revision,
    now: Timestamp,
) -> Result<Vec<(Revision, Revocation)>, StoreError> {
    let mut query = connection.prepare_cached(
        "SELECT what, id, revoked, keep_until, revision, checksum FROM revocations
         WHERE revision > ?1 AND keep_until >= ?2 ORDER BY revision",
    )?;
    let mut rows = query.query(params![since, now.millis()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

fn read(row: &Row<'_>) -> Result<(Revision, Revocation), StoreError> {
    let what = Revoked::named(row.get_ref(0)?.as_str().unwrap_or_default()).ok_or(StoreError::Corrupt(None))?;
    let revocation = Revocation {
        what,
        id: RevokedId::from_bytes(row.get(1)?),
        revoked: Timestamp::from_millis(row.get(2)?),
        keep_until: Timestamp::from_millis(row.get(3)?),
    };
    let revision = row.get(4)?;
    if row.get::<_, i64>(5)? == sum(revision, &revocation) {
        Ok((revision, revocation))
    } else {
        Err(StoreError::Corrupt(None))
    }
}

fn sum(revision: Revision, revocation: &Revocation) -> i64 {
    let [revoked, keep_until, revision] =
        [revocation.revoked.millis(), revocation.keep_until.millis(), revision].map(|number| number.to_le_bytes());
    let what = revocation.what.as_str().as_bytes();
    checksum::of(&[what, b"\0", revocation.id.as_bytes(), &revoked, &keep_until, &revision])
}
