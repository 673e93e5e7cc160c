//! What a server finds out by itself: a certificate on a revocation list, a client that is gone or disabled.

use std::fs;
use std::time::{Duration, Instant};

use certbind::store::sqlite::{Settings, SqliteStore};
use certbind::store::{Revocation, RevocationStore as _, Revoked, RevokedId};
use certbind_proto::revocation_list::Listed;
use certbind_proto::thumbprint::Thumbprint;
use serde_json::json;

use super::list::until_listed;
use super::{api, asking, resource_servers, revoking};
use crate::support::BUSY;
use crate::support::setup::tls_client;
use crate::support::{Answer, Ask, Caller, Http, PKI, Rig, Token, validity};

/// Until a revocation counts everywhere.
const SOON: Duration = Duration::from_secs(1 + BUSY);

fn active(answer: &Answer) -> bool {
    answer.json()["active"] == true
}

/// Asks over this connection until the token is no longer good, and says why.
async fn until_inactive(rig: &Rig, caller: &mut Caller, token: &Token) -> String {
    let (began, ask) = (Instant::now(), asking(api(), &token.text));
    loop {
        let answer = caller.send(&ask).await;
        if !active(&answer) {
            return rig.audit_of(&answer).await["reason"].as_str().unwrap().to_owned();
        }
        assert!(began.elapsed() < SOON, "still active");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn p4_tokens_fall_with_a_certificate_that_gets_onto_a_revocation_list() {
    let rig = Rig::with(resource_servers).await;
    let beside = rig.beside().await;
    let mut here = rig.connect(api().certificate.as_ref(), Http::Two).await;
    let billing = rig.issues("billing", &Ask::billing()).await;
    let ledger = rig.issues("ledger", &Ask::ledger()).await;
    // Nobody vouches for it, but the certificate is the same one.
    let batch = rig.issues("batch", &rig.batch().over(&PKI.billing.identity)).await;
    for token in [&billing, &ledger, &batch] {
        assert!(active(&here.send(&asking(api(), &token.text)).await));
    }
    rig.replace_crl(&PKI.revoke(2, &[&PKI.billing], validity()).unwrap());
    assert_eq!(until_inactive(&rig, &mut here, &billing).await, "certificate_revoked");
    assert_eq!(until_inactive(&rig, &mut here, &batch).await, "certificate_revoked");
    assert!(active(&here.send(&asking(api(), &ledger.text)).await));
    until_listed(&rig, &billing, Some(Listed::Certificate)).await;
    until_listed(&rig, &ledger, None).await;
    let told = rig.audit_until(|line| line["event"] == "token.revoked").await;
    assert_eq!(
        (&told[0]["cnf_x5t_s256"], &told[0]["reason"]),
        (&json!(billing.bound_to()), &json!("certificate_revoked"))
    );

    // A server that has bound nothing to that certificate learns of it from the store.
    let mut there = Caller::connect(beside.address().unwrap(), api().certificate.as_ref(), Http::One).await;
    until_inactive(&rig, &mut there, &billing).await;
    drop((here, there));
    beside.stop().await;
    let rig = rig.restart().await;
    let old = billing.text;
    assert!(!active(&rig.send(&asking(api(), &old)).await), "after a restart");
    let ask = Ask::billing();
    rig.refuses("nor a new one", &ask, 400, "invalid_client", "certificate_revoked").await;

    rig.replace_crl(&PKI.revoke(3, &[], validity()).unwrap());
    rig.at(1);
    let mut billing = rig.connect(ask.certificate.as_ref(), Http::One).await;
    rig.soon("taken back", &mut billing, Ask::billing, |answer| answer.status == 200).await;
    let new = rig.issues("after it was taken back", &ask).await;
    assert!(active(&rig.send(&asking(api(), &new.text)).await), "new tokens are good");
    assert!(!active(&rig.send(&asking(api(), &old)).await), "old ones are not");
    rig.end().await;
}

#[tokio::test]
async fn p4_tokens_fall_with_their_client_and_a_client_that_comes_back_starts_anew() {
    let rig = Rig::with(resource_servers).await;
    let mut here = rig.connect(api().certificate.as_ref(), Http::One).await;
    let text = fs::read_to_string(rig.path("clients.d/billing.toml")).unwrap();
    for (case, reason) in [("disabled", "client_disabled"), ("gone", "client_unknown")] {
        let token = rig.issues(case, &Ask::billing()).await;
        match case {
            "disabled" => rig.replace_client("billing", &(text.clone() + "state = \"disabled\"\n")),
            _ => fs::remove_file(rig.path("clients.d/billing.toml")).unwrap(),
        }
        // The list has it as well, for those who do not ask.
        until_listed(&rig, &token, Some(Listed::Client)).await;
        assert_eq!(until_inactive(&rig, &mut here, &token).await, reason, "{case}");
        rig.replace_client("billing", &text);
        let mut billing = rig.connect(Ask::billing().certificate.as_ref(), Http::One).await;
        rig.soon("it is back", &mut billing, Ask::billing, |answer| answer.status == 200).await;
        assert!(!active(&here.send(&asking(api(), &token.text)).await), "{case}: its old token stays revoked");
        rig.at(if case == "disabled" { 1 } else { 2 });
        let new = rig.issues(case, &Ask::billing()).await;
        assert!(active(&here.send(&asking(api(), &new.text)).await), "{case}: a new one is good");
        until_listed(&rig, &new, None).await;
    }
    rig.end().await;
}

#[tokio::test]
async fn p4_a_client_that_was_disabled_while_no_server_ran_has_no_tokens_either() {
    let rig = Rig::with(resource_servers).await;
    let token = rig.issues("billing", &Ask::billing()).await;
    let text = fs::read_to_string(rig.path("clients.d/billing.toml")).unwrap();
    let disabled = text + "state = \"disabled\"\n";
    let rig = rig.restart_after(|dir| fs::write(dir.join("clients.d/billing.toml"), disabled).unwrap()).await;
    until_listed(&rig, &token, Some(Listed::Client)).await;
    rig.stop().await;
}

#[tokio::test]
async fn p4_a_certificate_that_is_revoked_in_the_store_authenticates_nobody_and_binds_nothing() {
    let rig = Rig::with(resource_servers).await;
    let mut billing = rig.connect(Ask::billing().certificate.as_ref(), Http::Two).await;
    let token = rig.is_issued("before", billing.send(&Ask::billing()).await).await;
    let thumbprint = Thumbprint::parse(token.bound_to().unwrap()).unwrap();
    // As the admin API does it, on whatever server.
    let store = SqliteStore::open(&Settings::new(rig.path("data")), rig.now()).unwrap();
    let id = RevokedId::of_certificate(&thumbprint);
    let keep_until = rig.now().plus(Duration::from_secs(86_400));
    let revocation = Revocation { what: Revoked::Certificate, id, revoked: keep_until, keep_until };
    store.revoke(revocation, rig.now()).await.unwrap();
    let refused = |answer: &Answer| answer.json()["error"] == "invalid_client";
    let took = rig.soon("on the open connection", &mut billing, Ask::billing, refused).await;
    assert!(took < SOON, "{took:?}");
    let answer = billing.send(&Ask::billing()).await;
    rig.is_refused("like any other", &answer, 400, "invalid_client", "certificate_revoked").await;
    let by_assertion = rig.batch().over(&PKI.billing.identity);
    rig.refuses("nothing is bound to it", &by_assertion, 400, "invalid_client", "certificate_revoked").await;
    let answer = rig.send(&revoking(Ask::billing(), &token.text)).await;
    assert_eq!(answer.status, 400, "it revokes nothing either");
    until_listed(&rig, &token, Some(Listed::Certificate)).await;
    rig.issues("another certificate", &Ask::ledger()).await;
    drop(store);
    rig.stop().await;
}

#[tokio::test]
async fn a_renewed_certificate_of_the_same_client_is_good_after_the_old_one_was_revoked() {
    let rig = Rig::with(|setup| {
        resource_servers(setup);
        setup.client("billing", tls_client("billing", "san_uri", "spiffe://certbind.dev/billing"));
    })
    .await;
    let old = rig.issues("old", &Ask::billing()).await;
    let spec = certbind_devpki::LeafSpec::client("billing", validity()).uri("spiffe://certbind.dev/billing");
    let renewed = PKI.intermediate.leaf(&spec).unwrap();
    let new = rig.issues("new", &Ask::billing().over(&renewed)).await;
    rig.replace_crl(&PKI.revoke(2, &[&PKI.billing], validity()).unwrap());
    let mut here = rig.connect(api().certificate.as_ref(), Http::One).await;
    assert_eq!(until_inactive(&rig, &mut here, &old).await, "certificate_revoked");
    assert!(active(&here.send(&asking(api(), &new.text)).await));
    rig.issues("and gets more", &Ask::billing().over(&renewed)).await;
    rig.stop().await;
}
