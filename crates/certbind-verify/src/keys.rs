//! The issuer's keys: held, renewed by age or on demand, and not relied on when they are too old.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use certbind_proto::jwk::JwkSet;
use certbind_proto::kept_keys::{Freshness, KeptKeys};
use certbind_proto::time::Timestamp;

/// The issuer's keys, parsed once. Clones share them; reading takes no lock.
#[derive(Clone)]
pub struct Keys {
    kept: Arc<ArcSwap<KeptKeys>>,
    freshness: Freshness,
}

impl Keys {
    /// How long an issuer's keys are used unless something else is said.
    ///
    /// They are renewed every 10 minutes beside the requests. After 20 minutes without traffic the first request waits
    /// for newer ones. A `kid` that is not among them is asked for every 30 s at the most. While the issuer cannot be
    /// reached they serve for 24 hours; after that every token is denied.
    pub const FRESHNESS: Freshness = Freshness {
        cool_down: Duration::from_secs(30),
        refresh_after: Duration::from_secs(10 * 60),
        max_age: Duration::from_secs(20 * 60),
        stale_limit: Duration::from_secs(24 * 60 * 60),
    };

    /// None yet. Until [`Self::hold`] is called, every token is denied.
    #[must_use]
    pub fn none(freshness: Freshness) -> Self {
        Self { kept: Arc::default(), freshness }
    }

    /// These, for ever: from a file, say, that whoever runs the service replaces together with the service.
    #[must_use]
    pub fn fixed(set: JwkSet) -> Self {
        let for_ever = Freshness {
            cool_down: Duration::MAX,
            refresh_after: Duration::MAX,
            max_age: Duration::MAX,
            stale_limit: Duration::MAX,
        };
        let keys = Self::none(for_ever);
        keys.hold(set, Timestamp::from_unix(0));
        keys
    }

    /// Takes these from now on. They are as old as the moment at which the issuer was asked for them.
    pub fn hold(&self, set: JwkSet, asked: Timestamp) {
        let set = Arc::new(set);
        self.change(|kept| {
            kept.begin(asked);
            kept.succeed(set.clone());
        });
    }

    /// The keys, unless there are none or they are too old.
    #[must_use]
    pub fn set(&self, now: Timestamp) -> Option<Arc<JwkSet>> {
        self.kept.load().set(&self.freshness, now)
    }

    #[cfg(feature = "fetch")]
    pub(crate) fn next(&self, suits: bool, now: Timestamp) -> certbind_proto::kept_keys::Next {
        self.kept.load().next(|_| suits, &self.freshness, now)
    }

    pub(crate) fn change(&self, change: impl Fn(&mut KeptKeys)) {
        self.kept.rcu(|kept| {
            let mut kept = KeptKeys::clone(kept);
            change(&mut kept);
            kept
        });
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("freshness", &self.freshness).finish_non_exhaustive()
    }
}
