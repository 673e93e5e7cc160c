//! The commands of docs/services.md, in their order, against the example that it speaks of; and its pieces of code, which are the
//! example's.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::documents::{SetUp, commands, shell};
use crate::house;

/// The page whose commands are run here.
pub(crate) const PAGE: &str = "docs/services.md";

/// Where the example says why it denied a request.
const LOG: &str = "axum.log";

/// Where the page has the example listen.
const ADDRESS: &str = "127.0.0.1:8445";

#[test]
fn the_commands_of_the_page_go_as_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (mut set_up, mut _example, mut answers) = (None, None, Vec::new());
    for command in blocks("sh").iter().flat_map(|block| commands(block)) {
        if command.starts_with("certbind dev ") {
            set_up = Some(SetUp::start(&command, folder.path()));
            continue;
        }
        let command = set_up.as_ref().expect("`certbind dev` comes first").with_its_ports(&command);
        let command = command.replace("localhost:8445", &format!("localhost:{port}"));
        if let Some(arguments) = command.strip_prefix(RUN) {
            _example = Some(Example::start(arguments, folder.path(), port));
            continue;
        }
        let output = shell(&command, folder.path());
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{command}\n{said}{}", String::from_utf8_lossy(&output.stderr));
        if command.starts_with("curl ") {
            answers.push(said);
        }
    }
    let log = fs::read_to_string(folder.path().join(LOG)).unwrap();
    for reason in ["binding_mismatch", "certificate_missing", "scope_missing"] {
        assert!(log.contains(reason), "{reason}: {log}");
    }
    let promised = promised();
    assert_eq!(promised, ["200", "401", "401", "403", "200"]);
    assert_eq!(promised.len(), answers.len());
    for (status, said) in promised.iter().zip(&answers) {
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {said}");
        assert_eq!(status != "200", said.contains("www-authenticate: Bearer resource_metadata="), "{said}");
    }
    assert!(answers[0].ends_with("paid by billing\n"), "{}", answers[0]);
    assert!(answers[4].contains("\"tls_client_certificate_bound_access_tokens\":true"), "{}", answers[4]);
}

#[test]
fn each_line_of_code_on_the_page_is_one_of_the_example() {
    let example = house::read("crates/certbind-verify/examples/axum.rs");
    let lines: Vec<&str> = example.lines().map(str::trim).collect();
    for block in blocks("rust") {
        for line in block.lines().map(str::trim) {
            assert!(lines.contains(&line), "{PAGE}: `{line}` is not in the example");
        }
    }
}

fn blocks(language: &str) -> Vec<String> {
    let blocks: Vec<_> = house::blocks(PAGE).into_iter().filter(|block| block.language == language).collect();
    assert!(!blocks.is_empty(), "{language}");
    blocks.into_iter().map(|block| block.text).collect()
}

/// The status that stands behind each call.
fn promised() -> Vec<String> {
    let text = blocks("sh").concat();
    text.lines().filter_map(|line| line.rsplit_once(" # ")).map(|(_, status)| status.trim().to_owned()).collect()
}

/// How the page starts the example.
const RUN: &str = "cargo run -p certbind-verify --features fetch,tower --example axum -- ";

/// The example, until it is dropped.
struct Example(Child);

impl Example {
    /// The program that `cargo test --workspace --all-features` built beside this one.
    fn start(arguments: &str, folder: &Path, port: u16) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_certbind")).with_file_name("examples").join("axum");
        assert!(program.exists(), "cargo build -p certbind-verify --all-features --example axum");
        assert!(arguments.starts_with(ADDRESS), "{arguments}");
        let arguments = arguments.replace(ADDRESS, &format!("127.0.0.1:{port}"));
        let process = Command::new(program)
            .args(arguments.split(' '))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join(LOG)).unwrap())
            .spawn()
            .unwrap();
        let mut example = Self(process);
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert_eq!(example.0.try_wait().unwrap(), None, "the example ended");
            assert!(started.elapsed() < Duration::from_secs(30), "the example does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        example
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
