//! V: the CPU time of one ES256 verification on the server's core, measured while the server works there.
//!
//! A process of its own sits on that core, verifies a few signatures ten times a second (well under a hundredth of the core) and
//! prints what one took. Times drift by a factor of two from hour to hour, their ratio to V does not.

use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, ParsedPublicKey,
};

use crate::figures::median;
use crate::process::{Cores, Process};

const PAUSE: Duration = Duration::from_millis(100);

/// Verifications of a batch. The first ones warm the caches that the server has emptied, and do not count.
const BATCH: usize = 6;
const COLD: usize = 2;

/// Prints a time in nanoseconds for each batch, until nobody reads any more.
pub(crate) fn run() -> anyhow::Result<()> {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
    // As long as the signed part of a usual assertion.
    let message = [b'm'; 400];
    let signature = key.sign(&SystemRandom::new(), &message)?;
    let public = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.public_key().as_ref())?;
    let mut out = std::io::stdout();
    loop {
        let mut times = Vec::with_capacity(BATCH);
        for _ in 0..BATCH {
            let start = Instant::now();
            public.verify_sig(&message, signature.as_ref())?;
            times.push(start.elapsed().as_nanos() as f64);
        }
        // The median: a verification during which the kernel gave the core to the server does not count.
        let written = writeln!(out, "{}", median(&times[COLD..])).and_then(|()| out.flush());
        if written.is_err() {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
}

/// The measuring process, and what it has said so far.
pub(crate) struct Meter {
    samples: Arc<Mutex<Vec<Sample>>>,
    _process: Process,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    micros: f64,
}

impl Meter {
    pub(crate) fn start(cores: Cores, dir: &Path) -> anyhow::Result<Self> {
        let mut command = cores.server_side(&std::env::current_exe()?);
        command.arg("--measure-v");
        let mut process = Process::start(command, "the meter", &dir.join("meter.log"))?;
        let samples = Arc::new(Mutex::new(Vec::new()));
        let (lines, shared) = (process.lines()?, Arc::clone(&samples));
        std::thread::spawn(move || {
            for nanos in lines.filter_map(|line| line.parse::<f64>().ok()) {
                let sample = Sample { at: Instant::now(), micros: nanos / 1000.0 };
                shared.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
            }
        });
        Ok(Self { samples, _process: process })
    }

    /// V in microseconds between two instants: the median; of the whole time when nothing was measured between them.
    pub(crate) fn between(&self, from: Instant, to: Instant) -> f64 {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let within: Vec<f64> = samples.iter().filter(|s| from <= s.at && s.at <= to).map(|s| s.micros).collect();
        if within.is_empty() { median(&samples.iter().map(|s| s.micros).collect::<Vec<_>>()) } else { median(&within) }
    }
}
