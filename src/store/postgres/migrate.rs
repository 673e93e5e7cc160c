//! Brings the tables up to date: numbered steps, one server at a time.

use std::time::Duration;

use tokio_postgres::Client;

use super::{StoreError, fence};

/// Step n leads from format n to format n + 1. A step that was released never changes.
const MIGRATIONS: [&str; 3] =
    [include_str!("migrations/1.sql"), include_str!("migrations/2.sql"), include_str!("migrations/3.sql")];

/// The newest format.
pub(super) const KNOWN: u32 = MIGRATIONS.len() as u32;

/// How long a step may take, and how long to wait for another server that is at it.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// The advisory lock that servers take turns by: "certbind" as a number.
const TURN: i64 = 0x6365_7274_6269_6e64;

/// All steps in one transaction: a server that is cut off leaves nothing half done.
pub(super) async fn migrate(client: &mut Client) -> Result<(), StoreError> {
    let transaction = client.transaction().await?;
    transaction.batch_execute("SET LOCAL statement_timeout = '60s'; SET LOCAL lock_timeout = '60s'").await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&TURN]).await?;
    let found = format(transaction.client()).await?;
    if found > KNOWN {
        return Err(StoreError::Newer { found, known: KNOWN });
    }
    if found == KNOWN {
        return Ok(());
    }
    if found == 0 {
        // `IF NOT EXISTS` would want the right to make schemas also where an administrator has made this one.
        if !exists(transaction.client(), "SELECT to_regnamespace('certbind') IS NOT NULL").await? {
            transaction.batch_execute("CREATE SCHEMA certbind").await?;
        }
        transaction.batch_execute("CREATE TABLE certbind.format (version integer NOT NULL)").await?;
        transaction.execute("INSERT INTO certbind.format (version) VALUES (0)", &[]).await?;
    }
    for step in &MIGRATIONS[found as usize..] {
        transaction.batch_execute(step).await?;
    }
    if found == 0 {
        fence::begin(transaction.client()).await?;
    }
    transaction.execute("UPDATE certbind.format SET version = $1", &[&KNOWN.cast_signed()]).await?;
    transaction.commit().await?;
    Ok(())
}

/// The format of the tables, 0 when there are none. A schema of this name with other tables belongs to somebody else.
async fn format(client: &Client) -> Result<u32, StoreError> {
    if exists(client, "SELECT to_regclass('certbind.format') IS NOT NULL").await? {
        let row = client.query_one("SELECT version FROM certbind.format", &[]).await?;
        return u32::try_from(row.try_get::<_, i32>(0)?).map_err(|_| StoreError::Corrupt(None));
    }
    let foreign = exists(client, "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = 'certbind')").await?;
    if foreign { Err(StoreError::ForeignSchema) } else { Ok(0) }
}

async fn exists(client: &Client, question: &str) -> Result<bool, StoreError> {
    Ok(client.query_one(question, &[]).await?.try_get(0)?)
}
