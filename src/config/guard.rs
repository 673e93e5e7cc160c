//! The configuration of `certbind guard`: a file of its own, read by the same rules as the server's.

use std::time::Duration;

use certbind_proto::forwarded::{Format, Forwarding};
use certbind_proto::scope::Scope;
use certbind_proto::time::Timestamp;
use rustls_pki_types::CertificateDer;

use super::check::Draft;
use super::checker::Checker;
use super::fault::{Concern, Fault};
use super::keys::{Fallback, Key, Kind, Schema, key, seconds};
use super::load::Loader;
use super::origin::Sources;
use super::proxy::{ProxyFiles, ProxyListener};
use super::raw::RawConfig;
use super::reference::Reference;
use super::settings::{Audit, LogFormat, LogLevel, OpsListener};
use super::show::Effective;
use super::url::Issuer;
use super::value::shown;
use super::{Rejected, collected};
use crate::guard::route::{covers, is_route};

/// What the guard asks a proxy to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardMode {
    /// nginx' `auth_request`.
    AuthRequest,
    /// Envoy's `ext_authz`, over gRPC.
    ExtAuthz,
    /// `forwardAuth` of Traefik and Caddy.
    ForwardAuth,
}

impl GuardMode {
    const NAMES: &'static [&'static str] = &["auth-request", "ext-authz", "forward-auth"];

    fn named(text: &str) -> Option<Self> {
        match text {
            "auth-request" => Some(Self::AuthRequest),
            "ext-authz" => Some(Self::ExtAuthz),
            "forward-auth" => Some(Self::ForwardAuth),
            _ => None,
        }
    }
}

/// Where the client's certificate stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateFrom {
    /// In what Envoy says of its connection.
    Envoy,
    /// In a header.
    Header(Forwarding),
}

/// The finished values.
#[derive(Clone, Debug)]
pub struct GuardConfig {
    /// The one issuer whose tokens are good.
    pub issuer: Issuer,
    /// Who may vouch for its host; without one, the authorities of the system.
    pub ca: Option<Reference>,
    /// How far the issuer's clock may be off.
    pub clock_skew: Duration,
    /// How long the issuer's keys serve while it cannot be reached.
    pub offline: Duration,
    /// How many bytes tokens are remembered in.
    pub memory_bytes: usize,
    /// Where proxies ask.
    pub listen: ProxyListener,
    /// What a proxy asks.
    pub mode: GuardMode,
    /// Where the client's certificate stands.
    pub certificate_from: CertificateFrom,
    /// The operator's own listener.
    pub ops: Option<OpsListener>,
    /// How it is learnt what was revoked.
    pub revocation: GuardRevocation,
    /// What each route demands; one at least.
    pub routes: Vec<GuardRoute>,
    /// Bounds on connections.
    pub limits: GuardLimits,
    /// How the log is written.
    pub log: GuardLog,
}

/// How it is learnt what was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardRevocation {
    /// Between two polls of the issuer's list.
    pub poll: Duration,
    /// How old the list may be.
    pub max_age: Duration,
    /// Whether every token is denied when it is older.
    pub is_denied_when_stale: bool,
}

/// What a route demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardRoute {
    /// Its methods; none for all.
    pub methods: Vec<String>,
    /// Its path, with all below it.
    pub path: String,
    /// The resource that its tokens are for.
    pub audience: String,
    /// The scope that they must have.
    pub scope: Scope,
    /// Whether they must be bound.
    pub is_binding_required: bool,
    /// How old they may be.
    pub max_age: Option<Duration>,
}

/// Bounds on connections of proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardLimits {
    /// How many are open at once.
    pub connections: usize,
    /// From the accepted connection to the end of the handshake.
    pub handshake_timeout: Duration,
    /// From the first byte of a question to the end of its head.
    pub header_timeout: Duration,
    /// From one question to the next.
    pub idle_timeout: Duration,
    /// From the signal to stop to the end of the last question.
    pub drain_timeout: Duration,
}

/// How the log is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardLog {
    /// How a line looks.
    pub format: LogFormat,
    /// The least that is written.
    pub level: LogLevel,
    /// Where denials go.
    pub audit: Audit,
}

/// What stands in the files that the configuration names.
#[derive(Debug)]
pub struct GuardFiles {
    /// The authorities that may vouch for the issuer, when a file names them.
    pub roots: Vec<CertificateDer<'static>>,
    /// What its listener works with.
    pub proxy: ProxyFiles,
}

/// A guard's configuration that may be used, with its files.
#[derive(Debug)]
pub struct GuardOpened {
    /// The finished values.
    pub config: GuardConfig,
    /// What stands in the files.
    pub files: GuardFiles,
    /// What is odd about it, as text.
    pub warnings: Vec<String>,
    /// Each value that holds, and where it comes from.
    pub effective: Effective,
}

/// Checks a guard's configuration and reads the files that it names.
///
/// # Errors
/// Everything that is wrong.
pub fn open_guard(sources: &Sources, now: Timestamp) -> Result<GuardOpened, Rejected> {
    let (raw, complaints) = RawConfig::read(sources, &GUARD);
    let mut checker = Checker { raw: &raw, draft: Draft::default() };
    let config = checker.guard();
    let mut draft = checker.draft;
    let named = std::mem::take(&mut draft.named);
    let mut loader = Loader { raw: &raw, draft: &mut draft, environment: &sources.environment, now };
    loader.folders(&named);
    let files = config.as_ref().and_then(|config| loader.guard(config));
    let rejected = collected(complaints, draft);
    match (config, files) {
        (Some(config), Some(files)) if rejected.complaints.is_empty() => Ok(GuardOpened {
            config,
            files,
            warnings: rejected.warnings.iter().map(ToString::to_string).collect(),
            effective: Effective::of(&raw, |_| None),
        }),
        _ => Err(rejected),
    }
}

impl Loader<'_> {
    fn guard(&mut self, config: &GuardConfig) -> Option<GuardFiles> {
        let roots = config.ca.as_ref().map_or(Some(Vec::new()), |ca| self.roots("ca", ca));
        let proxy = self.proxy(LISTEN, &config.listen);
        Some(GuardFiles { roots: roots?, proxy: proxy? })
    }
}

pub(super) const LISTEN: &str = "listen";

impl Checker<'_> {
    fn guard(&mut self) -> Option<GuardConfig> {
        let issuer = self.parsed("issuer", |text| Issuer::parse(text).map_err(Fault::Url));
        let ca = self.derived("ca", Some(None), |checker, path| checker.reference(path).map(Some));
        let clock_skew = self.duration("clock_skew");
        let offline = self.duration("offline");
        let memory_bytes = self.size("memory_bytes");
        let mode = self.word("listen.mode", GuardMode::named);
        let certificate_from = self.certificate_from(mode);
        let listen = self.proxy_listener(LISTEN);
        let ops = self.optional("listen.ops", Self::ops);
        let revocation = self.guard_revocation();
        let routes = self.each("route", Self::route);
        if self.raw.rows("route") == 0 {
            self.complain("route", Fault::NoRoute);
        }
        if let Some(routes) = &routes {
            self.check_routes(routes);
        }
        let (limits, log) = (self.guard_limits(), self.guard_log());
        Some(GuardConfig {
            issuer: issuer?,
            ca: ca?,
            clock_skew: clock_skew?,
            offline: offline?,
            memory_bytes: memory_bytes?,
            listen: listen?,
            mode: mode?,
            certificate_from: certificate_from?,
            ops: ops?,
            revocation: revocation?,
            routes: routes?,
            limits: limits?,
            log: log?,
        })
    }

    /// One format, and for Envoy alone what it says by itself.
    fn certificate_from(&mut self, mode: Option<GuardMode>) -> Option<CertificateFrom> {
        let relayed = self.boolean("listen.certificate_relayed") == Some(true);
        let word =
            self.word("listen.certificate_from", |text| CERTIFICATE_FROM.iter().copied().find(|own| *own == text))?;
        let Some(format) = Format::named(word) else {
            if mode.is_some_and(|mode| mode != GuardMode::ExtAuthz) {
                self.complain("listen.certificate_from", Fault::NeedsOther { other: "listen.mode = \"ext-authz\"" });
            }
            if self.raw.value("listen.certificate_header").is_some() {
                self.complain("listen.certificate_header", Fault::HeaderFixed);
            }
            return Some(CertificateFrom::Envoy);
        };
        self.check_who_sets_it(format, mode, relayed);
        self.forwarding("listen.certificate_header", format).map(CertificateFrom::Header)
    }

    /// A header that the proxy does not set itself is whatever its client sends, unless a proxy before it sees to that.
    fn check_who_sets_it(&mut self, format: Format, mode: Option<GuardMode>, relayed: bool) {
        let is_its_own = match mode {
            Some(GuardMode::AuthRequest) => format == Format::Nginx,
            Some(GuardMode::ForwardAuth) => matches!(format, Format::Traefik | Format::Haproxy),
            Some(GuardMode::ExtAuthz) => false,
            None => return,
        };
        match (is_its_own, relayed) {
            (true, _) => {}
            (false, true) => self.warn("listen.certificate_relayed", Concern::CertificateRelayed),
            (false, false) => self.complain("listen.certificate_from", Fault::NotSetByThisProxy),
        }
    }

    fn guard_revocation(&mut self) -> Option<GuardRevocation> {
        let (poll, max_age) = (self.duration("revocation.poll"), self.duration("revocation.max_age"));
        let stale = self.word("revocation.when_stale", |text| match text {
            "deny" => Some(true),
            "accept" => Some(false),
            _ => None,
        });
        if let (Some(poll), Some(max_age)) = (poll, max_age)
            && max_age < 2 * poll + ISSUER_RENEWS
        {
            self.complain(
                "revocation.max_age",
                Fault::NeedsOther { other: "two minutes more than twice revocation.poll" },
            );
        }
        if stale == Some(false) {
            self.warn("revocation.when_stale", Concern::StaleAccepted);
        }
        Some(GuardRevocation { poll: poll?, max_age: max_age?, is_denied_when_stale: stale? })
    }

    fn route(&mut self, table: &str) -> Option<GuardRoute> {
        let at = |key: &str| format!("{table}.{key}");
        let methods = self.texts(&at("methods"));
        if self.raw.value(&at("methods")).is_some() && methods.as_ref().is_some_and(Vec::is_empty) {
            self.complain(&at("methods"), Fault::Empty);
        }
        if let Some(method) = methods.iter().flatten().find(|method| !is_method(method)) {
            self.complain(&at("methods"), Fault::NotAMethod { value: shown(method) });
        }
        let path = self.parsed(&at("path"), |text| match is_route(text) {
            true => Ok(text.to_owned()),
            false => Err(Fault::NotARoute { value: shown(text) }),
        });
        let audience = self.parsed(&at("audience"), |text| {
            text.parse::<certbind_proto::resource::Resource>()
                .map_err(Fault::Resource)
                .map(|own| own.as_str().to_owned())
        });
        let scope = self.parsed(&at("scope"), |text| text.parse().map_err(Fault::Scope));
        let binding = self.word(&at("binding"), |text| match text {
            "required" => Some(true),
            "optional" => Some(false),
            _ => None,
        });
        if binding == Some(false) {
            self.warn(&at("binding"), Concern::UnboundTokens);
        }
        let max_age = self.duration_or_off(&at("max_age"));
        Some(GuardRoute {
            methods: methods?,
            path: path?,
            audience: audience?,
            scope: scope?,
            is_binding_required: binding?,
            max_age: max_age?,
        })
    }

    /// A route that an earlier one covers is taken by no request.
    fn check_routes(&mut self, routes: &[GuardRoute]) {
        for (number, route) in routes.iter().enumerate() {
            let covers_methods = |wide: &GuardRoute| {
                wide.methods.is_empty()
                    || (!route.methods.is_empty() && route.methods.iter().all(|method| wide.methods.contains(method)))
            };
            let mut earlier = routes.iter().take(number);
            if let Some(by) = earlier.position(|wide| covers_methods(wide) && covers(&wide.path, &route.path)) {
                self.complain(&format!("route.{number}.path"), Fault::RouteCovered { by });
            }
        }
    }

    fn guard_limits(&mut self) -> Option<GuardLimits> {
        let connections = self.size("limits.connections");
        let handshake_timeout = self.duration("limits.handshake_timeout");
        let header_timeout = self.duration("limits.header_timeout");
        let idle_timeout = self.duration("limits.idle_timeout");
        let drain_timeout = self.duration("limits.drain_timeout");
        Some(GuardLimits {
            connections: connections?,
            handshake_timeout: handshake_timeout?,
            header_timeout: header_timeout?,
            idle_timeout: idle_timeout?,
            drain_timeout: drain_timeout?,
        })
    }

    fn guard_log(&mut self) -> Option<GuardLog> {
        let format = self.word("log.format", LogFormat::named);
        let level = self.word("log.level", LogLevel::named);
        Some(GuardLog { format: format?, level: level?, audit: self.audit_target()? })
    }
}

/// The methods that there are (RFC 9110 §9.3, RFC 5789). A route with another one would be taken by no request.
const METHODS: [&str; 8] = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

fn is_method(text: &str) -> bool {
    METHODS.contains(&text)
}

/// How often an issuer renews its list when nothing happens, with room for the way.
const ISSUER_RENEWS: Duration = Duration::from_secs(90);

/// What `listen.certificate_from` of a guard may be.
pub const CERTIFICATE_FROM: &[&str] = &["alb", "envoy", "haproxy", "nginx", "rfc9440", "traefik", "xfcc"];

/// The configuration of the guard.
pub static GUARD: Schema =
    Schema { title: "guard.toml", keys: GUARD_KEYS, live: GUARD_LIVE, optional_tables: &["listen.ops"] };

/// What a running guard takes: these keys, and all below those that end with a dot.
const GUARD_LIVE: &[&str] = &["limits.", "log.level", "route."];

use Fallback::{Derived, Is, Required};

/// What holds when a key of one kind of listener is not there.
const OF_TLS: Fallback = Derived("required where the address is no Unix socket");
const ONE_NAME: Fallback = Derived("exactly one of the five names is required");

/// Every key of a guard's file, in the order in which it shows them.
const GUARD_KEYS: &[Key] = &[
    key("issuer", Kind::Issuer, Required, "the one issuer whose tokens are good, as it stands in them"),
    key("ca", Kind::Reference, Derived("the authorities of the system"), "who may vouch for the issuer's host"),
    key("clock_skew", seconds(0, 60), Is("30s"), "how far the issuer's clock may be off"),
    key(
        "offline",
        seconds(60, 7 * 86_400),
        Is("24h"),
        "how long the issuer's keys serve while it cannot be reached; after that everything is denied",
    ),
    key(
        "memory_bytes",
        Kind::Integer(1 << 20, 1 << 32),
        Is("67108864"),
        "how many bytes may be used to remember tokens whose signature was found good",
    ),
    key(
        "listen.address",
        Kind::AdminAddress,
        Required,
        "where the proxy asks: a Unix socket, or an address that speaks mutual TLS",
    ),
    key("listen.mode", Kind::Choice(GuardMode::NAMES), Required, "how the proxy asks"),
    key(
        "listen.certificate_from",
        Kind::Choice(CERTIFICATE_FROM),
        Required,
        "how the proxy forwards the certificate of its client; every other header that claims to is refused",
    ),
    key(
        "listen.certificate_relayed",
        Kind::Boolean,
        Is("false"),
        "whether a proxy before the one that asks has set that header, and sees to it that no client can; nothing here can tell",
    ),
    key(
        "listen.certificate_header",
        Kind::Name,
        Derived("the usual one of the format"),
        "in which header, where the format leaves that to the operator: `nginx` and `haproxy`",
    ),
    key("listen.users", Kind::Texts, Is(""), "who may ask over the Unix socket beside the guard's own user and root"),
    key("listen.cert", Kind::Reference, OF_TLS, "the guard's certificate with its chain, in PEM"),
    key("listen.key", Kind::Reference, OF_TLS, "its private key, in PEM"),
    key("listen.ca", Kind::Reference, OF_TLS, "who may vouch for proxies"),
    key("listen.crl", Kind::References, Derived("none"), "their revocation lists"),
    key("listen.allow.N.san_uri", Kind::Subject, ONE_NAME, "a proxy's name: a URI of its certificate"),
    key("listen.allow.N.san_dns", Kind::Subject, ONE_NAME, "a DNS name"),
    key("listen.allow.N.san_ip", Kind::Subject, ONE_NAME, "an IP address"),
    key("listen.allow.N.san_email", Kind::Subject, ONE_NAME, "an e-mail address"),
    key("listen.allow.N.subject_dn", Kind::Subject, ONE_NAME, "the subject, as RFC 4514 writes it"),
    key("listen.ops.address", Kind::Address, Required, "where /metrics, /livez and /readyz are"),
    key(
        "listen.ops.allow_non_loopback",
        Kind::Boolean,
        Is("false"),
        "whether that may be an address that other machines reach",
    ),
    key("revocation.poll", seconds(1, 300), Is("10s"), "how often the issuer's list of what is revoked is looked at"),
    key(
        "revocation.max_age",
        seconds(120, 86_400),
        Is("10m"),
        "how old that list may be; an issuer renews it once a minute when nothing happens",
    ),
    key(
        "revocation.when_stale",
        Kind::Choice(&["deny", "accept"]),
        Is("deny"),
        "what happens while it is older: every token is denied, or those are good that are not known to be revoked",
    ),
    key("route.N.path", Kind::Route, Required, "a path, with all that lies below it; the first route that fits counts"),
    key("route.N.methods", Kind::Texts, Is(""), "the methods of the route; left out: all"),
    key("route.N.audience", Kind::Resource, Required, "the resource that a token must be for (RFC 9068 §4)"),
    key("route.N.scope", Kind::Scope, Is(""), "what a token must allow, each part of it"),
    key(
        "route.N.binding",
        Kind::Choice(&["required", "optional"]),
        Is("required"),
        "whether a token that is bound to no certificate passes; one that is bound needs its certificate in any case",
    ),
    key(
        "route.N.max_age",
        Kind::DurationOrOff(Duration::from_secs(1), Duration::from_secs(86_400)),
        Is("off"),
        "how long ago a token may have been made",
    ),
    key(
        "limits.connections",
        Kind::Integer(1, 1_000_000),
        Is("10000"),
        "how many connections of proxies are open at once",
    ),
    key("limits.handshake_timeout", seconds(1, 60), Is("10s"), "how long a TLS handshake may take"),
    key("limits.header_timeout", seconds(1, 60), Is("10s"), "how long the head of a question may take to arrive"),
    key("limits.idle_timeout", seconds(1, 86_400), Is("1h"), "how long a connection may stay open without a question"),
    key(
        "limits.drain_timeout",
        seconds(0, 600),
        Is("10s"),
        "how long open questions may take to end when the guard stops",
    ),
    key("log.format", Kind::Choice(LogFormat::NAMES), Is("json"), "how the log is written to standard error"),
    key("log.level", Kind::Choice(LogLevel::NAMES), Is("info"), "the least that is worth a line in the log"),
    key("log.audit", Kind::Audit, Is("log"), "where denials go: `log`, or `file:PATH`, in a hash chain"),
];
