//! Reads from SQLite's wal-index what was committed last: how far the write-ahead log reached, and its checksum there.
//!
//! SQLite writes it after the commit is on disk and before anybody is answered, into a file that outlives the process. So
//! after `kill -9` it says of every commit that was answered that the log must hold it. Not after the system went down:
//! nothing brings it to disk. Format: <https://www.sqlite.org/walformat.html#the_wal_index_file_format>.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::wal::{Checksum, beside};

/// The header stands there twice, so that a reader sees whether it was just being written.
const HEADER: usize = 48;
/// What of it its own checksum is of.
const SUMMED: usize = 40;
const VERSION: u32 = 3_007_000;

/// The last commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Committed {
    /// Its last frame in the log, from 1; 0 when there is none since the log began anew.
    pub(super) frame: u32,
    /// The checksum of that frame.
    pub(super) sum: (u32, u32),
    /// Which beginning of the log this is.
    pub(super) salts: [u8; 8],
}

/// What the wal-index beside this database says, if it is whole.
pub(super) fn committed(database: &Path) -> Option<Committed> {
    let mut both = [0; 2 * HEADER];
    File::open(beside(database, "-shm")).ok()?.read_exact(&mut both).ok()?;
    let (header, copy) = both.split_at(HEADER);
    let mut sum = Checksum::of_this_machine();
    sum.add(&header[..SUMMED]);
    let is_whole = header == copy && sum.state() == (native(header, 40), native(header, 44));
    let is_filled = native(header, 0) == VERSION && header[12] == 1;
    (is_whole && is_filled).then(|| Committed {
        frame: native(header, 16),
        sum: (native(header, 24), native(header, 28)),
        salts: header[32..40].try_into().unwrap_or_default(),
    })
}

/// The file is of this machine alone, and its numbers are as this machine writes them.
fn native(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_ne_bytes)
}
