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
//! ```no_run
//! use std::path::Path;
//! use std::sync::Arc;
//!
//! use certbind_client::{ClientCertificate, Credential, Settings, TokenSource, trusted_authorities};
//! use certbind_proto::{entropy::OsEntropy, time::SystemClock};
//!
//! # async fn get() -> Result<(), Box<dyn std::error::Error>> {
//! let roots = trusted_authorities(Path::new("ca.pem"))?;
//! let certificate = ClientCertificate::from_files(Path::new("billing.pem"), Path::new("billing.key"))?;
//! let settings = Settings::new("https://auth.example.com", "billing", Credential::Certificate(certificate), roots);
//! let source = TokenSource::new(settings, Arc::new(SystemClock), Arc::new(OsEntropy))?;
//!
//! let token = source.token().await?; // before each request; shown as `Authorization: Bearer …`
//! # let _ = token.authorization();
//! # Ok(())
//! # }
//! ```

mod answer;
mod cache;
mod credential;
mod date;
mod error;
mod request;
mod source;
mod token;
mod transport;

pub use certbind_https::{AddressPolicy, Identity, Limits};

pub use credential::{AssertionKey, ClientCertificate, Credential, CredentialFault, trusted_authorities};
pub use error::{AnswerFault, Busy, Error, MetadataFault, Refusal, SetupFault};
pub use source::{Aliases, Settings, TokenSource};
pub use token::AccessToken;

#[cfg(test)]
mod tests;
