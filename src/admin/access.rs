//! Who is at the other end: the owner of the socket, whoever has a certificate with a name that is allowed, or nobody.

use std::sync::Arc;

use arc_swap::ArcSwap;
use certbind_proto::subject::Subject;
use certbind_proto::time::Timestamp;

use super::problem::Problem;
use crate::authn::ChainFault;
use crate::authn::trust::TrustGroup;
use crate::net::{ConnInfo, Process};
use crate::proxy::vouched_for;
use crate::revocation::Revocations;

/// What somebody may do. Each role may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look.
    Viewer,
    /// Change clients.
    Operator,
    /// Everything.
    Admin,
}

impl Role {
    /// Every role, the least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// The name, as configured.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// Somebody who may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The name in the audit log.
    pub name: String,
    /// What they may do.
    pub role: Role,
}

/// Who may ask.
pub enum Access {
    /// Processes of this user and of root, over a Unix socket; they may do everything.
    Owner {
        /// The user; none where the connection is over no Unix socket, and then nobody gets in.
        uid: Option<u32>,
    },
    /// Whoever proved to have the key of a certificate for which this group vouches and that has one of these names.
    /// Everything about it is looked at on every request, also on a connection that has been open for an hour.
    Certificate {
        /// Who may vouch for administrators.
        trust: Arc<TrustGroup>,
        /// Who may come in; exchanged as a whole while the server runs.
        allow: Arc<ArcSwap<Vec<Administrator>>>,
    },
}

/// A name with its role.
#[derive(Clone, Debug)]
pub struct Administrator {
    /// The name that a certificate must have.
    pub subject: Subject,
    /// What whoever has it may do.
    pub role: Role,
}

impl Access {
    /// Who it is.
    ///
    /// # Errors
    /// Nobody that may ask.
    pub(super) fn identify(
        &self,
        connection: &ConnInfo,
        revocations: &Revocations,
        now: Timestamp,
    ) -> Result<Actor, Problem> {
        match self {
            // The mode of the socket keeps others out; this is for the day when somebody changes it.
            Self::Owner { uid } => match connection.process {
                Some(process) if Some(process.uid) == *uid || process.uid == 0 => {
                    Ok(Actor { name: name_of(process), role: Role::Admin })
                }
                _ => Err(Problem::AdminUnknown),
            },
            Self::Certificate { trust, allow } => {
                let (peer, leaf) = vouched_for(connection, trust, now)?;
                // Whoever revoked it by its thumbprint did not ask what else it is good for.
                if revocations.is_certificate_revoked(peer.thumbprint(), now) {
                    return Err(ChainFault::Revoked.into());
                }
                let allow = allow.load();
                let named = allow.iter().filter(|administrator| administrator.subject.check(leaf).is_ok());
                highest(named).ok_or(Problem::AdminUnknown)
            }
        }
    }
}

/// How a process is named, whether or not it may ask.
pub(super) fn name_of(process: Process) -> String {
    format!("uid:{}", process.uid)
}

/// Of several names the one that may do most; of equals the one that is configured first.
fn highest<'a>(named: impl DoubleEndedIterator<Item = &'a Administrator>) -> Option<Actor> {
    let administrator = named.rev().max_by_key(|administrator| administrator.role)?;
    Some(Actor { name: administrator.subject.as_str().to_owned(), role: administrator.role })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::store::memory::MemoryStore;

    #[test]
    fn only_the_owner_and_root_are_let_in_over_the_socket() {
        let access = Access::Owner { uid: Some(1000) };
        let now = Timestamp::from_unix(0);
        let revocations = Revocations::none_yet(Arc::new(MemoryStore::new()));
        for (uid, name) in [(Some(1000), Some("uid:1000")), (Some(0), Some("uid:0")), (Some(1001), None), (None, None)]
        {
            let process = uid.map(|uid| Process { uid, pid: None });
            let peer = SocketAddr::from(([0; 4], 0));
            let connection = ConnInfo { listener: "admin".into(), peer, process, tls: None, certificate: None };
            let actor = access.identify(&connection, &revocations, now).ok();
            assert_eq!(actor, name.map(|name| Actor { name: name.to_owned(), role: Role::Admin }));
        }
    }

    #[test]
    fn a_role_may_do_what_those_before_it_may() {
        assert!(Role::ALL.is_sorted());
        assert_eq!(Role::ALL.map(Role::as_str), ["viewer", "operator", "admin"]);
    }
}
