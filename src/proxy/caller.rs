//! Who is at the other end: the proxy, which proves it by its user on a Unix socket or by a certificate with its name, or
//! somebody whose word about a certificate is worth nothing (RFC 9440 §4).

use std::fmt;
use std::sync::Arc;

use certbind_proto::cert::{Certificate, PeerCert};
use certbind_proto::subject::Subject;
use certbind_proto::time::Timestamp;

use crate::authn::trust::TrustGroup;
use crate::authn::{ChainFault, check_chain};
use crate::net::ConnInfo;

/// Who is believed.
#[derive(Clone)]
pub enum Caller {
    /// Processes of these users, and of root, over a Unix socket.
    Users(Vec<u32>),
    /// Whoever proved to have the key of a certificate for which this group vouches and that has one of these names. All of
    /// it is looked at for each request, also on a connection that has been open for an hour.
    Certificate {
        /// Who may vouch for the proxy.
        trust: Arc<TrustGroup>,
        /// The names of the proxies.
        allow: Vec<Subject>,
    },
}

/// What a proxy proved to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named<'a> {
    /// A process of this user.
    User(u32),
    /// Whoever has a certificate with this name.
    Subject(&'a Subject),
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(uid) => write!(f, "uid:{uid}"),
            Self::Subject(subject) => f.write_str(subject.as_str()),
        }
    }
}

/// Why somebody is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallerFault {
    /// The certificate is not good.
    #[error("the proxy's certificate: {0}")]
    Certificate(#[from] ChainFault),
    /// It is somebody else.
    #[error("whoever asks is not the proxy")]
    Other,
}

impl CallerFault {
    /// The stable name for audit and metrics.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Certificate(_) => "proxy_certificate",
            Self::Other => "proxy_unknown",
        }
    }
}

impl Caller {
    /// Which proxy it is.
    ///
    /// # Errors
    /// [`CallerFault`].
    pub fn check(&self, connection: &ConnInfo, now: Timestamp) -> Result<Named<'_>, CallerFault> {
        match self {
            Self::Users(users) => match connection.process {
                Some(process) if process.is_of(users) => Ok(Named::User(process.uid)),
                Some(_) | None => Err(CallerFault::Other),
            },
            Self::Certificate { trust, allow } => {
                let (_, leaf) = vouched_for(connection, trust, now)?;
                let named = allow.iter().find(|subject| subject.check(leaf).is_ok());
                named.map(Named::Subject).ok_or(CallerFault::Other)
            }
        }
    }
}

/// The certificate of a connection, if this group vouches for it at this time.
///
/// # Errors
/// [`ChainFault`], the first fact that speaks against it.
pub fn vouched_for<'c>(
    connection: &'c ConnInfo,
    trust: &TrustGroup,
    now: Timestamp,
) -> Result<(&'c PeerCert, &'c Certificate), ChainFault> {
    let peer = connection.certificate.as_deref().ok_or(ChainFault::Missing)?;
    check_chain(peer, trust, now)?;
    Ok((peer, peer.leaf()?))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::net::Process;

    #[test]
    fn rfc9440_4_over_a_socket_the_named_users_and_root_are_the_proxy_and_nobody_else() {
        let caller = Caller::Users(vec![33]);
        for (uid, named) in [(Some(33), Some("uid:33")), (Some(0), Some("uid:0")), (Some(34), None), (None, None)] {
            let process = uid.map(|uid| Process { uid, pid: None });
            let peer = SocketAddr::from(([127, 0, 0, 1], 1));
            let connection = ConnInfo { listener: "proxy".into(), peer, process, tls: None, certificate: None };
            let told = caller.check(&connection, Timestamp::from_unix(0)).map(|named| named.to_string());
            assert_eq!(told, named.map(str::to_owned).ok_or(CallerFault::Other), "{uid:?}");
        }
    }
}
