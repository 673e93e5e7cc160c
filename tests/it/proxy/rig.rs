//! A server with `[listen.proxy]`, and what proxies write into their headers.

use std::net::SocketAddr;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use certbind_devpki::{Identity, Issuer, LeafSpec, Validity};
use certbind_proto::cert::Certificate;
use certbind_proto::forwarded::Format;
use certbind_proto::request::Form;
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::{Clock as _, SystemClock};
use http_body_util::Full;
use hyper::Version;
use hyper_util::rt::TokioIo;
use serde_json::Value;

use crate::process::client::{Answer, Asserter, Connection, billing, by_assertion, client};
use crate::process::rig::{PKI, Process, Site};

/// The name of the proxy.
pub(super) const NAME: &str = "spiffe://example.com/proxy";

/// Who vouches for proxies, and for them alone.
pub(super) static PROXIES: LazyLock<Issuer> = LazyLock::new(|| Issuer::root("proxies", month()).unwrap());

/// The proxy.
pub(super) static PROXY: LazyLock<Identity> =
    LazyLock::new(|| PROXIES.leaf(&LeafSpec::client("proxy", month()).uri(NAME)).unwrap());

pub(super) fn month() -> Validity {
    Validity::days_from(SystemClock.now().unix() - 3600, 30)
}

/// Headers of one request.
pub(super) type Headers = Vec<(&'static str, String)>;

/// What a proxy that speaks this format says of this client, with the chain where the format has one.
pub(super) fn forwarded(format: Format, who: &Identity) -> Headers {
    let base64: Vec<String> = who.chain().iter().map(|certificate| STANDARD.encode(certificate)).collect();
    let escaped: Vec<String> =
        who.chain().iter().map(|der| escape(&Certificate::parse(der).unwrap().to_pem())).collect();
    let (leaf, value) = (&base64[0], format.header());
    match format {
        Format::Alb => vec![(value, escaped.concat())],
        Format::Haproxy => vec![(value, leaf.clone())],
        Format::Nginx => vec![(value, escaped[0].clone())],
        Format::Traefik => vec![(value, base64.join(","))],
        Format::Rfc9440 => {
            let chain = base64[1..].iter().map(|own| format!(":{own}:")).collect::<Vec<_>>().join(", ");
            let chain = (!chain.is_empty()).then_some(("client-cert-chain", chain));
            std::iter::once((value, format!(":{leaf}:"))).chain(chain).collect()
        }
        Format::Xfcc => {
            let (hash, own, chain) = (hash_of(who), &escaped[0], escaped.concat());
            vec![(value, format!("By={NAME};Hash={hash};Cert=\"{own}\";Chain=\"{chain}\";Subject=\"CN=x\";URI="))]
        }
    }
}

/// The SHA-256 hash of a certificate, as Envoy writes it.
pub(super) fn hash_of(who: &Identity) -> String {
    Thumbprint::of_der(who.certificate()).as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn escape(pem: &str) -> String {
    pem.replace('\n', "%0A").replace(' ', "%20").replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
}

/// The thumbprint of a client's certificate, as tokens and audit lines have it.
pub(super) fn thumbprint(who: &Identity) -> String {
    Thumbprint::of_der(who.certificate()).to_string()
}

/// The thumbprint that a token is bound to.
pub(super) fn bound_to(token: &str) -> String {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    claims["cnf"]["x5t#S256"].as_str().unwrap().to_owned()
}

/// A server behind a proxy.
pub(super) struct Rig {
    pub(super) site: Site,
    pub(super) server: Process,
    pub(super) address: SocketAddr,
}

impl Rig {
    /// Over mutual TLS.
    pub(super) fn over_tls(format: Format) -> Self {
        Self::with(format, |_| {})
    }

    /// The same with something changed before the start.
    pub(super) fn with(format: Format, change: impl FnOnce(&Site)) -> Self {
        let tls = format!(
            "address = \"127.0.0.1:0\"\ncert = \"file:server.pem\"\nkey = \"file:server.key\"\nca = \"file:proxies.pem\"\n\
             [[listen.proxy.allow]]\nsan_uri = \"{NAME}\"\n"
        );
        let site = site(&format!("certificate_from = \"{}\"\n{tls}", format.as_str()));
        // Where a proxy forwards the client's certificate alone, the authority that signed it is the anchor.
        if matches!(format, Format::Nginx | Format::Haproxy) {
            site.write("ca.pem", &PKI.intermediate.certificate_pem());
        }
        change(&site);
        let server = site.start();
        Self::on(site, server)
    }

    /// Over a Unix socket.
    pub(super) fn over_a_socket(format: Format, users: &str) -> Self {
        Self::over_a_socket_with(format, users, |_| {})
    }

    /// The same with something changed before the start.
    pub(super) fn over_a_socket_with(format: Format, users: &str, change: impl FnOnce(&Site)) -> Self {
        let socket = format!("address = \"unix:proxy.sock\"\nusers = [{users}]\n");
        let site = site(&format!("certificate_from = \"{}\"\n{socket}", format.as_str()));
        change(&site);
        let server = site.start();
        Self::on(site, server)
    }

    /// On a server that is ready.
    pub(super) fn on(site: Site, server: Process) -> Self {
        let ready = server.said_ready().unwrap();
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let address = ready["proxy"].as_str().map_or(nowhere, |address| address.parse().unwrap());
        Self { site, server, address }
    }

    /// A connection as the proxy opens it.
    pub(super) async fn connect(&self, version: Version) -> Connection {
        if self.address.port() != 0 {
            return Connection::open(self.address, Some(&PROXY), version).await.unwrap();
        }
        let stream = tokio::net::UnixStream::connect(self.site.path("proxy.sock")).await.unwrap();
        let (sender, connection) =
            hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Connection::Http1(sender)
    }

    /// A token request over a connection of its own, and its audit event.
    pub(super) async fn ask(&self, form: &Form, headers: &Headers) -> (Answer, Value) {
        let mut connection = self.connect(Version::HTTP_11).await;
        self.ask_over(&mut connection, "/oauth2/token", form, headers).await
    }

    pub(super) async fn ask_over(
        &self,
        connection: &mut Connection,
        path: &str,
        form: &Form,
        headers: &Headers,
    ) -> (Answer, Value) {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = connection.post_to(path, form.encode(), &headers).await.unwrap();
        let event = self.site.event(answer.request_id()).await;
        (answer, event)
    }
}

/// Nobody but the proxy reaches the server: without `[listen.mtls]`.
pub(super) fn alone(site: &Site) {
    let mtls = "[listen.mtls]\naddress = \"127.0.0.1:0\"\ncert = \"file:server.pem\"\nkey  = \"file:server.key\"\n";
    site.edit(mtls, "");
}

fn site(listen_proxy: &str) -> Site {
    let site = Site::new();
    site.write("proxies.pem", &PROXIES.certificate_pem());
    site.edit("[listen.ops]", &format!("[listen.proxy]\n{listen_proxy}\n[listen.ops]"));
    site
}

/// A token request by each method, with the certificate that it comes with.
pub(super) fn by_each_method() -> [(&'static str, Form, &'static Identity); 3] {
    [
        ("tls_client_auth", billing(), &PKI.billing.identity),
        ("self_signed_tls_client_auth", client("ledger"), &PKI.ledger.identity),
        ("private_key_jwt", by_assertion(&Asserter::batch().fresh()), &PKI.batch.identity),
    ]
}
