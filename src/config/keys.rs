//! Every key of the configuration, once: its path, what may stand there, what holds when nothing stands there, and what it means.
//!
//! The reader of files, the overlays, `config show`, `config schema` and `docs/configuration.md` are all made from this table,
//! so that none of them can know a key that the others do not know.

use std::fmt;
use std::time::Duration;

use super::settings::{
    AdminRole, ClientCertificate, CrlStale, LogFormat, LogLevel, MinTls, Profile, Replicas, StorageEngine,
    TokenAlgorithm, TokenBinding,
};
use super::value::show_duration;

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its dotted path. `N` stands for the number of a table of an array: `trust.N.name`.
    pub path: &'static str,
    /// What may stand there.
    pub kind: Kind,
    /// What holds when nothing stands there.
    pub fallback: Fallback,
    /// What it means, in one sentence.
    pub meaning: &'static str,
}

/// What may stand at a key.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// An IP address with a port.
    Address,
    /// A Unix socket (`unix:PATH`), or an IP address with a port.
    AdminAddress,
    /// Where audit events go: `log` or `file:PATH`.
    Audit,
    /// `true` or `false`.
    Boolean,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A number with a unit, between two bounds.
    Duration(Duration, Duration),
    /// The same, or `off`.
    DurationOrOff(Duration, Duration),
    /// A whole number, between two bounds.
    Integer(i64, i64),
    /// The issuer identifier (RFC 8414 §2).
    Issuer,
    /// `auto`, or the keys of a PKCS#11 token.
    KeySource,
    /// A name that clients' files use.
    Name,
    /// A path of the file system.
    Path,
    /// So many in a time, or `off`.
    Rate,
    /// Where a file or a secret is found: `file:`, `env:` or `cred:`.
    Reference,
    /// Several of these.
    References,
    /// A resource indicator (RFC 8707 §2).
    Resource,
    /// A path of a route.
    Route,
    /// Scope tokens (RFC 6749 §3.3).
    Scope,
    /// A name that a certificate has.
    Subject,
    /// Several texts.
    Texts,
    /// `https://host` or `https://host:port`.
    WebOrigin,
}

/// What holds when a key is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// It follows from other keys, as these words say.
    Derived(&'static str),
    /// This value, spelt as in an environment variable.
    Is(&'static str),
    /// Nothing: the key has to be there.
    Required,
}

/// What a path names.
#[derive(Clone, Copy, Debug)]
pub(super) enum Node {
    Key(&'static Key),
    Rows,
    Table,
}

/// The keys of one kind of file.
#[derive(Debug)]
pub struct Schema {
    /// How such a file is usually called.
    pub title: &'static str,
    /// Every key, in the order in which a file shows them.
    pub keys: &'static [Key],
    /// What may change while the process runs; a new value of any other key needs a restart.
    pub(super) live: &'static [&'static str],
    /// Tables that may be left out whole, with all that would be required in them.
    pub(super) optional_tables: &'static [&'static str],
}

/// The configuration of the server.
pub static SERVER: Schema = Schema {
    title: "certbind.toml",
    keys: KEYS,
    live: &[
        "assertions.clock_skew",
        "assertions.max_lifetime",
        "keys.rotate_every",
        "limits.",
        "listen.admin.allow.N.",
        "log.level",
        "resource.N.",
        "tokens.bound",
        "tokens.cap_at_certificate_expiry",
        "tokens.lifetime",
        "trust.N.",
    ],
    optional_tables: &["listen.mtls", "listen.proxy", "listen.public", "listen.ops", "listen.admin"],
};

use Fallback::{Derived, Is, Required};

/// The formats in which a proxy forwards a certificate by a header.
const FORMATS: &[&str] = &["alb", "haproxy", "nginx", "rfc9440", "traefik", "xfcc"];

/// Every key, in the order in which a file shows them.
pub const KEYS: &[Key] = &[
    key(
        "issuer",
        Kind::Issuer,
        Required,
        "the issuer identifier of RFC 8414 §2, used exactly as typed in tokens, metadata and audiences",
    ),
    key(
        "data_dir",
        Kind::Path,
        Is("/var/lib/certbind"),
        "the folder of the store and of the signing keys; only its owner should be able to look into it",
    ),
    key(
        "profile",
        Kind::Choice(Profile::NAMES),
        Is("default"),
        "`fapi2` narrows algorithms, cipher suites and audiences to those of the FAPI 2.0 Security Profile and binds every token",
    ),
    key(
        "listen.mtls.address",
        Kind::Address,
        Is("[::]:8443"),
        "where the listener that asks for a client certificate waits; port 0 picks a free port",
    ),
    key(
        "listen.mtls.public_url",
        Kind::WebOrigin,
        Derived("the origin of `issuer`; required beside `[listen.public]`"),
        "what clients call this listener; with `[listen.public]` it stands in `mtls_endpoint_aliases` (RFC 8705 §5)",
    ),
    key(
        "listen.mtls.cert",
        Kind::Reference,
        Required,
        "the server's certificate and its intermediates, PEM, the server's own first",
    ),
    key(
        "listen.mtls.key",
        Kind::Reference,
        Required,
        "the private key of that certificate, PEM; a file that others can read is refused",
    ),
    key(
        "listen.mtls.min_tls",
        Kind::Choice(MinTls::NAMES),
        Is("1.2"),
        "the oldest TLS version that is spoken, with proxies and administrators as well; `1.3` switches 1.2 off (RFC 9852)",
    ),
    key(
        "listen.mtls.client_certificate",
        Kind::Choice(ClientCertificate::NAMES),
        Is("optional"),
        "`required` refuses the handshake of a client without certificate instead of answering with an OAuth error",
    ),
    key(
        "listen.mtls.resumption",
        Kind::Boolean,
        Is("false"),
        "whether a TLS session may be resumed; its certificate is checked anew with each request all the same",
    ),
    key(
        "listen.proxy.address",
        Kind::AdminAddress,
        Required,
        "where a proxy comes that ends the TLS of clients: a Unix socket, or an address that speaks mutual TLS",
    ),
    key(
        "listen.proxy.public_url",
        Kind::WebOrigin,
        Derived("the origin of `issuer`; required beside `[listen.public]`"),
        "what clients call the proxy; it stands in the metadata in the place of `listen.mtls.public_url`",
    ),
    key(
        "listen.proxy.certificate_from",
        Kind::Choice(FORMATS),
        Required,
        "how the proxy forwards the certificate of its client; every other header that claims to is refused",
    ),
    key(
        "listen.proxy.certificate_header",
        Kind::Name,
        Derived("the usual one of the format"),
        "in which header, where the format leaves that to the operator: `nginx` and `haproxy`",
    ),
    key(
        "listen.proxy.users",
        Kind::Texts,
        Is(""),
        "who may come over the Unix socket beside the server's own user and root",
    ),
    key("listen.proxy.cert", Kind::Reference, Derived("required with an address"), "as `listen.mtls.cert`"),
    key("listen.proxy.key", Kind::Reference, Derived("required with an address"), "as `listen.mtls.key`"),
    key(
        "listen.proxy.ca",
        Kind::Reference,
        Derived("required with an address"),
        "the anchors of proxies: CA certificates, PEM or DER; those of `[[trust]]` do not count here, nor the system's",
    ),
    key(
        "listen.proxy.crl",
        Kind::References,
        Derived("none"),
        "their revocation lists, PEM or DER; past its nextUpdate a list refuses every proxy whom it concerns",
    ),
    key(
        "listen.proxy.allow.N.san_uri",
        Kind::Subject,
        Derived(ONE_NAME),
        "a URI that the proxy's certificate has as a subject alternative name",
    ),
    key("listen.proxy.allow.N.san_dns", Kind::Subject, Derived(ONE_NAME), "a DNS name that it has so"),
    key("listen.proxy.allow.N.san_ip", Kind::Subject, Derived(ONE_NAME), "an IP address that it has so"),
    key("listen.proxy.allow.N.san_email", Kind::Subject, Derived(ONE_NAME), "an e-mail address that it has so"),
    key(
        "listen.proxy.allow.N.subject_dn",
        Kind::Subject,
        Derived(ONE_NAME),
        "the subject that it has, as RFC 4514 writes it",
    ),
    key(
        "listen.public.address",
        Kind::Address,
        Is("[::]:9443"),
        "where the listener that never asks for a certificate waits",
    ),
    key(
        "listen.public.public_url",
        Kind::WebOrigin,
        Derived("the origin of `issuer`"),
        "what clients call this listener",
    ),
    key("listen.public.cert", Kind::Reference, Required, "as `listen.mtls.cert`"),
    key("listen.public.key", Kind::Reference, Required, "as `listen.mtls.key`"),
    key(
        "listen.public.min_tls",
        Kind::Choice(MinTls::NAMES),
        Derived("that of `listen.mtls.min_tls`, which is `1.2` without that table"),
        "as `listen.mtls.min_tls`",
    ),
    key(
        "listen.ops.address",
        Kind::Address,
        Is("127.0.0.1:9464"),
        "where `/metrics`, `/livez`, `/readyz` and `/version` are answered, in plain HTTP",
    ),
    key(
        "listen.ops.allow_non_loopback",
        Kind::Boolean,
        Is("false"),
        "whether that address may be reachable from other machines although it speaks plain HTTP",
    ),
    key(
        "listen.admin.address",
        Kind::AdminAddress,
        Is("unix:/run/certbind/admin.sock"),
        "where the admin API waits: a Unix socket that this user and root alone can reach, in a folder that others cannot write into; or an address, and then by mutual TLS only",
    ),
    key("listen.admin.cert", Kind::Reference, Derived("required with an address"), "as `listen.mtls.cert`"),
    key("listen.admin.key", Kind::Reference, Derived("required with an address"), "as `listen.mtls.key`"),
    key(
        "listen.admin.ca",
        Kind::Reference,
        Derived("required with an address"),
        "the anchors of administrators: CA certificates, PEM or DER; those of `[[trust]]` do not count here, nor the system's",
    ),
    key(
        "listen.admin.crl",
        Kind::References,
        Derived("none"),
        "their revocation lists, PEM or DER; past its nextUpdate a list refuses every administrator whom it concerns",
    ),
    key(
        "listen.admin.allow.N.san_uri",
        Kind::Subject,
        Derived(ONE_NAME),
        "a URI that the certificate has as a subject alternative name",
    ),
    key("listen.admin.allow.N.san_dns", Kind::Subject, Derived(ONE_NAME), "a DNS name that it has so"),
    key("listen.admin.allow.N.san_ip", Kind::Subject, Derived(ONE_NAME), "an IP address that it has so"),
    key("listen.admin.allow.N.san_email", Kind::Subject, Derived(ONE_NAME), "an e-mail address that it has so"),
    key(
        "listen.admin.allow.N.subject_dn",
        Kind::Subject,
        Derived(ONE_NAME),
        "the subject that it has, as RFC 4514 writes it",
    ),
    key(
        "listen.admin.allow.N.role",
        Kind::Choice(AdminRole::NAMES),
        Required,
        "what whoever has that name may do: `viewer` looks, `operator` changes clients, `admin` removes them as well",
    ),
    key("trust.N.name", Kind::Name, Required, "the name by which a client says that this group vouches for it"),
    key(
        "trust.N.ca",
        Kind::Reference,
        Required,
        "the anchors of the group: CA certificates, PEM or DER; the system's own are never used (RFC 8705 §7.4)",
    ),
    key(
        "trust.N.crl",
        Kind::References,
        Is("[]"),
        "revocation lists, PEM or DER; they are read again when they change",
    ),
    key(
        "trust.N.crl_stale",
        Kind::Choice(CrlStale::NAMES),
        Is("refuse"),
        "what to do with a client when the list is past its nextUpdate",
    ),
    key(
        "trust.N.require_client_auth_eku",
        Kind::Boolean,
        Is("true"),
        "whether a client certificate must say that it is meant for client authentication",
    ),
    key(
        "trust.N.max_chain_depth",
        Kind::Integer(0, 5),
        Is("5"),
        "how many CA certificates may stand between the client's and the anchor",
    ),
    key(
        "resource.N.identifier",
        Kind::Resource,
        Required,
        "the resource indicator of an API (RFC 8707 §2), which becomes the audience of its tokens",
    ),
    key("resource.N.scope", Kind::Scope, Is(""), "the scope tokens that belong to this resource (RFC 9068 §3)"),
    key("tokens.lifetime", seconds(10, 24 * HOUR), Is("5m"), "how long a token is good"),
    key(
        "tokens.algorithm",
        Kind::Choice(TokenAlgorithm::NAMES),
        Is("ES256"),
        "what tokens are signed with; RS256 not in `fapi2`",
    ),
    key(
        "tokens.bound",
        Kind::Choice(TokenBinding::NAMES),
        Is("always"),
        "which tokens carry `cnf.x5t#S256` (RFC 8705 §3.1); a bound client never gets an unbound token",
    ),
    key(
        "tokens.cap_at_certificate_expiry",
        Kind::Boolean,
        Is("true"),
        "whether a bound token ends with the certificate it is bound to, if that is sooner",
    ),
    key(
        "keys.source",
        Kind::KeySource,
        Is("auto"),
        "where signing keys come from: `auto` makes them and keeps them in the store; a URI (RFC 7512) names those of a PKCS#11 token",
    ),
    key(
        "keys.rotate_every",
        Kind::DurationOrOff(Duration::from_secs(2), Duration::from_secs(3650 * 24 * HOUR)),
        Is("90d"),
        "how long a key signs until its successor takes over; with `off` an operator rotates",
    ),
    key(
        "keys.publish_before",
        seconds(2, 30 * 24 * HOUR),
        Is("24h"),
        "how long a key stands in the JWKS before it signs: longer than the slowest cache (Istio 20 minutes, Envoy 10). A server that has not heard from the store for so long signs no more",
    ),
    key(
        "keys.encryption_key",
        Kind::Reference,
        Derived("none: private signing keys lie in the store as they are"),
        "32 random bytes in base64 or hexadecimal (`openssl rand -base64 32`), under which private signing keys are sealed in the store",
    ),
    key(
        "keys.previous_encryption_key",
        Kind::Reference,
        Derived("none"),
        "the `keys.encryption_key` of before: what is sealed under it is sealed anew at the start",
    ),
    key(
        "assertions.audience",
        Kind::Choice(&["issuer"]),
        Is("issuer"),
        "what a client assertion must name as its audience (RFC 10070)",
    ),
    key(
        "assertions.max_lifetime",
        seconds(10, HOUR),
        Is("10m"),
        "how far ahead the `exp` of a client assertion may lie",
    ),
    key(
        "assertions.clock_skew",
        seconds(0, 60),
        Is("30s"),
        "how far the clocks of clients may be off; at least 10s in `fapi2`",
    ),
    key(
        "assertions.jwks_fetch.allow_private_networks",
        Kind::Boolean,
        Is("false"),
        "whether a `jwks_uri` may lead to a private or loopback address",
    ),
    key(
        "assertions.jwks_fetch.ca",
        Kind::Reference,
        Derived("the certificate authorities of the system"),
        "PEM file of the certificate authorities that may vouch for a `jwks_uri`",
    ),
    key("assertions.jwks_fetch.timeout", millis(100, 30_000), Is("3s"), "how long fetching a `jwks_uri` may take"),
    key(
        "assertions.jwks_fetch.max_bytes",
        Kind::Integer(1024, 1_048_576),
        Is("65536"),
        "how many bytes a `jwks_uri` may answer with",
    ),
    key(
        "storage.engine",
        Kind::Choice(StorageEngine::NAMES),
        Is("sqlite"),
        "where used assertions, signing keys, clients and revocations are kept: `sqlite` is one file in `data_dir`, `postgres` a database that several servers share",
    ),
    key(
        "storage.url",
        Kind::Reference,
        Derived("required with `engine = \"postgres\"`"),
        "where the address of the database stands, `postgres://user:password@host/database`; over a network it is reached by TLS",
    ),
    key(
        "storage.ca",
        Kind::Reference,
        Derived("the certificate authorities of the system"),
        "PEM file of the certificate authorities that may vouch for the database",
    ),
    key(
        "storage.connections",
        Kind::Integer(2, 200),
        Is("8"),
        "how many connections to the database each server keeps, beside one that follows changes",
    ),
    key(
        "storage.replicas",
        Kind::Choice(Replicas::NAMES),
        Is("asynchronous"),
        "whether a commit waits for the replica that would take over; if not, assertions from before a fail-over are refused after it",
    ),
    key("clients.dir", Kind::Path, Is("clients.d"), "the folder of the clients' files; it is watched"),
    key(
        "limits.connections",
        Kind::Integer(1, 1_000_000),
        Is("10000"),
        "how many connections a listener keeps open at once",
    ),
    key("limits.handshake_timeout", millis(100, 60_000), Is("10s"), "how long a TLS handshake may take"),
    key(
        "limits.header_timeout",
        millis(100, 60_000),
        Is("10s"),
        "how long a client may take to send the head of a request",
    ),
    key(
        "limits.body_timeout",
        millis(100, 60_000),
        Is("10s"),
        "how long a client may take to send the body of a request",
    ),
    key("limits.idle_timeout", seconds(1, HOUR), Is("60s"), "how long a connection may stay open without a request"),
    key(
        "limits.drain_timeout",
        seconds(0, 10 * 60),
        Is("10s"),
        "how long open requests may take to end when the server stops",
    ),
    key(
        "limits.max_body_bytes",
        Kind::Integer(4096, 1_048_576),
        Is("65536"),
        "how many bytes the body of a request may have",
    ),
    key("limits.token_requests_per_client", Kind::Rate, Is("off"), "how many tokens a client may ask for"),
    key(
        "limits.failed_auth_per_address",
        Kind::Rate,
        Is("10/s"),
        "how many failed authentications are answered to one address",
    ),
    key("log.format", Kind::Choice(LogFormat::NAMES), Is("json"), "how the log is written to standard error"),
    key("log.level", Kind::Choice(LogLevel::NAMES), Is("info"), "the least that is worth a line in the log"),
    key(
        "log.audit",
        Kind::Audit,
        Is("log"),
        "where audit events go: `log` puts them into the log, `file:PATH` appends them to a file, in a hash chain",
    ),
    key(
        "log.audit_required",
        Kind::Boolean,
        Is("false"),
        "whether a token waits for its audit line on disk: no token leaves without one, and none at all while the disk is full",
    ),
    key(
        "log.audit_store",
        Kind::Boolean,
        Is("false"),
        "whether audit events go to the store as well, where one search finds those of all servers",
    ),
    key(
        "log.audit_server",
        Kind::Name,
        Derived("the name of the machine"),
        "what this server is called in the store; servers with different names have different chains",
    ),
    key(
        "log.audit_keep",
        Kind::DurationOrOff(Duration::from_secs(24 * HOUR), Duration::from_secs(3650 * 24 * HOUR)),
        Is("off"),
        "how long the store keeps audit events; `off` for ever",
    ),
];

/// What holds when a kind of name is not there.
const ONE_NAME: &str = "exactly one of the five names is required";

const HOUR: u64 = 60 * 60;

pub(super) const fn seconds(from: u64, to: u64) -> Kind {
    Kind::Duration(Duration::from_secs(from), Duration::from_secs(to))
}

const fn millis(from: u64, to: u64) -> Kind {
    Kind::Duration(Duration::from_millis(from), Duration::from_millis(to))
}

pub(super) const fn key(path: &'static str, kind: Kind, fallback: Fallback, meaning: &'static str) -> Key {
    Key { path, kind, fallback, meaning }
}

impl Schema {
    /// What this pattern (a path with `N` for each number) names.
    pub(super) fn node(&self, pattern: &str) -> Option<Node> {
        if let Some(key) = self.keys.iter().find(|key| key.path == pattern) {
            return Some(Node::Key(key));
        }
        let below = format!("{pattern}.");
        let child = self.keys.iter().find_map(|key| key.path.strip_prefix(&below))?;
        Some(if child.starts_with("N.") { Node::Rows } else { Node::Table })
    }

    /// The key at this path, numbers and all.
    pub(super) fn at(&self, path: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.path == pattern_of(path))
    }

    /// Whether a new value at this path is taken by a running server.
    pub(super) fn is_live(&self, path: &str) -> bool {
        let pattern = pattern_of(path);
        self.live.iter().any(|live| pattern == *live || (live.ends_with('.') && pattern.starts_with(live)))
    }

    /// The arrays of tables.
    pub(super) fn arrays(&self) -> impl Iterator<Item = &'static str> {
        let mut arrays: Vec<_> =
            self.keys.iter().filter_map(|key| key.path.split_once(".N.")).map(|(array, _)| array).collect();
        arrays.dedup();
        arrays.into_iter()
    }

    /// What may stand in the table of this pattern: keys and tables, by their last name.
    pub(super) fn names_in(&self, table: &str) -> impl Iterator<Item = &'static str> {
        let below = if table.is_empty() { String::new() } else { format!("{table}.") };
        self.keys.iter().filter_map(move |key| key.path.strip_prefix(&below)?.split('.').next())
    }
}

/// The path with `N` for each number: `trust.0.name` becomes `trust.N.name`.
pub(super) fn pattern_of(path: &str) -> String {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    path.split('.').map(|part| if is_number(part) { "N" } else { part }).collect::<Vec<_>>().join(".")
}

/// In the words of the documentation.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => f.write_str("IP address and port"),
            Self::AdminAddress => f.write_str("`unix:PATH`, or IP address and port"),
            Self::Audit => f.write_str("`log` or `file:PATH`"),
            Self::Boolean => f.write_str("`true` or `false`"),
            Self::Choice(words) => write!(f, "`{}`", words.join("`, `")),
            Self::Duration(least, most) => write!(f, "duration, {} to {}", show_duration(*least), show_duration(*most)),
            Self::DurationOrOff(least, most) => {
                write!(f, "duration, {} to {}, or `off`", show_duration(*least), show_duration(*most))
            }
            Self::Integer(least, most) => write!(f, "number, {least} to {most}"),
            Self::Issuer => f.write_str("https URL without query and fragment"),
            Self::KeySource => f.write_str("`auto` or `pkcs11:` URI"),
            Self::Name => f.write_str("up to 64 letters, digits, `-`, `_` and `.`"),
            Self::Path => f.write_str("path"),
            Self::Rate => f.write_str("rate or `off`"),
            Self::Reference => f.write_str("reference"),
            Self::References => f.write_str("list of references"),
            Self::Resource => f.write_str("absolute URI without fragment"),
            Self::Route => f.write_str("path"),
            Self::Scope => f.write_str("scope tokens, a space between them"),
            Self::Subject => f.write_str("name, without `*`"),
            Self::Texts => f.write_str("list of texts"),
            Self::WebOrigin => f.write_str("`https://host` or `https://host:port`"),
        }
    }
}
