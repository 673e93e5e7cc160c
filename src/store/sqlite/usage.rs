//! The table of uses.

use std::collections::BTreeSet;

use certbind_proto::time::Timestamp;
use rusqlite::{Connection, Row, Transaction, TransactionBehavior, params};

use super::super::StoreError;
use super::super::usage::{Credential, KEPT, KEPT_FOR, Usage};

/// Notes uses, and forgets what is too much or too old.
pub(super) fn note(connection: &mut Connection, uses: &[Usage], now: Timestamp) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for usage in uses {
        let columns = usage.credential.columns();
        transaction
            .prepare_cached(
                "INSERT INTO usage (client_id, kind, thumbprint, name, serial, not_before, not_after, last_used)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (client_id, kind, thumbprint)
                 DO UPDATE SET name = ?4, serial = ?5, not_before = ?6, not_after = ?7, last_used = max(last_used, ?8)",
            )?
            .execute(params![
                usage.client_id,
                columns.kind.as_str(),
                columns.thumbprint.as_bytes(),
                columns.name,
                columns.serial,
                columns.not_before,
                columns.not_after,
                usage.last_used.millis(),
            ])?;
    }
    for client_id in uses.iter().map(|usage| usage.client_id.as_str()).collect::<BTreeSet<_>>() {
        transaction
            .prepare_cached(
                "DELETE FROM usage WHERE (client_id, kind, thumbprint) IN (SELECT client_id, kind, thumbprint
                 FROM usage WHERE client_id = ?1 ORDER BY last_used DESC, kind, thumbprint LIMIT -1 OFFSET ?2)",
            )?
            .execute(params![client_id, KEPT as i64])?;
    }
    transaction.prepare_cached("DELETE FROM usage WHERE last_used < ?1")?.execute([now.minus(KEPT_FOR).millis()])?;
    Ok(transaction.commit()?)
}

/// Forgets what a client used that is gone.
pub(super) fn forget(transaction: &Transaction<'_>, client_id: &str) -> Result<(), StoreError> {
    transaction.prepare_cached("DELETE FROM usage WHERE client_id = ?1")?.execute([client_id])?;
    Ok(())
}

/// What is known of these clients.
pub(super) fn of(connection: &Connection, client_ids: &[String]) -> Result<Vec<Usage>, StoreError> {
    let mut query = connection.prepare_cached(
        "SELECT client_id, kind, thumbprint, name, serial, not_before, not_after, last_used FROM usage WHERE client_id = ?1
         ORDER BY last_used DESC, kind, thumbprint",
    )?;
    let mut found = Vec::new();
    for client_id in client_ids {
        let mut rows = query.query([client_id])?;
        while let Some(row) = rows.next()? {
            found.push(read(row)?);
        }
    }
    Ok(found)
}

fn read(row: &Row<'_>) -> Result<Usage, StoreError> {
    let (kind, thumbprint): (String, Vec<u8>) = (row.get(1)?, row.get(2)?);
    let credential = Credential::read(&kind, &thumbprint, row.get(3)?, row.get(4)?, (row.get(5)?, row.get(6)?));
    Ok(Usage {
        client_id: row.get(0)?,
        credential: credential.ok_or(StoreError::Corrupt(None))?,
        last_used: Timestamp::from_millis(row.get(7)?),
    })
}
