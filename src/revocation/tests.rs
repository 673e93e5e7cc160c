use std::time::Duration;

use certbind_proto::binding::Confirmation;
use certbind_proto::scope::Scope;
use certbind_proto::time::FixedClock;

use super::*;
use crate::store::Changes as _;
use crate::store::faulty::{Fault, FaultyStore};
use crate::store::memory::MemoryStore;

const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

fn after(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

fn token(jti: &str) -> AccessToken {
    AccessToken {
        iss: "https://auth.test".to_owned(),
        sub: "billing".to_owned(),
        client_id: "billing".to_owned(),
        aud: vec!["https://api.test".to_owned()],
        scope: Scope::default(),
        iat: NOW,
        exp: after(300),
        jti: jti.to_owned(),
        cnf: Some(Confirmation { x5t_s256: Thumbprint::of_der(b"certificate") }),
    }
}

fn revoked(what: Revoked, id: RevokedId) -> Revocation {
    Revocation { what, id, revoked: NOW, keep_until: after(300) }
}

async fn over(store: &Arc<MemoryStore>) -> Revocations {
    Revocations::load(Arc::clone(store) as _, NOW).await.unwrap()
}

#[tokio::test]
async fn rfc7009_2_1_a_revoked_token_is_revoked_at_once_and_until_nobody_takes_it_any_more() {
    let revocations = over(&Arc::default()).await;
    assert_eq!(revocations.against(&token("a"), NOW), None);
    revocations.revoke_token(&token("a"), NOW).await.unwrap();
    assert_eq!(revocations.against(&token("a"), NOW), Some(Revoked::Token));
    assert_eq!(revocations.against(&token("b"), NOW), None);
    assert_eq!(revocations.against(&token("a"), after(360)), Some(Revoked::Token), "clocks may differ by a minute");
}

#[tokio::test]
async fn rfc7662_4_a_token_falls_with_its_certificate_and_with_its_client() {
    let store = Arc::new(MemoryStore::new());
    let revocations = over(&store).await;
    let certificate = Thumbprint::of_der(b"certificate");
    for (revocation, expected, other) in [
        (
            revoked(Revoked::Certificate, RevokedId::of_certificate(&certificate)),
            Revoked::Certificate,
            AccessToken { cnf: Some(Confirmation { x5t_s256: Thumbprint::of_der(b"renewed") }), ..token("a") },
        ),
        (
            revoked(Revoked::Client, RevokedId::of_client("billing")),
            Revoked::Client,
            AccessToken { iat: after(1), cnf: None, ..token("a") },
        ),
    ] {
        store.revoke(revocation, NOW).await.unwrap();
        assert_eq!(revocations.refresh(NOW).await.unwrap(), Refreshed::Changed);
        let lost = match expected {
            Revoked::Client => AccessToken { cnf: None, ..token("a") },
            Revoked::Certificate | Revoked::Token => token("a"),
        };
        assert_eq!(revocations.against(&lost, NOW), Some(expected));
        assert_eq!(revocations.against(&other, NOW), None, "{expected:?}");
    }
    assert!(revocations.is_certificate_revoked(&certificate, NOW));
    let unbound = AccessToken { client_id: "ledger".to_owned(), cnf: None, ..token("a") };
    assert_eq!(revocations.against(&unbound, NOW), None);
}

#[tokio::test]
async fn rfc7009_2_2_1_what_the_store_does_not_have_is_not_revoked() {
    let store = Arc::new(FaultyStore::new(MemoryStore::new(), Fault::None));
    let revocations = Revocations::load(Arc::clone(&store) as _, NOW).await.unwrap();
    store.set(Fault::Down);
    assert!(matches!(revocations.revoke_token(&token("a"), NOW).await, Err(NotRevoked::Store(_))));
    assert_eq!(revocations.against(&token("a"), NOW), None);
    assert!(revocations.refresh(NOW).await.is_err());
    assert!(Revocations::load(Arc::clone(&store) as _, NOW).await.is_err(), "no start without the store");
    store.set(Fault::LostAnswer);
    assert!(revocations.revoke_token(&token("a"), NOW).await.is_err());
    store.set(Fault::None);
    revocations.refresh(NOW).await.unwrap();
    assert_eq!(revocations.against(&token("a"), NOW), Some(Revoked::Token), "it was written after all");
}

#[tokio::test]
async fn rfc7009_2_1_a_revocation_on_one_server_is_known_to_another_that_follows_and_to_one_that_starts() {
    let store = Arc::new(MemoryStore::new());
    let (one, other) = (over(&store).await, Arc::new(over(&store).await));
    let _following = other.follow(store.changes(), Arc::new(FixedClock::at(NOW)));
    one.revoke_token(&token("a"), NOW).await.unwrap();
    let known = async {
        while other.against(&token("a"), NOW).is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(1), known).await.expect("within a second");
    assert_eq!(over(&store).await.against(&token("a"), NOW), Some(Revoked::Token));
}

#[tokio::test]
async fn fault_6_what_is_over_is_forgotten_but_not_by_a_clock_that_jumps_ahead_and_returns() {
    let revocations = over(&Arc::default()).await;
    revocations.revoke_token(&token("a"), NOW).await.unwrap();
    revocations.refresh(after(3600)).await.unwrap();
    assert_eq!(revocations.against(&token("a"), NOW), Some(Revoked::Token));
    assert_eq!(revocations.refresh(after(2 * 3600)).await.unwrap(), Refreshed::Changed);
    assert!(revocations.is_empty());
}

#[tokio::test]
async fn attack_22_clients_cannot_make_the_list_longer_than_it_may_be() {
    let store = Arc::new(MemoryStore::new());
    let revocations = over(&store).await;
    for n in 0..MAX_HELD {
        revocations.write().add(revoked(Revoked::Token, RevokedId::of_token(&n.to_string())));
    }
    assert!(matches!(revocations.revoke_token(&token("a"), NOW).await, Err(NotRevoked::Full)));
    assert!(store.revocations_since(0, NOW).await.unwrap().is_empty());
}
