//! Authorization: an [`AuthenticatedClient`] and a form in, [`Granted`] out (RFC 6749 §4.4, §3.3; RFC 8707 §2).

use certbind_proto::error::ErrorCode;
use certbind_proto::request::{CLIENT_CREDENTIALS, Form};
use certbind_proto::resource::{Resource, ResourceFault};
use certbind_proto::scope::{Scope, ScopeFault};

use crate::authn::AuthenticatedClient;

mod client_credentials;

/// Proof that a client may have a token for this scope at these resources. Only this module makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    audience: Vec<Resource>,
    scope: Scope,
}

impl Granted {
    /// The resources that the token is for. Never empty (RFC 9068 §3).
    #[must_use]
    pub fn audience(&self) -> &[Resource] {
        &self.audience
    }

    /// What the token permits there.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }
}

/// What there is to grant.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The scopes that belong to one resource. A scope that stands in none of them belongs to every resource.
    pub resources: Vec<ResourceServer>,
    /// How many resources one token may be for.
    pub audience: AudienceShape,
}

/// A resource and the scopes that have a meaning there (RFC 9068 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceServer {
    /// Its identifier, unlike every other's (RFC 9068 §5).
    pub identifier: Resource,
    /// Its scopes.
    pub scope: Scope,
}

/// How many resources one token may be for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AudienceShape {
    /// As many as are asked for (RFC 8707 §2.2).
    #[default]
    Several,
    /// One, so that `aud` is a string (the `fapi2` profile).
    Single,
}

/// Why an authenticated client gets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantFault {
    /// The client is not registered for this grant (RFC 6749 §5.2).
    #[error("the client is not registered for this grant_type (RFC 6749 §5.2)")]
    GrantNotRegistered,
    /// No `grant_type` (RFC 6749 §4.4.2).
    #[error("no grant_type (RFC 6749 §4.4.2)")]
    GrantTypeMissing,
    /// A grant that this server does not have (RFC 6749 §5.2).
    #[error("the grant_type is not supported (RFC 6749 §5.2)")]
    GrantTypeUnsupported,
    /// A resource indicator is malformed (RFC 8707 §2).
    #[error("resource: {0}")]
    ResourceMalformed(ResourceFault),
    /// The resource is unknown, or not one of this client's (RFC 8707 §2).
    #[error("the resource is not one of this client's (RFC 8707 §2)")]
    ResourceNotAllowed,
    /// More than one resource where a token is for one.
    #[error("more than one resource, and a token of this profile is for one")]
    SeveralResources,
    /// The scope is malformed (RFC 6749 §3.3).
    #[error("scope: {0}")]
    ScopeMalformed(ScopeFault),
    /// The scope is unknown, or not this client's (RFC 6749 §3.3).
    #[error("the scope is not this client's (RFC 6749 §3.3)")]
    ScopeNotAllowed,
    /// The scope has no meaning at the resource, or belongs to several resources (RFC 9068 §3).
    #[error("the scope does not belong to the resource (RFC 9068 §3)")]
    ScopeOfOtherResource,
}

impl GrantFault {
    /// What the peer is told.
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::GrantNotRegistered => ErrorCode::UnauthorizedClient,
            Self::GrantTypeMissing => ErrorCode::InvalidRequest,
            Self::GrantTypeUnsupported => ErrorCode::UnsupportedGrantType,
            Self::ResourceMalformed(_) | Self::ResourceNotAllowed | Self::SeveralResources => ErrorCode::InvalidTarget,
            Self::ScopeMalformed(_) | Self::ScopeNotAllowed | Self::ScopeOfOtherResource => ErrorCode::InvalidScope,
        }
    }

    /// The stable name for audit and metrics.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::GrantNotRegistered => "grant_not_registered",
            Self::GrantTypeMissing => "grant_type_missing",
            Self::GrantTypeUnsupported => "grant_type_unsupported",
            Self::ResourceMalformed(_) => "resource_malformed",
            Self::ResourceNotAllowed => "resource_not_allowed",
            Self::SeveralResources => "several_resources",
            Self::ScopeMalformed(_) => "scope_malformed",
            Self::ScopeNotAllowed => "scope_not_allowed",
            Self::ScopeOfOtherResource => "scope_of_other_resource",
        }
    }
}

/// What of a token's scope has a meaning at these of its resources (RFC 9701 §5; RFC 9068 §2.2.3).
#[must_use]
pub fn scope_at(settings: &Settings, resources: &[Resource], scope: &Scope) -> Scope {
    scope.difference(&client_credentials::foreign_scope(settings, resources))
}

/// Decides what a client gets.
///
/// # Errors
/// The first [`GrantFault`].
pub fn authorize(settings: &Settings, client: &AuthenticatedClient, form: &Form) -> Result<Granted, GrantFault> {
    let grant_type = form.get("grant_type").ok_or(GrantFault::GrantTypeMissing)?;
    let is_registered = client.client().grant_types.iter().any(|registered| registered == grant_type);
    match grant_type {
        CLIENT_CREDENTIALS if is_registered => client_credentials::authorize(settings, client.client(), form),
        CLIENT_CREDENTIALS => Err(GrantFault::GrantNotRegistered),
        _ => Err(GrantFault::GrantTypeUnsupported),
    }
}
