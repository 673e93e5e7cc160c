//! `[listen.admin]` to [`AdminListener`]: a Unix socket, or mutual TLS with the names of those who may come in. Nothing in
//! between: what is meant for the one is refused beside the other.

use std::net::SocketAddr;
use std::path::PathBuf;

use certbind_proto::subject::{Subject, SubjectKind};

use super::checker::Checker;
use super::fault::Fault;
use super::reference::Reference;
use super::settings::{AdminRole, IdentitySource};
use super::value::{self, shown};

/// The listener of the admin API: never open to everybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminListener {
    /// A Unix socket for this user and root.
    Unix(PathBuf),
    /// Mutual TLS, for whoever is named.
    Tls(Box<AdminTls>),
}

/// The admin API over mutual TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminTls {
    /// Where it waits.
    pub address: SocketAddr,
    /// Its certificate and key.
    pub identity: IdentitySource,
    /// Who may vouch for administrators, and for them alone.
    pub trust: AdminTrust,
    /// Who may come in; one at least, no name twice.
    pub allow: Vec<Administrator>,
}

/// Who may vouch for administrators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminTrust {
    /// The anchors, PEM or DER.
    pub ca: Reference,
    /// Their revocation lists, PEM or DER.
    pub crl: Vec<Reference>,
}

/// Somebody who may come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Administrator {
    /// The name that the certificate must have.
    pub subject: Subject,
    /// What they may do.
    pub role: AdminRole,
}

/// The table, and the array of those who may come in.
pub(super) const TABLE: &str = "listen.admin";
const ALLOW: &str = "listen.admin.allow";

/// The key of each kind of name, in the order of the documentation.
const NAMES: [(&str, SubjectKind); 5] = [
    ("san_uri", SubjectKind::SanUri),
    ("san_dns", SubjectKind::SanDns),
    ("san_ip", SubjectKind::SanIp),
    ("san_email", SubjectKind::SanEmail),
    ("subject_dn", SubjectKind::Dn),
];

/// Where a listener waits that is a Unix socket or speaks mutual TLS.
pub(super) enum Place {
    Unix(PathBuf),
    Tls(SocketAddr),
}

impl Checker<'_> {
    pub(super) fn admin(&mut self) -> Option<AdminListener> {
        match self.place("listen.admin.address")? {
            Place::Unix(path) => self.admin_socket(path),
            Place::Tls(address) => self.admin_tls(address),
        }
    }

    /// Reads `unix:PATH`, relative to the file, or an address.
    pub(super) fn place(&mut self, path: &str) -> Option<Place> {
        let folder = self.raw.folder();
        self.parsed(path, |text| match text.strip_prefix("unix:") {
            Some(path) if !path.trim().is_empty() => Ok(Place::Unix(folder.join(path))),
            Some(_) => Err(Fault::AdminAddress { value: shown(text) }),
            None => value::address(text).map(Place::Tls).map_err(|_| Fault::AdminAddress { value: shown(text) }),
        })
    }

    /// Complains of each key of this table that only a listener with TLS has.
    pub(super) fn refuse_tls(&mut self, table: &str, fault: &Fault) {
        for key in ["cert", "key", "ca", "crl"].map(|key| format!("{table}.{key}")) {
            if self.raw.value(&key).is_some() {
                self.complain(&key, fault.clone());
            }
        }
        if self.raw.rows(&format!("{table}.allow")) > 0 {
            self.complain(&format!("{table}.allow.0"), fault.clone());
        }
    }

    fn admin_socket(&mut self, path: PathBuf) -> Option<AdminListener> {
        self.refuse_tls(TABLE, &Fault::BesideSocket { table: TABLE });
        self.draft.named.sockets.push(("listen.admin.address", path.clone()));
        Some(AdminListener::Unix(path))
    }

    fn admin_tls(&mut self, address: SocketAddr) -> Option<AdminListener> {
        let identity = self.identity(TABLE);
        let ca = self.reference("listen.admin.ca");
        let crl = self.derived("listen.admin.crl", Some(Vec::new()), Self::references);
        let allow = self.each(ALLOW, Self::administrator);
        if self.raw.rows(ALLOW) == 0 {
            self.complain(TABLE, Fault::NoAdministrator);
        }
        if let Some(allow) = &allow {
            self.check_administrators(allow);
        }
        let trust = AdminTrust { ca: ca?, crl: crl? };
        self.draft.named.admin_trust = Some(trust.clone());
        let (identity, allow) = (identity?, allow?);
        Some(AdminListener::Tls(Box::new(AdminTls { address, identity, trust, allow })))
    }

    fn administrator(&mut self, table: &str) -> Option<Administrator> {
        let subject = self.name_of(table);
        let role = self.word(&format!("{table}.role"), AdminRole::named);
        Some(Administrator { subject: subject?, role: role? })
    }

    /// Exactly one name, so that nobody has to ask whether all of several must be there or any of them.
    pub(super) fn name_of(&mut self, table: &str) -> Option<Subject> {
        let paths = NAMES.map(|(key, kind)| (format!("{table}.{key}"), kind));
        if paths.iter().any(|(path, _)| self.raw.is_spoilt(path)) {
            return None;
        }
        let typed: Vec<_> = paths.into_iter().filter(|(path, _)| self.raw.value(path).is_some()).collect();
        match typed.as_slice() {
            [(path, kind)] => self.parsed(path, |text| Subject::parse(*kind, text).map_err(Fault::AdministratorName)),
            names => {
                self.complain(table, Fault::AdministratorNames { count: names.len() });
                None
            }
        }
    }

    /// One name has one role: of two, nobody could say which was meant.
    fn check_administrators(&mut self, allow: &[Administrator]) {
        for (number, administrator) in allow.iter().enumerate() {
            let twin = allow.iter().take(number).position(|other| other.subject == administrator.subject);
            if let Some(twin) = twin {
                let path = path_of_name(number, administrator);
                let (value, other) = (shown(administrator.subject.as_str()), path_of_name(twin, administrator));
                self.complain(&path, Fault::Twin { value, other, because: "; a name has one role" });
            }
        }
    }
}

fn path_of_name(number: usize, administrator: &Administrator) -> String {
    let kind = administrator.subject.kind();
    let key = NAMES.into_iter().find_map(|(key, of)| (of == kind).then_some(key)).unwrap_or_default();
    format!("{ALLOW}.{number}.{key}")
}
