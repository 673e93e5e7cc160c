//! The sample, the documentation and the schema name the same keys as the code does.

use std::collections::BTreeSet;
use std::path::Path;

use super::super::guard::GUARD;
use super::keys::{Fallback, KEYS};
use super::*;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The sample file of a version, which has to load in every later one.
fn sample() -> Sources {
    let file = root().join("tests/config/0.1.0.toml");
    Sources { file, environment: Environment::default(), set: Vec::new() }
}

#[test]
fn the_sample_of_0_1_0_loads_and_shows_every_key() {
    let checked = inspect(&sample()).unwrap_or_else(|rejected| panic!("{rejected}"));
    assert_eq!(checked.warnings, []);
    let typed: BTreeSet<_> = checked
        .effective
        .iter()
        .filter(|shown| shown.origin != Origin::Default)
        .map(|shown| keys::pattern_of(&shown.path))
        .collect();
    // What is for a Unix socket cannot stand beside what is for mutual TLS.
    let of_sockets = "listen.proxy.users";
    let keys = KEYS.iter().map(|key| key.path.to_owned()).filter(|path| path != of_sockets);
    assert_eq!(typed, keys.collect());
}

#[test]
fn the_sample_shows_the_values_that_hold_without_it() {
    let checked = inspect(&sample()).expect("good");
    let different: Vec<_> = checked
        .effective
        .iter()
        .filter(|shown| shown.is_not_the_fallback())
        .map(|shown| keys::pattern_of(&shown.path))
        .collect();
    let expected = [
        "listen.admin.address",
        "trust.N.crl",
        "resource.N.scope",
        "storage.engine",
        "clients.dir",
        "log.audit",
        "log.audit_store",
        "log.audit_keep",
    ];
    assert_eq!(different, expected);
}

#[test]
fn what_is_shown_can_be_read_again_and_means_the_same() {
    let folder = Folder::new();
    let alone = GOOD.replace(MTLS, "[listen.proxy]\naddress = \"unix:proxy.sock\"\ncertificate_from = \"nginx\"\n");
    for text in [GOOD.to_owned(), alone, std::fs::read_to_string(sample().file).expect("read")] {
        let first = inspect(&folder.sources(&text)).expect("good");
        let second = inspect(&folder.sources(&first.effective.to_string())).expect("good");
        assert_eq!(second.config, first.config);
    }
}

#[test]
fn what_is_shown_names_each_origin() {
    let folder = Folder::new();
    let shown = folder.plain(&inspect(&folder.sources(GOOD)).expect("good").effective);
    for line in [
        "issuer = \"https://localhost:8443\"                # certbind.toml:1:1",
        "public_url = \"https://localhost:8443\"            # default",
        "crl = [\"file:corp.crl\"]                          # certbind.toml:13:1",
        "[[trust]]",
        "[assertions.jwks_fetch]",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
    assert!(!shown.contains("[listen.public]") && !shown.contains("[listen.ops]") && !shown.contains("[[resource]]"));
}

#[test]
fn the_schema_has_a_place_for_every_key() {
    let schema = schema(&keys::SERVER);
    for key in KEYS {
        let parts = key.path.split('.');
        let found = parts.fold(&schema, |at, part| if part == "N" { &at["items"] } else { &at["properties"][part] });
        assert_eq!(found["description"], key.meaning, "{}", key.path);
    }
    assert_eq!(schema["required"], serde_json::json!(["issuer"]));
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn what_may_change_while_the_server_runs_are_keys() {
    for live in keys::SERVER.live {
        let named = |key: &keys::Key| key.path == *live || (live.ends_with('.') && key.path.starts_with(live));
        assert!(KEYS.iter().any(named), "{live}");
    }
    for (path, live) in [("trust.12.crl", true), ("limits.connections", true), ("tokens.algorithm", false)] {
        assert_eq!(keys::SERVER.is_live(path), live, "{path}");
    }
}

#[test]
fn a_change_says_what_was_and_what_is() {
    let folder = Folder::new();
    let old = inspect(&folder.sources(GOOD)).expect("good").effective;
    let new = inspect(&folder.sources(&GOOD.replace("\"5m\"", "\"7m\""))).expect("good").effective;
    let changes: Vec<_> = old.changes(&new).iter().map(Change::to_string).collect();
    assert_eq!(changes, ["tokens.lifetime: \"5m\" -> \"7m\""]);
    let without_trust = GOOD.split("[[trust]]").next().expect("a beginning");
    let fewer = inspect(&folder.sources(without_trust)).expect("good").effective;
    let gone: Vec<_> = old.changes(&fewer).into_iter().map(|change| change.path).collect();
    assert!(gone.contains(&"trust.0.name".to_owned()), "{gone:?}");
    assert!(old.changes(&old).is_empty());
}

#[test]
fn the_documentation_has_the_table_of_all_keys() {
    has_table("docs/configuration.md", &table(KEYS, |path| keys::SERVER.is_live(path)));
}

#[test]
fn the_documentation_has_the_table_of_all_keys_of_the_guard() {
    has_table("docs/guard.md", &table(GUARD.keys, |path| GUARD.is_live(path)));
}

#[expect(clippy::disallowed_methods, reason = "a test that may rewrite what it compares")]
fn has_table(document: &str, table: &str) {
    const BEGIN: &str = "<!-- keys -->\n";
    const END: &str = "<!-- end of keys -->";
    let file = root().join(document);
    let text = std::fs::read_to_string(&file).expect("read");
    let (before, rest) = text.split_once(BEGIN).expect("the beginning of the table");
    let (documented, after) = rest.split_once(END).expect("the end of the table");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, [before, BEGIN, table, END, after].concat()).expect("written");
        return;
    }
    assert_eq!(documented, table, "run this test with UPDATE_GOLDEN=1 to write the table");
}

fn table(keys: &[keys::Key], is_live: impl Fn(&str) -> bool) -> String {
    let row = |key: &keys::Key| {
        let fallback = match key.fallback {
            Fallback::Derived(words) => words.to_owned(),
            Fallback::Is("") => "none".to_owned(),
            Fallback::Is(text) => format!("`{text}`"),
            Fallback::Required => "**required**".to_owned(),
        };
        let taken = if is_live(key.path) { "at once" } else { "restart" };
        format!("| `{}` | {} | {} | {} | {} |\n", key.path, key.kind, fallback, taken, key.meaning)
    };
    let rows: String = keys.iter().map(row).collect();
    format!("| key | what may stand there | without it | new value | what it means |\n|---|---|---|---|---|\n{rows}")
}
