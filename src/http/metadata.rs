//! The metadata document (RFC 8414 §2), derived from what really works: enums in, names out.

use certbind_proto::client::AuthMethod;
use certbind_proto::jws::Algorithms;
use certbind_proto::metadata::{EndpointAliases, ServerMetadata};
use certbind_proto::request::CLIENT_CREDENTIALS;

use super::{INTROSPECT_PATH, JWKS_PATH, REVOCATIONS_PATH, REVOKE_PATH, TOKEN_PATH};

/// What the document is made from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The issuer identifier, exactly as configured.
    pub issuer: String,
    /// Where the plain endpoints are, without a trailing slash.
    pub base_url: String,
    /// Where the endpoints that ask for a certificate are, when that is elsewhere.
    pub mtls_base_url: Option<String>,
    /// The algorithms of client assertions.
    pub algorithms: Algorithms,
    /// Whether tokens can be bound to certificates.
    pub bound_tokens: bool,
    /// The algorithms of what this server signs, and is going to sign.
    pub own_algorithms: Algorithms,
    /// The methods that clients may be registered for.
    pub methods: Vec<AuthMethod>,
}

/// The document. `response_types_supported` is left out: there is no authorization endpoint, and an empty list is not
/// allowed (RFC 8414 §3.2).
#[must_use]
pub fn document(settings: &Settings) -> ServerMetadata {
    // Every endpoint authenticates its client by the same code, so all say the same.
    let methods: Vec<String> = settings.methods.iter().map(|method| method.as_str().to_owned()).collect();
    let algorithms: Vec<String> = match settings.methods.contains(&AuthMethod::PrivateKeyJwt) {
        true => settings.algorithms.names().into_iter().map(str::to_owned).collect(),
        false => Vec::new(),
    };
    let at = |path: &str| Some(format!("{}{path}", settings.base_url));
    ServerMetadata {
        issuer: settings.issuer.clone(),
        token_endpoint: at(TOKEN_PATH),
        jwks_uri: at(JWKS_PATH),
        scopes_supported: Vec::new(),
        grant_types_supported: vec![CLIENT_CREDENTIALS.to_owned()],
        token_endpoint_auth_methods_supported: methods.clone(),
        token_endpoint_auth_signing_alg_values_supported: algorithms.clone(),
        introspection_endpoint: at(INTROSPECT_PATH),
        introspection_endpoint_auth_methods_supported: methods.clone(),
        introspection_endpoint_auth_signing_alg_values_supported: algorithms.clone(),
        introspection_signing_alg_values_supported: settings
            .own_algorithms
            .iter()
            .map(|algorithm| algorithm.to_string())
            .collect(),
        revocation_endpoint: at(REVOKE_PATH),
        revocation_endpoint_auth_methods_supported: methods,
        revocation_endpoint_auth_signing_alg_values_supported: algorithms,
        certbind_revocation_list_uri: at(REVOCATIONS_PATH),
        tls_client_certificate_bound_access_tokens: settings.bound_tokens,
        mtls_endpoint_aliases: settings.mtls_base_url.as_ref().map(|base| EndpointAliases {
            token_endpoint: Some(format!("{base}{TOKEN_PATH}")),
            introspection_endpoint: Some(format!("{base}{INTROSPECT_PATH}")),
            revocation_endpoint: Some(format!("{base}{REVOKE_PATH}")),
        }),
    }
}

#[cfg(test)]
mod tests {
    use certbind_proto::jws::Algorithm;
    use serde_json::json;

    use super::*;

    fn settings() -> Settings {
        Settings {
            issuer: "https://auth.test".to_owned(),
            base_url: "https://auth.test".to_owned(),
            mtls_base_url: None,
            algorithms: Algorithms::FAPI2,
            bound_tokens: true,
            own_algorithms: Algorithms::of(&[Algorithm::Es256]),
            methods: AuthMethod::ALL.to_vec(),
        }
    }

    #[test]
    fn rfc8414_2_the_document_names_what_works_and_nothing_else() {
        assert_eq!(
            serde_json::to_value(document(&settings())).unwrap(),
            json!({
                "issuer": "https://auth.test",
                "token_endpoint": "https://auth.test/oauth2/token",
                "jwks_uri": "https://auth.test/.well-known/jwks.json",
                "grant_types_supported": ["client_credentials"],
                "token_endpoint_auth_methods_supported":
                    ["private_key_jwt", "self_signed_tls_client_auth", "tls_client_auth"],
                "token_endpoint_auth_signing_alg_values_supported": Algorithms::FAPI2.names(),
                "introspection_endpoint": "https://auth.test/oauth2/introspect",
                "introspection_endpoint_auth_methods_supported":
                    ["private_key_jwt", "self_signed_tls_client_auth", "tls_client_auth"],
                "introspection_endpoint_auth_signing_alg_values_supported": Algorithms::FAPI2.names(),
                "introspection_signing_alg_values_supported": ["ES256"],
                "revocation_endpoint": "https://auth.test/oauth2/revoke",
                "revocation_endpoint_auth_methods_supported":
                    ["private_key_jwt", "self_signed_tls_client_auth", "tls_client_auth"],
                "revocation_endpoint_auth_signing_alg_values_supported": Algorithms::FAPI2.names(),
                "certbind_revocation_list_uri": "https://auth.test/.well-known/certbind-revocations",
                "tls_client_certificate_bound_access_tokens": true,
            })
        );
    }

    #[test]
    fn rfc8414_2_algorithms_are_named_when_assertions_are_taken() {
        let methods = vec![AuthMethod::TlsClientAuth];
        let document = serde_json::to_value(document(&Settings { methods, ..settings() })).unwrap();
        for endpoint in ["token", "introspection", "revocation"] {
            assert_eq!(document.get(format!("{endpoint}_endpoint_auth_signing_alg_values_supported")), None);
        }
    }

    #[test]
    fn rfc8705_3_3_bound_tokens_are_announced_when_there_are_any() {
        let unbound = serde_json::to_value(document(&Settings { bound_tokens: false, ..settings() })).unwrap();
        assert_eq!(unbound.get("tls_client_certificate_bound_access_tokens"), None);
    }

    #[test]
    fn rfc8705_5_the_aliases_name_the_listener_that_asks_for_certificates() {
        let mtls_base_url = Some("https://mtls.auth.test".to_owned());
        let document = serde_json::to_value(document(&Settings { mtls_base_url, ..settings() })).unwrap();
        assert_eq!(
            document["mtls_endpoint_aliases"],
            json!({
                "token_endpoint": "https://mtls.auth.test/oauth2/token",
                "introspection_endpoint": "https://mtls.auth.test/oauth2/introspect",
                "revocation_endpoint": "https://mtls.auth.test/oauth2/revoke",
            })
        );
        assert_eq!(document["issuer"], "https://auth.test");
    }
}
