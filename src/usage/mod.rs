//! Which credentials clients use: noted in memory with each request, written to the store about once a minute, and told
//! to who looks after renewals. Nothing is decided by it, so nobody waits for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use certbind_proto::cert::Certificate;
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::{Clock, Timestamp};
use tokio::task::JoinHandle;

use crate::store::StoreError;
use crate::store::usage::{Credential, Kind, Usage, UsageStore};

mod notes;
#[cfg(test)]
mod tests;

use notes::Notes;

/// How often what was noted is written down; a server that is killed loses no more than that.
pub const EVERY: Duration = Duration::from_secs(60);

/// The longest text of a certificate that is noted, in characters; the rest is cut.
const MAX_TEXT: usize = 256;

/// How many uses are written in one go: small enough that nobody waits for long behind it.
const GROUP: usize = 200;

/// How many clients are asked about in one go.
const ASKED: usize = 100;

/// What is known of the credentials that clients use.
pub struct Usages {
    notes: Notes,
    store: Arc<dyn UsageStore>,
    is_failing: AtomicBool,
}

/// What was found about some clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Of each client, the last used credential first.
    pub uses: HashMap<String, Vec<Usage>>,
    /// How much of it there is.
    pub extent: Extent,
}

/// Whose uses are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Those at every server, but for the last minute at others.
    EveryServer,
    /// Those at this server since it last wrote: the store does not answer.
    ThisServer,
}

impl Usages {
    /// Nothing is noted yet.
    #[must_use]
    pub fn new(store: Arc<dyn UsageStore>) -> Self {
        Self { notes: Notes::default(), store, is_failing: AtomicBool::new(false) }
    }

    /// The client signed an assertion with this key. Never waits.
    pub fn key(&self, client_id: &str, thumbprint: &Thumbprint, kid: Option<&str>, now: Timestamp) {
        self.notes.note(client_id, (Kind::Key, thumbprint), now, || Credential::Key {
            thumbprint: *thumbprint,
            kid: kid.map(str::to_owned),
        });
    }

    /// The client proved itself with this certificate. Never waits.
    pub fn certificate(&self, client_id: &str, certificate: &Certificate, now: Timestamp) {
        self.notes.note(client_id, (Kind::Certificate, certificate.thumbprint()), now, || Credential::Certificate {
            thumbprint: *certificate.thumbprint(),
            subject: cut(certificate.subject().to_string()),
            serial: cut(certificate.serial_hex()),
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
        });
    }

    /// What these clients used. Without the store it is what this server has noted since it last wrote.
    pub async fn of(&self, client_ids: &[String]) -> Found {
        let mut found = Found { uses: HashMap::new(), extent: Extent::EveryServer };
        for group in client_ids.chunks(ASKED) {
            match self.store.uses_of(group.to_vec()).await {
                Ok(uses) => uses.into_iter().for_each(|usage| add(&mut found.uses, usage)),
                Err(error) => {
                    tracing::warn!(%error, "what the store knows of used credentials cannot be read");
                    found.extent = Extent::ThisServer;
                    break;
                }
            }
        }
        for client_id in client_ids {
            self.notes.of(client_id).into_iter().for_each(|usage| add(&mut found.uses, usage));
        }
        found.uses.values_mut().for_each(|uses| uses.sort_by_key(|usage| std::cmp::Reverse(usage.last_used)));
        found
    }

    /// Writes down what was noted, in groups. What cannot be written stays noted.
    pub async fn write(&self, now: Timestamp) {
        let noted = self.notes.all();
        for group in noted.chunks(GROUP) {
            let outcome = self.store.note_uses(group.to_vec(), now).await;
            self.tell(outcome.as_ref().err());
            if outcome.is_err() {
                return;
            }
            self.notes.forget(group);
        }
    }

    /// Writes so often until what this gives is dropped. Must be called from within a tokio runtime.
    pub fn keep_written(self: &Arc<Self>, every: Duration, clock: Arc<dyn Clock>) -> Writing {
        let usages = Arc::clone(self);
        Writing(tokio::spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                usages.write(clock.now()).await;
            }
        }))
    }

    fn tell(&self, failure: Option<&StoreError>) {
        let was_failing = self.is_failing.swap(failure.is_some(), Ordering::Relaxed);
        match failure {
            Some(error) if !was_failing => {
                tracing::warn!(%error, "which credentials are used cannot be written down; it is tried again");
            }
            None if was_failing => tracing::info!("which credentials are used is written down again"),
            _ => {}
        }
    }
}

/// A CA may put anything of any length into a certificate, and what is noted of it is for people.
fn cut(mut text: String) -> String {
    if let Some((at, _)) = text.char_indices().nth(MAX_TEXT) {
        text.truncate(at);
    }
    text
}

/// Adds a use; of two of one credential the newer counts.
fn add(uses: &mut HashMap<String, Vec<Usage>>, usage: Usage) {
    let of_client = uses.entry(usage.client_id.clone()).or_default();
    match of_client.iter_mut().find(|known| known.credential.id() == usage.credential.id()) {
        Some(known) => known.last_used = known.last_used.max(usage.last_used),
        None => of_client.push(usage),
    }
}

/// Writes until it is dropped.
#[derive(Debug)]
#[must_use = "dropping it ends the writing"]
pub struct Writing(JoinHandle<()>);

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.abort();
    }
}
