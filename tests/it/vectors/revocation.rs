//! Cases about the issuer's signed list of what it revoked (RFC 7009 §2.1; docs/revocation.md).

use std::collections::BTreeMap;

use certbind_proto::jws::Algorithm;
use certbind_proto::revocation_list::{Entries, Id, RevocationList, TYP, Until};
use certbind_proto::time::Timestamp;
use serde_json::{Value, json};

use super::case::{Case, ISSUER, NOW, case};
use super::keys::{self, BILLING, Key, RENEWED, Signatures, THIEF};

pub(super) const ABOUT: &str =
    "The issuer's list of what it revoked: what is on it, how old it may be, which list is taken.";

const RULE: &str = "docs/revocation.md";

/// A list on its way.
struct List {
    key: Key,
    typ: &'static str,
    claims: Value,
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(NOW + seconds)
}

/// A good list that has these, complete up to 30 s ago, good for an hour.
fn list(tokens: &[&str], certificates: Until, clients: Until) -> List {
    let entries = Entries::new(tokens.iter().map(|jti| Id::of_token(jti)).collect(), certificates, clients);
    let list = RevocationList { as_of: at(-30), expires: at(3600), entries };
    let claims = serde_json::to_value(list.to_claims(ISSUER)).unwrap();
    List { key: Key::USUAL, typ: TYP, claims }
}

impl List {
    fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims[name] = value.into();
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.claims.as_object_mut().unwrap().remove(name);
        self
    }

    fn document(&self) -> String {
        let header = json!({ "typ": self.typ, "alg": self.key.algorithm().as_str(), "kid": self.key.kid() });
        Signatures::default().sign(self.key, header.to_string().as_bytes(), self.claims.to_string().as_bytes())
    }
}

/// A service with this list.
fn with(name: &'static str, list: &List) -> Case {
    held(name, json!(list.document()), "deny")
}

fn held(name: &'static str, list: impl Into<Value>, when_stale: &str) -> Case {
    case(name, RULE).with("revocations", json!({ "list": list.into(), "max_age": 600, "when_stale": when_stale }))
}

pub(super) fn cases() -> Vec<Case> {
    listed().into_iter().chain(aged()).chain(taken()).collect()
}

fn listed() -> Vec<Case> {
    let none = Until::new;
    let until = |id: Id, seconds: i64| BTreeMap::from([(id, at(seconds))]);
    let mine = Id::of_certificate(&keys::thumbprint(BILLING));
    let revoked = list(&["a0", "a1", "a2"], none(), none());
    vec![
        with("an empty list", &list(&[], none(), none())),
        with("other tokens are listed", &list(&["a0", "a2", "A1"], none(), none())),
        with("the token is listed", &revoked).ends("token_revoked"),
        with("the token is listed, and it is a thief who has it", &revoked)
            .with("certificate", THIEF)
            .ends("binding_mismatch"),
        with("the token is listed, and its scope is too little", &revoked)
            .with_in("demand", "scope", "admin")
            .ends("token_revoked"),
        with("the certificate is listed, up to when the token was made", &list(&[], until(mine, -10), none()))
            .ends("certificate_revoked"),
        with("the certificate is listed, up to before the token was made", &list(&[], until(mine, -11), none())),
        with(
            "another certificate is listed",
            &list(&[], until(Id::of_certificate(&keys::thumbprint(RENEWED)), 0), none()),
        ),
        with(
            "the client is listed, up to when the token was made",
            &list(&[], none(), until(Id::of_client("billing"), -10)),
        )
        .ends("token_revoked"),
        with(
            "the client is listed, up to before the token was made",
            &list(&[], none(), until(Id::of_client("billing"), -11)),
        ),
        with("certificate and client are listed", &list(&[], until(mine, 0), until(Id::of_client("billing"), 0)))
            .ends("certificate_revoked"),
        with("token and certificate are listed", &list(&["a1"], until(mine, 0), none())).ends("token_revoked"),
        with("the certificate is listed, and the token is bound to nothing", &list(&[], until(mine, 0), none()))
            .without_claim("cnf")
            .with_in("demand", "binding", "when_bound"),
    ]
}

fn aged() -> Vec<Case> {
    let empty = || list(&[], Until::new(), Until::new());
    let as_of = |seconds: i64| empty().claim("iat", NOW + seconds);
    let expires = |seconds: i64| empty().claim("exp", NOW + seconds);
    let old = list(&["a1"], Until::new(), Until::new()).claim("iat", NOW - 1000);
    vec![
        with("a list as old as it may be, and the skew", &as_of(-630)),
        with("a list that is too old", &as_of(-631)).ends("revocation_stale"),
        held("a list that is too old, where that passes", as_of(-631).document(), "accept"),
        with("a list that is too old and has the token", &old).ends("token_revoked"),
        with("a list that is about to end", &expires(-29)),
        with("a list that has ended", &expires(-30)).ends("revocation_stale"),
        with("a list from a little ahead", &as_of(30)),
        with("a list from the future", &as_of(31)).ends("revocation_stale"),
        held("no list", Value::Null, "deny").ends("revocation_stale"),
        held("no list, where that passes", Value::Null, "accept"),
        held("no list, and another certificate", Value::Null, "deny")
            .with("certificate", THIEF)
            .ends("binding_mismatch"),
        held("no list, and too little scope", Value::Null, "deny")
            .with_in("demand", "scope", "admin")
            .ends("revocation_stale"),
    ]
}

/// A list that is not taken is none.
fn taken() -> Vec<Case> {
    let good = || list(&["a0"], Until::new(), Until::new());
    let stale = |name: &'static str, list: List| with(name, &list).ends("revocation_stale");
    vec![
        stale("a list of a stranger", List { key: Key::Stranger(Algorithm::EdDsa), ..good() }),
        stale("an access token in place of a list", List { typ: "at+jwt", ..good() }),
        stale("a list of another issuer", good().claim("iss", "https://evil.example.com")),
        stale("a list without exp", good().without("exp")),
        stale("a list without iat", good().without("iat")),
        stale("a list without tokens", good().without("tokens")),
        stale("a list without clients", good().without("clients")),
        stale("a list whose tokens have a stray octet", good().claim("tokens", "AAAAAAAAAAAAAAAAAAAAAAA")),
        stale("a list whose certificates are a list", good().claim("certificates", json!([]))),
        stale("a list whose clients have a short id", good().claim("clients", json!({ "AAAA": NOW }))),
        stale(
            "a list whose clients have a date that is a text",
            good().claim("clients", json!({ "AAAAAAAAAAAAAAAAAAAAAA": "1" })),
        ),
        held("something that is no list", "x", "deny").ends("revocation_stale"),
        with("a list of another algorithm of the issuer", &List { key: Key::Of(Algorithm::Rs256), ..good() }),
    ]
}
