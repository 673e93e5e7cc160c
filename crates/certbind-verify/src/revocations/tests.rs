use std::collections::BTreeMap;

use certbind_proto::json::JsonFault;
use certbind_proto::jws::{Algorithm, Signer, SigningKey};
use certbind_proto::revocation_list::{Entries, Id, TYP};
use certbind_proto::thumbprint::Thumbprint;
use serde_json::json;

use super::*;
use crate::{Demand, Denied, Keys, Verifier};

const ISSUER: &str = "https://auth.example.com";
const AUDIENCE: &str = "https://api.example.com/payments";
const NOW: Timestamp = Timestamp::from_unix(1_795_000_000);

fn after(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

fn mine() -> Thumbprint {
    Thumbprint::of_der(b"my certificate")
}

fn tokens(jtis: &[&str]) -> Entries {
    Entries::new(jtis.iter().map(|jti| Id::of_token(jti)).collect(), BTreeMap::new(), BTreeMap::new())
}

/// An issuer with one key, and a verifier that has its list.
struct Rig {
    signer: Signer,
    keys: JwkSet,
    list: Revocations,
    verifier: Verifier,
}

impl Rig {
    fn new(policy: Policy) -> Self {
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        let keys = JwkSet::new(vec![key.public_jwk("k")]);
        let list = Revocations::none(policy);
        let verifier = Verifier::new(Settings::new(ISSUER, AUDIENCE), Keys::fixed(keys.clone()));
        let verifier = verifier.with_revocations(list.clone());
        Self { signer: Signer::new(key, "at+jwt", Some("k")), keys, list, verifier }
    }

    fn list(&self, entries: Entries, as_of: Timestamp) -> String {
        let list = RevocationList { as_of, expires: as_of.plus(Duration::from_secs(3600)), entries };
        self.signer.sign_claims_as(TYP, &list.to_claims(ISSUER)).unwrap()
    }

    fn take(&self, document: &str, now: Timestamp) -> Result<Taken, ListRefused> {
        self.list.take(document, &self.keys, &Settings::new(ISSUER, AUDIENCE), now)
    }

    fn verify(&self, jti: &str, certificate: &Thumbprint, now: Timestamp) -> Result<(), Denied> {
        let claims = json!({
            "iss": ISSUER, "sub": "billing", "client_id": "billing", "aud": AUDIENCE, "iat": now.unix(),
            "exp": now.unix() + 300, "jti": jti, "cnf": { "x5t#S256": mine().to_string() },
        });
        let header = format!("Bearer {}", self.signer.sign_claims(&claims).unwrap());
        let outcome = self.verifier.verify([header.as_bytes()], Some(certificate), &Demand::default(), now);
        outcome.map(|_| ())
    }

    fn reason(&self, jti: &str, now: Timestamp) -> &'static str {
        self.verify(jti, &mine(), now).map_or_else(|denied| denied.reason(), |()| "good")
    }
}

#[test]
fn rfc7009_2_1_what_the_list_has_is_denied_after_the_binding_was_checked() {
    let rig = Rig::new(Policy::default());
    rig.take(&rig.list(tokens(&["a"]), NOW), NOW).unwrap();
    assert_eq!((rig.reason("a", NOW), rig.reason("b", NOW)), ("token_revoked", "good"));
    let thief = rig.verify("a", &Thumbprint::of_der(b"thief"), NOW).unwrap_err();
    assert_eq!(thief.reason(), "binding_mismatch", "a thief does not learn that it was revoked");
    let certificates = BTreeMap::from([(Id::of_certificate(&mine()), after(1))]);
    rig.take(&rig.list(Entries::new(Vec::new(), certificates, BTreeMap::new()), after(1)), after(1)).unwrap();
    assert_eq!(rig.reason("b", after(1)), "certificate_revoked");
    let clients = BTreeMap::from([(Id::of_client("billing"), after(2))]);
    rig.take(&rig.list(Entries::new(Vec::new(), BTreeMap::new(), clients), after(2)), after(2)).unwrap();
    assert_eq!((rig.reason("b", after(2)), rig.reason("b", after(3))), ("token_revoked", "good"));
}

#[test]
fn rfc6750_3_golden_challenges_of_what_is_revoked() {
    let rig = Rig::new(Policy::default());
    let stale = rig.verify("a", &mine(), NOW).unwrap_err();
    assert_eq!((stale.status(), stale.challenge(), stale.reason()), (503, None, "revocation_stale"));
    assert!(!stale.is_for_want_of_keys());
    rig.take(&rig.list(tokens(&["a"]), NOW), NOW).unwrap();
    let revoked = rig.verify("a", &mine(), NOW).unwrap_err();
    let challenge = r#"Bearer error="invalid_token", error_description="The access token is not good here.""#;
    assert_eq!((revoked.status(), revoked.challenge(), revoked.reason()), (401, Some(challenge), "token_revoked"));
    for fault in [Fault::CertificateRevoked, Fault::RevocationStale, Fault::Revoked] {
        assert!(crate::REASONS.contains(&fault.reason()));
    }
}

#[test]
fn a_list_that_is_too_old_denies_every_token_or_none_as_was_decided() {
    let ten_minutes = Duration::from_secs(600);
    for (when_stale, without, too_old) in
        [(WhenStale::Deny, "revocation_stale", "revocation_stale"), (WhenStale::Accept, "good", "good")]
    {
        let rig = Rig::new(Policy { max_age: ten_minutes, when_stale });
        assert_eq!(rig.reason("b", NOW), without, "{when_stale:?}: no list yet");
        rig.take(&rig.list(tokens(&["a"]), NOW), NOW).unwrap();
        // Ten minutes, and thirty seconds for clocks that differ.
        assert_eq!(rig.reason("b", after(630)), "good", "{when_stale:?}");
        assert_eq!(rig.reason("b", after(631)), too_old, "{when_stale:?}");
        assert_eq!(rig.reason("a", after(631)), "token_revoked", "{when_stale:?}: what is known stays known");
    }
    let patient = Rig::new(Policy { max_age: Duration::MAX, when_stale: WhenStale::Deny });
    patient.take(&patient.list(tokens(&[]), NOW), NOW).unwrap();
    assert_eq!(patient.reason("b", after(3629)), "good");
    assert_eq!(patient.reason("b", after(3630)), "revocation_stale", "the issuer's own bound");
}

#[test]
fn rfc8725_3_11_a_list_by_another_key_of_another_type_or_rolled_back_is_refused() {
    let rig = Rig::new(Policy::default());
    rig.take(&rig.list(tokens(&["a"]), NOW), NOW).unwrap();
    let good = RevocationList { as_of: NOW, expires: after(3600), entries: tokens(&[]) };
    let other = Signer::new(SigningKey::generate(Algorithm::Es256).unwrap(), TYP, Some("k"));
    let as_token = rig.signer.sign_claims(&good.to_claims(ISSUER)).unwrap();
    let of_other = rig.signer.sign_claims_as(TYP, &good.to_claims("https://other.example.com")).unwrap();
    let old = rig.list(tokens(&[]), NOW.minus(Duration::from_secs(31)));
    let dead = rig.list(tokens(&[]), NOW.minus(Duration::from_secs(3631)));
    for (case, document, refused) in [
        ("another key", other.sign_claims(&good.to_claims(ISSUER)).unwrap(), JwsFault::SignatureWrong.into()),
        ("another type", as_token, ListFault::TypWrong.into()),
        ("another issuer", of_other, ListFault::IssuerWrong.into()),
        ("rolled back", old, ListRefused::RolledBack),
        ("expired", dead, ListFault::Expired.into()),
        ("garbage", "garbage".to_owned(), JwsFault::NotThreeParts.into()),
        ("too long", "x".repeat(MAX_BYTES + 1), JwsFault::TooLong.into()),
        (
            "no claims",
            rig.signer.sign_claims_as(TYP, &json!([])).unwrap(),
            ListFault::Claims(JsonFault::NotAnObject).into(),
        ),
    ] {
        assert_eq!(rig.take(&document, NOW), Err(refused), "{case}");
        assert_eq!((rig.reason("a", NOW), rig.list.as_of()), ("token_revoked", Some(NOW)), "{case}: nothing changed");
    }
    let token = rig.signer.sign_claims_as("at+jwt", &good.to_claims(ISSUER)).unwrap();
    assert!(rig.take(&token, NOW).is_err(), "an access token is no list");
}

#[test]
fn servers_of_a_fleet_that_are_a_little_behind_take_nothing_back() {
    let rig = Rig::new(Policy::default());
    assert_eq!(rig.take(&rig.list(tokens(&["a"]), NOW), NOW), Ok(Taken::Newer));
    let behind = NOW.minus(Duration::from_secs(30));
    assert_eq!(rig.take(&rig.list(tokens(&["b"]), behind), NOW), Ok(Taken::Added));
    assert_eq!((rig.reason("a", NOW), rig.reason("b", NOW)), ("token_revoked", "token_revoked"));
    assert_eq!((rig.list.as_of(), rig.list.len()), (Some(NOW), 2), "and it is no younger for it");
    assert_eq!(rig.take(&rig.list(tokens(&["b"]), after(1)), after(1)), Ok(Taken::Newer));
    assert_eq!(
        (rig.reason("a", after(1)), rig.reason("b", after(1))),
        ("good", "token_revoked"),
        "the newest one decides"
    );
}
