//! Servers as processes: started on their core, watched by what /proc says of them, ended when dropped.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};

/// USER_HZ: in what /proc counts CPU time. It is 100 on every architecture that Linux has now.
const TICKS_PER_SECOND: u32 = 100;

/// Which core does what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cores {
    /// The server runs on core 0, the load on core 1.
    Apart,
    /// There is one core, or no `taskset`: the kernel decides. The figures are worse, the ratios still mean something.
    Shared,
}

impl Cores {
    /// Puts this process, which makes the load, on its core. To be called while it has one thread.
    pub(crate) fn claim() -> Self {
        let several = std::thread::available_parallelism().is_ok_and(|cores| cores.get() >= 2);
        let pid = std::process::id().to_string();
        let works = |args: &[&str]| {
            let command = Command::new("taskset").args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
            command.is_ok_and(|status| status.success())
        };
        let apart = several && works(&["-c", "0", "true"]) && works(&["-cp", "1", &pid]);
        if apart { Self::Apart } else { Self::Shared }
    }

    /// A command that runs on the server's core.
    pub(crate) fn server_side(self, program: &Path) -> Command {
        match self {
            Self::Apart => {
                let mut command = Command::new("taskset");
                command.args(["-c", "0"]).arg(program);
                command
            }
            Self::Shared => Command::new(program),
        }
    }
}

/// A child process.
pub(crate) struct Process {
    child: Child,
    name: &'static str,
}

impl Process {
    /// Starts it; what it says on standard error goes to `log`.
    pub(crate) fn start(mut command: Command, name: &'static str, log: &Path) -> anyhow::Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn();
        Ok(Self { child: child.with_context(|| format!("{name} does not start: {command:?}"))?, name })
    }

    /// What it prints, line by line. Once only.
    pub(crate) fn lines(&mut self) -> anyhow::Result<impl Iterator<Item = String> + Send + use<>> {
        let stdout = self.child.stdout.take().context("standard output is read already")?;
        Ok(BufReader::new(stdout).lines().map_while(Result::ok))
    }

    /// An error if it has ended.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended: {status}", self.name),
            None => Ok(()),
        }
    }

    /// The CPU time that all its threads have used.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        parse_cpu(&self.proc_file("stat")?).with_context(|| format!("/proc says nothing about {}", self.name))
    }

    /// Its resident memory in KiB.
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        parse_memory(&self.proc_file("status")?).with_context(|| format!("/proc says nothing about {}", self.name))
    }

    fn proc_file(&self, file: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(path).with_context(|| format!("{} is gone", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It keeps nothing that matters; not even a data folder outlives the bench.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address on loopback that nobody listens on.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

/// `utime` and `stime` of /proc/PID/stat. The name in parentheses may itself hold spaces and parentheses.
fn parse_cpu(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(11).map(str::parse::<u32>);
    let ticks = times.next()?.ok()? + times.next()?.ok()?;
    Some(Duration::from_secs(1) * ticks / TICKS_PER_SECOND)
}

/// `VmRSS` of /proc/PID/status.
fn parse_memory(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    value.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_the_name() {
        let stat = "71 (a) b (c) S 1 71 71 0 -1 4194560 1 2 3 4 150 25 9 9 20 0 1 0 7 8 9";
        assert_eq!(parse_cpu(stat), Some(Duration::from_millis(1750)));
        assert_eq!(parse_cpu("71 (a) S 1"), None);
    }

    #[test]
    fn memory_is_read_in_kib() {
        assert_eq!(parse_memory("Name:\tx\nVmHWM:\t  900 kB\nVmRSS:\t   812 kB\n"), Some(812));
        assert_eq!(parse_memory("Name:\tx\n"), None);
    }

    #[test]
    fn this_process_has_used_memory_and_cpu_time() {
        assert!(parse_memory(&fs::read_to_string("/proc/self/status").unwrap()).unwrap() > 100);
        assert!(parse_cpu(&fs::read_to_string("/proc/self/stat").unwrap()).is_some());
    }
}
