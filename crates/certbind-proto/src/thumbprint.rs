//! The `x5t#S256` thumbprint: a certificate's DER to the 43 characters that a token is bound with (RFC 8705 §3.1).

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use aws_lc_rs::{constant_time, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// The length of a thumbprint as text.
pub const TEXT_LENGTH: usize = 43;

/// The SHA-256 hash of a whole certificate in DER, or of a public key as RFC 7638 §3 writes it. Printed as base64url without
/// padding.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Thumbprint([u8; 32]);

/// Why a text is not a thumbprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ThumbprintFault {
    /// It has a foreign character, or its last character has bits that no hash sets.
    #[error("a thumbprint is canonical base64url without padding (RFC 8705 §3.1, RFC 4648 §3.5)")]
    NotBase64url,
    /// It is longer or shorter than [`TEXT_LENGTH`]: hexadecimal, padded, empty or cut.
    #[error("a thumbprint has 43 characters (RFC 8705 §3.1)")]
    WrongLength,
}

impl Thumbprint {
    /// Of the certificate whose DER encoding this is.
    #[must_use]
    pub fn of_der(der: &[u8]) -> Self {
        Self::of(der)
    }

    /// Of these octets, whatever they are.
    pub(crate) fn of(octets: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, octets).as_ref());
        Self(hash)
    }

    /// From the hash itself.
    #[must_use]
    pub const fn from_bytes(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// From its text form.
    ///
    /// # Errors
    /// [`ThumbprintFault`] unless `text` is the one canonical spelling.
    pub fn parse(text: &str) -> Result<Self, ThumbprintFault> {
        if text.len() != TEXT_LENGTH {
            return Err(ThumbprintFault::WrongLength);
        }
        let mut hash = [0; 32];
        match URL_SAFE_NO_PAD.decode_slice(text, &mut hash) {
            Ok(32) => Ok(Self(hash)),
            _ => Err(ThumbprintFault::NotBase64url),
        }
    }

    /// The hash itself.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Constant time: a timing difference would tell how much of a registered thumbprint was guessed.
impl PartialEq for Thumbprint {
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for Thumbprint {}

impl Hash for Thumbprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; TEXT_LENGTH];
        let written = URL_SAFE_NO_PAD.encode_slice(self.0, &mut text).map_err(|_| fmt::Error)?;
        f.pad(std::str::from_utf8(&text[..written]).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Thumbprint({self})")
    }
}

impl FromStr for Thumbprint {
    type Err = ThumbprintFault;

    fn from_str(text: &str) -> Result<Self, ThumbprintFault> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Thumbprint {
    type Error = ThumbprintFault;

    fn try_from(text: String) -> Result<Self, ThumbprintFault> {
        Self::parse(&text)
    }
}

impl From<Thumbprint> for String {
    fn from(thumbprint: Thumbprint) -> Self {
        thumbprint.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject as _;

    use super::*;

    /// RFC 8705 Appendix A, Figure 6.
    const APPENDIX_A: &[u8] = include_bytes!("../tests/vectors/rfc8705-appendix-a.pem");

    #[test]
    fn rfc8705_appendix_a_the_thumbprint_of_its_certificate() {
        let der = CertificateDer::from_pem_slice(APPENDIX_A).unwrap();
        let thumbprint = Thumbprint::of_der(&der);
        assert_eq!(thumbprint.to_string(), "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0");
        assert_eq!(Thumbprint::parse("A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0"), Ok(thumbprint));
    }

    #[test]
    fn rfc8705_3_1_only_43_canonical_base64url_characters_are_a_thumbprint() {
        let hex = "0380ed2f626650c840b2f263e6d2b29fae12ab39ae5db32b25ad27efad72e6fd";
        for (text, fault) in [
            ("", ThumbprintFault::WrongLength),
            (hex, ThumbprintFault::WrongLength),
            ("A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0=", ThumbprintFault::WrongLength),
            ("A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v", ThumbprintFault::WrongLength),
            ("A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v1", ThumbprintFault::NotBase64url),
            ("A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v=", ThumbprintFault::NotBase64url),
            ("A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5/0", ThumbprintFault::NotBase64url),
            ("A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5+0", ThumbprintFault::NotBase64url),
            (" A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v", ThumbprintFault::NotBase64url),
        ] {
            assert_eq!(Thumbprint::parse(text), Err(fault), "{text:?}");
        }
    }

    #[test]
    fn rfc4648_3_5_the_example_of_rfc8705_figure_2_has_stray_bits_and_is_refused() {
        let figure_2 = "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2";
        assert_eq!(Thumbprint::parse(figure_2), Err(ThumbprintFault::NotBase64url));
    }

    proptest! {
        #[test]
        fn printing_and_parsing_round_trip(der in proptest::collection::vec(any::<u8>(), 0..64)) {
            let thumbprint = Thumbprint::of_der(&der);
            prop_assert_eq!(Thumbprint::parse(&thumbprint.to_string()), Ok(thumbprint));
        }

        #[test]
        fn parsing_never_panics_and_accepts_one_spelling_only(text in "[A-Za-z0-9_=-]{43}|.{0,50}") {
            if let Ok(thumbprint) = Thumbprint::parse(&text) {
                prop_assert_eq!(thumbprint.to_string(), text);
            }
        }
    }
}
