//! Whatever happens, and however much is logged: no token, assertion or private key is in it, and each line is one JSON object.

use std::collections::BTreeSet;
use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use certbind_devpki::{Identity, LeafSpec, Validity};
use certbind_proto::jws::{Algorithm, SigningKey};
use certbind_proto::request::Form;
use certbind_proto::time::{Clock as _, SystemClock};
use hyper::{StatusCode, Version};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::client::{Asserter, billing, by_assertion, tls};
use super::rig::{ISSUER, PKI, Process, Site, certbind, json_lines, output, within};

/// The longest line of a log: what a peer sends is cut.
const MAX_LINE: usize = 4096;

/// A run of the server at its most talkative, and everything secret that was in it.
struct Run {
    site: Site,
    server: Process,
    requests: BTreeSet<String>,
    secrets: Vec<String>,
}

impl Run {
    fn start() -> Self {
        let site = Site::new();
        site.configure("[log]\nlevel = \"trace\"\naudit = \"file:audit.jsonl\"\n", "");
        let disabled = fs::read_to_string(site.path("clients.d/billing.toml")).unwrap().replace("billing", "asleep");
        site.write("clients.d/asleep.toml", &(disabled + "state = \"disabled\"\n"));
        let server = site.start();
        let secrets = keys(&site);
        Self { site, server, requests: BTreeSet::new(), secrets }
    }

    /// Sends a token request in both versions of HTTP, and remembers what it came to.
    async fn ask(&mut self, who: Option<&Identity>, body: &str, headers: &[(&str, &str)]) {
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let mut connection = self.server.connect(who, version).await.unwrap();
            let answer = connection.post(body.to_owned(), headers).await.unwrap();
            self.requests.insert(answer.request_id().to_owned());
            if answer.status == StatusCode::OK {
                self.keep(&answer.access_token());
            }
        }
    }

    async fn assert(&mut self, assertion: &str) {
        self.keep(assertion);
        self.ask(Some(&PKI.batch.identity), &by_assertion(assertion).encode(), &[]).await;
    }

    /// A token or assertion, piece by piece: a log that cuts long texts would show a part of it.
    fn keep(&mut self, token: &str) {
        let pieces = token.split('.').flat_map(|part| part.as_bytes().chunks(40));
        let long = pieces.filter(|piece| piece.len() >= 20);
        self.secrets.extend(long.map(|piece| String::from_utf8(piece.to_vec()).unwrap()));
    }

    /// Ends the server, and looks at everything that it ever wrote.
    async fn finish(self) -> Vec<Value> {
        let (_, metrics) = self.server.operations("/metrics").await;
        let stdout = self.server.stdout();
        let stderr = self.server.stderr_at_end();
        let audit = fs::read_to_string(self.site.path("audit.jsonl")).unwrap();
        let shown = commands(&self.site);
        let all =
            [("stdout", &stdout), ("stderr", &stderr), ("audit", &audit), ("metrics", &metrics), ("commands", &shown)];
        for (name, text) in all {
            let found = self.secrets.iter().find(|secret| text.contains(secret.as_str()));
            assert_eq!(found, None, "a secret is in {name}");
        }
        assert!(stderr.lines().count() > 1000, "trace is more than {} lines", stderr.lines().count());
        for text in [&stderr, &audit] {
            assert_eq!(text.find(['\u{1b}', '\r', '\u{2028}', '\u{2029}']), None);
            assert!(text.lines().all(|line| line.len() < MAX_LINE), "a line is not cut");
            assert!(json_lines(text).iter().all(Value::is_object));
        }
        let events: Vec<Value> =
            json_lines(&audit).into_iter().filter(|event| event["request_id"].is_string()).collect();
        let known: BTreeSet<String> = events.iter().map(|event| event["request_id"].as_str().unwrap().into()).collect();
        assert_eq!(events.len(), known.len(), "P9: one event for each request");
        assert_eq!(known, self.requests);
        events
    }
}

/// What the commands say that look into the log and at what it tells of.
fn commands(site: &Site) -> String {
    let mut said = String::new();
    for command in
        ["search -o plain", "search -o table", "search -o json", "tail -n 100000", "verify", "verify -o json"]
    {
        let mut certbind = certbind();
        certbind.arg("audit").args(command.split(' ')).arg("audit.jsonl").current_dir(site.dir());
        let (stdout, stderr, status) = output(&mut certbind);
        assert!(status.success(), "{command}: {stderr}");
        said.extend([stdout, stderr]);
    }
    assert!(said.contains("client_unknown"), "they say something");
    said
}

/// Every private key of the site and of the store, in every notation in which it could be printed.
fn keys(site: &Site) -> Vec<String> {
    let database = rusqlite::Connection::open(site.path("data/certbind.db")).unwrap();
    let mut ders: Vec<Vec<u8>> =
        vec![database.query_row("SELECT secret FROM signing_keys", [], |row| row.get(0)).unwrap()];
    let clients = fs::read_dir(site.path("clients")).unwrap().map(|entry| entry.unwrap().path());
    let files = clients.chain([site.path("server.key"), site.path("ca.key")]);
    for file in files.filter(|file| file.extension().is_some_and(|extension| extension == "key")) {
        ders.push(PrivateKeyDer::from_pem_file(&file).unwrap().secret_der().to_vec());
    }
    assert!(ders.len() > 10);
    ders.iter().flat_map(|der| notations(der)).collect()
}

/// The whole DER in base64, and the private number of a P-256 key (RFC 5915 §3) in everything that `Debug` might use.
fn notations(der: &[u8]) -> Vec<String> {
    let at = der.windows(2).position(|bytes| bytes == [0x04, 0x20]).unwrap() + 2;
    let number = &der[at..at + 32];
    let hex: String = number.iter().map(|byte| format!("{byte:02x}")).collect();
    let decimal: Vec<String> = number[..8].iter().map(u8::to_string).collect();
    vec![
        STANDARD.encode(der),
        URL_SAFE_NO_PAD.encode(der),
        STANDARD.encode(number),
        URL_SAFE_NO_PAD.encode(number),
        hex.to_uppercase(),
        hex,
        decimal.join(", "),
    ]
}

fn form(pairs: &[(&str, &str)]) -> String {
    pairs.iter().fold(Form::default(), |form, (name, value)| form.with(name, value)).encode()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_61_no_secret_is_logged_whatever_happens_at_whatever_level() {
    let mut run = Run::start();
    good_ones(&mut run).await;
    wrong_certificates(&mut run).await;
    wrong_assertions(&mut run).await;
    wrong_methods(&mut run).await;
    wrong_requests(&mut run).await;
    tokens_in_hand(&mut run).await;

    let events = run.finish().await;
    let reasons: BTreeSet<&str> = events.iter().filter_map(|event| event["reason"].as_str()).collect();
    let expected = [
        "alg_not_allowed",
        "assertion_audience",
        "assertion_expired",
        "assertion_malformed",
        "assertion_replayed",
        "assertion_signature",
        "assertion_too_long",
        "assertion_type",
        "authorization_header",
        "body_too_large",
        "certificate_expired",
        "certificate_missing",
        "certificate_not_yet_valid",
        "certificate_revoked",
        "chain_untrusted",
        "client_disabled",
        "client_id_mismatch",
        "client_id_missing",
        "client_unknown",
        "content_type",
        "eku_missing",
        "form_malformed",
        "key_unknown",
        "method_not_registered",
        "method_unsupported",
        "parameter_repeated",
        "san_mismatch",
        "scope_not_allowed",
        "thumbprint_unknown",
        "two_methods",
    ];
    let missing: Vec<&str> = expected.into_iter().filter(|reason| !reasons.contains(reason)).collect();
    assert!(missing.is_empty(), "{missing:?} did not happen; these did: {reasons:?}");
}

async fn good_ones(run: &mut Run) {
    let body = billing().encode();
    run.ask(Some(&PKI.billing.identity), &body, &[]).await;
    run.ask(Some(&PKI.ledger.identity), &body.replace("billing", "ledger"), &[]).await;
    // The second of the two, over HTTP/2, is a replay.
    run.assert(&Asserter::batch().fresh()).await;
}

async fn wrong_certificates(run: &mut Run) {
    let now = SystemClock.now().unix();
    let leaf = |validity| {
        let spec = LeafSpec::client("billing", validity).uri("spiffe://certbind.dev/billing");
        PKI.intermediate.leaf(&spec).unwrap()
    };
    let expired = leaf(Validity { not_before: now - 7200, not_after: now - 3600 });
    let early = leaf(Validity { not_before: now + 3600, not_after: now + 7200 });
    let body = billing().encode();
    run.ask(None, &body, &[]).await;
    for who in [&PKI.thief, &PKI.revoked, &PKI.sibling] {
        run.ask(Some(&who.identity), &body, &[]).await;
    }
    for who in [&expired, &early, &PKI.server] {
        run.ask(Some(who), &body, &[]).await;
    }
    run.ask(Some(&PKI.billing.identity), &body.replace("billing", "ledger"), &[]).await;
    run.ask(Some(&PKI.billing.identity), &body.replace("billing", "asleep"), &[]).await;
    run.ask(Some(&PKI.billing.identity), &body.replace("billing", "nobody"), &[]).await;
    run.ask(Some(&PKI.billing.identity), &body.replace("billing", "batch"), &[]).await;
}

async fn wrong_assertions(run: &mut Run) {
    let (asserter, now) = (Asserter::batch(), SystemClock.now().unix());
    let good = json!({ "iss": "batch", "sub": "batch", "aud": ISSUER, "iat": now, "exp": now + 60, "jti": "j" });
    let spoilt = [
        ("aud", json!("https://elsewhere.example")),
        ("aud", json!(null)),
        ("exp", json!(now - 3600)),
        ("exp", json!(now + 86_400)),
        ("exp", json!("soon")),
        ("iat", json!(now + 3600)),
        ("nbf", json!(now + 3600)),
        ("iss", json!("billing")),
        ("sub", json!("nobody")),
        ("sub", json!("billing")),
        ("jti", json!(null)),
        ("jti", json!("x".repeat(4000))),
    ];
    for (claim, value) in spoilt {
        let mut claims = good.clone();
        claims[claim] = value;
        run.assert(&asserter.sign(&claims)).await;
    }
    let stranger = SigningKey::generate(Algorithm::Es256).unwrap();
    run.assert(&Asserter::new("batch", &stranger.to_pkcs8_der()).fresh()).await;
    run.assert(&Asserter::with_kid("batch", PKI.batch_assertion.key_pkcs8(), "unheard-of").fresh()).await;
    let (signed, payload) = (asserter.fresh(), URL_SAFE_NO_PAD.encode(good.to_string()));
    for header in [r#"{"alg":"none"}"#, r#"{"alg":"HS256"}"#, r#"{"alg":"RS256"}"#, r#"{"alg":"ES256","crit":["x"]}"#] {
        let header = URL_SAFE_NO_PAD.encode(header);
        let signature = signed.rsplit('.').next().unwrap();
        run.assert(&format!("{header}.{payload}.{signature}")).await;
    }
    run.assert(&format!("{signed}.")).await;
    run.assert(&signed.replace('.', "")).await;
}

async fn wrong_methods(run: &mut Run) {
    let batch = Some(&PKI.batch.identity);
    let (assertion, password) = (Asserter::batch().fresh(), "correct horse battery staple");
    run.keep(&assertion);
    run.secrets.extend([password.to_owned(), STANDARD.encode(password)]);
    let grant = ("grant_type", "client_credentials");
    let with_assertion = by_assertion(&assertion);
    let twice = [
        form(&[grant, ("client_id", "batch"), ("client_secret", password)]),
        form(&[grant, ("client_assertion", &assertion), ("client_assertion_type", "urn:example")]),
        form(&[grant, ("client_assertion", &assertion)]),
        with_assertion.clone().with("client_secret", password).encode(),
        with_assertion.clone().with("client_id", "billing").encode(),
        with_assertion.clone().with("client_assertion", &assertion).encode(),
        form(&[grant]),
        form(&[grant, ("assertion", &assertion)]),
    ];
    for body in twice {
        run.ask(batch, &body, &[]).await;
    }
    let basic = format!("Basic {}", STANDARD.encode(format!("batch:{password}")));
    run.secrets.push(STANDARD.encode(format!("batch:{password}")));
    for header in [basic, format!("Bearer {assertion}"), format!("DPoP {assertion}")] {
        run.ask(batch, &billing().encode(), &[("authorization", &header)]).await;
        run.ask(batch, &with_assertion.encode(), &[("authorization", &header)]).await;
    }
}

async fn wrong_requests(run: &mut Run) {
    let who = Some(&PKI.billing.identity);
    let assertion = Asserter::batch().fresh();
    run.keep(&assertion);
    let good = billing();
    let wrong = [
        good.clone().with("scope", "payments:everything").encode(),
        good.clone().with("scope", &assertion).encode(),
        good.clone().with("resource", &format!("https://localhost/{assertion}")).encode(),
        good.encode().replace("client_credentials", "password"),
        format!("{}&code={assertion}&code={assertion}", good.encode()),
        format!("{}%zz", by_assertion(&assertion).encode()),
        by_assertion(&assertion).with("padding", &"x".repeat(70_000)).encode(),
        json!({ "client_assertion": assertion }).to_string(),
    ];
    for body in wrong {
        run.ask(who, &body, &[]).await;
    }
    let json = json!({ "client_assertion": assertion }).to_string();
    run.ask(who, &json, &[("content-type", "application/json")]).await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let mut connection = run.server.connect(who, version).await.unwrap();
        for path in ["/oauth2/token", "/nowhere", "/.well-known/jwks.json"] {
            connection.get(&format!("{path}?access_token={assertion}")).await.unwrap();
        }
    }
}

/// Good, spoilt and foreign tokens, where tokens are asked about and taken back.
async fn tokens_in_hand(run: &mut Run) {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let mut connection = run.server.connect(Some(&PKI.billing.identity), version).await.unwrap();
        let answer = connection.token(&billing()).await.unwrap();
        let (token, assertion) = (answer.access_token(), Asserter::batch().fresh());
        run.requests.insert(answer.request_id().to_owned());
        run.keep(&token);
        run.keep(&assertion);
        let of_billing = |token: &str| form(&[("client_id", "billing"), ("token", token), ("token_type_hint", token)]);
        let bodies = [
            of_billing(&assertion),
            of_billing(&token.replace('.', "")),
            format!("{}&token={token}", of_billing(&token)),
            form(&[("client_id", "nobody"), ("token", &token)]),
            by_assertion(&assertion).with("token", &token).encode(),
            of_billing(&token),
            of_billing(&token),
        ];
        for path in ["/oauth2/introspect", "/oauth2/revoke"] {
            for body in &bodies {
                let answer = connection.post_to(path, body.clone(), &[]).await.unwrap();
                run.requests.insert(answer.request_id().to_owned());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_60_what_a_peer_says_is_one_short_line_of_json() {
    const SPEAKS_TERMINAL: &str =
        "\u{1b}[31mred\u{1b}]0;title\u{7}\r\n{\"level\":\"error\"}\u{2028}\u{2029}\u{0}\u{7f}\u{9b}";
    let mut run = Run::start();
    let long = SPEAKS_TERMINAL.repeat(100);
    for client_id in [SPEAKS_TERMINAL, &long, &"x".repeat(60_000)] {
        run.ask(None, &billing().encode().replace("billing", &percent(client_id)), &[]).await;
    }
    for kid in [SPEAKS_TERMINAL, &long, &"k".repeat(12_000)] {
        let asserter = Asserter::with_kid("batch", PKI.batch_assertion.key_pkcs8(), kid);
        run.assert(&asserter.fresh()).await;
        run.assert(&Asserter::with_kid(SPEAKS_TERMINAL, PKI.batch_assertion.key_pkcs8(), kid).fresh()).await;
    }
    run.ask(None, &billing().encode().replace("billing", &"x".repeat(1_000_000)), &[]).await;
    let agents = ["\u{1b}[31m", "a\rb", "\u{2028}", "a\r\n b", &"u".repeat(1_000_000)];
    for agent in agents {
        let answer = user_agent(&run.server, agent).await;
        // An agent that is merely odd gets its token; one that breaks HTTP does not get that far.
        if let Some(id) = answer.lines().find_map(|line| line.strip_prefix("x-request-id: ")) {
            run.requests.insert(id.to_owned());
        }
    }
    let events = run.finish().await;
    assert!(events.iter().any(|event| event["client_id"].as_str().is_some_and(|id| id.contains("[31mred"))));
}

/// Every byte as `%XX`.
fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// A request by hand, as no library would send it.
async fn user_agent(server: &Process, agent: &str) -> String {
    let body = billing().encode();
    let request = format!(
        "POST /oauth2/token HTTP/1.1\r\nHost: localhost:8443\r\nConnection: close\r\nUser-Agent: {agent}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = tls(server.address, Some(&PKI.billing.identity), &["http/1.1"]).await.unwrap();
    let mut answer = Vec::new();
    // The server may close before it has read everything.
    let _ = within(stream.write_all(request.as_bytes())).await;
    let _ = stream.flush().await;
    let _ = within(stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}
