//! Calls over kept connections, as the example makes them.

use std::error::Error as _;

use certbind_proto::thumbprint::Thumbprint;
use hyper::Uri;

use super::example::{Http, get, http};
use super::folder::Folder;
use super::*;

/// An API that is called with tokens of a client that follows this folder.
fn api_of(pki: &Pki, stub: &Stub, folder: &Folder) -> (Arc<Api<Http>>, Arc<FixedClock>, Follower) {
    let client = Client::new(pki, stub, folder.files().load().expect("a credential"));
    let follower = client.source.follow_every(folder.files(), Duration::from_millis(5));
    let clients = Clients::new(&pki.authorities(), http).expect("clients");
    (Arc::new(Api::new(client.source, clients)), client.clock, follower)
}

fn url(stub: &Stub) -> Uri {
    stub.url("/api").parse().expect("a URL")
}

async fn uses(api: &Api<Http>, identity: &Identity) {
    let expected = Some(Thumbprint::of_der(identity.certificate()));
    while api.source().status().certificate.map(|shown| *shown.thumbprint()) != expected {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// One call, with its answer read to the end, so that the connection goes back to its pool.
async fn call(api: &Api<Http>, url: &Uri) -> u16 {
    use http_body_util::BodyExt as _;
    let response = get(api, url).await.unwrap_or_else(|error| panic!("{error}: {:?}", error.source()));
    let status = response.status().as_u16();
    response.into_body().collect().await.expect("a body");
    status
}

#[tokio::test]
async fn rfc8705_6_3_kept_connections_of_the_old_certificate_are_closed_after_a_rotation() {
    let pki = Pki::new();
    let stub = Stub::start(&pki, bound).await;
    let (old, new) = (pki.client(ALWAYS), pki.client(ALWAYS));
    let folder = Folder::with(&old);
    let (api, _, _follower) = api_of(&pki, &stub, &folder);
    let url = url(&stub);
    for _ in 0..10 {
        assert_eq!(call(&api, &url).await, 200);
    }
    let connections = stub.connections();
    assert_eq!(stub.open_with(&old), 1, "one connection, kept");

    folder.put(&new);
    uses(&api, &new).await;
    for _ in 0..10 {
        assert_eq!(call(&api, &url).await, 200);
    }
    assert_eq!(stub.open_with(&new), 1);
    stub.until("the old connection is closed", || stub.open_with(&old) == 0).await;
    assert!(stub.connections() <= connections + 3, "metadata or token, and one for the API");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc8705_6_3_parallel_callers_with_kept_connections_notice_no_rotation() {
    let pki = Pki::new();
    let stub = Stub::start(&pki, bound).await;
    let folder = Folder::with(&pki.client(ALWAYS));
    let (api, _, _follower) = api_of(&pki, &stub, &folder);
    let url = url(&stub);
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (api, url, done) = (api.clone(), url.clone(), done.clone());
            tokio::spawn(async move {
                let mut calls = 0;
                while !done.load(Ordering::SeqCst) {
                    assert_eq!(call(&api, &url).await, 200);
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    for _ in 0..5 {
        let identity = pki.client(ALWAYS);
        folder.put(&identity);
        uses(&api, &identity).await;
    }
    done.store(true, Ordering::SeqCst);
    for caller in callers {
        assert!(caller.await.expect("no failed call") > 0);
    }
    assert_eq!(stub.refusals(), 0, "not one was refused and tried again");
}

#[tokio::test]
async fn oauth21_1_4_a_call_with_a_refused_token_is_made_once_more_and_only_for_that_refusal() {
    let pki = Pki::new();
    let folder = Folder::with(&pki.client(ALWAYS));
    for (refusals, status, challenge, calls, tokens, expected) in [
        (1, 401, r#"Bearer error="invalid_token""#, 2, 2, 200),
        (9, 401, r#"Bearer error="invalid_token""#, 2, 2, 401),
        (9, 401, r#"Bearer"#, 1, 1, 401),
        (9, 403, r#"Bearer error="insufficient_scope""#, 1, 1, 403),
        (9, 500, r#"Bearer error="invalid_token""#, 1, 1, 500),
    ] {
        let stub = Stub::start(&pki, bound).await;
        stub.refuse_calls(refusals, status, challenge);
        let (api, _, _follower) = api_of(&pki, &stub, &folder);
        assert_eq!(call(&api, &url(&stub)).await, expected, "{status} {challenge}");
        assert_eq!((stub.calls(), stub.seen().len()), (calls, tokens), "{status} {challenge}");
        if expected == 401 && calls == 2 {
            assert_eq!(call(&api, &url(&stub)).await, 401);
            assert_eq!((stub.calls(), stub.seen().len()), (3, 2), "the next refusal fetches no more");
        }
    }
}

#[tokio::test]
async fn oauth21_1_4_a_call_that_cannot_be_repeated_is_not_and_its_token_is_not_used_again() {
    let pki = Pki::new();
    let folder = Folder::with(&pki.client(ALWAYS));
    let stub = Stub::start(&pki, bound).await;
    stub.refuse_calls(1, 401, r#"Bearer error="invalid_token""#);
    let (api, _, _follower) = api_of(&pki, &stub, &folder);
    let once = || {
        let url = url(&stub);
        api.call_once(
            |http, token| {
                let mut request = hyper::Request::new(http_body_util::Full::default());
                *request.uri_mut() = url;
                request.headers_mut().insert("authorization", token.authorization().clone());
                http.request(request)
            },
            |response| is_invalid_token(response.status(), response.headers()),
        )
    };
    assert_eq!(once().await.expect("an answer").status(), 401);
    assert_eq!((stub.calls(), stub.seen().len()), (1, 1));
    assert_eq!(once().await.expect("an answer").status(), 200);
    assert_eq!((stub.calls(), stub.seen().len()), (2, 2));
}

#[tokio::test]
async fn rfc8705_3_a_call_without_a_token_is_not_made() {
    let pki = Pki::new();
    let stub = Stub::start(&pki, |_, _| Reply::error(400, "invalid_client")).await;
    let folder = Folder::with(&pki.client(ALWAYS));
    let (api, _, _follower) = api_of(&pki, &stub, &folder);
    let error = get(&api, &url(&stub)).await.expect_err("no token");
    assert!(matches!(error, CallError::Token(Error::Refused(_))), "{error:?}");
    assert_eq!(stub.calls(), 0);
}

#[tokio::test]
async fn mutual_tls_without_tokens_shows_what_is_in_use_or_else_the_newest() {
    let pki = Pki::new();
    let stub = Stub::start(&pki, |count, seen| match count {
        0 => bound(count, seen),
        _ => Reply::error(503, "temporarily_unavailable"),
    })
    .await;
    let (old, new) = (certificate_of(&pki.client(ALWAYS)), certificate_of(&pki.client(ALWAYS)));
    let client = Client::new(&pki, &stub, Credential::Certificate(old.clone()));
    let resolver = client.source.resolver();
    let shows = || resolver.resolve(&[], &[]).map(|shown| Thumbprint::of_der(&shown.cert[0]));
    assert!(resolver.has_certs() && shows() == Some(*old.thumbprint()));
    let token = client.source.token().await.expect("a token");
    client.source.rotate_credential(Credential::Certificate(new.clone())).expect("a rotation");
    assert_eq!(shows(), Some(*old.thumbprint()), "together with its token");
    client.clock.advance(Duration::from_secs(300));
    assert_eq!(shows(), Some(*new.thumbprint()), "no token is in use");
    let pinned = token.certificate().expect("a certificate").resolver();
    let pinned = pinned.resolve(&[], &[]).map(|shown| Thumbprint::of_der(&shown.cert[0]));
    assert_eq!(pinned, Some(*old.thumbprint()), "whatever is in use");

    let bare = Client::new(&pki, &stub, plain_assertion());
    assert!(!bare.source.resolver().has_certs());
}
