//! Keeps the memory at the store's state: told of changes, and looking again by itself now and then.

use std::sync::Arc;
use std::time::Duration;

use certbind_proto::time::Clock;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Revocations;
use crate::store::Revisions;

/// How often the store is looked at though it tells no change.
const LOOK: Duration = Duration::from_secs(20);
/// How long until the next try when the store did not answer.
const RETRY: Duration = Duration::from_secs(1);

/// A running follower. It ends when this is dropped.
#[derive(Debug)]
#[must_use = "dropping it ends the following"]
pub struct Following(JoinHandle<()>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Revocations {
    /// Follows the store's changes from now on.
    pub fn follow(self: &Arc<Self>, changes: watch::Receiver<Revisions>, clock: Arc<dyn Clock>) -> Following {
        Following(tokio::spawn(Arc::clone(self).run(changes, clock)))
    }

    async fn run(self: Arc<Self>, mut changes: watch::Receiver<Revisions>, clock: Arc<dyn Clock>) {
        loop {
            changes.mark_unchanged();
            let wait = match self.refresh(clock.now()).await {
                Ok(_) => LOOK,
                Err(error) => {
                    tracing::warn!(%error, "revocations of other servers are not known until the store answers");
                    RETRY
                }
            };
            if let Ok(Err(_)) = timeout(wait, changes.changed()).await {
                return;
            }
        }
    }
}
