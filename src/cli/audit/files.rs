//! Which files of the audit log are read, and in which order.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use crate::audit::verify::Beginning;
use crate::audit::with_rotated;
use crate::cli::Unusable;
use crate::cli::config::SourceArgs;
use crate::config::{self, Environment};

/// How much of a file is read to see where it belongs.
const HEAD: u64 = 64 * 1024;

/// Which files to read.
#[derive(Args, Clone, Debug)]
pub(super) struct FileArgs {
    /// Files of the audit log, a dash for standard input; without any, that of the configuration and what rotation made of it.
    #[arg(value_name = "FILE", conflicts_with = "store")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) sources: SourceArgs,
}

impl FileArgs {
    /// The files, in no order.
    pub(super) fn paths(&self, environment: &Environment) -> anyhow::Result<Vec<PathBuf>> {
        if !self.files.is_empty() {
            return Ok(self.files.clone());
        }
        let path = configured(&self.sources, environment)?;
        with_rotated(&path).with_context(|| format!("cannot look for {}", path.display()))
    }
}

/// The audit log that the configuration names.
pub(super) fn configured(sources: &SourceArgs, environment: &Environment) -> anyhow::Result<PathBuf> {
    let checked = config::inspect(&sources.sources(environment.clone()));
    let checked = checked.map_err(|rejected| Unusable(rejected.to_string()))?;
    match checked.config.log.audit {
        config::Audit::File(path) => Ok(path),
        config::Audit::Log => Err(Unusable(
            "log.audit is \"log\", so the audit log is no file; name one, or look into the store with --store".into(),
        )
        .into()),
    }
}

/// A file whose beginning has been read.
pub(super) struct Source {
    /// What it is called.
    pub(super) name: String,
    path: PathBuf,
    head: Vec<u8>,
    beginning: Beginning,
}

impl Source {
    fn open(path: PathBuf) -> anyhow::Result<Self> {
        let mut head = Vec::new();
        let name = path.display().to_string();
        let read = match is_stdin(&path) {
            true => io::stdin().lock().take(HEAD).read_to_end(&mut head),
            false => File::open(&path).and_then(|file| file.take(HEAD).read_to_end(&mut head)),
        };
        read.with_context(|| format!("cannot read {name}"))?;
        let beginning = Beginning::of(&head);
        Ok(Self { name, path, head, beginning })
    }

    /// All of it.
    pub(super) fn read(self) -> anyhow::Result<Box<dyn BufRead>> {
        if is_stdin(&self.path) {
            return Ok(Box::new(Cursor::new(self.head).chain(BufReader::new(io::stdin()))));
        }
        let file = File::open(&self.path).with_context(|| format!("cannot read {}", self.name))?;
        Ok(Box::new(BufReader::with_capacity(256 * 1024, file)))
    }
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// The files in the order in which they were written.
pub(super) fn in_order(paths: Vec<PathBuf>) -> anyhow::Result<Vec<Source>> {
    let mut sources = paths.into_iter().map(Source::open).collect::<anyhow::Result<Vec<_>>>()?;
    let beginnings: Vec<Beginning> = sources.iter().map(|source| source.beginning.clone()).collect();
    sources.sort_by_cached_key(|source| source.beginning.order(&beginnings));
    Ok(sources)
}
