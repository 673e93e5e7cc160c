//! Urlencoded body to [`Form`] (RFC 6749 §3.2, Appendix B), within a size and a deadline.

use certbind_proto::request::Form;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::Request;
use hyper::body::{Body, Incoming};
use hyper::header::CONTENT_TYPE;
use tokio::time::timeout;

use super::BodyLimits;
use crate::flow::RequestFault;

/// Reads the form of a request.
///
/// # Errors
/// The [`RequestFault`] that keeps it from being read. A body that says it is too large is refused before it is read.
pub(super) async fn read(request: Request<Incoming>, limits: BodyLimits) -> Result<Form, RequestFault> {
    if request.uri().query().is_some() {
        return Err(RequestFault::Query);
    }
    if !is_form(request.headers().get_all(CONTENT_TYPE).iter().map(|value| value.as_bytes())) {
        return Err(RequestFault::ContentType);
    }
    let claimed = request.body().size_hint().lower();
    if claimed > u64::try_from(limits.max_bytes).unwrap_or(u64::MAX) {
        return Err(RequestFault::BodyTooLarge);
    }
    let body = Limited::new(request.into_body(), limits.max_bytes);
    let collected = timeout(limits.deadline, body.collect()).await.map_err(|_| RequestFault::BodyTooSlow)?;
    let bytes = collected.map_err(|error| match error.is::<LengthLimitError>() {
        true => RequestFault::BodyTooLarge,
        false => RequestFault::BodyUnreadable,
    })?;
    Form::parse(&bytes.to_bytes()).map_err(RequestFault::Form)
}

/// One content type, whose media type is the form's; a `charset` may only be UTF-8 (RFC 6749 Appendix B).
fn is_form<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> bool {
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let Ok(value) = std::str::from_utf8(value) else { return false };
    let mut parts = value.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default();
    media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") && parts.all(is_utf8_charset)
}

fn is_utf8_charset(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else { return parameter.is_empty() };
    !name.trim().eq_ignore_ascii_case("charset") || value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6749_appendix_b_the_media_type_is_the_forms_whatever_its_case() {
        for (values, expected) in [
            (&["application/x-www-form-urlencoded"][..], true),
            (&["application/x-www-form-urlencoded; charset=UTF-8"], true),
            (&["Application/X-WWW-Form-Urlencoded;charset=\"utf-8\""], true),
            (&["application/x-www-form-urlencoded; charset=iso-8859-1"], false),
            (&["application/json"], false),
            (&["application/x-www-form-urlencodedx"], false),
            (&["application/x-www-form-urlencoded", "application/json"], false),
            (&[], false),
        ] {
            assert_eq!(is_form(values.iter().map(|value| value.as_bytes())), expected, "{values:?}");
        }
    }
}
