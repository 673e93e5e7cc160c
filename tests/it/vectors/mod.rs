//! The vectors in `tests/vectors/`: made here, and held against the verifier and two that are written in other languages.
//!
//! `UPDATE_GOLDEN=1 cargo test --test it vectors` writes the files anew.

mod binding;
mod case;
mod claims;
mod demand;
mod foreign;
mod header;
mod issuer_keys;
mod jws;
mod keys;
mod mutated;
mod revocation;
mod rust;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use certbind_verify::{Algorithm, REASONS};
use serde_json::{Map, Value};

use crate::house;
use crate::support::golden;
use case::{Case, defaults};
use keys::Signatures;

const FOLDER: &str = "tests/vectors";

/// A file of vectors: its name, what it is about, its cases.
type File = (&'static str, &'static str, fn() -> Vec<Case>);

const FILES: [File; 8] = [
    ("header.json", header::ABOUT, header::cases),
    ("jws.json", jws::ABOUT, jws::cases),
    ("issuer-keys.json", issuer_keys::ABOUT, issuer_keys::cases),
    ("claims.json", claims::ABOUT, claims::cases),
    ("binding.json", binding::ABOUT, binding::cases),
    ("revocation.json", revocation::ABOUT, revocation::cases),
    ("demand.json", demand::ABOUT, demand::cases),
    ("order.json", demand::ABOUT_ORDER, demand::order),
];

#[test]
fn golden_vectors() {
    let on_disk: Vec<String> = FILES
        .iter()
        .map(|(name, ..)| path(name))
        .filter(|path| house::exists(path))
        .map(|path| house::read(&path))
        .collect();
    let signatures = Signatures::of(on_disk.iter().map(String::as_str));
    for (name, about, cases) in FILES {
        golden::page_holds(&path(name), &written(about, &cases(), &signatures));
    }
}

#[test]
fn the_verifier_gives_the_verdict_of_every_vector() {
    for vector in vectors() {
        assert_eq!(rust::verdict(&vector.members), *vector.verdict(), "{}: {}", vector.file, vector.name());
    }
}

#[test]
fn the_vectors_have_every_reason_every_algorithm_and_no_name_twice() {
    let vectors = vectors();
    let reasons: BTreeSet<&str> =
        vectors.iter().filter_map(|vector| vector.verdict()["denied"]["reason"].as_str()).collect();
    assert_eq!(reasons.into_iter().collect::<Vec<_>>(), REASONS);
    for algorithm in Algorithm::ALL {
        let name = format!("signed with {algorithm}");
        let good = vectors.iter().find(|vector| vector.name() == name).unwrap();
        assert!(good.verdict()["accepted"].is_object(), "{name}");
    }
    let names: BTreeSet<_> = vectors.iter().map(|vector| (vector.file, vector.name())).collect();
    assert_eq!(names.len(), vectors.len());
}

#[test]
fn the_page_of_the_vectors_names_every_file_member_and_reason() {
    let page = house::read("tests/vectors/README.md");
    let count = format!("{} cases", vectors().len());
    assert!(page.contains(&count), "{count}");
    let ticked: BTreeSet<String> = house::ticked(&page).into_iter().collect();
    let files = FILES.iter().map(|(name, ..)| (*name).to_owned());
    let members = vectors().into_iter().flat_map(|vector| vector.members.into_iter().map(|(name, _)| name));
    let settings = defaults()["settings"].as_object().unwrap().clone().into_iter().map(|(name, _)| name);
    let reasons = REASONS.iter().map(|reason| (*reason).to_owned());
    let missing: BTreeSet<String> =
        files.chain(members).chain(settings).chain(reasons).filter(|name| !ticked.contains(name)).collect();
    assert!(missing.is_empty(), "tests/vectors/README.md says nothing of {missing:?}");
}

/// One case as somebody reads it who has only the files: the members of the case in place of those of the defaults.
struct Vector {
    file: &'static str,
    members: Map<String, Value>,
}

impl Vector {
    fn name(&self) -> &str {
        self.members["name"].as_str().unwrap()
    }

    fn verdict(&self) -> &Value {
        &self.members["verdict"]
    }
}

/// All of them, from the files.
fn vectors() -> Vec<Vector> {
    let of_file = |(file, ..): &File| {
        let whole: Value = serde_json::from_str(&house::read(&path(file))).unwrap();
        let with_defaults = |case: &Value| {
            let mut members = whole["defaults"].as_object().unwrap().clone();
            members.extend(case.as_object().unwrap().clone());
            Vector { file, members }
        };
        whole["cases"].as_array().unwrap().iter().map(with_defaults).collect::<Vec<_>>()
    };
    FILES.iter().flat_map(of_file).collect()
}

fn path(file: &str) -> String {
    format!("{FOLDER}/{file}")
}

/// The text of a file: a member of a case a line.
fn written(about: &str, cases: &[Case], signatures: &Signatures) -> String {
    let mut text = format!("{{\n  \"about\": {},\n  \"defaults\": {{\n", Value::from(about));
    lines(&mut text, defaults().into_iter(), "    ");
    text.push_str("  },\n  \"cases\": [\n");
    for (at, case) in cases.iter().enumerate() {
        text.push_str("    {\n");
        lines(&mut text, case.members(signatures).into_iter(), "      ");
        text.push_str(if at + 1 < cases.len() { "    },\n" } else { "    }\n" });
    }
    text.push_str("  ]\n}\n");
    text
}

fn lines(text: &mut String, members: impl ExactSizeIterator<Item = (String, Value)>, indent: &str) {
    let last = members.len() - 1;
    for (at, (name, value)) in members.enumerate() {
        writeln!(text, "{indent}{}: {value}{}", Value::from(name), if at < last { "," } else { "" }).unwrap();
    }
}
