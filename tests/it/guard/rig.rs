//! A server, a guard, a service and a gateway between them and the clients.

use std::convert::Infallible;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use certbind_devpki::{Identity, LeafSpec, Validity};
use certbind_proto::request::Form;
use certbind_proto::time::{Clock as _, SystemClock};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONNECTION, HeaderValue, UPGRADE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;

use crate::process::client::{Answer, Asserter, Connection, billing, by_assertion};
use crate::process::rig::{ISSUER, PKI, Process, Site, certbind, free_address, output, within};

/// How long a token is good here. The shortest that there is.
pub(super) const LIFETIME: &str = "10s";

/// What gateways are from Python's packages.
const PACKAGES: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/gateways-1");

/// A gateway as `deploy/` sets it up.
pub(super) struct Recipe {
    /// The folder of its files.
    pub(super) folder: &'static str,
    /// Its own files.
    pub(super) files: &'static [&'static str],
    /// How it is started on the files in this folder.
    pub(super) start: fn(&Path) -> Command,
}

/// Everything that runs.
pub(super) struct Rig {
    site: Site,
    issuer: String,
    server: Process,
    guard: Option<Process>,
    _gateway: Process,
    pub(super) address: SocketAddr,
    pub(super) service: Service,
}

impl Rig {
    /// The gateway with the guard beside it.
    pub(super) async fn start(recipe: &Recipe) -> Self {
        let files: Vec<_> = recipe.files.iter().copied().chain(["guard.toml"]).collect();
        Self::set_up(recipe, &files, &[], |site| Some(start_guard(site))).await
    }

    /// The same with something else in the gateway's files.
    pub(super) async fn spoilt(recipe: &Recipe, spoilt: &[(&str, &str)]) -> Self {
        let files: Vec<_> = recipe.files.iter().copied().chain(["guard.toml"]).collect();
        Self::set_up(recipe, &files, spoilt, |site| Some(start_guard(site))).await
    }

    /// `certbind doctor --probe` of the service, its exit code and what it says.
    pub(super) fn probe(&self, more: &[&str]) -> (i32, String) {
        self.probe_at(self.address, more)
    }

    /// The same of another address.
    pub(super) fn probe_at(&self, address: SocketAddr, more: &[&str]) -> (i32, String) {
        let mut command = certbind();
        command.args(["doctor", "-o", "plain", "--ca"]).arg(self.site.path("ca.pem")).args(more);
        command.arg("--probe").arg(format!("https://localhost:{}/payments", address.port()));
        let (said, told, status) = output(&mut command);
        (status.code().unwrap(), said + &told)
    }

    /// A file of this content.
    pub(super) fn file(&self, name: &str, content: &str) -> PathBuf {
        self.site.write(name, content);
        self.site.path(name)
    }

    /// The gateway alone, with something else in its files.
    pub(super) async fn alone(recipe: &Recipe, spoilt: &[(&str, &str)]) -> Self {
        Self::set_up(recipe, recipe.files, spoilt, |_| None).await
    }

    async fn set_up(
        recipe: &Recipe,
        files: &[&str],
        spoilt: &[(&str, &str)],
        guard: impl FnOnce(&Site) -> Option<Process>,
    ) -> Self {
        let (site, server, issuer) = issuer();
        let service = Service::start().await;
        let [address, guard_address] = [free_address(), free_address()];
        let proxy = Validity::days_from(SystemClock.now().unix() - 3600, 30);
        let proxy = PKI.intermediate.leaf(&LeafSpec::client("traefik", proxy).uri("spiffe://example.com/traefik"));
        let proxy = proxy.unwrap();
        site.write("proxy.pem", &proxy.chain_pem());
        site.write_private("proxy.key", &proxy.key_pem());
        let replacements = [
            ("/run/certbind-guard/guard.sock", site.path("guard.sock").display().to_string()),
            ("127.0.0.1:8080", service.address.to_string()),
            ("port_value: 8080", format!("port_value: {}", service.address.port())),
            ("0.0.0.0", "127.0.0.1".to_owned()),
            ("127.0.0.1:9443", guard_address.to_string()),
            ("localhost:9443", format!("localhost:{}", guard_address.port())),
            ("127.0.0.1:9465", "127.0.0.1:0".to_owned()),
            ("address: :8444", format!("address: {address}")),
            ("listen 8444", format!("listen {address}")),
            ("bind :8444", format!("bind {address}")),
            ("port_value: 8444", format!("port_value: {}", address.port())),
            ("port_value: 8443", format!("port_value: {}", issuer.rsplit(':').next().unwrap())),
            ("clock_skew_seconds: 30", "clock_skew_seconds: 1".to_owned()),
            ("https://localhost:8444 {", format!("https://localhost:{} {{\n\tbind 127.0.0.1", address.port())),
            ("/etc/certbind/ca/issuer.pem", site.path("ca.pem").display().to_string()),
            ("/etc/certbind/ca/proxies.pem", site.path("ca.pem").display().to_string()),
            ("/etc/certbind/tls/guard.", site.path("server.").display().to_string()),
            (ISSUER, issuer.clone()),
        ];
        let adapt = |name: &str| {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(recipe.folder).join(name);
            let text = fs::read_to_string(path).unwrap();
            let text = spoilt.iter().fold(text, |text, (from, to)| text.replace(from, to));
            let text = replacements.iter().fold(text, |text, (from, to)| text.replace(from, to));
            // Where each gateway's own files are.
            let program = recipe.folder.split('/').next().unwrap();
            let tls = format!("/etc/{program}/tls/");
            let text = text.replace(&tls, &format!("{}/", site.dir().display()));
            let own = format!("/etc/{program}/");
            let text = text.replace(&own, &format!("{}/", site.dir().display()));
            // The tests have no users of their own.
            text.lines()
                .filter(|line| !line.starts_with("users = "))
                .fold(String::new(), |text, line| text + line + "\n")
        };
        for name in files {
            site.write(name, &adapt(name));
        }
        let guard = guard(&site);
        let gateway = Process::listening(&mut (recipe.start)(site.dir()), address);
        // Some listen before they know what they serve.
        within(async {
            while Connection::open(address, None, Version::HTTP_11).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        Self { site, issuer, server, guard, _gateway: gateway, address, service }
    }

    /// A token that is bound to the certificate of `billing`.
    pub(super) async fn bound(&self) -> String {
        let mut connection = self.server.connect(Some(&PKI.billing.identity), Version::HTTP_2).await.unwrap();
        connection.token(&billing()).await.unwrap().access_token()
    }

    /// One that is bound to nothing.
    pub(super) async fn unbound(&self) -> String {
        let asserter = Asserter::for_issuer(&self.issuer, PKI.batch_assertion.key_pkcs8());
        let mut connection = self.server.connect(None, Version::HTTP_2).await.unwrap();
        connection.token(&by_assertion(&asserter.fresh())).await.unwrap().access_token()
    }

    /// Takes a token back.
    pub(super) async fn revoke(&self, token: &str) {
        let mut connection = self.server.connect(Some(&PKI.billing.identity), Version::HTTP_11).await.unwrap();
        let form = Form::default().with("client_id", "billing").with("token", token);
        let answer = connection.post_to("/oauth2/revoke", form.encode(), &[]).await.unwrap();
        assert!(answer.status.is_success(), "{}", answer.text);
    }

    /// Sends a request to the service, through the gateway.
    pub(super) async fn ask(&self, ask: &Ask<'_>) -> Answer {
        let mut connection = Connection::open(self.address, ask.who, ask.version).await.unwrap();
        let authority = format!("localhost:{}", self.address.port());
        let uri = match ask.version {
            Version::HTTP_2 => format!("https://{authority}{}", ask.target),
            _ => ask.target.to_owned(),
        };
        let mut request = Request::builder().method(ask.method).uri(uri);
        if ask.version != Version::HTTP_2 {
            request = request.header("host", authority);
        }
        for token in &ask.tokens {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        for (name, value) in &ask.headers {
            request = request.header(*name, *value);
        }
        within(connection.send(request.body(Full::default()).unwrap())).await.unwrap()
    }

    /// Why the guard denied the last request.
    pub(super) async fn reason(&self, count: usize) -> String {
        within(async {
            loop {
                let denied: Vec<_> = self.denied();
                if denied.len() >= count {
                    return denied[count - 1].clone();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
    }

    /// Something that the issuer signed with the key of its tokens, and that is none: the list of what is revoked.
    pub(super) async fn signed_otherwise(&self) -> String {
        let mut connection = self.server.connect(None, Version::HTTP_11).await.unwrap();
        connection.get("/.well-known/certbind-revocations").await.unwrap().text
    }

    /// Waits until the last denial was for this reason.
    pub(super) async fn says(&self, reason: &str) {
        within(async {
            while self.denied().last().is_none_or(|last| last != reason) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    /// The reasons of all denials so far.
    fn denied(&self) -> Vec<String> {
        let stderr = self.guard().stderr();
        let events = stderr.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let denied = events.filter(|event| event["event"] == "request.denied");
        denied.map(|event| event["reason"].as_str().unwrap().to_owned()).collect()
    }

    fn guard(&self) -> &Process {
        self.guard.as_ref().expect("this gateway has one")
    }

    pub(super) async fn guard_metrics(&self) -> String {
        self.guard().operations("/metrics").await.1
    }

    /// Ends the guard from one moment to the next.
    pub(super) fn kill_guard(&mut self) {
        self.guard().signal("KILL");
        self.guard.as_mut().unwrap().ended();
    }

    /// Lets the guard be there and say nothing.
    pub(super) fn hang_guard(&self) {
        self.guard().signal("STOP");
    }

    /// Ends the server likewise.
    pub(super) fn kill_server(&mut self) {
        self.server.signal("KILL");
        self.server.ended();
    }
}

/// One request.
pub(super) struct Ask<'r> {
    pub(super) who: Option<&'r Identity>,
    pub(super) version: Version,
    pub(super) method: &'r str,
    pub(super) target: &'r str,
    pub(super) tokens: Vec<String>,
    pub(super) headers: Vec<(&'r str, &'r str)>,
}

impl Ask<'_> {
    /// `billing` looks at its payments with this token.
    pub(super) fn good(token: &str) -> Self {
        let (version, tokens) = (Version::HTTP_2, vec![token.to_owned()]);
        Self { who: Some(&PKI.billing.identity), version, method: "GET", target: "/payments", tokens, headers: vec![] }
    }
}

/// A server whose issuer is where it listens.
pub(crate) fn issuer() -> (Site, Process, String) {
    let site = Site::new();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let issuer = format!("https://localhost:{}", socket.local_addr().unwrap().port());
    site.edit(ISSUER, &issuer);
    let tokens = format!("[tokens]\nlifetime = \"{LIFETIME}\"\nbound = \"when-certificate\"\n\n[limits]\n");
    site.edit("[limits]\n", &tokens);
    let handed = Stdio::from(std::os::fd::OwnedFd::from(socket));
    let server = Process::ready_with(site.serve_on_socket("mtls"), handed);
    (site, server, issuer)
}

/// A guard on `guard.toml` of this folder.
pub(crate) fn start_guard(site: &Site) -> Process {
    let guard = || {
        let mut command = certbind();
        command.arg("guard").arg("--config").arg(site.path("guard.toml"));
        command
    };
    let (_, said, status) = output(guard().arg("--check"));
    assert!(status.success(), "{said}");
    let mut command = guard();
    command.args(["--set", "clock_skew=0s", "--set", "revocation.poll=1s"]);
    Process::guarding(command)
}

/// A program from Debian's packages.
pub(crate) fn installed(program: &str) -> PathBuf {
    let places = ["/usr/sbin", "/usr/bin", "/usr/local/bin"].map(|folder| Path::new(folder).join(program));
    places
        .into_iter()
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{program} is not there: scripts/test installs it"))
}

/// A program from Python's packages.
pub(crate) fn packaged(program: &str) -> PathBuf {
    let path = Path::new(PACKAGES).join("bin").join(program);
    assert!(path.exists(), "{} is not there: scripts/test installs it", path.display());
    path
}

/// What the gateways guard: it tells what it was sent, and remembers it. It goes over to any protocol.
pub(super) struct Service {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<(String, HeaderMap)>>>,
}

impl Service {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<(String, HeaderMap)>>>::default();
        let kept = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let seen = Arc::clone(&kept);
                let answer = service_fn(move |request: Request<Incoming>| {
                    seen.lock().unwrap().push((request.uri().to_string(), request.headers().clone()));
                    let protocol = request.headers().get(UPGRADE).cloned();
                    let mut answer = Response::new(Full::<Bytes>::from("the payments"));
                    // Whatever it is.
                    if let Some(protocol) = protocol.filter(|_| request.headers().contains_key(CONNECTION)) {
                        answer = Response::new(Full::default());
                        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
                        answer.headers_mut().insert(UPGRADE, protocol);
                        // To the key of RFC 6455 §1.3; HAProxy looks.
                        let accepted = HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
                        answer.headers_mut().insert("sec-websocket-accept", accepted);
                    }
                    async { Ok::<_, Infallible>(answer) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
        Self { address, seen }
    }

    /// How many requests have come.
    pub(super) fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// The target of the last one.
    pub(super) fn target(&self) -> String {
        self.seen.lock().unwrap().last().unwrap().0.clone()
    }

    /// The values of a header of the last one.
    pub(super) fn header(&self, name: &str) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        let values = seen.last().unwrap().1.get_all(name).iter();
        values.map(|value| value.to_str().unwrap().to_owned()).collect()
    }
}
