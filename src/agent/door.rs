//! The socket: HTTP/1.1 for processes of users who may ask. A question is a path with a query, an answer a token or the name of
//! the reason why there is none.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use certbind_client::{AccessToken, ClientCertificate, Failure, Status};
use certbind_proto::request::Form;
use certbind_proto::time::{Clock, parse_duration};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::fault::{Failed, Fault};
use super::question::{Asked, Question, Questions};
use crate::net::{ConnInfo, Reply, Service};

const JSON: &str = "application/json";
const TEXT: &str = "text/plain";

/// The door.
pub struct Door {
    /// What is asked, and who answers it.
    pub questions: Arc<Questions>,
    /// The users whose processes may ask; root's may as well.
    pub users: Vec<u32>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

impl Service for Door {
    type Body = Full<Bytes>;

    async fn call(&self, request: Request<Incoming>, connection: &Arc<ConnInfo>) -> Reply {
        self.answer(&request, connection).await.unwrap_or_else(|fault| refused(&fault))
    }
}

impl Door {
    async fn answer(&self, request: &Request<Incoming>, connection: &ConnInfo) -> Result<Reply, Fault> {
        if !connection.process.is_some_and(|process| process.is_of(&self.users)) {
            return Err(Fault::Caller);
        }
        if request.method() != Method::GET {
            return Err(Fault::Path);
        }
        match request.uri().path() {
            "/token" => {
                let (question, min_ttl) = self.question(request.uri().query().unwrap_or_default())?;
                let asked = self.questions.find(&question).map_err(|_| Fault::Questions)?;
                let token = asked.token(min_ttl, &*self.clock).await;
                let token = token.map_err(|error| Fault::NoToken { error, wait: asked.wait(self.clock.now()) })?;
                Ok(self.token(&token, request.headers()))
            }
            "/status" => {
                let all: Vec<_> = self.questions.all().iter().map(|asked| status(asked)).collect();
                Ok(reply(StatusCode::OK, JSON, json!({ "tokens": all }).to_string()))
            }
            "/livez" => Ok(reply(StatusCode::OK, TEXT, "ok\n".to_owned())),
            _ => Err(Fault::Path),
        }
    }

    /// What is not said is as on the command line.
    fn question(&self, query: &str) -> Result<(Question, Duration), Fault> {
        let form = Form::parse(query.as_bytes()).map_err(|_| Fault::Parameters)?;
        if form.names().any(|name| !matches!(name, "min_ttl" | "resource" | "scope")) {
            return Err(Fault::Parameters);
        }
        let mut question = self.questions.first().question.clone();
        if let Some(scope) = form.get("scope") {
            question.scope = scope.parse().map_err(|_| Fault::Parameters)?;
        }
        if form.get("resource").is_some() {
            let resources = form.all("resource").map(str::parse).collect::<Result<_, _>>();
            question.resources = resources.map_err(|_| Fault::Parameters)?;
        }
        let min_ttl = form.get("min_ttl").map_or(Ok(Duration::ZERO), parse_duration);
        Ok((question, min_ttl.map_err(|_| Fault::Parameters)?))
    }

    fn token(&self, token: &AccessToken, headers: &HeaderMap) -> Reply {
        let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let mut accepted = accepted.flat_map(|value| value.split(',')).filter_map(|range| range.split(';').next());
        if accepted.next().is_some_and(|range| range.trim().eq_ignore_ascii_case(TEXT)) {
            return reply(StatusCode::OK, TEXT, token.as_str().to_owned());
        }
        let answer = json!({
            "access_token": token.as_str(),
            "token_type": "Bearer",
            "expires_in": token.expires().since(self.clock.now()).as_secs(),
            "scope": token.scope().to_string(),
            "certificate": token.certificate().map(certificate),
        });
        reply(StatusCode::OK, JSON, answer.to_string())
    }
}

fn refused(fault: &Fault) -> Reply {
    let body = json!({
        "error": fault.reason(),
        "error_description": fault.to_string(),
        "request_id": fault.request_id(),
    });
    let mut reply = reply(fault.status(), JSON, body.to_string());
    if let Some(seconds) = fault.retry_after() {
        reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if matches!(fault, Fault::Caller) {
        // Whoever may not ask shall not hold what others need.
        reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    reply
}

/// How a question stands: never a token.
fn status(asked: &Asked) -> Value {
    let Status { certificate: shown, files, last_failure, retry_at, since, token_expires, waiting, .. } =
        asked.source.status();
    let files = files.map(|files| {
        json!({
            "looked": files.looked.map(|at| at.to_string()),
            "fault": files.fault.as_ref().map(|fault| fault.fault.to_string()),
            "fault_since": files.fault.as_ref().map(|fault| fault.since.to_string()),
        })
    });
    let waiting = waiting.map(|waiting| {
        json!({
            "certificate": waiting.certificate.as_ref().map(certificate),
            "since": waiting.since.to_string(),
            "failure": waiting.failure.as_ref().map(failure),
            "retry_at": waiting.retry_at.map(|at| at.to_string()),
        })
    });
    json!({
        "resource": asked.question.resources.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "scope": asked.question.scope.to_string(),
        "token_expires": token_expires.map(|at| at.to_string()),
        "certificate": shown.as_ref().map(certificate),
        "since": since.to_string(),
        "files": files,
        "waiting": waiting,
        "last_failure": last_failure.as_ref().map(failure),
        "retry_at": retry_at.map(|at| at.to_string()),
    })
}

fn certificate(certificate: &ClientCertificate) -> Value {
    json!({ "x5t#S256": certificate.thumbprint().to_string(), "not_after": certificate.not_after().to_string() })
}

fn failure(Failure { at, error, .. }: &Failure) -> Value {
    json!({
        "at": at.to_string(),
        "error": Failed(error).reason(),
        "error_description": error.to_string(),
        "request_id": error.request_id(),
    })
}

fn reply(status: StatusCode, media_type: &'static str, body: String) -> Reply {
    let mut reply = Response::new(Full::from(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}
