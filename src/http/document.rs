//! A document, JSON as a rule: rendered once, cached by clients, compared by `ETag` (RFC 9110 §13.1.2).

use arc_swap::ArcSwap;
use bytes::Bytes;
use certbind_proto::thumbprint::Thumbprint;
use http_body_util::Full;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH,
};
use hyper::{Response, StatusCode};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

use super::Reply;

/// How long a client may keep a document, unless said otherwise.
pub const MAX_AGE: Duration = Duration::from_secs(300);

/// A document that can be exchanged as a whole.
pub struct Document {
    content_type: HeaderValue,
    cache_control: HeaderValue,
    rendered: ArcSwap<Rendered>,
}

struct Rendered {
    body: Bytes,
    etag: HeaderValue,
}

impl Document {
    /// A document of this media type.
    #[must_use]
    pub fn new(content_type: &'static str, content: &Value) -> Self {
        Self::kept_for(MAX_AGE, content_type, content)
    }

    /// The same, which a client may keep for so long.
    #[must_use]
    pub fn kept_for(max_age: Duration, content_type: &'static str, content: &Value) -> Self {
        Self::of_bytes(max_age, content_type, content.to_string())
    }

    /// The same, of whatever form.
    #[must_use]
    pub fn of_bytes(max_age: Duration, content_type: &'static str, content: impl Into<Bytes>) -> Self {
        let cache_control = format!("public, max-age={}", max_age.as_secs());
        Self {
            content_type: HeaderValue::from_static(content_type),
            cache_control: HeaderValue::from_str(&cache_control).unwrap_or(HeaderValue::from_static("no-cache")),
            rendered: ArcSwap::from_pointee(render(content.into())),
        }
    }

    /// Exchanges the content; requests from here on get the new one.
    pub fn replace(&self, content: &Value) {
        self.replace_bytes(content.to_string());
    }

    /// The same, of whatever form.
    pub fn replace_bytes(&self, content: impl Into<Bytes>) {
        self.rendered.store(Arc::new(render(content.into())));
    }

    /// The document, or 304 when the client has it.
    pub(super) fn reply(&self, headers: &HeaderMap) -> Reply {
        let rendered = self.rendered.load();
        let known = headers.get(IF_NONE_MATCH).is_some_and(|tags| names(tags, &rendered.etag));
        let (status, body) = match known {
            true => (StatusCode::NOT_MODIFIED, Bytes::new()),
            false => (StatusCode::OK, rendered.body.clone()),
        };
        let mut reply = Response::new(Full::new(body));
        *reply.status_mut() = status;
        let headers = reply.headers_mut();
        headers.insert(CONTENT_TYPE, self.content_type.clone());
        headers.insert(CACHE_CONTROL, self.cache_control.clone());
        headers.insert(ETAG, rendered.etag.clone());
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        reply
    }
}

/// Whether one of the listed tags is this one; weak comparison, as it serves `GET` (RFC 9110 §8.8.3.2).
fn names(tags: &HeaderValue, etag: &HeaderValue) -> bool {
    let (Ok(tags), Ok(etag)) = (tags.to_str(), etag.to_str()) else { return false };
    tags.split(',').map(|tag| tag.trim().trim_start_matches("W/")).any(|tag| tag == "*" || tag == etag)
}

fn render(body: Bytes) -> Rendered {
    let etag = format!("\"{}\"", Thumbprint::of_der(&body));
    let etag = HeaderValue::from_str(&etag).unwrap_or(HeaderValue::from_static("\"\""));
    Rendered { body, etag }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ask(document: &Document, tag: Option<&str>) -> Reply {
        let mut headers = HeaderMap::new();
        if let Some(tag) = tag {
            headers.insert(IF_NONE_MATCH, tag.parse().unwrap());
        }
        document.reply(&headers)
    }

    #[test]
    fn rfc9110_13_1_2_a_client_that_has_the_document_gets_304_until_it_changes() {
        let document = Document::new("application/json", &json!({"a": 1}));
        let first = ask(&document, None);
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(first.headers()[CACHE_CONTROL], "public, max-age=300");
        let etag = first.headers()[ETAG].to_str().unwrap().to_owned();
        for tag in [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".to_owned()] {
            assert_eq!(ask(&document, Some(&tag)).status(), StatusCode::NOT_MODIFIED, "{tag}");
        }
        document.replace(&json!({"a": 2}));
        assert_eq!(ask(&document, Some(&etag)).status(), StatusCode::OK);
    }
}
