//! Where audit lines go, as the thread sees it that writes them.

use std::io::{self, ErrorKind, Write};

use super::chain::Position;
use super::tail::Torn;

/// Takes whole lines.
pub(super) trait Place: Send {
    /// What it is called in the log.
    fn name(&self) -> &'static str;

    /// Whether lines make a chain there.
    fn is_chained(&self) -> bool;

    /// About how many bytes it takes at once, so that nobody else has to wait for long.
    fn most(&self) -> usize {
        1 << 20
    }

    /// Takes the place for this process alone, and says how things stand there.
    fn hold(&mut self) -> io::Result<Start>;

    /// Writes lines as far as it can.
    fn append(&mut self, lines: &[u8]) -> Appended;

    /// Gives the place free. The chain ends here now.
    fn release(&mut self, end: Option<Position>);

    /// Comes back when what was written is on disk.
    fn sync(&mut self) -> io::Result<()>;
}

/// How things stand at a place.
#[derive(Debug, Default)]
pub(super) struct Start {
    /// What the next line follows, where lines are chained.
    pub(super) position: Option<Position>,
    /// Lines that were cut off, and that nobody has told of yet.
    pub(super) torn: Vec<Torn>,
}

/// What came of writing.
#[derive(Debug)]
pub(super) struct Appended {
    /// How many bytes of whole lines were taken.
    pub(super) whole: usize,
    /// Why not all.
    pub(super) fault: Option<io::Error>,
}

/// A stream, which takes lines among those of others: they are not chained, as what is between them is not ours.
pub(super) struct Stream<W> {
    out: W,
    is_between_lines: bool,
}

impl<W: Write + Send> Stream<W> {
    pub(super) const fn new(out: W) -> Self {
        Self { out, is_between_lines: true }
    }
}

impl<W: Write + Send> Place for Stream<W> {
    fn name(&self) -> &'static str {
        "log"
    }

    fn is_chained(&self) -> bool {
        false
    }

    fn hold(&mut self) -> io::Result<Start> {
        if !self.is_between_lines {
            self.out.write_all(b"\n")?;
            self.is_between_lines = true;
        }
        Ok(Start::default())
    }

    fn append(&mut self, lines: &[u8]) -> Appended {
        let (written, fault) = write_most(&mut self.out, lines);
        let whole = whole(&lines[..written]);
        self.is_between_lines = whole == written;
        Appended { whole, fault }
    }

    fn release(&mut self, _: Option<Position>) {}

    fn sync(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes what can be written; says how many bytes that were, and why not all.
pub(super) fn write_most(out: &mut impl Write, bytes: &[u8]) -> (usize, Option<io::Error>) {
    let mut written = 0;
    while let Some(rest @ [_, ..]) = bytes.get(written..) {
        match out.write(rest) {
            Ok(0) => return (written, Some(ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return (written, Some(error)),
        }
    }
    (written, None)
}

/// How many of these bytes belong to whole lines.
pub(super) fn whole(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1)
}
