//! Scope: the grammar and the set arithmetic of RFC 6749 §3.3.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A set of scope tokens. Order has no meaning, case has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Scope {
    tokens: BTreeSet<String>,
}

/// Why a text is not a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopeFault {
    /// Two spaces in a row, or one at either end.
    #[error("scope tokens are separated by exactly one space (RFC 6749 §3.3)")]
    EmptyToken,
    /// A character other than `%x21 / %x23-5B / %x5D-7E`.
    #[error("a scope token has printable ASCII without space, quote and backslash (RFC 6749 §3.3)")]
    ForbiddenCharacter,
}

impl Scope {
    /// Whether there is no token in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The tokens, in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.tokens.iter().map(String::as_str)
    }

    /// Whether this token is in it.
    #[must_use]
    pub fn contains(&self, token: &str) -> bool {
        self.tokens.contains(token)
    }

    /// Whether each token of `self` is in `other`.
    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        self.tokens.is_subset(&other.tokens)
    }

    /// What both have.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self { tokens: self.tokens.intersection(&other.tokens).cloned().collect() }
    }

    /// What either has.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self { tokens: self.tokens.union(&other.tokens).cloned().collect() }
    }

    /// What `self` has and `other` has not.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        Self { tokens: self.tokens.difference(&other.tokens).cloned().collect() }
    }
}

impl FromStr for Scope {
    type Err = ScopeFault;

    /// A text of tokens with one space between them; the empty text is the empty scope. A token said twice counts once.
    fn from_str(text: &str) -> Result<Self, ScopeFault> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let tokens = text.split(' ').map(|token| check_token(token).map(|()| token.to_owned()));
        Ok(Self { tokens: tokens.collect::<Result<_, _>>()? })
    }
}

fn check_token(token: &str) -> Result<(), ScopeFault> {
    if token.is_empty() {
        return Err(ScopeFault::EmptyToken);
    }
    if !token.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e)) {
        return Err(ScopeFault::ForbiddenCharacter);
    }
    Ok(())
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, token) in self.tokens.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            f.write_str(token)?;
        }
        Ok(())
    }
}

impl TryFrom<String> for Scope {
    type Error = ScopeFault;

    fn try_from(text: String) -> Result<Self, ScopeFault> {
        text.parse()
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scope(text: &str) -> Scope {
        text.parse().expect("a good scope")
    }

    #[test]
    fn rfc6749_3_3_grammar() {
        for (text, expected) in [
            ("a\"b", Err(ScopeFault::ForbiddenCharacter)),
            ("a\\b", Err(ScopeFault::ForbiddenCharacter)),
            ("a\tb", Err(ScopeFault::ForbiddenCharacter)),
            ("é", Err(ScopeFault::ForbiddenCharacter)),
            ("a\u{7f}", Err(ScopeFault::ForbiddenCharacter)),
            ("a  b", Err(ScopeFault::EmptyToken)),
            (" a", Err(ScopeFault::EmptyToken)),
            ("a ", Err(ScopeFault::EmptyToken)),
            ("a!#[]~ b", Ok("a!#[]~ b")),
            ("", Ok("")),
        ] {
            assert_eq!(text.parse::<Scope>().map(|s| s.to_string()), expected.map(str::to_owned), "{text:?}");
        }
    }

    #[test]
    fn rfc6749_3_3_order_has_no_meaning_and_case_has() {
        assert_eq!(scope("b a"), scope("a b"));
        assert_eq!(scope("a a"), scope("a"));
        assert_ne!(scope("A"), scope("a"));
    }

    fn any_scope() -> impl Strategy<Value = Scope> {
        proptest::collection::btree_set("[!#-\\[\\]-~]{1,6}", 0..6).prop_map(|tokens| Scope { tokens })
    }

    proptest! {
        #[test]
        fn printing_and_parsing_round_trip(s in any_scope()) {
            prop_assert_eq!(s.to_string().parse::<Scope>(), Ok(s));
        }

        #[test]
        fn the_algebra_of_sets_holds(a in any_scope(), b in any_scope()) {
            prop_assert!(a.intersection(&b).is_subset(&a));
            prop_assert!(a.intersection(&b).is_subset(&b));
            prop_assert!(a.is_subset(&a.union(&b)));
            prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
            prop_assert!(a.difference(&b).intersection(&b).is_empty());
        }

        #[test]
        fn parsing_never_panics(text in ".{0,64}") {
            let _ = text.parse::<Scope>();
        }
    }
}
