//! Project Wycheproof's vectors for signatures, and for JSON web signatures and keys, through the keys as they are
//! registered: each group's key is taken in as a JWK and each signature checked by the code that checks tokens.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use certbind_proto::jwk::{Jwk, JwkSet};
use certbind_proto::jws::{Algorithm, Algorithms, Parsed};
use serde_json::{Value, json};
use wycheproof::{HashFunction, Mgf, TestResult};

/// What was tried, so that a set which quietly became empty is noticed.
#[derive(Default)]
struct Tally {
    keys_refused: usize,
    verified: usize,
    refused: usize,
}

impl Tally {
    fn try_group(&mut self, algorithm: Algorithm, jwk: &Value, cases: &[(usize, &[u8], &[u8], TestResult)]) {
        let Ok(jwk) = Jwk::parse(jwk.as_object().unwrap()) else {
            self.keys_refused += 1;
            return;
        };
        for (id, message, signature, expected) in cases {
            match (jwk.key().verify(algorithm, message, signature), expected) {
                (Ok(()), TestResult::Valid | TestResult::Acceptable) => self.verified += 1,
                (Err(_), TestResult::Invalid | TestResult::Acceptable) => self.refused += 1,
                (outcome, _) => panic!("{algorithm} case {id}: expected {expected:?}, got {outcome:?}"),
            }
        }
    }
}

/// A number without its leading zeros, as RSA members are written.
fn minimal(number: &[u8]) -> String {
    let zeros = number.iter().take_while(|octet| **octet == 0).count();
    URL_SAFE_NO_PAD.encode(&number[zeros..])
}

/// A coordinate with its leading zeros, as those of elliptic curves are written.
fn padded(number: &[u8], length: usize) -> String {
    let significant = &number[number.len().saturating_sub(length)..];
    URL_SAFE_NO_PAD.encode([&vec![0; length - significant.len()], significant].concat())
}

fn ecdsa(name: wycheproof::ecdsa::TestName, algorithm: Algorithm, crv: &str, length: usize) -> Tally {
    let mut tally = Tally::default();
    for group in wycheproof::ecdsa::TestSet::load(name).unwrap().test_groups {
        let jwk = json!({
            "kty": "EC", "crv": crv,
            "x": padded(&group.key.affine_x, length), "y": padded(&group.key.affine_y, length),
        });
        let cases: Vec<_> = group.tests.iter().map(|t| (t.tc_id, &t.msg[..], &t.sig[..], t.result)).collect();
        tally.try_group(algorithm, &jwk, &cases);
    }
    tally
}

#[test]
fn rfc7518_3_4_es256() {
    let tally = ecdsa(wycheproof::ecdsa::TestName::EcdsaSecp256r1Sha256P1363, Algorithm::Es256, "P-256", 32);
    assert_eq!(tally.keys_refused, 0);
    assert!(tally.verified > 150 && tally.refused > 80);
}

#[test]
fn rfc7518_3_4_es384() {
    let tally = ecdsa(wycheproof::ecdsa::TestName::EcdsaSecp384r1Sha384P1363, Algorithm::Es384, "P-384", 48);
    assert_eq!(tally.keys_refused, 0);
    assert!(tally.verified > 150 && tally.refused > 80);
}

#[test]
fn rfc8037_3_1_ed25519() {
    let mut tally = Tally::default();
    let set = wycheproof::eddsa::TestSet::load(wycheproof::eddsa::TestName::Ed25519).unwrap();
    for group in set.test_groups {
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(&group.key.pk) });
        let cases: Vec<_> = group.tests.iter().map(|t| (t.tc_id, &t.msg[..], &t.sig[..], t.result)).collect();
        tally.try_group(Algorithm::EdDsa, &jwk, &cases);
    }
    assert_eq!(tally.keys_refused, 0);
    assert!(tally.verified > 50 && tally.refused > 50);
}

fn pkcs1(name: wycheproof::rsa_pkcs1_verify::TestName, tally: &mut Tally) {
    for group in wycheproof::rsa_pkcs1_verify::TestSet::load(name).unwrap().test_groups {
        assert_eq!(group.hash, HashFunction::Sha2_256);
        let jwk = json!({ "kty": "RSA", "n": minimal(&group.key.n), "e": minimal(&group.key.e) });
        let cases: Vec<_> = group.tests.iter().map(|t| (t.tc_id, &t.msg[..], &t.sig[..], t.result)).collect();
        tally.try_group(Algorithm::Rs256, &jwk, &cases);
    }
}

#[test]
fn rfc7518_3_3_rs256() {
    use wycheproof::rsa_pkcs1_verify::TestName;
    let mut tally = Tally::default();
    for name in [TestName::Rsa2048Sha256, TestName::Rsa3072Sha256, TestName::Rsa4096Sha256, TestName::Rsa8192Sha256] {
        pkcs1(name, &mut tally);
    }
    assert_eq!(tally.keys_refused, 0);
    assert!(tally.verified > 20 && tally.refused > 500);
}

/// RFC 7518 §3.5 wants one hash for message and mask, and a salt of its length. What Wycheproof made with other
/// parameters must be refused, however valid it calls it.
fn pss(name: wycheproof::rsa_pss_verify::TestName, tally: &mut Tally) {
    for group in wycheproof::rsa_pss_verify::TestSet::load(name).unwrap().test_groups {
        let (algorithm, salt) = match group.hash {
            HashFunction::Sha2_256 => (Algorithm::Ps256, 32),
            HashFunction::Sha2_384 => (Algorithm::Ps384, 48),
            _ => continue,
        };
        let hash_fits = group.mgf == Mgf::Mgf1 && group.mgf_hash == Some(group.hash);
        let by_the_book = hash_fits && group.salt_size == salt;
        let changed_to_ours = format!("s_len changed to {salt}");
        let expected = |test: &wycheproof::rsa_pss_verify::Test| match test.result {
            result if by_the_book => result,
            _ if hash_fits && test.comment == changed_to_ours => TestResult::Valid,
            _ => TestResult::Invalid,
        };
        let jwk = json!({ "kty": "RSA", "n": minimal(&group.key.n), "e": minimal(&group.key.e) });
        let cases: Vec<_> = group.tests.iter().map(|t| (t.tc_id, &t.msg[..], &t.sig[..], expected(t))).collect();
        tally.try_group(algorithm, &jwk, &cases);
    }
}

#[test]
fn rfc7518_3_5_ps256_and_ps384_with_the_salt_of_the_hash_only() {
    let mut tally = Tally::default();
    for name in wycheproof::rsa_pss_verify::TestName::all() {
        pss(name, &mut tally);
    }
    assert_eq!(tally.keys_refused, 0);
    assert!(tally.verified > 100 && tally.refused > 200, "{} {}", tally.verified, tally.refused);
}

/// The JSON suites are not in the crate. These are their cases for public keys of algorithms that are done here.
#[test]
fn rfc7515_rfc7517_json_web_signatures_and_keys() {
    let suites: Value = serde_json::from_str(include_str!("vectors/wycheproof-json-web.json")).unwrap();
    let mut valid = 0;
    for group in suites["groups"].as_array().unwrap() {
        let document = json!({ "keys": group["keys"] }).to_string();
        let registered = JwkSet::parse_registered(document.as_bytes()).unwrap_or_default();
        let fetched = JwkSet::parse_fetched(document.as_bytes()).unwrap();
        for case in group["tests"].as_array().unwrap() {
            for keys in [&registered, &fetched] {
                let token = case["jws"].as_str().unwrap();
                let outcome = Parsed::parse(token).and_then(|parsed| keys.verify(&parsed, Algorithms::DEFAULT));
                assert_eq!(outcome.is_ok(), case["result"] == "valid", "{} {}", group["comment"], case["comment"]);
                valid += usize::from(outcome.is_ok());
            }
        }
    }
    assert_eq!(valid, 6);
}
