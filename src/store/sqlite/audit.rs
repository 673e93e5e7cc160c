//! Audit lines in SQLite: written like everything else, looked at over a connection that holds nobody up.

use std::path::Path;
use std::time::Instant;

use certbind_proto::time::Timestamp;
use rusqlite::types::ToSql;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};

use super::super::StoreError;
use super::super::audit::{self, Appended, AuditChain, AuditLine, AuditQuery, FoundLine, LOOK, MAX_DROPPED, Members};

const TABLE: &str = "audit";

/// How many steps of a query go by between two looks at the clock.
const STEPS: i32 = 10_000;

/// Adds lines, unless one of their numbers is taken.
pub(super) fn append(connection: &mut Connection, lines: &[AuditLine]) -> Result<Appended, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for line in lines {
        if !insert(&transaction, line)? {
            return Ok(Appended::Taken);
        }
    }
    transaction.commit()?;
    Ok(Appended::Done)
}

fn insert(transaction: &Transaction<'_>, line: &AuditLine) -> Result<bool, StoreError> {
    let AuditLine { server, chain, seq, at, members, line } = line;
    let [client, actor, reason, event, jti, request, thumbprint, outcome] = members;
    let columns = audit::COLUMNS;
    let inserted = transaction
        .prepare_cached(&format!(
            "INSERT INTO {TABLE} ({columns}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
             ON CONFLICT (chain, seq) DO NOTHING"
        ))?
        .execute(params![
            server,
            chain,
            seq,
            at.millis(),
            client,
            actor,
            reason,
            event,
            jti,
            request,
            thumbprint,
            outcome,
            line
        ])?;
    Ok(inserted == 1)
}

/// The last line of a server.
pub(super) fn last(connection: &Connection, server: &str) -> Result<Option<AuditLine>, StoreError> {
    let columns = audit::COLUMNS;
    Ok(connection
        .prepare_cached(&format!("SELECT {columns} FROM {TABLE} WHERE server = ?1 ORDER BY id DESC LIMIT 1"))?
        .query_row([server], read)
        .optional()?)
}

/// Drops the beginning of a chain.
pub(super) fn drop_through(connection: &Connection, chain: &str, through: i64) -> Result<u64, StoreError> {
    let dropped = connection
        .prepare_cached(&format!("DELETE FROM {TABLE} WHERE chain = ?1 AND seq <= ?2"))?
        .execute(params![chain, through])?;
    Ok(dropped as u64)
}

/// A connection that only looks, and that gives up in time.
pub(super) fn look(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(LOOK / 10)?;
    let began = Instant::now();
    connection.progress_handler(STEPS, Some(move || began.elapsed() > LOOK))?;
    Ok(connection)
}

/// The lines that fit.
pub(super) fn find(connection: &Connection, query: &AuditQuery) -> Result<Vec<FoundLine>, StoreError> {
    let mut found = connection.prepare(&audit::conditions(query, TABLE, '?'))?;
    let texts = query.texts().map(|(_, text)| Box::new(text) as Box<dyn ToSql + '_>);
    let numbers = query.numbers().map(|(_, number)| Box::new(number) as Box<dyn ToSql + '_>);
    let values: Vec<_> = texts.chain(numbers).collect();
    let rows = found
        .query_map(rusqlite::params_from_iter(values), |row| Ok(FoundLine { id: row.get(13)?, line: read(row)? }))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The chains that there are.
pub(super) fn chains(connection: &Connection) -> Result<Vec<AuditChain>, StoreError> {
    let mut chains = connection.prepare(&audit::chains(TABLE))?;
    let rows = chains.query_map([], |row| Ok(AuditChain { server: row.get(0)?, chain: row.get(1)? }))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// How far each chain may be dropped.
pub(super) fn overdue(connection: &Connection, before: Timestamp) -> Result<Vec<AuditLine>, StoreError> {
    let mut chains = connection.prepare(&audit::chains(TABLE))?;
    let firsts = chains.query_map([], |row| Ok((row.get::<_, String>(1)?, row.get::<_, i64>(3)?)))?;
    let mut overdue = Vec::new();
    for first in firsts {
        let (chain, at) = first?;
        if Timestamp::from_millis(at) < before {
            overdue.extend(overdue_of(connection, &chain, before)?);
        }
    }
    Ok(overdue)
}

fn overdue_of(connection: &Connection, chain: &str, before: Timestamp) -> Result<Option<AuditLine>, StoreError> {
    let mut oldest = connection
        .prepare_cached(&format!("SELECT seq, at FROM {TABLE} WHERE chain = ?1 ORDER BY seq LIMIT {MAX_DROPPED}"))?;
    let rows = oldest.query_map([chain], |row| Ok((row.get(0)?, Timestamp::from_millis(row.get(1)?))))?;
    let rows: Vec<(i64, Timestamp)> = rows.collect::<Result<_, _>>()?;
    let Some(through) = audit::overdue_through(rows, before) else { return Ok(None) };
    let columns = audit::COLUMNS;
    let line = connection
        .prepare_cached(&format!("SELECT {columns} FROM {TABLE} WHERE chain = ?1 AND seq = ?2"))?
        .query_row(params![chain, through], read)
        .optional()?;
    Ok(line)
}

fn read(row: &Row<'_>) -> rusqlite::Result<AuditLine> {
    let mut members = Members::default();
    for (n, member) in members.iter_mut().enumerate() {
        *member = row.get(4 + n)?;
    }
    let at = Timestamp::from_millis(row.get(3)?);
    Ok(AuditLine { server: row.get(0)?, chain: row.get(1)?, seq: row.get(2)?, at, members, line: row.get(12)? })
}
