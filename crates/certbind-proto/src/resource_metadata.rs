//! Protected resource metadata: what a resource says of itself, and where it says it (RFC 9728 §2, §3.1).

use serde::Serialize;

use crate::resource::{Resource, ResourceFault};
use crate::scope::Scope;

/// The well-known suffix of RFC 9728 §3.
pub const SUFFIX: &str = "/.well-known/oauth-protected-resource";

/// Why a text is not the identifier of a resource that can describe itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentifierFault {
    /// It does not begin with `https://`.
    #[error("a protected resource that describes itself is an https URL (RFC 9728 §1.2)")]
    NotHttps,
    /// It is no URL without a fragment.
    #[error(transparent)]
    Resource(#[from] ResourceFault),
}

/// The document. Empty lists are left out (RFC 9728 §3.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ResourceMetadata {
    resource: Resource,
    /// The issuers whose tokens it takes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    authorization_servers: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scopes_supported: Vec<String>,
    bearer_methods_supported: [&'static str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_name: Option<String>,
    tls_client_certificate_bound_access_tokens: bool,
}

impl ResourceMetadata {
    /// Of the resource of this identifier, which takes bound tokens of this issuer in the `Authorization` header.
    ///
    /// # Errors
    /// [`IdentifierFault`] when the resource has no `https` URL for a name.
    pub fn new(resource: &str, issuer: &str) -> Result<Self, IdentifierFault> {
        let resource: Resource = resource.parse()?;
        if !resource.as_str().starts_with(SCHEME) {
            return Err(IdentifierFault::NotHttps);
        }
        Ok(Self {
            resource,
            authorization_servers: vec![issuer.to_owned()],
            scopes_supported: Vec::new(),
            bearer_methods_supported: ["header"],
            resource_name: None,
            tls_client_certificate_bound_access_tokens: true,
        })
    }

    /// The same, with what clients may ask for.
    #[must_use]
    pub fn with_scopes(self, scope: &Scope) -> Self {
        Self { scopes_supported: scope.iter().map(str::to_owned).collect(), ..self }
    }

    /// The same, with a name for people.
    #[must_use]
    pub fn with_name(self, name: &str) -> Self {
        Self { resource_name: Some(name.to_owned()), ..self }
    }

    /// The resource's identifier, to the letter.
    #[must_use]
    pub fn resource(&self) -> &str {
        self.resource.as_str()
    }

    /// Where the document is: the suffix goes between host and path (RFC 9728 §3.1). It is what challenges name (§5.1).
    #[must_use]
    pub fn url(&self) -> String {
        let (authority, _) = self.split();
        format!("{SCHEME}{authority}{}", self.path())
    }

    /// The path of that URL, and the query where the resource's identifier has one.
    #[must_use]
    pub fn path(&self) -> String {
        let (_, rest) = self.split();
        // A slash that only ends the host is dropped.
        let rest = match rest.strip_prefix('/') {
            Some(after) if after.is_empty() || after.starts_with('?') => after,
            _ => rest,
        };
        format!("{SUFFIX}{rest}")
    }

    /// The document.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Host and port, and what follows.
    fn split(&self) -> (&str, &str) {
        let url = self.resource().strip_prefix(SCHEME).unwrap_or_default();
        url.split_at(url.find(['/', '?']).unwrap_or(url.len()))
    }
}

const SCHEME: &str = "https://";

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUER: &str = "https://auth.example.com";

    #[test]
    fn rfc9728_3_1_the_suffix_goes_between_host_and_path() {
        for (resource, url) in [
            ("https://h", "https://h/.well-known/oauth-protected-resource"),
            ("https://h/", "https://h/.well-known/oauth-protected-resource"),
            ("https://h/p", "https://h/.well-known/oauth-protected-resource/p"),
            ("https://h:8444/p/q", "https://h:8444/.well-known/oauth-protected-resource/p/q"),
            ("https://h/p/", "https://h/.well-known/oauth-protected-resource/p/"),
            ("https://h?tenant=1", "https://h/.well-known/oauth-protected-resource?tenant=1"),
            ("https://h/?tenant=1", "https://h/.well-known/oauth-protected-resource?tenant=1"),
            ("https://h/p?tenant=1", "https://h/.well-known/oauth-protected-resource/p?tenant=1"),
        ] {
            let metadata = ResourceMetadata::new(resource, ISSUER).unwrap();
            assert_eq!(metadata.url(), url, "{resource}");
            assert!(url.ends_with(&metadata.path()), "{resource}");
        }
    }

    #[test]
    fn rfc9728_2_the_resource_is_an_https_url_without_fragment() {
        for (resource, fault) in [
            ("https://h/#f", IdentifierFault::Resource(ResourceFault::Fragment)),
            ("https://", IdentifierFault::Resource(ResourceFault::NotAUri)),
            ("https://h/\"", IdentifierFault::Resource(ResourceFault::NotAUri)),
            ("h/p", IdentifierFault::Resource(ResourceFault::Relative)),
            ("http://h", IdentifierFault::NotHttps),
            ("urn:example:payments", IdentifierFault::NotHttps),
        ] {
            assert_eq!(ResourceMetadata::new(resource, ISSUER), Err(fault), "{resource}");
        }
    }

    #[test]
    fn rfc9728_2_the_document_says_where_tokens_come_from_and_that_they_are_bound() {
        let metadata = ResourceMetadata::new("https://h/p", ISSUER).unwrap();
        assert_eq!(
            metadata.to_json(),
            r#"{"resource":"https://h/p","authorization_servers":["https://auth.example.com"],"bearer_methods_supported":["header"],"tls_client_certificate_bound_access_tokens":true}"#
        );
        let more = metadata.with_scopes(&"b a".parse().unwrap()).with_name("Payments");
        assert_eq!(
            more.to_json(),
            r#"{"resource":"https://h/p","authorization_servers":["https://auth.example.com"],"scopes_supported":["a","b"],"bearer_methods_supported":["header"],"resource_name":"Payments","tls_client_certificate_bound_access_tokens":true}"#
        );
    }
}
