mod attacks;
mod compact_form;
mod keys;
mod rfc_examples;

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::jwk::{Jwk, JwkSet};

/// A key for this algorithm, the same all through a run of the tests. The three RSA algorithms share one.
pub(crate) fn key(algorithm: Algorithm) -> &'static SigningKey {
    static KEYS: LazyLock<Vec<SigningKey>> = LazyLock::new(|| {
        let rsa = SigningKey::generate(Algorithm::Ps256).unwrap().to_pkcs8_der();
        let make = |algorithm| match algorithm {
            Algorithm::Ps256 | Algorithm::Ps384 | Algorithm::Rs256 => SigningKey::from_pkcs8_der(&rsa, algorithm),
            _ => SigningKey::generate(algorithm),
        };
        Algorithm::ALL.into_iter().map(|algorithm| make(algorithm).unwrap()).collect()
    });
    KEYS.iter().find(|key| key.algorithm() == algorithm).unwrap()
}

/// The same key again, for a signer to own.
pub(crate) fn owned(algorithm: Algorithm) -> SigningKey {
    SigningKey::from_pkcs8_der(&key(algorithm).to_pkcs8_der(), algorithm).unwrap()
}

/// A compact signature with this header and payload, whatever they say.
pub(crate) fn compact(header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>, key: &SigningKey) -> String {
    let input = format!("{}.{}", b64(header), b64(payload));
    let signature = key.sign(input.as_bytes()).unwrap();
    format!("{input}.{}", b64(signature))
}

fn b64(octets: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(octets)
}

fn unb64(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

/// A key set that has the public half of one key, under the name `k`.
fn set_of(key: &SigningKey) -> JwkSet {
    JwkSet::new(vec![key.public_jwk("k")])
}

fn verify(token: &str, keys: &JwkSet) -> Result<(), JwsFault> {
    keys.verify(&Parsed::parse(token)?, Algorithms::DEFAULT)
}

fn jwk(value: Value) -> Jwk {
    Jwk::parse(value.as_object().unwrap()).unwrap()
}

#[test]
fn rfc9864_ed25519_goes_by_both_of_its_names() {
    for alg in ["EdDSA", "Ed25519"] {
        let token = compact(format!(r#"{{"alg":"{alg}"}}"#), "{}", key(Algorithm::EdDsa));
        assert_eq!(verify(&token, &set_of(key(Algorithm::EdDsa))), Ok(()));
    }
}

#[test]
fn rfc9864_2_2_a_signer_can_say_the_fully_specified_name() {
    for algorithm in Algorithm::ALL {
        let signer = Signer::fully_specified(owned(algorithm), "JWT", None);
        let token = signer.sign_claims(&json!({})).unwrap();
        let header: Value = serde_json::from_slice(&unb64(token.split('.').next().unwrap())).unwrap();
        assert_eq!(header, json!({ "alg": algorithm.fully_specified(), "typ": "JWT" }));
        assert_eq!(verify(&token, &set_of(signer.key())), Ok(()));
    }
    assert_eq!(Algorithm::EdDsa.fully_specified(), "Ed25519");
}

#[test]
fn rfc7515_5_1_a_signer_writes_what_a_reader_finds() {
    for algorithm in Algorithm::ALL {
        let signer = Signer::new(owned(algorithm), "at+jwt", Some("k"));
        let token = signer.sign_claims(&json!({ "a": "é" })).unwrap();
        let parsed = Parsed::parse(&token).unwrap();
        let expected = Header { alg: algorithm, kid: Some("k".to_owned()), typ: Some("at+jwt".to_owned()) };
        assert_eq!(parsed.header, expected);
        assert_eq!(parsed.claims().unwrap()["a"], "é");
        assert_eq!(set_of(signer.key()).verify(&parsed, Algorithms::of(&[algorithm])), Ok(()));
    }
}

proptest! {
    #[test]
    fn parsing_never_panics(token in ".{0,128}") {
        let _ = Parsed::parse(&token);
    }

    #[test]
    fn parsing_never_panics_on_what_looks_like_a_token(
        header in "\\{\"(alg|kid|typ|crit)\":(\"(ES256|none)?\"|1|\\[\\])\\}|.{0,16}",
        rest in "[A-Za-z0-9_.=-]{0,64}",
    ) {
        let _ = Parsed::parse(&format!("{}.{rest}", b64(header)));
    }

    #[test]
    fn one_spoilt_bit_and_the_signature_does_not_hold(
        at in any::<prop::sample::Index>(),
        bit in 0u8..7,
        which in 0usize..3,
    ) {
        let algorithm = [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256][which];
        let header = json!({ "alg": algorithm.as_str() }).to_string();
        let mut token = compact(header, r#"{"a":1}"#, key(algorithm)).into_bytes();
        let at = at.index(token.len());
        token[at] ^= 1 << bit;
        if let Ok(token) = String::from_utf8(token) {
            prop_assert!(verify(&token, &set_of(key(algorithm))).is_err());
        }
    }
}
