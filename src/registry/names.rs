//! The keys of a client's file.

/// The keys of a registration (RFC 7591 §2, RFC 8705 §2.1.2, §3.4), and our table.
pub(super) const CLIENT: [&str; 15] = [
    "client_id",
    "client_name",
    "token_endpoint_auth_method",
    "token_endpoint_auth_signing_alg",
    "grant_types",
    "tls_client_auth_subject_dn",
    "tls_client_auth_san_dns",
    "tls_client_auth_san_uri",
    "tls_client_auth_san_ip",
    "tls_client_auth_san_email",
    "jwks",
    "jwks_uri",
    "scope",
    "tls_client_certificate_bound_access_tokens",
    "certbind",
];

/// The keys of `[certbind]`.
pub(super) const CERTBIND: [&str; 10] = [
    "trust",
    "audiences",
    "token_lifetime",
    "certificates",
    "owner",
    "labels",
    "legacy_audience",
    "ignore_certificate_validity",
    "bound_certificate_must_chain",
    "state",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use certbind_proto::client::{CertbindMetadata, ClientMetadata};
    use serde_json::Value;

    use super::*;
    use crate::suggest::nearest;

    #[test]
    fn the_nearest_key_is_meant_if_it_is_near_enough() {
        for (typed, meant) in [
            ("scoep", Some("scope")),
            ("jwks-uri", Some("jwks_uri")),
            ("Client_ID", Some("client_id")),
            ("tls_client_auth_san_url", Some("tls_client_auth_san_uri")),
            ("password", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, CLIENT), meant, "{typed}");
        }
    }

    #[test]
    fn the_keys_are_those_of_the_metadata() {
        let keys = |value: Value| -> BTreeSet<String> {
            let Value::Object(members) = value else { panic!("a struct is an object") };
            members.into_iter().map(|(key, _)| key).collect()
        };
        let client = keys(serde_json::to_value(ClientMetadata::default()).unwrap());
        assert_eq!(BTreeSet::from(CLIENT.map(str::to_owned)), client);
        let certbind = keys(serde_json::to_value(CertbindMetadata::default()).unwrap());
        assert_eq!(BTreeSet::from(CERTBIND.map(str::to_owned)), certbind);
    }
}
