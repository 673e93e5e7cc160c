//! `audit tail`: the last lines of the log, and those that come, over rotations.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use super::files::configured;
use super::show::{Printer, Seen};
use super::store::{self, StoreArgs};
use crate::cli::Exit;
use crate::cli::config::{Output, SourceArgs};
use crate::config::Environment;

/// How often is looked for more.
const POLL: Duration = Duration::from_millis(200);
/// How much is read at once, and how far back at the most.
const CHUNK: u64 = 64 * 1024;
const FARTHEST: u64 = 16 << 20;

/// Which file, and how much of it.
#[derive(Debug, Args)]
pub(in crate::cli) struct TailArgs {
    /// The audit log; without it, that of the configuration.
    #[arg(conflicts_with = "store")]
    file: Option<PathBuf>,
    #[command(flatten)]
    sources: SourceArgs,
    #[command(flatten)]
    store: StoreArgs,
    /// Go on with the lines that come, also when the file is rotated.
    #[arg(short, long)]
    follow: bool,
    /// How many lines to begin with.
    #[arg(short = 'n', long, default_value_t = 10)]
    lines: usize,
    /// How to print; `json` prints each line as it stands in the file.
    #[arg(short, long, value_enum, default_value_t = Output::Plain)]
    output: Output,
}

/// Prints the last lines; with `--follow` until it is ended.
pub(super) fn run(args: &TailArgs, environment: &Environment, out: &mut dyn Write) -> anyhow::Result<Exit> {
    if let Some(lines) = args.store.open(&args.sources, environment)? {
        let mut printer = Printer::start(out, args.output)?;
        return if args.follow {
            store::follow(&lines, args.lines, &mut printer)
        } else {
            store::last(&lines, args.lines, &mut printer).map(|_| Exit::Done)
        };
    }
    let path = match &args.file {
        Some(path) => path.clone(),
        None => configured(&args.sources, environment)?,
    };
    let mut tail = Tail::open(&path, args.lines).with_context(|| format!("cannot read {}", path.display()))?;
    let mut printer = Printer::start(out, args.output)?;
    loop {
        tail.print(&mut printer)?;
        if !args.follow {
            return Ok(Exit::Done);
        }
        thread::sleep(POLL);
        tail.follow(&path, &mut printer)?;
    }
}

/// An open file, and what was read of it.
struct Tail {
    file: File,
    /// The beginning of a line whose end has not come yet.
    rest: Vec<u8>,
}

impl Tail {
    /// Begins with the last lines.
    fn open(path: &Path, lines: usize) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let start = start_of_last(&mut file, lines)?;
        file.seek(SeekFrom::Start(start))?;
        Ok(Self { file, rest: Vec::new() })
    }

    /// Prints what has come.
    fn print(&mut self, printer: &mut Printer<'_>) -> io::Result<()> {
        let mut chunk = Vec::with_capacity(CHUNK as usize);
        while (&self.file).take(CHUNK).read_to_end(&mut chunk)? > 0 {
            for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
                self.rest.extend_from_slice(piece);
                if let Some(line) = self.rest.strip_suffix(b"\n") {
                    print(line, printer)?;
                    self.rest.clear();
                }
            }
            // Nothing of ours is as long as this.
            if self.rest.len() as u64 > FARTHEST {
                self.rest.clear();
            }
            chunk.clear();
        }
        printer.flush()
    }

    /// Goes over to the file that the path leads to, once all of the old one is printed, or back to the beginning of one
    /// that was cut.
    fn follow(&mut self, path: &Path, printer: &mut Printer<'_>) -> io::Result<()> {
        let open = self.file.metadata()?;
        let is_moved = fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) != (open.dev(), open.ino()));
        if is_moved && let Ok(new) = File::open(path) {
            // Whoever was writing when it was moved has written by now.
            thread::sleep(POLL);
            self.print(printer)?;
            (self.file, self.rest) = (new, Vec::new());
        } else if open.len() < self.file.stream_position()? {
            self.file.rewind()?;
            self.rest.clear();
        }
        Ok(())
    }
}

/// What is no line of the log is shown as such, and does nothing to a terminal.
fn print(line: &[u8], printer: &mut Printer<'_>) -> io::Result<()> {
    match Seen::parse(line) {
        Some(seen) => printer.line(line, &seen),
        None => writeln!(io::stderr(), "no line of the log, passed over"),
    }
}

/// Where the last so many lines begin, not further back than is looked.
fn start_of_last(file: &mut File, lines: usize) -> io::Result<u64> {
    let size = file.metadata()?.len();
    let mut length = CHUNK;
    loop {
        let start = size.saturating_sub(length);
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        (&*file).take(size - start).read_to_end(&mut bytes)?;
        // The end of the last line begins no other.
        let ends = bytes.iter().enumerate().rev().skip(1).filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at as u64);
        match ends.into_iter().nth(lines.saturating_sub(1)) {
            _ if lines == 0 => return Ok(size),
            Some(end) => return Ok(start + end + 1),
            None if start == 0 || length >= FARTHEST => return Ok(start),
            None => length *= 4,
        }
    }
}
