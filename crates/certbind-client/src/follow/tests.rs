use super::*;
use crate::tests::folder::{CHAIN, Folder, KEY};
use crate::tests::stub::{ALWAYS, Pki};

const NOW: Timestamp = Timestamp::from_unix(1_795_305_600);

fn at(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

fn thumbprint(credential: &Credential) -> String {
    credential.certificate().expect("a certificate").thumbprint().to_string()
}

#[test]
fn files_are_read_twice_and_then_when_they_are_others() {
    let pki = Pki::new();
    let folder = Folder::with(&pki.client(ALWAYS));
    let mut watcher = Watcher::new(folder.files());
    let looks = |watcher: &mut Watcher| [0; 4].map(|_| watcher.look(NOW).is_some());
    assert_eq!(looks(&mut watcher), [true, true, false, false]);
    folder.put(&pki.client(ALWAYS));
    assert_eq!(looks(&mut watcher), [true, true, false, false], "replaced");
    folder.set_mode(KEY, 0o640);
    assert_eq!(looks(&mut watcher), [true, true, false, false], "the time of a change counts as well");
    let folder = Folder::new();
    folder.relink(0, &pki.client(ALWAYS));
    let mut watcher = Watcher::new(folder.files());
    assert_eq!(looks(&mut watcher), [true, true, false, false]);
    folder.relink(1, &pki.client(ALWAYS));
    assert_eq!(looks(&mut watcher), [true, true, false, false], "a link elsewhere");
}

#[test]
fn half_of_a_rotation_is_waited_out_and_told_if_it_lasts() {
    let pki = Pki::new();
    let (old, new) = (pki.client(ALWAYS), pki.client(ALWAYS));
    let folder = Folder::with(&old);
    let mut watcher = Watcher::new(folder.files());
    watcher.look(NOW).expect("a credential");

    folder.replace(KEY, &new.key_pem());
    assert!(watcher.look(at(1)).is_none());
    let fault = watcher.fault().expect("a fault");
    assert!(matches!(*fault.fault, CredentialFault::KeyMismatch));
    let told = |watcher: &Watcher| watcher.wrong.as_ref().expect("a fault").told.clone();
    assert_eq!(told(&watcher), None, "the other file may be on its way");
    assert!(watcher.look(at(2)).is_none());
    assert_eq!(told(&watcher).as_deref(), Some("the private key does not belong to the certificate"));

    folder.remove(CHAIN);
    assert!(watcher.look(at(3)).is_none());
    assert!(told(&watcher).is_some_and(|text| text.contains("tls.crt cannot be read: No such file")), "another fault");
    assert_eq!(watcher.fault().expect("a fault").since, at(1), "it has been wrong since then");

    folder.replace(CHAIN, &new.chain_pem());
    let credential = watcher.look(at(4)).expect("a credential");
    assert_eq!(thumbprint(&credential), certbind_proto::thumbprint::Thumbprint::of_der(new.certificate()).to_string());
    assert!(watcher.fault().is_none());
}

#[test]
fn a_key_that_is_opened_to_others_gives_nothing_until_it_is_closed() {
    let pki = Pki::new();
    let folder = Folder::with(&pki.client(ALWAYS));
    let mut watcher = Watcher::new(folder.files());
    watcher.look(NOW).expect("a credential");
    folder.set_mode(KEY, 0o604);
    assert!(watcher.look(at(1)).is_none());
    assert!(matches!(*watcher.fault().expect("a fault").fault, CredentialFault::KeyExposed { .. }));
    folder.set_mode(KEY, 0o600);
    assert!(watcher.look(at(2)).is_some());
}
