//! The modes: what is sent over which connection, and what a request of each may cost.

use std::rc::Rc;
use std::time::Duration;

use clap::ValueEnum;
use rustls::crypto::{SupportedKxGroup, aws_lc_rs::kx_group};
use serde::Serialize;

use crate::load::{Lifetime, Peer, Plan, Requests};
use crate::options::Pace;
use crate::server::Server;
use crate::setup::{ASSERTION_CLIENT, HOST, Setup};

/// The most that certbind may cost, as a multiple of the bare server.
pub(crate) const MOST_OF_BARE: f64 = 1.25;

/// A way to use the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// `private_key_jwt` over kept connections.
    Assertion,
    /// `tls_client_auth` over kept connections.
    Certificate,
    /// `tls_client_auth`, a connection for each token, X25519MLKEM768.
    HandshakeHybrid,
    /// `tls_client_auth`, a connection for each token, X25519.
    HandshakeX25519,
    /// GET of the metadata over kept connections.
    Document,
    /// The guard is asked about tokens that it knows.
    GuardRemembered,
    /// The guard is asked about tokens that it never saw.
    GuardFresh,
}

/// What a guard is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    Remembered,
    Fresh,
}

impl Mode {
    pub(crate) const ALL: [Self; 7] = [
        Self::Assertion,
        Self::Certificate,
        Self::HandshakeHybrid,
        Self::HandshakeX25519,
        Self::Document,
        Self::GuardRemembered,
        Self::GuardFresh,
    ];

    /// What a guard is asked; nothing where a server is.
    pub(crate) const fn question(self) -> Option<Question> {
        match self {
            Self::GuardRemembered => Some(Question::Remembered),
            Self::GuardFresh => Some(Question::Fresh),
            Self::Assertion | Self::Certificate | Self::HandshakeHybrid | Self::HandshakeX25519 | Self::Document => {
                None
            }
        }
    }

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Assertion => "signed assertion (ES256), connection kept",
            Self::Certificate => "certificate, connection kept",
            Self::HandshakeHybrid => "certificate, full handshake each, X25519MLKEM768",
            Self::HandshakeX25519 => "certificate, full handshake each, X25519",
            Self::Document => "GET of a static document",
            Self::GuardRemembered => "guard over a Unix socket, token remembered",
            Self::GuardFresh => "guard over a Unix socket, token fresh",
        }
    }

    /// CPU per request in V: the first figure to reach, and the one after it.
    pub(crate) const fn goals(self) -> (f64, f64) {
        match self {
            Self::Assertion => (2.4, 2.2),
            Self::Certificate => (0.8, 0.7),
            Self::HandshakeHybrid => (7.0, 6.0),
            Self::HandshakeX25519 => (6.5, 5.1),
            Self::Document => (0.2, 0.2),
            Self::GuardRemembered => (0.15, 0.15),
            Self::GuardFresh => (1.7, 1.7),
        }
    }

    const fn lifetime(self) -> Lifetime {
        match self {
            Self::HandshakeHybrid | Self::HandshakeX25519 => Lifetime::OneRequest,
            _ => Lifetime::Kept,
        }
    }

    fn group(self) -> &'static dyn SupportedKxGroup {
        match self {
            Self::HandshakeX25519 => kx_group::X25519,
            _ => kx_group::X25519MLKEM768,
        }
    }

    /// The peer that uses the server so.
    pub(crate) fn peer(self, setup: &Setup, server: &Server) -> anyhow::Result<Peer> {
        let identity = match self {
            Self::Assertion => &setup.pki.batch.identity,
            _ => &setup.pki.billing.identity,
        };
        Peer::new(server.address(), identity, self.group())
    }

    /// Load of this kind. Of assertions there are as many as `rate` a second can use up, for none is good twice.
    pub(crate) fn plan(self, setup: &Setup, server: &Server, pace: Pace, load: Load) -> anyhow::Result<Plan> {
        let requests = match self {
            Self::Assertion => {
                let count = load.rate * load.duration.as_secs_f64() * 1.4 + 200.0;
                Requests::once(setup.assertion_requests(count as usize)?)
            }
            Self::Certificate | Self::HandshakeHybrid | Self::HandshakeX25519 => {
                Requests::repeated(setup.certificate_requests())
            }
            Self::Document => Requests::repeated(vec![get("/.well-known/oauth-authorization-server")]),
            Self::GuardRemembered | Self::GuardFresh => anyhow::bail!("a server is no guard"),
        };
        Ok(Plan {
            peer: self.peer(setup, server)?,
            requests: Rc::new(requests),
            lifetime: self.lifetime(),
            connections: pace.connections,
            duration: load.duration,
        })
    }
}

/// How much load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Requests per second that are expected.
    pub(crate) rate: f64,
    pub(crate) duration: Duration,
}

/// A request for a document.
pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\naccept: application/json\r\n\r\n").into_bytes()
}

/// A token request of the client that its certificate authenticates.
pub(crate) fn by_certificate(client_id: &str) -> Vec<u8> {
    post(&format!("grant_type=client_credentials&client_id={client_id}&scope=payments%3Aread"))
}

/// A token request of the client that signed this.
pub(crate) fn by_assertion(assertion: &str) -> Vec<u8> {
    post(&format!(
        "grant_type=client_credentials&client_id={ASSERTION_CLIENT}&scope=payments%3Aread\
         &client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer\
         &client_assertion={assertion}"
    ))
}

fn post(form: &str) -> Vec<u8> {
    format!(
        "POST /oauth2/token HTTP/1.1\r\nhost: {HOST}\r\naccept: application/json\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
        form.len()
    )
    .into_bytes()
}
