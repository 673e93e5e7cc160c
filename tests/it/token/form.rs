//! The request as HTTP and as a form (RFC 6749 §3.2, Appendix B).

use hyper::Method;

use crate::support::caller::raw;
use crate::support::{Ask, Http, PKI, Rig};

#[tokio::test]
async fn rfc6749_3_2_the_token_endpoint_takes_post_only() {
    let rig = Rig::start().await;
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
        let answer = rig.send(&Ask::billing().method(method.clone())).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{method}");
    }
    assert_eq!(rig.send(&Ask::billing().path("/oauth2/tokens")).await.status, 404);
    assert_eq!(rig.send(&Ask::billing().path("/oauth2/token/")).await.status, 404);
    rig.end().await;
}

#[tokio::test]
async fn rfc6749_2_3_1_nothing_is_read_from_the_query() {
    let rig = Rig::start().await;
    let query = "/oauth2/token?client_id=billing&grant_type=client_credentials";
    for (case, ask) in [
        ("all in the query", Ask::billing().path(query).raw_body(b"")),
        ("all in both", Ask::billing().path(query)),
        ("something else in the query", Ask::billing().path("/oauth2/token?x=1")),
        ("an empty query", Ask::billing().path("/oauth2/token?")),
    ] {
        rig.refuses(case, &ask, 400, "invalid_request", "parameters_in_query").await;
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc6749_3_2_a_parameter_without_value_is_absent_and_an_unknown_one_ignored() {
    let rig = Rig::start().await;
    let plain = rig.issues("no scope", &Ask::billing()).await;
    for (case, ask) in [
        ("scope=", Ask::billing().raw_more("&scope=")),
        ("scope", Ask::billing().raw_more("&scope")),
        ("resource=", Ask::billing().raw_more("&resource=")),
        ("client_secret=", Ask::billing().raw_more("&client_secret=")),
        ("client_assertion=", Ask::billing().raw_more("&client_assertion=&client_assertion_type=")),
        ("foo=1", Ask::billing().with("foo", "1")),
        ("&& between", Ask::billing().raw_more("&&&")),
    ] {
        let token = rig.issues(case, &ask).await;
        assert_eq!(token.claims["scope"], plain.claims["scope"], "{case}");
        assert_eq!(token.claims["aud"], plain.claims["aud"], "{case}");
    }
    let ask = Ask::billing().set("grant_type", "");
    rig.refuses("grant_type=", &ask, 400, "invalid_request", "grant_type_missing").await;
    let ask = Ask::billing().set("client_id", "");
    rig.refuses("client_id=", &ask, 400, "invalid_client", "client_id_missing").await;
    rig.end().await;
}

#[tokio::test]
async fn rfc6749_3_2_no_parameter_comes_twice() {
    let rig = Rig::start().await;
    for (case, more) in [
        ("equal scope", "&scope=payments:read&scope=payments:read"),
        ("grant_type", "&grant_type=client_credentials"),
        ("client_id", "&client_id=billing"),
        ("client_id, escaped", "&client%5Fid=ledger"),
        ("one of them empty", "&client_id="),
        ("assertions", "&client_assertion=a&client_assertion=b"),
        ("unknown ones", "&foo=1&foo=1"),
    ] {
        rig.refuses(case, &Ask::billing().raw_more(more), 400, "invalid_request", "parameter_repeated").await;
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc6749_appendix_b_escapes_are_decoded_once_and_never_repaired() {
    let rig = Rig::start().await;
    for more in ["&scope=payments:read+payments:write", "&scope=payments%3Aread%20payments%3Awrite"] {
        let token = rig.issues(more, &Ask::billing().raw_more(more)).await;
        assert_eq!(token.claims["scope"], "payments:read payments:write");
    }
    for (more, error, reason) in [
        ("&scope=payments:read%2520payments:write", "invalid_scope", "scope_not_allowed"),
        ("&scope=%zz", "invalid_request", "form_malformed"),
        ("&scope=%", "invalid_request", "form_malformed"),
        ("&foo=%ff", "invalid_request", "form_malformed"),
        ("&%c3%28=1", "invalid_request", "form_malformed"),
    ] {
        rig.refuses(more, &Ask::billing().raw_more(more), 400, error, reason).await;
    }
    let ask = Ask::billing().raw_body(b"grant_type=client_credentials&client_id=%ff");
    rig.refuses("client_id=%ff", &ask, 400, "invalid_request", "form_malformed").await;
    rig.end().await;
}

#[tokio::test]
async fn rfc6749_appendix_b_the_content_type_is_that_of_a_form() {
    let rig = Rig::start().await;
    for good in [
        "application/x-www-form-urlencoded; charset=UTF-8",
        "Application/X-WWW-Form-URLEncoded",
        "application/x-www-form-urlencoded;charset=utf-8",
    ] {
        rig.issues(good, &Ask::billing().content_type(good)).await;
    }
    for bad in [
        "application/json",
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded; charset=utf-16",
        "application/x-www-form-urlencoded, application/json",
        "",
    ] {
        rig.refuses(bad, &Ask::billing().content_type(bad), 400, "invalid_request", "content_type").await;
    }
    let mut twice = Ask::billing().header("content-type", "application/json");
    rig.refuses("two of them", &twice, 400, "invalid_request", "content_type").await;
    twice.headers.clear();
    rig.refuses("none", &twice, 400, "invalid_request", "content_type").await;
    let json = Ask::billing().content_type("application/json").raw_body(br#"{"grant_type":"client_credentials"}"#);
    rig.refuses("JSON", &json, 400, "invalid_request", "content_type").await;
    rig.end().await;
}

#[tokio::test]
async fn rfc6749_appendix_b_a_form_is_bounded() {
    let rig = Rig::start().await;
    let many: String = (0..10_000).map(|i| format!("&p{i}=")).collect();
    rig.refuses(
        "10 000 parameters",
        &Ask::billing().raw_more(&many[..60_000]),
        400,
        "invalid_request",
        "form_malformed",
    )
    .await;
    let large = Ask::billing().with("foo", &"x".repeat(1 << 20));
    for http in [Http::One, Http::Two] {
        let answer = rig.connect(Some(&PKI.billing.identity), http).await.send(&large).await;
        rig.is_refused("1 MiB", &answer, 413, "invalid_request", "body_too_large").await;
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc9112_6_3_ambiguous_framing_is_refused_and_the_connection_closed() {
    let rig = Rig::start().await;
    let form = "grant_type=client_credentials&client_id=billing";
    let head = "POST /oauth2/token HTTP/1.1\r\nHost: auth.test\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    let length = form.len();
    for (case, framing, body) in [
        ("both", format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"), form.to_owned()),
        ("two lengths", format!("Content-Length: {length}\r\nContent-Length: 0\r\n"), form.to_owned()),
        ("a list", format!("Content-Length: {length}, 0\r\n"), form.to_owned()),
        ("a sign", format!("Content-Length: +{length}\r\n"), form.to_owned()),
        ("chunked twice", "Transfer-Encoding: chunked, chunked\r\n".to_owned(), "0\r\n\r\n".to_owned()),
        ("not chunked last", "Transfer-Encoding: chunked, gzip\r\n".to_owned(), "0\r\n\r\n".to_owned()),
    ] {
        let request = format!("{head}{framing}\r\n{body}GET /smuggled HTTP/1.1\r\nHost: auth.test\r\n\r\n");
        let answer = raw(rig.address(), Some(&PKI.billing.identity), request.as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{case}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), answer.len().min(1), "{case}: {answer}");
        assert!(!answer.contains("access_token"), "{case}");
    }
    rig.end().await;
}
