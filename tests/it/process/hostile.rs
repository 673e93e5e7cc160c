//! Bytes that nobody honest sends: refused quickly, and forgotten.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use certbind_proto::entropy::{Entropy as _, SeededEntropy};
use hyper::{StatusCode, Version};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::client::{Asserter, billing, by_assertion, client, tls};
use super::rig::{PKI, Process, Site, within};

/// How long a refusal may take, on a busy machine and without optimisation.
const PROMPT: Duration = Duration::from_secs(1);

/// How much more memory may be in use afterwards, in KiB. Allocators keep some.
const GROWTH: u64 = 24 * 1024;

/// A server and what it needed before it was attacked.
struct Target {
    server: Process,
    rss: u64,
    descriptors: usize,
    _site: Site,
}

impl Target {
    async fn start() -> Self {
        let site = Site::new();
        // The largest body that can be configured: what is to be refused must not be refused for its size alone.
        let config = std::fs::read_to_string(site.path("certbind.toml")).unwrap();
        site.write("certbind.toml", &config.replace("[limits]\n", "[limits]\nmax_body_bytes = 1048576\n"));
        let server = site.start();
        server.assert_healthy().await;
        Self { rss: server.rss(), descriptors: server.descriptors(), server, _site: site }
    }

    /// As if nothing had been.
    async fn assert_recovered(self) {
        self.server.assert_healthy().await;
        within(async {
            while self.server.descriptors() > self.descriptors + 2 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        let grown = self.server.rss().saturating_sub(self.rss);
        println!("{grown} KiB more than before");
        assert!(grown < GROWTH, "{grown} KiB more than before");
        let stderr = self.server.stderr_at_end();
        assert!(!stderr.contains("panic"), "{stderr}");
    }
}

/// Random numbers that are the same in every run.
struct Dice(SeededEntropy);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(SeededEntropy::new(seed))
    }

    fn below(&self, end: usize) -> usize {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        usize::try_from(u64::from_le_bytes(bytes) % end as u64).unwrap()
    }

    fn bytes(&self, most: usize) -> Vec<u8> {
        let mut bytes = vec![0; self.below(most + 1)];
        self.0.fill(&mut bytes);
        bytes
    }

    /// The same with up to eight bits turned over, and perhaps cut short.
    fn spoil(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        for _ in 0..=self.below(8) {
            let at = self.below(bytes.len());
            bytes[at] ^= 1 << self.below(8);
        }
        if self.below(4) == 0 {
            bytes.truncate(self.below(bytes.len()));
        }
        bytes
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_18_ten_thousand_openings_that_are_no_tls() {
    const SENDERS: u64 = 20;
    let target = Target::start().await;
    let (address, hello) = (target.server.address, Arc::new(client_hello()));
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let hello = Arc::clone(&hello);
        senders.spawn(async move {
            let dice = Dice::new(sender);
            for _ in 0..10_000 / SENDERS {
                let answer = open_with(address, &opening(&dice, &hello)).await;
                assert!(!answer.starts_with(b"HTTP/"), "spoke HTTP without TLS");
            }
        });
    }
    senders.join_all().await;
    target.assert_recovered().await;
}

/// What a TLS client of ours would say first.
fn client_hello() -> Vec<u8> {
    let config = certbind_https::client_config(&[PKI.root.certificate().clone()], None).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

fn opening(dice: &Dice, hello: &[u8]) -> Vec<u8> {
    const SSL_2: &[u8] = &[0x80, 0x2e, 0x01, 0x00, 0x02, 0x00, 0x15, 0x00, 0x00, 0x00, 0x10, 0x01, 0x00, 0x80];
    let record = |kind: u8, version: u8, body: Vec<u8>| {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [vec![kind, 3, version], length.to_vec(), body].concat()
    };
    match dice.below(8) {
        0 => dice.bytes(600),
        1 => dice.spoil(hello.to_vec()),
        2 => [hello.to_vec(), dice.bytes(600)].concat(),
        3 => record(u8::try_from(20 + dice.below(5)).unwrap(), u8::try_from(dice.below(5)).unwrap(), dice.bytes(600)),
        4 => record(22, 1, [vec![1, 0, 1, 0, 3, 3], dice.bytes(600)].concat()),
        5 => [SSL_2.to_vec(), dice.bytes(40)].concat(),
        6 => b"POST /oauth2/token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".to_vec(),
        _ => [vec![22, 3, 1, 0xff, 0xff], dice.bytes(600)].concat(),
    }
}

/// Sends the bytes and the end, and gives what comes back. A reset is an answer too.
async fn open_with(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let _ = within(stream.read_to_end(&mut answer)).await;
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_18_spoilt_requests_inside_tls() {
    let target = Target::start().await;
    let address = target.server.address;
    let mut senders = JoinSet::new();
    for sender in 0..4 {
        senders.spawn(async move {
            let dice = Dice::new(1000 + sender);
            for round in 0..100 {
                let (protocol, bytes) = match round % 2 {
                    0 => ("http/1.1", dice.spoil(request("POST /oauth2/token", "", billing().encode().as_bytes()))),
                    _ => ("h2", http2(&dice)),
                };
                let answer = send_inside(address, protocol, &bytes).await;
                assert!(!answer.starts_with(b"HTTP/1.1 5"), "{}", String::from_utf8_lossy(&answer));
            }
        });
    }
    senders.join_all().await;
    target.assert_recovered().await;
}

/// The preface, and frames of any kind with any content (RFC 9113 §4.1).
fn http2(dice: &Dice) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for _ in 0..dice.below(20) {
        let body = dice.bytes(200);
        let (kind, flags) = (u8::try_from(dice.below(12)).unwrap(), u8::try_from(dice.below(64)).unwrap());
        let stream = u8::try_from(dice.below(4)).unwrap();
        bytes.extend([0, 0, u8::try_from(body.len()).unwrap(), kind, flags, 0, 0, 0, stream]);
        bytes.extend(body);
    }
    bytes
}

/// One request of HTTP/1.1, after which the connection ends.
fn request(line: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "{line} HTTP/1.1\r\nHost: localhost:8443\r\nConnection: close\r\n{headers}\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

async fn send_inside(address: SocketAddr, protocol: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = tls(address, Some(&PKI.billing.identity), &[protocol]).await.unwrap();
    let mut answer = Vec::new();
    // The server may close before it has read everything; what it said before that is still there to be read.
    let _ = within(stream.write_all(bytes)).await;
    let _ = stream.shutdown().await;
    let _ = within(stream.read_to_end(&mut answer)).await;
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_57_a_body_over_the_limit_gets_413_and_an_endless_one_as_well() {
    let target = Target::start().await;
    let address = target.server.address;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let mut connection = target.server.connect(Some(&PKI.billing.identity), version).await.unwrap();
        let start = Instant::now();
        let answer = connection.post("x".repeat(10 << 20), &[]).await;
        // HTTP/1.1 may be cut off while it still sends; then the next case shows the answer.
        if version == Version::HTTP_2 || answer.is_ok() {
            assert_eq!(answer.unwrap().status, StatusCode::PAYLOAD_TOO_LARGE);
        }
        assert!(start.elapsed() < PROMPT * 2, "{:?}", start.elapsed());
    }
    let claimed = request("POST /oauth2/token", "", &[]);
    let claimed = String::from_utf8(claimed).unwrap().replace("Content-Length: 0", "Content-Length: 99999999999");
    assert!(send_inside(address, "http/1.1", claimed.as_bytes()).await.starts_with(b"HTTP/1.1 413"));
    assert!(endless(address).await.starts_with("HTTP/1.1 413"));
    target.assert_recovered().await;
}

/// Chunks without end; what the server says to that, and that it stops listening soon.
async fn endless(address: SocketAddr) -> String {
    let stream = tls(address, Some(&PKI.billing.identity), &["http/1.1"]).await.unwrap();
    let (mut answer, mut sender) = tokio::io::split(stream);
    let head = "POST /oauth2/token HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\
                Content-Type: application/x-www-form-urlencoded\r\n\r\n";
    let sending = tokio::spawn(async move {
        let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
        let mut sent = sender.write_all(head.as_bytes()).await;
        for _ in 0..10_000 {
            if sent.is_err() {
                return;
            }
            sent = sender.write_all(chunk.as_bytes()).await;
        }
        panic!("160 MB were taken");
    });
    let mut text = Vec::new();
    let _ = within(answer.read_to_end(&mut text)).await;
    drop(answer);
    within(sending).await.unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_8_to_11_tokens_that_cost_only_their_sender() {
    let target = Target::start().await;
    let mut connection = target.server.connect(Some(&PKI.batch.identity), Version::HTTP_2).await.unwrap();
    for (name, assertion) in hostile_assertions() {
        for _ in 0..5 {
            let start = Instant::now();
            let answer = connection.token(&by_assertion(&assertion)).await.unwrap();
            let took = start.elapsed();
            assert!(took < PROMPT, "{name}: {took:?}");
            assert_eq!((answer.status, answer.error().as_str()), (StatusCode::BAD_REQUEST, "invalid_client"), "{name}");
        }
    }
    target.assert_recovered().await;
}

fn hostile_assertions() -> Vec<(&'static str, String)> {
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let good = Asserter::batch().fresh();
    let parts: Vec<&str> = good.split('.').collect();
    let with_header = |header: &str| format!("{}.{}.{}", encode(header), parts[1], parts[2]);
    let with_payload = |payload: &str| format!("{}.{}.{}", parts[0], encode(payload), parts[2]);
    let pbes2 = encode(r#"{"alg":"PBES2-HS512+A256KW","enc":"A256GCM","p2c":2147483647,"p2s":"c2FsdHNhbHQ"}"#);
    vec![
        ("a million dots", ".".repeat(1_000_000)),
        ("dots with something between them", "a.".repeat(500_000)),
        ("PBES2 with a count of 2^31", format!("{pbes2}.AAAA.AAAA.AAAA.AAAA")),
        ("the same with three parts", format!("{pbes2}.{}.{}", parts[1], parts[2])),
        ("a compressed payload", with_header(r#"{"alg":"ES256","zip":"DEF"}"#)),
        ("a huge kid", with_header(&format!(r#"{{"alg":"ES256","kid":"{}"}}"#, "k".repeat(700_000)))),
        ("a huge signature", format!("{}.{}.{}", parts[0], parts[1], "A".repeat(1_000_000))),
        ("a huge payload", with_payload(&format!(r#"{{"sub":"batch","x":"{}"}}"#, "x".repeat(700_000)))),
        ("a deep header", with_header(&format!(r#"{{"alg":"ES256","x":{}"#, "[".repeat(700_000)))),
        ("a deep payload", with_payload(&format!(r#"{{"sub":"batch","x":{}"#, r#"{"a":"#.repeat(100_000)))),
        ("a number without end", with_payload(&format!(r#"{{"sub":"batch","exp":{}}}"#, "9".repeat(10_000)))),
        ("a thousand members", with_payload(&format!("{{{}\"sub\":\"batch\"}}", r#""a":1,"#.repeat(1000)))),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_13_forms_and_heads_beyond_all_bounds() {
    let target = Target::start().await;
    let mut connection = target.server.connect(Some(&PKI.billing.identity), Version::HTTP_2).await.unwrap();
    let fields = (0..10_000).fold(billing(), |form, n| form.with(&format!("f{n}"), ""));
    let bodies = [
        ("ten thousand fields", fields.encode()),
        ("ten thousand times one field", (0..10_000).fold(billing(), |form, _| form.with("resource", "x")).encode()),
        ("nothing but separators", "&".repeat(1_000_000)),
        ("nothing but escapes", "%41".repeat(300_000)),
        ("a client_id of a megabyte", client(&"x".repeat(1_000_000)).encode()),
        ("a scope of a megabyte", billing().with("scope", &"a ".repeat(500_000)).encode()),
    ];
    for (name, body) in bodies {
        let start = Instant::now();
        let answer = connection.post(body, &[]).await.unwrap();
        assert!(answer.status.is_client_error() && !answer.error().is_empty(), "{name}: {}", answer.text);
        assert!(start.elapsed() < PROMPT * 2, "{name}: {:?}", start.elapsed());
    }
    let address = target.server.address;
    let many = "x-a: b\r\n".repeat(1000);
    let heads = [
        ("a header of 256 KiB", request("GET /", &format!("x-long: {}\r\n", "x".repeat(256 << 10)), &[])),
        ("a thousand headers", request("GET /", &many, &[])),
        ("a path of 64 KiB", request(&format!("GET /{}", "x".repeat(64 << 10)), "", &[])),
    ];
    for (name, bytes) in heads {
        let answer = send_inside(address, "http/1.1", &bytes).await;
        let text = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || text.starts_with("HTTP/1.1 4"), "{name}: {text}");
    }
    target.assert_recovered().await;
}
