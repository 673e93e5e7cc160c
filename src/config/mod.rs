//! File, environment and command line to [`Config`]: finished values, or every complaint at once.
//!
//! [`inspect`] looks at the configuration alone, [`open`] at the files it names as well: what `config check` does is what
//! `serve` does. Each complaint says where (file, line, column, or variable), which key, what is wrong and what was meant.
//! The way: [`Sources`] → `raw` (as typed) → `check` (as meant) → `load` (the files behind it).

mod admin;
mod check;
mod checker;
mod encryption;
mod fault;
mod guard;
mod identity;
pub mod keys;
mod listen;
mod load;
mod origin;
mod pkcs11;
mod proxy;
mod raw;
mod reference;
mod settings;
mod show;
mod url;
mod value;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

use certbind_proto::time::Timestamp;

pub use admin::{AdminListener, AdminTls, AdminTrust, Administrator};
pub use encryption::{EncryptionKey, EncryptionKeys};
pub use fault::{Complaint, Concern, Fault, Remark, Warning};
pub use guard::*;
pub use identity::Identity;
pub use load::{DatabaseFiles, Files, KeyFiles, MutualFiles, RevocationList, TrustFiles};
pub use origin::{Environment, Origin, Position, Sources};
pub use pkcs11::{ModuleUri, ModuleUriFault, Pin};
pub use proxy::{BehindProxy, ProxyFiles, ProxyListener, ProxyTls, uid_of};
pub use reference::{ReadFault, Reference, ReferenceFault};
pub use settings::*;
pub use show::{Change, Effective, Shown, schema};
pub use url::{Issuer, UrlFault, WebOrigin};

use raw::RawConfig;

/// A configuration that may be used.
#[derive(Debug)]
pub struct Checked {
    /// The finished values.
    pub config: Config,
    /// What is odd about it, in the order of the file.
    pub warnings: Vec<Warning>,
    /// Each value that holds, and where it comes from.
    pub effective: Effective,
}

/// A configuration that may be used, with the files that it names.
#[derive(Debug)]
pub struct Opened {
    /// The configuration.
    pub checked: Checked,
    /// What stands in the files.
    pub files: Files,
    /// Where it was found, to look there again.
    pub sources: Sources,
}

/// A configuration that may not be used. `Display` has a line for each complaint.
#[derive(Debug)]
pub struct Rejected {
    /// What is wrong, in the order of the file; one complaint at least.
    pub complaints: Vec<Complaint>,
    /// What is odd, in the order of the file.
    pub warnings: Vec<Warning>,
}

/// Checks all that can be checked without the files that the configuration names.
///
/// # Errors
/// Everything that is wrong.
pub fn inspect(sources: &Sources) -> Result<Checked, Rejected> {
    let (raw, complaints) = RawConfig::read(sources, &keys::SERVER);
    let (config, draft) = check::check(&raw);
    finish(&raw, config, complaints, draft)
}

/// Checks everything and reads the files that the configuration names. Server certificates have to be good at `now`.
///
/// # Errors
/// Everything that is wrong.
pub fn open(sources: &Sources, now: Timestamp) -> Result<Opened, Rejected> {
    let (raw, complaints) = RawConfig::read(sources, &keys::SERVER);
    let (config, mut draft) = check::check(&raw);
    let files = load::load(&raw, &mut draft, &sources.environment, now);
    let checked = finish(&raw, config, complaints, draft)?;
    let files = files.ok_or_else(|| Rejected { complaints: Vec::new(), warnings: Vec::new() })?;
    Ok(Opened { checked, files, sources: sources.clone() })
}

fn finish(
    raw: &RawConfig,
    config: Option<Config>,
    complaints: Vec<Complaint>,
    draft: check::Draft,
) -> Result<Checked, Rejected> {
    let Rejected { complaints, warnings } = collected(complaints, draft);
    match config.filter(|_| complaints.is_empty()) {
        Some(config) => Ok(Checked { effective: Effective::of(raw, |path| derived(path, &config)), config, warnings }),
        None => Err(Rejected { complaints, warnings }),
    }
}

/// All that was noticed, in the order of the file.
fn collected(mut complaints: Vec<Complaint>, draft: check::Draft) -> Rejected {
    let check::Draft { complaints: more, mut warnings, .. } = draft;
    complaints.extend(more);
    keep_only_syntax_where_it_failed(&mut complaints);
    complaints.sort_by(|a, b| a.origin.cmp(&b.origin));
    warnings.sort_by(|a, b| a.origin.cmp(&b.origin));
    Rejected { complaints, warnings }
}

/// What follows from other keys.
fn derived(path: &str, config: &Config) -> Option<String> {
    Some(match path {
        "listen.mtls.public_url" => config.mtls.as_ref()?.public_url.to_string(),
        "listen.proxy.public_url" => config.proxy.as_ref()?.public_url.to_string(),
        "listen.public.public_url" => config.public.as_ref()?.public_url.to_string(),
        "listen.public.min_tls" => config.public.as_ref()?.min_tls.as_str().to_owned(),
        _ => return None,
    })
}

/// What was made of a line that is no TOML says nothing about what was meant.
fn keep_only_syntax_where_it_failed(complaints: &mut Vec<Complaint>) {
    let is_syntax = |complaint: &Complaint| matches!(complaint.about, Fault::Syntax { .. });
    let failed: Vec<_> = complaints.iter().filter(|c| is_syntax(c)).filter_map(|c| c.origin.line()).collect();
    complaints.retain(|c| is_syntax(c) || !c.origin.line().is_some_and(|line| failed.contains(&line)));
}

impl Config {
    /// The Unix sockets that it listens at, each with its key.
    pub fn sockets(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let admin = match &self.admin {
            Some(AdminListener::Unix(path)) => Some(("listen.admin.address", path.as_path())),
            Some(AdminListener::Tls(_)) | None => None,
        };
        let proxy = match self.proxy.as_ref().map(|proxy| &proxy.listen) {
            Some(ProxyListener::Unix { path, .. }) => Some(("listen.proxy.address", path.as_path())),
            Some(ProxyListener::Tls(_)) | None => None,
        };
        admin.into_iter().chain(proxy)
    }

    /// The files and folders whose change calls for a reload: certificates, keys, anchors, revocation lists.
    #[must_use]
    pub fn watched(&self, environment: &Environment) -> Vec<PathBuf> {
        let admin = match &self.admin {
            Some(AdminListener::Tls(admin)) => Some(&**admin),
            Some(AdminListener::Unix(_)) | None => None,
        };
        let proxy = match self.proxy.as_ref().map(|proxy| &proxy.listen) {
            Some(ProxyListener::Tls(proxy)) => Some(&**proxy),
            Some(ProxyListener::Unix { .. }) | None => None,
        };
        let mtls = self.mtls.as_ref().map(|mtls| &mtls.identity);
        let identities = mtls
            .into_iter()
            .chain(self.public.as_ref().map(|public| &public.identity))
            .chain(admin.map(|admin| &admin.identity))
            .chain(proxy.map(|proxy| &proxy.identity));
        let of_listeners = identities.flat_map(|identity| [&identity.certificate, &identity.key]);
        let groups = self.trust.iter().map(|group| (&group.ca, &group.crl));
        let mutual = admin.map(|admin| &admin.trust).into_iter().chain(proxy.map(|proxy| &proxy.trust));
        let groups = groups.chain(mutual.map(|trust| (&trust.ca, &trust.crl)));
        let of_trust = groups.flat_map(|(ca, crl)| std::iter::once(ca).chain(crl));
        of_listeners.chain(of_trust).filter_map(|reference| reference.file(environment)).collect()
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, complaint) in self.complaints.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            complaint.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Rejected {}
