//! Gets what decisions rest on from the issuer itself, and keeps it fresh: metadata and keys (RFC 8414 §3; RFC 8725 §3.10),
//! and what was revoked, as a list that is polled or by asking about each token (RFC 7662).

mod asking;
mod issuer;
mod polling;

use std::fmt;
use std::sync::Arc;

use certbind_https::Fetcher;
use certbind_proto::bearer;
use certbind_proto::kept_keys::Freshness;
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::Timestamp;

use crate::{Demand, Denied, Keys, Verified, Verifier};

pub use asking::{Asking, Credential};
pub use certbind_https::{AddressPolicy, Authorities, ConfigFault, Identity, Limits};
pub use polling::Polling;

use asking::Asker;
use issuer::{Issuer, Suits};
use polling::Poller;

/// How the issuer's keys are fetched, and what was revoked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the issuer's hosts may be. All URLs are the operator's and the issuer's choice, nobody else's.
    pub addresses: AddressPolicy,
    /// How long keys are used, and how often they are asked for.
    pub freshness: Freshness,
    /// What each of the requests may cost; for keys the time is for metadata and keys together.
    pub limits: Limits,
    /// How it is learnt what was revoked.
    pub revocation: Revocation,
    /// The certificate authorities that may vouch for the issuer's hosts. They can be exchanged meanwhile.
    pub roots: Authorities,
}

/// How it is learnt what the issuer revoked.
#[derive(Clone, Debug)]
pub enum Revocation {
    /// By asking about each token, and remembering the answer for a moment.
    Asked(Asking),
    /// Not at all: a revoked token is good until it ends.
    Ignored,
    /// By polling the issuer's list: one request every few seconds, however many tokens come.
    Polled(Polling),
}

impl Settings {
    /// [`Keys::FRESHNESS`]; 64 KiB and 5 s; revocation ignored.
    #[must_use]
    pub fn new(roots: Authorities, addresses: AddressPolicy) -> Self {
        let (freshness, limits) = (Keys::FRESHNESS, Limits::default());
        Self { addresses, freshness, limits, revocation: Revocation::Ignored, roots }
    }
}

/// A [`Verifier`] that gets its keys from the issuer itself. It needs a tokio runtime.
#[derive(Clone)]
pub struct OnlineVerifier {
    verifier: Verifier,
    issuer: Arc<Issuer>,
    revoked: Revoked,
}

/// Who knows what was revoked.
#[derive(Clone)]
enum Revoked {
    Asked(Arc<Asker>),
    Ignored,
    Polled(Arc<Poller>),
}

impl OnlineVerifier {
    /// Knows no keys yet; the first request fetches them, or [`Self::warm_up`].
    ///
    /// # Errors
    /// [`ConfigFault`] when a certificate cannot be used.
    pub fn new(settings: crate::Settings, fetch: Settings) -> Result<Self, ConfigFault> {
        let tls = Arc::new(fetch.roots.client_config(None)?);
        // A fetch is over before the next one may begin.
        let cool_down = fetch.freshness.cool_down.max(fetch.limits.total);
        let keys = Keys::none(Freshness { cool_down, ..fetch.freshness });
        let fetcher = Fetcher::new(Arc::clone(&tls), fetch.addresses, fetch.limits);
        let issuer = Arc::new(Issuer::new(fetcher, settings.issuer.clone(), keys.clone(), fetch.limits));
        let mut verifier = Verifier::new(settings.clone(), keys);
        let revoked = match fetch.revocation {
            Revocation::Ignored => Revoked::Ignored,
            Revocation::Asked(asking) => {
                let tls = Arc::new(fetch.roots.client_config(asking.credential.identity())?);
                let fetcher = Fetcher::new(tls, fetch.addresses, fetch.limits);
                Revoked::Asked(Arc::new(Asker::new(asking, fetcher, Arc::clone(&issuer))))
            }
            Revocation::Polled(polling) => {
                let limits = Limits { max_bytes: polling.max_bytes, ..fetch.limits };
                let poller =
                    Poller::new(polling, Fetcher::new(tls, fetch.addresses, limits), Arc::clone(&issuer), settings);
                verifier = verifier.with_revocations(poller.list().clone());
                Revoked::Polled(Arc::new(poller))
            }
        };
        Ok(Self { verifier, issuer, revoked })
    }

    /// As [`Verifier::with_memory`].
    #[must_use]
    pub fn with_memory(self, memory: crate::Memory) -> Self {
        Self { verifier: self.verifier.with_memory(memory), ..self }
    }

    /// As [`Verifier::for_audiences`].
    #[must_use]
    pub fn for_audiences(self, audiences: Vec<String>) -> Self {
        Self { verifier: self.verifier.for_audiences(audiences), ..self }
    }

    /// As [`Verifier::verify`]. Waits for newer keys when the token names one that is not held, or when those held are too
    /// old; at most as long as the settings allow, and asks the issuer no more often than that. For the list of what is
    /// revoked only the first request waits; where each token is asked about, the first request with it does.
    ///
    /// # Errors
    /// [`Denied`].
    pub async fn verify<'a>(
        &self,
        authorization: impl IntoIterator<Item = &'a [u8]> + Clone,
        certificate: Option<&Thumbprint>,
        demand: &Demand,
        now: Timestamp,
    ) -> Result<Verified, Denied> {
        self.prepare(now).await;
        let mut outcome = self.verifier.verify(authorization.clone(), certificate, demand, now);
        if outcome.as_ref().is_err_and(Denied::is_for_want_of_keys) {
            self.issuer.renew(Suits::No, now).await;
            outcome = self.verifier.verify(authorization.clone(), certificate, demand, now);
        }
        let verified = outcome?;
        if let Revoked::Asked(asker) = &self.revoked {
            // It was read a moment ago.
            let token = bearer::token(authorization.into_iter()).unwrap_or_default();
            asker.ask(token, &verified, now).await.map_err(|fault| self.verifier.deny(fault, demand))?;
        }
        Ok(verified)
    }

    /// Fetches what is not there yet, and says whether there are keys now, and the list of what is revoked where it is
    /// polled.
    pub async fn warm_up(&self, now: Timestamp) -> bool {
        self.prepare(now).await;
        let has_list = match &self.revoked {
            Revoked::Polled(poller) => poller.list().as_of().is_some(),
            Revoked::Asked(_) | Revoked::Ignored => true,
        };
        has_list && self.verifier.keys().set(now).is_some()
    }

    /// Something has changed that may have stood in the way of a fetch, the authorities for one: after a failure the next request
    /// with a token fetches keys, and the list of what is revoked is polled, both without a pause.
    pub fn retry_now(&self) {
        self.verifier.keys().change(certbind_proto::kept_keys::KeptKeys::retry_now);
        if let Revoked::Polled(poller) = &self.revoked {
            poller.retry_now();
        }
    }

    /// Why the last fetch of keys, or of the list of what is revoked, brought nothing; in words, for people.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let of_list = || match &self.revoked {
            Revoked::Polled(poller) => poller.trouble(),
            Revoked::Asked(_) | Revoked::Ignored => None,
        };
        self.issuer.trouble.get().or_else(of_list)
    }

    /// The verifier as it is now, which never waits.
    #[must_use]
    pub const fn offline(&self) -> &Verifier {
        &self.verifier
    }

    async fn prepare(&self, now: Timestamp) {
        self.issuer.renew(Suits::Yes, now).await;
        if let Revoked::Polled(poller) = &self.revoked {
            poller.be_running().await;
        }
    }
}

impl fmt::Debug for OnlineVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnlineVerifier")
            .field("verifier", &self.verifier)
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}
