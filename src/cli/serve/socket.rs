//! A listener on a Unix socket, for as long as a server or an agent runs: through a restart beside the process before, and through
//! the loss of its file.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

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
        while let Some(free) = until_free(listener.take(), &self, stop.clone()).await {
            tracing::info!(key, socket = path, "the socket is ready");
            let service = Arc::new(service(&free));
            if serve_while_found(free, settings.clone(), service, stop.clone()).await == Served::ToTheEnd {
                return;
            }
            tracing::error!(key, socket = path, "the socket is gone or another one; making it again");
        }
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

/// How it ended to serve a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Served {
    /// The server ends.
    ToTheEnd,
    /// Nobody finds the socket any more.
    UntilGone,
}

/// Serves a socket for as long as its file is there. Connections that are open by then are served until they are idle.
async fn serve_while_found<S: Service>(
    listener: Listener,
    settings: net::Settings,
    service: Arc<S>,
    mut stop: watch::Receiver<bool>,
) -> Served {
    let file = listener.file().cloned();
    let (retire, retired) = watch::channel(false);
    let serving = tokio::spawn(listener.serve(settings, service, retired));
    let served = tokio::select! {
        _ = stop.wait_for(|stop| *stop) => Served::ToTheEnd,
        () = gone(file) => Served::UntilGone,
    };
    retire.send_replace(true);
    if served == Served::ToTheEnd {
        // An error means that the process ends.
        let _ = serving.await;
    }
    served
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
