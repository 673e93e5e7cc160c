//! A file with the token and nothing else: whoever opens it sees one whole token.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use certbind_client::AccessToken;

/// The file. It goes when this is dropped, unless another has taken its place by then.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    token: Arc<AccessToken>,
    /// Which file it is.
    identity: (u64, u64),
}

impl TokenFile {
    /// A file that is not there yet. What an earlier process left at its path is removed: nobody knows when that is over.
    ///
    /// # Errors
    /// There is something other than a file, or no folder for it.
    pub fn at(path: PathBuf) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        if path.file_name().is_none() || !folder_of(&path).is_dir() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "there is no folder for it"));
        }
        match fs::symlink_metadata(&path) {
            Ok(there) if there.is_file() => fs::remove_file(&path)?,
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something other than a file is there")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(Self { path, held: None })
    }

    /// Where it is, from the root.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Has this token in it from now on. Written beside and renamed over: no reader finds half of one.
    pub(super) fn put(&mut self, token: &Arc<AccessToken>) -> io::Result<()> {
        if self.held.as_ref().is_some_and(|held| Arc::ptr_eq(&held.token, token)) {
            return Ok(());
        }
        let beside = self.beside();
        let written = write_private(&beside, token.as_str().as_bytes());
        let placed = written.and_then(|identity| fs::rename(&beside, &self.path).map(|()| identity));
        match placed {
            Ok(identity) => self.held = Some(Held { token: token.clone(), identity }),
            Err(_) => drop(fs::remove_file(&beside)),
        }
        placed.map(drop)
    }

    /// Has no token in it any more: it is gone.
    pub(super) fn withdraw(&mut self) {
        let Some(held) = self.held.take() else { return };
        if fs::symlink_metadata(&self.path).is_ok_and(|there| (there.dev(), there.ino()) == held.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }

    fn beside(&self) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        folder_of(&self.path).join(format!(".{name}.{}~", std::process::id()))
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        self.withdraw();
    }
}

/// Makes a file that nobody else can open, ever, and says which one it is.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<(u64, u64)> {
    // Of a process before us that had the same number and was killed.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}
