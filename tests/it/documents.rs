//! What the pages say is true: their commands run, their examples load, their links and paths lead somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use certbind::config::{self, Environment, Sources};
use certbind::registry::Registry as _;
use certbind::registry::file::{FileRegistry, Settings};
use certbind_devpki::{Issuer, LeafSpec, Validity};
use certbind_proto::client::{LegacyAudience, RegistrationRules};
use certbind_proto::jws::Algorithms;
use certbind_proto::time::Timestamp;

use crate::house;
use crate::support::finish::Finish as _;

const BY_HAND: &str = "## Five minutes by hand";

/// The section whose commands `postgres::readme` runs.
pub(crate) const FLEET: &str = "## From one server to three";

/// Commands in ```sh blocks that are not run by [`the_five_minutes_by_hand_go_as_the_readme_says`], and who sees to them.
const ACCOUNTED: &[(&str, &str)] = &[
    ("cargo run --release -- demo", "scripts/test runs it"),
    ("scripts/test", "it runs this test"),
    ("cargo install --path .", "the binary that Cargo built for this test stands in for it"),
    ("certbind guard --config guard.toml --check", "`guard::rig` runs it before each guard"),
    ("certbind guard --config guard.toml", "`guard::rig` runs it on each sample"),
];

/// What a command of the five minutes ends with when it is not 0: a piece of the command, its exit code and a word that it prints.
const OTHER_ENDS: &[(&str, i32, &str)] =
    &[("dev/clients/thief.pem", 4, "binding_mismatch"), ("client explain billing", 3, "san_mismatch")];

#[test]
fn every_command_of_every_page_is_run_or_accounted_for() {
    let by_hand: BTreeSet<String> = commands_by_hand().into_iter().chain(commands_of(FLEET)).collect();
    let mut accounted: BTreeSet<&str> = ACCOUNTED.iter().map(|(command, _)| *command).collect();
    // Those of a page of their own are all run, by `admin::docs`, `agent::page` and as parts of the scripts of `foreign::page`.
    let elsewhere =
        [crate::admin::docs::PAGE, crate::agent::page::PAGE, crate::services::PAGE, crate::foreign::page::PAGE];
    for page in house::pages().into_iter().filter(|page| !elsewhere.contains(&page.as_str())) {
        for command in
            house::blocks(&page).iter().filter(|block| block.language == "sh").flat_map(|block| commands(&block.text))
        {
            let is_accounted = ACCOUNTED.iter().any(|(known, _)| *known == command);
            assert!(is_accounted || by_hand.contains(&command), "{page}: nobody runs `{command}`");
            accounted.remove(command.as_str());
        }
    }
    assert!(accounted.is_empty(), "no page has {accounted:?} any more");
    assert!(house::read("scripts/test").contains("-- demo"), "scripts/test does not run the demo");
}

#[test]
fn the_five_minutes_by_hand_go_as_the_readme_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut set_up = None;
    for command in commands_by_hand() {
        if ACCOUNTED.iter().any(|(known, _)| *known == command) {
            continue;
        }
        if command.starts_with("certbind dev ") {
            set_up = Some(SetUp::start(&command, folder.path()));
            continue;
        }
        let set_up: &SetUp = set_up.as_ref().expect("the README starts `certbind dev` first");
        let output = shell(&set_up.with_its_ports(&command), folder.path());
        let (code, word) = OTHER_ENDS
            .iter()
            .find(|(piece, ..)| command.contains(piece))
            .map_or((0, ""), |(_, code, word)| (*code, *word));
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{command}\n{said}");
        assert!(said.contains(word), "{command}\n{said}");
    }
}

#[test]
fn the_configuration_of_the_readme_loads_and_its_client_with_it() {
    let examples: Vec<String> = house::blocks("README.md")
        .into_iter()
        .filter(|block| block.language == "toml")
        .map(|block| block.text)
        .collect();
    let [server, client] = examples.as_slice() else { panic!("a configuration and a client") };

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("certbind.toml");
    fs::write(&file, server).unwrap();
    let sources = Sources { file, environment: Environment::default(), set: Vec::new() };
    let checked = config::inspect(&sources).unwrap_or_else(|rejected| panic!("{rejected}"));
    assert_eq!(checked.warnings, []);

    let clients = folder.path().join("clients.d");
    fs::create_dir(&clients).unwrap();
    fs::write(clients.join("billing.toml"), client).unwrap();
    let rules = RegistrationRules {
        algorithms: Algorithms::DEFAULT,
        legacy_audience: LegacyAudience::Permitted,
        trust_groups: checked.config.trust.iter().map(|group| group.name.clone()).collect(),
    };
    let (registry, report) = FileRegistry::load(Settings { dir: clients, rules });
    assert_eq!((report.faults, report.warnings), (Vec::new(), Vec::new()));
    assert!(registry.find("billing").is_some());
}

#[test]
fn the_example_of_a_mistake_is_what_config_check_says() {
    let folder = tempfile::tempdir().unwrap();
    let least = house::blocks("docs/configuration.md").into_iter().find(|block| block.language == "toml").unwrap().text;
    let file = folder.path().join("certbind.toml");
    fs::write(&file, &least).unwrap();
    let sources = Sources { file: file.clone(), environment: Environment::default(), set: Vec::new() };
    let (clients, tls) = (folder.path().join("clients.d"), folder.path().join("tls"));
    fs::create_dir(&clients).unwrap();
    fs::create_dir(&tls).unwrap();
    let server = Issuer::root("CA", Validity::days_from(0, 2)).unwrap();
    let server = server.leaf(&LeafSpec::server(Validity::days_from(0, 2))).unwrap();
    fs::write(tls.join("server.pem"), server.chain_pem()).unwrap();
    fs::write(tls.join("server.key"), server.key_pem()).unwrap();
    fs::set_permissions(tls.join("server.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let opened = config::open(&sources, Timestamp::from_unix(86_400));
    assert_eq!(opened.map(drop).map_err(|rejected| rejected.to_string()), Ok(()), "the least that starts");

    fs::remove_dir(&clients).unwrap();
    fs::remove_dir_all(&tls).unwrap();
    let example =
        house::blocks("docs/configuration.md").into_iter().find(|block| block.text.starts_with("$ ")).unwrap().text;
    let (command, shown) = example.split_once('\n').unwrap();
    let mistyped = least.replacen("\n\n", "\ndatadir = \"data\"\n", 1);
    fs::write(&file, mistyped).unwrap();
    let output = shell(command.trim_start_matches("$ "), folder.path());
    assert_eq!(output.status.code(), Some(6));
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said.lines().collect::<Vec<_>>(), shown.lines().collect::<Vec<_>>());
}

#[test]
fn every_command_that_a_page_names_in_passing_exists() {
    for page in house::pages() {
        let prose = outside_blocks(&house::read(&page));
        for named in house::ticked(&prose) {
            let Some(arguments) = named.strip_prefix("certbind ") else { continue };
            let is_word = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase());
            let words: Vec<&str> = arguments.split_whitespace().take_while(is_word).collect();
            let output = certbind().args(&words).arg("--help").finish();
            assert!(output.status.success(), "{page}: `{named}`");
        }
    }
}

#[test]
fn every_link_leads_to_a_file_and_every_anchor_to_a_heading() {
    for page in house::pages() {
        let text = outside_blocks(&house::read(&page));
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let folder = Path::new(&page).parent().unwrap();
            let path = if file.is_empty() { page.clone() } else { folder.join(file).to_str().unwrap().to_owned() };
            assert!(house::exists(&path), "{page}: {target}");
            let has_anchor = || house::read(&path).lines().any(|line| line.starts_with('#') && slug(line) == anchor);
            assert!(anchor.is_empty() || has_anchor(), "{page}: {target}");
        }
    }
}

#[test]
fn every_path_that_a_page_names_exists() {
    let folders = ["benches/", "certs/", "crates/", "docs/", "scripts/", "src/", "tests/"];
    for page in house::pages() {
        for named in house::ticked(&outside_blocks(&house::read(&page))) {
            let is_path = folders.iter().any(|folder| named.starts_with(folder))
                && named.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            let beside = Path::new(&page).parent().unwrap().join(&named);
            assert!(!is_path || house::exists(&named) || house::exists(beside.to_str().unwrap()), "{page}: `{named}`");
        }
    }
}

#[test]
fn every_script_that_a_page_names_can_be_run() {
    for page in house::pages() {
        for rest in house::read(&page).split("scripts/").skip(1) {
            let script: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
            let file = house::root().join("scripts").join(&script);
            let mode =
                fs::metadata(&file).unwrap_or_else(|error| panic!("{page}: scripts/{script}: {error}")).permissions();
            assert_eq!(mode.mode() & 0o111, 0o111, "{page}: scripts/{script}");
        }
    }
}

#[test]
fn tests_begin_with_the_words_that_the_map_gives_them() {
    let tests = house::test_functions();
    for row in house::table(&house::read("ARCHITECTURE.md"), "## Where each RFC lives") {
        for prefix in house::ticked(&row[2]) {
            assert!(tests.iter().any(|name| name.starts_with(&prefix)), "ARCHITECTURE.md: `{prefix}`");
        }
    }
}

#[test]
fn commands_are_read_line_by_line() {
    let block = "a b   # why\nc \\\n    d < e\n\n# only a comment\nf \"#g\"\n";
    assert_eq!(commands(block), ["a b", "c d < e", "f \"#g\""]);
    assert_eq!(slug("## Layers of `src/`, all"), "layers-of-src-all");
}

/// The commands of the section, in order.
fn commands_by_hand() -> Vec<String> {
    commands_of(BY_HAND)
}

/// The commands of a section of the README, in order.
pub(crate) fn commands_of(heading: &str) -> Vec<String> {
    let readme = house::read("README.md");
    let (_, section) = readme.split_once(heading).expect("the section");
    let section = section.split("\n## ").next().unwrap();
    let mut found = Vec::new();
    for block in section.split("```sh\n").skip(1) {
        found.extend(commands(block.split("```").next().unwrap()));
    }
    found
}

/// The commands of a block: continued lines joined, comments and empty lines left out.
pub(crate) fn commands(block: &str) -> Vec<String> {
    let joined = block.replace("\\\n", " ");
    let plain = joined.lines().map(|line| line.split(" # ").next().unwrap());
    let words = plain.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    words.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// A page without its fenced blocks.
fn outside_blocks(page: &str) -> String {
    page.split("```").step_by(2).collect()
}

/// A heading as the anchor that forges make of it.
fn slug(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    words
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn certbind() -> Command {
    Command::new(env!("CARGO_BIN_EXE_certbind"))
}

/// Runs a line as the README's reader does, with `certbind` on the path.
pub(crate) fn shell(line: &str, folder: &Path) -> Output {
    shell_command(line, folder).finish()
}

/// The same, not yet started.
#[expect(clippy::disallowed_methods, reason = "the search path of the commands is this one's, with one folder before")]
pub(crate) fn shell_command(line: &str, folder: &Path) -> Command {
    let programs = Path::new(env!("CARGO_BIN_EXE_certbind")).parent().unwrap();
    let mut path = programs.as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut command = Command::new("sh");
    command.args(["-c", line]).current_dir(folder).env("PATH", path).stdin(Stdio::null());
    command
}

/// `certbind dev` on free ports, until it is dropped.
pub(crate) struct SetUp {
    process: Child,
    ports: [(String, String); 2],
}

impl SetUp {
    pub(crate) fn start(command: &str, folder: &Path) -> Self {
        let arguments: Vec<&str> = command.split(' ').skip(1).collect();
        let (_, dir) = command.split_once("--dir ").expect("the README names the folder");
        let process = certbind()
            .args(&arguments)
            .args(["--listen", "127.0.0.1:0", "--api", "127.0.0.1:0"])
            .current_dir(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut set_up = Self { process, ports: Default::default() };
        let ready = set_up.wait_for(&folder.join(dir).join("dev.json"));
        let port = |member: &str| ready[member].as_str().unwrap().to_owned();
        set_up.ports = [
            ("https://localhost:8443".to_owned(), port("issuer")),
            ("https://localhost:8444".to_owned(), port("resource")),
        ];
        set_up
    }

    /// `dev.json` is written when all listens.
    fn wait_for(&mut self, file: &Path) -> serde_json::Value {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(60) {
            if let Some(ready) = fs::read(file).ok().and_then(|text| serde_json::from_slice(&text).ok()) {
                return ready;
            }
            assert_eq!(self.process.try_wait().unwrap(), None, "certbind dev ended");
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("certbind dev is not ready after a minute");
    }

    /// A command of the README with the ports of this run.
    pub(crate) fn with_its_ports(&self, command: &str) -> String {
        self.ports.iter().fold(command.to_owned(), |command, (written, real)| command.replace(written, real))
    }
}

impl Drop for SetUp {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
