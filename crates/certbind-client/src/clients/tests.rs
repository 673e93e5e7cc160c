use std::sync::atomic::{AtomicUsize, Ordering};

use certbind_proto::scope::Scope;
use certbind_proto::time::Timestamp;
use hyper::header::HeaderValue;

use super::*;
use crate::ClientCertificate;
use crate::tests::stub::{ALWAYS, Pki};

/// A token of the certificate with this name, or of none.
fn token(certificate: Option<&ClientCertificate>) -> AccessToken {
    AccessToken {
        authorization: HeaderValue::from_static("Bearer t"),
        certificate: certificate.cloned(),
        expires: Timestamp::from_unix(1),
        scope: Scope::default(),
        started: Timestamp::from_unix(0),
        value: "t".to_owned(),
    }
}

/// What a client shows, and how many live.
struct Http {
    shows: Option<Thumbprint>,
    alive: Arc<AtomicUsize>,
}

impl Drop for Http {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

fn clients(pki: &Pki) -> (Clients<Http>, Arc<AtomicUsize>) {
    let alive = Arc::new(AtomicUsize::new(0));
    let count = alive.clone();
    let build = move |tls: ClientConfig| {
        count.fetch_add(1, Ordering::SeqCst);
        assert!(tls.alpn_protocols.is_empty(), "the HTTP client says which it speaks");
        let shown = tls.client_auth_cert_resolver.resolve(&[], &[]);
        Http { shows: shown.map(|shown| Thumbprint::of_der(&shown.cert[0])), alive: count.clone() }
    };
    (Clients::new(&pki.authorities(), build).expect("clients"), alive)
}

#[test]
fn rfc8705_6_3_each_certificate_has_a_client_of_its_own_and_old_ones_go() {
    let pki = Pki::new();
    let [a, b, c] = [(); 3].map(|()| {
        let identity = pki.client(ALWAYS);
        ClientCertificate::new(identity.chain().to_vec(), identity.key()).expect("a pair")
    });
    let (clients, alive) = clients(&pki);
    let ask = |certificate: Option<&ClientCertificate>| {
        let client = clients.for_token(&token(certificate));
        assert_eq!(client.shows.as_ref(), certificate.map(ClientCertificate::thumbprint), "what the token is bound to");
        client
    };
    let living = || alive.load(Ordering::SeqCst);

    let first = ask(Some(&a));
    assert!(Arc::ptr_eq(&first, &ask(Some(&a))), "one for all requests");
    drop(ask(Some(&b)));
    assert_eq!(living(), 2, "a request with the old one is under way");
    assert!(Arc::ptr_eq(&first, &ask(Some(&a))), "and another one goes the same way");
    drop(ask(Some(&b)));
    drop(first);
    assert_eq!(living(), 1, "the last request with the old one has ended");
    drop(ask(Some(&a)));
    assert_eq!(living(), 1, "a straggler gets a client, which ends the other's");
    for certificate in [Some(&b), Some(&c), None, Some(&b)] {
        drop(ask(certificate));
        assert_eq!(living(), 1, "nothing heaps up");
    }
}
