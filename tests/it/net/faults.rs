//! Hostile and unlucky circumstances (attacks.md §3, faults 8, 9, 18).

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::rig::{Client, GET, Rig, exchange, read_to_close, within};

#[tokio::test]
async fn fault_8_a_handshake_that_does_not_end_is_cut_and_others_are_served() {
    let rig = Rig::with(|setup| setup.limits.handshake = Duration::from_millis(300));
    let mut waiting = Vec::new();
    for bytes in [&[][..], &[22], &[22, 3, 1, 2, 0, 1]] {
        for _ in 0..20 {
            let mut stream = rig.tcp().await;
            stream.write_all(bytes).await.unwrap();
            waiting.push(stream);
        }
    }
    let began = Instant::now();
    rig.assert_healthy().await;
    for stream in &mut waiting {
        read_to_close(stream).await;
    }
    assert!(began.elapsed() < Duration::from_secs(3));
    assert_eq!(rig.seen.count("deadline"), 60);
    rig.seen.wait("open", 0).await;
}

#[tokio::test]
async fn connections_beyond_the_cap_are_closed_at_once_and_counted() {
    let rig = Rig::with(|setup| {
        setup.encrypted = false;
        setup.connections = 3;
    });
    let mut served = Vec::new();
    for _ in 0..3 {
        let mut stream = rig.tcp().await;
        within(exchange(&mut stream, GET)).await.unwrap();
        served.push(stream);
    }
    assert_eq!(read_to_close(&mut rig.tcp().await).await, b"");
    assert_eq!(rig.seen.count("refused"), 1);

    served.pop();
    rig.seen.wait("open", 2).await;
    within(exchange(&mut rig.tcp().await, GET)).await.unwrap();
}

#[test]
fn fault_18_whatever_bytes_come_the_listener_stays_healthy() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let rig = runtime.block_on(async { Rig::start() });
    let record = (20u8..25, 0u8..5, proptest::collection::vec(any::<u8>(), 0..200)).prop_map(|(kind, minor, body)| {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&[kind, 3, minor, length[0], length[1]], &body[..]].concat()
    });
    let noise = proptest::collection::vec(any::<u8>(), 0..300);
    let http = Just(GET.as_bytes().to_vec());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(200));
    runner
        .run(&prop_oneof![record, noise, http], |bytes| {
            runtime.block_on(async {
                let mut stream = rig.tcp().await;
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                assert!(read_to_close(&mut stream).await.len() < 8192);
            });
            Ok(())
        })
        .unwrap();
    runtime.block_on(async {
        rig.assert_healthy().await;
        rig.seen.wait("open", 0).await;
    });
}

#[test]
fn fault_18_flipped_bits_inside_a_handshake_end_it() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let rig = runtime.block_on(async { Rig::start() });
    let mut hello = Vec::new();
    let config = std::sync::Arc::new(Client::anonymous().config);
    let mut session = rustls::ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    session.write_tls(&mut hello).unwrap();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(200));
    runner
        .run(&(0..hello.len(), 0..8), |(byte, bit)| {
            let mut spoilt = hello.clone();
            spoilt[byte] ^= 1u8 << bit;
            runtime.block_on(async {
                let mut stream = rig.tcp().await;
                let _ = stream.write_all(&spoilt).await;
                let _ = stream.shutdown().await;
                read_to_close(&mut stream).await;
            });
            Ok(())
        })
        .unwrap();
    runtime.block_on(rig.assert_healthy());
}

/// Says to the copy of this program that [`emfile_child`] is to do something.
const CHILD: &str = "CERTBIND_TEST_EMFILE_CHILD";

/// The server of the next test: prints its address and serves until its parent ends it.
#[test]
#[expect(clippy::disallowed_methods, reason = "a test tells its copy what to do")]
fn emfile_child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let rig = Rig::with(|setup| {
            setup.encrypted = false;
            setup.limits.header = Duration::from_secs(60);
        });
        println!("\nlistening {}", rig.address);
        tokio::time::sleep(Duration::from_secs(30)).await;
    });
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn fault_9_and_attack_59_without_file_descriptors_the_server_neither_spins_nor_dies() {
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -n 64; exec \"$0\" --exact net::faults::emfile_child --nocapture"])
        .arg(program)
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let address = lines.into_iter().find_map(|line| line.strip_prefix("listening ").map(str::to_owned)).unwrap();

    let mut clients = Vec::new();
    for _ in 0..120 {
        clients.push(TcpStream::connect(&address).await.unwrap());
    }
    let ticks = || cpu_ticks(child.id());
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = ticks();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let spent = ticks() - before;
    assert!(spent < 20, "{spent} % of a core while out of file descriptors");

    let mut last = clients.pop().unwrap();
    last.write_all(GET.as_bytes()).await.unwrap();
    drop(clients);
    let mut first = [0; 12];
    let outcome = tokio::time::timeout(Duration::from_secs(2), last.read_exact(&mut first)).await;
    child.kill().unwrap();
    child.wait().unwrap();
    outcome.expect("served within two seconds after descriptors are free").unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
}

/// Processor time of a process in hundredths of a second.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
