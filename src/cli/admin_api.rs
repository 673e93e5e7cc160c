//! Asks the admin API of a server, over its Unix socket or over mutual TLS.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use certbind_https::{AddressPolicy, Fetcher, Identity, Limits};
use clap::Args;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, ETAG, HOST, HeaderMap, IF_MATCH, IF_NONE_MATCH};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::net::UnixStream;
use zeroize::Zeroizing;

use super::config::{DEFAULT_FILE, Output};
use super::token::Variables;
use super::{Exit, Misused, Unusable};
use crate::config::{self, AdminListener, Environment, Sources};

/// The most bytes of an answer: a page of the largest registrations.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Which server, and how to print.
#[derive(Args, Clone, Debug)]
pub(super) struct AdminArgs {
    #[command(flatten)]
    pub(super) reach: Reach,
    /// The configuration that names the admin socket, which then counts more than CERTBIND_ADMIN [default:
    /// /etc/certbind/certbind.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(super) output: Output,
}

/// Which server, and how it is reached.
#[derive(Args, Clone, Debug)]
pub(super) struct Reach {
    /// The server: unix:PATH or https://HOST:PORT; without it the admin socket of the configuration [CERTBIND_ADMIN]
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Who may vouch for the server, PEM [CERTBIND_CA]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Your certificate and intermediates, PEM, for a server over TLS [CERTBIND_CERT]
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Its private key, PEM [CERTBIND_KEY]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The longest wait for an answer, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    timeout: u64,
}

/// A server that can be asked.
pub(super) struct Api {
    transport: Transport,
    runtime: tokio::runtime::Runtime,
}

enum Transport {
    Unix { path: PathBuf, timeout: Duration },
    Tls { fetcher: Fetcher, base: String },
}

/// What a change says about the state that it changes.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    /// Any.
    Any,
    /// None: there is no such client yet.
    Absent,
    /// The one with this entity tag.
    Tag(String),
}

/// An answer that is a success.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) body: Value,
    pub(super) tag: String,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum CallError {
    /// The server refused, and says why (RFC 9457).
    Refused(Value),
    /// It cannot be reached, or does not answer.
    Unreachable(anyhow::Error),
}

impl CallError {
    /// What it means to a script.
    pub(super) const fn exit(&self) -> Exit {
        match self {
            Self::Refused(_) => Exit::Refused,
            Self::Unreachable(_) => Exit::Unreachable,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => write!(f, "the server cannot be asked: {error:#}"),
            Self::Refused(problem) => {
                write!(f, "{}", problem["title"].as_str().unwrap_or("the server refused"))?;
                for error in problem["errors"].as_array().into_iter().flatten() {
                    write!(f, "\n  {}", error["detail"].as_str().unwrap_or_default())?;
                }
                match problem["request_id"].as_str() {
                    Some(id) => write!(f, "\nthe server's audit log knows it as request_id {id}"),
                    None => Ok(()),
                }
            }
        }
    }
}

impl std::error::Error for CallError {}

impl AdminArgs {
    /// The server that was meant.
    ///
    /// # Errors
    /// Nothing says which, or a certificate cannot be read.
    pub(super) fn connect(&self, environment: &Environment) -> anyhow::Result<Api> {
        let file = self.config.clone().unwrap_or_else(|| DEFAULT_FILE.into());
        let sources = Sources { file, environment: environment.clone(), set: Vec::new() };
        match (&self.reach.server, &self.config) {
            // Whoever names a configuration means its server, whatever stands in the environment.
            (None, Some(_)) => self.reach.connect_to(&configured(&sources)?, environment),
            _ => self.reach.connect(&sources),
        }
    }
}

impl Reach {
    /// However the environment or a configuration says, with no longer waits than so many seconds.
    pub(super) const fn unsaid(timeout: u64) -> Self {
        Self { server: None, ca: None, cert: None, key: None, timeout }
    }

    /// The server that was meant; where nothing says which, that of a configuration.
    ///
    /// # Errors
    /// Nothing says which, or a certificate cannot be read.
    pub(super) fn connect(&self, sources: &Sources) -> anyhow::Result<Api> {
        let variable = Variables(&sources.environment);
        let server = match variable.or(self.server.clone(), "CERTBIND_ADMIN") {
            Some(server) => server,
            None => configured(sources)?,
        };
        self.connect_to(&server, &sources.environment)
    }

    /// Asks anything over HTTPS: as somebody without a certificate, and with the one of `--cert` or else with this.
    ///
    /// # Errors
    /// Who may vouch for the server, or a certificate, cannot be read.
    pub(super) fn without_and_with(
        &self,
        other: certbind_https::Identity,
        environment: &Environment,
    ) -> anyhow::Result<(Fetcher, Fetcher)> {
        let variable = Variables(environment);
        let roots = variable.authorities(self.ca.as_ref())?;
        let own = match variable.pair(self.cert.as_ref(), self.key.as_ref())? {
            Some((cert, key)) => identity(&cert, &key)?,
            None => other,
        };
        let timeout = Duration::from_secs(self.timeout);
        let limits = Limits { connect: timeout, total: timeout, ..Limits::default() };
        let fetcher = |identity| -> anyhow::Result<Fetcher> {
            let tls = roots.client_config(identity)?;
            Ok(Fetcher::new(Arc::new(tls), AddressPolicy::AllowPrivate, limits))
        };
        Ok((fetcher(None)?, fetcher(Some(own))?))
    }

    fn connect_to(&self, server: &str, environment: &Environment) -> anyhow::Result<Api> {
        let variable = Variables(environment);
        let timeout = Duration::from_secs(self.timeout);
        let transport = match server.strip_prefix("unix:") {
            Some(path) => Transport::Unix { path: path.into(), timeout },
            None => self.over_tls(server, timeout, &variable)?,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Api { transport, runtime })
    }

    fn over_tls(&self, server: &str, timeout: Duration, variable: &Variables<'_>) -> anyhow::Result<Transport> {
        if !server.starts_with("https://") {
            return Err(Misused(format!("--server is unix:PATH or https://HOST:PORT, not {server}")).into());
        }
        let roots = variable.authorities(self.ca.as_ref())?;
        let missing = || Misused("the admin API asks for a certificate: --cert and --key".to_owned());
        let (cert, key) = variable.pair(self.cert.as_ref(), self.key.as_ref())?.ok_or_else(missing)?;
        let tls = roots.client_config(Some(identity(&cert, &key)?))?;
        let limits = Limits { connect: timeout, max_bytes: MAX_ANSWER, total: timeout };
        let fetcher = Fetcher::new(Arc::new(tls), AddressPolicy::AllowPrivate, limits);
        Ok(Transport::Tls { fetcher, base: server.trim_end_matches('/').to_owned() })
    }
}

/// The admin socket of a configuration.
fn configured(sources: &Sources) -> anyhow::Result<String> {
    let checked = config::inspect(sources);
    let checked =
        checked.map_err(|rejected| Unusable(format!("which server? --server does not say, and\n{rejected}")))?;
    let file = sources.file.display();
    match checked.config.admin {
        Some(AdminListener::Unix(path)) => Ok(format!("unix:{}", path.display())),
        Some(AdminListener::Tls(admin)) => {
            let address = admin.address;
            let told = format!(
                "{file} has the admin API at {address}, over TLS: say --server https://HOST:PORT with a host that the server's certificate names, --ca, --cert and --key"
            );
            Err(Unusable(told).into())
        }
        None => {
            Err(Unusable(format!("{file} has no [listen.admin]; add it, or say which server with --server")).into())
        }
    }
}

fn identity(cert: &Path, key: &Path) -> anyhow::Result<Identity> {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let chain = CertificateDer::pem_slice_iter(&read(cert)?).collect::<Result<Vec<_>, _>>();
    let chain = chain.with_context(|| format!("{} is no PEM", cert.display()))?;
    let secret = Zeroizing::new(read(key)?);
    let key = PrivateKeyDer::from_pem_slice(&secret).with_context(|| format!("{} holds no key", key.display()))?;
    Ok(Identity { chain, key })
}

impl Api {
    /// What is there.
    pub(super) fn get(&self, path: &str) -> Result<Answer, CallError> {
        self.call(Method::GET, path, None, None)
    }

    /// Has something done.
    pub(super) fn post(&self, path: &str, body: Option<&Value>) -> Result<Answer, CallError> {
        self.call(Method::POST, path, None, body.map(|body| ("application/json", body)))
    }

    /// Puts something in a place.
    pub(super) fn put(&self, path: &str, condition: &Condition, body: &Value) -> Result<Answer, CallError> {
        self.call(Method::PUT, path, Some(condition), Some(("application/json", body)))
    }

    /// Changes some members.
    pub(super) fn patch(&self, path: &str, condition: &Condition, body: &Value) -> Result<Answer, CallError> {
        self.call(Method::PATCH, path, Some(condition), Some(("application/merge-patch+json", body)))
    }

    /// Removes something.
    pub(super) fn delete(&self, path: &str, condition: &Condition) -> Result<Answer, CallError> {
        self.call(Method::DELETE, path, Some(condition), None)
    }

    fn call(
        &self,
        method: Method,
        path: &str,
        condition: Option<&Condition>,
        body: Option<(&str, &Value)>,
    ) -> Result<Answer, CallError> {
        let mut headers = HeaderMap::new();
        let mut insert = |name, value: &str| {
            if let Ok(value) = value.parse() {
                headers.insert(name, value);
            }
        };
        match condition {
            None => {}
            Some(Condition::Any) => insert(IF_MATCH, "*"),
            Some(Condition::Absent) => insert(IF_NONE_MATCH, "*"),
            Some(Condition::Tag(tag)) => insert(IF_MATCH, tag),
        }
        if let Some((media_type, _)) = body {
            insert(CONTENT_TYPE, media_type);
        }
        let body = Bytes::from(body.map(|(_, body)| body.to_string()).unwrap_or_default());
        let response = self.runtime.block_on(self.transport.send(method, path, headers, body));
        read(response.map_err(CallError::Unreachable)?)
    }
}

fn read(response: Response<Bytes>) -> Result<Answer, CallError> {
    let (head, bytes) = response.into_parts();
    let body = if bytes.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&bytes) };
    match body {
        Ok(body) if head.status.is_success() => {
            let tag = head.headers.get(ETAG).and_then(|tag| tag.to_str().ok()).unwrap_or_default().to_owned();
            Ok(Answer { body, tag })
        }
        Ok(problem) if problem.get("type").is_some() => Err(CallError::Refused(problem)),
        _ => Err(CallError::Unreachable(anyhow::anyhow!("what answers is no admin API ({})", head.status))),
    }
}

impl Transport {
    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> anyhow::Result<Response<Bytes>> {
        match self {
            Self::Tls { fetcher, base } => {
                let mut request = Request::builder().method(method).uri(format!("{base}{path}")).body(body)?;
                request.headers_mut().extend(headers);
                Ok(fetcher.send(request).await?)
            }
            Self::Unix { path: socket, timeout } => {
                let mut request = Request::builder().method(method).uri(path).header(HOST, "certbind");
                request.headers_mut().context("a request")?.extend(headers);
                let request = request.body(Full::new(body))?;
                let answer = tokio::time::timeout(*timeout, over_socket(socket, request)).await;
                answer.with_context(|| format!("no answer within {timeout:?}"))?
            }
        }
    }
}

/// One request over a Unix socket.
///
/// # Errors
/// When there is no whole answer.
pub(super) async fn over_socket(socket: &Path, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Bytes>> {
    let stream = UnixStream::connect(socket).await;
    let stream = stream.with_context(|| format!("cannot connect to {}", socket.display()))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
    connection.abort();
    Ok(Response::from_parts(head, body))
}

/// The path of a client.
pub(super) fn path_of(client_id: &str) -> String {
    format!("/admin/v1/clients/{}", encode(client_id))
}

/// Percent-encodes all but what is never more than itself (RFC 3986 §2.3).
pub(super) fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
