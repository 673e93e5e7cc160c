//! Clients made, changed and removed: in force with the answer, told to the audit log, and nobody undoes another's change.

use std::time::Duration;

use hyper::Method;
use hyper::header::{IF_MATCH, IF_NONE_MATCH};
use hyper::{StatusCode, Version};
use serde_json::json;

use super::rig::{AdminSite, Answer, Api, Ask, CLIENTS, registration};
use crate::process::client::client;
use crate::process::rig::{PKI, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_a_change_is_in_force_with_its_answer_on_open_connections() {
    let site = AdminSite::new();
    let (server, mut api) = site.start("admin.sock").await;
    let mut caller = server.connect(Some(&PKI.billing.identity), Version::HTTP_2).await.unwrap();
    let mut token = async || {
        let answer = caller.token(&client("new")).await.unwrap();
        (answer.status, answer.json()["scope"].as_str().unwrap_or_default().to_owned())
    };
    let refused = (StatusCode::BAD_REQUEST, String::new());
    let issued = |scope: &str| (StatusCode::OK, scope.to_owned());
    assert_eq!(token().await, refused);

    let created = api.gets(201, Ask::create(&registration("new", "a"))).await;
    assert_eq!(created.header("location"), "/admin/v1/clients/new");
    assert_eq!(created.json()["registration"]["in_force"], true);
    assert_eq!(token().await, issued("a"));

    let path = format!("{CLIENTS}/new");
    let replaced = api.gets(200, Ask::put("new", &registration("new", "b")).if_match(&created.tag())).await;
    assert_eq!(token().await, issued("b"));
    let patched = api.gets(200, Ask::patch("new", &json!({ "scope": "c" })).if_match(&replaced.tag())).await;
    assert_eq!(token().await, issued("c"));
    api.gets(200, Ask::new(Method::POST, &format!("{path}/disable"))).await;
    assert_eq!(token().await, refused);
    let stale = api.gets(412, Ask::patch("new", &json!({ "scope": "d" })).if_match(&patched.tag())).await;
    assert_eq!(stale.problem(), "precondition-failed");
    let enabled = api.gets(200, Ask::new(Method::POST, &format!("{path}/enable"))).await;
    assert_eq!(token().await, issued("c"));
    assert_eq!(enabled.json()["client_id_issued_at"], created.json()["client_id_issued_at"]);
    api.gets(204, Ask::delete("new").if_match("*")).await;
    assert_eq!(token().await, refused);
    assert_eq!(api.gets(404, Ask::get(&path)).await.problem(), "client-unknown");
    assert!(server.terminate().success());

    let audit = site.site.audit();
    let of = |answer: &Answer| {
        let id = answer.header("x-request-id").to_owned();
        let lines = audit.iter().filter(move |line| line["request_id"] == id.as_str());
        lines.map(|line| line["event"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    for answer in [&created, &replaced, &patched, &enabled] {
        assert_eq!(of(answer), ["admin.requested", "client.changed"]);
    }
    assert_eq!(of(&stale), ["admin.refused"]);
    let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(site.site.dir()).unwrap());
    for line in audit.iter().filter(|line| line["listener"] == "admin") {
        assert_eq!(line["actor"], format!("uid:{uid}"), "{line}");
        assert_eq!(line["client_id"], "new", "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc7591_3_2_1_what_is_registered_is_shown_and_can_be_sent_back() {
    let site = AdminSite::new();
    let (_server, mut api) = site.start("admin.sock").await;
    let mut drawn = registration("x", "a");
    drawn.as_object_mut().unwrap().remove("client_id");
    let created = api.gets(201, Ask::create(&drawn)).await;
    let shown = created.json();
    let client_id = shown["client_id"].as_str().unwrap();
    assert_eq!(client_id.len(), 27, "drawn, and nobody can guess it");
    assert_eq!(shown["grant_types"], json!(["client_credentials"]), "a default is shown");
    assert_eq!(shown["certbind"]["state"], "active");

    let read = api.gets(200, Ask::get(&format!("{CLIENTS}/{client_id}"))).await;
    assert_eq!((read.json(), read.tag()), (shown.clone(), created.tag()));
    let known = Ask::get(&format!("{CLIENTS}/{client_id}")).header(IF_NONE_MATCH, &read.tag());
    let known = api.gets(304, known).await;
    assert_eq!((known.tag(), known.body.len()), (read.tag(), 0));
    let again = api.gets(200, Ask::put(client_id, &shown).if_match(&read.tag())).await.json();
    for member in shown.as_object().unwrap().keys().filter(|member| *member != "registration") {
        assert_eq!(again[member], shown[member], "{member}");
    }
    let strange = api.gets(201, Ask::create(&registration("a b/c?d%", "a"))).await;
    assert_eq!(strange.header("location"), "/admin/v1/clients/a%20b%2Fc%3Fd%25");
    api.gets(200, Ask::get(strange.header("location"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_13_1_1_nobody_undoes_what_another_changed() {
    let site = AdminSite::new();
    let (_server, mut api) = site.start("admin.sock").await;
    let first = api.gets(201, Ask::put("new", &registration("new", "a")).header(IF_NONE_MATCH, "*")).await;
    for (what, ask, status, problem) in [
        ("made twice", Ask::create(&registration("new", "a")), 409, "client-exists"),
        (
            "put twice",
            Ask::put("new", &registration("new", "a")).header(IF_NONE_MATCH, "*"),
            412,
            "precondition-failed",
        ),
        ("no condition", Ask::put("new", &registration("new", "a")), 428, "precondition-missing"),
        ("no condition", Ask::patch("new", &json!({})), 428, "precondition-missing"),
        ("no condition", Ask::delete("new"), 428, "precondition-missing"),
        ("an old state", Ask::delete("new").if_match("\"7777\""), 412, "precondition-failed"),
        ("weak", Ask::delete("new").if_match(&format!("W/{}", first.tag())), 400, "condition-malformed"),
        (
            "two conditions",
            Ask::put("new", &json!({})).if_match("*").header(IF_NONE_MATCH, "*"),
            400,
            "condition-malformed",
        ),
        (
            "two conditions",
            Ask::patch("new", &json!({})).if_match("*").header(IF_NONE_MATCH, "*"),
            400,
            "condition-malformed",
        ),
        ("two conditions", Ask::delete("new").if_match("*").header(IF_NONE_MATCH, "\"7\""), 400, "condition-malformed"),
        (
            "none may be there",
            Ask::new(Method::POST, "/admin/v1/clients/new/enable").header(IF_NONE_MATCH, "*"),
            400,
            "condition-malformed",
        ),
        ("nobody", Ask::delete("nobody").if_match("*"), 404, "client-unknown"),
        ("nobody", Ask::patch("nobody", &json!({})).if_match("*"), 404, "client-unknown"),
        ("nobody", Ask::put("nobody", &registration("nobody", "a")).if_match("*"), 404, "client-unknown"),
        ("nobody", Ask::new(Method::POST, "/admin/v1/clients/nobody/disable"), 404, "client-unknown"),
        ("another name", Ask::put("new", &registration("other", "a")).if_match("*"), 400, "client-other"),
        ("another name", Ask::patch("new", &json!({ "client_id": "other" })).if_match("*"), 400, "client-other"),
        ("a bad patch", Ask::patch("new", &json!({ "scope": 1 })).if_match("*"), 400, "metadata-invalid"),
        ("a file", Ask::delete("billing").if_match("*"), 409, "client-in-file"),
        ("a file", Ask::patch("billing", &json!({})).if_match("*"), 409, "client-in-file"),
        ("a file", Ask::create(&registration("billing", "a")), 409, "client-in-file"),
        ("a file", Ask::new(Method::POST, "/admin/v1/clients/billing/disable"), 409, "client-in-file"),
    ] {
        assert_eq!(api.gets(status, ask).await.problem(), problem, "{what}");
    }
    let same = api.gets(200, Ask::get(&format!("{CLIENTS}/new"))).await;
    assert_eq!(same.tag(), first.tag(), "nothing has changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_servers_of_one_store_lose_no_change_and_make_one_client_once() {
    let site = AdminSite::new();
    let (one, mut first) = site.start("one.sock").await;
    let (two, mut second) = site.start("two.sock").await;
    for n in 0..10 {
        let made = registration(&format!("c{n}"), "a");
        let (a, b) = tokio::join!(first.send(Ask::create(&made)), second.send(Ask::create(&made)));
        let mut statuses = [a.status, b.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409], "{} {}", a.text(), b.text());
    }
    // Each changes another member of the same client, whatever its state.
    let label = |member: &str, n: usize| {
        Ask::patch("c0", &json!({ "certbind": { "labels": { format!("{member}{n}"): "x" } } })).if_match("*")
    };
    for n in 0..10 {
        let (a, b) = tokio::join!(first.send(label("a", n)), second.send(label("b", n)));
        assert_eq!((a.status, b.status), (200, 200), "{} {}", a.text(), b.text());
    }
    within(async {
        while labels(&mut first).await < 20 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;

    // A state that one server gave out is known to the other at once.
    let tag = first.gets(200, Ask::patch("c1", &json!({ "scope": "b" })).if_match("*")).await.tag();
    let ask = Ask::patch("c1", &json!({ "scope": "c" })).header(IF_MATCH, &tag);
    second.gets(200, ask).await;
    assert!(one.terminate().success() && two.terminate().success());
}

/// How many labels `c0` has.
async fn labels(api: &mut Api) -> usize {
    let shown = api.gets(200, Ask::get(&format!("{CLIENTS}/c0"))).await.json();
    shown["certbind"]["labels"].as_object().unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_13_1_1_a_change_that_fits_any_state_is_made_however_many_there_are_and_a_disable_too() {
    const CHANGERS: usize = 12;
    let site = AdminSite::new();
    let (server, mut api) = site.start("admin.sock").await;
    api.gets(201, Ask::create(&registration("new", "a"))).await;
    let mut changers = tokio::task::JoinSet::new();
    for changer in 0..CHANGERS {
        let mut api = Api::connect(&site.socket("admin.sock")).await;
        changers.spawn(async move {
            for n in 0..5 {
                let label = json!({ "certbind": { "labels": { format!("c{changer}-{n}"): "x" } } });
                api.gets(200, Ask::patch("new", &label).if_match("*")).await;
            }
        });
    }
    for n in 0..10 {
        let verb = if n % 2 == 0 { "enable" } else { "disable" };
        let shown = api.gets(200, Ask::new(Method::POST, &format!("{CLIENTS}/new/{verb}"))).await.json();
        assert_eq!(shown["certbind"]["state"], if n % 2 == 0 { "active" } else { "disabled" });
    }
    while let Some(done) = changers.join_next().await {
        done.unwrap();
    }
    let shown = api.gets(200, Ask::get(&format!("{CLIENTS}/new"))).await.json();
    assert_eq!(shown["certbind"]["labels"].as_object().unwrap().len(), CHANGERS * 5, "no change is lost");
    assert_eq!(shown["certbind"]["state"], "disabled");
    drop(api);
    assert!(server.terminate().success());
    let events = site.site.audit();
    let by_hand =
        |name: &str| events.iter().filter(|event| event["event"] == name && event["actor"].is_string()).count();
    let asked = 1 + CHANGERS * 5 + 10;
    assert_eq!((by_hand("admin.requested"), by_hand("client.changed")), (asked, asked), "one line, however many tries");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_another_server_made_a_moment_ago_can_be_changed_at_once() {
    let site = AdminSite::new();
    let (_one, mut first) = site.start("one.sock").await;
    let (_two, mut second) = site.start("two.sock").await;
    for n in 0..20 {
        let name = format!("c{n}");
        let made = first.gets(201, Ask::create(&registration(&name, "a"))).await;
        let ask = match n % 2 {
            0 => Ask::new(Method::POST, &format!("{CLIENTS}/{name}/disable")),
            _ => Ask::patch(&name, &json!({ "certbind": { "state": "disabled" } })).if_match(&made.tag()),
        };
        assert_eq!(second.gets(200, ask).await.json()["certbind"]["state"], "disabled");
        let nobody = Ask::new(Method::POST, &format!("{CLIENTS}/nobody{n}/disable"));
        assert_eq!(second.gets(404, nobody).await.problem(), "client-unknown");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_small_changes_make_no_more_of_a_client_than_one_body_can() {
    let site = AdminSite::new();
    let (_server, mut api) = site.start("admin.sock").await;
    api.gets(201, Ask::create(&registration("new", "a"))).await;
    let label = |name: &str| {
        let value = "x".repeat(100_000);
        Ask::patch("new", &json!({ "certbind": { "labels": { name: value } } })).if_match("*")
    };
    api.gets(200, label("one")).await;
    let before = api.gets(200, label("two")).await;
    assert_eq!(api.gets(400, label("three")).await.problem(), "registration-too-large");
    let after = api.gets(200, Ask::get(&format!("{CLIENTS}/new"))).await;
    assert_eq!(after.tag(), before.tag(), "nothing has changed");
    api.gets(200, Ask::patch("new", &json!({ "certbind": { "labels": { "one": null } } })).if_match("*")).await;
    api.gets(200, label("three")).await;
}

/// A client of HTTP makes `/clients/..` into `/` before it asks (RFC 3986 §5.2.4).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_whose_name_no_path_can_have_is_not_registered() {
    let site = AdminSite::new();
    let (_server, mut api) = site.start("admin.sock").await;
    for name in [".", ".."] {
        let refused = api.gets(400, Ask::create(&registration(name, "a"))).await;
        assert_eq!(refused.problem(), "metadata-invalid");
        let error = &refused.json()["errors"][0];
        assert_eq!(error["pointer"], "#/client_id", "{error}");
        assert!(error["detail"].as_str().unwrap().contains("RFC 3986"), "{error}");
    }
    api.gets(201, Ask::create(&registration("...", "a"))).await;
    api.gets(200, Ask::get(&format!("{CLIENTS}/..."))).await;
}
