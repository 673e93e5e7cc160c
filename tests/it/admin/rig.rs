//! A caller of the admin API, over its Unix socket or over mutual TLS.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use certbind::config::{self, Environment, Sources};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName};
use hyper::{Method, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use crate::postgres::cluster::Database;
use crate::process::fleet;
use crate::process::rig::{Process, Site, within};

/// The paths of the API begin so.
pub(crate) const CLIENTS: &str = "/admin/v1/clients";

/// A site whose servers have an admin socket.
pub(crate) struct AdminSite {
    pub(crate) site: Site,
}

impl AdminSite {
    pub(crate) fn new() -> Self {
        Self { site: Site::new() }
    }

    /// One whose servers share a PostgreSQL database.
    pub(crate) fn on(database: &Database) -> Self {
        Self { site: fleet::site(database) }
    }

    /// A site of a fleet.
    pub(crate) const fn of(site: Site) -> Self {
        Self { site }
    }

    /// How many clients have a file.
    pub(crate) fn files(&self) -> usize {
        std::fs::read_dir(self.site.path("clients.d")).unwrap().count()
    }

    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.site.path(name)
    }

    /// A server with its admin API at the socket of this name, and a caller of it.
    pub(crate) async fn start(&self, name: &str) -> (Process, Api) {
        self.start_with(name, &[]).await
    }

    /// The same with other settings.
    pub(crate) async fn start_with(&self, name: &str, sets: &[&str]) -> (Process, Api) {
        let mut command = self.site.serve();
        command.args(["--set", &format!("listen.admin.address=unix:{name}")]);
        for set in sets {
            command.args(["--set", set]);
        }
        let server = Process::ready(command);
        (server, Api::connect(&self.socket(name)).await)
    }
}

/// One connection to the admin API.
pub(crate) enum Api {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A request to be sent.
#[derive(Clone)]
pub(crate) struct Ask {
    method: Method,
    path: String,
    headers: Vec<(HeaderName, String)>,
    body: Option<Bytes>,
}

impl Ask {
    pub(crate) fn new(method: Method, path: &str) -> Self {
        Self { method, path: path.to_owned(), headers: Vec::new(), body: None }
    }

    pub(crate) fn get(path: &str) -> Self {
        Self::new(Method::GET, path)
    }

    /// A new client.
    pub(crate) fn create(document: &Value) -> Self {
        Self::new(Method::POST, CLIENTS).json(document)
    }

    /// Another registration for a client.
    pub(crate) fn put(client_id: &str, document: &Value) -> Self {
        Self::new(Method::PUT, &format!("{CLIENTS}/{client_id}")).json(document)
    }

    /// Other values for some members.
    pub(crate) fn patch(client_id: &str, document: &Value) -> Self {
        let ask = Self::new(Method::PATCH, &format!("{CLIENTS}/{client_id}"));
        ask.body("application/merge-patch+json", document.to_string())
    }

    pub(crate) fn delete(client_id: &str) -> Self {
        Self::new(Method::DELETE, &format!("{CLIENTS}/{client_id}"))
    }

    pub(crate) fn json(self, document: &Value) -> Self {
        self.body("application/json", document.to_string())
    }

    pub(crate) fn body(mut self, media_type: &str, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into());
        self.header(CONTENT_TYPE, media_type)
    }

    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn if_match(self, tag: &str) -> Self {
        self.header(hyper::header::IF_MATCH, tag)
    }

    fn request(self, api: &Api) -> Request<Full<Bytes>> {
        let request = Request::builder().method(self.method);
        let mut request = match api {
            Api::One(_) => request.uri(self.path).header(HOST, "certbind"),
            Api::Two(_) => request.uri(format!("https://certbind{}", self.path)),
        };
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        request.body(Full::new(self.body.unwrap_or_default())).unwrap()
    }
}

impl Api {
    pub(crate) async fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self::One(sender)
    }

    /// HTTP of the version that the handshake came to.
    pub(crate) async fn over(stream: TlsStream<TcpStream>) -> Self {
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let stream = TokioIo::new(stream);
        if is_http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
            tokio::spawn(connection);
            return Self::Two(sender);
        }
        let (sender, connection) = http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Self::One(sender)
    }

    pub(crate) async fn send(&mut self, ask: Ask) -> Answer {
        within(async {
            let request = ask.request(self);
            let answer = match self {
                Self::One(sender) => {
                    sender.ready().await.unwrap();
                    sender.send_request(request).await
                }
                Self::Two(sender) => {
                    sender.ready().await.unwrap();
                    sender.send_request(request).await
                }
            };
            let (head, body) = answer.unwrap().into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            Answer { status: head.status.as_u16(), headers: head.headers, body }
        })
        .await
    }

    /// Sends what is to be answered with this status.
    pub(crate) async fn gets(&mut self, status: u16, ask: Ask) -> Answer {
        let answer = self.send(ask).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        answer
    }
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {:?}", self.headers)).to_str().unwrap()
    }

    pub(crate) fn tag(&self) -> String {
        self.header("etag").to_owned()
    }

    /// The name of the problem.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text());
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        assert_eq!(problem["request_id"], self.header("x-request-id"), "{problem}");
        problem["type"].as_str().unwrap().rsplit('#').next().unwrap().to_owned()
    }
}

/// A client that `billing`'s certificate is good for.
pub(crate) fn registration(client_id: &str, scope: &str) -> Value {
    json!({
        "client_id": client_id,
        "token_endpoint_auth_method": "tls_client_auth",
        "tls_client_auth_san_uri": "spiffe://certbind.dev/billing",
        "scope": scope,
        "certbind": { "trust": "dev", "audiences": ["https://localhost:8444"] },
    })
}

/// Why a site's configuration, with this change, is refused.
pub(crate) fn refused_configuration(site: &Site, set: &[&str]) -> String {
    let set = set.iter().map(|set| (*set).to_owned()).collect();
    let sources = Sources { file: site.path("certbind.toml"), environment: Environment::default(), set };
    config::inspect(&sources).err().map(|rejected| rejected.to_string()).unwrap_or_default()
}
