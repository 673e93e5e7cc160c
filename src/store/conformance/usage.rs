//! What every engine must do with uses of credentials.

use std::sync::Arc;
use std::time::Duration;

use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::Timestamp;

use super::super::usage::{Credential, KEPT, KEPT_FOR, Usage, UsageStore};
use super::super::{ClientStore, Expected};
use super::{NOW, at_once, done, put, soon, wait};

/// Everything that [`UsageStore`] promises within one process.
pub fn usage<S: UsageStore + ClientStore + 'static>(open: &dyn Fn() -> Arc<S>) {
    of_each_credential_the_newest_use_counts(&*open());
    of_each_client_the_newest_uses_stay(&*open());
    what_a_client_used_goes_with_it(&*open());
    uses_that_many_tell_at_once_are_all_there(&[open()]);
}

/// Many servers tell the same uses and others at the same moment.
pub fn uses_that_many_tell_at_once_are_all_there<S: UsageStore + 'static>(stores: &[Arc<S>]) {
    let clients = || (0..10).map(|n| format!("c{n}"));
    at_once(8, stores, |store, n| {
        let later = NOW.plus(Duration::from_secs(n as u64));
        let mut uses: Vec<_> = clients().map(|client_id| used_certificate(&client_id, n % 4, later)).collect();
        // Each in another order.
        uses.rotate_left(n);
        wait(store.note_uses(uses, later));
    });
    let found = wait(stores[0].uses_of(clients().collect()));
    assert_eq!(found.len(), 40, "{found:?}");
    assert_eq!(found[0].last_used, NOW.plus(Duration::from_secs(7)), "the newest of all servers");
}

fn of_each_credential_the_newest_use_counts(store: &impl UsageStore) {
    let later = NOW.plus(Duration::from_secs(60));
    assert_eq!(wait(store.uses_of(vec!["billing".into()])), []);
    let named = |kid: Option<&str>, last_used| {
        let credential = Credential::Key { thumbprint: Thumbprint::of_der(b"k"), kid: kid.map(str::to_owned) };
        Usage { client_id: "batch".into(), credential, last_used }
    };
    wait(store.note_uses(vec![used_certificate("billing", 1, later), named(None, NOW)], later));
    wait(store.note_uses(vec![used_certificate("billing", 1, NOW), used_certificate("billing", 2, NOW)], later));
    wait(store.note_uses(vec![named(Some("k1"), later)], later));
    let billing = [used_certificate("billing", 1, later), used_certificate("billing", 2, NOW)];
    assert_eq!(wait(store.uses_of(vec!["billing".into(), "nobody".into()])), billing, "the last used first");
    let both = wait(store.uses_of(vec!["batch".into(), "billing".into()]));
    assert_eq!(both.iter().filter(|usage| usage.client_id == "batch").count(), 1, "{both:?}");
    assert_eq!(wait(store.uses_of(vec!["batch".into()]))[0].last_used, later);
    wait(store.note_uses(Vec::new(), later.plus(KEPT_FOR).plus(Duration::from_millis(1))));
    assert_eq!(wait(store.uses_of(vec!["batch".into(), "billing".into()])), [], "what is too old is forgotten");
}

fn of_each_client_the_newest_uses_stay(store: &impl UsageStore) {
    let at = |n: usize| NOW.plus(Duration::from_secs(n as u64));
    wait(store.note_uses(vec![used_certificate("ledger", 0, NOW)], NOW));
    // In two groups, so that what is there already goes as well.
    for group in [0..KEPT, KEPT..KEPT + 5] {
        wait(store.note_uses(group.map(|n| used_certificate("billing", n, at(n))).collect(), at(0)));
    }
    let kept = wait(store.uses_of(vec!["billing".into()]));
    let expected: Vec<_> = (5..KEPT + 5).rev().map(|n| used_certificate("billing", n, at(n))).collect();
    assert_eq!(kept, expected);
    assert_eq!(wait(store.uses_of(vec!["ledger".into()])).len(), 1, "another client's are its own");
}

fn what_a_client_used_goes_with_it(store: &(impl UsageStore + ClientStore)) {
    done(wait(put(store, "billing", "1", Expected::Absent)));
    wait(store.note_uses(vec![used_certificate("billing", 1, NOW), used_certificate("ledger", 1, NOW)], NOW));
    done(wait(put(store, "billing", "2", Expected::Present)));
    assert_eq!(wait(store.uses_of(vec!["billing".into()])).len(), 1, "a change of the client is none of its uses");
    done(wait(store.delete_client("billing".into(), Expected::Present, NOW)));
    assert_eq!(wait(store.uses_of(vec!["billing".into()])), []);
    assert_eq!(wait(store.uses_of(vec!["ledger".into()])).len(), 1);
}

fn used_certificate(client_id: &str, n: usize, last_used: Timestamp) -> Usage {
    let credential = Credential::Certificate {
        thumbprint: Thumbprint::of_der(&n.to_le_bytes()),
        subject: format!("CN={client_id}"),
        serial: format!("{n:02x}"),
        not_before: NOW,
        not_after: soon(),
    };
    Usage { client_id: client_id.to_owned(), credential, last_used }
}
