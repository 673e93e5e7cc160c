//! A body to one JSON object, within a size and a deadline.

use certbind_proto::json;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::Request;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap};
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::problem::Problem;
use crate::http::BodyLimits;

/// The media type of a registration.
pub(super) const JSON: &str = "application/json";

/// The media type of a change (RFC 7396).
pub(super) const MERGE_PATCH: &str = "application/merge-patch+json";

/// Reads the object of a request whose body has this media type.
pub(super) async fn object(
    request: Request<Incoming>,
    media_type: &'static str,
    limits: BodyLimits,
) -> Result<Map<String, Value>, Problem> {
    if !is(media_type, request.headers()) {
        return Err(Problem::MediaType(media_type));
    }
    if request.body().size_hint().lower() > u64::try_from(limits.max_bytes).unwrap_or(u64::MAX) {
        return Err(Problem::BodyTooLarge);
    }
    let body = Limited::new(request.into_body(), limits.max_bytes);
    let collected = timeout(limits.deadline, body.collect()).await.map_err(|_| Problem::BodyUnreadable)?;
    let bytes = collected.map_err(|error| match error.is::<LengthLimitError>() {
        true => Problem::BodyTooLarge,
        false => Problem::BodyUnreadable,
    })?;
    json::parse_object(&bytes.to_bytes()).map_err(|_| Problem::BodyMalformed)
}

/// One content type, and this one; a `charset` may only be UTF-8 (RFC 8259 §8.1).
fn is(media_type: &str, headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let mut parts = value.to_str().unwrap_or_default().split(';').map(str::trim);
    parts.next().is_some_and(|named| named.eq_ignore_ascii_case(media_type))
        && parts.all(|part| part.replace('"', "").eq_ignore_ascii_case("charset=utf-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9110_8_3_a_body_says_what_it_is() {
        for (values, expected) in [
            (&["application/json"][..], true),
            (&["Application/JSON; charset=\"UTF-8\""], true),
            (&["application/json; charset=latin1"], false),
            (&["text/json"], false),
            (&["application/json", "application/json"], false),
            (&[], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_TYPE, value.parse().unwrap());
            }
            assert_eq!(is(JSON, &headers), expected, "{values:?}");
        }
    }
}
