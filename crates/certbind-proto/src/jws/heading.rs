//! The JOSE header of what one key signs, and a token on its way: header and claims first, the signature last
//! (RFC 7515 §5.1). Who signs in between is not asked here: a key in memory, or one that never leaves its module.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::{Map, Value};

use super::SignFault;

/// What the header says of the key that signs. It is encoded once.
#[derive(Clone, Debug)]
pub struct Heading {
    alg: &'static str,
    kid: Option<String>,
    /// The header in base64url, and the dot that follows.
    prefix: String,
}

/// Header and claims of a token that is not signed yet.
pub struct Unsigned(String);

impl Heading {
    /// A header with this `alg`, `typ` and, where there is one, this `kid` (RFC 7515 §4.1).
    #[must_use]
    pub fn new(alg: &'static str, typ: &str, kid: Option<&str>) -> Self {
        Self { alg, kid: kid.map(str::to_owned), prefix: prefix(alg, typ, kid) }
    }

    /// The `kid` that it says.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The claims behind this header.
    ///
    /// # Errors
    /// [`SignFault::Claims`].
    pub fn unsigned(&self, claims: &impl Serialize) -> Result<Unsigned, SignFault> {
        Unsigned::behind(&self.prefix, claims)
    }

    /// The claims behind this header with another `typ`.
    ///
    /// # Errors
    /// [`SignFault::Claims`].
    pub fn unsigned_as(&self, typ: &str, claims: &impl Serialize) -> Result<Unsigned, SignFault> {
        Unsigned::behind(&prefix(self.alg, typ, self.kid()), claims)
    }
}

impl Unsigned {
    fn behind(prefix: &str, claims: &impl Serialize) -> Result<Self, SignFault> {
        let mut json = Vec::with_capacity(512);
        serde_json::to_writer(&mut json, claims).map_err(|_| SignFault::Claims)?;
        // Room for a signature of 512 octets, the size of RSA-4096, at 4 characters for 3 octets.
        let mut text = String::with_capacity(prefix.len() + json.len() / 3 * 4 + 4 + 1 + 684);
        text.push_str(prefix);
        URL_SAFE_NO_PAD.encode_string(json, &mut text);
        Ok(Self(text))
    }

    /// What is to be signed.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The token with its signature, in the form of RFC 7518 §3.
    #[must_use]
    pub fn signed(self, signature: &[u8]) -> String {
        let mut token = self.0;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }
}

/// The header in base64url, and the dot that follows.
fn prefix(alg: &str, typ: &str, kid: Option<&str>) -> String {
    let members = [("typ", Some(typ)), ("alg", Some(alg)), ("kid", kid)];
    let present = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
    let header = Value::Object(present.collect::<Map<_, _>>()).to_string();
    URL_SAFE_NO_PAD.encode(header) + "."
}
