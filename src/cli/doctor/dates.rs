//! What ends, and whether that is soon. Pure.

use std::time::Duration;

use certbind_proto::time::Timestamp;
use serde_json::{Value, json};

use super::Told;
use crate::cli::when;

/// Two certificates of one client that were both used in this time are both in use: it runs in several places.
const LATELY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long before its end the owner of most things has to do something.
const USUAL: Duration = Duration::from_secs(21 * 24 * 60 * 60);

/// What ends soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Soon {
    /// What ends within this time.
    Within(Duration),
    /// What ends within three weeks and is in the last quarter of its life: what lives for a year is soon at its end when a
    /// certificate of an hour is long dead.
    Usual,
}

/// Something that ends, or a key, which does not and may still be due for a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dated {
    pub(super) what: &'static str,
    /// The client, trust group or listener; empty for what is the server's.
    pub(super) whose: String,
    pub(super) name: String,
    /// When it began.
    pub(super) from: Option<Timestamp>,
    /// When it ends, if it does.
    pub(super) until: Option<Timestamp>,
    pub(super) last_used: Option<Timestamp>,
    /// Why it does not matter that it ends, if that is so.
    pub(super) uncounted: Option<&'static str>,
}

/// How near the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It has ended.
    Ended,
    /// It ends soon.
    Soon,
    /// Neither.
    Fine,
    /// It has no end, or nothing is lost by it.
    Uncounted,
}

impl State {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Soon => "soon",
            Self::Fine => "fine",
            Self::Uncounted => "uncounted",
        }
    }

    pub(super) const fn for_people(self) -> &'static str {
        match self {
            Self::Ended => "ENDED",
            Self::Soon => "SOON",
            Self::Fine => "fine",
            Self::Uncounted => "-",
        }
    }
}

impl Dated {
    pub(super) fn state(&self, now: Timestamp, soon: Soon) -> State {
        let soon = match (soon, self.life()) {
            (Soon::Within(within), _) => within,
            (Soon::Usual, None) => USUAL,
            (Soon::Usual, Some(life)) => USUAL.min(life / 4),
        };
        match self.until.map(|until| until.since(now)).filter(|_| self.uncounted.is_none()) {
            None => State::Uncounted,
            Some(left) if left.is_zero() => State::Ended,
            Some(left) if left < soon => State::Soon,
            Some(_) => State::Fine,
        }
    }

    pub(super) fn to_json(&self, now: Timestamp, soon: Soon) -> Value {
        let mut shown = json!({
            "what": self.what,
            "whose": self.whose,
            "name": self.name,
            "state": self.state(now, soon).as_str(),
        });
        if let Some(until) = self.until {
            shown["until"] = until.to_string().into();
            shown["seconds_left"] = (until.unix() - now.unix()).into();
        }
        if let Some(last_used) = self.last_used {
            shown["last_used"] = last_used.to_string().into();
        }
        if let Some(why) = self.uncounted {
            shown["why_uncounted"] = why.into();
        }
        shown
    }

    fn life(&self) -> Option<Duration> {
        self.from.zip(self.until).map(|(from, until)| until.since(from)).filter(|life| !life.is_zero())
    }
}

/// Everything that ends and every registered key, in no order.
pub(super) fn all(told: &Told) -> Vec<Dated> {
    let list = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
    let mut dates = Vec::new();
    for own in list(&told.status, "certificates") {
        dates.extend(certificate("server certificate", text(&own, "listener"), &own));
    }
    for group in list(&told.trust, "trust_groups") {
        dates.extend(of_group(&group, &text(&group, "name")));
    }
    dates.extend(of_group(&told.trust["administrators"], "administrators"));
    dates.extend(signing_keys(&list(&told.keys, "keys"), told.now));
    dates.extend(told.clients.iter().flat_map(|client| of_client(client, told.now)));
    dates
}

fn of_group(group: &Value, name: &str) -> Vec<Dated> {
    let anchors = group["anchors"].as_array().into_iter().flatten();
    let anchors: Vec<_> = anchors.filter_map(|anchor| certificate("trust anchor", name.to_owned(), anchor)).collect();
    let has_successor = |own: &Dated| anchors.iter().any(|other| other.name == own.name && other.until > own.until);
    let anchors = anchors.iter().map(|anchor| Dated {
        uncounted: has_successor(anchor).then_some("another one of this name is good for longer"),
        ..anchor.clone()
    });
    let lists = group["revocation_lists"].as_array().into_iter().flatten().filter_map(|list| {
        let (from, until) = (time(list, "this_update"), Some(time(list, "next_update")?));
        let (whose, name) = (name.to_owned(), text(list, "issuer"));
        Some(Dated { what: "revocation list", whose, name, from, until, last_used: None, uncounted: None })
    });
    anchors.chain(lists).collect()
}

/// Rotation is the server's own business, unless it is late, or somebody has to put the next key into a security module.
fn signing_keys(keys: &[Value], now: Timestamp) -> Vec<Dated> {
    let has_next = keys.iter().any(|key| key["state"] == "next");
    let dated = |key: &Value| {
        let ends = time(key, "signs_until").filter(|_| key["state"] == "current" || key["state"] == "next")?;
        let is_made_by_hand = key["kept"] == "pkcs11" && !has_next;
        let uncounted = (ends > now && !is_made_by_hand).then_some("rotated by itself");
        let (name, from, until) = (text(key, "kid"), time(key, "signs_from"), Some(ends));
        Some(Dated { what: "signing key", whose: String::new(), name, from, until, last_used: None, uncounted })
    };
    keys.iter().filter_map(dated).collect()
}

/// The certificates and keys that a client registered, and the certificates that it came with lately.
fn of_client(client: &Value, now: Timestamp) -> Vec<Dated> {
    let known: Vec<&Value> = client["credentials"].as_array().into_iter().flatten().collect();
    let of = |is_registered: bool, what: &'static str| {
        let of_kind = known.iter().filter(|one| one["type"] == "certificate" && one["registered"] == is_registered);
        of_kind.filter_map(|one| certificate(what, text(client, "client_id"), one)).collect::<Vec<_>>()
    };
    let (registered, seen) = (of(true, "registered certificate"), of(false, "certificate last seen"));
    let uncounted = match (client["state"].as_str(), client["certificate_validity"].as_str()) {
        (Some("disabled"), _) => Some("the client is disabled"),
        (_, Some("ignored")) => Some("its dates are ignored"),
        _ => None,
    };
    let registered: Vec<Dated> = registered
        .iter()
        .map(|one| Dated { uncounted: uncounted.or_else(|| is_replaced(one, &registered)), ..one.clone() })
        .collect();
    let seen = in_use(&seen, now);
    let seen = seen.map(|one| Dated { uncounted: uncounted.or_else(|| is_short(one, now)), ..one.clone() });
    let keys = known.iter().filter(|one| one["type"] == "key" && one["registered"] == true);
    registered.iter().cloned().chain(seen).chain(keys.map(|key| registered_key(client, key))).collect()
}

fn registered_key(client: &Value, key: &Value) -> Dated {
    let named = ["kid", "thumbprint"].iter().find(|name| key[**name].is_string()).copied().unwrap_or_default();
    let (whose, name, last_used) = (text(client, "client_id"), text(key, named), time(key, "last_used"));
    Dated { what: "registered key", whose, name, from: None, until: None, last_used, uncounted: None }
}

/// Of several registered ones that with the last end counts, and that which is in use.
fn is_replaced(own: &Dated, all: &[Dated]) -> Option<&'static str> {
    let lasts_longest = all.iter().all(|other| other.until <= own.until);
    let is_in_use = own.last_used.is_some() && all.iter().all(|other| other.last_used <= own.last_used);
    (!lasts_longest && !is_in_use).then_some("another one is good for longer")
}

/// Those that were used last, and others that were used about as lately.
fn in_use(seen: &[Dated], now: Timestamp) -> impl Iterator<Item = &Dated> {
    let last = seen.iter().max_by_key(|one| one.last_used);
    let is_last = move |one: &Dated| last == Some(one);
    let is_late =
        move |one: &Dated| one.until > Some(now) && one.last_used.is_some_and(|used| now.since(used) < LATELY);
    seen.iter().filter(move |one| is_last(one) || is_late(one))
}

/// A certificate that lives for a day is long over when a weekly job comes back, with a new one.
fn is_short(one: &Dated, now: Timestamp) -> Option<&'static str> {
    (one.until <= Some(now) && one.life().is_some_and(|life| life < USUAL)).then_some("short-lived, and not used since")
}

fn certificate(what: &'static str, whose: String, shown: &Value) -> Option<Dated> {
    Some(Dated {
        what,
        whose,
        name: text(shown, "subject"),
        from: time(shown, "not_before"),
        until: Some(time(shown, "not_after")?),
        last_used: time(shown, "last_used"),
        uncounted: None,
    })
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

fn time(value: &Value, name: &str) -> Option<Timestamp> {
    value[name].as_str().and_then(when::read)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix(1_795_375_800);

    fn hours(hours: i64) -> Timestamp {
        Timestamp::from_unix(NOW.unix() + hours * 3600)
    }

    fn days(days: i64) -> Timestamp {
        hours(days * 24)
    }

    fn shown(subject: &str, from: Timestamp, until: Timestamp, last_used: Option<Timestamp>) -> Value {
        let mut shown = json!({
            "type": "certificate",
            "registered": false,
            "subject": subject,
            "not_before": from.to_string(),
            "not_after": until.to_string(),
        });
        if let Some(last_used) = last_used {
            shown["last_used"] = last_used.to_string().into();
        }
        shown
    }

    fn client(credentials: Vec<Value>) -> Value {
        json!({ "client_id": "c", "state": "active", "credentials": credentials })
    }

    /// Of each certificate its name and state.
    fn states(client: &Value) -> Vec<(String, State)> {
        let dates = of_client(client, NOW);
        dates.iter().map(|dated| (dated.name.clone(), dated.state(NOW, Soon::Usual))).collect()
    }

    #[test]
    fn what_is_soon_depends_on_how_long_it_lives() {
        for (from, until, expected) in [
            (days(-300), days(65), State::Fine),
            (days(-345), days(20), State::Soon),
            (days(-366), days(-1), State::Ended),
            (days(-366), days(0), State::Ended),
            // Ninety days, renewed a month before.
            (days(-62), days(28), State::Fine),
            // A day, renewed at its half; and an hour.
            (hours(-17), hours(7), State::Fine),
            (hours(-19), hours(5), State::Soon),
        ] {
            let dated = certificate("x", String::new(), &shown("", from, until, None)).unwrap();
            assert_eq!(dated.state(NOW, Soon::Usual), expected, "{from} {until}");
        }
        let dated = certificate("x", String::new(), &shown("", hours(-17), hours(7), None)).unwrap();
        for (within, expected) in [(8, State::Soon), (7, State::Fine)] {
            let within = Soon::Within(Duration::from_secs(within * 3600));
            assert_eq!(dated.state(NOW, within), expected, "what somebody asks for counts as it is");
        }
    }

    #[test]
    fn of_what_was_seen_the_last_used_counts_and_what_is_used_beside_it() {
        let (old, new) =
            (shown("old", days(-360), days(5), Some(days(-3))), shown("new", days(-3), days(362), Some(NOW)));
        assert_eq!(states(&client(vec![old, new.clone()])), [("new".into(), State::Fine)]);
        let beside = shown("beside", days(-360), days(5), Some(hours(-2)));
        assert_eq!(states(&client(vec![new, beside])).len(), 2, "it runs in two places");
        let hourly = shown("hourly", days(-3), hours(-71), Some(hours(-71)));
        assert_eq!(states(&client(vec![hourly])), [("hourly".into(), State::Uncounted)]);
        let yearly = shown("yearly", days(-370), days(-5), Some(days(-9)));
        assert_eq!(states(&client(vec![yearly])), [("yearly".into(), State::Ended)]);
        let key = json!({ "type": "key", "registered": true, "kid": "k1" });
        assert_eq!(states(&client(vec![key])), [("k1".into(), State::Uncounted)], "a key has no end");
    }

    #[test]
    fn of_what_is_registered_the_last_end_counts_and_what_is_in_use() {
        let of = |name: &str, until, last_used| {
            let mut shown = shown(name, days(-300), until, last_used);
            shown["registered"] = true.into();
            shown
        };
        let (old, new) = (of("old", days(5), Some(days(-2))), of("new", days(300), None));
        let in_use = states(&client(vec![old, new]));
        assert_eq!(in_use, [("old".into(), State::Soon), ("new".into(), State::Fine)], "the change-over is not done");
        let (old, new) = (of("old", days(5), Some(days(-2))), of("new", days(300), Some(days(-1))));
        let mut both = client(vec![old, new]);
        assert_eq!(states(&both)[0].1, State::Uncounted);
        both["state"] = "disabled".into();
        assert!(states(&both).iter().all(|(_, state)| *state == State::Uncounted));
        let mut ignored = client(vec![of("old", days(-5), None)]);
        assert_eq!(states(&ignored)[0].1, State::Ended);
        ignored["certificate_validity"] = "ignored".into();
        assert_eq!(states(&ignored)[0].1, State::Uncounted);
    }

    #[test]
    fn an_anchor_with_a_successor_and_a_key_that_rotates_itself_do_not_count() {
        let group = json!({
            "anchors": [shown("CN=a", days(-3000), days(3), None), shown("CN=a", days(-3), days(3000), None), shown("CN=b", days(-3000), days(3), None)],
            "revocation_lists": [{ "issuer": "CN=a", "this_update": days(-8).to_string(), "next_update": days(-1).to_string() }],
        });
        let states = |dates: Vec<Dated>| dates.iter().map(|dated| dated.state(NOW, Soon::Usual)).collect::<Vec<_>>();
        assert_eq!(states(of_group(&group, "g")), [State::Uncounted, State::Fine, State::Soon, State::Ended]);
        let key = |kept: &str, state: &str, until: Timestamp| json!({ "kid": "k", "kept": kept, "state": state, "signs_from": days(-80).to_string(), "signs_until": until.to_string() });
        let next = key("pkcs11", "next", days(100));
        for (keys, expected) in [
            (vec![key("sealed", "current", days(10))], State::Uncounted),
            (vec![key("sealed", "current", days(-1))], State::Ended),
            (vec![key("pkcs11", "current", days(10))], State::Soon),
            (vec![key("pkcs11", "current", days(10)), next], State::Uncounted),
        ] {
            assert_eq!(states(signing_keys(&keys, NOW))[0], expected, "{keys:?}");
        }
        assert_eq!(signing_keys(&[key("sealed", "retired", days(10))], NOW), []);
    }
}
