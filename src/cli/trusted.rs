//! Who may vouch for the servers that certbind itself connects to: those that the configuration names, as their files are while it
//! runs, or those of the system.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use certbind_client::{Authorities, AuthoritiesFile, ConfigFault};
use rustls_pki_types::CertificateDer;

use super::report::Reporter;
use crate::config::{Config, Environment, FetchRoots, Files, Storage};

/// These, or those of the system where none are named.
///
/// # Errors
/// When one of them cannot be used.
pub(super) fn authorities(named: Option<&[CertificateDer<'_>]>) -> Result<Authorities, ConfigFault> {
    match named {
        Some(named) => Authorities::new(named),
        None => Authorities::new(&rustls_native_certs::load_native_certs().certs),
    }
}

/// For whom a server needs authorities, and the files that it follows.
pub(super) struct Trusted {
    /// For what clients publish.
    pub(super) jwks: Authorities,
    /// For the database.
    pub(super) database: Authorities,
    /// Each with the key that names it. Locked for as long as they are looked at.
    files: Mutex<Vec<(&'static str, AuthoritiesFile)>>,
}

impl Trusted {
    /// Those of the configuration. What came through the environment is as it was at the start.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub(super) fn new(config: &Config, files: &Files, environment: &Environment) -> Result<Self, ConfigFault> {
        let of_jwks = &config.assertions.jwks_fetch.roots;
        let of_database = match &config.storage {
            Storage::Postgres(database) => Some(&database.roots),
            Storage::Sqlite => None,
        };
        let found_for_database = files.database.as_ref().map_or(&[][..], |database| &database.roots);
        let jwks = of(of_jwks, &files.fetch_roots)?;
        let database = of_database.map_or_else(|| Authorities::new(&[]), |roots| of(roots, found_for_database))?;
        let named = [
            ("assertions.jwks_fetch.ca", path(Some(of_jwks), environment), &jwks),
            ("storage.ca", path(of_database, environment), &database),
        ];
        let followed = named
            .into_iter()
            .filter_map(|(key, path, authorities)| Some((key, AuthoritiesFile::new(path?, authorities.clone()))));
        let files = Mutex::new(followed.collect());
        Ok(Self { jwks, database, files })
    }

    /// Reads the files that have changed. What is taken over or refused is told once.
    pub(super) fn look(&self, reporter: &Reporter) {
        for (key, file) in self.files.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            match file.look() {
                Ok(false) => {}
                Ok(true) => reporter.taken_over(key, ""),
                Err(fault) => reporter.refused(key, &fault),
            }
        }
    }
}

/// What the configuration says, with what was found in the file.
pub(super) fn of(roots: &FetchRoots, found: &[CertificateDer<'_>]) -> Result<Authorities, ConfigFault> {
    authorities(matches!(roots, FetchRoots::File(_)).then_some(found))
}

fn path(roots: Option<&FetchRoots>, environment: &Environment) -> Option<PathBuf> {
    match roots? {
        FetchRoots::File(reference) => reference.file(environment),
        FetchRoots::System => None,
    }
}
