//! Strict DER (X.690 §10, RFC 5280 §4.1): one value has one encoding, everything else is refused.
//!
//! `x509-parser` reads the fields, but it is a lenient reader: BER lengths, odd booleans and strange times pass. A
//! second encoding of the same certificate has a second thumbprint, so [`check`] looks at the bytes first.

/// The bytes are not strict DER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotDer;

/// One value: its identifier octet, its content, and both with the length between them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tlv<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    pub(crate) whole: &'a [u8],
}

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const NULL: u8 = 0x05;
pub(crate) const OID: u8 = 0x06;
pub(crate) const UTF8_STRING: u8 = 0x0c;
pub(crate) const PRINTABLE_STRING: u8 = 0x13;
pub(crate) const IA5_STRING: u8 = 0x16;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

const CONSTRUCTED: u8 = 0x20;
const CONTEXT_SPECIFIC: u8 = 0x80;
/// A certificate nests about a dozen deep; the cap keeps hostile bytes off the stack.
const MAX_DEPTH: u8 = 24;

/// The first value of `input`, and what follows it.
pub(crate) fn read(input: &[u8]) -> Result<(Tlv<'_>, &[u8]), NotDer> {
    let (&tag, after_tag) = input.split_first().ok_or(NotDer)?;
    if tag & 0x1f == 0x1f {
        return Err(NotDer); // multi-octet tags do not occur in certificates
    }
    let (length, after_length) = read_length(after_tag)?;
    let (content, rest) = after_length.split_at_checked(length).ok_or(NotDer)?;
    let whole = input.get(..input.len() - rest.len()).ok_or(NotDer)?;
    Ok((Tlv { tag, content, whole }, rest))
}

/// The one value of this tag that `input` consists of.
pub(crate) fn read_only(input: &[u8], tag: u8) -> Result<Tlv<'_>, NotDer> {
    match read(input)? {
        (tlv, []) if tlv.tag == tag => Ok(tlv),
        _ => Err(NotDer),
    }
}

/// The values that `content` is a row of.
pub(crate) fn values(mut content: &[u8]) -> impl Iterator<Item = Result<Tlv<'_>, NotDer>> {
    std::iter::from_fn(move || {
        if content.is_empty() {
            return None;
        }
        let value = read(content);
        content = value.map_or(&[], |(_, rest)| rest);
        Some(value.map(|(tlv, _)| tlv))
    })
}

/// Whether `input` is one value in strict DER, all the way down.
pub(crate) fn check(input: &[u8]) -> Result<(), NotDer> {
    let (tlv, rest) = read(input)?;
    if !rest.is_empty() {
        return Err(NotDer);
    }
    check_value(tlv, MAX_DEPTH)
}

fn check_value(tlv: Tlv<'_>, depth: u8) -> Result<(), NotDer> {
    let depth = depth.checked_sub(1).ok_or(NotDer)?;
    if tlv.tag & CONSTRUCTED != 0 {
        let is_known = matches!(tlv.tag, SEQUENCE | SET) || tlv.tag & CONTEXT_SPECIFIC != 0;
        return if is_known {
            values(tlv.content).try_for_each(|value| check_value(value?, depth))
        } else {
            Err(NotDer)
        };
    }
    let good = match tlv.tag {
        BOOLEAN => matches!(tlv.content, [0x00 | 0xff]),
        INTEGER => is_minimal_integer(tlv.content),
        BIT_STRING => is_minimal_bit_string(tlv.content),
        NULL => tlv.content.is_empty(),
        OID => arcs(tlv.content).is_some(),
        UTC_TIME => is_time(tlv.content, 12),
        GENERALIZED_TIME => is_time(tlv.content, 14),
        UTF8_STRING => std::str::from_utf8(tlv.content).is_ok(),
        SEQUENCE_PRIMITIVE | SET_PRIMITIVE => false,
        _ => true,
    };
    good.then_some(()).ok_or(NotDer)
}

/// The encoding of one value.
pub(crate) fn encode(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length: Vec<u8> = length.into_iter().skip_while(|octet| *octet == 0).collect();
    let mut encoded = vec![tag];
    match *length.as_slice() {
        [] => encoded.push(0),
        [short @ 0..=0x7f] => encoded.push(short),
        _ => {
            encoded.push(0x80 | (length.len() as u8));
            encoded.extend_from_slice(&length);
        }
    }
    encoded.extend_from_slice(content);
    encoded
}

const SEQUENCE_PRIMITIVE: u8 = SEQUENCE & !CONSTRUCTED;
const SET_PRIMITIVE: u8 = SET & !CONSTRUCTED;

fn read_length(input: &[u8]) -> Result<(usize, &[u8]), NotDer> {
    let (&first, rest) = input.split_first().ok_or(NotDer)?;
    if first < 0x80 {
        return Ok((usize::from(first), rest));
    }
    let (octets, rest) = rest.split_at_checked(usize::from(first & 0x7f)).ok_or(NotDer)?;
    let is_minimal = matches!(octets, [0x80..=0xff] | [0x01..=0xff, _, ..]);
    if !is_minimal || octets.len() > 4 {
        return Err(NotDer); // indefinite, too long, or longer than it need be
    }
    Ok((octets.iter().fold(0, |length, &octet| length << 8 | usize::from(octet)), rest))
}

fn is_minimal_integer(content: &[u8]) -> bool {
    !matches!(content, [] | [0x00, 0x00..=0x7f, ..] | [0xff, 0x80..=0xff, ..])
}

fn is_minimal_bit_string(content: &[u8]) -> bool {
    match content {
        [0] => true,
        [unused @ 0..=7, .., last] => last & ((1 << unused) - 1) == 0,
        _ => false,
    }
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` (RFC 5280 §4.1.2.5.1, §4.1.2.5.2): seconds, no fraction, no offset.
fn is_time(content: &[u8], digits: usize) -> bool {
    matches!(content, [all @ .., b'Z'] if all.len() == digits && all.iter().all(u8::is_ascii_digit))
}

/// An object identifier's content in dotted form; none when it is not strict DER or an arc is beyond 128 bits.
pub(crate) fn dotted(content: &[u8]) -> Option<String> {
    let arcs = arcs(content)?;
    let (&head, rest) = arcs.split_first()?;
    let first = (head / 40).min(2);
    let mut text = format!("{first}.{}", head - first * 40);
    for arc in rest {
        text.push('.');
        text.push_str(&arc.to_string());
    }
    Some(text)
}

fn arcs(content: &[u8]) -> Option<Vec<u128>> {
    let (mut arcs, mut arc, mut inside) = (Vec::new(), 0_u128, false);
    for &octet in content {
        if !inside && octet == 0x80 {
            return None; // a leading zero
        }
        arc = arc.checked_mul(128)?.checked_add(u128::from(octet & 0x7f))?;
        inside = octet & 0x80 != 0;
        if !inside {
            arcs.push(std::mem::take(&mut arc));
        }
    }
    (!inside && !arcs.is_empty()).then_some(arcs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x690_10_one_value_has_one_encoding() {
        for (what, bytes, good) in [
            ("a boolean", &[0x01, 0x01, 0xff][..], true),
            ("a boolean of another true", &[0x01, 0x01, 0x01], false),
            ("an integer", &[0x02, 0x02, 0x00, 0x80], true),
            ("a padded integer", &[0x02, 0x02, 0x00, 0x01], false),
            ("a padded negative integer", &[0x02, 0x02, 0xff, 0x80], false),
            ("an empty integer", &[0x02, 0x00], false),
            ("a length in BER's long form", &[0x02, 0x81, 0x01, 0x05], false),
            ("a length with a leading zero", &[0x04, 0x82, 0x00, 0x01, 0x05], false),
            ("an indefinite length", &[0x30, 0x80, 0x00, 0x00], false),
            ("a length beyond the end", &[0x30, 0x03, 0x05, 0x00], false),
            ("a trailing byte", &[0x05, 0x00, 0x00], false),
            ("a bit string", &[0x03, 0x02, 0x07, 0x80], true),
            ("a bit string with unused bits set", &[0x03, 0x02, 0x07, 0x81], false),
            ("a bit string with eight unused bits", &[0x03, 0x02, 0x08, 0x00], false),
            ("an empty bit string", &[0x03, 0x01, 0x00], true),
            ("a null with content", &[0x05, 0x01, 0x00], false),
            ("an identifier", &[0x06, 0x03, 0x55, 0x04, 0x03], true),
            ("an identifier that ends inside an arc", &[0x06, 0x02, 0x55, 0x84], false),
            ("an identifier with a padded arc", &[0x06, 0x03, 0x55, 0x80, 0x03], false),
            ("an empty identifier", &[0x06, 0x00], false),
            ("a time", b"\x17\x0d260101000000Z", true),
            ("a time without seconds", b"\x17\x0b2601010000Z", false),
            ("a time with an offset", b"\x17\x11260101000000+0100", false),
            ("a time with a fraction", b"\x18\x1120500101000000.5Z", false),
            ("text that is not UTF-8", b"\x0c\x01\xff", false),
            ("a primitive sequence", &[0x10, 0x00], false),
            ("a constructed string", b"\x2c\x03\x0c\x01a", false),
            ("a constructed octet string inside", b"\x30\x04\x24\x02\x04\x00", false),
            ("a tag of several octets", &[0x1f, 0x21, 0x00], false),
            ("nothing", &[], false),
        ] {
            assert_eq!(check(bytes).is_ok(), good, "{what}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_before_the_stack_feels_it() {
        let mut bytes = vec![0x05, 0x00];
        for _ in 0..100 {
            let mut outer = vec![0x30];
            match u8::try_from(bytes.len()) {
                Ok(short @ 0..=0x7f) => outer.push(short),
                Ok(long) => outer.extend([0x81, long]),
                Err(_) => outer.extend([0x82, (bytes.len() >> 8) as u8, (bytes.len() & 0xff) as u8]),
            }
            outer.append(&mut bytes);
            bytes = outer;
        }
        assert_eq!(check(&bytes), Err(NotDer));
    }

    #[test]
    fn object_identifiers_print_with_dots() {
        assert_eq!(dotted(&[0x55, 0x04, 0x03]).as_deref(), Some("2.5.4.3"));
        assert_eq!(
            dotted(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01]).as_deref(),
            Some("1.2.840.113549.1.9.1")
        );
        assert_eq!(dotted(&[0x88, 0x37, 0x03]).as_deref(), Some("2.999.3"));
        assert_eq!(dotted(&[0xff; 40]), None);
    }
}
