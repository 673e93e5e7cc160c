//! The set-up of `dev` and `demo`: PKI, clients and configuration in one folder, kept from one start to the next.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use certbind_devpki::{DevPki, Validity};
use certbind_proto::time::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::http::{INTROSPECT_PATH, REVOKE_PATH, TOKEN_PATH};

/// How long the certificates last, in days.
const DAYS: i64 = 365;

/// The scope that the demo's clients have.
pub const SCOPE: &str = "payments:read";

/// A folder with everything that a server, an API and their clients need.
#[derive(Debug)]
pub struct Setup {
    dir: PathBuf,
    issuer: String,
    resource: String,
}

/// One client of `dev.json`.
#[derive(Clone, Debug, Serialize)]
pub struct DevClient {
    /// Its identifier.
    pub client_id: &'static str,
    /// How it proves itself.
    pub token_endpoint_auth_method: &'static str,
    /// The key of its assertions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assertion_key: Option<PathBuf>,
    /// What it signs them with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alg: Option<&'static str>,
    /// Its certificate.
    pub cert: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
}

impl Setup {
    /// Makes what is not there yet. Keys, clients and store of an earlier start are kept; only what depends on the
    /// addresses is written anew.
    ///
    /// # Errors
    /// When something cannot be made or written.
    pub fn prepare(dir: &Path, server: SocketAddr, api: SocketAddr, now: Timestamp) -> anyhow::Result<Self> {
        let dir = std::path::absolute(dir)?;
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let setup = Self {
            issuer: format!("https://localhost:{}", server.port()),
            resource: format!("https://localhost:{}", api.port()),
            dir,
        };
        if !setup.path("ca.pem").exists() {
            let validity = Validity::days_from(now.unix() - 3600, DAYS);
            setup.write_pki(&DevPki::generate(validity)?)?;
        }
        setup.write_clients()?;
        setup.write("certbind.toml", &setup.configuration(server))?;
        Ok(setup)
    }

    /// The same, with a PKI that the caller has made and goes on using.
    ///
    /// # Errors
    /// When something cannot be written.
    pub fn with_pki(dir: &Path, server: SocketAddr, api: SocketAddr, pki: &DevPki) -> anyhow::Result<Self> {
        pki.write_to(dir)?;
        Self::prepare(dir, server, api, Timestamp::from_unix(0))
    }

    fn write_pki(&self, pki: &DevPki) -> anyhow::Result<()> {
        pki.write_to(&self.dir)?;
        Ok(())
    }

    /// A file of this folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The configuration file.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.path("certbind.toml")
    }

    /// The issuer identifier.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The API's resource indicator.
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// The clients that get tokens, one for each method.
    #[must_use]
    pub fn clients(&self) -> [DevClient; 3] {
        let client = |client_id, token_endpoint_auth_method| DevClient {
            client_id,
            token_endpoint_auth_method,
            assertion_key: None,
            alg: None,
            cert: self.path(&format!("clients/{client_id}.pem")),
            key: self.path(&format!("clients/{client_id}.key")),
        };
        [
            client("billing", "tls_client_auth"),
            client("ledger", "self_signed_tls_client_auth"),
            DevClient {
                assertion_key: Some(self.path("clients/batch.assertion.key")),
                alg: Some("ES256"),
                ..client("batch", "private_key_jwt")
            },
        ]
    }

    /// Replaces the revocation lists, as an operator's job would: written beside, then renamed over.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn replace_crl(&self, pem: &str) -> anyhow::Result<()> {
        self.write("crl.pem", pem)
    }

    /// Writes `dev.json`, which tells tools where everything is.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_dev_json(&self) -> anyhow::Result<PathBuf> {
        let text = serde_json::to_string_pretty(&self.dev_json())?;
        self.write("dev.json", &(text + "\n"))?;
        Ok(self.path("dev.json"))
    }

    fn dev_json(&self) -> Value {
        json!({
            "issuer": self.issuer,
            "token_endpoint": format!("{}{TOKEN_PATH}", self.issuer),
            "introspection_endpoint": format!("{}{INTROSPECT_PATH}", self.issuer),
            "revocation_endpoint": format!("{}{REVOKE_PATH}", self.issuer),
            "jwks_uri": format!("{}/.well-known/jwks.json", self.issuer),
            "ca": self.path("ca.pem"),
            "api": format!("{}/payments", self.resource),
            "config": self.config_file(),
            "resource": self.resource,
            "scope": SCOPE,
            "clients": self.clients(),
        })
    }

    fn configuration(&self, server: SocketAddr) -> String {
        let Self { issuer, .. } = self;
        format!(
            r#"# Written by `certbind dev`, anew at each start. The format is that of production.
issuer   = "{issuer}"
data_dir = "data"

[listen.mtls]
address    = "{server}"
public_url = "{issuer}"
cert = "file:server.pem"
key  = "file:server.key"

[[trust]]
name = "dev"
ca   = "file:ca.pem"
crl  = ["file:crl.pem"]

[assertions]
jwks_fetch = {{ allow_private_networks = true }}

[clients]
dir = "clients.d"

[log]
format = "pretty"
level  = "warn"
audit  = "file:audit.jsonl"
"#
        )
    }

    fn write_clients(&self) -> anyhow::Result<()> {
        let folder = self.path("clients.d");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let common = format!("scope = \"{SCOPE}\"\n\n[certbind]\naudiences = [\"{}\"]\n", self.resource);
        let registrations = [
            (
                "billing",
                "token_endpoint_auth_method = \"tls_client_auth\"\n\
                 tls_client_auth_san_uri = \"spiffe://certbind.dev/billing\"\n",
                "trust = \"dev\"\n",
            ),
            (
                "ledger",
                "token_endpoint_auth_method = \"self_signed_tls_client_auth\"\n",
                "certificates = [\"file:../clients/ledger.pem\"]\n",
            ),
            (
                "batch",
                "token_endpoint_auth_method = \"private_key_jwt\"\n\
                 token_endpoint_auth_signing_alg = \"ES256\"\n\
                 jwks = \"file:../clients/batch.jwks.json\"\n",
                "",
            ),
        ];
        self.write("clients/batch.jwks.json", &self.batch_jwks()?)?;
        for (client_id, method, own) in registrations {
            let text = format!("client_id = \"{client_id}\"\n{method}{common}{own}");
            self.write(&format!("clients.d/{client_id}.toml"), &text)?;
        }
        self.write("clients.d/api.toml", &self.resource_server())
    }

    /// The API may ask about tokens, and gets none.
    fn resource_server(&self) -> String {
        format!(
            "client_id = \"api\"\ngrant_types = []\ntoken_endpoint_auth_method = \"tls_client_auth\"\n\
             tls_client_auth_san_uri = \"spiffe://certbind.dev/api\"\n\n[certbind]\ntrust = \"dev\"\n\
             resource_server = [\"{}\"]\n",
            self.resource
        )
    }

    /// The public half of the key that `batch` signs its assertions with.
    fn batch_jwks(&self) -> anyhow::Result<String> {
        let pem = fs::read_to_string(self.path("clients/batch.assertion.key"))?;
        let key = certbind_proto::jws::SigningKey::from_pkcs8_pem(&pem, None)?;
        let jwk = key.public_jwk("batch-1").to_json();
        Ok(serde_json::to_string_pretty(&json!({ "keys": [jwk] }))? + "\n")
    }

    /// Never leaves half a file: written beside, then renamed over what was there.
    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.path(name);
        let beside = path.with_extension("new~");
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&beside)?;
        file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
        fs::rename(&beside, &path).with_context(|| format!("cannot write {}", path.display()))
    }
}
