//! One spoilt pair after the other, and a clock that is moved by hand.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use certbind_devpki::{Issuer, LeafSpec, Validity};
use certbind_proto::time::Timestamp;
use tempfile::TempDir;

use super::*;
use crate::config::Reference;

const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

/// A listener over a folder with `server.pem` and `server.key`.
struct Rig {
    dir: TempDir,
    issuer: Issuer,
    certificate: ServerCertificate,
    began: Instant,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let issuer = Issuer::root("root", validity(0)).unwrap();
        write(dir.path(), &pair(&issuer, validity(0)));
        let certificate = Reference::File(dir.path().join("server.pem"));
        let key = Reference::File(dir.path().join("server.key"));
        let files = IdentitySource { certificate, key };
        let identity = files.load("listen.mtls", &Environment::default(), NOW).unwrap();
        let tls = tls::Settings {
            certificate: certified(&identity).unwrap(),
            client_certificate: tls::ClientCertificate::Optional,
            min_version: tls::TlsVersion::Tls12,
            resumption: tls::Resumption::Off,
            suites: tls::Suites::Default,
        };
        let source = Source { listener: "mtls", table: "listen.mtls", host: Some("localhost".to_owned()), files, tls };
        let certificate = ServerCertificate::new(source, Environment::default()).unwrap();
        Self { dir, issuer, certificate, began: Instant::now() }
    }

    fn new_pair(&self) -> Pair {
        pair(&self.issuer, validity(0))
    }

    /// A look, so many milliseconds after the beginning.
    fn look(&self, millis: u64) -> String {
        self.look_at(NOW, millis)
    }

    fn look_at(&self, now: Timestamp, millis: u64) -> String {
        match self.certificate.look(now, self.began + Duration::from_millis(millis)) {
            Found::Nothing => "nothing".to_owned(),
            Found::Undecided => "undecided".to_owned(),
            Found::Taken(identity) => {
                let in_force = self.certificate.state().source.tls.certificate.cert.clone();
                assert_eq!(identity.chain, in_force);
                "taken".to_owned()
            }
            Found::Refused(why) => why.to_string(),
        }
    }
}

type Pair = (String, String);

fn pair(issuer: &Issuer, validity: Validity) -> Pair {
    let identity = issuer.leaf(&LeafSpec::server(validity)).unwrap();
    (identity.chain_pem(), identity.key_pem())
}

/// Thirty days, from so many days after now on.
fn validity(days: i64) -> Validity {
    Validity::days_from(NOW.unix() - 3600 + days * 86_400, 30)
}

fn write(dir: &Path, (certificate, key): &Pair) {
    replace(dir, "server.pem", certificate);
    replace(dir, "server.key", key);
}

fn replace(dir: &Path, name: &str, text: &str) {
    let beside = dir.join("new~");
    fs::write(&beside, text).unwrap();
    fs::set_permissions(&beside, Permissions::from_mode(0o600)).unwrap();
    fs::rename(beside, dir.join(name)).unwrap();
}

#[test]
fn p5_a_new_pair_is_taken_once_and_the_same_bytes_are_no_change() {
    let rig = Rig::new();
    assert_eq!(rig.look(0), "nothing");
    let new = rig.new_pair();
    write(rig.dir.path(), &new);
    assert_eq!([rig.look(1), rig.look(2)], ["taken", "nothing"]);
    write(rig.dir.path(), &new);
    assert_eq!(rig.look(3), "nothing");
}

#[test]
fn p5_half_of_a_pair_is_waited_for() {
    let rig = Rig::new();
    let (certificate, key) = rig.new_pair();
    replace(rig.dir.path(), "server.pem", &certificate);
    assert_eq!([rig.look(0), rig.look(1900)], ["undecided", "undecided"]);
    replace(rig.dir.path(), "server.key", &key);
    assert_eq!([rig.look(1950), rig.look(9000)], ["taken", "nothing"]);
}

#[test]
fn attack_41_a_bad_pair_that_stays_is_told_once_and_changes_nothing() {
    let spoils: [(&str, Spoil, &str); 7] = [
        ("another key", |rig| replace(rig.dir.path(), "server.key", &rig.new_pair().1), "listen.mtls.key: is not the"),
        ("garbage", |rig| replace(rig.dir.path(), "server.pem", "garbage"), "listen.mtls.cert: holds no certificate"),
        ("empty", |rig| replace(rig.dir.path(), "server.key", ""), "is empty"),
        ("gone", |rig| fs::remove_file(rig.dir.path().join("server.pem")).unwrap(), "does not exist"),
        ("expired", |rig| write(rig.dir.path(), &pair(&rig.issuer, validity(-40))), "the certificate expired"),
        ("of tomorrow", |rig| write(rig.dir.path(), &pair(&rig.issuer, validity(1))), "not yet"),
        ("open to others", open_key, "0644"),
    ];
    for (name, spoil, word) in spoils {
        let rig = Rig::new();
        let in_force = rig.certificate.state().source.tls.certificate.cert.clone();
        assert_eq!(rig.look(0), "nothing", "{name}");
        spoil(&rig);
        assert_eq!(rig.look(10), "undecided", "{name}");
        assert_eq!(rig.certificate.refusal(), None, "{name}");
        let told = rig.look(2010);
        assert!(told.contains(word), "{name}: {told}");
        assert_eq!(rig.certificate.refusal(), Some(("server certificate of `listen.mtls`".to_owned(), told)), "{name}");
        assert_eq!(rig.look(4000), "nothing", "{name}: told twice");
        assert_eq!(rig.certificate.state().source.tls.certificate.cert, in_force, "{name}");
        write(rig.dir.path(), &rig.new_pair());
        assert_eq!([rig.look(4010), rig.look(4020)], ["taken", "nothing"], "{name}");
        assert_eq!(rig.certificate.refusal(), None, "{name}");
    }
}

/// Breaks one thing.
type Spoil = fn(&Rig);

fn open_key(rig: &Rig) {
    fs::set_permissions(rig.dir.path().join("server.key"), Permissions::from_mode(0o644)).unwrap();
}

#[test]
fn attack_41_another_bad_pair_is_told_as_well() {
    let rig = Rig::new();
    replace(rig.dir.path(), "server.pem", "garbage");
    assert_eq!(rig.look(0), "undecided");
    assert!(rig.look(2000).contains("holds no certificate"));
    replace(rig.dir.path(), "server.pem", "more garbage");
    assert_eq!([rig.look(2010), rig.look(4000)], ["undecided", "undecided"]);
    assert!(rig.look(4010).contains("holds no certificate"));
}

#[test]
fn a_certificate_of_tomorrow_is_taken_tomorrow_without_a_touch_of_its_file() {
    let rig = Rig::new();
    write(rig.dir.path(), &pair(&rig.issuer, validity(1)));
    assert_eq!(rig.look(0), "undecided");
    assert!(rig.look(2000).contains("not yet"));
    let tomorrow = Timestamp::from_unix(NOW.unix() + 86_400);
    assert_eq!([rig.look_at(tomorrow, 2250), rig.look_at(tomorrow, 2500)], ["taken", "nothing"]);
}

#[test]
fn a_bad_pair_that_is_taken_back_is_told_as_good_again() {
    let rig = Rig::new();
    let good = fs::read_to_string(rig.dir.path().join("server.pem")).unwrap();
    replace(rig.dir.path(), "server.pem", "garbage");
    assert_eq!(rig.look(0), "undecided");
    assert!(rig.look(2000).contains("holds no certificate"));
    replace(rig.dir.path(), "server.pem", &good);
    assert_eq!([rig.look(2010), rig.look(2020)], ["taken", "nothing"]);
}

#[test]
fn a_folder_that_is_swapped_behind_a_link_is_taken_as_one() {
    let rig = Rig::new();
    let dir = rig.dir.path();
    for name in ["server.pem", "server.key"] {
        fs::remove_file(dir.join(name)).unwrap();
        symlink(Path::new("..data").join(name), dir.join(name)).unwrap();
    }
    for version in ["1", "2"] {
        fs::create_dir(dir.join(version)).unwrap();
        write(&dir.join(version), &rig.new_pair());
        symlink(version, dir.join("..new")).unwrap();
        fs::rename(dir.join("..new"), dir.join("..data")).unwrap();
        assert_eq!([rig.look(0), rig.look(1)], ["taken", "nothing"]);
    }
}
