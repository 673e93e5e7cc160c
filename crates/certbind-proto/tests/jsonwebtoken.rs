//! Held against the crate jsonwebtoken, both ways: what is signed here verifies there, what it signs is accepted here,
//! and what is refused there is refused here.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use certbind_proto::access_token::{self, AccessToken};
use certbind_proto::assertion::{self, AudienceRule};
use certbind_proto::jwk::JwkSet;
use certbind_proto::jws::{Algorithm, Algorithms, JwsFault, Parsed, Signer, SigningKey};
use certbind_proto::time::Timestamp;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Value, json};

const ISSUER: &str = "https://auth.example.com";
const API: &str = "https://api.example.com";
const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

fn theirs(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    match algorithm {
        Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::Es384 => jsonwebtoken::Algorithm::ES384,
        Algorithm::Ps256 => jsonwebtoken::Algorithm::PS256,
        Algorithm::Ps384 => jsonwebtoken::Algorithm::PS384,
        Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
    }
}

/// Signature only: it would read the system's clock.
fn validation(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(theirs(algorithm));
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    validation
}

fn their_decoding_key(key: &SigningKey) -> DecodingKey {
    let jwk: Jwk = serde_json::from_value(key.public_jwk("k").to_json()).unwrap();
    DecodingKey::from_jwk(&jwk).unwrap()
}

fn their_encoding_key(key: &SigningKey) -> EncodingKey {
    let pkcs8 = key.to_pkcs8_der();
    match key.algorithm() {
        Algorithm::EdDsa => EncodingKey::from_ed_der(&pkcs8),
        Algorithm::Es256 | Algorithm::Es384 => EncodingKey::from_ec_der(&pkcs8),
        // It wants the RSAPrivateKey that follows the 26 octets of PKCS#8's own.
        Algorithm::Ps256 | Algorithm::Ps384 | Algorithm::Rs256 => EncodingKey::from_rsa_der(&pkcs8[26..]),
    }
}

fn access_token() -> AccessToken {
    AccessToken {
        iss: ISSUER.to_owned(),
        sub: "billing".to_owned(),
        client_id: "billing".to_owned(),
        aud: vec![API.to_owned()],
        scope: "payments:read".parse().unwrap(),
        iat: NOW,
        exp: NOW.plus(Duration::from_secs(300)),
        jti: "id".to_owned(),
        cnf: None,
    }
}

#[test]
fn what_is_minted_here_verifies_there() {
    for algorithm in Algorithm::ALL {
        let signer = Signer::new(SigningKey::generate(algorithm).unwrap(), access_token::TYP, Some("k"));
        let token = signer.sign_claims(&access_token().to_claims()).unwrap();
        let key = their_decoding_key(signer.key());
        let decoded = jsonwebtoken::decode::<Value>(&token, &key, &validation(algorithm)).unwrap();
        assert_eq!(decoded.claims, serde_json::to_value(access_token().to_claims()).unwrap());
        assert_eq!((decoded.header.typ.as_deref(), decoded.header.kid.as_deref()), (Some("at+jwt"), Some("k")));
    }
}

#[test]
fn what_is_signed_there_is_accepted_here() {
    for algorithm in Algorithm::ALL {
        let key = SigningKey::generate(algorithm).unwrap();
        let mut header = Header::new(theirs(algorithm));
        header.kid = Some("k".to_owned());
        let claims = json!({
            "iss": "billing", "sub": "billing", "aud": ISSUER, "jti": "once",
            "iat": NOW.unix(), "exp": NOW.unix() + 60,
        });
        let token = jsonwebtoken::encode(&header, &claims, &their_encoding_key(&key)).unwrap();
        let parsed = Parsed::parse(&token).unwrap();
        let keys = JwkSet::new(vec![key.public_jwk("k")]);
        assert_eq!(keys.verify(&parsed, Algorithms::of(&[algorithm])), Ok(()), "{algorithm}");
        let expect = assertion::Expect {
            client_id: "billing",
            issuer: ISSUER,
            audience: AudienceRule::StringOnly,
            legacy_audiences: &[],
            max_lifetime: Duration::from_secs(600),
            clock_skew: Duration::from_secs(30),
        };
        assert_eq!(assertion::check(&parsed, &expect, NOW).unwrap().jti, "once");
    }
}

#[test]
fn a_token_spoilt_anywhere_is_refused_on_both_sides() {
    let signer = Signer::new(SigningKey::generate(Algorithm::Es256).unwrap(), access_token::TYP, Some("k"));
    let token = signer.sign_claims(&access_token().to_claims()).unwrap();
    let key = their_decoding_key(signer.key());
    let keys = JwkSet::new(vec![signer.key().public_jwk("k")]);
    let here = |token: &str| Parsed::parse(token).and_then(|parsed| keys.verify(&parsed, Algorithms::DEFAULT));
    for at in (0..token.len()).step_by(7) {
        let mut spoilt = token.clone().into_bytes();
        spoilt[at] = if spoilt[at] == b'A' { b'B' } else { b'A' };
        let spoilt = String::from_utf8(spoilt).unwrap();
        assert!(here(&spoilt).is_err(), "{at}");
        assert!(jsonwebtoken::decode::<Value>(&spoilt, &key, &validation(Algorithm::Es256)).is_err(), "{at}");
    }
    assert_eq!(here(&token), Ok(()));
}

#[test]
fn a_token_made_with_a_shared_secret_there_is_refused_here() {
    let key = SigningKey::generate(Algorithm::Es256).unwrap();
    let secret = key.public_jwk("k").to_json().to_string();
    let hs256 = Header::new(jsonwebtoken::Algorithm::HS256);
    let token = jsonwebtoken::encode(&hs256, &json!({}), &EncodingKey::from_secret(secret.as_bytes())).unwrap();
    assert_eq!(Parsed::parse(&token).unwrap_err(), JwsFault::AlgorithmUnknown);
}
