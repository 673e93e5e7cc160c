//! A listener on a Unix socket, for as long as a server or an agent runs: through a restart beside the process before, and through
//! the loss of its file.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::server::Server;
use crate::cli::Unusable;
use crate::net::{self, Listener, Others, Service, SocketFile, UnixFault};

/// How often it is looked whether the process before is gone, and whether the socket is still there.
const AGAIN: Duration = Duration::from_millis(250);

/// Where a listener waits.
pub(in crate::cli) struct Socket {
    /// The key or option that says so.
    pub(in crate::cli) key: &'static str,
    /// The path.
    pub(in crate::cli) path: PathBuf,
    /// Whether others than our own user reach it.
    pub(in crate::cli) others: Others,
    /// Which of them are expected.
    pub(in crate::cli) users: Vec<u32>,
}

impl Socket {
    pub(in crate::cli) fn bind(&self) -> Result<Listener, UnixFault> {
        Ok(Listener::bind_unix_for(&self.path, self.others)?.expecting(&self.users))
    }

    /// Serves it by what `service` makes for it, beginning with a listener that there is already, until it is told to stop. A socket
    /// whose file somebody removed is made again: nobody finds it without.
    pub(in crate::cli) async fn serve<S: Service>(
        self,
        mut listener: Option<Listener>,
        settings: net::Settings,
        service: impl Fn(&Listener) -> S + Send + 'static,
        stop: watch::Receiver<bool>,
    ) {
        let (key, path) = (self.key, self.path.display().to_string());
        // With those of before: what is asked over them is answered as well.
        let mut served = JoinSet::new();
        while let Some(free) = until_free(listener.take(), &self, stop.clone()).await {
            tracing::info!(key, socket = path, "the socket is ready");
            let file = free.file().cloned();
            let (retire, retired) = watch::channel(false);
            let service = Arc::new(service(&free));
            served.spawn(free.serve(settings.clone(), service, retired));
            let end = end_of(file, stop.clone()).await;
            retire.send_replace(true);
            if end == End::OfTheServer {
                break;
            }
            while served.try_join_next().is_some() {}
            tracing::error!(key, socket = path, "the socket is gone or another one; making it again");
        }
        // An error means that the process ends.
        while served.join_next().await.is_some() {}
    }
}

impl Server {
    /// Serves a socket by what `service` makes for it. A new process that starts beside the old one waits until the old one
    /// gives the socket up; it serves its other listeners meanwhile.
    pub(super) fn serve_socket<S: Service>(
        &mut self,
        socket: Socket,
        settings: net::Settings,
        service: impl Fn(&Listener) -> S + Send + 'static,
    ) -> anyhow::Result<()> {
        let listener = match socket.bind() {
            Err(UnixFault::InUse { .. }) => None,
            bound => Some(bound.map_err(|fault| no_socket(socket.key, fault))?),
        };
        self.listeners.spawn(socket.serve(listener, settings, service, self.stop.subscribe()));
        Ok(())
    }
}

/// Why there is no socket. What `config check` refuses is an invalid configuration here as well.
fn no_socket(key: &str, fault: UnixFault) -> anyhow::Error {
    match fault.is_of_the_path() {
        true => Unusable(format!("{key}: {fault}")).into(),
        false => anyhow::Error::new(fault).context(format!("{key}: there is no socket")),
    }
}

/// The socket, as soon as there is one; none when the server is to end before.
async fn until_free(listener: Option<Listener>, socket: &Socket, mut stop: watch::Receiver<bool>) -> Option<Listener> {
    if listener.is_some() {
        return listener;
    }
    let mut told = String::new();
    loop {
        match socket.bind() {
            Ok(listener) => return Some(listener),
            Err(fault) => {
                let why = fault.to_string();
                if told != why {
                    tell_waiting(socket, &fault);
                    told = why;
                }
            }
        }
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return None,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

fn tell_waiting(Socket { key, path, .. }: &Socket, fault: &UnixFault) {
    match fault {
        UnixFault::InUse { .. } => {
            tracing::warn!(key, socket = %path.display(), "another process has the socket; waiting until it ends");
        }
        fault => tracing::error!(key, %fault, "there is no socket; trying again"),
    }
}

/// Why a socket is served no longer. Connections that are open by then are served until they are idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nobody finds it any more.
    OfTheFile,
    /// The server ends.
    OfTheServer,
}

async fn end_of(file: Option<SocketFile>, mut stop: watch::Receiver<bool>) -> End {
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => End::OfTheServer,
        () = gone(file) => End::OfTheFile,
    }
}

/// Waits until a file is not there any more.
async fn gone(file: Option<SocketFile>) {
    let Some(file) = file else { return std::future::pending().await };
    loop {
        tokio::time::sleep(AGAIN).await;
        let there = file.clone();
        if !tokio::task::spawn_blocking(move || there.is_there()).await.unwrap_or(true) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use arc_swap::ArcSwap;
    use bytes::Bytes;
    use http_body_util::Full;
    use hyper::body::Incoming;
    use hyper::{Request, Response};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixStream;
    use tokio::sync::Semaphore;
    use tokio::time::timeout;

    use super::*;
    use crate::net::{Capacity, ConnInfo, Reply, Transport};

    /// Longer than anything takes here.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// Answers when it may.
    struct Slow {
        came: Arc<Semaphore>,
        may: Arc<Semaphore>,
    }

    impl Service for Slow {
        type Body = Full<Bytes>;

        async fn call(&self, _: Request<Incoming>, _: &Arc<ConnInfo>) -> Reply {
            self.came.add_permits(1);
            drop(self.may.acquire().await);
            Response::new(Full::from("answered"))
        }
    }

    #[tokio::test]
    async fn p6_what_was_asked_over_a_socket_that_was_removed_is_answered_before_the_end() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let path = folder.path().join("socket");
        let socket = Socket { key: "test", path: path.clone(), others: Others::KeptOut, users: Vec::new() };
        let settings = net::Settings {
            name: "test".into(),
            transport: Transport::Plain,
            connections: Capacity::new(4),
            limits: Arc::new(ArcSwap::from_pointee(net::Limits::default())),
            observer: Arc::new(()),
        };
        let (came, may) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (stop, stopped) = watch::channel(false);
        let listener = socket.bind().unwrap();
        let slow = Slow { came: Arc::clone(&came), may: Arc::clone(&may) };
        let service = move |_: &Listener| Slow { came: Arc::clone(&slow.came), may: Arc::clone(&slow.may) };
        let serving = tokio::spawn(socket.serve(Some(listener), settings, service, stopped));

        let mut asked = UnixStream::connect(&path).await.unwrap();
        asked.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        timeout(PATIENCE, came.acquire()).await.unwrap().unwrap().forget();
        fs::remove_file(&path).unwrap();
        timeout(PATIENCE, async {
            while UnixStream::connect(&path).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .unwrap();
        stop.send_replace(true);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!serving.is_finished());
        may.add_permits(1);
        let mut answer = String::new();
        timeout(PATIENCE, asked.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("answered"), "{answer}");
        timeout(PATIENCE, serving).await.unwrap().unwrap();
        assert!(!path.exists());
    }
}
