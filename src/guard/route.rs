//! Method and path of a request to the route that it takes: the first that fits, and none where a path can be read in two ways.
//!
//! The guard sees the path before the service does. What the two could understand differently would let a request through a
//! door that is guarded less than the one it enters.

use certbind_proto::forwarded::plain;
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

/// The route of a request.
///
/// # Errors
/// [`RouteFault`].
pub fn find<'r>(routes: &'r [Route], method: &str, target: &str) -> Result<&'r Route, RouteFault> {
    // Methods have a case (RFC 9110 §9.1), and some services forget it.
    if method.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(RouteFault::Ambiguous);
    }
    let path = path_of(target)?;
    let has_method = |route: &&Route| route.methods.is_empty() || route.methods.iter().any(|own| own == method);
    let takes = |route: &&Route| has_method(route) && is_below(path, &route.path);
    let route = routes.iter().find(takes).ok_or(RouteFault::Unknown)?;
    // To a service that does not look at case this may be the path of a route that comes first.
    let plain = path.to_ascii_lowercase();
    let is_before = routes.iter().take_while(|other| !std::ptr::eq(*other, route));
    let mut alike = is_before.filter(|other| is_below(&plain, &other.path.to_ascii_lowercase()));
    if alike.any(|other| !is_below(path, &other.path)) { Err(RouteFault::Ambiguous) } else { Ok(route) }
}

/// Sees to it that the connection does not become one of another protocol, in which requests come that nobody asks about.
///
/// # Errors
/// [`RouteFault::Ambiguous`].
pub fn no_tunnel<'a>(method: &str, upgrades: impl IntoIterator<Item = &'a [u8]>) -> Result<(), RouteFault> {
    let is_web_socket = |value: &[u8]| value.eq_ignore_ascii_case(b"websocket");
    let is_plain = method != "CONNECT" && upgrades.into_iter().all(is_web_socket);
    if is_plain { Ok(()) } else { Err(RouteFault::Ambiguous) }
}

/// Whether a path can be the path of a route: one that a request may have, without escapes and wildcards.
#[must_use]
pub fn is_route(path: &str) -> bool {
    path_of(path).is_ok() && !path.contains(['?', '%', '*'])
}

/// Whether every path that lies below the one lies below the other.
#[must_use]
pub fn covers(wide: &str, narrow: &str) -> bool {
    is_below(narrow.trim_end_matches('/'), wide)
}

/// Headers by which some services and frameworks take another path or method than those of the request.
const OVERRIDES: [&str; 9] = [
    "x-envoy-original-path",
    "x-forwarded-path",
    "x-http-method",
    "x-http-method-override",
    "x-http-path-override",
    "x-method-override",
    "x-original-url",
    "x-override-url",
    "x-rewrite-url",
];

/// Sees to it that no header names another path or method, and none passes for what the guard itself will say: a proxy replaces
/// `X-Certbind-Client`, and some services take `X_Certbind_Client` or `X.Certbind.Client` for the same.
///
/// # Errors
/// [`RouteFault::Ambiguous`].
pub fn no_override<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<(), RouteFault> {
    let is_override = |name: &str| {
        let plain = plain(name);
        OVERRIDES.contains(&&*plain) || (name.contains(['_', '.']) && plain.starts_with("x-certbind-"))
    };
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

/// `.` and `..` are steps (RFC 3986 §5.2.4).
fn is_dots(segment: &str) -> bool {
    matches!(segment, "." | "..")
}

/// What may stand in a path (RFC 3986 §3.3), but `;`, behind which some services see parameters and no path.
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
                | b'='
                | b':'
                | b'@'
                | b'%'
        )
}

/// An escape of what needs none (RFC 3986 §2.3), so that two spellings are one path to a service and two to the guard; of what
/// would have been refused without it; and escapes that are none, or of what is no UTF-8: `%c0%af` is a slash to some.
fn hides_something(segment: &str) -> bool {
    // Some services cut blanks off.
    segment.ends_with("%20")
        || !is_text(segment)
        || segment.split('%').skip(1).any(|rest| {
            let byte = rest.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
            byte.is_none_or(|byte| {
                let is_unreserved = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
                is_unreserved || byte.is_ascii_control() || matches!(byte, b'/' | b'\\' | b';' | b'%' | b'?' | b'#')
            })
        })
}

/// Whether a segment spells UTF-8, and nothing in it that NFKC, which some services apply, makes ASCII of: `／` is a slash then.
fn is_text(segment: &str) -> bool {
    let mut bytes = Vec::with_capacity(segment.len());
    for (at, piece) in segment.split('%').enumerate() {
        let escaped = piece.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (at, escaped) {
            (0, _) => bytes.extend_from_slice(piece.as_bytes()),
            (_, Some(byte)) => {
                bytes.push(byte);
                bytes.extend_from_slice(&piece.as_bytes()[2..]);
            }
            (_, None) => return false,
        }
    }
    let becomes_ascii =
        |char| matches!(char, '\u{2024}'..='\u{2026}' | '\u{fe50}'..='\u{fe6f}' | '\u{ff01}'..='\u{ff5e}');
    std::str::from_utf8(&bytes).is_ok_and(|text| !text.contains(becomes_ascii))
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

    /// The route's number.
    fn found(routes: &[Route], method: &str, target: &str) -> Result<usize, RouteFault> {
        let route = find(routes, method, target)?;
        Ok(routes.iter().position(|own| std::ptr::eq(own, route)).unwrap())
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
            ("POST", "/refunds", Err(RouteFault::Unknown)),
            ("POST", "/refunds/now/7", Ok(2)),
            ("POST", "/Refunds/now", Err(RouteFault::Unknown)),
            ("TRACE", "/", Ok(3)),
            ("TRACE", "/anything/at/all,v=1", Ok(3)),
        ] {
            assert_eq!(found(&routes, method, target), expected, "{method} {target}");
        }
        assert_eq!(find(&[], "GET", "/").err(), Some(RouteFault::Unknown));
    }

    #[test]
    fn attack_38_a_path_or_method_that_a_service_could_read_otherwise_takes_no_route() {
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
            "/a;x=1",
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
            "/%61dmin",
            "/adm%69n",
            "/a%2Db",
            "/a%3Fb",
            "/a%23b",
            "/a%20",
            "/%c0%ae%c0%ae/b",
            "/a%c0%afb",
            "/a%e0%80%afb",
            "/a%ff",
            "/a%c3",
            "/a%EF%BC%8Fb",
            "/%ef%bc%8e%ef%bc%8e/b",
            "/%e2%80%a5/b",
            "/a b",
            "/a#b",
            "/ä",
            "/a\"b",
            "/a{b",
            "/a\u{7f}",
        ] {
            assert_eq!(find(&routes, "GET", target).err(), Some(RouteFault::Ambiguous), "{target:?}");
        }
        for target in ["/", "/a/", "/a?b//c", "/%c3%a4", "/%ef%bd%b1%f0%9f%98%80x", "/...", "/a:b@c", "/~a"] {
            assert!(find(&routes, "GET", target).is_ok(), "{target:?}");
        }
        for method in ["get", "Delete", "dELETE"] {
            assert_eq!(find(&routes, method, "/").err(), Some(RouteFault::Ambiguous), "{method}");
        }
    }

    #[test]
    fn attack_38_a_path_that_differs_by_case_from_a_route_that_comes_first_takes_none_behind_it() {
        let routes = [route(&[], "/admin"), route(&[], "/")];
        for (target, expected) in [
            ("/admin/x", Ok(0)),
            ("/Admin/x", Err(RouteFault::Ambiguous)),
            ("/ADMIN", Err(RouteFault::Ambiguous)),
            ("/Administration", Ok(1)),
            ("/payments/Admin", Ok(1)),
        ] {
            assert_eq!(found(&routes, "GET", target), expected, "{target}");
        }
    }

    #[test]
    fn attack_38_a_header_that_names_another_path_or_method_takes_no_route() {
        for name in [
            "X-Original-URL",
            "x-rewrite-url",
            "X_Http_Method_Override",
            "x-envoy-original-path",
            "X-Override-Url",
            "X-HTTP-Path-Override",
            "x-forwarded-path",
            "X_Certbind_Client",
            "x-certbind_scope",
            "X.Certbind.Client",
        ] {
            assert_eq!(no_override(["accept", name]), Err(RouteFault::Ambiguous), "{name}");
        }
        assert_eq!(no_override(["accept", "x-original-uri", "x-forwarded-uri", "x-certbind-client"]), Ok(()));
    }

    #[test]
    fn attack_38_no_tunnel_is_opened_past_the_guard() {
        for (method, upgrade, expected) in [
            ("GET", None, Ok(())),
            ("GET", Some("websocket"), Ok(())),
            ("GET", Some("h2c"), Err(RouteFault::Ambiguous)),
            ("GET", Some("websocket, h2c"), Err(RouteFault::Ambiguous)),
            ("CONNECT", None, Err(RouteFault::Ambiguous)),
        ] {
            assert_eq!(no_tunnel(method, upgrade.map(str::as_bytes)), expected, "{method} {upgrade:?}");
        }
    }

    #[test]
    fn a_route_is_a_path_that_a_request_may_have() {
        for path in ["/", "/payments", "/payments/", "/a-b/c.d/~e"] {
            assert!(is_route(path), "{path}");
        }
        for path in ["", "payments", "/admin/*", "/users/{id}", "/a/../b", "/a//b", "/ad min", "/a%20b", "/a;b", "/a?b"]
        {
            assert!(!is_route(path), "{path}");
        }
        assert!(covers("/", "/payments") && covers("/payments", "/payments/admin/") && covers("/a/", "/a"));
        assert!(!covers("/payments", "/") && !covers("/payments", "/paymentsx"));
    }

    proptest! {
        /// Whoever decodes a path once, or does not look at case, comes to the same route.
        #[test]
        fn attack_38_no_spelling_takes_another_route_than_the_path_that_it_spells(
            target in "/([aAb./;]|%61|%41|%2e|%2f|%62){0,8}",
        ) {
            let routes = [route(&[], "/a"), route(&[], "/b/a"), route(&[], "/")];
            if let Ok(raw) = found(&routes, "GET", &target) {
                let decoded = target.replace("%61", "a").replace("%41", "A").replace("%2e", ".").replace("%2f", "/").replace("%62", "b");
                prop_assert_eq!(found(&routes, "GET", &decoded), Ok(raw));
                prop_assert_eq!(found(&routes, "GET", &decoded.to_ascii_lowercase()), Ok(raw));
            }
        }
    }
}
