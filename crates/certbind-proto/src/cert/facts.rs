//! Keys, signature algorithms and extensions of a certificate (RFC 5280 §4.1.2.7, §4.2.1; RFC 3279, 5480, 8410).

use std::fmt;
use std::net::IpAddr;

use x509_parser::extensions::{self as parsed, X509Extension};
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

use super::CertFault;
use crate::der::{self, NotDer, Tlv};

/// The kind of a public key, and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// Elliptic curve over one of the NIST's prime fields, named by its identifier.
    Ec(Curve),
    /// Ed25519 (RFC 8410).
    Ed25519,
    /// DSA, Ed448, another curve, a curve given by its parameters, anything else.
    Other,
    /// RSA; the size of the modulus.
    Rsa {
        /// In bits.
        bits: u32,
    },
}

/// A named curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// secp224r1.
    P224,
    /// secp256r1.
    P256,
    /// secp384r1.
    P384,
    /// secp521r1.
    P521,
}

impl PublicKey {
    pub(super) fn read(spki: &SubjectPublicKeyInfo<'_>) -> Result<Self, CertFault> {
        let algorithm = der::dotted(spki.algorithm.algorithm.as_bytes()).ok_or(CertFault::KeyMalformed)?;
        match algorithm.as_str() {
            "1.2.840.113549.1.1.1" => rsa_bits(&spki.subject_public_key.data).map(|bits| Self::Rsa { bits }),
            "1.2.840.10045.2.1" => Ok(curve_of(&spki.algorithm).map_or(Self::Other, Self::Ec)),
            "1.3.101.112" => Ok(Self::Ed25519),
            _ => Ok(Self::Other),
        }
        .and_then(|key| check_unused_bits(spki).map(|()| key))
    }
}

fn check_unused_bits(spki: &SubjectPublicKeyInfo<'_>) -> Result<(), CertFault> {
    if spki.subject_public_key.unused_bits == 0 { Ok(()) } else { Err(CertFault::KeyMalformed) }
}

fn rsa_bits(key: &[u8]) -> Result<u32, CertFault> {
    let modulus = || {
        der::check(key)?;
        let sequence = der::read_only(key, der::SEQUENCE)?;
        let (modulus, exponent) = der::read(sequence.content)?;
        der::read_only(exponent, der::INTEGER)?;
        if modulus.tag == der::INTEGER { Ok(modulus.content) } else { Err(NotDer) }
    };
    match modulus().map_err(|NotDer| CertFault::KeyMalformed)? {
        [0, magnitude @ ..] | magnitude @ [1..=0x7f, ..] => Ok(bit_length(magnitude)),
        _ => Err(CertFault::KeyMalformed),
    }
}

fn bit_length(magnitude: &[u8]) -> u32 {
    let leading = magnitude.first().map_or(0, |octet| octet.leading_zeros());
    u32::try_from(magnitude.len() * 8).unwrap_or(u32::MAX) - leading
}

fn curve_of(algorithm: &AlgorithmIdentifier<'_>) -> Option<Curve> {
    let oid = algorithm.parameters.as_ref()?.as_oid().ok()?;
    match der::dotted(oid.as_bytes())?.as_str() {
        "1.3.132.0.33" => Some(Curve::P224),
        "1.2.840.10045.3.1.7" => Some(Curve::P256),
        "1.3.132.0.34" => Some(Curve::P384),
        "1.3.132.0.35" => Some(Curve::P521),
        _ => None,
    }
}

/// RSA with its size, or the curve: `RSA 2048`, `EC P-256`, `Ed25519`.
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ec(Curve::P224) => f.write_str("EC P-224"),
            Self::Ec(Curve::P256) => f.write_str("EC P-256"),
            Self::Ec(Curve::P384) => f.write_str("EC P-384"),
            Self::Ec(Curve::P521) => f.write_str("EC P-521"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::Other => f.write_str("other"),
            Self::Rsa { bits } => write!(f, "RSA {bits}"),
        }
    }
}

/// Whether a signature algorithm still proves who signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureStrength {
    /// MD2, MD4, MD5 or SHA-1 (RFC 9325 §4.4, RFC 9846 §4.2.3).
    Broken,
    /// SHA-2 with RSA or ECDSA, EdDSA, ML-DSA.
    Sound,
    /// Not an algorithm that we know.
    Unknown,
}

impl SignatureStrength {
    pub(super) fn of(algorithm: &AlgorithmIdentifier<'_>) -> Self {
        let Some(oid) = der::dotted(algorithm.algorithm.as_bytes()) else { return Self::Unknown };
        match oid.as_str() {
            "1.2.840.113549.1.1.2" | "1.2.840.113549.1.1.3" | "1.2.840.113549.1.1.4" => Self::Broken,
            "1.2.840.113549.1.1.5" | "1.3.14.3.2.29" | "1.2.840.10040.4.3" | "1.2.840.10045.4.1" => Self::Broken,
            "1.2.840.113549.1.1.10" => pss_strength(algorithm),
            "1.2.840.113549.1.1.11" | "1.2.840.113549.1.1.12" | "1.2.840.113549.1.1.13" => Self::Sound,
            "1.2.840.113549.1.1.14" => Self::Sound,
            "1.2.840.10045.4.3.1" | "1.2.840.10045.4.3.2" | "1.2.840.10045.4.3.3" | "1.2.840.10045.4.3.4" => {
                Self::Sound
            }
            "1.3.101.112" | "1.3.101.113" => Self::Sound,
            "2.16.840.1.101.3.4.3.17" | "2.16.840.1.101.3.4.3.18" | "2.16.840.1.101.3.4.3.19" => Self::Sound,
            _ => Self::Unknown,
        }
    }
}

/// RSASSA-PSS names its hash in the parameters; SHA-1 is what it means when it names none (RFC 4055 §3.1).
fn pss_strength(algorithm: &AlgorithmIdentifier<'_>) -> SignatureStrength {
    const HASH_ALGORITHM: u8 = 0xa0;
    let hash = || {
        let parameters = algorithm.parameters.as_ref()?.as_bytes();
        let (field, _) = der::read(parameters).ok().filter(|(field, _)| field.tag == HASH_ALGORITHM)?;
        let sequence = der::read_only(field.content, der::SEQUENCE).ok()?;
        der::dotted(der::read(sequence.content).ok()?.0.content)
    };
    match hash().as_deref() {
        None | Some("1.3.14.3.2.26") => SignatureStrength::Broken,
        Some("2.16.840.1.101.3.4.2.1" | "2.16.840.1.101.3.4.2.2" | "2.16.840.1.101.3.4.2.3") => {
            SignatureStrength::Sound
        }
        Some(_) => SignatureStrength::Unknown,
    }
}

/// What a key may be used for (RFC 5280 §4.2.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyUsage {
    /// To sign a handshake.
    pub digital_signature: bool,
    /// To sign certificates.
    pub key_cert_sign: bool,
    /// To sign revocation lists.
    pub crl_sign: bool,
}

/// What a certificate is for (RFC 5280 §4.2.1.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedKeyUsage {
    /// `anyExtendedKeyUsage`.
    pub any: bool,
    /// `id-kp-clientAuth`.
    pub client_auth: bool,
    /// `id-kp-serverAuth`.
    pub server_auth: bool,
}

/// A subject alternative name (RFC 5280 §4.2.1.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum San {
    /// `dNSName`, as it stands there.
    Dns(String),
    /// `rfc822Name`, as it stands there.
    Email(String),
    /// `iPAddress`.
    Ip(IpAddr),
    /// A kind that no client is registered by: `otherName`, `directoryName`, …
    Other,
    /// `uniformResourceIdentifier`, as it stands there.
    Uri(String),
}

impl fmt::Display for San {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => write!(f, "DNS:{}", name.escape_default()),
            Self::Email(address) => write!(f, "email:{}", address.escape_default()),
            Self::Ip(address) => write!(f, "IP:{address}"),
            Self::Other => f.write_str("other"),
            Self::Uri(uri) => write!(f, "URI:{}", uri.escape_default()),
        }
    }
}

/// The extensions that have a meaning here or in path validation; any other must not be critical (RFC 5280 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// RFC 5280 §4.2.2.1.
    AuthorityInformationAccess,
    /// RFC 5280 §4.2.1.1.
    AuthorityKeyIdentifier,
    /// RFC 5280 §4.2.1.9.
    BasicConstraints,
    /// RFC 5280 §4.2.1.4.
    CertificatePolicies,
    /// RFC 5280 §4.2.1.13.
    CrlDistributionPoints,
    /// RFC 5280 §4.2.1.12.
    ExtendedKeyUsage,
    /// RFC 5280 §4.2.1.3.
    KeyUsage,
    /// RFC 5280 §4.2.1.10.
    NameConstraints,
    /// RFC 5280 §4.2.1.11.
    PolicyConstraints,
    /// RFC 5280 §4.2.1.6.
    SubjectAlternativeName,
    /// RFC 5280 §4.2.1.2.
    SubjectKeyIdentifier,
}

/// Whether who does not understand an extension may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Criticality {
    /// To be refused when it is not understood.
    Critical,
    /// To be ignored when it is not understood.
    NonCritical,
}

impl Extension {
    fn of(oid: &str) -> Option<Self> {
        Some(match oid {
            "1.3.6.1.5.5.7.1.1" => Self::AuthorityInformationAccess,
            "2.5.29.14" => Self::SubjectKeyIdentifier,
            "2.5.29.15" => Self::KeyUsage,
            "2.5.29.17" => Self::SubjectAlternativeName,
            "2.5.29.19" => Self::BasicConstraints,
            "2.5.29.30" => Self::NameConstraints,
            "2.5.29.31" => Self::CrlDistributionPoints,
            "2.5.29.32" => Self::CertificatePolicies,
            "2.5.29.35" => Self::AuthorityKeyIdentifier,
            "2.5.29.36" => Self::PolicyConstraints,
            "2.5.29.37" => Self::ExtendedKeyUsage,
            _ => return None,
        })
    }
}

/// Everything the extensions of one certificate say.
#[derive(Clone, Debug, Default)]
pub(super) struct Extensions {
    pub(super) known: Vec<(Extension, Criticality)>,
    pub(super) has_unknown_critical: bool,
    pub(super) is_ca: bool,
    pub(super) key_usage: Option<KeyUsage>,
    pub(super) extended_key_usage: Option<ExtendedKeyUsage>,
    pub(super) sans: Vec<San>,
}

impl Extensions {
    pub(super) fn read(extensions: &[X509Extension<'_>]) -> Result<Self, CertFault> {
        let mut read = Self::default();
        for (i, extension) in extensions.iter().enumerate() {
            if extensions.iter().take(i).any(|earlier| earlier.oid == extension.oid) {
                return Err(CertFault::DuplicateExtension);
            }
            let criticality = if extension.critical { Criticality::Critical } else { Criticality::NonCritical };
            match der::dotted(extension.oid.as_bytes()).as_deref().and_then(Extension::of) {
                Some(known) => read.add(known, criticality, extension.value)?,
                None => read.has_unknown_critical |= extension.critical,
            }
        }
        Ok(read)
    }

    fn add(&mut self, extension: Extension, criticality: Criticality, value: &[u8]) -> Result<(), CertFault> {
        self.known.push((extension, criticality));
        der::check(value).map_err(|NotDer| CertFault::ExtensionMalformed)?;
        match extension {
            Extension::BasicConstraints => self.is_ca = whole::<parsed::BasicConstraints>(value)?.ca,
            Extension::ExtendedKeyUsage => self.extended_key_usage = Some(read_extended_key_usage(value)?),
            Extension::KeyUsage => self.key_usage = Some(read_key_usage(value)?),
            Extension::SubjectAlternativeName => self.sans = read_sans(value)?,
            Extension::AuthorityInformationAccess
            | Extension::AuthorityKeyIdentifier
            | Extension::CertificatePolicies
            | Extension::CrlDistributionPoints
            | Extension::NameConstraints
            | Extension::PolicyConstraints
            | Extension::SubjectKeyIdentifier => {}
        }
        Ok(())
    }
}

fn whole<'a, T: FromDer<'a, x509_parser::error::X509Error>>(value: &'a [u8]) -> Result<T, CertFault> {
    match T::from_der(value) {
        Ok(([], value)) => Ok(value),
        _ => Err(CertFault::ExtensionMalformed),
    }
}

fn read_key_usage(value: &[u8]) -> Result<KeyUsage, CertFault> {
    let usage = whole::<parsed::KeyUsage>(value)?;
    Ok(KeyUsage {
        digital_signature: usage.digital_signature(),
        key_cert_sign: usage.key_cert_sign(),
        crl_sign: usage.crl_sign(),
    })
}

fn read_extended_key_usage(value: &[u8]) -> Result<ExtendedKeyUsage, CertFault> {
    let usage = whole::<parsed::ExtendedKeyUsage<'_>>(value)?;
    Ok(ExtendedKeyUsage { any: usage.any, client_auth: usage.client_auth, server_auth: usage.server_auth })
}

/// `GeneralNames`, read by hand: the parser's reader keeps what it cannot read as a kind of its own.
fn read_sans(value: &[u8]) -> Result<Vec<San>, CertFault> {
    let names = der::read_only(value, der::SEQUENCE).map_err(|NotDer| CertFault::ExtensionMalformed)?;
    if names.content.is_empty() {
        return Err(CertFault::ExtensionMalformed);
    }
    der::values(names.content).map(|name| read_san(name.map_err(|NotDer| CertFault::ExtensionMalformed)?)).collect()
}

fn read_san(name: Tlv<'_>) -> Result<San, CertFault> {
    match name.tag {
        0x81 => ascii(name.content).map(San::Email),
        0x82 => ascii(name.content).map(San::Dns),
        0x86 => ascii(name.content).map(San::Uri),
        0x87 => address(name.content).map(San::Ip),
        // otherName, x400Address, directoryName, ediPartyName, registeredID
        0xa0 | 0xa3 | 0xa4 | 0xa5 | 0x88 => Ok(San::Other),
        _ => Err(CertFault::ExtensionMalformed),
    }
}

fn ascii(content: &[u8]) -> Result<String, CertFault> {
    if content.contains(&0) {
        return Err(CertFault::SanNul);
    }
    match std::str::from_utf8(content) {
        Ok(text) if text.is_ascii() => Ok(text.to_owned()),
        _ => Err(CertFault::SanNotAscii),
    }
}

fn address(content: &[u8]) -> Result<IpAddr, CertFault> {
    match content.len() {
        4 => <[u8; 4]>::try_from(content).map(IpAddr::from).map_err(|_| CertFault::SanAddressLength),
        16 => <[u8; 16]>::try_from(content).map(IpAddr::from).map_err(|_| CertFault::SanAddressLength),
        _ => Err(CertFault::SanAddressLength),
    }
}
