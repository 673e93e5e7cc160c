//! Trust groups: who may vouch for `tls_client_auth` clients, and by which rules (RFC 8705 §2.1, §7.4; RFC 5280 §6.1).
//!
//! A group has its own anchors, so an anchor added for one tenant vouches for no client of another. Anchors are checked
//! when they are loaded: what webpki never looks at in a root (validity, basic constraints, key usage, critical
//! extensions) refuses the group here. A change of files makes a new `Snapshot`, and with it an empty memory of
//! verified chains.

mod concern;
mod files;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use certbind_proto::cert::{CertFault, Certificate, Criticality, Extension, PublicKey};
use certbind_proto::crl::{Crl, CrlFault};
use certbind_proto::time::Timestamp;
use quick_cache::sync::Cache;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, TrustAnchor};
use webpki::{CertRevocationList, OwnedCertRevocationList};

use super::chain::{ChainFault, Verdict};
pub use concern::Concern;
pub use files::{Files, FilesFault, Refreshed};

/// How many verified chains a group remembers.
const REMEMBERED_CHAINS: usize = 4096;

/// The rules of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What a revocation list past its `nextUpdate` means.
    pub crl_stale: CrlStale,
    /// What a certificate without extended key usage means.
    pub client_auth_eku: ClientAuthEku,
    /// How many CA certificates may stand between the client's and the anchor; self-issued ones do not count
    /// (RFC 5280 §4.2.1.9).
    pub max_chain_depth: u8,
}

impl Default for Policy {
    fn default() -> Self {
        Self { crl_stale: CrlStale::Refuse, client_auth_eku: ClientAuthEku::Required, max_chain_depth: 5 }
    }
}

/// What a revocation list past its `nextUpdate` means (RFC 5280 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrlStale {
    /// No certificate of its issuer is accepted.
    Refuse,
    /// Its entries still count, and [`super::VerifiedChain::is_crl_stale`] tells.
    Warn,
}

/// What a certificate without extended key usage means (RFC 5280 §4.2.1.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuthEku {
    /// Refused: the extension has to be there and to name `clientAuth`.
    Required,
    /// Accepted; when the extension is there, it has to name `clientAuth`.
    RequiredIfPresent,
}

/// Why a group is not loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustFault {
    /// Basic constraints of an anchor are not critical (RFC 5280 §4.2.1.9).
    #[error("a trust anchor has basic constraints that are not critical (RFC 5280 §4.2.1.9)")]
    AnchorBasicConstraintsNotCritical,
    /// An anchor has a critical extension that is not understood, or that must not be critical (RFC 5280 §4.2).
    #[error("a trust anchor has a critical extension that is not understood (RFC 5280 §4.2)")]
    AnchorCriticalExtension,
    /// An anchor is past its validity.
    #[error("a trust anchor has expired")]
    AnchorExpired,
    /// An anchor has an RSA key below 2048 bits, a small curve, or a key of another kind.
    #[error("a trust anchor has a key that is too weak or of an unknown kind")]
    AnchorKeyTooWeak,
    /// The key usage of an anchor is without `keyCertSign` (RFC 5280 §4.2.1.3).
    #[error("a trust anchor may not sign certificates: key usage without keyCertSign (RFC 5280 §4.2.1.3)")]
    AnchorKeyUsage,
    /// An anchor cannot be read.
    #[error("a trust anchor cannot be read: {0}")]
    AnchorMalformed(CertFault),
    /// An anchor without subject (RFC 5280 §4.1.2.6).
    #[error("a trust anchor has an empty subject (RFC 5280 §4.1.2.6)")]
    AnchorNameless,
    /// An anchor that is not `CA:TRUE`: a pinned leaf would accept whoever copies its name.
    #[error("a trust anchor is not a CA certificate (RFC 5280 §4.2.1.9)")]
    AnchorNotCa,
    /// An anchor is before its validity.
    #[error("a trust anchor is good from {from} on, not yet")]
    AnchorNotYetValid {
        /// Its notBefore.
        from: Timestamp,
    },
    /// webpki cannot use the anchor.
    #[error("a trust anchor is not supported")]
    AnchorUnsupported,
    /// A revocation list cannot be read.
    #[error("a revocation list cannot be read: {0}")]
    Crl(CrlFault),
    /// The list is of an anchor whose key usage is without `cRLSign` (RFC 5280 §4.2.1.3).
    #[error("a revocation list is of a CA that may not sign any: key usage without cRLSign (RFC 5280 §4.2.1.3)")]
    CrlIssuerKeyUsage,
    /// A delta or indirect list, one for some reasons only, or one with unknown critical extensions (RFC 5280 §5.2).
    #[error("a revocation list is not supported: delta, indirect, partitioned by reason, or malformed (RFC 5280 §5.2)")]
    CrlUnsupported,
    /// No anchor: nobody would be accepted, and nobody told why.
    #[error("the trust group has no anchor")]
    NoAnchor,
}

/// Who may vouch, and by which rules.
pub struct TrustGroup {
    name: String,
    policy: Policy,
    files: Option<Files>,
    snapshot: ArcSwap<Snapshot>,
    /// What was told of its lists and is so still.
    told: Mutex<Vec<Concern>>,
}

impl TrustGroup {
    /// A group over certificates and revocation lists in DER.
    ///
    /// # Errors
    /// [`TrustFault`] for the first anchor or list that must not be used; a group is never loaded in part.
    pub fn new(
        name: &str,
        policy: Policy,
        anchors: Vec<CertificateDer<'static>>,
        crls: &[CertificateRevocationListDer<'_>],
        now: Timestamp,
    ) -> Result<Self, TrustFault> {
        let snapshot = ArcSwap::from_pointee(Snapshot::new(anchors, crls, &[], now)?);
        Ok(Self { name: name.to_owned(), policy, files: None, snapshot, told: Mutex::default() })
    }

    /// The same, which [`TrustGroup::refresh`] holds against these files from now on. It was made from them.
    #[must_use]
    pub fn following(self, files: Files) -> Self {
        Self { files: Some(files), ..self }
    }

    /// Reads the files again if one of them is another one than before (inode, size, times), or if time has made good what
    /// was not. What is bad changes nothing: the old anchors and lists stay in force. Waits on the disk, so not for an async task.
    ///
    /// # Errors
    /// [`FilesFault`], once for each bad state of the files.
    pub fn refresh(&self, now: Timestamp) -> Result<Refreshed, FilesFault> {
        let Some(files) = &self.files else { return Ok(Refreshed::Unchanged) };
        let Some((anchors, crls)) = files.read_if_changed(now)? else { return Ok(Refreshed::Unchanged) };
        let taken = self.replace(anchors, &crls, now);
        if let Err(TrustFault::AnchorNotYetValid { from }) = taken {
            files.read_again_at(from);
        }
        taken?;
        Ok(Refreshed::Changed)
    }

    /// Takes other anchors and lists from now on, for open connections too. An anchor that is in force may have expired
    /// since: it vouches for nobody, and must not keep a newer list out.
    ///
    /// # Errors
    /// [`TrustFault`]; then nothing has changed.
    pub fn replace(
        &self,
        anchors: Vec<CertificateDer<'static>>,
        crls: &[CertificateRevocationListDer<'_>],
        now: Timestamp,
    ) -> Result<(), TrustFault> {
        let in_force = self.snapshot();
        let mut new = Snapshot::new(anchors, crls, &in_force.certificates, now)?;
        new.older = concern::older(&new.crls, &in_force.crls);
        self.snapshot.store(Arc::new(new));
        Ok(())
    }

    /// What is odd about the lists in force.
    #[must_use]
    pub fn concerns(&self, now: Timestamp) -> Vec<Concern> {
        let snapshot = self.snapshot.load();
        concern::stale(&snapshot.crls, now, self.policy.crl_stale).chain(snapshot.older.iter().cloned()).collect()
    }

    /// What of it was not so when this was asked before.
    #[must_use]
    pub fn new_concerns(&self, now: Timestamp) -> Vec<Concern> {
        let concerns = self.concerns(now);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let new = concerns.iter().filter(|concern| !told.contains(concern)).cloned().collect();
        *told = concerns;
        new
    }

    /// The name that clients say.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its rules.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// When the first of its revocation lists becomes stale.
    #[must_use]
    pub fn crl_next_update(&self) -> Option<Timestamp> {
        self.snapshot.load().crls.iter().map(|list| list.facts.next_update()).min()
    }

    /// The CA certificates in force.
    #[must_use]
    pub fn anchors(&self) -> Vec<Certificate> {
        self.snapshot.load().certificates.clone()
    }

    /// The revocation lists in force.
    #[must_use]
    pub fn revocation_lists(&self) -> Vec<Crl> {
        self.snapshot.load().crls.iter().map(|list| list.facts.clone()).collect()
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }
}

/// Every group by its name.
#[derive(Default)]
pub struct TrustGroups {
    groups: ArcSwap<BTreeMap<String, Arc<TrustGroup>>>,
}

impl TrustGroups {
    /// These groups.
    #[must_use]
    pub fn new(groups: impl IntoIterator<Item = Arc<TrustGroup>>) -> Self {
        let all = Self::default();
        all.replace(groups);
        all
    }

    /// Takes other groups from now on.
    pub fn replace(&self, groups: impl IntoIterator<Item = Arc<TrustGroup>>) {
        let named = groups.into_iter().map(|group| (group.name.clone(), group));
        self.groups.store(Arc::new(named.collect()));
    }

    /// The group with this name.
    ///
    /// # Errors
    /// [`ChainFault::TrustGroupUnknown`] when a reload took it away.
    pub fn group(&self, name: &str) -> Result<Arc<TrustGroup>, ChainFault> {
        self.groups.load().get(name).cloned().ok_or(ChainFault::TrustGroupUnknown)
    }

    /// One of them, no matter which.
    #[must_use]
    pub fn any(&self) -> Option<Arc<TrustGroup>> {
        self.groups.load().values().next().cloned()
    }

    /// All of them, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<TrustGroup>> {
        self.groups.load().values().cloned().collect()
    }
}

/// Anchors and revocation lists that were loaded together, with the chains that were verified against them.
pub(super) struct Snapshot {
    pub(super) anchors: Vec<TrustAnchor<'static>>,
    pub(super) certificates: Vec<Certificate>,
    pub(super) crls: Vec<LoadedCrl>,
    /// What took the place of something newer.
    older: Vec<Concern>,
    /// By the digest of the whole chain. Only accepted chains: a refused one is looked at again.
    pub(super) verified: Cache<[u8; 32], Verdict>,
}

/// A revocation list: for webpki, and what webpki does not tell.
pub(super) struct LoadedCrl {
    pub(super) list: CertRevocationList<'static>,
    pub(super) facts: Crl,
}

impl LoadedCrl {
    /// Whether both say of the same certificates whether they are revoked.
    fn is_for_the_same(&self, other: &Self) -> bool {
        other.facts.issuer_der() == self.facts.issuer_der()
            && other.list.issuing_distribution_point() == self.list.issuing_distribution_point()
    }
}

impl Snapshot {
    fn new(
        anchors: Vec<CertificateDer<'static>>,
        crls: &[CertificateRevocationListDer<'_>],
        in_force: &[Certificate],
        now: Timestamp,
    ) -> Result<Self, TrustFault> {
        if anchors.is_empty() {
            return Err(TrustFault::NoAnchor);
        }
        let certificates = anchors.iter().map(|der| load_anchor(der, in_force, now)).collect::<Result<Vec<_>, _>>()?;
        let crls = crls.iter().map(|der| load_crl(der, &certificates)).collect::<Result<Vec<_>, _>>()?;
        let crls = newest_of_each(crls);
        let anchors = anchors.iter().map(|der| Ok(webpki::anchor_from_trusted_cert(der)?.to_owned()));
        let anchors = anchors.collect::<Result<_, webpki::Error>>().map_err(|_| TrustFault::AnchorUnsupported)?;
        Ok(Self { anchors, certificates, crls, older: Vec::new(), verified: Cache::new(REMEMBERED_CHAINS) })
    }
}

/// One list for each issuer and distribution point: webpki asks the first that fits, and an older one would be both
/// incomplete and stale.
fn newest_of_each(mut crls: Vec<LoadedCrl>) -> Vec<LoadedCrl> {
    crls.sort_by_key(|crl| std::cmp::Reverse(crl.facts.this_update()));
    let mut newest: Vec<LoadedCrl> = Vec::with_capacity(crls.len());
    for crl in crls {
        if !newest.iter().any(|other| other.is_for_the_same(&crl)) {
            newest.push(crl);
        }
    }
    newest
}

fn load_anchor(der: &[u8], in_force: &[Certificate], now: Timestamp) -> Result<Certificate, TrustFault> {
    if let Some(known) = in_force.iter().find(|known| known.der().as_ref() == der) {
        return Ok(known.clone());
    }
    let anchor = Certificate::parse(der).map_err(TrustFault::AnchorMalformed)?;
    if anchor.subject().is_empty() {
        return Err(TrustFault::AnchorNameless);
    }
    if !anchor.is_ca() {
        return Err(TrustFault::AnchorNotCa);
    }
    if anchor.extension(Extension::BasicConstraints) != Some(Criticality::Critical) {
        return Err(TrustFault::AnchorBasicConstraintsNotCritical);
    }
    if anchor.key_usage().is_some_and(|usage| !usage.key_cert_sign) {
        return Err(TrustFault::AnchorKeyUsage);
    }
    if has_wrong_critical_extension(&anchor) {
        return Err(TrustFault::AnchorCriticalExtension);
    }
    if !is_strong(anchor.public_key()) {
        return Err(TrustFault::AnchorKeyTooWeak);
    }
    if anchor.is_not_yet_valid(now) {
        return Err(TrustFault::AnchorNotYetValid { from: anchor.not_before() });
    }
    if anchor.is_expired(now) { Err(TrustFault::AnchorExpired) } else { Ok(anchor) }
}

fn load_crl(der: &[u8], anchors: &[Certificate]) -> Result<LoadedCrl, TrustFault> {
    let facts = Crl::parse(der).map_err(TrustFault::Crl)?;
    let list = OwnedCertRevocationList::from_der(der).map_err(|_| TrustFault::CrlUnsupported)?;
    // webpki looks at the key usage of intermediates, and never at that of an anchor.
    let may_not_sign = |anchor: &Certificate| anchor.key_usage().is_some_and(|usage| !usage.crl_sign);
    if anchors.iter().any(|anchor| anchor.subject_der() == facts.issuer_der() && may_not_sign(anchor)) {
        return Err(TrustFault::CrlIssuerKeyUsage);
    }
    Ok(LoadedCrl { list: list.into(), facts })
}

/// A critical extension that nobody here understands, or one that must never be critical (RFC 5280 §4.2.1.1, §4.2.1.2,
/// §4.2.2.1).
pub(super) fn has_wrong_critical_extension(certificate: &Certificate) -> bool {
    const NEVER_CRITICAL: [Extension; 3] =
        [Extension::AuthorityInformationAccess, Extension::AuthorityKeyIdentifier, Extension::SubjectKeyIdentifier];
    certificate.has_unknown_critical_extension()
        || NEVER_CRITICAL.iter().any(|extension| certificate.extension(*extension) == Some(Criticality::Critical))
}

/// RSA of 2048 bits or more, a curve of 224 bits or more (RFC 9325 §4.5). RSA beyond 8192 bits costs the server more
/// than it gives anybody.
pub(super) const fn is_strong(key: PublicKey) -> bool {
    match key {
        PublicKey::Ec(_) | PublicKey::Ed25519 => true,
        PublicKey::Other => false,
        PublicKey::Rsa { bits } => 2048 <= bits && bits <= 8192,
    }
}
