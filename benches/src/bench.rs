//! Measures what a token request costs certbind, as a multiple of the bare server and of one ES256 verification (V).

mod figures;
mod flatness;
mod guards;
mod jtis;
mod load;
mod measure;
mod meter;
mod options;
mod process;
mod report;
mod scenario;
mod server;
mod setup;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;

use crate::flatness::Growth;
use crate::guards::Guards;
use crate::measure::{Contender, measure, weigh};
use crate::meter::Meter;
use crate::options::{Options, Subject};
use crate::process::Cores;
use crate::report::{Comparison, Report};
use crate::server::Server;
use crate::setup::{Place, Setup};

/// Clients of `tls_client_auth` that are registered for the ordinary modes.
const CLIENTS: usize = 10;

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    if options.measure_v {
        return meter::run().map(|()| ExitCode::SUCCESS);
    }
    let cores = Cores::claim();
    let mut dir = tempfile::Builder::new().prefix("certbind-bench-").tempdir()?;
    if options.keep {
        dir.disable_cleanup(true);
        eprintln!("files and logs: {}", dir.path().display());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if cores == Cores::Apart {
        // The load never sleeps. If it did, the server would pay for waking its core with each response, on a virtual machine
        // as much as the signature costs: a toll of the machine's, at random, that would hide what the server itself does.
        runtime.spawn(async {
            loop {
                tokio::task::yield_now().await;
            }
        });
    }
    let report = runtime.block_on(bench(&options, cores, dir.path()))?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    Ok(if report.errors() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn bench(options: &Options, cores: Cores, dir: &Path) -> anyhow::Result<Report> {
    let pace = options.pace();
    let talk = |text: &str| {
        if !options.json {
            println!("{text}")
        }
    };
    let setup = Setup::make(dir, CLIENTS, Place::Named)?;
    let meter = Meter::start(cores, dir)?;
    let mut report = Report::new(cores, pace);
    talk(&report.heading());

    let mut servers = Vec::new();
    for subject in options.subjects() {
        servers.push(Server::start(subject, &options.program(subject)?, cores, &setup).await?);
    }
    for server in &servers {
        report.memory.push(weigh(server.subject().name(), server, &setup).await?);
    }
    let modes = options.modes();
    let guards = match modes.iter().any(|mode| mode.question().is_some()) {
        true => Some(Guards::start(options, cores, dir).await?),
        false => None,
    };
    for mode in modes {
        let contenders = match (mode.question(), &guards) {
            (Some(question), Some(guards)) => guards.contenders(question),
            _ => servers
                .iter()
                .map(|server| Contender::token_server(server.subject().name(), mode, server, &setup))
                .collect(),
        };
        let comparison = Comparison::new(mode, measure(&contenders, &meter, pace).await?);
        talk(&report::mode(&comparison));
        report.modes.push(comparison);
    }
    for (memory, server) in report.memory.iter_mut().zip(&servers) {
        memory.after_load_mib = Some(server.process().memory()? as f64 / 1024.0);
    }
    talk(&report::memory(&report.memory));

    if options.flatness {
        for growth in Growth::ALL {
            let flatness = growth.measure(&options.program(Subject::Certbind)?, cores, &meter, pace).await?;
            talk(&report::flatness(&flatness));
            report.flatness.push(flatness);
        }
    }
    Ok(report)
}
