//! What a server starts on: its configuration, its clients' files, and what a test changes in them.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use super::assertion::BATCH_KEY;
use super::{API, ISSUER, PKI, SCOPE};

/// What a test may change before the server starts.
pub(crate) struct Setup {
    /// As `--set`.
    pub(crate) set: Vec<String>,
    /// More tables at the end of the configuration file.
    pub(crate) more: String,
    /// The clients' files, by `client_id`.
    pub(crate) clients: BTreeMap<String, String>,
    /// Files beside those of the PKI, or in their place.
    pub(crate) files: Vec<(String, String)>,
    /// Whether there is no trust group at all.
    pub(crate) without_trust: bool,
}

impl Setup {
    /// Sets a key of the configuration.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        self.set.push(format!("{key}={value}"));
    }

    /// Adds a client's file, or replaces it.
    pub(crate) fn client(&mut self, client_id: &str, text: String) {
        self.clients.insert(client_id.to_owned(), text);
    }

    /// Adds a file, or replaces it.
    pub(crate) fn file(&mut self, name: &str, text: String) {
        self.files.push((name.to_owned(), text));
    }

    /// Adds the listener that never asks for certificates, as `public.auth.test`.
    pub(crate) fn two_listeners(&mut self) {
        self.set("listen.mtls.public_url", ISSUER);
        self.set("listen.public.public_url", "https://public.auth.test");
        self.more +=
            "[listen.public]\naddress = \"127.0.0.1:0\"\ncert = \"file:server.pem\"\nkey = \"file:server.key\"\n";
    }
}

/// A folder with everything in it, and what is said on the command line.
pub(super) fn prepare(change: impl FnOnce(&mut Setup)) -> (TempDir, Vec<String>) {
    let dir = TempDir::new().unwrap();
    PKI.write_to(dir.path()).unwrap();
    let mut setup = Setup {
        set: Vec::new(),
        more: String::new(),
        clients: usual_clients(),
        files: Vec::new(),
        without_trust: false,
    };
    change(&mut setup);
    fs::create_dir(dir.path().join("clients.d")).unwrap();
    for (client_id, text) in &setup.clients {
        fs::write(dir.path().join(format!("clients.d/{client_id}.toml")), text).unwrap();
    }
    for (name, text) in &setup.files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    fs::write(
        dir.path().join("certbind.toml"),
        configuration(if setup.without_trust { "" } else { TRUST }) + &setup.more,
    )
    .unwrap();
    (dir, setup.set)
}

/// A client's file: members of RFC 7591, and what goes into `[certbind]`.
pub(crate) fn client(client_id: &str, members: &str, own: &str) -> String {
    let audiences = if own.contains("audiences") { String::new() } else { format!("audiences = [\"{API}\"]\n") };
    let scope = if members.contains("scope =") { String::new() } else { format!("scope = \"{SCOPE}\"\n") };
    format!("client_id = \"{client_id}\"\n{scope}{members}\n[certbind]\n{audiences}{own}\n")
}

/// A client of `tls_client_auth` with this name.
pub(crate) fn tls_client(client_id: &str, name: &str, value: &str) -> String {
    let members = format!("token_endpoint_auth_method = \"tls_client_auth\"\ntls_client_auth_{name} = '{value}'\n");
    client(client_id, &members, "trust = \"dev\"")
}

/// A client of `self_signed_tls_client_auth` with what stands in `[certbind]`.
pub(crate) fn self_signed_client(client_id: &str, members: &str, own: &str) -> String {
    client(client_id, &format!("token_endpoint_auth_method = \"self_signed_tls_client_auth\"\n{members}"), own)
}

/// A JWK set as a member of a client's file.
pub(crate) fn jwks_member(keys: &[Value]) -> String {
    format!("jwks = {{ keys = [{}] }}\n", keys.iter().map(inline).collect::<Vec<_>>().join(", "))
}

/// A client of `private_key_jwt` with these keys.
pub(crate) fn signing_client(client_id: &str, keys: &[Value], members: &str, own: &str) -> String {
    let jwks = jwks_member(keys);
    client(client_id, &format!("token_endpoint_auth_method = \"private_key_jwt\"\n{jwks}{members}"), own)
}

/// A flat JSON object as a TOML inline table.
fn inline(value: &Value) -> String {
    let members = value.as_object().unwrap().iter().map(|(name, value)| format!("\"{name}\" = {value}"));
    format!("{{ {} }}", members.collect::<Vec<_>>().join(", "))
}

/// The public key of `batch`.
pub(crate) fn batch_jwk() -> Value {
    BATCH_KEY.public_jwk("batch-1").to_json()
}

fn usual_clients() -> BTreeMap<String, String> {
    BTreeMap::from([
        ("batch".to_owned(), signing_client("batch", &[batch_jwk()], "", "")),
        ("billing".to_owned(), tls_client("billing", "san_uri", "spiffe://certbind.dev/billing")),
        ("ledger".to_owned(), self_signed_client("ledger", "", "certificates = [\"file:../clients/ledger.pem\"]")),
    ])
}

const TRUST: &str = r#"[[trust]]
name = "dev"
ca   = "file:ca.pem"
crl  = ["file:crl.pem"]
"#;

fn configuration(trust: &str) -> String {
    format!(
        r#"issuer = "{ISSUER}"
data_dir = "data"

[listen.mtls]
address = "127.0.0.1:0"
cert = "file:server.pem"
key  = "file:server.key"

{trust}
[clients]
dir = "clients.d"

[limits]
failed_auth_per_address = "off"

[log]
level = "error"
audit = "file:audit.jsonl"

"#
    )
}
