//! The files that a configuration names, read and looked at: what is missing, empty, garbage or does not fit is a complaint,
//! as a server without it would be weaker than asked.

use std::fmt;
use std::fs::Metadata;
use std::path::Path;

use certbind_proto::cert::Certificate;
use certbind_proto::time::Timestamp;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use zeroize::Zeroizing;

use super::check::{Draft, Named};
use super::encryption::EncryptionKeys;
use super::fault::{Complaint, Concern, Fault, Warning};
use super::identity::Identity;
use super::origin::Environment;
use super::pkcs11::Pin;
use super::proxy::ProxyFiles;
use super::raw::RawConfig;
use super::reference::{ReadFault, Reference};
use super::settings::{EncryptionSource, IdentitySource};
use super::url::{Issuer, WebOrigin};
use super::{admin, guard, proxy};

/// The longest certificate chain, bundle of anchors, or key, in bytes.
pub(super) const MAX_PEM: u64 = 1024 * 1024;

/// The longest address of a database, in bytes.
const MAX_URL: u64 = 4096;

/// The longest revocation list, in bytes.
const MAX_CRL: u64 = 64 * 1024 * 1024;

/// What stands in the files. It replaces its predecessor as a whole when files change.
#[derive(Debug)]
pub struct Files {
    /// The certificate and key of `[listen.mtls]`, if there is one.
    pub mtls: Option<Identity>,
    /// Those of `[listen.public]`, if there is one.
    pub public: Option<Identity>,
    /// Those of `[listen.admin]`, and who vouches for administrators, if it speaks TLS.
    pub admin: Option<MutualFiles>,
    /// What `[listen.proxy]` works with, if there is one.
    pub proxy: Option<ProxyFiles>,
    /// For each trust group, in the order of the configuration.
    pub trust: Vec<TrustFiles>,
    /// The authorities that may vouch for a `jwks_uri`, when a file names them.
    pub fetch_roots: Vec<CertificateDer<'static>>,
    /// What guards the signing keys.
    pub keys: KeyFiles,
    /// How the database is reached, when there is one.
    pub database: Option<DatabaseFiles>,
}

/// What a listener works with that lets in whom it knows by certificate.
#[derive(Debug)]
pub struct MutualFiles {
    /// Its certificate and key.
    pub identity: Identity,
    /// Who vouches for those who may come in.
    pub trust: TrustFiles,
}

/// How the database is reached.
pub struct DatabaseFiles {
    /// Its address, with the password.
    pub url: Zeroizing<String>,
    /// The authorities that may vouch for it, when a file names them.
    pub roots: Vec<CertificateDer<'static>>,
}

/// Never shows the password.
impl fmt::Debug for DatabaseFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseFiles").field("url", &"[redacted]").finish_non_exhaustive()
    }
}

/// What guards the signing keys, as far as the configuration names it.
#[derive(Debug)]
pub struct KeyFiles {
    /// The keys under which private keys are sealed.
    pub encryption: Option<EncryptionKeys>,
    /// The PIN of the token that holds the keys.
    pub pin: Option<Pin>,
}

/// What a trust group vouches with.
#[derive(Debug)]
pub struct TrustFiles {
    /// Its anchors, one at least, each of a CA.
    pub anchors: Vec<CertificateDer<'static>>,
    /// Its revocation lists.
    pub crls: Vec<RevocationList>,
    /// What the system told of each file before it was read, first of the anchors' and then of the lists'.
    pub seen: Vec<Option<Metadata>>,
}

/// A revocation list.
#[derive(Clone, Debug)]
pub struct RevocationList {
    /// The list.
    pub der: CertificateRevocationListDer<'static>,
    /// Until when it holds (RFC 5280 §5.1.2.5).
    pub next_update: Timestamp,
}

/// Reads all that is named and adds what is wrong and odd to the draft. There are files to hand out when nothing is wrong.
pub(super) fn load(raw: &RawConfig, draft: &mut Draft, environment: &Environment, now: Timestamp) -> Option<Files> {
    let named = std::mem::take(&mut draft.named);
    let mut loader = Loader { raw, draft, environment, now };
    loader.folders(&named);
    let mtls = loader.identity_of("listen.mtls", &named);
    let public = loader.identity_of("listen.public", &named);
    let admin = loader.admin(&named);
    let proxy = named.proxy.as_ref().map_or(Some(None), |listen| loader.proxy(proxy::TABLE, listen).map(Some));
    let trust: Vec<Option<TrustFiles>> =
        named.trust.iter().map(|(table, ca, crl)| loader.trust(table, ca, crl)).collect();
    let trust: Option<Vec<TrustFiles>> = trust.into_iter().collect();
    let fetch_roots =
        named.fetch_roots.as_ref().map_or(Some(Vec::new()), |ca| loader.roots("assertions.jwks_fetch.ca", ca));
    let pin = named.pin.as_ref().map_or(Some(None), |pin| loader.pin(pin).map(Some));
    let encryption = named.encryption.as_ref().map_or(Some(None), |source| loader.encryption(source).map(Some));
    let database = named.database.as_ref().map_or(Some(None), |(url, ca)| loader.database(url, ca.as_ref()).map(Some));
    let where_there_is_one = |identity: Option<Option<Identity>>| identity.map_or(Some(None), |found| found.map(Some));
    let (mtls, public) = (where_there_is_one(mtls), where_there_is_one(public));
    let (admin, proxy, trust, fetch_roots) = (admin?, proxy?, trust?, fetch_roots?);
    let keys = KeyFiles { encryption: encryption?, pin: pin? };
    let files = Files { mtls: mtls?, public: public?, admin, proxy, trust, fetch_roots, keys, database: database? };
    draft.complaints.is_empty().then_some(files)
}

pub(super) struct Loader<'a> {
    pub(super) raw: &'a RawConfig,
    pub(super) draft: &'a mut Draft,
    pub(super) environment: &'a Environment,
    pub(super) now: Timestamp,
}

impl Loader<'_> {
    /// None when there is no such listener, `Some(None)` when something is wrong with what it names.
    fn identity_of(&mut self, listener: &str, named: &Named) -> Option<Option<Identity>> {
        let (_, source) = named.identities.iter().find(|(name, _)| *name == listener)?;
        Some(self.identity(listener, source))
    }

    /// None when something is wrong, `Some(None)` when the admin API does not speak TLS.
    fn admin(&mut self, named: &Named) -> Option<Option<MutualFiles>> {
        let identity = self.identity_of(admin::TABLE, named);
        let trust = named.admin_trust.as_ref().map(|trust| self.trust(admin::TABLE, &trust.ca, &trust.crl));
        match (identity, trust) {
            (None, None) => Some(None),
            (identity, trust) => Some(Some(MutualFiles { identity: identity??, trust: trust?? })),
        }
    }

    pub(super) fn identity(&mut self, listener: &str, source: &IdentitySource) -> Option<Identity> {
        match source.load(listener, self.environment, self.now) {
            Ok(identity) => {
                let host = self.host_of(listener);
                let concerns = identity.concerns(host.as_deref(), self.now);
                concerns.into_iter().for_each(|concern| self.warn(&format!("{listener}.cert"), concern));
                Some(identity)
            }
            Err(faults) => {
                faults.into_iter().for_each(|(path, fault)| self.complain(&path, fault));
                None
            }
        }
    }

    /// The host by which clients call a listener. Nothing says what administrators and proxies call theirs.
    fn host_of(&self, listener: &str) -> Option<String> {
        if matches!(listener, admin::TABLE | guard::LISTEN | proxy::TABLE) {
            return None;
        }
        let text = |path: &str| match self.raw.value(path) {
            Some(super::value::Value::Text(text)) => Some(text.clone()),
            _ => None,
        };
        if let Some(typed) = text(&format!("{listener}.public_url")) {
            return Some(WebOrigin::parse(&typed).ok()?.host().to_owned());
        }
        Some(Issuer::parse(&text("issuer")?).ok()?.origin().host().to_owned())
    }

    pub(super) fn trust(&mut self, table: &str, ca: &Reference, crl: &[Reference]) -> Option<TrustFiles> {
        let (ca_path, crl_path) = (format!("{table}.ca"), format!("{table}.crl"));
        let look = |reference: &Reference| std::fs::metadata(reference.file(self.environment)?).ok();
        let seen = std::iter::once(ca).chain(crl).map(look).collect();
        let anchors = ca.read(MAX_PEM, self.environment).map_err(Fault::Read).and_then(|pem| certificates(&pem));
        let anchors = self.or_complain(&ca_path, anchors);
        let crls: Vec<_> = crl.iter().map(|crl| self.revocation_lists(&crl_path, table, crl)).collect();
        let crls: Option<Vec<Vec<_>>> = crls.into_iter().collect();
        let anchors = anchors?;
        for anchor in &anchors {
            self.check_anchor(&ca_path, anchor);
        }
        Some(TrustFiles { anchors, crls: crls?.into_iter().flatten().collect(), seen })
    }

    /// The authorities that a key names.
    pub(super) fn roots(&mut self, path: &str, ca: &Reference) -> Option<Vec<CertificateDer<'static>>> {
        let roots = ca.read(MAX_PEM, self.environment).map_err(Fault::Read).and_then(|pem| certificates(&pem));
        self.or_complain(path, roots)
    }

    fn pin(&mut self, reference: &Reference) -> Option<Pin> {
        let pin = Pin::read(reference, self.environment);
        self.or_complain("keys.source", pin)
    }

    fn encryption(&mut self, source: &EncryptionSource) -> Option<EncryptionKeys> {
        let mut read = |path, key| {
            let key = EncryptionKeys::read(key, self.environment);
            self.or_complain(path, key)
        };
        let key = read("keys.encryption_key", &source.key);
        let previous = source.previous.as_ref().map(|key| read("keys.previous_encryption_key", key));
        let previous = previous.map_or(Some(None), |previous| previous.map(Some));
        Some(EncryptionKeys { key: key?, previous: previous? })
    }

    fn database(&mut self, url: &Reference, ca: Option<&Reference>) -> Option<DatabaseFiles> {
        let read = url.read_private(MAX_URL, self.environment).map_err(Fault::Read);
        let text = read.and_then(|bytes| String::from_utf8(bytes.to_vec()).map_err(|_| Fault::NotUtf8));
        let url = self.or_complain("storage.url", text).map(Zeroizing::new);
        let roots = ca.map_or(Some(Vec::new()), |ca| self.roots("storage.ca", ca));
        Some(DatabaseFiles { url: url?, roots: roots? })
    }

    fn check_anchor(&mut self, path: &str, anchor: &CertificateDer<'_>) {
        let Some(anchor) = self.or_complain(path, certificate(anchor)) else { return };
        let subject = anchor.subject().to_string();
        if !anchor.is_ca() {
            return self.complain(path, Fault::NotACa { subject });
        }
        if webpki::anchor_from_trusted_cert(anchor.der()).is_err() {
            return self.complain(path, Fault::CertificateUnreadable);
        }
        if anchor.is_expired(self.now) {
            self.warn(path, Concern::AnchorExpired { subject, since: anchor.not_after() });
        }
    }

    fn revocation_lists(&mut self, path: &str, table: &str, crl: &Reference) -> Option<Vec<RevocationList>> {
        let bytes = crl.read(MAX_CRL, self.environment).map_err(Fault::Read);
        let lists = self.or_complain(path, bytes.and_then(|bytes| revocation_lists(&bytes, crl)))?;
        let now = self.now;
        for since in lists.iter().map(|list| list.next_update).filter(|next_update| *next_update <= now) {
            let tolerated = self.raw.value(&format!("{table}.crl_stale")).is_some_and(|value| value.is_text("warn"));
            let consequence = match tolerated {
                true => "clients get in all the same",
                false if table == admin::TABLE => "administrators whom it concerns are refused",
                false if matches!(table, proxy::TABLE | guard::LISTEN) => "proxies whom it concerns are refused",
                false => "clients of this group are refused",
            };
            self.warn(path, Concern::CrlStale { since, consequence });
        }
        Some(lists)
    }

    pub(super) fn folders(&mut self, named: &Named) {
        if let Some(folder) = &named.clients_dir {
            let found = std::fs::read_dir(folder).map(|_| ()).map_err(|_| missing(folder));
            self.or_complain("clients.dir", found);
        }
        if let Some(folder) = &named.data_dir {
            self.or_complain("data_dir", check_data_dir(folder));
        }
        for (key, socket) in &named.sockets {
            self.or_complain(key, check_folder(around(socket)));
        }
        if let Some(file) = &named.audit {
            self.or_complain("log.audit", check_audit_file(file));
        }
    }

    pub(super) fn or_complain<T>(&mut self, path: &str, found: Result<T, Fault>) -> Option<T> {
        found.map_err(|fault| self.complain(path, fault)).ok()
    }

    fn complain(&mut self, path: &str, about: Fault) {
        let origin = self.raw.origin(path);
        self.draft.complaints.push(Complaint { key: origin.key(path), origin, about });
    }

    fn warn(&mut self, path: &str, about: Concern) {
        let origin = self.raw.origin(path);
        self.draft.warnings.push(Warning { key: origin.key(path), origin, about });
    }
}

pub(super) fn certificate(der: &CertificateDer<'_>) -> Result<Certificate, Fault> {
    Certificate::parse(der).map_err(Fault::Certificate)
}

/// The certificates of a PEM text, or the one that the bytes are.
pub(super) fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let found: Result<Vec<_>, _> = match is_der(bytes) {
        true => Ok(vec![CertificateDer::from(bytes.to_vec())]),
        false => CertificateDer::pem_slice_iter(bytes).collect(),
    };
    found.ok().filter(|found| !found.is_empty()).ok_or(Fault::CertificateUnreadable)
}

fn revocation_lists(bytes: &[u8], found_at: &Reference) -> Result<Vec<RevocationList>, Fault> {
    let found: Result<Vec<_>, _> = match is_der(bytes) {
        true => Ok(vec![CertificateRevocationListDer::from(bytes.to_vec())]),
        false => CertificateRevocationListDer::pem_slice_iter(bytes).collect(),
    };
    let lists: Option<Vec<_>> = found.ok().and_then(|found| found.into_iter().map(revocation_list).collect());
    lists.filter(|lists| !lists.is_empty()).ok_or_else(|| Fault::CrlUnreadable { found_at: found_at.to_string() })
}

/// A list that the chain check understands and that says when the next one comes (RFC 5280 §5.1.2.5).
fn revocation_list(der: CertificateRevocationListDer<'static>) -> Option<RevocationList> {
    webpki::BorrowedCertRevocationList::from_der(&der).ok()?;
    let (_, list) = CertificateRevocationList::from_der(&der).ok()?;
    let next_update = Timestamp::from_unix(list.next_update()?.timestamp());
    Some(RevocationList { der, next_update })
}

/// DER of these begins with a SEQUENCE; PEM begins with letters or blanks.
fn is_der(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0x30)
}

/// The folder of the store is made at the first start, so only the one around it has to be there.
fn check_data_dir(folder: &Path) -> Result<(), Fault> {
    use std::os::unix::fs::PermissionsExt;
    const OTHERS_WRITE: u32 = 0o002;
    let Ok(metadata) = std::fs::metadata(folder) else {
        return check_folder(around(folder));
    };
    let mode = metadata.permissions().mode() & 0o7777;
    if !metadata.is_dir() {
        return Err(missing(folder));
    }
    if mode & OTHERS_WRITE != 0 {
        return Err(Fault::FolderOpenToOthers { path: folder.display().to_string(), mode });
    }
    Ok(())
}

fn check_audit_file(file: &Path) -> Result<(), Fault> {
    check_folder(around(file))?;
    match std::fs::metadata(file) {
        Ok(metadata) if !metadata.is_file() => Err(Fault::Read(ReadFault::NotAFile(file.display().to_string()))),
        _ => Ok(()),
    }
}

fn check_folder(folder: &Path) -> Result<(), Fault> {
    if folder.is_dir() { Ok(()) } else { Err(missing(folder)) }
}

fn around(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn missing(folder: &Path) -> Fault {
    Fault::FolderMissing { path: folder.display().to_string() }
}
