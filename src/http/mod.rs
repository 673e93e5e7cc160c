//! Method and path to endpoint. Nothing is decided here: an endpoint reads, asks its flow, and replies.

use std::sync::Arc;
use std::time::{Duration, Instant};

use certbind_proto::entropy::Entropy;
use hyper::body::Incoming;
use hyper::{Method, Request};

use crate::flow::Flows;
use crate::metrics::Metrics;
use crate::net::ConnInfo;

pub mod document;
pub mod form;
mod front;
mod introspect;
pub mod metadata;
pub mod ops;
pub mod reply;
mod revoke;
mod token;

use document::Document;
use front::Came;

pub use crate::net::Reply;
pub use front::{Behind, Front, Hosts};

/// What the listeners answer.
pub struct Endpoints {
    /// What happens to a token request.
    pub flows: Arc<Flows>,
    /// The metadata document (RFC 8414).
    pub metadata: Document,
    /// The paths it is found at.
    pub metadata_paths: Vec<String>,
    /// The published keys (RFC 7517 §5).
    pub jwks: Arc<Document>,
    /// What is revoked, signed.
    pub revocations: Arc<Document>,
    /// Where request ids are drawn from.
    pub entropy: Arc<dyn Entropy>,
    /// Where requests are counted.
    pub metrics: Arc<Metrics>,
    /// Bounds on what a peer may send.
    pub limits: BodyLimits,
}

/// Bounds on a request body.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// The largest body, in bytes.
    pub max_bytes: usize,
    /// How long a body may take to arrive.
    pub deadline: Duration,
}

/// Where a request goes; also the `route` label of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Token,
    Introspect,
    Revoke,
    Metadata,
    Jwks,
    Revocations,
    Unknown,
}

impl Route {
    const fn label(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Introspect => "introspect",
            Self::Revoke => "revoke",
            Self::Metadata => "metadata",
            Self::Jwks => "jwks",
            Self::Revocations => "revocations",
            Self::Unknown => "unknown",
        }
    }
}

/// Where tokens are asked for.
pub const TOKEN_PATH: &str = "/oauth2/token";
/// Where resource servers ask about tokens.
pub const INTROSPECT_PATH: &str = "/oauth2/introspect";
/// Where tokens are revoked.
pub const REVOKE_PATH: &str = "/oauth2/revoke";
/// Where the keys are published.
pub const JWKS_PATH: &str = "/.well-known/jwks.json";

/// Where what is revoked is published.
pub const REVOCATIONS_PATH: &str = "/.well-known/certbind-revocations";

impl Endpoints {
    /// Answers one request that came over this connection to this listener.
    pub async fn call(&self, request: Request<Incoming>, connection: &ConnInfo, front: &Front) -> Reply {
        let started = Instant::now();
        let route = self.route(request.uri().path());
        let reply = match front.hosts.misdirects(&request) {
            true => reply::misdirected(),
            false => self.answer(route, request, &self.came(connection, front)).await,
        };
        self.metrics.http_request(&connection.listener, route.label(), reply.status().as_u16(), started.elapsed());
        reply
    }

    fn route(&self, path: &str) -> Route {
        match path {
            TOKEN_PATH => Route::Token,
            INTROSPECT_PATH => Route::Introspect,
            REVOKE_PATH => Route::Revoke,
            JWKS_PATH => Route::Jwks,
            REVOCATIONS_PATH => Route::Revocations,
            other if self.metadata_paths.iter().any(|path| path == other) => Route::Metadata,
            _ => Route::Unknown,
        }
    }

    /// Whoever should be a proxy and is none gets nothing here, not even a document; a request for a token leaves its
    /// audit event on the way.
    async fn answer(&self, route: Route, request: Request<Incoming>, came: &Came<'_>) -> Reply {
        match (route, request.method()) {
            (Route::Token, &Method::POST) => self.token(request, came).await,
            (Route::Revoke, &Method::POST) => self.revoke(request, came).await,
            (Route::Introspect, &Method::POST) => self.introspect(request, came).await,
            _ if came.is_from_a_stranger() => reply::forbidden(),
            (Route::Token | Route::Introspect | Route::Revoke, _) => reply::method_not_allowed("POST"),
            (Route::Metadata, &Method::GET | &Method::HEAD) => self.metadata.reply(request.headers()),
            (Route::Jwks, &Method::GET | &Method::HEAD) => self.jwks.reply(request.headers()),
            (Route::Revocations, &Method::GET | &Method::HEAD) => self.revocations.reply(request.headers()),
            (Route::Metadata | Route::Jwks | Route::Revocations, _) => reply::method_not_allowed("GET, HEAD"),
            (Route::Unknown, _) => reply::not_found(),
        }
    }
}

/// 96 random bits in hexadecimal: enough to be unique, short enough to be read out on the phone.
pub(crate) fn request_id(entropy: &dyn Entropy) -> String {
    let mut bytes = [0; 12];
    entropy.fill(&mut bytes);
    bytes.iter().flat_map(|b| [b >> 4, b & 0xf]).filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}
