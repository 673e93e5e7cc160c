use super::*;

fn rsa_modulus() -> Vec<u8> {
    let members = key(Algorithm::Rs256).public().jwk_members();
    unb64(&members.iter().find(|(name, _)| *name == "n").unwrap().1)
}

#[test]
fn rfc7518_3_3_an_rsa_key_has_2048_to_8192_bits_and_a_sound_exponent() {
    let n = rsa_modulus();
    let odd = |octets: usize| [vec![0xb5; octets - 1], vec![0x4f]].concat();
    let with_zero = [&[0][..], &n].concat();
    let even = [&n[..255], &[n[255] ^ 1]].concat();
    let short = [&[0x7f][..], &n[1..]].concat();
    for (n, e, fault) in [
        (&odd(128)[..], &[1, 0, 1][..], KeyFault::RsaLength),
        (&short, &[1, 0, 1], KeyFault::RsaLength),
        (&odd(1025), &[1, 0, 1], KeyFault::RsaLength),
        (&odd(4096), &[1, 0, 1], KeyFault::RsaLength),
        (&[], &[1, 0, 1], KeyFault::RsaNotMinimal),
        (&n, &[], KeyFault::RsaNotMinimal),
        (&with_zero, &[1, 0, 1], KeyFault::RsaNotMinimal),
        (&n, &[0, 1, 0, 1], KeyFault::RsaNotMinimal),
        (&n, &[0], KeyFault::RsaNotMinimal),
        (&n, &[1], KeyFault::RsaExponent),
        (&n, &[2], KeyFault::RsaExponent),
        (&n, &[1, 0, 0], KeyFault::RsaExponent),
        (&n, &[2, 0, 0, 0, 1], KeyFault::RsaExponent),
        (&n, &n, KeyFault::RsaExponent),
        (&even, &[1, 0, 1], KeyFault::RsaWeak),
        (&[0xff; 256], &[1, 0, 1], KeyFault::RsaWeak),
    ] {
        assert_eq!(VerifyingKey::rsa(n, e).unwrap_err(), fault, "{} bytes, {e:x?}", n.len());
    }
    for e in [&[3][..], &[1, 0, 1], &[1, 0, 0, 0, 1]] {
        assert!(VerifyingKey::rsa(&n, e).is_ok(), "{e:x?}");
    }
}

#[test]
fn cve_2017_15361_a_modulus_with_the_roca_fingerprint_is_refused() {
    let n = unb64(
        "AanFpofbj7KjD4Lf-N2hVMKR7yewSyXhhbirIMTGpfYEhZ_lnt5UoK98DnKIgArXGTu3MaW_HhFw16HGaTDUHqPrId7fe4r11CqRw09yBFuW79V8sYIwHdzCaWflUI6auImYbVfoN9_nD5n8N8SY9DwXw7mwZM9wREPXoDPgOoIWl6q_MPsp7n0zs3Z5ZaiQWOOzl1S9OhwAfSiiOwz6efnXEaxuTEtPd7BjSx7NaFka8Dx9U7YqXy2RFj1O9PjyaDGuRh7YXsX3iMUSP_wSyHQg_c_qHRtKUsNSGCT7OZg0hzm2KphtjnayKJvC64vAbROBR4Ubg6Bxg9IQVZ-QYyE",
    );
    assert_eq!(VerifyingKey::rsa(&n, &[1, 0, 1]).unwrap_err(), KeyFault::RsaWeak);
    let (last, rest) = n.split_last().unwrap();
    let neighbours = (2..=254).step_by(2).map(|step| [rest, &[last.wrapping_add(step)]].concat());
    assert!(neighbours.into_iter().any(|n| VerifyingKey::rsa(&n, &[1, 0, 1]).is_ok()), "a neighbour has not");
}

#[test]
fn rfc8725_3_4_a_point_off_its_curve_is_refused() {
    let members = key(Algorithm::Es256).public().jwk_members();
    let (x, mut y) = (unb64(&members[2].1), unb64(&members[3].1));
    assert!(VerifyingKey::p256(&x, &y).is_ok());
    assert_eq!(VerifyingKey::p256(&x[1..], &y).unwrap_err(), KeyFault::Length);
    assert_eq!(VerifyingKey::p256(&x, &[&[0], &y[..]].concat()).unwrap_err(), KeyFault::Length);
    assert_eq!(VerifyingKey::p384(&x, &y).unwrap_err(), KeyFault::Length);
    y[31] ^= 1;
    assert_eq!(VerifyingKey::p256(&x, &y).unwrap_err(), KeyFault::Point);
    for (x, y) in [([0; 32], [0; 32]), ([0xff; 32], [0xff; 32])] {
        assert_eq!(VerifyingKey::p256(&x, &y).unwrap_err(), KeyFault::Point);
    }
    assert_eq!(VerifyingKey::p384(&[0; 48], &[0; 48]).unwrap_err(), KeyFault::Point);
}

#[test]
fn rfc8037_2_an_ed25519_key_is_32_octets_of_a_point_of_large_order() {
    let mut off_curve = [0; 32];
    off_curve[0] = 2;
    for (point, fault) in [
        (&[0; 31][..], KeyFault::Length),
        (&[0; 33], KeyFault::Length),
        (&[], KeyFault::Length),
        (&[0; 32], KeyFault::Point),
        (&off_curve, KeyFault::Point),
    ] {
        assert_eq!(VerifyingKey::ed25519(point).unwrap_err(), fault);
    }
    for _ in 0..32 {
        assert!(SigningKey::generate(Algorithm::EdDsa).is_ok());
    }
}

#[test]
fn a_private_key_is_read_by_what_it_is_and_refused_as_another() {
    let pem = |key: &SigningKey| {
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(&*key.to_pkcs8_der()))
    };
    for algorithm in Algorithm::ALL {
        let text = pem(key(algorithm));
        let guessed = SigningKey::from_pkcs8_pem(&text, None).unwrap();
        let is_rsa = key(algorithm).public().key_type() == KeyType::Rsa;
        assert_eq!(guessed.algorithm(), if is_rsa { Algorithm::Ps256 } else { algorithm });
        for asked in Algorithm::ALL {
            let fits = key(algorithm).public().key_type().algorithms().contains(asked);
            assert_eq!(SigningKey::from_pkcs8_pem(&text, Some(asked)).is_ok(), fits, "{algorithm} as {asked}");
        }
    }
    assert_eq!(SigningKey::from_pkcs8_pem("", None).unwrap_err(), SigningKeyFault::NotPem);
    assert_eq!(SigningKey::from_pkcs8_der(&[], Algorithm::Es256).unwrap_err(), SigningKeyFault::NotThisKey);
}

#[test]
fn neither_a_private_key_nor_a_token_prints() {
    let signer = Signer::new(owned(Algorithm::Es256), "JWT", None);
    let token = signer.sign_claims(&json!({ "jti": "hush" })).unwrap();
    let parsed = Parsed::parse(&token).unwrap();
    parsed.claims().unwrap();
    for shown in [format!("{signer:?}"), format!("{parsed:?}")] {
        assert!(shown.contains("[redacted]") && !shown.contains("hush"), "{shown}");
    }
}
