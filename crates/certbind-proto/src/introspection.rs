//! What an authorization server says of a token: written here, and read by the resource server that asked
//! (RFC 7662 §2.2; RFC 9701 §5).

use serde::Serialize;
use serde_json::Value;

use crate::access_token::AccessToken;
use crate::json::{self, JsonFault};
use crate::response::TOKEN_TYPE;
use crate::time::Timestamp;

/// The media type of a plain answer (RFC 7662 §2.2).
pub const PLAIN: &str = "application/json";
/// The media type of a signed answer (RFC 9701 §4).
pub const SIGNED: &str = "application/token-introspection+jwt";
/// The `typ` of a signed answer (RFC 9701 §5).
pub const TYP: &str = "token-introspection+jwt";

/// What is said of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Introspection {
    /// It is good, and this is what it says. Without the scope that means nothing to whoever asks.
    Active(Box<AccessToken>),
    /// It is not good for whoever asks. He is not told why, and not whether there is such a token (RFC 7662 §2.2).
    Inactive,
}

impl Introspection {
    /// The members of the answer (RFC 7662 §2.2; RFC 8705 §3.2).
    #[must_use]
    pub fn to_members(&self) -> impl Serialize + '_ {
        match self {
            Self::Active(token) => {
                Members { active: true, token_type: Some(TOKEN_TYPE), token: Some(token.to_claims()) }
            }
            Self::Inactive => Members { active: false, token_type: None, token: None },
        }
    }

    /// The claims of a signed answer. What is said of the token stands in a claim of its own and nothing of it at the
    /// top, so that nobody takes the answer for the token (RFC 9701 §5, §8.1).
    #[must_use]
    pub fn to_claims<'a>(&'a self, issuer: &'a str, asked_by: &'a str, now: Timestamp) -> impl Serialize + 'a {
        Claims { iss: issuer, aud: asked_by, iat: now.unix(), token_introspection: self.to_members() }
    }
}

#[derive(Serialize)]
struct Members<T: Serialize> {
    active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<&'static str>,
    #[serde(flatten)]
    token: Option<T>,
}

#[derive(Serialize)]
struct Claims<'a, T: Serialize> {
    iss: &'a str,
    aud: &'a str,
    iat: i64,
    token_introspection: T,
}

/// Why an answer cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerFault {
    /// `active` is not there, or neither true nor false.
    #[error("active is neither true nor false (RFC 7662 §2.2)")]
    ActiveMissing,
    /// It is not a JSON object.
    #[error("not a JSON object: {0}")]
    Json(#[from] JsonFault),
}

/// Whether a plain answer says that the token is good.
///
/// # Errors
/// [`AnswerFault`]: then it says neither.
pub fn is_active(answer: &[u8]) -> Result<bool, AnswerFault> {
    json::parse_object(answer)?.get("active").and_then(Value::as_bool).ok_or(AnswerFault::ActiveMissing)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::binding::Confirmation;
    use crate::thumbprint::Thumbprint;

    fn active() -> Introspection {
        Introspection::Active(Box::new(AccessToken {
            iss: "https://auth.test".to_owned(),
            sub: "billing".to_owned(),
            client_id: "billing".to_owned(),
            aud: vec!["https://api.test".to_owned()],
            scope: "payments:read".parse().unwrap(),
            iat: Timestamp::from_unix(1_000),
            exp: Timestamp::from_unix(1_300),
            jti: "id".to_owned(),
            cnf: Some(Confirmation { x5t_s256: Thumbprint::of_der(b"certificate") }),
        }))
    }

    #[test]
    fn rfc7662_2_2_an_answer_says_everything_or_nothing() {
        assert_eq!(
            serde_json::to_value(active().to_members()).unwrap(),
            json!({
                "active": true, "token_type": "Bearer", "iss": "https://auth.test", "sub": "billing",
                "client_id": "billing", "aud": "https://api.test", "scope": "payments:read", "iat": 1000, "exp": 1300,
                "jti": "id", "cnf": { "x5t#S256": Thumbprint::of_der(b"certificate").to_string() },
            })
        );
        assert_eq!(serde_json::to_string(&Introspection::Inactive.to_members()).unwrap(), r#"{"active":false}"#);
    }

    #[test]
    fn rfc9701_5_a_signed_answer_says_nothing_of_the_token_at_its_top() {
        for (introspection, said) in [
            (active(), serde_json::to_value(active().to_members()).unwrap()),
            (Introspection::Inactive, json!({ "active": false })),
        ] {
            let claims = introspection.to_claims("https://auth.test", "api", Timestamp::from_millis(1_200_900));
            assert_eq!(
                serde_json::to_value(claims).unwrap(),
                json!({ "iss": "https://auth.test", "aud": "api", "iat": 1200, "token_introspection": said })
            );
        }
    }

    #[test]
    fn rfc7662_2_2_an_answer_without_a_clear_active_is_none() {
        let missing = Err(AnswerFault::ActiveMissing);
        for (answer, expected) in [
            (r#"{"active":true}"#, Ok(true)),
            (r#"{"active":false,"exp":1}"#, Ok(false)),
            (r#"{}"#, missing),
            (r#"{"active":"true"}"#, missing),
            (r#"{"active":1}"#, missing),
            (r#"{"active":null}"#, missing),
            (r#"{"active":true,"active":false}"#, Err(AnswerFault::Json(JsonFault::DuplicateMember))),
            (r#"[true]"#, Err(AnswerFault::Json(JsonFault::NotAnObject))),
            ("", Err(AnswerFault::Json(JsonFault::Syntax))),
        ] {
            assert_eq!(is_active(answer.as_bytes()), expected, "{answer}");
        }
    }
}
