//! The admin API over mutual TLS: who gets in, as what, and until when.

use std::sync::LazyLock;
use std::time::Duration;

use certbind_devpki::{CrlSpec, Eku, Identity, Issuer, LeafSpec, Validity};
use certbind_proto::cert::Certificate;
use certbind_proto::time::{Clock as _, SystemClock};
use hyper::Method;
use hyper::header::HeaderName;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::rig::{Answer, Api, Ask, CLIENTS, registration};
use crate::process::client::tls;
use crate::process::rig::{PKI, Process, Site, certbind, output, within};

/// Who vouches for administrators, and for nobody else.
static OPS: LazyLock<Issuer> = LazyLock::new(|| Issuer::root("ops root", month()).unwrap());

pub(super) const ALICE: &str = "spiffe://example.com/ops/alice";

/// Since an hour, for thirty days.
fn month() -> Validity {
    Validity::days_from(now() - 3600, 30)
}

fn now() -> i64 {
    SystemClock.now().unix()
}

/// A certificate of an administrator; its common name is nobody's.
pub(super) fn person(change: impl FnOnce(LeafSpec) -> LeafSpec) -> Identity {
    OPS.leaf(&change(LeafSpec::client("somebody", month()))).unwrap()
}

pub(super) fn alice() -> Identity {
    person(|spec| spec.uri(ALICE))
}

/// The list of revoked administrators.
fn list(number: u64, revoked: &[&Identity]) -> String {
    let revoked = revoked.iter().map(|identity| identity.serial().to_vec()).collect();
    let (this_update, next_update) = (month().not_before, month().not_after);
    OPS.crl(&CrlSpec { next_update, number, revoked, this_update }).unwrap().pem()
}

/// A site whose admin API is reached over TLS by these: kind of name, name, role.
pub(super) fn site(allow: &[(&str, &str, &str)]) -> Site {
    let site = Site::new();
    site.write("ops.pem", &OPS.certificate_pem());
    site.write("ops.crl", &list(1, &[]));
    let listener = "[listen.admin]\naddress = \"127.0.0.1:0\"\ncert = \"file:server.pem\"\nkey = \"file:server.key\"\n\
                    ca = \"file:ops.pem\"\ncrl = [\"file:ops.crl\"]\n";
    let entry = |(kind, name, role): &(&str, &str, &str)| {
        format!("[[listen.admin.allow]]\n{kind} = \"{name}\"\nrole = \"{role}\"\n")
    };
    let allow: String = allow.iter().map(entry).collect();
    site.edit("[limits]\n", &format!("{listener}{allow}[limits]\n"));
    site
}

pub(super) async fn open(server: &Process, who: &Identity, protocol: &str) -> Api {
    Api::over(tls(server.admin(), Some(who), &[protocol]).await.unwrap()).await
}

/// The name of the problem, and the reason where there is one.
fn refusal(answer: &Answer) -> (String, Value) {
    assert_eq!(answer.status, 403, "{}", answer.text());
    (answer.problem(), answer.json()["reason"].clone())
}

fn request_id(answer: &Answer) -> String {
    answer.header("x-request-id").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_role_may_do_its_own_and_no_more_over_both_protocols() {
    for protocol in ["http/1.1", "h2"] {
        let names = ["viewer", "operator", "admin"].map(|role| format!("spiffe://example.com/{role}"));
        let allow: Vec<_> = names
            .iter()
            .zip(["viewer", "operator", "admin"])
            .map(|(name, role)| ("san_uri", name.as_str(), role))
            .collect();
        let site = site(&allow);
        let server = site.start();
        for (name, role, statuses) in [
            (&names[0], "viewer", [200, 403, 403, 403]),
            (&names[1], "operator", [200, 201, 200, 403]),
            (&names[2], "admin", [200, 201, 200, 204]),
        ] {
            let mut api = open(&server, &person(|spec| spec.uri(name)), protocol).await;
            let client = format!("of-{role}");
            let asks = [
                Ask::get(CLIENTS),
                Ask::create(&registration(&client, "a")),
                Ask::new(Method::POST, &format!("{CLIENTS}/{client}/disable")),
                Ask::delete(&client).if_match("*"),
            ];
            for (ask, status) in asks.into_iter().zip(statuses) {
                let answer = api.gets(status, ask).await;
                if status == 403 {
                    assert_eq!(refusal(&answer), ("role-insufficient".to_owned(), Value::Null));
                    let event = site.event(&request_id(&answer)).await;
                    assert_eq!((&event["event"], &event["actor"]), (&"admin.refused".into(), &name.as_str().into()));
                }
            }
        }
        assert!(server.terminate().success());
        let audit = site.audit();
        let by = |name: &str, event: &str| {
            audit.iter().filter(|line| line["actor"] == name && line["event"] == event).count()
        };
        assert_eq!(names.each_ref().map(|name| by(name, "admin.requested")), [0, 2, 3], "{protocol}");
        assert_eq!(names.each_ref().map(|name| by(name, "client.changed")), [0, 2, 3], "{protocol}");
        let line = audit.iter().find(|line| line["event"] == "admin.requested").unwrap();
        assert_eq!((&line["tls"], &line["cert_subject"]), (&"1.3".into(), &"CN=somebody,O=certbind dev".into()));
        assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_of_name_is_compared_with_its_own_kind_and_no_other() {
    let site = site(&[
        ("san_uri", ALICE, "viewer"),
        ("san_dns", "Bob.example.com", "viewer"),
        ("san_ip", "192.0.2.9", "viewer"),
        ("san_email", "carol@example.com", "viewer"),
        ("subject_dn", "CN=dave,O=certbind dev", "viewer"),
    ]);
    let server = site.start();
    let dave = OPS.leaf(&LeafSpec::client("dave", month())).unwrap();
    for (what, who, is_in) in [
        ("URI", alice(), true),
        ("DNS name", person(|spec| spec.dns("bob.example.com")), true),
        ("IP address", person(|spec| spec.ip([192, 0, 2, 9].into())), true),
        ("e-mail", person(|spec| spec.email("carol@example.com")), true),
        ("subject", dave, true),
        ("another URI", person(|spec| spec.uri("spiffe://example.com/ops/alice2")), false),
        ("a DNS name in a URI", person(|spec| spec.uri("https://bob.example.com")), false),
        ("a URI as a DNS name", person(|spec| spec.dns("alice")), false),
        ("no name", person(|spec| spec), false),
        ("a wildcard", person(|spec| spec.dns("*.example.com")), false),
    ] {
        let answer = open(&server, &who, "h2").await.send(Ask::get(CLIENTS)).await;
        assert_eq!(answer.status == 200, is_in, "{what}: {}", answer.text());
        if !is_in {
            assert_eq!(refusal(&answer).0, "admin-unknown", "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_names_in_a_certificate_the_one_that_may_do_most_counts() {
    let site = site(&[
        ("san_uri", ALICE, "viewer"),
        ("san_dns", "alice.example.com", "admin"),
        ("san_email", "a@b.c", "operator"),
    ]);
    let server = site.start();
    let both = person(|spec| spec.uri(ALICE).dns("alice.example.com").email("a@b.c"));
    let mut api = open(&server, &both, "http/1.1").await;
    api.gets(201, Ask::create(&registration("new", "a"))).await;
    let gone = api.gets(204, Ask::delete("new").if_match("*")).await;
    assert_eq!(site.event(&request_id(&gone)).await["actor"], "alice.example.com");
}

/// Attack: the client's own CA, or one that has the right name, vouches for an administrator.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_71_who_vouches_for_clients_vouches_for_no_administrator() {
    let site = site(&[("san_uri", ALICE, "admin"), ("san_uri", "spiffe://certbind.dev/billing", "admin")]);
    let server = site.start();
    let spec = || LeafSpec::client("somebody", month()).uri(ALICE);
    let rogue = Issuer::root("ops root", month()).unwrap();
    let over = Validity::days_from(now() - 10 * 86_400, 5);
    let early = Validity::days_from(now() + 86_400, 5);
    for (what, who, reason) in [
        ("a client", PKI.billing.identity.clone(), "chain_untrusted"),
        ("a client's CA", PKI.intermediate.leaf(&spec()).unwrap(), "chain_untrusted"),
        ("a CA of the same name", rogue.leaf(&spec()).unwrap(), "chain_untrusted"),
        ("nobody", Identity::self_signed(&spec()).unwrap(), "chain_untrusted"),
        ("expired", OPS.leaf(&LeafSpec { validity: over, ..spec() }).unwrap(), "certificate_expired"),
        ("not yet", OPS.leaf(&LeafSpec { validity: early, ..spec() }).unwrap(), "certificate_not_yet_valid"),
        ("a server's", OPS.leaf(&LeafSpec { eku: vec![Eku::ServerAuth], ..spec() }).unwrap(), "eku_missing"),
    ] {
        for protocol in ["http/1.1", "h2"] {
            let mut api = open(&server, &who, protocol).await;
            let answer = api.send(Ask::create(&registration("new", "a"))).await;
            assert_eq!(refusal(&answer), ("admin-certificate".to_owned(), reason.into()), "{what}");
            let event = site.event(&request_id(&answer)).await;
            assert_eq!((&event["event"], &event["reason"]), (&"admin.refused".into(), &reason.into()), "{what}");
            assert!(event["actor"].is_null() && event["cert_serial"].is_string(), "{event}");
        }
    }
    open(&server, &alice(), "h2").await.gets(404, Ask::get(&format!("{CLIENTS}/new"))).await;

    // And the other way round: who vouches for administrators vouches for no client.
    let client = LeafSpec::client("billing", month()).uri("spiffe://certbind.dev/billing");
    let mut caller = server.connect(Some(&OPS.leaf(&client).unwrap()), hyper::Version::HTTP_2).await.unwrap();
    assert_eq!(caller.token(&crate::process::client::billing()).await.unwrap().error(), "invalid_client");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_certificate_there_is_no_connection() {
    let site = site(&[("san_uri", ALICE, "admin")]);
    let server = site.start();
    // In TLS 1.3 the refusal comes with the first bytes from the server.
    let heard = match tls(server.admin(), None, &["http/1.1"]).await {
        Err(error) => error,
        Ok(mut stream) => {
            let _ = stream.write_all(b"GET /admin/v1/clients HTTP/1.1\r\nhost: x\r\n\r\n").await;
            within(stream.read_u8()).await.unwrap_err()
        }
    };
    assert!(heard.to_string().contains("CertificateRequired"), "{heard}");
    within(async {
        let counted =
            "certbind_tls_handshakes_total{listener=\"admin\",version=\"none\",result=\"certificate_missing\"} 1";
        while !server.operations("/metrics").await.1.contains(counted) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_an_administrator_whose_certificate_is_revoked_or_over_is_out_on_an_open_connection() {
    let site = site(&[("san_uri", ALICE, "admin")]);
    let server = site.start();
    let (first, second) = (alice(), alice());
    let until = Validity { not_before: now() - 60, not_after: now() + 4 };
    let short = OPS.leaf(&LeafSpec { validity: until, ..LeafSpec::client("a", month()).uri(ALICE) }).unwrap();
    let mut connections = [open(&server, &first, "h2").await, open(&server, &second, "http/1.1").await];
    let mut ending = open(&server, &short, "h2").await;
    ending.gets(200, Ask::get(CLIENTS)).await;
    for api in &mut connections {
        api.gets(200, Ask::get(CLIENTS)).await;
    }
    site.after(|| site.write("ops.crl", &list(2, &[&first])), "config.reloaded", "trust group `[listen.admin]`").await;
    let answer = connections[0].send(Ask::get(CLIENTS)).await;
    assert_eq!(refusal(&answer), ("admin-certificate".to_owned(), "certificate_revoked".into()));
    connections[1].gets(200, Ask::get(CLIENTS)).await;
    let (_, metrics) = server.operations("/metrics").await;
    assert!(metrics.contains("certbind_crl_next_update_timestamp_seconds{trust=\"[listen.admin]\"}"), "{metrics}");

    // A list that is broken takes nothing back.
    site.after(|| site.write("ops.crl", "broken"), "config.rejected", "trust group `[listen.admin]`").await;
    assert_eq!(refusal(&connections[0].send(Ask::get(CLIENTS)).await).1, "certificate_revoked");
    connections[1].gets(200, Ask::get(CLIENTS)).await;
    let answer = within(async {
        loop {
            let answer = ending.send(Ask::get(CLIENTS)).await;
            if answer.status != 200 {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(refusal(&answer), ("admin-certificate".to_owned(), "certificate_expired".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_another_role_counts_from_the_next_request_on_an_open_connection() {
    let site = site(&[("san_uri", ALICE, "viewer"), ("san_dns", "bob.example.com", "admin")]);
    let server = site.start();
    let mut api = open(&server, &alice(), "h2").await;
    let create = || Ask::create(&registration("new", "a"));
    assert_eq!(refusal(&api.send(create()).await).0, "role-insufficient");
    site.after(|| site.edit("\"viewer\"", "\"operator\""), "config.reloaded", "listen.admin.allow.0.role").await;
    api.gets(201, create()).await;
    let entry = format!("[[listen.admin.allow]]\nsan_uri = \"{ALICE}\"\nrole = \"operator\"\n");
    site.after(|| site.edit(&entry, ""), "config.reloaded", "listen.admin.allow").await;
    assert_eq!(refusal(&api.send(create()).await).0, "admin-unknown");

    // Without anybody it would be a door that opens for nobody: refused, and the old names stay.
    let last = "[[listen.admin.allow]]\nsan_dns = \"bob.example.com\"\nrole = \"admin\"\n";
    site.after(|| site.edit(last, ""), "config.rejected", "lets nobody in").await;
    let bob = person(|spec| spec.dns("bob.example.com"));
    open(&server, &bob, "h2").await.gets(200, Ask::get(CLIENTS)).await;
    site.write("other.pem", &PKI.root.certificate_pem());
    site.edit("[limits]\n", &format!("{last}[limits]\n"));
    let needs_a_restart = "a restart is needed for a new value of listen.admin.ca";
    site.after(|| site.edit("file:ops.pem", "file:other.pem"), "config.rejected", needs_a_restart).await;
    open(&server, &bob, "h2").await.gets(200, Ask::get(CLIENTS)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_a_renewed_certificate_of_the_admin_listener_is_shown_and_open_connections_go_on() {
    let site = site(&[("san_uri", ALICE, "admin")]);
    site.write("admin.pem", &PKI.server.chain_pem());
    site.write_private("admin.key", &PKI.server.key_pem());
    let text = std::fs::read_to_string(site.path("certbind.toml")).unwrap();
    let (before, after) = text.split_once("[listen.admin]").unwrap();
    site.write("certbind.toml", &format!("{before}[listen.admin]{}", after.replace("file:server.", "file:admin.")));
    let server = site.start();
    let mut api = open(&server, &alice(), "h2").await;
    let renewed = PKI.intermediate.leaf(&LeafSpec::server(Validity::days_from(now() - 3600, 20))).unwrap();
    let renew = || {
        site.write("admin.pem", &renewed.chain_pem());
        site.write_private("admin.key", &renewed.key_pem());
    };
    site.after(renew, "config.reloaded", "server certificate of `listen.admin`").await;
    api.gets(200, Ask::get(CLIENTS)).await;
    let stream = tls(server.admin(), Some(&alice()), &["h2"]).await.unwrap();
    assert_eq!(stream.get_ref().1.peer_certificates().unwrap(), renewed.chain());
    let ends = Certificate::parse(renewed.certificate()).unwrap().not_after().unix();
    let (_, metrics) = server.operations("/metrics").await;
    let metric = format!("certbind_server_certificate_expiry_timestamp_seconds{{listener=\"admin\"}} {ends}");
    assert!(metrics.contains(&metric), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_web_page_does_not_get_an_administrators_certificate_to_work_for_it() {
    let site = site(&[("san_uri", ALICE, "admin")]);
    let server = site.start();
    let ask = Ask::get(CLIENTS).header(HeaderName::from_static("origin"), "https://evil.example");
    let answer = open(&server, &alice(), "h2").await.send(ask).await;
    assert_eq!(refusal(&answer).0, "asked-by-page");
    let event = site.event(&request_id(&answer)).await;
    assert_eq!((&event["actor"], &event["reason"]), (&ALICE.into(), &"asked_by_page".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_ask_a_server_over_tls() {
    let site = site(&[("san_uri", ALICE, "operator")]);
    let server = site.start();
    for (name, identity) in [("alice", alice()), ("mallory", person(|spec| spec))] {
        site.write(&format!("{name}.pem"), &identity.chain_pem());
        site.write_private(&format!("{name}.key"), &identity.key_pem());
    }
    let url = format!("https://localhost:{}", server.admin().port());
    let run = |who: Option<&str>, arguments: &[&str]| {
        let mut command = certbind();
        command.args(arguments).current_dir(site.dir()).args(["--server", &url, "--ca", "ca.pem"]);
        if let Some(who) = who {
            command.args(["--cert", &format!("{who}.pem"), "--key", &format!("{who}.key")]);
        }
        let (out, said, status) = output(&mut command);
        (status.code().unwrap(), out, said)
    };
    let create =
        ["client", "create", "new", "--jwks-uri", "https://new.example.com/jwks.json", "--audience", "https://a"];
    let (code, out, said) = run(Some("alice"), &create);
    assert_eq!(code, 0, "{out}{said}");
    let (code, out, said) = run(Some("alice"), &["client", "list", "-o", "plain", "--source", "store"]);
    assert_eq!(code, 0, "{said}");
    assert!(out.starts_with("new\tprivate_key_jwt\tactive\tstore\t"), "{out}");
    let (code, _, said) = run(Some("alice"), &["client", "delete", "new"]);
    assert_eq!((code, said.lines().next()), (3, Some("certbind: Your role does not permit this.")));
    let (code, _, said) = run(Some("mallory"), &["status"]);
    assert_eq!((code, said.lines().next()), (3, Some("certbind: You are nobody who may use this API.")));
    let (code, _, said) = run(None, &["status"]);
    assert_eq!(code, 2);
    assert!(said.contains("the admin API asks for a certificate: --cert and --key"), "{said}");

    // The same from the environment; and a configuration names no host for a certificate.
    let mut command = certbind();
    command.current_dir(site.dir()).args(["status", "-o", "plain"]);
    for (name, value) in [("ADMIN", url.as_str()), ("CA", "ca.pem"), ("CERT", "alice.pem"), ("KEY", "alice.key")] {
        command.env(format!("CERTBIND_{name}"), value);
    }
    let (_, said, status) = output(&mut command);
    assert_eq!(status.code(), Some(0), "{said}");
    let (_, said, status) = output(certbind().args(["status", "--config"]).arg(site.path("certbind.toml")));
    assert_eq!(status.code(), Some(6), "{said}");
    assert!(said.contains("over TLS: say --server https://HOST:PORT"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_cannot_be_had_is_told_before_anything_runs() {
    let site = site(&[("san_uri", ALICE, "admin")]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let (_, said, status) = output(site.serve().args(["--set", &format!("listen.admin.address={address}")]));
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("cannot listen on {address}")), "{said}");
    // An anchor that must not be used is a bad configuration, for `config check` as well.
    site.write("ops.pem", &alice().chain_pem());
    let (out, said, status) = output(certbind().args(["config", "check", "--config"]).arg(site.path("certbind.toml")));
    assert_eq!(status.code(), Some(6), "{out}{said}");
    assert!(out.contains("listen.admin.ca: holds a certificate that is not a CA's"), "{out}{said}");
}
