//! A Unix socket that nobody but its owner and root can reach: made under another name, closed to others, then put in place.

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
    /// The system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// A listening socket in the file system. Its file goes with it, unless another has taken its place by then.
#[derive(Debug)]
pub(super) struct UnixSocket {
    listener: UnixListener,
    file: PathBuf,
    identity: (u64, u64),
    owner: u32,
}

impl UnixSocket {
    /// Listens at `path`. A socket that is there and that nobody listens at any more is replaced.
    ///
    /// Must be called from within a tokio runtime.
    pub(super) fn bind(path: &Path) -> Result<Self, UnixFault> {
        let failed = |source| UnixFault::Io { path: path.to_owned(), source };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        is_free(path)?;

        let beside = folder.join(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
        let _ = fs::remove_file(&beside);
        let socket = listening(&beside).map_err(failed)?;
        let placed = put_in_place(&beside, folder, path);
        let metadata = placed.inspect_err(|_| drop(fs::remove_file(&beside)))?;
        let listener = UnixListener::from_std(socket.into()).map_err(failed)?;
        Ok(Self { listener, file: path.to_owned(), identity: identity(&metadata), owner: metadata.uid() })
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
        if fs::symlink_metadata(&self.file).is_ok_and(|there| identity(&there) == self.identity) {
            let _ = fs::remove_file(&self.file);
        }
    }
}

/// Nobody can connect before its mode is set: it is not yet where anybody looks for it.
fn listening(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
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
    let mode = around.mode() & 0o7777;
    if mode & 0o022 != 0 || (around.uid() != own.uid() && around.uid() != 0) {
        return Err(UnixFault::FolderOpenToOthers { path: folder.to_owned(), mode });
    }
    fs::rename(from, to).map_err(failed(to))?;
    Ok(own)
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
        let socket = UnixSocket::bind(&path).unwrap();
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
    async fn what_a_process_left_behind_is_replaced_and_what_is_in_use_is_not() {
        let folder = folder();
        let path = folder.path().join("admin.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "left behind");
        let socket = UnixSocket::bind(&path).unwrap();
        assert!(matches!(UnixSocket::bind(&path), Err(UnixFault::InUse { .. })));
        // Another took its place, as after a restart by hand.
        fs::remove_file(&path).unwrap();
        let successor = UnixSocket::bind(&path).unwrap();
        drop(socket);
        assert!(path.exists(), "the file is the successor's");
        drop(successor);

        fs::write(&path, "precious").unwrap();
        assert!(matches!(UnixSocket::bind(&path), Err(UnixFault::NotASocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn where_others_may_write_there_is_no_socket() {
        for mode in [0o777, 0o1777, 0o770, 0o720, 0o702] {
            let folder = folder();
            fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
            let bound = UnixSocket::bind(&folder.path().join("admin.sock"));
            assert!(matches!(bound, Err(UnixFault::FolderOpenToOthers { .. })), "{mode:o}");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{mode:o}: nothing is left");
        }
    }
}
