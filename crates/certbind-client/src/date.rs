//! Dates in HTTP header fields (RFC 9110 §5.6.7), read to learn how wrong a clock is and when to come back.

use certbind_proto::time::Timestamp;

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Reads an IMF-fixdate, `Sun, 06 Nov 1994 08:49:37 GMT`: the one form that is still sent. `None` for any other text.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    let (_weekday, rest) = text.split_once(", ")?;
    let [day, month, year, time, "GMT"] = rest.split(' ').collect::<Vec<_>>()[..] else { return None };
    let [hour, minute, second] = time.split(':').collect::<Vec<_>>()[..] else { return None };
    let month = MONTHS.iter().position(|name| *name == month)?;
    let (day, year) = (number(day, 1..=31)?, number(year, 1970..=9999)?);
    let (hour, minute, second) = (number(hour, 0..=23)?, number(minute, 0..=59)?, number(second, 0..=60)?);
    let days = days_from_civil(year, i64::try_from(month).ok()? + 1, day);
    Some(Timestamp::from_unix(days * 86_400 + hour * 3600 + minute * 60 + second))
}

fn number(digits: &str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
    let all_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|value| all_digits && range.contains(value))
}

/// Days since 1970-01-01 of a proleptic Gregorian date, counted in eras of 400 years that begin in March.
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9110_5_6_7_a_fixdate_is_read_and_nothing_else() {
        for (text, unix) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Thu, 29 Feb 2024 12:00:00 GMT", Some(1_709_208_000)),
            ("Sun, 22 Nov 2026 09:30:00 GMT", Some(1_795_339_800)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None),
            ("Sun Nov  6 08:49:37 1994", None),
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
            ("Sun, 32 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 24:00:00 GMT", None),
            ("Sun, 06 Nov 99999 08:49:37 GMT", None),
            ("Sun, +6 Nov 1994 08:49:37 GMT", None),
            ("300", None),
            ("", None),
        ] {
            assert_eq!(parse(text).map(Timestamp::unix), unix, "{text:?}");
        }
    }

    #[test]
    fn rfc9110_5_6_7_each_day_is_the_one_after_the_day_before() {
        for day in (0..80_000).step_by(7) {
            let date = Timestamp::from_unix(day * 86_400).to_string();
            let field = |range: std::ops::Range<usize>| date[range].parse().expect("a number");
            assert_eq!(days_from_civil(field(0..4), field(5..7), field(8..10)), day, "{date}");
        }
    }
}
