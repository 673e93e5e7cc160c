//! A file of any size as lines, in constant memory.

use std::io::{self, BufRead};

/// The longest line that is looked at, in bytes. Ours are far shorter.
const MAX_LINE: usize = 1 << 20;

/// Reads line by line.
#[derive(Debug)]
pub struct Lines<R> {
    input: R,
    number: u64,
    bytes: Vec<u8>,
}

/// A line as it stands in the file, without its end.
#[derive(Clone, Copy, Debug)]
pub struct RawLine<'a> {
    /// Its number, from 1.
    pub number: u64,
    /// Its bytes; the first mebibyte of a longer one.
    pub bytes: &'a [u8],
    /// Whether all of it is there.
    pub is_whole: bool,
    /// Whether a line end follows; if not, somebody may be writing it now.
    pub is_ended: bool,
}

impl<R: BufRead> Lines<R> {
    /// Begins with the first line.
    pub const fn new(input: R) -> Self {
        Self { input, number: 0, bytes: Vec::new() }
    }

    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// When the input cannot be read.
    pub fn next_line(&mut self) -> io::Result<Option<RawLine<'_>>> {
        self.bytes.clear();
        let (mut is_whole, mut is_ended, mut is_end) = (true, false, true);
        loop {
            let chunk = match self.input.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                chunk => chunk?,
            };
            if chunk.is_empty() {
                break;
            }
            is_end = false;
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let part = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default();
            let room = MAX_LINE - self.bytes.len();
            is_whole &= part.len() <= room;
            self.bytes.extend_from_slice(part.get(..room).unwrap_or(part));
            let used = part.len() + usize::from(end.is_some());
            self.input.consume(used);
            if end.is_some() {
                is_ended = true;
                break;
            }
        }
        self.number += 1;
        Ok((!is_end).then_some(RawLine { number: self.number, bytes: &self.bytes, is_whole, is_ended }))
    }
}
