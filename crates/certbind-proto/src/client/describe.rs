//! A checked [`Client`] back to metadata that would register it (RFC 7591 §3.2.1), for people who look at it.

use std::time::Duration;

use super::{CertbindMetadata, Client, ClientMetadata, KeySource, Method, ValidityRule};
use crate::jws::Algorithm;
use crate::subject::{Subject, SubjectKind};

impl Client {
    /// What is in force, in the words of a registration. Certificates stand in it as PEM.
    #[must_use]
    pub fn metadata(&self) -> ClientMetadata {
        let mut metadata = ClientMetadata {
            client_id: self.client_id.clone(),
            client_name: self.client_name.clone(),
            token_endpoint_auth_method: Some(self.method.name().as_str().to_owned()),
            grant_types: Some(self.grant_types.clone()),
            scope: (!self.scope.is_empty()).then(|| self.scope.to_string()),
            tls_client_certificate_bound_access_tokens: Some(self.bound_tokens_only),
            certbind: CertbindMetadata {
                trust: self.bound_certificate_trust.clone(),
                audiences: self.audiences.iter().map(ToString::to_string).collect(),
                resource_server: self.resource_server.iter().map(ToString::to_string).collect(),
                token_lifetime: self.token_lifetime.map(duration),
                owner: self.owner.clone(),
                labels: self.labels.clone(),
                bound_certificate_must_chain: self.bound_certificate_trust.is_some(),
                state: self.state,
                ..CertbindMetadata::default()
            },
            ..ClientMetadata::default()
        };
        match &self.method {
            Method::PrivateKeyJwt { keys, algorithm, legacy_audience } => {
                metadata.token_endpoint_auth_signing_alg = algorithm.map(Algorithm::as_str).map(str::to_owned);
                metadata.certbind.legacy_audience = *legacy_audience;
                match keys {
                    KeySource::Inline(set) => metadata.jwks = Some(set.to_json()),
                    KeySource::Uri(uri) => metadata.jwks_uri = Some(uri.clone()),
                }
            }
            Method::SelfSignedTlsClientAuth { certificates, jwks_uri, validity } => {
                metadata.certbind.certificates = certificates.iter().map(crate::cert::Certificate::to_pem).collect();
                metadata.certbind.ignore_certificate_validity = *validity == ValidityRule::Ignored;
                metadata.jwks_uri.clone_from(jwks_uri);
            }
            Method::TlsClientAuth { subject, trust } => {
                *name_of(&mut metadata, subject) = Some(subject.as_str().to_owned());
                metadata.certbind.trust = Some(trust.clone());
            }
        }
        metadata
    }
}

/// The one of the five names (RFC 8705 §2.1.2) where this one stands.
const fn name_of<'a>(metadata: &'a mut ClientMetadata, subject: &Subject) -> &'a mut Option<String> {
    match subject.kind() {
        SubjectKind::Dn => &mut metadata.tls_client_auth_subject_dn,
        SubjectKind::SanDns => &mut metadata.tls_client_auth_san_dns,
        SubjectKind::SanEmail => &mut metadata.tls_client_auth_san_email,
        SubjectKind::SanIp => &mut metadata.tls_client_auth_san_ip,
        SubjectKind::SanUri => &mut metadata.tls_client_auth_san_uri,
    }
}

fn duration(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{}s", duration.as_secs()),
        _ => format!("{}ms", duration.as_millis()),
    }
}
