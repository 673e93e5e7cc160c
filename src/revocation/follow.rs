//! Keeps memory and store alike: told of changes, looking again by itself now and then, and writing down what was found
//! out here.

use std::sync::Arc;
use std::time::Duration;

use certbind_proto::time::{Clock, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::Revocations;
use crate::store::{BoxFuture, Revision, Revisions, StoreError};

/// How often the store is looked at though it tells no change: whoever reads the published list wants to know that
/// nothing was left out.
const LOOK: Duration = Duration::from_secs(15);
/// How long until the next try when the store did not answer.
const RETRY: Duration = Duration::from_secs(1);
/// The pause after a change: what comes meanwhile is taken in together.
const PAUSE: Duration = Duration::from_millis(20);

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
    /// Follows the store's changes from now on. `looked` is called after each look, whatever came of it. Must be called
    /// from within a tokio runtime.
    pub fn follow(
        self: &Arc<Self>,
        changes: watch::Receiver<Revisions>,
        clock: Arc<dyn Clock>,
        looked: impl Fn(&Arc<Self>, Timestamp) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Following {
        Following(tokio::spawn(Arc::clone(self).run(changes, clock, looked)))
    }

    async fn run(
        self: Arc<Self>,
        mut changes: watch::Receiver<Revisions>,
        clock: Arc<dyn Clock>,
        looked: impl Fn(&Arc<Self>, Timestamp) -> BoxFuture<'static, ()>,
    ) {
        let mut was_well = true;
        loop {
            let known = changes.borrow_and_update().revocations;
            let now = clock.now();
            let outcome = self.look(known, now).await;
            looked(&self, now).await;
            match &outcome {
                Err(error) if was_well => tracing::error!(%error, "what other servers revoke is not known"),
                Ok(()) if !was_well => tracing::info!("what other servers revoke is known again"),
                _ => {}
            }
            was_well = outcome.is_ok();
            tokio::select! {
                () = sleep(if was_well { LOOK } else { RETRY }) => {}
                () = self.woken.notified() => {}
                changed = changes.changed() => if changed.is_err() {
                    return;
                }
            }
            sleep(PAUSE).await;
        }
    }

    async fn look(&self, known: Revision, now: Timestamp) -> Result<(), StoreError> {
        self.refresh_up_to(known, now).await?;
        self.write_down(now).await
    }
}
