//! `self_signed_tls_client_auth`: the certificate itself is registered (RFC 8705 §2.2). No chain is ever built.

use certbind_proto::cert::{Certificate, PeerCert};
use certbind_proto::client::ValidityRule;
use certbind_proto::time::Timestamp;

use super::AuthnFault;
use super::chain::{ChainFault, check_validity};
use super::trust::is_strong;
use crate::jwks_uri::{RemoteKeys, Wanted};

/// What one client registered.
pub(super) struct Registered<'a> {
    pub(super) certificates: &'a [Certificate],
    pub(super) jwks_uri: Option<&'a str>,
    pub(super) validity: ValidityRule,
}

/// The presented certificate is one of the registered ones, octet by octet: a new certificate for the same key, or with
/// the same names, is another certificate.
pub(super) async fn check(
    certificate: Option<&PeerCert>,
    registered: &Registered<'_>,
    remote_keys: &dyn RemoteKeys,
    now: Timestamp,
) -> Result<(), AuthnFault> {
    let leaf = certificate.ok_or(ChainFault::Missing)?.leaf().map_err(ChainFault::from)?;
    if !registered.certificates.iter().any(|known| known.der() == leaf.der()) {
        check_published(leaf, registered.jwks_uri, remote_keys, now).await?;
    }
    if !is_strong(leaf.public_key()) {
        return Err(ChainFault::KeyTooWeak.into());
    }
    match registered.validity {
        ValidityRule::Enforced => Ok(check_validity(leaf, now)?),
        ValidityRule::Ignored => Ok(()),
    }
}

/// RFC 8705 §2.2.2: a key of the published set carries the certificate.
async fn check_published(
    leaf: &Certificate,
    jwks_uri: Option<&str>,
    remote_keys: &dyn RemoteKeys,
    now: Timestamp,
) -> Result<(), AuthnFault> {
    let uri = jwks_uri.ok_or(ChainFault::ThumbprintUnknown)?;
    let set = remote_keys.keys(uri, Wanted::Certificate(*leaf.thumbprint()), now).await?;
    let is_published = set.iter().any(|key| key.certificate() == Some(leaf.der()));
    if is_published { Ok(()) } else { Err(ChainFault::ThumbprintUnknown.into()) }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::Arc;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use certbind_devpki::{Basic, Identity, Issuer, KeySource, LeafSpec, Validity};
    use certbind_proto::jwk::JwkSet;
    use serde_json::json;

    use super::*;
    use crate::jwks_uri::RemoteKeysFault;

    const VALIDITY: Validity = Validity::days_from(1_795_305_600, 30);
    const NOW: Timestamp = Timestamp::from_unix(1_795_305_660);
    const LATER: Timestamp = Timestamp::from_unix(VALIDITY.not_after + 1);

    struct Published(Result<Arc<JwkSet>, RemoteKeysFault>);

    impl RemoteKeys for Published {
        fn keys<'a>(
            &'a self,
            _: &'a str,
            _: Wanted<'a>,
            _: Timestamp,
        ) -> Pin<Box<dyn Future<Output = Result<Arc<JwkSet>, RemoteKeysFault>> + Send + 'a>> {
            let keys = self.0.clone();
            Box::pin(async move { keys })
        }
    }

    /// CA:TRUE, as `openssl req -x509` makes them.
    fn spec() -> LeafSpec {
        LeafSpec { basic: Basic::Ca, ..LeafSpec::client("ledger", VALIDITY) }
    }

    fn peer(identity: &Identity) -> PeerCert {
        PeerCert::from_chain(identity.chain().to_vec()).unwrap()
    }

    fn certificate(identity: &Identity) -> Certificate {
        Certificate::parse(identity.certificate()).unwrap()
    }

    async fn reason(
        presented: Option<&PeerCert>,
        certificates: &[Certificate],
        validity: ValidityRule,
        now: Timestamp,
    ) -> Option<&'static str> {
        let registered = Registered { certificates, jwks_uri: None, validity };
        let nothing = Published(Err(RemoteKeysFault::Unavailable));
        check(presented, &registered, &nothing, now).await.err().map(|fault| fault.reason())
    }

    #[tokio::test]
    async fn rfc8705_2_2_the_whole_certificate_is_compared() {
        let [old, new] = [(); 2].map(|()| Identity::self_signed(&spec()).unwrap());
        let issued = Issuer::root("ca", VALIDITY).unwrap().leaf(&LeafSpec::client("issued", VALIDITY)).unwrap();
        let same_key = LeafSpec { key: KeySource::Pkcs8(old.key_pkcs8().to_vec()), serial: Some(vec![7]), ..spec() };
        let same_key = Identity::self_signed(&same_key).unwrap();
        // Attack: same subject and serial number, another key.
        let same_names = Identity::self_signed(&LeafSpec { serial: Some(old.serial().to_vec()), ..spec() }).unwrap();
        let registered = [certificate(&old), certificate(&new), certificate(&issued)];
        for (what, identity, expected) in [
            ("one of two", &old, None),
            ("the other of two", &new, None),
            ("issued by an unknown CA", &issued, None),
            ("a new certificate for the same key", &same_key, Some("thumbprint_unknown")),
            ("the same names with another key", &same_names, Some("thumbprint_unknown")),
        ] {
            let outcome = reason(Some(&peer(identity)), &registered, ValidityRule::Enforced, NOW).await;
            assert_eq!(outcome, expected, "{what}");
        }
        assert_eq!(reason(None, &registered, ValidityRule::Enforced, NOW).await, Some("certificate_missing"));
        let unreadable = PeerCert::from_chain(vec![vec![0x30, 0].into()]);
        let outcome = reason(unreadable.as_ref(), &registered, ValidityRule::Enforced, NOW).await;
        assert_eq!(outcome, Some("certificate_malformed"));
    }

    #[tokio::test]
    async fn rfc8705_2_2_dates_count_unless_the_registration_says_otherwise() {
        let identity = Identity::self_signed(&spec()).unwrap();
        let registered = [certificate(&identity)];
        let early = Timestamp::from_unix(VALIDITY.not_before - 1);
        for (rule, now, expected) in [
            (ValidityRule::Enforced, NOW, None),
            (ValidityRule::Enforced, LATER, Some("certificate_expired")),
            (ValidityRule::Enforced, early, Some("certificate_not_yet_valid")),
            (ValidityRule::Ignored, LATER, None),
            (ValidityRule::Ignored, early, None),
        ] {
            assert_eq!(reason(Some(&peer(&identity)), &registered, rule, now).await, expected);
        }
    }

    #[tokio::test]
    async fn rfc8705_2_2_2_a_published_certificate_counts_as_registered() {
        let [published, other] = [(); 2].map(|()| Identity::self_signed(&spec()).unwrap());
        let key = certificate(&published);
        // The coordinates of a P-256 key are the last 64 octets of its SubjectPublicKeyInfo.
        let (x, y) = key.spki_der()[key.spki_der().len() - 64..].split_at(32);
        let url = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let x5c = STANDARD.encode(published.certificate());
        let set =
            json!({"keys": [{"kty": "EC", "crv": "P-256", "x": url.encode(x), "y": url.encode(y), "x5c": [x5c]}]});
        let set = Arc::new(JwkSet::parse_fetched(set.to_string().as_bytes()).unwrap());
        let registered = Registered {
            certificates: &[],
            jwks_uri: Some("https://c.example/jwks"),
            validity: ValidityRule::Enforced,
        };
        for (keys, identity, expected) in [
            (Ok(Arc::clone(&set)), &published, None),
            (Ok(set), &other, Some("thumbprint_unknown")),
            (Err(RemoteKeysFault::Unavailable), &published, Some("jwks_unavailable")),
        ] {
            let outcome = check(Some(&peer(identity)), &registered, &Published(keys), NOW).await;
            assert_eq!(outcome.err().map(|fault| fault.reason()), expected);
        }
    }
}
