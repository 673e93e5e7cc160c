//! Against a real TLS server on loopback, which counts the connections it gets.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use certbind_devpki::{Identity, Issuer, LeafSpec, Validity};
use certbind_https::{AddressPolicy, Authorities};
use certbind_proto::jws::{Algorithm, SigningKey};
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::Timestamp;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::*;

/// From 1970 to 2100: what a test does not spoil holds at any time.
const ALWAYS: Validity = Validity { not_before: 0, not_after: 4_102_444_800 };
const UNAVAILABLE: RemoteKeysFault = RemoteKeysFault::Unavailable;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(1_795_000_000 + seconds)
}

/// What the endpoint does with a request.
#[derive(Clone)]
enum Behaviour {
    /// Sends this status line's end and header, and this body.
    Answer(&'static str, Vec<u8>),
    /// Sends these bytes again and again.
    Endless(&'static [u8]),
    /// Sends one byte now and then.
    Drip,
    /// Sends nothing.
    Silence,
}

/// A client's endpoint.
struct Endpoint {
    address: SocketAddr,
    hits: Arc<AtomicUsize>,
    behaviour: Arc<Mutex<Behaviour>>,
}

impl Endpoint {
    async fn start(identity: &Identity) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (hits, behaviour) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Behaviour::Silence)));
        let (counted, shared, acceptor) = (hits.clone(), behaviour.clone(), acceptor(identity));
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let (acceptor, behaviour) = (acceptor.clone(), shared.lock().unwrap().clone());
                tokio::spawn(async move { behave(acceptor.accept(tcp).await?, behaviour).await });
            }
        });
        Self { address, hits, behaviour }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}/jwks.json", self.address.port())
    }

    fn does(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    fn publishes(&self, document: &Value) {
        self.does(Behaviour::Answer("200 OK", document.to_string().into_bytes()));
    }

    fn fails(&self) {
        self.does(Behaviour::Answer("500 Oh", Vec::new()));
    }

    fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }
}

fn acceptor(identity: &Identity) -> TlsAcceptor {
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(identity.chain().to_vec(), identity.key())
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn behave(mut stream: TlsStream<TcpStream>, behaviour: Behaviour) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    match behaviour {
        Behaviour::Answer(status, body) => {
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&body).await?;
            stream.shutdown().await
        }
        Behaviour::Endless(bytes) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            loop {
                stream.write_all(bytes).await?;
            }
        }
        Behaviour::Drip => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9000\r\n\r\n").await?;
            loop {
                stream.write_all(b" ").await?;
                stream.flush().await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Behaviour::Silence => std::future::pending().await,
    }
}

/// An authority, an endpoint that it vouches for, and the server's side.
struct Rig {
    authority: Issuer,
    endpoint: Endpoint,
    keys: PublishedKeys,
}

impl Rig {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let authority = Issuer::root("authority", ALWAYS).unwrap();
        let endpoint = Endpoint::start(&authority.leaf(&LeafSpec::server(ALWAYS)).unwrap()).await;
        let mut settings = Settings::new(Authorities::new(std::slice::from_ref(authority.certificate())).unwrap());
        settings.addresses = AddressPolicy::AllowPrivate;
        change(&mut settings);
        Self { authority, endpoint, keys: PublishedKeys::new(settings).unwrap() }
    }

    async fn keys(&self, wanted: Wanted<'_>, now: Timestamp) -> Result<Arc<JwkSet>, RemoteKeysFault> {
        self.keys.keys(&self.endpoint.url(), wanted, now).await
    }

    /// How many keys there are.
    async fn count(&self, wanted: Wanted<'_>, now: Timestamp) -> Result<usize, RemoteKeysFault> {
        Ok(self.keys(wanted, now).await?.len())
    }

    /// Waits, for a short while, until a fetch beside the requests is over.
    async fn fetched(&self, times: u64) {
        let start = Instant::now();
        while self.keys.fetches().succeeded + self.keys.fetches().failed < times {
            assert!(start.elapsed() < Duration::from_secs(10), "the fetch does not end");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn key(kid: &str) -> Value {
    SigningKey::generate(Algorithm::EdDsa).unwrap().public_jwk(kid).to_json()
}

fn set(kids: &[&str]) -> Value {
    json!({ "keys": kids.iter().map(|kid| key(kid)).collect::<Vec<_>>() })
}

/// A self-signed certificate as a client publishes it (RFC 8705 §2.2.2).
fn certificate(name: &str) -> (Value, Thumbprint) {
    use base64::Engine as _;
    use certbind_devpki::KeyAlgorithm;
    let identity = Identity::self_signed(&LeafSpec::client(name, ALWAYS).key(KeyAlgorithm::Ed25519)).unwrap();
    let signing = SigningKey::from_pkcs8_der(identity.key_pkcs8(), Algorithm::EdDsa).unwrap();
    let mut jwk = signing.public_jwk(name).to_json();
    jwk["x5c"] = json!([base64::engine::general_purpose::STANDARD.encode(identity.certificate())]);
    (jwk, Thumbprint::of_der(identity.certificate()))
}

#[tokio::test]
async fn rfc7517_5_what_is_broken_or_unknown_in_a_set_is_left_out() {
    let rig = Rig::new().await;
    let mut broken = key("broken");
    broken["x"] = json!("AA");
    let unknown = json!({ "kty": "AKP", "kid": "unknown", "alg": "ML-DSA-44", "pub": "AA" });
    let secret = json!({ "kty": "oct", "kid": "secret", "k": "AA" });
    rig.endpoint.publishes(&json!({ "keys": [unknown, broken, 1, secret, key("good")] }));
    let set = rig.keys(Wanted::Kid("good"), at(0)).await.unwrap();
    assert_eq!(set.iter().map(|key| key.kid()).collect::<Vec<_>>(), [Some("good")]);
}

#[tokio::test]
async fn rfc8725_3_10_an_endpoint_out_of_bounds_gives_no_keys() {
    let rig = Rig::with(|settings| settings.timeout = Duration::from_millis(700)).await;
    let many: Vec<_> = (0..10_000).map(|n| json!({ "kty": "OKP", "kid": n.to_string() })).collect();
    let large = format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(64 * 1024));
    let answer = |status, body: &[u8]| Behaviour::Answer(status, body.to_vec());
    for (name, behaviour) in [
        ("silence", Behaviour::Silence),
        ("drip", Behaviour::Drip),
        ("endless", Behaviour::Endless(b"xxxxxxxxxxxxxxxx")),
        ("too large", answer("200 OK", large.as_bytes())),
        ("gzip", answer("200 OK\r\ncontent-encoding: gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00")),
        ("redirect to a link-local address", answer("301 M\r\nlocation: https://169.254.169.254/", b"")),
        ("redirect to a file", answer("302 F\r\nlocation: file:///etc/passwd", b"")),
        ("redirect to itself", answer("307 T\r\nlocation: /jwks.json", b"")),
        ("500", answer("500 Oh", b"{\"keys\":[]}")),
        ("404", answer("404 No", b"{\"keys\":[]}")),
        ("garbage", answer("200 OK", b"\xff\xfe\x00garbage")),
        ("cut off", answer("200 OK", b"{\"keys\":[")),
        ("something after it", answer("200 OK", b"{\"keys\":[]} {}")),
        ("two lists", answer("200 OK", b"{\"keys\":[],\"keys\":[]}")),
        ("an array", answer("200 OK", b"[]")),
        ("no list", answer("200 OK", b"{}")),
        ("10,000 keys", answer("200 OK", json!({ "keys": many }).to_string().as_bytes())),
        ("500 keys", answer("200 OK", json!({ "keys": many[..500] }).to_string().as_bytes())),
        ("33 keys", answer("200 OK", json!({ "keys": many[..33] }).to_string().as_bytes())),
        ("deep", answer("200 OK", format!("{{\"keys\":{}", "[".repeat(60_000)).as_bytes())),
    ] {
        rig.endpoint.does(behaviour);
        let (before, start) = (rig.endpoint.hits(), Instant::now());
        let url = format!("{}?{}", rig.endpoint.url(), name.replace(' ', "-"));
        assert_eq!(rig.keys.keys(&url, Wanted::AnyKey, at(0)).await.map(|_| ()), Err(UNAVAILABLE), "{name}");
        assert!(start.elapsed() < Duration::from_secs(3), "{name} took {:?}", start.elapsed());
        assert_eq!(rig.endpoint.hits(), before + 1, "{name}: once, and nowhere else");
    }
    rig.fetched(20).await;
    assert_eq!(rig.keys.fetches(), Fetches { failed: 20, succeeded: 0 });
}

#[tokio::test]
async fn rfc8725_3_10_private_addresses_are_not_connected_to_unless_allowed() {
    let rig = Rig::with(|settings| settings.addresses = AddressPolicy::PublicOnly).await;
    rig.endpoint.publishes(&set(&["k"]));
    let port = rig.endpoint.address.port();
    let hosts = ["localhost", "127.0.0.1", "127.1", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1", "169.254.169.254"];
    for host in hosts {
        let url = format!("https://{host}:{port}/jwks.json");
        let start = Instant::now();
        assert_eq!(rig.keys.keys(&url, Wanted::AnyKey, at(0)).await.map(|_| ()), Err(UNAVAILABLE), "{url}");
        assert!(start.elapsed() < Duration::from_secs(2), "{url} took {:?}", start.elapsed());
    }
    assert_eq!(rig.endpoint.hits(), 0);
}

#[tokio::test]
async fn fapi_5_4_2_only_https_from_the_right_host_is_fetched() {
    let rig = Rig::new().await;
    rig.endpoint.publishes(&set(&["k"]));
    let https = rig.endpoint.url();
    let plain = https.replace("https", "http");
    for url in [plain.as_str(), "file:///etc/passwd", "", "jwks.json", "data:application/json,{\"keys\":[]}"] {
        assert_eq!(rig.keys.keys(url, Wanted::AnyKey, at(0)).await.map(|_| ()), Err(UNAVAILABLE), "{url}");
    }
    assert_eq!(rig.endpoint.hits(), 0);

    let wrong_name = LeafSpec { sans: Vec::new(), ..LeafSpec::server(ALWAYS) }.dns("elsewhere.test");
    let stranger = Issuer::root("authority", ALWAYS).unwrap();
    let identities = [rig.authority.leaf(&wrong_name).unwrap(), stranger.leaf(&LeafSpec::server(ALWAYS)).unwrap()];
    for identity in identities {
        let impostor = Endpoint::start(&identity).await;
        impostor.publishes(&set(&["k"]));
        let outcome = rig.keys.keys(&impostor.url(), Wanted::AnyKey, at(0)).await;
        assert_eq!(outcome.map(|_| ()), Err(UNAVAILABLE));
    }
}

#[tokio::test]
async fn rfc8725_3_10_a_flood_of_unknown_kids_makes_one_fetch_in_a_cool_down() {
    let empty = json!({ "keys": [] }).to_string().into_bytes();
    for (name, behaviour) in [
        ("a good set", Behaviour::Answer("200 OK", set(&["k"]).to_string().into_bytes())),
        ("an empty set", Behaviour::Answer("200 OK", empty)),
        ("500", Behaviour::Answer("500 Oh", Vec::new())),
        ("garbage", Behaviour::Answer("200 OK", b"garbage".to_vec())),
    ] {
        let rig = Rig::new().await;
        rig.endpoint.does(behaviour);
        for n in 0..1_000i64 {
            let kid = format!("random-{n}");
            let wanted = if n % 3 == 0 { Wanted::AnyKey } else { Wanted::Kid(&kid) };
            let _ = rig.keys(wanted, at(n % 30)).await;
        }
        assert_eq!(rig.endpoint.hits(), 1, "{name}");
        let _ = rig.keys(Wanted::Kid("one-more"), at(30)).await;
        assert_eq!(rig.endpoint.hits(), 2, "{name}, after the cool-down");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc8725_3_10_many_at_once_share_one_fetch() {
    let rig = Arc::new(Rig::new().await);
    rig.endpoint.publishes(&set(&["k"]));
    let asking = (0..200).map(|_| {
        let rig = rig.clone();
        tokio::spawn(async move { rig.count(Wanted::Kid("k"), at(0)).await })
    });
    for asked in asking.collect::<Vec<_>>() {
        assert_eq!(asked.await.unwrap(), Ok(1));
    }
    assert_eq!(rig.endpoint.hits(), 1);
}

#[tokio::test]
async fn rfc8725_3_10_a_request_that_hangs_up_does_not_stop_the_fetch() {
    let rig = Rig::new().await;
    rig.endpoint.publishes(&set(&["k"]));
    let hangs_up = rig.keys(Wanted::Kid("k"), at(0));
    assert!(tokio::time::timeout(Duration::ZERO, hangs_up).await.is_err());
    rig.fetched(1).await;
    assert_eq!(rig.count(Wanted::Kid("k"), at(1)).await, Ok(1));
    assert_eq!(rig.endpoint.hits(), 1);
}

#[tokio::test]
async fn rfc8725_3_10_known_keys_serve_while_the_endpoint_fails_and_not_for_ever() {
    let rig = Rig::new().await;
    rig.endpoint.publishes(&set(&["k"]));
    assert_eq!(rig.count(Wanted::Kid("k"), at(0)).await, Ok(1));
    rig.endpoint.fails();
    for (now, hits) in [(599, 2), (600, 2), (628, 2), (629, 3), (650, 3), (3599, 4)] {
        assert_eq!(rig.count(Wanted::Kid("k"), at(now)).await, Ok(1), "at {now}");
        rig.fetched(hits).await;
        assert_eq!(rig.endpoint.hits() as u64, hits, "at {now}");
    }
    assert_eq!(rig.count(Wanted::Kid("k"), at(3600)).await, Err(UNAVAILABLE), "over, and just asked");
    assert_eq!(rig.count(Wanted::Kid("k"), at(3629)).await, Err(UNAVAILABLE), "over, and asked in vain");
    rig.endpoint.publishes(&set(&["k"]));
    assert_eq!(rig.count(Wanted::Kid("k"), at(3658)).await, Err(UNAVAILABLE), "not asked within the cool-down");
    assert_eq!(rig.count(Wanted::Kid("k"), at(3659)).await, Ok(1), "it comes back alone");
}

#[tokio::test]
async fn a_busy_client_never_waits_for_its_own_endpoint() {
    let rig = Rig::new().await;
    rig.endpoint.publishes(&set(&["k"]));
    assert_eq!(rig.count(Wanted::Kid("k"), at(0)).await, Ok(1));
    rig.endpoint.does(Behaviour::Silence);
    let start = Instant::now();
    for now in 300..330 {
        assert_eq!(rig.count(Wanted::Kid("k"), at(now)).await, Ok(1));
    }
    assert!(start.elapsed() < Duration::from_secs(1), "took {:?}", start.elapsed());
    assert!(rig.endpoint.hits() <= 2);
}

#[tokio::test]
async fn another_clients_endpoint_is_nobody_elses_trouble() {
    let rig = Rig::new().await;
    rig.endpoint.publishes(&set(&["k"]));
    let slow = Endpoint::start(&rig.authority.leaf(&LeafSpec::server(ALWAYS)).unwrap()).await;
    let url = slow.url();
    let waiting = rig.keys.keys(&url, Wanted::AnyKey, at(0));
    tokio::pin!(waiting);
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut waiting).await.is_err());
    let start = Instant::now();
    for now in 0..100 {
        assert_eq!(rig.count(Wanted::Kid("k"), at(now % 30)).await, Ok(1));
    }
    assert!(start.elapsed() < Duration::from_secs(2), "took {:?}", start.elapsed());
    assert_eq!(waiting.await.map(|_| ()), Err(UNAVAILABLE));
}

#[tokio::test]
async fn rfc8705_2_2_2_rotation_the_new_certificate_works_on_first_sight_and_the_old_one_stops() {
    let rig = Rig::new().await;
    let (old, old_thumbprint) = certificate("old");
    let (new, new_thumbprint) = certificate("new");
    let has = |set: &JwkSet, wanted: Thumbprint| {
        set.iter().filter_map(|key| key.certificate()).any(|der| Thumbprint::of_der(der) == wanted)
    };
    rig.endpoint.publishes(&json!({ "keys": [old] }));
    let set = rig.keys(Wanted::Certificate(old_thumbprint), at(0)).await.unwrap();
    assert!(has(&set, old_thumbprint));

    rig.endpoint.publishes(&json!({ "keys": [new] }));
    let set = rig.keys(Wanted::Certificate(new_thumbprint), at(29)).await.unwrap();
    assert!(!has(&set, new_thumbprint), "within the cool-down");
    let set = rig.keys(Wanted::Certificate(new_thumbprint), at(30)).await.unwrap();
    assert!(has(&set, new_thumbprint) && !has(&set, old_thumbprint));
}

#[tokio::test]
async fn rfc8705_2_2_2_rotation_a_withdrawn_key_stops_after_ten_minutes_though_nobody_uses_the_new_one() {
    let rig = Rig::new().await;
    rig.endpoint.publishes(&set(&["old"]));
    assert_eq!(rig.count(Wanted::Kid("old"), at(0)).await, Ok(1));
    rig.endpoint.publishes(&set(&["new"]));
    assert!(rig.keys(Wanted::Kid("old"), at(299)).await.unwrap().has_kid("old"));
    let set = rig.keys(Wanted::Kid("old"), at(600)).await.unwrap();
    assert!(!set.has_kid("old"), "the first request after the time sees the new set");
}

#[tokio::test]
async fn keys_that_rotate_each_second_are_found_within_the_cool_down() {
    let rig = Rig::new().await;
    for second in 0..120 {
        let kid = format!("k{second}");
        rig.endpoint.publishes(&set(&[&kid]));
        let _ = rig.keys(Wanted::Kid(&kid), at(second)).await;
    }
    assert_eq!(rig.endpoint.hits(), 4);
}
