//! Each client gets a bound token by each method that it supports, and calls the API; with its token nobody else does.

use certbind::cli::dev::setup::DevClient;
use serde_json::{Value, json};

use super::rig::{Shape, Town, run, thumbprint};
use crate::process::rig::output;

/// The scripts of `tests/foreign/`, one a client, and what is set for it beside the rest.
pub(super) const CLIENTS: &[(&str, &[(&str, &str)])] = &[
    ("openid-client.mjs", &[]),
    ("oauth4webapi.mjs", &[]),
    ("authlib_client.py", &[]),
    ("requests_oauthlib_client.py", &[]),
    ("requests_plain.py", &[]),
    ("httpx_plain.py", &[]),
    ("x_oauth2.go", &[]),
    ("x_oauth2.go", &[("AUTH_STYLE", "auto-detect")]),
    ("curl.sh", &[]),
    ("openssl.sh", &[]),
    ("gnutls.sh", &[]),
];

/// Those that read the metadata, where the two listeners make a difference.
const READERS: &[&str] = &["openid-client.mjs", "oauth4webapi.mjs"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc8705_3_every_foreign_client_gets_a_bound_token_by_every_method_and_calls_the_api() {
    let town = Town::start(Shape::OneListener).await;
    let cases = CLIENTS.iter().flat_map(|row| town.clients().into_iter().map(move |client| (row, client)));
    all(cases.collect(), |((script, more), client)| is_served(&town, script, more, client));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc8705_5_those_that_read_the_metadata_find_the_listener_that_asks_for_certificates() {
    let town = Town::start(Shape::TwoListeners).await;
    let cases = READERS.iter().flat_map(|script| town.clients().into_iter().map(move |client| (script, client)));
    all(cases.collect(), |(script, client)| is_served(&town, script, &[], client));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fapi_5_3_2_1_openid_client_is_served_in_the_profile_with_es256_and_ps256_and_not_with_rs256() {
    let town = Town::start(Shape::Fapi2).await;
    all(town.clients(), |client| is_served(&town, "openid-client.mjs", &[], client));
    let said = refused(&town, "openid-client.mjs", &DevClient { alg: Some("RS256"), ..town.client("reports") });
    assert!(said.contains("invalid_client"), "{said}");
}

/// The answer is that of RFC 6749 §5.2 in a form that each library reads: no challenge hides the JSON (RFC 9110 §15.5.2).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc6749_5_2_every_foreign_client_says_invalid_client_when_the_certificate_is_wrong() {
    let town = Town::start(Shape::OneListener).await;
    let scripts: Vec<&str> = CLIENTS.iter().filter(|(_, more)| more.is_empty()).map(|(script, _)| *script).collect();
    let stolen = |name: &str| town.site.path(&format!("clients/thief.{name}"));
    let thief = DevClient { cert: stolen("pem"), key: stolen("key"), ..town.client("billing") };
    all(scripts, |script| match refused(&town, script, &thief) {
        said if said.contains("invalid_client") => Ok(()),
        said => Err(format!("{script}: {said}")),
    });
}

/// Somebody else's resource server: checks the token by the published keys, asks about it plain and signed, and learns that its
/// client took it back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc7662_2_oauth4webapi_and_jose_check_a_token_ask_about_it_and_take_it_back() {
    let town = Town::start(Shape::TwoListeners).await;
    let billing = town.client("billing");
    let (stdout, stderr, status) = output(&mut town.command("oauth4webapi-asks.mjs", &billing));
    assert!(status.success(), "{stderr}");
    let said: Value = serde_json::from_str(&stdout).unwrap();
    for (answer, active) in [("before", true), ("signed", true), ("after", false)] {
        assert_eq!(said[answer]["active"], active, "{answer}: {said}");
    }
    let bound = json!({ "x5t#S256": thumbprint(&billing.cert) });
    for answer in ["claims", "before", "signed"] {
        assert_eq!((&said[answer]["cnf"], &said[answer]["jti"]), (&bound, &said["claims"]["jti"]), "{answer}: {said}");
    }
    assert_eq!(said["after"], json!({ "active": false }));
}

/// A client that renews a minute before the end has no use for a token of a minute.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authlib_keeps_a_token_of_five_minutes_and_fetches_one_for_every_call_when_they_live_for_one() {
    let town = Town::start(Shape::OneListener).await;
    let tokens_of_three_calls = || output(&mut town.command("authlib_renews.py", &town.client("billing")));
    assert_eq!(tokens_of_three_calls().0, "1\n", "{}", tokens_of_three_calls().1);
    town.site
        .after(|| town.site.edit("[limits]", "[tokens]\nlifetime = \"1m\"\n\n[limits]"), "config.reloaded", "")
        .await;
    assert_eq!(tokens_of_three_calls().0, "3\n");
}

/// One client, one method: bound to its own certificate, good with it, no good with another.
fn is_served(town: &Town, script: &str, more: &[(&str, &str)], client: &DevClient) -> Result<(), String> {
    let case = format!("{script} {more:?}, {} by {}", client.client_id, client.token_endpoint_auth_method);
    let told =
        run(town.command(script, client).envs(more.iter().copied())).map_err(|said| format!("{case}: {said}"))?;
    let seen = (told.statuses, told.claims["client_id"].as_str(), told.claims["cnf"]["x5t#S256"].as_str());
    let expected = ((200, 401), Some(client.client_id), Some(thumbprint(&client.cert)));
    match seen == (expected.0, expected.1, expected.2.as_deref()) && told.token_endpoint == town.token_endpoint() {
        true => Ok(()),
        false => Err(format!("{case}: {seen:?} from {}, not {expected:?}", told.token_endpoint)),
    }
}

/// What the client says when it gets no token.
fn refused(town: &Town, script: &str, client: &DevClient) -> String {
    match run(&mut town.command(script, client)) {
        Ok(told) => panic!("{script}: it got {}", told.claims),
        Err(said) => said,
    }
}

/// Checks all cases, a few at a time, and fails with everything that is wrong.
fn all<T: Sync>(cases: Vec<T>, check: impl Fn(&T) -> Result<(), String> + Sync) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let take = || cases.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    let wrong = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some(case) = take() {
                    wrong.lock().unwrap().extend(check(case).err());
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
