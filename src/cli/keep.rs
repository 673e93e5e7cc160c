//! What `exec` and `agent` have in common: where a token is put, and a source that follows its files.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use certbind_client::{
    Authorities, AuthoritiesFile, AuthoritiesFollower, Credential, CredentialFault, CredentialFiles,
};
use clap::Args;

use super::Misused;
use super::token::AskArgs;
use crate::agent::{Hook, Outputs, TokenFile, TokenFolder};
use crate::config::Environment;

/// How long half of a rotation is waited out at the start. Later there is a credential to go on with.
const ROTATION: Duration = Duration::from_secs(3);
/// How often it is looked at.
const AGAIN: Duration = Duration::from_millis(100);

/// How long a disk that hangs may hold up the end.
pub(super) const LAST_WORK: Duration = Duration::from_secs(2);

/// Where the token goes.
#[derive(Debug, Args)]
pub(super) struct OutputArgs {
    /// Keep the token in this file, mode 0600, replaced as a whole with each renewal and gone when it is over.
    #[arg(long, value_name = "PATH")]
    pub file: Option<PathBuf>,
    /// Keep token, certificate and key in this folder, all three exchanged at once by the link ..data.
    #[arg(long, value_name = "PATH")]
    pub dir: Option<PathBuf>,
    /// Run this shell command when a new token is in its place, for 30 s at most; with `exec` also the name of a signal for
    /// the program, as in HUP.
    #[arg(long, value_name = "CMD")]
    pub on_renew: Option<String>,
}

impl OutputArgs {
    /// Nothing in any of them yet. None of the files that are `read` is touched.
    ///
    /// # Errors
    /// When a place cannot be used.
    pub(super) fn outputs(&self, read: &[PathBuf]) -> anyhow::Result<Outputs> {
        let file = self
            .file
            .clone()
            .map(|path| TokenFile::at(path.clone(), read).with_context(|| format!("--file {}", path.display())));
        let folder = self.dir.as_ref().map(|path| TokenFolder::at(path, read).context("--dir"));
        Ok(Outputs { file: file.transpose()?, folder: folder.transpose()? })
    }

    pub(super) fn hook(&self) -> Option<Hook> {
        // Every text is one.
        self.on_renew.as_ref().and_then(|text| text.parse().ok())
    }
}

impl AskArgs {
    /// Where the credential is, with a certificate in any case: what is kept for others is bound (RFC 8705 §3).
    ///
    /// # Errors
    /// When nothing says so, or who asks whom.
    pub(super) fn bound_files(&self, environment: &Environment) -> Result<CredentialFiles, Misused> {
        self.parties(environment)?;
        let files = self.files(environment)?;
        if matches!(files, CredentialFiles::PrivateKeyJwt { certificate: None, .. }) {
            let missing = "a token that is kept for others is bound to a certificate: give --cert and --key";
            return Err(Misused(missing.to_owned()));
        }
        Ok(files)
    }

    /// Follows who may vouch for the server in their file, where they have one, until what this gives is dropped. Needs a runtime.
    pub(super) fn follow_authorities(
        &self,
        roots: Authorities,
        environment: &Environment,
        renewed: impl Fn() + Send + 'static,
    ) -> Option<AuthoritiesFollower> {
        // A pipe was read, and is over.
        let path = self.ca(environment).filter(|path| path.is_file())?;
        Some(AuthoritiesFile::new(path, roots).follow(renewed))
    }

    /// All files that are read: the credential's, and who may vouch for the server.
    pub(super) fn read(&self, files: &CredentialFiles, environment: &Environment) -> Vec<PathBuf> {
        let (certificate, key) = match files {
            CredentialFiles::Certificate(certificate) => (Some(certificate), None),
            CredentialFiles::PrivateKeyJwt { certificate, key } => (certificate.as_ref(), Some(key)),
        };
        let pair = certificate.into_iter().flat_map(|files| [&files.chain, &files.key]);
        pair.chain(key.map(|key| &key.path)).cloned().chain(self.ca(environment)).collect()
    }
}

/// The credential, when it is whole: files that somebody is writing are waited for, not long.
///
/// # Errors
/// What is the matter with them.
pub(super) async fn loaded(files: &CredentialFiles) -> anyhow::Result<Credential> {
    let began = Instant::now();
    let files = Arc::new(files.clone());
    loop {
        let files = Arc::clone(&files);
        match tokio::task::spawn_blocking(move || files.load()).await? {
            Ok(credential) => return Ok(credential),
            Err(fault) if is_half(&fault) && began.elapsed() < ROTATION => tokio::time::sleep(AGAIN).await,
            Err(fault) => return Err(fault.into()),
        }
    }
}

/// Whether it may be the middle of a rotation.
const fn is_half(fault: &CredentialFault) -> bool {
    !matches!(
        fault,
        CredentialFault::KeyExposed { .. } | CredentialFault::NotAFile { .. } | CredentialFault::TooLarge { .. }
    )
}
