//! A folder of clients, changed as operators, editors and Kubernetes change it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use certbind_devpki::{Identity, LeafSpec, Validity};
use certbind_proto::client::{KeySource, LegacyAudience, MetadataFault, Method, RegistrationRules};
use certbind_proto::jws::{Algorithm, Algorithms, SigningKey};
use tempfile::TempDir;

use super::fault::{Complaint, FileFault, Position, Warning};
use super::file::{FileRegistry, Report, Settings};
use super::{Change, Registry, Snapshot};

fn rules() -> RegistrationRules {
    RegistrationRules {
        algorithms: Algorithms::DEFAULT,
        legacy_audience: LegacyAudience::Permitted,
        trust_groups: vec!["corp".into()],
    }
}

/// A registration by the name `NAME.example.com`.
fn client(client_id: &str, name: &str) -> String {
    format!(
        r#"client_id = "{client_id}"
token_endpoint_auth_method = "tls_client_auth"
tls_client_auth_san_dns = "{name}.example.com"
scope = "payments:read"

[certbind]
trust = "corp"
audiences = ["https://api.example.com"]
"#
    )
}

fn assertion_client(client_id: &str, jwks: &str) -> String {
    format!(
        r#"client_id = "{client_id}"
token_endpoint_auth_method = "private_key_jwt"
jwks = {jwks}

[certbind]
audiences = ["https://api.example.com"]
"#
    )
}

fn key_set(kid: &str) -> String {
    let key = SigningKey::generate(Algorithm::Es256).unwrap().public_jwk(kid);
    serde_json::json!({ "keys": [key.to_json()] }).to_string()
}

struct Dir(TempDir);

impl Dir {
    fn with(files: &[(&str, &str)]) -> Self {
        let dir = Self(tempfile::tempdir().unwrap());
        files.iter().for_each(|(name, text)| dir.write(name, text));
        dir
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// In one step, so that no look at the folder finds half of it.
    fn write(&self, name: &str, text: &str) {
        let aside = self.path(".written-aside");
        fs::write(&aside, text).unwrap();
        fs::rename(aside, self.path(name)).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    fn load(&self) -> (FileRegistry, Report) {
        FileRegistry::load(Settings { dir: self.0.path().to_owned(), rules: rules() })
    }
}

fn scope_of(registry: &FileRegistry, client_id: &str) -> Option<String> {
    registry.find(client_id).map(|client| client.scope.to_string())
}

fn complaints(report: &Report) -> Vec<&Complaint> {
    report.faults.iter().map(|fault| &fault.complaint).collect()
}

fn added(ids: &[&str]) -> Vec<Change> {
    ids.iter().map(|id| Change::Added((*id).into())).collect()
}

#[test]
fn a_folder_gives_one_client_a_file() {
    let dir = Dir::with(&[("billing.toml", &client("billing", "a")), ("ledger.toml", &client("ledger", "b"))]);
    let (registry, report) = dir.load();
    let expected = Report { changes: added(&["billing", "ledger"]), clients: 2, ..Report::default() };
    assert_eq!(report, expected);
    assert_eq!(registry.find("billing").unwrap().client_id, "billing");
    assert!(registry.find("Billing").is_none(), "compared byte by byte");
    let all = registry.all();
    assert_eq!((all.len(), all.iter().count(), all.is_empty()), (2, 2, false));
}

#[test]
fn what_is_no_client_file_is_ignored() {
    let good = client("hidden", "a");
    let dir = Dir::with(&[
        (".billing.toml", &good),
        ("#billing.toml#", &good),
        ("billing.toml~", &good),
        ("billing.toml.bak", &good),
        ("billing.toml.swp", &good),
        ("keys.json", "{}"),
        ("README", "read me"),
    ]);
    fs::create_dir(dir.path("folder.toml")).unwrap();
    // Opening it would wait for ever.
    assert!(Command::new("mkfifo").arg(dir.path("pipe.toml")).status().unwrap().success());
    let (registry, report) = dir.load();
    assert_eq!(report, Report::default());
    assert!(registry.all().is_empty());
}

#[test]
fn a_bad_file_is_refused_with_its_place_and_what_was_meant() {
    let good = client("billing", "a");
    type Case = (&'static str, String, Option<(usize, usize)>, &'static str);
    let cases: [Case; 12] = [
        ("a typo", good.replace("scope", "scoep"), Some((4, 1)), "scoep: there is no such key; did you mean `scope`?"),
        (
            "a typo in our table",
            good.replace("trust", "turst"),
            Some((7, 1)),
            "certbind.turst: there is no such key; did you mean `trust`?",
        ),
        ("a key of nobody", format!("password = \"x\"\n{good}"), Some((1, 1)), "password: there is no such key"),
        ("no TOML", good.replace("[certbind]", "[certbind"), Some((6, 10)), ""),
        ("a wrong type", good.replace("\"payments:read\"", "5"), Some((4, 9)), "invalid type: integer `5`"),
        ("a key twice", format!("client_id = \"x\"\n{good}"), Some((2, 1)), "duplicate key"),
        ("no method", good.replace("tls_client_auth\"", "tls\""), Some((2, 1)), "token_endpoint_auth_method: one of"),
        ("an unknown group", good.replace("corp", "crop"), Some((7, 1)), "certbind.trust: name a trust group"),
        (
            "no audience",
            good.replace("\"https://api.example.com\"", ""),
            Some((8, 1)),
            "certbind.audiences: name at least",
        ),
        ("too large", format!("# {}\n{good}", "x".repeat(256 * 1024)), None, "is larger than 256 KiB"),
        ("empty", String::new(), None, "client_id: 1 to 256 characters"),
        (
            "a foreign file",
            assertion_client("billing", "\"https://keys\""),
            Some((3, 1)),
            "jwks: give a file as file:PATH",
        ),
    ];
    for (name, text, position, says) in cases {
        let dir = Dir::with(&[("billing.toml", &text)]);
        let (registry, report) = dir.load();
        assert!(registry.all().is_empty(), "{name}");
        let fault = report.faults.first().unwrap_or_else(|| panic!("{name} is taken"));
        assert_eq!((&fault.path, report.faulty), (&dir.path("billing.toml"), 1), "{name}");
        assert_eq!(fault.position, position.map(|(line, column)| Position { line, column }), "{name}: {fault}");
        assert!(fault.complaint.to_string().starts_with(says), "{name}: {fault}");
    }
}

#[test]
fn every_mistake_of_a_file_is_told_at_once() {
    let text =
        client("billing", "a").replace("scope", "scoep").replace("trust", "turst").replace("audiences", "audience");
    let (_, report) = Dir::with(&[("billing.toml", &text)]).load();
    assert_eq!(report.faults.len(), 3, "{:?}", report.faults);
    let text = client("billing", "a").replace("corp", "crop").replace("payments:read", "a  b");
    let (_, report) = Dir::with(&[("billing.toml", &text)]).load();
    assert_eq!(report.faults.len(), 2, "{:?}", report.faults);
    let fault =
        report.faults.iter().find(|fault| fault.complaint == Complaint::Metadata(MetadataFault::Trust)).unwrap();
    assert!(fault.to_string().ends_with("billing.toml:7:1: certbind.trust: name a trust group of the configuration"));
}

#[test]
fn a_good_change_is_taken_a_bad_one_changes_nothing() {
    let dir = Dir::with(&[("billing.toml", &client("billing", "a")), ("ledger.toml", &client("ledger", "b"))]);
    let (registry, _) = dir.load();
    let ledger = registry.find("ledger").unwrap();
    let (_watch, reports) = watch(&registry);

    dir.write("billing.toml", &client("billing", "a").replace("read", "write"));
    assert_eq!(next(&reports).changes, [Change::Changed("billing".into())]);
    assert_eq!(scope_of(&registry, "billing").as_deref(), Some("payments:write"));

    dir.write("billing.toml", "client_id = ");
    let report = next(&reports);
    assert_eq!((report.changes.len(), report.faults.len(), report.faulty), (0, 1, 1));
    assert_eq!(scope_of(&registry, "billing").as_deref(), Some("payments:write"), "the old registration stays");

    dir.write("billing.toml", &client("billing", "a"));
    let report = next(&reports);
    assert_eq!((report.changes, report.faulty), (vec![Change::Changed("billing".into())], 0));

    dir.remove("billing.toml");
    assert_eq!(next(&reports).changes, [Change::Removed("billing".into())]);
    assert!(registry.find("billing").is_none());

    dir.write("new.toml", &client("new", "c"));
    assert_eq!(next(&reports).changes, added(&["new"]));
    assert!(
        std::sync::Arc::ptr_eq(&ledger, &registry.find("ledger").unwrap()),
        "what did not change was not read again"
    );
}

#[test]
fn a_change_takes_effect_within_a_second() {
    let dir = Dir::with(&[]);
    let (registry, _) = dir.load();
    let (_watch, reports) = watch(&registry);
    let take_effect = |n: u32| {
        let start = Instant::now();
        dir.write("billing.toml", &client("billing", &n.to_string()));
        next(&reports);
        start.elapsed()
    };
    // Of several, because the machine may be busy with something else.
    let fastest = (0..3).map(take_effect).min().unwrap();
    assert!(fastest < Duration::from_secs(1), "{fastest:?}");
}

#[test]
fn a_file_that_is_renamed_into_place_is_taken() {
    let dir = Dir::with(&[("billing.toml", &client("billing", "a"))]);
    let (registry, _) = dir.load();
    let (_watch, reports) = watch(&registry);
    dir.write(".billing.toml.tmp", &client("billing", "a").replace("read", "write"));
    fs::rename(dir.path(".billing.toml.tmp"), dir.path("billing.toml")).unwrap();
    assert_eq!(next(&reports).changes, [Change::Changed("billing".into())]);
    fs::rename(dir.path("billing.toml"), dir.path("accounts.toml")).unwrap();
    dir.write("last.toml", &client("last", "z"));
    while !next(&reports).changes.contains(&Change::Added("last".into())) {}
    assert!(registry.find("billing").is_some(), "the name of the file means nothing");
}

#[test]
fn kubernetes_swaps_a_link_and_all_files_are_others() {
    let dir = Dir::with(&[]);
    let generation = |name: &str, scope: &str| {
        fs::create_dir(dir.path(name)).unwrap();
        dir.write(&format!("{name}/billing.toml"), &client("billing", "a").replace("payments:read", scope));
    };
    generation("..1", "one");
    symlink("..1", dir.path("..data")).unwrap();
    symlink("..data/billing.toml", dir.path("billing.toml")).unwrap();
    let (registry, report) = dir.load();
    assert_eq!(report.changes, added(&["billing"]));
    let (_watch, reports) = watch(&registry);
    generation("..2", "two");
    symlink("..2", dir.path("..data_tmp")).unwrap();
    fs::rename(dir.path("..data_tmp"), dir.path("..data")).unwrap();
    assert_eq!(next(&reports).changes, [Change::Changed("billing".into())]);
    assert_eq!(scope_of(&registry, "billing").as_deref(), Some("two"));
    fs::remove_dir_all(dir.path("..1")).unwrap();
}

#[test]
fn files_that_a_client_names_belong_to_it() {
    let keys = Dir::with(&[("keys.json", &key_set("k1"))]);
    let elsewhere = format!("\"file:{}\"", keys.path("keys.json").display());
    let dir = Dir::with(&[
        ("near.toml", &assertion_client("near", "\"file:keys.json\"")),
        ("keys.json", &key_set("k1")),
        ("far.toml", &assertion_client("far", &elsewhere)),
    ]);
    let (registry, report) = dir.load();
    assert_eq!(report.changes, added(&["far", "near"]), "{:?}", report.faults);
    let (_watch, reports) = watch(&registry);
    for (folder, client_id) in [(&dir, "near"), (&keys, "far")] {
        folder.write("keys.json", &key_set("k2"));
        assert_eq!(next(&reports).changes, [Change::Changed(client_id.into())]);
        assert!(has_key(&registry, client_id, "k2"));

        folder.write("keys.json", r#"{"keys":[],"keys":[]}"#);
        assert!(matches!(complaints(&next(&reports))[..], [Complaint::NotAKeySet { .. }]));
        assert!(has_key(&registry, client_id, "k2"), "the old keys stay");

        folder.remove("keys.json");
        assert!(matches!(complaints(&next(&reports))[..], [Complaint::ReferenceUnreadable { .. }]));

        folder.write("keys.json", &key_set("k3"));
        assert_eq!(next(&reports).changes, [Change::Changed(client_id.into())]);
        assert!(has_key(&registry, client_id, "k3"));
    }
}

fn has_key(registry: &FileRegistry, client_id: &str, kid: &str) -> bool {
    match &registry.find(client_id).unwrap().method {
        Method::PrivateKeyJwt { keys: KeySource::Inline(keys), .. } => keys.has_kid(kid),
        _ => false,
    }
}

#[test]
fn keys_may_stand_in_the_file_itself() {
    let set: serde_json::Value = serde_json::from_str(&key_set("k1")).unwrap();
    let member = |name: &str| set["keys"][0][name].as_str().unwrap().to_owned();
    let inline =
        format!(r#"{{ keys = [ {{ kty = "EC", crv = "P-256", x = "{}", y = "{}" }} ] }}"#, member("x"), member("y"));
    let (registry, report) = Dir::with(&[("batch.toml", &assertion_client("batch", &inline))]).load();
    assert_eq!(report.faults, []);
    assert!(registry.find("batch").is_some());
}

#[test]
fn rfc8705_2_2_a_certificate_is_registered_by_a_file_that_holds_just_it() {
    let leaf = || Identity::self_signed(&LeafSpec::client("ledger", Validity::days_from(1_795_375_800, 30))).unwrap();
    let (one, two) = (leaf(), leaf());
    let text = r#"client_id = "ledger"
token_endpoint_auth_method = "self_signed_tls_client_auth"
[certbind]
certificates = ["file:ledger.pem"]
audiences = ["https://api.example.com"]
"#;
    let dir = Dir::with(&[("ledger.toml", text), ("ledger.pem", &one.chain_pem())]);
    let (registry, report) = dir.load();
    assert_eq!(report.faults, []);
    let Method::SelfSignedTlsClientAuth { certificates, .. } = &registry.find("ledger").unwrap().method else {
        panic!("another method");
    };
    assert_eq!(certificates[0].der(), one.certificate());

    fs::write(dir.path("ledger.pem"), one.certificate()).unwrap();
    assert_eq!(dir.load().1.faults, [], "DER is as good");
    let both = one.chain_pem() + &two.chain_pem();
    for (name, bytes) in [("two of them", both.as_str()), ("a key", &one.key_pem()), ("nothing", "")] {
        dir.write("ledger.pem", bytes);
        let report = dir.load().1;
        assert!(matches!(complaints(&report)[..], [Complaint::NotACertificate { .. }]), "{name}: {report:?}");
    }
}

#[test]
fn of_two_files_with_one_client_neither_is_taken() {
    let one = client("billing", "a");
    let other = client("billing", "b");
    let dir = Dir::with(&[("one.toml", &one), ("other.toml", &other)]);
    let (registry, report) = dir.load();
    assert_eq!((report.clients, report.faulty), (0, 2));
    assert!(complaints(&report).iter().all(|complaint| matches!(complaint, Complaint::Duplicate { .. })));
    dir.remove("other.toml");
    assert_eq!(registry.reload(rules()).changes, added(&["billing"]));

    let before = registry.find("billing").unwrap();
    dir.write("other.toml", &other);
    dir.write("one.toml", &one.replace("read", "write"));
    let report = registry.reload(rules());
    assert_eq!((report.changes.len(), report.faulty), (0, 2));
    assert!(std::sync::Arc::ptr_eq(&before, &registry.find("billing").unwrap()), "the old registration stays");

    dir.write("one.toml", "not good");
    assert_eq!(registry.reload(rules()).faulty, 2, "nor does a bad file give its client away to another one");
    dir.remove("one.toml");
    assert_eq!(registry.reload(rules()).changes, [Change::Changed("billing".into())]);
}

#[test]
fn r8705_2_1_2_g_two_clients_with_one_name_are_warned_of() {
    let dir = Dir::with(&[("one.toml", &client("one", "a")), ("two.toml", &client("two", "A"))]);
    let (registry, report) = dir.load();
    let [Warning::SharedSubject { trust, clients, .. }] = &report.warnings[..] else { panic!("{:?}", report.warnings) };
    assert_eq!((trust.as_str(), &clients[..]), ("corp", &["one".to_owned(), "two".to_owned()][..]));
    assert_eq!((report.clients, report.faulty), (2, 0), "both are taken: client_id decides");
    assert_eq!(registry.reload(rules()), Report { clients: 2, ..Report::default() }, "told once");
}

#[test]
fn a_folder_that_cannot_be_read_keeps_its_clients() {
    let parent = Dir::with(&[]);
    let dir = parent.path("clients.d");
    let load = |dir: &Path| FileRegistry::load(Settings { dir: dir.to_owned(), rules: rules() });
    let (_, report) = load(&dir);
    assert!(matches!(complaints(&report)[..], [Complaint::Unreadable(_)]), "a start without it is refused");

    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("billing.toml"), client("billing", "a")).unwrap();
    let (registry, _) = load(&dir);
    fs::rename(&dir, parent.path("away")).unwrap();
    let report = registry.reload(rules());
    assert_eq!((complaints(&report).len(), report.faulty, report.clients), (1, 1, 1));
    assert!(registry.find("billing").is_some());
    fs::rename(parent.path("away"), &dir).unwrap();
    assert_eq!(registry.reload(rules()), Report { clients: 1, ..Report::default() });
}

#[test]
fn new_rules_are_held_against_every_file() {
    let dir = Dir::with(&[("billing.toml", &client("billing", "a"))]);
    let (registry, _) = dir.load();
    let report = registry.reload(RegistrationRules { trust_groups: vec!["other".into()], ..rules() });
    assert_eq!((report.faulty, report.clients), (1, 1));
    assert_eq!(registry.reload(rules()).faulty, 0);
}

#[test]
fn an_unreadable_file_changes_nothing() {
    let dir = Dir::with(&[("billing.toml", &client("billing", "a"))]);
    let (registry, _) = dir.load();
    fs::set_permissions(dir.path("billing.toml"), fs::Permissions::from_mode(0o000)).unwrap();
    // Whoever may read everything (root) can still read it; then there is nothing to report.
    let _ = registry.reload(rules());
    assert!(registry.find("billing").is_some());
    dir.remove("billing.toml");
    symlink("nowhere", dir.path("billing.toml")).unwrap();
    assert!(matches!(complaints(&registry.reload(rules()))[..], [Complaint::Unreadable(_)]));
    assert!(registry.find("billing").is_some(), "a link that leads nowhere is not a removed file");
}

#[test]
fn a_look_up_costs_the_same_among_many_and_only_changed_files_are_read() {
    let dir = Dir::with(&[]);
    for n in 0..3000 {
        dir.write(&format!("{n}.toml"), &client(&format!("client-{n}"), &n.to_string()));
    }
    let start = Instant::now();
    let (registry, report) = dir.load();
    println!("{} clients loaded in {:?}", report.clients, start.elapsed());
    assert_eq!((report.clients, report.faulty), (3000, 0));
    let start = Instant::now();
    for n in 0..3000 {
        assert!(registry.find(&format!("client-{n}")).is_some());
    }
    println!("a look-up takes {:?}", start.elapsed() / 3000);
    let (_watch, reports) = watch(&registry);
    dir.write("7.toml", &client("client-7", "other"));
    assert_eq!(next(&reports).changes, [Change::Changed("client-7".into())]);
}

#[test]
fn a_registry_that_never_changes_finds_its_clients() {
    let (registry, _) = Dir::with(&[("billing.toml", &client("billing", "a"))]).load();
    let fixed: std::sync::Arc<Snapshot> = std::sync::Arc::new(registry.all().iter().cloned().collect());
    assert!(Registry::find(&fixed, "billing").is_some());
    assert_eq!(fixed.all().len(), 1);
}

#[test]
fn a_fault_prints_as_path_line_and_column() {
    let complaint = Complaint::UnknownKey { key: "scoep".into(), meant: Some("scope") };
    let fault =
        FileFault { path: "clients.d/a.toml".into(), position: Some(Position { line: 3, column: 1 }), complaint };
    assert_eq!(fault.to_string(), "clients.d/a.toml:3:1: scoep: there is no such key; did you mean `scope`?");
    assert_eq!(Position::of("ä\nöü x", 7), Position { line: 2, column: 3 });
}

/// Follows the folder; what is new arrives at the receiver.
fn watch(registry: &FileRegistry) -> (super::file::Watch, Receiver<Report>) {
    let (tell, told) = mpsc::channel();
    let watch = registry.watch(move |report| drop(tell.send(report.clone())));
    (watch, told)
}

/// The next report.
fn next(reports: &Receiver<Report>) -> Report {
    reports.recv_timeout(Duration::from_secs(10)).expect("a change is told")
}
