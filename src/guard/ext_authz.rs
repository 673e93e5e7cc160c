//! `POST /envoy.service.auth.v3.Authorization/Check`: Envoy's `ext_authz` over gRPC.

mod body;
mod messages;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use certbind_proto::forwarded::{self, Forwarded, ForwardedFault, Forwarding};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use prost::Message as _;
use tokio::time::timeout;

use self::body::GrpcBody;
use self::messages::{CheckRequest, CheckResponse};
use super::{Answered, Asked, Guard, Unasked, Verdict, route};
use crate::net::{ConnInfo, Service};
use crate::proxy::Caller;

/// The one method of the service.
pub const PATH: &str = "/envoy.service.auth.v3.Authorization/Check";

/// The longest question: a request's headers and its client's certificate.
const MAX_QUESTION: usize = 256 * 1024;

/// How long a question may take to arrive.
const PATIENCE: Duration = Duration::from_secs(5);

/// gRPC's status codes.
const UNIMPLEMENTED: &str = "12";
const INVALID_ARGUMENT: &str = "3";
const OK: &str = "0";

/// Where the client's certificate stands.
#[derive(Clone)]
pub enum Source {
    /// In what Envoy itself says of the connection (`include_peer_certificate`).
    Connection,
    /// In a header that a proxy before this Envoy has set.
    Header(Forwarding),
}

/// The door.
#[derive(Clone)]
pub struct Door {
    /// Who decides.
    pub guard: Arc<Guard>,
    /// Who may ask.
    pub caller: Caller,
    /// Where the client's certificate stands.
    pub source: Source,
}

impl Service for Door {
    type Body = GrpcBody;

    async fn call(&self, request: Request<Incoming>, connection: &Arc<ConnInfo>) -> Response<GrpcBody> {
        if request.uri().path() != PATH || request.method() != Method::POST {
            return grpc(None, UNIMPLEMENTED);
        }
        let Some(question) = read(request).await else { return grpc(None, INVALID_ARGUMENT) };
        let question = question.attributes.unwrap_or_default();
        let asked = self.asked(&question, connection);
        let answered = self.guard.decide(connection, asked).await;
        grpc(Some(&answer(&answered)), OK)
    }
}

impl Door {
    fn asked<'r>(&self, question: &'r messages::Attributes, connection: &ConnInfo) -> Result<Asked<'r>, Unasked> {
        self.caller.check(connection, self.guard.clock.now())?;
        let http = question.request.as_ref().and_then(|request| request.http.as_ref()).ok_or(Unasked::Question)?;
        let headers: Vec<(&str, &[u8])> = http.headers().collect();
        route::no_override(headers.iter().map(|(name, _)| *name))?;
        let certificate = match &self.source {
            Source::Header(forwarding) => forwarding.read(headers.iter().copied())?,
            Source::Connection => {
                forwarded::none(headers.iter().map(|(name, _)| *name))?;
                of_connection(question)?
            }
        };
        if http.method.is_empty() || http.path.is_empty() {
            return Err(Unasked::Question);
        }
        let of = |wanted: &'static str| {
            headers.iter().filter(move |(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| *value)
        };
        route::no_tunnel(&http.method, of("upgrade"))?;
        Ok(Asked {
            method: &http.method,
            target: &http.path,
            authorization: of("authorization").collect(),
            certificate,
        })
    }
}

/// The certificate of the connection that Envoy accepted.
fn of_connection(question: &messages::Attributes) -> Result<Option<Forwarded>, ForwardedFault> {
    match question.source.as_ref().map_or("", |source| source.certificate.as_str()) {
        "" => Ok(None),
        pem => forwarded::escaped_pem(pem).map(|certificate| Some(Forwarded::Certificate(Arc::new(certificate)))),
    }
}

/// One message, not compressed, and nothing else.
async fn read(request: Request<Incoming>) -> Option<CheckRequest> {
    let body = timeout(PATIENCE, Limited::new(request.into_body(), MAX_QUESTION).collect()).await.ok()?.ok()?;
    let body = body.to_bytes();
    let (prefix, message) = body.split_at_checked(5)?;
    let length = u32::from_be_bytes(prefix[1..].try_into().ok()?);
    if prefix[0] != 0 || usize::try_from(length).ok()? != message.len() {
        return None;
    }
    CheckRequest::decode(message).ok()
}

fn answer(answered: &Answered) -> CheckResponse {
    match &answered.verdict {
        Verdict::Allowed(_) => CheckResponse::allowed(answered.headers()),
        verdict @ (Verdict::Denied(_) | Verdict::Refused(_)) => {
            CheckResponse::denied(verdict.status(), answered.headers())
        }
    }
}

fn grpc(message: Option<&CheckResponse>, status: &'static str) -> Response<GrpcBody> {
    let mut response = Response::new(match message {
        Some(message) => GrpcBody::of(framed(message), status),
        None => GrpcBody::default(),
    });
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    if message.is_none() {
        headers.insert(body::STATUS, HeaderValue::from_static(status));
    }
    response
}

fn framed(message: &CheckResponse) -> Bytes {
    let message = message.encode_to_vec();
    let mut frame = Vec::with_capacity(5 + message.len());
    frame.push(0);
    frame.extend(u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend(message);
    frame.into()
}
