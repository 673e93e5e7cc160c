//! What these clients do by themselves that is refused: the reason names the cure, and the cure works.

use std::process::Stdio;

use certbind::cli::dev::setup::DevClient;
use certbind_proto::time::{Clock as _, SystemClock};
use serde_json::{Value, json};

use super::rig::{Shape, Town, run};
use crate::process::rig::{certbind, json_lines, output};

const AS_IT_COMES: &str = "authlib_as_it_comes.py";

/// Authlib names the token endpoint as audience and signs for an hour: each is a reason of its own with a cure of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc10070_4_authlib_as_it_comes_is_refused_and_told_why_and_served_with_legacy_audience() {
    let town = Town::start(Shape::OneListener).await;
    let reports = town.client("reports");
    let refused = as_it_comes(&town, &reports, None);
    is_refused(&town, &refused[0], "assertion_audience").await;
    let cure = explained("assertion_audience");
    assert!(cure.contains("legacy_audience = true") && cure.contains("fapi2"), "{cure}");
    let (said, code) = client_explain(&town, "reports", refused[0]["assertion"].as_str().unwrap());
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("refused: assertion_audience") && said.contains("legacy_audience = true"), "{said}");

    let migrating = DevClient { client_id: "migrating", ..reports };
    let too_long = as_it_comes(&town, &migrating, None);
    is_refused(&town, &too_long[0], "assertion_too_long").await;
    let cure = explained("assertion_too_long");
    assert!(cure.contains("assertions.max_lifetime"), "{cure}");
    let (said, _) = client_explain(&town, "migrating", too_long[0]["assertion"].as_str().unwrap());
    assert!(said.contains("refused: assertion_too_long") && said.contains("assertions.max_lifetime"), "{said}");

    let change = || town.site.edit("[limits]", "[assertions]\nmax_lifetime = \"1h\"\n\n[limits]");
    town.site.after(change, "config.reloaded", "").await;
    let served = as_it_comes(&town, &migrating, None);
    assert!(served.iter().all(|answer| answer["error"].is_null()), "{served:?}");
}

/// Authlib writes the `jti` of its first assertion into the claims that it is given, and so into every later one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oidc_core_9_authlib_with_claims_of_its_own_repeats_a_jti_and_is_refused() {
    let town = Town::start(Shape::OneListener).await;
    let claims = json!({ "aud": town.issuer(), "exp": SystemClock.now().unix() + 60 });
    let answers = as_it_comes(&town, &town.client("reports"), Some(&claims));
    assert_eq!((answers.len(), &answers[0]["error"]), (2, &Value::Null), "{answers:?}");
    is_refused(&town, &answers[1], "assertion_replayed").await;
}

/// The first try of Go's auto-detection has an empty secret; an assertion beside it is not used up by that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc6749_2_3_go_detects_by_a_refusal_that_it_must_send_no_secret() {
    let town = Town::start(Shape::OneListener).await;
    for (client_id, reason) in [("billing", "authorization_header"), ("batch", "two_methods")] {
        let client = town.client(client_id);
        let told = run(town.command("x_oauth2.go", &client).env("AUTH_STYLE", "auto-detect"));
        let jti = told.unwrap_or_else(|said| panic!("{client_id}: {said}")).claims["jti"].clone();
        town.site.event(jti.as_str().unwrap()).await;
        let events = town.site.audit();
        let issued = events.iter().position(|event| event["jti"] == jti).unwrap();
        assert_eq!((&events[issued - 1]["reason"], &events[issued]["event"]), (&reason.into(), &"token.issued".into()));
    }
}

/// requests-oauthlib does the same, and has no second try.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc6749_2_3_requests_oauthlib_without_include_client_id_is_refused_and_told_the_option() {
    let town = Town::start(Shape::OneListener).await;
    let (stdout, stderr, _) = output(&mut town.command("requests_oauthlib_as_it_comes.py", &town.client("billing")));
    let said: Value = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stdout}{stderr}"));
    is_refused(&town, &said, "authorization_header").await;
    let cure = explained("authorization_header");
    assert!(cure.contains("include_client_id=True") && cure.contains("AuthStyleInParams"), "{cure}");
}

/// With two listeners a client that does not ask for the aliases shows no certificate (RFC 8705 §5).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc8705_5_openid_client_without_aliases_is_refused_in_words_that_it_reads() {
    let town = Town::start(Shape::TwoListeners).await;
    for (client_id, error, reason) in
        [("billing", "invalid_client", "certificate_missing"), ("batch", "invalid_request", "certificate_missing")]
    {
        let (stdout, stderr, _) = output(&mut town.command("openid-client-as-it-comes.mjs", &town.client(client_id)));
        let said: Value = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{client_id}: {stdout}{stderr}"));
        assert_eq!(said["error"], error, "{client_id}: {said}");
        assert_eq!(town.site.event(said["request_id"].as_str().unwrap()).await["reason"], reason, "{client_id}");
    }
}

/// Two tries of Authlib's `PrivateKeyJWT`: the assertions, and what came back.
fn as_it_comes(town: &Town, client: &DevClient, claims: Option<&Value>) -> Vec<Value> {
    let mut command = town.command(AS_IT_COMES, client);
    if let Some(claims) = claims {
        command.env("CLAIMS", claims.to_string());
    }
    let (stdout, stderr, status) = output(&mut command);
    assert!(status.success(), "{stderr}");
    json_lines(&stdout)
}

/// The wire says one constant code; why, is in the audit log.
async fn is_refused(town: &Town, answer: &Value, reason: &str) {
    assert_eq!(answer["error"], "invalid_client");
    assert_eq!(town.site.event(answer["request_id"].as_str().unwrap()).await["reason"], reason);
}

fn explained(reason: &str) -> String {
    let (stdout, stderr, status) = output(certbind().args(["explain", reason]));
    assert!(status.success(), "{stderr}");
    stdout
}

/// What `certbind client explain` says to an assertion.
fn client_explain(town: &Town, client_id: &str, assertion: &str) -> (String, Option<i32>) {
    town.site.write("assertion.jwt", assertion);
    let mut command = certbind();
    command.args(["client", "explain", client_id, "--config"]).arg(town.site.path("certbind.toml"));
    command.arg("--assertion").arg(town.site.path("assertion.jwt")).stdin(Stdio::null());
    let (stdout, stderr, status) = output(&mut command);
    (stdout + &stderr, status.code())
}
