//! A copy of the database while servers work with it: of one moment, checked, and marked as a copy.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use certbind_proto::time::Timestamp;
use rusqlite::{Connection, OpenFlags};

use super::super::StoreError;
use super::files::{self, unavailable};
use super::mark::Mark;
use super::{clients, keys, origin, revocations, schema};

/// How long servers may hold the database up.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// What a copy holds that an operator has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Its size.
    pub bytes: u64,
    /// How many private signing keys lie in it in the clear.
    pub unsealed_keys: u64,
}

/// Copies the database of this folder to a new file, for its owner alone. Nothing is left of a copy that fails.
///
/// # Errors
/// There is no database, it is of another version, or damaged; the file is there already, or cannot be written.
pub fn copy(data_dir: &Path, to: &Path) -> Result<Copied, StoreError> {
    let from = data_dir.join(files::FILE);
    fs::metadata(&from).map_err(unavailable)?;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(unavailable)?;
    let copied = fill(&from, to);
    if copied.is_err() {
        let _ = fs::remove_file(to);
    }
    copied
}

fn fill(from: &Path, to: &Path) -> Result<Copied, StoreError> {
    // Not read only: where no server runs, the first reader makes the files that readers share.
    let mark = Mark::take_existing(from)?;
    let original = open(from)?;
    schema::is_current(&original, from)?;
    let target = to.to_str().ok_or_else(|| unavailable(io::ErrorKind::InvalidFilename.into()))?;
    // One read transaction of the whole: what is committed meanwhile is not in it, and nobody waits. Free pages, in which
    // something that was deleted may still stand, are left out.
    original.execute("VACUUM INTO ?1", [target])?;
    drop(original);
    mark.into_iter().for_each(Mark::close);
    let copy = open(to)?;
    let finding: String = copy.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if finding != "ok" {
        return Err(StoreError::Corrupt(None));
    }
    is_readable(&copy)?;
    origin::mark(&copy)?;
    let unsealed: i64 =
        copy.query_row("SELECT count(*) FROM signing_keys WHERE form = 'pkcs8'", [], |row| row.get(0))?;
    drop(copy);
    let bytes = keep(to).map_err(unavailable)?;
    Ok(Copied { bytes, unsealed_keys: unsealed.unsigned_abs() })
}

/// Reads what a server could not start without or do over: each row says by its checksum whether it is as it was written.
fn is_readable(copy: &Connection) -> Result<(), StoreError> {
    keys::load(copy)?;
    clients::since(copy, 0)?;
    revocations::since(copy, 0, Timestamp::from_millis(i64::MIN))?;
    Ok(())
}

fn open(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(LOCK_TIMEOUT)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    Ok(connection)
}

/// On disk, and its name as well.
fn keep(path: &Path) -> io::Result<u64> {
    let file = File::open(path)?;
    file.sync_all()?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()?;
    Ok(file.metadata()?.len())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::super::{Settings, SqliteStore};
    use super::*;
    use crate::store::conformance::{NOW, signing_key, soon, try_wait, wait};
    use crate::store::{
        ClientStore as _, Expected, FirstUse, KeyStore as _, Replaced, ReplayKey, ReplayStore as _, Secret, StoredKey,
        Use,
    };

    const MINUTE: Duration = Duration::from_secs(60);

    /// A folder with a store in `data`, and room for copies.
    struct Folder(TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn open(&self, name: &str, now: Timestamp) -> Result<SqliteStore, StoreError> {
            SqliteStore::open(&Settings::new(self.path(name)), now)
        }

        /// Puts a file in the place of a database that is no more.
        fn restore(&self, copy: &str, name: &str) {
            fs::create_dir(self.path(name)).unwrap();
            fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o700)).unwrap();
            fs::copy(self.path(copy), self.path(name).join(files::FILE)).unwrap();
        }
    }

    fn used(jti: &str, issued: Option<Timestamp>) -> Use {
        let keep_until = issued.unwrap_or(NOW).plus(10 * MINUTE);
        Use { key: ReplayKey::of("batch", jti), issued, keep_until }
    }

    fn first(store: &SqliteStore, jti: &str, issued: Timestamp, now: Timestamp) -> Result<FirstUse, StoreError> {
        try_wait(store.first_use(used(jti, Some(issued)), now))
    }

    #[test]
    fn fault_3_what_was_used_after_a_copy_was_made_is_not_good_again_on_the_copy() {
        let folder = Folder::new();
        let store = folder.open("data", NOW).unwrap();
        let later = NOW.plus(MINUTE);
        assert!(matches!(first(&store, "before", NOW, NOW), Ok(FirstUse::Yes)));
        copy(&folder.path("data"), &folder.path("copy")).unwrap();
        assert!(matches!(first(&store, "after", NOW, NOW), Ok(FirstUse::Yes)));
        drop(store);
        folder.restore("copy", "restored");
        for _ in 0..2 {
            let store = folder.open("restored", later).unwrap();
            assert!(matches!(first(&store, "before", NOW, later), Ok(FirstUse::No)));
            assert!(matches!(first(&store, "after", NOW, later), Err(StoreError::BeforeFailOver)));
            let without = try_wait(store.first_use(used("no iat", None), later));
            assert!(matches!(without, Err(StoreError::BeforeFailOver)), "{without:?}");
        }
        let store = folder.open("restored", later.plus(5 * MINUTE)).unwrap();
        let fresh = later.plus(Duration::from_secs(61));
        assert!(matches!(first(&store, "fresh", fresh, fresh), Ok(FirstUse::Yes)));
        assert!(matches!(first(&store, "fresh", fresh, fresh), Ok(FirstUse::No)));
        let original = folder.open("data", later).unwrap();
        assert!(matches!(first(&original, "another", NOW, later), Ok(FirstUse::Yes)), "the original is no copy");
    }

    #[test]
    fn fault_3_a_copy_that_was_made_by_other_means_is_told_by_its_file() {
        let folder = Folder::new();
        drop(folder.open("data", NOW).unwrap());
        folder.restore("data/certbind.db", "restored");
        let store = folder.open("restored", NOW).unwrap();
        assert!(matches!(first(&store, "a", NOW, NOW), Err(StoreError::BeforeFailOver)));
        fs::rename(folder.path("data"), folder.path("moved")).unwrap();
        let store = folder.open("moved", NOW).unwrap();
        assert!(matches!(first(&store, "a", NOW, NOW), Ok(FirstUse::Yes)), "a folder that was moved is the same");
    }

    #[test]
    fn a_copy_holds_what_the_original_does_for_its_owner_alone_and_says_which_keys_are_open() {
        let folder = Folder::new();
        let store = folder.open("data", NOW).unwrap();
        let sealed = StoredKey { secret: Secret::Sealed(vec![7; 40]), ..signing_key("k2", "ES256") };
        let keys = vec![signing_key("k1", "ES256"), sealed];
        assert_eq!(wait(store.replace(0, keys.clone())), Replaced::Yes(1));
        let copied = copy(&folder.path("data"), &folder.path("copy")).unwrap();
        let metadata = fs::metadata(folder.path("copy")).unwrap();
        assert_eq!((copied.bytes, copied.unsealed_keys), (metadata.len(), 1));
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        let beside = fs::read_dir(folder.0.path()).unwrap().count();
        assert_eq!(beside, 2, "the folder of the store, and the copy");
        folder.restore("copy", "restored");
        assert_eq!(wait(folder.open("restored", NOW).unwrap().load()).keys, keys);
    }

    #[test]
    fn a_file_that_is_there_stays_and_a_copy_that_fails_leaves_nothing() {
        let folder = Folder::new();
        assert!(copy(&folder.path("nowhere"), &folder.path("copy")).is_err());
        let store = folder.open("data", NOW).unwrap();
        fs::write(folder.path("copy"), "mine").unwrap();
        assert!(copy(&folder.path("data"), &folder.path("copy")).is_err());
        assert_eq!(fs::read(folder.path("copy")).unwrap(), b"mine");
        assert!(copy(&folder.path("data"), &folder.path("no/folder")).is_err());
        wait(store.put_client("billing".into(), "{}".into(), Expected::Absent, NOW));
        drop(store);
        let database = Connection::open(folder.path("data").join(files::FILE)).unwrap();
        database.execute("UPDATE clients SET metadata = '[]'", []).unwrap();
        let unreadable = copy(&folder.path("data"), &folder.path("unreadable"));
        assert!(matches!(unreadable, Err(StoreError::Corrupt(_))), "{unreadable:?}");
        assert!(!folder.path("unreadable").exists());
        drop(database);
        let file = folder.path("data").join(files::FILE);
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..].fill(0xff);
        fs::write(&file, bytes).unwrap();
        assert!(copy(&folder.path("data"), &folder.path("spoilt")).is_err());
        assert!(!folder.path("spoilt").exists());
    }

    #[test]
    fn fault_27_an_older_format_is_no_copy_of_ours() {
        let folder = Folder::new();
        drop(folder.open("data", NOW).unwrap());
        let database = Connection::open(folder.path("data").join(files::FILE)).unwrap();
        database.pragma_update(None, "user_version", 3).unwrap();
        let copied = copy(&folder.path("data"), &folder.path("copy"));
        assert!(matches!(copied, Err(StoreError::Older { found: 3, known: schema::KNOWN })), "{copied:?}");
    }

    #[test]
    fn fault_25_a_log_of_the_database_before_is_not_read_into_a_copy() {
        let folder = Folder::new();
        let store = folder.open("data", NOW).unwrap();
        copy(&folder.path("data"), &folder.path("copy")).unwrap();
        assert!(matches!(first(&store, "a", NOW, NOW), Ok(FirstUse::Yes)));
        folder.restore("copy", "restored");
        let log = folder.path("restored/certbind.db-wal");
        fs::copy(folder.path("data/certbind.db-wal"), &log).unwrap();
        let Err(StoreError::StrayLog { path }) = folder.open("restored", soon()) else { panic!("a stray log is read") };
        assert_eq!(path.file_name(), log.file_name());
        fs::remove_file(log).unwrap();
        assert!(folder.open("restored", soon()).is_ok());
    }
}
