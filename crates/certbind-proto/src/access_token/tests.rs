use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::jwk::JwkSet;
use crate::jws::tests::{compact, key, owned};
use crate::jws::{Algorithm, Algorithms, Signer};
use crate::thumbprint::Thumbprint;

const ISSUER: &str = "https://auth.example.com";
const API: &str = "https://api.example.com/payments";
const NOW: i64 = 1_800_000_000;
const SKEW: i64 = 30;

fn now() -> Timestamp {
    Timestamp::from_unix(NOW)
}

fn expect() -> Expect<'static> {
    Expect { issuer: ISSUER, audience: API, clock_skew: Duration::from_secs(30) }
}

fn token() -> AccessToken {
    AccessToken {
        iss: ISSUER.to_owned(),
        sub: "billing".to_owned(),
        client_id: "billing".to_owned(),
        aud: vec![API.to_owned()],
        scope: "payments:read".parse().unwrap(),
        iat: now(),
        exp: Timestamp::from_unix(NOW + 300),
        jti: "id".to_owned(),
        cnf: Some(Confirmation { x5t_s256: Thumbprint::of_der(b"certificate") }),
    }
}

/// The claims of a token that passes, with some set to something else; null takes one away.
fn claims(changes: Value) -> Value {
    let mut claims = serde_json::to_value(token().to_claims()).unwrap();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    claims
}

fn outcome(header: &str, payload: &str) -> Result<AccessToken, TokenFault> {
    let token = compact(header, payload, key(Algorithm::EdDsa));
    check(&Parsed::parse(&token).unwrap(), &expect(), now())
}

fn outcome_of(changes: Value) -> Result<AccessToken, TokenFault> {
    outcome(r#"{"alg":"EdDSA","typ":"at+jwt"}"#, &claims(changes).to_string())
}

#[test]
fn rfc9068_2_2_the_claims_as_they_are_written() {
    assert_eq!(
        claims(json!({})),
        json!({
            "iss": ISSUER, "sub": "billing", "client_id": "billing", "aud": API, "scope": "payments:read",
            "iat": NOW, "exp": NOW + 300, "jti": "id",
            "cnf": { "x5t#S256": Thumbprint::of_der(b"certificate").to_string() },
        })
    );
    let other =
        AccessToken { aud: vec!["a".to_owned(), "b".to_owned()], scope: Scope::default(), cnf: None, ..token() };
    let written = serde_json::to_value(other.to_claims()).unwrap();
    assert_eq!(written["aud"], json!(["a", "b"]));
    assert_eq!((written.get("scope"), written.get("cnf")), (None, None));
}

#[test]
fn rfc9068_4_claims_spoilt_in_one_fact_are_refused_for_it() {
    use TokenFault::*;
    for (changes, fault) in [
        (json!({ "iss": null }), IssuerWrong),
        (json!({ "iss": "https://auth.example.com/" }), IssuerWrong),
        (json!({ "iss": "https://AUTH.example.com" }), IssuerWrong),
        (json!({ "iss": [ISSUER] }), IssuerWrong),
        (json!({ "aud": null }), AudienceMalformed),
        (json!({ "aud": 1 }), AudienceMalformed),
        (json!({ "aud": {} }), AudienceMalformed),
        (json!({ "aud": [API, 1] }), AudienceMalformed),
        (json!({ "aud": [[API]] }), AudienceMalformed),
        (json!({ "aud": [] }), AudienceWrong),
        (json!({ "aud": "" }), AudienceWrong),
        (json!({ "aud": "https://other.example" }), AudienceWrong),
        (json!({ "aud": "https://api.example.com/payment" }), AudienceWrong),
        (json!({ "aud": "https://api.example.com/payments/" }), AudienceWrong),
        (json!({ "aud": "https://api.example.com/PAYMENTS" }), AudienceWrong),
        (json!({ "exp": null }), ExpiryMissing),
        (json!({ "exp": NOW - SKEW }), Expired),
        (json!({ "exp": "1800000300" }), DateMalformed),
        (json!({ "exp": 1e300 }), DateMalformed),
        (json!({ "nbf": NOW + 61 }), NotYetValid),
        (json!({ "nbf": "0" }), DateMalformed),
        (json!({ "iat": null }), IssuedAtMissing),
        (json!({ "iat": NOW + 61 }), IssuedInFuture),
        (json!({ "iat": "0" }), DateMalformed),
        (json!({ "sub": null }), SubjectMissing),
        (json!({ "sub": "" }), SubjectMissing),
        (json!({ "sub": 1 }), SubjectMissing),
        (json!({ "client_id": null }), ClientMissing),
        (json!({ "client_id": "" }), ClientMissing),
        (json!({ "jti": null }), JtiMissing),
        (json!({ "jti": 1 }), JtiMissing),
        (json!({ "scope": 1 }), ScopeMalformed),
        (json!({ "scope": ["a"] }), ScopeMalformed),
        (json!({ "scope": "a  b" }), ScopeMalformed),
        (json!({ "cnf": {} }), Confirmation(ConfirmationFault::Unknown)),
        (json!({ "cnf": "x" }), Confirmation(ConfirmationFault::NotAnObject)),
        (json!({ "cnf": { "kid": "k" } }), Confirmation(ConfirmationFault::NotEnforced)),
    ] {
        assert_eq!(outcome_of(changes.clone()), Err(fault), "{changes}");
    }
}

#[test]
fn rfc9068_4_what_is_optional_may_be_absent_and_what_is_unknown_is_ignored() {
    assert_eq!(outcome_of(json!({})), Ok(token()));
    assert_eq!(outcome_of(json!({ "nbf": NOW + 10, "custom": [] })), Ok(token()));
    assert_eq!(outcome_of(json!({ "scope": null })).unwrap().scope, Scope::default());
    assert_eq!(outcome_of(json!({ "cnf": null })).unwrap().cnf, None);
    assert_eq!(outcome_of(json!({ "aud": ["https://other.example", API] })).unwrap().aud.len(), 2);
    assert_eq!(outcome_of(json!({ "exp": NOW - SKEW + 1 })).map(|_| ()), Ok(()));
}

#[test]
fn rfc7800_3_1_a_cnf_that_is_null_is_not_an_absent_one() {
    let payload = claims(json!({ "cnf": "?" })).to_string().replace("\"?\"", "null");
    let fault = TokenFault::Confirmation(ConfirmationFault::NotAnObject);
    assert_eq!(outcome(r#"{"alg":"EdDSA","typ":"at+jwt"}"#, &payload), Err(fault));
}

#[test]
fn rfc7519_4_a_second_cnf_or_aud_is_refused() {
    for extra in [r#"{"cnf":{},"#, r#"{"aud":"x","#, r#"{"\u0061ud":"x","#] {
        let payload = claims(json!({})).to_string().replacen('{', extra, 1);
        let outcome = outcome(r#"{"alg":"EdDSA","typ":"at+jwt"}"#, &payload);
        assert_eq!(outcome, Err(TokenFault::Claims(JsonFault::DuplicateMember)), "{extra}");
    }
}

#[test]
fn rfc9068_4_typ_is_at_jwt_in_any_letter_case_and_nothing_else() {
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/AT+jwt"] {
        let header = json!({ "alg": "EdDSA", "typ": typ }).to_string();
        assert!(outcome(&header, &claims(json!({})).to_string()).is_ok(), "{typ}");
    }
    let absent = json!({ "alg": "EdDSA" });
    let foreign = ["JWT", "", "at", "at+jwt ", "client-authentication+jwt", "token-introspection+jwt", "dpop+jwt"];
    let foreign = foreign.map(|typ| json!({ "alg": "EdDSA", "typ": typ }));
    for header in foreign.into_iter().chain([absent]) {
        assert_eq!(outcome(&header.to_string(), &claims(json!({})).to_string()), Err(TokenFault::TypWrong), "{header}");
    }
}

#[test]
fn rfc9068_4_what_the_server_signs_the_resource_server_accepts() {
    for algorithm in Algorithm::ALL {
        let signer = Signer::new(owned(algorithm), TYP, Some("k"));
        let text = signer.sign_claims(&token().to_claims()).unwrap();
        let parsed = Parsed::parse(&text).unwrap();
        let keys = JwkSet::new(vec![signer.key().public_jwk("k")]);
        assert_eq!(keys.verify(&parsed, Algorithms::of(&[algorithm])), Ok(()));
        assert_eq!(check(&parsed, &expect(), now()), Ok(token()));
    }
}

#[test]
fn each_fault_has_its_name() {
    use TokenFault::*;
    for (fault, reason) in [
        (AudienceMalformed, "token_audience"),
        (AudienceWrong, "token_audience"),
        (Claims(JsonFault::Syntax), "token_malformed"),
        (ClientMissing, "token_claims"),
        (Confirmation(ConfirmationFault::Unknown), "confirmation_unknown"),
        (DateMalformed, "token_malformed"),
        (Expired, "token_expired"),
        (ExpiryMissing, "token_claims"),
        (IssuedAtMissing, "token_claims"),
        (IssuedInFuture, "token_not_yet_valid"),
        (IssuerWrong, "token_issuer"),
        (JtiMissing, "token_claims"),
        (Jws(JwsFault::AlgorithmForeign), "alg_not_allowed"),
        (Jws(JwsFault::KeyUnknown), "key_unknown"),
        (Jws(JwsFault::NotThreeParts), "token_malformed"),
        (Jws(JwsFault::SignatureWrong), "token_signature"),
        (NotYetValid, "token_not_yet_valid"),
        (ScopeMalformed, "token_claims"),
        (SubjectMissing, "token_claims"),
        (TypWrong, "token_type"),
    ] {
        assert_eq!(fault.reason(), reason, "{fault:?}");
    }
}

proptest! {
    #[test]
    fn writing_and_checking_round_trip(
        sub in "[!-~]{1,20}",
        aud in proptest::collection::vec("[!-~]{1,20}", 0..3),
        scope in "([a-z:]{1,6}( [a-z:]{1,6}){0,3})?",
        bound in any::<Option<[u8; 8]>>(),
        life in 1i64..3600,
    ) {
        let aud: Vec<_> = aud.into_iter().chain([API.to_owned()]).collect();
        let cnf = bound.map(|der| crate::binding::Confirmation { x5t_s256: Thumbprint::of_der(&der) });
        let exp = Timestamp::from_unix(NOW + life);
        let token = AccessToken { sub, aud, scope: scope.parse().unwrap(), cnf, exp, ..token() };
        let signer = Signer::new(owned(Algorithm::EdDsa), TYP, None);
        let text = signer.sign_claims(&token.to_claims()).unwrap();
        prop_assert_eq!(check(&Parsed::parse(&text).unwrap(), &expect(), now()), Ok(token));
    }

    #[test]
    fn checking_never_panics(
        name in "iss|sub|client_id|aud|exp|nbf|iat|jti|scope|cnf",
        number in any::<f64>(),
        text in ".{0,16}",
    ) {
        let _ = outcome_of(json!({ name.as_str(): number }));
        let _ = outcome_of(json!({ name.as_str(): [text] }));
        let _ = outcome_of(json!({ name.as_str(): { "x5t#S256": text.as_str() } }));
        let _ = outcome(r#"{"alg":"EdDSA","typ":"at+jwt"}"#, &text);
    }
}

#[test]
fn rfc7662_4_the_issuer_checks_all_of_its_token_but_for_whom_it_is() {
    let header = r#"{"alg":"EdDSA","typ":"at+jwt"}"#;
    let own = |header: &str, changes: Value, skew: u64| {
        let token = compact(header, claims(changes).to_string(), key(Algorithm::EdDsa));
        check_own(&Parsed::parse(&token).unwrap(), ISSUER, Duration::from_secs(skew), now()).map(|token| token.aud)
    };
    assert_eq!(own(header, json!({}), 0), Ok(vec![API.to_owned()]));
    assert_eq!(own(header, json!({ "aud": "https://other.example.com" }), 0).unwrap().len(), 1);
    assert_eq!(own(header, json!({ "exp": NOW }), 0), Err(TokenFault::Expired));
    assert!(own(header, json!({ "exp": NOW }), 60).is_ok(), "whose clock is behind takes it still");
    for (changes, fault) in [
        (json!({ "nbf": NOW + 61 }), TokenFault::NotYetValid),
        (json!({ "iat": NOW + 61 }), TokenFault::IssuedInFuture),
        (json!({ "iss": "https://auth.example.com/" }), TokenFault::IssuerWrong),
        (json!({ "aud": null }), TokenFault::AudienceMalformed),
        (json!({ "jti": null }), TokenFault::JtiMissing),
        (json!({ "cnf": {} }), TokenFault::Confirmation(ConfirmationFault::Unknown)),
    ] {
        assert_eq!(own(header, changes.clone(), 0), Err(fault), "{changes}");
    }
    for typ in ["JWT", "token-introspection+jwt", "client-authentication+jwt"] {
        let header = format!(r#"{{"alg":"EdDSA","typ":"{typ}"}}"#);
        assert_eq!(own(&header, json!({}), 0), Err(TokenFault::TypWrong), "{typ}");
    }
}
