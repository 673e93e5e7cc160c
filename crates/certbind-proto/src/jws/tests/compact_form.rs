use super::*;

fn good() -> String {
    compact(r#"{"alg":"ES256","kid":"k"}"#, "{}", key(Algorithm::Es256))
}

#[test]
fn rfc7515_7_1_three_parts_of_canonical_base64url() {
    let good = good();
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else { unreachable!() };
    let json = format!(r#"{{"payload":"{payload}","protected":"{header}","signature":"{signature}"}}"#);
    for (token, fault) in [
        (String::new(), JwsFault::NotThreeParts),
        ("Zm9v".to_owned(), JwsFault::NotThreeParts),
        (format!("{header}.{payload}"), JwsFault::NotThreeParts),
        (format!("{payload}.{signature}"), JwsFault::NotThreeParts),
        (format!("{good}."), JwsFault::NotThreeParts),
        (format!(".{good}"), JwsFault::NotThreeParts),
        (format!("{good}.Zm9v"), JwsFault::NotThreeParts),
        (format!("{good}.."), JwsFault::NotThreeParts),
        (json, JwsFault::NotThreeParts),
        (format!(".{payload}.{signature}"), JwsFault::Header(JsonFault::Syntax)),
        ("..".to_owned(), JwsFault::Header(JsonFault::Syntax)),
        (format!(" {good}"), JwsFault::NotBase64url),
        (format!("\"{good}\""), JwsFault::NotBase64url),
        (format!("{good}="), JwsFault::NotBase64url),
        (format!("{good}\n"), JwsFault::NotBase64url),
        (format!("{header}=.{payload}.{signature}"), JwsFault::NotBase64url),
        (format!("{header}.{payload}==.{signature}"), JwsFault::NotBase64url),
        (format!("{header}.e+==.{signature}"), JwsFault::NotBase64url),
        (format!("{header}.e/8.{signature}"), JwsFault::NotBase64url),
        (format!("{header}.{payload}.é"), JwsFault::NotBase64url),
    ] {
        assert_eq!(Parsed::parse(&token).unwrap_err(), fault, "{token:?}");
    }
}

#[test]
fn rfc4648_3_5_a_second_spelling_of_the_same_octets_is_refused() {
    let good = good();
    let (rest, last) = good.split_at(good.len() - 1);
    // 64 octets leave 4 unused bits in the last character: A, Q, g or w, and 15 other spellings of each.
    let spellings = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".split_inclusive(|_: char| true);
    let accepted: Vec<_> =
        spellings.filter(|c| verify(&format!("{rest}{c}"), &set_of(key(Algorithm::Es256))).is_ok()).collect();
    assert_eq!(accepted, [last]);
}

#[test]
fn rfc7515_4_the_header_is_one_utf8_json_object_without_duplicates() {
    let utf16: Vec<u8> = r#"{"alg":"ES256"}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (header, fault) in [
        (&b"[]"[..], JsonFault::NotAnObject),
        (b"null", JsonFault::NotAnObject),
        (b"\"ES256\"", JsonFault::NotAnObject),
        (b"", JsonFault::Syntax),
        (b"{\"alg\":\"ES256\"}x", JsonFault::Syntax),
        (b"\xef\xbb\xbf{\"alg\":\"ES256\"}", JsonFault::Syntax),
        (b"{\"alg\":\"ES256\",\"x\":\"\xff\"}", JsonFault::Syntax),
        (&utf16, JsonFault::Syntax),
        (br#"{"alg":"ES256","alg":"ES256"}"#, JsonFault::DuplicateMember),
        (br#"{"alg":"ES256","\u0061lg":"none"}"#, JsonFault::DuplicateMember),
        (br#"{"alg":"ES256","x":{"y":1,"y":1}}"#, JsonFault::DuplicateMember),
    ] {
        let token = compact(header, "{}", key(Algorithm::Es256));
        assert_eq!(Parsed::parse(&token).unwrap_err(), JwsFault::Header(fault), "{}", String::from_utf8_lossy(header));
    }
}

#[test]
fn rfc7515_4_1_a_header_parameter_that_changes_the_meaning_is_refused() {
    let long_kid = format!(r#"{{"alg":"ES256","kid":"{}"}}"#, "k".repeat(MAX_KID + 1));
    for (header, fault) in [
        (r"{}", JwsFault::AlgorithmMissing),
        (r#"{"alg":1}"#, JwsFault::AlgorithmMissing),
        (r#"{"alg":null}"#, JwsFault::AlgorithmMissing),
        (r#"{"alg":["ES256"]}"#, JwsFault::AlgorithmMissing),
        (r#"{"ALG":"ES256"}"#, JwsFault::AlgorithmMissing),
        (r#"{"alg":"es256"}"#, JwsFault::AlgorithmUnknown),
        (r#"{"alg":"none"}"#, JwsFault::AlgorithmUnknown),
        (r#"{"alg":"None"}"#, JwsFault::AlgorithmUnknown),
        (r#"{"alg":"nOnE"}"#, JwsFault::AlgorithmUnknown),
        (r#"{"alg":"NONE"}"#, JwsFault::AlgorithmUnknown),
        (r#"{"alg":""}"#, JwsFault::AlgorithmUnknown),
        (r#"{"alg":"HS256"}"#, JwsFault::AlgorithmUnknown),
        (r#"{"alg":"Ed448"}"#, JwsFault::AlgorithmUnknown),
        (r#"{"alg":"ES256","crit":["b64"],"b64":false}"#, JwsFault::Critical),
        (r#"{"alg":"ES256","crit":["x"],"x":1}"#, JwsFault::Critical),
        (r#"{"alg":"ES256","crit":["x"]}"#, JwsFault::Critical),
        (r#"{"alg":"ES256","crit":["x","x"],"x":1}"#, JwsFault::Critical),
        (r#"{"alg":"ES256","crit":["alg"]}"#, JwsFault::Critical),
        (r#"{"alg":"ES256","crit":[]}"#, JwsFault::Critical),
        (r#"{"alg":"ES256","crit":"x"}"#, JwsFault::Critical),
        (r#"{"alg":"ES256","crit":null}"#, JwsFault::Critical),
        (r#"{"alg":"ES256","b64":false}"#, JwsFault::Unencoded),
        (r#"{"alg":"ES256","zip":"DEF"}"#, JwsFault::Compressed),
        (r#"{"alg":"ES256","cty":"JWT"}"#, JwsFault::Nested),
        (r#"{"alg":"ES256","cty":"application/jwt"}"#, JwsFault::Nested),
        (r#"{"alg":"ES256","typ":1}"#, JwsFault::TypMalformed),
        (r#"{"alg":"ES256","typ":null}"#, JwsFault::TypMalformed),
        (r#"{"alg":"ES256","kid":1}"#, JwsFault::KidMalformed),
        (r#"{"alg":"ES256","kid":null}"#, JwsFault::KidMalformed),
        (r#"{"alg":"ES256","kid":""}"#, JwsFault::KidMalformed),
        (r#"{"alg":"ES256","kid":"a\u0000b"}"#, JwsFault::KidMalformed),
        (r#"{"alg":"ES256","kid":"a\r\nb"}"#, JwsFault::KidMalformed),
        (&long_kid, JwsFault::KidMalformed),
    ] {
        let token = compact(header, "{}", key(Algorithm::Es256));
        assert_eq!(Parsed::parse(&token).unwrap_err(), fault, "{header}");
    }
}

#[test]
fn rfc7515_4_an_unknown_header_parameter_is_ignored() {
    for header in [
        r#"{"alg":"ES256","x":1}"#,
        r#"{"alg":"ES256","cty":"text/plain"}"#,
        r#"{"alg":"ES256","x5t":"abc","iss":{"deep":[1]}}"#,
    ] {
        let token = compact(header, "{}", key(Algorithm::Es256));
        assert_eq!(verify(&token, &set_of(key(Algorithm::Es256))), Ok(()), "{header}");
    }
}

#[test]
fn rfc7519_5_sizes_are_capped_before_anything_is_decoded() {
    let signer = key(Algorithm::Es256);
    let pad = |length: usize| format!(r#"{{"alg":"ES256","x":"{}"}}"#, "x".repeat(length));
    assert!(Parsed::parse(&compact(pad(3000), "{}", signer)).is_ok());
    assert_eq!(Parsed::parse(&compact(pad(3100), "{}", signer)).unwrap_err(), JwsFault::HeaderTooLong);
    assert!(Parsed::parse(&compact(pad(0), vec![b' '; 12_000], signer)).is_ok());
    for token in [compact(pad(0), vec![b' '; 12_300], signer), "a".repeat(1 << 20), ".".repeat(1_000_000)] {
        assert_eq!(Parsed::parse(&token).unwrap_err(), JwsFault::TooLong);
    }
}
