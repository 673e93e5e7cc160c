//! Reads what a token endpoint answers (RFC 6749 §5). No I/O.

use std::time::Duration;

use bytes::Bytes;
use certbind_proto::bearer::is_b64token;
use certbind_proto::error::ErrorCode;
use certbind_proto::json;
use certbind_proto::response::{ErrorResponse, TOKEN_TYPE, TokenResponse, is_description};
use certbind_proto::scope::Scope;
use certbind_proto::time::Timestamp;
use hyper::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::date;
use crate::error::{AnswerFault, Busy, Error, Refusal};

/// The longest text of a peer that is kept.
const MAX_TEXT: usize = 256;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What was granted.
pub(crate) struct Grant {
    pub(crate) access_token: String,
    /// The life that the server states; it may state none.
    pub(crate) expires_in: Option<Duration>,
    /// What was granted, when the server says it.
    pub(crate) scope: Option<Scope>,
}

/// What the server granted, or why not. `now` is when the answer came, for a `Retry-After` that names a date.
pub(crate) fn read(response: &Response<Bytes>, now: Timestamp) -> Result<Grant, Error> {
    let status = response.status();
    if status == StatusCode::OK {
        return granted(response.body()).map_err(Error::NotOAuth);
    }
    if status.is_redirection() {
        return Err(Error::NotOAuth(AnswerFault::Redirect(status.as_u16())));
    }
    let refusal = refused(response);
    let says_busy = refusal.as_ref().is_some_and(|refusal| is_about_the_server(&refusal.code));
    if says_busy || status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return Err(Error::Busy(busy(response, now)));
    }
    Err(refusal.map_or(Error::NotOAuth(AnswerFault::ErrorMissing(status.as_u16())), Error::Refused))
}

/// The server's time, from the `Date` field.
pub(crate) fn server_time(headers: &HeaderMap) -> Option<Timestamp> {
    date::parse(headers.get(DATE)?.to_str().ok()?)
}

/// RFC 6749 §5.1.
fn granted(body: &[u8]) -> Result<Grant, AnswerFault> {
    let response: TokenResponse = members(body)?.ok_or(AnswerFault::Members)?;
    if !response.token_type.eq_ignore_ascii_case(TOKEN_TYPE) {
        return Err(AnswerFault::TokenType);
    }
    if !is_b64token(&response.access_token) {
        return Err(AnswerFault::TokenCharacters);
    }
    if response.expires_in == Some(0) {
        return Err(AnswerFault::Life);
    }
    let scope = response.scope.map(|text| text.parse().map_err(|_| AnswerFault::Scope)).transpose()?;
    Ok(Grant { access_token: response.access_token, expires_in: response.expires_in.map(Duration::from_secs), scope })
}

/// RFC 6749 §5.2. An error code that cannot be printed is none.
fn refused(response: &Response<Bytes>) -> Option<Refusal> {
    let error: ErrorResponse = members(response.body()).ok()??;
    Some(Refusal {
        code: printable(&error.error)?,
        description: error.error_description.as_deref().and_then(printable),
        request_id: request_id(response.headers()),
        status: response.status().as_u16(),
    })
}

fn busy(response: &Response<Bytes>, now: Timestamp) -> Busy {
    Busy {
        request_id: request_id(response.headers()),
        retry_after: retry_after(response.headers(), now),
        status: response.status().as_u16(),
    }
}

fn is_about_the_server(code: &str) -> bool {
    [ErrorCode::ServerError, ErrorCode::TemporarilyUnavailable].iter().any(|known| known.as_str() == code)
}

fn members<T: DeserializeOwned>(body: &[u8]) -> Result<Option<T>, AnswerFault> {
    let object = json::parse_object(body)?;
    Ok(serde_json::from_value(Value::Object(object)).ok())
}

/// RFC 9110 §10.2.3: seconds or a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        // Held against the server's own clock where it says one, for ours may be wrong.
        Err(_) => Some(date::parse(text)?.since(server_time(headers).unwrap_or(now))),
    }
}

fn request_id(headers: &HeaderMap) -> Option<String> {
    printable(headers.get(REQUEST_ID)?.to_str().ok()?)
}

/// Text of a peer that may stand in a log and on a terminal: no control characters, no flood.
fn printable(text: &str) -> Option<String> {
    (!text.is_empty() && text.len() <= MAX_TEXT && is_description(text)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix(1_795_305_600);

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Result<Grant, Error> {
        let mut response = Response::new(Bytes::from(body.to_owned()));
        *response.status_mut() = StatusCode::from_u16(status).expect("a status");
        for (name, value) in headers {
            response.headers_mut().append(*name, value.parse().expect("a value"));
        }
        read(&response, NOW)
    }

    /// The fact alone: errors of the libraries below do not compare.
    fn fact(outcome: Result<Grant, Error>) -> String {
        match outcome {
            Ok(_) => "granted".to_owned(),
            Err(Error::NotOAuth(fault)) => format!("{fault:?}"),
            Err(Error::Refused(refusal)) => refusal.code,
            Err(other) => other.to_string(),
        }
    }

    #[test]
    fn rfc6749_5_1_a_token_is_taken_only_when_it_can_be_used() {
        for (body, expected) in [
            (r#"{"access_token":"t","token_type":"Bearer","expires_in":300}"#, "granted"),
            (r#"{"access_token":"t","token_type":"bEaReR"}"#, "granted"),
            (r#"{"access_token":"t","token_type":"bearer","more":[1]}"#, "granted"),
            (r#"{"access_token":"t","token_type":"mac"}"#, "TokenType"),
            (r#"{"access_token":"t","token_type":"DPoP"}"#, "TokenType"),
            (r#"{"access_token":"t"}"#, "Members"),
            (r#"{"token_type":"Bearer"}"#, "Members"),
            (r#"{"access_token":"t","token_type":"Bearer","expires_in":"300"}"#, "Members"),
            (r#"{"access_token":"t","token_type":"Bearer","expires_in":-1}"#, "Members"),
            (r#"{"access_token":"t","token_type":"Bearer","expires_in":0}"#, "Life"),
            (r#"{"access_token":"","token_type":"Bearer"}"#, "TokenCharacters"),
            (r#"{"access_token":"a b","token_type":"Bearer"}"#, "TokenCharacters"),
            (r#"{"access_token":"a\r\nX: y","token_type":"Bearer"}"#, "TokenCharacters"),
            (r#"{"access_token":"t","token_type":"Bearer","scope":"a  b"}"#, "Scope"),
            (r#"{"access_token":"t","access_token":"u","token_type":"Bearer"}"#, "Json(DuplicateMember)"),
            ("[]", "Json(NotAnObject)"),
            ("<html>", "Json(Syntax)"),
            ("", "Json(Syntax)"),
        ] {
            assert_eq!(fact(answer(200, &[], body)), expected, "{body}");
        }
    }

    #[test]
    fn rfc6749_5_2_a_refusal_keeps_its_code_and_its_request_id() {
        let body = r#"{"error":"invalid_client","error_description":"Client authentication failed."}"#;
        for status in [400, 401] {
            let Err(Error::Refused(refusal)) = answer(status, &[("x-request-id", "7f3a")], body) else {
                panic!("not a refusal")
            };
            let expected = Refusal {
                code: "invalid_client".to_owned(),
                description: Some("Client authentication failed.".to_owned()),
                request_id: Some("7f3a".to_owned()),
                status,
            };
            assert_eq!(refusal, expected);
            assert_eq!(refusal.to_string(), "invalid_client: Client authentication failed.");
        }
    }

    #[test]
    fn rfc6749_5_2_what_is_not_oauth_is_told_from_a_refusal() {
        for (status, body, expected) in [
            (400, r#"{"error":"invalid_scope"}"#, "invalid_scope"),
            (400, r#"{"error":"from_the_future"}"#, "from_the_future"),
            (400, r#"{"error":""}"#, "ErrorMissing(400)"),
            (400, "{\"error\":\"a\\u001b[31m\"}", "ErrorMissing(400)"),
            (400, r#"{"error":1}"#, "ErrorMissing(400)"),
            (404, "<html>not here</html>", "ErrorMissing(404)"),
            (204, "", "ErrorMissing(204)"),
            (307, "", "Redirect(307)"),
            (302, r#"{"access_token":"t","token_type":"Bearer"}"#, "Redirect(302)"),
            (500, "<html>", "the authorization server cannot answer now (status 500)"),
            (503, r#"{"error":"temporarily_unavailable"}"#, "the authorization server cannot answer now (status 503)"),
            (400, r#"{"error":"server_error"}"#, "the authorization server cannot answer now (status 400)"),
            (429, r#"{"error":"invalid_request"}"#, "the authorization server cannot answer now (status 429)"),
        ] {
            assert_eq!(fact(answer(status, &[], body)), expected, "{status} {body}");
        }
    }

    #[test]
    fn rfc6749_5_2_texts_outside_the_character_set_are_dropped() {
        let flood = "x".repeat(MAX_TEXT + 1);
        for text in ["é", "a\\\"b", "\\u001b[2J", flood.as_str()] {
            let body = format!(r#"{{"error":"invalid_client","error_description":"{text}"}}"#);
            let Err(Error::Refused(refusal)) = answer(400, &[("x-request-id", &flood)], &body) else {
                panic!("not a refusal")
            };
            assert_eq!((refusal.description, refusal.request_id), (None, None), "{text}");
        }
    }

    #[test]
    fn rfc9110_10_2_3_retry_after_is_seconds_or_a_date() {
        let minute = Some(Duration::from_secs(60));
        for (headers, expected) in [
            (vec![("retry-after", "60")], minute),
            (vec![("retry-after", "Sun, 22 Nov 2026 00:01:00 GMT")], minute),
            (vec![("retry-after", "Sun, 22 Nov 2026 00:06:00 GMT"), ("date", "Sun, 22 Nov 2026 00:05:00 GMT")], minute),
            (vec![("retry-after", "Sun, 22 Nov 2020 00:00:00 GMT")], Some(Duration::ZERO)),
            (vec![("retry-after", "soon")], None),
            (vec![("retry-after", "-1")], None),
            (vec![], None),
        ] {
            let Err(error) = answer(503, &headers, "") else { panic!("granted") };
            assert_eq!((error.retry_after(), error.should_retry()), (expected, true), "{headers:?}");
        }
    }
}
