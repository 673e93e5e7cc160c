//! What signs a token: a key in memory at once, or a key that never leaves its security module, after a wait.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use certbind_proto::access_token;
use certbind_proto::jwk::Jwk;
use certbind_proto::jws::{Algorithm, Heading, SignFault, Signer, Unsigned, VerifyingKey};
use serde::Serialize;

use super::MintFault;
use crate::store::BoxFuture;

/// A security module that holds signing keys. It makes none: an operator does, beside this program.
pub trait KeyModule: Send + Sync {
    /// The keys that certbind may sign with, in the order of their ids.
    ///
    /// # Errors
    /// [`ModuleFault`].
    fn keys(&self) -> BoxFuture<'_, Result<Vec<ModuleKey>, ModuleFault>>;

    /// A signature by the key with this id, in the form of RFC 7518 §3. It comes within the time that the module has.
    ///
    /// # Errors
    /// [`ModuleFault`].
    fn sign(&self, id: &ObjectId, algorithm: Algorithm, message: &[u8]) -> BoxFuture<'_, Result<Vec<u8>, ModuleFault>>;

    /// Whether the last call succeeded. Costs nothing; for readiness.
    fn is_healthy(&self) -> bool;
}

/// A key in a security module.
#[derive(Clone, Debug)]
pub struct ModuleKey {
    /// By which it is found there.
    pub id: ObjectId,
    /// Its public half.
    pub public: VerifyingKey,
}

/// The id of a key in a security module (`CKA_ID`), read as a number: the larger one is the newer key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ObjectId(Vec<u8>);

impl ObjectId {
    /// As the module has it.
    #[must_use]
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// As the module has it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// From hexadecimal digits.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digit = |digit: &u8| char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let byte = |[high, low]: &[u8; 2]| Some(digit(high)? << 4 | digit(low)?);
        rest.is_empty().then(|| pairs.iter().map(byte).collect::<Option<_>>()).flatten().map(Self)
    }

    fn number(&self) -> (usize, &[u8]) {
        let zeros = self.0.iter().take_while(|byte| **byte == 0).count();
        let digits = self.0.get(zeros..).unwrap_or_default();
        (digits.len(), digits)
    }
}

impl Ord for ObjectId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.number().cmp(&other.number())
    }
}

impl PartialOrd for ObjectId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// In hexadecimal digits, as the tools of PKCS#11 show it.
impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a security module did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ModuleFault {
    /// As many calls wait for it as may.
    #[error("too many calls wait for the security module")]
    Busy,
    /// It did not answer in time.
    #[error("the security module did not answer in time")]
    Deadline,
    /// It reported an error.
    #[error("the security module failed")]
    Failed(#[source] Arc<dyn Error + Send + Sync>),
    /// It has no key with this id.
    #[error("the token has no private key with the id {0} and the configured label")]
    KeyMissing(ObjectId),
    /// The PIN is wrong or locked. It is not tried again, as a token locks itself after a few wrong ones.
    #[error("the token refuses the PIN; it is not tried again before a restart")]
    PinRefused,
    /// Its signature does not hold under the published key: another key has the same id by now.
    #[error("the signature by the key with the id {0} does not hold: it is another key than the one that is published")]
    SignatureWrong(ObjectId),
    /// There is no token of this name.
    #[error("the security module has no such token")]
    TokenMissing,
}

/// Makes tokens with one key. The way of a key in memory has no wait in it.
#[derive(Debug)]
pub(super) enum TokenSigner {
    Memory(Signer),
    Module(ModuleSigner),
}

impl TokenSigner {
    #[cfg(test)]
    pub(super) fn kid(&self) -> Option<&str> {
        match self {
            Self::Memory(signer) => signer.kid(),
            Self::Module(signer) => signer.heading.kid(),
        }
    }

    pub(super) const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Memory(signer) => signer.key().algorithm(),
            Self::Module(signer) => signer.algorithm,
        }
    }

    /// Whether it can sign, as far as is known. A key in memory can.
    pub(super) fn is_healthy(&self) -> bool {
        match self {
            Self::Memory(_) => true,
            Self::Module(signer) => signer.module.is_healthy(),
        }
    }

    /// An access token with these claims.
    pub(super) async fn sign(&self, claims: &impl Serialize) -> Result<String, MintFault> {
        match self {
            Self::Memory(signer) => signer.sign_claims(claims).map_err(|_| MintFault::Signing),
            Self::Module(signer) => signer.finish(signer.heading.unsigned(claims)).await,
        }
    }

    /// Something else than an access token.
    pub(super) async fn sign_as(&self, typ: &str, claims: &impl Serialize) -> Result<String, MintFault> {
        match self {
            Self::Memory(signer) => signer.sign_claims_as(typ, claims).map_err(|_| MintFault::Signing),
            Self::Module(signer) => signer.finish(signer.heading.unsigned_as(typ, claims)).await,
        }
    }

    /// Tries whether it can sign.
    pub(super) async fn probe(&self) -> Result<(), ModuleFault> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Module(signer) => signer.sign(b"probe").await.map(drop),
        }
    }
}

/// Signs with a key in a security module.
pub(super) struct ModuleSigner {
    module: Arc<dyn KeyModule>,
    id: ObjectId,
    algorithm: Algorithm,
    heading: Heading,
    public: VerifyingKey,
}

impl ModuleSigner {
    pub(super) fn new(module: Arc<dyn KeyModule>, id: ObjectId, public: &Jwk, algorithm: Algorithm) -> Self {
        let heading = Heading::new(algorithm.as_str(), access_token::TYP, public.kid());
        Self { module, id, algorithm, heading, public: public.key().clone() }
    }

    async fn finish(&self, unsigned: Result<Unsigned, SignFault>) -> Result<String, MintFault> {
        let unsigned = unsigned.map_err(|_| MintFault::Signing)?;
        let signature = self.sign(unsigned.bytes()).await.map_err(|_| MintFault::SignerUnavailable)?;
        Ok(unsigned.signed(&signature))
    }

    /// A signature that holds. It costs little to look, and a token that nobody can verify is worth nothing.
    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, ModuleFault> {
        let signature = self.module.sign(&self.id, self.algorithm, message).await?;
        let holds = self.public.verify(self.algorithm, message, &signature);
        holds.map(|()| signature).map_err(|_| ModuleFault::SignatureWrong(self.id.clone()))
    }
}

impl fmt::Debug for ModuleSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModuleSigner").field("id", &self.id).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_number_whatever_zeros_stand_before_it() {
        let id = |text| ObjectId::parse(text).unwrap();
        for (smaller, larger) in
            [("01", "02"), ("ff", "0100"), ("", "01"), ("0002", "03"), ("09", "0a"), ("7fff", "8000")]
        {
            assert!(id(smaller) < id(larger), "{smaller} {larger}");
        }
        assert_eq!(id("0aFF").to_string(), "0aff");
        assert_eq!((ObjectId::parse("0"), ObjectId::parse("0g"), ObjectId::parse("é")), (None, None, None));
    }
}
