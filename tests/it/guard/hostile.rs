//! What is sent through every gateway by somebody who means harm.

use std::process::Command;

use certbind_devpki::Identity;
use certbind_proto::forwarded::known_headers;
use hyper::Version;

use super::rig::{Ask, Rig};
use crate::process::rig::PKI;
use crate::support::finish::Finish as _;

/// All of it.
pub(super) async fn nothing_hostile_passes(rig: &Rig, gateway: &str) {
    nothing_forged_has_an_effect(rig, gateway).await;
    nothing_is_read_in_two_ways(rig, gateway).await;
    no_tunnel_is_opened(rig, gateway).await;
    no_certificate_is_told(rig, gateway).await;
    no_other_target_is_told(rig, gateway).await;
    assert!(!is_resumed(rig.address), "{gateway}: a session goes on without its certificate");
}

/// Headers that forward a certificate of somebody else, or pass for what is said of the token, or take it off.
async fn nothing_forged_has_an_effect(rig: &Rig, gateway: &str) {
    let (thief, none) = (Some(&PKI.thief.identity), None);
    for (name, value) in &forged(&PKI.billing.identity) {
        for who in [thief, none] {
            let headers = vec![(*name, value.as_str())];
            let ask = Ask { who, headers, version: Version::HTTP_11, ..Ask::good(&rig.bound().await) };
            let answer = rig.ask(&ask).await;
            assert!(matches!(answer.status.as_u16(), 401 | 403), "{gateway}: {name}: {}", answer.status);
        }
    }
    for (name, value) in &forged(&PKI.thief.identity) {
        let headers = vec![(*name, value.as_str())];
        let ask = Ask { headers, version: Version::HTTP_11, ..Ask::good(&rig.bound().await) };
        if rig.ask(&ask).await.status == 200 {
            assert!(!rig.service.header(name).contains(value), "{gateway}: the service is told of {name}");
        }
    }
    for twin in ["x_certbind_client", "x.certbind.client"] {
        is_not_told(rig, gateway, twin, "admin").await;
    }
    let dropped = Ask {
        headers: vec![("connection", "X-Certbind-Client, X-Certbind-Scope, X-Certbind-Sub")],
        version: Version::HTTP_11,
        ..Ask::good(&rig.bound().await)
    };
    if rig.ask(&dropped).await.status == 200 {
        assert_eq!(rig.service.header("x-certbind-client"), ["billing"], "{gateway}: a client takes nothing off");
    }
}

/// Two tokens, and paths.
async fn nothing_is_read_in_two_ways(rig: &Rig, gateway: &str) {
    let two = Ask { tokens: vec![rig.bound().await, rig.bound().await], ..Ask::good("") };
    let two = rig.ask(&two).await;
    assert!(matches!(two.status.as_u16(), 400 | 401), "{gateway}: two tokens: {}", two.status);
    for name in ["access_token", "access%5Ftoken", "a=b&%61ccess_token", "a=%zz&access_token"] {
        let target = format!("/payments?{name}={}", rig.bound().await);
        let two = rig.ask(&Ask { target: &target, ..Ask::good(&rig.bound().await) }).await;
        assert!(matches!(two.status.as_u16(), 400 | 401), "{gateway}: {name}: {}", two.status);
    }
    let plain = Ask { target: "/payments?a=%41%20b&token=c&access=d", ..Ask::good(&rig.bound().await) };
    assert_eq!(rig.ask(&plain).await.status, 200, "{gateway}");
    for target in [
        "/payments/../admin",
        "/payments/%2e%2e/admin",
        "/payments//x",
        "/payments%2fx",
        "/payments/..;/admin",
        "/payments;x=1",
        "/payments/%c0%ae%c0%ae/admin",
        "/payments%EF%BC%8Fx",
    ] {
        let ask = Ask { target, version: Version::HTTP_11, ..Ask::good(&rig.bound().await) };
        let answer = rig.ask(&ask).await;
        match answer.status.as_u16() {
            400 | 403 | 404 => {}
            // A gateway that makes a path plain passes on what the guard was asked about.
            200 => assert_eq!(rig.service.target(), "/payments/x", "{gateway}: {target}"),
            status => panic!("{gateway}: {target}: {status}"),
        }
    }
}

/// Another protocol than WebSocket, in which requests would come that nobody asks about. The service would go over to each.
async fn no_tunnel_is_opened(rig: &Rig, gateway: &str) {
    for upgrades in [
        &["h2c"][..],
        &["foo"],
        &["TLS/1.0"],
        &["websocket/13"],
        &["websocket", "h2c"],
        &["h2c", "websocket"],
        &["websocket, h2c"],
        &["h2c,websocket"],
    ] {
        let answer = rig.ask(&upgrading(&rig.bound().await, upgrades)).await;
        match answer.status.as_u16() {
            400 | 403 | 404 => {}
            // A gateway that takes it off.
            200 => assert_eq!(rig.service.header("upgrade"), [""; 0], "{gateway}: {upgrades:?}"),
            // One that takes the first alone.
            101 => assert_eq!(rig.service.header("upgrade"), ["websocket"], "{gateway}: {upgrades:?}"),
            status => panic!("{gateway}: {upgrades:?}: {status}"),
        }
    }
    if TAKES_WEB_SOCKET.contains(&gateway) {
        let answer = rig.ask(&upgrading(&rig.bound().await, &["websocket"])).await;
        assert_eq!(
            (answer.status.as_u16(), rig.service.header("upgrade")),
            (101, vec!["websocket".into()]),
            "{gateway}"
        );
    }
}

/// The samples that let WebSocket pass.
const TAKES_WEB_SOCKET: [&str; 3] = ["haproxy", "haproxy/native", "traefik"];

pub(super) fn upgrading<'r>(token: &str, upgrades: &[&'r str]) -> Ask<'r> {
    let names = std::iter::repeat("upgrade");
    let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let headers = [("connection", "Upgrade"), ("sec-websocket-version", "13"), key].into_iter();
    let headers = headers.chain(names.zip(upgrades.iter().copied())).collect();
    Ask { headers, version: Version::HTTP_11, ..Ask::good(token) }
}

/// Every name under which some proxy forwards a certificate or what it read there, and as those have it who take `_` or `.` for `-`.
async fn no_certificate_is_told(rig: &Rig, gateway: &str) {
    for name in known_headers() {
        for name in [(*name).to_owned(), name.replace('-', "_"), name.replace('-', ".")] {
            is_not_told(rig, gateway, &name, "forged").await;
        }
    }
}

/// Headers from which some frameworks take another path or method than those that were looked at.
async fn no_other_target_is_told(rig: &Rig, gateway: &str) {
    for name in [
        "x-envoy-original-path",
        "x-forwarded-method",
        "x-forwarded-path",
        "x-forwarded-prefix",
        "x-forwarded-uri",
        "x-http-method",
        "x-http-method-override",
        "x-http-path-override",
        "x-method-override",
        "x-original-method",
        "x-original-uri",
        "x-original-url",
        "x-override-url",
        "x-rewrite-url",
    ] {
        is_not_told(rig, gateway, name, "/admin").await;
    }
}

/// A header is taken off, or the request is refused.
async fn is_not_told(rig: &Rig, gateway: &str, name: &str, value: &str) {
    let before = rig.service.count();
    let ask = Ask { headers: vec![(name, value)], version: Version::HTTP_11, ..Ask::good(&rig.bound().await) };
    let answer = rig.ask(&ask).await;
    match answer.status.as_u16() {
        200 => {
            let told = rig.service.header(name);
            assert!(!told.iter().any(|told| told == value), "{gateway}: the service is told of {name}");
        }
        400 | 403 => assert_eq!(rig.service.count(), before, "{gateway}: {name}"),
        status => panic!("{gateway}: {name}: {status}"),
    }
}

/// The certificate of somebody as each format has it, for whoever wants to pass for them.
fn forged(of: &Identity) -> Vec<(&'static str, String)> {
    use base64::Engine as _;
    let der = of.certificate();
    let base64 = base64::engine::general_purpose::STANDARD.encode(der);
    let thumbprint = certbind_proto::thumbprint::Thumbprint::of_der(der);
    let hash: String = thumbprint.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let pem = certbind_proto::cert::Certificate::parse(der).unwrap().to_pem();
    let escaped =
        pem.replace('\n', "%0A").replace(' ', "%20").replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    vec![
        ("client-cert", format!(":{base64}:")),
        ("x-forwarded-client-cert", format!("Hash={hash}")),
        ("ssl-client-cert", escaped.clone()),
        ("x-ssl-client-der", base64.clone()),
        ("x-forwarded-tls-client-cert", base64),
        ("x-amzn-mtls-clientcert", escaped),
    ]
}

/// Whether a second connection goes on with the session of the first one, as openssl sees it.
fn is_resumed(address: std::net::SocketAddr) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let session = folder.path().join("session");
    let connect = |option: &str| {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-ign_eof", "-connect", &address.to_string(), "-servername", "localhost", option]);
        let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let mut child = command
            .arg(&session)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), request).unwrap();
        String::from_utf8_lossy(&child.finish().stdout).into_owned()
    };
    let first = connect("-sess_out");
    assert!(first.contains("CONNECTED"), "{first}");
    session.exists() && connect("-sess_in").lines().any(|line| line.starts_with("Reused"))
}
