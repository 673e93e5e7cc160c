use std::sync::OnceLock;

use certbind_devpki::{Issuer, LeafSpec, Validity};
use certbind_https::{AddressPolicy, Authorities, FetchError, Limits};
use certbind_proto::entropy::SeededEntropy;
use certbind_proto::scope::Scope;
use hyper::header::HeaderValue;
use proptest::prelude::*;
use rustls::AlertDescription;

use super::*;
use crate::ClientCertificate;
use crate::error::{AnswerFault, Busy, MetadataFault, Refusal};

const START: Timestamp = Timestamp::from_unix(1_795_305_600);

/// What the life of a source brings, one word each, and what has to come of it.
///
/// `rotate=b`, `replace=b`, `pursue`, `reject=a1` and `t=60` do it; `b+300` is the answer to the request under way for `b`, a
/// token for so many seconds, `b!busy` is another one; `ask=` says what somebody gets who asks now, `after=` who has waited for a trial, `flying=` for which
/// credentials requests are under way.
const LIVES: &[(&str, &str)] = &[
    ("a token is got and kept", "ask=wait flying=a ask=wait flying=a a+300 ask=a1 flying="),
    (
        "the new certificate is in use together with its token",
        "ask=wait a+300 rotate=b flying= pursue flying=b ask=a1 ask=a1 b+300 ask=b1 flying=",
    ),
    ("whoever asks gets the rotation going too", "ask=wait a+300 rotate=b ask=a1 flying=b b+300 ask=b1"),
    ("where no token is in use the new one waits for somebody to ask", "rotate=b pursue flying= ask=trial b+300 ask=b1"),
    (
        "where a token is over nobody needs the next one yet",
        "ask=wait a+300 t=300 rotate=b pursue flying= ask=trial b+300 ask=b1",
    ),
    (
        "while the server is away the old token serves to its end and the new certificate is tried after pauses",
        "ask=wait a+300 rotate=b pursue b!busy pursue flying= ask=a1 flying= t=1 pursue flying=b ask=a1 b!busy
         t=280 ask=a1 flying=b b!busy ask=a1 flying=a a!busy ask=a1 flying= t=300 ask=trial b!busy after=wait flying=a a!busy
         ask=busy after=busy flying= t=400 ask=trial b+300 ask=b1",
    ),
    (
        "a pause that the server asked for is kept, over a second rotation too",
        "ask=wait a+300 rotate=b pursue b!later rotate=c pursue ask=a1 flying= t=19 pursue flying= t=20 pursue flying=c",
    ),
    (
        "a server that is away when the rotation begins is left alone as well",
        "ask=wait a+300 t=271 ask=a1 flying=a a!later rotate=b pursue flying= t=290 ask=a1 flying= t=291 ask=a1 flying=b",
    ),
    (
        "while the new certificate is refused the old one goes on, with renewals",
        "ask=wait a+300 rotate=b pursue b!refused ask=a1 flying= t=271 ask=a1 flying=b b!refused ask=a1 flying=a a+300
         ask=a2 t=500 ask=a2 flying=b b+300 ask=b1",
    ),
    (
        "a refusal that comes when the old token is over costs no call",
        "ask=wait a+300 t=299 rotate=b t=301 ask=trial b!refused ask=wait flying=a a+300 ask=a2",
    ),
    (
        "a new certificate that is refused within TLS, or over already, is as good as refused",
        "ask=wait a+300 rotate=b pursue b!tls t=271 ask=a1 b!expired ask=a1 flying=a",
    ),
    ("a new certificate that is refused before there was a token", "rotate=b ask=trial b!refused ask=wait flying=a a+300 ask=a1"),
    (
        "a proxy that lets nobody in with the new certificate, in whatever words, does not stop the old one",
        "ask=wait a+300 rotate=b pursue b!html t=271 ask=a1 flying=b b!metadata ask=a1 flying=a a+300 ask=a2 t=560 ask=a2
         flying=b b!closed ask=a2 flying=a a!busy t=572 ask=trial flying=b b!busy after=wait flying=a a+300 ask=a3",
    ),
    (
        "a new certificate that fails in no words of OAuth before there was a token",
        "rotate=b ask=trial b!html after=wait flying=a a+300 ask=a1",
    ),
    (
        "the old one has its turn after a trial even when the pause of the new one is over already",
        "ask=wait a+300 t=301 rotate=b ask=trial b!busy t=302 after=wait flying=a a+300 ask=a2 flying=b",
    ),
    (
        "a server that asks with both certificates to be left alone is asked once with each",
        "ask=wait a+300 rotate=b t=300 ask=trial b!later after=wait flying=a a!later after=busy ask=busy flying= t=319 ask=busy
         flying= t=320 ask=trial flying=b",
    ),
    ("what was refused says nothing about the next one", "ask=wait a+300 rotate=b pursue b!refused rotate=c pursue flying=c c+300 ask=c1"),
    (
        "files that flip between a good pair and one that is refused make a few requests, then one after each pause",
        "ask=wait a+300 rotate=b pursue b!refused rotate=a rotate=b pursue b!refused rotate=a rotate=b pursue b!refused
         rotate=a rotate=b pursue flying= rotate=a rotate=c pursue flying= t=5 pursue flying=c c!refused rotate=a t=7 rotate=b
         pursue flying= t=15 pursue flying=b b+300 ask=b1 rotate=a pursue flying=a",
    ),
    (
        "the tries of one certificate that is refused again and again leave the next one its own",
        "ask=wait a+300 rotate=b pursue b!refused t=5 pursue b!refused t=15 pursue b!refused t=35 pursue b!refused rotate=c pursue
         flying=c c+300 ask=c1",
    ),
    (
        "free tries come back",
        "ask=wait a+3000 rotate=b pursue b!refused rotate=c pursue c!refused rotate=b pursue b!refused rotate=c pursue flying=
         t=300 rotate=b pursue flying=b",
    ),
    (
        "when the old certificate is over the new one is what there is",
        "ask=wait short+300 ask=short1 rotate=b pursue b!refused t=59 ask=short1 b!refused t=60 ask=refused pursue flying= t=90
         ask=wait b+300 ask=b1",
    ),
    ("the newest of two rotations wins", "ask=wait a+300 rotate=b pursue rotate=c pursue flying=bc b+300 ask=a1 c+300 ask=c1"),
    ("the newest wins in whatever order they land", "ask=wait a+300 rotate=b pursue rotate=c pursue c+300 b+300 ask=c1"),
    ("the same once more changes nothing", "ask=wait a+300 rotate=b pursue rotate=b pursue flying=b b!refused rotate=b pursue flying= ask=a1"),
    ("a rotation that is taken back has not been", "ask=wait a+300 rotate=b pursue rotate=a b+300 ask=a1 flying="),
    (
        "a renewal that lands after the rotation is not kept",
        "ask=wait a+300 t=271 ask=a1 flying=a rotate=b pursue flying=ab b+300 ask=b1 a+300 ask=b1",
    ),
    ("a replacement is at once, and ends a rotation", "ask=wait a+300 rotate=b pursue replace=c ask=wait flying=bc b+300 ask=wait c+300 ask=c1"),
    ("a replacement by the same keeps the token", "ask=wait a+300 rotate=b pursue replace=a ask=a1 b+300 ask=a1"),
    (
        "O21-1.4-a in a rotation: what a resource refuses is not used again, and the new certificate is tried first",
        "ask=wait a+300 rotate=b pursue reject=a1 ask=trial flying=b b+300 ask=b1",
    ),
    (
        "a token that a resource refuses is got anew by the old one if the new one is refused",
        "ask=wait a+300 rotate=b pursue b!refused reject=a1 ask=wait flying=a a+300 ask=a2",
    ),
];

#[test]
fn rfc8705_6_3_each_transition_of_a_rotation() {
    for (name, life) in LIVES {
        let mut bench = Bench::new(if life.contains("short") { "short" } else { "a" });
        for word in life.split_whitespace() {
            bench.live(&format!("{name}: {word} in {life}"), word);
        }
    }
}

/// A rotation under test, with the requests that it has made.
struct Bench {
    rotation: Rotation,
    flying: Vec<Launch>,
    issued: Vec<Arc<AccessToken>>,
    now: Timestamp,
    entropy: SeededEntropy,
}

impl Bench {
    fn new(first: &str) -> Self {
        let rotation = Rotation::new(active(first), key(first), START);
        Self { rotation, flying: Vec::new(), issued: Vec::new(), now: START, entropy: SeededEntropy::new(7) }
    }

    fn live(&mut self, case: &str, word: &str) {
        match word.split_once('=') {
            Some(("ask", expected)) => assert_eq!(self.ask(), expected, "{case}"),
            Some(("after", expected)) => assert_eq!(self.ask_by(Rotation::step_after_trial), expected, "{case}"),
            Some(("flying", expected)) => assert_eq!(self.flying(), expected, "{case}"),
            Some(("rotate", name)) => {
                self.rotation.succeed(active(name), key(name), self.now);
            }
            Some(("replace", name)) => self.rotation.replace(active(name), key(name), self.now),
            Some(("reject", name)) => {
                let token = self.issued.iter().find(|token| token.value == name).expect("a token");
                self.rotation.reject(token, self.now).expect(case);
            }
            Some(("t", seconds)) => self.now = START.plus(Duration::from_secs(seconds.parse().expect("a number"))),
            _ if word == "pursue" => {
                let launches = self.rotation.pursue(self.now);
                self.flying.extend(launches);
            }
            _ => {
                let at = word.find(['+', '!']).expect("an answer");
                let flight = self.flying.iter().position(|launch| name_of(&launch.active) == &word[..at]);
                self.land(flight.expect(case), &word[at..]);
            }
        }
    }

    fn ask(&mut self) -> String {
        self.ask_by(Rotation::step)
    }

    fn ask_by(&mut self, step: fn(&mut Rotation, Timestamp, Duration) -> (Answer, Vec<Launch>)) -> String {
        let (answer, launches) = step(&mut self.rotation, self.now, Duration::ZERO);
        self.flying.extend(launches);
        match answer {
            Answer::Now(Ok(token)) => token.value.clone(),
            Answer::Now(Err(Error::Busy(_))) => "busy".to_owned(),
            Answer::Now(Err(Error::Refused(_))) => "refused".to_owned(),
            Answer::Now(Err(other)) => other.to_string(),
            Answer::Later(_) => "wait".to_owned(),
            Answer::Trial(_) => "trial".to_owned(),
        }
    }

    fn flying(&self) -> String {
        let mut names: Vec<_> = self.flying.iter().map(|launch| name_of(&launch.active)).collect();
        names.sort_unstable();
        names.concat()
    }

    fn land(&mut self, flight: usize, answer: &str) -> Settled {
        let launch = self.flying.remove(flight);
        let busy = |retry_after| Err(Error::Busy(Busy { request_id: None, retry_after, status: 503 }));
        let outcome = match answer {
            "!busy" => busy(None),
            "!later" => busy(Some(Duration::from_secs(20))),
            "!html" => Err(Error::NotOAuth(AnswerFault::ErrorMissing(400))),
            "!metadata" => Err(Error::Metadata(MetadataFault::Status(400))),
            "!closed" => Err(FetchError::Closed(None).into()),
            "!tls" => Err(FetchError::CertificateRefused(AlertDescription::AccessDenied).into()),
            "!expired" => Err(Error::CertificateExpired),
            "!refused" => Err(Error::Refused(Refusal {
                code: "invalid_client".to_owned(),
                description: None,
                request_id: None,
                status: 400,
            })),
            life => Ok(self.issue(&launch.active, life[1..].parse().expect("a life"))),
        };
        let settled = self.rotation.settle(&launch.active, &outcome, self.now, &self.entropy);
        launch.landing.send_replace(Some(outcome));
        settled
    }

    fn issue(&mut self, active: &Active, life: u64) -> Arc<AccessToken> {
        let certificate = active.credential.certificate().cloned();
        let count = self.issued.iter().filter(|token| token.value.starts_with(name_of(active))).count();
        let end = self.now.plus(Duration::from_secs(life));
        let token = Arc::new(AccessToken {
            authorization: HeaderValue::from_static("Bearer t"),
            expires: certificate.as_ref().map_or(end, |certificate| end.min(certificate.not_after())),
            certificate,
            scope: Scope::default(),
            started: self.now,
            value: format!("{}{}", name_of(active), count + 1),
        });
        self.issued.push(token.clone());
        token
    }
}

/// The certificates that tests speak of by name; the one called `short` is over a minute after the start.
fn certificates() -> &'static [(&'static str, ClientCertificate)] {
    static ALL: OnceLock<Vec<(&str, ClientCertificate)>> = OnceLock::new();
    ALL.get_or_init(|| {
        let root =
            Issuer::root("rotation", Validity { not_before: 0, not_after: 4_102_444_800 }).expect("an authority");
        let make = |name| {
            let not_after = if name == "short" { START.unix() + 60 } else { 4_102_444_800 };
            let leaf = root.leaf(&LeafSpec::client("billing", Validity { not_before: 0, not_after }));
            let leaf = leaf.expect("a certificate");
            (name, ClientCertificate::new(leaf.chain().to_vec(), leaf.key()).expect("a pair"))
        };
        ["a", "b", "c", "short"].map(make).to_vec()
    })
}

fn certificate(name: &str) -> ClientCertificate {
    certificates().iter().find(|(known, _)| *known == name).expect("a name").1.clone()
}

fn name_of(active: &Active) -> &'static str {
    let shown = active.credential.certificate().expect("a certificate").thumbprint();
    certificates().iter().find(|(_, known)| known.thumbprint() == shown).expect("a known one").0
}

fn active(name: &str) -> Arc<Active> {
    let credential = Credential::Certificate(certificate(name));
    let nobody = Authorities::new(&[]).expect("nobody");
    let transport = Transport::new(&nobody, credential.certificate(), AddressPolicy::default(), Limits::default());
    Arc::new(Active { credential, transport: transport.expect("a transport") })
}

fn key(name: &str) -> Key {
    Key {
        certificate: Some(*certificate(name).thumbprint()),
        client_id: "billing".to_owned(),
        issuer: "https://as.example".to_owned(),
        resources: std::collections::BTreeSet::new(),
        scope: Scope::default(),
    }
}

/// What a request may come to.
const ANSWERS: &[&str] = &["+300", "+20", "!busy", "!refused", "!later", "!html", "+60"];

proptest! {
    /// Whatever happens in whatever order: a token is handed out alive, bound, with the certificate that it was issued for,
    /// and never again once a newer certificate was in use; one request for each credential at a time; and whoever has a
    /// living token of the old certificate when a rotation begins fails no call before its end.
    #[test]
    fn rfc8705_6_3_token_and_certificate_match_whatever_happens(
        events in prop::collection::vec((0_u8..9, 0_u8..4, 0_u64..400), 1..120)
    ) {
        let mut bench = Bench::new("a");
        let mut in_use = "a";
        for (event, which, number) in events {
            let name = ["a", "b", "c", "short"][usize::from(which)];
            match event {
                0 => bench.now = bench.now.plus(Duration::from_secs(number / 4)),
                1 => {
 bench.rotation.succeed(active(name), key(name), bench.now);
}
                2 if number < 40 => {
                    bench.rotation.replace(active(name), key(name), bench.now);
                    in_use = name;
                }
                3 => {
                    let launches = bench.rotation.pursue(bench.now);
                    bench.flying.extend(launches);
                }
                4 | 5 if !bench.flying.is_empty() => {
                    let answer = ANSWERS[usize::try_from(number).expect("small") % ANSWERS.len()];
                    let flight = usize::from(which) % bench.flying.len();
                    let landed = name_of(&bench.flying[flight].active);
                    if bench.land(flight, answer) == Settled::Taken {
                        in_use = landed;
                    }
                }
                _ => {}
            }
            let lives = bench.rotation.current().token().cloned().filter(|token| token.is_alive(bench.now));
            let (answer, launches) = bench.rotation.step(bench.now, Duration::ZERO);
            bench.flying.extend(launches);
            // Only a certificate that is over is given up without a token for the next.
            let serving = name_of(&bench.rotation.current().active);
            prop_assert!(serving == in_use || in_use == "short" && certificate("short").not_after() <= bench.now);
            in_use = serving;
            match answer {
                Answer::Now(Ok(token)) => {
                    prop_assert!(token.is_alive(bench.now));
                    let shown = *token.certificate().expect("bound").thumbprint();
                    prop_assert_eq!(shown, *certificate(in_use).thumbprint());
                    prop_assert!(token.value.starts_with(in_use), "{} with {}", token.value, in_use);
                }
                _ => prop_assert!(lives.is_none(), "a call failed or waited while {:?} was alive", lives),
            }
            let mut flying: Vec<_> = bench.flying.iter().map(|launch| Arc::as_ptr(&launch.active)).collect();
            let all = flying.len();
            flying.sort_unstable();
            flying.dedup();
            prop_assert_eq!(flying.len(), all, "two requests for one credential");
        }
    }
}
