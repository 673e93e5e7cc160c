//! Databases of earlier formats, each made by its own statements and filled as its version filled it.

use std::path::Path;
use std::time::Duration;

use certbind_proto::thumbprint::Thumbprint;
use rusqlite::{Connection, params};

use super::*;
use crate::store::conformance::{self, NOW, first_use, signing_key, soon, wait};
use crate::store::usage::Credential;
use crate::store::{ReplayKey, StoredClient};

fn open(dir: &Path) -> SqliteStore {
    SqliteStore::open(&Settings::new(dir), NOW).unwrap()
}

fn database(dir: &Path) -> Connection {
    Connection::open(dir.join(files::FILE)).unwrap()
}

fn key(n: u8) -> ReplayKey {
    ReplayKey::of("batch", &n.to_string())
}

/// Each format that was ever released, as its own statements made it, with something of everything in it.
#[test]
fn fault_27_a_database_of_each_older_format_is_brought_up_to_date_and_nothing_is_lost() {
    for format in 1..schema::KNOWN {
        of_format(format);
    }
}

fn of_format(format: u32) {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("data");
    files::database(&files::folder(&dir).unwrap()).unwrap();
    let kept = fill_format(&database(&dir), format);
    for turn in 0..2 {
        let store = open(&dir);
        assert_eq!(first_use(&store, key(1), soon(), NOW), FirstUse::No, "{format}, {turn}");
        assert_eq!(wait(store.load()).keys, kept.keys, "{format}, {turn}");
        assert_eq!(wait(store.clients_since(0)), kept.clients, "{format}, {turn}");
        assert_eq!(wait(store.revocations_since(0, NOW)), kept.revocations, "{format}, {turn}");
        let lines = wait(store.find_audit(AuditQuery::all(10))).into_iter().map(|found| found.line);
        assert_eq!(lines.collect::<Vec<_>>(), kept.audit, "{format}, {turn}");
        assert_eq!(wait(store.uses_of(vec!["billing".into()])), kept.uses, "{format}, {turn}");
    }
    let found: u32 = database(&dir).pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(found, schema::KNOWN);
    // What is new works as well.
    let store = open(&dir);
    assert_eq!(first_use(&store, key(2), soon(), NOW), FirstUse::Yes);
    let billing = wait(store.put_client("billing".into(), "{}".into(), Expected::Absent, NOW));
    assert_eq!(matches!(billing, Written::Done(_)), kept.clients.is_empty());
}

/// What was put into a database of some format.
#[derive(Default)]
struct Kept {
    keys: Vec<StoredKey>,
    clients: Vec<ClientChange>,
    revocations: Vec<(Revision, Revocation)>,
    audit: Vec<AuditLine>,
    uses: Vec<Usage>,
}

/// Makes a database of this format by the steps that lead to it, and puts in what that format could hold, as its version
/// wrote it.
fn fill_format(database: &Connection, format: u32) -> Kept {
    const STEPS: [&str; 5] = [
        include_str!("migrations/1.sql"),
        include_str!("migrations/2.sql"),
        concat!(include_str!("migrations/3.sql"), "DROP TABLE signing_keys_2;"),
        include_str!("migrations/4.sql"),
        include_str!("migrations/5.sql"),
    ];
    for step in &STEPS[..format as usize] {
        database.execute_batch(step).unwrap();
    }
    database.pragma_update(None, "application_id", 0x6362_6e64).unwrap();
    database.pragma_update(None, "user_version", format).unwrap();
    let (now, end) = (NOW.millis().to_le_bytes(), soon().millis().to_le_bytes());
    let sum = checksum::of(&[&1_i64.to_le_bytes(), key(1).as_bytes(), &end]);
    let insert = "INSERT INTO replay VALUES (1, ?1, ?2, ?3)";
    database.execute(insert, params![&key(1).as_bytes()[..], soon().millis(), sum]).unwrap();
    let mut kept = Kept::default();
    if format < 3 {
        let sum = checksum::of(&[b"k1\0ES256\0key", &now]);
        let insert = "INSERT INTO signing_keys VALUES ('k1', 'ES256', x'6b6579', ?1, ?2)";
        database.execute(insert, [NOW.millis(), sum]).unwrap();
        // The older format did not say how long tokens may live.
        let token_lifetime = Duration::from_secs(24 * 60 * 60);
        kept.keys.push(StoredKey { kid: "k1".to_owned(), token_lifetime, ..signing_key("key", "ES256") });
    } else {
        let made = signing_key("k1", "ES256");
        let lifetime = 300_000_i64.to_le_bytes();
        let parts: [&[u8]; 4] = [b"k1\0ES256\0pkcs8\0k1", &now, &now, &lifetime];
        let insert = "INSERT INTO signing_keys VALUES ('k1', 'ES256', 'pkcs8', x'6b31', ?1, ?1, NULL, 300000, ?2)";
        database.execute(insert, [NOW.millis(), checksum::of(&parts)]).unwrap();
        kept.keys.push(made);
    }
    if format >= 2 {
        kept.clients.push(ClientChange::Written(StoredClient {
            client_id: "billing".into(),
            metadata: "{}".into(),
            revision: 1,
            created: NOW,
            updated: NOW,
        }));
        let sum = checksum::of(&[b"billing", b"\0", b"\x01", b"{}", b"\0", &1_i64.to_le_bytes(), &now, &now]);
        let client = "INSERT INTO clients VALUES ('billing', '{}', 1, ?1, ?1, ?2)";
        database.execute(client, [NOW.millis(), sum]).unwrap();
        let revocation = conformance::revocation("t1", soon());
        let id = revocation.id.as_bytes();
        let sum = checksum::of(&[b"token", b"\0", id, &now, &end, &1_i64.to_le_bytes()]);
        let insert = "INSERT INTO revocations VALUES ('token', ?1, ?2, ?3, 1, ?4)";
        database.execute(insert, params![&id[..], NOW.millis(), soon().millis(), sum]).unwrap();
        kept.revocations.push((1, revocation));
        database.execute("UPDATE revisions SET revision = 1", []).unwrap();
    }
    if format >= 4 {
        let line = conformance::audit_line("a", "00000000000000aa", 1, NOW, r#""event":"token.issued""#);
        let AuditLine { server, chain, seq, at, line: text, .. } = line.clone();
        let insert =
            "INSERT INTO audit (server, chain, seq, at, event, line) VALUES (?1, ?2, ?3, ?4, 'token.issued', ?5)";
        database.execute(insert, params![server, chain, seq, at.millis(), text]).unwrap();
        kept.audit.push(line);
    }
    if format >= 5 {
        let thumbprint = Thumbprint::of_der(b"k");
        let insert =
            "INSERT INTO usage (client_id, kind, thumbprint, name, last_used) VALUES ('billing', 'key', ?1, 'k', ?2)";
        database.execute(insert, params![&thumbprint.as_bytes()[..], NOW.millis()]).unwrap();
        let credential = Credential::Key { thumbprint, kid: Some("k".to_owned()) };
        kept.uses.push(Usage { client_id: "billing".into(), credential, last_used: NOW });
    }
    kept
}
