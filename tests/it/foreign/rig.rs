//! A server, an API and clients of each method; and the scripts of `tests/foreign/`, each with what it needs to run.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use certbind::cli::dev::api::Api;
use certbind::cli::dev::setup::{DevClient, SCOPE, Setup};
use certbind::net::Listener;
use certbind_devpki::{Identity, KeyAlgorithm, LeafSpec, Validity};
use certbind_proto::jws::{Algorithm, SigningKey};
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::{Clock as _, SystemClock};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::openssl::claims;
use crate::house;
use crate::process::rig::{ISSUER, Process, Site, free_address, output};

/// What `scripts/test` installed for the scripts.
const PACKAGES: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/foreign");

/// The key of `reports`, and a certificate for it that nobody vouches for. RSA, as Authlib has it by default.
static REPORTS: LazyLock<Identity> = LazyLock::new(|| {
    let validity = Validity::days_from(SystemClock.now().unix() - 3600, 30);
    Identity::self_signed(&LeafSpec::client("reports", validity).key(KeyAlgorithm::Rsa2048)).unwrap()
});

/// How the server is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    OneListener,
    /// `[listen.public]` never asks for a certificate, and the metadata have `mtls_endpoint_aliases` (RFC 8705 §5).
    TwoListeners,
    Fapi2,
}

/// Everything that runs.
pub(super) struct Town {
    pub(super) site: Site,
    setup: Setup,
    shape: Shape,
    /// Where the listener that asks for certificates is.
    mtls: SocketAddr,
    scripts: TempDir,
    _server: Process,
    _api: Api,
}

impl Town {
    pub(super) async fn start(shape: Shape) -> Self {
        let site = Site::new();
        let [issuer, mtls] = [free_address(), free_address()];
        let api = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let setup = Setup::prepare(site.dir(), issuer, api.local_address(), SystemClock.now()).unwrap();
        let mtls = if shape == Shape::TwoListeners { mtls } else { issuer };
        configure(&site, &setup, shape, mtls);
        register_reports(&site, &setup, shape);
        let server = site.start();
        let api = Api::start(api, &setup).await.unwrap();
        Self { site, setup, shape, mtls, scripts: scripts(), _server: server, _api: api }
    }

    /// The clients that get tokens, by each method at least one.
    pub(super) fn clients(&self) -> Vec<DevClient> {
        let alg = if self.shape == Shape::Fapi2 { "PS256" } else { "RS256" };
        let [billing, ledger, batch] = self.setup.clients();
        let reports = DevClient {
            client_id: "reports",
            alg: Some(alg),
            assertion_key: Some(self.site.path("clients/reports.key")),
            cert: self.site.path("clients/reports.pem"),
            key: self.site.path("clients/reports.key"),
            ..batch.clone()
        };
        vec![billing, ledger, batch, reports]
    }

    pub(super) fn client(&self, client_id: &str) -> DevClient {
        self.clients().into_iter().find(|client| client.client_id == client_id).unwrap()
    }

    pub(super) fn issuer(&self) -> &str {
        self.setup.issuer()
    }

    /// The token endpoint at which a certificate counts.
    pub(super) fn token_endpoint(&self) -> String {
        format!("https://localhost:{}/oauth2/token", self.mtls.port())
    }

    /// What runs this script, told who it is.
    pub(super) fn command(&self, script: &str, client: &DevClient) -> Command {
        let mut command = program(&self.scripts.path().join(script));
        let site = &self.site;
        command.env("CERTBIND", env!("CARGO_BIN_EXE_certbind")).env("CERTBIND_ISSUER", self.setup.issuer());
        command.env("CERTBIND_CLIENT_ID", client.client_id).env("CERTBIND_CA", site.path("ca.pem"));
        command.env("CERTBIND_CERT", &client.cert).env("CERTBIND_KEY", &client.key);
        command.env("THIEF_CERT", site.path("clients/thief.pem")).env("THIEF_KEY", site.path("clients/thief.key"));
        command.env("TOKEN_ENDPOINT", self.token_endpoint());
        command.env("API", format!("{}/payments", self.setup.resource())).env("RESOURCE", self.setup.resource());
        command.env("RESOURCE_SERVER_CERT", site.path("clients/api.pem"));
        command.env("RESOURCE_SERVER_KEY", site.path("clients/api.key"));
        if let (Some(key), Some(alg)) = (&client.assertion_key, client.alg) {
            command.env("ASSERTION_KEY", key).env("ASSERTION_ALG", alg);
        }
        command
    }
}

/// What runs this script; it sees no environment but where programs are.
pub(crate) fn program(file: &Path) -> Command {
    let mut command = match file.extension().and_then(|extension| extension.to_str()) {
        Some("mjs") => interpreted("node", file),
        Some("py") => interpreted("python", file),
        Some("sh") => interpreted("sh", file),
        Some("go") => Command::new(compiled(file)),
        _ => panic!("{}: what runs it?", file.display()),
    };
    command.env_clear().env("PATH", path());
    command
}

/// The clients of `certbind dev`, whose files are in every site.
pub(super) fn dev_clients(site: &Site) -> [DevClient; 3] {
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 8443));
    Setup::prepare(site.dir(), anywhere, anywhere, SystemClock.now()).unwrap().clients()
}

/// What a script told of its token.
pub(super) struct Told {
    pub(super) token_endpoint: String,
    pub(super) claims: Value,
    /// The API's status to the client itself, and to a thief.
    pub(super) statuses: (u64, u64),
}

/// Runs a script to its end: what it told, or what its library said.
pub(super) fn run(command: &mut Command) -> Result<Told, String> {
    let (stdout, stderr, status) = output(command);
    let said = stdout.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok());
    match said.filter(|_| status.success()) {
        Some(said) => Ok(Told {
            token_endpoint: said["token_endpoint"].as_str().unwrap().to_owned(),
            claims: claims(said["token"].as_str().unwrap()),
            statuses: (said["api"].as_u64().unwrap(), said["thief"].as_u64().unwrap()),
        }),
        None => Err(format!("{status}\n{stdout}{stderr}")),
    }
}

/// The thumbprint of a certificate, as a token that is bound to it has it (RFC 8705 §3.1).
pub(super) fn thumbprint(certificate: &Path) -> String {
    use rustls_pki_types::pem::PemObject as _;
    let der = rustls_pki_types::CertificateDer::from_pem_file(certificate).unwrap();
    Thumbprint::of_der(&der).to_string()
}

/// The configuration of the shape; the issuer is the listener that the metadata are asked for.
fn configure(site: &Site, setup: &Setup, shape: Shape, mtls: SocketAddr) {
    site.configure("[log]\nlevel = \"info\"\naudit = \"file:audit.jsonl\"\n", "");
    site.edit(ISSUER, setup.issuer());
    let url = format!("public_url = \"https://localhost:{}\"", mtls.port());
    site.edit("address = \"127.0.0.1:0\"\ncert", &format!("address = \"{mtls}\"\n{url}\ncert"));
    match shape {
        Shape::OneListener => {}
        Shape::TwoListeners => {
            let port = setup.issuer().rsplit(':').next().unwrap();
            let public = format!("[listen.public]\naddress = \"127.0.0.1:{port}\"\n{CERTIFICATE}\n[listen.ops]");
            site.edit("[listen.ops]", &public);
        }
        Shape::Fapi2 => site.edit("data_dir", "profile = \"fapi2\"\ndata_dir"),
    }
}

const CERTIFICATE: &str = "cert = \"file:server.pem\"\nkey = \"file:server.key\"\n";

/// `reports` signs with RSA; `migrating` is the same and may still name the token endpoint as audience.
fn register_reports(site: &Site, setup: &Setup, shape: Shape) {
    site.write("clients/reports.pem", &REPORTS.chain_pem());
    site.write_private("clients/reports.key", &REPORTS.key_pem());
    let key = SigningKey::from_pkcs8_der(REPORTS.key_pkcs8(), Algorithm::Rs256).unwrap();
    let mut jwk = key.public_jwk("reports-1").to_json();
    jwk.as_object_mut().unwrap().remove("alg");
    site.write("clients/reports.jwks.json", &json!({ "keys": [jwk] }).to_string());
    let file = |client_id: &str, own: &str| {
        let text = format!(
            "client_id = \"{client_id}\"\ntoken_endpoint_auth_method = \"private_key_jwt\"\n\
             jwks = \"file:../clients/reports.jwks.json\"\nscope = \"{SCOPE}\"\n\n\
             [certbind]\naudiences = [\"{}\"]\n{own}",
            setup.resource()
        );
        site.write(&format!("clients.d/{client_id}.toml"), &text);
    };
    file("reports", "");
    if shape != Shape::Fapi2 {
        file("migrating", "legacy_audience = true\n");
    }
}

/// The scripts, where Node finds its packages: it looks for them beside a script and above, and nowhere else.
pub(crate) fn scripts() -> TempDir {
    assert!(Path::new(PACKAGES).join("node_modules").exists(), "{PACKAGES} is not there: scripts/test installs it");
    let folder = tempfile::Builder::new().prefix("run-").tempdir_in(PACKAGES).unwrap();
    for file in house::files("tests/foreign") {
        let from = house::root().join(&file);
        fs::copy(&from, folder.path().join(from.file_name().unwrap())).unwrap();
    }
    folder
}

/// Where programs are: those that `scripts/test` installed first.
#[expect(clippy::disallowed_methods, reason = "whoever runs the tests has installed Node and Go somewhere")]
fn path() -> String {
    format!("{PACKAGES}/python/bin:{}", std::env::var("PATH").unwrap())
}

fn interpreted(interpreter: &str, script: &Path) -> Command {
    let mut command = Command::new(interpreter);
    command.arg(script);
    command
}

/// The program of a Go file, with the packages of Debian and nothing from the network.
fn compiled(source: &Path) -> PathBuf {
    let program = source.with_extension("");
    if !program.exists() {
        let mut go = Command::new("go");
        go.arg("build").arg("-o").arg(&program).arg(source);
        go.env("GO111MODULE", "off").env("GOPATH", "/usr/share/gocode").env("GOFLAGS", "");
        let (_, stderr, status) = output(go.env("GOCACHE", format!("{PACKAGES}/go-cache")));
        assert!(status.success(), "{stderr}");
    }
    program
}
