//! The checked configuration: finished values, each with the fallback already taken.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use certbind_proto::resource::Resource;
use certbind_proto::scope::Scope;

use super::admin::AdminListener;
use super::pkcs11::ModuleUri;
use super::proxy::BehindProxy;
use super::reference::Reference;
use super::url::{Issuer, WebOrigin};

/// All that `serve` needs to know. Nothing in it is still to be decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `issuer`
    pub issuer: Issuer,
    /// `data_dir`
    pub data_dir: PathBuf,
    /// `profile`
    pub profile: Profile,
    /// `[listen.mtls]`; without it clients come through a proxy.
    pub mtls: Option<MtlsListener>,
    /// `[listen.proxy]`; without it no proxy is believed. One of the two is there.
    pub proxy: Option<BehindProxy>,
    /// Where clients go that have a certificate: what they call the proxy, or else the listener that asks for it.
    pub certificate_url: WebOrigin,
    /// `listen.mtls.min_tls`, which proxies and administrators have to speak as well.
    pub min_tls: MinTls,
    /// `[listen.public]`; without it the others serve everybody.
    pub public: Option<PublicListener>,
    /// `[listen.ops]`; without it there is no such listener.
    pub ops: Option<OpsListener>,
    /// `[listen.admin]`; without it there is no admin API.
    pub admin: Option<AdminListener>,
    /// `[[trust]]`, each with a name of its own.
    pub trust: Vec<TrustGroup>,
    /// `[[resource]]`, each with an identifier of its own (RFC 9068 §5).
    pub resources: Vec<ProtectedResource>,
    /// `[tokens]`
    pub tokens: Tokens,
    /// `[keys]`
    pub keys: SigningKeys,
    /// `[assertions]`
    pub assertions: Assertions,
    /// `[storage]`
    pub storage: Storage,
    /// `clients.dir`
    pub clients_dir: PathBuf,
    /// `[limits]`
    pub limits: Limits,
    /// `[log]`
    pub log: Log,
}

/// The listener that asks for a client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MtlsListener {
    /// Where it waits.
    pub address: SocketAddr,
    /// What clients call it.
    pub public_url: WebOrigin,
    /// Its certificate and key.
    pub identity: IdentitySource,
    /// What happens to a client without certificate.
    pub client_certificate: ClientCertificate,
    /// Whether sessions are resumed.
    pub resumption: Resumption,
}

/// The listener that never asks for a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicListener {
    /// Where it waits.
    pub address: SocketAddr,
    /// What clients call it.
    pub public_url: WebOrigin,
    /// Its certificate and key.
    pub identity: IdentitySource,
    /// The oldest TLS version that it speaks.
    pub min_tls: MinTls,
}

/// The listener of metrics and health, in plain HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpsListener {
    /// Where it waits.
    pub address: SocketAddr,
}

/// Where a listener finds its certificate and key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentitySource {
    /// The chain, PEM.
    pub certificate: Reference,
    /// The private key, PEM.
    pub key: Reference,
}

/// Who may vouch for clients of `tls_client_auth`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustGroup {
    /// The name that clients' files use.
    pub name: String,
    /// Its anchors, PEM.
    pub ca: Reference,
    /// Its revocation lists, PEM or DER.
    pub crl: Vec<Reference>,
    /// What a list past its nextUpdate means.
    pub crl_stale: CrlStale,
    /// Whether the extended key usage `clientAuth` is demanded.
    pub client_auth_eku: ClientAuthEku,
    /// How many CA certificates may stand between the client's and the anchor.
    pub max_chain_depth: u8,
}

/// An API that tokens are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtectedResource {
    /// Its resource indicator.
    pub identifier: Resource,
    /// The scope tokens that belong to it.
    pub scope: Scope,
}

/// `[tokens]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// How long a token is good.
    pub lifetime: Duration,
    /// What it is signed with.
    pub algorithm: TokenAlgorithm,
    /// Which tokens are bound.
    pub bound: TokenBinding,
    /// Whether a bound token may outlive its certificate.
    pub expiry_cap: ExpiryCap,
}

/// `[keys]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKeys {
    /// Where new keys come from.
    pub source: KeySource,
    /// When a key gets its successor.
    pub rotation: KeyRotation,
    /// How long a key is published before it signs.
    pub publish_before: Duration,
    /// What private keys are sealed under in the store; without it they lie there as they are.
    pub encryption: Option<EncryptionSource>,
}

/// Where the keys are found under which private signing keys are sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncryptionSource {
    /// `keys.encryption_key`
    pub key: Reference,
    /// `keys.previous_encryption_key`
    pub previous: Option<Reference>,
}

/// `keys.source`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// They are made and kept in the store.
    Auto,
    /// An operator makes them in a PKCS#11 token.
    Module(ModuleUri),
}

/// `keys.rotate_every`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRotation {
    /// After it has signed for so long.
    Every(Duration),
    /// When an operator says so.
    Off,
}

/// `[assertions]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assertions {
    /// How far ahead `exp` may lie.
    pub max_lifetime: Duration,
    /// How far the clocks of clients may be off.
    pub clock_skew: Duration,
    /// How `jwks_uri` is fetched.
    pub jwks_fetch: JwksFetch,
}

/// `assertions.jwks_fetch`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwksFetch {
    /// Which addresses a `jwks_uri` may lead to.
    pub networks: Networks,
    /// Who may vouch for the server there.
    pub roots: FetchRoots,
    /// How long it may take.
    pub timeout: Duration,
    /// How long the answer may be.
    pub max_bytes: usize,
}

/// Who may vouch for a server that this one connects to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchRoots {
    /// These, PEM.
    File(Reference),
    /// The certificate authorities of the system.
    System,
}

/// `[storage]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// One file in `data_dir`.
    Sqlite,
    /// A database that several servers share.
    Postgres(Database),
}

/// A PostgreSQL database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// Where its address stands.
    pub url: Reference,
    /// Who may vouch for it.
    pub roots: FetchRoots,
    /// How many connections to keep.
    pub connections: usize,
    /// Whether a commit waits for the replica that would take over.
    pub replicas: Replicas,
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections of a listener.
    pub connections: usize,
    /// From the accepted connection to the end of the handshake.
    pub handshake_timeout: Duration,
    /// From the first byte of a request to the end of its head.
    pub header_timeout: Duration,
    /// From the end of the head to the end of the body.
    pub body_timeout: Duration,
    /// From one request to the next.
    pub idle_timeout: Duration,
    /// From the signal to stop to the end of the last request.
    pub drain_timeout: Duration,
    /// Bytes of a body.
    pub max_body_bytes: usize,
    /// Token requests of one client.
    pub token_requests_per_client: RateLimit,
    /// Failed authentications from one address.
    pub failed_auth_per_address: RateLimit,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// How a line looks.
    pub format: LogFormat,
    /// The least that is written.
    pub level: LogLevel,
    /// Where audit events go.
    pub audit: Audit,
    /// Whether a token waits for its line there.
    pub audit_line: AuditLine,
    /// Whether the store gets each line as well; then how.
    pub audit_store: Option<StoredAudit>,
}

/// Audit lines in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAudit {
    /// What the server is called there; without a name, as the machine is.
    pub server: Option<String>,
    /// How long lines are kept; without an end, for ever.
    pub keep: Option<Duration>,
}

/// So many in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateLimit {
    /// No more than `count` in the time `per`.
    AtMost {
        /// How many.
        count: NonZeroU32,
        /// In which time: a second, a minute or an hour.
        per: Duration,
    },
    /// As many as come.
    Off,
}

/// Where audit events go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audit {
    /// At the end of this file.
    File(PathBuf),
    /// Into the log.
    Log,
}

/// An enum whose variants are the words that may stand at a key.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$of])* $variant,)+ }

        impl $name {
            /// The words, as typed.
            pub const NAMES: &'static [&'static str] = &[$($word,)+];

            /// What this word stands for.
            #[must_use]
            pub fn named(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// The word, as typed.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }
    };
}

words! {
    /// `profile`
    Profile {
        /// The rules of the RFCs.
        Default = "default",
        /// Those of the FAPI 2.0 Security Profile as well.
        Fapi2 = "fapi2",
    }
}
words! {
    /// `min_tls`
    MinTls {
        /// TLS 1.2 and 1.3.
        Tls12 = "1.2",
        /// TLS 1.3 alone.
        Tls13 = "1.3",
    }
}
words! {
    /// `client_certificate`
    ClientCertificate {
        /// A client without certificate gets an answer.
        Optional = "optional",
        /// A client without certificate gets no handshake.
        Required = "required",
    }
}
words! {
    /// `listen.admin.allow.N.role`
    AdminRole {
        /// Look.
        Viewer = "viewer",
        /// Change clients.
        Operator = "operator",
        /// Everything.
        Admin = "admin",
    }
}
words! {
    /// `crl_stale`
    CrlStale {
        /// Nobody is let in on the word of an old list.
        Refuse = "refuse",
        /// An old list is better than none.
        Warn = "warn",
    }
}
words! {
    /// `tokens.algorithm`
    TokenAlgorithm {
        /// ECDSA with P-256.
        Es256 = "ES256",
        /// Ed25519.
        EdDsa = "EdDSA",
        /// RSASSA-PSS.
        Ps256 = "PS256",
        /// RSASSA-PKCS1-v1_5; not in `fapi2`.
        Rs256 = "RS256",
    }
}
words! {
    /// `tokens.bound`
    TokenBinding {
        /// No token without a certificate on the connection.
        Always = "always",
        /// Bound if there is a certificate on the connection.
        WhenCertificate = "when-certificate",
        /// Bound only for clients that are registered as bound.
        Never = "never",
    }
}
words! {
    /// `storage.engine`
    StorageEngine {
        /// One file.
        Sqlite = "sqlite",
        /// A database that several servers share.
        Postgres = "postgres",
    }
}
words! {
    /// `storage.replicas`
    Replicas {
        /// A replica may lack the latest commits when it takes over.
        Asynchronous = "asynchronous",
        /// It lacks none.
        Synchronous = "synchronous",
    }
}
words! {
    /// `log.format`
    LogFormat {
        /// One flat JSON object a line.
        Json = "json",
        /// For people.
        Pretty = "pretty",
    }
}
words! {
    /// `log.level`
    LogLevel {
        /// What needs somebody.
        Error = "error",
        /// What may soon need somebody.
        Warn = "warn",
        /// What happened.
        Info = "info",
        /// How it happened.
        Debug = "debug",
        /// Every step of it.
        Trace = "trace",
    }
}

/// An enum of two words for a key that is `true` or `false`.
macro_rules! switch {
    ($(#[$doc:meta])* $name:ident { $(#[$on_doc:meta])* true = $on:ident, $(#[$off_doc:meta])* false = $off:ident, }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $(#[$on_doc])* $on, $(#[$off_doc])* $off, }

        impl From<bool> for $name {
            fn from(switch: bool) -> Self {
                if switch { Self::$on } else { Self::$off }
            }
        }
    };
}

switch! {
    /// `listen.mtls.resumption`
    Resumption {
        /// Sessions are resumed by stateless tickets.
        true = On,
        /// Each connection has a handshake of its own.
        false = Off,
    }
}
switch! {
    /// `trust.N.require_client_auth_eku`
    ClientAuthEku {
        /// A certificate without it is refused.
        true = Required,
        /// It is not looked at.
        false = Ignored,
    }
}
switch! {
    /// `tokens.cap_at_certificate_expiry`
    ExpiryCap {
        /// A bound token ends with its certificate at the latest.
        true = AtCertificateExpiry,
        /// A bound token lives as long as any other.
        false = Uncapped,
    }
}
switch! {
    /// `assertions.jwks_fetch.allow_private_networks`
    Networks {
        /// Private and loopback addresses as well.
        true = Any,
        /// Public addresses alone.
        false = PublicOnly,
    }
}
switch! {
    /// `log.audit_required`
    AuditLine {
        /// No token without its line on disk.
        true = Required,
        /// A token does not wait for its line.
        false = BestEffort,
    }
}
