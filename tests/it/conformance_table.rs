//! The pages of rules and attacks name only files and tests that exist, and every row has both or says why not.

use std::collections::BTreeSet;

use crate::house;

/// What stands where a row has no test: a word that says why, and the rest of the sentence.
const WHY_NOT: &[&str] = &["documented: ", "later version: ", "not applicable: "];

const LEVELS: &[&str] = &["MAY", "MUST", "POLICY", "SHOULD"];

/// One row of either page.
struct Row {
    id: String,
    words: Vec<String>,
    code: String,
    tests: String,
}

#[test]
fn every_rule_has_code_and_tests_or_says_why_not() {
    let rows = rules();
    assert!(rows.len() > 200, "{} rules", rows.len());
    let complaints = complaints(&rows, &house::test_functions());
    assert!(complaints.is_empty(), "docs/CONFORMANCE.md:\n{}", complaints.join("\n"));
    for row in &rows {
        assert!(LEVELS.contains(&row.words[0].as_str()), "{}: level {}", row.id, row.words[0]);
    }
}

#[test]
fn every_attack_is_stopped_and_tried_or_says_what_it_waits_for() {
    let rows = attacks();
    let complaints = complaints(&rows, &house::test_functions());
    assert!(complaints.is_empty(), "docs/ATTACKS.md:\n{}", complaints.join("\n"));
    let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    let promises = (1..=10).map(|number| format!("P{number}"));
    let attacks = (1..=ids.len().saturating_sub(10).max(64)).map(|number| number.to_string());
    let expected: Vec<String> = promises.chain(attacks).collect();
    assert_eq!(ids, expected, "promises and attacks stand in order, none left out");
}

#[test]
fn a_row_that_names_what_is_gone_is_found() {
    let known = BTreeSet::from(["rfc1_a".to_owned()]);
    let row = |id: &str, code: &str, tests: &str| {
        let text = |text: &str| text.to_owned();
        Row {
            id: text(id),
            words: vec![text("MUST"), text("RFC 1"), text("A rule.")],
            code: text(code),
            tests: text(tests),
        }
    };
    let good = || row("A", "`src/lib.rs`", "`rfc1_a`");
    assert_eq!(complaints(&[good()], &known), [""; 0]);
    for spoilt in [
        row("A", "`src/gone.rs`", "`rfc1_a`"),
        row("A", "`src/lib.rs`", "`rfc1_gone`"),
        row("A", "`src/lib.rs`", ""),
        row("A", "`src/lib.rs`", "because"),
        row("A", "–", "`rfc1_a`"),
        row("A", "", "later version: x"),
        Row { words: vec!["MUST".to_owned(), String::new()], ..good() },
    ] {
        assert_eq!(complaints(&[spoilt], &known).len(), 1);
    }
    assert_eq!(complaints(&[good(), good()], &known).len(), 1, "a second row with one id");
    assert_eq!(complaints(&[row("A", "–", "later version: x")], &known), [""; 0]);
}

fn rules() -> Vec<Row> {
    let rows = house::tables(&house::read("docs/CONFORMANCE.md")).into_iter();
    rows.map(|row| {
        let [id, level, section, rule, code, tests] = row.try_into().expect("six cells");
        Row { id, words: vec![level, section, rule], code, tests }
    })
    .collect()
}

fn attacks() -> Vec<Row> {
    let rows = house::tables(&house::read("docs/ATTACKS.md")).into_iter();
    rows.map(|row| {
        let [id, attack, cause, code, tests] = row.try_into().expect("five cells");
        Row { id, words: vec![attack, cause], code, tests }
    })
    .collect()
}

/// What is wrong with the rows; `known` are the tests that there are.
fn complaints(rows: &[Row], known: &BTreeSet<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    rows.iter()
        .filter_map(|row| {
            let complaint =
                if seen.insert(row.id.as_str()) { complaint(row, known)? } else { "is there twice".to_owned() };
            Some(format!("{}: {complaint}", row.id))
        })
        .collect()
}

fn complaint(row: &Row, known: &BTreeSet<String>) -> Option<String> {
    if row.words.iter().any(String::is_empty) {
        return Some("has an empty cell".to_owned());
    }
    let files = house::ticked(&row.code);
    if let Some(gone) = files.iter().find(|file| !house::exists(file)) {
        return Some(format!("there is no file {gone}"));
    }
    if WHY_NOT.iter().any(|word| row.tests.starts_with(word)) {
        return (files.is_empty() && row.code != "–").then(|| "names no code".to_owned());
    }
    let tests = house::ticked(&row.tests);
    if files.is_empty() || tests.is_empty() {
        return Some("has neither code with tests nor a reason".to_owned());
    }
    tests.iter().find(|test| !known.contains(*test)).map(|gone| format!("there is no test {gone}"))
}
