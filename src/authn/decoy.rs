//! Work for nobody: an unknown client costs what a known one with a bad proof costs, so that time tells nothing.

use certbind_proto::jws::{Algorithm, Parsed, SigningKey, VerifyingKey};
use certbind_proto::time::Timestamp;

use super::trust::TrustGroups;
use super::{Proof, chain};

/// Keys that belong to no client, one for each kind.
pub(super) struct Decoy {
    keys: Vec<(Algorithm, VerifyingKey)>,
}

impl Decoy {
    /// Makes keys that verify nothing. There is none for RSA: it takes long to make, and what it would hide is the
    /// cheapest verification of all, below what a network can tell apart.
    pub(super) fn new() -> Self {
        let made = [Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa]
            .into_iter()
            .filter_map(|algorithm| SigningKey::generate(algorithm).ok().map(|key| (algorithm, key.public())));
        Self { keys: made.collect() }
    }

    /// Spends what checking this proof against a registered client would.
    pub(super) fn spend(&self, proof: &Proof<'_>, trust: &TrustGroups, now: Timestamp) {
        match proof {
            Proof::Assertion(parsed) => self.verify(parsed),
            Proof::Certificate(Some(certificate)) => {
                if let Some(group) = trust.any() {
                    let _ = chain::check(certificate, &group, now);
                }
            }
            Proof::Certificate(None) => {}
        }
    }

    /// Spends one signature verification of the assertion's own algorithm.
    pub(super) fn verify(&self, parsed: &Parsed<'_>) {
        if let Some((_, key)) = self.keys.iter().find(|(algorithm, _)| *algorithm == parsed.header.alg) {
            let _ = parsed.verify(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use certbind_proto::jws::{JwsFault, Signer};
    use serde_json::json;

    use super::*;

    #[test]
    fn attack_63_an_unknown_client_costs_a_whole_verification_by_its_own_algorithm() {
        let decoy = Decoy::new();
        for algorithm in [Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa] {
            let signer = Signer::new(SigningKey::generate(algorithm).unwrap(), "JWT", None);
            let token = signer.sign_claims(&json!({ "sub": "nobody" })).unwrap();
            let parsed = Parsed::parse(&token).unwrap();
            let (_, key) = decoy.keys.iter().find(|(kind, _)| *kind == algorithm).unwrap();
            // Not a fault that is found before the arithmetic, as that of a key of another kind would be.
            assert_eq!(parsed.verify(key), Err(JwsFault::SignatureWrong), "{algorithm:?}");
        }
    }
}
