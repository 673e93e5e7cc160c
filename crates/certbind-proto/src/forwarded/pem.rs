//! Percent-encoded PEM to certificates: what nginx, Envoy and AWS forward.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;

use super::{ForwardedFault, MAX_CHAIN, certificate};
use crate::cert::{MAX_DER, PeerCert};

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";
const LINE_ENDS: [char; 2] = ['\n', '\r'];

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
    let (mut rest, mut blocks) = (text.trim_end_matches(LINE_ENDS), Vec::new());
    while !rest.is_empty() {
        let (inside, behind) =
            rest.strip_prefix(BEGIN).and_then(|rest| rest.split_once(END)).ok_or(ForwardedFault::Malformed)?;
        if blocks.len() == MAX_CHAIN {
            return Err(ForwardedFault::TooLong);
        }
        blocks.push(der(inside)?);
        rest = behind.trim_start_matches(LINE_ENDS);
    }
    Ok(blocks)
}

fn der(lines: &str) -> Result<CertificateDer<'static>, ForwardedFault> {
    let base64 = lines.split(LINE_ENDS).fold(String::with_capacity(lines.len()), |base64, line| base64 + line);
    let der = STANDARD.decode(base64).map_err(|_| ForwardedFault::Malformed)?;
    if der.len() > MAX_DER { Err(ForwardedFault::TooLong) } else { Ok(der.into()) }
}

/// Undoes percent-encoding (RFC 3986 §2.1). What is printable ASCII may also stand for itself.
fn decode(text: &str) -> Option<String> {
    let mut pieces = text.split('%');
    let mut decoded = String::with_capacity(text.len());
    decoded.push_str(pieces.next()?);
    for piece in pieces {
        let (digits, plain) = piece.split_at_checked(2)?;
        let digit = |at: usize| char::from(digits.as_bytes()[at]).to_digit(16);
        let byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok().filter(u8::is_ascii)?;
        decoded.push(byte.into());
        decoded.push_str(plain);
    }
    text.bytes().all(|byte| byte.is_ascii_graphic()).then_some(decoded)
}
