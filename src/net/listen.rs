//! Accepts connections, under a cap, until the server stops; then waits for what is in flight.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::capacity::Capacity;
use super::connection::Server;
use super::deadline::Limits;
use super::unix::{Others, Process, SocketFile, UnixFault, UnixSocket};
use super::{Observer, Service, tls};

/// Connections that the system may hold before they are accepted.
const BACKLOG: i32 = 1024;

/// How long to wait after the system gave no connection. The error comes back at once as long as its cause lasts (for example: no file
/// descriptors left), so without a pause the loop would take a whole core.
const PAUSE: Duration = Duration::from_millis(100);

/// What a listener needs beside its address.
#[derive(Clone)]
pub struct Settings {
    /// Its name in logs and in [`super::ConnInfo`].
    pub name: Arc<str>,
    /// Encrypted or not.
    pub transport: Transport,
    /// How many connections there may be; listeners may share it.
    pub connections: Arc<Capacity>,
    /// Deadlines, which may be exchanged while it runs, and sizes, which stay.
    pub limits: Arc<ArcSwap<Limits>>,
    /// Hears of connections and handshakes.
    pub observer: Arc<dyn Observer>,
}

/// What lies between a TCP connection and HTTP; on a Unix socket there is nothing.
#[derive(Clone)]
pub enum Transport {
    /// Nothing: HTTP/1.1 in the clear, for the operator's own network.
    Plain,
    /// Nothing: HTTP/2 with prior knowledge (RFC 9113 §3.3), likewise.
    PlainHttp2,
    /// TLS.
    Tls(Arc<tls::Acceptor>),
}

/// A socket that listens.
#[derive(Debug)]
pub struct Listener {
    socket: Listening,
    address: SocketAddr,
    owner: Owner,
    /// Who is expected at a Unix socket, beside root; everybody where nobody is named.
    expected: Option<Vec<u32>>,
}

/// How many connections processes of other users may have, all together: each gets its answer, and keeps nobody out.
const STRANGERS: usize = 8;

/// That there is no room is said once in this time.
const SILENCE: Duration = Duration::from_secs(10);

/// Who else may accept what waits at a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// Nobody: what waits when it is closed is lost.
    Ourselves,
    /// Whoever gave it to us, and the process after us.
    Another,
}

#[derive(Debug)]
enum Listening {
    Tcp(TcpListener),
    Unix(UnixSocket),
}

/// A connection that was accepted.
pub(super) enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream, Process),
}

/// The address of who has none.
pub(super) const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

impl Listener {
    /// Listens at exactly this address. Port 0 takes a free one; `[::]` hears IPv4 as well.
    ///
    /// Must be called from within a tokio runtime.
    ///
    /// # Errors
    /// The address is taken, or is not of this machine, or needs more rights.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(!address.ip().is_unspecified())?;
        }
        // A restart must not wait for the connections of the process before.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let socket = TcpListener::from_std(socket.into())?;
        let address = socket.local_addr()?;
        Ok(Self { socket: Listening::Tcp(socket), address, owner: Owner::Ourselves, expected: None })
    }

    /// Listens on a socket that another process has opened, and goes on to hold.
    ///
    /// Must be called from within a tokio runtime.
    ///
    /// # Errors
    /// It is no socket that listens.
    pub fn adopt(socket: std::net::TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        if !SockRef::from(&socket).is_listener()? {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let socket = Listening::Tcp(TcpListener::from_std(socket)?);
        Ok(Self { socket, address, owner: Owner::Another, expected: None })
    }

    /// Listens at a Unix socket that this user and root alone can reach.
    ///
    /// Must be called from within a tokio runtime.
    ///
    /// # Errors
    /// The folder is open to others, or another process listens there, or something else is there, or the path is too long.
    pub fn bind_unix(path: &Path) -> Result<Self, UnixFault> {
        Self::bind_unix_for(path, Others::KeptOut)
    }

    /// The same for others as well, where whoever answers looks at who asks.
    ///
    /// # Errors
    /// As [`Self::bind_unix`].
    pub fn bind_unix_for(path: &Path, others: Others) -> Result<Self, UnixFault> {
        let socket = Listening::Unix(UnixSocket::bind(path, others)?);
        Ok(Self { socket, address: NOWHERE, owner: Owner::Ourselves, expected: None })
    }

    /// The same, where these users, our own and root are expected: processes of others have few places at a time, as whoever
    /// may not ask could keep those out who may.
    #[must_use]
    pub fn expecting(self, users: &[u32]) -> Self {
        let expected = self.uid().into_iter().chain(users.iter().copied()).collect();
        Self { expected: Some(expected), ..self }
    }

    /// The users who are expected, root left out; nobody where nobody was named.
    #[must_use]
    pub fn expected(&self) -> &[u32] {
        self.expected.as_deref().unwrap_or_default()
    }

    /// The user whose Unix socket it is; that of this process.
    #[must_use]
    pub const fn uid(&self) -> Option<u32> {
        match &self.socket {
            Listening::Tcp(_) => None,
            Listening::Unix(socket) => Some(socket.owner()),
        }
    }

    /// The file of a Unix socket.
    #[must_use]
    pub const fn file(&self) -> Option<&SocketFile> {
        match &self.socket {
            Listening::Tcp(_) => None,
            Listening::Unix(socket) => Some(socket.file()),
        }
    }

    /// Where it listens, with the port that was found if 0 was asked for; unspecified for a Unix socket.
    #[must_use]
    pub const fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Serves connections until `stop` turns true (or its sender is gone). Then nothing new is accepted, HTTP/1.1 peers are told
    /// `Connection: close` and HTTP/2 peers GOAWAY, and what is in flight has [`Limits::drain`] to finish.
    pub async fn serve<S: Service>(self, settings: Settings, service: Arc<S>, mut stop: watch::Receiver<bool>) {
        let Settings { name, transport, connections, limits, observer } = settings;
        let server = Arc::new(Server::new(service, name.clone(), &transport, Arc::clone(&limits), observer.clone()));
        let mut tasks = JoinSet::new();
        let mut failing = false;
        let mut rooms = Rooms { connections, strangers: Capacity::new(STRANGERS), expected: self.expected, told: None };

        loop {
            let accepted = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                Some(ended) = tasks.join_next() => {
                    log_panic(&name, ended);
                    continue;
                }
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok(accepted) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!(listener = %name, "connections are accepted again");
                    }
                    admit(&mut tasks, &server, &mut rooms, &*observer, (accepted, stop.clone()));
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    observer.accept_failed();
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(listener = %name, %error, "the system gives no connection; trying again");
                    }
                    sleep(PAUSE).await;
                }
            }
        }

        // What the system has accepted already would be reset with the socket, unless another process holds it.
        while self.owner == Owner::Ourselves
            && let Ok(Ok(accepted)) = timeout(Duration::ZERO, self.socket.accept()).await
        {
            admit(&mut tasks, &server, &mut rooms, &*observer, (accepted, stop.clone()));
        }
        drop(self.socket);
        drain(&name, tasks, limits.load().drain).await;
    }
}

impl Listening {
    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(socket) => socket.accept().await.map(|(stream, peer)| Accepted::Tcp(stream, peer)),
            Self::Unix(socket) => socket.accept().await.map(|(stream, peer)| Accepted::Unix(stream, peer)),
        }
    }
}

/// As many connections as are wanted, or fewer where the process may not open so many files: some stay free for the store, the logs and the
/// other listeners (at most 64, or a quarter).
#[must_use]
pub fn affordable_connections(wanted: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    affordable(wanted, &limits)
}

/// Without a limit that can be read, what is wanted.
fn affordable(wanted: usize, limits: &str) -> usize {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    soft.map_or(wanted, |files| wanted.min(files - (files / 4).min(64)))
}

/// Where connections find their place.
struct Rooms {
    connections: Arc<Capacity>,
    strangers: Arc<Capacity>,
    expected: Option<Vec<u32>>,
    /// When it was said last that there is none.
    told: Option<Instant>,
}

impl Rooms {
    fn of(&self, accepted: &Accepted) -> &Arc<Capacity> {
        if self.is_stranger(accepted) { &self.strangers } else { &self.connections }
    }

    fn is_stranger(&self, accepted: &Accepted) -> bool {
        let Accepted::Unix(_, process) = accepted else { return false };
        self.expected.as_ref().is_some_and(|expected| !process.is_of(expected))
    }

    fn tell(&mut self, listener: &str, accepted: &Accepted) {
        if self.told.is_some_and(|told| told.elapsed() < SILENCE) {
            return;
        }
        self.told = Some(Instant::now());
        match accepted {
            Accepted::Unix(_, process) if self.is_stranger(accepted) => tracing::warn!(
                listener,
                uid = process.uid,
                "a user who is not expected here holds as many connections as strangers may; more are closed"
            ),
            _ => tracing::warn!(listener, "as many connections are open as may be; more are closed"),
        }
    }
}

/// Starts to serve the connection, or closes it at once when there are as many as there may be.
fn admit<S: Service>(
    tasks: &mut JoinSet<()>,
    server: &Arc<Server<S>>,
    rooms: &mut Rooms,
    observer: &dyn Observer,
    (accepted, stop): (Accepted, watch::Receiver<bool>),
) {
    let Some(place) = rooms.of(&accepted).admit() else {
        observer.refused();
        rooms.tell(server.name(), &accepted);
        return;
    };
    let server = server.clone();
    tasks.spawn(async move {
        server.serve(accepted, stop).await;
        drop(place);
    });
}

/// Whether only the connection that was to be accepted is concerned, so that the next one can be tried at once.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

async fn drain(name: &str, mut tasks: JoinSet<()>, deadline: Duration) {
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            log_panic(name, ended);
        }
    };
    if timeout(deadline, all).await.is_err() {
        tracing::warn!(listener = name, connections = tasks.len(), "connections were cut: the drain took too long");
        tasks.shutdown().await;
    }
}

fn log_panic(name: &str, ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(listener = name, "a connection ended by a panic");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_9_some_file_descriptors_are_never_given_to_connections() {
        let limits =
            |files| format!("Max processes  7 7 processes\nMax open files            {files}     8192       files\n");
        assert_eq!(affordable(10_000, &limits("20000")), 10_000);
        assert_eq!(affordable(10_000, &limits("1024")), 960);
        assert_eq!(affordable(10_000, &limits("100")), 75);
        assert_eq!(affordable(10_000, &limits("unlimited")), 10_000);
        assert_eq!(affordable(10_000, ""), 10_000);
    }

    #[tokio::test]
    async fn attack_59_whoever_is_not_expected_at_a_socket_keeps_nobody_out() {
        let expected = Some(vec![33]);
        let rooms = Rooms { connections: Capacity::new(1), strangers: Capacity::new(STRANGERS), expected, told: None };
        let from = |uid| Accepted::Unix(UnixStream::pair().unwrap().0, Process { uid, pid: None });
        let strangers: Vec<_> = (0..STRANGERS).map(|_| rooms.of(&from(65_534)).admit()).collect();
        assert!(strangers.iter().all(Option::is_some), "each gets its answer");
        assert!(rooms.of(&from(65_534)).admit().is_none(), "but not all at once");
        for uid in [0, 33] {
            assert!(rooms.of(&from(uid)).admit().is_some(), "{uid}");
        }
        let everybody = Rooms { expected: None, ..rooms };
        assert!(!everybody.is_stranger(&from(65_534)));
    }

    #[test]
    fn attack_59_only_errors_of_one_connection_are_tried_again_without_a_pause() {
        const EMFILE: i32 = 24;
        const ENFILE: i32 = 23;
        const ENOBUFS: i32 = 105;
        const ECONNABORTED: i32 = 103;
        for (code, at_once) in [(EMFILE, false), (ENFILE, false), (ENOBUFS, false), (ECONNABORTED, true)] {
            assert_eq!(is_of_one_connection(&io::Error::from_raw_os_error(code)), at_once, "{code}");
        }
    }
}
