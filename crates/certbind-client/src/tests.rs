//! The whole client against a stub of an authorization server, over real TLS.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use certbind_devpki::{Identity, KeyAlgorithm, LeafSpec, Validity};
use certbind_https::FetchError;
use certbind_proto::assertion::{self, AudienceRule, CLIENT_ASSERTION_TYPE};
use certbind_proto::entropy::SeededEntropy;
use certbind_proto::jws::{Algorithm, Parsed, SigningKey};
use certbind_proto::request::CLIENT_CREDENTIALS;
use certbind_proto::time::{Clock as _, FixedClock, Timestamp};
use serde_json::{Value, json};

use super::*;

#[cfg(unix)]
mod authorities;
#[path = "../examples/hyper.rs"]
#[allow(dead_code, reason = "its main is not called")]
mod example;
#[cfg(unix)]
mod files;
#[cfg(unix)]
pub(crate) mod folder;
#[cfg(unix)]
mod pooled;
#[cfg(unix)]
mod rotation;
pub(crate) mod stub;

use stub::{ALWAYS, Certificates, Pki, Reply, Seen, Stub};

const START: Timestamp = Timestamp::from_unix(1_795_305_600);

/// A client of a stub, with a clock of its own.
struct Client {
    clock: Arc<FixedClock>,
    source: TokenSource,
}

impl Client {
    fn new(pki: &Pki, stub: &Stub, credential: Credential) -> Self {
        Self::with(settings(pki, stub, credential))
    }

    fn with(settings: Settings) -> Self {
        let clock = Arc::new(FixedClock::at(START));
        let source = TokenSource::new(settings, clock.clone(), Arc::new(SeededEntropy::new(7))).expect("a source");
        Self { clock, source }
    }

    async fn token(&self) -> Result<String, Error> {
        Ok(self.source.token().await?.as_str().to_owned())
    }

    /// The name of the token once it is another one than `old`, which a renewal in the background brings.
    async fn token_after(&self, old: &str) -> String {
        for _ in 0..500 {
            let name = self.token().await.expect("a token");
            if name != old {
                return name;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no other token than {old}")
    }

    /// Comes back when the source stands like this.
    async fn stands(&self, what: &str, is_so: impl Fn(&Status) -> bool) -> Status {
        for _ in 0..2000 {
            let status = self.source.status();
            if is_so(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{what}: {:?}", self.source.status())
    }
}

fn settings(pki: &Pki, stub: &Stub, credential: Credential) -> Settings {
    let mut settings = Settings::new(stub.issuer(), "billing", credential, pki.authorities());
    settings.addresses = AddressPolicy::AllowPrivate;
    settings
}

fn certificate_of(identity: &Identity) -> ClientCertificate {
    ClientCertificate::new(identity.chain().to_vec(), identity.key()).expect("a certificate")
}

fn by_certificate(pki: &Pki) -> Credential {
    Credential::Certificate(certificate_of(&pki.client(ALWAYS)))
}

fn by_assertion(certificate: Option<ClientCertificate>) -> (Credential, SigningKey) {
    let key = SigningKey::generate(Algorithm::Es256).expect("a key");
    let twin = SigningKey::from_pkcs8_der(&key.to_pkcs8_der(), Algorithm::Es256).expect("the same key");
    (Credential::PrivateKeyJwt { certificate, key: AssertionKey::new(key, Some("k1")) }, twin)
}

fn plain_assertion() -> Credential {
    by_assertion(None).0
}

/// The n-th token is called `t<n>`.
fn numbered(count: usize, _: &Seen) -> Reply {
    Reply::token(&format!("t{count}"))
}

/// A token that is good with one certificate only, which it names.
fn bound(count: usize, seen: &Seen) -> Reply {
    Reply::token(&format!("t{count}.{}", seen.certificate.map_or("unbound".to_owned(), |shown| shown.to_string())))
}

fn assertion_of(seen: &Seen) -> String {
    seen.form.get("client_assertion").expect("an assertion").to_owned()
}

fn claim(assertion: &str, name: &str) -> Value {
    let parsed = Parsed::parse(assertion).expect("a compact signature");
    parsed.claims().expect("claims").get(name).cloned().unwrap_or_default()
}

/// The fact alone: errors of the libraries below do not compare.
fn fact<T>(outcome: Result<T, Error>) -> String {
    match outcome {
        Ok(_) => "token".to_owned(),
        Err(Error::Metadata(fault)) => format!("{fault:?}"),
        Err(Error::NotOAuth(fault)) => format!("{fault:?}"),
        Err(Error::Refused(refusal)) => refusal.code,
        Err(Error::Unreachable(why)) => match &*why {
            FetchError::Tls(_) => "Tls".to_owned(),
            FetchError::Unreachable(_) => "Unreachable".to_owned(),
            other => format!("{other:?}"),
        },
        Err(Error::CertificateRefused(_)) => "CertificateRefused".to_owned(),
        Err(other) => format!("{other:?}"),
    }
}

#[tokio::test]
async fn rfc7519_4_1_4_a_token_is_not_handed_out_after_the_whole_second_of_its_end() {
    let pki = Pki::new();
    let stub = Stub::start(&pki, numbered).await;
    let client = Client::new(&pki, &stub, by_certificate(&pki));
    client.clock.set(START.plus(Duration::from_millis(999)));
    let token = client.source.token().await.expect("a token");
    assert_eq!(token.expires(), START.plus(Duration::from_secs(300)), "a server that counts from START says so");
    client.clock.set(START.plus(Duration::from_secs(300)));
    assert_eq!(client.token().await.expect("a token"), "t1");
}

#[tokio::test]
async fn rfc8705_2_a_token_is_asked_for_with_the_certificate_and_the_client_id() {
    let pki = Pki::new();
    let stub = Stub::start(&pki, numbered).await;
    let identity = pki.client(ALWAYS);
    let certificate = certificate_of(&identity);
    let mut settings = settings(&pki, &stub, Credential::Certificate(certificate.clone()));
    settings.scope = "payments:read".parse().expect("a scope");
    settings.resources.insert("https://api.example/payments".parse().expect("a resource"));
    let client = Client::with(settings);

    let token = client.source.token().await.expect("a token");
    assert_eq!(token.authorization(), "Bearer t0");
    assert!(token.authorization().is_sensitive());
    assert_eq!(token.expires(), START.plus(Duration::from_secs(300)));
    assert_eq!(token.scope().to_string(), "payments:read");
    assert_eq!(token.certificate().map(ClientCertificate::thumbprint), Some(certificate.thumbprint()));

    let seen = &stub.seen()[0];
    assert_eq!(seen.certificate.as_ref(), Some(certificate.thumbprint()));
    assert_eq!(seen.form.get("grant_type"), Some(CLIENT_CREDENTIALS));
    assert_eq!(seen.form.get("client_id"), Some("billing"));
    assert_eq!(seen.form.get("scope"), Some("payments:read"));
    assert_eq!(seen.form.all("resource").collect::<Vec<_>>(), ["https://api.example/payments"]);
    assert_eq!(seen.form.get("client_assertion"), None, "one method a request (RFC 6749 §2.3)");

    assert_eq!(client.token().await.expect("a token"), "t0", "from memory");
    assert_eq!(stub.seen().len(), 1);
}

#[tokio::test]
async fn rfc8705_2_2_a_self_signed_certificate_is_shown_although_no_authority_of_the_server_issued_it() {
    let pki = Pki::new();
    let stub = Stub::start_with(&pki, Certificates::Optional, numbered).await;
    let own = Identity::self_signed(&LeafSpec::client("ledger", ALWAYS)).expect("a certificate");
    let client = Client::new(&pki, &stub, Credential::Certificate(certificate_of(&own)));
    // This stub ends the handshake for it, which proves that it was shown.
    assert_eq!(fact(client.token().await), "CertificateRefused");
}

#[tokio::test]
async fn rfc7523_3_the_assertion_is_short_fresh_typed_and_for_the_issuer_alone() {
    let pki = Pki::new();
    let stub = Stub::start(&pki, numbered).await;
    let certificate = certificate_of(&pki.client(ALWAYS));
    let (credential, key) = by_assertion(Some(certificate.clone()));
    let client = Client::new(&pki, &stub, credential);
    let token = client.source.token().await.expect("a token");
    assert_eq!(token.certificate().map(ClientCertificate::thumbprint), Some(certificate.thumbprint()));

    let seen = &stub.seen()[0];
    assert_eq!(seen.certificate.as_ref(), Some(certificate.thumbprint()), "shown, so that the token is bound");
    assert_eq!(seen.form.get("client_assertion_type"), Some(CLIENT_ASSERTION_TYPE));
    let assertion = assertion_of(seen);
    let parsed = Parsed::parse(&assertion).expect("a compact signature");
    parsed.verify(&key.public()).expect("a good signature");
    assert_eq!(parsed.header.typ.as_deref(), Some("client-authentication+jwt"));
    assert_eq!(parsed.header.kid.as_deref(), Some("k1"));
    let expect = assertion::Expect {
        client_id: "billing",
        issuer: stub.issuer(),
        audience: AudienceRule::StringOnly,
        legacy_audiences: &[],
        max_lifetime: Duration::from_secs(60),
        clock_skew: Duration::ZERO,
    };
    assertion::check(&parsed, &expect, START).expect("what a strict server accepts");
    assert_eq!(claim(&assertion, "aud"), json!(stub.issuer()));
    assert_eq!(claim(&assertion, "iat"), json!(START.unix()));
    assert_eq!(claim(&assertion, "nbf"), Value::Null);
}

#[tokio::test]
async fn rfc7523_3_each_try_has_an_assertion_of_its_own() {
    let pki = Pki::new();
    let stub = Stub::start(&pki, |count, seen| match count {
        0 => Reply::error(503, "temporarily_unavailable"),
        _ => numbered(count, seen),
    })
    .await;
    let client = Client::new(&pki, &stub, plain_assertion());
    let error = client.token().await.expect_err("an outage");
    assert!(error.should_retry(), "{error}");
    client.clock.advance(Duration::from_secs(1));
    assert_eq!(client.token().await.expect("a token"), "t1");
    let ids: Vec<_> = stub.seen().iter().map(|seen| claim(&assertion_of(seen), "jti")).collect();
    assert!(ids.len() == 2 && ids[0] != ids[1], "{ids:?}");
}

#[tokio::test]
async fn fapi2_5_3_3_1_a_wrong_clock_is_corrected_once_by_the_date_of_the_server() {
    let pki = Pki::new();
    let ahead = START.unix() + 300;
    let on_time = move |count: usize, seen: &Seen| {
        if claim(&assertion_of(seen), "iat") == json!(ahead) {
            return numbered(count, seen);
        }
        Reply::error(400, "invalid_client").with("date", "Sun, 22 Nov 2026 00:05:00 GMT")
    };
    let stub = Stub::start(&pki, on_time).await;
    let client = Client::new(&pki, &stub, plain_assertion());
    let token = client.source.token().await.expect("a token");
    assert_eq!(token.as_str(), "t1", "the second try has the server's time");
    assert_eq!(token.expires(), START.plus(Duration::from_secs(300)), "the life is counted on our own clock");

    client.source.refetch(&token).await.expect("a token");
    assert_eq!(stub.seen().len(), 3, "what was learned is kept");

    let never = |_: usize, _: &Seen| Reply::error(400, "invalid_client").with("date", "Sun, 22 Nov 2026 00:05:00 GMT");
    for (credential, tries) in [(plain_assertion(), 2), (by_certificate(&pki), 1)] {
        let stub = Stub::start(&pki, never).await;
        assert_eq!(fact(Client::new(&pki, &stub, credential).token().await), "invalid_client");
        assert_eq!(stub.seen().len(), tries, "once, and only where the time is part of the proof");
    }
    let right_time =
        |_: usize, _: &Seen| Reply::error(400, "invalid_client").with("date", "Sun, 22 Nov 2026 00:00:03 GMT");
    let stub = Stub::start(&pki, right_time).await;
    assert_eq!(fact(Client::new(&pki, &stub, plain_assertion()).token().await), "invalid_client");
    assert_eq!(stub.seen().len(), 1, "the clock is not to blame");
}

#[tokio::test]
async fn rfc8414_3_3_metadata_that_will_not_do_send_no_request() {
    type Spoil = fn(&str, &str) -> Reply;
    let cases: [(&str, Spoil, &str); 9] = [
        ("trailing slash", |_, issuer| with_issuer(&format!("{issuer}/")), "IssuerMismatch"),
        ("another case", |_, issuer| with_issuer(&issuer.replace("localhost", "LOCALHOST")), "IssuerMismatch"),
        (
            "no issuer",
            |_, issuer| Reply::json(200, &json!({"token_endpoint": format!("{issuer}/t")})),
            "IssuerMismatch",
        ),
        ("no endpoint", |_, issuer| Reply::json(200, &json!({"issuer": issuer})), "TokenEndpointMissing"),
        ("http", |_, issuer| with_endpoint(issuer, "http://localhost/token"), "TokenEndpointUrl"),
        ("not a URL", |_, issuer| with_endpoint(issuer, "a b"), "TokenEndpointUrl"),
        ("a number", |_, issuer| Reply::json(200, &json!({"issuer": issuer, "token_endpoint": 1})), "MemberType"),
        (
            "two issuers",
            |_, issuer| Reply(200, vec![], format!(r#"{{"issuer":"x","issuer":"{issuer}"}}"#)),
            "Json(DuplicateMember)",
        ),
        ("none", |_, _| Reply(404, vec![], String::new()), "Status(404)"),
    ];
    let pki = Pki::new();
    for (name, metadata, expected) in cases {
        let stub = Stub::start(&pki, numbered).await;
        stub.set_metadata(metadata);
        let outcome = Client::new(&pki, &stub, by_certificate(&pki)).token().await;
        assert!(outcome.as_ref().is_err_and(|error| !error.should_retry()), "{name}");
        assert_eq!(fact(outcome), expected, "{name}");
        assert_eq!(stub.seen().len(), 0, "{name}");
    }
}

fn with_issuer(issuer: &str) -> Reply {
    with_endpoint(issuer, "https://localhost/token")
}

fn with_endpoint(issuer: &str, endpoint: &str) -> Reply {
    Reply::json(200, &json!({"issuer": issuer, "token_endpoint": endpoint}))
}

#[tokio::test]
async fn rfc8414_3_metadata_are_found_at_openid_s_place_and_kept_for_a_while() {
    let pki = Pki::new();
    let stub = Stub::start(&pki, numbered).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    stub.set_metadata(move |path, issuer| match path {
        "/.well-known/openid-configuration" => {
            count.fetch_add(1, Ordering::SeqCst);
            with_endpoint(issuer, &format!("{issuer}/token"))
        }
        _ => Reply(404, vec![], String::new()),
    });
    let client = Client::new(&pki, &stub, by_certificate(&pki));
    for name in ["t0", "t1", "t2"] {
        assert_eq!(client.token().await.expect("a token"), name);
        client.clock.advance(Duration::from_secs(301));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    client.clock.advance(Duration::from_secs(3600));
    client.token().await.expect("a token");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn rfc8414_3_metadata_are_read_again_after_a_failure() {
    let pki = Pki::new();
    let moved = |count: usize, seen: &Seen| match seen.path.as_str() {
        "/new" => numbered(count, seen),
        _ => Reply(404, vec![], String::new()),
    };
    let stub = Stub::start(&pki, moved).await;
    let client = Client::new(&pki, &stub, by_certificate(&pki));
    assert_eq!(fact(client.token().await), "ErrorMissing(404)");
    stub.set_metadata(|_, issuer| with_endpoint(issuer, &format!("{issuer}/new")));
    client.clock.advance(Duration::from_secs(5));
    assert_eq!(fact(client.token().await), "token");
}

#[tokio::test]
async fn rfc8705_5_the_alias_is_used_by_those_who_show_a_certificate_and_by_those_who_are_registered_so() {
    let pki = Pki::new();
    let certificate = || certificate_of(&pki.client(ALWAYS));
    let aliases = json!({"issuer": "https://evil.example", "authorization_endpoint": "https://evil.example/a"});
    for (credential, when, alias, expected) in [
        (Credential::Certificate(certificate()), Aliases::WithCertificate, true, "/alias"),
        (by_assertion(Some(certificate())).0, Aliases::WithCertificate, true, "/alias"),
        (plain_assertion(), Aliases::WithCertificate, true, "/token"),
        (plain_assertion(), Aliases::Always, true, "/alias"),
        (Credential::Certificate(certificate()), Aliases::WithCertificate, false, "/token"),
        (plain_assertion(), Aliases::Always, false, "/token"),
    ] {
        let stub = Stub::start(&pki, numbered).await;
        let mut aliases = aliases.clone();
        if alias {
            aliases["token_endpoint"] = json!(stub.url("/alias"));
        }
        stub.set_metadata(move |_, issuer| {
            let token = format!("{issuer}/token");
            Reply::json(200, &json!({"issuer": issuer, "token_endpoint": token, "mtls_endpoint_aliases": aliases}))
        });
        let mut settings = settings(&pki, &stub, credential);
        settings.aliases = when;
        let shown = format!("{:?} {when:?} {alias}", settings.credential);
        Client::with(settings).token().await.expect("a token");
        assert_eq!(stub.seen()[0].path, expected, "{shown}");
    }
}

#[tokio::test]
async fn audience_injection_metadata_do_not_choose_whom_an_assertion_is_for() {
    let pki = Pki::new();
    let victim = Stub::start(&pki, numbered).await;
    let malicious = Stub::start(&pki, numbered).await;
    let endpoint = victim.url("/token");
    malicious.set_metadata(move |_, issuer| with_endpoint(issuer, &endpoint));
    let (credential, _) = by_assertion(None);
    Client::new(&pki, &malicious, credential).token().await.expect("the stub checks nothing");
    assert_eq!(claim(&assertion_of(&victim.seen()[0]), "aud"), json!(malicious.issuer()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_callers_make_one_request() {
    let pki = Pki::new();
    let stub = Stub::start(&pki, numbered).await;
    let client = Client::new(&pki, &stub, by_certificate(&pki));
    stub.hold();
    let callers: Vec<_> = (0..1000)
        .map(|_| {
            let source = client.source.clone();
            tokio::spawn(async move { source.token().await.expect("a token").as_str().to_owned() })
        })
        .collect();
    stub.has_seen(1).await;
    stub.release();
    for caller in callers {
        assert_eq!(caller.await.expect("no panic"), "t0");
    }
    assert_eq!(stub.seen().len(), 1);
}

#[tokio::test]
async fn a_caller_who_goes_away_does_not_take_the_request_along() {
    let pki = Pki::new();
    let stub = Stub::start(&pki, numbered).await;
    let client = Client::new(&pki, &stub, by_certificate(&pki));
    {
        let impatient = client.source.token();
        tokio::pin!(impatient);
        tokio::select! { biased; _ = &mut impatient => panic!("too fast"), () = std::future::ready(()) => {} }
    }
    assert_eq!(client.token().await.expect("a token"), "t0");
    assert_eq!(stub.seen().len(), 1);
}

#[tokio::test]
async fn a_token_is_renewed_ahead_of_its_end_while_the_old_one_serves() {
    let pki = Pki::new();
    let stub = Stub::start(&pki, numbered).await;
    let client = Client::new(&pki, &stub, by_certificate(&pki));
    assert_eq!(client.token().await.expect("a token"), "t0");
    client.clock.advance(Duration::from_secs(271));
    for _ in 0..100 {
        assert_eq!(client.token().await.expect("a token"), "t0", "nobody waits");
    }
    assert_eq!(client.token_after("t0").await, "t1");
    assert_eq!(stub.seen().len(), 2, "one request for the renewal");
}

#[tokio::test]
async fn an_outage_costs_no_call_while_a_token_is_alive() {
    let pki = Pki::new();
    let down = |count: usize, seen: &Seen| match count {
        0 => numbered(count, seen),
        _ => Reply(503, vec![("retry-after", "30".to_owned())], "<html>".to_owned()),
    };
    let stub = Stub::start(&pki, down).await;
    let client = Client::new(&pki, &stub, by_certificate(&pki));
    client.token().await.expect("a token");
    client.clock.set(START.plus(Duration::from_secs(271)));
    for second in 271..300 {
        client.clock.set(START.plus(Duration::from_secs(second)));
        assert_eq!(client.token().await.expect("a token"), "t0", "{second}");
        // The clock goes on when the renewal in the background has failed.
        client.stands("a failure", |status| status.last_failure.is_some()).await;
    }
    assert_eq!(stub.seen().len(), 2, "Retry-After is honoured (RFC 9110 §10.2.3)");
    client.clock.set(START.plus(Duration::from_secs(330)));
    let error = client.token().await.expect_err("the token is over");
    assert!(error.should_retry());
    assert_eq!(error.retry_after(), Some(Duration::from_secs(30)));
    assert_eq!(stub.seen().len(), 3);
}

#[tokio::test]
async fn rfc6749_5_2_a_refusal_does_not_start_a_storm() {
    let pki = Pki::new();
    let stub = Stub::start(&pki, |_, _| Reply::error(400, "invalid_client").with("x-request-id", "7f3a")).await;
    let client = Client::new(&pki, &stub, by_certificate(&pki));
    for _ in 0..1000 {
        let error = client.token().await.expect_err("refused");
        assert!(!error.should_retry());
        assert_eq!(error.request_id(), Some("7f3a"));
        assert_eq!(error.to_string(), "the authorization server refused: invalid_client");
    }
    assert_eq!(stub.seen().len(), 1);
    client.clock.advance(Duration::from_secs(5));
    client.token().await.expect_err("refused");
    client.clock.advance(Duration::from_secs(3));
    client.token().await.expect_err("refused");
    assert_eq!(stub.seen().len(), 2, "and the pause grows");
}

#[tokio::test]
async fn rfc8705_6_3_another_certificate_needs_another_token() {
    let pki = Pki::new();
    let stub = Stub::start(&pki, numbered).await;
    let (old, new) = (certificate_of(&pki.client(ALWAYS)), certificate_of(&pki.client(ALWAYS)));
    let client = Client::new(&pki, &stub, Credential::Certificate(old.clone()));
    let first = client.source.token().await.expect("a token");

    client.source.replace_credential(Credential::Certificate(old.clone())).expect("the same once more");
    assert_eq!(client.token().await.expect("a token"), "t0", "nothing has changed");

    client.source.replace_credential(Credential::Certificate(new.clone())).expect("a replacement");
    let second = client.source.token().await.expect("a token");
    assert_eq!(second.as_str(), "t1");
    for (token, certificate, seen) in [(&first, &old, &stub.seen()[0]), (&second, &new, &stub.seen()[1])] {
        assert_eq!(token.certificate().map(ClientCertificate::thumbprint), Some(certificate.thumbprint()));
        assert_eq!(seen.certificate.as_ref(), Some(certificate.thumbprint()), "each travels with its own");
    }
}

#[tokio::test]
async fn rfc8705_6_3_a_token_under_way_for_the_old_certificate_is_not_kept() {
    let pki = Pki::new();
    let stub = Stub::start(&pki, numbered).await;
    let (old, new) = (certificate_of(&pki.client(ALWAYS)), certificate_of(&pki.client(ALWAYS)));
    let client = Client::new(&pki, &stub, Credential::Certificate(old.clone()));
    stub.hold();
    let source = client.source.clone();
    let early = tokio::spawn(async move { source.token().await });
    stub.has_seen(1).await;
    client.source.replace_credential(Credential::Certificate(new.clone())).expect("a replacement");
    let late = client.source.token().await.expect("a token");
    stub.release();
    let early = early.await.expect("no panic").expect("a token");
    let thumbprint = |token: &AccessToken| *token.certificate().expect("a certificate").thumbprint();
    assert_eq!(thumbprint(&early), *old.thumbprint(), "who asked before gets a pair that fits");
    assert_eq!(thumbprint(&late), *new.thumbprint());
    assert_eq!(thumbprint(&client.source.token().await.expect("a token")), *new.thumbprint());
    assert_eq!(stub.seen().len(), 2);
}

#[tokio::test]
async fn a_token_does_not_outlive_its_certificate() {
    let pki = Pki::new();
    let stub = Stub::start(&pki, numbered).await;
    let short = Validity { not_before: 0, not_after: START.unix() + 60 };
    let client = Client::new(&pki, &stub, Credential::Certificate(certificate_of(&pki.client(short))));
    let token = client.source.token().await.expect("a token");
    assert_eq!(token.expires(), START.plus(Duration::from_secs(60)), "not the 300 seconds of the server");
    client.clock.advance(Duration::from_secs(60));
    let connections = stub.connections();
    assert_eq!(fact(client.token().await), "CertificateExpired");
    assert_eq!(stub.connections(), connections, "nobody is bothered");
}

#[tokio::test(flavor = "multi_thread")]
async fn oauth21_1_4_an_early_401_fetches_one_token_anew_and_then_no_more() {
    let pki = Pki::new();
    let stub = Stub::start(&pki, numbered).await;
    let client = Client::new(&pki, &stub, by_certificate(&pki));
    let rejected = client.source.token().await.expect("a token");
    let callers: Vec<_> = (0..50)
        .map(|_| {
            let (source, rejected) = (client.source.clone(), rejected.clone());
            tokio::spawn(async move { source.refetch(&rejected).await.expect("a token").as_str().to_owned() })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.expect("no panic"), "t1");
    }
    assert_eq!(stub.seen().len(), 2);
    let second = client.source.token().await.expect("a token");
    assert_eq!(fact(client.source.refetch(&second).await), "StillRejected");
    assert_eq!(stub.seen().len(), 2);
}

#[tokio::test]
async fn a_token_request_is_not_redirected() {
    let pki = Pki::new();
    let canary = Stub::start(&pki, numbered).await;
    for status in [301, 302, 303, 307, 308] {
        let location = canary.url("/token");
        let stub =
            Stub::start(&pki, move |_, _| Reply(status, vec![("location", location.clone())], String::new())).await;
        let client = Client::new(&pki, &stub, plain_assertion());
        assert_eq!(fact(client.token().await), format!("Redirect({status})"));
        let location = canary.url("/metadata");
        stub.set_metadata(move |_, _| Reply(status, vec![("location", location.clone())], String::new()));
        let client = Client::new(&pki, &stub, plain_assertion());
        assert_eq!(fact(client.token().await), format!("Status({status})"));
    }
    assert_eq!(canary.connections(), 0);
}

#[tokio::test]
async fn rfc6749_5_1_an_unknown_token_type_is_not_used() {
    let pki = Pki::new();
    for (token_type, expected) in [("bEaReR", "token"), ("mac", "TokenType")] {
        let reply = json!({"access_token": "t", "token_type": token_type});
        let stub = Stub::start(&pki, move |_, _| Reply::json(200, &reply)).await;
        let client = Client::new(&pki, &stub, by_certificate(&pki));
        assert_eq!(fact(client.token().await), expected);
    }
}

#[tokio::test]
async fn rfc6749_5_1_a_life_that_is_not_stated_is_a_minute() {
    let pki = Pki::new();
    let stub = Stub::start(&pki, |_, _| {
        Reply::json(200, &json!({"access_token": "t", "token_type": "Bearer", "scope": "b a"}))
    })
    .await;
    let token = Client::new(&pki, &stub, by_certificate(&pki)).source.token().await.expect("a token");
    assert_eq!(token.expires(), START.plus(Duration::from_secs(60)));
    assert_eq!(token.scope().to_string(), "a b", "what was granted is said");
}

#[tokio::test]
async fn rfc8446_4_4_2_4_a_certificate_refused_after_the_handshake_is_no_reason_to_storm() {
    let pki = Pki::new();
    let stub = Stub::start_with(&pki, Certificates::Required, numbered).await;
    for credential in [by_certificate(&Pki::new()), plain_assertion()] {
        let before = stub.connections();
        let client = Client::new(&pki, &stub, credential);
        for _ in 0..100 {
            let error = client.token().await.expect_err("refused");
            assert!(!error.should_retry());
            assert_eq!(fact::<()>(Err(error)), "CertificateRefused");
        }
        assert_eq!(stub.connections() - before, 1);
    }
    assert_eq!(fact(Client::new(&pki, &stub, by_certificate(&pki)).token().await), "token");
}

#[tokio::test]
async fn what_cannot_be_reached_is_told_from_what_must_not_be_reached() {
    let pki = Pki::new();
    let stub = Stub::start(&pki, numbered).await;
    let good = || settings(&pki, &stub, by_certificate(&pki));
    let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let gone = Settings { issuer: format!("https://localhost:{}", port.port()), ..good() };
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let slow = Settings {
        issuer: format!("https://localhost:{}", silent.local_addr().expect("an address").port()),
        limits: Limits { connect: Duration::from_millis(200), ..Limits::default() },
        ..good()
    };
    let inside = Settings { addresses: AddressPolicy::PublicOnly, ..good() };
    let untrusted = Settings { roots: Pki::new().authorities(), ..good() };
    for (settings, expected, retry) in [
        (gone, "Unreachable", true),
        (slow, "TooSlow(Connect)", true),
        (inside, "AddressRefused", false),
        (untrusted, "Tls", false),
    ] {
        let outcome = Client::with(settings).token().await;
        assert_eq!(outcome.as_ref().map_err(Error::should_retry), Err(retry), "{expected}");
        assert_eq!(fact(outcome), expected);
    }
    assert_eq!(stub.seen().len(), 0);
}

#[tokio::test]
async fn an_issuer_is_an_https_url() {
    let pki = Pki::new();
    let stub = Stub::start(&pki, numbered).await;
    for issuer in ["http://localhost", "localhost", "", "https://", "https://a?b", "https://a#b"] {
        let settings = Settings { issuer: issuer.to_owned(), ..settings(&pki, &stub, by_certificate(&pki)) };
        let made = TokenSource::new(settings, Arc::new(FixedClock::at(START)), Arc::new(SeededEntropy::new(7)));
        assert!(matches!(made, Err(SetupFault::Issuer)), "{issuer:?}");
    }
}

#[tokio::test]
async fn nothing_that_is_secret_prints() {
    let pki = Pki::new();
    let stub = Stub::start(&pki, |_, _| Reply::token("very-secret-token")).await;
    let identity = pki.client(ALWAYS);
    let (credential, _) = by_assertion(Some(certificate_of(&identity)));
    let client = Client::new(&pki, &stub, credential);
    let token = client.source.token().await.expect("a token");
    let printed = format!("{token:?} {:?} {:?} {:?}", client.source, client.source.credential(), token.authorization());
    let key = identity.key_pem();
    let key_body = key.lines().nth(1).expect("a line of the key");
    for secret in ["very-secret-token", key_body, &assertion_of(&stub.seen()[0])] {
        assert!(!printed.contains(secret), "{secret} in {printed}");
    }
    assert!(client.clock.now() == START);
}

#[cfg(unix)]
#[test]
fn a_credential_is_loaded_from_files_as_one_pair_that_others_cannot_read() {
    use std::os::unix::fs::PermissionsExt as _;

    let pki = Pki::new();
    let (one, other) = (pki.client(ALWAYS), pki.client(ALWAYS));
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str, mode: u32| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("permissions");
        path
    };
    let chain = write("chain.pem", &one.chain_pem(), 0o644);
    let key = write("key.pem", &one.key_pem(), 0o600);
    let shared = write("shared.pem", &one.key_pem(), 0o640);
    let loaded = ClientCertificate::from_files(&chain, &key).expect("a pair");
    assert_eq!(loaded.thumbprint(), certificate_of(&one).thumbprint());
    assert_eq!(loaded.not_after(), Timestamp::from_unix(ALWAYS.not_after));
    assert!(ClientCertificate::from_files(&chain, &shared).is_ok(), "a group may share a key");
    assert!(AssertionKey::from_file(&key, Some(Algorithm::Es256), None).is_ok());

    let open = write("open.pem", &one.key_pem(), 0o604);
    let foreign = write("foreign.pem", &other.key_pem(), 0o600);
    let empty = write("empty.pem", "", 0o600);
    let missing = dir.path().join("missing.pem");
    let load = |chain: &Path, key: &Path| ClientCertificate::from_files(chain, key).map(|_| ());
    assert!(matches!(load(&chain, &open), Err(CredentialFault::KeyExposed { .. })));
    assert!(matches!(load(&chain, &foreign), Err(CredentialFault::KeyMismatch)));
    assert!(matches!(load(&chain, &empty), Err(CredentialFault::NoKey)));
    assert!(matches!(load(&empty, &key), Err(CredentialFault::NoCertificate)));
    assert!(matches!(load(&missing, &key), Err(CredentialFault::Unreadable { .. })));
    assert!(matches!(load(&chain, &missing), Err(CredentialFault::Unreadable { .. })));
    let assertion_key = |path: &Path, algorithm| AssertionKey::from_file(path, algorithm, None).map(|_| ());
    assert!(matches!(assertion_key(&open, None), Err(CredentialFault::KeyExposed { .. })));
    assert!(matches!(assertion_key(&key, Some(Algorithm::EdDsa)), Err(CredentialFault::AssertionKey(_))));
    assert!(matches!(assertion_key(&empty, None), Err(CredentialFault::AssertionKey(_))));
}

#[test]
fn trusted_authorities_are_loaded_from_a_file_that_has_some() {
    let pki = Pki::new();
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("ca.pem");
    std::fs::write(&path, pki.root.certificate_pem().repeat(2)).expect("a file");
    let authorities = trusted_authorities(&path).expect("authorities");
    assert_eq!(*authorities.certificates(), vec![pki.root.certificate().clone(); 2]);
    std::fs::write(&path, "none here").expect("a file");
    assert!(matches!(trusted_authorities(&path), Err(CredentialFault::NoCertificate)));
    assert!(matches!(trusted_authorities(&dir.path().join("missing")), Err(CredentialFault::Unreadable { .. })));
}

#[test]
fn every_kind_of_key_serves_a_certificate() {
    let pki = Pki::new();
    for algorithm in [KeyAlgorithm::Ed25519, KeyAlgorithm::P256, KeyAlgorithm::P384, KeyAlgorithm::Rsa2048] {
        let leaf = pki.root.leaf(&LeafSpec::client("billing", ALWAYS).key(algorithm)).expect("a certificate");
        let (chain, key) = (leaf.chain_pem(), leaf.key_pem());
        assert!(ClientCertificate::from_pem(chain.as_bytes(), key.as_bytes()).is_ok(), "{algorithm:?}");
    }
}
