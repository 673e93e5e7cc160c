//! What may have been used on a database that is no more: its latest commits may be missing in the one that took its place.

use std::time::Duration;

use certbind_proto::time::Timestamp;

use super::Use;

/// How far the clocks of clients may run ahead, at most: an `iat` of up to so much later may be from before the fence.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// The longest time from the acceptance of an assertion to its end, whatever `assertions.max_lifetime` was then.
const LONGEST_LIFE: Duration = Duration::from_secs(3600 + 2 * 60);

/// Whether the assertion may have been used on what was lost. One without `iat` may, for as long as any could live.
pub(super) fn is_before(fence: Timestamp, used: &Use) -> bool {
    let may_have_been_accepted = used.issued.is_none_or(|issued| issued <= fence.plus(CLOCK_SKEW));
    may_have_been_accepted && used.keep_until <= fence.plus(LONGEST_LIFE)
}

#[cfg(test)]
mod tests {
    use super::super::ReplayKey;
    use super::*;

    #[test]
    fn fault_3_what_may_have_been_used_on_what_was_lost_is_refused_and_nothing_else() {
        let fence = Timestamp::from_unix(1_795_375_800);
        let second = Duration::from_secs(1);
        let (before, soon) = (fence.minus(second), fence.plus(90 * second));
        for (issued, keep_until, refused) in [
            (Some(before), soon, true),
            (None, soon, true),
            (Some(fence.plus(60 * second)), soon, true),
            (Some(fence.plus(61 * second)), soon, false),
            (Some(before), fence.plus(3720 * second), true),
            (None, fence.plus(3720 * second), true),
            (Some(before), fence.plus(3721 * second), false),
            (None, fence.plus(3721 * second), false),
        ] {
            let used = Use { key: ReplayKey::of("batch", "a"), issued, keep_until };
            assert_eq!(is_before(fence, &used), refused, "issued {issued:?}, kept until {keep_until}");
        }
        let nothing_lost = Timestamp::from_millis(i64::MIN);
        let used = Use { key: ReplayKey::of("batch", "a"), issued: None, keep_until: soon };
        assert!(!is_before(nothing_lost, &used));
    }
}
