//! What the admin API answers with: JSON that nobody keeps, or a problem (RFC 9457 §3).

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LINK, LOCATION, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};
use serde_json::Value;

use super::problem::Problem;
use super::resource::Found;
use crate::net::Reply;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// How long to wait before asking again, in seconds.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// The answer to a request.
pub(super) fn finish(outcome: Result<Reply, Problem>, request_id: &str) -> Reply {
    let mut reply = outcome.unwrap_or_else(|problem| refused(&problem, request_id));
    let headers = reply.headers_mut();
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, value);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}

fn refused(problem: &Problem, request_id: &str) -> Reply {
    let mut reply = json(problem.status(), "application/problem+json", &problem.to_json(request_id));
    let headers = reply.headers_mut();
    match problem {
        Problem::MethodNotAllowed(methods) => insert(headers, ALLOW, &allow(methods)),
        Problem::MediaType(media_type) if *media_type == super::body::MERGE_PATCH => {
            insert(headers, ACCEPT_PATCH, media_type);
        }
        Problem::MediaType(media_type) => insert(headers, ACCEPT, media_type),
        Problem::AuditUnavailable
        | Problem::ClientContended
        | Problem::SignerUnavailable
        | Problem::StoreUnavailable => {
            headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        _ => {}
    }
    reply
}

fn allow(methods: &[&str]) -> String {
    let head = methods.contains(&"GET").then_some("HEAD");
    methods.iter().copied().chain(head).collect::<Vec<_>>().join(", ")
}

/// A client.
pub(super) fn client(found: &Found) -> Reply {
    let mut reply = document(&found.to_json());
    insert(reply.headers_mut(), ETAG, &found.tag());
    reply
}

/// A client that was made, and where it is (RFC 9110 §15.3.2).
pub(super) fn created(found: &Found) -> Reply {
    let mut reply = client(found);
    *reply.status_mut() = StatusCode::CREATED;
    insert(reply.headers_mut(), LOCATION, &format!("/admin/v1/clients/{}", encode(found.client_id())));
    reply
}

/// Nothing new since this state.
pub(super) fn not_modified(tag: &str) -> Reply {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = StatusCode::NOT_MODIFIED;
    insert(reply.headers_mut(), ETAG, tag);
    reply
}

/// It is gone.
pub(super) fn no_content() -> Reply {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = StatusCode::NO_CONTENT;
    reply
}

/// A page, and where the next one is (RFC 8288 §3).
pub(super) fn page(members: &Value, next: Option<&str>) -> Reply {
    let mut reply = document(members);
    if let Some(next) = next {
        insert(reply.headers_mut(), LINK, &format!("<{next}>; rel=\"next\""));
    }
    reply
}

/// A document.
pub(super) fn document(members: &Value) -> Reply {
    json(StatusCode::OK, "application/json", members)
}

fn json(status: StatusCode, content_type: &'static str, members: &Value) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(members.to_string())));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

fn insert(headers: &mut hyper::HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Percent-encodes all but what is never more than itself (RFC 3986 §2.3).
pub(super) fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}
