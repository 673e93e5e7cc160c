use std::io::Write as _;
use std::process::{Command, Stdio};

use certbind_devpki::{Basic, Eku, Identity, Issuer, KeyAlgorithm, LeafSpec, Validity, Version, rdn};

use super::*;
use crate::der::{BIT_STRING, BOOLEAN, GENERALIZED_TIME, INTEGER, OID, SEQUENCE, UTC_TIME, encode};

const NOW: i64 = 1_795_305_600;
const VALIDITY: Validity = Validity::days_from(NOW, 30);

const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const RSA_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5];
const EC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const RSA_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
const SAN: &[u8] = &[0x55, 0x1d, 17];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
const POLICIES: &[u8] = &[0x55, 0x1d, 32];
const PRIVATE: &[u8] = &[0x2a, 3, 4];

/// The parts of a certificate, put together without a signature: reading looks at form only.
struct Parts {
    version: Vec<u8>,
    serial: Vec<u8>,
    inner: Vec<u8>,
    outer: Vec<u8>,
    validity: Vec<u8>,
    subject: Vec<u8>,
    spki: Vec<u8>,
    extensions: Vec<(&'static [u8], bool, Vec<u8>)>,
}

fn good() -> Parts {
    Parts {
        version: encode(0xa0, &encode(INTEGER, &[2])),
        serial: vec![0x01],
        inner: algorithm(ECDSA_SHA256, &[]),
        outer: algorithm(ECDSA_SHA256, &[]),
        validity: [encode(UTC_TIME, b"260101000000Z"), encode(UTC_TIME, b"491231235959Z")].concat(),
        subject: encode(SEQUENCE, &[]),
        spki: spki(EC_KEY, &encode(OID, P256), &[4; 65]),
        extensions: Vec::new(),
    }
}

fn algorithm(oid: &[u8], parameters: &[u8]) -> Vec<u8> {
    encode(SEQUENCE, &[&encode(OID, oid), parameters].concat())
}

fn spki(oid: &[u8], parameters: &[u8], key: &[u8]) -> Vec<u8> {
    encode(SEQUENCE, &[algorithm(oid, parameters), bits(key)].concat())
}

fn bits(content: &[u8]) -> Vec<u8> {
    encode(BIT_STRING, &[&[0], content].concat())
}

fn rsa_spki(modulus: &[u8]) -> Vec<u8> {
    let key = [encode(INTEGER, modulus), encode(INTEGER, &[1, 0, 1])].concat();
    spki(RSA_KEY, &[5, 0], &encode(SEQUENCE, &key))
}

fn sans(names: &[(u8, &[u8])]) -> Vec<u8> {
    encode(SEQUENCE, &names.iter().map(|(tag, name)| encode(*tag, name)).collect::<Vec<_>>().concat())
}

fn der_of(parts: &Parts) -> Vec<u8> {
    let extension = |(oid, critical, value): &(&[u8], bool, Vec<u8>)| {
        let critical = if *critical { encode(BOOLEAN, &[0xff]) } else { Vec::new() };
        encode(SEQUENCE, &[encode(OID, oid), critical, encode(4, value)].concat())
    };
    let extensions: Vec<_> = parts.extensions.iter().map(extension).collect();
    let extensions = match extensions.is_empty() {
        true => Vec::new(),
        false => encode(0xa3, &encode(SEQUENCE, &extensions.concat())),
    };
    let tbs = [
        parts.version.clone(),
        encode(INTEGER, &parts.serial),
        parts.inner.clone(),
        encode(SEQUENCE, &[]),
        encode(SEQUENCE, &parts.validity),
        parts.subject.clone(),
        parts.spki.clone(),
        extensions,
    ];
    encode(SEQUENCE, &[encode(SEQUENCE, &tbs.concat()), parts.outer.clone(), bits(b"signature")].concat())
}

fn parse(spoil: impl FnOnce(&mut Parts)) -> Result<Certificate, CertFault> {
    let mut parts = good();
    spoil(&mut parts);
    Certificate::parse(&der_of(&parts))
}

fn with_extension(oid: &'static [u8], critical: bool, value: &[u8]) -> Result<Certificate, CertFault> {
    parse(|parts| parts.extensions.push((oid, critical, value.to_vec())))
}

#[test]
fn the_facts_of_a_client_certificate() {
    let spec = LeafSpec::client("billing", VALIDITY).dns("A.example").uri("spiffe://d/b").email("a@b.example");
    let spec = LeafSpec { serial: Some(vec![0x0a, 0xbc]), ..spec.ip([192, 0, 2, 7].into()) };
    let identity = Issuer::root("ca", VALIDITY).unwrap().leaf(&spec).unwrap();
    let certificate = Certificate::parse(identity.certificate()).unwrap();
    assert_eq!(certificate.der(), identity.certificate());
    assert_eq!(certificate.subject().to_string(), "CN=billing,O=certbind dev");
    assert_eq!(certificate.issuer().to_string(), "CN=ca");
    assert_eq!(certificate.not_before(), Timestamp::from_unix(VALIDITY.not_before));
    assert_eq!(certificate.not_after(), Timestamp::from_unix(VALIDITY.not_after));
    assert_eq!((certificate.serial_hex().as_str(), certificate.has_positive_serial()), ("0abc", true));
    assert_eq!(certificate.version(), 3);
    assert_eq!(certificate.public_key(), PublicKey::Ec(Curve::P256));
    assert_eq!(certificate.signature(), SignatureStrength::Sound);
    assert_eq!(
        certificate.key_usage(),
        Some(KeyUsage { digital_signature: true, key_cert_sign: false, crl_sign: false })
    );
    assert_eq!(
        certificate.extended_key_usage(),
        Some(ExtendedKeyUsage { any: false, client_auth: true, server_auth: false })
    );
    assert!(!certificate.is_ca() && !certificate.is_self_issued() && !certificate.has_unknown_critical_extension());
    assert_eq!(certificate.extension(Extension::KeyUsage), Some(Criticality::Critical));
    assert_eq!(certificate.extension(Extension::NameConstraints), None);
    let mut names = certificate.sans().iter().map(ToString::to_string).collect::<Vec<_>>();
    names.sort();
    assert_eq!(names, ["DNS:A.example", "IP:192.0.2.7", "URI:spiffe://d/b", "email:a@b.example"]);
}

#[test]
fn a_self_signed_certificate_and_one_of_version_1_can_be_read() {
    let ca = LeafSpec { basic: Basic::Ca, ..LeafSpec::client("ledger", VALIDITY) };
    let old = LeafSpec { version: Version::V1, ..LeafSpec::client("old", VALIDITY) };
    let ca = Certificate::parse(Identity::self_signed(&ca).unwrap().certificate()).unwrap();
    let old = Certificate::parse(Identity::self_signed(&old).unwrap().certificate()).unwrap();
    assert!(ca.is_ca() && ca.is_self_issued());
    assert_eq!((old.version(), old.key_usage(), old.extended_key_usage()), (1, None, None));
}

#[test]
fn every_kind_of_key_is_told_apart() {
    for (algorithm, expected) in [
        (KeyAlgorithm::Ed25519, PublicKey::Ed25519),
        (KeyAlgorithm::P256, PublicKey::Ec(Curve::P256)),
        (KeyAlgorithm::P384, PublicKey::Ec(Curve::P384)),
        (KeyAlgorithm::Rsa2048, PublicKey::Rsa { bits: 2048 }),
    ] {
        let identity = Identity::self_signed(&LeafSpec::client("a", VALIDITY).key(algorithm)).unwrap();
        assert_eq!(Certificate::parse(identity.certificate()).unwrap().public_key(), expected);
    }
    let explicit_curve = encode(SEQUENCE, &[encode(INTEGER, &[1]), encode(SEQUENCE, &[])].concat());
    for (spki, expected) in [
        (rsa_spki(&[[0].as_slice(), &[0xff; 2048]].concat()), Ok(PublicKey::Rsa { bits: 16_384 })),
        (rsa_spki(&[0x7f; 256]), Ok(PublicKey::Rsa { bits: 2047 })),
        (rsa_spki(&[0x01; 128]), Ok(PublicKey::Rsa { bits: 1017 })),
        (rsa_spki(&[0xff; 256]), Err(CertFault::KeyMalformed)),
        (rsa_spki(&[0]), Ok(PublicKey::Rsa { bits: 0 })),
        (spki(RSA_KEY, &[5, 0], b"nonsense"), Err(CertFault::KeyMalformed)),
        (spki(EC_KEY, &explicit_curve, &[4; 65]), Ok(PublicKey::Other)),
        (spki(EC_KEY, &[], &[4; 65]), Ok(PublicKey::Other)),
        (spki(EC_KEY, &encode(OID, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 1]), &[4; 49]), Ok(PublicKey::Other)),
        (spki(PRIVATE, &[], &[4; 65]), Ok(PublicKey::Other)),
    ] {
        assert_eq!(parse(|parts| parts.spki = spki).map(|c| c.public_key()), expected);
    }
}

#[test]
fn rfc5280_4_1_1_2_inner_and_outer_algorithm_are_equal() {
    assert_eq!(parse(|parts| parts.outer = algorithm(RSA_SHA1, &[])).err(), Some(CertFault::AlgorithmsDiffer));
    assert_eq!(parse(|parts| parts.outer = algorithm(ECDSA_SHA256, &[5, 0])).err(), Some(CertFault::AlgorithmsDiffer));
}

#[test]
fn rfc5280_4_1_a_second_encoding_of_one_certificate_is_refused() {
    let der = der_of(&good());
    assert!(Certificate::parse(&der).is_ok());
    let content = der::read(&der).unwrap().0.content;
    let long_length = [&[0x30, 0x83, 0, (content.len() >> 8) as u8, (content.len() & 0xff) as u8], content].concat();
    let (tbs, after_tbs) = der::read(content).unwrap();
    let padded_algorithm =
        encode(SEQUENCE, &[algorithm(ECDSA_SHA256, &[])[2..].to_vec(), vec![5, 0], vec![5, 0]].concat());
    let signature = bits(b"signature");
    let unknown_field = encode(SEQUENCE, &[tbs.content, &encode(0xa4, &[5, 0])].concat());
    let indefinite = [&[0x30, 0x80], content, &[0, 0]].concat();
    for (what, bytes, fault) in [
        ("a trailing byte", [der.as_slice(), &[0]].concat(), CertFault::TrailingBytes),
        ("twice", [der.as_slice(), &der].concat(), CertFault::TrailingBytes),
        ("a longer length than needed", long_length, CertFault::NotDer),
        ("an indefinite length", indefinite, CertFault::NotDer),
        ("nothing", Vec::new(), CertFault::NotDer),
        ("a cut end", der[..der.len() - 1].to_vec(), CertFault::NotDer),
        ("another structure", vec![0x30, 0], CertFault::NotACertificate),
        ("too much", vec![0x30; MAX_DER + 1], CertFault::TooLarge),
        (
            "a field behind the algorithm",
            encode(SEQUENCE, &[tbs.whole, &padded_algorithm, &signature].concat()),
            CertFault::AlgorithmsDiffer,
        ),
        ("an unknown field", encode(SEQUENCE, &[&unknown_field, after_tbs].concat()), CertFault::NotACertificate),
        (
            "unused bits in the signature",
            encode(SEQUENCE, &[tbs.whole, &algorithm(ECDSA_SHA256, &[]), &encode(BIT_STRING, &[1, 0])].concat()),
            CertFault::NotACertificate,
        ),
        ("a field behind the signature", encode(SEQUENCE, &[content, &[5, 0]].concat()), CertFault::NotACertificate),
    ] {
        assert_eq!(Certificate::parse(&bytes).err(), Some(fault), "{what}");
    }
}

#[test]
fn rfc5280_4_1_2_1_extensions_need_version_3() {
    for version in [Vec::new(), encode(0xa0, &encode(INTEGER, &[1]))] {
        let spoilt = parse(|parts| {
            parts.version = version;
            parts.extensions.push((KEY_USAGE, true, vec![3, 2, 7, 0x80]));
        });
        assert_eq!(spoilt.err(), Some(CertFault::ExtensionsWithoutVersion3));
    }
    let version_4 = encode(0xa0, &encode(INTEGER, &[3]));
    assert_eq!(parse(|parts| parts.version = version_4).err(), Some(CertFault::NotACertificate));
}

#[test]
fn rfc5280_4_1_2_2_a_serial_number_is_positive() {
    for (serial, hex, is_good) in [
        (vec![0x7f], "7f", true),
        (vec![0x00, 0x80], "0080", true),
        (vec![0x00], "00", false),
        (vec![0x80], "80", false),
        ([&[0x01], [0; 19].as_slice()].concat(), "0100000000000000000000000000000000000000", true),
        ([&[0x01], [0; 20].as_slice()].concat(), "010000000000000000000000000000000000000000", true),
    ] {
        let certificate = parse(|parts| parts.serial = serial).unwrap();
        assert_eq!((certificate.serial_hex().as_str(), certificate.has_positive_serial()), (hex, is_good));
    }
}

#[test]
fn rfc5280_4_1_2_5_both_ends_of_the_validity_are_included() {
    let utc = |text: &str| encode(UTC_TIME, text.as_bytes());
    let general = |text: &str| encode(GENERALIZED_TIME, text.as_bytes());
    for (from, until, from_seconds, until_seconds) in [
        (utc("500101000000Z"), utc("491231235959Z"), -631_152_000, 2_524_607_999),
        (utc("260101000000Z"), general("20500101000000Z"), 1_767_225_600, 2_524_608_000),
        (utc("000229120000Z"), general("99991231235959Z"), 951_825_600, 253_402_300_799),
    ] {
        let certificate = parse(|parts| parts.validity = [from, until].concat()).unwrap();
        assert_eq!(certificate.not_before().unix(), from_seconds);
        assert_eq!(certificate.not_after().unix(), until_seconds);
        assert!(certificate.is_not_yet_valid(Timestamp::from_unix(from_seconds - 1)));
        assert!(certificate.is_not_yet_valid(Timestamp::from_millis(from_seconds * 1000 - 1)));
        assert!(!certificate.is_not_yet_valid(Timestamp::from_unix(from_seconds)));
        assert!(!certificate.is_expired(Timestamp::from_millis(until_seconds * 1000 + 999)));
        assert!(certificate.is_expired(Timestamp::from_unix(until_seconds + 1)));
    }
    for bad in ["261301000000Z", "260230000000Z", "260101250000Z", "260101006000Z"] {
        let spoilt = parse(|parts| parts.validity = [utc("260101000000Z"), utc(bad)].concat());
        assert_eq!(spoilt.err(), Some(CertFault::NotACertificate), "{bad}");
    }
    for bad in ["2601010000Z", "260101000000+0100", "2601010000000Z"] {
        let spoilt = parse(|parts| parts.validity = [utc("260101000000Z"), utc(bad)].concat());
        assert_eq!(spoilt.err(), Some(CertFault::NotDer), "{bad}");
    }
}

#[test]
fn rfc5280_4_2_an_extension_stands_once_and_has_its_syntax() {
    let twice = parse(|parts| parts.extensions = vec![(PRIVATE, false, vec![5, 0]); 2]);
    assert_eq!(twice.err(), Some(CertFault::DuplicateExtension));
    for (oid, value) in [
        (KEY_USAGE, &[3, 2, 7][..]),
        (KEY_USAGE, &[3, 2, 7, 0x81]),
        (KEY_USAGE, &[5, 0]),
        (KEY_USAGE, &[3, 2, 7, 0x80, 0]),
        (BASIC_CONSTRAINTS, &[0x30, 3, 1, 1, 1]),
        (BASIC_CONSTRAINTS, &[0x30, 2, 5, 0]),
        (BASIC_CONSTRAINTS, &[1, 1, 0xff]),
        (SAN, &[0x30, 0]),
        (SAN, &[0x30, 2, 0x89, 0]),
        (SAN, &[0x82, 1, b'a']),
        (POLICIES, b"nonsense"),
    ] {
        assert_eq!(with_extension(oid, false, value).err(), Some(CertFault::ExtensionMalformed), "{value:02x?}");
    }
    assert!(!with_extension(PRIVATE, false, b"nonsense").unwrap().has_unknown_critical_extension());
    assert!(with_extension(PRIVATE, true, b"nonsense").unwrap().has_unknown_critical_extension());
}

/// Attacks: a NUL that ends a C string, an address of odd length, an e-mail address where a DNS name is meant, X.400.
#[test]
fn rfc5280_4_2_1_6_alternative_names_are_read_by_kind_or_refused() {
    for (name, expected) in [
        ((0x82, &b"a.example"[..]), Ok(San::Dns("a.example".to_owned()))),
        ((0x81, b"a.example"), Ok(San::Email("a.example".to_owned()))),
        ((0x86, b"a.example"), Ok(San::Uri("a.example".to_owned()))),
        ((0x87, &[192, 0, 2, 7]), Ok(San::Ip([192, 0, 2, 7].into()))),
        (
            (0x87, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7]),
            Ok(San::Ip(std::net::Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped().into())),
        ),
        ((0xa0, &[6, 1, 0x2a, 0xa0, 3, 0x0c, 1, 0]), Ok(San::Other)),
        ((0xa3, &[0x30, 0]), Ok(San::Other)),
        ((0xa4, &[0x30, 0]), Ok(San::Other)),
        ((0x82, b"a.example\0.evil"), Err(CertFault::SanNul)),
        ((0x81, b"a\0@b"), Err(CertFault::SanNul)),
        ((0x86, b"https://a\0"), Err(CertFault::SanNul)),
        ((0x82, "ä.example".as_bytes()), Err(CertFault::SanNotAscii)),
        ((0x82, &[0xff]), Err(CertFault::SanNotAscii)),
        ((0x87, &[]), Err(CertFault::SanAddressLength)),
        ((0x87, &[192, 0, 2]), Err(CertFault::SanAddressLength)),
        ((0x87, &[192, 0, 2, 0, 255, 255, 255, 0]), Err(CertFault::SanAddressLength)),
    ] {
        let read = with_extension(SAN, false, &sans(&[name])).map(|c| c.sans()[0].clone());
        assert_eq!(read, expected, "{name:02x?}");
    }
}

/// Attack: a thousand policies. They cost their octets and nothing more.
#[test]
fn a_thousand_policies_are_bounded_by_size() {
    let policy = |i: u16| encode(SEQUENCE, &encode(OID, &[0x2a, 3, (i >> 7 | 0x80) as u8, (i & 0x7f) as u8]));
    let policies = encode(SEQUENCE, &(128..1128).map(policy).collect::<Vec<_>>().concat());
    assert!(with_extension(POLICIES, false, &policies).is_ok());
    let more = encode(SEQUENCE, &(128..3128).map(policy).collect::<Vec<_>>().concat());
    assert_eq!(with_extension(POLICIES, false, &more).err(), Some(CertFault::TooLarge));
}

#[test]
fn rfc9846_4_2_3_broken_signature_algorithms_are_known() {
    let rsa = |last: u8| algorithm(&[&RSA_SHA1[..8], &[last]].concat(), &[5, 0]);
    let sha256 = encode(SEQUENCE, &encode(OID, &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1]));
    let pss = |parameters: &[u8]| algorithm(&[&RSA_SHA1[..8], &[10]].concat(), &encode(SEQUENCE, parameters));
    for (algorithm, expected) in [
        (rsa(4), SignatureStrength::Broken),
        (rsa(5), SignatureStrength::Broken),
        (rsa(11), SignatureStrength::Sound),
        (rsa(13), SignatureStrength::Sound),
        (rsa(1), SignatureStrength::Unknown),
        (pss(&[]), SignatureStrength::Broken),
        (pss(&encode(0xa0, &sha256)), SignatureStrength::Sound),
        (algorithm(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1], &[]), SignatureStrength::Broken),
        (algorithm(&[0x2b, 0x65, 0x70], &[]), SignatureStrength::Sound),
        (algorithm(PRIVATE, &[]), SignatureStrength::Unknown),
    ] {
        let certificate = parse(|parts| (parts.inner, parts.outer) = (algorithm.clone(), algorithm)).unwrap();
        assert_eq!(certificate.signature(), expected);
    }
}

/// Attack: the identity is that of the first certificate, whatever else is sent along.
#[test]
fn rfc8705_2_the_leaf_is_the_first_certificate() {
    let ca = Issuer::root("ca", VALIDITY).unwrap();
    let [own, victim] = ["own", "victim"].map(|name| ca.leaf(&LeafSpec::client(name, VALIDITY)).unwrap());
    let chain = vec![own.certificate().clone(), victim.certificate().clone()];
    let peer = PeerCert::from_chain(chain).unwrap();
    assert_eq!(peer.leaf().unwrap().subject().to_string(), "CN=own,O=certbind dev");
    assert_eq!(*peer.thumbprint(), Thumbprint::of_der(own.certificate()));
    assert_eq!(peer.chain().len(), 2);
    assert!(PeerCert::from_chain(Vec::new()).is_none());
    let swapped = PeerCert::from_chain(peer.chain().iter().rev().cloned().collect()).unwrap();
    let shorter = PeerCert::from_chain(peer.chain()[..1].to_vec()).unwrap();
    assert!(peer.digest() != swapped.digest() && peer.digest() != shorter.digest());
    let unreadable = PeerCert::from_chain(vec![vec![0x30, 0].into(), victim.certificate().clone()]).unwrap();
    assert_eq!(unreadable.leaf().err(), Some(CertFault::NotACertificate));
    assert_eq!(CertFault::NotACertificate.reason(), "certificate_malformed");
}

/// Attack: bit flips in the DER of self-signed certificates, where no path check stands before the reader.
#[test]
fn ten_thousand_mutated_certificates_do_not_panic() {
    let spec = LeafSpec { basic: Basic::Ca, eku: vec![Eku::Any], ..LeafSpec::client("ledger", VALIDITY) };
    let spec = spec.dns("a.example").uri("spiffe://d/a").email("a@b.example").ip([192, 0, 2, 7].into());
    let spec = LeafSpec { subject: vec![rdn("DC", "x"), rdn("emailAddress", "a@b"), rdn("CN", "ledger")], ..spec };
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % below as u64).unwrap()
    };
    for algorithm in [KeyAlgorithm::P256, KeyAlgorithm::Rsa2048] {
        let identity = Identity::self_signed(&spec.clone().key(algorithm)).unwrap();
        for _ in 0..5000 {
            let mut der = identity.certificate().to_vec();
            for _ in 0..=random(3) {
                let at = random(der.len());
                der[at] ^= 1 << random(8);
            }
            match random(8) {
                0 => der.truncate(random(der.len())),
                1 => drop(der.remove(random(der.len()))),
                _ => {}
            }
            let peer = PeerCert::from_chain(vec![der.into()]).unwrap();
            if let Ok(certificate) = peer.leaf() {
                let _ = format!("{certificate:?} {} {:?}", certificate.issuer(), certificate.sans());
            }
        }
    }
}

/// Holds our reading of names against OpenSSL's, in both directions.
#[test]
fn rfc4514_names_print_as_openssl_prints_them() {
    for subject in [
        "/C=DE/O=Bank, Inc./CN=pay",
        "/C=DE/ST=Berlin/L=Berlin/O=b/OU=x/OU=y/CN=a",
        "/DC=org/DC=example/CN=Lučić",
        "/O=b/CN=a+UID=1",
        "/CN=#a \"quoted\" <x>;y\\\\z",
        "/O=b/serialNumber=ab1/GN=g/SN=s/title=t/emailAddress=ops@example.com",
        "/jurisdictionC=DE/businessCategory=Private/organizationIdentifier=PSD-1/CN=x",
        "/street=Main/postalCode=1/pseudonym=p/dnQualifier=q/initials=i/name=n/description=d/CN=x",
    ] {
        let request = "req -x509 -newkey ed25519 -nodes -keyout /dev/null -days 2 -utf8 -outform DER -subj";
        let arguments: Vec<_> = request.split(' ').chain([subject]).collect();
        let Some(der) = openssl(&arguments, &[]) else {
            return eprintln!("skipped: there is no openssl command");
        };
        let print = "x509 -inform DER -noout -subject -nameopt RFC2253,utf8,-esc_msb";
        let printed = openssl(&print.split(' ').collect::<Vec<_>>(), &der).unwrap();
        let printed = String::from_utf8(printed).unwrap();
        let printed = printed.trim_end_matches('\n').trim_start_matches("subject=");
        let certificate = Certificate::parse(&der).unwrap();
        assert_eq!(certificate.subject().to_string(), printed);
        assert!(Dn::parse_rfc4514(printed).unwrap().matches(certificate.subject()), "{printed}");
    }
}

#[expect(clippy::disallowed_methods, reason = "it reads its input to the end, which is there, and speaks to nobody")]
fn openssl(arguments: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let mut command = Command::new("openssl");
    let piped = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = piped.stderr(Stdio::null()).spawn().ok()?;
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}");
    Some(output.stdout)
}
