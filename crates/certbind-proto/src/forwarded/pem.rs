//! Percent-encoded PEM to certificates: what nginx, Envoy and AWS forward.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;

use super::{ForwardedFault, MAX_CHAIN, certificate};
use crate::cert::{MAX_DER, PeerCert};

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// One certificate as percent-encoded PEM, without anything before or behind it. `+` stands for itself.
///
/// # Errors
/// [`ForwardedFault`].
pub fn escaped_pem(text: &str) -> Result<PeerCert, ForwardedFault> {
    let chain = blocks(text)?;
    if chain.len() > 1 { Err(ForwardedFault::Several) } else { certificate(chain) }
}

/// The same with the chain behind the leaf.
pub(super) fn escaped_chain(text: &str) -> Result<PeerCert, ForwardedFault> {
    certificate(blocks(text)?)
}

fn blocks(text: &str) -> Result<Vec<CertificateDer<'static>>, ForwardedFault> {
    // Base64 in lines of 64 and every character of it escaped is four times as long as what it stands for.
    if text.len() > MAX_CHAIN * MAX_DER * 4 {
        return Err(ForwardedFault::TooLong);
    }
    let text = decode(text).ok_or(ForwardedFault::Malformed)?;
    let (mut rest, mut blocks) = (text.trim_end_matches(['\n', '\r']), Vec::new());
    while !rest.is_empty() {
        let (inside, behind) =
            rest.strip_prefix(BEGIN).and_then(|rest| rest.split_once(END)).ok_or(ForwardedFault::Malformed)?;
        if blocks.len() == MAX_CHAIN {
            return Err(ForwardedFault::TooLong);
        }
        blocks.push(der(inside)?);
        rest = behind.trim_start_matches(['\n', '\r']);
    }
    Ok(blocks)
}

fn der(lines: &str) -> Result<CertificateDer<'static>, ForwardedFault> {
    let base64: String = lines.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
    let der = STANDARD.decode(base64).map_err(|_| ForwardedFault::Malformed)?;
    if der.len() > MAX_DER { Err(ForwardedFault::TooLong) } else { Ok(der.into()) }
}

/// Undoes percent-encoding (RFC 3986 §2.1). What is printable ASCII may also stand for itself.
fn decode(text: &str) -> Option<String> {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let digit = |byte: u8| char::from(byte).to_digit(16);
                u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()?
            }
            b'!'..=b'~' => byte,
            _ => return None,
        };
        if !byte.is_ascii() {
            return None;
        }
        decoded.push(char::from(byte));
    }
    Some(decoded)
}
