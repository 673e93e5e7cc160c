//! As much of `envoy.service.auth.v3` as a verdict needs, by the numbers of Envoy's own definitions. Fields that are not here are
//! skipped when they are read, as protobuf has it.

use std::collections::HashMap;

use prost::{Enumeration, Message, Oneof};

/// `envoy.service.auth.v3.CheckRequest`
#[derive(Clone, PartialEq, Message)]
pub(super) struct CheckRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) attributes: Option<Attributes>,
}

/// `envoy.service.auth.v3.AttributeContext`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Attributes {
    #[prost(message, optional, tag = "1")]
    pub(super) source: Option<Peer>,
    #[prost(message, optional, tag = "4")]
    pub(super) request: Option<RequestOf>,
}

/// `AttributeContext.Peer`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Peer {
    /// Percent-encoded PEM.
    #[prost(string, tag = "5")]
    pub(super) certificate: String,
}

/// `AttributeContext.Request`
#[derive(Clone, PartialEq, Message)]
pub(super) struct RequestOf {
    #[prost(message, optional, tag = "2")]
    pub(super) http: Option<Http>,
}

/// `AttributeContext.HttpRequest`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Http {
    #[prost(string, tag = "2")]
    pub(super) method: String,
    /// Several headers of one name come as one value, with commas between.
    #[prost(map = "string, string", tag = "3")]
    pub(super) joined: HashMap<String, String>,
    /// With the query.
    #[prost(string, tag = "4")]
    pub(super) path: String,
    /// Instead of `joined`, where Envoy is told to `encode_raw_headers`.
    #[prost(message, optional, tag = "13")]
    pub(super) raw: Option<HeaderMap>,
}

/// `envoy.config.core.v3.HeaderMap`
#[derive(Clone, PartialEq, Message)]
pub(super) struct HeaderMap {
    #[prost(message, repeated, tag = "1")]
    pub(super) headers: Vec<Header>,
}

/// `envoy.config.core.v3.HeaderValue`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Header {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) raw_value: Vec<u8>,
}

impl Http {
    /// Every header, however it came.
    pub(super) fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let joined = self.joined.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let raw = self.raw.iter().flat_map(|raw| &raw.headers);
        joined.chain(raw.map(|header| (header.key.as_str(), header.bytes())))
    }
}

impl Header {
    fn bytes(&self) -> &[u8] {
        if self.raw_value.is_empty() { self.value.as_bytes() } else { &self.raw_value }
    }
}

/// `envoy.service.auth.v3.CheckResponse`
#[derive(Clone, PartialEq, Message)]
pub(super) struct CheckResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<Status>,
    #[prost(oneof = "Answer", tags = "2, 3")]
    pub(super) answer: Option<Answer>,
}

/// `google.rpc.Status`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Status {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
}

/// What becomes of the request.
#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Answer {
    #[prost(message, tag = "2")]
    Denied(Denied),
    #[prost(message, tag = "3")]
    Ok(Allowed),
}

/// `envoy.service.auth.v3.DeniedHttpResponse`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Denied {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<HttpStatus>,
    #[prost(message, repeated, tag = "2")]
    pub(super) headers: Vec<HeaderOption>,
}

/// `envoy.type.v3.HttpStatus`
#[derive(Clone, PartialEq, Message)]
pub(super) struct HttpStatus {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
}

/// `envoy.service.auth.v3.OkHttpResponse`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Allowed {
    #[prost(message, repeated, tag = "2")]
    pub(super) headers: Vec<HeaderOption>,
}

/// `envoy.config.core.v3.HeaderValueOption`
#[derive(Clone, PartialEq, Message)]
pub(super) struct HeaderOption {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<Header>,
    #[prost(enumeration = "Append", tag = "3")]
    pub(super) append_action: i32,
    /// An empty scope takes the place of what the client sent as well.
    #[prost(bool, tag = "4")]
    pub(super) keep_empty_value: bool,
}

/// `HeaderValueOption.HeaderAppendAction`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub(super) enum Append {
    IfExistsOrAdd = 0,
    OverwriteOrAdd = 2,
}

/// `google.rpc.Code`
const OK: i32 = 0;
const PERMISSION_DENIED: i32 = 7;
const UNAVAILABLE: i32 = 14;
const UNAUTHENTICATED: i32 = 16;

impl CheckResponse {
    /// The request goes on, with these headers in the place of those that its client sent.
    pub(super) fn allowed<'a>(headers: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let headers = headers.into_iter().map(HeaderOption::set).collect();
        Self { status: Some(Status { code: OK }), answer: Some(Answer::Ok(Allowed { headers })) }
    }

    /// The client gets this status with these headers.
    pub(super) fn denied<'a>(status: u16, headers: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let code = match status {
            401 => UNAUTHENTICATED,
            503 => UNAVAILABLE,
            _ => PERMISSION_DENIED,
        };
        let headers = headers.into_iter().map(HeaderOption::set).collect();
        let denied = Denied { status: Some(HttpStatus { code: status.into() }), headers };
        Self { status: Some(Status { code }), answer: Some(Answer::Denied(denied)) }
    }
}

impl HeaderOption {
    fn set((name, value): (&str, String)) -> Self {
        let header = Header { key: name.to_owned(), value, raw_value: Vec::new() };
        Self { header: Some(header), append_action: Append::OverwriteOrAdd.into(), keep_empty_value: true }
    }
}
