//! Client authentication: [`Presented`] in, [`AuthenticatedClient`] out (RFC 6749 §2.3, RFC 8705 §2, RFC 7523 §2.2).
//!
//! The order is fixed: which client → load it → which method is registered → pure checks → signature → use up the
//! `jti`. Everything is looked at on every request, also on a connection that has been open for an hour.

use std::fmt;
use std::sync::Arc;

use certbind_proto::assertion::{self, AssertionFault};
use certbind_proto::cert::PeerCert;
use certbind_proto::client::{AuthMethod, Client, Method, State};
use certbind_proto::error::ErrorCode;
use certbind_proto::jws::Parsed;
use certbind_proto::time::Timestamp;

use crate::jwks_uri::{RemoteKeys, RemoteKeysFault};
use crate::registry::Registry;
use crate::revocation::Revocations;
use crate::store::{ReplayStore, StoreError};

mod bound;
mod chain;
mod decoy;
mod private_key_jwt;
mod self_signed;
mod tls_client_auth;
pub mod trust;

pub use bound::{BoundCertificates, Fallen};
pub use chain::{ChainFault, VerifiedChain, check as check_chain};
pub use private_key_jwt::{Settings as AssertionSettings, UsedKey};

use decoy::Decoy;
use trust::TrustGroups;

/// What a client shows to prove itself, as it came in.
#[derive(Clone, Default)]
pub struct Presented {
    /// `client_id` of the form.
    pub client_id: Option<String>,
    /// `client_assertion_type` of the form.
    pub assertion_type: Option<String>,
    /// `client_assertion` of the form.
    pub assertion: Option<String>,
    /// Whether the form has a `client_secret`.
    pub client_secret: bool,
    /// Whether the request has an `Authorization` header.
    pub authorization_header: bool,
    /// The certificate whose private key was proved in this connection's handshake.
    pub certificate: Option<Arc<PeerCert>>,
}

/// Never shows the assertion.
impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented")
            .field("client_id", &self.client_id)
            .field("assertion", &self.assertion.as_ref().map(|_| "[redacted]"))
            .field("certificate", &self.certificate.is_some())
            .finish_non_exhaustive()
    }
}

/// Proof that a client is who it says. Only this module makes one.
#[derive(Clone, Debug)]
pub struct AuthenticatedClient {
    client: Arc<Client>,
    certificate: Option<Arc<PeerCert>>,
    key: Option<UsedKey>,
}

impl AuthenticatedClient {
    /// The registration, as it was when the client was authenticated.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The registration, to keep.
    #[must_use]
    pub fn registration(&self) -> Arc<Client> {
        Arc::clone(&self.client)
    }

    /// The method that authenticated it.
    #[must_use]
    pub fn method(&self) -> AuthMethod {
        self.client.method.name()
    }

    /// The key that it proved itself with, if it was a key.
    #[must_use]
    pub const fn key(&self) -> Option<&UsedKey> {
        self.key.as_ref()
    }

    /// The certificate that it proved itself with, or that it may not do without, if there is one.
    #[must_use]
    pub fn proven_certificate(&self) -> Option<&PeerCert> {
        let counts = self.key.is_none() || self.client.bound_certificate_trust.is_some();
        self.certificate().filter(|_| counts)
    }

    /// The certificate of this connection, whatever method authenticated the client.
    #[must_use]
    pub fn certificate(&self) -> Option<&PeerCert> {
        self.certificate.as_deref()
    }
}

/// Why a client is not authenticated. For operators; the peer learns only [`AuthnFault::code`].
#[derive(Debug, thiserror::Error)]
pub enum AuthnFault {
    /// The assertion is refused.
    #[error(transparent)]
    Assertion(#[from] AssertionFault),
    /// The assertion was used before (RFC 7523 §3).
    #[error("the assertion was used before (RFC 7523 §3)")]
    AssertionReplayed,
    /// `client_assertion_type` is missing or not the one URN, or it came without an assertion (RFC 7521 §4.2).
    #[error("client_assertion_type is not jwt-bearer (RFC 7521 §4.2)")]
    AssertionType,
    /// The certificate is refused.
    #[error(transparent)]
    Certificate(#[from] ChainFault),
    /// The client is disabled.
    #[error("the client is disabled")]
    ClientDisabled,
    /// No `client_id`, and no assertion that names one (RFC 8705 §2).
    #[error("no client_id (RFC 8705 §2)")]
    ClientIdMissing,
    /// `client_id` and the assertion name two clients (RFC 7521 §4.2).
    #[error("client_id and the assertion name two clients (RFC 7521 §4.2)")]
    ClientIdMismatch,
    /// There is no such client.
    #[error("there is no such client")]
    ClientUnknown,
    /// The client's `jwks_uri` gives no keys.
    #[error(transparent)]
    Keys(#[from] RemoteKeysFault),
    /// The client proved itself by another method than the registered one (RFC 7591 §2).
    #[error("the client is registered for another method (RFC 7591 §2)")]
    MethodNotRegistered,
    /// Nothing that proves anything: a bare `client_id`, or a method that this server does not have.
    #[error("no client authentication method of this server was used")]
    MethodUnsupported,
    /// The replay store did not answer: nothing is accepted (fail closed).
    #[error(transparent)]
    Store(#[from] StoreError),
    /// More than one method, one of them an assertion (RFC 7521 §4.2.1).
    #[error("more than one client authentication method (RFC 7521 §4.2.1)")]
    TwoMethodsWithAssertion,
    /// More than one method, none of them an assertion (RFC 6749 §2.3).
    #[error("more than one client authentication method (RFC 6749 §2.3)")]
    TwoMethods,
    /// An `Authorization` header, which no method here uses (RFC 6749 §5.2 demands 401 and a challenge).
    #[error("an Authorization header, which no method of this server uses")]
    AuthorizationHeader,
}

impl AuthnFault {
    /// What the peer is told: one code for everything it could probe with.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Store(_) => ErrorCode::TemporarilyUnavailable,
            Self::TwoMethods => ErrorCode::InvalidRequest,
            Self::Assertion(_)
            | Self::AssertionReplayed
            | Self::AssertionType
            | Self::AuthorizationHeader
            | Self::Certificate(_)
            | Self::ClientDisabled
            | Self::ClientIdMissing
            | Self::ClientIdMismatch
            | Self::ClientUnknown
            | Self::Keys(_)
            | Self::MethodNotRegistered
            | Self::MethodUnsupported
            | Self::TwoMethodsWithAssertion => ErrorCode::InvalidClient,
        }
    }

    /// The stable name for audit and metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Assertion(fault) => fault.reason(),
            Self::AssertionReplayed => "assertion_replayed",
            Self::AssertionType => "assertion_type",
            Self::AuthorizationHeader => "authorization_header",
            Self::Certificate(fault) => fault.reason(),
            Self::ClientDisabled => "client_disabled",
            Self::ClientIdMissing => "client_id_missing",
            Self::ClientIdMismatch => "client_id_mismatch",
            Self::ClientUnknown => "client_unknown",
            Self::Keys(RemoteKeysFault::Unavailable) => "jwks_unavailable",
            Self::MethodNotRegistered => "method_not_registered",
            Self::MethodUnsupported => "method_unsupported",
            Self::Store(_) => "store_unavailable",
            Self::TwoMethods | Self::TwoMethodsWithAssertion => "two_methods",
        }
    }
}

/// A refusal with what is known of whom it concerns. The client is claimed, not proved.
#[derive(Debug)]
pub struct Denied {
    /// The client that was claimed, when there is such a client and it is active.
    pub client: Option<Arc<Client>>,
    /// The identifier that was claimed, whether or not it is anybody's.
    pub claimed: Option<String>,
    /// Why.
    pub fault: AuthnFault,
}

/// Decides who a client is.
pub struct Authenticator {
    parts: Parts,
    settings: AssertionSettings,
    decoy: Decoy,
}

/// What an authenticator asks.
pub struct Parts {
    /// Who is registered.
    pub registry: Arc<dyn Registry>,
    /// Which assertions were used.
    pub replay: Arc<dyn ReplayStore>,
    /// What clients publish.
    pub remote_keys: Arc<dyn RemoteKeys>,
    /// Who vouches for certificates.
    pub trust: Arc<TrustGroups>,
    /// Which certificates are no longer good, whoever vouches for them.
    pub revocations: Arc<Revocations>,
    /// Which certificates have tokens.
    pub bound: Arc<BoundCertificates>,
}

impl Authenticator {
    /// An authenticator over these parts.
    #[must_use]
    pub fn new(parts: Parts, settings: AssertionSettings) -> Self {
        Self { parts, settings, decoy: Decoy::new() }
    }

    /// The client with this identifier, as it is registered now.
    #[must_use]
    pub fn client(&self, client_id: &str) -> Option<Arc<Client>> {
        self.parts.registry.find(client_id)
    }

    /// Authenticates the client of one request.
    ///
    /// # Errors
    /// [`Denied`], with the first fact that speaks against it.
    pub async fn authenticate(&self, presented: &Presented, now: Timestamp) -> Result<AuthenticatedClient, Denied> {
        let anonymous = |fault| Denied { client: None, claimed: None, fault };
        let proof = Proof::recognise(presented).map_err(anonymous)?;
        let client_id = proof.client_id(presented).map_err(anonymous)?;
        let found = self.parts.registry.find(&client_id).ok_or(AuthnFault::ClientUnknown);
        let active = found.and_then(|client| match client.state {
            State::Active => Ok(client),
            State::Disabled => Err(AuthnFault::ClientDisabled),
        });
        let client = match active {
            Ok(client) => client,
            Err(fault) => {
                self.decoy.spend(&proof, &self.parts.trust, now);
                return Err(Denied { client: None, claimed: Some(client_id), fault });
            }
        };
        match self.check(&client, &proof, presented.certificate.as_deref(), now).await {
            Ok(key) => Ok(AuthenticatedClient { client, certificate: presented.certificate.clone(), key }),
            Err(fault) => Err(Denied { client: Some(client), claimed: Some(client_id), fault }),
        }
    }

    /// A token is bound to the certificate of this client, and good until `last_token`: if a revocation list gets the
    /// certificate meanwhile, the token falls with it. The chain is looked at once more afterwards, as a list that came
    /// while the token was made has not found it.
    ///
    /// # Errors
    /// What speaks against the certificate by now; then the token must not leave.
    pub fn remember_bound(
        &self,
        client: &AuthenticatedClient,
        last_token: Timestamp,
        now: Timestamp,
    ) -> Result<(), AuthnFault> {
        let trust = match &client.client.method {
            Method::TlsClientAuth { trust, .. } => Some(trust),
            Method::PrivateKeyJwt { .. } | Method::SelfSignedTlsClientAuth { .. } => {
                client.client.bound_certificate_trust.as_ref()
            }
        };
        let (Some(certificate), Some(trust)) = (&client.certificate, trust) else { return Ok(()) };
        self.parts.bound.remember(certificate, trust, last_token, now);
        chain::check(certificate, &*self.parts.trust.group(trust)?, now)?;
        Ok(())
    }

    /// The key that was used, where it was one.
    async fn check(
        &self,
        client: &Client,
        proof: &Proof<'_>,
        certificate: Option<&PeerCert>,
        now: Timestamp,
    ) -> Result<Option<UsedKey>, AuthnFault> {
        let assertion = match (&client.method, proof) {
            (Method::TlsClientAuth { subject, trust }, Proof::Certificate(_)) => {
                let group = self.parts.trust.group(trust)?;
                tls_client_auth::check(certificate, subject, &group, now)?;
                None
            }
            (Method::SelfSignedTlsClientAuth { certificates, jwks_uri, validity }, Proof::Certificate(_)) => {
                let registered =
                    self_signed::Registered { certificates, jwks_uri: jwks_uri.as_deref(), validity: *validity };
                let outcome = self_signed::check(certificate, &registered, &*self.parts.remote_keys, now).await;
                outcome.inspect_err(|_| self.decoy.spend(proof, &self.parts.trust, now))?;
                None
            }
            (Method::PrivateKeyJwt { keys, algorithm, legacy_audience }, Proof::Assertion(parsed)) => {
                let registered = private_key_jwt::Registered {
                    client_id: &client.client_id,
                    keys,
                    algorithm: *algorithm,
                    legacy_audience: *legacy_audience,
                };
                Some(self.private_key_jwt(parsed, &registered, now).await?)
            }
            (Method::TlsClientAuth { .. } | Method::SelfSignedTlsClientAuth { .. }, Proof::Assertion(_))
            | (Method::PrivateKeyJwt { .. }, Proof::Certificate(_)) => {
                self.decoy.spend(proof, &self.parts.trust, now);
                return Err(AuthnFault::MethodNotRegistered);
            }
        };
        if let Some(trust) = &client.bound_certificate_trust {
            let group = self.parts.trust.group(trust)?;
            chain::check(certificate.ok_or(ChainFault::Missing)?, &group, now)?;
        }
        if certificate.is_some_and(|own| self.parts.revocations.is_certificate_revoked(own.thumbprint(), now)) {
            return Err(ChainFault::Revoked.into());
        }
        match assertion {
            Some((assertion, key)) => {
                self.use_up(&client.client_id, &assertion, now).await?;
                Ok(Some(key))
            }
            None => Ok(None),
        }
    }
}

/// The one thing that a request proves itself with.
pub(crate) enum Proof<'a> {
    /// An assertion, parsed and not yet believed.
    Assertion(Parsed<'a>),
    /// The certificate of the connection, or the lack of one.
    Certificate(Option<&'a PeerCert>),
}

impl<'a> Proof<'a> {
    /// Which method was used. A client certificate on the connection is not itself a method (RFC 8705 §4).
    fn recognise(presented: &'a Presented) -> Result<Self, AuthnFault> {
        let assertion = presented.assertion.is_some() || presented.assertion_type.is_some();
        match (presented.authorization_header, presented.client_secret, assertion) {
            (true, _, true) | (_, true, true) => return Err(AuthnFault::TwoMethodsWithAssertion),
            (true, true, false) => return Err(AuthnFault::TwoMethods),
            (true, false, false) => return Err(AuthnFault::AuthorizationHeader),
            (false, true, false) => return Err(AuthnFault::MethodUnsupported),
            (false, false, false) => return Ok(Self::Certificate(presented.certificate.as_deref())),
            (false, false, true) => {}
        }
        if presented.assertion_type.as_deref() != Some(assertion::CLIENT_ASSERTION_TYPE) {
            return Err(AuthnFault::AssertionType);
        }
        let assertion = presented.assertion.as_deref().ok_or(AuthnFault::AssertionType)?;
        Parsed::parse(assertion).map(Self::Assertion).map_err(|fault| AssertionFault::from(fault).into())
    }

    /// The client that the request speaks for (RFC 8705 §2; RFC 7521 §4.2). Claimed, not proved.
    fn client_id(&self, presented: &Presented) -> Result<String, AuthnFault> {
        let Self::Assertion(parsed) = self else {
            return presented.client_id.clone().ok_or(AuthnFault::ClientIdMissing);
        };
        let claimed = assertion::claimed_client(parsed).ok_or(AuthnFault::ClientIdMissing)?;
        match &presented.client_id {
            Some(client_id) if *client_id != claimed => Err(AuthnFault::ClientIdMismatch),
            _ => Ok(claimed),
        }
    }
}
