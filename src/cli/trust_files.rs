//! Trust groups as the configuration names them, and their files when they change.

use std::path::PathBuf;
use std::sync::Arc;

use certbind_proto::time::Timestamp;

use super::Unusable;
use super::report::Reporter;
use crate::authn::trust::{ClientAuthEku, CrlStale, Files, Policy, Refreshed, TrustGroup, TrustGroups};
use crate::config::{self, AdminListener, Config, Environment, Reference, TrustFiles};

/// The group that vouches for administrators. No group of clients can have this name.
const ADMINISTRATORS: &str = "[listen.admin]";

/// The group that vouches for the proxies before a server.
pub(super) const PROXIES: &str = "[listen.proxy]";

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

/// Who may vouch for administrators, as a group of its own: nobody who vouches for clients does for them.
///
/// # Errors
/// As [`load`].
pub(super) fn of_administrators(
    config: &Config,
    files: Option<TrustFiles>,
    environment: &Environment,
    now: Timestamp,
) -> anyhow::Result<TrustGroups> {
    let (Some(AdminListener::Tls(admin)), Some(files)) = (&config.admin, files) else {
        return Ok(TrustGroups::default());
    };
    let config::AdminTrust { ca, crl } = &admin.trust;
    Ok(TrustGroups::new([load_group(ADMINISTRATORS, Policy::default(), (ca, crl), files, environment, now)?]))
}

/// Who may vouch for the proxies of a listener, as a group of its own.
///
/// # Errors
/// As [`load`].
pub(super) fn of_proxies(
    listener: &str,
    config::AdminTrust { ca, crl }: &config::AdminTrust,
    files: TrustFiles,
    environment: &Environment,
    now: Timestamp,
) -> anyhow::Result<Arc<TrustGroup>> {
    load_group(listener, Policy::default(), (ca, crl), files, environment, now)
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
    load_group(&group.name, policy(group), (&group.ca, &group.crl), files, environment, now)
}

fn load_group(
    name: &str,
    policy: Policy,
    named: (&Reference, &[Reference]),
    files: TrustFiles,
    environment: &Environment,
    now: Timestamp,
) -> anyhow::Result<Arc<TrustGroup>> {
    let crls: Vec<_> = files.crls.into_iter().map(|list| list.der).collect();
    let loaded = TrustGroup::new(name, policy, files.anchors, &crls, now)
        .map_err(|fault| Unusable(format!("{}: {fault}", self::named(name))))?;
    let group = match paths(named, environment) {
        Some((ca, crls)) => loaded.following(Files::read_before(ca, crls, &files.seen)),
        None => loaded,
    };
    // Of what the configuration names it was told already.
    let _ = group.new_concerns(now);
    Ok(Arc::new(group))
}

fn paths((ca, crl): (&Reference, &[Reference]), environment: &Environment) -> Option<(PathBuf, Vec<PathBuf>)> {
    let crls = crl.iter().map(|list| list.file(environment)).collect::<Option<_>>()?;
    Some((ca.file(environment)?, crls))
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
        group.new_concerns(reporter.now()).iter().for_each(|concern| reporter.warned(&files, concern));
    }
    outcome
}

/// What is odd about the lists of these groups, as reports have it.
pub(super) fn concerns(groups: &TrustGroups, now: Timestamp) -> Vec<String> {
    let of_group = |group: Arc<TrustGroup>| {
        let concerns = group.concerns(now).into_iter();
        concerns.map(move |concern| format!("{}: {concern}", named(group.name())))
    };
    groups.all().into_iter().flat_map(of_group).collect()
}

/// The files of a group in logs and reports.
pub(super) fn named(group: &str) -> String {
    format!("trust group `{group}`")
}
