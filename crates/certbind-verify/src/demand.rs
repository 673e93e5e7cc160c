//! What a route demands of a token: scope, binding, age.

use std::time::Duration;

use certbind_proto::access_token::{AccessToken, TokenFault};
use certbind_proto::binding::Requirement;
use certbind_proto::scope::Scope;
use certbind_proto::time::Timestamp;

use crate::Fault;

/// What a route demands. By default a token that is bound to a certificate, of any scope and age.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// The one of the verifier's names that this route has; none where it has all of them (RFC 9068 §4).
    pub audience: Option<String>,
    /// Whether a token that is bound to nothing passes. One that is bound needs its certificate in any case.
    pub binding: Requirement,
    /// The longest time since the token was made; it shortens how long a revoked one is good (FAPI 2.0 §5.3.4).
    pub max_age: Option<Duration>,
    /// What the token must allow, each part of it.
    pub scope: Scope,
}

impl Default for Demand {
    fn default() -> Self {
        Self { audience: None, binding: Requirement::Required, max_age: None, scope: Scope::default() }
    }
}

impl Demand {
    /// Whether the token is for this route's resource, and not for another one behind the same verifier.
    pub(crate) fn check_audience(&self, token: &AccessToken) -> Result<(), TokenFault> {
        match &self.audience {
            Some(audience) if !token.aud.contains(audience) => Err(TokenFault::AudienceWrong),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether a good token is good enough. Scope comes last: only who may come in is told what is missing.
    pub(crate) fn check(&self, token: &AccessToken, clock_skew: Duration, now: Timestamp) -> Result<(), Fault> {
        if self.max_age.is_some_and(|max_age| now.since(token.iat.plus(clock_skew)) > max_age) {
            return Err(Fault::TooOld);
        }
        if !self.scope.is_subset(&token.scope) {
            return Err(Fault::ScopeMissing);
        }
        Ok(())
    }
}
