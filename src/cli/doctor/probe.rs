//! `certbind doctor --probe URL`: whether a header in which a client claims a certificate gets through a proxy.
//!
//! It asks from outside, as a client without a certificate, once plainly and then with each header that some proxy forwards
//! certificates in. What stands there is a throw-away certificate with a tail that makes it unreadable: certbind ignores no such
//! header, so its answer is another one when the header arrived. Nobody has to be trusted for that, and nothing is left behind.

use std::io::Write;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use certbind_devpki::{Identity, LeafSpec, Validity};
use certbind_https::Fetcher;
use certbind_proto::forwarded::{Format, known_headers};
use certbind_proto::time::{Clock as _, SystemClock};
use clap::Args;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode, Uri};
use serde_json::{Value, json};

use super::super::admin_api::{AdminArgs, CallError};
use super::super::config::Output;
use super::super::{Exit, Misused, print};
use crate::config::Environment;
use crate::http::TOKEN_PATH;
use crate::http::reply::{ANOTHER_HEADER, NOT_ACCEPTED};

const COLUMNS: [&str; 3] = ["HEADER", "VERDICT", "WHAT IT MEANS"];

/// How often a server may say that it is asked too often.
const MOST_WAITS: usize = 30;

/// Where to ask, and what is known of what stands there.
#[derive(Args, Debug)]
pub(super) struct ProbeArgs {
    /// Ask this URL from outside whether a forged certificate header gets through: the server's, or one of an API behind the guard
    #[arg(long, value_name = "URL", conflicts_with = "within")]
    pub(super) probe: Option<String>,
    /// Another header to try, as certificate_header names it
    #[arg(long, value_name = "NAME", requires = "probe")]
    header: Vec<String>,
    /// The format that the guard believes; its answers alone do not tell
    #[arg(long, value_name = "FORMAT", requires = "probe", value_parser = ["alb", "envoy", "haproxy", "nginx", "rfc9440", "traefik", "xfcc"])]
    certificate_from: Option<String>,
}

/// What became of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The answer is that to a request without it.
    NoEffect,
    /// certbind read it as the certificate of the client.
    Believed,
    /// It arrived, and certbind refused the request for it.
    Refused,
    /// Somebody before certbind refused the request for it.
    RefusedOnTheWay,
    /// It cannot be told.
    Unclear,
}

impl Verdict {
    const fn as_str(self) -> &'static str {
        match self {
            Self::NoEffect => "no_effect",
            Self::Believed => "believed",
            Self::Refused => "refused",
            Self::RefusedOnTheWay => "refused_on_the_way",
            Self::Unclear => "unclear",
        }
    }

    const fn meaning(self) -> &'static str {
        match self {
            Self::NoEffect => "the proxy takes it off or replaces it, or nothing there reads it",
            Self::Believed => "IT ARRIVES where certbind believes it: any client passes for any other",
            Self::Refused => "it arrives, and certbind refuses the request",
            Self::RefusedOnTheWay => "the proxy refuses the request",
            Self::Unclear => "cannot be told: look for the reason of this request in the audit log",
        }
    }

    const fn is_fine(self) -> bool {
        match self {
            Self::NoEffect | Self::Refused | Self::RefusedOnTheWay => true,
            Self::Believed | Self::Unclear => false,
        }
    }
}

/// What an answer came to, as far as it tells one from another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    status: StatusCode,
    error: String,
    description: String,
    is_challenged: bool,
}

/// A header, what became of it, and the answer that says so.
struct Found {
    header: String,
    verdict: Verdict,
    status: StatusCode,
    request_id: Option<String>,
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
    let target = Target::of(url)?;
    let headers = headers(args)?;
    let fetcher = admin.reach.as_nobody(environment)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let found =
        runtime.block_on(Probe { fetcher, target, certificate_from: args.certificate_from.clone() }.all(&headers))?;
    let is_fine = found.iter().all(|found| found.verdict.is_fine());
    show(out, url, admin.output, is_fine, &found)?;
    Ok(if is_fine { Exit::Done } else { Exit::Failure })
}

/// Each known header and each that was named; those of the formats also with `_` for `-`, which some programs take for it.
fn headers(args: &ProbeArgs) -> anyhow::Result<Vec<HeaderName>> {
    let own = args.header.iter().map(|name| name.to_ascii_lowercase());
    let formats = Format::ALL.iter().map(|format| format.header().replace('-', "_"));
    let all = known_headers().iter().map(|name| (*name).to_owned()).chain(own).chain(formats);
    let named =
        |name: String| name.parse().map_err(|_| Misused(format!("--header: {name} is no name of a header")).into());
    all.map(named).collect()
}

/// What is asked, and what its answer without any header has to be.
enum Target {
    /// The token endpoint, by a client that nobody knows.
    Token(Uri),
    /// A resource behind the guard, without a token.
    Resource(Uri),
}

impl Target {
    fn of(url: &str) -> anyhow::Result<Self> {
        let wrong = || Misused(format!("--probe: {url} is no https URL without query"));
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        if uri.scheme_str() != Some("https") || uri.query().is_some() {
            return Err(wrong().into());
        }
        Ok(match uri.path() {
            "" | "/" => Self::Token(format!("{}{TOKEN_PATH}", url.trim_end_matches('/')).parse().map_err(|_| wrong())?),
            path if path.ends_with(TOKEN_PATH) => Self::Token(uri),
            _ => Self::Resource(uri),
        })
    }

    fn request(&self, header: Option<(&HeaderName, &str)>) -> anyhow::Result<Request<Bytes>> {
        let mut request = match self {
            Self::Token(uri) => {
                let form = "grant_type=client_credentials&client_id=certbind-probe";
                let request = Request::builder().method(Method::POST).uri(uri);
                request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form.into())?
            }
            Self::Resource(uri) => Request::builder().uri(uri).body(Bytes::new())?,
        };
        if let Some((name, value)) = header {
            request.headers_mut().insert(name, HeaderValue::from_str(value)?);
        }
        Ok(request)
    }

    /// Whether this is what certbind says to a client that shows nothing.
    fn is_plain(&self, told: &Told) -> bool {
        match self {
            Self::Token(_) => told.status == StatusCode::BAD_REQUEST && told.error == "invalid_client",
            Self::Resource(_) => told.status == StatusCode::UNAUTHORIZED && told.is_challenged,
        }
    }
}

struct Probe {
    fetcher: Fetcher,
    target: Target,
    certificate_from: Option<String>,
}

impl Probe {
    async fn all(&self, headers: &[HeaderName]) -> anyhow::Result<Vec<Found>> {
        let certificate = throw_away()?;
        let (plain, _) = self.ask(None).await?;
        anyhow::ensure!(
            self.target.is_plain(&plain),
            "nothing can be told: a request without any certificate was answered with {} {}, which is not how certbind refuses {}",
            plain.status,
            plain.error,
            match self.target {
                Target::Token(_) =>
                    "a client without one (invalid_client). If its reason in the audit log begins with forwarded_, the proxy sends a header with every request",
                Target::Resource(_) => "a request without a token (401 and a challenge)",
            }
        );
        let mut found = Vec::new();
        for header in headers {
            let value = value_of(header, &certificate);
            let (told, request_id) = self.ask(Some((header, &format!("{value}-probe-")))).await?;
            let mut verdict = self.verdict(header, &plain, &told);
            // Was it the name that was refused on the way, or that it is no certificate?
            if verdict == Verdict::Unclear && told.status.is_client_error() && told.error.is_empty() {
                let (whole, _) = self.ask(Some((header, &value))).await?;
                if whole == told && !self.is_the_guards(&told) {
                    verdict = Verdict::RefusedOnTheWay;
                }
            }
            found.push(Found { header: header.to_string(), verdict, status: told.status, request_id });
        }
        Ok(found)
    }

    fn verdict(&self, header: &HeaderName, plain: &Told, told: &Told) -> Verdict {
        match told.description.as_str() {
            _ if told == plain => Verdict::NoEffect,
            NOT_ACCEPTED if told.error == "invalid_request" => Verdict::Believed,
            ANOTHER_HEADER if told.error == "invalid_request" => Verdict::Refused,
            _ if self.is_the_guards(told) => self.at_the_guard(header),
            _ => Verdict::Unclear,
        }
    }

    /// The guard says 403 without a challenge to what it cannot read in one way; so may others.
    fn is_the_guards(&self, told: &Told) -> bool {
        matches!(self.target, Target::Resource(_)) && told.status == StatusCode::FORBIDDEN && !told.is_challenged
    }

    /// Its answer does not say which header it would have believed.
    fn at_the_guard(&self, header: &HeaderName) -> Verdict {
        let Some(from) = &self.certificate_from else { return Verdict::Unclear };
        let own = Format::ALL.into_iter().find(|format| format.as_str() == from).map(Format::header);
        let is_known = known_headers().contains(&header.as_str());
        match own {
            Some(own) if own == header.as_str() => Verdict::Believed,
            // What somebody named is the header that is configured.
            Some(_) if !is_known && !header.as_str().contains('_') => Verdict::Believed,
            Some(_) | None => Verdict::Refused,
        }
    }

    async fn ask(&self, header: Option<(&HeaderName, &str)>) -> anyhow::Result<(Told, Option<String>)> {
        for _ in 0..MOST_WAITS {
            let sent = self.fetcher.send(self.target.request(header)?).await;
            let response = sent.map_err(|error| CallError::Unreachable(error.into()))?;
            if response.status() != StatusCode::TOO_MANY_REQUESTS {
                let request_id = response.headers().get("x-request-id").and_then(|id| id.to_str().ok());
                return Ok((told(&response), request_id.map(str::to_owned)));
            }
            let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            tokio::time::sleep(Duration::from_secs(seconds.unwrap_or(1).clamp(1, 5))).await;
        }
        anyhow::bail!("nothing can be told: the server says again and again that it is asked too often")
    }
}

fn told(response: &Response<Bytes>) -> Told {
    let body: Value = serde_json::from_slice(response.body()).unwrap_or_default();
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    Told {
        status: response.status(),
        error: text("error"),
        description: text("error_description"),
        is_challenged: response.headers().contains_key(WWW_AUTHENTICATE),
    }
}

/// A certificate that nobody knows.
fn throw_away() -> anyhow::Result<Identity> {
    let validity = Validity::days_from(SystemClock.now().unix() - 3600, 1);
    Identity::self_signed(&LeafSpec::client("certbind-probe", validity)).context("no certificate can be made")
}

/// How a certificate is written into this header, or would be into one that is alike.
fn value_of(header: &HeaderName, certificate: &Identity) -> String {
    let base64 = STANDARD.encode(certificate.certificate());
    let pem =
        || format!("-----BEGIN%20CERTIFICATE-----%0A{}%0A-----END%20CERTIFICATE-----%0A", base64.replace('+', "%2B"));
    let name = header.as_str().replace('_', "-");
    match Format::ALL.into_iter().find(|format| format.header() == name) {
        Some(Format::Haproxy | Format::Traefik) => base64,
        Some(Format::Rfc9440) => format!(":{base64}:"),
        Some(Format::Xfcc) => format!("Cert=\"{}\"", pem()),
        Some(Format::Alb | Format::Nginx) | None => pem(),
    }
}

fn show(out: &mut dyn Write, url: &str, output: Output, is_fine: bool, found: &[Found]) -> anyhow::Result<()> {
    if output == Output::Json {
        let headers: Vec<_> = found.iter().map(Found::to_json).collect();
        writeln!(out, "{:#}", json!({ "url": url, "fine": is_fine, "headers": headers }))?;
        return Ok(());
    }
    let row = |found: &Found| {
        let id = found.request_id.as_ref().filter(|_| !found.verdict.is_fine());
        let id = id.map(|id| format!(" (request_id {id})")).unwrap_or_default();
        vec![found.header.clone(), found.verdict.as_str().to_owned(), format!("{}{id}", found.verdict.meaning())]
    };
    print::rows(out, output, &COLUMNS, &found.iter().map(row).collect::<Vec<_>>())?;
    Ok(())
}

impl Found {
    fn to_json(&self) -> Value {
        json!({
            "header": self.header,
            "verdict": self.verdict.as_str(),
            "status": self.status.as_u16(),
            "request_id": self.request_id,
        })
    }
}
