//! Puts each new token of a source in its places as soon as it is there, and leaves nothing in them that is over.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use certbind_client::{AccessToken, TokenSource};
use certbind_proto::entropy::{Entropy, unguessable_id};
use certbind_proto::time::{Clock, Timestamp};

use super::{TokenFile, TokenFolder};

/// How often the source is asked, which answers from memory.
const EVERY: Duration = Duration::from_millis(250);

/// Where tokens are put. All of it goes when this is dropped.
#[derive(Debug, Default)]
pub struct Outputs {
    /// The token alone.
    pub file: Option<TokenFile>,
    /// The token, its certificate and its key.
    pub folder: Option<TokenFolder>,
}

/// Keeps outputs and a source together.
pub struct Keeper {
    /// Where tokens come from.
    pub source: TokenSource,
    /// Where they go.
    pub outputs: Outputs,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Where the names of snapshots are drawn from.
    pub entropy: Arc<dyn Entropy>,
    /// What is in the outputs already.
    pub placed: Option<Arc<AccessToken>>,
}

/// What was said of the outputs.
struct Said {
    token: Option<Arc<AccessToken>>,
    /// Of a token that could not be put somewhere.
    fault: Option<String>,
}

impl Keeper {
    /// Keeps on until it is dropped, and says of each token when it is in place.
    ///
    /// Why there is none is said in the log by the source, with the id under which the server has logged it.
    pub async fn keep(self, renewed: impl Fn()) {
        let Self { source, mut outputs, clock, entropy, placed } = self;
        let mut said = Said { token: placed, fault: None };
        loop {
            let now = clock.now();
            let is_over;
            (outputs, is_over) = tried(outputs, move |outputs| Ok(outputs.tidy(now))).await;
            if is_over.unwrap_or_default() {
                tracing::warn!("the token is over and there is no other: it was taken away");
            }
            if let Ok(token) = source.token().await {
                let (id, put) = (unguessable_id(&*entropy), token.clone());
                let outcome;
                (outputs, outcome) = tried(outputs, move |outputs| outputs.put(&put, now, &id)).await;
                if said.take_note(token, outcome) {
                    renewed();
                }
            }
            let end = outputs.ends().min().map_or(EVERY, |end| end.since(clock.now()));
            tokio::time::sleep(end.min(EVERY)).await;
        }
    }
}

impl Said {
    /// Whether it is in place, and was not before.
    fn take_note(&mut self, token: Arc<AccessToken>, outcome: io::Result<()>) -> bool {
        let Err(error) = outcome else {
            self.fault = None;
            let is_new = !self.token.as_ref().is_some_and(|before| Arc::ptr_eq(before, &token));
            if is_new {
                tracing::info!(expires = %token.expires(), "a new token is in place");
                self.token = Some(token);
            }
            return is_new;
        };
        let fault = Some(error.to_string());
        if self.fault != fault {
            tracing::error!(%error, "the token cannot be written; the one before stays until it is over");
            self.fault = fault;
        }
        false
    }
}

impl Outputs {
    /// Has this token in all of them.
    ///
    /// # Errors
    /// What the system says; the others may have it all the same, and it can be tried again.
    pub fn put(&mut self, token: &Arc<AccessToken>, now: Timestamp, id: &str) -> io::Result<()> {
        let in_folder = self.folder.as_mut().map_or(Ok(()), |folder| folder.put(token, now, id));
        let in_file = self.file.as_mut().map_or(Ok(()), |file| file.put(token));
        in_folder.and(in_file)
    }

    /// Empties each of those whose token is over, whatever became of the others, and says whether there was one.
    fn tidy(&mut self, now: Timestamp) -> bool {
        let is_over = |token: Option<&AccessToken>| token.is_some_and(|token| !token.is_alive(now));
        let file = self.file.as_mut().filter(|file| is_over(file.token())).map(TokenFile::withdraw);
        let folder = self.folder.as_mut().filter(|folder| is_over(folder.token())).map(TokenFolder::withdraw);
        self.folder.iter_mut().for_each(|folder| folder.sweep(now));
        file.or(folder).is_some()
    }

    fn ends(&self) -> impl Iterator<Item = Timestamp> {
        let file = self.file.as_ref().and_then(TokenFile::token);
        let folder = self.folder.as_ref().and_then(TokenFolder::token);
        file.into_iter().chain(folder).map(AccessToken::expires)
    }
}

/// Does something that waits on the disk. The outputs are lost, and what they wrote with them, when the process ends.
async fn tried<T: Send + Default + 'static>(
    mut outputs: Outputs,
    work: impl FnOnce(&mut Outputs) -> io::Result<T> + Send + 'static,
) -> (Outputs, io::Result<T>) {
    let done = tokio::task::spawn_blocking(move || {
        let outcome = work(&mut outputs);
        (outputs, outcome)
    });
    done.await.unwrap_or_else(|error| (Outputs::default(), Err(io::Error::other(error))))
}
