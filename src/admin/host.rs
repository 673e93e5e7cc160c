//! What the API asks of the server around it.

use std::sync::Arc;

use certbind_proto::cert::Certificate;
use certbind_proto::time::Timestamp;
use serde::Serialize;

use crate::authn::trust::{TrustGroup, TrustGroups};

/// The rest of the server, as the API knows it.
pub trait Host: Send + Sync {
    /// How the server stands.
    fn standing(&self) -> Standing;

    /// The trust groups in force.
    fn trust(&self) -> Arc<TrustGroups>;

    /// Who vouches for administrators, where they prove themselves with certificates.
    fn trust_of_administrators(&self) -> Option<Arc<TrustGroup>>;

    /// The server's own certificate on each listener that speaks TLS, by the listener's name.
    fn certificates(&self) -> Vec<(&'static str, Certificate)>;

    /// Takes whatever has changed in files. Waits on the disk.
    fn reload(&self) -> Reloaded;
}

/// How a server stands.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The issuer identifier.
    pub issuer: String,
    /// Where tokens are asked for with a certificate.
    pub token_endpoint: String,
    /// Where used assertions, keys and clients are kept.
    pub engine: &'static str,
    /// Whether the store answers.
    pub is_store_healthy: bool,
    /// What must work before the server takes traffic and does not, by its name at `/readyz?verbose`.
    pub not_ready: Vec<&'static str>,
    /// When the process began to serve.
    pub started: Timestamp,
    /// What was changed last and is not in force, by its name in the metrics and the log.
    pub refused: Vec<String>,
    /// What is in force and odd: revocation lists that are stale, or older than the ones before.
    pub warnings: Vec<String>,
}

/// What came of a reload.
#[derive(Clone, Debug, Serialize)]
pub struct Reloaded {
    /// What is in force and was not before.
    pub taken: Vec<String>,
    /// What stays as it was, each with the reason.
    pub refused: Vec<String>,
    /// What is in force and odd: revocation lists that are stale, or older than the ones before.
    pub warnings: Vec<String>,
}
