//! Golden files: what users and their tools see, kept in `tests/golden/`. `UPDATE_GOLDEN=1 cargo test` writes them anew.

use std::fs;
use std::path::PathBuf;

/// Holds `seen` against the golden file of this name.
pub(crate) fn holds(name: &str, seen: &str) {
    page_holds(&format!("tests/golden/{name}"), seen);
}

/// Holds a page of the documentation, named from the root, against what it should be.
pub(crate) fn page_holds(name: &str, seen: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name);
    if is_update() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, seen).unwrap();
        return;
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    if golden == seen {
        return;
    }
    let at = golden.lines().zip(seen.lines()).take_while(|(golden, seen)| golden == seen).count();
    let line = |text: &str| text.lines().nth(at).unwrap_or("<end of file>").to_owned();
    panic!(
        "{name}, line {}:\n  golden: {}\n  seen:   {}\nIf that is meant: UPDATE_GOLDEN=1 cargo test --test it golden",
        at + 1,
        line(&golden),
        line(seen)
    );
}

#[expect(clippy::disallowed_methods, reason = "a switch for whoever runs the tests")]
fn is_update() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}
