//! When to reuse a token, when to renew it early, when to leave the server alone. Takes `now`; waits for nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use certbind_proto::entropy::Entropy;
use certbind_proto::resource::Resource;
use certbind_proto::scope::Scope;
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::Timestamp;

use crate::{AccessToken, Error};

/// A token is renewed after this part of its life, in thousandths, at the earliest; …
const RENEW_FROM: u64 = 700;
/// … and so much later at the latest, so that a fleet does not come all at once.
const RENEW_SPREAD: u64 = 200;
/// The pauses after a failure that may pass by itself: the first, and the longest.
const PAUSE_PASSING: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// The pauses after a failure that somebody has to mend: the first, and the longest.
const PAUSE_LASTING: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// The longest `Retry-After` that is honoured.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// Tokens are fetched anew on the word of a resource once in this time, no more.
const REFETCH_PAUSE: Duration = Duration::from_secs(30);

/// What a token was asked for with: a token is good for its own question only (RFC 8707 §3; RFC 8705 §6.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) certificate: Option<Thumbprint>,
    pub(crate) client_id: String,
    pub(crate) issuer: String,
    pub(crate) resources: BTreeSet<Resource>,
    pub(crate) scope: Scope,
}

/// The token for one [`Key`], or the memory of why there is none.
pub(crate) struct Slot {
    key: Key,
    kept: Option<Kept>,
    failure: Option<Failure>,
    refetched: Option<Timestamp>,
}

struct Kept {
    renew_at: Timestamp,
    token: Arc<AccessToken>,
}

#[derive(Clone)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    in_a_row: u32,
    pub(crate) since: Timestamp,
    pub(crate) until: Timestamp,
}

/// What to do for somebody who wants a token.
#[derive(Debug)]
pub(crate) enum Advice {
    /// Leave the server alone for now: this is what came of the last try.
    Fail(Error),
    /// Ask the server, and wait.
    Fetch,
    /// Use this one.
    Use(Arc<AccessToken>),
    /// Use this one, and ask the server for the next meanwhile.
    UseAndRenew(Arc<AccessToken>),
}

impl Slot {
    pub(crate) const fn new(key: Key) -> Self {
        Self { key, kept: None, failure: None, refetched: None }
    }

    /// For a credential that is to follow the one of this slot. A server that is away, or wants to be left alone, is so for
    /// that one as well; that it refused this one says nothing about the next, until too many have been refused
    /// ([`Stumbles`](crate::stumbles::Stumbles)).
    pub(crate) fn heir(&self, key: Key, handed_down: Option<Failure>) -> Self {
        let own = self.failure.clone().filter(|failure| failure.error.should_retry());
        let failure = own.into_iter().chain(handed_down).max_by_key(|failure| failure.until);
        Self { failure, ..Self::new(key) }
    }

    /// The token that is kept, over or not.
    pub(crate) fn token(&self) -> Option<&Arc<AccessToken>> {
        self.kept.as_ref().map(|kept| &kept.token)
    }

    /// What came of the last try, if it brought no token.
    pub(crate) const fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// What to do for somebody who wants a token with at least `min_left` of its life before it.
    pub(crate) fn advise(&self, now: Timestamp, min_left: Duration) -> Advice {
        let failure = self.failure.as_ref().filter(|failure| failure.since <= now && now < failure.until);
        let kept =
            self.kept.as_ref().filter(|kept| kept.token.is_alive(now) && min_left < kept.token.expires.since(now));
        match (kept, failure) {
            (Some(kept), None) if kept.renew_at <= now => Advice::UseAndRenew(kept.token.clone()),
            (Some(kept), _) => Advice::Use(kept.token.clone()),
            (None, Some(failure)) => Advice::Fail(failure.error.clone()),
            (None, None) => Advice::Fetch,
        }
    }

    /// Keeps a token that the server issued.
    pub(crate) fn succeeded(&mut self, token: Arc<AccessToken>, entropy: &dyn Entropy) {
        let life = millis(token.expires.since(token.started));
        let part = RENEW_FROM + RENEW_SPREAD * thousandths(entropy) / 1000;
        let renew_at = token.started.plus(Duration::from_millis(life / 1000 * part + life % 1000 * part / 1000));
        self.kept = Some(Kept { renew_at, token });
        self.failure = None;
    }

    /// Remembers a failure, and for how long to leave the server alone. A token that is still alive is kept.
    pub(crate) fn failed(&mut self, error: Error, now: Timestamp, entropy: &dyn Entropy) {
        let in_a_row = self.failure.as_ref().map_or(1, |failure| failure.in_a_row.saturating_add(1));
        let (first, longest) = if error.should_retry() { PAUSE_PASSING } else { PAUSE_LASTING };
        let doubled = first.saturating_mul(1 << (in_a_row - 1).min(16)).min(longest);
        let spread = Duration::from_millis(millis(doubled) * thousandths(entropy) / 2000);
        let asked = error.retry_after().unwrap_or_default().min(MAX_RETRY_AFTER);
        let until = now.plus((doubled / 2 + spread).max(asked));
        self.failure = Some(Failure { error, in_a_row, since: now, until });
    }

    /// Ends the pause after the last failure; the next failure is followed by a longer one all the same.
    pub(crate) fn end_pause(&mut self, now: Timestamp) {
        if let Some(failure) = &mut self.failure {
            failure.until = failure.until.min(now);
        }
    }

    /// Goes on under a key: the token stays when it is the same one, failures are forgotten in any case.
    pub(crate) fn rekey(&mut self, key: Key) {
        if self.key != key {
            *self = Self::new(key);
        }
        self.failure = None;
    }

    /// A resource has refused this token though its life is not over: it is not used again, and the next one is fetched.
    /// `Err` when that was done a moment ago already.
    pub(crate) fn reject(&mut self, token: &AccessToken, now: Timestamp) -> Result<(), Error> {
        // Somebody else was faster: there is a newer one.
        if self.kept.as_ref().is_none_or(|kept| kept.token.value != token.value) {
            return Ok(());
        }
        if self.refetched.is_some_and(|at| at <= now && now < at.plus(REFETCH_PAUSE)) {
            return Err(Error::StillRejected);
        }
        self.refetched = Some(now);
        self.kept = None;
        Ok(())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// 0 to 999.
fn thousandths(entropy: &dyn Entropy) -> u64 {
    let mut bytes = [0; 4];
    entropy.fill(&mut bytes);
    (u64::from(u32::from_be_bytes(bytes)) * 1000) >> 32
}

#[cfg(test)]
mod tests {
    use certbind_proto::entropy::SeededEntropy;
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::error::{Busy, Refusal};

    const START: Timestamp = Timestamp::from_unix(1_795_305_600);

    fn at(seconds: u64) -> Timestamp {
        START.plus(Duration::from_secs(seconds))
    }

    fn key() -> Key {
        Key {
            certificate: None,
            client_id: "billing".to_owned(),
            issuer: "https://as.example".to_owned(),
            resources: BTreeSet::new(),
            scope: Scope::default(),
        }
    }

    fn token(value: &str, life: u64) -> Arc<AccessToken> {
        Arc::new(AccessToken {
            authorization: HeaderValue::from_static("Bearer t"),
            certificate: None,
            expires: at(life),
            scope: Scope::default(),
            started: START,
            value: value.to_owned(),
        })
    }

    fn refused() -> Error {
        let code = "invalid_client".to_owned();
        Error::Refused(Refusal { code, description: None, request_id: None, status: 400 })
    }

    fn busy(retry_after: Option<u64>) -> Error {
        Error::Busy(Busy { request_id: None, retry_after: retry_after.map(Duration::from_secs), status: 503 })
    }

    fn advice(slot: &Slot, now: Timestamp) -> &'static str {
        match slot.advise(now, Duration::ZERO) {
            Advice::Fail(_) => "fail",
            Advice::Fetch => "fetch",
            Advice::Use(_) => "use",
            Advice::UseAndRenew(_) => "renew",
        }
    }

    #[test]
    fn a_token_is_used_then_renewed_early_then_over() {
        let mut slot = Slot::new(key());
        assert_eq!(advice(&slot, START), "fetch");
        slot.succeeded(token("a", 300), &SeededEntropy::new(1));
        for (seconds, expected) in
            [(0, "use"), (209, "use"), (270, "renew"), (299, "renew"), (300, "fetch"), (999, "fetch")]
        {
            assert_eq!(advice(&slot, at(seconds)), expected, "{seconds}");
        }
    }

    #[test]
    fn a_clock_that_was_put_back_makes_no_token_younger() {
        let mut slot = Slot::new(key());
        slot.succeeded(token("a", 300), &SeededEntropy::new(1));
        assert_eq!(advice(&slot, START.minus(Duration::from_secs(3600))), "fetch");
        slot.failed(busy(None), at(7200), &SeededEntropy::new(1));
        assert_eq!(advice(&slot, at(3600)), "fetch", "nor does it prolong a pause");
    }

    #[test]
    fn a_longer_rest_of_life_can_be_asked_for() {
        let mut slot = Slot::new(key());
        slot.succeeded(token("a", 300), &SeededEntropy::new(1));
        let minute = Duration::from_secs(60);
        assert!(matches!(slot.advise(at(239), minute), Advice::UseAndRenew(_) | Advice::Use(_)));
        assert!(matches!(slot.advise(at(240), minute), Advice::Fetch));
    }

    #[test]
    fn a_token_outlives_a_failed_renewal_until_its_own_end() {
        let mut slot = Slot::new(key());
        slot.succeeded(token("a", 300), &SeededEntropy::new(1));
        slot.failed(busy(Some(20)), at(271), &SeededEntropy::new(1));
        for (seconds, expected) in [(272, "use"), (290, "use"), (291, "renew"), (299, "renew"), (300, "fetch")] {
            assert_eq!(advice(&slot, at(seconds)), expected, "{seconds}");
        }
    }

    #[test]
    fn rfc6749_5_2_failures_in_a_row_lengthen_the_pause() {
        for (error, first, longest) in [(busy(None), 500, 60_000), (refused(), 5000, 300_000)] {
            let mut slot = Slot::new(key());
            let mut pauses = Vec::new();
            for row in 0..20 {
                slot.failed(error.clone(), START, &SeededEntropy::new(row));
                pauses.push(slot.failure.as_ref().expect("a failure").until.since(START).as_millis());
            }
            assert!((first / 2..=first).contains(&pauses[0]), "{pauses:?}");
            assert!((longest / 2..=longest).contains(&pauses[19]), "{pauses:?}");
            slot.succeeded(token("a", 300), &SeededEntropy::new(1));
            slot.failed(error, START, &SeededEntropy::new(1));
            assert_eq!(slot.failure.as_ref().map(|failure| failure.in_a_row), Some(1), "a success ends the row");
        }
    }

    #[test]
    fn rfc9110_10_2_3_retry_after_is_honoured_up_to_an_hour() {
        for (asked, pause) in [(7, 7), (90, 90), (1_000_000, 3600)] {
            let mut slot = Slot::new(key());
            slot.failed(busy(Some(asked)), START, &SeededEntropy::new(1));
            assert_eq!(advice(&slot, at(pause).minus(Duration::from_millis(1))), "fail", "{asked}");
            assert_eq!(advice(&slot, at(pause)), "fetch", "{asked}");
        }
    }

    #[test]
    fn rfc8707_3_a_token_is_good_for_its_own_question_only() {
        let spoilt: [fn(&mut Key); 5] = [
            |key| key.certificate = Some(Thumbprint::of_der(b"another certificate")),
            |key| key.client_id = "ledger".to_owned(),
            |key| key.issuer = "https://as.example/".to_owned(),
            |key| key.resources = BTreeSet::from(["https://api.example".parse().expect("a resource")]),
            |key| key.scope = "payments:read".parse().expect("a scope"),
        ];
        for spoil in spoilt {
            let mut slot = Slot::new(key());
            slot.succeeded(token("a", 300), &SeededEntropy::new(1));
            slot.rekey(key());
            assert_eq!(advice(&slot, START), "use");
            let mut other = key();
            spoil(&mut other);
            slot.rekey(other.clone());
            assert_eq!(advice(&slot, START), "fetch", "{other:?}");
        }
    }

    #[test]
    fn a_new_credential_under_the_same_key_is_tried_at_once() {
        let mut slot = Slot::new(key());
        slot.failed(refused(), START, &SeededEntropy::new(1));
        assert_eq!(advice(&slot, START), "fail");
        slot.rekey(key());
        assert_eq!(advice(&slot, START), "fetch");
    }

    #[test]
    fn oauth21_1_4_a_rejected_token_is_fetched_anew_once() {
        let mut slot = Slot::new(key());
        slot.succeeded(token("a", 300), &SeededEntropy::new(1));
        assert!(slot.reject(&token("b", 300), START).is_ok(), "another token than the kept one");
        assert_eq!(advice(&slot, START), "use");
        assert!(slot.reject(&token("a", 300), at(1)).is_ok());
        assert_eq!(advice(&slot, at(1)), "fetch");
        slot.succeeded(token("c", 300), &SeededEntropy::new(1));
        assert!(matches!(slot.reject(&token("c", 300), at(2)), Err(Error::StillRejected)));
        assert_eq!(advice(&slot, at(2)), "use");
        assert!(slot.reject(&token("c", 300), at(31)).is_ok(), "later it is tried again");
    }

    proptest! {
        #[test]
        fn a_renewal_begins_in_its_window(seed: u64, life in 1_u64..10_000_000) {
            let mut slot = Slot::new(key());
            slot.succeeded(token("a", life), &SeededEntropy::new(seed));
            let renew_at = millis(slot.kept.as_ref().expect("a token").renew_at.since(START));
            prop_assert!((life * RENEW_FROM..=life * (RENEW_FROM + RENEW_SPREAD)).contains(&renew_at), "{}", renew_at);
        }
    }
}
