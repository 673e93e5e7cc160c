//! Runs load against servers and turns what was seen into figures.

use std::pin::Pin;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::figures::{Figures, median, percentile_us, range};
use crate::load::{self, Connection, Outcome, Peer, Plan};
use crate::meter::Meter;
use crate::options::Pace;
use crate::process::Process;
use crate::scenario::{Load, Mode, get};
use crate::server::Server;
use crate::setup::Setup;

/// Idle connections, to see what one weighs.
const IDLE_CONNECTIONS: usize = 1000;

/// A warm-up is given assertions for so many requests a second: more than any server here answers.
const MOST_PER_SECOND: f64 = 15_000.0;

/// A process that is measured, and the load that is made for it.
pub(crate) struct Contender<'a> {
    pub(crate) name: &'static str,
    pub(crate) process: &'a Process,
    pub(crate) plan: Box<Planner<'a>>,
}

/// Makes as much load as is wanted.
type Planner<'a> = dyn Fn(Pace, Load) -> Planned<'a> + 'a;

/// The load, once it is made.
pub(crate) type Planned<'a> = Pin<Box<dyn Future<Output = anyhow::Result<Plan>> + 'a>>;

impl<'a> Contender<'a> {
    /// A server that is asked for tokens.
    pub(crate) fn token_server(name: &'static str, mode: Mode, server: &'a Server, setup: &'a Setup) -> Self {
        let plan = move |pace, load| -> Planned<'a> { Box::pin(async move { mode.plan(setup, server, pace, load) }) };
        Self { name, process: server.process(), plan: Box::new(plan) }
    }
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

/// Measures each contender. They take turns, so that all share good and bad minutes of the machine.
pub(crate) async fn measure(contenders: &[Contender<'_>], meter: &Meter, pace: Pace) -> anyhow::Result<Vec<Series>> {
    let mut runs = vec![Vec::new(); contenders.len()];
    let mut first_errors = vec![None; contenders.len()];
    for _ in 0..pace.runs {
        for (index, contender) in contenders.iter().enumerate() {
            let (figures, error) = run(contender, meter, pace).await?;
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
async fn run(contender: &Contender<'_>, meter: &Meter, pace: Pace) -> anyhow::Result<(Figures, Option<String>)> {
    let probe = || Ok((contender.process.cpu()?, Instant::now()));
    let expected = Load { rate: MOST_PER_SECOND, duration: pace.warmup };
    let (warm, ..) = load::run(&(contender.plan)(pace, expected).await?, probe).await?;
    let expected = Load { rate: rate(&warm), duration: pace.run };
    let (outcome, before, after) = load::run(&(contender.plan)(pace, expected).await?, probe).await?;
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
pub(crate) async fn weigh(name: &'static str, server: &Server, setup: &Setup) -> anyhow::Result<Memory> {
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
