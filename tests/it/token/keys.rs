//! Signing keys that change: every token verifies with a set that was fetched before it was made (RFC 7517 §5; RFC 9068 §4).

use std::time::Duration;

use certbind_verify::{Demand, JwkSet, Keys, Settings, Thumbprint, Timestamp, Verifier};
use serde_json::{Value, json};

use crate::support::{API, Ask, ISSUER, PKI, Rig, Token};

const JWKS: &str = "/.well-known/jwks.json";
const HOUR: i64 = 3600;
/// How long the key that was replaced is needed: 5 minutes of a token, and twice the 30 seconds that clocks may be off.
const LAST_TOKEN: i64 = 360;

/// A server whose keys change every ten hours, published an hour before.
async fn rotating() -> Rig {
    Rig::with(|setup| {
        setup.set("keys.rotate_every", "10h");
        setup.set("keys.publish_before", "1h");
    })
    .await
}

/// What a resource server fetched.
struct Fetched(Value);

impl Fetched {
    async fn of(rig: &Rig) -> Self {
        Self(rig.send(&Ask::get(JWKS)).await.json())
    }

    /// Fetches again until there are so many keys: the server looks at its store once a second.
    async fn until(rig: &Rig, count: usize) -> Self {
        for _ in 0..500 {
            let fetched = Self::of(rig).await;
            if fetched.kids().len() == count {
                return fetched;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("there are never {count} keys");
    }

    fn kids(&self) -> Vec<&str> {
        self.0["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap()).collect()
    }

    /// Whether our verifier lets the token in with these keys alone.
    fn verifies(&self, token: &Token, now: Timestamp) -> bool {
        let keys = Keys::fixed(JwkSet::parse_fetched(self.0.to_string().as_bytes()).unwrap());
        let verifier = Verifier::new(Settings::new(ISSUER, API), keys);
        let certificate = Thumbprint::of_der(PKI.billing.identity.certificate());
        let header = format!("Bearer {}", token.text);
        verifier.verify([header.as_bytes()], Some(&certificate), &Demand::default(), now).is_ok()
    }
}

/// What the metadata say about signed answers (RFC 9701 §6).
async fn own_algorithms(rig: &Rig) -> Value {
    let document = rig.send(&Ask::get("/.well-known/oauth-authorization-server")).await.json();
    document["introspection_signing_alg_values_supported"].clone()
}

fn kid(token: &Token) -> String {
    token.header["kid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn rfc7517_5_a_key_is_published_before_it_signs_and_until_its_last_token_has_expired() {
    let rig = rotating().await;
    let first = Fetched::of(&rig).await;
    let old = first.kids()[0].to_owned();
    assert_eq!(kid(&rig.issues("at first", &Ask::billing()).await), old);

    rig.at(9 * HOUR);
    let both = Fetched::until(&rig, 2).await;
    let new = both.kids()[1].to_owned();
    for before in [9 * HOUR, 10 * HOUR - 1] {
        rig.at(before);
        let token = rig.issues("before", &Ask::billing()).await;
        assert_eq!(kid(&token), old);
        assert!(first.verifies(&token, rig.now()), "also with the set of ten hours ago");
    }
    let last = rig.issues("the last of the old key", &Ask::billing()).await;
    rig.at(10 * HOUR);
    let token = rig.issues("at its time, to the second", &Ask::billing()).await;
    assert_eq!(kid(&token), new);
    assert!(both.verifies(&token, rig.now()) && both.verifies(&last, rig.now()), "with the set of an hour ago");

    rig.at(10 * HOUR + 299);
    assert!(Fetched::of(&rig).await.verifies(&last, rig.now()), "in its last second");
    rig.at(10 * HOUR + LAST_TOKEN);
    let after = Fetched::until(&rig, 1).await;
    assert_eq!(after.kids(), [new]);
    let told = rig.audit_lines(3, |line| line["event"] == "key.rotated").await;
    let told: Vec<_> = told.iter().map(|line| line["detail"].as_str().unwrap()).collect();
    for (line, (kid, what)) in
        told.iter().zip([(after.kids()[0], "published (ES256)"), (after.kids()[0], "signs"), (&*old, "removed")])
    {
        assert!(line.starts_with(&format!("{kid} {what}")), "{told:?}");
    }
    rig.at(0);
    rig.stop().await;
}

#[tokio::test]
async fn another_algorithm_is_an_ordinary_rotation_and_no_token_is_lost() {
    let rig = rotating().await;
    let before = rig.issues("ES256", &Ask::billing()).await;
    let first = Fetched::of(&rig).await;
    let rig = rig.restart_with("tokens.algorithm=EdDSA").await;
    let both = Fetched::of(&rig).await;
    assert_eq!((both.kids().len(), both.kids()[0]), (2, first.kids()[0]), "published as soon as it listens");
    assert_eq!(own_algorithms(&rig).await, json!(["EdDSA", "ES256"]), "what is signed with, now and soon");
    assert!(both.verifies(&before, rig.now()));

    let during = rig.issues("the old algorithm still", &Ask::billing()).await;
    assert_eq!((during.header["alg"].as_str(), first.verifies(&during, rig.now())), (Some("ES256"), true));
    rig.at(HOUR - 1);
    let last = rig.issues("its last second", &Ask::billing()).await;
    rig.at(HOUR);
    let after = rig.issues("the new algorithm", &Ask::billing()).await;
    assert_eq!((kid(&after).as_str(), after.header["alg"].as_str()), (both.kids()[1], Some("EdDSA")));
    assert!([&last, &after].into_iter().all(|token| both.verifies(token, rig.now())));

    for _ in 0..500 {
        if own_algorithms(&rig).await == json!(["EdDSA"]) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(own_algorithms(&rig).await, json!(["EdDSA"]));

    // A restart in between makes no third key.
    let rig = rig.restart().await;
    assert_eq!(Fetched::of(&rig).await.kids(), both.kids());
    rig.at(HOUR + LAST_TOKEN);
    assert_eq!(Fetched::until(&rig, 1).await.kids(), [kid(&after)]);
    rig.at(0);
    rig.stop().await;
}

#[tokio::test]
async fn r8414_cache_a_the_key_set_is_kept_for_less_than_a_key_is_published_before() {
    for (publish_before, max_age) in [("1h", 300), ("4m", 120), ("3s", 1)] {
        let rig = Rig::with(|setup| setup.set("keys.publish_before", publish_before)).await;
        let expected = format!("public, max-age={max_age}");
        assert_eq!(rig.send(&Ask::get(JWKS)).await.header("cache-control"), Some(&*expected), "{publish_before}");
        rig.end().await;
    }
}
