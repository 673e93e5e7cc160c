//! Cases about the token as a signature: its form, its header, its algorithm, the signature (RFC 7515; RFC 8725 §3).

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use certbind_proto::jws::Algorithm;
use serde_json::{Value, json};

use super::case::{Case, case};
use super::keys::{BILLING, Key};

pub(super) const ABOUT: &str =
    "The token as a compact signature: form, header, algorithm, key by kid, signature (RFC 7515; RFC 8725 §3).";

pub(super) fn cases() -> Vec<Case> {
    let parts: [fn() -> Vec<Case>; 8] = [algorithms, forms, headers, types, kids, own_keys, no_signature, signatures];
    parts.into_iter().flat_map(|part| part()).collect()
}

fn algorithms() -> Vec<Case> {
    let fapi = json!(["EdDSA", "ES256", "PS256"]);
    let each = Algorithm::ALL.into_iter().flat_map(|algorithm| {
        let good = case(format!("signed with {algorithm}"), "RFC 8725 §3.1").signed_by(Key::Of(algorithm));
        let allowed = ["EdDSA", "ES256", "PS256"].contains(&algorithm.as_str());
        let narrow = case(format!("signed with {algorithm} where FAPI 2.0 rules"), "FAPI 2.0 §5.4.1")
            .signed_by(Key::Of(algorithm))
            .with_in("settings", "algorithms", fapi.clone());
        [good, narrow.ends(if allowed { "accepted" } else { "alg_not_allowed" })]
    });
    let mut cases: Vec<_> = each.collect();
    for alg in
        ["none", "None", "nOnE", "", "eddsa", "EdDSA ", "Ed448", "RS384", "ES512", "ES256K", "HS256", "RSA1_5", "dir"]
    {
        cases.push(case(format!("alg \"{alg}\""), "RFC 8725 §3.1, §3.2").header("alg", alg).ends("alg_not_allowed"));
    }
    for (name, alg) in [("a number", json!(1)), ("null", Value::Null), ("a list", json!(["EdDSA"]))] {
        cases.push(case(format!("alg is {name}"), "RFC 7515 §4.1.1").header("alg", alg).ends("token_malformed"));
    }
    let foreign = |name: &str, kid: &str, alg: &str| case(name, "RFC 8725 §3.1").header("kid", kid).header("alg", alg);
    let published = json!({ "keys": [without(Key::Of(Algorithm::Rs256).jwk(), "alg")] });
    cases.extend([
        case("Ed25519, the newer name of EdDSA", "RFC 9864 §2.2").header("alg", "Ed25519"),
        case("no alg", "RFC 7515 §4.1.1").without_header("alg").ends("token_malformed"),
        foreign("the kid of a key for another algorithm", "es256", "EdDSA").ends("key_unknown"),
        foreign("the algorithm of another key", "eddsa", "ES256").ends("key_unknown"),
        case("PS256 by the kid of the same RSA key for RS256", "RFC 8725 §3.1")
            .signed_by(Key::Of(Algorithm::Ps256))
            .header("kid", "rs256")
            .ends("key_unknown"),
        case("RS256 called PS256, by an RSA key without alg", "RFC 8725 §3.1")
            .signed_by(Key::Of(Algorithm::Rs256))
            .header("alg", "PS256")
            .with("jwks", published.clone())
            .ends("token_signature"),
        case("PS256 by an RSA key without alg", "RFC 7517 §4.4")
            .signed_by(Key::Of(Algorithm::Ps256))
            .header("kid", "rs256")
            .with("jwks", published),
    ]);
    cases
}

fn without(mut jwk: Value, member: &str) -> Value {
    jwk.as_object_mut().unwrap().remove(member);
    jwk
}

fn forms() -> Vec<Case> {
    let form = |name: &'static str, change: fn(&str, &str, &str) -> String| {
        let change = move |token: &str| {
            let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
            change(header, payload, signature)
        };
        case(name, "RFC 7515 §2, §7.1").token(change).ends("token_malformed")
    };
    let mut cases = vec![
        form("no dot", |h, _, _| h.to_owned()),
        form("two parts", |h, p, _| format!("{h}.{p}")),
        form("four parts", |h, p, s| format!("{h}.{p}.{s}.")),
        form("five parts, as an encrypted token has", |h, p, s| format!("{h}.{p}.{s}.{p}.{s}")),
        form("an empty header", |_, p, s| format!(".{p}.{s}")),
        form("an empty payload", |h, _, s| format!("{h}..{s}")).ends("token_signature"),
        form("padding behind the signature", |h, p, s| format!("{h}.{p}.{s}=")),
        form("two padding characters behind the signature", |h, p, s| format!("{h}.{p}.{s}==")),
        form("padding inside", |h, p, s| format!("{h}=.{p}.{s}")).ends("400 token_malformed"),
        form("a character of the other alphabet in the signature", |h, p, s| format!("{h}.{p}.+{}", &s[1..])),
        form("a slash in the header", |h, p, s| format!("{}/.{p}.{s}", &h[..h.len() - 1])),
        form("a tilde in the payload", |h, p, s| format!("{h}.~{}.{s}", &p[1..])),
        form("a single character too many", |h, p, s| format!("{h}.{p}.{s}AAA")),
        form("stray bits in the last character of the signature", |h, p, s| format!("{h}.{p}.{}", stray(s))),
        form("stray bits in the last character of the header", |h, p, s| format!("{}.{p}.{s}", stray(h))),
    ];
    // Blanks behind the object make a payload whose last character has unused bits.
    let padded = |good: &str| format!("{good}{}", " ".repeat((5 - good.len() % 3) % 3));
    let stray_payload =
        form("stray bits in the last character of the payload", |h, p, s| format!("{h}.{}.{s}", stray(p)));
    cases.push(stray_payload.payload_from(padded));
    cases
}

/// The same octets in a second spelling: one of the unused bits of the last character is set (RFC 4648 §3.5).
fn stray(part: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    assert_ne!(part.len() % 4, 0, "no room for stray bits");
    let (kept, last) = part.split_at(part.len() - 1);
    let value = ALPHABET.iter().position(|c| *c == last.as_bytes()[0]).unwrap();
    format!("{kept}{}", ALPHABET[value | 1] as char)
}

fn headers() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, value) in [
        ("crit", json!(["b64"])),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("crit", json!("x")),
        ("crit", Value::Null),
        ("b64", json!(false)),
        ("b64", json!(true)),
        ("zip", json!("DEF")),
        ("cty", json!("JWT")),
        ("cty", json!("application/jwt")),
    ] {
        let rule = "RFC 7515 §4.1.11; RFC 7797 §3; RFC 8725 §3.6";
        cases.push(case(format!("{name} {value}"), rule).header(name, value).ends("token_malformed"));
    }
    let raw = |name: &'static str, header: &str| case(name, "RFC 7515 §4").raw_header(header).ends("token_malformed");
    let nested = |depth: usize| format!("{{\"x\":{}{}", "[".repeat(depth), "]".repeat(depth));
    let good = r#""alg":"EdDSA","kid":"eddsa","typ":"at+jwt"}"#;
    cases.extend([
        case("cty of something else", "RFC 7515 §4.1.10").header("cty", "json"),
        case("an unknown member", "RFC 7515 §4").header("x", json!({ "y": 1 })),
        raw("no header at all", ""),
        raw("a list", "[]"),
        raw("null", "null"),
        raw("a byte order mark", &format!("\u{feff}{{{good}")),
        raw("something behind it", &format!("{{{good} x")),
        raw("a comma too many", &format!("{{\"x\":1,,{good}")),
        raw("alg twice", &format!("{{\"alg\":\"none\",{good}")),
        raw("alg twice, once written with an escape", &format!("{{\"\\u0061lg\":\"none\",{good}")),
        raw("kid twice with the same value", &format!("{{\"kid\":\"eddsa\",{good}")),
        raw("a member twice inside another one", &format!("{{\"x\":{{\"y\":1,\"y\":1}},{good}")),
        raw("nested 16 deep", &format!("{},{good}", nested(15))).ends("accepted"),
        raw("nested 17 deep", &format!("{},{good}", nested(16))),
        raw("not UTF-8", "").raw_header([b"{\"x\":\"\xff\",", good.as_bytes()].concat()),
        case("a header of nearly 4 KiB", "RFC 8725 §3").header("x", "x".repeat(2900)),
        case("a header of more than 4 KiB", "RFC 8725 §3").header("x", "x".repeat(3100)).ends("token_malformed"),
    ]);
    cases
}

fn types() -> Vec<Case> {
    let named = [
        ("AT+JWT", "accepted"),
        ("application/at+jwt", "accepted"),
        ("Application/At+Jwt", "accepted"),
        ("JWT", "token_type"),
        ("at", "token_type"),
        ("", "token_type"),
        ("at+jwt ", "token_type"),
        ("text/at+jwt", "token_type"),
        ("application/application/at+jwt", "token_type"),
        ("client-authentication+jwt", "token_type"),
        ("dpop+jwt", "token_type"),
        ("certbind-revocations+jwt", "token_type"),
    ];
    let mut cases: Vec<_> = named
        .into_iter()
        .map(|(typ, verdict)| case(format!("typ \"{typ}\""), "RFC 9068 §4").header("typ", typ).ends(verdict))
        .collect();
    cases.push(case("no typ", "RFC 9068 §4").without_header("typ").ends("token_type"));
    cases.push(case("typ is a number", "RFC 7515 §4.1.9").header("typ", 1).ends("token_malformed"));
    cases.push(case("typ is null", "RFC 7515 §4.1.9").header("typ", Value::Null).ends("token_malformed"));
    cases
}

fn kids() -> Vec<Case> {
    let long = "k".repeat(257);
    let texts: [(&str, &str); 9] = [
        ("unknown", "key_unknown"),
        ("EDDSA", "key_unknown"),
        ("eddsa ", "key_unknown"),
        ("../../eddsa", "key_unknown"),
        ("' OR 1=1 --", "key_unknown"),
        ("https://evil.example.com/jwks.json", "key_unknown"),
        ("", "token_malformed"),
        ("eddsa\n", "token_malformed"),
        (&long, "token_malformed"),
    ];
    let name =
        |kid: &str| if kid.len() > 40 { format!("kid of {} characters", kid.len()) } else { format!("kid {kid:?}") };
    let mut cases: Vec<_> = texts
        .into_iter()
        .map(|(kid, verdict)| case(name(kid), "RFC 7515 §4.1.4").header("kid", kid).ends(verdict))
        .collect();
    for kid in [json!(1), Value::Null, json!(["eddsa"])] {
        cases.push(case(format!("kid {kid}"), "RFC 7515 §4.1.4").header("kid", kid).ends("token_malformed"));
    }
    cases.push(case("kid of 256 characters", "RFC 7515 §4.1.4").header("kid", "k".repeat(256)).ends("key_unknown"));
    cases.push(case("no kid: the keys that fit are tried", "RFC 7515 §6").without_header("kid"));
    cases
}

/// What a token says about keys is not read.
fn own_keys() -> Vec<Case> {
    let stranger = Key::Stranger(Algorithm::EdDsa);
    let brought = [
        ("jwk", stranger.jwk()),
        ("jku", json!("https://127.0.0.1:1/jwks.json")),
        ("x5u", json!("https://127.0.0.1:1/x5u.pem")),
        ("x5c", json!([BILLING])),
    ];
    let each = brought.into_iter().flat_map(|(name, value)| {
        let rule = "RFC 8725 §3.10";
        let by = |whose: &str, key: Key| {
            case(format!("{name} in the header, {whose}"), rule).signed_by(key).header(name, value.clone())
        };
        [
            by("signed by a stranger", stranger).ends("token_signature"),
            by("signed by a stranger with a kid of its own", stranger).header("kid", "mine").ends("key_unknown"),
            by("signed by the issuer", Key::USUAL),
        ]
    });
    each.collect()
}

/// A public key is no secret, and no signature is no signature (RFC 8725 §3.1, §3.2).
fn no_signature() -> Vec<Case> {
    let key = Key::Of(Algorithm::Es256);
    let spki = key.secret().public().spki_der().unwrap();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(&spki));
    let secrets = [("its PEM", pem.into_bytes()), ("its DER", spki), ("its JWK", key.jwk().to_string().into_bytes())];
    let with_hmac = secrets.into_iter().map(|(name, secret)| {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let sign = move |token: &str| {
            let (input, _) = token.rsplit_once('.').unwrap();
            format!("{input}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&secret, input.as_bytes())))
        };
        case(format!("HS256 with the public key as its secret, {name}"), "RFC 8725 §3.1")
            .header("alg", "HS256")
            .header("kid", key.kid())
            .token(sign)
            .ends("alg_not_allowed")
    });
    let unsigned = |token: &str| format!("{}.", token.rsplit_once('.').unwrap().0);
    let mut cases: Vec<_> = with_hmac.collect();
    cases.push(
        case("none, and no signature", "RFC 8725 §3.2").header("alg", "none").token(unsigned).ends("alg_not_allowed"),
    );
    cases.push(case("EdDSA, and no signature", "RFC 8725 §3.2").token(unsigned).ends("token_signature"));
    cases
}

fn signatures() -> Vec<Case> {
    let rule = "RFC 7515 §5.2";
    let signature = |name: &str, key: Key, change: fn(Vec<u8>) -> Vec<u8>| {
        let change = move |token: &str| {
            let (input, signature) = token.rsplit_once('.').unwrap();
            format!("{input}.{}", URL_SAFE_NO_PAD.encode(change(URL_SAFE_NO_PAD.decode(signature).unwrap())))
        };
        case(name, "RFC 7518 §3; RFC 8037 §3.1").signed_by(key).token(change).ends("token_signature")
    };
    let (es256, rs256) = (Key::Of(Algorithm::Es256), Key::Of(Algorithm::Rs256));
    let mut cases = vec![
        case("signed by a stranger, EdDSA", rule).signed_by(Key::Stranger(Algorithm::EdDsa)).ends("token_signature"),
        case("signed by a stranger, ES256", rule).signed_by(Key::Stranger(Algorithm::Es256)).ends("token_signature"),
        case("claims of another token under its signature", rule)
            .token(|token| {
                let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else {
                    panic!("three parts")
                };
                let claims = String::from_utf8(URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
                format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(claims.replace("billing", "someone")))
            })
            .ends("token_signature"),
        signature("one octet too many, EdDSA", Key::USUAL, |s| [s, vec![0]].concat()),
        signature("one octet too few, EdDSA", Key::USUAL, |s| s[..63].to_vec()),
        signature("one bit changed, EdDSA", Key::USUAL, |mut s| {
            s[10] ^= 1;
            s
        }),
        signature("S and the order of the group, EdDSA", Key::USUAL, plus_order),
        signature("one bit changed, RS256", rs256, |mut s| {
            s[10] ^= 1;
            s
        }),
        signature("one octet too many, RS256", rs256, |s| [vec![0], s].concat()),
    ];
    let order = ["ffffffff00000000ffffffffffffffff", "bce6faada7179e84f3b9cac2fc632551"].concat();
    for (name, r, s) in [
        ("r and s are 0", "00".repeat(32), "00".repeat(32)),
        ("r is 0", "00".repeat(32), format!("{:0>64}", 1)),
        ("r and s are the order of the group", order.clone(), order),
        ("r and s are 1", format!("{:0>64}", 1), format!("{:0>64}", 1)),
    ] {
        let both = URL_SAFE_NO_PAD.encode(hex(&format!("{r}{s}")));
        let change = move |token: &str| format!("{}.{both}", token.rsplit_once('.').unwrap().0);
        cases.push(
            case(format!("{name}, ES256"), "RFC 7518 §3.4").signed_by(es256).token(change).ends("token_signature"),
        );
    }
    let der = URL_SAFE_NO_PAD.encode(hex(&format!("3044{0}{0}", format_args!("0220{}", "11".repeat(32)))));
    let in_der = move |token: &str| format!("{}.{der}", token.rsplit_once('.').unwrap().0);
    cases.push(
        case("a signature in DER, ES256", "RFC 7518 §3.4").signed_by(es256).token(in_der).ends("token_signature"),
    );
    cases
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// A signature whose S is not reduced: RFC 8032 §5.1.7 demands that it is refused.
fn plus_order(mut signature: Vec<u8>) -> Vec<u8> {
    let order = hex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
    let mut carry = 0_u16;
    for (octet, add) in signature[32..].iter_mut().zip(order) {
        carry += u16::from(*octet) + u16::from(add);
        *octet = carry.to_le_bytes()[0];
        carry >>= 8;
    }
    signature
}
