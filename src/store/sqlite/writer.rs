//! The one thread that writes: it commits what waits as one group, so that many callers share one sync of the disk.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use certbind_proto::time::Timestamp;
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{oneshot, watch};

use super::super::fence;
use super::super::replay_index::{Known, ReplayIndex};
use super::super::{FirstUse, ReplayKey, Revisions, StoreError, Use};
use super::queue::{Queue, Wish};
use super::replay::{self, ReplayLog};
use super::{Settings, keys, revisions};

/// The most calls in one commit.
const GROUP: usize = 512;

/// How often a failing disk is tried while nobody calls.
const PROBE: Duration = Duration::from_millis(500);

/// How long at most the changes of another process stay unseen.
const LOOK: Duration = Duration::from_millis(250);

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What callers ask.
pub(super) enum Call {
    /// Whether an assertion is used for the first time: the one call that comes often, and is served in groups.
    FirstUse { used: Use, now: Timestamp, reply: Reply<FirstUse> },
    /// Anything else, with the reply inside.
    Other(Work),
}

/// Work on the connection, done between two groups.
pub(super) type Work = Box<dyn FnOnce(&mut Connection) -> Answer + Send>;

/// Hands over what came of it. A change is told to everybody first, so that whoever made it finds it in force.
pub(super) type Answer = Box<dyn FnOnce()>;

/// What is told without asking the writer.
#[derive(Debug)]
pub(super) struct Gauges {
    live_entries: AtomicU64,
    healthy: AtomicBool,
}

impl Gauges {
    pub(super) fn live_entries(&self) -> u64 {
        self.live_entries.load(Ordering::Relaxed)
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }
}

impl Default for Gauges {
    fn default() -> Self {
        Self { live_entries: AtomicU64::new(0), healthy: AtomicBool::new(true) }
    }
}

/// The state of the thread.
pub(super) struct Writer {
    connection: Connection,
    index: ReplayIndex,
    log: ReplayLog,
    calls: Arc<Queue<Call>>,
    gauges: Arc<Gauges>,
    max_entries: usize,
    fence: Timestamp,
    gather: Duration,
    expected: usize,
    changes: watch::Sender<Revisions>,
    seen_version: i64,
    looked: Instant,
}

/// A call for a first use.
struct Asked {
    used: Use,
    now: Timestamp,
    reply: Reply<FirstUse>,
}

type Answers = Vec<Result<FirstUse, StoreError>>;

impl Writer {
    /// Reads what is on disk; the time this takes grows with it (a million rows: less than a second).
    pub(super) fn new(
        connection: Connection,
        settings: &Settings,
        fence: Timestamp,
        calls: Arc<Queue<Call>>,
        gauges: Arc<Gauges>,
        changes: watch::Sender<Revisions>,
    ) -> Result<Self, StoreError> {
        let (mut index, mut log) = (ReplayIndex::new(), ReplayLog::default());
        log.follow(&connection, &mut index)?;
        keys::load(&connection)?;
        gauges.live_entries.store(index.held() as u64, Ordering::Relaxed);
        // The version before the revisions: what changes in between is looked at once more.
        let seen_version = revisions::data_version(&connection)?;
        changes.send_replace(revisions::load(&connection)?);
        let (max_entries, gather) = (settings.max_entries, settings.gather);
        let looked = Instant::now();
        Ok(Self {
            connection,
            index,
            log,
            calls,
            gauges,
            max_entries,
            fence,
            gather,
            expected: 1,
            changes,
            seen_version,
            looked,
        })
    }

    /// Serves until the queue is closed and empty.
    pub(super) fn run(&mut self) {
        while let Some(group) = self.calls.take(self.wish()) {
            let uses = self.serve_others(group);
            if self.looked.elapsed() >= LOOK {
                self.look();
            }
            if uses.is_empty() {
                self.probe();
                continue;
            }
            // Who was answered and who came meanwhile will ask about as often again: one group of all of them costs
            // one commit, two that take turns cost two. A single caller is never made to wait.
            let answered = uses.len();
            let meanwhile = self.serve(uses);
            self.expected = (answered + meanwhile).max(self.expected * 3 / 4).min(GROUP);
        }
    }

    fn wish(&self) -> Wish {
        let idle = if self.gauges.is_healthy() { LOOK } else { PROBE };
        Wish { expected: self.expected, gather: self.gather, most: GROUP, idle }
    }

    /// Tells what another process has changed. A database that cannot be read is looked at again soon.
    fn look(&mut self) {
        self.looked = Instant::now();
        match revisions::data_version(&self.connection) {
            Ok(version) if version != self.seen_version && self.tell() => self.seen_version = version,
            _ => {}
        }
    }

    /// Tells the revisions when they have grown; says whether they could be read.
    fn tell(&self) -> bool {
        let Ok(found) = revisions::load(&self.connection) else { return false };
        self.changes.send_if_modified(|known| std::mem::replace(known, found) != found);
        true
    }

    /// Does what is not a first use, and gives the rest; callers that have gone are dropped.
    fn serve_others(&mut self, group: Vec<Call>) -> Vec<Asked> {
        let mut uses = Vec::with_capacity(group.len());
        let mut answers = Vec::new();
        for call in group {
            match call {
                Call::FirstUse { reply, .. } if reply.is_closed() => {}
                Call::FirstUse { used, now, reply } => uses.push(Asked { used, now, reply }),
                Call::Other(work) => answers.push(work(&mut self.connection)),
            }
        }
        if !answers.is_empty() {
            self.tell();
        }
        answers.into_iter().for_each(|answer| answer());
        uses
    }

    /// Answers a group, and says how many calls came meanwhile.
    fn serve(&mut self, uses: Vec<Asked>) -> usize {
        let answers = if uses.iter().all(|used| self.is_replay(used)) {
            // Nothing to write: replays cost no disk.
            Ok(uses.iter().map(|_| Ok(FirstUse::No)).collect())
        } else {
            let answers = self.commit(&uses);
            self.report(answers.as_ref().err());
            answers
        };
        if let Some(last) = uses.last() {
            self.index.sweep(uses.len(), last.now);
        }
        self.gauges.live_entries.store(self.index.held() as u64, Ordering::Relaxed);
        let meanwhile = self.calls.len();
        reply_all(uses, answers);
        meanwhile
    }

    fn is_replay(&self, Asked { used, now, .. }: &Asked) -> bool {
        self.index.look(&used.key, used.keep_until, *now) == Known::Used
    }

    /// Decides and records a group in one transaction. Only what is on disk becomes known to the index.
    fn commit(&mut self, uses: &[Asked]) -> Result<Answers, StoreError> {
        self.leave_broken_transaction()?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        self.log.follow(&transaction, &mut self.index)?;
        let mut staged = HashMap::with_capacity(uses.len());
        let bounds = Bounds { max_entries: self.max_entries, fence: self.fence };
        let answers = uses.iter().map(|asked| decide(&self.index, &mut staged, asked, bounds)).collect();
        self.log.append(&transaction, staged.iter())?;
        self.log.sweep(&transaction, self.index.horizon())?;
        transaction.commit()?;
        self.log.committed(staged.len() as i64);
        for (key, keep_until) in staged {
            self.index.insert(key, keep_until);
        }
        Ok(answers)
    }

    /// A commit that failed on a full disk may have left its transaction open.
    fn leave_broken_transaction(&self) -> Result<(), StoreError> {
        if !self.connection.is_autocommit() {
            self.connection.execute_batch("ROLLBACK")?;
        }
        Ok(())
    }

    /// While the disk fails, tries it, so that readiness comes back without traffic.
    fn probe(&self) {
        if !self.gauges.is_healthy() {
            let tried = self.leave_broken_transaction().and_then(|()| replay::probe(&self.connection));
            self.report(tried.as_ref().err());
        }
    }

    fn report(&self, failure: Option<&StoreError>) {
        let was_healthy = self.gauges.healthy.swap(failure.is_none(), Ordering::Relaxed);
        match failure {
            Some(error) if was_healthy => {
                tracing::error!(error = error as &dyn std::error::Error, "the store fails; no assertion is accepted");
            }
            None if !was_healthy => tracing::info!("the store works again"),
            _ => {}
        }
    }
}

/// However the thread ends, nobody waits for it any longer.
impl Drop for Writer {
    fn drop(&mut self) {
        self.calls.abandon();
        self.gauges.healthy.store(false, Ordering::Relaxed);
    }
}

/// What is no first use although nobody has used it.
#[derive(Clone, Copy)]
struct Bounds {
    max_entries: usize,
    fence: Timestamp,
}

/// Whether this is a first use; if so it is staged, and the next one in the same group is not.
fn decide(
    index: &ReplayIndex,
    staged: &mut HashMap<ReplayKey, Timestamp>,
    Asked { used, now, .. }: &Asked,
    Bounds { max_entries, fence }: Bounds,
) -> Result<FirstUse, StoreError> {
    match index.look(&used.key, used.keep_until, *now) {
        Known::Used => Ok(FirstUse::No),
        Known::Forgotten => Err(StoreError::ClockBehind),
        Known::Fresh if staged.contains_key(&used.key) => Ok(FirstUse::No),
        Known::Fresh if fence::is_before(fence, used) => Err(StoreError::BeforeFailOver),
        Known::Fresh if index.held() + staged.len() >= max_entries => Err(StoreError::Full),
        Known::Fresh => {
            staged.insert(used.key, used.keep_until);
            Ok(FirstUse::Yes)
        }
    }
}

/// One failed commit fails everyone in it: nothing that may be lost is answered as first.
fn reply_all(uses: Vec<Asked>, answers: Result<Answers, StoreError>) {
    match answers {
        Ok(answers) => {
            for (used, answer) in uses.into_iter().zip(answers) {
                let _ = used.reply.send(answer);
            }
        }
        Err(error) => {
            for used in uses {
                let _ = used.reply.send(Err(error.clone()));
            }
        }
    }
}
