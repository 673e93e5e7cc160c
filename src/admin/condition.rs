//! Entity tags and what a change says about the state it changes (RFC 9110 §8.8.3, §13.1; RFC 6585 §3).

use hyper::header::{HeaderMap, HeaderName, IF_MATCH, IF_NONE_MATCH};

use super::problem::Problem;
use crate::store::{Expected, Revision};

/// The entity tag of a client as this change left it.
pub(super) fn tag(revision: Revision) -> String {
    format!("\"{revision}\"")
}

/// What must be there for a change to happen.
///
/// # Errors
/// No condition, one that is malformed, or `If-None-Match`: there is nothing to change where nothing is.
pub(super) fn of_change(headers: &HeaderMap) -> Result<Expected, Problem> {
    if headers.contains_key(IF_NONE_MATCH) {
        return Err(Problem::ConditionMalformed);
    }
    match one(headers, &IF_MATCH)? {
        None => Err(Problem::PreconditionMissing),
        Some("*") => Ok(Expected::Present),
        Some(tag) => Ok(Expected::Revision(revision(tag)?)),
    }
}

/// The same for a `PUT`, which may also make what is not there: `If-None-Match: *`.
///
/// # Errors
/// As [`of_change`]; both headers at once.
pub(super) fn of_put(headers: &HeaderMap) -> Result<Expected, Problem> {
    match one(headers, &IF_NONE_MATCH)? {
        None => of_change(headers),
        Some("*") if !headers.contains_key(IF_MATCH) => Ok(Expected::Absent),
        Some(_) => Err(Problem::ConditionMalformed),
    }
}

/// Whether whoever asks has this state already; weak comparison (RFC 9110 §13.1.2).
pub(super) fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let values = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(|named| named.trim().trim_start_matches("W/"));
    tags.any(|named| named == "*" || named == tag)
}

fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(|text| Some(text.trim())).map_err(|_| Problem::ConditionMalformed),
        (Some(_), Some(_)) => Err(Problem::ConditionMalformed),
    }
}

/// A tag that was never given out names a state that is not there, so it is well-formed and fails later.
fn revision(tag: &str) -> Result<Revision, Problem> {
    let inner = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
    let inner = inner.filter(|inner| !inner.contains('"')).ok_or(Problem::ConditionMalformed)?;
    let is_ours = !inner.starts_with(['0', '+', '-']);
    Ok(inner.parse().ok().filter(|_| is_ours).unwrap_or(-1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&HeaderName, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| ((*name).clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn rfc9110_13_1_1_a_change_says_what_it_changes() {
        for (value, expected) in [
            ("\"7\"", Ok(Expected::Revision(7))),
            (" \"7\" ", Ok(Expected::Revision(7))),
            ("*", Ok(Expected::Present)),
            ("\"file\"", Ok(Expected::Revision(-1))),
            ("\"07\"", Ok(Expected::Revision(-1))),
            ("\"\"", Ok(Expected::Revision(-1))),
            ("7", Err(Problem::ConditionMalformed)),
            ("W/\"7\"", Err(Problem::ConditionMalformed)),
            ("\"7\", \"8\"", Err(Problem::ConditionMalformed)),
            ("", Err(Problem::ConditionMalformed)),
        ] {
            assert_eq!(of_change(&headers(&[(&IF_MATCH, value)])), expected, "{value}");
        }
        assert_eq!(of_change(&HeaderMap::new()), Err(Problem::PreconditionMissing));
        for fields in [&[(&IF_NONE_MATCH, "*")][..], &[(&IF_MATCH, "*"), (&IF_NONE_MATCH, "\"7\"")]] {
            assert_eq!(of_change(&headers(fields)), Err(Problem::ConditionMalformed), "{fields:?}");
        }
    }

    #[test]
    fn rfc9110_13_1_2_a_put_may_say_that_there_is_nothing() {
        assert_eq!(of_put(&headers(&[(&IF_NONE_MATCH, "*")])), Ok(Expected::Absent));
        assert_eq!(of_put(&headers(&[(&IF_MATCH, "*")])), Ok(Expected::Present));
        assert_eq!(of_put(&headers(&[(&IF_NONE_MATCH, "\"7\"")])), Err(Problem::ConditionMalformed));
        let both = headers(&[(&IF_NONE_MATCH, "*"), (&IF_MATCH, "*")]);
        assert_eq!(of_put(&both), Err(Problem::ConditionMalformed));
        assert_eq!(of_put(&HeaderMap::new()), Err(Problem::PreconditionMissing));
    }

    #[test]
    fn rfc9110_13_1_2_who_has_it_is_told_so() {
        for (value, expected) in
            [("\"7\"", true), ("W/\"7\"", true), ("\"6\", \"7\"", true), ("*", true), ("\"6\"", false)]
        {
            assert_eq!(is_known(&headers(&[(&IF_NONE_MATCH, value)]), &tag(7)), expected, "{value}");
        }
    }
}
