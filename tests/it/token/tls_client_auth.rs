//! `tls_client_auth`: a CA vouches for a registered name (RFC 8705 §2.1; RFC 5280).

use certbind_devpki::{Basic, CaSpec, CrlSpec, Eku, Identity, Issuer, KeyUsage, LeafSpec, San, Validity, rdn};

use crate::support::setup::tls_client;
use crate::support::{Ask, PKI, Rig, START, Setup, thumbprint, validity};

/// A certificate of the right authority for `billing`, with something changed.
fn leaf(change: impl FnOnce(LeafSpec) -> LeafSpec) -> Identity {
    let spec = LeafSpec::client("billing", validity()).uri("spiffe://certbind.dev/billing");
    PKI.intermediate.leaf(&change(spec)).unwrap()
}

/// A certificate of the right authority without any name but a subject.
fn named(change: impl FnOnce(LeafSpec) -> LeafSpec) -> Identity {
    PKI.intermediate.leaf(&change(LeafSpec::client("nobody", validity()))).unwrap()
}

fn by_billing(identity: &Identity) -> Ask {
    Ask::by_certificate("billing", identity)
}

#[tokio::test]
async fn rfc8705_2_the_client_id_is_needed_and_says_which_client_is_meant() {
    let rig = Rig::start().await;
    let ask = Ask::billing().without("client_id");
    rig.refuses("no client_id", &ask, 400, "invalid_client", "client_id_missing").await;
    for (client_id, identity, reason) in [
        ("billing", &PKI.sibling.identity, "san_mismatch"),
        ("billing", &PKI.batch.identity, "san_mismatch"),
        ("ledger", &PKI.billing.identity, "thumbprint_unknown"),
        ("billing", &PKI.ledger.identity, "chain_untrusted"),
        ("Billing", &PKI.billing.identity, "client_unknown"),
        ("billing ", &PKI.billing.identity, "client_unknown"),
        ("spiffe://certbind.dev/billing", &PKI.billing.identity, "client_unknown"),
    ] {
        rig.refuses(client_id, &Ask::by_certificate(client_id, identity), 400, "invalid_client", reason).await;
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc8705_2_a_certificate_counts_by_its_handshake_only() {
    let rig = Rig::start().await;
    let pem = PKI.billing.identity.chain_pem().replace('\n', " ");
    let none = Ask::billing().over_none();
    rig.refuses("no certificate", &none, 400, "invalid_client", "certificate_missing").await;
    for header in [
        "client-cert",
        "client_cert",
        "x-forwarded-client-cert",
        "x-ssl-client-cert",
        "ssl-client-cert",
        "x-client-cert",
        "x-ssl-client-verify",
    ] {
        let ask = none.clone().header(header, &pem);
        rig.refuses(header, &ask, 400, "invalid_client", "certificate_missing").await;
        let ask = by_billing(&PKI.sibling.identity).header(header, &pem);
        rig.refuses(header, &ask, 400, "invalid_client", "san_mismatch").await;
    }
    for parameter in ["client_certificate", "client_cert", "x5c", "x5t#S256"] {
        let ask = none.clone().with(parameter, &pem);
        rig.refuses(parameter, &ask, 400, "invalid_client", "certificate_missing").await;
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc8705_2_1_the_chain_is_valid_to_an_anchor_of_the_group() {
    let rig = Rig::start().await;
    let at = |from, to| Validity { not_before: START.unix() + from, not_after: START.unix() + to };
    let other_leaf = PKI.billing.identity.leaf_only();
    let below_leaf = Issuer::root("billing", validity()).unwrap();
    for (case, identity, reason) in [
        ("another CA with all names", &PKI.thief.identity, "chain_untrusted"),
        ("no intermediate", &other_leaf, "chain_untrusted"),
        ("a CA of its own", &below_leaf.leaf(&billing_spec()).unwrap(), "chain_untrusted"),
        ("expired", &leaf(|spec| LeafSpec { validity: at(-100, -1), ..spec }), "certificate_expired"),
        ("not yet valid", &leaf(|spec| LeafSpec { validity: at(1, 100), ..spec }), "certificate_not_yet_valid"),
        ("for servers", &leaf(|spec| LeafSpec { eku: vec![Eku::ServerAuth], ..spec }), "eku_missing"),
        ("for any use", &leaf(|spec| LeafSpec { eku: vec![Eku::Any], ..spec }), "eku_missing"),
        ("no EKU", &leaf(|spec| LeafSpec { eku: vec![], ..spec }), "eku_missing"),
        ("no signing", &leaf(|spec| LeafSpec { key_usage: vec![KeyUsage::KeyAgreement], ..spec }), "key_usage"),
        ("a NUL in a name", &leaf(|spec| spec.dns("a.example\0.evil")), "certificate_malformed"),
        ("a CA as leaf", &leaf(|spec| LeafSpec { basic: Basic::Ca, ..spec }), "chain_untrusted"),
        ("an intermediate without a list", &deep_chain(1), "revocation_unknown"),
    ] {
        rig.refuses(case, &by_billing(identity), 400, "invalid_client", reason).await;
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc5280_6_1_a_chain_is_no_longer_than_the_group_allows() {
    let rig = Rig::with(|setup| {
        setup.more += "[[trust]]\nname = \"deep\"\nca = \"file:ca.pem\"\nmax_chain_depth = 3\n";
        let text = tls_client("billing-deep", "san_uri", "spiffe://certbind.dev/billing");
        setup.client("billing-deep", text.replace("trust = \"dev\"", "trust = \"deep\""));
    })
    .await;
    rig.issues("as deep as may be", &Ask::by_certificate("billing-deep", &deep_chain(3))).await;
    let ask = Ask::by_certificate("billing-deep", &deep_chain(4));
    rig.refuses("one deeper", &ask, 400, "invalid_client", "chain_too_long").await;
    rig.end().await;
}

fn billing_spec() -> LeafSpec {
    LeafSpec::client("billing", validity()).uri("spiffe://certbind.dev/billing")
}

/// A certificate for `billing` below so many intermediates.
fn deep_chain(depth: usize) -> Identity {
    let ca = |name: &str| CaSpec::new(name, validity());
    let top = PKI.root.intermediate(&ca("deep 1")).unwrap();
    let lowest = (2..=depth).fold(top, |above, i| above.intermediate(&ca(&format!("deep {i}"))).unwrap());
    lowest.leaf(&billing_spec()).unwrap()
}

#[tokio::test]
async fn rfc8705_2_1_a_renewed_certificate_needs_no_new_registration() {
    let rig = Rig::start().await;
    let before = rig.issues("before", &Ask::billing()).await;
    let renewed = leaf(|spec| spec);
    let after = rig.issues("after", &by_billing(&renewed)).await;
    assert_eq!(after.bound_to(), Some(thumbprint(&renewed).as_str()));
    assert_ne!(after.bound_to(), before.bound_to());
    rig.end().await;
}

#[tokio::test]
async fn rfc5280_4_1_2_5_the_last_second_of_a_certificate_counts_and_the_next_does_not() {
    let rig = Rig::start().await;
    let own = Validity { not_before: START.unix() + 10, not_after: START.unix() + 1000 };
    let ask = by_billing(&leaf(|spec| LeafSpec { validity: own, ..spec }));
    for (at, outcome) in [
        (9, Err("certificate_not_yet_valid")),
        (10, Ok(300)),
        (800, Ok(200)),
        (999, Ok(1)),
        (1001, Err("certificate_expired")),
    ] {
        rig.at(at);
        match outcome {
            Ok(life) => assert_eq!(rig.issues(&at.to_string(), &ask).await.expires_in(), life, "{at}"),
            Err(reason) => {
                rig.refuses(&at.to_string(), &ask, 400, "invalid_client", reason).await;
            }
        }
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc8705_2_1_a_revoked_certificate_and_a_stale_list_are_refused() {
    let short = |setup: &mut Setup| {
        let spec =
            |revoked| CrlSpec { next_update: START.unix() + 3600, number: 2, revoked, this_update: START.unix() - 60 };
        let list = PKI.intermediate.crl(&spec(vec![PKI.revoked.identity.serial().to_vec()])).unwrap();
        setup.file("crl.pem", list.pem() + &PKI.root_crl.pem());
        setup.client("revoked", tls_client("revoked", "san_uri", "spiffe://certbind.dev/revoked"));
    };
    let rig = Rig::with(short).await;
    let revoked = Ask::by_certificate("revoked", &PKI.revoked.identity);
    rig.refuses("revoked", &revoked, 400, "invalid_client", "certificate_revoked").await;
    rig.at(3599);
    rig.issues("before nextUpdate", &Ask::billing()).await;
    rig.at(3601);
    rig.refuses("after nextUpdate", &Ask::billing(), 400, "invalid_client", "crl_stale").await;
    rig.end().await;

    let rig = Rig::with(|setup| {
        short(setup);
        setup.set("trust.0.crl_stale", "warn");
    })
    .await;
    rig.at(3601);
    rig.issues("a stale list is better than none", &Ask::billing()).await;
    rig.refuses("its entries count", &revoked, 400, "invalid_client", "certificate_revoked").await;
    rig.end().await;
}

#[tokio::test]
async fn rfc8705_2_1_2_each_name_is_held_against_its_own_kind() {
    let many = named(|spec| {
        spec.dns("first.example").dns("second.example").uri("https://x.example/a").ip([192, 0, 2, 9].into())
    });
    let v6 = named(|spec| spec.ip("2001:db8::1".parse().unwrap()));
    let v4 = named(|spec| spec.ip("192.0.2.1".parse().unwrap()));
    let cn = named(|mut spec| {
        spec.subject = vec![rdn("CN", "a.example")];
        spec
    });
    let uri = named(|spec| spec.uri("a.example:x"));
    let email = named(|spec| spec.email("Pay@Example.com"));
    let wild = named(|spec| spec.dns("*.example.com"));
    let other = named(|spec| spec.san(San::Other(vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3], "a.example".to_owned())));
    let dn = &PKI.by_dn.identity;
    let cases: Vec<(&str, &str, &Identity, bool)> = vec![
        ("subject_dn", "CN=by-dn,OU=Payments,O=certbind dev", dn, true),
        ("subject_dn", "cn=BY-DN, ou=payments, o=Certbind  Dev", dn, true),
        ("subject_dn", "2.5.4.3=by-dn,OU=Payments,O=certbind dev", dn, true),
        ("subject_dn", "O=certbind dev,OU=Payments,CN=by-dn", dn, false),
        ("subject_dn", "CN=by-dn,O=certbind dev", dn, false),
        ("subject_dn", "CN=by-dn+OU=Payments,O=certbind dev", dn, false),
        ("subject_dn", "CN=by\u{2d}dn,OU=Pаyments,O=certbind dev", dn, false),
        ("san_dns", "by-dns.certbind.dev", &PKI.by_dns.identity, true),
        ("san_dns", "BY-DNS.certbind.dev", &PKI.by_dns.identity, true),
        ("san_dns", "second.example", &many, true),
        ("san_dns", "third.example", &many, false),
        ("san_dns", "a.example", &cn, false),
        ("san_dns", "a.example", &uri, false),
        ("san_dns", "a.example", &other, false),
        ("san_dns", "a.example.com", &wild, false),
        ("san_uri", "https://certbind.dev/clients/by-uri", &PKI.by_uri.identity, true),
        ("san_uri", "HTTPS://Certbind.DEV/clients/by-uri", &PKI.by_uri.identity, true),
        ("san_uri", "https://certbind.dev/clients/By-uri", &PKI.by_uri.identity, false),
        ("san_uri", "https://certbind.dev/clients/by-uri/", &PKI.by_uri.identity, false),
        ("san_uri", "https://certbind.dev/clients%2Fby-uri", &PKI.by_uri.identity, false),
        ("san_email", "by-email@certbind.dev", &PKI.by_email.identity, true),
        ("san_email", "Pay@example.COM", &email, true),
        ("san_email", "pay@example.com", &email, false),
        ("san_ip", "192.0.2.7", &PKI.by_ip.identity, true),
        ("san_ip", "2001:DB8:0:0:0:0:0:1", &v6, true),
        ("san_ip", "::ffff:192.0.2.1", &v4, false),
        ("san_ip", "192.0.2.9", &many, true),
    ];
    let rig = Rig::with(|setup| {
        for (i, (kind, value, ..)) in cases.iter().enumerate() {
            setup.client(&format!("c{i}"), tls_client(&format!("c{i}"), kind, value));
        }
    })
    .await;
    for (i, (kind, value, identity, matches)) in cases.iter().enumerate() {
        let ask = Ask::by_certificate(&format!("c{i}"), identity);
        if *matches {
            rig.issues(value, &ask).await;
        } else {
            let reason = if *kind == "subject_dn" { "dn_mismatch" } else { "san_mismatch" };
            rig.refuses(value, &ask, 400, "invalid_client", reason).await;
        }
    }
    rig.end().await;
}

#[tokio::test]
async fn rfc8705_2_1_2_exactly_one_name_of_good_form_is_registered() {
    let method = "token_endpoint_auth_method = \"tls_client_auth\"\n";
    let own = "\n[certbind]\ntrust = \"dev\"\naudiences = [\"https://api.test\"]\n";
    for (case, members, said) in [
        ("none", "", "exactly one tls_client_auth_* name, not 0"),
        ("two", "tls_client_auth_san_dns = \"a.example\"\ntls_client_auth_san_ip = \"192.0.2.1\"\n", "not 2"),
        ("wildcard", "tls_client_auth_san_dns = \"*.example\"\n", "tls_client_auth_san_dns"),
        ("octal", "tls_client_auth_san_ip = \"010.0.0.1\"\n", "tls_client_auth_san_ip"),
        ("no DN", "tls_client_auth_subject_dn = \"/C=DE/CN=a\"\n", "tls_client_auth_subject_dn"),
        ("empty DN", "tls_client_auth_subject_dn = \"\"\n", "tls_client_auth_subject_dn"),
    ] {
        let text = format!("client_id = \"x\"\n{method}{members}{own}");
        let error = Rig::refuses_to_start(|setup| setup.client("x", text)).await;
        assert!(error.contains("x.toml") && error.contains(said), "{case}: {error}");
    }
    let text = format!(
        "client_id = \"x\"\ntls_client_auth_san_dns = \"a.example\"\n{}{own}",
        method.replace("tls_", "self_signed_tls_")
    );
    let error = Rig::refuses_to_start(|setup| setup.client("x", text)).await;
    assert!(error.contains("does not go with this"), "{error}");
}

#[tokio::test]
async fn rfc8705_7_4_there_are_no_anchors_but_the_configured_ones() {
    let error = Rig::refuses_to_start(|setup| {
        let text = tls_client("other", "san_dns", "a.example").replace("trust = \"dev\"", "trust = \"system\"");
        setup.client("other", text);
    })
    .await;
    assert!(error.contains("certbind.trust"), "{error}");
}

#[tokio::test]
async fn rfc8705_2_1_an_anchor_of_one_group_vouches_for_no_client_of_another() {
    let rig = Rig::with(|setup| {
        setup.file("other.pem", PKI.rogue.certificate_pem());
        setup.more += "[[trust]]\nname = \"other\"\nca = \"file:other.pem\"\n";
        let text = tls_client("tenant", "san_uri", "spiffe://certbind.dev/billing");
        setup.client("tenant", text.replace("trust = \"dev\"", "trust = \"other\""));
    })
    .await;
    rig.issues("its own group", &Ask::by_certificate("tenant", &PKI.thief.identity)).await;
    rig.refuses("the other group", &by_billing(&PKI.thief.identity), 400, "invalid_client", "chain_untrusted").await;
    let ask = Ask::by_certificate("tenant", &PKI.billing.identity);
    rig.refuses("the other way", &ask, 400, "invalid_client", "chain_untrusted").await;
    rig.end().await;
}

#[tokio::test]
async fn rfc8705_2_1_two_clients_may_share_a_name_and_the_client_id_decides() {
    let rig = Rig::with(|setup| {
        setup.client("billing-2", tls_client("billing-2", "san_uri", "spiffe://certbind.dev/billing"));
    })
    .await;
    for client_id in ["billing", "billing-2"] {
        let token = rig.issues(client_id, &Ask::by_certificate(client_id, &PKI.billing.identity)).await;
        assert_eq!(token.claims["sub"], client_id);
    }
    rig.end().await;
}

#[tokio::test]
async fn attack_60_a_serial_number_of_thousands_of_octets_does_not_fill_the_audit_log() {
    let rig = Rig::start().await;
    let spec = LeafSpec { serial: Some(vec![0x11; 9000]), ..LeafSpec::client("nobody", validity()) };
    let ask = Ask::by_certificate("nobody", &Identity::self_signed(&spec).unwrap());
    let answer = rig.refuses("a long serial number", &ask, 400, "invalid_client", "client_unknown").await;
    assert!(rig.audit_of(&answer).await.to_string().len() < 1000);
    rig.end().await;
}
