//! The audit lines of the store: searched, followed, and given as they are to whoever checks their chains.

use hyper::Request;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::problem::Problem;
use super::query::{DEFAULT_LIMIT, MAX_LIMIT, cursor, read_cursor, read_limit};
use super::{Admin, query, reply};
use crate::net::Reply;
use crate::store::audit::{AuditMember, AuditOrder, AuditQuery, FoundLine, moment};

/// The parameters beside those that are named as members of a line.
const PARAMETERS: [&str; 7] = ["chain", "cursor", "limit", "order", "server", "since", "until"];

impl Admin {
    /// One page of lines.
    pub(super) async fn search_audit(&self, request: &Request<Incoming>) -> Result<Reply, Problem> {
        let query = read(request)?;
        let limit = query.limit;
        // One more, to know whether there is one.
        let found = self.lines.find_audit(AuditQuery { limit: limit + 1, ..query }).await;
        let found = found.map_err(|_| Problem::StoreUnavailable)?;
        let page = found.get(..limit).unwrap_or(&found);
        let mut members = json!({ "lines": page.iter().map(shown).collect::<Vec<_>>(), "more": found.len() > limit });
        if let Some(last) = page.last() {
            members["next_cursor"] = cursor(&last.id.to_string()).into();
        }
        Ok(reply::document(&members))
    }

    /// The chains that there are lines of.
    pub(super) async fn list_audit_chains(&self, request: &Request<Incoming>) -> Result<Reply, Problem> {
        query::none(request)?;
        let chains = self.lines.audit_chains().await.map_err(|_| Problem::StoreUnavailable)?;
        let chains: Vec<_> =
            chains.iter().map(|chain| json!({ "server": chain.server, "chain": chain.chain })).collect();
        Ok(reply::document(&json!({ "chains": chains })))
    }
}

/// The line as a text, so that its hash is that of the chain.
fn shown(FoundLine { id, line }: &FoundLine) -> Value {
    json!({
        "cursor": cursor(&id.to_string()),
        "server": line.server,
        "chain": line.chain,
        "seq": line.seq,
        "line": line.line,
        "as_written": line.is_as_written(),
    })
}

fn read<B>(request: &Request<B>) -> Result<AuditQuery, Problem> {
    let mut asked = AuditQuery::all(DEFAULT_LIMIT);
    let known: Vec<_> = PARAMETERS.into_iter().chain(AuditMember::ALL.map(AuditMember::as_str)).collect();
    query::each(request, &known, &[], |name, value| take(&mut asked, name, value))?;
    Ok(asked)
}

fn take(query: &mut AuditQuery, name: &str, value: String) -> Option<()> {
    // No line holds a NUL, and no database takes one.
    if value.contains('\0') {
        return None;
    }
    match name {
        "chain" => query.chain = Some(value),
        "cursor" => query.after = Some(read_cursor(&value)?.parse().ok()?),
        "limit" => query.limit = read_limit(&value)?,
        "order" => {
            query.order = match &*value {
                "asc" => AuditOrder::OldestFirst,
                "desc" => AuditOrder::NewestFirst,
                _ => return None,
            }
        }
        "server" => query.server = Some(value),
        "since" => query.since = Some(moment(&value)?),
        "until" => query.until = Some(moment(&value)?),
        member => {
            let at = AuditMember::ALL.iter().position(|known| known.as_str() == member)?;
            query.members[at] = Some(value);
        }
    }
    Some(())
}

/// What may be asked.
pub(super) fn parameters_schema() -> Vec<Value> {
    let query = |name: &str, schema: Value, meaning: String| json!({ "name": name, "in": "query", "schema": schema, "description": meaning });
    let text = || json!({ "type": "string" });
    let time = || json!({ "type": "string", "format": "date-time" });
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT });
    let order = json!({ "enum": ["asc", "desc"], "default": "asc" });
    let mut all = vec![
        query("limit", limit, "The most lines of a page".to_owned()),
        query(
            "cursor",
            text(),
            "The next_cursor of the page before, or the cursor of a line: what comes behind".to_owned(),
        ),
        query("order", order, "The oldest first, or the newest".to_owned()),
        query("server", text(), "Only lines of this server".to_owned()),
        query("chain", text(), "Only lines of this chain".to_owned()),
        query("since", time(), "Only lines of this time or later".to_owned()),
        query("until", time(), "Only lines before this time".to_owned()),
    ];
    let members = AuditMember::ALL.map(AuditMember::as_str);
    all.extend(members.map(|member| query(member, text(), format!("Only lines with this {member}"))));
    all
}

/// What is answered.
pub(super) fn page_schema() -> Value {
    let text = json!({ "type": "string" });
    let line = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["cursor", "server", "chain", "seq", "line", "as_written"],
        "properties": {
            "cursor": text,
            "server": { "type": "string", "description": "the server that wrote it" },
            "chain": text,
            "seq": { "type": "integer", "minimum": 1, "description": "its number in the chain" },
            "line": { "type": "string", "description": "the line as it was written, one JSON object; what the next one of the chain hashes" },
            "as_written": { "type": "boolean", "description": "whether what it was found by is what it says" },
        },
    });
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["lines", "more"],
        "properties": {
            "lines": { "type": "array", "items": line },
            "more": { "type": "boolean", "description": "whether there are more now" },
            "next_cursor": { "type": "string", "description": "where to go on, now or later" },
        },
    })
}

/// The chains, as they are answered.
pub(super) fn chains_schema() -> Value {
    let text = json!({ "type": "string" });
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["chains"],
        "properties": {
            "chains": {
                "type": "array",
                "items": {
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["server", "chain"],
                    "properties": { "server": text, "chain": text },
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str) -> Result<AuditQuery, Problem> {
        read(&Request::builder().uri(format!("/admin/v1/audit?{query}")).body(()).unwrap())
    }

    #[test]
    fn a_query_is_read_or_refused_for_one_parameter() {
        assert_eq!(of(""), Ok(AuditQuery::all(DEFAULT_LIMIT)));
        let query = of("client_id=a%20b&since=2026-11-22T09:30:00Z&order=desc&limit=3&cursor=Nw").unwrap();
        assert_eq!((query.members[0].as_deref(), query.limit, query.after), (Some("a b"), 3, Some(7)));
        assert_eq!(
            (query.order, query.since.map(|since| since.unix())),
            (AuditOrder::NewestFirst, Some(1_795_339_800))
        );
        for (query, parameter) in [
            ("limit=0", Some("limit")),
            ("limit=1001", Some("limit")),
            ("cursor=YQ", Some("cursor")),
            ("cursor=*", Some("cursor")),
            ("order=up", Some("order")),
            ("since=yesterday", Some("since")),
            ("jti=a&jti=b", Some("jti")),
            ("actor=a%00", Some("actor")),
            ("detail=a", None),
        ] {
            assert_eq!(of(query), Err(Problem::QueryMalformed(parameter)), "{query}");
        }
    }
}
