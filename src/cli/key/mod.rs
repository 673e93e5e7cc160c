//! `certbind key …`: the signing keys of a running server, over its admin API.

use std::io::Write;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::Exit;
use super::admin_api::{AdminArgs, encode};
use super::config::Output;
use super::print;
use crate::config::Environment;

mod told;

const PATH: &str = "/admin/v1/keys";

/// `certbind key …`
#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// List the signing keys: which one signs, which is next, until when each is needed.
    List(ListArgs),
    /// Publish the next signing key now; it signs once caches know it, and no token is lost.
    Rotate(RotateArgs),
    /// Take a signing key back at once, as when somebody else got hold of it; tokens that it signed are refused.
    Retire(RetireArgs),
}

/// Which server.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// Whether it is meant.
#[derive(Debug, Args)]
pub(super) struct RotateArgs {
    /// Change nothing, and say when what would happen
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Which key, and whether it is meant.
#[derive(Debug, Args)]
pub(super) struct RetireArgs {
    /// The key's identifier, as `key list` and the JWKS have it
    #[arg(allow_hyphen_values = true)]
    kid: String,
    /// Change nothing, and say what would break
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Runs one of them.
///
/// # Errors
/// When the server refuses or cannot be reached, or nothing can be printed.
pub(super) fn run(command: &KeyCommand, environment: &Environment, out: &mut dyn Write) -> anyhow::Result<Exit> {
    match command {
        KeyCommand::List(ListArgs { admin }) => {
            let keys = admin.connect(environment)?.get(PATH)?.body;
            let rows: Vec<_> = keys["keys"].as_array().into_iter().flatten().map(told::key).collect();
            show(out, admin.output, &keys, &told::COLUMNS, &rows)
        }
        KeyCommand::Rotate(RotateArgs { dry_run, admin }) => {
            let path = format!("{PATH}/rotate?dry_run={dry_run}");
            let rotation = admin.connect(environment)?.post(&path, None)?.body;
            show(out, admin.output, &rotation, &[], &told::rotation(&rotation))
        }
        KeyCommand::Retire(RetireArgs { kid, dry_run, admin }) => {
            let path = format!("{PATH}/{}/retire?dry_run={dry_run}", encode(kid));
            let retirement = admin.connect(environment)?.post(&path, None)?.body;
            show(out, admin.output, &retirement, &[], &told::retirement(&retirement))
        }
    }
}

fn show(
    out: &mut dyn Write,
    output: Output,
    answer: &Value,
    headings: &[&str],
    rows: &[Vec<String>],
) -> anyhow::Result<Exit> {
    match output {
        Output::Json => writeln!(out, "{answer:#}")?,
        output => print::rows(out, output, headings, rows)?,
    }
    Ok(Exit::Done)
}
