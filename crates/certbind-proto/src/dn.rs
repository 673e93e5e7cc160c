//! Distinguished names: read from RFC 4514 text or from DER, compared by RFC 5280 §7.1, printed as RFC 4514.
//!
//! A name is never compared as text. Each value is prepared once, when the name is read (RFC 4518); after that two
//! names are equal when their keys are the same bytes.

mod attribute;
mod prepare;
mod rfc4514;
#[cfg(test)]
mod tests;

use std::fmt;
use std::hash::{Hash, Hasher};

use crate::der::{self, NotDer};
use attribute::Attribute;

/// Certificates are capped anyway; this keeps a registration from being absurd.
const MAX_TEXT: usize = 4096;

/// A distinguished name: a sequence of relative names, each a set of attributes.
#[derive(Clone)]
pub struct Dn {
    text: String,
    key: Vec<u8>,
    is_comparable: bool,
}

/// Why something is not a name that a client can be registered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnFault {
    /// No attribute in it.
    #[error("the name is empty")]
    Empty,
    /// A value with nothing in it, or nothing but blanks.
    #[error("an attribute has no value")]
    EmptyValue,
    /// A `#hex` value of a type other than PrintableString, UTF8String, IA5String.
    #[error("a value is of a string type that is not compared (BMPString, TeletexString, …)")]
    NotComparable,
    /// The bytes are not the strict DER of a name or a value.
    #[error("a value is not strict DER")]
    NotDer,
    /// A NUL, or a character that RFC 4518 §2.4 prohibits.
    #[error("a value has a character that names must not have (RFC 4518 §2.4)")]
    ProhibitedCharacter,
    /// `/C=DE/CN=a`.
    #[error(
        "this is OpenSSL's slash form; write RFC 4514, most specific first: CN=a,C=DE (openssl x509 -noout -subject -nameopt RFC2253,utf8,-esc_msb)"
    )]
    SlashForm,
    /// Not the grammar of RFC 4514 §3.
    #[error("not an RFC 4514 name: write CN=a,O=b,C=DE, with a backslash before , + \" \\ < > ; inside a value")]
    Syntax,
    /// More than 4096 octets.
    #[error("the name is longer than 4096 octets")]
    TooLong,
    /// A short name that is not in our table.
    #[error("an attribute name is not known here; write its object identifier instead: 2.5.4.3=…")]
    UnknownAttribute,
}

impl Dn {
    /// From RFC 4514 text, most specific relative name first, as a client registers it.
    ///
    /// # Errors
    /// What is wrong with the text; the empty name is refused as well.
    pub fn parse_rfc4514(text: &str) -> Result<Self, DnFault> {
        if text.len() > MAX_TEXT {
            return Err(DnFault::TooLong);
        }
        rfc4514::parse(text).map(Self::of)
    }

    /// From the DER of a certificate's `Name`; here the least specific relative name stands first.
    ///
    /// A name may be empty, and may hold values that cannot be compared ([`Dn::is_comparable`]): it is read and printed
    /// all the same.
    ///
    /// # Errors
    /// [`DnFault::NotDer`] when the bytes are not one `Name` in strict DER.
    pub fn from_der(name: &[u8]) -> Result<Self, DnFault> {
        der::check(name).and_then(|()| read_name(name)).map(Self::of).map_err(|NotDer| DnFault::NotDer)
    }

    /// Whether the names are equal by RFC 5280 §7.1: same number and order of relative names, each the same set of
    /// attributes, values equal after RFC 4518 preparation. A name that cannot be compared equals none.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.is_comparable && other.is_comparable && self.key == other.key
    }

    /// Whether every value is of a string type that has rules for comparison (PrintableString, UTF8String, IA5String).
    #[must_use]
    pub const fn is_comparable(&self) -> bool {
        self.is_comparable
    }

    /// Whether there is no attribute in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.key.is_empty()
    }

    /// From relative names in the order of DER.
    fn of(mut rdns: Vec<Vec<Attribute>>) -> Self {
        let is_comparable = rdns.iter().flatten().all(Attribute::is_comparable);
        let text = rfc4514::print(&rdns);
        let mut key = Vec::new();
        for rdn in &mut rdns {
            // A relative name is a set (RFC 5280 §7.1): sorted, the order in which it was written is gone.
            rdn.sort_unstable_by(|a, b| a.key().cmp(b.key()));
            push_length(&mut key, rdn.len());
            for attribute in rdn {
                push_length(&mut key, attribute.key().len());
                key.extend_from_slice(attribute.key());
            }
        }
        Self { text, key, is_comparable }
    }
}

/// Lengths go before what they count, so no value can pretend to be two: `CN=pay\, O=Bank` is not `CN=pay,O=Bank`.
fn push_length(key: &mut Vec<u8>, length: usize) {
    key.extend_from_slice(&(length as u64).to_be_bytes());
}

/// `RDNSequence` (RFC 5280 §4.1.2.4).
fn read_name(name: &[u8]) -> Result<Vec<Vec<Attribute>>, NotDer> {
    let sequence = der::read_only(name, der::SEQUENCE)?;
    der::values(sequence.content).map(|rdn| read_rdn(rdn?.whole)).collect()
}

fn read_rdn(rdn: &[u8]) -> Result<Vec<Attribute>, NotDer> {
    let set = der::read_only(rdn, der::SET)?;
    if set.content.is_empty() {
        return Err(NotDer);
    }
    der::values(set.content).map(|pair| read_attribute(pair?.whole)).collect()
}

fn read_attribute(pair: &[u8]) -> Result<Attribute, NotDer> {
    let sequence = der::read_only(pair, der::SEQUENCE)?;
    let (oid, value) = der::read(sequence.content)?;
    let (value, []) = der::read(value)? else { return Err(NotDer) };
    if oid.tag != der::OID {
        return Err(NotDer);
    }
    Ok(Attribute::from_der(der::dotted(oid.content).ok_or(NotDer)?, value))
}

/// RFC 4514 text, which reads back as the same name when [`Dn::is_comparable`].
impl fmt::Display for Dn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Dn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dn({self})")
    }
}

/// Equality of the prepared values, also where a value has no rules for comparison and only its bytes count.
impl PartialEq for Dn {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && self.is_comparable == other.is_comparable
    }
}

impl Eq for Dn {}

impl Hash for Dn {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}
