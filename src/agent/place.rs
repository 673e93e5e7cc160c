//! A folder that is held open and locked: whatever lies at its path later, nothing but this one is written into or emptied.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// The folder.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    held: File,
}

impl Place {
    /// Holds the folder that is there, unless another process does.
    pub(super) fn hold(path: &Path) -> io::Result<Self> {
        if !fs::metadata(path)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let held = File::open(path)?;
        lock(&held)?;
        Ok(Self { path: path.to_owned(), held })
    }

    /// Leads to the folder itself, wherever it has been moved to.
    pub(super) fn inside(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.held.as_raw_fd()))
    }

    /// Whether programs find it where they look for it.
    pub(super) fn is_in_place(&self) -> io::Result<()> {
        let there = fs::metadata(&self.path)?;
        if identity(&there) == identity(&self.held.metadata()?) {
            return Ok(());
        }
        Err(io::Error::other(format!("{}: another folder has taken the place of ours", self.path.display())))
    }
}

/// A lock on a file of its own. The file goes with it.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    _held: File,
}

impl Lock {
    pub(super) fn take(path: PathBuf) -> io::Result<Self> {
        if fs::symlink_metadata(&path).is_ok_and(|there| !there.is_file()) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "its lock is no file"));
        }
        let held = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        lock(&held)?;
        // Whoever held it before may have removed it in between.
        match fs::symlink_metadata(&path) {
            Ok(there) if identity(&there) == identity(&held.metadata()?) => Ok(Self { path, _held: held }),
            _ => Err(in_use()),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn lock(file: &File) -> io::Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(in_use()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn in_use() -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, "another certbind keeps tokens there")
}

/// Whether nobody but this user and root can put something else in the place of our files in a folder.
pub(super) fn is_closed(folder: &Path) -> io::Result<bool> {
    let there = fs::metadata(folder)?;
    let is_ours = there.uid() == 0 || there.uid() == geteuid().as_raw();
    // With the sticky bit others write beside our files only.
    Ok(is_ours && (there.mode() & 0o022 == 0 || there.mode() & 0o1000 != 0))
}

pub(super) fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}
