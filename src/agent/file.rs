//! A file with the token and nothing else: whoever opens it sees one whole token.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use certbind_client::AccessToken;
use certbind_proto::bearer::is_b64token;
use rustix::process::geteuid;
use zeroize::Zeroizing;

use super::place::{Lock, identity, is_closed};

/// No token is longer.
const MAX_BYTES: u64 = 64 * 1024;

/// The file. It goes when this is dropped, unless another has taken its place by then.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    held: Option<Held>,
    /// Goes last.
    _lock: Lock,
}

#[derive(Debug)]
struct Held {
    token: Arc<AccessToken>,
    /// Which file it is.
    identity: (u64, u64),
}

impl TokenFile {
    /// A file that is not there yet. A token that an earlier process left at its path is removed: nobody knows when that is
    /// over. Anything else stays, and so does each of the files that are `read`.
    ///
    /// # Errors
    /// There is something other than a token of ours, or no folder for it.
    pub fn at(path: PathBuf, read: &[PathBuf]) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        if path.file_name().is_none() || !folder_of(&path).is_dir() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "there is no folder for it"));
        }
        if !is_closed(folder_of(&path))? {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "others may write into its folder"));
        }
        let refused = |why| Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
        if read.iter().any(|file| is_same(file, &path)) {
            return refused("it is one of the files that the credential is read from");
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let lock = Lock::take(folder_of(&path).join(format!(".{name}.lock")))?;
        match fs::symlink_metadata(&path) {
            Ok(there) if !there.is_file() => return refused("something other than a file is there"),
            Ok(there) if !is_token_of_ours(&path, &there)? => {
                return refused("the file there is no token of ours (one line, mode 0600), and is not replaced");
            }
            Ok(_) => fs::remove_file(&path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(Self { path, held: None, _lock: lock })
    }

    /// Where it is, from the root.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Has this token in it from now on. Written beside and renamed over: no reader finds half of one.
    pub(super) fn put(&mut self, token: &Arc<AccessToken>) -> io::Result<()> {
        if self.held.as_ref().is_some_and(|held| Arc::ptr_eq(&held.token, token)) && self.is_there() {
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
        if fs::symlink_metadata(&self.path).is_ok_and(|there| identity(&there) == held.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }

    /// What is in it.
    pub(super) fn token(&self) -> Option<&AccessToken> {
        self.held.as_ref().map(|held| &*held.token)
    }

    /// Whether nobody has removed or emptied it. What somebody has put in its place stays until the next token.
    fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|there| there.len() > 0)
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
    // Whatever the umask.
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(bytes)?;
    Ok(identity(&file.metadata()?))
}

fn is_same(one: &Path, other: &Path) -> bool {
    let (one, other) = (fs::metadata(one), fs::metadata(other));
    one.is_ok_and(|one| other.is_ok_and(|other| identity(&one) == identity(&other)))
}

/// Whether an earlier process may have left it: by its mode, and by what a token is made of (RFC 6750 §2.1). So is what
/// `mktemp` makes.
fn is_token_of_ours(path: &Path, there: &fs::Metadata) -> io::Result<bool> {
    let is_private = there.mode() & 0o7777 == 0o600 && there.uid() == geteuid().as_raw();
    if !is_private || there.len() > MAX_BYTES {
        return Ok(false);
    }
    let bytes = Zeroizing::new(fs::read(path)?);
    Ok(bytes.is_empty() || std::str::from_utf8(&bytes).is_ok_and(is_b64token))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_a_token_of_ours_is_removed() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("token");
        let at = |text: &str, mode: u32, read: &[PathBuf]| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let taken = TokenFile::at(path.clone(), read);
            assert_eq!(path.exists(), taken.is_err(), "{text}");
            taken.err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(at("ey-_.ey~+/.eA==", 0o600, &[]), "");
        assert_eq!(at("", 0o600, &[]), "");
        let long = "a".repeat(64 * 1024 + 1);
        let key = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIE\n-----END PRIVATE KEY-----\n";
        for (text, mode) in
            [(key, 0o600), (long.as_str(), 0o600), ("a.b.c", 0o644), ("a.b.c", 0o400), ("a.b.c\n", 0o600)]
        {
            assert!(at(text, mode, &[]).contains("no token of ours"), "{mode:o}");
        }
        symlink("token", place.path().join("linked")).unwrap();
        for read in ["token", "linked"] {
            assert!(at("a.b.c", 0o600, &[place.path().join(read)]).contains("credential"), "{read}");
        }
    }

    #[test]
    fn no_file_is_kept_by_two_processes_or_where_others_may_replace_it() {
        let place = tempfile::tempdir().unwrap();
        let at = || TokenFile::at(place.path().join("token"), &[]);
        let first = at().unwrap();
        fs::write(place.path().join("token"), "a.b.c").unwrap();
        assert!(at().unwrap_err().to_string().contains("another certbind"));
        assert!(place.path().join("token").exists());
        drop(first);
        fs::remove_file(place.path().join("token")).unwrap();
        for (mode, is_taken) in [(0o777, false), (0o770, false), (0o1777, true), (0o755, true)] {
            fs::set_permissions(place.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(at().is_ok(), is_taken, "{mode:o}");
        }
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "no lock stays behind");
    }
}
