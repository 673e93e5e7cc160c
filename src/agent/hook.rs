//! What is to happen when a new token is in place: a command, or a signal to the program that uses it.

use std::process::Stdio;
use std::str::FromStr;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};
use tokio::sync::Notify;

/// How long a command may run.
const DEADLINE: Duration = Duration::from_secs(30);

/// What is done after each renewal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hook {
    /// A line for the shell. It sees no token, neither on its command line nor in its environment.
    Command(String),
    /// A signal.
    Signal(Signal),
}

impl FromStr for Hook {
    type Err = std::convert::Infallible;

    /// The name of a signal, with or without `SIG`; anything else is for the shell.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let signal = match text.strip_prefix("SIG").unwrap_or(text) {
            "HUP" => Signal::HUP,
            "INT" => Signal::INT,
            "TERM" => Signal::TERM,
            "USR1" => Signal::USR1,
            "USR2" => Signal::USR2,
            "WINCH" => Signal::WINCH,
            _ => return Ok(Self::Command(text.to_owned())),
        };
        Ok(Self::Signal(signal))
    }
}

impl Hook {
    /// Does it each time it is told, until it is dropped. What it is told while a command runs is done once, after that.
    ///
    /// `program` is the process that signals go to.
    pub async fn follow(self, renewed: &Notify, program: Option<Pid>) {
        loop {
            renewed.notified().await;
            match (&self, program) {
                (Self::Command(line), _) => run(line, DEADLINE).await,
                (Self::Signal(signal), Some(program)) => {
                    if let Err(error) = kill_process(program, *signal) {
                        tracing::warn!(%error, "the program cannot be told of the new token");
                    }
                }
                (Self::Signal(_), None) => {}
            }
        }
    }
}

async fn run(line: &str, deadline: Duration) {
    let mut command = Command::new("/bin/sh");
    // Out of the way of signals from a terminal, and with whatever it starts in one group.
    command.arg("-c").arg(line).stdin(Stdio::null()).process_group(0);
    let mut running = match command.spawn() {
        Ok(child) => Running(child),
        Err(error) => return tracing::error!(%error, "on-renew: no shell"),
    };
    match tokio::time::timeout(deadline, running.0.wait()).await {
        Ok(Ok(status)) if status.success() => tracing::debug!("on-renew: done"),
        Ok(Ok(status)) => tracing::error!(%status, "on-renew: the command failed"),
        Ok(Err(error)) => tracing::error!(%error, "on-renew: it is not known how the command ended"),
        Err(_) => {
            tracing::error!(seconds = deadline.as_secs(), "on-renew: the command took too long and is ended");
            running.kill();
            let _ = running.0.wait().await;
        }
    }
}

/// A command that does not outlive whoever waits for it.
struct Running(Child);

impl Running {
    /// With all that it has started. Its number is its own as long as nobody has asked how it ended.
    fn kill(&self) {
        let id = self.0.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let _ = id.map(|group| kill_process_group(group, Signal::KILL));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_has_a_name_and_all_else_is_for_the_shell() {
        for (text, expected) in [
            ("HUP", Hook::Signal(Signal::HUP)),
            ("SIGUSR1", Hook::Signal(Signal::USR1)),
            ("hup", Hook::Command("hup".to_owned())),
            ("KILL", Hook::Command("KILL".to_owned())),
            ("nginx -s reload", Hook::Command("nginx -s reload".to_owned())),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }
    #[tokio::test]
    async fn a_command_that_takes_too_long_is_ended_with_all_that_it_has_started() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("started");
        let line = format!("sleep 300 & echo $! > {0}~; mv {0}~ {0}; wait", file.display());
        run(&line, Duration::from_secs(1)).await;
        let id = std::fs::read_to_string(&file).unwrap();
        let stat = format!("/proc/{}/stat", id.trim());
        // What nobody waits for any more may stay as an entry, and runs no more.
        let runs = || std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
        let began = std::time::Instant::now();
        while runs() {
            assert!(began.elapsed() < Duration::from_secs(10), "it goes on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
