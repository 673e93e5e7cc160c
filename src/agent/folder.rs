//! A folder with a token, its certificate and its key, exchanged all at once by one link, as Kubernetes does with its volumes.
//!
//! `token`, `tls.crt` and `tls.key` are links into `..data`, which is a link to the snapshot in force. A program that follows
//! `..data` once and opens the three files there has what belongs together; the snapshot before stays a while for whoever
//! has just done so.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, DirEntry, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use certbind_client::{AccessToken, Identity};
use certbind_proto::pem;
use certbind_proto::time::Timestamp;
use rustix::process::geteuid;
use rustls_pki_types::PrivateKeyDer;

use super::file::write_private;
use super::place::Place;

/// The link that is exchanged.
const DATA: &str = "..data";
/// The files of a snapshot, each with a link to it in the folder.
const NAMES: [&str; 3] = ["token", "tls.crt", "tls.key"];
/// What the names of all snapshots begin with: only those are ever removed.
const SNAPSHOT: &str = "..certbind_";
/// The link that comes into the place of the other.
const NEXT: &str = "..data_next";
/// How long a snapshot stays that is no longer in force: longer than a program takes from a look at `..data` to the last of
/// three files.
const STAYS: Duration = Duration::from_secs(30);

/// The folder. What is in it goes when this is dropped.
#[derive(Debug)]
pub struct TokenFolder {
    path: PathBuf,
    place: Place,
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
    /// It would be emptied, and the credential gone.
    #[error("{} lies in it: the folder for tokens has to be another one", path.display())]
    HoldsCredential {
        /// A file that this program reads.
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
    /// An empty folder, made if need be. What an earlier process left in it is removed; where there is anything else, or one of
    /// the files that are `read`, nothing is touched.
    ///
    /// # Errors
    /// [`FolderFault`].
    pub fn at(path: &Path, read: &[PathBuf]) -> Result<Self, FolderFault> {
        let failed = |source| FolderFault::Io { path: path.to_owned(), source };
        let path = std::path::absolute(path).map_err(failed)?;
        if !path.exists() {
            DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
        }
        let failed = |source| FolderFault::Io { path: path.clone(), source };
        let place = Place::hold(&path).map_err(failed)?;
        let there = fs::metadata(place.inside()).map_err(failed)?;
        let is_closed = there.mode() & 0o022 == 0;
        let is_our_own = there.uid() == 0 || there.uid() == geteuid().as_raw();
        if !is_closed || !is_our_own {
            return Err(FolderFault::OpenToOthers { path });
        }
        if let Some(path) = read.iter().find(|file| lies_in(file, &path)) {
            return Err(FolderFault::HoldsCredential { path: path.clone() });
        }
        for entry in fs::read_dir(place.inside()).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if !is_ours(&entry) {
                return Err(FolderFault::NotOurs { path: path.join(entry.file_name()) });
            }
        }
        let folder = Self { path: path.clone(), place, held: None, before: Vec::new() };
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
        self.find_place()?;
        if self.held.as_ref().is_some_and(|(held, snapshot)| Arc::ptr_eq(held, token) && self.shows(snapshot)) {
            return Ok(());
        }
        let certificate = token.certificate().ok_or_else(|| io::Error::other("the token has no certificate"))?;
        let day = now.to_string().replace(['-', 'T', ':'], "_");
        let snapshot = self.place.inside().join(format!("{SNAPSHOT}{}.{id}", day.get(..19).unwrap_or_default()));
        let made = make(&snapshot, token, certificate.identity()).and_then(|()| self.point_to(&snapshot));
        if made.is_err() {
            let _ = remove_snapshot(&snapshot);
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

    /// What is in it.
    pub(super) fn token(&self) -> Option<&AccessToken> {
        self.held.as_ref().map(|(token, _)| &**token)
    }

    /// One that was removed is made again. Where another one is, nothing is touched.
    fn find_place(&mut self) -> io::Result<()> {
        match self.place.is_in_place() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => return done,
        }
        DirBuilder::new().mode(0o700).create(&self.path)?;
        self.place = Place::hold(&self.path)?;
        self.held = None;
        self.before.clear();
        Ok(())
    }

    /// Whether this snapshot is in force and whole.
    fn shows(&self, snapshot: &Path) -> bool {
        let inside = self.place.inside();
        let has_data =
            fs::read_link(inside.join(DATA)).is_ok_and(|target| Some(target.as_os_str()) == snapshot.file_name());
        has_data && NAMES.iter().all(|name| fs::metadata(inside.join(name)).is_ok_and(|file| file.len() > 0))
    }

    /// Removes snapshots that nobody can be in the middle of.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        self.before.retain(|(since, snapshot)| {
            now.since(*since) < STAYS
                || remove_snapshot(snapshot).is_err_and(|error| error.kind() != io::ErrorKind::NotFound)
        });
    }

    /// In one step, so that there is always a snapshot and only one.
    fn point_to(&self, snapshot: &Path) -> io::Result<()> {
        let beside = self.place.inside().join(NEXT);
        remove_link(&beside)?;
        symlink(snapshot.file_name().unwrap_or_default(), &beside)?;
        fs::rename(beside, self.place.inside().join(DATA))
    }

    fn link_names(&self) -> io::Result<()> {
        for name in NAMES {
            match symlink(Path::new(DATA).join(name), self.place.inside().join(name)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// The link first: from then on nobody finds anything, half removed or whole.
    fn clear(&self) -> io::Result<()> {
        let entries: Vec<_> = fs::read_dir(self.place.inside())?.collect::<Result<_, _>>()?;
        let ours = entries.iter().filter(|entry| is_ours(entry));
        let (snapshots, mut links): (Vec<_>, Vec<_>) = ours.partition(|entry| !is_link(entry));
        links.sort_by_key(|entry| entry.file_name() != DATA);
        links.into_iter().try_for_each(|link| remove_link(&link.path()))?;
        snapshots.into_iter().try_for_each(|snapshot| remove_snapshot(&snapshot.path()))
    }
}

impl Drop for TokenFolder {
    fn drop(&mut self) {
        self.withdraw();
    }
}

/// Whether only this program makes such a thing: a snapshot by its name, or a link to or into one.
fn is_ours(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    let is_snapshot = |name: &OsStr| name.as_encoded_bytes().starts_with(SNAPSHOT.as_bytes());
    let target = fs::read_link(entry.path()).ok();
    match target {
        None => is_snapshot(&name) && entry.file_type().is_ok_and(|kind| kind.is_dir()),
        Some(target) if name == DATA || name == NEXT => is_snapshot(target.as_os_str()) && target.iter().count() == 1,
        Some(target) => NAMES.iter().any(|known| name == *known && target == Path::new(DATA).join(known)),
    }
}

fn is_link(entry: &DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_symlink())
}

/// Whether a file, or a link to it, lies somewhere in a folder.
fn lies_in(file: &Path, folder: &Path) -> bool {
    let Ok(folder) = fs::canonicalize(folder) else { return false };
    let link = std::path::absolute(file).ok().and_then(|file| fs::canonicalize(file.parent()?).ok());
    fs::canonicalize(file).ok().into_iter().chain(link).any(|file| file.starts_with(&folder))
}

fn make(snapshot: &Path, token: &AccessToken, identity: &Identity) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(snapshot)?;
    // Whatever the umask.
    fs::set_permissions(snapshot, Permissions::from_mode(0o700))?;
    let chain: String = identity.chain.iter().map(|der| pem::write("CERTIFICATE", der).to_string()).collect();
    let key = match &identity.key {
        PrivateKeyDer::Pkcs1(key) => pem::write("RSA PRIVATE KEY", key.secret_pkcs1_der()),
        PrivateKeyDer::Sec1(key) => pem::write("EC PRIVATE KEY", key.secret_sec1_der()),
        key => pem::write("PRIVATE KEY", key.secret_der()),
    };
    for (name, bytes) in NAMES.iter().zip([token.as_str().as_bytes(), chain.as_bytes(), key.as_bytes()]) {
        write_private(&snapshot.join(name), bytes)?;
    }
    Ok(())
}

/// With the files that we write into it. Something else in it stays, and so does the snapshot.
fn remove_snapshot(snapshot: &Path) -> io::Result<()> {
    NAMES.iter().try_for_each(|name| remove_link(&snapshot.join(name)))?;
    fs::remove_dir(snapshot)
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
        let mut folder = TokenFolder::at(&place.path().join("kept"), &[]).unwrap();
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
            assert_eq!((snapshot.exists(), !folder.before.is_empty()), (is_there, is_there), "{now}");
        }
    }

    /// A folder of Kubernetes' shape with a certificate and its key.
    fn secret(folder: &Path, data: &str) {
        DirBuilder::new().mode(0o700).create(folder).unwrap();
        fs::create_dir(folder.join(data)).unwrap();
        symlink(data, folder.join(DATA)).unwrap();
        for name in ["tls.crt", "tls.key"] {
            fs::write(folder.join(data).join(name), "precious").unwrap();
            symlink(Path::new(DATA).join(name), folder.join(name)).unwrap();
        }
    }

    #[test]
    fn a_folder_of_somebody_else_is_refused_and_keeps_its_key() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("secret");
        secret(&folder, "..2026_11_28");
        assert!(matches!(TokenFolder::at(&folder, &[]), Err(FolderFault::NotOurs { .. })));
        assert_eq!(fs::read_to_string(folder.join("tls.key")).unwrap(), "precious");
        for (name, is_link) in
            [("token", false), ("token", true), ("..data", true), ("..certbind_x", true), ("other", false)]
        {
            let folder = tempfile::Builder::new().tempdir_in(place.path()).unwrap();
            let at = folder.path().join(name);
            if is_link {
                symlink("elsewhere", &at).unwrap()
            } else {
                fs::write(&at, "precious").unwrap()
            }
            assert!(
                matches!(TokenFolder::at(folder.path(), &[]), Err(FolderFault::NotOurs { path }) if path == at),
                "{name}"
            );
            assert!(fs::symlink_metadata(&at).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_folder_from_which_the_credential_is_read_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("kept");
        secret(&folder, "..certbind_2026.x");
        symlink(folder.join("tls.key"), place.path().join("linked.key")).unwrap();
        for read in [folder.join("tls.key"), place.path().join("linked.key"), folder.join("..data/tls.crt")] {
            let refused = TokenFolder::at(&folder, std::slice::from_ref(&read));
            assert!(matches!(refused, Err(FolderFault::HoldsCredential { path }) if path == read));
            assert_eq!(fs::read_to_string(folder.join("tls.key")).unwrap(), "precious");
        }
        // An earlier process has left it.
        drop(TokenFolder::at(&folder, &[place.path().join("another.key")]).unwrap());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_was_put_in_its_place_is_not_touched() {
        let place = tempfile::tempdir().unwrap();
        let (path, moved) = (place.path().join("kept"), place.path().join("moved"));
        let mut folder = TokenFolder::at(&path, &[]).unwrap();
        let (snapshot, victim) = (path.join("..certbind_mine"), place.path().join("victim"));
        fs::create_dir(&snapshot).unwrap();
        secret(&victim, "..certbind_theirs");
        fs::rename(&path, &moved).unwrap();
        symlink(&victim, &path).unwrap();
        assert!(folder.find_place().unwrap_err().to_string().contains("another folder"));
        folder.withdraw();
        assert_eq!(fs::read_to_string(victim.join("tls.key")).unwrap(), "precious");
        assert_eq!(fs::read_dir(&moved).unwrap().count(), 0, "ours is emptied, wherever it is");
        fs::remove_file(&path).unwrap();
        folder.find_place().unwrap();
        assert!(path.is_dir(), "it is made again");
    }

    #[test]
    fn two_processes_do_not_keep_tokens_in_one_folder() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("kept");
        let first = TokenFolder::at(&path, &[]).unwrap();
        fs::create_dir(path.join("..certbind_in_use")).unwrap();
        assert!(TokenFolder::at(&path, &[]).unwrap_err().to_string().contains("another certbind"));
        assert!(path.join("..certbind_in_use").exists());
        drop(first);
        // What another test starts at this moment has the lock too, until it has become the program that it is to be.
        for _ in 0..500 {
            if TokenFolder::at(&path, &[]).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("still in use");
    }
}
