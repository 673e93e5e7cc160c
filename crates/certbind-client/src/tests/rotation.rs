//! Rotations of followed files, against a stub of an authorization server and of an API that enforces the binding.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use certbind_https::{Fetcher, client_config};
use certbind_proto::thumbprint::Thumbprint;
use hyper::header::AUTHORIZATION;
use hyper::{Request, Response};

use super::folder::{CHAIN, Folder, KEY};
use super::*;

const LOOK: Duration = Duration::from_millis(5);

/// What a stub does with requests that show a certificate.
type Rules = Arc<Mutex<Vec<(Thumbprint, Rule)>>>;

#[derive(Clone, Copy, PartialEq)]
enum Rule {
    Away,
    /// The answer of something in front of the server that knows no OAuth.
    Page(u16),
    Refused,
}

/// A server that names its tokens after the certificate they are for, and can be told to answer otherwise.
async fn server(pki: &Pki) -> (Stub, Rules) {
    let rules = Rules::default();
    let shared = rules.clone();
    let stub = Stub::start(pki, move |count, seen| {
        let rules = shared.lock().expect("a lock");
        let rule = rules.iter().find(|(of, _)| Some(of) == seen.certificate.as_ref()).map(|(_, rule)| *rule);
        match rule {
            Some(Rule::Away) => Reply::error(503, "temporarily_unavailable"),
            Some(Rule::Page(status)) => Reply(status, Vec::new(), "<html>The SSL certificate error</html>".to_owned()),
            Some(Rule::Refused) => Reply::error(401, "invalid_client").with("x-request-id", "7f3a"),
            None => bound(count, seen),
        }
    })
    .await;
    (stub, rules)
}

/// A client that follows the files in this folder.
fn following(pki: &Pki, stub: &Stub, folder: &Folder) -> (Client, Follower) {
    let client = Client::new(pki, stub, folder.files().load().expect("a credential"));
    let follower = client.source.follow_every(folder.files(), LOOK);
    (client, follower)
}

fn shown(token: &AccessToken) -> Thumbprint {
    *token.certificate().expect("a certificate").thumbprint()
}

fn thumbprint(identity: &Identity) -> Thumbprint {
    *certificate_of(identity).thumbprint()
}

impl Client {
    async fn uses(&self, identity: &Identity) {
        let expected = Some(thumbprint(identity));
        self.stands("in use", |status| status.certificate.as_ref().map(|shown| *shown.thumbprint()) == expected).await;
    }
}

/// What the API of the stub says to this token with its own certificate.
async fn call(pki: &Pki, stub: &Stub, token: &AccessToken) -> Response<bytes::Bytes> {
    let certificate = token.certificate().expect("a certificate");
    let tls = client_config(&[pki.root.certificate().clone()], Some(certificate.identity().clone())).expect("TLS");
    let mut request = Request::new(bytes::Bytes::new());
    *request.uri_mut() = stub.url("/api").parse().expect("a URL");
    request.headers_mut().insert(AUTHORIZATION, token.authorization().clone());
    let fetcher = Fetcher::new(Arc::new(tls), AddressPolicy::AllowPrivate, Limits::default());
    fetcher.send(request).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc8705_6_3_callers_do_not_notice_rotations() {
    let pki = Pki::new();
    let (stub, _) = server(&pki).await;
    let stub = Arc::new(stub);
    let folder = Folder::new();
    folder.relink(0, &pki.client(ALWAYS));
    let (client, _follower) = following(&pki, &stub, &folder);
    let done = Arc::new(AtomicBool::new(false));
    let root = Arc::new(pki);
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (source, stub, root, done) = (client.source.clone(), stub.clone(), root.clone(), done.clone());
            tokio::spawn(async move {
                let mut calls = 0;
                while !done.load(Ordering::SeqCst) {
                    let token = source.token().await.expect("a token");
                    assert_eq!(call(&root, &stub, &token).await.status(), 200);
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    for generation in 1..=5 {
        let identity = root.client(ALWAYS);
        folder.relink(generation, &identity);
        client.uses(&identity).await;
    }
    done.store(true, Ordering::SeqCst);
    for caller in callers {
        assert!(caller.await.expect("no failed call") > 0);
    }
    assert_eq!(stub.seen().len(), 6, "one token for each certificate");
}

#[tokio::test]
async fn rfc8705_6_3_the_stub_refuses_what_does_not_belong_together() {
    let pki = Pki::new();
    let (stub, _) = server(&pki).await;
    let (one, other) = (by_certificate(&pki), by_certificate(&pki));
    let client = Client::new(&pki, &stub, one);
    let token = client.source.token().await.expect("a token");
    assert_eq!(call(&pki, &stub, &token).await.status(), 200);
    let mixed = AccessToken {
        authorization: token.authorization.clone(),
        certificate: other.certificate().cloned(),
        expires: token.expires,
        scope: token.scope.clone(),
        started: token.started,
        value: token.value.clone(),
    };
    assert_eq!(call(&pki, &stub, &mixed).await.status(), 401);
}

#[tokio::test]
async fn rfc8705_6_3_while_the_server_is_away_the_old_pair_serves_to_its_end() {
    let pki = Pki::new();
    let (stub, rules) = server(&pki).await;
    let (old, new) = (pki.client(ALWAYS), pki.client(ALWAYS));
    let folder = Folder::with(&old);
    let (client, _follower) = following(&pki, &stub, &folder);
    let first = client.source.token().await.expect("a token");

    *rules.lock().expect("a lock") = vec![(thumbprint(&old), Rule::Away), (thumbprint(&new), Rule::Away)];
    folder.put(&new);
    let status =
        client.stands("waiting", |status| status.waiting.as_ref().is_some_and(|next| next.failure.is_some())).await;
    let waiting = status.waiting.expect("a new certificate");
    assert_eq!(waiting.certificate.as_ref().map(|shown| *shown.thumbprint()), Some(thumbprint(&new)));
    assert_eq!(waiting.to_string(), "the authorization server cannot answer now (status 503)");
    assert!(waiting.retry_at.is_some_and(|at| START < at && at <= START.plus(Duration::from_secs(1))));
    for second in [1, 60, 299] {
        client.clock.set(START.plus(Duration::from_secs(second)));
        let token = client.source.token().await.expect("a token");
        assert_eq!((token.as_str(), shown(&token)), (first.as_str(), thumbprint(&old)), "{second}");
        assert_eq!(call(&pki, &stub, &token).await.status(), 200);
    }
    client.clock.set(START.plus(Duration::from_secs(300)));
    assert!(client.source.token().await.expect_err("the token is over").should_retry());

    rules.lock().expect("a lock").clear();
    client.clock.set(START.plus(Duration::from_secs(400)));
    let token = client.source.token().await.expect("a token");
    assert_eq!(shown(&token), thumbprint(&new));
    assert_eq!(call(&pki, &stub, &token).await.status(), 200);
    let status = client.source.status();
    assert!(status.waiting.is_none() && status.last_failure.is_some());
    assert_eq!((status.since, status.token_expires), (START.plus(Duration::from_secs(400)), Some(token.expires())));
}

#[tokio::test]
async fn rfc8705_6_3_while_the_new_certificate_is_refused_the_old_one_goes_on() {
    let pki = Pki::new();
    let (stub, rules) = server(&pki).await;
    let (old, new) = (pki.client(ALWAYS), pki.client(ALWAYS));
    let folder = Folder::with(&old);
    let (client, _follower) = following(&pki, &stub, &folder);
    let first = client.source.token().await.expect("a token");

    *rules.lock().expect("a lock") = vec![(thumbprint(&new), Rule::Refused)];
    folder.put(&new);
    let status =
        client.stands("waiting", |status| status.waiting.as_ref().is_some_and(|next| next.failure.is_some())).await;
    let failure = status.waiting.and_then(|next| next.failure).expect("a reason");
    assert_eq!(failure.error.to_string(), "the authorization server refused: invalid_client");
    assert_eq!(failure.error.request_id(), Some("7f3a"));
    assert_eq!(status.last_failure.expect("a failure").at, START);

    // A token life later the old certificate has another token.
    client.clock.set(START.plus(Duration::from_secs(301)));
    let second = client.source.token().await.expect("a token");
    assert_eq!(shown(&second), thumbprint(&old));
    assert_ne!(second.as_str(), first.as_str());
    assert_eq!(call(&pki, &stub, &second).await.status(), 200);

    rules.lock().expect("a lock").clear();
    client.clock.set(START.plus(Duration::from_secs(400)));
    client.uses(&new).await;
    let third = client.source.token().await.expect("a token");
    assert_eq!(shown(&third), thumbprint(&new));
    assert_eq!(call(&pki, &stub, &third).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc8705_6_3_a_proxy_that_keeps_the_new_certificate_out_does_not_stop_the_old_one() {
    let pki = Pki::new();
    for status in [400, 403, 503] {
        let (stub, rules) = server(&pki).await;
        let (old, new) = (pki.client(ALWAYS), pki.client(ALWAYS));
        let client = Client::new(&pki, &stub, Credential::Certificate(certificate_of(&old)));
        client.source.token().await.expect("a token");
        *rules.lock().expect("a lock") = vec![(thumbprint(&new), Rule::Page(status))];
        client.source.rotate_credential(Credential::Certificate(certificate_of(&new))).expect("a rotation");
        client.stands("waiting", |status| status.waiting.as_ref().is_some_and(|next| next.failure.is_some())).await;
        // After the end of the token, and of the next one.
        for second in [301, 602] {
            client.clock.set(START.plus(Duration::from_secs(second)));
            let before = stub.seen().len();
            let callers: Vec<_> = (0..1000)
                .map(|_| {
                    let source = client.source.clone();
                    tokio::spawn(async move { source.token().await.map(|token| shown(&token)) })
                })
                .collect();
            for caller in callers {
                assert_eq!(caller.await.expect("no panic").expect("a token"), thumbprint(&old), "{status}");
            }
            let seen: Vec<_> = stub.seen()[before..].iter().map(|seen| seen.certificate).collect();
            assert_eq!(seen, [Some(thumbprint(&new)), Some(thumbprint(&old))], "{status}: one request with each");
        }
        rules.lock().expect("a lock").clear();
        client.clock.set(START.plus(Duration::from_secs(903)));
        assert_eq!(shown(&client.source.token().await.expect("a token")), thumbprint(&new), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_callers_in_a_rotation_make_one_request() {
    let pki = Pki::new();
    let (stub, _) = server(&pki).await;
    let (old, new) = (pki.client(ALWAYS), pki.client(ALWAYS));
    let client = Client::new(&pki, &stub, Credential::Certificate(certificate_of(&old)));
    client.source.token().await.expect("a token");
    client.clock.advance(Duration::from_secs(299));
    client.source.rotate_credential(Credential::Certificate(certificate_of(&new))).expect("a rotation");
    // At its last second, and after it.
    for over in [Duration::ZERO, Duration::from_secs(1)] {
        client.clock.advance(over);
        let callers: Vec<_> = (0..1000)
            .map(|_| {
                let source = client.source.clone();
                tokio::spawn(async move { source.token().await.map(|token| shown(&token)) })
            })
            .collect();
        for caller in callers {
            let shown = caller.await.expect("no panic").expect("a token");
            assert!(shown == thumbprint(&new) || over.is_zero() && shown == thumbprint(&old));
        }
    }
    assert_eq!(stub.seen().len(), 2, "one for each certificate");
}

#[tokio::test]
async fn rfc8705_3_a_certificate_file_that_vanishes_brings_no_unbound_token() {
    let pki = Pki::new();
    let (stub, _) = server(&pki).await;
    let identity = pki.client(ALWAYS);
    let folder = Folder::with(&identity);
    folder.replace("assertion.pem", &pki.client(ALWAYS).key_pem());
    let key = AssertionKeyFile { algorithm: None, kid: None, path: folder.path("assertion.pem") };
    let by_assertion = CredentialFiles::PrivateKeyJwt { certificate: Some(folder.pair()), key };
    for files in [folder.files(), by_assertion] {
        folder.put(&identity);
        let client = Client::new(&pki, &stub, files.load().expect("a credential"));
        let _follower = client.source.follow_every(files.clone(), LOOK);
        client.source.token().await.expect("a token");
        folder.remove(CHAIN);
        folder.remove(KEY);
        let status =
            client.stands("wrong", |status| status.files.as_ref().is_some_and(|files| files.fault.is_some())).await;
        let fault = status.files.and_then(|files| files.fault).expect("a fault");
        assert!(matches!(*fault.fault, CredentialFault::Unreadable { .. }) && fault.since == START);
        assert!(status.waiting.is_none());
        // Over a token's life: the next one is bound to the certificate that there was, or there is none.
        for _ in 0..3 {
            let token = client.source.token().await.expect("a token");
            assert_eq!(shown(&token), thumbprint(&identity));
            assert_eq!(call(&pki, &stub, &token).await.status(), 200);
            client.clock.advance(Duration::from_secs(301));
        }
        folder.put(&identity);
        client.stands("well", |status| status.files.as_ref().is_some_and(|files| files.fault.is_none())).await;
    }
    assert!(stub.seen().iter().all(|seen| seen.certificate == Some(thumbprint(&identity))), "each showed it");
}

#[tokio::test]
async fn files_are_followed_by_the_last_who_was_told_and_until_he_is_dropped() {
    let pki = Pki::new();
    let (stub, _) = server(&pki).await;
    let identities = [(); 3].map(|()| pki.client(ALWAYS));
    let (one, other) = (Folder::with(&identities[0]), Folder::with(&identities[1]));
    let (client, first) = following(&pki, &stub, &one);
    client.source.token().await.expect("a token");
    let second = client.source.follow_every(other.files(), LOOK);
    client.uses(&identities[1]).await;
    drop(first);
    assert!(client.source.status().files.is_some(), "the second still does");
    one.put(&identities[2]);
    other.put(&identities[2]);
    client.uses(&identities[2]).await;
    drop(second);
    assert!(client.source.status().files.is_none());
    other.put(&identities[0]);
    let seen = stub.seen().len();
    tokio::time::sleep(10 * LOOK).await;
    assert_eq!(stub.seen().len(), seen, "nobody looks");
    client.uses(&identities[2]).await;
}

#[tokio::test]
async fn an_operator_ends_a_pause_once_in_a_second() {
    let pki = Pki::new();
    let (stub, rules) = server(&pki).await;
    let (old, new) = (pki.client(ALWAYS), pki.client(ALWAYS));
    let client = Client::new(&pki, &stub, Credential::Certificate(certificate_of(&old)));
    *rules.lock().expect("a lock") = vec![(thumbprint(&old), Rule::Refused), (thumbprint(&new), Rule::Refused)];
    client.source.token().await.expect_err("refused");
    let retry_at = client.source.status().retry_at.expect("a time");
    assert!(START < retry_at && retry_at <= START.plus(Duration::from_secs(5)));

    assert!(client.source.retry_now());
    assert_eq!(client.source.status().retry_at, Some(START));
    client.source.token().await.expect_err("refused");
    assert!(!client.source.retry_now(), "within the same second");
    client.source.token().await.expect_err("the pause is kept");
    assert_eq!(stub.seen().len(), 2);

    rules.lock().expect("a lock").remove(0);
    client.clock.advance(Duration::from_secs(1));
    assert!(client.source.retry_now());
    client.source.token().await.expect("a token");
    assert_eq!(client.source.status().retry_at, None);

    // With a token in use nobody has to ask: the one that waits is tried at once.
    client.source.rotate_credential(Credential::Certificate(certificate_of(&new))).expect("a rotation");
    client.stands("waiting", |status| status.waiting.as_ref().is_some_and(|next| next.failure.is_some())).await;
    rules.lock().expect("a lock").clear();
    client.clock.advance(Duration::from_secs(1));
    assert!(client.source.retry_now());
    client.uses(&new).await;
}
