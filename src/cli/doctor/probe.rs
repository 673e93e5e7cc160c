//! `certbind doctor --probe URL`: whether a header in which a client claims a certificate gets through a proxy.
//!
//! It asks from outside, once as a client without a certificate and once as one with a certificate of its own: plainly, and then with
//! each header that some proxy forwards certificates in. What stands there is a throw-away certificate with a tail that makes it
//! unreadable: certbind ignores no such header, so its answer is another one when the header arrived. Nobody has to be trusted for
//! that, and nothing is left behind. Nothing is called good that was not seen to be refused by certbind, or to change nothing there.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context as _;
use certbind_devpki::{Identity, LeafSpec, Validity};
use certbind_proto::forwarded::{Format, known_headers};
use certbind_proto::time::{Clock as _, SystemClock};
use clap::Args;
use clap::builder::PossibleValuesParser;
use hyper::StatusCode;
use hyper::header::HeaderName;
use serde_json::{Value, json};

use super::super::admin_api::AdminArgs;
use super::super::config::Output;
use super::super::{Exit, Misused, print};
use crate::config::{CERTIFICATE_FROM, Environment};

mod asked;
mod verdict;

use asked::{Line, Standing, Target};
use verdict::{Judge, Judged, Verdict};

const COLUMNS: [&str; 3] = ["HEADER", "VERDICT", "WHAT IT MEANS"];

/// Where to ask, and what is known of what stands there.
#[derive(Args, Debug)]
pub(super) struct ProbeArgs {
    /// Ask this URL from outside whether a forged certificate header gets through: the server's, or one of an API behind the guard
    #[arg(long, value_name = "URL", conflicts_with = "within")]
    pub(super) probe: Option<String>,
    /// Another header to try, as certificate_header names it; with --certificate-from the one that the guard believes
    #[arg(long, value_name = "NAME", requires = "probe")]
    header: Vec<String>,
    /// The format that the guard believes; its answers alone do not tell
    #[arg(long, value_name = "FORMAT", requires = "probe", value_parser = PossibleValuesParser::new(CERTIFICATE_FROM))]
    certificate_from: Option<String>,
    /// A token that the guard refuses and a gateway before it takes, such as one bound to another certificate; - is stdin
    #[arg(long, value_name = "FILE", requires = "probe")]
    token: Option<PathBuf>,
}

/// Over which connections something was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Both,
    Without,
    With,
}

impl Over {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Without => "without_certificate",
            Self::With => "with_certificate",
        }
    }

    const fn for_people(self) -> &'static str {
        match self {
            Self::Both => "",
            Self::Without => " (on a connection without a certificate)",
            Self::With => " (on a connection with a certificate)",
        }
    }
}

/// A header, what became of it, and the answer that says so.
struct Found {
    header: String,
    verdict: Verdict,
    over: Over,
    status: Option<StatusCode>,
    request_id: Option<String>,
}

/// Everything that was found, and what stands in the way of more.
struct Report {
    found: Vec<Found>,
    notes: Vec<String>,
}

/// Tries every header. One that is believed, or of which nothing can be told, is [`Exit::Failure`].
///
/// # Errors
/// When there is nothing of certbind's at that URL, it cannot be reached, or nothing can be printed.
pub(super) fn run(
    url: &str,
    args: &ProbeArgs,
    admin: &AdminArgs,
    environment: &Environment,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let token = args.token.as_deref().map(token).transpose()?;
    let target = Target::of(url, token.as_deref())?;
    let headers = headers(args)?;
    let certificate = throw_away()?;
    let own = certbind_https::Identity { chain: certificate.chain().to_vec(), key: certificate.key() };
    let (without, with) = admin.reach.without_and_with(own, environment)?;
    let [without, with] = [without, with].map(|fetcher| Line { fetcher, target: &target });
    let from = args.certificate_from.as_deref();
    let judge = Judge { target: &target, certificate: &certificate, certificate_from: from, named: &args.header };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(report(&judge, &without, &with, &headers))?;
    let is_fine = report.found.iter().all(|found| found.verdict.is_fine());
    show(out, url, admin.output, is_fine, &report)?;
    Ok(if is_fine { Exit::Done } else { Exit::Failure })
}

fn token(path: &std::path::Path) -> anyhow::Result<String> {
    let text = match path.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin())?,
        false => std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?,
    };
    Ok(text.trim().to_owned())
}

/// Each known header and each that was named; those of the formats and the named ones also with `_` for `-`, which some programs take for it.
fn headers(args: &ProbeArgs) -> anyhow::Result<Vec<HeaderName>> {
    let own: Vec<_> = args.header.iter().map(|name| name.to_ascii_lowercase()).collect();
    let formats = Format::ALL.iter().map(|format| format.header().to_owned());
    let twins: Vec<_> = formats.chain(own.iter().cloned()).map(|name| name.replace('-', "_")).collect();
    let mut all: Vec<HeaderName> = Vec::new();
    for name in known_headers().iter().map(|name| (*name).to_owned()).chain(own).chain(twins) {
        let name = name.parse().map_err(|_| Misused(format!("--header: {name} is no name of a header")))?;
        if !all.contains(&name) {
            all.push(name);
        }
    }
    Ok(all)
}

async fn report(
    judge: &Judge<'_>,
    without: &Line<'_>,
    with: &Line<'_>,
    headers: &[HeaderName],
) -> anyhow::Result<Report> {
    let ends = [without.standing().await?, with.standing().await?];
    let mut notes = notes(&ends);
    anyhow::ensure!(
        ends.iter().any(|end| matches!(end, Standing::Reached(_))),
        "nothing can be told: {}",
        notes.join("\n")
    );
    let mut found = Vec::new();
    for header in headers {
        let first = judge.judge(without, &ends[0], header).await?;
        let mut second = judge.judge(with, &ends[1], header).await?;
        // Those with a certificate that it takes were not asked for.
        if matches!(ends[1], Standing::HandshakeRefused) {
            second.verdict = Verdict::Unclear;
        }
        found.push(Found::worse(header, first, second));
    }
    let is_read = |found: &Found| matches!(found.verdict, Verdict::Believed | Verdict::Refused);
    if matches!(judge.target, Target::Token(_)) && !found.iter().any(is_read) {
        notes.push(
            "certbind was seen to read none of these headers: it is an ordinary listener, on which none says anything of a certificate, or the proxy lets none of them through"
                .to_owned(),
        );
    }
    Ok(Report { found, notes })
}

/// What stood in the way, over which connection.
fn notes(ends: &[Standing; 2]) -> Vec<String> {
    let whose = [
        "without a certificate on the connection",
        "with a certificate on the connection, which --cert and --key choose",
    ];
    let note = |(end, whose): (&Standing, &str)| match end {
        Standing::Reached(_) => None,
        Standing::HandshakeRefused => {
            Some(format!("{whose}: the handshake is refused, and what comes in with another one is not known"))
        }
        Standing::Unshown(why) => Some(format!("{whose}: {why}")),
    };
    ends.iter().zip(whose).filter_map(note).collect()
}

/// A certificate that nobody knows.
fn throw_away() -> anyhow::Result<Identity> {
    let validity = Validity::days_from(SystemClock.now().unix() - 3600, 1);
    Identity::self_signed(&LeafSpec::client("certbind-probe", validity)).context("no certificate can be made")
}

fn show(out: &mut dyn Write, url: &str, output: Output, is_fine: bool, report: &Report) -> anyhow::Result<()> {
    if output == Output::Json {
        let headers: Vec<_> = report.found.iter().map(Found::to_json).collect();
        writeln!(out, "{:#}", json!({ "url": url, "fine": is_fine, "headers": headers, "notes": report.notes }))?;
        return Ok(());
    }
    let row = |found: &Found| {
        let id = found.request_id.as_ref().filter(|_| !found.verdict.is_fine());
        let id = id.map(|id| format!(" (request_id {id})")).unwrap_or_default();
        vec![found.header.clone(), found.verdict.as_str().to_owned(), format!("{}{id}", found.meaning())]
    };
    print::rows(out, output, &COLUMNS, &report.found.iter().map(row).collect::<Vec<_>>())?;
    if output == Output::Table && !report.notes.is_empty() {
        writeln!(out)?;
        report.notes.iter().try_for_each(|note| print::rows(out, output, &[], &[vec![note.clone()]]))?;
    }
    Ok(())
}

impl Found {
    fn worse(header: &HeaderName, without: Judged, with: Judged) -> Self {
        let over = match without.verdict.cmp(&with.verdict) {
            std::cmp::Ordering::Equal => Over::Both,
            std::cmp::Ordering::Greater => Over::Without,
            std::cmp::Ordering::Less => Over::With,
        };
        let Judged { verdict, answer } = if over == Over::With { with } else { without };
        let status = answer.as_ref().map(|answer| answer.told.status);
        Self {
            header: header.to_string(),
            verdict,
            over,
            status,
            request_id: answer.and_then(|answer| answer.request_id),
        }
    }

    fn meaning(&self) -> String {
        let meaning = match (self.verdict, self.status) {
            (Verdict::Unclear, None) => "cannot be told: nothing shows that certbind was asked",
            (verdict, _) => verdict.meaning(),
        };
        format!("{meaning}{}", self.over.for_people())
    }

    fn to_json(&self) -> Value {
        json!({
            "header": self.header,
            "verdict": self.verdict.as_str(),
            "connection": self.over.as_str(),
            "status": self.status.map(|status| status.as_u16()),
            "request_id": self.request_id,
        })
    }
}
