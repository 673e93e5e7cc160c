//! Resource indicators (RFC 8707 §2) and the audiences made from them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest resource indicator that is looked at, in bytes.
pub const MAX_LENGTH: usize = 2048;

/// An absolute URI without a fragment that names a protected resource.
///
/// It is compared as it stands, without normalising: two spellings are two resources (RFC 8707 §2; RFC 9068 §5).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Resource(String);

/// Why a text is not a resource indicator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResourceFault {
    /// It names a fragment.
    #[error("a resource indicator has no fragment (RFC 8707 §2)")]
    Fragment,
    /// It has a character that no URI has, or is too long.
    #[error("a resource indicator is a URI of at most 2048 characters (RFC 8707 §2, RFC 3986)")]
    NotAUri,
    /// It has no scheme.
    #[error("a resource indicator is an absolute URI (RFC 8707 §2)")]
    Relative,
}

impl Resource {
    /// The URI as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Resource {
    type Err = ResourceFault;

    fn from_str(text: &str) -> Result<Self, ResourceFault> {
        if text.len() > MAX_LENGTH || !text.bytes().all(is_uri_byte) || !escapes_are_whole(text) {
            return Err(ResourceFault::NotAUri);
        }
        if text.contains('#') {
            return Err(ResourceFault::Fragment);
        }
        let Some((scheme, rest)) = text.split_once(':') else { return Err(ResourceFault::Relative) };
        if !is_scheme(scheme) || rest.is_empty() {
            return Err(ResourceFault::Relative);
        }
        if matches!(scheme.to_ascii_lowercase().as_str(), "https" | "http") && !has_authority(rest) {
            return Err(ResourceFault::NotAUri);
        }
        Ok(Self(text.to_owned()))
    }
}

/// RFC 3986 §2: reserved, unreserved and `%`.
fn is_uri_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&b)
}

/// RFC 3986 §2.1: a `%` is followed by two hexadecimal digits.
fn escapes_are_whole(text: &str) -> bool {
    text.split('%').skip(1).all(|after| after.len() >= 2 && after.bytes().take(2).all(|b| b.is_ascii_hexdigit()))
}

/// RFC 3986 §3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

fn has_authority(after_scheme: &str) -> bool {
    after_scheme.strip_prefix("//").is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', '?']))
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Resource {
    type Error = ResourceFault;

    fn try_from(text: String) -> Result<Self, ResourceFault> {
        text.parse()
    }
}

impl From<Resource> for String {
    fn from(resource: Resource) -> Self {
        resource.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc8707_2_a_resource_is_an_absolute_uri_without_fragment() {
        let long = format!("https://a/{}", "x".repeat(MAX_LENGTH));
        for (text, expected) in [
            ("https://api.example.com/payments", Ok(())),
            ("urn:example:payments", Ok(())),
            ("spiffe://example.com/payments", Ok(())),
            ("https://api.example.com/#part", Err(ResourceFault::Fragment)),
            ("#x", Err(ResourceFault::Fragment)),
            ("/payments", Err(ResourceFault::Relative)),
            ("payments", Err(ResourceFault::Relative)),
            ("1a:b", Err(ResourceFault::Relative)),
            ("https:", Err(ResourceFault::Relative)),
            ("https:///path", Err(ResourceFault::NotAUri)),
            ("https://a b", Err(ResourceFault::NotAUri)),
            ("https://a/%zz", Err(ResourceFault::NotAUri)),
            ("https://a/é", Err(ResourceFault::NotAUri)),
            (&long, Err(ResourceFault::NotAUri)),
        ] {
            assert_eq!(text.parse::<Resource>().map(|_| ()), expected, "{text:?}");
        }
    }

    #[test]
    fn rfc9068_5_two_spellings_are_two_resources() {
        assert_ne!("https://a".parse::<Resource>(), "https://a/".parse::<Resource>());
        assert_ne!("https://a".parse::<Resource>(), "https://A".parse::<Resource>());
    }
}
