//! What each format forwards is the certificate of the client: it authenticates, and the token is bound to it.

use certbind_proto::forwarded::Format;
use certbind_proto::request::Form;
use hyper::Version;
use serde_json::json;

use super::rig::{NAME, PROXY, Rig, bound_to, by_each_method, forwarded, thumbprint};
use crate::process::client::{Asserter, billing, by_assertion, client};
use crate::process::rig::PKI;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc8705_6_5_a_token_is_bound_to_the_certificate_that_the_proxy_forwards_in_any_format() {
    for format in Format::ALL {
        let rig = Rig::over_tls(format);
        for (method, form, who) in by_each_method() {
            let (answer, event) = rig.ask(&form, &forwarded(format, who)).await;
            let case = format!("{format:?} {method}");
            assert_eq!(answer.status, 200, "{case}: {} {event}", answer.text);
            let bound = bound_to(&answer.access_token());
            assert_eq!(bound, thumbprint(who), "{case}");
            assert_ne!(bound, thumbprint(&PROXY), "{case}");
            for (key, value) in [
                ("listener", "proxy".to_owned()),
                ("auth_method", method.to_owned()),
                ("forwarded_from", format.as_str().to_owned()),
                ("proxy", NAME.to_owned()),
                ("cert_x5t_s256", thumbprint(who)),
                ("cnf_x5t_s256", thumbprint(who)),
            ] {
                assert_eq!(event[key], value, "{case}: {event}");
            }
            assert!(event["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{case}: {event}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc8705_2_whom_the_proxy_forwards_is_looked_at_as_on_a_connection_of_ones_own() {
    let rig = Rig::over_tls(Format::Rfc9440);
    for (case, form, who, reason) in [
        ("a thief", billing(), &PKI.thief.identity, "chain_untrusted"),
        ("somebody else", billing(), &PKI.sibling.identity, "san_mismatch"),
        ("the proxy itself", billing(), &PROXY, "chain_untrusted"),
        ("one that was revoked", billing(), &PKI.revoked.identity, "certificate_revoked"),
        ("one that is not registered", client("ledger"), &PKI.billing.identity, "thumbprint_unknown"),
    ] {
        let (answer, event) = rig.ask(&form, &forwarded(Format::Rfc9440, who)).await;
        assert_eq!((answer.status.as_u16(), &*answer.error()), (400, "invalid_client"), "{case}: {}", answer.text);
        assert_eq!((&event["reason"], &event["cert_x5t_s256"]), (&json!(reason), &json!(thumbprint(who))), "{case}");
    }
    let mut leaf_alone = forwarded(Format::Rfc9440, &PKI.billing.identity);
    leaf_alone.retain(|(name, _)| *name == "client-cert");
    let (_, event) = rig.ask(&billing(), &leaf_alone).await;
    assert_eq!(event["reason"], "chain_untrusted", "the authority between is missing");
}

/// The proxy has a certificate on this connection, and its clients have none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_27_the_proxys_own_certificate_is_nobodys() {
    for rig in [Rig::over_tls(Format::Nginx), Rig::over_a_socket(Format::Nginx, "")] {
        let (answer, event) = rig.ask(&billing(), &vec![]).await;
        assert_eq!((answer.status.as_u16(), &event["reason"]), (400, &json!("certificate_missing")), "{event}");
        let (answer, event) = rig.ask(&billing(), &vec![("ssl-client-cert", String::new())]).await;
        assert_eq!((answer.status.as_u16(), &event["reason"]), (400, &json!("certificate_missing")), "{event}");
        let (answer, event) = rig.ask(&by_assertion(&Asserter::batch().fresh()), &vec![]).await;
        assert_eq!((answer.status.as_u16(), &event["reason"]), (400, &json!("certificate_missing")), "{event}");
        assert_eq!(event.get("forwarded_from"), None, "{event}");
        assert_eq!(event.get("cert_x5t_s256"), None, "{event}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc8705_6_5_introspection_and_revocation_believe_the_proxy_as_well() {
    let rig = Rig::over_tls(Format::Xfcc);
    let as_billing = forwarded(Format::Xfcc, &PKI.billing.identity);
    let (answer, _) = rig.ask(&billing(), &as_billing).await;
    let token = answer.access_token();
    let mut connection = rig.connect(Version::HTTP_2).await;
    let about = |client_id: &str| Form::default().with("client_id", client_id).with("token", &token);

    let as_api = forwarded(Format::Xfcc, &PKI.api.identity);
    let (answer, event) = rig.ask_over(&mut connection, "/oauth2/introspect", &about("api"), &as_api).await;
    assert_eq!(answer.json()["cnf"]["x5t#S256"], json!(thumbprint(&PKI.billing.identity)), "{}", answer.text);
    assert_eq!(event["cert_x5t_s256"], json!(thumbprint(&PKI.api.identity)), "who asks");
    let (answer, _) = rig.ask_over(&mut connection, "/oauth2/introspect", &about("api"), &as_billing).await;
    assert_eq!(answer.status, 401, "{}", answer.text);

    for (headers, status) in [(&as_api, 400), (&vec![], 400), (&as_billing, 200)] {
        let (answer, event) = rig.ask_over(&mut connection, "/oauth2/revoke", &about("billing"), headers).await;
        assert_eq!(answer.status.as_u16(), status, "{event}");
    }
    let (answer, _) = rig.ask_over(&mut connection, "/oauth2/introspect", &about("api"), &as_api).await;
    assert_eq!(answer.json(), json!({ "active": false }));
}
