//! `certbind demo`: a token is issued, used, stolen and refused, over real TLS on loopback.
//!
//! Every line is done, timed and checked; the exit code is 0 only if each came out as it should.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use certbind_devpki::{DevPki, Validity};
use certbind_proto::assertion::{self, Build, CLIENT_ASSERTION_TYPE};
use certbind_proto::entropy::{OsEntropy, unguessable_id};
use certbind_proto::jws::{Parsed, Signer, SigningKey};
use certbind_proto::request::{CLIENT_CREDENTIALS, Form};
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::{Clock as _, SystemClock, Timestamp};
use owo_colors::OwoColorize as _;
use serde_json::Value;

use super::Exit;
use super::dev::caller::{Answer, Caller};
use super::dev::running::Running;
use super::dev::setup::Setup;
use crate::http::{REVOKE_PATH, TOKEN_PATH};

/// How long a revocation may take until it is in force.
const REVOCATION_DEADLINE: Duration = Duration::from_secs(5);

/// Runs the demo.
///
/// # Errors
/// When it could not be run at all: no port, no temporary folder.
pub fn run(out: &mut dyn Write) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(show(out))
}

async fn show(out: &mut dyn Write) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let folder = TemporaryFolder::make()?;
    let now = SystemClock.now();
    let pki = DevPki::generate(Validity::days_from(now.unix() - 3600, 1))?;
    let made = started.elapsed();

    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let running = Running::start_with_pki(&folder.path, any, any, &pki).await?;
    writeln!(
        out,
        "certbind {} demo: real TLS on loopback, throw-away keys ({} clients and their PKI, made in {})\n",
        env!("CARGO_PKG_VERSION"),
        pki.clients().len(),
        milliseconds(made),
    )?;
    let mut scene = Scene { out, passed: true, lines: 0 };
    let outcome = play(&mut scene, &running, &pki).await;
    let (passed, lines) = (scene.passed, scene.lines);
    running.stop().await;
    outcome?;

    if !passed {
        writeln!(out, "\n  Not everything came out as it should.")?;
        return Ok(Exit::Failure);
    }
    writeln!(out, "\n  All {lines} came out as they should, in {}.", milliseconds(started.elapsed()))?;
    writeln!(out, "  Next: certbind dev --dir dev    the same set-up, kept running, with curl lines to paste")?;
    Ok(Exit::Done)
}

async fn play(scene: &mut Scene<'_>, running: &Running, pki: &DevPki) -> anyhow::Result<()> {
    let setup = running.setup();
    let root = pki.root.certificate();
    let billing = &pki.billing.identity;
    let mut server = Caller::connect(running.server_address(), root, Some(billing)).await?;
    let mut api = Caller::connect(running.api_address(), root, Some(billing)).await?;
    let mut thief = Caller::connect(running.api_address(), root, Some(&pki.thief.identity)).await?;
    writeln!(
        scene.out,
        "  server {}   API {}   key exchange {}\n",
        setup.issuer(),
        setup.resource(),
        server.key_exchange()
    )?;

    let by_certificate = Form::default().with("grant_type", CLIENT_CREDENTIALS).with("client_id", "billing");
    let (answer, took) = timed(server.post(TOKEN_PATH, &by_certificate)).await?;
    let token = issued(&answer);
    scene.line("billing proves itself by its TLS certificate and gets a token", &answer, took, token.is_some())?;
    let token = token.context("the server issued no token")?;
    let bound = Thumbprint::of_der(billing.certificate()).to_string();
    let claims_hold = scene.claims(&token, &bound)?;

    let assertion = signed_assertion(setup, pki)?;
    let by_assertion = Form::default()
        .with("grant_type", CLIENT_CREDENTIALS)
        .with("client_assertion_type", CLIENT_ASSERTION_TYPE)
        .with("client_assertion", &assertion);
    let (answer, took) = timed(server.post(TOKEN_PATH, &by_assertion)).await?;
    let second = issued(&answer);
    let second_bound = second.as_deref().and_then(confirmation).is_some_and(|x5t| x5t == bound);
    scene.line(
        "batch signs an assertion on the same connection: its token is bound as well",
        &answer,
        took,
        second_bound,
    )?;
    let second = second.context("the server issued no token for the assertion")?;

    for (what, token) in [("billing's token opens the API", &token), ("batch's token opens it too", &second)] {
        let (answer, took) = timed(api.get("/payments", token)).await?;
        scene.line(what, &answer, took, answer.status == 200)?;
    }
    let (answer, took) = timed(thief.get("/payments", &token)).await?;
    let refused = answer.status == 401 && answer.error() == Some("invalid_token");
    scene.line("a thief sends billing's token with his own certificate", &answer, took, refused)?;
    let (answer, took) = timed(server.post(TOKEN_PATH, &by_assertion)).await?;
    scene.line("the same assertion is sent a second time", &answer, took, is_invalid_client(&answer))?;

    let revoke = Form::default().with("client_id", "billing").with("token", &token);
    let (answer, took) = timed(server.post(REVOKE_PATH, &revoke)).await?;
    scene.line("billing takes its token back", &answer, took, answer.status == 200)?;
    let (answer, took) = timed(until_api_refuses(&mut api, &token)).await?;
    let refused = answer.status == 401 && answer.error() == Some("invalid_token");
    scene.line("the API has polled what is revoked, and refuses that token", &answer, took, refused)?;

    let validity = Validity::days_from(SystemClock.now().unix() - 60, 1);
    setup.replace_crl(&(pki.revoke(2, &[&pki.billing], validity)?.pem() + &pki.root_crl.pem()))?;
    let (answer, took) = timed(until_refused(&mut server, &by_certificate)).await?;
    let what = "billing's certificate is revoked: refused on the connection that is open";
    scene.line(what, &answer, took, is_invalid_client(&answer))?;
    let (answer, took) = timed(until_api_refuses(&mut api, &second)).await?;
    let refused = answer.status == 401 && answer.error() == Some("invalid_token");
    scene.line("and so is batch's token at the API, which is bound to that certificate", &answer, took, refused)?;
    scene.passed &= claims_hold;
    Ok(())
}

/// The audience of the show, and whether all went well so far.
struct Scene<'a> {
    out: &'a mut dyn Write,
    passed: bool,
    lines: u32,
}

impl Scene<'_> {
    fn line(&mut self, what: &str, answer: &Answer, took: Duration, good: bool) -> anyhow::Result<()> {
        self.passed &= good;
        self.lines += 1;
        let mark = match good {
            true => "ok".green().to_string(),
            false => "NO".red().to_string(),
        };
        let code = format!("{} {}", answer.status.as_u16(), answer.error().unwrap_or_default());
        writeln!(self.out, "  {mark}  {what:<75} {code:<20} {:>9}", milliseconds(took))?;
        Ok(())
    }

    /// Shows the claims of a token, and whether it is bound to this thumbprint.
    fn claims(&mut self, token: &str, bound: &str) -> anyhow::Result<bool> {
        let claims = claims_of(token).context("the token has no claims")?;
        for name in ["iss", "sub", "aud", "scope"] {
            let value = claims.get(name).and_then(Value::as_str).unwrap_or_default();
            writeln!(self.out, "        {name:<6} {value}")?;
        }
        let expires = Timestamp::from_unix(claims.get("exp").and_then(Value::as_i64).unwrap_or_default());
        writeln!(self.out, "        exp    in {} s", expires.since(SystemClock.now()).as_secs())?;
        let x5t = confirmation(token).unwrap_or_default();
        let pointer = "<- SHA-256 of billing's certificate".yellow().to_string();
        writeln!(self.out, "        cnf    x5t#S256 {x5t} {pointer}")?;
        Ok(x5t == bound)
    }
}

/// Repeats a request on its open connection until the server refuses it.
async fn until_refused(server: &mut Caller, form: &Form) -> anyhow::Result<Answer> {
    let started = Instant::now();
    loop {
        let answer = server.post(TOKEN_PATH, form).await?;
        if answer.status != 200 || started.elapsed() > REVOCATION_DEADLINE {
            return Ok(answer);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Repeats a request until the API refuses it.
async fn until_api_refuses(api: &mut Caller, token: &str) -> anyhow::Result<Answer> {
    let started = Instant::now();
    loop {
        let answer = api.get("/payments", token).await?;
        if answer.status != 200 || started.elapsed() > REVOCATION_DEADLINE {
            return Ok(answer);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn signed_assertion(setup: &Setup, pki: &DevPki) -> anyhow::Result<String> {
    let algorithm = certbind_proto::jws::Algorithm::Es256;
    let key = SigningKey::from_pkcs8_der(pki.batch_assertion.key_pkcs8(), algorithm)?;
    let jti = unguessable_id(&OsEntropy);
    let build = Build {
        client_id: "batch",
        issuer: setup.issuer(),
        jti: &jti,
        now: SystemClock.now(),
        lifetime: assertion::MAX_BUILT_LIFETIME,
    };
    Ok(assertion::build(&Signer::new(key, assertion::TYP, None), &build)?)
}

fn issued(answer: &Answer) -> Option<String> {
    answer.text("access_token").filter(|_| answer.status == 200).map(str::to_owned)
}

fn is_invalid_client(answer: &Answer) -> bool {
    answer.status == 400 && answer.error() == Some("invalid_client")
}

fn claims_of(token: &str) -> Option<Value> {
    let parsed = Parsed::parse(token).ok()?;
    parsed.claims().ok().map(|claims| Value::Object(claims.clone()))
}

fn confirmation(token: &str) -> Option<String> {
    claims_of(token)?.get("cnf")?.get("x5t#S256")?.as_str().map(str::to_owned)
}

async fn timed<T>(step: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<(T, Duration)> {
    let started = Instant::now();
    step.await.map(|value| (value, started.elapsed()))
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

/// A folder that is gone when the demo is over.
struct TemporaryFolder {
    path: std::path::PathBuf,
}

impl TemporaryFolder {
    fn make() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("certbind-demo-{}", unguessable_id(&OsEntropy)));
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
