//! What is revoked on a running server: kept current, and published as a list that is signed when something changes, and
//! now and then to show that nothing did.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use certbind_proto::client::State;
use certbind_proto::revocation_list::MEDIA_TYPE;
use certbind_proto::time::{Clock, Timestamp};

use super::report::Reporter;
use crate::authn::BoundCertificates;
use crate::authn::trust::TrustGroups;
use crate::http::document::Document;
use crate::mint::revocation_list::ListSigner;
use crate::registry::Registry;
use crate::revocation::{Following, Revocations};
use crate::store::{BoxFuture, Store, StoreError};

/// How long the list may be kept on its way: hardly, as whoever polls it counts on it.
const MAX_AGE: Duration = Duration::from_secs(1);

/// How old a list may become although nothing changes.
const RENEW: Duration = Duration::from_secs(60);

/// The revocations, and the list of them.
pub(super) struct Revoking {
    pub(super) revocations: Arc<Revocations>,
    pub(super) bound: Arc<BoundCertificates>,
    pub(super) document: Arc<Document>,
    _following: Following,
}

impl Revoking {
    /// Reads what was revoked, publishes it, and follows the store until this is dropped.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) async fn start(
        store: &Arc<dyn Store>,
        signer: ListSigner,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let now = clock.now();
        let revocations = Arc::new(Revocations::load(Arc::clone(store) as _, now).await?);
        let document = Arc::new(Document::of_bytes(MAX_AGE, MEDIA_TYPE, ""));
        let publisher = Arc::new(Publisher { signer, document: Arc::clone(&document), last: Mutex::default() });
        publisher.publish(&revocations, now).await;
        let looked = move |revocations: &Arc<Revocations>, now| -> BoxFuture<'static, ()> {
            let (publisher, revocations) = (Arc::clone(&publisher), Arc::clone(revocations));
            Box::pin(async move { publisher.publish(&revocations, now).await })
        };
        let following = revocations.follow(store.changes(), clock, looked);
        Ok(Self { revocations, bound: Arc::default(), document, _following: following })
    }

    /// The tokens of these clients are no longer good, if the clients are gone or disabled.
    pub(super) fn of_clients<'a>(
        &self,
        clients: &dyn Registry,
        changed: impl IntoIterator<Item = &'a str>,
        now: Timestamp,
    ) {
        for client_id in changed {
            if clients.find(client_id).is_none_or(|client| client.state == State::Disabled) {
                self.revocations.enforce_client(client_id, now);
            }
        }
    }

    /// The tokens of certificates that a revocation list has now are no longer good.
    pub(super) fn of_certificates(&self, groups: &TrustGroups, reporter: &Reporter) {
        for fallen in self.bound.fallen(groups, reporter.now()) {
            self.revocations.enforce_certificate(&fallen.thumbprint, fallen.last_token, reporter.now());
            reporter.certificate_fell(&fallen.thumbprint);
        }
    }
}

/// Publishes the list.
struct Publisher {
    signer: ListSigner,
    document: Arc<Document>,
    last: Mutex<Option<Last>>,
}

/// The list that is published.
#[derive(Clone, Copy)]
struct Last {
    as_of: Timestamp,
    edition: u64,
}

impl Publisher {
    /// Signs a new list if the one that is published no longer says all, or is old. While the store is away it becomes
    /// older: nobody here knows what other servers revoke, and a list must not claim to.
    async fn publish(&self, revocations: &Revocations, now: Timestamp) {
        if self.last().is_some_and(|last| !is_due(last, revocations.edition())) {
            return;
        }
        let Some(published) = revocations.published(now) else { return };
        match self.signer.sign(published.entries, published.as_of, now).await {
            Ok(list) => {
                self.document.replace_bytes(list);
                *self.last() = Some(Last { as_of: published.as_of, edition: published.edition });
            }
            Err(fault) => tracing::error!(%fault, "the list of what is revoked cannot be signed"),
        }
    }

    fn last(&self) -> MutexGuard<'_, Option<Last>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_due(last: Last, (as_of, edition): (Option<Timestamp>, u64)) -> bool {
    // A clock that was set back makes an older list the newer one.
    edition != last.edition || as_of.is_some_and(|as_of| as_of < last.as_of || as_of.since(last.as_of) >= RENEW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_signed_anew_when_it_lacks_something_or_is_a_minute_old_and_known_to_be_complete() {
        let at = |seconds: i64| Timestamp::from_unix(1_800_000_000 + seconds);
        let last = Last { as_of: at(0), edition: 7 };
        for (as_of, edition, expected) in [
            (Some(at(0)), 7, false),
            (Some(at(59)), 7, false),
            (Some(at(60)), 7, true),
            (Some(at(1)), 8, true),
            (Some(at(-1)), 7, true),
            (None, 7, false),
        ] {
            assert_eq!(is_due(last, (as_of, edition)), expected, "{as_of:?} {edition}");
        }
    }
}
