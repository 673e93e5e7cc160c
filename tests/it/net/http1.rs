//! HTTP/1.1 as attackers speak it (RFC 9112).

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::rig::{Client, GET, Rig, exchange, read_to_close, within};

fn plain(change: impl FnOnce(&mut certbind::net::Limits)) -> Rig {
    Rig::with(|setup| {
        setup.encrypted = false;
        change(&mut setup.limits);
    })
}

/// Sends bytes; everything that comes back until the server closes.
async fn answer_to(rig: &Rig, request: &str) -> String {
    let mut stream = rig.tcp().await;
    let _ = stream.write_all(request.as_bytes()).await;
    String::from_utf8(read_to_close(&mut stream).await).unwrap()
}

#[tokio::test]
async fn attack_55_whatever_two_parsers_may_read_differently_is_refused_and_the_connection_closed() {
    const GOOD: &str = "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let rig = plain(|limits| limits.idle = Duration::from_millis(100));
    assert!(answer_to(&rig, GOOD).await.starts_with("HTTP/1.1 200"));
    for (case, good, spoilt) in [
        ("length and coding", "Host: a\r\n", "Host: a\r\nTransfer-Encoding: chunked\r\n"),
        ("coding and length", "POST /body HTTP/1.1\r\n", "POST /body HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"),
        ("two lengths", "Host: a\r\n", "Host: a\r\nContent-Length: 4\r\n"),
        ("the same length twice", "Host: a\r\n", "Host: a\r\nContent-Length: 3\r\n"),
        ("a list of lengths", "Length: 3", "Length: 3, 3"),
        ("a signed length", "Length: 3", "Length: +3"),
        ("a negative length", "Length: 3", "Length: -3"),
        ("a hexadecimal length", "Length: 3", "Length: 0x3"),
        ("an empty length", "Length: 3", "Length: "),
        ("a length of 21 digits", "Length: 3", "Length: 300000000000000000000"),
        ("an unknown coding", "Content-Length: 3", "Transfer-Encoding: xchunked"),
        ("two codings", "Content-Length: 3", "Transfer-Encoding: gzip, chunked"),
        ("chunked twice", "Content-Length: 3", "Transfer-Encoding: chunked, chunked"),
        ("chunked not last", "Content-Length: 3", "Transfer-Encoding: chunked, identity"),
        ("coding in HTTP/1.0", "HTTP/1.1\r\nHost: a\r\nContent-Length: 3", "HTTP/1.0\r\nTransfer-Encoding: chunked"),
        ("space before the colon", "Content-Length:", "Content-Length :"),
        ("tab before the colon", "Content-Length:", "Content-Length\t:"),
        ("folded line", "Host: a\r\n", "Host: a\r\n folded\r\n"),
        ("bare LF after a field", "Host: a\r\n", "Host: a\n"),
        ("bare LF after the request line", "1.1\r\n", "1.1\n"),
        ("bare LF at the end", "3\r\n\r\n", "3\r\n\n"),
        ("bare CR", "Host: a\r\n", "Host: a\rb\r\n"),
        ("NUL", "Host: a", "Host: \0"),
        ("line without a colon", "Host: a\r\n", "Host: a\r\nnothing\r\n"),
        ("empty field name", "Host: a\r\n", "Host: a\r\n: b\r\n"),
        ("no Host", "Host: a\r\n", ""),
        ("two Hosts", "Host: a\r\n", "Host: a\r\nHost: a\r\n"),
        ("unknown version", "HTTP/1.1", "HTTP/1.2"),
        ("no version", " HTTP/1.1", ""),
        ("two spaces", "POST /body", "POST  /body"),
    ] {
        let request = GOOD.replace(good, spoilt) + GET;
        assert_ne!(request, GOOD.to_owned() + GET, "{case}");
        let answer = answer_to(&rig, &request).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{case}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{case}: one answer and no more: {answer:?}");
    }
}

#[tokio::test]
async fn rfc9112_7_1_a_chunked_body_is_read_and_a_broken_one_is_not() {
    let rig = plain(|_| {});
    let chunked = |body: &str| {
        format!("POST /body HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
    };
    for (body, length) in [("3\r\nabc\r\n0\r\n\r\n", "3"), ("3;ext=1\r\nabc\r\n0\r\n\r\n", "3"), ("0\r\n\r\n", "0")] {
        assert!(answer_to(&rig, &chunked(body)).await.ends_with(length), "{body:?}");
    }
    for body in [
        "+3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "fffffffffffffffff\r\n",
        "3\r\nabcd\r\n",
    ] {
        let answer = answer_to(&rig, &chunked(body)).await;
        assert!(answer.is_empty() || answer.ends_with("broken"), "{body:?}: {answer:?}");
    }
}

#[tokio::test]
async fn heads_are_bounded_in_bytes_and_fields() {
    let rig = plain(|_| {});
    let with = |fields: usize, size: usize| {
        let fields: String = (0..fields).map(|i| format!("x-{i}: {}\r\n", "v".repeat(size))).collect();
        format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n")
    };
    for (fields, size, status) in [
        (1, 8 * 1024, "200"),
        (98, 1, "200"),
        (1, 16 * 1024, "431"),
        (1, 256 * 1024, "431"),
        (99, 1, "431"),
        (1000, 1, "431"),
    ] {
        let answer = answer_to(&rig, &with(fields, size)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{fields} fields of {size}: {answer:?}");
    }
    let answer = answer_to(&rig, &format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(64 * 1024))).await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer:?}");
}

#[tokio::test]
async fn one_connection_serves_many_requests_each_answered_once() {
    let rig = Rig::start();
    let mut stream = within(rig.tls(&Client::anonymous())).await.unwrap();
    for _ in 0..50 {
        assert!(within(exchange(&mut stream, GET)).await.unwrap().starts_with("- 1.3"));
    }
    let posts = "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    assert_eq!(within(exchange(&mut stream, posts)).await.unwrap(), "3");
    assert_eq!(rig.seen.count("1.3"), 1);
}

#[tokio::test]
async fn an_answer_leaves_in_one_write() {
    let rig = Rig::start();
    let address = rig.address;
    let answer = tokio::task::spawn_blocking(move || {
        let config = std::sync::Arc::new(Client::anonymous().config);
        let mut session = rustls::ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        session.complete_io(&mut stream).unwrap();
        session.writer().write_all(GET.as_bytes()).unwrap();
        session.write_tls(&mut stream).unwrap();
        let mut answer = vec![0; 4096];
        let length = stream.read(&mut answer).unwrap();
        answer.truncate(length);
        answer
    });
    let answer = within(answer).await.unwrap();
    let record = usize::from(u16::from_be_bytes([answer[3], answer[4]]));
    assert_eq!((answer[0], record + 5), (23, answer.len()), "one TLS record with head and body");
}

/// How long it took until the server closed.
async fn closed_after(stream: &mut TcpStream) -> Duration {
    let began = Instant::now();
    read_to_close(stream).await;
    began.elapsed()
}

const SHORT: Duration = Duration::from_millis(200);

fn soon(took: Duration) -> bool {
    (SHORT / 2..25 * SHORT).contains(&took)
}

#[tokio::test]
async fn fault_10_a_head_that_does_not_end_is_cut() {
    let rig = plain(|limits| limits.header = SHORT);
    let mut silent = rig.tcp().await;
    assert!(soon(closed_after(&mut silent).await), "nothing at all");

    let mut half = rig.tcp().await;
    half.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
    assert!(soon(closed_after(&mut half).await), "half a head");

    let mut later = rig.tcp().await;
    within(exchange(&mut later, GET)).await.unwrap();
    later.write_all(b"GET /").await.unwrap();
    assert!(soon(closed_after(&mut later).await), "half a head after a whole one");

    let mut dripping = rig.tcp().await;
    let began = Instant::now();
    while dripping.write_all(b"a").await.is_ok() && began.elapsed() < Duration::from_secs(5) {
        tokio::time::sleep(SHORT / 8).await;
    }
    assert!(began.elapsed() < 25 * SHORT, "a byte now and then");
}

#[tokio::test]
async fn fault_10_an_idle_connection_is_closed_in_good_order() {
    let rig = plain(|limits| limits.idle = SHORT);
    let mut stream = rig.tcp().await;
    within(exchange(&mut stream, GET)).await.unwrap();
    assert!(soon(closed_after(&mut stream).await));
    rig.seen.wait("open", 0).await;
}

#[tokio::test]
async fn fault_10_a_peer_that_does_not_read_is_cut() {
    let rig = plain(|limits| limits.write = SHORT);
    let mut stream = rig.tcp().await;
    stream.write_all(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    rig.seen.wait("open", 1).await;
    rig.seen.wait("open", 0).await;
}

#[tokio::test]
async fn tls_live_a_a_connection_ends_between_two_requests_when_it_is_old() {
    let rig = plain(|limits| limits.age = SHORT);
    let mut stream = rig.tcp().await;
    let slow = "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(within(exchange(&mut stream, slow)).await.unwrap(), "slow", "what is in flight is finished");
    read_to_close(&mut stream).await;
    rig.seen.wait("open", 0).await;
}

#[tokio::test]
async fn fault_16_a_drain_finishes_what_is_in_flight_and_closes_what_is_idle() {
    let rig = plain(|_| {});
    let (mut idle, mut awake) = (rig.tcp().await, rig.tcp().await);
    for stream in [&mut idle, &mut awake] {
        within(exchange(stream, GET)).await.unwrap();
    }
    let mut busy = rig.tcp().await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut fresh = rig.tcp().await;
    rig.seen.wait("open", 4).await;
    tokio::time::sleep(SHORT / 2).await;

    rig.stop();
    tokio::time::sleep(SHORT).await;
    for stream in [&mut fresh, &mut awake] {
        stream.write_all(GET.as_bytes()).await.unwrap();
    }
    assert_eq!(read_to_close(&mut idle).await, b"");
    for stream in [&mut busy, &mut fresh, &mut awake] {
        let answer = String::from_utf8(read_to_close(stream).await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
        assert!(answer.contains("connection: close\r\n"), "{answer:?}");
    }
    assert!(TcpStream::connect(rig.address).await.is_err(), "nobody listens any more");
    rig.ended().await;
}

#[tokio::test]
async fn fault_16_a_drain_does_not_wait_for_ever() {
    let rig = plain(|limits| limits.drain = SHORT);
    let mut stuck = rig.tcp().await;
    stuck.write_all(b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n").await.unwrap();
    rig.seen.wait("open", 1).await;
    tokio::time::sleep(SHORT / 2).await;
    rig.stop();
    assert!(soon(closed_after(&mut stuck).await));
    rig.ended().await;
}

#[tokio::test]
async fn a_panic_ends_its_connection_and_no_other() {
    let rig = plain(|_| {});
    let mut other = rig.tcp().await;
    within(exchange(&mut other, GET)).await.unwrap();
    assert_eq!(answer_to(&rig, "GET /panic HTTP/1.1\r\nHost: a\r\n\r\n").await, "");
    within(exchange(&mut other, GET)).await.unwrap();
    rig.seen.wait("open", 1).await;
}

#[tokio::test]
async fn a_refusal_is_read_even_by_a_peer_that_goes_on_sending() {
    let rig = plain(|_| {});
    for _ in 0..20 {
        let mut stream = rig.tcp().await;
        let _ = stream.write_all(format!("GET / HTTP/1.1\n{}", "x".repeat(100_000)).as_bytes()).await;
        let mut first = [0; 12];
        within(stream.read_exact(&mut first)).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 400");
    }
}
