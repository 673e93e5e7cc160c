//! `private_key_jwt`: a signed statement, good once (RFC 7523 §2.2, §3; RFC 10070 §4; OpenID Connect Core §9).

use std::time::Duration;

use certbind_proto::assertion::{self, Accepted, AssertionFault, AudienceRule, Expect};
use certbind_proto::client::KeySource;
use certbind_proto::jwk::{Jwk, JwkSet};
use certbind_proto::jws::{Algorithm, Algorithms, JwsFault, Parsed};
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::Timestamp;

use super::{Authenticator, AuthnFault};
use crate::jwks_uri::Wanted;
use crate::store::{FirstUse, ReplayKey, Use};

/// What an assertion is held against, for every client alike.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This server's issuer identifier: the one audience (RFC 10070 §4).
    pub issuer: String,
    /// The forms that the audience may have.
    pub audience: AudienceRule,
    /// The URLs that a client marked `legacy_audience` may still name.
    pub legacy_audiences: Vec<String>,
    /// The algorithms of the profile.
    pub algorithms: Algorithms,
    /// The longest life of an assertion.
    pub max_lifetime: Duration,
    /// How far the client's clock may be off.
    pub clock_skew: Duration,
}

/// What one client registered.
pub(super) struct Registered<'a> {
    pub(super) client_id: &'a str,
    pub(super) keys: &'a KeySource,
    pub(super) algorithm: Option<Algorithm>,
    pub(super) legacy_audience: bool,
}

/// The key that signed an assertion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedKey {
    /// Its thumbprint (RFC 7638 §3).
    pub thumbprint: Thumbprint,
    /// Its `kid`, if it has one.
    pub kid: Option<String>,
}

impl UsedKey {
    fn of(key: &Jwk) -> Self {
        Self { thumbprint: key.thumbprint(), kid: key.kid().map(str::to_owned) }
    }
}

impl Authenticator {
    /// Pure checks, then the signature. What is accepted is not used up yet.
    pub(super) async fn private_key_jwt(
        &self,
        parsed: &Parsed<'_>,
        registered: &Registered<'_>,
        now: Timestamp,
    ) -> Result<(Accepted, UsedKey), AuthnFault> {
        let accepted =
            assertion::check(parsed, &self.expectation(registered), now).inspect_err(|_| self.decoy.verify(parsed))?;
        let key = self.verify(parsed, registered, now).await?;
        Ok((accepted, key))
    }

    /// The one write, after every check: a refused assertion is not used up, and a forged one cannot use up the real
    /// one's `jti`.
    pub(super) async fn use_up(&self, client_id: &str, assertion: &Accepted, now: Timestamp) -> Result<(), AuthnFault> {
        let key = ReplayKey::of(client_id, &assertion.jti);
        let used = Use { key, issued: assertion.issued, keep_until: assertion.keep_until };
        match self.parts.replay.first_use(used, now).await? {
            FirstUse::Yes => Ok(()),
            FirstUse::No => Err(AuthnFault::AssertionReplayed),
        }
    }

    fn expectation<'a>(&'a self, registered: &Registered<'a>) -> Expect<'a> {
        let settings = &self.settings;
        Expect {
            client_id: registered.client_id,
            issuer: &settings.issuer,
            audience: settings.audience,
            legacy_audiences: if registered.legacy_audience { &settings.legacy_audiences } else { &[] },
            max_lifetime: settings.max_lifetime,
            clock_skew: settings.clock_skew,
        }
    }

    async fn verify(
        &self,
        parsed: &Parsed<'_>,
        registered: &Registered<'_>,
        now: Timestamp,
    ) -> Result<UsedKey, AuthnFault> {
        let allowed = match registered.algorithm {
            Some(algorithm) => self.settings.algorithms.intersection(Algorithms::of(&[algorithm])),
            None => self.settings.algorithms,
        };
        match registered.keys {
            KeySource::Inline(set) => self.verify_with(parsed, set, allowed),
            KeySource::Uri(uri) => {
                let wanted = parsed.header.kid.as_deref().map_or(Wanted::AnyKey, Wanted::Kid);
                let set = self.parts.remote_keys.keys(uri, wanted, now).await?;
                self.verify_with(parsed, &set, allowed)
            }
        }
    }

    /// Only the client's own keys count, with the algorithms of its registration and the profile (RFC 8725 §3.1).
    fn verify_with(&self, parsed: &Parsed<'_>, set: &JwkSet, allowed: Algorithms) -> Result<UsedKey, AuthnFault> {
        set.signer(parsed, allowed).map(UsedKey::of).map_err(|fault| {
            if fault != JwsFault::SignatureWrong {
                self.decoy.verify(parsed);
            }
            AssertionFault::from(fault).into()
        })
    }
}
