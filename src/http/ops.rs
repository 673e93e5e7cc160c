//! Health, readiness, version and metrics, on a listener of their own.

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use serde_json::json;

use super::{Reply, reply};

/// What the metrics are written in.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// One thing that must work before the server takes traffic.
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// Whether it works now.
    pub ready: Box<dyn Fn() -> bool + Send + Sync>,
}

/// What the operations listener answers.
pub struct Operations {
    /// What is counted, as it is now.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
    /// What must work.
    pub checks: Vec<Check>,
}

impl Operations {
    /// Answers one request.
    #[must_use]
    pub fn call(&self, request: &Request<Incoming>) -> Reply {
        let known = matches!(request.uri().path(), "/livez" | "/readyz" | "/metrics" | "/version");
        match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/livez") => reply::text(StatusCode::OK, "ok\n"),
            (&Method::GET | &Method::HEAD, "/readyz") => self.readiness(request.uri().query()),
            (&Method::GET | &Method::HEAD, "/metrics") => reply::of_type(OPEN_METRICS, (self.metrics)()),
            (&Method::GET | &Method::HEAD, "/version") => {
                reply::text(StatusCode::OK, json!({ "version": env!("CARGO_PKG_VERSION") }).to_string() + "\n")
            }
            _ if known => reply::method_not_allowed("GET, HEAD"),
            _ => reply::not_found(),
        }
    }

    fn readiness(&self, query: Option<&str>) -> Reply {
        let results: Vec<_> = self.checks.iter().map(|check| (check.name, (check.ready)())).collect();
        let ready = results.iter().all(|(_, ready)| *ready);
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        if query.is_some_and(|query| query.split('&').any(|part| part == "verbose" || part.starts_with("verbose="))) {
            let lines = results.iter().map(|(name, ready)| format!("[{}] {name}\n", if *ready { "+" } else { "-" }));
            return reply::text(status, lines.collect::<String>());
        }
        reply::text(status, if ready { "ok\n" } else { "not ready\n" })
    }
}
