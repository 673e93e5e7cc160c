//! Calls an API once a second, through every renewal of its certificate, with hyper-util's pooling client.
//!
//! `cargo run -p certbind-client --example hyper -- ISSUER CLIENT_ID CERT KEY CA URL`
//!
//! Three things keep it going (RFC 8705 §3, §6.3):
//! 1. The files are followed: a renewed certificate is in use together with its first token ([`main`]).
//! 2. Each certificate has a client of its own, so that no kept connection shows another one ([`http`], [`Clients`]).
//! 3. A token that the API refuses early is fetched anew, once ([`get`], [`Api::call`]).

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use certbind_client::{
    AddressPolicy, Api, CertificateFiles, Clients, CredentialFiles, Settings, TokenSource, is_invalid_token,
    trusted_authorities,
};
use certbind_proto::entropy::OsEntropy;
use certbind_proto::time::SystemClock;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as HttpError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;

/// The most time for one call, a second try included.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) type Http = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [issuer, client_id, chain, key, ca, url] = &arguments[..] else {
        return Err("usage: hyper ISSUER CLIENT_ID CERT KEY CA URL".into());
    };
    let files = CredentialFiles::Certificate(CertificateFiles { chain: chain.into(), key: key.into() });
    let roots = trusted_authorities(Path::new(ca))?;
    let mut settings = Settings::new(issuer, client_id, files.load()?, roots.clone());
    // An authorization server on this machine or in the same private network.
    settings.addresses = AddressPolicy::AllowPrivate;
    let source = TokenSource::new(settings, Arc::new(SystemClock), Arc::new(OsEntropy))?;
    let _follower = source.follow(files);
    let api = Api::new(source, Clients::new(&roots, http)?);

    let url: Uri = url.parse()?;
    loop {
        match tokio::time::timeout(PATIENCE, get(&api, &url)).await? {
            Ok(response) => println!("{} {:?}", response.status(), api.source().status().certificate),
            Err(error) => println!("{error}"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// A client whose connections all show the certificate of these settings.
pub(crate) fn http(tls: ClientConfig) -> Http {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().wrap_connector(tcp);
    Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(https)
}

pub(crate) async fn get(
    api: &Api<Http>,
    url: &Uri,
) -> Result<Response<Incoming>, certbind_client::CallError<HttpError>> {
    api.call(
        |http, token| http.request(request(url, token.authorization())),
        |response| is_invalid_token(response.status(), response.headers()),
    )
    .await
}

fn request(url: &Uri, authorization: &HeaderValue) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = url.clone();
    request.headers_mut().insert(AUTHORIZATION, authorization.clone());
    request
}
