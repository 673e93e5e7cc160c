//! The file of the audit log: appended to, and made anew where a rotation has moved it away.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

/// A file that is found by its path again and again: what `logrotate` renames gets no more lines, and nobody has to say so.
#[derive(Debug)]
pub struct AuditFile {
    path: PathBuf,
    file: File,
    identity: (u64, u64),
    /// A line is written whole into one file.
    is_between_lines: bool,
}

impl AuditFile {
    /// Opens the file, or makes it with access for the owner alone.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        let identity = identity(&file.metadata()?);
        Ok(Self { path, file, identity, is_between_lines: true })
    }

    /// Goes over to the file that the path leads to now. Where none can be had, the one of before is better than none.
    fn follow(&mut self) {
        let is_here = fs::metadata(&self.path).is_ok_and(|found| identity(&found) == self.identity);
        if !is_here && let Ok(new) = Self::open(self.path.clone()) {
            *self = new;
        }
    }
}

impl Write for AuditFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_between_lines {
            self.follow();
        }
        let written = self.file.write(bytes)?;
        if let Some(last) = bytes.get(..written).and_then(<[u8]>::last) {
            self.is_between_lines = *last == b'\n';
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_gets_no_line_that_is_written_after_it_and_loses_none() {
        let dir = tempfile::tempdir().unwrap();
        let [path, old] = ["audit.jsonl", "audit.jsonl.1"].map(|name| dir.path().join(name));
        let mut file = AuditFile::open(path.clone()).unwrap();
        file.write_all(b"1\n2").unwrap();
        fs::rename(&path, &old).unwrap();
        file.write_all(b"2\n").unwrap();
        file.write_all(b"3\n").unwrap();
        assert_eq!(fs::read_to_string(&old).unwrap(), "1\n22\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "3\n");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        file.write_all(b"4\n").unwrap();
        fs::remove_dir(&path).unwrap();
        file.write_all(b"5\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "5\n");
    }
}
