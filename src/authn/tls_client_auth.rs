//! `tls_client_auth`: a CA of the client's trust group vouches for the one name that is registered (RFC 8705 §2.1).

use certbind_proto::cert::PeerCert;
use certbind_proto::subject::Subject;
use certbind_proto::time::Timestamp;

use super::chain::{self, ChainFault, VerifiedChain};
use super::trust::TrustGroup;

/// First the chain, then the name: a name that nobody vouches for is no name.
pub(super) fn check(
    certificate: Option<&PeerCert>,
    subject: &Subject,
    group: &TrustGroup,
    now: Timestamp,
) -> Result<VerifiedChain, ChainFault> {
    let peer = certificate.ok_or(ChainFault::Missing)?;
    let chain = chain::check(peer, group, now)?;
    subject.check(peer.leaf()?)?;
    Ok(chain)
}

#[cfg(test)]
mod tests {
    use certbind_devpki::{Issuer, LeafSpec, Validity, rdn};
    use certbind_proto::subject::{SubjectKind, SubjectMismatch};

    use super::*;
    use crate::authn::trust::Policy;

    const VALIDITY: Validity = Validity::days_from(1_795_305_600, 30);
    const NOW: Timestamp = Timestamp::from_unix(1_795_305_660);

    fn group(ca: &Issuer) -> TrustGroup {
        TrustGroup::new("test", Policy::default(), vec![ca.certificate().clone()], &[], NOW).unwrap()
    }

    #[test]
    fn rfc8705_2_1_the_chain_and_the_name_have_to_be_right() {
        let ca = Issuer::root("ca", VALIDITY).unwrap();
        let stranger = Issuer::root("ca", VALIDITY).unwrap();
        let subject = Subject::parse(SubjectKind::SanDns, "billing.example").unwrap();
        let named = |name| LeafSpec::client("billing", VALIDITY).dns(name);
        let only_common_name =
            LeafSpec { subject: vec![rdn("CN", "billing.example")], ..LeafSpec::client("", VALIDITY) };
        for (what, issuer, spec, expected) in [
            ("right", &ca, named("billing.example"), None),
            ("another name", &ca, named("ledger.example"), Some(SubjectMismatch::SanDiffers.into())),
            ("a wildcard", &ca, named("*.example"), Some(SubjectMismatch::SanDiffers.into())),
            ("the common name", &ca, only_common_name, Some(SubjectMismatch::SanMissing.into())),
            ("another CA", &stranger, named("billing.example"), Some(ChainFault::Untrusted)),
        ] {
            let peer = PeerCert::from_chain(issuer.leaf(&spec).unwrap().chain().to_vec());
            assert_eq!(check(peer.as_ref(), &subject, &group(&ca), NOW).err(), expected, "{what}");
        }
        assert_eq!(check(None, &subject, &group(&ca), NOW).err(), Some(ChainFault::Missing));
    }

    #[test]
    fn rfc8705_2_1_a_renewed_certificate_with_the_same_name_needs_no_new_registration() {
        let ca = Issuer::root("ca", VALIDITY).unwrap();
        let subject = Subject::parse(SubjectKind::Dn, "CN=billing,O=certbind dev").unwrap();
        for _ in 0..2 {
            let leaf = ca.leaf(&LeafSpec::client("billing", VALIDITY)).unwrap();
            let peer = PeerCert::from_chain(leaf.chain().to_vec());
            assert!(check(peer.as_ref(), &subject, &group(&ca), NOW).is_ok());
        }
    }

    /// Attack: the victim's certificate is sent along as an "intermediate" (CVE-2023-2422).
    #[test]
    fn rfc8705_2_the_name_is_that_of_the_first_certificate() {
        let ca = Issuer::root("ca", VALIDITY).unwrap();
        let [own, victim] = ["own", "victim"].map(|name| ca.leaf(&LeafSpec::client(name, VALIDITY)).unwrap());
        let subject = Subject::parse(SubjectKind::Dn, "CN=victim,O=certbind dev").unwrap();
        let peer = PeerCert::from_chain(vec![own.certificate().clone(), victim.certificate().clone()]);
        let outcome = check(peer.as_ref(), &subject, &group(&ca), NOW);
        assert_eq!(outcome.err(), Some(ChainFault::Subject(SubjectMismatch::DnDiffers)));
    }
}
