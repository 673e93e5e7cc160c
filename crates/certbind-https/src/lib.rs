//! One bounded HTTPS request: from a URL that may have come from somebody else to an answer of limited size in limited
//! time, or to the fact that stood in the way (RFC 8725 §3.10).
//!
//! - `https` only; the server's name is checked against its certificate's subjectAltName alone (RFC 9525 §6).
//! - A name is resolved once, the addresses are held against an [`AddressPolicy`], and the connection goes to an address
//!   that passed: a second answer of the name server cannot move it.
//! - No redirect is followed, no content encoding undone, no cookie kept.
//! - One connection for each request, no resumption: no request travels under an identity that was replaced before it.
//! - Deadlines for connecting and for the whole exchange; caps on header and body, kept while reading.

mod address;
mod authorities;
mod error;
mod fetch;
mod tls;

pub use address::AddressPolicy;
pub use authorities::Authorities;
pub use error::{FetchError, Stage, UrlFault};
pub use fetch::{Fetcher, Limits};
pub use tls::{ConfigFault, Identity, client_config};

#[cfg(test)]
mod tests;
