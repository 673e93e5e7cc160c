//! Sources to [`RawConfig`]: every value as typed and where, after the overlays, and all that is wrong with the typing.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

use super::fault::{Complaint, Fault};
use super::keys::{self, Node, Schema};
use super::origin::{Origin, Position, Sources};
use super::reference;
use super::value::{Value, shown, type_of};
use crate::suggest::nearest;

/// The longest configuration file that is looked at, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// How a variable of the environment begins that sets a key.
const PREFIX: &str = "CERTBIND__";

/// The configuration as typed: nothing is checked but that each key exists and holds the right type of value.
#[derive(Debug)]
pub(super) struct RawConfig {
    pub(super) schema: &'static Schema,
    file: Arc<Path>,
    values: BTreeMap<String, (Value, Origin)>,
    /// Tables that were typed, also empty ones, and where.
    tables: BTreeMap<String, Origin>,
    /// How many tables an array of tables has.
    rows: BTreeMap<&'static str, usize>,
    /// Keys that hold another type of value: they have their complaint, and are not missing.
    spoilt: BTreeSet<String>,
    /// Whether the file could be read as a whole. If not, what is missing may be there.
    whole: bool,
}

impl RawConfig {
    /// Reads the file and lays environment and command line over it.
    pub(super) fn read(sources: &Sources, schema: &'static Schema) -> (Self, Vec<Complaint>) {
        let mut reader = Reader::new(&sources.file, schema);
        reader.file();
        for (variable, value) in sources.environment.beginning_with(PREFIX) {
            reader.variable(variable, value);
        }
        for argument in &sources.set {
            reader.argument(argument);
        }
        reader.count_rows();
        (reader.raw, reader.complaints)
    }

    /// The value that was typed here, if any.
    pub(super) fn value(&self, path: &str) -> Option<&Value> {
        self.values.get(path).map(|(value, _)| value)
    }

    /// Whether something was typed here that cannot be used.
    pub(super) fn is_spoilt(&self, path: &str) -> bool {
        self.spoilt.contains(path) || !self.whole
    }

    /// Whether the file could be read as a whole.
    pub(super) const fn is_whole(&self) -> bool {
        self.whole
    }

    /// Where this was typed; if it was not, where the table around it was; if that was not either, the file.
    pub(super) fn origin(&self, path: &str) -> Origin {
        let typed = self.values.get(path).map(|(_, origin)| origin);
        let around = || std::iter::successors(Some(path), |path| Some(path.rsplit_once('.')?.0));
        let origin = typed.or_else(|| around().find_map(|table| self.tables.get(table)));
        origin.cloned().unwrap_or_else(|| Origin::File { path: self.file.clone(), position: None })
    }

    /// Where the value that holds here was typed.
    pub(super) fn source(&self, path: &str) -> Origin {
        self.values.get(path).map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    /// Whether this table was typed, or anything in it.
    pub(super) fn has_table(&self, path: &str) -> bool {
        let below = format!("{path}.");
        let within = |typed: &String| typed.starts_with(&below);
        self.tables.contains_key(path) || self.values.keys().any(within) || self.spoilt.iter().any(within)
    }

    /// How many tables this array has.
    pub(super) fn rows(&self, array: &str) -> usize {
        self.rows.get(array).copied().unwrap_or_default()
    }

    /// The folder at which relative paths start.
    pub(super) fn folder(&self) -> PathBuf {
        self.file.parent().map(Path::to_path_buf).unwrap_or_default()
    }
}

/// Puts a [`RawConfig`] together and notes what is wrong on the way.
struct Reader {
    raw: RawConfig,
    complaints: Vec<Complaint>,
}

impl Reader {
    fn new(file: &Path, schema: &'static Schema) -> Self {
        let raw = RawConfig {
            schema,
            file: file.into(),
            values: BTreeMap::new(),
            tables: BTreeMap::new(),
            rows: BTreeMap::new(),
            spoilt: BTreeSet::new(),
            whole: true,
        };
        Self { raw, complaints: Vec::new() }
    }

    fn file(&mut self) {
        let path = self.raw.file.clone();
        let text = match text_of(&path) {
            Ok(text) => Text::new(path, text),
            Err(fault) => {
                self.raw.whole = false;
                return self.complain(Origin::File { path, position: None }, "", fault);
            }
        };
        let (table, errors) = DeTable::parse_recoverable(&text.text);
        for error in &errors {
            self.raw.whole = false;
            let message = error.message().lines().collect::<Vec<_>>().join("; ");
            self.complain(text.place(&error.span().unwrap_or(0..0)), "", Fault::Syntax { message });
        }
        self.table(&text, "", table.get_ref());
    }

    fn table(&mut self, text: &Text, path: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            self.entry(text, path, key, value);
        }
    }

    fn entry(&mut self, text: &Text, table: &str, key: &Spanned<DeString<'_>>, value: &Spanned<DeValue<'_>>) {
        let (origin, name) = (text.place(&key.span()), key.get_ref());
        if name.contains('.') {
            // A quoted key with a dot in it is none of ours, although it would read like one once it is joined.
            return self.complain(origin, &join(table, &format!("{name:?}")), Fault::UnknownKey { meant: None });
        }
        let path = join(table, name);
        match (self.raw.schema.node(&keys::pattern_of(&path)), value.get_ref()) {
            (Some(Node::Key(key)), typed) => self.put(&path, &path, origin, Value::from_toml(key.kind, typed)),
            (Some(Node::Table), DeValue::Table(table)) => {
                self.raw.tables.insert(path.clone(), origin);
                self.table(text, &path, table);
            }
            (Some(Node::Rows), DeValue::Array(rows)) => self.rows(text, &path, rows),
            (Some(Node::Table), other) => self.put(&path, &path, origin, Err(wrong(A_TABLE, other))),
            (Some(Node::Rows), other) => self.put(&path, &path, origin, Err(wrong(ROWS, other))),
            (None, _) => self.complain(origin, &path, Fault::UnknownKey { meant: meant_key(self.raw.schema, &path) }),
        }
    }

    fn rows(&mut self, text: &Text, array: &str, rows: &DeArray<'_>) {
        for (number, row) in rows.iter().enumerate() {
            let (path, origin) = (format!("{array}.{number}"), text.place(&row.span()));
            self.raw.tables.insert(path.clone(), origin.clone());
            match row.get_ref() {
                DeValue::Table(table) => self.table(text, &path, table),
                other => self.put(&path, &path, origin, Err(wrong(ROWS, other))),
            }
        }
    }

    /// `CERTBIND__LISTEN__MTLS__ADDRESS` sets `listen.mtls.address`.
    fn variable(&mut self, variable: &str, value: &OsStr) {
        let path = variable.strip_prefix(PREFIX).unwrap_or(variable).to_ascii_lowercase().replace("__", ".");
        let origin = Origin::Environment(variable.to_owned());
        match value.to_str() {
            Some(value) => self.overlay(variable, &path, origin, value),
            None => self.complain(origin, variable, Fault::NotUtf8),
        }
    }

    /// `--set listen.mtls.address=[::]:8443`
    fn argument(&mut self, argument: &str) {
        match argument.split_once('=') {
            Some((path, value)) => self.overlay(path, path, Origin::CommandLine, value),
            None => self.complain(Origin::CommandLine, "", Fault::SetsNothing { value: shown(argument) }),
        }
    }

    fn overlay(&mut self, typed: &str, path: &str, origin: Origin, value: &str) {
        if let Some(key) = self.raw.schema.at(path) {
            return self.put(typed, path, origin, Value::from_text(key.kind, value));
        }
        let meant = meant_key(self.raw.schema, path).map(|meant| match origin {
            Origin::Environment(_) => format!("{PREFIX}{}", meant.replace('.', "__").to_ascii_uppercase()),
            _ => meant,
        });
        self.complain(origin, typed, Fault::UnknownKey { meant });
    }

    fn put(&mut self, typed: &str, path: &str, origin: Origin, value: Result<Value, Fault>) {
        match value {
            Ok(value) => drop(self.raw.values.insert(path.to_owned(), (value, origin))),
            Err(fault) => {
                self.raw.spoilt.insert(path.to_owned());
                self.complain(origin, typed, fault);
            }
        }
    }

    fn complain(&mut self, origin: Origin, key: &str, about: Fault) {
        self.complaints.push(Complaint { origin, key: key.to_owned(), about });
    }

    /// Counts the tables of each array. An overlay may change one or add the next, but leave no hole.
    fn count_rows(&mut self) {
        for array in self.raw.schema.arrays() {
            let count = (0..).take_while(|number| self.raw.has_table(&format!("{array}.{number}"))).count();
            self.raw.rows.insert(array, count);
            let below = format!("{array}.");
            let number_of = |path: &str| path.strip_prefix(&below)?.split('.').next().map(str::to_owned);
            let counted: BTreeSet<String> = (0..count).map(|number| number.to_string()).collect();
            let beyond =
                self.raw.values.iter().filter(|(path, _)| number_of(path).is_some_and(|n| !counted.contains(&n)));
            let complaints = beyond.map(|(path, (_, origin))| Complaint {
                origin: origin.clone(),
                key: path.clone(),
                about: Fault::SkippedNumber { array, count },
            });
            self.complaints.extend(complaints.collect::<Vec<_>>());
        }
    }
}

const A_TABLE: &str = "a table, as in [listen.mtls]";
const ROWS: &str = "an array of tables, in double brackets, as in [[trust]]";

fn wrong(expected: &'static str, found: &DeValue<'_>) -> Fault {
    Fault::WrongType { expected, found: type_of(found) }
}

fn join(table: &str, name: &str) -> String {
    if table.is_empty() { name.to_owned() } else { format!("{table}.{name}") }
}

/// What was meant by this key: a neighbour with almost this name, a key of this name elsewhere, or a path that reads almost like it.
fn meant_key(schema: &Schema, path: &str) -> Option<String> {
    let (table, name) = path.rsplit_once('.').unwrap_or(("", path));
    if let Some(neighbour) = nearest(name, schema.names_in(&keys::pattern_of(table))) {
        // Where an overlay sets a whole table, the nearest neighbour is itself.
        return Some(join(table, neighbour)).filter(|meant| meant != path);
    }
    let paths = || schema.keys.iter().map(|key| key.path);
    let mut elsewhere = paths().filter(|path| path.rsplit('.').next() == Some(name));
    match (elsewhere.next(), elsewhere.next()) {
        (Some(only), None) => Some(only.to_owned()),
        _ => nearest(&keys::pattern_of(path), paths()).map(str::to_owned),
    }
}

fn text_of(path: &Path) -> Result<String, Fault> {
    let bytes = reference::read_file(path, MAX_FILE, |_| Ok(())).map_err(Fault::File)?;
    String::from_utf8(bytes.to_vec()).map_err(|_| Fault::NotUtf8)
}

/// The text of a file, which knows the line of each byte.
struct Text {
    path: Arc<Path>,
    text: String,
    /// The byte at which each line begins.
    lines: Vec<usize>,
}

impl Text {
    fn new(path: Arc<Path>, text: String) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { path, text, lines }
    }

    fn place(&self, span: &Range<usize>) -> Origin {
        let line = self.lines.partition_point(|start| *start <= span.start);
        let start = self.lines.get(line - 1).copied().unwrap_or_default();
        let before = self.text.get(start..span.start).unwrap_or_default();
        let position = Position { line, column: before.chars().count() + 1 };
        Origin::File { path: self.path.clone(), position: Some(position) }
    }
}
