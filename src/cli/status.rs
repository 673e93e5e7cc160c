//! `certbind status` and `certbind reload`: how a running server stands, and what it reads again.

use std::io::Write;

use clap::Args;
use serde_json::Value;

use super::admin_api::AdminArgs;
use super::config::Output;
use super::{Exit, print};
use crate::config::Environment;

/// Which server.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// Which server.
#[derive(Debug, Args)]
pub(super) struct ReloadArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// Says how the server stands. Something that is not as it should be is [`Exit::Failure`].
///
/// # Errors
/// When the server refuses or cannot be reached.
pub(super) fn status(args: &StatusArgs, environment: &Environment, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let status = args.admin.connect(environment)?.get("/admin/v1/status")?.body;
    if args.admin.output == Output::Json {
        writeln!(out, "{status:#}")?;
    } else {
        print::rows(out, args.admin.output, &[], &lines(&status))?;
    }
    let is_well = status.pointer("/store/healthy") == Some(&Value::Bool(true))
        && ["not_ready", "refused", "warnings"].iter().all(|list| status[list].as_array().is_none_or(Vec::is_empty))
        && status.pointer("/clients/not_in_force").and_then(Value::as_u64) == Some(0);
    Ok(if is_well { Exit::Done } else { Exit::Failure })
}

fn lines(status: &Value) -> Vec<Vec<String>> {
    let text = |pointer: &str| match status.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
        Some(value) => value.to_string(),
        None => String::new(),
    };
    let store =
        if status.pointer("/store/healthy") == Some(&Value::Bool(true)) { "answers" } else { "does not answer" };
    let mut lines: Vec<(&str, String)> = vec![
        ("version", text("/version")),
        ("issuer", text("/issuer")),
        ("started", text("/started")),
        ("store", format!("{}, {store}", text("/store/engine"))),
        ("clients of files", text("/clients/of_files")),
        ("clients of the store", text("/clients/of_store")),
        ("trust groups", text("/trust_groups")),
    ];
    let lists = [
        ("not ready", "/not_ready"),
        ("shadowed by a file", "/clients/shadowed"),
        ("not taken over", "/refused"),
        ("warning", "/warnings"),
    ];
    for (name, pointer) in lists {
        let value = text(pointer);
        if !value.is_empty() {
            lines.push((name, value));
        }
    }
    if text("/clients/not_in_force") != "0" {
        lines.push(("clients not in force", text("/clients/not_in_force")));
    }
    lines.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect()
}

/// Has the server look at every file now. Something that stays as it was, or is odd, is
/// [`Exit::Failure`].
///
/// # Errors
/// When the server refuses or cannot be reached.
pub(super) fn reload(args: &ReloadArgs, environment: &Environment, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let told = args.admin.connect(environment)?.post("/admin/v1/reload", None)?.body;
    let list = |name: &str| told[name].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
    if args.admin.output == Output::Json {
        writeln!(out, "{told:#}")?;
    } else {
        let taken = list("taken").map(|what| vec!["taken over".to_owned(), what]);
        let refused = list("refused").map(|what| vec!["not taken over".to_owned(), what]);
        let warnings = list("warnings").map(|what| vec!["warning".to_owned(), what]);
        print::rows(out, args.admin.output, &[], &taken.chain(refused).chain(warnings).collect::<Vec<_>>())?;
    }
    Ok(if list("refused").chain(list("warnings")).next().is_none() { Exit::Done } else { Exit::Failure })
}
