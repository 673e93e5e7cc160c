//! Random bytes, and the only place that asks the system for them.

use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A source of random bytes.
pub trait Entropy: Send + Sync {
    /// Fills `out` with random bytes.
    fn fill(&self, out: &mut [u8]);
}

/// An identifier that cannot be guessed: 160 random bits in base64url, 27 characters (RFC 6749 §10.10).
#[must_use]
pub fn unguessable_id(entropy: &dyn Entropy) -> String {
    let mut bytes = [0; 20];
    entropy.fill(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The random generator of the cryptographic library, seeded by the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    #[expect(
        clippy::disallowed_methods,
        clippy::expect_used,
        reason = "the one place that asks the system for randomness; without it no id is safe to give out"
    )]
    fn fill(&self, out: &mut [u8]) {
        aws_lc_rs::rand::fill(out).expect("the operating system gives random bytes");
    }
}

/// Bytes that repeat for the same seed. Tests only: whoever knows the seed knows every id.
#[derive(Debug)]
pub struct SeededEntropy {
    seed: u64,
    drawn: AtomicU64,
}

impl SeededEntropy {
    /// Starts the sequence of `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed, drawn: AtomicU64::new(0) }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, out: &mut [u8]) {
        for block in out.chunks_mut(digest::SHA256_OUTPUT_LEN) {
            let count = self.drawn.fetch_add(1, Ordering::SeqCst);
            let input = [self.seed.to_be_bytes(), count.to_be_bytes()].concat();
            let hash = digest::digest(&digest::SHA256, &input);
            block.copy_from_slice(&hash.as_ref()[..block.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6749_10_10_an_id_has_160_random_bits() {
        let id = unguessable_id(&OsEntropy);
        assert_eq!(URL_SAFE_NO_PAD.decode(&id).map(|bytes| bytes.len()), Ok(20));
        assert_ne!(id, unguessable_id(&OsEntropy));
    }

    #[test]
    fn a_seed_repeats_its_sequence_and_does_not_stand_still() {
        let draw = |seed| {
            let source = SeededEntropy::new(seed);
            [unguessable_id(&source), unguessable_id(&source)]
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1)[0], draw(1)[1]);
        assert_ne!(draw(1), draw(2));
    }
}
