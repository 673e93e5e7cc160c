//! What a change does to a registration, in names, for the audit log: which members are others, and which credentials come
//! and go. Values stay in the registration.

use std::collections::BTreeSet;

use certbind_proto::client::Client;
use serde_json::{Map, Value};

use super::credentials::registered;
use crate::audit::peer_text;
use crate::store::usage::Kind;

/// A registration before or after a change.
pub(super) struct Side<'a> {
    pub(super) document: &'a Map<String, Value>,
    /// Nothing where the rules refuse it.
    pub(super) client: Option<&'a Client>,
}

/// In a few words; none when nothing is another.
pub(super) fn of(before: Option<&Side<'_>>, after: &Side<'_>) -> Option<String> {
    let members = before.map(|before| members(before.document, after.document)).unwrap_or_default();
    let (had, has) = (before.map(credentials).unwrap_or_default(), credentials(after));
    let added = has.difference(&had).map(|credential| format!("adds {credential}"));
    let removed = had.difference(&has).map(|credential| format!("removes {credential}"));
    let all: Vec<String> = members.into_iter().chain(added).chain(removed).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// The members that differ; those of `certbind` each by itself.
fn members(before: &Map<String, Value>, after: &Map<String, Value>) -> BTreeSet<String> {
    let mut differing = differing(before, after);
    if differing.remove("certbind") {
        let ours = |document: &Map<String, Value>| document.get("certbind").and_then(Value::as_object).cloned();
        let (before, after) = (ours(before).unwrap_or_default(), ours(after).unwrap_or_default());
        differing.extend(self::differing(&before, &after).into_iter().map(|name| format!("certbind.{name}")));
    }
    differing
}

fn differing(before: &Map<String, Value>, after: &Map<String, Value>) -> BTreeSet<String> {
    let names = before.keys().chain(after.keys());
    names.filter(|name| before.get(*name) != after.get(*name)).map(|name| peer_text(name)).collect()
}

fn credentials(side: &Side<'_>) -> BTreeSet<String> {
    let known = side.client.map(registered).unwrap_or_default();
    known.iter().map(|((kind, thumbprint), _)| format!("{} {thumbprint}", word(*kind))).collect()
}

const fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Key => "the key",
        Kind::Certificate => "the certificate",
    }
}

#[cfg(test)]
mod tests {
    use certbind_devpki::{Identity, LeafSpec, Validity};
    use certbind_proto::client::{LegacyAudience, RegistrationRules};
    use certbind_proto::jws::Algorithms;
    use certbind_proto::thumbprint::Thumbprint;
    use serde_json::json;

    use super::*;
    use crate::registry::document::{Registration, register};

    fn registration(scope: &str, owner: &str, certificates: &[&Identity]) -> Registration {
        let certificates: Vec<String> = certificates.iter().map(|identity| identity.chain_pem()).collect();
        let document = json!({
            "client_id": "archive",
            "token_endpoint_auth_method": "self_signed_tls_client_auth",
            "scope": scope,
            "certbind": { "audiences": ["https://a"], "owner": owner, "certificates": certificates },
        });
        let rules = RegistrationRules {
            algorithms: Algorithms::DEFAULT,
            legacy_audience: LegacyAudience::Permitted,
            trust_groups: Vec::new(),
        };
        register(document.as_object().unwrap(), &rules).unwrap()
    }

    fn side(registration: &Registration) -> Side<'_> {
        Side { document: &registration.document, client: Some(&registration.client) }
    }

    #[test]
    fn the_log_says_which_members_are_others_and_which_credentials_come_and_go() {
        let [old, new] = ["old", "new"]
            .map(|name| Identity::self_signed(&LeafSpec::client(name, Validity::days_from(0, 1))).unwrap());
        let [gone, come] = [&old, &new].map(|identity| Thumbprint::of_der(identity.certificate()));
        let before = registration("a", "ops", &[&old]);
        let said = |after: &Registration| of(Some(&side(&before)), &side(after)).unwrap_or_default();
        assert_eq!(said(&before), "");
        assert_eq!(said(&registration("b", "pay", &[&old])), "certbind.owner, scope");
        let (scope, both) = (registration("b", "ops", &[&old]), registration("a", "ops", &[&old, &new]));
        assert_eq!(said(&scope), "scope");
        assert_eq!(said(&both), format!("certbind.certificates, adds the certificate {come}"));
        let other = registration("a", "ops", &[&new]);
        assert_eq!(
            said(&other),
            format!("certbind.certificates, adds the certificate {come}, removes the certificate {gone}")
        );
        assert_eq!(of(None, &side(&before)), Some(format!("adds the certificate {gone}")), "a new client");
    }
}
