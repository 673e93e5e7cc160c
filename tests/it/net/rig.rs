//! A listener to attack, and clients to attack it with.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use certbind::net::tls::{self, ClientCertificate, Resumption, Suites};
use certbind::net::{
    Capacity, ConnInfo, HandshakeFault, Limits, Listener, Observer, Reply, Service, Settings, TlsVersion, Transport,
};
use certbind_devpki::{DevPki, Identity, Validity};
use certbind_proto::time::{Clock as _, SystemClock};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use rustls::pki_types::ServerName;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(super) static PKI: LazyLock<DevPki> = LazyLock::new(|| DevPki::generate(validity()).unwrap());

/// Since yesterday, for thirty days.
pub(super) fn validity() -> Validity {
    Validity::days_from(SystemClock.now().unix() - 86_400, 30)
}

/// What a test may change before the listener starts.
pub(super) struct Setup {
    pub(super) encrypted: bool,
    pub(super) tls: tls::Settings,
    pub(super) limits: Limits,
    pub(super) connections: usize,
}

pub(super) struct Rig {
    pub(super) address: SocketAddr,
    pub(super) seen: Arc<Seen>,
    pub(super) acceptor: Arc<tls::Acceptor>,
    pub(super) tls: tls::Settings,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

/// What the listener reported.
#[derive(Default)]
pub(super) struct Seen(Mutex<BTreeMap<String, i64>>);

impl Seen {
    fn add(&self, what: impl Into<String>, count: i64) {
        *self.0.lock().unwrap().entry(what.into()).or_default() += count;
    }

    pub(super) fn count(&self, what: &str) -> i64 {
        self.0.lock().unwrap().get(what).copied().unwrap_or_default()
    }

    /// Waits until it was reported so often.
    pub(super) async fn wait(&self, what: &str, count: i64) {
        within(async {
            while self.count(what) != count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

impl Observer for Seen {
    fn opened(&self) {
        self.add("open", 1);
    }

    fn closed(&self) {
        self.add("open", -1);
    }

    fn refused(&self) {
        self.add("refused", 1);
    }

    fn accept_failed(&self) {
        self.add("accept failed", 1);
    }

    fn handshake(&self, outcome: Result<TlsVersion, HandshakeFault>, _took: Duration) {
        self.add(outcome.map_or_else(HandshakeFault::as_str, TlsVersion::as_str), 1);
    }
}

/// Tells the peer what is known of it; some paths misbehave.
struct Mirror;

impl Service for Mirror {
    type Body = Full<Bytes>;

    async fn call(&self, request: Request<Incoming>, connection: &Arc<ConnInfo>) -> Reply {
        let body = match request.uri().path() {
            "/big" => "x".repeat(8 << 20),
            "/body" => match request.into_body().collect().await {
                Ok(body) => body.to_bytes().len().to_string(),
                Err(_) => "broken".to_owned(),
            },
            "/panic" => panic!("as the test asked for"),
            "/slow" => {
                tokio::time::sleep(Duration::from_millis(400)).await;
                "slow".to_owned()
            }
            _ => describe(connection),
        };
        let mut reply = Response::new(Full::new(Bytes::from(body)));
        *reply.status_mut() = StatusCode::OK;
        reply
    }
}

fn describe(connection: &ConnInfo) -> String {
    let certificate = connection.certificate.as_ref().map_or("-".to_owned(), |cert| cert.thumbprint().to_string());
    let Some(tls) = &connection.tls else { return certificate };
    let (version, group) = (tls.version.as_str(), tls.group.unwrap_or("-"));
    let (resumed, sni) = (if tls.resumed { "resumed" } else { "full" }, tls.sni.as_deref().unwrap_or("-"));
    format!("{certificate} {version} {group} {resumed} {sni}")
}

impl Rig {
    pub(super) fn start() -> Self {
        Self::with(|_| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut Setup)) -> Self {
        let certificate = tls::certified_key(PKI.server.chain().to_vec(), PKI.server.key()).unwrap();
        let tls = tls::Settings {
            certificate,
            client_certificate: ClientCertificate::Optional,
            min_version: TlsVersion::Tls12,
            resumption: Resumption::Off,
            suites: Suites::Default,
        };
        let mut setup = Setup { encrypted: true, tls, limits: Limits::default(), connections: 1000 };
        change(&mut setup);

        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_address();
        let (stop, stopped) = watch::channel(false);
        let seen = Arc::new(Seen::default());
        let acceptor = Arc::new(tls::Acceptor::new(&setup.tls).unwrap());
        let settings = Settings {
            name: "test".into(),
            transport: match setup.encrypted {
                true => Transport::Tls(Arc::clone(&acceptor)),
                false => Transport::Plain,
            },
            connections: Capacity::new(setup.connections),
            limits: Arc::new(ArcSwap::from_pointee(setup.limits)),
            observer: seen.clone(),
        };
        let serving = tokio::spawn(listener.serve(settings, Arc::new(Mirror), stopped));
        Self { address, seen, acceptor, tls: setup.tls, stop, serving }
    }

    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until the drain is over.
    pub(super) async fn ended(self) {
        within(self.serving).await.unwrap();
    }

    pub(super) async fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    pub(super) async fn tls(&self, client: &Client) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(client.server_name.clone()).unwrap();
        TlsConnector::from(Arc::new(client.config.clone())).connect(name, self.tcp().await).await
    }

    /// Handshake, one request, the body of the answer. Any refusal is an error, also one that comes after the handshake.
    pub(super) async fn ask(&self, client: &Client) -> std::io::Result<String> {
        within(async {
            let mut stream = self.tls(client).await?;
            let answer = exchange(&mut stream, GET).await?;
            stream.shutdown().await?;
            Ok(answer)
        })
        .await
    }

    /// Fails unless an ordinary client is served.
    pub(super) async fn assert_healthy(&self) {
        assert!(self.ask(&Client::anonymous()).await.unwrap().starts_with("- 1.3"));
    }
}

pub(super) const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Sends one HTTP/1.1 request and reads the body of the answer.
pub(super) async fn exchange<T>(stream: &mut T, request: &str) -> std::io::Result<String>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    loop {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if body.len() == length.parse::<usize>().unwrap() {
            return Ok(body.to_owned());
        }
    }
}

/// Everything until the peer closes. A reset counts as closing.
pub(super) async fn read_to_close<T: tokio::io::AsyncRead + Unpin>(stream: &mut T) -> Vec<u8> {
    let mut all = Vec::new();
    within(async { while stream.read_buf(&mut all).await.is_ok_and(|count| count > 0) {} }).await;
    all
}

/// Nothing in these tests takes this long.
pub(super) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("not in time")
}

/// A TLS client.
pub(super) struct Client {
    pub(super) config: ClientConfig,
    pub(super) server_name: String,
}

impl Client {
    /// Without a certificate.
    pub(super) fn anonymous() -> Self {
        Self::new(&[], rustls::ALL_VERSIONS, |_| {})
    }

    /// With this certificate and its key.
    pub(super) fn of(identity: &Identity) -> Self {
        Self::anonymous().presenting(identity, identity)
    }

    /// Of one version only.
    pub(super) fn speaking(version: &'static rustls::SupportedProtocolVersion) -> Self {
        Self::new(&[], &[version], |_| {})
    }

    pub(super) fn new(
        alpn: &[&str],
        versions: &[&'static rustls::SupportedProtocolVersion],
        change: impl FnOnce(&mut rustls::crypto::CryptoProvider),
    ) -> Self {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        change(&mut provider);
        let mut roots = RootCertStore::empty();
        roots.add(PKI.root.certificate().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(versions).unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Self { config, server_name: "localhost".to_owned() }
    }

    /// Sends one certificate and signs with the key of, maybe, another.
    pub(super) fn presenting(mut self, certificate: &Identity, key: &Identity) -> Self {
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key.key()).unwrap();
        let certified = CertifiedKey::new(certificate.chain().to_vec(), key);
        self.config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
        self
    }
}
