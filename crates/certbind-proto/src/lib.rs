//! Wire formats and pure checks of certificate-bound OAuth 2.0 access tokens.
//!
//! Server, client and resource server read and write the same types, so a rule stands in one place:
//! `build` for the side that makes a thing, `check` for the side that receives it.
//!
//! The promise of this crate: **no I/O**. No sockets, no files, no async. What depends on the time takes
//! `now`; what needs random bytes takes an [`entropy::Entropy`].

pub mod access_token;
pub mod assertion;
pub mod bearer;
pub mod binding;
pub mod cert;
mod claims;
pub mod client;
pub mod crl;
mod der;
pub mod dn;
pub mod entropy;
pub mod error;
pub mod forwarded;
pub mod introspection;
pub mod json;
pub mod jwk;
pub mod jws;
pub mod kept_keys;
pub mod metadata;
pub mod pem;
pub mod request;
pub mod resource;
pub mod resource_metadata;
pub mod response;
pub mod revocation_list;
pub mod scope;
pub mod subject;
pub mod thumbprint;
pub mod time;
