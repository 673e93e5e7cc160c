use certbind_devpki::{
    Basic, CaSpec, CrlSpec, Eku, Extension as DevExtension, Identity, Issuer, KeyAlgorithm, KeyUsage, LeafSpec,
    Validity, Version,
};
use certbind_proto::cert::PublicKey;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

use super::*;

const BEGIN: i64 = 1_795_305_600;
const DAY: i64 = 86_400;
const VALIDITY: Validity = Validity::days_from(BEGIN, 30);
const NOW: Timestamp = Timestamp::from_unix(BEGIN + DAY);

struct Pki {
    root: Issuer,
    intermediate: Issuer,
}

fn pki() -> Pki {
    let root = Issuer::root("root", VALIDITY).unwrap();
    let intermediate = root.intermediate(&CaSpec::new("intermediate", VALIDITY)).unwrap();
    Pki { root, intermediate }
}

fn client() -> LeafSpec {
    LeafSpec::client("billing", VALIDITY).uri("spiffe://d/billing").dns("billing.example")
}

fn peer(identity: &Identity) -> PeerCert {
    PeerCert::from_chain(identity.chain().to_vec()).unwrap()
}

fn group_of(anchors: &[&Issuer], policy: Policy, crls: &[CertificateRevocationListDer<'static>]) -> TrustGroup {
    let anchors = anchors.iter().map(|issuer| issuer.certificate().clone()).collect();
    TrustGroup::new("test", policy, anchors, crls, NOW).unwrap()
}

fn group(anchor: &Issuer) -> TrustGroup {
    group_of(&[anchor], Policy::default(), &[])
}

fn list(issuer: &Issuer, from: i64, until: i64, revoked: &[&[u8]]) -> CertificateRevocationListDer<'static> {
    let revoked = revoked.iter().map(|serial| serial.to_vec()).collect();
    issuer.crl(&CrlSpec { next_update: until, number: 1, revoked, this_update: from }).unwrap().der().clone()
}

fn current(issuer: &Issuer, revoked: &[&[u8]]) -> CertificateRevocationListDer<'static> {
    list(issuer, BEGIN, BEGIN + 7 * DAY, revoked)
}

fn extension(oid: &[u64], critical: bool, der: &[u8]) -> DevExtension {
    DevExtension { oid: oid.to_vec(), critical, der: der.to_vec() }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(seconds)
}

#[test]
fn rfc8705_2_1_a_chain_to_an_anchor_is_accepted() {
    let pki = pki();
    let group = group(&pki.root);
    for (issuer, depth) in [(&pki.root, 0), (&pki.intermediate, 1)] {
        let chain = check(&peer(&issuer.leaf(&client()).unwrap()), &group, NOW).unwrap();
        assert_eq!((chain.depth(), chain.is_crl_stale(), chain.not_after()), (depth, false, at(VALIDITY.not_after)));
    }
    for algorithm in [KeyAlgorithm::Ed25519, KeyAlgorithm::P384, KeyAlgorithm::Rsa2048] {
        let leaf = pki.intermediate.leaf(&client().key(algorithm)).unwrap();
        assert!(check(&peer(&leaf), &group, NOW).is_ok(), "{algorithm:?}");
    }
}

#[test]
fn rfc5280_6_1_a_certificate_that_is_not_fit_for_a_client_is_refused_by_its_fact() {
    let pki = pki();
    let group = group(&pki.root);
    let policies = [0x30, 5, 0x30, 3, 6, 1, 0x2a];
    let cases: Vec<(&str, LeafSpec, ChainFault)> = vec![
        ("serverAuth only", LeafSpec { eku: vec![Eku::ServerAuth], ..client() }, ChainFault::EkuWithoutClientAuth),
        ("any", LeafSpec { eku: vec![Eku::Any], ..client() }, ChainFault::EkuAny),
        ("any besides", LeafSpec { eku: vec![Eku::ClientAuth, Eku::Any], ..client() }, ChainFault::EkuAny),
        ("no EKU", LeafSpec { eku: Vec::new(), ..client() }, ChainFault::EkuMissing),
        (
            "keyEncipherment only",
            LeafSpec { key_usage: vec![KeyUsage::KeyEncipherment], ..client() },
            ChainFault::KeyUsageForbids,
        ),
        (
            "keyCertSign",
            LeafSpec { key_usage: vec![KeyUsage::DigitalSignature, KeyUsage::KeyCertSign], ..client() },
            ChainFault::KeyUsageCertSign,
        ),
        ("CA:TRUE", LeafSpec { basic: Basic::Ca, ..client() }, ChainFault::CaAsLeaf),
        (
            "an unknown critical extension",
            LeafSpec { extensions: vec![extension(&[1, 2, 3], true, &[5, 0])], ..client() },
            ChainFault::CriticalExtension,
        ),
        (
            "critical policies",
            LeafSpec { extensions: vec![extension(&[2, 5, 29, 32], true, &policies)], ..client() },
            ChainFault::CriticalExtension,
        ),
        (
            "an extension that must not be critical",
            LeafSpec { extensions: vec![extension(&[1, 3, 6, 1, 5, 5, 7, 1, 1], true, &[0x30, 0])], ..client() },
            ChainFault::CriticalExtension,
        ),
        (
            "name constraints",
            LeafSpec { extensions: vec![extension(&[2, 5, 29, 30], true, &[0x30, 0])], ..client() },
            ChainFault::Profile,
        ),
        ("serial zero", LeafSpec { serial: Some(vec![0]), ..client() }, ChainFault::Profile),
        (
            "a DNS name with a NUL",
            LeafSpec {
                sans: Vec::new(),
                extensions: vec![extension(&[2, 5, 29, 17], false, b"\x30\x05\x82\x03a\0b")],
                ..client()
            },
            ChainFault::Malformed(CertFault::SanNul),
        ),
    ];
    for (what, spec, fault) in cases {
        assert_eq!(check(&peer(&pki.intermediate.leaf(&spec).unwrap()), &group, NOW), Err(fault), "{what}");
    }
    let no_usage = LeafSpec { key_usage: Vec::new(), ..client() };
    assert!(check(&peer(&pki.intermediate.leaf(&no_usage).unwrap()), &group, NOW).is_ok());
    let version_1 = Identity::self_signed(&LeafSpec { version: Version::V1, ..client() }).unwrap();
    let required_if_present = Policy { client_auth_eku: ClientAuthEku::RequiredIfPresent, ..Policy::default() };
    let tolerant = group_of(&[&pki.root], required_if_present, &[]);
    assert_eq!(check(&peer(&version_1), &tolerant, NOW), Err(ChainFault::Untrusted));
}

#[test]
fn rfc5280_4_2_1_12_extended_key_usage_may_be_absent_where_the_group_says_so() {
    let pki = pki();
    let policy = Policy { client_auth_eku: ClientAuthEku::RequiredIfPresent, ..Policy::default() };
    let group = group_of(&[&pki.root], policy, &[]);
    for (eku, expected) in [
        (Vec::new(), None),
        (vec![Eku::ClientAuth, Eku::ServerAuth], None),
        (vec![Eku::ServerAuth], Some(ChainFault::EkuWithoutClientAuth)),
        (vec![Eku::Any], Some(ChainFault::EkuAny)),
    ] {
        let leaf = pki.intermediate.leaf(&LeafSpec { eku, ..client() }).unwrap();
        assert_eq!(check(&peer(&leaf), &group, NOW).err(), expected);
    }
}

#[test]
fn rfc5280_4_1_2_5_validity_has_no_skew_and_includes_both_ends() {
    let pki = pki();
    let group = group(&pki.root);
    let leaf = peer(&pki.intermediate.leaf(&client()).unwrap());
    for remembered in [false, true] {
        for (now, expected) in [
            (at(VALIDITY.not_before - 1), Some(ChainFault::NotYetValid)),
            (at(VALIDITY.not_before), None),
            (at(VALIDITY.not_after), None),
            (at(VALIDITY.not_after + 1), Some(ChainFault::Expired)),
        ] {
            assert_eq!(check(&leaf, &group, now).err(), expected, "{now} {remembered}");
        }
    }
}

#[test]
fn rfc8705_2_1_other_anchors_do_not_vouch() {
    let (pki, other) = (pki(), pki());
    let group = group(&pki.root);
    let stranger = other.intermediate.leaf(&client()).unwrap();
    assert_eq!(check(&peer(&stranger), &group, NOW), Err(ChainFault::Untrusted));
    let leaf = pki.intermediate.leaf(&client()).unwrap();
    let alone = PeerCert::from_chain(vec![leaf.certificate().clone()]).unwrap();
    assert_eq!(check(&alone, &group, NOW), Err(ChainFault::Untrusted));
    let chain = vec![stranger.certificate().clone(), pki.intermediate.certificate().clone()];
    assert_eq!(check(&PeerCert::from_chain(chain).unwrap(), &group, NOW), Err(ChainFault::Untrusted));
    let own = Identity::self_signed(&client()).unwrap();
    assert_eq!(check(&peer(&own), &group, NOW), Err(ChainFault::Untrusted));
}

/// Attack: a client signs a certificate for another name with its own key.
#[test]
fn rfc5280_4_2_1_9_a_client_is_no_ca() {
    let pki = pki();
    let spec = CaSpec { key_usage: vec![KeyUsage::DigitalSignature], ..CaSpec::new("half a CA", VALIDITY) };
    let half = pki.root.intermediate(&spec).unwrap();
    let leaf = half.leaf(&client()).unwrap();
    assert_eq!(check(&peer(&leaf), &group(&pki.root), NOW), Err(ChainFault::KeyUsageForbids));
}

#[test]
fn rfc5280_4_2_1_9_depth_is_bounded_by_ca_and_by_group() {
    let root = Issuer::root("root", VALIDITY).unwrap();
    let bounded = root.intermediate(&CaSpec { path_len: Some(0), ..CaSpec::new("bounded", VALIDITY) }).unwrap();
    let below = bounded.intermediate(&CaSpec::new("below", VALIDITY)).unwrap();
    let leaf = peer(&below.leaf(&client()).unwrap());
    assert_eq!(check(&leaf, &group(&root), NOW), Err(ChainFault::ChainTooLong));

    let one = root.intermediate(&CaSpec::new("one", VALIDITY)).unwrap();
    let two = one.intermediate(&CaSpec::new("two", VALIDITY)).unwrap();
    let leaf = peer(&two.leaf(&client()).unwrap());
    for (max_chain_depth, expected) in
        [(2, None), (1, Some(ChainFault::ChainTooLong)), (0, Some(ChainFault::ChainTooLong))]
    {
        let group = group_of(&[&root], Policy { max_chain_depth, ..Policy::default() }, &[]);
        assert_eq!(check(&leaf, &group, NOW).err(), expected);
    }
}

#[test]
fn rfc5280_4_2_1_10_name_constraints_hold_or_refuse() {
    let root = Issuer::root("root", VALIDITY).unwrap();
    let group = group(&root);
    let ca = |spec: CaSpec| root.intermediate(&spec).unwrap();
    let directory_name = b"\x30\x13\xa0\x11\x30\x0f\xa4\x0d\x30\x0b\x31\x09\x30\x07\x06\x03\x55\x04\x03\x0c\x00";
    let spec = || CaSpec::new("constrained", VALIDITY);
    for (what, issuer, expected) in [
        ("permitted", ca(CaSpec { permitted_dns: vec!["example".to_owned()], ..spec() }), None),
        (
            "not permitted",
            ca(CaSpec { permitted_dns: vec!["other".to_owned()], ..spec() }),
            Some(ChainFault::NameConstraint),
        ),
        (
            "excluded",
            ca(CaSpec { excluded_dns: vec!["billing.example".to_owned()], ..spec() }),
            Some(ChainFault::NameConstraint),
        ),
        (
            "a directoryName",
            ca(CaSpec { extensions: vec![extension(&[2, 5, 29, 30], true, directory_name)], ..spec() }),
            Some(ChainFault::NameConstraint),
        ),
    ] {
        assert_eq!(check(&peer(&issuer.leaf(&client()).unwrap()), &group, NOW).err(), expected, "{what}");
    }
    assert_eq!(ChainFault::NameConstraint.reason(), "name_constraint");
}

/// Policies are not processed, so a CA that constrains them is not taken for one that does not.
#[test]
fn rfc5280_4_2_1_11_policy_constraints_are_not_ignored() {
    let root = Issuer::root("root", VALIDITY).unwrap();
    let constraints = vec![extension(&[2, 5, 29, 36], false, &[0x30, 3, 0x80, 1, 0])];
    let ca = root.intermediate(&CaSpec { extensions: constraints, ..CaSpec::new("ca", VALIDITY) }).unwrap();
    assert_eq!(check(&peer(&ca.leaf(&client()).unwrap()), &group(&root), NOW), Err(ChainFault::Profile));
}

#[test]
fn rfc5280_6_3_revocation_is_decided_for_the_whole_chain() {
    let (pki, rogue) = (pki(), pki());
    let leaf = pki.intermediate.leaf(&client()).unwrap();
    let serial = leaf.serial();
    let presented = peer(&leaf);
    let intermediate = Certificate::parse(pki.intermediate.certificate()).unwrap();
    let intermediate_serial = hex(&intermediate.serial_hex());
    let good = current(&pki.root, &[]);
    for (what, lists, expected) in [
        ("not listed", vec![good.clone(), current(&pki.intermediate, &[&[1, 2, 3]])], None),
        ("revoked", vec![good.clone(), current(&pki.intermediate, &[serial])], Some(ChainFault::Revoked)),
        (
            "a revoked intermediate",
            vec![current(&pki.root, &[&intermediate_serial]), current(&pki.intermediate, &[])],
            Some(ChainFault::Revoked),
        ),
        ("the serial on another CA's list", vec![current(&pki.root, &[serial]), current(&pki.intermediate, &[])], None),
        ("no list of the intermediate", vec![good.clone()], Some(ChainFault::RevocationUnknown)),
        ("no list of the root", vec![current(&pki.intermediate, &[])], Some(ChainFault::RevocationUnknown)),
        (
            "a list signed by a CA of the same name",
            vec![good.clone(), current(&rogue.intermediate, &[])],
            Some(ChainFault::CrlUntrusted),
        ),
        ("stale", vec![good.clone(), list(&pki.intermediate, BEGIN, BEGIN + DAY, &[])], Some(ChainFault::CrlStale)),
        (
            "stale, above",
            vec![list(&pki.root, BEGIN, BEGIN + 1, &[]), current(&pki.intermediate, &[])],
            Some(ChainFault::CrlStale),
        ),
        (
            "from the future",
            vec![good.clone(), list(&pki.intermediate, BEGIN + 2 * DAY, BEGIN + 9 * DAY, &[])],
            Some(ChainFault::CrlNotYetCurrent),
        ),
        (
            "stale, and a newer one beside it",
            vec![
                good,
                list(&pki.intermediate, BEGIN, BEGIN + 1, &[]),
                list(&pki.intermediate, BEGIN + 1, BEGIN + 9 * DAY, &[serial]),
            ],
            Some(ChainFault::Revoked),
        ),
    ] {
        let group = group_of(&[&pki.root], Policy::default(), &lists);
        assert_eq!(check(&presented, &group, NOW).err(), expected, "{what}");
    }
}

/// Attack: RUSTSEC-2026-0049, a certificate with two distribution points that is revoked on the list of the second.
#[test]
fn rfc5280_6_3_3_a_list_of_any_distribution_point_of_the_certificate_counts() {
    let root = Issuer::root("root", VALIDITY).unwrap();
    let tlv = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
    let point = |uri: &str| tlv(0x30, &tlv(0xa0, &tlv(0xa0, &tlv(0x86, uri.as_bytes()))));
    let points = tlv(0x30, &[point("http://crl/1"), point("http://crl/2")].concat());
    let spec = LeafSpec { extensions: vec![extension(&[2, 5, 29, 31], false, &points)], ..client() };
    let leaf = root.leaf(&spec).unwrap();
    for (uri, revoked, expected) in [
        ("http://crl/1", &[1, 2, 3][..], None),
        ("http://crl/1", leaf.serial(), Some(ChainFault::Revoked)),
        ("http://crl/2", leaf.serial(), Some(ChainFault::Revoked)),
        ("http://crl/3", leaf.serial(), Some(ChainFault::RevocationUnknown)),
    ] {
        let group = group_of(&[&root], Policy::default(), &[partition(&root, uri, revoked)]);
        assert_eq!(check(&peer(&leaf), &group, NOW).err(), expected, "{uri}");
    }
}

/// A list for the certificates that name this distribution point.
fn partition(issuer: &Issuer, uri: &str, revoked: &[u8]) -> CertificateRevocationListDer<'static> {
    let key = rcgen::KeyPair::from_pem(&issuer.key_pem()).unwrap();
    let signer = rcgen::Issuer::from_ca_cert_der(issuer.certificate(), key).unwrap();
    let point = rcgen::CrlDistributionPoint { uris: vec![uri.to_owned()] };
    let time = |seconds| time::OffsetDateTime::from_unix_timestamp(seconds).unwrap();
    let list = rcgen::CertificateRevocationListParams {
        this_update: time(BEGIN),
        next_update: time(BEGIN + 7 * DAY),
        crl_number: 1.into(),
        issuing_distribution_point: Some(rcgen::CrlIssuingDistributionPoint { distribution_point: point, scope: None }),
        revoked_certs: vec![rcgen::RevokedCertParams {
            serial_number: rcgen::SerialNumber::from_slice(revoked),
            revocation_time: time(BEGIN),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    list.signed_by(&signer).unwrap().into()
}

#[test]
fn rfc5280_6_3_a_stale_list_may_be_tolerated_and_still_counts() {
    let pki = pki();
    let leaf = pki.intermediate.leaf(&client()).unwrap();
    let policy = Policy { crl_stale: CrlStale::Warn, ..Policy::default() };
    for (revoked, expected) in [(Vec::new(), Ok(true)), (vec![leaf.serial()], Err(ChainFault::Revoked))] {
        let lists = [current(&pki.root, &[]), list(&pki.intermediate, BEGIN, BEGIN + 1, &revoked)];
        let group = group_of(&[&pki.root], policy, &lists);
        assert_eq!(check(&peer(&leaf), &group, NOW).map(|chain| chain.is_crl_stale()), expected);
    }
}

#[test]
fn a_remembered_chain_is_still_checked_for_validity_and_revocation() {
    let pki = pki();
    let leaf = pki.intermediate.leaf(&client()).unwrap();
    let presented = peer(&leaf);
    let group = group_of(&[&pki.root], Policy::default(), &[current(&pki.root, &[]), current(&pki.intermediate, &[])]);
    assert_eq!(group.crl_next_update(), Some(at(BEGIN + 7 * DAY)));
    for _ in 0..2 {
        assert!(check(&presented, &group, NOW).is_ok());
        assert!(group.snapshot().verified.get(presented.digest()).is_some());
    }
    assert_eq!(check(&presented, &group, at(BEGIN + 7 * DAY)), Err(ChainFault::CrlStale));
    assert_eq!(check(&presented, &group, at(VALIDITY.not_after + 1)), Err(ChainFault::Expired));

    let anchors = || vec![pki.root.certificate().clone()];
    let lists = [current(&pki.root, &[]), current(&pki.intermediate, &[leaf.serial()])];
    group.replace(anchors(), &lists, NOW).unwrap();
    assert_eq!(check(&presented, &group, NOW), Err(ChainFault::Revoked));
    group.replace(anchors(), &[], NOW).unwrap();
    assert!(check(&presented, &group, NOW).is_ok());
    let other = Issuer::root("root", VALIDITY).unwrap();
    group.replace(vec![other.certificate().clone()], &[], NOW).unwrap();
    assert_eq!(check(&presented, &group, NOW), Err(ChainFault::Untrusted));
}

#[test]
fn rfc5280_6_1_an_anchor_or_intermediate_that_ends_ends_the_chain() {
    let short = Validity::days_from(BEGIN, 2);
    let root = Issuer::root("root", short).unwrap();
    let leaf = peer(&root.leaf(&client()).unwrap());
    let anchored = group(&root);
    assert!(check(&leaf, &anchored, NOW).is_ok());
    assert_eq!(check(&leaf, &anchored, at(BEGIN + 3 * DAY)), Err(ChainFault::Expired));
    let fresh = group(&root);
    assert_eq!(check(&leaf, &fresh, at(BEGIN + 3 * DAY)), Err(ChainFault::AnchorNotValid));

    let root = Issuer::root("root", VALIDITY).unwrap();
    let intermediate = root.intermediate(&CaSpec::new("short", short)).unwrap();
    let leaf = peer(&intermediate.leaf(&client()).unwrap());
    assert_eq!(check(&leaf, &group(&root), at(BEGIN + 3 * DAY)), Err(ChainFault::Expired));
}

/// Attacks: chains made to cost.
#[test]
fn a_chain_is_bounded_in_number_and_size() {
    let pki = pki();
    let leaf = pki.intermediate.leaf(&client()).unwrap();
    let padded = |certificates: usize| {
        let mut chain = leaf.chain().to_vec();
        chain.resize(certificates, pki.root.certificate().clone());
        PeerCert::from_chain(chain).unwrap()
    };
    assert!(check(&padded(MAX_CERTIFICATES), &group(&pki.root), NOW).is_ok());
    assert_eq!(check(&padded(MAX_CERTIFICATES + 1), &group(&pki.root), NOW), Err(ChainFault::ChainTooLong));
    let large = vec![leaf.certificate().clone(), CertificateDer::from(vec![0; MAX_OCTETS])];
    assert_eq!(check(&PeerCert::from_chain(large).unwrap(), &group(&pki.root), NOW), Err(ChainFault::ChainTooLong));
}

#[test]
fn rfc9325_4_5_weak_keys_and_signatures_are_refused() {
    use certbind_proto::cert::Curve;
    for (key, expected) in [
        (PublicKey::Rsa { bits: 1024 }, false),
        (PublicKey::Rsa { bits: 2047 }, false),
        (PublicKey::Rsa { bits: 2048 }, true),
        (PublicKey::Rsa { bits: 8192 }, true),
        (PublicKey::Rsa { bits: 16_384 }, false),
        (PublicKey::Ec(Curve::P224), true),
        (PublicKey::Ec(Curve::P256), true),
        (PublicKey::Ed25519, true),
        (PublicKey::Other, false),
    ] {
        assert_eq!(is_strong(key), expected, "{key}");
    }
    let root = Issuer::new_ca(&CaSpec { key: KeyAlgorithm::Rsa2048, ..CaSpec::new("root", VALIDITY) }).unwrap();
    let der = root.leaf(&client()).unwrap().certificate().to_vec();
    let sha256_with_rsa = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11];
    for broken in [4, 5] {
        let mut der = der.clone();
        while let Some(at) = der.windows(9).position(|window| window == sha256_with_rsa) {
            der[at + 8] = broken;
        }
        let peer = PeerCert::from_chain(vec![der.into()]).unwrap();
        assert_eq!(check(&peer, &group(&root), NOW), Err(ChainFault::SignatureBroken));
    }
    assert_eq!(ChainFault::SignatureBroken.reason(), "signature_weak");
}

#[test]
fn a_signature_that_is_wrong_is_refused() {
    let pki = pki();
    let mut chain = pki.root.leaf(&client()).unwrap().chain().to_vec();
    let mut der = chain[0].to_vec();
    let last = der.len() - 1;
    der[last] ^= 1;
    chain[0] = der.into();
    assert_eq!(check(&PeerCert::from_chain(chain).unwrap(), &group(&pki.root), NOW), Err(ChainFault::Untrusted));
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}
