//! The end of an audit file: which line a writer has to follow, and what is left of one that was cut off.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::chain::{Chained, LineHash, Position};

/// How many bytes are read first; a few lines.
const USUAL: u64 = 16 * 1024;
/// How far back is looked for a line end. What is longer is no line of ours, and no chain goes on from it.
const FARTHEST: u64 = 16 << 20;

/// What the end of a file says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tail {
    pub(super) last: LastLine,
    pub(super) torn: Option<Torn>,
    /// Whether the last byte ends a line.
    pub(super) is_ended: bool,
}

/// The last whole line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LastLine {
    /// There is none.
    None,
    /// It belongs to no chain.
    Foreign(LineHash),
    /// It belongs to a chain.
    Chained(Position),
}

/// Bytes after the last line end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Torn {
    pub(super) bytes: u64,
    pub(super) hash: LineHash,
}

/// Reads the end of a file of this size.
pub(super) fn read(file: &File, size: u64) -> io::Result<Tail> {
    let mut length = USUAL;
    loop {
        let mut bytes = vec![0; usize::try_from(length.min(size)).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, size.saturating_sub(length))?;
        if length >= size || length >= FARTHEST || line_ends(&bytes) == 2 {
            return Ok(of(&bytes));
        }
        length *= 32;
    }
}

/// How many line ends there are, two at the most.
fn line_ends(bytes: &[u8]) -> usize {
    bytes.iter().rev().filter(|byte| **byte == b'\n').take(2).count()
}

/// What these bytes say, which begin at the beginning of the file or before the last whole line.
fn of(bytes: &[u8]) -> Tail {
    let end = bytes.iter().rposition(|byte| *byte == b'\n');
    let (whole, rest) = bytes.split_at(end.map_or(0, |end| end + 1));
    let is_ended = rest.is_empty();
    // A line of which only the line end is missing is whole: nothing else of ours begins and ends as it does.
    if let last @ LastLine::Chained(_) = last_line(rest) {
        return Tail { last, torn: None, is_ended };
    }
    let torn = (!is_ended).then(|| Torn { bytes: rest.len() as u64, hash: LineHash::of(rest) });
    let last = match whole.strip_suffix(b"\n") {
        None => LastLine::None,
        Some(lines) => last_line(lines.rsplit(|byte| *byte == b'\n').next().unwrap_or_default()),
    };
    Tail { last, torn, is_ended }
}

fn last_line(line: &[u8]) -> LastLine {
    let hash = LineHash::of(line);
    match Chained::parse(line) {
        None => LastLine::Foreign(hash),
        Some(Chained { chain, seq, .. }) => LastLine::Chained(Position { chain, seq, hash: Some(hash) }),
    }
}
