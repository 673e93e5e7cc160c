//! The `Authorization` and `WWW-Authenticate` headers of a protected resource (RFC 6750 §2.1, §3).

use std::fmt;

use crate::error::ErrorCode;
use crate::scope::Scope;

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN: usize = 16 * 1024;

/// Why a request's credentials cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BearerFault {
    /// No credentials were sent.
    #[error("no Authorization header (RFC 6750 §2.1)")]
    Absent,
    /// The token is not `b64token`.
    #[error("the credentials are not one b64token (RFC 6750 §2.1)")]
    Malformed,
    /// Another scheme than `Bearer`.
    #[error("the scheme is not Bearer (RFC 6750 §2.1)")]
    OtherScheme,
    /// More than one `Authorization` header.
    #[error("more than one Authorization header (RFC 6750 §2)")]
    Repeated,
}

impl BearerFault {
    /// The stable name for audit and metrics.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Absent => "token_missing",
            Self::Malformed => "token_malformed",
            Self::OtherScheme => "scheme_not_bearer",
            Self::Repeated => "token_repeated",
        }
    }

    /// What the peer is told; `None` when it sent no credentials of this scheme, as then no code belongs in the
    /// challenge (RFC 6750 §3.1).
    #[must_use]
    pub const fn code(self) -> Option<ErrorCode> {
        match self {
            Self::Absent | Self::OtherScheme => None,
            Self::Malformed | Self::Repeated => Some(ErrorCode::InvalidRequest),
        }
    }
}

/// Whether a query has a token (RFC 6750 §2.3), however its name is escaped: beside the header it is one too many (§2).
#[must_use]
pub fn is_in_query(query: &str) -> bool {
    let name = |parameter: &str| unescaped(parameter.split('=').next().unwrap_or_default());
    query.split(['&', ';']).any(|parameter| name(parameter) == b"access_token")
}

/// An escape that is none stands for itself.
fn unescaped(name: &str) -> Vec<u8> {
    let mut pieces = name.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let escaped = piece.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(escaped.unwrap_or(b'%'));
        bytes.extend_from_slice(&piece.as_bytes()[if escaped.is_some() { 2 } else { 0 }..]);
    }
    bytes
}

/// The token of the `Authorization` headers of one request.
///
/// # Errors
/// The [`BearerFault`] that keeps it from being read. Nothing but the header is looked at: a token in the query or in
/// a form is not one (RFC 6750 §2.2 and §2.3 are not supported, FAPI 2.0 §5.3.4).
pub fn token<'a>(mut headers: impl Iterator<Item = &'a [u8]>) -> Result<&'a str, BearerFault> {
    let Some(header) = headers.next() else { return Err(BearerFault::Absent) };
    if headers.next().is_some() {
        return Err(BearerFault::Repeated);
    }
    let header = std::str::from_utf8(header).map_err(|_| BearerFault::Malformed)?;
    let (scheme, credentials) = header.split_once(' ').unwrap_or((header, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(BearerFault::OtherScheme);
    }
    let credentials = credentials.trim_start_matches(' ');
    if credentials.len() > MAX_TOKEN || !is_b64token(credentials) {
        return Err(BearerFault::Malformed);
    }
    Ok(credentials)
}

/// Whether a header can carry it as a token (RFC 6750 §2.1; `token68` of RFC 9110 §11.2):
/// `1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`
#[must_use]
pub fn is_b64token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    !body.is_empty() && body.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b))
}

/// A `WWW-Authenticate: Bearer` challenge. Each attribute stands once, and every value is quoted (RFC 6750 §3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    attributes: Vec<(&'static str, String)>,
}

impl Challenge {
    /// A challenge that says nothing but the scheme.
    #[must_use]
    pub const fn bearer() -> Self {
        Self { attributes: Vec::new() }
    }

    /// Names the protection space.
    #[must_use]
    pub fn realm(self, realm: &str) -> Self {
        self.attribute("realm", realm)
    }

    /// Says what was wrong, in a registered code and a constant sentence.
    #[must_use]
    pub fn error(self, code: ErrorCode, description: &'static str) -> Self {
        self.attribute("error", code.as_str()).attribute("error_description", description)
    }

    /// Says which scope is needed.
    #[must_use]
    pub fn scope(self, scope: &Scope) -> Self {
        self.attribute("scope", &scope.to_string())
    }

    /// Says where the resource describes itself (RFC 9728 §5.1).
    #[must_use]
    pub fn resource_metadata(self, url: &str) -> Self {
        self.attribute("resource_metadata", url)
    }

    /// Values keep to `%x20-21 / %x23-5B / %x5D-7E`, so that nothing can end the quotes or the header.
    fn attribute(mut self, name: &'static str, value: &str) -> Self {
        let value =
            value.chars().filter(|&c| matches!(c, '\x20'..='\x21' | '\x23'..='\x5b' | '\x5d'..='\x7e')).collect();
        self.attributes.retain(|(other, _)| *other != name);
        self.attributes.push((name, value));
        self
    }
}

/// The value of the header.
impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer")?;
        for (i, (name, value)) in self.attributes.iter().enumerate() {
            write!(f, "{} {name}=\"{value}\"", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rfc6750_2_3_a_token_in_a_query_is_seen_however_its_name_is_escaped() {
        for query in
            ["access_token=x", "a=b&access_token", "a;access_token=x", "access%5Ftoken=x", "%zz&%61ccess_token=x"]
        {
            assert!(is_in_query(query), "{query}");
        }
        for query in ["", "a=access_token", "access_tokens=x", "access%255Ftoken=x", "access%5token=x", "a=%", "%e"] {
            assert!(!is_in_query(query), "{query}");
        }
    }

    fn read<'a>(headers: &[&'a str]) -> Result<&'a str, BearerFault> {
        token(headers.iter().map(|header| header.as_bytes()))
    }

    #[test]
    fn rfc6750_2_1_the_scheme_has_no_case_and_the_token_one_syntax() {
        let long = format!("Bearer {}", "a".repeat(MAX_TOKEN + 1));
        for (header, expected) in [
            ("Bearer abc", Ok("abc")),
            ("bEARER abc", Ok("abc")),
            ("Bearer  abc", Ok("abc")),
            ("Bearer a-._~+/b==", Ok("a-._~+/b==")),
            ("Bearer a b", Err(BearerFault::Malformed)),
            ("Bearer a,Bearer b", Err(BearerFault::Malformed)),
            ("Bearer ", Err(BearerFault::Malformed)),
            ("Bearer", Err(BearerFault::Malformed)),
            ("Bearer =", Err(BearerFault::Malformed)),
            ("Bearer a=b", Err(BearerFault::Malformed)),
            ("Bearer é", Err(BearerFault::Malformed)),
            (&long, Err(BearerFault::Malformed)),
            ("Basic YTpi", Err(BearerFault::OtherScheme)),
            ("DPoP abc", Err(BearerFault::OtherScheme)),
        ] {
            assert_eq!(read(&[header]), expected, "{header:.40}");
        }
    }

    #[test]
    fn rfc6750_2_one_transport_once() {
        assert_eq!(read(&[]), Err(BearerFault::Absent));
        assert_eq!(read(&["Bearer a", "Bearer a"]), Err(BearerFault::Repeated));
    }

    #[test]
    fn rfc6750_3_1_no_code_when_no_credentials_were_sent() {
        assert_eq!(BearerFault::Absent.code(), None);
        assert_eq!(Challenge::bearer().to_string(), "Bearer");
    }

    #[test]
    fn rfc6750_3_a_challenge_quotes_each_attribute_once() {
        let scope: Scope = "a b".parse().unwrap();
        let challenge = Challenge::bearer()
            .realm("pay\"ments\r\n")
            .realm("payments")
            .error(ErrorCode::InsufficientScope, "More scope is needed.")
            .scope(&scope);
        assert_eq!(
            challenge.to_string(),
            r#"Bearer realm="payments", error="insufficient_scope", error_description="More scope is needed.", scope="a b""#
        );
    }

    proptest! {
        #[test]
        fn rfc6750_3_hostile_text_cannot_leave_its_quotes(realm in ".{0,64}") {
            let text = Challenge::bearer().realm(&realm).to_string();
            prop_assert_eq!(text.matches('"').count(), 2);
            prop_assert!(text.bytes().all(|b| (0x20..0x7f).contains(&b)));
        }
    }
}
