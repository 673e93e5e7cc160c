use std::sync::Condvar;
use std::sync::atomic::{AtomicUsize, Ordering};

use certbind_proto::entropy::{OsEntropy, SeededEntropy};
use certbind_proto::time::{FixedClock, Timestamp};
use serde_json::Value;

use super::super::lines::Lines;
use super::super::peer_text;
use super::super::place::whole;
use super::super::verify::{Report, Verifier};
use super::*;

/// The longest wait for anything.
const SOON: Duration = Duration::from_secs(10);

/// A disk that fails as a test wants it to.
#[derive(Clone)]
struct Disk(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    changed: Condvar,
    syncs: AtomicUsize,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    position: Option<Position>,
    torn: Vec<Torn>,
    /// How many bytes fit; all when there is no limit.
    room: Option<usize>,
    sync_fails: bool,
    /// Nothing comes back.
    is_stuck: bool,
}

impl Disk {
    fn new() -> Self {
        let position = Some(Position::new(&SeededEntropy::new(1), None));
        let state = Mutex::new(State { position, ..State::default() });
        Self(Arc::new(Inner { state, changed: Condvar::new(), syncs: AtomicUsize::new(0) }))
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.state.lock().unwrap());
        self.0.changed.notify_all();
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.state.lock().unwrap().bytes.clone()).unwrap()
    }

    fn events(&self) -> Vec<Value> {
        self.text().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// What the events are called, or the request that they are about.
    fn names(&self) -> Vec<String> {
        let name = |event: &Value| event["request_id"].as_str().or(event["event"].as_str()).unwrap().to_owned();
        self.events().iter().map(name).collect()
    }

    fn verify(&self) -> Report {
        let text = self.text();
        let (mut verifier, mut lines) = (Verifier::default(), Lines::new(text.as_bytes()));
        while let Some(line) = lines.next_line().unwrap() {
            verifier.line(0, line);
        }
        verifier.finish()
    }

    fn wait_until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !done(self) {
            assert!(began.elapsed() < SOON, "{what}: not in time\n{}", self.text());
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Place for Disk {
    fn name(&self) -> &'static str {
        "disk"
    }

    fn is_chained(&self) -> bool {
        true
    }

    fn hold(&mut self) -> io::Result<Start> {
        let state = self.0.state.lock().unwrap();
        let mut state =
            self.0.changed.wait_while(state, |state| state.is_stuck).unwrap_or_else(PoisonError::into_inner);
        let torn = std::mem::take(&mut state.torn);
        if let (Some(position @ Position { seq: 0, .. }), Some(torn)) = (&mut state.position, torn.last()) {
            position.hash = Some(torn.hash);
        }
        Ok(Start { position: state.position.clone(), torn })
    }

    fn append(&mut self, lines: &[u8]) -> Appended {
        let mut state = self.0.state.lock().unwrap();
        let fits = state.room.map_or(lines.len(), |room| room.saturating_sub(state.bytes.len()).min(lines.len()));
        let whole = whole(&lines[..fits]);
        state.bytes.extend_from_slice(&lines[..fits]);
        if let rest @ [_, ..] = &lines[whole..fits] {
            state.torn.push(Torn { bytes: rest.len() as u64, hash: super::super::LineHash::of(rest) });
            state.bytes.push(b'\n');
        }
        Appended { whole, fault: (fits < lines.len()).then(|| ErrorKind::StorageFull.into()) }
    }

    fn release(&mut self, end: Option<Position>) {
        self.0.state.lock().unwrap().position = end;
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.syncs.fetch_add(1, Ordering::SeqCst);
        if self.0.state.lock().unwrap().sync_fails { Err(io::Error::other("no")) } else { Ok(()) }
    }
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(FixedClock::at(Timestamp::from_unix(1_795_339_800)))
}

fn start(disk: &Disk, durability: Durability) -> LineWriter {
    LineWriter::start(disk.clone(), durability, clock(), &OsEntropy).unwrap()
}

fn event(kind: Kind, request_id: &str) -> Event {
    Event { event: Some(kind), request_id: Some(request_id.to_owned()), ..Event::default() }
}

fn issued(request_id: &str) -> Event {
    event(Kind::TokenIssued, request_id)
}

#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn every_event_is_one_json_line_and_none_is_missing_after_the_end() {
    let out = Paper::default();
    let writer = LineWriter::to_stream(out.clone(), clock(), &OsEntropy).unwrap();
    for i in 0..1000 {
        let client_id = Some(peer_text(&format!("client {i}\r\n\u{1b}[31m\u{2028}")));
        writer.record(&Event { event: Some(Kind::TokenRefused), client_id, ..Event::default() });
    }
    drop(writer);
    let written = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<Value> = written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 1000);
    assert!(lines.iter().all(|line| line["event"] == "token.refused" && line.get("chain").is_none()));
    assert!(!written.contains('\u{1b}'));
}

#[test]
fn a_file_has_one_chain_from_the_line_that_opens_it_to_the_line_that_closes_it() {
    let disk = Disk::new();
    let writer = start(&disk, Durability::BestEffort);
    for n in 0..5000 {
        writer.record(&issued(&n.to_string()));
    }
    drop(writer);
    let report = disk.verify();
    assert!(report.is_good() && report.notes.is_empty(), "{report:?}");
    let events = disk.events();
    let (first, last) = (&events[0], &events[5001]);
    assert_eq!((&first["event"], &last["event"]), (&"audit.opened".into(), &"audit.closed".into()));
    assert_eq!((&first["run"], &first["seq"], &last["seq"]), (&last["run"], &1.into(), &5002.into()));
    assert_eq!(first["ts"], "2026-11-22T09:30:00.000Z");
    assert!(first.get("prev").is_none());
}

/// Wherever the disk is full, the lines come whole and in order once there is room, and the chain tells of the rest.
#[test]
fn fault_5_a_line_that_a_full_disk_cuts_is_told_and_no_line_is_lost() {
    let usual = {
        let disk = Disk::new();
        drop(start(&disk, Durability::BestEffort));
        disk.text().lines().next().unwrap().len() + 1
    };
    for (room, torn) in [(0, 0), (1, 1), (usual - 2, 1), (usual, 0), (usual + 20, 1)] {
        let disk = Disk::new();
        disk.set(|state| state.room = Some(room));
        let writer = start(&disk, Durability::BestEffort);
        writer.record(&issued("1"));
        disk.wait_until("failing", |_| !writer.is_healthy());
        writer.record(&issued("2"));
        disk.set(|state| state.room = None);
        disk.wait_until("the lines", |disk| disk.names().iter().any(|name| name == "2"));
        // The line is there a moment before the thread has said so.
        disk.wait_until("healthy", |_| writer.is_healthy());
        assert_eq!(writer.lost(), 0);
        drop(writer);
        let report = disk.verify();
        assert!(report.is_good(), "{room}: {report:?}\n{}", disk.text());
        assert_eq!(report.notes.len(), torn, "{room}");
        let names = disk.names();
        let of_requests: Vec<&str> = names.iter().map(String::as_str).filter(|name| !name.contains('.')).collect();
        assert_eq!(of_requests, ["1", "2"], "{room}");
    }
}

#[test]
fn fault_5_lines_without_room_are_counted_and_told_in_the_chain() {
    let disk = Disk::new();
    disk.set(|state| state.is_stuck = true);
    let writer = start(&disk, Durability::BestEffort);
    let long = Event { detail: Some("x".repeat(1 << 19)), ..issued("long") };
    for _ in 0..60 {
        writer.record(&long);
    }
    let lost = writer.lost();
    assert!((20..60).contains(&lost), "{lost}: the memory is bounded");
    disk.set(|state| state.is_stuck = false);
    disk.wait_until("told", |_| writer.lost() == 0);
    writer.record(&issued("after"));
    drop(writer);
    let report = disk.verify();
    assert!(report.is_good(), "{report:?}");
    assert_eq!(report.chains[0].lost, lost);
    let written = disk.names().iter().filter(|name| *name == "long").count() as u64;
    assert_eq!((written + lost, disk.names().iter().any(|name| name == "after")), (60, true));
}

#[tokio::test]
async fn what_is_required_is_on_disk_before_its_receipt_comes() {
    let disk = Disk::new();
    let writer = start(&disk, Durability::Required);
    for n in 0..20 {
        assert_eq!(writer.record_durably(&issued(&n.to_string())).await, Ok(()));
        assert_eq!(disk.names().last(), Some(&n.to_string()));
        assert_eq!(disk.0.syncs.load(Ordering::SeqCst), n + 1);
    }
    for kind in [Kind::TokenRefused, Kind::TokenRevoked, Kind::TokenIntrospected] {
        assert_eq!(writer.record_durably(&event(kind, "no wait")).await, Ok(()));
    }
    assert_eq!(disk.0.syncs.load(Ordering::SeqCst), 20);
}

#[tokio::test]
async fn what_is_not_required_waits_for_nothing() {
    let disk = Disk::new();
    disk.set(|state| state.is_stuck = true);
    let writer = start(&disk, Durability::BestEffort);
    assert_eq!(writer.record_durably(&issued("1")).await, Ok(()));
    disk.set(|state| state.is_stuck = false);
    drop(writer);
    assert_eq!(disk.names(), ["audit.opened", "1", "audit.closed"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_that_wait_share_a_sync() {
    let disk = Disk::new();
    let writer = Arc::new(start(&disk, Durability::Required));
    disk.set(|state| state.is_stuck = true);
    let waits: Vec<_> = (0..200)
        .map(|n| {
            let receipt = writer.record_durably(&issued(&n.to_string()));
            tokio::spawn(receipt)
        })
        .collect();
    disk.set(|state| state.is_stuck = false);
    for wait in waits {
        assert_eq!(wait.await.unwrap(), Ok(()));
    }
    let syncs = disk.0.syncs.load(Ordering::SeqCst);
    assert!(syncs <= 3, "{syncs}");
}

#[tokio::test]
async fn fault_5_a_required_line_that_is_refused_is_never_written() {
    let disk = Disk::new();
    let writer = start(&disk, Durability::Required);
    assert_eq!(writer.record_durably(&issued("before")).await, Ok(()));
    disk.set(|state| state.room = Some(state.bytes.len() + 30));
    assert_eq!(writer.record_durably(&issued("full")).await, Err(AuditUnavailable));
    assert!(!writer.is_healthy());
    let began = Instant::now();
    assert_eq!(writer.record_durably(&issued("still full")).await, Err(AuditUnavailable));
    assert!(began.elapsed() < Duration::from_millis(100), "nobody waits while it fails");
    writer.record(&event(Kind::TokenRefused, "refused"));

    disk.set(|state| state.room = None);
    disk.wait_until("healthy", |_| writer.is_healthy());
    assert_eq!(writer.record_durably(&issued("after")).await, Ok(()));
    drop(writer);
    let of_requests: Vec<String> = disk.names().into_iter().filter(|name| !name.starts_with("audit.")).collect();
    assert_eq!(of_requests, ["before", "refused", "after"]);
    assert!(disk.verify().is_good(), "{}", disk.text());
}

#[tokio::test]
async fn fault_5_a_disk_that_nobody_writes_to_is_tried_all_the_same() {
    let disk = Disk::new();
    let writer = start(&disk, Durability::Required);
    disk.set(|state| state.sync_fails = true);
    assert_eq!(writer.record_durably(&issued("1")).await, Err(AuditUnavailable));
    disk.wait_until("unhealthy", |_| !writer.is_healthy());
    disk.set(|state| state.sync_fails = false);
    disk.wait_until("healthy", |_| writer.is_healthy());
    assert_eq!(writer.record_durably(&issued("2")).await, Ok(()));
}

#[tokio::test]
async fn fault_4_a_disk_that_hangs_is_given_up_in_time_and_the_line_is_not_written_later() {
    let disk = Disk::new();
    let writer = start(&disk, Durability::Required);
    disk.wait_until("opened", |disk| disk.names().len() == 1);
    disk.set(|state| state.is_stuck = true);
    // The thread is on its way to the disk with the first of them when it hangs.
    writer.record(&event(Kind::TokenRefused, "stuck"));
    let began = Instant::now();
    let outcomes = tokio::join!(writer.record_durably(&issued("1")), writer.record_durably(&issued("2")));
    assert_eq!(outcomes, (Err(AuditUnavailable), Err(AuditUnavailable)));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    disk.set(|state| state.is_stuck = false);
    drop(writer);
    assert_eq!(disk.names(), ["audit.opened", "stuck", "audit.closed"]);
}

#[test]
fn the_end_waits_for_the_disk_but_not_for_ever_and_says_what_is_missing() {
    let disk = Disk::new();
    let writer = start(&disk, Durability::BestEffort);
    disk.wait_until("opened", |disk| disk.names().len() == 1);
    disk.set(|state| state.room = Some(0));
    writer.record(&issued("1"));
    let began = Instant::now();
    drop(writer);
    assert!(began.elapsed() < LAST_LINES, "a disk that is full is no reason to wait");
    assert_eq!(disk.names(), ["audit.opened"]);
}
