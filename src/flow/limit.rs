//! Limits on how often somebody may fail or ask (RFC 6749 §2.3.1, §10.10). Only the one who goes over is slowed down.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::DefaultClock;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

/// So many addresses or clients are counted before those that have been quiet are looked for, and forgotten.
const MAX_KEYS: usize = 100_000;
/// How many calls come between two such searches, as each looks at every key.
const SWEEP_EVERY: u32 = 1024;

/// How many revocations of one client are taken in a minute: each is kept and published until its token is over.
const REVOCATIONS: Rate = Rate { count: NonZeroU32::MIN.saturating_add(999), per: Duration::from_secs(60) };

/// Counts by a key.
struct Keyed<K: Hash + Eq + Clone> {
    limiter: RateLimiter<K, DashMapStateStore<K>, DefaultClock>,
    calls: AtomicU32,
}

/// So many in a time, with as many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: NonZeroU32,
    /// In which time.
    pub per: Duration,
}

/// The limits in force.
pub struct Limits {
    failures: Option<Keyed<IpAddr>>,
    requests: Option<Keyed<String>>,
    revocations: Keyed<String>,
}

impl Limits {
    /// Limits on failures of one address and on requests of one client; `None` is no limit.
    #[must_use]
    pub fn new(failures_per_address: Option<Rate>, requests_per_client: Option<Rate>) -> Self {
        Self {
            failures: failures_per_address.map(Keyed::new),
            requests: requests_per_client.map(Keyed::new),
            revocations: Keyed::new(REVOCATIONS),
        }
    }

    /// Counts a failed authentication; `false` when the address has failed too often. A success is never refused for
    /// its neighbours' failures.
    pub(super) fn may_fail(&self, address: IpAddr) -> bool {
        self.failures.as_ref().is_none_or(|failures| failures.passes(&network_of(address)))
    }

    /// Counts a request of an authenticated client; `false` when it has asked too often.
    pub(super) fn may_ask(&self, client_id: &str) -> bool {
        self.requests.as_ref().is_none_or(|requests| requests.passes(&client_id.to_owned()))
    }

    /// Counts a revocation by an authenticated client; `false` when it revokes too often.
    pub(super) fn may_revoke(&self, client_id: &str) -> bool {
        self.revocations.passes(&client_id.to_owned())
    }
}

/// No limit on failures and requests.
impl Default for Limits {
    fn default() -> Self {
        Self::new(None, None)
    }
}

impl<K: Hash + Eq + Clone> Keyed<K> {
    fn new(rate: Rate) -> Self {
        let quota = Quota::with_period(rate.per / rate.count.get()).unwrap_or(Quota::per_second(rate.count));
        Self { limiter: RateLimiter::dashmap(quota.allow_burst(rate.count)), calls: AtomicU32::new(0) }
    }

    fn passes(&self, key: &K) -> bool {
        let calls = self.calls.fetch_add(1, Ordering::Relaxed);
        if calls.is_multiple_of(SWEEP_EVERY) && self.limiter.len() > MAX_KEYS {
            self.limiter.retain_recent();
        }
        self.limiter.check_key(key).is_ok()
    }
}

/// One network of IPv6 is one sender: whoever has an address has 2^64 of them.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(count: u32) -> Option<Rate> {
        NonZeroU32::new(count).map(|count| Rate { count, per: Duration::from_secs(3600) })
    }

    #[test]
    fn rfc6749_10_10_failures_of_one_address_leave_others_alone() {
        let limits = Limits::new(rate(2), None);
        let guesser: IpAddr = "2001:db8::1".parse().unwrap();
        let same_network: IpAddr = "2001:db8::2".parse().unwrap();
        let neighbour: IpAddr = "2001:db8:0:1::1".parse().unwrap();
        assert!(limits.may_fail(guesser) && limits.may_fail(same_network));
        assert!(!limits.may_fail(guesser));
        assert!(limits.may_fail(neighbour));
    }

    #[test]
    fn a_client_that_asks_too_often_leaves_others_alone() {
        let limits = Limits::new(None, rate(1));
        assert!(limits.may_ask("billing"));
        assert!(!limits.may_ask("billing"));
        assert!(limits.may_ask("ledger"));
        assert!(Limits::default().may_ask("billing"));
    }

    #[test]
    fn attack_22_a_client_that_revokes_without_end_leaves_room_for_others() {
        let limits = Limits::default();
        assert!((0..1000).all(|_| limits.may_revoke("billing")));
        assert!(!limits.may_revoke("billing"));
        assert!(limits.may_revoke("ledger"));
    }
}
