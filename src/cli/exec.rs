//! `certbind exec -- CMD`: runs a program with a token in its environment or in a file, and keeps the file fresh.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::Arc;

use anyhow::Context as _;
use certbind_client::{AccessToken, TokenSource};
use certbind_proto::entropy::{OsEntropy, unguessable_id};
use certbind_proto::time::{Clock as _, SystemClock};
use clap::Args;
use rustix::process::{Pid, Signal, getpgrp, kill_process};
use rustix::termios::tcgetpgrp;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};

use super::keep::{LAST_WORK, OutputArgs, loaded};
use super::token::{AskArgs, refused};
use super::{Exit, Misused, log};
use crate::agent::{Keeper, Outputs};
use crate::config::{Environment, LogFormat, LogLevel};

/// Where a program finds the token that it began with.
const VARIABLE: &str = "CERTBIND_TOKEN";
/// Where it finds the path of the file with the token in force.
const FILE_VARIABLE: &str = "CERTBIND_TOKEN_FILE";
/// Where it finds the path of the folder with token, certificate and key.
const FOLDER_VARIABLE: &str = "CERTBIND_TOKEN_DIR";

/// What a shell says of a program that it cannot run.
const NOT_RUN: u8 = 126;
/// What it says of one that it cannot find.
const NOT_FOUND: u8 = 127;

/// What is run, and how it gets its token.
#[derive(Debug, Args)]
pub(super) struct ExecArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// The environment variable for the token that the program begins with [default: CERTBIND_TOKEN, if there is neither
    /// --file nor --dir]. It does not change: a program that outlives a token needs --file or --dir.
    #[arg(long, value_name = "NAME")]
    env: Option<String>,
    #[command(flatten)]
    outputs: OutputArgs,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Runs the program to its end, with a token all the time. Without a first one it is not started.
///
/// # Errors
/// When keys cannot be read or a place for the token cannot be used. What the server says is an exit code.
pub(super) fn run(args: ExecArgs, environment: &Environment) -> anyhow::Result<Exit> {
    let variable = args.variable()?;
    let files = args.ask.bound_files(environment)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let settings = args.ask.settings(loaded(&files).await?, environment)?;
        let roots = settings.roots.clone();
        let (clock, entropy) = (Arc::new(SystemClock), Arc::new(OsEntropy));
        let source = TokenSource::new(settings, clock.clone(), entropy.clone())?;
        let first = match source.token().await {
            Ok(token) => token,
            Err(error) => return Ok(refused(&error)),
        };
        let _log = log::start(LogFormat::Pretty, LogLevel::Warn)?;
        let mut outputs = args.outputs.outputs(&args.ask.read(&files, environment))?;
        let _follower = source.follow(files);
        let again = source.clone();
        let _authorities = args.ask.follow_authorities(roots, environment, move || _ = again.retry_now());
        outputs.put(&first, clock.now(), &unguessable_id(&*entropy)).context("the token cannot be written")?;
        let command = args.command(variable.as_deref(), &first, &outputs).context("no program")?;
        let keeper = Keeper { source, outputs, clock, entropy, placed: Some(first) };
        args.accompany(command, keeper).await
    });
    runtime.shutdown_timeout(LAST_WORK);
    outcome
}

impl ExecArgs {
    fn variable(&self) -> Result<Option<String>, Misused> {
        let is_named = |c: char| c.is_ascii_alphanumeric() || c == '_';
        match &self.env {
            Some(name) if name.chars().all(is_named) && name.starts_with(|c: char| !c.is_ascii_digit()) => {
                Ok(Some(name.clone()))
            }
            Some(name) => Err(Misused(format!("--env {name}: letters, digits and _ make the name of a variable"))),
            None if self.outputs.file.is_none() && self.outputs.dir.is_none() => Ok(Some(VARIABLE.to_owned())),
            None => Ok(None),
        }
    }

    fn command(&self, variable: Option<&str>, token: &AccessToken, outputs: &Outputs) -> Option<Command> {
        let (program, arguments) = self.command.split_first()?;
        let mut command = Command::new(program);
        // One that we were started with is of somebody else.
        command.args(arguments).env_remove(VARIABLE);
        if let Some(name) = variable {
            command.env(name, token.as_str());
        }
        if let Some(file) = &outputs.file {
            command.env(FILE_VARIABLE, file.path());
        }
        if let Some(folder) = &outputs.folder {
            command.env(FOLDER_VARIABLE, folder.path());
        }
        Some(command)
    }

    /// From the start of the program to its end.
    async fn accompany(&self, mut command: Command, keeper: Keeper) -> anyhow::Result<Exit> {
        let mut signals = heard()?;
        let mut program = match command.spawn() {
            Ok(program) => program,
            Err(error) => return Ok(not_started(command.as_std().get_program(), &error)),
        };
        let renewed = Arc::new(Notify::new());
        let id = number_of(&program);
        let hook = self.outputs.hook();
        let follow = async {
            match hook {
                Some(hook) => hook.follow(&renewed, id).await,
                None => std::future::pending().await,
            }
        };
        let keep = keeper.keep(|| renewed.notify_one());
        tokio::pin!(follow, keep);
        loop {
            tokio::select! {
                biased;
                status = program.wait() => return Ok(ended(status?)),
                Some(signal) = signals.recv() => forward(signal, &program),
                () = &mut keep => {}
                () = &mut follow => {}
            }
        }
    }
}

/// As a shell tells it: its own code, or 128 and the signal that ended it.
fn ended(status: ExitStatus) -> Exit {
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    Exit::As(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

fn not_started(program: &OsStr, error: &io::Error) -> Exit {
    eprintln!("certbind: cannot run {}: {error}", program.display());
    Exit::As(if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUN })
}

/// The number of a program. It is its own until somebody has asked how it ended.
fn number_of(program: &Child) -> Option<Pid> {
    program.id().and_then(|id| Pid::from_raw(id.cast_signed()))
}

/// The signals that a program may be sent by way of this one. From here on they do not end it.
fn heard() -> io::Result<mpsc::Receiver<Signal>> {
    const SIGNALS: [Signal; 8] = [
        Signal::ALARM,
        Signal::HUP,
        Signal::INT,
        Signal::QUIT,
        Signal::TERM,
        Signal::USR1,
        Signal::USR2,
        Signal::WINCH,
    ];
    let (told, signals) = mpsc::channel(SIGNALS.len());
    let ignored = ignored();
    for number in SIGNALS {
        if ignored & (1 << (number.as_raw() - 1)) != 0 {
            continue;
        }
        let mut heard = signal(SignalKind::from_raw(number.as_raw()))?;
        let told = told.clone();
        tokio::spawn(async move { while heard.recv().await.is_some() && told.send(number).await.is_ok() {} });
    }
    Ok(signals)
}

/// Signals that whoever started us wants to be ignored, as nohup does, one bit each. They stay so for the program as well, if nobody
/// hears them.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

fn forward(signal: Signal, program: &Child) {
    let is_of_terminal = matches!(signal, Signal::INT | Signal::QUIT | Signal::WINCH);
    // A terminal sends these to all its foreground processes: the program has it already.
    if is_of_terminal && tcgetpgrp(io::stdin()).is_ok_and(|foreground| foreground == getpgrp()) {
        return;
    }
    let sent = number_of(program).map_or(Ok(()), |program| kill_process(program, signal));
    if let Err(error) = sent {
        tracing::warn!(%error, "a signal cannot be passed on");
    }
}
