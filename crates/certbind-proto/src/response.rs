//! Bodies of token and error responses (RFC 6749 §5.1, §5.2).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::ErrorCode;

/// The token type of a certificate-bound token: the binding shows in `cnf`, the scheme stays `Bearer` (RFC 8705 §3).
pub const TOKEN_TYPE: &str = "Bearer";

/// A success (RFC 6749 §5.1). The token is redacted in `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenResponse {
    /// The access token.
    pub access_token: String,
    /// How it is presented; compared without case (RFC 6749 §7.1).
    pub token_type: String,
    /// Its remaining life in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
    /// What was granted, when the sender says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

impl fmt::Debug for TokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenResponse")
            .field("access_token", &"[redacted]")
            .field("token_type", &self.token_type)
            .field("expires_in", &self.expires_in)
            .field("scope", &self.scope)
            .finish()
    }
}

/// A refusal (RFC 6749 §5.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorResponse {
    /// A registered code; a receiver may meet one that it does not know.
    pub error: String,
    /// A sentence for the developer at the other end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_description: Option<String>,
}

impl ErrorResponse {
    /// A refusal with a constant sentence. The sentence never holds anything that the peer sent.
    #[must_use]
    pub fn new(code: ErrorCode, description: &'static str) -> Self {
        Self { error: code.as_str().to_owned(), error_description: Some(description.to_owned()) }
    }
}

/// Whether a text keeps to the characters of `error_description`: `%x20-21 / %x23-5B / %x5D-7E` (RFC 6749 §5.2).
#[must_use]
pub fn is_description(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, 0x20..=0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6749_5_1_the_body_has_the_registered_names_and_types() {
        let response = TokenResponse {
            access_token: "t".to_owned(),
            token_type: TOKEN_TYPE.to_owned(),
            expires_in: Some(300),
            scope: Some("a b".to_owned()),
        };
        let body = serde_json::to_string(&response).unwrap();
        assert_eq!(body, r#"{"access_token":"t","token_type":"Bearer","expires_in":300,"scope":"a b"}"#);
        assert!(!format!("{response:?}").contains("\"t\""));
    }

    #[test]
    fn rfc6749_5_2_a_description_has_no_quote_backslash_control_or_foreign_letter() {
        assert!(is_description("Client authentication failed."));
        for text in ["a\"b", "a\\b", "a\r\nb", "é", "\u{7f}"] {
            assert!(!is_description(text), "{text:?}");
        }
    }
}
