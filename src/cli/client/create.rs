//! `certbind client create`: a registration from a certificate, a key set or a URL, so that nobody types a name.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context as _;
use certbind_proto::cert::Certificate;
use certbind_proto::subject::{Subject, SubjectKind};
use certbind_proto::time::{Clock as _, SystemClock};
use clap::{ArgGroup, Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::{document, show};
use crate::cli::admin_api::{AdminArgs, Api};
use crate::cli::config::Output;
use crate::cli::{Exit, Misused};
use crate::config::Environment;

/// The client to be.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("proof").args(["from_cert", "jwks", "jwks_uri"]).required(true).multiple(true))]
pub(in crate::cli) struct CreateArgs {
    /// The client's identifier; without it one is drawn
    client_id: Option<String>,
    /// The client's certificate, PEM or DER
    #[arg(long, value_name = "FILE", requires = "matching")]
    from_cert: Option<PathBuf>,
    /// By what of the certificate the client is known
    #[arg(long = "match", id = "matching", value_name = "KIND", value_enum, requires = "from_cert")]
    matching: Option<Match>,
    /// Which of several names of that kind
    #[arg(long, value_name = "NAME", requires = "matching")]
    name: Option<String>,
    /// The trust group that vouches for the certificate; may be left out when there is one
    #[arg(long, value_name = "GROUP")]
    trust: Option<String>,
    /// The client's public keys, a JWK set, for private_key_jwt
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from_cert", "jwks_uri"])]
    jwks: Option<PathBuf>,
    /// Where the client publishes its public keys, for private_key_jwt
    #[arg(long, value_name = "URL", conflicts_with = "from_cert")]
    jwks_uri: Option<String>,
    /// The one algorithm of its assertions
    #[arg(long, value_name = "ALG")]
    alg: Option<String>,
    /// The scope that it may ask for
    #[arg(long)]
    scope: Option<String>,
    /// A resource that its tokens may be for; may be repeated, the first is the default
    #[arg(long, value_name = "URI", required = true)]
    audience: Vec<String>,
    /// A life for its tokens that is shorter than the server's, as in 2m
    #[arg(long, value_name = "DURATION")]
    ttl: Option<String>,
    /// A name for people
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    /// Whom to call
    #[arg(long)]
    owner: Option<String>,
    /// A label; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// By what of a certificate a client is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Match {
    /// A uniformResourceIdentifier, as SPIFFE has it
    SanUri,
    /// A dNSName
    SanDns,
    /// An iPAddress
    SanIp,
    /// An rfc822Name
    SanEmail,
    /// The whole subject
    SubjectDn,
    /// The certificate itself; no CA vouches for it
    SelfSigned,
}

/// Registers the client and says how it gets a token.
///
/// # Errors
/// When a file is bad, or the server refuses or cannot be reached.
pub(super) fn run(args: &CreateArgs, environment: &Environment, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let api = args.admin.connect(environment)?;
    let document = registration(args, &api)?;
    let client = api.post("/admin/v1/clients", Some(&document))?.body;
    show::client(out, args.admin.output, &client)?;
    if args.admin.output == Output::Table {
        writeln!(out, "\n{}", how_to_get_a_token(args, &api, &client)?)?;
    }
    Ok(Exit::Done)
}

fn registration(args: &CreateArgs, api: &Api) -> anyhow::Result<Value> {
    let mut members = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            members.insert(name.to_owned(), value);
        }
    };
    put("client_id", args.client_id.clone().map(Value::from));
    put("client_name", args.display_name.clone().map(Value::from));
    put("scope", args.scope.clone().map(Value::from));
    let mut ours = Map::new();
    ours.insert("audiences".to_owned(), json!(args.audience));
    for (name, value) in [("token_lifetime", &args.ttl), ("owner", &args.owner), ("trust", &args.trust)] {
        ours.extend(value.clone().map(|value| (name.to_owned(), value.into())));
    }
    if !args.label.is_empty() {
        let labels = args.label.iter().map(|(name, value)| (name.clone(), value.as_str().into()));
        ours.insert("labels".to_owned(), Value::Object(labels.collect()));
    }
    match (&args.from_cert, args.matching, &args.jwks, &args.jwks_uri) {
        (Some(path), Some(matching), None, None) => {
            let certificate = document::certificate(path)?;
            document::warn_of_end(&certificate, SystemClock.now());
            of_certificate(args, api, &certificate, matching, (&mut members, &mut ours))?;
        }
        (None, None, jwks, jwks_uri) if jwks.is_some() || jwks_uri.is_some() => {
            members.insert("token_endpoint_auth_method".to_owned(), "private_key_jwt".into());
            let jwks = jwks.as_ref().map(|path| document::key_set(path)).transpose()?;
            members.extend(jwks.map(|jwks| ("jwks".to_owned(), jwks)));
            members.extend(jwks_uri.clone().map(|uri| ("jwks_uri".to_owned(), uri.into())));
            members.extend(args.alg.clone().map(|alg| ("token_endpoint_auth_signing_alg".to_owned(), alg.into())));
        }
        _ => {
            let missing =
                "say how the client proves itself: --from-cert FILE --match KIND, --jwks FILE or --jwks-uri URL";
            return Err(Misused(missing.to_owned()).into());
        }
    }
    members.insert("certbind".to_owned(), Value::Object(ours));
    Ok(Value::Object(members))
}

fn of_certificate(
    args: &CreateArgs,
    api: &Api,
    certificate: &Certificate,
    matching: Match,
    (members, ours): (&mut Map<String, Value>, &mut Map<String, Value>),
) -> anyhow::Result<()> {
    let Some(kind) = matching.kind() else {
        members.insert("token_endpoint_auth_method".to_owned(), "self_signed_tls_client_auth".into());
        ours.insert("certificates".to_owned(), json!([certificate.to_pem()]));
        return Ok(());
    };
    let name = name_in(certificate, kind, args.name.as_deref())?;
    members.insert("token_endpoint_auth_method".to_owned(), "tls_client_auth".into());
    members.insert(kind.attribute().to_owned(), name.into());
    if !ours.contains_key("trust") {
        ours.insert("trust".to_owned(), only_trust_group(api)?.into());
    }
    Ok(())
}

impl Match {
    const fn kind(self) -> Option<SubjectKind> {
        match self {
            Self::SanUri => Some(SubjectKind::SanUri),
            Self::SanDns => Some(SubjectKind::SanDns),
            Self::SanIp => Some(SubjectKind::SanIp),
            Self::SanEmail => Some(SubjectKind::SanEmail),
            Self::SubjectDn => Some(SubjectKind::Dn),
            Self::SelfSigned => None,
        }
    }
}

/// The one name of this kind, as it is registered; the certificate is known by it.
fn name_in(certificate: &Certificate, kind: SubjectKind, wanted: Option<&str>) -> anyhow::Result<String> {
    let names = kind.names_in(certificate);
    let listed = || names.iter().map(|name| format!("\n  {name}")).collect::<String>();
    let name = match (wanted, names.as_slice()) {
        (_, []) => anyhow::bail!("the certificate has no {}; {}", kind.label(), others(certificate)),
        (Some(wanted), _) if names.iter().any(|name| name == wanted) => wanted.to_owned(),
        (Some(_), _) => anyhow::bail!("the certificate does not have this name; it has{}", listed()),
        (None, [only]) => only.clone(),
        (None, _) => {
            anyhow::bail!("the certificate has several names of this kind; say which with --name:{}", listed())
        }
    };
    let subject = Subject::parse(kind, &name).with_context(|| format!("{name} cannot be registered"))?;
    subject.check(certificate).context("the certificate would not be taken for this name")?;
    Ok(name)
}

fn others(certificate: &Certificate) -> String {
    let kinds = SubjectKind::ALL
        .iter()
        .flat_map(|kind| kind.names_in(certificate).into_iter().map(|name| (kind.label(), name)));
    let names: String = kinds.map(|(kind, name)| format!("\n  {kind}: {name}")).collect();
    match names.is_empty() {
        true => "it has no name of any kind, so only --match self-signed is left".to_owned(),
        false => format!("it has{names}"),
    }
}

fn only_trust_group(api: &Api) -> anyhow::Result<String> {
    let status = api.get("/admin/v1/status")?.body;
    let groups: Vec<&str> = status["trust_groups"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    match groups.as_slice() {
        [only] => Ok((*only).to_owned()),
        [] => anyhow::bail!(
            "the server has no [[trust]] group, so no CA can vouch for a client; --match self-signed needs none"
        ),
        groups => anyhow::bail!("say which trust group vouches for the client with --trust: {}", groups.join(", ")),
    }
}

fn label(typed: &str) -> anyhow::Result<(String, String)> {
    let (name, value) = typed.split_once('=').context("it is NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn how_to_get_a_token(args: &CreateArgs, api: &Api, client: &Value) -> anyhow::Result<String> {
    let status = api.get("/admin/v1/status")?.body;
    let client_id = client["client_id"].as_str().unwrap_or_default();
    Ok(match &args.from_cert {
        Some(cert) => format!(
            "It gets a token by:\n  curl --cert {} --key KEY.pem -d grant_type=client_credentials -d client_id={} {}",
            cert.display(),
            crate::cli::admin_api::encode(client_id),
            status["token_endpoint"].as_str().unwrap_or_default()
        ),
        None => format!(
            "It gets a token by:\n  certbind token --issuer {} --client-id {client_id} --assertion-key KEY.pem --cert CERT.pem --key CERT-KEY.pem",
            status["issuer"].as_str().unwrap_or_default()
        ),
    })
}

#[cfg(test)]
mod tests {
    use certbind_devpki::{Identity, LeafSpec, Validity};

    use super::*;

    #[test]
    fn what_a_certificate_has_instead_is_said_also_when_that_is_nothing() {
        let spec = LeafSpec::client("billing", Validity::days_from(0, 1));
        let said = |spec: &LeafSpec| {
            let identity = Identity::self_signed(spec).unwrap();
            let certificate = Certificate::parse(identity.certificate()).unwrap();
            name_in(&certificate, SubjectKind::SanDns, None).unwrap_err().to_string()
        };
        assert!(said(&spec).contains("it has\n  "), "{}", said(&spec));
        let nameless = LeafSpec { subject: Vec::new(), ..spec };
        assert!(said(&nameless).ends_with("so only --match self-signed is left"), "{}", said(&nameless));
    }
}
