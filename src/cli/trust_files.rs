//! Trust groups as the configuration names them, and their files when they change.

use std::path::PathBuf;
use std::sync::Arc;

use certbind_proto::time::Timestamp;

use super::Unusable;
use super::report::Reporter;
use crate::authn::trust::{ClientAuthEku, CrlStale, Files, Policy, Refreshed, TrustGroup, TrustGroups};
use crate::config::{self, Config, Environment, TrustFiles};

/// The groups of the configuration. A group whose certificates and lists all lie in files follows them; one that came
/// through the environment is as it was at the start.
///
/// # Errors
/// When an anchor or a list must not be used.
pub(super) fn load(
    config: &Config,
    files: Vec<TrustFiles>,
    environment: &Environment,
    now: Timestamp,
) -> anyhow::Result<TrustGroups> {
    let groups = config.trust.iter().zip(files).map(|(group, files)| load_one(group, files, environment, now));
    Ok(TrustGroups::new(groups.collect::<anyhow::Result<Vec<_>>>()?))
}

/// The groups of another configuration: those that it has as before are the same ones, with all that they remember.
///
/// # Errors
/// As [`load`].
pub(super) fn reload(
    (before, in_force): (&Config, &TrustGroups),
    (config, files): (&Config, Vec<TrustFiles>),
    environment: &Environment,
    now: Timestamp,
) -> anyhow::Result<Vec<Arc<TrustGroup>>> {
    let groups = config.trust.iter().zip(files).map(|(group, files)| match in_force.group(&group.name) {
        Ok(same) if before.trust.contains(group) => Ok(same),
        _ => load_one(group, files, environment, now),
    });
    groups.collect()
}

fn load_one(
    group: &config::TrustGroup,
    files: TrustFiles,
    environment: &Environment,
    now: Timestamp,
) -> anyhow::Result<Arc<TrustGroup>> {
    let crls: Vec<_> = files.crls.into_iter().map(|list| list.der).collect();
    let loaded = TrustGroup::new(&group.name, policy(group), files.anchors, &crls, now)
        .map_err(|fault| Unusable(format!("trust group `{}`: {fault}", group.name)))?;
    Ok(Arc::new(match paths(group, environment) {
        Some((ca, crls)) => loaded.following(Files::read_before(ca, crls, &files.seen)),
        None => loaded,
    }))
}

fn paths(group: &config::TrustGroup, environment: &Environment) -> Option<(PathBuf, Vec<PathBuf>)> {
    let crls = group.crl.iter().map(|list| list.file(environment)).collect::<Option<_>>()?;
    Some((group.ca.file(environment)?, crls))
}

const fn policy(group: &config::TrustGroup) -> Policy {
    Policy {
        crl_stale: match group.crl_stale {
            config::CrlStale::Refuse => CrlStale::Refuse,
            config::CrlStale::Warn => CrlStale::Warn,
        },
        client_auth_eku: match group.client_auth_eku {
            config::ClientAuthEku::Required => ClientAuthEku::Required,
            config::ClientAuthEku::Ignored => ClientAuthEku::RequiredIfPresent,
        },
        max_chain_depth: group.max_chain_depth,
    }
}

/// Reads the files that have changed. What is taken over or refused is told once; says whether anything was taken over.
pub(super) fn look(groups: &TrustGroups, reporter: &Reporter) -> Refreshed {
    let mut outcome = Refreshed::Unchanged;
    for group in groups.all() {
        let files = named(group.name());
        match group.refresh(reporter.now()) {
            Ok(Refreshed::Unchanged) => {}
            Ok(Refreshed::Changed) => {
                outcome = Refreshed::Changed;
                reporter.taken_over(&files, "");
            }
            Err(fault) => reporter.refused(&files, &fault),
        }
    }
    outcome
}

/// The files of a group in logs and reports.
pub(super) fn named(group: &str) -> String {
    format!("trust group `{group}`")
}
