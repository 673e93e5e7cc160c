//! The text form of names (RFC 4514 §2, §3): most specific relative name first, so the reverse of DER.

use super::DnFault;
use super::attribute::{Attribute, oid_of};
use super::prepare::is_invisible;
use crate::der;

/// Text to relative names in the order of DER.
///
/// Blanks around `,`, `+` and `=` are allowed, as RFC 2253 §4 asked: people type them, and they never count in a
/// comparison.
pub(super) fn parse(text: &str) -> Result<Vec<Vec<Attribute>>, DnFault> {
    let mut rest = text.trim_start_matches(' ');
    if rest.is_empty() {
        return Err(DnFault::Empty);
    }
    if rest.starts_with('/') {
        return Err(DnFault::SlashForm);
    }
    let mut rdns = vec![Vec::new()];
    loop {
        let (attribute, end, after) = parse_attribute(rest)?;
        if let Some(rdn) = rdns.last_mut() {
            rdn.push(attribute);
        }
        match end {
            End::Attribute => {}
            End::Name => break,
            End::Rdn => rdns.push(Vec::new()),
        }
        rest = after;
    }
    reverse(&mut rdns);
    Ok(rdns)
}

/// What a value was the last part of.
enum End {
    Attribute,
    Name,
    Rdn,
}

fn parse_attribute(text: &str) -> Result<(Attribute, End, &str), DnFault> {
    let (attribute_type, rest) = text.split_once('=').ok_or(DnFault::Syntax)?;
    let oid = oid_of(attribute_type.trim_matches(' '))?;
    let value_and_rest = rest.trim_start_matches(' ');
    let length = value_length(value_and_rest)?;
    let (value, rest) = value_and_rest.split_at_checked(length).ok_or(DnFault::Syntax)?;
    let attribute = match value.strip_prefix('#') {
        Some(hex) => from_hex(oid, hex.trim_end_matches(' '))?,
        None => Attribute::from_text(oid, unescape(value)?)?,
    };
    let end = match rest.chars().next() {
        Some('+') => End::Attribute,
        Some(_) => End::Rdn,
        None => End::Name,
    };
    Ok((attribute, end, rest.get(1..).unwrap_or_default()))
}

/// How far the value reaches: to the first `,` or `+` without a backslash before it.
fn value_length(text: &str) -> Result<usize, DnFault> {
    let mut is_escaped = false;
    for (i, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            ',' | '+' => return Ok(i),
            '"' | ';' | '<' | '>' | '\0' => return Err(DnFault::Syntax),
            _ => {}
        }
    }
    Ok(text.len())
}

/// `\` before a special character, or before two hexadecimal digits of one octet of UTF-8.
fn unescape(value: &str) -> Result<String, DnFault> {
    let mut octets = Vec::with_capacity(value.len());
    let mut significant = 0;
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                let first = bytes.next().ok_or(DnFault::Syntax)?;
                octets.push(match first {
                    b' ' | b'"' | b'#' | b'+' | b',' | b';' | b'<' | b'=' | b'>' | b'\\' => first,
                    _ => octet(first, bytes.next().ok_or(DnFault::Syntax)?)?,
                });
            }
            b' ' => {
                octets.push(byte);
                continue; // without an escape a trailing blank is not part of the value
            }
            _ => octets.push(byte),
        }
        significant = octets.len();
    }
    octets.truncate(significant);
    String::from_utf8(octets).map_err(|_| DnFault::Syntax)
}

/// `#` and the hexadecimal DER of the value (RFC 4514 §2.4).
fn from_hex(oid: String, hex: &str) -> Result<Attribute, DnFault> {
    let (pairs, []) = hex.as_bytes().as_chunks::<2>() else { return Err(DnFault::Syntax) };
    let value: Vec<u8> = pairs.iter().map(|&[high, low]| octet(high, low)).collect::<Result<_, _>>()?;
    der::check(&value).map_err(|_| DnFault::NotDer)?;
    let (tlv, _) = der::read(&value).map_err(|_| DnFault::NotDer)?;
    let attribute = Attribute::from_der(oid, tlv);
    if !attribute.is_comparable() {
        return Err(DnFault::NotComparable);
    }
    if attribute.is_blank() { Err(DnFault::EmptyValue) } else { Ok(attribute) }
}

fn octet(high: u8, low: u8) -> Result<u8, DnFault> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    digit(high).zip(digit(low)).map(|(high, low)| high << 4 | low).ok_or(DnFault::Syntax)
}

/// Relative names in the order of DER to text.
pub(super) fn print(rdns: &[Vec<Attribute>]) -> String {
    let mut text = String::new();
    for (i, rdn) in rdns.iter().rev().enumerate() {
        for (j, attribute) in rdn.iter().rev().enumerate() {
            text.push_str(match (i, j) {
                (0, 0) => "",
                (_, 0) => ",",
                _ => "+",
            });
            print_attribute(&mut text, attribute);
        }
    }
    text
}

fn print_attribute(text: &mut String, attribute: &Attribute) {
    text.push_str(attribute.name());
    text.push('=');
    match attribute.text() {
        Some(value) => escape(text, value),
        None => {
            text.push('#');
            attribute.der().iter().for_each(|octet| push_hex(text, *octet));
        }
    }
}

/// RFC 4514 §2.4. What cannot be seen is escaped too: the text goes to terminals and logs, and people judge by it.
fn escape(text: &mut String, value: &str) {
    let last = value.len().saturating_sub(1);
    for (i, c) in value.char_indices() {
        match c {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => text.extend(['\\', c]),
            ' ' if i == 0 || i == last => text.extend(['\\', c]),
            '#' if i == 0 => text.extend(['\\', c]),
            _ if is_invisible(c) => c.encode_utf8(&mut [0; 4]).bytes().for_each(|octet| {
                text.push('\\');
                push_hex(text, octet);
            }),
            _ => text.push(c),
        }
    }
}

fn push_hex(text: &mut String, octet: u8) {
    for digit in [octet >> 4, octet & 0x0f] {
        text.push(char::from_digit(digit.into(), 16).unwrap_or_default().to_ascii_uppercase());
    }
}

/// Text has the relative names, and the attributes in each, the other way round than DER.
fn reverse(rdns: &mut [Vec<Attribute>]) {
    rdns.reverse();
    rdns.iter_mut().for_each(|rdn| rdn.reverse());
}
