//! Lines of the log to what is wrong with their chain: changed, missing, put in or moved.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::chain::{Chained, LineHash};
use super::lines::RawLine;
use super::peer_text;

mod report;
#[cfg(test)]
mod tests;

pub use report::{Break, Chain, Note, Report};

/// How many chains are followed. A file of ours has one, and one more for each time that its end could not be read.
const MAX_CHAINS: usize = 1000;
/// The same in a store, where each server has one at least.
const MAX_CHAINS_OF_STORE: usize = 100_000;
/// How many breaks, rests of lines and open runs are kept.
const MAX_KEPT: usize = 1000;

/// Follows the chains through the lines that it is given, in the order of the files.
#[derive(Debug, Default)]
pub struct Verifier {
    expected: Vec<(LineHash, Seen)>,
    chains: Vec<ChainState>,
    before: Option<LineHash>,
    unchained: u64,
    runs: BTreeMap<String, Run>,
    rests: Vec<(Place, LineHash)>,
    /// What the last line was, if it was none and had no end.
    unended: Option<(Place, LineHash)>,
    report: Report,
    extent: Extent,
    /// Where chains go on from lines that are not there, until it is known whether they were dropped.
    beginnings: Vec<(Place, String, u64, Option<String>)>,
    /// How far lines were dropped, as the log tells: of each chain the number of the last, and what its hash may be.
    expired: BTreeMap<String, (u64, Vec<String>)>,
}

/// What is expected to be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Extent {
    /// Some files; others may have been deleted.
    #[default]
    Some,
    /// All lines but those that the log itself tells to be gone.
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Yes,
    NotYet,
}

/// Where a line stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Which of the files, from 0.
    pub file: usize,
    /// The number of the line, from 1; 0 where it is no line in particular.
    pub line: u64,
}

/// Where a file belongs among others, from its first lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beginning {
    chain: Option<String>,
    seq: u64,
    ts: String,
}

impl Beginning {
    /// Of a file that begins with these bytes.
    #[must_use]
    pub fn of(head: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Dated {
            ts: String,
        }
        let whole = head.iter().rposition(|byte| *byte == b'\n').and_then(|end| head.get(..end)).unwrap_or(head);
        let mut lines = whole.split(|byte| *byte == b'\n');
        if let Some(line) = lines.clone().find_map(Chained::parse) {
            return Self { chain: Some(line.chain), seq: line.seq, ts: line.ts };
        }
        let dated = lines.find_map(|line| serde_json::from_slice::<Dated>(line).ok());
        Self { chain: None, seq: 0, ts: dated.map(|dated| dated.ts).unwrap_or_default() }
    }

    /// What to sort by, among all: chain after chain in the order of their beginnings, and each by its numbers.
    #[must_use]
    pub fn order(&self, all: &[Self]) -> impl Ord + use<> {
        let same_chain = all.iter().filter(|other| self.chain.is_some() && other.chain == self.chain);
        let began = same_chain.map(|other| &other.ts).min().unwrap_or(&self.ts);
        (began.clone(), self.chain.clone(), self.seq)
    }
}

#[derive(Debug)]
struct ChainState {
    found: Chain,
    /// The number before the last gap. What comes later and is higher belongs into the gap.
    floor: u64,
}

#[derive(Debug)]
struct Run {
    place: Place,
    since: String,
}

impl Verifier {
    /// Expects that these heads, noted earlier, are lines of the files.
    #[must_use]
    pub fn new(expected: Vec<LineHash>) -> Self {
        Self { expected: expected.into_iter().map(|head| (head, Seen::NotYet)).collect(), ..Self::default() }
    }

    /// The same for a store, whose chains are given one after the other and are all there.
    #[must_use]
    pub fn of_store(expected: Vec<LineHash>) -> Self {
        Self { extent: Extent::All, ..Self::new(expected) }
    }

    /// What comes is a chain of its own: no line before it says anything about it.
    pub const fn next_chain(&mut self) {
        self.before = None;
    }

    /// What this line is found by is not what it says.
    pub fn altered(&mut self, place: Place) {
        self.breaks(place, Break::Altered);
    }

    /// Takes the next line.
    pub fn line(&mut self, file: usize, line: RawLine<'_>) {
        let place = Place { file, line: line.number };
        if let Some((place, hash)) = self.unended.take() {
            self.rest(place, hash);
        }
        if !line.is_whole {
            self.before = None;
            return self.breaks(place, Break::TooLong);
        }
        let hash = LineHash::of(line.bytes);
        for (head, seen) in &mut self.expected {
            if *head == hash {
                *seen = Seen::Yes;
            }
        }
        match Chained::parse(line.bytes) {
            None if !line.is_ended => self.unended = Some((place, hash)),
            None => self.foreign(place, line.bytes, hash),
            Some(chained) => self.chained(place, chained, hash),
        }
        self.before = Some(hash);
    }

    /// What was found, once all lines were given.
    #[must_use]
    pub fn finish(mut self) -> Report {
        for (place, _) in std::mem::take(&mut self.rests) {
            self.breaks(place, Break::Foreign);
        }
        if let Some((place, _)) = self.unended.take() {
            self.note(place, Note::Unended);
        }
        for (place, chain, seq, prev) in std::mem::take(&mut self.beginnings) {
            self.beginning(place, &chain, seq, prev.as_deref());
        }
        let end = Place { file: usize::MAX, line: 0 };
        for (head, _) in self.expected.clone().into_iter().filter(|(_, seen)| *seen == Seen::NotYet) {
            self.breaks(end.clone(), Break::HeadMissing { head });
        }
        if self.unchained > 0 {
            self.note(Place { file: 0, line: 1 }, Note::Unchained { lines: self.unchained });
        }
        for (run, Run { place, since }) in std::mem::take(&mut self.runs) {
            self.note(place, Note::Open { run, since });
        }
        self.report.breaks.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.report.notes.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.report.chains = self.chains.into_iter().map(|state| state.found).collect();
        self.report
    }

    /// A line of an earlier version, the rest of one that was cut off, or nothing of ours. Only a later line can tell.
    fn foreign(&mut self, place: Place, line: &[u8], hash: LineHash) {
        let is_object = || serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok() && line.starts_with(b"{");
        if self.chains.is_empty() && is_object() {
            self.unchained += 1;
        } else {
            self.rest(place, hash);
        }
    }

    fn rest(&mut self, place: Place, hash: LineHash) {
        if self.rests.len() < MAX_KEPT {
            self.rests.push((place, hash));
        } else {
            self.breaks(place, Break::Foreign);
        }
    }

    fn chained(&mut self, place: Place, line: Chained, hash: LineHash) {
        self.hear(&place, &line);
        match self.chains.iter().rposition(|state| state.found.id == line.chain) {
            Some(at) => self.goes_on(at, place, &line, hash),
            None if self.chains.len() >= self.most_chains() => self.breaks(place, Break::TooManyChains),
            None => {
                self.begins(place, &line);
                self.chains.push(ChainState::new(line, hash));
            }
        }
    }

    const fn most_chains(&self) -> usize {
        match self.extent {
            Extent::Some => MAX_CHAINS,
            Extent::All => MAX_CHAINS_OF_STORE,
        }
    }

    /// A chain whose first lines are not there.
    fn beginning(&mut self, place: Place, chain: &str, seq: u64, prev: Option<&str>) {
        let told = self.expired.get(chain).filter(|(through, _)| through + 1 == seq);
        let is_told = told.is_some_and(|(_, heads)| heads.iter().any(|head| Some(&**head) == prev));
        match self.extent {
            _ if is_told => self.note(place, Note::Expired { seq }),
            Extent::All if seq > 1 => self.breaks(place, Break::Missing { from: 1, to: seq - 1 }),
            Extent::All | Extent::Some => self.note(place, Note::GoesOn { seq }),
        }
    }

    /// The log tells that lines are dropped. Of each chain only the farthest word counts.
    fn expires(&mut self, line: &Chained) {
        let (Some(chain), Some(through), Some(head)) = (&line.expired, line.expired_seq, &line.expired_head) else {
            return;
        };
        if self.expired.len() >= MAX_CHAINS_OF_STORE && !self.expired.contains_key(chain) {
            return;
        }
        let (farthest, heads) = self.expired.entry(chain.clone()).or_default();
        if through > *farthest {
            (*farthest, *heads) = (through, Vec::new());
        }
        if through == *farthest && !heads.contains(head) && heads.len() < MAX_KEPT {
            heads.push(head.clone());
        }
    }

    /// What the log says about itself.
    fn hear(&mut self, place: &Place, line: &Chained) {
        match (line.event.as_deref(), &line.run) {
            (Some("audit.opened"), Some(run)) if self.runs.len() < MAX_KEPT => {
                self.runs.insert(peer_text(run), Run { place: place.clone(), since: peer_text(&line.ts) });
            }
            (Some("audit.closed"), Some(run)) => drop(self.runs.remove(&peer_text(run))),
            (Some("audit.expired"), _) => self.expires(line),
            (Some("audit.torn"), _) => {
                let told = |hash: &LineHash| line.torn.as_deref() == Some(hash.to_string().as_str());
                if let Some(at) = self.rests.iter().rposition(|(_, hash)| told(hash)) {
                    let (place, _) = self.rests.remove(at);
                    self.note(place, Note::Torn);
                }
            }
            _ => {}
        }
    }

    fn begins(&mut self, place: Place, line: &Chained) {
        let is_first_of_file = place.line == 1;
        match (line.seq, &line.prev, self.before) {
            (1, None, None) => {}
            (1, None, Some(_)) if is_first_of_file => self.note(place, Note::Begins),
            (1, None, Some(_)) => self.breaks(place, Break::Unlinked),
            (1, Some(prev), Some(before)) if *prev == before.to_string() => {}
            (1, Some(_), Some(_)) => self.breaks(place, Break::Changed { seq: 0 }),
            // Only at the beginning of a file can lines be missing because they are in another one.
            (seq @ 2.., _, Some(_)) if !is_first_of_file => self.breaks(place, Break::Missing { from: 1, to: seq - 1 }),
            (seq, ..) if self.beginnings.len() < MAX_CHAINS_OF_STORE => {
                self.beginnings.push((place, line.chain.clone(), seq, line.prev.clone()));
            }
            (seq, ..) => self.note(place, Note::GoesOn { seq }),
        }
    }

    fn goes_on(&mut self, at: usize, place: Place, line: &Chained, hash: LineHash) {
        let Some(state) = self.chains.get_mut(at) else { return };
        let last = state.found.last_seq;
        let follows = line.prev.as_deref() == Some(state.found.head.to_string().as_str());
        let fault = match line.seq.checked_sub(last) {
            Some(1) if follows => None,
            Some(1) => Some(Break::Changed { seq: last }),
            None | Some(0) => Some(Break::OutOfOrder { seq: line.seq, after: last }),
            Some(_) => Some(Break::Missing { from: last + 1, to: line.seq - 1 }),
        };
        state.take(line, hash);
        if let Some(fault) = fault {
            self.breaks(place, fault);
        }
    }

    fn breaks(&mut self, place: Place, found: Break) {
        self.report.broken += 1;
        if self.report.breaks.len() < MAX_KEPT {
            self.report.breaks.push((place, found));
        }
    }

    fn note(&mut self, place: Place, note: Note) {
        if self.report.notes.len() < MAX_KEPT {
            self.report.notes.push((place, note));
        }
    }
}

impl ChainState {
    fn new(line: Chained, hash: LineHash) -> Self {
        let ts = peer_text(&line.ts);
        let found = Chain {
            id: line.chain,
            lines: 1,
            first_seq: line.seq,
            last_seq: line.seq,
            first_ts: ts.clone(),
            last_ts: ts,
            head: hash,
            lost: line.lost.unwrap_or_default(),
        };
        Self { found, floor: line.seq }
    }

    /// The chain goes on from here, unless the line comes again.
    fn take(&mut self, line: &Chained, hash: LineHash) {
        let found = &mut self.found;
        found.lines += 1;
        found.lost = found.lost.saturating_add(line.lost.unwrap_or_default());
        if line.seq <= self.floor {
            return;
        }
        self.floor = if line.seq > found.last_seq.saturating_add(1) { found.last_seq } else { line.seq };
        (found.last_seq, found.head) = (line.seq, hash);
        found.last_ts = peer_text(&line.ts);
    }
}
