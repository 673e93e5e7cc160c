//! What is not believed is refused, not ignored, each with its one reason; and who is no proxy is not even read.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use certbind_devpki::{Issuer, LeafSpec, Validity};
use certbind_proto::forwarded::Format;
use certbind_proto::time::{Clock as _, SystemClock};
use hyper::Version;
use serde_json::json;

use super::rig::{Headers, NAME, PROXIES, PROXY, Rig, forwarded, hash_of, month};
use crate::process::client::{Asserter, Connection, billing, by_assertion};
use crate::process::rig::{PKI, certbind, output, within};
use crate::support::finish::Finish as _;

/// Its connection stays open, and counts for nothing from the next request on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_a_proxy_whose_certificate_is_revoked_is_one_no_longer_on_an_open_connection() {
    let rig = Rig::with(Format::Rfc9440, |site| {
        site.edit("[listen.ops]", "[listen.admin]\naddress = \"unix:admin.sock\"\n\n[listen.ops]");
    });
    rig.site.write("proxy.pem", &PROXY.chain_pem());
    let mut connection = rig.connect(Version::HTTP_2).await;
    let headers = forwarded(Format::Rfc9440, &PKI.billing.identity);
    let (answer, _) = rig.ask_over(&mut connection, "/oauth2/token", &billing(), &headers).await;
    assert_eq!(answer.status, 200);
    let mut revoke = certbind();
    revoke.arg("revoke").arg("--certificate").arg(rig.site.path("proxy.pem"));
    revoke.arg("--server").arg(format!("unix:{}", rig.site.path("admin.sock").display()));
    let (_, said, status) = output(&mut revoke);
    assert!(status.success(), "{said}");
    let (answer, event) = rig.ask_over(&mut connection, "/oauth2/token", &billing(), &headers).await;
    assert_eq!((answer.status.as_u16(), &event["reason"]), (403, &json!("proxy_certificate")), "{event}");
    assert!(event["detail"].as_str().unwrap().contains("revoked"), "{event}");
}

/// One thing spoilt: the case, what becomes of the headers, and the reason.
type Case = (&'static str, fn(Headers) -> Headers, &'static str);

const ANY_FORMAT: [Case; 6] = [
    ("the header twice", |h| [h.clone(), h].concat(), "forwarded_repeated"),
    ("two in one header", |h| change(h, |v| format!("{v}, {v}")), "forwarded_repeated"),
    ("the underscore twin", |h| with(h, "ssl_client_cert", "x"), "forwarded_other_header"),
    ("another format", |h| with(h, "x-client-cert", "x"), "forwarded_other_header"),
    ("garbage", |h| change(h, |_| "certificate".to_owned()), "forwarded_malformed"),
    ("half of it", |h| change(h, |v| v[..((v.len() / 2) & !3) + 3].to_owned()), "forwarded_malformed"),
];

fn with(mut headers: Headers, name: &'static str, value: &str) -> Headers {
    headers.push((name, value.to_owned()));
    headers
}

/// Another value in the first header.
fn change(mut headers: Headers, to: impl Fn(&str) -> String) -> Headers {
    headers[0].1 = to(&headers[0].1);
    headers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9440_4_what_can_be_read_in_two_ways_is_refused_with_its_reason() {
    for format in Format::ALL {
        let rig = Rig::over_tls(format);
        let mut connection = rig.connect(Version::HTTP_2).await;
        for (case, spoil, reason) in ANY_FORMAT {
            let headers = spoil(forwarded(format, &PKI.billing.identity));
            let (answer, event) = rig.ask_over(&mut connection, "/oauth2/token", &billing(), &headers).await;
            let seen = (answer.status.as_u16(), answer.error(), event["reason"].as_str().unwrap().to_owned());
            let is_a_list =
                case == "two in one header" && matches!(format, Format::Traefik | Format::Nginx | Format::Alb);
            // Of Traefik's a list is a chain, with a blank in it here; of those in PEM a comma is nothing.
            let reason = if is_a_list { "forwarded_malformed" } else { reason };
            assert_eq!(seen, (400, "invalid_request".to_owned(), reason.to_owned()), "{format:?}: {case}");
            assert!(event.get("client_id").is_none() && event.get("cert_subject").is_none(), "{event}");
        }
        let (answer, _) =
            rig.ask_over(&mut connection, "/oauth2/token", &billing(), &forwarded(format, &PKI.billing.identity)).await;
        assert_eq!(answer.status, 200, "{format:?}: nothing of it stays on the connection");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9440_2_what_one_format_alone_can_get_wrong_is_refused() {
    let (own, other) = (&PKI.billing.identity, &PKI.thief.identity);
    let rfc9440 = Rig::over_tls(Format::Rfc9440);
    let xfcc = Rig::over_tls(Format::Xfcc);
    let leaf = STANDARD.encode(own.certificate());
    let many = vec![format!(":{leaf}:"); 7].join(",");
    let long = "A".repeat(40_000);
    let xfcc_of = |hash: &str, who| {
        let value = forwarded(Format::Xfcc, who).remove(0).1;
        value.replacen(&hash_of(who), hash, 1)
    };
    for (case, rig, headers, reason) in [
        ("no colons", &rfc9440, vec![("client-cert", leaf.clone())], "forwarded_malformed"),
        ("parameters", &rfc9440, vec![("client-cert", format!(":{leaf}:;a=1"))], "forwarded_malformed"),
        ("a chain alone", &rfc9440, vec![("client-cert-chain", format!(":{leaf}:"))], "forwarded_malformed"),
        (
            "a chain of seven",
            &rfc9440,
            vec![("client-cert", format!(":{leaf}:")), ("client-cert-chain", many)],
            "forwarded_malformed",
        ),
        ("beyond any certificate", &rfc9440, vec![("client-cert", format!(":{long}:"))], "forwarded_malformed"),
        (
            "a hash alone",
            &xfcc,
            vec![("x-forwarded-client-cert", format!("Hash={}", hash_of(own)))],
            "forwarded_hash_alone",
        ),
        (
            "the hash of another",
            &xfcc,
            vec![("x-forwarded-client-cert", xfcc_of(&hash_of(other), own))],
            "forwarded_malformed",
        ),
        (
            "names alone",
            &xfcc,
            vec![("x-forwarded-client-cert", "Subject=\"CN=billing\"".to_owned())],
            "forwarded_malformed",
        ),
    ] {
        for form in [billing(), by_assertion(&Asserter::batch().fresh())] {
            let (answer, event) = rig.ask(&form, &headers).await;
            assert_eq!((answer.status.as_u16(), &event["reason"]), (400, &json!(reason)), "{case}: {}", answer.text);
        }
    }
    // Beyond what a head may have there is no request.
    let mut connection = rfc9440.connect(Version::HTTP_11).await;
    let flood = format!(":{}:", "A".repeat(100_000));
    let answer = connection.post(billing().encode(), &[("client-cert", &flood)]).await;
    assert!(answer.is_ok_and(|answer| answer.status == 431));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9440_4_whoever_is_not_the_proxy_is_refused_before_anything_is_read_over_tls() {
    let rig = Rig::over_tls(Format::Haproxy);
    let named =
        |issuer: &Issuer, validity, name: &str| issuer.leaf(&LeafSpec::client("proxy", validity).uri(name)).unwrap();
    let day_ago = Validity::days_from(SystemClock.now().unix() - 2 * 86_400, 1);
    let stranger = Issuer::root("proxies", month()).unwrap();
    let server = PROXIES.leaf(&LeafSpec::server(month()).uri(NAME)).unwrap();
    for (case, who, reason) in [
        ("another name", &named(&PROXIES, month(), "spiffe://example.com/proxy2"), "proxy_unknown"),
        ("a client", &PKI.billing.identity, "proxy_certificate"),
        ("a client with the name", &named(&PKI.intermediate, month(), NAME), "proxy_certificate"),
        ("an authority of that name", &named(&stranger, month(), NAME), "proxy_certificate"),
        ("an old certificate", &named(&PROXIES, day_ago, NAME), "proxy_certificate"),
        ("one that is not for clients", &server, "proxy_certificate"),
    ] {
        for headers in [forwarded(Format::Haproxy, &PKI.billing.identity), vec![]] {
            let mut connection = Connection::open(rig.address, Some(who), Version::HTTP_2).await.unwrap();
            let (answer, event) = rig.ask_over(&mut connection, "/oauth2/token", &billing(), &headers).await;
            let seen = (answer.status.as_u16(), answer.error(), &event["reason"]);
            assert_eq!(seen, (403, "invalid_request".to_owned(), &json!(reason)), "{case}");
            assert!(event.get("client_id").is_none() && event["detail"].is_string(), "{case}: {event}");
        }
        let mut connection = Connection::open(rig.address, Some(who), Version::HTTP_11).await.unwrap();
        let answer = connection.get("/.well-known/jwks.json").await.unwrap();
        assert_eq!((answer.status.as_u16(), &answer.headers["connection"]), (403, &"close".parse().unwrap()), "{case}");
    }
    let nobody = Connection::open(rig.address, None, Version::HTTP_11).await;
    let answer = match nobody {
        Ok(mut connection) => connection.get("/.well-known/jwks.json").await.is_ok(),
        Err(_) => false,
    };
    assert!(!answer, "without a certificate there is no connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9440_4_whoever_is_not_the_proxy_is_refused_over_a_socket() {
    let rig = Rig::over_a_socket(Format::Haproxy, "\"65533\"");
    rig.site.write("ca.pem", &PKI.intermediate.certificate_pem());
    let ask = |uid: Option<u32>| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--include", "--unix-socket"]).arg(rig.site.path("proxy.sock"));
        for (name, value) in forwarded(Format::Haproxy, &PKI.ledger.identity) {
            command.args(["--header", &format!("{name}: {value}")]);
        }
        command.args(["--data", "grant_type=client_credentials&client_id=ledger"]);
        uid.map(|uid| command.uid(uid));
        let output = command.arg("http://certbind/oauth2/token").finish();
        String::from_utf8(output.stdout).unwrap()
    };
    let answer = ask(None);
    assert!(answer.starts_with("HTTP/1.1 200"), "the server's own user: {answer}");
    let (_, event) = rig.ask(&billing(), &vec![]).await;
    assert!(event["proxy"].as_str().unwrap().starts_with("uid:") && event["peer"] == event["proxy"], "{event}");
    // Only root can be somebody else.
    if Command::new("id").arg("-u").finish().stdout.trim_ascii() == b"0" {
        rig.site.open_to_all();
        let answer = ask(Some(65_533));
        assert!(answer.starts_with("HTTP/1.1 200"), "a user that is named: {answer}");
        let answer = ask(Some(65_534));
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("connection: close"), "another user: {answer}");
        let told = within(async {
            loop {
                if let Some(told) = rig.site.audit().into_iter().find(|event| event["reason"] == "proxy_unknown") {
                    return told;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        assert_eq!((&told["peer"], told.get("proxy")), (&json!("uid:65534"), None), "who it was: {told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_27_on_ordinary_listeners_no_header_is_a_certificate() {
    let rig = Rig::over_tls(Format::Rfc9440);
    for format in Format::ALL {
        let mut connection = rig.server.connect(None, Version::HTTP_11).await.unwrap();
        let headers = forwarded(format, &PKI.billing.identity);
        let (_, event) = rig.ask_over(&mut connection, "/oauth2/token", &billing(), &headers).await;
        assert_eq!(event["reason"], "certificate_missing", "{format:?}");
        assert_eq!(event.get("forwarded_from"), None, "{format:?}");
        let mut connection = rig.server.connect(Some(&PKI.sibling.identity), Version::HTTP_2).await.unwrap();
        let (_, event) = rig.ask_over(&mut connection, "/oauth2/token", &billing(), &headers).await;
        assert_eq!(event["reason"], "san_mismatch", "{format:?}");
    }
    let mut connection = rig.server.connect(Some(&PROXY), Version::HTTP_2).await.unwrap();
    let headers = forwarded(Format::Rfc9440, &PKI.billing.identity);
    let (_, event) = rig.ask_over(&mut connection, "/oauth2/token", &billing(), &headers).await;
    assert_eq!(event["reason"], "chain_untrusted", "nor from the proxy itself, at another door");
}
