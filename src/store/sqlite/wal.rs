//! Looks for damage in SQLite's write-ahead log, which SQLite itself would pass over in silence.
//!
//! SQLite reads the log up to the first frame whose checksum is wrong and takes the rest for a commit that was cut off
//! by a crash. But each commit is on disk before the next begins, so a crash spoils the last one only. Every checksum
//! goes on from the one before, so frames behind a spoilt one still show whether they were written one after the other:
//! when there are two such commits, at least one was answered, and opening the file would forget it. (A single one may
//! be left from a commit that failed and was written over.)
//! Format: <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::wal_index::Committed;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// Another process may be writing while this one reads; what it was in the middle of is whole at the next look.
const LOOKS: u64 = 4;

/// Why the latest commits may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// It was said before, and not dealt with.
    #[error("an earlier start found commits missing, and did not come to its end")]
    Before,
    /// The database is a copy.
    #[error("the database is a copy that was put in the place of another")]
    Copy,
    /// The log breaks off, or a bit of it is another one.
    #[error("the write-ahead log certbind.db-wal is cut off or damaged")]
    Damaged,
    /// There is no log, although nobody has closed the database.
    #[error("the write-ahead log certbind.db-wal is gone or empty")]
    NoLog,
    /// The log is one of before.
    #[error("the write-ahead log certbind.db-wal is not the one that was written last")]
    OtherLog,
}

/// Why commits may be missing in a database that was not closed; `committed` is what was committed last, where that is
/// known. Where not, a log that does not end with a whole frame may have been cut off.
pub(super) fn doubt(database: &Path, committed: Option<Committed>) -> io::Result<Option<Doubt>> {
    let log = match fs::read(beside(database, "-wal")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        log => log?,
    };
    if log.len() <= HEADER {
        return Ok(Some(Doubt::NoLog));
    }
    let Some(frames) = Frames::of(&log) else { return Ok(Some(Doubt::Damaged)) };
    Ok(match committed {
        Some(committed) => lacks(frames, committed),
        None => ends_badly(frames),
    })
}

/// Whether there is nothing in the log beside this database.
pub(super) fn is_empty(database: &Path) -> bool {
    fs::metadata(beside(database, "-wal")).map_or(true, |log| log.len() == 0)
}

/// One of the files that SQLite has beside the database.
pub(super) fn beside(database: &Path, ending: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

fn lacks(mut frames: Frames<'_>, committed: Committed) -> Option<Doubt> {
    if committed.frame == 0 {
        // The log began anew, so all of the one before is in the database.
        return None;
    }
    if frames.salts != committed.salts {
        return Some(Doubt::OtherLog);
    }
    let are_whole = (1..=committed.frame).all(|_| frames.next() == Some(Frame::Whole));
    if are_whole && frames.sum.state() == committed.sum { None } else { Some(Doubt::Damaged) }
}

fn ends_badly(mut frames: Frames<'_>) -> Option<Doubt> {
    let end = frames.find(|frame| *frame != Frame::Whole);
    match end {
        // What is behind a whole frame is left of a log of before, or nothing.
        Some(Frame::Whole | Frame::Older) => None,
        None if frames.rest.is_empty() => None,
        Some(Frame::Bad) | None => Some(Doubt::Damaged),
    }
}

/// The frames of a log, each held against the checksum of all before it.
struct Frames<'a> {
    sum: Checksum,
    salts: [u8; 8],
    page_size: usize,
    rest: &'a [u8],
}

/// What is to be thought of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frame {
    Whole,
    /// Of this log, or it says so.
    Bad,
    /// Left from before the log began anew.
    Older,
}

impl<'a> Frames<'a> {
    fn of(log: &'a [u8]) -> Option<Self> {
        let (header, rest) = log.split_first_chunk::<HEADER>()?;
        let sum = Checksum::of_header(header)?;
        let page_size = page_size(header)?;
        Some(Self { sum, salts: header[16..24].try_into().ok()?, page_size, rest })
    }
}

impl Iterator for Frames<'_> {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        let (frame, rest) = self.rest.split_at_checked(FRAME_HEADER + self.page_size)?;
        self.rest = rest;
        let (header, page) = frame.split_at(FRAME_HEADER);
        self.sum.add(&header[..8]);
        self.sum.add(page);
        Some(match (header[8..16] == self.salts, self.sum.is(&header[16..24])) {
            (true, true) => Frame::Whole,
            (true, false) => Frame::Bad,
            (false, _) => Frame::Older,
        })
    }
}

/// Whether commits are lost in the log beside this database.
pub(super) fn is_damaged(database: &Path) -> io::Result<bool> {
    let path = beside(database, "-wal");
    for look in 0..LOOKS {
        thread::sleep(Duration::from_millis(5 * look));
        let log = match fs::read(&path) {
            Ok(log) => log,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        if !loses_commits(&log) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn loses_commits(log: &[u8]) -> bool {
    let Some((header, frames)) = log.split_first_chunk::<HEADER>() else { return false };
    if frames.is_empty() {
        return false;
    }
    let Some(mut sum) = Checksum::of_header(header) else { return true };
    let Some(page_size) = page_size(header) else { return true };
    let salts = &header[16..24];
    let mut spoilt = false;
    let mut commits_in_a_row = 0;
    for frame in frames.chunks_exact(FRAME_HEADER + page_size) {
        let (frame_header, page) = frame.split_at(FRAME_HEADER);
        sum.add(&frame_header[..8]);
        sum.add(page);
        // Other salts: left from before the log was last begun anew, or spoilt.
        if &frame_header[8..16] != salts || !sum.is(&frame_header[16..24]) {
            spoilt = true;
            commits_in_a_row = 0;
            sum.go_on_from(&frame_header[16..24]);
        }
        let is_commit = &frame_header[8..16] == salts && word(frame_header, 4) != 0;
        commits_in_a_row += usize::from(spoilt && is_commit);
        if commits_in_a_row > 1 {
            return true;
        }
    }
    false
}

/// The size of a page, if it is one. 1 stands for 65536 in other places of the format, never here.
fn page_size(header: &[u8; HEADER]) -> Option<usize> {
    let size = word(header, 8) as usize;
    (size.is_power_of_two() && (512..=65536).contains(&size)).then_some(size)
}

/// The running checksum of header and frames.
pub(super) struct Checksum {
    big_endian: bool,
    state: (u32, u32),
}

impl Checksum {
    /// Starts with the header, if that is whole.
    fn of_header(header: &[u8; HEADER]) -> Option<Self> {
        let big_endian = match word(header, 0) {
            0x377f_0682 => false,
            0x377f_0683 => true,
            _ => return None,
        };
        let mut sum = Self { big_endian, state: (0, 0) };
        sum.add(&header[..24]);
        sum.is(&header[24..32]).then_some(sum)
    }

    /// Starts for what never leaves this machine.
    pub(super) const fn of_this_machine() -> Self {
        Self { big_endian: cfg!(target_endian = "big"), state: (0, 0) }
    }

    /// What it is now.
    pub(super) const fn state(&self) -> (u32, u32) {
        self.state
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        let read = if self.big_endian { u32::from_be_bytes } else { u32::from_le_bytes };
        let (pairs, _) = bytes.as_chunks::<8>();
        for [a, b, c, d, e, f, g, h] in pairs {
            self.state.0 = self.state.0.wrapping_add(read([*a, *b, *c, *d])).wrapping_add(self.state.1);
            self.state.1 = self.state.1.wrapping_add(read([*e, *f, *g, *h])).wrapping_add(self.state.0);
        }
    }

    fn go_on_from(&mut self, written: &[u8]) {
        self.state = (word(written, 0), word(written, 4));
    }

    fn is(&self, written: &[u8]) -> bool {
        self.state == (word(written, 0), word(written, 4))
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_be_bytes)
}
