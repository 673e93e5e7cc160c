//! Audit lines of several servers in one place: what an engine is asked, and what it answers.
//!
//! What a line says is its text, which the hash chain is made of. The members beside it are there to search by, and are made
//! from the text again by whoever wants to know whether they are true.

use std::time::Duration;

use certbind_proto::time::Timestamp;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{BoxFuture, StoreError};

/// How long a look into the lines may take; nobody else waits for it.
pub const LOOK: Duration = Duration::from_secs(10);

/// The most chains that are told of.
pub const MAX_CHAINS: usize = 10_000;

/// The most lines that are dropped at once.
pub const MAX_DROPPED: i64 = 2000;

/// Holds the audit lines of every server of the store, each server's in chains of its own.
pub trait AuditStore: Send + Sync {
    /// Adds lines, all of them durably or none. The numbers under which they are found grow in the order in which lines can
    /// be seen, over all servers: who has seen one has seen all before it.
    ///
    /// # Errors
    /// The store cannot be written; whether it was is not known.
    fn append_audit(&self, lines: Vec<AuditLine>) -> BoxFuture<'_, Result<Appended, StoreError>>;

    /// The line that this server wrote last.
    ///
    /// # Errors
    /// The store cannot be read.
    fn last_audit(&self, server: String) -> BoxFuture<'_, Result<Option<AuditLine>, StoreError>>;

    /// The lines that fit, in the order of the query. A look that takes long holds nobody up.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    fn find_audit(&self, query: AuditQuery) -> BoxFuture<'_, Result<Vec<FoundLine>, StoreError>>;

    /// The chains that there are lines of, in the order of their first lines.
    ///
    /// # Errors
    /// As [`Self::find_audit`].
    fn audit_chains(&self) -> BoxFuture<'_, Result<Vec<AuditChain>, StoreError>>;

    /// How far lines may be dropped that were written before this time: of each chain from its first line on without a gap,
    /// and not more than [`MAX_DROPPED`].
    ///
    /// # Errors
    /// As [`Self::find_audit`].
    fn overdue_audit(&self, before: Timestamp) -> BoxFuture<'_, Result<Vec<AuditLine>, StoreError>>;

    /// Drops the lines of a chain up to this number, and says how many there were.
    ///
    /// # Errors
    /// The store cannot be written; whether it was is not known.
    fn drop_audit(&self, chain: String, through: i64) -> BoxFuture<'_, Result<u64, StoreError>>;
}

/// What came of adding lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// They are there.
    Done,
    /// One of their numbers is taken: another process of this server wrote. None is there.
    Taken,
}

/// A line, and what it is found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditLine {
    /// The server that wrote it.
    pub server: String,
    /// Its chain.
    pub chain: String,
    /// Its number in the chain.
    pub seq: i64,
    /// When it was written.
    pub at: Timestamp,
    /// What it says, as far as it can be searched by.
    pub members: Members,
    /// The line itself, without its end.
    pub line: String,
}

/// One text for each [`AuditMember`].
pub type Members = [Option<String>; AuditMember::ALL.len()];

/// What lines are searched by; each is the member of the line with this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditMember {
    /// The client.
    ClientId,
    /// The administrator.
    Actor,
    /// The reason of a refusal.
    Reason,
    /// What happened.
    Event,
    /// The token's id.
    Jti,
    /// The id of the request.
    RequestId,
    /// The certificate that the token is bound to.
    Thumbprint,
    /// How it came out.
    Outcome,
}

impl AuditMember {
    /// Every one.
    pub const ALL: [Self; 8] = [
        Self::ClientId,
        Self::Actor,
        Self::Reason,
        Self::Event,
        Self::Jti,
        Self::RequestId,
        Self::Thumbprint,
        Self::Outcome,
    ];

    /// Its name in the line, and in the tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientId => "client_id",
            Self::Actor => "actor",
            Self::Reason => "reason",
            Self::Event => "event",
            Self::Jti => "jti",
            Self::RequestId => "request_id",
            Self::Thumbprint => "cnf_x5t_s256",
            Self::Outcome => "outcome",
        }
    }
}

impl AuditLine {
    /// A line of a chain, with all that follows from its text; `None` when it is none.
    #[must_use]
    pub fn read(server: &str, line: &str) -> Option<Self> {
        let found: Value = serde_json::from_str(line).ok()?;
        let text = |name: &str| found[name].as_str().map(str::to_owned);
        Some(Self {
            server: server.to_owned(),
            chain: text("chain")?,
            seq: found["seq"].as_i64()?,
            at: moment(found["ts"].as_str()?)?,
            members: AuditMember::ALL.map(|member| text(member.as_str())),
            line: line.to_owned(),
        })
    }

    /// Whether everything beside the text is what the text says.
    #[must_use]
    pub fn is_as_written(&self) -> bool {
        Self::read(&self.server, &self.line).as_ref() == Some(self)
    }
}

/// A moment in RFC 3339, in milliseconds.
#[must_use]
pub fn moment(text: &str) -> Option<Timestamp> {
    let nanos = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos();
    i64::try_from(nanos.div_euclid(1_000_000)).ok().map(Timestamp::from_millis)
}

/// Which lines, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditQuery {
    /// Of this server.
    pub server: Option<String>,
    /// Of this chain.
    pub chain: Option<String>,
    /// With these members.
    pub members: Members,
    /// Written at this time or later.
    pub since: Option<Timestamp>,
    /// Written before this time.
    pub until: Option<Timestamp>,
    /// Behind this one, in the order that is asked for.
    pub after: Option<i64>,
    /// In this order.
    pub order: AuditOrder,
    /// No more than this.
    pub limit: usize,
}

impl AuditQuery {
    /// So many lines from the oldest on.
    #[must_use]
    pub fn all(limit: usize) -> Self {
        let (server, chain, members) = (None, None, Members::default());
        Self { server, chain, members, since: None, until: None, after: None, order: AuditOrder::OldestFirst, limit }
    }

    /// The columns that have to hold a certain text.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let places = [("server", &self.server), ("chain", &self.chain)];
        let members = AuditMember::ALL.into_iter().map(AuditMember::as_str).zip(&self.members);
        places.into_iter().chain(members).filter_map(|(name, text)| Some((name, text.as_deref()?)))
    }

    /// The columns that have to hold a number in this relation.
    pub(super) fn numbers(&self) -> impl Iterator<Item = (&'static str, i64)> {
        let behind = if self.order == AuditOrder::OldestFirst { "id >" } else { "id <" };
        let (since, until) = (self.since.map(Timestamp::millis), self.until.map(Timestamp::millis));
        [("at >=", since), ("at <", until), (behind, self.after)].into_iter().filter_map(|(name, n)| Some((name, n?)))
    }
}

/// In which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditOrder {
    /// As they were written.
    OldestFirst,
    /// The other way.
    NewestFirst,
}

/// A line with the number under which it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundLine {
    /// The number.
    pub id: i64,
    /// The line.
    pub line: AuditLine,
}

/// A chain that there are lines of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditChain {
    /// The server that writes it.
    pub server: String,
    /// Its id.
    pub chain: String,
}

/// The columns of a line, as every engine names them.
pub(super) const COLUMNS: &str =
    "server, chain, seq, at, client_id, actor, reason, event, jti, request_id, cnf_x5t_s256, outcome, line";

/// What follows from the query, with a placeholder for each value that it goes on counting.
pub(super) fn conditions(query: &AuditQuery, table: &str, placeholder: char) -> String {
    let texts = query.texts().map(|(name, _)| format!("{name} ="));
    let numbers = query.numbers().map(|(relation, _)| relation.to_owned());
    let conditions = texts.chain(numbers).enumerate().map(|(n, left)| format!("{left} {placeholder}{}", n + 1));
    let conditions: Vec<_> = conditions.collect();
    let filter = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    let order = if query.order == AuditOrder::OldestFirst { "ASC" } else { "DESC" };
    format!("SELECT {COLUMNS}, id FROM {table}{filter} ORDER BY id {order} LIMIT {}", query.limit)
}

/// The chains of a table, found by jumping from one to the next in the index.
pub(super) fn chains(table: &str) -> String {
    format!(
        "WITH RECURSIVE found (chain) AS (SELECT min(chain) FROM {table} UNION ALL \
         SELECT (SELECT min(chain) FROM {table} WHERE chain > found.chain) FROM found WHERE found.chain IS NOT NULL), \
         firsts (chain, id) AS (SELECT chain, (SELECT min(id) FROM {table} AS a WHERE a.chain = found.chain \
         AND seq = (SELECT min(seq) FROM {table} AS b WHERE b.chain = found.chain)) FROM found WHERE chain IS NOT NULL) \
         SELECT a.server, a.chain, a.seq, a.at FROM firsts JOIN {table} AS a ON a.id = firsts.id \
         ORDER BY a.id LIMIT {MAX_CHAINS}"
    )
}

/// How far a chain may be dropped, from what its first lines are and when they were written.
pub(super) fn overdue_through(lines: impl IntoIterator<Item = (i64, Timestamp)>, before: Timestamp) -> Option<i64> {
    let mut through = None;
    for (seq, at) in lines {
        if at >= before || through.is_some_and(|last: i64| seq != last + 1) {
            break;
        }
        through = Some(seq);
    }
    through
}
