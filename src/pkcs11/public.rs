//! The attributes of a public key in a token to the key (RFC 7518 §6, RFC 8037 §2), if it is one that can be published.

use certbind_proto::jws::VerifyingKey;
use cryptoki::object::Attribute;

/// The object identifiers of the curves, in DER (RFC 5480 §2.1.1.1).
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];

/// From modulus and exponent.
pub(super) fn rsa(attributes: &[Attribute]) -> Option<VerifyingKey> {
    let modulus = attributes.iter().find_map(|attribute| match attribute {
        Attribute::Modulus(modulus) => Some(without_zeros(modulus)),
        _ => None,
    });
    let exponent = attributes.iter().find_map(|attribute| match attribute {
        Attribute::PublicExponent(exponent) => Some(without_zeros(exponent)),
        _ => None,
    });
    VerifyingKey::rsa(modulus?, exponent?).ok()
}

/// From curve and point.
pub(super) fn curve(attributes: &[Attribute]) -> Option<VerifyingKey> {
    let parameters = attributes.iter().find_map(|attribute| match attribute {
        Attribute::EcParams(parameters) => Some(parameters.as_slice()),
        _ => None,
    });
    let coordinates = |length| Some(octets(attributes, 1 + 2 * length)?.strip_prefix(&[4])?.split_at(length));
    match parameters? {
        P256 => coordinates(32).and_then(|(x, y)| VerifyingKey::p256(x, y).ok()),
        P384 => coordinates(48).and_then(|(x, y)| VerifyingKey::p384(x, y).ok()),
        _ => None,
    }
}

/// From a point of edwards25519.
pub(super) fn ed25519(attributes: &[Attribute]) -> Option<VerifyingKey> {
    VerifyingKey::ed25519(octets(attributes, 32)?).ok()
}

/// A point of so many octets. By the standard it stands in a DER OCTET STRING; some modules leave that away.
fn octets(attributes: &[Attribute], length: usize) -> Option<&[u8]> {
    let point = attributes.iter().find_map(|attribute| match attribute {
        Attribute::EcPoint(point) => Some(point.as_slice()),
        _ => None,
    })?;
    match point.len().checked_sub(length)? {
        0 => Some(point),
        2 => point.strip_prefix(&[4, u8::try_from(length).ok()?]),
        _ => None,
    }
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use certbind_proto::jws::{Algorithm, SigningKey};
    use serde_json::Value;

    use super::*;

    /// A member of the key's JWK.
    fn member(key: &Value, name: &str) -> Vec<u8> {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap()
    }

    fn made(algorithm: Algorithm) -> Value {
        SigningKey::generate(algorithm).unwrap().public_jwk("k").to_json()
    }

    #[test]
    fn a_point_is_read_with_and_without_its_octet_string() {
        for (algorithm, parameters) in [(Algorithm::Es256, P256), (Algorithm::Es384, P384)] {
            let jwk = made(algorithm);
            let point = [&[4][..], &member(&jwk, "x"), &member(&jwk, "y")].concat();
            let wrapped = [&[4, point.len() as u8][..], &point].concat();
            for point in [&point, &wrapped] {
                let attributes = [Attribute::EcParams(parameters.to_vec()), Attribute::EcPoint(point.clone())];
                assert!(curve(&attributes).is_some(), "{algorithm}");
                assert!(curve(&attributes[1..]).is_none() && curve(&attributes[..1]).is_none());
            }
            let other = [Attribute::EcParams(vec![6, 1, 0]), Attribute::EcPoint(point.clone())];
            assert!(curve(&other).is_none(), "a curve that is not used");
            for spoilt in [&point[1..], &wrapped[..9], &[], &[4]] {
                let attributes = [Attribute::EcParams(parameters.to_vec()), Attribute::EcPoint(spoilt.to_vec())];
                assert!(curve(&attributes).is_none(), "{spoilt:?}");
            }
        }
        let point = member(&made(Algorithm::EdDsa), "x");
        for point in [point.clone(), [&[4, 32][..], &point].concat()] {
            assert!(ed25519(&[Attribute::EcPoint(point)]).is_some());
        }
        assert!(ed25519(&[Attribute::EcPoint(point[1..].to_vec())]).is_none());
    }

    #[test]
    fn an_rsa_number_is_read_with_and_without_zeros_before_it() {
        let jwk = made(Algorithm::Ps256);
        let (n, e) = (member(&jwk, "n"), member(&jwk, "e"));
        for n in [n.clone(), [&[0, 0][..], &n].concat()] {
            assert!(rsa(&[Attribute::Modulus(n.clone()), Attribute::PublicExponent(e.clone())]).is_some());
            assert!(rsa(&[Attribute::Modulus(n)]).is_none());
        }
        assert!(rsa(&[Attribute::Modulus(vec![7; 128]), Attribute::PublicExponent(e)]).is_none(), "1024 bits");
    }
}
