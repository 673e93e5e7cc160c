//! A good registration of each method, spoilt in one fact.

use certbind_devpki::{Basic, Identity, LeafSpec, Validity, Version};
use serde_json::json;

use super::*;
use crate::jws::SigningKey;

fn rules() -> RegistrationRules {
    RegistrationRules {
        algorithms: Algorithms::DEFAULT,
        legacy_audience: LegacyAudience::Permitted,
        trust_groups: vec!["corp".to_owned()],
    }
}

fn fapi2() -> RegistrationRules {
    RegistrationRules {
        algorithms: Algorithms::FAPI2,
        legacy_audience: LegacyAudience::Forbidden,
        trust_groups: vec!["corp".to_owned()],
    }
}

fn any(method: &str) -> ClientMetadata {
    ClientMetadata {
        client_id: "billing".to_owned(),
        token_endpoint_auth_method: Some(method.to_owned()),
        scope: Some("pay.read".to_owned()),
        certbind: CertbindMetadata { audiences: vec!["https://api.test".to_owned()], ..CertbindMetadata::default() },
        ..ClientMetadata::default()
    }
}

fn tls_client_auth() -> ClientMetadata {
    let mut metadata = any("tls_client_auth");
    metadata.tls_client_auth_san_uri = Some("spiffe://certbind.test/billing".to_owned());
    metadata.certbind.trust = Some("corp".to_owned());
    metadata
}

fn private_key_jwt() -> ClientMetadata {
    ClientMetadata { jwks: Some(keys()), ..any("private_key_jwt") }
}

fn keys() -> Value {
    let key = SigningKey::generate(Algorithm::Es256).unwrap().public_jwk("k");
    json!({ "keys": [key.to_json()] })
}

fn certificate(spoil: impl FnOnce(&mut LeafSpec)) -> Vec<u8> {
    let mut spec = LeafSpec::client("ledger", Validity::days_from(1_700_000_000, 30));
    spoil(&mut spec);
    Identity::self_signed(&spec).unwrap().certificate().to_vec()
}

fn faults(metadata: &ClientMetadata, certificates: &[Vec<u8>], rules: &RegistrationRules) -> Vec<MetadataFault> {
    Client::register(metadata, certificates, rules).map_or_else(|faults| faults, |_| Vec::new())
}

/// A good registration, and one fact of it made wrong.
fn spoilt(mut metadata: ClientMetadata, spoil: impl FnOnce(&mut ClientMetadata)) -> Vec<MetadataFault> {
    assert_eq!(faults(&metadata, &[], &rules()), []);
    spoil(&mut metadata);
    faults(&metadata, &[], &rules())
}

#[test]
fn rfc6749_4_4_a_client_has_one_of_the_three_methods() {
    for method in [None, Some("none"), Some("client_secret_basic"), Some("client_secret_jwt"), Some("TLS_CLIENT_AUTH")]
    {
        let faults = spoilt(tls_client_auth(), |client| client.token_endpoint_auth_method = method.map(str::to_owned));
        assert_eq!(faults, [MetadataFault::Method], "{method:?}");
    }
    for method in AuthMethod::ALL {
        assert_eq!(AuthMethod::parse(method.as_str()), Some(method));
    }
}

#[test]
fn rfc8705_2_1_2_exactly_one_name_and_for_this_method_only() {
    let none = spoilt(tls_client_auth(), |client| client.tls_client_auth_san_uri = None);
    assert_eq!(none, [MetadataFault::SubjectCount(0)]);
    let two = spoilt(tls_client_auth(), |client| client.tls_client_auth_san_dns = Some("billing.test".to_owned()));
    assert_eq!(two, [MetadataFault::SubjectCount(2)]);
    let other = spoilt(private_key_jwt(), |client| client.tls_client_auth_san_ip = Some("192.0.2.1".to_owned()));
    assert_eq!(other, [MetadataFault::NotOfThisMethod("tls_client_auth_san_ip")]);
    let malformed = spoilt(tls_client_auth(), |client| client.tls_client_auth_san_uri = Some("no uri".to_owned()));
    assert_eq!(malformed, [MetadataFault::Subject("tls_client_auth_san_uri", SubjectFault::Uri)]);
    for trust in [None, Some("other")] {
        let faults = spoilt(tls_client_auth(), |client| client.certbind.trust = trust.map(str::to_owned));
        assert_eq!(faults, [MetadataFault::Trust], "{trust:?}");
    }
}

#[test]
fn rfc8705_6_1_a_trust_group_is_named_where_a_chain_is_checked_and_nowhere_else() {
    let trust = |client: &mut ClientMetadata| client.certbind.trust = Some("corp".to_owned());
    assert_eq!(spoilt(private_key_jwt(), trust), [MetadataFault::NotOfThisMethod("certbind.trust")]);
    let checked = |client: &mut ClientMetadata| {
        trust(client);
        client.certbind.bound_certificate_must_chain = true;
    };
    assert_eq!(spoilt(private_key_jwt(), checked), []);
    let nowhere = spoilt(private_key_jwt(), |client| client.certbind.bound_certificate_must_chain = true);
    assert_eq!(nowhere, [MetadataFault::Trust]);
}

#[test]
fn rfc8705_2_2_2_this_method_needs_a_certificate() {
    let good = certificate(|_| ());
    let metadata = any("self_signed_tls_client_auth");
    assert_eq!(faults(&metadata, std::slice::from_ref(&good), &rules()), []);
    assert_eq!(faults(&metadata, &[], &rules()), [MetadataFault::CertificateMissing]);
    let key_alone = ClientMetadata { jwks: Some(keys()), ..metadata.clone() };
    assert_eq!(faults(&key_alone, &[], &rules()), [MetadataFault::CertificateMissing]);
    assert_eq!(faults(&metadata, &[good[1..].to_vec()], &rules()), [MetadataFault::CertificateMalformed]);
    assert_eq!(
        faults(&tls_client_auth(), &[good], &rules()),
        [MetadataFault::NotOfThisMethod("certbind.certificates")]
    );
}

#[test]
fn rfc8705_2_2_a_ca_certificate_may_be_registered_and_one_of_version_1_may_not() {
    let metadata = any("self_signed_tls_client_auth");
    assert_eq!(faults(&metadata, &[certificate(|spec| spec.basic = Basic::Ca)], &rules()), []);
    let version_1 = certificate(|spec| spec.version = Version::V1);
    assert_eq!(faults(&metadata, &[version_1], &rules()), [MetadataFault::CertificateVersion(1)]);
}

#[test]
fn rfc7591_2_keys_come_from_one_place() {
    let both = spoilt(private_key_jwt(), |client| client.jwks_uri = Some("https://keys.test/".to_owned()));
    assert_eq!(both, [MetadataFault::KeySourceTwice]);
    assert_eq!(spoilt(private_key_jwt(), |client| client.jwks = None), [MetadataFault::KeyMissing]);
    let other = Some("PS256".to_owned());
    assert_eq!(
        spoilt(private_key_jwt(), |client| client.token_endpoint_auth_signing_alg = other),
        [MetadataFault::KeyNeverUsable]
    );
    for uri in ["http://keys.test/", "https://user@keys.test/", "https://keys.test/#x", "https://", "keys", "file:///k"]
    {
        let faults = spoilt(private_key_jwt(), |client| {
            client.jwks = None;
            client.jwks_uri = Some(uri.to_owned());
        });
        assert_eq!(faults, [MetadataFault::JwksUri], "{uri}");
    }
}

#[test]
fn fapi_5_4_1_the_profile_narrows_what_a_client_may_register() {
    let mut metadata = any("private_key_jwt");
    metadata.jwks_uri = Some("https://keys.test/".to_owned());
    metadata.token_endpoint_auth_signing_alg = Some("RS256".to_owned());
    metadata.certbind.legacy_audience = true;
    assert_eq!(faults(&metadata, &[], &rules()), []);
    assert_eq!(faults(&metadata, &[], &fapi2()), [MetadataFault::Algorithm, MetadataFault::LegacyAudience]);
    for name in ["none", "HS256", "es256"] {
        let faults = spoilt(private_key_jwt(), |client| client.token_endpoint_auth_signing_alg = Some(name.to_owned()));
        assert_eq!(faults, [MetadataFault::Algorithm], "{name}");
    }
    let legacy = spoilt(tls_client_auth(), |client| client.certbind.legacy_audience = true);
    assert_eq!(legacy, [MetadataFault::LegacyAudience]);
}

#[test]
fn every_mistake_of_a_registration_is_told_at_once() {
    let metadata = ClientMetadata {
        client_id: "é".to_owned(),
        scope: Some("a  b".to_owned()),
        grant_types: Some(vec!["password".to_owned()]),
        certbind: CertbindMetadata { token_lifetime: Some("0s".to_owned()), ..CertbindMetadata::default() },
        ..ClientMetadata::default()
    };
    let faults = faults(&metadata, &[], &rules());
    for fault in [
        MetadataFault::ClientId,
        MetadataFault::Method,
        MetadataFault::AudienceMissing,
        MetadataFault::GrantType,
        MetadataFault::Lifetime,
    ] {
        assert!(faults.contains(&fault), "{fault:?} of {faults:?}");
    }
    assert!(faults.iter().any(|fault| matches!(fault, MetadataFault::Scope(_))));
}

#[test]
fn rfc9068_5_an_audience_is_named_once() {
    let twice = spoilt(tls_client_auth(), |client| client.certbind.audiences.push("https://api.test".to_owned()));
    assert_eq!(twice, [MetadataFault::ResourceRepeated("certbind.audiences")]);
    let client = Client::register(&tls_client_auth(), &[], &rules()).unwrap();
    assert_eq!(client.audiences[0].as_str(), "https://api.test");
    assert_eq!((client.method.name(), client.bound_tokens_only), (AuthMethod::TlsClientAuth, false));
}

#[test]
fn rfc7662_2_1_a_resource_server_names_what_it_serves_and_needs_no_audience_when_it_gets_no_token() {
    let serving = |audiences: &[&str], resource_server: &[&str], grant_types: Option<Vec<String>>| {
        let mut metadata = tls_client_auth();
        metadata.grant_types = grant_types;
        metadata.certbind.audiences = audiences.iter().map(|&text| text.to_owned()).collect();
        metadata.certbind.resource_server = resource_server.iter().map(|&text| text.to_owned()).collect();
        Client::register(&metadata, &[], &rules())
    };
    let (none, api) = (|| Some(Vec::new()), "https://api.test");
    let client = serving(&[], &[api], none()).unwrap();
    assert_eq!((client.resource_server[0].as_str(), client.audiences.len()), (api, 0));
    assert_eq!(serving(&[], &[api], None).unwrap_err(), [MetadataFault::AudienceMissing]);
    assert!(serving(&[api], &[], None).unwrap().resource_server.is_empty());
    let member = "certbind.resource_server";
    assert_eq!(serving(&[], &[api, api], none()).unwrap_err(), [MetadataFault::ResourceRepeated(member)]);
    let malformed = serving(&[], &["api"], none()).unwrap_err();
    assert!(matches!(malformed[..], [MetadataFault::ResourceMalformed(name, _)] if name == member), "{malformed:?}");
}

#[test]
fn rfc7591_3_2_1_what_is_shown_registers_the_same_client_again() {
    let leaf = certificate(|_| {});
    let mut legacy = private_key_jwt();
    legacy.token_endpoint_auth_signing_alg = Some("ES256".into());
    legacy.certbind.legacy_audience = true;
    legacy.certbind.token_lifetime = Some("1500ms".into());
    let mut published = any("private_key_jwt");
    published.jwks_uri = Some("https://client.example.com/jwks.json".into());
    published.tls_client_certificate_bound_access_tokens = Some(true);
    published.certbind.bound_certificate_must_chain = true;
    published.certbind.trust = Some("corp".into());
    let mut named = tls_client_auth();
    named.client_name = Some("Billing".into());
    named.scope = Some("b a".into());
    named.certbind.owner = Some("ops".into());
    named.certbind.labels = BTreeMap::from([("team".into(), "pay".into())]);
    named.certbind.state = State::Disabled;
    named.certbind.token_lifetime = Some("2m".into());
    let mut pinned = any("self_signed_tls_client_auth");
    pinned.certbind.ignore_certificate_validity = true;
    for (metadata, certificates) in
        [(named, vec![]), (tls_client_auth(), vec![]), (legacy, vec![]), (published, vec![]), (pinned, vec![leaf])]
    {
        let client = Client::register(&metadata, &certificates, &rules()).unwrap();
        let shown = client.metadata();
        assert_eq!(shown.certbind.certificates.len(), certificates.len());
        let again = Client::register(&shown, &certificates, &rules()).unwrap();
        assert_eq!(again.metadata(), shown);
        assert_eq!(shown.tls_client_auth_san_dns, metadata.tls_client_auth_san_dns);
        assert_eq!((shown.certbind.state, shown.client_name), (metadata.certbind.state, metadata.client_name));
    }
}
