use proptest::prelude::*;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::*;
use crate::jws::SigningKey;
use crate::jws::tests::{compact, key};

/// A P-256 key that is usable: the first of a table of spoilt ones.
fn good() -> Map<String, Value> {
    object(json!({
        "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "k", "key_ops": ["verify"],
        "x": "04N0xi21hshyvBp7I167sbE_bXqyqkAPfefdklMO7wY",
        "y": "UI8exy-C06a7DUnjIdENkxeFtHM4-l_41LqEw9nVgmw",
    }))
}

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(members) = value else { panic!("not an object") };
    members
}

/// The good key with some members set to something else; null takes one away.
fn spoilt(changes: Value) -> Map<String, Value> {
    let mut members = good();
    for (name, value) in object(changes) {
        match value {
            Value::Null => members.remove(&name),
            value => members.insert(name, value),
        };
    }
    members
}

/// RFC 7638 §3.1, and the second key of RFC 7517 Appendix A.1.
fn rfc7638_key() -> Map<String, Value> {
    object(json!({
        "kty": "RSA", "e": "AQAB", "alg": "RS256", "kid": "2011-04-29",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
    }))
}

#[test]
fn rfc7638_3_1_the_thumbprint_of_its_example() {
    let key = Jwk::parse(&rfc7638_key()).unwrap();
    assert_eq!(key.thumbprint().to_string(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
}

#[test]
fn rfc7517_appendix_a_1_its_set_has_one_key_for_signatures() {
    let encryption = json!({
        "kty": "EC", "crv": "P-256", "use": "enc", "kid": "1",
        "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
    });
    let document = json!({ "keys": [encryption, rfc7638_key()] }).to_string();
    let fetched = JwkSet::parse_fetched(document.as_bytes()).unwrap();
    assert_eq!(fetched.iter().map(Jwk::kid).collect::<Vec<_>>(), [Some("2011-04-29")]);
    assert_eq!(JwkSet::parse_registered(document.as_bytes()).unwrap_err(), JwkFault::NotForSignatures);
}

#[test]
fn rfc7517_4_a_key_spoilt_in_one_member_is_refused_for_it() {
    let off_curve = "UI8exy-C06a7DUnjIdENkxeFtHM4-l_41LqEw9nVgnw";
    for (changes, fault) in [
        (json!({ "kty": null }), JwkFault::KtyUnknown),
        (json!({ "kty": "ec" }), JwkFault::KtyUnknown),
        (json!({ "kty": "AKP" }), JwkFault::KtyUnknown),
        (json!({ "kty": 1 }), JwkFault::KtyUnknown),
        (json!({ "kty": "oct" }), JwkFault::Secret),
        (json!({ "kty": "oct", "k": "AAEC" }), JwkFault::Secret),
        (json!({ "kty": "RSA" }), JwkFault::MemberMalformed),
        (json!({ "kty": "OKP" }), JwkFault::CurveUnknown),
        (json!({ "kty": "OKP", "crv": "X25519" }), JwkFault::CurveUnknown),
        (json!({ "kty": "OKP", "crv": "Ed448" }), JwkFault::CurveUnknown),
        (json!({ "crv": null }), JwkFault::CurveUnknown),
        (json!({ "crv": "P-521" }), JwkFault::CurveUnknown),
        (json!({ "crv": "secp256k1" }), JwkFault::CurveUnknown),
        (json!({ "crv": "P-384" }), JwkFault::Key(KeyFault::Length)),
        (json!({ "y": off_curve }), JwkFault::Key(KeyFault::Point)),
        (json!({ "x": null }), JwkFault::MemberMalformed),
        (json!({ "x": 5 }), JwkFault::MemberMalformed),
        (json!({ "x": "04N0xi21hshyvBp7I167sbE_bXqyqkAPfefdklMO7wY=" }), JwkFault::MemberMalformed),
        (json!({ "x": "04N0xi21hshyvBp7I167sbE/bXqyqkAPfefdklMO7wY" }), JwkFault::MemberMalformed),
        (json!({ "x": "04N0xi21hshyvBp7I167sbE_bXqyqkAPfefdklMO7wZ" }), JwkFault::MemberMalformed),
        (json!({ "x": "A04N0xi21hshyvBp7I167sbE_bXqyqkAPfefdklMO7wY" }), JwkFault::Key(KeyFault::Length)),
        (json!({ "use": "enc" }), JwkFault::NotForSignatures),
        (json!({ "use": "SIG" }), JwkFault::NotForSignatures),
        (json!({ "use": ["sig"] }), JwkFault::NotForSignatures),
        (json!({ "key_ops": [] }), JwkFault::NotForSignatures),
        (json!({ "key_ops": ["sign"] }), JwkFault::NotForSignatures),
        (json!({ "key_ops": "verify" }), JwkFault::NotForSignatures),
        (json!({ "alg": "ES384" }), JwkFault::Algorithm),
        (json!({ "alg": "ES521" }), JwkFault::Algorithm),
        (json!({ "alg": "RS256" }), JwkFault::Algorithm),
        (json!({ "alg": "HS256" }), JwkFault::Algorithm),
        (json!({ "alg": "none" }), JwkFault::Algorithm),
        (json!({ "alg": 1 }), JwkFault::Algorithm),
        (json!({ "kid": 1 }), JwkFault::KidMalformed),
        (json!({ "kid": "" }), JwkFault::KidMalformed),
        (json!({ "kid": "a\nb" }), JwkFault::KidMalformed),
        (json!({ "kid": "k".repeat(257) }), JwkFault::KidMalformed),
        (json!({ "d": "yy49oPcINGK2ps0LmtxpB6UTEOiITghHBif6wDqmJ3c" }), JwkFault::Secret),
        (json!({ "p": "AQ" }), JwkFault::Secret),
        (json!({ "k": 0 }), JwkFault::Secret),
        (json!({ "x5c": [] }), JwkFault::CertificateMalformed),
        (json!({ "x5c": "AAAA" }), JwkFault::CertificateMalformed),
        (json!({ "x5c": [1] }), JwkFault::CertificateMalformed),
        (json!({ "x5c": ["AAAA"] }), JwkFault::CertificateMalformed),
    ] {
        let members = spoilt(changes);
        assert_eq!(Jwk::parse(&members).unwrap_err(), fault, "{members:?}");
    }
}

#[test]
fn rfc7517_4_what_is_absent_or_unknown_in_a_key_does_no_harm() {
    for changes in [
        json!({}),
        json!({ "use": null, "alg": null, "kid": null, "key_ops": null }),
        json!({ "key_ops": ["sign", "verify"] }),
        json!({ "x5u": "https://127.0.0.1:1/", "ext": true, "note": { "a": [] } }),
    ] {
        assert!(Jwk::parse(&spoilt(changes)).is_ok());
    }
}

#[test]
fn rfc7518_6_3_1_an_rsa_number_is_written_without_leading_zeros() {
    let with = |name: &str, value: &str| {
        let mut members = rfc7638_key();
        members.insert(name.to_owned(), value.into());
        Jwk::parse(&members).err()
    };
    let n = rfc7638_key()["n"].as_str().unwrap().to_owned();
    let padded = URL_SAFE_NO_PAD.encode([vec![0], URL_SAFE_NO_PAD.decode(&n).unwrap()].concat());
    assert_eq!(with("n", &n), None);
    assert_eq!(with("n", &padded), Some(JwkFault::Key(KeyFault::RsaNotMinimal)));
    assert_eq!(with("e", "AAEAAQ"), Some(JwkFault::Key(KeyFault::RsaNotMinimal)));
    assert_eq!(with("e", "AQ"), Some(JwkFault::Key(KeyFault::RsaExponent)));
    assert_eq!(
        with(
            "n",
            "rJBIp6T1YK-RtPyvYqFFlcucqewSAA_IReSFchE8qyiQrbARqRlXWkB2DR8j_pJQnIpYELbQWZC5Cd0PTGAU8rMbar2AW6zpmBbi7aQf17lUBdt8XI9M9rq7FPVQ1dDdUXm1SVH_9qqWhvMPR422SbfHBEzCAtzK0ANDRo6qz78"
        ),
        Some(JwkFault::Key(KeyFault::RsaLength))
    );
}

mod certificates {
    use super::*;

    fn appendix_a() -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(include_bytes!("../../tests/vectors/rfc8705-appendix-a.pem")).unwrap()
    }

    /// The key of the certificate in RFC 8705 Appendix A, with that certificate.
    fn with_certificate() -> Map<String, Value> {
        let der = appendix_a();
        let point = der.windows(4).position(|bytes| bytes == [0x03, 0x42, 0x00, 0x04]).unwrap() + 4;
        object(json!({
            "kty": "EC", "crv": "P-256",
            "x": URL_SAFE_NO_PAD.encode(&der[point..point + 32]),
            "y": URL_SAFE_NO_PAD.encode(&der[point + 32..point + 64]),
            "x5c": [STANDARD.encode(&der)],
        }))
    }

    #[test]
    fn rfc8705_2_2_2_the_certificate_of_a_registered_key_is_kept() {
        let key = Jwk::parse(&with_certificate()).unwrap();
        assert_eq!(key.certificate(), Some(appendix_a().as_ref()));
        let read_back = Jwk::parse(&object(key.to_json())).unwrap();
        assert_eq!(read_back.certificate(), key.certificate());
    }

    #[test]
    fn rfc7517_4_7_a_certificate_for_another_key_is_refused() {
        let mut other_key = good();
        other_key.insert("x5c".to_owned(), with_certificate()["x5c"].clone());
        assert_eq!(Jwk::parse(&other_key).unwrap_err(), JwkFault::CertificateOther);

        let mut trailing = with_certificate();
        trailing["x5c"] = json!([STANDARD.encode([&appendix_a()[..], &[0]].concat())]);
        assert_eq!(Jwk::parse(&trailing).unwrap_err(), JwkFault::CertificateMalformed);
    }

    #[test]
    fn rfc7517_4_9_a_thumbprint_beside_a_certificate_is_that_certificates() {
        for (x5t, fault) in [
            (Thumbprint::of_der(&appendix_a()).to_string(), None),
            (Thumbprint::of_der(b"other").to_string(), Some(JwkFault::CertificateOther)),
        ] {
            let mut members = with_certificate();
            members.insert("x5t#S256".to_owned(), x5t.into());
            assert_eq!(Jwk::parse(&members).err(), fault);
        }
    }
}

mod sets {
    use super::*;

    fn set(keys: Value) -> Vec<u8> {
        json!({ "keys": keys }).to_string().into_bytes()
    }

    #[test]
    fn rfc7517_5_a_registered_set_with_one_bad_key_is_refused() {
        let many = vec![good(); MAX_KEYS + 1];
        for (document, fault) in [
            (b"[]".to_vec(), JwkFault::Json(JsonFault::NotAnObject)),
            (b"{\"keys\":[],\"keys\":[]}".to_vec(), JwkFault::Json(JsonFault::DuplicateMember)),
            (b"{}".to_vec(), JwkFault::NotASet),
            (set(json!({})), JwkFault::NotASet),
            (set(json!([1])), JwkFault::NotASet),
            (set(json!([])), JwkFault::Empty),
            (set(json!(many)), JwkFault::TooMany),
            (set(json!([good(), spoilt(json!({ "d": "AQ" }))])), JwkFault::Secret),
            (set(json!([good(), { "kty": "oct", "k": "AAEC" }])), JwkFault::Secret),
            (set(json!([good(), spoilt(json!({ "kty": "AKP" }))])), JwkFault::KtyUnknown),
        ] {
            assert_eq!(
                JwkSet::parse_registered(&document).unwrap_err(),
                fault,
                "{}",
                String::from_utf8_lossy(&document)
            );
        }
        assert_eq!(JwkSet::parse_registered(&set(json!([good(), rfc7638_key()]))).unwrap().len(), 2);
    }

    #[test]
    fn rfc7517_5_of_a_fetched_set_the_usable_keys_are_used() {
        let document = set(json!([
            { "kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA" },
            { "kty": "oct", "k": "AAEC", "kid": "k" },
            spoilt(json!({ "d": "AQ" })),
            spoilt(json!({ "use": "enc" })),
            "a key?",
            good(),
        ]));
        assert_eq!(JwkSet::parse_fetched(&document).unwrap().len(), 1);
        assert!(JwkSet::parse_fetched(&set(json!([]))).unwrap().is_empty());
        assert_eq!(JwkSet::parse_fetched(&set(json!(vec![good(); MAX_KEYS + 1]))).unwrap_err(), JwkFault::TooMany);
        assert_eq!(JwkSet::parse_fetched(b"<html>").unwrap_err(), JwkFault::Json(JsonFault::Syntax));
    }

    fn verify(keys: &JwkSet, header: Value, signer: &SigningKey, allowed: Algorithms) -> Result<(), JwsFault> {
        keys.verify(&Parsed::parse(&compact(header.to_string(), "{}", signer)).unwrap(), allowed)
    }

    #[test]
    fn fapi_5_4_3_one_kid_for_two_keys_is_told_apart_by_the_algorithm() {
        let (ec, rsa) = (key(Algorithm::Es256), key(Algorithm::Ps256));
        let keys = JwkSet::new(vec![rsa.public_jwk("k"), ec.public_jwk("k")]);
        for signer in [ec, rsa] {
            let header = json!({ "alg": signer.algorithm().as_str(), "kid": "k" });
            assert_eq!(verify(&keys, header, signer, Algorithms::DEFAULT), Ok(()));
        }
    }

    #[test]
    fn rfc7515_6_without_a_kid_the_suitable_keys_are_tried_and_not_many() {
        let signer = key(Algorithm::Es256);
        let other = SigningKey::generate(Algorithm::Es256).unwrap().public_jwk("other");
        let set = |others: usize| {
            let mut keys = vec![other.clone(); others];
            keys.insert(0, key(Algorithm::EdDsa).public_jwk("another kind"));
            keys.push(signer.public_jwk("k"));
            JwkSet::new(keys)
        };
        for (others, outcome) in [
            (0, Ok(())),
            (MAX_CANDIDATES - 1, Ok(())),
            (MAX_CANDIDATES, Err(JwsFault::SignatureWrong)),
            (1000, Err(JwsFault::SignatureWrong)),
        ] {
            assert_eq!(
                verify(&set(others), json!({ "alg": "ES256" }), signer, Algorithms::DEFAULT),
                outcome,
                "{others}"
            );
            let named = json!({ "alg": "ES256", "kid": "k" });
            assert_eq!(verify(&set(others), named, signer, Algorithms::DEFAULT), Ok(()), "{others}");
        }
    }

    #[test]
    fn rfc8725_3_1_the_allowed_algorithms_are_the_callers() {
        let keys = JwkSet::new(vec![key(Algorithm::Es256).public_jwk("e"), key(Algorithm::Ps256).public_jwk("p")]);
        let es256 = || json!({ "alg": "ES256", "kid": "e" });
        let only_ps256 = Algorithms::of(&[Algorithm::Ps256]);
        let outcome = verify(&keys, es256(), key(Algorithm::Es256), only_ps256);
        assert_eq!(outcome, Err(JwsFault::AlgorithmNotAllowed));
        let rs256 = json!({ "alg": "RS256", "kid": "p" });
        assert_eq!(verify(&keys, rs256, key(Algorithm::Rs256), Algorithms::FAPI2), Err(JwsFault::AlgorithmNotAllowed));
    }

    #[test]
    fn rfc8725bis_3_1_one_key_one_algorithm() {
        let pinned = key(Algorithm::Ps256).public_jwk("k");
        let mut open = object(pinned.to_json());
        open.remove("alg");
        let rs256 = || json!({ "alg": "RS256", "kid": "k" });
        let signer = key(Algorithm::Rs256);
        assert_eq!(verify(&JwkSet::new(vec![pinned]), rs256(), signer, Algorithms::DEFAULT), Err(JwsFault::KeyUnknown));

        let open = JwkSet::new(vec![Jwk::parse(&open).unwrap()]);
        let registered = Algorithms::of(&[Algorithm::Ps256]);
        assert_eq!(verify(&open, rs256(), signer, registered), Err(JwsFault::AlgorithmNotAllowed));
        assert_eq!(verify(&open, rs256(), signer, Algorithms::DEFAULT), Ok(()));
    }

    #[test]
    fn rfc7523_3_a_key_of_somebody_else_does_not_sign_for_this_client() {
        let keys = JwkSet::new(vec![key(Algorithm::Es256).public_jwk("k")]);
        let thief = SigningKey::generate(Algorithm::Es256).unwrap();
        for (kid, fault) in [("k", JwsFault::SignatureWrong), ("theirs", JwsFault::KeyUnknown)] {
            let header = json!({ "alg": "ES256", "kid": kid });
            assert_eq!(verify(&keys, header, &thief, Algorithms::DEFAULT), Err(fault));
        }
        assert!(keys.has_kid("k") && !keys.has_kid("K") && !keys.has_kid("../k"));
    }
}

#[test]
fn rfc7517_4_a_key_of_ours_is_published_without_its_private_half_and_read_back() {
    for algorithm in Algorithm::ALL {
        let published = key(algorithm).public_jwk("k").to_json();
        assert!(SECRET_MEMBERS.iter().all(|name| published.get(name).is_none()));
        assert_eq!((&published["use"], &published["kid"]), (&json!("sig"), &json!("k")));
        let set = JwkSet::new(vec![key(algorithm).public_jwk("k")]).to_json().to_string();
        let read = JwkSet::parse_registered(set.as_bytes()).unwrap();
        assert_eq!(read.iter().next().unwrap().key(), &key(algorithm).public());
        assert_eq!(read.iter().next().unwrap().alg(), Some(algorithm));
    }
}

proptest! {
    #[test]
    fn parsing_never_panics(
        name in "kty|crv|x|y|n|e|use|alg|kid|key_ops|x5c|x5t#S256",
        text in "[A-Za-z0-9_+/=-]{0,90}|.{0,20}",
    ) {
        let _ = Jwk::parse(&spoilt(json!({ name.as_str(): text })));
        let _ = Jwk::parse(&spoilt(json!({ name: [text] })));
    }

    #[test]
    fn parsing_a_set_never_panics(document in proptest::collection::vec(any::<u8>(), 0..128)) {
        let _ = JwkSet::parse_registered(&document);
        let _ = JwkSet::parse_fetched(&document);
    }
}
