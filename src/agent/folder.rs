//! A folder with a token, its certificate and its key, exchanged all at once by one link, as Kubernetes does with its volumes.
//!
//! `token`, `tls.crt` and `tls.key` are links into `..data`, which is a link to the snapshot in force. A program that follows
//! `..data` once and opens the three files there has what belongs together; the snapshot before stays a while for whoever
//! has just done so.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use certbind_client::{AccessToken, Identity};
use certbind_proto::time::Timestamp;
use rustix::process::geteuid;
use rustls_pki_types::PrivateKeyDer;
use zeroize::Zeroizing;

use super::file::write_private;

/// The link that is exchanged.
const DATA: &str = "..data";
/// The files of a snapshot, each with a link to it in the folder.
const NAMES: [&str; 3] = ["token", "tls.crt", "tls.key"];
/// How long a snapshot stays that is no longer in force: longer than a program takes from a look at `..data` to the last of
/// three files.
const STAYS: Duration = Duration::from_secs(30);

/// The folder. What is in it goes when this is dropped.
#[derive(Debug)]
pub struct TokenFolder {
    path: PathBuf,
    held: Option<(Arc<AccessToken>, PathBuf)>,
    /// Snapshots that are no longer in force, and since when.
    before: Vec<(Timestamp, PathBuf)>,
}

/// Why a folder is not taken.
#[derive(Debug, thiserror::Error)]
pub enum FolderFault {
    /// There are files in it that somebody else has put there.
    #[error("{} is there and was not made by this program", path.display())]
    NotOurs {
        /// The first of them.
        path: PathBuf,
    },
    /// Others may put another certificate in the place of ours.
    #[error("others may write into {}: it has to belong to this user, mode 0700", path.display())]
    OpenToOthers {
        /// The folder.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl TokenFolder {
    /// An empty folder, made if need be. What an earlier process left in it is removed.
    ///
    /// # Errors
    /// [`FolderFault`].
    pub fn at(path: &Path) -> Result<Self, FolderFault> {
        let failed = |source| FolderFault::Io { path: path.to_owned(), source };
        let path = std::path::absolute(path).map_err(failed)?;
        if !path.exists() {
            DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
        }
        let there = fs::metadata(&path).map_err(failed)?;
        let is_ours = there.uid() == 0 || there.uid() == geteuid().as_raw();
        if there.mode() & 0o022 != 0 || !is_ours {
            return Err(FolderFault::OpenToOthers { path });
        }
        for name in NAMES.iter().chain([&DATA]) {
            let at = path.join(name);
            if fs::symlink_metadata(&at).is_ok_and(|there| !there.is_symlink()) {
                return Err(FolderFault::NotOurs { path: at });
            }
        }
        let folder = Self { path, held: None, before: Vec::new() };
        folder.clear().map_err(failed)?;
        Ok(folder)
    }

    /// Where it is, from the root.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Has this token and its certificate in it from `now` on. `id` is one that nobody has used.
    pub(super) fn put(&mut self, token: &Arc<AccessToken>, now: Timestamp, id: &str) -> io::Result<()> {
        if self.held.as_ref().is_some_and(|(held, _)| Arc::ptr_eq(held, token)) {
            return Ok(());
        }
        let certificate = token.certificate().ok_or_else(|| io::Error::other("the token has no certificate"))?;
        let day = now.to_string().replace(['-', 'T', ':'], "_");
        let snapshot = self.path.join(format!("..{}.{id}", day.get(..19).unwrap_or_default()));
        let made = make(&snapshot, token, certificate.identity()).and_then(|()| self.point_to(&snapshot));
        if made.is_err() {
            let _ = fs::remove_dir_all(&snapshot);
            return made;
        }
        let before = self.held.replace((token.clone(), snapshot));
        self.before.extend(before.map(|(_, snapshot)| (now, snapshot)));
        self.link_names()
    }

    /// Has nothing in it any more.
    pub(super) fn withdraw(&mut self) {
        let _ = self.clear();
        self.held = None;
        self.before.clear();
    }

    pub(super) const fn has_leftovers(&self) -> bool {
        !self.before.is_empty()
    }

    /// Removes snapshots that nobody can be in the middle of.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        self.before.retain(|(since, snapshot)| {
            now.since(*since) < STAYS
                || fs::remove_dir_all(snapshot).is_err_and(|error| error.kind() != io::ErrorKind::NotFound)
        });
    }

    /// In one step, so that there is always a snapshot and only one.
    fn point_to(&self, snapshot: &Path) -> io::Result<()> {
        let beside = self.path.join("..data_next");
        remove_link(&beside)?;
        symlink(snapshot.file_name().unwrap_or_default(), &beside)?;
        fs::rename(beside, self.path.join(DATA))
    }

    fn link_names(&self) -> io::Result<()> {
        for name in NAMES {
            match symlink(Path::new(DATA).join(name), self.path.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// The link first: from then on nobody finds anything, half removed or whole.
    fn clear(&self) -> io::Result<()> {
        remove_link(&self.path.join(DATA))?;
        for name in NAMES {
            remove_link(&self.path.join(name))?;
        }
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if !entry.file_name().to_string_lossy().starts_with("..") {
                continue;
            }
            match entry.file_type()?.is_dir() {
                true => fs::remove_dir_all(entry.path())?,
                false => remove_link(&entry.path())?,
            }
        }
        Ok(())
    }
}

impl Drop for TokenFolder {
    fn drop(&mut self) {
        self.withdraw();
    }
}

fn make(snapshot: &Path, token: &AccessToken, identity: &Identity) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(snapshot)?;
    let chain: String = identity.chain.iter().map(|der| pem("CERTIFICATE", der).to_string()).collect();
    let key = match &identity.key {
        PrivateKeyDer::Pkcs1(key) => pem("RSA PRIVATE KEY", key.secret_pkcs1_der()),
        PrivateKeyDer::Sec1(key) => pem("EC PRIVATE KEY", key.secret_sec1_der()),
        key => pem("PRIVATE KEY", key.secret_der()),
    };
    for (name, bytes) in NAMES.iter().zip([token.as_str().as_bytes(), chain.as_bytes(), key.as_bytes()]) {
        write_private(&snapshot.join(name), bytes)?;
    }
    Ok(())
}

/// RFC 7468 §2.
fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    const LINE: usize = 64;
    let text = Zeroizing::new(STANDARD.encode(der));
    let mut pem = Zeroizing::new(String::with_capacity(text.len() + text.len() / LINE + 2 * label.len() + 40));
    pem.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

fn remove_link(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_that_was_exchanged_stays_for_those_who_have_just_looked() {
        let place = tempfile::tempdir().unwrap();
        let mut folder = TokenFolder::at(&place.path().join("kept")).unwrap();
        let (since, snapshot) = (Timestamp::from_unix(1_795_305_600), folder.path().join("..before"));
        fs::create_dir(&snapshot).unwrap();
        fs::write(snapshot.join("token"), "t").unwrap();
        folder.before.push((since, snapshot.clone()));
        // A clock that was put back takes nothing away from them.
        for (now, is_there) in [
            (since, true),
            (since.minus(Duration::from_secs(3600)), true),
            (since.plus(STAYS).minus(Duration::from_millis(1)), true),
            (since.plus(STAYS), false),
        ] {
            folder.sweep(now);
            assert_eq!((snapshot.exists(), folder.has_leftovers()), (is_there, is_there), "{now}");
        }
    }
}
