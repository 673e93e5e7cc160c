//! The list of commands.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use certbind_proto::time::{Clock as _, SystemClock};

use crate::config::Environment;
use admin_api::CallError;

pub mod config;
pub mod demo;
pub mod dev;
pub mod explain;
pub mod log;
pub mod serve;

mod admin_api;
mod agent;
mod apply;
mod audit;
mod audit_log;
mod backup;
mod client;
mod client_explain;
mod clients;
mod doctor;
mod exec;
mod followed;
mod guard;
mod keep;
mod key;
mod poll;
mod print;
mod proxies;
mod report;
mod revocation_list;
mod revoke;
mod signing_keys;
mod status;
mod storage;
mod token;
mod trust_files;
mod trusted;
mod verify;
mod when;

/// OAuth 2.0 for machines: certificate-bound tokens, no shared secrets.
#[derive(Debug, Parser)]
#[command(name = "certbind", version, about, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the main job end to end on throw-away keys: a token is issued, used, stolen and refused.
    Demo,
    /// Keep the demo's set-up running for hands-on use.
    Dev(dev::DevArgs),
    /// Run the authorization server.
    Serve(serve::ServeArgs),
    /// Say for a proxy of each request whether it may go on: bound tokens, enforced before the service.
    Guard(guard::GuardArgs),
    /// Get an access token by any method.
    Token(token::TokenArgs),
    /// Run a program with an access token that stays fresh while it runs.
    Exec(Box<exec::ExecArgs>),
    /// Keep access tokens for the programs beside it: at a Unix socket, in a file, in a folder.
    Agent(Box<agent::AgentArgs>),
    /// Say of an access token whether it is good, check by check.
    Verify(verify::VerifyArgs),

    /// Register clients, look at them, change them.
    #[command(subcommand)]
    Client(client::ClientCommand),
    /// Look at the signing keys, rotate them, take one back.
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Revoke a certificate for good, or all tokens that a client has by now.
    Revoke(Box<revoke::RevokeArgs>),
    /// Look at the audit log.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Make the clients of the store those of a folder, which may be under version control.
    Apply(apply::ApplyArgs),
    /// Say what `apply` would change; exit code 8 when there is a difference.
    Diff(apply::ApplyArgs),
    /// Say how a running server stands.
    Status(status::StatusArgs),
    /// Say what ends soon, certificates above all, and what else is odd; exit code 1 when something has ended or ends soon.
    /// With --probe, say whether a forged certificate header reaches certbind through a proxy; exit code 1 when it does or
    /// cannot be told
    Doctor(doctor::DoctorArgs),
    /// Have a running server read changed files now.
    Reload(status::ReloadArgs),
    /// Copy the store of a running server to a new file, of one moment and checked.
    Backup(backup::BackupArgs),
    /// Look at the configuration.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Say what a reason in the audit log means, and what to do about it.
    Explain {
        /// The reason; without it all are listed.
        reason: Option<String>,
    },
    /// Print a script that completes commands and flags for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the version.
    Version,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Done,
    /// It failed.
    Failure,
    /// The command line is wrong.
    Usage,
    /// The server refused.
    Refused,
    /// The token is not valid.
    NotValid,
    /// The server cannot be reached, or TLS failed.
    Unreachable,
    /// The configuration is invalid.
    Invalid,
    /// There is a difference.
    Different,
    /// As the program that it ran.
    As(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failure => 1,
            Exit::Usage => 2,
            Exit::Refused => 3,
            Exit::NotValid => 4,
            Exit::Unreachable => 5,
            Exit::Invalid => 6,
            Exit::Different => 8,
            Exit::As(code) => code,
        })
    }
}

/// What the configuration names cannot be used, so the configuration is invalid.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unusable(String);

/// The command line does not say what it must, in a way that only the command itself can see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Misused(String);

/// Runs the command of the command line.
#[must_use]
pub fn main() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    let environment = Environment::of_process();
    match run(cli.command, &environment) {
        Ok(exit) => exit,
        // A reader that went away, as `head` does, is no failure of ours.
        Err(error) if is_broken_pipe(&error) => Exit::Done,
        Err(error) => {
            let _ = writeln!(io::stderr(), "certbind: {error:#}");
            match error.downcast_ref::<CallError>() {
                Some(error) => error.exit(),
                None if error.downcast_ref::<Unusable>().is_some() => Exit::Invalid,
                None if error.downcast_ref::<Misused>().is_some() => Exit::Usage,
                None => Exit::Failure,
            }
        }
    }
}

fn run(command: Command, environment: &Environment) -> anyhow::Result<Exit> {
    let out = &mut anstream::stdout();
    match command {
        Command::Demo => demo::run(out),
        Command::Dev(args) => dev::run(&args, environment, out),
        Command::Serve(args) => serve::run(&args, environment),
        Command::Guard(args) => guard::run(&args, environment),
        Command::Token(args) => token::run(&args, environment, out),
        Command::Exec(args) => exec::run(*args, environment),
        Command::Agent(args) => agent::run(&args, environment),
        Command::Verify(args) => verify::run(&args, environment, out),

        Command::Client(command) => client::run(&command, environment, out),
        Command::Key(command) => key::run(&command, environment, out),
        Command::Revoke(args) => revoke::run(&args, environment, out),
        Command::Apply(args) => apply::apply(&args, environment, out),
        Command::Diff(args) => apply::diff(&args, environment, out),
        Command::Status(args) => status::status(&args, environment, out),
        Command::Doctor(args) => doctor::run(&args, environment, out),
        Command::Reload(args) => status::reload(&args, environment, out),
        Command::Audit(command) => audit::run(&command, environment, out),
        Command::Backup(args) => backup::run(&args, environment, out),
        Command::Config(command) => {
            Ok(config::run(&command, environment.clone(), SystemClock.now(), out, &mut io::stderr())?)
        }
        Command::Explain { reason } => Ok(explain::run(reason.as_deref(), out)?),
        Command::Completions { shell } => completions(shell, out),
        Command::Version => {
            writeln!(out, "certbind {}", env!("CARGO_PKG_VERSION"))?;
            Ok(Exit::Done)
        }
    }
}

/// The script as a whole: the library would panic where nobody reads it to the end.
fn completions(shell: Shell, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "certbind", &mut script);
    out.write_all(&script)?;
    Ok(Exit::Done)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|io| io.kind() == io::ErrorKind::BrokenPipe)
}
