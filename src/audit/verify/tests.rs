use std::io::Cursor;

use certbind_proto::entropy::SeededEntropy;
use proptest::prelude::*;

use super::super::chain::Position;
use super::super::lines::Lines;
use super::*;

const LINES: u64 = 12;

/// A log of one run, and its head.
fn log() -> (Vec<u8>, LineHash) {
    let mut position = Position::new(&SeededEntropy::new(1), None);
    let mut log = Vec::new();
    position.append(br#"{"ts":"2026-11-22T09:30:00.000Z","event":"audit.opened","run":"r"}"#, &mut log);
    for n in 1..LINES - 1 {
        let event = format!(r#"{{"ts":"2026-11-22T09:30:{n:02}.000Z","event":"token.issued","jti":"{n}"}}"#);
        position.append(event.as_bytes(), &mut log);
    }
    position.append(br#"{"ts":"2026-11-22T09:31:00.000Z","event":"audit.closed","run":"r"}"#, &mut log);
    (log, position.hash.unwrap())
}

fn verify(files: &[&[u8]], expected: &[LineHash]) -> Report {
    let mut verifier = Verifier::new(expected.to_vec());
    for (file, bytes) in files.iter().enumerate() {
        let mut lines = Lines::new(Cursor::new(bytes));
        while let Some(line) = lines.next_line().unwrap() {
            verifier.line(file, line);
        }
    }
    verifier.finish()
}

fn faults(files: &[&[u8]]) -> Vec<(u64, Break)> {
    verify(files, &[]).breaks.into_iter().map(|(place, found)| (place.line, found)).collect()
}

fn split(log: &[u8]) -> Vec<Vec<u8>> {
    log.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

#[test]
fn a_whole_log_is_good_in_one_file_and_in_two() {
    let (log, head) = log();
    let report = verify(&[&log], &[head]);
    assert!(report.is_good(), "{report:?}");
    assert_eq!(report.notes, []);
    let [chain] = report.chains.as_slice() else { panic!("one chain") };
    assert_eq!((chain.lines, chain.first_seq, chain.last_seq, chain.head), (LINES, 1, LINES, head));
    assert_eq!(
        (chain.first_ts.as_str(), chain.last_ts.as_str()),
        ("2026-11-22T09:30:00.000Z", "2026-11-22T09:31:00.000Z")
    );

    let middle = log.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let (older, newer) = log.split_at(middle);
    assert!(verify(&[older, newer], &[head]).is_good());
    let alone = verify(&[newer], &[]);
    assert!(alone.is_good());
    assert_eq!(alone.notes, [(Place { file: 0, line: 1 }, Note::GoesOn { seq: 2 })]);
}

/// What is spoilt, and what is said of which line.
type Case = (&'static str, fn(&mut Vec<Vec<u8>>), Vec<(u64, Break)>);

#[test]
fn attack_65_whatever_is_done_to_a_line_shows_where_it_was_done() {
    let cases: Vec<Case> = vec![
        ("nothing", |_| {}, vec![]),
        ("changed", |lines| swap_bytes(&mut lines[4], b"issued", b"refuse"), vec![(6, Break::Changed { seq: 5 })]),
        ("taken out", |lines| drop(lines.remove(4)), vec![(5, Break::Missing { from: 5, to: 5 })]),
        ("several taken out", |lines| drop(lines.drain(4..7)), vec![(5, Break::Missing { from: 5, to: 7 })]),
        ("doubled", |lines| lines.insert(5, lines[4].clone()), vec![(6, Break::OutOfOrder { seq: 5, after: 5 })]),
        ("an old one again", |lines| lines.push(lines[2].clone()), vec![(13, Break::OutOfOrder { seq: 3, after: 12 })]),
        (
            "swapped",
            |lines| lines.swap(4, 5),
            vec![
                (5, Break::Missing { from: 5, to: 5 }),
                (6, Break::OutOfOrder { seq: 5, after: 6 }),
                (7, Break::Missing { from: 6, to: 6 }),
            ],
        ),
        ("put in", |lines| lines.insert(4, b"{\"event\":\"token.issued\"}\n".to_vec()), vec![(5, Break::Foreign)]),
        (
            "moved to another chain",
            |lines| swap_bytes(&mut lines[0], b"\"chain\":\"", b"\"chain\":\"0000"),
            vec![(2, Break::Missing { from: 1, to: 1 })],
        ),
        ("an empty one put in", |lines| lines.insert(4, b"\n".to_vec()), vec![(5, Break::Foreign)]),
        (
            "a number changed",
            |lines| swap_bytes(&mut lines[4], b"\"seq\":5", b"\"seq\":9"),
            vec![(5, Break::Missing { from: 5, to: 8 }), (6, Break::OutOfOrder { seq: 6, after: 9 })],
        ),
        ("another chain begun", |lines| lines.insert(4, foreign_chain(None)), vec![(5, Break::Unlinked)]),
        (
            "another chain, with a link to elsewhere",
            |lines| lines.insert(4, foreign_chain(Some(LineHash::of(b"elsewhere")))),
            vec![(5, Break::Changed { seq: 0 })],
        ),
    ];
    for (name, spoil, expected) in cases {
        let mut lines = split(&log().0);
        spoil(&mut lines);
        assert_eq!(faults(&[&lines.concat()]), expected, "{name}");
    }
}

fn swap_bytes(line: &mut [u8], from: &[u8], to: &[u8]) {
    let at = line.windows(from.len()).position(|bytes| bytes == from).unwrap();
    line[at..at + to.len()].copy_from_slice(to);
}

fn foreign_chain(after: Option<LineHash>) -> Vec<u8> {
    let mut line = Vec::new();
    Position::new(&SeededEntropy::new(2), after).append(br#"{"event":"token.issued"}"#, &mut line);
    line
}

#[test]
fn attack_65_lines_cut_off_the_end_show_in_the_head_and_as_a_run_without_end() {
    let (log, head) = log();
    let lines = split(&log);
    let cut = lines[..8].concat();
    let report = verify(&[&cut], &[]);
    assert!(report.is_good(), "nothing follows them");
    assert!(matches!(report.notes.as_slice(), [(_, Note::Open { run, .. })] if run == "r"), "{:?}", report.notes);
    let report = verify(&[&cut], &[head]);
    assert_eq!(report.breaks, [(Place { file: usize::MAX, line: 0 }, Break::HeadMissing { head })]);
    let noted = report.chains[0].head;
    assert!(verify(&[&log], &[noted]).is_good(), "a log that has grown still has the line");
}

#[test]
fn the_rest_of_a_line_is_no_break_once_the_chain_tells_of_it() {
    let mut position = Position::new(&SeededEntropy::new(1), None);
    let mut log = Vec::new();
    position.append(br#"{"event":"token.issued"}"#, &mut log);
    let rest = br#"{"event":"token.iss"#;
    log.extend_from_slice(rest);
    let at_the_end = verify(&[&log], &[]);
    assert!(at_the_end.is_good(), "it may be just being written");
    assert_eq!(at_the_end.notes, [(Place { file: 0, line: 2 }, Note::Unended)]);
    log.push(b'\n');
    assert_eq!(faults(&[&log]), [(2, Break::Foreign)]);
    let mut next = Vec::new();
    position.clone().append(br#"{"event":"token.issued"}"#, &mut next);
    assert_eq!(faults(&[log.trim_ascii_end(), &next]), [(2, Break::Foreign)], "something follows");
    let told = format!(r#"{{"event":"audit.torn","torn":"{}"}}"#, LineHash::of(rest));
    position.append(told.as_bytes(), &mut log);
    let report = verify(&[&log], &[]);
    assert!(report.is_good(), "{report:?}");
    assert_eq!(report.notes, [(Place { file: 0, line: 2 }, Note::Torn)]);
}

#[test]
fn lines_of_an_earlier_version_stand_before_the_chain_and_nowhere_else() {
    let before = b"{\"event\":\"token.issued\"}\n";
    let mut position = Position::new(&SeededEntropy::new(1), Some(LineHash::of(before.strip_suffix(b"\n").unwrap())));
    let mut log = before.to_vec();
    position.append(br#"{"event":"audit.opened"}"#, &mut log);
    let report = verify(&[&log], &[]);
    assert!(report.is_good(), "{report:?}");
    assert_eq!(report.notes, [(Place { file: 0, line: 1 }, Note::Unchained { lines: 1 })]);
    log.extend_from_slice(before);
    assert_eq!(faults(&[&log]), [(3, Break::Foreign)]);
}

#[test]
fn a_line_that_never_ends_is_a_break_and_costs_no_memory() {
    let mut log = log().0;
    log.extend(std::iter::repeat_n(b'x', 3 << 20));
    assert_eq!(faults(&[&log]), [(LINES + 1, Break::TooLong)]);
}

#[test]
fn hostile_numbers_are_numbers() {
    let chain = "0123456789abcdef";
    let line = |seq: u64| format!("{{\"chain\":\"{chain}\",\"seq\":{seq},\"lost\":{}}}\n", u64::MAX);
    let log = [line(u64::MAX), line(0), line(u64::MAX), line(u64::MAX - 1)].concat();
    assert_eq!(verify(&[log.as_bytes()], &[]).broken, 3);
}

#[test]
fn attack_65_no_place_is_without_a_guard() {
    let (log, head) = log();
    for at in 0..log.len() {
        for to in [b'0', b'f', b'\n', b' ', b'"', log[at] ^ 1] {
            let mut spoilt = log.clone();
            spoilt[at] = to;
            assert!(spoilt == log || !verify(&[&spoilt], &[head]).is_good(), "byte {at} to {to}");
        }
    }
}

proptest! {
    #[test]
    fn attack_65_every_change_of_one_byte_is_reported(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let (mut log, head) = log();
        let at = at.index(log.len());
        prop_assume!(log[at] != to);
        log[at] = to;
        prop_assert!(!verify(&[&log], &[head]).is_good(), "byte {at} to {to}");
    }

    #[test]
    fn attack_65_every_line_that_is_removed_doubled_or_moved_is_reported(
        from in 0..LINES as usize,
        to in 0..LINES as usize,
        what in 0..3,
    ) {
        let (log, head) = log();
        let mut lines = split(&log);
        let first = LineHash::of(lines[0].strip_suffix(b"\n").unwrap());
        let line = lines[from].clone();
        match what {
            0 => drop(lines.remove(from)),
            1 => lines.insert(to, line),
            _ => {
                prop_assume!(from != to);
                lines.remove(from);
                lines.insert(to, line);
            }
        }
        let report = verify(&[&lines.concat()], &[head]);
        // Without its first lines a log looks like one whose oldest file was deleted: told, but not wrong.
        let begins_late = report.notes.iter().any(|(_, note)| matches!(note, Note::GoesOn { seq: 2 }));
        prop_assert!(!report.is_good() || begins_late && (what, from) == (0, 0), "{from} {to} {what}");
        prop_assert!(!verify(&[&lines.concat()], &[head, first]).is_good(), "{from} {to} {what}");
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let report = verify(&[&bytes], &[]);
        prop_assert!(report.breaks.len() <= MAX_KEPT);
    }
}
