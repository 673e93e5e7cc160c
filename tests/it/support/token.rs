//! An issued token, taken apart.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::Answer;

/// A token with the answer that brought it and the audit line that tells of it.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) header: Value,
    pub(crate) claims: Value,
    pub(crate) answer: Answer,
    pub(crate) audit: Value,
}

impl Token {
    pub(crate) fn new(answer: Answer, audit: Value) -> Self {
        let text = answer.json()["access_token"].as_str().expect("a token that is a text").to_owned();
        let part =
            |at| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text.split('.').nth(at).unwrap()).unwrap()).unwrap();
        Self { header: part(0), claims: part(1), answer, audit, text }
    }

    /// The thumbprint that it is bound to.
    pub(crate) fn bound_to(&self) -> Option<&str> {
        self.claims.get("cnf").and_then(|cnf| cnf["x5t#S256"].as_str())
    }

    pub(crate) fn expires_in(&self) -> u64 {
        self.answer.json()["expires_in"].as_u64().expect("a whole number of seconds")
    }
}
