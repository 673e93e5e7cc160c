//! Private signing keys at rest: PKCS#8 sealed with AES-256-GCM under a key that lies elsewhere than the store.
//!
//! A sealed key is bound to its `kid` and algorithm, so that whoever can write to the store can exchange nothing. It
//! names the key that it was sealed under, so that the wrong one is told from a damaged row.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::store::{Secret, StoredKey};

/// The layout: version, name of the sealing key, nonce, ciphertext with its tag.
const VERSION: u8 = 1;
const ID_LEN: usize = 8;
const TAG_LEN: usize = 16;
const HEAD_LEN: usize = 1 + ID_LEN;

/// Before what is bound to a sealed key, so that these bytes mean nothing else anywhere.
const LABEL: &[u8] = b"certbind signing key";

/// How private keys lie in the store.
#[derive(Debug)]
pub enum Sealing {
    /// As they are; only the store's own protection is between them and a reader.
    Off,
    /// Sealed.
    Under {
        /// What keys are sealed with.
        key: SealingKey,
        /// What older ones are opened with. They are sealed anew at the start.
        previous: Option<SealingKey>,
    },
}

/// Why a stored private key cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealFault {
    /// The bytes are not of the layout that this version knows.
    #[error("it is not sealed in a way that this version knows")]
    Layout,
    /// The library failed.
    #[error("the cryptographic library failed to seal it")]
    Library,
    /// There is nothing to open it with.
    #[error("it is sealed under the key {sealed_under}, and keys.encryption_key is not set")]
    NoKey {
        /// The key that it was sealed under.
        sealed_under: KeyId,
    },
    /// It was sealed under another key.
    #[error("it is sealed under the key {sealed_under}; keys.encryption_key is {given}")]
    OtherKey {
        /// The key that it was sealed under.
        sealed_under: KeyId,
        /// The one that is configured.
        given: KeyId,
    },
    /// Somebody changed it, or moved it from another row.
    #[error("it was changed since it was sealed")]
    Spoilt,
}

/// The name of a sealing key: a hash of it. It says nothing about the key, which has 256 random bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyId([u8; ID_LEN]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A key that seals others. It does not print.
pub struct SealingKey {
    id: KeyId,
    key: RandomizedNonceKey,
}

impl SealingKey {
    /// From 256 random bits.
    ///
    /// # Errors
    /// [`SealFault::Library`].
    pub fn new(bytes: &[u8; 32]) -> Result<Self, SealFault> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, bytes).map_err(|_| SealFault::Library)?;
        let mut hash = digest::Context::new(&digest::SHA256);
        [LABEL, b" id", bytes].into_iter().for_each(|part| hash.update(part));
        let mut id = [0; ID_LEN];
        id.copy_from_slice(&hash.finish().as_ref()[..ID_LEN]);
        Ok(Self { id: KeyId(id), key })
    }

    fn seal(&self, kid: &str, algorithm: &str, pkcs8: &[u8]) -> Result<Vec<u8>, SealFault> {
        // With room for the tag: it grows in place and leaves no copy of the private key behind.
        let mut sealed = Zeroizing::new(Vec::with_capacity(pkcs8.len() + TAG_LEN));
        sealed.extend_from_slice(pkcs8);
        let bound = bound(self.id, kid, algorithm);
        let nonce =
            self.key.seal_in_place_append_tag(Aad::from(bound), &mut *sealed).map_err(|_| SealFault::Library)?;
        Ok([&[VERSION][..], &self.id.0, nonce.as_ref(), &sealed].concat())
    }

    fn open(
        &self,
        kid: &str,
        algorithm: &str,
        nonce: [u8; NONCE_LEN],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealFault> {
        let mut opened = Zeroizing::new(sealed.to_vec());
        let bound = bound(self.id, kid, algorithm);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let length = self.key.open_in_place(nonce, Aad::from(bound), &mut opened).map_err(|_| SealFault::Spoilt)?.len();
        opened.truncate(length);
        Ok(opened)
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey {{ id: {}, key: [redacted] }}", self.id)
    }
}

impl Sealing {
    /// The form in which a private key goes into the store.
    ///
    /// # Errors
    /// [`SealFault::Library`].
    pub(super) fn seal(&self, kid: &str, algorithm: &str, pkcs8: Zeroizing<Vec<u8>>) -> Result<Secret, SealFault> {
        match self {
            Self::Off => Ok(Secret::Plain(pkcs8)),
            Self::Under { key, .. } => key.seal(kid, algorithm, &pkcs8).map(Secret::Sealed),
        }
    }

    /// The private key of a stored key.
    ///
    /// # Errors
    /// [`SealFault`].
    pub(super) fn open(&self, stored: &StoredKey) -> Result<Zeroizing<Vec<u8>>, SealFault> {
        let sealed = match &stored.secret {
            Secret::Plain(pkcs8) => return Ok(pkcs8.clone()),
            Secret::Sealed(sealed) => Sealed::parse(sealed).ok_or(SealFault::Layout)?,
            Secret::Module(_) => return Err(SealFault::Layout),
        };
        let key = self.key_of(sealed.sealed_under)?;
        key.open(&stored.kid, &stored.algorithm, sealed.nonce, sealed.ciphertext)
    }

    /// Whether a stored key lies there as a new one would.
    pub(super) fn is_up_to_date(&self, secret: &Secret) -> bool {
        match (self, secret) {
            (Self::Off, _) | (_, Secret::Module(_)) => true,
            (Self::Under { .. }, Secret::Plain(_)) => false,
            (Self::Under { key, .. }, Secret::Sealed(sealed)) => {
                Sealed::parse(sealed).is_some_and(|sealed| sealed.sealed_under == key.id)
            }
        }
    }

    fn key_of(&self, sealed_under: KeyId) -> Result<&SealingKey, SealFault> {
        match self {
            Self::Off => Err(SealFault::NoKey { sealed_under }),
            Self::Under { key, .. } if key.id == sealed_under => Ok(key),
            Self::Under { previous: Some(previous), .. } if previous.id == sealed_under => Ok(previous),
            Self::Under { key, .. } => Err(SealFault::OtherKey { sealed_under, given: key.id }),
        }
    }
}

/// What a sealed key is bound to. The lengths are hashed along, so that no two pairs run together.
fn bound(id: KeyId, kid: &str, algorithm: &str) -> Vec<u8> {
    let length = |text: &str| (text.len() as u64).to_be_bytes();
    [LABEL, &[VERSION], &id.0, &length(kid), kid.as_bytes(), &length(algorithm), algorithm.as_bytes()].concat()
}

/// A sealed key, taken apart.
struct Sealed<'a> {
    sealed_under: KeyId,
    nonce: [u8; NONCE_LEN],
    ciphertext: &'a [u8],
}

impl<'a> Sealed<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(HEAD_LEN)?;
        let (nonce, ciphertext) = rest.split_at_checked(NONCE_LEN)?;
        let id = head.strip_prefix(&[VERSION])?.try_into().ok()?;
        Some(Self { sealed_under: KeyId(id), nonce: nonce.try_into().ok()?, ciphertext })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::signing_key;

    fn key(byte: u8) -> SealingKey {
        SealingKey::new(&[byte; 32]).unwrap()
    }

    fn under(key: SealingKey) -> Sealing {
        Sealing::Under { key, previous: None }
    }

    const PKCS8: &[u8] = b"a private key that nobody may find in a database, whatever it is";

    fn stored(sealing: &Sealing, kid: &str, algorithm: &str) -> StoredKey {
        let secret = sealing.seal(kid, algorithm, Zeroizing::new(PKCS8.to_vec())).unwrap();
        StoredKey { secret, ..signing_key(kid, algorithm) }
    }

    #[test]
    fn what_was_sealed_is_opened_and_shows_nothing() {
        let sealing = under(key(1));
        let (one, other) = (stored(&sealing, "k1", "ES256"), stored(&sealing, "k1", "ES256"));
        assert_eq!(sealing.open(&one).as_deref().map(Vec::as_slice), Ok(PKCS8));
        assert_ne!(one.secret, other.secret, "a nonce is drawn each time");
        let bytes = one.secret.bytes();
        assert_eq!(bytes.len(), 1 + 8 + 12 + PKCS8.len() + 16);
        assert!(PKCS8.windows(8).all(|part| !bytes.windows(8).any(|found| found == part)));
        assert!(!format!("{sealing:?}").contains("1, 1, 1"));
    }

    #[test]
    fn every_flipped_bit_of_a_sealed_key_is_found() {
        let sealing = under(key(1));
        let good = stored(&sealing, "k1", "ES256");
        for at in 0..good.secret.bytes().len() {
            for bit in 0..8 {
                let mut bytes = good.secret.bytes().to_vec();
                bytes[at] ^= 1 << bit;
                let fault = sealing.open(&StoredKey { secret: Secret::Sealed(bytes), ..good.clone() }).unwrap_err();
                let expected = match at {
                    0 => matches!(fault, SealFault::Layout),
                    1..=8 => matches!(fault, SealFault::OtherKey { .. }),
                    _ => fault == SealFault::Spoilt,
                };
                assert!(expected, "bit {bit} of byte {at}: {fault:?}");
            }
        }
        for length in 0..good.secret.bytes().len() {
            let bytes = good.secret.bytes()[..length].to_vec();
            let fault = sealing.open(&StoredKey { secret: Secret::Sealed(bytes), ..good.clone() }).unwrap_err();
            assert!(matches!(fault, SealFault::Layout | SealFault::Spoilt), "{length} bytes: {fault:?}");
        }
    }

    #[test]
    fn a_sealed_key_does_not_open_in_another_row() {
        let sealing = under(key(1));
        let (one, other) = (stored(&sealing, "k1", "ES256"), stored(&sealing, "k2", "ES256"));
        for moved in [
            StoredKey { secret: other.secret.clone(), ..one.clone() },
            StoredKey { algorithm: "ES384".to_owned(), ..one.clone() },
            StoredKey { kid: "k1E".to_owned(), algorithm: "S256".to_owned(), ..one.clone() },
        ] {
            assert_eq!(sealing.open(&moved), Err(SealFault::Spoilt), "{moved:?}");
        }
    }

    #[test]
    fn a_wrong_and_a_missing_key_are_told_by_name() {
        let key1 = stored(&under(key(1)), "k1", "ES256");
        let missing = Sealing::Off.open(&key1).unwrap_err();
        assert_eq!(missing, SealFault::NoKey { sealed_under: key(1).id });
        let wrong = under(key(2)).open(&key1).unwrap_err();
        assert_eq!(wrong, SealFault::OtherKey { sealed_under: key(1).id, given: key(2).id });
        let told = wrong.to_string();
        assert!(told.contains(&key(1).id.to_string()) && told.contains(&key(2).id.to_string()), "{told}");
        assert_ne!(key(1).id, key(2).id);
    }

    #[test]
    fn the_previous_key_opens_and_only_the_new_one_is_up_to_date() {
        let (old, new) = (under(key(1)), Sealing::Under { key: key(2), previous: Some(key(1)) });
        let sealed = stored(&old, "k1", "ES256");
        assert_eq!(new.open(&sealed).as_deref().map(Vec::as_slice), Ok(PKCS8));
        assert!(old.is_up_to_date(&sealed.secret) && !new.is_up_to_date(&sealed.secret));
        let plain = stored(&Sealing::Off, "k1", "ES256");
        assert!(Sealing::Off.is_up_to_date(&plain.secret) && !new.is_up_to_date(&plain.secret));
        assert_eq!(new.open(&plain).as_deref().map(Vec::as_slice), Ok(PKCS8), "to be sealed at the start");
    }
}
