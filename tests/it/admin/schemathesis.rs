//! The API does what its own description says: Schemathesis, which knows nothing of it but the OpenAPI document, sends what
//! fits it and what does not, to a real server over mutual TLS, and holds every answer against it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use certbind::admin::OPERATIONS;

use super::tls;
use crate::process::rig::{certbind, output};

/// `scripts/test` installs it there.
const PROGRAM: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/schemathesis-4.32.5/bin/st");

/// How long it goes on finding requests.
const BUDGET: Duration = Duration::from_secs(40);

/// What it expects otherwise: a description has no word for all the rules of a registration, for what a certificate is, or
/// for the state that a change is made to. RFC 6585 §3 has 428 where a condition is missing.
const SETTINGS: &str = r#"
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "304", "400", "404", "409", "412", "428"]

[checks.negative_data_rejection]
expected-statuses = ["400", "404", "405", "409", "412", "415", "428"]

[checks.missing_required_header]
expected-statuses = ["428"]
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schemathesis_finds_no_answer_that_the_document_does_not_describe() {
    if !PathBuf::from(PROGRAM).exists() {
        println!("skipped: there is no {PROGRAM}; scripts/test installs it");
        return;
    }
    let site = tls::site(&[("san_uri", tls::ALICE, "admin")]);
    let server = site.start();
    let alice = tls::alice();
    site.write("alice.pem", &alice.chain_pem());
    site.write_private("alice.key", &alice.key_pem());
    site.write("schemathesis.toml", SETTINGS);
    let document = format!("https://localhost:{}/admin/v1/openapi.json", server.admin().port());
    let mut command = Command::new(PROGRAM);
    command.current_dir(site.dir()).args(["run", &document, "--no-color", "--warnings", "off", "--seed", "1"]);
    command.args(["--request-cert", "alice.pem", "--request-cert-key", "alice.key", "--tls-verify", "ca.pem"]);
    command.args(["--generation-database", "none", "--continue-on-failure", "--max-examples", "25"]);
    command.args(["--max-time", &BUDGET.as_secs().to_string(), "--request-timeout", "20"]);
    let (told, more, status) = tokio::task::spawn_blocking(move || output(&mut command)).await.unwrap();

    assert!(status.success(), "{told}{more}");
    let count = |after: &str| {
        let digits = told.split(after).nth(1).unwrap_or_default().trim_start();
        digits.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().parse::<usize>().unwrap_or_default()
    };
    // It fetches the document, and does not try to fetch it.
    assert_eq!(count("Tested:"), OPERATIONS.len() - 1, "{told}");
    assert!(count("Test cases:") > 500, "{told}");
    println!("{}", told.lines().filter(|line| line.contains("generated")).collect::<String>());

    // Whatever was sent, the server is well and its log whole.
    server.assert_healthy().await;
    let errors: Vec<_> =
        server.stderr().lines().filter(|line| line.contains(r#""level":"error""#)).map(str::to_owned).collect();
    assert_eq!(errors, Vec::<String>::new());
    assert!(server.terminate().success());
    let (_, said, status) = output(certbind().args(["audit", "verify"]).arg(site.path("audit.jsonl")));
    assert!(status.success(), "{said}");
    assert!(fs::metadata(site.path("audit.jsonl")).unwrap().len() > 100_000);
}
