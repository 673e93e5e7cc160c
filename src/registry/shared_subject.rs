//! Clients of `tls_client_auth` that share a name: found among any clients, those of files and those of the store.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use certbind_proto::client::{Client, Method};
use certbind_proto::subject::Subject;

use super::fault::Warning;

/// Each name that several of these clients have in one trust group. Costs as much as there are clients.
#[must_use]
pub fn shared_subjects<'a>(clients: impl IntoIterator<Item = &'a Arc<Client>>) -> BTreeSet<Warning> {
    let mut by_name: HashMap<(&str, &Subject), Vec<&str>> = HashMap::new();
    for client in clients {
        if let Method::TlsClientAuth { subject, trust } = &client.method {
            by_name.entry((trust, subject)).or_default().push(&client.client_id);
        }
    }
    let shared = by_name.into_iter().filter(|(_, clients)| clients.len() > 1);
    let warning = |((trust, subject), mut clients): ((&str, &Subject), Vec<&str>)| {
        clients.sort_unstable();
        let clients = clients.into_iter().map(str::to_owned).collect();
        Warning::SharedSubject { trust: trust.to_owned(), subject: subject.to_string(), clients }
    };
    shared.map(warning).collect()
}
