//! What every engine must do with audit lines.

use std::sync::Arc;
use std::time::Duration;

use certbind_proto::time::Timestamp;

use super::super::audit::{
    Appended, AuditChain, AuditLine, AuditMember, AuditOrder, AuditQuery, AuditStore, FoundLine, Members,
};
use super::{NOW, at_once, wait};

/// Everything that [`AuditStore`] promises.
pub fn audit<S: AuditStore + 'static>(open: &dyn Fn() -> Arc<S>) {
    lines_are_added_all_or_none(&*open());
    lines_are_found_by_what_they_say(&*open());
    lines_are_found_page_by_page_in_both_orders(&*open());
    the_oldest_lines_are_dropped_chain_by_chain(&*open());
    of_many_that_write_a_number_one_does(&[open()]);
}

/// Of many processes that write the same number of a chain at the same moment, one does.
pub fn of_many_that_write_a_number_one_does<S: AuditStore + 'static>(stores: &[Arc<S>]) {
    let chain = format!("{:016x}", 7);
    let added = at_once(8, stores, |store, n| {
        let lines = vec![audit_line("a", &chain, 1, NOW, &format!(r#""jti":"{n}""#))];
        wait(store.append_audit(lines))
    });
    assert_eq!(added.iter().filter(|added| **added == Appended::Done).count(), 1, "{added:?}");
}

fn lines_are_added_all_or_none(store: &impl AuditStore) {
    let line = |seq| audit_line("a", "00000000000000aa", seq, NOW, r#""event":"token.issued""#);
    assert_eq!(wait(store.last_audit("a".into())), None);
    assert_eq!(wait(store.append_audit(vec![line(1), line(2)])), Appended::Done);
    assert_eq!(wait(store.append_audit(vec![line(3), line(2)])), Appended::Taken);
    assert_eq!(wait(store.last_audit("a".into())), Some(line(2)), "none of them is there");
    assert_eq!(wait(store.last_audit("b".into())), None);
    assert_eq!(wait(store.append_audit(vec![line(3)])), Appended::Done);
    assert_eq!(found(store, AuditQuery::all(10)), [line(1), line(2), line(3)]);
}

fn lines_are_found_by_what_they_say(store: &impl AuditStore) {
    let second = Duration::from_secs(1);
    let texts = AuditMember::ALL.map(|member| format!(r#""{}":"x""#, member.as_str()));
    let mut lines: Vec<AuditLine> =
        (1..).zip(&texts).map(|(seq, text)| audit_line("a", "00000000000000aa", seq, NOW, text)).collect();
    let late = audit_line("b'", "00000000000000bb", 1, NOW.plus(second), r#""client_id":"y\"%_é""#);
    lines.push(late.clone());
    wait(store.append_audit(lines.clone()));
    assert!(found(store, AuditQuery::all(100)).iter().all(AuditLine::is_as_written));
    for (n, line) in lines.iter().enumerate().take(texts.len()) {
        let mut members = Members::default();
        members[n] = Some("x".to_owned());
        assert_eq!(
            found(store, AuditQuery { members, ..AuditQuery::all(100) }),
            std::slice::from_ref(line),
            "{line:?}"
        );
    }
    let mut members = Members::default();
    members[0] = Some("y\"%_é".to_owned());
    let all = || AuditQuery::all(100);
    for query in [
        AuditQuery { members: members.clone(), ..all() },
        AuditQuery { server: Some("b'".into()), ..all() },
        AuditQuery { chain: Some("00000000000000bb".into()), ..all() },
        AuditQuery { since: Some(NOW.plus(second)), ..all() },
        AuditQuery { members: members.clone(), since: Some(NOW), until: Some(NOW.plus(2 * second)), ..all() },
    ] {
        assert_eq!(found(store, query.clone()), std::slice::from_ref(&late), "{query:?}");
    }
    assert_eq!(found(store, AuditQuery { members, until: Some(NOW.plus(second)), ..all() }), []);
    assert_eq!(found(store, AuditQuery { until: Some(NOW.plus(second)), ..all() }), lines[..texts.len()]);
}

fn lines_are_found_page_by_page_in_both_orders(store: &impl AuditStore) {
    let lines: Vec<_> = (1..=10).map(|seq| audit_line("a", "00000000000000aa", seq, NOW, r#""jti":"1""#)).collect();
    for batch in lines.chunks(3) {
        wait(store.append_audit(batch.to_vec()));
    }
    for order in [AuditOrder::OldestFirst, AuditOrder::NewestFirst] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = wait(store.find_audit(AuditQuery { after, order, ..AuditQuery::all(4) }));
            assert!(page.len() <= 4);
            let Some(FoundLine { id, .. }) = page.last() else { break };
            after = Some(*id);
            seen.extend(page.into_iter().map(|found| found.line));
        }
        if order == AuditOrder::NewestFirst {
            seen.reverse();
        }
        assert_eq!(seen, lines, "{order:?}");
    }
}

fn the_oldest_lines_are_dropped_chain_by_chain(store: &impl AuditStore) {
    let hour = Duration::from_secs(3600);
    let line = |chain: &str, seq, hours| audit_line(chain, &chain.repeat(16), seq, NOW.plus(hours * hour), "\"x\":1");
    let of_a: Vec<_> = [0, 1, 5, 1].into_iter().zip(1..).map(|(hours, seq)| line("a", seq, hours)).collect();
    let of_b = vec![line("b", 7, 0), line("b", 8, 0), line("b", 10, 0)];
    wait(store.append_audit(of_b.clone()));
    wait(store.append_audit(of_a.clone()));
    wait(store.append_audit(vec![line("c", 1, 9)]));
    let chains: Vec<String> = wait(store.audit_chains()).into_iter().map(|AuditChain { server, .. }| server).collect();
    assert_eq!(chains, ["b", "a", "c"]);
    assert_eq!(wait(store.overdue_audit(NOW)), []);
    let mut overdue = wait(store.overdue_audit(NOW.plus(2 * hour)));
    overdue.sort_by(|one, other| one.chain.cmp(&other.chain));
    assert_eq!(overdue, [of_a[1].clone(), of_b[1].clone()], "up to what is younger, and up to a gap");
    for AuditLine { chain, seq, .. } in overdue {
        assert_eq!(wait(store.drop_audit(chain.clone(), seq)), 2);
        assert_eq!(wait(store.drop_audit(chain, seq)), 0);
    }
    let left = [of_b[2].clone(), of_a[2].clone(), of_a[3].clone(), line("c", 1, 9)];
    assert_eq!(found(store, AuditQuery::all(10)), left);
    wait(store.drop_audit("a".repeat(16), 2));
    assert_eq!(wait(store.last_audit("a".into())), Some(of_a[3].clone()));
}

fn found(store: &impl AuditStore, query: AuditQuery) -> Vec<AuditLine> {
    wait(store.find_audit(query)).into_iter().map(|found| found.line).collect()
}

/// A line of a chain, which says this as well.
#[must_use]
pub fn audit_line(server: &str, chain: &str, seq: i64, at: Timestamp, says: &str) -> AuditLine {
    let line = format!(r#"{{"ts":"{at}",{says},"chain":"{chain}","seq":{seq}}}"#);
    AuditLine::read(server, &line).expect("a line of a chain")
}
