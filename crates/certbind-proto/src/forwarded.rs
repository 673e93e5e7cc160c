//! The client's certificate as a proxy that ends TLS forwards it (RFC 9440; RFC 8705 §6.5): in one header of one format, once.
//!
//! Whether the proxy may be believed is decided by who listens; nothing here knows where a header comes from. What may be
//! read in two ways is refused: a second header, a list, a header of another proxy's making.

mod pem;
mod xfcc;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;

use crate::cert::{MAX_DER, PeerCert};
use crate::thumbprint::Thumbprint;

pub use pem::escaped_pem;

/// The most certificates of a chain that are looked at.
pub const MAX_CHAIN: usize = 6;

/// How a proxy writes the certificate of its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// AWS Application Load Balancer: the chain as percent-encoded PEM.
    Alb,
    /// HAProxy: `%[ssl_c_der,base64]`.
    Haproxy,
    /// nginx: `$ssl_client_escaped_cert`, percent-encoded PEM.
    Nginx,
    /// RFC 9440: a byte sequence of structured fields; the chain in a header of its own.
    Rfc9440,
    /// Traefik: the chain in base64, with commas between.
    Traefik,
    /// Envoy: `X-Forwarded-Client-Cert`, with the certificate, its hash, or both.
    Xfcc,
}

impl Format {
    /// Every format, in alphabetical order.
    pub const ALL: [Self; 6] = [Self::Alb, Self::Haproxy, Self::Nginx, Self::Rfc9440, Self::Traefik, Self::Xfcc];

    /// The name, as configured.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alb => "alb",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Rfc9440 => "rfc9440",
            Self::Traefik => "traefik",
            Self::Xfcc => "xfcc",
        }
    }

    /// The format of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == name)
    }

    /// The header, in lower case: where the proxy has no name of its own, the one that its users have settled on.
    #[must_use]
    pub const fn header(self) -> &'static str {
        match self {
            Self::Alb => "x-amzn-mtls-clientcert",
            Self::Haproxy => "x-ssl-client-der",
            Self::Nginx => "ssl-client-cert",
            Self::Rfc9440 => CLIENT_CERT,
            Self::Traefik => "x-forwarded-tls-client-cert",
            Self::Xfcc => "x-forwarded-client-cert",
        }
    }
}

/// RFC 9440 §2.2 and §2.3.
const CLIENT_CERT: &str = "client-cert";
const CLIENT_CERT_CHAIN: &str = "client-cert-chain";

/// Every header in which some proxy forwards a certificate or what it read there. One that is not meant here and comes all
/// the same was forged, or the proxy is set up otherwise than was thought.
const KNOWN: [&str; 22] = [
    "cf-client-cert-der-base64",
    "cf-client-cert-sha256",
    CLIENT_CERT,
    CLIENT_CERT_CHAIN,
    "ssl-client-cert",
    "ssl-client-s-dn",
    "ssl-client-subject-dn",
    "ssl-client-verify",
    "x-amzn-mtls-clientcert",
    "x-amzn-mtls-clientcert-leaf",
    "x-amzn-mtls-clientcert-subject",
    "x-arr-clientcert",
    "x-client-cert",
    "x-client-certificate",
    "x-forwarded-client-cert",
    "x-forwarded-ssl-client-cert",
    "x-forwarded-tls-client-cert",
    "x-forwarded-tls-client-cert-info",
    "x-ssl-cert",
    "x-ssl-client-cert",
    "x-ssl-client-certificate",
    "x-ssl-client-der",
];

/// The headers in which proxies forward certificates or what they read there, in lower case.
#[must_use]
pub const fn known_headers() -> &'static [&'static str] {
    &KNOWN
}

/// What was forwarded.
#[derive(Clone, Debug)]
pub enum Forwarded {
    /// The certificate, maybe with its chain.
    Certificate(Arc<PeerCert>),
    /// Its SHA-256 hash alone: enough to see whether a token belongs to it, too little to authenticate a client.
    Hash(Thumbprint),
}

impl Forwarded {
    fn of(certificate: PeerCert) -> Self {
        Self::Certificate(Arc::new(certificate))
    }

    /// The thumbprint of the certificate (RFC 8705 §3.1).
    #[must_use]
    pub fn thumbprint(&self) -> &Thumbprint {
        match self {
            Self::Certificate(certificate) => certificate.thumbprint(),
            Self::Hash(thumbprint) => thumbprint,
        }
    }
}

/// Why it is not believed what was forwarded. The request is refused: its certificate is not known, and neither is it known
/// that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardedFault {
    /// A chain without the certificate that it belongs to (RFC 9440 §2.3).
    #[error("a chain was forwarded without its certificate (RFC 9440 §2.3)")]
    ChainAlone,
    /// `Hash` is not the hash of `Cert`.
    #[error("the forwarded hash is not that of the forwarded certificate")]
    HashOther,
    /// It is not what this format looks like.
    #[error("what was forwarded is not in the format that is configured")]
    Malformed,
    /// A header of another format, or one that a proxy might take for this one (RFC 9440 §4).
    #[error("another header claims to forward a certificate (RFC 9440 §4)")]
    OtherHeader,
    /// More than one certificate where there is one client (RFC 9440 §2.2).
    #[error("more than one certificate was forwarded (RFC 9440 §2.2)")]
    Several,
    /// A certificate, or a chain, that is longer than is looked at.
    #[error("what was forwarded is too long")]
    TooLong,
}

impl ForwardedFault {
    /// The stable name for audit and metrics.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::ChainAlone | Self::HashOther | Self::Malformed | Self::TooLong => "forwarded_malformed",
            Self::OtherHeader => "forwarded_other_header",
            Self::Several => "forwarded_repeated",
        }
    }
}

/// Sees to it that no header forwards a certificate, where none may: by their names alone.
///
/// # Errors
/// [`ForwardedFault::OtherHeader`].
pub fn none<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<(), ForwardedFault> {
    let is_known = |name: &str| KNOWN.contains(&&*plain(name));
    if names.into_iter().any(is_known) { Err(ForwardedFault::OtherHeader) } else { Ok(()) }
}

/// In which header of which format a proxy forwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarding {
    format: Format,
    /// In lower case.
    header: String,
}

impl Forwarding {
    /// In the header that this format usually has.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self { format, header: format.header().to_owned() }
    }

    /// In a header of another name, which says nothing else to anybody. Nothing but the usual one is possible where the format names its header itself.
    #[must_use]
    pub fn in_header(format: Format, header: &str) -> Option<Self> {
        let header = header.to_ascii_lowercase();
        let is_token = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let is_free = matches!(format, Format::Haproxy | Format::Nginx) && header.contains("cert");
        (is_token(&header) && (is_free || header == format.header())).then_some(Self { format, header })
    }

    /// How it is written there.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// The header, in lower case.
    #[must_use]
    pub fn header(&self) -> &str {
        &self.header
    }

    /// The certificate that the headers of one request forward; none when the client showed none. Names may have any case.
    ///
    /// # Errors
    /// [`ForwardedFault`].
    pub fn read<'a>(
        &self,
        headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Option<Forwarded>, ForwardedFault> {
        let (mut value, mut chain) = (None, Vec::new());
        for (name, text) in headers {
            if name.eq_ignore_ascii_case(&self.header) {
                if value.replace(text).is_some() {
                    return Err(ForwardedFault::Several);
                }
            } else if self.format == Format::Rfc9440 && name.eq_ignore_ascii_case(CLIENT_CERT_CHAIN) {
                chain.push(text);
            } else if self.is_alike(name) {
                return Err(ForwardedFault::OtherHeader);
            }
        }
        let value = value.map(|value| std::str::from_utf8(value).map_err(|_| ForwardedFault::Malformed)).transpose()?;
        match value.map(|value| value.trim_matches([' ', '\t'])) {
            None | Some("") if chain.is_empty() => Ok(None),
            None | Some("") => Err(ForwardedFault::ChainAlone),
            Some(value) => self.parse(value, &chain).map(Some),
        }
    }

    /// Whether a header says something of a certificate, or would if somebody on the way took `_` or `.` for `-`.
    fn is_alike(&self, name: &str) -> bool {
        let name = plain(name);
        name == self.header || KNOWN.contains(&&*name)
    }

    fn parse(&self, value: &str, chain: &[&[u8]]) -> Result<Forwarded, ForwardedFault> {
        match self.format {
            Format::Alb => pem::escaped_chain(value).map(Forwarded::of),
            Format::Haproxy => one(value).and_then(|der| peer(vec![der])),
            Format::Nginx => escaped_pem(value).map(Forwarded::of),
            Format::Rfc9440 => rfc9440(value, chain),
            Format::Traefik => {
                value.split(',').take(MAX_CHAIN + 1).map(base64_der).collect::<Result<_, _>>().and_then(peer)
            }
            Format::Xfcc => xfcc::read(value),
        }
    }
}

/// A name as those take it who look at no case and take `_` and `.` for `-`. Most are so already.
#[must_use]
pub fn plain(name: &str) -> Cow<'_, str> {
    match name.bytes().any(|byte| byte.is_ascii_uppercase() || matches!(byte, b'_' | b'.')) {
        true => Cow::Owned(name.to_ascii_lowercase().replace(['_', '.'], "-")),
        false => Cow::Borrowed(name),
    }
}

/// The leaf, and the chain behind it (RFC 9440 §2.2, §2.3).
fn rfc9440(value: &str, chain: &[&[u8]]) -> Result<Forwarded, ForwardedFault> {
    let mut certificates = vec![byte_sequence(value)?];
    for line in chain {
        let line = std::str::from_utf8(line).map_err(|_| ForwardedFault::Malformed)?;
        for member in line.split(',') {
            if certificates.len() == MAX_CHAIN {
                return Err(ForwardedFault::TooLong);
            }
            certificates.push(byte_sequence(member.trim_matches([' ', '\t']))?);
        }
    }
    peer(certificates)
}

/// `:` base64 `:` (RFC 8941 §3.3.5), without parameters.
fn byte_sequence(text: &str) -> Result<CertificateDer<'static>, ForwardedFault> {
    let inner = text.strip_prefix(':').and_then(|text| text.strip_suffix(':')).ok_or(ForwardedFault::Malformed)?;
    one(inner)
}

fn one(text: &str) -> Result<CertificateDer<'static>, ForwardedFault> {
    if text.contains(',') { Err(ForwardedFault::Several) } else { base64_der(text) }
}

fn base64_der(text: &str) -> Result<CertificateDer<'static>, ForwardedFault> {
    if text.len() > MAX_DER.div_ceil(3) * 4 {
        return Err(ForwardedFault::TooLong);
    }
    let der = STANDARD.decode(text).map_err(|_| ForwardedFault::Malformed)?;
    if der.is_empty() { Err(ForwardedFault::Malformed) } else { Ok(der.into()) }
}

fn peer(chain: Vec<CertificateDer<'static>>) -> Result<Forwarded, ForwardedFault> {
    certificate(chain).map(Forwarded::of)
}

/// The leaf first. As on a connection of one's own, a leaf that cannot be read here may still be one that a token is bound to.
fn certificate(chain: Vec<CertificateDer<'static>>) -> Result<PeerCert, ForwardedFault> {
    if chain.len() > MAX_CHAIN {
        return Err(ForwardedFault::TooLong);
    }
    PeerCert::from_chain(chain).ok_or(ForwardedFault::Malformed)
}
