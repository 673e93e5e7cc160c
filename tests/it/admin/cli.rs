//! `certbind client`, `status` and `reload` against a running server.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use certbind_devpki::{LeafSpec, Validity};
use certbind_proto::time::{Clock as _, SystemClock};
use hyper::{StatusCode, Version};
use serde_json::{Value, json};

use super::rig::{AdminSite, Ask, registration};
use crate::process::client::client;
use crate::process::rig::{PKI, certbind, json_lines, output};

/// A command of the folder's server.
pub(super) fn command(site: &AdminSite, arguments: &[&str]) -> Command {
    let mut command = certbind();
    command.args(arguments).current_dir(site.site.dir()).env("CERTBIND_ADMIN", "unix:admin.sock");
    command
}

/// Standard output of a command that succeeds.
pub(super) fn runs(site: &AdminSite, arguments: &[&str]) -> String {
    let (out, err, status) = output(&mut command(site, arguments));
    assert!(status.success(), "{arguments:?}: {out}{err}");
    out
}

/// Exit code and standard error of a command that does not.
pub(super) fn fails(site: &AdminSite, arguments: &[&str]) -> (i32, String) {
    let (out, err, status) = output(&mut command(site, arguments));
    assert!(!status.success(), "{arguments:?}: {out}{err}");
    (status.code().unwrap(), err)
}

pub(super) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

const API: &str = "https://localhost:8444";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc8705_2_1_2_a_client_is_made_from_its_certificate_and_nobody_types_a_name() {
    let site = AdminSite::new();
    let (server, _api) = site.start("admin.sock").await;
    let from = |name: &str, matching: &str, more: &[&str]| {
        let fixed = ["client", "create", name, "--from-cert", "clients/billing.pem", "--match", matching];
        [&fixed[..], &["--audience", API, "--scope", "payments:read"], more]
            .concat()
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    let run = |arguments: Vec<String>| runs(&site, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    for (name, matching, member) in [
        ("by-uri", "san-uri", "/tls_client_auth_san_uri"),
        ("by-dn", "subject-dn", "/tls_client_auth_subject_dn"),
        ("by-itself", "self-signed", "/certbind/certificates/0"),
    ] {
        let made = json(&run(from(name, matching, &["-o", "json", "--label", "team=pay", "--owner", "ops"])));
        assert!(made.pointer(member).is_some_and(Value::is_string), "{made}");
        assert_eq!((&made["certbind"]["labels"]["team"], &made["certbind"]["owner"]), (&json!("pay"), &json!("ops")));
        let mut caller = server.connect(Some(&PKI.billing.identity), Version::HTTP_11).await.unwrap();
        assert_eq!(caller.token(&client(name)).await.unwrap().status, StatusCode::OK, "{name}");
    }
    let told = run(from("told", "san-uri", &[]));
    assert!(told.contains("tls_client_auth_san_uri"), "{told}");
    assert!(told.contains("curl --cert clients/billing.pem --key KEY.pem -d grant_type=client_credentials -d client_id=told https://localhost:8443/oauth2/token"), "{told}");

    let by_dns = from("x", "san-dns", &[]);
    let (code, said) = fails(&site, &by_dns.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(code, 1);
    assert!(said.contains("no DNS name; it has") && said.contains("URI: spiffe://certbind.dev/billing"), "{said}");
    let twice = from("told", "san-uri", &[]);
    let (code, said) = fails(&site, &twice.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(code, 3);
    assert!(said.contains("There is a client with this client_id.") && said.contains("request_id"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_listed_shown_edited_disabled_and_deleted() {
    let site = AdminSite::new();
    let (_server, _api) = site.start("admin.sock").await;
    let create = ["client", "create", "new", "--jwks-uri", "https://new.example.com/jwks.json", "--audience", API];
    let told = runs(&site, &create);
    assert!(told.contains("certbind token --issuer https://localhost:8443 --client-id new"), "{told}");

    let listed = runs(&site, &["client", "list"]);
    let first: Vec<&str> = listed.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(first, ["CLIENT", "METHOD", "STATE", "SOURCE", "SCOPE", "CHANGED"]);
    let plain = runs(&site, &["client", "list", "-o", "plain", "--source", "store"]);
    assert!(plain.starts_with("new\tprivate_key_jwt\tactive\tstore\t\t20"), "{plain}");
    assert_eq!(
        json(&runs(&site, &["client", "list", "-o", "json"]))["clients"].as_array().map(Vec::len),
        Some(1 + site.files())
    );
    assert_eq!(runs(&site, &["client", "list", "-o", "plain", "--state", "disabled"]), "");

    let edited =
        runs(&site, &["client", "edit", "new", "-o", "json", "--set", "scope=a b", "--set", "labels.team=pay"]);
    assert_eq!((&json(&edited)["scope"], &json(&edited)["certbind"]["labels"]["team"]), (&json!("a b"), &json!("pay")));
    let shown = runs(&site, &["client", "show", "new"]);
    assert!(shown.lines().any(|line| line.split_whitespace().eq(["certbind.labels.team", "pay"])), "{shown}");
    assert!(shown.starts_with("client_id"), "{shown}");

    site.site.write("new.toml", "client_id = \"new\"\ntoken_endpoint_auth_method = \"self_signed_tls_client_auth\"\n[certbind]\naudiences = [\"https://a\"]\ncertificates = [\"file:clients/ledger.pem\"]\n");
    let replaced = runs(&site, &["client", "edit", "new", "-f", "new.toml"]);
    assert!(replaced.contains("self_signed_tls_client_auth") && replaced.contains("x5t#S256"), "{replaced}");

    assert_eq!(runs(&site, &["client", "disable", "new"]), "new disabled\n");
    assert!(runs(&site, &["client", "show", "new", "-o", "plain"]).contains("certbind.state\tdisabled"));
    assert_eq!(runs(&site, &["client", "enable", "new"]), "new enabled\n");
    assert_eq!(runs(&site, &["client", "delete", "new"]), "new deleted\n");
    let (code, said) = fails(&site, &["client", "show", "new"]);
    assert_eq!(code, 3);
    assert!(said.starts_with("certbind: There is no such client.\n"), "{said}");
    let (code, said) = fails(&site, &["client", "edit", "billing", "--set", "scope=a"]);
    assert_eq!(code, 3);
    assert!(said.contains("A file in clients.dir registers this client"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_and_reload_tell_what_is_not_in_force() {
    let site = AdminSite::new();
    let (_server, _api) = site.start("admin.sock").await;
    let status = runs(&site, &["status"]);
    for line in [
        "issuer                https://localhost:8443".to_owned(),
        "store                 sqlite, answers".to_owned(),
        format!("clients of files      {}", site.files()),
    ] {
        assert!(status.lines().any(|told| told == line), "{line}\n{status}");
    }
    assert_eq!(runs(&site, &["reload"]), "");
    let text = std::fs::read_to_string(site.site.path("clients.d/billing.toml")).unwrap();
    site.site.write("clients.d/billing.toml", &text.replace("scope", "scoep"));
    // Whether this is the first to see it or not.
    for _ in 0..2 {
        let (out, _, code) = output(&mut command(&site, &["reload"]));
        assert!(out.starts_with("not taken over  clients: ") && out.contains("did you mean `scope`?"), "{out}");
        assert_eq!(code.code(), Some(1));
    }
    let (out, _, code) = output(&mut command(&site, &["status", "-o", "json"]));
    assert_eq!((code.code(), &json(&out)["refused"]), (Some(1), &json!(["clients"])));
    site.site.write("clients.d/billing.toml", &text.replace("scope = \"", "scope = \"more "));
    assert!(runs(&site, &["reload"]).starts_with("taken over  client billing: changed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc5280_6_3_a_list_that_refuses_everybody_or_lets_somebody_in_again_is_told() {
    let site = AdminSite::new();
    let now = SystemClock.now().unix();
    let lists = |number: u64, until: i64| {
        let validity = Validity { not_before: now - 86_400, not_after: until };
        PKI.revoke(number, &[&PKI.sibling], validity).unwrap().pem() + &PKI.root_crl.pem()
    };
    site.site.write("crl.pem", &lists(7, now + 86_400));
    let (server, _api) = site.start("admin.sock").await;
    runs(&site, &["status"]);
    for (list, warning) in [
        (lists(8, now - 3600), "is past its nextUpdate"),
        (lists(9, now + 86_400), ""),
        (lists(6, now + 86_400), "took the place of a newer one"),
    ] {
        site.site.write("crl.pem", &list);
        for command_line in [&["reload"], &["status"]] {
            let (out, err, status) = output(&mut command(&site, command_line));
            assert_eq!(status.code(), Some(i32::from(!warning.is_empty())), "{command_line:?} {out}{err}");
            assert!(out.contains(warning), "{command_line:?} {out}");
        }
    }
    let lines = json_lines(&server.stderr_at_end());
    let told = |words: &str| {
        let is_it = |line: &&Value| line["message"].as_str().is_some_and(|text| text.contains(words));
        lines.iter().filter(is_it).filter(|line| line["level"] == "warn").count()
    };
    assert_eq!((told("is past its nextUpdate"), told("took the place of a newer one")), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_a_reload_answers_when_it_is_decided_whether_a_certificate_is_taken() {
    let site = AdminSite::new();
    let (_server, _api) = site.start("admin.sock").await;
    let key = site.site.path("server.key");
    std::fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    for round in ["first", "again"] {
        let (out, err, status) = output(&mut command(&site, &["reload"]));
        assert_eq!(status.code(), Some(1), "{round}: {out}{err}");
        assert!(out.starts_with("not taken over  server certificate of `listen.mtls`: "), "{round}: {out}");
        assert!(out.contains("0644") && out.lines().count() == 1, "{round}: {out}");
    }
    std::fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    assert!(runs(&site, &["reload"]).lines().all(|line| line.starts_with("taken over  server certificate of")));

    // The certificate of another pair, and its key while the reload waits.
    let [pem, new_key] = renewed();
    site.site.write("server.pem", &pem);
    let mut waiting = command(&site, &["reload"]);
    let waiting = std::thread::spawn(move || output(&mut waiting));
    tokio::time::sleep(Duration::from_millis(300)).await;
    site.site.write_private("server.key", &new_key);
    let (out, err, status) = waiting.join().unwrap();
    assert_eq!(status.code(), Some(0), "{out}{err}");
    assert!(runs(&site, &["reload"]).is_empty(), "nothing is left to be decided");

    site.site.write_private("server.key", &renewed()[1]);
    let (out, _, status) = output(&mut command(&site, &["reload", "-o", "json"]));
    assert_eq!(status.code(), Some(1), "{out}");
    let refused = json(&out)["refused"].clone();
    assert!(refused[0].as_str().unwrap().contains("listen.mtls.key: is not the private key"), "{refused}");
}

/// Another pair for the server.
fn renewed() -> [String; 2] {
    let validity = Validity::days_from(SystemClock.now().unix() - 3600, 30);
    let renewed = PKI.intermediate.leaf(&LeafSpec::server(validity)).unwrap();
    [renewed.chain_pem(), renewed.key_pem()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_of_any_length_is_shown() {
    let site = AdminSite::new();
    let (_server, mut api) = site.start("admin.sock").await;
    let scope = format!("start {}", "a".repeat(70_000));
    api.gets(201, Ask::create(&registration("long", &scope))).await;
    let listed = runs(&site, &["client", "list"]);
    let line = listed.lines().find(|line| line.starts_with("long")).unwrap_or_else(|| panic!("{listed}"));
    assert!(line.contains("start aaa") && line.contains('…') && line.len() < 300, "{line}");
    assert!(runs(&site, &["client", "show", "long"]).lines().all(|line| line.chars().count() < 1100));
    runs(&site, &["client", "edit", "long", "--set", "owner=ops"]);
    assert_eq!(json(&runs(&site, &["client", "show", "long", "-o", "json"]))["scope"], scope);
    assert!(runs(&site, &["client", "list", "-o", "plain"]).contains(&scope));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_is_5_and_one_that_nobody_names_is_6() {
    let site = AdminSite::new();
    for server in ["unix:nobody.sock", "https://127.0.0.1:1"] {
        let mut command = command(&site, &["client", "list", "--server", server, "--ca", "ca.pem"]);
        command.args(["--cert", "clients/billing.pem", "--key", "clients/billing.key"]);
        let (_, said, status) = output(&mut command);
        assert_eq!(status.code(), Some(5), "{said}");
        assert!(said.starts_with("certbind: the server cannot be asked: "), "{said}");
    }
    let (_, said, status) = output(certbind().args(["status", "--config"]).arg(site.site.path("certbind.toml")));
    assert_eq!(status.code(), Some(6), "{said}");
    assert!(said.contains("has no [listen.admin]; add it, or say which server with --server"), "{said}");
    let mut configured = certbind();
    configured.args(["status", "--config"]).arg(site.site.path("certbind.toml"));
    let (_, said, status) = output(configured.env("CERTBIND__LISTEN__ADMIN__ADDRESS", "unix:there.sock"));
    assert_eq!(status.code(), Some(5), "the socket of the configuration: {said}");
    assert!(said.contains("there.sock"), "{said}");
}

#[test]
fn what_the_command_line_does_not_say_is_2_before_anybody_is_asked() {
    let site = AdminSite::new();
    let create = ["client", "create", "d", "--audience", API];
    for (arguments, word) in [
        (&create[..], "--from-cert"),
        (&[&create[..], &["--jwks", "keys.json", "--label", "team"]].concat(), "it is NAME=VALUE"),
        (&["client", "edit", "d", "--set", "nonsense=1"], "there is no member `nonsense`"),
        (&["client", "edit", "d", "--set", "=1"], "there is no member ``"),
        (&["client", "edit", "d", "--set", "scope"], "it is MEMBER=VALUE"),
        (&["client", "edit", "d", "--set", "tls_client_certificate_bound_access_tokens=maybe"], "is true or false"),
        (&["token", "--issuer", API, "--client-id", "d"], "give --cert and --key, or --assertion-key"),
        (&["token", "--issuer", API], "--client-id is missing"),
        (&["token", "--issuer", API, "--client-id", "d", "--cert", "clients/billing.pem"], "go together"),
        (&["status", "--server", "ftp://x"], "--server is unix:PATH or https://HOST:PORT, not ftp://x"),
        (&["status", "--server", "https://localhost:1"], "asks for a certificate"),
    ] {
        let (code, said) = fails(&site, arguments);
        assert_eq!(code, 2, "{arguments:?}: {said}");
        assert!(said.contains(word), "{arguments:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_is_named_counts_more_than_the_environment() {
    let site = AdminSite::new();
    let (_server, _api) = site.start("admin.sock").await;
    runs(&site, &["status"]);
    let (code, said) = fails(&site, &["status", "--config", "certbind.toml"]);
    assert_eq!(code, 6, "{said}");
    assert!(said.contains("certbind.toml has no [listen.admin]"), "{said}");
    runs(&site, &["status", "--config", "certbind.toml", "--server", "unix:admin.sock"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_is_applied_once_and_the_second_time_there_is_nothing_to_do() {
    let site = AdminSite::new();
    let (_server, mut api) = site.start("admin.sock").await;
    let folder = site.site.path("wanted");
    std::fs::create_dir(&folder).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    let text = |id: &str, scope: &str| {
        format!(
            "client_id = \"{id}\"\nscope = \"{scope}\"\ntoken_endpoint_auth_method = \"self_signed_tls_client_auth\"\n[certbind]\naudiences = [\"{API}\"]\ncertificates = [\"file:../clients/ledger.pem\"]\n"
        )
    };
    write("one.toml", &text("one", "a"));
    write("two.toml", &text("two", "a"));
    write("three.json", &registration("three", "a").to_string());
    write("README.md", "no client");
    write(".hidden.toml", "no TOML");

    let (out, _, status) = output(&mut command(&site, &["diff", "wanted"]));
    assert_eq!((status.code(), out.as_str()), (Some(8), "+ one\n+ three\n+ two\n"));
    assert_eq!(runs(&site, &["apply", "wanted"]), "one created\nthree created\ntwo created\n");
    assert_eq!(runs(&site, &["apply", "wanted"]), "nothing to do\n");
    assert_eq!(runs(&site, &["diff", "wanted"]), "");

    write("one.toml", &text("one", "b").replace("[certbind]", "[certbind]\nowner = \"ops\""));
    std::fs::remove_file(folder.join("two.toml")).unwrap();
    api.gets(201, Ask::create(&registration("by-hand", "a"))).await;
    let expected = "~ one\n    certbind.owner: nothing -> \"ops\"\n    scope: \"a\" -> \"b\"\n";
    let (out, _, status) = output(&mut command(&site, &["diff", "wanted"]));
    assert_eq!((status.code(), out.as_str()), (Some(8), expected));
    let (out, _, _) = output(&mut command(&site, &["diff", "wanted", "--prune", "-o", "json"]));
    let differences = json(&out)["differences"].as_array().unwrap().len();
    assert_eq!(differences, 3);
    assert_eq!(runs(&site, &["apply", "wanted", "--prune"]), "by-hand deleted\none changed\ntwo deleted\n");

    // What is bad on this side changes nothing; what the server refuses keeps nobody else back.
    write("bad.toml", "client_id = ");
    let (code, said) = fails(&site, &["apply", "wanted"]);
    assert!(code == 1 && said.contains("bad.toml"), "{said}");
    write("bad.toml", &text("bad", "a").replace("audiences", "audeinces"));
    write("file.toml", &text("billing", "a"));
    write("four.toml", &text("four", "a"));
    let (out, said, status) = output(&mut command(&site, &["apply", "wanted"]));
    assert_eq!((status.code(), out.as_str()), (Some(3), "four created\n"));
    assert!(said.contains("certbind: bad: The registration is refused.\n  certbind.audeinces: there is no such key; did you mean `audiences`?"), "{said}");
    assert!(
        said.contains("certbind: billing: a file in clients.dir registers this client, and it alone counts"),
        "{said}"
    );
    let (out, _, status) = output(&mut command(&site, &["diff", "wanted"]));
    let expected = "+ bad\n! billing: a file in clients.dir registers this client, and it alone counts\n";
    assert_eq!((status.code(), out.as_str()), (Some(8), expected));
}
