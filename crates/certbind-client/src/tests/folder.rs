//! Credential files as programs write them: both at once behind a link, one after the other, cut off.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use certbind_devpki::Identity;
use tempfile::TempDir;

use crate::{CertificateFiles, CredentialFiles};

pub(crate) const CHAIN: &str = "tls.crt";
pub(crate) const KEY: &str = "tls.key";

/// A folder with a certificate and its key.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    /// With this pair in it, each file an ordinary one.
    pub(crate) fn with(identity: &Identity) -> Self {
        let folder = Self::new();
        folder.put(identity);
        folder
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn pair(&self) -> CertificateFiles {
        CertificateFiles { chain: self.path(CHAIN), key: self.path(KEY) }
    }

    pub(crate) fn files(&self) -> CredentialFiles {
        CredentialFiles::Certificate(self.pair())
    }

    /// One file after the other, each replaced as a whole.
    pub(crate) fn put(&self, identity: &Identity) {
        self.replace(CHAIN, &identity.chain_pem());
        self.replace(KEY, &identity.key_pem());
    }

    /// A new file in place of the old one.
    pub(crate) fn replace(&self, name: &str, text: &str) {
        write(&self.path("new"), text);
        fs::rename(self.path("new"), self.path(name)).expect("a new file");
    }

    /// The same file with another content, as an editor and `openssl` do it.
    pub(crate) fn overwrite(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file");
    }

    pub(crate) fn set_mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).expect("permissions");
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).expect("a file");
    }

    /// As the kubelet does it: both files in a folder of their own, and one link swapped. The first time it makes the links.
    pub(crate) fn relink(&self, generation: usize, identity: &Identity) {
        let data = format!("..{generation}");
        fs::create_dir(self.path(&data)).expect("a folder");
        write(&self.path(&data).join(CHAIN), &identity.chain_pem());
        write(&self.path(&data).join(KEY), &identity.key_pem());
        symlink(&data, self.path("..data_tmp")).expect("a link");
        fs::rename(self.path("..data_tmp"), self.path("..data")).expect("a swapped link");
        match generation.checked_sub(1) {
            Some(before) => fs::remove_dir_all(self.path(&format!("..{before}"))).expect("the old folder"),
            None => [CHAIN, KEY].iter().for_each(|name| {
                symlink(Path::new("..data").join(name), self.path(name)).expect("a link");
            }),
        }
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("a file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("permissions");
}
