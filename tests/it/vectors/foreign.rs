//! Runs the verifiers that are written in Python and Node over all vectors, by the commands of their page.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::{FOLDER, vectors};
use crate::documents;
use crate::house;

/// Where `scripts/test` installs Python's `cryptography`, and Node where the machine has none.
const PROGRAMS: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/foreign/python/bin");

#[test]
fn verifiers_in_other_languages_give_the_verdict_of_every_vector() {
    assert!(Path::new(PROGRAMS).join("python3").exists(), "scripts/test installs what this test needs into {PROGRAMS}");
    let blocks = house::blocks(&format!("{FOLDER}/README.md"));
    let commands: Vec<String> = blocks
        .iter()
        .filter(|block| block.language == "sh")
        .flat_map(|block| documents::commands(&block.text))
        .collect();
    let languages: Vec<&str> = commands.iter().filter_map(|command| command.split(' ').next()).collect();
    assert_eq!(languages, ["python3", "node"]);
    for command in commands {
        gives_every_verdict(&command);
    }
}

fn gives_every_verdict(command: &str) {
    let output = documents::shell(&format!("PATH={PROGRAMS}:$PATH {command}"), &house::root().join(FOLDER));
    let errors = String::from_utf8_lossy(&output.stderr);
    let said = String::from_utf8(output.stdout).unwrap();
    let verdict = |line: &str| {
        let Value::Object(mut said) = serde_json::from_str(line).unwrap() else { panic!("{line}") };
        let mut member = |name: &str| said.remove(name).unwrap();
        ((member("file").as_str().unwrap().to_owned(), member("name").as_str().unwrap().to_owned()), member("verdict"))
    };
    let mut verdicts: BTreeMap<_, _> = said.lines().map(verdict).collect();
    for vector in vectors() {
        let name = (vector.file.to_owned(), vector.name().to_owned());
        assert_eq!(verdicts.remove(&name).as_ref(), Some(vector.verdict()), "{command}: {name:?}\n{errors}");
    }
    assert!(verdicts.is_empty(), "{command}: {verdicts:?}");
    assert!(output.status.success(), "{command}: {errors}");
}
