//! The schemas of what is answered that is no client: keys, credentials, how the server stands, and problems.

use serde_json::{Value, json};

use super::super::credentials::{EXTENTS, IGNORED};
use super::super::keys::CACHES;
use super::{object, schema, texts, time};
use crate::mint::lifecycle::State;
use crate::registry::names::Kind;

pub(super) fn status() -> Value {
    let text = json!({ "type": "string" });
    let count = json!({ "type": "integer", "minimum": 0 });
    let properties = json!({
        "version": text,
        "issuer": text,
        "token_endpoint": text,
        "now": time(),
        "started": time(),
        "store": object(&["engine", "healthy"], &json!({ "engine": text, "healthy": { "type": "boolean" } })),
        "clients": object(
            &["of_files", "of_store", "not_in_force", "shadowed"],
            &json!({ "of_files": count, "of_store": count, "not_in_force": count, "shadowed": texts() }),
        ),
        "trust_groups": texts(),
        "certificates": { "type": "array", "items": certificate(&["listener"]) },
        "not_ready": { "type": "array", "items": text, "description": "what must work and does not, as at /readyz?verbose" },
        "refused": texts(),
        "warnings": { "type": "array", "items": text, "description": "what is in force and odd: revocation lists that are stale, or older than the ones before" },
    });
    let required = [
        "version",
        "issuer",
        "token_endpoint",
        "now",
        "started",
        "store",
        "clients",
        "trust_groups",
        "certificates",
        "not_ready",
        "refused",
        "warnings",
    ];
    object(&required, &properties)
}

/// A certificate, with these texts beside it.
fn certificate(besides: &[&str]) -> Value {
    let text = json!({ "type": "string" });
    let required = [besides, &["subject", "serial", "not_before", "not_after", "x5t#S256"]].concat();
    let mut properties =
        json!({ "subject": text, "serial": text, "not_before": time(), "not_after": time(), "x5t#S256": text });
    besides.iter().for_each(|name| properties[*name] = text.clone());
    object(&required, &properties)
}

pub(super) fn shared_subjects() -> Value {
    let text = json!({ "type": "string" });
    let shared = object(
        &["trust", "subject", "clients"],
        &json!({
            "trust": { "type": "string", "description": "the trust group" },
            "subject": text,
            "clients": { "type": "array", "minItems": 2, "items": text },
        }),
    );
    object(&["shared_subjects"], &json!({ "shared_subjects": { "type": "array", "items": shared } }))
}

/// A client's credentials; the member about the uses stands outside of a page's clients.
pub(super) fn credentials() -> Value {
    let text = json!({ "type": "string" });
    let key = object(
        &["type", "registered", "thumbprint"],
        &json!({
            "type": { "const": "key" },
            "registered": { "type": "boolean", "description": "whether the registration holds it; one that is published at jwks_uri is only seen" },
            "thumbprint": { "type": "string", "description": "RFC 7638" },
            "kid": text,
            "kty": text,
            "crv": text,
            "algs": texts(),
            "last_used": time(),
        }),
    );
    let certificate = object(
        &["type", "registered", "x5t#S256", "subject", "serial", "not_before", "not_after"],
        &json!({
            "type": { "const": "certificate" },
            "registered": { "type": "boolean", "description": "whether the registration holds it; one that a CA vouches for is only seen" },
            "x5t#S256": { "type": "string", "description": "RFC 8705 §3.1" },
            "subject": text,
            "serial": text,
            "not_before": time(),
            "not_after": time(),
            "last_used": time(),
        }),
    );
    object(
        &["client_id", "credentials"],
        &json!({
            "client_id": text,
            "token_endpoint_auth_method": schema(Kind::Method),
            "state": schema(Kind::State),
            "legacy_audience": { "const": true, "description": "there when its assertions may still name the token endpoint" },
            "certificate_validity": { "const": IGNORED, "description": "there when the registration alone says how long its certificates are good" },
            "jwks_uri": { "type": "string", "description": "where the client publishes keys or certificates" },
            "last_used": { "type": "string", "format": "date-time", "description": "when the client last proved itself; left out when that was never seen" },
            "credentials": { "type": "array", "items": { "oneOf": [key, certificate] } },
        }),
    )
}

pub(super) fn credentials_page() -> Value {
    let properties =
        json!({ "clients": { "type": "array", "items": credentials() }, "next_cursor": { "type": "string" } });
    object(&["clients"], &properties)
}

pub(super) fn with_uses(mut schema: Value) -> Value {
    schema["properties"]["uses_of"] = json!({
        "enum": EXTENTS,
        "description": "whose uses are known: those at every server, or, while the store does not answer, those at this one since it last wrote",
    });
    if let Some(required) = schema["required"].as_array_mut() {
        required.push("uses_of".into());
    }
    schema
}

pub(super) fn signing_keys() -> Value {
    let text = json!({ "type": "string" });
    let properties = json!({
        "kid": { "type": "string", "description": "as in the JWKS (RFC 7517 §4.5)" },
        "alg": text,
        "state": { "enum": State::ALL.map(State::as_str) },
        "kept": { "enum": ["pkcs8", "sealed", "pkcs11"], "description": "how the private key lies in the store, or that it is in a module" },
        "created": time(),
        "signs_from": time(),
        "signs_until": { "type": "string", "format": "date-time", "description": "when its successor takes over, or is due to; unknown when keys are rotated by hand" },
        "published_until": { "type": "string", "format": "date-time", "description": "when its last token has expired, once that is certain" },
    });
    let key = object(&["kid", "alg", "state", "kept", "created", "signs_from"], &properties);
    object(&["keys"], &json!({ "keys": { "type": "array", "items": key } }))
}

pub(super) fn rotation() -> Value {
    let properties = json!({
        "dry_run": { "type": "boolean" },
        "incoming": { "type": "string", "description": "the next key; not known before it is made" },
        "alg": { "type": "string" },
        "published_from": time(),
        "signs_from": time(),
        "outgoing": { "type": "string", "description": "the key that signs until then" },
        "outgoing_published_until": time(),
    });
    let required = ["dry_run", "alg", "published_from", "signs_from", "outgoing", "outgoing_published_until"];
    object(&required, &properties)
}

pub(super) fn retirement() -> Value {
    let properties = json!({
        "dry_run": { "type": "boolean" },
        "kid": { "type": "string" },
        "was": { "enum": State::ALL.map(State::as_str) },
        "last_token": { "type": "string", "format": "date-time", "description": "when the last token expires that it signed; until then they are refused as caches let go of the key" },
        "cached_until": { "type": "string", "format": "date-time", "description": "when every cache of the JWKS has let go of it, if none is slower than keys.publish_before" },
        "signer": { "type": "string", "description": "the key that signs from now on; not known before it is made" },
        "caches": { "enum": CACHES, "description": "whether caches of the JWKS know the key that signs" },
        "known_by": { "type": "string", "format": "date-time", "description": "when all of them do, if they may not yet" },
    });
    object(&["dry_run", "kid", "was", "last_token", "cached_until", "caches"], &properties)
}

pub(super) fn trust_groups() -> Value {
    let text = json!({ "type": "string" });
    let list = object(
        &["issuer", "this_update", "next_update"],
        &json!({ "issuer": text, "this_update": time(), "next_update": time() }),
    );
    let group = object(
        &["name", "anchors", "revocation_lists"],
        &json!({
            "name": text,
            "anchors": { "type": "array", "items": certificate(&[]) },
            "revocation_lists": { "type": "array", "items": list },
        }),
    );
    let properties = json!({ "trust_groups": { "type": "array", "items": group }, "administrators": group });
    object(&["trust_groups"], &properties)
}

pub(super) fn problem() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["type", "title", "status", "request_id"],
        "properties": {
            "type": { "type": "string", "format": "uri" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "request_id": { "type": "string" },
            "error": { "const": "invalid_client_metadata", "description": "the code of RFC 7591 §3.2.2" },
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["detail"],
                    "properties": { "detail": { "type": "string" }, "pointer": { "type": "string" } },
                },
            },
            "kid": { "type": "string", "description": "the signing key that is published already" },
            "parameter": { "type": "string" },
            "reason": { "type": "string", "description": "what speaks against the certificate of whoever asks" },
            "retired": { "type": "string", "format": "date-time", "description": "when the signing key was taken back" },
            "signs_from": { "type": "string", "format": "date-time", "description": "when that key begins to sign" },
        },
    })
}
