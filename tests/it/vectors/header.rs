//! Cases about the `Authorization` header, and the challenge that answers it (RFC 6750 §2.1, §3).

use super::case::{Case, case};

pub(super) const ABOUT: &str =
    "The Authorization header: how many, which scheme, what a token may look like (RFC 6750 §2, §2.1, §3).";

const SYNTAX: &str = "RFC 6750 §2.1";
const ONCE: &str = "RFC 6750 §2";

pub(super) fn cases() -> Vec<Case> {
    let written = [
        ("the usual case", SYNTAX, "Bearer {}", "accepted"),
        ("the scheme in small letters", SYNTAX, "bearer {}", "accepted"),
        ("the scheme in mixed letters", SYNTAX, "bEARER {}", "accepted"),
        ("two blanks after the scheme", SYNTAX, "Bearer  {}", "accepted"),
        ("another scheme", SYNTAX, "Basic YTpi", "scheme_not_bearer"),
        ("the token under the scheme DPoP", SYNTAX, "DPoP {}", "scheme_not_bearer"),
        ("a tab after the scheme", SYNTAX, "Bearer\t{}", "scheme_not_bearer"),
        ("a blank before the scheme", SYNTAX, " Bearer {}", "scheme_not_bearer"),
        ("the token without a scheme", SYNTAX, "{}", "scheme_not_bearer"),
        ("an empty header", SYNTAX, "", "scheme_not_bearer"),
        ("the scheme alone", SYNTAX, "Bearer", "400 token_malformed"),
        ("the scheme and a blank", SYNTAX, "Bearer ", "400 token_malformed"),
        ("a blank behind the token", SYNTAX, "Bearer {} ", "400 token_malformed"),
        ("two words", SYNTAX, "Bearer a b", "400 token_malformed"),
        (
            "two tokens joined by a comma, as a proxy joins two headers",
            ONCE,
            "Bearer {},Bearer {}",
            "400 token_malformed",
        ),
        ("two tokens joined by a comma and a blank", ONCE, "Bearer {}, Bearer {}", "400 token_malformed"),
        ("a parameter behind the token", SYNTAX, "Bearer {},realm=x", "400 token_malformed"),
        ("the token in quotation marks", SYNTAX, "Bearer \"{}\"", "400 token_malformed"),
        ("a character outside of ASCII", SYNTAX, "Bearer é", "400 token_malformed"),
        ("padding alone", SYNTAX, "Bearer =", "400 token_malformed"),
        ("padding inside", SYNTAX, "Bearer a=b", "400 token_malformed"),
        ("a token of another kind", SYNTAX, "Bearer a-._~+/b==", "token_malformed"),
        ("three parts of nothing", "RFC 7515 §7.1", "Bearer ..", "token_malformed"),
    ];
    let written = written.into_iter().map(|(name, rule, header, verdict)| {
        case(name, rule).authorization(move |token| vec![header.replace("{}", token)]).ends(verdict)
    });
    written.chain(counted()).chain(long()).chain(with_realm()).chain(with_metadata()).collect()
}

/// No header, or more than one.
fn counted() -> impl Iterator<Item = Case> {
    let counted: [(_, &[&str], _); 5] = [
        ("no header", &[], "token_missing"),
        ("the same header twice", &["Bearer {}", "Bearer {}"], "400 token_repeated"),
        ("a good header and one of another scheme", &["Bearer {}", "Basic YTpi"], "400 token_repeated"),
        ("one of another scheme and a good header", &["Basic YTpi", "Bearer {}"], "400 token_repeated"),
        ("an empty header and a good one", &["", "Bearer {}"], "400 token_repeated"),
    ];
    counted.into_iter().map(|(name, headers, verdict)| {
        let wrap = |token: &str| headers.iter().map(|header| header.replace("{}", token)).collect();
        case(name, ONCE).authorization(wrap).ends(verdict)
    })
}

fn long() -> impl Iterator<Item = Case> {
    [(16 * 1024, "token_malformed"), (16 * 1024 + 1, "400 token_malformed")].into_iter().map(|(length, verdict)| {
        let wrap = move |_: &str| vec![format!("Bearer {}", "a".repeat(length))];
        case(format!("a token of {length} characters"), SYNTAX).authorization(wrap).ends(verdict)
    })
}

fn with_realm() -> impl Iterator<Item = Case> {
    let realms = [
        ("no header, with a realm", "payments", None, "token_missing"),
        ("two words, with a realm", "payments", Some("Bearer a b"), "400 token_malformed"),
        ("a bad token, with a realm", "payments", Some("Bearer a"), "token_malformed"),
        ("a realm that would leave its quotation marks", "pay\"\\\nménts", None, "token_missing"),
    ];
    realms.into_iter().map(|(name, realm, header, verdict)| {
        let wrap = move |_: &str| header.into_iter().map(str::to_owned).collect();
        case(name, "RFC 6750 §3").with_in("settings", "realm", realm).authorization(wrap).ends(verdict)
    })
}

/// Every challenge says where the resource describes itself.
fn with_metadata() -> impl Iterator<Item = Case> {
    let url = "https://api.example.com/.well-known/oauth-protected-resource/payments";
    let described = |name: &'static str| case(name, "RFC 9728 §5.1").with_in("settings", "resource_metadata", url);
    [
        described("no header, with metadata").authorization(|_| Vec::new()).ends("token_missing"),
        described("two words, with metadata").authorization(|_| vec!["Bearer a b".into()]).ends("400 token_malformed"),
        described("a bad token, with metadata").authorization(|_| vec!["Bearer a".into()]).ends("token_malformed"),
        described("too little scope, with metadata and a realm")
            .with_in("settings", "realm", "payments")
            .with_in("demand", "scope", "payments:refund")
            .ends("scope_missing"),
        described("no keys at hand, with metadata").with("jwks", serde_json::Value::Null).ends("keys_unavailable"),
    ]
    .into_iter()
}
