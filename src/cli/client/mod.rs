//! `certbind client …`: clients over the admin API of a running server.

use std::io::Write;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::Exit;
use super::admin_api::{AdminArgs, Condition, path_of};
use super::client_explain;
use super::config::Output;
use crate::config::Environment;

mod create;
mod credential;
pub(super) mod document;
mod edit;
mod show;

/// `certbind client …`
#[derive(Debug, Subcommand)]
pub(super) enum ClientCommand {
    /// Register a client; its name is taken from its certificate, so that nobody types one.
    Create(Box<create::CreateArgs>),
    /// List clients, those of files and those of the store.
    List(ListArgs),
    /// Show everything that is registered for a client.
    Show(NamedArgs),
    /// Change a registration: some members with --set, or all of it with -f.
    Edit(edit::EditArgs),
    /// Give a client no more tokens, from the next request on.
    Disable(NamedArgs),
    /// Give a client tokens again.
    Enable(NamedArgs),
    /// Remove a client.
    Delete(NamedArgs),
    /// Look at what a client proves itself with, add a second key or certificate, remove the old one.
    #[command(subcommand)]
    Credential(credential::CredentialCommand),
    /// Run the server's own decision for a client and a certificate, and say which rule passed or failed.
    Explain(client_explain::ExplainArgs),
}

/// One client.
#[derive(Debug, Args)]
pub(super) struct NamedArgs {
    /// The client's identifier
    client_id: String,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Which clients.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Only those in this state
    #[arg(long, value_enum)]
    state: Option<State>,
    /// Only those of this authentication method
    #[arg(long, value_name = "NAME")]
    method: Option<String>,
    /// Only those of files, or of the store
    #[arg(long, value_enum)]
    source: Option<Source>,
    /// Only those with this label; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    Active,
    Disabled,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Source {
    File,
    Store,
}

/// Runs one of them.
///
/// # Errors
/// When the server refuses or cannot be reached, or nothing can be printed.
pub(super) fn run(command: &ClientCommand, environment: &Environment, out: &mut dyn Write) -> anyhow::Result<Exit> {
    match command {
        ClientCommand::Create(args) => create::run(args, environment, out),
        ClientCommand::List(args) => list(args, environment, out),
        ClientCommand::Show(NamedArgs { client_id, admin }) => {
            let client = admin.connect(environment)?.get(&path_of(client_id))?.body;
            show::client(out, admin.output, &client)?;
            Ok(Exit::Done)
        }
        ClientCommand::Edit(args) => edit::run(args, environment, out),
        ClientCommand::Disable(args) => set_state(args, "disable", environment, out),
        ClientCommand::Enable(args) => set_state(args, "enable", environment, out),
        ClientCommand::Delete(NamedArgs { client_id, admin }) => {
            admin.connect(environment)?.delete(&path_of(client_id), &Condition::Any)?;
            done(out, admin.output, client_id, "deleted")
        }
        ClientCommand::Credential(command) => credential::run(command, environment, out),
        ClientCommand::Explain(args) => client_explain::run(args, environment, out),
    }
}

fn set_state(args: &NamedArgs, verb: &str, environment: &Environment, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let NamedArgs { client_id, admin } = args;
    admin.connect(environment)?.post(&format!("{}/{verb}", path_of(client_id)), None)?;
    done(out, admin.output, client_id, &format!("{verb}d"))
}

fn done(out: &mut dyn Write, output: Output, client_id: &str, what: &str) -> anyhow::Result<Exit> {
    match output {
        Output::Json => writeln!(out, "{:#}", json!({ "client_id": client_id, "done": what }))?,
        Output::Plain | Output::Table => writeln!(out, "{client_id} {what}")?,
    }
    Ok(Exit::Done)
}

fn list(args: &ListArgs, environment: &Environment, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let api = args.admin.connect(environment)?;
    let clients = all(&api, &query(args))?;
    match args.admin.output {
        Output::Json => writeln!(out, "{:#}", json!({ "clients": clients }))?,
        output => show::list(out, output, &clients)?,
    }
    Ok(Exit::Done)
}

/// Every client.
pub(super) fn all(api: &super::admin_api::Api, query: &str) -> anyhow::Result<Vec<Value>> {
    pages(api, "/admin/v1/clients", "clients", query).map(|pages| pages.all)
}

/// What stands in every page of an answer, and the last page without it.
pub(super) struct Pages {
    pub(super) all: Vec<Value>,
    pub(super) last: Value,
}

/// Asks for one page after the other, each of which has a part of all in this member.
pub(super) fn pages(api: &super::admin_api::Api, path: &str, member: &str, query: &str) -> anyhow::Result<Pages> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let mut page = api.get(&format!("{path}?limit=1000{query}{cursor}"))?.body;
        if let Some(found) = page[member].as_array_mut() {
            all.append(found);
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(Pages { all, last: page }),
        }
    }
}

fn query(args: &ListArgs) -> String {
    use super::admin_api::encode;
    let word = |value: &dyn std::fmt::Debug| format!("{value:?}").to_lowercase();
    let mut query = String::new();
    let mut add = |name: &str, value: &str| query += &format!("&{name}={}", encode(value));
    args.state.iter().for_each(|state| add("state", &word(state)));
    args.method.iter().for_each(|method| add("method", method));
    args.source.iter().for_each(|source| add("source", &word(source)));
    args.label.iter().for_each(|label| add("label", label));
    query
}
