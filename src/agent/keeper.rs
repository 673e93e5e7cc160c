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

/// What is in the outputs.
struct Placed {
    token: Option<Arc<AccessToken>>,
    /// What was said of a token that could not be put anywhere.
    fault: Option<String>,
}

impl Keeper {
    /// Keeps on until it is dropped, and says of each token when it is in place.
    ///
    /// Why there is none is said in the log by the source, with the id under which the server has logged it.
    pub async fn keep(self, renewed: impl Fn()) {
        let Self { source, mut outputs, clock, entropy, placed } = self;
        let mut placed = Placed { token: placed, fault: None };
        loop {
            let now = clock.now();
            let is_over = placed.token.take_if(|token| !token.is_alive(now)).is_some();
            if is_over {
                outputs = aside(outputs, Outputs::withdraw).await;
                tracing::warn!("the token is over and there is no other: it was taken away");
            } else if outputs.has_leftovers() {
                outputs = aside(outputs, move |outputs| outputs.sweep(now)).await;
            }
            if let Ok(token) = source.token().await
                && !placed.token.as_ref().is_some_and(|placed| Arc::ptr_eq(placed, &token))
            {
                let (id, put) = (unguessable_id(&*entropy), token.clone());
                let outcome;
                (outputs, outcome) = tried(outputs, move |outputs| outputs.put(&put, now, &id)).await;
                if placed.take_note(token, outcome) {
                    renewed();
                }
            }
            let end = placed.token.as_ref().map_or(EVERY, |token| token.expires().since(clock.now()));
            tokio::time::sleep(end.min(EVERY)).await;
        }
    }
}

impl Placed {
    /// Whether it is in place.
    fn take_note(&mut self, token: Arc<AccessToken>, outcome: io::Result<()>) -> bool {
        let Err(error) = outcome else {
            tracing::info!(expires = %token.expires(), "a new token is in place");
            *self = Self { token: Some(token), fault: None };
            return true;
        };
        let fault = Some(error.to_string());
        if self.fault != fault {
            tracing::error!(%error, "the new token cannot be written; the one before stays until it is over");
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

    fn withdraw(&mut self) {
        self.file.iter_mut().for_each(TokenFile::withdraw);
        self.folder.iter_mut().for_each(TokenFolder::withdraw);
    }

    fn has_leftovers(&self) -> bool {
        self.folder.as_ref().is_some_and(TokenFolder::has_leftovers)
    }

    fn sweep(&mut self, now: Timestamp) {
        self.folder.iter_mut().for_each(|folder| folder.sweep(now));
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

async fn aside(outputs: Outputs, work: impl FnOnce(&mut Outputs) + Send + 'static) -> Outputs {
    tried(outputs, |outputs| {
        work(outputs);
        Ok(())
    })
    .await
    .0
}
