//! Why something is not done: to operators a named reason, to whoever asked a constant text (RFC 9457).

use certbind_proto::time::Timestamp;
use hyper::StatusCode;
use serde_json::{Value, json};

use super::revocations::RevocationFault;
use crate::authn::ChainFault;
use crate::mint::lifecycle::RotateFault;
use crate::mint::ring::{KeysError, RetireError, RotateError};
use crate::registry::fault::Complaint;

/// Where the types of problems are explained; the name follows.
pub(super) const TYPES: &str = "https://github.com/certbind/certbind/blob/main/docs/problems.md#";

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The certificate of whoever asks is not believed, for this reason.
    AdminCertificate(ChainFault),
    /// Nobody that may use the API.
    AdminUnknown,
    /// A web page asks, through somebody's browser: this is no API for browsers.
    AskedByPage,
    /// The audit log is required and cannot be written.
    AuditUnavailable,
    /// The body is not one JSON object.
    BodyMalformed,
    /// The body is larger than a registration can be.
    BodyTooLarge,
    /// The body did not come in time, or not whole.
    BodyUnreadable,
    /// Others change the client all the time.
    ClientContended,
    /// There is such a client.
    ClientExists,
    /// The client has a file, which alone says how it is registered.
    ClientInFile,
    /// There is no such client.
    ClientUnknown,
    /// The body names another client than the path.
    ClientOther,
    /// `If-Match` or `If-None-Match` is malformed.
    ConditionMalformed,
    /// The body is of another media type; these are taken.
    MediaType(&'static str),
    /// The registration is refused (RFC 7591 §3.2.2), for all of this.
    MetadataInvalid(Vec<Complaint>),
    /// The path has other methods, these.
    MethodNotAllowed(Vec<&'static str>),
    /// No such path.
    NotFound,
    /// The client is not as `If-Match` says.
    PreconditionFailed,
    /// The next signing key is published already.
    NextKeyPublished {
        /// Its name.
        kid: String,
        /// From when on it signs.
        signs_from: Timestamp,
    },
    /// A change needs `If-Match`, so that nobody undoes another's.
    PreconditionMissing,
    /// A parameter of the query is unknown, repeated or malformed.
    QueryMalformed(Option<&'static str>),
    /// The registration would be larger than one can be.
    RegistrationTooLarge,
    /// What shall be revoked is not said as it must be, for all of this.
    RevocationInvalid(Vec<RevocationFault>),
    /// The certificate is not one that an administrator revoked.
    RevocationUnknown,
    /// As many revocations are in force as verifiers take.
    RevocationsFull,
    /// The role of whoever asks is too low.
    RoleInsufficient,
    /// The security module does not answer.
    SignerUnavailable,
    /// A signing key cannot be made or read.
    SigningFailed,
    /// The security module holds no key that could be the next one.
    SigningKeyMissing,
    /// The signing key was taken back before.
    SigningKeyRetired(Timestamp),
    /// There is no such signing key.
    SigningKeyUnknown,
    /// There are as many signing keys as may be published.
    SigningKeysTooMany,
    /// The store does not answer.
    StoreUnavailable,
}

impl From<RotateError> for Problem {
    fn from(error: RotateError) -> Self {
        match error {
            RotateError::Refused(RotateFault::NextIsAnnounced { kid, signs_from }) => {
                Self::NextKeyPublished { kid, signs_from }
            }
            RotateError::Refused(RotateFault::TooManyKeys) => Self::SigningKeysTooMany,
            RotateError::Keys(error) => error.into(),
        }
    }
}

impl From<RetireError> for Problem {
    fn from(error: RetireError) -> Self {
        match error {
            RetireError::AlreadyRetired(when) => Self::SigningKeyRetired(when),
            RetireError::Unknown => Self::SigningKeyUnknown,
            RetireError::Keys(error) => error.into(),
        }
    }
}

impl From<KeysError> for Problem {
    fn from(error: KeysError) -> Self {
        match error {
            // Others change the keys all the time: nothing is known to have changed, and it may be tried again.
            KeysError::Store(_) | KeysError::Contended => Self::StoreUnavailable,
            KeysError::Key(_) => Self::SigningFailed,
            KeysError::Module(_) => Self::SignerUnavailable,
            KeysError::NoNewerKey => Self::SigningKeyMissing,
        }
    }
}

impl Problem {
    /// The stable name; with hyphens it is the name of the type.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::AdminCertificate(_) => "admin_certificate",
            Self::AdminUnknown => "admin_unknown",
            Self::AskedByPage => "asked_by_page",
            Self::AuditUnavailable => "audit_unavailable",
            Self::BodyMalformed => "body_malformed",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyUnreadable => "body_unreadable",
            Self::ClientContended => "client_contended",
            Self::ClientExists => "client_exists",
            Self::ClientInFile => "client_in_file",
            Self::ClientUnknown => "client_unknown",
            Self::ClientOther => "client_other",
            Self::ConditionMalformed => "condition_malformed",
            Self::MediaType(_) => "media_type",
            Self::MetadataInvalid(_) => "metadata_invalid",
            Self::MethodNotAllowed(_) => "method_not_allowed",
            Self::NotFound => "path_unknown",
            Self::PreconditionFailed => "precondition_failed",
            Self::NextKeyPublished { .. } => "next_key_published",
            Self::PreconditionMissing => "precondition_missing",
            Self::QueryMalformed(_) => "query_malformed",
            Self::RegistrationTooLarge => "registration_too_large",
            Self::RevocationInvalid(_) => "revocation_invalid",
            Self::RevocationUnknown => "certificate_not_revoked",
            Self::RevocationsFull => "revocations_full",
            Self::RoleInsufficient => "role_insufficient",
            Self::SignerUnavailable => "signer_unavailable",
            Self::SigningFailed => "signing_failed",
            Self::SigningKeyMissing => "signing_key_missing",
            Self::SigningKeyRetired(_) => "signing_key_retired",
            Self::SigningKeyUnknown => "signing_key_unknown",
            Self::SigningKeysTooMany => "signing_keys_too_many",
            Self::StoreUnavailable => "store_unavailable",
        }
    }

    /// The reason in the audit log: the fact itself, where there are several behind one problem.
    #[must_use]
    pub const fn fact(&self) -> &'static str {
        match self {
            Self::AdminCertificate(fault) => fault.reason(),
            problem => problem.reason(),
        }
    }

    /// The status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::BodyMalformed
            | Self::ClientOther
            | Self::ConditionMalformed
            | Self::MetadataInvalid(_)
            | Self::QueryMalformed(_)
            | Self::RegistrationTooLarge
            | Self::RevocationInvalid(_) => StatusCode::BAD_REQUEST,
            Self::AdminCertificate(_) | Self::AdminUnknown | Self::AskedByPage | Self::RoleInsufficient => {
                StatusCode::FORBIDDEN
            }
            Self::ClientUnknown | Self::NotFound | Self::RevocationUnknown | Self::SigningKeyUnknown => {
                StatusCode::NOT_FOUND
            }
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyUnreadable => StatusCode::REQUEST_TIMEOUT,
            Self::ClientExists
            | Self::ClientInFile
            | Self::NextKeyPublished { .. }
            | Self::SigningKeyMissing
            | Self::SigningKeyRetired(_)
            | Self::SigningKeysTooMany => StatusCode::CONFLICT,
            Self::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::PreconditionMissing => StatusCode::PRECONDITION_REQUIRED,
            Self::SigningFailed => StatusCode::INTERNAL_SERVER_ERROR,
            Self::AuditUnavailable
            | Self::ClientContended
            | Self::RevocationsFull
            | Self::SignerUnavailable
            | Self::StoreUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// One sentence, the same for every occurrence.
    #[must_use]
    pub const fn title(&self) -> &'static str {
        match self {
            Self::AdminCertificate(_) => "Your certificate is not accepted here.",
            Self::AdminUnknown => "You are nobody who may use this API.",
            Self::AskedByPage => "A request with an Origin comes from a web page, and this API is not for browsers.",
            Self::AuditUnavailable => "The audit log cannot be written, and no change is made without it.",
            Self::BodyMalformed => "The body is not one JSON object without repeated members.",
            Self::BodyTooLarge => "The body is too large.",
            Self::BodyUnreadable => "The body did not arrive in time, or not whole.",
            Self::ClientContended => "Others change this client all the time; nothing was changed.",
            Self::ClientExists => "There is a client with this client_id.",
            Self::ClientInFile => "A file in clients.dir registers this client; change the file.",
            Self::ClientUnknown => "There is no such client.",
            Self::ClientOther => "The client_id in the body is not that of the path.",
            Self::ConditionMalformed => "If-Match takes * or one strong entity tag, If-None-Match on a change takes *.",
            Self::MediaType(_) => "The body has a media type that is not taken here.",
            Self::MetadataInvalid(_) => "The registration is refused.",
            Self::MethodNotAllowed(_) => "This path has other methods.",
            Self::NotFound => "There is nothing at this path.",
            Self::PreconditionFailed => "The client is not as the condition says; look at it again.",
            Self::NextKeyPublished { .. } => "The next signing key is published already.",
            Self::PreconditionMissing => "Say which state you change: If-Match with the ETag, or *.",
            Self::QueryMalformed(_) => "A parameter of the query is unknown, repeated or malformed.",
            Self::RegistrationTooLarge => "The registration would be larger than one can be.",
            Self::RevocationInvalid(_) => "Nothing is revoked: what was meant is not clear.",
            Self::RevocationUnknown => "No administrator has revoked this certificate, or it is lifted already.",
            Self::RevocationsFull => "As many revocations are in force as resource servers take.",
            Self::RoleInsufficient => "Your role does not permit this.",
            Self::SignerUnavailable => "The security module with the signing keys does not answer.",
            Self::SigningFailed => "A signing key cannot be made or read.",
            Self::SigningKeyMissing => "The security module holds no key that could be the next one.",
            Self::SigningKeyRetired(_) => "The signing key was retired before.",
            Self::SigningKeyUnknown => "There is no such signing key.",
            Self::SigningKeysTooMany => {
                "There are as many signing keys as may be published; wait until old ones are gone."
            }
            Self::StoreUnavailable => "The store does not answer; nothing is known to have changed.",
        }
    }

    /// Whether it is about who asks.
    #[must_use]
    pub const fn is_about_access(&self) -> bool {
        matches!(self, Self::AdminCertificate(_) | Self::AdminUnknown | Self::AskedByPage | Self::RoleInsufficient)
    }

    /// The members of the answer.
    #[must_use]
    pub fn to_json(&self, request_id: &str) -> Value {
        let mut members = json!({
            "type": format!("{TYPES}{}", self.reason().replace('_', "-")),
            "title": self.title(),
            "status": self.status().as_u16(),
            "request_id": request_id,
        });
        match self {
            // Whoever sees this has the key of the certificate, and may have to renew it.
            Self::AdminCertificate(_) => members["reason"] = self.fact().into(),
            Self::MetadataInvalid(complaints) => {
                members["error"] = "invalid_client_metadata".into();
                let of = |member: String| pointer(&member).replacen('.', "/", 1);
                let error = |complaint: &Complaint| error(&complaint.to_string(), complaint.member().map(of));
                members["errors"] = complaints.iter().map(error).collect();
            }
            Self::RevocationInvalid(faults) => {
                let error = |fault: &RevocationFault| error(&fault.to_string(), fault.member().map(pointer));
                members["errors"] = faults.iter().map(error).collect();
            }
            Self::QueryMalformed(Some(parameter)) => members["parameter"] = (*parameter).into(),
            Self::NextKeyPublished { kid, signs_from } => {
                members["kid"] = kid.as_str().into();
                members["signs_from"] = signs_from.to_string().into();
            }
            Self::SigningKeyRetired(when) => members["retired"] = when.to_string().into(),
            _ => {}
        }
        members
    }
}

/// Any fact about a certificate, of the chain check or of the names.
impl From<ChainFault> for Problem {
    fn from(fault: ChainFault) -> Self {
        Self::AdminCertificate(fault)
    }
}

/// One thing that is wrong, with the member that it is about.
fn error(detail: &str, pointer: Option<String>) -> Value {
    let mut error = json!({ "detail": detail });
    if let Some(pointer) = pointer {
        error["pointer"] = pointer.into();
    }
    error
}

/// A member as a JSON Pointer in a fragment (RFC 6901 §6).
fn pointer(member: &str) -> String {
    format!("#/{}", member.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use certbind_proto::client::MetadataFault;

    use super::*;

    #[test]
    fn rfc9457_3_1_a_problem_has_a_type_a_title_and_its_status() {
        let complaints = vec![
            Complaint::Metadata(MetadataFault::AudienceMissing),
            Complaint::Metadata(MetadataFault::SubjectCount(0)),
            Complaint::UnknownKey { key: "a/b".into(), meant: None },
        ];
        assert_eq!(
            Problem::MetadataInvalid(complaints).to_json("id"),
            json!({
                "type": format!("{TYPES}metadata-invalid"),
                "title": "The registration is refused.",
                "status": 400,
                "request_id": "id",
                "error": "invalid_client_metadata",
                "errors": [
                    {
                        "pointer": "#/certbind/audiences",
                        "detail": "certbind.audiences: name at least one resource, the first is the default audience (RFC 9068 §3)",
                    },
                    { "detail": "tls_client_auth: exactly one tls_client_auth_* name, not 0 (RFC 8705 §2.1.2)" },
                    { "pointer": "#/a~1b", "detail": "a/b: there is no such key" },
                ],
            })
        );
    }
}
