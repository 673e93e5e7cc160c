//! The bare guard: the least that can be done with this stack to answer whether a token belongs to a forwarded certificate, which is what
//! the cost of `certbind guard` is held against.
//!
//! hyper and aws-lc-rs on one thread, over a Unix socket. A certificate is decoded and hashed, an ES256 token verified once and remembered by
//! its hash, claims and binding compared. No bounds, no keys that change, no log, no rules, no code of certbind. **Not for use**: it believes
//! whoever asks.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::Context as _;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use clap::Parser as _;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::LocalSet;

type Reply = Response<Full<Bytes>>;

/// Serves at a Unix socket until it is ended.
#[derive(clap::Parser)]
struct Options {
    /// Where it is asked.
    #[arg(long)]
    socket: PathBuf,
    /// The issuer's keys, a JWK Set of which the first is taken.
    #[arg(long)]
    keys: PathBuf,
    /// What tokens name as `iss`.
    #[arg(long)]
    issuer: String,
    /// What they name as `aud`.
    #[arg(long)]
    audience: String,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(LocalSet::new().run_until(serve(options)))
}

async fn serve(options: Options) -> anyhow::Result<()> {
    let listener = UnixListener::bind(&options.socket)?;
    let guard = Rc::new(Guard::new(options)?);
    loop {
        let (stream, _) = listener.accept().await?;
        let guard = Rc::clone(&guard);
        // A connection that ends badly is the load's to report.
        tokio::task::spawn_local(async move { connection(guard, stream).await.ok() });
    }
}

async fn connection(guard: Rc<Guard>, stream: UnixStream) -> anyhow::Result<()> {
    let service = service_fn(|request| std::future::ready(Ok::<_, std::convert::Infallible>(guard.answer(&request))));
    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await?;
    Ok(())
}

struct Guard {
    key: ParsedPublicKey,
    issuer: String,
    audience: String,
    known: RefCell<HashMap<[u8; 32], Rc<Claims>>>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    client_id: String,
    aud: String,
    scope: String,
    exp: u64,
    cnf: Confirmation,
}

#[derive(Deserialize)]
struct Confirmation {
    #[serde(rename = "x5t#S256")]
    x5t_s256: String,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Key>,
}

#[derive(Deserialize)]
struct Key {
    x: String,
    y: String,
}

impl Guard {
    fn new(options: Options) -> anyhow::Result<Self> {
        let set: KeySet = serde_json::from_slice(&std::fs::read(&options.keys)?)?;
        let key = set.keys.first().context("no key")?;
        let mut point = vec![4];
        point.extend(URL_SAFE_NO_PAD.decode(&key.x)?);
        point.extend(URL_SAFE_NO_PAD.decode(&key.y)?);
        Ok(Self {
            key: ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).context("the issuer's key")?,
            issuer: options.issuer,
            audience: options.audience,
            known: RefCell::default(),
        })
    }

    fn answer(&self, request: &Request<Incoming>) -> Reply {
        let mut reply = Response::new(Full::default());
        reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let claims = self.decide(request);
        let value = |text: &str| HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""));
        match claims {
            Some(claims) => {
                reply.headers_mut().insert("x-certbind-client", value(&claims.client_id));
                reply.headers_mut().insert("x-certbind-scope", value(&claims.scope));
                reply.headers_mut().insert("x-certbind-sub", value(&claims.sub));
            }
            None => *reply.status_mut() = StatusCode::UNAUTHORIZED,
        }
        reply
    }

    fn decide(&self, request: &Request<Incoming>) -> Option<Rc<Claims>> {
        let header = |name: &str| request.headers().get(name)?.to_str().ok();
        let certificate = thumbprint(header("ssl-client-cert")?)?;
        if header("x-original-method") != Some("GET") || !header("x-original-uri")?.starts_with("/payments") {
            return None;
        }
        let token = request.headers().get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?;
        let now = now();
        let name = sha256(token.as_bytes());
        let known = self.known.borrow().get(&name).cloned();
        let claims = match known {
            Some(claims) => claims,
            None => {
                let claims = Rc::new(self.verify(token)?);
                self.known.borrow_mut().insert(name, Rc::clone(&claims));
                claims
            }
        };
        let is_good = claims.exp > now
            && claims.cnf.x5t_s256 == certificate
            && claims.scope.split(' ').any(|scope| scope == "payments:read");
        is_good.then_some(claims)
    }

    fn verify(&self, token: &str) -> Option<Claims> {
        let (message, signature) = token.rsplit_once('.')?;
        let (_, payload) = message.split_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        self.key.verify_sig(message.as_bytes(), &signature).ok()?;
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
        (claims.iss == self.issuer && claims.aud == self.audience).then_some(claims)
    }
}

/// Of a certificate in PEM, percent-encoded.
fn thumbprint(escaped: &str) -> Option<String> {
    let mut base64 = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.bytes();
    while let Some(byte) = bytes.next() {
        base64.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            other => other,
        });
    }
    base64.retain(|byte| *byte != b'\n');
    let base64 = base64.strip_prefix(b"-----BEGIN CERTIFICATE-----")?.strip_suffix(b"-----END CERTIFICATE-----")?;
    Some(URL_SAFE_NO_PAD.encode(sha256(&STANDARD.decode(base64).ok()?)))
}

fn sha256(octets: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, octets).as_ref());
    hash
}

#[expect(clippy::disallowed_methods, reason = "the bare guard shares no code with certbind, its clock neither")]
fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
