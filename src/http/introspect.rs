//! `POST /oauth2/introspect` (RFC 7662 §2), answered as JSON or, for whoever prefers it, as a signed JWT (RFC 9701 §4).

use certbind_proto::introspection::{PLAIN, SIGNED};
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, HeaderMap};

use super::{Came, Endpoints, Reply, reply};
use crate::flow::AnswerForm;

impl Endpoints {
    pub(super) async fn introspect(&self, request: Request<Incoming>, came: &Came<'_>) -> Reply {
        let context = self.context(came);
        let form = wanted(request.headers());
        let request = self.read(request, came).await;
        let outcome = self.flows.introspect(request, form, &context).await;
        reply::introspection(outcome, &context.request_id)
    }
}

/// The form that is liked best (RFC 9110 §12.5.1): the higher weight, then the closer name. Of two that are liked alike
/// the signed one is meant by whoever names it. What is not wanted in either form is sent plain.
fn wanted(headers: &HeaderMap) -> AnswerForm {
    let ranges: Vec<Range<'_>> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(Range::parse)
        .collect();
    let liking =
        |media_type| ranges.iter().filter_map(|range| range.liking(media_type)).max_by_key(|found| found.closeness);
    let (Some(signed), plain) = (liking(SIGNED), liking(PLAIN)) else { return AnswerForm::Plain };
    let is_named = signed.closeness == Closeness::Exact && signed.weight > 0;
    let is_preferred = plain.is_none_or(|plain| (signed.weight, signed.closeness) >= (plain.weight, plain.closeness));
    if is_named && is_preferred { AnswerForm::Signed } else { AnswerForm::Plain }
}

/// A media range with its weight in thousandths.
struct Range<'a> {
    name: &'a str,
    weight: u16,
}

/// How much a media type is liked, and by how close a range.
#[derive(Clone, Copy)]
struct Liking {
    closeness: Closeness,
    weight: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Closeness {
    Anything,
    SameKind,
    Exact,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let name = parts.next().filter(|name| name.contains('/'))?;
        let weight = parts.find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim().eq_ignore_ascii_case("q").then(|| weight(value.trim()))
        });
        Some(Self { name, weight: weight.unwrap_or(Some(1000))? })
    }

    fn liking(&self, media_type: &str) -> Option<Liking> {
        let (kind, _) = media_type.split_once('/')?;
        let closeness = match self.name.split_once('/')? {
            ("*", "*") => Closeness::Anything,
            (own, "*") if own.eq_ignore_ascii_case(kind) => Closeness::SameKind,
            _ if self.name.eq_ignore_ascii_case(media_type) => Closeness::Exact,
            _ => return None,
        };
        Some(Liking { closeness, weight: self.weight })
    }
}

/// `0`, `1` or a number between with at most three digits behind the point, in thousandths (RFC 9110 §12.4.2).
fn weight(text: &str) -> Option<u16> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 3 || !part.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let thousandths: u16 = format!("{part:0<3}").parse().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9701_4_the_signed_answer_is_for_whoever_names_and_prefers_it() {
        use AnswerForm::{Plain, Signed};
        for (accept, expected) in [
            (&[][..], Plain),
            (&["*/*"], Plain),
            (&["application/*"], Plain),
            (&["application/json"], Plain),
            (&["text/html"], Plain),
            (&["application/jwt"], Plain),
            (&["application/token-introspection+jwt"], Signed),
            (&["Application/Token-Introspection+JWT"], Signed),
            (&["application/token-introspection+jwt, */*"], Signed),
            (&["*/*, application/token-introspection+jwt"], Signed),
            (&["application/json, application/token-introspection+jwt"], Signed),
            (&["application/json", "application/token-introspection+jwt"], Signed),
            (&["application/json;q=0.9, application/token-introspection+jwt"], Signed),
            (&["application/json, application/token-introspection+jwt;q=0.9"], Plain),
            (&["application/json;q=0.5, application/token-introspection+jwt ; Q=0.501"], Signed),
            (&["application/token-introspection+jwt;q=0"], Plain),
            (&["application/token-introspection+jwt;q=0, */*"], Plain),
            (&["application/token-introspection+jwt;q=x"], Plain),
            (&["application/token-introspection+jwt;q=0.1234"], Plain),
            (&["application/token-introspection+jwt;q=2"], Plain),
            (&["application/token-introspection+jwt;q=1.000"], Signed),
            (&[",;,application/token-introspection+jwt,"], Signed),
            (&["application/token-introspection+jwtx"], Plain),
        ] {
            let mut headers = HeaderMap::new();
            for value in accept {
                headers.append(ACCEPT, value.parse().unwrap());
            }
            assert_eq!(wanted(&headers), expected, "{accept:?}");
        }
    }
}
