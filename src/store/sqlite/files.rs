//! The data folder and the database file, for the owner alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::StoreError;

/// The database, in the data folder.
pub(super) const FILE: &str = "certbind.db";

/// Makes the folder when it is missing, checks who may reach it when not, and gives the path of the database.
pub(super) fn folder(data_dir: &Path) -> Result<PathBuf, StoreError> {
    make_dir(data_dir).map_err(unavailable)?;
    owner_only(data_dir)?;
    // SQLite takes no symbolic link as database; the folder itself may be reached by one.
    Ok(data_dir.canonicalize().map_err(unavailable)?.join(FILE))
}

/// The same for the database in it.
pub(super) fn database(path: &Path) -> Result<(), StoreError> {
    make_file(path).map_err(unavailable)?;
    owner_only(path)?;
    has_own_log(path)
}

/// A copy has no write-ahead log. One that was left beside it is of another database, and SQLite would read both as one.
fn has_own_log(path: &Path) -> Result<(), StoreError> {
    /// Where the header says how the file is written, and what it says where there is no write-ahead log.
    const WRITE_VERSION: usize = 18;
    const WITHOUT_LOG: u8 = 1;
    let mut header = Vec::new();
    let read = File::open(path).and_then(|file| file.take(100).read_to_end(&mut header));
    read.map_err(unavailable)?;
    let log = PathBuf::from(format!("{}-wal", path.display()));
    let is_filled = fs::metadata(&log).is_ok_and(|log| log.len() > 0);
    if header.get(WRITE_VERSION) == Some(&WITHOUT_LOG) && is_filled {
        return Err(StoreError::StrayLog { path: log });
    }
    Ok(())
}

fn make_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    // The folder's own entry must survive a loss of power as well.
    path.canonicalize()?.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// Made by us and not by SQLite, so that it is never open to others, not for a moment and whatever the umask.
fn make_file(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map(drop),
    }
}

fn owner_only(path: &Path) -> Result<(), StoreError> {
    let mode = fs::symlink_metadata(path)
        .and_then(|found| if found.is_symlink() { fs::metadata(path) } else { Ok(found) })
        .map_err(unavailable)?
        .permissions()
        .mode()
        & 0o777;
    if mode & 0o077 != 0 {
        return Err(StoreError::OpenToOthers { path: path.to_owned(), mode });
    }
    Ok(())
}

pub(super) fn unavailable(error: io::Error) -> StoreError {
    StoreError::Unavailable(Arc::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepare(data_dir: &Path) -> Result<PathBuf, StoreError> {
        let path = folder(data_dir)?;
        database(&path).map(|()| path)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn folder_and_file_are_made_for_the_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("var/lib");
        let path = prepare(&data_dir).unwrap();
        assert_eq!((mode(&data_dir), mode(&path)), (0o700, 0o600));
        assert_eq!(prepare(&data_dir).unwrap(), path, "a second start finds them");
    }

    #[test]
    fn what_others_can_reach_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("data");
        let path = prepare(&data_dir).unwrap();
        for (path, mode) in [(&*data_dir, 0o750), (&*path, 0o640)] {
            let before = fs::metadata(path).unwrap().permissions();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            let Err(StoreError::OpenToOthers { path: named, mode: found }) = prepare(&data_dir) else {
                panic!("{} with mode {mode:o} is taken", path.display());
            };
            assert_eq!((named.file_name(), found), (path.file_name(), mode));
            fs::set_permissions(path, before).unwrap();
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(matches!(prepare(&dir.path().join("file/data")), Err(StoreError::Unavailable(_))));
    }
}
