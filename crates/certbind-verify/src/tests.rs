//! A good token with a good certificate, and each fact of the two spoilt.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use certbind_devpki::{Issuer, LeafSpec, Validity};
use certbind_proto::bearer::BearerFault;
use certbind_proto::binding::{BindingFault, ConfirmationFault};
use certbind_proto::jws::{JwsFault, Signer, SigningKey};
use certbind_proto::thumbprint::ThumbprintFault;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const ISSUER: &str = "https://auth.example.com";
const AUDIENCE: &str = "https://api.example.com/payments";
const NOW: Timestamp = Timestamp::from_unix(1_795_000_000);
const UNKNOWN_KEY: Fault = Fault::Token(TokenFault::Jws(JwsFault::KeyUnknown));
const FORGED: Fault = Fault::Token(TokenFault::Jws(JwsFault::SignatureWrong));

fn mine() -> Thumbprint {
    Thumbprint::of_der(b"my certificate")
}

fn good_claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "billing", "client_id": "billing", "aud": AUDIENCE, "scope": "payments:read payments:write",
        "iat": NOW.unix() - 10, "exp": NOW.unix() + 290, "jti": "id", "cnf": { "x5t#S256": mine().to_string() },
    })
}

fn demand() -> Demand {
    Demand { scope: "payments:read".parse().unwrap(), ..Demand::default() }
}

#[test]
fn rfc9068_4_what_is_remembered_is_held_against_the_names_that_the_server_has_now() {
    let rig = Rig::new();
    let header = format!("Bearer {}", rig.token(&good_claims()));
    let verifier = rig.verifier.clone().with_memory(Memory::of_bytes(1 << 20));
    let verdict = |verifier: &Verifier| {
        verifier.verify([header.as_bytes()], Some(&mine()), &demand(), NOW).map(drop).map_err(|denied| denied.fault())
    };
    assert_eq!(verdict(&verifier), Ok(()));
    let other = verifier.clone().for_audiences(vec!["https://api.example.com/refunds".to_owned()]);
    assert_eq!(verdict(&other), Err(TokenFault::AudienceWrong.into()));
    let both = other.for_audiences(vec!["https://api.example.com/refunds".to_owned(), AUDIENCE.to_owned()]);
    assert_eq!(verdict(&both), Ok(()));
}

/// An issuer with one key, and a verifier that trusts it.
struct Rig {
    key: SigningKey,
    verifier: Verifier,
}

impl Rig {
    fn new() -> Self {
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        let keys = Keys::fixed(JwkSet::new(vec![key.public_jwk("k")]));
        Self { key, verifier: Verifier::new(Settings::new(ISSUER, AUDIENCE), keys) }
    }

    /// A token with exactly this header and payload, signed with the issuer's key.
    fn compact(&self, header: &str, payload: &[u8]) -> String {
        let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature = self.key.sign(input.as_bytes()).unwrap();
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn token(&self, claims: &Value) -> String {
        self.compact(&good_header().to_string(), claims.to_string().as_bytes())
    }

    fn with_header(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut header = good_header();
        change(&mut header);
        self.compact(&header.to_string(), good_claims().to_string().as_bytes())
    }

    fn verify(&self, token: &str) -> Result<Verified, Fault> {
        self.verify_as(token, Some(&mine()), &demand())
    }

    /// A verifier that remembers says the same, the first time and the second.
    fn verify_as(&self, token: &str, certificate: Option<&Thumbprint>, demand: &Demand) -> Result<Verified, Fault> {
        let header = format!("Bearer {token}");
        let verdict = self.verifier.verify([header.as_bytes()], certificate, demand, NOW);
        let remembering = self.verifier.clone().with_memory(Memory::of_bytes(1 << 20));
        for what in ["anew", "remembered"] {
            assert_eq!(remembering.verify([header.as_bytes()], certificate, demand, NOW), verdict, "{what}");
        }
        verdict.map_err(|denied| denied.fault())
    }

    /// The fault of a token whose claims are spoilt.
    fn fault_of(&self, spoil: impl FnOnce(&mut Value)) -> Option<Fault> {
        let mut claims = good_claims();
        spoil(&mut claims);
        self.verify(&self.token(&claims)).err()
    }
}

fn good_header() -> Value {
    json!({ "typ": "at+jwt", "alg": "ES256", "kid": "k" })
}

#[test]
fn rfc9068_4_a_good_token_says_whose_it_is_and_what_it_allows() {
    let rig = Rig::new();
    let verified = rig.verify(&rig.token(&good_claims())).unwrap();
    assert_eq!((verified.client_id(), verified.sub(), verified.jti()), ("billing", "billing", "id"));
    assert_eq!(verified.audience(), [AUDIENCE]);
    assert_eq!(verified.scope().to_string(), "payments:read payments:write");
    assert_eq!(verified.expires(), Timestamp::from_unix(NOW.unix() + 290));
    assert_eq!(verified.issued_at(), Timestamp::from_unix(NOW.unix() - 10));
    assert_eq!(verified.thumbprint(), Some(&mine()));
}

#[test]
fn rfc9068_4_each_algorithm_that_is_allowed_verifies_and_no_other() {
    for algorithm in Algorithm::ALL {
        let signer = Signer::new(SigningKey::generate(algorithm).unwrap(), access_token::TYP, Some("k"));
        let token = signer.sign_claims(&good_claims()).unwrap();
        let keys = Keys::fixed(JwkSet::new(vec![signer.key().public_jwk("k")]));
        let verify = |algorithms| {
            let verifier = Verifier::new(Settings { algorithms, ..Settings::new(ISSUER, AUDIENCE) }, keys.clone());
            let header = format!("Bearer {token}");
            verifier.verify([header.as_bytes()], Some(&mine()), &demand(), NOW).map_err(|denied| denied.reason())
        };
        assert!(verify(Algorithms::DEFAULT).is_ok(), "{algorithm}");
        let expected = if Algorithms::FAPI2.contains(algorithm) { None } else { Some("alg_not_allowed") };
        assert_eq!(verify(Algorithms::FAPI2).err(), expected, "{algorithm}");
    }
}

#[test]
fn rfc9068_4_each_spoilt_claim_is_invalid_token() {
    let rig = Rig::new();
    let (now, beyond) = (NOW.unix(), json!(f64::MAX));
    for (claim, value, expected) in [
        ("iss", json!(null), TokenFault::IssuerWrong),
        ("iss", json!("https://auth.example.com/"), TokenFault::IssuerWrong),
        ("iss", json!("https://AUTH.example.com"), TokenFault::IssuerWrong),
        ("iss", json!([ISSUER]), TokenFault::IssuerWrong),
        ("iss", json!("https://evil.example.com"), TokenFault::IssuerWrong),
        ("aud", json!("https://api.example.com/payments/"), TokenFault::AudienceWrong),
        ("aud", json!("https://api.example.com"), TokenFault::AudienceWrong),
        ("aud", json!("https://api.example.com/payments2"), TokenFault::AudienceWrong),
        ("aud", json!(["https://other.example.com"]), TokenFault::AudienceWrong),
        ("aud", json!([]), TokenFault::AudienceWrong),
        ("aud", json!(null), TokenFault::AudienceMalformed),
        ("aud", json!(1), TokenFault::AudienceMalformed),
        ("aud", json!({ "0": AUDIENCE }), TokenFault::AudienceMalformed),
        ("aud", json!([AUDIENCE, 1]), TokenFault::AudienceMalformed),
        ("aud", json!([[AUDIENCE]]), TokenFault::AudienceMalformed),
        ("exp", json!(now - 30), TokenFault::Expired),
        ("exp", json!(now.to_string()), TokenFault::DateMalformed),
        ("exp", json!(null), TokenFault::DateMalformed),
        ("exp", json!([now + 290]), TokenFault::DateMalformed),
        ("exp", json!(-1), TokenFault::DateMalformed),
        ("exp", beyond.clone(), TokenFault::DateMalformed),
        ("nbf", json!(now + 61), TokenFault::NotYetValid),
        ("nbf", json!("soon"), TokenFault::DateMalformed),
        ("iat", json!(now + 61), TokenFault::IssuedInFuture),
        ("iat", beyond, TokenFault::DateMalformed),
        ("client_id", json!(1), TokenFault::ClientMissing),
        ("sub", json!(["billing"]), TokenFault::SubjectMissing),
        ("jti", json!(7), TokenFault::JtiMissing),
        ("scope", json!(["payments:read"]), TokenFault::ScopeMalformed),
        ("scope", json!("payments:read\"\r\nSet-Cookie: a=b"), TokenFault::ScopeMalformed),
    ] {
        assert_eq!(rig.fault_of(|claims| claims[claim] = value.clone()), Some(expected.into()), "{claim} {value}");
    }
    for (claim, expected) in [
        ("iss", TokenFault::IssuerWrong),
        ("aud", TokenFault::AudienceMalformed),
        ("exp", TokenFault::ExpiryMissing),
        ("iat", TokenFault::IssuedAtMissing),
        ("client_id", TokenFault::ClientMissing),
        ("sub", TokenFault::SubjectMissing),
        ("jti", TokenFault::JtiMissing),
    ] {
        let remove = |claims: &mut Value| drop(claims.as_object_mut().unwrap().remove(claim));
        assert_eq!(rig.fault_of(remove), Some(expected.into()), "no {claim}");
    }
}

#[test]
fn rfc9068_4_the_audience_is_one_of_several_and_so_are_the_names_of_this_server() {
    let mut rig = Rig::new();
    let several = json!(["https://other.example.com", AUDIENCE]);
    assert_eq!(rig.fault_of(|claims| claims["aud"] = several), None);
    rig.verifier.settings.audiences = vec!["urn:old-name".to_owned(), AUDIENCE.to_owned()];
    assert_eq!(rig.fault_of(|claims| claims["aud"] = json!("urn:old-name")), None);
    assert_eq!(rig.fault_of(|_| {}), None);
    rig.verifier.settings.audiences.clear();
    assert_eq!(rig.fault_of(|_| {}), Some(TokenFault::AudienceWrong.into()), "no name, no token");
}

#[test]
fn rfc9068_4_a_token_for_one_resource_does_not_open_the_route_of_another() {
    let mut rig = Rig::new();
    rig.verifier.settings.audiences.push("https://api.example.com/refunds".into());
    let token = rig.token(&good_claims());
    let route = |audience: &str| Demand { audience: Some(audience.to_owned()), ..demand() };
    assert!(rig.verify_as(&token, Some(&mine()), &route(AUDIENCE)).is_ok());
    let fault = rig.verify_as(&token, None, &route("https://api.example.com/refunds")).unwrap_err();
    assert_eq!(fault, TokenFault::AudienceWrong.into(), "a claim, and so before the binding");
}

#[test]
fn rfc9068_4_typ_is_at_jwt_in_any_case_and_nothing_else() {
    let rig = Rig::new();
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/AT+jwt"] {
        assert!(rig.verify(&rig.with_header(|header| header["typ"] = json!(typ))).is_ok(), "{typ}");
    }
    for typ in
        ["JWT", "jwt", "at", "at+jwt ", "text/at+jwt", "", "client-authentication+jwt", "dpop+jwt", "secevent+jwt"]
    {
        let outcome = rig.verify(&rig.with_header(|header| header["typ"] = json!(typ)));
        assert_eq!(outcome, Err(TokenFault::TypWrong.into()), "{typ}");
    }
    let absent = rig.with_header(|header| drop(header.as_object_mut().unwrap().remove("typ")));
    assert_eq!(rig.verify(&absent), Err(TokenFault::TypWrong.into()));
}

#[test]
fn rfc8725_3_12_a_client_assertion_is_not_an_access_token() {
    let rig = Rig::new();
    let claims = json!({ "iss": "billing", "sub": "billing", "aud": ISSUER, "jti": "id", "exp": NOW.unix() + 60 });
    for typ in ["client-authentication+jwt", "JWT"] {
        let header = json!({ "typ": typ, "alg": "ES256", "kid": "k" }).to_string();
        let token = rig.compact(&header, claims.to_string().as_bytes());
        assert_eq!(rig.verify(&token), Err(TokenFault::TypWrong.into()));
    }
}

#[test]
fn rfc8725_3_1_no_header_turns_a_public_key_into_a_secret() {
    let rig = Rig::new();
    let public = rig.key.public();
    let jwk = rig.key.public_jwk("k").to_json();
    let octets = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
    let spki = public.spki_der().unwrap();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(&spki));
    let point = [&[4][..], &octets("x"), &octets("y")].concat();
    for secret in [spki, pem.into_bytes(), point, octets("x"), jwk.to_string().into_bytes()] {
        for (name, algorithm) in [("HS256", hmac::HMAC_SHA256), ("HS512", hmac::HMAC_SHA512)] {
            let header = json!({ "typ": "at+jwt", "alg": name, "kid": "k" }).to_string();
            let payload = good_claims().to_string();
            let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
            let tag = hmac::sign(&hmac::Key::new(algorithm, &secret), input.as_bytes());
            let token = format!("{input}.{}", URL_SAFE_NO_PAD.encode(tag));
            assert_eq!(rig.verify(&token), Err(TokenFault::Jws(JwsFault::AlgorithmUnknown).into()));
        }
    }
}

#[test]
fn rfc8725_3_2_none_is_no_algorithm_in_any_spelling() {
    let rig = Rig::new();
    for alg in ["none", "None", "nOnE", "NONE", "", "es256", "ES256 ", "PBES2-HS256+A128KW", "dir", "RSA1_5"] {
        let token = rig.with_header(|header| header["alg"] = json!(alg));
        let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
        for token in [token, unsigned] {
            assert_eq!(rig.verify(&token), Err(TokenFault::Jws(JwsFault::AlgorithmUnknown).into()), "{alg}");
        }
    }
    let signed = rig.token(&good_claims());
    let unsigned = format!("{}.", signed.rsplit_once('.').unwrap().0);
    assert_eq!(rig.verify(&unsigned), Err(FORGED), "ES256 without a signature");
}

#[test]
fn rfc7518_3_4_special_values_are_no_signature() {
    let rig = Rig::new();
    let token = rig.token(&good_claims());
    let (input, _) = token.rsplit_once('.').unwrap();
    let order = [&[0xff; 4][..], &[0; 4], &[0xff; 8], &hex("bce6faada7179e84f3b9cac2fc632551")].concat();
    let number = |last: u8| [&[0; 31][..], &[last]].concat();
    let numbers = [number(0), number(1), order.clone(), vec![0xff; 32]];
    for r in &numbers {
        for s in &numbers {
            let signature = URL_SAFE_NO_PAD.encode([r.as_slice(), s].concat());
            assert_eq!(rig.verify(&format!("{input}.{signature}")), Err(FORGED), "{r:?} {s:?}");
        }
    }
    for length in [0, 1, 63, 65, 70, 72, 96] {
        let signature = URL_SAFE_NO_PAD.encode(vec![0x30; length]);
        assert_eq!(rig.verify(&format!("{input}.{signature}")), Err(FORGED), "{length} octets");
    }
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn rfc8725_3_10_a_token_does_not_bring_its_own_key() {
    let (rig, stranger) = (Rig::new(), Rig::new());
    let identity = Issuer::root("stranger", Validity { not_before: 0, not_after: 4_102_444_800 }).unwrap();
    let x5c = STANDARD.encode(identity.certificate());
    for (name, value) in [
        ("jwk", stranger.key.public_jwk("k").to_json()),
        ("jku", json!("https://127.0.0.1:1/jwks.json")),
        ("x5u", json!("https://127.0.0.1:1/x5u.pem")),
        ("x5c", json!([x5c])),
    ] {
        for kid in ["k", "other"] {
            let token = stranger.with_header(|header| {
                header[name] = value.clone();
                header["kid"] = json!(kid);
            });
            assert_eq!(rig.verify(&token), Err(if kid == "k" { FORGED } else { UNKNOWN_KEY }), "{name} {kid}");
        }
        let own = rig.with_header(|header| header[name] = value.clone());
        assert!(rig.verify(&own).is_ok(), "{name} of no consequence");
    }
}

#[test]
fn rfc7515_4_1_4_kid_is_a_hint_inside_the_set() {
    let rig = Rig::new();
    for kid in ["../../k", "' OR 1=1 --", "K", "k ", "k/../k", "%6b"] {
        assert_eq!(rig.verify(&rig.with_header(|header| header["kid"] = json!(kid))), Err(UNKNOWN_KEY), "{kid}");
    }
    for kid in [json!("k\0"), json!(""), json!(1), json!(["k"]), json!(null), json!("k".repeat(1000))] {
        let outcome = rig.verify(&rig.with_header(|header| header["kid"] = kid.clone()));
        assert_eq!(outcome, Err(TokenFault::Jws(JwsFault::KidMalformed).into()), "{kid}");
    }
    let absent = rig.with_header(|header| drop(header.as_object_mut().unwrap().remove("kid")));
    assert!(rig.verify(&absent).is_ok(), "RFC 7515 §6: the keys that fit are tried");
}

#[test]
fn rfc7515_4_1_11_what_changes_the_meaning_of_a_token_is_refused() {
    let rig = Rig::new();
    for (name, value, fault) in [
        ("crit", json!(["b64"]), JwsFault::Critical),
        ("crit", json!(["x"]), JwsFault::Critical),
        ("crit", json!([]), JwsFault::Critical),
        ("crit", json!("x"), JwsFault::Critical),
        ("b64", json!(false), JwsFault::Unencoded),
        ("zip", json!("DEF"), JwsFault::Compressed),
        ("cty", json!("JWT"), JwsFault::Nested),
    ] {
        let outcome = rig.verify(&rig.with_header(|header| header[name] = value.clone()));
        assert_eq!(outcome, Err(TokenFault::Jws(fault).into()), "{name} {value}");
    }
    assert!(rig.verify(&rig.with_header(|header| header["x"] = json!(1))).is_ok(), "unknown and not critical");
}

#[test]
fn rfc7515_7_1_only_the_compact_form_in_one_spelling_is_a_token() {
    let rig = Rig::new();
    let good = rig.token(&good_claims());
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let standard = |part: &str| part.replace('-', "+").replace('_', "/");
    let jwe = format!("{header}.{payload}.{signature}.{payload}.{signature}");
    let pbes2 = json!({ "alg": "PBES2-HS256+A128KW", "enc": "A128GCM", "p2c": 2_147_483_648_u32 }).to_string();
    for (token, fault) in [
        (jwe, JwsFault::NotThreeParts),
        (format!("{}.a.b.c.d", URL_SAFE_NO_PAD.encode(pbes2)), JwsFault::NotThreeParts),
        (".".repeat(16 * 1024), JwsFault::NotThreeParts),
        ("abc".to_owned(), JwsFault::NotThreeParts),
        (format!("{header}.{payload}"), JwsFault::NotThreeParts),
        (format!("{good}="), JwsFault::NotBase64url),
        (format!("{header}.{payload}.+{}", &standard(signature)[1..]), JwsFault::NotBase64url),
    ] {
        assert_eq!(rig.verify(&token), Err(TokenFault::Jws(fault).into()), "{token:.60}");
    }
    let padded_inside = format!("{header}.{payload}=.{signature}");
    let quoted = format!("\"{good}\"");
    for text in [padded_inside, quoted, format!(r#"{{"payload":"{payload}"}}"#), ".".repeat(1_000_000)] {
        assert_eq!(rig.verify(&text), Err(BearerFault::Malformed.into()), "{text:.60}");
    }
}

#[test]
fn rfc7519_4_claims_are_one_strict_object() {
    let rig = Rig::new();
    let good = good_claims().to_string();
    let inside = good.strip_prefix('{').unwrap();
    for payload in [
        format!(r#"{{"aud":"{AUDIENCE}",{inside}"#),
        format!(r#"{{"\u0061ud":"{AUDIENCE}",{inside}"#),
        format!(r#"{{"cnf":{{}},{inside}"#),
        format!("{good} {{}}"),
        format!("[{good}]"),
        format!("\u{feff}{good}"),
        "null".to_owned(),
        String::new(),
        format!("{{\"x\":{}", "[".repeat(8_000)),
    ] {
        let token = rig.compact(&good_header().to_string(), payload.as_bytes());
        let fault = rig.verify(&token).unwrap_err();
        assert!(matches!(fault, Fault::Token(TokenFault::Claims(_))), "{payload:.60}: {fault:?}");
    }
    for header in ["[]", "null", "{\"alg\":\"ES256\",\"alg\":\"none\"}", "{\"alg\":\"ES256\"} x", "\u{feff}{}"] {
        let fault = rig.verify(&rig.compact(header, good.as_bytes())).unwrap_err();
        assert_eq!(fault.reason(), "token_malformed", "{header}");
    }
}

#[test]
fn rfc7518_weak_and_broken_keys_of_an_issuer_are_no_keys() {
    let rig = Rig::new();
    let good = rig.key.public_jwk("k").to_json();
    let spoilt = |name: &str, value: Value| {
        let mut jwk = good.clone();
        jwk[name] = value;
        jwk
    };
    let rsa = |bits: usize, e: &str| {
        let mut n = vec![0xff; bits / 8];
        n[0] = 0xc1;
        json!({ "kty": "RSA", "kid": "k", "n": URL_SAFE_NO_PAD.encode(n), "e": e })
    };
    for jwk in [
        spoilt("x", json!(URL_SAFE_NO_PAD.encode([1; 32]))),
        spoilt("y", json!(URL_SAFE_NO_PAD.encode([0; 32]))),
        spoilt("use", json!("enc")),
        spoilt("d", json!("AA")),
        spoilt("alg", json!("RS256")),
        rsa(1024, "AQAB"),
        rsa(2048, "AQ"),
        rsa(32_768, "AQAB"),
    ] {
        let set = JwkSet::parse_fetched(json!({ "keys": [jwk] }).to_string().as_bytes()).unwrap();
        let verifier = Verifier::new(Settings::new(ISSUER, AUDIENCE), Keys::fixed(set));
        let header = format!("Bearer {}", rig.token(&good_claims()));
        let denied = verifier.verify([header.as_bytes()], Some(&mine()), &demand(), NOW).unwrap_err();
        assert_eq!(denied.fault(), UNKNOWN_KEY, "{jwk}");
    }
}

#[test]
fn one_reason_for_a_token_with_several_faults_and_the_signature_goes_first() {
    let (rig, stranger) = (Rig::new(), Rig::new());
    let mut claims = good_claims();
    claims["exp"] = json!(1);
    claims["aud"] = json!("elsewhere");
    assert_eq!(rig.verify(&stranger.token(&claims)), Err(FORGED));
    let other = Thumbprint::of_der(b"another certificate");
    let outcome = rig.verify_as(&rig.token(&claims), Some(&other), &demand());
    assert_eq!(outcome, Err(TokenFault::AudienceWrong.into()), "claims before binding");
    let too_much = Demand { scope: "admin".parse().unwrap(), ..Demand::default() };
    let outcome = rig.verify_as(&rig.token(&good_claims()), Some(&other), &too_much);
    assert_eq!(outcome, Err(BindingFault::OtherCertificate.into()), "binding before scope");
}

#[test]
fn rfc8705_3_the_certificate_of_this_connection_decides() {
    let rig = Rig::new();
    let ca = Issuer::root("ca", Validity { not_before: 0, not_after: 4_102_444_800 }).unwrap();
    let leaf = |name: &str| ca.leaf(&LeafSpec::client(name, Validity { not_before: 0, not_after: 1_000 })).unwrap();
    let (own, sibling) = (leaf("billing"), leaf("billing"));
    let renewed = {
        let mut spec = LeafSpec::client("billing", Validity { not_before: 0, not_after: 2_000 });
        spec.key = certbind_devpki::KeySource::Pkcs8(own.key_pkcs8().to_vec());
        ca.leaf(&spec).unwrap()
    };
    let mut claims = good_claims();
    claims["cnf"] = json!({ "x5t#S256": Thumbprint::of_der(own.certificate()).to_string() });
    let token = rig.token(&claims);
    let verify = |der: Option<&[u8]>| rig.verify_as(&token, der.map(Thumbprint::of_der).as_ref(), &demand()).err();
    assert_eq!(verify(Some(own.certificate())), None, "expired long ago, and of an authority unknown here (§6.2)");
    assert_eq!(verify(Some(sibling.certificate())), Some(BindingFault::OtherCertificate.into()), "same name and CA");
    assert_eq!(verify(Some(renewed.certificate())), Some(BindingFault::OtherCertificate.into()), "same key (§6.3)");
    assert_eq!(verify(Some(ca.certificate())), Some(BindingFault::OtherCertificate.into()), "its CA");
    assert_eq!(verify(None), Some(BindingFault::NoCertificate.into()));
}

#[test]
fn rfc7800_3_1_a_confirmation_that_cannot_be_enforced_is_never_skipped() {
    let rig = Rig::new();
    let thumbprint = mine().to_string();
    let token_faults = [
        (json!({}), ConfirmationFault::Unknown),
        (json!({ "kid": "k" }), ConfirmationFault::NotEnforced),
        (json!({ "jkt": thumbprint }), ConfirmationFault::NotEnforced),
        (json!({ "x5t#S256": thumbprint, "jkt": thumbprint }), ConfirmationFault::NotEnforced),
        (json!({ "x5t": thumbprint }), ConfirmationFault::Unknown),
        (json!({ "x5t#S256": "" }), ThumbprintFault::WrongLength.into()),
        (json!({ "x5t#S256": format!("{thumbprint}=") }), ThumbprintFault::WrongLength.into()),
        (json!({ "x5t#S256": "03".repeat(32) }), ThumbprintFault::WrongLength.into()),
        (json!({ "x5t#S256": null }), ThumbprintFault::NotBase64url.into()),
        (json!(null), ConfirmationFault::NotAnObject),
        (json!(thumbprint), ConfirmationFault::NotAnObject),
        (json!([]), ConfirmationFault::NotAnObject),
    ];
    for (cnf, fault) in token_faults {
        let mut claims = good_claims();
        claims["cnf"] = cnf.clone();
        let token = rig.token(&claims);
        for binding in [Requirement::Required, Requirement::WhenBound] {
            for certificate in [Some(&mine()), None] {
                let outcome = rig.verify_as(&token, certificate, &Demand { binding, ..demand() });
                assert_eq!(outcome, Err(TokenFault::Confirmation(fault).into()), "{cnf}");
            }
        }
    }
}

#[test]
fn rfc8705_3_an_unbound_token_passes_only_where_the_route_says_so() {
    let rig = Rig::new();
    let mut claims = good_claims();
    claims.as_object_mut().unwrap().remove("cnf");
    let token = rig.token(&claims);
    for certificate in [Some(&mine()), None] {
        assert_eq!(rig.verify_as(&token, certificate, &demand()), Err(BindingFault::Unbound.into()));
        let relaxed = Demand { binding: Requirement::WhenBound, ..demand() };
        assert!(rig.verify_as(&token, certificate, &relaxed).is_ok_and(|verified| verified.thumbprint().is_none()));
    }
    assert_eq!(Demand::default().binding, Requirement::Required, "by default it does not pass");
}

#[test]
fn rfc6750_3_1_all_of_the_demanded_scope_must_be_there() {
    let rig = Rig::new();
    let token = rig.token(&good_claims());
    for (scope, passes) in [
        ("", true),
        ("payments:read", true),
        ("payments:write payments:read", true),
        ("payments", false),
        ("payments:READ", false),
        ("payments:read admin", false),
    ] {
        let demand = Demand { scope: scope.parse().unwrap(), ..Demand::default() };
        let expected = if passes { None } else { Some(Fault::ScopeMissing) };
        assert_eq!(rig.verify_as(&token, Some(&mine()), &demand).err(), expected, "{scope}");
    }
    assert_eq!(
        rig.fault_of(|claims| drop(claims.as_object_mut().unwrap().remove("scope"))),
        Some(Fault::ScopeMissing),
        "a token without scope allows nothing"
    );
}

#[test]
fn fapi_5_3_4_a_route_can_shorten_the_time_in_which_a_revoked_token_is_good() {
    let rig = Rig::new();
    let demand = Demand { max_age: Some(Duration::from_secs(60)), ..demand() };
    for (age, expected) in [(0, None), (60, None), (90, None), (91, Some(Fault::TooOld)), (250, Some(Fault::TooOld))] {
        let mut claims = good_claims();
        claims["iat"] = json!(NOW.unix() - age);
        assert_eq!(rig.verify_as(&rig.token(&claims), Some(&mine()), &demand).err(), expected, "{age}");
    }
}

#[test]
fn rfc7519_4_1_4_expiry_and_clock_skew_to_the_second() {
    let rig = Rig::new();
    for (exp, expected) in [(-29, None), (-30, Some(TokenFault::Expired.into())), (1, None)] {
        assert_eq!(rig.fault_of(|claims| claims["exp"] = json!(NOW.unix() + exp)), expected, "{exp}");
    }
    for ahead in [0, 5, 10] {
        assert_eq!(rig.fault_of(|claims| claims["iat"] = json!(NOW.unix() + ahead)), None, "{ahead}");
        assert_eq!(rig.fault_of(|claims| claims["nbf"] = json!(NOW.unix() + ahead)), None, "{ahead}");
    }
}

#[test]
fn rfc6750_3_golden_challenges() {
    let mut rig = Rig::new();
    rig.verifier.settings.realm = Some("payments".to_owned());
    let (good, forged) = (rig.token(&good_claims()), Rig::new().token(&good_claims()));
    let admin = Demand { scope: "payments:read payments:admin".parse().unwrap(), ..Demand::default() };
    let bearer = |token: &str| vec![format!("Bearer {token}")];
    let invalid_request = r#"Bearer realm="payments", error="invalid_request", error_description="One access token belongs into one Authorization header.""#;
    let invalid_token =
        r#"Bearer realm="payments", error="invalid_token", error_description="The access token is not good here.""#;
    let insufficient_scope = r#"Bearer realm="payments", error="insufficient_scope", error_description="The access token does not allow this.", scope="payments:admin payments:read""#;
    let nothing = r#"Bearer realm="payments""#;
    for (name, headers, certificate, demand, status, challenge, reason) in [
        ("no header", vec![], Some(mine()), demand(), 401, nothing, "token_missing"),
        ("Basic", vec!["Basic YTpi".to_owned()], Some(mine()), demand(), 401, nothing, "scheme_not_bearer"),
        ("no token", vec!["Bearer ".to_owned()], Some(mine()), demand(), 400, invalid_request, "token_malformed"),
        ("two words", vec!["Bearer a b".to_owned()], Some(mine()), demand(), 400, invalid_request, "token_malformed"),
        ("not ASCII", vec!["Bearer é".to_owned()], Some(mine()), demand(), 400, invalid_request, "token_malformed"),
        (
            "twice",
            [bearer(&good), bearer(&good)].concat(),
            Some(mine()),
            demand(),
            400,
            invalid_request,
            "token_repeated",
        ),
        ("garbage", bearer("garbage"), Some(mine()), demand(), 401, invalid_token, "token_malformed"),
        ("forged", bearer(&forged), Some(mine()), demand(), 401, invalid_token, "token_signature"),
        ("stolen", bearer(&good), Some(Thumbprint::of_der(b"thief")), demand(), 401, invalid_token, "binding_mismatch"),
        ("without", bearer(&good), None, demand(), 401, invalid_token, "certificate_missing"),
        ("short", bearer(&good), Some(mine()), admin, 403, insufficient_scope, "scope_missing"),
    ] {
        let headers = headers.iter().map(|header| header.as_bytes());
        let denied = rig.verifier.verify(headers, certificate.as_ref(), &demand, NOW).unwrap_err();
        assert_eq!((denied.status(), denied.challenge()), (status, Some(challenge)), "{name}");
        assert_eq!(denied.reason(), reason, "{name}");
    }
    let denied = rig.verifier.deny_second_transport(&demand());
    assert_eq!((denied.status(), denied.challenge()), (400, Some(invalid_request)));
}

#[test]
fn rfc9728_5_1_each_challenge_names_the_metadata_when_there_are_some() {
    let mut rig = Rig::new();
    let metadata = ResourceMetadata::new(AUDIENCE, ISSUER).unwrap();
    rig.verifier.settings.resource_metadata = Some(metadata.url());
    let named = r#"Bearer resource_metadata="https://api.example.com/.well-known/oauth-protected-resource/payments""#;
    let good = format!("Bearer {}", rig.token(&good_claims()));
    let admin = Demand { scope: "admin".parse().unwrap(), ..Demand::default() };
    for (headers, demand, status) in [
        (vec![], demand(), 401),
        (vec!["Bearer a b"], demand(), 400),
        (vec!["Bearer garbage"], demand(), 401),
        (vec![good.as_str()], admin, 403),
    ] {
        let headers = headers.iter().map(|header| header.as_bytes());
        let denied = rig.verifier.verify(headers, Some(&mine()), &demand, NOW).unwrap_err();
        assert_eq!(denied.status(), status);
        assert!(denied.challenge().is_some_and(|challenge| challenge.starts_with(named)), "{denied:?}");
        assert!(denied.challenge().is_some_and(|challenge| challenge.matches("resource_metadata").count() == 1));
    }
    rig.verifier.keys = Keys::none(Keys::FRESHNESS);
    let denied = rig.verifier.verify([good.as_bytes()], Some(&mine()), &demand(), NOW).unwrap_err();
    assert_eq!((denied.status(), denied.challenge()), (503, None));
}

#[test]
fn rfc6750_2_1_the_scheme_has_no_case() {
    let rig = Rig::new();
    let token = rig.token(&good_claims());
    for scheme in ["Bearer", "bearer", "bEARER", "BEARER"] {
        let header = format!("{scheme} {token}");
        assert!(rig.verifier.verify([header.as_bytes()], Some(&mine()), &demand(), NOW).is_ok(), "{scheme}");
    }
}

#[test]
fn rfc9068_4_without_keys_every_token_is_denied_and_no_client_is_blamed() {
    let rig = Rig::new();
    let keys = Keys::none(Keys::FRESHNESS);
    let verifier = Verifier::new(Settings::new(ISSUER, AUDIENCE), keys.clone());
    let header = format!("Bearer {}", rig.token(&good_claims()));
    let verify = |now| verifier.verify([header.as_bytes()], Some(&mine()), &demand(), now);
    let denied = verify(NOW).unwrap_err();
    assert_eq!((denied.status(), denied.challenge(), denied.reason()), (503, None, "keys_unavailable"));

    let day = Duration::from_secs(24 * 60 * 60);
    for (asked, expected) in
        [(NOW, None), (NOW.minus(day).plus(Duration::from_millis(1)), None), (NOW.minus(day), Some(503))]
    {
        keys.hold(JwkSet::new(vec![rig.key.public_jwk("k")]), asked);
        assert_eq!(verify(NOW).err().map(|denied| denied.status()), expected, "{asked}");
    }
}

#[test]
fn what_is_remembered_ends_with_the_token_with_the_keys_and_with_a_clock_that_is_set_back() {
    let rig = Rig::new();
    let keys = Keys::none(Keys::FRESHNESS);
    let key = || JwkSet::new(vec![rig.key.public_jwk("k")]);
    keys.hold(key(), NOW.minus(Duration::from_secs(120)));
    let verifier = Verifier::new(Settings::new(ISSUER, AUDIENCE), keys.clone()).with_memory(Memory::of_bytes(1 << 20));
    let mut claims = good_claims();
    claims["iat"] = json!(NOW.unix() + 5);
    let header = format!("Bearer {}", rig.token(&claims));
    let at = |seconds: i64| {
        let now = Timestamp::from_unix(NOW.unix() + seconds);
        verifier.verify([header.as_bytes()], Some(&mine()), &demand(), now).err().map(|denied| denied.reason())
    };
    assert_eq!([at(0), at(0), at(319)], [None; 3]);
    assert_eq!(at(320), Some("token_expired"));
    assert_eq!(at(-60), Some("token_not_yet_valid"), "the clock was set back");

    keys.hold(JwkSet::default(), NOW);
    assert_eq!(at(0), Some("key_unknown"), "the key was taken back");
    keys.hold(key(), NOW);
    assert_eq!([at(0), at(24 * 60 * 60 + 1)], [None, Some("keys_unavailable")]);
    let other = Thumbprint::of_der(b"another certificate");
    let thief = verifier.verify([header.as_bytes()], Some(&other), &demand(), NOW).unwrap_err();
    assert_eq!(thief.reason(), "binding_mismatch", "whoever presents it");
}

#[test]
fn fixed_keys_do_not_age() {
    let rig = Rig::new();
    for now in [Timestamp::from_unix(0), NOW, Timestamp::from_millis(i64::MAX)] {
        assert!(rig.verifier.keys().set(now).is_some());
    }
}

#[test]
fn the_list_of_reasons_is_in_order_and_has_no_twins() {
    assert!(REASONS.is_sorted_by(|a, b| a < b));
    for fault in [Fault::KeysUnavailable, Fault::ScopeMissing, Fault::TooOld, UNKNOWN_KEY, FORGED] {
        assert!(REASONS.contains(&fault.reason()));
    }
}

#[test]
fn nothing_of_a_token_is_printed() {
    let rig = Rig::new();
    let token = rig.token(&good_claims());
    let denied = rig.verifier.verify([format!("Bearer {token}x").as_bytes()], None, &demand(), NOW).unwrap_err();
    for part in token.split('.') {
        assert!(!format!("{denied:?} {} {:?}", denied.fault(), rig.verifier).contains(part));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_bytes_pass_and_none_panic(headers in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..3)) {
        let rig = Rig::new();
        let denied = rig.verifier.verify(headers.iter().map(Vec::as_slice), Some(&mine()), &demand(), NOW).unwrap_err();
        prop_assert!(REASONS.contains(&denied.reason()));
        prop_assert!(matches!(denied.status(), 400 | 401));
    }

    #[test]
    fn rfc7515_5_2_a_good_token_with_one_character_changed_is_denied(at in any::<prop::sample::Index>(), with in "[A-Za-z0-9_.=-]") {
        let rig = Rig::new();
        let token = rig.token(&good_claims());
        let at = at.index(token.len());
        let changed = format!("{}{with}{}", &token[..at], &token[at + 1..]);
        if changed != token {
            let fault = rig.verify(&changed).unwrap_err();
            prop_assert!(REASONS.contains(&fault.reason()));
        }
    }

    #[test]
    fn rfc6750_3_hostile_text_cannot_leave_its_quotes(realm in ".{0,64}", scope in "[!#-\\[\\]-~]{1,40}") {
        let mut rig = Rig::new();
        rig.verifier.settings.realm = Some(realm);
        let demand = Demand { scope: scope.parse().unwrap(), ..Demand::default() };
        let header = format!("Bearer {}", rig.token(&good_claims()));
        let denied = rig.verifier.verify([header.as_bytes()], Some(&mine()), &demand, NOW).unwrap_err();
        let challenge = denied.challenge().unwrap();
        prop_assert_eq!(challenge.matches('"').count(), 8);
        prop_assert!(challenge.bytes().all(|b| (0x20..0x7f).contains(&b)));
        let ending = format!("scope=\"{scope}\"");
        prop_assert!(challenge.ends_with(&ending));
    }
}
