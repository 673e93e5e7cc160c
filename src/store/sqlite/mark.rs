//! Says beside the database that there is one, and whether it was closed: what SQLite finds of it at the next start cannot
//! say what is missing.
//!
//! Whoever has the database open holds the mark. So the first one sees that nobody else does, and what the last one left.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::super::StoreError;
use super::files::unavailable;
use super::wal::{self, Doubt};
use super::wal_index;

/// The mark, beside the database.
const FILE: &str = "certbind.mark";

/// How long another process may take to open the database.
const DEADLINE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);

/// The length of its one line: what is written over keeps it, so that no byte of another state stays.
const LENGTH: usize = 64;

/// The mark of a database, held for as long as this lives.
#[derive(Debug)]
pub(super) struct Mark {
    file: File,
    database: PathBuf,
    state: State,
}

/// What the mark says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// There is no database yet, or it is of a version without marks.
    Nothing,
    /// It was closed: everything is in the one file.
    Closed,
    /// Somebody has it open, or had when the process died; and of which start of the system that was.
    Open { boot: String },
    /// Commits are missing, and assertions from before may be good again.
    Doubted,
}

/// Who else has the database open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Others {
    None,
    Some,
}

impl Mark {
    /// Takes the mark of this database, and says what may be missing in it. Must be asked before SQLite sees the files.
    pub(super) fn take(database: &Path) -> Result<(Self, Option<Doubt>), StoreError> {
        let path = database.with_file_name(FILE);
        let taken = Self::hold(&path).and_then(|(file, others)| Ok((State::read(&path)?, file, others)));
        let (state, file, others) = taken.map_err(unavailable)?;
        let mut mark = Self { file, database: database.to_owned(), state };
        if mark.state != State::Nothing && is_gone(database) {
            return Err(mark.gone());
        }
        let doubt = match others {
            Others::None => mark.look().map_err(unavailable)?,
            Others::Some => (mark.state == State::Doubted).then_some(Doubt::Before),
        };
        Ok((mark, doubt))
    }

    /// The mark that is there, for whoever is no server. Servers may start meanwhile.
    pub(super) fn take_existing(database: &Path) -> Result<Option<Self>, StoreError> {
        if !database.with_file_name(FILE).exists() {
            return Ok(None);
        }
        let (mark, _) = Self::take(database)?;
        share(&mark.file).map_err(unavailable)?;
        Ok(Some(mark))
    }

    /// Fails when there is no database of ours in a file that is said to hold one.
    pub(super) fn allows(&self, format: u32) -> Result<(), StoreError> {
        if format == 0 && self.state != State::Nothing { Err(self.gone()) } else { Ok(()) }
    }

    fn gone(&self) -> StoreError {
        StoreError::Gone { path: self.database.clone(), mark: self.database.with_file_name(FILE) }
    }

    /// The database is open, and its log has a first commit; whatever was missing is dealt with. Others may come.
    pub(super) fn open(&mut self) -> Result<(), StoreError> {
        self.write(State::Open { boot: boot() }).and_then(|()| share(&self.file)).map_err(unavailable)
    }

    /// The database is closed here. If nobody else has it open, it is closed altogether.
    pub(super) fn close(mut self) {
        let is_alone = self.file.try_lock().is_ok();
        if is_alone && matches!(self.state, State::Open { .. }) && wal::is_empty(&self.database) {
            let _ = self.write(State::Closed);
        }
    }

    /// The first one waits until nobody else is first, and then is not.
    fn hold(path: &Path) -> io::Result<(File, Others)> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let began = Instant::now();
        loop {
            match file.try_lock() {
                // A file system without locks has one server at a time.
                Ok(()) | Err(TryLockError::Error(_)) => return Ok((file, Others::None)),
                Err(TryLockError::WouldBlock) => {}
            }
            match file.try_lock_shared() {
                Ok(()) => return Ok((file, Others::Some)),
                Err(_) if began.elapsed() > DEADLINE => return Err(ErrorKind::WouldBlock.into()),
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    /// What may be missing. It is written down first: once SQLite has opened the files, they do not show it any more.
    fn look(&mut self) -> io::Result<Option<Doubt>> {
        let doubt = match &self.state {
            State::Nothing | State::Closed => None,
            State::Doubted => Some(Doubt::Before),
            State::Open { boot: then } => {
                let committed = Some(then).filter(|then| **then == boot()).and(wal_index::committed(&self.database));
                wal::doubt(&self.database, committed)?
            }
        };
        if doubt.is_some() {
            self.write(State::Doubted)?;
        }
        Ok(doubt)
    }

    fn write(&mut self, state: State) -> io::Result<()> {
        if self.state == state {
            return Ok(());
        }
        let is_new = self.state == State::Nothing;
        self.file.write_all_at(&state.line(), 0)?;
        self.file.sync_all()?;
        if is_new && let Some(folder) = self.database.parent() {
            File::open(folder)?.sync_all()?;
        }
        self.state = state;
        Ok(())
    }
}

impl State {
    fn read(path: &Path) -> io::Result<Self> {
        let mut text = String::new();
        File::open(path)?.take(LENGTH as u64).read_to_string(&mut text)?;
        let mut words = text.split_whitespace();
        Ok(match (words.next(), words.next()) {
            (None, _) => Self::Nothing,
            (Some("closed"), _) => Self::Closed,
            (Some("open"), Some(boot)) => Self::Open { boot: boot.to_owned() },
            // What is not understood is no reason to be sure.
            _ => Self::Doubted,
        })
    }

    fn line(&self) -> [u8; LENGTH] {
        let mut line = [b' '; LENGTH];
        let mut rest = &mut line[..LENGTH - 1];
        // What does not fit is left out; no state is that long.
        let _ = match self {
            Self::Nothing => Ok(()),
            Self::Closed => write!(rest, "closed"),
            Self::Open { boot } => write!(rest, "open {boot}"),
            Self::Doubted => write!(rest, "doubted"),
        };
        line[LENGTH - 1] = b'\n';
        line
    }
}

/// Whether there is no database in the file. One that is in its log alone is another one's matter.
fn is_gone(database: &Path) -> bool {
    fs::metadata(database).map_or(true, |file| file.len() == 0)
}

/// The first one gives way to others, and stays.
fn share(file: &File) -> io::Result<()> {
    match file.try_lock_shared() {
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(ErrorKind::WouldBlock.into()),
    }
}

/// Which start of the system this is; the same word for all where it does not say.
fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.split_whitespace().next().filter(|id| id.len() <= LENGTH / 2 + 8).unwrap_or("unknown").to_owned()
}
