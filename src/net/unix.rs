//! A Unix socket that nobody can reach but those who may: made under another name, closed to others, then put in place.

use std::ffi::OsStr;
use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};

/// Connections that the system may hold before they are accepted.
const BACKLOG: i32 = 64;

/// The process at the other end of a Unix socket, as the system knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// The user it runs as.
    pub uid: u32,
    /// Its number, where the system tells it.
    pub pid: Option<i32>,
}

impl Process {
    /// Whether it is root's, or of one of these users.
    #[must_use]
    pub fn is_of(self, users: &[u32]) -> bool {
        self.uid == 0 || users.contains(&self.uid)
    }
}

/// Whether other users reach a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// The system keeps them out: its owner and root alone come in.
    KeptOut,
    /// They come in; who they are is known of each connection.
    LetIn,
}

impl Others {
    const fn mode(self) -> u32 {
        match self {
            Self::KeptOut => 0o600,
            Self::LetIn => 0o666,
        }
    }

    const fn mode_of_folder(self) -> u32 {
        match self {
            Self::KeptOut => 0o700,
            Self::LetIn => 0o755,
        }
    }
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum UnixFault {
    /// Others may put another socket in its place.
    #[error("others may write into {} (mode {mode:03o}): whoever does could take the place of the socket", path.display())]
    FolderOpenToOthers {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another process answers there.
    #[error("another process listens at {}", path.display())]
    InUse {
        /// Where.
        path: PathBuf,
    },
    /// There is something else, which is not removed.
    #[error("{} is there and is no socket", path.display())]
    NotASocket {
        /// Where.
        path: PathBuf,
    },
    /// The system has no sockets at paths of this length.
    #[error("{} is too long: the path of a socket has to fit into about a hundred bytes", path.display())]
    PathTooLong {
        /// Where.
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

impl UnixFault {
    /// Whether it is as whoever wrote the configuration left it, so that only they can put it right.
    #[must_use]
    pub const fn is_of_the_path(&self) -> bool {
        matches!(self, Self::FolderOpenToOthers { .. } | Self::NotASocket { .. } | Self::PathTooLong { .. })
    }
}

/// Says whether a socket may be made at `path`, without making one. Whether it could be is not known before.
///
/// # Errors
/// The folder is open to others, or something else is there, or the path is too long.
pub fn check(path: &Path) -> Result<(), UnixFault> {
    let place = Place::of(path)?;
    match is_free(path) {
        Ok(()) | Err(UnixFault::InUse { .. } | UnixFault::Io { .. }) => {}
        Err(fault) => return Err(fault),
    }
    match fs::metadata(place.folder) {
        Ok(folder) => closed_to_others(place.folder, &folder),
        // Whether there is a folder is the configuration's own question.
        Err(_) => Ok(()),
    }
}

/// The file of a socket that listens.
#[derive(Clone, Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    /// Whether it is still there. When that cannot be told it is. Waits on the disk.
    #[must_use]
    pub fn is_there(&self) -> bool {
        match fs::symlink_metadata(&self.path) {
            Ok(there) => identity(&there) == self.identity,
            Err(error) => !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        }
    }
}

/// A listening socket in the file system. Its file goes with it, unless another has taken its place by then.
#[derive(Debug)]
pub(super) struct UnixSocket {
    listener: UnixListener,
    file: SocketFile,
    owner: u32,
}

impl UnixSocket {
    /// Listens at `path`. A socket that is there and that nobody listens at any more is replaced. A folder that is not there is
    /// made, if the one around it is: a volume of Kubernetes is open to all users, and one below it need not be.
    ///
    /// Must be called from within a tokio runtime.
    pub(super) fn bind(path: &Path, others: Others) -> Result<Self, UnixFault> {
        let failed = |source| UnixFault::Io { path: path.to_owned(), source };
        let place = Place::of(path)?;
        is_free(path)?;
        make_folder(place.folder, others).map_err(failed)?;
        // Before anything is made in it: whoever may write there could have something else take the mode of the socket.
        closed_to_others(place.folder, &fs::metadata(place.folder).map_err(failed)?)?;

        let beside = place.beside(std::process::id());
        let _ = fs::remove_file(&beside);
        let socket = listening(&beside, others).map_err(failed)?;
        let placed = put_in_place(&beside, place.folder, path);
        let metadata = placed.inspect_err(|_| drop(fs::remove_file(&beside)))?;
        let listener = UnixListener::from_std(socket.into()).map_err(failed)?;
        let file = SocketFile { path: path.to_owned(), identity: identity(&metadata) };
        Ok(Self { listener, file, owner: metadata.uid() })
    }

    /// The file that peers find it by.
    pub(super) const fn file(&self) -> &SocketFile {
        &self.file
    }

    /// The user that this process runs as.
    pub(super) const fn owner(&self) -> u32 {
        self.owner
    }

    pub(super) async fn accept(&self) -> io::Result<(UnixStream, Process)> {
        let (stream, _) = self.listener.accept().await?;
        let peer = stream.peer_cred()?;
        Ok((stream, Process { uid: peer.uid(), pid: peer.pid() }))
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.file.path).is_ok_and(|there| identity(&there) == self.file.identity) {
            let _ = fs::remove_file(&self.file.path);
        }
    }
}

/// Where a socket is to be.
struct Place<'a> {
    folder: &'a Path,
    name: &'a OsStr,
}

impl<'a> Place<'a> {
    fn of(path: &'a Path) -> Result<Self, UnixFault> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().ok_or_else(|| UnixFault::NotASocket { path: path.to_owned() })?;
        let place = Self { folder, name };
        // No process has a number of more digits than this one (7 of them on Linux).
        let is_short_enough = SockAddr::unix(path).is_ok() && SockAddr::unix(place.beside(4_194_304)).is_ok();
        if is_short_enough { Ok(place) } else { Err(UnixFault::PathTooLong { path: path.to_owned() }) }
    }

    /// Where it is made.
    fn beside(&self, process: u32) -> PathBuf {
        self.folder.join(format!(".{}.{process}", self.name.to_string_lossy()))
    }
}

/// Open to whoever may reach the socket, and written by us alone, whatever the umask.
fn make_folder(folder: &Path, others: Others) -> io::Result<()> {
    match fs::create_dir(folder) {
        Ok(()) => fs::set_permissions(folder, Permissions::from_mode(others.mode_of_folder())),
        Err(_) if folder.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Nobody can connect before its mode is set: it is not yet where anybody looks for it.
fn listening(path: &Path, others: Others) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    fs::set_permissions(path, Permissions::from_mode(others.mode()))?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn put_in_place(from: &Path, folder: &Path, to: &Path) -> Result<Metadata, UnixFault> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| UnixFault::Io { path, source }
    };
    let around = fs::metadata(folder).map_err(failed(folder))?;
    let own = fs::symlink_metadata(from).map_err(failed(from))?;
    closed_to_others(folder, &around)?;
    if around.uid() != own.uid() && around.uid() != 0 {
        return Err(open_to_others(folder, &around));
    }
    fs::rename(from, to).map_err(failed(to))?;
    Ok(own)
}

fn closed_to_others(folder: &Path, around: &Metadata) -> Result<(), UnixFault> {
    if around.mode() & 0o022 == 0 { Ok(()) } else { Err(open_to_others(folder, around)) }
}

fn open_to_others(folder: &Path, around: &Metadata) -> UnixFault {
    UnixFault::FolderOpenToOthers { path: folder.to_owned(), mode: around.mode() & 0o7777 }
}

/// Whether a socket may be put here.
fn is_free(path: &Path) -> Result<(), UnixFault> {
    let failed = |source| UnixFault::Io { path: path.to_owned(), source };
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !there.file_type().is_socket() {
        return Err(UnixFault::NotASocket { path: path.to_owned() });
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
    // A listener whose queue is full would keep us waiting.
    probe.set_nonblocking(true).map_err(failed)?;
    match probe.connect(&SockAddr::unix(path).map_err(failed)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Ok(()) | Err(_) => Err(UnixFault::InUse { path: path.to_owned() }),
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir().unwrap()
    }

    #[tokio::test]
    async fn a_socket_is_the_owners_alone_and_goes_with_its_listener() {
        let folder = folder();
        let path = folder.path().join("admin.sock");
        let socket = UnixSocket::bind(&path, Others::KeptOut).unwrap();
        let metadata = fs::symlink_metadata(&path).unwrap();
        assert!(metadata.file_type().is_socket());
        assert_eq!((metadata.mode() & 0o777, metadata.uid()), (0o600, socket.owner()));
        let (accepted, connected) = tokio::join!(socket.accept(), UnixStream::connect(&path));
        let (_, process) = accepted.unwrap();
        assert_eq!(process.uid, socket.owner());
        assert_eq!(process.pid, Some(std::process::id().cast_signed()));
        drop((socket, connected));
        assert!(!path.exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_folder_below_one_that_is_open_to_all_is_made_and_closed() {
        let volume = folder();
        fs::set_permissions(volume.path(), Permissions::from_mode(0o777)).unwrap();
        let open = UnixSocket::bind(&volume.path().join("guard.sock"), Others::LetIn);
        assert!(matches!(open, Err(UnixFault::FolderOpenToOthers { .. })));
        for (name, others, mode) in [("guard", Others::LetIn, 0o755), ("admin", Others::KeptOut, 0o700)] {
            let socket = UnixSocket::bind(&volume.path().join(name).join("own.sock"), others).unwrap();
            assert_eq!(fs::metadata(volume.path().join(name)).unwrap().mode() & 0o777, mode, "{name}");
            drop(socket);
        }
        let deep = UnixSocket::bind(&volume.path().join("a/b/own.sock"), Others::LetIn);
        assert!(matches!(deep, Err(UnixFault::Io { .. })), "one folder, not a tree");
    }

    #[tokio::test]
    async fn what_a_process_left_behind_is_replaced_and_what_is_in_use_is_not() {
        let folder = folder();
        let path = folder.path().join("admin.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "left behind");
        let socket = UnixSocket::bind(&path, Others::KeptOut).unwrap();
        assert!(matches!(UnixSocket::bind(&path, Others::KeptOut), Err(UnixFault::InUse { .. })));
        // Another took its place, as after a restart by hand.
        fs::remove_file(&path).unwrap();
        let successor = UnixSocket::bind(&path, Others::KeptOut).unwrap();
        drop(socket);
        assert!(path.exists(), "the file is the successor's");
        drop(successor);

        fs::write(&path, "precious").unwrap();
        assert!(matches!(UnixSocket::bind(&path, Others::KeptOut), Err(UnixFault::NotASocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn where_others_may_write_there_is_no_socket() {
        for mode in [0o777, 0o1777, 0o770, 0o720, 0o702] {
            let folder = folder();
            fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
            let path = folder.path().join("admin.sock");
            let bound = UnixSocket::bind(&path, Others::KeptOut);
            assert!(matches!(bound, Err(UnixFault::FolderOpenToOthers { .. })), "{mode:o}");
            assert!(matches!(check(&path), Err(UnixFault::FolderOpenToOthers { .. })), "{mode:o}");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{mode:o}: nothing is left");
        }
    }

    #[tokio::test]
    async fn what_may_not_be_is_known_without_a_socket() {
        let folder = folder();
        let path = folder.path().join("admin.sock");
        assert!(check(&path).is_ok());
        let socket = UnixSocket::bind(&path, Others::KeptOut).unwrap();
        assert!(check(&path).is_ok(), "another process may wait for its end");
        assert!(socket.file().is_there());
        fs::rename(&path, folder.path().join("moved")).unwrap();
        assert!(!socket.file().is_there());
        fs::write(&path, "precious").unwrap();
        assert!(!socket.file().is_there());
        assert!(matches!(check(&path), Err(UnixFault::NotASocket { .. })));
        let room = 107 - folder.path().as_os_str().len();
        for (length, is_good) in [(room - 10, true), (room, false), (300, false)] {
            let path = folder.path().join("x".repeat(length));
            assert_eq!(check(&path).is_ok(), is_good, "{length}");
            let bound = UnixSocket::bind(&path, Others::KeptOut);
            assert_eq!(bound.is_ok(), is_good, "{length}");
            assert!(is_good || matches!(bound, Err(UnixFault::PathTooLong { .. })), "{length}");
        }
    }
}
