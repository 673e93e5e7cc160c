//! A server to which all clients come through a proxy: it has no listener of its own for them, and lacks nothing.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use certbind_devpki::{LeafSpec, Validity};
use certbind_proto::forwarded::Format;
use certbind_proto::time::{Clock as _, SystemClock};
use http_body_util::Full;
use hyper::header::HOST;
use hyper::{Request, Version};
use serde_json::{Value, json};

use super::rig::{Rig, alone, bound_to, by_each_method, forwarded, thumbprint};
use crate::process::client::{Answer, Connection, tls};
use crate::process::rig::{ISSUER, PKI, Process, Site, certbind, handed, output};
use crate::support::finish::Finish as _;

const WELL_KNOWN: &str = "/.well-known/oauth-authorization-server";

/// The ports at which a process listens for TCP.
fn ports(server: &Process) -> BTreeSet<u16> {
    const LISTEN: &str = "0A";
    let descriptors = fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
    let own: BTreeSet<_> = descriptors.filter_map(|descriptor| fs::read_link(descriptor.ok()?.path()).ok()).collect();
    let is_own = |inode: &str| own.contains(Path::new(&format!("socket:[{inode}]")));
    let tables = ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default());
    let rows = tables.iter().flat_map(|table| table.lines().skip(1));
    let rows = rows.map(|row| row.split_whitespace().collect::<Vec<_>>());
    let listening = rows.filter(|row| row[3] == LISTEN && is_own(row[9]));
    listening.map(|row| u16::from_str_radix(row[1].rsplit(':').next().unwrap(), 16).unwrap()).collect()
}

/// A token by each method, bound to the certificate that the proxy forwards.
async fn tokens(rig: &Rig, format: Format) {
    for (method, form, who) in by_each_method() {
        let (answer, event) = rig.ask(&form, &forwarded(format, who)).await;
        assert_eq!(answer.status, 200, "{method}: {} {event}", answer.text);
        assert_eq!(bound_to(&answer.access_token()), thumbprint(who), "{method}");
        assert_eq!((&event["listener"], &event["cert_x5t_s256"]), (&json!("proxy"), &json!(thumbprint(who))));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc8705_6_5_behind_a_socket_alone_there_is_no_other_way_in_and_no_certificate_of_the_server() {
    let format = Format::Xfcc;
    let rig = Rig::over_a_socket_with(format, "", |site| {
        alone(site);
        site.edit("[listen.ops]", "[listen.admin]\naddress = \"unix:admin.sock\"\n\n[listen.ops]");
        for name in ["server.pem", "server.key"] {
            fs::remove_file(site.path(name)).unwrap();
        }
    });
    tokens(&rig, format).await;
    let said = rig.server.said_ready().unwrap();
    assert_eq!((&said["address"], &said["proxy"]), (&Value::Null, &Value::Null), "{said}");
    assert_eq!(ports(&rig.server), BTreeSet::from([rig.server.ops.port()]));

    let metadata = rig.connect(Version::HTTP_11).await.get(WELL_KNOWN).await.unwrap().json();
    assert_eq!(metadata["token_endpoint"], format!("{ISSUER}/oauth2/token"));
    assert_eq!(metadata.get("mtls_endpoint_aliases"), None);
    assert_eq!(metadata["tls_client_certificate_bound_access_tokens"], true);
    let (_, metrics) = rig.server.operations("/metrics").await;
    assert!(!metrics.contains("certbind_server_certificate_expiry_timestamp_seconds{"), "{metrics}");

    let mut doctor = certbind();
    doctor.args(["doctor", "-o", "json", "--server"]).arg(format!("unix:{}", rig.site.path("admin.sock").display()));
    let (said, told, status) = output(&mut doctor);
    assert!(status.success() && !said.contains("server certificate"), "{said}{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc8705_6_5_behind_mutual_tls_alone_the_certificate_for_proxies_is_the_only_one_and_is_followed() {
    let format = Format::Rfc9440;
    let rig = Rig::with(format, alone);
    tokens(&rig, format).await;
    assert_eq!(rig.server.said_ready().unwrap().get("address"), None);
    assert_eq!(ports(&rig.server), BTreeSet::from([rig.server.ops.port(), rig.address.port()]));

    let validity = Validity::days_from(SystemClock.now().unix() - 3600, 20);
    let renewed = PKI.intermediate.leaf(&LeafSpec::server(validity)).unwrap();
    rig.site.write("server.pem", &renewed.chain_pem());
    rig.site.write_private("server.key", &renewed.key_pem());
    rig.site.events("config.reloaded", "listen.proxy", 1).await;
    let stream = tls(rig.address, Some(&super::rig::PROXY), &["h2"]).await.unwrap();
    assert_eq!(stream.get_ref().1.peer_certificates().unwrap(), renewed.chain());
    let (_, metrics) = rig.server.operations("/metrics").await;
    assert!(metrics.contains("listener=\"proxy\"") && !metrics.contains("listener=\"mtls\""), "{metrics}");

    // The other listener comes with the next start.
    let mtls = "[listen.mtls]\naddress = \"127.0.0.1:0\"\ncert = \"file:server.pem\"\nkey = \"file:server.key\"\n";
    rig.site.edit("[listen.ops]", &format!("{mtls}\n[listen.ops]"));
    rig.site.events("config.rejected", "a restart is needed for a new value of listen.mtls.address", 1).await;
}

/// An answer to a request for this host.
async fn at_host(connection: &mut Connection, host: &str) -> Answer {
    let request = Request::builder().uri(WELL_KNOWN).header(HOST, host).body(Full::<Bytes>::default()).unwrap();
    connection.send(request).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc8705_5_beside_a_public_listener_the_aliases_lead_to_the_proxy_and_its_host_is_not_answered_there() {
    let rig = Rig::with(Format::Alb, |site| {
        alone(site);
        site.edit("[listen.proxy]\n", "[listen.proxy]\npublic_url = \"https://proxy.test\"\n");
        let public =
            "[listen.public]\naddress = \"127.0.0.1:0\"\ncert = \"file:server.pem\"\nkey = \"file:server.key\"\n";
        site.edit("[listen.ops]", &format!("{public}\n[listen.ops]"));
    });
    tokens(&rig, Format::Alb).await;
    let public = rig.server.said_ready().unwrap()["public"].as_str().unwrap().parse().unwrap();
    let mut public = Connection::open(public, None, Version::HTTP_11).await.unwrap();
    let metadata = at_host(&mut public, "localhost:8443").await.json();
    assert_eq!(metadata["token_endpoint"], format!("{ISSUER}/oauth2/token"));
    assert_eq!(metadata["mtls_endpoint_aliases"]["token_endpoint"], "https://proxy.test/oauth2/token");
    assert_eq!(at_host(&mut public, "proxy.test").await.status, 421);
    let mut proxied = rig.connect(Version::HTTP_11).await;
    for host in ["proxy.test", "localhost:8443"] {
        assert_eq!(at_host(&mut proxied, host).await.status, 200, "which host it is, is the proxy's business: {host}");
    }
}

#[test]
fn sd_notify_a_server_behind_a_socket_alone_is_ready_when_the_socket_is_there() {
    let rig = Rig::over_a_socket_with(Format::Nginx, "", alone);
    let site = rig.site;
    assert!(rig.server.terminate().success());
    let manager = UnixDatagram::bind(site.path("notify")).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut command = site.serve();
    command.env("NOTIFY_SOCKET", site.path("notify"));
    let server = Process::ready(command);
    let mut bytes = [0; 4096];
    let length = manager.recv(&mut bytes).unwrap();
    assert!(String::from_utf8_lossy(&bytes[..length]).lines().any(|word| word == "READY=1"));
    UnixStream::connect(site.path("proxy.sock")).unwrap();
    assert!(server.terminate().success());
}

/// Starts on a socket with this name.
fn refusal(site: &Site, name: &str) -> String {
    let mut refused = site.serve_on_socket(name);
    let output = refused.stdin(handed(&socket())).stderr(Stdio::piped()).spawn().unwrap().finish();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(6), "{stderr}");
    stderr
}

fn socket() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sd_listen_fds_a_socket_is_for_the_proxy_when_it_is_called_so_and_never_otherwise() {
    let rig = Rig::with(Format::Traefik, alone);
    let site = rig.site;
    assert!(rig.server.terminate().success());
    for name in ["", "certbind.socket"] {
        let told = refusal(&site, name);
        assert!(told.contains("a socket without a name was handed over, which is for [listen.mtls]"), "{told}");
        assert!(told.contains("say FileDescriptorName=proxy"), "{told}");
    }
    assert!(refusal(&site, "mtls").contains("a socket named `mtls` was handed over, and no [listen.mtls]"));
    let socket = socket();
    let server = Process::ready_with(site.serve_on_socket("proxy"), handed(&socket));
    let rig = Rig::on(site, server);
    assert_eq!(rig.address, socket.local_addr().unwrap());
    tokens(&rig, Format::Traefik).await;
}
