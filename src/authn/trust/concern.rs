//! What is odd about the revocation lists of a group that are in force all the same (RFC 5280 §5, §6.3).

use certbind_proto::crl::Crl;
use certbind_proto::dn::Dn;
use certbind_proto::time::Timestamp;

use super::{CrlStale, LoadedCrl};

/// Something that an operator should look at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Concern {
    /// It took the place of a newer one.
    #[error(
        "the revocation list of {issuer} from {made} took the place of a newer one: who is on that one alone is let in again"
    )]
    ListOlder {
        /// Whose list.
        issuer: String,
        /// When it was made.
        made: Timestamp,
    },
    /// There should be a newer one.
    #[error("the revocation list of {issuer} is past its nextUpdate, {since}: {}", consequence(*meaning))]
    ListStale {
        /// Whose list.
        issuer: String,
        /// Since when.
        since: Timestamp,
        /// What that means for clients.
        meaning: CrlStale,
    },
}

const fn consequence(meaning: CrlStale) -> &'static str {
    match meaning {
        CrlStale::Refuse => "whoever it concerns is refused (crl_stale)",
        CrlStale::Warn => "clients get in all the same",
    }
}

/// The lists that are stale by now.
pub(super) fn stale(lists: &[LoadedCrl], now: Timestamp, meaning: CrlStale) -> impl Iterator<Item = Concern> {
    let stale = lists.iter().map(|list| &list.facts).filter(move |list| list.next_update() <= now);
    stale.map(move |list| Concern::ListStale { issuer: issuer(list), since: list.next_update(), meaning })
}

/// The lists that are older than what was in force before for the same certificates.
pub(super) fn older(lists: &[LoadedCrl], before: &[LoadedCrl]) -> Vec<Concern> {
    let is_older =
        |list: &&LoadedCrl| before.iter().any(|old| old.is_for_the_same(list) && list.facts.is_older_than(&old.facts));
    let older = lists.iter().filter(is_older).map(|list| &list.facts);
    older.map(|list| Concern::ListOlder { issuer: issuer(list), made: list.this_update() }).collect()
}

fn issuer(list: &Crl) -> String {
    Dn::from_der(list.issuer_der()).map(|name| name.to_string()).unwrap_or_default()
}
