//! The files of a trust group: read when one of them is another one than before.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use certbind_proto::time::Timestamp;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

use super::TrustFault;
use crate::registry::Identity;

/// A list of a million entries takes about 40 MiB.
const MAX_FILE: u64 = 64 * 1024 * 1024;

type Content = (Vec<CertificateDer<'static>>, Vec<CertificateRevocationListDer<'static>>);

/// What [`super::TrustGroup::refresh`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// Other files, and they are in force.
    Changed,
    /// The same files.
    Unchanged,
}

/// Why files are not taken.
#[derive(Debug, thiserror::Error)]
pub enum FilesFault {
    /// It has PEM in it that is broken.
    #[error("{}: the PEM is malformed", path.display())]
    Pem {
        /// Which file.
        path: PathBuf,
    },
    /// The system does not give it.
    #[error("{}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// More than 64 MiB.
    #[error("{}: larger than 64 MiB", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// What is in them must not be used.
    #[error(transparent)]
    Trust(#[from] TrustFault),
}

/// The paths of a group, with what was seen of the files when they were last read.
#[derive(Debug)]
pub struct Files {
    ca: PathBuf,
    crls: Vec<PathBuf>,
    seen: Mutex<Seen>,
}

/// A file that is gone has no identity.
#[derive(Debug)]
struct Seen {
    identities: Vec<Option<Identity>>,
    was_read: bool,
    /// When what is in them becomes valid.
    again_at: Option<Timestamp>,
}

impl Files {
    /// These files. `seen` is what the system told of each before it was read, first of the anchors' and then of the
    /// lists': what has changed since is another file.
    #[must_use]
    pub fn read_before(ca: PathBuf, crls: Vec<PathBuf>, seen: &[Option<Metadata>]) -> Self {
        let identities = seen.iter().map(|file| file.as_ref().map(Identity::of)).collect();
        Self { ca, crls, seen: Mutex::new(Seen { identities, was_read: true, again_at: None }) }
    }

    /// The certificates and lists, read now. The identity is taken before the content: a change in between is seen the
    /// next time.
    fn read(&self) -> Result<Content, FilesFault> {
        let identities = self.identities();
        let content = self.content();
        let was_read = !matches!(content, Err(FilesFault::Read { .. }));
        *self.seen() = Seen { identities, was_read, again_at: None };
        content
    }

    /// The same, if a file changed since; a bad state is reported once. What the system would not give is tried again
    /// and again: when file descriptors ran out for a moment, the newest list must not be lost for good.
    pub(super) fn read_if_changed(&self, now: Timestamp) -> Result<Option<Content>, FilesFault> {
        let (is_same, is_settled) = {
            let seen = self.seen();
            let is_due = seen.again_at.is_some_and(|at| at <= now);
            (seen.identities == self.identities(), seen.was_read && !is_due)
        };
        if is_same && is_settled {
            return Ok(None);
        }
        match self.read() {
            Err(FilesFault::Read { .. }) if is_same => Ok(None),
            content => content.map(Some),
        }
    }

    /// What was read is good from then on, and is to be read once more then.
    pub(super) fn read_again_at(&self, at: Timestamp) {
        self.seen().again_at = Some(at);
    }

    fn content(&self) -> Result<Content, FilesFault> {
        let crls = self.crls.iter().map(|path| read_crls(path)).collect::<Result<Vec<_>, _>>()?;
        Ok((read_certificates(&self.ca)?, crls.into_iter().flatten().collect()))
    }

    fn identities(&self) -> Vec<Option<Identity>> {
        std::iter::once(&self.ca).chain(&self.crls).map(|path| Identity::at(path)).collect()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FilesFault> {
    let bytes = read_file(path)?;
    if !is_pem(&bytes) {
        return Ok(vec![CertificateDer::from(bytes)]);
    }
    let certificates = CertificateDer::pem_slice_iter(&bytes).collect::<Result<_, _>>();
    certificates.map_err(|_| FilesFault::Pem { path: path.to_owned() })
}

fn read_crls(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, FilesFault> {
    let bytes = read_file(path)?;
    if !is_pem(&bytes) {
        return Ok(vec![CertificateRevocationListDer::from(bytes)]);
    }
    let malformed = || FilesFault::Pem { path: path.to_owned() };
    let lists: Vec<_> =
        CertificateRevocationListDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(|_| malformed())?;
    // A file without a list in it would switch revocation off without a word.
    if lists.is_empty() { Err(malformed()) } else { Ok(lists) }
}

fn read_file(path: &Path) -> Result<Vec<u8>, FilesFault> {
    let failed = |source| FilesFault::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE { Err(FilesFault::TooLarge { path: path.to_owned() }) } else { Ok(bytes) }
}

/// DER begins with a SEQUENCE; nothing else that we take does.
fn is_pem(bytes: &[u8]) -> bool {
    bytes.first() != Some(&0x30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_9_a_file_that_could_not_be_read_for_a_moment_is_read_as_soon_as_it_can_be() {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca.pem");
        std::fs::write(&ca, "").unwrap();
        let files = Files::read_before(ca, Vec::new(), &[]);
        assert!(files.read().is_ok());
        let now = Timestamp::from_unix(0);
        assert!(files.read_if_changed(now).unwrap().is_none());
        // As after EMFILE: the system told of the new file and would not open it.
        files.seen().was_read = false;
        assert!(files.read_if_changed(now).unwrap().is_some());
        assert!(files.read_if_changed(now).unwrap().is_none());
    }
}
