//! The one name that a `tls_client_auth` client registers, and its comparison with a certificate (RFC 8705 §2.1.2).
//!
//! Each of the five attributes is compared with its own kind of name and with no other: a DNS name in a URI, in an
//! e-mail address or in the common name is not a DNS name. A certificate may have several names of the kind; one that is
//! equal is enough. Nothing is a pattern: a `*` in a certificate is a star, and cannot be registered.

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;

use crate::cert::{Certificate, San};
use crate::dn::{Dn, DnFault};

/// A name in the form that is compared, with the text that it was registered as.
#[derive(Clone, Debug)]
pub struct Subject {
    registered: String,
    expected: Expected,
}

/// Prepared once, at registration. Two registrations of one name are equal here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Expected {
    Dn(Dn),
    /// In lower case.
    SanDns(String),
    /// The host in lower case.
    SanEmail(String),
    SanIp(IpAddr),
    /// Scheme and host in lower case.
    SanUri(String),
}

/// Which attribute of the registration it is (RFC 8705 §2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubjectKind {
    /// `tls_client_auth_subject_dn`.
    Dn,
    /// `tls_client_auth_san_dns`.
    SanDns,
    /// `tls_client_auth_san_email`.
    SanEmail,
    /// `tls_client_auth_san_ip`.
    SanIp,
    /// `tls_client_auth_san_uri`.
    SanUri,
}

/// Why a text cannot be registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectFault {
    /// Not an IPv4 or IPv6 address; zeros in front of a number are octal to some and decimal to others.
    #[error("not an IP address: write 192.0.2.7 (no leading zeros) or 2001:db8::7")]
    Address,
    /// An IP address as a DNS name.
    #[error("this is an IP address, not a DNS name: write it as san_ip")]
    AddressAsDns,
    /// The text is not a distinguished name.
    #[error(transparent)]
    Dn(#[from] DnFault),
    /// Not a host name of letters, digits and hyphens (RFC 5280 §4.2.1.6).
    #[error("not a DNS name: labels of letters, digits and hyphens (RFC 5280 §4.2.1.6)")]
    Dns,
    /// Not `local@host`.
    #[error("not an e-mail address: write local@host")]
    Email,
    /// A character beyond ASCII in a DNS name, host or URI.
    #[error("not ASCII: write international names with A-labels (xn--…, RFC 5280 §7.2)")]
    NotAscii,
    /// Not an absolute URI (RFC 3986 §3).
    #[error("not an absolute URI (RFC 3986 §3)")]
    Uri,
    /// A `*`.
    #[error("a name with * would match nothing but itself: write out each name (RFC 8705 §7.5)")]
    Wildcard,
}

/// Why a certificate does not have the registered name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectMismatch {
    /// Another subject.
    #[error("the subject of the certificate is another name")]
    DnDiffers,
    /// The subject has a value whose string type has no rules for comparison (RFC 5280 §7.1).
    #[error("the subject of the certificate has a string type that is not compared (BMPString, TeletexString, …)")]
    DnNotComparable,
    /// Alternative names of this kind, and none is equal.
    #[error("no subject alternative name of this kind is the registered one")]
    SanDiffers,
    /// No alternative name of this kind.
    #[error("the certificate has no subject alternative name of this kind")]
    SanMissing,
}

impl SubjectMismatch {
    /// The name of the fact in audit events.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::DnDiffers | Self::DnNotComparable => "dn_mismatch",
            Self::SanDiffers | Self::SanMissing => "san_mismatch",
        }
    }
}

/// Both sides of a comparison, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// Which attribute is registered.
    pub kind: SubjectKind,
    /// The name as it was registered.
    pub registered: String,
    /// The names of this kind in the certificate.
    pub presented: Vec<String>,
    /// What the certificate has besides, each with its kind; never looked at.
    pub ignored: Vec<String>,
    /// Whether one of `presented` is `registered`.
    pub outcome: Result<(), SubjectMismatch>,
}

impl Subject {
    /// Reads a registered name.
    ///
    /// # Errors
    /// What is wrong with `value`.
    pub fn parse(kind: SubjectKind, value: &str) -> Result<Self, SubjectFault> {
        let expected = match kind {
            SubjectKind::Dn => Expected::Dn(Dn::parse_rfc4514(value)?),
            SubjectKind::SanDns => Expected::SanDns(parse_dns(value)?),
            SubjectKind::SanEmail => Expected::SanEmail(parse_email(value)?),
            SubjectKind::SanIp => Expected::SanIp(value.parse().map_err(|_| SubjectFault::Address)?),
            SubjectKind::SanUri => Expected::SanUri(parse_uri(value)?),
        };
        Ok(Self { registered: value.to_owned(), expected })
    }

    /// Which attribute it is.
    #[must_use]
    pub const fn kind(&self) -> SubjectKind {
        match self.expected {
            Expected::Dn(_) => SubjectKind::Dn,
            Expected::SanDns(_) => SubjectKind::SanDns,
            Expected::SanEmail(_) => SubjectKind::SanEmail,
            Expected::SanIp(_) => SubjectKind::SanIp,
            Expected::SanUri(_) => SubjectKind::SanUri,
        }
    }

    /// The text that it was registered as.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.registered
    }

    /// Whether the certificate has this name, in the place where this kind of name stands.
    ///
    /// # Errors
    /// The fact that speaks against it.
    pub fn check(&self, certificate: &Certificate) -> Result<(), SubjectMismatch> {
        if let Expected::Dn(registered) = &self.expected {
            return check_dn(registered, certificate.subject());
        }
        if certificate.sans().iter().any(|san| self.expected.equals(san)) {
            return Ok(());
        }
        let has_kind = certificate.sans().iter().any(|san| kind_of(san) == Some(self.kind()));
        Err(if has_kind { SubjectMismatch::SanDiffers } else { SubjectMismatch::SanMissing })
    }

    /// Both sides of [`Subject::check`] as text, with its outcome.
    #[must_use]
    pub fn explain(&self, certificate: &Certificate) -> Comparison {
        let subject = Some((SubjectKind::Dn, certificate.subject().to_string()));
        let sans = certificate.sans().iter().map(|san| kind_of(san).map(|kind| (kind, text_of(san))));
        let names: Vec<_> = std::iter::once(subject).chain(sans).flatten().collect();
        let (same_kind, others): (Vec<_>, Vec<_>) = names.into_iter().partition(|(kind, _)| *kind == self.kind());
        Comparison {
            kind: self.kind(),
            registered: self.registered.clone(),
            presented: same_kind.into_iter().map(|(_, text)| text).collect(),
            ignored: others.into_iter().map(|(kind, text)| format!("{}: {text}", kind.label())).collect(),
            outcome: self.check(certificate),
        }
    }
}

/// The same name, however it was written.
impl PartialEq for Subject {
    fn eq(&self, other: &Self) -> bool {
        self.expected == other.expected
    }
}

impl Eq for Subject {}

impl std::hash::Hash for Subject {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.expected.hash(state);
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.registered)
    }
}

impl SubjectKind {
    /// Every kind, in alphabetical order of their attributes.
    pub const ALL: [Self; 5] = [Self::SanDns, Self::SanEmail, Self::SanIp, Self::SanUri, Self::Dn];

    /// The name of the attribute in a registration (RFC 8705 §2.1.2).
    #[must_use]
    pub const fn attribute(self) -> &'static str {
        match self {
            Self::Dn => "tls_client_auth_subject_dn",
            Self::SanDns => "tls_client_auth_san_dns",
            Self::SanEmail => "tls_client_auth_san_email",
            Self::SanIp => "tls_client_auth_san_ip",
            Self::SanUri => "tls_client_auth_san_uri",
        }
    }

    /// What people call it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Dn => "subject",
            Self::SanDns => "DNS name",
            Self::SanEmail => "e-mail address",
            Self::SanIp => "IP address",
            Self::SanUri => "URI",
        }
    }
}

impl SubjectKind {
    /// The names of this kind in a certificate, as they would be registered.
    #[must_use]
    pub fn names_in(self, certificate: &Certificate) -> Vec<String> {
        if self == Self::Dn {
            let subject = certificate.subject();
            return if subject.is_empty() { Vec::new() } else { vec![subject.to_string()] };
        }
        let of_kind = certificate.sans().iter().filter(|san| kind_of(san) == Some(self));
        of_kind
            .map(|san| match san {
                San::Dns(text) | San::Email(text) | San::Uri(text) => text.clone(),
                San::Ip(_) | San::Other => text_of(san),
            })
            .collect()
    }
}

impl Expected {
    fn equals(&self, san: &San) -> bool {
        match (self, san) {
            (Self::SanDns(registered), San::Dns(name)) => registered.eq_ignore_ascii_case(name),
            (Self::SanEmail(registered), San::Email(address)) => canonical_email(address).as_ref() == Some(registered),
            (Self::SanIp(registered), San::Ip(address)) => registered == address,
            (Self::SanUri(registered), San::Uri(uri)) => canonical_uri(uri).as_ref() == Some(registered),
            _ => false,
        }
    }
}

fn check_dn(registered: &Dn, presented: &Dn) -> Result<(), SubjectMismatch> {
    if !presented.is_comparable() {
        return Err(SubjectMismatch::DnNotComparable);
    }
    if registered.matches(presented) { Ok(()) } else { Err(SubjectMismatch::DnDiffers) }
}

const fn kind_of(san: &San) -> Option<SubjectKind> {
    match san {
        San::Dns(_) => Some(SubjectKind::SanDns),
        San::Email(_) => Some(SubjectKind::SanEmail),
        San::Ip(_) => Some(SubjectKind::SanIp),
        San::Other => None,
        San::Uri(_) => Some(SubjectKind::SanUri),
    }
}

/// Escaped: the bytes come from a peer and go to a terminal.
fn text_of(san: &San) -> String {
    match san {
        San::Dns(text) | San::Email(text) | San::Uri(text) => text.escape_default().to_string(),
        San::Ip(address) => address.to_string(),
        San::Other => String::new(),
    }
}

fn parse_dns(text: &str) -> Result<String, SubjectFault> {
    let text = plain(text)?;
    if text.parse::<IpAddr>().is_ok() {
        return Err(SubjectFault::AddressAsDns);
    }
    if is_host(text) { Ok(text.to_ascii_lowercase()) } else { Err(SubjectFault::Dns) }
}

fn parse_email(text: &str) -> Result<String, SubjectFault> {
    let text = plain(text)?;
    let (local, host) = text.rsplit_once('@').ok_or(SubjectFault::Email)?;
    if local.is_empty() || !local.bytes().all(|b| b.is_ascii_graphic()) || !is_host(host) {
        return Err(SubjectFault::Email);
    }
    canonical_email(text).ok_or(SubjectFault::Email)
}

fn parse_uri(text: &str) -> Result<String, SubjectFault> {
    let text = plain(text)?;
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let good = match byte {
            b'%' => [rest.next(), rest.next()].iter().flatten().filter(|digit| digit.is_ascii_hexdigit()).count() == 2,
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => false,
            _ => byte.is_ascii_graphic(),
        };
        if !good {
            return Err(SubjectFault::Uri);
        }
    }
    canonical_uri(text).ok_or(SubjectFault::Uri)
}

/// ASCII without a star. An international name is never converted: two programs may convert it in two ways.
fn plain(text: &str) -> Result<&str, SubjectFault> {
    if !text.is_ascii() {
        return Err(SubjectFault::NotAscii);
    }
    if text.contains('*') { Err(SubjectFault::Wildcard) } else { Ok(text) }
}

/// RFC 1034 §3.5 with the digits of RFC 1123 §2.1; the last label is never a number.
fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        let ends = |c: char| c.is_ascii_alphanumeric();
        (1..=63).contains(&label.len())
            && label.starts_with(ends)
            && label.ends_with(ends)
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= 253 && text.split('.').all(is_label) && !last.bytes().all(|b| b.is_ascii_digit())
}

/// The local part as it stands, the host in lower case (RFC 5280 §7.5).
fn canonical_email(address: &str) -> Option<String> {
    let (local, host) = address.rsplit_once('@')?;
    Some(format!("{local}@{}", host.to_ascii_lowercase()))
}

/// Scheme and host in lower case, everything else octet by octet: `%2f` is not `/` (RFC 5280 §7.4).
fn canonical_uri(uri: &str) -> Option<String> {
    let (scheme, rest) = uri.split_once(':')?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    if !is_scheme || rest.is_empty() {
        return None;
    }
    let scheme = scheme.to_ascii_lowercase();
    let Some(hierarchy) = rest.strip_prefix("//") else { return Some(format!("{scheme}:{rest}")) };
    let (authority, path) = hierarchy.split_at(hierarchy.find(['/', '?', '#']).unwrap_or(hierarchy.len()));
    let (user, host) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
    Some(format!("{scheme}://{user}{}{path}", host.to_ascii_lowercase()))
}
