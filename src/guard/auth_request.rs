//! `GET /verify`: nginx' `auth_request`, and `forwardAuth` of Traefik and Caddy. The question is in headers that the proxy
//! sets; the answer is a status, and headers that say whose token it was.

use std::sync::Arc;

use bytes::Bytes;
use certbind_proto::forwarded::Forwarding;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, CONNECTION, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use hyper::{Request, Response, StatusCode};

use super::{Answered, Asked, Guard, Unasked, Verdict, route};
use crate::net::{ConnInfo, Reply, Service};
use crate::proxy::Caller;

/// The one path.
pub const PATH: &str = "/verify";

/// In which headers a proxy says what it asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// `X-Forwarded-Method` and `X-Forwarded-Uri`: Traefik and Caddy set them themselves.
    ForwardAuth,
    /// `X-Original-Method` and `X-Original-URI`: nginx, as its configuration says.
    AuthRequest,
}

impl Naming {
    const fn headers(self) -> (&'static str, &'static str) {
        match self {
            Self::ForwardAuth => ("x-forwarded-method", "x-forwarded-uri"),
            Self::AuthRequest => ("x-original-method", "x-original-uri"),
        }
    }
}

/// The door.
#[derive(Clone)]
pub struct Door {
    /// Who decides.
    pub guard: Arc<Guard>,
    /// Who may ask.
    pub caller: Caller,
    /// How it says what it asks about.
    pub naming: Naming,
    /// How it forwards the certificate.
    pub forwarding: Forwarding,
}

impl Service for Door {
    type Body = Full<Bytes>;

    async fn call(&self, request: Request<Incoming>, connection: &Arc<ConnInfo>) -> Reply {
        if request.uri().path() != PATH {
            return empty(StatusCode::NOT_FOUND);
        }
        let asked = self.asked(request.headers(), connection);
        answer(&self.guard.decide(connection, asked).await)
    }
}

impl Door {
    fn asked<'r>(&self, headers: &'r HeaderMap, connection: &ConnInfo) -> Result<Asked<'r>, Unasked> {
        self.caller.check(connection, self.guard.clock.now())?;
        route::no_override(headers.keys().map(HeaderName::as_str))?;
        let (method, target) = self.naming.headers();
        let method = once(headers, method)?;
        route::no_tunnel(method, headers.get_all(UPGRADE).iter().map(HeaderValue::as_bytes))?;
        Ok(Asked {
            method,
            target: once(headers, target)?,
            authorization: headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes).collect(),
            certificate: self.forwarding.read(headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())))?,
        })
    }
}

/// A header that must be there once.
fn once<'r>(headers: &'r HeaderMap, name: &str) -> Result<&'r str, Unasked> {
    let mut values = headers.get_all(name).iter();
    match (values.next().map(HeaderValue::to_str), values.next()) {
        (Some(Ok(value)), None) if !value.is_empty() => Ok(value),
        _ => Err(Unasked::Question),
    }
}

fn answer(answered: &Answered) -> Reply {
    let mut reply = empty(status_of(&answered.verdict));
    if matches!(answered.verdict, Verdict::Refused(Unasked::Caller(_))) {
        // Whoever is not the proxy shall not hold what the proxy needs.
        reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    for (name, value) in answered.headers() {
        match HeaderValue::from_str(&value) {
            Ok(value) => drop(reply.headers_mut().insert(HeaderName::from_static(name), value)),
            // Whose token it was cannot be told, and a service might believe what the client said instead.
            Err(_) => return empty(StatusCode::FORBIDDEN),
        }
    }
    reply
}

/// These proxies pass on 401 and 403, and make an error of their own of all else that is no success. Two tokens in one request
/// are 400 elsewhere (RFC 6750 §3.1); the challenge says it all the same.
fn status_of(verdict: &Verdict) -> StatusCode {
    match verdict.status() {
        400 => StatusCode::UNAUTHORIZED,
        status => StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN),
    }
}

fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = status;
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}
