//! The keys under which private signing keys are sealed in the store: a reference in, 256 bits out.

use std::fmt;

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use super::fault::Fault;
use super::origin::Environment;
use super::reference::Reference;

/// The longest text of a key, in bytes: 64 digits and some blanks.
const MAX_TEXT: u64 = 128;

/// What private signing keys are sealed under in the store.
pub struct EncryptionKeys {
    /// The key.
    pub key: EncryptionKey,
    /// The key of before.
    pub previous: Option<EncryptionKey>,
}

/// 256 bits, wiped when they are dropped.
pub type EncryptionKey = Zeroizing<[u8; 32]>;

/// Shows no key.
impl fmt::Debug for EncryptionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncryptionKeys [redacted]")
    }
}

impl EncryptionKeys {
    /// The key that a reference leads to.
    pub(super) fn read(key: &Reference, environment: &Environment) -> Result<EncryptionKey, Fault> {
        let text = key.read_private(MAX_TEXT, environment).map_err(Fault::Read)?;
        parse(&text).ok_or(Fault::EncryptionKey)
    }
}

/// 32 bytes as `openssl rand` prints them, with `-base64` or `-hex`; base64url as well, padded or not.
fn parse(text: &[u8]) -> Option<EncryptionKey> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let text = text.trim_ascii();
    let hex = || {
        let digit = |at: usize| char::from(*text.get(at)?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        (text.len() == 64).then(|| (0..32).map(|at| Some(digit(2 * at)? << 4 | digit(2 * at + 1)?)).collect()).flatten()
    };
    let base64 = |alphabet| GeneralPurpose::new(alphabet, LENIENT).decode(text).ok();
    let bytes = Zeroizing::new(hex().or_else(|| base64(&STANDARD)).or_else(|| base64(&URL_SAFE))?);
    let mut key = EncryptionKey::default();
    (bytes.len() == key.len()).then(|| key.copy_from_slice(&bytes)).map(|()| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_openssl_prints_it_and_nothing_else_is_a_key() {
        let bytes: [u8; 32] = std::array::from_fn(|at| u8::try_from(at * 8 + 7).unwrap());
        let base64 = "Bw8XHycvNz9HT1dfZ293f4ePl5+nr7e/x8/X3+fv9/8=";
        let hex = "070f171f272f373f474f575f676f777f878f979fa7afb7bfc7cfd7dfe7eff7ff";
        let url = base64.replace('+', "-").replace('/', "_");
        for text in [
            base64,
            &format!("{base64}\n"),
            base64.trim_end_matches('='),
            &url,
            hex,
            &hex.to_uppercase(),
            &format!(" {hex}\r\n"),
        ] {
            assert_eq!(parse(text.as_bytes()).as_deref(), Some(&bytes), "{text:?}");
        }
        for text in
            ["", "password", &base64[4..], &hex[2..], &format!("{hex}00"), &base64.replace('B', "*"), &"g".repeat(64)]
        {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
    }
}
