//! The request itself: URL, address, connection, answer.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderValue};
use hyper::http::uri::{Authority, PathAndQuery};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::{AddressPolicy, FetchError, Stage, UrlFault};

/// The most bytes of header that an answer may have.
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// The most header lines that an answer may have.
const MAX_HEADER_LINES: usize = 100;
/// The most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;
/// How long the peer gets to take our farewell once its answer is complete.
const FAREWELL: Duration = Duration::from_millis(100);

/// How much a request may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For name resolution, connection and TLS handshake together.
    pub connect: Duration,
    /// The most bytes of body that an answer may have.
    pub max_bytes: usize,
    /// For everything, from the URL to the last byte of the answer.
    pub total: Duration,
}

impl Default for Limits {
    /// 2 s to connect, 5 s in all, 64 KiB.
    fn default() -> Self {
        Self { connect: Duration::from_secs(2), max_bytes: 64 * 1024, total: Duration::from_secs(5) }
    }
}

/// Makes bounded HTTPS requests, each over a connection of its own.
#[derive(Clone)]
pub struct Fetcher {
    tls: TlsConnector,
    addresses: AddressPolicy,
    limits: Limits,
    resolver: Resolver,
}

impl Fetcher {
    /// With these TLS settings (see [`client_config`](crate::client_config)), address policy and limits.
    #[must_use]
    pub fn new(tls: Arc<ClientConfig>, addresses: AddressPolicy, limits: Limits) -> Self {
        Self { tls: TlsConnector::from(tls), addresses, limits, resolver: Resolver::System }
    }

    /// The body behind a URL.
    ///
    /// # Errors
    /// What [`send`](Self::send) says; [`FetchError::Status`] for any answer but a 200, redirects included.
    pub async fn get(&self, url: &str, accept: &'static str) -> Result<Bytes, FetchError> {
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = url.parse().map_err(|_| UrlFault::Malformed)?;
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static(accept));
        let response = self.send(request).await?;
        match response.status() {
            StatusCode::OK => Ok(response.into_body()),
            other => Err(FetchError::Status(other.as_u16())),
        }
    }

    /// Sends a request whose URI is the whole URL, and reads the whole answer, whatever its status.
    ///
    /// `Host`, `Connection` and `Accept-Encoding` are set here. To drop the future is to drop the connection.
    ///
    /// # Errors
    /// The fact that stood between request and complete answer.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, FetchError> {
        let target = Target::of(request.uri())?;
        let work = async {
            let stream = timeout(self.limits.connect, self.connect(&target)).await;
            let stream = stream.map_err(|_| FetchError::TooSlow(Stage::Connect))??;
            exchange(stream, target.address(request)?, self.limits.max_bytes).await
        };
        timeout(self.limits.total, work).await.map_err(|_| FetchError::TooSlow(Stage::Answer))?
    }

    async fn connect(&self, target: &Target) -> Result<TlsStream<TcpStream>, FetchError> {
        let permitted = self.permitted_addresses(target).await?;
        let tcp = connect_to_any(&permitted, Instant::now() + self.limits.connect).await?;
        tcp.set_nodelay(true).map_err(FetchError::Unreachable)?;
        self.tls.connect(target.name.clone(), tcp).await.map_err(FetchError::from_handshake)
    }

    /// Resolves the name, once, and keeps the addresses that the policy permits.
    async fn permitted_addresses(&self, target: &Target) -> Result<Vec<SocketAddr>, FetchError> {
        let found = self.resolver.resolve(&target.host, target.port).await;
        let found = found.map_err(|error| FetchError::Unresolved(Some(error)))?;
        if found.is_empty() {
            return Err(FetchError::Unresolved(None));
        }
        let permitted = found.into_iter().filter(|address| self.addresses.permits(address.ip()));
        let permitted: Vec<_> = permitted.take(MAX_ADDRESSES).collect();
        if permitted.is_empty() { Err(FetchError::AddressRefused) } else { Ok(permitted) }
    }

    /// With names resolved by a function, for tests of names that this machine does not know.
    #[cfg(test)]
    pub(crate) fn resolving(mut self, resolve: impl Fn(&str) -> Vec<SocketAddr> + Send + Sync + 'static) -> Self {
        self.resolver = Resolver::Fixed(Arc::new(resolve));
        self
    }
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetcher")
            .field("addresses", &self.addresses)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

#[derive(Clone)]
enum Resolver {
    System,
    #[cfg(test)]
    Fixed(Arc<FixedNames>),
}

#[cfg(test)]
type FixedNames = dyn Fn(&str) -> Vec<SocketAddr> + Send + Sync;

impl Resolver {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::System => Ok(tokio::net::lookup_host((host, port)).await?.collect()),
            #[cfg(test)]
            Self::Fixed(resolve) => Ok(resolve(host)),
        }
    }
}

/// Where a URL points: taken apart and found usable.
struct Target {
    authority: Authority,
    host: String,
    name: ServerName<'static>,
    port: u16,
}

impl Target {
    fn of(uri: &Uri) -> Result<Self, UrlFault> {
        if uri.scheme_str() != Some("https") {
            return Err(UrlFault::NotHttps);
        }
        let authority = uri.authority().ok_or(UrlFault::Host)?.clone();
        if authority.as_str().contains('@') {
            return Err(UrlFault::UserInfo);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = match host.parse::<IpAddr>() {
            Ok(address) => ServerName::IpAddress(address.into()),
            Err(_) => ServerName::try_from(host.clone()).map_err(|_| UrlFault::Host)?,
        };
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            None if authority.as_str().ends_with(':') || !has_port(&authority) => 443,
            None => return Err(UrlFault::Malformed),
        };
        Ok(Self { authority, host, name, port })
    }

    /// Puts the target into the request as HTTP/1.1 wants it: path in the first line, host in its header
    /// (RFC 9112 §3.2.1).
    fn address(&self, request: Request<Bytes>) -> Result<Request<Full<Bytes>>, UrlFault> {
        let (mut head, body) = request.into_parts();
        let host = HeaderValue::from_str(self.authority.as_str()).map_err(|_| UrlFault::Host)?;
        head.headers.insert(header::HOST, host);
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        head.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let path = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        head.uri = Uri::from(path);
        Ok(Request::from_parts(head, Full::new(body)))
    }
}

/// Whether something stands between host and end of the authority.
fn has_port(authority: &Authority) -> bool {
    authority.as_str().len() > authority.host().len()
}

/// Tries one address after the other; each gets an equal share of the time that is left.
async fn connect_to_any(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, FetchError> {
    let mut last = FetchError::Unresolved(None);
    for (tried, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        last = match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => FetchError::Unreachable(error),
            Err(_) => FetchError::TooSlow(Stage::Connect),
        };
    }
    Err(last)
}

/// One request and its whole answer over a fresh connection.
async fn exchange(
    stream: TlsStream<TcpStream>,
    request: Request<Full<Bytes>>,
    max_bytes: usize,
) -> Result<Response<Bytes>, FetchError> {
    let mut http = http1::Builder::new();
    http.max_headers(MAX_HEADER_LINES).max_header_size(MAX_HEADER_BYTES);
    let (mut sender, mut connection) = http.handshake(TokioIo::new(stream)).await.map_err(FetchError::from_http)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(FetchError::from_http)?;
        collect(response, max_bytes).await
    };
    tokio::pin!(answer);
    let outcome = tokio::select! {
        outcome = &mut answer => outcome,
        // The connection has said all it will; what it said waits to be read, but why it ended only it may know.
        ended = &mut connection => return match (answer.await, ended) {
            (Err(FetchError::Closed(None)), Err(error)) => Err(FetchError::from_http(error)),
            (outcome, _) => outcome,
        },
    };
    if outcome.is_ok() {
        let _ = timeout_at(Instant::now() + FAREWELL, connection).await;
    }
    outcome
}

/// Reads the body, and stops at the first byte too many.
async fn collect(response: Response<Incoming>, max_bytes: usize) -> Result<Response<Bytes>, FetchError> {
    let (head, body) = response.into_parts();
    if head.headers.get_all(header::CONTENT_ENCODING).iter().any(|value| value != "identity") {
        return Err(FetchError::ContentEncoded);
    }
    let collected = Limited::new(body, max_bytes).collect().await.map_err(|error| match error.downcast() {
        Ok(http) => FetchError::from_http(*http),
        Err(error) if error.is::<LengthLimitError>() => FetchError::TooLarge,
        Err(_) => FetchError::Closed(None),
    })?;
    Ok(Response::from_parts(head, collected.to_bytes()))
}
