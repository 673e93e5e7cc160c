//! What is revoked: a certificate, or what a client has by now, by an administrator; and all that is in force, page by page.

use std::collections::HashMap;

use certbind_proto::access_token::LATEST_ACCEPTANCE;
use certbind_proto::client::{Method, ValidityRule};
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::Timestamp;
use hyper::Request;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::problem::Problem;
use super::query;
use super::resource::Found;
use super::{Admin, Asked, body, reply};
use crate::audit::{Event, Kind};
use crate::net::Reply;
use crate::registry::Registry as _;
use crate::revocation::{FOR_GOOD, LONGEST_LIFE, NotRevoked, Revocation, Revoked, RevokedId};

mod listing;
pub(super) mod schema;
mod wanted;

pub use wanted::RevocationFault;

use listing::Listing;
use wanted::{Certified, Target, Wanted};

impl Admin {
    /// Revokes, durably, before the answer: on this server at once, on the others within a second.
    pub(super) async fn revoke(&self, request: Request<Incoming>, asked: &mut Asked) -> Result<Reply, Problem> {
        query::none(&request)?;
        let document = body::object(request, body::JSON, self.limits).await?;
        let Wanted { target, reason } = Wanted::read(&document).map_err(Problem::RevocationInvalid)?;
        let revocation = match target {
            Target::Certificate(certificate) => self.revoke_certificate(&certificate, reason, asked).await?,
            Target::Client(client_id) => self.revoke_client(client_id, reason, asked).await?,
        };
        Ok(reply::document(&shown(&revocation, asked.client_id.as_deref())))
    }

    async fn revoke_certificate(
        &self,
        certificate: &Certified,
        reason: Option<String>,
        asked: &mut Asked,
    ) -> Result<Revocation, Problem> {
        let Certified { thumbprint, .. } = certificate;
        asked.thumbprint = Some(*thumbprint);
        self.record_request(asked, told("revoke the certificate", reason.as_deref())).await?;
        let until = self.in_force_until(certificate, asked.now);
        let revocation = self.revocations.revoke_certificate(thumbprint, until, asked.now).await?;
        self.record_revocation(asked, reason);
        Ok(revocation)
    }

    async fn revoke_client(
        &self,
        client_id: String,
        reason: Option<String>,
        asked: &mut Asked,
    ) -> Result<Revocation, Problem> {
        let client_id = asked.client_id.insert(client_id).clone();
        // A name that is mistyped must not look like one that is revoked.
        Found::of(&self.clients, &client_id).ok_or(Problem::ClientUnknown)?;
        self.record_request(asked, told("revoke all tokens of the client", reason.as_deref())).await?;
        let revocation = self.revocations.revoke_tokens_of(&client_id, asked.now).await?;
        self.record_revocation(asked, reason);
        Ok(revocation)
    }

    /// Undoes a mistake: the certificate authenticates again, and what is bound to it from now on is good.
    pub(super) async fn lift_revocation(
        &self,
        request: &Request<Incoming>,
        thumbprint: &str,
        asked: &mut Asked,
    ) -> Result<Reply, Problem> {
        let reason = wanted::reason_of_query(request)?;
        let thumbprint = Thumbprint::parse(thumbprint).map_err(|_| Problem::RevocationUnknown)?;
        asked.thumbprint = Some(thumbprint);
        let what = "lift the revocation of the certificate";
        self.record_request(asked, told(what, reason.as_deref())).await?;
        let lifted = self.revocations.lift_certificate(&thumbprint, asked.now).await;
        let lifted = lifted.map_err(|_| Problem::StoreUnavailable)?.ok_or(Problem::RevocationUnknown)?;
        let event = asked.event(Kind::RevocationLifted);
        self.audit.record(&Event { outcome: Some("success"), detail: reason, ..event });
        Ok(reply::document(&shown(&lifted, None)))
    }

    /// A certificate stays revoked for as long as anybody might take it, or a token that is bound to it. That ends with its
    /// validity, unless that is not known or some client's is not looked at.
    fn in_force_until(&self, certificate: &Certified, now: Timestamp) -> Timestamp {
        let is_ignored =
            |method: &Method| matches!(method, Method::SelfSignedTlsClientAuth { validity: ValidityRule::Ignored, .. });
        match certificate.not_after {
            Some(not_after) if !self.clients.all().iter().any(|client| is_ignored(&client.method)) => {
                not_after.max(now).plus(LONGEST_LIFE).plus(LATEST_ACCEPTANCE)
            }
            Some(_) | None => FOR_GOOD,
        }
    }

    fn record_revocation(&self, asked: &Asked, reason: Option<String>) {
        let event = asked.event(Kind::TokenRevoked);
        self.audit.record(&Event { outcome: Some("success"), detail: reason, ..event });
    }

    /// One page of what is in force, in an order that stays.
    pub(super) fn list_revocations(&self, request: &Request<Incoming>, asked: &Asked) -> Result<Reply, Problem> {
        let listing = Listing::of(request)?;
        let mut page = self.revocations.page(listing.kind, listing.after.as_ref(), listing.limit + 1, asked.now);
        let is_more = page.len() > listing.limit;
        page.truncate(listing.limit);
        let names = self.names_of(&page);
        let rows = page.iter().map(|revocation| shown(revocation, names.get(&revocation.id).map(String::as_str)));
        let mut members = json!({ "revocations": rows.collect::<Vec<_>>() });
        let next = page.last().filter(|_| is_more).map(listing::cursor);
        if let Some(cursor) = &next {
            members["next_cursor"] = cursor.as_str().into();
        }
        let next = next.map(|cursor| query::next(request, &cursor));
        Ok(reply::page(&members, next.as_deref()))
    }

    /// The store knows a client's revocation by a hash: those that are registered are known by their names.
    fn names_of(&self, page: &[Revocation]) -> HashMap<RevokedId, String> {
        if !page.iter().any(|revocation| revocation.what == Revoked::Client) {
            return HashMap::new();
        }
        let named = |client_id: &str| (RevokedId::of_client(client_id), client_id.to_owned());
        self.clients.all().iter().map(|client| named(&client.client_id)).collect()
    }
}

impl From<NotRevoked> for Problem {
    fn from(fault: NotRevoked) -> Self {
        match fault {
            NotRevoked::Full => Self::RevocationsFull,
            NotRevoked::Store(_) => Self::StoreUnavailable,
        }
    }
}

fn told(what: &str, reason: Option<&str>) -> String {
    reason.map_or_else(|| what.to_owned(), |reason| format!("{what}: {reason}"))
}

/// A revocation as the API shows it.
fn shown(revocation: &Revocation, client_id: Option<&str>) -> Value {
    let id = Thumbprint::from_bytes(*revocation.id.as_bytes());
    let mut shown = json!({ "kind": revocation.what.as_str(), "id": id.to_string() });
    let is_blocked = revocation.revoked >= revocation.keep_until;
    match revocation.what {
        Revoked::Certificate => shown["blocks_authentication"] = is_blocked.into(),
        Revoked::Client => {
            if let Some(client_id) = client_id {
                shown["client_id"] = client_id.into();
            }
        }
        Revoked::Token => {}
    }
    if revocation.what != Revoked::Token && !is_blocked {
        shown["tokens_until"] = revocation.revoked.to_string().into();
    }
    if revocation.keep_until < FOR_GOOD {
        shown["until"] = revocation.keep_until.to_string().into();
    }
    shown
}

/// What is wrong with a request.
#[cfg(test)]
pub(super) fn faults(document: &serde_json::Map<String, Value>) -> Vec<RevocationFault> {
    Wanted::read(document).err().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revocation_shows_what_it_refuses_and_until_when() {
        let id = RevokedId::of_certificate(&Thumbprint::from_bytes([0; 32]));
        let at = Timestamp::from_unix;
        let of = |what, revoked, keep_until| Revocation { what, id, revoked, keep_until };
        let zeros = "A".repeat(43);
        let (one, two) = ("2026-11-22T00:00:00.000Z", "2026-11-23T00:00:00.000Z");
        let (now, later) = (at(1_795_305_600), at(1_795_392_000));
        for (revocation, client_id, expected) in [
            (of(Revoked::Token, now, later), None, json!({ "kind": "token", "id": zeros, "until": two })),
            (
                of(Revoked::Client, now, later),
                Some("a"),
                json!({ "kind": "client", "id": zeros, "client_id": "a", "tokens_until": one, "until": two }),
            ),
            (
                of(Revoked::Client, now, later),
                None,
                json!({ "kind": "client", "id": zeros, "tokens_until": one, "until": two }),
            ),
            (
                of(Revoked::Certificate, now, later),
                None,
                json!({ "kind": "certificate", "id": zeros, "blocks_authentication": false, "tokens_until": one, "until": two }),
            ),
            (
                of(Revoked::Certificate, later, later),
                None,
                json!({ "kind": "certificate", "id": zeros, "blocks_authentication": true, "until": two }),
            ),
            (
                of(Revoked::Certificate, FOR_GOOD, FOR_GOOD),
                None,
                json!({ "kind": "certificate", "id": zeros, "blocks_authentication": true }),
            ),
        ] {
            assert_eq!(shown(&revocation, client_id), expected);
        }
    }
}
