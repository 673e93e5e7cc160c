//! `certbind doctor`: everything that ends, the soonest first, and what is odd without having an end; with `--probe`, whether a
//! client's word about its certificate gets through.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::Context as _;
use certbind_proto::time::{Timestamp, parse_duration};
use clap::Args;
use serde_json::{Value, json};

use super::Exit;
use super::admin_api::{AdminArgs, Api};
use super::client::{Pages, pages};
use super::config::Output;
use super::{print, when};
use crate::config::Environment;

mod dates;
mod findings;
mod probe;

use dates::{Dated, Soon, State};
use findings::Finding;

const COLUMNS: [&str; 7] = ["STATE", "LEFT", "UNTIL", "LAST USED", "WHAT", "WHOSE", "NAME"];

/// How many names of a finding people are shown.
const SHOWN: usize = 20;

/// Which server, and what is soon.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// What ends within this time ends soon, as in 30d; without it what ends within 21d and in the last quarter of its life
    #[arg(long, value_name = "DURATION", value_parser = within)]
    within: Option<Duration>,
    #[command(flatten)]
    probe: probe::ProbeArgs,
    #[command(flatten)]
    admin: AdminArgs,
}

fn within(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|fault| fault.to_string())
}

/// What the server said.
struct Told {
    now: Timestamp,
    status: Value,
    trust: Value,
    keys: Value,
    shared: Value,
    clients: Vec<Value>,
    /// Whether the last uses are those at every server.
    uses_are_complete: bool,
}

/// Says what ends and what is odd. Something that has ended or ends soon is [`Exit::Failure`].
///
/// # Errors
/// When the server refuses or cannot be reached, or nothing can be printed.
pub(super) fn run(args: &DoctorArgs, environment: &Environment, out: &mut dyn Write) -> anyhow::Result<Exit> {
    if let Some(url) = &args.probe.probe {
        return probe::run(url, &args.probe, &args.admin, environment, out);
    }
    let told = ask(&args.admin.connect(environment)?)?;
    let soon = args.within.map_or(Soon::Usual, Soon::Within);
    let mut dates = dates::all(&told);
    // What has no end stands behind.
    let place = |dated: &Dated| (dated.until.is_none(), dated.until);
    dates.sort_by(|a, b| (place(a), a.what, &a.whose, &a.name).cmp(&(place(b), b.what, &b.whose, &b.name)));
    let findings = findings::all(&told);
    let is_fine = !dates.iter().any(|dated| matches!(dated.state(told.now, soon), State::Ended | State::Soon));
    match args.admin.output {
        Output::Json => writeln!(out, "{:#}", to_json(&told, soon, is_fine, &dates, &findings))?,
        Output::Table => show(out, told.now, soon, &dates, &findings)?,
        Output::Plain => show_plain(out, told.now, soon, &dates, &findings)?,
    }
    Ok(if is_fine { Exit::Done } else { Exit::Failure })
}

fn ask(api: &Api) -> anyhow::Result<Told> {
    let get = |path: &str| api.get(path).map(|answer| answer.body);
    let status = get("/admin/v1/status")?;
    let Pages { all: clients, last } = pages(api, "/admin/v1/credentials", "clients", "")?;
    Ok(Told {
        now: status["now"].as_str().and_then(when::read).context("the server does not say what time it is")?,
        trust: get("/admin/v1/trust-anchors")?,
        keys: get("/admin/v1/keys")?,
        shared: get("/admin/v1/shared-subjects")?,
        uses_are_complete: last["uses_of"] == "every_server",
        status,
        clients,
    })
}

fn to_json(told: &Told, soon: Soon, is_fine: bool, dates: &[Dated], findings: &[Finding]) -> Value {
    json!({
        "now": told.now.to_string(),
        "fine": is_fine,
        "dates": dates.iter().map(|dated| dated.to_json(told.now, soon)).collect::<Vec<_>>(),
        "findings": findings.iter().map(Finding::to_json).collect::<Vec<_>>(),
    })
}

fn show(out: &mut dyn Write, now: Timestamp, soon: Soon, dates: &[Dated], findings: &[Finding]) -> io::Result<()> {
    let left = |until: Timestamp| match until >= now {
        true => when::span(until.since(now)),
        false => format!("-{}", when::span(now.since(until))),
    };
    let used = |used: Timestamp| format!("{} ago", when::span(now.since(used)));
    let row = |dated: &Dated| {
        let times = [dated.until.map(left), dated.last_used.map(used)].map(Option::unwrap_or_default);
        row(dated, dated.state(now, soon).for_people(), times)
    };
    print::rows(out, Output::Table, &COLUMNS, &dates.iter().map(row).collect::<Vec<_>>())?;
    if !findings.is_empty() {
        writeln!(out)?;
    }
    findings.iter().try_for_each(|finding| print::rows(out, Output::Table, &[], &[vec![finding.words(SHOWN)]]))
}

/// Time left in seconds, for programs.
fn show_plain(
    out: &mut dyn Write,
    now: Timestamp,
    soon: Soon,
    dates: &[Dated],
    findings: &[Finding],
) -> io::Result<()> {
    let left = |until: Timestamp| (until.unix() - now.unix()).to_string();
    let of_date = |dated: &Dated| {
        let times =
            [dated.until.map(left), dated.last_used.map(|used| used.to_string())].map(Option::unwrap_or_default);
        row(dated, dated.state(now, soon).as_str(), times)
    };
    let of_finding = |finding: &Finding| {
        let texts = ["finding", "", "", "", finding.kind, "", &finding.words(usize::MAX)].map(str::to_owned);
        texts.to_vec()
    };
    let rows: Vec<_> = dates.iter().map(of_date).chain(findings.iter().map(of_finding)).collect();
    print::rows(out, Output::Plain, &[], &rows)
}

fn row(dated: &Dated, state: &str, [left, last_used]: [String; 2]) -> Vec<String> {
    let name = match dated.uncounted {
        Some(why) => format!("{} ({why})", dated.name),
        None => dated.name.clone(),
    };
    let until = dated.until.map(|until| until.to_string()).unwrap_or_default();
    vec![state.to_owned(), left, until, last_used, dated.what.to_owned(), dated.whose.clone(), name]
}
