use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::jws::tests::{compact, key, owned};
use crate::jws::{Algorithm, Algorithms, Signer};

const CLIENT: &str = "billing";
const ISSUER: &str = "https://auth.example.com";
const NOW: i64 = 1_800_000_000;
const SKEW: i64 = 30;
const LIFETIME: i64 = 600;

fn now() -> Timestamp {
    Timestamp::from_unix(NOW)
}

fn seconds(count: i64) -> Duration {
    Duration::from_secs(count.unsigned_abs())
}

fn expect() -> Expect<'static> {
    Expect {
        client_id: CLIENT,
        issuer: ISSUER,
        audience: AudienceRule::StringOrSingleton,
        legacy_audiences: &[],
        max_lifetime: seconds(LIFETIME),
        clock_skew: seconds(SKEW),
    }
}

/// The claims of an assertion that passes, with some set to something else; null takes one away.
fn claims(changes: Value) -> Value {
    let mut claims = json!({
        "iss": CLIENT, "sub": CLIENT, "aud": ISSUER, "jti": "once",
        "iat": NOW, "nbf": NOW, "exp": NOW + 60,
    });
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    claims
}

fn outcome(payload: &str, expect: &Expect<'_>) -> Result<Accepted, AssertionFault> {
    let token = compact(r#"{"alg":"EdDSA"}"#, payload, key(Algorithm::EdDsa));
    check(&Parsed::parse(&token).unwrap(), expect, now())
}

fn outcome_of(changes: Value) -> Result<(), AssertionFault> {
    outcome(&claims(changes).to_string(), &expect()).map(|_| ())
}

#[test]
fn rfc7523_3_claims_spoilt_in_one_fact_are_refused_for_it() {
    use AssertionFault::*;
    let too_long = "j".repeat(MAX_JTI + 1);
    for (changes, fault) in [
        (json!({ "iss": null }), IssuerWrong),
        (json!({ "iss": "" }), IssuerWrong),
        (json!({ "iss": "billing/" }), IssuerWrong),
        (json!({ "iss": "Billing" }), IssuerWrong),
        (json!({ "iss": [CLIENT] }), IssuerWrong),
        (json!({ "sub": null }), SubjectWrong),
        (json!({ "sub": "" }), SubjectWrong),
        (json!({ "sub": "ledger" }), SubjectWrong),
        (json!({ "sub": 1 }), SubjectWrong),
        (json!({ "aud": null }), AudienceMissing),
        (json!({ "exp": null }), ExpiryMissing),
        (json!({ "exp": NOW - 300 }), Expired),
        (json!({ "exp": NOW - SKEW }), Expired),
        (json!({ "exp": NOW + LIFETIME + SKEW + 1 }), ExpiryTooFar),
        (json!({ "exp": NOW + 86_400 }), ExpiryTooFar),
        (json!({ "exp": 253_402_300_799i64 }), ExpiryTooFar),
        (json!({ "nbf": NOW + 61 }), NotYetValid),
        (json!({ "iat": NOW + 61 }), IssuedInFuture),
        (json!({ "jti": null }), JtiMissing),
        (json!({ "jti": "" }), JtiMissing),
        (json!({ "jti": 7 }), JtiMissing),
        (json!({ "jti": {} }), JtiMissing),
        (json!({ "jti": ["once"] }), JtiMissing),
        (json!({ "jti": too_long }), JtiTooLong),
        (json!({ "jti": "j".repeat(10_000) }), JtiTooLong),
    ] {
        assert_eq!(outcome_of(changes.clone()), Err(fault), "{changes}");
    }
}

#[test]
fn rfc7519_2_a_date_of_the_wrong_type_is_not_an_absent_one() {
    for name in ["exp", "nbf", "iat"] {
        for value in
            [json!("1800000060"), json!([NOW]), json!({}), json!(true), json!(1e300), json!(u64::MAX), json!(-1)]
        {
            assert_eq!(outcome_of(json!({ name: value })), Err(AssertionFault::DateMalformed), "{name} {value}");
        }
        let null =
            claims(json!({})).to_string().replace(&format!("\"{name}\":180"), &format!("\"{name}\":null,\"x\":180"));
        assert_eq!(outcome(&null, &expect()).unwrap_err(), AssertionFault::DateMalformed, "{null}");
    }
    assert_eq!(outcome_of(json!({ "exp": NOW as f64 + 60.5 })), Ok(()));
}

#[test]
fn rfc7523_3_what_is_optional_may_be_absent_and_what_is_unknown_is_ignored() {
    for changes in [
        json!({}),
        json!({ "nbf": null }),
        json!({ "iat": null }),
        json!({ "iat": NOW - 86_400 }),
        json!({ "nbf": NOW + 8, "iat": NOW + 10 }),
        json!({ "exp": NOW + LIFETIME - 5 }),
        json!({ "exp": NOW - SKEW + 1 }),
        json!({ "jti": "j".repeat(MAX_JTI) }),
        json!({ "custom": { "a": [1] } }),
    ] {
        assert_eq!(outcome_of(changes.clone()), Ok(()), "{changes}");
    }
}

#[test]
fn rfc7519_7_2_the_claims_are_one_object_without_duplicates() {
    let twice = claims(json!({})).to_string().replacen('{', r#"{"aud":"https://other.example","#, 1);
    let escaped = claims(json!({})).to_string().replacen('{', r#"{"\u0061ud":"https://other.example","#, 1);
    for (payload, fault) in [
        ("[]", JsonFault::NotAnObject),
        ("", JsonFault::Syntax),
        ("{} {}", JsonFault::Syntax),
        (&twice, JsonFault::DuplicateMember),
        (&escaped, JsonFault::DuplicateMember),
    ] {
        assert_eq!(outcome(payload, &expect()).unwrap_err(), AssertionFault::Claims(fault), "{payload}");
    }
}

#[test]
fn rfc10070_aud_is_this_issuer_alone_and_to_the_letter() {
    use AssertionFault::*;
    for (aud, fault) in [
        (json!(""), AudienceWrong),
        (json!("https://auth.example.com/"), AudienceWrong),
        (json!("https://AUTH.example.com"), AudienceWrong),
        (json!("https://auth.example.com:443"), AudienceWrong),
        (json!("https://auth.example.co"), AudienceWrong),
        (json!("https://auth.example.com.evil.example"), AudienceWrong),
        (json!("https://auth.example.com/oauth2/token"), AudienceWrong),
        (json!("https://mtls.auth.example.com:8443"), AudienceWrong),
        (json!("https://other.example"), AudienceWrong),
        (json!(["https://other.example"]), AudienceWrong),
        (json!([ISSUER, "https://auth.example.com/oauth2/token"]), AudienceForm),
        (json!([ISSUER, ISSUER]), AudienceForm),
        (json!([]), AudienceForm),
        (json!([[ISSUER]]), AudienceForm),
        (json!([1]), AudienceForm),
        (json!({ "aud": ISSUER }), AudienceForm),
        (json!(1), AudienceForm),
        (json!(true), AudienceForm),
    ] {
        assert_eq!(outcome_of(json!({ "aud": aud })), Err(fault), "{aud}");
    }
    let null = claims(json!({})).to_string().replace(&format!("\"{ISSUER}\""), "null");
    assert_eq!(outcome(&null, &expect()).unwrap_err(), AudienceForm);
    assert_eq!(outcome_of(json!({ "aud": [ISSUER] })), Ok(()));
}

#[test]
fn fapi_5_3_2_1_aud_is_a_string_in_the_strict_profile() {
    let strict = Expect { audience: AudienceRule::StringOnly, ..expect() };
    let outcome = |aud: Value| outcome(&claims(json!({ "aud": aud })).to_string(), &strict).map(|_| ());
    assert_eq!(outcome(json!(ISSUER)), Ok(()));
    assert_eq!(outcome(json!([ISSUER])), Err(AssertionFault::AudienceForm));
}

#[test]
fn rfc10070_a_client_that_migrates_may_still_name_the_token_endpoint_alone() {
    let endpoint = format!("{ISSUER}/oauth2/token");
    let legacy = [endpoint.clone()];
    let migrating = Expect { legacy_audiences: &legacy, ..expect() };
    for (aud, expected) in [
        (json!(endpoint), Ok(())),
        (json!([endpoint]), Ok(())),
        (json!(ISSUER), Ok(())),
        (json!([ISSUER, endpoint]), Err(AssertionFault::AudienceForm)),
        (json!("https://other.example"), Err(AssertionFault::AudienceWrong)),
    ] {
        let outcome = outcome(&claims(json!({ "aud": aud })).to_string(), &migrating);
        assert_eq!(outcome.map(|_| ()), expected, "{aud}");
    }
}

#[test]
fn rfc8725_3_12_another_kind_of_token_is_no_assertion() {
    let outcome = |header: Value| {
        let token = compact(header.to_string(), claims(json!({})).to_string(), key(Algorithm::EdDsa));
        check(&Parsed::parse(&token).unwrap(), &expect(), now()).map(|_| ())
    };
    assert_eq!(outcome(json!({ "alg": "EdDSA" })), Ok(()));
    for typ in [
        "JWT",
        "jwt",
        "application/jwt",
        "client-authentication+jwt",
        "CLIENT-Authentication+JWT",
        "application/client-authentication+jwt",
        "APPLICATION/client-authentication+jwt",
    ] {
        assert_eq!(outcome(json!({ "alg": "EdDSA", "typ": typ })), Ok(()), "{typ}");
    }
    for typ in [
        "",
        "at+jwt",
        "application/at+jwt",
        "dpop+jwt",
        "oauth-client-attestation+jwt",
        "secevent+jwt",
        "token-introspection+jwt",
        "JOSE",
        "JWT ",
        "text/jwt",
        "application/application/jwt",
    ] {
        assert_eq!(outcome(json!({ "alg": "EdDSA", "typ": typ })), Err(AssertionFault::TypForeign), "{typ}");
    }
}

#[test]
fn oidc_core_9_a_jti_is_kept_as_long_as_its_assertion_passes() {
    let accepted = outcome(&claims(json!({})).to_string(), &expect()).unwrap();
    assert_eq!(accepted.jti, "once");
    assert_eq!(accepted.expires, Timestamp::from_unix(NOW + 60));

    let token = compact(r#"{"alg":"EdDSA"}"#, claims(json!({})).to_string(), key(Algorithm::EdDsa));
    let parsed = Parsed::parse(&token).unwrap();
    let last = Timestamp::from_millis(accepted.keep_until.millis() - 1);
    assert!(check(&parsed, &expect(), last).is_ok());
    assert_eq!(check(&parsed, &expect(), accepted.keep_until), Err(AssertionFault::Expired));
}

#[test]
fn rfc7523_3_the_claimed_client_is_the_sub_whoever_signed() {
    let claimed = |payload: &str| {
        claimed_client(&Parsed::parse(&compact(r#"{"alg":"EdDSA"}"#, payload, key(Algorithm::EdDsa))).unwrap())
    };
    assert_eq!(claimed(r#"{"sub":"billing"}"#).as_deref(), Some("billing"));
    for payload in ["{}", "[]", r#"{"sub":""}"#, r#"{"sub":1}"#, r#"{"sub":"a","sub":"b"}"#, "x"] {
        assert_eq!(claimed(payload), None, "{payload}");
    }
}

#[test]
fn cve_2024_51744_expired_and_badly_signed_is_refused_on_both_counts() {
    let old = claims(json!({ "exp": NOW - 300 })).to_string();
    let token = compact(r#"{"alg":"EdDSA","kid":"k"}"#, old, &owned(Algorithm::EdDsa));
    let parsed = Parsed::parse(&token).unwrap();
    let other = crate::jws::SigningKey::generate(Algorithm::EdDsa).unwrap();
    let keys = crate::jwk::JwkSet::new(vec![other.public_jwk("k")]);
    assert_eq!(check(&parsed, &expect(), now()), Err(AssertionFault::Expired));
    assert_eq!(keys.verify(&parsed, Algorithms::DEFAULT), Err(JwsFault::SignatureWrong));
}

#[test]
fn rfc7523_3_what_a_client_builds_a_server_accepts() {
    for algorithm in Algorithm::ALL {
        let signer = Signer::new(owned(algorithm), TYP, Some("k"));
        let wishes = Build { client_id: CLIENT, issuer: ISSUER, jti: "fresh", now: now(), lifetime: seconds(3600) };
        let token = build(&signer, &wishes).unwrap();
        let parsed = Parsed::parse(&token).unwrap();
        assert_eq!(parsed.header.typ.as_deref(), Some("client-authentication+jwt"));
        let strict = Expect { audience: AudienceRule::StringOnly, ..expect() };
        let accepted = check(&parsed, &strict, now()).unwrap();
        assert_eq!((accepted.jti.as_str(), accepted.expires), ("fresh", Timestamp::from_unix(NOW + 60)));
        let keys = crate::jwk::JwkSet::new(vec![signer.key().public_jwk("k")]);
        assert_eq!(keys.verify(&parsed, Algorithms::of(&[algorithm])), Ok(()));
        assert_eq!(claimed_client(&parsed).as_deref(), Some(CLIENT));
        let claims = parsed.claims().unwrap();
        assert_eq!((&claims["iat"], claims.get("nbf")), (&json!(NOW), None));
    }
}

#[test]
fn each_fault_has_its_name() {
    use AssertionFault::*;
    for (fault, reason) in [
        (AudienceForm, "assertion_audience"),
        (AudienceMissing, "assertion_audience"),
        (AudienceWrong, "assertion_audience"),
        (Claims(JsonFault::Syntax), "assertion_malformed"),
        (DateMalformed, "assertion_malformed"),
        (Expired, "assertion_expired"),
        (ExpiryMissing, "assertion_malformed"),
        (ExpiryTooFar, "assertion_too_long"),
        (IssuedInFuture, "assertion_not_yet_valid"),
        (IssuerWrong, "assertion_issuer"),
        (JtiMissing, "assertion_jti"),
        (JtiTooLong, "assertion_jti"),
        (Jws(JwsFault::AlgorithmNotAllowed), "alg_not_allowed"),
        (Jws(JwsFault::AlgorithmUnknown), "alg_not_allowed"),
        (Jws(JwsFault::KeyUnknown), "key_unknown"),
        (Jws(JwsFault::NotThreeParts), "assertion_malformed"),
        (Jws(JwsFault::SignatureWrong), "assertion_signature"),
        (NotYetValid, "assertion_not_yet_valid"),
        (SubjectWrong, "assertion_subject"),
        (TypForeign, "assertion_typ"),
    ] {
        assert_eq!(fault.reason(), reason, "{fault:?}");
    }
}

proptest! {
    #[test]
    fn building_and_checking_round_trip(
        client_id in "[!-~]{1,40}",
        issuer in "https://[a-z.]{1,20}",
        jti in "[!-~]{1,64}",
        lifetime in 1u64..120,
    ) {
        let signer = Signer::new(owned(Algorithm::EdDsa), TYP, None);
        let lifetime = Duration::from_secs(lifetime);
        let wishes = Build { client_id: &client_id, issuer: &issuer, jti: &jti, now: now(), lifetime };
        let token = build(&signer, &wishes).unwrap();
        let expect = Expect { client_id: &client_id, issuer: &issuer, ..expect() };
        let accepted = check(&Parsed::parse(&token).unwrap(), &expect, now()).unwrap();
        prop_assert_eq!(accepted.jti, jti);
        prop_assert_eq!(accepted.expires, now().plus(lifetime.min(MAX_BUILT_LIFETIME)));
    }

    #[test]
    fn checking_never_panics(name in "iss|sub|aud|exp|nbf|iat|jti", number in any::<f64>(), text in ".{0,16}") {
        let _ = outcome_of(json!({ name.as_str(): number }));
        let _ = outcome_of(json!({ name.as_str(): text }));
        let _ = outcome(&text, &expect());
    }
}
