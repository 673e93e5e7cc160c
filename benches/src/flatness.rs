//! Does a request cost the same, however many clients are registered and however many used assertions are remembered?

use std::path::Path;

use serde::Serialize;
use tempfile::TempDir;

use crate::jtis;
use crate::measure::{Contender, Ratio, Series, measure};
use crate::meter::Meter;
use crate::options::{Pace, Subject};
use crate::process::Cores;
use crate::scenario::Mode;
use crate::server::Server;
use crate::setup::{Place, Setup};

/// One thing that grows.
#[derive(Serialize)]
pub(crate) struct Flatness {
    pub(crate) of: &'static str,
    pub(crate) steps: Vec<Step>,
}

/// A server with so much of it.
#[derive(Serialize)]
pub(crate) struct Step {
    pub(crate) series: Series,
    /// Cost as a multiple of the first step's.
    pub(crate) ratio: Ratio,
    pub(crate) started_in_seconds: f64,
    pub(crate) at_start_mib: f64,
}

/// What grows, how far, and which mode could feel it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Growth {
    LiveJtis,
    RegisteredClients,
}

/// How much of it a server has, and what that is called.
struct Size {
    name: &'static str,
    clients: usize,
    jtis: usize,
}

impl Growth {
    pub(crate) const ALL: [Self; 2] = [Self::RegisteredClients, Self::LiveJtis];

    const fn title(self) -> &'static str {
        match self {
            Self::LiveJtis => "cost by the number of live jtis (signed assertion, connection kept)",
            Self::RegisteredClients => "cost by the number of registered clients (certificate, connection kept)",
        }
    }

    const fn mode(self) -> Mode {
        match self {
            Self::LiveJtis => Mode::Assertion,
            Self::RegisteredClients => Mode::Certificate,
        }
    }

    const fn sizes(self) -> &'static [Size] {
        match self {
            Self::LiveJtis => &[
                Size { name: "0 jtis", clients: 10, jtis: 0 },
                Size { name: "1,000,000 jtis", clients: 10, jtis: 1_000_000 },
            ],
            Self::RegisteredClients => &[
                Size { name: "10 clients", clients: 10, jtis: 0 },
                Size { name: "1,000 clients", clients: 1_000, jtis: 0 },
                Size { name: "100,000 clients", clients: 100_000, jtis: 0 },
            ],
        }
    }

    /// Starts a server of each size and lets them take turns.
    pub(crate) async fn measure(
        self,
        program: &Path,
        cores: Cores,
        meter: &Meter,
        pace: Pace,
    ) -> anyhow::Result<Flatness> {
        let mut started = Vec::new();
        for size in self.sizes() {
            started.push(start(size, program, cores).await?);
        }
        let contenders: Vec<_> = started.iter().map(|started| started.contender(self.mode())).collect();
        let series = measure(&contenders, meter, pace).await?;
        let ratios: Vec<_> = series.iter().map(|of| Ratio::of(&series[0], of)).collect();
        let steps = started.iter().zip(series).zip(ratios).map(|((started, series), ratio)| Step {
            series,
            ratio,
            started_in_seconds: started.server.started_in().as_secs_f64(),
            at_start_mib: started.at_start_mib,
        });
        Ok(Flatness { of: self.title(), steps: steps.collect() })
    }
}

struct Started {
    name: &'static str,
    server: Server,
    setup: Setup,
    at_start_mib: f64,
    _dir: TempDir,
}

impl Started {
    fn contender(&self, mode: Mode) -> Contender<'_> {
        Contender::token_server(self.name, mode, &self.server, &self.setup)
    }
}

async fn start(size: &Size, program: &Path, cores: Cores) -> anyhow::Result<Started> {
    let dir = tempfile::Builder::new().prefix("certbind-bench-").tempdir()?;
    let setup = Setup::make(dir.path(), size.clients, Place::Named)?;
    if size.jtis > 0 {
        jtis::fill(&setup.data_dir(), size.jtis).await?;
    }
    let server = Server::start(Subject::Certbind, program, cores, &setup).await?;
    let at_start_mib = server.process().memory()? as f64 / 1024.0;
    Ok(Started { name: size.name, server, setup, at_start_mib, _dir: dir })
}
