//! Just enough DER to exchange the subject of a certificate before it is signed again.

use crate::PkiError;

const SEQUENCE: u8 = 0x30;

/// One value with its tag.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        short @ 0..=0x7f => out.push(low_byte(short)),
        mid @ 0x80..=0xff => out.extend([0x81, low_byte(mid)]),
        long => out.extend([0x82, low_byte(long >> 8), low_byte(long)]),
    }
    out.extend(content);
    out
}

/// A SEQUENCE of these values.
pub(crate) fn sequence<V: AsRef<[u8]>>(values: &[V]) -> Vec<u8> {
    tlv(SEQUENCE, &concat(values))
}

/// A SET OF these values, in the order that DER demands (X.690 §11.6).
pub(crate) fn set_of(mut values: Vec<Vec<u8>>) -> Vec<u8> {
    values.sort();
    tlv(0x31, &concat(&values))
}

/// An object identifier.
pub(crate) fn oid(arcs: &[u64]) -> Vec<u8> {
    let first = arcs.first().copied().unwrap_or(0) * 40 + arcs.get(1).copied().unwrap_or(0);
    let mut content = Vec::new();
    for arc in std::iter::once(first).chain(arcs.iter().skip(2).copied()) {
        let digits = (1..10).find(|n| arc >> (7 * n) == 0).unwrap_or(10);
        for digit in (0..digits).rev() {
            let more = if digit == 0 { 0 } else { 0x80 };
            content.push(more | (arc >> (7 * digit) & 0x7f) as u8);
        }
    }
    tlv(0x06, &content)
}

/// The values inside a SEQUENCE, each with its tag. For bytes that rcgen wrote, not for those of a peer.
pub(crate) fn inside(sequence: &[u8]) -> Result<Vec<&[u8]>, PkiError> {
    let (SEQUENCE, mut rest, []) = split(sequence)? else { return Err(PkiError::Der) };
    let mut values = Vec::new();
    while !rest.is_empty() {
        let (_, _, after) = split(rest)?;
        values.push(&rest[..rest.len() - after.len()]);
        rest = after;
    }
    Ok(values)
}

/// What a value holds, without its tag and length.
pub(crate) fn content(value: &[u8]) -> Result<&[u8], PkiError> {
    split(value).map(|(_, content, _)| content)
}

/// Tag, content, and what follows.
fn split(der: &[u8]) -> Result<(u8, &[u8], &[u8]), PkiError> {
    let (&tag, rest) = der.split_first().ok_or(PkiError::Der)?;
    let (&first, rest) = rest.split_first().ok_or(PkiError::Der)?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => rest.split_first().map(|(&byte, rest)| (usize::from(byte), rest)).ok_or(PkiError::Der)?,
        0x82 => rest
            .split_first_chunk::<2>()
            .map(|(bytes, rest)| (usize::from(u16::from_be_bytes(*bytes)), rest))
            .ok_or(PkiError::Der)?,
        _ => return Err(PkiError::Der),
    };
    let (content, rest) = rest.split_at_checked(length).ok_or(PkiError::Der)?;
    Ok((tag, content, rest))
}

fn concat<V: AsRef<[u8]>>(values: &[V]) -> Vec<u8> {
    values.iter().flat_map(|value| value.as_ref()).copied().collect()
}

fn low_byte(number: usize) -> u8 {
    (number & 0xff) as u8
}
