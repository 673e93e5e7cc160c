//! What the API says when it does not do what it is asked (RFC 9457), whole and to the letter.

use std::fmt::Write as _;

use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderName};
use serde_json::json;

use super::rig::{AdminSite, Answer, Api, Ask, CLIENTS, registration};
use crate::support::golden;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn golden_admin_problems() {
    let site = AdminSite::new();
    let (_server, mut api) = site.start("admin.sock").await;
    api.gets(201, Ask::create(&registration("new", "a"))).await;
    let bad = json!({
        "client_id": "",
        "token_endpoint_auth_method": "tls_client_auth",
        "jwks_uri": "http://client.example.com/jwks",
        "scope": "a\"b",
        "certbind": { "trust": "gone", "token_lifetime": "0s", "audiences": ["x", "https://a", "https://a"] },
    });
    let typos = json!({ "client_id": "n", "scoep": "a", "client_name": 1, "certbind": { "labels": { "a": 1 }, "turst": "dev" } });
    let mut seen = String::new();
    for (case, ask) in [
        ("another path", Ask::get("/admin/v2/clients")),
        ("another method", Ask::new(Method::PUT, CLIENTS)),
        ("a query that nobody knows", Ask::get(&format!("{CLIENTS}?page=2"))),
        ("a bad limit", Ask::get(&format!("{CLIENTS}?limit=0"))),
        ("nobody", Ask::get(&format!("{CLIENTS}/nobody"))),
        ("no media type", Ask::new(Method::POST, CLIENTS)),
        (
            "a patch of the wrong media type",
            Ask::new(Method::PATCH, &format!("{CLIENTS}/new")).if_match("*").json(&json!({})),
        ),
        ("no JSON", Ask::new(Method::POST, CLIENTS).body("application/json", "{")),
        ("a member twice", Ask::new(Method::POST, CLIENTS).body("application/json", r#"{"a":1,"a":1}"#)),
        ("no object", Ask::new(Method::POST, CLIENTS).body("application/json", "[]")),
        ("too large", Ask::new(Method::POST, CLIENTS).body("application/json", vec![b' '; 300_000])),
        ("everything is wrong", Ask::create(&bad)),
        ("typing errors", Ask::create(&typos)),
        ("there is one", Ask::create(&registration("new", "a"))),
        ("a file says how", Ask::create(&registration("billing", "a"))),
        ("no condition", Ask::delete("new")),
        ("another state", Ask::delete("new").if_match("\"0\"")),
        ("a bad condition", Ask::delete("new").if_match("new")),
        ("another client", Ask::put("new", &registration("other", "a")).if_match("*")),
        ("no dry run and no change", Ask::new(Method::POST, "/admin/v1/keys/rotate?dry_run=yes")),
        ("an unknown key", Ask::new(Method::POST, "/admin/v1/keys/nobody/retire")),
        ("a web page asks", Ask::get(CLIENTS).header(HeaderName::from_static("origin"), "https://evil.example")),
    ] {
        // A body that is not read to its end costs the connection.
        let mut api = Api::connect(&site.socket("admin.sock")).await;
        show(&mut seen, case, &api.send(ask).await);
    }
    golden::holds("admin-problems.txt", &seen);
}

/// Everything that is not about the client's time: status, headers, body.
fn show(seen: &mut String, case: &str, answer: &Answer) {
    let problem = answer.problem();
    writeln!(seen, "== {case}: {} {problem}", answer.status).unwrap();
    for (name, value) in &answer.headers {
        if !["date", "x-request-id", "content-length"].contains(&name.as_str()) {
            writeln!(seen, "{name}: {}", value.to_str().unwrap()).unwrap();
        }
    }
    let mut body = answer.json();
    body["request_id"] = "…".into();
    writeln!(seen, "{body:#}\n").unwrap();
    assert_eq!(answer.headers[CONTENT_TYPE], "application/problem+json");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn golden_admin_openapi() {
    let site = AdminSite::new();
    let (_server, mut api) = site.start("admin.sock").await;
    let document = api.gets(200, Ask::get("/admin/v1/openapi.json")).await.json();
    assert_eq!(document, certbind::admin::openapi_document());
    golden::holds("admin-openapi.json", &format!("{document:#}\n"));
}

#[test]
fn every_problem_has_its_place_on_the_page_of_problems() {
    use certbind::cli::explain;

    use crate::house;
    let page = house::read("docs/problems.md");
    let code = house::code_with_texts(&house::read("src/admin/problem.rs"));
    let reasons = crate::reasons::reasons_of(&code);
    assert!(reasons.len() > 15);
    let mut expected = String::new();
    for name in &reasons {
        let reason = explain::find(name).unwrap_or_else(|| panic!("{name}"));
        writeln!(expected, "## {}\n\n{} {}\n", name.replace('_', "-"), reason.cause, reason.cure).unwrap();
    }
    let (head, _) = page.split_once("## ").unwrap();
    let whole = format!("{head}{}\n", expected.trim_end());
    golden::page_holds("docs/problems.md", &whole);
}
