//! Requests to revoke, and revocations, as the OpenAPI document has them.

use certbind_proto::client::MAX_CLIENT_ID;
use certbind_proto::thumbprint::TEXT_LENGTH;
use serde_json::{Value, json};

use super::wanted::{MAX_REASON, MEMBERS};
use crate::revocation::Revoked;

/// The characters of an identifier (RFC 6749 Appendix A.1), and of a hash in base64url: the last one has two bits unset.
const PRINTABLE: &str = "^[ -~]+$";
const HASH: &str = "^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$";

/// No character that ends a line or acts on a terminal.
const ONE_LINE: &str = "^[^\\u0000-\\u001f\\u007f-\\u009f\\u2028\\u2029]*$";

/// The hash of a certificate, a client or a token.
pub(in crate::admin) fn hash() -> Value {
    json!({ "type": "string", "minLength": TEXT_LENGTH, "maxLength": TEXT_LENGTH, "pattern": HASH })
}

/// A reason.
pub(in crate::admin) fn reason() -> Value {
    json!({ "type": "string", "maxLength": MAX_REASON, "pattern": ONE_LINE })
}

/// What may be sent.
pub(in crate::admin) fn wanted() -> Value {
    let [certificate, thumbprint, client_id, reason] = MEMBERS;
    let none = json!({ "type": "null" });
    let one_of = |name: &str| json!({ "required": [name], "properties": { name: { "type": "string" } } });
    json!({
        "type": "object",
        "additionalProperties": false,
        "description": "exactly one of certificate, x5t#S256 and client_id",
        "oneOf": [one_of(certificate), one_of(thumbprint), one_of(client_id)],
        "properties": {
            certificate: {
                "description": "the certificate, PEM: it authenticates nobody any more, and all tokens that are bound to it are revoked",
                "anyOf": [{ "type": "string", "pattern": "-----BEGIN CERTIFICATE-----" }, none],
            },
            thumbprint: {
                "description": "the same by its thumbprint (RFC 8705 §3.1)",
                "anyOf": [{ "type": "string", "pattern": HASH }, none],
            },
            client_id: {
                "description": "all tokens that this client has by now are revoked; it may get new ones",
                "anyOf": [
                    { "type": "string", "minLength": 1, "maxLength": MAX_CLIENT_ID, "pattern": PRINTABLE },
                    none,
                ],
            },
            reason: {
                "description": "why, in one line; for the audit log",
                "anyOf": [self::reason(), none],
            },
        },
    })
}

/// What is shown.
pub(in crate::admin) fn shown() -> Value {
    let time = |meaning: &str| json!({ "type": "string", "format": "date-time", "description": meaning });
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["kind", "id"],
        "properties": {
            "kind": { "enum": Revoked::ALL.map(Revoked::as_str), "description": "what is revoked" },
            "id": {
                "type": "string",
                "minLength": TEXT_LENGTH,
                "maxLength": TEXT_LENGTH,
                "pattern": HASH,
                "description": "of a certificate its x5t#S256, of a client the SHA-256 of its client_id, of a token that of its jti",
            },
            "client_id": { "type": "string", "description": "of a client that is registered" },
            "blocks_authentication": {
                "type": "boolean",
                "description": "whether the certificate authenticates nobody any more; if not, it was found on a revocation list, which decides that",
            },
            "tokens_until": time("tokens that were issued up to then are revoked; without it, all are"),
            "until": time("when it is forgotten, because nothing that it concerns can be alive; without it, never"),
        },
    })
}

/// A page of them.
pub(in crate::admin) fn page(revocation: &Value) -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["revocations"],
        "properties": {
            "revocations": { "type": "array", "items": revocation },
            "next_cursor": { "type": "string" },
        },
    })
}
