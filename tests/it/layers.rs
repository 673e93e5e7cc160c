//! Holds `src/` to the table of layers in ARCHITECTURE.md, and `certbind-proto` to its promise of no I/O.

use std::collections::{BTreeMap, BTreeSet};

use crate::house;

/// What a layer may import, and what it must not use.
#[derive(Debug, Default)]
struct Rule {
    may_import: BTreeSet<String>,
    may_import_everything: bool,
    must_not_use: BTreeSet<String>,
}

type Rules = BTreeMap<String, Rule>;

/// The crates that stand behind a name of the column "must not use".
const FAMILIES: &[(&str, &[&str])] = &[
    ("hyper", &["http_body", "http_body_util", "hyper", "hyper_util"]),
    ("rustls", &["rustls", "tokio_rustls"]),
    ("tokio", &["tokio"]),
];

/// Crates that open sockets, files or threads, or wait: none of them may stand below `certbind-proto`.
const WAITING: &[&str] = &[
    "async-std",
    "futures-util",
    "h2",
    "hyper",
    "hyper-util",
    "mio",
    "notify",
    "rcgen",
    "reqwest",
    "rusqlite",
    "rustls",
    "rustls-native-certs",
    "smol",
    "socket2",
    "tokio",
    "tokio-rustls",
    "ureq",
];

/// What would be I/O in the sources of `certbind-proto` without any crate.
const IO_OF_STD: &[&str] = &[
    "async fn",
    ".await",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "UnixStream",
    "std::fs",
    "std::process",
    "std::thread",
    "ToSocketAddrs",
];

#[test]
fn no_layer_imports_what_the_table_does_not_allow() {
    let rules = rules();
    let complaints: Vec<String> = house::programs("src")
        .iter()
        .filter_map(|file| Some((file, layer_of(file)?)))
        .flat_map(|(file, layer)| complaints(&rules, file, &layer, &house::read(file)))
        .collect();
    assert!(complaints.is_empty(), "ARCHITECTURE.md does not allow:\n{}", complaints.join("\n"));
}

#[test]
fn every_layer_has_a_row_and_every_row_a_layer() {
    let layers: BTreeSet<String> = house::files("src").iter().filter_map(|file| layer_of(file)).collect();
    assert_eq!(layers, rules().into_keys().collect());
    let lib = house::code(&house::read("src/lib.rs"));
    let modules: BTreeSet<String> = lib.lines().filter(|line| !line.trim().is_empty()).map(module_of).collect();
    assert_eq!(layers, modules, "src/lib.rs");
}

#[test]
fn the_layers_have_no_cycle() {
    assert_eq!(cycle(&rules()), None);
    let turned = |text: &str| cycle(&read_rules(&format!("{HEADING}\n| layer | may | not |\n|---|---|---|\n{text}")));
    assert_eq!(turned("| `a` | b | |\n| `b` | c | |\n| `c` | – | |\n"), None);
    assert!(turned("| `a` | b | |\n| `b` | c | |\n| `c` | a | |\n").is_some());
}

#[test]
fn the_table_permits_nothing_that_is_not_needed() {
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in house::programs("src") {
        let Some(layer) = layer_of(&file) else { continue };
        let imports = imports(&house::code(&house::read(&file)), &module_path(&file)).into_iter();
        used.entry(layer).or_default().extend(imports.map(|(_, name)| name));
    }
    for (layer, rule) in rules() {
        let unused: Vec<_> = rule.may_import.difference(&used[&layer]).collect();
        assert!(unused.is_empty(), "`{layer}` does not import {unused:?}");
    }
}

#[test]
fn an_import_that_is_not_allowed_is_found() {
    let rules = rules();
    let found = |file: &str, source: &str| complaints(&rules, file, &layer_of(file).unwrap(), source);
    for (file, source) in [
        ("src/net/tls.rs", "use crate::authn::Presented;"),
        ("src/net/tls.rs", "use crate::{\n    config::Config,\n};"),
        ("src/grant/mod.rs", "fn f() -> crate::mint::Minted { todo() }"),
        ("src/store/sqlite/queue.rs", "use super::super::super::registry::Registry;"),
        ("src/audit.rs", "use super::flow::Refusal;"),
        ("src/authn/mod.rs", "use {crate::flow::Flows, std::fmt};"),
        ("src/authn/mod.rs", "use crate::*;"),
        ("src/authn/mod.rs", "use crate as house;"),
        ("src/authn/mod.rs", "use certbind_client::TokenSource;"),
        ("src/authn/mod.rs", "use ::hyper::Request;"),
        ("src/grant/mod.rs", "async fn f() { tokio::task::yield_now().await }"),
        ("src/flow/mod.rs", "use hyper_util::rt::TokioIo;"),
        ("src/http/mod.rs", "use tokio_rustls as tls;"),
    ] {
        assert_eq!(found(file, source).len(), 1, "{file}: {source}");
    }
    for (file, source) in [
        ("src/flow/mod.rs", "use crate::{audit::Event, authn::Presented};"),
        ("src/store/sqlite/queue.rs", "use super::super::StoreError;"),
        ("src/store/mod.rs", "use crate::store::memory; // not crate::cli"),
        ("src/store/mod.rs", "#[cfg(test)]\nmod tests { use crate::cli; use hyper::Request; }"),
        ("src/authn/mod.rs", "const WORD: &str = \"crate::cli, hyper::Request\";"),
        ("src/authn/mod.rs", "fn f(hyper: u8) -> u8 { hyper }"),
    ] {
        assert_eq!(found(file, source), [""; 0], "{file}: {source}");
    }
}

#[test]
fn certbind_proto_has_no_dependency_that_waits() {
    let manifest: toml::Table = house::read("crates/certbind-proto/Cargo.toml").parse().unwrap();
    let direct = manifest["dependencies"].as_table().unwrap().keys().cloned().collect();
    let below = reachable(&house::read("Cargo.lock"), direct);
    let waiting: Vec<_> = WAITING.iter().filter(|name| below.contains(**name)).collect();
    assert!(waiting.is_empty(), "certbind-proto reaches {waiting:?}");
    // The walk itself finds what is there: the server does wait.
    assert!(reachable(&house::read("Cargo.lock"), vec!["certbind".to_owned()]).contains("tokio"));
}

#[test]
fn certbind_proto_does_no_io_of_its_own() {
    for file in house::programs("crates/certbind-proto/src") {
        let code = house::code(&house::read(&file));
        let found: Vec<_> = IO_OF_STD.iter().filter(|io| code.contains(**io)).collect();
        assert!(found.is_empty(), "{file}: {found:?}");
    }
}

const HEADING: &str = "## Layers of `src/`";

fn rules() -> Rules {
    read_rules(&house::read("ARCHITECTURE.md"))
}

/// Reads the table; a row may have several layers.
fn read_rules(page: &str) -> Rules {
    let mut rules = Rules::new();
    for row in house::table(page, HEADING) {
        let [layers, may, must_not] = row.try_into().expect("three cells");
        for layer in house::ticked(&layers) {
            let may_import_everything = may == "everything";
            let may_import = names(&may).filter(|_| !may_import_everything).collect();
            let rule = Rule { may_import, may_import_everything, must_not_use: names(&must_not).collect() };
            assert!(rules.insert(layer.clone(), rule).is_none(), "`{layer}` has two rows");
        }
    }
    rules
}

fn names(cell: &str) -> impl Iterator<Item = String> {
    cell.split(',').map(|name| name.trim().trim_matches('`').to_owned()).filter(|name| !name.is_empty() && name != "–")
}

/// `src/net/tls.rs` is of `net`, `src/audit.rs` of `audit`; `lib.rs` and `main.rs` are of no layer.
fn layer_of(file: &str) -> Option<String> {
    let first = module_path(file).into_iter().next()?;
    (first != "lib" && first != "main").then_some(first)
}

/// `src/store/sqlite/queue.rs` is `store::sqlite::queue`.
fn module_path(file: &str) -> Vec<String> {
    let inner = file.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    inner.split('/').map(str::to_owned).collect()
}

fn module_of(line: &str) -> String {
    let name = line.trim().strip_prefix("pub mod ").and_then(|rest| rest.strip_suffix(';'));
    name.unwrap_or_else(|| panic!("src/lib.rs is the list of modules, not `{line}`")).to_owned()
}

/// What is wrong with the imports of one file.
fn complaints(rules: &Rules, file: &str, layer: &str, source: &str) -> Vec<String> {
    let code = house::code(source);
    let rule = &rules[layer];
    let at = |position: usize| format!("{file}:{}", 1 + code[..position].matches('\n').count());
    let imports = imports(&code, &module_path(file)).into_iter();
    let forbidden = imports.filter(|(_, name)| !rule.may_import_everything && !rule.may_import.contains(name));
    let mut found: Vec<String> =
        forbidden.map(|(position, name)| format!("{}: `{layer}` imports `{name}`", at(position))).collect();
    for family in &rule.must_not_use {
        let (_, members) = FAMILIES.iter().find(|(name, _)| name == family).expect("a family of crates");
        let uses = members.iter().flat_map(|member| uses_of_crate(&code, member));
        found.extend(uses.map(|position| format!("{}: `{layer}` uses `{family}`", at(position))));
    }
    found
}

/// Every other layer and every crate of ours that the code names, with its place. A path that cannot be followed is named whole.
fn imports(code: &str, module: &[String]) -> Vec<(usize, String)> {
    let from_root = words(code, "crate").flat_map(|at| firsts(code, at + "crate".len()));
    let upwards = words(code, "super").filter_map(|at| above(code, at, module.len()));
    let crates = ["certbind_client", "certbind_devpki", "certbind_https", "certbind_verify"];
    let ours = crates.iter().flat_map(|name| uses_of_crate(code, name).map(|at| (at, (*name).to_owned())));
    from_root.chain(upwards.flatten()).chain(ours).filter(|(_, name)| *name != module[0]).collect()
}

/// The first name of each path in what follows `crate`: `::a::b` has `a`, `::{a::b, c}` has `a` and `c`.
fn firsts(code: &str, after: usize) -> Vec<(usize, String)> {
    let rest = code[after..].trim_start();
    let Some(path) = rest.strip_prefix("::").map(str::trim_start) else {
        // `pub(crate)` names no path; `use crate as x` would name them all.
        return if rest.starts_with("as ") { vec![(after, "crate as …".to_owned())] } else { Vec::new() };
    };
    let Some(group) = path.strip_prefix('{') else { return vec![(after, first_word(path))] };
    let mut depth = 0_usize;
    let top_level: String = group
        .chars()
        .take_while(|c| {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => return false,
                '}' => depth -= 1,
                _ => {}
            }
            true
        })
        .scan(0_i32, |depth, c| {
            *depth += i32::from(c == '{') - i32::from(c == '}');
            Some(if *depth > 0 || c == '}' { ' ' } else { c })
        })
        .collect();
    top_level.split(',').map(str::trim).filter(|path| !path.is_empty()).map(|path| (after, first_word(path))).collect()
}

fn first_word(path: &str) -> String {
    let word: String = path.chars().take_while(|c| house::is_word(*c)).collect();
    if word.is_empty() { path.chars().take(1).collect() } else { word }
}

/// Where a chain of `super` leads when it leaves the layer. Chains begin where no `super::` stands before.
fn above(code: &str, at: usize, depth: usize) -> Option<Vec<(usize, String)>> {
    if code[..at].trim_end().ends_with("super::") {
        return None;
    }
    let mut supers = 0;
    let mut rest = &code[at..];
    while let Some(next) = rest.strip_prefix("super") {
        supers += 1;
        match next.trim_start().strip_prefix("::") {
            Some(path) => rest = path.trim_start(),
            None => return None,
        }
    }
    match supers {
        _ if supers < depth => None,
        _ if supers == depth => Some(firsts(code, code.len() - rest.len() - 2)),
        _ => Some(vec![(at, "super::…".to_owned())]),
    }
}

/// Where a crate is named as the start of a path or by `use`.
fn uses_of_crate<'a>(code: &'a str, name: &'a str) -> impl Iterator<Item = usize> + 'a {
    words(code, name).filter(move |at| {
        let before = code[..*at].trim_end();
        let after = code[at + name.len()..].trim_start();
        let is_start = !before.ends_with("::") || before.trim_end_matches("::").ends_with([' ', '(', '<', '\n', '&']);
        is_start && (after.starts_with("::") || (before.ends_with("use") && after.starts_with([';', 'a'])))
    })
}

/// Where a whole word stands.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> {
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        !code[..*at].ends_with(house::is_word) && !code[at + word.len()..].starts_with(house::is_word)
    })
}

/// The layers that lead back to themselves: what is left when layers without imports are taken away again and again.
fn cycle(rules: &Rules) -> Option<Vec<String>> {
    let mut left: BTreeMap<&String, BTreeSet<&String>> = rules
        .iter()
        .filter(|(_, rule)| !rule.may_import_everything)
        .map(|(layer, rule)| (layer, rule.may_import.iter().filter(|name| rules.contains_key(*name)).collect()))
        .collect();
    loop {
        let free: Vec<&String> = left.iter().filter(|(_, needs)| needs.is_empty()).map(|(layer, _)| *layer).collect();
        if free.is_empty() {
            break;
        }
        for layer in free {
            left.remove(layer);
            for needs in left.values_mut() {
                needs.remove(layer);
            }
        }
    }
    (!left.is_empty()).then(|| left.into_keys().cloned().collect())
}

/// Every package that the lock file has below these, tests of ours left out by starting at their dependencies.
fn reachable(lock: &str, mut open: Vec<String>) -> BTreeSet<String> {
    let lock: toml::Table = lock.parse().unwrap();
    let mut found = BTreeSet::new();
    while let Some(name) = open.pop() {
        if !found.insert(name.clone()) {
            continue;
        }
        for package in
            lock["package"].as_array().unwrap().iter().filter(|package| package["name"].as_str() == Some(&name))
        {
            let below = package.get("dependencies").and_then(toml::Value::as_array).into_iter().flatten();
            // `name version` when there are several versions.
            open.extend(below.map(|entry| entry.as_str().unwrap().split(' ').next().unwrap().to_owned()));
        }
    }
    found
}
