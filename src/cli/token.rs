//! `certbind token`: gets an access token by any method.

mod agent;

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use certbind_client::{
    AssertionKeyFile, Authorities, CertificateFiles, Credential, CredentialFiles, Error, Settings, TokenSource,
};
use certbind_https::AddressPolicy;
use certbind_proto::assertion::{self, Build};
use certbind_proto::entropy::{OsEntropy, unguessable_id};
use certbind_proto::jws::{Algorithm, Signer, SigningKey};
use certbind_proto::time::{Clock as _, SystemClock};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{Exit, Misused, trusted};
use crate::config::Environment;

/// What is asked for, and how it is printed.
#[derive(Debug, Args)]
pub(super) struct TokenArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// Print a fresh assertion instead of a token, for tools that send it themselves.
    #[arg(long, requires = "assertion_key")]
    assertion_only: bool,
    /// How to print the token.
    #[arg(long, value_enum, default_value_t = Format::Raw)]
    format: Format,
    /// Ask the agent at this socket, which has the credential; --scope and --resource instead of its own.
    #[arg(long, value_name = "SOCKET", conflicts_with_all = ["cert", "key", "assertion_key", "client_id", "issuer"])]
    agent: Option<PathBuf>,
    /// How long the token of the agent should last at least, as 60s.
    #[arg(long, value_name = "DURATION", requires = "agent")]
    min_ttl: Option<String>,
}

/// Who asks whom for what.
#[derive(Debug, Args)]
pub(super) struct AskArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The client's identifier [CERTBIND_CLIENT_ID].
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// The client's certificate and intermediates, PEM [CERTBIND_CERT].
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// The certificate's private key, PEM [CERTBIND_KEY].
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The private key that signs assertions (private_key_jwt), PKCS#8 PEM.
    #[arg(long, value_name = "FILE")]
    assertion_key: Option<PathBuf>,
    /// What assertions are signed with; needed for RSA keys alone.
    #[arg(long, value_name = "ALG", requires = "assertion_key")]
    alg: Option<String>,
    /// The identifier of the assertion key, if it is registered with one.
    #[arg(long, value_name = "KID", requires = "assertion_key")]
    kid: Option<String>,
    /// The scope to ask for.
    #[arg(long)]
    scope: Option<String>,
    /// The resource that the token is for; may be repeated.
    #[arg(long, value_name = "URI")]
    resource: Vec<String>,
}

/// Where the server is and who vouches for it.
#[derive(Debug, Args)]
pub(super) struct ServerArgs {
    /// The issuer identifier [CERTBIND_ISSUER].
    #[arg(long, value_name = "URL")]
    pub issuer: Option<String>,
    /// Who may vouch for the server, PEM; else the certificate authorities of the system [CERTBIND_CA].
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The longest wait for an answer, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub timeout: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// The token alone.
    Raw,
    /// A JSON object with its scope and end.
    Json,
    /// An Authorization header.
    Header,
}

/// Gets a token and prints it.
///
/// # Errors
/// When keys cannot be read or nothing can be printed. What the server says is an exit code.
pub(super) fn run(args: &TokenArgs, environment: &Environment, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let ask = &args.ask;
    if let Some(socket) = &args.agent {
        return agent::ask(socket, ask, args.min_ttl.as_deref(), args.format, out);
    }
    let (issuer, client_id) = ask.parties(environment)?;
    if args.assertion_only {
        writeln!(out, "{}", ask.fresh_assertion(&issuer, &client_id)?)?;
        return Ok(Exit::Done);
    }
    let credential = ask.files(environment)?.load_once()?;
    let source = TokenSource::new(ask.settings(credential, environment)?, Arc::new(SystemClock), Arc::new(OsEntropy))?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let token = match runtime.block_on(source.token()) {
        Ok(token) => token,
        Err(error) => return Ok(refused(&error)),
    };
    let expires_in = token.expires().since(SystemClock.now()).as_secs();
    let scope = token.scope().to_string();
    let answer =
        json!({ "access_token": token.as_str(), "token_type": "Bearer", "expires_in": expires_in, "scope": scope });
    print(args.format, token.as_str(), &answer, out)?;
    Ok(Exit::Done)
}

fn print(format: Format, token: &str, answer: &Value, out: &mut dyn Write) -> anyhow::Result<()> {
    match format {
        Format::Raw => writeln!(out, "{token}")?,
        Format::Header => writeln!(out, "Authorization: Bearer {token}")?,
        Format::Json => writeln!(out, "{answer:#}")?,
    }
    Ok(())
}

/// What a failure means to a script.
pub(super) fn refused(error: &Error) -> Exit {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    eprintln!("certbind: {text}");
    if let Some(request_id) = error.request_id() {
        eprintln!("the server's audit log has the reason under request_id {request_id}");
    }
    match error {
        Error::Refused(_) | Error::CertificateRefused(_) => Exit::Refused,
        Error::Unreachable(_) | Error::Busy(_) => Exit::Unreachable,
        _ => Exit::Failure,
    }
}

impl AskArgs {
    /// What is asked of whom, with this credential.
    ///
    /// # Errors
    /// When an option is missing or wrong, or the certificate authorities cannot be read.
    pub(super) fn settings(&self, credential: Credential, environment: &Environment) -> anyhow::Result<Settings> {
        let (issuer, client_id) = self.parties(environment)?;
        let mut settings = Settings::new(&issuer, &client_id, credential, roots(&self.server, environment)?);
        settings.addresses = AddressPolicy::AllowPrivate;
        settings.limits.total = Duration::from_secs(self.server.timeout);
        settings.scope = typed("--scope", self.scope.as_deref().unwrap_or_default())?;
        settings.resources = self.resource.iter().map(|text| typed("--resource", text)).collect::<Result<_, _>>()?;
        Ok(settings)
    }

    /// The file of who may vouch for the server, when one is named.
    pub(super) fn ca(&self, environment: &Environment) -> Option<PathBuf> {
        Variables(environment).ca(self.server.ca.as_ref())
    }

    /// Where the credential is.
    ///
    /// # Errors
    /// When nothing says so.
    pub(super) fn files(&self, environment: &Environment) -> Result<CredentialFiles, Misused> {
        let certificate = Variables(environment).pair(self.cert.as_ref(), self.key.as_ref())?;
        let certificate = certificate.map(|(chain, key)| CertificateFiles { chain, key });
        let Some(path) = self.assertion_key.clone() else {
            let missing = || Misused("give --cert and --key, or --assertion-key".to_owned());
            return Ok(CredentialFiles::Certificate(certificate.ok_or_else(missing)?));
        };
        let key = AssertionKeyFile { algorithm: self.algorithm()?, kid: self.kid.clone(), path };
        Ok(CredentialFiles::PrivateKeyJwt { certificate, key })
    }

    /// The issuer and the client.
    ///
    /// # Errors
    /// When nothing says which.
    pub(super) fn parties(&self, environment: &Environment) -> Result<(String, String), Misused> {
        let variable = Variables(environment);
        let missing = |option: &str| Misused(format!("{option} is missing"));
        let issuer = variable.or(self.server.issuer.clone(), "CERTBIND_ISSUER").ok_or_else(|| missing("--issuer"))?;
        let client = variable.or(self.client_id.clone(), "CERTBIND_CLIENT_ID");
        Ok((issuer, client.ok_or_else(|| missing("--client-id"))?))
    }

    fn fresh_assertion(&self, issuer: &str, client_id: &str) -> anyhow::Result<String> {
        let path = self.assertion_key.as_ref().context("--assertion-key is missing")?;
        let pem = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let key = SigningKey::from_pkcs8_pem(&pem, self.algorithm()?)?;
        let jti = unguessable_id(&OsEntropy);
        let lifetime = assertion::MAX_BUILT_LIFETIME;
        let build = Build { client_id, issuer, jti: &jti, now: SystemClock.now(), lifetime };
        Ok(assertion::build(&Signer::new(key, assertion::TYP, self.kid.as_deref()), &build)?)
    }

    fn algorithm(&self) -> Result<Option<Algorithm>, Misused> {
        let Some(name) = &self.alg else { return Ok(None) };
        let unknown = || Misused(format!("--alg {name} is not an algorithm of this program"));
        Algorithm::parse(name).ok_or_else(unknown).map(Some)
    }
}

/// What an option says.
pub(super) fn typed<T: FromStr<Err: Display>>(option: &str, text: &str) -> Result<T, Misused> {
    text.parse().map_err(|fault| Misused(format!("{option}: {fault}")))
}

/// Who may vouch for the server.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn roots(args: &ServerArgs, environment: &Environment) -> anyhow::Result<Authorities> {
    Variables(environment).authorities(args.ca.as_ref())
}

/// Settings that may come from the environment.
pub(super) struct Variables<'a>(pub(super) &'a Environment);

impl Variables<'_> {
    pub(super) fn or(&self, typed: Option<String>, name: &str) -> Option<String> {
        typed.or_else(|| self.0.get(name).and_then(|value| value.to_str()).map(str::to_owned))
    }

    /// A file.
    pub(super) fn path(&self, typed: Option<&PathBuf>, name: &str) -> Option<PathBuf> {
        typed.cloned().or_else(|| self.or(None, name).map(PathBuf::from))
    }

    /// A certificate and its key, both or neither.
    ///
    /// # Errors
    /// One of the two.
    pub(super) fn pair(
        &self,
        cert: Option<&PathBuf>,
        key: Option<&PathBuf>,
    ) -> Result<Option<(PathBuf, PathBuf)>, Misused> {
        match (self.path(cert, "CERTBIND_CERT"), self.path(key, "CERTBIND_KEY")) {
            (Some(cert), Some(key)) => Ok(Some((cert, key))),
            (None, None) => Ok(None),
            _ => Err(Misused("--cert and --key go together".to_owned())),
        }
    }

    fn ca(&self, typed: Option<&PathBuf>) -> Option<PathBuf> {
        self.path(typed, "CERTBIND_CA")
    }

    /// Who may vouch for a server: those of a file, or of the system where none is named.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn authorities(&self, typed: Option<&PathBuf>) -> anyhow::Result<Authorities> {
        match self.ca(typed) {
            Some(path) => Ok(certbind_client::trusted_authorities(&path)?),
            None => Ok(trusted::authorities(None)?),
        }
    }
}
