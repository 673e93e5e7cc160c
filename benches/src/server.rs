//! A running server, bare or real, and when it is ready.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustls::crypto::aws_lc_rs::kx_group;

use crate::load::Peer;
use crate::options::Subject;
use crate::process::{Cores, Process, free_address};
use crate::scenario::get;
use crate::setup::{ISSUER, Setup};

/// How long a server may take until it answers. Reading 100,000 clients takes its time.
const START: Duration = Duration::from_secs(120);

/// A server that answers.
pub(crate) struct Server {
    subject: Subject,
    process: Process,
    address: SocketAddr,
    started_in: Duration,
}

impl Server {
    /// Starts it on its core and waits until it answers a request.
    pub(crate) async fn start(
        subject: Subject,
        program: &std::path::Path,
        cores: Cores,
        setup: &Setup,
    ) -> anyhow::Result<Self> {
        let start = Instant::now();
        let log = setup.file(&format!("{}.log", subject.name()));
        let (process, address) = match subject {
            Subject::Bare => bare(cores.server_side(program), setup, &log)?,
            Subject::Certbind => certbind(cores.server_side(program), setup, &log)?,
        };
        let mut server = Self { subject, process, address, started_in: Duration::ZERO };
        if let Err(error) = server.ready(setup).await {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let tail: Vec<_> = said.lines().rev().take(10).collect();
            bail!("{error:#}\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
        server.started_in = start.elapsed();
        Ok(server)
    }

    pub(crate) const fn subject(&self) -> Subject {
        self.subject
    }

    pub(crate) const fn process(&self) -> &Process {
        &self.process
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// From the start of the process to its first answer.
    pub(crate) const fn started_in(&self) -> Duration {
        self.started_in
    }

    async fn ready(&mut self, setup: &Setup) -> anyhow::Result<()> {
        let peer = Peer::new(self.address, &setup.pki.billing.identity, kx_group::X25519MLKEM768)?;
        let request = get("/.well-known/oauth-authorization-server");
        let start = Instant::now();
        loop {
            self.process.check()?;
            match peer.connect().await {
                Ok(mut connection) => return connection.exchange(&request).await.map(drop),
                Err(error) if start.elapsed() > START => return Err(error).context("the server is not ready"),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
}

fn bare(mut command: Command, setup: &Setup, log: &std::path::Path) -> anyhow::Result<(Process, SocketAddr)> {
    command.arg("--cert").arg(setup.file("server.pem")).arg("--key").arg(setup.file("server.key"));
    command.arg("--assertion-key").arg(setup.assertion_key_file()).args(["--issuer", ISSUER]);
    let mut process = Process::start(command, Subject::Bare.name(), log)?;
    let address = process.lines()?.next().context("the bare server prints no address")?.parse()?;
    Ok((process, address))
}

fn certbind(mut command: Command, setup: &Setup, log: &std::path::Path) -> anyhow::Result<(Process, SocketAddr)> {
    let address = free_address()?;
    command.arg("serve").arg("--config").arg(setup.write_config(address)?);
    let mut process = Process::start(command, Subject::Certbind.name(), log)?;
    // Whatever it prints is read, so that it never waits for a reader.
    let lines = process.lines()?;
    std::thread::spawn(move || lines.for_each(drop));
    Ok((process, address))
}
