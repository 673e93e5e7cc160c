//! The clients of the configuration's folder.

use crate::config::Config;
use crate::registry::file::{FileRegistry, Settings};

use super::Unusable;
use super::serve::settings;

/// Reads the clients' folder. A server that starts with a part of its clients would refuse the rest without a word, so
/// one bad file refuses the start.
///
/// # Errors
/// Every fault of every file.
pub(super) fn load(config: &Config) -> anyhow::Result<FileRegistry> {
    let settings = Settings { dir: config.clients_dir.clone(), rules: settings::registration(config) };
    let (registry, report) = FileRegistry::load(settings);
    for warning in &report.warnings {
        tracing::warn!("{warning}");
    }
    if report.faults.is_empty() {
        return Ok(registry);
    }
    let faults: Vec<String> = report.faults.iter().map(ToString::to_string).collect();
    let faults = faults.join("\n");
    Err(Unusable(format!("some clients cannot be registered, so the server does not start:\n{faults}")).into())
}
