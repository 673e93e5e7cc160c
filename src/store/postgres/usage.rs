//! Uses of credentials in PostgreSQL.

use std::collections::BTreeSet;

use certbind_proto::time::Timestamp;
use tokio_postgres::{Client, Row};

use super::super::StoreError;
use super::super::usage::{Credential, KEPT, KEPT_FOR, Usage};
use super::connect::timestamp;

/// The advisory lock that servers take turns by: "certused" as a number.
const TURN: i64 = 0x6365_7274_7573_6564;

/// Notes uses, and forgets what is too much or too old.
pub(super) async fn note(client: &mut Client, uses: &[Usage], now: Timestamp) -> Result<(), StoreError> {
    let transaction = client.transaction().await?;
    // Servers take turns: two that wrote the same clients in two orders would wait for each other.
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&TURN]).await?;
    let insert = transaction
        .prepare(
            "INSERT INTO certbind.usage AS held (client_id, kind, thumbprint, name, serial, not_before, not_after, \
             last_used) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (client_id, kind, thumbprint) DO UPDATE \
             SET name = $4, serial = $5, not_before = $6, not_after = $7, last_used = greatest(held.last_used, $8)",
        )
        .await?;
    for usage in uses {
        let columns = usage.credential.columns();
        transaction
            .execute(
                &insert,
                &[
                    &usage.client_id,
                    &columns.kind.as_str(),
                    &&columns.thumbprint.as_bytes()[..],
                    &columns.name,
                    &columns.serial,
                    &columns.not_before,
                    &columns.not_after,
                    &usage.last_used.millis(),
                ],
            )
            .await?;
    }
    let client_ids: Vec<&str> =
        uses.iter().map(|usage| usage.client_id.as_str()).collect::<BTreeSet<_>>().into_iter().collect();
    transaction
        .execute(
            "DELETE FROM certbind.usage AS held USING (SELECT client_id, kind, thumbprint, \
             row_number() OVER (PARTITION BY client_id ORDER BY last_used DESC, kind, thumbprint) AS place \
             FROM certbind.usage WHERE client_id = ANY($1)) AS ranked WHERE ranked.place > $2 \
             AND (held.client_id, held.kind, held.thumbprint) = (ranked.client_id, ranked.kind, ranked.thumbprint)",
            &[&client_ids, &(KEPT as i64)],
        )
        .await?;
    transaction.execute("DELETE FROM certbind.usage WHERE last_used < $1", &[&now.minus(KEPT_FOR).millis()]).await?;
    Ok(transaction.commit().await?)
}

/// What is known of these clients.
pub(super) async fn of(client: &Client, client_ids: &[String]) -> Result<Vec<Usage>, StoreError> {
    let rows = client
        .query(
            "SELECT client_id, kind, thumbprint, name, serial, not_before, not_after, last_used FROM certbind.usage \
             WHERE client_id = ANY($1) ORDER BY client_id, last_used DESC, kind, thumbprint",
            &[&client_ids],
        )
        .await?;
    rows.iter().map(read).collect()
}

fn read(row: &Row) -> Result<Usage, StoreError> {
    let credential = Credential::read(
        row.try_get(1)?,
        row.try_get(2)?,
        row.try_get(3)?,
        row.try_get(4)?,
        (row.try_get(5)?, row.try_get(6)?),
    );
    Ok(Usage {
        client_id: row.try_get(0)?,
        credential: credential.ok_or(StoreError::Corrupt(None))?,
        last_used: timestamp(row, 7)?,
    })
}
