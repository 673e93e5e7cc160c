//! HTTP/2 as attackers speak it (RFC 9113; requirement H2-a, attack 56, fault 19).

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;

use super::rig::{Client, PKI, Rig, read_to_close, within};

fn client() -> Client {
    let client = Client::new(&["h2"], rustls::ALL_VERSIONS, |_| {});
    client.presenting(&PKI.billing.identity, &PKI.billing.identity)
}

async fn connect(rig: &Rig) -> (SendRequest<Empty<Bytes>>, JoinHandle<hyper::Result<()>>) {
    let stream = TokioIo::new(within(rig.tls(&client())).await.unwrap());
    let (requests, connection) = handshake(TokioExecutor::new(), stream).await.unwrap();
    (requests, tokio::spawn(connection))
}

async fn get(requests: &mut SendRequest<Empty<Bytes>>, path: &str) -> hyper::Result<Bytes> {
    let request = Request::get(format!("https://localhost{path}")).body(Empty::new()).unwrap();
    Ok(within(requests.send_request(request)).await?.into_body().collect().await?.to_bytes())
}

#[tokio::test]
async fn alpn_chooses_the_protocol_and_a_foreign_one_is_refused() {
    let rig = Rig::start();
    let (mut requests, _connection) = connect(&rig).await;
    let answers = (0..20).map(|_| {
        let mut requests = requests.clone();
        tokio::spawn(async move { get(&mut requests, "/").await })
    });
    for answer in answers.collect::<Vec<_>>() {
        assert!(answer.await.unwrap().unwrap().ends_with(b"localhost"));
    }
    assert!(get(&mut requests, "/").await.is_ok());
    assert!(rig.ask(&Client::new(&["http/1.1"], rustls::ALL_VERSIONS, |_| {})).await.is_ok());
    assert!(rig.ask(&Client::new(&["spdy/3"], rustls::ALL_VERSIONS, |_| {})).await.is_err());
}

#[tokio::test]
async fn fault_16_a_drain_says_goaway_and_finishes_what_is_in_flight() {
    let rig = Rig::start();
    let (mut requests, connection) = connect(&rig).await;
    let slow = {
        let mut requests = requests.clone();
        tokio::spawn(async move { get(&mut requests, "/slow").await })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    rig.stop();
    assert_eq!(slow.await.unwrap().unwrap(), "slow");
    within(connection).await.unwrap().unwrap();
    assert!(get(&mut requests, "/").await.is_err());
    rig.ended().await;
}

#[tokio::test]
async fn fault_10_an_idle_connection_is_closed_in_good_order() {
    let rig = Rig::with(|setup| setup.limits.idle = Duration::from_millis(200));
    let (mut requests, connection) = connect(&rig).await;
    get(&mut requests, "/").await.unwrap();
    within(connection).await.unwrap().unwrap();
    rig.seen.wait("open", 0).await;
}

#[tokio::test]
async fn fault_8_a_handshake_and_then_silence_is_cut() {
    let rig = Rig::with(|setup| setup.limits.header = Duration::from_millis(200));
    let (_requests, connection) = connect(&rig).await;
    let _ = within(connection).await;
    rig.seen.wait("open", 0).await;
}

/// A peer that writes frames by hand.
struct Raw {
    read: ReadHalf<TlsStream<TcpStream>>,
    write: WriteHalf<TlsStream<TcpStream>>,
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `GET https://localhost/slow`, by the static table of HPACK and literals.
const REQUEST: &[u8] = b"\x82\x87\x44\x05/slow\x41\x09localhost";

impl Raw {
    async fn connect(rig: &Rig) -> Self {
        let mut stream = within(rig.tls(&client())).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let (read, write) = tokio::io::split(stream);
        let mut raw = Self { read, write };
        assert!(raw.send(&frame(SETTINGS, 0, 0, &[])).await);
        raw
    }

    /// Whether the server still takes bytes.
    async fn send(&mut self, bytes: &[u8]) -> bool {
        self.write.write_all(bytes).await.is_ok() && self.write.flush().await.is_ok()
    }

    /// Sends the same bytes, with stream ids that grow, until the server has had enough; says how it said so.
    async fn flood(mut self, rounds: u32, burst: impl Fn(u32) -> Vec<u8>) -> Vec<(u8, u32)> {
        let reader = tokio::spawn(async move { read_to_close(&mut self.read).await });
        for round in 0..rounds {
            if self.write.write_all(&burst(round)).await.is_err() || self.write.flush().await.is_err() {
                break;
            }
            if round % 16 == 0 {
                tokio::task::yield_now().await;
            }
            if reader.is_finished() {
                break;
            }
        }
        let answer = within(reader).await.unwrap();
        frames(&answer)
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The frames in these bytes: kind, and the error code of GOAWAY.
fn frames(mut bytes: &[u8]) -> Vec<(u8, u32)> {
    let mut all = Vec::new();
    while let Some((head, rest)) = bytes.split_at_checked(9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let Some((payload, rest)) = rest.split_at_checked(length) else { break };
        let code = if head[3] == GOAWAY { u32::from_be_bytes(payload[4..8].try_into().unwrap()) } else { 0 };
        all.push((head[3], code));
        bytes = rest;
    }
    all
}

fn stream_id(round: u32) -> u32 {
    2 * round + 1
}

#[tokio::test]
async fn attack_56_floods_end_the_connection_and_harm_no_other() {
    let rig = Rig::start();
    let (mut healthy, _connection) = connect(&rig).await;
    let rapid_reset = |round| {
        let id = stream_id(round);
        [frame(HEADERS, END_HEADERS | END_STREAM, id, REQUEST), frame(RST_STREAM, 0, id, &[0, 0, 0, 8])].concat()
    };
    let made_you_reset = |round| {
        let id = stream_id(round);
        [frame(HEADERS, END_HEADERS | END_STREAM, id, REQUEST), frame(WINDOW_UPDATE, 0, id, &[0; 4])].concat()
    };
    let continuation = |round| match round {
        0 => frame(HEADERS, END_STREAM, 1, REQUEST),
        _ => frame(CONTINUATION, 0, 1, &b"\x40\x04flow\x04flow".repeat(100)),
    };
    let empty_continuation = |round| match round {
        0 => frame(HEADERS, END_STREAM, 1, REQUEST),
        _ => frame(CONTINUATION, 0, 1, &[]),
    };
    let empty_data = |round| match round {
        0 => frame(HEADERS, END_HEADERS, 1, REQUEST),
        _ => frame(DATA, 0, 1, &[]).repeat(100),
    };
    let bomb = |round: u32| {
        let entry =
            [b"\x82\x87\x44\x05/slow\x41\x09localhost\x40\x04bomb\x7f\x81\x1e".to_vec(), vec![b'x'; 3968]].concat();
        let reference = [REQUEST, &[0xbe; 4000]].concat();
        frame(HEADERS, END_HEADERS | END_STREAM, stream_id(round), if round == 0 { &entry } else { &reference })
    };
    let window_overflow = |round| match round {
        0 => frame(HEADERS, END_HEADERS, 1, REQUEST),
        _ => frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
    };

    type Burst<'a> = &'a dyn Fn(u32) -> Vec<u8>;
    let floods: [(&str, u32, Burst<'_>); 7] = [
        ("rapid reset", 100_000, &rapid_reset),
        ("MadeYouReset", 100_000, &made_you_reset),
        ("CONTINUATION", 10_000, &continuation),
        ("empty CONTINUATION", 100_000, &empty_continuation),
        ("empty DATA", 10_000, &empty_data),
        ("HPACK bomb", 200, &bomb),
        ("window overflow", 100, &window_overflow),
    ];
    for (case, rounds, burst) in floods {
        let raw = Raw::connect(&rig).await;
        let began = Instant::now();
        let answer = raw.flood(rounds, burst).await;
        assert!(began.elapsed() < Duration::from_secs(5), "{case}: ended by the flood, not by a deadline");
        assert!(answer.len() < 3000, "{case}: {} frames in answer", answer.len());
        assert!(get(&mut healthy, "/").await.is_ok(), "{case}: another connection still works");
    }
    rig.seen.wait("open", 1).await;
}

#[tokio::test]
async fn attack_56_requests_given_up_one_by_one_end_the_connection() {
    let rig = Rig::with(|setup| setup.limits.abandoned = 10);
    let (requests, connection) = connect(&rig).await;
    for _ in 0..40 {
        let mut requests = requests.clone();
        let request = tokio::spawn(async move { get(&mut requests, "/slow").await });
        tokio::time::sleep(Duration::from_millis(10)).await;
        request.abort();
    }
    let _ = within(connection).await.unwrap();
    rig.seen.wait("open", 0).await;
}

#[tokio::test]
async fn header_lists_are_bounded() {
    let rig = Rig::start();
    let (mut requests, _connection) = connect(&rig).await;
    let request = Request::get("https://localhost/").header("x", "v".repeat(20_000)).body(Empty::new()).unwrap();
    let refused = within(requests.send_request(request)).await;
    assert!(refused.is_err() || refused.is_ok_and(|answer| answer.status() == 431));
    rig.assert_healthy().await;
}
