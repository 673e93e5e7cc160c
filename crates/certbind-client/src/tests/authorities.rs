//! Authorities that are followed in their file.

use super::folder::Folder;
use super::stub::{Pki, Stub};
use super::*;
use crate::{Authorities, AuthoritiesFile};

const CA: &str = "ca.pem";

/// A file that has the authorities of one PKI, and what follows it.
fn followed(folder: &Folder, pki: &Pki) -> (AuthoritiesFile, Authorities) {
    folder.replace(CA, &pki.root.certificate_pem());
    let authorities = trusted_authorities(&folder.path(CA)).expect("authorities");
    (AuthoritiesFile::new(folder.path(CA), authorities.clone()), authorities)
}

#[test]
fn a_file_of_authorities_is_read_when_it_is_another_one_and_a_bad_one_changes_nothing() {
    let (folder, one, other) = (Folder::new(), Pki::new(), Pki::new());
    let (mut file, authorities) = followed(&folder, &one);
    let looks = |file: &mut AuthoritiesFile| [0; 3].map(|_| file.look().map_err(|fault| fault.to_string()));
    assert_eq!(looks(&mut file), [Ok(false), Ok(false), Ok(false)]);
    folder.replace(CA, &format!("{}{}", other.root.certificate_pem(), one.root.certificate_pem()));
    assert_eq!(looks(&mut file), [Ok(true), Ok(false), Ok(false)]);
    let both = [other.root.certificate().clone(), one.root.certificate().clone()];
    assert_eq!(*authorities.certificates(), both);

    let cut_off = other.root.certificate_pem();
    let cut_off = &cut_off[..cut_off.len() / 2];
    for (bad, fault) in [
        ("", "no PEM block \"CERTIFICATE\""),
        (cut_off, "no PEM block \"CERTIFICATE\""),
        ("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n", "a trusted certificate cannot be used"),
    ] {
        folder.overwrite(CA, bad);
        assert_eq!(looks(&mut file), [Err(fault.to_owned()), Ok(false), Ok(false)], "{bad}");
        assert_eq!(*authorities.certificates(), both, "{bad}");
        folder.overwrite(CA, &format!("{}{}", other.root.certificate_pem(), one.root.certificate_pem()));
        assert_eq!(looks(&mut file), [Ok(true), Ok(false), Ok(false)], "well again");
    }
    folder.remove(CA);
    assert!(file.look().is_err_and(|fault| matches!(fault, CredentialFault::Unreadable { .. })));
    folder.replace(CA, &other.root.certificate_pem());
    assert_eq!(looks(&mut file), [Ok(true), Ok(false), Ok(false)]);
    assert_eq!(*authorities.certificates(), both[..1]);
}

#[tokio::test]
async fn a_source_goes_on_when_another_authority_vouches_for_its_server() {
    let (folder, before, after) = (Folder::new(), Pki::new(), Pki::new());
    let stub = Stub::start(&after, numbered).await;
    let (file, roots) = followed(&folder, &before);
    let client = Client::with(Settings { roots, ..settings(&after, &stub, by_certificate(&after)) });
    assert_eq!(fact(client.token().await), "Tls");

    folder.replace(CA, &after.root.certificate_pem());
    let source = client.source.clone();
    let _follower = file.follow_every(Duration::from_millis(5), move || _ = source.retry_now());
    for _ in 0..2000 {
        if client.token().await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("still {}", fact(client.token().await));
}
