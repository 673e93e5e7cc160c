//! docs/clients.md: what it shows is what the scripts do, in the versions that they are run with.

use std::collections::BTreeSet;

use super::clients::CLIENTS;
use crate::house;

/// The page whose blocks stand in scripts that the tests run.
pub(crate) const PAGE: &str = "docs/clients.md";

const FOLDER: &str = "tests/foreign/";

#[test]
fn every_block_of_the_page_stands_so_in_the_script_that_it_is_from() {
    let page = house::read(PAGE);
    let mut shown = BTreeSet::new();
    let mut script = "";
    // Every second part is a block.
    for (at, part) in page.split("```").enumerate() {
        if at % 2 == 0 {
            let link = part.rsplit_once(FOLDER).and_then(|(_, link)| link.split(')').next());
            script = link.unwrap_or(script);
            continue;
        }
        let (language, block) = part.split_once('\n').unwrap();
        if language == "toml" {
            continue;
        }
        let text = house::read(&format!("{FOLDER}{script}"));
        assert!(is_part(block, &text), "{script} has no such lines:\n{block}");
        shown.insert(script.to_owned());
    }
    for (script, _) in CLIENTS {
        assert!(shown.contains(*script), "{PAGE} shows nothing of {script}");
    }
}

/// Whether these lines follow each other in a script, further in perhaps.
fn is_part(block: &str, script: &str) -> bool {
    ["", "    ", "\t"].iter().any(|indent| {
        let line = |line: &str| if line.is_empty() { "\n".to_owned() } else { format!("{indent}{line}\n") };
        script.contains(&block.lines().map(line).collect::<String>())
    })
}

#[test]
fn the_page_names_the_versions_that_are_installed() {
    let page = house::read(PAGE);
    let packages: serde_json::Value = serde_json::from_str(&house::read("tests/foreign/package.json")).unwrap();
    let npm = |name: &str| packages["dependencies"][name].as_str().unwrap().to_owned();
    let requirements = house::read("tests/foreign/requirements.txt");
    let pypi = |name: &str| {
        let pin = format!("{name}==");
        requirements.lines().find_map(|line| line.strip_prefix(&pin)).unwrap().to_owned()
    };
    let rows = [
        format!("| openid-client, oauth4webapi | {}, {} |", npm("openid-client"), npm("oauth4webapi")),
        format!("| Authlib | {} |", pypi("Authlib")),
        format!("| Authlib with `claims=` | {} |", pypi("Authlib")),
        format!("| requests-oauthlib | {} |", pypi("requests-oauthlib")),
        format!("| requests, httpx | {}, {} |", pypi("requests"), pypi("httpx")),
        format!("oidc-provider {}", npm("oidc-provider")),
    ];
    for row in rows {
        assert!(page.contains(&row), "{PAGE}: {row}");
    }
}

/// What a lock file says of where packages come from would be the registry of whoever wrote it.
#[test]
fn the_lock_file_names_no_registry() {
    let lock = house::read("tests/foreign/package-lock.json");
    assert!(lock.contains("\"integrity\"") && !lock.contains("\"resolved\""));
}
