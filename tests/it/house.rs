//! Reads this repository: its sources without comments, texts and tests, the tables and fenced blocks of its pages.
//!
//! What the other tests of the house decide rests on this; it reads text, not syntax trees, so it is a fence and no wall.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The folder of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file that is named from the root.
pub(crate) fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Every file below a folder, named from the root with slashes, in order. Build folders are left out.
pub(crate) fn files(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true if path.ends_with("target") || path.ends_with(".git") => {}
                true => folders.push(path),
                false => found.push(named_from_root(&path)),
            }
        }
    }
    found.sort();
    found
}

fn named_from_root(path: &Path) -> String {
    let parts: Vec<_> = path.strip_prefix(root()).unwrap().iter().map(|part| part.to_str().unwrap()).collect();
    parts.join("/")
}

/// The Rust files of a folder that are part of the program: no `tests.rs`, nothing in `tests/`, `benches/`, `examples/`.
pub(crate) fn programs(folder: &str) -> Vec<String> {
    let is_program = |file: &String| {
        let below = &file[folder.len()..];
        file.ends_with(".rs")
            && !below.ends_with("/tests.rs")
            && !["/tests/", "/benches/", "/examples/", "/fuzz/"].iter().any(|tests| below.contains(tests))
    };
    files(folder).into_iter().filter(is_program).collect()
}

/// The name of every function in the Rust files of the repository whose attributes call it a test.
pub(crate) fn test_functions() -> BTreeSet<String> {
    let sources = files("").into_iter().filter(|file| file.ends_with(".rs"));
    sources.flat_map(|file| tests_of(&without_comments(&read(&file)))).collect()
}

/// The names that follow `#[test]`, `#[tokio::test…]` or stand in `proptest!`, where each function has that attribute too.
pub(crate) fn tests_of(source: &str) -> Vec<String> {
    let marks = ["#[test]", "#[tokio::test"];
    let starts = marks.iter().flat_map(|mark| source.match_indices(mark));
    let names = starts.filter_map(|(at, _)| {
        let function = source[at..].find("fn ")? + at + "fn ".len();
        Some(source[function..].chars().take_while(|c| is_word(*c)).collect())
    });
    names.collect()
}

/// Whether a character can stand in an identifier.
pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// A source without comments, texts and the items under `#[cfg(test)]`; lines keep their numbers.
pub(crate) fn code(source: &str) -> String {
    without_tests(&blank(source, Blank::CommentsAndTexts))
}

/// A source without comments and the items under `#[cfg(test)]`, texts kept.
pub(crate) fn code_with_texts(source: &str) -> String {
    // Braces inside texts would mislead whoever counts them: the tests are found in the text-free source.
    let kept: Vec<char> = without_comments(source).chars().collect();
    let plain: Vec<char> = code(source).chars().collect();
    let commented: Vec<char> = blank(source, Blank::CommentsAndTexts).chars().collect();
    kept.iter()
        .zip(commented.iter().zip(&plain))
        .map(|(kept, (before, after))| if before == after { *kept } else { ' ' })
        .collect()
}

/// A source without comments.
pub(crate) fn without_comments(source: &str) -> String {
    blank(source, Blank::Comments)
}

#[derive(Clone, Copy, PartialEq)]
enum Blank {
    Comments,
    CommentsAndTexts,
}

/// Puts blanks in place of comments (and of what stands between quotation marks), one for each character.
fn blank(source: &str, what: Blank) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let end = token_end(&chars, at);
        let is_comment = chars[at] == '/' && end > at + 1;
        let is_text = end > at + 1 && !is_comment;
        for c in &chars[at..end] {
            let is_hidden = is_comment || (is_text && what == Blank::CommentsAndTexts);
            out.push(if is_hidden && *c != '\n' { ' ' } else { *c });
        }
        at = end;
    }
    out
}

/// Where the comment, text or character that starts at `at` ends; the next character when there is none.
fn token_end(chars: &[char], at: usize) -> usize {
    let next = |offset: usize| chars.get(at + offset).copied().unwrap_or(' ');
    match (chars[at], next(1)) {
        ('/', '/') => find(chars, at, |rest| rest[0] == '\n'),
        ('/', '*') => block_comment_end(chars, at),
        ('"', _) => quoted_end(chars, at + 1, '"'),
        ('r', '"' | '#') if at == 0 || !is_word(chars[at - 1]) || chars[at - 1] == 'b' => raw_text_end(chars, at),
        ('\'', '\\') => quoted_end(chars, at + 1, '\''),
        ('\'', _) if next(2) == '\'' => at + 3,
        _ => at + 1,
    }
}

fn find(chars: &[char], from: usize, is_end: impl Fn(&[char]) -> bool) -> usize {
    (from..chars.len()).find(|at| is_end(&chars[*at..])).unwrap_or(chars.len())
}

fn block_comment_end(chars: &[char], from: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = from;
    while at < chars.len() {
        match chars[at..] {
            ['/', '*', ..] => depth += 1,
            ['*', '/', ..] => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            break;
        }
    }
    at.min(chars.len())
}

fn quoted_end(chars: &[char], from: usize, mark: char) -> usize {
    let mut at = from;
    while at < chars.len() && chars[at] != mark {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

fn raw_text_end(chars: &[char], at: usize) -> usize {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    if chars.get(at + 1 + hashes) != Some(&'"') {
        return at + 1;
    }
    let is_end = |rest: &[char]| rest[0] == '"' && rest[1..].iter().take_while(|c| **c == '#').count() >= hashes;
    (find(chars, at + 2 + hashes, is_end) + 1 + hashes).min(chars.len())
}

/// Blanks each item that stands under `#[cfg(test)]`; `source` has neither comments nor texts.
fn without_tests(source: &str) -> String {
    let mut chars: Vec<char> = source.chars().collect();
    let mark: Vec<char> = "#[cfg(test)]".chars().collect();
    while let Some(at) = (0..chars.len()).find(|at| chars[*at..].starts_with(&mark)) {
        let end = item_end(&chars, at + mark.len());
        chars[at..end].iter_mut().filter(|c| **c != '\n').for_each(|c| *c = ' ');
    }
    chars.into_iter().collect()
}

/// The end of the item that begins at `from`: its closing brace, or its semicolon.
pub(crate) fn item_end(chars: &[char], from: usize) -> usize {
    let mut depth = 0_usize;
    for (at, c) in chars.iter().enumerate().skip(from) {
        match c {
            ';' if depth == 0 => return at + 1,
            '{' => depth += 1,
            '}' if depth <= 1 => return at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    chars.len()
}

/// The rows of the table that follows a line of a page, without its heading: cells as they are written.
pub(crate) fn table(page: &str, after: &str) -> Vec<Vec<String>> {
    let (_, rest) = page.split_once(after).unwrap_or_else(|| panic!("there is no `{after}`"));
    let lines = rest.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    lines.skip(2).map(cells).collect()
}

/// The rows of every table of a page.
pub(crate) fn tables(page: &str) -> Vec<Vec<String>> {
    let lines: Vec<&str> = page.lines().collect();
    let is_heading = |at: usize| lines.get(at + 1).is_some_and(|next| next.starts_with("|---"));
    let rows = (0..lines.len())
        .filter(|at| lines[*at].starts_with('|') && !lines[*at].starts_with("|---") && !is_heading(*at));
    rows.map(|at| cells(lines[at])).collect()
}

fn cells(line: &str) -> Vec<String> {
    let inner = line.trim().trim_start_matches('|').trim_end_matches('|');
    let escaped = inner.replace("\\|", "\u{0}");
    escaped.split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect()
}

/// What stands between backticks.
pub(crate) fn ticked(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// A fenced block of a page.
pub(crate) struct Block {
    /// The language after the fence.
    pub(crate) language: String,
    /// What stands inside.
    pub(crate) text: String,
}

/// The fenced blocks of a page.
pub(crate) fn blocks(page: &str) -> Vec<Block> {
    blocks_of(page, &read(page))
}

/// The fenced blocks of the page of a crate, which is the comment at the top of its source.
pub(crate) fn blocks_of_crate(source: &str) -> Vec<Block> {
    let text = read(source);
    let lines = text.lines().filter_map(|line| line.strip_prefix("//!"));
    let page: Vec<&str> = lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    blocks_of(source, &page.join("\n"))
}

fn blocks_of(page: &str, text: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut is_open = false;
    for line in text.lines() {
        match line.trim_start().strip_prefix("```") {
            Some(_) if is_open => is_open = false,
            Some(language) => {
                is_open = true;
                found.push(Block { language: language.to_owned(), text: String::new() });
            }
            None if is_open => {
                let block = found.last_mut().unwrap();
                block.text.push_str(line);
                block.text.push('\n');
            }
            None => {}
        }
    }
    assert!(!is_open, "{page}: a block does not end");
    found
}

/// The pages of the house: Markdown at the root, in `docs/`, beside certificates, benches and the files of deployments.
pub(crate) fn pages() -> Vec<String> {
    let mut pages: Vec<String> = files("docs").into_iter().filter(|file| file.ends_with(".md")).collect();
    for entry in fs::read_dir(root()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(named_from_root(&path));
        }
    }
    pages.extend(["benches/README.md", "certs/README.md", "deploy/README.md"].map(str::to_owned));
    pages.sort();
    pages
}

/// A path of the repository that exists.
pub(crate) fn exists(path: &str) -> bool {
    root().join(PathBuf::from(path)).exists()
}

#[test]
fn comments_texts_and_tests_are_told_from_code() {
    let source = r##"
use crate::a; // use crate::comment
/* crate::x /* crate::nested */ crate::y */
const TEXT: &str = "crate::text \" crate::text";
const RAW: &str = r#"crate::raw " crate::raw"#;
fn life<'a>(quote: char) -> bool { quote == '"' || quote == '\'' }
#[cfg(test)]
mod tests { use crate::test; fn f() { if true {} } }
use crate::b;
#[cfg(test)]
use crate::only_in_tests;
use crate::c;
"##;
    let code = code(source);
    let paths: Vec<_> = code.split("crate::").skip(1).map(|rest| &rest[..1]).collect();
    assert_eq!(paths, ["a", "b", "c"]);
    assert_eq!(code.lines().count(), source.lines().count());
    let texts = code_with_texts(source);
    assert!(texts.contains(r#""crate::text \" crate::text""#) && !texts.contains("nested"));
    assert!(!texts.contains("crate::test;"));
}

#[test]
fn tests_are_found_by_their_attribute() {
    let source = "#[test]\nfn one() {}\n#[tokio::test(flavor = \"x\")]\nasync fn two() {}\nfn three() {}";
    assert_eq!(tests_of(source), ["one", "two"]);
}

#[test]
fn tables_are_read_cell_by_cell() {
    let page = "# A\n| a | b |\n|---|---|\n| 1 | `x\\|y` |\n\n# B\n| a | b |\n|---|---|\n| 2 | 3 |\n";
    assert_eq!(tables(page), [["1", "`x|y`"], ["2", "3"]]);
    assert_eq!(table(page, "# B"), [["2", "3"]]);
    assert_eq!(ticked("`x|y`, `z`"), ["x|y", "z"]);
}
