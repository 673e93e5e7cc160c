//! The handshake: TLS 1.3 and 1.2 (RFC 9846, RFC 5246) as BCP 195 wants them; gives the stream, [`TlsInfo`] and the client's certificate.
//!
//! Every call of rustls that the server makes is here or in `client_cert`. The provider is passed to each builder; none is installed for the process.

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs::{self, Ticketer, cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoClientAuth, NoServerSessionStorage};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, Error, HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};
use tokio_rustls::TlsAcceptor;

use super::PeerCert;
use super::client_cert::{Demand, PossessionVerifier};

/// Best first: a hybrid of X25519 and ML-KEM-768 (RFC 10024), then the classical groups.
const KEY_EXCHANGE_GROUPS: [&dyn SupportedKxGroup; 4] =
    [kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];

/// FAPI 2.0 §5.2.2 with BCP 195: what TLS 1.3 has, and the four suites of TLS 1.2 with ECDHE and GCM.
const FAPI_SUITES: [SupportedCipherSuite; 7] = [
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
];

/// How a listener speaks TLS.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The server's certificate and key, whatever name the client asks for; see [`certified_key`].
    pub certificate: CertifiedKey,
    /// Whether clients are asked for theirs.
    pub client_certificate: ClientCertificate,
    /// The oldest version spoken.
    pub min_version: TlsVersion,
    /// Whether a session may go on in a new connection.
    pub resumption: Resumption,
    /// Which cipher suites are offered.
    pub suites: Suites,
}

/// Whether clients are asked for a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificate {
    /// Never.
    NotAsked,
    /// Asked for; who has none may go on without.
    #[default]
    Optional,
    /// Asked for; who has none is refused in the handshake.
    Required,
}

/// Whether a session may go on in a new connection (RFC 9846 §2.2).
///
/// A resumed session takes the certificate from its ticket, so everything about it must be checked for each request, as `authn` does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resumption {
    /// Never: each connection proves possession anew.
    #[default]
    Off,
    /// One ticket per handshake, under keys that this listener alone has and that change every six hours; nothing is kept in memory.
    StatelessTicket,
}

/// Which cipher suites are offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Suites {
    /// All of rustls: AEADs with forward secrecy.
    #[default]
    Default,
    /// Those that FAPI 2.0 allows: TLS 1.3, and four of TLS 1.2.
    Fapi,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246
    #[default]
    Tls12,
    /// RFC 9846
    Tls13,
}

impl TlsVersion {
    /// As logs and metrics name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }
}

/// What a handshake came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// The version.
    pub version: TlsVersion,
    /// The key exchange group by its registered name, for example `X25519MLKEM768`.
    pub group: Option<&'static str>,
    /// The cipher suite by its registered name.
    pub suite: Option<&'static str>,
    /// The protocol inside.
    pub alpn: Alpn,
    /// Whether the session was begun in an earlier connection: possession of the key was proved there.
    pub resumed: bool,
    /// The host name that the client asked for (RFC 6066 §3).
    pub sni: Option<Box<str>>,
}

/// The protocol inside TLS (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    /// `h2`
    Http2,
    /// `http/1.1`, or nothing was said.
    Http1,
}

/// Why a handshake failed; a closed list, so that metrics can count by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFault {
    /// What the client sent as a certificate is too much or cannot be read.
    CertificateBad,
    /// There is none, and one is required.
    CertificateMissing,
    /// The client took too long.
    Deadline,
    /// The client has no version, suite, group or protocol that this listener has.
    Incompatible,
    /// The client does not have the private key of its certificate.
    PossessionNotProved,
    /// The client ended it with an alert, for example because it does not trust the server's certificate.
    PeerAlert,
    /// The connection ended.
    PeerClosed,
    /// What came is not TLS, or not in order.
    Protocol,
}

impl HandshakeFault {
    /// As logs and metrics name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CertificateBad => "certificate_bad",
            Self::CertificateMissing => "certificate_missing",
            Self::Deadline => "deadline",
            Self::Incompatible => "incompatible",
            Self::PossessionNotProved => "possession_not_proved",
            Self::PeerAlert => "peer_alert",
            Self::PeerClosed => "peer_closed",
            Self::Protocol => "protocol",
        }
    }
}

/// A certificate chain (leaf first) with its private key, parsed once.
///
/// # Errors
/// The key is of no known kind, or is not that of the first certificate.
pub fn certified_key(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<CertifiedKey, Error> {
    CertifiedKey::from_der(chain, key, &provider(Suites::Default))
}

/// What a listener's handshakes go by; exchanged as a whole while it runs.
pub struct Acceptor {
    config: ArcSwap<ServerConfig>,
}

impl Acceptor {
    /// Handshakes by these settings.
    ///
    /// # Errors
    /// rustls finds the settings at odds with each other, or there is no randomness for ticket keys.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        Ok(Self { config: ArcSwap::new(server_config(settings)?) })
    }

    /// Takes other settings for connections from now on; a handshake under way ends as it began. The ticket keys are new as well, so that
    /// no session outlives the certificate that it was begun under.
    ///
    /// # Errors
    /// As [`Acceptor::new`]; then nothing has changed.
    pub fn replace(&self, settings: &Settings) -> Result<(), Error> {
        self.config.store(server_config(settings)?);
        Ok(())
    }

    /// For one handshake.
    pub(super) fn now(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.load_full())
    }
}

fn server_config(settings: &Settings) -> Result<Arc<ServerConfig>, Error> {
    let provider = Arc::new(provider(settings.suites));
    let algorithms = provider.signature_verification_algorithms;
    let possession = |demand| Arc::new(PossessionVerifier::new(algorithms, demand));

    let builder =
        ServerConfig::builder_with_provider(provider).with_protocol_versions(versions(settings.min_version))?;
    let builder = match settings.client_certificate {
        ClientCertificate::NotAsked => builder.with_client_cert_verifier(Arc::new(NoClientAuth)),
        ClientCertificate::Optional => builder.with_client_cert_verifier(possession(Demand::Optional)),
        ClientCertificate::Required => builder.with_client_cert_verifier(possession(Demand::Required)),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(settings.certificate.clone())));

    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.max_early_data_size = 0;
    // rustls would resume by default, and a resumed session never comes to the verifier (TLS-res-a).
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    if settings.resumption == Resumption::StatelessTicket {
        config.ticketer = Ticketer::new()?;
        config.send_tls13_tickets = 1;
    }
    Ok(Arc::new(config))
}

fn provider(suites: Suites) -> CryptoProvider {
    let provider = aws_lc_rs::default_provider();
    let cipher_suites = match suites {
        Suites::Default => provider.cipher_suites.clone(),
        Suites::Fapi => FAPI_SUITES.to_vec(),
    };
    CryptoProvider { cipher_suites, kx_groups: KEY_EXCHANGE_GROUPS.to_vec(), ..provider }
}

fn versions(min: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    static ALL: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
    match min {
        TlsVersion::Tls12 => &ALL,
        TlsVersion::Tls13 => &ALL[..1],
    }
}

/// What the finished handshake came to.
pub(super) fn info(session: &ServerConnection) -> TlsInfo {
    TlsInfo {
        version: match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => TlsVersion::Tls13,
            _ => TlsVersion::Tls12,
        },
        group: session.negotiated_key_exchange_group().and_then(|group| group.name().as_str()),
        suite: session.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()),
        alpn: match session.alpn_protocol() {
            Some(b"h2") => Alpn::Http2,
            _ => Alpn::Http1,
        },
        resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
        sni: session.server_name().map(Into::into),
    }
}

/// The certificate that the client proved to have the key of.
pub(super) fn peer_certificate(session: &ServerConnection) -> Option<Arc<PeerCert>> {
    let chain = session.peer_certificates()?.to_vec();
    PeerCert::from_chain(chain).map(Arc::new)
}

/// Why the handshake failed, from what tokio-rustls says.
pub(super) fn fault(error: &io::Error) -> HandshakeFault {
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return HandshakeFault::PeerClosed;
    };
    match error {
        Error::AlertReceived(AlertDescription::CloseNotify) => HandshakeFault::PeerClosed,
        Error::AlertReceived(_) => HandshakeFault::PeerAlert,
        Error::InvalidCertificate(rustls::CertificateError::BadSignature) => HandshakeFault::PossessionNotProved,
        Error::InvalidCertificate(_) => HandshakeFault::CertificateBad,
        Error::NoCertificatesPresented => HandshakeFault::CertificateMissing,
        Error::NoApplicationProtocol => HandshakeFault::Incompatible,
        Error::PeerIncompatible(_) => HandshakeFault::Incompatible,
        _ => HandshakeFault::Protocol,
    }
}
