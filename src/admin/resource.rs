//! A client as the API shows it: the members of its registration (RFC 7591 §3.2.1), and what the server knows besides.

use std::sync::Arc;

use certbind_proto::client::Client;
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::Timestamp;
use serde_json::{Map, Value, json};

use super::condition;
use crate::registry::Clients;
use crate::registry::document;
use crate::registry::stored::Record;

/// Members that the server alone sets. Whoever sends back what was shown need not take them out.
pub(crate) const READ_ONLY: [&str; 2] = ["client_id_issued_at", "registration"];

/// Where a registration comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    File,
    Store,
}

impl Source {
    pub(super) const ALL: [Self; 2] = [Self::File, Self::Store];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Store => "store",
        }
    }
}

/// A registration that there is.
#[derive(Clone, Debug)]
pub(super) enum Found {
    File(Arc<Client>),
    Store(Arc<Record>),
}

impl Found {
    /// The registration that counts for this identifier, in force or not.
    pub(super) fn of(clients: &Clients, client_id: &str) -> Option<Self> {
        use crate::registry::Registry as _;
        let file = clients.files.find(client_id).map(Self::File);
        file.or_else(|| clients.stored.held().get(client_id).cloned().map(Self::Store))
    }

    pub(super) fn client_id(&self) -> &str {
        match self {
            Self::File(client) => &client.client_id,
            Self::Store(record) => &record.stored.client_id,
        }
    }

    pub(super) const fn source(&self) -> Source {
        match self {
            Self::File(_) => Source::File,
            Self::Store(_) => Source::Store,
        }
    }

    /// The client, if it is in force.
    pub(super) fn client(&self) -> Option<&Client> {
        match self {
            Self::File(client) => Some(client),
            Self::Store(record) => record.client.as_deref().ok(),
        }
    }

    /// The entity tag. That of a file changes with what the file says.
    pub(super) fn tag(&self) -> String {
        match self {
            Self::File(client) => {
                let shown = Value::Object(document::effective(client.metadata())).to_string();
                format!("\"{}\"", Thumbprint::of_der(shown.as_bytes()))
            }
            Self::Store(record) => condition::tag(record.stored.revision),
        }
    }

    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::File(client) => {
                let mut shown = document::effective(client.metadata());
                shown
                    .insert("registration".to_owned(), json!({ "source": "file", "in_force": true, "complaints": [] }));
                Value::Object(shown)
            }
            Self::Store(record) => of_store(record),
        }
    }
}

fn of_store(record: &Record) -> Value {
    let stored = &record.stored;
    let mut shown = record.document();
    shown.insert("client_id".to_owned(), stored.client_id.as_str().into());
    shown.insert("client_id_issued_at".to_owned(), stored.created.unix().into());
    let complaints = record.client.as_ref().err().map(Vec::as_slice).unwrap_or_default();
    let complaints: Vec<String> = complaints.iter().map(ToString::to_string).collect();
    shown.insert(
        "registration".to_owned(),
        json!({
            "source": "store",
            "in_force": complaints.is_empty(),
            "complaints": complaints,
            "revision": stored.revision,
            "created": text(stored.created),
            "updated": text(stored.updated),
        }),
    );
    Value::Object(shown)
}

fn text(time: Timestamp) -> String {
    time.to_string()
}

/// Takes out what the server alone sets.
pub(super) fn without_read_only(document: &mut Map<String, Value>) {
    for member in READ_ONLY {
        document.remove(member);
    }
}
