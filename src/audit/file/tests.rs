use std::fs;
use std::io::BufReader;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::process::Command;
use std::sync::Arc;

use certbind_proto::entropy::OsEntropy;
use tempfile::TempDir;

use super::super::lines::Lines;
use super::super::verify::{Break, Note, Report, Verifier};
use super::*;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn open(&self) -> AuditFile {
        AuditFile::open(self.path("audit.jsonl"), Arc::new(OsEntropy)).unwrap()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn rotate(&self, to: &str) {
        fs::rename(self.path("audit.jsonl"), self.path(to)).unwrap();
    }

    fn verify(&self, names: &[&str]) -> Report {
        let mut verifier = Verifier::default();
        for (file, name) in names.iter().enumerate() {
            let mut lines = Lines::new(BufReader::new(File::open(self.path(name)).unwrap()));
            while let Some(line) = lines.next_line().unwrap() {
                verifier.line(file, line);
            }
        }
        verifier.finish()
    }

    /// One chain of so many lines, and nothing wrong with it.
    fn assert_one_chain(&self, names: &[&str], lines: u64) {
        let report = self.verify(names);
        assert!(report.is_good(), "{:?}", report.breaks);
        let chains: Vec<_> = report.chains.iter().map(|chain| (chain.first_seq, chain.lines)).collect();
        assert_eq!(chains, [(1, lines)]);
    }
}

/// Writes these events as the thread does, and tells of what was cut off.
fn write(file: &mut AuditFile, events: &[&str]) {
    let Start { position, torn } = file.hold().unwrap();
    let (mut position, mut lines) = (position.unwrap(), Vec::new());
    for torn in torn {
        position.append(format!(r#"{{"event":"audit.torn","torn":"{}"}}"#, torn.hash).as_bytes(), &mut lines);
    }
    for event in events {
        position.append(format!(r#"{{"event":"{event}"}}"#).as_bytes(), &mut lines);
    }
    let appended = file.append(&lines);
    assert!(appended.fault.is_none(), "{:?}", appended.fault);
    file.release(Some(position));
}

#[test]
fn a_new_file_is_its_owners_alone() {
    let folder = Folder::new();
    write(&mut folder.open(), &["a", "b"]);
    assert_eq!(fs::metadata(folder.path("audit.jsonl")).unwrap().mode() & 0o777, 0o600);
    folder.assert_one_chain(&["audit.jsonl"], 2);
}

#[test]
fn a_restart_goes_on_with_the_chain() {
    let folder = Folder::new();
    for _ in 0..3 {
        write(&mut folder.open(), &["a", "b"]);
    }
    folder.assert_one_chain(&["audit.jsonl"], 6);
}

#[test]
fn a_rotation_gets_no_line_that_is_written_after_it_and_the_chain_goes_on_in_the_new_file() {
    let folder = Folder::new();
    let mut file = folder.open();
    write(&mut file, &["a", "b"]);
    folder.rotate("audit.jsonl.1");
    write(&mut file, &["c"]);
    assert_eq!((folder.read("audit.jsonl.1").lines().count(), folder.read("audit.jsonl").lines().count()), (2, 1));
    folder.assert_one_chain(&["audit.jsonl.1", "audit.jsonl"], 3);
}

/// What can stand where the log was, and take no line that stays.
const NO_LOGS: [fn(&Path); 4] = [
    |path| fs::create_dir(path).unwrap(),
    |path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success()),
    |path| symlink("/dev/full", path).unwrap(),
    |path| symlink("nowhere/audit.jsonl", path).unwrap(),
];

#[test]
fn a_file_that_was_removed_or_replaced_takes_no_line_and_the_chain_goes_on_in_the_next_one() {
    for put in NO_LOGS {
        let folder = Folder::new();
        let path = folder.path("audit.jsonl");
        let mut file = folder.open();
        write(&mut file, &["a"]);
        fs::remove_file(&path).unwrap();
        put(&path);
        assert!(file.hold().is_err());
        fs::rename(&path, folder.path("aside")).unwrap();
        write(&mut file, &["b"]);
        assert_eq!(folder.verify(&["audit.jsonl"]).chains[0].first_seq, 2);
    }
}

#[test]
fn a_file_that_was_moved_takes_lines_while_no_other_can_be_made_unless_they_are_required() {
    let folder = Folder::new();
    let path = folder.path("log/audit.jsonl");
    for (durability, is_taken) in [(Durability::BestEffort, true), (Durability::Required, false)] {
        fs::create_dir(folder.path("log")).unwrap();
        let mut file = AuditFile::open(path.clone(), Arc::new(OsEntropy)).unwrap().with(durability);
        write(&mut file, &["a"]);
        fs::rename(&path, folder.path("moved")).unwrap();
        fs::remove_dir(folder.path("log")).unwrap();
        assert_eq!(file.hold().is_ok(), is_taken, "{durability:?}");
        file.release(None);
        fs::remove_file(folder.path("moved")).unwrap();
        assert!(file.hold().is_err(), "{durability:?}");
    }
}

#[test]
fn a_line_is_not_on_disk_when_its_file_was_removed_meanwhile() {
    let folder = Folder::new();
    let mut file = folder.open();
    write(&mut file, &["a"]);
    file.sync().unwrap();
    fs::remove_file(folder.path("audit.jsonl")).unwrap();
    assert!(file.sync().is_err());
}

#[test]
fn a_start_right_after_a_rotation_goes_on_with_the_chain_of_the_newest_file() {
    let folder = Folder::new();
    for name in ["audit.jsonl-20261121", "audit.jsonl-20261122"] {
        write(&mut folder.open(), &["a"]);
        folder.rotate(name);
    }
    let later = fs::metadata(folder.path("audit.jsonl-20261121")).unwrap().modified().unwrap() + Duration::from_secs(9);
    File::open(folder.path("audit.jsonl-20261122")).unwrap().set_modified(later).unwrap();
    for (name, text) in [("audit.jsonl.bak", "{}\n"), ("audit.json", "{}\n"), ("other.jsonl.1", "{}\n")] {
        fs::write(folder.path(name), text).unwrap();
    }
    write(&mut folder.open(), &["b"]);
    folder.assert_one_chain(&["audit.jsonl-20261121", "audit.jsonl-20261122", "audit.jsonl"], 3);
}

#[test]
fn fault_16_two_processes_write_one_chain_and_a_rotation_does_not_part_them() {
    let folder = Folder::new();
    let (mut old, mut new) = (folder.open(), folder.open());
    for turn in 0..20 {
        write(&mut old, &["a", "b"]);
        write(&mut new, &["c"]);
        match turn {
            5 => folder.rotate("audit.jsonl.2"),
            11 => {
                folder.rotate("audit.jsonl.1");
                write(&mut new, &["d"]);
            }
            _ => {}
        }
    }
    drop(old);
    write(&mut new, &["e"]);
    folder.assert_one_chain(&["audit.jsonl.2", "audit.jsonl.1", "audit.jsonl"], 62);
}

#[test]
fn fault_16_two_processes_at_once_write_one_chain() {
    let folder = Folder::new();
    thread::scope(|scope| {
        for _ in 0..4 {
            let mut file = folder.open();
            scope.spawn(move || (0..50).for_each(|_| write(&mut file, &["a", "b", "c"])));
        }
    });
    folder.assert_one_chain(&["audit.jsonl"], 600);
}

#[test]
fn a_process_that_keeps_the_file_is_not_waited_for_for_ever() {
    let folder = Folder::new();
    let (mut stuck, mut file) = (folder.open(), folder.open());
    stuck.hold().unwrap();
    let began = Instant::now();
    assert_eq!(file.hold().unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(began.elapsed() >= LOCK_DEADLINE);
    drop(stuck);
    write(&mut file, &["a"]);
    folder.assert_one_chain(&["audit.jsonl"], 1);
}

/// What a crash leaves, and how many lines the chain has after two more.
#[test]
fn fault_1_the_rest_of_a_line_is_ended_and_told() {
    for (rest, lines, notes) in [("", 4, 0), ("{", 5, 1), (r#"{"event":"token.iss"#, 5, 1), ("\0\0\0\0", 5, 1)] {
        let folder = Folder::new();
        write(&mut folder.open(), &["a", "b"]);
        fs::write(folder.path("audit.jsonl"), folder.read("audit.jsonl") + rest).unwrap();
        write(&mut folder.open(), &["c", "d"]);
        folder.assert_one_chain(&["audit.jsonl"], lines);
        assert_eq!(folder.verify(&["audit.jsonl"]).notes.len(), notes, "{rest:?}");
    }
}

#[test]
fn fault_1_a_line_that_lacks_its_end_alone_is_a_line() {
    let folder = Folder::new();
    write(&mut folder.open(), &["a", "b"]);
    let text = folder.read("audit.jsonl");
    fs::write(folder.path("audit.jsonl"), text.trim_end()).unwrap();
    write(&mut folder.open(), &["c"]);
    folder.assert_one_chain(&["audit.jsonl"], 3);
}

#[test]
fn fault_1_the_rest_of_a_line_in_the_rotated_file_is_told_in_the_new_one() {
    let folder = Folder::new();
    let mut file = folder.open();
    write(&mut file, &["a"]);
    fs::write(folder.path("audit.jsonl"), folder.read("audit.jsonl") + "{\"ev").unwrap();
    folder.rotate("audit.jsonl.1");
    write(&mut file, &["b"]);
    folder.assert_one_chain(&["audit.jsonl.1", "audit.jsonl"], 3);
}

#[test]
fn fault_1_the_rest_of_a_line_is_told_also_when_the_new_file_cannot_be_held_at_first() {
    let folder = Folder::new();
    let (mut file, mut stuck) = (folder.open(), folder.open());
    write(&mut file, &["a"]);
    fs::write(folder.path("audit.jsonl"), folder.read("audit.jsonl") + "{\"ev").unwrap();
    folder.rotate("audit.jsonl.1");
    stuck.hold_current().unwrap();
    assert_eq!(file.hold().unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(stuck);
    write(&mut file, &["b"]);
    folder.assert_one_chain(&["audit.jsonl.1", "audit.jsonl"], 3);
}

/// A disk that is full takes not even the end of the line, and the process may die before there is room again.
#[test]
fn fault_5_the_rest_of_a_line_stays_as_it_is_until_it_can_be_told() {
    let folder = Folder::new();
    write(&mut folder.open(), &["a"]);
    let torn = folder.read("audit.jsonl") + "{\"ev";
    fs::write(folder.path("audit.jsonl"), &torn).unwrap();
    let mut file = folder.open();
    let writable = std::mem::replace(&mut file.open, Open(File::open(folder.path("audit.jsonl")).unwrap()));
    let start = file.hold().unwrap();
    assert_eq!(start.torn.len(), 1);
    let appended = file.append(b"{}\n");
    assert!((appended.whole, appended.fault.is_some()) == (0, true), "{appended:?}");
    file.release(start.position);
    assert_eq!(folder.read("audit.jsonl"), torn);

    write(&mut folder.open(), &["b"]);
    file.open = writable;
    write(&mut file, &["c"]);
    folder.assert_one_chain(&["audit.jsonl"], 4);
}

#[test]
fn fault_1_a_start_right_after_a_rotation_tells_of_the_rest_of_a_line_in_the_rotated_file() {
    let folder = Folder::new();
    write(&mut folder.open(), &["a"]);
    fs::write(folder.path("audit.jsonl"), folder.read("audit.jsonl") + "{\"ev").unwrap();
    folder.rotate("audit.jsonl.1");
    write(&mut folder.open(), &["b"]);
    folder.assert_one_chain(&["audit.jsonl.1", "audit.jsonl"], 3);
    assert!(matches!(folder.verify(&["audit.jsonl.1", "audit.jsonl"]).notes.as_slice(), [(_, Note::Torn)]));
}

/// What somebody does to the file, and how many breaks a reader finds.
type Case = (&'static str, fn(&str) -> String, u64);

#[test]
fn attack_65_a_server_that_runs_does_not_heal_what_somebody_does_to_its_file() {
    let cases: [Case; 4] = [
        ("cut", |text| text.split_inclusive('\n').take(2).collect(), 1),
        ("added to", |text| text.to_owned() + "{\"event\":\"token.issued\"}\n", 1),
        ("its end replaced", |text| text.replace("\"d\"", "\"x\""), 1),
        ("half of a line added", |text| text.to_owned() + "{\"event\":\"token.issued\"", 0),
    ];
    for (name, spoil, broken) in cases {
        let folder = Folder::new();
        let mut file = folder.open();
        write(&mut file, &["a", "b", "c", "d"]);
        let spoilt = spoil(&folder.read("audit.jsonl"));
        fs::write(folder.path("audit.jsonl"), &spoilt).unwrap();
        // A change that keeps the length is seen by whoever verifies, not by the writer.
        write(&mut file, &["e"]);
        let report = folder.verify(&["audit.jsonl"]);
        assert_eq!(report.broken, broken, "{name}: {:?}", report.breaks);
        assert_eq!(report.chains.len(), 1, "{name}");
    }
}

#[test]
fn a_file_of_an_earlier_version_is_gone_on_with() {
    let folder = Folder::new();
    fs::write(folder.path("audit.jsonl"), "{\"event\":\"token.issued\"}\n".repeat(3)).unwrap();
    write(&mut folder.open(), &["a", "b"]);
    folder.assert_one_chain(&["audit.jsonl"], 2);
    let notes = folder.verify(&["audit.jsonl"]).notes;
    assert!(matches!(notes.as_slice(), [(_, Note::Unchained { lines: 3 })]), "{notes:?}");
}

#[test]
fn after_a_foreign_line_a_new_chain_begins_that_is_linked_to_it() {
    for end in ["garbage\n", "garbage\nmore"] {
        let folder = Folder::new();
        write(&mut folder.open(), &["a"]);
        fs::write(folder.path("audit.jsonl"), folder.read("audit.jsonl") + end).unwrap();
        write(&mut folder.open(), &["b"]);
        let report = folder.verify(&["audit.jsonl"]);
        assert_eq!(report.chains.len(), 2);
        assert!(report.breaks.iter().all(|(place, found)| (place.line, found) == (2, &Break::Foreign)), "{report:?}");
    }
}

#[test]
fn a_line_of_a_mebibyte_at_the_end_is_found() {
    let folder = Folder::new();
    let long = "x".repeat(1 << 20);
    write(&mut folder.open(), &["a", &long]);
    write(&mut folder.open(), &["b"]);
    assert_eq!(folder.verify(&["audit.jsonl"]).chains[0].last_seq, 3);
}

#[test]
fn a_copy_and_truncate_rotation_goes_on_with_the_chain() {
    let folder = Folder::new();
    let mut file = folder.open();
    write(&mut file, &["a", "b"]);
    fs::copy(folder.path("audit.jsonl"), folder.path("audit.jsonl.1")).unwrap();
    OpenOptions::new().write(true).truncate(true).open(folder.path("audit.jsonl")).unwrap();
    write(&mut file, &["c"]);
    folder.assert_one_chain(&["audit.jsonl.1", "audit.jsonl"], 3);
}
