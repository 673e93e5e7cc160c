//! Asks the verifier of this project about a vector: once without a memory, and twice with one.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use certbind_verify::{
    Algorithm, Algorithms, Demand, Denied, JwkSet, Keys, Memory, Policy, Requirement, Revocations, Settings,
    Thumbprint, Timestamp, Verified, Verifier, WhenStale,
};
use serde_json::{Map, Value, json};

/// The verifier's verdict about a case.
pub(super) fn verdict(case: &Map<String, Value>) -> Value {
    let given = |member: &str| &case[member];
    let now = Timestamp::from_unix(given("now").as_i64().unwrap());
    let keys = given("jwks").as_object().and_then(|_| JwkSet::parse_fetched(given("jwks").to_string().as_bytes()).ok());
    let settings = settings(given("settings"));
    let mut verifier =
        Verifier::new(settings.clone(), keys.clone().map_or_else(|| Keys::none(Keys::FRESHNESS), Keys::fixed));
    if let Some(policy) = given("revocations").as_object() {
        let revocations = Revocations::none(Policy {
            max_age: Duration::from_secs(policy["max_age"].as_u64().unwrap()),
            when_stale: if policy["when_stale"] == "accept" { WhenStale::Accept } else { WhenStale::Deny },
        });
        if let (Some(list), Some(keys)) = (policy["list"].as_str(), &keys) {
            let _ = revocations.take(list, keys, &settings, now);
        }
        verifier = verifier.with_revocations(revocations);
    }
    let certificate =
        given("certificate").as_str().map(|certificate| Thumbprint::of_der(&STANDARD.decode(certificate).unwrap()));
    let authorization: Vec<&[u8]> =
        given("authorization").as_array().unwrap().iter().map(|header| header.as_str().unwrap().as_bytes()).collect();
    let demand = demand(given("demand"));
    let remembering = verifier.clone().with_memory(Memory::of_bytes(1 << 20));
    let verdict = |verifier: &Verifier| {
        worded(verifier.verify(authorization.iter().copied(), certificate.as_ref(), &demand, now))
    };
    let anew = verdict(&verifier);
    for what in ["to be remembered", "remembered"] {
        assert_eq!(verdict(&remembering), anew, "{what}: {}", case["name"]);
    }
    anew
}

fn settings(given: &Value) -> Settings {
    let texts = |name: &str| given[name].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned());
    let algorithms: Vec<_> = texts("algorithms").map(|name| Algorithm::parse(&name).unwrap()).collect();
    Settings {
        algorithms: Algorithms::of(&algorithms),
        audiences: texts("audiences").collect(),
        clock_skew: Duration::from_secs(given["clock_skew"].as_u64().unwrap()),
        realm: given["realm"].as_str().map(str::to_owned),
        resource_metadata: given["resource_metadata"].as_str().map(str::to_owned),
        ..Settings::new(given["issuer"].as_str().unwrap(), "")
    }
}

fn demand(given: &Value) -> Demand {
    Demand {
        audience: given["audience"].as_str().map(str::to_owned),
        binding: if given["binding"] == "when_bound" { Requirement::WhenBound } else { Requirement::Required },
        max_age: given["max_age"].as_u64().map(Duration::from_secs),
        scope: given["scope"].as_str().unwrap().parse().unwrap(),
    }
}

fn worded(verdict: Result<Verified, Denied>) -> Value {
    match verdict {
        Ok(token) => json!({ "accepted": {
            "client_id": token.client_id(), "sub": token.sub(), "scope": token.scope(), "audience": token.audience(),
            "jti": token.jti(), "issued_at": token.issued_at().unix(), "expires": token.expires().unix(),
            "thumbprint": token.thumbprint(),
        } }),
        Err(denied) => {
            let error = denied.challenge().and(denied.fault().code()).map(|code| code.as_str());
            json!({ "denied": {
                "status": denied.status(), "error": error, "challenge": denied.challenge(), "reason": denied.reason(),
            } })
        }
    }
}
