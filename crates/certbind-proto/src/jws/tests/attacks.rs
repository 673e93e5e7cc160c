use super::*;

#[test]
fn cve_2015_9235_a_public_key_is_no_hmac_secret_in_any_encoding() {
    for algorithm in [Algorithm::Es256, Algorithm::Rs256, Algorithm::EdDsa] {
        let public = key(algorithm).public();
        let spki = public.spki_der().unwrap();
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(&spki));
        let jwk = key(algorithm).public_jwk("k").to_json();
        let numbers: Vec<Vec<u8>> =
            public.jwk_members().iter().filter_map(|(_, v)| URL_SAFE_NO_PAD.decode(v).ok()).collect();
        let encodings = [spki, pem.into_bytes(), jwk.to_string().into_bytes(), numbers.concat(), numbers[0].clone()];
        for (secret, header) in encodings.iter().flat_map(|secret| {
            ["HS256", "hs256", "HS256 "].map(|alg| (secret, format!(r#"{{"alg":"{alg}","kid":"k"}}"#)))
        }) {
            let input = format!("{}.{}", b64(header), b64("{}"));
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), input.as_bytes());
            let token = format!("{input}.{}", b64(tag));
            assert_eq!(verify(&token, &set_of(key(algorithm))), Err(JwsFault::AlgorithmUnknown));
        }
    }
}

#[test]
fn cve_2015_2951_a_token_without_signature_is_refused_whatever_alg_says() {
    for alg in ["none", "None", "nOnE", "NONE", "none ", "", "ES256", "PS256", "RS256", "EdDSA", "Ed25519"] {
        for signature in ["", "AA", "AAAA"] {
            let token = format!("{}.{}.{signature}", b64(format!(r#"{{"alg":"{alg}"}}"#)), b64("{}"));
            for algorithm in Algorithm::ALL {
                assert!(verify(&token, &set_of(key(algorithm))).is_err(), "{alg} {algorithm}");
            }
        }
    }
}

#[test]
fn cve_2018_0114_a_key_inside_the_token_is_never_used() {
    let thief = SigningKey::generate(Algorithm::Es256).unwrap();
    let mut embedded = thief.public_jwk("k").to_json();
    for (name, value) in [
        ("jwk", embedded.take()),
        ("jku", json!("https://127.0.0.1:1/jwks.json")),
        ("x5u", json!("https://127.0.0.1:1/cert.pem")),
        ("x5c", json!([STANDARD.encode(thief.public().spki_der().unwrap())])),
    ] {
        let header = json!({ "alg": "ES256", "kid": "k", name: value });
        let token = compact(header.to_string(), "{}", &thief);
        assert_eq!(verify(&token, &set_of(key(Algorithm::Es256))), Err(JwsFault::SignatureWrong), "{name}");
    }
}

#[test]
fn rfc7515_4_1_4_a_kid_is_compared_and_never_followed() {
    for kid in ["../../dev/null", "' OR 1=1 --", "https://127.0.0.1:1/", "K", "k ", "${jndi:ldap://x}"] {
        let token = compact(json!({ "alg": "ES256", "kid": kid }).to_string(), "{}", key(Algorithm::Es256));
        assert_eq!(verify(&token, &set_of(key(Algorithm::Es256))), Err(JwsFault::KeyUnknown), "{kid}");
    }
}

#[test]
fn cve_2023_51774_an_encrypted_token_is_not_taken_for_a_signed_one() {
    let header = b64(r#"{"alg":"PBES2-HS256+A128KW","enc":"A128GCM","p2c":2147483647,"p2s":"AAAA"}"#);
    let started = std::time::Instant::now();
    assert_eq!(Parsed::parse(&format!("{header}.AAAA.AAAA.AAAA.AAAA")).unwrap_err(), JwsFault::NotThreeParts);
    assert_eq!(Parsed::parse(&format!("{header}.AAAA.AAAA")).unwrap_err(), JwsFault::AlgorithmUnknown);
    assert!(started.elapsed().as_millis() < 100);
}

#[test]
fn cve_2022_21449_r_and_s_of_zero_or_beyond_the_order_are_refused() {
    let order = unb64("_____wAAAAD__________7zm-q2nF56E87nKwvxjJVE");
    let values = [vec![0; 32], [vec![0; 31], vec![1]].concat(), order, vec![0xff; 32]];
    for (r, s) in values.iter().flat_map(|r| values.iter().map(move |s| (r, s))) {
        let outcome = key(Algorithm::Es256).public().verify(Algorithm::Es256, b"m", &[r.as_slice(), s].concat());
        assert_eq!(outcome, Err(JwsFault::SignatureWrong));
    }
}

#[test]
fn rfc7518_3_4_an_ecdsa_signature_is_exactly_r_and_s() {
    let public = key(Algorithm::Es256).public();
    let good = key(Algorithm::Es256).sign(b"m").unwrap();
    let integer = |half: &[u8]| [&[2, 33, 0], half].concat();
    let der = [&[0x30, 70][..], &integer(&good[..32]), &integer(&good[32..])].concat();
    let longer = [&good[..], &[0]].concat();
    assert_eq!(public.verify(Algorithm::Es256, b"m", &good), Ok(()));
    for bad in [&der[..], &good[..63], &longer, &[]] {
        assert_eq!(public.verify(Algorithm::Es256, b"m", bad), Err(JwsFault::SignatureWrong), "{}", bad.len());
    }
}

#[test]
fn rfc8725_3_1_a_key_checks_only_the_algorithms_of_its_kind() {
    for made_with in Algorithm::ALL {
        let signature = key(made_with).sign(b"m").unwrap();
        for claimed in Algorithm::ALL {
            let outcome = key(made_with).public().verify(claimed, b"m", &signature);
            let same_kind = key(made_with).public().key_type().algorithms().contains(claimed);
            match (claimed == made_with, same_kind) {
                (true, _) => assert_eq!(outcome, Ok(())),
                (false, true) => assert_eq!(outcome, Err(JwsFault::SignatureWrong), "{made_with} {claimed}"),
                (false, false) => assert_eq!(outcome, Err(JwsFault::AlgorithmForeign), "{made_with} {claimed}"),
            }
        }
    }
}
