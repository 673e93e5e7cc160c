//! [`RawConfig`] to [`Config`]: what each value means, and whether the values fit together. Every complaint is collected.

use std::path::PathBuf;
use std::time::Duration;

use super::admin::AdminTrust;
use super::checker::Checker;
use super::fault::{Complaint, Concern, Fault, Warning};
use super::listen::certificate_url;
use super::pkcs11::ModuleUri;
use super::proxy::{self, ProxyListener};
use super::raw::RawConfig;
use super::reference::Reference;
use super::settings::*;
use super::url::Issuer;
use super::value::{self, show_duration, shown};

/// What was noticed about a [`RawConfig`].
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// What is wrong.
    pub(super) complaints: Vec<Complaint>,
    /// What is odd.
    pub(super) warnings: Vec<Warning>,
    /// The files and folders that it names, also when other things are wrong.
    pub(super) named: Named,
}

/// Files and folders that a configuration names.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// The listener and its certificate and key.
    pub(super) identities: Vec<(&'static str, IdentitySource)>,
    /// The table of a trust group, its anchors and its revocation lists.
    pub(super) trust: Vec<(String, Reference, Vec<Reference>)>,
    /// The authorities that may vouch for a `jwks_uri`.
    pub(super) fetch_roots: Option<Reference>,
    /// The PIN of the token that holds the signing keys.
    pub(super) pin: Option<Reference>,
    /// The keys under which private signing keys are sealed.
    pub(super) encryption: Option<EncryptionSource>,
    /// The address of the database, and the authorities that may vouch for it.
    pub(super) database: Option<(Reference, Option<Reference>)>,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) clients_dir: Option<PathBuf>,
    pub(super) audit: Option<PathBuf>,
    /// Unix sockets, each with its key.
    pub(super) sockets: Vec<(&'static str, PathBuf)>,
    /// Who may vouch for administrators.
    pub(super) admin_trust: Option<AdminTrust>,
    /// The listener for proxies.
    pub(super) proxy: Option<ProxyListener>,
}

/// Checks everything that can be checked without opening another file. There is a whole if nothing is wrong.
pub(super) fn check(raw: &RawConfig) -> (Option<Config>, Draft) {
    let mut checker = Checker { raw, draft: Draft::default() };
    let config = checker.config();
    let draft = checker.draft;
    (config.filter(|_| draft.complaints.is_empty()), draft)
}

/// The sections, in the order of the file. Each reads all of its keys before it gives up on one of them.
impl Checker<'_> {
    fn config(&mut self) -> Option<Config> {
        let issuer = self.parsed("issuer", |text| Issuer::parse(text).map_err(Fault::Url));
        let data_dir = self.path("data_dir");
        self.draft.named.data_dir.clone_from(&data_dir);
        let profile = self.word("profile", Profile::named);
        let min_tls = self.word("listen.mtls.min_tls", MinTls::named);
        let mtls = self.optional("listen.mtls", |checker| checker.mtls(issuer.as_ref()));
        let proxy = self.optional(proxy::TABLE, |checker| checker.behind_proxy(issuer.as_ref()));
        let public = self.optional("listen.public", |checker| checker.public(issuer.as_ref(), min_tls));
        let ops = self.optional("listen.ops", Self::ops);
        let admin = self.optional("listen.admin", Self::admin);
        self.check_entrances();
        self.check_addresses();
        self.check_aliases();
        let trust = self.each("trust", Self::trust);
        // What is missing may stand in what could not be read.
        if self.raw.is_whole() && self.raw.rows("trust") == 0 {
            self.warn("trust", Concern::NoTrust);
        }
        let resources = self.each("resource", Self::resource);
        self.check_twins("trust", "name", "");
        self.check_twins("resource", "identifier", "; different resources have different identifiers (RFC 9068 §5)");
        let tokens = self.tokens();
        let keys = self.keys();
        let assertions = self.assertions();
        self.check_rotation(tokens.as_ref(), keys.as_ref(), assertions.as_ref());
        let storage = self.storage();
        let clients_dir = self.path("clients.dir");
        self.draft.named.clients_dir.clone_from(&clients_dir);
        let limits = self.limits();
        let log = self.log();
        if profile == Some(Profile::Fapi2) {
            self.check_fapi2();
        }
        let (mtls, proxy) = (mtls?, proxy?);
        Some(Config {
            issuer: issuer?,
            data_dir: data_dir?,
            profile: profile?,
            certificate_url: certificate_url(mtls.as_ref(), proxy.as_ref())?.clone(),
            min_tls: min_tls?,
            mtls,
            proxy,
            public: public?,
            ops: ops?,
            admin: admin?,
            trust: trust?,
            resources: resources?,
            tokens: tokens?,
            keys: keys?,
            assertions: assertions?,
            storage: storage?,
            clients_dir: clients_dir?,
            limits: limits?,
            log: log?,
        })
    }

    fn trust(&mut self, table: &str) -> Option<TrustGroup> {
        let name = self.parsed(&format!("{table}.name"), value::name);
        let ca = self.reference(&format!("{table}.ca"));
        let crl = self.references(&format!("{table}.crl"));
        let crl_stale = self.word(&format!("{table}.crl_stale"), CrlStale::named);
        let eku = self.boolean(&format!("{table}.require_client_auth_eku"));
        let depth = self.integer(&format!("{table}.max_chain_depth"));
        if let (Some(ca), Some(crl)) = (&ca, &crl) {
            self.draft.named.trust.push((table.to_owned(), ca.clone(), crl.clone()));
        }
        if crl_stale == Some(CrlStale::Warn) {
            self.warn(&format!("{table}.crl_stale"), Concern::StaleCrlTolerated);
        }
        Some(TrustGroup {
            name: name?,
            ca: ca?,
            crl: crl?,
            crl_stale: crl_stale?,
            client_auth_eku: eku?.into(),
            max_chain_depth: u8::try_from(depth?).ok()?,
        })
    }

    fn resource(&mut self, table: &str) -> Option<ProtectedResource> {
        let identifier = self.parsed(&format!("{table}.identifier"), |text| text.parse().map_err(Fault::Resource));
        let scope = self.parsed(&format!("{table}.scope"), |text| text.parse().map_err(Fault::Scope));
        Some(ProtectedResource { identifier: identifier?, scope: scope? })
    }

    fn tokens(&mut self) -> Option<Tokens> {
        const SHORT: Duration = Duration::from_secs(2 * 60);
        let lifetime = self.duration("tokens.lifetime");
        let algorithm = self.word("tokens.algorithm", TokenAlgorithm::named);
        let bound = self.word("tokens.bound", TokenBinding::named);
        let capped = self.boolean("tokens.cap_at_certificate_expiry");
        if let Some(lifetime) = lifetime.filter(|lifetime| *lifetime < SHORT) {
            self.warn("tokens.lifetime", Concern::LifetimeShort { value: show_duration(lifetime) });
        }
        if bound.is_some_and(|bound| bound != TokenBinding::Always) {
            self.warn("tokens.bound", Concern::UnboundTokens);
        }
        Some(Tokens { lifetime: lifetime?, algorithm: algorithm?, bound: bound?, expiry_cap: capped?.into() })
    }

    fn keys(&mut self) -> Option<SigningKeys> {
        const SLOWEST_CACHE: Duration = Duration::from_secs(20 * 60);
        let source = self.key_source();
        let rotation = self.duration_or_off("keys.rotate_every");
        let rotation = rotation.map(|period| period.map_or(KeyRotation::Off, KeyRotation::Every));
        let publish_before = self.duration("keys.publish_before");
        if let Some(notice) = publish_before.filter(|notice| *notice < SLOWEST_CACHE) {
            self.warn("keys.publish_before", Concern::NoticeShort { value: show_duration(notice) });
        }
        let encryption = self.encryption();
        Some(SigningKeys {
            source: source?,
            rotation: rotation?,
            publish_before: publish_before?,
            encryption: encryption?,
        })
    }

    fn key_source(&mut self) -> Option<KeySource> {
        let folder = self.raw.folder();
        let source = self.parsed("keys.source", |text| match text.strip_prefix("pkcs11:") {
            None if text == "auto" => Ok(KeySource::Auto),
            None => Err(Fault::KeySource { value: shown(text) }),
            Some(_) if !cfg!(feature = "pkcs11") => Err(Fault::NotBuiltIn { feature: "pkcs11" }),
            Some(uri) => ModuleUri::parse(uri, &folder).map(KeySource::Module).map_err(Fault::ModuleUri),
        });
        if let Some(KeySource::Module(uri)) = &source {
            self.draft.named.pin = Some(uri.pin.clone());
        }
        source
    }

    fn encryption(&mut self) -> Option<Option<EncryptionSource>> {
        const PREVIOUS: &str = "keys.previous_encryption_key";
        let optional = |checker: &mut Self, path| {
            checker.derived(path, Some(None), |checker, path| checker.reference(path).map(Some))
        };
        let (key, previous) = (optional(self, "keys.encryption_key")?, optional(self, PREVIOUS)?);
        if key.is_none() && previous.is_some() {
            self.complain(PREVIOUS, Fault::PreviousAlone);
            return None;
        }
        let encryption = key.map(|key| EncryptionSource { key, previous });
        self.draft.named.encryption.clone_from(&encryption);
        Some(encryption)
    }

    fn assertions(&mut self) -> Option<Assertions> {
        self.word("assertions.audience", |word| (word == "issuer").then_some(()));
        let max_lifetime = self.duration("assertions.max_lifetime");
        let clock_skew = self.duration("assertions.clock_skew");
        let networks = self.boolean("assertions.jwks_fetch.allow_private_networks");
        let roots = self.derived("assertions.jwks_fetch.ca", Some(FetchRoots::System), |checker, path| {
            checker.reference(path).map(FetchRoots::File)
        });
        if let Some(FetchRoots::File(ca)) = &roots {
            self.draft.named.fetch_roots = Some(ca.clone());
        }
        let timeout = self.duration("assertions.jwks_fetch.timeout");
        let max_bytes = self.size("assertions.jwks_fetch.max_bytes");
        let jwks_fetch =
            JwksFetch { networks: networks?.into(), roots: roots?, timeout: timeout?, max_bytes: max_bytes? };
        Some(Assertions { max_lifetime: max_lifetime?, clock_skew: clock_skew?, jwks_fetch })
    }

    fn storage(&mut self) -> Option<Storage> {
        let engine = self.word("storage.engine", StorageEngine::named);
        let connections = self.size("storage.connections");
        let replicas = self.word("storage.replicas", Replicas::named);
        if engine? == StorageEngine::Sqlite {
            for key in ["storage.url", "storage.ca"].into_iter().filter(|key| self.raw.value(key).is_some()) {
                self.complain(key, Fault::NeedsOther { other: "storage.engine = \"postgres\"" });
            }
            return Some(Storage::Sqlite);
        }
        if self.raw.value("keys.encryption_key").is_none() && !self.raw.is_spoilt("keys.encryption_key") {
            self.complain("keys.encryption_key", Fault::KeysUnsealed);
        }
        let url = self.reference("storage.url");
        let roots = self.derived("storage.ca", Some(FetchRoots::System), |checker, path| {
            checker.reference(path).map(FetchRoots::File)
        });
        let (url, roots) = (url?, roots?);
        let ca = match &roots {
            FetchRoots::File(ca) => Some(ca.clone()),
            FetchRoots::System => None,
        };
        self.draft.named.database = Some((url.clone(), ca));
        Some(Storage::Postgres(Database { url, roots, connections: connections?, replicas: replicas? }))
    }

    fn limits(&mut self) -> Option<Limits> {
        let connections = self.size("limits.connections");
        let handshake_timeout = self.duration("limits.handshake_timeout");
        let header_timeout = self.duration("limits.header_timeout");
        let body_timeout = self.duration("limits.body_timeout");
        let idle_timeout = self.duration("limits.idle_timeout");
        let drain_timeout = self.duration("limits.drain_timeout");
        let max_body_bytes = self.size("limits.max_body_bytes");
        let token_requests_per_client = self.parsed("limits.token_requests_per_client", value::rate);
        let failed_auth_per_address = self.parsed("limits.failed_auth_per_address", value::rate);
        Some(Limits {
            connections: connections?,
            handshake_timeout: handshake_timeout?,
            header_timeout: header_timeout?,
            body_timeout: body_timeout?,
            idle_timeout: idle_timeout?,
            drain_timeout: drain_timeout?,
            max_body_bytes: max_body_bytes?,
            token_requests_per_client: token_requests_per_client?,
            failed_auth_per_address: failed_auth_per_address?,
        })
    }

    fn log(&mut self) -> Option<Log> {
        let format = self.word("log.format", LogFormat::named);
        let level = self.word("log.level", LogLevel::named);
        let audit = self.audit_target();
        let audit_store = self.stored_audit();
        let audit_line = self.boolean("log.audit_required").map(AuditLine::from);
        let is_kept = audit != Some(Audit::Log) || audit_store != Some(None);
        if audit_line == Some(AuditLine::Required) && !is_kept {
            self.complain("log.audit_required", Fault::AuditNotKept);
        }
        let (audit_line, audit_store) = (audit_line?, audit_store?);
        Some(Log { format: format?, level: level?, audit: audit?, audit_line, audit_store })
    }

    pub(super) fn audit_target(&mut self) -> Option<Audit> {
        let folder = self.raw.folder();
        let audit = self.parsed("log.audit", |text| match text.strip_prefix("file:") {
            None if text == "log" => Ok(Audit::Log),
            Some(path) if !path.trim().is_empty() => Ok(Audit::File(folder.join(path))),
            _ => Err(Fault::AuditTarget { value: shown(text) }),
        });
        if let Some(Audit::File(path)) = &audit {
            self.draft.named.audit = Some(path.clone());
        }
        audit
    }

    fn stored_audit(&mut self) -> Option<Option<StoredAudit>> {
        let server =
            self.derived("log.audit_server", Some(None), |checker, path| checker.parsed(path, value::name).map(Some));
        let keep = self.duration_or_off("log.audit_keep");
        if !self.boolean("log.audit_store")? {
            let unused =
                [("log.audit_server", server != Some(None)), ("log.audit_keep", matches!(keep, Some(Some(_))))];
            for (key, _) in unused.into_iter().filter(|(_, is_said)| *is_said) {
                self.complain(key, Fault::NeedsOther { other: "log.audit_store = true" });
            }
            return Some(None);
        }
        Some(Some(StoredAudit { server: server?, keep: keep? }))
    }
}

/// Rules between keys.
impl Checker<'_> {
    /// FAPI 2.0 Security Profile §5.3.2.1 and §5.4.1.
    fn check_fapi2(&mut self) {
        const LEAST_SKEW: Duration = Duration::from_secs(10);
        if self.peek("tokens.algorithm").as_deref() == Some("RS256") {
            self.not_in_fapi2("tokens.algorithm", "FAPI 2.0 §5.4.1", "use ES256, EdDSA or PS256");
        }
        if ["when-certificate", "never"].iter().any(|word| self.peek("tokens.bound").as_deref() == Some(*word)) {
            self.not_in_fapi2("tokens.bound", "FAPI 2.0 §5.3.2.1", "every token is bound: \"always\"");
        }
        let skew = self.peek("assertions.clock_skew").and_then(|skew| value::duration(&skew).ok());
        if skew.is_some_and(|skew| skew < LEAST_SKEW) {
            self.not_in_fapi2("assertions.clock_skew", "FAPI 2.0 §5.3.2.1", "clocks may be off by 10s at least");
        }
    }

    fn not_in_fapi2(&mut self, path: &str, section: &'static str, instead: &'static str) {
        let value = shown(&self.peek(path).unwrap_or_default());
        self.complain(path, Fault::NotInFapi2 { value, section, instead });
    }

    /// A successor is published while its key still signs, and not so many keys are published that nobody reads them all.
    fn check_rotation(&mut self, tokens: Option<&Tokens>, keys: Option<&SigningKeys>, assertions: Option<&Assertions>) {
        const MOST_RETIRING: u32 = 16;
        let (Some(tokens), Some(keys), Some(assertions)) = (tokens, keys, assertions) else { return };
        let KeyRotation::Every(period) = keys.rotation else { return };
        if period < keys.publish_before {
            let (value, notice) = (show_duration(period), show_duration(keys.publish_before));
            self.complain("keys.rotate_every", Fault::RotationBeforeNotice { value, notice });
        }
        if tokens.lifetime + 2 * assertions.clock_skew > MOST_RETIRING * period {
            let (value, lifetime) = (show_duration(period), show_duration(tokens.lifetime));
            self.complain("keys.rotate_every", Fault::RotationTooOften { value, lifetime });
        }
    }

    fn check_twins(&mut self, array: &str, name: &str, because: &'static str) {
        let mut seen: Vec<(String, String)> = Vec::new();
        for number in 0..self.raw.rows(array) {
            let path = format!("{array}.{number}.{name}");
            let Some(value) = self.peek(&path) else { continue };
            if let Some((other, _)) = seen.iter().find(|(_, other)| *other == value) {
                let (value, other) = (shown(&value), other.clone());
                self.complain(&path, Fault::Twin { value, other, because });
            }
            seen.push((path, value));
        }
    }
}
