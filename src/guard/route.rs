//! Method and path of a request to the route that it takes: the first that fits, and none where a path can be read in two ways.
//!
//! The guard sees the path before the service does. What the two could understand differently would let a request through a
//! door that is guarded less than the one it enters.

use certbind_verify::Demand;

/// What a route demands of the requests that take it.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its methods; none for every method.
    pub methods: Vec<String>,
    /// The path, with all that lies below it. `/` is everything.
    pub path: String,
    /// What a token must be.
    pub demand: Demand,
}

/// Why a request takes no route. It is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteFault {
    /// The path can be read in two ways.
    #[error("the path can be read in two ways")]
    Ambiguous,
    /// No route has this method and path.
    #[error("no route has this method and path")]
    Unknown,
}

impl RouteFault {
    /// The stable name for audit and metrics.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Ambiguous => "route_ambiguous",
            Self::Unknown => "route_unknown",
        }
    }
}

/// The route of a request, by its number.
///
/// # Errors
/// [`RouteFault`].
pub fn find<'r>(routes: &'r [Route], method: &str, target: &str) -> Result<(usize, &'r Route), RouteFault> {
    let path = path_of(target)?;
    let takes = |route: &&Route| {
        (route.methods.is_empty() || route.methods.iter().any(|own| own == method)) && is_below(path, &route.path)
    };
    routes.iter().enumerate().find(|(_, route)| takes(route)).ok_or(RouteFault::Unknown)
}

/// Headers by which some services and frameworks take another path or method than those of the request.
const OVERRIDES: [&str; 6] = [
    "x-envoy-original-path",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
];

/// Sees to it that no header names another path or method.
///
/// # Errors
/// [`RouteFault::Ambiguous`].
pub fn no_override<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<(), RouteFault> {
    let is_override = |name: &str| OVERRIDES.contains(&name.to_ascii_lowercase().replace('_', "-").as_str());
    if names.into_iter().any(is_override) { Err(RouteFault::Ambiguous) } else { Ok(()) }
}

/// Whether a path is one or lies below it, segment by segment.
fn is_below(path: &str, route: &str) -> bool {
    let route = route.trim_end_matches('/');
    path.strip_prefix(route).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The path of a request target in origin-form (RFC 9112 §3.2.1).
fn path_of(target: &str) -> Result<&str, RouteFault> {
    let path = target.split('?').next().unwrap_or_default();
    let segments = path.strip_prefix('/').ok_or(RouteFault::Ambiguous)?;
    let mut segments = segments.split('/').peekable();
    while let Some(segment) = segments.next() {
        // `//` is one slash to some, and a trailing slash is nothing new.
        let is_empty = segment.is_empty() && segments.peek().is_some();
        if is_empty || is_dots(segment) || !segment.bytes().all(is_plain) || hides_something(segment) {
            return Err(RouteFault::Ambiguous);
        }
    }
    Ok(path)
}

/// `.` and `..` are steps (RFC 3986 §5.2.4); with parameters behind them they are to some.
fn is_dots(segment: &str) -> bool {
    matches!(segment.split(';').next(), Some("." | ".."))
}

/// What may stand in a path (RFC 3986 §3.3).
const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
                | b':'
                | b'@'
                | b'%'
        )
}

/// An escape of what would have been refused or read otherwise without it: slashes, dots, `;`, `%`, control characters, and what no
/// escape needs. And an escape that is none.
fn hides_something(segment: &str) -> bool {
    segment.split('%').skip(1).any(|rest| {
        let byte = rest.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        byte.is_none_or(|byte| byte.is_ascii_control() || matches!(byte, b'/' | b'\\' | b'.' | b';' | b'%'))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn route(methods: &[&str], path: &str) -> Route {
        Route {
            methods: methods.iter().map(|method| (*method).to_owned()).collect(),
            path: path.to_owned(),
            demand: Demand::default(),
        }
    }

    #[test]
    fn the_first_route_that_fits_is_taken_and_without_one_nothing_passes() {
        let routes = [
            route(&["GET", "HEAD"], "/payments"),
            route(&[], "/payments/"),
            route(&["POST"], "/refunds/now"),
            route(&["TRACE"], "/"),
        ];
        for (method, target, expected) in [
            ("GET", "/payments", Ok(0)),
            ("HEAD", "/payments/7?x=/..", Ok(0)),
            ("POST", "/payments/7", Ok(1)),
            ("POST", "/payments", Ok(1)),
            ("POST", "/payments/", Ok(1)),
            ("POST", "/paymentsx", Err(RouteFault::Unknown)),
            ("get", "/other", Err(RouteFault::Unknown)),
            ("POST", "/refunds", Err(RouteFault::Unknown)),
            ("POST", "/refunds/now/7", Ok(2)),
            ("POST", "/Refunds/now", Err(RouteFault::Unknown)),
            ("TRACE", "/", Ok(3)),
            ("TRACE", "/anything/at/all;v=1", Ok(3)),
        ] {
            assert_eq!(find(&routes, method, target).map(|(number, _)| number), expected, "{method} {target}");
        }
        assert_eq!(find(&[], "GET", "/").err(), Some(RouteFault::Unknown));
    }

    #[test]
    fn attack_38_a_path_that_a_service_could_read_otherwise_takes_no_route() {
        let routes = [route(&[], "/")];
        for target in [
            "",
            "*",
            "payments",
            "https://api.example.com/payments",
            "//payments",
            "/a//b",
            "/./a",
            "/a/..",
            "/a/../b",
            "/a/..;x/b",
            "/a/.;/b",
            "/a/%2e%2e/b",
            "/a/.%2E/b",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "/a%252e",
            "/a%00",
            "/a%0d%0ab",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a%3bx",
            "/a b",
            "/a#b",
            "/ä",
            "/a\"b",
            "/a{b",
            "/a\u{7f}",
        ] {
            assert_eq!(find(&routes, "GET", target).err(), Some(RouteFault::Ambiguous), "{target:?}");
        }
        for target in ["/", "/a/", "/a?b//c", "/%c3%a4", "/a%20b", "/...", "/a:b@c", "/~a"] {
            assert!(find(&routes, "GET", target).is_ok(), "{target:?}");
        }
    }

    #[test]
    fn attack_38_a_header_that_names_another_path_or_method_takes_no_route() {
        for name in ["X-Original-URL", "x-rewrite-url", "X_Http_Method_Override", "x-envoy-original-path"] {
            assert_eq!(no_override(["accept", name]), Err(RouteFault::Ambiguous), "{name}");
        }
        assert_eq!(no_override(["accept", "x-original-uri", "x-forwarded-uri"]), Ok(()));
    }

    proptest! {
        #[test]
        fn no_target_takes_the_route_of_another_path(target in "[/a-c.%25;]{0,24}") {
            let routes = [route(&[], "/a/b")];
            if find(&routes, "GET", &target).is_ok() {
                prop_assert!(target == "/a/b" || target.starts_with("/a/b/"));
                prop_assert!(target.split('/').all(|segment| segment != ".."), "{target}");
            }
        }
    }
}
