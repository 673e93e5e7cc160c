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
    #[arg(long, value_name = "MEMBER=VALUE", required_unless_present = "file", conflicts_with = "file")]
    set: Vec<String>,
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
    let patch = args.set.iter().try_fold(Map::new(), |patch, set| add(patch, set))?;
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

/// `scope=a b` becomes `{"scope": "a b"}`, `labels.team=pay` becomes `{"certbind": {"labels": {"team": "pay"}}}`.
fn add(mut patch: Map<String, Value>, set: &str) -> anyhow::Result<Map<String, Value>> {
    let (name, text) = set.split_once('=').with_context(|| format!("--set MEMBER=VALUE, not {set}"))?;
    let name = name.strip_prefix("certbind.").unwrap_or(name);
    let (member, label) = name.split_once('.').map_or((name, None), |(member, label)| (member, Some(label)));
    let find = |table: &'static [Member]| table.iter().find(|known| known.name == member);
    let (known, is_ours) = match (find(&CLIENT), find(&CERTBIND)) {
        (Some(known), _) => (known, false),
        (None, Some(known)) => (known, true),
        (None, None) => anyhow::bail!("there is no member {member}"),
    };
    let value = match label {
        Some(label) if known.kind == Kind::Labels => {
            json!({ label: if text.is_empty() { Value::Null } else { text.into() } })
        }
        Some(_) => anyhow::bail!("there is no member {name}"),
        None => value(known, text)?,
    };
    let place = match is_ours {
        false => &mut patch,
        true => {
            let ours = patch.entry("certbind").or_insert_with(|| json!({}));
            ours.as_object_mut().context("an object")?
        }
    };
    match (place.get_mut(member), value) {
        (Some(Value::Object(there)), Value::Object(more)) => there.extend(more),
        (_, value) => drop(place.insert(member.to_owned(), value)),
    }
    Ok(patch)
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

    fn patch(sets: &[&str]) -> anyhow::Result<Value> {
        sets.iter().try_fold(Map::new(), |patch, set| add(patch, set)).map(Value::Object)
    }

    #[test]
    fn what_is_set_becomes_a_merge_patch() {
        assert_eq!(
            patch(&[
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
            patch(&["scope=", "legacy_audience=true"]).unwrap(),
            json!({ "scope": null, "certbind": { "legacy_audience": true } })
        );
        for wrong in ["scope", "scoep=a", "legacy_audience=yes", "scope.x=a", "jwks=x"] {
            assert!(patch(&[wrong]).is_err(), "{wrong}");
        }
    }
}
