//! Signing keys in the hands of an operator: looked at, rotated under traffic on a fleet, and taken back at once.

use std::collections::BTreeSet;
use std::time::Duration;

use certbind_proto::jwk::JwkSet;
use certbind_proto::jws::{Algorithms, Parsed};
use certbind_proto::time::{Clock as _, SystemClock};
use hyper::{StatusCode, Version};
use serde_json::{Value, json};

use super::cli::{command, fails, json, runs};
use super::rig::{AdminSite, Ask};
use crate::postgres::cluster;
use crate::process::client::{Connection, billing};
use crate::process::fleet;
use crate::process::rig::{PKI, Process, output, within};

async fn caller(server: &Process) -> Connection {
    server.connect(Some(&PKI.billing.identity), Version::HTTP_2).await.unwrap()
}

async fn token(caller: &mut Connection) -> String {
    let answer = caller.token(&billing()).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    answer.access_token()
}

fn kid(token: &str) -> String {
    Parsed::parse(token).unwrap().header.kid.unwrap().to_string()
}

async fn jwks(caller: &mut Connection) -> JwkSet {
    JwkSet::parse_fetched(caller.get("/.well-known/jwks.json").await.unwrap().text.as_bytes()).unwrap()
}

fn kids(set: &JwkSet) -> BTreeSet<String> {
    set.iter().filter_map(|key| key.kid().map(str::to_owned)).collect()
}

fn verifies(set: &JwkSet, token: &str) -> bool {
    set.verify(&Parsed::parse(token).unwrap(), Algorithms::DEFAULT).is_ok()
}

fn set_of<const N: usize>(kids: [&str; N]) -> BTreeSet<String> {
    kids.map(str::to_owned).into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_rotated_and_one_that_is_taken_back_signs_no_more_from_the_answer_on() {
    let site = AdminSite::new();
    let (server, _api) = site.start("admin.sock").await;
    let mut caller = caller(&server).await;
    let before = token(&mut caller).await;
    let old = kid(&before);

    let listed = runs(&site, &["key", "list"]);
    let head: Vec<_> = listed.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(head.join(" "), "KEY ALGORITHM STATE SIGNS FROM SIGNS UNTIL PUBLISHED UNTIL");
    let plain = runs(&site, &["key", "list", "-o", "plain"]);
    assert!(plain.starts_with(&format!("{old}\tES256\tcurrent\t20")) && plain.lines().count() == 1, "{plain}");

    let plan = json(&runs(&site, &["key", "rotate", "--dry-run", "-o", "json"]));
    assert_eq!((&plan["dry_run"], &plan["outgoing"], plan.get("incoming")), (&json!(true), &json!(old), None));
    assert!(runs(&site, &["key", "rotate", "--dry-run"]).starts_with("next key         a new one (ES256)\n"));
    assert_eq!(kids(&jwks(&mut caller).await), set_of([&old]), "a dry run changes nothing");
    let rotation = json(&runs(&site, &["key", "rotate", "-o", "json"]));
    let next = rotation["incoming"].as_str().unwrap();
    assert_eq!(rotation["dry_run"], false);
    let time = |name: &str| rotation[name].as_str().unwrap().to_owned();
    assert!(time("published_from") < time("signs_from") && time("signs_from") < time("outgoing_published_until"));
    assert_eq!(kids(&jwks(&mut caller).await), set_of([&old, next]));
    assert_eq!(kid(&token(&mut caller).await), old);
    let (code, said) = fails(&site, &["key", "rotate"]);
    assert_eq!(code, 3);
    assert!(said.starts_with("certbind: The next signing key is published already.\n"), "{said}");

    let plan = runs(&site, &["key", "retire", &old, "--dry-run"]);
    assert!(
        plan.starts_with(&format!("would be retired  {old}, which was current\nsigns             {next}\n")),
        "{plan}"
    );
    assert_eq!(kid(&token(&mut caller).await), old, "a dry run changes nothing");
    let told = runs(&site, &["key", "retire", &old]);
    for part in
        [&format!("breaks   tokens of {old} ("), "goes on  what ", &format!("breaks   tokens of {next}, until ")]
    {
        assert!(told.contains(part), "{part}\n{told}");
    }
    let after = token(&mut caller).await;
    let set = jwks(&mut caller).await;
    assert_eq!((kid(&after).as_str(), kids(&set)), (next, set_of([next])));
    assert!(verifies(&set, &after) && !verifies(&set, &before));
    let (code, said) = fails(&site, &["key", "retire", &old]);
    assert!(code == 3 && said.starts_with("certbind: The signing key was retired before.\n"), "{said}");
    let (code, said) = fails(&site, &["key", "retire", "no/body"]);
    assert!(code == 3 && said.starts_with("certbind: There is no such signing key.\n"), "{said}");
    assert!(server.terminate().success());

    let audit = site.site.audit();
    let of = |what: &str| {
        let lines = audit
            .iter()
            .filter(|line| line["listener"] == "admin" && line["detail"].as_str().unwrap_or_default().contains(what));
        lines.map(|line| line["event"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of("rotate the signing key"), ["admin.requested", "admin.requested"]);
    assert_eq!(of("rotate_keys"), ["admin.refused"]);
    assert_eq!(of(&format!("{next} signs from ")), ["key.rotated"]);
    assert_eq!(of(&old), ["key.rotated", "admin.requested", "key.retired", "admin.requested", "admin.refused"]);
    assert_eq!(of("retire_key no/body"), ["admin.refused"]);
    assert!(audit.iter().any(|line| line["event"] == "key.retired" && line["listener"].is_null()), "the server's own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_taken_back_without_a_next_one_has_a_new_one_at_once_and_with_a_full_answer() {
    let site = AdminSite::new();
    let (server, mut api) = site.start_with("admin.sock", &["keys.rotate_every=off"]).await;
    let mut caller = caller(&server).await;
    let old = kid(&token(&mut caller).await);
    let keys = api.gets(200, Ask::get("/admin/v1/keys")).await.json();
    assert_eq!(keys["keys"][0].get("signs_until"), None, "nobody knows when an operator rotates");
    let path = |dry_run: bool| format!("/admin/v1/keys/{old}/retire?dry_run={dry_run}");
    let ask = |dry_run| Ask::new(hyper::Method::POST, &path(dry_run));
    let plan = api.gets(200, ask(true)).await.json();
    assert_eq!(plan.get("signer"), None, "{plan}");
    let done = api.gets(200, ask(false)).await.json();
    assert_eq!(done["signer"], kid(&token(&mut caller).await).as_str());
    assert_eq!((&done["was"], &done["caches"]), (&json!("current"), &json!("may_not_know")));
    let states = |keys: &Value| {
        let keys = keys["keys"].as_array().unwrap().iter();
        keys.map(|key| key["state"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    assert_eq!(states(&api.gets(200, Ask::get("/admin/v1/keys")).await.json()), set_of(["retired", "current"]));
}

/// The longest that this takes is what is waited for: a machine that is busy may need seconds to start a command.
const PUBLISH_BEFORE: Duration = Duration::from_secs(12);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_one_server_of_a_fleet_makes_is_published_by_all_before_it_signs_and_then_signs_on_all() {
    let site = AdminSite::of(fleet::site(&cluster::database()));
    let sets = [&format!("keys.publish_before={}s", PUBLISH_BEFORE.as_secs()), "keys.rotate_every=off"];
    let (one, _) = site.start_with("admin.sock", &sets).await;
    let (two, _) = site.start_with("two.sock", &sets).await;
    let mut callers = [caller(&one).await, caller(&two).await];
    let old = kid(&token(&mut callers[0]).await);
    let earliest = SystemClock.now().plus(PUBLISH_BEFORE);
    let rotation = json(&runs(&site, &["key", "rotate", "-o", "json"]));
    let next = rotation["incoming"].as_str().unwrap();

    let mut published = Vec::new();
    for caller in &mut callers {
        published.push(
            within(async {
                loop {
                    let set = jwks(caller).await;
                    if kids(&set) == set_of([&old, next]) {
                        return set;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
            .await,
        );
    }
    assert!(SystemClock.now() < earliest, "both publish it before it signs");
    let (mut signed_by_old, mut until) = (0, BTreeSet::new());
    within(async {
        while until.len() < callers.len() {
            for (at, caller) in callers.iter_mut().enumerate() {
                let token = token(caller).await;
                assert!(
                    published.iter().all(|set| verifies(set, &token)),
                    "also with the other server's set of before"
                );
                match kid(&token) == next {
                    true => {
                        assert!(SystemClock.now() >= earliest, "it signs before its time");
                        until.insert(at);
                    }
                    false => signed_by_old += 1,
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert!(signed_by_old > 2, "{signed_by_old}");

    // Taken back on the other one, it signs nowhere a second later.
    let mut retire = command(&site, &["key", "retire", next, "-o", "json"]);
    let (told, said, status) = output(retire.env("CERTBIND_ADMIN", "unix:two.sock"));
    assert!(status.success(), "{told}{said}");
    let signer = json(&told)["signer"].as_str().unwrap().to_owned();
    assert_eq!(kid(&token(&mut callers[1]).await), signer);
    within(async {
        while kid(&token(&mut callers[0]).await) != signer {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    for caller in &mut callers {
        let published = kids(&jwks(caller).await);
        assert!(!published.contains(next) && published.contains(&signer), "{published:?}");
    }
}
