//! Client metadata as registered (RFC 7591 §2, RFC 8705 §2.1.2), and the [`Client`] that is made from it.
//!
//! [`ClientMetadata`] is what somebody typed; [`Client`] is what was checked. The only way from one to the other is
//! [`Client::register`], which says everything that is wrong at once.

mod describe;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cert::Certificate;
use crate::jwk::{JwkFault, JwkSet};
use crate::jws::{Algorithm, Algorithms};
use crate::request::CLIENT_CREDENTIALS;
use crate::resource::{Resource, ResourceFault};
use crate::scope::{Scope, ScopeFault};
use crate::subject::{Subject, SubjectFault, SubjectKind};
use crate::time::parse_duration;

/// The longest client identifier, in bytes.
pub const MAX_CLIENT_ID: usize = 256;

/// A client authentication method, by its registered name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AuthMethod {
    /// A signed assertion (RFC 7523 §2.2, OpenID Connect Core §9).
    PrivateKeyJwt,
    /// The certificate itself is registered (RFC 8705 §2.2).
    SelfSignedTlsClientAuth,
    /// A CA vouches for a registered name (RFC 8705 §2.1).
    TlsClientAuth,
}

impl AuthMethod {
    /// Every method there is; metadata is derived from it.
    pub const ALL: [Self; 3] = [Self::PrivateKeyJwt, Self::SelfSignedTlsClientAuth, Self::TlsClientAuth];

    /// The registered name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PrivateKeyJwt => "private_key_jwt",
            Self::SelfSignedTlsClientAuth => "self_signed_tls_client_auth",
            Self::TlsClientAuth => "tls_client_auth",
        }
    }

    /// The method with this registered name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == name)
    }
}

impl fmt::Display for AuthMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A registration as typed. The names are those of RFC 7591 §2 and RFC 8705; what is ours stands in `certbind`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientMetadata {
    /// The identifier that the client sends.
    pub client_id: String,
    /// A name for people.
    pub client_name: Option<String>,
    /// How the client proves itself. There is no default here (RFC 7591's would be a shared secret).
    pub token_endpoint_auth_method: Option<String>,
    /// The one algorithm of its assertions.
    pub token_endpoint_auth_signing_alg: Option<String>,
    /// The grants it may use; `client_credentials` when left out.
    pub grant_types: Option<Vec<String>>,
    /// Names of the certificate; exactly one for `tls_client_auth` (RFC 8705 §2.1.2).
    pub tls_client_auth_subject_dn: Option<String>,
    /// A `dNSName`.
    pub tls_client_auth_san_dns: Option<String>,
    /// A `uniformResourceIdentifier`.
    pub tls_client_auth_san_uri: Option<String>,
    /// An `iPAddress`, as text.
    pub tls_client_auth_san_ip: Option<String>,
    /// An `rfc822Name`.
    pub tls_client_auth_san_email: Option<String>,
    /// Its public keys, inline.
    pub jwks: Option<Value>,
    /// Where it publishes its public keys.
    pub jwks_uri: Option<String>,
    /// The scope it may ask for; also what it gets when it asks for none.
    pub scope: Option<String>,
    /// Whether its tokens must be bound to a certificate (RFC 8705 §3.4).
    pub tls_client_certificate_bound_access_tokens: Option<bool>,
    /// What is ours and not the RFCs'.
    pub certbind: CertbindMetadata,
}

/// The part of a registration that no RFC names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CertbindMetadata {
    /// The trust group whose anchors vouch for a `tls_client_auth` client.
    pub trust: Option<String>,
    /// The resources it may ask for; the first is the default audience (RFC 9068 §3).
    pub audiences: Vec<String>,
    /// The resources it serves: it may ask whether tokens for them are good (RFC 7662 §2.1).
    pub resource_server: Vec<String>,
    /// A life for its tokens that is shorter than the server's: `2m`.
    pub token_lifetime: Option<String>,
    /// Files with its certificates, for `self_signed_tls_client_auth`: `file:client.pem`.
    pub certificates: Vec<String>,
    /// Whom to call.
    pub owner: Option<String>,
    /// For the operator's own order.
    pub labels: BTreeMap<String, String>,
    /// Takes the token endpoint's URL as audience of an assertion while the client migrates (RFC 10070 forbids it).
    pub legacy_audience: bool,
    /// Takes an expired or not yet valid certificate of `self_signed_tls_client_auth`.
    pub ignore_certificate_validity: bool,
    /// Demands that the certificate a token is bound to chains to `trust`, whatever method authenticates the client.
    pub bound_certificate_must_chain: bool,
    /// `active` or `disabled`.
    pub state: State,
}

/// Whether a client may get tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It may.
    #[default]
    Active,
    /// It may not, and is told no more than an unknown client is.
    Disabled,
}

/// A checked registration.
#[derive(Clone, Debug)]
pub struct Client {
    /// The identifier that the client sends.
    pub client_id: String,
    /// A name for people.
    pub client_name: Option<String>,
    /// How it proves itself, with all that the proof is held against.
    pub method: Method,
    /// The scope it may ask for.
    pub scope: Scope,
    /// The resources it may ask for; the first is the default. Empty only when it may use no grant.
    pub audiences: Vec<Resource>,
    /// The resources it serves, so that it may ask whether tokens for them are good (RFC 7662 §2.1).
    pub resource_server: Vec<Resource>,
    /// The grants it may use, by registered name. Empty: it may get no token.
    pub grant_types: Vec<String>,
    /// Whether it may never get an unbound token, whatever the server's policy (RFC 8705 §3.4).
    pub bound_tokens_only: bool,
    /// The certificate of a bound token must chain to this trust group, whatever method authenticated the client.
    pub bound_certificate_trust: Option<String>,
    /// The longest life of its tokens, when it is shorter than the server's.
    pub token_lifetime: Option<Duration>,
    /// Whom to call.
    pub owner: Option<String>,
    /// For the operator's own order.
    pub labels: BTreeMap<String, String>,
    /// Whether it may get tokens.
    pub state: State,
}

/// A client authentication method with what it is checked against.
#[derive(Clone, Debug)]
pub enum Method {
    /// A signed assertion.
    PrivateKeyJwt {
        /// The keys it signs with.
        keys: KeySource,
        /// The one algorithm, when the registration names it.
        algorithm: Option<Algorithm>,
        /// Whether the token endpoint's URL is taken as audience.
        legacy_audience: bool,
    },
    /// The certificate itself is registered.
    SelfSignedTlsClientAuth {
        /// Certificates registered with the client, several at a time.
        certificates: Vec<Certificate>,
        /// Where more of them are published.
        jwks_uri: Option<String>,
        /// Whether the certificate's own dates count.
        validity: ValidityRule,
    },
    /// A CA vouches for a registered name.
    TlsClientAuth {
        /// The one name.
        subject: Subject,
        /// The trust group whose anchors vouch.
        trust: String,
    },
}

/// Whether the dates in a registered certificate count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValidityRule {
    /// Outside its dates the certificate is refused.
    Enforced,
    /// The registration alone says how long the certificate is good.
    Ignored,
}

/// Where a client's public keys are.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// In the registration.
    Inline(JwkSet),
    /// At a URL that the registration names.
    Uri(String),
}

impl Method {
    /// The method's name.
    #[must_use]
    pub const fn name(&self) -> AuthMethod {
        match self {
            Self::PrivateKeyJwt { .. } => AuthMethod::PrivateKeyJwt,
            Self::SelfSignedTlsClientAuth { .. } => AuthMethod::SelfSignedTlsClientAuth,
            Self::TlsClientAuth { .. } => AuthMethod::TlsClientAuth,
        }
    }
}

/// What the server that registers a client supports.
#[derive(Clone, Debug)]
pub struct RegistrationRules {
    /// The algorithms of client assertions.
    pub algorithms: Algorithms,
    /// Whether `legacy_audience` may be set at all (never in FAPI 2.0, §5.3.2.1).
    pub legacy_audience: LegacyAudience,
    /// The names of the trust groups that there are.
    pub trust_groups: Vec<String>,
}

/// Whether a registration may ask for the audience rule of before RFC 10070.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegacyAudience {
    /// It may, while its client migrates.
    Permitted,
    /// It may not.
    Forbidden,
}

/// One thing that is wrong with a registration: `invalid_client_metadata` (RFC 7591 §3.2.2).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataFault {
    /// The algorithm is unknown or not permitted by the profile.
    #[error("token_endpoint_auth_signing_alg: not one of the algorithms that this server permits")]
    Algorithm,
    /// No audience: a token without one is never issued.
    #[error("certbind.audiences: name at least one resource, the first is the default audience (RFC 9068 §3)")]
    AudienceMissing,
    /// A resource is not named by a resource indicator.
    #[error("{0}: {1}")]
    ResourceMalformed(&'static str, ResourceFault),
    /// The same resource twice.
    #[error("{0}: a resource is named twice (RFC 9068 §5)")]
    ResourceRepeated(&'static str),
    /// A registered certificate has a form that cannot be proved in TLS.
    #[error(
        "certificate: X.509 version {0} cannot be used in TLS here; make a version 3 certificate (RFC 5280 §4.1.2.1)"
    )]
    CertificateVersion(u8),
    /// A registered certificate cannot be read.
    #[error("certificate: not one well-formed DER certificate (RFC 5280 §4.1)")]
    CertificateMalformed,
    /// `self_signed_tls_client_auth` without any certificate, or a key without one.
    #[error(
        "self_signed_tls_client_auth: each key needs its certificate in x5c, or list them in certbind.certificates (RFC 8705 §2.2.2)"
    )]
    CertificateMissing,
    /// The identifier is empty, too long or has characters outside `%x20-7E`.
    #[error("client_id: 1 to 256 characters of printable ASCII (RFC 6749 Appendix A.1)")]
    ClientId,
    /// A grant that this server does not have.
    #[error("grant_types: only client_credentials is supported")]
    GrantType,
    /// A registered key cannot be used.
    #[error("jwks: {0}")]
    Key(JwkFault),
    /// No registered key can sign with an algorithm that is permitted for this client.
    #[error("jwks: no key fits token_endpoint_auth_signing_alg and the algorithms of the profile")]
    KeyNeverUsable,
    /// Neither `jwks` nor `jwks_uri`.
    #[error("private_key_jwt: give the public keys in jwks or jwks_uri")]
    KeyMissing,
    /// Both `jwks` and `jwks_uri`.
    #[error("jwks and jwks_uri: one of them, not both (RFC 7591 §2)")]
    KeySourceTwice,
    /// `jwks_uri` is not an `https` URL.
    #[error("jwks_uri: an https URL without fragment and user (RFC 7591 §2)")]
    JwksUri,
    /// `legacy_audience` in a profile that forbids it, or for another method.
    #[error("certbind.legacy_audience: only for private_key_jwt, and never in fapi2 (RFC 10070 §4; FAPI 2.0 §5.3.2.1)")]
    LegacyAudience,
    /// Not a duration, or shorter than a second.
    #[error("certbind.token_lifetime: a duration of at least one second, as in 2m")]
    Lifetime,
    /// No method, or one that this server does not have.
    #[error("token_endpoint_auth_method: one of tls_client_auth, self_signed_tls_client_auth, private_key_jwt")]
    Method,
    /// A member that belongs to another method.
    #[error("{0}: does not go with this token_endpoint_auth_method")]
    NotOfThisMethod(&'static str),
    /// The scope is malformed.
    #[error("scope: {0}")]
    Scope(ScopeFault),
    /// A name is malformed.
    #[error("{0}: {1}")]
    Subject(&'static str, SubjectFault),
    /// None or several names of the certificate.
    #[error("tls_client_auth: exactly one tls_client_auth_* name, not {0} (RFC 8705 §2.1.2)")]
    SubjectCount(usize),
    /// No trust group, or one that there is not.
    #[error("certbind.trust: name a trust group of the configuration")]
    Trust,
}

impl Client {
    /// Checks a registration. `certificates` are the DER certificates that `certbind.certificates` names; a list that
    /// the caller has read, as this crate reads no files.
    ///
    /// # Errors
    /// Every [`MetadataFault`] that was found.
    pub fn register(
        metadata: &ClientMetadata,
        certificates: &[Vec<u8>],
        rules: &RegistrationRules,
    ) -> Result<Self, Vec<MetadataFault>> {
        let mut faults = Faults::default();
        if !is_client_id(&metadata.client_id) {
            faults.add(MetadataFault::ClientId);
        }
        let method = method(metadata, certificates, rules, &mut faults);
        let scope = faults.take(metadata.scope.as_deref().unwrap_or_default().parse().map_err(MetadataFault::Scope));
        let grant_types = metadata.grant_types.clone().unwrap_or_else(|| vec![CLIENT_CREDENTIALS.to_owned()]);
        let audiences = resources(AUDIENCES, &metadata.certbind.audiences, &mut faults);
        let resource_server = resources(RESOURCE_SERVER, &metadata.certbind.resource_server, &mut faults);
        if metadata.certbind.audiences.is_empty() && !grant_types.is_empty() {
            faults.add(MetadataFault::AudienceMissing);
        }
        if grant_types.iter().any(|grant| grant != CLIENT_CREDENTIALS) {
            faults.add(MetadataFault::GrantType);
        }
        let token_lifetime = metadata.certbind.token_lifetime.as_deref().and_then(|text| faults.take(lifetime(text)));
        let bound_certificate_trust = bound_certificate_trust(metadata, rules, &mut faults);

        let (Some(method), Some(scope), true) = (method, scope, faults.0.is_empty()) else { return Err(faults.0) };
        Ok(Self {
            client_id: metadata.client_id.clone(),
            client_name: metadata.client_name.clone(),
            method,
            scope,
            audiences,
            resource_server,
            grant_types,
            bound_tokens_only: metadata.tls_client_certificate_bound_access_tokens.unwrap_or(false),
            bound_certificate_trust,
            token_lifetime,
            owner: metadata.certbind.owner.clone(),
            labels: metadata.certbind.labels.clone(),
            state: metadata.certbind.state,
        })
    }
}

/// What was found wrong so far.
#[derive(Default)]
struct Faults(Vec<MetadataFault>);

impl Faults {
    fn add(&mut self, fault: MetadataFault) {
        if !self.0.contains(&fault) {
            self.0.push(fault);
        }
    }

    fn take<T>(&mut self, result: Result<T, MetadataFault>) -> Option<T> {
        result.map_err(|fault| self.add(fault)).ok()
    }
}

/// `*VSCHAR` (RFC 6749 Appendix A.1), at least one.
fn is_client_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_CLIENT_ID && text.bytes().all(|b| (0x20..=0x7e).contains(&b))
}

fn lifetime(text: &str) -> Result<Duration, MetadataFault> {
    let lifetime = parse_duration(text).map_err(|_| MetadataFault::Lifetime)?;
    if lifetime < Duration::from_secs(1) { Err(MetadataFault::Lifetime) } else { Ok(lifetime) }
}

const AUDIENCES: &str = "certbind.audiences";
const RESOURCE_SERVER: &str = "certbind.resource_server";

fn resources(member: &'static str, typed: &[String], faults: &mut Faults) -> Vec<Resource> {
    let mut resources = Vec::with_capacity(typed.len());
    for text in typed {
        let parsed = text.parse().map_err(|fault| MetadataFault::ResourceMalformed(member, fault));
        let Some(resource) = faults.take(parsed) else { continue };
        if resources.contains(&resource) {
            faults.add(MetadataFault::ResourceRepeated(member));
        }
        resources.push(resource);
    }
    resources
}

fn method(
    metadata: &ClientMetadata,
    certificates: &[Vec<u8>],
    rules: &RegistrationRules,
    faults: &mut Faults,
) -> Option<Method> {
    let name = metadata.token_endpoint_auth_method.as_deref().and_then(AuthMethod::parse);
    let Some(name) = name else {
        faults.add(MetadataFault::Method);
        return None;
    };
    refuse_foreign_members(name, metadata, certificates, faults);
    if metadata.jwks.is_some() && metadata.jwks_uri.is_some() {
        faults.add(MetadataFault::KeySourceTwice);
    }
    let jwks_uri = metadata.jwks_uri.as_ref().and_then(|uri| faults.take(check_jwks_uri(uri)));
    let jwks = metadata.jwks.as_ref().and_then(|jwks| {
        let set = jwks.as_object().ok_or(JwkFault::NotASet).and_then(JwkSet::from_registered);
        faults.take(set.map_err(MetadataFault::Key))
    });
    match name {
        AuthMethod::PrivateKeyJwt => private_key_jwt(metadata, jwks, jwks_uri, rules, faults),
        AuthMethod::SelfSignedTlsClientAuth => self_signed(metadata, certificates, jwks, jwks_uri, faults),
        AuthMethod::TlsClientAuth => tls_client_auth(metadata, rules, faults),
    }
}

/// Members of another method are refused, not ignored: whoever wrote them expects them to count.
fn refuse_foreign_members(name: AuthMethod, metadata: &ClientMetadata, certificates: &[Vec<u8>], faults: &mut Faults) {
    let is = |method| name == method;
    if !is(AuthMethod::TlsClientAuth) {
        for (member, _, value) in names_of(metadata) {
            if value.is_some() {
                faults.add(MetadataFault::NotOfThisMethod(member));
            }
        }
    } else {
        for (member, is_there) in [("jwks", metadata.jwks.is_some()), ("jwks_uri", metadata.jwks_uri.is_some())] {
            if is_there {
                faults.add(MetadataFault::NotOfThisMethod(member));
            }
        }
    }
    if !is(AuthMethod::SelfSignedTlsClientAuth) && !certificates.is_empty() {
        faults.add(MetadataFault::NotOfThisMethod("certbind.certificates"));
    }
    if !is(AuthMethod::SelfSignedTlsClientAuth) && metadata.certbind.ignore_certificate_validity {
        faults.add(MetadataFault::NotOfThisMethod("certbind.ignore_certificate_validity"));
    }
    let needs_trust = is(AuthMethod::TlsClientAuth) || metadata.certbind.bound_certificate_must_chain;
    if !needs_trust && metadata.certbind.trust.is_some() {
        faults.add(MetadataFault::NotOfThisMethod("certbind.trust"));
    }
    if !is(AuthMethod::PrivateKeyJwt) && metadata.token_endpoint_auth_signing_alg.is_some() {
        faults.add(MetadataFault::NotOfThisMethod("token_endpoint_auth_signing_alg"));
    }
    if !is(AuthMethod::PrivateKeyJwt) && metadata.certbind.legacy_audience {
        faults.add(MetadataFault::LegacyAudience);
    }
}

/// The five names of RFC 8705 §2.1.2 as typed.
fn names_of(metadata: &ClientMetadata) -> [(&'static str, SubjectKind, &Option<String>); 5] {
    [
        ("tls_client_auth_subject_dn", SubjectKind::Dn, &metadata.tls_client_auth_subject_dn),
        ("tls_client_auth_san_dns", SubjectKind::SanDns, &metadata.tls_client_auth_san_dns),
        ("tls_client_auth_san_uri", SubjectKind::SanUri, &metadata.tls_client_auth_san_uri),
        ("tls_client_auth_san_ip", SubjectKind::SanIp, &metadata.tls_client_auth_san_ip),
        ("tls_client_auth_san_email", SubjectKind::SanEmail, &metadata.tls_client_auth_san_email),
    ]
}

fn private_key_jwt(
    metadata: &ClientMetadata,
    jwks: Option<JwkSet>,
    jwks_uri: Option<String>,
    rules: &RegistrationRules,
    faults: &mut Faults,
) -> Option<Method> {
    let algorithm = metadata.token_endpoint_auth_signing_alg.as_deref().and_then(|name| {
        let algorithm = Algorithm::parse(name).filter(|&algorithm| rules.algorithms.contains(algorithm));
        faults.take(algorithm.ok_or(MetadataFault::Algorithm))
    });
    if metadata.certbind.legacy_audience && rules.legacy_audience == LegacyAudience::Forbidden {
        faults.add(MetadataFault::LegacyAudience);
    }
    if metadata.jwks.is_none() && metadata.jwks_uri.is_none() {
        faults.add(MetadataFault::KeyMissing);
    }
    let named = metadata.token_endpoint_auth_signing_alg.as_deref().and_then(Algorithm::parse);
    let permitted = named.map_or(rules.algorithms, |algorithm| Algorithms::of(&[algorithm]));
    let fits = |set: &JwkSet| set.iter().any(|key| !key.algorithms().intersection(permitted).is_empty());
    if jwks.as_ref().is_some_and(|set| !fits(set)) {
        faults.add(MetadataFault::KeyNeverUsable);
    }
    let keys = jwks.map(KeySource::Inline).or(jwks_uri.map(KeySource::Uri))?;
    Some(Method::PrivateKeyJwt { keys, algorithm, legacy_audience: metadata.certbind.legacy_audience })
}

fn self_signed(
    metadata: &ClientMetadata,
    certificates: &[Vec<u8>],
    jwks: Option<JwkSet>,
    jwks_uri: Option<String>,
    faults: &mut Faults,
) -> Option<Method> {
    let mut ders: Vec<&[u8]> = certificates.iter().map(Vec::as_slice).collect();
    for key in jwks.iter().flat_map(JwkSet::iter) {
        match key.certificate() {
            Some(der) => ders.push(der),
            None => faults.add(MetadataFault::CertificateMissing),
        }
    }
    if ders.is_empty() && metadata.jwks.is_none() && metadata.jwks_uri.is_none() {
        faults.add(MetadataFault::CertificateMissing);
    }
    let certificates = ders.into_iter().filter_map(|der| faults.take(registered_certificate(der))).collect();
    let validity = match metadata.certbind.ignore_certificate_validity {
        true => ValidityRule::Ignored,
        false => ValidityRule::Enforced,
    };
    Some(Method::SelfSignedTlsClientAuth { certificates, jwks_uri, validity })
}

fn registered_certificate(der: &[u8]) -> Result<Certificate, MetadataFault> {
    let certificate = Certificate::parse(der).map_err(|_| MetadataFault::CertificateMalformed)?;
    match certificate.version() {
        3 => Ok(certificate),
        version => Err(MetadataFault::CertificateVersion(version)),
    }
}

fn tls_client_auth(metadata: &ClientMetadata, rules: &RegistrationRules, faults: &mut Faults) -> Option<Method> {
    let mut subjects = Vec::new();
    for (member, kind, value) in names_of(metadata) {
        let Some(value) = value else { continue };
        subjects.push(faults.take(Subject::parse(kind, value).map_err(|fault| MetadataFault::Subject(member, fault))));
    }
    if subjects.len() != 1 {
        faults.add(MetadataFault::SubjectCount(subjects.len()));
    }
    let trust = faults.take(trust_group(metadata, rules))?;
    let subject = subjects.into_iter().next()??;
    Some(Method::TlsClientAuth { subject, trust })
}

fn trust_group(metadata: &ClientMetadata, rules: &RegistrationRules) -> Result<String, MetadataFault> {
    let known = metadata.certbind.trust.as_ref().filter(|name| rules.trust_groups.contains(name));
    known.cloned().ok_or(MetadataFault::Trust)
}

fn bound_certificate_trust(
    metadata: &ClientMetadata,
    rules: &RegistrationRules,
    faults: &mut Faults,
) -> Option<String> {
    if !metadata.certbind.bound_certificate_must_chain {
        return None;
    }
    faults.take(trust_group(metadata, rules))
}

fn check_jwks_uri(uri: &str) -> Result<String, MetadataFault> {
    let resource: Resource = uri.parse().map_err(|_| MetadataFault::JwksUri)?;
    let authority = resource.as_str().strip_prefix("https://").and_then(|rest| rest.split(['/', '?']).next());
    match authority {
        Some(authority) if !authority.is_empty() && !authority.contains('@') => Ok(uri.to_owned()),
        _ => Err(MetadataFault::JwksUri),
    }
}
