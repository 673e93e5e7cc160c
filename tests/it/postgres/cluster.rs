//! A real PostgreSQL of the tests' own, on a socket and on 127.0.0.1, that ends with the test process.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio_postgres::NoTls;

use crate::support::PKI;
use crate::support::finish::Finish as _;

/// The longest wait for a database server.
const PATIENCE: Duration = Duration::from_secs(60);

/// The role of the tests.
const ROLE: &str = "certbind";

/// Its password, where one is asked for.
pub(crate) const PASSWORD: &str = "not-a-secret-of-anybody";

/// One cluster for all tests that only need a database.
static SHARED: LazyLock<Cluster> = LazyLock::new(|| {
    let mut cluster = Cluster::made();
    cluster.removed = Removed::WithTheProcess;
    cluster.launch(&[])
});

/// A running database server.
pub(crate) struct Cluster {
    dir: TempDir,
    pub(crate) port: u16,
    keeper: Option<Child>,
    removed: Removed,
}

/// When the folder of a cluster goes.
#[derive(Clone, Copy)]
enum Removed {
    /// When it is dropped.
    WithItself,
    /// When the test process has ended: what is static is never dropped, and each run would leave a cluster behind.
    WithTheProcess,
}

/// A database in one.
#[derive(Clone)]
pub(crate) struct Database {
    pub(crate) name: String,
    socket: PathBuf,
    pub(crate) port: u16,
}

/// A new database that no other test uses.
pub(crate) fn database() -> Database {
    SHARED.database()
}

impl Cluster {
    /// Makes a cluster and starts it; `settings` are `name=value` of postgresql.conf.
    pub(crate) fn start(settings: &[&str]) -> Self {
        Self::made().launch(settings)
    }

    /// A cluster that is not started yet.
    fn made() -> Self {
        let cluster = Self::prepare();
        cluster.run(&["initdb", "--auth=trust", "--no-instructions", "-U", ROLE, "-D", &cluster.data()]);
        let rules = "local all all trust\nlocal replication all trust\n\
             hostssl all all 127.0.0.1/32 scram-sha-256\nhostnossl all all 127.0.0.1/32 trust\n\
             hostnossl replication all 127.0.0.1/32 trust\n";
        fs::write(cluster.dir.path().join("data/pg_hba.conf"), rules).unwrap();
        cluster
    }

    /// A replica of this cluster that does not wait for it: what is committed here arrives there a moment later.
    pub(crate) fn replica(&self) -> Self {
        let replica = Self::prepare();
        let from = format!("host={} port={} user={ROLE}", self.dir.path().display(), self.port);
        replica.run(&["pg_basebackup", "-d", &from, "-D", &replica.data(), "-R", "-X", "stream", "-c", "fast"]);
        replica.launch(&[])
    }

    fn prepare() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The server gives up its rights when the tests have those of root, and has to get here all the same.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
        if let Some((user, group)) = other_user() {
            chown(dir.path(), Some(user), Some(group)).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { dir, port, keeper: None, removed: Removed::WithItself }
    }

    fn launch(mut self, settings: &[&str]) -> Self {
        let data = self.dir.path().join("data");
        for (name, text) in [("server.pem", PKI.server.chain_pem()), ("server.key", PKI.server.key_pem().to_string())] {
            fs::write(data.join(name), text).unwrap();
            fs::set_permissions(data.join(name), fs::Permissions::from_mode(0o600)).unwrap();
            if let Some((user, group)) = other_user() {
                chown(data.join(name), Some(user), Some(group)).unwrap();
            }
        }
        self.resume(settings);
        self
    }

    /// Starts the server of a cluster that was stopped or killed.
    pub(crate) fn resume(&mut self, settings: &[&str]) {
        let dir = self.dir.path().display().to_string();
        let port = self.port.to_string();
        let fixed = [
            "listen_addresses=127.0.0.1",
            "ssl=on",
            "ssl_cert_file=server.pem",
            "ssl_key_file=server.key",
            "max_connections=300",
            "shared_buffers=32MB",
            "autovacuum_naptime=5s",
            "log_min_messages=fatal",
        ];
        let mut server = format!("'{}' -D '{}' -k '{dir}' -p {port}", program("postgres").display(), self.data());
        for setting in fixed.iter().chain(settings) {
            server.push_str(&format!(" -c '{setting}'"));
        }
        // The keeper ends the server when this process is gone, and the pipe to it with it.
        // What is removed need not be written to the end first.
        let (signal, then) = match self.removed {
            Removed::WithItself => ("INT", String::new()),
            Removed::WithTheProcess => ("QUIT", format!("; cd /; rm -rf '{dir}'")),
        };
        let keep = format!(
            "exec 3<&0; {server} </dev/null >>'{dir}/log' 2>&1 & server=$!; read _ <&3; kill -{signal} $server; wait{then}"
        );
        let mut keeper = Command::new("sh");
        keeper.arg("-c").arg(keep).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        self.keeper = Some(as_other_user(&mut keeper).spawn().unwrap());
        let start = Instant::now();
        while !Command::new(program("pg_isready")).args(["-q", "-h", &dir, "-p", &port]).status().unwrap().success() {
            let log = || fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(start.elapsed() < PATIENCE, "PostgreSQL does not start\n{}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends the server in order, or at once without a last write.
    pub(crate) fn stop(&mut self, mode: &str) {
        self.run(&["pg_ctl", "stop", "-D", &self.data(), "-m", mode, "-w"]);
        self.let_go();
    }

    /// Makes a replica the primary of a new timeline.
    pub(crate) fn promote(&self) {
        self.run(&["pg_ctl", "promote", "-D", &self.data(), "-w"]);
    }

    /// Halts every process of the server, or lets them go on.
    pub(crate) fn signal_all(&self, signal: &str) {
        let all = self.processes();
        assert!(!all.is_empty(), "there is no server");
        send(signal, &all);
    }

    /// Those of the server, the first one last; none where it has ended.
    fn processes(&self) -> Vec<String> {
        let read = |path: String| fs::read_to_string(path).unwrap_or_default();
        let pids = read(format!("{}/postmaster.pid", self.data()));
        let Some(postmaster) = pids.lines().next() else { return Vec::new() };
        if !read(format!("/proc/{postmaster}/cmdline")).contains(&self.data()) {
            return Vec::new();
        }
        let children = read(format!("/proc/{postmaster}/task/{postmaster}/children"));
        children.split_whitespace().chain([postmaster]).map(str::to_owned).collect()
    }

    /// A new database in this cluster.
    pub(crate) fn database(&self) -> Database {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("t{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let socket = self.dir.path().to_owned();
        let database = Database { name, socket, port: self.port };
        let everywhere = Database { name: "postgres".to_owned(), ..database.clone() };
        everywhere.execute(&format!("CREATE DATABASE {}", database.name));
        database
    }

    /// The same database, in this cluster: of a replica.
    pub(crate) fn same(&self, database: &Database) -> Database {
        Database { name: database.name.clone(), socket: self.dir.path().to_owned(), port: self.port }
    }

    fn data(&self) -> String {
        self.dir.path().join("data").display().to_string()
    }

    fn run(&self, command: &[&str]) {
        let (name, arguments) = command.split_first().unwrap();
        let mut command = Command::new(program(name));
        let output = as_other_user(command.args(arguments).current_dir(self.dir.path())).finish();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The keeper ends the server; one that a test has halted, and then failed, goes on for that.
    fn let_go(&mut self) {
        let Some(mut keeper) = self.keeper.take() else { return };
        drop(keeper.stdin.take());
        send("CONT", &self.processes());
        let start = Instant::now();
        while keeper.try_wait().is_ok_and(|ended| ended.is_none()) {
            if start.elapsed() > PATIENCE {
                send("KILL", &self.processes());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn send(signal: &str, to: &[String]) {
    for pid in to {
        let _ = Command::new("kill").args([&format!("-{signal}"), pid]).stderr(Stdio::null()).status();
    }
}

/// What these tests started, they end.
impl Drop for Cluster {
    fn drop(&mut self) {
        self.let_go();
    }
}

impl Database {
    /// Its address over the socket, which needs no password.
    pub(crate) fn url(&self) -> String {
        format!("host={} port={} user={ROLE} dbname={}", self.socket.display(), self.port, self.name)
    }

    /// Its address over the network: TLS and a password.
    pub(crate) fn network_url(&self) -> String {
        format!("postgres://{ROLE}:{PASSWORD}@localhost:{}/{}?sslmode=verify-full", self.port, self.name)
    }

    /// Its address in the clear, over this port of this machine.
    pub(crate) fn plain_url(&self, port: u16) -> String {
        format!("postgres://{ROLE}@127.0.0.1:{port}/{}?sslmode=disable", self.name)
    }

    /// Gives the role of the tests its password.
    pub(crate) fn set_password(&self) {
        self.execute(&format!("ALTER ROLE {ROLE} PASSWORD '{PASSWORD}'"));
    }

    /// Runs these statements.
    pub(crate) fn execute(&self, statements: &str) {
        let client = |client: tokio_postgres::Client| async move { client.batch_execute(statements).await.unwrap() };
        self.with_client(client);
    }

    /// The one number that a query gives.
    pub(crate) fn number(&self, query: &str) -> i64 {
        self.with_client(|client| async move { client.query_one(query, &[]).await.unwrap().get(0) })
    }

    /// The texts that a query gives, one a row.
    pub(crate) fn texts(&self, query: &str) -> Vec<String> {
        self.with_client(|client| async move {
            client.query(query, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
        })
    }

    /// On a thread of its own, so that a test may call it from within a runtime.
    fn with_client<F: Future<Output = T>, T: Send>(&self, work: impl FnOnce(tokio_postgres::Client) -> F + Send) -> T {
        let url = self.url();
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
                    tokio::spawn(connection);
                    work(client).await
                })
            });
            asked.join().unwrap()
        })
    }
}

/// Where Debian, the PATH or `pg_config` has the programs.
fn program(name: &str) -> PathBuf {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let newest = versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").exists()).max();
        newest.unwrap_or_else(|| {
            let told = Command::new("pg_config").arg("--bindir").finish();
            Path::new(String::from_utf8_lossy(&told.stdout).trim()).to_owned()
        })
    });
    FOLDER.join(name)
}

/// PostgreSQL does not run with the rights of root: then it gets those of `postgres` or `nobody`.
fn other_user() -> Option<(u32, u32)> {
    static OTHER: LazyLock<Option<(u32, u32)>> = LazyLock::new(|| {
        use std::os::unix::fs::MetadataExt as _;
        if fs::metadata("/proc/self").unwrap().uid() != 0 {
            return None;
        }
        let users = fs::read_to_string("/etc/passwd").unwrap();
        let of = |name: &str| {
            let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
            let fields: Vec<&str> = line.split(':').collect();
            Some((fields[2].parse().unwrap(), fields[3].parse().unwrap()))
        };
        of("postgres").or_else(|| of("nobody"))
    });
    *OTHER
}

fn as_other_user(command: &mut Command) -> &mut Command {
    match other_user() {
        Some((user, group)) => command.uid(user).gid(group),
        None => command,
    }
}

#[test]
fn a_database_that_a_failed_test_has_halted_is_ended_all_the_same() {
    let cluster = Cluster::start(&[]);
    cluster.signal_all("STOP");
    let processes = cluster.processes();
    drop(cluster);
    assert!(processes.iter().all(|pid| !Path::new("/proc").join(pid).exists()), "{processes:?}");
}
