//! Reading the claims that both kinds of JWT have, with strict types (RFC 7519 §2, §4.1).

use std::time::Duration;

use serde_json::{Map, Value};

use crate::time::Timestamp;

/// The last second of the year 9999. A later `NumericDate` is a mistake or an attack.
const LAST_SECOND: i64 = 253_402_300_799;

/// How far `iat` and `nbf` may lie ahead, whatever the settings say: 10 seconds must pass, more than 60 must not
/// (FAPI 2.0 Security Profile §5.3.2.1).
const AHEAD: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));

/// The most that is granted after `exp`, whatever the settings say.
pub(crate) const MOST_TOLERATED: Duration = AHEAD.1;

/// A claim that should be a `NumericDate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Date {
    /// There is no such claim.
    Absent,
    /// There is one, and it is not a number from 0 to the end of the year 9999 (RFC 7519 §2).
    Malformed,
    /// When.
    At(Timestamp),
}

/// The claim `name` as a `NumericDate`: a number of seconds, whole or not. A text is not a number (CVE-2026-25537).
pub(crate) fn date(claims: &Map<String, Value>, name: &str) -> Date {
    let Some(value) = claims.get(name) else { return Date::Absent };
    if let Some(seconds) = value.as_i64() {
        return if (0..=LAST_SECOND).contains(&seconds) {
            Date::At(Timestamp::from_unix(seconds))
        } else {
            Date::Malformed
        };
    }
    match value.as_f64() {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "in range, to the millisecond"
        )]
        Some(seconds) if (0.0..=LAST_SECOND as f64).contains(&seconds) => {
            Date::At(Timestamp::from_millis((seconds * 1000.0) as i64))
        }
        _ => Date::Malformed,
    }
}

/// The claim `name`, if it is a text that is not empty.
pub(crate) fn text<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c str> {
    claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// Whether a token with this `exp` is still good: now must be before it, give or take the skew (RFC 7519 §4.1.4).
pub(crate) fn is_before_expiry(now: Timestamp, expires: Timestamp, clock_skew: Duration) -> bool {
    now < expires.plus(tolerated(clock_skew))
}

/// Whether an `iat` or `nbf` lies no further ahead than clocks may differ (FAPI 2.0 Security Profile §5.3.2.1).
pub(crate) fn is_not_ahead(now: Timestamp, date: Timestamp, clock_skew: Duration) -> bool {
    date <= now.plus(clock_skew.clamp(AHEAD.0, AHEAD.1))
}

/// The skew that is granted after `exp`: what was set, a minute at the most.
pub(crate) fn tolerated(clock_skew: Duration) -> Duration {
    clock_skew.min(MOST_TOLERATED)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rfc7519_2_a_numeric_date_is_a_number_whole_or_not() {
        for (value, expected) in [
            (json!(0), Date::At(Timestamp::from_unix(0))),
            (json!(1_900_000_000), Date::At(Timestamp::from_unix(1_900_000_000))),
            (json!(1.9e9), Date::At(Timestamp::from_unix(1_900_000_000))),
            (json!(1_900_000_000.5), Date::At(Timestamp::from_millis(1_900_000_000_500))),
            (json!(LAST_SECOND), Date::At(Timestamp::from_unix(LAST_SECOND))),
            (json!(LAST_SECOND + 1), Date::Malformed),
            (json!(-1), Date::Malformed),
            (json!(-0.5), Date::Malformed),
            (json!(u64::MAX), Date::Malformed),
            (json!(1e300), Date::Malformed),
            (json!("1900000000"), Date::Malformed),
            (json!(null), Date::Malformed),
            (json!(true), Date::Malformed),
            (json!([1_900_000_000]), Date::Malformed),
            (json!({}), Date::Malformed),
        ] {
            let claims = json!({ "exp": value });
            assert_eq!(date(claims.as_object().unwrap(), "exp"), expected, "{value}");
        }
        assert_eq!(date(&Map::new(), "exp"), Date::Absent);
    }

    #[test]
    fn fapi_5_3_2_1_ten_seconds_ahead_pass_and_more_than_sixty_do_not_whatever_is_set() {
        let now = Timestamp::from_unix(1_000);
        let ahead =
            |seconds: i64, skew| is_not_ahead(now, Timestamp::from_unix(1_000 + seconds), Duration::from_secs(skew));
        for skew in [0, 5, 30, 60, 3600] {
            assert!(ahead(0, skew) && ahead(8, skew) && ahead(10, skew), "{skew}");
            assert!(!ahead(61, skew), "{skew}");
        }
        assert!(ahead(30, 30) && !ahead(31, 30));
    }

    #[test]
    fn rfc7519_4_1_4_at_its_expiry_a_token_is_over() {
        let expires = Timestamp::from_unix(1_000);
        let good = |now, skew| is_before_expiry(Timestamp::from_millis(now), expires, Duration::from_secs(skew));
        assert!(good(999_999, 0) && !good(1_000_000, 0));
        assert!(good(1_029_999, 30) && !good(1_030_000, 30));
        assert!(!good(1_060_000, 3600), "no more than a minute, whatever is set");
    }
}
