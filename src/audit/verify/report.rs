//! What `audit verify` found, in types and in words.

use std::fmt;

use super::{LineHash, MAX_CHAINS, Place};

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// The chains, in the order of their first lines.
    pub chains: Vec<Chain>,
    /// What is wrong, as far as it was kept.
    pub breaks: Vec<(Place, Break)>,
    /// How many breaks there are.
    pub broken: u64,
    /// What is worth knowing and not wrong.
    pub notes: Vec<(Place, Note)>,
}

/// A chain, as far as it is in the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its id.
    pub id: String,
    /// How many lines of it there are.
    pub lines: u64,
    /// The number of the first of them.
    pub first_seq: u64,
    /// The number of the last of them.
    pub last_seq: u64,
    /// When the first of them was written, in its own words.
    pub first_ts: String,
    /// When the last of them was written.
    pub last_ts: String,
    /// The hash of the last of them: what to note, and to compare with later.
    pub head: LineHash,
    /// How many lines could not be written, as the chain itself tells.
    pub lost: u64,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Break {
    /// What the line is found by is not what it says.
    Altered,
    /// The line before is not the one that this line follows.
    Changed {
        /// The number that the line before has in the chain.
        seq: u64,
    },
    /// It is no line of the log.
    Foreign,
    /// Nowhere is there a line with this hash.
    HeadMissing {
        /// What was expected.
        head: LineHash,
    },
    /// Lines are missing.
    Missing {
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },
    /// A line comes again, or too late.
    OutOfOrder {
        /// Its number in the chain.
        seq: u64,
        /// The number of the line before.
        after: u64,
    },
    /// So many chains are not ours.
    TooManyChains,
    /// A line is longer than any of ours.
    TooLong,
    /// A chain begins in the middle of a file, and does not say after which line.
    Unlinked,
}

/// What is worth knowing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// Older lines were dropped, and the log says so.
    Expired {
        /// The number of the first line that is left.
        seq: u64,
    },
    /// A chain goes on from lines that are not in these files.
    GoesOn {
        /// The number of its first line here.
        seq: u64,
    },
    /// A chain begins at the beginning of a file, and no line says what was before.
    Begins,
    /// A process wrote no last line: it writes still, or was killed, or its last lines are gone.
    Open {
        /// The process.
        run: String,
        /// When it began, in its own words.
        since: String,
    },
    /// A line was cut off by a crash; the chain says so.
    Torn,
    /// The last line is not whole, and nothing follows that could tell why.
    Unended,
    /// Lines of an earlier version stand before the chain.
    Unchained {
        /// How many.
        lines: u64,
    },
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        self.broken == 0
    }
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Altered => {
                f.write_str("what this line is found by is not what it says, or it is no line of this chain")
            }
            Self::Changed { seq: 0 } => f.write_str("the line before was changed, or lines between them are missing"),
            Self::Changed { seq } => write!(f, "line {seq} of the chain was changed, or this one was"),
            Self::Foreign => f.write_str("this is no line of the log"),
            Self::HeadMissing { head } => write!(f, "no line has the expected head {head}"),
            Self::Missing { from, to } if from == to => write!(f, "line {from} of the chain is missing"),
            Self::Missing { from, to } => write!(f, "lines {from} to {to} of the chain are missing"),
            Self::OutOfOrder { seq, after } => write!(f, "line {seq} of the chain comes after line {after}"),
            Self::TooLong => f.write_str("this line is longer than any line of the log"),
            Self::TooManyChains => write!(f, "there are more than {MAX_CHAINS} chains"),
            Self::Unlinked => f.write_str("a new chain begins here and does not say which line was before"),
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { seq } => {
                write!(
                    f,
                    "the chain goes on here with line {seq}; earlier ones were dropped for their age, as the log says"
                )
            }
            Self::Begins => f.write_str("a new chain begins here; nothing says what was before"),
            Self::GoesOn { seq: 1 } => f.write_str("the chain follows a line that is not in these files"),
            Self::GoesOn { seq } => {
                write!(f, "the chain goes on here with line {seq}; earlier ones are not in these files")
            }
            Self::Open { run, since } => write!(
                f,
                "the process {run}, which began at {since}, wrote no last line: it is still running, was killed, or its \
                 last lines are gone"
            ),
            Self::Torn => f.write_str("a crash cut this line off; the chain says so"),
            Self::Unended => f.write_str("this line is not whole: it is just being written, or a crash cut it off"),
            Self::Unchained { lines } => write!(f, "{lines} lines of an earlier version stand before the chain"),
        }
    }
}
