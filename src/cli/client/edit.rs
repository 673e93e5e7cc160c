//! `certbind client edit`: some members of a registration, or all of it.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Map, Value, json};

use super::{document, show};
use crate::cli::Exit;
use crate::cli::admin_api::{AdminArgs, Condition, path_of};
use crate::config::Environment;
use crate::registry::names::{CERTBIND, CLIENT, Kind, Member};

/// What to change.
#[derive(Debug, Args)]
pub(in crate::cli) struct EditArgs {
    /// The client's identifier
    client_id: String,
    /// Set a member, as in scope="a b", owner=ops, labels.team=pay or audiences=A,B; nothing behind the = takes it away
    #[arg(long, value_name = "MEMBER=VALUE", required_unless_present = "file", conflicts_with = "file", value_parser = set)]
    set: Vec<Set>,
    /// Replace the registration by the one in this file, TOML or JSON
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Changes the registration as it was when it was looked at; if somebody else changes it meanwhile, nothing happens.
///
/// # Errors
/// When a file is bad, or the server refuses or cannot be reached.
pub(super) fn run(args: &EditArgs, environment: &Environment, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let patch = patch(&args.set);
    let replacement = args.file.as_ref().map(|path| document::read(path)).transpose()?;
    let api = args.admin.connect(environment)?;
    let path = path_of(&args.client_id);
    let condition = Condition::Tag(api.get(&path)?.tag);
    let answer = match replacement {
        Some(replacement) => api.put(&path, &condition, &Value::Object(replacement))?,
        None => api.patch(&path, &condition, &Value::Object(patch))?,
    };
    show::client(out, args.admin.output, &answer.body)?;
    Ok(Exit::Done)
}

/// One member and what it is to be.
#[derive(Clone, Debug)]
struct Set {
    member: &'static str,
    is_ours: bool,
    value: Value,
}

/// `scope=a b` is the member `scope`, `labels.team=pay` the label `team` of the member `labels` of `certbind`.
fn set(typed: &str) -> anyhow::Result<Set> {
    let (name, text) = typed.split_once('=').context("it is MEMBER=VALUE")?;
    let name = name.strip_prefix("certbind.").unwrap_or(name);
    let (member, label) = name.split_once('.').map_or((name, None), |(member, label)| (member, Some(label)));
    let find = |table: &'static [Member]| table.iter().find(|known| known.name == member);
    let (known, is_ours) = match (find(&CLIENT), find(&CERTBIND)) {
        (Some(known), _) => (known, false),
        (None, Some(known)) => (known, true),
        (None, None) => anyhow::bail!("there is no member `{member}`"),
    };
    let value = match label {
        Some(label) if known.kind == Kind::Labels => {
            json!({ label: if text.is_empty() { Value::Null } else { text.into() } })
        }
        Some(_) => anyhow::bail!("there is no member `{name}`"),
        None => value(known, text)?,
    };
    Ok(Set { member: known.name, is_ours, value })
}

/// All of them as a merge patch (RFC 7396).
fn patch(sets: &[Set]) -> Map<String, Value> {
    let (mut patch, mut ours) = (Map::new(), Map::new());
    for Set { member, is_ours, value } in sets {
        let place = if *is_ours { &mut ours } else { &mut patch };
        match (place.get_mut(*member), value.clone()) {
            (Some(Value::Object(there)), Value::Object(more)) => there.extend(more),
            (_, value) => drop(place.insert((*member).to_owned(), value)),
        }
    }
    if !ours.is_empty() {
        patch.insert("certbind".to_owned(), Value::Object(ours));
    }
    patch
}

fn value(member: &Member, text: &str) -> anyhow::Result<Value> {
    if text.is_empty() {
        return Ok(Value::Null);
    }
    Ok(match member.kind {
        Kind::Boolean => json!(text.parse::<bool>().with_context(|| format!("{} is true or false", member.name))?),
        Kind::Method | Kind::State | Kind::Text => text.into(),
        Kind::Texts => text.split(',').map(Value::from).collect(),
        Kind::Certificates | Kind::Keys | Kind::Labels | Kind::Table => {
            serde_json::from_str(text).with_context(|| format!("{} is set as JSON", member.name))?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patched(sets: &[&str]) -> anyhow::Result<Value> {
        let sets = sets.iter().map(|typed| set(typed)).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Value::Object(patch(&sets)))
    }

    #[test]
    fn what_is_set_becomes_a_merge_patch() {
        assert_eq!(
            patched(&[
                "scope=a b",
                "owner=ops",
                "labels.team=pay",
                "certbind.labels.old=",
                "audiences=https://a,https://b"
            ])
            .unwrap(),
            json!({
                "scope": "a b",
                "certbind": {
                    "owner": "ops",
                    "labels": { "team": "pay", "old": null },
                    "audiences": ["https://a", "https://b"],
                },
            })
        );
        assert_eq!(
            patched(&["scope=", "legacy_audience=true"]).unwrap(),
            json!({ "scope": null, "certbind": { "legacy_audience": true } })
        );
        for wrong in ["scope", "=1", "nonsense=1", "scoep=a", "legacy_audience=yes", "scope.x=a", "jwks=x"] {
            assert!(patched(&[wrong]).is_err(), "{wrong}");
        }
    }
}
