//! Client certificates: DER in, the facts that checks ask for out (RFC 5280 §4.1, §4.2; RFC 8705 §2).
//!
//! A certificate is read once for a connection. Reading proves nothing: trust, validity and names are checked
//! elsewhere, on every request.

mod facts;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::OnceLock;

use aws_lc_rs::digest;
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::{TbsCertificate, X509Certificate, X509CertificateParser};
use x509_parser::nom::Parser as _;

pub use facts::{Criticality, Curve, ExtendedKeyUsage, Extension, KeyUsage, PublicKey, San, SignatureStrength};

use crate::der::{self, NotDer, Tlv};
use crate::dn::Dn;
use crate::pem;
use crate::thumbprint::Thumbprint;
use crate::time::Timestamp;
use facts::Extensions;

/// The largest certificate that is read, in octets. One with a post-quantum key and signature takes about 8 KiB.
pub const MAX_DER: usize = 16 * 1024;

/// What we read from a certificate.
#[derive(Clone)]
pub struct Certificate {
    der: CertificateDer<'static>,
    thumbprint: Thumbprint,
    version: u8,
    serial: Vec<u8>,
    issuer: Dn,
    subject: Dn,
    subject_der: Vec<u8>,
    not_before: Timestamp,
    not_after: Timestamp,
    public_key: PublicKey,
    spki: Vec<u8>,
    signature: SignatureStrength,
    extensions: Extensions,
}

/// Why bytes are not a certificate that we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertFault {
    /// The signature algorithm inside and outside of the signed part are not the same (RFC 5280 §4.1.1.2).
    #[error("the inner and the outer signature algorithm differ (RFC 5280 §4.1.1.2)")]
    AlgorithmsDiffer,
    /// One extension stands twice (RFC 5280 §4.2).
    #[error("an extension occurs twice (RFC 5280 §4.2)")]
    DuplicateExtension,
    /// An extension that we read does not have its syntax.
    #[error("an extension is malformed (RFC 5280 §4.2.1)")]
    ExtensionMalformed,
    /// Extensions in a certificate that is not version 3 (RFC 5280 §4.1.2.1).
    #[error("extensions need version 3 (RFC 5280 §4.1.2.1)")]
    ExtensionsWithoutVersion3,
    /// The public key does not have the syntax of its algorithm.
    #[error("the public key is malformed")]
    KeyMalformed,
    /// Not the structure of a certificate.
    #[error("not an X.509 certificate (RFC 5280 §4.1)")]
    NotACertificate,
    /// BER, or DER with a mistake: a second encoding would have a second thumbprint.
    #[error("not strict DER")]
    NotDer,
    /// An iPAddress of neither 4 nor 16 octets (RFC 5280 §4.2.1.6).
    #[error("an iPAddress has neither 4 nor 16 octets (RFC 5280 §4.2.1.6)")]
    SanAddressLength,
    /// A dNSName, URI or rfc822Name with an octet beyond ASCII (RFC 5280 §4.2.1.6).
    #[error("a subject alternative name is not an IA5String (RFC 5280 §4.2.1.6)")]
    SanNotAscii,
    /// A NUL in a dNSName, URI or rfc822Name (RFC 8705 §7.5).
    #[error("a subject alternative name has a NUL in it (RFC 8705 §7.5)")]
    SanNul,
    /// More than [`MAX_DER`] octets.
    #[error("the certificate is larger than 16 KiB")]
    TooLarge,
    /// Bytes behind the certificate.
    #[error("there are bytes behind the certificate")]
    TrailingBytes,
}

impl CertFault {
    /// The name of the fact in audit events.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        "certificate_malformed"
    }
}

impl Certificate {
    /// Reads one certificate.
    ///
    /// # Errors
    /// The first fact that makes `der` unreadable.
    pub fn parse(der: &[u8]) -> Result<Self, CertFault> {
        let certificate = read(der)?;
        let tbs = &certificate.tbs_certificate;
        let extensions = Extensions::read(tbs.extensions())?;
        if !tbs.extensions().is_empty() && tbs.version.0 != VERSION_3 {
            return Err(CertFault::ExtensionsWithoutVersion3);
        }
        Ok(Self {
            der: CertificateDer::from(der.to_vec()),
            thumbprint: Thumbprint::of_der(der),
            version: version_of(tbs)?,
            serial: tbs.raw_serial().to_vec(),
            issuer: Dn::from_der(tbs.issuer.as_raw()).map_err(|_| CertFault::NotACertificate)?,
            subject: Dn::from_der(tbs.subject.as_raw()).map_err(|_| CertFault::NotACertificate)?,
            subject_der: tbs.subject.as_raw().to_vec(),
            not_before: Timestamp::from_unix(tbs.validity.not_before.timestamp()),
            not_after: Timestamp::from_unix(tbs.validity.not_after.timestamp()),
            public_key: PublicKey::read(&tbs.subject_pki)?,
            spki: tbs.subject_pki.raw.to_vec(),
            signature: SignatureStrength::of(&certificate.signature_algorithm),
            extensions,
        })
    }

    /// The whole certificate as it was presented.
    #[must_use]
    pub const fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The certificate as PEM (RFC 7468 §5).
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::write("CERTIFICATE", &self.der).to_string()
    }

    /// `x5t#S256` (RFC 8705 §3.1).
    #[must_use]
    pub const fn thumbprint(&self) -> &Thumbprint {
        &self.thumbprint
    }

    /// 1, 2 or 3.
    #[must_use]
    pub const fn version(&self) -> u8 {
        self.version
    }

    /// The serial number in lower-case hexadecimal, as its DER has it.
    #[must_use]
    pub fn serial_hex(&self) -> String {
        let digits = self.serial.iter().flat_map(|octet| [octet >> 4, octet & 0xf]);
        digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
    }

    /// Whether the serial number is greater than zero (RFC 5280 §4.1.2.2). How long it is harms nobody.
    #[must_use]
    pub fn has_positive_serial(&self) -> bool {
        matches!(self.serial.as_slice(), [1..=0x7f, ..] | [0, _, ..])
    }

    /// Who signed it, by its own words.
    #[must_use]
    pub const fn issuer(&self) -> &Dn {
        &self.issuer
    }

    /// Whose certificate it is; may be empty when the subject alternative names say it.
    #[must_use]
    pub const fn subject(&self) -> &Dn {
        &self.subject
    }

    /// The same as the `Name` in DER, which is what path building compares.
    #[must_use]
    pub fn subject_der(&self) -> &[u8] {
        &self.subject_der
    }

    /// Whether issuer and subject are the same name.
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }

    /// The subject alternative names, in their order.
    #[must_use]
    pub fn sans(&self) -> &[San] {
        &self.extensions.sans
    }

    /// The first second of its validity.
    #[must_use]
    pub const fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// The last second of its validity.
    #[must_use]
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whether `now` is before the first second of its validity.
    #[must_use]
    pub fn is_not_yet_valid(&self, now: Timestamp) -> bool {
        now < self.not_before
    }

    /// Whether the last second of its validity has passed (RFC 5280 §4.1.2.5: that second is included).
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now.unix() > self.not_after.unix()
    }

    /// Kind and size of its key.
    #[must_use]
    pub const fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// `SubjectPublicKeyInfo` in DER.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// Whether the algorithm that it was signed with still proves anything.
    #[must_use]
    pub const fn signature(&self) -> SignatureStrength {
        self.signature
    }

    /// Key usage, when it says so (RFC 5280 §4.2.1.3).
    #[must_use]
    pub const fn key_usage(&self) -> Option<KeyUsage> {
        self.extensions.key_usage
    }

    /// Extended key usage, when it says so (RFC 5280 §4.2.1.12).
    #[must_use]
    pub const fn extended_key_usage(&self) -> Option<ExtendedKeyUsage> {
        self.extensions.extended_key_usage
    }

    /// Whether basic constraints say `CA:TRUE` (RFC 5280 §4.2.1.9).
    #[must_use]
    pub const fn is_ca(&self) -> bool {
        self.extensions.is_ca
    }

    /// Whether this extension is there, and critical.
    #[must_use]
    pub fn extension(&self, extension: Extension) -> Option<Criticality> {
        self.extensions.known.iter().find(|(known, _)| *known == extension).map(|(_, criticality)| *criticality)
    }

    /// Whether there is a critical extension that [`Extension`] has no name for (RFC 5280 §4.2: to be refused).
    #[must_use]
    pub const fn has_unknown_critical_extension(&self) -> bool {
        self.extensions.has_unknown_critical
    }
}

const VERSION_3: u32 = 2;

/// Strict DER first, then the lenient parser, without its readers of extensions.
fn read(der: &[u8]) -> Result<X509Certificate<'_>, CertFault> {
    if der.len() > MAX_DER {
        return Err(CertFault::TooLarge);
    }
    match der::read(der) {
        Ok((_, [])) => der::check(der).map_err(|NotDer| CertFault::NotDer)?,
        Ok(_) => return Err(CertFault::TrailingBytes),
        Err(NotDer) => return Err(CertFault::NotDer),
    }
    check_shape(der)?;
    match X509CertificateParser::new().with_deep_parse_extensions(false).parse(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(CertFault::TrailingBytes),
        Err(_) => Err(CertFault::NotACertificate),
    }
}

/// `Certificate` and `TBSCertificate` with the fields they have and no others (RFC 5280 §4.1). The parser stops at the
/// last field it knows: what stands behind, outside of the signed part, would be a free choice of the thumbprint.
fn check_shape(der: &[u8]) -> Result<(), CertFault> {
    let certificate = der::read_only(der, der::SEQUENCE).and_then(fields);
    let Ok(&[tbs @ Tlv { tag: der::SEQUENCE, .. }, outer, signature]) = certificate.as_deref() else {
        return Err(CertFault::NotACertificate);
    };
    if signature.tag != der::BIT_STRING || signature.content.first() != Some(&0) {
        return Err(CertFault::NotACertificate);
    }
    let tbs = fields(tbs).map_err(|NotDer| CertFault::NotACertificate)?;
    let fields = match tbs.as_slice() {
        [Tlv { tag: VERSION, .. }, fields @ ..] => fields,
        fields => fields,
    };
    let [_serial, inner, _issuer, _validity, _subject, _spki, optional @ ..] = fields else {
        return Err(CertFault::NotACertificate);
    };
    if !optional.iter().all(|field| OPTIONAL_FIELDS.contains(&field.tag))
        || !optional.is_sorted_by(|a, b| a.tag < b.tag)
    {
        return Err(CertFault::NotACertificate);
    }
    if inner.whole == outer.whole { Ok(()) } else { Err(CertFault::AlgorithmsDiffer) }
}

/// `[0] version`.
const VERSION: u8 = 0xa0;
/// `[1] issuerUniqueID`, `[2] subjectUniqueID`, `[3] extensions`.
const OPTIONAL_FIELDS: [u8; 3] = [0x81, 0x82, 0xa3];

fn fields(tlv: Tlv<'_>) -> Result<Vec<Tlv<'_>>, NotDer> {
    der::values(tlv.content).collect()
}

fn version_of(tbs: &TbsCertificate<'_>) -> Result<u8, CertFault> {
    match u8::try_from(tbs.version.0) {
        Ok(version @ 0..=2) => Ok(version + 1),
        _ => Err(CertFault::NotACertificate),
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { thumbprint, subject, .. } = self;
        f.debug_struct("Certificate").field("thumbprint", thumbprint).field("subject", subject).finish_non_exhaustive()
    }
}

/// What a peer presented in the handshake, after it proved that it has the key of the first certificate.
///
/// The leaf is the first certificate and no other: identity taken from any certificate that a peer sends along is
/// impersonation (CVE-2023-2422).
#[derive(Clone, Debug)]
pub struct PeerCert {
    chain: Vec<CertificateDer<'static>>,
    thumbprint: Thumbprint,
    /// Read when it is first asked for: whoever holds tokens against a certificate needs no more than its thumbprint.
    leaf: OnceLock<Result<Box<Certificate>, CertFault>>,
    digest: OnceLock<[u8; 32]>,
    summary: OnceLock<Box<Summary>>,
}

/// What a log says of a certificate, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its subject, as RFC 4514 writes it.
    pub subject: String,
    /// Its serial number, in hexadecimal.
    pub serial: String,
    /// Its last second, as RFC 3339 writes it.
    pub not_after: String,
}

impl PeerCert {
    /// From the certificates of the handshake, leaf first; none when there is none.
    #[must_use]
    pub fn from_chain(chain: Vec<CertificateDer<'static>>) -> Option<Self> {
        let thumbprint = Thumbprint::of_der(chain.first()?);
        Some(Self { chain, thumbprint, leaf: OnceLock::new(), digest: OnceLock::new(), summary: OnceLock::new() })
    }

    /// Every certificate as it was presented, leaf first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The certificate whose key the peer has.
    ///
    /// # Errors
    /// Why it could not be read. A token can still be bound to it.
    pub fn leaf(&self) -> Result<&Certificate, CertFault> {
        match self.leaf.get_or_init(|| Certificate::parse(&self.chain[0]).map(Box::new)) {
            Ok(leaf) => Ok(leaf),
            Err(fault) => Err(*fault),
        }
    }

    /// `x5t#S256` of the leaf, whether or not it could be read (RFC 8705 §3.1).
    #[must_use]
    pub const fn thumbprint(&self) -> &Thumbprint {
        &self.thumbprint
    }

    /// What a log says of the leaf, if it could be read. Written once for all requests of the connection.
    #[must_use]
    pub fn summary(&self) -> Option<&Summary> {
        let leaf = self.leaf().ok()?;
        let summary = || Summary {
            subject: leaf.subject().to_string(),
            serial: leaf.serial_hex(),
            not_after: leaf.not_after().to_string(),
        };
        Some(self.summary.get_or_init(|| Box::new(summary())))
    }

    /// SHA-256 over every certificate as it was presented: what a verdict about the chain is remembered by.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        self.digest.get_or_init(|| digest_of(&self.chain))
    }
}

/// Each certificate with its length before it, so that no two chains share a digest.
fn digest_of(chain: &[CertificateDer<'static>]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for certificate in chain {
        context.update(&(certificate.len() as u64).to_be_bytes());
        context.update(certificate);
    }
    let mut octets = [0; 32];
    octets.copy_from_slice(context.finish().as_ref());
    octets
}
