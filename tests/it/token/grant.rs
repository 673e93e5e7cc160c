//! Grant, scope and resource (RFC 6749 §3.3, §4.4, §5.2; RFC 8707 §2; RFC 9068 §3).

use serde_json::json;

use crate::support::setup::{client, tls_client};
use crate::support::{API, Ask, PKI, Rig, SCOPE, Setup};

const LEDGER_API: &str = "https://ledger.test";

/// `billing` may ask for two resources, each with scope of its own.
fn two_resources(setup: &mut Setup) {
    setup.more += &format!(
        "[[resource]]\nidentifier = \"{API}\"\nscope = \"pay.read pay.write shared\"\n\
         [[resource]]\nidentifier = \"{LEDGER_API}\"\nscope = \"ledger.read shared\"\n"
    );
    let name = "token_endpoint_auth_method = \"tls_client_auth\"\n\
                tls_client_auth_san_uri = \"spiffe://certbind.dev/billing\"\n\
                scope = \"pay.read pay.write ledger.read shared anywhere\"\n";
    let own = format!("trust = \"dev\"\naudiences = [\"{API}\", \"{LEDGER_API}\"]");
    setup.client("billing", client("billing", name, &own));
}

#[tokio::test]
async fn rfc6749_4_4_2_the_grant_type_is_client_credentials() {
    let rig = Rig::start().await;
    let ask = Ask::billing().without("grant_type");
    rig.refuses("none", &ask, 400, "invalid_request", "grant_type_missing").await;
    for grant in [
        "Client_Credentials",
        "password",
        "authorization_code",
        "refresh_token",
        "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "urn:ietf:params:oauth:grant-type:token-exchange",
        "client_credentials ",
    ] {
        let ask = Ask::billing().set("grant_type", grant);
        rig.refuses(grant, &ask, 400, "unsupported_grant_type", "grant_type_unsupported").await;
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc6749_5_2_a_grant_that_is_not_registered_for_the_client_is_unauthorized() {
    let rig = Rig::with(|setup| {
        let text = tls_client("billing-none", "san_uri", "spiffe://certbind.dev/billing");
        setup.client("billing-none", format!("grant_types = []\n{text}"));
    })
    .await;
    let ask = Ask::by_certificate("billing-none", &PKI.billing.identity);
    rig.refuses("none registered", &ask, 400, "unauthorized_client", "grant_not_registered").await;
    let ask = ask.set("grant_type", "password");
    rig.refuses("an unknown one", &ask, 400, "unsupported_grant_type", "grant_type_unsupported").await;
    rig.end().await;
}

#[tokio::test]
async fn rfc6749_3_2_1_the_client_is_authenticated_before_anything_is_granted() {
    let rig = Rig::start().await;
    for (case, ask) in [
        ("scope", Ask::billing().with("scope", "a\"b")),
        ("resource", Ask::billing().with("resource", "#")),
        ("grant", Ask::billing().set("grant_type", "password")),
        ("no grant", Ask::billing().without("grant_type")),
    ] {
        let ask = ask.over(&PKI.sibling.identity);
        rig.refuses(case, &ask, 400, "invalid_client", "san_mismatch").await;
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc6749_3_3_scope_is_granted_whole_or_refused_and_never_widened() {
    let rig = Rig::start().await;
    for (asked, granted) in [
        (None, SCOPE),
        (Some("payments:read"), "payments:read"),
        (Some("payments:write payments:read"), SCOPE),
        (Some("payments:read payments:read"), "payments:read"),
    ] {
        let ask = asked.map_or_else(Ask::billing, |scope| Ask::billing().with("scope", scope));
        let token = rig.issues(granted, &ask).await;
        assert_eq!(token.answer.json()["scope"], granted, "{asked:?}");
        assert_eq!((&token.claims["scope"], &token.audit["scope"]), (&json!(granted), &json!(granted)), "{asked:?}");
    }
    for (scope, reason) in [
        ("payments:read\"", "scope_malformed"),
        ("payments\\read", "scope_malformed"),
        ("payments:read  payments:write", "scope_malformed"),
        (" payments:read", "scope_malformed"),
        ("payments:read ", "scope_malformed"),
        ("payments:réad", "scope_malformed"),
        ("payments:read\tpayments:write", "scope_malformed"),
        ("Payments:read", "scope_not_allowed"),
        ("payments:read admin", "scope_not_allowed"),
        ("payments", "scope_not_allowed"),
    ] {
        rig.refuses(scope, &Ask::billing().with("scope", scope), 400, "invalid_scope", reason).await;
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc8707_2_a_resource_is_an_absolute_uri_and_one_of_the_clients() {
    let rig = Rig::with(two_resources).await;
    for (resource, reason) in [
        ("api", "resource_malformed"),
        ("//api.test", "resource_malformed"),
        ("https://api.test#x", "resource_malformed"),
        ("https://api.test/ x", "resource_malformed"),
        ("https://api.test/é", "resource_malformed"),
        ("https://", "resource_malformed"),
        ("https://other.test", "resource_not_allowed"),
        ("https://api.test/", "resource_not_allowed"),
        ("https://API.test", "resource_not_allowed"),
        ("https://api.test:443", "resource_not_allowed"),
    ] {
        rig.refuses(resource, &Ask::billing().with("resource", resource), 400, "invalid_target", reason).await;
    }
    let ask = Ask::billing().with("resource", API).with("resource", "https://other.test");
    rig.refuses("one of two", &ask, 400, "invalid_target", "resource_not_allowed").await;
    rig.end().await;
}

#[tokio::test]
async fn rfc9068_3_the_audience_is_the_resource_asked_for_or_the_one_that_the_scope_belongs_to() {
    let rig = Rig::with(two_resources).await;
    let ask = |scope: &str, resources: &[&str]| {
        let ask = if scope.is_empty() { Ask::billing() } else { Ask::billing().with("scope", scope) };
        resources.iter().fold(ask, |ask, resource| ask.with("resource", resource))
    };
    for (scope, resources, aud, granted) in [
        ("", &[][..], json!(API), "anywhere pay.read pay.write shared"),
        ("", &[LEDGER_API], json!(LEDGER_API), "anywhere ledger.read shared"),
        ("", &[LEDGER_API, LEDGER_API], json!(LEDGER_API), "anywhere ledger.read shared"),
        ("", &[API, LEDGER_API], json!([API, LEDGER_API]), "anywhere ledger.read pay.read pay.write shared"),
        ("pay.read", &[], json!(API), "pay.read"),
        ("ledger.read", &[], json!(LEDGER_API), "ledger.read"),
        ("ledger.read anywhere", &[], json!(LEDGER_API), "anywhere ledger.read"),
        ("anywhere", &[], json!(API), "anywhere"),
        ("shared", &[LEDGER_API], json!(LEDGER_API), "shared"),
        ("pay.read ledger.read", &[API, LEDGER_API], json!([API, LEDGER_API]), "ledger.read pay.read"),
    ] {
        let case = format!("{scope} {resources:?}");
        let token = rig.issues(&case, &ask(scope, resources)).await;
        assert_eq!((&token.claims["aud"], &token.claims["scope"]), (&aud, &json!(granted)), "{case}");
        assert_eq!(token.answer.json()["scope"], granted, "{case}");
    }
    for (scope, resources) in [
        ("pay.read ledger.read", &[][..]),
        ("shared", &[]),
        ("pay.read", &[LEDGER_API]),
        ("ledger.read pay.read", &[API]),
    ] {
        let case = format!("{scope} {resources:?}");
        rig.refuses(&case, &ask(scope, resources), 400, "invalid_scope", "scope_of_other_resource").await;
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc9068_5_two_resources_with_one_identifier_are_refused() {
    let error = Rig::refuses_to_start(|setup| {
        let table = format!("[[resource]]\nidentifier = \"{API}\"\n");
        setup.more += &table.repeat(2);
    })
    .await;
    assert!(error.contains("resource") && error.contains("identifier"), "{error}");
}
