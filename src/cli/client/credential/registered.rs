//! A registration with one credential more or less, as a merge patch (RFC 7396). Pure.

use certbind_proto::cert::Certificate;
use certbind_proto::jwk::Jwk;
use certbind_proto::thumbprint::Thumbprint;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Map, Value, json};

use crate::cli::audit::thumbprint;

/// A credential to be.
#[derive(Debug)]
pub(super) enum New {
    Certificate(Box<Certificate>),
    /// Each as it stands in its file, and what it is.
    Keys(Vec<(Map<String, Value>, Jwk)>),
}

/// By what a credential is meant: a `kid` as it was typed, or thumbprints.
#[derive(Debug)]
pub(super) struct Names {
    kid: Option<String>,
    thumbprints: Vec<Thumbprint>,
}

impl Names {
    pub(super) fn typed(text: &str) -> Self {
        Self { kid: Some(text.to_owned()), thumbprints: thumbprint(text).into_iter().collect() }
    }

    pub(super) const fn thumbprints(thumbprints: Vec<Thumbprint>) -> Self {
        Self { kid: None, thumbprints }
    }

    /// Whether the admin API shows the one that is meant.
    pub(super) fn fit_shown(&self, credential: &Value) -> bool {
        let thumbprint = credential["thumbprint"].as_str().or_else(|| credential["x5t#S256"].as_str());
        self.fit(credential["kid"].as_str(), thumbprint.and_then(|text| Thumbprint::parse(text).ok()))
    }

    fn fit(&self, kid: Option<&str>, thumbprint: Option<Thumbprint>) -> bool {
        let is_kid = self.kid.is_some() && self.kid.as_deref() == kid;
        is_kid || thumbprint.is_some_and(|thumbprint| self.thumbprints.contains(&thumbprint))
    }
}

/// What is registered of a client, as the admin API shows it.
pub(super) struct Registered<'a> {
    client_id: &'a str,
    method: &'a str,
    jwks_uri: Option<&'a str>,
    keys: &'a [Value],
    certificates: &'a [Value],
    subject: &'a Map<String, Value>,
}

impl<'a> Registered<'a> {
    pub(super) fn of(client: &'a Value) -> Self {
        static NOTHING: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
        let text = |name: &str| client[name].as_str();
        let list = |pointer: &str| client.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice);
        Self {
            client_id: text("client_id").unwrap_or_default(),
            method: text("token_endpoint_auth_method").unwrap_or_default(),
            jwks_uri: text("jwks_uri"),
            keys: list("/jwks/keys").unwrap_or_default(),
            certificates: list("/certbind/certificates").unwrap_or_default(),
            subject: client.as_object().unwrap_or(&NOTHING),
        }
    }

    /// What has to be changed so that `new` is registered beside the rest.
    ///
    /// # Errors
    /// Why that makes no sense.
    pub(super) fn with(&self, new: &New) -> anyhow::Result<Value> {
        self.registers_any()?;
        match (self.method, new) {
            ("private_key_jwt", New::Keys(keys)) => self.with_keys(keys),
            ("private_key_jwt", New::Certificate(_)) => {
                anyhow::bail!("{} proves itself with keys: --jwk FILE", self.client_id)
            }
            (_, New::Certificate(certificate)) => {
                anyhow::ensure!(
                    !self.has(Some(certificate.thumbprint())),
                    "{} has this certificate already",
                    self.client_id
                );
                let certificates = [self.certificates, &[certificate.to_pem().into()]].concat();
                Ok(json!({ "certbind": { "certificates": certificates } }))
            }
            (_, New::Keys(_)) => {
                anyhow::bail!("{} proves itself with certificates: --from-cert FILE", self.client_id)
            }
        }
    }

    fn with_keys(&self, keys: &[(Map<String, Value>, Jwk)]) -> anyhow::Result<Value> {
        for (_, key) in keys {
            let known = self.keys.iter().filter_map(parsed);
            for known in known {
                anyhow::ensure!(
                    known.thumbprint() != key.thumbprint(),
                    "{} has this key already{}",
                    self.client_id,
                    known.kid().map(|kid| format!(", as {kid}")).unwrap_or_default()
                );
                anyhow::ensure!(
                    known.kid().is_none() || known.kid() != key.kid(),
                    "{} has another key with the kid {}; give the new one another kid",
                    self.client_id,
                    key.kid().unwrap_or_default()
                );
            }
        }
        let new: Vec<Value> = keys.iter().map(|(members, _)| Value::Object(members.clone())).collect();
        let keys = [self.keys, &new].concat();
        Ok(json!({ "jwks": { "keys": keys } }))
    }

    /// What has to be changed so that these are registered no longer.
    ///
    /// # Errors
    /// There is none of them, or nothing would be left.
    pub(super) fn without(&self, names: &Names) -> anyhow::Result<Value> {
        self.registers_any()?;
        let is_meant = |key: &&Value| names.fit(key["kid"].as_str(), id_of_key(key, self.method));
        let (gone, keys): (Vec<&Value>, Vec<&Value>) = self.keys.iter().partition(is_meant);
        let is_meant = |pem: &&Value| names.fit(None, id_of_certificate(pem));
        let (gone_too, certificates): (Vec<&Value>, Vec<&Value>) = self.certificates.iter().partition(is_meant);
        anyhow::ensure!(
            !gone.is_empty() || !gone_too.is_empty(),
            "{} has no such credential registered; `certbind client credential list {}` shows them",
            self.client_id,
            self.client_id
        );
        anyhow::ensure!(
            !keys.is_empty() || !certificates.is_empty() || self.jwks_uri.is_some(),
            "{} would be left without a credential and get no token; add its next one first, or disable the client",
            self.client_id
        );
        let mut patch = json!({});
        if !gone.is_empty() {
            patch["jwks"] = if keys.is_empty() { Value::Null } else { json!({ "keys": keys }) };
        }
        if !gone_too.is_empty() {
            patch["certbind"] = json!({ "certificates": certificates });
        }
        Ok(patch)
    }

    /// A client that a CA vouches for has a name registered and no credential, one with a `jwks_uri` publishes its own.
    fn registers_any(&self) -> anyhow::Result<()> {
        if self.method == "tls_client_auth" {
            let name =
                self.subject.iter().find(|(name, value)| name.starts_with("tls_client_auth_") && value.is_string());
            let name = name.and_then(|(_, value)| value.as_str()).unwrap_or_default();
            anyhow::bail!(
                "{} is known by its name, {name}: every certificate with it counts for which its trust group vouches, so none is added or removed here; a certificate that must no longer count is revoked by its CA",
                self.client_id
            );
        }
        match self.jwks_uri {
            Some(uri) if self.keys.is_empty() && self.certificates.is_empty() => {
                anyhow::bail!("{} publishes its keys at {uri}; change them there", self.client_id)
            }
            _ => Ok(()),
        }
    }

    fn has(&self, thumbprint: Option<&Thumbprint>) -> bool {
        let keys = self.keys.iter().filter_map(|key| id_of_key(key, self.method));
        keys.chain(self.certificates.iter().filter_map(id_of_certificate)).any(|known| Some(&known) == thumbprint)
    }
}

fn parsed(key: &Value) -> Option<Jwk> {
    Jwk::parse(key.as_object()?).ok()
}

/// Of a client that proves itself with certificates, the certificate of the key counts.
fn id_of_key(key: &Value, method: &str) -> Option<Thumbprint> {
    let key = parsed(key)?;
    match method {
        "private_key_jwt" => Some(key.thumbprint()),
        _ => key.certificate().map(Thumbprint::of_der),
    }
}

fn id_of_certificate(pem: &Value) -> Option<Thumbprint> {
    let der = CertificateDer::from_pem_slice(pem.as_str()?.as_bytes()).ok()?;
    Some(Thumbprint::of_der(&der))
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use certbind_devpki::{Identity, LeafSpec, Validity};
    use certbind_proto::jws::{Algorithm, SigningKey};

    use super::*;

    fn certificate(name: &str) -> Certificate {
        let identity = Identity::self_signed(&LeafSpec::client(name, Validity::days_from(0, 1))).unwrap();
        Certificate::parse(identity.certificate()).unwrap()
    }

    /// The nth of some keys.
    fn ed25519(kid: Option<&str>, nth: usize) -> Map<String, Value> {
        static X: LazyLock<Vec<Value>> = LazyLock::new(|| {
            let key = |_| SigningKey::generate(Algorithm::EdDsa).unwrap().public_jwk("").to_json()["x"].clone();
            (0..10).map(key).collect()
        });
        let mut key = json!({ "kty": "OKP", "crv": "Ed25519", "x": X[nth], "use": "sig" });
        if let Some(kid) = kid {
            key["kid"] = kid.into();
        }
        key.as_object().unwrap().clone()
    }

    fn keys(keys: &[Map<String, Value>]) -> New {
        New::Keys(keys.iter().map(|key| (key.clone(), Jwk::parse(key).unwrap())).collect())
    }

    fn batch() -> Value {
        json!({
            "client_id": "batch",
            "token_endpoint_auth_method": "private_key_jwt",
            "jwks": { "keys": [ed25519(Some("k1"), 1), ed25519(None, 2)] },
        })
    }

    fn said(outcome: anyhow::Result<Value>) -> String {
        outcome.map_or_else(|error| error.to_string(), |patch| patch.to_string())
    }

    #[test]
    fn a_key_is_added_beside_those_that_there_are_and_each_is_found_again() {
        let client = batch();
        let registered = Registered::of(&client);
        let (two, three) = (ed25519(None, 2), ed25519(Some("k3"), 3));
        let patch = registered.with(&keys(std::slice::from_ref(&three))).unwrap();
        assert_eq!(patch, json!({ "jwks": { "keys": [ed25519(Some("k1"), 1), two, three] } }));
        let patch = registered.without(&Names::typed("k1")).unwrap();
        assert_eq!(patch, json!({ "jwks": { "keys": [two] } }));
        let thumbprint = Jwk::parse(&two).unwrap().thumbprint();
        for names in [Names::typed(&thumbprint.to_string()), Names::thumbprints(vec![thumbprint])] {
            let patch = registered.without(&names).unwrap();
            assert_eq!(patch, json!({ "jwks": { "keys": [ed25519(Some("k1"), 1)] } }));
            assert!(names.fit_shown(&json!({ "type": "key", "thumbprint": thumbprint })));
            assert!(!names.fit_shown(&json!({ "type": "key", "kid": "k1" })));
        }
    }

    #[test]
    fn what_makes_no_sense_is_said_before_anything_is_changed() {
        let client = batch();
        let registered = Registered::of(&client);
        let both = Names::thumbprints([1, 2].map(|n| Jwk::parse(&ed25519(None, n)).unwrap().thumbprint()).to_vec());
        let other = json!({ "client_id": "other", "token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://o/jwks" });
        let billing = json!({ "client_id": "billing", "token_endpoint_auth_method": "tls_client_auth", "tls_client_auth_san_uri": "spiffe://billing" });
        let new = || New::Certificate(Box::new(certificate("new")));
        for (outcome, words) in [
            (registered.with(&keys(&[ed25519(Some("k9"), 1)])), "has this key already, as k1"),
            (registered.with(&keys(&[ed25519(Some("k1"), 9)])), "another key with the kid k1"),
            (registered.with(&new()), "--jwk FILE"),
            (registered.without(&Names::typed("k9")), "no such credential"),
            (registered.without(&both), "would be left without a credential"),
            (Registered::of(&other).with(&keys(&[ed25519(None, 1)])), "publishes its keys at https://o/jwks"),
            (Registered::of(&billing).with(&new()), "known by its name, spiffe://billing"),
            (Registered::of(&billing).without(&Names::typed("x")), "known by its name"),
        ] {
            let said = said(outcome);
            assert!(said.contains(words), "{words}: {said}");
        }
    }

    #[test]
    fn a_certificate_is_found_as_pem_and_in_the_x5c_of_a_key() {
        let (old, new, published) = (certificate("old"), certificate("new"), certificate("published"));
        let spki = published.spki_der();
        let (x, y) = spki[spki.len() - 64..].split_at(32);
        let text = |octets: &[u8]| URL_SAFE_NO_PAD.encode(octets);
        let x5c = STANDARD.encode(published.der());
        let key = json!({ "kty": "EC", "crv": "P-256", "x": text(x), "y": text(y), "x5c": [x5c] });
        let client = json!({
            "client_id": "ledger",
            "token_endpoint_auth_method": "self_signed_tls_client_auth",
            "jwks": { "keys": [key] },
            "certbind": { "certificates": [old.to_pem()] },
        });
        let registered = Registered::of(&client);
        let one = |certificate: &Certificate| Names::thumbprints(vec![*certificate.thumbprint()]);
        let added = registered.with(&New::Certificate(Box::new(new.clone()))).unwrap();
        assert_eq!(added, json!({ "certbind": { "certificates": [old.to_pem(), new.to_pem()] } }));
        for known in [&old, &published] {
            let said = said(registered.with(&New::Certificate(Box::new(known.clone()))));
            assert!(said.contains("has this certificate already"), "{said}");
        }
        assert_eq!(registered.without(&one(&published)).unwrap(), json!({ "jwks": null }));
        assert_eq!(registered.without(&one(&old)).unwrap(), json!({ "certbind": { "certificates": [] } }));
        assert!(said(registered.without(&one(&new))).contains("no such credential"));
        let all = Names::thumbprints(vec![*old.thumbprint(), *published.thumbprint()]);
        assert!(said(registered.without(&all)).contains("would be left without"));
    }
}
