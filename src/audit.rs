//! The audit log: one flat JSON line for each decision, with stable keys, and never a secret in it.

use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

mod event;
mod file;
mod receipt;

pub use event::{Event, Kind, Level, peer_text};
pub use file::AuditFile;
pub use receipt::{AuditUnavailable, Receipt};

/// How many bytes of lines may wait for the disk: some 16,000 lines.
const MAX_WAITING: usize = 8 << 20;
/// Room for the usual line, in bytes.
const USUAL_LINE: usize = 1024;
/// How long a line may wait for others to be written with it.
const GATHER: Duration = Duration::from_millis(5);
/// How long the last lines may take to be written.
const LAST_LINES: Duration = Duration::from_secs(5);
/// What is kept of a buffer from one batch to the next, in bytes.
const ROOM: usize = 256 * 1024;
/// Takes events.
pub trait Audit: Send + Sync {
    /// Writes one event, without a wait: for what has happened, whether or not it can be written down.
    fn record(&self, event: &Event);

    /// Writes one event about what is to happen only if it is written down: await the receipt first. Whether that waits
    /// for the disk is decided here, by the settings and the kind of the event, and by no caller.
    fn record_durably(&self, event: &Event) -> Receipt {
        self.record(event);
        Receipt::written()
    }
}

/// Writes to a file or a stream from a thread of its own, so that a slow disk does not hold up a request. Lines that
/// come within a few milliseconds are written together: to wake the thread for each costs more than the line itself.
/// Lines for which there is no room are counted, and the next lines that are written tell how many are missing.
pub struct LineWriter {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What requests and the writing thread share.
#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    lost: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    closed: bool,
}

impl LineWriter {
    /// Starts writing to `out`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(out: impl Write + Send + 'static) -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name("audit".to_owned()).spawn(move || theirs.write_to(out))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// How many lines were lost and not yet told.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }
}

impl Audit for LineWriter {
    fn record(&self, event: &Event) {
        let mut line = Vec::with_capacity(USUAL_LINE);
        if serde_json::to_writer(&mut line, event).is_err() {
            return;
        }
        line.push(b'\n');
        self.shared.add(&line);
    }
}

/// Waits until every line is written, but not for ever: whoever reads a stream may have stopped.
impl Drop for LineWriter {
    fn drop(&mut self) {
        self.shared.close();
        let Some(thread) = self.thread.take() else { return };
        let began = Instant::now();
        while !thread.is_finished() && began.elapsed() < LAST_LINES {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, line: &[u8]) {
        let mut waiting = self.lock();
        if waiting.lines.len() + line.len() > MAX_WAITING {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.lines.extend_from_slice(line);
        // Only the first line finds the writer asleep without a time to wake up.
        if waiting.lines.len() == line.len() {
            drop(waiting);
            self.changed.notify_one();
        }
    }

    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Writes until it is closed and everything is written. A disk that is full may take a part of a line; the next
    /// line begins on one of its own.
    fn write_to(&self, mut out: impl Write) {
        let mut batch = Vec::new();
        let mut torn = false;
        while self.gather(&mut batch) {
            let missing = self.lost.swap(0, Ordering::Relaxed);
            if missing > 0 {
                batch.extend_from_slice(lost_line(missing).as_bytes());
            }
            if torn && out.write(b"\n").is_ok_and(|written| written == 1) {
                torn = false;
            }
            let written = if torn { 0 } else { write_most(&mut out, &batch) };
            if let (written, unwritten @ [_, ..]) = batch.split_at(written) {
                torn |= written.last().is_some_and(|last| *last != b'\n');
                let lines = unwritten.iter().filter(|&&byte| byte == b'\n').count();
                let told = usize::from(missing > 0);
                self.lost.fetch_add((lines - told) as u64 + missing, Ordering::Relaxed);
            }
        }
    }

    /// Waits for a line and a moment longer, and takes all lines that are there; `false` at the end.
    fn gather(&self, batch: &mut Vec<u8>) -> bool {
        batch.clear();
        batch.shrink_to(ROOM);
        let idle = |waiting: &mut Waiting| waiting.lines.is_empty() && !waiting.closed;
        let waiting = self.changed.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        let gathering = self.changed.wait_timeout_while(waiting, GATHER, |waiting| !waiting.closed);
        let (mut waiting, _) = gathering.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(batch, &mut waiting.lines);
        !batch.is_empty()
    }
}

/// Writes what can be written, and says how many bytes that were.
fn write_most(out: &mut impl Write, bytes: &[u8]) -> usize {
    let mut written = 0;
    while let Some(rest @ [_, ..]) = bytes.get(written..) {
        match out.write(rest) {
            Ok(0) => break,
            Ok(more) => written += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    written
}

fn lost_line(lines: u64) -> String {
    format!("{{\"level\":\"error\",\"event\":\"audit.lost\",\"lines\":{lines}}}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_event_is_one_json_line_and_none_is_missing_after_the_end() {
        let out = Paper::default();
        let writer = LineWriter::start(out.clone()).unwrap();
        for i in 0..1000 {
            let client_id = Some(peer_text(&format!("client {i}\r\n\u{1b}[31m\u{2028}")));
            writer.record(&Event { event: Some(Kind::TokenRefused), client_id, ..Event::default() });
        }
        drop(writer);
        let written = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<serde_json::Value> = written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 1000);
        assert!(lines.iter().all(|line| line["event"] == "token.refused"));
        assert!(!written.contains('\u{1b}'));
    }

    /// Refuses what it is given the first two times.
    struct Stubborn(usize, Paper);

    impl Write for Stubborn {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += 1;
            if self.0 < 3 { Err(std::io::Error::other("no")) } else { self.1.write(bytes) }
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_could_not_be_written_are_told_with_the_next_ones() {
        let (out, shared) = (Paper::default(), Shared::default());
        let mut stubborn = Stubborn(0, out.clone());
        shared.close();
        for lost in [1, 2, 0] {
            shared.add(b"{}\n");
            shared.write_to(&mut stubborn);
            assert_eq!(shared.lost.load(Ordering::Relaxed), lost);
        }
        assert_eq!(String::from_utf8(out.0.lock().unwrap().clone()).unwrap(), format!("{{}}\n{}", lost_line(2)));
    }

    /// Has room for so many bytes, and for everything once it was full; then comes the next line.
    struct Full<'a>(usize, Paper, &'a Shared);

    impl Write for Full<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let room = self.0.min(bytes.len());
            self.0 -= room;
            if room > 0 {
                return self.1.write(&bytes[..room]);
            }
            self.0 = usize::MAX;
            self.2.add(b"{\"n\":2}\n");
            Err(ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn fault_5_a_line_that_a_full_disk_cuts_spoils_no_other_line() {
        for (room, kept) in [(0, ""), (3, "{\"n\n"), (8, "{\"n\":0}\n"), (11, "{\"n\":0}\n{\"n\n")] {
            let (out, shared) = (Paper::default(), Shared::default());
            shared.close();
            shared.add(b"{\"n\":0}\n");
            shared.add(b"{\"n\":1}\n");
            shared.write_to(Full(room, out.clone(), &shared));
            let lost = if room < 8 { 2 } else { 1 };
            let expected = format!("{kept}{{\"n\":2}}\n{}", lost_line(lost));
            assert_eq!(String::from_utf8(out.0.lock().unwrap().clone()).unwrap(), expected, "{room}");
        }
    }

    #[test]
    fn lines_without_room_are_counted_and_not_kept() {
        let shared = Shared::default();
        let line = vec![b'x'; MAX_WAITING / 4 + 1];
        for _ in 0..5 {
            shared.add(&line);
        }
        assert_eq!(shared.lost.load(Ordering::Relaxed), 2);
        assert_eq!(shared.lock().lines.len(), 3 * line.len());
    }
}
