//! The whole crate against real TLS servers on loopback, each with one thing wrong.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use certbind_devpki::{Issuer, LeafSpec, San, Validity, rdn};
use hyper::Request;
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::*;

const LIMITS: Limits = Limits { connect: Duration::from_secs(5), max_bytes: 1000, total: Duration::from_secs(10) };
const IMPATIENT: Limits =
    Limits { connect: Duration::from_millis(300), max_bytes: 1000, total: Duration::from_millis(400) };
const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// From 1970 to 2100: what a test does not spoil holds at any time.
const ALWAYS: Validity = Validity { not_before: 0, not_after: 4_102_444_800 };

struct Authority(Issuer);

impl Authority {
    fn new() -> Self {
        Self::called("authority")
    }

    fn called(name: &str) -> Self {
        Self(Issuer::root(name, ALWAYS).expect("an authority"))
    }

    fn leaf(&self, spec: &LeafSpec) -> Identity {
        let leaf = self.0.leaf(spec).expect("a certificate");
        Identity { chain: leaf.chain().to_vec(), key: leaf.key() }
    }

    fn server(&self) -> Identity {
        self.leaf(&LeafSpec::server(ALWAYS))
    }

    fn client(&self) -> Identity {
        self.leaf(&LeafSpec::client("client", ALWAYS))
    }

    fn fetcher(&self, limits: Limits) -> Fetcher {
        self.fetcher_with(None, limits)
    }

    fn fetcher_with(&self, identity: Option<Identity>, limits: Limits) -> Fetcher {
        let config = client_config(std::slice::from_ref(self.0.certificate()), identity).expect("a configuration");
        Fetcher::new(Arc::new(config), AddressPolicy::AllowPrivate, limits)
    }
}

/// A TLS server whose every connection is handled by `talk`; counts the connections.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn start<T, F>(config: ServerConfig, talk: T) -> Self
    where
        T: Fn(TlsStream<TcpStream>) -> F + Send + Sync + 'static,
        F: Future<Output = std::io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let connections = Arc::new(AtomicUsize::new(0));
        let (counted, acceptor) = (connections.clone(), TlsAcceptor::from(Arc::new(config)));
        let talk = Arc::new(talk);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let (acceptor, talk) = (acceptor.clone(), talk.clone());
                tokio::spawn(async move { talk(acceptor.accept(tcp).await?).await });
            }
        });
        Self { address, connections }
    }

    /// Reads a request and answers with these bytes.
    async fn answering(identity: Identity, answer: impl Into<Vec<u8>>) -> Self {
        let answer: Arc<[u8]> = answer.into().into();
        Self::start(server_config(identity), move |mut stream| {
            let answer = answer.clone();
            async move {
                read_head(&mut stream).await?;
                stream.write_all(&answer).await?;
                stream.shutdown().await
            }
        })
        .await
    }

    fn url(&self) -> String {
        format!("https://localhost:{}/jwks.json", self.address.port())
    }

    fn hits(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn server_config(Identity { chain, key }: Identity) -> ServerConfig {
    server_builder(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a configuration")
}

fn server_builder(
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .expect("versions")
}

async fn read_head(stream: &mut TlsStream<TcpStream>) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8(head).expect("a head in ASCII"))
}

async fn get(fetcher: &Fetcher, url: &str) -> Result<Bytes, FetchError> {
    fetcher.get(url, "application/json").await
}

/// The fact alone, for comparison: errors of the libraries below do not compare.
fn fact(outcome: Result<Bytes, FetchError>) -> String {
    match outcome {
        Ok(body) => format!("{} bytes", body.len()),
        Err(FetchError::Closed(_)) => "Closed".to_owned(),
        Err(FetchError::NotHttp(_)) => "NotHttp".to_owned(),
        Err(FetchError::Tls(_)) => "Tls".to_owned(),
        Err(FetchError::Unreachable(_)) => "Unreachable".to_owned(),
        Err(FetchError::Unresolved(_)) => "Unresolved".to_owned(),
        Err(other) => format!("{other:?}"),
    }
}

#[tokio::test]
async fn a_request_is_addressed_to_its_host_and_asks_for_no_second() {
    let authority = Authority::new();
    let (heads, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::start(server_config(authority.server()), move |mut stream| {
        let heads = heads.clone();
        async move {
            let _ = heads.send(read_head(&mut stream).await?);
            stream.write_all(HELLO).await?;
            // The peer says that it goes, with a close_notify, though nothing here closes first.
            assert_eq!(stream.read(&mut [0; 8]).await?, 0);
            Ok(())
        }
    })
    .await;
    let url = format!("https://localhost:{}/a%20b?c=d", server.address.port());
    assert_eq!(get(&authority.fetcher(LIMITS), &url).await.expect("an answer"), "hello");
    let head = seen.recv().await.expect("a head");
    assert!(head.starts_with("GET /a%20b?c=d HTTP/1.1\r\n"), "{head}");
    for line in [
        format!("host: localhost:{}", server.address.port()),
        "connection: close".to_owned(),
        "accept: application/json".to_owned(),
        "accept-encoding: identity".to_owned(),
    ] {
        assert!(head.lines().any(|l| l == line), "{line} in {head}");
    }
}

#[tokio::test]
async fn rfc8725_3_10_only_a_plain_https_url_is_fetched() {
    let fetcher = Authority::new().fetcher(LIMITS);
    for (url, fault) in [
        ("http://localhost/jwks.json", UrlFault::NotHttps),
        ("file:///etc/passwd", UrlFault::Malformed),
        ("ftp://localhost/jwks.json", UrlFault::NotHttps),
        ("/jwks.json", UrlFault::NotHttps),
        ("localhost", UrlFault::NotHttps),
        ("https://user@localhost/", UrlFault::UserInfo),
        ("https://user:password@localhost/", UrlFault::UserInfo),
        ("https://127.1/", UrlFault::Host),
        ("https://2130706433/", UrlFault::Host),
        ("https://a..b/", UrlFault::Host),
        ("https://localhost:99999/", UrlFault::Malformed),
        ("https://", UrlFault::Malformed),
        ("", UrlFault::Malformed),
        ("https://a b/", UrlFault::Malformed),
    ] {
        match get(&fetcher, url).await {
            Err(FetchError::Url(found)) => assert_eq!(found, fault, "{url:?}"),
            other => panic!("{url:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn rfc8725_3_10_a_private_address_is_not_connected_to() {
    let authority = Authority::new();
    let canary = Server::answering(authority.server(), HELLO).await;
    let config = client_config(std::slice::from_ref(authority.0.certificate()), None).expect("a configuration");
    let fetcher = Fetcher::new(Arc::new(config), AddressPolicy::PublicOnly, LIMITS);
    for host in ["localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "169.254.169.254"] {
        let url = format!("https://{host}:{}/", canary.address.port());
        assert_eq!(fact(get(&fetcher, &url).await), "AddressRefused", "{host}");
    }
    let several = canary.address;
    let fetcher = fetcher.resolving(move |_| vec![several; 3]);
    assert_eq!(fact(get(&fetcher, "https://public.example/").await), "AddressRefused");
    assert_eq!(canary.hits(), 0);
}

#[tokio::test]
async fn rfc8725_3_10_a_name_is_resolved_once_and_that_answer_is_connected_to() {
    let authority = Authority::new();
    let rebinding = LeafSpec::server(ALWAYS).dns("rebind.example");
    let server = Server::answering(authority.leaf(&rebinding), HELLO).await;
    let canary = Server::answering(authority.leaf(&rebinding), HELLO).await;
    let (first, second, asked) = (server.address, canary.address, Arc::new(AtomicUsize::new(0)));
    let count = asked.clone();
    let fetcher = authority.fetcher(LIMITS).resolving(move |_| {
        let address = if count.fetch_add(1, Ordering::SeqCst) == 0 { first } else { second };
        vec![address]
    });
    assert_eq!(fact(get(&fetcher, "https://rebind.example/").await), "5 bytes");
    assert_eq!((asked.load(Ordering::SeqCst), server.hits(), canary.hits()), (1, 1, 0));
}

#[tokio::test]
async fn rfc8725_3_10_a_redirect_is_not_followed() {
    let authority = Authority::new();
    let canary = Server::answering(authority.server(), HELLO).await;
    for status in [301, 302, 303, 307, 308] {
        let answer = format!("HTTP/1.1 {status} Elsewhere\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", canary.url());
        let server = Server::answering(authority.server(), answer).await;
        let fetcher = authority.fetcher(LIMITS);
        assert_eq!(fact(get(&fetcher, &server.url()).await), format!("Status({status})"));
        let request = Request::post(server.url()).body(Bytes::from_static(b"a=b")).expect("a request");
        assert_eq!(fetcher.send(request).await.expect("an answer").status(), status);
    }
    assert_eq!(canary.hits(), 0);
}

#[tokio::test]
async fn rfc8725_3_10_an_answer_out_of_bounds_is_refused() {
    let authority = Authority::new();
    let chunk = format!("400\r\n{}\r\n", "x".repeat(0x400));
    let many_lines: String = (0..200).map(|n| format!("x-{n}: y\r\n")).collect();
    let with_body = |head: &str, size: usize| format!("HTTP/1.1 200 OK\r\n{head}\r\n{}", "x".repeat(size));
    for (name, answer, expected) in [
        ("at the cap", with_body("content-length: 1000\r\n", 1000), "1000 bytes"),
        ("over the cap", with_body("content-length: 1001\r\n", 1001), "TooLarge"),
        ("claims 100 MiB", with_body("content-length: 104857600\r\n", 100_000), "TooLarge"),
        ("until the end of the connection", with_body("", 100_000), "TooLarge"),
        ("chunks", format!("{}{}", with_body("transfer-encoding: chunked\r\n", 0), chunk.repeat(100)), "TooLarge"),
        ("compressed", with_body("content-encoding: gzip\r\ncontent-length: 9\r\n", 9), "ContentEncoded"),
        ("said to be plain", with_body("content-encoding: identity\r\ncontent-length: 9\r\n", 9), "9 bytes"),
        ("cut off", with_body("content-length: 10\r\n", 9), "Closed"),
        ("nothing at all", String::new(), "Closed"),
        ("garbage", "\0\u{1}\u{2}garbage\r\n\r\n".to_owned(), "NotHttp"),
        ("a long header", with_body(&format!("x: {}\r\n", "y".repeat(20_000)), 0), "NotHttp"),
        ("many header lines", with_body(&many_lines, 0), "NotHttp"),
        ("two lengths", with_body("content-length: 3\r\ncontent-length: 5\r\n", 5), "NotHttp"),
        ("500", "HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n".to_owned(), "Status(500)"),
    ] {
        let server = Server::answering(authority.server(), answer).await;
        assert_eq!(fact(get(&authority.fetcher(LIMITS), &server.url()).await), expected, "{name}");
    }
}

#[tokio::test]
async fn rfc8725_3_10_an_endless_answer_ends_at_the_cap() {
    let authority = Authority::new();
    let server = Server::start(server_config(authority.server()), |mut stream| async move {
        read_head(&mut stream).await?;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
        loop {
            stream.write_all(&[b'x'; 4096]).await?;
        }
    })
    .await;
    assert_eq!(fact(get(&authority.fetcher(LIMITS), &server.url()).await), "TooLarge");
}

#[tokio::test]
async fn rfc8725_3_10_a_slow_peer_is_left_at_the_deadline() {
    let authority = Authority::new();
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let silent_url = format!("https://localhost:{}/", silent.local_addr().expect("an address").port());
    let dripping = |start: &'static [u8]| {
        Server::start(server_config(authority.server()), move |mut stream| async move {
            read_head(&mut stream).await?;
            stream.write_all(start).await?;
            loop {
                stream.write_all(b"x").await?;
                stream.flush().await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    };
    let body = dripping(b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n").await;
    let header = dripping(b"HTTP/1.1 200 OK\r\nx: ").await;
    let interim = dripping(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nx: ").await;
    for (url, expected) in [
        (silent_url, "TooSlow(Connect)"),
        (body.url(), "TooSlow(Answer)"),
        (header.url(), "TooSlow(Answer)"),
        (interim.url(), "TooSlow(Answer)"),
    ] {
        let start = Instant::now();
        assert_eq!(fact(get(&authority.fetcher(IMPATIENT), &url).await), expected, "{url}");
        assert!(start.elapsed() < Duration::from_secs(3), "{url} took {:?}", start.elapsed());
    }
}

#[tokio::test]
async fn a_host_that_is_not_there_is_told_from_one_that_misbehaves() {
    let authority = Authority::new();
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let url = format!("https://localhost:{}/", free.port());
    assert_eq!(fact(get(&authority.fetcher(LIMITS), &url).await), "Unreachable");

    let nowhere = authority.fetcher(LIMITS).resolving(|_| Vec::new());
    assert_eq!(fact(get(&nowhere, "https://nowhere.example/").await), "Unresolved");

    let server = Server::answering(authority.server(), HELLO).await;
    let second = server.address;
    let fetcher = authority.fetcher(LIMITS).resolving(move |_| vec![free, second]);
    assert_eq!(fact(get(&fetcher, "https://localhost/").await), "5 bytes", "the second address is tried");

    let plain = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://localhost:{}/", plain.local_addr().expect("an address").port());
    tokio::spawn(
        async move { plain.accept().await.expect("a connection").0.write_all(b"HTTP/1.1 400 Bad\r\n\r\n").await },
    );
    assert_eq!(fact(get(&authority.fetcher(LIMITS), &url).await), "Tls");
}

#[tokio::test]
async fn rfc9525_6_the_server_name_is_looked_for_in_the_subject_alternative_names_only() {
    let authority = Authority::new();
    let with = |sans: Vec<San>| LeafSpec { sans, ..LeafSpec::server(ALWAYS) };
    let dns = |name: &str| San::Dns(name.to_owned());
    let loopback = || San::Ip([127, 0, 0, 1].into());
    let expired = Validity { not_before: 0, not_after: 1_577_836_800 };
    let common_name_only = LeafSpec { subject: vec![rdn("CN", "localhost")], ..with(Vec::new()) };
    for (name, spec, host, expected) in [
        ("right", with(vec![dns("localhost")]), "localhost", "5 bytes"),
        ("case", with(vec![dns("LocalHost")]), "lOCALhOST", "5 bytes"),
        ("other name", with(vec![dns("example.test")]), "localhost", "Tls"),
        ("second of two", with(vec![dns("a.test"), dns("b.test")]), "b.test", "5 bytes"),
        ("common name only", common_name_only, "localhost", "Tls"),
        ("expired", LeafSpec::server(expired), "localhost", "Tls"),
        ("for clients", LeafSpec::client("localhost", ALWAYS).dns("localhost"), "localhost", "Tls"),
        ("wildcard", with(vec![dns("*.example.test")]), "a.example.test", "5 bytes"),
        ("wildcard, two labels", with(vec![dns("*.example.test")]), "a.b.example.test", "Tls"),
        ("wildcard, no label", with(vec![dns("*.example.test")]), "example.test", "Tls"),
        ("wildcard, part of a label", with(vec![dns("a*.example.test")]), "ab.example.test", "Tls"),
        ("wildcard, inner label", with(vec![dns("a.*.test")]), "a.b.test", "Tls"),
        ("address", with(vec![loopback()]), "127.0.0.1", "5 bytes"),
        ("address as a name", with(vec![dns("127.0.0.1")]), "127.0.0.1", "Tls"),
        ("name for an address", with(vec![loopback()]), "localhost", "Tls"),
    ] {
        let server = Server::answering(authority.leaf(&spec), HELLO).await;
        let address = server.address;
        let fetcher = authority.fetcher(LIMITS).resolving(move |_| vec![address]);
        let url = format!("https://{host}:{}/", address.port());
        assert_eq!(fact(get(&fetcher, &url).await), expected, "{name}");
    }
}

#[tokio::test]
async fn rfc9525_6_a_certificate_of_another_authority_is_refused() {
    let authority = Authority::new();
    for stranger in [Authority::new(), Authority::called("another")] {
        let server = Server::answering(stranger.server(), HELLO).await;
        assert_eq!(fact(get(&authority.fetcher(LIMITS), &server.url()).await), "Tls");
    }
}

#[tokio::test]
async fn authorities_are_exchanged_as_a_whole_between_two_requests_and_bad_ones_change_nothing() {
    let (one, other) = (Authority::called("one"), Authority::called("other"));
    let server = Server::answering(one.server(), HELLO).await;
    let authorities = Authorities::new(std::slice::from_ref(other.0.certificate())).expect("an authority");
    let config = authorities.clone().client_config(None).expect("a configuration");
    let fetcher = Fetcher::new(Arc::new(config), AddressPolicy::AllowPrivate, LIMITS);
    assert_eq!(fact(get(&fetcher, &server.url()).await), "Tls");

    let (one, other) = (one.0.certificate().clone(), other.0.certificate().clone());
    assert!(authorities.replace(&[other.clone(), one.clone()]).expect("authorities"));
    assert!(!authorities.replace(&[other.clone(), one.clone()]).expect("the same ones"));
    assert_eq!(fact(get(&fetcher, &server.url()).await), "5 bytes");
    let junk = CertificateDer::from(vec![0x30, 0]);
    assert!(matches!(authorities.replace(&[other.clone(), junk]), Err(ConfigFault::Root(_))));
    assert_eq!(fact(get(&fetcher, &server.url()).await), "5 bytes");
    assert_eq!(*authorities.certificates(), [other, one]);
    assert!(authorities.replace(&[]).expect("nobody"));
    assert_eq!(fact(get(&fetcher, &server.url()).await), "Tls");
}

#[tokio::test]
async fn no_roots_is_no_trust() {
    let authority = Authority::new();
    let server = Server::answering(authority.server(), HELLO).await;
    let config = Arc::new(client_config(&[], None).expect("a configuration"));
    let fetcher = Fetcher::new(config, AddressPolicy::AllowPrivate, LIMITS);
    assert_eq!(fact(get(&fetcher, &server.url()).await), "Tls");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc8446_4_4_2_4_a_certificate_refused_after_the_handshake_is_told_as_such() {
    let authority = Authority::new();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.0.certificate().clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().expect("a verifier");
        let Identity { chain, key } = authority.server();
        let config = server_builder(&[version]).with_client_cert_verifier(verifier).with_single_cert(chain, key);
        let server = Server::start(config.expect("a configuration"), |mut stream| async move {
            read_head(&mut stream).await?;
            stream.write_all(HELLO).await
        })
        .await;
        let known = authority.fetcher_with(Some(authority.client()), LIMITS);
        assert_eq!(fact(get(&known, &server.url()).await), "5 bytes");
        let identities = [
            (Some(Authority::called("stranger").client()), "CertificateRefused(UnknownCA)"),
            (Some(Authority::new().client()), "CertificateRefused(DecryptError)"),
            (None, "CertificateRefused(CertificateRequired)"),
        ];
        for (identity, expected) in identities {
            let fetcher = authority.fetcher_with(identity, LIMITS);
            for _ in 0..20 {
                assert_eq!(fact(get(&fetcher, &server.url()).await), expected, "{version:?}");
            }
        }
    }
}

#[tokio::test]
async fn rfc8705_6_3_no_session_is_resumed_and_no_connection_kept() {
    let authority = Authority::new();
    let (kinds, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::start(server_config(authority.server()), move |mut stream| {
        let kinds = kinds.clone();
        async move {
            let _ = kinds.send(stream.get_ref().1.handshake_kind());
            read_head(&mut stream).await?;
            stream.write_all(HELLO).await
        }
    })
    .await;
    let fetcher = authority.fetcher_with(Some(authority.client()), LIMITS);
    for _ in 0..3 {
        assert_eq!(fact(get(&fetcher, &server.url()).await), "5 bytes");
        let kind = seen.recv().await.expect("a handshake");
        assert!(!matches!(kind, None | Some(rustls::HandshakeKind::Resumed)), "{kind:?}");
    }
    assert_eq!(server.hits(), 3);
}

#[test]
fn a_certificate_comes_with_its_own_key_and_the_key_does_not_print() {
    let authority = Authority::new();
    let (one, other) = (authority.client(), authority.client());
    assert_eq!(format!("{one:?}"), "Identity { chain: 1 certificates, key: [redacted] }");
    let mixed = Identity { chain: one.chain.clone(), key: other.key };
    assert!(matches!(client_config(&[], Some(mixed)), Err(ConfigFault::Identity(_))));
    assert!(client_config(&[], Some(one)).is_ok());
    let junk = CertificateDer::from(vec![0x30, 0]);
    assert!(matches!(client_config(&[junk], None), Err(ConfigFault::Root(_))));
}
