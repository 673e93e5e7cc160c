//! The file of the audit log: shared with other processes, appended to where it ends, and found anew after a rotation.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::{self, DirEntry, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use certbind_proto::entropy::Entropy;

use super::chain::Position;
use super::place::{Appended, Place, Start, whole, write_most};
use super::tail::{self, LastLine, Tail, Torn};
use super::writer::Durability;

#[cfg(test)]
mod tests;

/// How long another process may keep the file: much longer than it needs for what it has to write.
const LOCK_DEADLINE: Duration = Duration::from_millis(250);
/// How long before it is asked for again.
const LOCK_PAUSE: Duration = Duration::from_millis(1);
/// What a mode must not grant: anything to others, changes to the group.
const OTHERS: u32 = 0o027;
/// How often a file may be rotated between two looks.
const MAX_MOVES: usize = 8;

/// A file that is found by its path again and again: what `logrotate` renames gets no more lines, and nobody has to say so.
pub struct AuditFile {
    path: PathBuf,
    open: Open,
    entropy: Arc<dyn Entropy>,
    /// Where the chain stood when this process last looked.
    position: Option<Position>,
    /// How long the open file was then, as long as nothing went wrong since.
    size: Option<u64>,
    /// Whether its last line lacked its end then.
    is_unended: bool,
    /// Lines that were found cut off, and that nobody was told of yet.
    torn: Vec<Torn>,
    durability: Durability,
    /// Whether lines go to a file that was moved away, as there can be no other.
    is_astray: bool,
}

/// What stands at the path.
struct Open(File);

impl AuditFile {
    /// Opens the file, or makes it with access for the owner alone.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn open(path: PathBuf, entropy: Arc<dyn Entropy>) -> io::Result<Self> {
        let open = Open::at(&path)?;
        let (durability, is_astray) = (Durability::BestEffort, false);
        let (position, size, is_unended, torn) = (None, None, false, Vec::new());
        Ok(Self { path, open, entropy, position, size, is_unended, torn, durability, is_astray })
    }

    /// Takes lines that are lost with less ease, or not.
    pub(super) fn with(self, durability: Durability) -> Self {
        Self { durability, ..self }
    }

    /// Holds the file that the path leads to.
    fn hold_current(&mut self) -> io::Result<Start> {
        for _ in 0..MAX_MOVES {
            self.open.lock()?;
            if self.open.is_at(&self.path)? {
                self.is_astray = false;
                break;
            }
            let new = match Open::at(&self.path) {
                Ok(new) => new,
                Err(error) => {
                    self.stay(&error)?;
                    break;
                }
            };
            // Others may have written to the old file after this process did, until they saw that it was moved.
            if self.position.is_some() {
                self.look()?;
                self.end_old();
            }
            (self.open, self.size, self.is_unended) = (new, None, false);
        }
        self.look()?;
        let position = self.position.get_or_insert_with(|| Position::new(&*self.entropy, None)).clone();
        // Only now: until the file is held, somebody else asks again.
        Ok(Start { position: Some(position), torn: std::mem::take(&mut self.torn) })
    }

    /// Goes on with a file that was moved away, if that is better than none: nobody will find what is written to one that
    /// was removed or replaced, and whoever moved it may be compressing it, without what is added meanwhile.
    fn stay(&mut self, fault: &io::Error) -> io::Result<()> {
        let is_there = self.open.0.metadata()?.nlink() > 0 && fs::symlink_metadata(&self.path).is_err();
        if self.durability == Durability::Required || !is_there {
            let text = format!("the file was moved, removed or replaced, and no other can be made: {fault}");
            return Err(io::Error::new(fault.kind(), text));
        }
        if !std::mem::replace(&mut self.is_astray, true) {
            let path = self.path.display();
            tracing::error!(%path, error = fault as &dyn std::error::Error, "the audit log goes on in the file that was moved away, as no other can be made");
        }
        Ok(())
    }

    /// Looks at the end of the file, if it may have changed. A line that was cut off is ended by what is written next and
    /// tells of it, in one write: one that was ended, and not yet told of when the process died, would be a foreign line.
    fn look(&mut self) -> io::Result<()> {
        let size = self.open.0.metadata()?.len();
        if self.size == Some(size) {
            return Ok(());
        }
        let Tail { last, torn, is_ended } = tail::read(&self.open.0, size)?;
        // Once it is ended, what is left of a line is the line that a new chain comes after.
        let last = match (last, torn) {
            (LastLine::None | LastLine::Foreign(_), Some(torn)) => LastLine::Foreign(torn.hash),
            (last, _) => last,
        };
        self.torn.extend(torn);
        self.position = Some(self.follow(last));
        (self.size, self.is_unended) = (Some(size), !is_ended);
        Ok(())
    }

    /// Ends the last line of a file that gets no other, for whoever puts files together. A reader of ours does without.
    fn end_old(&mut self) {
        if self.is_unended {
            let _ = self.open.0.write_all(b"\n");
        }
    }

    /// What the next line follows. Another process may have gone on with the chain; but whoever cuts lines off the end
    /// or adds some of his own does not make this one forget what it wrote, so that the gap shows.
    fn follow(&mut self, last: LastLine) -> Position {
        match (self.position.take(), last) {
            (Some(own), LastLine::Chained(last)) if last.chain == own.chain && last.seq > own.seq => last,
            (Some(own), LastLine::Chained(last)) if last.chain == own.chain && last != own => self.changed(own),
            (Some(own), LastLine::Foreign(hash)) if own.seq == 0 => Position { hash: Some(hash), ..own },
            (Some(own), LastLine::Foreign(_)) => self.changed(own),
            (Some(own), LastLine::None | LastLine::Chained(_)) => own,
            (None, LastLine::Chained(last)) => last,
            (None, LastLine::Foreign(hash)) => Position::new(&*self.entropy, Some(hash)),
            (None, LastLine::None) => self.rotated().unwrap_or_else(|| Position::new(&*self.entropy, None)),
        }
    }

    fn changed(&self, own: Position) -> Position {
        tracing::error!(path = %self.path.display(), seq = own.seq, "the audit log does not end as it was left");
        own
    }

    /// The end of the chain in the newest of `audit.jsonl.1`, `audit.jsonl-20261122` and the like: a server that starts
    /// right after a rotation goes on with it.
    fn rotated(&mut self) -> Option<Position> {
        let name = self.path.file_name()?;
        let entries =
            fs::read_dir(folder_of(&self.path)).ok()?.flatten().filter(|entry| is_rotated(&entry.file_name(), name));
        let newest = entries.max_by_key(|entry| entry.metadata().and_then(|found| found.modified()).ok())?;
        let Tail { last: LastLine::Chained(last), torn, .. } = end_of(&newest)? else { return None };
        self.torn.extend(torn);
        Some(last)
    }
}

impl Place for AuditFile {
    fn name(&self) -> &'static str {
        "file"
    }

    fn is_chained(&self) -> bool {
        true
    }

    fn hold(&mut self) -> io::Result<Start> {
        self.hold_current().inspect_err(|_| self.open.unlock())
    }

    /// What a full disk has taken of a line is taken back, as long as nobody else can have written after it.
    fn append(&mut self, lines: &[u8]) -> Appended {
        let ended: Cow<'_, [u8]> = if self.is_unended { [b"\n", lines].concat().into() } else { lines.into() };
        let (written, fault) = write_most(&mut self.open.0, &ended);
        // The end of somebody else's line does not stay without a line of ours.
        let before = ended.len() - lines.len();
        let whole = whole(lines.get(..written.saturating_sub(before)).unwrap_or_default());
        let taken = if whole == 0 { 0 } else { before + whole };
        let end = self.size.map(|size| size + taken as u64);
        let is_whole = taken == written || end.is_some_and(|end| self.open.0.set_len(end).is_ok());
        self.size = end.filter(|_| is_whole);
        self.is_unended &= taken == 0;
        Appended { whole, fault }
    }

    fn release(&mut self, end: Option<Position>) {
        self.position = end;
        self.open.unlock();
    }

    fn sync(&mut self) -> io::Result<()> {
        self.open.0.sync_data()?;
        // What was removed while it was written to has lost the line, and does not come back.
        if self.open.0.metadata()?.nlink() == 0 {
            return Err(io::Error::new(ErrorKind::NotFound, "the file was removed while it was written to"));
        }
        Ok(())
    }
}

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        let is_new = !path.exists();
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no file, so no line would stay there"));
        }
        if is_new {
            keep_name(path);
        }
        let mode = file.metadata()?.permissions().mode() & 0o777;
        if mode & OTHERS != 0 {
            let (path, mode) = (path.display(), format!("{mode:04o}"));
            tracing::warn!(%path, mode, "the audit log was there with a mode that lets others read or change it; 0600 or 0640 does not");
        }
        Ok(Self(file))
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        let open = identity(&self.0.metadata()?);
        Ok(fs::metadata(path).is_ok_and(|found| identity(&found) == open))
    }

    /// Waits until no other process writes. A file system without locks has one writer, as no two servers share it.
    fn lock(&self) -> io::Result<()> {
        let began = Instant::now();
        loop {
            match self.0.try_lock() {
                Err(TryLockError::WouldBlock) if began.elapsed() < LOCK_DEADLINE => thread::sleep(LOCK_PAUSE),
                Err(TryLockError::WouldBlock) => return Err(ErrorKind::WouldBlock.into()),
                Ok(()) | Err(TryLockError::Error(_)) => return Ok(()),
            }
        }
    }

    fn unlock(&self) {
        let _ = self.0.unlock();
    }
}

/// A file is not lost with the power if its folder is on disk as well.
fn keep_name(path: &Path) {
    let _ = File::open(folder_of(path)).and_then(|folder| folder.sync_all());
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// The log at this path with what rotation has made of its past: `audit.jsonl.1`, `audit.jsonl-20261122` and the like, in
/// no order. What is compressed cannot be read as it is.
///
/// # Errors
/// When its folder cannot be read.
pub fn with_rotated(path: &Path) -> io::Result<Vec<PathBuf>> {
    const COMPRESSED: [&str; 4] = ["gz", "bz2", "xz", "zst"];
    let mut found = vec![path.to_owned()];
    let Some(name) = path.file_name() else { return Ok(found) };
    for entry in fs::read_dir(folder_of(path))? {
        let beside = entry?.file_name();
        let is_compressed = Path::new(&beside).extension().is_some_and(|end| COMPRESSED.iter().any(|c| end == *c));
        if is_rotated(&beside, name) && !is_compressed {
            found.push(folder_of(path).join(beside));
        }
    }
    Ok(found)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether a name is that of the log, a dot or a dash, and something that begins with a digit.
fn is_rotated(found: &OsStr, name: &OsStr) -> bool {
    let rest = found.as_bytes().strip_prefix(name.as_bytes());
    rest.is_some_and(|rest| matches!(rest, [b'.' | b'-', b'0'..=b'9', ..]))
}

fn end_of(rotated: &DirEntry) -> Option<Tail> {
    let file = File::open(rotated.path()).ok()?;
    tail::read(&file, file.metadata().ok()?.len()).ok()
}
