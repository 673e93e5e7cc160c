//! Credential files that are read while somebody writes them.

use std::fs;
use std::sync::atomic::AtomicBool;

use super::folder::{CHAIN, Folder, KEY};
use super::*;

/// The fact alone.
fn loaded(files: &CredentialFiles) -> String {
    match files.load() {
        Ok(credential) => {
            credential.certificate().map_or("no certificate".to_owned(), |shown| shown.thumbprint().to_string())
        }
        Err(fault) => format!("{fault:?}").split([' ', '(', '{']).next().unwrap_or_default().to_owned(),
    }
}

fn thumbprint(identity: &Identity) -> String {
    certificate_of(identity).thumbprint().to_string()
}

fn half(text: &str) -> String {
    text[..text.len() / 2].to_owned()
}

#[test]
fn rfc8705_6_3_a_rotation_on_disk_is_seen_as_a_whole_or_not_at_all() {
    let pki = Pki::new();
    let (old, new) = (pki.client(ALWAYS), pki.client(ALWAYS));
    let (before, after) = (thumbprint(&old), thumbprint(&new));
    let chain = |identity: &Identity| (CHAIN, identity.chain_pem());
    let key = |identity: &Identity| (KEY, identity.key_pem());
    let empty = |name| (name, String::new());
    let half = |(name, text): (&'static str, String)| (name, half(&text));
    for (order, steps) in [
        (
            "certificate first, as an editor writes",
            [
                (empty(CHAIN), "NoCertificate"),
                (half(chain(&new)), "NoCertificate"),
                (chain(&new), "KeyMismatch"),
                (empty(KEY), "NoKey"),
                (half(key(&new)), "NoKey"),
                (key(&new), after.as_str()),
            ],
        ),
        (
            "key first",
            [
                (empty(KEY), "NoKey"),
                (half(key(&new)), "NoKey"),
                (key(&new), "KeyMismatch"),
                (half(chain(&new)), "NoCertificate"),
                (chain(&new), after.as_str()),
                (chain(&new), after.as_str()),
            ],
        ),
        (
            "taken back half-way",
            [
                (chain(&new), "KeyMismatch"),
                (half(key(&new)), "NoKey"),
                (key(&old), "KeyMismatch"),
                (half(chain(&old)), "NoCertificate"),
                (chain(&old), before.as_str()),
                (key(&old), before.as_str()),
            ],
        ),
    ] {
        let folder = Folder::with(&old);
        assert_eq!(loaded(&folder.files()), before, "{order}");
        for ((name, text), expected) in steps {
            folder.overwrite(name, &text);
            assert_eq!(loaded(&folder.files()), expected, "{order}: {name} with {} bytes", text.len());
        }
    }
}

#[test]
fn files_that_are_gone_or_open_or_no_files_give_no_credential() {
    let pki = Pki::new();
    let identity = pki.client(ALWAYS);
    let good = || Folder::with(&identity);
    type Spoil = fn(&Folder);
    let cases: [(Spoil, &str); 7] = [
        (|folder| folder.remove(CHAIN), "Unreadable"),
        (|folder| folder.remove(KEY), "Unreadable"),
        (|folder| folder.set_mode(KEY, 0o604), "KeyExposed"),
        (|folder| folder.set_mode(KEY, 0o602), "KeyExposed"),
        (|folder| folder.overwrite(CHAIN, &"x".repeat(1024 * 1024 + 1)), "TooLarge"),
        (|folder| folder.overwrite(KEY, &"x".repeat(1024 * 1024 + 1)), "TooLarge"),
        (
            |folder| {
                folder.remove(KEY);
                fs::create_dir(folder.path(KEY)).expect("a folder");
            },
            "NotAFile",
        ),
    ];
    for (spoil, expected) in cases {
        let folder = good();
        assert_eq!(loaded(&folder.files()), thumbprint(&identity));
        spoil(&folder);
        assert_eq!(loaded(&folder.files()), expected);
    }
    let folder = good();
    folder.remove(CHAIN);
    let pipe = std::process::Command::new("mkfifo").arg(folder.path(CHAIN)).status().expect("mkfifo");
    assert!(pipe.success());
    assert_eq!(loaded(&folder.files()), "NotAFile", "a pipe would be waited for");
    // Also one that is put there at the moment of the opening: nothing looked before.
    let opened = crate::files::read(&folder.path(CHAIN), crate::files::open_regular).map(drop);
    assert!(matches!(opened, Err(CredentialFault::NotAFile { .. })), "{opened:?}");
    // It can be read once, by whoever waits for what comes.
    let chain = good();
    let writer = std::thread::spawn({
        let (from, to) = (chain.path(CHAIN), folder.path(CHAIN));
        move || fs::write(to, fs::read(from).expect("a chain")).expect("written")
    });
    fs::copy(chain.path(KEY), folder.path(KEY)).expect("its key");
    let once = folder.files().load_once().expect("a credential");
    writer.join().expect("the writer");
    assert_eq!(once.certificate().map(|shown| shown.thumbprint().to_string()), Some(thumbprint(&identity)));
}

#[test]
fn a_link_that_is_swapped_while_files_are_read_gives_no_mixed_pair() {
    let pki = Pki::new();
    let identities: Vec<_> = (0..200).map(|_| pki.client(ALWAYS)).collect();
    let known: Vec<_> = identities.iter().map(thumbprint).collect();
    let folder = Folder::new();
    folder.relink(0, &identities[0]);
    let (done, files) = (AtomicBool::new(false), folder.files());
    let seen = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = Vec::new();
            while !done.load(Ordering::SeqCst) {
                seen.push(loaded(&files));
            }
            seen
        });
        for (generation, identity) in identities.iter().enumerate().skip(1) {
            folder.relink(generation, identity);
        }
        done.store(true, Ordering::SeqCst);
        reader.join().expect("no panic")
    });
    let whole = seen.iter().filter(|found| known.contains(found)).count();
    assert!(whole > 0, "{seen:?}");
    let others: Vec<_> = seen.iter().filter(|found| !known.contains(found) && *found != "Changing").collect();
    assert!(others.is_empty(), "{others:?}");
    assert_eq!(loaded(&files), known[199]);
}

#[test]
fn rfc7523_2_2_the_key_for_assertions_is_of_the_same_snapshot() {
    let pki = Pki::new();
    let identity = pki.client(ALWAYS);
    let folder = Folder::with(&identity);
    folder.replace("assertion.pem", &identity.key_pem());
    let key = AssertionKeyFile {
        algorithm: Some(Algorithm::Es256),
        kid: Some("k1".to_owned()),
        path: folder.path("assertion.pem"),
    };
    let bound = CredentialFiles::PrivateKeyJwt { certificate: Some(folder.pair()), key: key.clone() };
    assert_eq!(loaded(&bound), thumbprint(&identity));
    assert_eq!(loaded(&CredentialFiles::PrivateKeyJwt { certificate: None, key }), "no certificate");
    folder.set_mode("assertion.pem", 0o644);
    assert_eq!(loaded(&bound), "KeyExposed");
    folder.set_mode("assertion.pem", 0o600);
    folder.remove(CHAIN);
    assert_eq!(loaded(&bound), "Unreadable", "a certificate that is gone is not left out");
}
