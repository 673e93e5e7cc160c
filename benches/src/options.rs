//! The command line of the bench.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::scenario::Mode;

/// Measures what a request costs certbind, beside the bare server. How to read the figures: benches/README.md.
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// A smoke test of some 40 seconds: two short runs of each mode.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Also: does a request cost the same with 100,000 registered clients, and with 1,000,000 live jtis? Takes minutes more.
    #[arg(long)]
    pub(crate) flatness: bool,
    /// The figures of every run as one JSON object, and nothing else.
    #[arg(long)]
    pub(crate) json: bool,
    /// Measure this server alone; without it both in turn.
    #[arg(long)]
    pub(crate) only: Option<Subject>,
    /// Measure these modes alone.
    #[arg(long, value_delimiter = ',', value_name = "MODE")]
    pub(crate) modes: Vec<Mode>,
    /// Runs of each mode on each server [default: 3, with --quick 2].
    #[arg(long)]
    runs: Option<usize>,
    /// Seconds of a run [default: 4, with --quick 1.2].
    #[arg(long)]
    seconds: Option<f64>,
    /// Seconds of load before a run [default: 0.5, with --quick 0.3].
    #[arg(long)]
    warmup: Option<f64>,
    /// Connections of the load.
    #[arg(long, default_value_t = 8)]
    pub(crate) connections: usize,
    /// The certbind program [default: the one beside this one].
    #[arg(long)]
    certbind: Option<PathBuf>,
    /// Keep the folder with the servers' files and logs, and say where it is.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Time ES256 verifications until the reader is gone.
    #[arg(long, hide = true)]
    pub(crate) measure_v: bool,
}

/// A server that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// What the other is held against.
    Bare,
    /// The real one.
    Certbind,
}

impl Subject {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Certbind => "certbind",
        }
    }
}

/// How long and how often is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) runs: usize,
    pub(crate) run: Duration,
    pub(crate) warmup: Duration,
    pub(crate) connections: usize,
}

impl Options {
    pub(crate) fn pace(&self) -> Pace {
        let (runs, seconds, warmup) = if self.quick { (2, 1.2, 0.3) } else { (3, 4.0, 0.5) };
        Pace {
            runs: self.runs.unwrap_or(runs).max(1),
            run: Duration::from_secs_f64(self.seconds.unwrap_or(seconds)),
            warmup: Duration::from_secs_f64(self.warmup.unwrap_or(warmup)),
            connections: self.connections.max(1),
        }
    }

    pub(crate) fn subjects(&self) -> Vec<Subject> {
        self.only.map_or_else(|| vec![Subject::Bare, Subject::Certbind], |only| vec![only])
    }

    pub(crate) fn modes(&self) -> Vec<Mode> {
        if self.modes.is_empty() { Mode::ALL.to_vec() } else { self.modes.clone() }
    }

    /// The program of this server.
    pub(crate) fn program(&self, subject: Subject) -> anyhow::Result<PathBuf> {
        match (subject, &self.certbind) {
            (Subject::Certbind, Some(path)) => Ok(path.clone()),
            _ => Ok(std::env::current_exe()?.with_file_name(subject.name())),
        }
    }
}
