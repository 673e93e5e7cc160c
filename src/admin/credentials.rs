//! What clients prove themselves with: what is registered, what was seen, and when each was last used.

use certbind_proto::cert::Certificate;
use certbind_proto::client::{Client, KeySource, Method, State, ValidityRule};
use certbind_proto::jwk::Jwk;
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::Timestamp;
use hyper::Request;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::problem::Problem;
use super::query::{self, Listing};
use super::resource::Found;
use super::{Admin, reply};
use crate::net::Reply;
use crate::store::usage::{Credential, Kind, Usage};
use crate::usage::Extent;

/// The word where the dates of a registered certificate do not count.
pub(super) const IGNORED: &str = "ignored";

/// The words for whose uses are known.
pub(super) const EXTENTS: [&str; 2] = ["every_server", "this_server"];

impl Admin {
    /// The credentials of one client.
    pub(super) async fn read_credentials(
        &self,
        request: &Request<Incoming>,
        client_id: &str,
    ) -> Result<Reply, Problem> {
        query::none(request)?;
        let found = Found::of(&self.clients, client_id).ok_or(Problem::ClientUnknown)?;
        let (mut shown, extent) = self.credentials_of(&[&found]).await;
        let mut shown = shown.pop().unwrap_or_default();
        shown["uses_of"] = word(extent).into();
        Ok(reply::document(&shown))
    }

    /// The credentials of a page of clients, in the order of their identifiers.
    pub(super) async fn list_credentials(&self, request: &Request<Incoming>) -> Result<Reply, Problem> {
        let listing = Listing::of(request)?;
        let page = self.page(&listing);
        let found: Vec<&Found> = page.values().take(listing.limit).collect();
        let (shown, extent) = self.credentials_of(&found).await;
        let more = (page.len() > listing.limit).then_some(found.last()).flatten();
        let cursor = more.map(|found| query::cursor(found.client_id()));
        let mut members = json!({ "clients": shown, "uses_of": word(extent) });
        if let Some(cursor) = &cursor {
            members["next_cursor"] = cursor.as_str().into();
        }
        let next = cursor.as_deref().map(|cursor| query::next(request, cursor));
        Ok(reply::page(&members, next.as_deref()))
    }

    async fn credentials_of(&self, found: &[&Found]) -> (Vec<Value>, Extent) {
        let client_ids: Vec<String> = found.iter().map(|found| found.client_id().to_owned()).collect();
        let used = self.usages.of(&client_ids).await;
        let uses_of = |found: &Found| used.uses.get(found.client_id()).map(Vec::as_slice).unwrap_or_default();
        (found.iter().map(|found| credentials(found, uses_of(found))).collect(), used.extent)
    }
}

const fn word(extent: Extent) -> &'static str {
    match extent {
        Extent::EveryServer => EXTENTS[0],
        Extent::ThisServer => EXTENTS[1],
    }
}

/// First what is registered, in its order; then what was seen besides, the last used first.
fn credentials(found: &Found, uses: &[Usage]) -> Value {
    let mut shown = json!({ "client_id": found.client_id() });
    let registered = found.client().map(registered).unwrap_or_default();
    if let Some(client) = found.client() {
        shown["token_endpoint_auth_method"] = client.method.name().as_str().into();
        shown["state"] = if client.state == State::Active { "active" } else { "disabled" }.into();
        if let Method::PrivateKeyJwt { legacy_audience: true, .. } = client.method {
            shown["legacy_audience"] = true.into();
        }
        if let Method::SelfSignedTlsClientAuth { validity: ValidityRule::Ignored, .. } = client.method {
            shown["certificate_validity"] = IGNORED.into();
        }
        if let Some(uri) = published_at(client) {
            shown["jwks_uri"] = uri.into();
        }
    }
    if let Some(last_used) = uses.iter().map(|usage| usage.last_used).max() {
        shown["last_used"] = last_used.to_string().into();
    }
    let last_used = |id: &Id| uses.iter().find(|usage| id_of(usage) == *id).map(|usage| usage.last_used);
    let others = uses.iter().filter(|usage| !registered.iter().any(|(id, _)| *id == id_of(usage)));
    let others = others.map(|usage| with_last_used(seen(&usage.credential), Some(usage.last_used)));
    let own = registered.iter().map(|(id, shown)| with_last_used(shown.clone(), last_used(id)));
    shown["credentials"] = own.chain(others).collect();
    shown
}

pub(super) type Id = (Kind, Thumbprint);

const fn id_of(usage: &Usage) -> Id {
    let (kind, thumbprint) = usage.credential.id();
    (kind, *thumbprint)
}

/// What the registration holds, each as it is shown.
pub(super) fn registered(client: &Client) -> Vec<(Id, Value)> {
    match &client.method {
        Method::PrivateKeyJwt { keys: KeySource::Inline(set), .. } => {
            set.iter().map(|key| ((Kind::Key, key.thumbprint()), registered_key(key))).collect()
        }
        Method::SelfSignedTlsClientAuth { certificates, .. } => {
            let shown = |certificate: &Certificate| {
                ((Kind::Certificate, *certificate.thumbprint()), registered_certificate(certificate))
            };
            certificates.iter().map(shown).collect()
        }
        Method::PrivateKeyJwt { keys: KeySource::Uri(_), .. } | Method::TlsClientAuth { .. } => Vec::new(),
    }
}

fn published_at(client: &Client) -> Option<&str> {
    match &client.method {
        Method::PrivateKeyJwt { keys: KeySource::Uri(uri), .. } => Some(uri),
        Method::SelfSignedTlsClientAuth { jwks_uri, .. } => jwks_uri.as_deref(),
        Method::PrivateKeyJwt { keys: KeySource::Inline(_), .. } | Method::TlsClientAuth { .. } => None,
    }
}

fn registered_key(key: &Jwk) -> Value {
    let members = key.to_json();
    let mut shown = json!({
        "type": Kind::Key.as_str(),
        "registered": true,
        "thumbprint": key.thumbprint(),
        "algs": key.algorithms().names(),
    });
    for name in ["kid", "kty", "crv"] {
        if let Some(value) = members.get(name) {
            shown[name] = value.clone();
        }
    }
    shown
}

fn registered_certificate(certificate: &Certificate) -> Value {
    json!({
        "type": Kind::Certificate.as_str(),
        "registered": true,
        "x5t#S256": certificate.thumbprint(),
        "subject": certificate.subject().to_string(),
        "serial": certificate.serial_hex(),
        "not_before": certificate.not_before().to_string(),
        "not_after": certificate.not_after().to_string(),
    })
}

fn seen(credential: &Credential) -> Value {
    match credential {
        Credential::Key { thumbprint, kid } => {
            let mut shown = json!({ "type": Kind::Key.as_str(), "registered": false, "thumbprint": thumbprint });
            if let Some(kid) = kid {
                shown["kid"] = kid.as_str().into();
            }
            shown
        }
        Credential::Certificate { thumbprint, subject, serial, not_before, not_after } => json!({
            "type": Kind::Certificate.as_str(),
            "registered": false,
            "x5t#S256": thumbprint,
            "subject": subject,
            "serial": serial,
            "not_before": not_before.to_string(),
            "not_after": not_after.to_string(),
        }),
    }
}

fn with_last_used(mut shown: Value, last_used: Option<Timestamp>) -> Value {
    if let Some(last_used) = last_used {
        shown["last_used"] = last_used.to_string().into();
    }
    shown
}
