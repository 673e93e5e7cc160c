//! The audit lines of the store, asked for at the admin API of any server.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::show::{Printer, Seen};
use crate::audit::LineHash;
use crate::audit::lines::RawLine;
use crate::audit::verify::{Place, Report, Verifier};
use crate::cli::Exit;
use crate::cli::admin_api::{Api, CallError, Reach, encode};
use crate::cli::config::SourceArgs;
use crate::config::Environment;

/// How many lines are asked for at once.
const PAGE: usize = 1000;
/// How often is looked for more.
const POLL: Duration = Duration::from_millis(500);

/// Whether to look into the store, and at which server.
#[derive(Args, Clone, Debug)]
pub(super) struct StoreArgs {
    /// Look into the store, where the lines of all servers are, by way of the admin API
    #[arg(long)]
    store: bool,
    /// Only lines that this server wrote; with --store
    #[arg(long, value_name = "SERVER", requires = "store")]
    on: Option<String>,
    #[command(flatten)]
    reach: Reach,
}

/// The lines of the store.
pub(super) struct StoredLines {
    api: Api,
    on: Option<String>,
}

/// A page of them.
#[derive(Debug, Deserialize)]
struct Page {
    lines: Vec<Line>,
    more: bool,
    next_cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Line {
    cursor: String,
    server: String,
    chain: String,
    line: String,
    as_written: bool,
}

#[derive(Debug, Deserialize)]
struct Chains {
    chains: Vec<Chain>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
struct Chain {
    server: String,
    chain: String,
}

impl StoreArgs {
    /// The store, if that is what is meant.
    pub(super) fn open(&self, sources: &SourceArgs, environment: &Environment) -> anyhow::Result<Option<StoredLines>> {
        if !self.store {
            return Ok(None);
        }
        let api = self.reach.connect(&sources.sources(environment.clone()))?;
        Ok(Some(StoredLines { api, on: self.on.clone() }))
    }
}

impl StoredLines {
    fn get<T: DeserializeOwned>(&self, path: &str, parameters: &[(&str, &str)]) -> anyhow::Result<T> {
        let parameters: Vec<_> = parameters.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        let query = if parameters.is_empty() { String::new() } else { format!("?{}", parameters.join("&")) };
        let answer = self.api.get(&format!("{path}{query}"))?;
        serde_json::from_value(answer.body).context("the server answers in a way that this version does not know")
    }

    /// The page behind `cursor`.
    fn page(&self, wanted: &[(&str, &str)], limit: usize, cursor: Option<&str>) -> anyhow::Result<Page> {
        let limit = limit.to_string();
        let mut parameters = wanted.to_vec();
        parameters.push(("limit", &limit));
        parameters.extend(self.on.as_deref().map(|server| ("server", server)));
        parameters.extend(cursor.map(|cursor| ("cursor", cursor)));
        self.get("/admin/v1/audit", &parameters)
    }

    /// The chains, one at least: nothing is nobody's evidence.
    fn chains(&self) -> anyhow::Result<Vec<Chain>> {
        let mut chains = self.get::<Chains>("/admin/v1/audit/chains", &[])?.chains;
        chains.retain(|chain| self.on.as_ref().is_none_or(|server| *server == chain.server));
        match &self.on {
            _ if !chains.is_empty() => Ok(chains),
            Some(server) => bail!("the store holds no audit lines of {server}"),
            None => bail!("the store holds no audit lines; log.audit_store = true has servers write them there"),
        }
    }
}

/// Prints the lines that fit, oldest first.
pub(super) fn search(
    lines: &StoredLines,
    wanted: &[(&'static str, String)],
    most: u64,
    printer: &mut Printer<'_>,
) -> anyhow::Result<Exit> {
    let wanted: Vec<(&str, &str)> = wanted.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let (mut left, mut cursor) = (most, None);
    while left > 0 {
        let limit = usize::try_from(left).unwrap_or(PAGE).min(PAGE);
        let page = lines.page(&wanted, limit, cursor.as_deref())?;
        left -= page.lines.len() as u64;
        page.lines.iter().try_for_each(|line| print(line, printer))?;
        cursor = page.next_cursor;
        if !page.more {
            break;
        }
    }
    printer.flush()?;
    if left == most {
        // What was never written is not found either.
        lines.chains()?;
    }
    Ok(Exit::Done)
}

/// Prints the last lines, and gives the place behind them.
pub(super) fn last(lines: &StoredLines, count: usize, printer: &mut Printer<'_>) -> anyhow::Result<Option<String>> {
    let (mut found, mut cursor) = (VecDeque::new(), None);
    // One at least, to know where the end is.
    while found.len() < count.max(1) {
        let limit = (count.max(1) - found.len()).min(PAGE);
        let page = lines.page(&[("order", "desc")], limit, cursor.as_deref())?;
        page.lines.into_iter().for_each(|line| found.push_front(line));
        cursor = page.next_cursor;
        if !page.more {
            break;
        }
    }
    let skipped = found.len().saturating_sub(count);
    found.iter().skip(skipped).try_for_each(|line| print(line, printer))?;
    printer.flush()?;
    Ok(found.back().map(|line| line.cursor.clone()))
}

/// Prints the last lines and those that come, until it is ended. A server that cannot answer is asked again.
pub(super) fn follow(lines: &StoredLines, count: usize, printer: &mut Printer<'_>) -> anyhow::Result<Exit> {
    let (mut cursor, mut is_away) = (last(lines, count, printer)?, false);
    loop {
        match lines.page(&[], PAGE, cursor.as_deref()) {
            Ok(page) => {
                is_away = false;
                page.lines.iter().try_for_each(|line| print(line, printer))?;
                printer.flush()?;
                cursor = page.next_cursor.or(cursor);
                if page.more {
                    continue;
                }
            }
            Err(error) if may_pass(&error) => {
                if !is_away {
                    writeln!(io::stderr(), "{error:#}; trying again")?;
                }
                is_away = true;
            }
            Err(error) => return Err(error),
        }
        thread::sleep(POLL);
    }
}

/// Whether it may work later: the server does not answer, or its store does not.
fn may_pass(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<CallError>() {
        Some(CallError::Unreachable(_)) => true,
        Some(CallError::Refused(problem)) => problem["status"] == 503,
        None => false,
    }
}

/// A line that is none, as somebody changed it, does nothing to a terminal.
fn print(line: &Line, printer: &mut Printer<'_>) -> io::Result<()> {
    match Seen::parse(line.line.as_bytes()) {
        Some(seen) => printer.stored(&line.server, line.line.as_bytes(), &seen),
        None => writeln!(io::stderr(), "no line of the log, passed over"),
    }
}

/// What was found in the store.
pub(super) struct Checked {
    pub(super) names: Vec<String>,
    pub(super) lines: u64,
    pub(super) report: Report,
}

/// How far a chain was looked at.
struct Looked {
    chain: Chain,
    cursor: Option<String>,
    lines: u64,
}

/// Checks chain after chain, and then what came meanwhile: lines may be dropped while this reads, and the word about it
/// stands at the end of some chain.
pub(super) fn verify(lines: &StoredLines, expected: Vec<LineHash>) -> anyhow::Result<Checked> {
    let mut verifier = Verifier::of_store(expected);
    let mut looked: Vec<Looked> = Vec::new();
    for _ in 0..2 {
        for chain in lines.chains()? {
            if !looked.iter().any(|known| known.chain == chain) {
                looked.push(Looked { chain, cursor: None, lines: 0 });
            }
        }
        for (number, looked) in looked.iter_mut().enumerate() {
            check(lines, number, looked, &mut verifier)?;
        }
    }
    let names = looked.iter().map(|Looked { chain, .. }| format!("{} {}", chain.server, chain.chain)).collect();
    let count = looked.iter().map(|looked| looked.lines).sum();
    Ok(Checked { names, lines: count, report: verifier.finish() })
}

/// Checks the rest of a chain.
fn check(lines: &StoredLines, number: usize, looked: &mut Looked, verifier: &mut Verifier) -> anyhow::Result<()> {
    if looked.lines == 0 {
        verifier.next_chain();
    }
    loop {
        let page = lines.page(&[("chain", &looked.chain.chain)], PAGE, looked.cursor.as_deref())?;
        for line in &page.lines {
            looked.lines += 1;
            let place = Place { file: number, line: looked.lines };
            if !line.as_written || line.server != looked.chain.server || line.chain != looked.chain.chain {
                verifier.altered(place);
            }
            let bytes = line.line.as_bytes();
            verifier.line(number, RawLine { number: looked.lines, bytes, is_whole: true, is_ended: true });
        }
        looked.cursor = page.next_cursor.or(looked.cursor.take());
        if !page.more {
            return Ok(());
        }
    }
}
