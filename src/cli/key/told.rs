//! Signing keys in the words that people read: one line each, and what a change of them comes to, and for whom.

use serde_json::Value;

pub(super) const COLUMNS: [&str; 6] = ["KEY", "ALGORITHM", "STATE", "SIGNS FROM", "SIGNS UNTIL", "PUBLISHED UNTIL"];

/// One key.
pub(super) fn key(key: &Value) -> Vec<String> {
    ["kid", "alg", "state", "signs_from", "signs_until", "published_until"].map(|name| text(key, name)).to_vec()
}

/// When what happens.
pub(super) fn rotation(rotation: &Value) -> Vec<Vec<String>> {
    let text = |name| text(rotation, name);
    let incoming = match rotation["incoming"].as_str() {
        Some(kid) => format!("{kid} ({})", text("alg")),
        None => format!("a new one ({})", text("alg")),
    };
    rows([
        ("next key", incoming),
        ("published from", text("published_from")),
        ("signs from", text("signs_from")),
        ("key until then", text("outgoing")),
        ("published until", text("outgoing_published_until")),
    ])
}

/// What is broken by taking a key back, and for whom, until when.
pub(super) fn retirement(retirement: &Value) -> Vec<Vec<String>> {
    let text = |name| text(retirement, name);
    let (kid, was) = (text("kid"), text("was"));
    let signer = retirement["signer"].as_str().unwrap_or("a new key");
    let mut told = vec![
        (if retirement["dry_run"] == true { "would be retired" } else { "retired" }, format!("{kid}, which was {was}")),
        ("signs", signer.to_owned()),
    ];
    if was == "next" {
        told.push(("breaks", "nothing: it has signed no token".to_owned()));
        return rows(told);
    }
    told.push((
        "breaks",
        format!(
            "tokens of {kid} (the last one expires at {}): refused by this server at once, and by each resource server as soon as it fetches the JWKS again; their clients have to fetch new ones",
            text("last_token")
        ),
    ));
    told.push((
        "goes on",
        format!(
            "what {kid} signed, by whomever: taken by resource servers that have the JWKS of before in their caches, until {} at the latest; restart those that must not wait",
            text("cached_until")
        ),
    ));
    if was == "current" && retirement["caches"] == "may_not_know" {
        told.push((
            "breaks",
            format!(
                "tokens of {signer}, until {} at the latest: refused by resource servers that have the JWKS of before in their caches and do not fetch it again for a kid that they do not know",
                text("known_by")
            ),
        ));
    }
    rows(told)
}

fn rows(told: impl IntoIterator<Item = (&'static str, String)>) -> Vec<Vec<String>> {
    told.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect()
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(was: &str, caches: &str) -> Vec<String> {
        let answer = json!({
            "dry_run": false, "kid": "k1", "was": was, "signer": "k2", "last_token": "T1", "cached_until": "T2",
            "caches": caches, "known_by": "T3",
        });
        retirement(&answer).into_iter().map(|row| row.join(" ")).collect()
    }

    #[test]
    fn what_breaks_is_said_for_whom_and_until_when() {
        let said_all = said("current", "may_not_know");
        let starts =
            ["retired k1, which was current", "signs k2", "breaks tokens of k1 (", "goes on ", "breaks tokens of k2"];
        assert_eq!(said_all.len(), starts.len());
        for (line, start) in said_all.iter().zip(starts) {
            assert!(line.starts_with(start), "{line}");
        }
        for (line, time) in [(2, "T1"), (3, "T2"), (4, "T3")] {
            assert!(said_all[line].contains(time), "{}", said_all[line]);
        }
        assert_eq!(said("current", "know").len(), 4, "caches know the key that takes over");
        assert_eq!(said("retiring", "may_not_know").len(), 4, "the key that signs is the one of before");
        assert_eq!(said("next", "know")[2], "breaks nothing: it has signed no token");
    }

    #[test]
    fn what_is_planned_is_not_said_to_be_done() {
        let planned = json!({ "dry_run": true, "kid": "k1", "was": "current", "caches": "know" });
        let planned = retirement(&planned);
        assert_eq!((planned[0][0].as_str(), planned[1][1].as_str()), ("would be retired", "a new key"));
        let planned = rotation(&json!({ "dry_run": true, "alg": "ES256" }));
        assert_eq!(planned[0][1], "a new one (ES256)");
    }
}
