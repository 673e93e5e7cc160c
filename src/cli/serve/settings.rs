//! The configuration, turned into what each part wants to know.

use std::time::Duration;

use certbind_https::{AddressPolicy, Authorities};
use certbind_proto::assertion::AudienceRule;
use certbind_proto::client::{AuthMethod, LegacyAudience, RegistrationRules};
use certbind_proto::jws::{Algorithm, Algorithms};
use rustls::sign::CertifiedKey;

use crate::admin::{Administrator, Role};
use crate::audit::Durability;
use crate::authn::AssertionSettings;
use crate::cli::proxies;
use crate::config::{self, Config, EncryptionKeys, Profile, RateLimit};
use crate::flow::{Limits, Rate};
use crate::http::{BodyLimits, TOKEN_PATH, document, metadata};
use crate::mint::seal::{SealFault, Sealing, SealingKey};
use crate::mint::{Source, lifecycle, ring};
use crate::net::{self, TlsVersion, tls};
use crate::{grant, jwks_uri, mint};

/// What the profile and the configuration permit to clients.
pub(in crate::cli) fn registration(config: &Config) -> RegistrationRules {
    RegistrationRules {
        algorithms: algorithms(config.profile),
        legacy_audience: match config.profile {
            Profile::Default => LegacyAudience::Permitted,
            Profile::Fapi2 => LegacyAudience::Forbidden,
        },
        trust_groups: config.trust.iter().map(|group| group.name.clone()).collect(),
    }
}

const fn algorithms(profile: Profile) -> Algorithms {
    match profile {
        Profile::Default => Algorithms::DEFAULT,
        Profile::Fapi2 => Algorithms::FAPI2,
    }
}

/// What assertions are held against.
pub(in crate::cli) fn assertions(config: &Config) -> AssertionSettings {
    let mtls = config.mtls.as_ref().map(|mtls| &mtls.public_url);
    let bases = mtls
        .into_iter()
        .chain(config.proxy.as_ref().map(|proxy| &proxy.public_url))
        .chain(config.public.as_ref().map(|public| &public.public_url));
    AssertionSettings {
        issuer: config.issuer.as_str().to_owned(),
        audience: match config.profile {
            Profile::Default => AudienceRule::StringOrSingleton,
            Profile::Fapi2 => AudienceRule::StringOnly,
        },
        legacy_audiences: bases.map(|base| format!("{}{TOKEN_PATH}", base.as_str())).collect(),
        algorithms: algorithms(config.profile),
        max_lifetime: config.assertions.max_lifetime,
        clock_skew: config.assertions.clock_skew,
    }
}

/// How clients' published keys are fetched, and who vouches for where they are.
pub(in crate::cli) fn published_keys(config: &Config, roots: Authorities) -> jwks_uri::Settings {
    let fetch = &config.assertions.jwks_fetch;
    jwks_uri::Settings {
        addresses: match fetch.networks {
            config::Networks::Any => AddressPolicy::AllowPrivate,
            config::Networks::PublicOnly => AddressPolicy::PublicOnly,
        },
        max_bytes: fetch.max_bytes,
        timeout: fetch.timeout,
        ..jwks_uri::Settings::new(roots)
    }
}

/// What there is to grant.
pub(super) fn grants(config: &Config) -> grant::Settings {
    let server = |resource: &config::ProtectedResource| grant::ResourceServer {
        identifier: resource.identifier.clone(),
        scope: resource.scope.clone(),
    };
    grant::Settings {
        resources: config.resources.iter().map(server).collect(),
        audience: match config.profile {
            Profile::Default => grant::AudienceShape::Several,
            Profile::Fapi2 => grant::AudienceShape::Single,
        },
    }
}

/// What every token has in common.
pub(super) fn tokens(config: &Config) -> mint::Settings {
    mint::Settings {
        issuer: config.issuer.as_str().to_owned(),
        lifetime: config.tokens.lifetime,
        binding: match config.tokens.bound {
            config::TokenBinding::Always => mint::BindingPolicy::Always,
            config::TokenBinding::WhenCertificate => mint::BindingPolicy::WhenCertificate,
            config::TokenBinding::Never => mint::BindingPolicy::Never,
        },
        certificate_expiry: match config.tokens.expiry_cap {
            config::ExpiryCap::AtCertificateExpiry => mint::ExpiryCap::AtCertificateExpiry,
            config::ExpiryCap::Uncapped => mint::ExpiryCap::None,
        },
    }
}

/// What tokens are signed with, and how the keys are kept.
///
/// # Errors
/// When the cryptographic library does not take an encryption key.
pub(super) fn signing_keys(
    config: &Config,
    encryption: Option<&EncryptionKeys>,
    source: Source,
) -> Result<ring::Settings, SealFault> {
    Ok(ring::Settings {
        algorithm: token_algorithm(config),
        calendar: calendar(config),
        source,
        sealing: match encryption {
            None => Sealing::Off,
            Some(EncryptionKeys { key, previous }) => Sealing::Under {
                key: SealingKey::new(key)?,
                previous: previous.as_ref().map(|key| SealingKey::new(key)).transpose()?,
            },
        },
    })
}

/// When signing keys change.
pub(super) const fn calendar(config: &Config) -> lifecycle::Settings {
    lifecycle::Settings {
        rotation: match config.keys.rotation {
            config::KeyRotation::Every(period) => lifecycle::Rotation::Every(period),
            config::KeyRotation::Off => lifecycle::Rotation::ByHand,
        },
        publish_before: config.keys.publish_before,
        token_lifetime: config.tokens.lifetime,
        clock_skew: config.assertions.clock_skew,
    }
}

/// How long a client may keep the JWKS: it has to come back before a key that it does not know signs.
pub(super) fn jwks_max_age(config: &Config) -> Duration {
    document::MAX_AGE.min(config.keys.publish_before / 2)
}

/// What tokens, and answers about them, are signed with.
const fn token_algorithm(config: &Config) -> Algorithm {
    match config.tokens.algorithm {
        config::TokenAlgorithm::Es256 => Algorithm::Es256,
        config::TokenAlgorithm::EdDsa => Algorithm::EdDsa,
        config::TokenAlgorithm::Ps256 => Algorithm::Ps256,
        config::TokenAlgorithm::Rs256 => Algorithm::Rs256,
    }
}

/// The metadata say what works: a method that needs a trust group is left out when there is none.
pub(super) fn metadata(config: &Config, own_algorithms: Algorithms) -> metadata::Settings {
    let works = |method: &AuthMethod| *method != AuthMethod::TlsClientAuth || !config.trust.is_empty();
    let mtls = config.certificate_url.as_str().to_owned();
    metadata::Settings {
        issuer: config.issuer.as_str().to_owned(),
        base_url: config.public.as_ref().map_or_else(|| mtls.clone(), |public| public.public_url.as_str().to_owned()),
        mtls_base_url: config.public.as_ref().map(|_| mtls),
        algorithms: algorithms(config.profile),
        bound_tokens: config.tokens.bound != config::TokenBinding::Never,
        own_algorithms,
        methods: AuthMethod::ALL.into_iter().filter(works).collect(),
    }
}

/// How often somebody may fail or ask.
pub(super) fn limits(config: &Config) -> Limits {
    Limits::new(rate(config.limits.failed_auth_per_address), rate(config.limits.token_requests_per_client))
}

const fn rate(limit: RateLimit) -> Option<Rate> {
    match limit {
        RateLimit::AtMost { count, per } => Some(Rate { count, per }),
        RateLimit::Off => None,
    }
}

/// Whether a token waits for its audit line.
pub(in crate::cli) const fn durability(config: &Config) -> Durability {
    match config.log.audit_line {
        config::AuditLine::Required => Durability::Required,
        config::AuditLine::BestEffort => Durability::BestEffort,
    }
}

/// Bounds on a request body.
pub(super) const fn bodies(config: &Config) -> BodyLimits {
    BodyLimits { max_bytes: config.limits.max_body_bytes, deadline: config.limits.body_timeout }
}

/// Bounds on a connection.
pub(super) fn connections(config: &Config) -> net::Limits {
    net::Limits {
        handshake: config.limits.handshake_timeout,
        header: config.limits.header_timeout,
        idle: config.limits.idle_timeout,
        drain: config.limits.drain_timeout,
        ..net::Limits::default()
    }
}

/// TLS of the listener that asks for certificates.
pub(super) const fn mtls(config: &Config, listener: &config::MtlsListener, certificate: CertifiedKey) -> tls::Settings {
    tls::Settings {
        certificate,
        client_certificate: match listener.client_certificate {
            config::ClientCertificate::Optional => tls::ClientCertificate::Optional,
            config::ClientCertificate::Required => tls::ClientCertificate::Required,
        },
        min_version: min_version(config.min_tls),
        resumption: match listener.resumption {
            config::Resumption::On => tls::Resumption::StatelessTicket,
            config::Resumption::Off => tls::Resumption::Off,
        },
        suites: suites(config.profile),
    }
}

/// TLS of the listener that never asks.
pub(super) const fn public(
    config: &Config,
    listener: &config::PublicListener,
    certificate: CertifiedKey,
) -> tls::Settings {
    tls::Settings {
        certificate,
        client_certificate: tls::ClientCertificate::NotAsked,
        min_version: min_version(listener.min_tls),
        resumption: tls::Resumption::Off,
        suites: suites(config.profile),
    }
}

/// TLS of the admin API and with proxies.
pub(super) const fn mutual(config: &Config, certificate: CertifiedKey) -> tls::Settings {
    proxies::mutual(certificate, min_version(config.min_tls), suites(config.profile))
}

/// Who may use the admin API over TLS.
pub(super) fn administrators(config: &Config) -> Vec<Administrator> {
    let Some(config::AdminListener::Tls(admin)) = &config.admin else { return Vec::new() };
    let allowed = |administrator: &config::Administrator| Administrator {
        subject: administrator.subject.clone(),
        role: match administrator.role {
            config::AdminRole::Viewer => Role::Viewer,
            config::AdminRole::Operator => Role::Operator,
            config::AdminRole::Admin => Role::Admin,
        },
    };
    admin.allow.iter().map(allowed).collect()
}

const fn min_version(min_tls: config::MinTls) -> TlsVersion {
    match min_tls {
        config::MinTls::Tls12 => TlsVersion::Tls12,
        config::MinTls::Tls13 => TlsVersion::Tls13,
    }
}

const fn suites(profile: Profile) -> tls::Suites {
    match profile {
        Profile::Default => tls::Suites::Default,
        Profile::Fapi2 => tls::Suites::Fapi,
    }
}
