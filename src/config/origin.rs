//! Where a value comes from, and the places that values come from: file, environment, command line.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a value, or the lack of one, was typed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// In the file.
    File {
        /// The file.
        path: Arc<Path>,
        /// Where in it; nowhere when the whole file is meant, or what is missing in it.
        position: Option<Position>,
    },
    /// In this environment variable.
    Environment(String),
    /// In a `--set` of the command line.
    CommandLine,
    /// Nowhere: it is the value that holds when nothing is typed.
    Default,
}

/// A place in a text, both counted from 1; columns are counted in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Origin {
    /// The line of the file.
    pub(super) fn line(&self) -> Option<usize> {
        match self {
            Self::File { position, .. } => position.map(|position| position.line),
            Self::CommandLine | Self::Default | Self::Environment(_) => None,
        }
    }

    /// The key as it was typed there: a variable of the environment has a spelling of its own.
    pub(super) fn key(&self, path: &str) -> String {
        match self {
            Self::Environment(variable) => variable.clone(),
            Self::CommandLine | Self::Default | Self::File { .. } => path.to_owned(),
        }
    }
}

/// `certbind.toml:3:1`, `CERTBIND__ISSUER`, `--set` or `default`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, position: None } => write!(f, "{}", path.display()),
            Self::File { path, position: Some(at) } => write!(f, "{}:{}:{}", path.display(), at.line, at.column),
            Self::Environment(variable) => f.write_str(variable),
            Self::CommandLine => f.write_str("--set"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// What a configuration is made from. Later ones win: file, environment, `--set`.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The configuration file. Relative paths in the configuration start at its folder.
    pub file: PathBuf,
    /// The environment.
    pub environment: Environment,
    /// The `key=value` of each `--set`.
    pub set: Vec<String>,
}

/// The environment of the process as it was when it started. Its values may be secrets and never print.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// That of this process.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn of_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// The value of a variable.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// The variables whose names begin so, in alphabetical order. A name that is not UTF-8 is not ours.
    pub(super) fn beginning_with(&self, prefix: &str) -> impl Iterator<Item = (&str, &OsStr)> {
        self.0.iter().filter_map(move |(name, value)| {
            Some((name.to_str().filter(|n| n.starts_with(prefix))?, value.as_os_str()))
        })
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment([{} variables, redacted])", self.0.len())
    }
}
