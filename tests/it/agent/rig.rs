//! A server and an API that run, a client whose certificate is renewed on disk, and what programs are started with.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use certbind_devpki::{Identity, LeafSpec, Validity};
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::{Clock as _, SystemClock};
use serde_json::Value;

use crate::foreign::openssl::claims;
use crate::process::rig::{PKI, Process, Site, certbind};

/// The longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(40);

/// The shortest life that a server gives to tokens.
pub(super) const SHORT: &str = "token_lifetime = \"10s\"\n";

/// `certbind dev`, and the files of `billing` in a folder that is relinked as Kubernetes does.
pub(super) struct World {
    pub(super) site: Site,
    pub(super) dev: Value,
    pub(super) server: Option<Process>,
    generation: u32,
}

impl World {
    pub(super) fn start() -> Self {
        let site = Site::new();
        let (server, dev) = Process::dev(site.dir(), "127.0.0.1:0".parse().unwrap());
        let mut world = Self { site, dev, server: Some(server), generation: 0 };
        fs::create_dir(world.path("tls")).unwrap();
        world.rotate(&PKI.billing.identity);
        world
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.site.path(name)
    }

    /// Says something more of `billing`, and waits until it counts.
    pub(super) async fn register(&self, own: &str) {
        let file = "clients.d/billing.toml";
        let text = fs::read_to_string(self.path(file)).unwrap();
        self.site.after(|| self.site.write(file, &(text + own)), "client.changed", "").await;
    }

    /// Other files are in the place of the client's, all at once.
    pub(super) fn rotate(&mut self, identity: &Identity) {
        let (folder, name) = (self.path("tls"), format!("..{}", self.generation));
        self.generation += 1;
        fs::create_dir(folder.join(&name)).unwrap();
        write_pair(&folder.join(&name), identity);
        symlink(&name, folder.join("..next")).unwrap();
        fs::rename(folder.join("..next"), folder.join("..data")).unwrap();
        for file in ["tls.crt", "tls.key"] {
            let _ = symlink(format!("..data/{file}"), folder.join(file));
        }
    }

    /// `certbind` with these words before and behind who asks for what.
    pub(super) fn certbind(&self, command: &str, more: &[&str]) -> Command {
        let mut certbind = certbind();
        certbind.arg(command).args(["--issuer", self.dev["issuer"].as_str().unwrap(), "--client-id", "billing"]);
        certbind.arg("--ca").arg(self.path("ca.pem"));
        certbind.arg("--cert").arg(self.path("tls/tls.crt")).arg("--key").arg(self.path("tls/tls.key"));
        certbind.args(more).current_dir(self.site.dir()).env("PATH", path());
        certbind
    }

    /// The server ends, and is started again at the same place by what this gives.
    pub(super) fn stop_server(&mut self) -> impl FnOnce(&mut Self) + use<> {
        let server = self.server.take().unwrap();
        let address = server.address;
        server.kill();
        move |world| world.server = Some(Process::dev(world.site.dir(), address).0)
    }
}

/// A certificate that `billing` may go on with.
pub(super) fn renewed() -> Identity {
    let validity = Validity::days_from(SystemClock.now().unix() - 3600, 1);
    PKI.intermediate.leaf(&LeafSpec::client("billing", validity).uri("spiffe://certbind.dev/billing")).unwrap()
}

pub(super) fn write_pair(folder: &Path, identity: &Identity) {
    fs::write(folder.join("tls.crt"), identity.chain_pem()).unwrap();
    fs::write(folder.join("tls.key"), identity.key_pem()).unwrap();
    fs::set_permissions(folder.join("tls.key"), fs::Permissions::from_mode(0o600)).unwrap();
}

/// What a token says that it is bound to (RFC 8705 §3.1).
pub(super) fn bound_to(token: &str) -> String {
    claims(token)["cnf"]["x5t#S256"].as_str().unwrap().to_owned()
}

pub(super) fn thumbprint(identity: &Identity) -> String {
    Thumbprint::of_der(identity.certificate()).to_string()
}

/// Permission bits.
pub(super) fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

/// Waits for something.
pub(super) fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What is in a file, when it is there.
pub(super) fn content(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().filter(|text| !text.is_empty())
}

#[expect(clippy::disallowed_methods, reason = "whoever runs the tests has a shell, Python and curl somewhere")]
fn path() -> String {
    std::env::var("PATH").unwrap()
}

/// A program of ours that runs; its output is in files. It is ended when this is dropped.
pub(super) struct Running {
    child: Child,
    stderr: PathBuf,
}

impl Running {
    pub(super) fn start(world: &World, command: &mut Command) -> Self {
        let stderr = tempfile::Builder::new().prefix("stderr").tempfile_in(world.site.dir()).unwrap();
        let (file, stderr) = stderr.keep().unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        Self { child: command.spawn().unwrap(), stderr }
    }

    pub(super) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    pub(super) fn ended(&mut self) -> ExitStatus {
        let stderr = self.stderr.clone();
        until(&format!("the end of {}", stderr.display()), || self.child.try_wait().unwrap())
    }

    pub(super) fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            // So that what it started is not left alone.
            self.signal("TERM");
            std::thread::sleep(Duration::from_millis(300));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
