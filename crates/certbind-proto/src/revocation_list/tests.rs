use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::binding::Confirmation;
use crate::jws::tests::{compact, key};
use crate::jws::{Algorithm, JwsFault};
use crate::scope::Scope;

const ISSUER: &str = "https://auth.example.com";
const NOW: i64 = 1_800_000_000;

fn now() -> Timestamp {
    Timestamp::from_unix(NOW)
}

fn token(jti: &str) -> AccessToken {
    AccessToken {
        iss: ISSUER.to_owned(),
        sub: "billing".to_owned(),
        client_id: "billing".to_owned(),
        aud: vec!["https://api.example.com".to_owned()],
        scope: Scope::default(),
        iat: now(),
        exp: Timestamp::from_unix(NOW + 300),
        jti: jti.to_owned(),
        cnf: Some(Confirmation { x5t_s256: Thumbprint::of_der(b"certificate") }),
    }
}

fn list() -> RevocationList {
    let tokens = ["c", "a", "b", "a"].map(Id::of_token).to_vec();
    let certificates = BTreeMap::from([(Id::of_certificate(&Thumbprint::of_der(b"stolen")), now())]);
    let clients = BTreeMap::from([(Id::of_client("ledger"), now())]);
    RevocationList {
        as_of: Timestamp::from_millis(NOW * 1000 + 123),
        expires: Timestamp::from_unix(NOW + 3600),
        entries: Entries::new(tokens, certificates, clients),
    }
}

/// The claims of a good list with some set to something else; null takes one away.
fn claims(changes: Value) -> Value {
    let mut claims = serde_json::to_value(list().to_claims(ISSUER)).unwrap();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    claims
}

fn outcome(typ: &str, payload: &str) -> Result<RevocationList, ListFault> {
    let text = compact(format!(r#"{{"alg":"EdDSA","typ":"{typ}"}}"#), payload, key(Algorithm::EdDsa));
    check(&Parsed::parse(&text).unwrap(), ISSUER, Duration::from_secs(30), now())
}

#[test]
fn a_list_is_read_as_it_was_written() {
    let written = claims(json!({}));
    let ids = [Id::of_token("a"), Id::of_token("b"), Id::of_token("c")];
    assert_eq!(written["iat"], json!(1_800_000_000.123));
    assert_eq!(written["exp"], json!(NOW + 3600));
    assert_eq!(written["tokens"].as_str().unwrap().len(), 64, "three ids of 16 octets, once each");
    let read = outcome(TYP, &written.to_string()).unwrap();
    assert_eq!(read, list());
    assert!(ids.iter().all(|id| read.entries.tokens.contains(id)));
    assert_eq!(read.entries.len(), 5);
    let empty = RevocationList { entries: Entries::default(), ..list() };
    let written = serde_json::to_string(&empty.to_claims(ISSUER)).unwrap();
    assert!(outcome(TYP, &written).unwrap().entries.is_empty());
}

#[test]
fn what_is_listed_is_found_and_nothing_else() {
    let entries = list().entries;
    assert_eq!(entries.against(&token("a")), Some(Listed::Token));
    assert_eq!(entries.against(&token("d")), None);
    let bound = |der: &[u8]| Some(Confirmation { x5t_s256: Thumbprint::of_der(der) });
    let stolen = AccessToken { cnf: bound(b"stolen"), ..token("d") };
    assert_eq!(entries.against(&stolen), Some(Listed::Certificate));
    assert_eq!(entries.against(&AccessToken { iat: Timestamp::from_unix(NOW + 1), ..stolen }), None, "issued later");
    assert_eq!(entries.against(&AccessToken { cnf: None, ..token("d") }), None);
    let of_ledger =
        |iat: i64| AccessToken { client_id: "ledger".to_owned(), iat: Timestamp::from_unix(NOW + iat), ..token("d") };
    assert_eq!(entries.against(&of_ledger(-1)), Some(Listed::Client));
    assert_eq!(entries.against(&of_ledger(0)), Some(Listed::Client), "in the same second");
    assert_eq!(entries.against(&of_ledger(1)), None);
}

#[test]
fn a_union_takes_nothing_back() {
    let earlier = Entries::new(
        vec![Id::of_token("z")],
        BTreeMap::new(),
        BTreeMap::from([(Id::of_client("ledger"), Timestamp::from_unix(0)), (Id::of_client("batch"), now())]),
    );
    for union in [list().entries.union(&earlier), earlier.union(&list().entries)] {
        assert_eq!(union.len(), 7);
        for jti in ["a", "b", "c", "z"] {
            assert_eq!(union.against(&token(jti)), Some(Listed::Token), "{jti}");
        }
        let of = |client: &str| AccessToken { client_id: client.to_owned(), ..token("d") };
        assert_eq!(union.against(&of("ledger")), Some(Listed::Client), "the later moment");
        assert_eq!(union.against(&of("batch")), Some(Listed::Client));
    }
}

#[test]
fn rfc8725_3_11_a_list_of_another_issuer_type_or_time_is_none() {
    let odd = URL_SAFE_NO_PAD.encode([0; 17]);
    for (changes, fault) in [
        (json!({ "iss": "https://auth.example.com/" }), ListFault::IssuerWrong),
        (json!({ "iss": null }), ListFault::IssuerWrong),
        (json!({ "iat": null }), ListFault::Date),
        (json!({ "iat": "1800000000" }), ListFault::Date),
        (json!({ "iat": NOW + 61 }), ListFault::FromFuture),
        (json!({ "exp": null }), ListFault::Date),
        (json!({ "exp": NOW - 30 }), ListFault::Expired),
        (json!({ "tokens": null }), ListFault::Malformed),
        (json!({ "tokens": [] }), ListFault::Malformed),
        (json!({ "tokens": "=" }), ListFault::Malformed),
        (json!({ "tokens": odd }), ListFault::Malformed),
        (json!({ "certificates": "" }), ListFault::Malformed),
        (json!({ "certificates": { odd.clone(): NOW } }), ListFault::Malformed),
        (json!({ "clients": null }), ListFault::Malformed),
        (json!({ "clients": { odd.clone(): NOW } }), ListFault::Malformed),
        (json!({ "clients": { URL_SAFE_NO_PAD.encode([0; 16]): "now" } }), ListFault::Malformed),
    ] {
        assert_eq!(outcome(TYP, &claims(changes.clone()).to_string()), Err(fault), "{changes}");
    }
    for typ in ["JWT", "at+jwt", "token-introspection+jwt"] {
        assert_eq!(outcome(typ, &claims(json!({})).to_string()), Err(ListFault::TypWrong), "{typ}");
    }
    assert!(outcome("application/Certbind-Revocations+JWT", &claims(json!({})).to_string()).is_ok());
    assert_eq!(outcome(TYP, "[]"), Err(ListFault::Claims(JsonFault::NotAnObject)));
}

#[test]
fn a_long_list_is_parsed_only_where_one_is_expected() {
    let tokens = (0..10_000).map(|n| Id::of_token(&n.to_string())).collect();
    let long = RevocationList { entries: Entries::new(tokens, BTreeMap::new(), BTreeMap::new()), ..list() };
    let payload = serde_json::to_string(&long.to_claims(ISSUER)).unwrap();
    let text = compact(format!(r#"{{"alg":"EdDSA","typ":"{TYP}"}}"#), &payload, key(Algorithm::EdDsa));
    assert!(text.len() < 29 * 10_000, "{} octets for 10,000 entries", text.len());
    assert_eq!(Parsed::parse(&text).err(), Some(JwsFault::TooLong));
    let parsed = Parsed::parse_document(&text, MAX_BYTES).unwrap();
    assert_eq!(check(&parsed, ISSUER, Duration::ZERO, now().plus(Duration::from_secs(1))).unwrap(), long);
    assert_eq!(Parsed::parse_document(&text, text.len() - 1).err(), Some(JwsFault::TooLong));
}

proptest! {
    #[test]
    fn reading_a_list_never_panics(tokens in ".{0,40}", clients in "[a-zA-Z0-9_-]{0,24}", iat in any::<f64>()) {
        let changes = json!({ "tokens": tokens, "certificates": { clients.clone(): iat }, "clients": { clients.clone(): 1 }, "iat": iat });
        let _ = outcome(TYP, &claims(changes).to_string());
    }
}
