//! Clients: looked at, listed, made, replaced, changed, disabled and removed (RFC 7591 §3, RFC 7592 §2).

use std::collections::BTreeMap;
use std::time::Duration;

use certbind_proto::entropy::unguessable_id;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use serde_json::{Map, Value, json};

use super::difference::Side;
use super::problem::Problem;
use super::query::{self, Listing};
use super::resource::{Found, Source, without_read_only};
use super::{Admin, Asked, body, condition, difference, merge, reply};
use crate::audit::Kind;
use crate::net::Reply;
use crate::registry::document::{self, Registration};
use crate::registry::stored::Record;
use crate::store::{Expected, Revision, StoredClient, Written};

/// How long a change may take to be in force here before the answer says that it is not yet.
const IN_FORCE: Duration = Duration::from_secs(1);

/// How often a change of some members is tried when others change the same client.
const TRIES: usize = 4;

impl Admin {
    /// One page of clients, in the order of their identifiers.
    pub(super) fn list_clients(&self, request: &Request<Incoming>) -> Result<Reply, Problem> {
        let listing = Listing::of(request)?;
        let page = self.page(&listing);
        let more = page.len() > listing.limit;
        let shown: Vec<Value> = page.values().take(listing.limit).map(Found::to_json).collect();
        let last = page.values().take(listing.limit).next_back().filter(|_| more);
        let cursor = last.map(|found| query::cursor(found.client_id()));
        let next = cursor.as_deref().map(|cursor| query::next(request, cursor));
        let mut members = json!({ "clients": shown });
        if let Some(cursor) = &cursor {
            members["next_cursor"] = cursor.as_str().into();
        }
        Ok(reply::page(&members, next.as_deref()))
    }

    /// The clients of a page and one more. Whatever there is, no more than that is kept.
    pub(super) fn page(&self, listing: &Listing) -> BTreeMap<String, Found> {
        use crate::registry::Registry as _;
        let (files, stored) = (self.clients.files.all(), self.clients.stored.held());
        let of_files = files.iter().map(|client| Found::File(client.clone()));
        let of_store = stored.iter().filter(|record| files.get(&record.stored.client_id).is_none());
        let all = of_files.chain(of_store.map(|record| Found::Store(record.clone())));
        let mut page = BTreeMap::new();
        for found in all {
            let is_behind = listing.after.as_deref().is_none_or(|after| found.client_id() > after);
            if is_behind && listing.wants(found.source(), found.client()) {
                page.insert(found.client_id().to_owned(), found);
                if page.len() > listing.limit + 1 {
                    page.pop_last();
                }
            }
        }
        page
    }

    /// One client, or word that nothing has changed.
    pub(super) fn read_client(&self, request: &Request<Incoming>, client_id: &str) -> Result<Reply, Problem> {
        query::none(request)?;
        let found = Found::of(&self.clients, client_id).ok_or(Problem::ClientUnknown)?;
        let tag = found.tag();
        match condition::is_known(request.headers(), &tag) {
            true => Ok(reply::not_modified(&tag)),
            false => Ok(reply::client(&found)),
        }
    }

    /// A new client, under the name that it brings or one that is drawn.
    pub(super) async fn create_client(&self, request: Request<Incoming>, asked: &mut Asked) -> Result<Reply, Problem> {
        query::none(&request)?;
        let mut document = body::object(request, body::JSON, self.limits).await?;
        if document.get("client_id").is_none_or(Value::is_null) {
            document.insert("client_id".to_owned(), unguessable_id(&*self.entropy).into());
        }
        let client_id = document["client_id"].as_str().unwrap_or_default().to_owned();
        asked.client_id = Some(client_id.clone());
        let written = self.write(&client_id, document, Expected::Absent, asked).await?;
        match written {
            Outcome::Done(found) => Ok(reply::created(&found)),
            Outcome::NotAsExpected(_) => Err(Problem::ClientExists),
        }
    }

    /// Another registration in the place of what is there, or one where nothing is.
    pub(super) async fn replace_client(
        &self,
        request: Request<Incoming>,
        client_id: &str,
        asked: &Asked,
    ) -> Result<Reply, Problem> {
        query::none(&request)?;
        let expected = condition::of_put(request.headers())?;
        let mut document = body::object(request, body::JSON, self.limits).await?;
        match document.get("client_id") {
            Some(Value::String(named)) if named != client_id => return Err(Problem::ClientOther),
            Some(Value::String(_)) => {}
            _ => drop(document.insert("client_id".to_owned(), client_id.into())),
        }
        match (self.write(client_id, document, expected, asked).await?, expected) {
            (Outcome::Done(found), Expected::Absent) => Ok(reply::created(&found)),
            (Outcome::Done(found), _) => Ok(reply::client(&found)),
            (Outcome::NotAsExpected(None), _) => Err(Problem::ClientUnknown),
            (Outcome::NotAsExpected(Some(_)), _) => Err(Problem::PreconditionFailed),
        }
    }

    /// Other values for some members.
    pub(super) async fn change_client(
        &self,
        request: Request<Incoming>,
        client_id: &str,
        asked: &Asked,
    ) -> Result<Reply, Problem> {
        query::none(&request)?;
        let expected = condition::of_change(request.headers())?;
        let patch = body::object(request, body::MERGE_PATCH, self.limits).await?;
        if patch.get("client_id").is_some_and(|named| named != client_id) {
            return Err(Problem::ClientOther);
        }
        self.modify(client_id, expected, asked, |document| merge::merge(document, &patch)).await
    }

    /// A client less.
    pub(super) async fn delete_client(
        &self,
        request: &Request<Incoming>,
        client_id: &str,
        asked: &Asked,
    ) -> Result<Reply, Problem> {
        query::none(request)?;
        let expected = condition::of_change(request.headers())?;
        self.is_no_file(client_id)?;
        self.record_request(asked, "delete".to_owned()).await?;
        let written = self.store.delete_client(client_id.to_owned(), expected, asked.now).await;
        match written.map_err(|_| Problem::StoreUnavailable)? {
            Written::Done(revision) => {
                self.clients.stored.until(revision, IN_FORCE).await;
                self.record_change(asked, Kind::ClientChanged, format!("deleted, revision {revision}"));
                Ok(reply::no_content())
            }
            Written::NotAsExpected { there: None } => Err(Problem::ClientUnknown),
            Written::NotAsExpected { there: Some(_) } => Err(Problem::PreconditionFailed),
        }
    }

    /// No more tokens, or tokens again. In an emergency nobody has to know a state first.
    pub(super) async fn set_state(
        &self,
        request: &Request<Incoming>,
        client_id: &str,
        state: &'static str,
        asked: &Asked,
    ) -> Result<Reply, Problem> {
        query::none(request)?;
        let expected = if_any(request.headers())?;
        let set = |document: &mut Map<String, Value>| {
            let patch = json!({ "certbind": { "state": state } });
            merge::merge(document, patch.as_object().unwrap_or(&Map::new()));
        };
        self.modify(client_id, expected, asked, set).await
    }

    /// Reads, changes and writes, again when somebody else wrote in between and any state was meant.
    async fn modify(
        &self,
        client_id: &str,
        expected: Expected,
        asked: &Asked,
        change: impl Fn(&mut Map<String, Value>),
    ) -> Result<Reply, Problem> {
        if let Expected::Revision(revision) = expected {
            // It may have come from another server, which is ahead of this one.
            self.clients.stored.until(revision, IN_FORCE).await;
        }
        for _ in 0..TRIES {
            self.is_no_file(client_id)?;
            let record = self.clients.stored.held().get(client_id).cloned().ok_or(Problem::ClientUnknown)?;
            let there = record.stored.revision;
            if matches!(expected, Expected::Revision(revision) if revision != there) {
                return Err(Problem::PreconditionFailed);
            }
            let mut document = record.document();
            change(&mut document);
            match self.write(client_id, document, Expected::Revision(there), asked).await? {
                Outcome::Done(found) => return Ok(reply::client(&found)),
                Outcome::NotAsExpected(None) => return Err(Problem::ClientUnknown),
                Outcome::NotAsExpected(Some(newer)) => {
                    self.clients.stored.until(newer, IN_FORCE).await;
                }
            }
        }
        Err(Problem::PreconditionFailed)
    }

    /// Checks, writes down, writes, and waits until it is in force.
    async fn write(
        &self,
        client_id: &str,
        mut document: Map<String, Value>,
        expected: Expected,
        asked: &Asked,
    ) -> Result<Outcome, Problem> {
        without_read_only(&mut document);
        let registered = document::register(&document, &self.clients.stored.rules());
        let registered = registered.map_err(Problem::MetadataInvalid)?;
        self.is_no_file(client_id)?;
        let verb = if expected == Expected::Absent { "create" } else { "change" };
        let what = self.difference(client_id, expected, &registered);
        self.record_request(asked, verb.to_owned()).await?;
        let metadata = Value::Object(registered.document).to_string();
        let written = self.store.put_client(client_id.to_owned(), metadata.clone(), expected, asked.now).await;
        match written.map_err(|_| Problem::StoreUnavailable)? {
            Written::NotAsExpected { there } => Ok(Outcome::NotAsExpected(there)),
            Written::Done(revision) => {
                self.clients.stored.until(revision, IN_FORCE).await;
                self.record_change(asked, Kind::ClientChanged, format!("{verb}d, revision {revision}{what}"));
                let stored = StoredClient {
                    client_id: client_id.to_owned(),
                    metadata,
                    revision,
                    created: asked.now,
                    updated: asked.now,
                };
                Ok(Outcome::Done(self.found(stored, registered.client)))
            }
        }
    }

    /// What the change does, as far as it is known what it changes; behind a colon.
    fn difference(&self, client_id: &str, expected: Expected, registered: &Registration) -> String {
        let after = Side { document: &registered.document, client: Some(&registered.client) };
        let held = self.clients.stored.held().get(client_id).cloned();
        let difference = match (expected, held) {
            (Expected::Absent, _) => difference::of(None, &after),
            (Expected::Revision(revision), Some(record)) if record.stored.revision == revision => {
                let before = Side { document: &record.document(), client: record.client.as_deref().ok() };
                difference::of(Some(&before), &after)
            }
            _ => None,
        };
        difference.map(|difference| format!(": {difference}")).unwrap_or_default()
    }

    /// What was written as it is in force, or as it will be.
    fn found(&self, stored: StoredClient, client: std::sync::Arc<certbind_proto::client::Client>) -> Found {
        let held = self.clients.stored.held().get(&stored.client_id).cloned();
        let held = held.filter(|record| record.stored.revision == stored.revision);
        Found::Store(held.unwrap_or_else(|| std::sync::Arc::new(Record { stored, client: Ok(client) })))
    }

    fn is_no_file(&self, client_id: &str) -> Result<(), Problem> {
        match Found::of(&self.clients, client_id).map(|found| found.source()) {
            Some(Source::File) => Err(Problem::ClientInFile),
            Some(Source::Store) | None => Ok(()),
        }
    }
}

/// What came of a write.
enum Outcome {
    Done(Found),
    NotAsExpected(Option<Revision>),
}

/// A condition that may be left out.
fn if_any(headers: &HeaderMap) -> Result<Expected, Problem> {
    match condition::of_change(headers) {
        Err(Problem::PreconditionMissing) => Ok(Expected::Present),
        condition => condition,
    }
}
