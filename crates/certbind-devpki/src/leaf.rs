//! End-entity certificates: what shall be in one, and what comes out with its key.

use std::fmt;
use std::net::IpAddr;

use rcgen::{BasicConstraints, CertificateParams, CustomExtension, IsCa, KeyPair, SanType, SerialNumber};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::{PkiError, Rdn, Validity, offset, rdn};

pub use rcgen::{ExtendedKeyUsagePurpose as Eku, KeyUsagePurpose as KeyUsage};

/// What shall be in a certificate. Start from [`LeafSpec::client`] or [`LeafSpec::server`] and change what the case is about.
#[derive(Clone, Debug)]
pub struct LeafSpec {
    /// Basic constraints (RFC 5280 §4.2.1.9).
    pub basic: Basic,
    /// Extended key usage (RFC 5280 §4.2.1.12); empty: no such extension.
    pub eku: Vec<Eku>,
    /// Further extensions, written last.
    pub extensions: Vec<Extension>,
    /// Whose key.
    pub key: KeySource,
    /// Key usage (RFC 5280 §4.2.1.3); empty: no such extension.
    pub key_usage: Vec<KeyUsage>,
    /// Subject alternative names (RFC 5280 §4.2.1.6); empty: no such extension.
    pub sans: Vec<San>,
    /// Big-endian serial number; without one it is derived from the public key.
    pub serial: Option<Vec<u8>>,
    /// The subject, its first RDN first as in DER (RFC 4514 prints the last one first).
    pub subject: Vec<Rdn>,
    /// From when until when.
    pub validity: Validity,
    /// Version 1 has no extensions whatever the rest says.
    pub version: Version,
}

/// Basic constraints (RFC 5280 §4.2.1.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basic {
    /// No such extension.
    Absent,
    /// `CA:TRUE`, as `openssl req -x509` writes it by default.
    Ca,
    /// `CA:FALSE`.
    EndEntity,
}

/// One extension, written as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// The object identifier.
    pub oid: Vec<u64>,
    /// Whether who does not know it must refuse (RFC 5280 §4.2).
    pub critical: bool,
    /// The DER inside the OCTET STRING.
    pub der: Vec<u8>,
}

/// Which key pair a certificate is for.
#[derive(Clone)]
pub enum KeySource {
    /// A new one.
    Generate(KeyAlgorithm),
    /// This one, as PKCS#8 DER.
    Pkcs8(Vec<u8>),
}

/// Which kind of key to generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAlgorithm {
    /// Edwards curve 25519.
    Ed25519,
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
    /// RSA of 2048 bits.
    Rsa2048,
}

/// A subject alternative name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum San {
    /// `dNSName`
    Dns(String),
    /// `rfc822Name`
    Email(String),
    /// `iPAddress`
    Ip(IpAddr),
    /// `otherName` with a UTF-8 string inside, as smart cards have it
    Other(Vec<u64>, String),
    /// `uniformResourceIdentifier`
    Uri(String),
}

/// The version of X.509.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// No extensions.
    V1,
    /// What everybody issues.
    V3,
}

impl LeafSpec {
    /// A client certificate: `CN=name` under `O=certbind dev`, P-256, digitalSignature, clientAuth, no alternative names.
    #[must_use]
    pub fn client(name: &str, validity: Validity) -> Self {
        Self {
            basic: Basic::EndEntity,
            eku: vec![Eku::ClientAuth],
            extensions: Vec::new(),
            key: KeySource::Generate(KeyAlgorithm::P256),
            key_usage: vec![KeyUsage::DigitalSignature],
            sans: Vec::new(),
            serial: None,
            subject: vec![rdn("O", "certbind dev"), rdn("CN", name)],
            validity,
            version: Version::V3,
        }
    }

    /// A server certificate for `localhost`, `127.0.0.1` and `::1`: P-256, digitalSignature, serverAuth.
    #[must_use]
    pub fn server(validity: Validity) -> Self {
        let server = Self { eku: vec![Eku::ServerAuth], ..Self::client("localhost", validity) };
        server.dns("localhost").ip([127, 0, 0, 1].into()).ip(std::net::Ipv6Addr::LOCALHOST.into())
    }

    /// With one more `dNSName`.
    #[must_use]
    pub fn dns(self, name: &str) -> Self {
        self.san(San::Dns(name.to_owned()))
    }

    /// With one more `rfc822Name`.
    #[must_use]
    pub fn email(self, address: &str) -> Self {
        self.san(San::Email(address.to_owned()))
    }

    /// With one more `iPAddress`.
    #[must_use]
    pub fn ip(self, address: IpAddr) -> Self {
        self.san(San::Ip(address))
    }

    /// With one more `uniformResourceIdentifier`.
    #[must_use]
    pub fn uri(self, uri: &str) -> Self {
        self.san(San::Uri(uri.to_owned()))
    }

    /// With one more alternative name.
    #[must_use]
    pub fn san(mut self, name: San) -> Self {
        self.sans.push(name);
        self
    }

    /// With a new key of this kind.
    #[must_use]
    pub fn key(mut self, algorithm: KeyAlgorithm) -> Self {
        self.key = KeySource::Generate(algorithm);
        self
    }

    /// All but the subject, which [`crate::Issuer`] writes itself.
    pub(crate) fn params(&self) -> Result<CertificateParams, PkiError> {
        let mut params = CertificateParams::default();
        params.not_before = offset(self.validity.not_before)?;
        params.not_after = offset(self.validity.not_after)?;
        params.serial_number = self.serial.as_deref().map(SerialNumber::from_slice);
        params.subject_alt_names = self.sans.iter().map(San::encode).collect::<Result<_, _>>()?;
        params.is_ca = match self.basic {
            Basic::Absent => IsCa::NoCa,
            Basic::Ca => IsCa::Ca(BasicConstraints::Unconstrained),
            Basic::EndEntity => IsCa::ExplicitNoCa,
        };
        params.key_usages.clone_from(&self.key_usage);
        params.extended_key_usages.clone_from(&self.eku);
        params.custom_extensions = self.extensions.iter().map(Extension::encode).collect();
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }
}

impl KeySource {
    pub(crate) fn pair(&self) -> Result<KeyPair, PkiError> {
        Ok(match self {
            Self::Generate(algorithm) => algorithm.generate()?,
            Self::Pkcs8(der) => KeyPair::try_from(der.as_slice())?,
        })
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Generate(algorithm) => write!(f, "Generate({algorithm:?})"),
            Self::Pkcs8(_) => f.write_str("Pkcs8([redacted])"),
        }
    }
}

impl KeyAlgorithm {
    pub(crate) fn generate(self) -> Result<KeyPair, rcgen::Error> {
        KeyPair::generate_for(match self {
            Self::Ed25519 => &rcgen::PKCS_ED25519,
            Self::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Self::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Self::Rsa2048 => &rcgen::PKCS_RSA_SHA256,
        })
    }
}

impl San {
    fn encode(&self) -> Result<SanType, rcgen::Error> {
        Ok(match self {
            Self::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
            Self::Email(address) => SanType::Rfc822Name(address.as_str().try_into()?),
            Self::Ip(address) => SanType::IpAddress(*address),
            Self::Other(oid, value) => SanType::OtherName((oid.clone(), value.as_str().into())),
            Self::Uri(uri) => SanType::URI(uri.as_str().try_into()?),
        })
    }
}

impl Extension {
    pub(crate) fn encode(&self) -> CustomExtension {
        let mut extension = CustomExtension::from_oid_content(&self.oid, self.der.clone());
        extension.set_criticality(self.critical);
        extension
    }
}

/// A certificate, the intermediates up to but without the root, and the private key.
#[derive(Clone)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    pkcs8: Vec<u8>,
    serial: Vec<u8>,
}

impl Identity {
    pub(crate) const fn new(chain: Vec<CertificateDer<'static>>, pkcs8: Vec<u8>, serial: Vec<u8>) -> Self {
        Self { chain, pkcs8, serial }
    }

    /// The certificate itself.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.chain[0]
    }

    /// The certificate first, then the intermediates.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The same key and certificate without the intermediates, as a careless client sends them.
    #[must_use]
    pub fn leaf_only(&self) -> Self {
        Self { chain: self.chain[..1].to_vec(), ..self.clone() }
    }

    /// The same as PEM.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        self.chain.iter().map(|der| crate::write::pem("CERTIFICATE", der)).collect()
    }

    /// The private key, as rustls takes it.
    #[must_use]
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.pkcs8.clone()).into()
    }

    /// The private key as PKCS#8 DER.
    #[must_use]
    pub fn key_pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The private key as PKCS#8 PEM.
    #[must_use]
    pub fn key_pem(&self) -> String {
        crate::write::pem("PRIVATE KEY", &self.pkcs8)
    }

    /// The serial number, big-endian, as a [`crate::CrlSpec`] lists it.
    #[must_use]
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("chain", &self.chain).field("pkcs8", &"[redacted]").finish()
    }
}
