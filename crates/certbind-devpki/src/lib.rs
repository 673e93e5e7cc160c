//! A throw-away PKI made with rcgen: what `dev` and `demo` run on, what `scripts/dev-certs` writes, what every test spoils.
//!
//! [`DevPki::generate`] makes the whole set: a root, an intermediate, a server and clients of each kind. Below it, [`Issuer`]
//! and [`LeafSpec`] make single certificates, so that a test can start from a good one and spoil one fact of it.
//! Nothing here reads a clock: a [`Validity`] comes in as seconds since 1970.
//!
//! ```
//! use certbind_devpki::{Issuer, LeafSpec, Validity};
//!
//! let validity = Validity::days_from(1_795_305_600, 30);
//! let ca = Issuer::root("Test CA", validity)?;
//! let client = ca.leaf(&LeafSpec::client("billing", validity).uri("spiffe://example.com/billing"))?;
//! assert_eq!(client.chain().len(), 1);
//! # Ok::<(), certbind_devpki::PkiError>(())
//! ```
//!
//! **Not for production.** Its private keys lie about in plain files and nobody guards its CA.

mod crl;
mod der;
mod issuer;
mod leaf;
mod name;
mod set;
mod write;

pub use crl::{Crl, CrlSpec};
pub use issuer::{CaSpec, Issuer};
pub use leaf::{Basic, Eku, Extension, Identity, KeyAlgorithm, KeySource, KeyUsage, LeafSpec, San, Version};
pub use name::{Attribute, Encoding, Rdn, rdn};
pub use set::{Client, DevPki};

/// From when until when, both ends included, in seconds since 1970 (RFC 5280 §4.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub not_before: i64,
    /// The last second.
    pub not_after: i64,
}

impl Validity {
    /// So many days from `not_before` on.
    #[must_use]
    pub const fn days_from(not_before: i64, days: i64) -> Self {
        Self { not_before, not_after: not_before + days * 86_400 }
    }
}

/// Why a certificate, a key or a file was not made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The certificate that rcgen made has an unexpected shape.
    #[error("the generated certificate could not be taken apart")]
    Der,
    /// rcgen refused a value, for example a DNS name that is not ASCII.
    #[error("the certificate could not be generated")]
    Generate(#[from] rcgen::Error),
    /// A point in time lies outside the years 1 to 9999.
    #[error("a point in time is out of range")]
    Time(#[from] time::error::ComponentRange),
    /// A file or folder could not be written.
    #[error("{} could not be written", path.display())]
    Write {
        /// Which one.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

fn offset(seconds: i64) -> Result<time::OffsetDateTime, PkiError> {
    Ok(time::OffsetDateTime::from_unix_timestamp(seconds)?)
}

#[cfg(test)]
mod tests;
