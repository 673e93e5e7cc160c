//! What is revoked in, the signed list that is published out.

use std::sync::Arc;
use std::time::Duration;

use certbind_proto::revocation_list::{self, Entries, RevocationList};
use certbind_proto::time::Timestamp;

use super::MintFault;
use super::ring::KeyRing;

/// How long a list may be relied on at all. Whoever reads it may well want a newer one.
const LIFE: Duration = Duration::from_secs(3600);

/// Signs lists with the key that signs tokens, so that whoever knows the one knows the other.
pub struct ListSigner {
    keys: Arc<KeyRing>,
    issuer: String,
}

impl ListSigner {
    /// Signs as this issuer.
    #[must_use]
    pub const fn new(keys: Arc<KeyRing>, issuer: String) -> Self {
        Self { keys, issuer }
    }

    /// The list, which is complete as of a time.
    ///
    /// # Errors
    /// [`MintFault::KeysOutdated`], [`MintFault::SignerUnavailable`], [`MintFault::Signing`].
    pub async fn sign(&self, entries: Entries, as_of: Timestamp, now: Timestamp) -> Result<String, MintFault> {
        let signing = self.keys.signing(now)?;
        let list = RevocationList { as_of, expires: as_of.plus(LIFE), entries };
        let claims = list.to_claims(&self.issuer);
        signing.signer()?.sign_as(revocation_list::TYP, &claims).await
    }
}
