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
use std::path::Path;
use std::thread;
use std::time::Duration;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// Another process may be writing while this one reads; what it was in the middle of is whole at the next look.
const LOOKS: u64 = 4;

/// Whether commits are lost in the log beside this database.
pub(super) fn is_damaged(database: &Path) -> io::Result<bool> {
    let mut path = database.as_os_str().to_owned();
    path.push("-wal");
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
    let page_size = word(header, 8) as usize;
    let salts = &header[16..24];
    // A page size of 1 stands for 65536 in other places of the format, never here.
    if !page_size.is_power_of_two() || !(512..=65536).contains(&page_size) {
        return true;
    }
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

/// The running checksum of header and frames.
struct Checksum {
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

    fn add(&mut self, bytes: &[u8]) {
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
