//! The calendar day by day, and at random: there is always a key to sign with, and nobody meets a key that he cannot know.

use proptest::prelude::*;

use super::*;
use crate::store::conformance::signing_key;

const DAY: u64 = 24 * 60 * 60;

const SETTINGS: Settings = Settings {
    rotation: Rotation::Every(Duration::from_secs(90 * DAY)),
    publish_before: Duration::from_secs(DAY),
    token_lifetime: Duration::from_secs(300),
    clock_skew: Duration::from_secs(30),
};

/// Seconds after the first key was made.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(1_795_375_800 + seconds)
}

fn days(days: i64) -> Timestamp {
    at(days * 86_400)
}

fn key(kid: &str, created: Timestamp, activates: Timestamp) -> StoredKey {
    StoredKey { created, activates, ..signing_key(kid, "ES256") }
}

/// One key that signs since the beginning, and one that was made on day 89 for day 90.
fn two() -> [StoredKey; 2] {
    [key("old", at(0), at(0)), key("new", days(89), days(90))]
}

fn states(keys: &[StoredKey], now: Timestamp) -> Vec<&'static str> {
    lives(keys, &SETTINGS, now).iter().map(|life| life.state.as_str()).collect()
}

#[test]
fn a_key_is_next_then_current_then_retiring_until_its_last_token_has_expired() {
    let last_token = 300 + 2 * 30;
    for (now, expected) in [
        (days(89), ["current", "next"]),
        (days(90).minus(Duration::from_millis(1)), ["current", "next"]),
        (days(90), ["retiring", "current"]),
        (days(90).plus(Duration::from_millis(last_token * 1000 - 1)), ["retiring", "current"]),
        (days(90).plus(Duration::from_secs(last_token)), ["gone", "current"]),
        (days(9000), ["gone", "current"]),
    ] {
        assert_eq!(states(&two(), now), expected, "{now}");
    }
    let old = lives(&two(), &SETTINGS, days(89))[0];
    assert_eq!((old.signs_until, old.needed_until), (Some(days(90)), Some(days(90).plus(Duration::from_secs(360)))));
    let new = lives(&two(), &SETTINGS, days(89))[1];
    assert_eq!((new.signs_until, new.needed_until), (None, None));
}

#[test]
fn a_clock_that_goes_back_before_every_key_leaves_the_first_one_to_sign_with() {
    assert_eq!(states(&two(), days(-1000)), ["current", "next"]);
    assert_eq!(signer(&two(), days(-1000)).map(|key| key.kid.as_str()), Some("old"));
    assert_eq!(signer(&[], at(0)), None);
}

#[test]
fn a_key_that_was_taken_back_neither_signs_nor_is_published() {
    let taken_back = |which: usize, when: Timestamp| {
        let mut keys = two();
        keys[which].retired = Some(when);
        keys
    };
    // The next key, before its time: the old one signs on and on.
    let keys = taken_back(1, days(89));
    assert_eq!(states(&keys, days(91)), ["current", "gone"]);
    assert_eq!(lives(&keys, &SETTINGS, days(91))[0].signs_until, None);
    // The one that signs: the next one does at once, whatever its time.
    let keys = taken_back(0, days(89));
    assert_eq!(states(&keys, days(89)), ["retired", "current"]);
    assert_eq!(states(&keys, days(90)), ["gone", "current"]);
    // The new one, after it signed: the old one was superseded all the same.
    let keys = taken_back(1, days(91));
    assert_eq!(lives(&keys, &SETTINGS, days(91))[0].signs_until, Some(days(90)));
    assert!(!State::Retired.is_published() && !State::Gone.is_published());
}

/// What is due for a server that signs with this algorithm.
fn due_for(algorithm: &str, keys: &[StoredKey], settings: &Settings, occasion: Occasion, now: Timestamp) -> Due {
    let fits = |key: &StoredKey| key.algorithm == algorithm;
    due(keys, Wanted { fits: &fits, signs: &|_| true }, settings, occasion, now)
}

fn due_at(keys: &[StoredKey], occasion: Occasion, now: Timestamp) -> Due {
    due_for("ES256", keys, &SETTINGS, occasion, now)
}

#[test]
fn the_first_key_signs_at_once_and_the_next_one_is_made_in_time() {
    use Occasion::{Running, Start};
    assert_eq!(due_at(&[], Start, at(5)), Due { make: Some(at(5)), keep: Vec::new() });
    let one = [key("old", at(0), at(0))];
    for (now, occasion, make) in [
        (at(1), Start, None),
        (days(89).minus(Duration::from_millis(1)), Running, None),
        (days(89), Running, Some(days(90))),
        (days(89), Start, Some(days(90))),
        // A server that was off when it was time.
        (days(200), Start, Some(days(201))),
    ] {
        assert_eq!(due_at(&one, occasion, now), Due { make, keep: one.to_vec() }, "{now}");
    }
    assert_eq!(due_at(&two(), Running, days(89)), Due { make: None, keep: two().to_vec() }, "it is made once");
    let by_hand = Settings { rotation: Rotation::ByHand, ..SETTINGS };
    assert_eq!(due_for("ES256", &one, &by_hand, Running, days(9000)).make, None);
}

#[test]
fn what_nobody_needs_goes() {
    let over = days(90).plus(Duration::from_secs(360));
    assert_eq!(due_at(&two(), Occasion::Running, over).keep, [two()[1].clone()]);
    let none_left = [StoredKey { retired: Some(at(0)), ..two()[0].clone() }];
    assert_eq!(due_at(&none_left, Occasion::Running, days(1)), Due { make: Some(days(1)), keep: Vec::new() });
}

#[test]
fn another_algorithm_is_an_ordinary_rotation_that_begins_at_the_start() {
    let es256 = [key("old", at(0), at(0))];
    let make = |keys: &[StoredKey], occasion| due_for("EdDSA", keys, &SETTINGS, occasion, days(1)).make;
    assert_eq!(make(&es256, Occasion::Start), Some(days(2)));
    assert_eq!(make(&es256, Occasion::Running), None, "two configurations do not make keys against each other");
    let announced = [es256[0].clone(), key("new", days(1), days(2).plus(Duration::from_secs(5)))];
    assert_eq!(
        make(&announced, Occasion::Start),
        Some(days(2).plus(Duration::from_millis(5001))),
        "one after the other"
    );
    let changed = [es256[0].clone(), StoredKey { algorithm: "EdDSA".to_owned(), ..announced[1].clone() }];
    assert_eq!(make(&changed, Occasion::Start), None, "it is made once");
}

#[test]
fn a_server_that_cannot_sign_with_the_current_key_makes_one_that_signs_at_once_and_only_at_its_start() {
    let of_module = |keys: &[StoredKey], occasion| {
        let mine = |key: &StoredKey| key.kid != "old";
        due(keys, Wanted { fits: &mine, signs: &mine }, &SETTINGS, occasion, days(1)).make
    };
    assert_eq!(of_module(&two()[..1], Occasion::Start), Some(days(1)));
    assert_eq!(of_module(&two()[..1], Occasion::Running), None, "it may be another server's");
    assert_eq!(of_module(&[two()[0].clone(), key("own", at(0), at(1))], Occasion::Start), None);
}

#[test]
fn a_longer_life_of_tokens_keeps_the_keys_that_sign_them_longer() {
    let longer = Settings { token_lifetime: Duration::from_secs(3600), ..SETTINGS };
    let lifetimes = |now| {
        let keep = due_for("ES256", &two(), &longer, Occasion::Running, now).keep;
        keep.iter().map(|key| key.token_lifetime.as_secs()).collect::<Vec<_>>()
    };
    assert_eq!(lifetimes(days(89)), [3600, 3600]);
    assert_eq!(lifetimes(days(90)), [300, 3600], "what signs no more signs no longer tokens");
    let shorter = Settings { token_lifetime: Duration::from_secs(10), ..SETTINGS };
    assert_eq!(due_for("ES256", &two(), &shorter, Occasion::Start, days(89)).keep, two(), "older tokens live still");
}

#[test]
fn a_key_that_a_wrong_clock_made_for_far_away_holds_nothing_up() {
    let keys = [key("old", at(0), at(0)), key("astray", days(3650), days(3651))];
    assert_eq!(due_at(&keys, Occasion::Running, days(89)).make, Some(days(90)));
    let three = [&keys[..], &[key("new", days(89), days(90))]].concat();
    assert_eq!(due_at(&three, Occasion::Running, days(89)).make, None, "it is made once");
    assert_eq!(rotation(&keys, &SETTINGS, days(1)), Ok(days(2)));
}

#[test]
fn an_operators_rotation_is_one_at_a_time_and_not_without_end() {
    assert_eq!(rotation(&two()[..1], &SETTINGS, days(5)), Ok(days(6)));
    let announced = RotateFault::NextIsAnnounced { kid: "new".to_owned(), signs_from: days(90) };
    assert_eq!(rotation(&two(), &SETTINGS, days(89)), Err(announced));
    assert_eq!(rotation(&two(), &SETTINGS, days(90)), Ok(days(91)));
    let many: Vec<_> = (0..MOST_KEYS).map(|n| key(&n.to_string(), at(0), at(n as i64))).collect();
    assert_eq!(rotation(&many, &SETTINGS, at(100)), Err(RotateFault::TooManyKeys));
    assert_eq!(due_at(&many, Occasion::Running, at(100)).make, None);
    const { assert!(MOST_KEYS < certbind_proto::jwk::MAX_KEYS) };
}

#[test]
fn keys_that_were_taken_back_take_no_place_of_those_that_are_published() {
    let taken_back = |n: usize| StoredKey { retired: Some(at(90)), ..key(&format!("r{n}"), at(0), at(1)) };
    let mut keys: Vec<_> = (0..2 * MOST_KEYS).map(taken_back).collect();
    keys.push(key("signs", at(0), at(0)));
    assert_eq!(due_at(&keys, Occasion::Running, at(100)).keep.len(), keys.len(), "they are kept for a while");
    assert_eq!(rotation(&keys, &SETTINGS, at(100)), Ok(at(100).plus(SETTINGS.publish_before)));
    let soon = Settings { rotation: Rotation::Every(Duration::from_secs(DAY)), ..SETTINGS };
    assert!(due_for("ES256", &keys, &soon, Occasion::Running, at(100)).make.is_some());
}

/// A token, and until when somebody may read it.
struct Token {
    kid: String,
    until: Timestamp,
}

proptest! {
    /// Whatever happens when: one key signs, it was published long enough before, and every token finds its key in a set
    /// that was fetched at most `publish_before` ago.
    #[test]
    fn no_token_meets_a_set_without_its_key(
        steps in proptest::collection::vec((1_u64..40, 0_u8..12, 0_i64..=30), 1..120),
    ) {
        let settings = Settings {
            rotation: Rotation::Every(Duration::from_secs(100)),
            publish_before: Duration::from_secs(40),
            token_lifetime: Duration::from_secs(60),
            clock_skew: Duration::from_secs(30),
        };
        let (mut keys, mut now, mut made, mut algorithm) = (Vec::<StoredKey>::new(), at(0), 0, "ES256");
        let mut tokens: Vec<Token> = Vec::new();
        let mut fetched: Vec<(Timestamp, Vec<String>)> = Vec::new();
        for (pause, event, behind) in steps {
            now = now.plus(Duration::from_secs(pause));
            let mut occasion = Occasion::Running;
            match event {
                0 => occasion = Occasion::Start,
                1 => {
                    algorithm = if algorithm == "ES256" { "EdDSA" } else { "ES256" };
                    occasion = Occasion::Start;
                }
                _ => {}
            }
            let due = due_for(algorithm, &keys, &settings, occasion, now);
            keys = due.keep;
            let by_hand = || (event == 2).then(|| rotation(&keys, &settings, now).ok()).flatten();
            if let Some(activates) = due.make.or_else(by_hand) {
                made += 1;
                let token_lifetime = settings.token_lifetime;
                let key = StoredKey { created: now, activates, token_lifetime, ..signing_key(&format!("k{made}"), algorithm) };
                keys.push(key);
            }
            let lives = lives(&keys, &settings, now);
            prop_assert_eq!(lives.iter().filter(|life| life.state == State::Current).count(), 1);
            let published = keys.iter().zip(&lives).filter(|(_, life)| life.state.is_published());
            fetched.push((now, published.map(|(key, _)| key.kid.clone()).collect()));

            // A server whose clock is behind, but which has seen the same set.
            let its_now = now.minus(Duration::from_secs(behind.unsigned_abs()));
            for signing in [now, its_now] {
                let key = signer(&keys, signing).expect("a key");
                prop_assert!(key.created.plus(settings.publish_before) <= now.plus(Duration::from_secs(1)) || key.kid == "k1");
                let until = signing.plus(settings.token_lifetime).plus(settings.clock_skew);
                tokens.push(Token { kid: key.kid.clone(), until });
            }
            tokens.retain(|token| token.until > now);
            let readable = fetched.iter().filter(|(then, _)| now.since(*then) < settings.publish_before);
            for (then, set) in readable {
                let unknown: Vec<_> = tokens.iter().filter(|token| !set.contains(&token.kid)).map(|token| &token.kid).collect();
                prop_assert!(unknown.is_empty(), "{:?} are not in the set of {}, at {}", unknown, then, now);
            }
        }
    }
}
