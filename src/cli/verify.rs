//! `certbind verify`: says of an access token whether it is good, check by check.

use std::fmt::Display;
use std::io::{self, Read as _, Write};
use std::path::PathBuf;

use anyhow::Context as _;
use certbind_proto::access_token::{self, AccessToken, Expect};
use certbind_proto::bearer::MAX_TOKEN;
use certbind_proto::binding::{self, Requirement};
use certbind_proto::cert::Certificate;
use certbind_proto::jws::Parsed;
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::{Clock as _, SystemClock, Timestamp};
use certbind_verify::fetch::{self, AddressPolicy, OnlineVerifier, Polling, Revocation};
use certbind_verify::{Algorithms, Demand, Settings};
use clap::Args;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::token::{ServerArgs, Variables, roots, typed};
use super::{Exit, Misused, explain};
use crate::config::Environment;

/// Which token, and what it is held against.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The token; a dash reads it from standard input, where it does not show in the list of processes.
    token: String,
    #[command(flatten)]
    server: ServerArgs,
    /// The certificate of the connection that presents the token, PEM.
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// The resource that the token must be for; without it any will do.
    #[arg(long, value_name = "URI")]
    audience: Option<String>,
    /// The scope that the token must carry.
    #[arg(long)]
    scope: Option<String>,
    /// Look as well whether the issuer's list of what is revoked has the token, its certificate or its client.
    #[arg(long)]
    revocations: bool,
}

/// Prints each check and why it passed or failed, and then the verdict of the verifier itself.
///
/// # Errors
/// When a file cannot be read. A token that is not good is [`Exit::NotValid`].
pub(super) fn run(args: &VerifyArgs, environment: &Environment, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let token = read_token(&args.token)?;
    let certificate = args.cert.as_ref().map(read_certificate).transpose()?;
    let now = SystemClock.now();
    let mut report = Report { out, now };
    let Some(parsed) = report.step("form", Parsed::parse(&token))? else { return Ok(Exit::NotValid) };
    report.say("alg", parsed.header.alg.as_str())?;
    report.say("kid", parsed.header.kid.as_deref().unwrap_or("none"))?;

    let claimed = parsed.claims().ok();
    let text = |name: &str| claimed.and_then(|claims| claims.get(name)?.as_str()).map(str::to_owned);
    let issuer = Variables(environment).or(args.server.issuer.clone(), "CERTBIND_ISSUER");
    let missing = || Misused("--issuer is missing: a token must not choose who is trusted".to_owned());
    let issuer = issuer.ok_or_else(missing)?;
    let audience = args.audience.clone().or_else(|| text("aud")).unwrap_or_default();
    let demand = Demand {
        scope: typed("--scope", args.scope.as_deref().unwrap_or_default())?,
        binding: Requirement::WhenBound,
        ..Demand::default()
    };
    let settings = Settings::new(&issuer, &audience);
    let expect = Expect { issuer: &issuer, audience: &audience, clock_skew: settings.clock_skew };
    let revocation = match args.revocations {
        true => Revocation::Polled(Polling::default()),
        false => Revocation::Ignored,
    };
    let fetching = fetch::Settings::new(roots(&args.server, environment)?, AddressPolicy::AllowPrivate);
    let fetching = fetch::Settings { revocation, ..fetching };
    let verifier = OnlineVerifier::new(settings, fetching)?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if !runtime.block_on(verifier.warm_up(now)) {
        let lacking = match verifier.offline().keys().set(now) {
            Some(_) => "the list of what is revoked",
            None => "the keys",
        };
        let why = verifier.trouble().map(|why| format!(": {why}")).unwrap_or_default();
        writeln!(io::stderr(), "certbind: {lacking} of {issuer} cannot be fetched{why}")?;
        return Ok(Exit::Unreachable);
    }
    let keys = verifier.offline().keys().set(now).unwrap_or_default();
    report.step("signature", keys.verify(&parsed, Algorithms::DEFAULT))?;
    if let Some(claims) = report.step("claims", access_token::check(&parsed, &expect, now))? {
        report.claims(&claims)?;
        report.say("presented", certificate.map_or("no certificate".to_owned(), |own| format!("x5t#S256 {own}")))?;
        report.step("binding", binding::check(claims.cnf.as_ref(), certificate.as_ref(), demand.binding))?;
        if let Some(list) = verifier.offline().revocations() {
            let as_of = list.as_of().map_or("never".to_owned(), |time| time.to_string());
            report.say("revoked", format!("a list of {} entries, complete up to {as_of}", list.len()))?;
            report.step("revocation", list.find(&claims).map_or(Ok(()), Err))?;
        }
        let lacking = demand.scope.difference(&claims.scope);
        let has_scope = if lacking.is_empty() { Ok(()) } else { Err(format!("lacks {lacking}")) };
        report.step("scope", has_scope)?;
    }

    let header = format!("Bearer {token}");
    let verdict = runtime.block_on(verifier.verify([header.as_bytes()], certificate.as_ref(), &demand, now));
    let Err(denied) = verdict else {
        writeln!(report.out, "verdict    good")?;
        return Ok(Exit::Done);
    };
    writeln!(report.out, "verdict    refused: {}", denied.reason())?;
    if let Some(challenge) = denied.challenge() {
        writeln!(report.out, "answer     {} WWW-Authenticate: {challenge}", denied.status())?;
    }
    if let Some(reason) = explain::find(denied.reason()) {
        writeln!(report.out, "cure       {}", reason.cure)?;
    }
    Ok(Exit::NotValid)
}

struct Report<'a> {
    out: &'a mut dyn Write,
    now: Timestamp,
}

impl Report<'_> {
    /// One check: its value when it passed, its fault on the page when it did not.
    fn step<T, E: Display>(&mut self, name: &str, outcome: Result<T, E>) -> io::Result<Option<T>> {
        match outcome {
            Ok(value) => {
                writeln!(self.out, "{name:<10} ok")?;
                Ok(Some(value))
            }
            Err(fault) => {
                writeln!(self.out, "{name:<10} NO  {fault}")?;
                Ok(None)
            }
        }
    }

    fn say(&mut self, name: &str, value: impl Display) -> io::Result<()> {
        writeln!(self.out, "  {name:<12} {value}")
    }

    fn claims(&mut self, claims: &AccessToken) -> io::Result<()> {
        self.say("iss", &claims.iss)?;
        self.say("client_id", &claims.client_id)?;
        self.say("aud", claims.aud.join(" "))?;
        self.say("scope", &claims.scope)?;
        self.say("expires", format!("{}, in {} s", claims.exp, claims.exp.since(self.now).as_secs()))?;
        let bound = claims.cnf.as_ref().map(|cnf| format!("x5t#S256 {}", cnf.x5t_s256));
        self.say("cnf", bound.as_deref().unwrap_or("none: the token is not bound"))
    }
}

/// Reads no more than a token can have.
fn read_token(typed: &str) -> anyhow::Result<String> {
    if typed != "-" {
        return Ok(typed.to_owned());
    }
    let mut text = String::new();
    io::stdin().take(u64::try_from(MAX_TOKEN * 2)?).read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}

fn read_certificate(path: &PathBuf) -> anyhow::Result<Thumbprint> {
    let der = CertificateDer::from_pem_file(path).with_context(|| format!("no certificate in {}", path.display()))?;
    let certificate = Certificate::parse(&der).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(*certificate.thumbprint())
}
