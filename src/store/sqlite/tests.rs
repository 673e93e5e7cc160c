//! The promises of the engine, on real files: conformance, crashes, damage, two processes, a full disk.
#![allow(
    clippy::disallowed_methods,
    reason = "a test starts itself again as a child, and tells it so by an environment variable"
)]

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::store::conformance::{self, NOW, first_use, signing_key, soon, try_wait, wait};
use crate::store::{ReplayKey, Secret};

fn data_dir() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    dir
}

fn open(dir: &TempDir) -> SqliteStore {
    SqliteStore::open(&Settings::new(dir.path()), NOW).unwrap()
}

fn key(n: impl ToString) -> ReplayKey {
    ReplayKey::of("batch", &n.to_string())
}

fn used(n: impl ToString, keep_until: Timestamp) -> Use {
    Use { key: key(n), issued: None, keep_until }
}

fn database(dir: &TempDir) -> Connection {
    Connection::open(dir.path().join(files::FILE)).unwrap()
}

impl SqliteStore {
    fn tamper(&self, change: impl FnOnce(&Connection) + Send + 'static) {
        wait(self.with_connection(move |connection| {
            change(connection);
            Ok(())
        }));
    }
}

#[test]
fn the_sqlite_store_conforms() {
    let dirs: Vec<TempDir> = (0..64).map(|_| data_dir()).collect();
    let mut fresh = dirs.iter();
    let fresh = std::sync::Mutex::new(&mut fresh);
    let open = || Arc::new(open(fresh.lock().unwrap().next().unwrap()));
    conformance::replay(&open);
    conformance::keys(&open);
    conformance::clients(&open);
    conformance::revocations(&open);
    conformance::audit(&open);
    conformance::usage(&open);
}

#[test]
fn two_servers_on_one_folder_tell_each_other_what_changed() {
    let dir = data_dir();
    let servers = [Arc::new(open(&dir)), Arc::new(open(&dir))];
    conformance::a_change_is_told_to_others(&*servers[0], &*servers[1]);
    let dir = data_dir();
    conformance::one_of_many_creates_a_client(&[Arc::new(open(&dir)), Arc::new(open(&dir))]);
}

#[test]
fn r7523_3_7b_two_servers_on_one_folder_accept_one_of_200_copies() {
    for _ in 0..10 {
        let dir = data_dir();
        let servers = [Arc::new(open(&dir)), Arc::new(open(&dir))];
        conformance::one_of_many_at_once(&servers);
        conformance::one_change_of_many_at_once(&servers);
    }
}

#[test]
fn two_servers_take_turns_and_each_knows_what_the_other_used() {
    let dir = data_dir();
    let (old, new) = (open(&dir), open(&dir));
    for n in 0..200 {
        let (first, second) = if n % 2 == 0 { (&old, &new) } else { (&new, &old) };
        assert_eq!(first_use(first, key(n), soon(), NOW), FirstUse::Yes);
        assert_eq!(first_use(second, key(n), soon(), NOW), FirstUse::No);
    }
}

#[test]
fn two_servers_may_start_at_once_on_an_empty_folder() {
    for _ in 0..10 {
        let dir = data_dir();
        std::thread::scope(|scope| {
            let start = || {
                let (store, own) = (open(&dir), format!("{:?}", std::thread::current().id()));
                wait(store.replace(0, vec![signing_key(&own, "ES256")]));
                wait(store.load())
            };
            let servers: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
            let kept: HashSet<_> =
                servers.into_iter().map(|server| server.join().unwrap().keys[0].kid.clone()).collect();
            assert_eq!(kept.len(), 1, "all have the same key");
        });
    }
}

#[test]
fn r7523_3_7d_a_restart_forgets_nothing() {
    let dir = data_dir();
    let made = {
        let store = open(&dir);
        for n in 0..100 {
            assert_eq!(first_use(&store, key(n), soon(), NOW), FirstUse::Yes);
        }
        let made = vec![signing_key("k1", "ES256")];
        assert_eq!(wait(store.replace(0, made.clone())), Replaced::Yes(1));
        made
    };
    let store = open(&dir);
    assert_eq!(store.live_entries(), 100);
    for n in 0..100 {
        assert_eq!(first_use(&store, key(n), soon(), soon()), FirstUse::No);
    }
    assert_eq!(wait(store.load()), StoredKeys { revision: 1, keys: made });
}

#[test]
fn files_are_for_the_owner_alone_also_those_that_sqlite_makes() {
    let dir = data_dir();
    let store = open(&dir);
    first_use(&store, key(1), soon(), NOW);
    let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap()).collect();
    assert_eq!(names.len(), 4, "database, mark, log and its index");
    for entry in names {
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.file_name());
    }
}

#[test]
fn fault_27_a_newer_database_is_refused_and_left_alone() {
    let dir = data_dir();
    drop(open(&dir));
    database(&dir).pragma_update(None, "user_version", 999).unwrap();
    let before = fs::read(dir.path().join(files::FILE)).unwrap();
    let Err(StoreError::Newer { found, known }) = SqliteStore::open(&Settings::new(dir.path()), NOW) else {
        panic!("a newer format is taken")
    };
    assert_eq!((found, known), (999, schema::KNOWN));
    assert_eq!(fs::read(dir.path().join(files::FILE)).unwrap(), before);
}

/// Makes the database one of format 1, with a signing key in it whose row has this checksum.
fn back_to_format_1(dir: &TempDir, checksum: i64) {
    let database = database(dir);
    let (_, keys) = include_str!("migrations/1.sql").split_once("-- Private keys").unwrap();
    let newer = "DROP TABLE revisions; DROP TABLE clients; DROP TABLE revocations; DROP TABLE signing_keys; DROP TABLE audit; DROP TABLE usage; DROP TABLE origin;";
    database.execute_batch(&[newer, "--", keys].concat()).unwrap();
    let insert = "INSERT INTO signing_keys VALUES ('k1', 'ES256', x'6b6579', 1795375800000, ?1)";
    database.execute(insert, [checksum]).unwrap();
    database.pragma_update(None, "user_version", 1).unwrap();
}

#[test]
fn fault_27_a_database_of_an_older_format_is_brought_up_to_date_and_keeps_what_it_holds() {
    let dir = data_dir();
    assert_eq!(first_use(&open(&dir), key(1), soon(), NOW), FirstUse::Yes);
    back_to_format_1(&dir, checksum::of(&[b"k1\0ES256\0key", &1_795_375_800_000_i64.to_le_bytes()]));
    for _ in 0..2 {
        let store = open(&dir);
        assert_eq!(first_use(&store, key(1), soon(), NOW), FirstUse::No);
        let token_lifetime = Duration::from_secs(24 * 60 * 60);
        let made = StoredKey { kid: "k1".to_owned(), token_lifetime, ..signing_key("key", "ES256") };
        assert_eq!(wait(store.load()), StoredKeys { revision: 0, keys: vec![made] });
        assert_eq!(wait(store.clients_since(0)), []);
    }
    let store = open(&dir);
    assert!(is_on_disk(&dir, b"ES256pkcs8key"), "the row is found");
    let sealed = StoredKey { secret: Secret::Sealed(vec![7; 40]), ..wait(store.load()).keys[0].clone() };
    assert_eq!(wait(store.replace(0, vec![sealed])), Replaced::Yes(1));
    assert!(!is_on_disk(&dir, b"ES256key") && !is_on_disk(&dir, b"pkcs8key"), "not from the older table either");
}

/// Whether these bytes are anywhere in the files of the store, as they are on disk now.
fn is_on_disk(dir: &TempDir, needle: &[u8]) -> bool {
    let files = fs::read_dir(dir.path()).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap());
    files.into_iter().any(|bytes| bytes.windows(needle.len()).any(|found| found == needle))
}

#[test]
fn a_private_key_that_was_sealed_is_in_no_file_any_longer() {
    let plain = |n: u8| StoredKey {
        secret: Secret::Plain(zeroize::Zeroizing::new([b"a private key in the clear ", &[n; 1200][..]].concat())),
        ..signing_key(&format!("k{n}"), "RS256")
    };
    let sealed = |n: u8| StoredKey { secret: Secret::Sealed(vec![255 - n; 1250]), ..plain(n) };
    let dir = data_dir();
    let store = open(&dir);
    let keys: Vec<_> = (0..5).map(plain).collect();
    assert_eq!(wait(store.replace(0, keys.clone())), Replaced::Yes(1));
    use_up(&store, 0..500, soon(), NOW);
    assert!(is_on_disk(&dir, b"a private key in the clear"), "this test finds what is there");
    assert_eq!(wait(store.replace(0, (0..5).map(sealed).collect())), Replaced::Outdated);
    assert_eq!(wait(store.load()).keys, keys);
    assert_eq!(wait(store.replace(1, (0..5).map(sealed).collect())), Replaced::Yes(2));
    assert!(!is_on_disk(&dir, b"a private key in the clear"), "while the store is open");
    drop(store);
    assert!(!is_on_disk(&dir, b"a private key in the clear"));
    assert_eq!(open(&dir).live_entries(), 500);
}

#[test]
fn fault_27_a_damaged_key_of_an_older_format_is_not_taken_over() {
    let dir = data_dir();
    drop(open(&dir));
    back_to_format_1(&dir, 0);
    assert!(matches!(SqliteStore::open(&Settings::new(dir.path()), NOW), Err(StoreError::Corrupt(_))));
    let format: u32 = database(&dir).pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(format, 1, "nothing was changed on the way");
}

#[test]
fn the_database_of_another_program_is_refused_and_left_alone() {
    let dir = data_dir();
    drop(open(&dir));
    fs::remove_file(dir.path().join(files::FILE)).unwrap();
    database(&dir).execute_batch("CREATE TABLE theirs (x)").unwrap();
    fs::set_permissions(dir.path().join(files::FILE), fs::Permissions::from_mode(0o600)).unwrap();
    let before = fs::read(dir.path().join(files::FILE)).unwrap();
    assert!(matches!(SqliteStore::open(&Settings::new(dir.path()), NOW), Err(StoreError::Foreign { .. })));
    assert_eq!(fs::read(dir.path().join(files::FILE)).unwrap(), before);
}

#[test]
fn attack_21_a_store_that_cannot_be_used_is_an_error_at_open() {
    type Spoil = fn(&Path);
    let cases: [(&str, Spoil); 4] = [
        ("a folder in its place", |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
        }),
        ("text in its place", |path| fs::write(path, "this is no database, is it? ".repeat(100)).unwrap()),
        ("a link in its place", |path| {
            fs::rename(path, path.with_extension("real")).unwrap();
            std::os::unix::fs::symlink(path.with_extension("real"), path).unwrap();
        }),
        ("half of it", |path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        }),
    ];
    for (name, spoil) in cases {
        let dir = data_dir();
        drop(open(&dir));
        spoil(&dir.path().join(files::FILE));
        assert!(SqliteStore::open(&Settings::new(dir.path()), NOW).is_err(), "{name}");
    }
}

#[test]
fn fault_1b_a_flipped_bit_in_the_rows_is_found_at_open() {
    let dir = data_dir();
    {
        let store = open(&dir);
        for n in 0..50 {
            first_use(&store, key(n), soon(), NOW);
        }
        wait(store.replace(0, vec![signing_key("a key with a name that is found in the file", "ES256")]));
    }
    let path = dir.path().join(files::FILE);
    let good = fs::read(&path).unwrap();
    let position = |needle: &[u8]| good.windows(needle.len()).position(|found| found == needle).unwrap();
    let used = position(key(25).as_bytes());
    let signing = position(b"found in the file");
    for at in (used..used + 16).chain(signing..signing + 17) {
        let mut spoilt = good.clone();
        spoilt[at] ^= 1 << (at % 8);
        fs::write(&path, spoilt).unwrap();
        let opened = SqliteStore::open(&Settings::new(dir.path()), NOW);
        assert!(matches!(opened, Err(StoreError::Corrupt(_))), "byte {at}: {opened:?}");
    }
}

#[test]
fn fault_1b_a_database_cut_short_is_never_taken_as_whole() {
    let dir = data_dir();
    use_up(&open(&dir), 0..2000, soon(), NOW);
    let path = dir.path().join(files::FILE);
    let good = fs::read(&path).unwrap();
    for cut in [1, 100, 4096, 3 * 4096 + 7, good.len() - 4096] {
        fs::write(&path, &good[..good.len() - cut]).unwrap();
        assert!(SqliteStore::open(&Settings::new(dir.path()), NOW).is_err(), "{cut} bytes less");
    }
}

/// Copies the files as `kill -9` leaves them.
fn killed(dir: &TempDir) -> TempDir {
    let copy = copy_of(dir);
    for file in ["certbind.db-shm", "certbind.mark"] {
        fs::copy(dir.path().join(file), copy.path().join(file)).unwrap();
    }
    copy
}

/// What the next start would think of these files.
fn doubt(dir: &TempDir) -> Option<Doubt> {
    Mark::take(&dir.path().canonicalize().unwrap().join(files::FILE)).unwrap().1
}

/// A store in the middle of its log, that has begun anew once.
fn in_full_run(dir: &TempDir) -> SqliteStore {
    let store = open(dir);
    use_up(&store, 1000..1500, soon(), NOW);
    store.tamper(|connection| {
        connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
    });
    (1500..1510).for_each(|n| use_up(&store, n..n + 1, soon(), NOW));
    store
}

/// A way to spoil the log of this length.
type SpoilLog = fn(&Path);

#[test]
fn fault_1_a_log_that_lacks_what_was_committed_last_is_doubted_and_a_whole_one_is_not() {
    let spoils: [(&str, SpoilLog, Doubt); 5] = [
        ("cut", |log| cut(log, 100), Doubt::Damaged),
        ("without the last frame", |log| cut(log, 24 + 4096), Doubt::Damaged),
        ("emptied", |log| fs::write(log, "").unwrap(), Doubt::NoLog),
        ("deleted", |log| fs::remove_file(log).unwrap(), Doubt::NoLog),
        ("without a header", |log| flip(log, 3), Doubt::Damaged),
    ];
    let dir = data_dir();
    let store = open(&dir);
    (0..10).for_each(|n| use_up(&store, n * 10..(n + 1) * 10, soon(), NOW));
    let without_index = killed(&dir);
    fs::remove_file(without_index.path().join("certbind.db-shm")).unwrap();
    assert_eq!(doubt(&without_index), None, "a log that is whole to its end");
    for (name, spoil, expected) in spoils {
        for has_index in [true, false] {
            let after = killed(&dir);
            assert_eq!(doubt(&after), None);
            spoil(&after.path().join("certbind.db-wal"));
            if !has_index {
                fs::remove_file(after.path().join("certbind.db-shm")).unwrap();
            }
            let is_seen = has_index || name != "without the last frame";
            assert_eq!(doubt(&after), is_seen.then_some(expected), "{name}, {has_index}");
            let again = if is_seen { Some(Doubt::Before) } else { None };
            assert_eq!(doubt(&after), again, "{name}: until it is dealt with");
        }
    }
}

/// Where the last commit of a log ends; what is left of a log of before may follow.
fn end_of_commits(database: &Path) -> usize {
    let wal_index::Committed { frame, .. } = wal_index::committed(database).unwrap();
    32 + frame as usize * (24 + 4096)
}

/// Cuts a log so many bytes before the end of its last commit.
fn cut(log: &Path, bytes: usize) {
    let end = end_of_commits(&log.with_file_name(files::FILE));
    let file = fs::OpenOptions::new().write(true).open(log).unwrap();
    file.set_len((end - bytes) as u64).unwrap();
}

fn flip(log: &Path, at: usize) {
    let mut bytes = fs::read(log).unwrap();
    bytes[at] ^= 1 << (at % 8);
    fs::write(log, bytes).unwrap();
}

#[test]
fn fault_1b_each_flipped_bit_in_the_last_commit_is_seen() {
    let dir = data_dir();
    let store = in_full_run(&dir);
    let end = end_of_commits(&dir.path().join(files::FILE));
    assert!(end < fs::metadata(dir.path().join("certbind.db-wal")).unwrap().len() as usize, "older frames follow");
    assert_eq!(doubt(&killed(&dir)), None);
    for at in (end - 24 - 4096..end).step_by(59) {
        let after = killed(&dir);
        flip(&after.path().join("certbind.db-wal"), at);
        assert_eq!(doubt(&after), Some(Doubt::Damaged), "byte {at}");
    }
    drop(store);
}

#[test]
fn a_log_of_before_is_not_taken_for_the_last_one() {
    let dir = data_dir();
    let store = open(&dir);
    use_up(&store, 0..500, soon(), NOW);
    let before = fs::read(dir.path().join("certbind.db-wal")).unwrap();
    drop(store);
    let store = in_full_run(&dir);
    let after = killed(&dir);
    fs::write(after.path().join("certbind.db-wal"), before).unwrap();
    assert_eq!(doubt(&after), Some(Doubt::OtherLog));
    drop(store);
}

#[test]
fn a_database_that_was_closed_or_is_open_elsewhere_is_not_doubted() {
    let dir = data_dir();
    let (store, other) = (open(&dir), open(&dir));
    assert_eq!((store.doubt(), other.doubt()), (None, None));
    drop(store);
    use_up(&other, 0..10, soon(), NOW);
    drop(other);
    assert!(!dir.path().join("certbind.db-wal").exists());
    assert_eq!(doubt(&dir), None);
    assert_eq!(open(&dir).doubt(), None);
}

#[test]
fn fault_3_where_uses_may_be_missing_what_is_from_before_is_refused_and_told_until_then() {
    let dir = data_dir();
    let mut child = spawn_user(&dir, 0);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let used_name = lines.find_map(|line| line.strip_prefix("used ").map(str::to_owned)).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    fs::write(dir.path().join("certbind.db-wal"), "").unwrap();
    let store = open(&dir);
    assert_eq!(store.doubt(), Some(Doubt::NoLog));
    let replayed = try_wait(store.first_use(used(&used_name, soon()), NOW));
    assert!(matches!(replayed, Err(StoreError::BeforeFailOver) | Ok(FirstUse::No)), "{replayed:?}");
    let later = NOW.plus(Duration::from_secs(61));
    let fresh = Use { issued: Some(later), ..used("fresh", soon()) };
    assert_eq!(wait(store.first_use(fresh, later)), FirstUse::Yes);
    drop(store);
    assert_eq!(open(&dir).doubt(), None, "told once");
}

#[test]
fn attack_21_a_database_that_is_gone_or_emptied_is_not_begun_anew() {
    let spoils: [(&str, SpoilLog); 3] = [
        ("deleted", |path| fs::remove_file(path).unwrap()),
        ("emptied", |path| fs::write(path, "").unwrap()),
        ("an empty database", |path| {
            fs::remove_file(path).unwrap();
            let empty = Connection::open(path).unwrap();
            empty.pragma_update(None, "journal_mode", "WAL").unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }),
    ];
    for (name, spoil) in spoils {
        let dir = data_dir();
        drop(open(&dir));
        let path = dir.path().join(files::FILE);
        spoil(&path);
        let left = fs::read(&path).ok();
        let refused = SqliteStore::open(&Settings::new(dir.path()), NOW);
        assert!(matches!(refused, Err(StoreError::Gone { .. })), "{name}: {refused:?}");
        assert_eq!(fs::read(&path).ok(), left, "{name}: nothing is made in its place");
        fs::remove_file(dir.path().join("certbind.mark")).unwrap();
        assert_eq!(open(&dir).live_entries(), 0, "{name}: an operator may say so");
    }
}

/// Copies the files as they are on disk now.
fn copy_of(dir: &TempDir) -> TempDir {
    let copy = data_dir();
    for file in ["certbind.db", "certbind.db-wal"] {
        fs::copy(dir.path().join(file), copy.path().join(file)).unwrap();
    }
    copy
}

#[test]
fn fault_1b_a_flipped_bit_in_the_log_is_found_at_open() {
    const GROUPS: usize = 20;
    let dir = data_dir();
    let store = open(&dir);
    (0..GROUPS).for_each(|n| use_up(&store, n * 10..(n + 1) * 10, soon(), NOW));
    let copy = copy_of(&dir);
    let path = copy.path().join("certbind.db-wal");
    let good = fs::read(&path).unwrap();
    let mut found = 0;
    for at in (0..good.len()).step_by(1999).chain(0..32) {
        let mut spoilt = good.clone();
        spoilt[at] ^= 1 << (at % 8);
        fs::write(&path, spoilt).unwrap();
        match SqliteStore::open(&Settings::new(copy_of(&copy).path()), NOW) {
            Err(error) => {
                assert!(matches!(error, StoreError::Corrupt(_)), "byte {at}: {error:?}");
                found += 1;
            }
            // The last commit looks as if it had been cut off by a loss of power.
            Ok(store) => assert!(store.live_entries() >= (GROUPS as u64 - 1) * 10, "byte {at}"),
        }
    }
    assert!(found > good.len() / 1999 / 2, "{found} were found");
}

#[test]
fn fault_25_commits_that_failed_and_were_written_over_are_no_damage() {
    let dir = data_dir();
    let store = open(&dir);
    use_up(&store, 0..10, soon(), NOW);
    // What two longer commits leave behind when their sync fails: the second over the first, a good one over both.
    let left = [900, 500].map(|rows| log_of_one_commit(&copy_of(&dir), rows));
    use_up(&store, 10..11, soon(), NOW);
    let copy = copy_of(&dir);
    let path = copy.path().join("certbind.db-wal");
    let mut log = fs::read(&path).unwrap();
    for longer in left.iter().rev() {
        log.extend_from_slice(&longer[log.len()..]);
    }
    fs::write(path, log).unwrap();
    assert_eq!(open(&copy).live_entries(), 11);
}

fn log_of_one_commit(dir: &TempDir, rows: u32) -> Vec<u8> {
    let raw = database(dir);
    let insert = "WITH RECURSIVE new(id) AS (SELECT 100 UNION ALL SELECT id + 1 FROM new LIMIT ?1)
                  INSERT INTO replay SELECT id, randomblob(16), 0, 0 FROM new";
    raw.execute(insert, [rows]).unwrap();
    fs::read(dir.path().join("certbind.db-wal")).unwrap()
}

#[test]
fn fault_1b_a_log_that_was_cut_off_is_a_crash_and_gives_all_commits_before_the_cut() {
    let dir = data_dir();
    let store = open(&dir);
    let mut lengths = Vec::new();
    let wal = dir.path().join("certbind.db-wal");
    for n in 0..10 {
        use_up(&store, n * 10..(n + 1) * 10, soon(), NOW);
        lengths.push(fs::metadata(&wal).unwrap().len() as usize);
    }
    let copy = copy_of(&dir);
    let path = copy.path().join("certbind.db-wal");
    let good = fs::read(&path).unwrap();
    for cut in (lengths[0]..good.len()).step_by(2003) {
        fs::write(&path, &good[..cut]).unwrap();
        let whole = lengths.iter().filter(|length| **length <= cut).count() as u64;
        assert_eq!(open(&copy_of(&copy)).live_entries(), whole * 10, "cut at byte {cut}");
    }
}

#[test]
fn fault_1c_what_is_answered_survives_the_loss_of_power_after_any_commit() {
    let dir = data_dir();
    let store = open(&dir);
    for n in 0..40 {
        use_up(&store, n * 25..(n + 1) * 25, soon(), NOW);
        assert_eq!(open(&copy_of(&dir)).live_entries(), (n as u64 + 1) * 25);
    }
}

#[test]
fn fault_1_what_is_answered_survives_kill_9() {
    let dir = data_dir();
    let mut acknowledged = Vec::new();
    for round in 0..20 {
        let mut child = spawn_user(&dir, round);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut used = lines.filter_map(|line| line.strip_prefix("used ").map(str::to_owned));
        acknowledged.push(used.next().unwrap());
        std::thread::sleep(Duration::from_micros(700 * round));
        child.kill().unwrap();
        acknowledged.extend(used);
        child.wait().unwrap();
        let opening = Instant::now();
        let store = open(&dir);
        assert!(opening.elapsed() < Duration::from_secs(1), "a start after a crash is quick");
        for name in &acknowledged {
            assert_eq!(first_use(&store, key(name), soon(), NOW), FirstUse::No, "{name}, after kill {round}");
        }
    }
    assert!(acknowledged.len() > 100, "only {} uses were answered", acknowledged.len());
}

const CHILD_DIR: &str = "CERTBIND_TEST_STORE_DIR";
const CHILD_ROUND: &str = "CERTBIND_TEST_STORE_ROUND";

fn spawn_user(dir: &TempDir, round: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::sqlite::tests::child_that_uses_keys_until_it_is_killed", "--nocapture"])
        .env(CHILD_DIR, dir.path())
        .env(CHILD_ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Does nothing unless the test above starts it.
#[test]
fn child_that_uses_keys_until_it_is_killed() {
    let (Some(dir), Ok(round)) = (std::env::var_os(CHILD_DIR), std::env::var(CHILD_ROUND)) else { return };
    let store = SqliteStore::open(&Settings::new(dir), NOW).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (store, round) = (&store, &round);
            scope.spawn(move || {
                // An end of its own, in case nobody kills it.
                for n in 0..100_000 {
                    let name = format!("{round}.{thread}.{n}");
                    assert_eq!(first_use(store, key(&name), soon(), NOW), FirstUse::Yes);
                    println!("\nused {name}");
                }
            });
        }
    });
}

#[test]
fn fault_5_on_a_full_disk_nothing_is_first_and_the_store_recovers_by_itself() {
    let dir = data_dir();
    let store = open(&dir);
    use_up(&store, 0..100, soon(), NOW);
    store.tamper(|connection| {
        let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        connection.pragma_update(None, "max_page_count", pages).unwrap();
    });
    let refused: Vec<usize> = (100..900).filter(|n| is_unavailable(&store, *n)).collect();
    assert!(refused.len() > 200, "the disk is full");
    assert!(!store.is_healthy());
    assert_eq!(first_use(&store, key(0), soon(), NOW), FirstUse::No, "a replay is still known");
    assert!(!store.is_healthy(), "and is no proof that the disk works");
    store.tamper(|connection| connection.pragma_update(None, "max_page_count", 1 << 30).unwrap());
    wait_until(|| store.is_healthy());
    for n in refused {
        assert_eq!(first_use(&store, key(n), soon(), NOW), FirstUse::Yes, "{n} was refused, not used up");
    }
}

fn is_unavailable(store: &SqliteStore, n: usize) -> bool {
    match try_wait(store.first_use(used(n, soon()), NOW)) {
        Ok(first) => {
            assert_eq!(first, FirstUse::Yes);
            false
        }
        Err(error) => {
            assert!(matches!(error, StoreError::DiskFull), "{error:?}");
            true
        }
    }
}

#[test]
fn fault_4_a_locked_store_fails_within_two_seconds_and_recovers() {
    let dir = data_dir();
    let store = open(&dir);
    let other = database(&dir);
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let start = Instant::now();
    assert!(matches!(try_wait(store.first_use(used(1, soon()), NOW)), Err(StoreError::Busy)));
    assert!(start.elapsed() < Duration::from_secs(2));
    assert!(!store.is_healthy());
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(first_use(&store, key(1), soon(), NOW), FirstUse::Yes);
    assert!(store.is_healthy());
}

#[test]
fn a_caller_that_went_away_before_its_turn_uses_nothing_up() {
    let dir = data_dir();
    let store = open(&dir);
    let gone = oneshot::channel().0;
    store.calls.push(Call::FirstUse { used: used(1, soon()), now: NOW, reply: gone }).unwrap();
    assert_eq!(first_use(&store, key(1), soon(), NOW), FirstUse::Yes);
}

#[test]
fn fault_22_a_store_that_holds_all_it_may_refuses_until_times_are_over() {
    let dir = data_dir();
    let store = SqliteStore::open(&Settings { max_entries: 1000, ..Settings::new(dir.path()) }, NOW).unwrap();
    use_up(&store, 0..1000, soon(), NOW);
    let later = soon().plus(Duration::from_secs(2 * 3600));
    assert!(matches!(try_wait(store.first_use(used(1000, soon()), NOW)), Err(StoreError::Full)));
    assert_eq!(first_use(&store, key(0), soon(), NOW), FirstUse::No, "nothing was evicted to make room");
    let made_room = (0..10_000).any(|_| try_wait(store.first_use(used(1000, later), later)).is_ok());
    assert!(made_room, "what is over makes room");
}

#[test]
fn fault_22_rows_whose_time_is_over_leave_the_file_and_stay_refused() {
    let dir = data_dir();
    let store = open(&dir);
    use_up(&store, 0..3000, soon(), NOW);
    let much_later = soon().plus(Duration::from_secs(3 * 3600));
    use_up(&store, 3000..8000, much_later, much_later);
    drop(store);
    let rows: i64 = database(&dir).query_row("SELECT count(*) FROM replay", [], |row| row.get(0)).unwrap();
    assert!(rows < 6000, "{rows} rows are left of 5000 live ones");
    let store = open(&dir);
    for n in [0, 1000, 2999] {
        let replayed = try_wait(store.first_use(used(n, soon()), NOW));
        assert!(matches!(replayed, Ok(FirstUse::No) | Err(StoreError::ClockBehind)), "with the clock set back: {n}");
    }
    let rows: i64 = database(&dir).query_row("SELECT min(length(key)) FROM replay", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 16, "a jti of any size takes 16 bytes");
}

/// Prints what a first use costs; asserts no time, only that every one is the first.
#[test]
fn the_cost_of_a_first_use_is_printed() {
    let dir = data_dir();
    let store = open(&dir);
    for live in [0, 20_000, 40_000] {
        use_up(&store, store.live_entries() as usize..live, soon(), NOW);
        let start = Instant::now();
        use_up(&store, live..live + 2000, soon(), NOW);
        println!("with {live} live entries: {:?} for each of 2000", start.elapsed() / 2000);
    }
}

/// Uses keys for the first time, all at once, and waits for the answers.
fn use_up(store: &SqliteStore, keys: std::ops::Range<usize>, keep_until: Timestamp, now: Timestamp) {
    let keys: Vec<usize> = keys.collect();
    for keys in keys.chunks(4096) {
        let ask = |n: &usize| {
            let (reply, answer) = oneshot::channel();
            store.calls.push(Call::FirstUse { used: used(n, keep_until), now, reply }).unwrap();
            answer
        };
        let answers: Vec<_> = keys.iter().map(ask).collect();
        for answer in answers {
            assert_eq!(answer.blocking_recv().unwrap().unwrap(), FirstUse::Yes);
        }
    }
}

fn wait_until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(5), "it takes too long");
        std::thread::sleep(Duration::from_millis(5));
    }
}
