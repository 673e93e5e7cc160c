//! An assertion is accepted once: also by two hundred at the same time, and also over a crash (RFC 7523 §3; OpenID Connect Core §9).

use std::sync::Arc;
use std::time::{Duration, Instant};

use certbind_proto::jws::{Algorithm, SigningKey};
use hyper::{StatusCode, Version};
use serde_json::json;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::client::{Answer, Asserter, Connection, by_assertion};
use super::rig::{PKI, Process, Site};

const COPIES: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_20_of_two_hundred_copies_at_once_one_gets_the_one_token() {
    let site = Site::new();
    let server = site.start();
    let assertion = Asserter::batch().fresh();
    let answers = all_at_once(&server, &assertion).await;

    let accepted = answers.iter().filter(|answer| answer.status == StatusCode::OK).count();
    let replayed = answers.iter().filter(|answer| answer.error() == "invalid_client").count();
    assert_eq!((accepted, replayed), (1, COPIES - 1));
    assert!(server.terminate().success());

    let audit = site.audit();
    let count = |name: &str, value: &str| audit.iter().filter(|event| event[name] == value).count();
    assert_eq!((count("event", "token.issued"), count("reason", "assertion_replayed")), (1, COPIES - 1));
}

/// Half of the copies over HTTP/1.1, each on a connection of its own, half over ten HTTP/2 connections.
async fn all_at_once(server: &Process, assertion: &str) -> Vec<Answer> {
    let batch = &PKI.batch.identity;
    let mut connections = Vec::new();
    for _ in 0..COPIES / 2 {
        connections.push(server.connect(Some(batch), Version::HTTP_11).await.unwrap());
    }
    for _ in 0..10 {
        let connection = server.connect(Some(batch), Version::HTTP_2).await.unwrap();
        connections.extend((0..COPIES / 20).map(|_| connection.another()));
    }
    let barrier = Arc::new(Barrier::new(connections.len()));
    let mut tasks = JoinSet::new();
    for mut connection in connections {
        let (barrier, form) = (Arc::clone(&barrier), by_assertion(assertion));
        tasks.spawn(async move {
            barrier.wait().await;
            connection.token(&form).await.unwrap()
        });
    }
    tasks.join_all().await
}

/// What a writer knows of an assertion when the server was killed.
struct Sent {
    assertion: String,
    accepted: bool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_1_no_assertion_is_accepted_twice_over_twenty_kills() {
    let (_, accepted) = kills(20).await;
    assert!(accepted > 20, "the server was killed before it answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes; scripts/faults runs it"]
async fn fault_1_twenty_thousand_assertions_through_a_hundred_kills() {
    let (sent, accepted) = kills(100).await;
    assert!(sent >= 20_000, "{sent} assertions are too few");
    println!("{sent} assertions through 100 kills, {accepted} answered before one, none accepted twice");
}

/// Kills the server so often under load, and sends again whatever was sent. Gives the number of assertions, and of those
/// that were accepted before a kill.
async fn kills(kills: usize) -> (usize, usize) {
    let site = Site::new();
    let mut server = site.start();
    let (mut sent_in_all, mut accepted_in_all) = (0, 0);
    for kill in 0..kills {
        let writers = Writers::start(&server).await;
        // A different moment each time, so that the kill meets every step of a request.
        tokio::time::sleep(Duration::from_millis(40 + 17 * (kill as u64 % 7))).await;
        server.kill();
        let sent = writers.stop().await;

        let start = Instant::now();
        server = site.start();
        assert!(start.elapsed() < Duration::from_secs(5), "the start took {:?}", start.elapsed());
        let mut connection = batch(&server).await;
        for Sent { assertion, accepted } in &sent {
            let again = connection.token(&by_assertion(assertion)).await.unwrap().status == StatusCode::OK;
            assert!(!(*accepted && again), "accepted before the kill and after it");
        }
        sent_in_all += sent.len();
        accepted_in_all += sent.iter().filter(|sent| sent.accepted).count();
    }
    server.assert_healthy().await;
    (sent_in_all, accepted_in_all)
}

/// Eight clients that send assertions as fast as they are answered, until the server is gone.
struct Writers(JoinSet<Vec<Sent>>);

impl Writers {
    async fn start(server: &Process) -> Self {
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let mut connection = batch(server).await;
            tasks.spawn(async move {
                let (asserter, mut sent) = (Asserter::batch(), Vec::new());
                loop {
                    let assertion = asserter.fresh();
                    let answer = connection.token(&by_assertion(&assertion)).await;
                    let accepted = answer.as_ref().is_ok_and(|answer| answer.status == StatusCode::OK);
                    sent.push(Sent { assertion, accepted });
                    if answer.is_err() {
                        return sent;
                    }
                }
            });
        }
        Self(tasks)
    }

    async fn stop(self) -> Vec<Sent> {
        self.0.join_all().await.into_iter().flatten().collect()
    }
}

async fn batch(server: &Process) -> Connection {
    server.connect(Some(&PKI.batch.identity), Version::HTTP_11).await.unwrap()
}

#[tokio::test]
async fn attack_19_an_end_and_a_new_start_forget_nothing() {
    let site = Site::new();
    let assertions: Vec<String> = (0..20).map(|_| Asserter::batch().fresh()).collect();
    for expected in [StatusCode::OK, StatusCode::BAD_REQUEST, StatusCode::BAD_REQUEST] {
        let server = site.start();
        let mut connection = batch(&server).await;
        for assertion in &assertions {
            assert_eq!(connection.token(&by_assertion(assertion)).await.unwrap().status, expected);
        }
        assert!(server.terminate().success());
    }
}

#[tokio::test]
async fn attack_23_a_forged_assertion_does_not_use_up_the_jti_of_the_real_one() {
    let site = Site::new();
    let server = site.start();
    let mut connection = batch(&server).await;
    let stranger = SigningKey::generate(Algorithm::Es256).unwrap();
    let forged = Asserter::new("batch", &stranger.to_pkcs8_der()).with_jti("known");
    let answer = connection.token(&by_assertion(&forged)).await.unwrap();
    assert_eq!(answer.error(), "invalid_client");
    let real = Asserter::batch().with_jti("known");
    assert_eq!(connection.token(&by_assertion(&real)).await.unwrap().status, StatusCode::OK);
    assert_eq!(connection.token(&by_assertion(&real)).await.unwrap().error(), "invalid_client");
}

#[tokio::test]
async fn attack_23_two_clients_may_use_one_jti() {
    let site = Site::new();
    let other = SigningKey::generate(Algorithm::Es256).unwrap();
    let jwks = json!({ "keys": [other.public_jwk("batch-1").to_json()] }).to_string();
    site.write("clients/other.jwks.json", &jwks);
    let registration = std::fs::read_to_string(site.path("clients.d/batch.toml")).unwrap();
    site.write("clients.d/other.toml", &registration.replace("batch", "other"));
    let server = site.start();
    let mut connection = batch(&server).await;
    for asserter in [Asserter::batch(), Asserter::new("other", &other.to_pkcs8_der())] {
        let assertion = asserter.with_jti("the same");
        assert_eq!(connection.token(&by_assertion(&assertion)).await.unwrap().status, StatusCode::OK);
        assert_eq!(connection.token(&by_assertion(&assertion)).await.unwrap().error(), "invalid_client");
    }
}

#[tokio::test]
async fn attack_19_the_same_jti_in_a_new_assertion_is_a_replay_as_well() {
    let site = Site::new();
    let server = site.start();
    let mut connection = batch(&server).await;
    let asserter = Asserter::batch();
    assert_eq!(connection.token(&by_assertion(&asserter.with_jti("x"))).await.unwrap().status, StatusCode::OK);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let resigned = asserter.with_jti("x");
    assert_eq!(connection.token(&by_assertion(&resigned)).await.unwrap().error(), "invalid_client");
}
