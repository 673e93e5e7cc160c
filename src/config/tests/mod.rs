//! Configurations in a folder of their own, with real certificates.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod admin;
mod documents;
mod guard;
mod overlays;
mod proxy;
mod together;
mod wrong;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::OnceLock;

use certbind_devpki::{CrlSpec, Issuer, KeyAlgorithm, LeafSpec, Validity};
use certbind_proto::time::Timestamp;

use super::*;

/// 2026-11-22
const NOW: i64 = 1_795_305_600;
const DAY: i64 = 86_400;

/// The configuration that every test spoils.
const GOOD: &str = r#"issuer = "https://localhost:8443"
data_dir = "data"
profile = "default"

[listen.mtls]
address = "127.0.0.1:8443"
cert = "file:server.pem"
key = "file:server.key"

[[trust]]
name = "corp"
ca = "file:ca.pem"
crl = ["file:corp.crl"]

[tokens]
lifetime = "5m"

[log]
level = "info"
"#;

/// What [`GOOD`] says of the listener that asks for certificates.
const MTLS: &str = r#"[listen.mtls]
address = "127.0.0.1:8443"
cert = "file:server.pem"
key = "file:server.key"
"#;

/// A second listener, to be put behind [`GOOD`].
const PUBLIC: &str = r#"
[listen.public]
address = "127.0.0.1:9443"
public_url = "https://localhost:9443"
cert = "file:server.pem"
key = "file:server.key"
"#;

/// A folder with all that [`GOOD`] names.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        for (name, content) in pki() {
            folder.write(name, content);
        }
        for (name, _) in pki().iter().filter(|(name, _)| name.ends_with(".key")) {
            fs::set_permissions(folder.path(name), Permissions::from_mode(0o600)).expect("changed");
        }
        fs::set_permissions(folder.path("open.key"), Permissions::from_mode(0o644)).expect("changed");
        fs::set_permissions(folder.path("open.seal"), Permissions::from_mode(0o644)).expect("changed");
        fs::create_dir(folder.path("clients.d")).expect("made");
        fs::create_dir(folder.path("open.d")).expect("made");
        fs::set_permissions(folder.path("open.d"), Permissions::from_mode(0o777)).expect("changed");
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).expect("written");
    }

    fn sources(&self, text: &str) -> Sources {
        self.write("certbind.toml", text.as_bytes());
        Sources { file: self.path("certbind.toml"), environment: Environment::default(), set: Vec::new() }
    }

    fn open(&self, text: &str) -> Result<Opened, Rejected> {
        open(&self.sources(text), Timestamp::from_unix(NOW))
    }

    /// The lines of all complaints, without the folder.
    fn complaints(&self, text: &str) -> Vec<String> {
        let complaints = self.open(text).map_or_else(|rejected| rejected.complaints, |_| Vec::new());
        complaints.iter().map(|complaint| self.plain(complaint)).collect()
    }

    /// The lines of all warnings, without the folder.
    fn warnings(&self, text: &str) -> Vec<String> {
        let opened = self.open(text).expect("a good configuration");
        opened.checked.warnings.iter().map(|warning| self.plain(warning)).collect()
    }

    fn plain(&self, remark: &impl ToString) -> String {
        remark.to_string().replace(&format!("{}/", self.0.path().display()), "")
    }
}

/// The files of a folder. Made once, as the keys take their time.
fn pki() -> &'static [(&'static str, Vec<u8>)] {
    static FILES: OnceLock<Vec<(&'static str, Vec<u8>)>> = OnceLock::new();
    FILES.get_or_init(|| make_pki().expect("a PKI"))
}

fn make_pki() -> Result<Vec<(&'static str, Vec<u8>)>, certbind_devpki::PkiError> {
    let year = Validity::days_from(NOW - 30 * DAY, 365);
    let ca = Issuer::root("Test CA", year)?;
    let old_ca = Issuer::root("Old CA", Validity::days_from(NOW - 30 * DAY, 20))?;
    let server = ca.leaf(&LeafSpec::server(year))?;
    let other = ca.leaf(&LeafSpec::server(year))?;
    let expired = ca.leaf(&LeafSpec::server(Validity::days_from(NOW - 30 * DAY, 20)))?;
    let future = ca.leaf(&LeafSpec::server(Validity::days_from(NOW + DAY, 20)))?;
    let ending = ca.leaf(&LeafSpec::server(Validity::days_from(NOW - 88 * DAY, 90)))?;
    let client = ca.leaf(&LeafSpec::client("localhost", year).dns("localhost"))?;
    let ed25519 = ca.leaf(&LeafSpec::server(year).key(KeyAlgorithm::Ed25519))?;
    let p384 = ca.leaf(&LeafSpec::server(year).key(KeyAlgorithm::P384))?;
    let rsa = ca.leaf(&LeafSpec::server(year).key(KeyAlgorithm::Rsa2048))?;
    let list = |days: i64| CrlSpec {
        next_update: NOW + days * DAY,
        number: 1,
        revoked: Vec::new(),
        this_update: NOW - 9 * DAY,
    };
    Ok(vec![
        ("ca.pem", ca.certificate_pem().into_bytes()),
        ("ca.der", ca.certificate().to_vec()),
        ("old-ca.pem", old_ca.certificate_pem().into_bytes()),
        ("server.pem", server.chain_pem().into_bytes()),
        ("server.key", server.key_pem().into_bytes()),
        ("open.key", server.key_pem().into_bytes()),
        ("other.key", other.key_pem().into_bytes()),
        ("expired.pem", expired.chain_pem().into_bytes()),
        ("expired.key", expired.key_pem().into_bytes()),
        ("client.pem", client.chain_pem().into_bytes()),
        ("client.key", client.key_pem().into_bytes()),
        ("future.pem", future.chain_pem().into_bytes()),
        ("future.key", future.key_pem().into_bytes()),
        ("ending.pem", ending.chain_pem().into_bytes()),
        ("ending.key", ending.key_pem().into_bytes()),
        ("ed25519.pem", ed25519.chain_pem().into_bytes()),
        ("ed25519.key", ed25519.key_pem().into_bytes()),
        ("p384.pem", p384.chain_pem().into_bytes()),
        ("p384.key", p384.key_pem().into_bytes()),
        ("rsa.pem", rsa.chain_pem().into_bytes()),
        ("rsa.key", rsa.key_pem().into_bytes()),
        ("corp.crl", ca.crl(&list(9))?.pem().into_bytes()),
        ("der.crl", ca.crl(&list(9))?.der().to_vec()),
        ("stale.crl", ca.crl(&list(-1))?.pem().into_bytes()),
        ("empty", Vec::new()),
        ("garbage", b"-----BEGIN CERTIFICATE-----\nZ2FyYmFnZQ==\n-----END CERTIFICATE-----\n".to_vec()),
        ("seal.key", b"070f171f272f373f474f575f676f777f878f979fa7afb7bfc7cfd7dfe7eff7ff\n".to_vec()),
        ("open.seal", b"070f171f272f373f474f575f676f777f878f979fa7afb7bfc7cfd7dfe7eff7ff\n".to_vec()),
        ("two.key", b"two\nlines\n".to_vec()),
        ("text.key", b"this is not what you are looking for\n".to_vec()),
        ("text", b"this is not what you are looking for\n".to_vec()),
    ])
}
