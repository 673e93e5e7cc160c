//! `certbind serve`: from the command line to a running server, and what signals do to it.

use std::io;

use certbind_proto::time::{Clock as _, SystemClock};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::config::SourceArgs;
use super::{Exit, log};
use crate::config::{self, Environment};

mod admin;
pub(super) mod certificate;
mod live;
pub(super) mod manager;
mod parts;
mod proxy;
mod reload;
mod server;
pub(super) mod settings;
pub(super) mod socket;
mod sockets;

pub use super::report::Report;
pub use parts::Platform;
pub use reload::Reloader;
pub use server::Server;
pub use sockets::Sockets;

use manager::Heartbeat;

/// The number of the signal (the same on Linux, macOS and the BSDs).
const SIGXFSZ: i32 = 25;

/// Where the configuration is, and how to talk.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    #[command(flatten)]
    sources: SourceArgs,
    /// How log lines look, over log.format
    #[arg(long, value_name = "FORMAT", value_parser = ["pretty", "json"])]
    log_format: Option<String>,
}

/// Runs the server until it is told to stop.
///
/// # Errors
/// When something that it needs cannot be had. An invalid configuration is [`Exit::Invalid`].
pub fn run(args: &ServeArgs, environment: &Environment) -> anyhow::Result<Exit> {
    // Before there are threads: it changes the environment.
    let sockets = Sockets::handed_over(environment)?;
    let mut sources = args.sources.sources(environment.clone());
    sources.set.extend(args.log_format.iter().map(|format| format!("log.format={format}")));
    let opened = match config::open(&sources, SystemClock.now()) {
        Ok(opened) => opened,
        Err(rejected) => return Ok(super::config::refuse(&rejected, &mut io::stderr())?),
    };
    let settings = &opened.checked.config.log;
    let log = log::start(settings.format, settings.level)?;
    let platform = Platform { volume: log.volume(), ..Platform::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::heard()?;
        let server = Server::start(opened, sockets, platform).await?;
        let _heartbeat = Heartbeat::start();
        manager::ready();
        while signals.next().await == Told::Reload {
            manager::reloading();
            manager::reloaded(&server.reload().await);
        }
        tracing::info!("stopping: no new connections, waiting for requests in flight");
        manager::stopping(server.drain_timeout());
        Ok(end(server, signals).await)
    })
}

/// Ends after what is in flight, or at once when it is told so again.
async fn end(server: Server, mut signals: Signals) -> Exit {
    let told_again = async { while signals.next().await == Told::Reload {} };
    tokio::select! {
        () = server.stop() => Exit::Done,
        () = told_again => {
            tracing::warn!("stopping at once: requests in flight are cut");
            Exit::Failure
        }
    }
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Reload,
    Stop,
}

/// The signals that a server hears.
pub(super) struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
    _survived: Signal,
}

impl Signals {
    /// Hears them from here on.
    pub(super) fn heard() -> io::Result<Self> {
        let [hangup, _survived] = survive_signals()?;
        let [interrupt, terminate] = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
        Ok(Self { hangup, interrupt: interrupt?, terminate: terminate?, _survived })
    }

    pub(super) async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.hangup.recv() => Told::Reload,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.terminate.recv() => Told::Stop,
        }
    }
}

/// Waits for SIGTERM or SIGINT.
///
/// # Errors
/// When the signals cannot be heard.
pub async fn until_told_to_stop() -> io::Result<()> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}

/// Signals whose default is to end the process, and that must not end a server: SIGHUP, which asks for a reload, and
/// SIGXFSZ, as a write beyond the file size limit (`LimitFSIZE=`) is to fail as on a full disk, and the store knows what
/// to do then. Heard from here on.
pub(super) fn survive_signals() -> io::Result<[Signal; 2]> {
    Ok([signal(SignalKind::hangup())?, signal(SignalKind::from_raw(SIGXFSZ))?])
}
