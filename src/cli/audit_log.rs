//! Opens the places of the audit log that the configuration names, and drops what the store has kept for long enough.

use std::fs;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use certbind_proto::entropy::Entropy;
use certbind_proto::time::Clock;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::serve::settings;
use crate::audit::{Added, AuditFile, AuditLog, Durability, Event, Kind, LineHash, LineWriter, Shelf};
use crate::config::{self, Config, StoredAudit};
use crate::store::audit::{Appended, AuditLine};
use crate::store::{BoxFuture, Store, StoreError};

/// How long the store may take for lines; longer than its own deadline.
const ANSWER: Duration = Duration::from_secs(3);

/// How often it is looked what was kept for long enough, and how often while there is more of it.
const LOOK: Duration = Duration::from_secs(60);
const MORE: Duration = Duration::from_millis(250);

/// Opens them. Must be called from within a tokio runtime, on which the store lives.
///
/// # Errors
/// A file cannot be opened.
pub(super) fn open(
    config: &Config,
    store: &Arc<dyn Store>,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<dyn Entropy>,
) -> anyhow::Result<AuditLog> {
    let durability = settings::durability(config);
    let (local, of_store) = match &config.log.audit {
        config::Audit::Log => (LineWriter::to_stream(io::stderr(), Arc::clone(clock), &**entropy)?, durability),
        config::Audit::File(path) => {
            let file = AuditFile::open(path.clone(), Arc::clone(entropy));
            let file = file.with_context(|| format!("cannot write the audit log {}", path.display()))?;
            // Where there is a file, it is what is waited for, and the store follows.
            (LineWriter::to_file(file, durability, Arc::clone(clock), &**entropy)?, Durability::BestEffort)
        }
    };
    let Some(StoredAudit { server, .. }) = &config.log.audit_store else { return Ok(AuditLog::new(local, None)) };
    let server = server.clone().unwrap_or_else(name_of_machine);
    let shelf = StoreShelf { store: Arc::clone(store), server, runtime: Handle::current() };
    let in_store = LineWriter::to_shelf(shelf, of_store, Arc::clone(clock), Arc::clone(entropy))?;
    Ok(AuditLog::new(local, Some(in_store)))
}

/// What the machine is called, as far as that can stand in a name.
fn name_of_machine() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| fs::read_to_string("/etc/hostname"));
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || "-_.".contains(*c);
    let name: String = name.unwrap_or_default().trim().chars().filter(is_plain).take(64).collect();
    if name.is_empty() { "server".to_owned() } else { name }
}

/// The store, as the thread sees it that writes audit lines.
struct StoreShelf {
    store: Arc<dyn Store>,
    server: String,
    runtime: Handle,
}

impl StoreShelf {
    fn wait<T>(&self, answer: impl Future<Output = Result<T, StoreError>>) -> io::Result<T> {
        let answer = self.runtime.block_on(async { timeout(ANSWER, answer).await });
        answer.map_err(|_| io::ErrorKind::TimedOut)?.map_err(io::Error::other)
    }
}

impl Shelf for StoreShelf {
    fn last(&mut self) -> io::Result<Option<String>> {
        let last = self.wait(self.store.last_audit(self.server.clone()))?;
        Ok(last.map(|last| last.line))
    }

    fn add(&mut self, lines: &[&str]) -> io::Result<Added> {
        let read = |line: &&str| AuditLine::read(&self.server, line).ok_or(io::ErrorKind::InvalidData);
        let lines = lines.iter().map(read).collect::<Result<_, _>>()?;
        Ok(match self.wait(self.store.append_audit(lines))? {
            Appended::Done => Added::Done,
            Appended::Taken => Added::Taken,
        })
    }
}

/// Drops old lines until it is dropped itself.
pub(super) struct Expiry(Option<AbortHandle>);

impl Expiry {
    /// Begins, where lines are not to be kept for ever.
    pub(super) fn start(config: &Config, store: &Arc<dyn Store>, log: &Arc<AuditLog>, clock: &Arc<dyn Clock>) -> Self {
        let Some(StoredAudit { keep: Some(keep), .. }) = config.log.audit_store else { return Self(None) };
        let (store, log, clock) = (Arc::clone(store), Arc::clone(log), Arc::clone(clock));
        let expiring = tokio::spawn(async move {
            loop {
                let dropped = expire(&*store, &log, keep, &*clock).await.unwrap_or_else(|error| {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "audit lines that are older than log.audit_keep could not be dropped");
                    0
                });
                sleep(if dropped > 0 { MORE } else { LOOK }).await;
            }
        });
        Self(Some(expiring.abort_handle()))
    }
}

impl Drop for Expiry {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

/// Drops one batch of each chain, and says how many lines that were. Before they go, a line that stays says so: else their
/// absence would look like somebody's deed.
async fn expire(store: &dyn Store, log: &AuditLog, keep: Duration, clock: &dyn Clock) -> Result<u64, StoreError> {
    let mut dropped = 0;
    for last in store.overdue_audit(clock.now().minus(keep)).await? {
        let Some(writer) = log.in_store() else { break };
        if writer.record_kept(&expired(&last, clock)).await.is_ok() {
            dropped += store.drop_audit(last.chain, last.seq).await?;
        }
    }
    Ok(dropped)
}

fn expired(last: &AuditLine, clock: &dyn Clock) -> Event {
    Event {
        ts: clock.now().to_string(),
        event: Some(Kind::AuditExpired),
        expired: Some(last.chain.clone()),
        expired_seq: Some(last.seq),
        expired_head: Some(LineHash::of(last.line.as_bytes()).to_string()),
        ..Event::default()
    }
}

/// Writes what is left for the store before the runtime ends, on which the store lives.
pub(super) fn finish(log: Arc<AuditLog>) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        // An error means that the process ends.
        let _ = tokio::task::spawn_blocking(move || log.in_store().into_iter().for_each(LineWriter::finish)).await;
    })
}
