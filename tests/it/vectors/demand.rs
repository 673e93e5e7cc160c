//! Cases about what a route demands: audience, age, scope; and which fault is told when there are several.

use serde_json::{Value, json};

use super::case::{AUDIENCE, Case, NOW, case};
use super::keys::{Key, THIEF};

pub(super) const ABOUT: &str =
    "What a route demands of a good token: audience, age, scope (RFC 9068 §4; FAPI 2.0 §5.3.4; RFC 6750 §3.1).";
pub(super) const ABOUT_ORDER: &str =
    "One reason for a request with two faults: header, signature, claims, binding, revocation, age, scope.";

pub(super) fn cases() -> Vec<Case> {
    let refunds = "https://api.example.com/refunds";
    let several = |name: &'static str, route: &str| {
        let case = case(name, "RFC 9068 §4").with_in("settings", "audiences", json!([AUDIENCE, refunds]));
        case.with_in("demand", "audience", route)
    };
    let mut cases = vec![
        several("the resource of this route", AUDIENCE),
        several("another resource of this server", refunds).ends("token_audience"),
        several("a token for both resources", refunds).claim("aud", json!([AUDIENCE, refunds])),
    ];
    for (age, skew, verdict) in [
        (0, 30, "accepted"),
        (90, 30, "accepted"),
        (91, 30, "token_too_old"),
        (60, 0, "accepted"),
        (61, 0, "token_too_old"),
        (-5, 0, "accepted"),
    ] {
        let name = format!("made {age} s ago where 60 s are too old, with a skew of {skew} s");
        let case =
            case(name, "FAPI 2.0 §5.3.4").with_in("demand", "max_age", 60).with_in("settings", "clock_skew", skew);
        cases.push(case.claim("iat", NOW - age).ends(verdict));
    }
    for (scope, verdict) in [
        ("", "accepted"),
        ("payments:write payments:read", "accepted"),
        ("payments", "scope_missing"),
        ("payments:READ", "scope_missing"),
        ("payments:read admin", "scope_missing"),
    ] {
        let name = format!("the scope \"{scope}\" is demanded");
        cases.push(case(name, "RFC 6750 §3.1").with_in("demand", "scope", scope).ends(verdict));
    }
    cases.extend([
        case("a token of no scope where none is demanded", "RFC 6750 §3.1")
            .claim("scope", "")
            .with_in("demand", "scope", ""),
        case("a token of no scope", "RFC 6750 §3.1").claim("scope", "").ends("scope_missing"),
        case("a scope in a prototype", "RFC 6750 §3.1")
            .without_claim("scope")
            .payload_from(|good| format!("{{\"__proto__\":{{\"scope\":\"payments:read\"}},{}", &good[1..]))
            .ends("scope_missing"),
        case("too little scope, with a realm", "RFC 6750 §3")
            .with_in("settings", "realm", "payments")
            .with_in("demand", "scope", "payments:refund")
            .ends("scope_missing"),
    ]);
    cases
}

/// Each case has two faults, and the earlier one is told.
pub(super) fn order() -> Vec<Case> {
    let rule = "the fixed order";
    let two = |name: &'static str| case(name, rule);
    let old = |case: Case| case.claim("iat", NOW - 1000).with_in("demand", "max_age", 60);
    let unscoped = |case: Case| case.with_in("demand", "scope", "admin");
    vec![
        two("two headers, and neither has a token")
            .authorization(|_| vec!["x".into(), "y".into()])
            .ends("400 token_repeated"),
        two("crit, and alg none").header("crit", json!([])).header("alg", "none").ends("token_malformed"),
        two("alg none, and a kid that is no text").header("alg", "none").header("kid", 1).ends("alg_not_allowed"),
        two("alg none, and a payload that is not base64url")
            .header("alg", "none")
            .token(|token| token.replacen('.', ".~", 1))
            .ends("alg_not_allowed"),
        two("a signature that is not base64url, and a kid that nobody has")
            .header("kid", "other")
            .token(|token| format!("{token}="))
            .ends("token_malformed"),
        two("an algorithm that is not allowed, and no key for it")
            .header("kid", "other")
            .with_in("settings", "algorithms", json!(["ES256"]))
            .ends("alg_not_allowed"),
        two("no keys at hand, and an algorithm that is not allowed")
            .with("jwks", Value::Null)
            .with_in("settings", "algorithms", json!(["ES256"]))
            .ends("keys_unavailable"),
        two("a stranger's signature, and another typ")
            .signed_by(Key::Stranger(Key::USUAL.algorithm()))
            .header("typ", "JWT")
            .ends("token_signature"),
        two("a stranger's signature, and claims that are no JSON")
            .signed_by(Key::Stranger(Key::USUAL.algorithm()))
            .raw_payload("x")
            .ends("token_signature"),
        two("another typ, and claims that are no JSON").header("typ", "JWT").raw_payload("x").ends("token_type"),
        two("another issuer, and another audience").claim("iss", "x").claim("aud", "x").ends("token_issuer"),
        two("another audience, and expired").claim("aud", "x").claim("exp", 1).ends("token_audience"),
        two("expired, and not yet valid").claim("exp", 1).claim("nbf", NOW + 1000).ends("token_expired"),
        two("expired, and made in the future").claim("exp", 1).claim("iat", NOW + 1000).ends("token_expired"),
        two("expired, and an iat that is no number").claim("exp", 1).claim("iat", "x").ends("token_expired"),
        two("expired, and no sub").claim("exp", 1).without_claim("sub").ends("token_expired"),
        two("no sub, and a cnf that is not understood")
            .claim("cnf", json!({}))
            .without_claim("sub")
            .ends("token_claims"),
        two("a cnf that is not understood, and the resource of another route")
            .claim("cnf", json!({}))
            .with_in("demand", "audience", "https://api.example.com/refunds")
            .ends("confirmation_unknown"),
        two("the resource of another route, and another certificate")
            .with_in("demand", "audience", "https://api.example.com/refunds")
            .with("certificate", THIEF)
            .ends("token_audience"),
        two("expired, and another certificate").claim("exp", 1).with("certificate", THIEF).ends("token_expired"),
        old(two("another certificate, and too old").with("certificate", THIEF)).ends("binding_mismatch"),
        unscoped(two("another certificate, and too little scope").with("certificate", THIEF)).ends("binding_mismatch"),
        unscoped(old(two("too old, and too little scope"))).ends("token_too_old"),
    ]
}
