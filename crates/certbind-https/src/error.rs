//! Why a request brought no answer.

use std::error::Error as StdError;
use std::io;

use rustls::AlertDescription;

/// Why a request brought no answer: one variant for each fact.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The name resolves to nothing but addresses that the [`AddressPolicy`](crate::AddressPolicy) refuses.
    #[error("every address of the host is refused by the address policy")]
    AddressRefused,
    /// The server refused the certificate shown, or the lack of one. In TLS 1.3 that comes after the handshake has ended
    /// on this side, in place of the answer (RFC 8446 §4.4.2.4, §6.2).
    #[error("the server refused the client certificate (alert {0:?})")]
    CertificateRefused(AlertDescription),
    /// The connection ended before the answer did.
    #[error("the connection ended before the answer was complete")]
    Closed(#[source] Option<io::Error>),
    /// The body is compressed or otherwise encoded; nothing here unpacks it.
    #[error("the answer has a content encoding")]
    ContentEncoded,
    /// What came back is not HTTP/1.1, or has more header than is taken: 16 KiB, 100 lines.
    #[error("the answer is not HTTP/1.1, or its header is too large")]
    NotHttp(#[source] hyper::Error),
    /// A status other than 200, which [`get`](crate::Fetcher::get) does not accept; a redirect is one.
    #[error("the answer has status {0}, not 200")]
    Status(u16),
    /// The TLS handshake failed, mostly because the server's certificate is not trusted or names another host.
    #[error("TLS failed")]
    Tls(#[source] rustls::Error),
    /// More body than the limits allow.
    #[error("the answer is too large")]
    TooLarge,
    /// A deadline passed.
    #[error("{0}")]
    TooSlow(Stage),
    /// No connection: the network or the host refuses.
    #[error("no connection to the host")]
    Unreachable(#[source] io::Error),
    /// The host name has no address.
    #[error("the host name does not resolve")]
    Unresolved(#[source] Option<io::Error>),
    /// The URL itself will not do.
    #[error(transparent)]
    Url(#[from] UrlFault),
}

/// Which deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stage {
    /// The one for the complete answer.
    #[error("the answer took too long")]
    Answer,
    /// The one for name resolution, connection and TLS handshake together.
    #[error("connecting took too long")]
    Connect,
}

/// What is wrong with a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlFault {
    /// Neither a DNS name nor an IP address.
    #[error("the URL has no usable host")]
    Host,
    /// No URL at all.
    #[error("this is not a URL")]
    Malformed,
    /// Any other scheme, `http` above all.
    #[error("only https URLs are fetched")]
    NotHttps,
    /// `user:password@`.
    #[error("a URL with user information is not fetched")]
    UserInfo,
}

impl FetchError {
    /// From what the I/O layer says while connecting.
    pub(crate) fn from_handshake(error: io::Error) -> Self {
        match tls_error(&error) {
            Some(tls) => Self::from_tls(tls.clone()),
            None => Self::Closed(Some(error)),
        }
    }

    /// From what the HTTP layer says. A TLS alert hides in the chain of sources, and says more than its wrapping.
    pub(crate) fn from_http(error: hyper::Error) -> Self {
        if error.is_parse() {
            return Self::NotHttp(error);
        }
        match sources(&error).find_map(|source| source.downcast_ref::<io::Error>()) {
            Some(io) => match tls_error(io) {
                Some(tls) => Self::from_tls(tls.clone()),
                None => Self::Closed(Some(io::Error::from(io.kind()))),
            },
            None => Self::Closed(None),
        }
    }

    fn from_tls(error: rustls::Error) -> Self {
        match error {
            rustls::Error::AlertReceived(alert) if is_about_certificate(alert) => Self::CertificateRefused(alert),
            other => Self::Tls(other),
        }
    }
}

/// The alerts with which a peer judges a certificate, or a signature in or by it; received here, it can only be ours
/// (RFC 8446 §6.2).
fn is_about_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::AccessDenied
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRequired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError
            | AlertDescription::NoCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::UnsupportedCertificate
    )
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn sources<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(error.source(), |&inner| inner.source())
}
