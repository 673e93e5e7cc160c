//! Turns one client's file, and the files that it names, into one checked [`Client`] (RFC 7591 §2).

use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use certbind_proto::client::{Client, ClientMetadata, RegistrationRules};
use certbind_proto::json;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;
use toml::de::DeTable;

use super::fault::{Complaint, FileFault, Position};
use super::identity::Identity;
use super::names::{CERTBIND, CLIENT, Member, names};
use crate::suggest::nearest;

/// The largest file that is read, in bytes; also of those that a registration names.
pub(super) const MAX_BYTES: u64 = 256 * 1024;

/// The most files that one registration may name.
const MAX_REFERENCES: usize = 64;

/// A file that was read.
#[derive(Debug)]
pub(super) struct Reading {
    /// Of the client's own file, taken before it was read; none when it could not be read, so that the next look tries
    /// again. Else a moment without file descriptors would hide what the file says until somebody touches it.
    pub(super) identity: Option<Identity>,
    /// The files it names, in the same way.
    pub(super) references: Vec<(PathBuf, Option<Identity>)>,
    /// A hash of all that was read.
    pub(super) content: Vec<u8>,
    /// The client, or everything that is wrong.
    pub(super) client: Result<Arc<Client>, Vec<FileFault>>,
}

/// Reads the client's file at `path`.
pub(super) fn read(path: &Path, rules: &RegistrationRules) -> Reading {
    let hash = digest::Context::new(&digest::SHA256);
    let mut reader = Reader { path, identity: Identity::at(path), text: String::new(), references: Vec::new(), hash };
    let client = reader.client(rules).map(Arc::new);
    let content = reader.hash.finish().as_ref().to_vec();
    Reading { identity: reader.identity, references: reader.references, content, client }
}

struct Reader<'a> {
    path: &'a Path,
    identity: Option<Identity>,
    text: String,
    references: Vec<(PathBuf, Option<Identity>)>,
    hash: digest::Context,
}

impl Reader<'_> {
    fn client(&mut self, rules: &RegistrationRules) -> Result<Client, Vec<FileFault>> {
        let bytes = read_file(self.path).map_err(|error| {
            self.identity = None;
            vec![self.fault(None, unreadable(&error))]
        })?;
        self.hash.update(&bytes);
        self.text = String::from_utf8(bytes).map_err(|_| vec![self.fault(None, Complaint::NotText)])?;
        let text = std::mem::take(&mut self.text);
        let client = self.parse(&text, rules);
        self.text = text;
        client.map_err(|faults| faults.into_iter().map(|(span, complaint)| self.fault(span, complaint)).collect())
    }

    fn parse(&mut self, text: &str, rules: &RegistrationRules) -> Result<Client, Vec<Found>> {
        let document = DeTable::parse(text).map_err(|error| vec![toml_fault(&error)])?;
        let unknown = unknown_keys(document.get_ref());
        if !unknown.is_empty() {
            return Err(unknown);
        }
        let mut metadata: ClientMetadata = toml::from_str(text).map_err(|error| vec![toml_fault(&error)])?;
        let keys = Keys(document.get_ref());
        let mut faults = Vec::new();
        if let Err(complaint) = self.resolve_jwks(&mut metadata) {
            faults.push((keys.span("jwks"), complaint));
        }
        let certificates = self.certificates(&metadata).unwrap_or_else(|complaint| {
            faults.push((keys.span("certbind.certificates"), complaint));
            Vec::new()
        });
        if !faults.is_empty() {
            return Err(faults);
        }
        Client::register(&metadata, &certificates, rules).map_err(|faults| {
            let located = |fault: &_| keys.span(&key_of(fault));
            faults.into_iter().map(|fault| (located(&fault), Complaint::Metadata(fault))).collect()
        })
    }

    /// `jwks = "file:keys.json"` becomes the set in that file.
    fn resolve_jwks(&mut self, metadata: &mut ClientMetadata) -> Result<(), Complaint> {
        let Some(Value::String(reference)) = &metadata.jwks else { return Ok(()) };
        let (path, bytes) = self.reference("jwks", reference)?;
        let set = json::parse_object(&bytes).map_err(|fault| Complaint::NotAKeySet { path, fault })?;
        metadata.jwks = Some(Value::Object(set));
        Ok(())
    }

    fn certificates(&mut self, metadata: &ClientMetadata) -> Result<Vec<Vec<u8>>, Complaint> {
        let mut certificates = Vec::new();
        for reference in &metadata.certbind.certificates {
            let (path, bytes) = self.reference("certbind.certificates", reference)?;
            certificates.push(one_certificate(&bytes).ok_or(Complaint::NotACertificate { path })?);
        }
        Ok(certificates)
    }

    /// Reads a file that the registration names; its path starts at the folder of the client's file.
    fn reference(&mut self, key: &'static str, reference: &str) -> Result<(PathBuf, Vec<u8>), Complaint> {
        let path = reference.strip_prefix("file:").filter(|path| !path.is_empty() && !path.contains('\0'));
        let path = path.filter(|_| self.references.len() < MAX_REFERENCES).ok_or(Complaint::NotAReference { key })?;
        let path = self.path.parent().unwrap_or(Path::new(".")).join(path);
        let before = Identity::at(&path);
        let bytes = read_file(&path);
        self.references.push((path.clone(), before.filter(|_| bytes.is_ok())));
        let bytes =
            bytes.map_err(|error| Complaint::ReferenceUnreadable { key, path: path.clone(), kind: error.kind() })?;
        self.hash.update(&(bytes.len() as u64).to_be_bytes());
        self.hash.update(&bytes);
        Ok((path, bytes))
    }

    fn fault(&self, span: Option<Range<usize>>, complaint: Complaint) -> FileFault {
        let position = span.map(|span| Position::of(&self.text, span.start));
        FileFault { path: self.path.to_owned(), position, complaint }
    }
}

/// A complaint, and the bytes of the file that it is about.
type Found = (Option<Range<usize>>, Complaint);

/// Never waits (a FIFO is no file) and never reads more than the limit.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

fn unreadable(error: &io::Error) -> Complaint {
    match error.kind() {
        io::ErrorKind::FileTooLarge => Complaint::TooLarge,
        kind => Complaint::Unreadable(kind),
    }
}

fn toml_fault(error: &toml::de::Error) -> Found {
    (error.span(), Complaint::Toml(error.message().to_owned()))
}

/// All of them at once; serde would stop at the first.
fn unknown_keys(document: &DeTable<'_>) -> Vec<Found> {
    let mut unknown = Vec::new();
    let mut check = |table: &DeTable<'_>, prefix: &str, known: &'static [Member]| {
        for key in table.keys().filter(|key| names(known).all(|name| name != key.get_ref().as_ref())) {
            let meant = nearest(key.get_ref(), names(known));
            let complaint = Complaint::UnknownKey { key: format!("{prefix}{}", key.get_ref()), meant };
            unknown.push((Some(key.span()), complaint));
        }
    };
    check(document, "", &CLIENT);
    if let Some(ours) = document.get("certbind").and_then(|ours| ours.get_ref().as_table()) {
        check(ours, "certbind.", &CERTBIND);
    }
    unknown.sort_by_key(|(span, _)| span.as_ref().map(|span| span.start));
    unknown
}

/// Every [`MetadataFault`](certbind_proto::client::MetadataFault) begins with the key that it is about.
fn key_of(fault: &impl ToString) -> String {
    let text = fault.to_string();
    text.split(':').next().unwrap_or_default().to_owned()
}

/// Finds a key in the document.
struct Keys<'a>(&'a DeTable<'a>);

impl Keys<'_> {
    fn span(&self, key: &str) -> Option<Range<usize>> {
        let (table, key) = match key.strip_prefix("certbind.") {
            Some(key) => (self.0.get("certbind")?.get_ref().as_table()?, key),
            None => (self.0, key),
        };
        table.get_key_value(key).map(|(key, _)| key.span())
    }
}

/// The one certificate in PEM or DER. A file with several is refused: a CA's certificate behind the client's own would
/// be registered like it.
fn one_certificate(bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.first() == Some(&0x30) {
        return Some(bytes.to_vec());
    }
    let mut certificates = CertificateDer::pem_slice_iter(bytes);
    let certificate = certificates.next()?.ok()?;
    certificates.next().is_none().then(|| certificate.to_vec())
}

#[cfg(test)]
mod tests {
    use certbind_proto::client::LegacyAudience;
    use certbind_proto::jws::Algorithms;

    use super::*;

    /// What cannot be read stands here for what cannot be read for a moment (EMFILE): both are there and give nothing.
    #[test]
    fn fault_9_what_could_not_be_read_has_no_identity_so_that_it_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let trust_groups = Vec::new();
        let rules = RegistrationRules {
            algorithms: Algorithms::DEFAULT,
            legacy_audience: LegacyAudience::Forbidden,
            trust_groups,
        };
        let path = dir.path().join("client.toml");
        std::fs::create_dir(&path).unwrap();
        assert_eq!(read(&path, &rules).identity, None);

        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, "jwks = \"file:keys.json\"").unwrap();
        std::fs::create_dir(dir.path().join("keys.json")).unwrap();
        let reading = read(&path, &rules);
        assert!(reading.identity.is_some());
        assert_eq!(reading.references, [(dir.path().join("keys.json"), None)]);
    }
}
