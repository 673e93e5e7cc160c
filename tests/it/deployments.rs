//! The pages of docs/deploy: each command in a `console` block is run where the page says, and prints what stands below it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use certbind_devpki::{LeafSpec, Validity};
use certbind_proto::time::{Clock as _, SystemClock};
use hyper::Version;

use crate::documents::shell;
use crate::guard::rig::{issuer, start_guard};
use crate::house;
use crate::manifests::read::workloads;
use crate::manifests::volumes::fill;
use crate::process::client::billing;
use crate::process::rig::{PKI, Process, Site};

const FOLDER: &str = "docs/deploy";

/// The longest wait for a line of a log.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where the commands of a page are run.
struct Stage {
    folder: PathBuf,
    /// What the page calls otherwise than it is here.
    names: Vec<(String, String)>,
    _site: Option<Site>,
    _temporary: Option<tempfile::TempDir>,
    _running: Vec<Process>,
}

impl Stage {
    fn of(site: Site) -> Self {
        let folder = site.dir().to_owned();
        Self { folder, names: Vec::new(), _site: Some(site), _temporary: None, _running: Vec::new() }
    }
}

#[test]
fn every_page_of_a_deployment_is_run_here() {
    let pages = house::files(FOLDER);
    let pages: BTreeSet<&str> = pages.iter().map(|page| page.rsplit('/').next().unwrap()).collect();
    assert_eq!(
        pages.into_iter().collect::<Vec<_>>(),
        ["bare-metal.md", "gateways.md", "kubernetes.md", "mesh.md", "native.md"]
    );
    for page in house::pages().into_iter().filter(|page| !page.starts_with(FOLDER)) {
        assert!(house::blocks(&page).iter().all(|block| block.language != "console"), "{page}: nobody runs it");
    }
}

#[test]
fn on_a_machine_of_its_own_the_first_failures_are_as_the_page_says() {
    let site = Site::new();
    fs::set_permissions(site.path("server.key"), fs::Permissions::from_mode(0o644)).unwrap();
    goes_as_it_says("bare-metal.md", 4, &Stage::of(site));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_proxy_the_first_failures_are_as_the_page_says() {
    let (site, server, issuer) = issuer();
    let text = house::read("deploy/caddy/guard.toml")
        .replace("https://localhost:8443", &issuer)
        .replace("/etc/certbind/ca/issuer.pem", "ca.pem")
        .replace("/run/certbind-guard/", "")
        .replace("users = [\"caddy\"]", "users = []")
        .replace("127.0.0.1:9465", "127.0.0.1:0");
    site.write("guard.toml", &format!("{text}\n[log]\naudit = \"file:guard.jsonl\"\n"));
    let guard = start_guard(&site);
    goes_as_it_says("gateways.md", 5, &Stage { _running: vec![server, guard], ..Stage::of(site) });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_mesh_the_first_failures_are_as_the_page_says() {
    let (site, server, issuer) = issuer();
    let mut connection = server.connect(Some(&PKI.billing.identity), Version::HTTP_2).await.unwrap();
    site.write("token", &connection.token(&billing()).await.unwrap().access_token());
    let month = Validity::days_from(SystemClock.now().unix() - 3600, 30);
    let renewed = LeafSpec::client("billing", month).uri("spiffe://example.com/billing");
    site.write("svid.pem", &PKI.intermediate.leaf(&renewed).unwrap().chain_pem());
    let names = vec![("https://localhost:8443".to_owned(), issuer)];
    goes_as_it_says("mesh.md", 2, &Stage { names, _running: vec![server], ..Stage::of(site) });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_guard_the_first_failure_is_as_the_page_says() {
    let (site, server, issuer) = issuer();
    let script = house::root().join("deploy/haproxy/native/keys.py").display().to_string();
    fs::create_dir(site.path("keys")).unwrap();
    // The key of RFC 7515 A.3, for one of before.
    let (x, y) = ("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
    site.write("old.json", &format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}"}}]}}"#));
    assert!(shell(&format!("{script} keys < old.json"), site.dir()).status.success());
    let names = vec![("https://localhost:8443".to_owned(), issuer), ("keys.py".to_owned(), script)];
    goes_as_it_says("native.md", 3, &Stage { names, _running: vec![server], ..Stage::of(site) });
}

#[test]
fn in_kubernetes_the_first_failure_is_as_the_page_says() {
    let temporary = tempfile::tempdir().unwrap();
    let of_store = |workload: &&_| matches!(workload, crate::manifests::read::Workload { file, .. } if *file == "deploy/kubernetes/store-embedded.yaml");
    let all = workloads();
    let workload = all.iter().find(of_store).unwrap();
    fill(temporary.path(), workload, workload.containers().next().unwrap());
    // Without `defaultMode`.
    let key = temporary.path().join("etc/certbind/tls/tls.key");
    fs::set_permissions(key, fs::Permissions::from_mode(0o644)).unwrap();
    let root = temporary.path().display().to_string();
    let config = temporary.path().join("etc/certbind/config/certbind.toml");
    let text = fs::read_to_string(&config).unwrap();
    let names = ["/etc/", "/var/"].map(|folder| (folder.to_owned(), format!("{root}{folder}")));
    fs::write(&config, there(&text, &names)).unwrap();
    let folder = temporary.path().to_owned();
    let stage = Stage { folder, names: names.into(), _site: None, _temporary: Some(temporary), _running: Vec::new() };
    goes_as_it_says("kubernetes.md", 1, &stage);
}

/// What a page writes, with the names of here; and the other way round.
fn there(text: &str, names: &[(String, String)]) -> String {
    names.iter().fold(text.to_owned(), |text, (written, real)| text.replace(written, real))
}

fn goes_as_it_says(page: &str, count: usize, stage: &Stage) {
    let page = format!("{FOLDER}/{page}");
    let blocks = house::blocks(&page).into_iter().filter(|block| block.language == "console");
    let mut commands = 0;
    for block in blocks {
        for part in format!("\n{}", block.text).split("\n$ ").skip(1) {
            let (command, shown) = part.split_once('\n').unwrap_or((part, ""));
            let shown: Vec<&str> = shown.trim_end().lines().collect();
            // A line of the audit log may be written a moment after the answer.
            let began = Instant::now();
            let mut said = says(command, stage);
            while command.starts_with("certbind audit") && said.is_empty() && began.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(20));
                said = says(command, stage);
            }
            let lines: Vec<&str> = said.lines().collect();
            let is_alike =
                lines.len() == shown.len() && lines.iter().zip(&shown).all(|(said, shown)| fits(said, shown));
            assert!(is_alike, "{page}: {command}\n-- says\n{said}\n-- shown\n{}", shown.join("\n"));
            commands += 1;
        }
    }
    assert_eq!(commands, count, "{page}");
}

/// What a command prints, with the names of the page.
fn says(command: &str, stage: &Stage) -> String {
    let output = shell(&there(command, &stage.names), &stage.folder);
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap()).concat();
    let back: Vec<_> = stage.names.iter().map(|(written, real)| (real.clone(), written.clone())).collect();
    there(&said, &back)
}

/// Whether a line is the one that is shown, where `…` stands for what is other each time.
fn fits(said: &str, shown: &str) -> bool {
    let mut parts = shown.split('…');
    let first = parts.next().expect("there is always one");
    let Some(mut rest) = said.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        last = Some(part);
    }
    rest.is_empty() || last == Some("")
}

#[test]
fn what_is_other_each_time_is_left_open_and_nothing_else() {
    assert!(fits("a b c", "a b c") && fits("a b c", "a … c") && fits("a b c", "a …") && fits("a b c", "… c"));
    assert!(!fits("a b c", "a b") && !fits("a b c", "a … d") && !fits("a b c", "b …") && !fits("a b c d", "a … c"));
}
