//! The two kinds of URL in a configuration: the issuer (RFC 8414 §2) and the origin that clients call a listener.

use std::fmt;

/// The longest URL that is looked at, in bytes.
const MAX_LENGTH: usize = 2048;

/// The issuer identifier: https, no query, no fragment (RFC 8414 §2). Kept exactly as typed, as others compare it code point by code point (§3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    text: String,
    origin: WebOrigin,
}

/// `https://host` or `https://host:port`, without anything behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebOrigin {
    text: String,
    host: String,
}

/// Why a text is not such a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlFault {
    /// There is a `#`.
    #[error("has a fragment, which it must not have (RFC 8414 §2, RFC 6749 §3.2)")]
    Fragment,
    /// The host is empty or not a name or address.
    #[error("has no proper host")]
    Host,
    /// A character that no URL has, a broken escape, or too long.
    #[error("is not a URL of at most 2048 characters (RFC 3986)")]
    NotAUrl,
    /// Another scheme, or `HTTPS` in capitals.
    #[error("must begin with `https://` (RFC 8414 §2)")]
    NotHttps,
    /// An empty segment, `.` or `..`: clients would tidy them up and then find another issuer.
    #[error("has a path with an empty segment, `.` or `..`")]
    PathNotPlain,
    /// An origin ends with the port.
    #[error("must be `https://host` or `https://host:port`, with nothing behind, not even a slash")]
    PathUnwanted,
    /// Not 1 to 65535.
    #[error("has a port that is none")]
    Port,
    /// There is a `?`.
    #[error("has a query, which it must not have (RFC 8414 §2)")]
    Query,
    /// There is an `@` before the host.
    #[error("has a user name or password before the host")]
    UserInfo,
}

impl Issuer {
    /// An issuer identifier.
    ///
    /// # Errors
    /// What it has that no issuer has.
    pub fn parse(text: &str) -> Result<Self, UrlFault> {
        let (origin, path) = split(text)?;
        let segments = path.strip_prefix('/').unwrap_or(path);
        let segments = segments.strip_suffix('/').unwrap_or(segments);
        if !segments.is_empty() && segments.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            return Err(UrlFault::PathNotPlain);
        }
        if path == "//" {
            return Err(UrlFault::PathNotPlain);
        }
        Ok(Self { text: text.to_owned(), origin })
    }

    /// As typed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Scheme, host and port.
    #[must_use]
    pub fn origin(&self) -> &WebOrigin {
        &self.origin
    }
}

impl WebOrigin {
    /// An origin.
    ///
    /// # Errors
    /// What it has that no origin has.
    pub fn parse(text: &str) -> Result<Self, UrlFault> {
        let (origin, path) = split(text)?;
        if path.is_empty() { Ok(origin) } else { Err(UrlFault::PathUnwanted) }
    }

    /// As typed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host without port and without the brackets of an IPv6 address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for WebOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The origin and the path behind it.
fn split(text: &str) -> Result<(WebOrigin, &str), UrlFault> {
    let rest = text.strip_prefix("https://").ok_or(UrlFault::NotHttps)?;
    if text.len() > MAX_LENGTH || !text.bytes().all(is_url_byte) || !escapes_are_whole(rest) {
        return Err(UrlFault::NotAUrl);
    }
    if text.contains('#') {
        return Err(UrlFault::Fragment);
    }
    if text.contains('?') {
        return Err(UrlFault::Query);
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err(UrlFault::UserInfo);
    }
    let host = host_of(authority)?;
    let origin = text.strip_suffix(path).unwrap_or(text);
    Ok((WebOrigin { text: origin.to_owned(), host: host.to_owned() }, path))
}

/// RFC 3986 §2: reserved, unreserved and `%`; brackets belong to the host alone.
fn is_url_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&b)
}

fn escapes_are_whole(text: &str) -> bool {
    text.split('%').skip(1).all(|after| after.len() >= 2 && after.bytes().take(2).all(|b| b.is_ascii_hexdigit()))
}

fn host_of(authority: &str) -> Result<&str, UrlFault> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or(UrlFault::Host)?;
        host.parse::<std::net::Ipv6Addr>().map_err(|_| UrlFault::Host)?;
        check_port(port.strip_prefix(':').or(port.is_empty().then_some("443")))?;
        return Ok(host);
    }
    let (host, port) = authority.split_once(':').unwrap_or((authority, "443"));
    check_port(Some(port))?;
    if !is_host(host) {
        return Err(UrlFault::Host);
    }
    Ok(host)
}

fn check_port(port: Option<&str>) -> Result<(), UrlFault> {
    let port = port.filter(|port| port.bytes().all(|b| b.is_ascii_digit())).and_then(|port| port.parse::<u16>().ok());
    if port.is_some_and(|port| port > 0) { Ok(()) } else { Err(UrlFault::Port) }
}

/// A DNS name or an IPv4 address. What is all digits and dots must be an address: `1.2.3` is neither.
fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let looks_numeric = host.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    if looks_numeric {
        return host.parse::<std::net::Ipv4Addr>().is_ok();
    }
    host.len() <= 253 && host.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc8414_2_an_issuer_is_https_without_query_and_fragment() {
        let long = format!("https://a/{}", "x".repeat(MAX_LENGTH));
        for (text, expected) in [
            ("https://auth.example.com", Ok(())),
            ("https://auth.example.com/", Ok(())),
            ("https://auth.example.com/t1", Ok(())),
            ("https://auth.example.com:8443/t1/t2/", Ok(())),
            ("https://localhost:1", Ok(())),
            ("https://127.0.0.1:8443", Ok(())),
            ("https://[::1]:8443", Ok(())),
            ("https://[::1]", Ok(())),
            ("http://auth.example.com", Err(UrlFault::NotHttps)),
            ("HTTPS://auth.example.com", Err(UrlFault::NotHttps)),
            ("auth.example.com", Err(UrlFault::NotHttps)),
            ("", Err(UrlFault::NotHttps)),
            ("https://a/?x", Err(UrlFault::Query)),
            ("https://a?x", Err(UrlFault::Query)),
            ("https://a/#x", Err(UrlFault::Fragment)),
            ("https://a#", Err(UrlFault::Fragment)),
            ("https://user:pass@a", Err(UrlFault::UserInfo)),
            ("https://", Err(UrlFault::Host)),
            ("https:///x", Err(UrlFault::Host)),
            ("https://-a", Err(UrlFault::Host)),
            ("https://a..b", Err(UrlFault::Host)),
            ("https://1.2.3", Err(UrlFault::Host)),
            ("https://[::1", Err(UrlFault::Host)),
            ("https://[v1]", Err(UrlFault::Host)),
            ("https://a:0", Err(UrlFault::Port)),
            ("https://a:", Err(UrlFault::Port)),
            ("https://a:65536", Err(UrlFault::Port)),
            ("https://a:+1", Err(UrlFault::Port)),
            ("https://[::1]x", Err(UrlFault::Port)),
            ("https://a//", Err(UrlFault::PathNotPlain)),
            ("https://a//t", Err(UrlFault::PathNotPlain)),
            ("https://a/../t", Err(UrlFault::PathNotPlain)),
            ("https://a/./t", Err(UrlFault::PathNotPlain)),
            ("https://a b", Err(UrlFault::NotAUrl)),
            ("https://ä", Err(UrlFault::NotAUrl)),
            ("https://a/%2", Err(UrlFault::NotAUrl)),
            (&long, Err(UrlFault::NotAUrl)),
        ] {
            assert_eq!(Issuer::parse(text).map(|_| ()), expected, "{text:?}");
        }
    }

    #[test]
    fn rfc8414_2_an_issuer_is_kept_as_typed() {
        for text in ["https://Auth.Example.COM/t1/", "https://a:443", "https://a/"] {
            assert_eq!(Issuer::parse(text).expect("good").as_str(), text);
        }
        let issuer = Issuer::parse("https://a.example:8443/t1").expect("good");
        assert_eq!((issuer.origin().as_str(), issuer.origin().host()), ("https://a.example:8443", "a.example"));
        assert_eq!(WebOrigin::parse("https://[::1]:1").expect("good").host(), "::1");
    }

    #[test]
    fn rfc6749_3_2_b_an_origin_has_nothing_behind() {
        for (text, expected) in [
            ("https://a:8443", Ok(())),
            ("https://a/", Err(UrlFault::PathUnwanted)),
            ("https://a/t", Err(UrlFault::PathUnwanted)),
            ("https://a#x", Err(UrlFault::Fragment)),
        ] {
            assert_eq!(WebOrigin::parse(text).map(|_| ()), expected, "{text:?}");
        }
    }
}
