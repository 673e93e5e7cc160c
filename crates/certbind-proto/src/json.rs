//! Strict JSON: bytes to one object, for JOSE headers, claims sets and keys (RFC 8259; RFC 7515 §4; RFC 7519 §4).

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// How many objects and arrays may stand inside one another, the outermost included.
pub const MAX_DEPTH: usize = 16;

/// Why bytes are not the one object they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonFault {
    /// A member name stands twice in one object, escapes resolved: two readers could take different values.
    #[error("a member name stands twice in one object (RFC 7515 §4, RFC 7519 §4)")]
    DuplicateMember,
    /// It is JSON, but an array, a text, a number, a boolean or null.
    #[error("not a JSON object (RFC 7515 §4, RFC 7519 §7.2)")]
    NotAnObject,
    /// It is not JSON in UTF-8, or something follows it.
    #[error("not JSON in UTF-8 (RFC 8259 §8.1)")]
    Syntax,
    /// Objects and arrays are nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than 16 levels")]
    TooDeep,
}

/// Reads `bytes` as one JSON object and nothing after it.
///
/// A duplicate member is refused at every depth, also when one of the two is written with escapes.
///
/// # Errors
/// [`JsonFault`], one fact for each way to be wrong. The bytes themselves are never part of it.
pub fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, JsonFault> {
    let fault = Cell::new(JsonFault::Syntax);
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let strict = Strict { depth_left: MAX_DEPTH, fault: &fault };
    let value = strict.deserialize(&mut reader).map_err(|_| fault.get())?;
    reader.end().map_err(|_| JsonFault::Syntax)?;
    match value {
        Value::Object(members) => Ok(members),
        _ => Err(JsonFault::NotAnObject),
    }
}

/// Builds a [`Value`] and leaves in `fault` why it stopped, which serde's error type cannot carry.
#[derive(Clone, Copy)]
struct Strict<'f> {
    depth_left: usize,
    fault: &'f Cell<JsonFault>,
}

impl Strict<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        match self.depth_left.checked_sub(1) {
            Some(depth_left) => Ok(Self { depth_left, ..self }),
            None => Err(self.stop(JsonFault::TooDeep)),
        }
    }

    fn stop<E: serde::de::Error>(self, fault: JsonFault) -> E {
        self.fault.set(fault);
        E::custom(fault)
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("JSON has no such number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inside = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(inside)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inside = self.deeper()?;
        let mut members = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            if members.contains_key(&name) {
                return Err(self.stop(JsonFault::DuplicateMember));
            }
            members.insert(name, access.next_value_seed(inside)?);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rfc7515_4_one_object_in_utf8_and_nothing_else() {
        for (bytes, expected) in [
            (&b"{}"[..], Ok(())),
            (b" {\"a\" : [1, -2, 0.5, true, null, \"\\u00e9\"]} \n", Ok(())),
            (b"", Err(JsonFault::Syntax)),
            (b"{", Err(JsonFault::Syntax)),
            (b"{}{}", Err(JsonFault::Syntax)),
            (b"{}x", Err(JsonFault::Syntax)),
            (b"{}\0", Err(JsonFault::Syntax)),
            (b"{\"a\":1,}", Err(JsonFault::Syntax)),
            (b"{'a':1}", Err(JsonFault::Syntax)),
            (b"{\"a\":01}", Err(JsonFault::Syntax)),
            (b"{\"a\":1e400}", Err(JsonFault::Syntax)),
            (b"{\"a\":NaN}", Err(JsonFault::Syntax)),
            (b"{\"a\":\"\\ud800\"}", Err(JsonFault::Syntax)),
            (b"{\"a\":\"\n\"}", Err(JsonFault::Syntax)),
            (b"{\"a\":\"\xff\"}", Err(JsonFault::Syntax)),
            (b"\xef\xbb\xbf{}", Err(JsonFault::Syntax)),
            (b"{\0\"\0a\0\"\0:\x001\0}\0", Err(JsonFault::Syntax)),
            (b"null", Err(JsonFault::NotAnObject)),
            (b"[]", Err(JsonFault::NotAnObject)),
            (b"[{}]", Err(JsonFault::NotAnObject)),
            (b"\"{}\"", Err(JsonFault::NotAnObject)),
            (b"7", Err(JsonFault::NotAnObject)),
        ] {
            assert_eq!(parse_object(bytes).map(|_| ()), expected, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn rfc7515_4_rfc7519_4_a_duplicate_member_is_refused_at_every_depth() {
        for text in [
            r#"{"alg":"ES256","alg":"none"}"#,
            r#"{"aud":"a","\u0061ud":"b"}"#,
            r#"{"cnf":{"x5t#S256":"a","x5t#S256":"a"}}"#,
            r#"{"a":[{"b":[{"c":1,"c":1}]}]}"#,
        ] {
            assert_eq!(parse_object(text.as_bytes()), Err(JsonFault::DuplicateMember), "{text}");
        }
        assert!(parse_object(br#"{"a":{"b":1},"b":{"a":1}}"#).is_ok(), "the same name in different objects");
    }

    #[test]
    fn rfc7519_5_depth_is_capped_long_before_the_stack_ends() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert!(parse_object(nested(MAX_DEPTH).as_bytes()).is_ok());
        for depth in [MAX_DEPTH + 1, 10_000, 1_000_000] {
            assert_eq!(parse_object(nested(depth).as_bytes()), Err(JsonFault::TooDeep), "{depth}");
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(".{0,4}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_serde_writes_is_read_back(value in any_value()) {
            let Value::Object(outer) = serde_json::json!({ "it": value }) else { unreachable!() };
            let text = serde_json::to_vec(&outer).unwrap();
            let expected: Map<String, Value> = serde_json::from_slice(&text).unwrap();
            prop_assert_eq!(parse_object(&text), Ok(expected));
        }

        #[test]
        fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = parse_object(&bytes);
        }

        #[test]
        fn parsing_never_panics_on_text_that_looks_like_json(text in "[\\[\\]{}\",:0-9a\\\\u ]{0,64}") {
            let _ = parse_object(text.as_bytes());
        }
    }
}
