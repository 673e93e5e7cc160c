//! The thread that writes audit lines: a slow disk holds up no request, and many lines share one write and one sync.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use certbind_proto::entropy::Entropy;
use certbind_proto::time::Clock;

use super::chain::{Position, random_id};
use super::place::{Appended, Place, Start, Stream};
use super::queue::{Line, Queue, Taken};
use super::receipt::{AuditUnavailable, Receipt, Wanted};
use super::shelf::{Shelf, Shelved};
use super::tail::Torn;
use super::{Audit, AuditFile, Event, Kind, Level};

#[cfg(test)]
mod tests;

/// Room for the usual line, in bytes.
const USUAL_LINE: usize = 1024;
/// What is kept of a buffer from one batch to the next, in bytes.
const ROOM: usize = 256 * 1024;
/// How often it is tried again at once when another process was faster.
const MAX_TURNS: usize = 16;
/// How long the last lines may take to be written.
const LAST_LINES: Duration = Duration::from_secs(5);
/// How often the log says where the chain stands, so that a cut shows even where nothing follows.
const CHECKPOINT: Duration = Duration::from_secs(60 * 60);

/// What a token does without its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It goes out. Lines that the disk does not take are counted, and told when it takes lines again.
    BestEffort,
    /// It stays. Each line that [`Kind::waits_for_the_disk`] is on disk before what it tells of happens.
    Required,
}

/// Writes to a file or a stream from a thread of its own. Lines that come within a few milliseconds are written
/// together, unless somebody waits for one. Lines for which there is no room are counted, and the next lines that are
/// written tell how many are missing.
pub struct LineWriter {
    queue: Arc<Queue>,
    place: &'static str,
    durability: Durability,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl LineWriter {
    /// Starts writing to a file, in a hash chain.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn to_file(
        file: AuditFile,
        durability: Durability,
        clock: Arc<dyn Clock>,
        entropy: &dyn Entropy,
    ) -> io::Result<Self> {
        Self::start(file.with(durability), durability, clock, entropy)
    }

    /// Starts writing to a stream. Nothing is waited for: a stream says of no line that it is kept.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn to_stream(
        out: impl Write + Send + 'static,
        clock: Arc<dyn Clock>,
        entropy: &dyn Entropy,
    ) -> io::Result<Self> {
        Self::start(Stream::new(out), Durability::BestEffort, clock, entropy)
    }

    /// Starts writing to a place that is no file of this machine, in a hash chain.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn to_shelf(
        shelf: impl Shelf + 'static,
        durability: Durability,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> io::Result<Self> {
        let run_entropy = Arc::clone(&entropy);
        Self::start(Shelved::new(shelf, entropy), durability, clock, &*run_entropy)
    }

    fn start(
        place: impl Place + 'static,
        durability: Durability,
        clock: Arc<dyn Clock>,
        entropy: &dyn Entropy,
    ) -> io::Result<Self> {
        let (queue, name) = (Arc::<Queue>::default(), place.name());
        let writer = Writer::new(place, Arc::clone(&queue), clock, random_id(entropy));
        let thread = thread::Builder::new().name("audit".to_owned()).spawn(move || writer.run())?;
        Ok(Self { queue, place: name, durability, thread: Mutex::new(Some(thread)) })
    }

    /// What it writes to, as the log and the metrics call it.
    #[must_use]
    pub const fn place(&self) -> &'static str {
        self.place
    }

    /// Whether it is waited for.
    #[must_use]
    pub const fn durability(&self) -> Durability {
        self.durability
    }

    /// Writes an event, and says when it is kept, whatever is waited for otherwise.
    pub fn record_kept(&self, event: &Event) -> Receipt {
        // While the disk fails, nobody waits to hear of it.
        if self.queue.is_failing() {
            return Receipt::unavailable();
        }
        let (receipt, wanted) = Receipt::awaited();
        self.queue.push(Line::new(json(event), Some(wanted)));
        receipt
    }

    /// Takes no more lines, and waits until every one is written, but not for ever: whoever reads a stream may have
    /// stopped.
    pub fn finish(&self) {
        self.queue.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        let began = Instant::now();
        while !thread.is_finished() && began.elapsed() < LAST_LINES {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// How many lines were lost and not yet told.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.queue.lost()
    }

    /// Whether the last line was written.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        !self.queue.is_failing()
    }
}

impl Audit for LineWriter {
    fn record(&self, event: &Event) {
        self.queue.push(Line::new(json(event), None));
    }

    fn record_durably(&self, event: &Event) -> Receipt {
        if self.durability == Durability::BestEffort || !event.event.is_some_and(Kind::waits_for_the_disk) {
            self.record(event);
            return Receipt::written();
        }
        self.record_kept(event)
    }
}

impl Drop for LineWriter {
    fn drop(&mut self) {
        self.finish();
    }
}

/// An event as JSON. Texts, numbers and lists of them can always be written.
fn json(event: &Event) -> Vec<u8> {
    let mut json = Vec::with_capacity(USUAL_LINE);
    let _ = serde_json::to_writer(&mut json, event);
    json
}

/// The state of the thread.
struct Writer<P> {
    place: P,
    queue: Arc<Queue>,
    clock: Arc<dyn Clock>,
    /// Which process this is, for a reader of its lines.
    run: String,
    /// What is not yet written, oldest first.
    pending: VecDeque<Line>,
    /// What is being written; kept for its room.
    batch: Vec<u8>,
    checkpoint: Instant,
    /// Whether the log is to say where the chain stands.
    tells_head: bool,
}

impl<P: Place> Writer<P> {
    fn new(place: P, queue: Arc<Queue>, clock: Arc<dyn Clock>, run: String) -> Self {
        let checkpoint = Instant::now() + CHECKPOINT;
        Self { place, queue, clock, run, pending: VecDeque::new(), batch: Vec::new(), checkpoint, tells_head: false }
    }

    /// Writes until the queue is closed and everything is written, or cannot be.
    fn run(mut self) {
        self.say(Kind::AuditOpened);
        loop {
            self.write();
            let Taken { lines, is_last } = self.queue.take(self.checkpoint);
            self.pending.extend(lines);
            if is_last {
                break;
            }
            // A disk that fails is tried by a line even if nobody has one for it, so that readiness comes back.
            if Instant::now() >= self.checkpoint || self.queue.is_failing() && self.pending.is_empty() {
                self.say(Kind::AuditCheckpoint);
            }
        }
        self.say(Kind::AuditClosed);
        self.write();
        let _ = self.place.sync();
        let unwritten = self.pending.len() as u64 + self.queue.lost();
        if unwritten > 0 {
            let place = self.place.name();
            tracing::error!(place, lines = unwritten, "the audit log ends without lines that could not be written");
        }
    }

    /// Adds a line of its own, where lines make a chain.
    fn say(&mut self, kind: Kind) {
        self.checkpoint = Instant::now() + CHECKPOINT;
        if self.place.is_chained() {
            let detail =
                (kind == Kind::AuditOpened).then(|| concat!("certbind ", env!("CARGO_PKG_VERSION")).to_owned());
            let line = Self::own(&Event { run: Some(self.run.clone()), detail, ..self.event(kind, Level::Info) });
            self.pending.push_back(line);
            self.tells_head = true;
        }
    }

    /// A line that is not of the queue and takes no room of it.
    fn own(event: &Event) -> Line {
        Line { room: 0, ..Line::new(json(event), None) }
    }

    fn event(&self, kind: Kind, level: Level) -> Event {
        Event { ts: self.clock.now().to_string(), level, event: Some(kind), ..Event::default() }
    }

    /// Writes all that is pending, in batches.
    fn write(&mut self) {
        let mut turns = 0;
        while !self.pending.is_empty() || self.queue.lost() > 0 {
            let outcome = self.write_batch();
            if turns < MAX_TURNS && outcome.as_ref().is_err_and(|fault| fault.kind() == ErrorKind::Interrupted) {
                turns += 1;
                continue;
            }
            self.report(outcome.as_ref().err());
            if outcome.is_err() {
                return self.refuse_wanted();
            }
        }
    }

    /// What nobody waits for any longer did not happen.
    fn drop_withdrawn(&mut self) {
        let room = &mut 0;
        self.pending.retain(|line| {
            let is_withdrawn = line.wanted.as_ref().is_some_and(Wanted::is_withdrawn);
            *room += if is_withdrawn { line.room } else { 0 };
            !is_withdrawn
        });
        self.queue.free(*room);
    }

    fn write_batch(&mut self) -> io::Result<()> {
        let Start { position, torn } = self.place.hold()?;
        self.drop_withdrawn();
        for Torn { bytes, hash } in torn.into_iter().rev() {
            let (torn, torn_bytes) = (Some(hash.to_string()), Some(bytes));
            let event = Event { torn, torn_bytes, ..self.event(Kind::AuditTorn, Level::Warn) };
            self.pending.push_front(Self::own(&event));
        }
        let lost = self.queue.lost();
        let end = self.compose(position.clone(), lost);
        let Appended { whole, fault } = self.place.append(&self.batch);
        let written = self.batch.get(..whole).unwrap_or_default();
        let count = written.iter().filter(|byte| **byte == b'\n').count();
        let end = if fault.is_none() { end } else { position.map(|start| start.after(written, count)) };
        if let Some(end) = end.as_ref().filter(|_| fault.is_none() && std::mem::take(&mut self.tells_head)) {
            let place = self.place.name();
            tracing::info!(place, chain = end.chain, seq = end.seq, head = end.head(), "the audit log stands here");
        }
        self.place.release(end);
        // Another process was faster, and nothing is written: no failure, and nobody hears of it.
        if let Some(fault) = fault.as_ref().filter(|fault| fault.kind() == ErrorKind::Interrupted) {
            return Err(fault.kind().into());
        }
        if count > self.pending.len() {
            self.queue.told(lost);
        }
        self.settle(count, fault)
    }

    /// Makes the next batch of what is pending; tells of lost lines once all others are in it.
    fn compose(&mut self, mut position: Option<Position>, lost: u64) -> Option<Position> {
        self.batch.clear();
        self.batch.shrink_to(ROOM);
        for line in &self.pending {
            if self.batch.len() > self.place.most() {
                return position;
            }
            append(&line.json, &mut position, &mut self.batch);
        }
        if lost > 0 {
            let event = Event { lost: Some(lost), ..self.event(Kind::AuditLost, Level::Error) };
            append(&json(&event), &mut position, &mut self.batch);
        }
        position
    }

    /// These lines are written. Whoever waits for one hears of it when they are on disk, or that they are not; and then
    /// finds that the log fails.
    fn settle(&mut self, count: usize, fault: Option<io::Error>) -> io::Result<()> {
        let written: Vec<Line> = self.pending.drain(..count.min(self.pending.len())).collect();
        let is_wanted = written.iter().any(|line| line.wanted.is_some());
        let synced = if is_wanted { self.place.sync() } else { Ok(()) };
        let outcome = synced.as_ref().copied().map_err(|_| AuditUnavailable);
        self.report(fault.as_ref().or(synced.as_ref().err()));
        self.queue.free(written.iter().map(|line| line.room).sum());
        for wanted in written.into_iter().filter_map(|line| line.wanted) {
            wanted.settle(outcome);
        }
        fault.map_or(synced, Err)
    }

    /// What is waited for must not be written once its receipt says that it is not.
    fn refuse_wanted(&mut self) {
        let (refused, kept) = self.pending.drain(..).partition(|line| line.wanted.is_some());
        self.pending = kept;
        self.queue.free(refused.iter().map(|line| line.room).sum());
        for wanted in refused.into_iter().filter_map(|line| line.wanted) {
            wanted.settle(Err(AuditUnavailable));
        }
    }

    fn report(&self, fault: Option<&io::Error>) {
        let was_failing = self.queue.set_failing(fault.is_some());
        match fault {
            Some(error) if !was_failing => {
                let error = error as &dyn std::error::Error;
                tracing::error!(place = self.place.name(), error, "the audit log cannot be written");
            }
            None if was_failing => tracing::info!(place = self.place.name(), "the audit log is written again"),
            _ => {}
        }
    }
}

/// However the thread ends, nobody waits for it any longer.
impl<P> Drop for Writer<P> {
    fn drop(&mut self) {
        self.queue.close();
        self.queue.set_failing(true);
    }
}

/// Appends an event as a line, of the chain where there is one.
fn append(event: &[u8], position: &mut Option<Position>, out: &mut Vec<u8>) {
    match position {
        Some(position) => position.append(event, out),
        None => {
            out.extend_from_slice(event);
            out.push(b'\n');
        }
    }
}
