//! What a proxy that ends TLS says of the client behind it, and whether it is believed (RFC 9440; RFC 8705 §6.5).
//!
//! | file | takes | gives |
//! |---|---|---|
//! | `caller` | a connection | which proxy it is of, or that it is of somebody else |
//! | `mod` | the headers of one request | the certificate of its client |

use std::sync::Arc;

use certbind_proto::cert::PeerCert;
use certbind_proto::forwarded::{Forwarded, ForwardedFault, Forwarding};
use certbind_proto::time::Timestamp;

use crate::net::ConnInfo;

mod caller;

pub use caller::{Caller, CallerFault, Named, vouched_for};

/// A listener that takes a proxy's word for the certificate of its client.
pub struct Proxied {
    /// Whose word.
    pub caller: Caller,
    /// In which header of which format.
    pub forwarding: Forwarding,
}

/// Why it is not known what the client proved to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SaidFault {
    /// What the headers say is not believed.
    #[error(transparent)]
    Forwarded(#[from] ForwardedFault),
    /// The hash of a certificate is no certificate: nothing in it says who the client is.
    #[error("the hash of a certificate was forwarded without the certificate")]
    HashAlone,
}

impl SaidFault {
    /// The stable name for audit and metrics.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Forwarded(fault) => fault.reason(),
            Self::HashAlone => "forwarded_hash_alone",
        }
    }
}

impl Proxied {
    /// Which proxy asks. To be known before anything of its request is read.
    ///
    /// # Errors
    /// [`CallerFault`].
    pub fn caller(&self, connection: &ConnInfo, now: Timestamp) -> Result<Named<'_>, CallerFault> {
        self.caller.check(connection, now)
    }

    /// The certificate that the client of one request proved to it, as its headers say; none when the client showed none.
    /// The certificate of the proxy's own connection is no part of it.
    ///
    /// # Errors
    /// [`SaidFault`]; then it is not known either that the client has no certificate.
    pub fn said<'a>(
        &self,
        headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Option<Arc<PeerCert>>, SaidFault> {
        match self.forwarding.read(headers)? {
            None => Ok(None),
            Some(Forwarded::Certificate(certificate)) => Ok(Some(certificate)),
            Some(Forwarded::Hash(_)) => Err(SaidFault::HashAlone),
        }
    }
}
