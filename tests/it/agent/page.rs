//! The commands of docs/agent.md, run as one script from its first line to its last.

use std::os::unix::fs::symlink;

use super::rig::World;
use crate::documents;
use crate::house;

/// The page.
pub(crate) const PAGE: &str = "docs/agent.md";

#[test]
fn the_page_of_the_agent_goes_as_it_says() {
    let world = World::start();
    let folder = tempfile::tempdir().unwrap();
    symlink(world.site.dir(), folder.path().join("dev")).unwrap();
    let blocks = house::blocks(PAGE).into_iter().filter(|block| block.language == "sh");
    let script: String = blocks.map(|block| block.text).collect();
    let api = world.dev["resource"].as_str().unwrap();
    let script = script.replace("https://localhost:8443", world.dev["issuer"].as_str().unwrap());
    let script = format!("set -e\ntrap 'kill $!; wait' EXIT\n{}", script.replace("https://localhost:8444", api));
    let output = documents::shell(&script, folder.path());
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(
        ["payments", "tls.crt", "\"access_token\"", "\"last_failure\""].iter().all(|word| said.contains(word)),
        "{said}"
    );
}
