//! Clients of the process: TLS with any certificate, HTTP of both versions, forms and assertions.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use certbind_devpki::Identity;
use certbind_proto::assertion::{self, Build, CLIENT_ASSERTION_TYPE};
use certbind_proto::jws::{Algorithm, Signer, SigningKey};
use certbind_proto::request::Form;
use certbind_proto::time::{Clock as _, SystemClock};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap};
use hyper::{Method, Request, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::rig::{ISSUER, PKI, within};

/// TLS to this address, with this certificate and these protocols.
pub(crate) async fn tls(
    address: SocketAddr,
    who: Option<&Identity>,
    protocols: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let identity = who.map(|who| certbind_https::Identity { chain: who.chain().to_vec(), key: who.key() });
    tls_under(PKI.root.certificate(), address, identity, protocols).await
}

/// The same under another root.
pub(crate) async fn tls_under(
    root: &CertificateDer<'_>,
    address: SocketAddr,
    identity: Option<certbind_https::Identity>,
    protocols: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut config = certbind_https::client_config(std::slice::from_ref(root), identity).unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let connector = TlsConnector::from(Arc::new(config));
    within(connector.connect(ServerName::try_from("localhost").unwrap(), stream)).await
}

/// An HTTP connection over TLS; a clone speaks over the same one if it is HTTP/2.
pub(crate) enum Connection {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    /// Connects, with this certificate or with none.
    pub(crate) async fn open(address: SocketAddr, who: Option<&Identity>, version: Version) -> std::io::Result<Self> {
        let protocol = if version == Version::HTTP_2 { "h2" } else { "http/1.1" };
        Self::over(tls(address, who, &[protocol]).await?).await
    }

    /// HTTP of the version that the handshake came to.
    pub(crate) async fn over(stream: TlsStream<TcpStream>) -> std::io::Result<Self> {
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let stream = TokioIo::new(stream);
        if is_http2 {
            let opened = http2::handshake(TokioExecutor::new(), stream).await;
            let (sender, connection) = opened.map_err(std::io::Error::other)?;
            tokio::spawn(connection);
            return Ok(Self::Http2(sender));
        }
        let (sender, connection) = http1::handshake(stream).await.map_err(std::io::Error::other)?;
        tokio::spawn(connection);
        Ok(Self::Http1(sender))
    }

    /// Another handle to the same HTTP/2 connection.
    pub(crate) fn another(&self) -> Self {
        match self {
            Self::Http1(_) => panic!("HTTP/1.1 has one request at a time"),
            Self::Http2(sender) => Self::Http2(sender.clone()),
        }
    }

    /// Sends any request. An error means that no whole answer came.
    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, hyper::Error> {
        within(async {
            match self {
                Self::Http1(sender) => {
                    sender.ready().await?;
                    Answer::read(sender.send_request(request)).await
                }
                Self::Http2(sender) => {
                    sender.ready().await?;
                    Answer::read(sender.send_request(request)).await
                }
            }
        })
        .await
    }

    /// A token request.
    pub(crate) async fn token(&mut self, form: &Form) -> Result<Answer, hyper::Error> {
        self.post(form.encode(), &[]).await
    }

    /// A token request with this body and these headers added.
    pub(crate) async fn post(&mut self, body: String, headers: &[(&str, &str)]) -> Result<Answer, hyper::Error> {
        self.post_to("/oauth2/token", body, headers).await
    }

    /// A form to another endpoint.
    pub(crate) async fn post_to(
        &mut self,
        path: &str,
        body: String,
        headers: &[(&str, &str)],
    ) -> Result<Answer, hyper::Error> {
        let mut request = self.request(Method::POST, path);
        request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        for (name, value) in headers {
            request = request.header(*name, value.as_bytes());
        }
        self.send(request.body(Full::from(body)).unwrap()).await
    }

    /// Asks for a document.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Answer, hyper::Error> {
        let request = self.request(Method::GET, path).body(Full::default()).unwrap();
        self.send(request).await
    }

    fn request(&self, method: Method, path: &str) -> hyper::http::request::Builder {
        match self {
            Self::Http1(_) => Request::builder().method(method).uri(path).header(HOST, "localhost:8443"),
            Self::Http2(_) => Request::builder().method(method).uri(format!("{ISSUER}{path}")),
        }
    }
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) async fn read(
        response: impl Future<Output = hyper::Result<hyper::Response<hyper::body::Incoming>>>,
    ) -> hyper::Result<Self> {
        let (head, body) = response.await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Self { status: head.status, headers: head.headers, text: String::from_utf8_lossy(&body).into_owned() })
    }

    /// The id by which the audit log knows the request.
    pub(crate) fn request_id(&self) -> &str {
        self.headers["x-request-id"].to_str().unwrap()
    }

    /// The body as JSON; null when it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// The error code, or nothing.
    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn access_token(&self) -> String {
        self.json()["access_token"].as_str().unwrap_or_else(|| panic!("no token: {}", self.text)).to_owned()
    }
}

/// A token request of `billing`, which its certificate authenticates.
pub(crate) fn billing() -> Form {
    client("billing")
}

/// A token request of a client that its certificate authenticates.
pub(crate) fn client(client_id: &str) -> Form {
    Form::default().with("grant_type", "client_credentials").with("client_id", client_id)
}

/// A token request with this assertion.
pub(crate) fn by_assertion(assertion: &str) -> Form {
    let form = Form::default().with("grant_type", "client_credentials");
    form.with("client_assertion_type", CLIENT_ASSERTION_TYPE).with("client_assertion", assertion)
}

/// Signs assertions of one client.
pub(crate) struct Asserter {
    client_id: String,
    issuer: String,
    signer: Signer,
}

impl Asserter {
    /// With the registered key of `batch` and this issuer as audience.
    pub(crate) fn for_issuer(issuer: &str, pkcs8: &[u8]) -> Self {
        Self { issuer: issuer.to_owned(), ..Self::new("batch", pkcs8) }
    }

    /// With the registered key of `batch`.
    pub(crate) fn batch() -> Self {
        Self::new("batch", PKI.batch_assertion.key_pkcs8())
    }

    pub(crate) fn new(client_id: &str, pkcs8: &[u8]) -> Self {
        Self::with_kid(client_id, pkcs8, "batch-1")
    }

    /// With this key under this name.
    pub(crate) fn with_kid(client_id: &str, pkcs8: &[u8], kid: &str) -> Self {
        let key = SigningKey::from_pkcs8_der(pkcs8, Algorithm::Es256).unwrap();
        let (client_id, issuer) = (client_id.to_owned(), ISSUER.to_owned());
        Self { client_id, issuer, signer: Signer::new(key, assertion::TYP, Some(kid)) }
    }

    /// Signs any claims.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.signer.sign_claims(claims).unwrap()
    }

    /// An assertion that is good for a minute, with this `jti`.
    pub(crate) fn with_jti(&self, jti: &str) -> String {
        let (client_id, issuer) = (self.client_id.as_str(), self.issuer.as_str());
        let build = Build { client_id, issuer, jti, now: SystemClock.now(), lifetime: Duration::from_secs(60) };
        assertion::build(&self.signer, &build).unwrap()
    }

    /// One that was never used.
    pub(crate) fn fresh(&self) -> String {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        self.with_jti(&format!("jti-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)))
    }
}
