//! A token that is good now: gets certificate-bound OAuth 2.0 access tokens, keeps them, renews them early
//! (RFC 6749 §4.4; RFC 8705; RFC 7523).
//!
//! A [`TokenSource`] is asked before every request to an API. It answers from memory almost always; near the end of a
//! token's life it fetches the next one in the background, one request for any number of callers; while the server is
//! away it goes on with the token it has until that is over.
//!
//! A token belongs to the certificate it was issued with. [`AccessToken::certificate`] hands out that very one, so that
//! a request never carries an old token under a new certificate or the reverse, and no token is kept past the end of its
//! certificate.
//!
//! A certificate that is renewed on disk is followed there ([`TokenSource::follow`]): links that Kubernetes swaps, files that
//! are written one after the other. The new certificate is in use as soon as there is a token for it, and until then the
//! old pair is; a token is never exchanged without its certificate. Half of a rotation, or files that are gone, change
//! nothing, and [`TokenSource::status`] says what is the matter.
//!
//! Who may vouch for servers changes on disk as well: [`AuthoritiesFile`] follows such a file. [`Authorities`] are shared by
//! all clones, so one of them serves the settings of a source and the [`Clients`] for an API.
//!
//! # Connections
//!
//! A certificate is shown when a connection begins, and connections are kept. So that none carries a token that is bound to
//! another certificate:
//!
//! - [`Clients`] holds one HTTP client, of hyper-util, reqwest or any other make, for each certificate, and drops the old one
//!   with its connections after a rotation; [`Api`] sends a request with the token and the client that go together, and
//!   once more when the token is refused before its end ([`is_invalid_token`]). `examples/hyper.rs` shows both at work.
//! - [`ClientCertificate::resolver`] is for TLS settings of one's own that carry tokens of one certificate.
//! - [`TokenSource::resolver`] is for mutual TLS without tokens, and for nothing else.
//!
//! With reqwest 0.13, whose feature `rustls-no-provider` leaves cryptography to these settings, it is this, from a program that
//! the tests of certbind run while its certificate is renewed (`tests/reqwest`):
//!
//! ```ignore
//! let clients = Clients::new(&roots, |tls| {
//!     let http = reqwest::Client::builder().tls_backend_preconfigured(tls).https_only(true);
//!     http.timeout(Duration::from_secs(10)).build().expect("settings that rustls took")
//! })?;
//! let api = Api::new(source, clients);
//! let answer = api
//!     .call(
//!         |http, token| http.get(url).header(AUTHORIZATION, token.authorization().clone()).send(),
//!         |answer| is_invalid_token(answer.status(), answer.headers()),
//!     )
//!     .await?;
//! ```
//!
//! # Example
//!
//! ```no_run
//! use std::path::Path;
//! use std::sync::Arc;
//!
//! use certbind_client::{CertificateFiles, CredentialFiles, Settings, TokenSource, trusted_authorities};
//! use certbind_proto::{entropy::OsEntropy, time::SystemClock};
//!
//! # async fn get() -> Result<(), Box<dyn std::error::Error>> {
//! let roots = trusted_authorities(Path::new("ca.pem"))?;
//! let files = CredentialFiles::Certificate(CertificateFiles { chain: "billing.pem".into(), key: "billing.key".into() });
//! let settings = Settings::new("https://auth.example.com", "billing", files.load()?, roots);
//! let source = TokenSource::new(settings, Arc::new(SystemClock), Arc::new(OsEntropy))?;
//! let _follower = source.follow(files); // until it is dropped
//!
//! let token = source.token().await?; // before each request; shown as `Authorization: Bearer …`
//! # let _ = token.authorization();
//! # Ok(())
//! # }
//! ```

mod answer;
mod api;
mod authorities;
mod cache;
mod clients;
mod credential;
mod date;
mod error;
mod files;
mod follow;
mod request;
mod resolver;
mod rotation;
mod settings;
mod source;
mod status;
mod stumbles;
mod token;
mod transport;

pub use certbind_https::{AddressPolicy, Authorities, ConfigFault, Identity, Limits};

pub use api::{Api, CallError, is_invalid_token};
pub use authorities::{AuthoritiesFile, AuthoritiesFollower};
pub use clients::Clients;
pub use credential::{AssertionKey, ClientCertificate, Credential, CredentialFault, trusted_authorities};
pub use error::{AnswerFault, Busy, Error, MetadataFault, Refusal, SetupFault};
pub use files::{AssertionKeyFile, CertificateFiles, CredentialFiles};
pub use follow::Follower;
pub use settings::{Aliases, Settings};
pub use source::TokenSource;
pub use status::{Failure, FilesFault, FilesStatus, Status, Waiting};
pub use token::AccessToken;

// The examples are tried by the tests, and call the crate by its name.
#[cfg(test)]
extern crate self as certbind_client;
#[cfg(test)]
mod tests;
