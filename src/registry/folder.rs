//! The state of the clients' folder: what was read, what is in force, and what has been reported.
//!
//! A file is taken as a whole or not at all. A bad one changes nothing: the registration that it gave before stays.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use certbind_proto::client::{Client, RegistrationRules};

use super::fault::{Complaint, FileFault, Warning};
use super::file::Report;
use super::identity::Identity;
use super::shared_subject::shared_subjects;
use super::source::{self, Reading};
use super::{Change, Snapshot};

/// The folder as it was seen last.
#[derive(Debug)]
pub(super) struct Folder {
    dir: PathBuf,
    rules: RegistrationRules,
    entries: BTreeMap<PathBuf, Entry>,
    fault: Option<FileFault>,
    told_fault: Option<FileFault>,
    told_warnings: BTreeSet<Warning>,
    in_force: Arc<Snapshot>,
}

/// What to look at.
#[derive(Clone, Debug)]
pub(super) enum Look {
    /// At every file that is not the one that was read.
    Changed,
    /// At every file, whatever it looks like from outside.
    Everything,
    /// At these files, and at those that name them.
    At(HashSet<PathBuf>),
}

#[derive(Debug)]
struct Entry {
    reading: Reading,
    duplicate: bool,
    in_force: Option<Arc<Client>>,
    told: Vec<FileFault>,
}

impl Folder {
    pub(super) fn new(dir: PathBuf, rules: RegistrationRules) -> Self {
        Self {
            dir,
            rules,
            entries: BTreeMap::new(),
            fault: None,
            told_fault: None,
            told_warnings: BTreeSet::new(),
            in_force: Arc::default(),
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn set_rules(&mut self, rules: RegistrationRules) {
        self.rules = rules;
    }

    /// The clients that are in force.
    pub(super) fn in_force(&self) -> Arc<Snapshot> {
        Arc::clone(&self.in_force)
    }

    /// The folders of files that registrations name, besides the clients' own.
    pub(super) fn other_dirs(&self) -> HashSet<PathBuf> {
        let references = self.entries.values().flat_map(|entry| &entry.reading.references);
        let mut dirs: HashSet<PathBuf> = references.filter_map(|(path, _)| Some(path.parent()?.to_owned())).collect();
        dirs.remove(&self.dir);
        dirs
    }

    /// Looks, takes what is good, and says what is new since the last report.
    pub(super) fn refresh(&mut self, look: &Look) -> Report {
        let read = match look {
            Look::At(paths) => self.look_at(paths),
            Look::Changed | Look::Everything => self.look_everywhere(matches!(look, Look::Everything)),
        };
        let mut report = Report::default();
        if read {
            self.take_what_is_good();
            report.changes = self.put_in_force();
            report.warnings = self.new_warnings();
        }
        report.known = self.told();
        report.faults = self.new_faults();
        report.known.retain(|fault| !report.faults.contains(fault));
        report.faulty = self.fault.iter().count() + self.entries.values().filter(|entry| entry.is_faulty()).count();
        report.clients = self.in_force.len();
        report
    }

    fn look_at(&mut self, paths: &HashSet<PathBuf>) -> bool {
        let names_one = |entry: &Entry| entry.reading.references.iter().any(|(path, _)| paths.contains(path));
        let owners = self.entries.iter().filter(|(_, entry)| names_one(entry)).map(|(path, _)| path.clone());
        let own = paths.iter().filter(|path| path.parent() == Some(&self.dir) && is_client_file(path)).cloned();
        let touched: HashSet<PathBuf> = owners.chain(own).collect();
        let mut read = false;
        for path in touched {
            read |= if fs::metadata(&path).is_ok_and(|metadata| metadata.is_file()) || is_link(&path) {
                self.read(path)
            } else {
                self.entries.remove(&path).is_some()
            };
        }
        read
    }

    fn look_everywhere(&mut self, even_unchanged: bool) -> bool {
        let found = match list(&self.dir) {
            Ok(found) => found,
            Err(error) => {
                // The clients of a folder that cannot be read right now are still the clients.
                let complaint = Complaint::Unreadable(error.kind());
                self.fault = Some(FileFault { path: self.dir.clone(), position: None, complaint });
                return false;
            }
        };
        self.fault = None;
        let before = self.entries.len();
        self.entries.retain(|path, _| found.contains_key(path));
        let mut read = self.entries.len() != before;
        for (path, identity) in found {
            let same = self.entries.get(&path).is_some_and(|entry| entry.is_same(identity.as_ref()));
            if even_unchanged || !same {
                read |= self.read(path);
            }
        }
        read
    }

    /// Reads a file; says whether anything in it is new.
    fn read(&mut self, path: PathBuf) -> bool {
        let reading = source::read(&path, &self.rules);
        let Some(entry) = self.entries.get_mut(&path) else {
            self.entries.insert(path, Entry { reading, duplicate: false, in_force: None, told: Vec::new() });
            return true;
        };
        // The same bytes give the same client: nobody needs to hear of it.
        if entry.reading.content == reading.content && reading.client.is_ok() && entry.reading.client.is_ok() {
            entry.reading.identity = reading.identity;
            entry.reading.references = reading.references;
            return false;
        }
        entry.reading = reading;
        true
    }

    /// A new registration is taken unless another file, by what it says or by what is in force for it, has the same
    /// identifier. Whoever is not taken goes on holding what it held, so this is repeated until nothing changes.
    fn take_what_is_good(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.duplicate = false);
        loop {
            let mut holders: HashMap<&str, usize> = HashMap::with_capacity(self.entries.len());
            for client in self.entries.values().filter_map(Entry::held) {
                *holders.entry(&client.client_id).or_default() += 1;
            }
            let shared: HashSet<String> =
                holders.into_iter().filter(|(_, files)| *files > 1).map(|(id, _)| id.to_owned()).collect();
            let mut settled = true;
            for entry in self.entries.values_mut() {
                if entry.wants().is_some_and(|client| shared.contains(&client.client_id)) {
                    entry.duplicate = true;
                    settled = false;
                }
            }
            if settled {
                break;
            }
        }
        for entry in self.entries.values_mut() {
            entry.in_force = entry.held().cloned();
        }
    }

    fn put_in_force(&mut self) -> Vec<Change> {
        let clients: Snapshot = self.entries.values().filter_map(|entry| entry.in_force.clone()).collect();
        let mut changes = Vec::new();
        for (client_id, client) in &clients.clients {
            match self.in_force.get(client_id) {
                None => changes.push(Change::Added(client_id.to_string())),
                Some(before) if !Arc::ptr_eq(before, client) => changes.push(Change::Changed(client_id.to_string())),
                Some(_) => {}
            }
        }
        let removed = self.in_force.clients.keys().filter(|client_id| clients.get(client_id).is_none());
        changes.extend(removed.map(|client_id| Change::Removed(client_id.to_string())));
        changes.sort();
        self.in_force = Arc::new(clients);
        changes
    }

    /// What is wrong and was told.
    fn told(&self) -> Vec<FileFault> {
        let of_files = self.entries.iter().flat_map(|(path, entry)| {
            let faults = entry.faults(path);
            if faults == entry.told { faults } else { Vec::new() }
        });
        let of_folder = self.told_fault.clone().filter(|told| Some(told) == self.fault.as_ref());
        of_folder.into_iter().chain(of_files).collect()
    }

    fn new_faults(&mut self) -> Vec<FileFault> {
        let mut new = Vec::new();
        if self.fault != self.told_fault {
            new.extend(self.fault.clone());
            self.told_fault.clone_from(&self.fault);
        }
        for (path, entry) in &mut self.entries {
            let faults = entry.faults(path);
            if faults != entry.told {
                new.extend(faults.iter().cloned());
                entry.told = faults;
            }
        }
        new
    }

    fn new_warnings(&mut self) -> Vec<Warning> {
        let warnings = shared_subjects(self.in_force.iter());
        let new = warnings.difference(&self.told_warnings).cloned().collect();
        self.told_warnings = warnings;
        new
    }
}

impl Entry {
    /// What the file asks for, when it is good and nobody else asks for the same.
    fn wants(&self) -> Option<&Arc<Client>> {
        self.reading.client.as_ref().ok().filter(|_| !self.duplicate)
    }

    /// What it has: what it wants, or else what it had.
    fn held(&self) -> Option<&Arc<Client>> {
        self.wants().or(self.in_force.as_ref())
    }

    fn is_faulty(&self) -> bool {
        self.duplicate || self.reading.client.is_err()
    }

    fn faults(&self, path: &Path) -> Vec<FileFault> {
        match &self.reading.client {
            Err(faults) => faults.clone(),
            Ok(client) if self.duplicate => {
                let complaint = Complaint::Duplicate { client_id: client.client_id.clone() };
                vec![FileFault { path: path.to_owned(), position: None, complaint }]
            }
            Ok(_) => Vec::new(),
        }
    }

    fn is_same(&self, identity: Option<&Identity>) -> bool {
        self.reading.identity.as_ref() == identity
            && self.reading.references.iter().all(|(path, read)| Identity::at(path) == *read)
    }
}

/// The clients' files. What is no regular file is not one of them; a link that leads nowhere is one that cannot be read.
fn list(dir: &Path) -> io::Result<BTreeMap<PathBuf, Option<Identity>>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let path = dir.join(entry?.file_name());
        if !is_client_file(&path) {
            continue;
        }
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => found.insert(path, Some(Identity::of(&metadata))),
            Ok(_) => None,
            Err(_) if is_link(&path) => found.insert(path, None),
            Err(_) => None,
        };
    }
    Ok(found)
}

/// `billing.toml`; not `.billing.toml`, `#billing.toml#`, `billing.toml~` or `billing.toml.bak`.
fn is_client_file(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| matches!(name.as_encoded_bytes().first(), Some(b'.' | b'#')));
    !hidden && path.extension().is_some_and(|extension| extension == "toml")
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink())
}
