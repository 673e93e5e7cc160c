//! Tokens whose signature and claims were found good, remembered until they end: the common case costs a hash and no signature.
//!
//! What is remembered holds for the token whoever presents it. Binding, revocation, age and scope are looked at for each request
//! all the same.

use std::collections::HashMap;
use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use aws_lc_rs::digest;
use certbind_proto::access_token::AccessToken;
use certbind_proto::jwk::JwkSet;
use certbind_proto::time::Timestamp;

/// Requests of different tokens rarely wait for each other.
const SHARDS: usize = 16;

/// What an entry takes beside the text of its token, in bytes, roughly.
const OVERHEAD: usize = 512;

/// Remembers tokens in bounded memory. Clones share it.
#[derive(Clone)]
pub struct Memory {
    shards: Arc<[Mutex<Shard>]>,
}

/// What a token is remembered by: its SHA-256 hash. The token itself is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name([u8; 32]);

/// Two generations: what was used lately, and what was used before that. The older one goes as a whole.
struct Shard {
    young: HashMap<Name, Known>,
    old: HashMap<Name, Known>,
    /// Of the young, in bytes.
    weight: usize,
    /// The most that one generation may weigh.
    bound: usize,
}

struct Known {
    token: Arc<AccessToken>,
    /// The keys by which it was found good. Others have not said so.
    keys: Weak<JwkSet>,
    /// Since when it is known to be good. A clock that is set back knows less.
    since: Timestamp,
    weight: usize,
}

impl Memory {
    /// Takes this many bytes at the most, roughly: 64 MiB have room for some fifty thousand tokens of usual size.
    #[must_use]
    pub fn of_bytes(bytes: usize) -> Self {
        let bound = bytes / SHARDS / 2;
        let shard = || Mutex::new(Shard { young: HashMap::new(), old: HashMap::new(), weight: 0, bound });
        Self { shards: (0..SHARDS).map(|_| shard()).collect() }
    }

    /// The token of this name, if these very keys have found it good at this time or before.
    pub(crate) fn find(&self, name: &Name, keys: &Arc<JwkSet>, now: Timestamp) -> Option<Arc<AccessToken>> {
        let mut shard = self.shard(name);
        let known = shard.find(name)?;
        // The address is that of no other set: what is remembered keeps it from being used again.
        let is_by_these = known.keys.as_ptr() == Arc::as_ptr(keys);
        (is_by_these && now >= known.since).then(|| Arc::clone(&known.token))
    }

    /// These keys have found the token of this name good, whose text is so long.
    pub(crate) fn remember(
        &self,
        name: Name,
        length: usize,
        token: &Arc<AccessToken>,
        keys: &Arc<JwkSet>,
        now: Timestamp,
    ) {
        let known =
            Known { token: Arc::clone(token), keys: Arc::downgrade(keys), since: now, weight: OVERHEAD + length };
        self.shard(&name).put(name, known);
    }

    fn shard(&self, name: &Name) -> MutexGuard<'_, Shard> {
        let shard = &self.shards[usize::from(name.0[0]) % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    /// What is used stays.
    fn find(&mut self, name: &Name) -> Option<&Known> {
        if !self.young.contains_key(name) {
            let known = self.old.remove(name)?;
            self.put(*name, known);
        }
        self.young.get(name)
    }

    fn put(&mut self, name: Name, known: Known) {
        if self.weight + known.weight > self.bound {
            self.old = mem::take(&mut self.young);
            self.weight = 0;
        }
        if known.weight > self.bound {
            return;
        }
        self.weight += known.weight;
        if let Some(replaced) = self.young.insert(name, known) {
            self.weight -= replaced.weight;
        }
    }
}

impl Name {
    pub(crate) fn of(text: &str) -> Self {
        let mut name = [0; 32];
        name.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
        Self(name)
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix(1_795_305_600);

    fn token(jti: &str) -> Arc<AccessToken> {
        Arc::new(AccessToken {
            iss: String::new(),
            sub: String::new(),
            client_id: String::new(),
            aud: Vec::new(),
            scope: "a".parse().unwrap(),
            iat: NOW,
            exp: NOW,
            jti: jti.to_owned(),
            cnf: None,
        })
    }

    fn find(memory: &Memory, text: &str, keys: &Arc<JwkSet>, now: Timestamp) -> Option<Arc<AccessToken>> {
        memory.find(&Name::of(text), keys, now)
    }

    fn remember(memory: &Memory, text: &str, token: &Arc<AccessToken>, keys: &Arc<JwkSet>, now: Timestamp) {
        memory.remember(Name::of(text), text.len(), token, keys, now);
    }

    #[test]
    fn it_knows_what_these_keys_said_from_then_on() {
        let memory = Memory::of_bytes(1 << 20);
        let (keys, others) = (Arc::new(JwkSet::default()), Arc::new(JwkSet::default()));
        assert_eq!(find(&memory, "a", &keys, NOW), None);
        remember(&memory, "a", &token("a"), &keys, NOW);
        assert_eq!(find(&memory, "a", &keys, NOW), Some(token("a")));
        assert_eq!(find(&memory, "b", &keys, NOW), None);
        assert_eq!(find(&memory, "a", &others, NOW), None, "other keys may not know its key");
        assert_eq!(find(&memory, "a", &keys, Timestamp::from_unix(NOW.unix() - 1)), None, "not yet valid then, maybe");
    }

    #[test]
    fn attack_22_its_memory_is_bounded_and_what_is_used_stays() {
        let bytes = 1 << 20;
        let memory = Memory::of_bytes(bytes);
        let keys = Arc::new(JwkSet::default());
        remember(&memory, "used", &token("used"), &keys, NOW);
        for n in 0..10_000 {
            remember(&memory, &format!("{n}"), &token("other"), &keys, NOW);
            assert!(find(&memory, "used", &keys, NOW).is_some(), "{n}");
        }
        let held: usize =
            memory.shards.iter().map(|shard| shard.lock().unwrap()).map(|s| s.young.len() + s.old.len()).sum();
        assert!((500..=bytes / OVERHEAD).contains(&held), "{held}");
        let huge = "x".repeat(bytes);
        remember(&memory, &huge, &token("huge"), &keys, NOW);
        assert_eq!(find(&memory, &huge, &keys, NOW), None);
    }
}
