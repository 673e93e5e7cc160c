use std::future::ready;
use std::time::Duration;

use certbind_proto::binding::Confirmation;
use certbind_proto::scope::Scope;
use certbind_proto::time::FixedClock;

use super::*;
use crate::store::faulty::{Fault, FaultyStore};
use crate::store::memory::MemoryStore;
use crate::store::{BoxFuture, Changes as _};

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
            AccessToken { iat: after(1), ..token("a") },
        ),
        (
            revoked(Revoked::Client, RevokedId::of_client("billing")),
            Revoked::Client,
            AccessToken { iat: after(1), cnf: None, ..token("a") },
        ),
    ] {
        store.revoke(revocation, NOW).await.unwrap();
        revocations.refresh(NOW).await.unwrap();
        let lost = match expected {
            Revoked::Client => AccessToken { cnf: None, ..token("a") },
            Revoked::Certificate | Revoked::Token => token("a"),
        };
        assert_eq!(revocations.against(&lost, NOW), Some(expected));
        assert_eq!(revocations.against(&other, NOW), None, "{expected:?}");
    }
    assert!(!revocations.is_certificate_revoked(&certificate, NOW), "what it gets later is good");
    revocations.revoke_certificate(&certificate, after(300), NOW).await.unwrap();
    assert!(revocations.is_certificate_revoked(&certificate, after(299)), "unless an operator revoked it");
    assert!(!revocations.is_certificate_revoked(&certificate, after(300)));
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
    let _following = other.follow(store.changes(), Arc::new(FixedClock::at(NOW)), |_, _| Box::pin(ready(())));
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
    let (_, before) = revocations.edition();
    revocations.refresh(after(2 * 3600)).await.unwrap();
    assert!(revocations.is_empty());
    assert!(revocations.edition().1 > before);
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

    // There is still room for what administrators revoke, until verifiers would not take the list any more.
    revocations.revoke_tokens_of("billing", NOW).await.unwrap();
    for n in 0..MORE_OF_ADMINISTRATORS {
        revocations.write().add(revoked(Revoked::Certificate, RevokedId::of_token(&n.to_string())));
    }
    let certificate = Thumbprint::of_der(b"certificate");
    assert!(matches!(revocations.revoke_certificate(&certificate, FOR_GOOD, NOW).await, Err(NotRevoked::Full)));
    assert!(matches!(revocations.revoke_tokens_of("ledger", NOW).await, Err(NotRevoked::Full)));
}

#[tokio::test]
async fn pages_have_each_revocation_once_in_an_order_that_stays() {
    let revocations = over(&Arc::default()).await;
    for n in 0..7 {
        for what in Revoked::ALL {
            revocations.write().add(revoked(what, RevokedId::of_token(&n.to_string())));
        }
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = revocations.page(None, after.as_ref(), 4, NOW);
        let Some(last) = page.last() else { break };
        after = Some((last.what, last.id));
        seen.extend(page.iter().map(|held| (held.what, held.id)));
    }
    assert_eq!(seen.len(), 21);
    assert!(seen.is_sorted() && seen.windows(2).all(|pair| pair[0] != pair[1]));
    assert_eq!(revocations.page(Some(Revoked::Client), None, 100, NOW).len(), 7);
    let over = revoked(Revoked::Token, RevokedId::of_token("0")).keep_until.plus(Duration::from_secs(1));
    assert_eq!(revocations.page(None, None, 100, over), [], "what is over is in force no more");
}

#[tokio::test]
async fn p4_what_the_server_finds_out_is_in_force_at_once_and_in_the_store_once_that_is_back() {
    let store = Arc::new(FaultyStore::new(MemoryStore::new(), Fault::None));
    let revocations = Arc::new(Revocations::load(Arc::clone(&store) as _, NOW).await.unwrap());
    store.set(Fault::Down);
    let certificate = Thumbprint::of_der(b"certificate");
    revocations.enforce_certificate(&certificate, after(300), NOW);
    revocations.enforce_client("ledger", NOW);
    assert_eq!(revocations.against(&token("a"), NOW), Some(Revoked::Certificate));
    assert_eq!(revocations.against(&token("a"), after(360)), Some(Revoked::Certificate), "as long as anybody takes it");
    assert_eq!(revocations.against(&token("a"), after(361)), None);
    let of_ledger = AccessToken { client_id: "ledger".to_owned(), cnf: None, ..token("a") };
    assert_eq!(revocations.against(&of_ledger, after(86_400)), Some(Revoked::Client), "the longest life there is");

    let looks = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&looks);
    let count = move |_: &Arc<Revocations>, _| -> BoxFuture<'static, ()> {
        *counted.lock().unwrap() += 1;
        Box::pin(ready(()))
    };
    let _following = revocations.follow(store.changes(), Arc::new(FixedClock::at(NOW)), count);
    let until = async |what: &str, holds: &dyn Fn() -> bool| {
        let began = std::time::Instant::now();
        while !holds() {
            assert!(began.elapsed() < Duration::from_secs(5), "{what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    until("it looks although the store is away", &|| *looks.lock().unwrap() > 0).await;
    assert_eq!(revocations.unwritten().len(), 2);
    store.set(Fault::None);
    until("it is written once the store is back", &|| revocations.unwritten().is_empty()).await;
    assert_eq!(store.revocations_since(0, NOW).await.unwrap().len(), 2);
}

#[tokio::test]
async fn what_is_published_is_what_is_in_force_and_says_up_to_when_it_is_complete() {
    let store = Arc::new(FaultyStore::new(MemoryStore::new(), Fault::None));
    let revocations = Revocations::load(Arc::clone(&store) as _, NOW).await.unwrap();
    let before = revocations.published(NOW).unwrap();
    assert_eq!((before.as_of, before.entries.is_empty()), (NOW, true));
    revocations.revoke_token(&token("a"), NOW).await.unwrap();
    revocations.enforce_certificate(&Thumbprint::of_der(b"stolen"), after(300), NOW);
    revocations.revoke_tokens_of("ledger", NOW).await.unwrap();
    let after_it = revocations.published(NOW).unwrap();
    assert!(after_it.edition > before.edition);
    assert_eq!(after_it.entries.len(), 3);
    let listed = |token: &AccessToken| after_it.entries.against(token).is_some();
    for (token, expected) in [
        (token("a"), true),
        (token("b"), false),
        (AccessToken { cnf: Some(Confirmation { x5t_s256: Thumbprint::of_der(b"stolen") }), ..token("b") }, true),
        (AccessToken { client_id: "ledger".to_owned(), ..token("b") }, true),
        (AccessToken { client_id: "ledger".to_owned(), iat: after(1), ..token("b") }, false),
    ] {
        assert_eq!(listed(&token), expected, "{token:?}");
        assert_eq!(revocations.against(&token, NOW).is_some(), expected, "memory and list agree: {token:?}");
    }
    store.set(Fault::Down);
    assert!(revocations.refresh(after(10)).await.is_err());
    assert_eq!(revocations.published(after(10)).unwrap().as_of, NOW, "what others revoked since is not known");
    assert_eq!(revocations.published(after(361)).unwrap().entries.len(), 1, "what is over is left out");
}

#[tokio::test]
async fn p4_a_certificate_that_is_lifted_authenticates_again_on_every_server_and_its_old_tokens_stay_revoked() {
    let store = Arc::new(MemoryStore::new());
    let (one, other) = (over(&store).await, Arc::new(over(&store).await));
    let _following = other.follow(store.changes(), Arc::new(FixedClock::at(after(5))), |_, _| Box::pin(ready(())));
    let certificate = token("a").cnf.unwrap().x5t_s256;
    assert_eq!(one.lift_certificate(&certificate, NOW).await.unwrap(), None, "nothing is revoked");
    one.revoke_certificate(&certificate, FOR_GOOD, NOW).await.unwrap();
    let until = async |revoked: bool| {
        while other.is_certificate_revoked(&certificate, after(5)) != revoked {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(1), until(true)).await.expect("within a second");

    let lifted = one.lift_certificate(&certificate, after(5)).await.unwrap().unwrap();
    assert_eq!((lifted.revoked, lifted.keep_until), (after(5), after(5 + 86_400 + 60)));
    assert_eq!(one.lift_certificate(&certificate, after(6)).await.unwrap(), None, "once");
    tokio::time::timeout(Duration::from_secs(1), until(false)).await.expect("within a second");
    let started = over(&store).await;
    for revocations in [&one, &*other, &started] {
        assert!(!revocations.is_certificate_revoked(&certificate, after(5)));
        let at = |iat| revocations.against(&AccessToken { iat, ..token("a") }, after(6));
        assert_eq!(
            (at(NOW), at(after(5)), at(after(6))),
            (Some(Revoked::Certificate), Some(Revoked::Certificate), None)
        );
    }
    one.revoke_certificate(&certificate, FOR_GOOD, after(7)).await.unwrap();
    assert!(one.is_certificate_revoked(&certificate, after(8)), "and it may be revoked again");
}

#[tokio::test]
async fn what_a_list_found_is_not_lifted_and_what_is_lifted_does_not_come_back_with_it() {
    let store = Arc::new(FaultyStore::new(MemoryStore::new(), Fault::None));
    let revocations = Revocations::load(Arc::clone(&store) as _, NOW).await.unwrap();
    let certificate = token("a").cnf.unwrap().x5t_s256;
    revocations.revoke_certificate(&certificate, FOR_GOOD, NOW).await.unwrap();
    // Found out while the store is away, and not in it yet.
    store.set(Fault::Down);
    revocations.enforce_certificate(&certificate, after(600), after(9));
    assert!(revocations.lift_certificate(&certificate, after(5)).await.is_err());
    assert!(revocations.is_certificate_revoked(&certificate, after(10)), "not lifted");
    store.set(Fault::None);
    revocations.lift_certificate(&certificate, after(5)).await.unwrap().unwrap();
    let at = |iat| revocations.against(&AccessToken { iat, ..token("a") }, after(10));
    assert_eq!((at(after(9)), at(after(10))), (Some(Revoked::Certificate), None), "what the list found stays");
    revocations.write_down(after(10)).await.unwrap();
    revocations.refresh(after(10)).await.unwrap();
    assert_eq!((at(after(9)), at(after(10))), (Some(Revoked::Certificate), None));
    assert!(!revocations.is_certificate_revoked(&certificate, after(10)));
}

#[tokio::test]
async fn what_the_store_told_first_does_not_undo_what_it_told_later() {
    let revocations = over(&Arc::default()).await;
    let id = RevokedId::of_certificate(&Thumbprint::of_der(b"certificate"));
    let blocked = Revocation { what: Revoked::Certificate, id, revoked: FOR_GOOD, keep_until: FOR_GOOD };
    let lifted = Revocation { revoked: after(5), keep_until: after(600), ..blocked };
    let mut held = revocations.write();
    assert_eq!(held.told(blocked, 3, None), blocked);
    assert_eq!(held.told(lifted, 5, None), lifted);
    assert_eq!(held.told(blocked, 3, None), lifted, "an answer that was on its way for long");
    assert_eq!(held.written(blocked, 4), lifted, "a write from before it was lifted");
    assert_eq!(held.written(blocked, 6), blocked, "one from after it");
}

#[tokio::test]
async fn fault_3_of_what_a_copy_lacks_nothing_is_given_up_and_all_is_written_again() {
    let revocations = over(&Arc::default()).await;
    let of = |name: &str| RevokedId::of_certificate(&Thumbprint::of_der(name.as_bytes()));
    let until = |name, revoked| Revocation { what: Revoked::Certificate, id: of(name), revoked, keep_until: FOR_GOOD };
    let mut held = revocations.write();
    for (revision, name, revoked) in
        [(1, "both", FOR_GOOD), (2, "older", after(5)), (3, "lost", FOR_GOOD), (4, "lifted", NOW)]
    {
        held.told(until(name, revoked), revision, None);
    }
    held.told(Revocation { keep_until: after(1), ..until("over", NOW) }, 5, None);
    let copy = vec![(1, until("both", FOR_GOOD)), (2, until("older", NOW)), (3, until("lifted", FOR_GOOD))];
    let mut lacking = held.reconcile(copy, after(9));
    lacking.sort_by_key(|revocation| revocation.revoked);
    assert_eq!(lacking, [until("older", after(5)), until("lost", FOR_GOOD)]);
    let is = |held: &Held, name| held.page(None, None, 9, after(9)).into_iter().find(|r| r.id == of(name)).unwrap();
    assert_eq!(is(&held, "lifted"), until("lifted", FOR_GOOD), "of two the stricter");
    assert_eq!(
        held.told(until("both", after(9)), 2, None),
        until("both", after(9)),
        "the copy counts on from where it is"
    );
}
