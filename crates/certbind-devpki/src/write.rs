//! The set as a tree of PEM files.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::{DevPki, PkiError};

impl DevPki {
    /// Writes the tree below `dir` and gives the files' paths. Folders are made for the owner alone, private keys too; what is there is overwritten.
    ///
    /// ```text
    /// ca.pem            the root: trust anchor of clients, of the server's certificate and of the curl lines
    /// ca.key            its private key
    /// intermediate.pem  intermediate.key
    /// crl.pem           the CRLs of intermediate and root
    /// server.pem        server.key
    /// clients/NAME.pem  certificate and intermediate
    /// clients/NAME.key
    /// clients/batch.assertion.key   signs batch's assertions
    /// ```
    pub fn write_to(&self, dir: &Path) -> Result<Vec<PathBuf>, PkiError> {
        let clients = dir.join("clients");
        make_folder(dir)?;
        make_folder(&clients)?;

        let mut files = vec![
            public(dir.join("ca.pem"), &self.root.certificate_pem())?,
            private(dir.join("ca.key"), &self.root.key_pem())?,
            public(dir.join("intermediate.pem"), &self.intermediate.certificate_pem())?,
            private(dir.join("intermediate.key"), &self.intermediate.key_pem())?,
            public(dir.join("crl.pem"), &(self.crl.pem() + &self.root_crl.pem()))?,
            public(dir.join("server.pem"), &self.server.chain_pem())?,
            private(dir.join("server.key"), &self.server.key_pem())?,
        ];
        for client in self.clients() {
            files.push(public(clients.join(format!("{}.pem", client.name)), &client.identity.chain_pem())?);
            files.push(private(clients.join(format!("{}.key", client.name)), &client.identity.key_pem())?);
        }
        files.push(private(clients.join("batch.assertion.key"), &self.batch_assertion.key_pem())?);
        Ok(files)
    }
}

/// PEM with lines of 64 characters (RFC 7468 §2).
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let lines: String = der.chunks(48).map(|line| STANDARD.encode(line) + "\n").collect();
    format!("-----BEGIN {label}-----\n{lines}-----END {label}-----\n")
}

fn make_folder(path: &Path) -> Result<(), PkiError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|source| PkiError::Write { path: path.to_owned(), source })
}

fn public(path: PathBuf, content: &str) -> Result<PathBuf, PkiError> {
    write(path, content, 0o644)
}

fn private(path: PathBuf, content: &str) -> Result<PathBuf, PkiError> {
    write(path, content, 0o600)
}

/// A file that was there is replaced, so that its old mode does not stay.
fn write(path: PathBuf, content: &str, mode: u32) -> Result<PathBuf, PkiError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    let outcome = match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => options.open(&path).and_then(|mut file| file.write_all(content.as_bytes())),
    };
    outcome.map_err(|source| PkiError::Write { path: path.clone(), source })?;
    Ok(path)
}
