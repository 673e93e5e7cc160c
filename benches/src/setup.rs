//! What servers and load agree on before anything runs: a throw-away PKI, keys, registered clients, the configuration.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use certbind_devpki::{DevPki, Validity};

use crate::scenario::{by_assertion, by_certificate};

/// What the load calls the server. Nobody looks it up.
pub(crate) const HOST: &str = "auth.example.com";
/// What tokens and assertions call it.
pub(crate) const ISSUER: &str = "https://auth.example.com";
/// The resource that tokens are for.
pub(crate) const AUDIENCE: &str = "https://api.example.com";
/// The client of `private_key_jwt`.
pub(crate) const ASSERTION_CLIENT: &str = "batch";
/// The clients of `tls_client_auth` begin with this, and all show the same certificate.
const CERTIFICATE_CLIENT: &str = "billing";

/// The load asks for tokens of so many different clients, if there are so many.
const CLIENTS_IN_USE: usize = 1000;

/// Keys and certificates, and the folder that the servers read them from.
pub(crate) struct Setup {
    pub(crate) pki: DevPki,
    dir: PathBuf,
    assertion_key: EcdsaKeyPair,
    /// The constant part of every assertion, encoded.
    header: String,
    certificate_clients: usize,
    place: Place,
}

/// Where the issuer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Behind a name that nobody looks up.
    Named,
    /// Where it listens: somebody gets its keys.
    Here,
}

impl Setup {
    /// Makes everything anew in an empty folder, with so many clients of `tls_client_auth`.
    pub(crate) fn make(dir: &Path, certificate_clients: usize, place: Place) -> anyhow::Result<Self> {
        let pki = DevPki::generate(Validity::days_from(unix_seconds().cast_signed() - 3600, 30))?;
        pki.write_to(dir)?;
        let assertion_key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
        let header = r#"{"alg":"ES256","typ":"client-authentication+jwt","kid":"batch-1"}"#;
        let setup = Self {
            pki,
            dir: dir.to_owned(),
            assertion_key,
            header: URL_SAFE_NO_PAD.encode(header),
            certificate_clients,
            place,
        };
        setup.write_clients()?;
        fs::write(setup.assertion_key_file(), setup.assertion_key.public_key())?;
        Ok(setup)
    }

    /// The issuer that listens there.
    pub(crate) fn issuer(&self, address: SocketAddr) -> String {
        match self.place {
            Place::Named => ISSUER.to_owned(),
            Place::Here => format!("https://localhost:{}", address.port()),
        }
    }

    /// A file in its folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The public key of the assertions, as the bare server reads it.
    pub(crate) fn assertion_key_file(&self) -> PathBuf {
        self.file("assertion.point")
    }

    /// Where certbind keeps its store.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.file("data")
    }

    /// Writes the configuration of certbind, all of it at its defaults that can be, and gives its path.
    pub(crate) fn write_config(&self, address: SocketAddr) -> anyhow::Result<PathBuf> {
        let path = self.file("certbind.toml");
        let issuer = self.issuer(address);
        let text = format!(
            r#"issuer = "{issuer}"
data_dir = "data"

[listen.mtls]
address = "{address}"
cert = "file:server.pem"
key = "file:server.key"

[[trust]]
name = "bench"
ca = "file:ca.pem"
crl = ["file:crl.pem"]

[clients]
dir = "clients.d"
"#
        );
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Token requests of the clients in use, in an order in which neighbours lie far apart.
    pub(crate) fn certificate_requests(&self) -> Vec<Vec<u8>> {
        let (all, used) = (self.certificate_clients, self.certificate_clients.min(CLIENTS_IN_USE));
        (0..used).map(|n| by_certificate(&certificate_client(n * 389 % used * (all / used)))).collect()
    }

    /// Token requests with an assertion each that was not used before.
    pub(crate) fn assertion_requests(&self, count: usize) -> anyhow::Result<Vec<Vec<u8>>> {
        let (now, random) = (unix_seconds(), SystemRandom::new());
        (0..count).map(|_| Ok(by_assertion(&self.assertion(now, &random)?))).collect()
    }

    fn assertion(&self, now: u64, random: &SystemRandom) -> anyhow::Result<String> {
        let mut id = [0; 16];
        aws_lc_rs::rand::SecureRandom::fill(random, &mut id)?;
        let (jti, until) = (URL_SAFE_NO_PAD.encode(id), now + 300);
        let claims = format!(
            r#"{{"iss":"{ASSERTION_CLIENT}","sub":"{ASSERTION_CLIENT}","aud":"{ISSUER}","jti":"{jti}","iat":{now},"exp":{until}}}"#
        );
        let mut assertion = format!("{}.{}", self.header, URL_SAFE_NO_PAD.encode(claims));
        let signature = self.assertion_key.sign(random, assertion.as_bytes())?;
        write!(assertion, ".{}", URL_SAFE_NO_PAD.encode(signature))?;
        Ok(assertion)
    }

    fn write_clients(&self) -> anyhow::Result<()> {
        let dir = self.file("clients.d");
        fs::create_dir(&dir)?;
        fs::write(dir.join("batch.toml"), self.assertion_client())?;
        for number in 0..self.certificate_clients {
            let client_id = certificate_client(number);
            fs::write(dir.join(format!("{client_id}.toml")), certificate_registration(&client_id))?;
        }
        Ok(())
    }

    fn assertion_client(&self) -> String {
        let point = self.assertion_key.public_key().as_ref();
        let (x, y) = point[1..].split_at(32);
        format!(
            r#"client_id = "{ASSERTION_CLIENT}"
token_endpoint_auth_method = "private_key_jwt"
token_endpoint_auth_signing_alg = "ES256"
jwks = {{ keys = [{{ kty = "EC", crv = "P-256", kid = "batch-1", x = "{}", y = "{}" }}] }}
{PERMISSIONS}"#,
            URL_SAFE_NO_PAD.encode(x),
            URL_SAFE_NO_PAD.encode(y),
        )
    }
}

const PERMISSIONS: &str = r#"scope = "payments:read payments:write"

[certbind]
audiences = ["https://api.example.com"]
"#;

fn certificate_client(number: usize) -> String {
    format!("{CERTIFICATE_CLIENT}-{number}")
}

fn certificate_registration(client_id: &str) -> String {
    format!(
        r#"client_id = "{client_id}"
token_endpoint_auth_method = "tls_client_auth"
tls_client_auth_san_uri = "spiffe://certbind.dev/billing"
{PERMISSIONS}trust = "bench"
"#
    )
}

#[expect(clippy::disallowed_methods, reason = "a program that measures has no clock to be told")]
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_clients_in_use_are_spread_over_all_registered_ones() {
        let dir = tempfile::tempdir().unwrap();
        let setup = Setup::make(dir.path(), 3000, Place::Named).unwrap();
        let requests: HashSet<_> = setup.certificate_requests().into_iter().collect();
        assert_eq!(requests.len(), CLIENTS_IN_USE);
        let last = certificate_client(3 * (CLIENTS_IN_USE - 1));
        assert!(requests.contains(&by_certificate(&last)));
        assert!(setup.file("clients.d").join(format!("{last}.toml")).is_file());
    }

    #[test]
    fn no_two_assertions_are_alike() {
        let dir = tempfile::tempdir().unwrap();
        let setup = Setup::make(dir.path(), 1, Place::Named).unwrap();
        let requests: HashSet<_> = setup.assertion_requests(50).unwrap().into_iter().collect();
        assert_eq!(requests.len(), 50);
    }
}
