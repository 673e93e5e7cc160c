//! A guard's file: what is wrong is told by name, and the samples of `deploy/` are right.

use std::fs;
use std::path::Path;

use super::super::guard::{CertificateFrom, GUARD, GuardMode, open_guard};
use super::*;

/// The least that starts.
const LEAST: &str = r#"issuer = "https://auth.example.com"
[listen]
address = "unix:guard.sock"
mode = "auth-request"
certificate_from = "nginx"
users = ["daemon"]
[[route]]
path = "/"
audience = "https://api.example.com"
"#;

/// What is wrong with this text, a line for each complaint, without the place.
fn complaints(text: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("guard.toml");
    fs::write(&file, text).unwrap();
    let sources = Sources { file, environment: Environment::default(), set: vec![] };
    match open_guard(&sources, Timestamp::from_unix(1_795_305_600)) {
        Ok(_) => Vec::new(),
        Err(rejected) => {
            let told = |complaint: &Complaint| format!("{}: {}", complaint.key, complaint.about);
            rejected.complaints.iter().map(told).collect()
        }
    }
}

#[test]
fn the_least_is_enough_and_denies_what_is_not_said() {
    assert_eq!(complaints(LEAST), [""; 0]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("guard.toml");
    fs::write(&file, LEAST).unwrap();
    let sources =
        Sources { file, environment: Environment::default(), set: vec!["listen.users=[\"root\", \"0\"]".into()] };
    let config = open_guard(&sources, Timestamp::from_unix(1_795_305_600)).unwrap().config;
    assert_eq!(config.mode, GuardMode::AuthRequest);
    assert!(matches!(&config.listen, ProxyListener::Unix { users, .. } if users == &["root", "0"]));
    assert!(matches!(&config.certificate_from, CertificateFrom::Header(own) if own.header() == "ssl-client-cert"));
    assert!(config.revocation.is_denied_when_stale);
    let [route] = config.routes.as_slice() else { panic!("a route") };
    assert!(route.is_binding_required && route.methods.is_empty() && route.scope.is_empty());
}

#[test]
fn rfc9440_4_incomplete_and_contradictory_settings_refuse_the_start_by_name() {
    let with = |from: &str, to: &str| {
        assert!(LEAST.contains(from), "{from}");
        complaints(&LEAST.replace(from, to))
    };
    for (from, to, expected) in [
        ("certificate_from = \"nginx\"\n", "", "listen.certificate_from: "),
        ("mode = \"auth-request\"\n", "", "listen.mode: "),
        ("\"nginx\"", "\"apache\"", "listen.certificate_from: "),
        ("\"nginx\"", "\"envoy\"", "listen.certificate_from: "),
        ("\"nginx\"\n", "\"xfcc\"\ncertificate_header = \"x-other\"\n", "listen.certificate_header: "),
        ("\"nginx\"\n", "\"nginx\"\ncertificate_header = \"x_other\"\n", "listen.certificate_header: "),
        ("unix:guard.sock", "0.0.0.0:9443", "listen.users: "),
        ("unix:guard.sock", "unix:", "listen.address: "),
        ("users = [\"daemon\"]", "ca = \"file:ca.pem\"", "listen.ca: "),
        ("users = [\"daemon\"]", "[[listen.allow]]\nsan_dns = \"proxy.example.com\"", "listen.allow.0: "),
        ("[[route]]\npath = \"/\"\naudience = \"https://api.example.com\"\n", "", "route: "),
        ("path = \"/\"", "path = \"payments\"", "route.0.path: "),
        ("path = \"/\"", "path = \"/a%20b\"", "route.0.path: "),
        ("path = \"/\"", "path = \"/\"\nmethods = [\"get\"]", "route.0.methods: "),
        ("path = \"/\"", "path = \"/\"\nmethods = [\"GTE\"]", "route.0.methods: "),
        ("path = \"/\"", "path = \"/\"\nmethods = []", "route.0.methods: "),
        ("path = \"/\"", "path = \"/admin/*\"", "route.0.path: "),
        ("path = \"/\"", "path = \"/users/{id}\"", "route.0.path: "),
        ("\"nginx\"", "\"haproxy\"", "listen.certificate_from: "),
        ("mode = \"auth-request\"", "mode = \"ext-authz\"", "listen.certificate_from: "),
        ("\"nginx\"\n", "\"nginx\"\ncertificate_header = \"authorization\"\n", "listen.certificate_header: "),
        ("[[route]]", "[revocation]\npoll = \"5m\"\nmax_age = \"5m\"\n[[route]]", "revocation.max_age: "),
        ("[listen]", "offline = \"0s\"\n[listen]", "offline: "),
        ("path = \"/\"", "path = \"/\"\nscop = \"a\"", "route.0.scop: "),
        ("https://api.example.com", "api", "route.0.audience: "),
        ("issuer = \"https://auth.example.com\"", "issuer = \"http://auth.example.com\"", "issuer: "),
    ] {
        let told = with(from, to);
        assert!(told.iter().any(|told| told.starts_with(expected)), "{to}: {told:#?}");
    }
    let tls = with("unix:guard.sock\"", "127.0.0.1:9443\"\ncert = \"file:none.pem\"");
    for missing in ["listen.key", "listen.ca", "listen: lets nobody ask"] {
        assert!(tls.iter().any(|told| told.starts_with(missing)), "{missing}: {tls:#?}");
    }
}

#[test]
fn a_route_that_no_request_takes_is_told() {
    let route = |path: &str, methods: &str| {
        format!("[[route]]\npath = \"{path}\"\naudience = \"https://api.example.com\"\n{methods}\n")
    };
    let after = |first: String, second: String| {
        complaints(&(LEAST.split("[[route]]").next().unwrap().to_owned() + &first + &second))
    };
    let told = after(route("/payments", ""), route("/payments/admin", ""));
    assert!(told.iter().any(|told| told.starts_with("route.1.path: is never reached")), "{told:#?}");
    assert_eq!(after(route("/payments/admin", ""), route("/payments", "")), [""; 0]);
    assert_eq!(after(route("/payments", "methods = [\"GET\"]"), route("/payments", "")), [""; 0]);
    let told = after(route("/", "methods = [\"GET\", \"PUT\"]"), route("/a", "methods = [\"PUT\"]"));
    assert_eq!(told.len(), 1, "{told:#?}");
}

#[test]
fn rfc9440_4_a_header_of_a_proxy_further_away_is_believed_only_when_that_is_said() {
    let relayed = "\"xfcc\"\ncertificate_relayed = true";
    assert_eq!(complaints(&LEAST.replace("\"nginx\"", relayed)), [""; 0]);
}

#[test]
fn every_sample_names_keys_that_there_are() {
    for gateway in ["nginx", "envoy", "traefik", "caddy"] {
        let sources = Sources {
            file: Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(gateway).join("guard.toml"),
            environment: Environment::default(),
            set: vec![],
        };
        let rejected = open_guard(&sources, Timestamp::from_unix(1_795_305_600)).expect_err("files of another machine");
        for complaint in &rejected.complaints {
            assert!(
                matches!(complaint.about, Fault::Read(_) | Fault::File(_) | Fault::UserUnknown { .. }),
                "{gateway}: {complaint}"
            );
        }
    }
    assert!(GUARD.keys.iter().all(|key| !key.meaning.is_empty()));
}
