//! What can be wrong with a configuration, and what is odd about it but works.

use std::fmt;

use certbind_proto::cert::CertFault;
use certbind_proto::resource::ResourceFault;
use certbind_proto::scope::ScopeFault;
use certbind_proto::subject::SubjectFault;
use certbind_proto::time::Timestamp;

use super::origin::{Origin, Position};
use super::pkcs11::ModuleUriFault;
use super::reference::{ReadFault, ReferenceFault};
use super::url::UrlFault;

/// Something to say about a key: a [`Complaint`] or a [`Warning`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark<About> {
    /// Where it was typed.
    pub origin: Origin,
    /// The key as typed; empty when the whole file is meant.
    pub key: String,
    /// What there is to say.
    pub about: About,
}

/// Why a configuration is refused.
pub type Complaint = Remark<Fault>;

/// What works, but perhaps not as somebody thinks.
pub type Warning = Remark<Concern>;

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Two listeners cannot wait at one address.
    #[error("`{other}` waits at this address already")]
    AddressTaken {
        /// The other key.
        other: String,
    },
    /// Not an address of the admin API.
    #[error(
        "{value} is no address for this listener; write unix:PATH, as in \"unix:/run/certbind/admin.sock\", or an IP address with a port, as in \"[::]:9444\", for mutual TLS"
    )]
    AdminAddress {
        /// What was typed.
        value: String,
    },
    /// Not a name of this kind.
    #[error("{0}")]
    AdministratorName(SubjectFault),
    /// No name, or several.
    #[error("names whom it lets in by exactly one of san_uri, san_dns, san_ip, san_email and subject_dn, not {count}")]
    AdministratorNames {
        /// How many.
        count: usize,
    },
    /// With two listeners, clients have to learn the address of this one.
    #[error(
        "is missing; beside [listen.public] clients find this listener by it, in `mtls_endpoint_aliases` (RFC 8705 §5)"
    )]
    AliasMissing,
    /// Not 256 bits.
    #[error(
        "holds no encryption key; 32 random bytes in base64 or hexadecimal are wanted, as `openssl rand -base64 32` prints them"
    )]
    EncryptionKey,
    /// Two listeners with one name.
    #[error("is also what clients call the public listener; the two need different names or ports (RFC 8705 §5)")]
    AliasNotDistinct,
    /// Standard error is no disk.
    #[error(
        "needs a file or the store: nothing says that a line on standard error is kept; write log.audit = \"file:PATH\" or log.audit_store = true"
    )]
    AuditNotKept,
    /// Not `log` and not `file:PATH`.
    #[error("{value} is no place for audit events; write \"log\" or \"file:/var/log/certbind/audit.jsonl\"")]
    AuditTarget {
        /// What was typed.
        value: String,
    },
    /// A Unix socket asks nobody for a certificate.
    #[error(
        "is for mutual TLS, and {table}.address is a Unix socket, which asks nobody for a certificate; take this out, or write an IP address with a port there"
    )]
    BesideSocket {
        /// The table of the listener.
        table: &'static str,
    },
    /// Users are known of a Unix socket alone.
    #[error("is for a Unix socket, and {table}.address is none; name the proxies in [[{table}.allow]]")]
    BesideTls {
        /// The table of the listener.
        table: &'static str,
    },
    /// A certificate that is not read.
    #[error("holds a certificate that is not read: {0}")]
    Certificate(CertFault),
    /// The server's certificate is past its end.
    #[error("the certificate expired at {since}")]
    CertificateExpired {
        /// Its notAfter.
        since: Timestamp,
    },
    /// The server's certificate is before its beginning.
    #[error("the certificate is good from {from} on, not yet")]
    CertificateNotYetValid {
        /// Its notBefore.
        from: Timestamp,
    },
    /// A certificate that says that it is not for servers (RFC 5280 §4.2.1.12).
    #[error("the certificate is not for servers: its extended key usage lacks serverAuth (RFC 5280 §4.2.1.12)")]
    CertificateNotForServers,
    /// No certificate in it, or one that nobody can read.
    #[error("holds no certificate that can be read; PEM with BEGIN CERTIFICATE is wanted")]
    CertificateUnreadable,
    /// A revocation list that nobody can read.
    #[error("{found_at} holds no revocation list that can be read; PEM with BEGIN X509 CRL, or DER, is wanted")]
    CrlUnreadable {
        /// The reference, as one key has several.
        found_at: String,
    },
    /// A text without anything in it.
    #[error("is empty")]
    Empty,
    /// The file of the configuration itself.
    #[error("{0}")]
    File(ReadFault),
    /// A folder that has to be there.
    #[error("{path} is not a folder that can be read")]
    FolderMissing {
        /// Where it was looked for.
        path: String,
    },
    /// A folder of secrets in which anybody can put files.
    #[error("{path} has the mode {mode:04o}, so that others can change what is in it; `chmod 0700`")]
    FolderOpenToOthers {
        /// Which folder.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// A certificate among the anchors that is not one of a CA.
    #[error("holds a certificate that is not a CA's (RFC 5280 §4.2.1.9): {subject}")]
    NotACa {
        /// Its subject.
        subject: String,
    },
    /// Neither `auto` nor the keys of a token.
    #[error("{value} is neither \"auto\" nor a `pkcs11:` URI")]
    KeySource {
        /// What was typed.
        value: String,
    },
    /// The private key is that of another certificate.
    #[error("is not the private key of the (first) certificate in `{certificate}`")]
    KeyMismatch {
        /// The key that names the certificate.
        certificate: String,
    },
    /// No private key in it, or one of a kind or strength that is not used.
    #[error(
        "holds no private key that can be used; PEM with an RSA (2048 bits or more), EC or Ed25519 key is wanted, not encrypted"
    )]
    KeyUnreadable,
    /// Private signing keys would lie open in a database.
    #[error(
        "is missing; in a database, and in its backups, private signing keys lie sealed: make a key with `openssl rand -base64 32`"
    )]
    KeysUnsealed,
    /// The value is needed.
    #[error("is missing")]
    Missing,
    /// The key says something only beside another one.
    #[error("says nothing without {other}; set that, or take this out")]
    NeedsOther {
        /// The other key and its value.
        other: &'static str,
    },
    /// Not a duration.
    #[error("{value} is not a duration; write a number and ms, s, m, h or d, as in \"5m\"")]
    NotADuration {
        /// What was typed.
        value: String,
    },
    /// Not a name.
    #[error("{value} is not a name; write up to 64 letters, digits, `-`, `_` and `.`")]
    NotAName {
        /// What was typed.
        value: String,
    },
    /// Not a rate.
    #[error("{value} is not a rate; write \"off\", or a number of times in a second, minute or hour, as in \"50/s\"")]
    NotARate {
        /// What was typed.
        value: String,
    },
    /// Not an address.
    #[error("{value} is not an IP address with a port{}", address_meant(.meant.as_deref()))]
    NotAnAddress {
        /// What was typed.
        value: String,
        /// What was meant.
        meant: Option<String>,
    },
    /// Not a URI of keys in a token.
    #[error("{0}")]
    ModuleUri(ModuleUriFault),
    /// The program was built without it.
    #[error("needs a certbind that was built with the feature `{feature}`")]
    NotBuiltIn {
        /// Its name.
        feature: &'static str,
    },
    /// Where the format names its header.
    #[error(
        "is no name for that header: nginx and haproxy take any of letters, digits and `-` with `cert` in it, the others have one of their own"
    )]
    HeaderFixed,
    /// Mutual TLS that lets nobody in.
    #[error(
        "lets nobody in; name the administrators in [[listen.admin.allow]], each by a name of its certificate and with its role"
    )]
    NoAdministrator,
    /// A header that anybody may set.
    #[error(
        "is not set by the proxy that asks in this mode, so that each of its clients could set it: nginx sets `nginx` (auth-request), Envoy says `envoy` (ext-authz), Traefik sets `traefik`, Caddy and HAProxy set `haproxy` (forward-auth). If a proxy before it sets this one, write listen.certificate_relayed = true"
    )]
    NotSetByThisProxy,
    /// A route that no request takes.
    #[error(
        "is never reached: route {by}, counted from 0, stands before it and takes every request of it; put the narrower route first"
    )]
    RouteCovered {
        /// The route that takes them.
        by: usize,
    },
    /// Nobody may ask.
    #[error("lets nobody ask; name the proxies in [[{table}.allow]], each by a name of its certificate")]
    NoProxy {
        /// The table of the listener.
        table: &'static str,
    },
    /// Nobody with a certificate could come.
    #[error(
        "has neither [listen.mtls] nor [listen.proxy]; write [listen.mtls] with `cert` and `key` where clients come by themselves, [listen.proxy] where a proxy ends their TLS"
    )]
    NoEntrance,
    /// Nothing would pass.
    #[error("is missing: nothing passes without a [[route]] that says what a token must be")]
    NoRoute,
    /// Not a method.
    #[error(
        "{value} is no method; there are DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT and TRACE; left out, all are meant"
    )]
    NotAMethod {
        /// What was typed.
        value: String,
    },
    /// Not a path.
    #[error(
        "{value} is no path of a route: write one that begins with /, as a request has it, without ?, %, ; and wildcards; all that lies below it is meant as well"
    )]
    NotARoute {
        /// What was typed.
        value: String,
    },
    /// No PIN in it.
    #[error("holds no PIN: one line of text is wanted")]
    NoPin,
    /// The profile does not allow it.
    #[error("{value} is not allowed in the profile fapi2 ({section}); {instead}")]
    NotInFapi2 {
        /// What was typed.
        value: String,
        /// What says so.
        section: &'static str,
        /// What is allowed.
        instead: &'static str,
    },
    /// Not one of the words.
    #[error("{value} is none of {}{}", .words.join(", "), did_you_mean(.meant.as_deref()))]
    NotOneOf {
        /// What was typed.
        value: String,
        /// The words.
        words: &'static [&'static str],
        /// What was meant.
        meant: Option<&'static str>,
    },
    /// Bytes that are no text.
    #[error("is not UTF-8")]
    NotUtf8,
    /// Plain HTTP for everybody to see.
    #[error(
        "{value} can be reached from other machines, and this listener speaks plain HTTP; use a loopback address, or say `allow_non_loopback = true` if the network is guarded otherwise"
    )]
    OpsNotLoopback {
        /// What was typed.
        value: String,
    },
    /// Beyond the bounds.
    #[error("{value} is out of bounds; from {least} to {most} is allowed")]
    OutOfBounds {
        /// What was typed.
        value: String,
        /// The least.
        least: String,
        /// The most.
        most: String,
    },
    /// What a reference names cannot be had.
    #[error("{0}")]
    Read(ReadFault),
    /// Not a reference.
    #[error("{0}")]
    Reference(ReferenceFault),
    /// Not a resource indicator.
    #[error("{0}")]
    Resource(ResourceFault),
    /// The key of before without the one of now.
    #[error("stands without `keys.encryption_key`; what is sealed would be sealed under no key")]
    PreviousAlone,
    /// Keys would have to sign before anybody knows them.
    #[error(
        "{value} is shorter than the {notice} for which a key is published before it signs (`keys.publish_before`)"
    )]
    RotationBeforeNotice {
        /// What was typed.
        value: String,
        /// How long a key is published before.
        notice: String,
    },
    /// More keys would be published than anybody reads.
    #[error(
        "{value} is so short that too many keys are published at once, as each stays until its tokens of {lifetime} have expired"
    )]
    RotationTooOften {
        /// What was typed.
        value: String,
        /// How long a token lives.
        lifetime: String,
    },
    /// Not a scope.
    #[error("{0}")]
    Scope(ScopeFault),
    /// A `--set` that sets nothing.
    #[error("{value} sets nothing; write --set key=value, as in --set log.level=debug")]
    SetsNothing {
        /// What was typed.
        value: String,
    },
    /// Numbers of tables have a hole.
    #[error("there are only {count} [[{array}]] tables, numbered from 0; the next one is {array}.{count}")]
    SkippedNumber {
        /// The array.
        array: &'static str,
        /// How many tables there are.
        count: usize,
    },
    /// The text is not TOML.
    #[error("{message}")]
    Syntax {
        /// What the parser says.
        message: String,
    },
    /// Two of one name.
    #[error("{value} stands at `{other}` already{}", .because)]
    Twin {
        /// What was typed.
        value: String,
        /// Where it stands as well.
        other: String,
        /// Why that is bad.
        because: &'static str,
    },
    /// No such key.
    #[error("there is no such key{}", did_you_mean(.meant.as_deref()))]
    UnknownKey {
        /// What was meant.
        meant: Option<String>,
    },
    /// A user that this machine does not know.
    #[error("there is no user {value} in /etc/passwd; write the number of the user")]
    UserUnknown {
        /// What was typed.
        value: String,
    },
    /// Not a URL as it should be.
    #[error("{0}")]
    Url(UrlFault),
    /// Another type of value.
    #[error("should be {expected}; it is {found}")]
    WrongType {
        /// What belongs there.
        expected: &'static str,
        /// What stands there.
        found: &'static str,
    },
}

/// What is odd.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Concern {
    /// An anchor past its end.
    #[error("the CA certificate {subject} expired at {since}; certificates below it are refused")]
    AnchorExpired {
        /// Its subject.
        subject: String,
        /// Its notAfter.
        since: Timestamp,
    },
    /// The server's certificate ends soon.
    #[error("the certificate expires at {at}, in {days} days")]
    CertificateEnding {
        /// Its notAfter.
        at: Timestamp,
        /// Whole days until then.
        days: u64,
    },
    /// Clients that compare the name will turn away.
    #[error("the certificate does not name {host}, by which clients call this listener")]
    CertificateNamesOther {
        /// The host of the public URL.
        host: String,
    },
    /// Many tokens a minute for each client.
    #[error(
        "{value} is so short that libraries which renew a token a minute or so before its end (Spring, Authlib) ask for a new one with every call; 2m or more is wiser"
    )]
    LifetimeShort {
        /// What was typed.
        value: String,
    },
    /// Nobody can use `tls_client_auth`.
    #[error(
        "there is no [[trust]] group, so every client of `tls_client_auth` is refused; the system's CA certificates are never used (RFC 8705 §7.4)"
    )]
    NoTrust,
    /// Caches of the JWKS that are slower than that.
    #[error(
        "{value} is shorter than what caches of the JWKS take (Istio 20 minutes, Envoy 10), so that they refuse the first tokens of a new key; 24h is wiser"
    )]
    NoticeShort {
        /// What was typed.
        value: String,
    },
    /// Plain HTTP for everybody to see.
    #[error("{value} can be reached from other machines and speaks plain HTTP")]
    OpsNotLoopback {
        /// What was typed.
        value: String,
    },
    /// A list past its nextUpdate.
    #[error("a revocation list ended at {since}; {consequence}")]
    CrlStale {
        /// Its nextUpdate.
        since: Timestamp,
        /// What that means here.
        consequence: &'static str,
    },
    /// Revoked certificates may get in.
    #[error("lets clients in on the word of a revocation list that is out of date")]
    StaleCrlTolerated,
    /// A header that is believed from a proxy further away.
    #[error(
        "believes a header that the proxy which asks does not set itself: whoever can send it to that proxy passes for any client"
    )]
    CertificateRelayed,
    /// Revoked tokens may pass.
    #[error(
        "lets revoked tokens pass while the list of what is revoked is too old; whoever keeps the list from arriving decides when"
    )]
    StaleAccepted,
    /// Tokens that anybody can use.
    #[error("lets tokens out that are bound to no certificate, so that whoever has one can use it")]
    UnboundTokens,
}

fn address_meant(meant: Option<&str>) -> String {
    let example = "; write one, as in \"[::]:8443\" or \"127.0.0.1:8443\"";
    meant.map_or_else(|| example.to_owned(), |meant| format!("; did you mean \"{meant}\"?"))
}

fn did_you_mean(meant: Option<&str>) -> String {
    meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default()
}

/// `certbind.toml:3:1: datadir: there is no such key; did you mean `data_dir`?`
impl<About: fmt::Display> fmt::Display for Remark<About> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.key.as_str() {
            "" => format!("{}: {}", self.origin, self.about),
            key if self.origin == Origin::Environment(key.to_owned()) => format!("{key}: {}", self.about),
            key => format!("{}: {key}: {}", self.origin, self.about),
        };
        f.write_str(&on_one_line(&text))
    }
}

/// A line for each complaint, whatever the name of a file has in it.
fn on_one_line(text: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escaped).collect()
}

impl<About: fmt::Display> Remark<About> {
    /// The same for machines: `file`, `line`, `column` (where there are such), `origin`, `key`, `message`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let mut json = serde_json::json!({
            "origin": self.origin.to_string(),
            "key": self.key,
            "message": self.about.to_string(),
        });
        if let Origin::File { path, position } = &self.origin {
            json["file"] = path.display().to_string().into();
            if let Some(Position { line, column }) = position {
                json["line"] = (*line).into();
                json["column"] = (*column).into();
            }
        }
        json
    }
}
