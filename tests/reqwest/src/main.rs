//! Calls an API again and again with reqwest, through every renewal of its certificate, until there is a file `stop`.
//!
//! It is told by its environment what the scripts of `tests/foreign/` are told. Each certificate that it has made a call with is a line
//! of what it prints, and the last line says how many calls there were, with how many certificates, and what a thief of the token got.
//!
//! The page of the crate `certbind-client` shows lines of [`main`].

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use certbind_client::{
    AccessToken, AddressPolicy, Api, CertificateFiles, ClientCertificate, Clients, CredentialFiles, Settings,
    TokenSource, is_invalid_token, trusted_authorities,
};
use certbind_proto::entropy::OsEntropy;
use certbind_proto::time::SystemClock;
use reqwest::StatusCode;
use reqwest::header::AUTHORIZATION;

type Failure = Box<dyn Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let files = files()?;
    let source = source(&files)?;
    let _follower = source.follow(files);
    let roots = trusted_authorities(Path::new(&told("CERTBIND_CA")?))?;
    let url = &told("API")?;

    let clients = Clients::new(&roots, |tls| {
        let http = reqwest::Client::builder().tls_backend_preconfigured(tls).https_only(true);
        http.timeout(Duration::from_secs(10)).build().expect("settings that rustls took")
    })?;
    let api = Api::new(source, clients);

    let (mut calls, mut certificates) = (0, BTreeSet::new());
    while !Path::new("stop").exists() {
        let before = certificate(&api);
        let answer = api
            .call(
                |http, token| http.get(url).header(AUTHORIZATION, token.authorization().clone()).send(),
                |answer| is_invalid_token(answer.status(), answer.headers()),
            )
            .await?;
        let (status, body) = (answer.status(), answer.text().await?);
        if status != StatusCode::OK {
            return Err(format!("{status} after {calls} calls: {body}").into());
        }
        calls += 1;
        // Where it is another one by now, nobody knows which of the two was shown.
        let shown = certificate(&api).filter(|_| before == certificate(&api));
        if let Some(shown) = shown.filter(|shown| certificates.insert(shown.clone())) {
            println!("{shown}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let thief = steal(&*api.source().token().await?, url).await?.as_u16();
    println!(r#"{{"calls":{calls},"certificates":{},"thief":{thief}}}"#, certificates.len());
    Ok(())
}

/// The thumbprint of the certificate in use.
fn certificate<C>(api: &Api<C>) -> Option<String> {
    api.source().status().certificate.map(|certificate| certificate.thumbprint().to_string())
}

/// What the API says to somebody who has the token and another certificate (RFC 8705 §3).
async fn steal(token: &AccessToken, url: &str) -> Result<StatusCode, Failure> {
    let roots = trusted_authorities(Path::new(&told("CERTBIND_CA")?))?;
    let own = ClientCertificate::from_files(Path::new(&told("THIEF_CERT")?), Path::new(&told("THIEF_KEY")?))?;
    let clients = Clients::new(&roots, move |mut tls| {
        tls.client_auth_cert_resolver = own.resolver();
        reqwest::Client::builder().tls_backend_preconfigured(tls).build().expect("settings that rustls took")
    })?;
    let request = clients.for_token(token).get(url).header(AUTHORIZATION, token.authorization().clone());
    Ok(request.send().await?.status())
}

fn source(files: &CredentialFiles) -> Result<TokenSource, Failure> {
    let roots = trusted_authorities(Path::new(&told("CERTBIND_CA")?))?;
    let mut settings = Settings::new(&told("CERTBIND_ISSUER")?, &told("CERTBIND_CLIENT_ID")?, files.load()?, roots);
    // The server of the tests is on this machine.
    settings.addresses = AddressPolicy::AllowPrivate;
    settings.scope = "payments:read".parse()?;
    settings.resources.insert(told("RESOURCE")?.parse()?);
    Ok(TokenSource::new(settings, Arc::new(SystemClock), Arc::new(OsEntropy))?)
}

fn files() -> Result<CredentialFiles, Failure> {
    let (chain, key) = (told("CERTBIND_CERT")?.into(), told("CERTBIND_KEY")?.into());
    Ok(CredentialFiles::Certificate(CertificateFiles { chain, key }))
}

#[expect(clippy::disallowed_methods, reason = "a program that the tests start has no other settings")]
fn told(name: &str) -> Result<String, Failure> {
    std::env::var(name).map_err(|error| format!("{name}: {error}").into())
}
