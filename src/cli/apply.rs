//! `certbind apply` and `certbind diff`: makes the clients of the store those of a folder, which may be under version control.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use certbind_proto::client::ClientMetadata;
use clap::Args;
use serde_json::{Map, Value, json};

use super::Exit;
use super::admin_api::{AdminArgs, Api, CallError, Condition, path_of};
use super::client::{all, document};
use super::config::Output;
use crate::config::Environment;
use crate::registry::document::effective;

/// Which folder, and what to do with the rest.
#[derive(Debug, Args)]
pub(super) struct ApplyArgs {
    /// A folder with a file for each client, TOML as in clients.d or JSON
    dir: PathBuf,
    /// Also remove the clients of the store that have no file there
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// What has to be done so that the store says what the folder says.
#[derive(Debug)]
struct Plan {
    steps: Vec<Step>,
}

/// One client that is not as its file says.
#[derive(Debug)]
struct Step {
    client_id: String,
    what: What,
}

#[derive(Debug)]
enum What {
    Create(Map<String, Value>),
    Change {
        to: Map<String, Value>,
        tag: String,
        members: Vec<Member>,
    },
    Delete {
        tag: String,
    },
    /// A file of the server registers the client, so the store's registration would not count.
    InFile,
}

/// What is said of a client that a file of the server registers.
const IN_FILE: &str = "a file in clients.dir registers this client, and it alone counts";

/// A member that differs, as it is and as it is to be.
#[derive(Debug)]
struct Member {
    name: String,
    is: Value,
    to_be: Value,
}

/// Makes the store what the folder says. Whatever is so already is left alone.
///
/// # Errors
/// When a file is bad or the server cannot be reached; then nothing was changed. What the server refuses is told, the rest
/// is done, and the outcome is [`Exit::Refused`].
pub(super) fn apply(args: &ApplyArgs, environment: &Environment, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let (api, plan) = plan(args, environment)?;
    let mut refused = Vec::new();
    let mut done = Vec::new();
    for step in &plan.steps {
        if matches!(step.what, What::InFile) {
            refused.push((step, IN_FILE.to_owned()));
            continue;
        }
        match step.take(&api) {
            Ok(()) => done.push(step),
            Err(error @ CallError::Unreachable(_)) => return Err(error.into()),
            Err(error) => refused.push((step, error.to_string())),
        }
    }
    if args.admin.output == Output::Json {
        let refused = refused.iter().map(|(step, why)| json!({ "client_id": step.client_id, "why": why }));
        let refused: Vec<Value> = refused.collect();
        writeln!(
            out,
            "{:#}",
            json!({ "done": done.iter().map(|step| step.to_json()).collect::<Vec<_>>(), "refused": refused })
        )?;
    } else {
        done.iter().try_for_each(|step| writeln!(out, "{} {}", step.client_id, step.done()))?;
        if done.is_empty() && refused.is_empty() && args.admin.output == Output::Table {
            writeln!(out, "nothing to do")?;
        }
    }
    for (step, why) in &refused {
        eprintln!("certbind: {}: {why}", step.client_id);
    }
    Ok(if refused.is_empty() { Exit::Done } else { Exit::Refused })
}

/// Says what [`apply`] would do. A difference is [`Exit::Different`].
///
/// # Errors
/// When a file is bad, or the server refuses or cannot be reached.
pub(super) fn diff(args: &ApplyArgs, environment: &Environment, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let (_, plan) = plan(args, environment)?;
    match args.admin.output {
        Output::Json => {
            let steps: Vec<Value> = plan.steps.iter().map(Step::to_json).collect();
            writeln!(out, "{:#}", json!({ "differences": steps }))?;
        }
        Output::Plain | Output::Table => plan.steps.iter().try_for_each(|step| write!(out, "{step}"))?,
    }
    Ok(if plan.steps.is_empty() { Exit::Done } else { Exit::Different })
}

fn plan(args: &ApplyArgs, environment: &Environment) -> anyhow::Result<(Api, Plan)> {
    let wanted = read(&args.dir)?;
    let api = args.admin.connect(environment)?;
    let mut there: BTreeMap<String, Value> = BTreeMap::new();
    let mut in_files: BTreeSet<String> = BTreeSet::new();
    for client in all(&api, "")? {
        let client_id = client["client_id"].as_str().unwrap_or_default();
        if client.pointer("/registration/source").and_then(Value::as_str) == Some("file") {
            in_files.insert(client_id.to_owned());
            continue;
        }
        there.insert(client_id.to_owned(), client);
    }
    let mut steps: Vec<Step> = Vec::new();
    for (client_id, to) in wanted {
        steps.extend(match there.remove(&client_id) {
            None if in_files.contains(&client_id) => Some(Step { client_id, what: What::InFile }),
            None => Some(Step { client_id, what: What::Create(to) }),
            Some(is) => change(client_id, &is, to),
        });
    }
    if args.prune {
        let deleted = |(client_id, is)| Step { client_id, what: What::Delete { tag: tag_of(&is) } };
        steps.extend(there.into_iter().map(deleted));
    }
    steps.sort_by(|a, b| a.client_id.cmp(&b.client_id));
    Ok((api, Plan { steps }))
}

/// The registrations of a folder, by `client_id`.
fn read(dir: &Path) -> anyhow::Result<BTreeMap<String, Map<String, Value>>> {
    let mut found: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for entry in fs::read_dir(dir).with_context(|| format!("{}", dir.display()))? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let is_client = path.extension().is_some_and(|extension| extension == "toml" || extension == "json");
        if hidden || !is_client || !path.is_file() {
            continue;
        }
        let registration = document::read(&path)?;
        let client_id = registration.get("client_id").and_then(Value::as_str).unwrap_or_default().to_owned();
        anyhow::ensure!(!client_id.is_empty(), "{}: client_id is missing", path.display());
        let twin = found.insert(client_id, with_defaults(registration));
        anyhow::ensure!(twin.is_none(), "{}: another file registers the same client", path.display());
    }
    Ok(found)
}

/// With what the server would add; as it is when the server will refuse it anyway.
fn with_defaults(registration: Map<String, Value>) -> Map<String, Value> {
    let metadata: Result<ClientMetadata, _> = serde_json::from_value(Value::Object(registration.clone()));
    metadata.map_or(registration, effective)
}

fn change(client_id: String, is: &Value, to: Map<String, Value>) -> Option<Step> {
    let (before, after) = (flat(is.as_object()?), flat(&to));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let of = |members: &BTreeMap<String, Value>, name: &String| members.get(name).cloned().unwrap_or_default();
    let members =
        names.into_iter().map(|name| Member { name: name.clone(), is: of(&before, name), to_be: of(&after, name) });
    let members: Vec<Member> = members.filter(|member| member.is != member.to_be).collect();
    let tag = tag_of(is);
    (!members.is_empty()).then_some(Step { client_id, what: What::Change { to, tag, members } })
}

/// Members by their path. What the server alone sets is left out.
fn flat(members: &Map<String, Value>) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for (name, value) in members.iter().filter(|(name, _)| *name != "registration" && *name != "client_id_issued_at") {
        match (name.as_str(), value) {
            ("certbind", Value::Object(ours)) => {
                found.extend(ours.iter().map(|(name, value)| (format!("certbind.{name}"), value.clone())));
            }
            (name, value) => drop(found.insert(name.to_owned(), value.clone())),
        }
    }
    found
}

/// The entity tag of a client in a list.
fn tag_of(client: &Value) -> String {
    format!("\"{}\"", client.pointer("/registration/revision").and_then(Value::as_i64).unwrap_or_default())
}

impl Step {
    fn take(&self, api: &Api) -> Result<(), CallError> {
        let path = path_of(&self.client_id);
        match &self.what {
            What::Create(to) => api.put(&path, &Condition::Absent, &Value::Object(to.clone())).map(drop),
            What::Change { to, tag, .. } => {
                api.put(&path, &Condition::Tag(tag.clone()), &Value::Object(to.clone())).map(drop)
            }
            What::Delete { tag } => api.delete(&path, &Condition::Tag(tag.clone())).map(drop),
            What::InFile => Ok(()),
        }
    }

    const fn done(&self) -> &'static str {
        match self.what {
            What::Create(_) => "created",
            What::Change { .. } => "changed",
            What::Delete { .. } => "deleted",
            What::InFile => "in_file",
        }
    }

    fn to_json(&self) -> Value {
        let members = match &self.what {
            What::Create(_) | What::Delete { .. } | What::InFile => Vec::new(),
            What::Change { members, .. } => {
                let of = |member: &Member| json!({ "name": member.name, "is": member.is, "to_be": member.to_be });
                members.iter().map(of).collect()
            }
        };
        json!({ "client_id": self.client_id, "what": self.done(), "members": members })
    }
}

/// A line for the client, and one for each member that differs.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Create(_) => writeln!(f, "+ {}", self.client_id),
            What::Delete { .. } => writeln!(f, "- {}", self.client_id),
            What::InFile => writeln!(f, "! {}: {IN_FILE}", self.client_id),
            What::Change { members, .. } => {
                writeln!(f, "~ {}", self.client_id)?;
                let shown = |value: &Value| if value.is_null() { "nothing".to_owned() } else { value.to_string() };
                members.iter().try_for_each(|member| {
                    writeln!(f, "    {}: {} -> {}", member.name, shown(&member.is), shown(&member.to_be))
                })
            }
        }
    }
}
