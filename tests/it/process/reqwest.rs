//! The crate `certbind-client` with reqwest, as its page shows it, while the certificate is renewed on disk: the program of
//! `tests/reqwest/`.

use std::fs;
use std::path::Path;
use std::process::Command;

use certbind::cli::dev::setup::DevClient;
use certbind_devpki::Identity;
use certbind_proto::thumbprint::Thumbprint;
use serde_json::{Value, json};

use super::renewal::{Folder, Layout, Town, renewed};
use super::rig::Process;
use crate::house;

const PAGE: &str = "crates/certbind-client/src/lib.rs";
const SOURCE: &str = "tests/reqwest/src/main.rs";
const ROTATIONS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_24_a_certificate_that_is_renewed_on_disk_fails_no_call_of_reqwest() {
    let town = Town::start().await;
    let folder = Folder::new(town.site.dir(), Layout::Links);
    let first = renewed();
    folder.put(&first).await;
    let mut program = Process::running(&mut command(&town, &folder));
    program.says(&thumbprint(&first));
    for _ in 0..ROTATIONS {
        let next = renewed();
        folder.put(&next).await;
        program.says(&thumbprint(&next));
    }
    fs::write(town.site.path("stop"), "").unwrap();
    let said = program.stdout_at_end();
    let said: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!((&said["certificates"], &said["thief"]), (&json!(ROTATIONS + 1), &json!(401)), "{said}");
    assert!(said["calls"].as_u64().unwrap() > ROTATIONS as u64, "{said}");
    // A token that was refused and made good by another one would be one more.
    town.site.events("token.issued", "", ROTATIONS + 1).await;
    let tokens = town.site.audit().iter().filter(|event| event["event"] == "token.issued").count();
    assert_eq!(tokens, ROTATIONS + 1);
}

fn thumbprint(identity: &Identity) -> String {
    Thumbprint::of_der(identity.certificate()).to_string()
}

/// The program that `scripts/test` built beside this one, told who it is.
fn command(town: &Town, folder: &Folder) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_certbind")).with_file_name("with-reqwest");
    assert!(program.exists(), "cargo build --locked --manifest-path tests/reqwest/Cargo.toml --target-dir target");
    let (site, setup) = (&town.site, &town.setup);
    let [DevClient { client_id, .. }, ..] = setup.clients();
    let mut command = Command::new(program);
    command.env_clear().current_dir(site.dir());
    command.env("CERTBIND_ISSUER", setup.issuer()).env("CERTBIND_CLIENT_ID", client_id);
    command.env("CERTBIND_CERT", folder.path("tls.crt")).env("CERTBIND_KEY", folder.path("tls.key"));
    command.env("CERTBIND_CA", site.path("ca.pem"));
    command.env("THIEF_CERT", site.path("clients/thief.pem")).env("THIEF_KEY", site.path("clients/thief.key"));
    command.env("API", format!("{}/payments", setup.resource())).env("RESOURCE", setup.resource());
    command
}

#[test]
fn what_the_page_of_the_crate_shows_of_reqwest_stands_so_in_the_program() {
    let source = house::read(SOURCE);
    let mut lines = source.lines().map(str::trim);
    let shown: Vec<_> = house::blocks_of_crate(PAGE).into_iter().filter(|block| block.language == "ignore").collect();
    let [shown] = &shown[..] else { panic!("{PAGE} shows one program that is no test of its own") };
    for line in shown.text.lines().map(str::trim) {
        assert!(lines.any(|of_program| of_program == line), "{SOURCE} does not go on with `{line}`");
    }
}
