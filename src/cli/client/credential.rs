//! `certbind client credential`: what a client proves itself with, and a second one beside the first, so that it can change
//! over without a pause.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use certbind_proto::cert::Certificate;
use certbind_proto::time::{Clock as _, SystemClock, Timestamp};
use clap::{Args, Subcommand};
use serde_json::Value;

use super::{NamedArgs, document};
use crate::cli::Exit;
use crate::cli::admin_api::{AdminArgs, Api, Condition, path_of};
use crate::cli::config::Output;
use crate::cli::{print, when};
use crate::config::Environment;

mod registered;

use registered::{Names, New, Registered};

/// Whoever used a credential in this time is likely to use it again.
const LATELY: Duration = Duration::from_secs(24 * 60 * 60);

const COLUMNS: [&str; 6] = ["CREDENTIAL", "THUMBPRINT", "REGISTERED", "GOOD UNTIL", "LAST USED", "NAME"];

/// `certbind client credential …`
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum CredentialCommand {
    /// List what a client proves itself with, until when each is good, and when it was last used.
    List(NamedArgs),
    /// Add a key or a certificate beside those that there are, so that the client can change over.
    Add(AddArgs),
    /// Remove a key or a certificate that the client needs no longer; never its last one.
    Remove(RemoveArgs),
}

/// What to add.
#[derive(Debug, Args)]
pub(in crate::cli) struct AddArgs {
    /// The client's identifier
    client_id: String,
    #[command(flatten)]
    file: FileArgs,
    #[command(flatten)]
    admin: AdminArgs,
}

/// What to remove.
#[derive(Debug, Args)]
pub(in crate::cli) struct RemoveArgs {
    /// The client's identifier
    client_id: String,
    /// The credential: a kid, or a thumbprint as `credential list` has it
    #[arg(required_unless_present_any = ["from_cert", "jwk"], conflicts_with_all = ["from_cert", "jwk"], allow_hyphen_values = true)]
    credential: Option<String>,
    #[command(flatten)]
    file: OptionalFileArgs,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct FileArgs {
    /// A certificate, PEM or DER, for self_signed_tls_client_auth
    #[arg(long, value_name = "FILE")]
    from_cert: Option<PathBuf>,
    /// A public key as JWK, or several as JWK set, for private_key_jwt
    #[arg(long, value_name = "FILE")]
    jwk: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct OptionalFileArgs {
    /// The certificate in this file, PEM or DER
    #[arg(long, value_name = "FILE")]
    from_cert: Option<PathBuf>,
    /// The public key in this file, a JWK or a JWK set
    #[arg(long, value_name = "FILE")]
    jwk: Option<PathBuf>,
}

/// Runs one of them.
///
/// # Errors
/// When a file is bad, the change makes no sense, or the server refuses or cannot be reached.
pub(super) fn run(command: &CredentialCommand, environment: &Environment, out: &mut dyn Write) -> anyhow::Result<Exit> {
    match command {
        CredentialCommand::List(NamedArgs { client_id, admin }) => {
            show(&admin.connect(environment)?, client_id, admin.output, out)
        }
        CredentialCommand::Add(AddArgs { client_id, file, admin }) => {
            let new = new(file.from_cert.as_deref(), file.jwk.as_deref())?.context("--from-cert or --jwk")?;
            if let New::Certificate(certificate) = &new {
                document::warn_of_end(certificate, SystemClock.now());
            }
            change(client_id, admin, environment, out, |registered, _| registered.with(&new))
        }
        CredentialCommand::Remove(args) => {
            let names = match (new(args.file.from_cert.as_deref(), args.file.jwk.as_deref())?, &args.credential) {
                (Some(of_file), _) => of_file.names(),
                (None, credential) => Names::typed(credential.as_deref().unwrap_or_default()),
            };
            change(&args.client_id, &args.admin, environment, out, |registered, api| {
                let patch = registered.without(&names)?;
                warn_of_use(api, &args.client_id, &names)?;
                Ok(patch)
            })
        }
    }
}

/// Changes the registration as it was looked at; if somebody else changes it meanwhile, nothing happens.
fn change(
    client_id: &str,
    admin: &AdminArgs,
    environment: &Environment,
    out: &mut dyn Write,
    patch: impl FnOnce(&Registered<'_>, &Api) -> anyhow::Result<Value>,
) -> anyhow::Result<Exit> {
    let api = admin.connect(environment)?;
    let path = path_of(client_id);
    let client = api.get(&path)?;
    let patch = patch(&Registered::of(&client.body), &api)?;
    api.patch(&path, &Condition::Tag(client.tag), &patch)?;
    show(&api, client_id, admin.output, out)
}

fn new(certificate: Option<&Path>, jwk: Option<&Path>) -> anyhow::Result<Option<New>> {
    Ok(match (certificate, jwk) {
        (Some(path), _) => Some(New::Certificate(Box::new(document::certificate(path)?))),
        (None, Some(path)) => Some(New::Keys(document::keys(path)?)),
        (None, None) => None,
    })
}

/// A credential that was used lately is one that somebody relies on.
fn warn_of_use(api: &Api, client_id: &str, names: &Names) -> anyhow::Result<()> {
    let known = api.get(&credentials_of(client_id))?.body;
    let now = SystemClock.now();
    for credential in known["credentials"].as_array().into_iter().flatten().filter(|known| names.fit_shown(known)) {
        let last_used = credential["last_used"].as_str().and_then(when::read);
        if let Some(ago) = last_used.map(|used| now.since(used)).filter(|ago| *ago < LATELY) {
            writeln!(
                io::stderr(),
                "certbind: warning: {} was used {} ago; whoever uses it is refused from now on",
                name_of(credential),
                when::span(ago)
            )?;
        }
    }
    Ok(())
}

fn credentials_of(client_id: &str) -> String {
    format!("{}/credentials", path_of(client_id))
}

fn show(api: &Api, client_id: &str, output: Output, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let known = api.get(&credentials_of(client_id))?.body;
    if output == Output::Json {
        writeln!(out, "{known:#}")?;
        return Ok(Exit::Done);
    }
    let now = SystemClock.now();
    let rows: Vec<_> = known["credentials"].as_array().into_iter().flatten().map(|one| row(one, output, now)).collect();
    print::rows(out, output, &COLUMNS, &rows)?;
    if known["uses_of"] == "this_server" {
        writeln!(
            io::stderr(),
            "certbind: the store does not answer; LAST USED is of this server, since it last wrote"
        )?;
    }
    Ok(Exit::Done)
}

fn row(credential: &Value, output: Output, now: Timestamp) -> Vec<String> {
    let text = |name: &str| credential[name].as_str().unwrap_or_default().to_owned();
    let is_key = credential["type"] == "key";
    let last_used = match (output, when::read(&text("last_used"))) {
        (Output::Table, Some(time)) => format!("{} ago", when::span(now.since(time))),
        (Output::Table, None) => "never seen".to_owned(),
        _ => text("last_used"),
    };
    vec![
        text("type"),
        if is_key { text("thumbprint") } else { text("x5t#S256") },
        if credential["registered"] == true { "yes" } else { "seen" }.to_owned(),
        text("not_after"),
        last_used,
        if is_key { text("kid") } else { text("subject") },
    ]
}

fn name_of(credential: &Value) -> &str {
    ["kid", "subject", "thumbprint"].iter().find_map(|name| credential[*name].as_str()).unwrap_or_default()
}

impl New {
    fn names(&self) -> Names {
        match self {
            Self::Certificate(certificate) => Names::thumbprints(vec![*Certificate::thumbprint(certificate)]),
            Self::Keys(keys) => Names::thumbprints(keys.iter().map(|(_, key)| key.thumbprint()).collect()),
        }
    }
}
