//! Does this access token belong to this client certificate, and is it good for this request? The resource server's half
//! of RFC 8705 §3, RFC 9068 §4 and RFC 6750.
//!
//! ```
//! use certbind_verify::{Demand, Keys, Settings, Thumbprint, Timestamp, Verifier};
//! # use certbind_proto::jwk::JwkSet;
//!
//! # let (issuer_keys, client_certificate_der, now) = (JwkSet::default(), [0; 0], Timestamp::from_unix(0));
//! let settings = Settings::new("https://auth.example.com", "https://api.example.com/payments");
//! let verifier = Verifier::new(settings, Keys::fixed(issuer_keys));
//! let demand = Demand { scope: "payments:read".parse()?, ..Demand::default() };
//!
//! let authorization: [&[u8]; 1] = [b"Bearer eyJhbGciOi"];
//! let certificate = Thumbprint::of_der(&client_certificate_der);
//! let denied = verifier.verify(authorization, Some(&certificate), &demand, now).unwrap_err();
//! assert_eq!(denied.status(), 401);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The order is fixed: header → signature → claims → binding → revocation → age → scope. The certificate is the leaf that the client
//! **proved** on the connection which carries the request; it need not be valid or come from a known authority, as the
//! issuer decided about it when it made the token (RFC 8705 §6.2).
//!
//! Tokens are checked offline, so a token that was revoked is good until it expires: keep lifetimes short (5 minutes is
//! certbind's default), or demand a [`max_age`](Demand::max_age) where that is too long (FAPI 2.0 §5.3.4), or give the
//! verifier the issuer's list of what it [revoked](Revocations).
//!
//! Every answer is written down as well, in `tests/vectors` of the repository, for verifiers in other languages; this one is held to
//! the same files.
//!
//! With the feature `tower` there is a layer that does all of it for a service of axum and the like, and one that serves what the
//! resource says of itself ([`ResourceMetadata`], RFC 9728). With the feature `fetch`, `fetch::OnlineVerifier` gets the issuer's keys over HTTPS and keeps them fresh, and polls that
//! list or asks the issuer about each token. Without `fetch` nothing here waits or opens a socket.

mod demand;
mod denied;
#[cfg(feature = "fetch")]
pub mod fetch;
mod keys;
mod memory;
mod revocations;
#[cfg(feature = "tower")]
pub mod tower;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use certbind_proto::access_token::{self, Expect, TokenFault};
use certbind_proto::bearer;
use certbind_proto::binding;
use certbind_proto::jws::Parsed;

pub use certbind_proto::access_token::AccessToken;
pub use certbind_proto::binding::Requirement;
pub use certbind_proto::jwk::JwkSet;
pub use certbind_proto::jws::{Algorithm, Algorithms};
pub use certbind_proto::kept_keys::Freshness;
pub use certbind_proto::resource_metadata::{IdentifierFault, ResourceMetadata};
pub use certbind_proto::scope::Scope;
pub use certbind_proto::thumbprint::Thumbprint;
pub use certbind_proto::time::{Clock, SystemClock, Timestamp};
pub use demand::Demand;
pub use denied::{Denied, Fault, NOT_ALLOWED, NOT_GOOD, REASONS};
pub use keys::Keys;
pub use memory::Memory;
pub use revocations::{ListRefused, Policy, Revocations, Taken, WhenStale};

/// What all tokens are held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The algorithms that a token may be signed with (RFC 8725 §3.1).
    pub algorithms: Algorithms,
    /// The names of this resource server; a token must be for one of them, to the letter (RFC 9068 §4).
    pub audiences: Vec<String>,
    /// How far the issuer's clock may be off.
    pub clock_skew: Duration,
    /// The one issuer that is trusted, as it stands in `iss`, to the letter.
    pub issuer: String,
    /// The protection space that challenges name (RFC 9110 §11.5).
    pub realm: Option<String>,
    /// Where the [metadata](ResourceMetadata::url) of this resource is, for challenges to name (RFC 9728 §5.1).
    pub resource_metadata: Option<String>,
}

impl Settings {
    /// For tokens of this issuer for this resource: every algorithm that certbind knows, clocks up to 30 s apart, neither
    /// realm nor metadata.
    #[must_use]
    pub fn new(issuer: &str, audience: &str) -> Self {
        Self {
            algorithms: Algorithms::DEFAULT,
            audiences: vec![audience.to_owned()],
            clock_skew: Duration::from_secs(30),
            issuer: issuer.to_owned(),
            realm: None,
            resource_metadata: None,
        }
    }
}

/// Tells good requests from bad ones.
#[derive(Clone, Debug)]
pub struct Verifier {
    settings: Settings,
    keys: Keys,
    memory: Option<Memory>,
    revocations: Option<Revocations>,
}

/// A token that is good for this request. Only [`Verifier`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    token: Arc<AccessToken>,
}

impl Verifier {
    /// With the keys of the issuer that the settings name.
    #[must_use]
    pub const fn new(settings: Settings, keys: Keys) -> Self {
        Self { settings, keys, memory: None, revocations: None }
    }

    /// The same, which looks at the signature of each token once. The memory is for this verifier alone: what another one found
    /// good, this one might not.
    #[must_use]
    pub fn with_memory(self, memory: Memory) -> Self {
        Self { memory: Some(memory), ..self }
    }

    /// The same for a resource server of these names. What it remembers, it holds against them too.
    #[must_use]
    pub fn for_audiences(self, audiences: Vec<String>) -> Self {
        Self { settings: Settings { audiences, ..self.settings }, ..self }
    }

    /// The same, which denies what this list has. Whoever runs the service sees to it that the list is renewed;
    /// `fetch::OnlineVerifier` does.
    #[must_use]
    pub fn with_revocations(self, revocations: Revocations) -> Self {
        Self { revocations: Some(revocations), ..self }
    }

    /// Decides about one request.
    ///
    /// `authorization` has the value of each `Authorization` header of the request: all of them, as two are refused.
    /// A token in the query or in a form is none; do not look there (RFC 6750 §2.2, §2.3; FAPI 2.0 §5.3.4).
    /// `certificate` is the leaf that was proved on this very connection.
    ///
    /// # Errors
    /// [`Denied`], which knows what to answer.
    pub fn verify<'a>(
        &self,
        authorization: impl IntoIterator<Item = &'a [u8]>,
        certificate: Option<&Thumbprint>,
        demand: &Demand,
        now: Timestamp,
    ) -> Result<Verified, Denied> {
        self.decide(authorization, certificate, demand, now).map_err(|fault| self.deny(fault, demand))
    }

    /// The denial of a request that carries its token in a second way beside the header, for those who parse query or
    /// form anyway (RFC 6750 §2).
    #[must_use]
    pub fn deny_second_transport(&self, demand: &Demand) -> Denied {
        self.deny(Fault::Bearer(bearer::BearerFault::Repeated), demand)
    }

    /// The issuer's keys.
    #[must_use]
    pub const fn keys(&self) -> &Keys {
        &self.keys
    }

    /// What the issuer revoked, if that is looked at.
    #[must_use]
    pub const fn revocations(&self) -> Option<&Revocations> {
        self.revocations.as_ref()
    }

    fn decide<'a>(
        &self,
        authorization: impl IntoIterator<Item = &'a [u8]>,
        certificate: Option<&Thumbprint>,
        demand: &Demand,
        now: Timestamp,
    ) -> Result<Verified, Fault> {
        let token = self.read(bearer::token(authorization.into_iter())?, now)?;
        demand.check_audience(&token)?;
        binding::check(token.cnf.as_ref(), certificate, demand.binding)?;
        if let Some(revocations) = &self.revocations {
            revocations.check(&token, self.settings.clock_skew, now)?;
        }
        demand.check(&token, self.settings.clock_skew, now)?;
        Ok(Verified { token })
    }

    /// What holds for the token whoever presents it: signature and claims.
    fn read(&self, text: &str, now: Timestamp) -> Result<Arc<AccessToken>, Fault> {
        let Some(memory) = &self.memory else { return self.read_anew(text, now).map(|(token, _)| token) };
        let name = memory::Name::of(text);
        let known = self.keys.set(now).and_then(|keys| memory.find(&name, &keys, now));
        match known {
            // Nothing else that was checked can have become wrong since.
            Some(token) if token.is_expired(self.settings.clock_skew, now) => Err(TokenFault::Expired.into()),
            Some(token) if !self.settings.audiences.iter().any(|own| token.aud.contains(own)) => {
                Err(TokenFault::AudienceWrong.into())
            }
            Some(token) => Ok(token),
            None => {
                let (token, keys) = self.read_anew(text, now)?;
                memory.remember(name, text.len(), &token, &keys, now);
                Ok(token)
            }
        }
    }

    /// The token, and the keys by which it is good.
    fn read_anew(&self, text: &str, now: Timestamp) -> Result<(Arc<AccessToken>, Arc<JwkSet>), Fault> {
        let parsed = Parsed::parse(text).map_err(TokenFault::from)?;
        let keys = self.keys.set(now).ok_or(Fault::KeysUnavailable)?;
        keys.verify(&parsed, self.settings.algorithms).map_err(TokenFault::from)?;
        let mut outcome = Err(TokenFault::AudienceWrong);
        for audience in &self.settings.audiences {
            let expect = Expect { issuer: &self.settings.issuer, audience, clock_skew: self.settings.clock_skew };
            outcome = access_token::check(&parsed, &expect, now);
            if !matches!(outcome, Err(TokenFault::AudienceWrong)) {
                break;
            }
        }
        Ok((Arc::new(outcome?), keys))
    }

    fn deny(&self, fault: Fault, demand: &Demand) -> Denied {
        Denied::new(fault, &self.settings, &demand.scope)
    }
}

impl Verified {
    /// The client that the token was given to.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.token.client_id
    }

    /// Whom the token is about; for `client_credentials` the client.
    #[must_use]
    pub fn sub(&self) -> &str {
        &self.token.sub
    }

    /// All that the token allows.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.token.scope
    }

    /// The resources that the token is for; one of them is this one.
    #[must_use]
    pub fn audience(&self) -> &[String] {
        &self.token.aud
    }

    /// When the token was made.
    #[must_use]
    pub fn issued_at(&self) -> Timestamp {
        self.token.iat
    }

    /// When the token is over.
    #[must_use]
    pub fn expires(&self) -> Timestamp {
        self.token.exp
    }

    /// The token's identifier.
    #[must_use]
    pub fn jti(&self) -> &str {
        &self.token.jti
    }

    /// The certificate that the token is bound to, and that was presented with it.
    #[must_use]
    pub fn thumbprint(&self) -> Option<&Thumbprint> {
        self.token.cnf.as_ref().map(|cnf| &cnf.x5t_s256)
    }
}
