//! A folder to start the binary in, and the running process.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Seek as _, SeekFrom};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, LazyLock, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use certbind::cli::dev::setup::Setup;
use certbind_devpki::{DevPki, Identity, Validity};
use certbind_proto::time::{Clock as _, SystemClock};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Method, Request, StatusCode, Version};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::client::{Answer, Connection, billing};
use crate::support::finish::Finish as _;
use crate::support::happenings;

/// The issuer of every server here. Its port is not the one that is listened on: nothing depends on it.
pub(crate) const ISSUER: &str = "https://localhost:8443";

/// The longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// One PKI for all tests: a key costs time.
pub(crate) static PKI: LazyLock<DevPki> =
    LazyLock::new(|| DevPki::generate(Validity::days_from(SystemClock.now().unix() - 86_400, 30)).unwrap());

/// A folder with PKI, clients and configuration of its own.
pub(crate) struct Site {
    dir: TempDir,
}

impl Site {
    /// The clients of `certbind dev`; no limit on failures, so that refusals can be counted.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = "127.0.0.1:8443".parse().unwrap();
        Setup::with_pki(dir.path(), address, "127.0.0.1:8444".parse().unwrap(), &PKI).unwrap();
        let site = Self { dir };
        site.configure("[log]\nlevel = \"info\"\naudit = \"file:audit.jsonl\"\n", "");
        site
    }

    /// Writes the configuration anew: its `[log]` table, and what is added to `[listen.mtls]`.
    pub(crate) fn configure(&self, log: &str, mtls: &str) {
        let text = format!(
            r#"issuer   = "{ISSUER}"
data_dir = "data"
{log}
[listen.mtls]
address = "127.0.0.1:0"
cert = "file:server.pem"
key  = "file:server.key"
{mtls}
[listen.ops]
address = "127.0.0.1:0"

[[trust]]
name = "dev"
ca   = "file:ca.pem"
crl  = ["file:crl.pem"]

[clients]
dir = "clients.d"

[limits]
failed_auth_per_address = "off"
"#
        );
        self.write("certbind.toml", &text);
    }

    /// Lets every user of the machine look into the folder.
    pub(crate) fn open_to_all(&self) {
        fs::set_permissions(self.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let beside = self.path(&format!("{name}.new~"));
        fs::write(&beside, text).unwrap();
        fs::rename(beside, self.path(name)).unwrap();
    }

    /// Says something else in the configuration.
    pub(crate) fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.path("certbind.toml")).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        self.write("certbind.toml", &text.replace(from, to));
    }

    /// The same for a file that only its owner may read.
    pub(crate) fn write_private(&self, name: &str, text: &str) {
        let beside = self.path(&format!("{name}.new~"));
        fs::write(&beside, text).unwrap();
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(beside, self.path(name)).unwrap();
    }

    /// `certbind serve` on this folder, not yet started.
    pub(crate) fn serve(&self) -> Command {
        let mut command = certbind();
        command.arg("serve").arg("--config").arg(self.path("certbind.toml"));
        command
    }

    /// `certbind serve` as a service manager starts it (sd_listen_fds(3)): what is its standard input becomes the socket that
    /// is handed over, under these names. The shell is replaced by it, so that the process is the one that is named.
    pub(crate) fn serve_on_socket(&self, names: &str) -> Command {
        let script = "exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\"";
        let serve = self.serve();
        let mut command = Command::new("/bin/sh");
        command.env_clear().env("LISTEN_FDNAMES", names);
        command.args(["-c", script, "sh"]).arg(serve.get_program()).args(serve.get_args());
        command
    }

    /// A server that is ready.
    pub(crate) fn start(&self) -> Process {
        Process::ready(self.serve())
    }

    /// The one event of a request; it may be written a moment after the answer, and no longer ago than a thousand others.
    pub(crate) async fn event(&self, request_id: &str) -> Value {
        const THOUSAND: u64 = 1 << 20;
        within(async {
            loop {
                let lines = self.audit_since(self.audit_length().saturating_sub(THOUSAND));
                let mut lines = lines.lines().filter(|line| line.contains(request_id));
                if let Some(line) = lines.next() {
                    return serde_json::from_str(line).unwrap();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }

    /// Waits until the audit log has so many of these events about `what`.
    pub(crate) async fn events(&self, name: &str, what: &str, count: usize) {
        self.events_since(0, name, what, count).await;
    }

    /// Changes something, and waits for such an event.
    pub(crate) async fn after(&self, change: impl FnOnce(), name: &str, what: &str) {
        let before = self.audit_length();
        change();
        self.events_since(before, name, what, 1).await;
    }

    async fn events_since(&self, position: u64, name: &str, what: &str, count: usize) {
        let is_it =
            |event: &Value| event["event"] == name && event["detail"].as_str().unwrap_or_default().contains(what);
        within(async {
            loop {
                let text = self.audit_since(position);
                // Only the lines that may be it are parsed: there are many others.
                let lines: Vec<_> = text.lines().filter(|line| line.contains(name)).collect();
                if json_lines(&lines.join("\n")).iter().filter(|event| is_it(event)).count() >= count {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    fn audit_length(&self) -> u64 {
        fs::metadata(self.path("audit.jsonl")).map_or(0, |file| file.len())
    }

    /// The whole lines of the audit file from this position on, and perhaps the end of one before.
    fn audit_since(&self, position: u64) -> String {
        let mut bytes = Vec::new();
        if let Ok(mut file) = fs::File::open(self.path("audit.jsonl")) {
            file.seek(SeekFrom::Start(position)).unwrap();
            file.read_to_end(&mut bytes).unwrap();
        }
        let text = String::from_utf8_lossy(&bytes);
        text.rsplit_once('\n').map_or("", |(lines, _)| lines).to_owned()
    }

    /// What the audit file tells of so far, without its chain; complete once the server has ended.
    pub(crate) fn audit(&self) -> Vec<Value> {
        happenings(json_lines(&fs::read_to_string(self.path("audit.jsonl")).unwrap_or_default()))
    }
}

/// The binary, with an environment that does not depend on who runs the tests.
pub(crate) fn certbind() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_certbind"));
    command.env_clear();
    command
}

/// Each line as JSON; fails when one is not.
pub(crate) fn json_lines(text: &str) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    text.lines().map(parse).collect()
}

/// A running server. It is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    /// Where `[listen.mtls]` waits; nowhere (port 0) without it.
    pub(crate) address: SocketAddr,
    pub(crate) ops: SocketAddr,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts `serve` and waits until it says where it listens.
    pub(crate) fn ready(command: Command) -> Self {
        Self::ready_with(command, Stdio::null())
    }

    /// The same with this as standard input.
    pub(crate) fn ready_with(mut command: Command, stdin: Stdio) -> Self {
        let mut process = Self::spawn(&mut command, stdin);
        process.wait("ready line", |process| {
            let Some(ready) = process.said_ready() else { return false };
            if let Some(address) = ready["address"].as_str() {
                process.address = address.parse().unwrap();
            }
            process.ops = ready["ops"].as_str().unwrap().parse().unwrap();
            true
        });
        process
    }

    /// Starts `dev` in this folder, and gives what `dev.json` says.
    pub(crate) fn dev(dir: &Path, listen: SocketAddr) -> (Self, Value) {
        let mut command = certbind();
        command.arg("dev").arg("--dir").arg(dir).args(["--api", "127.0.0.1:0", "--listen", &listen.to_string()]);
        let mut process = Self::spawn(&mut command, Stdio::null());
        process.wait("ready line", |process| process.stdout().contains("Ready: "));
        let dev: Value = serde_json::from_str(&fs::read_to_string(dir.join("dev.json")).unwrap()).unwrap();
        let port = dev["issuer"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();
        process.address = SocketAddr::from(([127, 0, 0, 1], port));
        (process, dev)
    }

    /// Starts `guard` and waits until it is ready.
    pub(crate) fn guarding(mut command: Command) -> Self {
        let mut process = Self::spawn(&mut command, Stdio::null());
        process.wait("ready line", |process| {
            let Some(ready) = process.said_ready() else { return false };
            process.ops = ready["ops"].as_str().unwrap().parse().unwrap();
            true
        });
        process
    }

    /// Starts another program and waits until it listens at this address.
    pub(crate) fn listening(command: &mut Command, address: SocketAddr) -> Self {
        let mut process = Self::spawn(command, Stdio::null());
        process.address = address;
        process.wait("listener", |process| std::net::TcpStream::connect(process.address).is_ok());
        process
    }

    /// Starts another program; waits for nothing.
    pub(crate) fn running(command: &mut Command) -> Self {
        Self::spawn(command, Stdio::null())
    }

    /// Waits until it has written this line to standard output.
    pub(crate) fn says(&mut self, line: &str) {
        self.wait(&format!("line {line}"), |process| process.stdout().lines().any(|said| said == line));
    }

    fn spawn(command: &mut Command, stdin: Stdio) -> Self {
        let mut child = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdout, out) = collect(child.stdout.take().unwrap());
        let (stderr, err) = collect(child.stderr.take().unwrap());
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        Self { child, address: nowhere, ops: nowhere, stdout, stderr, readers: vec![out, err] }
    }

    /// Where the admin API is reached over TLS.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.said_ready().unwrap()["admin"].as_str().unwrap().parse().unwrap()
    }

    /// The line of the log that says where it listens, once it is there.
    pub(crate) fn said_ready(&self) -> Option<Value> {
        let stderr = self.stderr();
        let line = stderr.lines().rev().find(|line| line.contains(r#""message":"ready""#))?;
        Some(serde_json::from_str(line).unwrap())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything written to standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Nobody reads standard error until what this gives is dropped.
    pub(crate) fn hold_stderr(&self) -> mpsc::Sender<()> {
        let (held, release) = mpsc::channel();
        let (locked, is_locked) = mpsc::channel();
        let stderr = Arc::clone(&self.stderr);
        std::thread::spawn(move || {
            let _unread = stderr.lock().unwrap();
            locked.send(()).unwrap();
            let _ = release.recv();
        });
        is_locked.recv().unwrap();
        held
    }

    /// Everything written to standard output so far.
    pub(crate) fn stdout(&self) -> String {
        self.stdout.lock().unwrap().clone()
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// Kills it in the middle of whatever it does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        self.signal("TERM");
        self.ended()
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "it does not end\n{}", self.stderr());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for its end, which must be a good one, and gives everything that was ever written to standard output.
    pub(crate) fn stdout_at_end(mut self) -> String {
        let status = self.ended();
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        assert!(status.success(), "{status}\n{}", self.stderr());
        self.stdout()
    }

    /// SIGTERM, and everything that was ever written to standard error.
    pub(crate) fn stderr_at_end(mut self) -> String {
        self.signal("TERM");
        assert!(self.ended().success());
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        self.stderr()
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Resident memory in KiB.
    pub(crate) fn rss(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse().unwrap()
    }

    /// Processor time used so far.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }

    /// Open file descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Waits until something is done; fails when the process ends before.
    fn wait(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(self.is_alive(), "ended before its {what}\n{}", self.stderr());
            assert!(start.elapsed() < PATIENCE, "no {what} in time\n{}", self.stderr());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A connection with this certificate, or with none.
    pub(crate) async fn connect(&self, who: Option<&Identity>, version: Version) -> std::io::Result<Connection> {
        Connection::open(self.address, who, version).await
    }

    /// The operations listener's answer: status and body.
    pub(crate) async fn operations(&self, path: &str) -> (StatusCode, String) {
        let answer = self.ask_operations(Method::GET, path).await;
        (answer.status, answer.text)
    }

    /// The whole answer of the operations listener.
    pub(crate) async fn ask_operations(&self, method: Method, path: &str) -> Answer {
        let stream = TcpStream::connect(self.ops).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header(HOST, "localhost");
        let request = request.body(Full::<Bytes>::default()).unwrap();
        within(Answer::read(sender.send_request(request))).await.unwrap()
    }

    /// Waits until readiness is this.
    pub(crate) async fn wait_ready(&self, status: StatusCode) {
        within(async {
            while self.operations("/readyz").await.0 != status {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    }

    /// Fails unless a hundred ordinary requests get their tokens.
    pub(crate) async fn assert_healthy(&self) {
        let mut connection = self.connect(Some(&PKI.billing.identity), Version::HTTP_11).await.unwrap();
        for _ in 0..100 {
            let answer = connection.token(&billing()).await.unwrap();
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        }
    }
}

/// What this process started, this process ends.
impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads to the end, in a thread of its own: a full pipe would hold up the process.
fn collect(stream: impl Read + Send + 'static) -> (Arc<Mutex<String>>, JoinHandle<()>) {
    let text = Arc::new(Mutex::new(String::new()));
    let kept = Arc::clone(&text);
    let reader = std::thread::spawn(move || {
        let mut lines = BufReader::new(stream);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            kept.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
    (text, reader)
}

/// Standard input of a process that is to get this socket ([`Site::serve_on_socket`]).
pub(crate) fn handed(socket: &TcpListener) -> Stdio {
    Stdio::from(OwnedFd::from(socket.try_clone().unwrap()))
}

/// An address that nobody has at the moment.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Nothing here takes longer than this.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("not in time")
}

/// Runs a command to its end and gives standard output, standard error and status.
pub(crate) fn output(command: &mut Command) -> (String, String, ExitStatus) {
    let output = command.finish();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (text(output.stdout), text(output.stderr), output.status)
}
