//! One connection from the handshake to its end: requests over HTTP/1.1 (RFC 9112) or HTTP/2 (RFC 9113), each handed to the service.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant as TokioInstant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::deadline::{Limits, Pulse, RequestEnd, Verdict};
use super::head::{Watched, is_malformed};
use super::listen::{Accepted, NOWHERE};
use super::tls::{self, Alpn, HandshakeFault};
use super::{ConnInfo, Observer, Service, Transport};

/// Bodies are at most 64 KiB, so a window of that size keeps nobody waiting.
const STREAM_WINDOW: u32 = 64 * 1024;

/// What a peer may send before anyone reads it, over all streams of a connection.
const CONNECTION_WINDOW: u32 = 128 * 1024;

/// What may wait to be sent on an HTTP/2 stream.
const SEND_BUFFER: usize = 64 * 1024;

/// Between two pings to an HTTP/2 peer, and how long it may take to answer.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// How long a closed connection may go on to read, so that the peer gets to see the last answer instead of a reset.
const LINGER: Duration = Duration::from_secs(1);

/// How many bytes are thrown away meanwhile.
const LINGER_BYTES: u64 = 2 * 1024 * 1024;

/// How long a request may be on the way when the connection or the server is to end: who asks in this time gets an answer, with the word
/// that it is the last, instead of a closed connection that tells nothing of what became of the request (RFC 9112 §9.6).
const NEXT_REQUEST: Duration = Duration::from_secs(1);

/// All requests of a connection, one after the other or side by side.
type Requests<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// What HTTP is spoken over.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for T {}

/// What all connections of a listener share.
pub(super) struct Server<S> {
    service: Arc<S>,
    listener: Arc<str>,
    tls: Option<Arc<tls::Acceptor>>,
    /// What is spoken where no handshake says it.
    plain: Alpn,
    limits: Arc<ArcSwap<Limits>>,
    observer: Arc<dyn Observer>,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

impl<S: Service> Server<S> {
    pub(super) fn new(
        service: Arc<S>,
        listener: Arc<str>,
        transport: &Transport,
        limits: Arc<ArcSwap<Limits>>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let (tls, plain) = match transport {
            Transport::Plain => (None, Alpn::Http1),
            Transport::PlainHttp2 => (None, Alpn::Http2),
            Transport::Tls(acceptor) => (Some(Arc::clone(acceptor)), Alpn::Http1),
        };
        let (http1, http2) = (http1(&limits.load()), http2(&limits.load()));
        Self { service, listener, tls, plain, limits, observer, http1, http2 }
    }

    /// The listener that it serves.
    pub(super) fn name(&self) -> &str {
        &self.listener
    }

    /// Serves the connection until either side ends it. `stop` turns true when the server is to end.
    pub(super) async fn serve(&self, accepted: Accepted, stop: watch::Receiver<bool>) {
        let _open = Open::begin(&*self.observer);
        let requests = match accepted {
            Accepted::Unix(stream, process) => {
                let info = ConnInfo { process: Some(process), ..self.nothing_known(NOWHERE) };
                Some(self.requests(self.plain, stream, info, stop))
            }
            Accepted::Tcp(stream, peer) => {
                // Answers are one write each: waiting for more to send only costs time. A connection that is gone already needs nothing.
                let _ = stream.set_nodelay(true);
                Box::pin(self.begin(stream, peer, stop)).await
            }
        };
        let Some(requests) = requests else { return };
        requests.await;
    }

    /// A connection of which nothing but this is known.
    fn nothing_known(&self, peer: SocketAddr) -> ConnInfo {
        ConnInfo { listener: self.listener.clone(), peer, process: None, tls: None, certificate: None }
    }

    /// The handshake, if there is to be one. In a box of its own, as are the requests: what it needed is given back before the connection
    /// goes idle.
    async fn begin(&self, stream: TcpStream, peer: SocketAddr, stop: watch::Receiver<bool>) -> Option<Requests<'_>> {
        let Some(acceptor) = &self.tls else {
            return Some(self.requests(self.plain, stream, self.nothing_known(peer), stop));
        };

        let began = Instant::now();
        let outcome = handshake(stream, acceptor.now(), self.limits.load().handshake).await;
        let stream = outcome.inspect_err(|fault| self.observer.handshake(Err(*fault), began.elapsed())).ok()?;
        let session = stream.get_ref().1;
        let (tls, certificate) = (tls::info(session), tls::peer_certificate(session));
        self.observer.handshake(Ok(tls.version), began.elapsed());

        let alpn = tls.alpn;
        let info = ConnInfo { tls: Some(tls), certificate, ..self.nothing_known(peer) };
        Some(self.requests(alpn, stream, info, stop))
    }

    fn requests<T: Stream>(
        &self,
        spoken: Alpn,
        stream: T,
        info: ConnInfo,
        stop: watch::Receiver<bool>,
    ) -> Requests<'_> {
        match spoken {
            Alpn::Http1 => self.http1_requests(stream, info, stop),
            Alpn::Http2 => self.http2_requests(stream, info, stop),
        }
    }

    fn http1_requests<T: Stream>(&self, stream: T, info: ConnInfo, stop: watch::Receiver<bool>) -> Requests<'_> {
        let pulse = Arc::new(Pulse::new(&self.limits.load()));
        let stream = TokioIo::new(Watched::http1(stream, pulse.clone()));
        let mut connection = Http1(Box::new(self.http1.serve_connection(stream, self.answers(info, &pulse))));
        Box::pin(async move {
            if supervise(&mut connection, &pulse, &self.limits, stop).await == End::Finished {
                Box::pin(linger(connection.0.into_parts().io.into_inner())).await;
            }
        })
    }

    fn http2_requests<T: Stream>(&self, stream: T, info: ConnInfo, stop: watch::Receiver<bool>) -> Requests<'_> {
        let pulse = Arc::new(Pulse::new(&self.limits.load()));
        let stream = TokioIo::new(Watched::http2(stream, pulse.clone()));
        let mut connection = Http2(Box::pin(self.http2.serve_connection(stream, self.answers(info, &pulse))));
        Box::pin(async move {
            supervise(&mut connection, &pulse, &self.limits, stop).await;
        })
    }

    fn answers(&self, info: ConnInfo, pulse: &Arc<Pulse>) -> Answers<S> {
        Answers { service: self.service.clone(), info: Arc::new(info), pulse: pulse.clone() }
    }
}

/// Counts a connection as open for as long as it lives, also when it is cut or ends by a panic.
struct Open<'a>(&'a dyn Observer);

impl<'a> Open<'a> {
    fn begin(observer: &'a dyn Observer) -> Self {
        observer.opened();
        Self(observer)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.closed();
    }
}

fn http1(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new());
    // Ours are finer: hyper counts the idle time before a head as part of it.
    builder.header_read_timeout(None);
    let header_bytes = limits.header_bytes as usize;
    builder.max_header_size(header_bytes).max_buf_size(header_bytes.max(8 * 1024));
    // At most 100 headers is hyper's default; setting it would move them from the stack to the heap.
    builder
}

fn http2(limits: &Limits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).keep_alive_interval(PING.0).keep_alive_timeout(PING.1);
    builder.max_header_list_size(limits.header_bytes).max_concurrent_streams(limits.streams);
    builder.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
    builder.max_send_buf_size(SEND_BUFFER);
    // CVE-2023-44487 (rapid reset) and CVE-2025-8671 (MadeYouReset): streams reset before they are served, and by errors of the peer.
    builder.max_pending_accept_reset_streams(20).max_local_error_reset_streams(20);
    builder
}

/// The handshake under its deadline. A peer that is refused gets to see the alert.
async fn handshake(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    deadline: Duration,
) -> Result<TlsStream<TcpStream>, HandshakeFault> {
    match timeout(deadline, acceptor.accept(stream).into_fallible()).await {
        Err(_) => Err(HandshakeFault::Deadline),
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err((error, stream))) => {
            let fault = tls::fault(&error);
            tracing::debug!(fault = fault.as_str(), error = %error, "handshake failed");
            linger(stream).await;
            Err(fault)
        }
    }
}

/// Ends the sending side and reads what the peer still sends, for a moment: closing with unread bytes would reset the connection, and the
/// last answer (or alert) might never be seen.
async fn linger<T: Stream>(mut stream: T) {
    let until_the_peer_closes = async {
        stream.shutdown().await?;
        let mut bin = vec![0; 4096];
        let mut rest = stream.take(LINGER_BYTES);
        while rest.read(&mut bin).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    // However it ends, the connection is over.
    let _ = timeout(LINGER, until_the_peer_closes).await;
}

/// How a connection came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Cut,
    Finished,
}

/// How far a connection is from its end; times since it began.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Open,
    /// It is to end, but a request may be on the way.
    Awaited(Duration),
    /// It ends when the requests in flight do, and at this time anyway.
    Draining(Duration),
}

/// Drives a connection, and ends it when the peer keeps it waiting, when it is too old, or when the server stops.
async fn supervise<C: Drain + Unpin>(
    connection: &mut C,
    pulse: &Pulse,
    limits: &ArcSwap<Limits>,
    mut stop: watch::Receiver<bool>,
) -> End {
    let soonest = limits.load().soonest().min(limits.load().age);
    let mut timer = pin!(sleep_until(TokioInstant::now() + soonest));
    let mut phase = Phase::Open;
    loop {
        let stopped = tokio::select! {
            biased;
            () = &mut *connection => return End::Finished,
            () = pulse.too_many_abandoned.notified() => return End::Cut,
            // An error means that the listener itself is gone, which ends the connection like a stop.
            _ = stop.wait_for(|stop| *stop), if matches!(phase, Phase::Open) => true,
            () = &mut timer => false,
        };
        let now = pulse.age();
        let limits = **limits.load();
        let verdict = if stopped { Verdict::Close } else { pulse.verdict(&limits, now) };
        phase = match (verdict, phase) {
            (Verdict::Cut, _) => return End::Cut,
            (_, Phase::Draining(until)) if until <= now => return End::Cut,
            (Verdict::Close, Phase::Open) if connection.await_request(pulse) => Phase::Awaited(now + NEXT_REQUEST),
            (_, Phase::Awaited(until)) if now < until => phase,
            (Verdict::Close, Phase::Open) | (_, Phase::Awaited(_)) => {
                connection.drain();
                Phase::Draining(now + limits.drain)
            }
            (_, Phase::Open | Phase::Draining(_)) => phase,
        };
        let wait = match (verdict, phase) {
            (Verdict::GoOn(wait), Phase::Open) => wait,
            (_, Phase::Awaited(until) | Phase::Draining(until)) => limits.soonest().min(until - now),
            (_, Phase::Open) => limits.soonest(),
        };
        timer.as_mut().reset(TokioInstant::now() + wait);
    }
}

/// A connection that can be asked to finish what is in flight and then end.
trait Drain: Future<Output = ()> {
    fn drain(&mut self);

    /// Whether a drain would cut off a request that is on the way; if so, the answer to it is made the last.
    fn await_request(&self, pulse: &Pulse) -> bool;
}

/// HTTP/1.1; when it is over the stream is still open.
struct Http1<T, S: Service>(Box<http1::Connection<TokioIo<Watched<T>>, Answers<S>>>);

/// HTTP/2; closes its stream.
struct Http2<T, S: Service>(Pin<Box<Http2Connection<T, S>>>);

type Http2Connection<T, S> = http2::Connection<TokioIo<Watched<T>>, Answers<S>, TokioExecutor>;

impl<T: Stream, S: Service> Future for Http1<T, S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_without_shutdown(cx).map(log_end)
    }
}

impl<T: Stream, S: Service> Drain for Http1<T, S> {
    fn drain(&mut self) {
        Pin::new(&mut *self.0).graceful_shutdown();
    }

    /// hyper closes a connection on which nothing is being answered.
    fn await_request(&self, pulse: &Pulse) -> bool {
        pulse.close_after_next();
        pulse.is_idle()
    }
}

impl<T: Stream, S: Service> Future for Http2<T, S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx).map(log_end)
    }
}

impl<T: Stream, S: Service> Drain for Http2<T, S> {
    fn drain(&mut self) {
        self.0.as_mut().graceful_shutdown();
    }

    /// GOAWAY leaves a round trip for requests on the way (RFC 9113 §6.8).
    fn await_request(&self, _pulse: &Pulse) -> bool {
        false
    }
}

fn log_end(outcome: hyper::Result<()>) {
    if let Err(error) = outcome {
        tracing::debug!(%error, "connection ended");
    }
}

/// Answers the requests of one connection.
struct Answers<S> {
    service: Arc<S>,
    info: Arc<ConnInfo>,
    pulse: Arc<Pulse>,
}

impl<S: Service> hyper::service::Service<Request<Incoming>> for Answers<S> {
    type Response = Response<S::Body>;
    type Error = Infallible;
    /// Boxed, so that an idle connection holds no room for a request.
    type Future = Pin<Box<dyn Future<Output = Result<Response<S::Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let in_flight = InFlight::begin(&self.pulse);
        if is_malformed(&request) {
            in_flight.answered();
            return Box::pin(std::future::ready(Ok(malformed())));
        }
        let (service, info) = (self.service.clone(), self.info.clone());
        Box::pin(async move {
            let mut reply = service.call(request, &info).await;
            if in_flight.pulse.is_closing() {
                reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            in_flight.answered();
            Ok(reply)
        })
    }
}

/// As hyper itself answers what it cannot parse: 400 without a word, and the end of the connection.
fn malformed<B: Default>() -> Response<B> {
    let mut reply = Response::new(B::default());
    *reply.status_mut() = StatusCode::BAD_REQUEST;
    reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    reply
}

/// A request between its head and its answer. Dropped before the answer: the peer gave it up.
struct InFlight {
    pulse: Arc<Pulse>,
    end: RequestEnd,
}

impl InFlight {
    fn begin(pulse: &Arc<Pulse>) -> Self {
        pulse.request_came();
        Self { pulse: pulse.clone(), end: RequestEnd::Abandoned }
    }

    fn answered(mut self) {
        self.end = RequestEnd::Answered;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.pulse.request_ended(self.end);
    }
}
