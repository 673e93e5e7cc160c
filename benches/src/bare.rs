//! The bare server: the least that can be done with this stack, which is what certbind's cost per request is held against.
//!
//! hyper, tokio-rustls and aws-lc-rs on one thread. A form is parsed, the thumbprint of the peer's certificate taken, an ES256
//! assertion verified and its `jti` kept in a set in memory, a token signed. No store, no log, no rules, no code of certbind.
//! **Not for use**: it believes whatever certificate it is shown.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use clap::Parser as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs::default_provider, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ServerConfig};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

type Reply = Response<Full<Bytes>>;

/// Serves on a free port of loopback, which it prints, until it is ended.
#[derive(clap::Parser)]
struct Options {
    /// The certificate chain, PEM.
    #[arg(long)]
    cert: PathBuf,
    /// Its private key, PEM.
    #[arg(long)]
    key: PathBuf,
    /// The public key of the assertions: a point of P-256, uncompressed.
    #[arg(long)]
    assertion_key: PathBuf,
    /// What tokens name as `iss` and assertions as `aud`.
    #[arg(long)]
    issuer: String,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(&options))
}

async fn serve(options: &Options) -> anyhow::Result<()> {
    let server = Arc::new(Server::new(options)?);
    let acceptor = TlsAcceptor::from(Arc::new(tls(options)?));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let (server, acceptor) = (Arc::clone(&server), acceptor.clone());
        // A connection that ends badly is the load's to report.
        tokio::spawn(async move { connection(server, acceptor, stream).await.ok() });
    }
}

async fn connection(server: Arc<Server>, acceptor: TlsAcceptor, stream: TcpStream) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let certificates = stream.get_ref().1.peer_certificates();
    let certificate = certificates.and_then(|chain| chain.first()).map(|leaf| leaf.clone().into_owned());
    let service = service_fn(|request| server.answer(request, certificate.as_ref()));
    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await?;
    Ok(())
}

struct Server {
    issuer: String,
    document: Bytes,
    assertion_key: ParsedPublicKey,
    token_key: EcdsaKeyPair,
    /// The constant part of every token, encoded.
    header: String,
    random: SystemRandom,
    seen: Mutex<HashSet<String>>,
}

#[derive(Deserialize)]
struct Assertion {
    sub: String,
    aud: String,
    exp: u64,
    jti: String,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    client_id: &'a str,
    aud: &'a str,
    scope: &'a str,
    iat: u64,
    exp: u64,
    jti: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cnf: Option<Confirmation>,
}

#[derive(Serialize)]
struct Confirmation {
    #[serde(rename = "x5t#S256")]
    x5t_s256: String,
}

impl Server {
    fn new(options: &Options) -> anyhow::Result<Self> {
        let point = std::fs::read(&options.assertion_key)?;
        Ok(Self {
            issuer: options.issuer.clone(),
            document: document(&options.issuer).into(),
            assertion_key: ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).context("the assertion key")?,
            token_key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?,
            header: URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","typ":"at+jwt","kid":"bare"}"#),
            random: SystemRandom::new(),
            seen: Mutex::default(),
        })
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        certificate: Option<&CertificateDer<'static>>,
    ) -> Result<Reply, hyper::Error> {
        Ok(match (request.method(), request.uri().path()) {
            (&Method::GET, "/.well-known/oauth-authorization-server") => {
                reply(StatusCode::OK, "max-age=300", self.document.clone())
            }
            (&Method::POST, "/oauth2/token") => {
                let body = request.into_body().collect().await?.to_bytes();
                match self.token(&body, certificate) {
                    Some(token) => reply(StatusCode::OK, "no-store", token.into()),
                    None => reply(StatusCode::BAD_REQUEST, "no-store", Bytes::from(r#"{"error":"invalid_client"}"#)),
                }
            }
            _ => reply(StatusCode::NOT_FOUND, "no-store", Bytes::new()),
        })
    }

    /// The body of the reply. The client is named by its assertion if it sent one, by its certificate otherwise.
    fn token(&self, body: &[u8], certificate: Option<&CertificateDer<'static>>) -> Option<String> {
        let form = parse_form(std::str::from_utf8(body).ok()?)?;
        let field = |name| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let now = now();
        let client_id = match field("client_assertion") {
            Some(assertion) => self.verify(assertion, now)?,
            None => certificate.and(field("client_id"))?.to_owned(),
        };
        let mut id = [0; 16];
        self.random.fill(&mut id).ok()?;
        let claims = Claims {
            iss: &self.issuer,
            sub: &client_id,
            client_id: &client_id,
            aud: "https://api.example.com",
            scope: field("scope").unwrap_or_default(),
            iat: now,
            exp: now + 300,
            jti: URL_SAFE_NO_PAD.encode(id),
            cnf: certificate.map(|der| Confirmation { x5t_s256: URL_SAFE_NO_PAD.encode(digest(&SHA256, der)) }),
        };
        let token = self.sign(&claims)?;
        let scope = claims.scope;
        Some(format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":300,"scope":"{scope}"}}"#))
    }

    /// Gives the client that signed this, once.
    fn verify(&self, assertion: &str, now: u64) -> Option<String> {
        let (message, signature) = assertion.rsplit_once('.')?;
        let (_, payload) = message.split_once('.')?;
        let claims: Assertion = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
        if claims.aud != self.issuer || claims.exp <= now {
            return None;
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        self.assertion_key.verify_sig(message.as_bytes(), &signature).ok()?;
        self.seen.lock().ok()?.insert(claims.jti).then_some(claims.sub)
    }

    fn sign(&self, claims: &Claims<'_>) -> Option<String> {
        let mut token = String::with_capacity(1024);
        token.push_str(&self.header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(claims).ok()?, &mut token);
        let signature = self.token_key.sign(&self.random, token.as_bytes()).ok()?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Some(token)
    }
}

fn reply(status: StatusCode, caching: &'static str, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    reply
}

/// A metadata document of the usual size (RFC 8414 §2).
fn document(issuer: &str) -> String {
    serde_json::json!({
        "issuer": issuer,
        "token_endpoint": format!("{issuer}/oauth2/token"),
        "jwks_uri": format!("{issuer}/.well-known/jwks.json"),
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": ["private_key_jwt", "self_signed_tls_client_auth", "tls_client_auth"],
        "token_endpoint_auth_signing_alg_values_supported": ["EdDSA", "ES256", "ES384", "PS256", "PS384", "RS256"],
        "tls_client_certificate_bound_access_tokens": true,
    })
    .to_string()
}

/// `application/x-www-form-urlencoded`, as names and values.
fn parse_form(body: &str) -> Option<Vec<(String, String)>> {
    body.split('&').map(|pair| pair.split_once('=').and_then(|(k, v)| Some((decode(k)?, decode(v)?)))).collect()
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

#[expect(clippy::disallowed_methods, reason = "the bare server shares no code with certbind, its clock neither")]
fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// TLS 1.3 with what rustls offers by default, a client certificate asked for, no resumption.
fn tls(options: &Options) -> anyhow::Result<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(&options.cert)?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(&options.key)?;
    let provider = Arc::new(default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(Possession { algorithms }))
        .with_single_cert(chain, key)?;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Believes every certificate whose private key the client proves to have (CertificateVerify, RFC 8446 §4.4.3).
#[derive(Debug)]
struct Possession {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Possession {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
