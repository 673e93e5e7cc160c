//! Flows: what happens to a request from form to answer, with one audit event for each decision.

use std::net::SocketAddr;
use std::sync::Arc;

use certbind_proto::entropy::Entropy;
use certbind_proto::time::Clock;

use crate::audit::Audit;
use crate::authn::Authenticator;
use crate::grant;
use crate::metrics::Metrics;
use crate::mint::Minter;
use crate::revocation::Revocations;
use crate::usage::Usages;

mod caller;
mod introspect;
mod issue;
mod limit;
mod refusal;
mod revoke;

pub use crate::authn::Presented;
pub use introspect::{AnswerForm, IntrospectFault, Told};
pub use issue::{Issued, TokenRequest};
pub use limit::{Limits, Rate};
pub use refusal::{Blame, Refusal, RequestFault};
pub use revoke::RevokeFault;

/// The parts that flows are made of.
pub struct Flows {
    /// Tells the time; a flow asks it once.
    pub clock: Arc<dyn Clock>,
    /// Where ids are drawn from.
    pub entropy: Arc<dyn Entropy>,
    /// Decides who a client is.
    pub authenticator: Authenticator,
    /// Decides what it gets.
    pub grants: grant::Settings,
    /// Makes the token.
    pub minter: Minter,
    /// Knows what is no longer good.
    pub revocations: Arc<Revocations>,
    /// Knows which credentials are in use.
    pub usages: Arc<Usages>,
    /// Slows down who fails too often, and who asks too much.
    pub limits: Arc<Limits>,
    /// Where decisions are written down.
    pub audit: Arc<dyn Audit>,
    /// Where they are counted.
    pub metrics: Arc<Metrics>,
}

/// What is known of a request besides its form; for the audit log, never for a decision about identity.
#[derive(Clone, Debug)]
pub struct Context {
    /// The id that the peer gets in `X-Request-Id`.
    pub request_id: String,
    /// The listener that took the request.
    pub listener: Arc<str>,
    /// The peer's address; unspecified on a Unix socket.
    pub peer: SocketAddr,
    /// The same as a log says it; on a Unix socket the user.
    pub peer_text: String,
    /// The proxy that the request came through, on a listener for proxies.
    pub through: Option<Through>,
    /// The TLS version.
    pub tls: Option<&'static str>,
    /// The key exchange group.
    pub kx: Option<&'static str>,
    /// Whether the TLS session was resumed.
    pub resumed: bool,
}

/// The proxy that a request came through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Through {
    /// What it proved to be.
    pub proxy: String,
    /// The format in which it forwards certificates.
    pub format: &'static str,
}
