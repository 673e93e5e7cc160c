//! Runs load against servers and turns what was seen into figures.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::figures::{Figures, median, percentile_us, range};
use crate::load::{self, Connection, Outcome, Peer};
use crate::meter::Meter;
use crate::options::Pace;
use crate::scenario::{Load, Mode, get};
use crate::server::Server;
use crate::setup::Setup;

/// Idle connections, to see what one weighs.
const IDLE_CONNECTIONS: usize = 1000;

/// A warm-up is given assertions for so many requests a second: more than any server here answers.
const MOST_PER_SECOND: f64 = 15_000.0;

/// A server with the files that belong to it.
#[derive(Clone, Copy)]
pub(crate) struct Contender<'a> {
    pub(crate) name: &'static str,
    pub(crate) server: &'a Server,
    pub(crate) setup: &'a Setup,
}

/// The runs of one mode on one server.
#[derive(Serialize)]
pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) median: Figures,
    pub(crate) runs: Vec<Figures>,
    pub(crate) first_error: Option<String>,
}

/// A ratio of costs in V, of runs that followed each other.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Ratio {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// How much memory a server takes.
#[derive(Serialize)]
pub(crate) struct Memory {
    pub(crate) name: &'static str,
    pub(crate) at_start_mib: f64,
    pub(crate) per_idle_connection_kib: f64,
    pub(crate) idle_connections: usize,
    pub(crate) after_load_mib: Option<f64>,
}

/// Measures one mode. The contenders take turns, so that they share good and bad minutes of the machine.
pub(crate) async fn measure(
    mode: Mode,
    contenders: &[Contender<'_>],
    meter: &Meter,
    pace: Pace,
) -> anyhow::Result<Vec<Series>> {
    let mut runs = vec![Vec::new(); contenders.len()];
    let mut first_errors = vec![None; contenders.len()];
    for _ in 0..pace.runs {
        for (index, contender) in contenders.iter().enumerate() {
            let (figures, error) = run(mode, *contender, meter, pace).await?;
            runs[index].push(figures);
            first_errors[index] = first_errors[index].take().or(error);
        }
    }
    let series = contenders.iter().zip(runs).zip(first_errors);
    Ok(series.map(|((contender, runs), first_error)| Series::new(contender.name, runs, first_error)).collect())
}

impl Series {
    fn new(name: &'static str, runs: Vec<Figures>, first_error: Option<String>) -> Self {
        Self { name, median: Figures::of_several(&runs), runs, first_error }
    }
}

impl Ratio {
    /// What `series` costs as a multiple of `base`, run by run.
    pub(crate) fn of(base: &Series, series: &Series) -> Self {
        let pairs = base.runs.iter().zip(&series.runs);
        let ratios: Vec<f64> = pairs.map(|(base, run)| run.cpu_v_per_request / base.cpu_v_per_request).collect();
        let (low, high) = range(&ratios);
        Self { median: median(&ratios), low, high }
    }
}

/// One run, after a warm-up.
async fn run(
    mode: Mode,
    contender: Contender<'_>,
    meter: &Meter,
    pace: Pace,
) -> anyhow::Result<(Figures, Option<String>)> {
    let Contender { server, setup, .. } = contender;
    let probe = || Ok((server.process().cpu()?, Instant::now()));
    let expected = Load { rate: MOST_PER_SECOND, duration: pace.warmup };
    let (warm, ..) = load::run(&mode.plan(setup, server, pace, expected)?, probe).await?;
    let expected = Load { rate: rate(&warm), duration: pace.run };
    let (outcome, before, after) = load::run(&mode.plan(setup, server, pace, expected)?, probe).await?;
    let v_us = meter.between(before.1, after.1);
    let errors = warm.errors + outcome.errors;
    let figures = figures(&outcome, after.0 - before.0, v_us, errors);
    Ok((figures, warm.first_error.or(outcome.first_error)))
}

fn figures(outcome: &Outcome, cpu: Duration, v_us: f64, errors: u64) -> Figures {
    let requests = outcome.latencies.len() as f64;
    let cpu_us_per_request = cpu.as_secs_f64() * 1e6 / requests;
    Figures {
        requests_per_second: rate(outcome),
        cpu_us_per_request,
        cpu_v_per_request: cpu_us_per_request / v_us,
        v_us,
        p50_us: percentile_us(&outcome.latencies, 0.5),
        p99_us: percentile_us(&outcome.latencies, 0.99),
        p999_us: percentile_us(&outcome.latencies, 0.999),
        requests,
        errors,
    }
}

fn rate(outcome: &Outcome) -> f64 {
    outcome.latencies.len() as f64 / outcome.elapsed.as_secs_f64()
}

/// Weighs a server that has just started: alone, and with connections that were used once and are idle.
pub(crate) async fn weigh(contender: Contender<'_>) -> anyhow::Result<Memory> {
    let Contender { name, server, setup } = contender;
    let at_start = server.process().memory()? as f64;
    let peer = Mode::Certificate.peer(setup, server)?;
    let idle = open_idle(&peer).await?;
    let grown = server.process().memory()? as f64 - at_start;
    drop(idle);
    Ok(Memory {
        name,
        at_start_mib: at_start / 1024.0,
        per_idle_connection_kib: grown / IDLE_CONNECTIONS as f64,
        idle_connections: IDLE_CONNECTIONS,
        after_load_mib: None,
    })
}

async fn open_idle(peer: &Peer) -> anyhow::Result<Vec<Connection>> {
    let request = get("/.well-known/oauth-authorization-server");
    let mut idle = Vec::with_capacity(IDLE_CONNECTIONS);
    for _ in 0..IDLE_CONNECTIONS {
        let mut connection = peer.connect().await?;
        connection.exchange(&request).await?;
        idle.push(connection);
    }
    Ok(idle)
}
