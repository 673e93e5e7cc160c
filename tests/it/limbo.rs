//! The client-certificate cases of x509-limbo through the real chain check and the real comparison of names
//! (RFC 8705 §7.5, RFC 5280 §6.1).
//!
//! The cases stand beside the project and not in it. `limbo-exceptions.json` says for each case that comes out otherwise
//! why that is so; the test fails when an exception no longer applies.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use certbind::authn::check_chain;
use certbind::authn::trust::{Policy, TrustGroup};
use certbind_proto::cert::PeerCert;
use certbind_proto::subject::{Subject, SubjectKind};
use certbind_proto::time::Timestamp;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use serde::Deserialize;

const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/limbo/limbo-client.json");
const EXCEPTIONS: &str = include_str!("limbo-exceptions.json");
/// 2026-11-22, for cases that name no time.
const NOW: Timestamp = Timestamp::from_unix(1_795_305_600);

#[derive(Deserialize)]
struct Limbo {
    testcases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    id: String,
    trusted_certs: Vec<String>,
    untrusted_intermediates: Vec<String>,
    peer_certificate: String,
    crls: Vec<String>,
    validation_time: Option<String>,
    expected_result: Outcome,
    expected_peer_name: Option<Name>,
    expected_peer_names: Vec<Name>,
    max_chain_depth: Option<u8>,
}

#[derive(Deserialize)]
struct Name {
    kind: String,
    value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Outcome {
    Failure,
    Success,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    actual: Outcome,
    reason: String,
}

#[test]
fn rfc8705_7_5_limbo_cases_come_out_as_expected() {
    let Some(cases) = cases() else { return };
    assert_eq!(cases.len(), 189);
    let mut exceptions: BTreeMap<String, Exception> = serde_json::from_str(EXCEPTIONS).unwrap();
    let mut wrong = Vec::new();
    for case in &cases {
        let verdict = verdict(case);
        let actual = if verdict.is_ok() { Outcome::Success } else { Outcome::Failure };
        let exception = exceptions.remove(&case.id);
        assert!(exception.as_ref().is_none_or(|exception| exception.reason.len() > 20), "{} has no reason", case.id);
        match exception {
            None if actual == case.expected_result => {}
            None => wrong.push(format!("{}: expected {:?}, got {verdict:?}", case.id, case.expected_result)),
            Some(_) if actual == case.expected_result => wrong.push(format!("{}: no longer an exception", case.id)),
            Some(exception) => assert_eq!(actual, exception.actual, "{}", case.id),
        }
    }
    wrong.extend(exceptions.into_keys().map(|id| format!("{id}: an exception without a case")));
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

/// Attack: certificates that make path building search for ever (RUSTSEC-2023-0052, RUSTSEC-2023-0053). Four at once do
/// not keep others from their answer.
#[test]
fn pathological_chains_are_refused_quickly() {
    let Some(cases) = cases() else { return };
    let hostile = |case: &&Case| case.id.starts_with("pathological::") && case.expected_result == Outcome::Failure;
    let hostile: Vec<&Case> = cases.iter().filter(hostile).collect();
    assert!(hostile.len() >= 8);
    for case in &hostile {
        let took = (0..3).map(|_| time(case)).min().unwrap();
        assert!(took < Duration::from_millis(250), "{} took {took:?}", case.id);
    }
    let good = cases.iter().find(|case| case.id == "webpki::san::exact-dns-san").unwrap();
    std::thread::scope(|scope| {
        hostile.iter().take(4).for_each(|case| drop(scope.spawn(|| time(case))));
        assert!((0..3).map(|_| time(good)).min().unwrap() < Duration::from_millis(250));
    });
}

fn time(case: &Case) -> Duration {
    let start = Instant::now();
    let _ = verdict(case);
    start.elapsed()
}

fn cases() -> Option<Vec<Case>> {
    if !Path::new(CASES).exists() {
        eprintln!("skipped: there is no {CASES}");
        return None;
    }
    let limbo: Limbo = serde_json::from_slice(&std::fs::read(CASES).unwrap()).unwrap();
    Some(limbo.testcases)
}

/// What the server would decide of a client that is registered with the expected names.
fn verdict(case: &Case) -> Result<(), Refused> {
    let now = case.validation_time.as_deref().map_or(NOW, timestamp);
    let policy = Policy { max_chain_depth: case.max_chain_depth.unwrap_or(5), ..Policy::default() };
    let anchors = case.trusted_certs.iter().map(|pem| certificate(pem)).collect();
    let crls: Vec<_> =
        case.crls.iter().map(|pem| CertificateRevocationListDer::from_pem_slice(pem.as_bytes()).unwrap()).collect();
    let group = TrustGroup::new("limbo", policy, anchors, &crls, now).map_err(refused)?;
    let chain = std::iter::once(&case.peer_certificate).chain(&case.untrusted_intermediates);
    let peer = PeerCert::from_chain(chain.map(|pem| certificate(pem)).collect()).unwrap();
    check_chain(&peer, &group, now).map_err(refused)?;
    for name in case.expected_peer_name.iter().chain(&case.expected_peer_names) {
        let subject = Subject::parse(kind(name), &name.value).map_err(refused)?;
        subject.check(peer.leaf().map_err(refused)?).map_err(refused)?;
    }
    Ok(())
}

/// The fact, as text.
#[derive(Debug)]
struct Refused(#[expect(dead_code, reason = "shown when a case comes out wrong")] String);

fn refused(fault: impl fmt::Debug) -> Refused {
    Refused(format!("{fault:?}"))
}

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn kind(name: &Name) -> SubjectKind {
    match name.kind.as_str() {
        "DNS" => SubjectKind::SanDns,
        "IP" => SubjectKind::SanIp,
        "RFC822" => SubjectKind::SanEmail,
        other => panic!("{other}"),
    }
}

fn timestamp(text: &str) -> Timestamp {
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;
    let nanos = OffsetDateTime::parse(text, &Rfc3339).unwrap().unix_timestamp_nanos();
    Timestamp::from_millis(i64::try_from(nanos / 1_000_000).unwrap())
}
