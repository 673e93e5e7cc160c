//! A client's own HTTPS server with its published keys (RFC 7591 §2: `jwks_uri`).

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use certbind::net::tls;
use rustls::ServerConfig;
use rustls::sign::SingleCertAndKey;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::PKI;

/// Answers every request with the same set, until it is told another.
pub(crate) struct JwksServer {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    answer: Mutex<String>,
    asked: AtomicUsize,
}

impl JwksServer {
    pub(crate) async fn start(keys: &[Value]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let task = tokio::spawn(serve(listener, acceptor(), Arc::clone(&state)));
        let server = Self { address, state, task };
        server.publish(keys);
        server
    }

    /// A line of a client's file.
    pub(crate) fn member(&self) -> String {
        format!("jwks_uri = \"https://localhost:{}/keys\"\n", self.address.port())
    }

    /// Publishes these from now on.
    pub(crate) fn publish(&self, keys: &[Value]) {
        let body = json!({ "keys": keys }).to_string();
        self.answer(
            "200 OK",
            &format!("Content-Type: application/jwk-set+json\r\nContent-Length: {}\r\n", body.len()),
            &body,
        );
    }

    /// Answers with this from now on.
    pub(crate) fn answer(&self, status: &str, headers: &str, body: &str) {
        *self.state.answer.lock().unwrap() = format!("HTTP/1.1 {status}\r\n{headers}Connection: close\r\n\r\n{body}");
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> usize {
        self.state.asked.load(Ordering::SeqCst)
    }
}

impl Drop for JwksServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn acceptor() -> TlsAcceptor {
    let certified = tls::certified_key(PKI.server.chain().to_vec(), PKI.server.key()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = answer(stream, &acceptor, &state).await;
    }
}

async fn answer(stream: TcpStream, acceptor: &TlsAcceptor, state: &State) -> std::io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    state.asked.fetch_add(1, Ordering::SeqCst);
    let answer = state.answer.lock().unwrap().clone();
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}
