//! What is asked for, of whom, by whom.

use std::collections::BTreeSet;
use std::sync::Arc;

use certbind_https::{AddressPolicy, Authorities, Limits};
use certbind_proto::resource::Resource;
use certbind_proto::scope::Scope;

use crate::cache::Key;
use crate::rotation::Active;
use crate::transport::Transport;
use crate::{Credential, SetupFault};

/// Who asks whom for what.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where requests may go.
    pub addresses: AddressPolicy,
    /// When the `mtls_endpoint_aliases` of the metadata are used.
    pub aliases: Aliases,
    /// The client.
    pub client_id: String,
    /// How it authenticates, to begin with.
    pub credential: Credential,
    /// The issuer identifier, from a source that is trusted. It alone is the audience of assertions.
    pub issuer: String,
    /// What one request may cost.
    pub limits: Limits,
    /// The resources that the token is for; best just one (RFC 8707 §3). Empty leaves it to the server.
    pub resources: BTreeSet<Resource>,
    /// The certificate authorities that may vouch for the authorization server. They can be exchanged meanwhile.
    pub roots: Authorities,
    /// The scope that is asked for. Empty leaves it to the server.
    pub scope: Scope,
}

/// When the `mtls_endpoint_aliases` of the metadata are used (RFC 8705 §5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aliases {
    /// Always: the client is registered with `use_mtls_endpoint_aliases` (FAPI 2.0 Security Profile §5.2.2.1).
    Always,
    /// When the client shows a certificate.
    #[default]
    WithCertificate,
}

impl Settings {
    /// The usual: no scope, no resource, public addresses only, 2 s to connect and 5 s for an answer.
    #[must_use]
    pub fn new(issuer: &str, client_id: &str, credential: Credential, roots: Authorities) -> Self {
        Self {
            addresses: AddressPolicy::default(),
            aliases: Aliases::default(),
            client_id: client_id.to_owned(),
            credential,
            issuer: issuer.to_owned(),
            limits: Limits::default(),
            resources: BTreeSet::new(),
            roots,
            scope: Scope::default(),
        }
    }

    /// What a token is for that is got with this credential.
    pub(crate) fn key(&self, credential: &Credential) -> Key {
        Key {
            certificate: credential.certificate().map(|certificate| *certificate.thumbprint()),
            client_id: self.client_id.clone(),
            issuer: self.issuer.clone(),
            resources: self.resources.clone(),
            scope: self.scope.clone(),
        }
    }

    /// The connections that show this credential.
    pub(crate) fn activate(&self, credential: Credential) -> Result<Arc<Active>, SetupFault> {
        let transport = Transport::new(&self.roots, credential.certificate(), self.addresses, self.limits)?;
        Ok(Arc::new(Active { credential, transport }))
    }
}
