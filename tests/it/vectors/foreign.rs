//! Runs the verifiers that are written in Python and Node over all vectors, by the commands of their page.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitStatus;

use serde_json::Value;

use super::{FOLDER, vectors};
use crate::documents;
use crate::house;

/// Where `scripts/test` installs Python's `cryptography`, and Node where the machine has none.
const PROGRAMS: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/foreign/python/bin");

#[test]
fn verifiers_in_other_languages_give_the_verdict_of_every_vector() {
    let folder = house::root().join(FOLDER);
    for command in commands() {
        let (mut said, status) = verdicts(&command, &folder);
        for vector in vectors() {
            let name = (vector.file.to_owned(), vector.name().to_owned());
            assert_eq!(said.remove(&name).as_ref(), Some(vector.verdict()), "{command}: {name:?}");
        }
        assert!(said.is_empty(), "{command}: {said:?}");
        assert!(status.success(), "{command}");
    }
}

/// The commands of the page, one a language.
pub(super) fn commands() -> Vec<String> {
    let blocks = house::blocks(&format!("{FOLDER}/README.md"));
    let commands: Vec<String> = blocks
        .iter()
        .filter(|block| block.language == "sh")
        .flat_map(|block| documents::commands(&block.text))
        .collect();
    let languages: Vec<&str> = commands.iter().filter_map(|command| command.split(' ').next()).collect();
    assert_eq!(languages, ["python3", "node"]);
    commands
}

/// What such a command says of the files in a folder: by file and case, the verdict; and how it ends.
pub(super) fn verdicts(command: &str, folder: &Path) -> (BTreeMap<(String, String), Value>, ExitStatus) {
    assert!(Path::new(PROGRAMS).join("python3").exists(), "scripts/test installs what this test needs into {PROGRAMS}");
    let script = house::root().join(FOLDER).join("verify.");
    let line = format!("PATH={PROGRAMS}:$PATH {}", command.replace("verify.", script.to_str().unwrap()));
    let output = documents::shell(&line, folder);
    let verdict = |line: &str| {
        let Value::Object(mut said) = serde_json::from_str(line).unwrap() else { panic!("{line}") };
        let mut member = |name: &str| said.remove(name).unwrap();
        ((member("file").as_str().unwrap().to_owned(), member("name").as_str().unwrap().to_owned()), member("verdict"))
    };
    let said = String::from_utf8(output.stdout).unwrap().lines().map(verdict).collect();
    eprintln!("{command}: {}", String::from_utf8_lossy(&output.stderr));
    (said, output.status)
}
