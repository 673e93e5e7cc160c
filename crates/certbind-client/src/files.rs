//! Credential files, read as one consistent snapshot (RFC 8705 §6.3): never half of one file, never the key of one
//! certificate with another one.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use certbind_proto::jws::Algorithm;

use crate::{AssertionKey, ClientCertificate, Credential, CredentialFault};

/// How often files that change while they are read are read again at once.
const TRIES: usize = 3;
/// The most that is read of a file.
const MAX_BYTES: u64 = 1024 * 1024;

/// Where a [`Credential`] lies in PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialFiles {
    /// A certificate and its key.
    Certificate(CertificateFiles),
    /// A key for assertions, and perhaps a certificate to show beside it.
    PrivateKeyJwt {
        /// Shown on the connection, so that the token is bound to it (RFC 8705 §3).
        certificate: Option<CertificateFiles>,
        /// Signs the assertion.
        key: AssertionKeyFile,
    },
}

/// A certificate with its intermediates in one PEM file, its key in the same or another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, then the intermediates towards its root.
    pub chain: PathBuf,
    /// The private key. The file must be closed to others.
    pub key: PathBuf,
}

/// The key for assertions in a PEM file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssertionKeyFile {
    /// What it signs with; without it the key decides: its curve's, or PS256 for RSA.
    pub algorithm: Option<Algorithm>,
    /// The `kid` that the server knows it by, where there are several.
    pub kid: Option<String>,
    /// The private key. The file must be closed to others.
    pub path: PathBuf,
}

impl CredentialFiles {
    /// One snapshot of all the files: none of them has changed while they were read, and key and certificate belong
    /// together. Waits on the disk, so not for an async task.
    ///
    /// # Errors
    /// [`CredentialFault`]. Who finds [`Changing`](CredentialFault::Changing), [`KeyMismatch`](CredentialFault::KeyMismatch)
    /// or a file that is gone or cut off may have come in the middle of a rotation, and does well to look again.
    pub fn load(&self) -> Result<Credential, CredentialFault> {
        self.snapshot().map(|(credential, _)| credential)
    }

    /// The credential as it is read once: from a pipe as well, which nobody could follow, and which is waited for. Waits on the
    /// disk, so not for an async task.
    ///
    /// # Errors
    /// [`CredentialFault`].
    pub fn load_once(&self) -> Result<Credential, CredentialFault> {
        self.read(open)
    }

    /// The same as [`load`](Self::load), with what the files were.
    pub(crate) fn snapshot(&self) -> Result<(Credential, Marks), CredentialFault> {
        for _ in 0..TRIES {
            let before = self.marks();
            let credential = self.read(open_regular);
            if self.marks() == before {
                return credential.map(|credential| (credential, before));
            }
        }
        Err(CredentialFault::Changing)
    }

    /// What the files are now, without a look into them.
    pub(crate) fn marks(&self) -> Marks {
        Marks::of(self.paths())
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        let (certificate, key) = match self {
            Self::Certificate(certificate) => (Some(certificate), None),
            Self::PrivateKeyJwt { certificate, key } => (certificate.as_ref(), Some(key)),
        };
        let pair = certificate.into_iter().flat_map(|files| [files.chain.as_path(), files.key.as_path()]);
        pair.chain(key.map(|key| key.path.as_path()))
    }

    fn read(&self, open: Open) -> Result<Credential, CredentialFault> {
        match self {
            Self::Certificate(certificate) => certificate.read(open).map(Credential::Certificate),
            Self::PrivateKeyJwt { certificate, key } => {
                let certificate = certificate.as_ref().map(|certificate| certificate.read(open)).transpose()?;
                let key = AssertionKey::opened(&key.path, key.algorithm, key.kid.as_deref(), open)?;
                Ok(Credential::PrivateKeyJwt { certificate, key })
            }
        }
    }
}

impl CertificateFiles {
    fn read(&self, open: Open) -> Result<ClientCertificate, CredentialFault> {
        ClientCertificate::opened(&self.chain, &self.key, open)
    }
}

/// What files were when they were read, and how often they were read so.
///
/// The times of a file are not fine enough to tell two changes within a few milliseconds apart: what was read once is read
/// once more.
#[derive(Default)]
pub(crate) struct Seen {
    read: Option<Marks>,
    is_twice: bool,
}

impl Seen {
    /// Whether there is nothing new in files that are these.
    pub(crate) fn is_read(&self, marks: &Marks) -> bool {
        self.is_twice && self.read.as_ref() == Some(marks)
    }

    /// They were read.
    pub(crate) fn read_as(&mut self, marks: Marks) {
        self.is_twice = self.read.as_ref() == Some(&marks);
        self.read = Some(marks);
    }
}

/// What each of some files is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marks(Vec<Option<Mark>>);

impl Marks {
    /// As they are now, without a look into them.
    pub(crate) fn of<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Self {
        Self(paths.into_iter().map(Mark::of).collect())
    }
}

/// What distinguishes a file from the one that lies at the same path later, without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    /// Where the links lead: Kubernetes swaps one under both paths at once.
    target: PathBuf,
    length: u64,
    system: SystemMark,
}

impl Mark {
    /// `None` when nothing can be reached there.
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self { target: fs::canonicalize(path).ok()?, length: metadata.len(), system: system_mark(&metadata) })
    }
}

/// Device, inode, and the times of content and of everything else, each with nanoseconds.
#[cfg(unix)]
type SystemMark = (u64, u64, (i64, i64), (i64, i64));

#[cfg(unix)]
fn system_mark(metadata: &fs::Metadata) -> SystemMark {
    use std::os::unix::fs::MetadataExt as _;
    let (modified, changed) = ((metadata.mtime(), metadata.mtime_nsec()), (metadata.ctime(), metadata.ctime_nsec()));
    (metadata.dev(), metadata.ino(), modified, changed)
}

#[cfg(not(unix))]
type SystemMark = Option<std::time::SystemTime>;

#[cfg(not(unix))]
fn system_mark(metadata: &fs::Metadata) -> SystemMark {
    metadata.modified().ok()
}

/// The whole file, if it has a size that certificates and keys have.
pub(crate) fn read(path: &Path, open: Open) -> Result<Vec<u8>, CredentialFault> {
    open(path).and_then(|file| read_all(path, file))
}

/// The same for a private key. A group may share a key, the world may not.
pub(crate) fn read_private(path: &Path, open: Open) -> Result<Vec<u8>, CredentialFault> {
    let file = open(path)?;
    // Of what was opened, not of what lies at the path meanwhile.
    let metadata = file.metadata();
    let metadata = metadata.map_err(|source| CredentialFault::Unreadable { path: path.to_owned(), source })?;
    if is_open_to_others(&metadata) {
        return Err(CredentialFault::KeyExposed { path: path.to_owned() });
    }
    read_all(path, file)
}

/// How a file is opened.
pub(crate) type Open = fn(&Path) -> Result<File, CredentialFault>;

/// Whatever it is.
pub(crate) fn open(path: &Path) -> Result<File, CredentialFault> {
    File::open(path).map_err(|source| CredentialFault::Unreadable { path: path.to_owned(), source })
}

/// A pipe or a device would be read for ever, or once only. Of what was opened, as it may have been put there a moment ago; and
/// opened without a wait, as for a pipe somebody else would have to come.
pub(crate) fn open_regular(path: &Path) -> Result<File, CredentialFault> {
    let failed = |source| CredentialFault::Unreadable { path: path.to_owned(), source };
    let file = open_at_once(path).map_err(failed)?;
    let is_file = file.metadata().map_err(failed)?.is_file();
    if is_file { Ok(file) } else { Err(CredentialFault::NotAFile { path: path.to_owned() }) }
}

#[cfg(unix)]
fn open_at_once(path: &Path) -> std::io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

#[cfg(not(unix))]
fn open_at_once(path: &Path) -> std::io::Result<File> {
    File::open(path)
}

fn read_all(path: &Path, file: File) -> Result<Vec<u8>, CredentialFault> {
    let mut bytes = Vec::new();
    let read = file.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|source| CredentialFault::Unreadable { path: path.to_owned(), source })?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(CredentialFault::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}

#[cfg(unix)]
fn is_open_to_others(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o007 != 0
}

#[cfg(not(unix))]
fn is_open_to_others(_: &fs::Metadata) -> bool {
    false
}
