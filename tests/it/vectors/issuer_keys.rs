//! Cases about the issuer's key set (RFC 7517; RFC 8725 §3.4).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use certbind_proto::jws::Algorithm;
use serde_json::{Value, json};

use super::case::{Case, case};
use super::keys::Key;

pub(super) const ABOUT: &str =
    "The issuer's keys: a key that is broken, weak or for something else is left out, the rest is used (RFC 7517 §5).";

pub(super) fn cases() -> Vec<Case> {
    single_keys().into_iter().chain(sets()).collect()
}

/// The usual token, and its key with one thing about it changed.
fn single_keys() -> Vec<Case> {
    let changed = |name: &'static str, rule: &'static str, key: Key, member: &str, value: Value| {
        let mut jwk = key.jwk();
        jwk[member] = value;
        case(name, rule).signed_by(key).with("jwks", json!({ "keys": [jwk] })).ends("key_unknown")
    };
    let (ed, ec, rsa) = (Key::USUAL, Key::Of(Algorithm::Es256), Key::Of(Algorithm::Rs256));
    let octets = |length: usize, first: u8| {
        let mut octets = vec![0xff; length];
        octets[0] = first;
        json!(URL_SAFE_NO_PAD.encode(octets))
    };
    let padded = |key: Key| json!(format!("{}=", key.jwk()["x"].as_str().unwrap()));
    vec![
        changed("for encryption", "RFC 7517 §4.2", ed, "use", json!("enc")),
        changed("use is a list", "RFC 7517 §4.2", ed, "use", json!(["sig"])),
        changed("for signing and not for verifying", "RFC 7517 §4.3", ed, "key_ops", json!(["sign"])),
        changed("key_ops is a text", "RFC 7517 §4.3", ed, "key_ops", json!("verify")),
        changed("key_ops names verify", "RFC 7517 §4.3", ed, "key_ops", json!(["sign", "verify"])).ends("accepted"),
        changed("an unknown member", "RFC 7517 §4", ed, "owner", json!("payments")).ends("accepted"),
        changed("a private key", "RFC 7517 §9.2", ed, "d", json!("AA")),
        changed("alg of another kind of key", "RFC 7517 §4.4", ed, "alg", json!("RS256")),
        changed("alg that nobody knows", "RFC 7517 §4.4", ed, "alg", json!("EdDSA2")),
        changed("alg is null", "RFC 7517 §4.4", ed, "alg", Value::Null),
        changed("alg Ed25519", "RFC 9864 §2.2", ed, "alg", json!("Ed25519")).ends("accepted"),
        changed("kid is a number", "RFC 7517 §4.5", ed, "kid", json!(1)),
        changed("kid of another key", "RFC 7517 §4.5", ed, "kid", json!("other")),
        changed("another kty", "RFC 7517 §4.1", ed, "kty", json!("EC")),
        changed("another crv", "RFC 8037 §2", ed, "crv", json!("X25519")),
        changed("a padded coordinate", "RFC 7518 §6", ed, "x", padded(ed)),
        changed("a coordinate of 31 octets", "RFC 8037 §2", ed, "x", octets(31, 1)),
        changed("a point that is not on its curve", "RFC 8725 §3.4", ec, "y", octets(32, 0)),
        changed("a coordinate of 33 octets", "RFC 7518 §6.2.1.2", ec, "x", octets(33, 0)),
        changed("the x of another point", "RFC 8725 §3.4", ec, "x", Key::Stranger(Algorithm::Es256).jwk()["x"].clone()),
        changed("a modulus of 1024 bits", "RFC 7518 §3.3", rsa, "n", octets(128, 0xc1)),
        changed("a modulus with a leading zero", "RFC 7518 §6.3.1", rsa, "n", octets(257, 0)),
        changed("an exponent of 1", "RFC 7518 §3.3", rsa, "e", json!("AQ")),
        changed("an even exponent", "RFC 7518 §3.3", rsa, "e", json!("AQAA")),
        changed("no exponent", "RFC 7518 §6.3.1", rsa, "e", Value::Null),
    ]
}

fn sets() -> Vec<Case> {
    let (good, other) = (Key::USUAL.jwk(), Key::Stranger(Algorithm::EdDsa).jwk());
    let set = |name: &'static str, keys: Value| case(name, "RFC 7517 §5").with("jwks", json!({ "keys": keys }));
    let broken = json!({ "kty": "oct", "k": "AA", "kid": "eddsa" });
    let mut crowd = vec![other.clone(); 8];
    crowd.push(good.clone());
    let nameless = |case: Case| case.without_header("kid");
    vec![
        case("no keys are at hand", "RFC 9068 §4").with("jwks", Value::Null).ends("keys_unavailable"),
        case("no keys at hand for a token that nobody could verify", "RFC 9068 §4")
            .header("alg", "none")
            .with("jwks", Value::Null)
            .ends("alg_not_allowed"),
        set("an empty set", json!([])).ends("key_unknown"),
        case("keys is no list", "RFC 7517 §5.1").with("jwks", json!({ "keys": {} })).ends("keys_unavailable"),
        case("no keys member", "RFC 7517 §5.1").with("jwks", json!({})).ends("keys_unavailable"),
        set("a broken key beside the good one", json!([broken, good])),
        set("something that is no key beside the good one", json!([7, "x", null, good])),
        set("two keys of one kid, the good one last", json!([other, good])),
        set("two keys of one kid, neither of them good", json!([other, other])).ends("token_signature"),
        set("thirty-three keys are too many", json!(vec![good.clone(); 33])).ends("keys_unavailable"),
        nameless(set("no kid, and the good key is the second", json!([other, good]))),
        nameless(set("no kid, and the good key is the eighth", json!(crowd[1..]))),
        nameless(set("no kid, and the good key is the ninth: too many to try", json!(crowd))).ends("token_signature"),
        nameless(set("no kid, and no key for the algorithm", json!([Key::Of(Algorithm::Es256).jwk()])))
            .ends("key_unknown"),
    ]
}
