//! What the lock files hold below certbind, and below what the tests build beside it: nothing that is banned, nothing older than what
//! mended a known weakness.

use std::collections::BTreeSet;
use std::process::Command;

use crate::house;
use crate::support::finish::Finish as _;

/// The lowest version of each crate in which the weaknesses that concern us are mended; only those in the lock file count.
const LOWEST: &[(&str, &str)] = &[
    ("aws-lc-sys", "0.39.0"),
    ("bytes", "1.11.1"),
    ("h2", "0.4.18"),
    ("hyper", "1.11.0"),
    ("idna", "1.0.0"),
    ("jsonwebtoken", "10.3.0"),
    ("postgres-protocol", "0.6.12"),
    ("ring", "0.17.12"),
    ("rustls", "0.23.18"),
    ("rustls-webpki", "0.103.13"),
    ("time", "0.3.47"),
    ("tokio-postgres", "0.7.18"),
    ("tracing-subscriber", "0.3.20"),
];

/// The folders with a Cargo.lock of their own.
const LOCKED: &[&str] = &["", "tests/reqwest/"];

/// Each Cargo.lock names ring, as an optional dependency that a feature of rustls-webpki speaks of; it is never built.
const NAMED_BUT_NOT_BUILT: &[&str] = &["ring"];

#[test]
fn nothing_that_is_banned_is_locked() {
    let banned = banned();
    assert!(banned.contains("rsa") && banned.contains("openssl"), "deny.toml");
    for (file, lock) in locks() {
        let locked: BTreeSet<String> = locked(&lock).into_iter().map(|(name, _)| name).collect();
        let found: Vec<_> =
            banned.intersection(&locked).filter(|name| !NAMED_BUT_NOT_BUILT.contains(&name.as_str())).collect();
        assert!(found.is_empty(), "{file}: deny.toml bans {found:?}");
    }
}

#[test]
fn what_is_banned_and_only_named_is_not_built() {
    for (folder, name) in LOCKED.iter().flat_map(|folder| NAMED_BUT_NOT_BUILT.iter().map(move |name| (folder, name))) {
        let tree = Command::new(env!("CARGO"))
            .args(["tree", "--workspace", "--all-features", "--offline", "--locked", "--invert", name])
            .current_dir(house::root().join(folder))
            .finish();
        assert!(tree.status.success(), "{folder}: {}", String::from_utf8_lossy(&tree.stderr));
        assert_eq!(String::from_utf8_lossy(&tree.stdout), "", "{folder}: {name} is built");
    }
}

#[test]
fn nothing_is_older_than_what_mended_a_weakness() {
    for (file, lock) in locks() {
        let too_old = too_old(&lock);
        assert!(too_old.is_empty(), "{file}: {too_old:?}");
    }
    let spoilt = "[[package]]\nname = \"h2\"\nversion = \"0.4.9\"\n[[package]]\nname = \"h2\"\nversion = \"0.4.18\"\n";
    assert_eq!(self::too_old(spoilt), ["h2 0.4.9 is below 0.4.18"]);
}

#[test]
fn every_lock_file_is_looked_at() {
    let found = house::files("").into_iter().filter(|file| file.ends_with("Cargo.lock"));
    assert_eq!(found.collect::<Vec<_>>(), locks().map(|(file, _)| file).collect::<Vec<_>>());
}

#[test]
fn the_toolchain_is_the_one_that_the_manifest_and_the_readme_name() {
    let manifest: toml::Table = house::read("Cargo.toml").parse().unwrap();
    let version = manifest["workspace"]["package"]["rust-version"].as_str().unwrap();
    assert!(house::read("README.md").contains(&format!("({version} or newer)")));
    let beside: toml::Table = house::read("tests/reqwest/Cargo.toml").parse().unwrap();
    assert_eq!(beside["package"]["rust-version"].as_str(), Some(version));
}

fn locks() -> impl Iterator<Item = (String, String)> {
    LOCKED.iter().map(|folder| format!("{folder}Cargo.lock")).map(|file| (file.clone(), house::read(&file)))
}

fn banned() -> BTreeSet<String> {
    let deny: toml::Table = house::read("deny.toml").parse().unwrap();
    let entries = deny["bans"]["deny"].as_array().unwrap().iter();
    entries.map(|entry| entry["crate"].as_str().unwrap().to_owned()).collect()
}

fn locked(lock: &str) -> Vec<(String, String)> {
    let lock: toml::Table = lock.parse().unwrap();
    let packages = lock["package"].as_array().unwrap().iter();
    packages
        .map(|package| (package["name"].as_str().unwrap().to_owned(), package["version"].as_str().unwrap().to_owned()))
        .collect()
}

fn too_old(lock: &str) -> Vec<String> {
    let found = locked(lock).into_iter().filter_map(|(name, version)| {
        let (_, lowest) = LOWEST.iter().find(|(least, _)| *least == name)?;
        (numbers(&version) < numbers(lowest)).then(|| format!("{name} {version} is below {lowest}"))
    });
    found.collect()
}

/// `1.11.1+build` is 1, 11, 1.
fn numbers(version: &str) -> Vec<u64> {
    let plain = version.split(['+', '-']).next().unwrap();
    plain.split('.').map(|number| number.parse().unwrap()).collect()
}
