//! One TLS connection, and requests over it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use certbind_devpki::Identity;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::{http1, http2};
use hyper::header::{HOST, HeaderMap};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Ask, PKI};

/// Nothing in these tests takes this long.
const DEADLINE: Duration = Duration::from_secs(20);

/// Which HTTP a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Http {
    One,
    Two,
}

/// An open connection with an identity of its own.
pub(crate) struct Caller {
    sender: Sender,
}

enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The body as JSON; null when it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// All but what differs from one request to the next.
    pub(crate) fn comparable(&self) -> (u16, Vec<(String, String)>, Bytes) {
        let own = |name: &str| matches!(name, "x-request-id" | "date");
        let headers = self.headers.iter().filter(|(name, _)| !own(name.as_str()));
        let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
        (self.status, headers.collect(), self.body.clone())
    }
}

impl Caller {
    /// Connects with this client certificate, if any.
    pub(crate) async fn connect(address: SocketAddr, identity: Option<&Identity>, http: Http) -> Self {
        Self::speaking(tls(address, &config(identity, http)).await, http).await
    }

    /// Connects with these settings, which may remember sessions of before.
    pub(crate) async fn connect_with(address: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        Self::speaking(tls(address, config).await, Http::One).await
    }

    async fn speaking(tls: TlsStream<TcpStream>, http: Http) -> Self {
        let sender = match http {
            Http::One => {
                let (sender, connection) = http1::handshake(TokioIo::new(tls)).await.unwrap();
                tokio::spawn(connection);
                Sender::One(sender)
            }
            Http::Two => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.unwrap();
                tokio::spawn(connection);
                Sender::Two(sender)
            }
        };
        Self { sender }
    }

    /// Sends a request over this connection, whatever certificate it names.
    pub(crate) async fn send(&mut self, ask: &Ask) -> Answer {
        timeout(DEADLINE, self.exchange(ask)).await.expect("an answer in time")
    }

    async fn exchange(&mut self, ask: &Ask) -> Answer {
        let builder =
            ask.headers.iter().fold(Request::builder().method(&ask.method), |b, (name, value)| b.header(name, value));
        let body = Full::from(ask.body());
        let answer = match &mut self.sender {
            Sender::One(sender) => {
                sender.ready().await.unwrap();
                let request = builder.uri(&ask.path).header(HOST, &ask.host).body(body).unwrap();
                sender.send_request(request).await.unwrap()
            }
            Sender::Two(sender) => {
                sender.ready().await.unwrap();
                let request = builder.uri(format!("https://{}{}", ask.host, ask.path)).body(body).unwrap();
                sender.send_request(request).await.unwrap()
            }
        };
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: head.status.as_u16(), headers: head.headers, body }
    }
}

/// Sends these very bytes over TLS, and reads until the server closes.
pub(crate) async fn raw(address: SocketAddr, identity: Option<&Identity>, bytes: &[u8]) -> String {
    let exchange = async {
        let mut stream = tls(address, &config(identity, Http::One)).await;
        stream.write_all(bytes).await.unwrap();
        stream.flush().await.unwrap();
        let mut answer = Vec::new();
        while stream.read_buf(&mut answer).await.is_ok_and(|count| count > 0) {}
        String::from_utf8(answer).unwrap()
    };
    timeout(DEADLINE, exchange).await.expect("an end in time")
}

/// Trusts the test PKI alone, and resumes no session.
pub(crate) fn config(identity: Option<&Identity>, http: Http) -> Arc<ClientConfig> {
    let identity = identity.map(|own| certbind_https::Identity { chain: own.chain().to_vec(), key: own.key() });
    let mut config = certbind_https::client_config(&[PKI.root.certificate().clone()], identity).unwrap();
    config.alpn_protocols = match http {
        Http::One => vec![b"http/1.1".to_vec()],
        Http::Two => vec![b"h2".to_vec()],
    };
    Arc::new(config)
}

async fn tls(address: SocketAddr, config: &Arc<ClientConfig>) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connecting = TlsConnector::from(Arc::clone(config)).connect(name, stream);
    timeout(DEADLINE, connecting).await.expect("a handshake in time").unwrap()
}
