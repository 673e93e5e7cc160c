//! Turns sockets into HTTP requests, with the certificate whose private key the peer proved to have (RFC 8705 §2).
//!
//! | file | takes | gives |
//! |---|---|---|
//! | `listen` | an address | connections, under a cap, until the drain is over |
//! | `connection` | a connection | requests over HTTP/1.1 or HTTP/2, each handed to the [`Service`] |
//! | `unix` | a path | a socket that its owner and root alone can reach |
//! | `tls`, `client_cert` | a connection | an encrypted stream, [`TlsInfo`], maybe a [`PeerCert`] |
//! | `capacity` | a number | a place for each connection, until there is none |
//! | `deadline` | what happened when | keep on, close, or cut |
//! | `head` | the bytes of an HTTP/1.1 head | the same bytes, or such as the parser refuses |
//!
//! This layer proves possession; whether a certificate is trusted is decided for each request by `authn`. It names no endpoint.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::{Request, Response};

pub use certbind_proto::cert::PeerCert;

mod capacity;
mod client_cert;
mod connection;
mod deadline;
mod head;
mod listen;
pub mod tls;
mod unix;

pub use capacity::Capacity;
pub use deadline::Limits;
pub use listen::{Listener, Settings, Transport, affordable_connections};
pub use tls::{HandshakeFault, TlsInfo, TlsVersion};
pub use unix::{Others, Process, SocketFile, UnixFault, check as check_unix};

/// What most services answer: a body that is complete, so that it leaves in one write.
pub type Reply = Response<Full<Bytes>>;

/// Answers requests.
pub trait Service: Send + Sync + 'static {
    /// What its answers are made of; the default is nothing. Whatever it is, it is there when the answer is.
    type Body: Body<Data = Bytes, Error = Infallible> + Default + Send + Unpin + 'static;

    /// One request, with the connection that it came over. Dropped when the peer no longer waits for the answer.
    fn call(
        &self,
        request: Request<Incoming>,
        connection: &Arc<ConnInfo>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// What is known of a connection; the same for all its requests.
#[derive(Debug)]
pub struct ConnInfo {
    /// The name of the listener that accepted it.
    pub listener: Arc<str>,
    /// Where the peer's end of the connection is; unspecified on a Unix socket.
    pub peer: SocketAddr,
    /// The process at the other end of a Unix socket.
    pub process: Option<Process>,
    /// What the handshake came to; none on a listener without TLS.
    pub tls: Option<TlsInfo>,
    /// The certificate whose private key the peer has. Nobody has yet said that it is trusted, or even valid.
    pub certificate: Option<Arc<PeerCert>>,
}

impl ConnInfo {
    /// Who is at the other end, as a log says it: an address, or the user of a Unix socket.
    #[must_use]
    pub fn peer_text(&self) -> String {
        self.process.map_or_else(|| self.peer.to_string(), |process| format!("uid:{}", process.uid))
    }
}

/// Hears what happens to the connections of one listener, to count it. Called in the middle of things: must not block.
pub trait Observer: Send + Sync {
    /// A connection was accepted.
    fn opened(&self) {}

    /// An accepted connection is no more.
    fn closed(&self) {}

    /// A connection was closed at once, because there are as many as there may be.
    fn refused(&self) {}

    /// The system gave no connection, for example for want of file descriptors.
    fn accept_failed(&self) {}

    /// A handshake came to its end, good or bad, after so long.
    fn handshake(&self, _outcome: Result<TlsVersion, HandshakeFault>, _took: Duration) {}
}

/// Counts nothing.
impl Observer for () {}
