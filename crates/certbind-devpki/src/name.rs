//! Distinguished names (RFC 5280 §4.1.2.4), also such as rcgen cannot write: several values in one RDN, a type twice.

use crate::der;

/// One step of a distinguished name: nearly always one attribute, sometimes a set of them.
pub type Rdn = Vec<Attribute>;

/// An attribute type with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// The object identifier of the type.
    pub oid: Vec<u64>,
    /// The value.
    pub value: String,
    /// As which string type it is written.
    pub encoding: Encoding,
}

/// The string types of a name's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// UTF-16, big endian.
    Bmp,
    /// ASCII.
    Ia5,
    /// A part of ASCII.
    Printable,
    /// T.61; written as Latin-1.
    Teletex,
    /// UTF-8.
    Utf8,
}

/// One RDN with one attribute, its type by its short name (`CN`, `O`, `OU`, `C`, `L`, `ST`, `DC`, `UID`, `serialNumber`,
/// `emailAddress`) or as dotted numbers. `DC` and `emailAddress` are written as IA5String, `C` and `serialNumber` as PrintableString, the rest as UTF8String.
#[must_use]
pub fn rdn(kind: &str, value: &str) -> Rdn {
    let encoding = match kind {
        "DC" | "emailAddress" => Encoding::Ia5,
        "C" | "serialNumber" => Encoding::Printable,
        _ => Encoding::Utf8,
    };
    vec![Attribute { oid: attribute_oid(kind), value: value.to_owned(), encoding }]
}

fn attribute_oid(kind: &str) -> Vec<u64> {
    match kind {
        "C" => vec![2, 5, 4, 6],
        "CN" => vec![2, 5, 4, 3],
        "DC" => vec![0, 9, 2342, 19_200_300, 100, 1, 25],
        "L" => vec![2, 5, 4, 7],
        "O" => vec![2, 5, 4, 10],
        "OU" => vec![2, 5, 4, 11],
        "ST" => vec![2, 5, 4, 8],
        "UID" => vec![0, 9, 2342, 19_200_300, 100, 1, 1],
        "emailAddress" => vec![1, 2, 840, 113_549, 1, 9, 1],
        "serialNumber" => vec![2, 5, 4, 5],
        dotted => dotted.split('.').filter_map(|arc| arc.parse().ok()).collect(),
    }
}

/// The DER of a `Name`.
pub(crate) fn encode(name: &[Rdn]) -> Vec<u8> {
    let rdns: Vec<_> = name.iter().map(|rdn| der::set_of(rdn.iter().map(attribute).collect())).collect();
    der::sequence(&rdns)
}

fn attribute(attribute: &Attribute) -> Vec<u8> {
    let value = &attribute.value;
    let value = match attribute.encoding {
        Encoding::Bmp => der::tlv(0x1e, &value.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<_>>()),
        Encoding::Ia5 => der::tlv(0x16, value.as_bytes()),
        Encoding::Printable => der::tlv(0x13, value.as_bytes()),
        Encoding::Teletex => {
            der::tlv(0x14, &value.chars().map(|c| u8::try_from(c).unwrap_or(b'?')).collect::<Vec<_>>())
        }
        Encoding::Utf8 => der::tlv(0x0c, value.as_bytes()),
    };
    der::sequence(&[der::oid(&attribute.oid), value])
}
