//! The members of a registration: their names, what may stand there, and what they mean.
//!
//! The reader of files, the reader of JSON and the OpenAPI document are made from this table, so that none of them can
//! know a member that the others do not know.

/// One member.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// Its name.
    pub name: &'static str,
    /// What may stand there.
    pub kind: Kind,
    /// What it means, in one sentence.
    pub meaning: &'static str,
}

/// What may stand at a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// Certificates: in a file `file:PATH`, in JSON the PEM text itself.
    Certificates,
    /// A JWK set (RFC 7517 §5); in a file also `file:PATH`.
    Keys,
    /// Texts by name.
    Labels,
    /// The name of a client authentication method.
    Method,
    /// `active` or `disabled`.
    State,
    /// Our own table.
    Table,
    /// A text.
    Text,
    /// Several texts.
    Texts,
}

/// The members of a registration (RFC 7591 §2, RFC 8705 §2.1.2, §3.4), and our table.
pub const CLIENT: [Member; 15] = [
    member("client_id", Kind::Text, "the identifier that the client sends; 1 to 256 characters of printable ASCII"),
    member("client_name", Kind::Text, "a name for people"),
    member("token_endpoint_auth_method", Kind::Method, "how the client proves itself; there is no default"),
    member("token_endpoint_auth_signing_alg", Kind::Text, "the one algorithm of its assertions"),
    member("grant_types", Kind::Texts, "the grants that it may use; client_credentials when left out"),
    member("tls_client_auth_subject_dn", Kind::Text, "the subject of its certificate, as in RFC 4514"),
    member("tls_client_auth_san_dns", Kind::Text, "a dNSName of its certificate"),
    member("tls_client_auth_san_uri", Kind::Text, "a uniformResourceIdentifier of its certificate"),
    member("tls_client_auth_san_ip", Kind::Text, "an iPAddress of its certificate"),
    member("tls_client_auth_san_email", Kind::Text, "an rfc822Name of its certificate"),
    member("jwks", Kind::Keys, "its public keys; not together with jwks_uri"),
    member("jwks_uri", Kind::Text, "where it publishes its public keys"),
    member("scope", Kind::Text, "the scope that it may ask for, and gets when it asks for none"),
    member(
        "tls_client_certificate_bound_access_tokens",
        Kind::Boolean,
        "whether its tokens must be bound to a certificate (RFC 8705 §3.4)",
    ),
    member("certbind", Kind::Table, "what no RFC names"),
];

/// The members of `certbind`.
pub const CERTBIND: [Member; 11] = [
    member("trust", Kind::Text, "the trust group that vouches for a client of tls_client_auth"),
    member("audiences", Kind::Texts, "the resources that it may ask for; the first is the default audience"),
    member("resource_server", Kind::Texts, "the resources that it serves; it may introspect tokens for them"),
    member("token_lifetime", Kind::Text, "a life for its tokens that is shorter than the server's, as in 2m"),
    member("certificates", Kind::Certificates, "its certificates, for self_signed_tls_client_auth"),
    member("owner", Kind::Text, "whom to call"),
    member("labels", Kind::Labels, "for the operator's own order"),
    member(
        "legacy_audience",
        Kind::Boolean,
        "whether the token endpoint's URL is taken as audience of an assertion while the client migrates",
    ),
    member(
        "ignore_certificate_validity",
        Kind::Boolean,
        "whether the dates in a certificate of self_signed_tls_client_auth do not count",
    ),
    member(
        "bound_certificate_must_chain",
        Kind::Boolean,
        "whether the certificate that a token is bound to must chain to the trust group, whatever the method",
    ),
    member("state", Kind::State, "whether it may get tokens"),
];

const fn member(name: &'static str, kind: Kind, meaning: &'static str) -> Member {
    Member { name, kind, meaning }
}

/// The names of these members.
pub(super) fn names(members: &'static [Member]) -> impl Iterator<Item = &'static str> + Clone {
    members.iter().map(|member| member.name)
}

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
            assert_eq!(nearest(typed, names(&CLIENT)), meant, "{typed}");
        }
    }

    #[test]
    fn the_members_are_those_of_the_metadata() {
        let keys = |value: Value| -> BTreeSet<String> {
            let Value::Object(members) = value else { panic!("a struct is an object") };
            members.into_iter().map(|(key, _)| key).collect()
        };
        let table = |members: &'static [Member]| -> BTreeSet<String> { names(members).map(str::to_owned).collect() };
        assert_eq!(table(&CLIENT), keys(serde_json::to_value(ClientMetadata::default()).unwrap()));
        assert_eq!(table(&CERTBIND), keys(serde_json::to_value(CertbindMetadata::default()).unwrap()));
    }
}
