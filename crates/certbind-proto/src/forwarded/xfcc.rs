//! `X-Forwarded-Client-Cert` as Envoy writes it: pairs with `;` between, one element.

use super::{Forwarded, ForwardedFault, pem};
use crate::cert::PeerCert;
use crate::thumbprint::Thumbprint;

/// The certificate of the one element. A second one would be that of a proxy before this one, which nobody here knows.
pub(super) fn read(value: &str) -> Result<Forwarded, ForwardedFault> {
    let (mut cert, mut chain, mut hash) = (None, None, None);
    for pair in pairs(value)? {
        let (key, value) = pair?;
        let place = match key.to_ascii_lowercase().as_str() {
            "cert" => &mut cert,
            "chain" => &mut chain,
            "hash" => &mut hash,
            // Who forwarded, and names out of the certificate, of which there may be several.
            "by" | "dns" | "subject" | "uri" => continue,
            _ => return Err(ForwardedFault::Malformed),
        };
        if place.replace(value).is_some() {
            return Err(ForwardedFault::Several);
        }
    }
    let hash = hash.filter(|hash| !hash.is_empty()).map(|hash| of_hex(&hash)).transpose()?;
    let cert = cert.filter(|cert| !cert.is_empty()).map(|cert| pem::escaped_pem(&cert)).transpose()?;
    let chain = chain.filter(|chain| !chain.is_empty()).map(|chain| pem::escaped_chain(&chain)).transpose()?;
    one_of(cert, chain, hash)
}

/// All that is there has to be of one certificate.
fn one_of(
    cert: Option<PeerCert>,
    chain: Option<PeerCert>,
    hash: Option<Thumbprint>,
) -> Result<Forwarded, ForwardedFault> {
    if let (Some(cert), Some(chain)) = (&cert, &chain)
        && cert.thumbprint() != chain.thumbprint()
    {
        return Err(ForwardedFault::Several);
    }
    match (chain.or(cert), hash) {
        (Some(certificate), Some(hash)) if *certificate.thumbprint() != hash => Err(ForwardedFault::HashOther),
        (Some(certificate), _) => Ok(Forwarded::of(certificate)),
        (None, Some(hash)) => Ok(Forwarded::Hash(hash)),
        (None, None) => Err(ForwardedFault::Malformed),
    }
}

type Pair = Result<(String, String), ForwardedFault>;

/// Splits at `;` outside of quotes, and refuses `,` there.
fn pairs(text: &str) -> Result<Vec<Pair>, ForwardedFault> {
    let (mut pairs, mut pair, mut quoted, mut escaped) = (Vec::new(), String::new(), false, false);
    for character in text.chars() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => return Err(ForwardedFault::Several),
            ';' if !quoted => {
                pairs.push(split(&std::mem::take(&mut pair)));
                continue;
            }
            _ => {}
        }
        pair.push(character);
    }
    if quoted {
        return Err(ForwardedFault::Malformed);
    }
    if !pair.is_empty() {
        pairs.push(split(&pair));
    }
    Ok(pairs)
}

/// `key=value` or `key="value"`.
fn split(pair: &str) -> Pair {
    let (key, value) = pair.split_once('=').ok_or(ForwardedFault::Malformed)?;
    let value = match value.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"').ok_or(ForwardedFault::Malformed)?.replace("\\\"", "\""),
        None if value.contains('"') => return Err(ForwardedFault::Malformed),
        None => value.to_owned(),
    };
    Ok((key.to_owned(), value))
}

/// The SHA-256 hash of the DER encoding, in hexadecimal.
fn of_hex(text: &str) -> Result<Thumbprint, ForwardedFault> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut hash = [0; 32];
    if text.len() != 64 {
        return Err(ForwardedFault::Malformed);
    }
    for (place, pair) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let (high, low) = digit(pair[0]).zip(digit(pair[1])).ok_or(ForwardedFault::Malformed)?;
        *place = high * 16 + low;
    }
    Ok(Thumbprint::from_bytes(hash))
}
