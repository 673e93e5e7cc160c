//! The closed list of signature algorithms (RFC 7518 §3.1, RFC 8037 §3.1, RFC 8725 §3.1).

use std::fmt;

/// A signature algorithm. Nothing symmetric and no `none` can be named (RFC 8725 §3.1, §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Algorithm {
    /// Ed25519 under its older name, `EdDSA` (RFC 8037 §3.1). Ed448 is not done.
    EdDsa,
    /// ECDSA on P-256 with SHA-256 (RFC 7518 §3.4).
    Es256,
    /// ECDSA on P-384 with SHA-384 (RFC 7518 §3.4).
    Es384,
    /// RSASSA-PSS with SHA-256 and a salt of 32 octets (RFC 7518 §3.5).
    Ps256,
    /// RSASSA-PSS with SHA-384 and a salt of 48 octets (RFC 7518 §3.5).
    Ps384,
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518 §3.3).
    Rs256,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 6] = [Self::EdDsa, Self::Es256, Self::Es384, Self::Ps256, Self::Ps384, Self::Rs256];

    /// The algorithm of this registered name, letter case included; `Ed25519` is the newer name of `EdDSA` (RFC 9864).
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "Ed25519" => Some(Self::EdDsa),
            _ => Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name),
        }
    }

    /// The registered name, as it is written into a header.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Rs256 => "RS256",
        }
    }

    /// The name that says everything, the curve included: `Ed25519` in place of `EdDSA` (RFC 9864 §2.2).
    #[must_use]
    pub const fn fully_specified(self) -> &'static str {
        match self {
            Self::EdDsa => "Ed25519",
            _ => self.as_str(),
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of algorithms that somebody allows (RFC 8725 §3.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Algorithms(u8);

impl Algorithms {
    /// All that this project knows.
    pub const DEFAULT: Self = Self::of(&Algorithm::ALL);
    /// What FAPI 2.0 Security Profile §5.4.1 leaves.
    pub const FAPI2: Self = Self::of(&[Algorithm::EdDsa, Algorithm::Es256, Algorithm::Ps256]);

    /// Exactly these.
    #[must_use]
    pub const fn of(list: &[Algorithm]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < list.len() {
            bits |= list[i].bit();
            i += 1;
        }
        Self(bits)
    }

    /// Whether `algorithm` is in it.
    #[must_use]
    pub const fn contains(self, algorithm: Algorithm) -> bool {
        self.0 & algorithm.bit() != 0
    }

    /// Whether it is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What both have.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The algorithms in it, by name.
    pub fn iter(self) -> impl Iterator<Item = Algorithm> {
        Algorithm::ALL.into_iter().filter(move |algorithm| self.contains(*algorithm))
    }

    /// The names that a token may say, for server metadata: `Ed25519` stands beside `EdDSA` (RFC 9864).
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        let newer = self.contains(Algorithm::EdDsa).then_some("Ed25519");
        newer.into_iter().chain(self.iter().map(Algorithm::as_str)).collect()
    }
}

impl fmt::Debug for Algorithms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc7515_4_1_1_an_algorithm_has_its_registered_name_letter_case_included() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::parse(algorithm.as_str()), Some(algorithm));
            assert_eq!(Algorithm::parse(&algorithm.as_str().to_lowercase()), None);
        }
        assert_eq!(Algorithm::parse("Ed25519"), Some(Algorithm::EdDsa));
        for name in ["", "none", "HS256", "HS512", "RS384", "ES256K", "ES512", "Ed448", "RSA1_5", "dir", " ES256"] {
            assert_eq!(Algorithm::parse(name), None, "{name}");
        }
    }

    #[test]
    fn fapi_5_4_1_the_fapi_set_is_ps256_es256_and_ed25519() {
        assert_eq!(Algorithms::FAPI2.names(), ["Ed25519", "EdDSA", "ES256", "PS256"]);
        assert!(!Algorithms::FAPI2.contains(Algorithm::Rs256));
        assert_eq!(Algorithms::DEFAULT.iter().count(), Algorithm::ALL.len());
    }

    #[test]
    fn each_name_of_a_set_is_one_that_a_token_may_say() {
        for set in [Algorithms::DEFAULT, Algorithms::FAPI2, Algorithms::of(&[])] {
            let named: Vec<_> = set.names().into_iter().filter_map(Algorithm::parse).collect();
            assert_eq!(Algorithms::of(&named), set);
        }
        assert_eq!(Algorithms::DEFAULT.intersection(Algorithms::FAPI2), Algorithms::FAPI2);
        assert!(Algorithms::FAPI2.intersection(Algorithms::of(&[Algorithm::Rs256])).is_empty());
    }
}
