//! What an operation takes beside its body: headers and the parameters of its query.

use serde_json::{Value, json};

use super::super::audit_lines;
use super::super::operation::OperationId;
use super::super::query::{DEFAULT_LIMIT, MAX_LIMIT};
use super::super::resource::Source;
use super::super::revocations;
use super::methods;
use crate::revocation::Revoked;

/// The parameters, as OpenAPI has them.
pub(super) fn parameters(id: OperationId) -> Vec<Value> {
    let header = |name: &str, required: bool, meaning: &str, pattern: &str| {
        let schema = json!({ "type": "string", "pattern": pattern });
        json!({ "name": name, "in": "header", "required": required, "description": meaning, "schema": schema })
    };
    const TAG: &str = "^(\\*|\"[!#-~]*\")$";
    let if_match = |required| header("If-Match", required, "The ETag of the state that is changed, or *", TAG);
    match id {
        OperationId::SearchAudit => audit_lines::parameters_schema(),
        OperationId::ListClients | OperationId::ListCredentials => listing(),
        // Whatever stands there, what is not the tag means that the state is not known.
        OperationId::ReadClient => vec![header("If-None-Match", false, "The ETag of the state that is known", ".*")],
        OperationId::ReplaceClient => vec![
            if_match(false),
            header(
                "If-None-Match",
                false,
                "* to make a client where there is none; else If-Match is required",
                "^\\*$",
            ),
        ],
        OperationId::ChangeClient | OperationId::DeleteClient => vec![if_match(true)],
        OperationId::DisableClient | OperationId::EnableClient => vec![if_match(false)],
        OperationId::RotateKeys | OperationId::RetireKey => {
            vec![query("dry_run", json!({ "type": "boolean", "default": false }), "Only say what it would come to")]
        }
        OperationId::ListRevocations => vec![
            query("limit", limit(), "The most revocations of a page"),
            query("cursor", cursor(), "The next_cursor of the page before"),
            query("kind", json!({ "enum": Revoked::ALL.map(Revoked::as_str) }), "Only those of this kind"),
        ],
        OperationId::LiftRevocation => {
            vec![query("reason", revocations::schema::reason(), "Why, in one line; for the audit log")]
        }
        OperationId::CreateClient
        | OperationId::ReadCredentials
        | OperationId::ListKeys
        | OperationId::Revoke
        | OperationId::ListAuditChains
        | OperationId::ReadStatus
        | OperationId::ListTrustAnchors
        | OperationId::ListSharedSubjects
        | OperationId::Reload
        | OperationId::ReadOpenApi => Vec::new(),
    }
}

fn query(name: &str, schema: Value, meaning: &str) -> Value {
    json!({ "name": name, "in": "query", "schema": schema, "description": meaning })
}

fn cursor() -> Value {
    json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]+$" })
}

fn limit() -> Value {
    json!({ "type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT })
}

fn listing() -> Vec<Value> {
    let labels = json!({ "type": "array", "items": { "type": "string", "pattern": "=" } });
    vec![
        query("limit", limit(), "The most clients of a page"),
        query("cursor", cursor(), "The next_cursor of the page before"),
        query("state", json!({ "enum": ["active", "disabled"] }), "Only clients in this state"),
        query("method", json!({ "enum": methods() }), "Only clients of this authentication method"),
        query("source", json!({ "enum": Source::ALL.map(Source::as_str) }), "Only clients from here"),
        query("label", labels, "Only clients with each of these labels, as name=value"),
    ]
}
