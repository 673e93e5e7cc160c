//! What a client proves itself with: a certificate, or a key for assertions. Values, not files: a source works with one
//! snapshot until it is given another, which is what following files comes down to.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use certbind_https::{Authorities, ConfigFault, Identity};
use certbind_proto::assertion;
use certbind_proto::cert::{CertFault, Certificate};
use certbind_proto::jws::{Algorithm, Signer, SigningKey, SigningKeyFault};
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::Timestamp;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::files::{Open, open, read, read_private};

/// How the client authenticates.
#[derive(Clone, Debug)]
pub enum Credential {
    /// The certificate on the connection is the proof: `tls_client_auth` and `self_signed_tls_client_auth` alike, for
    /// they differ only in what the server has registered (RFC 8705 §2.1, §2.2).
    Certificate(ClientCertificate),
    /// A signed assertion, fresh for each try (RFC 7523 §2.2).
    PrivateKeyJwt {
        /// Shown on the connection as well, so that the token is bound to it (RFC 8705 §3).
        certificate: Option<ClientCertificate>,
        /// Signs the assertion.
        key: AssertionKey,
    },
}

/// A certificate, its chain and its private key, known to belong together.
#[derive(Clone)]
pub struct ClientCertificate(Arc<Pair>);

struct Pair {
    certified: Arc<CertifiedKey>,
    identity: Identity,
    not_after: Timestamp,
    thumbprint: Thumbprint,
}

/// The private key that signs client assertions, with the `kid` under which its public half is registered.
#[derive(Clone)]
pub struct AssertionKey(Arc<Signer>);

/// Why a credential cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialFault {
    /// A certificate authority cannot be used.
    #[error(transparent)]
    Authority(ConfigFault),
    /// The key for assertions cannot be used.
    #[error("the key for assertions cannot be used")]
    AssertionKey(#[source] SigningKeyFault),
    /// The certificate does not parse.
    #[error("the client certificate cannot be read")]
    Certificate(#[source] CertFault),
    /// Somebody writes the files at this moment.
    #[error("the files of the credential change while they are read")]
    Changing,
    /// Anybody on the machine may read or change the file of a private key.
    #[error("others may access the private key in {}: chmod 0600", path.display())]
    KeyExposed {
        /// The file.
        path: PathBuf,
    },
    /// The private key is of another certificate.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    /// The private key is of a kind that is not known here.
    #[error("the private key of the certificate cannot be used")]
    KeyUnusable(#[source] rustls::Error),
    /// There is no certificate in the PEM text.
    #[error("no PEM block \"CERTIFICATE\"")]
    NoCertificate,
    /// There is no private key in the PEM text.
    #[error("no PEM block with an unencrypted private key")]
    NoKey,
    /// A folder, a pipe or a device.
    #[error("{} is no regular file", path.display())]
    NotAFile {
        /// What is there.
        path: PathBuf,
    },
    /// Neither a certificate nor a key is that large.
    #[error("{} is larger than 1 MiB", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl Credential {
    /// What is shown on the connection.
    #[must_use]
    pub const fn certificate(&self) -> Option<&ClientCertificate> {
        match self {
            Self::Certificate(certificate) => Some(certificate),
            Self::PrivateKeyJwt { certificate, .. } => certificate.as_ref(),
        }
    }

    pub(crate) fn assertion_key(&self) -> Option<&Signer> {
        match self {
            Self::Certificate(_) => None,
            Self::PrivateKeyJwt { key, .. } => Some(&key.0),
        }
    }

    /// Whether both prove and show the same to a server.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let chain =
            |credential: &Self| credential.certificate().map(|certificate| certificate.identity().chain.clone());
        let key = |credential: &Self| credential.assertion_key().map(public_half);
        chain(self) == chain(other) && key(self) == key(other)
    }
}

impl ClientCertificate {
    /// From the certificate, the intermediates behind it, and the private key.
    ///
    /// # Errors
    /// [`CredentialFault`] when a part does not parse or the key is not that of the first certificate.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, CredentialFault> {
        let leaf = chain.first().ok_or(CredentialFault::NoCertificate)?;
        let leaf = Certificate::parse(leaf).map_err(CredentialFault::Certificate)?;
        let certified = Arc::new(checked_pair(&chain, &key)?);
        let (not_after, thumbprint) = (leaf.not_after(), *leaf.thumbprint());
        Ok(Self(Arc::new(Pair { certified, identity: Identity { chain, key }, not_after, thumbprint })))
    }

    /// From PEM: the chain in one text, the key in the same or another one.
    ///
    /// # Errors
    /// As [`new`](Self::new), and when a text lacks its PEM block.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, CredentialFault> {
        Self::new(certificates(chain)?, PrivateKeyDer::from_pem_slice(key).map_err(|_| CredentialFault::NoKey)?)
    }

    /// From PEM files. The one with the key must be closed to others.
    ///
    /// # Errors
    /// As [`from_pem`](Self::from_pem), and when a file cannot be read or is open to others.
    pub fn from_files(chain: &Path, key: &Path) -> Result<Self, CredentialFault> {
        Self::opened(chain, key, open)
    }

    /// The same from files that are opened so.
    pub(crate) fn opened(chain: &Path, key: &Path, open: Open) -> Result<Self, CredentialFault> {
        Self::from_pem(&read(chain, open)?, &read_private(key, open)?)
    }

    /// Certificate and key for a connection of one's own to the resource server.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// The same as rustls wants it.
    pub(crate) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.0.certified
    }

    /// The last moment of its validity.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.0.not_after
    }

    /// The `x5t#S256` that a token bound to it carries (RFC 8705 §3.1).
    #[must_use]
    pub fn thumbprint(&self) -> &Thumbprint {
        &self.0.thumbprint
    }
}

impl AssertionKey {
    /// From a key, and the `kid` that the server knows it by, where there are several.
    #[must_use]
    pub fn new(key: SigningKey, kid: Option<&str>) -> Self {
        Self(Arc::new(Signer::new(key, assertion::TYP, kid)))
    }

    /// From PKCS#8 in PEM. Without an algorithm the key decides: its curve's, or PS256 for RSA.
    ///
    /// # Errors
    /// [`CredentialFault::AssertionKey`].
    pub fn from_pem(pem: &str, algorithm: Option<Algorithm>, kid: Option<&str>) -> Result<Self, CredentialFault> {
        let key = SigningKey::from_pkcs8_pem(pem, algorithm).map_err(CredentialFault::AssertionKey)?;
        Ok(Self::new(key, kid))
    }

    /// From a PEM file that is closed to others.
    ///
    /// # Errors
    /// As [`from_pem`](Self::from_pem), and when the file cannot be read or is open to others.
    pub fn from_file(path: &Path, algorithm: Option<Algorithm>, kid: Option<&str>) -> Result<Self, CredentialFault> {
        Self::opened(path, algorithm, kid, open)
    }

    /// The same from a file that is opened so.
    pub(crate) fn opened(
        path: &Path,
        algorithm: Option<Algorithm>,
        kid: Option<&str>,
        open: Open,
    ) -> Result<Self, CredentialFault> {
        let pem = String::from_utf8(read_private(path, open)?).map_err(|_| CredentialFault::NoKey)?;
        Self::from_pem(&pem, algorithm, kid)
    }
}

/// The certificate authorities in a PEM file, one at least, for [`Settings::roots`](crate::Settings::roots) and
/// [`Clients`](crate::Clients). [`AuthoritiesFile`](crate::AuthoritiesFile) follows such a file.
///
/// # Errors
/// [`CredentialFault::Unreadable`], [`CredentialFault::NoCertificate`], [`CredentialFault::Authority`].
pub fn trusted_authorities(path: &Path) -> Result<Authorities, CredentialFault> {
    Authorities::new(&certificates(&read(path, open)?)?).map_err(CredentialFault::Authority)
}

/// What a server knows of a key for assertions.
fn public_half(signer: &Signer) -> (Algorithm, Option<String>, Vec<(&'static str, String)>) {
    let key = signer.key();
    (key.algorithm(), signer.kid().map(str::to_owned), key.public().jwk_members())
}

/// All of a PEM text, one at least.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CredentialFault> {
    let all = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    all.ok().filter(|all| !all.is_empty()).ok_or(CredentialFault::NoCertificate)
}

fn checked_pair(
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
) -> Result<CertifiedKey, CredentialFault> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    CertifiedKey::from_der(chain.to_vec(), key.clone_key(), &provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => CredentialFault::KeyMismatch,
        other => CredentialFault::KeyUnusable(other),
    })
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientCertificate({}, until {})", self.thumbprint(), self.not_after())
    }
}

impl fmt::Debug for AssertionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AssertionKey({}, kid {:?})", self.0.key().algorithm().as_str(), self.0.kid())
    }
}
