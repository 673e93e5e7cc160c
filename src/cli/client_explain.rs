//! `certbind client explain`: the server's own decision for one client and one certificate, rule by rule.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use certbind_proto::assertion::CLIENT_ASSERTION_TYPE;
use certbind_proto::cert::{Certificate, PeerCert};
use certbind_proto::client::{AuthMethod, Client, KeySource, Method, State};
use certbind_proto::subject::{Comparison, Subject};
use certbind_proto::time::{Clock as _, SystemClock, Timestamp};
use clap::Args;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::config::SourceArgs;
use super::serve::settings;
use super::{Exit, explain, trust_files, trusted};
use crate::authn::trust::TrustGroups;
use crate::authn::{self, Authenticator, Presented, check_chain};
use crate::config::{self, Environment};
use crate::jwks_uri::PublishedKeys;
use crate::registry::file::{FileRegistry, Settings};
use crate::registry::{Registry as _, Snapshot};
use crate::revocation::Revocations;
use crate::store::memory::MemoryStore;
use stored::Stored;

mod stored;

/// Whom to ask about.
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The client's identifier.
    client_id: String,
    /// The certificate it would present, PEM, with its intermediates.
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// The assertion it would send; a dash reads it from standard input.
    #[arg(long, value_name = "FILE")]
    assertion: Option<PathBuf>,
    #[command(flatten)]
    sources: SourceArgs,
}

/// Says which rule passed and which failed. The verdict is that of the code that serves requests; nothing is used up.
///
/// # Errors
/// When a file cannot be read. A refusal is [`Exit::Refused`].
pub(super) fn run(args: &ExplainArgs, environment: &Environment, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let now = SystemClock.now();
    let opened = match config::open(&args.sources.sources(environment.clone()), now) {
        Ok(opened) => opened,
        Err(rejected) => return Ok(super::config::refuse(&rejected, &mut io::stderr())?),
    };
    let (config, files) = (opened.checked.config, opened.files);
    let trust = Arc::new(trust_files::load(&config, files.trust, environment, now)?);
    let rules = settings::registration(&config);
    let (registry, report) = FileRegistry::load(Settings { dir: config.clients_dir.clone(), rules: rules.clone() });
    for fault in &report.faults {
        writeln!(out, "bad file   {fault}")?;
    }
    let stored = Stored::ask(args, environment, &registry, &rules);
    let is_elsewhere = config.admin.is_some() || registry.find(&args.client_id).is_none();
    stored.tell(&args.client_id, is_elsewhere, out)?;
    let (all, shared_with) = (stored.with(&registry), stored.shared_with(&args.client_id));
    let presented = presented(args)?;
    let said = Explanation { registry: &all, shared_with, unknown: stored.unknown(), trust: &trust, now };
    said.rules(&args.client_id, presented.certificate.as_deref(), out)?;
    if presented.assertion.is_none() && said.signs_assertions(&args.client_id) {
        writeln!(out, "verdict    none: this client proves itself by an assertion; give one with --assertion FILE")?;
        return Ok(Exit::Done);
    }

    let roots = trusted::of(&config.assertions.jwks_fetch.roots, &files.fetch_roots)?;
    let remote = PublishedKeys::new(settings::published_keys(&config, roots))?;
    let assertions = settings::assertions(&config);
    let nothing_used = Arc::new(MemoryStore::new());
    let parts = authn::Parts {
        registry: Arc::new(all.clone()),
        replay: Arc::clone(&nothing_used) as _,
        remote_keys: Arc::new(remote),
        trust: Arc::clone(&trust),
        revocations: Arc::new(Revocations::none_yet(nothing_used)),
        bound: Arc::default(),
    };
    let authenticator = Authenticator::new(parts, assertions);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(authenticator.authenticate(&presented, now)) {
        Ok(_) => {
            writeln!(out, "verdict    accepted")?;
            Ok(Exit::Done)
        }
        Err(denied) => {
            let reason = denied.fault.reason();
            writeln!(out, "verdict    refused: {reason}: {}", denied.fault)?;
            if let Some(reason) = explain::find(reason) {
                writeln!(out, "cure       {}", reason.cure)?;
            }
            Ok(Exit::Refused)
        }
    }
}

fn presented(args: &ExplainArgs) -> anyhow::Result<Presented> {
    let certificate = match &args.cert {
        None => None,
        Some(path) => {
            let pem = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
            let chain = chain.ok().and_then(PeerCert::from_chain);
            Some(Arc::new(chain.with_context(|| format!("{} holds no PEM certificate", path.display()))?))
        }
    };
    let assertion = match &args.assertion {
        None => None,
        Some(path) if path.as_os_str() == "-" => Some(io::read_to_string(io::stdin())?),
        Some(path) => Some(fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?),
    };
    Ok(Presented {
        client_id: Some(args.client_id.clone()),
        assertion_type: assertion.as_ref().map(|_| CLIENT_ASSERTION_TYPE.to_owned()),
        assertion: assertion.map(|text| text.trim().to_owned()),
        certificate,
        ..Presented::default()
    })
}

/// The rules one by one, each asked of the code that decides it.
struct Explanation<'a> {
    registry: &'a Arc<Snapshot>,
    /// Other clients that have the same name in the same trust group.
    shared_with: Vec<String>,
    /// What a client is that is not among them.
    unknown: &'static str,
    trust: &'a TrustGroups,
    now: Timestamp,
}

impl Explanation<'_> {
    fn signs_assertions(&self, client_id: &str) -> bool {
        self.registry.find(client_id).is_some_and(|client| client.method.name() == AuthMethod::PrivateKeyJwt)
    }

    fn rules(&self, client_id: &str, certificate: Option<&PeerCert>, out: &mut dyn Write) -> io::Result<()> {
        let Some(client) = self.registry.find(client_id) else {
            return writeln!(out, "client     {client_id}: {}", self.unknown);
        };
        writeln!(out, "client     {client_id}: {}, {}", client.method.name(), state(&client))?;
        let leaf = certificate.map(PeerCert::leaf);
        match leaf {
            None => writeln!(out, "presented  no certificate")?,
            Some(Err(fault)) => writeln!(out, "presented  a certificate that cannot be read: {fault}")?,
            Some(Ok(leaf)) => self.certificate(leaf, out)?,
        }
        match (&client.method, certificate) {
            (Method::TlsClientAuth { subject, trust }, Some(peer)) => self.tls_client_auth(peer, subject, trust, out),
            (Method::SelfSignedTlsClientAuth { certificates, jwks_uri, .. }, Some(peer)) => {
                registered_certificates(certificates, jwks_uri.as_deref(), peer, out)
            }
            (Method::PrivateKeyJwt { keys, .. }, _) => registered_keys(keys, out),
            (_, None) => Ok(()),
        }
    }

    fn certificate(&self, leaf: &Certificate, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "presented  subject {}", leaf.subject())?;
        for san in leaf.sans() {
            writeln!(out, "           {san}")?;
        }
        let dates = match (leaf.is_not_yet_valid(self.now), leaf.is_expired(self.now)) {
            (true, _) => "not yet valid",
            (_, true) => "expired",
            (false, false) => "valid now",
        };
        writeln!(out, "           {} to {}: {dates}", leaf.not_before(), leaf.not_after())?;
        writeln!(out, "           x5t#S256 {}", leaf.thumbprint())
    }

    fn tls_client_auth(&self, peer: &PeerCert, subject: &Subject, trust: &str, out: &mut dyn Write) -> io::Result<()> {
        match self.trust.group(trust).and_then(|group| check_chain(peer, &group, self.now)) {
            Ok(chain) => {
                writeln!(
                    out,
                    "chain  ok  trust group `{trust}`, {} intermediate(s), good until {}",
                    chain.depth(),
                    chain.not_after()
                )?;
            }
            Err(fault) => writeln!(out, "chain  NO  trust group `{trust}`: {}: {fault}", fault.reason())?,
        }
        let Ok(leaf) = peer.leaf() else { return Ok(()) };
        let Comparison { kind, registered, presented, ignored, outcome } = subject.explain(leaf);
        let mark = if outcome.is_ok() { "ok" } else { "NO" };
        writeln!(out, "name   {mark}  registered {} = {registered}", kind.attribute())?;
        for value in presented {
            writeln!(out, "           presented  {value}")?;
        }
        for value in ignored {
            writeln!(out, "           ignored    {value} (another kind of name)")?;
        }
        if !self.shared_with.is_empty() {
            let others = self.shared_with.join(", ");
            writeln!(
                out,
                "shared     the name is registered for {others} as well: a certificate of one is good for all"
            )?;
        }
        Ok(())
    }
}

fn state(client: &Client) -> &'static str {
    match client.state {
        State::Active => "active",
        State::Disabled => "disabled",
    }
}

fn registered_certificates(
    certificates: &[Certificate],
    jwks_uri: Option<&str>,
    peer: &PeerCert,
    out: &mut dyn Write,
) -> io::Result<()> {
    let known = certificates.iter().any(|certificate| certificate.thumbprint() == peer.thumbprint());
    writeln!(out, "cert   {}  registered certificates, by x5t#S256:", if known { "ok" } else { "--" })?;
    for certificate in certificates {
        writeln!(out, "           {} until {}", certificate.thumbprint(), certificate.not_after())?;
    }
    match jwks_uri {
        Some(uri) => writeln!(out, "           and those published at {uri}"),
        None => Ok(()),
    }
}

fn registered_keys(keys: &KeySource, out: &mut dyn Write) -> io::Result<()> {
    match keys {
        KeySource::Uri(uri) => writeln!(out, "keys       published at {uri}"),
        KeySource::Inline(set) => {
            for key in set.iter() {
                let names = key.algorithms().names().join(" ");
                writeln!(
                    out,
                    "keys       kid {} ({names}), thumbprint {}",
                    key.kid().unwrap_or("none"),
                    key.thumbprint()
                )?;
            }
            Ok(())
        }
    }
}
