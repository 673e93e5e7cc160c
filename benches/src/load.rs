//! The load: connections that send finished requests and wait for the answer, with as little work of their own as can be.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use certbind_devpki::Identity;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{SupportedKxGroup, aws_lc_rs::default_provider};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::LocalSet;
use tokio_rustls::TlsConnector;

/// A server that does not answer for so long hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection gives up after so many errors in one run.
const MOST_ERRORS: u64 = 10;

/// A peer that is ready to connect.
#[derive(Clone)]
pub(crate) enum Peer {
    /// A client with its certificate.
    Client { address: SocketAddr, connector: TlsConnector },
    /// A proxy that asks over a Unix socket.
    Proxy(Rc<Path>),
}

/// What requests are sent over.
trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

impl Peer {
    /// Offers this group for the key exchange and no other. Never resumes.
    pub(crate) fn new(
        address: SocketAddr,
        identity: &Identity,
        group: &'static dyn SupportedKxGroup,
    ) -> anyhow::Result<Self> {
        let mut provider = default_provider();
        provider.kx_groups = vec![group];
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer))
            .with_client_auth_cert(identity.chain().to_vec(), identity.key())?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Self::Client { address, connector: TlsConnector::from(Arc::new(config)) })
    }

    /// A connection with the handshake behind it, if there is one.
    pub(crate) async fn connect(&self) -> io::Result<Connection> {
        let stream: Box<dyn Stream> = match self {
            Self::Client { address, connector } => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
                Box::new(connector.connect(name, stream).await?)
            }
            Self::Proxy(socket) => Box::new(UnixStream::connect(socket).await?),
        };
        Ok(Connection { stream, buffer: Vec::with_capacity(8192) })
    }
}

/// An open connection.
pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

impl Connection {
    /// Sends a request, reads its whole response, and wants a 200. Gives the body.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<&[u8]> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the server closed the connection");
            }
            let Some(response) = parse_response(&self.buffer)? else { continue };
            if response.status != 200 {
                let text = String::from_utf8_lossy(&self.buffer);
                bail!(
                    "{}",
                    text.lines().next().unwrap_or_default().to_owned()
                        + " … "
                        + text.lines().last().unwrap_or_default()
                );
            }
            return Ok(&self.buffer[response.body..]);
        }
    }

    async fn close(mut self) {
        let _ = self.stream.shutdown().await;
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Parsed {
    status: u16,
    /// Where its body begins.
    body: usize,
}

/// The response, once all of it is there.
fn parse_response(bytes: &[u8]) -> anyhow::Result<Option<Parsed>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end]).context("the response's head is not text")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let (Some(status), Some(length)) = (status, length) else { bail!("not a response of known length: {head}") };
    let body = end + 4;
    Ok((bytes.len() >= body + length).then_some(Parsed { status, body }))
}

/// Finished requests, handed out one after another.
pub(crate) struct Requests {
    list: Vec<Vec<u8>>,
    next: Cell<usize>,
    supply: Supply,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Supply {
    Endless,
    Once,
}

impl Requests {
    /// The same ones again and again.
    pub(crate) fn repeated(list: Vec<Vec<u8>>) -> Self {
        Self { list, next: Cell::new(0), supply: Supply::Endless }
    }

    /// Each of them once; then the run is over.
    pub(crate) fn once(list: Vec<Vec<u8>>) -> Self {
        Self { list, next: Cell::new(0), supply: Supply::Once }
    }

    fn next(&self) -> Option<&[u8]> {
        let next = self.next.get();
        let index = match self.supply {
            Supply::Endless => next.checked_rem(self.list.len())?,
            Supply::Once => next,
        };
        self.next.set(next + 1);
        self.list.get(index).map(Vec::as_slice)
    }
}

/// How long a connection lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// It is there before the run and stays.
    Kept,
    /// One request; handshake and closing are part of what is measured.
    OneRequest,
}

/// What a run is made of.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) peer: Peer,
    pub(crate) requests: Rc<Requests>,
    pub(crate) lifetime: Lifetime,
    pub(crate) connections: usize,
    pub(crate) duration: Duration,
}

/// What came out of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// How long each request took that was answered with 200, sorted.
    pub(crate) latencies: Vec<Duration>,
    pub(crate) elapsed: Duration,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
}

/// Runs the plan, between a call of `probe` and another: connections that are kept are opened before and closed behind them.
pub(crate) async fn run<T>(plan: &Plan, probe: impl Fn() -> anyhow::Result<T>) -> anyhow::Result<(Outcome, T, T)> {
    let patience = plan.duration + PATIENCE;
    tokio::time::timeout(patience, LocalSet::new().run_until(run_inside(plan, probe)))
        .await
        .map_err(|_| anyhow!("no answer for {} seconds", PATIENCE.as_secs()))?
}

async fn run_inside<T>(plan: &Plan, probe: impl Fn() -> anyhow::Result<T>) -> anyhow::Result<(Outcome, T, T)> {
    let mut connections = Vec::with_capacity(plan.connections);
    for _ in 0..plan.connections {
        connections.push(match plan.lifetime {
            Lifetime::Kept => Some(plan.peer.connect().await?),
            Lifetime::OneRequest => None,
        });
    }
    let before = probe()?;
    let start = Instant::now();
    let workers: Vec<_> = connections
        .into_iter()
        .map(|connection| tokio::task::spawn_local(work(plan.clone(), connection, start + plan.duration)))
        .collect();
    let mut outcome = Outcome::default();
    let mut still_open = Vec::new();
    for worker in workers {
        let (connection, part) = worker.await?;
        still_open.push(connection);
        outcome.latencies.extend(part.latencies);
        outcome.errors += part.errors;
        outcome.first_error = outcome.first_error.or(part.first_error);
    }
    outcome.elapsed = start.elapsed();
    let after = probe()?;
    outcome.latencies.sort_unstable();
    Ok((outcome, before, after))
}

async fn work(plan: Plan, mut connection: Option<Connection>, deadline: Instant) -> (Option<Connection>, Outcome) {
    let mut outcome = Outcome::default();
    while outcome.errors < MOST_ERRORS {
        let start = Instant::now();
        let Some(request) = plan.requests.next().filter(|_| start < deadline) else { break };
        match one(&plan, &mut connection, request).await {
            Ok(()) => outcome.latencies.push(start.elapsed()),
            Err(error) => {
                connection = None;
                outcome.errors += 1;
                outcome.first_error.get_or_insert_with(|| format!("{error:#}"));
            }
        }
    }
    (connection, outcome)
}

async fn one(plan: &Plan, kept: &mut Option<Connection>, request: &[u8]) -> anyhow::Result<()> {
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => plan.peer.connect().await?,
    };
    connection.exchange(request).await?;
    match plan.lifetime {
        Lifetime::Kept => *kept = Some(connection),
        Lifetime::OneRequest => connection.close().await,
    }
    Ok(())
}

/// Believes any server: checking it is work of the client's that would only slow the load down.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_there_when_its_last_byte_is() {
        let whole = b"HTTP/1.1 200 OK\r\ndate: x\r\nContent-Length: 4\r\n\r\nbody";
        for length in 0..whole.len() {
            assert_eq!(parse_response(&whole[..length]).unwrap(), None, "{length}");
        }
        assert_eq!(parse_response(whole).unwrap(), Some(Parsed { status: 200, body: whole.len() - 4 }));
    }

    #[test]
    fn a_response_without_length_is_refused() {
        for head in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", "SSH-2.0\r\n\r\n"] {
            assert!(parse_response(head.as_bytes()).is_err(), "{head}");
        }
    }

    #[test]
    fn requests_are_repeated_or_run_out() {
        let list = || vec![b"a".to_vec(), b"b".to_vec()];
        let (endless, once) = (Requests::repeated(list()), Requests::once(list()));
        let taken = |requests: &Requests| (0..3).map(|_| requests.next().map(<[u8]>::to_vec)).collect::<Vec<_>>();
        assert_eq!(taken(&endless), [Some(b"a".to_vec()), Some(b"b".to_vec()), Some(b"a".to_vec())]);
        assert_eq!(taken(&once), [Some(b"a".to_vec()), Some(b"b".to_vec()), None]);
        assert_eq!(taken(&Requests::repeated(Vec::new())), [None, None, None]);
    }
}
