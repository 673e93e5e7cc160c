//! A server and an API that run, a client whose certificate is renewed on disk, and what programs are started with.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use certbind_devpki::{Identity, LeafSpec, Validity};
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::{Clock as _, SystemClock};
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::client::conn::http1::SendRequest;
use hyper::header::HeaderMap;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::foreign::openssl::claims;
use crate::process::rig::{PKI, Process, Site, certbind};

/// The longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(40);

/// The shortest life that a server gives to tokens.
pub(super) const SHORT: &str = "token_lifetime = \"10s\"\n";

/// The client. `certbind dev` writes the files of its own clients anew at each start, and leaves this one alone.
const CLIENT: &str = "keeper";

/// Who may vouch for the server.
pub(super) const AUTHORITIES: &str = "servers.pem";

/// `certbind dev`, and the files of a client in a folder that is relinked as Kubernetes does.
pub(super) struct World {
    pub(super) site: Site,
    pub(super) dev: Value,
    pub(super) server: Option<Process>,
    generation: u32,
}

impl World {
    pub(super) fn start() -> Self {
        Self::start_with("")
    }

    /// The same, with more in the client's table `[certbind]`.
    pub(super) fn start_with(own: &str) -> Self {
        let site = Site::new();
        let (server, dev) = Process::dev(site.dir(), "127.0.0.1:0".parse().unwrap());
        let mut world = Self { site, dev, server: Some(server), generation: 0 };
        // Who vouches for the server, beside the file of who vouches for clients.
        world.site.write(AUTHORITIES, &PKI.root.certificate_pem());
        fs::create_dir(world.path("tls")).unwrap();
        world.rotate(&PKI.billing.identity);
        let text = format!(
            "client_id = \"{CLIENT}\"\ntoken_endpoint_auth_method = \"tls_client_auth\"\n\
             tls_client_auth_san_uri = \"spiffe://certbind.dev/billing\"\nscope = \"payments:read\"\n\n\
             [certbind]\ntrust = \"dev\"\naudiences = [{}]\n{own}",
            world.dev["resource"]
        );
        world.site.write(&format!("clients.d/{CLIENT}.toml"), &text);
        let is_it = |event: &Value| event["event"] == "client.changed" && event["client_id"] == CLIENT;
        until("the client", || world.site.audit().iter().any(is_it).then_some(()));
        world
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.site.path(name)
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
        certbind.arg(command).args(["--issuer", self.dev["issuer"].as_str().unwrap(), "--client-id", CLIENT]);
        certbind.arg("--ca").arg(self.path(AUTHORITIES));
        certbind.arg("--cert").arg(self.path("tls/tls.crt")).arg("--key").arg(self.path("tls/tls.key"));
        certbind.args(more).current_dir(self.site.dir()).env("PATH", path());
        certbind
    }

    /// The server has given so many tokens, and no more; it may write that down a moment after its answer.
    pub(super) fn has_issued(&self, count: usize) {
        let issued = || self.site.audit().iter().filter(|event| event["event"] == "token.issued").count();
        until("tokens", || (issued() >= count).then_some(()));
        assert_eq!(issued(), count);
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

    pub(super) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
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

/// What the agent answers at its socket.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub(super) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_default().to_owned()
    }
}

/// One connection to the agent.
pub(super) struct Asker(SendRequest<Empty<Bytes>>);

impl Asker {
    pub(super) async fn connect(socket: &Path) -> Self {
        let stream = TokioIo::new(UnixStream::connect(socket).await.unwrap());
        let (sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    pub(super) async fn get(&mut self, path: &str, accept: &str) -> Answer {
        tokio::time::timeout(PATIENCE, self.answer(path, accept)).await.expect("no answer in time")
    }

    async fn answer(&mut self, path: &str, accept: &str) -> Answer {
        let request = Request::builder().uri(path).header("host", "agent").header("accept", accept);
        self.0.ready().await.unwrap();
        let (head, body) = self.0.send_request(request.body(Empty::new()).unwrap()).await.unwrap().into_parts();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        Answer { status: head.status.as_u16(), headers: head.headers, text }
    }
}

/// One question over a connection of its own.
pub(super) async fn ask(socket: &Path, path: &str) -> Answer {
    Asker::connect(socket).await.get(path, "*/*").await
}

/// Waits for an answer with this status.
pub(super) async fn until_status(socket: &Path, path: &str, status: u16) -> Answer {
    let began = Instant::now();
    loop {
        if socket.exists() {
            let answer = ask(socket, path).await;
            if answer.status == status {
                return answer;
            }
            assert!(began.elapsed() < PATIENCE, "{path}: still {} {}", answer.status, answer.text);
        }
        assert!(began.elapsed() < PATIENCE, "{path}: no socket");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
