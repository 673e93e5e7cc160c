//! Keys, clients and revocations in PostgreSQL. The row of a kind's revision is its lock: changes of one kind come one
//! after the other and are seen in their order.

use std::time::Duration;

use certbind_proto::time::Timestamp;
use tokio_postgres::{Client, Row, Transaction};

use super::super::{
    ClientChange, Expected, Replaced, Revision, Revocation, Revoked, RevokedId, Secret, StoreError, StoredClient,
    StoredKey, StoredKeys, Written,
};
use super::CHANNEL;
use super::connect::timestamp;

/// A kind of state that servers hold in memory.
#[derive(Clone, Copy)]
enum Kind {
    Clients,
    Keys,
    Revocations,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Keys => "keys",
            Self::Revocations => "revocations",
        }
    }
}

/// Takes the kind's lock and the number of the change, and has others told when it is committed.
async fn next(transaction: &Transaction<'_>, kind: Kind) -> Result<Revision, StoreError> {
    let row = transaction
        .query_one(
            "UPDATE certbind.revisions SET revision = revision + 1 WHERE kind = $1 RETURNING revision",
            &[&kind.as_str()],
        )
        .await?;
    transaction.execute("SELECT pg_notify($1, $2)", &[&CHANNEL, &kind.as_str()]).await?;
    Ok(row.try_get(0)?)
}

/// Every key, in the order in which they sign; set and revision of one moment, as one statement sees one.
pub(super) async fn load_keys(client: &Client) -> Result<StoredKeys, StoreError> {
    let rows = client
        .query(
            "SELECT r.revision, kid, algorithm, form, secret, created, activates, retired, token_lifetime \
             FROM certbind.revisions AS r LEFT JOIN certbind.signing_keys ON true WHERE r.kind = 'keys' \
             ORDER BY activates, created, kid COLLATE \"C\"",
            &[],
        )
        .await?;
    let mut stored = StoredKeys::default();
    for row in &rows {
        stored.revision = row.try_get(0)?;
        if let Some(kid) = row.try_get(1)? {
            stored.keys.push(read_key(row, kid)?);
        }
    }
    Ok(stored)
}

/// Puts `keys` in the place of all keys if nobody has since `seen`.
pub(super) async fn replace_keys(
    client: &mut Client,
    seen: Revision,
    keys: &[StoredKey],
) -> Result<Replaced, StoreError> {
    let transaction = client.transaction().await?;
    let revision = next(&transaction, Kind::Keys).await?;
    if revision - 1 != seen {
        return Ok(Replaced::Outdated);
    }
    transaction.execute("DELETE FROM certbind.signing_keys", &[]).await?;
    for key in keys {
        transaction
            .execute(
                "INSERT INTO certbind.signing_keys \
                 (kid, algorithm, form, secret, created, activates, retired, token_lifetime) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                &[
                    &key.kid,
                    &key.algorithm,
                    &key.secret.form(),
                    &key.secret.bytes(),
                    &key.created.millis(),
                    &key.activates.millis(),
                    &key.retired.map(Timestamp::millis),
                    &i64::try_from(key.token_lifetime.as_millis()).unwrap_or(i64::MAX),
                ],
            )
            .await?;
    }
    transaction.commit().await?;
    Ok(Replaced::Yes(revision))
}

fn read_key(row: &Row, kid: String) -> Result<StoredKey, StoreError> {
    let lifetime: i64 = row.try_get(8)?;
    Ok(StoredKey {
        kid,
        algorithm: row.try_get(2)?,
        secret: Secret::read(row.try_get(3)?, row.try_get(4)?).ok_or(StoreError::Corrupt(None))?,
        created: timestamp(row, 5)?,
        activates: timestamp(row, 6)?,
        retired: row.try_get::<_, Option<i64>>(7)?.map(Timestamp::from_millis),
        token_lifetime: Duration::from_millis(lifetime.unsigned_abs()),
    })
}

/// How long it is remembered that a client was removed: a server that was cut off for longer reads everything anew.
const REMOVED_KEPT: Duration = Duration::from_secs(7 * 86_400);

const CLIENT: &str = "SELECT client_id, metadata, revision, created, updated FROM certbind.clients";

/// What changed after `since`, oldest first.
pub(super) async fn clients_since(client: &Client, since: Revision) -> Result<Vec<ClientChange>, StoreError> {
    let rows = client.query(&format!("{CLIENT} WHERE revision > $1 ORDER BY revision"), &[&since]).await?;
    rows.iter().map(read_client).collect()
}

/// Writes the client, or removes it when there is no `metadata`, if what is there is as expected.
pub(super) async fn write_client(
    client: &mut Client,
    client_id: &str,
    metadata: Option<&str>,
    expected: Expected,
    now: Timestamp,
) -> Result<Written, StoreError> {
    let transaction = client.transaction().await?;
    let revision = next(&transaction, Kind::Clients).await?;
    let there = transaction.query_opt(&format!("{CLIENT} WHERE client_id = $1"), &[&client_id]).await?;
    let there = match there.as_ref().map(read_client).transpose()? {
        Some(ClientChange::Written(client)) => Some(client),
        Some(ClientChange::Removed { .. }) | None => None,
    };
    let revision_there = there.as_ref().map(|client| client.revision);
    if !expected.holds(revision_there) {
        return Ok(Written::NotAsExpected { there: revision_there });
    }
    let created = there.map_or(now, |client| client.created);
    transaction
        .execute(
            "INSERT INTO certbind.clients (client_id, metadata, revision, created, updated) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (client_id) DO UPDATE \
             SET metadata = $2, revision = $3, created = $4, updated = $5",
            &[&client_id, &metadata, &revision, &created.millis(), &now.millis()],
        )
        .await?;
    if metadata.is_none() {
        transaction.execute("DELETE FROM certbind.usage WHERE client_id = $1", &[&client_id]).await?;
    }
    transaction
        .execute(
            "DELETE FROM certbind.clients WHERE metadata IS NULL AND updated < $1",
            &[&now.minus(REMOVED_KEPT).millis()],
        )
        .await?;
    transaction.commit().await?;
    Ok(Written::Done(revision))
}

fn read_client(row: &Row) -> Result<ClientChange, StoreError> {
    let (client_id, revision) = (row.try_get(0)?, row.try_get(2)?);
    let Some(metadata) = row.try_get(1)? else { return Ok(ClientChange::Removed { client_id, revision }) };
    let (created, updated) = (timestamp(row, 3)?, timestamp(row, 4)?);
    Ok(ClientChange::Written(StoredClient { client_id, metadata, revision, created, updated }))
}

const REVOCATION: &str = "SELECT what, id, revoked, keep_until, revision FROM certbind.revocations";

/// Adds a revocation or extends the one that is there, and drops what is over.
pub(super) async fn revoke(
    client: &mut Client,
    revocation: &Revocation,
    now: Timestamp,
) -> Result<Revision, StoreError> {
    let transaction = client.transaction().await?;
    let revision = next(&transaction, Kind::Revocations).await?;
    transaction
        .execute(
            "INSERT INTO certbind.revocations AS held (what, id, revoked, keep_until, revision) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (what, id) DO UPDATE SET revision = $5, \
             revoked = greatest(held.revoked, $3), keep_until = greatest(held.keep_until, $4)",
            &[
                &revocation.what.as_str(),
                &&revocation.id.as_bytes()[..],
                &revocation.revoked.millis(),
                &revocation.keep_until.millis(),
                &revision,
            ],
        )
        .await?;
    transaction.execute("DELETE FROM certbind.revocations WHERE keep_until < $1", &[&now.millis()]).await?;
    transaction.commit().await?;
    Ok(revision)
}

/// Puts this in the place of one that it lifts.
pub(super) async fn lift(
    client: &mut Client,
    lifted: &Revocation,
    now: Timestamp,
) -> Result<Option<Revision>, StoreError> {
    let transaction = client.transaction().await?;
    let revision = next(&transaction, Kind::Revocations).await?;
    let changed = transaction
        .execute(
            "UPDATE certbind.revocations SET revoked = $3, keep_until = $4, revision = $5 \
             WHERE what = $1 AND id = $2 AND revoked > $3 AND keep_until >= $6",
            &[
                &lifted.what.as_str(),
                &&lifted.id.as_bytes()[..],
                &lifted.revoked.millis(),
                &lifted.keep_until.millis(),
                &revision,
                &now.millis(),
            ],
        )
        .await?;
    if changed == 0 {
        return Ok(None);
    }
    transaction.commit().await?;
    Ok(Some(revision))
}

/// What was revoked after `since` and is not over, in order.
pub(super) async fn revocations_since(
    client: &Client,
    since: Revision,
    now: Timestamp,
) -> Result<Vec<(Revision, Revocation)>, StoreError> {
    let query = format!("{REVOCATION} WHERE revision > $1 AND keep_until >= $2 ORDER BY revision");
    client.query(&query, &[&since, &now.millis()]).await?.iter().map(read_revocation).collect()
}

fn read_revocation(row: &Row) -> Result<(Revision, Revocation), StoreError> {
    let corrupt = || StoreError::Corrupt(None);
    let id: &[u8] = row.try_get(1)?;
    let revocation = Revocation {
        what: Revoked::named(row.try_get(0)?).ok_or_else(corrupt)?,
        id: RevokedId::from_bytes(id.try_into().map_err(|_| corrupt())?),
        revoked: timestamp(row, 2)?,
        keep_until: timestamp(row, 3)?,
    };
    Ok((row.try_get(4)?, revocation))
}
