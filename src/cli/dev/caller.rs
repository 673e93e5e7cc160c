//! One TLS connection, and requests over it: what `demo` speaks to server and API with.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use certbind_devpki::Identity;
use certbind_proto::request::Form;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, WWW_AUTHENTICATE};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// The longest wait for an answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// The longest answer, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// An open connection with an identity of its own.
pub struct Caller {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    key_exchange: Option<String>,
}

/// What came back.
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; null when it is not JSON.
    pub body: Value,
}

impl Answer {
    /// The error code: in the body of a token response, in the challenge of a protected resource (RFC 6750 §3).
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        let challenge =
            || self.headers.get(WWW_AUTHENTICATE)?.to_str().ok()?.split("error=\"").nth(1)?.split('"').next();
        self.text("error").or_else(challenge)
    }

    /// A member of the body that is a text.
    #[must_use]
    pub fn text(&self, member: &str) -> Option<&str> {
        self.body.get(member).and_then(Value::as_str)
    }
}

impl Caller {
    /// Connects to `localhost` at this address, with this client certificate if any.
    ///
    /// # Errors
    /// When the connection or its handshake fails.
    pub async fn connect(
        address: SocketAddr,
        root: &CertificateDer<'_>,
        identity: Option<&Identity>,
    ) -> anyhow::Result<Self> {
        let identity =
            identity.map(|identity| certbind_https::Identity { chain: identity.chain().to_vec(), key: identity.key() });
        let mut config = certbind_https::client_config(std::slice::from_ref(root), identity)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let stream = timeout(DEADLINE, TcpStream::connect(address)).await.context("no connection in time")??;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
        let tls = timeout(DEADLINE, connecting).await.context("no handshake in time")??;
        let group = tls.get_ref().1.negotiated_key_exchange_group();
        let key_exchange = group.map(|group| format!("{:?}", group.name()));
        let (sender, connection) = http1::handshake(TokioIo::new(tls)).await?;
        tokio::spawn(connection);
        Ok(Self { sender, host: format!("localhost:{}", address.port()), key_exchange })
    }

    /// The key exchange group of the handshake.
    #[must_use]
    pub fn key_exchange(&self) -> &str {
        self.key_exchange.as_deref().unwrap_or("unknown")
    }

    /// Sends a form.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn post(&mut self, path: &str, form: &Form) -> anyhow::Result<Answer> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(HOST, &self.host)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::from(form.encode()))?;
        self.send(request).await
    }

    /// Asks for a protected resource.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn get(&mut self, path: &str, token: &str) -> anyhow::Result<Answer> {
        let request = Request::builder()
            .uri(path)
            .header(HOST, &self.host)
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .body(Full::default())?;
        self.send(request).await
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
        let exchange = async {
            self.sender.ready().await?;
            let (head, body) = self.sender.send_request(request).await?.into_parts();
            let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| anyhow::anyhow!("{error}"))?;
            let body = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
            Ok(Answer { status: head.status, headers: head.headers, body })
        };
        timeout(DEADLINE, exchange).await.context("no answer in time")?
    }
}
