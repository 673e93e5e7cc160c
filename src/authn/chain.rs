//! The chain check: may this certificate vouch for a client, and does a chain lead to an anchor (RFC 5280 §6.1, RFC 8705 §2.1)?
//!
//! webpki builds the path, checks signatures, name constraints, path lengths and revocation. What it leaves out is
//! checked here: key usage, key strength, depth, the anchors' own validity, revocation lists that are not current. A
//! chain that was verified is remembered until the group's files change; its validity and its lists' are looked at each
//! time all the same.

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::time::Duration;

use certbind_proto::cert::{CertFault, Certificate, Criticality, Extension, PeerCert, SignatureStrength};
use certbind_proto::subject::SubjectMismatch;
use certbind_proto::time::Timestamp;
use rustls_pki_types::{SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, RevocationOptions, RevocationOptionsBuilder, VerifiedPath, aws_lc_rs as algorithm};

use super::trust::{ClientAuthEku, CrlStale, Policy, Snapshot, TrustGroup, has_wrong_critical_extension, is_strong};

/// The most certificates that a peer may present: a bundle of cross-signed CAs, as that of CVE-2024-0567, has ten.
const MAX_CERTIFICATES: usize = 10;
/// The most octets that they may have together.
const MAX_OCTETS: usize = 64 * 1024;

/// No MD5, no SHA-1, no RSA below 2048 bits (RFC 9325 §4.4, §4.5).
const ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    algorithm::ECDSA_P256_SHA256,
    algorithm::ECDSA_P256_SHA384,
    algorithm::ECDSA_P256_SHA512,
    algorithm::ECDSA_P384_SHA256,
    algorithm::ECDSA_P384_SHA384,
    algorithm::ECDSA_P384_SHA512,
    algorithm::ECDSA_P521_SHA256,
    algorithm::ECDSA_P521_SHA384,
    algorithm::ECDSA_P521_SHA512,
    algorithm::ED25519,
    algorithm::ML_DSA_44,
    algorithm::ML_DSA_65,
    algorithm::ML_DSA_87,
    algorithm::RSA_PKCS1_2048_8192_SHA256,
    algorithm::RSA_PKCS1_2048_8192_SHA384,
    algorithm::RSA_PKCS1_2048_8192_SHA512,
    algorithm::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    algorithm::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    algorithm::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

/// Why a certificate does not authenticate a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    /// The anchor at the end of the chain is outside of its own validity.
    #[error("the trust anchor is not valid at this time")]
    AnchorNotValid,
    /// A CA certificate where a client's should be.
    #[error("the certificate is that of a CA (RFC 5280 §4.2.1.9)")]
    CaAsLeaf,
    /// More than 10 certificates, more than 64 KiB, or more CAs than the group allows.
    #[error("the chain is too long")]
    ChainTooLong,
    /// A critical extension that is not understood, or that must not be critical (RFC 5280 §4.2).
    #[error("a critical extension is not understood (RFC 5280 §4.2)")]
    CriticalExtension,
    /// A revocation list of this chain was made in the future.
    #[error("a revocation list of this chain is not yet current")]
    CrlNotYetCurrent,
    /// A revocation list of this chain is past its `nextUpdate`.
    #[error("a revocation list of this chain is stale (RFC 5280 §5.1.2.5)")]
    CrlStale,
    /// A revocation list whose signature is wrong, or whose issuer may not sign any.
    #[error("a revocation list of this chain is not signed by who may (RFC 5280 §6.3.3)")]
    CrlUntrusted,
    /// Extended key usage with `anyExtendedKeyUsage`.
    #[error("the extended key usage is anyExtendedKeyUsage (RFC 5280 §4.2.1.12)")]
    EkuAny,
    /// No extended key usage, where the group demands it.
    #[error("there is no extended key usage (RFC 5280 §4.2.1.12)")]
    EkuMissing,
    /// Extended key usage without `clientAuth`, in the certificate or in a CA's above it.
    #[error("the extended key usage is without clientAuth (RFC 5280 §4.2.1.12)")]
    EkuWithoutClientAuth,
    /// A certificate of the chain is past its validity.
    #[error("a certificate of the chain has expired")]
    Expired,
    /// RSA below 2048 or beyond 8192 bits, or a key of another kind than RSA, EC and Ed25519.
    #[error("a key of the chain is too weak, too large, or of an unknown kind")]
    KeyTooWeak,
    /// `keyCertSign` in a certificate that is not a CA's (RFC 5280 §4.2.1.3).
    #[error("the key usage of the certificate has keyCertSign (RFC 5280 §4.2.1.3)")]
    KeyUsageCertSign,
    /// Key usage without `digitalSignature`, or a CA's without `keyCertSign` (RFC 5280 §4.2.1.3).
    #[error("the key usage forbids what the key was used for (RFC 5280 §4.2.1.3)")]
    KeyUsageForbids,
    /// A certificate of the chain cannot be read.
    #[error(transparent)]
    Malformed(#[from] CertFault),
    /// The connection has no client certificate.
    #[error("no client certificate (RFC 8705 §2)")]
    Missing,
    /// A name constraint excludes it, or is of a kind that is not supported: directoryName, e-mail, URI (RFC 5280 §4.2.1.10).
    #[error("a name constraint of a CA refuses the certificate (RFC 5280 §4.2.1.10)")]
    NameConstraint,
    /// A certificate of the chain is before its validity.
    #[error("a certificate of the chain is not yet valid")]
    NotYetValid,
    /// A certificate breaks the profile of RFC 5280: serial number zero, name constraints in a client's certificate,
    /// policy constraints, an empty subject without critical alternative names.
    #[error("a certificate of the chain is not as RFC 5280 §4 has it")]
    Profile,
    /// The group has revocation lists, and none of them is for this certificate or a CA above it.
    #[error("no revocation list says whether a certificate of the chain is revoked (RFC 5280 §6.3)")]
    RevocationUnknown,
    /// A certificate of the chain is on a revocation list.
    #[error("a certificate of the chain is revoked")]
    Revoked,
    /// A signature in the chain is by MD5 or SHA-1.
    #[error("a signature in the chain is by a broken algorithm (RFC 9325 §4.4)")]
    SignatureBroken,
    /// The certificate does not have the registered name.
    #[error(transparent)]
    Subject(#[from] SubjectMismatch),
    /// The certificate is none of the registered ones (RFC 8705 §2.2).
    #[error("the certificate is not registered (RFC 8705 §2.2)")]
    ThumbprintUnknown,
    /// The client's trust group is no longer in the configuration.
    #[error("the client's trust group is not in the configuration")]
    TrustGroupUnknown,
    /// No chain leads to an anchor of the group.
    #[error("no chain leads to an anchor of the trust group (RFC 5280 §6.1)")]
    Untrusted,
}

impl ChainFault {
    /// The name of the fact in audit events.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::AnchorNotValid | Self::CaAsLeaf | Self::Untrusted => "chain_untrusted",
            Self::ChainTooLong => "chain_too_long",
            Self::CriticalExtension => "extension_unknown",
            Self::CrlNotYetCurrent | Self::CrlStale | Self::CrlUntrusted => "crl_stale",
            Self::EkuAny | Self::EkuMissing | Self::EkuWithoutClientAuth => "eku_missing",
            Self::Expired => "certificate_expired",
            Self::KeyTooWeak => "key_too_weak",
            Self::KeyUsageCertSign | Self::KeyUsageForbids => "key_usage",
            Self::Malformed(fault) => fault.reason(),
            Self::Missing => "certificate_missing",
            Self::NameConstraint => "name_constraint",
            Self::NotYetValid => "certificate_not_yet_valid",
            Self::Profile => "certificate_malformed",
            Self::RevocationUnknown => "revocation_unknown",
            Self::Revoked => "certificate_revoked",
            Self::SignatureBroken => "signature_weak",
            Self::Subject(mismatch) => mismatch.reason(),
            Self::ThumbprintUnknown => "thumbprint_unknown",
            Self::TrustGroupUnknown => "trust_unknown",
        }
    }

    /// What webpki found. Its error type may grow: what is new means that there is no chain.
    fn of(error: &webpki::Error) -> Self {
        use webpki::Error;
        match error {
            Error::CaUsedAsEndEntity => Self::CaAsLeaf,
            Error::CertExpired { .. } | Error::InvalidCertValidity => Self::Expired,
            Error::CertNotValidYet { .. } => Self::NotYetValid,
            Error::CertRevoked => Self::Revoked,
            Error::CrlExpired { .. } => Self::CrlStale,
            Error::EmptyEkuExtension | Error::RequiredEkuNotFoundContext(_) => Self::EkuWithoutClientAuth,
            Error::InvalidCrlSignatureForPublicKey | Error::IssuerNotCrlSigner => Self::CrlUntrusted,
            Error::InvalidNetworkMaskConstraint
            | Error::MalformedNameConstraint
            | Error::MaximumNameConstraintComparisonsExceeded
            | Error::NameConstraintViolation => Self::NameConstraint,
            Error::MaximumPathBuildCallsExceeded
            | Error::MaximumPathDepthExceeded
            | Error::MaximumSignatureChecksExceeded
            | Error::PathLenConstraintViolated => Self::ChainTooLong,
            Error::UnknownRevocationStatus => Self::RevocationUnknown,
            Error::UnsupportedCriticalExtension => Self::CriticalExtension,
            _ => Self::Untrusted,
        }
    }
}

/// Proof that a chain leads from a certificate to an anchor of a group, at one instant. Only this module makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedChain {
    verdict: Verdict,
    is_crl_stale: bool,
}

impl VerifiedChain {
    /// How many CA certificates stand between the certificate and the anchor; self-issued ones do not count.
    #[must_use]
    pub const fn depth(&self) -> u8 {
        self.verdict.depth
    }

    /// When the first certificate of the chain ends.
    #[must_use]
    pub const fn not_after(&self) -> Timestamp {
        self.verdict.not_after
    }

    /// Whether a revocation list of the chain is past its `nextUpdate`, and the group tolerates it.
    #[must_use]
    pub const fn is_crl_stale(&self) -> bool {
        self.is_crl_stale
    }
}

/// Checks that a peer's certificate is fit for a client, and that a chain leads to an anchor of `group`.
///
/// # Errors
/// [`ChainFault`], the first fact that speaks against it.
pub fn check(peer: &PeerCert, group: &TrustGroup, now: Timestamp) -> Result<VerifiedChain, ChainFault> {
    let octets: usize = peer.chain().iter().map(|certificate| certificate.len()).sum();
    if peer.chain().len() > MAX_CERTIFICATES || octets > MAX_OCTETS {
        return Err(ChainFault::ChainTooLong);
    }
    let policy = group.policy();
    check_leaf(peer.leaf()?, policy, now)?;

    let snapshot = group.snapshot();
    let verdict = match snapshot.verified.get(peer.digest()) {
        Some(remembered) => remembered,
        None => {
            let verdict = verify(peer, &snapshot, policy, now)?;
            snapshot.verified.insert(*peer.digest(), verdict);
            verdict
        }
    };
    verdict.at(policy, now)
}

/// Whether dates, key and extensions let this certificate stand for a client; nothing about who signed it.
fn check_leaf(leaf: &Certificate, policy: &Policy, now: Timestamp) -> Result<(), ChainFault> {
    check_validity(leaf, now)?;
    if has_wrong_critical_extension(leaf) {
        return Err(ChainFault::CriticalExtension);
    }
    if leaf.is_ca() {
        return Err(ChainFault::CaAsLeaf);
    }
    let is_nameless =
        leaf.subject().is_empty() && leaf.extension(Extension::SubjectAlternativeName) != Some(Criticality::Critical);
    if is_nameless || !leaf.has_positive_serial() || leaf.extension(Extension::NameConstraints).is_some() {
        return Err(ChainFault::Profile);
    }
    if let Some(usage) = leaf.key_usage() {
        if usage.key_cert_sign {
            return Err(ChainFault::KeyUsageCertSign);
        }
        if !usage.digital_signature {
            return Err(ChainFault::KeyUsageForbids);
        }
    }
    check_extended_key_usage(leaf, policy.client_auth_eku)?;
    check_strength(leaf)
}

/// Whether `now` is inside the dates of one certificate (RFC 5280 §4.1.2.5), without any skew.
pub(super) fn check_validity(certificate: &Certificate, now: Timestamp) -> Result<(), ChainFault> {
    if certificate.is_not_yet_valid(now) {
        return Err(ChainFault::NotYetValid);
    }
    if certificate.is_expired(now) { Err(ChainFault::Expired) } else { Ok(()) }
}

/// RFC 5280 §4.2.1.12. A certificate for any purpose was not made for this one.
fn check_extended_key_usage(leaf: &Certificate, rule: ClientAuthEku) -> Result<(), ChainFault> {
    match (leaf.extended_key_usage(), rule) {
        (Some(usage), _) if usage.any => Err(ChainFault::EkuAny),
        (Some(usage), _) if usage.client_auth => Ok(()),
        (Some(_), _) => Err(ChainFault::EkuWithoutClientAuth),
        (None, ClientAuthEku::Required) => Err(ChainFault::EkuMissing),
        (None, ClientAuthEku::RequiredIfPresent) => Ok(()),
    }
}

fn check_strength(certificate: &Certificate) -> Result<(), ChainFault> {
    if !is_strong(certificate.public_key()) {
        return Err(ChainFault::KeyTooWeak);
    }
    if certificate.signature() == SignatureStrength::Broken { Err(ChainFault::SignatureBroken) } else { Ok(()) }
}

/// Builds a path and checks its signatures: the dear part, about one ECDSA verification for each certificate and list.
fn verify(peer: &PeerCert, snapshot: &Snapshot, policy: &Policy, now: Timestamp) -> Result<Verdict, ChainFault> {
    let [leaf, intermediates @ ..] = peer.chain() else { return Err(ChainFault::Missing) };
    let leaf = EndEntityCert::try_from(leaf).map_err(|error| ChainFault::of(&error))?;
    let crls: Vec<_> = snapshot.crls.iter().map(|crl| &crl.list).collect();
    let seconds = u64::try_from(now.unix()).unwrap_or_default();

    // webpki goes on to other paths when this one is refused, and keeps an error of its own: ours is put aside.
    let (accepted, refused) = (Cell::new(None), Cell::new(None));
    let examine = |path: &VerifiedPath<'_>| {
        let outcome = Path { peer, path, snapshot }.examine(policy, now);
        outcome.map(|verdict| accepted.set(Some(verdict))).map_err(|fault| {
            refused.set(Some(fault));
            webpki::Error::UnknownIssuer
        })
    };
    let verified = leaf.verify_for_usage(
        ALGORITHMS,
        &snapshot.anchors,
        intermediates,
        UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
        webpki::KeyUsage::client_auth(),
        revocation(&crls),
        Some(&examine),
    );
    match verified {
        Ok(_) => accepted.take().ok_or(ChainFault::Untrusted),
        Err(error) => Err(refused.take().unwrap_or_else(|| ChainFault::of(&error))),
    }
}

/// With lists, every certificate of the chain has to be covered by one; without, none is looked for. Whether a list is
/// current is decided in [`Verdict::at`], each time.
fn revocation<'a>(crls: &'a [&'a webpki::CertRevocationList<'a>]) -> Option<RevocationOptions<'a>> {
    RevocationOptionsBuilder::new(crls).ok().map(RevocationOptionsBuilder::build)
}

/// A path that webpki found good.
struct Path<'a> {
    peer: &'a PeerCert,
    path: &'a VerifiedPath<'a>,
    snapshot: &'a Snapshot,
}

impl Path<'_> {
    /// What webpki does not look at in the certificates above the leaf.
    fn examine(&self, policy: &Policy, now: Timestamp) -> Result<Verdict, ChainFault> {
        let mut verdict = Verdict::of(self.peer.leaf()?);
        let anchor = self.anchor().ok_or(ChainFault::Untrusted)?;
        check_validity(anchor, now).map_err(|_| ChainFault::AnchorNotValid)?;
        self.narrow(&mut verdict, anchor);
        for intermediate in self.path.intermediate_certificates() {
            let intermediate = Certificate::parse(&intermediate.der())?;
            check_intermediate(&intermediate)?;
            self.narrow(&mut verdict, &intermediate);
            verdict.depth += u8::from(!intermediate.is_self_issued());
        }
        if verdict.depth > policy.max_chain_depth { Err(ChainFault::ChainTooLong) } else { Ok(verdict) }
    }

    fn anchor(&self) -> Option<&Certificate> {
        let same = |anchor: &TrustAnchor<'_>| std::ptr::eq(anchor, self.path.anchor());
        let at = self.snapshot.anchors.iter().position(same)?;
        self.snapshot.certificates.get(at)
    }

    /// The verdict holds no longer than this CA's certificate and its revocation lists.
    fn narrow(&self, verdict: &mut Verdict, issuer: &Certificate) {
        verdict.not_before = verdict.not_before.max(issuer.not_before());
        verdict.not_after = verdict.not_after.min(issuer.not_after());
        for crl in self.snapshot.crls.iter().filter(|crl| crl.facts.issuer_der() == issuer.subject_der()) {
            verdict.crl_this_update = verdict.crl_this_update.max(crl.facts.this_update());
            verdict.crl_next_update = verdict.crl_next_update.min(crl.facts.next_update());
        }
    }
}

fn check_intermediate(intermediate: &Certificate) -> Result<(), ChainFault> {
    if has_wrong_critical_extension(intermediate) {
        return Err(ChainFault::CriticalExtension);
    }
    // Policies are not processed here: a CA that constrains them would be taken for one that does not.
    if intermediate.subject().is_empty() || intermediate.extension(Extension::PolicyConstraints).is_some() {
        return Err(ChainFault::Profile);
    }
    if intermediate.key_usage().is_some_and(|usage| !usage.key_cert_sign) {
        return Err(ChainFault::KeyUsageForbids);
    }
    check_strength(intermediate)
}

/// What is remembered of a verified chain: when it is good. That it is not revoked holds as long as the lists stay the
/// same, and other lists come with another [`Snapshot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    not_before: Timestamp,
    not_after: Timestamp,
    crl_this_update: Timestamp,
    crl_next_update: Timestamp,
    depth: u8,
}

impl Verdict {
    fn of(leaf: &Certificate) -> Self {
        Self {
            not_before: leaf.not_before(),
            not_after: leaf.not_after(),
            crl_this_update: Timestamp::from_millis(i64::MIN),
            crl_next_update: Timestamp::from_millis(i64::MAX),
            depth: 0,
        }
    }

    /// The proof for this instant.
    fn at(self, policy: &Policy, now: Timestamp) -> Result<VerifiedChain, ChainFault> {
        if now < self.not_before {
            return Err(ChainFault::NotYetValid);
        }
        if now.unix() > self.not_after.unix() {
            return Err(ChainFault::Expired);
        }
        if now < self.crl_this_update {
            return Err(ChainFault::CrlNotYetCurrent);
        }
        let is_crl_stale = now >= self.crl_next_update;
        if is_crl_stale && policy.crl_stale == CrlStale::Refuse {
            return Err(ChainFault::CrlStale);
        }
        Ok(VerifiedChain { verdict: self, is_crl_stale })
    }
}
