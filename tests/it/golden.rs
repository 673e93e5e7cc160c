//! What users and their tools see, held against `tests/golden/`.

use std::fmt::Write as _;
use std::process::Command;

use certbind_devpki::{LeafSpec, Validity};
use hyper::Method;
use serde_json::{Value, json};

use crate::revocation::{api, asking, resource_servers, revoking};
use crate::support::caller::raw;
use crate::support::finish::Finish as _;
use crate::support::setup::tls_client;
use crate::support::{Answer, Ask, PKI, Rig, START, Setup, golden};

const WELL_KNOWN: &str = "/.well-known/oauth-authorization-server";
const JWKS: &str = "/.well-known/jwks.json";

#[tokio::test]
async fn golden_metadata() {
    let default: fn(&mut Setup) = |_| {};
    for (name, change) in [
        ("metadata.default.json", default),
        ("metadata.fapi2.json", |setup| setup.set("profile", "fapi2")),
        ("metadata.two-listeners.json", Setup::two_listeners),
    ] {
        let rig = Rig::with(change).await;
        let document = rig.send(&Ask::get(WELL_KNOWN)).await.json();
        golden::holds(name, &pretty(&document));
        rig.end().await;
    }
}

#[tokio::test]
async fn golden_jwks() {
    for algorithm in ["ES256", "EdDSA", "PS256", "RS256"] {
        let rig = Rig::with(|setup| setup.set("tokens.algorithm", algorithm)).await;
        let mut set = rig.send(&Ask::get(JWKS)).await.json();
        for key in set["keys"].as_array_mut().unwrap() {
            mask(key, &["kid", "x", "y", "n"]);
        }
        golden::holds(&format!("jwks.{algorithm}.json"), &pretty(&set));
        rig.end().await;
    }
}

#[tokio::test]
async fn golden_documents_headers() {
    let rig = Rig::start().await;
    let mut seen = String::new();
    for (case, ask) in [
        ("metadata", Ask::get(WELL_KNOWN)),
        ("keys", Ask::get(JWKS)),
        ("keys, known already", Ask::get(JWKS).header("if-none-match", "*")),
    ] {
        let answer = rig.send(&ask).await;
        show(&mut seen, case, &Answer { body: Vec::new().into(), ..answer });
    }
    golden::holds("documents.txt", &seen);
    rig.end().await;
}

#[tokio::test]
async fn golden_token_response() {
    let rig = Rig::start().await;
    let token = rig.issues("billing", &Ask::billing()).await;
    let mut body = token.answer.json();
    mask(&mut body, &["access_token"]);
    let answer = Answer { body: body.to_string().into(), ..token.answer };
    let mut seen = String::new();
    show(&mut seen, "a token", &answer);
    golden::holds("token.txt", &seen);
    let (mut header, mut claims) = (token.header, token.claims);
    mask(&mut header, &["kid"]);
    mask(&mut claims, &["iat", "exp", "jti", "cnf"]);
    golden::holds("token.json", &pretty(&json!({ "header": header, "claims": claims })));
    rig.end().await;
}

#[tokio::test]
async fn golden_errors() {
    let rig = Rig::with(refusing).await;
    let expired = Validity { not_before: START.unix() - 60, not_after: START.unix() - 1 };
    let expired = PKI.intermediate.leaf(&LeafSpec::client("batch", expired)).unwrap();
    let mut seen = String::new();
    for (case, ask) in [
        ("the form repeats a parameter", Ask::billing().with("client_id", "billing")),
        ("the content type is another", Ask::billing().content_type("application/json")),
        ("parameters in the URL", Ask::billing().path("/oauth2/token?x")),
        ("the body is too large", Ask::billing().with("x", &"x".repeat(70_000))),
        ("no grant_type", Ask::billing().without("grant_type")),
        (
            "two methods without an assertion",
            Ask::billing().with("client_secret", "s").header("authorization", "Basic x"),
        ),
        ("two methods, one an assertion", rig.batch().with("client_secret", "s")),
        ("an Authorization header", Ask::billing().header("authorization", "Basic x")),
        ("any wrong credential", Ask::billing().over(&PKI.thief.identity)),
        ("an unknown client", Ask::by_certificate("nobody", &PKI.billing.identity)),
        ("a grant that is not the client's", Ask::by_certificate("no-grant", &PKI.billing.identity)),
        ("a grant that there is not", Ask::billing().set("grant_type", "password")),
        ("a scope that is not the client's", Ask::billing().with("scope", "admin")),
        ("a resource that is not the client's", Ask::billing().with("resource", "https://other.test")),
        ("no certificate to bind the token to", rig.batch().over_none()),
        ("the certificate to bind to has expired", rig.batch().over(&expired)),
        ("the client asks too often", Ask::by_certificate("billing", &PKI.billing.identity)),
        ("too many failures of the address", Ask::billing().over(&PKI.thief.identity)),
        ("another method", Ask::billing().method(Method::GET)),
        ("another method for a document", Ask::get(WELL_KNOWN).method(Method::POST)),
        ("another path", Ask::get("/nowhere")),
        ("the other listener's host", Ask::billing().host("public.auth.test")),
    ] {
        show(&mut seen, case, &rig.send(&ask).await);
    }
    show_slow(&mut seen, &rig).await;
    show_outage(&mut seen, &rig).await;
    golden::holds("errors.txt", &seen);
    rig.stop().await;
}

#[tokio::test]
async fn golden_errors_about_tokens() {
    let rig = Rig::with(resource_servers).await;
    let token = rig.issues("billing", &Ask::billing()).await.text;
    let others = rig.issues("ledger", &Ask::ledger()).await.text;
    let signed = |ask: Ask| ask.header("accept", "application/token-introspection+jwt");
    let mut seen = String::new();
    for (case, ask) in [
        ("introspection: any wrong credential", asking(api().over(&PKI.thief.identity), &token)),
        ("introspection: no token", asking(api(), &token).without("token")),
        ("introspection: no token in force", asking(api(), "no token")),
        ("introspection: a signed answer for nobody", signed(asking(api(), &token).without("client_id"))),
        ("introspection: another method", asking(api(), &token).method(Method::GET)),
        ("revocation: any wrong credential", revoking(Ask::billing().over(&PKI.thief.identity), &token)),
        ("revocation: no token", revoking(Ask::billing(), &token).without("token")),
        ("revocation: no token in force", revoking(Ask::billing(), "no token")),
        ("revocation: another client's token", revoking(Ask::billing(), &others)),
        ("revocation: another method", revoking(Ask::billing(), &token).method(Method::GET)),
    ] {
        show(&mut seen, case, &rig.send(&ask).await);
    }
    let other = rusqlite::Connection::open(rig.path("data/certbind.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    show(&mut seen, "revocation: the store does not answer", &rig.send(&revoking(Ask::billing(), &token)).await);
    other.execute_batch("ROLLBACK").unwrap();
    golden::holds("errors-about-tokens.txt", &seen);
    rig.stop().await;
}

/// Every limit is within reach.
fn refusing(setup: &mut Setup) {
    setup.two_listeners();
    setup.set("limits.body_timeout", "200ms");
    // As many as the cases above use, so that the next one is too many.
    setup.set("limits.token_requests_per_client", "4/h");
    setup.set("limits.failed_auth_per_address", "5/h");
    let text = tls_client("no-grant", "san_uri", "spiffe://certbind.dev/billing");
    setup.client("no-grant", format!("grant_types = []\n{text}"));
}

async fn show_slow(seen: &mut String, rig: &Rig) {
    let head = "POST /oauth2/token HTTP/1.1\r\nHost: auth.test\r\nConnection: close\r\nContent-Length: 100\r\n\
                Content-Type: application/x-www-form-urlencoded\r\n\r\ngrant";
    let text = raw(rig.address(), None, head.as_bytes()).await;
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<_> = head.lines().skip(1).map(|line| line.split_once(": ").unwrap()).collect();
    lines.sort_unstable();
    show_lines(seen, "the body comes too slowly", &head[9..12], lines.into_iter(), body);
}

/// Another program holds the store.
async fn show_outage(seen: &mut String, rig: &Rig) {
    let other = rusqlite::Connection::open(rig.path("data/certbind.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let ask = rig.batch();
    let answer = rig.refuses("outage", &ask, 503, "temporarily_unavailable", "store_unavailable").await;
    show(seen, "the store does not answer", &answer);
    other.execute_batch("ROLLBACK").unwrap();
}

fn show(seen: &mut String, case: &str, answer: &Answer) {
    let mut headers: Vec<_> =
        answer.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    headers.sort_unstable();
    let body = String::from_utf8(answer.body.to_vec()).unwrap();
    show_lines(seen, case, &answer.status.to_string(), headers.into_iter(), &body);
}

fn show_lines<'a>(
    seen: &mut String,
    case: &str,
    status: &str,
    headers: impl Iterator<Item = (&'a str, &'a str)>,
    body: &str,
) {
    writeln!(seen, "## {case}\n{status}").unwrap();
    for (name, value) in headers {
        let value = match name {
            "x-request-id" => "<id>",
            "date" => "<date>",
            "etag" => "<tag>",
            "content-length" => "<length>",
            _ => value,
        };
        writeln!(seen, "{name}: {value}").unwrap();
    }
    writeln!(seen, "\n{}\n", body.trim_end()).unwrap();
}

#[tokio::test]
async fn golden_audit_events() {
    let rig = Rig::with(|setup| {
        resource_servers(setup);
        setup.client("revoked", tls_client("revoked", "san_uri", "spiffe://certbind.dev/revoked"));
    })
    .await;
    let token = rig.issues("billing", &Ask::billing()).await.text;
    let mut seen = String::new();
    for (case, ask) in [
        ("tls_client_auth", Ask::billing()),
        ("self_signed_tls_client_auth", Ask::ledger()),
        ("private_key_jwt", rig.batch()),
        ("a thief", Ask::billing().over(&PKI.thief.identity)),
        ("a revoked certificate", Ask::by_certificate("revoked", &PKI.revoked.identity)),
        ("nobody", Ask::by_certificate("nobody\n\u{1b}[31m", &PKI.billing.identity)),
        ("no certificate", Ask::billing().over_none()),
        ("a bad assertion", rig.batch_with(&rig.assertion().claim("aud", json!("https://other.test")))),
        ("a scope", Ask::billing().with("scope", "admin")),
        ("no form", Ask::billing().content_type("text/plain")),
        ("a token is asked about", asking(api(), &token)),
        ("another client's token is revoked", revoking(Ask::ledger(), &token)),
        ("a token is revoked", revoking(Ask::billing(), &token)),
        ("a revoked token is asked about", asking(api(), &token)),
        ("no token is revoked", revoking(Ask::billing(), "no token")),
    ] {
        let answer = rig.send(&ask).await;
        show_event(&mut seen, case, rig.audit_of(&answer).await);
    }
    rig.replace_client("new", &tls_client("new", "san_dns", "new.certbind.dev"));
    let added = rig.audit_until(|line| line["event"] == "client.changed").await;
    show_event(&mut seen, "a client is added", added[0].clone());
    rig.replace_client("new", "client_id = ");
    let rejected = rig.audit_until(|line| line["event"] == "config.rejected").await;
    show_event(&mut seen, "a client's file is broken", rejected[0].clone());
    rig.replace_crl(&PKI.revoke(9, &[], crate::support::validity()).unwrap());
    let reloaded = rig.audit_until(|line| line["event"] == "config.reloaded").await;
    show_event(&mut seen, "a revocation list is new", reloaded[0].clone());
    golden::holds("audit.txt", &seen.replace(&rig.path("").display().to_string(), "<dir>/"));
    rig.end().await;
}

fn show_event(seen: &mut String, case: &str, mut line: Value) {
    mask(
        &mut line,
        &[
            "ts",
            "request_id",
            "jti",
            "exp",
            "cnf_x5t_s256",
            "cert_x5t_s256",
            "cert_serial",
            "cert_not_after",
            "peer",
            "duration_us",
        ],
    );
    writeln!(seen, "## {case}\n{}", pretty(&line)).unwrap();
}

#[test]
fn golden_help() {
    let mut seen = String::new();
    show_help(&mut seen, &[]);
    golden::holds("help.txt", &seen);
}

/// The help of a command, and of every command below it.
fn show_help(seen: &mut String, command: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_certbind")).args(command).arg("--help").env_clear().finish();
    assert!(output.status.success(), "{command:?}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    writeln!(seen, "$ {}\n{}\n", [&["certbind"], command, &["--help"]].concat().join(" "), text.trim_end()).unwrap();
    let below = text.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    for line in below.filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
        let name = line.split_whitespace().next().unwrap();
        if name != "help" {
            show_help(seen, &[command, &[name]].concat());
        }
    }
}

fn mask(object: &mut Value, names: &[&str]) {
    for (name, value) in object.as_object_mut().unwrap() {
        if names.contains(&name.as_str()) {
            *value = json!(format!("<{name}>"));
        }
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap() + "\n"
}
