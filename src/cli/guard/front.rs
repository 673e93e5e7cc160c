//! Where proxies come in: a Unix socket whose users are known, or mutual TLS with names that are.

use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwapOption;
use certbind_proto::time::{Clock as _, SystemClock};
use tokio::sync::watch;

use crate::authn::trust::Refreshed;
use crate::cli::serve::certificate::{ServerCertificate, Source, certified};
use crate::cli::serve::socket::Socket;
use crate::cli::{proxies, trust_files};
use crate::config::{Environment, GuardConfig, GuardMode, MutualFiles, ProxyFiles, ProxyListener, ProxyTls};
use crate::net::{self, Listener, Others, Service, SocketFile, Transport, tls};
use crate::proxy::Caller;

/// What proxies meet.
pub(super) struct Front {
    pub(super) entrance: Entrance,
    pub(super) caller: Caller,
    pub(super) transport: Transport,
    /// Looks at the files that it works with.
    pub(super) look: Box<dyn FnMut() + Send>,
}

/// Where proxies come in.
pub(super) struct Entrance {
    pub(super) listener: Listener,
    /// Where it is, if it is a Unix socket, and the file of it that was made last.
    socket: Option<Socket>,
    pub(super) found: Arc<ArcSwapOption<SocketFile>>,
}

impl Entrance {
    fn new(listener: Listener, socket: Option<Socket>) -> Self {
        let found = Arc::new(ArcSwapOption::from_pointee(listener.file().cloned()));
        Self { listener, socket, found }
    }

    /// A socket whose file somebody removed is made again.
    pub(super) async fn serve<S: Service + Clone>(self, settings: net::Settings, door: S, stop: watch::Receiver<bool>) {
        let Some(socket) = self.socket else {
            return self.listener.serve(settings, Arc::new(door), stop).await;
        };
        let found = self.found;
        let door = move |listener: &Listener| {
            found.store(listener.file().cloned().map(Arc::new));
            door.clone()
        };
        socket.serve(Some(self.listener), settings, door, stop).await;
    }
}

/// What the configuration says of it.
///
/// # Errors
/// When there is no socket, or somebody who vouches for proxies cannot be used.
pub(super) fn front(config: &GuardConfig, files: ProxyFiles, environment: &Environment) -> anyhow::Result<Front> {
    match (&config.listen, files) {
        (ProxyListener::Tls(own), ProxyFiles::Tls(files)) => over_tls(own, *files, environment),
        (ProxyListener::Tls(_), ProxyFiles::Users(_)) => anyhow::bail!("the guard has no certificate"),
        (ProxyListener::Unix { .. }, ProxyFiles::Tls(_)) => anyhow::bail!("the guard does not know who may ask"),
        (ProxyListener::Unix { path, .. }, ProxyFiles::Users(users)) => {
            let socket = Socket { key: "listen.address", path: path.clone(), others: Others::LetIn, users };
            let listener = socket.bind().context("the guard has no socket")?;
            let caller = proxies::users(&listener);
            let transport = if config.mode == GuardMode::ExtAuthz { Transport::PlainHttp2 } else { Transport::Plain };
            Ok(Front { entrance: Entrance::new(listener, Some(socket)), caller, transport, look: Box::new(|| {}) })
        }
    }
}

/// Certificate, key, anchors and lists are followed in their files.
fn over_tls(
    own: &ProxyTls,
    MutualFiles { identity, trust: files }: MutualFiles,
    environment: &Environment,
) -> anyhow::Result<Front> {
    let trust = trust_files::of_proxies("[listen]", &own.trust, files, environment, SystemClock.now())?;
    let source = Source {
        listener: "guard",
        table: "listen",
        host: None,
        files: own.identity.clone(),
        tls: proxies::mutual(certified(&identity)?, tls::TlsVersion::Tls12, tls::Suites::Default),
    };
    let certificate = ServerCertificate::new(source, environment.clone())?;
    let transport = Transport::Tls(certificate.acceptor());
    let followed_trust = Arc::clone(&trust);
    let look = Box::new(move || {
        certificate.follow_in_the_log(SystemClock.now());
        match followed_trust.refresh(SystemClock.now()) {
            Ok(Refreshed::Changed) => tracing::info!("listen.ca: taken over"),
            Ok(Refreshed::Unchanged) => {}
            Err(fault) => tracing::error!("listen.ca: {fault}; the old state stays in force"),
        }
    });
    let listener = Listener::bind(own.address).with_context(|| format!("cannot listen at {}", own.address))?;
    let caller = proxies::named(own, trust);
    Ok(Front { entrance: Entrance::new(listener, None), caller, transport, look })
}
