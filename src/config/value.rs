//! Values as typed, before anybody asks what they mean, and the small notations among them: durations, rates, addresses.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use certbind_proto::time::parse_duration;
use toml::de::DeValue;

use super::fault::Fault;
use super::keys::Kind;
use super::settings::RateLimit;

/// A value as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Boolean(bool),
    Integer(i64),
    List(Vec<String>),
    Text(String),
}

impl Value {
    /// From a file, where the value has a type.
    pub(super) fn from_toml(kind: Kind, value: &DeValue<'_>) -> Result<Self, Fault> {
        match (kind, value) {
            (Kind::Boolean, DeValue::Boolean(switch)) => Ok(Self::Boolean(*switch)),
            (Kind::Integer(..), DeValue::Integer(number)) => {
                let number = i64::from_str_radix(number.as_str(), number.radix());
                number.map(Self::Integer).map_err(|_| wrong_type(kind, "a number beyond all bounds"))
            }
            (Kind::References | Kind::Texts, DeValue::Array(items)) => {
                let texts = items.iter().map(|item| item.get_ref().as_str().map(str::to_owned));
                let texts: Option<Vec<String>> = texts.collect();
                texts.map(Self::List).ok_or_else(|| wrong_type(kind, "a list of other things"))
            }
            (Kind::Boolean | Kind::Integer(..) | Kind::References | Kind::Texts, other) => {
                Err(wrong_type(kind, type_of(other)))
            }
            (_, DeValue::String(text)) => Ok(Self::Text(text.to_string())),
            (_, other) => Err(wrong_type(kind, type_of(other))),
        }
    }

    /// From a variable or an argument, where everything is a text.
    pub(super) fn from_text(kind: Kind, text: &str) -> Result<Self, Fault> {
        match kind {
            Kind::Boolean => text.parse().map(Self::Boolean).map_err(|_| wrong_type(kind, "another word")),
            Kind::Integer(..) => text.parse().map(Self::Integer).map_err(|_| wrong_type(kind, "no such number")),
            Kind::References | Kind::Texts if text.is_empty() => Ok(Self::List(Vec::new())),
            Kind::References | Kind::Texts if text.starts_with('[') => {
                let list = DeValue::parse(text).map_err(|_| wrong_type(kind, "half a list"))?;
                Self::from_toml(kind, list.get_ref())
            }
            Kind::References | Kind::Texts => Ok(Self::List(vec![text.to_owned()])),
            _ => Ok(Self::Text(text.to_owned())),
        }
    }

    pub(super) fn is_text(&self, text: &str) -> bool {
        matches!(self, Self::Text(own) if own == text)
    }

    pub(super) fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Boolean(switch) => (*switch).into(),
            Self::Integer(number) => (*number).into(),
            Self::List(items) => items.clone().into(),
            Self::Text(text) => text.clone().into(),
        }
    }
}

/// As TOML writes it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let toml = match self {
            Self::Boolean(switch) => toml::Value::Boolean(*switch),
            Self::Integer(number) => toml::Value::Integer(*number),
            Self::List(items) => toml::Value::Array(items.iter().cloned().map(toml::Value::String).collect()),
            Self::Text(text) => toml::Value::String(text.clone()),
        };
        toml.fmt(f)
    }
}

fn wrong_type(kind: Kind, found: &'static str) -> Fault {
    let expected = match kind {
        Kind::Boolean => "true or false, without quotes",
        Kind::Integer(..) => "a whole number, without quotes",
        Kind::References => "a list of references in quotes, as in [\"file:/etc/certbind/crl/corp.crl\"]",
        Kind::Texts => "a list of texts in quotes, as in [\"GET\", \"POST\"]",
        Kind::Duration(..) | Kind::DurationOrOff(..) => "a number with a unit in quotes, as in \"5m\"",
        _ => "a text in quotes",
    };
    Fault::WrongType { expected, found }
}

/// The type of a TOML value, in words.
pub(super) fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// `250ms`, `10s`, `5m`, `24h`, `90d`.
pub(super) fn duration(text: &str) -> Result<Duration, Fault> {
    parse_duration(text).map_err(|_| Fault::NotADuration { value: shown(text) })
}

/// The units of time and their milliseconds, the longest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// A duration as one types it, in the longest unit that comes out even.
pub(super) fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let even = |(_, unit): &&(&str, u64)| millis >= *unit && millis.is_multiple_of(*unit);
    UNITS.iter().find(even).map_or_else(|| "0s".to_owned(), |(name, unit)| format!("{}{name}", millis / unit))
}

/// `off`, or so many in a second, minute or hour: `50/s`, `600/m`, `1000/h`.
pub(super) fn rate(text: &str) -> Result<RateLimit, Fault> {
    if text == "off" {
        return Ok(RateLimit::Off);
    }
    let fault = || Fault::NotARate { value: shown(text) };
    let (count, unit) = text.split_once('/').ok_or_else(fault)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(fault()),
    };
    let digits = Some(count).filter(|count| count.bytes().all(|b| b.is_ascii_digit()));
    let count: NonZeroU32 = digits.and_then(|digits| digits.parse().ok()).ok_or_else(fault)?;
    Ok(RateLimit::AtMost { count, per: Duration::from_secs(seconds) })
}

/// An IP address with a port. What people write instead is understood well enough to say what they mean.
pub(super) fn address(text: &str) -> Result<SocketAddr, Fault> {
    text.parse().map_err(|_| Fault::NotAnAddress { value: shown(text), meant: meant_address(text) })
}

fn meant_address(text: &str) -> Option<String> {
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let port: u16 = port.parse().ok()?;
    let host = match host {
        "" | "*" => "[::]",
        "localhost" => "127.0.0.1",
        host => return format!("[{host}]:{port}").parse().map(|address: SocketAddr| address.to_string()).ok(),
    };
    Some(format!("{host}:{port}"))
}

/// A name that other files use.
pub(super) fn name(text: &str) -> Result<String, Fault> {
    let is_name = text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if is_name { Ok(text.to_owned()) } else { Err(Fault::NotAName { value: shown(text) }) }
}

/// What was typed, cut short: a complaint repeats no more of it than helps.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    let short: Cow<'_, str> = match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    };
    format!("{short:?}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_rate_is_so_many_in_a_time() {
        let at_most = |count, seconds| {
            Some(RateLimit::AtMost {
                count: NonZeroU32::new(count).expect("not zero"),
                per: Duration::from_secs(seconds),
            })
        };
        for (text, expected) in [
            ("off", Some(RateLimit::Off)),
            ("50/s", at_most(50, 1)),
            ("600/m", at_most(600, 60)),
            ("1/h", at_most(1, 3600)),
            ("0/s", None),
            ("50", None),
            ("50/d", None),
            ("+5/s", None),
            ("-1/s", None),
            ("/s", None),
            ("Off", None),
            ("", None),
        ] {
            assert_eq!(rate(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn an_address_is_an_ip_address_with_a_port() {
        for text in ["[::]:8443", "127.0.0.1:0", "0.0.0.0:443"] {
            assert_eq!(address(text).map(|a| a.to_string()), Ok(text.to_owned()));
        }
        for (text, meant) in [
            ("8443", Some("[::]:8443")),
            (":8443", Some("[::]:8443")),
            ("*:8443", Some("[::]:8443")),
            ("localhost:8443", Some("127.0.0.1:8443")),
            ("::1:8443", Some("[::1]:8443")),
            ("127.0.0.1", None),
            ("auth.example.com:8443", None),
            ("127.0.0.1:65536", None),
            ("", None),
        ] {
            let fault = Fault::NotAnAddress { value: format!("{text:?}"), meant: meant.map(str::to_owned) };
            assert_eq!(address(text), Err(fault), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_duration_shown_is_that_duration(millis in 0_u64..10_000_000_000) {
            let shown = show_duration(Duration::from_millis(millis));
            prop_assert_eq!(duration(&shown), Ok(Duration::from_millis(millis)));
        }

        #[test]
        fn no_text_is_too_odd(text in ".{0,80}") {
            let _ = (duration(&text), rate(&text), address(&text), shown(&text));
        }
    }
}
