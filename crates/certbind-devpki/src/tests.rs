use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use webpki::{BorrowedCertRevocationList, CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage as Purpose};
use webpki::{RevocationCheckDepth, RevocationOptionsBuilder, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::*;

const NOW: i64 = 1_795_305_600;

fn validity() -> Validity {
    Validity::days_from(NOW - 86_400, 30)
}

fn verify(identity: &Identity, root: &Issuer, crls: &[&Crl], purpose: Purpose) -> Result<(), webpki::Error> {
    let crls: Vec<CertRevocationList<'_>> =
        crls.iter().map(|crl| BorrowedCertRevocationList::from_der(crl.der()).unwrap().into()).collect();
    let crls: Vec<_> = crls.iter().collect();
    let revocation = (!crls.is_empty()).then(|| {
        let options = RevocationOptionsBuilder::new(&crls).unwrap();
        options.with_depth(RevocationCheckDepth::Chain).with_expiration_policy(ExpirationPolicy::Enforce).build()
    });
    let end_entity = EndEntityCert::try_from(identity.certificate())?;
    let anchors = [anchor_from_trusted_cert(root.certificate())?];
    let now = UnixTime::since_unix_epoch(Duration::from_secs(NOW.unsigned_abs()));
    let algorithms = webpki::ALL_VERIFICATION_ALGS;
    end_entity
        .verify_for_usage(algorithms, &anchors, &identity.chain()[1..], now, purpose, revocation, None)
        .map(|_| ())
}

#[test]
fn the_set_is_what_it_says() {
    let pki = DevPki::generate(validity()).unwrap();
    let crls = [&pki.crl, &pki.root_crl];
    assert_eq!(verify(&pki.server, &pki.root, &[], Purpose::server_auth()), Ok(()));
    for client in pki.clients() {
        let outcome = verify(&client.identity, &pki.root, &crls, Purpose::client_auth());
        match client.name {
            "ledger" => assert_eq!(outcome, Err(webpki::Error::CaUsedAsEndEntity)),
            "revoked" => assert_eq!(outcome, Err(webpki::Error::CertRevoked)),
            "thief" => assert!(outcome.is_err(), "another authority with the same name"),
            name => assert_eq!(outcome, Ok(()), "{name}"),
        }
    }
}

#[test]
fn a_newer_crl_takes_more_back_and_can_be_stale() {
    let pki = DevPki::generate(validity()).unwrap();
    let newer = pki.revoke(2, &[&pki.billing], validity()).unwrap();
    let outcome = |crl| verify(&pki.billing.identity, &pki.root, &[crl, &pki.root_crl], Purpose::client_auth());
    assert_eq!(outcome(&newer), Err(webpki::Error::CertRevoked));
    let stale = pki.revoke(3, &[], Validity::days_from(NOW - 2 * 86_400, 1)).unwrap();
    assert!(matches!(outcome(&stale), Err(webpki::Error::CrlExpired { .. })));
}

#[test]
fn a_leaf_is_written_as_specified() {
    let ca = Issuer::root("Test CA", validity()).unwrap();
    let mut spec = LeafSpec::client("a", validity()).dns("a.example").uri("https://a.example/x");
    spec.subject = vec![rdn("DC", "example"), rdn("DC", "com"), [rdn("UID", "1"), rdn("CN", "a")].concat()];
    spec.serial = Some(vec![0x7f, 1, 2]);
    spec.eku = vec![Eku::ServerAuth];
    spec.key_usage = vec![KeyUsage::KeyEncipherment];
    let leaf = ca.leaf(&spec).unwrap();

    let (rest, parsed) = X509Certificate::from_der(leaf.certificate()).unwrap();
    assert!(rest.is_empty());
    assert_eq!(parsed.subject().iter().map(|rdn| rdn.iter().count()).collect::<Vec<_>>(), [1, 1, 2]);
    assert!(parsed.subject().to_string().starts_with("DC=example, DC=com"), "{}", parsed.subject());
    assert_eq!(parsed.raw_serial(), [0x7f, 1, 2]);
    assert_eq!(leaf.serial(), [0x7f, 1, 2]);
    assert_eq!(parsed.validity().not_before.timestamp(), validity().not_before);
    assert_eq!(parsed.validity().not_after.timestamp(), validity().not_after);
    assert!(!parsed.key_usage().unwrap().unwrap().value.digital_signature());
    assert_eq!(parsed.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 2);
    assert_eq!(parsed.issuer().to_string(), "CN=Test CA");
}

#[test]
fn a_self_signed_certificate_names_itself_and_version_1_has_no_extensions() {
    let spec = LeafSpec { version: Version::V1, ..LeafSpec::client("old", validity()) };
    let identity = Identity::self_signed(&spec).unwrap();
    let (_, parsed) = X509Certificate::from_der(identity.certificate()).unwrap();
    assert_eq!(parsed.version().0, 0);
    assert!(parsed.extensions().is_empty());
    assert_eq!(parsed.issuer(), parsed.subject());
}

#[test]
fn every_kind_of_key_signs_and_can_be_used_again() {
    for algorithm in [KeyAlgorithm::Ed25519, KeyAlgorithm::P256, KeyAlgorithm::P384, KeyAlgorithm::Rsa2048] {
        let root = Issuer::new_ca(&CaSpec { key: algorithm, ..CaSpec::new("Test CA", validity()) }).unwrap();
        let first = root.leaf(&LeafSpec::client("a", validity()).key(algorithm)).unwrap();
        assert_eq!(verify(&first, &root, &[], Purpose::client_auth()), Ok(()), "{algorithm:?}");

        let again = KeySource::Pkcs8(first.key_pkcs8().to_vec());
        let second = root.leaf(&LeafSpec { key: again, ..LeafSpec::client("b", validity()) }).unwrap();
        assert_eq!(first.key_pkcs8(), second.key_pkcs8());
        assert_ne!(first.certificate(), second.certificate());
    }
}

#[test]
fn the_files_can_be_read_back_and_keys_are_for_the_owner_alone() {
    let pki = DevPki::generate(validity()).unwrap();
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("pki");
    pki.write_to(&dir).unwrap();
    let files = pki.write_to(&dir).unwrap();

    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(mode(&path) == 0o600, text.contains("PRIVATE KEY"), "{}", path.display());
    }
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(dir.join("clients/billing.pem")).unwrap().map(Result::unwrap).collect();
    assert_eq!(chain, pki.billing.identity.chain());
    let key = PrivateKeyDer::from_pem_file(dir.join("clients/billing.key")).unwrap();
    assert_eq!(key, pki.billing.identity.key());
}

#[test]
fn private_keys_do_not_print() {
    let pki = DevPki::generate(validity()).unwrap();
    let source = KeySource::Pkcs8(pki.server.key_pkcs8().to_vec());
    for shown in [format!("{pki:?}"), format!("{source:?}")] {
        assert!(shown.contains("[redacted]"));
        assert!(!shown.contains(&format!("{:?}", &pki.server.key_pkcs8()[30..40]).replace(['[', ']'], "")));
    }
}
