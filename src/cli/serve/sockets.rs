//! The sockets that a server listens on: handed over by the process that started it (sd_listen_fds(3)), or opened here.
//!
//! A socket that a service manager holds outlives this process: connections that come while nobody accepts wait in it,
//! and the next process, or one that runs beside this one, takes them. So a restart loses none.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};

use anyhow::Context as _;
use listenfd::ListenFd;

use crate::cli::Unusable;
use crate::config::Environment;
use crate::net::Listener;

/// What may be handed over, by `FileDescriptorName=`.
pub(super) const NAMES: [&str; 5] = ["mtls", "public", "ops", "admin", "proxy"];

/// Sockets that are open already, by the listener that they are for.
#[derive(Default)]
pub struct Sockets {
    open: BTreeMap<&'static str, Open>,
    /// Whether the one that was handed over has no name.
    is_nameless: bool,
}

enum Open {
    HandedOver(TcpListener),
    Here(Listener),
}

/// Why a socket that was handed over is not taken. A server that listened elsewhere than its service manager believes
/// would be up and not to be found.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocketFault {
    /// Not as many names as sockets.
    #[error("{sockets} sockets were handed over, and {names} names for them in LISTEN_FDNAMES")]
    NamesMissing { sockets: usize, names: usize },
    /// Nobody knows what it is for.
    #[error("a socket named `{name}` was handed over; FileDescriptorName= is one of mtls, public, ops, admin, proxy")]
    NameUnknown { name: String },
    /// Two for one listener.
    #[error("two sockets named `{name}` were handed over; a listener has one")]
    Twice { name: &'static str },
    /// It is none.
    #[error("the socket named `{name}` that was handed over is not one that listens for TCP: {error}")]
    NotListening { name: &'static str, error: io::Error },
    /// It is for another address.
    #[error(
        "the socket that was handed over for listen.{name} listens at {given}, and listen.{name}.address is {configured}"
    )]
    OtherAddress { name: &'static str, given: SocketAddr, configured: SocketAddr },
    /// The configuration has no such listener.
    #[error(
        "a socket named `{name}` was handed over, and no [listen.{name}] of the configuration has an address for it"
    )]
    NotConfigured { name: &'static str },
    /// Nobody said what it is for, and what it would be for is not there. It is not taken for `[listen.proxy]`: a
    /// listener that believes headers is meant, and never what is left over.
    #[error(
        "a socket without a name was handed over, which is for [listen.mtls], and the configuration has none; say FileDescriptorName=proxy if it is for [listen.proxy]"
    )]
    Nameless,
}

impl Sockets {
    /// Those that were handed over. To be called once, while there is one thread: it takes the variables that tell of
    /// them out of the environment.
    ///
    /// # Errors
    /// One of them is not for us.
    pub(super) fn handed_over(environment: &Environment) -> anyhow::Result<Self> {
        let mut given = ListenFd::from_env();
        let names = environment.get("LISTEN_FDNAMES").and_then(|names| names.to_str()).unwrap_or_default();
        let mut open = BTreeMap::new();
        let is_nameless = is_nameless(given.len(), names);
        for (at, name) in names_of(given.len(), names).map_err(refused)?.into_iter().enumerate() {
            let not_listening = |error| refused(SocketFault::NotListening { name, error });
            let socket = given.take_tcp_listener(at).map_err(not_listening)?;
            let socket = socket.ok_or_else(|| not_listening(io::ErrorKind::NotFound.into()))?;
            open.insert(name, Open::HandedOver(socket));
        }
        Ok(Self { open, is_nameless })
    }

    /// With this one for `[listen.mtls]`.
    #[must_use]
    pub fn with_mtls(listener: Listener) -> Self {
        Self { open: BTreeMap::from([("mtls", Open::Here(listener))]), is_nameless: false }
    }

    /// The listener at this address: on the socket that was handed over for it, or on a new one.
    ///
    /// # Errors
    /// The socket is for another address, or a new one cannot be opened.
    pub(super) fn listen(&mut self, name: &'static str, configured: SocketAddr) -> anyhow::Result<Listener> {
        let listener = match self.open.remove(name) {
            None => return Listener::bind(configured).with_context(|| format!("cannot listen on {configured}")),
            Some(Open::Here(listener)) => listener,
            Some(Open::HandedOver(socket)) => {
                Listener::adopt(socket).map_err(|error| refused(SocketFault::NotListening { name, error }))?
            }
        };
        let given = listener.local_address();
        match given.ip() == configured.ip() && (given.port() == configured.port() || configured.port() == 0) {
            true => Ok(listener),
            false => Err(refused(SocketFault::OtherAddress { name, given, configured })),
        }
    }

    /// Nothing is left that no listener asked for.
    ///
    /// # Errors
    /// Something is.
    pub(super) fn all_used(&self) -> anyhow::Result<()> {
        match self.open.keys().next() {
            None => Ok(()),
            Some(_) if self.is_nameless => Err(refused(SocketFault::Nameless)),
            Some(name) => Err(refused(SocketFault::NotConfigured { name })),
        }
    }
}

/// It is the configuration that does not fit.
fn refused(fault: SocketFault) -> anyhow::Error {
    Unusable(fault.to_string()).into()
}

/// A name for each socket. A single one without is for `[listen.mtls]`.
fn names_of(sockets: usize, names: &str) -> Result<Vec<&'static str>, SocketFault> {
    if sockets == 0 {
        return Ok(Vec::new());
    }
    if is_nameless(sockets, names) {
        return Ok(vec!["mtls"]);
    }
    let names: Vec<_> = split(names).collect();
    if names.len() != sockets {
        return Err(SocketFault::NamesMissing { sockets, names: names.len() });
    }
    let mut found = Vec::new();
    for name in names {
        let name = known(name).ok_or_else(|| SocketFault::NameUnknown { name: name.to_owned() })?;
        if found.contains(&name) {
            return Err(SocketFault::Twice { name });
        }
        found.push(name);
    }
    Ok(found)
}

/// Whether it is a single one without a name of ours: a unit that does not say `FileDescriptorName=` hands over its own
/// name, and other supervisors none.
fn is_nameless(sockets: usize, names: &str) -> bool {
    let is_of_unit = |name: &str| known(name).is_none() && name.ends_with(".socket");
    sockets == 1 && split(names).count() <= 1 && split(names).all(is_of_unit)
}

fn split(names: &str) -> impl Iterator<Item = &str> {
    names.split(':').filter(|name| !name.is_empty())
}

fn known(name: &str) -> Option<&'static str> {
    NAMES.into_iter().find(|known| *known == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sd_listen_fds_each_socket_has_a_name_of_its_own() {
        let names = |sockets, names| names_of(sockets, names).map_err(|fault| fault.to_string());
        assert_eq!([names(0, ""), names(0, "of:others")], [Ok(vec![]), Ok(vec![])]);
        assert_eq!(names(1, ""), Ok(vec!["mtls"]));
        assert_eq!(names(1, "certbind.socket"), Ok(vec!["mtls"]));
        assert_eq!(names(4, "ops:mtls:admin:public"), Ok(vec!["ops", "mtls", "admin", "public"]));
        for (sockets, given, word) in [
            (2, "", "2 sockets were handed over, and 0 names"),
            (1, "mtls:public", "1 sockets were handed over, and 2 names"),
            (1, "mtsl", "`mtsl`"),
            (2, "mtls:certbind.socket", "`certbind.socket`"),
            (2, "mtls:mtls", "two sockets named `mtls`"),
        ] {
            let fault = names(sockets, given).unwrap_err();
            assert!(fault.contains(word), "{given}: {fault}");
        }
    }

    #[tokio::test]
    async fn a_socket_for_another_address_is_not_taken() {
        let handed_over = || {
            let socket = Open::HandedOver(TcpListener::bind("127.0.0.1:0").unwrap());
            Sockets { open: BTreeMap::from([("mtls", socket)]), is_nameless: false }
        };
        let fault = |configured: &str| {
            let mut sockets = handed_over();
            sockets.listen("mtls", configured.parse().unwrap()).map(|_| ()).map_err(|fault| fault.to_string())
        };
        assert_eq!(fault("127.0.0.1:0"), Ok(()));
        for configured in ["127.0.0.1:1", "127.0.0.2:0", "[::]:0"] {
            let fault = fault(configured).unwrap_err();
            assert!(fault.contains("for listen.mtls listens at 127.0.0.1:") && fault.contains(configured), "{fault}");
        }
        let mut sockets = handed_over();
        let fault = |sockets: &Sockets| sockets.all_used().unwrap_err().to_string();
        assert!(fault(&sockets).contains("named `mtls`"));
        sockets.is_nameless = true;
        assert!(fault(&sockets).contains("say FileDescriptorName=proxy"));
        sockets.listen("mtls", "127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(sockets.all_used().is_ok());
    }
}
