//! Minting: [`Granted`] and [`AuthenticatedClient`] in, a signed access token out (RFC 9068 §2, RFC 8705 §3.1); and such a
//! token read again by whoever made it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use certbind_proto::access_token::{self, AccessToken, TokenFault};
use certbind_proto::binding::Confirmation;
use certbind_proto::entropy::{Entropy, unguessable_id};
use certbind_proto::error::ErrorCode;
use certbind_proto::introspection::{self, Introspection};
use certbind_proto::jws::{Algorithms, Parsed};
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::Timestamp;

use crate::authn::AuthenticatedClient;
use crate::grant::Granted;

mod keys;
pub mod lifecycle;
pub mod revocation_list;
pub mod ring;
pub mod seal;
pub mod signer;

pub use keys::{KeyFault, Source};

use ring::KeyRing;

/// The `jti` of a token to be: 160 random bits (RFC 6749 §10.10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenId(String);

impl TokenId {
    /// Draws one.
    #[must_use]
    pub fn draw(entropy: &dyn Entropy) -> Self {
        Self(unguessable_id(entropy))
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What every token has in common.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `iss`, as in the metadata.
    pub issuer: String,
    /// The longest life of a token.
    pub lifetime: Duration,
    /// Whether tokens are bound to certificates.
    pub binding: BindingPolicy,
    /// Whether a token may outlive the certificate it is bound to.
    pub certificate_expiry: ExpiryCap,
}

/// Whether tokens are bound to the certificate of the request. A client that is registered for bound tokens only
/// never gets another, whatever the policy (RFC 8705 §3.4, decided stricter).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindingPolicy {
    /// Every token is bound; without a certificate there is none.
    Always,
    /// A token is bound when there is a certificate.
    WhenCertificate,
    /// No token is bound, but those of clients registered for bound tokens only.
    Never,
}

/// Whether a bound token may outlive its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiryCap {
    /// It ends with its certificate at the latest.
    AtCertificateExpiry,
    /// It lives as long as any other.
    None,
}

/// A new token, and what is told about it.
#[derive(Clone)]
pub struct Minted {
    /// The token itself.
    pub token: String,
    /// Its remaining life in seconds.
    pub expires_in: u64,
    /// `exp`.
    pub expires: Timestamp,
    /// `jti`.
    pub id: TokenId,
    /// The certificate that it is bound to.
    pub bound_to: Option<Thumbprint>,
    /// What it is signed with, by its JOSE name.
    pub algorithm: &'static str,
}

/// Never shows the token.
impl fmt::Debug for Minted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Minted").field("id", &self.id).field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// Why there is no token for what was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MintFault {
    /// The token must be bound, and the certificate is no longer good.
    #[error("the certificate that the token would be bound to has expired")]
    CertificateExpired,
    /// The token must be bound, and the certificate cannot be read.
    #[error("the certificate that the token would be bound to is malformed")]
    CertificateMalformed,
    /// The token must be bound, and there is no certificate (RFC 8705 §3.4).
    #[error("the token must be bound, and there is no client certificate (RFC 8705 §3.4)")]
    CertificateMissing,
    /// The store has not been heard for so long that the key may be one that nobody publishes any longer.
    #[error("the signing keys may be out of date: the store has not been heard for keys.publish_before")]
    KeysOutdated,
    /// The security module that holds the signing key does not sign, or is another server's.
    #[error("the security module that holds the signing key does not sign")]
    SignerUnavailable,
    /// Signing failed.
    #[error("the token could not be signed")]
    Signing,
}

impl MintFault {
    /// What the peer is told. The client is authenticated by now, so it may learn that a certificate is missing.
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::CertificateExpired | Self::CertificateMalformed | Self::CertificateMissing => {
                ErrorCode::InvalidRequest
            }
            Self::KeysOutdated | Self::SignerUnavailable => ErrorCode::TemporarilyUnavailable,
            Self::Signing => ErrorCode::ServerError,
        }
    }

    /// The stable name for audit and metrics.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::CertificateExpired => "certificate_expired",
            Self::CertificateMalformed => "certificate_malformed",
            Self::CertificateMissing => "certificate_missing",
            Self::KeysOutdated => "signing_keys_outdated",
            Self::SignerUnavailable => "signer_unavailable",
            Self::Signing => "signing_failed",
        }
    }
}

/// Makes access tokens.
pub struct Minter {
    keys: Arc<KeyRing>,
    settings: Settings,
}

impl Minter {
    /// A minter that signs with these keys.
    #[must_use]
    pub const fn new(keys: Arc<KeyRing>, settings: Settings) -> Self {
        Self { keys, settings }
    }

    /// Makes the token. Needs both proofs, so no caller can leave a step out.
    ///
    /// # Errors
    /// [`MintFault`]; then there is no token of any kind.
    pub async fn mint(
        &self,
        granted: &Granted,
        client: &AuthenticatedClient,
        id: TokenId,
        now: Timestamp,
    ) -> Result<Minted, MintFault> {
        let binding = self.binding(client, now)?;
        let signing = self.keys.signing(now)?;
        let expires = self.expiry(client, binding.as_ref(), signing.token_lifetime, now);
        let registered = client.client();
        let claims = AccessToken {
            iss: self.settings.issuer.clone(),
            sub: registered.client_id.clone(),
            client_id: registered.client_id.clone(),
            aud: granted.audience().iter().map(|resource| resource.as_str().to_owned()).collect(),
            scope: granted.scope().clone(),
            iat: Timestamp::from_unix(now.unix()),
            exp: expires,
            jti: id.0.clone(),
            cnf: binding.as_ref().map(|bound| Confirmation { x5t_s256: bound.thumbprint }),
        };
        let signer = signing.signer()?;
        let token = signer.sign(&claims.to_claims()).await?;
        let expires_in = expires.since(Timestamp::from_unix(now.unix())).as_secs();
        let algorithm = signer.algorithm().as_str();
        Ok(Minted { token, expires_in, expires, id, bound_to: binding.map(|bound| bound.thumbprint), algorithm })
    }

    /// A token of this server, whatever resource it is for. Nothing is looked up: it is known by its signature.
    ///
    /// # Errors
    /// [`TokenFault`] for anything that this server did not make, and for what is over by more than `clock_skew`.
    pub fn read(&self, token: &str, clock_skew: Duration, now: Timestamp) -> Result<AccessToken, TokenFault> {
        let parsed = Parsed::parse(token)?;
        self.keys.current().published().verify(&parsed, Algorithms::DEFAULT)?;
        access_token::check_own(&parsed, &self.settings.issuer, clock_skew, now)
    }

    /// What is said of a token, signed for the resource server that asked (RFC 9701 §5).
    ///
    /// # Errors
    /// [`MintFault::KeysOutdated`], [`MintFault::SignerUnavailable`], [`MintFault::Signing`].
    pub async fn sign_introspection(
        &self,
        said: &Introspection,
        asked_by: &AuthenticatedClient,
        now: Timestamp,
    ) -> Result<String, MintFault> {
        let claims = said.to_claims(&self.settings.issuer, &asked_by.client().client_id, now);
        self.keys.signing(now)?.signer()?.sign_as(introspection::TYP, &claims).await
    }

    /// The certificate that the token is bound to: the leaf that was proved on this connection, whatever method
    /// authenticated the client (RFC 8705 §3). A token that must be bound is bound or not made.
    fn binding(&self, client: &AuthenticatedClient, now: Timestamp) -> Result<Option<Bound>, MintFault> {
        let registered = client.client().bound_tokens_only;
        let required = registered || self.settings.binding == BindingPolicy::Always;
        let wanted = required || self.settings.binding == BindingPolicy::WhenCertificate;
        let certificate = match client.certificate() {
            Some(certificate) if wanted => certificate,
            None if required => return Err(MintFault::CertificateMissing),
            _ => return Ok(None),
        };
        let leaf = certificate.leaf().map_err(|_| MintFault::CertificateMalformed)?;
        let bound = Bound { thumbprint: *leaf.thumbprint(), not_after: leaf.not_after() };
        if self.caps() && bound.not_after <= now {
            return Err(MintFault::CertificateExpired);
        }
        Ok(Some(bound))
    }

    /// The shortest life that is set holds; that of the key as well, which is published for no longer than its last token
    /// lives.
    fn expiry(
        &self,
        client: &AuthenticatedClient,
        binding: Option<&Bound>,
        of_key: Duration,
        now: Timestamp,
    ) -> Timestamp {
        let lifetime = self.settings.lifetime.min(of_key);
        let lifetime = client.client().token_lifetime.map_or(lifetime, |own| own.min(lifetime));
        let expires = Timestamp::from_unix(now.unix()).plus(lifetime);
        match binding {
            Some(bound) if self.caps() => expires.min(bound.not_after),
            _ => expires,
        }
    }

    fn caps(&self) -> bool {
        self.settings.certificate_expiry == ExpiryCap::AtCertificateExpiry
    }
}

struct Bound {
    thumbprint: Thumbprint,
    not_after: Timestamp,
}
