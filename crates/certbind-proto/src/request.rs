//! Form parameters of a request (RFC 6749 §3.2, Appendix B): each at most once, without value means absent.

use std::fmt;

/// The most parameters one form may have.
pub const MAX_PARAMETERS: usize = 64;

/// `grant_type` of the one grant there is (RFC 6749 §4.4.2).
pub const CLIENT_CREDENTIALS: &str = "client_credentials";

/// The parameters that may be sent more than once (RFC 8707 §2).
const REPEATABLE: [&str; 1] = ["resource"];

/// A parsed form. Values are redacted in `Debug`: a form can hold an assertion.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Form {
    parameters: Vec<(String, String)>,
}

/// Why bytes are not a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormFault {
    /// A `%` without two hexadecimal digits behind it.
    #[error("a percent sign is not followed by two hexadecimal digits")]
    BrokenEscape,
    /// What the escapes say is not UTF-8.
    #[error("a parameter is not UTF-8 (RFC 6749 Appendix B)")]
    NotUtf8,
    /// A parameter that may come once came twice.
    #[error("a parameter is repeated (RFC 6749 §3.2)")]
    Repeated,
    /// More than [`MAX_PARAMETERS`].
    #[error("the form has too many parameters")]
    TooMany,
}

impl Form {
    /// Reads an `application/x-www-form-urlencoded` body: `+` is a space, percent escapes are decoded once, and
    /// nothing is repaired.
    ///
    /// # Errors
    /// The first [`FormFault`] that is met.
    pub fn parse(body: &[u8]) -> Result<Self, FormFault> {
        let mut form = Self::default();
        for (count, pair) in body.split(|&b| b == b'&').filter(|pair| !pair.is_empty()).enumerate() {
            if count == MAX_PARAMETERS {
                return Err(FormFault::TooMany);
            }
            let (name, value) = match pair.iter().position(|&b| b == b'=') {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &[][..]),
            };
            form.add(decode(name)?, decode(value)?)?;
        }
        // Without a value a parameter counts as absent, but two of them are still two.
        form.parameters.retain(|(_, value)| !value.is_empty());
        Ok(form)
    }

    fn add(&mut self, name: String, value: String) -> Result<(), FormFault> {
        let seen = self.parameters.iter().any(|(other, _)| *other == name);
        if seen && !REPEATABLE.contains(&name.as_str()) {
            return Err(FormFault::Repeated);
        }
        self.parameters.push((name, value));
        Ok(())
    }

    /// The value of a parameter that comes at most once.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// All values of a repeatable parameter, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.parameters.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The names of all parameters, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parameters.iter().map(|(name, _)| name.as_str())
    }

    /// Adds a parameter, for the side that sends the form.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.parameters.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The body to send.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut body = String::new();
        for (name, value) in &self.parameters {
            if !body.is_empty() {
                body.push('&');
            }
            encode_into(&mut body, name);
            body.push('=');
            encode_into(&mut body, value);
        }
        body
    }
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

fn decode(text: &[u8]) -> Result<String, FormFault> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&b, after)) = rest.split_first() {
        rest = after;
        out.push(match b {
            b'+' => b' ',
            b'%' => {
                let [high, low, after @ ..] = after else { return Err(FormFault::BrokenEscape) };
                rest = after;
                hex(*high)? << 4 | hex(*low)?
            }
            other => other,
        });
    }
    String::from_utf8(out).map_err(|_| FormFault::NotUtf8)
}

fn hex(digit: u8) -> Result<u8, FormFault> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(FormFault::BrokenEscape),
    }
}

fn encode_into(out: &mut String, text: &str) {
    const DIGITS: [u8; 16] = *b"0123456789ABCDEF";
    for b in text.bytes() {
        match b {
            b' ' => out.push('+'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => out.push(char::from(b)),
            _ => {
                out.push('%');
                out.push(char::from(DIGITS[usize::from(b >> 4)]));
                out.push(char::from(DIGITS[usize::from(b & 15)]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(body: &str) -> Result<Form, FormFault> {
        Form::parse(body.as_bytes())
    }

    #[test]
    fn rfc6749_3_2_a_parameter_without_value_is_absent() {
        for body in ["scope=", "scope", "", "&&"] {
            assert_eq!(parse(body).unwrap().get("scope"), None, "{body:?}");
        }
    }

    #[test]
    fn rfc6749_3_2_no_parameter_comes_twice() {
        for body in ["scope=a&scope=a", "grant_type=x&grant_type=", "client_id=a&client%5Fid=b", "x=&x=", "foo&foo"] {
            assert_eq!(parse(body), Err(FormFault::Repeated), "{body:?}");
        }
    }

    #[test]
    fn rfc8707_2_resource_may_repeat() {
        let form = parse("resource=https%3A%2F%2Fa&resource=https%3A%2F%2Fb").unwrap();
        assert_eq!(form.all("resource").collect::<Vec<_>>(), ["https://a", "https://b"]);
    }

    #[test]
    fn rfc6749_appendix_b_decoding_happens_once() {
        for (body, value) in [
            ("s=a+b", "a b"),
            ("s=a%20b", "a b"),
            ("s=%2520", "%20"),
            ("s=%C3%A9", "é"),
            ("s=a=b", "a=b"),
            ("s=%2B", "+"),
        ] {
            assert_eq!(parse(body).unwrap().get("s"), Some(value), "{body:?}");
        }
    }

    #[test]
    fn rfc6749_appendix_b_nothing_is_repaired() {
        for (body, fault) in [
            ("client_id=%ff", FormFault::NotUtf8),
            ("scope=%zz", FormFault::BrokenEscape),
            ("scope=%", FormFault::BrokenEscape),
            ("scope=%4", FormFault::BrokenEscape),
        ] {
            assert_eq!(parse(body), Err(fault), "{body:?}");
        }
        let many: String = (0..=MAX_PARAMETERS).map(|i| format!("p{i}=1&")).collect();
        assert_eq!(parse(&many), Err(FormFault::TooMany));
    }

    #[test]
    fn values_never_show_in_debug() {
        let form = parse("client_assertion=eyJhbGciOi").unwrap();
        assert_eq!(format!("{form:?}"), r#"["client_assertion"]"#);
    }

    proptest! {
        #[test]
        fn encoding_and_parsing_round_trip(value in ".{1,40}", name in "[a-z_]{1,12}") {
            let form = Form::default().with(&name, &value);
            prop_assert_eq!(Form::parse(form.encode().as_bytes()), Ok(form));
        }

        #[test]
        fn parsing_never_panics(body in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = Form::parse(&body);
        }
    }
}
