//! `certbind backup`: a copy of the store while the server runs.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use aws_lc_rs::digest::{Context, SHA256};
use clap::Args;
use serde_json::json;

use super::config::{Output, SourceArgs};
use super::{Exit, Unusable};
use crate::config::{self, Environment, Storage};
use crate::store::sqlite::backup::{self, Copied};

/// Where to.
#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    /// The new file; one that is there is not touched.
    file: PathBuf,
    #[command(flatten)]
    sources: SourceArgs,
    /// How to print; `plain` is what `sha256sum --check` reads.
    #[arg(short, long, value_enum, default_value_t = Output::Plain)]
    output: Output,
}

/// Copies the store, and prints the checksum of the copy.
///
/// # Errors
/// When it cannot be copied as a whole; then there is no file.
pub(super) fn run(args: &BackupArgs, environment: &Environment, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let talk = &mut anstream::stderr();
    let checked = config::inspect(&args.sources.sources(environment.clone()));
    let config = checked.map_err(|rejected| Unusable(rejected.to_string()))?.config;
    if config.storage != Storage::Sqlite {
        writeln!(
            talk,
            "the store is in PostgreSQL, which makes its own copies: pg_dump --schema=certbind, or pg_basebackup"
        )?;
        return Ok(Exit::Usage);
    }
    let Copied { bytes, unsealed_keys } = backup::copy(&config.data_dir, &args.file).with_context(|| {
        format!("cannot copy the store of {} to {}", config.data_dir.display(), args.file.display())
    })?;
    let sha256 = checksum(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let file = args.file.display().to_string();
    match args.output {
        Output::Json => writeln!(
            out,
            "{:#}",
            json!({ "file": file, "bytes": bytes, "sha256": sha256, "unsealed_keys": unsealed_keys })
        )?,
        Output::Plain | Output::Table => writeln!(out, "{sha256}  {file}")?,
    }
    if unsealed_keys > 0 {
        writeln!(
            talk,
            "{file} holds {unsealed_keys} private signing keys in the clear: whoever reads it can make tokens. keys.encryption_key seals them"
        )?;
    }
    Ok(Exit::Done)
}

/// SHA-256 of a file, in hexadecimal.
fn checksum(path: &Path) -> io::Result<String> {
    let (mut file, mut context) = (File::open(path)?, Context::new(&SHA256));
    let mut chunk = vec![0; 256 * 1024];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            read => context.update(&chunk[..read]),
        }
    }
    Ok(context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}
