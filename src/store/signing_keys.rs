//! Signing keys as they lie in a store, and the one way to change them: all at once, by whoever saw the newest set.

use std::fmt;
use std::time::Duration;

use certbind_proto::time::Timestamp;
use zeroize::Zeroizing;

use super::{BoxFuture, Revision, StoreError};

/// Holds the keys that sign access tokens.
///
/// There are a handful of them, so they are read and written as one set with a revision. Two servers that see the same
/// set and come to the same conclusion write once: the second one learns that its set is no longer the newest.
pub trait KeyStore: Send + Sync {
    /// The set.
    ///
    /// # Errors
    /// The store cannot be read.
    fn load(&self) -> BoxFuture<'_, Result<StoredKeys, StoreError>>;

    /// Puts `keys` in the place of all keys and counts the revision up, durably, if it is still `seen`.
    /// Of calls at the same moment that saw the same revision, in however many processes, one gets [`Replaced::Yes`].
    ///
    /// # Errors
    /// The store cannot be written, or did not say so in time: whether the set was replaced shows the next
    /// [`Self::load`].
    fn replace(&self, seen: Revision, keys: Vec<StoredKey>) -> BoxFuture<'_, Result<Replaced, StoreError>>;
}

/// Every signing key of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredKeys {
    /// Counts the changes; 0 is a set that nobody has written yet.
    pub revision: Revision,
    /// In the order in which they sign.
    pub keys: Vec<StoredKey>,
}

/// Whether a set of keys was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// It was, and it is on disk now, with this revision.
    Yes(Revision),
    /// Somebody else was quicker: the set that was seen is no longer the newest.
    Outdated,
}

/// A signing key as it lies in the store.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// The key identifier in the JWKS (RFC 7517 §4.5).
    pub kid: String,
    /// The algorithm it signs with, by its JOSE name (RFC 7518 §3.1).
    pub algorithm: String,
    /// What it signs with.
    pub secret: Secret,
    /// When it was made; it is published from then on.
    pub created: Timestamp,
    /// From when on it signs.
    pub activates: Timestamp,
    /// When it was taken back: from then on it neither signs nor is it published.
    pub retired: Option<Timestamp>,
    /// The longest life of a token that it signs, on any server.
    pub token_lifetime: Duration,
}

/// Shows no secret.
impl fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredKey")
            .field("kid", &self.kid)
            .field("algorithm", &self.algorithm)
            .field("secret", &format_args!("{} [redacted]", self.secret.form()))
            .field("created", &self.created)
            .field("activates", &self.activates)
            .field("retired", &self.retired)
            .field("token_lifetime", &self.token_lifetime)
            .finish()
    }
}

/// What a key signs with.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The private key itself, PKCS#8 in DER.
    Plain(Zeroizing<Vec<u8>>),
    /// The private key, sealed under a key that lies elsewhere.
    Sealed(Vec<u8>),
    /// Where the key is in a security module, and its public half. There is nothing secret in it.
    Module(Vec<u8>),
}

impl Secret {
    /// The name under which an engine writes this form.
    #[must_use]
    pub const fn form(&self) -> &'static str {
        match self {
            Self::Plain(_) => "pkcs8",
            Self::Sealed(_) => "sealed",
            Self::Module(_) => "pkcs11",
        }
    }

    /// The bytes that an engine writes beside the form.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Plain(pkcs8) => pkcs8,
            Self::Sealed(bytes) | Self::Module(bytes) => bytes,
        }
    }

    /// As an engine wrote it; nothing for a form that this version does not know.
    #[must_use]
    pub fn read(form: &str, bytes: Vec<u8>) -> Option<Self> {
        match form {
            "pkcs8" => Some(Self::Plain(Zeroizing::new(bytes))),
            "sealed" => Some(Self::Sealed(bytes)),
            "pkcs11" => Some(Self::Module(bytes)),
            _ => None,
        }
    }
}

/// Shows the form alone.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [redacted]", self.form())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::signing_key;

    #[test]
    fn a_stored_key_does_not_print_its_secret() {
        let key = signing_key("k1", "ES256");
        let printed = format!("{key:?} {:?}", key.secret);
        assert!(printed.contains("secret: pkcs8 [redacted]"), "{printed}");
        assert!(!printed.contains(&format!("{:?}", key.secret.bytes())), "{printed}");
    }

    #[test]
    fn a_secret_is_read_as_it_was_written() {
        for secret in [signing_key("k1", "ES256").secret, Secret::Sealed(vec![1, 2, 3]), Secret::Module(vec![1])] {
            assert_eq!(Secret::read(secret.form(), secret.bytes().to_vec()), Some(secret));
        }
        assert_eq!(Secret::read("rot13", Vec::new()), None);
    }
}
