//! Authorization server metadata (RFC 8414 §2) and the mutual-TLS endpoint aliases (RFC 8705 §5).

use serde::{Deserialize, Serialize};

/// The well-known suffix of RFC 8414 §3.
pub const OAUTH_SUFFIX: &str = "/.well-known/oauth-authorization-server";
/// The suffix that OpenID clients ask for first.
pub const OPENID_SUFFIX: &str = "/.well-known/openid-configuration";

/// The metadata document. Empty lists are left out (RFC 8414 §3.2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerMetadata {
    /// The issuer identifier, exactly as configured.
    pub issuer: String,
    /// Where tokens are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_endpoint: Option<String>,
    /// Where the signing keys are published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_uri: Option<String>,
    /// The scopes that the operator advertises.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes_supported: Vec<String>,
    /// The grants that work.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub grant_types_supported: Vec<String>,
    /// The client authentication methods that work at the token endpoint.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub token_endpoint_auth_methods_supported: Vec<String>,
    /// The algorithms that a client assertion may be signed with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub token_endpoint_auth_signing_alg_values_supported: Vec<String>,
    /// Where resource servers ask about tokens (RFC 7662).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub introspection_endpoint: Option<String>,
    /// The client authentication methods that work there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub introspection_endpoint_auth_methods_supported: Vec<String>,
    /// The algorithms that a client assertion may be signed with there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub introspection_endpoint_auth_signing_alg_values_supported: Vec<String>,
    /// The algorithms that signed answers there are signed with (RFC 9701 §7).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub introspection_signing_alg_values_supported: Vec<String>,
    /// Where tokens are revoked (RFC 7009).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revocation_endpoint: Option<String>,
    /// The client authentication methods that work there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub revocation_endpoint_auth_methods_supported: Vec<String>,
    /// The algorithms that a client assertion may be signed with there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub revocation_endpoint_auth_signing_alg_values_supported: Vec<String>,
    /// Where the signed list of what is revoked is: a member of certbind's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certbind_revocation_list_uri: Option<String>,
    /// Whether tokens are bound to client certificates (RFC 8705 §3.3).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tls_client_certificate_bound_access_tokens: bool,
    /// Where the same endpoints ask for a certificate (RFC 8705 §5).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtls_endpoint_aliases: Option<EndpointAliases>,
}

/// Endpoints that ask for a client certificate (RFC 8705 §5). Members that are not endpoints are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointAliases {
    /// The token endpoint on the listener that asks for certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_endpoint: Option<String>,
    /// The introspection endpoint there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub introspection_endpoint: Option<String>,
    /// The revocation endpoint there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revocation_endpoint: Option<String>,
}

impl ServerMetadata {
    /// The token endpoint for a request that presents a client certificate: the alias when there is one (RFC 8705 §5).
    #[must_use]
    pub fn mtls_token_endpoint(&self) -> Option<&str> {
        let alias = self.mtls_endpoint_aliases.as_ref().and_then(|aliases| aliases.token_endpoint.as_deref());
        alias.or(self.token_endpoint.as_deref())
    }
}

/// Where the metadata of `issuer` is: the suffix goes between host and path, a trailing slash is dropped first
/// (RFC 8414 §3.1). `None` when the issuer is not an `https` URL.
#[must_use]
pub fn well_known_url(issuer: &str, suffix: &str) -> Option<String> {
    let (authority, path) = split_issuer(issuer)?;
    Some(format!("https://{authority}{suffix}{path}"))
}

/// The paths at which a server with this issuer answers (RFC 8414 §3.1, and OpenID's, with the suffix at the end).
#[must_use]
pub fn well_known_paths(issuer: &str) -> Vec<String> {
    let path = split_issuer(issuer).map_or("", |(_, path)| path);
    let mut paths =
        vec![format!("{OAUTH_SUFFIX}{path}"), format!("{OPENID_SUFFIX}{path}"), format!("{path}{OPENID_SUFFIX}")];
    paths.dedup();
    paths
}

fn split_issuer(issuer: &str) -> Option<(&str, &str)> {
    let rest = issuer.strip_prefix("https://")?;
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    if authority.is_empty() { None } else { Some((authority, path.trim_end_matches('/'))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc8414_3_1_the_suffix_goes_between_host_and_path() {
        for (issuer, url) in [
            ("https://h", Some("https://h/.well-known/oauth-authorization-server")),
            ("https://h/", Some("https://h/.well-known/oauth-authorization-server")),
            ("https://h:8443/t1", Some("https://h:8443/.well-known/oauth-authorization-server/t1")),
            ("https://h/t1/", Some("https://h/.well-known/oauth-authorization-server/t1")),
            ("http://h", None),
            ("https://", None),
        ] {
            assert_eq!(well_known_url(issuer, OAUTH_SUFFIX).as_deref(), url, "{issuer}");
        }
    }

    #[test]
    fn rfc8414_3_1_a_server_answers_at_both_documents() {
        assert_eq!(well_known_paths("https://h"), [OAUTH_SUFFIX, OPENID_SUFFIX]);
        assert_eq!(
            well_known_paths("https://h/t1"),
            [
                "/.well-known/oauth-authorization-server/t1",
                "/.well-known/openid-configuration/t1",
                "/t1/.well-known/openid-configuration"
            ]
        );
    }

    #[test]
    fn rfc8414_3_2_empty_lists_are_left_out() {
        let text =
            serde_json::to_string(&ServerMetadata { issuer: "https://h".to_owned(), ..Default::default() }).unwrap();
        assert_eq!(text, r#"{"issuer":"https://h"}"#);
    }

    #[test]
    fn rfc8705_5_the_alias_is_used_when_present_and_the_rest_of_it_is_ignored() {
        let with = r#"{"issuer":"https://h","token_endpoint":"https://h/t",
            "mtls_endpoint_aliases":{"token_endpoint":"https://m/t","issuer":"https://evil","authorization_endpoint":"https://evil"}}"#;
        let metadata: ServerMetadata = serde_json::from_str(with).unwrap();
        assert_eq!(metadata.mtls_token_endpoint(), Some("https://m/t"));
        assert_eq!(metadata.issuer, "https://h");
        let without: ServerMetadata =
            serde_json::from_str(r#"{"token_endpoint":"https://h/t","mtls_endpoint_aliases":{}}"#).unwrap();
        assert_eq!(without.mtls_token_endpoint(), Some("https://h/t"));
    }
}
