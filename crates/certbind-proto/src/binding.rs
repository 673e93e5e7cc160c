//! Does this token belong to this certificate? Yes, or one named reason (RFC 8705 §3; RFC 7800 §3.1).

use serde::Serialize;
use serde_json::Value;

use crate::thumbprint::{Thumbprint, ThumbprintFault};

/// The `cnf` claim: which certificate the presenter of a token has to prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Confirmation {
    /// The thumbprint of that certificate (RFC 8705 §3.1).
    #[serde(rename = "x5t#S256")]
    pub x5t_s256: Thumbprint,
}

/// Registered confirmation methods that nothing here can enforce. A token with one of them is refused, not half
/// checked.
const NOT_ENFORCED: [&str; 6] = ["jkt", "jku", "jwe", "jwk", "kid", "osc"];

/// Why a `cnf` claim cannot be honoured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfirmationFault {
    /// The claim is not a JSON object.
    #[error("cnf is not an object (RFC 7800 §3.1)")]
    NotAnObject,
    /// It demands a proof that is not made here, beside a certificate or instead of one.
    #[error("cnf demands a proof of possession that is not understood (RFC 7800 §3.1)")]
    NotEnforced,
    /// `x5t#S256` is not a thumbprint.
    #[error("cnf.x5t#S256: {0}")]
    Thumbprint(#[from] ThumbprintFault),
    /// No member of it is understood; it may be empty.
    #[error("cnf has no member that is understood (RFC 7800 §3.1)")]
    Unknown,
}

impl Confirmation {
    /// From the value of the `cnf` claim. Fails closed: what cannot be enforced is not let through as if it were
    /// absent.
    ///
    /// # Errors
    /// [`ConfirmationFault`].
    pub fn parse(cnf: &Value) -> Result<Self, ConfirmationFault> {
        let Value::Object(members) = cnf else { return Err(ConfirmationFault::NotAnObject) };
        if NOT_ENFORCED.iter().any(|method| members.contains_key(*method)) {
            return Err(ConfirmationFault::NotEnforced);
        }
        match members.get("x5t#S256") {
            Some(Value::String(text)) => Ok(Self { x5t_s256: Thumbprint::parse(text)? }),
            Some(_) => Err(ThumbprintFault::NotBase64url.into()),
            None => Err(ConfirmationFault::Unknown),
        }
    }
}

/// What is demanded of a token that is bound to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// It is refused.
    Required,
    /// It passes; a bound token must still be presented with its certificate.
    WhenBound,
}

/// Why a token does not belong to the connection it came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindingFault {
    /// The token is bound and no certificate was presented.
    #[error("the token is bound to a certificate and none was presented (RFC 8705 §3)")]
    NoCertificate,
    /// The token is bound to another certificate than the one presented.
    #[error("the token is bound to another certificate (RFC 8705 §3)")]
    OtherCertificate,
    /// The token is bound to nothing where a binding is demanded.
    #[error("the token is not bound to a certificate")]
    Unbound,
}

impl BindingFault {
    /// The stable name for audit, metrics and `certbind explain`.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoCertificate => "certificate_missing",
            Self::OtherCertificate => "binding_mismatch",
            Self::Unbound => "token_unbound",
        }
    }
}

/// Checks the `cnf` of a token against the leaf certificate proved on the connection that carries it (RFC 8705 §3).
///
/// # Errors
/// [`BindingFault`].
pub fn check(
    cnf: Option<&Confirmation>,
    certificate: Option<&Thumbprint>,
    requirement: Requirement,
) -> Result<(), BindingFault> {
    let Some(cnf) = cnf else {
        return match requirement {
            Requirement::Required => Err(BindingFault::Unbound),
            Requirement::WhenBound => Ok(()),
        };
    };
    let Some(certificate) = certificate else { return Err(BindingFault::NoCertificate) };
    if *certificate != cnf.x5t_s256 {
        return Err(BindingFault::OtherCertificate);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const THUMBPRINT: &str = "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0";

    #[test]
    fn rfc7800_3_1_a_confirmation_that_cannot_be_enforced_fails_closed() {
        let wrong_length = ConfirmationFault::Thumbprint(ThumbprintFault::WrongLength);
        let not_base64url = ConfirmationFault::Thumbprint(ThumbprintFault::NotBase64url);
        for (cnf, fault) in [
            (json!(null), ConfirmationFault::NotAnObject),
            (json!("x"), ConfirmationFault::NotAnObject),
            (json!([THUMBPRINT]), ConfirmationFault::NotAnObject),
            (json!({}), ConfirmationFault::Unknown),
            (json!({ "x": 1 }), ConfirmationFault::Unknown),
            (json!({ "x5t": THUMBPRINT }), ConfirmationFault::Unknown),
            (json!({ "X5T#S256": THUMBPRINT }), ConfirmationFault::Unknown),
            (json!({ "kid": "k" }), ConfirmationFault::NotEnforced),
            (json!({ "jwk": {} }), ConfirmationFault::NotEnforced),
            (json!({ "jkt": THUMBPRINT }), ConfirmationFault::NotEnforced),
            (json!({ "x5t#S256": THUMBPRINT, "jkt": THUMBPRINT }), ConfirmationFault::NotEnforced),
            (json!({ "x5t#S256": "" }), wrong_length),
            (json!({ "x5t#S256": format!("{THUMBPRINT}=") }), wrong_length),
            (json!({ "x5t#S256": "03".repeat(32) }), wrong_length),
            (json!({ "x5t#S256": null }), not_base64url),
            (json!({ "x5t#S256": [THUMBPRINT] }), not_base64url),
        ] {
            assert_eq!(Confirmation::parse(&cnf), Err(fault), "{cnf}");
        }
    }

    #[test]
    fn rfc8705_3_1_a_confirmation_is_written_as_one_member_and_read_back() {
        let confirmation = Confirmation { x5t_s256: Thumbprint::parse(THUMBPRINT).unwrap() };
        let cnf = serde_json::to_value(confirmation).unwrap();
        assert_eq!(cnf, json!({ "x5t#S256": THUMBPRINT }));
        assert_eq!(Confirmation::parse(&cnf), Ok(confirmation));
    }

    #[test]
    fn rfc7800_3_1_an_unregistered_member_beside_the_thumbprint_is_ignored() {
        let cnf = json!({ "x5t#S256": THUMBPRINT, "https://example.com/note": 1 });
        assert!(Confirmation::parse(&cnf).is_ok());
    }

    #[test]
    fn rfc8705_3_the_certificate_of_the_connection_decides() {
        let bound_to = |der: &[u8]| Confirmation { x5t_s256: Thumbprint::of_der(der) };
        let (mine, other) = (Thumbprint::of_der(b"mine"), Thumbprint::of_der(b"other"));
        for requirement in [Requirement::Required, Requirement::WhenBound] {
            let cnf = bound_to(b"mine");
            assert_eq!(check(Some(&cnf), Some(&mine), requirement), Ok(()));
            assert_eq!(check(Some(&cnf), Some(&other), requirement), Err(BindingFault::OtherCertificate));
            assert_eq!(check(Some(&cnf), None, requirement), Err(BindingFault::NoCertificate));
        }
    }

    #[test]
    fn rfc8705_3_an_unbound_token_passes_only_where_no_binding_is_demanded() {
        let mine = Thumbprint::of_der(b"mine");
        for certificate in [None, Some(&mine)] {
            assert_eq!(check(None, certificate, Requirement::Required), Err(BindingFault::Unbound));
            assert_eq!(check(None, certificate, Requirement::WhenBound), Ok(()));
        }
    }
}
