//! `[listen.mtls]`, `[listen.public]` and `[listen.ops]` to what they mean, and the rules between all listeners.

use std::net::SocketAddr;

use super::checker::Checker;
use super::fault::{Concern, Fault};
use super::proxy::{self, BehindProxy};
use super::settings::*;
use super::url::{Issuer, WebOrigin};

/// The table of the listener that asks for certificates.
const MTLS: &str = "listen.mtls";

impl Checker<'_> {
    pub(super) fn mtls(&mut self, issuer: Option<&Issuer>) -> Option<MtlsListener> {
        let address = self.address("listen.mtls.address");
        let public_url = self.public_url("listen.mtls.public_url", issuer);
        let identity = self.identity("listen.mtls");
        let client_certificate = self.word("listen.mtls.client_certificate", ClientCertificate::named);
        let resumption = self.boolean("listen.mtls.resumption").map(Resumption::from);
        Some(MtlsListener {
            address: address?,
            public_url: public_url?,
            identity: identity?,
            client_certificate: client_certificate?,
            resumption: resumption?,
        })
    }

    pub(super) fn public(&mut self, issuer: Option<&Issuer>, of_mtls: Option<MinTls>) -> Option<PublicListener> {
        let address = self.address("listen.public.address");
        let public_url = self.public_url("listen.public.public_url", issuer);
        let identity = self.identity("listen.public");
        let min_tls = self.derived("listen.public.min_tls", of_mtls, |checker, path| checker.word(path, MinTls::named));
        Some(PublicListener { address: address?, public_url: public_url?, identity: identity?, min_tls: min_tls? })
    }

    pub(super) fn ops(&mut self) -> Option<OpsListener> {
        let address = self.address("listen.ops.address");
        let elsewhere = self.boolean("listen.ops.allow_non_loopback");
        let (address, elsewhere) = (address?, elsewhere?);
        if !address.ip().is_loopback() {
            let value = address.to_string();
            match elsewhere {
                true => self.warn("listen.ops.address", Concern::OpsNotLoopback { value }),
                false => self.complain("listen.ops.address", Fault::OpsNotLoopback { value }),
            }
        }
        Some(OpsListener { address })
    }
}

/// Where clients go that have a certificate: to the proxy, where there is one, as its operator put it there for them.
pub(super) fn certificate_url<'a>(
    mtls: Option<&'a MtlsListener>,
    proxy: Option<&'a BehindProxy>,
) -> Option<&'a WebOrigin> {
    proxy.map(|proxy| &proxy.public_url).or(mtls.map(|mtls| &mtls.public_url))
}

/// Rules between listeners.
impl Checker<'_> {
    /// RFC 8705 §2: a client with a certificate can come, by itself or through a proxy.
    pub(super) fn check_entrances(&mut self) {
        let is_told = ["listen", MTLS, proxy::TABLE].iter().any(|table| self.raw.is_spoilt(table));
        if !is_told && !self.has_entrance() {
            self.complain("listen", Fault::NoEntrance);
        }
    }

    fn has_entrance(&self) -> bool {
        self.raw.has_table(MTLS) || self.raw.has_table(proxy::TABLE)
    }

    pub(super) fn check_addresses(&mut self) {
        const LISTENERS: [&str; 5] = ["listen.mtls", "listen.proxy", "listen.public", "listen.ops", "listen.admin"];
        let mut taken: Vec<(String, String)> = Vec::new();
        for listener in LISTENERS.into_iter().filter(|listener| self.raw.has_table(listener)) {
            let path = format!("{listener}.address");
            let Some(address) = self.peek(&path) else { continue };
            if let Some((other, _)) = taken.iter().find(|(_, other)| is_one_place(other, &address)) {
                let other = other.clone();
                self.complain(&path, Fault::AddressTaken { other });
            }
            taken.push((path, address));
        }
    }

    /// RFC 8705 §5: the aliases name another place than the endpoints themselves.
    pub(super) fn check_aliases(&mut self) {
        let alias_key = match self.raw.has_table(proxy::TABLE) {
            true => "listen.proxy.public_url",
            false => "listen.mtls.public_url",
        };
        if !self.raw.has_table("listen.public") || !self.has_entrance() || self.raw.is_spoilt(alias_key) {
            return;
        }
        let Some(alias) = self.peek(alias_key) else { return self.complain(alias_key, Fault::AliasMissing) };
        let issuer = || self.peek("issuer").and_then(|issuer| Some(Issuer::parse(&issuer).ok()?.origin().to_string()));
        if self.peek("listen.public.public_url").or_else(issuer) == Some(alias) {
            self.complain(alias_key, Fault::AliasNotDistinct);
        }
    }
}

/// Whether two listeners cannot both wait where these texts say.
fn is_one_place(a: &str, b: &str) -> bool {
    match (a.parse(), b.parse()) {
        (Ok(a), Ok(b)) => clash(a, b),
        _ => a.starts_with("unix:") && a == b,
    }
}

/// Whether two sockets cannot both wait there: one port, and one address or one that stands for all. `[::]` stands for IPv4 as well.
fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let covers = |a: SocketAddr, b: SocketAddr| a.ip().is_unspecified() && (a.is_ipv6() || b.is_ipv4());
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || covers(a, b) || covers(b, a))
}
