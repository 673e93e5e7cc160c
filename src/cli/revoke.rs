//! `certbind revoke`: a certificate, or what a client has by now, over the admin API of a running server.

use std::io::Write;
use std::path::PathBuf;

use certbind_proto::thumbprint::Thumbprint;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::Exit;
use super::admin_api::{AdminArgs, Condition, encode};
use super::audit::search::thumbprint;
use super::client::document::certificate;
use super::client::pages;
use super::config::Output;
use super::print;
use crate::config::Environment;

const PATH: &str = "/admin/v1/revocations";

const COLUMNS: [&str; 4] = ["KIND", "WHAT", "REFUSED", "UNTIL"];

/// What to revoke, or to list what is.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct RevokeArgs {
    #[command(subcommand)]
    command: Option<RevokeCommand>,
    #[command(flatten)]
    what: WhatArgs,
    /// Why, in one line; it stands in the audit log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Subcommand)]
enum RevokeCommand {
    /// List what is revoked and in force.
    List(ListArgs),
    /// Let a certificate authenticate again that was revoked by mistake; its tokens of before stay revoked.
    Undo(UndoArgs),
}

/// One thing.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct WhatArgs {
    /// This certificate, PEM, the first of the file: it authenticates nobody any more, and its tokens are revoked
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// The same by its thumbprint: x5t#S256, or SHA-256 in hexadecimal as openssl prints it
    #[arg(long, value_name = "HASH", value_parser = thumbprint, allow_hyphen_values = true)]
    thumbprint: Option<Thumbprint>,
    /// All tokens that this client has by now; it may get new ones
    #[arg(long, value_name = "ID")]
    client: Option<String>,
}

/// Which certificate.
#[derive(Args, Debug)]
struct UndoArgs {
    #[command(flatten)]
    what: CertificateArgs,
    /// Why, in one line; it stands in the audit log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct CertificateArgs {
    /// This certificate, PEM, the first of the file
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// The same by its thumbprint: x5t#S256, or SHA-256 in hexadecimal as openssl prints it
    #[arg(long, value_name = "HASH", value_parser = thumbprint, allow_hyphen_values = true)]
    thumbprint: Option<Thumbprint>,
}

/// Which revocations.
#[derive(Args, Debug)]
struct ListArgs {
    /// Only those of certificates, of clients, or of single tokens
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Certificate,
    Client,
    Token,
}

/// Revokes, or lists.
///
/// # Errors
/// When the server refuses or cannot be reached, a file cannot be read, or nothing can be printed.
pub(super) fn run(args: &RevokeArgs, environment: &Environment, out: &mut dyn Write) -> anyhow::Result<Exit> {
    match &args.command {
        Some(RevokeCommand::List(args)) => return list(args, environment, out),
        Some(RevokeCommand::Undo(args)) => return undo(args, environment, out),
        None => {}
    }
    let mut wanted = args.what.to_json()?;
    if let Some(reason) = &args.reason {
        wanted["reason"] = reason.as_str().into();
    }
    let revoked = args.admin.connect(environment)?.post(PATH, Some(&wanted))?.body;
    show(out, args.admin.output, &revoked)
}

fn undo(args: &UndoArgs, environment: &Environment, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let UndoArgs { what: CertificateArgs { certificate: file, thumbprint }, reason, admin } = args;
    let thumbprint = match (file, thumbprint) {
        (Some(file), _) => certificate(file)?.thumbprint().to_string(),
        (None, thumbprint) => thumbprint.map(|thumbprint| thumbprint.to_string()).unwrap_or_default(),
    };
    let reason = reason.as_ref().map(|reason| format!("?reason={}", encode(reason))).unwrap_or_default();
    let path = format!("{PATH}/certificate/{thumbprint}{reason}");
    let lifted = admin.connect(environment)?.delete(&path, &Condition::Any)?.body;
    show(out, admin.output, &lifted)
}

fn show(out: &mut dyn Write, output: Output, revocation: &Value) -> anyhow::Result<Exit> {
    match output {
        Output::Json => writeln!(out, "{revocation:#}")?,
        output => print::rows(out, output, &[], &[row(revocation)])?,
    }
    Ok(Exit::Done)
}

impl WhatArgs {
    fn to_json(&self) -> anyhow::Result<Value> {
        Ok(match (&self.certificate, &self.thumbprint, &self.client) {
            (Some(file), _, _) => json!({ "certificate": certificate(file)?.to_pem() }),
            (_, Some(thumbprint), _) => json!({ "x5t#S256": thumbprint.to_string() }),
            (_, _, client) => json!({ "client_id": client }),
        })
    }
}

fn list(args: &ListArgs, environment: &Environment, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let api = args.admin.connect(environment)?;
    let kind = args.kind.map(|kind| format!("&kind={}", format!("{kind:?}").to_lowercase())).unwrap_or_default();
    let revocations = pages(&api, PATH, "revocations", &kind)?.all;
    match args.admin.output {
        Output::Json => writeln!(out, "{:#}", json!({ "revocations": revocations }))?,
        output => print::rows(out, output, &COLUMNS, &revocations.iter().map(row).collect::<Vec<_>>())?,
    }
    Ok(Exit::Done)
}

/// A revocation in one line.
fn row(revocation: &Value) -> Vec<String> {
    let text = |name: &str| revocation[name].as_str().map(str::to_owned);
    let what = text("client_id").or_else(|| text("id")).unwrap_or_default();
    let tokens = text("tokens_until").map(|until| format!("tokens until {until}"));
    let refused = match revocation["kind"].as_str() {
        Some("token") => "this token".to_owned(),
        _ => tokens.unwrap_or_else(|| "authentication and all tokens".to_owned()),
    };
    let until = text("until").unwrap_or_else(|| "for good".to_owned());
    vec![text("kind").unwrap_or_default(), what, refused, until]
}
