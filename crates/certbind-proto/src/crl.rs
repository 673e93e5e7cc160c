//! Revocation lists (RFC 5280 §5): the facts about one that do not need its entries.
//!
//! webpki looks serial numbers up and checks the signature. It does not say when a list was made, and it takes a list
//! without a number: that is read here.

use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use crate::der::{self, NotDer, Tlv};
use crate::time::Timestamp;

/// A revocation list, as far as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crl {
    issuer: Vec<u8>,
    this_update: Timestamp,
    next_update: Timestamp,
    /// An unsigned number, without leading zeros.
    number: Vec<u8>,
}

/// Why bytes are not a revocation list that we use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CrlFault {
    /// No `nextUpdate`: the list would be good for ever (RFC 5280 §5.1.2.5).
    #[error("the revocation list has no nextUpdate (RFC 5280 §5.1.2.5)")]
    NextUpdateMissing,
    /// Not the structure of a revocation list of version 2.
    #[error("not a revocation list (RFC 5280 §5.1)")]
    NotACrl,
    /// Not strict DER.
    #[error("the revocation list is not strict DER")]
    NotDer,
    /// A CRL number that is marked critical (RFC 5280 §5.2.3).
    #[error("the number of the revocation list is critical (RFC 5280 §5.2.3)")]
    NumberCritical,
    /// No CRL number (RFC 5280 §5.2.3).
    #[error("the revocation list has no number (RFC 5280 §5.2.3)")]
    NumberMissing,
}

impl Crl {
    /// Reads one list.
    ///
    /// # Errors
    /// The first fact that makes `der` unusable.
    pub fn parse(der: &[u8]) -> Result<Self, CrlFault> {
        der::check(der).map_err(|NotDer| CrlFault::NotDer)?;
        let fields = fields(der).map_err(|NotDer| CrlFault::NotACrl)?;
        let [version, _algorithm, issuer, this_update, rest @ ..] = fields.as_slice() else {
            return Err(CrlFault::NotACrl);
        };
        if (version.tag, version.content) != (der::INTEGER, VERSION_2) {
            return Err(CrlFault::NotACrl);
        }
        let next_update = rest.first().filter(|field| matches!(field.tag, der::UTC_TIME | der::GENERALIZED_TIME));
        let this_update = time(this_update)?;
        let next_update = time(next_update.ok_or(CrlFault::NextUpdateMissing)?)?;
        let number = number(rest.iter().find(|field| field.tag == EXTENSIONS))?;
        Ok(Self { issuer: issuer.whole.to_vec(), this_update, next_update, number })
    }

    /// The `Name` of its issuer, in DER.
    #[must_use]
    pub fn issuer_der(&self) -> &[u8] {
        &self.issuer
    }

    /// When it was made.
    #[must_use]
    pub const fn this_update(&self) -> Timestamp {
        self.this_update
    }

    /// When there will be a newer one: from then on it is stale.
    #[must_use]
    pub const fn next_update(&self) -> Timestamp {
        self.next_update
    }

    /// Whether its issuer made it before that other one of theirs, by the numbers (RFC 5280 §5.2.3).
    #[must_use]
    pub fn is_older_than(&self, other: &Self) -> bool {
        (self.number.len(), &self.number) < (other.number.len(), &other.number)
    }
}

const VERSION_2: &[u8] = &[1];
/// `[0] crlExtensions`.
const EXTENSIONS: u8 = 0xa0;
/// `2.5.29.20`.
const CRL_NUMBER: &[u8] = &[0x55, 0x1d, 0x14];

/// The fields of `TBSCertList`.
fn fields(der: &[u8]) -> Result<Vec<Tlv<'_>>, NotDer> {
    let list = der::read_only(der, der::SEQUENCE)?;
    let (tbs, _) = der::read(list.content)?;
    if tbs.tag != der::SEQUENCE {
        return Err(NotDer);
    }
    der::values(tbs.content).collect()
}

fn time(field: &Tlv<'_>) -> Result<Timestamp, CrlFault> {
    match ASN1Time::from_der(field.whole) {
        Ok(([], time)) => Ok(Timestamp::from_unix(time.timestamp())),
        _ => Err(CrlFault::NotACrl),
    }
}

fn number(extensions: Option<&Tlv<'_>>) -> Result<Vec<u8>, CrlFault> {
    let sequence = extensions.ok_or(CrlFault::NumberMissing)?;
    let sequence = der::read_only(sequence.content, der::SEQUENCE).map_err(|NotDer| CrlFault::NotACrl)?;
    for extension in der::values(sequence.content) {
        let extension = extension.map_err(|NotDer| CrlFault::NotACrl)?;
        let (oid, rest) = der::read(extension.content).map_err(|NotDer| CrlFault::NotACrl)?;
        if (oid.tag, oid.content) == (der::OID, CRL_NUMBER) {
            let is_critical = der::read(rest).is_ok_and(|(flag, _)| flag.tag == der::BOOLEAN && flag.content == [0xff]);
            return if is_critical {
                Err(CrlFault::NumberCritical)
            } else {
                unsigned(rest).map_err(|NotDer| CrlFault::NotACrl)
            };
        }
    }
    Err(CrlFault::NumberMissing)
}

/// The number in the value of an extension that is not critical.
fn unsigned(value: &[u8]) -> Result<Vec<u8>, NotDer> {
    let (mut field, rest) = der::read(value)?;
    if field.tag == der::BOOLEAN {
        (field, _) = der::read(rest)?;
    }
    let number = der::read_only(field.content, der::INTEGER)?.content;
    let leading = number.iter().take_while(|octet| **octet == 0).count();
    Ok(number.get(leading..).unwrap_or_default().to_vec())
}

#[cfg(test)]
mod tests {
    use certbind_devpki::{CrlSpec, Issuer, Validity};
    use proptest::prelude::*;

    use super::*;
    use crate::der::{GENERALIZED_TIME, INTEGER, OID, SEQUENCE, UTC_TIME, encode};

    fn list(version: &[u8], times: &[Vec<u8>], extensions: &[u8]) -> Vec<u8> {
        let tbs = [version, &encode(SEQUENCE, &[]), &encode(SEQUENCE, &[]), &times.concat(), extensions].concat();
        encode(SEQUENCE, &[encode(SEQUENCE, &tbs), encode(SEQUENCE, &[]), encode(3, &[0])].concat())
    }

    #[test]
    fn rfc5280_5_2_3_numbers_say_which_list_is_older() {
        let ca = Issuer::root("ca", Validity::days_from(0, 9)).expect("a root");
        let list = |number| {
            let spec = CrlSpec { next_update: 2000, number, revoked: Vec::new(), this_update: 1000 };
            Crl::parse(ca.crl(&spec).expect("a list").der()).expect("a good list")
        };
        let lists = [0, 1, 127, 128, 255, 256, 1 << 40].map(list);
        for (at, list) in lists.iter().enumerate() {
            for (other_at, other) in lists.iter().enumerate() {
                assert_eq!(list.is_older_than(other), at < other_at, "{at} {other_at}");
            }
        }
    }

    #[test]
    fn rfc5280_5_1_the_facts_of_a_list() {
        let ca = Issuer::root("ca", Validity::days_from(0, 9)).expect("a root");
        let spec = CrlSpec { next_update: 2000, number: 7, revoked: vec![vec![1], vec![2]], this_update: 1000 };
        let crl = Crl::parse(ca.crl(&spec).expect("a list").der()).expect("a good list");
        assert_eq!((crl.this_update(), crl.next_update()), (Timestamp::from_unix(1000), Timestamp::from_unix(2000)));
        let issuer = crate::dn::Dn::from_der(crl.issuer_der()).expect("a name");
        assert_eq!(issuer.to_string(), "CN=ca");
    }

    #[test]
    fn rfc5280_5_1_2_what_is_not_a_usable_list_is_refused_by_its_fact() {
        let version = encode(INTEGER, &[1]);
        let times = [encode(UTC_TIME, b"260101000000Z"), encode(GENERALIZED_TIME, b"20510101000000Z")];
        let number = |critical: &[u8]| {
            let extension = [&encode(OID, CRL_NUMBER), critical, &encode(4, &[2, 1, 1])].concat();
            encode(EXTENSIONS, &encode(SEQUENCE, &encode(SEQUENCE, &extension)))
        };
        let other = encode(EXTENSIONS, &encode(SEQUENCE, &encode(SEQUENCE, &encode(OID, &[0x2a, 3]))));
        for (what, bytes, expected) in [
            ("good", list(&version, &times, &number(&[])), None),
            ("no nextUpdate", list(&version, &times[..1], &number(&[])), Some(CrlFault::NextUpdateMissing)),
            ("version 1", list(&[], &times, &number(&[])), Some(CrlFault::NotACrl)),
            ("version 3", list(&encode(INTEGER, &[2]), &times, &number(&[])), Some(CrlFault::NotACrl)),
            ("no number", list(&version, &times, &other), Some(CrlFault::NumberMissing)),
            ("no extension", list(&version, &times, &[]), Some(CrlFault::NumberMissing)),
            ("a critical number", list(&version, &times, &number(&[1, 1, 0xff])), Some(CrlFault::NumberCritical)),
            ("no time", list(&version, &[], &number(&[])), Some(CrlFault::NotACrl)),
            ("nothing", Vec::new(), Some(CrlFault::NotDer)),
            ("an empty sequence", vec![0x30, 0], Some(CrlFault::NotACrl)),
            ("a trailing byte", [list(&version, &times, &number(&[])), vec![0]].concat(), Some(CrlFault::NotDer)),
        ] {
            assert_eq!(Crl::parse(&bytes).err(), expected, "{what}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Crl::parse(&bytes);
            let _ = Crl::parse(&list(&encode(INTEGER, &[1]), &[], &bytes));
        }
    }
}
