//! Cases about the binding: whose certificate, and what `cnf` demands (RFC 8705 §3; RFC 7800 §3.1).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::case::{Case, case};
use super::keys::{self, APPENDIX_A, BILLING, RENEWED, THIEF};

pub(super) const ABOUT: &str =
    "The binding of a token to the client certificate of the connection (RFC 8705 §3; RFC 7800 §3.1).";

pub(super) fn cases() -> Vec<Case> {
    presented().into_iter().chain(confirmations()).collect()
}

fn presented() -> Vec<Case> {
    let rule = "RFC 8705 §3";
    let presents = |name: &'static str, certificate: Value| case(name, rule).with("certificate", certificate);
    let unbound = |case: Case| case.without_claim("cnf");
    let relaxed = |case: Case| case.with_in("demand", "binding", "when_bound");
    vec![
        presents("no certificate", Value::Null).ends("certificate_missing"),
        presents("a certificate of the same name with another key", json!(THIEF)).ends("binding_mismatch"),
        presents("the next certificate of the same key", json!(RENEWED)).ends("binding_mismatch"),
        presents("the next certificate of the same key, and its own token", json!(RENEWED))
            .claim("cnf", json!({ "x5t#S256": keys::thumbprint(RENEWED) })),
        presents("the certificate of the specification, long expired", json!(APPENDIX_A))
            .claim("cnf", json!({ "x5t#S256": "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0" })),
        unbound(case("bound to nothing", rule)).ends("token_unbound"),
        unbound(presents("bound to nothing, and no certificate", Value::Null)).ends("token_unbound"),
        relaxed(unbound(case("bound to nothing where that passes", rule))),
        relaxed(unbound(presents("bound to nothing where that passes, and no certificate", Value::Null))),
        relaxed(case("bound, where bound to nothing passes", rule)),
        relaxed(presents("bound, where bound to nothing passes, and no certificate", Value::Null))
            .ends("certificate_missing"),
        relaxed(presents("bound, where bound to nothing passes, and a thief", json!(THIEF))).ends("binding_mismatch"),
    ]
}

/// A confirmation that cannot be enforced is never skipped.
fn confirmations() -> Vec<Case> {
    let mine = keys::thumbprint(BILLING);
    let text = mine.to_string();
    let hex: String = mine.as_bytes().iter().map(|octet| format!("{octet:02x}")).collect();
    let standard = STANDARD.encode(mine.as_bytes());
    // The last character of 43 has four bits of the hash and two that no hash sets.
    let stray = format!("{}{}", &text[..42], char::from(text.as_bytes()[42] + 1));
    let thumbprint = |value: Value| json!({ "x5t#S256": value });
    let table = [
        ("empty", json!({})),
        ("null", Value::Null),
        ("a text", json!(text)),
        ("a list", json!([text])),
        ("a key by its kid", json!({ "kid": "k" })),
        ("a DPoP key", json!({ "jkt": text })),
        ("the certificate and a DPoP key", json!({ "x5t#S256": text, "jkt": text })),
        ("the certificate and a key", json!({ "x5t#S256": text, "jwk": {} })),
        ("the certificate and an encrypted key", json!({ "x5t#S256": text, "jwe": "x" })),
        ("the certificate and the URL of keys", json!({ "x5t#S256": text, "jku": "https://h" })),
        ("the certificate and a key by its kid", json!({ "x5t#S256": text, "kid": "k" })),
        ("the certificate and an OSCORE context", json!({ "x5t#S256": text, "osc": {} })),
        ("a SHA-1 thumbprint", json!({ "x5t": "hvfkN_qlp_zhXR3cuerq6jd2Z7g" })),
        ("another letter case", json!({ "X5T#s256": text })),
        ("no text", thumbprint(Value::Null)),
        ("a list of one", thumbprint(json!([text]))),
        ("an empty text", thumbprint(json!(""))),
        ("hexadecimal", thumbprint(json!(hex))),
        ("hexadecimal with colons", thumbprint(json!(colons(&hex)))),
        ("padded", thumbprint(json!(format!("{text}=")))),
        ("the other alphabet", thumbprint(json!(standard))),
        ("one character too few", thumbprint(json!(text[..42]))),
        ("one character too many", thumbprint(json!(format!("{text}A")))),
        ("stray bits in the last character", thumbprint(json!(stray))),
    ];
    let refused = table.into_iter().flat_map(|(name, cnf)| {
        let strict = case(format!("cnf: {name}"), "RFC 7800 §3.1").claim("cnf", cnf.clone());
        let relaxed = case(format!("cnf: {name}, where bound to nothing passes"), "RFC 7800 §3.1").claim("cnf", cnf);
        let relaxed = relaxed.with_in("demand", "binding", "when_bound").with("certificate", Value::Null);
        [strict.ends("confirmation_unknown"), relaxed.ends("confirmation_unknown")]
    });
    let more = json!({ "x5t#S256": text, "x5t": "hvfkN_qlp_zhXR3cuerq6jd2Z7g", "x": 1 });
    let ignored = case("cnf: the certificate and members that nobody knows", "RFC 7800 §3.1").claim("cnf", more);
    refused.chain([ignored]).collect()
}

fn colons(hex: &str) -> String {
    let pairs: Vec<_> = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap()).collect();
    pairs.join(":")
}
