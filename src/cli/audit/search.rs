//! `audit search`: the lines that answer a question, in one pass and constant memory.

use std::io::{self, Write};

use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::{Clock as _, SystemClock, Timestamp, parse_duration};
use clap::{Args, ValueEnum};
use time::macros::format_description;
use time::{Date, Time};

use super::files::{FileArgs, in_order};
use super::show::{Printer, Seen};
use super::store::{self, StoreArgs};
use crate::audit::lines::Lines;
use crate::cli::Exit;
use crate::cli::config::Output;
use crate::cli::explain::REASONS;
use crate::cli::when;
use crate::config::Environment;
use crate::store::audit::AuditMember;
use crate::suggest::nearest;

/// How many lines that cannot be read are told one by one.
const TOLD: u64 = 10;

/// What to look for; a line has to fit all of it.
#[derive(Debug, Args)]
pub(in crate::cli) struct SearchArgs {
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    wanted: Wanted,
    /// No more lines than this.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// How to print; `json` prints each line as it stands in the file.
    #[arg(short, long, value_enum, default_value_t = Output::Plain)]
    output: Output,
}

#[derive(Args, Debug, Default)]
struct Wanted {
    /// Of this client.
    #[arg(long, value_name = "ID")]
    client: Option<String>,
    /// Of this administrator.
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// With this reason.
    #[arg(long)]
    reason: Option<String>,
    /// Of this kind, as in `token.refused`.
    #[arg(long)]
    event: Option<String>,
    /// About the token with this id.
    #[arg(long, allow_hyphen_values = true)]
    jti: Option<String>,
    /// About the request whose answer had this `X-Request-Id`.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// About tokens bound to this certificate: `x5t#S256`, or SHA-256 in hexadecimal as openssl prints it.
    #[arg(long, value_name = "HASH", value_parser = thumbprint, allow_hyphen_values = true)]
    thumbprint: Option<Thumbprint>,
    /// From this time on: 2026-11-22T09:30:00Z, 2026-11-22, or 2h for two hours ago.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Before this time.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
    /// With this outcome.
    #[arg(long, value_enum)]
    outcome: Option<Outcome>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Outcome {
    Success,
    Failure,
}

/// Prints the lines that fit, oldest first. A line that cannot be read is told and passed over.
pub(super) fn run(args: &SearchArgs, environment: &Environment, out: &mut dyn Write) -> anyhow::Result<Exit> {
    args.wanted.warn_of_unknown_words(&mut io::stderr())?;
    let filter = Filter::new(&args.wanted);
    let mut printer = Printer::start(out, args.output)?;
    let (mut left, mut unreadable) = (args.limit.unwrap_or(u64::MAX), 0);
    if let Some(lines) = args.store.open(&args.files.sources, environment)? {
        return store::search(&lines, &filter.parameters(), left, &mut printer);
    }
    for source in in_order(args.files.paths(environment)?)? {
        let name = source.name.clone();
        let mut lines = Lines::new(source.read()?);
        while left > 0
            && let Some(line) = lines.next_line()?
        {
            match Seen::parse(line.bytes).filter(|_| line.is_whole) {
                Some(seen) if filter.fits(&seen) => {
                    printer.line(line.bytes, &seen)?;
                    left -= 1;
                }
                Some(_) => {}
                // Somebody is just writing it.
                None if !line.is_ended => {}
                None => {
                    unreadable += 1;
                    if unreadable <= TOLD {
                        writeln!(io::stderr(), "{name}:{}: no line of the log, passed over", line.number)?;
                    }
                }
            }
        }
    }
    if unreadable > TOLD {
        writeln!(io::stderr(), "and {} more; `certbind audit verify` tells what they are", unreadable - TOLD)?;
    }
    printer.flush()?;
    Ok(Exit::Done)
}

/// Every kind of event.
const EVENTS: &[&str] = &[
    "admin.refused",
    "admin.requested",
    "audit.checkpoint",
    "audit.closed",
    "audit.expired",
    "audit.lost",
    "audit.opened",
    "audit.torn",
    "client.changed",
    "config.rejected",
    "config.reloaded",
    "key.retired",
    "key.rotated",
    "request.denied",
    "revocation.lifted",
    "store.fenced",
    "token.introspected",
    "token.issued",
    "token.refused",
    "token.revoked",
];

impl Wanted {
    /// A log may be of another version and have other words, so it is searched all the same.
    fn warn_of_unknown_words(&self, err: &mut dyn Write) -> io::Result<()> {
        let meant = |meant: Option<&str>| meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
        if let Some(event) = self.event.as_deref().filter(|event| !EVENTS.contains(event)) {
            let meant = meant(nearest(event, EVENTS.iter().copied()));
            writeln!(err, "certbind: warning: this version knows no event `{event}`{meant}")?;
        }
        if let Some(reason) = self.reason.as_deref().filter(|reason| REASONS.iter().all(|known| known.name != *reason))
        {
            let meant = meant(nearest(reason, REASONS.iter().map(|known| known.name)));
            writeln!(
                err,
                "certbind: warning: this version knows no reason `{reason}`{meant}; `certbind explain` lists them all"
            )?;
        }
        Ok(())
    }
}

/// What a line is held against: texts, as they stand in it.
struct Filter {
    members: [Option<String>; 8],
    since: Option<String>,
    until: Option<String>,
}

impl Filter {
    fn new(wanted: &Wanted) -> Self {
        let outcome = wanted.outcome.map(|outcome| match outcome {
            Outcome::Success => "success".to_owned(),
            Outcome::Failure => "failure".to_owned(),
        });
        Self {
            members: [
                wanted.client.clone(),
                wanted.actor.clone(),
                wanted.reason.clone(),
                wanted.event.clone(),
                wanted.jti.clone(),
                wanted.request_id.clone(),
                wanted.thumbprint.map(|thumbprint| thumbprint.to_string()),
                outcome,
            ],
            since: wanted.since.map(|since| since.to_string()),
            until: wanted.until.map(|until| until.to_string()),
        }
    }

    /// The same, as parameters of a query.
    fn parameters(&self) -> Vec<(&'static str, String)> {
        let places = [
            AuditMember::ClientId,
            AuditMember::Actor,
            AuditMember::Reason,
            AuditMember::Event,
            AuditMember::Jti,
            AuditMember::RequestId,
            AuditMember::Thumbprint,
            AuditMember::Outcome,
        ];
        let members = places.map(AuditMember::as_str).into_iter().zip(self.members.clone());
        let times = [("since", self.since.clone()), ("until", self.until.clone())];
        members.chain(times).filter_map(|(name, value)| Some((name, value?))).collect()
    }

    fn fits(&self, seen: &Seen<'_>) -> bool {
        let found = [
            &seen.client_id,
            &seen.actor,
            &seen.reason,
            &seen.event,
            &seen.jti,
            &seen.request_id,
            &seen.cnf_x5t_s256,
            &seen.outcome,
        ];
        // All times have one form and one length, so their order is that of their texts.
        self.since.as_deref().is_none_or(|since| since <= &*seen.ts)
            && self.until.as_deref().is_none_or(|until| &*seen.ts < until)
            && self
                .members
                .iter()
                .zip(found)
                .all(|(wanted, found)| wanted.is_none() || wanted.as_deref() == found.as_deref())
    }
}

/// A thumbprint, as tokens or openssl have it.
pub(in crate::cli) fn thumbprint(text: &str) -> Result<Thumbprint, String> {
    let digits: String = text.chars().filter(|c| *c != ':').collect();
    let pairs = (0..digits.len()).step_by(2).map(|at| digits.get(at..at + 2));
    let bytes = pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect::<Option<Vec<u8>>>();
    match bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()) {
        Some(hash) => Ok(Thumbprint::from_bytes(hash)),
        None => Thumbprint::parse(text).map_err(|fault| fault.to_string()),
    }
}

/// A moment, as people type it.
fn moment(text: &str) -> Result<Timestamp, &'static str> {
    if let Ok(ago) = parse_duration(text) {
        return Ok(SystemClock.now().minus(ago));
    }
    let day = || Date::parse(text, format_description!("[year]-[month]-[day]")).ok();
    let midnight = || Some(Timestamp::from_unix(day()?.with_time(Time::MIDNIGHT).assume_utc().unix_timestamp()));
    let moment = when::read(text).or_else(midnight);
    moment.ok_or("a time is 2026-11-22T09:30:00Z, 2026-11-22, or 2h for two hours ago")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_known_by_its_name() {
        let code = include_str!("../../audit/event.rs");
        let named = code.split("#[serde(rename = \"").skip(1).filter_map(|rest| rest.split('"').next());
        let mut events: Vec<&str> = named.filter(|name| name.contains('.')).collect();
        events.sort_unstable();
        assert_eq!(events, EVENTS);
    }

    #[test]
    fn a_word_that_nothing_is_called_is_told() {
        let told = |reason: &str, event: &str| {
            let wanted = Wanted { reason: Some(reason.to_owned()), event: Some(event.to_owned()), ..Wanted::default() };
            let mut err = Vec::new();
            wanted.warn_of_unknown_words(&mut err).unwrap();
            String::from_utf8(err).unwrap()
        };
        assert_eq!(told("scope_not_allowed", "token.issued"), "");
        let said = told("nosuch", "token.isued");
        assert!(said.contains("no event `token.isued`; did you mean `token.issued`?"), "{said}");
        assert!(said.contains("no reason `nosuch`; `certbind explain`"), "{said}");
    }

    #[test]
    fn a_time_is_a_moment_a_day_or_so_long_ago() {
        for (text, expected) in [
            ("2026-11-22T09:30:00Z", "2026-11-22T09:30:00.000Z"),
            ("2026-11-22T10:30:00.5+01:00", "2026-11-22T09:30:00.500Z"),
            ("2026-11-22", "2026-11-22T00:00:00.000Z"),
        ] {
            assert_eq!(moment(text).map(|found| found.to_string()).as_deref(), Ok(expected), "{text}");
        }
        let hour = std::time::Duration::from_secs(3600);
        let ago = SystemClock.now().since(moment("1h").unwrap());
        assert!(ago >= hour && ago < hour * 2);
        for text in ["", "yesterday", "2026-13-01", "2026-11-22 09:30", "-5m"] {
            assert!(moment(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_thumbprint_is_what_the_token_says_or_what_openssl_prints() {
        let hash = Thumbprint::of_der(b"certificate");
        let hex: Vec<String> = hash.as_bytes().iter().map(|byte| format!("{byte:02X}")).collect();
        for text in [hash.to_string(), hex.join(":"), hex.concat(), hex.concat().to_lowercase()] {
            assert_eq!(thumbprint(&text), Ok(hash), "{text}");
        }
        for text in ["", "ab", "zz", "é", &hex[1..].join(":")] {
            assert!(thumbprint(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_line_has_to_fit_all_that_is_asked() {
        let line = br#"{"ts":"2026-11-22T09:30:00.000Z","event":"token.refused","outcome":"failure","client_id":"billing","reason":"crl_stale"}"#;
        let seen = Seen::parse(line).unwrap();
        let text = |text: &str| Some(text.to_owned());
        let at = |text: &str| Some(moment(text).unwrap());
        for (wanted, fits) in [
            (Wanted::default(), true),
            (Wanted { client: text("billing"), reason: text("crl_stale"), ..Wanted::default() }, true),
            (Wanted { client: text("billing"), reason: text("eku_missing"), ..Wanted::default() }, false),
            (Wanted { client: text("bill"), ..Wanted::default() }, false),
            (Wanted { jti: text("1"), ..Wanted::default() }, false),
            (Wanted { outcome: Some(Outcome::Failure), ..Wanted::default() }, true),
            (Wanted { outcome: Some(Outcome::Success), ..Wanted::default() }, false),
            (Wanted { since: at("2026-11-22T09:30:00Z"), ..Wanted::default() }, true),
            (Wanted { since: at("2026-11-22T09:30:01Z"), ..Wanted::default() }, false),
            (Wanted { until: at("2026-11-22T09:30:00Z"), ..Wanted::default() }, false),
            (Wanted { until: at("2026-11-23"), ..Wanted::default() }, true),
        ] {
            assert_eq!(Filter::new(&wanted).fits(&seen), fits, "{wanted:?}");
        }
    }
}
