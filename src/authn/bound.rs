//! Certificates that live tokens are bound to: remembered, and looked at again when a revocation list changes.
//!
//! A list names an issuer and a serial number, a token a thumbprint. Only who saw both can tell that a list has a token's
//! certificate, and whether it does is decided as it is for a client: by the whole chain.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use certbind_proto::cert::PeerCert;
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::Timestamp;

use super::chain::{self, ChainFault};
use super::trust::TrustGroups;

/// How many certificates are remembered, and how many octets they may have together with their chains.
const MOST: Room = Room { certificates: 20_000, octets: 64 << 20 };

/// The certificates that tokens were bound to lately.
#[derive(Default)]
pub struct BoundCertificates {
    remembered: Mutex<Remembered>,
}

/// A certificate whose tokens are no longer good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fallen {
    /// Which one.
    pub thumbprint: Thumbprint,
    /// When the last token that it is known to have ends.
    pub last_token: Timestamp,
}

#[derive(Default)]
struct Remembered {
    certificates: HashMap<Thumbprint, Bound>,
    octets: usize,
    is_told: bool,
}

struct Bound {
    certificate: Arc<PeerCert>,
    /// The groups that have vouched for it.
    trust: Vec<String>,
    last_token: Timestamp,
}

#[derive(Clone, Copy)]
struct Room {
    certificates: usize,
    octets: usize,
}

impl BoundCertificates {
    /// A token that is good until `last_token` was bound to a certificate for which this group vouches.
    pub(super) fn remember(&self, certificate: &Arc<PeerCert>, trust: &str, last_token: Timestamp, now: Timestamp) {
        self.lock().remember(certificate, trust, last_token, now, MOST);
    }

    /// Those that a list of their group has now. They are forgotten here: whoever asks sees to their tokens.
    pub fn fallen(&self, groups: &TrustGroups, now: Timestamp) -> Vec<Fallen> {
        let remembered: Vec<_> = {
            let mut remembered = self.lock();
            remembered.forget(|bound| bound.last_token < now);
            remembered
                .certificates
                .values()
                .map(|bound| (Arc::clone(&bound.certificate), bound.trust.clone()))
                .collect()
        };
        let is_revoked = |certificate: &PeerCert, trust: &str| {
            let outcome = groups.group(trust).map(|group| chain::check(certificate, &group, now));
            matches!(outcome, Ok(Err(ChainFault::Revoked)))
        };
        let found =
            remembered.iter().filter(|(certificate, trust)| trust.iter().any(|name| is_revoked(certificate, name)));
        let found: Vec<_> = found.map(|(certificate, _)| *certificate.thumbprint()).collect();
        let mut remembered = self.lock();
        let fallen = found.iter().filter_map(|thumbprint| {
            let last_token = remembered.certificates.get(thumbprint)?.last_token;
            Some(Fallen { thumbprint: *thumbprint, last_token })
        });
        let fallen = fallen.collect();
        remembered.forget(|bound| found.contains(bound.certificate.thumbprint()));
        fallen
    }

    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remembered {
    fn remember(
        &mut self,
        certificate: &Arc<PeerCert>,
        trust: &str,
        last_token: Timestamp,
        now: Timestamp,
        room: Room,
    ) {
        if let Some(known) = self.certificates.get_mut(certificate.thumbprint()) {
            known.last_token = known.last_token.max(last_token);
            if !known.trust.iter().any(|name| name == trust) {
                known.trust.push(trust.to_owned());
            }
            return;
        }
        let octets = octets_of(certificate);
        if !self.has(room, octets) {
            self.forget(|bound| bound.last_token < now);
        }
        if !self.has(room, octets) {
            if !std::mem::replace(&mut self.is_told, true) {
                tracing::warn!(
                    "tokens are bound to more certificates than are remembered: a revocation list that has one of the others reaches no token of it"
                );
            }
            return;
        }
        self.is_told = false;
        self.octets += octets;
        let bound = Bound { certificate: Arc::clone(certificate), trust: vec![trust.to_owned()], last_token };
        self.certificates.insert(*certificate.thumbprint(), bound);
    }

    fn has(&self, room: Room, octets: usize) -> bool {
        self.certificates.len() < room.certificates && self.octets + octets <= room.octets
    }

    fn forget(&mut self, is_over: impl Fn(&Bound) -> bool) {
        self.certificates.retain(|_, bound| !is_over(bound));
        self.octets = self.certificates.values().map(|bound| octets_of(&bound.certificate)).sum();
    }
}

fn octets_of(certificate: &PeerCert) -> usize {
    certificate.chain().iter().map(|certificate| certificate.len()).sum()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use certbind_devpki::{CrlSpec, Identity, Issuer, LeafSpec, Validity};

    use super::*;
    use crate::authn::trust::{Policy, TrustGroup};

    const VALIDITY: Validity = Validity::days_from(1_795_305_600, 30);
    const NOW: Timestamp = Timestamp::from_unix(1_795_305_660);

    fn after(seconds: u64) -> Timestamp {
        NOW.plus(Duration::from_secs(seconds))
    }

    /// A group whose list has these certificates.
    fn groups(ca: &Issuer, revoked: &[&Identity]) -> TrustGroups {
        let revoked = revoked.iter().map(|identity| identity.serial().to_vec()).collect();
        let spec = CrlSpec { next_update: VALIDITY.not_after, number: 1, revoked, this_update: VALIDITY.not_before };
        let crl = ca.crl(&spec).unwrap();
        let anchors = vec![ca.certificate().clone()];
        let group = TrustGroup::new("corp", Policy::default(), anchors, &[crl.der().clone()], NOW).unwrap();
        TrustGroups::new(vec![Arc::new(group)])
    }

    fn peer(identity: &Identity) -> Arc<PeerCert> {
        Arc::new(PeerCert::from_chain(identity.chain().to_vec()).unwrap())
    }

    fn leaf(ca: &Issuer, name: &str) -> Identity {
        ca.leaf(&LeafSpec::client(name, VALIDITY)).unwrap()
    }

    #[test]
    fn p4_a_list_that_is_new_finds_the_tokens_of_the_certificates_that_it_has() {
        let ca = Issuer::root("ca", VALIDITY).unwrap();
        let identity = leaf(&ca, "stolen");
        let (stolen, good) = (peer(&identity), peer(&leaf(&ca, "good")));
        let bound = BoundCertificates::default();
        bound.remember(&stolen, "corp", after(300), NOW);
        bound.remember(&stolen, "corp", after(200), NOW);
        bound.remember(&good, "corp", after(300), NOW);
        assert_eq!(bound.fallen(&groups(&ca, &[]), NOW), []);
        let fallen = Fallen { thumbprint: *stolen.thumbprint(), last_token: after(300) };
        assert_eq!(bound.fallen(&groups(&ca, &[&identity]), after(1)), [fallen]);
        assert_eq!(bound.fallen(&groups(&ca, &[&identity]), after(1)), [], "once");
        assert_eq!(bound.lock().certificates.len(), 1);
        bound.remember(&stolen, "corp", after(300), NOW);
        assert_eq!(bound.fallen(&groups(&ca, &[&identity]), after(301)), [], "its last token is over");
        let remembered = bound.lock();
        assert_eq!((remembered.certificates.len(), remembered.octets), (0, 0));
    }

    #[test]
    fn a_certificate_that_is_refused_for_another_reason_has_not_fallen() {
        let (ca, stranger) = (Issuer::root("ca", VALIDITY).unwrap(), Issuer::root("ca", VALIDITY).unwrap());
        let bound = BoundCertificates::default();
        bound.remember(&peer(&leaf(&ca, "a")), "corp", after(86_400 * 60), NOW);
        for (case, groups, now) in [
            ("another authority", groups(&stranger, &[]), NOW),
            ("no such group", TrustGroups::new(Vec::new()), NOW),
            ("the list is stale, the certificate over", groups(&ca, &[]), after(86_400 * 40)),
        ] {
            assert_eq!(bound.fallen(&groups, now), [], "{case}");
        }
    }

    #[test]
    fn p7_no_more_is_remembered_than_there_is_room_for() {
        let ca = Issuer::root("ca", VALIDITY).unwrap();
        let [first, second] = ["first", "second"].map(|name| peer(&leaf(&ca, name)));
        // A signature has a few octets more or less.
        let octets = octets_of(&first);
        for room in [Room { certificates: 1, octets: usize::MAX }, Room { certificates: 9, octets: octets + 32 }] {
            let mut remembered = Remembered::default();
            remembered.remember(&first, "corp", after(300), NOW, room);
            remembered.remember(&second, "corp", after(300), NOW, room);
            assert!(remembered.certificates.contains_key(first.thumbprint()) && remembered.is_told);
            assert_eq!((remembered.certificates.len(), remembered.octets), (1, octets));
            remembered.remember(&second, "corp", after(600), after(301), room);
            assert!(remembered.certificates.contains_key(second.thumbprint()), "what is over makes room");
            assert_eq!(remembered.certificates.len(), 1);
        }
    }
}
