//! Restarts under a service manager: sockets that it holds, what it is told, and a new process beside the old one.

use std::collections::VecDeque;
use std::error::Error as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use certbind_devpki::Identity;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::client::{Answer, Asserter, billing, by_assertion, client, tls};
use super::rig::{ISSUER, PKI, Process, Site, handed, within};
use super::traffic::Load;

use crate::support::finish::Finish as _;

/// A socket as a service manager holds it.
fn socket() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// A server on this socket, as the configuration names it.
fn start(site: &Site, socket: &TcpListener) -> Process {
    Process::ready_with(site.serve_on_socket("mtls"), handed(socket))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p6_what_waits_at_a_socket_that_was_handed_over_is_served_by_the_next_process() {
    let site = Site::new();
    let socket = socket();
    let first = start(&site, &socket);
    assert_eq!(first.address, socket.local_addr().unwrap());
    first.assert_healthy().await;
    assert!(first.terminate().success());

    let connecting = tls(socket.local_addr().unwrap(), Some(&PKI.billing.identity), &["http/1.1"]);
    let connected = tokio::spawn(async move { connecting.await.map(|_| ()) });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!connected.is_finished(), "somebody answers");
    let second = start(&site, &socket);
    within(connected).await.unwrap().unwrap();
    second.assert_healthy().await;
}

#[test]
fn sd_listen_fds_a_socket_that_is_not_meant_refuses_the_start() {
    let site = Site::new();
    let refusal = |names: &str| {
        let mut refused = site.serve_on_socket(names);
        let output = refused.stdin(handed(&socket())).stderr(Stdio::piped()).spawn().unwrap().finish();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(6), "{stderr}");
        stderr
    };
    assert!(refusal("mtsl").contains("a socket named `mtsl` was handed over"));
    assert!(refusal("mtls:ops").contains("1 sockets were handed over, and 2 names"));
    assert!(refusal("public").contains("no [listen.public] of the configuration has an address for it"));
    site.edit("address = \"127.0.0.1:0\"\ncert", "address = \"127.0.0.1:1\"\ncert");
    let elsewhere = refusal("mtls");
    assert!(elsewhere.contains("listen.mtls.address is 127.0.0.1:1"), "{elsewhere}");
}

#[test]
fn sd_listen_fds_of_another_process_are_left_alone() {
    let site = Site::new();
    let mut command = site.serve();
    command.env("LISTEN_PID", "1").env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "mtsl");
    assert!(Process::ready(command).terminate().success());
}

/// What a service manager is told.
struct Manager {
    socket: UnixDatagram,
    told: VecDeque<String>,
}

impl Manager {
    fn listen(site: &Site) -> Self {
        let socket = UnixDatagram::bind(site.path("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { socket, told: VecDeque::new() }
    }

    /// The next word other than the heartbeat: one message may be several.
    fn hear(&mut self) -> String {
        loop {
            if let Some(word) = self.told.pop_front() {
                return word;
            }
            let mut bytes = [0; 4096];
            let length = self.socket.recv(&mut bytes).unwrap();
            let words = String::from_utf8(bytes[..length].to_vec()).unwrap();
            self.told.extend(words.lines().filter(|word| *word != "WATCHDOG=1").map(str::to_owned));
        }
    }

    fn hears_heartbeats(&self, count: usize) {
        let mut bytes = [0; 4096];
        for _ in 0..count {
            let length = self.socket.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..length], b"WATCHDOG=1\n");
        }
    }
}

#[test]
fn sd_notify_the_manager_is_told_of_start_reload_life_and_end() {
    let site = Site::new();
    let mut manager = Manager::listen(&site);
    let mut command = site.serve();
    command.env("NOTIFY_SOCKET", site.path("notify")).env("WATCHDOG_USEC", "300000");
    let mut server = Process::ready(command);
    assert_eq!([manager.hear(), manager.hear()], ["READY=1", "STATUS=requests are answered"]);
    manager.hears_heartbeats(5);

    site.edit("[limits]\n", "[tokens]\nlifetime = \"10m\"\n\n[limits]\nidle_timout = \"5s\"\n");
    server.signal("HUP");
    assert_eq!(manager.hear(), "RELOADING=1");
    let time = manager.hear();
    assert!(time.strip_prefix("MONOTONIC_USEC=").unwrap().parse::<u64>().unwrap() > 0, "{time}");
    assert_eq!([manager.hear(), manager.hear()], ["READY=1", "STATUS=reloaded: 0 taken over, 1 refused"]);
    site.edit("idle_timout", "idle_timeout");
    server.signal("HUP");
    assert_eq!(manager.hear(), "RELOADING=1");
    assert!(manager.hear() > time, "the clock stands still");
    assert_eq!([manager.hear(), manager.hear()], ["READY=1", "STATUS=reloaded: 1 taken over, 0 refused"]);

    server.signal("TERM");
    assert_eq!(manager.hear(), "STOPPING=1");
    assert_eq!(manager.hear(), "EXTEND_TIMEOUT_USEC=20000000");
    assert!(server.ended().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_it_at_once() {
    let site = Site::new();
    site.edit("[limits]\n", "[limits]\ndrain_timeout = \"5m\"\nbody_timeout = \"1m\"\n");
    let mut server = site.start();
    let mut slow = tls(server.address, Some(&PKI.billing.identity), &["http/1.1"]).await.unwrap();
    slow.write_all(
        b"POST /oauth2/token HTTP/1.1\r\nHost: localhost:8443\r\n\
        Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\n",
    )
    .await
    .unwrap();
    slow.flush().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.signal("TERM");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(server.is_alive(), "it did not wait for the request");
    server.signal("INT");
    assert_eq!(server.ended().code(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_16_rolling_restarts_fail_nobody() {
    roll(3, (12, Duration::from_millis(50))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute and both cores; scripts/faults runs it"]
async fn fault_16_twenty_rolling_restarts_at_500_requests_a_second() {
    let Figures { tokens, announced, took } = roll(20, (50, Duration::from_millis(100))).await;
    let rate = tokens as f64 / took.as_secs_f64();
    println!(
        "20 rolling restarts in {took:.1?}: {tokens} tokens, {rate:.0}/s, {announced} connections ended as announced, no other end"
    );
}

struct Figures {
    tokens: usize,
    announced: usize,
    took: Duration,
}

/// So many times a new process is started on the socket, and the old one stopped once the new one is ready; they share one
/// store meanwhile. Each process has the clients for itself for a few requests of each.
async fn roll(times: usize, load: Load) -> Figures {
    let site = Site::new();
    let socket = socket();
    let mut server = start(&site, &socket);
    let began = Instant::now();
    let crowd = Crowd::start(socket.local_addr().unwrap(), load).await;
    for _ in 0..times {
        let next = start(&site, &socket);
        let stopped = tokio::task::spawn_blocking(|| server.terminate());
        assert_eq!(within(stopped).await.unwrap().code(), Some(0));
        server = next;
        within(crowd.gets(4 * load.0)).await;
    }
    let (tokens, announced) = crowd.stop().await;
    let took = began.elapsed();
    server.assert_healthy().await;
    assert!(server.stderr_at_end().lines().all(|line| !line.contains("were cut")));
    Figures { tokens, announced, took }
}

/// Clients that ask all the time, and go where the server is when it says that a connection ends.
struct Crowd {
    tasks: JoinSet<()>,
    stop: Arc<AtomicBool>,
    tokens: Arc<AtomicUsize>,
    announced: Arc<AtomicUsize>,
}

impl Crowd {
    async fn start(address: SocketAddr, (connections, every): Load) -> Self {
        let (stop, tokens, announced) = (Arc::default(), Arc::default(), Arc::default());
        let mut crowd = Self { tasks: JoinSet::new(), stop, tokens, announced };
        let clients = [&PKI.billing, &PKI.ledger, &PKI.batch];
        let kinds =
            [Version::HTTP_11, Version::HTTP_2].into_iter().flat_map(|version| clients.map(|who| (version, who)));
        for (version, who) in kinds.cycle().take(connections) {
            let mut caller = Caller::connect(address, &who.identity, version).await;
            let (stop, tokens) = (Arc::clone(&crowd.stop), Arc::clone(&crowd.tokens));
            let announced = Arc::clone(&crowd.announced);
            crowd.tasks.spawn(async move {
                let asserter = Asserter::batch();
                let mut next = tokio::time::interval(every);
                next.set_missed_tick_behavior(MissedTickBehavior::Delay);
                while !stop.load(Ordering::Relaxed) {
                    next.tick().await;
                    let form = match who.name {
                        "batch" => by_assertion(&asserter.fresh()),
                        name => client(name),
                    };
                    let answer = caller.ask(form.encode()).await;
                    assert_eq!(answer.status, StatusCode::OK, "{}: {}", who.name, answer.text);
                    tokens.fetch_add(1, Ordering::Relaxed);
                }
                announced.fetch_add(caller.announced, Ordering::Relaxed);
            });
        }
        crowd
    }

    /// Until there are so many tokens more.
    async fn gets(&self, more: usize) {
        let enough = self.tokens.load(Ordering::Relaxed) + more;
        while self.tokens.load(Ordering::Relaxed) < enough {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn stop(self) -> (usize, usize) {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
        (self.tokens.load(Ordering::Relaxed), self.announced.load(Ordering::Relaxed))
    }
}

/// A client that opens another connection when the server has said that this one ends, and sends a request again only if it
/// never left, or the server has said that it did not look at it (RFC 9113 §8.7). Any other end of a connection fails.
struct Caller {
    address: SocketAddr,
    who: &'static Identity,
    version: Version,
    sender: Sender,
    /// How many connections ended as the server had announced.
    announced: usize,
}

enum Sender {
    Http1 { sender: http1::SendRequest<Full<Bytes>>, is_last: bool },
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Caller {
    async fn connect(address: SocketAddr, who: &'static Identity, version: Version) -> Self {
        let sender = Sender::open(address, who, version).await;
        Self { address, who, version, sender, announced: 0 }
    }

    async fn ask(&mut self, body: String) -> Answer {
        loop {
            if let Some(answer) = within(self.sender.send(body.clone())).await {
                return answer;
            }
            self.announced += 1;
            self.sender = Sender::open(self.address, self.who, self.version).await;
        }
    }
}

impl Sender {
    async fn open(address: SocketAddr, who: &Identity, version: Version) -> Self {
        let protocol = if version == Version::HTTP_2 { "h2" } else { "http/1.1" };
        let stream = TokioIo::new(within(tls(address, Some(who), &[protocol])).await.expect("a connection"));
        if version == Version::HTTP_2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
            tokio::spawn(connection);
            return Self::Http2(sender);
        }
        let (sender, connection) = http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Self::Http1 { sender, is_last: false }
    }

    /// The answer; nothing when the server had said that it takes no more requests here.
    async fn send(&mut self, body: String) -> Option<Answer> {
        let request = |uri: &str| {
            let request = Request::builder().method(Method::POST).uri(uri);
            request.header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        };
        match self {
            Self::Http1 { is_last: true, .. } => None,
            Self::Http1 { sender, is_last } => {
                let request = request("/oauth2/token").header(HOST, "localhost:8443").body(Full::from(body)).unwrap();
                sender.ready().await.expect("HTTP/1.1: the connection ended without a word");
                let answer = Answer::read(sender.send_request(request)).await.expect("HTTP/1.1: no answer");
                *is_last = answer.headers.get(CONNECTION).is_some_and(|value| value == "close");
                Some(answer)
            }
            // A GOAWAY is seen here: nothing can be sent any more.
            Self::Http2(sender) => {
                sender.ready().await.ok()?;
                let request = request(&format!("{ISSUER}/oauth2/token")).body(Full::from(body)).unwrap();
                let response = match sender.try_send_request(request).await {
                    Ok(response) => response,
                    Err(mut error) => {
                        let never_left = error.take_message().is_some();
                        assert!(never_left || is_refused_by_goaway(error.error()), "HTTP/2: {:?}", error.error());
                        return None;
                    }
                };
                Some(Answer::read(std::future::ready(Ok(response))).await.expect("HTTP/2: half an answer"))
            }
        }
    }
}

/// The server's last GOAWAY says that it has not looked at the request (RFC 9113 §6.8): it was on the way meanwhile.
fn is_refused_by_goaway(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| cause.is_go_away() && cause.is_remote() && cause.reason() == Some(h2::Reason::NO_ERROR))
}

/// The whole answer to SIGTERM on each protocol is seen by the client.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p6_the_end_is_announced_to_both_protocols() {
    let site = Site::new();
    let server = site.start();
    let mut callers = Vec::new();
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let mut sender = Sender::open(server.address, &PKI.billing.identity, version).await;
        assert_eq!(sender.send(billing().encode()).await.unwrap().status, StatusCode::OK);
        callers.push(sender);
    }
    server.signal("TERM");
    for caller in &mut callers {
        within(async {
            // A request that comes soon after is still answered, with the word that it is the last; then none is taken.
            while let Some(answer) = caller.send(billing().encode()).await {
                assert_eq!(answer.status, StatusCode::OK);
            }
        })
        .await;
    }
}
