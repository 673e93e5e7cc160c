//! The body of a request to what shall be revoked: exactly one thing, and everything that is wrong at once.

use certbind_proto::cert::{CertFault, Certificate};
use certbind_proto::client::MAX_CLIENT_ID;
use certbind_proto::thumbprint::{Thumbprint, ThumbprintFault};
use certbind_proto::time::Timestamp;
use hyper::Request;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Map, Value};

use super::super::problem::Problem;
use super::super::query;

/// The members that there are.
pub(super) const MEMBERS: [&str; 4] = [CERTIFICATE, THUMBPRINT, CLIENT_ID, REASON];

const CERTIFICATE: &str = "certificate";
const THUMBPRINT: &str = "x5t#S256";
const CLIENT_ID: &str = "client_id";
const REASON: &str = "reason";

/// The longest reason, in characters.
pub(super) const MAX_REASON: usize = 256;

/// What shall be revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) target: Target,
    /// Why, in the words of whoever asks; for the audit log.
    pub(super) reason: Option<String>,
}

/// One thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Certificate(Certified),
    /// All tokens that this client has by now.
    Client(String),
}

/// A certificate, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Certified {
    pub(super) thumbprint: Thumbprint,
    /// Its last second, if it is there itself.
    pub(super) not_after: Option<Timestamp>,
}

/// What is wrong with a request to revoke.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevocationFault {
    /// The certificate is none that is read.
    #[error("the certificate is not read: {0}; revoke it by its x5t#S256")]
    Certificate(CertFault),
    /// No certificate, or several: a chain does not say which one is meant.
    #[error("one certificate in PEM is wanted, not {0}")]
    CertificateCount(usize),
    /// What stands there is no PEM.
    #[error("the PEM is malformed")]
    CertificatePem,
    /// No identifier of a client.
    #[error("a client_id has 1 to {MAX_CLIENT_ID} printable ASCII characters")]
    ClientId,
    /// Nothing, or several things.
    #[error("name exactly one of certificate, x5t#S256 and client_id, not {0}")]
    NotOne(usize),
    /// Another type of value.
    #[error("a text is wanted")]
    NotText(&'static str),
    /// Too long, or with characters that end a line or act on a terminal.
    #[error("a reason is one line of at most {MAX_REASON} characters")]
    Reason,
    /// No thumbprint.
    #[error(transparent)]
    Thumbprint(ThumbprintFault),
    /// A member that nobody knows.
    #[error("there is no such member")]
    Unknown(String),
}

impl RevocationFault {
    /// The member that it is about.
    pub(in crate::admin) fn member(&self) -> Option<&str> {
        match self {
            Self::Certificate(_) | Self::CertificateCount(_) | Self::CertificatePem => Some(CERTIFICATE),
            Self::ClientId => Some(CLIENT_ID),
            Self::NotOne(_) => None,
            Self::NotText(member) => Some(member),
            Self::Reason => Some(REASON),
            Self::Thumbprint(_) => Some(THUMBPRINT),
            Self::Unknown(member) => Some(member),
        }
    }
}

impl Wanted {
    /// Reads a body. A member that is null counts as left out.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub(super) fn read(document: &Map<String, Value>) -> Result<Self, Vec<RevocationFault>> {
        let mut faults = Vec::new();
        let unknown = document.keys().filter(|name| !MEMBERS.contains(&name.as_str()));
        faults.extend(unknown.map(|name| RevocationFault::Unknown(name.clone())));
        let mut text = |name: &'static str| match document.get(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.as_str()),
            Some(_) => {
                faults.push(RevocationFault::NotText(name));
                Some("")
            }
        };
        let (certificate, thumbprint) = (text(CERTIFICATE), text(THUMBPRINT));
        let (client_id, reason) = (text(CLIENT_ID), text(REASON));
        let was_well_typed = faults.iter().all(|fault| matches!(fault, RevocationFault::Unknown(_)));
        let named = [certificate, thumbprint, client_id].iter().flatten().count();
        if named != 1 {
            faults.push(RevocationFault::NotOne(named));
        }
        if !was_well_typed {
            return Err(faults);
        }
        let mut take = |outcome: Result<Target, RevocationFault>| outcome.map_err(|fault| faults.push(fault)).ok();
        let targets = [
            certificate.and_then(|pem| take(read_certificate(pem))),
            thumbprint.and_then(|text| take(read_thumbprint(text))),
            client_id.and_then(|text| take(read_client_id(text))),
        ];
        if reason.is_some_and(|reason| !is_reason(reason)) {
            faults.push(RevocationFault::Reason);
        }
        match targets.into_iter().flatten().next() {
            Some(target) if faults.is_empty() => Ok(Self { target, reason: reason.map(str::to_owned) }),
            _ => Err(faults),
        }
    }
}

/// The reason of a request without a body.
///
/// # Errors
/// [`Problem::QueryMalformed`].
pub(super) fn reason_of_query<B>(request: &Request<B>) -> Result<Option<String>, Problem> {
    let parameters = query::parameters(request.uri().query())?;
    match parameters.as_slice() {
        [] => Ok(None),
        [(name, reason)] if name == REASON && is_reason(reason) => Ok(Some(reason.clone())),
        parameters if parameters.iter().all(|(name, _)| name == REASON) => Err(Problem::QueryMalformed(Some(REASON))),
        _ => Err(Problem::QueryMalformed(None)),
    }
}

fn read_certificate(pem: &str) -> Result<Target, RevocationFault> {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|_| RevocationFault::CertificatePem)?;
    let [der] = certificates.as_slice() else { return Err(RevocationFault::CertificateCount(certificates.len())) };
    let certificate = Certificate::parse(der).map_err(RevocationFault::Certificate)?;
    let not_after = Some(certificate.not_after());
    Ok(Target::Certificate(Certified { thumbprint: *certificate.thumbprint(), not_after }))
}

fn read_thumbprint(text: &str) -> Result<Target, RevocationFault> {
    let thumbprint = Thumbprint::parse(text).map_err(RevocationFault::Thumbprint)?;
    Ok(Target::Certificate(Certified { thumbprint, not_after: None }))
}

fn read_client_id(text: &str) -> Result<Target, RevocationFault> {
    let is_one = (1..=MAX_CLIENT_ID).contains(&text.len()) && text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if is_one { Ok(Target::Client(text.to_owned())) } else { Err(RevocationFault::ClientId) }
}

fn is_reason(text: &str) -> bool {
    let is_odd = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    text.chars().count() <= MAX_REASON && !text.contains(is_odd)
}

#[cfg(test)]
mod tests {
    use certbind_devpki::{Issuer, LeafSpec, Validity};
    use serde_json::json;

    use super::*;

    const VALIDITY: Validity = Validity::days_from(1_795_305_600, 30);

    fn read(document: &Value) -> Result<Wanted, Vec<String>> {
        let faults = |faults: Vec<RevocationFault>| faults.iter().map(ToString::to_string).collect();
        Wanted::read(document.as_object().unwrap()).map_err(faults)
    }

    #[test]
    fn exactly_one_thing_is_revoked_by_a_request() {
        let ca = Issuer::root("ca", VALIDITY).unwrap();
        let leaf = ca.leaf(&LeafSpec::client("stolen", VALIDITY)).unwrap();
        let thumbprint = Thumbprint::of_der(leaf.certificate());
        let pem = first(&leaf.chain_pem());
        let not_after = Some(Timestamp::from_unix(VALIDITY.not_after));
        for (document, target) in [
            (json!({ "certificate": pem }), Target::Certificate(Certified { thumbprint, not_after })),
            (
                json!({ "x5t#S256": thumbprint.to_string(), "client_id": null }),
                Target::Certificate(Certified { thumbprint, not_after: None }),
            ),
            (json!({ "client_id": "billing" }), Target::Client("billing".to_owned())),
        ] {
            assert_eq!(read(&document), Ok(Wanted { target, reason: None }));
        }
        let two = leaf.chain_pem() + &ca.certificate_pem();
        let thumbprint = thumbprint.to_string();
        for (document, expected) in [
            (json!({}), &["name exactly one of certificate, x5t#S256 and client_id, not 0"][..]),
            (
                json!({ "x5t#S256": thumbprint, "client_id": "a" }),
                &["name exactly one of certificate, x5t#S256 and client_id, not 2"],
            ),
            (json!({ "certificate": two }), &["one certificate in PEM is wanted, not 2"]),
            (json!({ "certificate": "stolen.pem" }), &["one certificate in PEM is wanted, not 0"]),
            (json!({ "x5t#S256": "ab:cd" }), &["a thumbprint has 43 characters (RFC 8705 §3.1)"]),
            (json!({ "client_id": "" }), &["a client_id has 1 to 256 printable ASCII characters"]),
            (json!({ "client_id": 7 }), &["a text is wanted"]),
            (
                json!({ "client_id": "a", "reason": "two\nlines", "serial": "01" }),
                &["there is no such member", "a reason is one line of at most 256 characters"],
            ),
        ] {
            let faults = read(&document).unwrap_err();
            assert_eq!(faults, expected, "{document}");
        }
    }

    /// The first certificate of a chain.
    fn first(chain: &str) -> String {
        const END: &str = "-----END CERTIFICATE-----\n";
        chain.split_inclusive(END).next().unwrap().to_owned()
    }
}
