//! `audit verify`: says of each chain how far it goes, and of each break where it is.

use std::io::{self, Write};

use clap::Args;
use serde_json::{Value, json};

use super::files::{FileArgs, in_order};
use super::store::{self, StoreArgs};
use crate::audit::LineHash;
use crate::audit::lines::Lines;
use crate::audit::verify::{Place, Report, Verifier};
use crate::cli::Exit;
use crate::cli::config::Output;
use crate::config::Environment;

/// Which files, and what they must hold.
#[derive(Debug, Args)]
pub(in crate::cli) struct VerifyArgs {
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    store: StoreArgs,
    /// A head that was noted earlier, from here or from the server's log: the line must still be there.
    #[arg(long, value_name = "HASH", value_parser = head, allow_hyphen_values = true)]
    expect_head: Vec<LineHash>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Plain)]
    output: Output,
}

fn head(text: &str) -> Result<LineHash, &'static str> {
    LineHash::parse(text).ok_or("a head has 43 characters of base64url")
}

/// Reads the files once, in the order in which they were written, and prints what it found.
pub(super) fn run(args: &VerifyArgs, environment: &Environment, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let found = match args.store.open(&args.files.sources, environment)? {
        Some(lines) => {
            let store::Checked { names, lines, report } = store::verify(&lines, args.expect_head.clone())?;
            Found { names, places: "chains of the store", lines, report }
        }
        None => in_files(args, environment)?,
    };
    match args.output {
        Output::Json => writeln!(out, "{:#}", found.json())?,
        Output::Plain => found.plain(out)?,
        Output::Table => found.table(out)?,
    }
    Ok(if found.report.is_good() { Exit::Done } else { Exit::Failure })
}

fn in_files(args: &VerifyArgs, environment: &Environment) -> anyhow::Result<Found> {
    let mut verifier = Verifier::new(args.expect_head.clone());
    let mut names = Vec::new();
    let mut count = 0;
    for (file, source) in in_order(args.files.paths(environment)?)?.into_iter().enumerate() {
        names.push(source.name.clone());
        let mut lines = Lines::new(source.read()?);
        while let Some(line) = lines.next_line()? {
            verifier.line(file, line);
            count += 1;
        }
    }
    Ok(Found { names, places: "files", lines: count, report: verifier.finish() })
}

/// What was found in which files.
struct Found {
    names: Vec<String>,
    /// What these are.
    places: &'static str,
    lines: u64,
    report: Report,
}

impl Found {
    fn plain(&self, out: &mut dyn Write) -> io::Result<()> {
        for chain in &self.report.chains {
            let (first, last) = (chain.first_seq, chain.last_seq);
            writeln!(out, "chain  {}: {} lines, {first} to {last}", chain.id, chain.lines)?;
            writeln!(out, "       from {} to {}", chain.first_ts, chain.last_ts)?;
            if chain.lost > 0 {
                writeln!(out, "       tells of {} lines that could not be written", chain.lost)?;
            }
            writeln!(out, "head   {}", chain.head)?;
        }
        self.remarks(out)
    }

    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        let row = |out: &mut dyn Write, cells: [&str; 8]| {
            let [chain, lines, first, last, from, to, lost, head] = cells;
            writeln!(out, "{chain:16}  {lines:>10}  {first:>10}  {last:>10}  {from:24}  {to:24}  {lost:>6}  {head}")
        };
        row(out, ["CHAIN", "LINES", "FIRST", "LAST", "FROM", "TO", "LOST", "HEAD"])?;
        for chain in &self.report.chains {
            let numbers = [chain.lines, chain.first_seq, chain.last_seq, chain.lost].map(|number| number.to_string());
            let ([lines, first, last, lost], head) = (&numbers, chain.head.to_string());
            row(out, [&chain.id, lines, first, last, &chain.first_ts, &chain.last_ts, lost, &head])?;
        }
        self.remarks(out)
    }

    fn remarks(&self, out: &mut dyn Write) -> io::Result<()> {
        for (place, note) in &self.report.notes {
            writeln!(out, "note   {}{note}", self.place(place))?;
        }
        for (place, found) in &self.report.breaks {
            writeln!(out, "BREAK  {}{found}", self.place(place))?;
        }
        let shown = self.report.breaks.len() as u64;
        if self.report.broken > shown {
            writeln!(out, "BREAK  and {} more", self.report.broken - shown)?;
        }
        let (lines, count, places) = (self.lines, self.names.len(), self.places);
        match self.report.broken {
            0 => writeln!(out, "good: {lines} lines in {count} {places}"),
            broken => writeln!(out, "BROKEN: {broken} breaks in {lines} lines in {count} {places}"),
        }
    }

    /// File and line, where it is about a line.
    fn place(&self, place: &Place) -> String {
        self.names.get(place.file).map(|name| format!("{name}:{}: ", place.line)).unwrap_or_default()
    }

    fn json(&self) -> Value {
        let chains = self.report.chains.iter().map(|chain| {
            json!({
                "chain": chain.id,
                "lines": chain.lines,
                "first_seq": chain.first_seq,
                "last_seq": chain.last_seq,
                "first_ts": chain.first_ts,
                "last_ts": chain.last_ts,
                "lost": chain.lost,
                "head": chain.head.to_string(),
            })
        });
        let breaks = self.report.breaks.iter().map(|(place, found)| self.remark(place, &found.to_string()));
        let notes = self.report.notes.iter().map(|(place, note)| self.remark(place, &note.to_string()));
        json!({
            "good": self.report.is_good(),
            "lines": self.lines,
            "files": self.names,
            "chains": chains.collect::<Vec<_>>(),
            "broken": self.report.broken,
            "breaks": breaks.collect::<Vec<_>>(),
            "notes": notes.collect::<Vec<_>>(),
        })
    }

    fn remark(&self, place: &Place, text: &str) -> Value {
        match self.names.get(place.file) {
            Some(name) => json!({ "file": name, "line": place.line, "says": text }),
            None => json!({ "says": text }),
        }
    }
}
