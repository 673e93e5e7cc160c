//! A place for audit lines that is no file of this machine: what a server puts there makes a chain of its own.

use std::io::{self, ErrorKind};
use std::str;
use std::sync::Arc;

use certbind_proto::entropy::Entropy;

use super::chain::{Chained, LineHash, Position};
use super::place::{Appended, Place, Start};

/// Keeps the lines of one server.
pub trait Shelf: Send {
    /// The line that this server wrote last, whichever of its processes that was.
    ///
    /// # Errors
    /// It cannot be asked.
    fn last(&mut self) -> io::Result<Option<String>>;

    /// Adds lines, durably and all of them, or none.
    ///
    /// # Errors
    /// It cannot be written; whether it was is not known.
    fn add(&mut self, lines: &[&str]) -> io::Result<Added>;
}

/// What came of adding lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// They are there.
    Done,
    /// Another process of this server has gone on with the chain. None is there.
    Taken,
}

/// Lines on a shelf, in a chain.
pub(super) struct Shelved<S> {
    shelf: S,
    entropy: Arc<dyn Entropy>,
    position: Option<Position>,
    /// Whether nobody else is known to have written since.
    is_current: bool,
}

impl<S: Shelf> Shelved<S> {
    pub(super) fn new(shelf: S, entropy: Arc<dyn Entropy>) -> Self {
        Self { shelf, entropy, position: None, is_current: false }
    }

    /// What the next line follows. As in a file, whoever takes lines away does not make this process forget what it wrote.
    fn follow(&mut self, last: Option<&str>) -> Position {
        let last = last.map(|line| (Chained::parse(line.as_bytes()), LineHash::of(line.as_bytes())));
        let last = last.map(|(chained, hash)| match chained {
            Some(Chained { chain, seq, .. }) => Position { chain, seq, hash: Some(hash) },
            None => Position::new(&*self.entropy, Some(hash)),
        });
        match (self.position.take(), last) {
            (None, last) => last.unwrap_or_else(|| Position::new(&*self.entropy, None)),
            (Some(own), Some(last)) if own.seq == 0 || last.chain == own.chain && last.seq > own.seq => last,
            (Some(own), last) => {
                if last.is_none_or(|last| last.chain == own.chain && last != own) {
                    tracing::error!(chain = own.chain, seq = own.seq, "the audit lines do not end as they were left");
                }
                own
            }
        }
    }
}

impl<S: Shelf> Place for Shelved<S> {
    fn name(&self) -> &'static str {
        "store"
    }

    fn is_chained(&self) -> bool {
        true
    }

    /// Some hundred lines: far less than what takes as long as an answer may.
    fn most(&self) -> usize {
        128 * 1024
    }

    fn hold(&mut self) -> io::Result<Start> {
        if !self.is_current {
            let last = self.shelf.last()?;
            self.position = Some(self.follow(last.as_deref()));
            self.is_current = true;
        }
        Ok(Start { position: self.position.clone(), torn: Vec::new() })
    }

    /// All of it or nothing. [`ErrorKind::Interrupted`] when another process was faster.
    fn append(&mut self, lines: &[u8]) -> Appended {
        let Ok(text) = str::from_utf8(lines) else {
            return Appended { whole: 0, fault: Some(ErrorKind::InvalidData.into()) };
        };
        let lines: Vec<&str> = text.lines().collect();
        let fault = match self.shelf.add(&lines) {
            Ok(Added::Done) => return Appended { whole: text.len(), fault: None },
            Ok(Added::Taken) => ErrorKind::Interrupted.into(),
            // Perhaps it is the answer alone that was lost: what is there is not written again.
            Err(_) if self.shelf.last().is_ok_and(|last| last.as_deref() == lines.last().copied()) => {
                return Appended { whole: text.len(), fault: None };
            }
            Err(fault) => fault,
        };
        self.is_current = false;
        Appended { whole: 0, fault: Some(fault) }
    }

    fn release(&mut self, end: Option<Position>) {
        self.position = end;
    }

    /// What is added is durable.
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use certbind_proto::entropy::OsEntropy;

    use super::*;

    /// Lines that several processes share.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<State>>);

    #[derive(Default)]
    struct State {
        lines: Vec<String>,
        fails: bool,
        /// The next answer says that it failed, and it did not.
        loses_answer: bool,
    }

    impl Shelf for Lines {
        fn last(&mut self) -> io::Result<Option<String>> {
            let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if state.fails { Err(ErrorKind::TimedOut.into()) } else { Ok(state.lines.last().cloned()) }
        }

        fn add(&mut self, lines: &[&str]) -> io::Result<Added> {
            let mut state = self.0.lock().unwrap();
            let place = |line: &str| Chained::parse(line.as_bytes()).map(|line| (line.chain, line.seq));
            if state.fails {
                return Err(ErrorKind::TimedOut.into());
            }
            if state.lines.iter().any(|there| place(there) == place(lines[0])) {
                return Ok(Added::Taken);
            }
            state.lines.extend(lines.iter().map(|line| (*line).to_owned()));
            if std::mem::take(&mut state.loses_answer) { Err(ErrorKind::TimedOut.into()) } else { Ok(Added::Done) }
        }
    }

    fn process(lines: &Lines) -> Shelved<Lines> {
        Shelved::new(lines.clone(), Arc::new(OsEntropy))
    }

    /// Writes one line as the thread does; says why not.
    fn write(process: &mut Shelved<Lines>) -> Result<u64, ErrorKind> {
        let start = process.hold().map_err(|error| error.kind())?.position.unwrap();
        let (mut end, mut bytes) = (start.clone(), Vec::new());
        end.append(br#"{"event":"x"}"#, &mut bytes);
        let Appended { fault, .. } = process.append(&bytes);
        process.release(Some(if fault.is_none() { end.clone() } else { start }));
        fault.map_or(Ok(end.seq), |fault| Err(fault.kind()))
    }

    fn is_one_chain(lines: &Lines, count: u64) {
        let state = lines.0.lock().unwrap();
        let mut before: Option<&String> = None;
        for (line, seq) in state.lines.iter().zip(1..) {
            let chained = Chained::parse(line.as_bytes()).unwrap();
            assert_eq!(chained.seq, seq);
            assert_eq!(chained.prev, before.map(|line| LineHash::of(line.as_bytes()).to_string()));
            before = Some(line);
        }
        assert_eq!(state.lines.len() as u64, count);
    }

    #[test]
    fn a_restart_and_a_second_process_go_on_with_the_chain() {
        let lines = Lines::default();
        let mut first = process(&lines);
        assert_eq!((write(&mut first), write(&mut first)), (Ok(1), Ok(2)));
        let mut second = process(&lines);
        assert_eq!(write(&mut second), Ok(3));
        assert_eq!(write(&mut first), Err(ErrorKind::Interrupted), "told that another one was faster");
        assert_eq!(write(&mut first), Ok(4));
        is_one_chain(&lines, 4);
    }

    #[test]
    fn fault_4_after_a_failure_it_is_looked_where_the_chain_stands() {
        let lines = Lines::default();
        let mut process = process(&lines);
        assert_eq!(write(&mut process), Ok(1));
        lines.0.lock().unwrap().fails = true;
        for _ in 0..2 {
            assert_eq!(write(&mut process), Err(ErrorKind::TimedOut));
        }
        lines.0.lock().unwrap().fails = false;
        assert_eq!(write(&mut process), Ok(2));
        is_one_chain(&lines, 2);
    }

    #[test]
    fn fault_4_what_is_there_although_the_answer_was_lost_is_not_written_again() {
        let lines = Lines::default();
        let mut process = process(&lines);
        for seq in 1..4 {
            lines.0.lock().unwrap().loses_answer = true;
            assert_eq!(write(&mut process), Ok(seq));
        }
        is_one_chain(&lines, 3);
    }

    #[test]
    fn attack_65_a_server_does_not_forget_what_somebody_takes_away() {
        let lines = Lines::default();
        let mut process = process(&lines);
        for _ in 0..3 {
            write(&mut process).unwrap();
        }
        lines.0.lock().unwrap().lines.truncate(1);
        process.is_current = false;
        assert_eq!(write(&mut process), Ok(4), "the gap shows");
    }
}
