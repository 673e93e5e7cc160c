//! The published list of what is revoked.

use std::time::{Duration, Instant};

use certbind_proto::access_token::AccessToken;
use certbind_proto::binding::Confirmation;
use certbind_proto::jwk::JwkSet;
use certbind_proto::jws::{Algorithms, Parsed};
use certbind_proto::revocation_list::{self, Listed, MAX_BYTES, RevocationList};
use certbind_proto::scope::Scope;
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::Timestamp;
use hyper::Method;

use super::revoking;
use crate::support::BUSY;
use crate::support::{Answer, Ask, Caller, Http, ISSUER, Rig, Token};

const LIST: &str = "/.well-known/certbind-revocations";

/// Until a revocation is in the list.
const SOON: Duration = Duration::from_secs(1 + BUSY);

async fn opened(rig: &Rig, answer: &Answer) -> RevocationList {
    assert_eq!((answer.status, answer.header("content-type")), (200, Some(revocation_list::MEDIA_TYPE)));
    let keys = JwkSet::parse_fetched(&rig.send(&Ask::get("/.well-known/jwks.json")).await.body).unwrap();
    let parsed = Parsed::parse_document(std::str::from_utf8(&answer.body).unwrap(), MAX_BYTES).unwrap();
    keys.verify(&parsed, Algorithms::FAPI2).unwrap();
    revocation_list::check(&parsed, ISSUER, Duration::ZERO, rig.now()).unwrap()
}

fn claims_of(token: &Token) -> AccessToken {
    let text = |name: &str| token.claims[name].as_str().unwrap().to_owned();
    let date = |name: &str| Timestamp::from_unix(token.claims[name].as_i64().unwrap());
    AccessToken {
        iss: text("iss"),
        sub: text("sub"),
        client_id: text("client_id"),
        aud: vec![text("aud")],
        scope: Scope::default(),
        iat: date("iat"),
        exp: date("exp"),
        jti: text("jti"),
        cnf: token.bound_to().map(|x5t| Confirmation { x5t_s256: Thumbprint::parse(x5t).unwrap() }),
    }
}

/// Asks again until the list says this of the token.
pub(super) async fn until_listed(rig: &Rig, token: &Token, expected: Option<Listed>) -> RevocationList {
    let (began, claims) = (Instant::now(), claims_of(token));
    loop {
        let list = opened(rig, &rig.send(&Ask::get(LIST)).await).await;
        if list.entries.against(&claims) == expected {
            return list;
        }
        assert!(began.elapsed() < SOON, "not {expected:?} in time: {list:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn fapi_5_3_4_3_what_is_revoked_is_published_signed_and_cached_by_its_tag() {
    let rig = Rig::with(|setup| setup.two_listeners()).await;
    let token = rig.issues("billing", &Ask::billing()).await;
    let empty = rig.send(&Ask::get(LIST)).await;
    let list = opened(&rig, &empty).await;
    assert_eq!((list.entries.len(), list.as_of), (0, rig.now()));
    assert_eq!(list.expires.since(list.as_of), Duration::from_secs(3600));
    assert_eq!(empty.header("cache-control"), Some("public, max-age=1"));
    let etag = empty.header("etag").unwrap().to_owned();
    let again = rig.send(&Ask::get(LIST)).await;
    assert_eq!((again.header("etag"), &again.body), (Some(&*etag), &empty.body), "not signed for each request");
    let known = rig.send(&Ask::get(LIST).header("if-none-match", &etag)).await;
    assert_eq!((known.status, known.body.len()), (304, 0));
    let head = rig.send(&Ask::get(LIST).method(Method::HEAD)).await;
    assert_eq!((head.status, head.body.len(), head.header("etag")), (200, 0, Some(&*etag)));
    let refused = rig.send(&Ask::get(LIST).method(Method::POST)).await;
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));

    assert_eq!(rig.send(&revoking(Ask::billing(), &token.text)).await.status, 200);
    assert_eq!(until_listed(&rig, &token, Some(Listed::Token)).await.entries.len(), 1);
    let changed = rig.send(&Ask::get(LIST).header("if-none-match", &etag)).await;
    assert_eq!(changed.status, 200, "another tag");
    let mut public = Caller::connect(rig.public_address(), None, Http::Two).await;
    let of_public = public.send(&Ask::get(LIST).host("public.auth.test")).await;
    assert_eq!(of_public.body, rig.send(&Ask::get(LIST)).await.body, "one list on both listeners");
    let routes = "route=\"revocations\",code=\"304\"";
    assert!(rig.metrics().contains(routes), "{}", rig.metrics());
    rig.end().await;
}

#[tokio::test]
async fn fapi_5_3_4_3_a_list_has_what_other_servers_revoked_and_what_was_revoked_before_the_start() {
    let rig = Rig::start().await;
    let beside = rig.beside().await;
    let token = rig.issues("billing", &Ask::billing()).await;
    let mut there = Caller::connect(beside.address().unwrap(), Ask::billing().certificate.as_ref(), Http::One).await;
    assert_eq!(there.send(&revoking(Ask::billing(), &token.text)).await.status, 200);
    until_listed(&rig, &token, Some(Listed::Token)).await;
    drop(there);
    beside.stop().await;
    let rig = rig.restart().await;
    let first = opened(&rig, &rig.send(&Ask::get(LIST)).await).await;
    assert_eq!(first.entries.against(&claims_of(&token)), Some(Listed::Token), "in the first answer");
    rig.end().await;
}
