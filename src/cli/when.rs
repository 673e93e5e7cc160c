//! Times of an answer, and how far away they are, in the words that people use.

use std::time::Duration;

/// Reads a time of RFC 3339.
pub(super) use crate::store::audit::moment as read;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A span in its largest unit, rounded down: `29d`, `5h`, `12m`, `30s`.
pub(super) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (unit, name) = match seconds {
        DAY.. => (DAY, "d"),
        HOUR.. => (HOUR, "h"),
        MINUTE.. => (MINUTE, "m"),
        _ => (1, "s"),
    };
    format!("{}{name}", seconds / unit)
}

#[cfg(test)]
mod tests {
    use certbind_proto::time::Timestamp;

    use super::*;

    #[test]
    fn a_time_is_read_as_it_is_printed_and_a_span_in_its_largest_unit() {
        let time = Timestamp::from_millis(1_795_375_800_123);
        assert_eq!(read(&time.to_string()), Some(time));
        assert_eq!(read("yesterday"), None);
        for (seconds, text) in [(0, "0s"), (59, "59s"), (60, "1m"), (7199, "1h"), (86_399, "23h"), (30 * DAY, "30d")] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }
}
