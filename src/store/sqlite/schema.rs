//! Opens the database: is it ours, is it sound, is it of this version?

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use super::super::StoreError;
use super::keys;
use super::mark::Mark;

/// Marks the file as ours: "cbnd".
const APPLICATION_ID: i64 = 0x6362_6e64;

/// Step n leads from format n to format n + 1. A step that was released never changes.
const MIGRATIONS: [Step; 6] = [
    Step { sql: include_str!("migrations/1.sql"), then: |_| Ok(()) },
    Step { sql: include_str!("migrations/2.sql"), then: |_| Ok(()) },
    Step { sql: include_str!("migrations/3.sql"), then: keys::adopt },
    Step { sql: include_str!("migrations/4.sql"), then: |_| Ok(()) },
    Step { sql: include_str!("migrations/5.sql"), then: |_| Ok(()) },
    Step { sql: include_str!("migrations/6.sql"), then: |_| Ok(()) },
];

/// One step: statements, and then what no statement can do.
struct Step {
    sql: &'static str,
    then: fn(&Transaction<'_>) -> Result<(), StoreError>,
}

/// The newest format.
pub(super) const KNOWN: u32 = MIGRATIONS.len() as u32;

/// The whole file is checked when it is not larger than this many pages; of a larger one the rows are, by their checksums.
const CHECKED_PAGES: i64 = 4096;

/// Opens the file that is there and brings it up to date; one that is to hold a database already must not be empty.
pub(super) fn open(path: &Path, lock_timeout: Duration, mark: &Mark) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(lock_timeout)?;
    // Before anything is written to a file that may not be ours.
    let found = format(&*connection.unchecked_transaction()?, path)?;
    mark.allows(found)?;
    configure(&connection, lock_timeout)?;
    check(&connection)?;
    migrate(&mut connection, path)?;
    if found < KNOWN {
        // The file by itself says from here on what it is, also without its log.
        connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
    }
    Ok(connection)
}

/// Commits something that changes nothing, so that a log that is empty has lost its content.
pub(super) fn begin_log(connection: &Connection) -> Result<(), StoreError> {
    Ok(connection.pragma_update(None, "user_version", KNOWN)?)
}

/// Fails unless the file is ours and of the newest format.
pub(super) fn is_current(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    match format(&*connection.unchecked_transaction()?, path)? {
        KNOWN => Ok(()),
        found => Err(StoreError::Older { found, known: KNOWN }),
    }
}

/// The format of the file, 0 when it is empty. Inside a transaction, so that it sees a migration whole or not at all.
fn format(connection: &Connection, path: &Path) -> Result<u32, StoreError> {
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let ours = application == APPLICATION_ID || (application == 0 && found == 0 && tables == 0);
    if !ours {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    if found > KNOWN {
        return Err(StoreError::Newer { found, known: KNOWN });
    }
    Ok(found)
}

fn configure(connection: &Connection, lock_timeout: Duration) -> Result<(), StoreError> {
    write_ahead(connection, lock_timeout)?;
    // Every commit is on disk when it returns: what is answered as first is never forgotten.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "journal_size_limit", 16 << 20)?;
    Ok(())
}

/// Switches to the write-ahead log. SQLite does not wait for another process that does the same, so this does.
fn write_ahead(connection: &Connection, lock_timeout: Duration) -> Result<(), StoreError> {
    let start = Instant::now();
    loop {
        let mode = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0));
        match mode {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(_) => return Err(no_write_ahead()),
            Err(error) if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) => return Err(error.into()),
            Err(error) if start.elapsed() > lock_timeout => return Err(error.into()),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// A file system that cannot do it (a network share) would not keep the promises either.
fn no_write_ahead() -> StoreError {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN), None).into()
}

fn check(connection: &Connection) -> Result<(), StoreError> {
    let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
    if pages > CHECKED_PAGES {
        return Ok(());
    }
    let finding: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if finding == "ok" { Ok(()) } else { Err(StoreError::Corrupt(None)) }
}

/// All steps in one transaction; two processes that start at once take turns.
fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    // What a step takes out of a table may be a private key.
    connection.pragma_update(None, "secure_delete", true)?;
    migrate_in(connection.transaction_with_behavior(TransactionBehavior::Immediate)?, path)?;
    Ok(connection.pragma_update(None, "secure_delete", false)?)
}

fn migrate_in(transaction: Transaction<'_>, path: &Path) -> Result<(), StoreError> {
    let found = format(&transaction, path)?;
    let missing = &MIGRATIONS[found as usize..];
    if missing.is_empty() {
        return Ok(());
    }
    for step in missing {
        transaction.execute_batch(step.sql)?;
        (step.then)(&transaction)?;
    }
    transaction.pragma_update(None, "user_version", KNOWN)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.commit()?;
    Ok(())
}
