use super::*;

const PAYLOAD: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

fn es256_key() -> Jwk {
    jwk(json!({
        "kty": "EC", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    }))
}

fn rs256_key() -> Jwk {
    jwk(json!({
        "kty": "RSA", "e": "AQAB",
        "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    }))
}

#[test]
fn rfc7515_appendix_a_2_rs256() {
    let token = format!(
        "eyJhbGciOiJSUzI1NiJ9.{PAYLOAD}.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
    );
    let parsed = Parsed::parse(&token).unwrap();
    assert_eq!(parsed.header, Header { alg: Algorithm::Rs256, kid: None, typ: None });
    assert_eq!(parsed.verify(rs256_key().key()), Ok(()));
    assert_eq!(parsed.verify(es256_key().key()), Err(JwsFault::AlgorithmForeign));
    assert_eq!(parsed.claims().unwrap()["iss"], "joe");
}

#[test]
fn rfc7515_appendix_a_3_es256() {
    let token = format!(
        "eyJhbGciOiJFUzI1NiJ9.{PAYLOAD}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
    );
    let parsed = Parsed::parse(&token).unwrap();
    assert_eq!(parsed.verify(es256_key().key()), Ok(()));
    assert_eq!(parsed.payload(), unb64(PAYLOAD));
    assert_eq!(parsed.verify(key(Algorithm::Es256).public_jwk("k").key()), Err(JwsFault::SignatureWrong));
}

#[test]
fn rfc7515_appendix_a_1_a_4_a_5_hs256_es512_and_none_are_not_done_here() {
    let hs256 =
        format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{PAYLOAD}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    let es512 = format!("eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.{}", b64([1; 132]));
    let none = format!("eyJhbGciOiJub25lIn0.{PAYLOAD}.");
    for token in [hs256, es512, none] {
        assert_eq!(Parsed::parse(&token).unwrap_err(), JwsFault::AlgorithmUnknown, "{token}");
    }
}

#[test]
fn rfc8037_appendix_a_ed25519_thumbprint_signature_and_validation() {
    let public = jwk(json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }));
    assert_eq!(public.thumbprint().to_string(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");

    let input = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let seed = unb64("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A");
    let pkcs8 = [&b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20"[..], &seed].concat();
    let private = SigningKey::from_pkcs8_der(&pkcs8, Algorithm::EdDsa).unwrap();
    assert_eq!(private.public(), *public.key());
    assert_eq!(b64(private.sign(input.as_bytes()).unwrap()), signature);

    let token = format!("{input}.{signature}");
    let parsed = Parsed::parse(&token).unwrap();
    assert_eq!(parsed.verify(public.key()), Ok(()));
    assert_eq!(parsed.payload(), b"Example of Ed25519 signing");
    assert_eq!(parsed.claims(), Err(JsonFault::Syntax));
}

#[test]
fn rfc8410_10_3_an_ed25519_key_as_openssl_writes_it() {
    let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
    let key = SigningKey::from_pkcs8_pem(pem, None).unwrap();
    assert_eq!(key.algorithm(), Algorithm::EdDsa);
    let public = STANDARD.encode(key.public().spki_der().unwrap());
    assert_eq!(public, "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=");
}
