//! What is odd and has no end. Pure.

use serde_json::{Value, json};

use super::Told;
use crate::cli::when;

/// A credential that was used so much earlier than another one of the client is left over from a change-over.
const LEFT_OVER: std::time::Duration = std::time::Duration::from_secs(30 * 86_400);

/// Something that somebody should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) kind: &'static str,
    /// What it is, in words that end where the names begin.
    what: String,
    /// Clients, keys or parts of the configuration.
    names: Vec<String>,
}

impl Finding {
    fn new(kind: &'static str, what: impl Into<String>, names: Vec<String>) -> Option<Self> {
        (!names.is_empty()).then(|| Self { kind, what: what.into(), names })
    }

    /// In one line, with so many of its names.
    pub(super) fn words(&self, most: usize) -> String {
        let shown = self.names.iter().take(most).map(String::as_str).collect::<Vec<_>>().join(", ");
        match self.names.len().saturating_sub(most) {
            0 => format!("{}: {shown}", self.what),
            more => format!("{}: {shown} and {more} more", self.what),
        }
    }

    pub(super) fn to_json(&self) -> Value {
        json!({ "kind": self.kind, "what": self.what, "names": self.names })
    }
}

/// Everything odd.
pub(super) fn all(told: &Told) -> Vec<Finding> {
    let of_server = [
        Finding::new("not_in_force", "changed last, and not in force", texts(&told.status["refused"])),
        Finding::new(
            "shadowed",
            "registered in the store and in a file, which counts alone",
            texts(&told.status["clients"]["shadowed"]),
        ),
        Finding::new("rotated_by_hand", "signs, and nobody has made its successor", rotated_by_hand(&told.keys)),
    ];
    let shared = told.shared["shared_subjects"].as_array().into_iter().flatten().filter_map(shared_subject);
    let unseen = match told.uses_are_complete {
        true => Finding::new("never_seen", "never seen to prove themselves", never_seen(&told.clients)),
        false => Finding::new(
            "uses_unknown",
            "the store does not answer, so last uses are known of",
            vec!["this server since it last wrote".to_owned()],
        ),
    };
    let left_over = Finding::new(
        "left_over",
        "registered and no longer used, while the client uses another",
        told.clients.iter().flat_map(left_over).collect(),
    );
    let legacy = Finding::new(
        "legacy_audience",
        "may still name the token endpoint as the audience of their assertions (legacy_audience)",
        told.clients.iter().filter(|client| client["legacy_audience"] == true).filter_map(client_id).collect(),
    );
    of_server.into_iter().flatten().chain(legacy).chain(shared).chain(unseen).chain(left_over).collect()
}

fn shared_subject(shared: &Value) -> Option<Finding> {
    let (subject, trust) = (shared["subject"].as_str()?, shared["trust"].as_str()?);
    let what =
        format!("share the name {subject} in the trust group {trust}, so a certificate of one is good for the others");
    Finding::new("shared_subject", what, texts(&shared["clients"]))
}

fn rotated_by_hand(keys: &Value) -> Vec<String> {
    let keys: Vec<&Value> = keys["keys"].as_array().into_iter().flatten().collect();
    let is_alone = |key: &&&Value| key["state"] == "current" && key.get("signs_until").is_none();
    let of_hand = keys.iter().filter(is_alone).filter(|_| !keys.iter().any(|key| key["state"] == "next"));
    let told = of_hand.map(|key| {
        let text = |name: &str| key[name].as_str().unwrap_or_default();
        format!("{} since {}", text("kid"), text("signs_from"))
    });
    told.collect()
}

fn never_seen(clients: &[Value]) -> Vec<String> {
    let unseen = clients.iter().filter(|client| client["state"] == "active" && client.get("last_used").is_none());
    unseen.filter_map(client_id).collect()
}

fn client_id(client: &Value) -> Option<String> {
    client["client_id"].as_str().map(str::to_owned)
}

fn left_over(client: &Value) -> Vec<String> {
    let used = |value: &Value| value["last_used"].as_str().and_then(when::read);
    let Some(last) = used(client) else { return Vec::new() };
    let registered = client["credentials"].as_array().into_iter().flatten().filter(|one| one["registered"] == true);
    let registered: Vec<&Value> = registered.collect();
    // What the client uses is one of them; else nothing here replaces anything.
    if !registered.iter().any(|one| used(one) == Some(last)) {
        return Vec::new();
    }
    let is_idle = |one: &&&Value| used(one).is_none_or(|used| last.since(used) > LEFT_OVER);
    let name = |one: &Value| {
        let name = ["kid", "subject", "thumbprint"].iter().find_map(|name| one[*name].as_str()).unwrap_or_default();
        format!("{} of {}", name, client["client_id"].as_str().unwrap_or_default())
    };
    registered.iter().filter(is_idle).map(|one| name(one)).collect()
}

fn texts(values: &Value) -> Vec<String> {
    values.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use certbind_proto::time::Timestamp;

    use super::*;

    fn told() -> Told {
        Told {
            now: Timestamp::from_unix(0),
            status: json!({ "refused": [], "clients": { "shadowed": [] } }),
            trust: json!({}),
            keys: json!({ "keys": [{ "kid": "k1", "state": "current", "signs_until": "2026-01-01T00:00:00Z" }] }),
            shared: json!({ "shared_subjects": [] }),
            clients: Vec::new(),
            uses_are_complete: true,
        }
    }

    fn kinds(told: &Told) -> Vec<&'static str> {
        all(told).iter().map(|finding| finding.kind).collect()
    }

    #[test]
    fn each_oddity_is_found_by_itself() {
        assert_eq!(kinds(&told()), [""; 0], "nothing is odd");
        let by_hand = json!({ "kid": "k1", "state": "current", "signs_from": "2026-01-01T00:00:00Z" });
        let shared = json!({ "shared_subjects": [{ "trust": "corp", "subject": "CN=a", "clients": ["a", "b"] }] });
        let active = |last_used: Option<&str>| {
            let mut client = json!({ "client_id": "c", "state": "active", "credentials": [] });
            if let Some(last_used) = last_used {
                client["last_used"] = last_used.into();
            }
            client
        };
        type Spoil<'a> = (&'a dyn Fn(&mut Told), &'a [&'a str]);
        let legacy = json!({ "client_id": "c", "state": "disabled", "legacy_audience": true });
        let spoil: [Spoil<'_>; 9] = [
            (&|told| told.clients = vec![legacy.clone()], &["legacy_audience"]),
            (&|told| told.status["refused"] = json!(["clients"]), &["not_in_force"]),
            (&|told| told.status["clients"]["shadowed"] = json!(["a"]), &["shadowed"]),
            (&|told| told.keys = json!({ "keys": [by_hand] }), &["rotated_by_hand"]),
            (&|told| told.keys = json!({ "keys": [by_hand, { "kid": "k2", "state": "next" }] }), &[]),
            (&|told| told.shared = shared.clone(), &["shared_subject"]),
            (&|told| told.clients = vec![active(None)], &["never_seen"]),
            (&|told| told.clients = vec![active(Some("2026-01-01T00:00:00Z"))], &[]),
            (&|told| (told.uses_are_complete, told.clients) = (false, vec![active(None)]), &["uses_unknown"]),
        ];
        for (n, (spoil, expected)) in spoil.iter().enumerate() {
            let mut told = told();
            spoil(&mut told);
            assert_eq!(kinds(&told), *expected, "{n}");
        }
    }

    #[test]
    fn a_key_is_left_over_when_the_client_has_long_used_another() {
        let key = |kid: &str, last_used: Option<&str>| {
            let mut key = json!({ "type": "key", "registered": true, "kid": kid });
            if let Some(last_used) = last_used {
                key["last_used"] = last_used.into();
            }
            key
        };
        let (new, old) = ("2026-06-01T00:00:00Z", "2026-04-01T00:00:00Z");
        for (keys, expected) in [
            (vec![key("a", Some(new)), key("b", None)], vec!["b of c"]),
            (vec![key("a", Some(new)), key("b", Some(old))], vec!["b of c"]),
            (vec![key("a", Some(new)), key("b", Some("2026-05-20T00:00:00Z"))], vec![]),
            (vec![key("a", Some(old))], vec![]),
        ] {
            let client = json!({ "client_id": "c", "last_used": new, "credentials": keys });
            assert_eq!(left_over(&client), expected, "{client}");
        }
    }

    #[test]
    fn people_see_some_of_many_names() {
        let finding = Finding::new("x", "odd", ["a", "b", "c"].map(str::to_owned).to_vec()).unwrap();
        assert_eq!([finding.words(9), finding.words(2)], ["odd: a, b, c", "odd: a, b and 1 more"]);
        assert_eq!(Finding::new("x", "odd", Vec::new()), None);
    }
}
