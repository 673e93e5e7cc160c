//! The server certificate of a listener: followed in its files, and exchanged together with its key.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use certbind_proto::cert::Certificate;
use certbind_proto::time::Timestamp;
use rustls::sign::CertifiedKey;

use super::settings;
use crate::cli::report::{self, Reporter};
use crate::config::{
    AdminListener, AdminTls, Config, Environment, Fault, Files, Identity, IdentitySource, MtlsListener, MutualFiles,
    ProxyFiles, ProxyListener, ProxyTls, PublicListener,
};
use crate::metrics::Metrics;
use crate::net::tls;
use crate::registry::Identity as FileIdentity;

/// Certificate and key are replaced one after the other: how long they may not fit together before somebody is told.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long whoever asks for a decision may have to wait: [`PATIENCE`] and a look after it.
pub(super) const DECISION: Duration = Duration::from_millis(2500);

/// How long to wait for a file that is on its way before another look.
const PAUSE: Duration = Duration::from_millis(50);

/// Where a listener finds its certificate, and what else its handshakes go by.
pub(in crate::cli) struct Source {
    /// Its name in logs and metrics.
    pub(in crate::cli) listener: &'static str,
    /// The table of the configuration: `listen.mtls`.
    pub(in crate::cli) table: &'static str,
    /// The host that clients call it by, if somebody said so.
    pub(in crate::cli) host: Option<String>,
    /// The files.
    pub(in crate::cli) files: IdentitySource,
    /// The rest; its certificate is the one in force.
    pub(in crate::cli) tls: tls::Settings,
}

/// A listener's certificate that follows its files.
pub(in crate::cli) struct ServerCertificate {
    environment: Environment,
    acceptor: Arc<tls::Acceptor>,
    state: Mutex<State>,
}

struct State {
    source: Source,
    /// What the files were when the pair in force was read.
    seen: Option<Pair>,
    refused: Option<Refused>,
}

/// The identities of certificate and key; none where it is no file, or where it is gone.
type Pair = [Option<FileIdentity>; 2];

/// A pair that must not be used. It is read at every look, as time alone may make it good.
struct Refused {
    pair: Pair,
    since: Instant,
    /// What was told, once it was.
    told: Option<String>,
}

/// Whether a pair that changed was taken or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It was, or none has changed.
    Made,
    /// A file of it may still be on its way.
    Open,
}

/// What a look came to.
#[derive(Debug)]
pub(super) enum Found {
    /// Nothing new.
    Nothing,
    /// A pair that is not yet, or may be half of what it will be.
    Undecided,
    /// This pair is in force from now on.
    Taken(Box<Identity>),
    /// There is a pair that must not be used; the old one stays.
    Refused(Unusable),
}

/// Why a pair must not be used.
#[derive(Debug)]
pub(super) enum Unusable {
    /// Everything that is wrong with the files, each with the key of the configuration that it is about.
    Files(Vec<(String, Fault)>),
    /// TLS cannot be spoken with it.
    Tls(rustls::Error),
}

impl ServerCertificate {
    /// Handshakes with the certificate that `source` holds already.
    ///
    /// # Errors
    /// When the certificate cannot be used.
    pub(in crate::cli) fn new(source: Source, environment: Environment) -> Result<Self, rustls::Error> {
        let acceptor = Arc::new(tls::Acceptor::new(&source.tls)?);
        Ok(Self { environment, acceptor, state: Mutex::new(State { source, seen: None, refused: None }) })
    }

    /// What the listener's handshakes go by, now and later.
    pub(in crate::cli) fn acceptor(&self) -> Arc<tls::Acceptor> {
        Arc::clone(&self.acceptor)
    }

    /// The certificate that handshakes are made with now.
    fn in_force(&self) -> Option<(&'static str, Certificate)> {
        let source = &self.state().source;
        Some((source.listener, Certificate::parse(source.tls.certificate.cert.first()?).ok()?))
    }

    /// Looks at the files, takes a pair that is new and good, and tells what came of it.
    fn follow(&self, reporter: &Reporter) -> Decision {
        let found = self.look(reporter.now(), Instant::now());
        let source = &self.state().source;
        let files = source.files_in_words();
        match found {
            Found::Nothing => {}
            Found::Undecided => return Decision::Open,
            Found::Taken(identity) => {
                reporter.metrics.server_certificate_expiry(source.listener, report::seconds(identity.not_after()));
                reporter.taken_over(&files, "");
                for concern in identity.concerns(source.host.as_deref(), reporter.now()) {
                    tracing::warn!("{files}: {concern}");
                }
            }
            Found::Refused(why) => reporter.refused(&files, &why),
        }
        Decision::Made
    }

    /// The same for a program that has nothing but its log to tell it in.
    pub(in crate::cli) fn follow_in_the_log(&self, now: Timestamp) {
        match self.look(now, Instant::now()) {
            Found::Nothing | Found::Undecided => {}
            Found::Taken(identity) => tracing::info!(not_after = %identity.not_after(), "listen.cert: taken over"),
            Found::Refused(why) => tracing::error!("listen.cert: {why}; the old pair stays in force"),
        }
    }

    /// The same without a word. Waits on the disk, so not for an async task.
    fn look(&self, now: Timestamp, at: Instant) -> Found {
        let mut state = self.state();
        let pair = state.source.pair(&self.environment);
        if state.seen == Some(pair) && state.refused.is_none() {
            return Found::Nothing;
        }
        let outcome = state.source.files.load(state.source.table, &self.environment, now);
        if state.source.pair(&self.environment) != pair {
            // It changed while it was read; the next look sees it whole.
            return Found::Undecided;
        }
        let outcome = outcome.map_err(Unusable::Files).and_then(|identity| {
            let is_new = identity.chain != state.source.tls.certificate.cert;
            self.exchange(&mut state.source.tls, &identity).map_err(Unusable::Tls)?;
            Ok((identity, is_new))
        });
        match outcome {
            Err(why) => state.refuse(pair, why, at),
            Ok((identity, is_new)) => {
                state.seen = Some(pair);
                let was_told = state.refused.take().is_some_and(|refused| refused.told.is_some());
                if is_new || was_told { Found::Taken(Box::new(identity)) } else { Found::Nothing }
            }
        }
    }

    /// Why the pair that is there now is not the one in force.
    fn refusal(&self) -> Option<(String, String)> {
        let state = self.state();
        let why = state.refused.as_ref()?.told.clone()?;
        Some((state.source.files_in_words(), why))
    }

    fn exchange(&self, in_force: &mut tls::Settings, identity: &Identity) -> Result<(), rustls::Error> {
        if identity.chain != in_force.certificate.cert {
            let certificate = certified(identity)?;
            let settings = tls::Settings { certificate, ..in_force.clone() };
            self.acceptor.replace(&settings)?;
            *in_force = settings;
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    fn files_in_words(&self) -> String {
        format!("server certificate of `{}`", self.table)
    }

    fn pair(&self, environment: &Environment) -> Pair {
        let IdentitySource { certificate, key } = &self.files;
        [certificate, key].map(|reference| reference.file(environment).and_then(|path| FileIdentity::at(&path)))
    }
}

impl State {
    /// Says so once for each bad pair, and only when it stays.
    fn refuse(&mut self, pair: Pair, why: Unusable, at: Instant) -> Found {
        let refused = self.refused.get_or_insert(Refused { pair, since: at, told: None });
        if refused.told.is_some() && refused.pair != pair {
            *refused = Refused { pair, since: at, told: None };
        }
        refused.pair = pair;
        if refused.told.is_some() {
            return Found::Nothing;
        }
        if at.duration_since(refused.since) < PATIENCE {
            return Found::Undecided;
        }
        refused.told = Some(why.to_string());
        Found::Refused(why)
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(faults) => {
                let faults: Vec<_> = faults.iter().map(|(key, fault)| format!("{key}: {fault}")).collect();
                f.write_str(&faults.join("; "))
            }
            Self::Tls(error) => write!(f, "TLS cannot use it: {error}"),
        }
    }
}

pub(in crate::cli) fn certified(identity: &Identity) -> Result<CertifiedKey, rustls::Error> {
    tls::certified_key(identity.chain.clone(), identity.key.clone_key())
}

/// The certificates of all listeners that speak TLS.
pub(super) struct Certificates {
    mtls: Option<ServerCertificate>,
    public: Option<ServerCertificate>,
    admin: Option<ServerCertificate>,
    proxy: Option<ServerCertificate>,
}

/// What the handshakes of each listener go by.
pub(super) struct Acceptors {
    pub(super) mtls: Option<Arc<tls::Acceptor>>,
    pub(super) public: Option<Arc<tls::Acceptor>>,
    pub(super) admin: Option<Arc<tls::Acceptor>>,
    pub(super) proxy: Option<Arc<tls::Acceptor>>,
}

impl Certificates {
    /// With the pairs that were read with the configuration.
    ///
    /// # Errors
    /// When TLS cannot be spoken with one of them.
    pub(super) fn new(
        config: &Config,
        files: &Files,
        environment: &Environment,
        metrics: &Metrics,
    ) -> Result<Self, rustls::Error> {
        let new = |source: Source, identity: &Identity| {
            metrics.server_certificate_expiry(source.listener, report::seconds(identity.not_after()));
            ServerCertificate::new(source, environment.clone())
        };
        let mtls = match (&config.mtls, &files.mtls) {
            (Some(own), Some(identity)) => Some(new(of_mtls(config, own, identity)?, identity)?),
            _ => None,
        };
        let public = match (&config.public, &files.public) {
            (Some(own), Some(identity)) => Some(new(of_public(config, own, identity)?, identity)?),
            _ => None,
        };
        let admin = match (&config.admin, &files.admin) {
            (Some(AdminListener::Tls(own)), Some(MutualFiles { identity, .. })) => {
                Some(new(of_admin(config, own, identity)?, identity)?)
            }
            _ => None,
        };
        let proxy = match (config.proxy.as_ref().map(|proxy| &proxy.listen), &files.proxy) {
            (Some(ProxyListener::Tls(own)), Some(ProxyFiles::Tls(files))) => {
                Some(new(of_proxy(config, own, &files.identity)?, &files.identity)?)
            }
            _ => None,
        };
        Ok(Self { mtls, public, admin, proxy })
    }

    pub(super) fn acceptors(&self) -> Acceptors {
        let acceptor = |certificate: &Option<ServerCertificate>| certificate.as_ref().map(ServerCertificate::acceptor);
        Acceptors {
            mtls: acceptor(&self.mtls),
            public: acceptor(&self.public),
            admin: acceptor(&self.admin),
            proxy: acceptor(&self.proxy),
        }
    }

    /// Those in force, by the names of their listeners.
    pub(super) fn in_force(&self) -> Vec<(&'static str, Certificate)> {
        self.all().filter_map(ServerCertificate::in_force).collect()
    }

    /// Takes what is new and good, and tells what came of it.
    pub(super) fn follow(&self, reporter: &Reporter) -> Decision {
        let open = self.all().filter(|certificate| certificate.follow(reporter) == Decision::Open);
        if open.count() == 0 { Decision::Made } else { Decision::Open }
    }

    /// The same until every pair that changed is taken or refused, or so long. Whoever has renewed one wants to know which.
    pub(super) fn decide(&self, reporter: &Reporter, patience: Duration) {
        let until = Instant::now() + patience;
        while self.follow(reporter) == Decision::Open && Instant::now() < until {
            std::thread::sleep(PAUSE);
        }
    }

    /// The pairs that stay out, and why.
    pub(super) fn refusals(&self) -> Vec<(String, String)> {
        self.all().filter_map(ServerCertificate::refusal).collect()
    }

    fn all(&self) -> impl Iterator<Item = &ServerCertificate> {
        self.mtls.iter().chain(&self.public).chain(&self.admin).chain(&self.proxy)
    }
}

fn of_mtls(config: &Config, own: &MtlsListener, identity: &Identity) -> Result<Source, rustls::Error> {
    Ok(Source {
        listener: "mtls",
        table: "listen.mtls",
        host: Some(own.public_url.host().to_owned()),
        files: own.identity.clone(),
        tls: settings::mtls(config, own, certified(identity)?),
    })
}

fn of_public(config: &Config, own: &PublicListener, identity: &Identity) -> Result<Source, rustls::Error> {
    Ok(Source {
        listener: "public",
        table: "listen.public",
        host: Some(own.public_url.host().to_owned()),
        files: own.identity.clone(),
        tls: settings::public(config, own, certified(identity)?),
    })
}

/// Nothing says by which name proxies call it.
fn of_proxy(config: &Config, own: &ProxyTls, identity: &Identity) -> Result<Source, rustls::Error> {
    Ok(Source {
        listener: "proxy",
        table: "listen.proxy",
        host: None,
        files: own.identity.clone(),
        tls: settings::mutual(config, certified(identity)?),
    })
}

/// Nothing says by which name administrators call it.
fn of_admin(config: &Config, own: &AdminTls, identity: &Identity) -> Result<Source, rustls::Error> {
    Ok(Source {
        listener: "admin",
        table: "listen.admin",
        host: None,
        files: own.identity.clone(),
        tls: settings::mutual(config, certified(identity)?),
    })
}

#[cfg(test)]
mod tests;
