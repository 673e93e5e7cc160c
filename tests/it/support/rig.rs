//! A server on a folder of its own, with a clock that stands still until it is moved.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use certbind::cli::serve::{Platform, Server, Sockets};
use certbind::config::{self, Environment, Sources};
use certbind::net::Listener;
use certbind_devpki::{Crl, Identity};
use certbind_proto::error::ErrorCode;
use certbind_proto::response::is_description;
use certbind_proto::time::{Clock as _, FixedClock, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::assertion::Assertion;
use super::setup::{Setup, prepare};
use super::{Answer, Ask, BUSY, Caller, Http, PKI, START, Token, happenings};

/// The longest time until a change is in force, and until a line is in the audit log.
const SOON: Duration = Duration::from_secs(1 + BUSY);

/// A running server.
pub(crate) struct Rig {
    dir: TempDir,
    set: Vec<String>,
    server: Server,
    clock: Arc<FixedClock>,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Setup)) -> Self {
        let (dir, set) = prepare(change);
        let clock = Arc::new(FixedClock::at(*START));
        let server = serve(dir.path(), set.clone(), &clock).await.unwrap();
        Self { dir, set, server, clock }
    }

    /// Why a server with this change does not start.
    pub(crate) async fn refuses_to_start(change: impl FnOnce(&mut Setup)) -> String {
        let (dir, set) = prepare(change);
        let outcome = serve(dir.path(), set, &Arc::new(FixedClock::at(*START))).await;
        format!("{:#}", outcome.err().expect("no server"))
    }

    /// The same folder with a new server on it, and a key of the configuration set to something else.
    pub(crate) async fn restart_with(mut self, set: &str) -> Self {
        self.set.push(set.to_owned());
        self.restart().await
    }

    /// The same folder with a new server on it.
    pub(crate) async fn restart(self) -> Self {
        self.server.stop().await;
        let server = serve(self.dir.path(), self.set.clone(), &self.clock).await.unwrap();
        Self { server, ..self }
    }

    /// The same folder with a new server on it, after something was changed in it while none ran.
    pub(crate) async fn restart_after(self, change: impl FnOnce(&Path)) -> Self {
        self.server.stop().await;
        change(self.dir.path());
        let server = serve(self.dir.path(), self.set.clone(), &self.clock).await.unwrap();
        Self { server, ..self }
    }

    /// A second server on the same folder, beside this one.
    pub(crate) async fn beside(&self) -> Server {
        serve(self.dir.path(), self.set.clone(), &self.clock).await.unwrap()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address().expect("[listen.mtls]")
    }

    pub(crate) fn public_address(&self) -> SocketAddr {
        self.server.public_address().expect("a second listener")
    }

    /// What the server counts, as `/metrics` shows it.
    pub(crate) fn metrics(&self) -> String {
        self.server.metrics().render()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Moves the server's clock; seconds since the start.
    pub(crate) fn at(&self, seconds: i64) {
        self.clock.set(Timestamp::from_millis(START.millis() + seconds * 1000));
    }

    /// A good assertion of `batch`.
    pub(crate) fn assertion(&self) -> Assertion {
        Assertion::of_batch(self.now())
    }

    /// The good request of `private_key_jwt`, on a connection with a certificate.
    pub(crate) fn batch(&self) -> Ask {
        self.batch_with(&self.assertion())
    }

    /// The same with this assertion.
    pub(crate) fn batch_with(&self, assertion: &Assertion) -> Ask {
        Ask::by_assertion(&assertion.sign()).over(&PKI.batch.identity)
    }

    pub(crate) async fn connect(&self, identity: Option<&Identity>, http: Http) -> Caller {
        Caller::connect(self.address(), identity, http).await
    }

    /// Sends a request over a connection of its own.
    pub(crate) async fn send(&self, ask: &Ask) -> Answer {
        self.connect(ask.certificate.as_ref(), Http::One).await.send(ask).await
    }

    /// Sends a request that is refused: this status and code on the wire, this one reason in the audit log.
    pub(crate) async fn refuses(&self, case: &str, ask: &Ask, status: u16, error: &str, reason: &str) -> Answer {
        let answer = self.send(ask).await;
        self.is_refused(case, &answer, status, error, reason).await;
        answer
    }

    /// The answer is a refusal by the book (RFC 6749 §5.2), and the audit log knows why.
    pub(crate) async fn is_refused(&self, case: &str, answer: &Answer, status: u16, error: &str, reason: &str) {
        let audit = self.audit_of(answer).await;
        let seen = (answer.status, answer.json()["error"].as_str().unwrap_or_default().to_owned());
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!((seen.0, seen.1.as_str()), (status, error), "{case}: {text} {audit}");
        assert_eq!(audit["reason"], reason, "{case}: {audit}");
        assert_eq!((&audit["event"], &audit["outcome"]), (&json!("token.refused"), &json!("failure")), "{case}");
        assert_eq!(audit["error"], error, "{case}");
        is_error_body(case, answer);
    }

    /// Sends a request that is answered with a token.
    pub(crate) async fn issues(&self, case: &str, ask: &Ask) -> Token {
        let answer = self.send(ask).await;
        self.is_issued(case, answer).await
    }

    /// The answer is a success by the book (RFC 6749 §5.1).
    pub(crate) async fn is_issued(&self, case: &str, answer: Answer) -> Token {
        let audit = self.audit_of(&answer).await;
        assert_eq!(answer.status, 200, "{case}: {} {audit}", String::from_utf8_lossy(&answer.body));
        assert_eq!(answer.header("content-type"), Some("application/json"), "{case}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{case}");
        assert_eq!(answer.header("pragma"), Some("no-cache"), "{case}");
        assert_eq!(answer.json()["token_type"], "Bearer", "{case}");
        assert_eq!(answer.json().get("refresh_token"), None, "{case}");
        assert_eq!((&audit["event"], &audit["outcome"]), (&json!("token.issued"), &json!("success")), "{case}");
        let token = Token::new(answer, audit);
        assert!(!token.audit.to_string().contains(&token.text), "{case}: the token is in the audit log");
        assert_eq!(token.audit["jti"], token.claims["jti"], "{case}");
        token
    }

    /// The one line of the audit log about this answer.
    pub(crate) async fn audit_of(&self, answer: &Answer) -> Value {
        let id = answer.header("x-request-id").unwrap_or_else(|| panic!("no X-Request-Id: {answer:?}")).to_owned();
        let lines = self.audit_until(|line| line["request_id"] == id.as_str()).await;
        assert_eq!(lines.len(), 1, "one decision, one line: {lines:?}");
        lines.into_iter().next().unwrap()
    }

    /// The lines of the audit log that say this, as soon as there is one.
    pub(crate) async fn audit_until(&self, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        self.audit_lines(1, wanted).await
    }

    /// The lines of the audit log that say this, as soon as there are so many.
    pub(crate) async fn audit_lines(&self, count: usize, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let began = Instant::now();
        loop {
            let found: Vec<_> = self.audit().into_iter().filter(|line| wanted(line)).collect();
            if found.len() >= count {
                return found;
            }
            assert!(began.elapsed() < SOON, "no such line in the audit log: {:?}", self.audit());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// What the audit log tells of so far; a line that is still being written is left out, and so is the chain.
    pub(crate) fn audit(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path("audit.jsonl")).unwrap();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        happenings(whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    /// Asks again until the answer is as it should be. Says how long it took.
    pub(crate) async fn soon(
        &self,
        what: &str,
        caller: &mut Caller,
        ask: impl Fn() -> Ask,
        good: impl Fn(&Answer) -> bool,
    ) -> Duration {
        let began = Instant::now();
        loop {
            let answer = caller.send(&ask()).await;
            if good(&answer) {
                return began.elapsed();
            }
            assert!(began.elapsed() < SOON, "{what}: not in time, still {answer:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Replaces a file as a careful operator does: written beside, then renamed over.
    pub(crate) fn replace(&self, name: &str, text: &str) {
        let beside = self.path(&format!("{name}.new~"));
        fs::write(&beside, text).unwrap();
        fs::rename(&beside, self.path(name)).unwrap();
    }

    /// Replaces a client's file.
    pub(crate) fn replace_client(&self, client_id: &str, text: &str) {
        self.replace(&format!("clients.d/{client_id}.toml"), text);
    }

    /// Replaces the intermediate's revocation list.
    pub(crate) fn replace_crl(&self, crl: &Crl) {
        self.replace("crl.pem", &(crl.pem() + &PKI.root_crl.pem()));
    }

    /// Fails unless ordinary clients are served still; then stops the server.
    pub(crate) async fn end(self) {
        self.at(0);
        self.issues("at the end", &Ask::billing()).await;
        self.issues("at the end", &self.batch()).await;
        self.stop().await;
    }

    /// Stops the server.
    pub(crate) async fn stop(self) {
        self.server.stop().await;
    }
}

/// Starts a server on what is in the folder.
pub(crate) async fn serve(dir: &Path, set: Vec<String>, clock: &Arc<FixedClock>) -> anyhow::Result<Server> {
    let sources = Sources { file: dir.join("certbind.toml"), environment: Environment::default(), set };
    let opened = config::open(&sources, clock.now()).map_err(|rejected| anyhow::anyhow!("{rejected}"))?;
    let listener = Listener::bind(opened.checked.config.mtls.as_ref().expect("[listen.mtls]").address)?;
    let platform = Platform { clock: Arc::clone(clock) as _, ..Platform::default() };
    Server::start(opened, Sockets::with_mtls(listener), platform).await
}

/// The form that every refusal has, whatever its cause (RFC 6749 §5.2, RFC 9110 §15.5.2).
fn is_error_body(case: &str, answer: &Answer) {
    let body = answer.json();
    let members: Vec<_> = body.as_object().expect("a JSON object").keys().map(String::as_str).collect();
    assert_eq!(members, ["error", "error_description"], "{case}");
    assert!(is_description(body["error_description"].as_str().unwrap()), "{case}: {body}");
    let codes = [
        ErrorCode::InvalidRequest,
        ErrorCode::InvalidClient,
        ErrorCode::InvalidScope,
        ErrorCode::InvalidTarget,
        ErrorCode::UnauthorizedClient,
        ErrorCode::UnsupportedGrantType,
        ErrorCode::TemporarilyUnavailable,
        ErrorCode::ServerError,
    ];
    assert!(codes.iter().any(|code| body["error"] == code.as_str()), "{case}: {body}");
    assert_eq!(answer.header("content-type"), Some("application/json"), "{case}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{case}");
    assert_eq!(answer.status == 401, answer.headers.contains_key("www-authenticate"), "{case}: a 401 has a challenge");
}
