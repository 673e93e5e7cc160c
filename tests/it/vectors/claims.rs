//! Cases about the claims: strict JSON, issuer, audience, dates, what has to be there (RFC 9068 §2.2, §4; RFC 7519 §2, §4.1).

use serde_json::{Value, json};

use super::case::{AUDIENCE, Case, ISSUER, NOW, case};

pub(super) const ABOUT: &str = "The claims: strict JSON, iss, aud, exp, nbf, iat, and what has to be there (RFC 9068 §2.2, §4; RFC 7519 §2, §4.1).";

pub(super) fn cases() -> Vec<Case> {
    [json_rules(), values(), absent(), clocks(), audiences()].into_iter().flatten().collect()
}

fn json_rules() -> Vec<Case> {
    let rule = "RFC 7519 §4, §7.2; RFC 8259";
    let around =
        |name: &'static str, make: fn(&str) -> String| case(name, rule).payload_from(make).ends("token_malformed");
    // Everything but the first brace.
    let with = |name: &'static str, first: &'static str| {
        let make = move |good: &str| format!("{{{first},{}", &good[1..]);
        case(name, rule).payload_from(make).ends("token_malformed")
    };
    let deep = |depth: usize| {
        let make = move |good: &str| format!("{{\"x\":{}{},{}", "[".repeat(depth), "]".repeat(depth), &good[1..]);
        case(format!("nested {} deep", depth + 1), rule).payload_from(make)
    };
    vec![
        around("nothing", |_| String::new()),
        around("null", |_| "null".to_owned()),
        around("a list", |good| format!("[{good}]")),
        around("two objects", |good| format!("{good}{{}}")),
        around("a byte order mark", |good| format!("\u{feff}{good}")),
        around("a zero octet behind it", |good| format!("{good}\0")),
        around("blanks and line ends around it", |good| format!(" \t\r\n{good}\n")).ends("accepted"),
        around("a form feed before it", |good| format!("\u{c}{good}")),
        around("single quotes", |good| good.replace('"', "'")),
        around("a comma at the end", |good| format!("{},}}", &good[..good.len() - 1])),
        with("aud twice", "\"aud\":\"https://api.example.com/payments\""),
        with("aud twice, once written with an escape", "\"\\u0061ud\":\"https://evil.example.com\""),
        with("cnf twice", "\"cnf\":{}"),
        with("an unknown claim twice", "\"x\":1,\"x\":1"),
        with("a member twice inside a claim", "\"x\":[{\"y\":1,\"y\":2}]"),
        with("a comment", "/* */\"x\":1"),
        with("NaN", "\"x\":NaN"),
        with("Infinity", "\"x\":-Infinity"),
        with("a number that is too large", "\"x\":1e400"),
        case("a number that is too large, written out", rule)
            .payload_from(|good| format!("{{\"x\":1{},{}", "0".repeat(400), &good[1..]))
            .ends("token_malformed"),
        with("a number with a leading zero", "\"x\":01"),
        with("a number with a leading plus", "\"x\":+1"),
        with("a number that ends with its point", "\"x\":1."),
        with("half of a surrogate pair", "\"x\":\"\\ud800\""),
        with("halves of a pair in the wrong order", "\"x\":\"\\udc00\\ud800\""),
        with("a surrogate pair", "\"x\":\"\\ud83d\\ude00\"").ends("accepted"),
        with("a line end inside a text", "\"x\":\"\n\""),
        with("an escape that there is not", "\"x\":\"\\x41\""),
        with("a claim with the name of a prototype", "\"__proto__\":{\"scope\":\"admin\"}").ends("accepted"),
        with("an unknown claim", "\"x\":[true,false,null,0.5,-1e3,\"\\u00e9\\n\"]").ends("accepted"),
        deep(15),
        deep(16).ends("token_malformed"),
        deep(4000).ends("token_malformed"),
        case("not UTF-8", rule).raw_payload(*b"{\"iss\":\"\xff\"}").ends("token_malformed"),
    ]
}

fn values() -> Vec<Case> {
    let table = [
        ("iss", json!("https://auth.example.com/"), "token_issuer"),
        ("iss", json!("https://AUTH.example.com"), "token_issuer"),
        ("iss", json!("https://evil.example.com"), "token_issuer"),
        ("iss", json!([ISSUER]), "token_issuer"),
        ("iss", Value::Null, "token_issuer"),
        ("exp", json!((NOW + 290).to_string()), "token_malformed"),
        ("exp", Value::Null, "token_malformed"),
        ("exp", json!(true), "token_malformed"),
        ("exp", json!([NOW + 290]), "token_malformed"),
        ("exp", json!(-1), "token_malformed"),
        ("exp", json!(253_402_300_799_i64), "accepted"),
        ("exp", json!(253_402_300_800_i64), "token_malformed"),
        ("exp", json!(u64::MAX), "token_malformed"),
        ("exp", json!(1e300), "token_malformed"),
        ("exp", json!(0), "token_expired"),
        ("nbf", json!((NOW - 10).to_string()), "token_malformed"),
        ("nbf", Value::Null, "token_malformed"),
        ("iat", json!((NOW - 10).to_string()), "token_malformed"),
        ("iat", json!(-0.5), "token_malformed"),
        ("sub", json!(""), "token_claims"),
        ("sub", json!(["billing"]), "token_claims"),
        ("sub", json!("somebody else"), "accepted"),
        ("client_id", json!(1), "token_claims"),
        ("client_id", Value::Null, "token_claims"),
        ("jti", json!(7), "token_claims"),
        ("jti", json!(""), "token_claims"),
        ("scope", json!(["payments:read"]), "token_claims"),
        ("scope", Value::Null, "token_claims"),
        ("scope", json!("payments:read  payments:write"), "token_claims"),
        ("scope", json!("payments:read "), "token_claims"),
        ("scope", json!("payments:read\tpayments:write"), "token_claims"),
        ("scope", json!("payments:read \"admin\""), "token_claims"),
        ("scope", json!("payments:read payments:réad"), "token_claims"),
        ("scope", json!("payments:write payments:read payments:read"), "accepted"),
    ];
    let named = |claim: &str, value: &Value| {
        let text = value.to_string();
        format!("{claim} {text}")
    };
    table
        .into_iter()
        .map(|(claim, value, end)| case(named(claim, &value), "RFC 9068 §2.2, §4").claim(claim, value).ends(end))
        .collect()
}

fn absent() -> Vec<Case> {
    let table = [
        ("iss", "token_issuer"),
        ("aud", "token_audience"),
        ("exp", "token_claims"),
        ("iat", "token_claims"),
        ("sub", "token_claims"),
        ("client_id", "token_claims"),
        ("jti", "token_claims"),
        ("scope", "scope_missing"),
    ];
    table
        .into_iter()
        .map(|(claim, end)| case(format!("no {claim}"), "RFC 9068 §2.2").without_claim(claim).ends(end))
        .collect()
}

/// To the second: `exp` may have passed by less than the skew, at most a minute; `iat` and `nbf` may lie ahead by the skew, at
/// least 10 s and at most a minute.
fn clocks() -> Vec<Case> {
    let mut cases = Vec::new();
    for (skew, claim, off, verdict) in [
        (30, "exp", 1, "accepted"),
        (30, "exp", 0, "accepted"),
        (30, "exp", -29, "accepted"),
        (30, "exp", -30, "token_expired"),
        (0, "exp", 1, "accepted"),
        (0, "exp", 0, "token_expired"),
        (60, "exp", -59, "accepted"),
        (60, "exp", -60, "token_expired"),
        (3600, "exp", -59, "accepted"),
        (3600, "exp", -60, "token_expired"),
        (30, "nbf", 30, "accepted"),
        (30, "nbf", 31, "token_not_yet_valid"),
        (30, "iat", 30, "accepted"),
        (30, "iat", 31, "token_not_yet_valid"),
        (0, "nbf", 10, "accepted"),
        (0, "nbf", 11, "token_not_yet_valid"),
        (0, "iat", 10, "accepted"),
        (0, "iat", 11, "token_not_yet_valid"),
        (3600, "iat", 60, "accepted"),
        (3600, "iat", 61, "token_not_yet_valid"),
    ] {
        let name = format!("{claim} is now {off:+} s, with a skew of {skew} s");
        let rule = if claim == "exp" { "RFC 7519 §4.1.4" } else { "FAPI 2.0 §5.3.2.1" };
        cases.push(case(name, rule).with_in("settings", "clock_skew", skew).claim(claim, NOW + off).ends(verdict));
    }
    #[expect(clippy::cast_precision_loss, reason = "a date of our own")]
    let now = NOW as f64;
    let whole = |written: &'static str| {
        let make = move |good: &str| good.replace(&format!("\"exp\":{}", NOW + 290), &format!("\"exp\":{written}"));
        case(format!("exp written as {written}"), "RFC 7519 §2").payload_from(make)
    };
    cases.extend([
        case("exp half a second before its last moment", "RFC 7519 §2").claim("exp", now - 29.5),
        case("exp half a second behind its last moment", "RFC 7519 §2").claim("exp", now - 30.5).ends("token_expired"),
        case("iat half a second too far ahead", "RFC 7519 §2").claim("iat", now + 30.5).ends("token_not_yet_valid"),
        case("iat with a fraction", "RFC 7519 §2").claim("iat", now - 9.5),
        whole("1795000290.0"),
        whole("1.79500029e9"),
        whole("179500029E+1"),
    ]);
    cases
}

fn audiences() -> Vec<Case> {
    let rule = "RFC 9068 §4; RFC 7519 §4.1.3";
    let other = "https://other.example.com";
    let table = [
        (json!([AUDIENCE]), "accepted"),
        (json!([other, AUDIENCE]), "accepted"),
        (json!([other]), "token_audience"),
        (json!([]), "token_audience"),
        (json!(""), "token_audience"),
        (json!("https://api.example.com"), "token_audience"),
        (json!("https://api.example.com/payments/"), "token_audience"),
        (json!("https://api.example.com/payments2"), "token_audience"),
        (json!("https://API.example.com/payments"), "token_audience"),
        (Value::Null, "token_audience"),
        (json!(1), "token_audience"),
        (json!({ "0": AUDIENCE }), "token_audience"),
        (json!([AUDIENCE, 1]), "token_audience"),
        (json!([[AUDIENCE]]), "token_audience"),
    ];
    let mut cases: Vec<_> =
        table.into_iter().map(|(aud, end)| case(format!("aud {aud}"), rule).claim("aud", aud).ends(end)).collect();
    let names = json!(["urn:old-name", AUDIENCE]);
    let both = |name: &'static str| case(name, rule).with_in("settings", "audiences", names.clone());
    cases.extend([
        both("the second name of this server"),
        both("the first name of this server").claim("aud", "urn:old-name"),
        both("neither name of this server").claim("aud", other).ends("token_audience"),
        case("a server without a name", rule).with_in("settings", "audiences", json!([])).ends("token_audience"),
    ]);
    cases
}
