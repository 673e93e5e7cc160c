//! A listener that believes proxies: where it waits, how a proxy proves that it is one, and in which header of which format it
//! forwards the certificate of its client. Nothing in between, and nothing that may be left out; the server's `[listen.proxy]`
//! and the guard's `[listen]` are read by the same rules.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use certbind_proto::forwarded::{Format, Forwarding};
use certbind_proto::subject::Subject;

use super::admin::{AdminTrust, Place};
use super::checker::Checker;
use super::fault::Fault;
use super::load::{Loader, MutualFiles};
use super::reference::read_file;
use super::settings::IdentitySource;
use super::url::{Issuer, WebOrigin};
use super::value::shown;

/// Where proxies come, and how they prove that they are proxies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyListener {
    /// A Unix socket.
    Unix {
        /// Where.
        path: PathBuf,
        /// Who may come beside our own user and root: names or numbers.
        users: Vec<String>,
    },
    /// Mutual TLS.
    Tls(Box<ProxyTls>),
}

/// Mutual TLS with a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyTls {
    /// Where.
    pub address: SocketAddr,
    /// Our certificate and key.
    pub identity: IdentitySource,
    /// Who may vouch for proxies.
    pub trust: AdminTrust,
    /// The names of proxies; one at least.
    pub allow: Vec<Subject>,
}

/// What a listener for proxies works with.
#[derive(Debug)]
pub enum ProxyFiles {
    /// The numbers of the users who may come over the Unix socket.
    Users(Vec<u32>),
    /// Certificate and key, and who vouches for proxies.
    Tls(Box<MutualFiles>),
}

/// `[listen.proxy]`: the server's listener behind a proxy that ends TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BehindProxy {
    /// Where proxies come.
    pub listen: ProxyListener,
    /// What clients call the proxy.
    pub public_url: WebOrigin,
    /// In which header of which format it forwards.
    pub forwarding: Forwarding,
}

/// The server's table.
pub(super) const TABLE: &str = "listen.proxy";

impl Checker<'_> {
    pub(super) fn behind_proxy(&mut self, issuer: Option<&Issuer>) -> Option<BehindProxy> {
        let public_url = self.public_url("listen.proxy.public_url", issuer);
        let format = self.word("listen.proxy.certificate_from", Format::named);
        let forwarding = format.and_then(|format| self.forwarding("listen.proxy.certificate_header", format));
        let listen = self.proxy_listener(TABLE);
        if let Some(ProxyListener::Unix { path, .. }) = &listen {
            self.draft.named.sockets.push(("listen.proxy.address", path.clone()));
        }
        self.draft.named.proxy.clone_from(&listen);
        Some(BehindProxy { listen: listen?, public_url: public_url?, forwarding: forwarding? })
    }

    /// The listener of this table.
    pub(super) fn proxy_listener(&mut self, table: &'static str) -> Option<ProxyListener> {
        match self.place(&format!("{table}.address"))? {
            Place::Unix(path) => {
                self.refuse_tls(table, &Fault::BesideSocket { table });
                Some(ProxyListener::Unix { path, users: self.texts(&format!("{table}.users"))? })
            }
            Place::Tls(address) => self.proxy_tls(table, address),
        }
    }

    fn proxy_tls(&mut self, table: &'static str, address: SocketAddr) -> Option<ProxyListener> {
        let users = format!("{table}.users");
        if self.texts(&users).is_some_and(|users| !users.is_empty()) {
            self.complain(&users, Fault::BesideTls { table });
        }
        let identity = self.identity(table);
        let ca = self.reference(&format!("{table}.ca"));
        let crl = self.derived(&format!("{table}.crl"), Some(Vec::new()), Self::references);
        let names = format!("{table}.allow");
        let allow = self.each(&names, |checker, row| checker.name_of(row));
        if self.raw.rows(&names) == 0 {
            self.complain(table, Fault::NoProxy { table });
        }
        let trust = AdminTrust { ca: ca?, crl: crl? };
        Some(ProxyListener::Tls(Box::new(ProxyTls { address, identity: identity?, trust, allow: allow? })))
    }

    /// The usual header of a format, or the one at this key.
    pub(super) fn forwarding(&mut self, header: &str, format: Format) -> Option<Forwarding> {
        self.derived(header, Some(Forwarding::new(format)), |checker, path| {
            checker.parsed(path, |text| Forwarding::in_header(format, text).ok_or(Fault::HeaderFixed))
        })
    }
}

impl Loader<'_> {
    /// The files of the listener of this table, and the users that it names.
    pub(super) fn proxy(&mut self, table: &str, listen: &ProxyListener) -> Option<ProxyFiles> {
        match listen {
            ProxyListener::Unix { users, .. } => {
                let users: Result<Vec<_>, _> = users.iter().map(|user| uid_of(user)).collect();
                self.or_complain(&format!("{table}.users"), users).map(ProxyFiles::Users)
            }
            ProxyListener::Tls(tls) => {
                let identity = self.identity(table, &tls.identity);
                let trust = self.trust(table, &tls.trust.ca, &tls.trust.crl);
                Some(ProxyFiles::Tls(Box::new(MutualFiles { identity: identity?, trust: trust? })))
            }
        }
    }
}

/// The number of a user, by name or as it is.
///
/// # Errors
/// [`Fault::UserUnknown`].
pub fn uid_of(user: &str) -> Result<u32, Fault> {
    const MOST: u64 = 1024 * 1024;
    if let Ok(uid) = user.parse() {
        return Ok(uid);
    }
    let unknown = || Fault::UserUnknown { value: shown(user) };
    let users = read_file(Path::new("/etc/passwd"), MOST, |_| Ok(())).map_err(|_| unknown())?;
    let users = String::from_utf8_lossy(&users);
    let found = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(user)).then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    found.ok_or_else(unknown)
}
