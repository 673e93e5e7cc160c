//! Turns a registration as JSON (RFC 7591 §2) into a checked [`Client`], or into everything that is wrong with it.
//!
//! It is self-contained: certificates stand in it as PEM, key sets as objects, and nothing in it names a file.

use std::sync::Arc;

use certbind_proto::client::{Client, ClientMetadata, RegistrationRules};
use certbind_proto::request::CLIENT_CREDENTIALS;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Map, Value};

use super::fault::Complaint;
use super::names::{CERTBIND, CLIENT, Kind, Member, names};
use crate::suggest::nearest;

/// A registration that is in order.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Every member that counts, also those that were left out and have a default (RFC 7591 §3.2.1).
    pub document: Map<String, Value>,
    /// The client.
    pub client: Arc<Client>,
}

/// Checks a registration. A member that is null counts as left out (RFC 7592 §2.2); one that there is not is refused
/// all the same.
///
/// # Errors
/// Everything that is wrong; at least one complaint.
pub fn register(document: &Map<String, Value>, rules: &RegistrationRules) -> Result<Registration, Vec<Complaint>> {
    let complaints = misplaced(document);
    if !complaints.is_empty() {
        return Err(complaints);
    }
    let document = without_nulls(document);
    // Every member has been looked at, so what is left to go wrong is a type that the table and the struct see otherwise.
    let metadata: ClientMetadata = serde_json::from_value(Value::Object(document))
        .map_err(|_| vec![Complaint::WrongType { key: "certbind".to_owned(), expected: expected(Kind::Table) }])?;
    let certificates = certificates(&metadata).map_err(|complaint| vec![complaint])?;
    let client = Client::register(&metadata, &certificates, rules);
    let client = client.map_err(|faults| faults.into_iter().map(Complaint::Metadata).collect::<Vec<_>>())?;
    Ok(Registration { document: effective(metadata), client: Arc::new(client) })
}

/// The document of these metadata: what is left out is left out, what has a default has its value.
#[must_use]
pub fn effective(mut metadata: ClientMetadata) -> Map<String, Value> {
    metadata.grant_types.get_or_insert_with(|| vec![CLIENT_CREDENTIALS.to_owned()]);
    metadata.tls_client_certificate_bound_access_tokens.get_or_insert(false);
    match serde_json::to_value(metadata) {
        Ok(Value::Object(members)) => without_nulls(&members),
        _ => Map::new(),
    }
}

fn without_nulls(members: &Map<String, Value>) -> Map<String, Value> {
    let kept = members.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| match value {
        Value::Object(inner) if name == "certbind" => (name.clone(), Value::Object(without_nulls(inner))),
        value => (name.clone(), value.clone()),
    });
    kept.collect()
}

/// Members that there are not, and values of another type. All of them at once; serde would stop at the first.
fn misplaced(document: &Map<String, Value>) -> Vec<Complaint> {
    let mut complaints = misplaced_in(document, "", &CLIENT);
    if let Some(Value::Object(ours)) = document.get("certbind") {
        complaints.extend(misplaced_in(ours, "certbind.", &CERTBIND));
    }
    complaints
}

fn misplaced_in(members: &Map<String, Value>, prefix: &str, known: &'static [Member]) -> Vec<Complaint> {
    let complaint = |(name, value): (&String, &Value)| {
        let key = format!("{prefix}{name}");
        let Some(member) = known.iter().find(|member| member.name == name) else {
            return Some(Complaint::UnknownKey { key, meant: nearest(name, names(known)) });
        };
        match (member.kind, value) {
            (_, Value::Null) => None,
            (Kind::Keys, Value::String(_)) => Some(Complaint::NotInline { key: member.name }),
            (kind, value) if is_of(kind, value) => None,
            (kind, _) => Some(Complaint::WrongType { key, expected: expected(kind) }),
        }
    };
    members.iter().filter_map(complaint).collect()
}

fn is_of(kind: Kind, value: &Value) -> bool {
    let texts = |values: &Vec<Value>| values.iter().all(Value::is_string);
    match (kind, value) {
        (Kind::Boolean, Value::Bool(_))
        | (Kind::Keys | Kind::Table, Value::Object(_))
        | (Kind::Method | Kind::Text, Value::String(_)) => true,
        (Kind::Certificates | Kind::Texts, Value::Array(values)) => texts(values),
        (Kind::Labels, Value::Object(labels)) => labels.values().all(Value::is_string),
        (Kind::State, Value::String(word)) => word == "active" || word == "disabled",
        _ => false,
    }
}

const fn expected(kind: Kind) -> &'static str {
    match kind {
        Kind::Boolean => "true or false",
        Kind::Certificates => "a list of certificates, each a text in PEM",
        Kind::Keys => "an object with keys (RFC 7517 §5)",
        Kind::Labels => "an object of texts",
        Kind::Method | Kind::Text => "a text",
        Kind::State => "active or disabled",
        Kind::Table => "an object",
        Kind::Texts => "a list of texts",
    }
}

/// The certificates in DER, one for each PEM text.
fn certificates(metadata: &ClientMetadata) -> Result<Vec<Vec<u8>>, Complaint> {
    let read = |text: &String| {
        let mut found = CertificateDer::pem_slice_iter(text.as_bytes());
        match (found.next(), found.next()) {
            (Some(Ok(certificate)), None) => Ok(certificate.to_vec()),
            _ => Err(Complaint::NotInline { key: "certbind.certificates" }),
        }
    };
    metadata.certbind.certificates.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use certbind_devpki::{Identity, LeafSpec, Validity};
    use certbind_proto::client::{LegacyAudience, MetadataFault, Method};
    use certbind_proto::jws::Algorithms;
    use serde_json::json;

    use super::*;

    fn rules() -> RegistrationRules {
        RegistrationRules {
            algorithms: Algorithms::DEFAULT,
            legacy_audience: LegacyAudience::Permitted,
            trust_groups: vec!["corp".into()],
        }
    }

    fn good() -> Value {
        json!({
            "client_id": "billing",
            "token_endpoint_auth_method": "tls_client_auth",
            "tls_client_auth_san_dns": "billing.example.com",
            "scope": "payments:read",
            "certbind": { "trust": "corp", "audiences": ["https://api.example.com"] },
        })
    }

    fn complaints_of(document: &Value) -> Vec<String> {
        match register(document.as_object().unwrap(), &rules()) {
            Ok(_) => Vec::new(),
            Err(complaints) => complaints.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn rfc7591_3_2_1_what_was_left_out_is_shown_with_its_value() {
        let registered = register(good().as_object().unwrap(), &rules()).unwrap();
        assert_eq!(registered.client.client_id, "billing");
        assert_eq!(registered.document["grant_types"], json!(["client_credentials"]));
        assert_eq!(registered.document["tls_client_certificate_bound_access_tokens"], json!(false));
        assert_eq!(registered.document["certbind"]["state"], "active");
        assert!(registered.document.values().all(|value| !value.is_null()));
        let again = register(&registered.document, &rules()).unwrap();
        assert_eq!(again.document, registered.document, "what is shown can be registered");
    }

    #[test]
    fn rfc7591_2_a_registration_spoilt_in_one_member_is_refused_for_it() {
        for (pointer, value, complaint) in [
            ("/scoep", json!("a"), "scoep: there is no such key; did you mean `scope`?"),
            ("/certbind/turst", json!("a"), "certbind.turst: there is no such key; did you mean `trust`?"),
            ("/client_name", json!(7), "client_name: should be a text"),
            ("/grant_types", json!("a"), "grant_types: should be a list of texts"),
            ("/certbind", json!([]), "certbind: should be an object"),
            ("/certbind/labels", json!({"a": 1}), "certbind.labels: should be an object of texts"),
            ("/certbind/state", json!("gone"), "certbind.state: should be active or disabled"),
            ("/certbind/legacy_audience", json!("yes"), "certbind.legacy_audience: should be true or false"),
            (
                "/jwks",
                json!("file:keys.json"),
                "jwks: give the content itself; only a client's file may name another file",
            ),
            (
                "/certbind/certificates",
                json!(["file:client.pem"]),
                "certbind.certificates: give the content itself; only a client's file may name another file",
            ),
        ] {
            let mut document = good();
            let (table, name) = pointer.rsplit_once('/').unwrap();
            document.pointer_mut(table).unwrap()[name] = value;
            assert_eq!(complaints_of(&document), [complaint]);
        }
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let mut document = good();
        document["scoep"] = json!("x");
        document["client_name"] = json!(1);
        document["certbind"]["owner"] = json!(true);
        assert_eq!(complaints_of(&document).len(), 3);
        let document = json!({ "client_id": "", "token_endpoint_auth_method": "none" });
        let complaints = register(document.as_object().unwrap(), &rules()).unwrap_err();
        let expected = [MetadataFault::ClientId, MetadataFault::Method, MetadataFault::AudienceMissing];
        assert_eq!(complaints, expected.map(Complaint::Metadata));
        let members: Vec<_> = complaints.iter().map(Complaint::member).collect();
        let member = |name: &str| Some(name.to_owned());
        assert_eq!(members, [member("client_id"), member("token_endpoint_auth_method"), member("certbind.audiences")]);
    }

    #[test]
    fn rfc7592_2_2_null_counts_as_left_out() {
        let mut document = good();
        document["client_name"] = Value::Null;
        document["certbind"]["owner"] = Value::Null;
        let registered = register(document.as_object().unwrap(), &rules()).unwrap();
        assert!(!registered.document.contains_key("client_name"));
        document["certbind"]["turst"] = Value::Null;
        document["scoep"] = Value::Null;
        assert_eq!(complaints_of(&document).len(), 2, "what there is not cannot be left out");
    }

    #[test]
    fn rfc8705_2_2_certificates_stand_in_it_as_pem() {
        let leaf = |name| Identity::self_signed(&LeafSpec::client(name, Validity::days_from(0, 1))).unwrap();
        let (old, new) = (leaf("old"), leaf("new"));
        let document = json!({
            "client_id": "ledger",
            "token_endpoint_auth_method": "self_signed_tls_client_auth",
            "certbind": {
                "audiences": ["https://api.example.com"],
                "certificates": [old.chain_pem(), new.chain_pem()],
            },
        });
        let registered = register(document.as_object().unwrap(), &rules()).unwrap();
        let Method::SelfSignedTlsClientAuth { certificates, .. } = &registered.client.method else {
            panic!("a method")
        };
        assert_eq!(certificates.len(), 2);
        let mut together = document.clone();
        together["certbind"]["certificates"] = json!([format!("{}{}", old.chain_pem(), new.chain_pem())]);
        assert_eq!(complaints_of(&together).len(), 1, "an issuer behind a certificate would be registered like it");
    }
}
