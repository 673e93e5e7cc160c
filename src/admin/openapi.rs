//! The table of operations and the table of members to an OpenAPI 3.1 document, which is what the code does and nothing else.

use certbind_proto::client::{AuthMethod, MAX_CLIENT_ID};
use certbind_proto::request::CLIENT_CREDENTIALS;
use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::audit_lines;
use super::body::{JSON, MERGE_PATCH};
use super::operation::{OPERATIONS, Operation, OperationId};
use super::resource::Source;
use super::revocations;
use crate::registry::names::{CERTBIND, CLIENT, Kind, Member};

mod answers;
mod parameters;

use parameters::parameters;

/// The document.
#[must_use]
pub fn document() -> Value {
    let mut paths = Map::new();
    for operation in OPERATIONS {
        let path = paths.entry(operation.path).or_insert_with(|| path_item(operation.path));
        path[operation.method.to_ascii_lowercase()] = described(operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "certbind admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Clients of an OAuth 2.0 authorization server, in the words of RFC 7591. Reached over a Unix socket or mutual TLS.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "paths": paths,
        "components": { "schemas": schemas(), "headers": headers() },
    })
}

fn path_item(path: &str) -> Value {
    let (name, schema) = if path.contains("{client_id}") {
        let schema = json!({ "type": "string", "minLength": 1, "maxLength": MAX_CLIENT_ID, "pattern": PRINTABLE });
        ("client_id", schema)
    } else if path.contains("{kid}") {
        ("kid", json!({ "type": "string", "minLength": 1 }))
    } else if path.contains("{thumbprint}") {
        ("thumbprint", revocations::schema::hash())
    } else {
        return json!({});
    };
    json!({ "parameters": [{ "name": name, "in": "path", "required": true, "schema": schema }] })
}

fn described(operation: &Operation) -> Value {
    let id = operation.id;
    let mut members = json!({
        "operationId": id.as_str(),
        "summary": operation.summary,
        "description": format!("Needs the role {} or a higher one.", operation.role.as_str()),
        "responses": responses(id),
    });
    let parameters = parameters(id);
    if !parameters.is_empty() {
        members["parameters"] = parameters.into();
    }
    if let Some((media_type, schema)) = body(id) {
        let content = json!({ "schema": reference(schema), "example": example(id) });
        members["requestBody"] = json!({ "required": true, "content": { media_type: content } });
    }
    members
}

fn body(id: OperationId) -> Option<(&'static str, &'static str)> {
    match id {
        OperationId::CreateClient | OperationId::ReplaceClient => Some((JSON, "Registration")),
        OperationId::ChangeClient => Some((MERGE_PATCH, "RegistrationPatch")),
        OperationId::Revoke => Some((JSON, "RevocationRequest")),
        OperationId::ListClients
        | OperationId::ReadClient
        | OperationId::DeleteClient
        | OperationId::DisableClient
        | OperationId::EnableClient
        | OperationId::ReadCredentials
        | OperationId::ListCredentials
        | OperationId::ListKeys
        | OperationId::RotateKeys
        | OperationId::RetireKey
        | OperationId::ListRevocations
        | OperationId::LiftRevocation
        | OperationId::SearchAudit
        | OperationId::ListAuditChains
        | OperationId::ReadStatus
        | OperationId::ListTrustAnchors
        | OperationId::ListSharedSubjects
        | OperationId::Reload
        | OperationId::ReadOpenApi => None,
    }
}

/// A body that every server takes, whatever its trust groups are called.
fn example(id: OperationId) -> Value {
    match id {
        OperationId::ChangeClient => json!({ "scope": "payments:read", "certbind": { "labels": { "team": "pay" } } }),
        OperationId::Revoke => {
            json!({ "x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg0", "reason": "the machine was stolen" })
        }
        _ => json!({
            "client_name": "Billing",
            "token_endpoint_auth_method": "private_key_jwt",
            "jwks_uri": "https://billing.example.com/jwks.json",
            "scope": "payments:read payments:write",
            "certbind": { "audiences": ["https://payments.example.com"], "owner": "pay@example.com" },
        }),
    }
}

/// What comes back when all is well: status, schema, headers.
fn success(id: OperationId) -> Vec<(u16, Option<&'static str>, &'static [&'static str])> {
    match id {
        OperationId::ListClients => vec![(200, Some("ClientPage"), &["Link"])],
        OperationId::CreateClient => vec![(201, Some("Client"), &["ETag", "Location"])],
        OperationId::ReadClient => vec![(200, Some("Client"), &["ETag"]), (304, None, &["ETag"])],
        OperationId::ReplaceClient => {
            vec![(200, Some("Client"), &["ETag"]), (201, Some("Client"), &["ETag", "Location"])]
        }
        OperationId::ChangeClient | OperationId::DisableClient | OperationId::EnableClient => {
            vec![(200, Some("Client"), &["ETag"])]
        }
        OperationId::DeleteClient => vec![(204, None, &[])],
        OperationId::ReadCredentials => vec![(200, Some("Credentials"), &[])],
        OperationId::ListCredentials => vec![(200, Some("CredentialsPage"), &["Link"])],
        OperationId::ListKeys => vec![(200, Some("SigningKeys"), &[])],
        OperationId::RotateKeys => vec![(200, Some("Rotation"), &[])],
        OperationId::RetireKey => vec![(200, Some("Retirement"), &[])],
        OperationId::ListRevocations => vec![(200, Some("RevocationPage"), &["Link"])],
        OperationId::Revoke | OperationId::LiftRevocation => vec![(200, Some("Revocation"), &[])],
        OperationId::SearchAudit => vec![(200, Some("AuditPage"), &[])],
        OperationId::ListAuditChains => vec![(200, Some("AuditChains"), &[])],
        OperationId::ReadStatus => vec![(200, Some("Status"), &[])],
        OperationId::ListTrustAnchors => vec![(200, Some("TrustGroups"), &[])],
        OperationId::ListSharedSubjects => vec![(200, Some("SharedSubjects"), &[])],
        OperationId::Reload => vec![(200, Some("Reloaded"), &[])],
        OperationId::ReadOpenApi => vec![(200, Some("Document"), &[])],
    }
}

/// The statuses of what may go wrong.
fn failures(id: OperationId) -> Vec<u16> {
    let mut failures = vec![400, 403];
    if id.is_change() || matches!(id, OperationId::SearchAudit | OperationId::ListAuditChains) {
        failures.push(503);
    }
    if id.is_change() && !matches!(id, OperationId::Reload | OperationId::Revoke | OperationId::LiftRevocation) {
        failures.push(409);
    }
    if matches!(id, OperationId::RotateKeys | OperationId::RetireKey) {
        failures.push(500);
    }
    if is_of_one_client(id) || matches!(id, OperationId::RetireKey | OperationId::Revoke | OperationId::LiftRevocation)
    {
        failures.push(404);
    }
    if id.is_change() && is_of_one_client(id) {
        failures.push(412);
    }
    if matches!(id, OperationId::ReplaceClient | OperationId::ChangeClient | OperationId::DeleteClient) {
        failures.push(428);
    }
    if body(id).is_some() {
        failures.extend([408, 413, 415]);
    }
    failures.sort_unstable();
    failures
}

fn is_of_one_client(id: OperationId) -> bool {
    OPERATIONS.iter().any(|operation| operation.id == id && operation.path.contains("{client_id}"))
}

fn responses(id: OperationId) -> Value {
    let mut responses = Map::new();
    for (status, schema, headers) in success(id) {
        let mut response = json!({ "description": phrase(status) });
        let named = headers.iter().chain(&["X-Request-Id"]);
        response["headers"] =
            named.map(|name| ((*name).to_owned(), json!({ "$ref": format!("#/components/headers/{name}") }))).collect();
        if let Some(schema) = schema {
            response["content"] = json!({ JSON: { "schema": reference(schema) } });
        }
        responses.insert(status.to_string(), response);
    }
    for status in failures(id) {
        let content = json!({ "application/problem+json": { "schema": reference("Problem") } });
        responses.insert(status.to_string(), json!({ "description": phrase(status), "content": content }));
    }
    Value::Object(responses)
}

fn phrase(status: u16) -> &'static str {
    StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default()
}

fn headers() -> Value {
    let header = |meaning: &str, required: bool| json!({ "description": meaning, "required": required, "schema": { "type": "string" } });
    json!({
        "ETag": header("The state of the client (RFC 9110 §8.8.3)", true),
        "Link": header("The next page, where there is one (RFC 8288)", false),
        "Location": header("Where the client is", true),
        "X-Request-Id": header("By which the audit log knows the request", true),
    })
}

fn schemas() -> Value {
    json!({
        "AuditChains": audit_lines::chains_schema(),
        "AuditPage": audit_lines::page_schema(),
        "Registration": registration("Registration"),
        "RegistrationPatch": registration("RegistrationPatch"),
        "Client": client(),
        "ClientPage": {
            "type": "object",
            "additionalProperties": false,
            "required": ["clients"],
            "properties": {
                "clients": { "type": "array", "items": reference("Client") },
                "next_cursor": { "type": "string" },
            },
        },
        "Credentials": answers::with_uses(answers::credentials()),
        "CredentialsPage": answers::with_uses(answers::credentials_page()),
        "Document": { "type": "object" },
        "Problem": answers::problem(),
        "Revocation": revocations::schema::shown(),
        "RevocationPage": revocations::schema::page(&reference("Revocation")),
        "RevocationRequest": revocations::schema::wanted(),
        "Retirement": answers::retirement(),
        "Rotation": answers::rotation(),
        "SharedSubjects": answers::shared_subjects(),
        "SigningKeys": answers::signing_keys(),
        "Reloaded": object(
            &["taken", "refused", "warnings"],
            &json!({ "taken": texts(), "refused": texts(), "warnings": texts() }),
        ),
        "Status": answers::status(),
        "TrustGroups": answers::trust_groups(),
    })
}

/// What may be sent. A member that is null counts as left out, or takes the member away; what the server alone sets is
/// ignored.
fn registration(name: &str) -> Value {
    let is_patch = name == "RegistrationPatch";
    let mut properties = members(&CLIENT, Absent::IsNull);
    let ours = json!({
        "type": ["object", "null"],
        "additionalProperties": false,
        "properties": members(&CERTBIND, Absent::IsNull),
    });
    properties.insert("certbind".to_owned(), ours);
    for read_only in super::resource::READ_ONLY {
        properties.insert(read_only.to_owned(), json!({ "readOnly": true }));
    }
    let required: &[&str] = if is_patch { &[] } else { &["token_endpoint_auth_method", "certbind"] };
    json!({ "type": "object", "additionalProperties": false, "required": required, "properties": properties })
}

/// What is shown.
fn client() -> Value {
    let mut properties = members(&CLIENT, Absent::IsLeftOut);
    let ours = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": members(&CERTBIND, Absent::IsLeftOut),
    });
    properties.insert("certbind".to_owned(), ours);
    properties.insert(
        "client_id_issued_at".to_owned(),
        json!({ "type": "integer", "readOnly": true, "description": "when it was registered, in Unix seconds (RFC 7591 §3.2.1)" }),
    );
    properties.insert("registration".to_owned(), standing());
    let required = ["client_id", "registration"];
    json!({ "type": "object", "additionalProperties": false, "required": required, "properties": properties })
}

fn standing() -> Value {
    let time = json!({ "type": "string", "format": "date-time" });
    json!({
        "type": "object",
        "readOnly": true,
        "additionalProperties": false,
        "required": ["source", "in_force", "complaints"],
        "properties": {
            "source": { "enum": Source::ALL.map(Source::as_str), "description": "a file in clients.dir, or the store" },
            "in_force": { "type": "boolean", "description": "whether it counts; a registration that the rules of this server refuse does not" },
            "complaints": { "type": "array", "items": { "type": "string" }, "description": "what the rules have against it" },
            "revision": { "type": "integer", "description": "the change that made it as it is" },
            "created": time,
            "updated": time,
        },
    })
}

fn object(required: &[&str], properties: &Value) -> Value {
    json!({ "type": "object", "additionalProperties": false, "required": required, "properties": properties })
}

fn texts() -> Value {
    json!({ "type": "array", "items": { "type": "string" } })
}

fn time() -> Value {
    json!({ "type": "string", "format": "date-time" })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Absent {
    IsLeftOut,
    IsNull,
}

fn members(table: &[Member], absent: Absent) -> Map<String, Value> {
    let described = |member: &Member| {
        let mut schema = schema(member.kind);
        if member.name == "client_id" {
            schema = json!({ "type": "string", "minLength": 1, "maxLength": MAX_CLIENT_ID, "pattern": PRINTABLE });
        }
        if member.name == "grant_types" {
            schema["items"] = json!({ "const": CLIENT_CREDENTIALS });
        }
        if absent == Absent::IsNull && member.name != "token_endpoint_auth_method" {
            schema = json!({ "anyOf": [schema, { "type": "null" }] });
        }
        schema["description"] = member.meaning.into();
        (member.name.to_owned(), schema)
    };
    table.iter().map(described).collect()
}

fn schema(kind: Kind) -> Value {
    match kind {
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Certificates => {
            json!({ "type": "array", "items": { "type": "string", "pattern": "-----BEGIN CERTIFICATE-----" } })
        }
        Kind::Keys => json!({
            "type": "object",
            "required": ["keys"],
            "properties": { "keys": { "type": "array", "minItems": 1, "maxItems": 32, "items": { "type": "object" } } },
        }),
        Kind::Labels => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        Kind::Method => json!({ "enum": methods() }),
        Kind::State => json!({ "enum": ["active", "disabled"] }),
        Kind::Table => json!({ "type": "object" }),
        Kind::Text => json!({ "type": "string" }),
        Kind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
    }
}

/// `%x20-7E` (RFC 6749 Appendix A.1).
const PRINTABLE: &str = "^[ -~]+$";

fn methods() -> [&'static str; 3] {
    AuthMethod::ALL.map(AuthMethod::as_str)
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_document_has_every_operation_and_no_other() {
        let document = document();
        let mut described = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters") {
                described.insert((
                    method.to_uppercase(),
                    path.clone(),
                    operation["operationId"].as_str().unwrap().to_owned(),
                ));
            }
        }
        let there: BTreeSet<_> = OPERATIONS
            .iter()
            .map(|operation| (operation.method.to_owned(), operation.path.to_owned(), operation.id.as_str().to_owned()))
            .collect();
        assert_eq!(described, there);
        assert_eq!(there.len(), OPERATIONS.len(), "no operation is there twice");
    }

    #[test]
    fn every_body_has_an_example_that_is_taken() {
        use certbind_proto::client::{LegacyAudience, RegistrationRules};
        use certbind_proto::jws::Algorithms;
        let rules = RegistrationRules {
            algorithms: Algorithms::FAPI2,
            legacy_audience: LegacyAudience::Forbidden,
            trust_groups: Vec::new(),
        };
        let object = |value: Value| value.as_object().unwrap().clone();
        let mut registration = object(example(OperationId::CreateClient));
        registration.insert("client_id".to_owned(), "billing".into());
        crate::registry::document::register(&registration, &rules).unwrap();
        crate::admin::merge::merge(&mut registration, &object(example(OperationId::ChangeClient)));
        crate::registry::document::register(&registration, &rules).unwrap();
        assert_eq!(revocations::faults(&object(example(OperationId::Revoke))), []);
    }

    #[test]
    fn every_reference_leads_to_a_schema_and_every_schema_is_used() {
        let document = document();
        let text = document.to_string();
        for kind in ["schemas", "headers"] {
            for name in document["components"][kind].as_object().unwrap().keys() {
                assert!(text.contains(&format!("#/components/{kind}/{name}\"")), "{name} is not used");
            }
        }
        for name in text.split("#/components/").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            let (kind, name) = name.split_once('/').unwrap();
            assert!(document["components"][kind].get(name).is_some(), "{name}");
        }
    }
}
