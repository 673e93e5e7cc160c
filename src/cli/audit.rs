//! `certbind audit`: looks into the audit log, and says whether it is whole.

use std::io::Write;

use clap::Subcommand;

use super::Exit;
use crate::config::Environment;

mod files;
pub(super) mod search;
mod show;
mod store;
mod tail;
mod verify;

pub(super) use search::thumbprint;

/// `certbind audit …`
#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Say whether lines were changed, taken out, put in or moved; the files may come in any order.
    Verify(verify::VerifyArgs),
    /// Print the lines that answer a question, oldest first.
    Search(Box<search::SearchArgs>),
    /// Print the last lines, and with --follow those that come.
    Tail(tail::TailArgs),
}

/// Runs one of them.
///
/// # Errors
/// When a file cannot be read. A log that is not whole is [`Exit::Failure`].
pub(super) fn run(command: &AuditCommand, environment: &Environment, out: &mut dyn Write) -> anyhow::Result<Exit> {
    match command {
        AuditCommand::Verify(args) => verify::run(args, environment, out),
        AuditCommand::Search(args) => search::run(args, environment, out),
        AuditCommand::Tail(args) => tail::run(args, environment, out),
    }
}
