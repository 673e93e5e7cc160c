//! The figures in words and columns, or as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use crate::figures::Figures;
use crate::flatness::Flatness;
use crate::measure::{Memory, Ratio, Series};
use crate::options::Pace;
use crate::process::Cores;
use crate::scenario::{MOST_OF_BARE, Mode};

/// All runs of one mode.
#[derive(Serialize)]
pub(crate) struct Comparison {
    pub(crate) mode: Mode,
    pub(crate) servers: Vec<Series>,
    /// Cost of certbind as a multiple of the bare server's.
    pub(crate) ratio: Option<Ratio>,
}

impl Comparison {
    pub(crate) fn new(mode: Mode, servers: Vec<Series>) -> Self {
        let ratio = match &servers[..] {
            [bare, real] => Some(Ratio::of(bare, real)),
            _ => None,
        };
        Self { mode, servers, ratio }
    }
}

/// Everything that was measured.
#[derive(Serialize)]
pub(crate) struct Report {
    /// Whether the server had a core of its own.
    pub(crate) server_alone_on_its_core: bool,
    pub(crate) connections: usize,
    pub(crate) runs: usize,
    pub(crate) seconds_per_run: f64,
    pub(crate) modes: Vec<Comparison>,
    pub(crate) memory: Vec<Memory>,
    pub(crate) flatness: Vec<Flatness>,
}

impl Report {
    pub(crate) fn new(cores: Cores, pace: Pace) -> Self {
        Self {
            server_alone_on_its_core: cores == Cores::Apart,
            connections: pace.connections,
            runs: pace.runs,
            seconds_per_run: pace.run.as_secs_f64(),
            modes: Vec::new(),
            memory: Vec::new(),
            flatness: Vec::new(),
        }
    }

    /// Requests that were not answered with 200, in all modes. There must be none.
    pub(crate) fn errors(&self) -> u64 {
        let modes = self.modes.iter().flat_map(|mode| &mode.servers);
        let steps = self.flatness.iter().flat_map(|flatness| &flatness.steps).map(|step| &step.series);
        modes.chain(steps).map(|series| series.median.errors).sum()
    }

    pub(crate) fn heading(&self) -> String {
        let place = if self.server_alone_on_its_core {
            "server on core 0, load on core 1"
        } else {
            "server and load share what cores there are: costs are too high, ratios still tell"
        };
        format!(
            "{place}; {} connections; {} × {} s of each, medians.\n\
             V is one ES256 verification on the server's core meanwhile. real : bare is the figure that counts.\n",
            self.connections, self.runs, self.seconds_per_run,
        )
    }
}

/// One mode: a line for each server, the ratio, what is to be reached.
pub(crate) fn mode(comparison: &Comparison) -> String {
    let (first, second) = comparison.mode.goals();
    let goals = if first > second { format!("≤ {first} V, then {second} V") } else { format!("≤ {first} V") };
    let mut text = format!("{}  (to reach: {goals})\n{}", comparison.mode.title(), columns());
    for series in &comparison.servers {
        text += &row(series);
    }
    if let Some(ratio) = comparison.ratio {
        let _ = writeln!(
            text,
            "  real : bare = {:.2}  ({:.2} to {:.2}; to reach: ≤ {MOST_OF_BARE})",
            ratio.median, ratio.low, ratio.high
        );
    }
    text
}

pub(crate) fn columns() -> String {
    format!(
        "  {:<16}{:>12}{:>9}{:>8}{:>7}{:>10}{:>10}{:>10}{:>8}\n",
        "", "requests/s", "CPU µs", "CPU V", "V µs", "p50 ms", "p99 ms", "p99.9 ms", "errors"
    )
}

pub(crate) fn row(series: &Series) -> String {
    let Figures {
        requests_per_second,
        cpu_us_per_request,
        cpu_v_per_request,
        v_us,
        p50_us,
        p99_us,
        p999_us,
        errors,
        ..
    } = series.median;
    let [p50, p99, p999] = [p50_us, p99_us, p999_us].map(|us| us / 1000.0);
    let mut text = format!(
        "  {:<16}{requests_per_second:>12.0}{cpu_us_per_request:>9.1}{cpu_v_per_request:>8.2}{v_us:>7.1}\
         {p50:>10.2}{p99:>10.2}{p999:>10.2}{errors:>8}\n",
        series.name
    );
    if let Some(error) = &series.first_error {
        let _ = writeln!(text, "    first error: {error}");
    }
    text
}

/// What the servers weigh.
pub(crate) fn memory(memories: &[Memory]) -> String {
    let mut text = format!(
        "memory  (to reach: ≤ 20 MiB at start, ≤ 30 KiB for an idle mTLS connection)\n  {:<16}{:>14}{:>22}{:>20}\n",
        "", "at start MiB", "idle connection KiB", "after the load MiB"
    );
    for Memory { name, at_start_mib, per_idle_connection_kib, after_load_mib, .. } in memories {
        let after = after_load_mib.map_or_else(String::new, |mib| format!("{mib:.1}"));
        let _ = writeln!(text, "  {name:<16}{at_start_mib:>14.1}{per_idle_connection_kib:>22.1}{after:>20}");
    }
    text
}

/// Whether the cost stays the same as something grows.
pub(crate) fn flatness(flatness: &Flatness) -> String {
    let mut text = format!("{}  (to reach: unchanged)\n{}", flatness.of, columns());
    for step in &flatness.steps {
        text += &row(&step.series);
        let _ = writeln!(
            text,
            "    {:.3} × the first; started in {:.2} s; {:.1} MiB at start",
            step.ratio.median, step.started_in_seconds, step.at_start_mib
        );
    }
    text
}
