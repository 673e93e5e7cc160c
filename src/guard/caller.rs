//! Who asks: the proxy, which proves it by its user on a Unix socket or by a certificate with its name, or somebody whose word
//! about a certificate is worth nothing (RFC 9440 §4).

use std::sync::Arc;

use certbind_proto::subject::Subject;
use certbind_proto::time::Timestamp;

use crate::authn::trust::TrustGroup;
use crate::authn::{ChainFault, check_chain};
use crate::net::ConnInfo;

/// Who may ask.
pub enum Caller {
    /// Processes of these users, and of root, over a Unix socket.
    Users(Vec<u32>),
    /// Whoever proved to have the key of a certificate for which this group vouches and that has one of these names. All of
    /// it is looked at for each question, also on a connection that has been open for an hour.
    Certificate {
        /// Who may vouch for the proxy.
        trust: Arc<TrustGroup>,
        /// The names of the proxies.
        allow: Vec<Subject>,
    },
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
        "proxy_unknown"
    }
}

impl Caller {
    /// Whether the proxy asks.
    ///
    /// # Errors
    /// [`CallerFault`].
    pub fn check(&self, connection: &ConnInfo, now: Timestamp) -> Result<(), CallerFault> {
        match self {
            Self::Users(users) => match connection.process {
                Some(process) if process.uid == 0 || users.contains(&process.uid) => Ok(()),
                Some(_) | None => Err(CallerFault::Other),
            },
            Self::Certificate { trust, allow } => {
                let peer = connection.certificate.as_deref().ok_or(ChainFault::Missing)?;
                check_chain(peer, trust, now)?;
                let leaf = peer.leaf().map_err(ChainFault::from)?;
                let is_named = allow.iter().any(|subject| subject.check(leaf).is_ok());
                if is_named { Ok(()) } else { Err(CallerFault::Other) }
            }
        }
    }
}
