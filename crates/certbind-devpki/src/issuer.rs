//! Certificate authorities: they sign certificates of others, and lists of those that they take back.

use std::fmt;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, GeneralSubtree, IsCa, KeyPair,
    KeyUsagePurpose, NameConstraints, SigningKey,
};
use rustls_pki_types::CertificateDer;

use crate::leaf::{Extension, Identity, KeyAlgorithm, LeafSpec, Version};
use crate::{PkiError, Validity, der, name, offset};

/// What shall be in the certificate of an authority.
#[derive(Clone, Debug)]
pub struct CaSpec {
    /// The only attribute of its subject.
    pub common_name: String,
    /// Names of hosts that it must not vouch for (RFC 5280 §4.2.1.10).
    pub excluded_dns: Vec<String>,
    /// Further extensions, written last.
    pub extensions: Vec<Extension>,
    /// The kind of its key.
    pub key: KeyAlgorithm,
    /// What its key may be used for.
    pub key_usage: Vec<KeyUsagePurpose>,
    /// How many further authorities may stand below it (RFC 5280 §4.2.1.9).
    pub path_len: Option<u8>,
    /// The only names of hosts that it may vouch for; empty: any.
    pub permitted_dns: Vec<String>,
    /// From when until when.
    pub validity: Validity,
}

impl CaSpec {
    /// A P-256 authority that may sign certificates and CRLs, without further bounds.
    #[must_use]
    pub fn new(common_name: &str, validity: Validity) -> Self {
        Self {
            common_name: common_name.to_owned(),
            excluded_dns: Vec::new(),
            extensions: Vec::new(),
            key: KeyAlgorithm::P256,
            key_usage: vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign],
            path_len: None,
            permitted_dns: Vec::new(),
            validity,
        }
    }

    fn params(&self) -> Result<CertificateParams, PkiError> {
        let mut params = CertificateParams::default();
        params.not_before = offset(self.validity.not_before)?;
        params.not_after = offset(self.validity.not_after)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, self.common_name.as_str());
        params.is_ca = IsCa::Ca(self.path_len.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained));
        params.key_usages.clone_from(&self.key_usage);
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: self.permitted_dns.iter().cloned().map(GeneralSubtree::DnsName).collect(),
            excluded_subtrees: self.excluded_dns.iter().cloned().map(GeneralSubtree::DnsName).collect(),
        });
        params.custom_extensions = self.extensions.iter().map(Extension::encode).collect();
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }
}

/// A certificate authority with its private key.
pub struct Issuer {
    certified: CertifiedIssuer<'static, KeyPair>,
    /// Its own certificate and those above it, without the root: what a certificate signed by it is sent with.
    path: Vec<CertificateDer<'static>>,
}

impl Issuer {
    /// A root with nothing special about it.
    pub fn root(common_name: &str, validity: Validity) -> Result<Self, PkiError> {
        Self::new_ca(&CaSpec::new(common_name, validity))
    }

    /// A root as specified.
    pub fn new_ca(spec: &CaSpec) -> Result<Self, PkiError> {
        let certified = CertifiedIssuer::self_signed(spec.params()?, spec.key.generate()?)?;
        Ok(Self { certified, path: Vec::new() })
    }

    /// An authority below this one.
    pub fn intermediate(&self, spec: &CaSpec) -> Result<Self, PkiError> {
        let certified = CertifiedIssuer::signed_by(spec.params()?, spec.key.generate()?, &self.certified)?;
        let path = std::iter::once(certified.der()).chain(&self.path).cloned().collect();
        Ok(Self { certified, path })
    }

    /// A certificate signed by this authority, with its private key.
    pub fn leaf(&self, spec: &LeafSpec) -> Result<Identity, PkiError> {
        let pair = spec.key.pair()?;
        let certificate = spec.params()?.signed_by(&pair, &self.certified)?;
        let (certificate, serial) = finish(certificate.der(), spec, None, self.certified.key())?;
        let chain = std::iter::once(certificate).chain(self.path.iter().cloned()).collect();
        Ok(Identity::new(chain, pair.serialize_der(), serial))
    }

    /// The certificate of the authority.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        self.certified.der()
    }

    /// The same as PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        crate::write::pem("CERTIFICATE", self.certificate())
    }

    /// The private key as PKCS#8 PEM.
    #[must_use]
    pub fn key_pem(&self) -> String {
        crate::write::pem("PRIVATE KEY", self.certified.key().serialized_der())
    }

    pub(crate) const fn certified(&self) -> &CertifiedIssuer<'static, KeyPair> {
        &self.certified
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("certificate", self.certificate()).field("key", &"[redacted]").finish()
    }
}

impl Identity {
    /// A certificate that vouches for itself, as clients of `self_signed_tls_client_auth` have (RFC 8705 §2.2).
    pub fn self_signed(spec: &LeafSpec) -> Result<Self, PkiError> {
        let pair = spec.key.pair()?;
        let certificate = spec.params()?.self_signed(&pair)?;
        let subject = name::encode(&spec.subject);
        let (certificate, serial) = finish(certificate.der(), spec, Some(subject), &pair)?;
        Ok(Self::new(vec![certificate], pair.serialize_der(), serial))
    }
}

/// Puts the specified subject (and issuer) and version into what rcgen wrote, and signs again: rcgen knows neither an RDN of several
/// attributes, nor two attributes of one type, nor version 1. Also gives the serial number.
fn finish(
    generated: &[u8],
    spec: &LeafSpec,
    issuer: Option<Vec<u8>>,
    signing_key: &KeyPair,
) -> Result<(CertificateDer<'static>, Vec<u8>), PkiError> {
    let [tbs, algorithm, _signature] = der::inside(generated)?[..] else { return Err(PkiError::Der) };
    let [version, serial, inner_algorithm, old_issuer, validity, _subject, public_key, extensions @ ..] =
        &der::inside(tbs)?[..]
    else {
        return Err(PkiError::Der);
    };
    let (issuer, subject) = (issuer.as_deref().unwrap_or(old_issuer), name::encode(&spec.subject));
    let mut fields = vec![*serial, inner_algorithm, issuer, validity, &subject, public_key];
    if spec.version == Version::V3 {
        fields.insert(0, version);
        fields.extend(extensions);
    }
    let tbs = der::sequence(&fields);
    let signature = [&[0][..], &signing_key.sign(&tbs)?].concat();
    let certificate = der::sequence(&[&tbs, algorithm, &der::tlv(0x03, &signature)]);
    Ok((certificate.into(), der::content(serial)?.to_vec()))
}
