//! Clients: looked at, listed, made, replaced, changed, disabled and removed (RFC 7591 §3, RFC 7592 §2).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use certbind_proto::client::Client;
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
use crate::registry::fault::Complaint;
use crate::registry::stored::Record;
use crate::store::{ClientChange, Expected, Revision, StoredClient, Written};

/// How long a change may take to be in force here before the answer says that it is not yet.
const IN_FORCE: Duration = Duration::from_secs(1);

/// How often a change of some members is tried when others change the same client: of fifty that try at once one wins each
/// time, so that the last one has its turn.
const TRIES: usize = 200;

/// How long it is tried; whoever asks may have little patience.
const TRYING: Duration = Duration::from_secs(8);

/// The most bytes of a registration as it lies in the store: many small changes make no more of it than one body can.
pub const MOST_BYTES: usize = 256 * 1024;

/// What is done to a client.
const CREATE: &str = "create";
const CHANGE: &str = "change";

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

    /// Reads, changes and writes, again from the newest state when somebody else wrote in between and any state was meant.
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
        let (mut there, mut is_recorded) = (self.known(client_id, expected).await?, false);
        let until = Instant::now() + TRYING;
        for _ in 0..TRIES {
            self.is_no_file(client_id)?;
            let revision = there.stored.revision;
            if matches!(expected, Expected::Revision(expected) if expected != revision) {
                return Err(Problem::PreconditionFailed);
            }
            let mut document = there.document();
            change(&mut document);
            let wanted = self.check(client_id, document, MOST_BYTES.max(there.stored.metadata.len()))?;
            if !std::mem::replace(&mut is_recorded, true) {
                self.record_request(asked, CHANGE.to_owned()).await?;
            }
            let what = difference(Some(&there), &wanted.registration);
            match self.put(wanted, Expected::Revision(revision), (CHANGE, &what), asked).await? {
                Outcome::Done(found) => return Ok(reply::client(&found)),
                Outcome::NotAsExpected(None) => return Err(Problem::ClientUnknown),
                Outcome::NotAsExpected(Some(_)) if Instant::now() < until => there = self.newest(client_id).await?,
                Outcome::NotAsExpected(Some(_)) => break,
            }
        }
        Err(Problem::ClientContended)
    }

    /// The registration as this server knows it. Where that is none, or not the one that is meant, as the store does:
    /// another server may have made it a moment ago.
    async fn known(&self, client_id: &str, expected: Expected) -> Result<Arc<Record>, Problem> {
        self.is_no_file(client_id)?;
        let is_meant = |record: &Arc<Record>| match expected {
            Expected::Revision(revision) => record.stored.revision == revision,
            Expected::Absent | Expected::Present => true,
        };
        let held = self.clients.stored.held().get(client_id).cloned();
        match held.filter(is_meant) {
            Some(record) => Ok(record),
            None => self.newest(client_id).await,
        }
    }

    /// The registration as it lies in the store now.
    async fn newest(&self, client_id: &str) -> Result<Arc<Record>, Problem> {
        let held = self.clients.stored.held();
        let changes = self.store.clients_since(held.revision()).await.map_err(|_| Problem::StoreUnavailable)?;
        let is_it = |change: &ClientChange| match change {
            ClientChange::Written(stored) => stored.client_id == client_id,
            ClientChange::Removed { client_id: removed, .. } => removed == client_id,
        };
        match changes.into_iter().rev().find(is_it) {
            Some(ClientChange::Written(stored)) => Ok(Arc::new(self.clients.stored.record(stored))),
            Some(ClientChange::Removed { .. }) => Err(Problem::ClientUnknown),
            None => held.get(client_id).cloned().ok_or(Problem::ClientUnknown),
        }
    }

    /// Checks, writes down, writes, and waits until it is in force.
    async fn write(
        &self,
        client_id: &str,
        document: Map<String, Value>,
        expected: Expected,
        asked: &Asked,
    ) -> Result<Outcome, Problem> {
        let wanted = self.check(client_id, document, MOST_BYTES)?;
        self.is_no_file(client_id)?;
        let verb = if expected == Expected::Absent { CREATE } else { CHANGE };
        let held = self.clients.stored.held().get(client_id).cloned();
        let what = match (expected, held) {
            (Expected::Absent, _) => difference(None, &wanted.registration),
            (Expected::Revision(revision), Some(record)) if record.stored.revision == revision => {
                difference(Some(&record), &wanted.registration)
            }
            _ => String::new(),
        };
        self.record_request(asked, verb.to_owned()).await?;
        self.put(wanted, expected, (verb, &what), asked).await
    }

    /// The registration as it would lie in the store, if that may be.
    fn check(&self, client_id: &str, mut document: Map<String, Value>, most: usize) -> Result<Wanted, Problem> {
        if is_dots(client_id) {
            return Err(Problem::MetadataInvalid(vec![Complaint::Unreachable]));
        }
        without_read_only(&mut document);
        let registered = document::register(&document, &self.clients.stored.rules());
        let registration = registered.map_err(Problem::MetadataInvalid)?;
        let metadata = Value::Object(registration.document.clone()).to_string();
        match metadata.len() <= most {
            true => Ok(Wanted { registration, metadata }),
            false => Err(Problem::RegistrationTooLarge),
        }
    }

    /// Writes, and waits until it is in force.
    async fn put(
        &self,
        wanted: Wanted,
        expected: Expected,
        (verb, what): (&str, &str),
        asked: &Asked,
    ) -> Result<Outcome, Problem> {
        let Wanted { registration: Registration { client, .. }, metadata } = wanted;
        let client_id = client.client_id.clone();
        let written = self.store.put_client(client_id.clone(), metadata.clone(), expected, asked.now).await;
        match written.map_err(|_| Problem::StoreUnavailable)? {
            Written::NotAsExpected { there } => Ok(Outcome::NotAsExpected(there)),
            Written::Done(revision) => {
                self.clients.stored.until(revision, IN_FORCE).await;
                self.record_change(asked, Kind::ClientChanged, format!("{verb}d, revision {revision}{what}"));
                let stored = StoredClient { client_id, metadata, revision, created: asked.now, updated: asked.now };
                Ok(Outcome::Done(self.found(stored, client)))
            }
        }
    }

    /// What was written as it is in force, or as it will be.
    fn found(&self, stored: StoredClient, client: Arc<Client>) -> Found {
        let held = self.clients.stored.held().get(&stored.client_id).cloned();
        let held = held.filter(|record| record.stored.revision == stored.revision);
        Found::Store(held.unwrap_or_else(|| Arc::new(Record { stored, client: Ok(client) })))
    }

    fn is_no_file(&self, client_id: &str) -> Result<(), Problem> {
        match Found::of(&self.clients, client_id).map(|found| found.source()) {
            Some(Source::File) => Err(Problem::ClientInFile),
            Some(Source::Store) | None => Ok(()),
        }
    }
}

/// What is to be written: a registration that was checked, and its text.
struct Wanted {
    registration: Registration,
    metadata: String,
}

/// What a change does; behind a colon.
fn difference(before: Option<&Record>, registration: &Registration) -> String {
    let after = Side { document: &registration.document, client: Some(&registration.client) };
    let difference = match before {
        None => difference::of(None, &after),
        Some(record) => {
            let before = Side { document: &record.document(), client: record.client.as_deref().ok() };
            difference::of(Some(&before), &after)
        }
    };
    difference.map(|difference| format!(": {difference}")).unwrap_or_default()
}

/// What came of a write.
enum Outcome {
    Done(Found),
    NotAsExpected(Option<Revision>),
}

/// Whether a client of this name has no path: whoever resolves `/clients/..` (RFC 3986 §5.2.4) asks for something else.
fn is_dots(client_id: &str) -> bool {
    matches!(client_id, "." | "..")
}

/// A condition that may be left out.
fn if_any(headers: &HeaderMap) -> Result<Expected, Problem> {
    match condition::of_change(headers) {
        Err(Problem::PreconditionMissing) => Ok(Expected::Present),
        condition => condition,
    }
}
