//! Questions to the guard itself: who may ask, and what is no question.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use certbind_devpki::{Identity, Issuer, LeafSpec, Validity};
use certbind_proto::time::{Clock as _, SystemClock};
use http_body_util::Full;
use hyper::{Request, Version};

use super::rig::{issuer, start_guard};
use crate::process::client::{Connection, billing};
use crate::process::rig::{PKI, Process, Site};
use crate::support::finish::Finish as _;

/// What Caddy would ask about `billing`'s payments.
const QUESTION: [&str; 2] = ["X-Forwarded-Method: GET", "X-Forwarded-Uri: /payments"];

pub(super) fn guard_file(site: &Site, issuer: &str, listen: &str) {
    let text = format!(
        "issuer = \"{issuer}\"\nca = \"file:ca.pem\"\n[listen]\nmode = \"forward-auth\"\n{listen}\n\
         [listen.ops]\naddress = \"127.0.0.1:0\"\n[[route]]\npath = \"/payments\"\naudience = \"https://localhost:8444\"\n"
    );
    site.write("guard.toml", &text);
}

pub(super) async fn token(server: &Process) -> String {
    let mut connection = server.connect(Some(&PKI.billing.identity), Version::HTTP_2).await.unwrap();
    connection.token(&billing()).await.unwrap().access_token()
}

/// The certificate of `billing`, as HAProxy forwards it.
pub(super) fn forwarded() -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(PKI.billing.identity.certificate())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9440_4_whoever_is_not_the_proxy_is_not_believed_over_a_socket() {
    let (site, server, issuer) = issuer();
    guard_file(&site, &issuer, "certificate_from = \"haproxy\"\naddress = \"unix:guard.sock\"");
    let _guard = start_guard(&site);
    let (token, certificate) = (token(&server).await, forwarded());
    let ask = |uid: Option<u32>, headers: &[String]| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--include", "--unix-socket"]).arg(site.path("guard.sock"));
        for header in headers {
            command.args(["--header", header]);
        }
        uid.map(|uid| command.uid(uid));
        let output = command.arg("http://guard/verify").finish();
        String::from_utf8(output.stdout).unwrap()
    };
    let question = |more: &[&str]| {
        let own = [format!("Authorization: Bearer {token}"), format!("X-SSL-Client-DER: {certificate}")];
        let all = QUESTION.iter().chain(more).map(|header| (*header).to_owned());
        own.into_iter().chain(all).collect::<Vec<_>>()
    };
    let answer = ask(None, &question(&[]));
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("x-certbind-client: billing"), "{answer}");
    for (what, more) in [
        ("another method", "X-HTTP-Method-Override: DELETE"),
        ("another path", "X-Original-URL: /admin"),
        ("a second question", "X-Forwarded-Uri: /payments"),
        ("a tunnel", "Upgrade: h2c"),
        ("what the guard says itself", "X_Certbind_Client: admin"),
        ("another certificate", "Client-Cert: :AA==:"),
        ("the twin", "X_SSL_Client_DER: AA=="),
    ] {
        let answer = ask(None, &question(&[more]));
        assert!(answer.starts_with("HTTP/1.1 403"), "{what}: {answer}");
        assert!(!answer.contains("x-certbind-client"), "{what}: {answer}");
    }
    let no_question = question(&[]).into_iter().filter(|header| !header.starts_with("X-Forwarded")).collect::<Vec<_>>();
    assert!(ask(None, &no_question).starts_with("HTTP/1.1 403"));

    // Only root can be somebody else.
    if is_root() {
        site.open_to_all();
        let answer = ask(Some(65_534), &question(&[]));
        assert!(answer.starts_with("HTTP/1.1 403"), "another user: {answer}");
        assert!(answer.contains("connection: close"), "another user: {answer}");
    }
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").finish();
    output.stdout.trim_ascii() == b"0"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9440_4_whoever_is_not_the_proxy_is_not_believed_over_tls() {
    let (site, server, issuer) = issuer();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listen = format!(
        "certificate_from = \"haproxy\"\naddress = \"{address}\"\ncert = \"file:server.pem\"\nkey = \"file:server.key\"\n\
         ca = \"file:ca.pem\"\ncrl = [\"file:crl.pem\"]\n[[listen.allow]]\nsan_uri = \"spiffe://example.com/proxy\"\n"
    );
    guard_file(&site, &issuer, &listen);
    let _guard = start_guard(&site);
    let month = Validity::days_from(SystemClock.now().unix() - 3600, 30);
    let day_ago = Validity::days_from(SystemClock.now().unix() - 2 * 86_400, 1);
    let named =
        |issuer: &Issuer, validity, name: &str| issuer.leaf(&LeafSpec::client("proxy", validity).uri(name)).unwrap();
    let proxy = "spiffe://example.com/proxy";
    let stranger = Issuer::root("stranger", month).unwrap();
    let (token, certificate) = (token(&server).await, forwarded());
    let ask = async |who: Option<&Identity>| {
        let mut connection = Connection::open(address, who, Version::HTTP_11).await.ok()?;
        let mut request = Request::builder().uri("/verify").header("host", "guard");
        for header in QUESTION {
            let (name, value) = header.split_once(": ").unwrap();
            request = request.header(name, value);
        }
        request = request.header("authorization", format!("Bearer {token}")).header("x-ssl-client-der", &certificate);
        connection.send(request.body(Full::default()).unwrap()).await.ok().map(|answer| answer.status.as_u16())
    };
    assert_eq!(ask(Some(&named(&PKI.intermediate, month, proxy))).await, Some(200));
    for (what, who) in [
        ("a client", &PKI.billing.identity),
        ("another name", &named(&PKI.intermediate, month, "spiffe://example.com/proxy2")),
        ("another authority", &named(&stranger, month, proxy)),
        ("an old certificate", &named(&PKI.intermediate, day_ago, proxy)),
    ] {
        assert_eq!(ask(Some(who)).await, Some(403), "{what}");
    }
    assert_eq!(ask(None).await, None, "nobody");
}
