//! A listener's certificate and private key: read, held against each other and against the clock.

use std::fmt;

use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use certbind_proto::cert::Certificate;
use certbind_proto::time::Timestamp;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use zeroize::Zeroizing;

use super::fault::{Concern, Fault};
use super::load::{MAX_PEM, certificate, certificates};
use super::origin::Environment;
use super::settings::IdentitySource;

/// A certificate, good when it was read, and the private key that belongs to it.
pub struct Identity {
    /// The server's own certificate and then its intermediates.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key. It is wiped when it is dropped.
    pub key: Zeroizing<PrivateKeyDer<'static>>,
    leaf: Certificate,
}

impl IdentitySource {
    /// What stands there: a pair that belongs together and whose certificate is good at `now`.
    ///
    /// # Errors
    /// Everything that is wrong, each with the key of the configuration that it is about; the keys are those of the
    /// table `listener`.
    pub fn load(
        &self,
        listener: &str,
        environment: &Environment,
        now: Timestamp,
    ) -> Result<Identity, Vec<(String, Fault)>> {
        let (of_cert, of_key) = (format!("{listener}.cert"), format!("{listener}.key"));
        let mut faults = Vec::new();
        let chain = self.certificate.read(MAX_PEM, environment).map_err(Fault::Read);
        let chain = chain.and_then(|pem| certificates(&pem)).and_then(|chain| {
            let leaf = chain.first().ok_or(Fault::CertificateUnreadable).and_then(certificate)?;
            Ok((chain, leaf))
        });
        let chain = chain.map_err(|fault| faults.push((of_cert.clone(), fault))).ok();
        let key = self.key.read_private(MAX_PEM, environment).map_err(Fault::Read);
        let key = key.and_then(|pem| private_key(&pem)).map_err(|fault| faults.push((of_key.clone(), fault))).ok();
        if let Some((_, leaf)) = &chain {
            let found = out_of_time(leaf, now).into_iter().chain(not_for_servers(leaf));
            faults.extend(found.map(|fault| (of_cert.clone(), fault)));
        }
        if let (Some((_, leaf)), Some((_, public))) = (&chain, &key)
            && !is_key_of(leaf, public)
        {
            faults.push((of_key, Fault::KeyMismatch { certificate: of_cert }));
        }
        match (chain, key) {
            (Some((chain, leaf)), Some((key, _))) if faults.is_empty() => Ok(Identity { chain, key, leaf }),
            _ => Err(faults),
        }
    }
}

impl Identity {
    /// When the certificate ends.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.leaf.not_after()
    }

    /// What is odd about it, for a listener that clients call by the name `host`.
    #[must_use]
    pub fn concerns(&self, host: Option<&str>, now: Timestamp) -> Vec<Concern> {
        let (from, until) = (self.leaf.not_before(), self.leaf.not_after());
        let left = until.since(now);
        let ending = (left < until.since(from) / 10)
            .then_some(Concern::CertificateEnding { at: until, days: left.as_secs() / 86_400 });
        let other = host.filter(|host| !names(&self.leaf, host));
        let other = other.map(|host| Concern::CertificateNamesOther { host: host.to_owned() });
        ending.into_iter().chain(other).collect()
    }
}

/// Tells nothing of the key.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("not_after", &self.leaf.not_after()).finish_non_exhaustive()
    }
}

fn out_of_time(leaf: &Certificate, now: Timestamp) -> Option<Fault> {
    if leaf.is_expired(now) {
        return Some(Fault::CertificateExpired { since: leaf.not_after() });
    }
    leaf.is_not_yet_valid(now).then(|| Fault::CertificateNotYetValid { from: leaf.not_before() })
}

/// A certificate that says nothing of its usage is for all.
fn not_for_servers(leaf: &Certificate) -> Option<Fault> {
    let usage = leaf.extended_key_usage()?;
    (!usage.any && !usage.server_auth).then_some(Fault::CertificateNotForServers)
}

/// The public key is the last thing in a SubjectPublicKeyInfo (RFC 5280 §4.1).
fn is_key_of(leaf: &Certificate, public: &[u8]) -> bool {
    leaf.spki_der().ends_with(public)
}

fn names(leaf: &Certificate, host: &str) -> bool {
    let Ok(leaf) = webpki::EndEntityCert::try_from(leaf.der()) else { return false };
    ServerName::try_from(host).is_ok_and(|host| leaf.verify_is_valid_for_subject_name(&host).is_ok())
}

/// The key, and its public half as a certificate spells it.
fn private_key(pem: &[u8]) -> Result<(Zeroizing<PrivateKeyDer<'static>>, Vec<u8>), Fault> {
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| Fault::KeyUnreadable)?;
    let public = public_half(&key).ok_or(Fault::KeyUnreadable)?;
    Ok((Zeroizing::new(key), public))
}

fn public_half(key: &PrivateKeyDer<'_>) -> Option<Vec<u8>> {
    const CURVES: [&signature::EcdsaSigningAlgorithm; 3] = [
        &signature::ECDSA_P256_SHA256_ASN1_SIGNING,
        &signature::ECDSA_P384_SHA384_ASN1_SIGNING,
        &signature::ECDSA_P521_SHA512_ASN1_SIGNING,
    ];
    let der = key.secret_der();
    let rsa = |key: RsaKeyPair| key.public_key().as_ref().to_vec();
    let ec = |key: EcdsaKeyPair| key.public_key().as_ref().to_vec();
    let ed25519 = |key: Ed25519KeyPair| key.public_key().as_ref().to_vec();
    match key {
        PrivateKeyDer::Pkcs1(_) => RsaKeyPair::from_der(der).ok().map(rsa),
        PrivateKeyDer::Sec1(_) => CURVES.iter().find_map(|c| EcdsaKeyPair::from_private_key_der(c, der).ok()).map(ec),
        PrivateKeyDer::Pkcs8(_) => (CURVES.iter().find_map(|c| EcdsaKeyPair::from_pkcs8(c, der).ok()).map(ec))
            .or_else(|| Ed25519KeyPair::from_pkcs8(der).ok().map(ed25519))
            .or_else(|| RsaKeyPair::from_pkcs8(der).ok().map(rsa)),
        _ => None,
    }
}
