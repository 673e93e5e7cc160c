//! One attribute of a name: its type, and its value in a form that can be compared and in one that can be printed.

use super::{DnFault, prepare::prepare};
use crate::der::{self, Tlv};

/// An attribute type with its value.
#[derive(Clone, Debug)]
pub(super) struct Attribute {
    oid: String,
    value: Value,
    key: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Value {
    /// A string that can be compared.
    Text(String),
    /// Anything else, kept as its DER.
    Opaque(Vec<u8>),
}

impl Attribute {
    /// A value written as text; `oid` is dotted.
    pub(super) fn from_text(oid: String, text: String) -> Result<Self, DnFault> {
        let prepared = prepare(&text).ok_or(DnFault::ProhibitedCharacter)?;
        let attribute = Self { key: key_of(&oid, prepared.as_bytes()), oid, value: Value::Text(text) };
        if attribute.is_blank() { Err(DnFault::EmptyValue) } else { Ok(attribute) }
    }

    /// A value as it stands in a certificate. What cannot be compared stays opaque.
    pub(super) fn from_der(oid: String, value: Tlv<'_>) -> Self {
        match text_of(value).and_then(|text| Some((text, prepare(text)?))) {
            Some((text, prepared)) => {
                Self { key: key_of(&oid, prepared.as_bytes()), oid, value: Value::Text(text.to_owned()) }
            }
            None => Self { key: key_of(&oid, value.whole), oid, value: Value::Opaque(value.whole.to_vec()) },
        }
    }

    /// The bytes that decide about equality.
    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    /// Whether nothing is left of the value once it is prepared.
    pub(super) const fn is_blank(&self) -> bool {
        self.key.len() == self.oid.len() + 1
    }

    pub(super) const fn is_comparable(&self) -> bool {
        matches!(self.value, Value::Text(_))
    }

    /// The short name where there is one, the dotted form otherwise.
    pub(super) fn name(&self) -> &str {
        NAMES
            .iter()
            .find(|(oid, _)| *oid == self.oid)
            .and_then(|(_, names)| names.first())
            .copied()
            .unwrap_or(&self.oid)
    }

    /// The value as text, when RFC 4514 §2.4 lets it print as text: a string, of a type that has a short name.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) if NAMES.iter().any(|(oid, _)| *oid == self.oid) => Some(text),
            _ => None,
        }
    }

    /// The value as DER; text is a UTF8String.
    pub(super) fn der(&self) -> Vec<u8> {
        match &self.value {
            Value::Text(text) => der::encode(der::UTF8_STRING, text.as_bytes()),
            Value::Opaque(der) => der.clone(),
        }
    }
}

fn key_of(oid: &str, value: &[u8]) -> Vec<u8> {
    [oid.as_bytes(), b"=", value].concat()
}

/// PrintableString and UTF8String (RFC 5280 §7.1), and IA5String for domain components and e-mail addresses (§7.3,
/// §7.5). Others have no rules, or rules with several readings: they are not compared.
fn text_of(value: Tlv<'_>) -> Option<&str> {
    let text = std::str::from_utf8(value.content).ok()?;
    match value.tag {
        der::UTF8_STRING => Some(text),
        der::PRINTABLE_STRING | der::IA5_STRING if text.is_ascii() => Some(text),
        _ => None,
    }
}

/// The dotted object identifier of an attribute type that is written as a name or as an identifier (RFC 4514 §3).
pub(super) fn oid_of(attribute_type: &str) -> Result<String, DnFault> {
    if attribute_type.starts_with(|c: char| c.is_ascii_digit()) {
        return is_dotted(attribute_type).then(|| attribute_type.to_owned()).ok_or(DnFault::Syntax);
    }
    let is_name = attribute_type.starts_with(|c: char| c.is_ascii_alphabetic())
        && attribute_type.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !is_name {
        return Err(DnFault::Syntax);
    }
    let same = |name: &&str| name.eq_ignore_ascii_case(attribute_type);
    let known = NAMES.iter().find(|(_, names)| names.iter().any(same));
    known.map(|(oid, _)| (*oid).to_owned()).ok_or(DnFault::UnknownAttribute)
}

/// `numericoid` (RFC 4512 §1.4), with the bounds of X.660.
fn is_dotted(text: &str) -> bool {
    let arc = |arc: &str| (arc == "0" || !arc.starts_with('0')).then(|| arc.parse::<u128>().ok()).flatten();
    let arcs: Option<Vec<u128>> = text.split('.').map(arc).collect();
    match arcs.as_deref() {
        Some([0 | 1, second, ..]) => *second < 40,
        Some([2, second, ..]) => *second <= u128::MAX - 80,
        _ => false,
    }
}

/// Object identifiers and their names; the first name is the one that is printed, as OpenSSL prints it.
const NAMES: [(&str, &[&str]); 31] = [
    ("2.5.4.3", &["CN", "commonName"]),
    ("2.5.4.4", &["SN", "surname"]),
    ("2.5.4.5", &["serialNumber"]),
    ("2.5.4.6", &["C", "countryName"]),
    ("2.5.4.7", &["L", "localityName"]),
    ("2.5.4.8", &["ST", "stateOrProvinceName"]),
    ("2.5.4.9", &["street", "streetAddress"]),
    ("2.5.4.10", &["O", "organizationName"]),
    ("2.5.4.11", &["OU", "organizationalUnitName"]),
    ("2.5.4.12", &["title"]),
    ("2.5.4.13", &["description"]),
    ("2.5.4.15", &["businessCategory"]),
    ("2.5.4.16", &["postalAddress"]),
    ("2.5.4.17", &["postalCode"]),
    ("2.5.4.18", &["postOfficeBox"]),
    ("2.5.4.20", &["telephoneNumber"]),
    ("2.5.4.41", &["name"]),
    ("2.5.4.42", &["GN", "givenName"]),
    ("2.5.4.43", &["initials"]),
    ("2.5.4.44", &["generationQualifier"]),
    ("2.5.4.46", &["dnQualifier"]),
    ("2.5.4.65", &["pseudonym"]),
    ("2.5.4.97", &["organizationIdentifier"]),
    ("0.9.2342.19200300.100.1.1", &["UID", "userId"]),
    ("0.9.2342.19200300.100.1.25", &["DC", "domainComponent"]),
    ("1.2.840.113549.1.9.1", &["emailAddress", "E", "email"]),
    ("1.2.840.113549.1.9.2", &["unstructuredName"]),
    ("1.2.840.113549.1.9.8", &["unstructuredAddress"]),
    ("1.3.6.1.4.1.311.60.2.1.1", &["jurisdictionL", "jurisdictionLocalityName"]),
    ("1.3.6.1.4.1.311.60.2.1.2", &["jurisdictionST", "jurisdictionStateOrProvinceName"]),
    ("1.3.6.1.4.1.311.60.2.1.3", &["jurisdictionC", "jurisdictionCountryName"]),
];
