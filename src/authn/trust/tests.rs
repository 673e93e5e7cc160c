use std::fs;
use std::path::Path;

use certbind_devpki::{CaSpec, CrlSpec, Extension as DevExtension, Identity, Issuer, KeyUsage, LeafSpec, Validity};
use certbind_proto::cert::PeerCert;

use super::*;
use crate::authn::chain;

const BEGIN: i64 = 1_795_305_600;
const VALIDITY: Validity = Validity::days_from(BEGIN, 30);
const NOW: Timestamp = Timestamp::from_unix(BEGIN + 60);

fn crl(issuer: &Issuer, revoked: Vec<Vec<u8>>) -> certbind_devpki::Crl {
    issuer.crl(&CrlSpec { next_update: BEGIN + 86_400, number: 1, revoked, this_update: BEGIN }).unwrap()
}

fn load(anchors: Vec<CertificateDer<'static>>) -> Option<TrustFault> {
    TrustGroup::new("test", Policy::default(), anchors, &[], NOW).err()
}

#[test]
fn rfc5280_6_1_an_anchor_is_checked_when_it_is_loaded() {
    let good = CaSpec::new("root", VALIDITY);
    let unknown = DevExtension { oid: vec![1, 2, 3], critical: true, der: vec![5, 0] };
    for (what, spec, expected) in [
        ("good", good.clone(), None),
        ("no key usage", CaSpec { key_usage: Vec::new(), ..good.clone() }, None),
        (
            "expired",
            CaSpec { validity: Validity::days_from(BEGIN - 86_400, 1), ..good.clone() },
            Some(TrustFault::AnchorExpired),
        ),
        (
            "not yet valid",
            CaSpec { validity: Validity::days_from(BEGIN + 86_400, 1), ..good.clone() },
            Some(TrustFault::AnchorNotYetValid { from: Timestamp::from_unix(BEGIN + 86_400) }),
        ),
        (
            "no keyCertSign",
            CaSpec { key_usage: vec![KeyUsage::DigitalSignature], ..good.clone() },
            Some(TrustFault::AnchorKeyUsage),
        ),
        (
            "an unknown critical extension",
            CaSpec { extensions: vec![unknown], ..good.clone() },
            Some(TrustFault::AnchorCriticalExtension),
        ),
    ] {
        assert_eq!(load(vec![Issuer::new_ca(&spec).unwrap().certificate().clone()]), expected, "{what}");
    }
    let leaf = Identity::self_signed(&LeafSpec::client("pinned", VALIDITY)).unwrap();
    let root = Issuer::new_ca(&good).unwrap();
    assert_eq!(load(vec![root.certificate().clone(), leaf.certificate().clone()]), Some(TrustFault::AnchorNotCa));
    assert_eq!(load(Vec::new()), Some(TrustFault::NoAnchor));
    assert_eq!(load(vec![vec![0x30, 0].into()]), Some(TrustFault::AnchorMalformed(CertFault::NotACertificate)));
}

/// Attacks: RUSTSEC-2026-0104 (a list whose onlySomeReasons is empty), delta lists, lists by who may not sign them.
#[test]
fn rfc5280_5_2_a_list_is_checked_when_it_is_loaded() {
    let root = Issuer::root("root", VALIDITY).unwrap();
    let may_not = CaSpec { key_usage: vec![KeyUsage::KeyCertSign], ..CaSpec::new("root", VALIDITY) };
    let may_not = Issuer::new_ca(&may_not).unwrap();
    let good = crl(&root, Vec::new()).der().to_vec();
    // The authority key identifier of the list becomes another extension; nobody looks at the signature while loading.
    let key_identifier = [0x55, 0x1d, 0x23];
    let at = good.windows(3).position(|window| window == key_identifier).unwrap();
    let with = |last: u8, value: &[u8]| {
        let mut der = good.clone();
        der[at + 2] = last;
        der[at + 7..at + 7 + value.len()].copy_from_slice(value);
        der
    };
    assert_eq!(good[at + 7], 0x80, "the key identifier stands where the test expects it");
    let load = |anchor: &Issuer, der: Vec<u8>| {
        let anchors = vec![anchor.certificate().clone()];
        TrustGroup::new("test", Policy::default(), anchors, &[der.into()], NOW).err()
    };
    for (what, anchor, der, expected) in [
        ("good", &root, good.clone(), None),
        ("delta", &root, with(27, &[]), Some(TrustFault::CrlUnsupported)),
        ("an empty set of reasons", &root, with(28, &[0x83, 0, 0x82, 18]), Some(TrustFault::CrlUnsupported)),
        ("no cRLSign", &may_not, good.clone(), Some(TrustFault::CrlIssuerKeyUsage)),
        ("nothing", &root, Vec::new(), Some(TrustFault::Crl(CrlFault::NotDer))),
        ("a certificate", &root, root.certificate().to_vec(), Some(TrustFault::Crl(CrlFault::NotACrl))),
    ] {
        assert_eq!(load(anchor, der), expected, "{what}");
    }
}

/// Attack: the CA of tenant B issues a certificate with the names of tenant A.
#[test]
fn rfc8705_7_4_each_group_has_its_own_anchors() {
    let (a, b) = (Issuer::root("root a", VALIDITY).unwrap(), Issuer::root("root b", VALIDITY).unwrap());
    let group = |name, issuer: &Issuer| {
        Arc::new(TrustGroup::new(name, Policy::default(), vec![issuer.certificate().clone()], &[], NOW).unwrap())
    };
    let groups = TrustGroups::new([group("a", &a), group("b", &b)]);
    let leaf = b.leaf(&LeafSpec::client("of tenant a", VALIDITY)).unwrap();
    let peer = PeerCert::from_chain(leaf.chain().to_vec()).unwrap();
    assert!(chain::check(&peer, &groups.group("b").unwrap(), NOW).is_ok());
    assert_eq!(chain::check(&peer, &groups.group("a").unwrap(), NOW), Err(ChainFault::Untrusted));
    assert_eq!(groups.group("c").err(), Some(ChainFault::TrustGroupUnknown));
    assert_eq!((groups.all().len(), groups.any().unwrap().name().to_owned()), (2, "a".to_owned()));
    groups.replace([group("b", &b)]);
    assert_eq!(groups.group("a").err(), Some(ChainFault::TrustGroupUnknown));
}

/// Writes beside and renames, as those do who replace a file at once.
fn put(path: &Path, content: &[u8]) {
    let beside = path.with_extension("new");
    fs::write(&beside, content).unwrap();
    fs::rename(beside, path).unwrap();
}

/// A group that follows these files and has not read them yet.
fn unread(ca: &Path, crls: &[&Path]) -> TrustGroup {
    let crls = crls.iter().map(|path| (*path).to_owned()).collect();
    let any = Issuer::root("any", VALIDITY).unwrap();
    let group = TrustGroup::new("test", Policy::default(), vec![any.certificate().clone()], &[], NOW).unwrap();
    group.following(Files::read_before(ca.to_owned(), crls, &[]))
}

/// One that has.
fn over(ca: &Path, crls: &[&Path]) -> TrustGroup {
    let group = unread(ca, crls);
    assert_eq!(group.refresh(NOW).unwrap(), Refreshed::Changed);
    group
}

#[test]
fn rfc5280_6_3_files_are_read_again_when_they_change_and_a_bad_file_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, list) = (dir.path().join("ca.pem"), dir.path().join("ca.crl"));
    let root = Issuer::root("root", VALIDITY).unwrap();
    let leaf = root.leaf(&LeafSpec::client("billing", VALIDITY)).unwrap();
    let peer = PeerCert::from_chain(leaf.chain().to_vec()).unwrap();
    put(&ca, root.certificate_pem().as_bytes());
    put(&list, crl(&root, Vec::new()).pem().as_bytes());
    let group = over(&ca, &[&list]);
    let outcome = || chain::check(&peer, &group, NOW).err();
    assert_eq!((outcome(), group.refresh(NOW).unwrap()), (None, Refreshed::Unchanged));

    put(&list, crl(&root, vec![leaf.serial().to_vec()]).der());
    assert_eq!(outcome(), None);
    assert_eq!(group.refresh(NOW).unwrap(), Refreshed::Changed);
    assert_eq!(outcome(), Some(ChainFault::Revoked));

    for bad in [&b"nonsense"[..], b"", b"-----BEGIN X509 CRL-----\n?\n-----END X509 CRL-----\n", &[0x30, 0]] {
        put(&list, bad);
        assert!(group.refresh(NOW).is_err());
        assert_eq!(group.refresh(NOW).unwrap(), Refreshed::Unchanged, "a bad state is reported once");
        assert_eq!(outcome(), Some(ChainFault::Revoked));
    }
    fs::remove_file(&list).unwrap();
    assert!(matches!(group.refresh(NOW), Err(FilesFault::Read { .. })));
    assert_eq!(outcome(), Some(ChainFault::Revoked));

    put(&list, crl(&root, Vec::new()).der());
    assert_eq!((group.refresh(NOW).unwrap(), outcome()), (Refreshed::Changed, None));
    put(&ca, Issuer::root("other", VALIDITY).unwrap().certificate());
    assert_eq!((group.refresh(NOW).unwrap(), outcome()), (Refreshed::Changed, Some(ChainFault::Untrusted)));
}

#[test]
fn p5_an_anchor_of_tomorrow_is_taken_tomorrow_without_a_touch_of_its_file() {
    const DAY: i64 = 86_400;
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    let root = Issuer::root("root", VALIDITY).unwrap();
    put(&ca, root.certificate_pem().as_bytes());
    let group = over(&ca, &[]);
    let next = Issuer::root("next", Validity::days_from(BEGIN + DAY, 30)).unwrap();
    put(&ca, (root.certificate_pem() + &next.certificate_pem()).as_bytes());
    assert!(group.refresh(NOW).unwrap_err().to_string().contains("not yet"));
    let at = |seconds| group.refresh(Timestamp::from_unix(BEGIN + seconds)).unwrap();
    assert_eq!([at(DAY - 1), at(DAY), at(DAY + 1)], [Refreshed::Unchanged, Refreshed::Changed, Refreshed::Unchanged]);
}

#[test]
fn files_that_are_not_there_or_without_an_anchor_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    let group = unread(&ca, &[]);
    let refused = || group.refresh(NOW).unwrap_err();
    assert!(matches!(refused(), FilesFault::Read { .. }));
    put(&ca, b"# no certificate here\n");
    assert!(matches!(refused(), FilesFault::Trust(TrustFault::NoAnchor)));
    put(&ca, b"-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n");
    assert!(matches!(refused(), FilesFault::Pem { .. }));
}

#[test]
fn rfc5280_6_3_a_list_that_was_rewritten_in_place_counts_whatever_its_size_and_time() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, list) = (dir.path().join("ca.pem"), dir.path().join("ca.crl"));
    let root = Issuer::root("root", VALIDITY).unwrap();
    let [kept, revoked] = [(); 2].map(|()| root.leaf(&LeafSpec::client("billing", VALIDITY)).unwrap());
    put(&ca, root.certificate());
    let of_one_size = |revoked: &Identity| format!("{:\n<2000}", crl(&root, vec![revoked.serial().to_vec()]).pem());
    put(&list, of_one_size(&kept).as_bytes());
    let group = over(&ca, &[&list]);

    let written = fs::metadata(&list).unwrap();
    fs::write(&list, of_one_size(&revoked)).unwrap();
    fs::File::options().write(true).open(&list).unwrap().set_modified(written.modified().unwrap()).unwrap();
    assert_eq!(group.refresh(NOW).unwrap(), Refreshed::Changed);
    let peer = PeerCert::from_chain(revoked.chain().to_vec()).unwrap();
    assert_eq!(chain::check(&peer, &group, NOW).err(), Some(ChainFault::Revoked));
}

/// Of two anchors one expires while the server runs; the revocations of the other go on to count.
#[test]
fn rfc5280_6_3_an_anchor_that_has_expired_does_not_keep_a_newer_list_out() {
    let short = Issuer::root("short", Validity::days_from(BEGIN, 1)).unwrap();
    let root = Issuer::root("root", VALIDITY).unwrap();
    let leaf = root.leaf(&LeafSpec::client("billing", VALIDITY)).unwrap();
    let peer = PeerCert::from_chain(leaf.chain().to_vec()).unwrap();
    let anchors = vec![short.certificate().clone(), root.certificate().clone()];
    let list = |revoked| {
        let spec = CrlSpec { next_update: BEGIN + 20 * 86_400, number: 1, revoked, this_update: BEGIN };
        vec![CertificateRevocationListDer::from(root.crl(&spec).unwrap().der().to_vec())]
    };
    let group = TrustGroup::new("test", Policy::default(), anchors.clone(), &list(Vec::new()), NOW).unwrap();
    let later = Timestamp::from_unix(BEGIN + 3 * 86_400);
    assert_eq!(chain::check(&peer, &group, later).err(), None);
    group.replace(anchors.clone(), &list(vec![leaf.serial().to_vec()]), later).unwrap();
    assert_eq!(chain::check(&peer, &group, later).err(), Some(ChainFault::Revoked));

    let of_short = short.leaf(&LeafSpec::client("billing", VALIDITY)).unwrap();
    let of_short = PeerCert::from_chain(of_short.chain().to_vec()).unwrap();
    group.replace(anchors.clone(), &[], later).unwrap();
    assert_eq!(chain::check(&of_short, &group, later).err(), Some(ChainFault::AnchorNotValid));
    let fresh = TrustGroup::new("test", Policy::default(), anchors, &list(Vec::new()), later);
    assert_eq!(fresh.err(), Some(TrustFault::AnchorExpired), "a server does not start with it");
}
