//! Client certificates that are renewed on disk under load: our client, the server, and an API that enforces the binding.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use certbind::cli::dev::api::Api as Payments;
use certbind::cli::dev::setup::{SCOPE, Setup};
use certbind::net::Listener;
use certbind_client::{
    AddressPolicy, Api, CertificateFiles, Clients, CredentialFiles, Follower, Settings, TokenSource, is_invalid_token,
    trusted_authorities,
};
use certbind_devpki::{Identity, LeafSpec, Validity};
use certbind_proto::entropy::OsEntropy;
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::{Clock as _, SystemClock};
use http_body_util::{BodyExt as _, Full};
use hyper::header::AUTHORIZATION;
use hyper::{Request, StatusCode, Uri};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::rig::{ISSUER, PKI, Process, Site, free_address};

#[path = "../../../crates/certbind-client/examples/hyper.rs"]
#[allow(dead_code, reason = "its main is not called")]
mod example;

use example::{Http, http};

/// From one call of each caller to the next.
const EVERY: Duration = Duration::from_millis(100);
/// The most time for one call. Nothing is slow here but a machine with much to do.
const PATIENCE: Duration = Duration::from_secs(20);
/// Shortens the long runs: how many seconds of rotations, where 300 are meant.
const SECONDS: &str = "CERTBIND_ROTATION_SECONDS";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_24_a_certificate_that_is_renewed_on_disk_fails_no_call() {
    let town = Town::start().await;
    rotate(&town, 3, Duration::from_secs(2), 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes five minutes; scripts/faults runs it"]
async fn fault_24_certificates_rotate_every_ten_seconds_at_200_requests_a_second() {
    let seconds = seconds();
    let town = Town::start().await;
    let began = Instant::now();
    let Figures { calls, tokens, slowest } = rotate(&town, seconds / 10, Duration::from_secs(10), 10).await;
    let took = began.elapsed().as_secs_f64();
    println!(
        "2 clients, a rotation of each every 10 s for {took:.0} s: {calls} calls, {:.0}/s, none failed, none repeated; {tokens} tokens; \
         a new certificate was in use {slowest:.1?} after its files at the latest",
        calls as f64 / took
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_24_a_server_that_is_away_for_a_moment_fails_no_call() {
    go_away(Duration::from_secs(3), 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute; scripts/faults runs it"]
async fn fault_24_a_server_that_is_away_for_30_seconds_fails_no_call_at_200_a_second() {
    let (calls, back) = go_away(Duration::from_secs(30), 10).await;
    println!(
        "the server was killed and away for 30 s, with a rotation meanwhile: {calls} calls, none failed, none repeated; \
         the new certificate was in use {back:.1?} after the server was back"
    );
}

#[expect(clippy::disallowed_methods, reason = "no configuration: whoever runs the long test says how long")]
fn seconds() -> u64 {
    std::env::var(SECONDS).map_or(300, |text| text.parse().unwrap())
}

struct Figures {
    calls: usize,
    tokens: usize,
    slowest: Duration,
}

/// Both clients get new certificates, so many times, while so many callers of each call.
async fn rotate(town: &Town, times: u64, every: Duration, callers: usize) -> Figures {
    let clients = [town.client(Layout::Files), town.client(Layout::Links)];
    let crowd = Crowd::start(&clients, callers).await;
    let mut slowest = Duration::ZERO;
    let mut next = tokio::time::interval(every);
    next.tick().await;
    for _ in 0..times {
        for client in &clients {
            let identity = renewed();
            let began = Instant::now();
            client.folder.put(&identity).await;
            client.uses(&identity).await;
            slowest = slowest.max(began.elapsed());
        }
        next.tick().await;
    }
    let calls = crowd.stop().await;
    let tokens = town.site.audit().iter().filter(|event| event["event"] == "token.issued").count();
    let rotations = usize::try_from(times).unwrap();
    assert!(tokens >= 2 * (rotations + 1), "{tokens} tokens: did anything rotate?");
    Figures { calls, tokens, slowest }
}

/// The server is killed, and comes back after a while; certificates are renewed meanwhile.
async fn go_away(outage: Duration, callers: usize) -> (usize, Duration) {
    let mut town = Town::start().await;
    let clients = [town.client(Layout::Files), town.client(Layout::Links)];
    let crowd = Crowd::start(&clients, callers).await;
    town.server.take().unwrap().kill();
    let began = Instant::now();
    tokio::time::sleep(outage / 3).await;
    let identities = [renewed(), renewed()];
    for (client, identity) in clients.iter().zip(&identities) {
        client.folder.put(identity).await;
    }
    tokio::time::sleep(outage.saturating_sub(began.elapsed())).await;
    for client in &clients {
        assert!(client.api.source().status().waiting.is_some(), "{:?}", client.api.source().status());
    }
    town.server = Some(town.site.start());
    let back = Instant::now();
    for (client, identity) in clients.iter().zip(&identities) {
        client.uses(identity).await;
    }
    let took = back.elapsed();
    (crowd.stop().await, took)
}

/// A server and an API of another process' kind: the API outlives the server.
pub(super) struct Town {
    pub(super) site: Site,
    pub(super) setup: Setup,
    payments: Payments,
    server: Option<Process>,
}

impl Town {
    pub(super) async fn start() -> Self {
        let site = Site::new();
        let address = free_address();
        let api = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let setup = Setup::prepare(site.dir(), address, api.local_address(), SystemClock.now()).unwrap();
        site.configure("[log]\nlevel = \"info\"\naudit = \"file:audit.jsonl\"\n", "");
        site.edit(ISSUER, setup.issuer());
        site.edit("address = \"127.0.0.1:0\"\ncert", &format!("address = \"{address}\"\ncert"));
        let server = site.start();
        let payments = Payments::start(api, &setup).await.unwrap();
        Self { site, setup, payments, server: Some(server) }
    }

    /// `billing`, with files of its own.
    fn client(&self, layout: Layout) -> Client {
        let folder = Folder::new(self.site.dir(), layout);
        let roots = trusted_authorities(&self.site.path("ca.pem")).unwrap();
        let files = folder.files();
        let mut settings = Settings::new(self.setup.issuer(), "billing", files.load().unwrap(), roots.clone());
        settings.addresses = AddressPolicy::AllowPrivate;
        settings.scope = SCOPE.parse().unwrap();
        settings.resources.insert(self.setup.resource().parse().unwrap());
        let source = TokenSource::new(settings, Arc::new(SystemClock), Arc::new(OsEntropy)).unwrap();
        let follower = source.follow(files);
        let url = format!("https://localhost:{}/payments", self.payments.address().port());
        let api = Arc::new(Api::new(source, Clients::new(&roots, http).unwrap()));
        Client { api, folder, url: url.parse().unwrap(), _follower: follower }
    }
}

/// Our client as a program has it.
struct Client {
    api: Arc<Api<Http>>,
    folder: Folder,
    url: Uri,
    _follower: Follower,
}

impl Client {
    async fn uses(&self, identity: &Identity) {
        let expected = Thumbprint::of_der(identity.certificate());
        let began = Instant::now();
        loop {
            let status = self.api.source().status();
            if status.certificate.as_ref().is_some_and(|shown| *shown.thumbprint() == expected) {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(90), "not in use: {status:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Callers that never stop at a failure, but remember it.
struct Crowd {
    tasks: JoinSet<()>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    failures: Arc<Mutex<Vec<String>>>,
}

impl Crowd {
    /// Comes back when each client has had answers.
    async fn start(clients: &[Client], callers: usize) -> Self {
        let mut crowd =
            Self { tasks: JoinSet::new(), stop: Arc::default(), answered: Arc::default(), failures: Arc::default() };
        for client in clients {
            let first = call(&client.api, &client.url).await;
            crowd.failures.lock().unwrap().extend(first);
            for _ in 0..callers {
                let (api, url, stop) = (client.api.clone(), client.url.clone(), crowd.stop.clone());
                let (answered, failures) = (crowd.answered.clone(), crowd.failures.clone());
                crowd.tasks.spawn(async move {
                    let mut next = tokio::time::interval(EVERY);
                    next.set_missed_tick_behavior(MissedTickBehavior::Delay);
                    while !stop.load(Ordering::Relaxed) {
                        next.tick().await;
                        match call(&api, &url).await {
                            None => drop(answered.fetch_add(1, Ordering::Relaxed)),
                            Some(failure) => failures.lock().unwrap().push(failure),
                        }
                    }
                });
            }
        }
        crowd
    }

    /// How many calls were answered; none must have failed.
    async fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
        let failures = self.failures.lock().unwrap();
        assert!(failures.is_empty(), "{} calls failed, first {:?}", failures.len(), &failures[..failures.len().min(5)]);
        self.answered.load(Ordering::Relaxed)
    }
}

/// What went wrong with a call, if anything did. A refused token that is made good by another one counts as well: no token was
/// sent with another certificate than its own.
async fn call(api: &Api<Http>, url: &Uri) -> Option<String> {
    let refused = AtomicBool::new(false);
    let calling = api.call(
        |http, token| {
            let mut request = Request::new(Full::default());
            *request.uri_mut() = url.clone();
            request.headers_mut().insert(AUTHORIZATION, token.authorization().clone());
            async move {
                let response = http.request(request).await.map_err(|error| format!("{error:?}"))?;
                let (head, body) = response.into_parts();
                body.collect().await.map_err(|error| format!("{error:?}"))?;
                Ok::<_, String>(head)
            }
        },
        |head| {
            let is_refused = is_invalid_token(head.status, &head.headers);
            refused.fetch_or(is_refused, Ordering::Relaxed);
            is_refused
        },
    );
    match tokio::time::timeout(PATIENCE, calling).await {
        Err(_) => Some("no answer in time".to_owned()),
        Ok(Err(error)) => Some(format!("{error:?}")),
        Ok(Ok(_)) if refused.load(Ordering::Relaxed) => Some("a token was refused".to_owned()),
        Ok(Ok(head)) => (head.status != StatusCode::OK).then(|| format!("status {}", head.status)),
    }
}

/// Another certificate of `billing`, with another key.
pub(super) fn renewed() -> Identity {
    let validity = Validity::days_from(SystemClock.now().unix() - 3600, 1);
    PKI.intermediate.leaf(&LeafSpec::client("billing", validity).uri("spiffe://certbind.dev/billing")).unwrap()
}

/// How a program that renews certificates puts them in place.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Layout {
    /// One file after the other, by turns replaced and overwritten in pieces.
    Files,
    /// As Kubernetes does it: one link is swapped.
    Links,
}

/// Certificate and key on disk.
pub(super) struct Folder {
    path: PathBuf,
    layout: Layout,
    generation: AtomicUsize,
}

impl Folder {
    pub(super) fn new(dir: &Path, layout: Layout) -> Self {
        let name = if layout == Layout::Files { "files" } else { "links" };
        let folder = Self { path: dir.join(name), layout, generation: AtomicUsize::new(0) };
        fs::create_dir(&folder.path).unwrap();
        match layout {
            Layout::Files => folder.write("", &renewed()),
            Layout::Links => {
                folder.relink(0, &renewed());
                for name in ["tls.crt", "tls.key"] {
                    symlink(Path::new("..data").join(name), folder.path.join(name)).unwrap();
                }
            }
        }
        folder
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn files(&self) -> CredentialFiles {
        CredentialFiles::Certificate(CertificateFiles { chain: self.path("tls.crt"), key: self.path("tls.key") })
    }

    pub(super) async fn put(&self, identity: &Identity) {
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        match (self.layout, generation % 2) {
            (Layout::Links, _) => self.relink(generation, identity),
            (Layout::Files, 0) => self.replace(identity).await,
            (Layout::Files, _) => self.overwrite(identity).await,
        }
    }

    fn relink(&self, generation: usize, identity: &Identity) {
        let data = format!("..{generation}");
        fs::create_dir(self.path.join(&data)).unwrap();
        self.write(&data, identity);
        symlink(&data, self.path.join("..data_tmp")).unwrap();
        fs::rename(self.path.join("..data_tmp"), self.path.join("..data")).unwrap();
        if let Some(before) = generation.checked_sub(1) {
            fs::remove_dir_all(self.path.join(format!("..{before}"))).unwrap();
        }
    }

    /// Whole files, the key first, with time in between to look at a pair that does not belong together.
    async fn replace(&self, identity: &Identity) {
        fs::create_dir(self.path.join("new")).unwrap();
        self.write("new", identity);
        for name in ["tls.key", "tls.crt"] {
            fs::rename(self.path.join("new").join(name), self.path.join(name)).unwrap();
            tokio::time::sleep(Duration::from_millis(1200)).await;
        }
        fs::remove_dir(self.path.join("new")).unwrap();
    }

    /// The same files with another content, each cut off for a while.
    async fn overwrite(&self, identity: &Identity) {
        for (name, text) in [("tls.crt", identity.chain_pem()), ("tls.key", identity.key_pem())] {
            fs::write(self.path.join(name), &text[..text.len() / 2]).unwrap();
            tokio::time::sleep(Duration::from_millis(600)).await;
            fs::write(self.path.join(name), text).unwrap();
        }
    }

    fn write(&self, below: &str, identity: &Identity) {
        let folder = self.path.join(below);
        fs::write(folder.join("tls.crt"), identity.chain_pem()).unwrap();
        fs::write(folder.join("tls.key"), identity.key_pem()).unwrap();
        fs::set_permissions(folder.join("tls.key"), fs::Permissions::from_mode(0o600)).unwrap();
    }
}
