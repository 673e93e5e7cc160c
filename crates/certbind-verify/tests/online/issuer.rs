//! An issuer of tokens that answers as it is told, and counts what it is asked.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use certbind_devpki::{Identity, Issuer, LeafSpec, Validity};
use certbind_proto::access_token;
use certbind_proto::jwk::JwkSet;
use certbind_proto::jws::{Algorithm, Signer, SigningKey};
use certbind_verify::fetch::Authorities;
use certbind_verify::{Thumbprint, Timestamp};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// From 1970 to 2100: what a test does not spoil holds at any time.
pub(crate) const ALWAYS: Validity = Validity { not_before: 0, not_after: 4_102_444_800 };
pub(crate) const AUDIENCE: &str = "https://localhost/payments";
pub(crate) const METADATA: &str = "/.well-known/oauth-authorization-server";
pub(crate) const JWKS: &str = "/jwks.json";
pub(crate) const LIST: &str = "/revocations";
pub(crate) const INTROSPECT: &str = "/introspect";

/// What is sent for a path.
#[derive(Clone)]
pub(crate) enum Answer {
    /// This status line's end and header, and this body.
    Body(&'static str, Vec<u8>),
    /// Nothing, for ever.
    Silence,
}

pub(crate) struct StubIssuer {
    pub(crate) address: SocketAddr,
    authority: Issuer,
    routes: Arc<Mutex<HashMap<String, Answer>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl StubIssuer {
    pub(crate) async fn start() -> Self {
        let authority = Issuer::root("authority", ALWAYS).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = acceptor(&authority.leaf(&LeafSpec::server(ALWAYS)).unwrap());
        let (routes, seen) = <(Arc<Mutex<HashMap<_, _>>>, Arc<Mutex<Vec<_>>>)>::default();
        let (shared, noted) = (routes.clone(), seen.clone());
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, routes, seen) = (acceptor.clone(), shared.clone(), noted.clone());
                tokio::spawn(async move { converse(acceptor.accept(tcp).await?, &routes, &seen).await });
            }
        });
        let issuer = Self { address, authority, routes, seen };
        let at = |path: &str| format!("{}{path}", issuer.url());
        issuer.answers(
            METADATA,
            &json!({
                "issuer": issuer.url(), "jwks_uri": at(JWKS), "certbind_revocation_list_uri": at(LIST),
                "introspection_endpoint": at(INTROSPECT),
            }),
        );
        issuer
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    pub(crate) fn root(&self) -> CertificateDer<'static> {
        self.authority.certificate().clone()
    }

    /// It alone vouches for the servers here.
    pub(crate) fn authorities(&self) -> Authorities {
        Authorities::new(&[self.root()]).unwrap()
    }

    /// A certificate of the same authority, for other servers and for clients.
    pub(crate) fn leaf(&self, spec: &LeafSpec) -> Identity {
        self.authority.leaf(spec).unwrap()
    }

    pub(crate) fn does(&self, path: &str, answer: Answer) {
        self.routes.lock().unwrap().insert(path.to_owned(), answer);
    }

    pub(crate) fn answers(&self, path: &str, document: &Value) {
        self.does(path, Answer::Body("200 OK", document.to_string().into_bytes()));
    }

    pub(crate) fn publishes(&self, signers: &[&Signer]) {
        let keys = signers.iter().map(|signer| signer.key().public_jwk(signer.kid().unwrap())).collect();
        self.answers(JWKS, &JwkSet::new(keys).to_json());
    }

    /// Both documents fail.
    pub(crate) fn fails(&self) {
        self.does(METADATA, Answer::Body("500 Oh", Vec::new()));
    }

    /// How often a path was asked for.
    pub(crate) fn hits(&self, path: &str) -> usize {
        self.seen(path).len()
    }

    /// What came for a path.
    pub(crate) fn seen(&self, path: &str) -> Vec<Seen> {
        self.seen.lock().unwrap().iter().filter(|seen| seen.path == path).cloned().collect()
    }

    pub(crate) fn token(&self, signer: &Signer, certificate: &Thumbprint, now: Timestamp) -> String {
        let claims = json!({
            "iss": self.url(), "sub": "billing", "client_id": "billing", "aud": AUDIENCE, "scope": "payments:read",
            "iat": now.unix(), "exp": now.unix() + 300, "jti": "id", "cnf": { "x5t#S256": certificate.to_string() },
        });
        signer.sign_claims(&claims).unwrap()
    }
}

pub(crate) fn signer(kid: &str) -> Signer {
    Signer::new(SigningKey::generate(Algorithm::Es256).unwrap(), access_token::TYP, Some(kid))
}

fn acceptor(identity: &Identity) -> TlsAcceptor {
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(identity.chain().to_vec(), identity.key())
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn converse(
    mut stream: TlsStream<TcpStream>,
    routes: &Mutex<HashMap<String, Answer>>,
    seen: &Mutex<Vec<Seen>>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await?;
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let answer = routes.lock().unwrap().get(&path).cloned().unwrap_or(Answer::Body("404 No", Vec::new()));
    seen.lock().unwrap().push(Seen { path, head, body: String::from_utf8_lossy(&body).into_owned() });
    match answer {
        Answer::Body(status, body) => {
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(&[head.as_bytes(), &body].concat()).await?;
            stream.shutdown().await
        }
        Answer::Silence => std::future::pending().await,
    }
}
